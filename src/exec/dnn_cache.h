/* dnn_cache.h - engines of cuDNN that were found fastest on a device, remembered from run to run.
 *
 * One file for each device, cuDNN version and form of the key, in the cache folder: lines of text, each with a checksum of its
 * own, bound to the file's subject. A line that is damaged, or that this program would not have written, is as if it were not
 * there. Processes may write at the same time: each adds what it measured to what is there then, under a lock. Losing the
 * file costs measuring again, so nothing about it is an error but missing memory. */
#ifndef DISTILL_EXEC_DNN_CACHE_H
#define DISTILL_EXEC_DNN_CACHE_H

#include "kernels/cuda/dnn.h"
#include "base/status.h"

typedef struct dnn_cache dnn_cache;

/* folder: cache.dir as configured, "": the user's cache folder. device: its name and compute capability; version: cuDNN's.
 * Reads what is there. */
MUST_USE status dnn_cache_open(const char *folder, const char *device, size_t version, dnn_cache **out);
/* Its functions for cuda_dnn; valid until it is closed. */
dnn_memory dnn_cache_memory(dnn_cache *c);
/* Brings what is new to the disk; c NULL, or nothing new: does nothing. What fails is said in the log, once. */
void dnn_cache_save(dnn_cache *c);
void dnn_cache_close(dnn_cache *c); /* saves; NULL allowed */

/* For tests and reports: entries, and lines of the file that were not believed. */
size_t dnn_cache_count(const dnn_cache *c, size_t *refused);
const char *dnn_cache_path(const dnn_cache *c);

#endif
