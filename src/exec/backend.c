/* backend.c - the list of devices that this build can use. */
#include "exec/backend.h"
#include "exec/internal.h"
#include "ops/attrs.h"

#include <string.h>

static const struct {
    const char *name;
    status (*open)(const backend_options *o, backend **out);
} backends[] = {
    {"cpu", cpu_open},
};

status backend_open(const char *device, const backend_options *o, backend **out)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strcmp(device, backends[i].name) == 0 || strcmp(device, "auto") == 0)
            return backends[i].open(o, out);
    return fail(ST_UNAVAILABLE, "device '%s' is not in this build; --device takes auto or cpu", device);
}

void backend_close(backend *b)
{
    if (b)
        b->close(b);
}

bool backend_has_bf16(const backend *b)
{
    const linear_attrs at = {.alpha = 1, .precision = PRECISION_BF16};
    kernel_tensor in[2] = {{.type = DTYPE_F32, .sh = SHAPE(64, 64)}, {.type = DTYPE_F32, .sh = SHAPE(64, 64)}}, out = in[0];
    const kernel_args a = {.in = in, .out = &out, .n_in = 2, .n_out = 1, .attr = &at, .threads = 1};
    const kernel_row *row = b->find(b, OP_LINEAR, &a);
    return row && row->level != ISA_REF;
}
