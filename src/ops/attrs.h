/* attrs.h - the attribute structs of the operators: what op rows, student files and kernels agree on.
 * Field names are the ONNX attribute (or, at newer opsets, input) names. Kernels read them; nothing here is a graph. */
#ifndef DISTILL_OPS_ATTRS_H
#define DISTILL_OPS_ATTRS_H

#include "graph/graph.h"

#define SPATIAL_MAX 3

typedef struct alpha_attrs { /* LeakyRelu, Elu, ThresholdedRelu */
    double alpha;
} alpha_attrs;
typedef struct hard_sigmoid_attrs {
    double alpha, beta;
} hard_sigmoid_attrs;
typedef struct clip_attrs { /* -inf, +inf when not given */
    double min, max;
} clip_attrs;
enum { GELU_NONE, GELU_TANH };
typedef struct gelu_attrs {
    int64_t approximate;
} gelu_attrs;
typedef struct cast_attrs {
    int64_t to; /* dtype */
    int64_t saturate;
} cast_attrs;
typedef struct mod_attrs {
    int64_t fmod;
} mod_attrs;
typedef struct operand_attrs { /* MinMaxGrad, PowGrad: whose gradient */
    int64_t operand;
} operand_attrs;

enum { AUTO_PAD_NOTSET, AUTO_PAD_SAME_UPPER, AUTO_PAD_SAME_LOWER, AUTO_PAD_VALID };
/* Conv and its gradients, pooling. After inference kernel_shape, strides, dilations and pads are complete
 * (pads: begin of every axis, then end of every axis) and auto_pad is NOTSET. */
typedef struct conv_attrs {
    attr_ints kernel_shape, strides, dilations, pads;
    int64_t group, auto_pad;
    int64_t relu;              /* hidden: epilogue max(x, 0), after in[3] (same shape as the output) was added */
    int64_t exact;             /* hidden: sums of products as they stand, nothing transformed (integers in float) */
    attr_ints data_shape;      /* hidden, ConvGradData: shape of the data whose gradient is made */
    attr_ints output_padding, output_shape; /* ConvTranspose only */
    double norm_epsilon, norm_ceiling; /* NormConv, NormConvGradWeight: of the norm before it; as in batch_norm_attrs */
    int64_t norm_relu;
} conv_attrs;
typedef struct pool_attrs {
    attr_ints kernel_shape, strides, dilations, pads;
    int64_t auto_pad, ceil_mode, count_include_pad, storage_order;
    attr_ints data_shape; /* hidden, AveragePoolGrad */
} pool_attrs;
enum { RESIZE_NEAREST, RESIZE_LINEAR, RESIZE_CUBIC };
enum { COORD_HALF_PIXEL, COORD_HALF_PIXEL_SYMMETRIC, COORD_PYTORCH_HALF_PIXEL, COORD_ALIGN_CORNERS, COORD_ASYMMETRIC, COORD_TF_CROP,
       COORD_TF_HALF_PIXEL_NN /* opset 11 and 12 only */ };
enum { NEAREST_ROUND_PREFER_FLOOR, NEAREST_ROUND_PREFER_CEIL, NEAREST_FLOOR, NEAREST_CEIL };
enum { ASPECT_STRETCH, ASPECT_NOT_LARGER, ASPECT_NOT_SMALLER };
typedef struct resize_attrs {
    int64_t mode, coordinate_transformation_mode, nearest_mode, antialias, exclude_outside, keep_aspect_ratio_policy;
    double cubic_coeff_a, extrapolation_value;
    attr_ints axes, sizes;
    attr_floats scales, roi;
    attr_ints data_shape; /* hidden, ResizeGrad */
} resize_attrs;

typedef struct gemm_attrs {
    double alpha, beta;
    int64_t transA, transB;
} gemm_attrs;
typedef struct matmul_attrs { /* hidden: gradients use transposed operands without copying them */
    int64_t transA, transB;
} matmul_attrs;
enum { ACTIVATION_NONE, ACTIVATION_RELU, ACTIVATION_GELU, ACTIVATION_GELU_TANH, ACTIVATION_TANH };
enum { PRECISION_FP32, PRECISION_BF16, PRECISION_F16, PRECISION_FP8 };
typedef struct linear_attrs { /* Linear: what pass_fuse_linear makes of a matrix product and what follows it */
    double alpha;
    int64_t transA, transB, activation;
    int64_t precision; /* to which both matrices are rounded; sums are float */
    double a_range, b_range; /* with PRECISION_FP8: what becomes the largest number of 8 bits; beyond it is cut */
} linear_attrs;
/* Bytes of a row of LinearMasked's mask. */
static inline int64_t linear_mask_bytes(int64_t columns)
{
    return (columns + 127) / 128 * 16;
}
typedef struct linear_grad_attrs { /* LinearGradData, LinearGradWeight: see src/ops/matmul.c */
    double alpha;
    int64_t transB, activation; /* of the data: B' and whose slope */
    int64_t sums_of;            /* of the weight: the operand whose rows are added up, 0 or 1 */
    int64_t precision;
} linear_grad_attrs;

typedef struct attention_attrs { /* *_tokens: the operand lies as [B, S, H, D] instead of [B, H, S, D] */
    double scale;
    int64_t q_tokens, k_tokens, v_tokens, y_tokens;
    int64_t precision; /* hidden: operands of the products may be rounded so (PRECISION_...); the gradient is not */
} attention_attrs;

typedef struct batch_norm_attrs {
    double epsilon, momentum;
    int64_t training_mode;
    int64_t unbiased; /* hidden, BatchNormStats: running variance takes n/(n-1) (PyTorch); ONNX's rule: 0 */
    int64_t count;    /* hidden, BatchNormStats: elements per channel */
    int64_t relu;     /* hidden: y = max(y, 0), in BatchNormTrain after in[3] (same shape) was added; BatchNormGrad: dy
                         counts where in[5], the y of the forward direction, is above 0 */
    double ceiling;   /* hidden, with relu: y = min(y, ceiling), and dy counts where y is below it; 0: none */
} batch_norm_attrs;
typedef struct layer_norm_attrs {
    int64_t axis;
    double epsilon;
    int64_t stash_type;
} layer_norm_attrs;
typedef struct instance_norm_attrs {
    double epsilon;
} instance_norm_attrs;
typedef struct axis_attrs { /* Softmax, LogSoftmax, Concat, Gather, Flatten, GatherElements */
    int64_t axis;
} axis_attrs;

typedef struct reduce_attrs {
    attr_ints axes;
    int64_t keepdims, noop_with_empty_axes;
} reduce_attrs;
typedef struct arg_attrs {
    int64_t axis, keepdims, select_last_index;
} arg_attrs;

typedef struct reshape_attrs {
    attr_ints shape;
    int64_t allowzero;
} reshape_attrs;
typedef struct axes_attrs { /* Squeeze, Unsqueeze */
    attr_ints axes;
} axes_attrs;
typedef struct dropout_attrs {
    double ratio;
    int64_t training_mode, seed;
} dropout_attrs;
typedef struct transpose_attrs {
    attr_ints perm;
} transpose_attrs;
typedef struct split_attrs {
    int64_t axis, num_outputs;
    attr_ints split;
} split_attrs;
/* After inference: starts, steps have one entry for every axis of the input, axes is 0..rank-1. */
typedef struct slice_attrs {
    attr_ints starts, ends, axes, steps;
    attr_ints data_shape; /* hidden, SliceGrad */
} slice_attrs;
enum { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP };
typedef struct pad_attrs { /* after inference pads has 2 * rank entries and axes is not given */
    int64_t mode;
    attr_ints pads, axes;
    double constant_value;
    attr_ints data_shape; /* hidden, PadGrad */
} pad_attrs;
typedef struct gather_attrs {
    int64_t axis;
    attr_ints data_shape; /* hidden, GatherGrad */
} gather_attrs;
typedef struct shape_attrs { /* Expand: shape; Tile: repeats; ConstantOfShape: shape and value */
    attr_ints shape;
    attr_ints data_shape; /* hidden, TileGrad */
} shape_attrs;
typedef struct tile_attrs {
    attr_ints repeats;
    attr_ints data_shape; /* hidden, TileGrad */
} tile_attrs;
typedef struct constant_of_shape_attrs {
    attr_ints shape; /* ONNX input 0 */
    attr_tensor value;
} constant_of_shape_attrs;
typedef struct shape_op_attrs { /* Shape: the dimensions from start to end */
    int64_t start, end;
} shape_op_attrs;

enum { BATCH_PIXELS, BATCH_TABLE, BATCH_ROW, BATCH_NUMBER, BATCH_VIEW, BATCH_OTHER_ROW, BATCH_OTHER_NUMBER, BATCH_SHARE };
typedef struct batch_images_attrs { /* fields of augment_options (picture.h) */
    int64_t crop, flip, cutout;
    double brightness, contrast, saturation;
    int64_t seed;
} batch_images_attrs;

/* QuantizeLinear, DequantizeLinear. Convolutions of integers have conv_attrs, QGemm has gemm_attrs. */
typedef struct quant_attrs {
    int64_t axis;                    /* of a scale per channel */
    int64_t block_size, saturate;    /* block_size: 0, blocks are refused; saturate: 8-bit floats only, which do not exist here */
    int64_t output_dtype, precision; /* dtypes; DTYPE_NONE: not given */
} quant_attrs;

/* KdLoss: see src/ops/loss.c. */
typedef struct kd_loss_attrs {
    double label_smoothing;
    int64_t per_labelled; /* CE: divide by the labelled samples instead of the batch size */
    attr_floats class_weights;
} kd_loss_attrs;
enum { REGRESSION_MSE, REGRESSION_L1, REGRESSION_SMOOTH_L1 };
typedef struct regression_loss_attrs {
    int64_t kind;
    int64_t masked; /* samples whose target (input 1) holds a NaN are left out */
} regression_loss_attrs;

/* FakeQuant, its gradient and its range: integers q = offset mod multiple between qmin and qmax (see src/ops/fake_quant.c). */
typedef struct fake_quant_attrs {
    int64_t axis; /* of x, along which the scales stand when they are more than one */
    double qmin, qmax;
    int64_t multiple, offset; /* the grid without the zero point; 1 and 0: all integers */
    int64_t relu;             /* hidden: x = max(x, 0) first */
    double scale_grad;        /* factor of the scale's gradient; 0: it has none */
    double momentum;          /* FakeQuantRange: share of the batch in the range */
    int64_t fixed_zero;       /* FakeQuantRange: the zero point stays as it is */
} fake_quant_attrs;

/* Hyper-parameters that may change while training (learning rate, clip scale, step) are scalar inputs, not attributes. */
typedef struct sgd_attrs {
    double momentum, weight_decay;
    int64_t nesterov, decoupled;
    double ema; /* decay of the averaged parameter */
} sgd_attrs;
typedef struct adam_attrs {
    double beta1, beta2, eps, weight_decay;
    int64_t decoupled;
    double ema;
} adam_attrs;
/* Inputs of the updates: scalars, then a tuple for every parameter (src/ops/update.c). */
enum { UPDATE_LR, UPDATE_SCALE, UPDATE_STEP };
enum { SGD_HEAD = 2, ADAM_HEAD = 3 };
enum {
    UPDATE_PARAM,
    UPDATE_GRAD,
    UPDATE_EMA,
    SGD_MOMENTUM,
    SGD_COPY,
    SGD_PLACE,
    SGD_TUPLE,
    ADAM_M = SGD_MOMENTUM,
    ADAM_V,
    ADAM_COPY,
    ADAM_PLACE,
    ADAM_TUPLE
};
enum { ACCUMULATE_SUM, ACCUMULATE_GRAD, ACCUMULATE_SHARE, ACCUMULATE_PLACE };
typedef struct grad_norm_attrs {
    double max_norm; /* of all gradients together; inf: no clipping */
} grad_norm_attrs;
/* LossScale: inputs, then outputs. */
enum { LOSS_SCALE_NORM, LOSS_SCALE_SCALE, LOSS_SCALE_GOOD, LOSS_SCALE_SKIPPED, LOSS_SCALE_STEP, LOSS_SCALE_INPUTS };
enum { LOSS_SCALE_UPDATE, LOSS_SCALE_TRUE_NORM, LOSS_SCALE_NOW, LOSS_SCALE_SKIPPED_NOW, LOSS_SCALE_TRUE_STEP, LOSS_SCALE_OUTPUTS };
typedef struct loss_scale_attrs {
    double max_norm;               /* of the gradients without the scale; inf: no clipping */
    double growth, shrink;         /* factors after `interval` good steps in a row, and after one that is skipped */
    double smallest, largest;      /* of the scale */
    int64_t interval;
} loss_scale_attrs;

#endif
