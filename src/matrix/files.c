/* files.c - scans a run folder for what it ships. See files.h. */
#include "matrix/files.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/io_shared.h"
#include "base/log.h"
#include "matrix/faults.h"
#include "matrix/runtimes.h"
#include "ncnn/write.h"
#include "onnx/import.h"
#include "ops/qdq.h"
#include "quant/operator_form.h"
#include "quant/portable.h"
#include "quant/saturate.h"
#include "tflite/write.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 64, FORMS = 4 };

/* Columns stand in this order, others behind, the teacher's last. */
static const char *const order[] = {"fp32", "fp16", "bf16", "int8-ptq", "int8-qat", "portable", "portable-s8"};

typedef struct found {
    const char *key, *path; /* the variant, its ONNX file */
    bool teacher;
    size_t rank;
} found;

typedef struct finder {
    const char *run;
    const job *j;
    const data_info *data;
    matrix *m;
    found at[COLUMNS_MAX];
    size_t n;
} finder;

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && strcmp(s + n - k, end) == 0;
}

static bool wanted(const char *key, const char *const *patterns, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (runtimes_match(patterns[i], key))
            return true;
    return n == 0;
}

static void add_found(finder *f, const char *key, const char *path)
{
    const size_t n = sizeof order / sizeof *order;
    size_t rank = 0;
    bool teacher = strncmp(key, "teacher-", 8) == 0;
    const char *plain = teacher ? key + 8 : key;
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->at[i].key, key) == 0)
            return;
    if (f->n == COLUMNS_MAX) {
        log_warn("%s: more than %d variants; %s is left out", f->run, COLUMNS_MAX, key);
        return;
    }
    while (rank < n && strcmp(order[rank], plain) != 0)
        rank++;
    f->at[f->n++] = (found){key, path, teacher, rank + (teacher ? 2 * n : 0)};
    for (size_t i = f->n - 1; i > 0 && f->at[i].rank < f->at[i - 1].rank; i--) {
        found x = f->at[i];
        f->at[i] = f->at[i - 1];
        f->at[i - 1] = x;
    }
}

static status find_exports(finder *f, const char *const *patterns, size_t n_patterns)
{
    const char *dir, *key, *path;
    char **names;
    size_t n;
    status st = ST_OK;
    TRY(arena_printf(&f->m->mem, &dir, "%s/export", f->run));
    if (!io_is_dir(dir))
        return ST_OK;
    TRY(io_list(dir, 10000, &names, &n));
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        size_t length = strlen(names[i]);
        if (strncmp(names[i], "student.", 8) != 0 || !ends_with(names[i], ".onnx") || length < 14)
            continue;
        st = arena_printf(&f->m->mem, &key, "%.*s", (int)(length - 13), names[i] + 8);
        if (st == ST_OK)
            st = arena_printf(&f->m->mem, &path, "%s/%s", dir, names[i]);
        if (st == ST_OK && wanted(key, patterns, n_patterns))
            add_found(f, key, path);
    }
    io_list_free(names, n);
    return st;
}

static status find_all(finder *f, const char *const *patterns, size_t n)
{
    const char *student, *teacher = f->j->teacher.path;
    TRY(arena_printf(&f->m->mem, &student, "%s/student.onnx", f->run));
    if (!io_exists(student))
        return fail(ST_NO_INPUT, "%s: there is no student.onnx; a finished run is needed", f->run);
    if (wanted("fp32", patterns, n))
        add_found(f, "fp32", student);
    TRY(find_exports(f, patterns, n));
    if (wanted("teacher-fp32", patterns, n) && *teacher && io_exists(teacher))
        add_found(f, "teacher-fp32", teacher);
    return f->n ? ST_OK : fail(ST_CONFIG, "%s: no variant fits matrix.variants", f->run);
}

/* ---- forms ---- */

static status add_file(finder *f, matrix_column *c, const char *form, const char *path)
{
    const size_t n = strlen(f->run);
    char *hash;
    io_facts facts;
    matrix_file *to = &c->files[c->n_files];
    TRY(arena_alloc(&f->m->mem, &hash, 65, 1));
    TRY(hash_sha256_file(path, hash));
    TRY(io_look(path, &facts));
    bool inside = strncmp(path, f->run, n) == 0 && path[n] == '/';
    *to = (matrix_file){.form = form, .sha256 = hash, .bytes = (int64_t)facts.size};
    char absolute[PATH_MAX];
    TRY(arena_strdup(&f->m->mem, &to->path, inside ? path + n + 1 : realpath(path, absolute) ? absolute : path));
    c->n_files++;
    return ST_OK;
}

/* .param and .bin are one thing: the hash is of both hashes. */
static status add_ncnn(finder *f, matrix_column *c, const char *path)
{
    const char *bin;
    char both[129], hash[65], *to;
    io_facts facts;
    TRY(arena_printf(&f->m->mem, &bin, "%.*s.bin", (int)(strlen(path) - 6), path));
    if (!io_exists(bin))
        return ST_OK;
    TRY(add_file(f, c, "ncnn", path));
    matrix_file *file = &c->files[c->n_files - 1];
    TRY(hash_sha256_file(bin, hash));
    TRY(io_look(bin, &facts));
    memcpy(both, file->sha256, 64);
    memcpy(both + 64, hash, 65);
    TRY(arena_alloc(&f->m->mem, &to, 65, 1));
    TRY(hash_sha256_hex(both, 128, to));
    file->sha256 = to;
    file->bytes += (int64_t)facts.size;
    return ST_OK;
}

/* A copy of the graph for a writer that may change it is not needed: they only read. */
static status make_form(finder *f, const found *from, const char *suffix, const graph *g, const char **path, const char **why)
{
    const char *dir;
    status st;
    *path = NULL;
    TRY(arena_printf(&f->m->mem, &dir, "%s/matrix/files", f->run));
    TRY(io_make_dirs(dir));
    TRY(arena_printf(&f->m->mem, path, "%s/%s%s", dir, from->key, suffix));
    if (strcmp(suffix, ".tflite") == 0)
        st = tflite_write_file(g, NULL, *path);
    else if (strcmp(suffix, ".qoperator.onnx") == 0)
        st = operator_form_write(g, *path);
    else
        st = ncnn_write_files(g, *path, NULL);
    if (st == ST_BAD_DATA) { /* there is no such form of it; the message names a file that was not made */
        const char *said = status_message();
        size_t n = strlen(*path);
        bool named = strncmp(said, *path, n) == 0 && strncmp(said + n, ": ", 2) == 0;
        *path = NULL;
        return arena_strdup(&f->m->mem, why, named ? said + n + 2 : said);
    }
    return st;
}

/* float16 files have casts and half constants that the other forms lack on purpose: those runtimes narrow a float32 file themselves. */
static status make_float_form(finder *f, const found *from, const char *suffix, const graph *g, const file_facts *x, const char **path,
                              const char **why)
{
    if (!x->half)
        return make_form(f, from, suffix, g, path, why);
    *path = NULL;
    *why = "float16 files are ONNX alone; this runtime takes the float32 file, and narrows it itself where it can";
    return ST_OK;
}

static status add_forms(finder *f, const found *from, const graph *g, matrix_column *c, file_facts *x)
{
    const char *path;
    int stem = (int)(strlen(from->path) - 5);
    TRY(arena_alloc(&f->m->mem, &c->files, FORMS, sizeof *c->files));
    TRY(add_file(f, c, "onnx", from->path));
    bool plain_student = strcmp(from->key, "fp32") == 0;
    if (plain_student) /* [export] variants = fp32 writes it there */
        TRY(arena_printf(&f->m->mem, &path, "%s/export/student.fp32.tflite", f->run));
    else
        TRY(arena_printf(&f->m->mem, &path, "%.*s.tflite", stem, from->path));
    if (!io_exists(path))
        TRY(make_float_form(f, from, ".tflite", g, x, &path, &x->no_tflite));
    if (path)
        TRY(add_file(f, c, "tflite", path));
    path = NULL;
    if (x->integers)
        TRY(make_form(f, from, ".qoperator.onnx", g, &path, &x->no_qoperator));
    else
        x->no_qoperator = "it computes in floats, and that form is of integers";
    if (path)
        TRY(add_file(f, c, "qoperator", path));
    TRY(arena_printf(&f->m->mem, &path, "%.*s.param", stem, from->path));
    if (!io_exists(path))
        TRY(make_float_form(f, from, ".param", g, x, &path, &x->no_ncnn));
    return path ? add_ncnn(f, c, path) : ST_OK;
}

/* ---- facts ---- */

static uint32_t parse_floats(const char *s, float *to)
{
    uint32_t n = 0;
    char one[64];
    while (*s && n < DATA_CHANNELS) {
        double v;
        size_t length = strcspn(s, ", ");
        if (length > 0 && length < sizeof one) {
            memcpy(one, s, length);
            one[length] = 0;
            if (parse_double(one, "input.mean", &v) != ST_OK)
                return 0;
            to[n++] = (float)v;
        }
        s += length + strspn(s + length, ", ");
    }
    return n;
}

static void read_meta(const onnx_model *m, file_facts *x)
{
    uint32_t means = 0, stds = 0;
    for (size_t i = 0; i < onnx_meta_count(m); i++) {
        const char *key, *said;
        onnx_meta(m, i, &key, &said);
        if (strcmp(key, "input.mean") == 0)
            means = parse_floats(said, x->mean);
        else if (strcmp(key, "input.std") == 0)
            stds = parse_floats(said, x->std);
    }
    x->normalised = means > 0 && means == stds;
    x->channels = means;
}

static bool any_node(const graph *g, bool (*is)(const node *))
{
    for (node_id i = 1; i < g->n_node; i++)
        if (is(graph_node(g, i)))
            return true;
    return false;
}

static bool any_half(const graph *g)
{
    for (value_id i = 1; i < g->n_value; i++)
        if (graph_value(g, i)->type == DTYPE_F16)
            return true;
    return false;
}

static status read_portable(const graph *g, file_facts *x)
{
    portable_report r = {0};
    status st = portable_check(g, PROFILE_NONE, &r);
    x->portable = st == ST_OK && r.n_fault == 0 && r.n_layer > 0;
    for (size_t i = 0; x->portable && i < r.n_input; i++)
        for (size_t k = 0; k < x->n_in; k++)
            if (strcmp(r.input[i].name, x->in[k].name) == 0) {
                x->in[k].scale = r.input[i].scale;
                x->in[k].low = r.input[i].low;
                x->in[k].high = r.input[i].high;
            }
    portable_free(&r);
    return st;
}

static status read_graph(finder *f, const graph *g, file_facts *x)
{
    const value *y = graph_value(g, g->output[0]);
    feed fit = {0};
    qdq q;
    if (f->data)
        TRY(feed_match(g, g->input, g->n_input, f->data, x->path, &fit));
    x->n_in = g->n_input;
    if (x->n_in > DATA_INPUTS)
        return fail(ST_BAD_DATA, "%s: %zu inputs; at most %d are possible", x->path, x->n_in, DATA_INPUTS);
    for (size_t i = 0; i < x->n_in; i++) {
        TRY(arena_strdup(&f->m->mem, &x->in[i].name, graph_value(g, g->input[i])->name));
        x->in[i].from = f->data ? fit.port[i].from : (uint32_t)i;
    }
    TRY(arena_strdup(&f->m->mem, &x->output, y->name));
    x->rank = y->sh.rank;
    x->width = y->sh.rank > 0 ? (size_t)(shape_count(&y->sh) / y->sh.dim[0]) : 1;
    x->integers = any_node(g, qdq_is_quantize);
    x->half = any_half(g);
    if (qdq_behind(g, g->output[0], &q) && q.n == 1) {
        x->out_scale = (double)q.scale[0];
        x->out_zero = qdq_zero(&q, 0);
        x->out_unsigned = q.type == DTYPE_U8;
    }
    if (x->integers) {
        x->may_saturate = saturation_measure(g).may;
        TRY(faults_find_concat_conv(g, &x->concat_conv));
        TRY(read_portable(g, x));
    }
    return ST_OK;
}

static status read_column(finder *f, const found *from, matrix_column *c, file_facts *x)
{
    onnx_model *m = NULL;
    graph *g = NULL;
    const char *output = from->teacher && strcmp(from->key, "teacher-fp32") == 0 ? f->j->teacher.output : "";
    const import_options o = {.outputs = *output ? &output : NULL, .n_outputs = *output ? 1 : 0};
    status st = ST_OK;
    *x = (file_facts){.path = from->path, .teacher = from->teacher};
    *c = (matrix_column){.variant = from->key, .model = from->teacher ? "teacher" : "student"};
    TRY_DONE(onnx_open(from->path, &f->j->limits, &m));
    TRY_DONE(onnx_import(m, &o, &g));
    g->n_output = 1;
    read_meta(m, x);
    TRY_DONE(read_graph(f, g, x));
    c->portable = x->portable;
    st = add_forms(f, from, g, c, x);
done:
    graph_free(g);
    onnx_close(m);
    return st;
}

status files_find(const char *run, const job *j, const char *const *patterns, size_t n, const data_info *data, matrix *m, file_facts **facts)
{
    finder f = {.run = run, .j = j, .data = data, .m = m};
    TRY(find_all(&f, patterns, n));
    TRY(arena_alloc(&m->mem, &m->columns, f.n, sizeof *m->columns));
    TRY(arena_alloc(&m->mem, facts, f.n, sizeof **facts));
    for (size_t i = 0; i < f.n; i++) {
        TRY(read_column(&f, &f.at[i], &m->columns[i], &(*facts)[i]));
        m->n_columns = i + 1;
    }
    return ST_OK;
}

const char *files_why_not(const file_facts *x, const char *form)
{
    const struct {
        const char *form, *why;
    } forms[] = {{"tflite", x->no_tflite}, {"ncnn", x->no_ncnn}, {"qoperator", x->no_qoperator}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(forms[i].form, form) == 0)
            return forms[i].why;
    return NULL;
}

status files_path(const char *run, const matrix_column *c, const char *form, arena *mem, const matrix_file **file, const char **path)
{
    *file = NULL;
    for (size_t i = 0; i < c->n_files; i++)
        if (strcmp(c->files[i].form, form) == 0)
            *file = &c->files[i];
    if (!*file)
        return ST_OK;
    if ((*file)->path[0] == '/')
        return arena_strdup(mem, path, (*file)->path);
    TRY(arena_printf(mem, path, "%s/%s", run, (*file)->path));
    return ST_OK;
}
