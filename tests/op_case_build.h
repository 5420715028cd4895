/* op_case_build.h - what a row of op_case.h becomes before anything runs: its numbers, and a graph of the operator, a loss and
 * the gradients. For op_case.c. */
#ifndef DISTILL_TESTS_OP_CASE_BUILD_H
#define DISTILL_TESTS_OP_CASE_BUILD_H

#include "op_case.h"

/* What a row became. Ids hold for both graphs. */
typedef struct built {
    const op_case *c;
    graph *g;
    int n_in, n_out;
    value_id in[OP_CASE_IN], out[OP_CASE_OUT], weight[OP_CASE_OUT], grad[OP_CASE_IN], loss;
    bool graded;
    size_t forward_end; /* nodes before the gradients */
} built;
typedef struct numbers { /* of one row, all owned */
    double *in[OP_CASE_IN], *weight[OP_CASE_OUT];
} numbers;

/* v as an element of type t holds it. */
double op_case_as_type(dtype t, double v);
/* Numbers that the inputs' types hold, and `narrow` too where it is one. Also after a failure the caller frees what is there. */
MUST_USE status op_case_inputs(const op_case *c, dtype narrow, numbers *x);
/* The same of the weights in the loss of t. */
MUST_USE status op_case_weights(const built *t, dtype narrow, numbers *x);
/* values[i]: numbers of input i (NULL while only the graph matters). The caller frees t->g, also after a failure. */
MUST_USE status op_case_build(built *t, const op_case *c, double *const *values);
bool op_case_wants_grad(const built *t, int i);

#endif
