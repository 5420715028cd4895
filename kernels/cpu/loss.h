/* loss.h - labels and targets of KdLoss's rows, which the reference and the fast kernel read alike (src/ops/loss.c). */
#ifndef DISTILL_KERNELS_LOSS_H
#define DISTILL_KERNELS_LOSS_H

#include "kernels/cpu/cpu.h"

typedef struct kd_label {
    int64_t first, second; /* second: 0 and without a share when the row is not mixed */
    double share;          /* of the first */
    int64_t main;          /* the one with the larger share: what counts as correct */
    bool labelled;
} kd_label;

static inline const void *kd_input(const kernel_args *a, int i)
{
    return i < a->n_in ? a->in[i].data : NULL;
}

/* `wide`: lambda is double. */
static inline kd_label kd_row_label(const int64_t *label, const int64_t *label2, const void *lambda, bool wide,
                                    int64_t r)
{
    kd_label l = {.first = label ? label[r] : -1, .share = 1};
    if (label2) {
        l.share = wide ? ((const double *)lambda)[r] : (double)((const float *)lambda)[r];
        l.second = label2[r];
    }
    l.labelled = (l.share == 0 || l.first >= 0) && (l.share == 1 || l.second >= 0) && label;
    l.main = l.share >= 0.5 ? l.first : l.second;
    if (l.share == 0) /* a label without a share is not looked at */
        l.first = l.second;
    if (l.share == 1)
        l.second = l.first;
    return l;
}

static inline double kd_class_weight(const kd_loss_attrs *at, int64_t c)
{
    return at->class_weights.v ? at->class_weights.v[c] : 1;
}

/* q_c of a labelled row whose labels are classes. */
static inline double kd_target(const kd_loss_attrs *at, const kd_label *l, int64_t c, int64_t classes)
{
    double on = (c == l->first ? l->share : 0) + (c == l->second ? 1 - l->share : 0);
    return kd_class_weight(at, c) * ((1 - at->label_smoothing) * on + at->label_smoothing / (double)classes);
}

/* What the sum over labelled rows is divided by; 0 when there is none. */
static inline double kd_divisor(const kd_loss_attrs *at, const int64_t *label, const int64_t *label2, const void *lambda,
                                bool wide, int64_t rows, int64_t classes)
{
    double sum = 0;
    if (!at->per_labelled)
        return (double)rows;
    for (int64_t r = 0; r < rows; r++) {
        kd_label l = kd_row_label(label, label2, lambda, wide, r);
        if (l.labelled && l.first < classes && l.second < classes)
            sum += l.share * kd_class_weight(at, l.first) + (1 - l.share) * kd_class_weight(at, l.second);
    }
    return sum;
}

#endif
