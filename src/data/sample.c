/* sample.c - one sample: fetch, decode, resize, augment, normalise.
 *
 *     array or cache ----------------------------------------+
 *     file -> decode -> channels -> resize -> cache ---------+-> jitter -> crop, flip, (p/255 - mean)/std ->
 *     cutout -> mixup
 *                                \-> random resized crop ----+
 * The pixel arithmetic runs through a table of 256 floats a channel, computed once in float32 the way PyTorch
 * does. */
#include "data/sample.h"

#include "base/io.h"
#include "base/mem.h"
#include "data/image_codec.h"

#include <string.h>

/* Scratch for samples of an array, so that none is allocated later: a source image, one of the model's size, and what
 * resizing the whole source image needs, which is the most that a box of it can ask for. */
static status reserve_scratch(sampler *s)
{
    const dataset *ds = s->ds;
    const source *src = ds->part[DATA_TRAIN].src;
    if (!src || src->kind != SOURCE_PIXELS)
        return ST_OK;
    const shape *sh = &src->in[0].sh;
    int32_t h = (int32_t)sh->dim[1], w = (int32_t)sh->dim[2], c = (int32_t)sh->dim[3];
    TRY(image_reserve(&s->raw, h, w, c > ds->channels ? c : ds->channels));
    TRY(image_reserve(&s->sized, ds->height, ds->width, c > ds->channels ? c : ds->channels));
    if (ds->o.augment.scale_max <= 0 && h == ds->height && w == ds->width)
        return ST_OK;
    h -= h == ds->height && h > 1; /* an axis that keeps its length asks for nothing; boxes of it do */
    w -= w == ds->width && w > 1;
    return image_resize(&s->rs, &s->raw, 0, 0, h, w, ds->o.filter, ds->height, ds->width, &s->sized);
}

status sampler_open(sampler *s, dataset *ds)
{
    *s = (sampler){.ds = ds};
    status st = ST_OK;
    if (ds->o.augment.mixup > 0 && ds->info.image)
        st = mem_alloc(&s->other, (size_t)shape_count(&ds->info.input[0].sh), sizeof *s->other);
    if (st == ST_OK)
        st = reserve_scratch(s);
    if (st != ST_OK)
        sampler_close(s);
    return st;
}

void sampler_close(sampler *s)
{
    image_free(&s->raw);
    image_free(&s->sized);
    resizer_free(&s->rs);
    mem_free(s->other);
    *s = (sampler){0};
}

/* ---- pixels at the model's size ---- */

/* s->raw (already with the model's channels) to the model's size in s->sized. */
static status fit(sampler *s, const char *name)
{
    const dataset *ds = s->ds;
    const data_options *o = &ds->o;
    image *im = &s->raw;
    if (im->height == ds->height && im->width == ds->width) {
        image t = s->sized;
        s->sized = s->raw;
        s->raw = t;
        return ST_OK;
    }
    if (o->resize == RESIZE_NONE)
        return fail(ST_BAD_DATA, "%s: %d x %d pixels, %d x %d are needed (data.resize = none)", name,
                    im->width, im->height, ds->width, ds->height);
    if (o->resize == RESIZE_STRETCH)
        return image_resize(&s->rs, im, 0, 0, im->height, im->width, o->filter, ds->height, ds->width,
                            &s->sized);
    int32_t rh, rw, y, x;
    resize_crop_plan(im->height, im->width, o->resize_short, ds->height, ds->width, &rh, &rw, &y, &x);
    TRY(image_check_size(name, (uint64_t)rw, (uint64_t)rh, &o->lim));
    TRY(image_resize(&s->rs, im, 0, 0, im->height, im->width, o->filter, rh, rw, &s->sized));
    image_crop(&s->sized, y, x, ds->height, ds->width);
    return ST_OK;
}

/* The file of sample i, decoded, with the model's channels, into s->raw. */
static status decode_file(sampler *s, data_part p, uint32_t i)
{
    const dataset *ds = s->ds;
    const data_rows *part = &ds->part[p];
    const char *name = part->src->file[part->id[i]];
    char *path;
    unsigned char *bytes;
    size_t n;
    TRY(path_join(&path, part->src->dir, name));
    status st = io_read_file(path, ds->o.lim.image_file, &bytes, &n);
    if (st == ST_OK) {
        st = image_decode(path, bytes, n, &ds->o.lim, &s->raw);
        mem_free(bytes);
    }
    if (st == ST_OK && ds->channels)
        st = image_set_channels(&s->raw, path, ds->channels);
    mem_free(path);
    return st;
}

status sample_array(sampler *s, data_part p, uint32_t i, int32_t channels)
{
    const data_rows *part = &s->ds->part[p];
    const shape *sh = &part->src->in[0].sh;
    size_t bytes = (size_t)(sh->dim[1] * sh->dim[2] * sh->dim[3]);
    TRY(image_reserve(&s->raw, (int32_t)sh->dim[1], (int32_t)sh->dim[2], (int32_t)sh->dim[3]));
    memcpy(s->raw.px, (const uint8_t *)part->src->in[0].data + (size_t)part->id[i] * bytes, bytes);
    return image_set_channels(&s->raw, part->src->place, channels);
}

static status file_pixels(sampler *s, data_part p, uint32_t i, const uint8_t **px)
{
    const dataset *ds = s->ds;
    const data_rows *part = &ds->part[p];
    atomic_uchar *state = &part->state[i];
    unsigned char seen = atomic_load_explicit(state, memory_order_acquire);
    uint8_t *slot = part->cache ? part->cache + (size_t)i * ds->item : NULL;
    if (seen == SAMPLE_CACHED) {
        *px = slot;
        return ST_OK;
    }
    TRY(decode_file(s, p, i));
    TRY(fit(s, part->src->file[part->id[i]]));
    *px = s->sized.px;
    unsigned char untried = SAMPLE_UNTRIED;
    if (slot && atomic_compare_exchange_strong(state, &untried, SAMPLE_BUSY)) {
        memcpy(slot, s->sized.px, ds->item);
        atomic_store_explicit(state, SAMPLE_CACHED, memory_order_release);
    }
    return ST_OK;
}

status sample_pixels(sampler *s, data_part p, uint32_t i, const uint8_t **px, int32_t *channels)
{
    const dataset *ds = s->ds;
    const data_rows *part = &ds->part[p];
    *channels = ds->channels;
    if (part->src->kind == SOURCE_FILES)
        return file_pixels(s, p, i, px);
    const shape *sh = &part->src->in[0].sh;
    if (sh->dim[1] == ds->height && sh->dim[2] == ds->width &&
        (sh->dim[3] == ds->channels || sh->dim[3] == 1)) {
        *channels = (int32_t)sh->dim[3];
        *px = (const uint8_t *)part->src->in[0].data +
              (size_t)part->id[i] * (size_t)(sh->dim[1] * sh->dim[2] * sh->dim[3]);
        return ST_OK;
    }
    TRY(sample_array(s, p, i, ds->channels));
    TRY(fit(s, part->src->place));
    *px = s->sized.px;
    return ST_OK;
}

/* Random resized crop starts from the whole image. */
static status cropped_pixels(sampler *s, data_part p, uint32_t i, rng *r, const uint8_t **px,
                             int32_t *channels, augment_draw *d)
{
    const dataset *ds = s->ds;
    TRY(ds->part[p].src->kind == SOURCE_FILES ? decode_file(s, p, i) : sample_array(s, p, i, ds->channels));
    *d = augment_make(&ds->o.augment, r, s->raw.height, s->raw.width, ds->height, ds->width);
    TRY(image_resize(&s->rs, &s->raw, d->box_y, d->box_x, d->box_h, d->box_w, ds->o.filter, ds->height,
                     ds->width, &s->sized));
    *px = s->sized.px;
    *channels = ds->channels;
    return ST_OK;
}

/* ---- to float ---- */

static bool jitters(const augment_options *a)
{
    return a->brightness > 0 || a->contrast > 0 || a->saturation > 0;
}

static status pixels_to_float(sampler *s, data_part p, uint32_t i, const sample_change *change, float *to)
{
    const dataset *ds = s->ds;
    const augment_options *a = &ds->o.augment;
    augment_draw d = {0};
    const uint8_t *px;
    int32_t c;
    if (change) {
        rng r = rng_make(change->seed, RNG_AUGMENT, change->view, dataset_source_index(ds, p, i));
        if (a->scale_max > 0) {
            TRY(cropped_pixels(s, p, i, &r, &px, &c, &d));
        } else {
            TRY(sample_pixels(s, p, i, &px, &c));
            d = augment_make(a, &r, ds->height, ds->width, ds->height, ds->width);
        }
        if (jitters(a)) {
            int64_t n = (int64_t)ds->height * ds->width;
            if (px != s->sized.px) {
                TRY(image_reserve(&s->sized, ds->height, ds->width, c));
                memcpy(s->sized.px, px, (size_t)(n * c));
                px = s->sized.px;
            }
            augment_jitter(s->sized.px, n, c, &d);
        }
    } else {
        TRY(sample_pixels(s, p, i, &px, &c));
    }
    picture_planes(px, c, ds->lut, ds->channels, ds->height, ds->width, &d, to);
    return ST_OK;
}

static void floats_to_float(sampler *s, data_part p, uint32_t i, const sample_change *change, float *to)
{
    const dataset *ds = s->ds;
    const data_rows *part = &ds->part[p];
    augment_draw d = {0};
    if (change) {
        rng r = rng_make(change->seed, RNG_AUGMENT, change->view, dataset_source_index(ds, p, i));
        d = augment_make(&ds->o.augment, &r, ds->height, ds->width, ds->height, ds->width);
    }
    size_t n = (size_t)shape_count(&ds->info.input[0].sh);
    picture_float_planes((const float *)part->src->in[0].data + (size_t)part->id[i] * n, ds->mean, ds->std, ds->channels,
                         ds->height, ds->width, &d, to);
}

status sample_make(sampler *s, data_part p, uint32_t i, const sample_change *change, void *const *to)
{
    const dataset *ds = s->ds;
    const data_rows *part = &ds->part[p];
    const source *src = part->src;
    if (part->state && atomic_load_explicit(&part->state[i], memory_order_relaxed) == SAMPLE_BAD)
        return fail(ST_BAD_DATA, "%s: is a bad sample", src->file[part->id[i]]);
    uint32_t first = 0;
    if (src->kind == SOURCE_FILES || src->kind == SOURCE_PIXELS) {
        TRY(pixels_to_float(s, p, i, change, to[0]));
        first = 1;
    } else if (src->kind == SOURCE_FLOATS) {
        floats_to_float(s, p, i, change, to[0]);
        first = 1;
    }
    for (uint32_t j = first; j < src->n_in; j++) {
        size_t bytes = tensor_bytes(&src->in[j]) / src->n;
        memcpy(to[j], (const unsigned char *)src->in[j].data + (size_t)part->id[i] * bytes, bytes);
    }
    return ST_OK;
}

bool sample_is_bad(status st)
{
    return st == ST_BAD_DATA || st == ST_NO_INPUT || st == ST_IO;
}

status sample_make_good(sampler *s, data_part p, uint32_t *i, const sample_change *change, void *const *to)
{
    uint32_t n = s->ds->part[p].n;
    for (uint32_t tries = 0; tries < n; tries++) {
        status st = sample_make(s, p, *i, change, to);
        if (st == ST_OK || !sample_is_bad(st))
            return st;
        TRY(dataset_record_bad(s->ds, p, *i));
        *i = *i + 1 < n ? *i + 1 : 0;
    }
    return fail(ST_BAD_DATA, "%s: none of the %u samples can be used", s->ds->part[p].src->place, n);
}

status sample_find_good(const dataset *ds, data_part p, uint32_t *i)
{
    const data_rows *part = &ds->part[p];
    for (uint32_t tries = 0; tries < part->n; tries++) {
        if (!part->state || atomic_load_explicit(&part->state[*i], memory_order_relaxed) != SAMPLE_BAD)
            return ST_OK;
        *i = *i + 1 < part->n ? *i + 1 : 0;
    }
    return fail(ST_BAD_DATA, "%s: none of the %u samples can be used", part->src->place, part->n);
}
