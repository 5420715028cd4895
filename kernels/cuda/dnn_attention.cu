/* dnn_attention.cu - FusedAttention through cuDNN (dnn.h) where its products may be rounded to float16 or bfloat16: Q, K and V are
 * rounded, or lie so, the library's engine multiplies on tensor cores, y leaves as Q came and the sums as float32. For heads of a
 * multiple of 8 up to 128 and for more than a few keys; everything else, and the gradient in float32, is done by attention.cu. With a mask the
 * library's graph always makes the sums: where nobody asks for them they go to the workspace. */
#include "kernels/cuda/cuda.cuh"
extern "C" {
#include "kernels/cuda/dnn.h"
}

#define SHORT 64 /* fewer keys: not worth the rounding passes (by the bytes that they move; nothing was measured) */

template <class E> struct alignas(16) eight {
    E at[8];
};

/* n elements from float to E, n a multiple of 8 */
template <class E> __global__ static void narrow_kernel(eight<E> *to, const float4 *from, int64_t n8)
{
    GRID_STRIDE(i, n8)
    {
        const float4 a = from[2 * i], b = from[2 * i + 1];
        const float v[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        eight<E> r;
        UNROLL
        for (int k = 0; k < 8; k++)
            r.at[k] = from_float<E>(v[k]);
        to[i] = r;
    }
}
template <class E> __global__ static void widen_kernel(float4 *to, const eight<E> *from, int64_t n8)
{
    GRID_STRIDE(i, n8)
    {
        const eight<E> r = from[i];
        to[2 * i] = make_float4(as_float(r.at[0]), as_float(r.at[1]), as_float(r.at[2]), as_float(r.at[3]));
        to[2 * i + 1] = make_float4(as_float(r.at[4]), as_float(r.at[5]), as_float(r.at[6]), as_float(r.at[7]));
    }
}
/* The same, one at a time. */
template <class E> __global__ static void narrow_each_kernel(E *to, const float *from, int64_t n)
{
    GRID_STRIDE(i, n)
    to[i] = from_float<E>(from[i]);
}
template <class E> __global__ static void widen_each_kernel(float *to, const E *from, int64_t n)
{
    GRID_STRIDE(i, n)
    to[i] = as_float(from[i]);
}

static bool is_there(const kernel_args *a, int i)
{
    return a->n_in > i && a->in[i].type != DTYPE_NONE;
}

/* [B, H, S, D], whichever way it lies */
static void copy_heads(int64_t *to, const shape *s, bool tokens)
{
    to[0] = s->dim[0];
    to[1] = s->dim[tokens ? 2 : 1];
    to[2] = s->dim[tokens ? 1 : 2];
    to[3] = s->dim[3];
}

/* What Q, K and V lie in, or are to be rounded to. */
static int64_t precision_of(const kernel_args *a)
{
    const dtype t = a->in[0].type;
    if (t == DTYPE_F32)
        return ((const attention_attrs *)a->attr)->precision;
    return t == DTYPE_F16 ? PRECISION_F16 : PRECISION_BF16;
}

/* The mask in a key (dnn_key.bias), 0: there is none; -1: not for the library. */
static int32_t mask_of(const kernel_args *a, int input, const dnn_key *k)
{
    const int64_t scores[4] = {k->x[0], k->x[1], k->x[2], k->w[2]};
    const shape *s = &a->in[input].sh;
    int32_t bits = DNN_MASK;
    if (!is_there(a, input))
        return 0;
    if (a->in[input].type != DTYPE_F32 || s->rank > 4)
        return -1;
    for (int i = 0; i < s->rank; i++) {
        const int axis = 4 - s->rank + i;
        if (s->dim[i] != 1 && s->dim[i] != scores[axis])
            return -1;
        bits |= (s->dim[i] > 1) << axis;
    }
    return bits;
}

static bool wants_sums(const kernel_args *a)
{
    return a->n_out > 1 && a->out[1].type != DTYPE_NONE;
}

/* y: what lies as the result does; mask: the number of the mask's input. NULL: not for the library. */
static const dnn_plan *plan_for(const kernel_args *a, dnn_kind kind, const shape *y, int mask, bool sums)
{
    const attention_attrs *at = (const attention_attrs *)a->attr;
    dnn_key k;
    if (!a->queue->dnn || precision_of(a) == PRECISION_FP32 || shape_count(y) < 1)
        return NULL;
    memset(&k, 0, sizeof k);
    k.kind = kind;
    k.type = precision_of(a) == PRECISION_F16 ? DNN_HALF : DNN_BFLOAT16;
    k.axes = 2;
    k.deterministic = a->queue->deterministic;
    k.tokens = (at->q_tokens != 0) | (at->k_tokens != 0) << 1 | (at->v_tokens != 0) << 2 | (at->y_tokens != 0) << 3;
    copy_heads(k.x, &a->in[0].sh, at->q_tokens != 0);
    copy_heads(k.w, &a->in[1].sh, at->k_tokens != 0);
    copy_heads(k.y, y, at->y_tokens != 0);
    k.bias = mask_of(a, mask, &k);
    k.sums = k.bias != 0 || sums;
    if (k.bias < 0 || k.w[2] < SHORT || k.x[3] % 8 || k.y[3] % 8 || k.x[3] > 128 || k.y[3] > 128)
        return NULL;
    const dnn_plan *p = cuda_dnn_plan(a->queue, &k);
    return p && p->usable ? p : NULL;
}
static const dnn_plan *plan_of(const kernel_args *a)
{
    return plan_for(a, DNN_ATTENTION, &a->out[0].sh, 3, wants_sums(a));
}
static bool takes(const kernel_args *a)
{
    return plan_of(a) != NULL;
}

/* Of sums that nobody asked for, which the workspace begins with. */
static size_t sums_bytes(const kernel_args *a)
{
    const shape *s = &a->in[0].sh;
    return is_there(a, 3) && !wants_sums(a) ? ((size_t)(shape_count(s) / s->dim[3]) * sizeof(float) + 255) / 256 * 256 : 0;
}

/* Where the rounded Q, K, V and y lie in the workspace; at[4]: what the library gets. */
static void places(const kernel_args *a, size_t *at)
{
    at[0] = sums_bytes(a);
    for (int i = 0; i < 4; i++)
        at[i + 1] = at[i] + ((size_t)shape_count(i < 3 ? &a->in[i].sh : &a->out[0].sh) * 2 + 255) / 256 * 256;
}
static size_t workspace(const kernel_args *a)
{
    size_t at[5];
    places(a, at);
    return at[4] + cuda_dnn_workspace(a->queue, plan_of(a));
}

template <class E> static void run_in(const kernel_args *a)
{
    const attention_attrs *at = (const attention_attrs *)a->attr;
    const dnn_plan *p = plan_of(a);
    const int64_t n = shape_count(&a->out[0].sh);
    float scale = (float)at->scale;
    float *y = (float *)a->out[0].data;
    char *work = (char *)a->work;
    size_t place[5];
    places(a, place);
    for (int i = 0; i < 3; i++) {
        const float *from = (const float *)a->in[i].data;
        const int64_t m = shape_count(&a->in[i].sh);
        if (is_vector(from))
            LAUNCH((narrow_kernel<E>), grid_for(a->queue, m / 8, 1), CUDA_THREADS, 0, a->queue, (eight<E> *)(work + place[i]),
                   (const float4 *)from, m / 8);
        else
            LAUNCH((narrow_each_kernel<E>), grid_for(a->queue, m, 4), CUDA_THREADS, 0, a->queue, (E *)(work + place[i]), from, m);
    }
    void *operand[DNN_OPERANDS] = {};
    operand[DNN_X] = work + place[0];
    operand[DNN_W] = work + place[1];
    operand[DNN_V] = work + place[2];
    operand[DNN_Y] = work + place[3];
    operand[DNN_SUMS] = wants_sums(a) ? a->out[1].data : work;
    operand[DNN_BIAS] = is_there(a, 3) ? a->in[3].data : NULL;
    operand[DNN_SCALE] = &scale;
    cuda_dnn_run(a->queue, p, operand, work + place[4]);
    if (is_vector(y))
        LAUNCH((widen_kernel<E>), grid_for(a->queue, n / 8, 1), CUDA_THREADS, 0, a->queue, (float4 *)y,
               (const eight<E> *)(work + place[3]), n / 8);
    else
        LAUNCH((widen_each_kernel<E>), grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, y, (const E *)(work + place[3]), n);
}
static void run(const kernel_args *a)
{
    ((const attention_attrs *)a->attr)->precision == PRECISION_F16 ? run_in<__half>(a) : run_in<__nv_bfloat16>(a);
}

/* Everything lies as the library takes it. */
static size_t half_workspace(const kernel_args *a)
{
    return sums_bytes(a) + cuda_dnn_workspace(a->queue, plan_of(a));
}
static void run_half(const kernel_args *a)
{
    float scale = (float)((const attention_attrs *)a->attr)->scale;
    void *operand[DNN_OPERANDS] = {};
    operand[DNN_X] = a->in[0].data;
    operand[DNN_W] = a->in[1].data;
    operand[DNN_V] = a->in[2].data;
    operand[DNN_Y] = a->out[0].data;
    operand[DNN_SUMS] = wants_sums(a) ? a->out[1].data : a->work;
    operand[DNN_BIAS] = is_there(a, 3) ? a->in[3].data : NULL;
    operand[DNN_SCALE] = &scale;
    cuda_dnn_run(a->queue, plan_of(a), operand, (char *)a->work + sums_bytes(a));
}

/* ---- the gradient: q, k, v, y, dy, sums, mask ---- */

static const dnn_plan *grad_plan(const kernel_args *a)
{
    return plan_for(a, DNN_ATTENTION_GRAD, &a->in[3].sh, 6, true);
}
static bool grad_takes(const kernel_args *a)
{
    return grad_plan(a) != NULL;
}
static size_t grad_workspace(const kernel_args *a)
{
    return cuda_dnn_workspace(a->queue, grad_plan(a));
}
static void grad_run(const kernel_args *a)
{
    static const int to[] = {DNN_X, DNN_W, DNN_V, DNN_Y, DNN_DY, DNN_SUMS}, from[] = {DNN_DX, DNN_DW, DNN_DV};
    float scale = (float)((const attention_attrs *)a->attr)->scale;
    void *operand[DNN_OPERANDS] = {};
    for (int i = 0; i < 6; i++)
        operand[to[i]] = a->in[i].data;
    for (int i = 0; i < 3; i++)
        operand[from[i]] = a->out[i].data;
    operand[DNN_BIAS] = is_there(a, 6) ? a->in[6].data : NULL;
    operand[DNN_SCALE] = &scale;
    cuda_dnn_run(a->queue, grad_plan(a), operand, a->work);
}

#define HALF_ROW(E)                                                                                                    \
    {.op = OP_ATTENTION, .name = "attention cuDNN " #E, .run = run_half, .workspace = half_workspace, .takes = takes,  \
     .narrow = DTYPE_##E, .narrow_in = 7, .narrow_out = 1},                                                            \
    {.op = OP_ATTENTION_GRAD, .name = "attention grad cuDNN " #E, .run = grad_run, .workspace = grad_workspace,        \
     .takes = grad_takes, .narrow = DTYPE_##E, .narrow_in = 31, .narrow_out = 7}

CUDA_TABLE(dnn_attention) = {HALF_ROW(F16), HALF_ROW(BF16), {.op = OP_ATTENTION, .type = DTYPE_F32, .name = "attention cuDNN", .run = run, .workspace = workspace,
                              .takes = takes},
                             KERNEL_END};
