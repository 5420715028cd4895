/* mma.cuh - tensor cores (sm_80 and later): products of small matrices of float16 or bfloat16 that a warp makes together, their
 * way from shared memory into registers, and copies to shared memory that go on while the threads compute.
 *
 * Who has what: lane = 4 * g + t. Of a 16 x 16 matrix A a lane has the pairs (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8);
 * of a 16 x 8 matrix B (rows 2t, column g) and (rows 2t + 8, column g); of the 16 x 8 sums (g, 2t), (g, 2t + 1), (g + 8, 2t),
 * (g + 8, 2t + 1) (PTX ISA, mma.m16n8k16). Numbers of 8 bits (e4m3.h): four where halves have two, A is 16 x 32, B 32 x 8
 * (mma.m16n8k32). Kernels that use this stand in rows that ask has_tensor_cores or has_fp8. */
#ifndef DISTILL_KERNELS_CUDA_MMA_CUH
#define DISTILL_KERNELS_CUDA_MMA_CUH

#include "kernels/cuda/cuda.cuh"
#include "kernels/e4m3.h"

static inline bool has_tensor_cores(const kernel_args *a)
{
    return a->queue->level >= 80;
}
static inline bool has_fp8(const kernel_args *a)
{
    return a->queue->level >= 89;
}

#if defined(CUDA_EMULATED)

/* Registers as a warp brings them together; as numbers. */
struct mma_operands {
    uint32_t a[4], b[2];
};
/* A lane's part of a product, in its own stack. */
struct mma_part {
    float *c;
    const uint32_t *a, *b;
};
typedef float mma_row __attribute__((vector_size(32)));
/* c += a * b of the whole warp, K entries each, in their order. A register holds 32 / BITS of them; value(bits) is the number. */
template <int K, int BITS, class V> EMULATOR_UNWATCHED static inline void mma_warp(void *const parts[32], V value)
{
    constexpr int EACH = 32 / BITS, HALF = K / 2;
    float a[16][K];
    mma_row b[K], c[16];
    for (int lane = 0; lane < 32; lane++) {
        const mma_part *p = static_cast<const mma_part *>(parts[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int e = 0; e < EACH; e++) {
            for (int i = 0; i < 4; i++)
                a[g + i % 2 * 8][i / 2 * HALF + EACH * t + e] = value(p->a[i] >> e * BITS % 32);
            for (int i = 0; i < 2; i++)
                b[i * HALF + EACH * t + e][g] = value(p->b[i] >> e * BITS % 32);
        }
        for (int i = 0; i < 4; i++)
            c[g + i / 2 * 8][2 * t + i % 2] = p->c[i];
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < K; k++)
            c[row] += a[row][k] * b[k];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++)
            static_cast<const mma_part *>(parts[lane])->c[i] = c[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
}
template <class E> static inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMULATOR_LINE)
{
    mma_part mine = {c, a, b};
    emulator_together([](void *const parts[32]) { mma_warp<16, 16>(parts, [](uint32_t bits) {
        E v;
        v.bits = (uint16_t)bits;
        return as_float(v);
    }); }, &mine, line);
}
static inline void mma_e4m3(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMULATOR_LINE)
{
    mma_part mine = {c, a, b};
    emulator_together([](void *const parts[32]) { mma_warp<32, 8>(parts, [](uint32_t bits) { return e4m3_value((uint8_t)bits); }); },
                      &mine, line);
}
static inline uint32_t e4m3_word(float a, float b, float c, float d)
{
    return (uint32_t)e4m3_of(a) | (uint32_t)e4m3_of(b) << 8 | (uint32_t)e4m3_of(c) << 16 | (uint32_t)e4m3_of(d) << 24;
}
struct matrices_part {
    uint32_t *to;
    const void *row;
};
template <bool TURNED> static inline void matrices_warp(void *const parts[32])
{
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            uint16_t pair[2];
            for (int e = 0; e < 2; e++) {
                const int r = TURNED ? 2 * (lane % 4) + e : lane / 4, c = TURNED ? lane / 4 : 2 * (lane % 4) + e;
                memcpy(&pair[e], static_cast<const char *>(static_cast<const matrices_part *>(parts[8 * i + r])->row) + 2 * c, sizeof pair[e]);
            }
            static_cast<const matrices_part *>(parts[lane])->to[i] = pair[0] | (uint32_t)pair[1] << 16;
        }
}
static inline void load_matrices(uint32_t (&to)[4], const void *row, EMULATOR_LINE)
{
    matrices_part mine = {to, row};
    emulator_together(matrices_warp<false>, &mine, line);
}
static inline void load_turned(uint32_t (&to)[4], const void *row, EMULATOR_LINE)
{
    matrices_part mine = {to, row};
    emulator_together(matrices_warp<true>, &mine, line);
}
static inline void copy_begin(void *to, const void *from, bool there) { emulator_copy_begin(to, from, 16, there); }
static inline void copy_close() { emulator_copy_close(); }
template <int LEFT> static inline void copy_wait() { emulator_copy_wait(LEFT); }

#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800 /* no row launches a kernel that would come here */

template <class E> __device__ static inline void mma(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2]) { __trap(); }
__device__ static inline void load_matrices(uint32_t (&)[4], const void *) { __trap(); }
__device__ static inline void load_turned(uint32_t (&)[4], const void *) { __trap(); }
__device__ static inline void copy_begin(void *, const void *, bool) { __trap(); }
__device__ static inline void copy_close() {}
template <int LEFT> __device__ static inline void copy_wait() {}

#else

/* c += a * b */
template <class E> __device__ static inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
#define MMA_OF(E, type)                                                                                                \
    template <> __device__ inline void mma<E>(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])           \
    {                                                                                                                  \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                  \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                              \
    }
MMA_OF(__half, "f16")
MMA_OF(__nv_bfloat16, "bf16")

/* Four 8 x 8 matrices from shared memory: lanes 8i .. 8i + 7 bring the addresses (of 16 bytes each) of the rows of matrix i;
 * to[i]: the pair (row lane / 4, columns 2 * (lane % 4) and one on) of matrix i. */
__device__ static inline void load_matrices(uint32_t (&to)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"((uint32_t)__cvta_generic_to_shared(row)) : "memory");
}
/* The same of the transposed matrices: (column lane / 4, rows 2 * (lane % 4) and one on). */
__device__ static inline void load_turned(uint32_t (&to)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"((uint32_t)__cvta_generic_to_shared(row)) : "memory");
}
/* 16 bytes to shared memory, zeros where they are not there (`from` is then any address). Copies since the last copy_close are
 * one group; copy_wait: until all but the LEFT newest of this thread's groups have arrived. */
__device__ static inline void copy_begin(void *to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0) : "memory");
}
__device__ static inline void copy_close()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int LEFT> __device__ static inline void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory");
}

#endif
#if !defined(CUDA_EMULATED)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890

/* c += a * b of numbers of 8 bits */
__device__ static inline void mma_e4m3(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/* Four numbers rounded as e4m3_of rounds, the first in the low byte. */
__device__ static inline uint32_t e4m3_word(float a, float b, float c, float d)
{
    uint32_t v;
    asm("{.reg .b16 low, high; cvt.rn.satfinite.e4m3x2.f32 low, %2, %1; cvt.rn.satfinite.e4m3x2.f32 high, %4, %3; mov.b32 %0, {low, high};}"
        : "=r"(v) : "f"(a), "f"(b), "f"(c), "f"(d));
    return v;
}

#else /* no row launches a kernel that would come here */

__device__ static inline void mma_e4m3(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2]) { __trap(); }
__device__ static inline uint32_t e4m3_word(float, float, float, float)
{
    __trap();
    return 0;
}

#endif
#endif
#endif
