/* faulty.cc - see faulty.h. */
#include "kernels/cuda/mma.cuh"

#include "faulty.h"

__global__ static void sound_rotate(float *out, int n)
{
    SHARED_DYNAMIC(float, s);
    int t = (int)threadIdx.x;
    s[t] = (float)t;
    __syncthreads();
    out[t] = s[(t + 1) % n];
}

__global__ static void missing_barrier(float *out, int n)
{
    SHARED_DYNAMIC(float, s);
    int t = (int)threadIdx.x;
    s[t] = (float)t;
    out[t] = s[(t + 1) % n];
}

__global__ static void behind_shared(float *out, int n)
{
    SHARED_DYNAMIC(float, s);
    int t = (int)threadIdx.x;
    s[t + 1] = (float)n;
    __syncthreads();
    out[t] = s[t];
}

__global__ static void behind_memory(float *out, int)
{
    out[threadIdx.x + 1] = 1;
}

__global__ static void two_barriers(float *out, int n)
{
    int t = (int)threadIdx.x;
    if (t < n / 2) {
        __syncthreads();
        out[t] = 1;
    } else {
        __syncthreads();
        out[t] = 2;
    }
}

__global__ static void barrier_in_warp(float *out, int)
{
    int t = (int)threadIdx.x;
    if ((t & 31) < 16)
        __syncthreads();
    else
        out[t] = __shfl_xor_sync(FULL_WARP, (float)t, 1);
}

__global__ static void gone_lane(float *out, int)
{
    int t = (int)threadIdx.x;
    if ((t & 31) == 0)
        return;
    out[t] = __shfl_sync(FULL_WARP, (float)t, 0);
}

__global__ static void left_out(float *out, int)
{
    __syncwarp(0xffff);
    out[threadIdx.x] = 1;
}

__global__ static void early_end(float *out, int n)
{
    int t = (int)threadIdx.x;
    out[t] = (float)t;
    if (t >= n / 2)
        return;
    __syncthreads();
    out[t] += out[t + n / 2];
}

__global__ static void old_shared(float *out, int n)
{
    __shared__ float kept[64];
    int t = (int)threadIdx.x;
    if (t < 64 && blockIdx.x == 0)
        kept[t] = 1;
    __syncthreads();
    if (blockIdx.x == gridDim.x - 1)
        out[t] = kept[t % 64];
    (void)n;
}

__global__ static void two_shared(float *out, int n)
{
    SHARED_DYNAMIC(float, more);
    __shared__ float own[8192];
    int t = (int)threadIdx.x;
    for (int i = t; i < 8192; i += n)
        own[i] = more[t] = (float)i;
    out[t] = own[t];
}

__global__ static void crooked_copy(float *out, int)
{
    __shared__ float4 s[1];
    copy_begin(s, out + 1, true);
    copy_close();
    copy_wait<0>();
    out[threadIdx.x] = s[0].x;
}

__global__ static void early_copy(float *out, int n)
{
    __shared__ float4 s[32];
    float *f = reinterpret_cast<float *>(s);
    int t = (int)threadIdx.x;
    f[t] = (float)t;
    __syncthreads();
    if (t < n / 4)
        copy_begin(s + t, out + 4 * t, true);
    copy_close();
    float v = f[(t + n / 2) % n];
    copy_wait<0>();
    __syncthreads();
    out[t] = v;
}

__global__ static void half_warps(float *out, int)
{
    int t = (int)threadIdx.x;
    unsigned mask = (t & 16) ? 0xffff0000u : 0xffffu;
    float v = (float)t;
    if ((t & 16) || (t & 32)) /* halves of a warp may do different things */
        for (int m = 8; m; m >>= 1)
            v += __shfl_xor_sync(mask, v, m, 16);
    out[t] = v;
}

#define FAULTY_LAUNCH(name, grid, block, shared)                                                                       \
    void faulty_##name(cuda_queue *q, float *out, int n)                                                               \
    {                                                                                                                  \
        LAUNCH(name, (grid), (block), (shared), q, out, n);                                                            \
    }
extern "C" {
FAULTY_LAUNCH(sound_rotate, 1, (unsigned)n, (size_t)n * sizeof(float))
FAULTY_LAUNCH(missing_barrier, 1, (unsigned)n, (size_t)n * sizeof(float))
FAULTY_LAUNCH(behind_shared, 1, (unsigned)n, (size_t)n * sizeof(float))
FAULTY_LAUNCH(behind_memory, 1, (unsigned)n, 0)
FAULTY_LAUNCH(two_barriers, 1, (unsigned)n, 0)
FAULTY_LAUNCH(barrier_in_warp, 1, (unsigned)n, 0)
FAULTY_LAUNCH(gone_lane, 1, (unsigned)n, 0)
FAULTY_LAUNCH(left_out, 1, (unsigned)n, 0)
FAULTY_LAUNCH(early_end, 1, (unsigned)n, 0)
FAULTY_LAUNCH(old_shared, 2, (unsigned)n, 0)
FAULTY_LAUNCH(two_shared, 1, (unsigned)n, 20 << 10)
FAULTY_LAUNCH(crooked_copy, 1, (unsigned)n / 4, 0)
FAULTY_LAUNCH(early_copy, 1, (unsigned)n, 0)
FAULTY_LAUNCH(half_warps, 1, (unsigned)n, 0)
}
extern "C" void faulty_wide_block(cuda_queue *q, float *out, int n)
{
    LAUNCH(sound_rotate, 1, 2048, 0, q, out, n);
}
extern "C" void faulty_empty_grid(cuda_queue *q, float *out, int n)
{
    LAUNCH(sound_rotate, 0, (unsigned)n, (size_t)n * sizeof(float), q, out, n);
}
extern "C" void faulty_much_shared(cuda_queue *q, float *out, int n)
{
    LAUNCH(sound_rotate, 1, (unsigned)n, 100 << 10, q, out, n);
}
