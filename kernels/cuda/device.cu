/* device.cu - the table of api.h over CUDA's own run time. */
#include <cuda_runtime.h>

extern "C" {
#include "base/mem.h"
#include "kernels/cuda/api.h"
}

#include <string.h>

#define CALL(name, parameters, ...)                                                                                    \
    static int device_##name parameters                                                                                \
    {                                                                                                                  \
        return (int)(__VA_ARGS__);                                                                                     \
    }

static int device_device_info(int device, cuda_device_info *out)
{
    cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e != cudaSuccess)
        return (int)e;
    memset(out, 0, sizeof *out);
    memcpy(out->name, p.name, sizeof out->name - 1);
    out->level = p.major * 10 + p.minor;
    out->multiprocessors = p.multiProcessorCount;
    out->memory = p.totalGlobalMem;
    out->l2 = (size_t)p.l2CacheSize;
    out->shared_per_block = p.sharedMemPerBlock;
    out->shared_per_block_optin = p.sharedMemPerBlockOptin;
    return 0;
}

__global__ static void any_kernel() {}
static int device_compiled_for(int *level)
{
    cudaFuncAttributes a;
    cudaError_t e = cudaFuncGetAttributes(&a, any_kernel);
    *level = e == cudaSuccess ? a.ptxVersion : 0;
    return (int)e;
}

static int device_copy(void *to, const void *from, size_t bytes, cuda_copy way, void *stream)
{
    static const cudaMemcpyKind kind[] = {cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice};
    return (int)cudaMemcpyAsync(to, from, bytes, kind[way], (cudaStream_t)stream);
}

static int device_event_seconds(void *from, void *to, double *out)
{
    float ms = 0;
    cudaError_t e = cudaEventElapsedTime(&ms, (cudaEvent_t)from, (cudaEvent_t)to);
    *out = 1e-3 * (double)ms;
    return (int)e;
}

/* A graph whose nodes cannot be listed has 0: the count is for people. */
static size_t count_kernels(cudaGraph_t g)
{
    cudaGraphNode_t *node = NULL;
    cudaGraphNodeType type;
    size_t n = 0, kernels = 0;
    if (cudaGraphGetNodes(g, NULL, &n) != cudaSuccess || mem_alloc(&node, n, sizeof *node) != ST_OK)
        return 0;
    if (cudaGraphGetNodes(g, node, &n) != cudaSuccess)
        n = 0;
    for (size_t i = 0; i < n; i++)
        kernels += cudaGraphNodeGetType(node[i], &type) == cudaSuccess && type == cudaGraphNodeTypeKernel;
    mem_free(node);
    return kernels;
}

static int device_capture_end(void *stream, void **graph, size_t *kernels)
{
    cudaGraph_t g = NULL;
    cudaGraphExec_t x = NULL;
    cudaError_t e = cudaStreamEndCapture((cudaStream_t)stream, &g);
    *kernels = e == cudaSuccess ? count_kernels(g) : 0;
    if (e == cudaSuccess)
        e = cudaGraphInstantiate(&x, g, 0);
    if (g)
        cudaGraphDestroy(g);
    *graph = x;
    return (int)e;
}

CALL(driver_version, (int *version), cudaDriverGetVersion(version))
CALL(runtime_version, (int *version), cudaRuntimeGetVersion(version))
CALL(device_count, (int *n), cudaGetDeviceCount(n))
CALL(use_device, (int device), cudaSetDevice(device))
CALL(memory, (size_t *available, size_t *all), cudaMemGetInfo(available, all))
CALL(alloc, (void **out, size_t bytes), cudaMalloc(out, bytes))
CALL(release, (void *p), cudaFree(p))
CALL(alloc_host, (void **out, size_t bytes), cudaMallocHost(out, bytes))
CALL(release_host, (void *p), cudaFreeHost(p))
CALL(stream_make, (void **out), cudaStreamCreateWithFlags((cudaStream_t *)out, cudaStreamNonBlocking))
CALL(stream_free, (void *stream), cudaStreamDestroy((cudaStream_t)stream))
CALL(wait, (void *stream), cudaStreamSynchronize((cudaStream_t)stream))
CALL(fill, (void *to, int byte, size_t bytes, void *stream), cudaMemsetAsync(to, byte, bytes, (cudaStream_t)stream))
CALL(event_make, (void **out), cudaEventCreate((cudaEvent_t *)out))
CALL(event_free, (void *event), cudaEventDestroy((cudaEvent_t)event))
CALL(event_record, (void *event, void *stream), cudaEventRecord((cudaEvent_t)event, (cudaStream_t)stream))
CALL(event_wait, (void *stream, void *event), cudaStreamWaitEvent((cudaStream_t)stream, (cudaEvent_t)event, 0))
CALL(event_sync, (void *event), cudaEventSynchronize((cudaEvent_t)event))
CALL(capture_begin, (void *stream), cudaStreamBeginCapture((cudaStream_t)stream, cudaStreamCaptureModeThreadLocal))
CALL(graph_launch, (void *graph, void *stream), cudaGraphLaunch((cudaGraphExec_t)graph, (cudaStream_t)stream))
CALL(graph_free, (void *graph), cudaGraphExecDestroy((cudaGraphExec_t)graph))
CALL(last_error, (void), cudaGetLastError())

static const char *device_text(int code)
{
    return cudaGetErrorString((cudaError_t)code);
}

extern "C" const cuda_api cuda_device_api = {
#define FIELD(name, parameters, arguments) .name = device_##name,
    CUDA_API(FIELD)
#undef FIELD
    .text = device_text};
