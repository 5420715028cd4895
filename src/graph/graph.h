/* graph.h - values, nodes, operators: the one machinery that teacher, student, losses, gradients and updates are
 * written in.
 *
 * A graph holds nodes in execution order. Every value has a static shape. Names are unique within a graph. All memory
 * lives in the graph's arena, large data in buffers that several graphs may hold, and is let go of by graph_free. Ids are indices; 0 means "none" (an absent optional input). */
#ifndef DISTILL_GRAPH_GRAPH_H
#define DISTILL_GRAPH_GRAPH_H

#include "base/text.h"
#include "graph/types.h"

typedef uint32_t value_id;
typedef uint32_t node_id;

typedef enum op_id {
    OP_NONE,
#define OP(e, object) OP_##e,
#include "graph/ops.def"
#undef OP
    OP_COUNT
} op_id;

typedef enum value_kind {
    VALUE_TEMP,  /* made by a node */
    VALUE_INPUT, /* given from outside before each run */
    VALUE_CONST, /* `data` holds it for ever */
    VALUE_PARAM, /* trained; `data` is the start value (NULL: zeros). Lives in a store across graphs, by name */
    VALUE_STATE  /* persistent but not trained by gradient: running statistics, optimizer state, scalars */
} value_kind;

enum { /* value flags */
    VALUE_NO_DECAY_NORM = 1, /* scale or bias of a normalisation */
    VALUE_NO_DECAY_BIAS = 2, /* bias of a convolution or linear layer */
    VALUE_BATCHED = 4,       /* inputs: dimension 0 is the batch */
    VALUE_QUANT_SCALE = 8,   /* parameters: a learned scale of integers */
    VALUE_FIXED = 16         /* constants: no weight, not to be trained */
};

typedef struct value {
    const char *name;
    dtype type;
    shape sh;
    value_kind kind;
    uint32_t flags;
    node_id from;     /* the node that makes it (VALUE_TEMP), else 0 */
    const void *data; /* contents of a constant, start of a parameter or state: in the arena or in what the graph holds
                         (`held`); else NULL, also after graph_keep_data */
    int32_t block;    /* 0: elements lie in the order of the shape. b > 0: [N, ceil(C/b), spatial..., b], the channels
                         beyond C being zeros; `sh` stays [N, C, spatial...]. Only the executor's own copy of a graph has
                         such values (exec/layout.c) */
    dtype narrow;     /* of float32 values there: the type in which the elements lie (float16, bfloat16); DTYPE_NONE: as `type` */
} value;

typedef enum phase {
    PHASE_MAIN,  /* forward, losses, gradients: every micro batch */
    PHASE_UPDATE /* optimizer and what follows: once a step */
} phase;

typedef struct node {
    op_id op;
    const char *name;
    uint16_t n_in, n_out;
    value_id *in, *out; /* in[i] may be 0 (absent); out[i] may be 0 (not wanted) */
    const void *attr;   /* the operator's attribute struct (src/ops/attrs.h), NULL when it has none */
    phase when;
} node;

typedef struct graph {
    arena mem;
    value *value; /* [n_value], index 0 unused */
    node *node;   /* [n_node], index 0 unused, in execution order */
    size_t n_value, cap_value, n_node, cap_node;
    value_id *input, *output; /* in the order of the model */
    size_t n_input, cap_input, n_output, cap_output;
    phase when; /* phase of the nodes added next */
    struct name_index *names;
    mem_shared **held; /* buffers of large data, shared with the model or the graph it came from */
    size_t n_held, cap_held;
} graph;

/* ---- operators ---- */

typedef enum attr_type { ATTR_INT, ATTR_FLOAT, ATTR_INTS, ATTR_FLOATS, ATTR_CHOICE, ATTR_DTYPE, ATTR_TENSOR } attr_type;

/* Lists in attribute structs. v == NULL: not given; n == 0 with v != NULL: given and empty. */
typedef struct attr_ints {
    int64_t n;
    const int64_t *v;
} attr_ints;
typedef struct attr_floats {
    int64_t n;
    const double *v;
} attr_floats;
typedef struct attr_tensor { /* one element (ConstantOfShape's value) */
    dtype type;
    double v;
} attr_tensor;

enum { ATTR_REQUIRED = 1, ATTR_HIDDEN = 2 /* internal: not read from or written to ONNX */ };

/* One attribute. Import, student files, export and printing all read this row. Fields of the struct are int64_t (INT,
 * CHOICE: index into choices, DTYPE: a dtype), double (FLOAT), attr_ints, attr_floats, attr_tensor.
 * `from_input` = k > 0: at the newest opset ONNX passes it as input number k-1; import demands a constant there and
 * moves it here, export writes it back as a constant. An attribute of the same name (older opsets) is taken too. */
typedef struct attr_desc {
    const char *name;
    attr_type type;
    size_t offset;
    double def;         /* default of INT, FLOAT, CHOICE (index), DTYPE */
    const char *choices; /* CHOICE: names separated by blanks, in the order of the enum */
    int from_input;
    uint32_t flags;
    double min, max; /* range of INT and FLOAT and of every list element; both 0: any */
} attr_desc;
#define ATTR(strukt, field) .name = #field, .offset = offsetof(strukt, field)

typedef struct arity {
    int min, max; /* max < 0: any number */
} arity;

enum {                    /* operator flags */
    OP_VIEW = 1,          /* out[0] is in[0]'s bytes under another shape; no kernel runs */
    OP_INPLACE = 2,       /* out[0] may lie over any input of the same type and shape that dies here */
    OP_INTERNAL = 4,      /* never imported or exported */
    OP_MUTATES = 8,       /* writes its in[0] (and others in `mutates`), which must be persistent */
    OP_FOLD_ONLY = 16,    /* serves shape arithmetic at import; a plan has no kernel for it outside folding */
    OP_PORTABLE = 32,     /* in the set that every deployment runtime takes */
    OP_UNFOLDED = 256,    /* stays a node at import although its inputs are constants: it says how they are stored */
    OP_MICROSOFT = 128,   /* of the domain com.microsoft, which ONNX Runtime has; the others are ONNX's own */
    OP_SAME_VALUE = 64    /* out[0] equals in[0] when their types are equal (Identity, Dropout in evaluation, Cast) */
};

struct graph;
typedef struct op_desc {
    const char *name; /* ONNX op_type, or the internal name */
    arity in, out;
    uint32_t flags;
    const attr_desc *attrs; /* ends with a row without name; NULL: none */
    size_t attr_size;
    /* Which inputs are trained weights when they are initializers of a student: bit i of `params`; running statistics
     * and the like: bit i of `states`; written by the node (OP_MUTATES): bit i of `mutates`. */
    uint32_t params, states, mutates;
    /* Operators on many tensors at once: after `head` inputs come tuples of `tuple` (> 0); the bits of `mutates` for the
     * first tuple hold for every one. Absent inputs at the end of the last tuple may be left out. */
    int head, tuple;
    /* The operand of a tuple that a device's executor may add (exec/keep_copies.c), 0: there is none: the tuple's first, which the node
     * writes, in the device's narrow type; in its own order or channels last, as the value says. Written with it. */
    int copy;
    /* Sets type and shape of every out[i] != 0 from the inputs, completes attributes (e.g. auto_pad to pads). */
    status (*infer)(graph *g, node *n);
    /* Adds nodes that compute dx[i] for the inputs that have a gradient, given dy[i] (0: no gradient arrives there).
     * dx comes in as zeros. A dx broader than its input is summed over the broadcast axes by the caller. */
    status (*grad)(graph *g, const node *n, const value_id *dy, value_id *dx);
    const char *no_grad; /* why there is no gradient, when grad is NULL */
    /* Multiply-accumulates of the node (inspect, plan, benchmarks); NULL: 0. */
    double (*macs)(const graph *g, const node *n);
} op_desc;
#define NO_GRAD(reason) .grad = NULL, .no_grad = reason

const op_desc *op_of(op_id op);       /* a row for every enum value */
bool op_writes(const op_desc *d, int i); /* nodes of the operator write their input i */
bool op_is_copy(const op_desc *d, int i); /* input i is the copy of a tuple */
op_id op_from_name(const char *name); /* OP_NONE when unknown; internal names are found too */

/* ---- building ---- */

MUST_USE status graph_new(graph **out);
void graph_free(graph *g);

/* Makes a value. The name is copied and made unique (suffix _2, _3 ...) when it is taken; NULL: "v12". */
MUST_USE status graph_add_value(graph *g, const char *name, dtype type, shape sh, value_kind kind, value_id *out);
MUST_USE status graph_add_input(graph *g, const char *name, dtype type, shape sh, value_id *out); /* also listed as input */
MUST_USE status graph_add_output(graph *g, value_id v);
/* A constant, parameter or state with a copy of `data` (NULL: zeros, only for param and state). */
MUST_USE status graph_add_data(graph *g, const char *name, value_kind kind, dtype type, shape sh, const void *data,
                               value_id *out);
/* The same without a copy: `data` lies in `home`, aligned to 16, and the graph becomes one more holder. */
MUST_USE status graph_add_shared(graph *g, const char *name, value_kind kind, dtype type, shape sh, const void *data,
                                 mem_shared *home, value_id *out);
/* Room for the data of a value, zeroed, as long-lived as the graph. */
MUST_USE status graph_alloc_data(graph *g, size_t bytes, void *out);
/* Forgets the data of every value v with !keep[v]: large pieces that no kept value lies in go back to the system, as far as
 * no other graph or model holds them. */
void graph_keep_data(graph *g, const bool *keep);
/* A constant of one repeated number, of any type. */
MUST_USE status graph_add_fill(graph *g, dtype type, shape sh, double number, value_id *out);

/* Appends a node: copies inputs and attributes (NULL: all defaults), makes `n_out` values named NODE_out or after
 * `out_names`, infers their shapes. An operator's default attributes: op_default_attrs. Outputs not wanted: pass fewer.
 * Errors name the node. `name` may be NULL ("Relu_12"). */
MUST_USE status graph_add_named(graph *g, const char *name, op_id op, const void *attr, const value_id *in, size_t n_in,
                                const char *const *out_names, value_id *out, size_t n_out);
MUST_USE status graph_add(graph *g, op_id op, const void *attr, const value_id *in, size_t n_in, value_id *out,
                          size_t n_out);
/* One output, up to three inputs: the everyday case. */
MUST_USE status graph_add1(graph *g, op_id op, const void *attr, value_id a, value_id b, value_id c, value_id *out);

void op_default_attrs(op_id op, void *attr); /* fills attr_size bytes */
/* n's attributes, `from` called `to` where they name a type; the copy is in mem. NULL when there are none. */
MUST_USE status op_retype_attrs(const node *n, dtype from, dtype to, arena *mem, const void **out);

static inline value *graph_value(const graph *g, value_id v)
{
    return &g->value[v];
}
static inline node *graph_node(const graph *g, node_id n)
{
    return &g->node[n];
}
value_id graph_find(const graph *g, const char *name); /* 0: none */
/* Gives v a name of its own; ST_INTERNAL when the name is taken by another value. */
MUST_USE status graph_rename(graph *g, value_id v, const char *name);
/* Every use of `from` as an input or graph output becomes `to`. */
void graph_replace(graph *g, value_id from, value_id to);
/* Uses of every value as node input or graph output, in a fresh array [n_value] (caller frees with mem_free). */
MUST_USE status graph_count_uses(const graph *g, uint32_t **uses);
/* Deep copy of nodes, values, names and small data; large data are held by both. */
MUST_USE status graph_clone(const graph *g, graph **out);

/* A copy with the same ids that borrows g's names and data: g must outlive it. For what a backend makes of a
 * graph (exec/lower.c). */
MUST_USE status graph_share(const graph *g, graph **out);

/* Copies src's nodes into dst. map[src value] = dst value must be preset for values that exist in dst already (inputs);
 * 0 entries are made and filled in. Names get `prefix`. */
MUST_USE status graph_splice(graph *dst, const graph *src, value_id *map, const char *prefix);

/* Order, ids, arity, names, shapes re-inferred equal, mutators after readers, outputs made. After each pass in tests. */
MUST_USE status graph_validate(const graph *g);
/* One line a node, stable order and format: for people, tests and diffs. */
void graph_print(const graph *g, text *out);
void graph_print_attrs(const node *n, text *out);

/* ---- autodiff.c ---- */

/* Adds the nodes that compute d loss / d wrt[i] into grad[i] (0: loss does not depend on it). loss: one element.
 * Uses each operator's grad rule; sums where a value is used more than once and over broadcast axes. */
MUST_USE status graph_gradients(graph *g, value_id loss, const value_id *wrt, size_t n, value_id *grad);
/* The same times `seed`, a value of the loss's type and shape (0: one). */
MUST_USE status graph_gradients_from(graph *g, value_id loss, value_id seed, const value_id *wrt, size_t n, value_id *grad);

/* ---- passes.c ---- */

MUST_USE status pass_dead_nodes(graph *g);         /* dead.c: drops nodes nothing depends on (outputs, mutators stay) */
MUST_USE status pass_drop_identity(graph *g);      /* OP_SAME_VALUE nodes; output names stay */
MUST_USE status pass_fold_batch_norm(graph *g);    /* Conv + BatchNormalization (inference), all operands constants */
MUST_USE status pass_fuse_epilogues(graph *g);     /* Conv + Add + Relu into the convolution's epilogue, then the
                                                      passes of fuse_linear.c; frozen graphs */
MUST_USE status pass_integer_groups(graph *g);     /* fuse_qdq.c: DQ -> operator -> Q becomes the operator on integers;
                                                      frozen graphs, before the other fusions */
MUST_USE status pass_join_gelu(graph *g);          /* the chain around Erf becomes Gelu (fuse_linear.c); ids
                                                      stay, what is left of the chain is dead */
MUST_USE status pass_fuse_linear(graph *g);        /* Gemm, MatMul + bias + residual + activation become Linear; frozen
                                                      graphs, and training graphs after their gradients */
MUST_USE status pass_fuse_attention(graph *g);     /* softmax(Q K^T) V becomes FusedAttention; frozen graphs */
MUST_USE status pass_fuse_attention_graded(graph *g); /* the same before gradients are made; ids stay, what is left is dead */
MUST_USE status pass_linear_bf16(graph *g);        /* Linear by a constant matrix: both rounded to bfloat16 */
/* All of Linear, forward and gradients: operands rounded to float16 or bfloat16 (DTYPE_NONE: not), sums float32. After
 * pass_fuse_linear. Kernels of it: CUDA's, and the CPU's plain ones. */
MUST_USE status pass_product_precision(graph *g, dtype t);
/* Linear by a constant matrix whose other operand, value v, has the range [-range[v], range[v]] (0: unknown): both are rounded to 8
 * bits (E4M3). *made: how many. n_range: of the graph that the ranges were found in, which the same passes made. */
MUST_USE status pass_linear_fp8(graph *g, const float *range, size_t n_range, size_t *made);
bool linear_is_bf16(const node *n);                   /* was it marked so? */
MUST_USE status pass_training_mode(graph *g, double bn_momentum); /* BatchNormalization with states for statistics
                                                      becomes BatchNormTrain + BatchNormStats (PyTorch's rule: running
                                                      = (1-m)*running + m*batch, unbiased variance) */
MUST_USE status pass_fuse_norms(graph *g);         /* fuse_norm.c: Add and Relu into the BatchNormTrain before them */
MUST_USE status pass_fuse_norm_grads(graph *g);    /* fuse_layer_norm.c: Add into the LayerNormGrad before it */
MUST_USE status pass_to_double(graph *g);          /* every float32 value and constant becomes float64 */
void graph_index_names(graph *g);                  /* names are found again after values were dropped or renamed */
void graph_refresh_from(graph *g);                 /* values remember the places of the nodes that make them */
void graph_sweep(graph *g);                        /* nodes that passes have made OP_NONE leave; as graph_refresh_from */
MUST_USE status pass_unused_values(graph *g);      /* compacts values no node, input or output refers to */

/* Totals for tables. */
typedef struct graph_stats {
    size_t layers;      /* nodes with parameters */
    int64_t parameters; /* elements of PARAM values and, in frozen graphs, of float constants with `params` roles */
    double macs;        /* multiply-accumulates for one sample (divided by the batch) */
} graph_stats;
graph_stats graph_measure(const graph *g, int64_t batch);

#endif
