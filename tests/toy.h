/* toy.h - a whole job that trains in milliseconds: pictures of 8 x 8 in four classes, a teacher of our own making. */
#ifndef DISTILL_TESTS_TOY_H
#define DISTILL_TESTS_TOY_H

#include "config/config.h"
#include "exec/exec.h"

enum { TOY_TRAIN = 96, TOY_VAL = 40, TOY_SIZE = 8, TOY_CLASSES = 4 };

/* Writes DIR/data/{x,y}_{train,val}.npy, DIR/teacher.onnx and DIR/job.ini (a job that ends after 24 steps of 16 samples:
 * 4 epochs of 6). Twice the same call gives the same bytes. */
void toy_make(const char *dir);
/* The same with float images [N, 1, 8, 8], with pixel 27 of sample `odd` (if >= 0) set to `number`. */
void toy_make_float(const char *dir, int odd, double number);
/* An ONNX file of a preset or layer sections: `ini` begins with [student]. Seed 7. */
void toy_model(const char *ini, const char *path);
/* DIR/job.ini with changes "section.key=value", ended by NULL. The caller frees with config_free. */
job *toy_job(const char *dir, const char *const *set);
/* Parameters and states as the checkpoint at `path` has them. */
void toy_restore(store *s, const char *path);
/* A hash of all parameters and states, as a device has them now; the second: of those whose names `counts` takes. */
uint64_t toy_hash(store *s);
uint64_t toy_hash_of(store *s, bool (*counts)(const char *name));

#endif
