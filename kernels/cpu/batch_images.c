/* batch_images.c - BatchImages: float batches by the arithmetic of src/ops/picture.c, and a plain loop over elements for
 * tables of double, which tests compare it with. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parallel.h"
#include "ops/batch_images.h"
#include "ops/picture.h"
#include "ops/picture_resize.h"
#include "ops/picture_rule.h"

#include <math.h>
#include <string.h>

typedef struct sizes {
    int64_t images, item, plane, each; /* item: bytes of an image; plane, each: elements in the batch, of a channel and of all */
    int32_t own, channels, h, w, H, W; /* h, w: of an image */
    bool boxes, bytes;                 /* random resized crops are made; pixels are not floats */
} sizes;

static sizes sizes_of(const kernel_args *a)
{
    const int64_t *px = a->in[BATCH_PIXELS].sh.dim, *y = a->out[0].sh.dim;
    const batch_boxes_attrs *at = a->attr;
    const bool bytes = a->in[BATCH_PIXELS].type == DTYPE_U8;
    return (sizes){.images = px[0], .item = px[1] * px[2] * px[3] * (int64_t)dtype_of(a->in[BATCH_PIXELS].type)->size, .plane = y[2] * y[3], .each = y[1] * y[2] * y[3], .own = bytes ? (int32_t)px[3] : 0,
                   .channels = (int32_t)y[1], .h = (int32_t)px[bytes ? 1 : 2], .w = (int32_t)px[bytes ? 2 : 3], .bytes = bytes, .H = (int32_t)y[2], .W = (int32_t)y[3],
                   .boxes = at->scale_max > 0};
}

static augment_options options_of(const batch_boxes_attrs *at)
{
    const batch_images_attrs *c = &at->change;
    return (augment_options){.crop = (int32_t)c->crop, .flip = c->flip != 0, .cutout = (int32_t)c->cutout,
                             .brightness = c->brightness, .contrast = c->contrast, .saturation = c->saturation,
                             .scale_min = at->scale_min, .scale_max = at->scale_max};
}

/* ---- scratch of a thread: pixels that are changed, what changing their size needs, the other image of a mixture ---- */

static size_t round_up(int64_t bytes)
{
    return ((size_t)bytes + 63) & ~(size_t)63;
}

typedef struct scratch_plan {
    size_t weight, first, rows, other, all; /* where each begins; pixels: at 0 */
} scratch_plan;

static scratch_plan plan_scratch(const kernel_args *a)
{
    const sizes s = sizes_of(a);
    const bool mixes = a->n_in > BATCH_SHARE && a->in[BATCH_SHARE].type != DTYPE_NONE;
    const int64_t x = s.W * picture_most_taps(s.w, s.W), y = s.H * picture_most_taps(s.h, s.H);
    scratch_plan p = {.weight = round_up(s.plane * s.own)};
    p.first = p.weight + (s.boxes ? round_up((x > y ? x : y) * (int64_t)sizeof(int32_t)) : 0);
    p.rows = p.first + (s.boxes ? round_up((s.W > s.H ? s.W : s.H) * 2 * (int64_t)sizeof(int32_t)) : 0);
    p.other = p.rows + (s.boxes ? round_up((int64_t)s.h * s.W * s.own) : 0);
    p.all = p.other + (mixes ? round_up(s.each * (int64_t)dtype_of(a->out[0].type)->size) : 0);
    return p;
}

static size_t workspace(const kernel_args *a)
{
    return (size_t)a->threads * plan_scratch(a).all;
}

/* The box that was drawn, as large as the result, in the scratch. */
static void take_box(const kernel_args *a, sizes s, const uint8_t *px, const augment_draw *d, unsigned char *work)
{
    const scratch_plan p = plan_scratch(a);
    const picture_scratch scratch = {(int32_t *)(void *)(work + p.weight), (int32_t *)(void *)(work + p.first), work + p.rows};
    const size_t pitch = (size_t)s.w * (size_t)s.own;
    picture_resize(&scratch, px + (size_t)d->box_y * pitch + (size_t)d->box_x * (size_t)s.own, pitch, d->box_h, d->box_w, s.own,
                   ((const batch_boxes_attrs *)a->attr)->nearest != 0, s.H, s.W, work);
}

/* ---- samples ---- */

static int64_t index_of(const kernel_tensor *t, int64_t j)
{
    return ((const int64_t *)t->data)[j];
}

/* The pixels of an image, changed in size and colour (then in `work`), and what else was drawn for it; NULL: there is no such row. */
static const uint8_t *pixels_of(const kernel_args *a, sizes s, int64_t row, const kernel_tensor *number, int64_t j,
                                unsigned char *work, augment_draw *d)
{
    const batch_boxes_attrs *at = a->attr;
    const augment_options o = options_of(at);
    *d = (augment_draw){0};
    if (row < 0 || row >= s.images)
        return NULL;
    const uint8_t *px = (const uint8_t *)a->in[BATCH_PIXELS].data + row * s.item;
    if (number->type == DTYPE_NONE)
        return px;
    rng r = rng_make((uint64_t)at->change.seed, RNG_AUGMENT, (uint64_t)index_of(&a->in[BATCH_VIEW], j), (uint32_t)index_of(number, j));
    *d = augment_make(&o, &r, s.h, s.w, s.H, s.W);
    const bool colour = o.brightness > 0 || o.contrast > 0 || o.saturation > 0;
    if (s.boxes)
        take_box(a, s, px, d, work);
    else if (colour)
        memcpy(work, px, (size_t)s.item);
    if (colour)
        augment_jitter(work, s.plane, s.own, d);
    return s.boxes || colour ? work : px;
}

static void put_float(const kernel_args *a, sizes s, const uint8_t *px, const augment_draw *d, float *y)
{
    const float *mean = a->in[BATCH_TABLE].data;
    if (px && !s.bytes)
        picture_float_planes((const float *)(const void *)px, mean, mean + s.channels, s.channels, s.H, s.W, d, y);
    else if (px)
        picture_planes(px, s.own, a->in[BATCH_TABLE].data, s.channels, s.H, s.W, d, y);
    for (int64_t i = 0; !px && i < s.each; i++)
        y[i] = (float)NAN;
}

/* Element by element, from the definition. */
static void put_double(const kernel_args *a, sizes s, const uint8_t *px, const augment_draw *d, double *to)
{
    const double *table = a->in[BATCH_TABLE].data;
    for (int64_t i = 0; i < s.each; i++) {
        const int32_t k = (int32_t)(i / s.plane), y = (int32_t)(i % s.plane / s.W), x = (int32_t)(i % s.W);
        const int64_t sy = (int64_t)y + d->dy, sx = (int64_t)(d->flip ? s.W - 1 - x : x) + d->dx;
        const bool cut = y >= d->cut_y0 && y < d->cut_y1 && x >= d->cut_x0 && x < d->cut_x1;
        const bool inside = sy >= 0 && sy < s.H && sx >= 0 && sx < s.W;
        const uint8_t byte = px && inside && s.bytes ? px[(sy * s.W + sx) * s.own + (s.own == 1 ? 0 : k)] : 0;
        const double v = px && inside && !s.bytes ? ((const double *)(const void *)px)[(k * (int64_t)s.H + sy) * s.W + sx] : 0;
        to[i] = !px ? (double)NAN : cut ? 0 : s.bytes ? table[256 * k + byte] : (v - table[k]) / table[s.channels + k];
    }
}

static void one_sample(const kernel_args *a, sizes s, int64_t j, unsigned char *work)
{
    static const kernel_tensor none = {.type = DTYPE_NONE};
    const kernel_tensor *number = a->n_in > BATCH_NUMBER ? &a->in[BATCH_NUMBER] : &none;
    const kernel_tensor *share = a->n_in > BATCH_SHARE ? &a->in[BATCH_SHARE] : &none;
    const bool wide = a->out[0].type == DTYPE_F64, mixes = share->type != DTYPE_NONE;
    augment_draw d;
    for (int part = 0; part < 1 + mixes; part++) {
        void *mine = (unsigned char *)a->out[0].data + (size_t)(j * s.each) * dtype_of(a->out[0].type)->size;
        void *to = part ? work + plan_scratch(a).other : mine;
        const uint8_t *px = pixels_of(a, s, index_of(&a->in[part ? BATCH_OTHER_ROW : BATCH_ROW], j),
                                      part && number->type != DTYPE_NONE ? &a->in[BATCH_OTHER_NUMBER] : number, j, work, &d);
        if (wide)
            put_double(a, s, px, &d, to);
        else
            put_float(a, s, px, &d, to);
        if (part && !wide)
            picture_mix(mine, to, ((const float *)share->data)[j], s.each);
        for (int64_t i = 0; part && wide && i < s.each; i++) {
            const double l = ((const double *)share->data)[j];
            ((double *)mine)[i] = l * ((double *)mine)[i] + (1 - l) * ((double *)to)[i];
        }
    }
}

static void run(const kernel_args *a)
{
    const sizes s = sizes_of(a);
    const int64_t n = shape_count(&a->in[BATCH_ROW].sh), threads = a->threads;
    const size_t part = plan_scratch(a).all;
    PARALLEL_FOR(t, threads, a->threads, n * s.each)
    for (int64_t j = t * n / threads; j < (t + 1) * n / threads; j++)
        one_sample(a, s, j, (unsigned char *)a->work + (size_t)t * part);
}

#define ROW(T) {.op = OP_BATCH_IMAGES, .type = T, .level = ISA_REF, .name = "batch images", .run = run, .workspace = workspace}
const kernel_row cpu_batch_images[] = {
    ROW(DTYPE_U8), ROW(DTYPE_F32), ROW(DTYPE_F64),
    KERNEL_END,
};
