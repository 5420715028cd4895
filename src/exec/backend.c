/* backend.c - the list of devices that this build can use. */
#include "exec/backend.h"
#include "base/log.h"
#include "exec/cuda_libs.h"
#include "exec/internal.h"
#include "kernels/cuda/api.h"
#include "kernels/cuda/tables.h"
#include "ops/attrs.h"

#include <stdlib.h>
#include <string.h>

static status open_cpu(const backend_options *o, int index, backend **out)
{
    if (index != 0)
        return fail(ST_UNAVAILABLE, "device cpu:%d: there is one CPU; the number of threads is exec.threads", index);
    return cpu_open(o, out);
}

#define LIST(name, variant)    cuda_##name##_##variant,
#define DECLARE(name, variant) extern const kernel_row cuda_##name##_##variant[];

static status open_cuda(const backend_options *o, int index, backend **out)
{
#ifdef DISTILL_CUDA
#define DECLARE_DEVICE(name) DECLARE(name, device)
#define LIST_DEVICE(name)    LIST(name, device)
    CUDA_TABLES(DECLARE_DEVICE)
    static const kernel_row *const tables[] = {CUDA_TABLES(LIST_DEVICE) NULL};
    return cuda_open(&cuda_device_api, tables, cuda_libs_open, o, index, out);
#else
    (void)o;
    (void)index;
    (void)out;
    return fail(ST_UNAVAILABLE, "cuda: this program was built without CUDA; install the CUDA toolkit (nvcc) and build again, or take "
                "--device cpu");
#endif
}

static status open_auto(const backend_options *o, backend **out)
{
    if (open_cuda(o, 0, out) == ST_OK)
        return ST_OK;
#ifdef DISTILL_CUDA
    if (cuda_has_driver(&cuda_device_api))
        log_warn("going on with the CPU: %s", status_message());
#endif
    return cpu_open(o, out);
}

void backend_survey(backend_teller tell, void *ctx)
{
#ifdef DISTILL_CUDA
    cuda_survey(&cuda_device_api, tell, ctx);
#else
    tell(ctx, "GPU", true, "none: this program was built without CUDA (nvcc was not found); jobs run on the CPU");
#endif
}

#ifdef DISTILL_EMULATOR /* test builds */
static status open_emulator(open_libs_fn *libs, const backend_options *o, int index, backend **out)
{
    extern const cuda_api emulator_api;
#define DECLARE_EMULATED(name) DECLARE(name, emulated)
#define LIST_EMULATED(name)    LIST(name, emulated)
    CUDA_TABLES(DECLARE_EMULATED)
    static const kernel_row *const tables[] = {CUDA_TABLES(LIST_EMULATED) NULL};
    TRY(cuda_open(&emulator_api, tables, libs, o, index, out));
    (*out)->untimed = true;
    return ST_OK;
}

static status open_emulated(const backend_options *o, int index, backend **out)
{
    return open_emulator(NULL, o, index, out);
}

/* With twins of cuBLASLt and cuDNN. */
static status give_fakes(cuda_libs **out)
{
    extern const blas_api fake_blas_api;
    extern const dnn_api fake_dnn_api;
    return cuda_libs_given(&fake_blas_api, &fake_dnn_api, out);
}
static status open_emulated_libs(const backend_options *o, int index, backend **out)
{
    return open_emulator(give_fakes, o, index, out);
}
#endif

static const struct {
    const char *name;
    status (*open)(const backend_options *o, int index, backend **out);
} backends[] = {
    {"cpu", open_cpu},
    {"cuda", open_cuda},
#ifdef DISTILL_EMULATOR
    {"emulated", open_emulated},
    {"emulated-libs", open_emulated_libs},
#endif
};

status backend_open(const char *device, const backend_options *o, backend **out)
{
    size_t name = strcspn(device, ":");
    char *end = (char *)(uintptr_t)(device + name);
    long index = device[name] ? strtol(device + name + 1, &end, 10) : 0;
    if (strcmp(device, "auto") == 0)
        return open_auto(o, out);
    if (device[name] && (end == device + name + 1 || *end || index < 0 || index > 1023))
        return fail(ST_USAGE, "device '%s': the number after ':' is one of 0, 1, ...", device);
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strlen(backends[i].name) == name && strncmp(device, backends[i].name, name) == 0)
            return backends[i].open(o, (int)index, out);
    return fail(ST_UNAVAILABLE, "device '%s' is unknown; --device takes auto, cpu, cuda or cuda:N", device);
}

void backend_close(backend *b)
{
    if (b)
        b->close(b);
}

status backend_narrow(backend *b, dtype t)
{
    if (b->set_narrow)
        return b->set_narrow(b, t);
    return t == DTYPE_NONE ? ST_OK
                           : fail(ST_UNAVAILABLE, "%s does not compute in %s; CUDA does", b->name, dtype_of(t)->name);
}

bool backend_has_fp8(const backend *b)
{
    return b->queue && b->queue->level >= 89;
}

bool backend_has_bf16(const backend *b)
{
    const linear_attrs at = {.alpha = 1, .precision = PRECISION_BF16};
    kernel_tensor in[2] = {{.type = DTYPE_F32, .sh = SHAPE(64, 64)}, {.type = DTYPE_F32, .sh = SHAPE(64, 64)}}, out = in[0];
    const kernel_args a = {.in = in, .out = &out, .n_in = 2, .n_out = 1, .attr = &at, .threads = 1};
    const kernel_row *row = b->find(b, OP_LINEAR, &a);
    return row && (b->queue ? b->queue->level >= 80 : row->level != ISA_REF);
}
