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
    const float **targets; /* [n], NULL: none */
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

/* Samples at a time: activations of a long part need not fit all at once. */
static int64_t batch_of(const prover *p)
{
    return p->n < 1 ? 1 : p->n < BATCH ? p->n : BATCH;
}

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
    TRY_DONE(frozen_open(g, p->o->b, 0, net));
    st = frozen_feed(net, p->o->ds, path);
    if (st != ST_OK)
        frozen_close(net);
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
        float *out = logits + at * net->width[0];
        TRY_DONE(frozen_run(net, b->x, b->n, &out));
        at += b->n;
    }
done:
    loader_close(l);
    return st;
}

/* Times single samples until TIMED_RUNS or two seconds are over. */
static status time_own(const prover *p, const char *path, const char *output, latency *out)
{
    frozen_net net = {0};
    graph_stats stats;
    float *y = NULL;
    loader *l = NULL;
    loader_options lo = loader_eval_options(DATA_VAL, 1);
    const batch *b;
    double ms[TIMED_RUNS];
    size_t n = 0;
    status st = ST_OK;
    TRY(open_own(p, path, output, 1, &net, &stats));
    TRY_DONE(mem_alloc(&y, net.width[0], sizeof *y));
    TRY_DONE(loader_open(p->o->ds, &lo, &l));
    TRY_DONE(loader_next(l, &b));
    double end = now() + TIMED_SECONDS;
    for (int i = 0; i < WARM_RUNS + TIMED_RUNS && (now() < end || n < 5); i++) {
        double t = now();
        TRY_DONE(frozen_run(&net, b->x, b->n, &y));
        if (i >= WARM_RUNS || now() >= end)
            ms[n++] = (now() - t) * 1e3;
    }
    *out = latency_of(ms, n);
done:
    mem_free(y);
    loader_close(l);
    frozen_close(&net);
    return st;
}

/* ---- ONNX Runtime ---- */

/* A session with its inputs and its first output bound to memory for `rows` samples. */
typedef struct ort_batch {
    tensor in[DATA_INPUTS], out;
    ort_call *call;
    int64_t rows;
} ort_batch;

static void ort_batch_free(ort_batch *o)
{
    ort_call_free(o->call);
    for (size_t i = 0; i < DATA_INPUTS; i++)
        tensor_free(&o->in[i]);
    tensor_free(&o->out);
}

/* `net` is the same model in our executor: it knows names, types and shapes. Also after failure free *o. */
static status ort_batch_open(const frozen_net *net, ort_session *s, int64_t rows, ort_batch *o)
{
    *o = (ort_batch){.rows = ort_input(s, 0)->sh.dim[0] > 0 ? ort_input(s, 0)->sh.dim[0] : rows};
    shape sh;
    for (size_t i = 0; i < net->in.n; i++) {
        const value *v = graph_value(net->g, net->in.port[i].to);
        dtype type = v->type;
        for (size_t k = 0; k < ort_input_count(s); k++) /* our executor takes float32 where the file says float16 */
            if (ort_input(s, k)->type == DTYPE_F16 && strcmp(ort_input(s, k)->name, v->name) == 0)
                type = DTYPE_F16;
        sh = v->sh;
        sh.dim[0] = o->rows;
        TRY(tensor_new(&o->in[i], v->name, type, sh));
    }
    sh = *frozen_shape(net, 0);
    sh.dim[0] = o->rows;
    TRY(tensor_new(&o->out, NULL, ort_output(s, 0)->type == DTYPE_F16 ? DTYPE_F16 : DTYPE_F32, sh));
    return ort_call_make(s, o->in, net->in.n, &o->out, 1, &o->call);
}

/* Samples [first, first + n) of x; rows beyond are zeros. */
static void ort_batch_put(ort_batch *o, const feed *f, const void *const *x, size_t first, size_t n)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct feed_port *p = &f->port[i];
        unsigned char *to = o->in[i].data;
        if (o->in[i].type == DTYPE_F16 && p->type == DTYPE_F32) {
            size_t each = p->bytes / sizeof(float);
            const float *from = (const float *)x[p->from] + first * each;
            for (size_t k = 0; k < (size_t)o->rows * each; k++)
                ((_Float16 *)o->in[i].data)[k] = (_Float16)(k < n * each ? from[k] : 0.0f);
            continue;
        }
        memcpy(to, (const unsigned char *)x[p->from] + first * p->bytes, n * p->bytes);
        memset(to + n * p->bytes, 0, ((size_t)o->rows - n) * p->bytes);
    }
}

static void ort_batch_get(const ort_batch *o, size_t numbers, float *to)
{
    if (o->out.type == DTYPE_F32)
        memcpy(to, o->out.data, numbers * sizeof *to);
    for (size_t k = 0; o->out.type != DTYPE_F32 && k < numbers; k++)
        to[k] = (float)((const _Float16 *)o->out.data)[k];
}

static status run_ort(const prover *p, ort_session *s, const frozen_net *net, float *logits)
{
    loader *l = NULL;
    loader_options lo = loader_eval_options(DATA_VAL, BATCH);
    ort_batch o = {0};
    size_t at = 0, width = net->width[0];
    status st = ST_OK;
    TRY_DONE(ort_batch_open(net, s, net->batch, &o));
    TRY_DONE(loader_open(p->o->ds, &lo, &l));
    for (;;) {
        const batch *b;
        TRY_DONE(loader_next(l, &b));
        if (!b)
            break;
        for (size_t i = 0; i < b->n; i += (size_t)o.rows) {
            size_t n = b->n - i < (size_t)o.rows ? b->n - i : (size_t)o.rows;
            ort_batch_put(&o, &net->in, b->x, i, n);
            TRY_DONE(ort_call_run(o.call));
            ort_batch_get(&o, n * width, logits + (at + i) * width);
        }
        at += b->n;
    }
done:
    loader_close(l);
    ort_batch_free(&o);
    return st;
}

static status time_ort(const prover *p, ort_session *s, const frozen_net *net, latency *out)
{
    ort_batch o = {0};
    loader *l = NULL;
    loader_options lo = loader_eval_options(DATA_VAL, 1);
    const batch *b;
    double ms[TIMED_RUNS];
    size_t n = 0;
    status st = ST_OK;
    TRY_DONE(ort_batch_open(net, s, 1, &o));
    TRY_DONE(loader_open(p->o->ds, &lo, &l));
    TRY_DONE(loader_next(l, &b));
    ort_batch_put(&o, &net->in, b->x, 0, 1);
    double end = now() + TIMED_SECONDS;
    for (int i = 0; i < WARM_RUNS + TIMED_RUNS && (now() < end || n < 5); i++) {
        double t = now();
        TRY_DONE(ort_call_run(o.call));
        if (i >= WARM_RUNS || now() >= end)
            ms[n++] = (now() - t) * 1e3;
    }
    *out = latency_of(ms, n);
done:
    loader_close(l);
    ort_batch_free(&o);
    return st;
}

/* ---- one model ---- */

static double accuracy_of(const prover *p, const float *logits, int64_t classes)
{
    size_t labelled = 0, correct = 0;
    if (p->v->numbers)
        return (double)NAN;
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

static status compare_outputs(const prover *p, const float *a, const float *b, size_t width, difference *out)
{
    return p->v->numbers ? compare_numbers(a, b, p->n, width, out) : compare_logits(a, b, p->n, width, out);
}

static status prove_in_ort(prover *p, const char *model, const char *path, const float *own, const frozen_net *net)
{
    int64_t classes = (int64_t)net->width[0];
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
        st = run_ort(p, s, net, logits);
    if (st == ST_OK) {
        r->accuracy = accuracy_of(p, logits, classes);
        status finite = compare_outputs(p, own, logits, (size_t)classes, &r->diff);
        r->has_difference = true;
        r->ok = finite == ST_OK;
        st = time_ort(p, s, net, &r->time);
        r->has_latency = st == ST_OK;
        bool held = r->ok && within(p, own, logits, classes) && r->diff.disagreements == 0;
        int used = snprintf(detail, sizeof detail, "%s: largest difference %.3g on %zu samples",
                            r->ok ? "finite" : "not finite", r->diff.max_abs, r->diff.samples);
        if (!p->v->numbers)
            snprintf(detail + used, sizeof detail - (size_t)used, ", %zu other classes", r->diff.disagreements);
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

static status score_outputs(const prover *p, const float *x, const frozen_net *net, score *s)
{
    size_t width = net->width[0];
    bool fit = (int64_t)width == p->info->target_size;
    return !p->v->numbers ? score_logits(x, p->labels, p->n, width, s)
                          : score_numbers(x, fit ? p->targets : p->targets + p->n, p->n, width, s);
}

static status prove_model(prover *p, const char *model, const char *path, const char *output, score *s,
                          float **logits, int64_t *width, graph_stats *stats)
{
    frozen_net net = {0};
    status st = ST_OK;
    char name[64];
    TRY(open_own(p, path, output, batch_of(p), &net, stats));
    *width = (int64_t)net.width[0];
    p->v->numbers = p->v->numbers || frozen_shape(&net, 0)->rank != 2;
    TRY_DONE(mem_alloc(logits, (size_t)p->n * net.width[0], sizeof **logits));
    TRY_DONE(run_own(p, &net, *logits));
    runtime_result *r = add_runtime(p, model, "distill");
    r->version = DISTILL_VERSION;
    r->accuracy = accuracy_of(p, *logits, *width);
    status finite = score_outputs(p, *logits, &net, s);
    r->ok = finite == ST_OK;
    if (finite != ST_OK && finite != ST_GATE) {
        st = finite;
        goto done;
    }
    snprintf(name, sizeof name, "%s is finite", model);
    TRY_DONE(prove_add_check(p->v, r->ok, name, r->ok ? "every output on every sample" : status_message()));
    TRY_DONE(time_own(p, path, output, &r->time));
    r->has_latency = true;
    if (output)
        log_info("%s: teacher.output cuts the file, which ONNX Runtime runs whole; it is not compared there",
                 path);
    else
        st = prove_in_ort(p, model, path, *logits, &net);
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
    if (p->n == 0)
        return fail(ST_BAD_DATA, "%s: there are no validation samples", p->info->path);
    TRY(mem_alloc(&p->labels, p->n, sizeof *p->labels));
    for (uint32_t i = 0; i < p->n; i++)
        p->labels[i] = p->info->classes ? (int32_t)dataset_label(p->o->ds, DATA_VAL, i) : -1;
    TRY(mem_alloc(&p->targets, 2 * (size_t)p->n, sizeof *p->targets)); /* the second half: no sample has any */
    for (uint32_t i = 0; i < p->n; i++)
        p->targets[i] = dataset_target(p->o->ds, DATA_VAL, i);
    v->numbers = p->o->numbers;
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
    int64_t width = 0;
    status st = ST_OK;
    *v = (validation){0};
    *out = (proof){0};
    TRY_DONE(prepare(&p));
    if (teacher) {
        TRY_DONE(prove_model(&p, "teacher", teacher, o->teacher_output, &v->teacher, &out->teacher, &width,
                             &stats));
        v->has_teacher = true;
        out->teacher_width = width;
        out->teacher_macs = stats.macs;
        out->teacher_parameters = stats.parameters;
    }
    TRY_DONE(prove_model(&p, "student", student, NULL, &v->student, &out->student, &out->width, &stats));
    out->student_macs = stats.macs;
    out->student_parameters = stats.parameters;
    out->numbers = v->numbers;
    if (!v->numbers)
        TRY_DONE(name_classes(&p, out->width));
    if (teacher && width == out->width) {
        status finite = compare_outputs(&p, out->teacher, out->student, (size_t)width, &v->agreement);
        v->has_agreement = finite == ST_OK;
    }
    if (teacher && width == out->width && !v->numbers) {
        TRY_DONE(validation_add_farthest(v, out->teacher, out->student, p.labels, o->farthest));
        TRY_DONE(add_images(&p));
    }
done:
    ort_close(p.ort);
    mem_free(p.labels);
    mem_free(p.targets);
    if (st != ST_OK)
        proof_free(out);
    return st;
}

status prove_outputs(const prove_options *o, const char *path, bool in_ort, float **logits, shape *sh, latency *time_out)
{
    prover p = {.o = o, .info = dataset_info(o->ds)};
    frozen_net net = {0};
    graph_stats stats;
    ort_session *s = NULL;
    status st = ST_OK;
    *logits = NULL;
    p.n = p.info->part[DATA_VAL].n;
    TRY_DONE(open_own(&p, path, o->teacher_output, batch_of(&p), &net, &stats)); /* also tells the shape */
    *sh = *frozen_shape(&net, 0);
    sh->dim[0] = p.n;
    TRY_DONE(mem_alloc(logits, (size_t)p.n * net.width[0], sizeof **logits));
    if (in_ort) {
        ort_options oo = {.threads = o->b->threads};
        TRY_DONE(ort_open(o->ort, &p.ort));
        TRY_DONE(ort_session_open(p.ort, path, &oo, &s));
        TRY_DONE(run_ort(&p, s, &net, *logits));
        st = time_ort(&p, s, &net, time_out);
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
