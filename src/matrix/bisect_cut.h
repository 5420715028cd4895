/* bisect_cut.h - private to bisect.c: a model, its values in our executor, pieces of it as files. */
#ifndef DISTILL_MATRIX_BISECT_CUT_H
#define DISTILL_MATRIX_BISECT_CUT_H

#include "graph/graph.h"

typedef struct cut_point {
    value_id v;
    const node *layer; /* what makes it, behind rounding and activations */
    double grid;       /* scale of its codes; 0: floats */
    tensor want;       /* [samples, ...], of our executor; name is the value's */
} cut_point;

typedef struct cut_model {
    graph *g; /* batch 1, as imported: what is cut */
    cut_point *point;
    size_t n;
    arena mem;
} cut_model;

/* Imports the model, finds its points and runs x through it. Free also after failure. */
MUST_USE status cut_open(const char *path, const tensor *x, int threads, cut_model *out);
void cut_close(cut_model *m);

/* Points that point i is computed from directly (nearest ones on every way up); at most `room`, *n of them. 0 when it reads
 * only the model's input. */
MUST_USE status cut_above(const cut_model *m, size_t i, size_t *above, size_t room, size_t *n);

/* Writes the model up to point i, in a form, as STEM.onnx, STEM.tflite or STEM.param (+ .bin); *path in mem. */
MUST_USE status cut_write(const cut_model *m, size_t i, const char *form, const char *stem, arena *mem, const char **path);
/* The same of what lies between the points above i and i: those become its inputs. */
MUST_USE status cut_write_alone(const cut_model *m, size_t i, const size_t *above, size_t n, const char *form, const char *stem,
                                arena *mem, const char **path);

#endif
