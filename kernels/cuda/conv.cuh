/* conv.cuh - sizes of convolutions for the CUDA kernels. */
#ifndef DISTILL_KERNELS_CUDA_CONV_CUH
#define DISTILL_KERNELS_CUDA_CONV_CUH

#include "kernels/cuda/cuda.cuh"

/* Data [n, channels, in...], windows [n, outputs, out...], weight [outputs, channels / group, kernel...]; three axes always. */
typedef struct conv_sizes {
    int n, channels, outputs, group;
    int in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
} conv_sizes;

/* x: shape of the data; y: of what has one element a window. */
static conv_sizes sizes_of(const conv_attrs *a, const shape *x, const shape *y)
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

/* Pixels of a batch and elements of an image are counted in 31 bits. */
static bool conv_counts(const kernel_tensor *t)
{
    const int64_t most = INT32_MAX - 4096, n = t->sh.dim[0], c = t->sh.dim[1], all = shape_count(&t->sh);
    return all == 0 || (all / n < most && all / c < most);
}

/* Groups of one channel: depthwise.cu has them. data: the shape of the data. */
static bool conv_depthwise(const conv_attrs *a, const shape *data)
{
    return a->group > 1 && data->dim[1] == a->group;
}

/* Data of an operand that may be absent: NULL. */
static const float *optional(const kernel_args *a, int i)
{
    return i < a->n_in ? (const float *)a->in[i].data : NULL;
}

#endif
