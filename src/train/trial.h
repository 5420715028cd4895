/* trial.h - the variants of a job, tried before the training: what can be known to fail then fails now. */
#ifndef DISTILL_TRAIN_TRIAL_H
#define DISTILL_TRAIN_TRIAL_H

#include "train/session.h"

/* Every variant of [export] variants is made from the student as it is now, calibrated on few samples: those that train are
 * opened, take two steps and leave; a portable one must be proven. Files go to a folder of its own below `dir`, which is removed.
 * The session is as before afterwards. Errors name the variant. */
MUST_USE status trial_variants(session *s, const char *dir);

/* The most bytes that a variant that trains takes besides the session, which stays open meanwhile; 0: none trains. */
MUST_USE status trial_memory(session *s, size_t *bytes);

#endif
