/* insert.h - a float network becomes a network in QDQ form.
 *
 *     quant_prepare -> places_find -> calibration -> quant_insert -> export, or pass_integer_groups
 *
 * Activations: QuantizeLinear and DequantizeLinear with one scale and zero point. Weights: int8 constants (scale per channel
 * where the scheme says so, zero point 0) behind DequantizeLinear. Bias: an int32 constant behind DequantizeLinear with scale
 * sx * sw and no zero point. All scales and zero points of one number are true scalars. */
#ifndef DISTILL_QUANT_INSERT_H
#define DISTILL_QUANT_INSERT_H

#include "quant/calibrate.h"
#include "quant/weight.h"

/* Brings a frozen graph into the form that places are found in: no identities, batch norms folded, MatMul + Add of a
 * constant row on [rows, columns] become Gemm. */
MUST_USE status quant_prepare(graph *g);

/* A new graph (caller frees): g with integers where p says so. params: [p->n_group]. Names of g's values stay, also those of
 * its outputs; what is new is called NAME_q, NAME_dq and so on. */
MUST_USE status quant_insert(const graph *g, const places *p, const quant_scheme *s, const quant_params *params, graph **out);

/* The same with integers that are known already (QAT): a zero point for each rounded value, and where weights come from (in `mem`,
 * bias NULL only where the product has none). */
typedef struct given_integers {
    const int32_t *zero; /* [p->n_value] */
    status (*weight)(void *ctx, const graph *g, const node *n, arena *mem, int_weight *out);
    void *ctx;
} given_integers;
MUST_USE status quant_insert_given(const graph *g, const places *p, const quant_scheme *s, const quant_params *params,
                                   const given_integers *given, graph **out);

#endif
