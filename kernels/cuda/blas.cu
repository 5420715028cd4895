/* blas.cu - MatMul (of matrices that lie in float16 or bfloat16 too), Gemm and Linear through cuBLASLt (blas.h). Epilogues that mean
 * exactly what the operator means are its own; where it has none, the product is followed by one pass that adds the bias and applies
 * the activation. */
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/blas.cuh"

/* ---- what follows a product that the library could not finish ---- */

/* y [m, n] += beta * c, then the activation; pre (or NULL) keeps what it was applied to. c: [m, n] through steps. */
__global__ static void finish_kernel(float *y, float *pre, const float *c, float beta, int64_t c_row, int64_t c_col, int64_t m,
                                     int64_t n, int activation)
{
    GRID_STRIDE(i, m * n)
    {
        int64_t row = i / n;
        float v = y[i];
        if (c)
            v += beta * c[row * c_row + (i - row * n) * c_col];
        if (pre)
            pre[i] = v;
        y[i] = activation_result(activation, v);
    }
}
__global__ static void finish_rows_kernel(float4 *y, float4 *pre, const float4 *bias, int64_t m, int64_t n4, int activation)
{
    GRID_STRIDE(i, m * n4)
    {
        float4 v = y[i];
        if (bias) {
            const float4 b = bias[i % n4];
            v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
        }
        if (pre)
            pre[i] = v;
        y[i] = activation_result(activation, v);
    }
}

static void finish(const kernel_args *a, float *pre, const float *c, float beta, int64_t c_row, int64_t c_col, int64_t m, int64_t n,
                   int activation)
{
    float *y = (float *)a->out[0].data;
    if (n % 4 == 0 && is_vector(y) && is_vector(pre) && is_vector(c) && (!c || (c_row == 0 && c_col == 1 && beta == 1)))
        LAUNCH(finish_rows_kernel, grid_for(a->queue, m * n / 4, 1), CUDA_THREADS, 0, a->queue, (float4 *)y, (float4 *)pre,
               (const float4 *)c, m, n / 4, activation);
    else
        LAUNCH(finish_kernel, grid_for(a->queue, m * n, 4), CUDA_THREADS, 0, a->queue, y, pre, c, beta, c_row, c_col, m, n,
               activation);
}

/* ---- MatMul ---- */

/* Steps of an operand through the batch: one number where it has one. */
static bool batch_step(const shape *s, const int64_t *dim, int rank, int64_t each, int64_t *step)
{
    int64_t own = each, inner = 1;
    *step = -1;
    for (int i = rank - 1, j = s->rank - 3; i >= 0; i--, j--) {
        int64_t here = j >= 0 && s->dim[j] > 1 ? own : 0;
        if (j >= 0)
            own *= s->dim[j];
        if (dim[i] == 1)
            continue;
        if (*step >= 0 && here != *step * inner)
            return false;
        if (*step < 0)
            *step = here;
        inner *= dim[i];
    }
    *step = *step < 0 ? 0 : *step;
    return true;
}

/* s without `n` of the axes before its matrices (those that it has). */
static shape without_axes(const shape *s, int n)
{
    shape out = *s;
    const int have = s->rank - 2, drop = n < have ? n : have;
    if (have < 1 || drop < 1)
        return out;
    for (int i = s->rank - 2; i < s->rank; i++)
        out.dim[i - drop] = s->dim[i];
    out.rank -= drop;
    return out;
}

/* Operands are of one type: float32, or the one of halves that they lie in; the result's may be float32 then. */
static bool matmul_key(const kernel_args *a, blas_key *k)
{
    const matmul_attrs *at = (const matmul_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    int rank = (x->rank > w->rank ? x->rank : w->rank) - 2, folded = 0;
    bool folds = !at->transA;
    int64_t dim[RANK_MAX];
    *k = empty_key(a->queue);
    set_sizes(k, x->rank > 1 ? x->dim[x->rank - 2] : 1, x->dim[x->rank - 1], at->transA != 0,
              w->rank > 1 ? w->dim[w->rank - 2] : w->dim[0], w->rank > 1 ? w->dim[w->rank - 1] : 1, at->transB != 0);
    if (a->in[0].type != DTYPE_F32) {
        k->type = a->in[0].type == DTYPE_F16 ? BLAS_R_16F : BLAS_R_16BF;
        k->y_type = a->out[0].type == DTYPE_F32 ? BLAS_R_32F : k->type;
        k->compute = BLAS_COMPUTE_32F;
    }
    for (int i = rank - 1; i >= 0; i--) {
        int ix = x->rank - 2 - rank + i, iw = w->rank - 2 - rank + i;
        int64_t dx = ix >= 0 ? x->dim[ix] : 1, dw = iw >= 0 ? w->dim[iw] : 1;
        dim[i] = dx == 1 ? dw : dx;
        folds = folds && dw == 1 && dx == dim[i]; /* one B for all of an innermost axis: its rows are rows of A */
        if (folds) {
            k->m *= dim[i];
            folded++;
        } else {
            k->count *= dim[i];
        }
    }
    const shape left = without_axes(x, folded), right = without_axes(w, folded);
    rank = rank > folded ? rank - folded : 0;
    if (!batch_step(&left, dim, rank, k->m * k->k, &k->a_step) || !batch_step(&right, dim, rank, k->k * k->n, &k->b_step))
        return false;
    if (k->count == 1)
        k->a_step = k->b_step = 0;
    return !is_empty(k);
}

static const blas_plan *matmul_plan(const kernel_args *a)
{
    blas_key k;
    return a->queue->blas && matmul_key(a, &k) ? cuda_blas_plan(a->queue, &k) : NULL;
}
static bool matmul_takes(const kernel_args *a)
{
    return matmul_plan(a) != NULL;
}
static size_t matmul_workspace(const kernel_args *a)
{
    return workspace_of(matmul_plan(a));
}
static void matmul_run(const kernel_args *a)
{
    blas_operands o = {};
    o.y = a->out[0].data;
    o.a = a->in[0].data;
    o.b = a->in[1].data;
    o.alpha = 1;
    o.work = a->work;
    cuda_blas_run(a->queue, matmul_plan(a), &o);
}

/* ---- Gemm ---- */

struct gemm_way {
    const blas_plan *plan;
    bool bias, whole;     /* C is the library's: as a bias, or as a matrix */
    int64_t c_row, c_col; /* else its steps */
};

static gemm_way gemm_ways(const kernel_args *a)
{
    const gemm_attrs *at = (const gemm_attrs *)a->attr;
    gemm_way g = {};
    blas_key k, plain;
    if (!a->queue->blas)
        return g;
    k = empty_key(a->queue);
    set_sizes(&k, a->in[0].sh.dim[0], a->in[0].sh.dim[1], at->transA != 0, a->in[1].sh.dim[0], a->in[1].sh.dim[1], at->transB != 0);
    if (is_empty(&k))
        return g;
    plain = k;
    if (is_there(a->in, a->n_in, 2) && at->beta != 0) {
        const shape *c = &a->in[2].sh;
        int64_t cols = c->rank ? c->dim[c->rank - 1] : 1, rows = c->rank > 1 ? c->dim[0] : 1;
        g.c_row = rows > 1 ? cols : 0;
        g.c_col = cols > 1;
        g.whole = rows == k.m && cols == k.n && c->rank == 2;
        g.bias = !g.whole && rows == 1 && cols == k.n && at->beta == 1;
        k.adds = g.whole;
        k.epilogue = g.bias ? BLAS_EPILOGUE_BIAS : BLAS_EPILOGUE_NONE;
    }
    g.plan = cuda_blas_plan(a->queue, &k);
    if (!g.plan && g.bias) {
        g.bias = false;
        g.plan = cuda_blas_plan(a->queue, &plain);
    }
    return g;
}
static bool gemm_takes(const kernel_args *a)
{
    return gemm_ways(a).plan != NULL;
}
static size_t gemm_workspace(const kernel_args *a)
{
    return workspace_of(gemm_ways(a).plan);
}
static void gemm_run(const kernel_args *a)
{
    const gemm_attrs *at = (const gemm_attrs *)a->attr;
    const gemm_way g = gemm_ways(a);
    blas_operands o = {};
    o.y = a->out[0].data;
    o.a = a->in[0].data;
    o.b = a->in[1].data;
    o.alpha = (float)at->alpha;
    o.beta = (float)at->beta;
    o.work = a->work;
    if (g.whole)
        o.c = a->in[2].data;
    if (g.bias)
        o.bias = a->in[2].data;
    cuda_blas_run(a->queue, g.plan, &o);
    if (is_there(a->in, a->n_in, 2) && at->beta != 0 && !g.whole && !g.bias)
        finish(a, NULL, (const float *)a->in[2].data, (float)at->beta, g.c_row, g.c_col, g.plan->key.m, g.plan->key.n, ACTIVATION_NONE);
}

/* ---- Linear ---- */

struct linear_way {
    const blas_plan *plan;
    bool fused;            /* bias and activation are the library's */
    bool rounded;          /* the operands are rounded before; else the library does that itself */
    size_t a_at, b_at, all; /* of the workspace, where rounded operands lie */
};

/* The epilogue that means this activation. */
static bool epilogue_of(const linear_attrs *at, bool bias, bool pre, int64_t n, int32_t *out)
{
    int epilogue = bias ? BLAS_EPILOGUE_BIAS : 0;
    bool known = at->activation == ACTIVATION_NONE && !pre;
    if (at->activation == ACTIVATION_RELU && !pre) {
        epilogue |= BLAS_EPILOGUE_RELU;
        known = true;
    } else if (at->activation == ACTIVATION_GELU_TANH && (!pre || n % 8 == 0)) {
        epilogue |= BLAS_EPILOGUE_GELU_TANH | (pre ? BLAS_EPILOGUE_AUX : 0);
        known = true;
    }
    *out = epilogue ? epilogue : BLAS_EPILOGUE_NONE;
    return known;
}

/* Fused where the library can, else plain. */
static void find_plan(const kernel_args *a, linear_way *l, blas_key k)
{
    const blas_key plain = k;
    if (epilogue_of((const linear_attrs *)a->attr, is_there(a->in, a->n_in, 2), is_there(a->out, a->n_out, 1), k.n, &k.epilogue)) {
        l->plan = cuda_blas_plan(a->queue, &k);
        l->fused = l->plan != NULL;
    }
    if (!l->plan)
        l->plan = cuda_blas_plan(a->queue, &plain);
}

static linear_way linear_ways(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *w = &a->in[1].sh;
    linear_way l = {};
    blas_key k;
    if (!a->queue->blas || at->precision == PRECISION_FP8)
        return l;
    k = empty_key(a->queue);
    set_sizes(&k, rows_of(x), x->dim[x->rank - 1], at->transA != 0, w->dim[0], w->dim[1], at->transB != 0);
    if (is_empty(&k))
        return l;
    k.adds = is_there(a->in, a->n_in, 3);
    if (at->precision != PRECISION_FP32) {
        const bool f16 = at->precision == PRECISION_F16;
        blas_key half = k;
        half.type = f16 ? BLAS_R_16F : BLAS_R_16BF;
        half.compute = BLAS_COMPUTE_32F;
        find_plan(a, &l, half);
        l.rounded = l.plan != NULL;
        k.compute = f16 ? BLAS_COMPUTE_32F_FAST_16F : BLAS_COMPUTE_32F_FAST_16BF;
    }
    if (!l.plan)
        find_plan(a, &l, k);
    l.all = workspace_of(l.plan);
    if (l.rounded) {
        l.a_at = l.all;
        l.all += rounded_bytes(k.m, k.k);
        l.b_at = l.all;
        l.all += a->prepared ? 0 : rounded_bytes(k.k, k.n);
    }
    return l;
}
static bool linear_takes(const kernel_args *a)
{
    return linear_ways(a).plan != NULL;
}
static size_t linear_workspace(const kernel_args *a)
{
    return linear_ways(a).all;
}
/* A constant B is rounded once. */
static size_t linear_prepared(const kernel_args *a)
{
    return a->in[1].data && linear_ways(a).rounded ? rounded_bytes(a->in[1].sh.dim[0], a->in[1].sh.dim[1]) : 0;
}
static void linear_prepare(const kernel_args *a, void *to)
{
    round_operand(a, ((const linear_attrs *)a->attr)->precision, to, a->in[1].data, a->in[1].sh.dim[0] * a->in[1].sh.dim[1]);
}
static void linear_run(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const linear_way l = linear_ways(a);
    const bool pre = is_there(a->out, a->n_out, 1), bias = is_there(a->in, a->n_in, 2);
    char *work = (char *)a->work;
    blas_operands o = {};
    o.y = a->out[0].data;
    o.a = a->in[0].data;
    o.b = a->in[1].data;
    o.alpha = (float)at->alpha;
    o.beta = 1;
    o.work = a->work;
    o.c = l.plan->key.adds ? a->in[3].data : NULL;
    o.bias = bias ? a->in[2].data : NULL;
    o.aux = pre ? a->out[1].data : NULL;
    if (l.rounded) {
        const blas_key *k = &l.plan->key;
        round_operand(a, at->precision, work + l.a_at, o.a, k->m * k->k);
        if (!a->prepared)
            round_operand(a, at->precision, work + l.b_at, o.b, k->k * k->n);
        o.a = work + l.a_at;
        o.b = a->prepared ? a->prepared : work + l.b_at;
    }
    cuda_blas_run(a->queue, l.plan, &o);
    if (!l.fused && (bias || pre || at->activation != ACTIVATION_NONE))
        finish(a, (float *)o.aux, (const float *)o.bias, 1, 0, 1, l.plan->key.m, l.plan->key.n, (int)at->activation);
}

#define HALF_ROW(E)                                                                                                    \
    {.op = OP_MATMUL, .name = "matmul cuBLASLt " #E, .run = matmul_run, .workspace = matmul_workspace, .takes = matmul_takes, \
     .narrow = DTYPE_##E, .narrow_in = 3, .narrow_out = 1, .either_out = 1}

CUDA_TABLE(blas) = {
    HALF_ROW(F16), HALF_ROW(BF16),
    {.op = OP_MATMUL, .type = DTYPE_F32, .name = "matmul cuBLASLt", .run = matmul_run, .workspace = matmul_workspace,
     .takes = matmul_takes},
    {.op = OP_GEMM, .type = DTYPE_F32, .name = "gemm cuBLASLt", .run = gemm_run, .workspace = gemm_workspace, .takes = gemm_takes},
    {.op = OP_LINEAR, .type = DTYPE_F32, .name = "linear cuBLASLt", .run = linear_run, .workspace = linear_workspace,
     .takes = linear_takes, .method = "cuBLASLt", .prepared = linear_prepared, .prepare = linear_prepare, .packed_in = 1u << 1},
    KERNEL_END};
