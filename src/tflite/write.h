/* write.h - a frozen graph becomes a TensorFlow Lite file, by our own FlatBuffer writer: the same bytes for the same graph.
 *
 * In: an inference graph as it was imported or built (before layout and fusion passes), all weights constants, in float or
 * in QDQ form. Where operators stand between DequantizeLinear and QuantizeLinear and TFLite has them in int8, they become
 * int8 operators with the same integers (codes of type uint8 are shifted by 128, which changes no value); the rest stays
 * float between DEQUANTIZE and QUANTIZE. Per-channel weights and int32 biases of scale sx*sw stay as they are.
 *
 * Layout: TFLite's images are [N, H, W, C]. Graph inputs and outputs of rank 4 are therefore [N, H, W, C] in the file,
 * whatever they are in the graph ([N, C, H, W]); other ranks stay. Transposes appear only where the graph itself leaves
 * images (a Flatten before a matrix product needs none: the matrix is reordered).
 *
 * Padding that TFLite's SAME does not describe becomes a PAD operator before it. Dynamic batch: dimension 0 of batched
 * inputs and of what follows from them is -1 in shape_signature and 1 in shape, unless the graph has its batch size built
 * in (then it is the graph's, see tflite_facts). */
#ifndef DISTILL_TFLITE_WRITE_H
#define DISTILL_TFLITE_WRITE_H

#include "graph/graph.h"
#include "onnx/export.h"

typedef struct tflite_options {
    bool int8_ports;   /* inputs and outputs that are quantised at the edge of the graph are int8 in the file: no QUANTIZE, no
                          DEQUANTIZE there. False: float32 */
    bool fixed_batch;  /* the graph's batch, also where it could be open */
    const export_pair *meta; /* Model.metadata, in this order */
    size_t n_meta;
} tflite_options;

typedef struct tflite_facts { /* about what was written */
    bool dynamic_batch;
    int64_t batch;      /* dimension 0 in the file's shapes; 0: no input has a batch */
    size_t operators, int8_operators;
} tflite_facts;

/* Appends the file to `out`. ST_BAD_DATA naming node and operator when TFLite has no form of it here, with what to do;
 * and when the file would have 2 GiB. `o` and `facts` may be NULL. */
MUST_USE status tflite_write(const graph *g, const tflite_options *o, text *out, tflite_facts *facts);
/* The same into a file, written durably; a batch that could not stay open is said in the log. */
MUST_USE status tflite_write_file(const graph *g, const tflite_options *o, const char *path);

/* Beside an ONNX file: PATH.tflite for PATH.onnx. A model that TFLite has no form of gets none, also none of an earlier call:
 * the reason is appended to `why` (may be NULL). */
MUST_USE status tflite_write_beside(const graph *g, const tflite_options *o, const char *path, text *why);
/* "PATH.tflite" of "PATH.onnx", in `mem`. */
MUST_USE status tflite_name_beside(arena *mem, const char *path, const char **out);

/* Whether an operator has a row here (`distill help operators`). */
bool tflite_takes(op_id op);

#endif
