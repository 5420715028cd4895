/* emulator.h - the device side of CUDA C++ for a host compiler: a .cu file becomes plain C++ whose blocks run on the host.
 *
 * A thread of a block that waits at a barrier or shuffle leaves its stack (fiber.h). A warp runs alone as far as it can, so
 * that a missing barrier shows; emulator_order says in which order threads and warps run. What is here is what the kernels
 * use; what a device leaves undefined fails the stream (emulator.cc). */
#ifndef DISTILL_TESTS_EMULATOR_H
#define DISTILL_TESTS_EMULATOR_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __constant__ static
/* One block runs at a time; of one section, so that it can be made NaN between blocks. */
#define __shared__   static __attribute__((section("emulated_shared")))
#define __align__(n) alignas(n)
#define SHARED_DYNAMIC(type, name) type *name = reinterpret_cast<type *>(emulator_shared())

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

/* The running thread. */
struct emulator_thread {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
};
extern emulator_thread emulator_now;
#define threadIdx (emulator_now.thread)
#define blockIdx  (emulator_now.block)
#define blockDim  (emulator_now.block_dim)
#define gridDim   (emulator_now.grid_dim)

void *emulator_shared();
/* `line`: of the kernel's source; threads that wait for each other must wait at the same one. */
void emulator_barrier(int line);             /* of the block */
void emulator_warp(unsigned mask, int line); /* of the lanes in `mask` */
/* The 8 bytes that lane `from` of the warp brought to this call. */
uint64_t emulator_exchange(uint64_t mine, int from, unsigned mask, int line);
int emulator_lane();
/* Done once for the warp when all 32 lanes wait here, each with its operands. */
typedef void emulator_task(void *const operands[32]);
void emulator_together(emulator_task *task, void *operands, int line);
/* What all 32 lanes of the warp bring, `size` (up to 64) bytes each, to all[32 * size]. */
void emulator_gather(const void *mine, size_t size, void *all, int line);
/* Copies that a thread begins: done when it waits for their group (zeros where they are not there), no sooner. */
void emulator_copy_begin(void *to, const void *from, size_t size, bool there);
void emulator_copy_close();
void emulator_copy_wait(int left); /* groups that may go on */

#define EMULATOR_LINE int line = __builtin_LINE()
/* Of functions of the emulator's own that sanitizers need not look at. */
#define EMULATOR_UNWATCHED __attribute__((no_sanitize("address", "undefined")))
static inline void __syncthreads(EMULATOR_LINE) { emulator_barrier(line); }
static inline void __syncwarp(unsigned mask = ~0u, EMULATOR_LINE) { emulator_warp(mask, line); }
template <class T> static inline T emulator_shuffle(T v, int from, unsigned mask, int line)
{
    static_assert(sizeof(T) <= 8, "shuffles take up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = emulator_exchange(bits, from, mask, line);
    memcpy(&v, &bits, sizeof v);
    return v;
}
/* `width` lanes (a power of 2) shuffle among themselves; a source outside of them is the lane itself. */
template <class T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32, EMULATOR_LINE)
{
    return emulator_shuffle(v, (emulator_lane() & ~(width - 1)) | (from & (width - 1)), mask, line);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int m, int width = 32, EMULATOR_LINE)
{
    int lane = emulator_lane(), from = lane ^ m; /* of an earlier part it may be, of a later one not */
    return emulator_shuffle(v, from > (lane | (width - 1)) ? lane : from, mask, line);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, int d, int width = 32, EMULATOR_LINE)
{
    int lane = emulator_lane();
    return emulator_shuffle(v, lane + d > (lane | (width - 1)) ? lane : lane + d, mask, line);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, int d, int width = 32, EMULATOR_LINE)
{
    int lane = emulator_lane();
    return emulator_shuffle(v, lane - d < (lane & ~(width - 1)) ? lane : lane - d, mask, line);
}
template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T atomicAdd(T *p, T v)
{
    T old = *p;
    *p += v;
    return old;
}
template <class T> static inline T atomicMin(T *p, T v)
{
    T old = *p;
    *p = v < old ? v : old;
    return old;
}
template <class T> static inline T atomicMax(T *p, T v)
{
    T old = *p;
    *p = v > old ? v : old;
    return old;
}
static inline unsigned __ballot_sync(unsigned mask, int yes, EMULATOR_LINE)
{
    unsigned bits = yes ? 1u << emulator_lane() : 0;
    for (int m = 16; m; m >>= 1)
        bits |= emulator_shuffle(bits, emulator_lane() ^ m, mask, line);
    return bits;
}
/* float16 and bfloat16: as in cuda_fp16.h and cuda_bf16.h, rounded to nearest even. */
struct __half {
    uint16_t bits;
};
struct __nv_bfloat16 {
    uint16_t bits;
};
static inline float emulator_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static inline uint32_t emulator_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}
static inline float __uint_as_float(uint32_t bits) { return emulator_float(bits); }
static inline uint32_t __float_as_uint(float f) { return emulator_bits(f); }
static inline float __half2float(__half h)
{
    const uint32_t sign = (uint32_t)(h.bits & 0x8000) << 16, exponent = h.bits >> 10 & 31, fraction = h.bits & 0x3ff;
    if (exponent == 0) /* 0 and numbers below 2^-14: fraction 2^-24 */
        return emulator_float(sign | emulator_bits((float)fraction * 0x1p-24f));
    return emulator_float(sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13);
}
static inline __half __float2half_rn(float f)
{
    const uint32_t bits = emulator_bits(f), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000)
        return {(uint16_t)(sign | 0x7fff)};
    if (size >= 0x477ff000) /* rounds to 65536 or more */
        return {(uint16_t)(sign | 0x7c00)};
    if (size < 0x38800000) /* below 2^-14: the sum's fraction is the number in steps of 2^-24 */
        return {(uint16_t)(sign | (emulator_bits(emulator_float(size) + 0.5f) - emulator_bits(0.5f)))};
    return {(uint16_t)(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13))};
}
static inline float __bfloat162float(__nv_bfloat16 h) { return emulator_float((uint32_t)h.bits << 16); }
static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    const uint32_t bits = emulator_bits(f);
    if (f != f)
        return {0x7fff};
    return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
#define __expf expf
#define __grid_constant__
/* Not made one with what stands beside them (here nothing is: -ffp-contract=off). */
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
/* c + the products of the four bytes of a and b. */
static inline int __dp4a(int a, int b, int c)
{
    unsigned sum = (unsigned)c;
    for (int i = 0; i < 4; i++)
        sum += (unsigned)((int8_t)((unsigned)a >> 8 * i) * (int8_t)((unsigned)b >> 8 * i));
    return (int)sum;
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned long long)((unsigned __int128)a * b >> 64); }

/* Puts work that is no kernel (a library's) on a stream. */
void emulator_enqueue(void *stream, std::function<void()> work);
/* Does the launch, or records it while the queue captures. */
void emulator_launch(cuda_queue *q, const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                     std::function<void()> body);
template <class... P, class... A>
static inline void emulator_start(cuda_queue *q, const char *name, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A... a)
{
    std::tuple<P...> given((P)a...);
    emulator_launch(q, name, (const void *)kernel, grid, block, shared, [=] { std::apply(kernel, given); });
}
#define LAUNCH(kernel, grid, block, shared, q, ...) \
    do { \
        if ((q)->failed == 0) \
            emulator_start((q), #kernel, (grid), (block), (shared), kernel, __VA_ARGS__); \
    } while (0)

#endif
