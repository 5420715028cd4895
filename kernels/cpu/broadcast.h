/* broadcast.h - walking operands that are repeated along some axes of the output.
 *
 * broadcast_index: the plain way, for reference kernels. bcast: neighbouring axes that every operand has or lacks alike
 * are merged, so that same shapes become one row, [N, C, H, W] with [C, 1, 1] becomes N*C rows of H*W, and so on. In a row
 * an operand either advances with the output or is one number. Units of work depend on sizes alone. */
#ifndef DISTILL_KERNELS_BROADCAST_H
#define DISTILL_KERNELS_BROADCAST_H

#include "kernels/cpu/parallel.h"
#include "kernels/kernel.h"

/* The element of an operand of shape `in` that belongs to element i of the output. */
static inline int64_t broadcast_index(const shape *out, const shape *in, int64_t i)
{
    int64_t at = 0, stride = 1;
    for (int k = 1; k <= in->rank; k++) {
        int64_t place = i % out->dim[out->rank - k];
        i /= out->dim[out->rank - k];
        if (in->dim[in->rank - k] != 1)
            at += place * stride;
        stride *= in->dim[in->rank - k];
    }
    return at;
}

#define BCAST_OPERANDS 3
typedef struct bcast {
    int operands, rank;               /* axes without the innermost, which is `inner` */
    int64_t dim[RANK_MAX], inner, rows;
    int64_t step[RANK_MAX][BCAST_OPERANDS], advances[BCAST_OPERANDS]; /* per axis; 0 or 1 along the innermost */
    int64_t units, row_blocks, unit_rows;
} bcast;

/* rows [row, end) of columns [from, to); off: where the operands' rows begin */
typedef struct bcast_span {
    int64_t row, end, from, to, off[BCAST_OPERANDS], index[RANK_MAX];
} bcast_span;

static inline void bcast_make(bcast *b, const shape *out, const kernel_tensor *in, int operands)
{
    int64_t dim[RANK_MAX], step[RANK_MAX][BCAST_OPERANDS], each[BCAST_OPERANDS];
    int n = 0; /* merged axes, innermost first */
    for (int k = 0; k < operands; k++)
        each[k] = 1;
    for (int i = 1; i <= out->rank; i++) {
        int64_t d = out->dim[out->rank - i], s[BCAST_OPERANDS];
        bool joins = n > 0;
        if (d == 1)
            continue;
        for (int k = 0; k < operands; k++) {
            int64_t own = i <= in[k].sh.rank ? in[k].sh.dim[in[k].sh.rank - i] : 1;
            s[k] = own == 1 ? 0 : each[k];
            each[k] *= own;
            joins = joins && s[k] == step[n - 1][k] * dim[n - 1];
        }
        if (joins) {
            dim[n - 1] *= d;
            continue;
        }
        dim[n] = d;
        for (int k = 0; k < operands; k++)
            step[n][k] = s[k];
        n++;
    }
    *b = (bcast){.operands = operands, .rank = n > 0 ? n - 1 : 0, .inner = n > 0 ? dim[0] : 1, .rows = 1};
    for (int k = 0; k < operands; k++)
        b->advances[k] = n > 0 ? step[0][k] : 1;
    for (int i = 0; i < b->rank; i++) {
        b->dim[i] = dim[n - 1 - i];
        b->rows *= b->dim[i];
        for (int k = 0; k < operands; k++)
            b->step[i][k] = step[n - 1 - i][k];
    }
    b->row_blocks = b->inner > BLOCK_ELEMENTS ? block_count(b->inner, BLOCK_ELEMENTS) : 1;
    b->unit_rows = b->inner > 0 && b->row_blocks == 1 ? (BLOCK_ELEMENTS + b->inner - 1) / b->inner : 1;
    b->units = b->inner > 0 ? block_count(b->rows, b->unit_rows) * b->row_blocks : 0;
}

static inline bcast_span bcast_unit(const bcast *b, int64_t unit)
{
    bcast_span s = {0};
    int64_t block = unit % b->row_blocks, first = unit / b->row_blocks * b->unit_rows, rest = first;
    s.row = first;
    s.end = first + b->unit_rows < b->rows ? first + b->unit_rows : b->rows;
    s.from = block * BLOCK_ELEMENTS;
    s.to = b->row_blocks > 1 ? block_end(block, b->inner, BLOCK_ELEMENTS) : b->inner;
    for (int i = b->rank - 1; i >= 0; i--) {
        s.index[i] = rest % b->dim[i];
        rest /= b->dim[i];
        for (int k = 0; k < b->operands; k++)
            s.off[k] += s.index[i] * b->step[i][k];
    }
    return s;
}

static inline void bcast_next(const bcast *b, bcast_span *s)
{
    s->row++;
    for (int i = b->rank - 1; i >= 0; i--) {
        for (int k = 0; k < b->operands; k++)
            s->off[k] += b->step[i][k];
        if (++s->index[i] < b->dim[i])
            return;
        for (int k = 0; k < b->operands; k++)
            s->off[k] -= b->dim[i] * b->step[i][k];
        s->index[i] = 0;
    }
}

/* A kernel body for z = f(x, y), operands of type T computed in V, result of type Z; the expression uses x and y.
 * Results may lie over operands in place: no element depends on another. LOAD and STORE convert. */
#define BCAST_BINARY(T, V, Z, LOAD, STORE, ...)                                                                   \
    bcast b;                                                                                                      \
    bcast_make(&b, &a->out[0].sh, a->in, 2);                                                                      \
    PARALLEL_FOR(u, b.units, a->threads, b.rows * b.inner)                                                        \
    {                                                                                                             \
        for (bcast_span s = bcast_unit(&b, u); s.row < s.end; bcast_next(&b, &s)) {                               \
            const T *px = (const T *)a->in[0].data + s.off[0];                                                    \
            const T *py = (const T *)a->in[1].data + s.off[1];                                                    \
            Z *pz = (Z *)a->out[0].data + s.row * b.inner;                                                        \
            if (b.advances[0] && b.advances[1]) {                                                                 \
                PRAGMA(omp simd)                                                                                  \
                for (int64_t j = s.from; j < s.to; j++) {                                                         \
                    const V x = LOAD(px[j]), y = LOAD(py[j]);                                                     \
                    pz[j] = STORE(__VA_ARGS__);                                                                   \
                }                                                                                                 \
            } else if (b.advances[0]) {                                                                           \
                const V y = LOAD(py[0]);                                                                          \
                PRAGMA(omp simd)                                                                                  \
                for (int64_t j = s.from; j < s.to; j++) {                                                         \
                    const V x = LOAD(px[j]);                                                                      \
                    pz[j] = STORE(__VA_ARGS__);                                                                   \
                }                                                                                                 \
            } else {                                                                                              \
                const V x = LOAD(px[0]);                                                                          \
                PRAGMA(omp simd)                                                                                  \
                for (int64_t j = s.from; j < s.to; j++) {                                                         \
                    const V y = LOAD(py[j]);                                                                      \
                    pz[j] = STORE(__VA_ARGS__);                                                                   \
                }                                                                                                 \
            }                                                                                                     \
        }                                                                                                         \
    }

/* Where: z = condition ? x : y on elements of the size of T; each operand advances or stays along a row. */
#define BCAST_WHERE(T)                                                                                            \
    bcast b;                                                                                                      \
    bcast_make(&b, &a->out[0].sh, a->in, 3);                                                                      \
    PARALLEL_FOR(u, b.units, a->threads, b.rows * b.inner)                                                        \
    {                                                                                                             \
        const int64_t sc = b.advances[0], sx = b.advances[1], sy = b.advances[2];                                 \
        for (bcast_span s = bcast_unit(&b, u); s.row < s.end; bcast_next(&b, &s)) {                               \
            const uint8_t *pc = (const uint8_t *)a->in[0].data + s.off[0];                                        \
            const T *px = (const T *)a->in[1].data + s.off[1], *py = (const T *)a->in[2].data + s.off[2];         \
            T *pz = (T *)a->out[0].data + s.row * b.inner;                                                        \
            if (sc && sx && !sy) { /* the gradient of Where: y is 0 */                                            \
                const T y = py[0];                                                                                \
                PRAGMA(omp simd)                                                                                  \
                for (int64_t j = s.from; j < s.to; j++)                                                           \
                    pz[j] = pc[j] ? px[j] : y;                                                                    \
            } else if (sc && sx) {                                                                                \
                PRAGMA(omp simd)                                                                                  \
                for (int64_t j = s.from; j < s.to; j++)                                                           \
                    pz[j] = pc[j] ? px[j] : py[j];                                                                \
            } else {                                                                                              \
                for (int64_t j = s.from; j < s.to; j++)                                                           \
                    pz[j] = pc[j * sc] ? px[j * sx] : py[j * sy];                                                 \
            }                                                                                                     \
        }                                                                                                         \
    }

#endif
