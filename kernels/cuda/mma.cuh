/* mma.cuh - tensor cores (sm_80 and later): products of small matrices of float16 or bfloat16 that a warp makes together, their
 * way from shared memory into registers, and copies to shared memory that go on while the threads compute.
 *
 * Who has what: lane = 4 * g + t. Of a 16 x 16 matrix A a lane has the pairs (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8);
 * of a 16 x 8 matrix B (rows 2t, column g) and (rows 2t + 8, column g); of the 16 x 8 sums (g, 2t), (g, 2t + 1), (g + 8, 2t),
 * (g + 8, 2t + 1) (PTX ISA, mma.m16n8k16). Kernels that use this stand in rows that ask has_tensor_cores. */
#ifndef DISTILL_KERNELS_CUDA_MMA_CUH
#define DISTILL_KERNELS_CUDA_MMA_CUH

#include "kernels/cuda/cuda.cuh"

static inline bool has_tensor_cores(const kernel_args *a)
{
    return a->queue->level >= 80;
}

#if defined(CUDA_EMULATED)

/* Registers as a warp brings them together; as numbers. */
struct mma_operands {
    uint32_t a[4], b[2];
};
struct mma_numbers {
    float a[4][2], b[2][2];
};
template <class E> static inline float mma_element(uint32_t pair, int which)
{
    E v;
    v.bits = (uint16_t)(pair >> 16 * which);
    return as_float(v);
}
template <class E> static inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMULATOR_LINE)
{
    mma_numbers mine, all[32];
    const int g = emulator_lane() / 4, t = emulator_lane() % 4;
    for (int i = 0; i < 8; i++)
        mine.a[i / 2][i % 2] = mma_element<E>(a[i / 2], i % 2);
    for (int i = 0; i < 4; i++)
        mine.b[i / 2][i % 2] = mma_element<E>(b[i / 2], i % 2);
    emulator_gather(&mine, sizeof mine, all, line);
    for (int i = 0; i < 4; i++) { /* of the sums */
        const int column = 2 * t + i % 2;
        for (int k = 0; k < 16; k++) {
            const int part = k / 8, lane = k % 8 / 2;
            c[i] += all[4 * g + lane].a[i / 2 + 2 * part][k % 2] * all[4 * column + lane].b[part][k % 2];
        }
    }
}
static inline void load_matrices(uint32_t (&to)[4], const void *row, bool turned, int line)
{
    const void *all[32];
    emulator_gather(&row, sizeof row, all, line);
    for (int i = 0; i < 4; i++)
        for (int e = 0; e < 2; e++) {
            const int lane = emulator_lane(), r = turned ? 2 * (lane % 4) + e : lane / 4, c = turned ? lane / 4 : 2 * (lane % 4) + e;
            uint16_t v;
            memcpy(&v, (const char *)all[8 * i + r] + 2 * c, sizeof v);
            to[i] = e ? to[i] | (uint32_t)v << 16 : v;
        }
    emulator_warp(~0u, line); /* what was read stays until all have read */
}
static inline void load_matrices(uint32_t (&to)[4], const void *row, EMULATOR_LINE) { load_matrices(to, row, false, line); }
static inline void load_turned(uint32_t (&to)[4], const void *row, EMULATOR_LINE) { load_matrices(to, row, true, line); }
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
#endif
