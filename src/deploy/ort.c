/* ort.c - ONNX Runtime's sessions, and running them. See ort.h.
 *
 * Ownership: an ort_lib holds the environment; a session its raw session and its ports; an ort_call its values. Names
 * given to Run are the ports' own, so that a run allocates nothing here. */
#include "deploy/ort.h"
#include "base/mem.h"
#include "deploy/ort_api.h"

#include <string.h>

struct ort_session {
    ort_lib *lib;
    char *name; /* for messages */
    ort_raw_session *raw;
    ort_port *in, *out;
    size_t n_in, n_out;
    const char **in_names, **out_names; /* borrowed from the ports */
};

struct ort_call {
    ort_session *session;
    ort_value **in, **out;
    const char **in_names, **out_names;
    size_t n_in, n_out;
};

static status read_shape(const ort_session *s, const char *port, const ort_tensor_info *info, dtype *type,
                         shape *sh)
{
    const ort_api *api = &s->lib->api;
    int onnx;
    size_t rank;
    TRY(ort_check(s->lib, api->GetTensorElementType(info, &onnx), ST_BAD_DATA, s->name));
    TRY(ort_check(s->lib, api->GetDimensionsCount(info, &rank), ST_BAD_DATA, s->name));
    *type = dtype_from_onnx(onnx);
    if (*type == DTYPE_NONE)
        return fail(ST_BAD_DATA, "%s: '%s' has ONNX element type %d, which is not supported", s->name, port,
                    onnx);
    if (rank > RANK_MAX)
        return fail(ST_BAD_DATA, "%s: '%s' has %zu dimensions; at most %d are supported", s->name, port, rank,
                    RANK_MAX);
    *sh = (shape){.rank = (int32_t)rank};
    return ort_check(s->lib, api->GetDimensions(info, sh->dim, rank), ST_BAD_DATA, s->name);
}

static status read_port(ort_session *s, bool input, size_t i, ort_port *port)
{
    const ort_api *api = &s->lib->api;
    ort_type_info *info = NULL;
    const ort_tensor_info *tensor_info = NULL;
    char *name = NULL;
    status st;
    TRY(ort_check(s->lib,
                  input ? api->SessionGetInputName(s->raw, i, s->lib->allocator, &name)
                        : api->SessionGetOutputName(s->raw, i, s->lib->allocator, &name),
                  ST_BAD_DATA, s->name));
    st = mem_strdup(&port->name, name);
    ort_status *freed = api->AllocatorFree(s->lib->allocator, name);
    if (freed)
        api->ReleaseStatus(freed);
    TRY(st);
    TRY(ort_check(s->lib,
                  input ? api->SessionGetInputTypeInfo(s->raw, i, &info)
                        : api->SessionGetOutputTypeInfo(s->raw, i, &info),
                  ST_BAD_DATA, s->name));
    TRY_DONE(ort_check(s->lib, api->CastTypeInfoToTensorInfo(info, &tensor_info), ST_BAD_DATA, s->name));
    if (!tensor_info) {
        st = fail(ST_BAD_DATA,
                  "%s: '%s' is not a tensor; sequences, maps and optional values are not supported", s->name,
                  port->name);
        goto done;
    }
    TRY_DONE(read_shape(s, port->name, tensor_info, &port->type, &port->sh));
done:
    api->ReleaseTypeInfo(info);
    return st;
}

static status read_ports(ort_session *s, bool input, ort_port **ports, const char ***names, size_t *n)
{
    const ort_api *api = &s->lib->api;
    size_t count;
    TRY(ort_check(s->lib,
                  input ? api->SessionGetInputCount(s->raw, &count)
                        : api->SessionGetOutputCount(s->raw, &count),
                  ST_BAD_DATA, s->name));
    TRY(mem_alloc(ports, count, sizeof **ports));
    *n = count;
    TRY(mem_alloc(names, count, sizeof **names));
    for (size_t i = 0; i < count; i++) {
        TRY(read_port(s, input, i, &(*ports)[i]));
        (*names)[i] = (*ports)[i].name;
    }
    return ST_OK;
}

static status set_options(const ort_session *s, ort_raw_options *raw, const ort_options *options)
{
    const ort_api *api = &s->lib->api;
    ort_options o = options ? *options : (ort_options){0};
    TRY(ort_check(s->lib, api->SetIntraOpNumThreads(raw, o.threads), ST_USAGE, s->name));
    TRY(ort_check(s->lib, api->SetInterOpNumThreads(raw, 1), ST_USAGE, s->name));
    if (o.precise)
        TRY(ort_check(s->lib, api->AddSessionConfigEntry(raw, "session.x64quantprecision", "1"), ST_USAGE, s->name));
    if (o.optimized)
        TRY(ort_check(s->lib, api->SetOptimizedModelFilePath(raw, o.optimized), ST_USAGE, s->name));
    int level = o.no_optimizing ? ORT_OPTIMIZE_NONE : o.basic ? ORT_OPTIMIZE_BASIC : ORT_OPTIMIZE_ALL;
    return ort_check(s->lib, api->SetSessionGraphOptimizationLevel(raw, level), ST_USAGE, s->name);
}

/* bytes NULL: `name` is the path. */
static status open_session(ort_lib *lib, const char *name, const void *bytes, size_t size,
                           const ort_options *options, ort_session **out)
{
    status st = ST_OK;
    ort_raw_options *raw = NULL;
    ort_session *s;
    *out = NULL;
    TRY(mem_alloc(&s, 1, sizeof *s));
    s->lib = lib;
    TRY_DONE(mem_strdup(&s->name, name));
    TRY_DONE(ort_check(lib, lib->api.CreateSessionOptions(&raw), ST_INTERNAL, name));
    TRY_DONE(set_options(s, raw, options));
    TRY_DONE(ort_check(lib,
                       bytes ? lib->api.CreateSessionFromArray(lib->env, bytes, size, raw, &s->raw)
                             : lib->api.CreateSession(lib->env, name, raw, &s->raw),
                       ST_BAD_DATA, name));
    TRY_DONE(read_ports(s, true, &s->in, &s->in_names, &s->n_in));
    TRY_DONE(read_ports(s, false, &s->out, &s->out_names, &s->n_out));
    *out = s;
done:
    if (raw)
        lib->api.ReleaseSessionOptions(raw);
    if (st != ST_OK)
        ort_session_close(s);
    return st;
}

status ort_session_open(ort_lib *lib, const char *model, const ort_options *options, ort_session **out)
{
    return open_session(lib, model, NULL, 0, options, out);
}

status ort_session_open_bytes(ort_lib *lib, const char *name, const void *model, size_t size,
                              const ort_options *options, ort_session **out)
{
    return open_session(lib, name, model, size, options, out);
}

static void free_ports(ort_port *ports, size_t n)
{
    for (size_t i = 0; ports && i < n; i++)
        mem_free(ports[i].name);
    mem_free(ports);
}

void ort_session_close(ort_session *s)
{
    if (!s)
        return;
    if (s->raw)
        s->lib->api.ReleaseSession(s->raw);
    free_ports(s->in, s->n_in);
    free_ports(s->out, s->n_out);
    mem_free(s->in_names);
    mem_free(s->out_names);
    mem_free(s->name);
    mem_free(s);
}

size_t ort_input_count(const ort_session *s)
{
    return s->n_in;
}

size_t ort_output_count(const ort_session *s)
{
    return s->n_out;
}

const ort_port *ort_input(const ort_session *s, size_t i)
{
    return &s->in[i];
}

const ort_port *ort_output(const ort_session *s, size_t i)
{
    return &s->out[i];
}

/* ---- running ---- */

/* A value over memory of ours: rows [first, first + rows) of the first axis, or the whole when rows is 0. */
static status wrap(const ort_session *s, const tensor *t, int64_t first, int64_t rows, ort_value **out)
{
    shape sh = t->sh;
    size_t bytes = tensor_bytes(t), offset = 0;
    if (rows) {
        size_t row = bytes / (size_t)sh.dim[0];
        offset = row * (size_t)first;
        bytes = row * (size_t)rows;
        sh.dim[0] = rows;
    }
    return ort_check(s->lib,
                     s->lib->api.CreateTensorWithDataAsOrtValue(s->lib->memory, (char *)t->data + offset,
                                                                bytes, sh.dim, (size_t)sh.rank,
                                                                dtype_of(t->type)->onnx, out),
                     ST_BAD_DATA, s->name);
}

/* Which port a tensor stands for: by its name, else by its place. */
static status match_port(const ort_session *s, const ort_port *ports, size_t n, const char *side,
                         const tensor *t, size_t place, size_t *port)
{
    for (size_t i = 0; t->name && i < n; i++)
        if (strcmp(ports[i].name, t->name) == 0) {
            *port = i;
            return ST_OK;
        }
    if (t->name)
        return fail(ST_BAD_DATA, "%s: the model has no %s '%s'; its first is '%s'", s->name, side, t->name,
                    n ? ports[0].name : "");
    if (place >= n)
        return fail(ST_BAD_DATA, "%s: %zu %ss were given; the model has %zu", s->name, place + 1, side, n);
    *port = place;
    return ST_OK;
}

/* What ONNX Runtime would refuse too, said in our words before anything runs. */
static status check_fit(const ort_session *s, const ort_port *port, const tensor *t)
{
    char want[200], got[200];
    if (t->type != port->type)
        return fail(ST_BAD_DATA, "%s: '%s' is %s; %s was given", s->name, port->name,
                    dtype_of(port->type)->name, dtype_of(t->type)->name);
    bool fits = t->sh.rank == port->sh.rank;
    for (int i = 0; fits && i < t->sh.rank; i++)
        fits = port->sh.dim[i] < 0 || port->sh.dim[i] == t->sh.dim[i];
    if (!fits)
        return fail(ST_BAD_DATA, "%s: '%s' has shape %s (-1: any); %s was given", s->name, port->name,
                    shape_print(&port->sh, want), shape_print(&t->sh, got));
    return ST_OK;
}

static status bind_side(ort_session *s, bool input, const tensor *t, size_t n, ort_value ***values,
                        const char ***names)
{
    const ort_port *ports = input ? s->in : s->out;
    size_t n_ports = input ? s->n_in : s->n_out;
    TRY(mem_alloc(values, n, sizeof **values));
    TRY(mem_alloc(names, n, sizeof **names));
    for (size_t i = 0; i < n; i++) {
        size_t port = 0;
        TRY(match_port(s, ports, n_ports, input ? "input" : "output", &t[i], i, &port));
        TRY(check_fit(s, &ports[port], &t[i]));
        for (size_t k = 0; k < i; k++)
            if ((*names)[k] == ports[port].name)
                return fail(ST_BAD_DATA, "%s: '%s' was given twice", s->name, ports[port].name);
        (*names)[i] = ports[port].name;
        TRY(wrap(s, &t[i], 0, 0, &(*values)[i]));
    }
    return ST_OK;
}

status ort_call_make(ort_session *s, const tensor *in, size_t n_in, const tensor *out, size_t n_out,
                     ort_call **call)
{
    status st = ST_OK;
    ort_call *c;
    *call = NULL;
    if (n_in != s->n_in)
        return fail(ST_BAD_DATA, "%s: %zu inputs were given; the model has %zu", s->name, n_in, s->n_in);
    TRY(mem_alloc(&c, 1, sizeof *c));
    c->session = s;
    c->n_in = n_in;
    c->n_out = n_out;
    TRY_DONE(bind_side(s, true, in, n_in, &c->in, &c->in_names));
    TRY_DONE(bind_side(s, false, out, n_out, &c->out, &c->out_names));
    *call = c;
done:
    if (st != ST_OK)
        ort_call_free(c);
    return st;
}

status ort_call_run(ort_call *c)
{
    ort_session *s = c->session;
    return ort_check(s->lib,
                     s->lib->api.Run(s->raw, NULL, c->in_names, (const ort_value *const *)c->in, c->n_in,
                                     c->out_names, c->n_out, c->out),
                     ST_BAD_DATA, s->name);
}

static void release_values(const ort_session *s, ort_value **values, size_t n)
{
    for (size_t i = 0; values && i < n; i++)
        if (values[i])
            s->lib->api.ReleaseValue(values[i]);
    mem_free(values);
}

void ort_call_free(ort_call *c)
{
    if (!c)
        return;
    release_values(c->session, c->in, c->n_in);
    release_values(c->session, c->out, c->n_out);
    mem_free(c->in_names);
    mem_free(c->out_names);
    mem_free(c);
}

/* A copy of what ONNX Runtime returned for output `port`. */
static status take_output(const ort_session *s, const ort_port *port, ort_value *value, tensor_list *out)
{
    const ort_api *api = &s->lib->api;
    ort_tensor_info *info = NULL;
    void *data = NULL;
    tensor t = {0};
    dtype type;
    shape sh;
    int is_tensor = 0;
    status st;
    TRY(ort_check(s->lib, api->IsTensor(value, &is_tensor), ST_BAD_DATA, s->name));
    if (!is_tensor)
        return fail(ST_BAD_DATA, "%s: output '%s' is not a tensor", s->name, port->name);
    TRY(ort_check(s->lib, api->GetTensorTypeAndShape(value, &info), ST_BAD_DATA, s->name));
    st = read_shape(s, port->name, info, &type, &sh);
    api->ReleaseTensorTypeAndShapeInfo(info);
    TRY(st);
    TRY(ort_check(s->lib, api->GetTensorMutableData(value, &data), ST_BAD_DATA, s->name));
    TRY(tensor_new(&t, port->name, type, sh));
    if (tensor_bytes(&t))
        memcpy(t.data, data, tensor_bytes(&t));
    return tensor_list_add(out, &t);
}

status ort_run(ort_session *s, const tensor *in, size_t n_in, tensor_list *out)
{
    status st = ST_OK;
    ort_call *call = NULL;
    ort_value **values = NULL;
    TRY(ort_call_make(s, in, n_in, NULL, 0, &call));
    TRY_DONE(mem_alloc(&values, s->n_out, sizeof(ort_value *)));
    TRY_DONE(ort_check(s->lib,
                       s->lib->api.Run(s->raw, NULL, call->in_names, (const ort_value *const *)call->in, n_in,
                                       s->out_names, s->n_out, values),
                       ST_BAD_DATA, s->name));
    for (size_t i = 0; i < s->n_out; i++)
        TRY_DONE(take_output(s, &s->out[i], values[i], out));
done:
    release_values(s, values, s->n_out);
    ort_call_free(call);
    return st;
}

/* One batch straight from and to the caller's arrays. */
static status run_rows(ort_session *s, const tensor *x, const tensor *y, int64_t first, int64_t rows)
{
    status st = ST_OK;
    ort_value *in = NULL, *out = NULL;
    TRY_DONE(wrap(s, x, first, rows, &in));
    TRY_DONE(wrap(s, y, first, rows, &out));
    TRY_DONE(ort_check(
        s->lib,
        s->lib->api.Run(s->raw, NULL, s->in_names, (const ort_value *const[]){in}, 1, s->out_names, 1, &out),
        ST_BAD_DATA, s->name));
done:
    if (in)
        s->lib->api.ReleaseValue(in);
    if (out)
        s->lib->api.ReleaseValue(out);
    return st;
}

/* The last, incomplete batch of a model whose batch is fixed: padded with zeros, the surplus thrown away. */
static status run_padded(ort_session *s, const tensor *x, const tensor *y, int64_t first, int64_t rows,
                         int64_t batch)
{
    status st = ST_OK;
    tensor px = {0}, py = {0};
    shape sx = x->sh, sy = y->sh;
    size_t row_x = tensor_bytes(x) / (size_t)sx.dim[0], row_y = tensor_bytes(y) / (size_t)sy.dim[0];
    sx.dim[0] = sy.dim[0] = batch;
    TRY_DONE(tensor_new(&px, NULL, x->type, sx));
    TRY_DONE(tensor_new(&py, NULL, y->type, sy));
    memcpy(px.data, (const char *)x->data + row_x * (size_t)first, row_x * (size_t)rows);
    TRY_DONE(run_rows(s, &px, &py, 0, batch));
    memcpy((char *)y->data + row_y * (size_t)first, py.data, row_y * (size_t)rows);
done:
    tensor_free(&px);
    tensor_free(&py);
    return st;
}

status ort_run_all(ort_session *s, const tensor *x, size_t batch, const tensor *y)
{
    if (s->n_in != 1 || s->n_out < 1)
        return fail(ST_BAD_DATA, "%s: a model with one input is needed; it has %zu", s->name, s->n_in);
    if (x->sh.rank < 1 || y->sh.rank < 1 || x->sh.dim[0] != y->sh.dim[0] || s->in[0].sh.rank != x->sh.rank)
        return fail(ST_BAD_DATA, "%s: input and output need the same number of samples in front", s->name);
    int64_t n = x->sh.dim[0], fixed = s->in[0].sh.dim[0];
    int64_t step = fixed > 0 ? fixed : batch > 0 ? (int64_t)batch : 1;
    tensor one_x = *x, one_y = *y; /* the shape of one batch, for the check only */
    one_x.sh.dim[0] = one_y.sh.dim[0] = step;
    TRY(check_fit(s, &s->in[0], &one_x));
    TRY(check_fit(s, &s->out[0], &one_y));
    for (int64_t first = 0; first < n; first += step) {
        int64_t rows = n - first < step ? n - first : step;
        if (fixed > 0 && rows < step)
            TRY(run_padded(s, x, y, first, rows, step));
        else
            TRY(run_rows(s, x, y, first, rows));
    }
    return ST_OK;
}
