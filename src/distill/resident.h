/* resident.h - a part of a data set that stays on a device: a graph whose inputs are the places of samples and whose outputs
 * are the batch that the loader would have made of them, bit for bit.
 *
 *     loader (places only) -> resident_put -> exec: BatchImages, Gather -> x of the teacher and of the student (exec_link) */
#ifndef DISTILL_DISTILL_RESIDENT_H
#define DISTILL_DISTILL_RESIDENT_H

#include "data/loader.h"
#include "exec/exec.h"

typedef struct resident {
    graph *g;
    exec *e;
    value_id x[DATA_INPUTS]; /* [rows, ...] input k of the data set: outputs of g */
    size_t n_x;
    size_t bytes;            /* of the samples */
    /* inputs of g, [rows] each; 0: it has none */
    value_id row, number, view, other_row, other_number, share;
    data_part part;
} resident;

/* Takes the samples of a part to the device (block.h), for batches of `rows` samples changed as the data set's augmentation asks
 * (training part), by the numbers of `seed`. ST_OOM where the device has no room for them. threads: for decoding. */
MUST_USE status resident_open(dataset *ds, data_part p, int64_t rows, uint64_t seed, uint32_t threads, backend *b, resident **out);
void resident_close(resident *r); /* NULL allowed */
/* The places of a batch into the inputs, from row `at` on. */
void resident_put(const resident *r, const dataset *ds, const batch *b, size_t at);

#endif
