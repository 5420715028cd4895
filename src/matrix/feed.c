/* feed.c - see feed.h. */
#include "matrix/feed.h"
#include "data/loader.h"
#include "data/npy.h"

#include <math.h>
#include <string.h>

#define BATCH 200

status feed_print(const data_info *d, const file_facts *x, size_t samples, arena *mem, const char **out)
{
    text t = {0};
    char a[NUMBER_ROOM], b[NUMBER_ROOM];
    text_printf(&t, "data %s, %zu of %u validation samples", d->sha256, samples, d->part[DATA_VAL].n);
    const uint32_t channels = x->normalised ? x->channels : d->image && d->mean ? (uint32_t)d->input[0].sh.dim[0] : 0;
    for (uint32_t i = 0; i < channels && i < DATA_CHANNELS; i++)
        text_printf(&t, ", (%s, %s)", format_double((double)(x->normalised ? x->mean : d->mean)[i], a),
                    format_double((double)(x->normalised ? x->std : d->std)[i], b));
    for (size_t i = 0; i < x->n_in; i++)
        text_printf(&t, "; %s from %u, step %s", x->in[i].name, x->in[i].from, format_double(x->in[i].scale, a));
    status st = t.st == ST_OK ? arena_strdup(mem, out, t.s) : t.st;
    text_free(&t);
    return st;
}

/* The nearest multiple of the step within the range: what the file's first rounding would make of it. */
static void round_values(float *x, size_t n, double scale, double low, double high)
{
    for (size_t i = 0; i < n; i++) {
        double v = nearbyint((double)x[i] / scale) * scale;
        x[i] = (float)(v < low ? low : v > high ? high : v);
    }
}

static status fill(dataset *ds, const file_facts *x, size_t k, tensor *t)
{
    loader *l = NULL;
    loader_options o = loader_eval_options(DATA_VAL, BATCH);
    size_t at = 0, total = (size_t)t->sh.dim[0], each = tensor_bytes(t) / total;
    status st = loader_open(ds, &o, &l);
    while (st == ST_OK && at < total) {
        const batch *b;
        st = loader_next(l, &b);
        if (st != ST_OK || !b)
            break;
        size_t n = b->n < total - at ? b->n : total - at;
        memcpy((char *)t->data + at * each, b->x[x->in[k].from], n * each);
        at += n;
    }
    loader_close(l);
    if (st == ST_OK && x->in[k].scale > 0 && t->type == DTYPE_F32)
        round_values(t->data, (size_t)shape_count(&t->sh), x->in[k].scale, x->in[k].low, x->in[k].high);
    return st;
}

status feed_write(dataset *ds, const file_facts *x, size_t k, size_t samples, const char *path)
{
    const data_info *d = dataset_info(ds);
    const data_input *from = &d->input[x->in[k].from];
    const uint32_t channels = d->image && d->mean ? (uint32_t)d->input[0].sh.dim[0] : 0;
    float mean[DATA_CHANNELS] = {0}, std[DATA_CHANNELS] = {0};
    tensor t = {0};
    shape sh = {.rank = from->sh.rank + 1, .dim = {(int64_t)samples}};
    for (int i = 0; i < from->sh.rank; i++)
        sh.dim[i + 1] = from->sh.dim[i];
    const bool other = x->normalised && channels && x->channels == channels && channels <= DATA_CHANNELS;
    TRY(tensor_new(&t, NULL, from->type, sh));
    if (other) {
        memcpy(mean, d->mean, channels * sizeof *mean);
        memcpy(std, d->std, channels * sizeof *std);
        dataset_normalise(ds, x->mean, x->std);
    }
    status st = fill(ds, x, k, &t);
    if (other)
        dataset_normalise(ds, mean, std);
    if (st == ST_OK)
        st = npy_write(path, &t);
    tensor_free(&t);
    return st;
}

status feed_answers(const dataset *ds, size_t samples, arena *mem, int32_t **label, const float ***target)
{
    const data_info *d = dataset_info(ds);
    TRY(arena_alloc(mem, label, samples, sizeof **label));
    TRY(arena_alloc(mem, target, samples, sizeof **target));
    for (size_t i = 0; i < samples; i++) {
        (*label)[i] = d->classes ? (int32_t)dataset_label(ds, DATA_VAL, (uint32_t)i) : -1;
        (*target)[i] = dataset_target(ds, DATA_VAL, (uint32_t)i);
    }
    return ST_OK;
}
