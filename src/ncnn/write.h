/* write.h - a frozen graph becomes ncnn's two files: layers as text (.param), weights as bytes (.bin).
 *
 * In: an inference graph as it was imported or built (before layout and fusion passes), all weights constants, in float or in
 * QDQ form with int8 codes of zero point 0 (portable-s8). ncnn has no batch: dimension 0 of every value must be 1, and is left out
 * of the files (an image is [C, H, W]). Names of inputs and outputs are the graph's, blanks and bytes beyond ASCII made '_'.
 *
 * Integers. A product between DequantizeLinear and QuantizeLinear becomes an int8 layer (weights under ncnn's tag for int8 and
 * their scales), whose result goes on as int8 where another int8 layer alone reads it. Rounding stands as layers of its own
 * (times 1/scale, round, clip, times scale) only where somebody wants the rounded floats. ncnn's int8 has two limits, and a product
 * that meets one is computed in float32 on the same integers instead, which is exact for portable models (rule 4 of
 * quant/portable.h): it has no code -128, so what reads a tensor that may hold it is float; and its packed depthwise kernel is exact
 * to 2^-12 only, so a depthwise sum that may pass 2^13 is float. Graph inputs are taken as above -128. */
#ifndef DISTILL_NCNN_WRITE_H
#define DISTILL_NCNN_WRITE_H

#include "graph/graph.h"

typedef struct ncnn_facts { /* about what was written */
    size_t layers, int8_layers;
    size_t widened; /* products on integers that are computed in float32, see above */
    size_t param_bytes, bin_bytes;
} ncnn_facts;

/* Appends both files. ST_BAD_DATA naming node and operator when ncnn has no form of it here, with what to do. facts may be NULL. */
MUST_USE status ncnn_write(const graph *g, text *param, text *bin, ncnn_facts *facts);
/* The same as PATH, which ends in .param, and PATH with .bin in its place; each written durably, the .param last. */
MUST_USE status ncnn_write_files(const graph *g, const char *path, ncnn_facts *facts);
/* Beside an ONNX file: PATH.param and PATH.bin for PATH.onnx. A model that ncnn has no form of gets none: *written is false, the log
 * says why. */
MUST_USE status ncnn_write_beside(const graph *g, const char *path, bool *written);

/* Whether an operator has a row here (`distill help ops`). */
bool ncnn_takes(op_id op);

#endif
