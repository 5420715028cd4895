/* block.h - a whole part of a data set as arrays, for whoever makes batches of it elsewhere: on a device. */
#ifndef DISTILL_DATA_BLOCK_H
#define DISTILL_DATA_BLOCK_H

#include "data/data.h"

/* Input k of every sample of a part, in their order. */
typedef struct data_block {
    dtype type;
    shape sh;         /* images of bytes: uint8 [n, H, W, c], c = channels or 1, at the model's size, or at their own where random
                         resized crops are made of them; everything else: [n, one sample] */
    const void *data; /* of the data set, or own */
    void *own;
    size_t own_bytes;
} data_block;

/* Why batches of the part cannot be made of its blocks alone; NULL: they can. */
const char *dataset_keeps_host(const dataset *ds, data_part p);
/* Bytes that the blocks of all inputs will have. */
size_t dataset_block_bytes(const dataset *ds, data_part p);
/* Image files are decoded now, by that many threads (bad ones are recorded, their pixels are zeros). Where the data set has the
 * samples in this order nothing is copied. */
MUST_USE status dataset_block(dataset *ds, data_part p, uint32_t k, uint32_t threads, data_block *out);
void data_block_free(data_block *b);
/* [channels, 256]: what a byte of each channel becomes. */
const float *dataset_pixel_table(const dataset *ds);
const augment_options *dataset_augment(const dataset *ds);
resize_filter dataset_filter(const dataset *ds);
bool dataset_is_bad(const dataset *ds, data_part p, uint32_t i); /* sample i is known as a bad one so far */

#endif
