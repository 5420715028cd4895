/* batch_norm_blocked_simd.c - batch norm on blocked tensors: fast float32. What the operators are: src/ops/norm.c.
 *
 * The work is cut into units of one block of channels and some whole images, whose numbers depend on the sizes alone. A
 * unit is read in pieces that stay in the level-1 cache: their sum first, then squares about their mean; pieces are joined
 * in double, in order, and so are units. Every thread then finds the same totals, and the second pass applies them. */
#include "kernels/cpu/blocked.h"
#include "kernels/cpu/parallel.h"

#include <math.h>

enum {
    PIECE = 256,             /* pixels summed in float before they are joined in double */
    UNIT_PIXELS = 8192,      /* of a unit, or those of one image */
    UNITS_LEAST = 16         /* of a block of channels, where there are as many images: so that threads can share it */
};

typedef struct units {
    blocked b;
    int64_t images, count, all; /* images of a unit, units of a block of channels, of everything */
} units;

static units units_of(const shape *x)
{
    units u = {.b = blocked_of(x)};
    int64_t most = max_of(1, UNIT_PIXELS / max_of(1, u.b.pixels));
    u.images = max_of(1, min_of(most, (u.b.images + UNITS_LEAST - 1) / UNITS_LEAST));
    u.count = (u.b.images + u.images - 1) / u.images;
    u.all = u.count * u.b.blocks;
    return u;
}

typedef struct unit {
    int64_t block, image, images;
} unit;

/* Neighbours in memory are done one after another: blocks of channels innermost. */
static unit unit_at(const units *u, int64_t i)
{
    unit t = {.block = i % u->b.blocks, .image = i / u->b.blocks * u->images};
    t.images = min_of(u->images, u->b.images - t.image);
    return t;
}

static int64_t plane_at(const units *u, int64_t image, int64_t block)
{
    return (image * u->b.blocks + block) * u->b.pixels * LANES;
}

/* Of one unit or of a block of channels, lane by lane. */
typedef struct moments {
    double n, mean[LANES], m2[LANES]; /* elements, their mean, sum of squared distances to it */
} moments;
typedef struct sums {
    double dy[LANES], dy_x[LANES]; /* dy, dy * (x - mean) */
} sums;

/* Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances". */
static void join(moments *a, const moments *b)
{
    double n = a->n + b->n, w = n > 0 ? b->n / n : 0;
    for (int l = 0; l < LANES; l++) {
        double d = b->mean[l] - a->mean[l];
        a->mean[l] += d * w;
        a->m2[l] += b->m2[l] + d * d * (a->n * w);
    }
    a->n = n;
}

static void piece_moments(const float *x, int64_t n, moments *all)
{
    vec s0 = vec_set(0), s1 = s0, s2 = s0, s3 = s0, off = s0, square = s0, off1 = s0, square1 = s0;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        s0 += vec_load(x + i * LANES);
        s1 += vec_load(x + (i + 1) * LANES);
        s2 += vec_load(x + (i + 2) * LANES);
        s3 += vec_load(x + (i + 3) * LANES);
    }
    for (; i < n; i++)
        s0 += vec_load(x + i * LANES);
    const vec pivot = (s0 + s1 + (s2 + s3)) * vec_set(1 / (float)n); /* the mean but for rounding, which `off` takes out */
    for (i = 0; i + 2 <= n; i += 2) {
        vec d = vec_load(x + i * LANES) - pivot, e = vec_load(x + (i + 1) * LANES) - pivot;
        off += d;
        square += d * d;
        off1 += e;
        square1 += e * e;
    }
    if (i < n) {
        vec d = vec_load(x + i * LANES) - pivot;
        off += d;
        square += d * d;
    }
    off += off1;
    square += square1;
    moments m = {.n = (double)n};
    for (int l = 0; l < LANES; l++) {
        double shift = (double)off[l] / m.n;
        m.mean[l] = (double)pivot[l] + shift;
        m.m2[l] = (double)square[l] - shift * (double)off[l];
    }
    join(all, &m);
}

/* The relu behind the norm: on, and the most that passes it. */
ALWAYS_INLINE vec act_forward(const bool on, vec top, vec v)
{
    if (!on)
        return v;
    v = vec_relu(v);
    vec_int above = v > top;
    return (vec)(((vec_int)v & ~above) | ((vec_int)top & above));
}
/* Where the relu is flat: nowhere (there is none), by the result y that is read, or by y computed again from x. */
typedef enum flat_by { FLAT_NOWHERE, FLAT_BY_Y, FLAT_BY_X } flat_by;

/* forward: y = (x - mean) * a + b; backward: dx = dy * a - (x - mean) * k - b, and y = (x - mean) * a + shift */
typedef struct affine {
    vec mean, a, b, k, shift;
} affine;

ALWAYS_INLINE vec act_backward(const flat_by by, const affine *f, vec top, vec dy, vec centred, const float *y)
{
    if (by == FLAT_NOWHERE)
        return dy;
    vec at = by == FLAT_BY_Y ? vec_load(y) : centred * f->a + f->shift;
    return (vec)((vec_int)dy & (at > vec_set(0)) & (at < top));
}

ALWAYS_INLINE void piece_sums(const flat_by by, vec top, affine f, const float *dy, const float *x, const float *y,
                              int64_t n, sums *all)
{
    vec s = vec_set(0), p = s, s1 = s, p1 = s;
    int64_t i = 0;
    for (; i + 2 <= n; i += 2) {
        int64_t at = i * LANES, next = at + LANES;
        vec c = vec_load(x + at) - f.mean, d = vec_load(x + next) - f.mean;
        vec g = act_backward(by, &f, top, vec_load(dy + at), c, y + at);
        vec h = act_backward(by, &f, top, vec_load(dy + next), d, y + next);
        s += g;
        p += g * c;
        s1 += h;
        p1 += h * d;
    }
    if (i < n) {
        vec c = vec_load(x + i * LANES) - f.mean, g = act_backward(by, &f, top, vec_load(dy + i * LANES), c, y + i * LANES);
        s += g;
        p += g * c;
    }
    s += s1;
    p += p1;
    for (int l = 0; l < LANES; l++) {
        all->dy[l] += (double)s[l];
        all->dy_x[l] += (double)p[l];
    }
}

ALWAYS_INLINE void forward_plane(const bool on, const bool add, vec top, affine f, const float *x, const float *residual,
                                 float *y, int64_t n)
{
    for (int64_t i = 0; i < n * LANES; i += LANES) {
        vec v = (vec_load(x + i) - f.mean) * f.a + f.b;
        if (add)
            v += vec_load(residual + i);
        vec_store(y + i, act_forward(on, top, v));
    }
}

ALWAYS_INLINE void backward_plane(const flat_by by, vec top, affine f, const float *dy, const float *x, const float *y,
                                  float *dx, float *masked, int64_t n)
{
    for (int64_t i = 0; i < n * LANES; i += LANES) {
        vec c = vec_load(x + i) - f.mean, g = act_backward(by, &f, top, vec_load(dy + i), c, y + i);
        if (masked)
            vec_store(masked + i, g);
        vec_store(dx + i, g * f.a - c * f.k - f.b);
    }
}

typedef struct pass {
    const kernel_args *a;
    const batch_norm_attrs *at;
    units u;
    const float *x, *dy, *result, *residual; /* result: y of the forward direction, with a relu */
    float *to, *masked;
    moments *m; /* [units] in the workspace, forward */
    sums *s;    /* [units], backward */
    affine *f;  /* [blocks] */
    bool reduces;
    flat_by by; /* backward */
} pass;

static void carve_pass(pass *p, void *work)
{
    p->f = work;
    p->m = (moments *)(void *)(p->f + p->u.b.blocks);
    p->s = (sums *)(void *)p->m;
}

static size_t pass_size(const units *u)
{
    size_t each = sizeof(moments) > sizeof(sums) ? sizeof(moments) : sizeof(sums);
    return (size_t)u->b.blocks * sizeof(affine) + (size_t)u->all * each;
}

static vec top_of(const pass *p)
{
    return vec_set(p->at && p->at->ceiling > 0 ? (float)p->at->ceiling : INFINITY);
}

static void reduce_unit(const pass *p, int64_t i)
{
    unit t = unit_at(&p->u, i);
    const vec top = top_of(p);
    const affine f = p->dy ? p->f[t.block] : (affine){0};
    moments m = {0};
    sums s = {{0}, {0}};
    for (int64_t image = t.image; image < t.image + t.images; image++)
        for (int64_t from = 0; from < p->u.b.pixels; from += PIECE) {
            int64_t at = plane_at(&p->u, image, t.block) + from * LANES, n = min_of(PIECE, p->u.b.pixels - from);
            if (!p->dy)
                piece_moments(p->x + at, n, &m);
            else if (p->by == FLAT_BY_X)
                piece_sums(FLAT_BY_X, top, f, p->dy + at, p->x + at, p->x + at, n, &s);
            else if (p->by == FLAT_BY_Y)
                piece_sums(FLAT_BY_Y, top, f, p->dy + at, p->x + at, p->result + at, n, &s);
            else
                piece_sums(FLAT_NOWHERE, top, f, p->dy + at, p->x + at, p->x + at, n, &s);
        }
    if (p->dy)
        p->s[i] = s;
    else
        p->m[i] = m;
}

static void apply_unit(const pass *p, int64_t i)
{
    unit t = unit_at(&p->u, i);
    const vec top = top_of(p);
    const affine f = p->f[t.block];
    for (int64_t image = t.image; image < t.image + t.images; image++) {
        int64_t at = plane_at(&p->u, image, t.block), n = p->u.b.pixels;
        const float *x = p->x + at;
        if (p->dy && p->by == FLAT_BY_X)
            backward_plane(FLAT_BY_X, top, f, p->dy + at, x, x, p->to + at, NULL, n);
        else if (p->dy && p->masked)
            backward_plane(FLAT_BY_Y, top, f, p->dy + at, x, p->result + at, p->to + at, p->masked + at, n);
        else if (p->dy && p->by == FLAT_BY_Y)
            backward_plane(FLAT_BY_Y, top, f, p->dy + at, x, p->result + at, p->to + at, NULL, n);
        else if (p->dy)
            backward_plane(FLAT_NOWHERE, top, f, p->dy + at, x, x, p->to + at, NULL, n);
        else if (p->residual && p->at->relu)
            forward_plane(true, true, top, f, x, p->residual + at, p->to + at, n);
        else if (p->residual)
            forward_plane(false, true, top, f, x, p->residual + at, p->to + at, n);
        else if (p->at->relu)
            forward_plane(true, false, top, f, x, x, p->to + at, n);
        else
            forward_plane(false, false, top, f, x, x, p->to + at, n);
    }
}

/* Lanes beyond the channels get scale and shift 0, so that zeros stay. */
static affine forward_of(const pass *p, int64_t block, const double *mean, const double *var)
{
    const float *scale = p->a->in[1].data, *bias = p->a->in[2].data;
    float m[LANES] = {0}, a[LANES] = {0}, b[LANES] = {0};
    for (int l = 0; l < block_channels(&p->u.b, block); l++) {
        m[l] = (float)mean[l];
        a[l] = (float)((double)scale[block * LANES + l] / sqrt(var[l] + p->at->epsilon));
        b[l] = bias[block * LANES + l];
    }
    return (affine){.mean = vec_load(m), .a = vec_load(a), .b = vec_load(b)};
}

static void finish_train(pass *p, int64_t block)
{
    moments all = {0};
    double var[LANES];
    float *mean_out = p->a->out[1].data, *var_out = p->a->out[2].data;
    for (int64_t i = 0; i < p->u.count; i++)
        join(&all, &p->m[i * p->u.b.blocks + block]);
    for (int l = 0; l < LANES; l++)
        var[l] = all.m2[l] / all.n;
    for (int l = 0; l < block_channels(&p->u.b, block); l++) {
        mean_out[block * LANES + l] = (float)all.mean[l];
        var_out[block * LANES + l] = (float)var[l];
    }
    p->f[block] = forward_of(p, block, all.mean, var);
}

static void finish_moments(pass *p, int64_t block)
{
    moments all = {0};
    float *mean = p->a->out[0].data, *var = p->a->out[1].data;
    for (int64_t i = 0; i < p->u.count; i++)
        join(&all, &p->m[i * p->u.b.blocks + block]);
    for (int l = 0; l < block_channels(&p->u.b, block); l++) {
        mean[block * LANES + l] = (float)all.mean[l];
        var[block * LANES + l] = (float)(all.m2[l] / all.n);
    }
}

static void finish_inference(pass *p, int64_t block)
{
    const float *mean = p->a->in[3].data, *var = p->a->in[4].data;
    double m[LANES] = {0}, v[LANES] = {0};
    for (int l = 0; l < block_channels(&p->u.b, block); l++) {
        m[l] = (double)mean[block * LANES + l];
        v[l] = (double)var[block * LANES + l];
    }
    p->f[block] = forward_of(p, block, m, v);
}

/* What is known before the sums. */
static void begin_grad(pass *p, int64_t block)
{
    const kernel_args *a = p->a;
    const float *scale = a->in[2].data, *var = a->in[4].data, *bias = a->n_in > 6 ? a->in[6].data : NULL;
    float each[LANES] = {0};
    for (int l = 0; l < block_channels(&p->u.b, block); l++) {
        int64_t c = block * LANES + l;
        each[l] = (float)((double)scale[c] / sqrt((double)var[c] + p->at->epsilon));
    }
    p->f[block] = (affine){.mean = load_channels(a->in[3].data, block, p->u.b.channels), .a = vec_load(each)};
    if (bias)
        p->f[block].shift = load_channels(bias, block, p->u.b.channels);
}

static void finish_grad(pass *p, int64_t block)
{
    const kernel_args *a = p->a;
    const float *scale = a->in[2].data, *var = a->in[4].data;
    float *dscale = a->n_out > 1 ? a->out[1].data : NULL, *dbias = a->n_out > 2 ? a->out[2].data : NULL;
    double count = (double)(p->u.b.images * p->u.b.pixels);
    float fb[LANES] = {0}, fk[LANES] = {0};
    sums all = {{0}, {0}};
    for (int64_t i = 0; i < p->u.count; i++)
        for (int l = 0; l < LANES; l++) {
            all.dy[l] += p->s[i * p->u.b.blocks + block].dy[l];
            all.dy_x[l] += p->s[i * p->u.b.blocks + block].dy_x[l];
        }
    for (int l = 0; l < block_channels(&p->u.b, block); l++) {
        int64_t c = block * LANES + l;
        double inv = 1 / sqrt((double)var[c] + p->at->epsilon), each = (double)scale[c] * inv;
        if (p->at->training_mode) {
            fk[l] = (float)(each * inv * inv * all.dy_x[l] / count);
            fb[l] = (float)(each * all.dy[l] / count);
        }
        if (dscale)
            dscale[c] = (float)(all.dy_x[l] * inv);
        if (dbias)
            dbias[c] = (float)all.dy[l];
    }
    p->f[block].b = vec_load(fb);
    p->f[block].k = vec_load(fk);
}

/* A thread applies what it has read, the last first: that is still in its cache. */
static void run(pass *p, void (*finish)(pass *p, int64_t block))
{
    bool alone = p->u.all * p->u.b.pixels * LANES < PARALLEL_ELEMENTS;
#pragma omp parallel num_threads(p->a->threads) if (!alone)
    {
        int64_t threads = omp_get_num_threads(), t = omp_get_thread_num();
        int64_t begin = p->u.all * t / threads, end = p->u.all * (t + 1) / threads;
        for (int64_t i = begin; p->reduces && i < end; i++)
            reduce_unit(p, i);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t b = 0; b < p->u.b.blocks; b++)
            finish(p, b);
        for (int64_t i = end; p->to && i-- > begin;)
            apply_unit(p, i);
    }
}

static void batch_norm_train(const kernel_args *a)
{
    pass p = {.a = a, .at = a->attr, .u = units_of(&a->in[0].sh), .x = a->in[0].data, .to = a->out[0].data,
              .residual = a->n_in > 3 ? a->in[3].data : NULL, .reduces = true};
    carve_pass(&p, a->work);
    run(&p, finish_train);
}

static void batch_norm_moments(const kernel_args *a)
{
    pass p = {.a = a, .u = units_of(&a->in[0].sh), .x = a->in[0].data, .reduces = true};
    carve_pass(&p, a->work);
    run(&p, finish_moments);
}

static void batch_norm(const kernel_args *a)
{
    pass p = {.a = a, .at = a->attr, .u = units_of(&a->in[0].sh), .x = a->in[0].data, .to = a->out[0].data};
    carve_pass(&p, a->work);
    run(&p, finish_inference);
}
static bool is_inference(const kernel_args *a)
{
    return !((const batch_norm_attrs *)a->attr)->training_mode;
}

static void batch_norm_grad(const kernel_args *a)
{
    pass p = {.a = a, .at = a->attr, .u = units_of(&a->in[1].sh), .dy = a->in[0].data, .x = a->in[1].data,
              .result = a->n_in > 5 ? a->in[5].data : NULL, .to = a->out[0].data,
              .masked = a->n_out > 3 ? a->out[3].data : NULL, .reduces = true};
    carve_pass(&p, a->work);
    if (p.at->relu)
        p.by = a->n_in > 6 && a->in[6].data && !p.masked ? FLAT_BY_X : FLAT_BY_Y;
    for (int64_t b = 0; b < p.u.b.blocks; b++)
        begin_grad(&p, b);
    run(&p, finish_grad);
}

static size_t workspace(const kernel_args *a)
{
    units u = units_of(&a->out[0].sh);
    return pass_size(&u);
}
static size_t moments_workspace(const kernel_args *a)
{
    units u = units_of(&a->in[0].sh);
    return pass_size(&u);
}

KERNEL_TABLE(batch_norm_blocked) = {
    {OP_BATCH_NORM, REAL_DTYPE, REAL_ISA, "batch_norm_blocked", batch_norm, workspace, is_inference, .blocked_in = 1,
     .blocked_out = 1},
    {OP_BATCH_NORM_TRAIN, REAL_DTYPE, REAL_ISA, "batch_norm_train_blocked", batch_norm_train, workspace,
     .blocked_in = 1 | 1 << 3, .blocked_out = 1},
    {OP_BATCH_NORM_MOMENTS, REAL_DTYPE, REAL_ISA, "batch_norm_moments_blocked", batch_norm_moments, moments_workspace,
     .blocked_in = 1},
    {OP_BATCH_NORM_GRAD, REAL_DTYPE, REAL_ISA, "batch_norm_grad_blocked", batch_norm_grad, workspace,
     .blocked_in = 1 | 1 << 1 | 1 << 5, .blocked_out = 1 | 1 << 3},
    KERNEL_END};
