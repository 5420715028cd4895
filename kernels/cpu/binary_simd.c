/* binary_simd.c - elementwise operators with several inputs: fast float32.
 *
 * Operands of any shapes that broadcast to the output's (broadcast.h); results may lie over operands of their shape. */
#include "kernels/cpu/blocked.h"
#include "kernels/cpu/broadcast.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

#include <math.h>
#include <string.h>

#define AS_IS(v) (v)

#define BINARY(name, result, ...)                                                                                 \
    static void SIMD(name)(const kernel_args *a)                                                                  \
    {                                                                                                             \
        BCAST_BINARY(float, float, result, AS_IS, AS_IS, __VA_ARGS__)                                             \
    }
BINARY(add, float, x + y)
BINARY(sub, float, x - y)
BINARY(mul, float, x *y)
BINARY(div, float, x / y)
BINARY(prelu, float, x < 0 ? x * y : x)
BINARY(max, float, x > y || x != x ? x : y)
BINARY(min, float, x < y || x != x ? x : y)
BINARY(equal, uint8_t, x == y)
BINARY(less, uint8_t, x < y)
BINARY(less_or_equal, uint8_t, x <= y)
BINARY(greater, uint8_t, x > y)
BINARY(greater_or_equal, uint8_t, x >= y)

/* x^y: for one exponent that models use often, arithmetic; else powf. */
#define POWER(name, ...)                                                                                          \
    static void SIMD(name)(const kernel_args *a)                                                                  \
    {                                                                                                             \
        const float *in = a->in[0].data;                                                                          \
        float *out = a->out[0].data;                                                                              \
        const int64_t n = shape_count(&a->out[0].sh);                                                             \
        PARALLEL_FOR(b, block_count(n, BLOCK_ELEMENTS), a->threads, n)                                            \
        {                                                                                                         \
            const int64_t end = block_end(b, n, BLOCK_ELEMENTS);                                                  \
            PRAGMA(omp simd)                                                                                      \
            for (int64_t i = b * BLOCK_ELEMENTS; i < end; i++) {                                                  \
                const float x = in[i];                                                                            \
                out[i] = __VA_ARGS__;                                                                             \
            }                                                                                                     \
        }                                                                                                         \
    }
POWER(square, x *x)
POWER(cube, x *x *x)
POWER(root, sqrtf(v_abs(x)) + (x < 0 ? (x < -0x1.fffffep127f ? 0 : NAN) : 0)) /* pow(-inf, 0.5) is inf */
BINARY(pow_any, float, powf(x, y))
static void SIMD(pow)(const kernel_args *a)
{
    const float p = shape_count(&a->in[1].sh) == 1 ? *(const float *)a->in[1].data : 0;
    if (p == 2)
        SIMD(square)(a);
    else if (p == 3)
        SIMD(cube)(a);
    else if (p == 0.5f)
        SIMD(root)(a);
    else
        SIMD(pow_any)(a);
}

/* ---- any number of inputs, in chunks of the output ---- */

#define CHUNK 512

/* Elements [from, from + n) of operand t, broadcast to `out`: where they lie, or a copy in `room` [CHUNK]. */
static const float *SIMD(chunk_of)(const kernel_tensor *t, const shape *out, int64_t from, int64_t n, float *room)
{
    const float *data = t->data;
    bcast b;
    if (shape_equal(&t->sh, out))
        return data + from;
    bcast_make(&b, out, t, 1);
    b.unit_rows = b.rows; /* one unit, entered at the row of `from` */
    int64_t row = from / b.inner, column = from % b.inner, done = 0, rest = row;
    bcast_span s = {.row = row};
    for (int i = b.rank - 1; i >= 0; i--) {
        s.index[i] = rest % b.dim[i];
        rest /= b.dim[i];
        s.off[0] += s.index[i] * b.step[i][0];
    }
    for (; done < n; bcast_next(&b, &s), column = 0) {
        int64_t len = b.inner - column < n - done ? b.inner - column : n - done;
        if (b.advances[0])
            memcpy(room + done, data + s.off[0] + column, (size_t)len * sizeof *room);
        else
            for (int64_t j = 0; j < len; j++)
                room[done + j] = data[s.off[0]];
        done += len;
    }
    return room;
}

#define VARIADIC(name, step, end)                                                                                 \
    static void SIMD(name)(const kernel_args *a)                                                                  \
    {                                                                                                             \
        const shape *sh = &a->out[0].sh;                                                                          \
        const int64_t total = shape_count(sh);                                                                    \
        float *out = a->out[0].data;                                                                              \
        PARALLEL_FOR(c, block_count(total, CHUNK), a->threads, total)                                             \
        {                                                                                                         \
            float sum[CHUNK], room[CHUNK];                                                                        \
            const int64_t from = c * CHUNK, n = block_end(c, total, CHUNK) - from;                                \
            memcpy(sum, SIMD(chunk_of)(&a->in[0], sh, from, n, room), (size_t)n * sizeof *sum);                   \
            for (int k = 1; k < a->n_in; k++) {                                                                   \
                const float *px = SIMD(chunk_of)(&a->in[k], sh, from, n, room);                                   \
                for (int64_t j = 0; j < n; j++) {                                                                 \
                    const float x = px[j], y = sum[j];                                                            \
                    sum[j] = step;                                                                                \
                }                                                                                                 \
            }                                                                                                     \
            for (int64_t j = 0; j < n; j++) {                                                                     \
                const float y = sum[j];                                                                           \
                out[from + j] = end;                                                                              \
            }                                                                                                     \
        }                                                                                                         \
    }
VARIADIC(sum_any, y + x, y)
VARIADIC(mean, y + x, y / (float)a->n_in)
VARIADIC(max_any, x > y || x != x ? x : y, y)
VARIADIC(min_any, x < y || x != x ? x : y, y)

static void SIMD(sum)(const kernel_args *a)
{
    if (a->n_in == 2)
        SIMD(add)(a);
    else
        SIMD(sum_any)(a);
}
static void SIMD(max_of)(const kernel_args *a)
{
    if (a->n_in == 2)
        SIMD(max)(a);
    else
        SIMD(max_any)(a);
}
static void SIMD(min_of)(const kernel_args *a)
{
    if (a->n_in == 2)
        SIMD(min)(a);
    else
        SIMD(min_any)(a);
}

/* dy, y: [out]; then the operands: dx of operand k is dy where it equals y, shared with the others that do. */
static void SIMD(minmax_grad)(const kernel_args *a)
{
    const int which = 2 + (int)((const operand_attrs *)a->attr)->operand;
    const shape *sh = &a->out[0].sh;
    const int64_t total = shape_count(sh);
    const float *dy = a->in[0].data, *y = a->in[1].data;
    float *out = a->out[0].data;
    PARALLEL_FOR(c, block_count(total, CHUNK), a->threads, total)
    {
        float ties[CHUNK] = {0}, mine[CHUNK] = {0}, room[CHUNK];
        const int64_t from = c * CHUNK, n = block_end(c, total, CHUNK) - from;
        for (int k = 2; k < a->n_in; k++) {
            const float *x = SIMD(chunk_of)(&a->in[k], sh, from, n, room);
            for (int64_t j = 0; j < n; j++) {
                const float hit = x[j] == y[from + j] ? 1.0f : 0.0f;
                ties[j] += hit;
                mine[j] = k == which ? hit : mine[j];
            }
        }
        PRAGMA(omp simd)
        for (int64_t j = 0; j < n; j++)
            out[from + j] = mine[j] > 0 ? dy[from + j] / ties[j] : 0;
    }
}

/* y = x^p. operand 0: dx = dy p x^(p-1), 0 where p is 0.  operand 1: dp = dy x^p log x, 0 where x is 0 and p >= 0. */
static void SIMD(pow_grad)(const kernel_args *a)
{
    const bool exponent = ((const operand_attrs *)a->attr)->operand != 0;
    const shape *sh = &a->out[0].sh;
    const int64_t total = shape_count(sh);
    float *out = a->out[0].data;
    PARALLEL_FOR(c, block_count(total, CHUNK), a->threads, total)
    {
        float room[3][CHUNK];
        const int64_t from = c * CHUNK, n = block_end(c, total, CHUNK) - from;
        const float *dy = SIMD(chunk_of)(&a->in[0], sh, from, n, room[0]);
        const float *x = SIMD(chunk_of)(&a->in[1], sh, from, n, room[1]);
        const float *p = SIMD(chunk_of)(&a->in[2], sh, from, n, room[2]);
        for (int64_t j = 0; j < n; j++) {
            if (exponent)
                out[from + j] = x[j] == 0 && p[j] >= 0 ? 0 : dy[j] * powf(x[j], p[j]) * logf(x[j]);
            else if (p[j] == 2)
                out[from + j] = dy[j] * 2 * x[j];
            else
                out[from + j] = p[j] == 0 ? 0 : dy[j] * p[j] * powf(x[j], p[j] - 1);
        }
    }
}

/* dy, x, slope to dx and dslope (at the shape of x). */
static void SIMD(prelu_grad)(const kernel_args *a)
{
    const shape *sh = &a->out[0].sh;
    const int64_t total = shape_count(sh);
    const float *dy = a->in[0].data, *x = a->in[1].data;
    float *dx = a->out[0].data, *dslope = a->out[1].data;
    PARALLEL_FOR(c, block_count(total, CHUNK), a->threads, total)
    {
        float room[CHUNK];
        const int64_t from = c * CHUNK, n = block_end(c, total, CHUNK) - from;
        const float *slope = SIMD(chunk_of)(&a->in[2], sh, from, n, room);
        PRAGMA(omp simd)
        for (int64_t j = 0; j < n; j++) {
            const float d = dy[from + j], v = x[from + j], s = slope[j];
            dx[from + j] = v > 0 ? d : d * s;
            dslope[from + j] = v > 0 ? 0 : d * v;
        }
    }
}

static void SIMD(where)(const kernel_args *a)
{
    BCAST_WHERE(uint32_t)
}
static bool SIMD(takes_words)(const kernel_args *a)
{
    return dtype_of(a->out[0].type)->size == sizeof(uint32_t);
}

static bool SIMD(takes_same)(const kernel_args *a)
{
    return a->in[1].type == DTYPE_F32;
}

/* Both operands blocked, or one of them a number. */
#define BLOCKED(name)                                                                                             \
    static void SIMD(name##_blocked)(const kernel_args *a)                                                        \
    {                                                                                                             \
        run_as_plain(a, SIMD(name));                                                                              \
    }                                                                                                             \
    static bool SIMD(name##_takes)(const kernel_args *a)                                                          \
    {                                                                                                             \
        return takes_as_plain(a, SIMD(name));                                                                     \
    }
BLOCKED(add)
BLOCKED(sub)
BLOCKED(mul)
BLOCKED(div)
BLOCKED(prelu)
BLOCKED(sum)
BLOCKED(mean)
BLOCKED(max_of)
BLOCKED(min_of)

#define ROW_BLOCKED(E, name, mask)                                                                                \
    {OP_##E, DTYPE_F32, REAL_ISA, #name ", blocked", SIMD(name##_blocked), .takes = SIMD(name##_takes),           \
     .blocked_in = mask, .blocked_out = 1}
#define ROWS_BLOCKED(E, name) ROW_BLOCKED(E, name, 3), ROW_BLOCKED(E, name, 1), ROW_BLOCKED(E, name, 2)
#define ROW(E, name) {OP_##E, DTYPE_F32, REAL_ISA, #name, SIMD(name), NULL, NULL}
KERNEL_TABLE(binary) = {
    ROW(ADD, add), ROW(SUB, sub), ROW(MUL, mul), ROW(DIV, div), ROW(PRELU, prelu), ROW(EQUAL, equal), ROW(LESS, less),
    ROW(LESS_OR_EQUAL, less_or_equal), ROW(GREATER, greater), ROW(GREATER_OR_EQUAL, greater_or_equal), ROW(SUM, sum),
    ROW(MEAN, mean), ROW(MAX, max_of), ROW(MIN, min_of), ROW(MINMAX_GRAD, minmax_grad), ROW(PRELU_GRAD, prelu_grad),
    {OP_POW, DTYPE_F32, REAL_ISA, "pow", SIMD(pow), NULL, SIMD(takes_same)},
    ROW(POW_GRAD, pow_grad), ROWS_BLOCKED(ADD, add), ROWS_BLOCKED(SUB, sub), ROWS_BLOCKED(MUL, mul),
    ROWS_BLOCKED(DIV, div), ROW_BLOCKED(PRELU, prelu, 3), ROW_BLOCKED(SUM, sum, ~0u), ROW_BLOCKED(MEAN, mean, ~0u),
    ROW_BLOCKED(MAX, max_of, ~0u), ROW_BLOCKED(MIN, min_of, ~0u),
    {OP_WHERE, DTYPE_BOOL, REAL_ISA, "where", SIMD(where), NULL, SIMD(takes_words)},
    KERNEL_END};
