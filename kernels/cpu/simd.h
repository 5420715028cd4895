/* simd.h - vectors of float for the fast kernels, as wide as the instruction set they are compiled for. */
#ifndef DISTILL_KERNELS_SIMD_H
#define DISTILL_KERNELS_SIMD_H

#include "kernels/cpu/cpu.h"

#include <omp.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES     16
#define REGISTERS 32
#elif defined(__AVX2__)
#define LANES     8
#define REGISTERS 16
#elif defined(__aarch64__) /* NEON */
#define LANES     4
#define REGISTERS 32
#else
#define LANES     4
#define REGISTERS 16
#endif

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t vec_int __attribute__((vector_size(LANES * 4)));
typedef float vec_unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

static inline vec vec_load(const float *p)
{
    return *(const vec_unaligned *)(const void *)p;
}
static inline void vec_store(float *p, vec v)
{
    *(vec_unaligned *)(void *)p = v;
}
static inline vec vec_set(float x)
{
    return x - (vec){0}; /* folds to a broadcast */
}
/* max(v, 0); NaN stays. */
static inline vec vec_relu(vec v)
{
    return (vec)((vec_int)v & ~(v < 0));
}

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* One stage of a transposition: rows i and i + d exchange the lanes whose index has bit d clear in the one, set in the
 * other. */
#define LOW_(j, d)        ((j) & (d) ? (j) - (d) + LANES : (j))
#define HIGH_(j, d)       ((j) & (d) ? (j) + LANES : (j) + (d))
#define MASK4_(row, d, j) row(j, d), row(j + 1, d), row(j + 2, d), row(j + 3, d)
#if LANES == 16
#define MASK_(row, d) MASK4_(row, d, 0), MASK4_(row, d, 4), MASK4_(row, d, 8), MASK4_(row, d, 12)
#elif LANES == 8
#define MASK_(row, d) MASK4_(row, d, 0), MASK4_(row, d, 4)
#else
#define MASK_(row, d) MASK4_(row, d, 0)
#endif
ALWAYS_INLINE void vec_exchange(vec *a, vec *b, const int d)
{
    const vec_int low = {MASK_(LOW_, d)}, high = {MASK_(HIGH_, d)};
#if defined(__clang__) /* has no shuffle whose pattern is a variable */
    const vec x = *a, y = *b;
    for (int j = 0; j < LANES; j++) {
        (*a)[j] = low[j] < LANES ? x[low[j]] : y[low[j] - LANES];
        (*b)[j] = high[j] < LANES ? x[high[j]] : y[high[j] - LANES];
    }
#else
    const vec x = __builtin_shuffle(*a, *b, low), y = __builtin_shuffle(*a, *b, high);
    *a = x;
    *b = y;
#endif
}

/* r[i][j] <-> r[j][i] */
ALWAYS_INLINE void vec_transpose(vec r[LANES])
{
#pragma GCC unroll 4
    for (int d = 1; d < LANES; d *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & d))
                vec_exchange(&r[i], &r[i + d], d);
}

/* memcpy of few floats, without a call: two copies of a fixed size that may overlap. */
ALWAYS_INLINE void copy_floats(float *to, const float *from, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(to + i, vec_load(from + i));
    to += i;
    from += i;
    n -= i;
    if (n >= 8) {
        memcpy(to, from, 32);
        memcpy(to + n - 8, from + n - 8, 32);
    } else if (n >= 4) {
        memcpy(to, from, 16);
        memcpy(to + n - 4, from + n - 4, 16);
    } else if (n >= 2) {
        memcpy(to, from, 8);
        memcpy(to + n - 2, from + n - 2, 8);
    } else if (n == 1) {
        to[0] = from[0];
    }
}

static inline int64_t round_up(int64_t n, int64_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}
static inline int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Cuts a workspace into parts of whole cache lines. With base NULL it only counts. */
typedef struct carver {
    char *base;
    size_t used;
} carver;
static inline void *carve(carver *c, int64_t count, size_t size)
{
    void *p = c->base ? c->base + c->used : NULL;
    c->used += ((size_t)count * size + 63) & ~(size_t)63;
    return p;
}

#endif
