/* resize_simd.c - Resize and its gradient in float, one axis after the other.
 *
 * The weights of an element are a product over the axes, so a pass along each axis that changes gives the whole: every
 * row of the result is a weighted sum of rows of the data. The gradient runs the passes backwards. */
#include "kernels/cpu/resize_taps.h"
#include "kernels/cpu/simd.h"

enum { SERIAL_WORK = 1 << 15 /* elements below which threads are not worth their start */ };

/* One pass: [outer, in, inner] to [outer, out, inner]. */
typedef struct pass {
    resize_axis axis;
    int64_t outer, inner, most, *count;
    resize_tap *tap; /* [out][most] */
} pass;

typedef struct job {
    const resize_attrs *at;
    pass pass[RANK_MAX];
    int passes;
    int64_t largest; /* elements of the largest result of a pass but the last */
    float *buffer[2];
} job;

/* `x`: shape of the data. */
static size_t plan(job *j, const resize_attrs *at, const shape *x, void *work)
{
    carver c = {.base = work};
    shape now = *x;
    *j = (job){.at = at};
    for (int i = 0; i < x->rank; i++) {
        pass *p = &j->pass[j->passes];
        *p = (pass){.axis = resize_axis_of(at, x, i), .outer = 1, .inner = 1};
        if (p->axis.identity)
            continue;
        for (int k = 0; k < i; k++)
            p->outer *= now.dim[k];
        for (int k = i + 1; k < x->rank; k++)
            p->inner *= now.dim[k];
        p->most = resize_most_taps(at, &p->axis);
        p->tap = carve(&c, p->axis.out * p->most, sizeof *p->tap);
        p->count = carve(&c, p->axis.out, sizeof *p->count);
        now.dim[i] = p->axis.out;
        j->largest = max_of(j->largest, shape_count(&now));
        j->passes++;
    }
    for (int k = 0; k < 2 && j->passes > 1; k++)
        j->buffer[k] = carve(&c, j->largest, sizeof(float));
    return c.used;
}

static void make_taps(job *j)
{
    for (int i = 0; i < j->passes; i++)
        for (int64_t o = 0; o < j->pass[i].axis.out; o++)
            j->pass[i].count[o] = resize_taps(j->at, &j->pass[i].axis, o, j->pass[i].tap + o * j->pass[i].most);
}

static void add_scaled(float *to, const float *from, float weight, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += weight * from[i];
}

static void run_pass(const job *j, const pass *p, const float *x, float *y, int threads)
{
    int64_t in = p->axis.in * p->inner, out = p->axis.out * p->inner;
#pragma omp parallel for num_threads(threads) schedule(static) if (p->outer * out > SERIAL_WORK)
    for (int64_t n = 0; n < p->outer; n++)
        for (int64_t o = 0; o < p->axis.out; o++) {
            const resize_tap *tap = p->tap + o * p->most;
            float *row = y + n * out + o * p->inner;
            float start = p->count[o] < 0 ? (float)j->at->extrapolation_value : 0;
            if (p->inner == 1) {
                for (int64_t t = 0; t < p->count[o]; t++)
                    start += (float)tap[t].weight * x[n * in + tap[t].at];
                row[0] = start;
                continue;
            }
            for (int64_t i = 0; i < p->inner; i++)
                row[i] = start;
            for (int64_t t = 0; t < p->count[o]; t++)
                add_scaled(row, x + n * in + tap[t].at * p->inner, (float)tap[t].weight, p->inner);
        }
}

/* The transposed pass: dx is cleared and receives. */
static void run_back(const pass *p, const float *dy, float *dx, int threads)
{
    int64_t in = p->axis.in * p->inner, out = p->axis.out * p->inner;
#pragma omp parallel for num_threads(threads) schedule(static) if (p->outer * out > SERIAL_WORK)
    for (int64_t n = 0; n < p->outer; n++) {
        memset(dx + n * in, 0, (size_t)in * sizeof *dx);
        for (int64_t o = 0; o < p->axis.out; o++)
            for (int64_t t = 0; t < p->count[o]; t++) {
                const resize_tap *tap = p->tap + o * p->most + t;
                add_scaled(dx + n * in + tap->at * p->inner, dy + n * out + o * p->inner, (float)tap->weight, p->inner);
            }
    }
}

static void resize(const kernel_args *a)
{
    job j;
    plan(&j, a->attr, &a->in[0].sh, a->work);
    make_taps(&j);
    const float *from = a->in[0].data;
    if (j.passes == 0)
        memcpy(a->out[0].data, from, (size_t)shape_count(&a->out[0].sh) * sizeof *from);
    for (int i = 0; i < j.passes; i++) {
        float *to = i == j.passes - 1 ? a->out[0].data : j.buffer[i % 2];
        run_pass(&j, &j.pass[i], from, to, a->threads);
        from = to;
    }
}
static size_t resize_workspace(const kernel_args *a)
{
    job j;
    return plan(&j, a->attr, &a->in[0].sh, NULL);
}

static void resize_grad(const kernel_args *a)
{
    job j;
    plan(&j, a->attr, &a->out[0].sh, a->work);
    make_taps(&j);
    const float *from = a->in[0].data;
    if (j.passes == 0)
        memcpy(a->out[0].data, from, (size_t)shape_count(&a->out[0].sh) * sizeof *from);
    for (int i = j.passes - 1; i >= 0; i--) {
        float *to = i == 0 ? a->out[0].data : j.buffer[i % 2];
        run_back(&j.pass[i], from, to, a->threads);
        from = to;
    }
}
static size_t resize_grad_workspace(const kernel_args *a)
{
    job j;
    return plan(&j, a->attr, &a->out[0].sh, NULL);
}

KERNEL_TABLE(resize) = {
    {OP_RESIZE, REAL_DTYPE, REAL_ISA, "resize", resize, resize_workspace, NULL},
    {OP_RESIZE_GRAD, REAL_DTYPE, REAL_ISA, "resize_grad", resize_grad, resize_grad_workspace, NULL},
    KERNEL_END};
