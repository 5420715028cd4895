/* matrix.c - matrix.json out and in; the layout stands in matrix.h. */
#include "matrix/matrix.h"
#include "base/io.h"
#include "base/limits.h"
#include "matrix/matrix_json.h"

#include <math.h>
#include <string.h>

#define FILE_MAX    ((uint64_t)256 << 20)
#define LINES_MAX   10000     /* rows, columns */
#define SAMPLES_MAX 100000000 /* of a set */
#define LIST_MAX    1000000   /* latencies, classes */
#define SCHEMA      1

static const char *const state_name[CELL_STATES] = {
    [CELL_OK] = "ok",           [CELL_DIFFERS] = "differs",         [CELL_CRASH] = "crash",
    [CELL_TIMEOUT] = "timeout", [CELL_UNSUPPORTED] = "unsupported", [CELL_NOT_RUN] = "not run here",
};

const char *cell_state_name(cell_state s)
{
    return s < CELL_STATES ? state_name[s] : "?";
}

/* The members of a cell that are one value: writing and reading go through this list. */
typedef enum field_kind { FIELD_STRING, FIELD_NUMBER, FIELD_COUNT, FIELD_INT, FIELD_BOOL } field_kind;
typedef struct field {
    const char *name;
    field_kind kind;
    size_t at;
} field;
#define FIELD(name, kind) {#name, kind, offsetof(matrix_cell, name)}
static const field fields[] = {
    FIELD(reason, FIELD_STRING),        FIELD(engine, FIELD_STRING),        FIELD(version, FIELD_STRING),
    FIELD(build, FIELD_STRING),         FIELD(device, FIELD_STRING),        FIELD(isa, FIELD_STRING),
    FIELD(providers, FIELD_STRING),     FIELD(notes, FIELD_STRING),         FIELD(host, FIELD_STRING),
    FIELD(log, FIELD_STRING),           FIELD(key, FIELD_STRING),           FIELD(when, FIELD_INT),
    FIELD(cached, FIELD_BOOL),          FIELD(emulated, FIELD_BOOL),        FIELD(images, FIELD_COUNT),
    FIELD(accuracy, FIELD_NUMBER),      FIELD(accuracy_low, FIELD_NUMBER),  FIELD(accuracy_high, FIELD_NUMBER),
    FIELD(error, FIELD_NUMBER),         FIELD(labelled, FIELD_COUNT),       FIELD(correct, FIELD_COUNT),
    FIELD(worst_class, FIELD_COUNT),    FIELD(worst_class_accuracy, FIELD_NUMBER),
    FIELD(disagree, FIELD_COUNT),       FIELD(flips, FIELD_COUNT),          FIELD(max_error, FIELD_NUMBER),
    FIELD(mean_error, FIELD_NUMBER),    FIELD(p99_error, FIELD_NUMBER),     FIELD(tolerance, FIELD_NUMBER),
    FIELD(output_hash, FIELD_STRING),   FIELD(p50_ms, FIELD_NUMBER),        FIELD(p90_ms, FIELD_NUMBER),
    FIELD(p99_ms, FIELD_NUMBER),        FIELD(throughput, FIELD_NUMBER),    FIELD(load_ms, FIELD_NUMBER),
    FIELD(peak_mb, FIELD_NUMBER),       FIELD(seconds, FIELD_NUMBER),       FIELD(bytes, FIELD_INT),
};
#define FIELDS (sizeof fields / sizeof *fields)

matrix_cell matrix_cell_empty(void)
{
    const double unknown = (double)NAN;
    return (matrix_cell){
        .state = CELL_NOT_RUN, .accuracy = unknown, .accuracy_low = unknown, .accuracy_high = unknown, .error = unknown,
        .worst_class_accuracy = unknown, .max_error = unknown, .mean_error = unknown, .p99_error = unknown,
        .tolerance = unknown, .p50_ms = unknown, .p90_ms = unknown, .p99_ms = unknown, .throughput = unknown,
        .load_ms = unknown, .peak_mb = unknown, .seconds = unknown, .bytes = -1};
}

matrix_cell *matrix_find(const matrix *m, const char *runtime, const char *variant)
{
    for (size_t r = 0; r < m->n_rows; r++)
        for (size_t c = 0; strcmp(m->rows[r].runtime, runtime) == 0 && c < m->n_columns; c++)
            if (strcmp(m->columns[c].variant, variant) == 0)
                return matrix_at(m, r, c);
    return NULL;
}

void matrix_free(matrix *m)
{
    arena_free(&m->mem);
    *m = (matrix){0};
}

/* ---- out ---- */

static void put_text(json *j, const char *key, const char *value)
{
    if (value)
        json_put_string(j, key, value);
}

static void put_field(json *j, const field *f, const matrix_cell *c)
{
    const char *at = (const char *)c + f->at;
    const double number = f->kind == FIELD_NUMBER ? *(const double *)at : 0;
    switch (f->kind) {
    case FIELD_STRING: put_text(j, f->name, *(const char *const *)at); break;
    case FIELD_NUMBER:
        if (!isnan(number))
            json_put_number(j, f->name, number);
        break;
    case FIELD_COUNT:
        if (c->images > 0)
            json_put_int(j, f->name, (int64_t)*(const size_t *)at);
        break;
    case FIELD_INT:
        if (*(const int64_t *)at > 0)
            json_put_int(j, f->name, *(const int64_t *)at);
        break;
    case FIELD_BOOL: json_put_bool(j, f->name, *(const bool *)at); break;
    }
}

/* Numbers of an array stand on one line. */
static void put_numbers(json *j, const char *key, const double *at, size_t n)
{
    bool pretty = j->pretty;
    if (!at)
        return;
    json_put_array(j, key);
    j->pretty = false;
    for (size_t i = 0; i < n; i++)
        json_put_number(j, NULL, at[i]);
    json_end_array(j);
    j->pretty = pretty;
}

static void put_errors(json *j, const matrix_cell *c)
{
    bool pretty = j->pretty;
    json_put_array(j, "histogram");
    j->pretty = false;
    for (size_t i = 0; i < CELL_HISTOGRAM; i++)
        json_put_int(j, NULL, c->histogram[i]);
    json_end_array(j);
    j->pretty = pretty;
    json_put_array(j, "worst");
    for (size_t i = 0; i < c->n_worst; i++) {
        j->pretty = pretty;
        json_put_object(j, NULL);
        j->pretty = false;
        json_put_int(j, "sample", (int64_t)c->worst[i].sample);
        json_put_number(j, "error", c->worst[i].error);
        json_end_object(j);
    }
    j->pretty = pretty;
    json_end_array(j);
}

static void put_right(json *j, const matrix_cell *c)
{
    text marks = {0};
    for (size_t i = 0; i < c->images; i++)
        text_add_n(&marks, c->right[i] ? "1" : "0", 1);
    if (marks.st != ST_OK)
        j->out->st = marks.st;
    else
        json_put_string(j, "right", marks.s);
    text_free(&marks);
}

void matrix_cell_put(json *j, const char *key, const matrix_cell *c, bool right)
{
    json_put_object(j, key);
    put_text(j, "runtime", c->runtime);
    put_text(j, "variant", c->variant);
    json_put_string(j, "state", cell_state_name(c->state));
    for (size_t i = 0; i < FIELDS; i++)
        put_field(j, &fields[i], c);
    put_numbers(j, "class_accuracy", c->class_accuracy, c->classes);
    put_numbers(j, "latency_ms", c->latency_ms, c->n_latency);
    if (c->images > 0)
        put_errors(j, c);
    if (right && c->right && c->images > 0)
        put_right(j, c);
    json_end_object(j);
}

static void put_rows(json *j, const matrix *m)
{
    json_put_array(j, "runtimes");
    for (size_t i = 0; i < m->n_rows; i++) {
        const matrix_row *r = &m->rows[i];
        json_put_object(j, NULL);
        json_put_string(j, "runtime", r->runtime);
        put_text(j, "title", r->title);
        json_put_bool(j, "present", r->present);
        put_text(j, "how", r->how);
        json_put_bool(j, "emulated", r->emulated);
        json_end_object(j);
    }
    json_end_array(j);
}

static void put_columns(json *j, const matrix *m)
{
    json_put_array(j, "variants");
    for (size_t i = 0; i < m->n_columns; i++) {
        const matrix_column *c = &m->columns[i];
        json_put_object(j, NULL);
        json_put_string(j, "variant", c->variant);
        put_text(j, "model", c->model);
        json_put_bool(j, "portable", c->portable);
        json_put_array(j, "files");
        for (size_t k = 0; k < c->n_files; k++) {
            json_put_object(j, NULL);
            put_text(j, "form", c->files[k].form);
            put_text(j, "path", c->files[k].path);
            json_put_int(j, "bytes", c->files[k].bytes);
            put_text(j, "sha256", c->files[k].sha256);
            json_end_object(j);
        }
        json_end_array(j);
        json_end_object(j);
    }
    json_end_array(j);
}

void matrix_put(text *t, const matrix *m, bool pretty)
{
    json j = {.out = t, .pretty = pretty};
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", SCHEMA);
    put_text(&j, "run", m->run);
    put_text(&j, "set", m->set);
    json_put_string(&j, "metric", m->numbers ? "error" : "accuracy");
    json_put_int(&j, "samples", (int64_t)m->samples);
    put_text(&j, "version", m->version);
    json_put_object(&j, "host");
    put_text(&j, "system", m->system);
    put_text(&j, "cpu", m->cpu);
    json_put_int(&j, "cores", m->cores);
    json_put_int(&j, "memory", m->memory);
    json_end_object(&j);
    json_put_number(&j, "seconds", m->seconds);
    put_rows(&j, m);
    put_columns(&j, m);
    json_put_array(&j, "cells");
    for (size_t i = 0; i < m->n_rows * m->n_columns; i++)
        matrix_cell_put(&j, NULL, &m->cells[i], false);
    json_end_array(&j);
    json_end_object(&j);
    text_add(t, "\n");
}

status matrix_write(const char *path, const matrix *m)
{
    text t = {0};
    matrix_put(&t, m, true);
    status st = t.st == ST_OK ? io_write_file(path, t.s, t.n) : t.st;
    text_free(&t);
    return st;
}

/* ---- in ---- */

static void get_field(json_in *j, arena *mem, json_t *o, const field *f, matrix_cell *c)
{
    char *at = (char *)c + f->at;
    switch (f->kind) {
    case FIELD_STRING: *(const char **)at = json_in_string(j, mem, o, f->name); break;
    case FIELD_NUMBER: *(double *)at = json_in_number(j, o, f->name); break;
    case FIELD_COUNT: *(size_t *)at = json_in_count(j, o, f->name, SAMPLES_MAX); break;
    case FIELD_INT: *(int64_t *)at = json_in_int(j, o, f->name, *(int64_t *)at); break;
    case FIELD_BOOL: *(bool *)at = json_in_bool(j, o, f->name, false); break;
    }
}

/* A number of an array, or the word that stands for one that is not finite. */
static double get_element(json_in *j, json_t *v, const char *key)
{
    const char *word = json_string_value(v);
    if (json_is_number(v))
        return json_number_value(v);
    if (word && strcmp(word, "nan") == 0)
        return (double)NAN;
    if (word && strcmp(word, "inf") == 0)
        return (double)INFINITY;
    if (word && strcmp(word, "-inf") == 0)
        return -(double)INFINITY;
    json_in_fail(j, "'%s' must hold numbers", key);
    return 0;
}

static status get_numbers(json_in *j, arena *mem, json_t *o, const char *key, const double **out, size_t *n)
{
    double *at;
    json_t *a = json_in_array(j, o, key, n);
    if (!a)
        return j->st;
    if (*n > LIST_MAX)
        json_in_fail(j, "'%s' has %zu elements; %d are possible", key, *n, LIST_MAX);
    TRY(j->st);
    TRY(arena_alloc(mem, &at, *n, sizeof *at));
    for (size_t i = 0; i < *n; i++)
        at[i] = get_element(j, json_array_get(a, i), key);
    *out = at;
    return j->st;
}

static status get_errors(json_in *j, json_t *o, matrix_cell *c)
{
    size_t n;
    json_t *bins = json_in_array(j, o, "histogram", &n);
    if (bins && n != CELL_HISTOGRAM)
        json_in_fail(j, "'histogram' must have %d bins", CELL_HISTOGRAM);
    for (size_t i = 0; bins && i < n && j->st == ST_OK; i++) {
        json_int_t v = json_integer_value(json_array_get(bins, i));
        if (v < 0 || v > UINT32_MAX)
            json_in_fail(j, "'histogram' must hold counts");
        c->histogram[i] = (uint32_t)v;
    }
    json_t *worst = json_in_array(j, o, "worst", &n);
    if (n > CELL_WORST)
        json_in_fail(j, "'worst' has %zu samples; %d are possible", n, CELL_WORST);
    for (size_t i = 0; worst && i < n && j->st == ST_OK; i++) {
        json_t *w = json_array_get(worst, i);
        if (!json_is_object(w))
            json_in_fail(j, "'worst' must hold objects");
        c->worst[i].sample = json_in_count(j, w, "sample", SAMPLES_MAX);
        c->worst[i].error = json_in_number(j, w, "error");
        c->n_worst = i + 1;
    }
    return j->st;
}

static status get_right(json_in *j, arena *mem, json_t *o, matrix_cell *c)
{
    uint8_t *right;
    const char *marks = json_string_value(json_object_get(o, "right"));
    if (!marks)
        return j->st;
    if (strlen(marks) != c->images || strspn(marks, "01") != c->images)
        json_in_fail(j, "'right' must be %zu marks of 0 or 1", c->images);
    TRY(j->st);
    TRY(arena_alloc(mem, &right, c->images, 1));
    for (size_t i = 0; i < c->images; i++)
        right[i] = marks[i] == '1';
    c->right = right;
    return ST_OK;
}

status matrix_cell_get(json_in *j, arena *mem, json_t *o, matrix_cell *out)
{
    size_t s = 0;
    *out = matrix_cell_empty();
    if (!json_is_object(o))
        json_in_fail(j, "a cell must be an object");
    TRY(j->st);
    out->runtime = json_in_string(j, mem, o, "runtime");
    out->variant = json_in_string(j, mem, o, "variant");
    const char *state = json_in_string(j, mem, o, "state");
    while (state && s < CELL_STATES && strcmp(state_name[s], state) != 0)
        s++;
    if (!out->runtime || !out->variant || !state)
        json_in_fail(j, "a cell needs 'runtime', 'variant' and 'state'");
    else if (s == CELL_STATES)
        json_in_fail(j, "'state' is \"%.40s\"; known are ok, differs, crash, timeout, unsupported, not run here", state);
    TRY(j->st);
    out->state = (cell_state)s;
    for (size_t i = 0; i < FIELDS; i++)
        get_field(j, mem, o, &fields[i], out);
    TRY(get_numbers(j, mem, o, "class_accuracy", &out->class_accuracy, &out->classes));
    TRY(get_numbers(j, mem, o, "latency_ms", &out->latency_ms, &out->n_latency));
    TRY(get_errors(j, o, out));
    return get_right(j, mem, o, out);
}

static json_t *get_lines(json_in *j, const char *key, size_t *n)
{
    json_t *a = json_in_array(j, j->root, key, n);
    if (!a || *n > LINES_MAX)
        json_in_fail(j, "'%s' must be an array of at most %d", key, LINES_MAX);
    for (size_t i = 0; i < *n && j->st == ST_OK; i++)
        if (!json_is_object(json_array_get(a, i)))
            json_in_fail(j, "'%s' must hold objects", key);
    return a;
}

static status get_rows(json_in *j, matrix *m)
{
    size_t n;
    json_t *a = get_lines(j, "runtimes", &n);
    TRY(j->st);
    TRY(arena_alloc(&m->mem, &m->rows, n, sizeof *m->rows));
    m->n_rows = n;
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_array_get(a, i);
        m->rows[i] = (matrix_row){.runtime = json_in_string(j, &m->mem, o, "runtime"),
                                  .title = json_in_string(j, &m->mem, o, "title"),
                                  .how = json_in_string(j, &m->mem, o, "how"),
                                  .present = json_in_bool(j, o, "present", false),
                                  .emulated = json_in_bool(j, o, "emulated", false)};
        if (!m->rows[i].runtime)
            json_in_fail(j, "'runtimes': 'runtime' is needed");
    }
    return j->st;
}

static status get_files(json_in *j, arena *mem, json_t *o, matrix_column *c)
{
    json_t *a = json_in_array(j, o, "files", &c->n_files);
    if (c->n_files > LINES_MAX)
        json_in_fail(j, "'files' has %zu elements; %d are possible", c->n_files, LINES_MAX);
    TRY(j->st);
    TRY(arena_alloc(mem, &c->files, c->n_files, sizeof *c->files));
    for (size_t i = 0; i < c->n_files; i++) {
        json_t *f = json_array_get(a, i);
        if (!json_is_object(f))
            json_in_fail(j, "'files' must hold objects");
        c->files[i] = (matrix_file){.form = json_in_string(j, mem, f, "form"),
                                    .path = json_in_string(j, mem, f, "path"),
                                    .sha256 = json_in_string(j, mem, f, "sha256"),
                                    .bytes = json_in_int(j, f, "bytes", -1)};
        if (!c->files[i].form || !c->files[i].path)
            json_in_fail(j, "'files': 'form' and 'path' are needed");
    }
    return j->st;
}

static status get_columns(json_in *j, matrix *m)
{
    size_t n;
    json_t *a = get_lines(j, "variants", &n);
    TRY(j->st);
    TRY(arena_alloc(&m->mem, &m->columns, n, sizeof *m->columns));
    m->n_columns = n;
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_array_get(a, i);
        m->columns[i] = (matrix_column){.variant = json_in_string(j, &m->mem, o, "variant"),
                                        .model = json_in_string(j, &m->mem, o, "model"),
                                        .portable = json_in_bool(j, o, "portable", false)};
        if (!m->columns[i].variant)
            json_in_fail(j, "'variants': 'variant' is needed");
        TRY(get_files(j, &m->mem, o, &m->columns[i]));
    }
    return j->st;
}

/* Cells that the file lacks stay empty ones. */
static status get_cells(json_in *j, matrix *m)
{
    size_t n, total;
    json_t *a = get_lines(j, "cells", &n);
    TRY(j->st);
    if (!size_mul(m->n_rows, m->n_columns, &total) || total > SAMPLES_MAX / 100)
        return fail(ST_BAD_DATA, "%s: %zu rows times %zu columns are too many", j->name, m->n_rows, m->n_columns);
    TRY(arena_alloc(&m->mem, &m->cells, total, sizeof *m->cells));
    for (size_t i = 0; i < total; i++) {
        m->cells[i] = matrix_cell_empty();
        m->cells[i].runtime = m->rows[i / m->n_columns].runtime;
        m->cells[i].variant = m->columns[i % m->n_columns].variant;
    }
    for (size_t i = 0; i < n; i++) {
        matrix_cell c;
        TRY(matrix_cell_get(j, &m->mem, json_array_get(a, i), &c));
        matrix_cell *to = matrix_find(m, c.runtime, c.variant);
        if (!to)
            return fail(ST_BAD_DATA, "%s: cell %.60s/%.60s is of no row or column", j->name, c.runtime, c.variant);
        *to = c;
    }
    return ST_OK;
}

static status get_matrix(json_in *j, matrix *m)
{
    int64_t schema = json_in_int(j, j->root, "schema", 0);
    if (schema != SCHEMA)
        json_in_fail(j, "schema %lld is not known; this program reads schema %d", (long long)schema, SCHEMA);
    m->run = json_in_string(j, &m->mem, j->root, "run");
    m->set = json_in_string(j, &m->mem, j->root, "set");
    m->version = json_in_string(j, &m->mem, j->root, "version");
    const char *metric = json_in_string(j, &m->mem, j->root, "metric");
    m->numbers = metric && strcmp(metric, "error") == 0;
    m->samples = json_in_count(j, j->root, "samples", SAMPLES_MAX);
    m->seconds = json_in_number(j, j->root, "seconds");
    json_t *host = json_in_object(j, j->root, "host");
    m->system = json_in_string(j, &m->mem, host, "system");
    m->cpu = json_in_string(j, &m->mem, host, "cpu");
    m->cores = (int)json_in_count(j, host, "cores", 1 << 20);
    m->memory = json_in_int(j, host, "memory", -1);
    TRY(j->st);
    TRY(get_rows(j, m));
    TRY(get_columns(j, m));
    return get_cells(j, m);
}

status matrix_parse(json_in *j, const char *name, const char *s, size_t n, matrix *out)
{
    *out = (matrix){0};
    TRY(json_in_parse(j, name, s, n, limits_default().json_depth));
    return get_matrix(j, out);
}

status matrix_read(const char *path, matrix *out)
{
    json_in j;
    *out = (matrix){0};
    status st = json_in_open(&j, path, FILE_MAX, limits_default().json_depth);
    if (st == ST_OK)
        st = get_matrix(&j, out);
    json_in_close(&j);
    return st;
}
