/* fake.h - what the twins of cuBLASLt and cuDNN share: every call counts, one may fail, and things made are counted. */
#ifndef DISTILL_TESTS_FAKE_H
#define DISTILL_TESTS_FAKE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
/* The n-th call from now fails (0: none). */
void fake_fail_at(long n);
long fake_calls(void);  /* since fake_fail_at */
bool fake_failed(void); /* whether one did */
long fake_alive(void);  /* handles, descriptors and plans that were made and not freed */
/* Engines that the twin of cuDNN knows for every graph and proposes in this order (borrowed). n 0: one, that serves. */
typedef struct fake_engine {
    int number, knob; /* two may have the same number; one knob, of type 1 */
    int mode;         /* the heuristic that proposes it */
    double seconds;   /* of a run, on the device's clock */
    size_t workspace;
    bool broken;      /* its plans cannot be finalised */
    bool stops;       /* nor executed */
    int note;         /* numerical, less 1; 0: none */
    double sums;      /* seconds more where the graph sums up what it made */
} fake_engine;
void fake_dnn_engines(const fake_engine *e, int n);
typedef struct fake_dnn_asked { /* since fake_dnn_engines */
    int heuristics, plans, runs; /* results asked for; plans finalised; executed */
} fake_dnn_asked;
const fake_dnn_asked *fake_dnn_count(void);
#ifdef __cplusplus
}
/* For the twins: whether this call is to fail; counts one made (1) or freed (-1). */
bool fake_fails();
void fake_count(long made);
#endif

#endif
