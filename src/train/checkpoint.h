/* checkpoint.h - everything a run needs to go on, in one file of safetensors layout.
 *
 * u64 little-endian header length, JSON header, tensor bytes. The header's "__metadata__" holds text facts, "xxh3.NAME"
 * for every tensor, and "header": the XXH3 of the header with that field zeroed: a flipped bit anywhere is found.
 * Files are ckpt/step_NNNNNNNN.safetensors, written durably; `last` and `best` are small text files naming one. */
#ifndef DISTILL_TRAIN_CHECKPOINT_H
#define DISTILL_TRAIN_CHECKPOINT_H

#include "base/limits.h"
#include "exec/exec.h"

typedef struct fact {
    const char *key, *value; /* no NUL, UTF-8 */
} fact;

/* Writes the store's tensors and the facts. After ST_OK the file is durable. */
MUST_USE status checkpoint_write(const char *path, store *s, const fact *facts, size_t n_facts);

typedef struct checkpoint {
    tensor_list tensors;
    fact *facts; /* in mem */
    size_t n_facts;
    arena mem;
} checkpoint;
/* Reads and checks all of it: layout, types, shapes, no hole, no overlap, hashes. ST_BAD_DATA names what is wrong. */
MUST_USE status checkpoint_read(const char *path, const limits *lim, checkpoint *out);
void checkpoint_free(checkpoint *c);
const char *checkpoint_fact(const checkpoint *c, const char *key); /* NULL: none */
/* Puts every tensor into the store's entry of that name; names, types and shapes must be the same on both sides. The state of
 * loss scaling may be on one side only: what the store has of it then stays as it is (a session that was opened: the start). */
MUST_USE status checkpoint_restore(const checkpoint *c, store *s);

/* ---- the folder of a run ---- */

/* The path of step's file below dir, in `mem`. */
MUST_USE status checkpoint_path(arena *mem, const char *dir, uint64_t step, const char **out);
/* Makes DIR/last (or best) name this step's file. */
MUST_USE status checkpoint_point(const char *dir, const char *pointer, uint64_t step);
/* The step that DIR/pointer names; false: there is none. */
bool checkpoint_pointed(const char *dir, const char *pointer, uint64_t *step);
/* Newest file that is whole; bad ones are warned about and passed over. *found false: none. */
MUST_USE status checkpoint_find_newest(const char *dir, const limits *lim, checkpoint *out, uint64_t *step, bool *found);
/* Removes all but the newest `keep` up to step `newest` and the one that `best` names. Files of later steps were passed
 * over as damaged when the run went on: they count for nothing and stay until the run comes to their step. */
MUST_USE status checkpoint_retain(const char *dir, size_t keep, uint64_t newest);

#endif
