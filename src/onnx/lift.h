/* lift.h - takes the large weights out of a model's bytes, so that unpacking the rest does not copy them.
 *
 * Bytes that wire_check let through as a ModelProto become a small ModelProto without the raw_data of large initializers,
 * and the list of those. The weights stay in the buffer, moved a few bytes down where there is room, so that they are
 * aligned. */
#ifndef DISTILL_ONNX_LIFT_H
#define DISTILL_ONNX_LIFT_H

#include "base/mem.h"
#include "base/text.h"

#define LIFT_ALIGNMENT 16 /* what graphs ask of data that they share (graph_add_shared) */

typedef struct lifted {
    size_t initializer; /* of the model's graph */
    unsigned char *data; /* in the buffer; not aligned where the bytes before it left no room */
    size_t n;
} lifted;

/* Appends the small model to `rest`; *list [*n_list] is the caller's (mem_free). `data` is good for nothing but the weights
 * afterwards. */
MUST_USE status lift_weights(unsigned char *data, size_t n, text *rest, lifted **list, size_t *n_list);

#endif
