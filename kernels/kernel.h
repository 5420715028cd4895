/* kernel.h - what a kernel is: pure arithmetic on pointers, shapes, attributes and a workspace; never the graph.
 *
 * Every kernel family exports rows; a backend concatenates them when it opens and picks, when a plan is made, the first
 * row that takes the node (highest instruction set first). The launcher function owns threads and fixed blocks: results
 * do not depend on the number of threads. */
#ifndef DISTILL_KERNELS_KERNEL_H
#define DISTILL_KERNELS_KERNEL_H

#include "graph/graph.h"

typedef struct kernel_tensor {
    void *data; /* NULL: absent optional operand (type DTYPE_NONE) */
    dtype type;
    shape sh;      /* as ONNX has it: [N, C, spatial...] in either layout */
    int32_t block; /* 0: plain. b: [N, ceil(C/b), spatial..., b]; the channels beyond C are zeros, always */
} kernel_tensor;

/* Elements that lie in memory, those that fill up the last block of channels included. */
static inline int64_t kernel_elements(const kernel_tensor *t)
{
    int64_t n = shape_count(&t->sh), c = t->block ? t->sh.dim[1] : 0;
    return c ? n / c * ((c + t->block - 1) / t->block * t->block) : n;
}

typedef struct kernel_args {
    kernel_tensor *in, *out;
    int n_in, n_out;
    const void *attr; /* the operator's struct of src/ops/attrs.h */
    void *work;       /* aligned to 64, at least what `workspace` asked for; contents undefined */
    size_t work_size;
    int threads;
    const void *prepared; /* what the row's `prepare` made of the constant operands; NULL: nothing was prepared */
    struct cuda_queue *queue; /* where a device's kernels are launched (kernels/cuda/api.h); NULL on the CPU */
} kernel_args;

typedef enum isa { ISA_REF, ISA_BASE, ISA_AVX2, ISA_AVX512 } isa;

typedef struct kernel_row {
    op_id op;
    dtype type; /* of the first present input (of the output when there is none); DTYPE_NONE: any */
    isa level;
    const char *name;
    void (*run)(const kernel_args *a);
    /* Bytes for these shapes (data may be NULL; `prepared`, not to be read, says whether there will be something); NULL:
     * none. */
    size_t (*workspace)(const kernel_args *a);
    bool (*takes)(const kernel_args *a);       /* false: not for these shapes or attributes; NULL: takes all */
    const char *method; /* "direct": what [exec] conv chooses among; NULL: there is nothing to choose */
    /* Operands in blocked layout (bit i: in[i], out[i]; absent operands do not count). A row with neither takes plain
     * operands alone; a row with some serves only operands that lie just so, with blocks of as many channels as a vector
     * of its instruction set has lanes. exec/layout.c decides which nodes use them. */
    uint32_t blocked_in, blocked_out;
    /* Operands that lie plain in the backend's narrow type (exec/narrow_rows.c) where others see float32: those of `either`
     * too may lie narrow or as float32, as it comes. narrow: the row's type, which then stands for `type`; at least one
     * operand lies in it. DTYPE_NONE with operands in the masks: a row of `type` to which all types are the same. */
    dtype narrow;
    uint32_t narrow_in, narrow_out, either_in, either_out;
    /* Estimated cycles of one core for these shapes. Among rows of one instruction set and layout that have a cost the
     * cheapest wins; NULL: the first row in the table wins. */
    double (*cost)(const kernel_args *a);
    /* What depends on constant operands alone (packed or transformed weights) is made once, when a graph is opened:
     * `prepared` says how many bytes (0: nothing), `prepare` fills them, `run` finds them in `prepared` of its arguments.
     * In these two, constants have their data and all other operands have none. Both NULL: nothing to prepare. The
     * results of `run` are the same bits with and without. */
    size_t (*prepared)(const kernel_args *a);
    void (*prepare)(const kernel_args *a, void *to); /* to: aligned to 64 */
    /* Bit i: what is prepared stands for in[i], whose data `run` then does not look at (it may be NULL). */
    uint32_t packed_in;
} kernel_row;

#endif
