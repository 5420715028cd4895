/* job_spec.h - the job's sections in the words of the modules that carry them out. No work is done here. */
#ifndef DISTILL_TRAIN_JOB_SPEC_H
#define DISTILL_TRAIN_JOB_SPEC_H

#include "train/session.h"

#define HINTS_MAX 64

/* `teacher` (NULL: none) tells the input's shape where the job leaves it open. `from_teacher`: unlabelled samples are of
 * use. Text lives in mem. */
MUST_USE status job_data_options(const job *j, const graph *teacher, bool from_teacher, arena *mem, data_options *out);
MUST_USE status job_student_spec(const job *j, const data_info *info, const graph *teacher, student_spec *out);
/* Fills s->hint, hint_from, hint_to: named pairs, and [hint auto]. */
MUST_USE status job_hints(const job *j, const graph *student, const graph *teacher, arena *mem, session *s);
/* Are a student's outputs, of that rank with the batch, numbers to come close to (and not logits of classes)? */
bool job_gives_numbers(const job *j, const data_info *info, int rank);
MUST_USE status job_train_spec(session *s, train_spec *out);
loader_options job_loader_options(const job *j);
MUST_USE status job_schedule(const job *j, uint64_t steps_per_epoch, uint64_t steps, arena *mem, schedule *out);
backend_options job_backend_options(const job *j);
size_t job_memory_limit(const job *j); /* bytes; 0: none */
/* "T^2 KL to the teacher (T = 4), no labels": for people. */
MUST_USE status job_method(const session *s, arena *mem, const char **out);

#endif
