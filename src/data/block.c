/* block.c - see block.h. */
#include "data/block.h"

#include "base/mem.h"
#include "data/loader.h"
#include "data/sample.h"

#include <string.h>

const char *dataset_keeps_host(const dataset *ds, data_part p)
{
    const source *src = ds->part[p].src;
    const augment_options *o = &ds->o.augment;
    if (!src || ds->part[p].n == 0)
        return "there are no samples";
    if (src->kind == SOURCE_FILES && p == DATA_TRAIN && o->scale_max > 0)
        return "the augmentation rrc (random resized crop) starts from image files, each of a size of its own";
    if (src->kind == SOURCE_FILES && !ds->part[p].cache)
        return "the decoded images are more than are kept in memory";
    return NULL;
}

static bool is_pixels(const dataset *ds, data_part p)
{
    return ds->part[p].src->kind == SOURCE_PIXELS || ds->part[p].src->kind == SOURCE_FILES;
}

/* Bytes of a sample of an array of rows. */
static size_t row_bytes(const source *src, uint32_t k)
{
    return tensor_bytes(&src->in[k]) / src->n;
}

/* Whether random resized crops are made of the part's images. */
static bool makes_boxes(const dataset *ds, data_part p)
{
    return p == DATA_TRAIN && ds->o.augment.scale_max > 0;
}

/* Of images at their own size: those of one channel may serve for more, if nothing changes their colours. */
static int32_t box_channels(const dataset *ds, data_part p)
{
    const augment_options *o = &ds->o.augment;
    const bool grey = ds->part[p].src->in[0].sh.dim[3] == 1 && o->brightness <= 0 && o->contrast <= 0 && o->saturation <= 0;
    return grey ? 1 : ds->channels;
}

static size_t image_bytes(const dataset *ds, data_part p)
{
    const int64_t *dim = ds->part[p].src->in[0].sh.dim;
    return makes_boxes(ds, p) ? (size_t)(dim[1] * dim[2] * box_channels(ds, p)) : ds->item;
}

size_t dataset_block_bytes(const dataset *ds, data_part p)
{
    const data_rows *part = &ds->part[p];
    size_t each = is_pixels(ds, p) ? image_bytes(ds, p) : 0;
    for (uint32_t k = is_pixels(ds, p); k < part->src->n_in; k++)
        each += row_bytes(part->src, k);
    return each * part->n;
}

/* Whether samples are the rows of the source, all and in order. */
static bool in_order(const data_rows *part)
{
    bool same = part->n == part->src->n;
    for (uint32_t i = 0; same && i < part->n; i++)
        same = part->id[i] == i;
    return same;
}

static status own_block(data_block *b, size_t bytes)
{
    TRY(mem_map(&b->own, bytes));
    b->own_bytes = bytes;
    b->data = b->own;
    return ST_OK;
}

static status rows_block(const dataset *ds, data_part p, uint32_t k, data_block *out)
{
    const data_rows *part = &ds->part[p];
    const tensor *from = &part->src->in[k];
    const size_t each = row_bytes(part->src, k);
    out->type = from->type;
    out->sh = from->sh;
    out->sh.dim[0] = part->n;
    if (in_order(part)) {
        out->data = from->data;
        return ST_OK;
    }
    TRY(own_block(out, each * part->n));
    for (uint32_t i = 0; i < part->n; i++)
        memcpy((unsigned char *)out->own + i * each, (const unsigned char *)from->data + part->id[i] * each, each);
    return ST_OK;
}

/* A pass over all samples fills the cache of decoded images. */
static status decode_all(dataset *ds, data_part p, uint32_t threads)
{
    loader_options o = loader_eval_options(p, 32);
    loader *l;
    const batch *b = NULL;
    o.threads = threads;
    TRY(loader_open(ds, &o, &l));
    status st = loader_next(l, &b);
    while (st == ST_OK && b)
        st = loader_next(l, &b);
    loader_close(l);
    return st;
}

/* The images of an array at the model's size. */
static status sized_block(dataset *ds, data_part p, sampler *s, data_block *out)
{
    const data_rows *part = &ds->part[p];
    const uint8_t *px;
    int32_t c;
    for (uint32_t i = 0; i < part->n; i++) {
        TRY(sample_pixels(s, p, i, &px, &c));
        const size_t each = (size_t)ds->height * (size_t)ds->width * (size_t)c;
        if (i == 0) {
            out->sh.dim[3] = c;
            TRY(own_block(out, each * part->n));
        }
        memcpy((uint8_t *)out->own + i * each, px, each);
    }
    return ST_OK;
}

/* The images of an array at their own size. */
static status own_size_block(const dataset *ds, data_part p, sampler *s, data_block *out)
{
    const data_rows *part = &ds->part[p];
    const int32_t c = box_channels(ds, p);
    const size_t each = image_bytes(ds, p);
    TRY(own_block(out, each * part->n));
    for (uint32_t i = 0; i < part->n; i++) {
        TRY(sample_array(s, p, i, c));
        memcpy((uint8_t *)out->own + i * each, s->raw.px, each);
    }
    return ST_OK;
}

static status pixels_block(dataset *ds, data_part p, uint32_t threads, data_block *out)
{
    const data_rows *part = &ds->part[p];
    const source *src = part->src;
    out->type = DTYPE_U8;
    out->sh = SHAPE(part->n, ds->height, ds->width, ds->channels);
    if (src->kind == SOURCE_FILES) {
        out->data = part->cache;
        return decode_all(ds, p, threads);
    }
    const int64_t *dim = src->in[0].sh.dim;
    const bool boxes = makes_boxes(ds, p);
    if (boxes)
        out->sh = SHAPE(part->n, dim[1], dim[2], box_channels(ds, p));
    if (in_order(part) && dim[1] == out->sh.dim[1] && dim[2] == out->sh.dim[2] &&
        (dim[3] == out->sh.dim[3] || (dim[3] == 1 && !boxes))) {
        out->sh.dim[3] = dim[3];
        out->data = src->in[0].data;
        return ST_OK;
    }
    sampler s;
    TRY(sampler_open(&s, ds));
    status st = boxes ? own_size_block(ds, p, &s, out) : sized_block(ds, p, &s, out);
    sampler_close(&s);
    return st;
}

status dataset_block(dataset *ds, data_part p, uint32_t k, uint32_t threads, data_block *out)
{
    *out = (data_block){0};
    const char *why = dataset_keeps_host(ds, p);
    if (why)
        return fail(ST_INTERNAL, "%s: %s", ds->path, why);
    status st = k == 0 && is_pixels(ds, p) ? pixels_block(ds, p, threads, out) : rows_block(ds, p, k, out);
    if (st != ST_OK)
        data_block_free(out);
    return st;
}

void data_block_free(data_block *b)
{
    mem_unmap(b->own, b->own_bytes);
    *b = (data_block){0};
}

const float *dataset_pixel_table(const dataset *ds)
{
    return ds->lut;
}

const augment_options *dataset_augment(const dataset *ds)
{
    return &ds->o.augment;
}

resize_filter dataset_filter(const dataset *ds)
{
    return ds->o.filter;
}

bool dataset_is_bad(const dataset *ds, data_part p, uint32_t i)
{
    const data_rows *part = &ds->part[p];
    return part->state && atomic_load_explicit(&part->state[i], memory_order_relaxed) == SAMPLE_BAD;
}
