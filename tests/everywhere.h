/* everywhere.h - a portable net in every executor there is here: equal bits, or the test fails.
 *
 * Ours twice (the definition in float, and on integers), ONNX Runtime at every optimisation level with and without
 * session.x64quantprecision, onnx.reference, LiteRT with XNNPACK, its builtin and its reference kernels. */
#ifndef DISTILL_TESTS_EVERYWHERE_H
#define DISTILL_TESTS_EVERYWHERE_H

#include "base/text.h"
#include "graph/graph.h"

typedef struct everywhere {
    const char *dir;  /* where the files lie */
    text list;
    size_t nets;
    size_t products;  /* that our executor ran on integers */
    size_t no_tflite; /* nets that TFLite has no form of: LiteRT does not run them */
    text why;         /* of these */
    bool haswell;     /* to set: ONNX Runtime also on an emulated processor that adds pairs of products in 16 bits */
} everywhere;

everywhere everywhere_begin(void);
/* Runs g here on x (of the input's size; borrowed) and puts the files for the others. `varied`: fails unless the results are
 * not all the same number. */
void everywhere_add(everywhere *e, const char *name, const graph *g, const float *x, bool varied);
/* Runs the others on all nets, skips (as `test`) those that are not installed, and frees. */
void everywhere_judge(everywhere *e, const char *test);

#endif
