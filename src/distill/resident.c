/* resident.c - see resident.h. */
#include "distill/resident.h"

#include "data/block.h"
#include "ops/batch_images.h"

#include <stdio.h>
#include <string.h>

static status add_places(resident *r, const char *name, dtype type, int64_t rows, value_id *out)
{
    return graph_add_input(r->g, name, type, SHAPE(rows), out);
}

/* A constant whose data are not copied: the block's, which lives until the executor has them on the device. */
static status add_block(resident *r, const char *name, const data_block *block, value_id *out)
{
    TRY(graph_add_value(r->g, name, block->type, block->sh, VALUE_CONST, out));
    graph_value(r->g, *out)->data = (void *)(uintptr_t)block->data;
    size_t bytes;
    TRY(shape_bytes(&block->sh, block->type, &bytes));
    r->bytes += bytes;
    return ST_OK;
}

/* [2, channels]: mean and deviation of floats. */
static status add_mean_and_std(resident *r, const data_info *info, value_id *out)
{
    const size_t channels = (size_t)info->input[0].sh.dim[0];
    float *both;
    TRY(mem_alloc(&both, 2 * channels, sizeof *both));
    memcpy(both, info->mean, channels * sizeof *both);
    memcpy(both + channels, info->std, channels * sizeof *both);
    status st = graph_add_data(r->g, "table", VALUE_CONST, DTYPE_F32, SHAPE(2, (int64_t)channels), both, out);
    mem_free(both);
    return st;
}

/* Images of bytes, and floats that change. */
static status add_images(resident *r, const dataset *ds, int64_t rows, uint64_t seed, value_id pixels, value_id *out)
{
    const data_info *info = dataset_info(ds);
    const augment_options *o = r->part == DATA_TRAIN ? dataset_augment(ds) : NULL;
    value_id in[8] = {pixels, 0, r->row};
    batch_boxes_attrs at;
    op_default_attrs(OP_BATCH_IMAGES, &at);
    if (graph_value(r->g, pixels)->type == DTYPE_U8)
        TRY(graph_add_data(r->g, "table", VALUE_CONST, DTYPE_F32, SHAPE(info->input[0].sh.dim[0], 256), dataset_pixel_table(ds),
                           &in[BATCH_TABLE]));
    else
        TRY(add_mean_and_std(r, info, &in[BATCH_TABLE]));
    if (o && !augment_is_none(o)) {
        at.change = (batch_images_attrs){.crop = o->crop, .flip = o->flip, .cutout = o->cutout, .brightness = o->brightness,
                                  .contrast = o->contrast, .saturation = o->saturation, .seed = (int64_t)seed};
        if (o->scale_max > 0) {
            at.scale_min = o->scale_min;
            at.scale_max = o->scale_max;
            at.height = info->input[0].sh.dim[1];
            at.width = info->input[0].sh.dim[2];
            at.nearest = dataset_filter(ds) == FILTER_NEAREST;
        }
        TRY(add_places(r, "number", DTYPE_I64, rows, &r->number));
        TRY(add_places(r, "view", DTYPE_I64, rows, &r->view));
        in[BATCH_NUMBER] = r->number;
        in[BATCH_VIEW] = r->view;
    }
    if (o && o->mixup > 0) {
        TRY(add_places(r, "other.row", DTYPE_I64, rows, &r->other_row));
        TRY(add_places(r, "other.number", DTYPE_I64, rows, &r->other_number));
        TRY(add_places(r, "share", DTYPE_F32, rows, &r->share));
        in[BATCH_OTHER_ROW] = r->other_row;
        in[BATCH_OTHER_NUMBER] = r->other_number;
        in[BATCH_SHARE] = r->share;
    }
    return graph_add(r->g, OP_BATCH_IMAGES, &at, in, r->share ? 8 : r->number ? 5 : 3, out, 1);
}

/* Images of floats that nobody changes: (v - mean) / std. */
static status add_normalised(resident *r, const data_info *info, value_id v, value_id *out)
{
    const shape each = SHAPE(info->input[0].sh.dim[0], 1, 1);
    value_id mean, std;
    TRY(graph_add_data(r->g, "mean", VALUE_CONST, DTYPE_F32, each, info->mean, &mean));
    TRY(graph_add_data(r->g, "std", VALUE_CONST, DTYPE_F32, each, info->std, &std));
    TRY(graph_add1(r->g, OP_SUB, NULL, v, mean, 0, &v));
    return graph_add1(r->g, OP_DIV, NULL, v, std, 0, out);
}

static status add_input(resident *r, const dataset *ds, uint32_t k, int64_t rows, uint64_t seed, const data_block *block)
{
    const data_info *info = dataset_info(ds);
    const gather_attrs by_row = {.axis = 0};
    char name[32];
    value_id v;
    snprintf(name, sizeof name, "samples.%u", k);
    TRY(add_block(r, name, block, &v));
    if (k == 0 && info->image && (block->type == DTYPE_U8 || (r->part == DATA_TRAIN && !augment_is_none(dataset_augment(ds))))) {
        TRY(add_images(r, ds, rows, seed, v, &r->x[k]));
    } else {
        TRY(graph_add1(r->g, OP_GATHER, &by_row, v, r->row, 0, &r->x[k]));
        if (k == 0 && info->image)
            TRY(add_normalised(r, info, r->x[k], &r->x[k]));
    }
    r->n_x++;
    return graph_add_output(r->g, r->x[k]);
}

static status build(resident *r, dataset *ds, int64_t rows, uint64_t seed, uint32_t threads, data_block *block)
{
    TRY(graph_new(&r->g));
    TRY(add_places(r, "row", DTYPE_I64, rows, &r->row));
    for (uint32_t k = 0; k < dataset_info(ds)->n_inputs; k++) {
        TRY(dataset_block(ds, r->part, k, threads, &block[k]));
        TRY(add_input(r, ds, k, rows, seed, &block[k]));
    }
    return graph_validate(r->g);
}

status resident_open(dataset *ds, data_part p, int64_t rows, uint64_t seed, uint32_t threads, backend *b, resident **out)
{
    data_block block[DATA_INPUTS] = {0};
    resident *r;
    status st = ST_OK;
    *out = NULL;
    TRY(mem_alloc(&r, 1, sizeof *r));
    r->part = p;
    TRY_DONE(build(r, ds, rows, seed, threads, block));
    TRY_DONE(exec_open(r->g, b, NULL, 0, &r->e));
    for (size_t v = 1; v < r->g->n_value; v++) /* what lies on the device */
        if (graph_value(r->g, (value_id)v)->kind == VALUE_CONST)
            graph_value(r->g, (value_id)v)->data = NULL;
    *out = r;
    r = NULL;
done:
    for (size_t k = 0; k < DATA_INPUTS; k++)
        data_block_free(&block[k]);
    resident_close(r);
    return st;
}

void resident_close(resident *r)
{
    if (!r)
        return;
    exec_close(r->e);
    graph_free(r->g);
    mem_free(r);
}

/* Rows from `at` on of an input; NULL: there is none. */
static void *rows_of(const resident *r, value_id v, size_t at)
{
    return v ? (char *)exec_data(r->e, v) + at * dtype_of(graph_value(r->g, v)->type)->size : NULL;
}

void resident_put(const resident *r, const dataset *ds, const batch *b, size_t at)
{
    int64_t *row = rows_of(r, r->row, at), *number = rows_of(r, r->number, at), *view = rows_of(r, r->view, at);
    int64_t *other_row = rows_of(r, r->other_row, at), *other_number = rows_of(r, r->other_number, at);
    for (uint32_t j = 0; j < b->n; j++) {
        row[j] = b->index[j];
        if (number) {
            number[j] = dataset_source_index(ds, r->part, b->index[j]);
            view[j] = b->view[j];
        }
        if (other_row) {
            other_row[j] = b->other[j];
            other_number[j] = dataset_source_index(ds, r->part, b->other[j]);
        }
    }
    if (r->share)
        memcpy(rows_of(r, r->share, at), b->lambda, b->n * sizeof *b->lambda);
}
