/* internal.h - what the files of src/exec share and nobody else uses. */
#ifndef DISTILL_EXEC_INTERNAL_H
#define DISTILL_EXEC_INTERNAL_H

#include "exec/exec.h"

/* Kernel operands of a node, data pointers NULL. in and out have room for the node's operands. */
void plan_operands(const graph *g, const node *n, kernel_tensor *in, kernel_tensor *out, kernel_args *a);
/* The same for the `prepared` and `prepare` of a row: constants have their data. */
void plan_constant_operands(const graph *g, const node *n, kernel_tensor *in, kernel_tensor *out, kernel_args *a);
/* The kernel of a node that passes think of, with few operands; NULL: there is none. */
enum { PLAN_ROW_OPERANDS = 8 };
const kernel_row *plan_row(const graph *g, const backend *b, const node *n);
/* Whether there are kernels for both nodes, of the same method (kernel_row). */
bool plan_same_method(const graph *g, const backend *b, const node *n, const node *other);

/* Whether what the kernel of node k prepared stands for this input, which it does not read then. */
bool plan_is_packed(const plan *p, node_id k, int input);
/* keep[v]: kernels read the constant v as it is, or it is an output. [n_value] */
void plan_mark_constants(const plan *p, const graph *g, bool *keep);

/* The type in which the elements lie. */
static inline dtype value_lies_in(const value *v)
{
    return v->narrow ? v->narrow : v->type;
}
/* A narrow copy of a parameter that the executor keeps (keep_copies.c): of no store. */
static inline bool value_is_copy(const value *v)
{
    return v->kind == VALUE_STATE && v->narrow;
}
size_t plan_value_bytes(const value *v); /* as it lies, the lanes that fill up a block included */
/* Which values share storage: views, and results in place of an operand that dies there. root: [n_value]. */
MUST_USE status plan_share_storage(const graph *g, value_id *root);

/* store.c: entries get memory of a remote backend, filled from the host's; the host's newer copies go there. */
MUST_USE status store_place(store *s, backend *b);
MUST_USE status store_push(store *s);

/* recompute.c: duplicates nodes until the values alive at once take at most `target` bytes (*reached) or nothing more can be
 * saved. Adds what it duplicates to *sum. Ids of existing values keep their meaning up to their last reader. */
MUST_USE status pass_recompute(graph *g, size_t target, recomputation *sum, bool *reached);

/* layout.c: puts nodes on the backend's blocked kernels where that pays, with Reorder nodes where layouts meet. Ids of
 * existing values keep meaning the plain tensors; those that nobody reads plain are no longer made. */
MUST_USE status pass_layout(graph *g, const backend *b);
/* narrow_rows.c, the second part of pass_layout: plain float32 tensors between products lie in the backend's narrow type. */
MUST_USE status pass_narrow_rows(graph *g, const backend *b);

/* fuse_add.c: additions into the convolutions before them, in half precision. */
MUST_USE status pass_adds_into_convs(graph *g, const backend *b);
/* fuse_conv.c: batch norms whose result only convolutions read, into these, after the layout. */
MUST_USE status pass_norms_into_convs(graph *g, const backend *b);
/* fuse_moments.c: the statistics of batch norms out of the convolutions before them, after that. */
MUST_USE status pass_moments_from_convs(graph *g, const backend *b);
/* fuse_grad_sums.c: the sums of batch norms' gradients out of the data's gradients before them, after that. */
MUST_USE status pass_grad_sums_from_convs(graph *g, const backend *b);
/* fuse_linear_grad.c: sums of rows and slopes of activations into the products of linear layers' gradients, on a device. */
MUST_USE status pass_fuse_linear_grads(graph *g, const backend *b);
/* keep_copies.c: weights that a step reads in a narrow type are written by the optimizer; after all passes that look at one. */
MUST_USE status pass_keep_copies(graph *g, const backend *b);
/* join_reorders.c: the weights that change their layout in every step do so together, in nodes of up to 32; after that. */
MUST_USE status pass_join_reorders(graph *g, const backend *b);
/* narrow_attention.c: where images lie in a narrow type, attention may round its operands to it. */
MUST_USE status pass_narrow_attention(graph *g, const backend *b);

/* The type by which rows are chosen: of the first present input, of the first output when there is none. */
dtype kernel_type(const kernel_args *a);

/* cuda.c: a device through a table of calls and kernel tables (NULL-terminated), both borrowed. open_libs is asked for the
 * libraries once there is a device; NULL: none. */
struct cuda_api;
struct cuda_libs;
typedef status open_libs_fn(struct cuda_libs **out);
MUST_USE status cuda_open(const struct cuda_api *api, const kernel_row *const *tables, open_libs_fn *open_libs,
                          const backend_options *o, int index, backend **out);
bool cuda_has_driver(const struct cuda_api *api);
const char *cuda_driver_for(int runtime); /* "driver 580 or newer"; runtime: 13000 for CUDA 13.0 */
/* cuda_survey.c */
void cuda_survey(const struct cuda_api *api, backend_teller tell, void *ctx);
MUST_USE status cpu_open(const backend_options *o, backend **out);

#endif
