/* student.h - from what a job asks for to the student's graph.
 *
 * Three sources, one result: a preset ([student] arch), a list of [layer NAME] sections, or an ONNX model ([student]
 * onnx). The graph is in inference form: BatchNormalization with PARAM scale and bias and STATE statistics;
 * pass_training_mode turns a copy of it into the training form. Every parameter carries its start value, which is a
 * function of (train.seed, parameter name) alone: the training graph and the evaluation graph, built from one spec with
 * two batch sizes, agree in names, shapes and start values. The batch stands in no attribute.
 *
 * Input "input" [batch, sample...] (VALUE_BATCHED), output "logits"; a student from ONNX keeps its own names. Values
 * that hints and people refer to: presets "stem" (not the pre-activation ones), "layer1", "layer2" ... the outputs of
 * the stages (mlp: of the hidden layers), after their activation; layer sections: NAME is the output of [layer NAME],
 * the last of them is "logits". Parameters: PLACE.weight, PLACE.bias, PLACE.running_mean, PLACE.running_var.
 *
 * Layer sections: `op` is an ONNX operator (its attributes are keys) or a block: conv_bn, residual, preact,
 * inverted_residual, depthwise_separable, dense. `input`: earlier layers, "input", or numbers; output k > 0 of a layer
 * is NAME.k. Operators that lack their weights get them: `channels` (or `units`, which takes the word "classes" too),
 * `bias`, for the table of a Gather `entries`; such a Gemm has transB = 1. `activation` adds one behind the layer.
 *
 * Start values: pytorch: what torch.nn's modules do, convolution and linear weight and bias uniform in +-1/sqrt(fan_in)
 * (kaiming_uniform with a = sqrt(5)). he: convolution weights normal with variance 2/fan_out (He et al. 2015, as in
 * torchvision's ResNets), the rest as pytorch. Both: norms 1 and 0, PRelu 0.25, embeddings standard normal. */
#ifndef DISTILL_STUDENT_STUDENT_H
#define DISTILL_STUDENT_STUDENT_H

#include "config/config.h"
#include "graph/graph.h"

typedef struct student_spec {
    const job *job;  /* borrowed: sections student, layer, limits and the key train.seed */
    int64_t classes; /* width of the output where student.classes is auto; 0 (layers and onnx only): not checked */
    shape sample;    /* of one sample, without the batch: [C, H, W], [C, L], [features] */
    dtype type;      /* of the input; DTYPE_NONE: float32 */
    const struct onnx_model *file; /* borrowed: student.onnx, opened; NULL: every call reads it */
    uint32_t n_inputs; /* of a sample; more than 1 (students from ONNX only): the caller matches them, `sample` is not checked */
} student_spec;

/* Builds the graph for a batch size. Faults of the job are ST_CONFIG with their place in the file; all faults in the
 * keys of layer sections are reported together, one a line, up to 20. */
MUST_USE status student_build(const student_spec *s, int64_t batch, graph **out);

/* Whether the job describes a student at all, and by one source only; part of student_build. */
MUST_USE status student_check(const job *j);

/* "resnet-8", "mlp", "layers", "tiny.onnx": for tables. Into buf (n bytes), which it returns. */
const char *student_title(const job *j, char *buf, size_t n);

#endif
