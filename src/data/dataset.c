/* dataset.c - a data set is opened: format, parts, labels in use, sizes, counts.
 *
 *     recognise -> load (arrays.c, folder.c, manifest.c) -> rows (parts.c) -> shape -> counts, tables */
#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "data/known.h"
#include "data/sample.h"
#include "data/source.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const data_format *const formats[] = {&format_arrays, &format_manifest, &format_folder};
#define FORMATS (sizeof formats / sizeof *formats)

data_options data_options_default(void)
{
    return (data_options){
        .val_ratio = 0.1,
        .int_type = DTYPE_I64,
        .cache_bytes = (uint64_t)2 << 30,
        .max_bad = 0.001,
        .lim = limits_default(),
    };
}

static status bad_option(const char *what)
{
    return fail(ST_CONFIG, "data: %s", what);
}

static status check_options(const data_options *o)
{
    if (!o->path && !o->train)
        return bad_option("no path; give [data] dir, or train and labels");
    if (!(o->val_ratio >= 0 && o->val_ratio < 1))
        return bad_option("val_ratio is outside [0, 1)");
    if (!(o->max_bad >= 0 && o->max_bad <= 1))
        return bad_option("max_bad is outside [0, 1]");
    if (o->channels < 0 || o->height < 0 || o->width < 0 || o->resize_short < 0 || o->classes < 0)
        return bad_option("a size is negative");
    if (o->int_type != DTYPE_I64 && o->int_type != DTYPE_I32)
        return bad_option("integer rows are given out as int64 or int32");
    if (o->n_mean > DATA_CHANNELS || o->n_std > DATA_CHANNELS)
        return bad_option("more than 16 means");
    for (uint32_t i = 0; i < o->n_mean; i++)
        if (!isfinite(o->mean[i]))
            return bad_option("a mean is not finite");
    for (uint32_t i = 0; i < o->n_std; i++)
        if (!isfinite(o->std[i]) || o->std[i] <= 0)
            return bad_option("every std must be above 0");
    return ST_OK;
}

/* ---- format ---- */

static status not_recognised(const char *path)
{
    text t = {0};
    for (size_t i = 0; i < FORMATS; i++)
        text_printf(&t, "%s%s", i ? "; " : "", formats[i]->looked_for);
    status st =
        fail(ST_BAD_DATA, "%s: no data set was recognised. Looked for: %s. Or give [data] train and labels",
             path, t.st == ST_OK ? t.s : "");
    text_free(&t);
    return st;
}

static status choose_format(const data_options *o, const char *path, const data_format **out)
{
    if (!io_exists(path))
        return fail(ST_NO_INPUT, "%s: does not exist", path);
    bool is_dir = io_is_dir(path);
    for (size_t i = 0; i < FORMATS; i++) {
        bool yes = o->kind == formats[i]->kind;
        if (o->kind == DATA_AUTO)
            TRY(formats[i]->recognise(path, is_dir, &yes));
        if (yes) {
            *out = formats[i];
            return ST_OK;
        }
    }
    return not_recognised(path);
}

static status load_sources(const data_options *o, source_set *set)
{
    const data_format *format;
    if (!o->train) {
        TRY(choose_format(o, o->path, &format));
        return format->load(o, o->path, set);
    }
    TRY(choose_format(o, o->train, &format));
    if (!o->labels && !o->val)
        return format->load(o, o->train, set);
    TRY(format->load_part(o, o->train, o->labels, DATA_TRAIN, set));
    if (!o->val)
        return ST_OK;
    TRY(choose_format(o, o->val, &format));
    set->has_val = true;
    return format->load_part(o, o->val, o->val_labels, DATA_VAL, set);
}

/* ---- what one sample is ---- */

/* Both sources must give the same kind of sample. */
static status check_val(const source_set *set)
{
    const source *a = &set->part[DATA_TRAIN], *b = &set->part[DATA_VAL];
    char x[200], y[200];
    if (a->kind != b->kind || a->n_in != b->n_in)
        return fail(ST_BAD_DATA, "%s: holds another kind of samples than %s", b->place, a->place);
    for (uint32_t j = 0; j < a->n_in; j++) {
        shape s = a->in[j].sh, t = b->in[j].sh;
        s.dim[0] = t.dim[0];
        if (a->in[j].type != b->in[j].type || (a->kind != SOURCE_PIXELS && !shape_equal(&s, &t)))
            return fail(ST_BAD_DATA, "%s: input %u is %s %s, in %s it is %s %s", b->place, j,
                        dtype_of(b->in[j].type)->name, shape_print(&b->in[j].sh, y), a->place,
                        dtype_of(a->in[j].type)->name, shape_print(&a->in[j].sh, x));
    }
    if (a->target.data && b->target.data) {
        shape s = a->target.sh;
        s.dim[0] = b->target.sh.dim[0];
        if (!shape_equal(&s, &b->target.sh))
            return fail(ST_BAD_DATA, "%s: targets have another shape than in %s", b->place, a->place);
    } else if (!a->target.data != !b->target.data && (a->label || a->target.data) &&
               (b->label || b->target.data)) {
        return fail(ST_BAD_DATA, "%s: class labels in one part and float targets in the other", b->place);
    }
    return ST_OK;
}

/* Files: the size of the first training image that can be decoded. */
static status first_image(dataset *ds, int32_t *c, int32_t *h, int32_t *w)
{
    image im = {0};
    const source *src = &ds->set.part[DATA_TRAIN];
    status st = ST_BAD_DATA;
    for (uint32_t i = 0; i < src->n && i < 100 && sample_is_bad(st); i++) {
        char *path;
        unsigned char *bytes;
        size_t n;
        st = path_join(&path, src->dir, src->file[i]);
        if (st != ST_OK)
            break;
        st = io_read_file(path, ds->o.lim.image_file, &bytes, &n);
        if (st == ST_OK) {
            st = image_decode(path, bytes, n, &ds->o.lim, &im);
            mem_free(bytes);
        }
        mem_free(path);
    }
    *c = im.channels;
    *h = im.height;
    *w = im.width;
    image_free(&im);
    return st == ST_OK ? ST_OK : fail_within(st, "%s: none of the first images can be decoded", src->place);
}

static status image_shape(dataset *ds)
{
    const data_options *o = &ds->o;
    const source *src = &ds->set.part[DATA_TRAIN];
    int32_t c, h, w;
    if (src->kind == SOURCE_FILES) {
        c = o->channels, h = o->height, w = o->width;
        if (!c || !h || !w)
            TRY(first_image(ds, &c, &h, &w));
    } else {
        const int64_t *d = src->in[0].sh.dim;
        bool last = src->kind == SOURCE_PIXELS;
        c = (int32_t)d[last ? 3 : 1], h = (int32_t)d[last ? 1 : 2], w = (int32_t)d[last ? 2 : 3];
    }
    ds->channels = o->channels ? o->channels : c;
    ds->height = o->height ? o->height : h;
    ds->width = o->width ? o->width : w;
    if (src->kind == SOURCE_FILES && ds->channels != 1 && ds->channels != 3)
        return fail(ST_BAD_DATA, "%s: the model takes %d channels; image files have 1 or 3", src->place,
                    ds->channels);
    if (src->kind == SOURCE_PIXELS && ds->channels != c && !(c == 1 && ds->channels == 3) &&
        !(c == 3 && ds->channels == 1))
        return fail(ST_BAD_DATA, "%s: images of %d channels for a model that takes %d", src->place, c,
                    ds->channels);
    if (src->kind == SOURCE_FLOATS && (ds->channels != c || ds->height != h || ds->width != w))
        return fail(ST_BAD_DATA,
                    "%s: float images of %d x %d x %d for a model that takes %d x %d x %d; only uint8 images "
                    "are resized",
                    src->place, c, h, w, ds->channels, ds->height, ds->width);
    if (!size_mul((size_t)ds->height, (size_t)ds->width, &ds->item) || ds->item > ds->o.lim.image_pixels ||
        !size_mul(ds->item, (size_t)ds->channels, &ds->item))
        return fail(ST_CONFIG, "data: %d x %d pixels are more than limits.image_pixels", ds->height,
                    ds->width);
    return ST_OK;
}

static status augment_fits(const dataset *ds, const source *src)
{
    const augment_options *a = &ds->o.augment;
    if (!ds->info.image && !augment_is_none(a))
        return fail(ST_CONFIG, "data.augment: %s holds rows, not images", src->place);
    bool colour = a->brightness > 0 || a->contrast > 0 || a->saturation > 0;
    if (src->kind == SOURCE_FLOATS && (a->scale_max > 0 || colour))
        return fail(ST_CONFIG, "data.augment: rrc and jitter need uint8 images; %s holds floats", src->place);
    if (colour && ds->channels != 1 && ds->channels != 3)
        return fail(ST_CONFIG, "data.augment: jitter needs 1 or 3 channels, not %d", ds->channels);
    return ST_OK;
}

static status describe_inputs(dataset *ds)
{
    const source *src = &ds->set.part[DATA_TRAIN];
    data_info *info = &ds->info;
    info->image = src->kind != SOURCE_ROWS;
    info->n_inputs = src->n_in ? src->n_in : 1;
    for (uint32_t j = 0; j < src->n_in; j++) {
        data_input *in = &info->input[j];
        in->name = src->in[j].name ? src->in[j].name : "x";
        in->type = src->in[j].type;
        in->sh = shape_from(src->in[j].sh.dim + 1, (size_t)src->in[j].sh.rank - 1);
    }
    if (info->image) {
        TRY(image_shape(ds));
        info->input[0].name = src->n_in && src->in[0].name ? src->in[0].name : "x";
        info->input[0].type = DTYPE_F32;
        info->input[0].sh = SHAPE(ds->channels, ds->height, ds->width);
    }
    return augment_fits(ds, src);
}

/* A known data set brings its own normalisation where none is given, and the names of its classes. */
static void recognise(dataset *ds)
{
    data_options *o = &ds->o;
    const known_set *k = known_find(ds->info.sha256);
    if (!k)
        return;
    ds->info.known = k->name;
    if (o->n_mean == 0 && o->n_std == 0 && ds->info.image && (uint32_t)ds->channels == k->channels) {
        o->n_mean = o->n_std = k->channels;
        memcpy(o->mean, k->mean, k->channels * sizeof *o->mean);
        memcpy(o->std, k->std, k->channels * sizeof *o->std);
    }
}

/* float32 in PyTorch's order: divide, subtract, divide. */
static void fill_table(dataset *ds)
{
    for (uint32_t k = 0; k < (uint32_t)ds->channels; k++)
        for (int v = 0; v < 256; v++)
            ds->lut[k * 256 + (uint32_t)v] = ((float)v / 255.0f - ds->mean[k]) / ds->std[k];
}

/* mean, std and the table of normalised pixels. */
static status make_tables(dataset *ds)
{
    const data_options *o = &ds->o;
    uint32_t C = (uint32_t)ds->channels;
    if ((o->n_mean > 1 && o->n_mean != C) || (o->n_std > 1 && o->n_std != C))
        return fail(ST_CONFIG,
                    "data: %u means and %u stds for %u channels; give one, or one for each channel",
                    o->n_mean, o->n_std, C);
    TRY(mem_alloc(&ds->mean, C, sizeof *ds->mean));
    TRY(mem_alloc(&ds->std, C, sizeof *ds->std));
    TRY(mem_alloc(&ds->lut, (size_t)C * 256, sizeof *ds->lut));
    for (uint32_t k = 0; k < C; k++) {
        ds->mean[k] = o->n_mean ? o->mean[o->n_mean > 1 ? k : 0] : 0.0f;
        ds->std[k] = o->n_std ? o->std[o->n_std > 1 ? k : 0] : 1.0f;
    }
    fill_table(ds);
    return ST_OK;
}

void dataset_normalise(dataset *ds, const float *mean, const float *std)
{
    for (int64_t k = 0; ds->info.mean && k < ds->channels; k++) {
        ds->mean[k] = mean[k];
        ds->std[k] = std[k];
    }
    if (ds->info.mean)
        fill_table(ds);
}

/* ---- labels ---- */

static status check_labels(const dataset *ds, data_part p, int64_t classes)
{
    const source *s = ds->part[p].src;
    for (uint32_t i = 0; s->label && !s->target.data && i < s->n; i++)
        if (s->label[i] >= classes)
            return fail(ST_BAD_DATA, "%s: label %" PRId64 " of sample %u is outside the %" PRId64 " classes",
                        s->place, s->label[i], i, classes);
    return ST_OK;
}

static int64_t largest_label(const source *s)
{
    int64_t most = -1;
    for (uint32_t i = 0; s->label && !s->target.data && i < s->n; i++)
        most = s->label[i] > most ? s->label[i] : most;
    return most;
}

#define CLASSES_MAX ((int64_t)1 << 24)

static status count_labels(dataset *ds)
{
    data_info *info = &ds->info;
    const source *train = ds->part[DATA_TRAIN].src, *val = ds->part[DATA_VAL].src;
    int64_t classes = ds->o.classes;
    if (train->target.data) {
        info->target_size = shape_count(&train->target.sh) / train->n;
        info->target = shape_from(train->target.sh.dim + 1, (size_t)train->target.sh.rank - 1);
    }
    if (!classes && !train->target.data) {
        classes = ds->set.n_classes;
        int64_t a = largest_label(train) + 1, b = largest_label(val) + 1;
        classes = a > classes ? a : classes;
        classes = b > classes ? b : classes;
    }
    if (classes > CLASSES_MAX)
        return fail(ST_BAD_DATA, "%s: label %" PRId64 " would mean %" PRId64 " classes", train->place,
                    classes - 1, classes);
    if (train->target.data)
        classes = 0;
    for (int p = 0; p < DATA_PARTS && classes; p++)
        TRY(check_labels(ds, (data_part)p, classes));
    info->classes = classes;
    const known_set *known = known_find(info->sha256);
    info->class_name = ds->set.n_classes == classes ? ds->set.class_name : NULL;
    if (!info->class_name && known && known->classes == classes)
        info->class_name = known->class_name;
    info->mean = ds->mean;
    info->std = ds->std;
    if (classes)
        TRY(mem_alloc(&ds->histogram, (size_t)classes * DATA_PARTS, sizeof *ds->histogram));
    for (int p = 0; p < DATA_PARTS; p++) {
        uint64_t *h = ds->histogram ? ds->histogram + (size_t)p * (size_t)classes : NULL;
        info->part[p].n = ds->part[p].n;
        info->part[p].histogram = h;
        for (uint32_t i = 0; i < ds->part[p].n; i++) {
            int64_t label = dataset_label(ds, (data_part)p, i);
            info->part[p].labelled += label >= 0;
            if (h && label >= 0)
                h[label]++;
        }
    }
    return ST_OK;
}

/* ---- image files: what is known of each, and the cache ---- */

static status make_cache(dataset *ds, data_rows *part)
{
    if (part->src->kind != SOURCE_FILES || part->n == 0)
        return ST_OK;
    TRY(mem_alloc(&part->state, part->n, sizeof *part->state));
    size_t bytes;
    if (ds->o.augment.scale_max > 0 && part == &ds->part[DATA_TRAIN])
        return ST_OK;
    if (!size_mul(ds->item, part->n, &bytes) || bytes > ds->o.cache_bytes)
        return ST_OK;
    TRY(mem_map(&part->cache, bytes));
    part->cache_bytes = bytes;
    return ST_OK;
}

static status open_into(dataset *ds, const data_options *o)
{
    TRY(check_options(o));
    TRY(mem_strdup(&ds->path, o->path ? o->path : o->train));
    ds->info.path = ds->path;
    if (pthread_mutex_init(&ds->lock, NULL) != 0)
        return fail(ST_OOM, "data: no mutex");
    ds->lock_made = true;
    TRY(load_sources(o, &ds->set));
    TRY(hash_sha256_hex(ds->set.identity.s ? ds->set.identity.s : "", ds->set.identity.n, ds->info.sha256));
    text_free(&ds->set.identity);
    ds->info.kind = ds->set.format;
    if (ds->set.has_val)
        TRY(check_val(&ds->set));
    TRY(dataset_make_parts(ds, o));
    TRY(describe_inputs(ds));
    recognise(ds);
    if (ds->info.image)
        TRY(make_tables(ds));
    TRY(count_labels(ds));
    for (int p = 0; p < DATA_PARTS; p++)
        TRY(make_cache(ds, &ds->part[p]));
    return ST_OK;
}

status dataset_open(const data_options *o, dataset **out)
{
    dataset *ds;
    *out = NULL;
    TRY(mem_alloc(&ds, 1, sizeof *ds));
    ds->o = *o;
    status st = open_into(ds, o);
    ds->o.path = ds->o.train = ds->o.labels = ds->o.val = ds->o.val_labels = ds->o.samples = ds->o.labelled =
        NULL;
    if (st != ST_OK) {
        dataset_close(ds);
        return st;
    }
    *out = ds;
    return ST_OK;
}

void dataset_close(dataset *ds)
{
    if (!ds)
        return;
    for (int p = 0; p < DATA_PARTS; p++) {
        data_rows *part = &ds->part[p];
        mem_free(part->id);
        mem_free((void *)part->state);
        mem_unmap(part->cache, part->cache_bytes);
    }
    source_set_free(&ds->set);
    for (size_t i = 0; i < ds->n_bad; i++)
        mem_free(ds->bad[i].reason);
    mem_free(ds->bad);
    if (ds->lock_made)
        pthread_mutex_destroy(&ds->lock);
    mem_free(ds->histogram);
    mem_free(ds->lut);
    mem_free(ds->mean);
    mem_free(ds->std);
    mem_free(ds->path);
    mem_free(ds);
}

/* ---- facts ---- */

const data_info *dataset_info(const dataset *ds)
{
    return &ds->info;
}

size_t dataset_bytes(const dataset *ds)
{
    size_t sum = 0;
    for (int p = 0; p < DATA_PARTS; p++) {
        const source *src = &ds->set.part[p];
        for (uint32_t j = 0; j < src->n_in; j++)
            sum += tensor_bytes(&src->in[j]);
        sum += tensor_bytes(&src->target) + (src->label ? src->n * sizeof *src->label : 0);
        sum += ds->part[p].cache_bytes + ds->part[p].n * sizeof *ds->part[p].id;
    }
    return sum;
}

uint32_t dataset_source_index(const dataset *ds, data_part p, uint32_t i)
{
    return ds->part[p].id[i];
}

uint32_t dataset_source_size(const dataset *ds, data_part p)
{
    return ds->part[p].src->n;
}

int64_t dataset_label(const dataset *ds, data_part p, uint32_t i)
{
    const data_rows *part = &ds->part[p];
    if (part->src->label)
        return part->src->label[part->id[i]];
    return part->src->target.data ? 0 : -1;
}

const float *dataset_target(const dataset *ds, data_part p, uint32_t i)
{
    const data_rows *part = &ds->part[p];
    if (!part->src->target.data || dataset_label(ds, p, i) < 0)
        return NULL;
    return (const float *)part->src->target.data + (size_t)part->id[i] * (size_t)ds->info.target_size;
}

const char *dataset_file(const dataset *ds, data_part p, uint32_t i)
{
    const data_rows *part = &ds->part[p];
    return part->src->file ? part->src->file[part->id[i]] : NULL;
}

static void floats_as_pixels(const dataset *ds, const float *from, uint8_t *to)
{
    size_t area = (size_t)ds->height * (size_t)ds->width, C = (size_t)ds->channels;
    float low = from[0], high = from[0];
    for (size_t i = 0; i < area * C; i++) {
        low = from[i] < low ? from[i] : low;
        high = from[i] > high ? from[i] : high;
    }
    float scale = high > low ? 255 / (high - low) : 0;
    for (size_t k = 0; k < C; k++)
        for (size_t i = 0; i < area; i++) {
            float v = (from[k * area + i] - low) * scale;
            to[i * C + k] = v >= 255 ? 255 : v > 0 ? (uint8_t)v : 0;
        }
}

status dataset_pixels(dataset *ds, data_part p, uint32_t i, image *to)
{
    sampler s;
    if (!ds->info.image)
        return fail(ST_BAD_DATA, "%s: holds rows, not images", ds->path);
    TRY(image_reserve(to, ds->height, ds->width, ds->channels));
    const data_rows *part = &ds->part[p];
    if (part->src->kind == SOURCE_FLOATS) {
        floats_as_pixels(ds, (const float *)part->src->in[0].data + (size_t)part->id[i] * ds->item, to->px);
        return ST_OK;
    }
    TRY(sampler_open(&s, ds));
    const uint8_t *px;
    int32_t c;
    status st = sample_pixels(&s, p, i, &px, &c);
    for (size_t k = 0; st == ST_OK && k < ds->item; k++)
        to->px[k] = px[c == ds->channels ? k : k / (size_t)ds->channels];
    sampler_close(&s);
    return st;
}
