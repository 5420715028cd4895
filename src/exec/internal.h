/* internal.h - what the files of src/exec share and nobody else uses. */
#ifndef DISTILL_EXEC_INTERNAL_H
#define DISTILL_EXEC_INTERNAL_H

#include "exec/exec.h"

/* Kernel operands of a node, data pointers NULL. in and out have room for the node's operands. */
void plan_operands(const graph *g, const node *n, kernel_tensor *in, kernel_tensor *out, kernel_args *a);

status cpu_open(const backend_options *o, backend **out);

#endif
