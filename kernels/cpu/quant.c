/* quant.c - reference of the quantisation operators but the convolutions and products (qconv.c), element by element. */
#include "kernels/cpu/quant.h"

#include "kernels/cpu/broadcast.h"

/* x [outer, channels, inner] of a scale per channel; one channel otherwise. */
typedef struct channels {
    int64_t outer, n, inner;
} channels;
static channels channels_of(const kernel_args *a)
{
    const shape *x = &a->in[0].sh;
    channels c = {1, 1, shape_count(x)};
    if (shape_count(&a->in[1].sh) == 1)
        return c;
    int axis = shape_axis(x, ((const quant_attrs *)a->attr)->axis);
    c = (channels){1, x->dim[axis], 1};
    for (int i = 0; i < axis; i++)
        c.outer *= x->dim[i];
    for (int i = axis + 1; i < x->rank; i++)
        c.inner *= x->dim[i];
    return c;
}

static void quantize(const kernel_args *a)
{
    channels c = channels_of(a);
    const kernel_tensor *x = &a->in[0], *y = &a->out[0];
    quant_range r = quant_range_of(y->type);
    for (int64_t o = 0, i = 0; o < c.outer; o++)
        for (int64_t k = 0; k < c.n; k++) {
            float scale = quant_scale(a, 1, k);
            int32_t zero = quant_zero(a, 2, k);
            for (int64_t j = 0; j < c.inner; j++, i++)
                dtype_store(y->type, y->data, i, quant_round((float)dtype_load(x->type, x->data, i) / scale, zero, r));
        }
}

static void dequantize(const kernel_args *a)
{
    channels c = channels_of(a);
    const kernel_tensor *x = &a->in[0], *y = &a->out[0];
    for (int64_t o = 0, i = 0; o < c.outer; o++)
        for (int64_t k = 0; k < c.n; k++) {
            float scale = quant_scale(a, 1, k);
            double zero = (double)quant_zero(a, 2, k);
            for (int64_t j = 0; j < c.inner; j++, i++) {
                float v = (float)(dtype_load(x->type, x->data, i) - zero) * scale;
                dtype_store(y->type, y->data, i, (double)v);
            }
        }
}

static void dynamic_quantize(const kernel_args *a)
{
    const kernel_tensor *x = &a->in[0];
    int64_t n = shape_count(&x->sh);
    float lo = 0, hi = 0;
    quant_range r = quant_range_of(DTYPE_U8);
    for (int64_t i = 0; i < n; i++) {
        float v = (float)dtype_load(x->type, x->data, i);
        lo = v < lo ? v : lo;
        hi = v > hi ? v : hi;
    }
    float scale = (hi - lo) / 255.0f;
    int32_t zero = scale > 0 ? quant_round(-lo / scale, 0, r) : 0;
    for (int64_t i = 0; i < n; i++)
        quant_store_byte(&a->out[0], i,
                         scale > 0 ? quant_round((float)dtype_load(x->type, x->data, i) / scale, zero, r) : 0);
    dtype_store(a->out[1].type, a->out[1].data, 0, (double)scale);
    quant_store_byte(&a->out[2], 0, zero);
}

/* in: a, sa, za, b, sb, zb, sy, zy */
static void add(const kernel_args *a)
{
    const kernel_tensor *y = &a->out[0];
    float sa = quant_scale(a, 1, 0), sb = quant_scale(a, 4, 0), sy = quant_scale(a, 6, 0);
    int32_t za = quant_zero(a, 2, 0), zb = quant_zero(a, 5, 0), zy = quant_zero(a, 7, 0);
    quant_range r = quant_range_of(y->type);
    for (int64_t i = 0; i < shape_count(&y->sh); i++) {
        float u = (float)(quant_byte(&a->in[0], broadcast_index(&y->sh, &a->in[0].sh, i)) - za) * sa;
        float v = (float)(quant_byte(&a->in[3], broadcast_index(&y->sh, &a->in[3].sh, i)) - zb) * sb;
        quant_store_byte(y, i, quant_round((u + v) / sy, zy, r));
    }
}

const kernel_row cpu_quant[] = {
    {OP_QUANTIZE_LINEAR, DTYPE_NONE, ISA_REF, "quantize_ref", quantize},
    {OP_DEQUANTIZE_LINEAR, DTYPE_NONE, ISA_REF, "dequantize_ref", dequantize},
    {OP_DYNAMIC_QUANTIZE_LINEAR, DTYPE_NONE, ISA_REF, "dynamic_quantize_ref", dynamic_quantize},
    {OP_QLINEAR_ADD, DTYPE_NONE, ISA_REF, "qlinear_add_ref", add},
    KERNEL_END,
};
