/* batch_images.c - BatchImages: float batches by the arithmetic of src/ops/picture.c, and a plain loop over elements for
 * tables of double, which tests compare it with. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/parallel.h"
#include "ops/picture.h"

#include <math.h>
#include <string.h>

typedef struct sizes {
    int64_t images, item, plane, each; /* item: bytes of an image; each: elements of one in the batch */
    int32_t own, channels, H, W;
} sizes;

static sizes sizes_of(const kernel_args *a)
{
    const int64_t *px = a->in[BATCH_PIXELS].sh.dim, channels = a->in[BATCH_TABLE].sh.dim[0];
    return (sizes){px[0], px[1] * px[2] * px[3], px[1] * px[2], channels * px[1] * px[2], (int32_t)px[3], (int32_t)channels,
                   (int32_t)px[1], (int32_t)px[2]};
}

static augment_options options_of(const batch_images_attrs *at)
{
    return (augment_options){.crop = (int32_t)at->crop, .flip = at->flip != 0, .cutout = (int32_t)at->cutout,
                             .brightness = at->brightness, .contrast = at->contrast, .saturation = at->saturation};
}

static int64_t index_of(const kernel_tensor *t, int64_t j)
{
    return ((const int64_t *)t->data)[j];
}

/* The pixels of an image, changed in colour (then in `scratch`), and what else was drawn for it; NULL: there is no such row. */
static const uint8_t *pixels_of(const kernel_args *a, sizes s, int64_t row, const kernel_tensor *number, int64_t j,
                                uint8_t *scratch, augment_draw *d)
{
    const batch_images_attrs *at = a->attr;
    const augment_options o = options_of(at);
    *d = (augment_draw){0};
    if (row < 0 || row >= s.images)
        return NULL;
    const uint8_t *px = (const uint8_t *)a->in[BATCH_PIXELS].data + row * s.item;
    if (number->type == DTYPE_NONE)
        return px;
    rng r = rng_make((uint64_t)at->seed, RNG_AUGMENT, (uint64_t)index_of(&a->in[BATCH_VIEW], j), (uint32_t)index_of(number, j));
    *d = augment_make(&o, &r, s.H, s.W, s.H, s.W);
    if (o.brightness <= 0 && o.contrast <= 0 && o.saturation <= 0)
        return px;
    memcpy(scratch, px, (size_t)s.item);
    augment_jitter(scratch, s.plane, s.own, d);
    return scratch;
}

static void put_float(const kernel_args *a, sizes s, const uint8_t *px, const augment_draw *d, float *y)
{
    if (px)
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
        const uint8_t byte = px && inside ? px[(sy * s.W + sx) * s.own + (s.own == 1 ? 0 : k)] : 0;
        to[i] = !px ? (double)NAN : cut ? 0 : table[256 * k + byte];
    }
}

static size_t scratch_bytes(const kernel_args *a)
{
    return ((size_t)sizes_of(a).item + 63) & ~(size_t)63;
}

/* Of each thread: changed pixels, and the other image of a mixture. */
static size_t part_bytes(const kernel_args *a)
{
    const bool mixes = a->n_in > BATCH_SHARE && a->in[BATCH_SHARE].type != DTYPE_NONE;
    const size_t mixed = mixes ? (size_t)sizes_of(a).each * dtype_of(a->out[0].type)->size : 0;
    return scratch_bytes(a) + ((mixed + 63) & ~(size_t)63);
}

static size_t workspace(const kernel_args *a)
{
    return (size_t)a->threads * part_bytes(a);
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
        void *to = part ? work + scratch_bytes(a) : mine;
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
    const size_t part = part_bytes(a);
    PARALLEL_FOR(t, threads, a->threads, n * s.each)
    for (int64_t j = t * n / threads; j < (t + 1) * n / threads; j++)
        one_sample(a, s, j, (unsigned char *)a->work + (size_t)t * part);
}

const kernel_row cpu_batch_images[] = {
    {.op = OP_BATCH_IMAGES, .type = DTYPE_U8, .level = ISA_REF, .name = "batch images", .run = run, .workspace = workspace},
    KERNEL_END,
};
