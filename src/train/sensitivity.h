/* sensitivity.h - what quantising each layer alone costs: `distill quant --sensitivity`. */
#ifndef DISTILL_TRAIN_SENSITIVITY_H
#define DISTILL_TRAIN_SENSITIVITY_H

#include "train/variants.h"

typedef struct sensitivity_row {
    const char *name;   /* of the node */
    double kl, max_abs; /* of the outputs from those in float32 (kl: mean over samples; NAN: outputs are no logits) */
    double accuracy;    /* NAN: no labels */
} sensitivity_row;

typedef struct sensitivity {
    arena mem;
    sensitivity_row *row; /* [n] products, the dearest first */
    size_t n, samples;    /* samples of the validation part, at most 1000 */
    double accuracy;      /* in float32; NAN: no labels */
} sensitivity;

/* One network for each Conv, Gemm and MatMul of v->student, in which that one alone works on integers. One calibration
 * serves all. Free with sensitivity_free, also after failure. */
MUST_USE status sensitivity_find(const variant_job *v, sensitivity *out);
void sensitivity_free(sensitivity *s);

#endif
