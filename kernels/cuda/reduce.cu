/* reduce.cu - reductions over axes (src/ops/reduce.c): in an order that depends on shapes alone. */
#include "kernels/cuda/cuda.cuh"

/* x as results times elements of one result: where in x each begins. */
struct reduction {
    int64_t outs, each;
    broadcast_map kept, reduced;
};

/* mask: bit i: axis i of x is reduced. */
static reduction reduction_of(const shape *x, uint32_t mask)
{
    reduction r = {.outs = 1, .each = 1, .kept = {.rank = 0}, .reduced = {.rank = 0}};
    int64_t stride = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        const bool gone = mask >> i & 1;
        broadcast_map *m = gone ? &r.reduced : &r.kept;
        const int64_t d = x->dim[i];
        *(gone ? &r.each : &r.outs) *= d;
        if (d != 1 && m->rank > 0 && stride == m->step[m->rank - 1] * m->dim[m->rank - 1]) {
            m->dim[m->rank - 1] *= d;
        } else if (d != 1) {
            m->dim[m->rank] = d;
            m->step[m->rank++] = stride;
        }
        stride *= d;
    }
    return r;
}

/* The axes that reduce_attrs names, as bits. */
static uint32_t mask_of(const kernel_args *a)
{
    const reduce_attrs *at = (const reduce_attrs *)a->attr;
    const int rank = a->in[0].sh.rank;
    uint32_t mask = at->axes.n == 0 && !at->noop_with_empty_axes ? (1u << rank) - 1 : 0;
    for (int64_t i = 0; i < at->axes.n; i++)
        mask |= 1u << (at->axes.v[i] < 0 ? at->axes.v[i] + rank : at->axes.v[i]);
    return mask;
}

__global__ static void sum_block(float *out, const float *in, reduction r)
{
    __shared__ float part[32];
    for (int64_t o = blockIdx.x; o < r.outs; o += gridDim.x) {
        const float *from = in + broadcast_at(r.kept, o);
        float y = 0;
        for (int64_t i = threadIdx.x; i < r.each; i += blockDim.x)
            y += from[broadcast_at(r.reduced, i)];
        y = block_sum(y, part);
        if (threadIdx.x == 0)
            out[o] = y;
    }
}

static void reduce_sum_run(const kernel_args *a)
{
    const reduction r = reduction_of(&a->in[0].sh, mask_of(a));
    if (r.outs)
        LAUNCH(sum_block, grid_for(a->queue, r.outs * CUDA_THREADS, 1), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,
               (const float *)a->in[0].data, r);
}

CUDA_TABLE(reduce) = {{.op = OP_REDUCE_SUM, .type = DTYPE_F32, .name = "reduce sum", .run = reduce_sum_run}, KERNEL_END};
