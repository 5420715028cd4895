/* blas_half.cu - Linear of matrices that lie in float16 or bfloat16 through cuBLASLt (blas.h), which takes and gives them as they lie.
 *
 * What it cannot do behind the product (the Gelu of erf; a residual or a result of another type than the other) a pass over the result
 * does, which begins at what the activation is made of where that is kept. The library wants a bias in the type of the result. */
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/mixed.cuh"
extern "C" {
#include "kernels/cuda/blas.h"
}

static inline bool is_there(const kernel_tensor *t, int n, int i)
{
    return n > i && t[i].type != DTYPE_NONE;
}

/* ---- what follows a product that the library could not finish ---- */

struct after_args {
    void *y, *pre;               /* pre: NULL where it lies already or is not wanted */
    const void *from, *residual; /* residual: NULL allowed */
    int y_kind, pre_kind, from_kind, residual_kind;
    int activation;
};
template <int V> __device__ static inline void after_pack(const after_args &g, int64_t i)
{
    pack<float, V> v = mixed_load<V>(g.from, g.from_kind, i);
    if (g.residual) {
        const pack<float, V> r = mixed_load<V>(g.residual, g.residual_kind, i);
        UNROLL
        for (int k = 0; k < V; k++)
            v.at[k] += r.at[k];
    }
    if (g.pre)
        mixed_store<V>(g.pre, g.pre_kind, i, v);
    UNROLL
    for (int k = 0; k < V; k++)
        v.at[k] = activation_result(g.activation, v.at[k]);
    mixed_store<V>(g.y, g.y_kind, i, v);
}
__global__ static void after_kernel(after_args g, int64_t n)
{
    for_packs<8>(n, [&](int64_t i, auto width) { after_pack<decltype(width)::value>(g, i); });
}

__global__ static void turn_bias_kernel(void *to, int to_kind, const void *from, int from_kind, int64_t n)
{
    GRID_STRIDE(i, n)
    mixed_store<1>(to, to_kind, i, mixed_load<1>(from, from_kind, i));
}
/* In the other of float32 and the operands' type. */
static void turn_bias(const kernel_args *a, void *to)
{
    const int64_t n = shape_count(&a->in[2].sh);
    const int from_kind = mixed_kind_of(a->in[2].type), own = mixed_kind_of(a->in[0].type);
    LAUNCH(turn_bias_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, to, from_kind == MIXED_F32 ? own : (int)MIXED_F32,
           (const void *)a->in[2].data, from_kind, n);
}

/* ---- what is asked of the library ---- */

struct half_way {
    const blas_plan *plan;
    bool fused;       /* nothing is left to do */
    bool into_pre;    /* else: the product makes what the activation is made of */
    bool residual;    /* the library adds it */
    bool turn_bias;   /* it gets one of another type, at bias_at of the workspace */
    size_t bias_at, all;
};

static blas_key key_of(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    const int64_t cols = x->dim[x->rank - 1];
    int64_t rows = 1;
    blas_key k;
    for (int i = 0; i + 1 < x->rank; i++)
        rows *= x->dim[i];
    memset(&k, 0, sizeof k);
    k.count = 1;
    k.type = a->in[0].type == DTYPE_F16 ? BLAS_R_16F : BLAS_R_16BF;
    k.compute = BLAS_COMPUTE_32F;
    k.a_transposed = at->transA != 0;
    k.b_transposed = at->transB != 0;
    k.m = k.a_transposed ? cols : rows;
    k.k = k.a_transposed ? rows : cols;
    k.n = w->dim[k.b_transposed ? 0 : 1];
    return k;
}
static int type_of(const blas_key *k, dtype t)
{
    return t == DTYPE_F32 ? BLAS_R_32F : k->type;
}

static half_way way_of(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const bool bias = is_there(a->in, a->n_in, 2), residual = is_there(a->in, a->n_in, 3), pre = is_there(a->out, a->n_out, 1);
    const dtype y = a->out[0].type;
    const int32_t with_bias = bias ? BLAS_EPILOGUE_BIAS : BLAS_EPILOGUE_NONE;
    half_way w = {};
    if (!a->queue->blas)
        return w;
    blas_key k = key_of(a);
    if (k.m < 1 || k.n < 1 || k.k < 1)
        return w;
    k.y_type = type_of(&k, y);
    k.epilogue = with_bias;
    if ((!residual || a->in[3].type == y) && (!pre || a->out[1].type == y)) { /* all at once */
        blas_key all = k;
        bool known = at->activation == ACTIVATION_NONE && !pre;
        all.adds = residual;
        if (at->activation == ACTIVATION_RELU && !pre) {
            all.epilogue = BLAS_EPILOGUE_RELU | (bias ? BLAS_EPILOGUE_BIAS : 0);
            known = true;
        } else if (at->activation == ACTIVATION_GELU_TANH && (!pre || k.n % 8 == 0)) {
            all.epilogue = BLAS_EPILOGUE_GELU_TANH | (bias ? BLAS_EPILOGUE_BIAS : 0) | (pre ? BLAS_EPILOGUE_AUX : 0);
            known = true;
        }
        w.plan = known ? cuda_blas_plan(a->queue, &all) : NULL;
        w.fused = w.residual = w.plan != NULL;
    }
    if (!w.plan) { /* the product with its bias, into what is kept of it */
        const dtype to = pre ? a->out[1].type : y;
        k.y_type = type_of(&k, to);
        k.adds = residual && a->in[3].type == to;
        w.residual = k.adds != 0;
        w.into_pre = pre;
        w.plan = cuda_blas_plan(a->queue, &k);
    }
    if (!w.plan)
        return w;
    w.all = (w.plan->choice.workspace + 255) / 256 * 256;
    w.turn_bias = bias && w.plan->key.y_type != type_of(&k, a->in[2].type);
    w.bias_at = w.all;
    w.all += w.turn_bias ? ((size_t)k.n * 4 + 255) / 256 * 256 : 0;
    return w;
}
static bool linear_takes(const kernel_args *a)
{
    const int64_t own = a->in[0].type == DTYPE_F16 ? PRECISION_F16 : PRECISION_BF16, asked = ((const linear_attrs *)a->attr)->precision;
    return (asked == PRECISION_FP32 || asked == own) && way_of(a).plan != NULL; /* else they are to be rounded to another type */
}
static size_t linear_workspace(const kernel_args *a)
{
    return way_of(a).all;
}
/* A constant bias changes once. */
static size_t linear_prepared(const kernel_args *a)
{
    return is_there(a->in, a->n_in, 2) && a->in[2].data && way_of(a).turn_bias ? (size_t)shape_count(&a->in[2].sh) * 4 : 0;
}
static void linear_prepare(const kernel_args *a, void *to)
{
    turn_bias(a, to);
}

static void linear_run(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const half_way w = way_of(a);
    const bool bias = is_there(a->in, a->n_in, 2), residual = is_there(a->in, a->n_in, 3), pre = is_there(a->out, a->n_out, 1);
    char *work = (char *)a->work;
    blas_operands o = {};
    o.y = w.into_pre ? a->out[1].data : a->out[0].data;
    o.a = a->in[0].data;
    o.b = a->in[1].data;
    o.alpha = (float)at->alpha;
    o.beta = 1;
    o.work = a->work;
    o.c = residual && w.residual ? a->in[3].data : NULL;
    o.aux = w.fused && pre ? a->out[1].data : NULL;
    if (bias)
        o.bias = a->in[2].data;
    if (w.turn_bias) {
        if (!a->prepared)
            turn_bias(a, work + w.bias_at);
        o.bias = a->prepared ? a->prepared : work + w.bias_at;
    }
    cuda_blas_run(a->queue, w.plan, &o);
    const bool add = residual && !w.residual;
    if (w.fused || (!add && !pre && at->activation == ACTIVATION_NONE))
        return;
    after_args g = {};
    const kernel_tensor *from = &a->out[w.into_pre ? 1 : 0];
    g.y = a->out[0].data;
    g.y_kind = mixed_kind_of(a->out[0].type);
    g.from = from->data;
    g.from_kind = mixed_kind_of(from->type);
    g.activation = (int)at->activation;
    if (add) {
        g.residual = a->in[3].data;
        g.residual_kind = mixed_kind_of(a->in[3].type);
        g.pre = w.into_pre ? a->out[1].data : NULL;
        g.pre_kind = g.from_kind;
    }
    const int64_t n = shape_count(&a->out[0].sh);
    LAUNCH(after_kernel, grid_for(a->queue, n, 8), CUDA_THREADS, 0, a->queue, g, n);
}

#define ROW(E)                                                                                                         \
    {.op = OP_LINEAR, .name = "linear cuBLASLt " #E, .run = linear_run, .workspace = linear_workspace, .takes = linear_takes, .method = "cuBLASLt", \
     .narrow = DTYPE_##E, .narrow_in = 15, .narrow_out = 3, .either_in = 12, .either_out = 1, .prepared = linear_prepared, \
     .prepare = linear_prepare}

CUDA_TABLE(blas_half) = {ROW(F16), ROW(BF16), KERNEL_END};
