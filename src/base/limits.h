/* limits.h - how much of anything an input may ask for. Every reader of outside data takes these. */
#ifndef DISTILL_BASE_LIMITS_H
#define DISTILL_BASE_LIMITS_H

#include <stdint.h>

/* X(name, default, meaning): the [limits] section of the config is made from this list too. */
#define LIMITS(X)                                                                                                 \
    X(onnx_file, 2147483647, "bytes of an ONNX file")                                                             \
    X(onnx_depth, 64, "nesting of messages in an ONNX file")                                                      \
    X(onnx_messages, 1000000, "messages in an ONNX file")                                                         \
    X(external_data, 17179869184, "bytes of external tensor data of one model")                                   \
    X(tensors, 1000000, "tensors of a model")                                                                     \
    X(nodes, 1000000, "nodes of a model")                                                                         \
    X(parameters, 4294967296, "parameters of a student")                                                          \
    X(elements, 1099511627776, "elements of a tensor")                                                            \
    X(fold_bytes, 268435456, "bytes of one folded constant")                                                      \
    X(name, 4096, "bytes of a name")                                                                              \
    X(ini_file, 1048576, "bytes of a config file")                                                                \
    X(ini_line, 65536, "bytes of a config line")                                                                  \
    X(image_file, 67108864, "bytes of an image file")                                                             \
    X(image_pixels, 67108864, "pixels of an image")                                                               \
    X(jpeg_scans, 100, "scans of a progressive JPEG")                                                             \
    X(data_file, 17179869184, "bytes of a data file (idx, npy, npz), unpacked")                                   \
    X(data_ratio, 200, "unpacked bytes for each packed byte of a data file, above 64 MiB")                        \
    X(samples, 100000000, "samples of a data set")                                                                \
    X(checkpoint_header, 104857600, "bytes of a checkpoint's header")                                             \
    X(json_depth, 64, "nesting of a JSON file")

#define LIMIT_FIELD(name, value, meaning) uint64_t name;
typedef struct limits {
    LIMITS(LIMIT_FIELD)
} limits;
#undef LIMIT_FIELD

limits limits_default(void);

#endif
