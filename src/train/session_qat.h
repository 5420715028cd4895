/* session_qat.h - a trained session goes on: the same data, teacher and losses, the student with the rounding of its integer
 * form (quant/qat.h).
 *
 *     session_open ... trained -> session_open_qat -> loop_run in a folder of its own -> session_export -> session_close_qat
 *
 * The float session stays as it is and is borrowed: its student's weights (their averages, where they are kept) are the start, and
 * backend, data, teacher and the teacher's remembered outputs are shared. Nothing of a QAT session depends on more than the float
 * weights and the job, so that one that was stopped is opened anew and goes on from its checkpoint, bit for bit.
 *
 * The steps are by Adam without weight decay, with the learning rate quant.lr and the schedule of the job, over quant.epochs
 * epochs; losses, their weights' ramps, hints (qat_hints.c says which go on) and the average of the weights are the job's. */
#ifndef DISTILL_TRAIN_SESSION_QAT_H
#define DISTILL_TRAIN_SESSION_QAT_H

#include "quant/qat.h"
#include "train/loop.h"
#include "train/session.h"

typedef struct session_qat {
    const char *key; /* "int8-qat", "portable", "portable-s8" */
    qat_options o;
    qat_ranges ranges;
    session *base;
    job j; /* the base's with the numbers of this training */
    size_t *tap; /* [n_hint] the teacher's output that a hint reads; what base's other hints read is computed and not used */
    bool pixel_input; /* the exported model takes pixel / 256 (s8: half that resolution) instead of normalised images */
} session_qat;

/* Is `key` a variant that is trained? */
bool qat_variant(const char *key);
quant_profile qat_profile(const char *key); /* PROFILE_NONE: its file promises no equal bits */
/* Also after failure nothing has to be freed. `base` must not be stepped meanwhile. */
MUST_USE status session_open_qat(session *base, const char *key, session *out);
void session_close_qat(session *s);

/* How images reach the exported model: as (pixel / 255 - mean) / std; into [channels] each. The session's own numbers, unless it
 * takes pixels: (pixel / 256, and for s8 the same less half of its lowest bit: what is rounded to 2^-7 then is pixel >> 1). */
void session_input_numbers(const session *s, float *mean, float *std);

/* All of it: opens, trains in o->dir (made ready like any run's folder) and writes `path` with the facts, those of the input
 * added. mean, std [DATA_CHANNELS]: session_input_numbers. ST_STOPPED: saved and resumable. Free the result's evaluation. */
struct export_pair;
MUST_USE status session_train_variant(session *base, const char *key, const loop_options *o, const char *path,
                                      const struct export_pair *facts, size_t n_facts, loop_result *out, float *mean, float *std);

/* qat_hints.c: the hints of base that go on in s. Before batch norms are folded into a student g: what hints read stays, by name,
 * until qat_unmark_hints. */
MUST_USE status qat_mark_hints(const session *s, graph *g);
MUST_USE status qat_unmark_hints(graph *g);
/* Fills s->hint and s->qat->tap. was: the student as it was trained, g: as qat_insert gets it. */
MUST_USE status qat_choose_hints(session *s, const graph *was, const graph *g);
/* They read the rounded numbers where `rounded`, of qat_insert, has some. */
MUST_USE status qat_round_hints(session *s, const graph *rounded);

/* For session.c: the student with its rounding. */
MUST_USE status qat_student(const session *s, int64_t rows, graph **out);
/* As QDQ graph with the weights that are judged. */
MUST_USE status qat_leave(const session *s, int64_t rows, graph **out);
/* For session_export: the same into a file. */
struct export_options;
MUST_USE status qat_export(const session *s, int64_t rows, const struct export_options *o, const char *path);

#endif
