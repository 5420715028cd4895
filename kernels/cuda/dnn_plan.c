/* dnn_plan.c - from a convolution's sizes to an engine of cuDNN: descriptors, heuristics (A, B, then what always works), and
 * the first proposal that is allowed and can be finalised. Execution only fills in addresses. */
#include "base/mem.h"
#include "kernels/cuda/dnn.h"

#include <string.h>

#define PROPOSALS  16
#define NOTES      16
#define VIRTUAL_ID 100 /* of the first value that only the graph has */

/* ---- the library ---- */

static int open_any(const dnn_api *api, cuda_dnn **out)
{
    *out = NULL;
    if (mem_alloc(out, 1, sizeof **out) != ST_OK)
        return -1;
    (*out)->api = api;
    return 0;
}

int cuda_dnn_open(const dnn_api *api, void *stream, cuda_dnn **out)
{
    int code = open_any(api, out);
    if (code != 0)
        return code;
    code = api->create(&(*out)->handle);
    if (code != 0)
        (*out)->handle = NULL;
    else
        code = api->set_stream((*out)->handle, stream);
    if (code != 0) {
        cuda_dnn_close(*out);
        *out = NULL;
    }
    return code;
}

int cuda_dnn_open_described(const dnn_api *api, const char *json, cuda_dnn **out)
{
    int code = open_any(api, out);
    if (code != 0)
        return code;
    code = api->make(DNN_DEVICE, &(*out)->device);
    if (code != 0)
        (*out)->device = NULL;
    else
        code = api->set((*out)->device, DNN_DEVICE_JSON, DNN_T_CHAR, (int64_t)strlen(json) + 1, json);
    if (code == 0)
        code = api->finalize((*out)->device);
    if (code != 0) {
        cuda_dnn_close(*out);
        *out = NULL;
    }
    return code;
}

static void drop_parts(const dnn_api *api, dnn_plan *p)
{
    while (p->n_part)
        api->unmake(p->part[--p->n_part]);
    p->graph = p->plan = NULL;
}

void cuda_dnn_close(cuda_dnn *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->n_plan; i++) {
        drop_parts(d->api, d->plan[i]);
        mem_free(d->plan[i]);
    }
    if (d->device)
        d->api->unmake(d->device);
    if (d->handle)
        d->api->destroy(d->handle);
    mem_free(d->plan);
    mem_free(d);
}

/* ---- descriptors: the first failure is kept in the plan, calls after it do nothing ---- */

typedef struct maker {
    const cuda_dnn *d;
    dnn_plan *p;
    int64_t next; /* number of the next virtual tensor */
} maker;

static void *make(maker *m, int kind)
{
    void *out = NULL;
    if (m->p->code == 0 && m->p->n_part == DNN_MOST_PARTS)
        m->p->code = -1;
    if (m->p->code != 0 || (m->p->code = m->d->api->make(kind, &out)) != 0)
        return NULL;
    m->p->part[m->p->n_part++] = out;
    return out;
}
static void set(maker *m, void *to, int attribute, int type, int64_t n, const void *from)
{
    if (m->p->code == 0)
        m->p->code = m->d->api->set(to, attribute, type, n, from);
}
static void set_one(maker *m, void *to, int attribute, void *descriptor)
{
    set(m, to, attribute, DNN_T_DESCRIPTOR, 1, &descriptor);
}
static void *finish(maker *m, void *d)
{
    if (m->p->code == 0)
        m->p->code = m->d->api->finalize(d);
    return d;
}

/* A tensor of these dimensions, dense, in the key's order of axes. id 0: a virtual one. */
static void *tensor(maker *m, int64_t id, int type, const int64_t *dim)
{
    const dnn_key *k = &m->p->key;
    int n = k->axes + 2;
    int64_t step[5], each = 1, alignment = 16;
    const bool is_virtual = id == 0;
    void *t = make(m, DNN_TENSOR);
    if (k->channels_last) {
        step[1] = 1;
        each = dim[1];
    }
    for (int i = n - 1; i >= 0; i--) {
        if (k->channels_last && i == 1)
            continue;
        step[i] = each;
        each *= dim[i];
    }
    if (is_virtual)
        id = VIRTUAL_ID + m->next++;
    set(m, t, DNN_TENSOR_TYPE, DNN_T_DATA_TYPE, 1, &type);
    set(m, t, DNN_TENSOR_DIMS, DNN_T_I64, n, dim);
    set(m, t, DNN_TENSOR_STEPS, DNN_T_I64, n, step);
    set(m, t, DNN_TENSOR_ID, DNN_T_I64, 1, &id);
    set(m, t, DNN_TENSOR_ALIGNMENT, DNN_T_I64, 1, &alignment);
    if (is_virtual)
        set(m, t, DNN_TENSOR_VIRTUAL, DNN_T_BOOL, 1, &is_virtual);
    return finish(m, t);
}

static void *convolution(maker *m)
{
    const dnn_key *k = &m->p->key;
    const int type = DNN_FLOAT, mode = DNN_CROSS_CORRELATION;
    const int64_t axes = k->axes;
    void *c = make(m, DNN_CONVOLUTION);
    set(m, c, DNN_CONV_AXES, DNN_T_I64, 1, &axes);
    set(m, c, DNN_CONV_TYPE, DNN_T_DATA_TYPE, 1, &type);
    set(m, c, DNN_CONV_MODE, DNN_T_CONV_MODE, 1, &mode);
    set(m, c, DNN_CONV_PADS_BEFORE, DNN_T_I64, axes, k->before);
    set(m, c, DNN_CONV_PADS_AFTER, DNN_T_I64, axes, k->after);
    set(m, c, DNN_CONV_DILATIONS, DNN_T_I64, axes, k->dilation);
    set(m, c, DNN_CONV_STRIDES, DNN_T_I64, axes, k->stride);
    return finish(m, c);
}

static void *convolve(maker *m, void *x, void *w, void *y)
{
    static const struct {
        int kind, conv, x, w, y, alpha, beta;
    } ops[] = {
        [DNN_CONV_FORWARD] = {DNN_OP_FORWARD, DNN_FORWARD_CONV, DNN_FORWARD_X, DNN_FORWARD_W, DNN_FORWARD_Y, DNN_FORWARD_ALPHA,
                              DNN_FORWARD_BETA},
        [DNN_CONV_DATA] = {DNN_OP_DATA, DNN_DATA_CONV, DNN_DATA_DX, DNN_DATA_W, DNN_DATA_DY, DNN_DATA_ALPHA, DNN_DATA_BETA},
        [DNN_CONV_WEIGHT] = {DNN_OP_WEIGHT, DNN_WEIGHT_CONV, DNN_WEIGHT_X, DNN_WEIGHT_DW, DNN_WEIGHT_DY, DNN_WEIGHT_ALPHA,
                             DNN_WEIGHT_BETA},
    };
    const float one = 1, zero = 0;
    const int kind = m->p->key.kind;
    void *c = convolution(m), *o = make(m, ops[kind].kind);
    set_one(m, o, ops[kind].conv, c);
    set_one(m, o, ops[kind].x, x);
    set_one(m, o, ops[kind].w, w);
    set_one(m, o, ops[kind].y, y);
    set(m, o, ops[kind].alpha, DNN_T_FLOAT, 1, &one);
    set(m, o, ops[kind].beta, DNN_T_FLOAT, 1, &zero);
    return finish(m, o);
}

/* y = x + b (mode DNN_ADD), y = max(x, 0) (DNN_RELU, b NULL) */
static void *pointwise(maker *m, int mode, void *x, void *b, void *y)
{
    const int type = DNN_FLOAT;
    void *how = make(m, DNN_POINTWISE), *o;
    set(m, how, DNN_POINTWISE_MODE, DNN_T_POINTWISE_MODE, 1, &mode);
    set(m, how, DNN_POINTWISE_TYPE, DNN_T_DATA_TYPE, 1, &type);
    finish(m, how);
    o = make(m, DNN_OP_POINTWISE);
    set_one(m, o, DNN_OP_POINTWISE_HOW, how);
    set_one(m, o, DNN_OP_POINTWISE_X, x);
    if (b)
        set_one(m, o, DNN_OP_POINTWISE_B, b);
    set_one(m, o, DNN_OP_POINTWISE_Y, y);
    return finish(m, o);
}

/* The convolution and what follows it: + residual, + bias, relu (the order of cuDNN's fused engines). */
static void make_graph(maker *m)
{
    const dnn_key *k = &m->p->key;
    const int64_t of_bias[5] = {1, k->y[1], 1, 1, 1};
    int more = (k->residual != 0) + (k->bias != 0) + (k->relu != 0);
    void *op[4], *x = tensor(m, DNN_X, k->type, k->x), *w = tensor(m, DNN_W, k->type, k->w);
    int64_t n = 0;
    void *at = tensor(m, more ? 0 : DNN_Y, more ? DNN_FLOAT : k->type, k->y);
    op[n++] = convolve(m, x, w, at);
    for (int part = 0; part < 3; part++) {
        if (!(part == 0 ? k->residual : part == 1 ? k->bias : k->relu))
            continue;
        void *b = part == 0   ? tensor(m, DNN_RESIDUAL, k->type, k->y)
                  : part == 1 ? tensor(m, DNN_BIAS, k->type, of_bias)
                              : NULL;
        void *to = --more ? tensor(m, 0, DNN_FLOAT, k->y) : tensor(m, DNN_Y, k->type, k->y);
        op[n++] = pointwise(m, part == 2 ? DNN_RELU : DNN_ADD, at, b, to);
        at = to;
    }
    m->p->graph = make(m, DNN_GRAPH);
    set(m, m->p->graph, DNN_GRAPH_OPS, DNN_T_DESCRIPTOR, n, op);
    if (m->d->handle)
        set(m, m->p->graph, DNN_GRAPH_HANDLE, DNN_T_HANDLE, 1, &m->d->handle);
    finish(m, m->p->graph);
}

/* ---- engines ---- */

static bool has_note(const int *note, int64_t n, int which)
{
    for (int64_t i = 0; i < n; i++)
        if (note[i] == which)
            return true;
    return false;
}

/* Whether the key allows the engine of this proposal; notes down what it is. */
static bool is_allowed(const cuda_dnn *d, dnn_plan *p, void *config)
{
    const dnn_key *k = &p->key;
    int numerical[NOTES], behavior[NOTES];
    int64_t n = 0, n_numerical = 0, n_behavior = 0;
    void *engine = NULL;
    if (d->api->make(DNN_ENGINE, &engine) != 0)
        return false;
    bool known = d->api->get(config, DNN_CONFIG_ENGINE, DNN_T_DESCRIPTOR, 1, &n, &engine) == 0 &&
                 d->api->get(engine, DNN_ENGINE_INDEX, DNN_T_I64, 1, &n, &p->engine) == 0 &&
                 d->api->get(engine, DNN_ENGINE_NUMERICAL, DNN_T_NUMERICAL_NOTE, NOTES, &n_numerical, numerical) == 0 &&
                 d->api->get(engine, DNN_ENGINE_BEHAVIOR, DNN_T_BEHAVIOR_NOTE, NOTES, &n_behavior, behavior) == 0;
    d->api->unmake(engine);
    n_numerical = n_numerical > NOTES ? NOTES : n_numerical;
    n_behavior = n_behavior > NOTES ? NOTES : n_behavior;
    p->runtime_compiled = has_note(behavior, n_behavior, DNN_NOTE_RUNTIME_COMPILATION);
    return known && !(k->deterministic && has_note(numerical, n_numerical, DNN_NOTE_NONDETERMINISTIC)) &&
           !(k->type == DNN_FLOAT && has_note(numerical, n_numerical, DNN_NOTE_DOWN_CONVERT)) &&
           !(k->type == DNN_FLOAT && !k->tf32 && has_note(numerical, n_numerical, DNN_NOTE_TENSOR_CORE)) &&
           !has_note(numerical, n_numerical, DNN_NOTE_REDUCED_PRECISION) &&
           !(k->exact && (has_note(numerical, n_numerical, DNN_NOTE_WINOGRAD) || has_note(numerical, n_numerical, DNN_NOTE_FFT)));
}

static int finalize_plan(const cuda_dnn *d, void *plan, void *config)
{
    int code = d->handle ? d->api->set(plan, DNN_PLAN_HANDLE, DNN_T_HANDLE, 1, &d->handle)
                         : d->api->set(plan, DNN_PLAN_DEVICE, DNN_T_DESCRIPTOR, 1, &d->device);
    if (code == 0)
        code = d->api->set(plan, DNN_PLAN_CONFIG, DNN_T_DESCRIPTOR, 1, &config);
    return code == 0 ? d->api->finalize(plan) : code;
}

/* Makes the plan of one proposal. */
static bool try_config(const cuda_dnn *d, dnn_plan *p, void *config)
{
    void *plan = NULL;
    int64_t n = 0, bytes = 0;
    p->configs++;
    if (!is_allowed(d, p, config) || (p->code = d->api->make(DNN_PLAN, &plan)) != 0)
        return false;
    p->code = finalize_plan(d, plan, config);
    bool compiles = !d->handle && p->code == DNN_STATUS_DRIVER && p->runtime_compiled;
    if (p->code == 0 || compiles) {
        p->code = d->api->get(plan, DNN_PLAN_WORKSPACE, DNN_T_I64, 1, &n, &bytes);
        if (compiles && p->code != 0) { /* it is asked for of finished plans alone */
            p->code = 0;
            bytes = 0;
        }
    }
    if (p->code != 0 || bytes < 0 || p->n_part == DNN_MOST_PARTS) {
        d->api->unmake(plan);
        return false;
    }
    p->part[p->n_part++] = p->plan = plan;
    p->workspace = (size_t)bytes;
    return true;
}

static bool try_mode(const cuda_dnn *d, dnn_plan *p, int mode)
{
    void *heuristic = NULL, *config[PROPOSALS];
    int64_t found = 0;
    int made = 0;
    if ((p->code = d->api->make(DNN_HEURISTIC, &heuristic)) != 0)
        return false;
    p->mode = mode;
    p->code = d->api->set(heuristic, DNN_HEURISTIC_GRAPH, DNN_T_DESCRIPTOR, 1, &p->graph);
    if (p->code == 0)
        p->code = d->api->set(heuristic, DNN_HEURISTIC_MODE, DNN_T_HEURISTIC_MODE, 1, &mode);
    if (p->code == 0 && !d->handle)
        p->code = d->api->set(heuristic, DNN_HEURISTIC_DEVICE, DNN_T_DESCRIPTOR, 1, &d->device);
    if (p->code == 0)
        p->code = d->api->finalize(heuristic);
    while (p->code == 0 && made < PROPOSALS && (p->code = d->api->make(DNN_ENGINE_CONFIG, &config[made])) == 0)
        made++;
    if (p->code == 0)
        p->code = d->api->get(heuristic, DNN_HEURISTIC_RESULTS, DNN_T_DESCRIPTOR, made, &found, config);
    if (p->code != 0)
        found = 0;
    for (int64_t i = 0; i < found && i < made && !p->plan; i++)
        if (try_config(d, p, config[i]) && p->n_part < DNN_MOST_PARTS) { /* the plan may look at it: it stays */
            p->part[p->n_part++] = config[i];
            config[i] = config[made - 1];
            made--;
        }
    while (made > 0)
        d->api->unmake(config[--made]);
    d->api->unmake(heuristic);
    return p->plan != NULL;
}

static void make_plan(const cuda_dnn *d, dnn_plan *p)
{
    static const int modes[] = {DNN_MODE_A, DNN_MODE_B, DNN_MODE_FALLBACK};
    maker m = {.d = d, .p = p};
    make_graph(&m);
    for (size_t i = 0; i < sizeof modes / sizeof *modes && p->graph && (i > 0 || p->code == 0) && !p->plan; i++)
        try_mode(d, p, modes[i]);
    p->usable = p->plan != NULL;
    if (!p->usable)
        drop_parts(d->api, p);
}

const dnn_plan *cuda_dnn_plan(cuda_queue *q, const dnn_key *key)
{
    cuda_dnn *d = q->dnn;
    dnn_plan *p;
    if (!d)
        return NULL;
    for (size_t i = 0; i < d->n_plan; i++)
        if (memcmp(&d->plan[i]->key, key, sizeof *key) == 0)
            return d->plan[i];
    if (mem_grow(&d->plan, d->n_plan + 1, sizeof(dnn_plan *)) != ST_OK || mem_alloc(&p, 1, sizeof *p) != ST_OK)
        return NULL;
    p->key = *key;
    d->plan[d->n_plan++] = p;
    make_plan(d, p);
    return p;
}

/* ---- running ---- */

void cuda_dnn_run(cuda_queue *q, const dnn_plan *p, void *const *operand, void *work)
{
    const dnn_api *api = q->dnn->api;
    const bool present[DNN_OPERANDS] = {false, true, true, true, p->key.bias != 0, p->key.residual != 0};
    int64_t id[DNN_OPERANDS], n = 0;
    void *at[DNN_OPERANDS], *variant = NULL;
    if (q->failed)
        return;
    for (int i = DNN_X; i < DNN_OPERANDS; i++)
        if (present[i]) {
            id[n] = i;
            at[n++] = operand[i];
        }
    if (!cuda_note(q, "cudnnBackendCreateDescriptor", cuda_library_code(CUDA_DNN_CODES, api->make(DNN_VARIANT, &variant))))
        return;
    int code = api->set(variant, DNN_VARIANT_IDS, DNN_T_I64, n, id);
    if (code == 0)
        code = api->set(variant, DNN_VARIANT_POINTERS, DNN_T_POINTER, n, at);
    if (code == 0)
        code = api->set(variant, DNN_VARIANT_WORKSPACE, DNN_T_POINTER, 1, &work);
    if (code == 0)
        code = api->finalize(variant);
    if (cuda_note(q, "cudnnBackendFinalize", cuda_library_code(CUDA_DNN_CODES, code)))
        cuda_note(q, "cudnnBackendExecute", cuda_library_code(CUDA_DNN_CODES, api->execute(q->dnn->handle, p->plan, variant)));
    api->unmake(variant);
}
