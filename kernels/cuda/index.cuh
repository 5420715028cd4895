/* index.cuh - from the number of an element to its place: division without dividing, and walks over axes.
 *
 * Kernels are templates over the type I of numbers: uint32_t where there are less than 2^31 of them, else int64_t. */
#ifndef DISTILL_KERNELS_CUDA_INDEX_CUH
#define DISTILL_KERNELS_CUDA_INDEX_CUH

#include "kernels/cuda/cuda.cuh"

/* A divisor d >= 1. Below 2^31 a quotient is a product and a shift (Granlund and Montgomery, "Division by invariant
 * integers using multiplication", PLDI 1994, figure 4.1). */
typedef struct divider {
    uint32_t magic, shift;
    int64_t d;
} divider;
__host__ __device__ static inline divider divider_of(int64_t d)
{
    divider v = {.magic = 1, .shift = 0, .d = d < 1 ? 1 : d};
    if (v.d > INT32_MAX)
        return v; /* for int64_t only */
    while (((int64_t)1 << v.shift) < v.d)
        v.shift++;
    v.magic = (uint32_t)(((((uint64_t)1 << v.shift) - (uint64_t)v.d) << 32) / (uint64_t)v.d + 1);
    return v;
}
__device__ static inline uint32_t quotient(uint32_t n, const divider &v)
{
    return (__umulhi(n, v.magic) + n) >> v.shift;
}
__device__ static inline int64_t quotient(int64_t n, const divider &v)
{
    return n / v.d;
}
/* i / v.d of a narrow i; *rest = i % v.d */
__device__ static inline int divide(int i, const divider &v, int *rest)
{
    const int q = (int)quotient((uint32_t)i, v);
    *rest = i - q * (int)v.d;
    return q;
}
/* n becomes the quotient; returns the rest. */
template <class I> __device__ static inline I split_off(I *n, const divider &v)
{
    const I q = quotient(*n, v), rest = *n - q * (I)v.d;
    *n = q;
    return rest;
}
static inline bool is_narrow(int64_t n)
{
    return n <= INT32_MAX;
}

/* The widest of 16, 8, 4, 2, 1 bytes that divides everything that was joined by | to `bits`. */
static inline int unit_of(uint64_t bits)
{
    int unit = 16;
    while (bits & (uint64_t)(unit - 1))
        unit /= 2;
    return unit;
}
/* Does the statements with T, an unsigned type of so many bytes. */
#define BY_UNIT(bytes, ...)                                                                                            \
    do {                                                                                                               \
        switch (bytes) {                                                                                               \
        case 1: { typedef uint8_t T; __VA_ARGS__ } break;                                                              \
        case 2: { typedef uint16_t T; __VA_ARGS__ } break;                                                             \
        case 4: { typedef uint32_t T; __VA_ARGS__ } break;                                                             \
        case 8: { typedef uint2 T; __VA_ARGS__ } break;                                                                \
        default: { typedef uint4 T; __VA_ARGS__ } break;                                                               \
        }                                                                                                              \
    } while (0)
/* The same kernel for few elements and for many. */
#define LAUNCH_INDEXED(kernel, T, n, grid, block, shared, q, ...)                                                      \
    do {                                                                                                               \
        if (is_narrow(n))                                                                                              \
            LAUNCH((kernel<T, uint32_t>), grid, block, shared, q, __VA_ARGS__);                                        \
        else                                                                                                           \
            LAUNCH((kernel<T, int64_t>), grid, block, shared, q, __VA_ARGS__);                                         \
    } while (0)

/* Axes of what is copied, innermost first, with steps in the source and in the target. */
#define WALK_MAX (2 * RANK_MAX)
typedef struct walk {
    int rank;
    int64_t count; /* of all axes together */
    divider dim[WALK_MAX];
    int64_t from[WALK_MAX], to[WALK_MAX];
} walk;
static inline walk walk_begin(void)
{
    walk w = {.rank = 0, .count = 1};
    return w;
}
/* The next axis outwards; axes that go on where the one before ends become one. */
static inline void walk_add(walk *w, int64_t dim, int64_t from, int64_t to)
{
    int k = w->rank - 1;
    w->count *= dim;
    if (dim == 1)
        return;
    if (k >= 0 && from == w->from[k] * w->dim[k].d && to == w->to[k] * w->dim[k].d) {
        w->dim[k] = divider_of(w->dim[k].d * dim);
        return;
    }
    w->dim[w->rank] = divider_of(dim);
    w->from[w->rank] = from;
    w->to[w->rank++] = to;
}
/* Bytes of the widest unit in which the walk can be done, elements of `size` bytes; the walk is then one of units. */
static inline int walk_widen(walk *w, int size, const void *from, const void *to)
{
    uint64_t bits = (uintptr_t)from | (uintptr_t)to;
    if (w->rank == 0 || w->from[0] != 1 || w->to[0] != 1 || w->count == 0)
        return size;
    bits |= (uint64_t)(w->dim[0].d * size);
    for (int k = 1; k < w->rank; k++)
        bits |= (uint64_t)(w->from[k] * size) | (uint64_t)(w->to[k] * size);
    int unit = unit_of(bits);
    if (unit <= size)
        return size;
    w->count = w->count / w->dim[0].d * (w->dim[0].d * size / unit);
    w->dim[0] = divider_of(w->dim[0].d * size / unit);
    for (int k = 1; k < w->rank; k++) {
        w->from[k] = w->from[k] * size / unit;
        w->to[k] = w->to[k] * size / unit;
    }
    return unit;
}
/* Element i of the walk: where it comes from and where it goes. */
template <class I> __device__ static inline void walk_at(const walk &w, I i, int64_t *from, int64_t *to)
{
    int64_t f = 0, t = 0;
    for (int k = 0; k < w.rank; k++) {
        const I at = k + 1 < w.rank ? split_off(&i, w.dim[k]) : i;
        f += (int64_t)at * w.from[k];
        t += (int64_t)at * w.to[k];
    }
    *from = f;
    *to = t;
}

#endif
