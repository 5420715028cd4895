/* session_ahead.h - the teacher ahead of the student: one pass over the samples of M batches (teacher.ahead), of which the next M
 * take their rows.
 *
 * Batches (of micro batches, where steps accumulate) are counted from the run's first, k; group k / M is what the teacher runs at once. So
 * groups lie where they lie however the run was interrupted: one that is resumed within a group reads all of it again and
 * computes the same bits. Outputs differ from those of M = 1 by rounding at most, where kernels are chosen by the size of a batch.
 *
 * The loader keeps the batches of a group. On the host their rows are copied out of the teacher's outputs; on a device with memory of
 * its own the pass is a launch of its own (`fill`), whose results stay there as tables [M, ...], and a step's launch
 * takes the rows that a number in its memory names (`turn`): it is recorded once for all of them. */
#ifndef DISTILL_TRAIN_SESSION_AHEAD_H
#define DISTILL_TRAIN_SESSION_AHEAD_H

#include "train/session.h"

/* Into s->together how many batches a pass of the teacher is over; errors name teacher.ahead. Before the teacher is opened. */
MUST_USE status group_choose(session *s);
/* session_ahead_time.c: the same by trial: passes over 1, 2, 4 and 8 batches, as long as they become faster and leave room. */
MUST_USE status group_measure(session *s);
/* teacher.ahead = auto of a run that goes on is what was chosen then: `before` is its config.ini (NULL: there is none). What is
 * chosen now is to be kept: group_keep, once the session is open. */
MUST_USE status group_recall(job *j, const char *before);
void group_keep(const session *s, job *j);
/* The job's groups into s->group where together > 1, on a device their tables and launch. After teacher, training graph, near and
 * loader. */
MUST_USE status group_open(session *s);
void group_close(session *s);
size_t group_bytes(const session *s); /* of tables */
/* The rows of a step as the first part of its launch, with links into `part` of its training graph. */
exec_part group_part(const session *s, size_t part, exec_link *link, size_t *n);
/* Runs of `fill` may be under way like those of the steps, of which s->ahead are. */
MUST_USE status group_open_ring(session *s);
size_t group_kernels(const session *s); /* of a pass, where it was recorded */

/* The next batch is number k. */
void group_seek(session *s, uint64_t k);
/* The group of the next batch is there; its teacher runs, in a launch of its own, where steps are launched (session_is_chained). */
MUST_USE status group_read(session *s);
MUST_USE status group_launch(session *s);
/* The next batch, without the samples that are near. */
MUST_USE status group_next(session *s, const batch **out);
/* Samples of that batch that are near, where the host has to see them. */
MUST_USE status group_make(session *s, batch *out);
/* The teacher's rows of that batch into s->taps, by way of the host. */
MUST_USE status group_ask(session *s);
/* Which rows a step's launch is to take. */
void group_put_turn(session *s);
/* Somebody else used the teacher or what is near: what they hold for the host is not this group's. */
void group_forget(session *s);

#endif
