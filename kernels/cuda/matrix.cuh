/* matrix.cuh - what follows a sum of a matrix product in the kernels of gemm.cu and fp8.cu: alpha, C or a bias, a residual, an
 * activation; for tile_finish (tile.cuh) and round_finish (round_tile.cuh). */
#ifndef DISTILL_KERNELS_CUDA_MATRIX_CUH
#define DISTILL_KERNELS_CUDA_MATRIX_CUH

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/tile.cuh"

/* pre = alpha * sum + beta * C + residual, y = activation(pre) */
struct matrix_finish {
    float *y, *pre;                  /* dense [batches, m, n]; pre may be NULL */
    const float *c, *residual;       /* NULL: none; residual lies like y */
    int64_t c_row, c_col, m, n;
    float alpha, beta;
    int activation;
    bool vector;                     /* four at a time */

    /* Four neighbouring columns, or fewer. */
    struct column {
        int64_t at, col;
        __device__ column(const matrix_finish &f, int64_t batch, int64_t col_, int64_t) : at(batch * f.m * f.n + col_), col(col_) {}
        __device__ void put(const matrix_finish &f, int64_t row, float4 v, int64_t have) const
        {
            const int64_t to = at + row * f.n;
            if (f.alpha != 1)
                v = make_float4(f.alpha * v.x, f.alpha * v.y, f.alpha * v.z, f.alpha * v.w);
            if (f.c) {
                const float *c = f.c + row * f.c_row + col * f.c_col;
                float4 b = f.c_col ? fetch4(c, have, false) : make_float4(*c, *c, *c, *c);
                v = make_float4(v.x + f.beta * b.x, v.y + f.beta * b.y, v.z + f.beta * b.z, v.w + f.beta * b.w);
            }
            if (f.residual) {
                float4 r = fetch4(f.residual + to, have, f.vector);
                v = make_float4(v.x + r.x, v.y + r.y, v.z + r.z, v.w + r.w);
            }
            if (f.pre)
                put4(f.pre + to, v, have, f.vector);
            if (f.activation != ACTIVATION_NONE)
                v = activation_result(f.activation, v);
            put4(f.y + to, v, have, f.vector);
        }
    };
};

#endif
