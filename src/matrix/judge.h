/* judge.h - what came out of a runtime, against what should have: the figures and the state of a cell. */
#ifndef DISTILL_MATRIX_JUDGE_H
#define DISTILL_MATRIX_JUDGE_H

#include "matrix/files.h"

typedef struct judge_by {
    const file_facts *file;
    const float *own;   /* the same file in our executor, [>= n, width]; NULL: this is that one */
    const float *plain; /* the float32 network of the same model there; NULL: none, nothing is said of disagreement */
    bool numbers;       /* outputs are numbers: no classes */
    const int32_t *label;        /* [n], below 0: none */
    const float *const *target;  /* [n] of [width]; for numbers; NULL: none */
    const char *isa;             /* that it ran with, for the reason; NULL: unknown */
    const char *known;           /* a fault that the runtime is known for, for the reason; NULL: none */
    bool bf16;                   /* the runtime computes float files in bfloat16 */
    bool may_saturate;           /* a runtime that multiplies bytes in 16 bits where the processor has no VNNI */
} judge_by;

/* y: [n, ...] as the runtime gave it (float32, float64, float16, int8, uint8). Fills the cell's figures, state (CELL_OK or
 * CELL_DIFFERS) and reason; what it needs lives in mem. */
MUST_USE status judge_outputs(const judge_by *by, const tensor *y, size_t n, arena *mem, matrix_cell *c);

/* The outputs of y as floats [n, width], integers dequantised; *st of another size than n * width: ST_BAD_DATA. Free with mem_free. */
MUST_USE status judge_floats(const file_facts *file, const tensor *y, size_t n, float **out);

#endif
