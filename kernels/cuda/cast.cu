/* cast.cu - conversion between element types: whole numbers wrap; floats are cut towards 0 and saturate, NaN becomes 0;
 * anything but 0 is true; floats round to nearest even (src/ops/binary.c). */
#include "kernels/cuda/broadcast.cuh"
#include "kernels/cuda/element.cuh"

/* ---- the common pairs: to or from float32 ---- */

template <class X, class Y> __global__ static void cast_kernel(Y *out, const X *in, int64_t n)
{
    for_packs<4>(n, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<X, V> p = pack_load<X, V>(in, i);
        pack<Y, V> r;
        UNROLL
        for (int v = 0; v < V; v++)
            r.at[v] = arithmetic<Y>::store((float)arithmetic<X>::load(p.at[v]));
        pack_store<Y, V>(out, i, r);
    });
}
template <class X, class Y> static void pair_run(const kernel_args *a)
{
    const int64_t n = shape_count(&a->out[0].sh);
    LAUNCH((cast_kernel<X, Y>), grid_for(a->queue, n, 4), CUDA_THREADS, 0, a->queue, (Y *)a->out[0].data,
           (const X *)a->in[0].data, n);
}
template <dtype TO> static bool cast_takes(const kernel_args *a)
{
    return a->out[0].type == TO;
}

/* ---- any types ---- */

__global__ static void cast_any_kernel(void *out, dtype to, bool to_float, const void *in, dtype from, bool from_float,
                                       bool is_signed, int64_t n)
{
    GRID_STRIDE(i, n)
    {
        if (from_float) {
            store_number(to, out, i, load_number(from, in, i));
            continue;
        }
        const uint64_t v = load_whole(from, in, i);
        if (!to_float)
            store_whole(to, out, i, v);
        else if (to == DTYPE_F64)
            ((double *)out)[i] = is_signed ? (double)(int64_t)v : (double)v;
        else /* not through double, which cannot hold 64 bits */
            store_number(to, out, i, (double)(is_signed ? (float)(int64_t)v : (float)v));
    }
}
static void cast_any_run(const kernel_args *a)
{
    const dtype_info *from = dtype_of(a->in[0].type), *to = dtype_of(a->out[0].type);
    const int64_t n = shape_count(&a->out[0].sh);
    LAUNCH(cast_any_kernel, grid_for(a->queue, n, 1), CUDA_THREADS, 0, a->queue, a->out[0].data, a->out[0].type,
           to->is_float, (const void *)a->in[0].data, a->in[0].type, from->is_float, from->is_signed, n);
}

static bool same_type(const kernel_args *a)
{
    return a->in[0].type == a->out[0].type;
}
static void copy_run(const kernel_args *a)
{
    const size_t bytes = (size_t)shape_count(&a->out[0].sh) * dtype_of(a->out[0].type)->size;
    if (bytes && a->in[0].data != a->out[0].data && a->queue->failed == 0)
        cuda_note(a->queue, "cast to the same type",
                  a->queue->api->copy(a->out[0].data, a->in[0].data, bytes, CUDA_COPY_ON_DEVICE, a->queue->stream));
}

#define PAIR_ROW(X, TX, Y, TY)                                                                                         \
    {.op = OP_CAST, .type = DTYPE_##X, .name = "cast " #X " to " #Y, .run = pair_run<TX, TY>, .takes = cast_takes<DTYPE_##Y>}
CUDA_TABLE(cast) = {
    {.op = OP_CAST, .type = DTYPE_NONE, .name = "cast to the same type", .run = copy_run, .takes = same_type},
    PAIR_ROW(F32, float, F16, __half), PAIR_ROW(F16, __half, F32, float), PAIR_ROW(F32, float, BF16, __nv_bfloat16),
    PAIR_ROW(BF16, __nv_bfloat16, F32, float), PAIR_ROW(U8, uint8_t, F32, float), PAIR_ROW(BOOL, uint8_t, F32, float),
    PAIR_ROW(I32, int32_t, F32, float), PAIR_ROW(I64, int64_t, F32, float),
    {.op = OP_CAST, .type = DTYPE_NONE, .name = "cast", .run = cast_any_run},
    KERNEL_END};
