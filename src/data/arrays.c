/* arrays.c - idx, npy and npz files as a data set.
 *
 * In: paths. Out: a source whose inputs are pixels [n,H,W,C] (uint8), float images [n,C,H,W] or rows of
 * floats or integers, with class labels or float targets. Which array is what follows from its name (the
 * table below), how it is used from its type and rank (data.h). */
#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "data/gzip.h"
#include "data/idx.h"
#include "data/npy.h"
#include "data/source.h"
#include "data/zip.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- names: "<part><role>" with what may stand in a folder or an npz ---- */

typedef struct known_name {
    data_part part;
    bool is_label;
    const char *name;
} known_name;

/* In order of preference. */
static const known_name known_files[] = {
    {DATA_TRAIN, false, "train-images-idx3-ubyte"}, {DATA_TRAIN, true, "train-labels-idx1-ubyte"},
    {DATA_VAL, false, "t10k-images-idx3-ubyte"},    {DATA_VAL, true, "t10k-labels-idx1-ubyte"},
    {DATA_TRAIN, false, "train-images.idx3-ubyte"}, {DATA_TRAIN, true, "train-labels.idx1-ubyte"},
    {DATA_VAL, false, "t10k-images.idx3-ubyte"},    {DATA_VAL, true, "t10k-labels.idx1-ubyte"},
};
static const known_name known_arrays[] = {
    {DATA_TRAIN, false, "x_train"},      {DATA_TRAIN, true, "y_train"},      {DATA_VAL, false, "x_val"},
    {DATA_VAL, true, "y_val"},           {DATA_VAL, false, "x_test"},        {DATA_VAL, true, "y_test"},
    {DATA_TRAIN, false, "train_images"}, {DATA_TRAIN, true, "train_labels"}, {DATA_VAL, false, "val_images"},
    {DATA_VAL, true, "val_labels"},      {DATA_VAL, false, "test_images"},   {DATA_VAL, true, "test_labels"},
};
static const known_name plain_arrays[] = {
    {DATA_TRAIN, true, "y"},      {DATA_TRAIN, true, "label"},   {DATA_TRAIN, true, "labels"},
    {DATA_TRAIN, true, "target"}, {DATA_TRAIN, true, "targets"}, {DATA_TRAIN, true, "arr_1"},
};
#define COUNT(a) (sizeof(a) / sizeof *(a))

typedef struct found {
    char *path[DATA_PARTS][2]; /* [part][is_label] */
} found;

static void found_free(found *f)
{
    for (int p = 0; p < DATA_PARTS; p++)
        for (int l = 0; l < 2; l++)
            mem_free(f->path[p][l]);
}

static status look_for(const char *dir, const known_name *names, size_t n, const char *const *suffixes,
                       found *f)
{
    for (size_t i = 0; i < n; i++)
        for (const char *const *s = suffixes; *s; s++) {
            char name[64], **to = &f->path[names[i].part][names[i].is_label];
            snprintf(name, sizeof name, "%s%s", names[i].name, *s);
            if (*to)
                continue;
            TRY(path_join(to, dir, name));
            if (!io_exists(*to)) {
                mem_free(*to);
                *to = NULL;
            }
        }
    return ST_OK;
}

static status find_in_folder(const char *dir, found *f)
{
    static const char *const idx_suffixes[] = {"", ".gz", NULL}, *const npy_suffixes[] = {".npy", NULL};
    *f = (found){0};
    status st = look_for(dir, known_files, COUNT(known_files), idx_suffixes, f);
    if (st == ST_OK && !f->path[DATA_TRAIN][0])
        st = look_for(dir, known_arrays, COUNT(known_arrays), npy_suffixes, f);
    if (st != ST_OK)
        found_free(f);
    return st;
}

static bool ends_with(const char *s, const char *end)
{
    size_t a = strlen(s), b = strlen(end);
    return a >= b && strcmp(s + a - b, end) == 0;
}

static status recognise(const char *path, bool is_dir, bool *yes)
{
    if (!is_dir) {
        *yes = ends_with(path, ".npy") || ends_with(path, ".npz") || ends_with(path, "-ubyte") ||
               ends_with(path, ".idx") || ends_with(path, ".gz");
        return ST_OK;
    }
    found f;
    TRY(find_in_folder(path, &f));
    *yes = f.path[DATA_TRAIN][0] != NULL;
    found_free(&f);
    return ST_OK;
}

/* ---- one file to a tensor ---- */

static status parse_array(const char *path, unsigned char *bytes, size_t n, const limits *lim, tensor *out,
                          const char **format)
{
    if (npy_is(bytes, n)) {
        *format = "npy";
        return npy_parse(path, bytes, n, lim, out);
    }
    if (idx_is(bytes, n)) {
        *format = "idx";
        return idx_parse(path, bytes, n, lim, out);
    }
    char start[13] = {0};
    for (size_t i = 0; i < n && i < 4; i++)
        snprintf(start + 3 * i, 4, "%02x ", bytes[i]);
    mem_free(bytes);
    *out = (tensor){0};
    return fail(ST_BAD_DATA,
                "%s: neither npy nor idx (starts with %s); npy starts with 93 4e 55 4d, idx with 00 00 and a "
                "type code",
                path, n ? start : "nothing");
}

static status read_array(const char *path, const limits *lim, tensor *out, const char **format)
{
    unsigned char *bytes;
    size_t n;
    *out = (tensor){0};
    TRY(gzip_read_file(path, lim, &bytes, &n));
    if (zip_is(bytes, n)) {
        mem_free(bytes);
        return fail(ST_BAD_DATA, "%s: is an npz; give it as the data path, or one array as npy", path);
    }
    return parse_array(path, bytes, n, lim, out, format);
}

/* One identity line: role, type, shape, SHA-256 of the array's bytes. */
static status identify(text *identity, const char *part, const char *role, const tensor *t)
{
    char sha[65], sh[200];
    TRY(hash_sha256_hex(t->data, tensor_bytes(t), sha));
    text_printf(identity, "%s %s %s %s %s\n", part, role, dtype_of(t->type)->name, shape_print(&t->sh, sh),
                sha);
    return identity->st;
}

static const char *const part_name[DATA_PARTS] = {"train", "val"};

/* ---- labels ---- */

static int64_t load_int(const tensor *t, int64_t i)
{
    switch (t->type) {
#define LOAD(e, c, size, name, onnx, st, npy)                                                                \
    case DTYPE_##e:                                                                                          \
        return (int64_t)((const c *)t->data)[i];
        DTYPES(LOAD)
#undef LOAD
    case DTYPE_NONE:
    case DTYPE_COUNT:
        break;
    }
    return 0;
}

static bool is_int(dtype t)
{
    return !dtype_of(t)->is_float;
}

static status check_finite(const char *path, const tensor *t)
{
    const float *v = t->data;
    int64_t n = shape_count(&t->sh), row = n / t->sh.dim[0];
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return fail(ST_BAD_DATA,
                        "%s: element %" PRId64 " of sample %" PRId64 " is %f; every number must be finite",
                        path, i % row, i / row, (double)v[i]);
    return ST_OK;
}

/* Takes t: integers [n] or [n,1] become class labels, floats [n,...] targets. */
static status take_labels(source *s, const char *path, tensor *t)
{
    char sh[200];
    status st = ST_OK;
    if (t->sh.rank < 1 || t->sh.dim[0] != s->n) {
        st = fail(ST_BAD_DATA, "%s: labels of shape %s for %" PRIu32 " samples in %s", path,
                  shape_print(&t->sh, sh), s->n, s->place);
    } else if (!is_int(t->type)) {
        st = tensor_convert(&s->target, t, DTYPE_F32);
        if (st == ST_OK)
            st = check_finite(path, &s->target);
    } else if (shape_count(&t->sh) != s->n) {
        st = fail(ST_BAD_DATA, "%s: integer labels need one number a sample, the shape is %s", path,
                  shape_print(&t->sh, sh));
    } else {
        st = mem_alloc(&s->label, s->n, sizeof *s->label);
        for (uint32_t i = 0; i < s->n && st == ST_OK; i++) {
            s->label[i] = load_int(t, i);
            if (s->label[i] < -1 || s->label[i] > INT32_MAX)
                st = fail(ST_BAD_DATA, "%s: label %" PRId64 " of sample %" PRIu32 " is outside [-1, 2^31)",
                          path, s->label[i], i);
        }
    }
    tensor_free(t);
    return st;
}

/* ---- inputs ---- */

static bool is_nhwc(const data_options *o, const shape *s)
{
    if (o->layout != DATA_LAYOUT_AUTO)
        return o->layout == DATA_NHWC;
    return s->dim[3] <= 4 && s->dim[1] > 4;
}

/* Every [a, b] matrix of elements within t becomes [b, a], in place. */
static status transpose_each(tensor *t, int64_t n, size_t a, size_t b)
{
    size_t size = dtype_of(t->type)->size, bytes = a * b * size;
    unsigned char *one;
    if (a == 1 || b == 1)
        return ST_OK;
    TRY(mem_alloc(&one, bytes, 1));
    for (int64_t k = 0; k < n; k++) {
        unsigned char *at = (unsigned char *)t->data + (size_t)k * bytes;
        memcpy(one, at, bytes);
        for (size_t i = 0; i < a; i++)
            for (size_t j = 0; j < b; j++)
                memcpy(at + (j * a + i) * size, one + (i * b + j) * size, size);
    }
    mem_free(one);
    return ST_OK;
}

/* Images: uint8 to [n,H,W,C], floats to [n,C,H,W]. */
static status take_images(const data_options *o, source *s, tensor *t)
{
    shape *sh = &t->sh;
    bool pixels = t->type == DTYPE_U8;
    if (sh->rank == 3)
        *sh = SHAPE(sh->dim[0], sh->dim[1], sh->dim[2], 1);
    else {
        bool nhwc = is_nhwc(o, sh);
        int64_t c = sh->dim[nhwc ? 3 : 1], h = sh->dim[nhwc ? 1 : 2], w = sh->dim[nhwc ? 2 : 3];
        if (pixels && !nhwc)
            TRY(transpose_each(t, sh->dim[0], (size_t)c, (size_t)(h * w)));
        if (!pixels && nhwc)
            TRY(transpose_each(t, sh->dim[0], (size_t)(h * w), (size_t)c));
        *sh = pixels ? SHAPE(sh->dim[0], h, w, c) : SHAPE(sh->dim[0], c, h, w);
    }
    s->kind = pixels ? SOURCE_PIXELS : SOURCE_FLOATS;
    return ST_OK;
}

/* Integers of any width to int64 or int32, exactly. */
static status widen_ints(const data_options *o, const char *path, tensor *t)
{
    if (t->type == o->int_type)
        return ST_OK;
    tensor to;
    int64_t n = shape_count(&t->sh);
    TRY(tensor_new(&to, t->name, o->int_type, t->sh));
    for (int64_t i = 0; i < n; i++) {
        int64_t v = load_int(t, i);
        bool wide = o->int_type == DTYPE_I64,
             fits = wide ? t->type != DTYPE_U64 || v >= 0 : v >= INT32_MIN && v <= INT32_MAX;
        if (!fits) {
            tensor_free(&to);
            return fail(ST_BAD_DATA, "%s: element %" PRId64 " does not fit %s", path, i,
                        dtype_of(o->int_type)->name);
        }
        if (wide)
            ((int64_t *)to.data)[i] = v;
        else
            ((int32_t *)to.data)[i] = (int32_t)v;
    }
    tensor_free(t);
    *t = to;
    return ST_OK;
}

/* Makes t (still owned by the caller on failure) an input. */
static status take_input(const data_options *o, source *s, const char *path, tensor *t)
{
    char sh[200];
    bool first = s->n_in == 0;
    if (s->n_in == DATA_INPUTS)
        return fail(ST_BAD_DATA, "%s: more than %d inputs", path, DATA_INPUTS);
    if (t->sh.rank < 1 || (!first && t->sh.dim[0] != s->n))
        return fail(ST_BAD_DATA, "%s: input of shape %s; the first dimension must be the number of samples%s",
                    path, shape_print(&t->sh, sh), first ? "" : ", the same in all inputs");
    if (t->sh.dim[0] < 1 || (uint64_t)t->sh.dim[0] > o->lim.samples)
        return fail(ST_BAD_DATA,
                    "%s: %" PRId64 " samples; at least 1 and at most limits.samples = %" PRIu64
                    " can be used",
                    path, t->sh.dim[0], o->lim.samples);
    if (shape_count(&t->sh) == 0)
        return fail(ST_BAD_DATA, "%s: samples of shape %s are empty", path, shape_print(&t->sh, sh));
    s->n = (uint32_t)t->sh.dim[0];
    if (t->type == DTYPE_U8 && first && (t->sh.rank == 3 || t->sh.rank == 4)) {
        TRY(take_images(o, s, t));
    } else if (is_int(t->type)) {
        s->kind = SOURCE_ROWS;
        TRY(widen_ints(o, path, t));
    } else {
        s->kind = SOURCE_ROWS;
        if (t->type != DTYPE_F32) {
            tensor f;
            TRY(tensor_convert(&f, t, DTYPE_F32));
            tensor_free(t);
            *t = f;
        }
        TRY(check_finite(path, t));
        if (first && t->sh.rank == 4)
            TRY(take_images(o, s, t));
    }
    if (s->kind != SOURCE_ROWS)
        for (int d = 1; d < 4; d++)
            if (t->sh.dim[d] > INT32_MAX)
                return fail(ST_BAD_DATA, "%s: images of shape %s are too large", path,
                            shape_print(&t->sh, sh));
    s->in[s->n_in++] = *t;
    *t = (tensor){0};
    return ST_OK;
}

static status load_part(const data_options *o, const char *path, const char *labels, data_part part,
                        source_set *set)
{
    source *s = &set->part[part];
    const char *ignored;
    tensor t;
    TRY(mem_strdup(&s->place, path));
    TRY(read_array(path, &o->lim, &t, &set->format));
    status st = identify(&set->identity, part_name[part], "input", &t);
    if (st == ST_OK)
        st = take_input(o, s, path, &t);
    tensor_free(&t);
    TRY(st);
    if (!labels)
        return ST_OK;
    TRY(read_array(labels, &o->lim, &t, &ignored));
    st = identify(&set->identity, part_name[part], "label", &t);
    if (st != ST_OK) {
        tensor_free(&t);
        return st;
    }
    return take_labels(s, labels, &t);
}

/* ---- npz ---- */

static const known_name *name_in(const known_name *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i].name, name) == 0)
            return &names[i];
    return NULL;
}

/* Which part and role a member has. With names such as x_train, only such names count. */
static bool classify(const char *name, bool parts, data_part *part, bool *is_label)
{
    const known_name *k = parts ? name_in(known_arrays, COUNT(known_arrays), name)
                                : name_in(plain_arrays, COUNT(plain_arrays), name);
    *part = k ? k->part : DATA_TRAIN;
    *is_label = k && k->is_label;
    return k || !parts;
}

/* Inputs first (labels are checked against their number), then labels. */
static status take_members(const data_options *o, const char *path, tensor_list *l, bool parts,
                           bool want_label, source_set *set)
{
    for (size_t i = 0; i < l->n; i++) {
        data_part part;
        bool is_label;
        char where[512];
        tensor *t = &l->at[i];
        if (!t->name || !classify(t->name, parts, &part, &is_label) || is_label != want_label)
            continue; /* without a name: already taken */
        source *s = &set->part[part];
        snprintf(where, sizeof where, "%s: array '%s'", path, t->name);
        if (parts && (want_label ? s->label || s->target.data : s->n_in > 0))
            continue; /* x_test beside x_val */
        TRY(identify(&set->identity, part_name[part], t->name, t));
        if (!s->place)
            TRY(mem_strdup(&s->place, path));
        if (want_label && !s->n_in)
            return fail(ST_BAD_DATA, "%s: labels without their input", where);
        if (want_label) {
            tensor taken = *t;
            *t = (tensor){0};
            TRY(take_labels(s, where, &taken));
        } else {
            TRY(take_input(o, s, where, t));
        }
    }
    return ST_OK;
}

static status load_npz(const data_options *o, const char *path, source_set *set)
{
    tensor_list l;
    bool parts = false;
    TRY(npz_read(path, &o->lim, &l));
    for (size_t i = 0; i < l.n; i++)
        parts |= strcmp(l.at[i].name, "x_train") == 0 || strcmp(l.at[i].name, "train_images") == 0;
    set->format = "npz";
    status st = take_members(o, path, &l, parts, false, set);
    if (st == ST_OK)
        st = take_members(o, path, &l, parts, true, set);
    if (st == ST_OK && !set->part[DATA_TRAIN].n_in)
        st = fail(ST_BAD_DATA, "%s: no input array among %zu members; call it x_train, train_images or x",
                  path, l.n);
    set->has_val = set->part[DATA_VAL].n_in > 0;
    tensor_list_free(&l);
    return st;
}

static status load(const data_options *o, const char *path, source_set *set)
{
    if (!io_is_dir(path))
        return ends_with(path, ".npz") ? load_npz(o, path, set) : load_part(o, path, NULL, DATA_TRAIN, set);
    found f;
    TRY(find_in_folder(path, &f));
    status st =
        f.path[DATA_TRAIN][0]
            ? ST_OK
            : fail(ST_NO_INPUT, "%s: neither train-images-idx3-ubyte[.gz] nor x_train.npy in it", path);
    if (st == ST_OK)
        st = load_part(o, f.path[DATA_TRAIN][0], f.path[DATA_TRAIN][1], DATA_TRAIN, set);
    if (st == ST_OK && f.path[DATA_VAL][0]) {
        st = load_part(o, f.path[DATA_VAL][0], f.path[DATA_VAL][1], DATA_VAL, set);
        set->has_val = true;
    }
    found_free(&f);
    return st;
}

const data_format format_arrays = {
    .kind = DATA_ARRAYS,
    .looked_for =
        "train-images-idx3-ubyte[.gz], x_train.npy, train_images.npy; a file .npy, .npz, .idx, -ubyte, .gz",
    .recognise = recognise,
    .load = load,
    .load_part = load_part,
};
