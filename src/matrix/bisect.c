/* bisect.c - asks the runtime about cuts until the first that parts is known. See bisect.h. */
#include "matrix/bisect.h"

#include "base/io.h"
#include "base/json_in.h"
#include "base/log.h"
#include "data/npy.h"
#include "matrix/bisect_cut.h"
#include "matrix/process.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { ABOVE_MAX = 64, NEIGHBOURS = 2, ANSWER_DEPTH = 16 };

typedef enum verdict { UNKNOWN, SAME, PARTS } verdict;

typedef struct finding { /* about one cut */
    verdict v;
    const char *why;
    size_t sample, element, differ, count;
    double error, tolerance, got, want;
} finding;

typedef struct search {
    const bisect_options *o;
    bisect_result *r;
    cut_model m;
    finding *f; /* [m.n] */
    const char *x_path, *y_path, *log;
} search;

/* ---- one question ---- */

static void put_request(const search *s, const char *model, const char *const *names, const char *const *files, size_t n, text *t)
{
    json j = {.out = t};
    json_put_object(&j, NULL);
    json_put_int(&j, "protocol", 1);
    json_put_string(&j, "model", model);
    json_put_array(&j, "inputs");
    for (size_t i = 0; i < n; i++) {
        json_put_object(&j, NULL);
        json_put_string(&j, "name", names[i]);
        json_put_string(&j, "file", files[i]);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_put_string(&j, "output", s->y_path);
    json_put_string(&j, "output_name", NULL);
    json_put_int(&j, "samples", s->o->x->sh.dim[0]);
    json_put_int(&j, "batch", s->o->x->sh.dim[0]);
    json_put_int(&j, "threads", s->o->threads);
    json_put_string(&j, "latency", NULL);
    text_printf(t, ",\"options\":%s", s->o->runner_options ? s->o->runner_options : "{}");
    json_end_object(&j);
}

/* NULL in *why: it ran. ST_UNAVAILABLE: the runtime is not there. */
static status ask(search *s, const char *model, const char *const *names, const char *const *files, size_t n, const char **why)
{
    text request = {0};
    json_in j = {0};
    process_result p;
    status st = ST_OK;
    *why = NULL;
    TRY(io_remove(s->y_path));
    put_request(s, model, names, files, n, &request);
    TRY_DONE(request.st);
    s->r->asked++;
    TRY_DONE(process_ask(&(process_options){.command = s->o->command, .env = s->o->env, .log = s->log, .seconds = s->o->seconds,
                                            .memory = s->o->memory}, request.s, &s->r->mem, &p));
    if (p.end != PROCESS_ANSWERED) {
        *why = p.why;
        goto done;
    }
    TRY_DONE(json_in_parse(&j, "the runner's answer", p.answer, strlen(p.answer), ANSWER_DEPTH));
    if (!json_in_bool(&j, j.root, "ok", false)) {
        const char *kind = json_in_string(&j, &s->r->mem, j.root, "kind"), *said = json_in_string(&j, &s->r->mem, j.root, "message");
        TRY_DONE(j.st);
        if (kind && strcmp(kind, "missing") == 0)
            st = fail(ST_UNAVAILABLE, "%s", said ? said : "the runtime is not there");
        else
            st = arena_printf(&s->r->mem, why, "%s: %s", kind ? kind : "error", said ? said : "no reason given");
    }
done:
    json_in_close(&j);
    text_free(&request);
    return st;
}

/* ---- comparison ---- */

/* Where element i of [N, C, H, W] lies when the runtime gave [N, H, W, C]. */
static int64_t in_image(const shape *sh, int64_t i)
{
    int64_t c = sh->dim[1], hw = sh->dim[2] * sh->dim[3], n = i / (c * hw), k = i / hw % c, px = i % hw;
    return (n * hw + px) * c + k;
}

static void compare(const search *s, const tensor *want, const tensor *got, double grid, finding *f)
{
    int64_t n = shape_count(&want->sh), row = n / want->sh.dim[0];
    bool image = strcmp(s->o->form, "tflite") == 0 && want->sh.rank == 4;
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(tensor_at(want, i)));
    f->tolerance = grid > 0 ? grid * (s->o->exact ? 0.5 : 1.5) : (s->o->tolerance > 0 ? s->o->tolerance : 1e-4) * fmax(1, most);
    f->count = (size_t)n;
    f->v = SAME;
    for (int64_t i = 0; i < n; i++) {
        double a = tensor_at(got, image ? in_image(&want->sh, i) : i), b = tensor_at(want, i), error = fabs(a - b);
        if (error <= f->tolerance)
            continue;
        f->v = PARTS;
        f->differ++;
        if (f->differ > 1 && !(error > f->error) && !(isnan(error) && !isnan(f->error)))
            continue;
        f->error = error;
        f->got = a;
        f->want = b;
        f->sample = (size_t)(i / row);
        f->element = (size_t)(i % row);
    }
}

/* Compares the runtime's output file with `want`. */
static status judge(search *s, const tensor *want, double grid, finding *f)
{
    tensor got = {0};
    limits lim = limits_default();
    status st = npy_read(s->y_path, &lim, &got);
    if (st == ST_BAD_DATA || st == ST_NO_INPUT) {
        st = arena_printf(&s->r->mem, &f->why, "its output cannot be read: %s", status_message());
        status_clear();
        f->v = PARTS;
    } else if (st == ST_OK && shape_count(&got.sh) != shape_count(&want->sh)) {
        char a[200], b[200];
        f->v = PARTS;
        st = arena_printf(&s->r->mem, &f->why, "its output has shape %s instead of %s", shape_print(&got.sh, a), shape_print(&want->sh, b));
    } else if (st == ST_OK) {
        compare(s, want, &got, grid, f);
    }
    tensor_free(&got);
    return st;
}

static status look(search *s, size_t i, verdict *v)
{
    finding *f = &s->f[i];
    const char *stem, *model, *name = graph_value(s->m.g, s->m.g->input[0])->name;
    if (f->v != UNKNOWN) {
        *v = f->v;
        return ST_OK;
    }
    TRY(arena_printf(&s->r->mem, &stem, "%s/cut", s->o->dir));
    TRY(cut_write(&s->m, i, s->o->form, stem, &s->r->mem, &model));
    TRY(ask(s, model, &name, &s->x_path, 1, &f->why));
    if (f->why)
        f->v = PARTS;
    else
        TRY(judge(s, &s->m.point[i].want, s->m.point[i].grid, f));
    *v = f->v;
    log_debug("cut at '%s' (%s): %s", s->m.point[i].want.name, op_of(s->m.point[i].layer->op)->name, *v == SAME ? "agrees" : f->why ? f->why : "parts");
    return ST_OK;
}

/* ---- the search ---- */

static status halve(search *s, size_t *hi)
{
    size_t lo = 0; /* points below lo agree, as far as halving knows; *hi parts */
    while (lo < *hi) {
        size_t mid = lo + (*hi - lo) / 2;
        verdict v;
        TRY(look(s, mid, &v));
        if (v == PARTS)
            *hi = mid;
        else
            lo = mid + 1;
    }
    return ST_OK;
}

/* The least of the points that `hi` reads, and of its neighbours before it, that parts; hi itself when none does. */
static status confirm(search *s, size_t hi, size_t *least)
{
    size_t above[ABOVE_MAX + NEIGHBOURS], n;
    *least = hi;
    TRY(cut_above(&s->m, hi, above, ABOVE_MAX, &n));
    for (size_t k = 1; k <= NEIGHBOURS && k <= hi; k++)
        above[n++] = hi - k;
    for (size_t k = 0; k < n; k++) {
        verdict v;
        TRY(look(s, above[k], &v));
        if (v == PARTS && above[k] < *least)
            *least = above[k];
    }
    return ST_OK;
}

static status find_first(search *s, size_t *at)
{
    size_t least;
    for (;;) { /* *at falls with every turn */
        TRY(halve(s, at));
        TRY(confirm(s, *at, &least));
        if (least == *at)
            return ST_OK;
        *at = least;
    }
}

/* ---- what is left for people ---- */

static tensor one_row(const tensor *t, size_t row)
{
    tensor r = *t;
    r.sh.dim[0] = 1;
    size_t bytes = tensor_bytes(&r);
    r.data = (char *)t->data + row * bytes;
    return r; /* borrows */
}

static status save(search *s, const char *name, const tensor *t, const char **path)
{
    const char *p;
    TRY(arena_printf(&s->r->mem, &p, "%s/%s", s->o->dir, name));
    TRY(npy_write(p, t));
    if (path)
        *path = p;
    return ST_OK;
}

/* The layer alone on what our executor computes above it. It parts alone, or there is no such model. */
static status try_alone(search *s, size_t at)
{
    size_t above[ABOVE_MAX], n;
    const char *stem, *model, *names[ABOVE_MAX], *files[ABOVE_MAX];
    finding f = {0};
    TRY(cut_above(&s->m, at, above, ABOVE_MAX, &n));
    if (n == 0)
        return ST_OK; /* the cut is the layer alone */
    for (size_t k = 0; k < n; k++) {
        const char *name;
        TRY(arena_printf(&s->r->mem, &name, "alone.input%zu.npy", k));
        TRY(save(s, name, &s->m.point[above[k]].want, &files[k]));
        names[k] = s->m.point[above[k]].want.name;
    }
    TRY(arena_printf(&s->r->mem, &stem, "%s/alone", s->o->dir));
    status st = cut_write_alone(&s->m, at, above, n, s->o->form, stem, &s->r->mem, &model);
    if (st == ST_OK)
        st = ask(s, model, names, files, n, &f.why);
    if (st == ST_OK && !f.why)
        st = judge(s, &s->m.point[at].want, s->m.point[at].grid, &f);
    if (st == ST_OK && f.v == PARTS)
        s->r->alone = model;
    if (st == ST_BAD_DATA || st == ST_UNAVAILABLE) {
        log_info("the layer cannot stand alone: %s", status_message());
        status_clear();
        st = ST_OK;
    }
    return st;
}

static status report(search *s, size_t at)
{
    const finding *f = &s->f[at];
    const cut_point *p = &s->m.point[at];
    const char *stem;
    tensor x = one_row(s->o->x, f->sample), want = one_row(&p->want, f->sample);
    s->r->found = true;
    TRY(arena_strdup(&s->r->mem, &s->r->layer, p->layer->name));
    TRY(arena_strdup(&s->r->mem, &s->r->value, p->want.name));
    s->r->op = op_of(p->layer->op)->name;
    s->r->why = f->why;
    s->r->sample = f->sample;
    s->r->element = f->element;
    s->r->error = f->error;
    s->r->tolerance = f->tolerance;
    s->r->got = f->got;
    s->r->want = f->want;
    s->r->differ = f->differ;
    s->r->count = f->count;
    TRY(arena_printf(&s->r->mem, &stem, "%s/cut", s->o->dir));
    TRY(cut_write(&s->m, at, s->o->form, stem, &s->r->mem, &s->r->cut));
    TRY(save(s, "cut.input.npy", &x, NULL));
    return save(s, "cut.want.npy", &want, NULL);
}

status bisect_run(const bisect_options *o, bisect_result *out)
{
    search s = {.o = o, .r = out};
    verdict v;
    status st = ST_OK;
    *out = (bisect_result){0};
    if (o->x->sh.rank < 1 || o->x->sh.dim[0] < 1)
        return fail(ST_USAGE, "no samples to search with");
    TRY_DONE(io_make_dirs(o->dir));
    TRY_DONE(arena_printf(&out->mem, &s.y_path, "%s/answer.npy", o->dir));
    TRY_DONE(arena_printf(&out->mem, &s.log, "%s/runner.log", o->dir));
    TRY_DONE(save(&s, "samples.npy", o->x, &s.x_path));
    TRY_DONE(cut_open(o->model, o->x, o->threads, &s.m));
    TRY_DONE(mem_alloc(&s.f, s.m.n, sizeof *s.f));
    out->layers = s.m.n;
    size_t at = s.m.n - 1; /* the model's first output, where that is a point */
    for (size_t i = 0; i < s.m.n; i++)
        at = s.m.point[i].v == s.m.g->output[0] ? i : at;
    TRY_DONE(look(&s, at, &v));
    out->parts = v == PARTS;
    if (out->parts) {
        TRY_DONE(find_first(&s, &at));
        TRY_DONE(report(&s, at));
        TRY_DONE(try_alone(&s, at));
    }
done:
    mem_free(s.f);
    cut_close(&s.m);
    return st;
}

void bisect_free(bisect_result *r)
{
    arena_free(&r->mem);
}

/* ---- output ---- */

void bisect_print(const bisect_result *r, text *t)
{
    if (!r->parts) {
        text_printf(t, "the runtime agrees with our executor on these samples (%zu layers)\n", r->layers);
        return;
    }
    text_printf(t, "first layer that parts: %s (%s), value '%s'; all that it reads agrees\n", r->layer, r->op, r->value);
    if (r->why)
        text_printf(t, "  the runtime, of the model cut there: %s\n", r->why);
    else
        text_printf(t, "  sample %zu, number %zu: %.9g instead of %.9g (error %.3g, tolerance %.3g); %zu of %zu numbers differ\n", r->sample,
                    r->element, r->got, r->want, r->error, r->tolerance, r->differ, r->count);
    text_printf(t, "  cut there: %s, with the sample in cut.input.npy and our output in cut.want.npy\n", r->cut);
    if (r->alone)
        text_printf(t, "  the layer alone parts too: %s, with its inputs in alone.input*.npy\n", r->alone);
    text_printf(t, "  %zu runs of the runtime for %zu layers\n", r->asked, r->layers);
}

void bisect_json(const bisect_result *r, json *j)
{
    json_put_object(j, NULL);
    json_put_bool(j, "parts", r->parts);
    json_put_int(j, "layers", (int64_t)r->layers);
    json_put_int(j, "asked", (int64_t)r->asked);
    if (r->found) {
        json_put_string(j, "layer", r->layer);
        json_put_string(j, "op", r->op);
        json_put_string(j, "value", r->value);
        json_put_string(j, "why", r->why);
        json_put_int(j, "sample", (int64_t)r->sample);
        json_put_int(j, "element", (int64_t)r->element);
        json_put_number(j, "error", r->error);
        json_put_number(j, "tolerance", r->tolerance);
        json_put_number(j, "got", r->got);
        json_put_number(j, "want", r->want);
        json_put_int(j, "differ", (int64_t)r->differ);
        json_put_int(j, "count", (int64_t)r->count);
        json_put_string(j, "cut", r->cut);
        json_put_string(j, "alone", r->alone);
    }
    json_end_object(j);
}
