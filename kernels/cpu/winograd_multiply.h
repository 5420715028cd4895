/* winograd_multiply.h - the products of Winograd's convolutions: for one point, tiles times one or two vectors of produced
 * channels in registers.
 *
 *     m[t][k] = sum over q < pieces, c < channels of v[q][c / LANES][t][c % LANES] * u[q][c][k]
 *
 * The sum can be made in stretches, each begun at zero: a rounding error then is one of a short sum, and what the way back
 * amplifies is less. */
#ifndef DISTILL_KERNELS_WINOGRAD_MULTIPLY_H
#define DISTILL_KERNELS_WINOGRAD_MULTIPLY_H

#include "kernels/cpu/simd.h"

enum {
    MOST_1 = REGISTERS == 32 ? 16 : 12, /* tiles of the innermost kernel for one and for two vectors of channels */
    MOST_2 = REGISTERS == 32 ? 12 : 6,
    GROUP_VECTORS = 2,
    LINE = 16 /* floats of a cache line */
};

typedef struct wino_product {
    float *m;       /* [tile][vectors * LANES] */
    const float *v;
    const float *u; /* [piece][channel][vectors * LANES] */
    int64_t channels, pitch; /* of a piece; floats of v from one block of channels to the next */
    int64_t pieces, shift;   /* floats of v from one piece to the next */
    int64_t stretch;         /* blocks of channels of a stretch */
    const float *next;       /* a cache line of it is asked for with every channel */
} wino_product;
typedef void multiply_fn(const wino_product *p);

ALWAYS_INLINE void multiply_body(const int V, const int T, const wino_product *p)
{
    vec acc[REGISTERS];
    const float *piece = p->v, *v = piece, *u = p->u, *next = p->next;
    float *m = p->m;
    int64_t blocks = p->pieces * ((p->channels + LANES - 1) / LANES), left = p->channels;
    for (int64_t b = 0, stretch = p->stretch; b < blocks; stretch += p->stretch) {
        bool first = b == 0;
#pragma GCC unroll 32
        for (int i = 0; i < T * V; i++)
            acc[i] = vec_set(0);
        for (; b < stretch && b < blocks; b++) {
            int64_t count = min_of(LANES, left);
            for (int64_t c = 0; c < count; c++, u += V * LANES, next += LINE) {
                vec w[GROUP_VECTORS];
                __builtin_prefetch(next, 0, 2);
#pragma GCC unroll 2
                for (int k = 0; k < V; k++)
                    w[k] = vec_load(u + k * LANES);
#pragma GCC unroll 16
                for (int t = 0; t < T; t++)
#pragma GCC unroll 2
                    for (int k = 0; k < V; k++)
                        acc[t * V + k] += w[k] * vec_set(v[t * LANES + c]);
            }
            left -= count;
            v += p->pitch;
            if (left == 0) {
                piece += p->shift;
                v = piece;
                left = p->channels;
            }
        }
#pragma GCC unroll 32
        for (int i = 0; i < T * V; i++)
            vec_store(m + i * LANES, first ? acc[i] : acc[i] + vec_load(m + i * LANES));
    }
}

/* X(V, T) */
#define MULTIPLIES_6(X) X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(1, 5) X(1, 6) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6)
#define MULTIPLIES_12(X) MULTIPLIES_6(X) X(1, 7) X(1, 8) X(1, 9) X(1, 10) X(1, 11) X(1, 12)
#if REGISTERS == 32
#define MULTIPLIES(X)                                                                                             \
    MULTIPLIES_12(X) X(1, 13) X(1, 14) X(1, 15) X(1, 16) X(2, 7) X(2, 8) X(2, 9) X(2, 10) X(2, 11) X(2, 12)
#else
#define MULTIPLIES(X) MULTIPLIES_12(X)
#endif
#define MULTIPLY_DEFINE(V, T)                                                                                     \
    static void multiply_##V##_##T(const wino_product *p)                                                         \
    {                                                                                                             \
        multiply_body(V, T, p);                                                                                   \
    }
MULTIPLIES(MULTIPLY_DEFINE)
#define MULTIPLY_ROW(V, T) [V][T] = multiply_##V##_##T,
static multiply_fn *const multiplies[GROUP_VECTORS + 1][MOST_1 + 1] = {MULTIPLIES(MULTIPLY_ROW)};

#endif
