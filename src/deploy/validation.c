/* validation.c - validation.json out and in; the layout stands in validation.h. */
#include "deploy/validation.h"
#include "base/base64.h"
#include "base/io.h"
#include "base/json_in.h"
#include "base/limits.h"
#include "base/text.h"

#include <math.h>
#include <string.h>

#define FILE_MAX    ((uint64_t)64 << 20)
#define CLASSES_MAX 1000000
#define PICTURE_MAX 4096 /* pixels each way of a thumbnail in a file */
#define SCHEMA      1

void validation_free(validation *v)
{
    score_free(&v->teacher);
    score_free(&v->student);
    arena_free(&v->mem);
    *v = (validation){0};
}

/* ---- out ---- */

/* Numbers of an array stand on one line. */
static void put_counts(json *j, const char *key, const uint32_t *at, size_t n)
{
    bool pretty = j->pretty;
    json_put_array(j, key);
    j->pretty = false;
    for (size_t i = 0; i < n; i++)
        json_put_int(j, NULL, at[i]);
    json_end_array(j);
    j->pretty = pretty;
}

static void put_score(json *j, const char *key, const score *s)
{
    json_put_object(j, key);
    json_put_number(j, "accuracy", score_accuracy(s));
    json_put_int(j, "labelled", (int64_t)s->labelled);
    json_put_int(j, "correct", (int64_t)s->correct);
    json_put_number(j, "ce", s->ce);
    json_put_number(j, "error", s->error);
    put_counts(j, "class_samples", s->class_samples, s->classes);
    put_counts(j, "class_correct", s->class_correct, s->classes);
    if (s->confusion) {
        json_put_array(j, "confusion");
        for (size_t i = 0; i < s->classes; i++)
            put_counts(j, NULL, s->confusion + i * s->classes, s->classes);
        json_end_array(j);
    }
    json_end_object(j);
}

static void put_difference(json *j, const char *key, const difference *d)
{
    json_put_object(j, key);
    json_put_int(j, "samples", (int64_t)d->samples);
    json_put_int(j, "disagreements", (int64_t)d->disagreements);
    json_put_number(j, "max_abs", d->max_abs);
    json_put_int(j, "max_abs_sample", (int64_t)d->max_abs_sample);
    json_put_number(j, "max_rel", d->max_rel);
    json_put_number(j, "mean_kl", d->mean_kl);
    json_put_number(j, "mean_abs", d->mean_abs);
    json_end_object(j);
}

static void put_latency(json *j, const char *key, bool has, const latency *t)
{
    if (!has)
        return;
    json_put_object(j, key);
    json_put_int(j, "runs", (int64_t)t->runs);
    json_put_number(j, "p50", t->p50);
    json_put_number(j, "p90", t->p90);
    json_put_number(j, "p99", t->p99);
    json_put_number(j, "mean", t->mean);
    json_put_number(j, "min", t->min);
    json_end_object(j);
}

static void put_runtime(json *j, const runtime_result *r)
{
    json_put_object(j, NULL);
    json_put_string(j, "model", r->model);
    json_put_string(j, "runtime", r->runtime);
    json_put_string(j, "version", r->version);
    json_put_bool(j, "ok", r->ok);
    json_put_string(j, "message", r->message);
    json_put_string(j, "precision", r->precision);
    json_put_int(j, "threads", r->threads);
    json_put_int(j, "batch", r->batch);
    json_put_number(j, "accuracy", r->accuracy);
    if (r->has_difference)
        put_difference(j, "difference", &r->diff);
    put_latency(j, "latency_ms", r->has_latency, &r->time);
    json_end_object(j);
}

static void put_variant(json *j, const variant_result *r)
{
    json_put_object(j, NULL);
    json_put_string(j, "key", r->key);
    json_put_string(j, "model", r->model);
    json_put_string(j, "file", r->file);
    json_put_int(j, "bytes", r->bytes);
    json_put_string(j, "message", r->message);
    json_put_number(j, "accuracy", r->accuracy);
    json_put_number(j, "accuracy_ort", r->accuracy_ort);
    if (r->has_agreement)
        put_difference(j, "agreement", &r->agreement);
    if (r->has_difference)
        put_difference(j, "difference", &r->diff);
    put_latency(j, "latency_ms", r->has_latency, &r->time);
    put_latency(j, "latency_ort_ms", r->has_latency_ort, &r->time_ort);
    json_put_string(j, "tflite", r->tflite);
    json_put_int(j, "tflite_bytes", r->tflite_bytes);
    json_put_string(j, "tflite_message", r->tflite_message);
    json_put_string(j, "note", r->note);
    json_end_object(j);
}

static status put_far(json *j, const far_sample *f)
{
    const thumbnail *t = &f->image;
    json_put_object(j, NULL);
    json_put_int(j, "sample", (int64_t)f->sample);
    json_put_int(j, "label", f->label);
    json_put_int(j, "teacher", f->teacher);
    json_put_int(j, "student", f->student);
    json_put_number(j, "teacher_p", f->teacher_p);
    json_put_number(j, "student_p", f->student_p);
    json_put_number(j, "kl", f->kl);
    if (t->width > 0) {
        text pixels = {0};
        base64_add(&pixels, t->pixels, (size_t)t->width * (size_t)t->height * (size_t)t->channels);
        json_put_object(j, "image");
        json_put_int(j, "width", t->width);
        json_put_int(j, "height", t->height);
        json_put_int(j, "channels", t->channels);
        json_put_string(j, "pixels", pixels.s);
        json_end_object(j);
        status st = pixels.st;
        text_free(&pixels);
        TRY(st);
    }
    json_end_object(j);
    return ST_OK;
}

static status put_validation(text *t, const validation *v)
{
    json j = {.out = t, .pretty = true};
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", SCHEMA);
    json_put_string(&j, "set", v->set);
    json_put_int(&j, "samples", (int64_t)v->samples);
    if (v->numbers)
        json_put_bool(&j, "numbers", true);
    json_put_array(&j, "classes");
    for (size_t i = 0; i < v->classes; i++)
        json_put_string(&j, NULL, v->class_names[i]);
    json_end_array(&j);
    if (v->has_teacher)
        put_score(&j, "teacher", &v->teacher);
    put_score(&j, "student", &v->student);
    if (v->has_agreement)
        put_difference(&j, "agreement", &v->agreement);
    json_put_array(&j, "runtimes");
    for (size_t i = 0; i < v->n_runtimes; i++)
        put_runtime(&j, &v->runtimes[i]);
    json_end_array(&j);
    json_put_array(&j, "variants");
    for (size_t i = 0; i < v->n_variants; i++)
        put_variant(&j, &v->variants[i]);
    json_end_array(&j);
    json_put_array(&j, "farthest");
    for (size_t i = 0; i < v->n_farthest; i++)
        TRY(put_far(&j, &v->farthest[i]));
    json_end_array(&j);
    json_put_array(&j, "checks");
    for (size_t i = 0; i < v->n_checks; i++) {
        json_put_object(&j, NULL);
        json_put_string(&j, "name", v->checks[i].name);
        json_put_bool(&j, "held", v->checks[i].held);
        json_put_string(&j, "detail", v->checks[i].detail);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_end_object(&j);
    text_add(t, "\n");
    return t->st;
}

status validation_write(const char *path, const validation *v)
{
    text t = {0};
    status st = put_validation(&t, v);
    if (st == ST_OK)
        st = io_write_file(path, t.s, t.n);
    text_free(&t);
    return st;
}

/* ---- in ---- */

/* An array of exactly n counts, if it is there. */
static void get_counts(json_in *j, json_t *array, const char *key, uint32_t *to, size_t n)
{
    if (!array)
        return;
    if (!json_is_array(array) || json_array_size(array) != n) {
        json_in_fail(j, "'%s' must be an array of %zu counts", key, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(array, i);
        json_int_t count = json_integer_value(v);
        if (!json_is_integer(v) || count < 0 || count > UINT32_MAX) {
            json_in_fail(j, "'%s' must hold counts", key);
            return;
        }
        to[i] = (uint32_t)count;
    }
}

static status get_score(json_in *j, json_t *o, size_t samples, size_t classes, score *s)
{
    size_t rows;
    TRY(score_new(classes, s));
    s->samples = samples;
    s->labelled = json_in_count(j, o, "labelled", samples);
    s->correct = json_in_count(j, o, "correct", s->labelled);
    s->ce = json_in_number(j, o, "ce");
    s->error = json_in_number(j, o, "error");
    get_counts(j, json_object_get(o, "class_samples"), "class_samples", s->class_samples, classes);
    get_counts(j, json_object_get(o, "class_correct"), "class_correct", s->class_correct, classes);
    json_t *confusion = json_in_array(j, o, "confusion", &rows);
    if (!confusion || !s->confusion) {
        mem_free(s->confusion);
        s->confusion = NULL;
        return j->st;
    }
    if (rows != classes)
        json_in_fail(j, "'confusion' must have %zu rows", classes);
    for (size_t i = 0; i < classes && j->st == ST_OK; i++)
        get_counts(j, json_array_get(confusion, i), "confusion", s->confusion + i * classes, classes);
    return j->st;
}

static bool get_difference(json_in *j, json_t *o, const char *key, difference *d)
{
    json_t *at = json_in_object(j, o, key);
    if (!at)
        return false;
    *d = (difference){.samples = json_in_count(j, at, "samples", SIZE_MAX / 2),
                      .disagreements = json_in_count(j, at, "disagreements", SIZE_MAX / 2),
                      .max_abs = json_in_number(j, at, "max_abs"),
                      .max_abs_sample = json_in_count(j, at, "max_abs_sample", SIZE_MAX / 2),
                      .max_rel = json_in_number(j, at, "max_rel"),
                      .mean_kl = json_in_number(j, at, "mean_kl"),
                      .mean_abs = json_in_number(j, at, "mean_abs")};
    return true;
}

static bool get_latency(json_in *j, json_t *o, const char *key, latency *t)
{
    json_t *time = json_in_object(j, o, key);
    if (!time)
        return false;
    *t = (latency){.runs = json_in_count(j, time, "runs", SIZE_MAX / 2),
                   .p50 = json_in_number(j, time, "p50"),
                   .p90 = json_in_number(j, time, "p90"),
                   .p99 = json_in_number(j, time, "p99"),
                   .mean = json_in_number(j, time, "mean"),
                   .min = json_in_number(j, time, "min")};
    return true;
}

static void get_runtime(json_in *j, arena *mem, json_t *o, runtime_result *r)
{
    *r = (runtime_result){.model = json_in_string(j, mem, o, "model"),
                          .runtime = json_in_string(j, mem, o, "runtime"),
                          .version = json_in_string(j, mem, o, "version"),
                          .precision = json_in_string(j, mem, o, "precision"),
                          .message = json_in_string(j, mem, o, "message"),
                          .ok = json_in_bool(j, o, "ok", false),
                          .threads = (int)json_in_count(j, o, "threads", 1 << 20),
                          .batch = (int)json_in_count(j, o, "batch", 1 << 30),
                          .accuracy = json_in_number(j, o, "accuracy")};
    if (!r->model || !r->runtime)
        json_in_fail(j, "'runtimes': 'model' and 'runtime' are needed");
    r->has_difference = get_difference(j, o, "difference", &r->diff);
    r->has_latency = get_latency(j, o, "latency_ms", &r->time);
}

/* The size of a file, -1: unknown. */
static int64_t get_bytes(json_in *j, json_t *o, const char *key)
{
    int64_t n = json_in_int(j, o, key, -1);
    if (n < -1)
        json_in_fail(j, "'%s' is %lld bytes", key, (long long)n);
    return n;
}

static void get_variant(json_in *j, arena *mem, json_t *o, variant_result *r)
{
    *r = (variant_result){.key = json_in_string(j, mem, o, "key"),
                          .model = json_in_string(j, mem, o, "model"),
                          .file = json_in_string(j, mem, o, "file"),
                          .message = json_in_string(j, mem, o, "message"),
                          .bytes = get_bytes(j, o, "bytes"),
                          .accuracy = json_in_number(j, o, "accuracy"),
                          .accuracy_ort = json_in_number(j, o, "accuracy_ort"),
                          .tflite = json_in_string(j, mem, o, "tflite"),
                          .tflite_message = json_in_string(j, mem, o, "tflite_message"),
                          .note = json_in_string(j, mem, o, "note"),
                          .tflite_bytes = get_bytes(j, o, "tflite_bytes")};
    if (!r->key || !r->model)
        json_in_fail(j, "'variants': 'key' and 'model' are needed");
    r->has_agreement = get_difference(j, o, "agreement", &r->agreement);
    r->has_difference = get_difference(j, o, "difference", &r->diff);
    r->has_latency = get_latency(j, o, "latency_ms", &r->time);
    r->has_latency_ort = get_latency(j, o, "latency_ort_ms", &r->time_ort);
}

static status get_picture(json_in *j, arena *mem, json_t *o, thumbnail *t)
{
    uint8_t *pixels;
    t->width = (int)json_in_count(j, o, "width", PICTURE_MAX);
    t->height = (int)json_in_count(j, o, "height", PICTURE_MAX);
    t->channels = (int)json_in_count(j, o, "channels", 3);
    const char *coded = json_string_value(json_object_get(o, "pixels"));
    if (t->width < 1 || t->height < 1 || t->channels % 2 == 0 || !coded)
        json_in_fail(j, "'image' needs width, height, channels (1 or 3) and pixels");
    TRY(j->st);
    size_t n = (size_t)t->width * (size_t)t->height * (size_t)t->channels;
    if (strlen(coded) / 4 < n / 3) /* before so much is allocated */
        json_in_fail(j, "'image': %zu bytes of pixels are expected", n);
    TRY(j->st);
    TRY(arena_alloc(mem, &pixels, n, 1));
    t->pixels = pixels;
    return base64_decode(j->name, coded, pixels, n);
}

static int32_t get_class(json_in *j, json_t *o, const char *key, size_t classes)
{
    int64_t v = json_in_int(j, o, key, -1);
    if (v < -1 || v >= (int64_t)classes)
        json_in_fail(j, "'farthest': '%s' is %lld; there are %zu classes", key, (long long)v, classes);
    return j->st == ST_OK ? (int32_t)v : -1;
}

static status get_far(json_in *j, const validation *v, arena *mem, json_t *o, far_sample *f)
{
    *f = (far_sample){.sample = json_in_count(j, o, "sample", SIZE_MAX / 2),
                      .label = get_class(j, o, "label", v->classes),
                      .teacher = get_class(j, o, "teacher", v->classes),
                      .student = get_class(j, o, "student", v->classes),
                      .teacher_p = json_in_number(j, o, "teacher_p"),
                      .student_p = json_in_number(j, o, "student_p"),
                      .kl = json_in_number(j, o, "kl")};
    json_t *image = json_in_object(j, o, "image");
    TRY(j->st);
    return image ? get_picture(j, mem, image, &f->image) : ST_OK;
}

static status get_classes(json_in *j, validation *v)
{
    json_t *names = json_in_array(j, j->root, "classes", &v->classes);
    v->numbers = json_in_bool(j, j->root, "numbers", false);
    if (v->numbers ? v->classes != 0 : v->classes < 1 || v->classes > CLASSES_MAX)
        json_in_fail(j, "'classes' must hold 1 to %d names (none for outputs that are numbers)", CLASSES_MAX);
    TRY(j->st);
    TRY(arena_alloc(&v->mem, &v->class_names, v->classes, sizeof *v->class_names));
    for (size_t i = 0; i < v->classes; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (!name)
            json_in_fail(j, "'classes' must hold names");
        TRY(j->st);
        TRY(arena_strdup(&v->mem, &v->class_names[i], name));
    }
    return ST_OK;
}

static status get_lists(json_in *j, validation *v)
{
    json_t *runtimes = json_in_array(j, j->root, "runtimes", &v->n_runtimes);
    json_t *variants = json_in_array(j, j->root, "variants", &v->n_variants);
    json_t *farthest = json_in_array(j, j->root, "farthest", &v->n_farthest);
    json_t *checks = json_in_array(j, j->root, "checks", &v->n_checks);
    TRY(arena_alloc(&v->mem, &v->runtimes, v->n_runtimes, sizeof *v->runtimes));
    TRY(arena_alloc(&v->mem, &v->variants, v->n_variants, sizeof *v->variants));
    TRY(arena_alloc(&v->mem, &v->farthest, v->n_farthest, sizeof *v->farthest));
    TRY(arena_alloc(&v->mem, &v->checks, v->n_checks, sizeof *v->checks));
    for (size_t i = 0; i < v->n_runtimes; i++)
        get_runtime(j, &v->mem, json_array_get(runtimes, i), &v->runtimes[i]);
    for (size_t i = 0; i < v->n_variants; i++)
        get_variant(j, &v->mem, json_array_get(variants, i), &v->variants[i]);
    for (size_t i = 0; i < v->n_farthest; i++)
        TRY(get_far(j, v, &v->mem, json_array_get(farthest, i), &v->farthest[i]));
    for (size_t i = 0; i < v->n_checks; i++) {
        json_t *o = json_array_get(checks, i);
        v->checks[i] = (check_result){.name = json_in_string(j, &v->mem, o, "name"),
                                      .detail = json_in_string(j, &v->mem, o, "detail"),
                                      .held = json_in_bool(j, o, "held", false)};
        if (!v->checks[i].name)
            json_in_fail(j, "'checks': 'name' is needed");
    }
    return j->st;
}

static status get_validation(json_in *j, validation *v)
{
    int64_t schema = json_in_int(j, j->root, "schema", 0);
    if (schema != SCHEMA)
        json_in_fail(j, "schema %lld is not known; this program reads schema %d", (long long)schema, SCHEMA);
    TRY(j->st);
    v->set = json_in_string(j, &v->mem, j->root, "set");
    v->samples = json_in_count(j, j->root, "samples", SIZE_MAX / 2);
    TRY(get_classes(j, v));
    json_t *teacher = json_in_object(j, j->root, "teacher"), *student = json_in_object(j, j->root, "student");
    if (!student)
        json_in_fail(j, "'student' is missing");
    TRY(j->st);
    v->has_teacher = teacher != NULL;
    if (teacher)
        TRY(get_score(j, teacher, v->samples, v->classes, &v->teacher));
    TRY(get_score(j, student, v->samples, v->classes, &v->student));
    v->has_agreement = get_difference(j, j->root, "agreement", &v->agreement);
    return get_lists(j, v);
}

status validation_read(const char *path, validation *out)
{
    json_in j;
    *out = (validation){0};
    status st = json_in_open(&j, path, FILE_MAX, limits_default().json_depth);
    if (st == ST_OK)
        st = get_validation(&j, out);
    json_in_close(&j);
    if (st != ST_OK)
        validation_free(out);
    return st;
}

/* ---- filling ---- */

status validation_add_farthest(validation *v, const float *teacher, const float *student,
                               const int32_t *labels, size_t k)
{
    status st = ST_OK;
    size_t *sample = NULL, n = v->samples, classes = v->classes;
    double *kl = NULL;
    TRY_DONE(mem_alloc(&sample, k, sizeof *sample));
    TRY_DONE(mem_alloc(&kl, k, sizeof *kl));
    size_t found = compare_farthest(teacher, student, n, classes, k, sample, kl);
    TRY_DONE(arena_alloc(&v->mem, &v->farthest, found, sizeof *v->farthest));
    v->n_farthest = found;
    for (size_t i = 0; i < found; i++) {
        const float *t = teacher + sample[i] * classes, *s = student + sample[i] * classes;
        size_t ct = compare_argmax(t, classes), cs = compare_argmax(s, classes);
        v->farthest[i] = (far_sample){.sample = sample[i],
                                      .label = labels ? labels[sample[i]] : -1,
                                      .teacher = (int32_t)ct,
                                      .student = (int32_t)cs,
                                      .teacher_p = compare_probability(t, classes, ct),
                                      .student_p = compare_probability(s, classes, cs),
                                      .kl = kl[i]};
    }
done:
    mem_free(sample);
    mem_free(kl);
    return st;
}
