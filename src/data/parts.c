/* parts.c - which rows of the sources are training and which validation samples, and whose labels count.
 *
 * Slices first (data.samples), then the split, then the labels (data.labelled), so that hiding training labels leaves the
 * validation part alone. */
#include "base/mem.h"
#include "data/source.h"

#include <math.h>
#include <string.h>

static status all_rows(data_rows *part, source *src)
{
    part->src = src;
    part->n = src->n;
    TRY(mem_alloc(&part->id, src->n, sizeof *part->id));
    for (uint32_t i = 0; i < src->n; i++)
        part->id[i] = i;
    return ST_OK;
}

/* Keeps the rows whose byte in `keep` (by row of the source) is `want`. */
static void keep_rows(data_rows *part, const uint8_t *keep, uint8_t want)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < part->n; i++)
        if (keep[part->id[i]] == want)
            part->id[n++] = part->id[i];
    part->n = n;
}

/* round(ratio * n) rows of the training part, drawn by the seed, become the validation part; both keep the
 * file's order. */
static status split_rows(dataset *ds, uint8_t *mark)
{
    data_rows *train = &ds->part[DATA_TRAIN], *val = &ds->part[DATA_VAL];
    uint32_t n = train->n, m = (uint32_t)llround(ds->o.val_ratio * (double)n), *order;
    m = m >= n ? n - 1 : m;
    TRY(mem_alloc(&order, n, sizeof *order));
    memcpy(order, train->id, n * sizeof *order);
    rng r = rng_make(ds->o.split_seed, RNG_SPLIT, 0, 0);
    rng_shuffle(&r, order, n);
    memset(mark, 0, train->src->n);
    for (uint32_t i = 0; i < m; i++)
        mark[order[i]] = 1;
    mem_free(order);
    TRY(mem_alloc(&val->id, n, sizeof *val->id));
    memcpy(val->id, train->id, n * sizeof *val->id);
    val->src = train->src;
    val->n = n;
    keep_rows(val, mark, 1);
    keep_rows(train, mark, 0);
    ds->info.split = m > 0;
    return ST_OK;
}

/* Only samples with mark 1 keep their label. */
static status hide_labels(data_rows *part, const uint8_t *mark)
{
    source *s = part->src;
    if (!s->label && !s->target.data)
        return fail(ST_CONFIG, "data.labelled: %s has no labels", s->place);
    if (!s->label) /* float targets: the label only says whether there is one */
        TRY(mem_alloc(&s->label, s->n, sizeof *s->label));
    for (uint32_t i = 0; i < part->n; i++)
        if (!mark[part->id[i]])
            s->label[part->id[i]] = -1;
    return ST_OK;
}

static status apply_slices(dataset *ds, const data_options *o, uint8_t *mark)
{
    data_rows *train = &ds->part[DATA_TRAIN];
    if (o->samples) {
        TRY(slices_parse(o->samples, "data.samples", train->src->n, mark));
        keep_rows(train, mark, 1);
        if (train->n == 0)
            return fail(ST_CONFIG, "data.samples = %s: no sample of %s is left", o->samples,
                        train->src->place);
    }
    if (ds->set.has_val)
        TRY(all_rows(&ds->part[DATA_VAL], &ds->set.part[DATA_VAL]));
    else
        TRY(split_rows(ds, mark));
    if (o->labelled) {
        TRY(slices_parse(o->labelled, "data.labelled", train->src->n, mark));
        TRY(hide_labels(train, mark));
    }
    if (o->labelled_only) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < train->n; i++)
            if (dataset_label(ds, DATA_TRAIN, i) >= 0)
                train->id[n++] = train->id[i];
        train->n = n;
        if (n == 0)
            return fail(ST_CONFIG, "data.labelled_only: no training sample of %s has a label",
                        train->src->place);
    }
    return ST_OK;
}

status dataset_make_parts(dataset *ds, const data_options *o)
{
    uint8_t *mark;
    TRY(all_rows(&ds->part[DATA_TRAIN], &ds->set.part[DATA_TRAIN]));
    TRY(mem_alloc(&mark, ds->set.part[DATA_TRAIN].n, 1));
    status st = apply_slices(ds, o, mark);
    mem_free(mark);
    return st;
}
