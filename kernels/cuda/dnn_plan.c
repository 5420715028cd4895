/* dnn_plan.c - cuDNN opened, the plans that were made, and running them: execution only fills in addresses. */
#include "base/mem.h"
#include "kernels/cuda/dnn_inside.h"

#include <string.h>

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

int cuda_dnn_use_stream(cuda_dnn *d, void *stream)
{
    return cuda_library_code(CUDA_DNN_CODES, d->api->set_stream(d->handle, stream));
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

/* ---- plans ---- */

static void make_plan(const cuda_dnn *d, dnn_plan *p)
{
    dnn_make_graph(d, p);
    if (p->graph)
        dnn_choose(d, p);
    p->usable = p->plan != NULL;
    if (!p->usable)
        drop_parts(d->api, p);
}

static dnn_plan *find_plan(const cuda_dnn *d, const dnn_key *key)
{
    for (size_t i = 0; i < d->n_plan; i++)
        if (memcmp(&d->plan[i]->key, key, sizeof *key) == 0)
            return d->plan[i];
    return NULL;
}

const dnn_plan *cuda_dnn_plan(cuda_queue *q, const dnn_key *key)
{
    cuda_dnn *d = q->dnn;
    dnn_plan *p = d ? find_plan(d, key) : NULL;
    if (!d || p)
        return p;
    if (mem_grow(&d->plan, d->n_plan + 1, sizeof(dnn_plan *)) != ST_OK || mem_alloc(&p, 1, sizeof *p) != ST_OK)
        return NULL;
    p->key = *key;
    d->plan[d->n_plan++] = p;
    make_plan(d, p);
    return p;
}

size_t cuda_dnn_workspace(cuda_queue *q, const dnn_plan *asked)
{
    dnn_plan *p = asked ? find_plan(q->dnn, &asked->key) : NULL;
    if (!p)
        return 0;
    if (!p->settled && p->usable && q->dnn->measure && q->dnn->handle && !q->dnn->recording)
        dnn_measure(q, p);
    p->settled = true;
    return p->workspace;
}

bool cuda_dnn_saves(cuda_queue *q, const dnn_plan *whole, const dnn_plan *part, size_t bytes)
{
    const double pass = (double)bytes / ((double)q->multiprocessors * 2e10) + 3e-6;
    cuda_dnn_workspace(q, whole);
    cuda_dnn_workspace(q, part);
    const double one = whole->choice.seconds, two = part->choice.seconds;
    return !(one > 0) || !(two > 0) || one <= two + pass;
}

/* ---- running ---- */

static bool is_normed_data(const dnn_key *k)
{
    return k->kind == DNN_CONV_DATA && k->norm != 0;
}

static bool is_attention(const dnn_key *k)
{
    return k->kind == DNN_ATTENTION || k->kind == DNN_ATTENTION_GRAD;
}

/* What there is for each channel of x alone. */
static bool is_of_norm(int operand)
{
    return operand == DNN_NORM_SCALE || operand == DNN_NORM_SHIFT || (operand >= DNN_NORM_MEAN && operand <= DNN_TERM);
}

int dnn_operand_type(const dnn_key *k, int operand)
{
    const bool wide = (operand == DNN_BIAS && !k->narrow_bias) || operand == DNN_SUMS || operand == DNN_SQUARES ||
                      (is_normed_data(k) && is_of_norm(operand)) || (operand == DNN_W && k->kind == DNN_CONV_WEIGHT && !k->narrow_w);
    return wide ? DNN_FLOAT : k->type;
}

bool dnn_has_operand(const dnn_key *k, int operand)
{
    const bool attends = is_attention(k), grad = k->kind == DNN_ATTENTION_GRAD, normed = is_normed_data(k);
    const bool has[DNN_OPERANDS] = {[DNN_X] = true, [DNN_W] = true, [DNN_Y] = true, [DNN_BIAS] = k->bias != 0,
                                    [DNN_RESIDUAL] = k->residual != 0, [DNN_V] = attends, [DNN_SUMS] = k->sums != 0 || normed,
                                    [DNN_SCALE] = attends, [DNN_SQUARES] = !attends && k->sums, [DNN_NORM_SCALE] = k->norm != 0,
                                    [DNN_NORM_SHIFT] = k->norm != 0, [DNN_NORM_X] = normed, [DNN_NORM_MEAN] = normed,
                                    [DNN_NORM_INV] = normed, [DNN_PRODUCTS] = normed, [DNN_DY_FACTOR] = normed,
                                    [DNN_X_FACTOR] = normed, [DNN_TERM] = normed, [DNN_DY] = grad, [DNN_DX] = grad,
                                    [DNN_DW] = grad, [DNN_DV] = grad};
    return has[operand];
}

size_t dnn_operand_bytes(const dnn_key *k, int operand)
{
    const bool value = operand == DNN_V || operand == DNN_DV;
    const int64_t *dim = operand == DNN_X || operand == DNN_NORM_X || operand == DNN_DX ? k->x
                         : operand == DNN_W || operand == DNN_DW || value              ? k->w
                                                                                        : k->y;
    const int rank = operand == DNN_SUMS || value ? 3 : k->axes + 2;
    size_t n = dnn_operand_type(k, operand) == DNN_FLOAT ? 4 : 2;
    if (!dnn_has_operand(k, operand) || operand == DNN_SCALE)
        return 0;
    if (operand == DNN_BIAS && is_attention(k)) {
        const int64_t axis[4] = {k->x[0], k->x[1], k->x[2], k->w[2]};
        for (int i = 0; i < 4; i++)
            n *= k->bias >> i & 1 ? (size_t)axis[i] : 1;
        return n;
    }
    if (operand == DNN_BIAS || operand == DNN_SQUARES || (operand == DNN_SUMS && !is_attention(k)))
        return n * (size_t)(is_normed_data(k) ? k->x[1] : k->y[1]);
    if (is_of_norm(operand))
        return n * (size_t)k->x[1];
    for (int i = 0; i < rank; i++)
        n *= (size_t)dim[i];
    return value ? n * (size_t)k->y[3] : n;
}

int dnn_make_variant(const cuda_dnn *d, const dnn_plan *p, void *const *operand, void *work, void **variant, const char **where)
{
    int64_t id[DNN_OPERANDS], n = 0;
    void *at[DNN_OPERANDS];
    for (int i = DNN_X; i < DNN_OPERANDS; i++)
        if (dnn_has_operand(&p->key, i)) {
            id[n] = i;
            at[n++] = operand[i];
        }
    *where = "cudnnBackendCreateDescriptor";
    int code = d->api->make(DNN_VARIANT, variant);
    if (code != 0)
        return code;
    *where = "cudnnBackendFinalize";
    code = d->api->set(*variant, DNN_VARIANT_IDS, DNN_T_I64, n, id);
    if (code == 0)
        code = d->api->set(*variant, DNN_VARIANT_POINTERS, DNN_T_POINTER, n, at);
    if (code == 0)
        code = d->api->set(*variant, DNN_VARIANT_WORKSPACE, DNN_T_POINTER, 1, &work);
    if (code == 0)
        code = d->api->finalize(*variant);
    if (code != 0) {
        d->api->unmake(*variant);
        *variant = NULL;
    }
    return code;
}

void cuda_dnn_run(cuda_queue *q, const dnn_plan *p, void *const *operand, void *work)
{
    const dnn_api *api = q->dnn->api;
    void *variant = NULL;
    const char *where;
    if (q->failed)
        return;
    int code = dnn_make_variant(q->dnn, p, operand, work, &variant, &where);
    if (!cuda_note(q, where, cuda_library_code(CUDA_DNN_CODES, code)))
        return;
    cuda_note(q, "cudnnBackendExecute", cuda_library_code(CUDA_DNN_CODES, api->execute(q->dnn->handle, p->plan, variant)));
    api->unmake(variant);
}
