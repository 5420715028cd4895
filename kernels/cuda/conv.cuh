/* conv.cuh - sizes of convolutions for the CUDA kernels, and what convolutions are as products of matrices. */
#ifndef DISTILL_KERNELS_CUDA_CONV_CUH
#define DISTILL_KERNELS_CUDA_CONV_CUH

#include "kernels/cuda/index.cuh"

/* Data [n, channels, in...], windows [n, outputs, out...], weight [outputs, channels / group, kernel...]; three axes always. */
typedef struct conv_sizes {
    int n, channels, outputs, group;
    int in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
} conv_sizes;

/* x: shape of the data; y: of what has one element a window. */
static inline conv_sizes sizes_of(const conv_attrs *a, const shape *x, const shape *y)
{
    conv_sizes s = {(int)x->dim[0], (int)x->dim[1], (int)y->dim[1], (int)a->group,
                    {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}};
    int count = x->rank - 2, first = 3 - count;
    for (int i = 0; i < count; i++) {
        s.in[first + i] = (int)x->dim[2 + i];
        s.out[first + i] = (int)y->dim[2 + i];
        s.kernel[first + i] = (int)a->kernel_shape.v[i];
        s.stride[first + i] = (int)a->strides.v[i];
        s.dilation[first + i] = (int)a->dilations.v[i];
        s.pad[first + i] = (int)a->pads.v[i];
    }
    return s;
}
__host__ __device__ static inline int volume(const int *v)
{
    return v[0] * v[1] * v[2];
}

/* ---- products ---- */

/* One product: positions j of the result and taps t of the kernel along every axis. The source's coordinate is
 * j * step + base + t * tap_step where that lies in [0, limit); the result's is first + j * jump; the weight's tap is
 * tap_first + t * tap_jump. */
typedef struct geometry {
    int count[3], taps[3];
    int step[3], base[3], tap_step[3], limit[3];
    int first[3], jump[3];
    int tap_first[3], tap_jump[3];
    divider all, across, wide; /* taps in all, of the two inner axes, of the innermost */
} geometry;
__host__ __device__ static inline void set_divisors(geometry *g)
{
    g->all = divider_of(volume(g->taps));
    g->across = divider_of(g->taps[1] * g->taps[2]);
    g->wide = divider_of(g->taps[2]);
}

static inline geometry forward_geometry(const conv_sizes &s)
{
    geometry g = {};
    for (int i = 0; i < 3; i++) {
        g.count[i] = s.out[i];
        g.taps[i] = s.kernel[i];
        g.step[i] = s.stride[i];
        g.base[i] = -s.pad[i];
        g.tap_step[i] = s.dilation[i];
        g.limit[i] = s.in[i];
        g.jump[i] = g.tap_jump[i] = 1;
    }
    set_divisors(&g);
    return g;
}

/* Phases of the data along an axis. */
__host__ __device__ static inline int phases_of(const conv_sizes &s, int i)
{
    return s.stride[i] < s.in[i] ? s.stride[i] : s.in[i];
}
/* Pixels f + j * stride are reached by the taps with (f + pad - t * dilation) % stride == 0. */
__host__ __device__ static inline geometry data_geometry(const conv_sizes &s, int phase)
{
    geometry g = {};
    for (int i = 2; i >= 0; i--) {
        const int phases = phases_of(s, i), f = phase % phases, stride = s.stride[i];
        int a = stride, b = s.dilation[i], t = 0;
        phase /= phases;
        while (b) { /* a: the greatest common divisor */
            int rest = a % b;
            a = b;
            b = rest;
        }
        const int jump = stride / a, back = s.dilation[i] / a;
        while (t < s.kernel[i] && t < jump && (f + s.pad[i] - (int64_t)t * s.dilation[i]) % stride)
            t++;
        g.count[i] = (s.in[i] - f + stride - 1) / stride;
        g.taps[i] = t < s.kernel[i] && t < jump ? (s.kernel[i] - t + jump - 1) / jump : 0;
        g.step[i] = 1;
        g.base[i] = (int)((f + s.pad[i] - (int64_t)t * s.dilation[i]) / stride);
        g.tap_step[i] = -back;
        g.limit[i] = s.out[i];
        g.first[i] = f;
        g.jump[i] = stride;
        g.tap_first[i] = t;
        g.tap_jump[i] = jump;
    }
    set_divisors(&g);
    return g;
}

/* ---- operands ---- */

/* Pixels of a batch and elements of an image are counted in 31 bits. */
static inline bool conv_counts(const kernel_tensor *t)
{
    const int64_t most = INT32_MAX - 4096, n = t->sh.dim[0], c = t->sh.dim[1], all = shape_count(&t->sh);
    return all == 0 || (all / n < most && all / c < most);
}

/* Groups of one channel: depthwise.cu has them. data: the shape of the data. */
static inline bool conv_depthwise(const conv_attrs *a, const shape *data)
{
    return a->group > 1 && data->dim[1] == a->group;
}

/* Data of an operand that may be absent: NULL. */
static inline const float *optional(const kernel_args *a, int i)
{
    return i < a->n_in ? (const float *)a->in[i].data : NULL;
}

#endif
