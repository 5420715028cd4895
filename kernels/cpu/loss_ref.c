/* loss_ref.c - reference of the losses, in double throughout. Formulas and reductions in src/ops/loss.c. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/loss.h"

#include <math.h>

/* log of sum exp(z / T) */
static double log_sum(const real *z, int64_t classes, double t)
{
    double max = -INFINITY, sum = 0;
    for (int64_t c = 0; c < classes; c++)
        max = (double)z[c] > max ? (double)z[c] : max;
    for (int64_t c = 0; c < classes; c++)
        sum += exp(((double)z[c] - max) / t);
    return max / t + log(sum);
}

static int64_t arg_max(const real *z, int64_t classes)
{
    int64_t best = 0;
    for (int64_t c = 1; c < classes; c++)
        if (z[c] > z[best])
            best = c;
    return best;
}

/* sum_c p_t (log p_t - log p_s) of one row, and its share of the gradient: T / R * w_kd * (p_s - p_t) added to dz. */
static double kl_row(const real *z, const real *teacher, real *dz, int64_t classes, double t, double factor)
{
    double ls = log_sum(z, classes, t), lt = log_sum(teacher, classes, t), kl = 0;
    for (int64_t c = 0; c < classes; c++) {
        double log_s = (double)z[c] / t - ls, log_t = (double)teacher[c] / t - lt, p = exp(log_t);
        if (p > 0)
            kl += p * (log_t - log_s);
        if (factor != 0)
            dz[c] = (real)((double)dz[c] + factor * (exp(log_s) - p));
    }
    return kl;
}

/* sum_c q_c * -log softmax(z)_c of one labelled row; adds factor * (softmax * sum q - q) to dz. */
static double ce_row(const real *z, real *dz, int64_t classes, const kd_loss_attrs *at, const kd_label *l,
                     double factor)
{
    double ls = log_sum(z, classes, 1), ce = 0, all = 0;
    for (int64_t c = 0; c < classes; c++)
        all += kd_target(at, l, c, classes);
    for (int64_t c = 0; c < classes; c++) {
        double q = kd_target(at, l, c, classes);
        if (q > 0)
            ce += q * (ls - (double)z[c]);
        if (factor != 0)
            dz[c] = (real)((double)dz[c] + factor * (exp((double)z[c] - ls) * all - q));
    }
    return ce;
}

static void kd_loss(const kernel_args *a)
{
    const kd_loss_attrs *at = a->attr;
    int64_t classes = a->in[0].sh.dim[a->in[0].sh.rank - 1], rows = shape_count(&a->in[0].sh) / classes;
    const real *z = a->in[0].data, *teacher = kd_input(a, 1), *lambda = kd_input(a, 4), *w = a->in[5].data;
    const int64_t *label = kd_input(a, 2), *label2 = kd_input(a, 3);
    real *dz = a->out[3].data;
    double w_task = (double)w[0], w_kd = (double)w[1], t = (double)w[2], ce = 0, kl = 0;
    int64_t correct = 0, agree = 0;
    double divisor = kd_divisor(at, label, label2, lambda, sizeof(real) == sizeof(double), rows, classes);
    double share = divisor > 0 ? w_task / divisor : 0; /* class weights may all be 0 */
    for (int64_t r = 0; r < rows; r++, z += classes, dz += classes) {
        int64_t best = arg_max(z, classes);
        for (int64_t c = 0; c < classes; c++)
            dz[c] = 0;
        if (teacher) {
            kl += kl_row(z, teacher + r * classes, dz, classes, t, w_kd * t / (double)rows);
            agree += best == arg_max(teacher + r * classes, classes);
        }
        kd_label l = kd_row_label(label, label2, lambda, sizeof(real) == sizeof(double), r);
        if (!l.labelled)
            continue;
        correct += best == l.main;
        if (l.first >= classes || l.second >= classes) {
            ce = (double)NAN;
            for (int64_t c = 0; c < classes && w_task != 0; c++)
                dz[c] = (real)NAN;
            continue;
        }
        ce += ce_row(z, dz, classes, at, &l, share);
    }
    ce = divisor > 0 ? ce / divisor : ce;
    kl *= t * t / (double)rows;
    real *out[6] = {0};
    for (int i = 0; i < a->n_out; i++)
        out[i] = a->out[i].data;
    *out[0] = (real)((w_task != 0 ? w_task * ce : 0) + (w_kd != 0 && teacher ? w_kd * kl : 0));
    *out[1] = (real)ce;
    *out[2] = (real)kl;
    if (out[4])
        *out[4] = (real)correct;
    if (out[5])
        *out[5] = (real)agree;
}

/* ---- mean losses: samples along dimension 0 ---- */

typedef double element(int64_t kind, double a, double b);

static double bce(int64_t kind, double z, double t)
{
    (void)kind;
    return (z > 0 ? z : 0) - z * t + log1p(exp(-fabs(z)));
}
static double bce_slope(int64_t kind, double z, double t)
{
    (void)kind;
    return 1 / (1 + exp(-z)) - t;
}
static double regression(int64_t kind, double a, double b)
{
    double d = a - b, m = fabs(d);
    return kind == REGRESSION_MSE ? d * d : kind == REGRESSION_L1 ? m : m < 1 ? d * d / 2 : m - 0.5;
}
static double regression_slope(int64_t kind, double a, double b)
{
    double d = a - b, sign = d > 0 ? 1 : d < 0 ? -1 : d;
    return kind == REGRESSION_MSE ? 2 * d : kind == REGRESSION_L1 ? sign : fabs(d) < 1 ? d : sign;
}

/* No target of the sample is NaN, or nothing is masked. */
static bool counts(const real *target, int64_t each, bool masked)
{
    for (int64_t i = 0; masked && i < each; i++)
        if (isnan(target[i]))
            return false;
    return true;
}

/* Mean of f over the labelled samples, or (dx not NULL) dy / count * f per element. */
static void mean_of(const kernel_tensor *ta, const kernel_tensor *tb, bool masked, int64_t kind, element *f, double dy,
                    real *loss, real *dx)
{
    int64_t samples = ta->sh.rank ? ta->sh.dim[0] : 1, each = shape_count(&ta->sh) / samples, count = 0;
    const real *a = ta->data, *b = tb->data;
    double sum = 0;
    for (int64_t s = 0; s < samples; s++)
        count += counts(b + s * each, each, masked) ? each : 0;
    for (int64_t s = 0; s < samples; s++, a += each, b += each) {
        bool in = counts(b, each, masked);
        for (int64_t i = 0; i < each; i++) {
            double v = in ? f(kind, (double)a[i], (double)b[i]) : 0;
            sum += v;
            if (dx)
                dx[s * each + i] = (real)(in ? dy / (double)count * v : 0);
        }
    }
    if (loss)
        *loss = (real)(count ? sum / (double)count : 0);
}

static void bce_loss(const kernel_args *a)
{
    mean_of(&a->in[0], &a->in[1], true, 0, bce, 0, a->out[0].data, NULL);
}
static void bce_loss_grad(const kernel_args *a)
{
    mean_of(&a->in[1], &a->in[2], true, 0, bce_slope, (double)*(const real *)a->in[0].data, NULL, a->out[0].data);
}
static void regression_loss(const kernel_args *a)
{
    const regression_loss_attrs *at = a->attr;
    mean_of(&a->in[0], &a->in[1], at->masked, at->kind, regression, 0, a->out[0].data, NULL);
}
static void regression_loss_grad(const kernel_args *a)
{
    const regression_loss_attrs *at = a->attr;
    mean_of(&a->in[1], &a->in[2], at->masked, at->kind, regression_slope, (double)*(const real *)a->in[0].data, NULL,
            a->out[0].data);
}

KERNEL_TABLE(loss) = {
    {OP_KD_LOSS, REAL_DTYPE, REAL_ISA, "kd_loss_ref", kd_loss},
    {OP_BCE_LOSS, REAL_DTYPE, REAL_ISA, "bce_loss_ref", bce_loss},
    {OP_BCE_LOSS_GRAD, REAL_DTYPE, REAL_ISA, "bce_loss_grad_ref", bce_loss_grad},
    {OP_REGRESSION_LOSS, REAL_DTYPE, REAL_ISA, "regression_loss_ref", regression_loss},
    {OP_REGRESSION_LOSS_GRAD, REAL_DTYPE, REAL_ISA, "regression_loss_grad_ref", regression_loss_grad},
    KERNEL_END,
};
