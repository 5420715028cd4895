/* depthwise_blocked_simd.c - convolutions of every channel by itself (group = C = M) on blocked tensors, one and two spatial
 * axes: Conv, ConvGradData, ConvTranspose and ConvGradWeight. Each lane is its own channel: a row of pixels is a row of
 * vectors, and nothing is rearranged.
 *
 * Some rows of a block are copied with zeros round them, so that every tap of every pixel has data. Forward, the data of
 * neighbouring pixels of the result are a stride apart. Backward, the pixels fall into stride phases that see their own
 * taps each, and the pixels of a phase are a stride apart. */
#include "kernels/cpu/conv_epilogue.h"
#include "kernels/cpu/conv_norm.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/spatial.h"

enum {
    TAPS_MOST = 256,             /* of a kernel */
    COPY_FLOATS = 8 * 1024,      /* of a task's data: most of a first-level cache */
    STRIP_LEAST = 4,             /* rows of the result in a task */
    PHASE_RUN = 8,               /* pixels of a column phase, before those of the next one */
    SHARES_MOST = 16             /* partial sums of the weight's gradient */
};

typedef struct job {
    spatial s;
    bool forward;
    int64_t images, channels, blocks, taps;
    int64_t src[2], dst[2];      /* rows and columns of the data that are copied, of the result */
    int64_t origin, width, rows; /* of a copy: column of the data that it begins with; columns, rows at most */
    int64_t strip, strips;       /* rows of the result in a task */
    int64_t copy_size;           /* floats of a thread */
    int64_t shares;              /* of the images: the weight's gradient */
    conv_norm *norm;             /* [blocks], of the data; NULL: none */
    float *w, *bias, *copies;    /* [blocks][taps][LANES] weights or sums; [blocks][LANES]; a thread's copy each */
} job;

/* x, y: shapes of the convolution's data and windows, whatever the direction. */
static bool plan(job *j, const conv_attrs *at, const shape *x, const shape *y, bool forward)
{
    *j = (job){.s = conv_spatial(at, x, y), .forward = forward, .images = x->dim[0], .channels = x->dim[1], .shares = 1};
    const spatial *s = &j->s;
    j->taps = s->kernel[1] * s->kernel[2];
    if (x->rank < 3 || x->rank > 4 || s->group != s->channels || s->channels != s->outputs || j->taps > TAPS_MOST ||
        s->stride[1] > TAPS_MOST || s->stride[2] > TAPS_MOST || j->channels < 1)
        return false;
    for (int i = 0; i < 2; i++) {
        j->src[i] = forward ? s->in[i + 1] : s->out[i + 1];
        j->dst[i] = forward ? s->out[i + 1] : s->in[i + 1];
        if (j->src[i] < 1 || j->dst[i] < 1)
            return false;
    }
    j->blocks = (j->channels + LANES - 1) / LANES;
    int64_t stride = s->stride[2], span = (s->kernel[2] - 1) * s->dilation[2];
    int64_t step = s->stride[1], above = (s->kernel[1] - 1) * s->dilation[1];
    j->origin = forward ? -s->pad[2] : s->pad[2] / stride - span / stride;
    j->width = forward ? (j->dst[1] - 1) * stride + span + 1 : (j->dst[1] - 1 + s->pad[2]) / stride - j->origin + 1;
    int64_t fit = COPY_FLOATS / LANES / j->width;
    j->strip = forward ? (fit - above - 1) / step + 1 : (fit - above / step - 1) * step;
    j->strip = min_of(j->dst[0], max_of(STRIP_LEAST, j->strip));
    j->strips = (j->dst[0] + j->strip - 1) / j->strip;
    j->rows = forward ? (j->strip - 1) * step + above + 1 : (j->strip + step - 2) / step + 1 + above / step;
    j->copy_size = j->rows * j->width * LANES;
    return true;
}

/* first: of the norm's operands. */
static size_t carve_job(job *j, const kernel_args *a, void *work, int first)
{
    carver c = {.base = work};
    int threads = a->threads;
    j->norm = has_norm(a, first) ? carve(&c, j->blocks, sizeof *j->norm) : NULL;
    j->w = carve(&c, j->shares * j->blocks * j->taps * LANES, sizeof *j->w);
    j->bias = carve(&c, j->blocks * LANES, sizeof *j->bias);
    j->copies = carve(&c, j->copy_size * threads, sizeof *j->copies);
    return c.used;
}

/* Rows of a plane of data from row `top` on, with zeros where there are none; asks for what lies `ahead` floats behind. */
static void copy_rows(const job *j, int64_t block, const float *x, int64_t top, int64_t rows, int64_t ahead, float *to)
{
    const conv_norm norm = j->norm ? j->norm[block] : (conv_norm){0};
    range in = range_inside(j->origin, 1, j->width, j->src[1]);
    for (int64_t row = top; row < top + rows; row++, to += j->width * LANES) {
        range here = row < 0 || row >= j->src[0] ? (range){0, 0} : in;
        const float *from = x + (row * j->src[1] + j->origin) * LANES;
        for (int64_t q = 0; q < here.begin; q++)
            vec_store(to + q * LANES, vec_set(0));
        for (int64_t q = here.begin; q < here.end && j->norm; q++) {
            __builtin_prefetch(from + q * LANES + ahead);
            vec_store(to + q * LANES, normed(&norm, vec_load(from + q * LANES)));
        }
        for (int64_t q = here.begin; q < here.end && !j->norm; q++) {
            __builtin_prefetch(from + q * LANES + ahead);
            vec_store(to + q * LANES, vec_load(from + q * LANES));
        }
        for (int64_t q = here.end; q < j->width; q++)
            vec_store(to + q * LANES, vec_set(0));
    }
}

/* ---- Conv, ConvGradData, ConvTranspose ---- */

/* Taps of one row phase, by column phase: where their data lie relative to a pixel's. */
typedef struct tap_list {
    int64_t first[TAPS_MOST + 1], off[TAPS_MOST]; /* first: of a column phase */
    const float *w[TAPS_MOST];
} tap_list;

typedef struct tap_range { /* those of one column phase */
    int64_t count;
    const int64_t *off;
    const float *const *w;
} tap_range;

static tap_range taps_of(const tap_list *l, int64_t column)
{
    int64_t at = l->first[column];
    return (tap_range){l->first[column + 1] - at, l->off + at, l->w + at};
}

/* N pixels, x_step and y_step floats apart. */
ALWAYS_INLINE void pixels_body(const int N, const tap_range *l, const float *x, int64_t x_step, float *y, int64_t y_step,
                               vec bias, const conv_epilogue *end)
{
    vec acc[8];
#pragma GCC unroll 8
    for (int i = 0; i < N; i++)
        acc[i] = vec_set(0);
    for (int64_t t = 0; t < l->count; t++) {
        const float *p = x + l->off[t];
        vec w = vec_load(l->w[t]);
#pragma GCC unroll 8
        for (int i = 0; i < N; i++)
            acc[i] += w * vec_load(p + i * x_step);
    }
#pragma GCC unroll 8
    for (int i = 0; i < N; i++)
        vec_store(y + i * y_step, conv_finish(end, acc[i], bias, y + i * y_step));
}

/* `count` pixels of a row. The last run may overlap the one before: nothing is added to what is there. */
static void pixel_row(const tap_range *l, const float *x, int64_t x_step, float *y, int64_t y_step, int64_t count, vec bias,
                      const conv_epilogue *end)
{
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        pixels_body(8, l, x + i * x_step, x_step, y + i * y_step, y_step, bias, end);
    if (i + 4 < count && count >= 8) {
        i = count - 8;
        pixels_body(8, l, x + i * x_step, x_step, y + i * y_step, y_step, bias, end);
        return;
    }
    for (; count >= 4 && i < count; i += 4) {
        i = min_of(i, count - 4);
        pixels_body(4, l, x + i * x_step, x_step, y + i * y_step, y_step, bias, end);
    }
    for (; i < count; i++)
        pixels_body(1, l, x + i * x_step, x_step, y + i * y_step, y_step, bias, end);
}

/* The taps that pixels of row phase a see. */
static void list_taps(const job *j, int64_t a, const float *w, tap_list *l)
{
    const spatial *s = &j->s;
    int64_t reach = (s->kernel[1] - 1) * s->dilation[1] / s->stride[1], n = 0;
    int64_t side = (s->kernel[2] - 1) * s->dilation[2] / s->stride[2], cols = j->forward ? 1 : s->stride[2];
    for (int64_t b = 0; b < cols; b++) {
        l->first[b] = n;
        for (int64_t t = 0; t < j->taps; t++) {
            int64_t h = t / s->kernel[2] * s->dilation[1], v = t % s->kernel[2] * s->dilation[2];
            if (!j->forward && (h % s->stride[1] != a || v % s->stride[2] != b))
                continue;
            int64_t row = j->forward ? h : reach - h / s->stride[1], col = j->forward ? v : side - v / s->stride[2];
            l->off[n] = (row * j->width + col) * LANES;
            l->w[n++] = w + t * LANES;
        }
    }
    l->first[cols] = n;
}

static void run_task(const job *j, const float *x, const conv_epilogue *end, float *y, int64_t index, float *copy)
{
    const spatial *s = &j->s;
    int64_t plane = index / j->strips, block = plane % j->blocks, first = index % j->strips * j->strip;
    int64_t count = min_of(j->strip, j->dst[0] - first), rows = j->forward ? 1 : s->stride[1], cols = j->forward ? 1 : s->stride[2];
    int64_t row_shift = j->forward ? 0 : s->pad[1], col_shift = j->forward ? 0 : s->pad[2], step = j->forward ? s->stride[2] : 1;
    int64_t above = (s->kernel[1] - 1) * s->dilation[1] / s->stride[1];
    int64_t top = j->forward ? first * s->stride[1] - s->pad[1] : (first + s->pad[1]) / s->stride[1] - above;
    int64_t last = j->forward ? top + (count - 1) * s->stride[1] + (s->kernel[1] - 1) * s->dilation[1]
                              : (first + count - 1 + s->pad[1]) / s->stride[1];
    const float *w = j->w + block * j->taps * LANES;
    vec bias = vec_load(j->bias + block * LANES);
    tap_list l;
    copy_rows(j, block, x + plane * j->src[0] * j->src[1] * LANES, top, last - top + 1, 0, copy);
    const float *ahead = x + (plane * j->src[0] + min_of(last + 1, j->src[0])) * j->src[1] * LANES; /* the next task's data */
    int64_t lines = (j->forward ? s->stride[1] : 1) * j->src[1];
    y += plane * j->dst[0] * j->dst[1] * LANES;
    for (int64_t a = 0; a < rows; a++) {
        list_taps(j, a, w, &l);
        for (int64_t row = first + (rows - (first + row_shift) % rows + a) % rows; row < first + count; row += rows) {
            for (int64_t q = 0; q < lines && a == 0; q++, ahead += LANES)
                __builtin_prefetch(ahead);
            int64_t at = j->forward ? (row - first) * s->stride[1] : (row + row_shift) / rows - above - top;
            const float *from = copy + at * j->width * LANES;
            float *to = y + row * j->dst[1] * LANES;
            if (cols == 1) {
                tap_range taps = taps_of(&l, 0);
                pixel_row(&taps, from, step * LANES, to, LANES, j->dst[1], bias, end);
                continue;
            }
            for (int64_t i = 0; i * cols < j->dst[1]; i += PHASE_RUN) /* neighbours are written one soon after another */
                for (int64_t b = 0; b < cols; b++) {
                    int64_t col = (b + cols - col_shift % cols) % cols + i * cols, rest = (j->dst[1] - 1 - col) / cols + 1;
                    if (col >= j->dst[1])
                        continue;
                    tap_range taps = taps_of(&l, b);
                    int64_t left = (col + col_shift) / cols - col_shift / cols;
                    pixel_row(&taps, from + left * LANES, LANES, to + col * LANES, cols * LANES, min_of(PHASE_RUN, rest),
                              bias, end);
                }
        }
    }
}

/* weight [C][taps] -> [blocks][taps][LANES] */
static void pack_weight(const job *j, const float *weight)
{
    for (int64_t b = 0; b < j->blocks; b++)
        for (int64_t t = 0; t < j->taps; t++)
            for (int64_t l = 0; l < LANES; l++) {
                int64_t c = b * LANES + l;
                j->w[(b * j->taps + t) * LANES + l] = c < j->channels ? weight[c * j->taps + t] : 0;
            }
}

static void run(job *j, const kernel_args *a, const float *residual, bool relu)
{
    const float *x = a->in[0].data;
    float *y = a->out[0].data;
    int64_t tasks = j->images * j->blocks * j->strips, work = tasks * j->strip * j->dst[1] * LANES;
    carve_job(j, a, a->work, NORM_OF_CONV);
    if (j->norm)
        list_norms(a, NORM_OF_CONV, j->norm);
    conv_epilogue end = {.bias = j->bias, .y = y, .residual = residual, .relu = relu};
    pack_weight(j, a->in[1].data);
    conv_pack_bias(a->n_in > 2 ? a->in[2].data : NULL, 1, j->channels, j->bias);
    PARALLEL_FOR(i, tasks, a->threads, work)
    {
        run_task(j, x, &end, y, i, j->copies + omp_get_thread_num() * j->copy_size);
    }
}

/* x [N, C, in], w [C, 1, k], b [C], residual like y -> y [N, C, out]; all but w and b blocked */
static bool plan_conv(job *j, const kernel_args *a)
{
    return plan(j, a->attr, &a->in[0].sh, &a->out[0].sh, true);
}
static void conv(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    run(&j, a, a->n_in > 3 ? a->in[3].data : NULL, ((const conv_attrs *)a->attr)->relu != 0);
}
static bool conv_takes(const kernel_args *a)
{
    job j;
    return plan_conv(&j, a);
}
static size_t conv_workspace(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    return carve_job(&j, a, NULL, NORM_OF_CONV);
}

/* dy [N, C, out], w [C, 1, k], b [C] -> dx [N, C, in] */
static bool plan_data(job *j, const kernel_args *a)
{
    return plan(j, a->attr, &a->out[0].sh, &a->in[0].sh, false);
}
static void conv_data(const kernel_args *a)
{
    job j;
    plan_data(&j, a);
    run(&j, a, NULL, false);
}
static bool conv_data_takes(const kernel_args *a)
{
    job j;
    return plan_data(&j, a);
}
static size_t conv_data_workspace(const kernel_args *a)
{
    job j;
    plan_data(&j, a);
    return carve_job(&j, a, NULL, NORM_OF_CONV);
}

/* ---- ConvGradWeight ---- */

/* sums[t] += sum over rows, windows of x[off[t]] * dy for T taps. */
ALWAYS_INLINE void taps_body(const int T, float *sums, const float *x, const int64_t *off, int64_t x_row, int64_t x_step,
                             const float *dy, int64_t rows, int64_t cols, int64_t ahead)
{
    vec acc[9];
    const float *p[9];
#pragma GCC unroll 9
    for (int t = 0; t < T; t++) {
        acc[t] = vec_load(sums + t * LANES);
        p[t] = x + off[t];
    }
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * x_row;
        for (int64_t col = 0; col < cols; col++, at += x_step, dy += LANES) {
            vec d = vec_load(dy);
            __builtin_prefetch(dy + ahead);
#pragma GCC unroll 9
            for (int t = 0; t < T; t++)
                acc[t] += d * vec_load(p[t] + at);
        }
    }
#pragma GCC unroll 9
    for (int t = 0; t < T; t++)
        vec_store(sums + t * LANES, acc[t]);
}

static void sum_taps(const job *j, const tap_list *l, float *sums, const float *x, const float *dy, int64_t rows, int64_t ahead)
{
    int64_t x_row = j->s.stride[1] * j->width * LANES, x_step = j->s.stride[2] * LANES, cols = j->s.out[2];
    for (int64_t t = 0; t < j->taps;) {
        int64_t rest = j->taps - t;
        if (rest == 9 || rest >= 17) {
            taps_body(9, sums + t * LANES, x, l->off + t, x_row, x_step, dy, rows, cols, ahead);
            t += 9;
        } else if (rest >= 8) {
            taps_body(8, sums + t * LANES, x, l->off + t, x_row, x_step, dy, rows, cols, ahead);
            t += 8;
        } else if (rest >= 3) {
            taps_body(3, sums + t * LANES, x, l->off + t, x_row, x_step, dy, rows, cols, ahead);
            t += 3;
        } else {
            taps_body(1, sums + t * LANES, x, l->off + t, x_row, x_step, dy, rows, cols, ahead);
            t++;
        }
    }
}

static void weight_task(const job *j, const float *x, const float *dy, int64_t index, float *copy)
{
    const spatial *s = &j->s;
    int64_t share = index / j->blocks, block = index % j->blocks;
    float *sums = j->w + (share * j->blocks + block) * j->taps * LANES;
    tap_list l;
    list_taps(j, 0, NULL, &l);
    memset(sums, 0, (size_t)(j->taps * LANES) * sizeof *sums);
    for (int64_t n = share * j->images / j->shares; n < (share + 1) * j->images / j->shares; n++)
        for (int64_t row = 0; row < s->out[1]; row += j->strip) {
            int64_t rows = min_of(j->strip, s->out[1] - row), plane = n * j->blocks + block;
            bool ends = row + rows == s->out[1]; /* the next strip is that of another image */
            int64_t x_ahead = ends ? j->blocks * s->in[1] - row * s->stride[1] : rows * s->stride[1];
            int64_t d_ahead = ends ? j->blocks * s->out[1] - row : rows;
            copy_rows(j, block, x + plane * s->in[1] * s->in[2] * LANES, row * s->stride[1] - s->pad[1],
                      (rows - 1) * s->stride[1] + (s->kernel[1] - 1) * s->dilation[1] + 1, x_ahead * s->in[2] * LANES, copy);
            sum_taps(j, &l, sums, copy, dy + (plane * s->out[1] + row) * s->out[2] * LANES, rows, d_ahead * s->out[2] * LANES);
        }
}

/* x [N, C, in], dy [N, C, out] blocked -> dw [C, 1, k] plain */
static bool plan_weight(job *j, const kernel_args *a)
{
    if (!plan(j, a->attr, &a->in[0].sh, &a->in[1].sh, true))
        return false;
    j->shares = max_of(1, min_of(SHARES_MOST, j->images));
    return true;
}
static void weight(const kernel_args *a)
{
    job j;
    plan_weight(&j, a);
    carve_job(&j, a, a->work, NORM_OF_WEIGHT);
    if (j.norm)
        list_norms(a, NORM_OF_WEIGHT, j.norm);
    float *dw = a->out[0].data;
    PARALLEL_FOR(i, j.shares * j.blocks, a->threads, kernel_elements(&a->in[1]))
    {
        weight_task(&j, a->in[0].data, a->in[1].data, i, j.copies + omp_get_thread_num() * j.copy_size);
    }
    for (int64_t c = 0; c < j.channels; c++)
        for (int64_t t = 0; t < j.taps; t++) {
            const float *sums = j.w + (c / LANES * j.taps + t) * LANES + c % LANES;
            float sum = 0;
            for (int64_t i = 0; i < j.shares; i++)
                sum += sums[i * j.blocks * j.taps * LANES];
            dw[c * j.taps + t] = sum;
        }
}
static bool weight_takes(const kernel_args *a)
{
    job j;
    return plan_weight(&j, a);
}
static size_t weight_workspace(const kernel_args *a)
{
    job j;
    plan_weight(&j, a);
    return carve_job(&j, a, NULL, NORM_OF_WEIGHT);
}

/* Estimated cycles of one core: loads of the sums, the copies, and memory that is read and written. */
static double cost_of(const job *j)
{
    double planes = (double)(j->images * j->blocks), windows = planes * (double)(j->s.out[1] * j->s.out[2]);
    double touched = planes * (double)(j->s.in[1] * j->s.in[2]) + windows;
    return windows * (double)j->taps * 0.75 + planes * (double)(j->strips * j->rows * j->width) * 4 + touched * 8;
}
static double conv_cost(const kernel_args *a)
{
    job j;
    plan_conv(&j, a);
    return cost_of(&j);
}
static double conv_data_cost(const kernel_args *a)
{
    job j;
    plan_data(&j, a);
    return cost_of(&j);
}
static double weight_cost(const kernel_args *a)
{
    job j;
    plan_weight(&j, a);
    return cost_of(&j);
}

KERNEL_TABLE(depthwise_blocked) = {
    {OP_CONV, REAL_DTYPE, REAL_ISA, "depthwise_blocked", conv, conv_workspace, conv_takes, "direct",
     .blocked_in = 1 | 1 << 3, .blocked_out = 1, .cost = conv_cost},
    {OP_CONV_GRAD_DATA, REAL_DTYPE, REAL_ISA, "depthwise_grad_data_blocked", conv_data, conv_data_workspace, conv_data_takes,
     "direct", .blocked_in = 1, .blocked_out = 1, .cost = conv_data_cost},
    {OP_CONV_TRANSPOSE, REAL_DTYPE, REAL_ISA, "depthwise_transpose_blocked", conv_data, conv_data_workspace, conv_data_takes,
     "direct", .blocked_in = 1, .blocked_out = 1, .cost = conv_data_cost},
    {OP_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "depthwise_grad_weight_blocked", weight, weight_workspace, weight_takes,
     "direct", .blocked_in = 3, .cost = weight_cost},
    {OP_NORM_CONV, REAL_DTYPE, REAL_ISA, "depthwise_blocked, norm", conv, conv_workspace, conv_takes, "direct",
     .blocked_in = 1 | 1 << 3, .blocked_out = 1, .cost = conv_cost},
    {OP_NORM_CONV_GRAD_WEIGHT, REAL_DTYPE, REAL_ISA, "depthwise_grad_weight_blocked, norm", weight, weight_workspace,
     weight_takes, "direct", .blocked_in = 3, .cost = weight_cost},
    KERNEL_END};
