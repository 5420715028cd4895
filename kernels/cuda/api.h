/* api.h - every call that is made of CUDA's run time, in one table, and the queue on which kernels are launched.
 *
 * The table is the one door to the device: kernels/cuda/device.cu fills it with the run time's functions, tests with an
 * emulator's, or with ones that fail at the n-th call. All functions return 0 or an error code (cudaError_t); text() says
 * what a code means. Work on a stream happens in order and, but for `wait`, later than the call.
 *
 * A kernel cannot return a failure: the first one is kept in the queue, launches after it do nothing, and the executor
 * asks cuda_queue_status. */
#ifndef DISTILL_KERNELS_CUDA_API_H
#define DISTILL_KERNELS_CUDA_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cuda_device_info {
    char name[256];
    int level;                 /* compute capability, major * 10 + minor */
    int multiprocessors;
    size_t memory;             /* bytes in all */
    size_t l2;                 /* bytes of second-level cache */
    size_t shared_per_block;   /* bytes that a block gets without asking */
    size_t shared_per_block_optin;
} cuda_device_info;

typedef enum cuda_copy { CUDA_COPY_TO_DEVICE, CUDA_COPY_TO_HOST, CUDA_COPY_ON_DEVICE } cuda_copy;

/* X(name, parameters, arguments): a table of functions, and wrappers of it, are made of this list. */
#define CUDA_API(X)                                                                                                    \
    X(driver_version, (int *version), (version)) /* 13000: CUDA 13.0; 0: there is no driver */                         \
    X(runtime_version, (int *version), (version))                                                                      \
    X(device_count, (int *n), (n))                                                                                     \
    X(device_info, (int device, cuda_device_info *out), (device, out))                                                 \
    X(use_device, (int device), (device)) /* of the calling thread */                                                  \
    X(compiled_for, (int *level), (level)) /* as `level`: what the code of our kernels that the device in use runs was made for: a  \
        device may run code (PTX) of an older one */                                                                   \
    X(memory, (size_t *available, size_t *all), (available, all))                                                      \
    X(alloc, (void **out, size_t bytes), (out, bytes))           /* on the device, aligned to 256 */                   \
    X(release, (void *p), (p))                                                                                         \
    X(alloc_host, (void **out, size_t bytes), (out, bytes))      /* pinned */                                          \
    X(release_host, (void *p), (p))                                                                                    \
    X(stream_make, (void **out), (out))                                                                                \
    X(stream_free, (void *stream), (stream))                                                                           \
    X(wait, (void *stream), (stream))                            /* until all of the stream's work is done */          \
    X(copy, (void *to, const void *from, size_t bytes, cuda_copy way, void *stream), (to, from, bytes, way, stream))   \
    X(fill, (void *to, int byte, size_t bytes, void *stream), (to, byte, bytes, stream))                               \
    X(event_make, (void **out), (out))                                                                                 \
    X(event_free, (void *event), (event))                                                                              \
    X(event_record, (void *event, void *stream), (event, stream))                                                      \
    X(event_wait, (void *stream, void *event), (stream, event))  /* the stream waits for the event */                  \
    X(event_sync, (void *event), (event))                        /* the host waits for the event */                    \
    X(event_seconds, (void *from, void *to, double *out), (from, to, out))                                             \
    X(capture_begin, (void *stream), (stream))                   /* work becomes a graph instead of being done */      \
    X(capture_end, (void *stream, void **graph, size_t *kernels), (stream, graph, kernels)) /* ready to be launched;   \
        how many of its nodes are kernels */                                                                           \
    X(graph_launch, (void *graph, void *stream), (graph, stream))                                                      \
    X(graph_free, (void *graph), (graph))                                                                              \
    X(last_error, (void), ())                                    /* of launches; forgets it */

typedef struct cuda_api cuda_api;
struct cuda_api {
#define CUDA_API_FIELD(name, parameters, arguments) int (*name) parameters;
    CUDA_API(CUDA_API_FIELD)
#undef CUDA_API_FIELD
    const char *(*text)(int code);
};

/* Where kernels are launched. One a backend; used by one thread at a time. */
typedef struct cuda_queue {
    const cuda_api *api;
    void *stream;
    int device, level, multiprocessors; /* level: of the device, or less: what the kernels were compiled for */
    int failed;               /* code of the first failure, 0: none */
    const char *failed_where; /* static text: the kernel or call */
    bool deterministic;       /* only kernels that give the same bits in every run */
    bool tf32;                /* products of float32 may be rounded to TF32 */
    struct cuda_blas *blas; /* cuBLASLt; NULL: it could not be opened (blas.h) */
    struct cuda_dnn *dnn;   /* cuDNN; likewise (dnn.h) */
} cuda_queue;

/* Failures of the libraries have codes beyond those of CUDA's run time. */
enum { CUDA_BLAS_CODES = 1 << 20, CUDA_DNN_CODES = 2 << 20 };
static inline int cuda_library_code(int codes, int library_status)
{
    return library_status ? codes + library_status : 0;
}

/* Keeps the first failure. Returns whether `code` is 0. */
static inline bool cuda_note(cuda_queue *q, const char *where, int code)
{
    if (code != 0 && q->failed == 0) {
        q->failed = code;
        q->failed_where = where;
    }
    return code == 0;
}

#ifdef __cplusplus
extern "C" {
#endif
extern const cuda_api cuda_device_api;
#ifdef __cplusplus
}
#endif

#endif
