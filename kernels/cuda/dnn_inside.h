/* dnn_inside.h - what the files that make cuDNN's plans share: dnn_graph.c (descriptors of a graph), dnn_choose.c (which
 * engine), dnn_plan.c (the library, plans that are kept, running). */
#ifndef DISTILL_KERNELS_CUDA_DNN_INSIDE_H
#define DISTILL_KERNELS_CUDA_DNN_INSIDE_H

#include "kernels/cuda/dnn.h"

/* Makes p->graph of p->key; NULL: the library refuses it (p->code). */
void dnn_make_graph(const cuda_dnn *d, dnn_plan *p);
/* The type of an operand: the key's, but for those that are never narrow: bias, and the weight's gradient. */
int dnn_operand_type(const dnn_key *k, int operand);
/* Whether such graphs have it, and its bytes on the device. */
bool dnn_has_operand(const dnn_key *k, int operand);
size_t dnn_operand_bytes(const dnn_key *k, int operand);

/* Makes p->plan of the remembered choice, or of the first proposal that serves. */
void dnn_choose(const cuda_dnn *d, dnn_plan *p);
/* Measures what can run p->graph and puts the fastest in the place of p->plan; without memory on the device, or time, p
 * stays as it is. */
void dnn_measure(cuda_queue *q, dnn_plan *p);

/* The operands of p in a descriptor; 0 and *variant (to be unmade), or the library's status and *where, its call. */
int dnn_make_variant(const cuda_dnn *d, const dnn_plan *p, void *const *operand, void *work, void **variant, const char **where);

#endif
