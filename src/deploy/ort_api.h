/* ort_api.h - our own view of ONNX Runtime's C interface: the functions we call, by their place in its table.
 *
 * libonnxruntime exports OrtGetApiBase(), which gives GetApi(version) and GetVersionString(). GetApi returns a table of
 * function pointers that is append-only: a slot keeps its number and its signature for ever (the header's promise, and
 * static_asserts in its source hold it). All objects are opaque pointers; a function that returns `ort_status *`
 * returns NULL for success, else an object with code and message that must be released. Element types have the numbers
 * of ONNX's TensorProto.DataType. */
#ifndef DISTILL_DEPLOY_ORT_API_H
#define DISTILL_DEPLOY_ORT_API_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

/* ONNX Runtime 1.12 (2022): every slot below exists since. */
#define ORT_API_VERSION 12

typedef struct ort_status ort_status;
typedef struct ort_env ort_env;
typedef struct ort_raw_session ort_raw_session;
typedef struct ort_raw_options ort_raw_options;
typedef struct ort_value ort_value;
typedef struct ort_type_info ort_type_info;
typedef struct ort_tensor_info ort_tensor_info;
typedef struct ort_memory_info ort_memory_info;
typedef struct ort_allocator ort_allocator;

/* X(name, slot, result, parameters) */
#define ORT_FUNCTIONS(X)                                                                                     \
    X(GetErrorCode, 1, int, (const ort_status *))                                                            \
    X(GetErrorMessage, 2, const char *, (const ort_status *))                                                \
    X(CreateEnv, 3, ort_status *, (int log_level, const char *name, ort_env **))                             \
    X(CreateSession, 7, ort_status *,                                                                        \
      (const ort_env *, const char *path, const ort_raw_options *, ort_raw_session **))                      \
    X(CreateSessionFromArray, 8, ort_status *,                                                               \
      (const ort_env *, const void *model, size_t, const ort_raw_options *, ort_raw_session **))             \
    X(Run, 9, ort_status *,                                                                                  \
      (ort_raw_session *, const void *run_options, const char *const *in_names, const ort_value *const *in,  \
       size_t n_in, const char *const *out_names, size_t n_out, ort_value **out))                            \
    X(CreateSessionOptions, 10, ort_status *, (ort_raw_options **))                                          \
    X(SetOptimizedModelFilePath, 11, ort_status *, (ort_raw_options *, const char *path))                    \
    X(SetSessionGraphOptimizationLevel, 23, ort_status *, (ort_raw_options *, int level))                    \
    X(SetIntraOpNumThreads, 24, ort_status *, (ort_raw_options *, int))                                      \
    X(SetInterOpNumThreads, 25, ort_status *, (ort_raw_options *, int))                                      \
    X(SessionGetInputCount, 30, ort_status *, (const ort_raw_session *, size_t *))                           \
    X(SessionGetOutputCount, 31, ort_status *, (const ort_raw_session *, size_t *))                          \
    X(SessionGetInputTypeInfo, 33, ort_status *, (const ort_raw_session *, size_t, ort_type_info **))        \
    X(SessionGetOutputTypeInfo, 34, ort_status *, (const ort_raw_session *, size_t, ort_type_info **))       \
    X(SessionGetInputName, 36, ort_status *, (const ort_raw_session *, size_t, ort_allocator *, char **))    \
    X(SessionGetOutputName, 37, ort_status *, (const ort_raw_session *, size_t, ort_allocator *, char **))   \
    X(CreateTensorWithDataAsOrtValue, 49, ort_status *,                                                      \
      (const ort_memory_info *, void *data, size_t bytes, const int64_t *dims, size_t rank, int type,        \
       ort_value **))                                                                                        \
    X(IsTensor, 50, ort_status *, (const ort_value *, int *))                                                \
    X(GetTensorMutableData, 51, ort_status *, (ort_value *, void **))                                        \
    X(CastTypeInfoToTensorInfo, 55, ort_status *, (const ort_type_info *, const ort_tensor_info **))         \
    X(GetTensorElementType, 60, ort_status *, (const ort_tensor_info *, int *))                              \
    X(GetDimensionsCount, 61, ort_status *, (const ort_tensor_info *, size_t *))                             \
    X(GetDimensions, 62, ort_status *, (const ort_tensor_info *, int64_t *, size_t))                         \
    X(GetTensorTypeAndShape, 65, ort_status *, (const ort_value *, ort_tensor_info **))                      \
    X(CreateCpuMemoryInfo, 69, ort_status *, (int allocator, int memory, ort_memory_info **))                \
    X(AllocatorFree, 76, ort_status *, (ort_allocator *, void *))                                            \
    X(GetAllocatorWithDefaultOptions, 78, ort_status *, (ort_allocator **))                                  \
    X(ReleaseEnv, 92, void, (ort_env *))                                                                     \
    X(ReleaseStatus, 93, void, (ort_status *))                                                               \
    X(ReleaseMemoryInfo, 94, void, (ort_memory_info *))                                                      \
    X(ReleaseSession, 95, void, (ort_raw_session *))                                                         \
    X(ReleaseValue, 96, void, (ort_value *))                                                                 \
    X(ReleaseTypeInfo, 98, void, (ort_type_info *))                                                          \
    X(ReleaseTensorTypeAndShapeInfo, 99, void, (ort_tensor_info *))                                          \
    X(ReleaseSessionOptions, 100, void, (ort_raw_options *))                                                 \
    X(AddSessionConfigEntry, 130, ort_status *, (ort_raw_options *, const char *key, const char *value))

#define ORT_POINTER(name, slot, result, parameters) result(*name) parameters;
typedef struct ort_api {
    ORT_FUNCTIONS(ORT_POINTER)
} ort_api;
#undef ORT_POINTER

typedef void (*ort_slot)(void);
typedef struct ort_api_base {
    const ort_slot *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} ort_api_base;
typedef const ort_api_base *(*ort_get_api_base)(void);

/* Error codes that we tell apart, log levels, graph optimisation levels. */
enum { ORT_NO_SUCH_FILE = 3 };
enum { ORT_LOG_FATAL = 4 };
enum { ORT_OPTIMIZE_NONE = 0, ORT_OPTIMIZE_BASIC = 1, ORT_OPTIMIZE_ALL = 99 };

struct ort_lib {
    void *handle;
    char *path;
    const char *version;
    ort_api api;
    ort_env *env;
    ort_memory_info *memory;
    ort_allocator *allocator; /* ONNX Runtime's own default one; not released */
};

/* Turns ONNX Runtime's status into ours, `kind`, with its message behind `what`, and releases it. */
MUST_USE status ort_check(const struct ort_lib *lib, ort_status *s, status kind, const char *what);

#endif
