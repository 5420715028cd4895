/* update_ref.c - reference of the optimizer updates, in double; formulas in src/ops/update.c. */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

static real *operand(const kernel_args *a, int i)
{
    return i < a->n_in ? a->in[i].data : NULL;
}

static double scalar(const kernel_args *a, int i, double absent)
{
    return operand(a, i) ? (double)*operand(a, i) : absent;
}

/* Element i of the gradient of the tensor at input `to`: input `grad`, whole or by the rows of input `place`. */
static double gradient(const kernel_args *a, int to, int grad, int place, int64_t i)
{
    const real *g = operand(a, grad);
    const int32_t *row = place < a->n_in ? a->in[place].data : NULL;
    if (!row)
        return (double)g[i];
    int64_t inner = shape_count(&a->in[to].sh) / a->in[to].sh.dim[0], r = row[i / inner];
    return r < 0 ? 0 : (double)g[r * inner + i % inner];
}

static void average(real *e, real p, int64_t i, double decay)
{
    if (e)
        e[i] = (real)(decay * (double)e[i] + (1 - decay) * (double)p);
}

/* One parameter, whose operands begin at input `first`. */
static void sgd_one(const kernel_args *a, int first, double lr, double scale)
{
    const sgd_attrs *at = a->attr;
    real *p = operand(a, first + UPDATE_PARAM), *buffer = operand(a, first + SGD_MOMENTUM);
    int64_t n = shape_count(&a->in[first].sh);
    double wd = at->weight_decay;
    for (int64_t i = 0; i < n; i++) {
        double w = (double)p[i], g = scale * gradient(a, first, first + UPDATE_GRAD, first + SGD_PLACE, i);
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
        average(operand(a, first + UPDATE_EMA), p[i], i, at->ema);
    }
}

static void sgd(const kernel_args *a)
{
    double lr = scalar(a, UPDATE_LR, 0), scale = scalar(a, UPDATE_SCALE, 1);
    for (int k = SGD_HEAD; k < a->n_in && isfinite(scale); k += SGD_TUPLE)
        sgd_one(a, k, lr, scale);
}

static void adam_one(const kernel_args *a, int first, double lr, double scale, double step)
{
    const adam_attrs *at = a->attr;
    real *p = operand(a, first + UPDATE_PARAM), *m = operand(a, first + ADAM_M), *v = operand(a, first + ADAM_V);
    int64_t n = shape_count(&a->in[first].sh);
    double wd = at->weight_decay, c1 = 1 - pow(at->beta1, step), c2 = sqrt(1 - pow(at->beta2, step));
    for (int64_t i = 0; i < n; i++) {
        double w = (double)p[i], g = scale * gradient(a, first, first + UPDATE_GRAD, first + ADAM_PLACE, i);
        if (at->decoupled)
            w *= 1 - lr * wd;
        else
            g += wd * w;
        double mean = at->beta1 * (double)m[i] + (1 - at->beta1) * g;
        double square = at->beta2 * (double)v[i] + (1 - at->beta2) * g * g;
        m[i] = (real)mean;
        v[i] = (real)square;
        p[i] = (real)(w - lr / c1 * mean / (sqrt(square) / c2 + at->eps));
        average(operand(a, first + UPDATE_EMA), p[i], i, at->ema);
    }
}

static void adam(const kernel_args *a)
{
    double lr = scalar(a, UPDATE_LR, 0), scale = scalar(a, UPDATE_SCALE, 1), step = scalar(a, UPDATE_STEP, 1);
    for (int k = ADAM_HEAD; k < a->n_in && isfinite(scale); k += ADAM_TUPLE)
        adam_one(a, k, lr, scale, step);
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

static void put(const kernel_args *a, int i, double v)
{
    if (i < a->n_out && a->out[i].data)
        *(real *)a->out[i].data = (real)v;
}

static void loss_scale(const kernel_args *a)
{
    const loss_scale_attrs *at = a->attr;
    double norm = scalar(a, LOSS_SCALE_NORM, 0), by = scalar(a, LOSS_SCALE_SCALE, 1), good = scalar(a, LOSS_SCALE_GOOD, 0);
    double skipped = scalar(a, LOSS_SCALE_SKIPPED, 0), now = by, update = (double)NAN;
    put(a, LOSS_SCALE_TRUE_STEP, scalar(a, LOSS_SCALE_STEP, 1) - skipped);
    if (isfinite(norm)) {
        norm /= by;
        update = fmin(1, at->max_norm / (norm + 1e-6)) / by;
        good++;
        if (good >= (double)at->interval) {
            now *= at->growth;
            good = 0;
        }
    } else {
        now *= at->shrink;
        good = 0;
        skipped++;
    }
    now = fmin(fmax(now, at->smallest), at->largest); /* also where it was NaN */
    *operand(a, LOSS_SCALE_SCALE) = (real)now;
    *operand(a, LOSS_SCALE_GOOD) = (real)good;
    *operand(a, LOSS_SCALE_SKIPPED) = (real)skipped;
    put(a, LOSS_SCALE_UPDATE, update);
    put(a, LOSS_SCALE_TRUE_NORM, norm);
    put(a, LOSS_SCALE_NOW, now);
    put(a, LOSS_SCALE_SKIPPED_NOW, skipped);
}

static void accumulate(const kernel_args *a)
{
    real *sum = a->in[0].data;
    int64_t n = shape_count(&a->in[0].sh);
    double share = scalar(a, ACCUMULATE_SHARE, 1);
    for (int64_t i = 0; i < n; i++)
        sum[i] = (real)((double)sum[i] + share * gradient(a, ACCUMULATE_SUM, ACCUMULATE_GRAD, ACCUMULATE_PLACE, i));
}

static void clear(const kernel_args *a)
{
    for (int k = 0; k < a->n_in; k++)
        memset(a->in[k].data, 0, (size_t)shape_count(&a->in[k].sh) * sizeof(real));
}

KERNEL_TABLE(update) = {
    {OP_SGD_UPDATE, REAL_DTYPE, REAL_ISA, "sgd_update_ref", sgd},
    {OP_ADAM_UPDATE, REAL_DTYPE, REAL_ISA, "adam_update_ref", adam},
    {OP_GRAD_NORM, REAL_DTYPE, REAL_ISA, "grad_norm_ref", grad_norm},
    {OP_LOSS_SCALE, REAL_DTYPE, REAL_ISA, "loss_scale_ref", loss_scale},
    {OP_ACCUMULATE, REAL_DTYPE, REAL_ISA, "accumulate_ref", accumulate},
    {OP_CLEAR, REAL_DTYPE, REAL_ISA, "clear_ref", clear},
    KERNEL_END,
};
