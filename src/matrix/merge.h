/* merge.h - the file that came back from another machine: read, held against what was packed, turned into cells.
 *
 * Refused (ST_BAD_DATA), and nothing changes: a file that is cut, too large or not the form of run_pack.py; a pack that this run did
 * not make; a signature that does not hold (anything was changed after the run); another schema, protocol or version; rows, columns
 * or samples that were not packed; models or inputs with other hashes than were packed; outputs that are not what their own hash says.
 *
 * The signature is an HMAC by a key that lay in the archive: it shows damage, edits and mix-ups. It does not show that the numbers were
 * measured, since whoever has the archive has the key. Outputs come along, so accuracy, agreement and hashes are computed here by
 * the judge of all cells; latency, memory and the names of device and versions are what the other machine said. */
#ifndef DISTILL_MATRIX_MERGE_H
#define DISTILL_MATRIX_MERGE_H

#include "base/mem.h"
#include "graph/types.h"

typedef struct merge_cell {
    const char *runtime, *variant, *form;
    const char *model_sha256, *input_sha256; /* as packed */
    const char *bin_sha256;                  /* of ncnn's weights, as packed; NULL: other forms */
    bool ok;
    const char *kind, *message; /* when not: "missing", "unsupported", "error", "memory", "timeout", "crash" */
    const char *engine, *version, *build, *device, *isa, *providers, *notes, *log; /* NULL: not said */
    double load_ms, run_s, peak_mb, seconds; /* NAN: not said */
    const double *latency_ms;
    size_t n_latency, samples;
    int64_t when;
    tensor y; /* [samples, ...]; data in mem, not to be freed; empty unless ok */
} merge_cell;

typedef struct merge_host {
    const char *name, *system, *machine, *cpu;
    int cores;
    int64_t memory;
} merge_host;

typedef struct merge_result {
    arena mem;
    const char *id, *target;
    merge_host host;
    merge_cell *cells;
    size_t n;
} merge_result;

#define MERGE_LIMIT ((uint64_t)1 << 30) /* bytes of a result */

/* Reads and checks `path` against RUN_DIR/matrix/packs. Free also after failure. */
MUST_USE status merge_read(const char *path, const char *run_dir, merge_result *out);
void merge_free(merge_result *r);

#endif
