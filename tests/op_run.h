/* op_run.h - runs a graph node by node, every operand and workspace between guard bytes.
 *
 * Slower and stricter than the executor: nothing shares storage, outputs and workspace begin as garbage (NaN for every
 * float type), and with `checked` every node is looked at after it ran: guards intact, inputs unchanged, and the same
 * bits when out[0] lies over an input that it may overwrite and when what was prepared of constants is not there. */
#ifndef DISTILL_TESTS_OP_RUN_H
#define DISTILL_TESTS_OP_RUN_H

#include "exec/backend.h"

typedef struct guarded { /* a buffer with a guard on either side; data is aligned to 64 bytes */
    unsigned char *raw;
    void *data;
    size_t bytes;
} guarded;

typedef struct op_run {
    graph *g; /* the caller's after the backend's passes: ids of the caller's values are the same */
    const backend *b;
    int threads;
    guarded *at;            /* [n_value] contents of every value */
    const kernel_row **row; /* [n_node]; NULL: a view */
    guarded *prepared;      /* [n_node] what rows made of constant operands */
    guarded work;
} op_run;

/* g as the backend runs it; buffers (constants, parameters and states filled from the graph, inputs zero) and kernels for every node. */
MUST_USE status op_run_open(op_run *r, const graph *g, const backend *b, int threads);
/* Runs nodes [1, end). */
MUST_USE status op_run_nodes(op_run *r, size_t end, bool checked);
void op_run_close(op_run *r);

#endif
