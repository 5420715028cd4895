/* runner_openvino.c - OpenVINO's CPU plugin by its C interface, opened from the wheel that tools/setup-runtimes brings.
 *
 * Shapes are made static before compiling: its kernels for known shapes are the ones that ship. Float files compute in float32: on some
 * processors the plugin would take bfloat16 by itself. Declared here is only what is called; the interface keeps its signatures
 * (openvino/c/ of the wheel). */
#include "base/io.h"
#include "matrix/runner.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct ov_dim {
    int64_t min, max;
} ov_dim;
typedef struct ov_partial {
    ov_dim rank, *dims;
} ov_partial;
typedef struct ov_shape {
    int64_t rank, *dims;
} ov_shape;
typedef struct ov_version {
    const char *build, *description;
} ov_version;
enum { OV_F16 = 3, OV_F32 = 4, OV_F64 = 5, OV_I8 = 7, OV_I32 = 9, OV_I64 = 10, OV_U8 = 16 };

/* X(name without ov_, result, parameters) */
#define OV_FUNCTIONS(X)                                                                                                          \
    X(get_openvino_version, int, (ov_version *))                                                                                 \
    X(get_last_err_msg, const char *, (void))                                                                                    \
    X(free, void, (const char *))                                                                                                \
    X(core_create, int, (void **))                                                                                               \
    X(core_free, void, (void *))                                                                                                 \
    X(core_read_model, int, (const void *, const char *, const char *, void **))                                                 \
    X(core_compile_model, int, (const void *, const void *, const char *, size_t, void **, ...))                                 \
    X(model_free, void, (void *))                                                                                                \
    X(model_inputs_size, int, (const void *, size_t *))                                                                          \
    X(model_outputs_size, int, (const void *, size_t *))                                                                         \
    X(model_const_input_by_index, int, (const void *, size_t, void **))                                                          \
    X(model_const_output_by_index, int, (const void *, size_t, void **))                                                         \
    X(model_reshape_by_port_indexes, int, (const void *, const size_t *, const ov_partial *, size_t))                            \
    X(output_const_port_free, void, (void *))                                                                                    \
    X(port_get_any_name, int, (const void *, char **))                                                                           \
    X(port_get_partial_shape, int, (const void *, ov_partial *))                                                                 \
    X(port_get_element_type, int, (const void *, int *))                                                                         \
    X(partial_shape_free, void, (ov_partial *))                                                                                  \
    X(compiled_model_create_infer_request, int, (const void *, void **))                                                         \
    X(compiled_model_free, void, (void *))                                                                                       \
    X(infer_request_set_input_tensor_by_index, int, (void *, size_t, const void *))                                              \
    X(infer_request_get_output_tensor_by_index, int, (const void *, size_t, void **))                                            \
    X(infer_request_infer, int, (void *))                                                                                        \
    X(infer_request_free, void, (void *))                                                                                        \
    X(tensor_create_from_host_ptr, int, (int, ov_shape, void *, void **))                                                        \
    X(tensor_get_shape, int, (const void *, ov_shape *))                                                                         \
    X(tensor_get_element_type, int, (const void *, int *))                                                                       \
    X(tensor_data, int, (const void *, void **))                                                                                 \
    X(tensor_free, void, (void *))                                                                                               \
    X(shape_free, int, (ov_shape *))

#define OV_POINTER(name, result, parameters) result(*name) parameters;
typedef struct ov_lib {
    OV_FUNCTIONS(OV_POINTER)
    void *handle, *core;
} ov_lib;
#undef OV_POINTER

typedef struct ov_net {
    ov_lib *lib;
    void *model, *compiled, *request, *given[RUNNER_INPUTS], *result;
    size_t output;
} ov_net;

static status check(const ov_lib *lib, int code, const char *what)
{
    const char *said;
    if (code == 0)
        return ST_OK;
    said = lib->get_last_err_msg();
    status st = fail(ST_BAD_DATA, "%s: OpenVINO: %.1000s", what, said && *said ? said : code == -2 ? "not implemented" : "no reason given");
    lib->free(said);
    return st;
}

/* ---- the library ---- */

static status find_file(const char *dir, const char *prefix, arena *mem, const char **out)
{
    char **names;
    size_t n;
    status st = ST_OK;
    *out = NULL;
    if (!io_is_dir(dir))
        return ST_OK;
    TRY(io_list(dir, 10000, &names, &n));
    for (size_t i = 0; i < n && st == ST_OK; i++)
        if (strncmp(names[i], prefix, strlen(prefix)) == 0)
            st = arena_printf(mem, out, "%s/%s", dir, names[i]);
    io_list_free(names, n);
    return st;
}

#define HOW "tools/setup-runtimes openvino brings it"

static status bind(ov_lib *lib, const char *path)
{
    void *symbol;
    lib->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!lib->handle)
        return fail(ST_UNAVAILABLE, "OpenVINO cannot be opened: %s; " HOW, dlerror());
#define OV_BIND(name, result, parameters)                                                                                        \
    symbol = dlsym(lib->handle, "ov_" #name);                                                                                    \
    if (!symbol)                                                                                                                 \
        return fail(ST_UNAVAILABLE, "%s has no ov_" #name "; " HOW, path);                                                       \
    memcpy(&lib->name, &symbol, sizeof symbol); /* POSIX: an object pointer from dlsym may hold a function */
    OV_FUNCTIONS(OV_BIND)
#undef OV_BIND
    return check(lib, lib->core_create(&lib->core), path);
}

static void close_lib(void *opened)
{
    ov_lib *lib = opened;
    if (lib->core)
        lib->core_free(lib->core);
    if (lib->handle)
        (void)dlclose(lib->handle);
    mem_free(lib);
}

/* "2026.4.1-22222-..." to "2026.4.1"; the build is the plugin's file, which holds the kernels. */
static status say_version(const ov_lib *lib, const char *dir, runner_facts *f)
{
    ov_version v = {0};
    const char *plugin;
    TRY(check(lib, lib->get_openvino_version(&v), "ov_get_openvino_version"));
    TRY(arena_printf(&f->mem, &f->version, "%.*s", (int)strcspn(v.build ? v.build : "?", "-"), v.build ? v.build : "?"));
    TRY(find_file(dir, "libopenvino_intel_cpu_plugin.so", &f->mem, &plugin));
    if (plugin)
        return runner_file_build(plugin, &f->mem, &f->build);
    return arena_strdup(&f->mem, &f->build, v.build ? v.build : "?");
}

static status open_lib(const runner_request *r, runner_facts *f, void **out)
{
    const char *root = getenv("DISTILL_RUNTIMES"), *dir, *path;
    ov_lib *lib;
    (void)r;
    TRY(arena_printf(&f->mem, &dir, "%s/openvino/openvino/libs", root && *root ? root : "build/runtimes"));
    TRY(find_file(dir, "libopenvino_c.so", &f->mem, &path));
    if (!path)
        return fail(ST_UNAVAILABLE, "there is no libopenvino_c.so in %s; " HOW, dir);
    TRY(mem_alloc(&lib, 1, sizeof *lib));
    status st = bind(lib, path);
    f->runtime = "OpenVINO";
    f->provider = "CPU";
    if (st == ST_OK)
        st = say_version(lib, dir, f);
    if (st == ST_OK)
        *out = lib;
    else
        close_lib(lib);
    return st;
}

/* ---- a model ---- */

static dtype type_of(int type)
{
    switch (type) {
    case OV_F16: return DTYPE_F16;
    case OV_F32: return DTYPE_F32;
    case OV_F64: return DTYPE_F64;
    case OV_I8: return DTYPE_I8;
    case OV_I32: return DTYPE_I32;
    case OV_I64: return DTYPE_I64;
    case OV_U8: return DTYPE_U8;
    default: return DTYPE_NONE;
    }
}

static int code_of(dtype type)
{
    static const int codes[] = {OV_F16, OV_F32, OV_F64, OV_I8, OV_I32, OV_I64, OV_U8};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (type_of(codes[i]) == type)
            return codes[i];
    return 0;
}

static void unload(runner_net *net)
{
    ov_net *o = net->ctx;
    ov_lib *lib = o->lib;
    for (size_t i = 0; i < RUNNER_INPUTS; i++) {
        if (o->given[i])
            lib->tensor_free(o->given[i]);
        tensor_free(&net->in[i]);
    }
    if (o->result)
        lib->tensor_free(o->result);
    if (o->request)
        lib->infer_request_free(o->request);
    if (o->compiled)
        lib->compiled_model_free(o->compiled);
    if (o->model)
        lib->model_free(o->model);
    mem_free(o);
}

/* Name, type and shape of input i; dimension 0 becomes the batch where it is open. */
static status read_input(ov_net *o, size_t i, const char *model, size_t batch, runner_net *net, ov_partial *fixed, ov_dim *dims)
{
    ov_lib *lib = o->lib;
    void *port = NULL;
    char *name = NULL;
    ov_partial p = {0};
    int type = 0;
    shape sh = {0};
    status st = ST_OK;
    TRY(check(lib, lib->model_const_input_by_index(o->model, i, &port), model));
    TRY_DONE(check(lib, lib->port_get_any_name(port, &name), model));
    TRY_DONE(check(lib, lib->port_get_partial_shape(port, &p), model));
    TRY_DONE(check(lib, lib->port_get_element_type(port, &type), model));
    if (p.rank.min != p.rank.max || p.rank.min < 1 || p.rank.min > RANK_MAX || type_of(type) == DTYPE_NONE) {
        st = fail(ST_BAD_DATA, "%s: input '%s' is not supported: its rank is open, or its type is unknown here", model, name);
        goto done;
    }
    sh.rank = (int32_t)p.rank.min;
    for (int d = 0; d < sh.rank; d++) {
        bool open = p.dims[d].min != p.dims[d].max;
        if (open && d > 0) {
            st = fail(ST_BAD_DATA, "%s: dimension %d of input '%s' is open, which is not supported", model, d, name);
            goto done;
        }
        sh.dim[d] = open ? (int64_t)batch : p.dims[d].min;
        dims[d] = (ov_dim){sh.dim[d], sh.dim[d]};
    }
    *fixed = (ov_partial){p.rank, dims};
    net->batch = sh.dim[0];
    st = tensor_new(&net->in[i], name, type_of(type), sh);
done:
    if (p.dims)
        lib->partial_shape_free(&p);
    lib->free(name);
    lib->output_const_port_free(port);
    return st;
}

static status fix_shapes(ov_net *o, const runner_request *r, size_t batch, runner_net *net)
{
    ov_partial fixed[RUNNER_INPUTS];
    ov_dim dims[RUNNER_INPUTS][RANK_MAX];
    size_t place[RUNNER_INPUTS], n = 0;
    TRY(check(o->lib, o->lib->model_inputs_size(o->model, &n), r->model));
    if (n < 1 || n > RUNNER_INPUTS)
        return fail(ST_BAD_DATA, "%s: a model with %zu inputs is not supported", r->model, n);
    for (size_t i = 0; i < n; i++) {
        TRY(read_input(o, i, r->model, batch, net, &fixed[i], dims[i]));
        net->n_in = i + 1;
        place[i] = i;
    }
    return check(o->lib, o->lib->model_reshape_by_port_indexes(o->model, place, fixed, n), r->model);
}

static status find_output(ov_net *o, const runner_request *r)
{
    size_t n = 0;
    TRY(check(o->lib, o->lib->model_outputs_size(o->model, &n), r->model));
    for (size_t i = 0; r->output_name && i < n; i++) {
        void *port = NULL;
        char *name = NULL;
        TRY(check(o->lib, o->lib->model_const_output_by_index(o->model, i, &port), r->model));
        bool same = o->lib->port_get_any_name(port, &name) == 0 && strcmp(name, r->output_name) == 0;
        o->lib->free(name);
        o->lib->output_const_port_free(port);
        if (same) {
            o->output = i;
            return ST_OK;
        }
    }
    return r->output_name ? fail(ST_BAD_DATA, "%s: there is no output '%s'", r->model, r->output_name) : ST_OK;
}

static status bind_inputs(ov_net *o, const runner_request *r, runner_net *net)
{
    for (size_t i = 0; i < net->n_in; i++) {
        const tensor *t = &net->in[i];
        int64_t dims[RANK_MAX];
        memcpy(dims, t->sh.dim, sizeof dims);
        const ov_shape sh = {t->sh.rank, dims};
        TRY(check(o->lib, o->lib->tensor_create_from_host_ptr(code_of(t->type), sh, t->data, &o->given[i]), r->model));
        TRY(check(o->lib, o->lib->infer_request_set_input_tensor_by_index(o->request, i, o->given[i]), r->model));
    }
    return ST_OK;
}

/* The output tensor stays where it is from run to run: shapes are static. */
static status look_at_output(ov_net *o, const runner_request *r, runner_net *net)
{
    ov_lib *lib = o->lib;
    ov_shape sh = {0};
    int type = 0;
    TRY(check(lib, lib->infer_request_infer(o->request), r->model));
    TRY(check(lib, lib->infer_request_get_output_tensor_by_index(o->request, o->output, &o->result), r->model));
    TRY(check(lib, lib->tensor_get_element_type(o->result, &type), r->model));
    TRY(check(lib, lib->tensor_get_shape(o->result, &sh), r->model));
    net->out = (tensor){.type = type_of(type), .sh = {.rank = (int32_t)sh.rank}};
    bool fits = sh.rank >= 0 && sh.rank <= RANK_MAX && net->out.type != DTYPE_NONE;
    for (int64_t d = 0; fits && d < sh.rank; d++)
        net->out.sh.dim[d] = sh.dims[d];
    (void)lib->shape_free(&sh);
    if (!fits)
        return fail(ST_BAD_DATA, "%s: its output is of a type that is not supported", r->model);
    return check(lib, lib->tensor_data(o->result, &net->out.data), r->model);
}

static status load(void *lib, const runner_request *r, size_t batch, runner_net *net)
{
    ov_net *o;
    char threads[16];
    status st = ST_OK;
    TRY(mem_alloc(&o, 1, sizeof *o));
    net->ctx = o;
    net->nodes = -1;
    o->lib = lib;
    snprintf(threads, sizeof threads, "%d", r->threads);
    TRY_DONE(check(o->lib, o->lib->core_read_model(o->lib->core, r->model, NULL, &o->model), r->model));
    TRY_DONE(fix_shapes(o, r, batch, net));
    TRY_DONE(find_output(o, r));
    TRY_DONE(check(o->lib,
                   o->lib->core_compile_model(o->lib->core, o->model, "CPU", 8, &o->compiled, "INFERENCE_PRECISION_HINT", "f32",
                                              "PERFORMANCE_HINT", "LATENCY", "NUM_STREAMS", "1", "INFERENCE_NUM_THREADS", threads),
                   r->model));
    TRY_DONE(check(o->lib, o->lib->compiled_model_create_infer_request(o->compiled, &o->request), r->model));
    TRY_DONE(bind_inputs(o, r, net));
    st = look_at_output(o, r, net);
done:
    if (st != ST_OK)
        unload(net);
    return st;
}

static status run(runner_net *net)
{
    ov_net *o = net->ctx;
    return check(o->lib, o->lib->infer_request_infer(o->request), "OpenVINO");
}

const runner_engine runner_openvino = {"openvino", open_lib, close_lib, load, run, unload};
