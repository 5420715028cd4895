/* feed.h - the inputs of a file as .npy: the validation samples, as that file's metadata wants them. */
#ifndef DISTILL_MATRIX_FEED_H
#define DISTILL_MATRIX_FEED_H

#include "matrix/files.h"

/* What the inputs of a file depend on, as text: data, samples, normalisation, rounding; part of a cell's key. */
MUST_USE status feed_print(const data_info *d, const file_facts *x, size_t samples, arena *mem, const char **out);
/* Writes input k of the file, all validation samples up to `samples`, to PATH; images are normalised as the file says (else as the
 * job does), and rounded where the file is portable. Leaves the data set as it was. */
MUST_USE status feed_write(dataset *ds, const file_facts *x, size_t k, size_t samples, const char *path);
/* The answers to the first `samples` validation samples, in mem: label[i] below 0 and target[i] NULL where there is none. */
MUST_USE status feed_answers(const dataset *ds, size_t samples, arena *mem, int32_t **label, const float ***target);

#endif
