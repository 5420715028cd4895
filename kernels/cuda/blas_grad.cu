/* blas_grad.cu - LinearGradData, LinearGradWeight and LinearMasked through cuBLASLt, where it has an epilogue that does all of it:
 * the slope of gelu by tanh, that of relu by the mask which the library's own forward product made, and the sums of an operand's
 * rows. It has none of the exact gelu or of tanh: these stay a product and a node beside it (exec/fuse_linear_grad.c). */
#include "kernels/cuda/blas.cuh"

struct grad_way {
    const blas_plan *plan;
    bool rounded; /* the operands are rounded before; else the library does that itself */
    size_t a_at, b_at, bias_at, all;
};

/* All operands are float32, but for a mask; of those that lie in halves (the rows' masks say which) the rest is looked at where they
 * are taken. */
static bool are_floats(const kernel_args *a)
{
    bool ok = true;
    if (a->in[0].type != DTYPE_F32)
        return true;
    for (int i = 0; i < a->n_in; i++)
        ok = ok && (a->in[i].type == DTYPE_F32 || a->in[i].type == DTYPE_NONE || (i == 2 && a->in[i].type == DTYPE_U8));
    for (int i = 0; i < a->n_out; i++)
        ok = ok && (a->out[i].type == DTYPE_F32 || (i == 1 && a->out[i].type == DTYPE_U8));
    return ok;
}

/* As operands of halves where they lie so or are to be rounded, else with the library rounding them. */
static grad_way grad_ways(const kernel_args *a, int64_t precision, blas_key k)
{
    grad_way w = {};
    if (is_empty(&k))
        return w;
    if (a->in[0].type != DTYPE_F32) {
        if (precision == (a->in[0].type == DTYPE_F16 ? PRECISION_BF16 : PRECISION_F16)) /* to be rounded to another type */
            return w;
        k.type = a->in[0].type == DTYPE_F16 ? BLAS_R_16F : BLAS_R_16BF;
        k.y_type = a->out[0].type == DTYPE_F32 ? BLAS_R_32F : k.type;
        k.compute = BLAS_COMPUTE_32F;
        w.plan = cuda_blas_plan(a->queue, &k);
        w.all = workspace_of(w.plan);
        return w;
    }
    if (precision != PRECISION_FP32) {
        const bool f16 = precision == PRECISION_F16;
        blas_key half = k;
        half.type = f16 ? BLAS_R_16F : BLAS_R_16BF;
        half.compute = BLAS_COMPUTE_32F;
        w.plan = cuda_blas_plan(a->queue, &half);
        w.rounded = w.plan != NULL;
        k.compute = f16 ? BLAS_COMPUTE_32F_FAST_16F : BLAS_COMPUTE_32F_FAST_16BF;
    }
    if (!w.plan)
        w.plan = cuda_blas_plan(a->queue, &k);
    w.all = workspace_of(w.plan);
    if (w.rounded) {
        w.a_at = w.all;
        w.b_at = w.a_at + rounded_bytes(k.m, k.k);
        w.all = w.b_at + rounded_bytes(k.k, k.n);
    }
    return w;
}

static void run_way(const kernel_args *a, const grad_way &w, double alpha, int64_t precision, blas_operands o)
{
    const blas_key *k = &w.plan->key;
    char *work = (char *)a->work;
    o.y = a->out[0].data;
    o.a = a->in[0].data;
    o.b = a->in[1].data;
    o.alpha = (float)alpha;
    o.beta = 1;
    o.work = work;
    if (w.rounded) {
        round_operand(a, precision, work + w.a_at, o.a, k->m * k->k);
        round_operand(a, precision, work + w.b_at, o.b, k->k * k->n);
        o.a = work + w.a_at;
        o.b = work + w.b_at;
    }
    cuda_blas_run(a->queue, w.plan, &o);
}

/* ---- the data ---- */

static grad_way data_way(const kernel_args *a)
{
    const linear_grad_attrs *at = (const linear_grad_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *b = &a->in[1].sh;
    const bool masked = a->in[2].type == DTYPE_U8, lies = a->in[0].type != DTYPE_F32;
    if (lies && ((!masked && a->in[2].type != a->out[0].type) || (is_there(a->in, a->n_in, 3) && a->in[3].type != a->out[0].type)))
        return grad_way(); /* one type for all that is as large as the result */
    if (!a->queue->blas || at->activation != (masked ? ACTIVATION_RELU : ACTIVATION_GELU_TANH))
        return grad_way();
    blas_key k = empty_key(a->queue);
    set_sizes(&k, rows_of(x), x->dim[x->rank - 1], false, b->dim[0], b->dim[1], at->transB != 0);
    k.adds = is_there(a->in, a->n_in, 3);
    k.epilogue = masked ? BLAS_EPILOGUE_RELU_SLOPE : BLAS_EPILOGUE_GELU_TANH_SLOPE;
    return masked || k.n % 8 == 0 ? grad_ways(a, at->precision, k) : grad_way(); /* steps of what was kept: cublasLt.h */
}
static bool data_takes(const kernel_args *a)
{
    return are_floats(a) && data_way(a).plan != NULL;
}
static size_t data_workspace(const kernel_args *a)
{
    return data_way(a).all;
}
static void data_run(const kernel_args *a)
{
    const linear_grad_attrs *at = (const linear_grad_attrs *)a->attr;
    blas_operands o = {};
    o.aux = a->in[2].data;
    o.c = is_there(a->in, a->n_in, 3) ? a->in[3].data : NULL;
    run_way(a, data_way(a), at->alpha, at->precision, o);
}

/* ---- the weight ---- */

static grad_way weight_way(const kernel_args *a)
{
    const linear_grad_attrs *at = (const linear_grad_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *b = &a->in[1].sh;
    if (!a->queue->blas || a->out[0].type != DTYPE_F32 || a->out[1].type != DTYPE_F32)
        return grad_way();
    blas_key k = empty_key(a->queue);
    set_sizes(&k, rows_of(x), x->dim[x->rank - 1], true, rows_of(b), b->dim[b->rank - 1], false);
    k.epilogue = at->sums_of ? BLAS_EPILOGUE_SUMS_FIRST : BLAS_EPILOGUE_SUMS_SECOND;
    return grad_ways(a, at->precision, k);
}
static bool weight_takes(const kernel_args *a)
{
    return are_floats(a) && weight_way(a).plan != NULL;
}
static size_t weight_workspace(const kernel_args *a)
{
    return weight_way(a).all;
}
static void weight_run(const kernel_args *a)
{
    const linear_grad_attrs *at = (const linear_grad_attrs *)a->attr;
    blas_operands o = {};
    o.sums = a->out[1].data;
    run_way(a, weight_way(a), at->alpha, at->precision, o);
}

/* ---- relu with its mask ---- */

/* The library wants bias and residual in the type of the result; a bias in float32 is rounded. */
static grad_way masked_way(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    const shape *x = &a->in[0].sh, *b = &a->in[1].sh;
    if (!a->queue->blas || (is_there(a->in, a->n_in, 3) && a->in[3].type != a->out[0].type) ||
        (is_there(a->in, a->n_in, 2) && a->in[2].type != DTYPE_F32 && a->in[2].type != a->out[0].type))
        return grad_way();
    blas_key k = empty_key(a->queue);
    set_sizes(&k, rows_of(x), x->dim[x->rank - 1], at->transA != 0, b->dim[0], b->dim[1], at->transB != 0);
    k.adds = is_there(a->in, a->n_in, 3);
    k.epilogue = BLAS_EPILOGUE_RELU | BLAS_EPILOGUE_AUX | (is_there(a->in, a->n_in, 2) ? BLAS_EPILOGUE_BIAS : 0);
    grad_way w = grad_ways(a, at->precision, k);
    w.bias_at = w.all;
    w.all += is_there(a->in, a->n_in, 2) && a->in[2].type != a->out[0].type ? rounded_bytes(1, k.n) : 0;
    return w;
}
static bool masked_takes(const kernel_args *a)
{
    return are_floats(a) && masked_way(a).plan != NULL;
}
static size_t masked_workspace(const kernel_args *a)
{
    return masked_way(a).all;
}
static void masked_run(const kernel_args *a)
{
    const linear_attrs *at = (const linear_attrs *)a->attr;
    blas_operands o = {};
    o.bias = is_there(a->in, a->n_in, 2) ? a->in[2].data : NULL;
    o.c = is_there(a->in, a->n_in, 3) ? a->in[3].data : NULL;
    o.aux = a->out[1].data;
    const grad_way w = masked_way(a);
    if (o.bias && a->in[2].type != a->out[0].type) {
        void *const to = (char *)a->work + w.bias_at;
        round_operand(a, a->out[0].type == DTYPE_F16 ? PRECISION_F16 : PRECISION_BF16, to, o.bias, w.plan->key.n);
        o.bias = to;
    }
    run_way(a, w, at->alpha, at->precision, o);
}

/* With operands that lie in halves; of a mask's reader all but the mask. */
#define ROWS(E)                                                                                                               \
    {.op = OP_LINEAR_GRAD_DATA, .name = "linear_grad_data cuBLASLt " #E, .run = data_run, .workspace = data_workspace,         \
     .takes = data_takes, .method = "cuBLASLt", .narrow = DTYPE_##E, .narrow_in = 15, .narrow_out = 1, .either_in = 12,        \
     .either_out = 1},                                                                                                        \
    {.op = OP_LINEAR_GRAD_DATA, .name = "linear_grad_data cuBLASLt " #E, .run = data_run, .workspace = data_workspace,         \
     .takes = data_takes, .method = "cuBLASLt", .narrow = DTYPE_##E, .narrow_in = 11, .narrow_out = 1, .either_in = 8,         \
     .either_out = 1},                                                                                                        \
    {.op = OP_LINEAR_GRAD_WEIGHT, .name = "linear_grad_weight cuBLASLt " #E, .run = weight_run, .workspace = weight_workspace, \
     .takes = weight_takes, .method = "cuBLASLt", .narrow = DTYPE_##E, .narrow_in = 3},                                       \
    {.op = OP_LINEAR_MASKED, .name = "linear_masked cuBLASLt " #E, .run = masked_run, .workspace = masked_workspace,           \
     .takes = masked_takes, .method = "cuBLASLt", .narrow = DTYPE_##E, .narrow_in = 15, .narrow_out = 1, .either_in = 12,       \
     .either_out = 1}

CUDA_TABLE(blas_grad) = {
    ROWS(F16), ROWS(BF16),
    {.op = OP_LINEAR_GRAD_DATA, .type = DTYPE_F32, .name = "linear_grad_data cuBLASLt", .run = data_run, .workspace = data_workspace,
     .takes = data_takes, .method = "cuBLASLt"},
    {.op = OP_LINEAR_GRAD_WEIGHT, .type = DTYPE_F32, .name = "linear_grad_weight cuBLASLt", .run = weight_run,
     .workspace = weight_workspace, .takes = weight_takes, .method = "cuBLASLt"},
    {.op = OP_LINEAR_MASKED, .type = DTYPE_F32, .name = "linear_masked cuBLASLt", .run = masked_run, .workspace = masked_workspace,
     .takes = masked_takes, .method = "cuBLASLt"},
    KERNEL_END};
