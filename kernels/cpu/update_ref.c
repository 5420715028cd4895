/* update_ref.c - reference of the optimizer updates, in double; formulas in src/ops/update.c. */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

static double scalar(const kernel_args *a, int i, double absent)
{
    return i < a->n_in && a->in[i].data ? (double)*(const real *)a->in[i].data : absent;
}

static void sgd(const kernel_args *a)
{
    const sgd_attrs *at = a->attr;
    real *p = a->in[0].data, *buffer = a->in[2].data;
    const real *grad = a->in[1].data;
    int64_t n = shape_count(&a->in[0].sh);
    double lr = scalar(a, 3, 0), scale = scalar(a, 4, 1), wd = at->weight_decay;
    for (int64_t i = 0; i < n && isfinite(scale); i++) {
        double w = (double)p[i], g = scale * (double)grad[i];
        if (at->decoupled)
            w *= 1 - lr * wd;
        else
            g += wd * w;
        if (buffer) {
            double b = at->momentum * (double)buffer[i] + g;
            buffer[i] = (real)b;
            g = at->nesterov ? g + at->momentum * b : b;
        }
        p[i] = (real)(w - lr * g);
    }
}

static void adam(const kernel_args *a)
{
    const adam_attrs *at = a->attr;
    real *p = a->in[0].data, *m = a->in[2].data, *v = a->in[3].data;
    const real *grad = a->in[1].data;
    int64_t n = shape_count(&a->in[0].sh);
    double lr = scalar(a, 4, 0), scale = scalar(a, 5, 1), step = scalar(a, 6, 1), wd = at->weight_decay;
    double c1 = 1 - pow(at->beta1, step), c2 = sqrt(1 - pow(at->beta2, step));
    for (int64_t i = 0; i < n && isfinite(scale); i++) {
        double w = (double)p[i], g = scale * (double)grad[i];
        if (at->decoupled)
            w *= 1 - lr * wd;
        else
            g += wd * w;
        double mean = at->beta1 * (double)m[i] + (1 - at->beta1) * g;
        double square = at->beta2 * (double)v[i] + (1 - at->beta2) * g * g;
        m[i] = (real)mean;
        v[i] = (real)square;
        p[i] = (real)(w - lr / c1 * mean / (sqrt(square) / c2 + at->eps));
    }
}

static void ema(const kernel_args *a)
{
    double d = ((const ema_attrs *)a->attr)->decay;
    real *average = a->in[0].data;
    const real *p = a->in[1].data;
    int64_t n = shape_count(&a->in[0].sh);
    for (int64_t i = 0; i < n && isfinite(scalar(a, 2, 1)); i++)
        average[i] = (real)(d * (double)average[i] + (1 - d) * (double)p[i]);
}

static void grad_norm(const kernel_args *a)
{
    double sum = 0, limit = ((const grad_norm_attrs *)a->attr)->max_norm;
    for (int k = 0; k < a->n_in; k++) {
        const real *g = a->in[k].data;
        int64_t n = shape_count(&a->in[k].sh);
        for (int64_t i = 0; i < n; i++)
            sum += (double)g[i] * (double)g[i];
    }
    double norm = sqrt(sum), scale = limit / (norm + 1e-6);
    *(real *)a->out[0].data = (real)(!isfinite(norm) ? (double)NAN : scale < 1 ? scale : 1);
    if (a->n_out > 1 && a->out[1].data)
        *(real *)a->out[1].data = (real)norm;
}

static void accumulate(const kernel_args *a)
{
    real *sum = a->in[0].data;
    const real *g = a->in[1].data;
    int64_t n = shape_count(&a->in[0].sh);
    double share = scalar(a, 2, 1);
    for (int64_t i = 0; i < n; i++)
        sum[i] = (real)((double)sum[i] + share * (double)g[i]);
}

static void clear(const kernel_args *a)
{
    memset(a->in[0].data, 0, (size_t)shape_count(&a->in[0].sh) * sizeof(real));
}

KERNEL_TABLE(update) = {
    {OP_SGD_UPDATE, REAL_DTYPE, REAL_ISA, "sgd_update_ref", sgd},
    {OP_ADAM_UPDATE, REAL_DTYPE, REAL_ISA, "adam_update_ref", adam},
    {OP_EMA_UPDATE, REAL_DTYPE, REAL_ISA, "ema_update_ref", ema},
    {OP_GRAD_NORM, REAL_DTYPE, REAL_ISA, "grad_norm_ref", grad_norm},
    {OP_ACCUMULATE, REAL_DTYPE, REAL_ISA, "accumulate_ref", accumulate},
    {OP_CLEAR, REAL_DTYPE, REAL_ISA, "clear_ref", clear},
    KERNEL_END,
};
