/* operator_form.h - a graph in QDQ form as operators on integers (QLinearConv, QGemm, QLinearAdd ...), to be exported: for runtimes
 * that read that form better, or alone (OpenCV). */
#ifndef DISTILL_QUANT_OPERATOR_FORM_H
#define DISTILL_QUANT_OPERATOR_FORM_H

#include "graph/graph.h"

/* Changes g. What is in no group (graph/fuse_qdq.c) stays in QDQ form. A product of matrices with a result of bytes becomes a convolution of
 * one pixel (OpenCV before 4.7 has no QGemm). An integer value NAME becomes NAME_quantized, with constants
 * NAME_scale and NAME_zero_point, as ONNX Runtime's quantiser writes them: OpenCV before 4.7 finds the parameters by these names. */
MUST_USE status operator_form(graph *g);
/* Writes that form of g, which stays as it is. */
MUST_USE status operator_form_write(const graph *g, const char *path);

#endif
