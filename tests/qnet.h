/* qnet.h - small networks layer by layer, in float or in QDQ form, ordinary or portable, with random weights: for tests. */
#ifndef DISTILL_TESTS_QNET_H
#define DISTILL_TESTS_QNET_H

#include "base/rng.h"
#include "graph/graph.h"

typedef struct qnet {
    graph *g;
    value_id v;    /* the last layer's result: float; in QDQ form what DequantizeLinear gives */
    dtype act;     /* DTYPE_NONE: a float net. DTYPE_U8, DTYPE_I8: codes of activations */
    bool portable; /* weights multiples of 4 up to 64, biases 2 mod 4, scales powers of two */
    float scale;   /* of v, in QDQ form */
    rng r;
    int layers;    /* so far: the next is named "LAYERS" with its kind before it */
} qnet;

/* `zero` is a zero point in uint8 terms everywhere: int8 nets subtract 128. */
qnet qnet_new(dtype act, bool portable, shape input, float scale, int zero, uint64_t seed);
/* Rounds v to codes: QuantizeLinear and DequantizeLinear with parameters of their own. Nothing in a float net. */
void qnet_round(qnet *n, float scale, int zero);

typedef struct qconv {
    int64_t out, kernel, stride, group, dilation, pads[4]; /* stride, group, dilation 0: 1; pads as ONNX's */
    bool no_bias, per_tensor;
    int weight_zeros; /* > 0: only every n-th weight is not zero */
} qconv;
/* Named conv%d with constants conv%d_w (codes), _ws (their scales), _b, _bs. Weight scales lie around wscale. */
void qnet_conv(qnet *n, qconv c, float wscale);
void qnet_gemm(qnet *n, int64_t out, bool trans_b, float wscale); /* of [N, K] */
void qnet_node(qnet *n, op_id op, const void *attr);              /* one operator with default or given attributes */
void qnet_relu(qnet *n);
/* v = v + other, and so on. */
void qnet_two(qnet *n, op_id op, value_id other, const void *attr);
/* The graph with v as its output "y". */
graph *qnet_end(qnet *n);

/* A random net of five to nine layers inside the rules of portable INT8 (quant/portable.h): convolutions (also depthwise, strided,
 * at the bounds of the shift), residuals, pools, concatenation, nearest resize, a Gemm; input [batch, 2, 8, 8] on the grid.
 * `s8`: profile portable-s8 (act must be DTYPE_I8). */
graph *qnet_portable(uint64_t seed, dtype act, bool s8, int64_t batch);
/* The scale and zero point (in uint8 terms) of its input. */
#define QNET_INPUT_SCALE(s8) ((s8) ? 1 / 128.0f : 1 / 256.0f)

/* Uniform numbers into the input, and the graph's outputs from our executor (first output; caller frees with mem_free).
 * `grid` > 0: inputs are multiples of it. `fused`: what frozen models run with (integer groups among it). */
void qnet_run(const graph *g, uint64_t seed, float lo, float hi, float grid, float **x, float **y, bool fused);

#endif
