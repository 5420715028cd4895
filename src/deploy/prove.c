/* prove.c - the same samples through our executor and through ONNX Runtime. */
#include "deploy/prove.h"
#include "base/log.h"
#include "data/loader.h"
#include "deploy/ort.h"
#include "distill/frozen.h"
#include "onnx/import.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define BATCH         200
#define TIMED_RUNS    200
#define WARM_RUNS     20
#define CHECKS_MAX    32
#define THUMBNAIL     56
#define TIMED_SECONDS 2.0

typedef struct prover {
    const prove_options *o;
    validation *v;
    ort_lib *ort; /* NULL: not there */
    const data_info *info;
    uint32_t n;
    int32_t *labels; /* [n], -1: none */
    size_t sample;   /* floats of one */
} prover;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

status prove_add_check(validation *v, bool held, const char *name, const char *detail)
{
    if (!v->checks)
        TRY(arena_alloc(&v->mem, &v->checks, CHECKS_MAX, sizeof *v->checks));
    if (v->n_checks == CHECKS_MAX)
        return fail(ST_INTERNAL, "more than %d checks", CHECKS_MAX);
    check_result *c = &v->checks[v->n_checks++];
    c->held = held;
    TRY(arena_strdup(&v->mem, &c->name, name));
    return arena_strdup(&v->mem, &c->detail, detail);
}

bool prove_held(const validation *v)
{
    for (size_t i = 0; i < v->n_checks; i++)
        if (!v->checks[i].held)
            return false;
    return true;
}

/* ---- our own executor ---- */

static status open_own(const prover *p, const char *path, const char *output, int64_t rows, frozen_net *net,
                       graph_stats *stats)
{
    onnx_model *m = NULL;
    graph *g = NULL;
    status st = ST_OK;
    import_options o = {.batch = rows, .outputs = output ? &output : NULL, .n_outputs = output ? 1 : 0};
    TRY_DONE(onnx_open(path, p->o->lim, &m));
    st = onnx_import(m, &o, &g);
    if (st == ST_CONFIG && rows > 1) { /* a file with a fixed batch keeps it */
        o.batch = 0;
        st = onnx_import(m, &o, &g);
    }
    if (st != ST_OK)
        goto done;
    g->n_output = 1;
    *stats = graph_measure(g, graph_value(g, g->input[0])->sh.dim[0]);
    st = frozen_open(g, p->o->b, 0, net);
done:
    onnx_close(m);
    return st;
}

static status run_own(const prover *p, frozen_net *net, float *logits)
{
    loader *l = NULL;
    loader_options lo = loader_eval_options(DATA_VAL, BATCH);
    size_t at = 0;
    status st = ST_OK;
    TRY_DONE(loader_open(p->o->ds, &lo, &l));
    for (;;) {
        const batch *b;
        TRY_DONE(loader_next(l, &b));
        if (!b)
            break;
        float *out = logits + at * (size_t)net->classes;
        frozen_run(net, b->x[0], b->n, &out);
        at += b->n;
    }
done:
    loader_close(l);
    return st;
}

static status first_sample(const prover *p, float *x)
{
    loader *l = NULL;
    loader_options lo = loader_eval_options(DATA_VAL, 1);
    const batch *b;
    status st = ST_OK;
    TRY_DONE(loader_open(p->o->ds, &lo, &l));
    TRY_DONE(loader_next(l, &b));
    if (b)
        memcpy(x, b->x[0], p->sample * sizeof *x);
done:
    loader_close(l);
    return st;
}

/* Times single samples until TIMED_RUNS or two seconds are over. */
static status time_own(const prover *p, const char *path, const char *output, latency *out)
{
    frozen_net net = {0};
    graph_stats stats;
    float *x = NULL, *y = NULL;
    double ms[TIMED_RUNS];
    size_t n = 0;
    status st = ST_OK;
    TRY(open_own(p, path, output, 1, &net, &stats));
    size_t rows = (size_t)net.batch;
    TRY_DONE(mem_alloc(&x, rows * p->sample, sizeof *x));
    TRY_DONE(mem_alloc(&y, rows * (size_t)net.classes, sizeof *y));
    TRY_DONE(first_sample(p, x));
    double end = now() + TIMED_SECONDS;
    for (int i = 0; i < WARM_RUNS + TIMED_RUNS && (now() < end || n < 5); i++) {
        double t = now();
        frozen_run(&net, x, rows, &y);
        if (i >= WARM_RUNS || now() >= end)
            ms[n++] = (now() - t) * 1e3;
    }
    *out = latency_of(ms, n);
done:
    mem_free(y);
    mem_free(x);
    frozen_close(&net);
    return st;
}

/* ---- ONNX Runtime ---- */

static status run_ort(const prover *p, ort_session *s, int64_t classes, float *logits)
{
    loader *l = NULL;
    loader_options lo = loader_eval_options(DATA_VAL, BATCH);
    size_t at = 0;
    status st = ST_OK;
    TRY_DONE(loader_open(p->o->ds, &lo, &l));
    for (;;) {
        const batch *b;
        TRY_DONE(loader_next(l, &b));
        if (!b)
            break;
        tensor x = {.type = DTYPE_F32, .data = (void *)(uintptr_t)b->x[0]}, y = {.type = DTYPE_F32};
        x.sh.rank = p->info->input[0].sh.rank + 1;
        x.sh.dim[0] = b->n;
        memcpy(x.sh.dim + 1, p->info->input[0].sh.dim, sizeof(int64_t) * (size_t)p->info->input[0].sh.rank);
        y.sh = SHAPE(b->n, classes);
        y.data = logits + at * (size_t)classes;
        TRY_DONE(ort_run_all(s, &x, b->n, &y));
        at += b->n;
    }
done:
    loader_close(l);
    return st;
}

static status time_ort(const prover *p, ort_session *s, int64_t classes, latency *out)
{
    tensor x = {.type = DTYPE_F32}, y = {.type = DTYPE_F32};
    ort_call *call = NULL;
    double ms[TIMED_RUNS];
    size_t n = 0;
    int64_t rows = ort_input(s, 0)->sh.dim[0] > 0 ? ort_input(s, 0)->sh.dim[0] : 1;
    shape sh = {.rank = p->info->input[0].sh.rank + 1, .dim = {rows}};
    status st = ST_OK;
    memcpy(sh.dim + 1, p->info->input[0].sh.dim, sizeof(int64_t) * (size_t)p->info->input[0].sh.rank);
    TRY_DONE(tensor_new(&x, NULL, DTYPE_F32, sh));
    TRY_DONE(tensor_new(&y, NULL, DTYPE_F32, SHAPE(rows, classes)));
    TRY_DONE(first_sample(p, x.data));
    TRY_DONE(ort_call_make(s, &x, 1, &y, 1, &call));
    double end = now() + TIMED_SECONDS;
    for (int i = 0; i < WARM_RUNS + TIMED_RUNS && (now() < end || n < 5); i++) {
        double t = now();
        TRY_DONE(ort_call_run(call));
        if (i >= WARM_RUNS || now() >= end)
            ms[n++] = (now() - t) * 1e3;
    }
    *out = latency_of(ms, n);
done:
    ort_call_free(call);
    tensor_free(&x);
    tensor_free(&y);
    return st;
}

/* ---- one model ---- */

static double accuracy_of(const prover *p, const float *logits, int64_t classes)
{
    size_t labelled = 0, correct = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        labelled += p->labels[i] >= 0;
        correct += p->labels[i] >= 0 && compare_argmax(logits + (size_t)i * (size_t)classes,
                                                       (size_t)classes) == (size_t)p->labels[i];
    }
    return labelled ? (double)correct / (double)labelled : (double)NAN;
}

/* The largest violation of |a - b| <= atol + rtol * max|a| over the samples: at most 0 when all hold. */
static bool within(const prover *p, const float *a, const float *b, int64_t classes)
{
    for (uint32_t i = 0; i < p->n; i++) {
        const float *x = a + (size_t)i * (size_t)classes, *y = b + (size_t)i * (size_t)classes;
        double top = 0, far = 0;
        for (int64_t k = 0; k < classes; k++) {
            double d = fabs((double)x[k] - (double)y[k]);
            if (!(d <= 1e300))
                return false;
            top = fabs((double)x[k]) > top ? fabs((double)x[k]) : top;
            far = d > far ? d : far;
        }
        if (far > p->o->atol + p->o->rtol * top)
            return false;
    }
    return true;
}

static runtime_result *add_runtime(prover *p, const char *model, const char *runtime)
{
    runtime_result *r = &p->v->runtimes[p->v->n_runtimes++];
    *r = (runtime_result){.model = model,
                          .runtime = runtime,
                          .precision = "fp32",
                          .accuracy = (double)NAN,
                          .batch = 1,
                          .threads = p->o->b->threads};
    return r;
}

static status prove_in_ort(prover *p, const char *model, const char *path, const float *own, int64_t classes)
{
    char detail[400], name[64];
    ort_session *s = NULL;
    float *logits = NULL;
    runtime_result *r = add_runtime(p, model, "ONNX Runtime");
    snprintf(name, sizeof name, "%s in ONNX Runtime", model);
    if (!p->ort) {
        r->message = "not installed";
        return prove_add_check(p->v, false, name,
                               "ONNX Runtime is not installed: tools/setup brings it, or give --ort");
    }
    ort_options oo = {.threads = p->o->b->threads};
    status st = mem_alloc(&logits, (size_t)p->n * (size_t)classes, sizeof *logits);
    if (st != ST_OK)
        return st;
    r->version = ort_version(p->ort);
    st = arena_strdup(&p->v->mem, &r->version, r->version);
    if (st == ST_OK)
        st = ort_session_open(p->ort, path, &oo, &s);
    if (st == ST_OK)
        st = run_ort(p, s, classes, logits);
    if (st == ST_OK) {
        r->accuracy = accuracy_of(p, logits, classes);
        status finite = compare_logits(own, logits, p->n, (size_t)classes, &r->diff);
        r->has_difference = true;
        r->ok = finite == ST_OK;
        st = time_ort(p, s, classes, &r->time);
        r->has_latency = st == ST_OK;
        bool held = r->ok && within(p, own, logits, classes) && r->diff.disagreements == 0;
        snprintf(detail, sizeof detail, "%s: largest difference %.3g on %zu samples, %zu other classes",
                 r->ok ? "finite" : "not finite", r->diff.max_abs, r->diff.samples, r->diff.disagreements);
        if (st == ST_OK)
            st = prove_add_check(p->v, held, name, detail);
    }
    if (st == ST_BAD_DATA || st == ST_UNAVAILABLE) { /* the runtime refused: that is a result */
        r->ok = false;
        status said = arena_strdup(&p->v->mem, &r->message, status_message());
        snprintf(detail, sizeof detail, "%s", status_message());
        st = said == ST_OK ? prove_add_check(p->v, false, name, detail) : said;
    }
    ort_session_close(s);
    mem_free(logits);
    return st;
}

static status prove_model(prover *p, const char *model, const char *path, const char *output, score *s,
                          float **logits, int64_t *classes, graph_stats *stats)
{
    frozen_net net = {0};
    status st = ST_OK;
    char name[64];
    TRY(open_own(p, path, output, BATCH, &net, stats));
    *classes = net.classes;
    if (net.sample != p->sample) {
        st = fail(ST_BAD_DATA, "%s: takes samples of %zu numbers, the data set has %zu", path, net.sample,
                  p->sample);
        goto done;
    }
    TRY_DONE(mem_alloc(logits, (size_t)p->n * (size_t)net.classes, sizeof **logits));
    TRY_DONE(run_own(p, &net, *logits));
    runtime_result *r = add_runtime(p, model, "distill");
    r->version = DISTILL_VERSION;
    r->accuracy = accuracy_of(p, *logits, net.classes);
    status finite = score_logits(*logits, p->labels, p->n, (size_t)net.classes, s);
    r->ok = finite == ST_OK;
    if (finite != ST_OK && finite != ST_GATE) {
        st = finite;
        goto done;
    }
    snprintf(name, sizeof name, "%s is finite", model);
    TRY_DONE(prove_add_check(p->v, r->ok, name, r->ok ? "every logit on every sample" : status_message()));
    TRY_DONE(time_own(p, path, output, &r->time));
    r->has_latency = true;
    if (output)
        log_info("%s: teacher.output cuts the file, which ONNX Runtime runs whole; it is not compared there",
                 path);
    else
        st = prove_in_ort(p, model, path, *logits, net.classes);
done:
    frozen_close(&net);
    return st;
}

/* ---- both together ---- */

static status add_images(prover *p)
{
    for (size_t i = 0; i < p->v->n_farthest; i++) {
        image img = {0};
        if (!p->info->image)
            return ST_OK;
        far_sample *f = &p->v->farthest[i];
        status st = dataset_pixels(p->o->ds, DATA_VAL, (uint32_t)f->sample, &img);
        if (st == ST_OK)
            st = thumbnail_from_bytes(&p->v->mem, img.px, img.width, img.height, img.channels, THUMBNAIL,
                                      &f->image);
        image_free(&img);
        TRY(st);
    }
    return ST_OK;
}

static status name_classes(prover *p, int64_t classes)
{
    validation *v = p->v;
    v->classes = (size_t)classes;
    TRY(arena_alloc(&v->mem, &v->class_names, v->classes, sizeof *v->class_names));
    for (size_t i = 0; i < v->classes; i++) {
        bool named = p->info->class_name && i < (size_t)p->info->classes;
        if (named)
            TRY(arena_strdup(&v->mem, &v->class_names[i], p->info->class_name[i]));
        else
            TRY(arena_printf(&v->mem, &v->class_names[i], "%zu", i));
    }
    return ST_OK;
}

static status prepare(prover *p)
{
    validation *v = p->v;
    p->info = dataset_info(p->o->ds);
    p->n = p->info->part[DATA_VAL].n;
    p->sample = (size_t)shape_count(&p->info->input[0].sh);
    if (p->n == 0)
        return fail(ST_BAD_DATA, "%s: there are no validation samples", p->info->path);
    TRY(mem_alloc(&p->labels, p->n, sizeof *p->labels));
    for (uint32_t i = 0; i < p->n; i++)
        p->labels[i] = p->info->classes ? (int32_t)dataset_label(p->o->ds, DATA_VAL, i) : -1;
    v->samples = p->n;
    TRY(arena_printf(&v->mem, &v->set, "%s, %s", p->info->path,
                     p->info->split ? "split off" : "validation part"));
    TRY(arena_alloc(&v->mem, &v->runtimes, 4, sizeof *v->runtimes));
    status st = ort_open(p->o->ort, &p->ort);
    if (st == ST_UNAVAILABLE)
        log_warn("%s", status_message());
    return st == ST_UNAVAILABLE ? ST_OK : st;
}

status prove(const prove_options *o, const char *teacher, const char *student, validation *v, proof *out)
{
    prover p = {.o = o, .v = v};
    graph_stats stats;
    int64_t classes = 0;
    status st = ST_OK;
    *v = (validation){0};
    *out = (proof){0};
    TRY_DONE(prepare(&p));
    if (teacher) {
        TRY_DONE(prove_model(&p, "teacher", teacher, o->teacher_output, &v->teacher, &out->teacher, &classes,
                             &stats));
        v->has_teacher = true;
        out->teacher_macs = stats.macs;
        out->teacher_parameters = stats.parameters;
    }
    TRY_DONE(prove_model(&p, "student", student, NULL, &v->student, &out->student, &out->classes, &stats));
    out->student_macs = stats.macs;
    out->student_parameters = stats.parameters;
    TRY_DONE(name_classes(&p, out->classes));
    if (teacher && classes == out->classes) {
        status finite = compare_logits(out->teacher, out->student, p.n, (size_t)classes, &v->agreement);
        v->has_agreement = finite == ST_OK;
        TRY_DONE(validation_add_farthest(v, out->teacher, out->student, p.labels, o->farthest));
        TRY_DONE(add_images(&p));
    }
done:
    ort_close(p.ort);
    mem_free(p.labels);
    if (st != ST_OK)
        proof_free(out);
    return st;
}

status prove_logits(const prove_options *o, const char *path, bool in_ort, float **logits, int64_t *classes,
                    latency *time_out)
{
    prover p = {.o = o, .info = dataset_info(o->ds)};
    frozen_net net = {0};
    graph_stats stats;
    ort_session *s = NULL;
    status st = ST_OK;
    *logits = NULL;
    p.n = p.info->part[DATA_VAL].n;
    p.sample = (size_t)shape_count(&p.info->input[0].sh);
    TRY_DONE(open_own(&p, path, o->teacher_output, BATCH, &net, &stats)); /* also tells the number of classes */
    *classes = net.classes;
    if (net.sample != p.sample) {
        st = fail(ST_BAD_DATA, "%s: takes samples of %zu numbers, the data set has %zu", path, net.sample, p.sample);
        goto done;
    }
    TRY_DONE(mem_alloc(logits, (size_t)p.n * (size_t)net.classes, sizeof **logits));
    if (in_ort) {
        ort_options oo = {.threads = o->b->threads};
        TRY_DONE(ort_open(o->ort, &p.ort));
        TRY_DONE(ort_session_open(p.ort, path, &oo, &s));
        TRY_DONE(run_ort(&p, s, *classes, *logits));
        st = time_ort(&p, s, *classes, time_out);
    } else {
        TRY_DONE(run_own(&p, &net, *logits));
        st = time_own(&p, path, o->teacher_output, time_out);
    }
done:
    ort_session_close(s);
    ort_close(p.ort);
    frozen_close(&net);
    if (st != ST_OK) {
        mem_free(*logits);
        *logits = NULL;
    }
    return st;
}

void proof_free(proof *p)
{
    mem_free(p->teacher);
    mem_free(p->student);
    *p = (proof){0};
}
