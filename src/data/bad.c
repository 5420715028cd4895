/* bad.c - samples that cannot be used: recorded, counted, written out. */
#include "base/io.h"
#include "base/mem.h"
#include "data/sample.h"
#include "data/source.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const part_name[DATA_PARTS] = {"training", "validation"};

static status too_many(const dataset *ds, data_part p)
{
    const data_rows *part = &ds->part[p];
    if ((double)part->n_bad <= ds->o.max_bad * (double)part->n)
        return ST_OK;
    const char *reason = "";
    for (size_t i = 0; i < ds->n_bad && !*reason; i++)
        if (ds->bad[i].part == p)
            reason = ds->bad[i].reason;
    return fail(ST_BAD_DATA,
                "%s: %" PRIu32 " of %" PRIu32
                " %s samples are bad, more than data.max_bad = %g tolerates; the first: %s",
                part->src->place, part->n_bad, part->n, part_name[p], ds->o.max_bad, reason);
}

status dataset_record_bad(dataset *ds, data_part p, uint32_t i)
{
    data_rows *part = &ds->part[p];
    status st = ST_OK;
    pthread_mutex_lock(&ds->lock);
    if (!part->state || atomic_exchange(&part->state[i], SAMPLE_BAD) != SAMPLE_BAD) {
        st = mem_push(&ds->bad, &ds->bad_cap, ds->n_bad, sizeof *ds->bad);
        if (st == ST_OK)
            st = mem_strdup(&ds->bad[ds->n_bad].reason, status_message());
        if (st == ST_OK) {
            ds->bad[ds->n_bad].part = p;
            ds->bad[ds->n_bad].sample = i;
            ds->n_bad++;
            part->n_bad++;
        }
    }
    if (st == ST_OK)
        st = too_many(ds, p);
    pthread_mutex_unlock(&ds->lock);
    return st;
}

uint32_t dataset_bad_count(const dataset *ds)
{
    pthread_mutex_t *lock =
        (pthread_mutex_t *)(uintptr_t)&ds->lock; /* the data set is const, its lock is not */
    pthread_mutex_lock(lock);
    uint32_t n = (uint32_t)ds->n_bad;
    pthread_mutex_unlock(lock);
    return n;
}

/* One cell: quoted where needed; a leading = + - @ or tab would be a formula to a spreadsheet and gets an
 * apostrophe. */
static void add_cell(text *t, const char *s)
{
    text_add(t, "\"");
    if (*s && strchr("=+-@\t\r", *s))
        text_add(t, "'");
    for (; *s; s++) {
        if (*s == '"')
            text_add(t, "\"");
        text_add_n(t, *s == '\n' || *s == '\r' ? " " : s, 1);
    }
    text_add(t, "\"");
}

static int by_sample(const void *a, const void *b)
{
    const bad_sample *x = a, *y = b;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return x->sample < y->sample ? -1 : x->sample > y->sample;
}

status dataset_write_bad(const dataset *ds, const char *csv_path)
{
    text t = {0};
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&ds->lock;
    pthread_mutex_lock(lock);
    qsort(ds->bad, ds->n_bad, sizeof *ds->bad, by_sample);
    text_add(&t, "part,index,path,reason\n");
    for (size_t i = 0; i < ds->n_bad; i++) {
        const bad_sample *b = &ds->bad[i];
        const char *file = dataset_file(ds, b->part, b->sample);
        text_printf(&t, "%s,%" PRIu32 ",", part_name[b->part], dataset_source_index(ds, b->part, b->sample));
        add_cell(&t, file ? file : "");
        text_add(&t, ",");
        add_cell(&t, b->reason);
        text_add(&t, "\n");
    }
    pthread_mutex_unlock(lock);
    status st = t.st == ST_OK ? io_write_file(csv_path, t.s, t.n) : t.st;
    text_free(&t);
    return st;
}

status dataset_check_ids(const dataset *ds, uint32_t k, int64_t rows, const char *table)
{
    for (int p = 0; p < DATA_PARTS; p++) {
        const data_rows *part = &ds->part[p];
        if (part->n == 0)
            continue;
        const tensor *t = &part->src->in[k];
        int64_t each = shape_count(&t->sh) / part->src->n;
        bool wide = t->type == DTYPE_I64;
        for (uint32_t i = 0; i < part->n; i++)
            for (int64_t at = part->id[i] * each, end = at + each; at < end; at++) {
                int64_t id = wide ? ((const int64_t *)t->data)[at] : ((const int32_t *)t->data)[at];
                if (id < 0 || id >= rows)
                    return fail(ST_BAD_DATA, "%s: number %" PRId64 " of %s sample %" PRIu32 " is %" PRId64
                                ", outside the %" PRId64 " rows of %s", part->src->place, at % each, part_name[p],
                                part->id[i], id, rows, table);
            }
    }
    return ST_OK;
}

status dataset_check(dataset *ds, data_part p, uint32_t at_most)
{
    const data_rows *part = &ds->part[p];
    sampler s;
    uint32_t n = part->n < at_most ? part->n : at_most;
    if (part->src->kind != SOURCE_FILES || n == 0)
        return ST_OK;
    TRY(sampler_open(&s, ds));
    status st = ST_OK;
    for (uint32_t k = 0; k < n && st == ST_OK; k++) {
        uint32_t i = (uint32_t)((uint64_t)k * part->n / n);
        const uint8_t *px;
        int32_t c;
        st = sample_pixels(&s, p, i, &px, &c);
        if (sample_is_bad(st))
            st = dataset_record_bad(ds, p, i);
    }
    sampler_close(&s);
    return st;
}
