/* bind.h - importing a model for given inputs: open dimensions are those of the data, and inputs that an operator needs as
 * constants (shapes, axes, sizes) are given as such. */
#ifndef DISTILL_ONNX_BIND_H
#define DISTILL_ONNX_BIND_H

#include "onnx/import.h"

#define BIND_INPUTS_MAX 64

/* in: named tensors, at most BIND_INPUTS_MAX. Binds as few of them as possible. What was not bound is an input of the
 * graph, of the data's type and shape. */
MUST_USE status onnx_import_for(const onnx_model *m, const tensor *in, size_t n_in, bool keep_training_mode, graph **out);
/* Names for tensors that have none (or others), by the order of the model's inputs. */
MUST_USE status onnx_name_inputs(const onnx_model *m, tensor *in, size_t n_in);

#endif
