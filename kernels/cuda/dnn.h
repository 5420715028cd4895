/* dnn.h - convolutions by cuDNN's graph interface: the functions used, and plans of convolutions with what is fused to them.
 *
 * The library (cuDNN 9) is opened while the program runs (exec/cuda_libs.h fills the table; tests fill it with a twin on the
 * host). What is used of its interface is declared here, as facts of cudnn_graph.h; tests/test_cudnn_plans.c compares them with
 * the header where there is one. Everything is a descriptor: created, given attributes, finalised. All functions return 0 or a
 * status (cudnnStatus_t). */
#ifndef DISTILL_KERNELS_CUDA_DNN_H
#define DISTILL_KERNELS_CUDA_DNN_H

#include "kernels/cuda/api.h"

/* X(field, name in the library, parameters, arguments) */
#define DNN_API(X)                                                                                                     \
    X(create, cudnnCreate, (void **handle), (handle))                                                                  \
    X(destroy, cudnnDestroy, (void *handle), (handle))                                                                 \
    X(set_stream, cudnnSetStream, (void *handle, void *stream), (handle, stream))                                      \
    X(make, cudnnBackendCreateDescriptor, (int kind, void **out), (kind, out))                                         \
    X(unmake, cudnnBackendDestroyDescriptor, (void *d), (d))                                                           \
    X(set, cudnnBackendSetAttribute, (void *d, int attribute, int type, int64_t n, const void *from),                  \
      (d, attribute, type, n, from))                                                                                   \
    X(get, cudnnBackendGetAttribute, (void *d, int attribute, int type, int64_t most, int64_t *n, void *to),           \
      (d, attribute, type, most, n, to))                                                                               \
    X(finalize, cudnnBackendFinalize, (void *d), (d))                                                                  \
    X(execute, cudnnBackendExecute, (void *handle, void *plan, void *variant), (handle, plan, variant))

typedef struct dnn_api {
#define DNN_API_FIELD(field, name, parameters, arguments) int (*field) parameters;
    DNN_API(DNN_API_FIELD)
#undef DNN_API_FIELD
} dnn_api;

enum { /* of enums in cudnn_graph.h: kinds of descriptors */
    DNN_POINTWISE = 0, DNN_CONVOLUTION = 1, DNN_ENGINE = 2, DNN_ENGINE_CONFIG = 3, DNN_HEURISTIC = 4, DNN_PLAN = 5, DNN_KNOB = 7,
    DNN_OP_FORWARD = 10, DNN_OP_WEIGHT = 11, DNN_OP_DATA = 12, DNN_OP_POINTWISE = 13, DNN_OP_STATS = 14, DNN_GRAPH = 15, DNN_VARIANT = 16,
    DNN_TENSOR = 17, DNN_MATMUL = 18, DNN_OP_MATMUL = 19, DNN_REDUCTION = 21, DNN_OP_REDUCTION = 22, DNN_OP_NORM_SUMS = 23, DNN_OP_RESHAPE = 31,
    DNN_DEVICE = 38, DNN_OP_ATTENTION = 41
};
enum { /* types of attributes */
    DNN_T_HANDLE = 0, DNN_T_DATA_TYPE = 1, DNN_T_BOOL = 2, DNN_T_I64 = 3, DNN_T_FLOAT = 4, DNN_T_POINTER = 6,
    DNN_T_CONV_MODE = 7, DNN_T_HEURISTIC_MODE = 8, DNN_T_KNOB = 9, DNN_T_NUMERICAL_NOTE = 11, DNN_T_POINTWISE_MODE = 14,
    DNN_T_DESCRIPTOR = 15, DNN_T_STATS_MODE = 16, DNN_T_REDUCTION = 18, DNN_T_BEHAVIOR_NOTE = 19, DNN_T_CHAR = 24
};
enum { /* attributes */
    DNN_POINTWISE_MODE = 0, DNN_POINTWISE_TYPE = 1,
    DNN_CONV_TYPE = 100, DNN_CONV_MODE, DNN_CONV_DILATIONS, DNN_CONV_STRIDES, DNN_CONV_PADS_AFTER, DNN_CONV_PADS_BEFORE, DNN_CONV_AXES,
    DNN_HEURISTIC_MODE = 200, DNN_HEURISTIC_GRAPH, DNN_HEURISTIC_RESULTS, DNN_HEURISTIC_DEVICE = 204,
    DNN_CONFIG_ENGINE = 300, DNN_CONFIG_KNOBS = 302,
    DNN_PLAN_HANDLE = 400, DNN_PLAN_CONFIG, DNN_PLAN_WORKSPACE, DNN_PLAN_DEVICE = 407,
    DNN_KNOB_TYPE = 600, DNN_KNOB_VALUE,
    DNN_FORWARD_ALPHA = 700, DNN_FORWARD_BETA, DNN_FORWARD_CONV, DNN_FORWARD_W, DNN_FORWARD_X, DNN_FORWARD_Y,
    DNN_DATA_ALPHA, DNN_DATA_BETA, DNN_DATA_CONV, DNN_DATA_W, DNN_DATA_DX, DNN_DATA_DY,
    DNN_WEIGHT_ALPHA, DNN_WEIGHT_BETA, DNN_WEIGHT_CONV, DNN_WEIGHT_DW, DNN_WEIGHT_X, DNN_WEIGHT_DY,
    DNN_OP_POINTWISE_HOW = 750, DNN_OP_POINTWISE_X, DNN_OP_POINTWISE_B, DNN_OP_POINTWISE_Y, DNN_OP_POINTWISE_DX = 756, DNN_OP_POINTWISE_DY,
    DNN_STATS_MODE = 770, DNN_STATS_TYPE, DNN_STATS_X, DNN_STATS_SUM, DNN_STATS_SQUARES,
    DNN_GRAPH_HANDLE = 800, DNN_GRAPH_OPS,
    DNN_TENSOR_ALIGNMENT = 900, DNN_TENSOR_TYPE, DNN_TENSOR_DIMS, DNN_TENSOR_STEPS, DNN_TENSOR_ID = 906, DNN_TENSOR_VIRTUAL, DNN_TENSOR_BY_VALUE,
    DNN_VARIANT_IDS = 1000, DNN_VARIANT_POINTERS, DNN_VARIANT_WORKSPACE = 1003,
    DNN_ENGINE_GRAPH = 1300, DNN_ENGINE_INDEX = 1301, DNN_ENGINE_NUMERICAL = 1303, DNN_ENGINE_BEHAVIOR = 1305, DNN_ENGINE_DEVICE = 1307,
    DNN_MATMUL_TYPE = 1500, DNN_OP_MATMUL_A = 1520, DNN_OP_MATMUL_B, DNN_OP_MATMUL_C, DNN_OP_MATMUL_HOW,
    DNN_REDUCTION_MODE = 1600, DNN_REDUCTION_TYPE, DNN_OP_REDUCTION_X = 1610, DNN_OP_REDUCTION_Y, DNN_OP_REDUCTION_HOW,
    DNN_SUMS_TYPE = 1620, DNN_SUMS_MEAN, DNN_SUMS_INV, DNN_SUMS_SCALE, DNN_SUMS_X, DNN_SUMS_DY, DNN_SUMS_DSCALE, DNN_SUMS_DBIAS,
    DNN_SUMS_DY_FACTOR, DNN_SUMS_X_FACTOR, DNN_SUMS_TERM,
    DNN_RESHAPE_X = 2200, DNN_RESHAPE_Y,
    DNN_DEVICE_JSON = 2702,
    DNN_ATTENTION_Q = 2800, DNN_ATTENTION_K, DNN_ATTENTION_V, DNN_ATTENTION_Y, DNN_ATTENTION_SUMS, DNN_ATTENTION_SCALE
};
enum { /* values */
    DNN_FLOAT = 0, DNN_HALF = 2, DNN_BFLOAT16 = 9, DNN_CROSS_CORRELATION = 1, DNN_ADD = 0, DNN_MULTIPLY = 1, DNN_DIVIDE = 6, DNN_SUBTRACT = 9, DNN_EXP = 13,
    DNN_LOG = 15, DNN_IDENTITY = 21, DNN_REDUCE_ADD = 0, DNN_REDUCE_MAX = 3,
    DNN_RELU = 100, DNN_RELU_BACKWARD = 200,
    DNN_MODE_B = 1, DNN_MODE_FALLBACK = 2, DNN_MODE_A = 3,
    DNN_NOTE_TENSOR_CORE = 0, DNN_NOTE_DOWN_CONVERT = 1, DNN_NOTE_REDUCED_PRECISION = 2, DNN_NOTE_FFT = 3, DNN_NOTE_NONDETERMINISTIC = 4,
    DNN_NOTE_WINOGRAD = 5, DNN_NOTE_RUNTIME_COMPILATION = 0, DNN_STATUS_DRIVER = 5001
};

typedef enum dnn_kind {
    DNN_CONV_FORWARD, /* y = conv(x, w), then + residual, + bias, relu */
    DNN_CONV_DATA,    /* x from y and w */
    DNN_CONV_WEIGHT,  /* w from x and y */
    DNN_ATTENTION,    /* y = softmax(scale * q k^T + mask) v of every head */
    DNN_ATTENTION_GRAD /* dq, dk, dv, which lie as q, k and v, from these, y, dy (as y) and the sums */
} dnn_kind;

#define DNN_MASK 16

/* What decides how a convolution is done. Compared byte by byte: start from zeros. x [N, C, ...], w [M, C/group, ...],
 * y [N, M, ...]; one spatial axis is two, the first of length 1. Bias, and w where it is the result, are
 * float32 whatever the type is, unless narrow_bias, narrow_w. Attention: x is Q [B, H, Sq, D], w K [B, H, Sk, D], y [B, H, Sq, Dv]. */
typedef struct dnn_key {
    int32_t kind, type, axes;  /* dnn_kind; DNN_FLOAT, DNN_HALF, DNN_BFLOAT16; spatial axes: 2 or 3 */
    int32_t channels_last;
    /* Attention: bias is the mask, float32: DNN_MASK and a bit for each axis of [B, H, Sq, Sk] along which it is not repeated. */
    int32_t bias, residual, relu;
    int32_t exact;             /* sums of products as they stand */
    int32_t tf32, deterministic;
    int32_t tokens;            /* attention: bits of Q, K, V, y that lie as [B, S, H, D] */
    /* Of narrow images: these are narrow too. Better so: there are many engines, precompiled. Float32 is compiled at run time, in
     * one to five seconds for each shape, and there are one or two. */
    int32_t narrow_w;          /* the weight's gradient */
    int32_t narrow_bias;
    /* Attention: with the logarithms of the sums of exponentials, [B, H, Sq] of float32. Forward: with the sums of y and of its
     * squares by channel, [M] of float32 each. */
    int32_t sums;
    /* Forward, weight: the convolution's data is max(x * scale + shift, 0), both by channel and in the type of the images. Data: the
     * result is zero where n = (norm_x - mean) * inv * scale + shift is not above it, and two sums by channel leave with it, of the
     * result (DNN_SUMS) and of its products with (norm_x - mean) * inv (DNN_PRODUCTS), all float32. Only engines that are
     * compiled already: others take ten to thirty seconds for each shape. */
    int64_t norm;
    int64_t x[5], w[5], y[5];
    int64_t stride[3], dilation[3], before[3], after[3]; /* pads */
} dnn_key;

/* What tensors are called in a plan. Of attention: x, w, y, with a mask DNN_BIAS, and these: DNN_SCALE is a float on the host, read when it is run. After
 * DNN_NORM_SHIFT: of backward-data with a norm; three of them, [C] each, say what that norm's own gradient is:
 * dy * DNN_DY_FACTOR + norm_x * DNN_X_FACTOR + DNN_TERM. The last four: of attention's gradient. */
enum {
    DNN_X = 1, DNN_W, DNN_Y, DNN_BIAS, DNN_RESIDUAL, DNN_V, DNN_SUMS, DNN_SCALE, DNN_SQUARES, DNN_NORM_SCALE, DNN_NORM_SHIFT,
    DNN_NORM_X, DNN_NORM_MEAN, DNN_NORM_INV, DNN_PRODUCTS, DNN_DY_FACTOR, DNN_X_FACTOR, DNN_TERM,
    DNN_DY, DNN_DX, DNN_DW, DNN_DV, DNN_OPERANDS
};

/* An engine with all that it can be told: enough to make its plan again. */
#define DNN_MOST_KNOBS 48
typedef struct dnn_choice {
    int64_t engine;                 /* its number in the library */
    int32_t n_knob;                 /* -1: not known */
    int32_t knob[DNN_MOST_KNOBS];   /* in the library's order */
    int64_t value[DNN_MOST_KNOBS];
    double seconds;                 /* of one run on the device; 0: not measured */
} dnn_choice;

/* What was measured in earlier runs (exec/dnn_cache.h). Both are called while a graph is planned. */
typedef struct dnn_memory {
    void *ctx;
    bool (*recall)(void *ctx, const dnn_key *key, dnn_choice *out); /* false: nothing is known */
    void (*remember)(void *ctx, const dnn_key *key, const dnn_choice *c);
} dnn_memory;

#define DNN_MODE_REMEMBERED (-1) /* dnn_plan.mode: no heuristic was asked */
#define DNN_MOST_PARTS      128
typedef struct dnn_plan {
    dnn_key key;
    void *part[DNN_MOST_PARTS]; /* every descriptor of it, in order of making */
    int n_part;
    void *graph, *plan;         /* among the parts; plan NULL: there is none */
    size_t workspace;           /* of the plan as it stands: cuda_dnn_workspace */
    dnn_choice choice;
    int mode, configs;          /* heuristic that found it; how many proposals were looked at */
    int timed;                  /* how many were measured */
    bool runtime_compiled, usable;
    bool settled;               /* it changes no more */
    int code;                   /* where not usable: the last status */
} dnn_plan;

typedef struct cuda_dnn {
    const dnn_api *api;
    void *handle; /* NULL: plans are made for a device that is described only */
    void *device; /* its description */
    bool measure; /* which engine is fastest; else the library's first proposal is taken */
    dnn_memory memory; /* functions NULL: there is none */
    bool recording; /* work becomes a program instead of being done: nothing can be measured now */
    double spent; /* seconds on measuring so far */
    dnn_plan **plan;
    size_t n_plan;
} cuda_dnn;

/* Measuring ends where it would take longer than this on the host, for one graph and for all of a process (seconds); what was
 * not measured then is chosen by heuristics, and measured by a later run. */
#define DNN_MEASURE_EACH 4.0
#define DNN_MEASURE_ALL  60.0
/* Engines that want more bytes of workspace are taken only where there is no other. */
#define DNN_WORKSPACE ((size_t)512 << 20)

#ifdef __cplusplus
extern "C" {
#endif
/* 0 and *out, or the library's status (-1: no memory). */
int cuda_dnn_open(const dnn_api *api, void *stream, cuda_dnn **out);
int cuda_dnn_use_stream(cuda_dnn *d, void *stream); /* what comes goes there; returns an error code as cuda_note takes it */
/* Without a device: one that JSON describes (as DNN_DEVICE_JSON gives it). Plans can be made, not run; what the library
 * compiles counts as made when only the driver refuses it. */
int cuda_dnn_open_described(const dnn_api *api, const char *json, cuda_dnn **out);
void cuda_dnn_close(cuda_dnn *d); /* NULL allowed */
/* The plan for such a graph, made when it is asked for the first time and kept; never NULL but without memory or library.
 * `usable` says whether the library has an engine: the remembered one, else its first proposal that serves. */
const dnn_plan *cuda_dnn_plan(cuda_queue *q, const dnn_key *key);
/* Settles which engine runs the plan, by measuring where that is wanted, and says how many bytes of workspace it needs. To be
 * asked for every plan that is to run (a row's `workspace`), before it is recorded; p NULL: 0. */
size_t cuda_dnn_workspace(cuda_queue *q, const dnn_plan *p);
/* Whether plan `whole`, which makes a pass over `bytes` needless, is no slower than `part` and that pass: where both are measured
 * (they get settled), else true. What a pass takes is a guess: 20 GB/s for each multiprocessor, and a launch or two. */
bool cuda_dnn_saves(cuda_queue *q, const dnn_plan *whole, const dnn_plan *part, size_t bytes);
/* Puts it on the queue's stream. operand: [DNN_OPERANDS], by name; those that the key does not have are not looked at. */
void cuda_dnn_run(cuda_queue *q, const dnn_plan *p, void *const *operand, void *work);
#ifdef __cplusplus
}
#endif

#endif
