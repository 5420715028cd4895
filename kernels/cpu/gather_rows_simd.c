/* gather_rows_simd.c - GatherRows: fast float32. Which row goes where is found first, in the order of the indices; then
 * strips of columns are added up, each by one thread, so that every element has its sum in the order of the indices. */
#include "kernels/cpu/move.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

#define STRIP 256

static size_t gather_rows_work(const kernel_args *a)
{
    return (size_t)shape_count(&a->in[1].sh) * sizeof(int32_t);
}

/* place[n]; slot[indices] = 2 * row of the result, + 1 when an earlier index has begun that row; -1: left out. Returns the
 * number of rows. */
static int64_t assign_rows(const kernel_tensor *index, gather_sizes g, int32_t *place, int32_t *slot)
{
    int32_t used = 0;
    memset(place, 0xff, (size_t)g.n * sizeof *place); /* -1 */
    for (int64_t k = 0; k < g.indices; k++) {
        const int64_t to = gather_index(index, k, g.n);
        if (to < 0) {
            slot[k] = -1;
        } else if (place[to] < 0) {
            slot[k] = 2 * used;
            place[to] = used++;
        } else {
            slot[k] = 2 * place[to] + 1;
        }
    }
    return used;
}

static void gather_rows(const kernel_args *a)
{
    const shape data = {1, {a->out[1].sh.dim[0]}};
    gather_sizes g = gather_split(&data, 0, &a->in[1].sh);
    g.inner = g.indices ? shape_count(&a->in[0].sh) / g.indices : 0;
    const float *dy = a->in[0].data;
    float *rows = a->out[0].data;
    int32_t *slot = a->work;
    const int64_t used = assign_rows(&a->in[1], g, a->out[1].data, slot);
    PARALLEL_FOR(u, block_count(g.inner, STRIP), a->threads, g.indices * g.inner)
    {
        const int64_t first = u * STRIP, end = block_end(u, g.inner, STRIP);
        for (int64_t k = 0; k < g.indices; k++) {
            const float *from = dy + k * g.inner;
            float *row = rows + (slot[k] >> 1) * g.inner;
            if (slot[k] < 0)
                continue;
            if (slot[k] & 1)
                PRAGMA(omp simd)
                for (int64_t i = first; i < end; i++)
                    row[i] += from[i];
            else
                PRAGMA(omp simd)
                for (int64_t i = first; i < end; i++)
                    row[i] = 0.0f + from[i]; /* a sum that begins with 0: -0 becomes 0 */
        }
        for (int64_t r = used; r < g.indices; r++)
            memset(rows + r * g.inner + first, 0, (size_t)(end - first) * sizeof *rows);
    }
}

KERNEL_TABLE(gather_rows) = {
    {OP_GATHER_ROWS, REAL_DTYPE, REAL_ISA, "gather_rows_f32", gather_rows, gather_rows_work},
    KERNEL_END,
};
