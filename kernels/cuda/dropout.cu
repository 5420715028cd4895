/* dropout.cu - dropout while training (src/ops/dropout.c), with the CPU's masks, and in evaluation, which copies. */
#include "kernels/cuda/broadcast.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/philox.cuh"

#define DRAWS 1024u /* of four numbers in a block of the mask (kernels/cpu/dropout_ref.c) */

/* Four elements and one draw a thread. x may be y. */
template <class T>
__global__ static void dropout_train_kernel(T *y, const T *x, const int64_t *counter, int64_t n, uint64_t seed, uint32_t below, double scale)
{
    GRID_STRIDE(i, (n + 3) / 4)
    {
        const uint4 r = philox_draw(seed, RNG_DROPOUT, (uint64_t)*counter, (uint32_t)(i / DRAWS), (uint32_t)(i % DRAWS));
        const uint32_t word[4] = {r.x, r.y, r.z, r.w};
        if (4 * i + 4 <= n) {
            pack<T, 4> p = pack_load<T, 4>(x, 4 * i);
            UNROLL
            for (int k = 0; k < 4; k++)
                p.at[k] = from_float<T>(word[k] >= below ? (float)((double)as_float(p.at[k]) * scale) : 0.0f);
            pack_store<T, 4>(y, 4 * i, p);
            continue;
        }
        UNROLL
        for (int k = 0; k < 4; k++)
            if (4 * i + k < n)
                y[4 * i + k] = from_float<T>(word[k] >= below ? (float)((double)as_float(x[4 * i + k]) * scale) : 0.0f);
    }
}

template <class T> static void dropout_train(const kernel_args *a)
{
    const dropout_attrs *at = (const dropout_attrs *)a->attr;
    const int64_t n = shape_count(&a->in[0].sh);
    if (n > 0)
        LAUNCH((dropout_train_kernel<T>), grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
               (const T *)a->in[0].data, (const int64_t *)a->in[1].data, n, (uint64_t)at->seed, (uint32_t)(at->ratio * 0x1p32),
               1 / (1 - at->ratio));
}

/* The same masks on images channels last: a thread has four elements of one draw, pixels beside each other of one channel where
 * pixels are many, so that a warp has 32 channels of four pixels. */
template <class T>
__global__ static void dropout_last_kernel(T *y, const T *x, const int64_t *counter, int64_t n, const divider channels,
                                           const divider pixels, uint64_t seed, uint32_t below, float scale)
{
    const int64_t draws = (pixels.d + 3) / 4 + 1; /* that a channel's pixels can lie in */
    GRID_STRIDE(i, n)
    {
        int64_t image = i;
        const int64_t c = split_off(&image, channels), part = image % draws;
        image /= draws;
        const int64_t first = (image * channels.d + c) * pixels.d, draw = first / 4 + part;
        if (4 * draw >= first + pixels.d)
            continue;
        const uint4 r = philox_draw(seed, RNG_DROPOUT, (uint64_t)*counter, (uint32_t)(draw / DRAWS), (uint32_t)(draw % DRAWS));
        const uint32_t word[4] = {r.x, r.y, r.z, r.w};
        UNROLL
        for (int k = 0; k < 4; k++) {
            const int64_t pixel = 4 * draw + k - first, at = (image * pixels.d + pixel) * channels.d + c;
            if (pixel >= 0 && pixel < pixels.d)
                y[at] = from_float<T>(word[k] >= below ? as_float(x[at]) * scale : 0);
        }
    }
}
template <class T> static void dropout_last(const kernel_args *a)
{
    const dropout_attrs *at = (const dropout_attrs *)a->attr;
    const shape *sh = &a->in[0].sh;
    const int64_t all = shape_count(sh), channels = sh->dim[1];
    if (all == 0)
        return;
    const int64_t pixels = all / channels / sh->dim[0], n = sh->dim[0] * channels * ((pixels + 3) / 4 + 1);
    LAUNCH((dropout_last_kernel<T>), grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, (T *)a->out[0].data,
           (const T *)a->in[0].data, (const int64_t *)a->in[1].data, n, divider_of(channels), divider_of(pixels), (uint64_t)at->seed,
           (uint32_t)(at->ratio * 0x1p32), (float)(1 / (1 - at->ratio)));
}

/* y = x, the mask all true. */
static void dropout(const kernel_args *a)
{
    cuda_queue *q = a->queue;
    const size_t n = (size_t)shape_count(&a->in[0].sh), bytes = n * dtype_of(a->in[0].type)->size;
    if (n == 0 || q->failed != 0)
        return;
    if (a->out[0].data != a->in[0].data)
        cuda_note(q, "dropout", q->api->copy(a->out[0].data, a->in[0].data, bytes, CUDA_COPY_ON_DEVICE, q->stream));
    if (a->n_out > 1 && a->out[1].data)
        cuda_note(q, "dropout mask", q->api->fill(a->out[1].data, 1, n, q->stream));
}

CUDA_TABLE(dropout) = {
    {.op = OP_DROPOUT, .type = DTYPE_NONE, .name = "dropout", .run = dropout},
    {.op = OP_DROPOUT_TRAIN, .type = DTYPE_F32, .name = "dropout train", .run = dropout_train<float>},
    {.op = OP_DROPOUT_TRAIN, .name = "dropout train plain F16", .run = dropout_train<__half>, .narrow = DTYPE_F16, .narrow_in = 1,
     .narrow_out = 1},
    {.op = OP_DROPOUT_TRAIN, .name = "dropout train plain BF16", .run = dropout_train<__nv_bfloat16>, .narrow = DTYPE_BF16,
     .narrow_in = 1, .narrow_out = 1},
    {.op = OP_DROPOUT_TRAIN, .type = DTYPE_F16, .name = "dropout train F16", .run = dropout_last<__half>, .blocked_in = 1, .blocked_out = 1},
    {.op = OP_DROPOUT_TRAIN, .type = DTYPE_BF16, .name = "dropout train BF16", .run = dropout_last<__nv_bfloat16>, .blocked_in = 1,
     .blocked_out = 1},
    KERNEL_END};
