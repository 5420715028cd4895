/* rows.c - every operator that TFLite files are written with, one row each. */
#include "tflite/writer.h"

#include <math.h>

static void clamp_relu(const node *n, double *lo, double *hi)
{
    (void)n;
    *lo = fmax(*lo, 0);
    *hi = fmax(*hi, 0);
}

static void clamp_clip(const node *n, double *lo, double *hi)
{
    const clip_attrs *a = n->attr;
    *lo = fmin(fmax(*lo, a->min), a->max);
    *hi = fmin(fmax(*hi, a->min), a->max);
}

/* int8 weights: constant bytes whose zero is 0 (128 of uint8), one scale or one for each output; `dim` is theirs. */
static bool weights_ok(const writer *w, value_id v, int dim)
{
    qdq q;
    if (!qdq_behind(w->g, v, &q) || !q.data || (q.type != DTYPE_I8 && q.type != DTYPE_U8) || (q.n > 1 && q.axis != dim))
        return false;
    for (int64_t i = 0; i < q.n; i++)
        if (qdq_zero(&q, i) != (q.type == DTYPE_U8 ? 128 : 0))
            return false;
    return true;
}

static bool conv_int8_ok(const writer *w, const node *n)
{
    return weights_ok(w, n->in[1], 0) && (n->n_in < 3 || !n->in[2] || qdq_is_const(w->g, n->in[2]));
}

static bool gemm_int8_ok(const writer *w, const node *n)
{
    const gemm_attrs *a = n->attr;
    return a->alpha == 1 && a->beta == 1 && !a->transA && weights_ok(w, n->in[1], a->transB ? 0 : 1) &&
           (n->n_in < 3 || !n->in[2] || qdq_is_const(w->g, n->in[2]));
}

static bool matmul_int8_ok(const writer *w, const node *n)
{
    return graph_value(w->g, n->in[1])->sh.rank == 2 && weights_ok(w, n->in[1], 1);
}

const tfl_row tfl_rows[OP_COUNT] = {
    [OP_QUANTIZE_LINEAR] = {.emit = emit_quantize, .keeps_order = true},
    [OP_DEQUANTIZE_LINEAR] = {.emit = emit_dequantize, .keeps_order = true},
    [OP_CONV] = {.emit = emit_conv, .int8 = true, .fuses = true, .data_in = 1, .int8_ok = conv_int8_ok},
    [OP_GEMM] = {.emit = emit_gemm, .int8 = true, .fuses = true, .data_in = 1, .columns = true, .int8_ok = gemm_int8_ok},
    [OP_MATMUL] = {.emit = emit_matmul, .int8 = true, .fuses = true, .data_in = 1, .columns = true, .int8_ok = matmul_int8_ok},
    [OP_MAX_POOL] = {.emit = emit_max_pool},
    [OP_AVERAGE_POOL] = {.emit = emit_average_pool, .fuses = true},
    [OP_GLOBAL_MAX_POOL] = {.emit = emit_global_max_pool},
    [OP_GLOBAL_AVERAGE_POOL] = {.emit = emit_global_average_pool, .int8 = true, .data_in = 1},
    [OP_REDUCE_MEAN] = {.emit = emit_reduce_mean, .int8 = true, .data_in = 1},
    [OP_RESIZE] = {.emit = emit_resize},
    [OP_PAD] = {.emit = emit_pad},
    [OP_RESHAPE] = {.emit = emit_reshape}, [OP_FLATTEN] = {.emit = emit_reshape}, [OP_SQUEEZE] = {.emit = emit_reshape},
    [OP_UNSQUEEZE] = {.emit = emit_reshape},
    [OP_TRANSPOSE] = {.emit = emit_transpose},
    [OP_CONCAT] = {.emit = emit_concat},
    [OP_IDENTITY] = {.emit = emit_same, .keeps_order = true}, [OP_DROPOUT] = {.emit = emit_same, .keeps_order = true},
    [OP_RELU] = {.emit = emit_clamp, .int8 = true, .data_in = 1, .keeps_order = true, .clamp = clamp_relu},
    [OP_CLIP] = {.emit = emit_clamp, .int8 = true, .data_in = 1, .keeps_order = true, .clamp = clamp_clip},
    [OP_LEAKY_RELU] = {.emit = emit_leaky_relu, .keeps_order = true},
    [OP_SIGMOID] = {.emit = emit_unary, .code = TFL_LOGISTIC, .keeps_order = true},
    [OP_TANH] = {.emit = emit_unary, .code = TFL_TANH, .keeps_order = true},
    [OP_HARD_SWISH] = {.emit = emit_unary, .code = TFL_HARD_SWISH, .option_type = TFL_OPT_HARD_SWISH, .keeps_order = true},
    [OP_SOFTMAX] = {.emit = emit_softmax},
    [OP_ADD] = {.emit = emit_binary, .code = TFL_ADD, .option_type = TFL_OPT_ADD, .int8 = true, .fuses = true, .data_in = 2,
                .keeps_order = true},
    [OP_SUB] = {.emit = emit_binary, .code = TFL_SUB, .option_type = TFL_OPT_SUB, .int8 = true, .fuses = true, .data_in = 2,
                .keeps_order = true},
    [OP_MUL] = {.emit = emit_binary, .code = TFL_MUL, .option_type = TFL_OPT_MUL, .int8 = true, .fuses = true, .data_in = 2,
                .keeps_order = true},
    [OP_DIV] = {.emit = emit_binary, .code = TFL_DIV, .option_type = TFL_OPT_DIV, .fuses = true, .keeps_order = true},
    [OP_BATCH_NORM] = {.emit = emit_batch_norm},
};
