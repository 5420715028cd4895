/* reorder_simd.c - tensors from plain to blocked layout and back. */
#include "kernels/cpu/blocked.h"
#include "kernels/cpu/parallel.h"

/* channels planes of `pixels` floats -> pixels vectors */
static void block_planes(const float *x, float *y, int64_t channels, int64_t pixels)
{
    int64_t p = 0;
    for (; p + LANES <= pixels; p += LANES) {
        vec r[LANES];
#pragma GCC unroll 16
        for (int c = 0; c < LANES; c++)
            r[c] = c < channels ? vec_load(x + c * pixels + p) : vec_set(0);
        vec_transpose(r);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            vec_store(y + (p + i) * LANES, r[i]);
    }
    for (; p < pixels; p++) { /* no conditional load: GCC makes masked ones of it, and qemu's read beyond the tensor */
        for (int64_t c = 0; c < channels; c++)
            y[p * LANES + c] = x[c * pixels + p];
        for (int64_t c = channels; c < LANES; c++)
            y[p * LANES + c] = 0;
    }
}

static void unblock_planes(const float *x, float *y, int64_t channels, int64_t pixels)
{
    int64_t p = 0;
    for (; p + LANES <= pixels; p += LANES) {
        vec r[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            r[i] = vec_load(x + (p + i) * LANES);
        vec_transpose(r);
#pragma GCC unroll 16
        for (int c = 0; c < LANES; c++)
            if (c < channels)
                vec_store(y + c * pixels + p, r[c]);
    }
    for (; p < pixels; p++)
        for (int c = 0; c < channels; c++)
            y[c * pixels + p] = x[p * LANES + c];
}

typedef void planes_fn(const float *x, float *y, int64_t channels, int64_t pixels);

static void reorder(const kernel_args *a, planes_fn *planes, bool from_plain)
{
    blocked b = blocked_of(&a->out[0].sh);
    const float *x = a->in[0].data;
    float *y = a->out[0].data;
    PARALLEL_FOR(i, b.images * b.blocks, a->threads, b.images * b.blocks * b.pixels * LANES)
    {
        int64_t at_plain = (i / b.blocks * b.channels + i % b.blocks * LANES) * b.pixels, at_block = i * b.pixels * LANES;
        planes(x + (from_plain ? at_plain : at_block), y + (from_plain ? at_block : at_plain),
               block_channels(&b, i % b.blocks), b.pixels);
    }
}

/* x [N, C, spatial...] -> y, the same in the other layout */
static void to_blocked(const kernel_args *a)
{
    reorder(a, block_planes, true);
}
static void to_plain(const kernel_args *a)
{
    reorder(a, unblock_planes, false);
}

KERNEL_TABLE(reorder) = {
    {OP_REORDER, REAL_DTYPE, REAL_ISA, "reorder_to_blocked", to_blocked, .blocked_out = 1},
    {OP_REORDER, REAL_DTYPE, REAL_ISA, "reorder_to_plain", to_plain, .blocked_in = 1},
    KERNEL_END};
