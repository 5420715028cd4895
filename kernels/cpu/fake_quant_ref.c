/* fake_quant_ref.c - reference of FakeQuant, its gradient and its range; formulas in src/ops/fake_quant.c. */
#include "kernels/cpu/fake_quant.h"

static const kernel_tensor *zero_operand(const kernel_args *a, int i)
{
    return i < a->n_in && a->in[i].data ? &a->in[i] : NULL;
}

static void forward(const kernel_args *a)
{
    const fake_quant_attrs *at = a->attr;
    const quant_rows r = quant_rows_of(&a->in[0], &a->in[1], at);
    const kernel_tensor *zero = zero_operand(a, 2);
    const real *x = a->in[0].data;
    real *y = a->out[0].data, *lo = a->n_out > 1 ? a->out[1].data : NULL, *hi = a->n_out > 2 ? a->out[2].data : NULL;
    for (int64_t k = 0; k < r.scales; k++) {
        const quantizer q = quantizer_at(at, &a->in[1], zero, k);
        real low = 0, high = 0;
        for (int64_t o = 0; o < r.outer; o++)
            for (int64_t i = (o * r.scales + k) * r.inner, end = i + r.inner; i < end; i++) {
                const real v = q.relu && x[i] < 0 ? 0 : x[i];
                low = v < low || v != v ? v : low; /* NaN stays */
                high = v > high || v != v ? v : high;
                y[i] = quantizer_clamp(&q, quantizer_round(&q, quantizer_ratio(&q, x[i]))) * q.scale;
            }
        if (lo)
            lo[k] = low;
        if (hi)
            hi[k] = high;
    }
}

static void backward(const kernel_args *a)
{
    const fake_quant_attrs *at = a->attr;
    const quant_rows r = quant_rows_of(&a->in[1], &a->in[2], at);
    const kernel_tensor *zero = zero_operand(a, 3);
    const real *dy = a->in[0].data, *x = a->in[1].data;
    real *dx = a->out[0].data, *dscale = a->n_out > 1 ? a->out[1].data : NULL;
    for (int64_t k = 0; k < r.scales; k++) {
        const quantizer q = quantizer_at(at, &a->in[2], zero, k);
        double sum = 0;
        for (int64_t o = 0; o < r.outer; o++)
            for (int64_t i = (o * r.scales + k) * r.inner, end = i + r.inner; i < end; i++) {
                const real ratio = quantizer_ratio(&q, x[i]), n = quantizer_round(&q, ratio), kept = quantizer_clamp(&q, n);
                const bool inside = quantizer_inside(&q, x[i], n);
                sum += (double)(dy[i] * (inside ? n - ratio : kept));
                dx[i] = inside ? dy[i] : 0;
            }
        if (dscale)
            dscale[k] = (real)(at->scale_grad * sum);
    }
}

static void range(const kernel_args *a)
{
    const fake_quant_attrs *at = a->attr;
    real *const lo = a->in[0].data, *const hi = a->in[1].data, *scale = a->in[2].data, *zero = a->in[3].data;
    const real *low = a->in[4].data, *high = a->in[5].data;
    for (int64_t i = 0, n = shape_count(&a->in[0].sh); i < n; i++) {
        if (!isfinite(low[i]) || !isfinite(high[i]))
            continue;
        const double m = at->momentum, l = (1 - m) * (double)lo[i] + m * (double)low[i],
                     h = (1 - m) * (double)hi[i] + m * (double)high[i], z = (double)zero[i];
        double s = (h - l) / (at->qmax - at->qmin);
        lo[i] = (real)l;
        hi[i] = (real)h;
        if (at->fixed_zero) {
            double up = at->qmax > z ? h / (at->qmax - z) : 0, down = z > at->qmin ? -l / (z - at->qmin) : 0;
            s = up > down ? up : down;
        }
        if (!(s >= 1.2e-38) || isinf(s))
            continue;
        scale[i] = (real)s;
        if (!at->fixed_zero)
            zero[i] = (real)fmin(fmax(rint(at->qmin - l / s), at->qmin), at->qmax);
    }
}

static void cap(const kernel_args *a)
{
    const fake_quant_attrs *at = a->attr;
    const shape *sh = &a->in[0].sh;
    const int axis = (int)(at->axis < 0 ? at->axis + sh->rank : at->axis);
    real *x = a->in[0].data;
    const real *scale = a->in[1].data;
    const int64_t channels = sh->dim[axis], step = shape_count(&a->in[1].sh) > 1 ? 1 : 0;
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < sh->rank; i++)
        *(i < axis ? &outer : &inner) *= i == axis ? 1 : sh->dim[i];
    for (int64_t k = 0; k < channels; k++) {
        double sum = 0;
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = (o * channels + k) * inner, end = i + inner; i < end; i++)
                sum += fabs((double)x[i]);
        sum /= (double)scale[k * step];
        if (!(sum > at->qmax) || isinf(sum))
            continue;
        const real factor = (real)(at->qmax / sum);
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = (o * channels + k) * inner, end = i + inner; i < end; i++)
                x[i] *= factor;
    }
}

KERNEL_TABLE(fake_quant) = {
    {OP_FAKE_QUANT, REAL_DTYPE, REAL_ISA, "fake quant reference", forward},
    {OP_FAKE_QUANT_GRAD, REAL_DTYPE, REAL_ISA, "fake quant grad reference", backward},
    {OP_FAKE_QUANT_RANGE, REAL_DTYPE, REAL_ISA, "fake quant range reference", range},
    {OP_FAKE_QUANT_CAP, REAL_DTYPE, REAL_ISA, "fake quant cap reference", cap},
    KERNEL_END};
