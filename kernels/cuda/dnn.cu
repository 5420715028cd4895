/* dnn.cu - Conv, its gradients and ConvTranspose through cuDNN (dnn.h): float32 images as they lie ([N, C, ...]); float16 and
 * bfloat16 ones channels last, weights likewise, the weight's gradient leaving as float32. Bias, residual and relu are fused
 * where the library has an engine for it, else one pass after the convolution. A norm and its relu before it: where there is one. */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/half_norm.cuh"
extern "C" {
#include "kernels/cuda/dnn.h"
}

/* y [N, M, pixels] + residual + bias[channel], relu */
__global__ static void finish_kernel(float *y, const float *bias, const float *residual, int64_t n, int64_t channels, int64_t pixels,
                                     bool relu)
{
    GRID_STRIDE(i, n)
    {
        float v = y[i];
        if (residual)
            v += residual[i];
        if (bias)
            v += bias[i / pixels % channels];
        y[i] = relu && v < 0 ? 0 : v;
    }
}
__global__ static void finish_vector_kernel(float4 *y, const float *bias, const float4 *residual, int64_t n4, int64_t channels,
                                            int64_t pixels4, bool relu)
{
    GRID_STRIDE(i, n4)
    {
        float4 v = y[i];
        if (residual) {
            const float4 r = residual[i];
            v = make_float4(v.x + r.x, v.y + r.y, v.z + r.z, v.w + r.w);
        }
        if (bias) {
            const float b = bias[i / pixels4 % channels];
            v = make_float4(v.x + b, v.y + b, v.z + b, v.w + b);
        }
        if (relu)
            v = make_float4(v.x < 0 ? 0 : v.x, v.y < 0 ? 0 : v.y, v.z < 0 ? 0 : v.z, v.w < 0 ? 0 : v.w);
        y[i] = v;
    }
}

/* The same of halves, channels last. */
template <class E>
__global__ static void finish_last_kernel(E *y, const float *bias, const E *residual, int64_t n, int64_t channels, bool relu)
{
    GRID_STRIDE(i, n)
    {
        float v = as_float(y[i]);
        if (residual)
            v += as_float(residual[i]);
        if (bias)
            v += bias[i % channels];
        y[i] = from_float<E>(relu && v < 0 ? 0 : v);
    }
}
template <class E> static void finish_last(const kernel_args *a, const void *bias, const void *residual, bool relu)
{
    const shape *s = &a->out[0].sh;
    const int64_t n = shape_count(s);
    LAUNCH((finish_last_kernel<E>), grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (E *)a->out[0].data, (const float *)bias,
           (const E *)residual, n, s->dim[1], relu);
}

static void finish(const kernel_args *a, const void *bias, const void *residual, bool relu)
{
    if (!bias && !residual && !relu)
        return;
    if (a->out[0].type == DTYPE_F16)
        return finish_last<__half>(a, bias, residual, relu);
    if (a->out[0].type == DTYPE_BF16)
        return finish_last<__nv_bfloat16>(a, bias, residual, relu);
    float *y = (float *)a->out[0].data;
    const shape *s = &a->out[0].sh;
    const int64_t n = shape_count(s), pixels = n / (s->dim[0] * s->dim[1]);
    if (pixels % 4 == 0 && is_vector(y) && is_vector(residual))
        LAUNCH(finish_vector_kernel, grid_for(a->queue, n / 4, 1), CUDA_THREADS, 0, a->queue, (float4 *)y, (const float *)bias,
               (const float4 *)residual, n / 4, s->dim[1], pixels / 4, relu);
    else
        LAUNCH(finish_kernel, grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, y, (const float *)bias, (const float *)residual, n,
               s->dim[1], pixels, relu);
}

static inline bool is_there(const kernel_args *a, int i)
{
    return a->n_in > i && a->in[i].type != DTYPE_NONE;
}

/* One spatial axis becomes the second of two. */
static void copy_dims(int64_t *to, const shape *s)
{
    const int shift = s->rank == 3;
    to[0] = s->dim[0];
    to[1] = s->dim[1];
    to[2] = 1;
    for (int i = 2; i < s->rank; i++)
        to[i + shift] = s->dim[i];
}

/* Left to our own kernels: nothing to do, and a channel a group, where the library is slow in float32. */
static bool is_ours(const kernel_args *a, const shape *w)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    return !a->queue->dnn || shape_count(&a->in[0].sh) < 1 || shape_count(&a->in[1].sh) < 1 || shape_count(&a->out[0].sh) < 1 ||
           (at->group > 1 && w->dim[1] == 1) || (at->exact && a->in[0].type != DTYPE_F32);
}

static dnn_key key_of(const kernel_args *a, dnn_kind kind, const shape *x, const shape *w, const shape *y)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    const int spatial = x->rank - 2, shift = spatial == 1;
    dnn_key k;
    memset(&k, 0, sizeof k);
    k.kind = kind;
    k.type = a->in[0].type == DTYPE_F16 ? DNN_HALF : a->in[0].type == DTYPE_BF16 ? DNN_BFLOAT16 : DNN_FLOAT;
    k.channels_last = k.type != DNN_FLOAT;
    k.axes = spatial + shift;
    k.exact = at->exact != 0;
    k.tf32 = a->queue->tf32 && !k.exact;
    k.deterministic = a->queue->deterministic;
    copy_dims(k.x, x);
    copy_dims(k.w, w);
    copy_dims(k.y, y);
    k.stride[0] = k.dilation[0] = 1;
    for (int i = 0; i < spatial; i++) {
        k.stride[i + shift] = at->strides.v[i];
        k.dilation[i + shift] = at->dilations.v[i];
        k.before[i + shift] = at->pads.v[i];
        k.after[i + shift] = at->pads.v[i + spatial];
    }
    return k;
}

/* ---- forward ---- */

struct forward_way {
    const dnn_plan *plan;
    bool fused;
};

static const dnn_plan *usable(const dnn_plan *p)
{
    return p && p->usable ? p : NULL;
}

static forward_way forward_ways(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    forward_way f = {};
    if (is_ours(a, &a->in[1].sh))
        return f;
    dnn_key k = key_of(a, DNN_CONV_FORWARD, &a->in[0].sh, &a->in[1].sh, &a->out[0].sh), plain = k;
    k.bias = is_there(a, 2);
    k.residual = is_there(a, 3);
    k.relu = at->relu != 0;
    k.narrow_bias = k.bias && k.type != DNN_FLOAT;
    f.plan = usable(cuda_dnn_plan(a->queue, &k));
    f.fused = f.plan != NULL;
    if (!f.plan)
        f.plan = usable(cuda_dnn_plan(a->queue, &plain));
    return f;
}
static bool forward_takes(const kernel_args *a)
{
    return forward_ways(a).plan != NULL;
}
/* Of a bias in the type of the images, which the workspace begins with. */
static size_t bias_bytes(const kernel_args *a, const dnn_plan *p)
{
    return p && p->key.narrow_bias ? ((size_t)a->out[0].sh.dim[1] * sizeof(__half) + 255) / 256 * 256 : 0;
}
static size_t forward_workspace(const kernel_args *a)
{
    const dnn_plan *p = forward_ways(a).plan;
    return bias_bytes(a, p) + cuda_dnn_workspace(a->queue, p);
}
template <class E> __global__ static void narrow_kernel(E *to, const float *from, int64_t n)
{
    GRID_STRIDE(i, n)
    to[i] = from_float<E>(from[i]);
}
template <class E> static void narrow_bias(const kernel_args *a)
{
    const int64_t n = a->out[0].sh.dim[1];
    LAUNCH((narrow_kernel<E>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (E *)a->work, (const float *)a->in[2].data, n);
}
static void forward_run(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    const forward_way f = forward_ways(a);
    void *operand[DNN_OPERANDS] = {};
    operand[DNN_X] = a->in[0].data;
    operand[DNN_W] = a->in[1].data;
    operand[DNN_Y] = a->out[0].data;
    operand[DNN_BIAS] = is_there(a, 2) ? a->in[2].data : NULL;
    operand[DNN_RESIDUAL] = is_there(a, 3) ? a->in[3].data : NULL;
    if (f.plan->key.narrow_bias) {
        operand[DNN_BIAS] = a->work;
        if (f.plan->key.type == DNN_HALF)
            narrow_bias<__half>(a);
        else
            narrow_bias<__nv_bfloat16>(a);
    }
    cuda_dnn_run(a->queue, f.plan, operand, (char *)a->work + bias_bytes(a, f.plan));
    if (!f.fused)
        finish(a, operand[DNN_BIAS], operand[DNN_RESIDUAL], at->relu != 0);
}

/* ---- with a norm and its relu on the way in: NormConv ----
 * Engines that are compiled already: of float16 with scale and shift in it, forward with the sums of the result besides, which nobody
 * asked for. Scale and shift are made of the norm's operands first, one small launch. */

/* Not where it is slower than the plain graph and its share of what making the norm takes, two passes for two readers. */
static const dnn_plan *better(const kernel_args *a, dnn_key normed, const dnn_key *plain)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    if (normed.type != DNN_HALF || !at->norm_relu || at->norm_ceiling > 0 || normed.x[1] % 8 || normed.y[1] % 8) /* %: alignment */
        return NULL;
    normed.norm = 1;
    const dnn_plan *whole = usable(cuda_dnn_plan(a->queue, &normed)), *part = whole ? usable(cuda_dnn_plan(a->queue, plain)) : NULL;
    return part && !cuda_dnn_saves(a->queue, whole, part, (size_t)shape_count(&a->in[0].sh) * sizeof(__half)) ? NULL : whole;
}
/* In the workspace: scale and shift of x, then the sums of y [2, M]. */
static size_t normed_bytes(const kernel_args *a)
{
    const size_t sums = (size_t)a->out[0].sh.dim[1] * 2 * sizeof(float), of_x = (size_t)a->in[0].sh.dim[1] * 2 * sizeof(__half);
    return (of_x + 255) / 256 * 256 + (sums + 255) / 256 * 256;
}
__global__ static void norm_operands_kernel(__half *scale, __half *shift, const norm_in n, int channels)
{
    GRID_STRIDE(c, channels)
    {
        const float2 of = norm_of_channel(n, (int)c);
        scale[c] = from_float<__half>(of.x);
        shift[c] = from_float<__half>(of.y);
    }
}
static float *sums_behind(const kernel_args *a, void *work)
{
    return (float *)((char *)work + ((size_t)a->in[0].sh.dim[1] * 2 * sizeof(__half) + 255) / 256 * 256);
}
/* The operands of the norm stand from `first` on; their place is `work`. */
static void bring_norm(const kernel_args *a, int first, void **operand, void *work)
{
    const int channels = (int)a->in[0].sh.dim[1];
    __half *const scale = (__half *)work, *const shift = scale + channels;
    float *const sums = sums_behind(a, work);
    LAUNCH(norm_operands_kernel, grid_for(a->queue, channels, 1), CUDA_THREADS, 0, a->queue, scale, shift, norm_in_of(a, first), channels);
    operand[DNN_NORM_SCALE] = scale;
    operand[DNN_NORM_SHIFT] = shift;
    operand[DNN_SUMS] = sums;
    operand[DNN_SQUARES] = sums + a->out[0].sh.dim[1];
}

static const dnn_plan *normed_plan(const kernel_args *a)
{
    if (is_ours(a, &a->in[1].sh) || is_there(a, 2) || is_there(a, 3) || ((const conv_attrs *)a->attr)->relu)
        return NULL;
    const dnn_key plain = key_of(a, DNN_CONV_FORWARD, &a->in[0].sh, &a->in[1].sh, &a->out[0].sh);
    dnn_key k = plain;
    k.sums = 1;
    return better(a, k, &plain);
}
static bool normed_takes(const kernel_args *a)
{
    return normed_plan(a) != NULL;
}
static size_t normed_workspace(const kernel_args *a)
{
    return normed_bytes(a) + cuda_dnn_workspace(a->queue, normed_plan(a));
}
static void normed_run(const kernel_args *a)
{
    void *operand[DNN_OPERANDS] = {};
    operand[DNN_X] = a->in[0].data;
    operand[DNN_W] = a->in[1].data;
    operand[DNN_Y] = a->out[0].data;
    bring_norm(a, 4, operand, a->work);
    cuda_dnn_run(a->queue, normed_plan(a), operand, (char *)a->work + normed_bytes(a));
}

/* ---- forward with the moments of the result: ConvMoments, where nothing follows the convolution; of a norm too ---- */

static const dnn_plan *moments_plan(const kernel_args *a)
{
    if (a->n_in > 4)
        return normed_plan(a);
    if (is_ours(a, &a->in[1].sh) || is_there(a, 2) || is_there(a, 3) || ((const conv_attrs *)a->attr)->relu)
        return NULL;
    dnn_key k = key_of(a, DNN_CONV_FORWARD, &a->in[0].sh, &a->in[1].sh, &a->out[0].sh);
    k.sums = 1;
    return usable(cuda_dnn_plan(a->queue, &k));
}
/* Where the convolution with sums is no slower than the plain one and a pass for the sums. */
static bool moments_takes(const kernel_args *a)
{
    const dnn_plan *whole = moments_plan(a);
    const dnn_plan *part = whole && a->n_in <= 4 ? forward_ways(a).plan : NULL; /* a norm's graph has the sums anyway */
    return whole && (!part || cuda_dnn_saves(a->queue, whole, part, (size_t)shape_count(&a->out[0].sh) * sizeof(__half)));
}
/* The workspace begins with M sums; those of squares begin at a multiple of 16 bytes, as every tensor promises. */
static int64_t squares_at(int64_t channels)
{
    return (channels + 3) / 4 * 4;
}
static size_t sums_bytes(const kernel_args *a)
{
    return ((size_t)squares_at(a->out[0].sh.dim[1]) * 2 * sizeof(float) + 255) / 256 * 256;
}
static size_t moments_workspace(const kernel_args *a)
{
    return a->n_in > 4 ? normed_workspace(a) : sums_bytes(a) + cuda_dnn_workspace(a->queue, moments_plan(a));
}
/* The library's sums are those of the numbers as they are, so the variance is a difference of two; it is taken in double. */
__global__ static void moments_kernel(float *mean, float *var, const float *sum, const float *squares, int64_t channels, double count)
{
    GRID_STRIDE(c, channels)
    {
        const double m = (double)sum[c] / count, v = (double)squares[c] / count - m * m;
        mean[c] = (float)m;
        var[c] = v < 0 ? 0 : (float)v; /* what is no number stays none */
    }
}
static void moments_run(const kernel_args *a)
{
    const int64_t channels = a->out[0].sh.dim[1];
    float *const sum = a->n_in > 4 ? sums_behind(a, a->work) : (float *)a->work;
    void *operand[DNN_OPERANDS] = {};
    operand[DNN_X] = a->in[0].data;
    operand[DNN_W] = a->in[1].data;
    operand[DNN_Y] = a->out[0].data;
    operand[DNN_SUMS] = sum;
    operand[DNN_SQUARES] = sum + squares_at(channels); /* behind a norm's graph they are whole eights */
    if (a->n_in > 4)
        normed_run(a);
    else
        cuda_dnn_run(a->queue, moments_plan(a), operand, (char *)a->work + sums_bytes(a));
    LAUNCH(moments_kernel, grid_for(a->queue, channels, 1), CUDA_THREADS, 0, a->queue, (float *)a->out[1].data, (float *)a->out[2].data,
           sum, sum + squares_at(channels), channels, (double)(shape_count(&a->out[0].sh) / channels));
}

/* ---- with respect to the data: ConvGradData (dy, w), ConvTranspose (x, w, bias) ---- */

static const dnn_plan *data_plan(const kernel_args *a)
{
    if (is_ours(a, &a->in[1].sh))
        return NULL;
    const dnn_key k = key_of(a, DNN_CONV_DATA, &a->out[0].sh, &a->in[1].sh, &a->in[0].sh);
    return usable(cuda_dnn_plan(a->queue, &k));
}
static bool data_takes(const kernel_args *a)
{
    return data_plan(a) != NULL;
}
static size_t data_workspace(const kernel_args *a)
{
    return cuda_dnn_workspace(a->queue, data_plan(a));
}
static void data_run(const kernel_args *a)
{
    void *operand[DNN_OPERANDS] = {};
    operand[DNN_X] = a->out[0].data;
    operand[DNN_W] = a->in[1].data;
    operand[DNN_Y] = a->in[0].data;
    cuda_dnn_run(a->queue, data_plan(a), operand, a->work);
    if (is_there(a, 2))
        finish(a, a->in[2].data, NULL, false);
}

/* ---- with respect to the data, with a norm's sums: ConvGradDataSums (dy, w, x, scale, mean, var, bias) ----
 * Engines that are compiled already: of float16 and a plain relu. What they sum up is what the operator says; they take the deviation's
 * inverse, made by a small launch, and give three factors of the norm's own gradient besides, which nobody asked for. */

/* Where it is no slower than the plain gradient and a pass over it and x. */
static const dnn_plan *data_sums_plan(const kernel_args *a)
{
    const conv_attrs *at = (const conv_attrs *)a->attr;
    if (is_ours(a, &a->in[1].sh) || a->in[0].type != DTYPE_F16 || !at->norm_relu || at->norm_ceiling > 0)
        return NULL;
    dnn_key plain = key_of(a, DNN_CONV_DATA, &a->out[0].sh, &a->in[1].sh, &a->in[0].sh), normed = plain;
    normed.norm = 1;
    if (normed.x[1] % 8 || normed.y[1] % 8) /* alignment */
        return NULL;
    const dnn_plan *whole = usable(cuda_dnn_plan(a->queue, &normed)), *part = whole ? usable(cuda_dnn_plan(a->queue, &plain)) : NULL;
    return part && !cuda_dnn_saves(a->queue, whole, part, (size_t)shape_count(&a->out[0].sh) * 2 * sizeof(__half)) ? NULL : whole;
}
static bool data_sums_takes(const kernel_args *a)
{
    return data_sums_plan(a) != NULL;
}
/* The workspace begins with the inverse deviations and the three factors, [4, C]. */
static size_t factors_bytes(const kernel_args *a)
{
    return ((size_t)a->out[0].sh.dim[1] * 4 * sizeof(float) + 255) / 256 * 256;
}
static size_t data_sums_workspace(const kernel_args *a)
{
    return factors_bytes(a) + cuda_dnn_workspace(a->queue, data_sums_plan(a));
}
__global__ static void invert_kernel(float *inv, const float *var, float epsilon, int64_t channels)
{
    GRID_STRIDE(c, channels)
    inv[c] = 1 / sqrtf(var[c] + epsilon);
}
static void data_sums_run(const kernel_args *a)
{
    const int64_t channels = a->out[0].sh.dim[1];
    float *const inv = (float *)a->work;
    void *operand[DNN_OPERANDS] = {};
    LAUNCH(invert_kernel, grid_for(a->queue, channels, 1), CUDA_THREADS, 0, a->queue, inv, (const float *)a->in[5].data,
           (float)((const conv_attrs *)a->attr)->norm_epsilon, channels);
    operand[DNN_X] = a->out[0].data;
    operand[DNN_W] = a->in[1].data;
    operand[DNN_Y] = a->in[0].data;
    operand[DNN_NORM_X] = a->in[2].data;
    operand[DNN_NORM_SCALE] = a->in[3].data;
    operand[DNN_NORM_MEAN] = a->in[4].data;
    operand[DNN_NORM_INV] = inv;
    operand[DNN_NORM_SHIFT] = a->in[6].data;
    operand[DNN_PRODUCTS] = a->out[1].data;
    operand[DNN_SUMS] = a->out[2].data;
    operand[DNN_DY_FACTOR] = inv + channels;
    operand[DNN_X_FACTOR] = inv + 2 * channels;
    operand[DNN_TERM] = inv + 3 * channels;
    cuda_dnn_run(a->queue, data_sums_plan(a), operand, (char *)a->work + factors_bytes(a));
}

/* ---- with respect to the weight: (x, dy) ---- */

/* narrow_w: dnn_key. */
static const dnn_plan *weight_plan_of(const kernel_args *a, bool narrow_w)
{
    dnn_key k = key_of(a, DNN_CONV_WEIGHT, &a->in[0].sh, &a->out[0].sh, &a->in[1].sh);
    k.narrow_w = narrow_w;
    return usable(cuda_dnn_plan(a->queue, &k));
}
/* Of narrow images the library makes it in their type (its sums are float32), unless it has no engine for that. */
static const dnn_plan *weight_plan(const kernel_args *a)
{
    const dnn_plan *p = NULL;
    if (is_ours(a, &a->out[0].sh))
        return NULL;
    if (a->in[0].type != DTYPE_F32)
        p = weight_plan_of(a, true);
    return p ? p : weight_plan_of(a, false);
}
static bool weight_takes(const kernel_args *a)
{
    return weight_plan(a) != NULL;
}
static size_t weight_workspace(const kernel_args *a)
{
    return cuda_dnn_workspace(a->queue, weight_plan(a));
}
static void weight_run_to(const kernel_args *a, const dnn_plan *p, void *dw, void *work)
{
    void *operand[DNN_OPERANDS] = {};
    operand[DNN_X] = a->in[0].data;
    operand[DNN_W] = dw;
    operand[DNN_Y] = a->in[1].data;
    cuda_dnn_run(a->queue, p, operand, work);
}
static void weight_run(const kernel_args *a)
{
    weight_run_to(a, weight_plan(a), a->out[0].data, a->work);
}

/* dw [M, channels, taps] of what the library made of images that lie channels last: [M, taps, channels] */
template <class T> __global__ static void turn_kernel(float *dw, const T *from, int64_t n, int64_t channels, int64_t taps)
{
    GRID_STRIDE(i, n)
    {
        const int64_t c = i / taps % channels, m = i / (taps * channels);
        dw[i] = as_float(from[(m * taps + i % taps) * channels + c]);
    }
}
static size_t turned_bytes(const kernel_args *a)
{
    return ((size_t)shape_count(&a->out[0].sh) * sizeof(float) + 255) / 256 * 256;
}
static size_t weight_last_workspace(const kernel_args *a)
{
    return turned_bytes(a) + weight_workspace(a);
}
template <class T> static void turn(const kernel_args *a)
{
    const shape *s = &a->out[0].sh;
    const int64_t n = shape_count(s);
    LAUNCH((turn_kernel<T>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (float *)a->out[0].data, (const T *)a->work, n, s->dim[1],
           n / (s->dim[0] * s->dim[1]));
}
static void weight_last_run(const kernel_args *a)
{
    const dnn_plan *p = weight_plan(a);
    weight_run_to(a, p, a->work, (char *)a->work + turned_bytes(a));
    if (!p->key.narrow_w)
        turn<float>(a);
    else if (p->key.type == DNN_HALF)
        turn<__half>(a);
    else
        turn<__nv_bfloat16>(a);
}

/* ---- with respect to the weight of a norm: NormConvGradWeight ---- */

static const dnn_plan *normed_weight_plan(const kernel_args *a)
{
    if (is_ours(a, &a->out[0].sh))
        return NULL;
    dnn_key k = key_of(a, DNN_CONV_WEIGHT, &a->in[0].sh, &a->out[0].sh, &a->in[1].sh);
    k.narrow_w = 1;
    return better(a, k, &k);
}
static bool normed_weight_takes(const kernel_args *a)
{
    return normed_weight_plan(a) != NULL;
}
static size_t normed_weight_workspace(const kernel_args *a)
{
    return turned_bytes(a) + normed_bytes(a) + cuda_dnn_workspace(a->queue, normed_weight_plan(a));
}
static void normed_weight_run(const kernel_args *a)
{
    char *const work = (char *)a->work + turned_bytes(a);
    void *operand[DNN_OPERANDS] = {};
    operand[DNN_X] = a->in[0].data;
    operand[DNN_W] = a->work;
    operand[DNN_Y] = a->in[1].data;
    bring_norm(a, 2, operand, work);
    cuda_dnn_run(a->queue, normed_weight_plan(a), operand, work + normed_bytes(a));
    turn<__half>(a);
}

#define LAST(type_, text)                                                                                              \
    {.op = OP_CONV, .type = type_, .name = "conv cuDNN " text, .run = forward_run, .workspace = forward_workspace,     \
     .takes = forward_takes, .method = "cuDNN", .blocked_in = 1 | 1 << 1 | 1 << 3, .blocked_out = 1},                                     \
    {.op = OP_CONV_MOMENTS, .type = type_, .name = "conv moments cuDNN " text, .run = moments_run,                     \
     .workspace = moments_workspace, .takes = moments_takes, .method = "cuDNN", .blocked_in = 1 | 1 << 1 | 1 << 3,     \
     .blocked_out = 1},                                                                                                \
    {.op = OP_CONV_GRAD_DATA, .type = type_, .name = "conv grad data cuDNN " text, .run = data_run,                    \
     .workspace = data_workspace, .takes = data_takes, .method = "cuDNN", .blocked_in = 1 | 1 << 1, .blocked_out = 1}, \
    {.op = OP_CONV_GRAD_WEIGHT, .type = type_, .name = "conv grad weight cuDNN " text, .run = weight_last_run,         \
     .workspace = weight_last_workspace, .takes = weight_takes, .blocked_in = 1 | 1 << 1},                             \
    {.op = OP_CONV_TRANSPOSE, .type = type_, .name = "conv transpose cuDNN " text, .run = data_run,                    \
     .workspace = data_workspace, .takes = data_takes, .blocked_in = 1 | 1 << 1, .blocked_out = 1}
CUDA_TABLE(dnn) = {
    {.op = OP_CONV, .type = DTYPE_F32, .name = "conv cuDNN", .run = forward_run, .workspace = forward_workspace,
     .takes = forward_takes, .method = "cuDNN"},
    {.op = OP_CONV_GRAD_DATA, .type = DTYPE_F32, .name = "conv grad data cuDNN", .run = data_run, .workspace = data_workspace,
     .takes = data_takes},
    {.op = OP_CONV_GRAD_WEIGHT, .type = DTYPE_F32, .name = "conv grad weight cuDNN", .run = weight_run,
     .workspace = weight_workspace, .takes = weight_takes},
    {.op = OP_CONV_TRANSPOSE, .type = DTYPE_F32, .name = "conv transpose cuDNN", .run = data_run, .workspace = data_workspace,
     .takes = data_takes},
    LAST(DTYPE_F16, "float16"),
    {.op = OP_NORM_CONV, .type = DTYPE_F16, .name = "norm conv cuDNN float16", .run = normed_run, .workspace = normed_workspace,
     .takes = normed_takes, .method = "cuDNN", .blocked_in = 1 | 1 << 1 | 1 << 3, .blocked_out = 1},
    {.op = OP_NORM_CONV_GRAD_WEIGHT, .type = DTYPE_F16, .name = "norm conv grad weight cuDNN float16", .run = normed_weight_run,
     .workspace = normed_weight_workspace, .takes = normed_weight_takes, .blocked_in = 1 | 1 << 1},
    {.op = OP_CONV_GRAD_DATA_SUMS, .type = DTYPE_F16, .name = "conv grad data sums cuDNN float16", .run = data_sums_run,
     .workspace = data_sums_workspace, .takes = data_sums_takes, .method = "cuDNN", .blocked_in = 1 | 1 << 1 | 1 << 2, .blocked_out = 1},
    LAST(DTYPE_BF16, "bfloat16"),
    KERNEL_END};
