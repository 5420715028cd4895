/* dnn_choose.c - which engine of cuDNN runs a graph: the one that an earlier run found to be fastest; else, of what heuristics
 * propose (mode A, B, then what always works), the first that is allowed and can be finalised, or the fastest on the device. */
#include "kernels/cuda/dnn_inside.h"
#include "base/mem.h"

#include <string.h>
#include <time.h>

#define PROPOSALS 16 /* of one heuristic */
#define NOTES     16
#define TIMED     24 /* candidates at most */
#define RUNS      5  /* of a candidate in one launch, and launches */
#define LAUNCHES  3

/* ---- what a proposal is ---- */

typedef struct candidate {
    void *config, *plan;
    dnn_choice choice;
    size_t workspace;
    int mode;
    bool runtime_compiled;
} candidate;

static void drop(const cuda_dnn *d, candidate *c)
{
    if (c->plan)
        d->api->unmake(c->plan);
    if (c->config)
        d->api->unmake(c->config);
    c->plan = c->config = NULL;
}

static bool has_note(const int *note, int64_t n, int which)
{
    for (int64_t i = 0; i < n; i++)
        if (note[i] == which)
            return true;
    return false;
}

/* Whether the key allows the candidate's engine; notes down what it is. */
static bool is_allowed(const cuda_dnn *d, const dnn_key *k, candidate *c)
{
    int numerical[NOTES], behavior[NOTES];
    int64_t n = 0, n_numerical = 0, n_behavior = 0;
    void *engine = NULL;
    if (d->api->make(DNN_ENGINE, &engine) != 0)
        return false;
    bool known = d->api->get(c->config, DNN_CONFIG_ENGINE, DNN_T_DESCRIPTOR, 1, &n, &engine) == 0 &&
                 d->api->get(engine, DNN_ENGINE_INDEX, DNN_T_I64, 1, &n, &c->choice.engine) == 0 &&
                 d->api->get(engine, DNN_ENGINE_NUMERICAL, DNN_T_NUMERICAL_NOTE, NOTES, &n_numerical, numerical) == 0 &&
                 d->api->get(engine, DNN_ENGINE_BEHAVIOR, DNN_T_BEHAVIOR_NOTE, NOTES, &n_behavior, behavior) == 0;
    d->api->unmake(engine);
    n_numerical = n_numerical > NOTES ? NOTES : n_numerical;
    n_behavior = n_behavior > NOTES ? NOTES : n_behavior;
    c->runtime_compiled = has_note(behavior, n_behavior, DNN_NOTE_RUNTIME_COMPILATION);
    return known && !(k->deterministic && has_note(numerical, n_numerical, DNN_NOTE_NONDETERMINISTIC)) &&
           !(k->type == DNN_FLOAT && has_note(numerical, n_numerical, DNN_NOTE_DOWN_CONVERT)) &&
           !(k->type == DNN_FLOAT && !k->tf32 && has_note(numerical, n_numerical, DNN_NOTE_TENSOR_CORE)) &&
           !has_note(numerical, n_numerical, DNN_NOTE_REDUCED_PRECISION) && !(k->norm && c->runtime_compiled) &&
           !(k->exact && (has_note(numerical, n_numerical, DNN_NOTE_WINOGRAD) || has_note(numerical, n_numerical, DNN_NOTE_FFT)));
}

/* The knobs of a configuration; n_knob -1 where the library does not tell. */
static void read_knobs(const cuda_dnn *d, candidate *c)
{
    dnn_choice *to = &c->choice;
    void *knob[DNN_MOST_KNOBS];
    int64_t n = 0, one = 0;
    int made = 0;
    to->n_knob = -1;
    while (made < DNN_MOST_KNOBS && d->api->make(DNN_KNOB, &knob[made]) == 0)
        made++;
    bool known = made == DNN_MOST_KNOBS && d->api->get(c->config, DNN_CONFIG_KNOBS, DNN_T_DESCRIPTOR, made, &n, knob) == 0 &&
                 n >= 0 && n <= made;
    for (int64_t i = 0; i < n && known; i++)
        known = d->api->get(knob[i], DNN_KNOB_TYPE, DNN_T_KNOB, 1, &one, &to->knob[i]) == 0 &&
                d->api->get(knob[i], DNN_KNOB_VALUE, DNN_T_I64, 1, &one, &to->value[i]) == 0;
    if (known)
        to->n_knob = (int32_t)n;
    while (made > 0)
        d->api->unmake(knob[--made]);
}

static bool is_same(const dnn_choice *a, const dnn_choice *b)
{
    const size_t n = a->n_knob > 0 ? (size_t)a->n_knob : 0;
    return a->engine == b->engine && a->n_knob == b->n_knob && a->n_knob >= 0 && memcmp(a->knob, b->knob, n * sizeof *a->knob) == 0 &&
           memcmp(a->value, b->value, n * sizeof *a->value) == 0;
}

static int finalize_plan(const cuda_dnn *d, void *plan, void *config)
{
    int code = d->handle ? d->api->set(plan, DNN_PLAN_HANDLE, DNN_T_HANDLE, 1, &d->handle)
                         : d->api->set(plan, DNN_PLAN_DEVICE, DNN_T_DESCRIPTOR, 1, &d->device);
    if (code == 0)
        code = d->api->set(plan, DNN_PLAN_CONFIG, DNN_T_DESCRIPTOR, 1, &config);
    return code == 0 ? d->api->finalize(plan) : code;
}

/* Makes the plan of a configuration that is allowed. */
static bool make_plan(const cuda_dnn *d, dnn_plan *p, candidate *c)
{
    int64_t n = 0, bytes = 0;
    p->configs++;
    if (!is_allowed(d, &p->key, c))
        return false;
    p->code = d->api->make(DNN_PLAN, &c->plan);
    if (p->code != 0) {
        c->plan = NULL;
        return false;
    }
    p->code = finalize_plan(d, c->plan, c->config);
    bool compiles = !d->handle && p->code == DNN_STATUS_DRIVER && c->runtime_compiled;
    if (p->code == 0 || compiles) {
        p->code = d->api->get(c->plan, DNN_PLAN_WORKSPACE, DNN_T_I64, 1, &n, &bytes);
        if (compiles && p->code != 0) { /* it is asked for of finished plans alone */
            p->code = 0;
            bytes = 0;
        }
    }
    c->workspace = (size_t)bytes;
    return p->code == 0 && bytes >= 0;
}

/* p owns what the candidate has. */
static void take(const cuda_dnn *d, dnn_plan *p, candidate *c)
{
    if (p->n_part + 2 > DNN_MOST_PARTS) {
        drop(d, c);
        return;
    }
    p->part[p->n_part++] = c->config;
    p->part[p->n_part++] = p->plan = c->plan;
    p->workspace = c->workspace;
    p->choice = c->choice;
    p->mode = c->mode;
    p->runtime_compiled = c->runtime_compiled;
}

/* ---- proposals ---- */

/* What a heuristic proposes: config [PROPOSALS], to be unmade by the caller; returns how many. */
static int propose(const cuda_dnn *d, dnn_plan *p, int mode, void **config)
{
    void *heuristic = NULL;
    int64_t found = 0;
    int made = 0;
    if ((p->code = d->api->make(DNN_HEURISTIC, &heuristic)) != 0)
        return 0;
    p->code = d->api->set(heuristic, DNN_HEURISTIC_GRAPH, DNN_T_DESCRIPTOR, 1, &p->graph);
    if (p->code == 0)
        p->code = d->api->set(heuristic, DNN_HEURISTIC_MODE, DNN_T_HEURISTIC_MODE, 1, &mode);
    if (p->code == 0 && !d->handle)
        p->code = d->api->set(heuristic, DNN_HEURISTIC_DEVICE, DNN_T_DESCRIPTOR, 1, &d->device);
    if (p->code == 0)
        p->code = d->api->finalize(heuristic);
    while (p->code == 0 && made < PROPOSALS && (p->code = d->api->make(DNN_ENGINE_CONFIG, &config[made])) == 0)
        made++;
    if (p->code == 0)
        p->code = d->api->get(heuristic, DNN_HEURISTIC_RESULTS, DNN_T_DESCRIPTOR, made, &found, config);
    if (p->code != 0 || found < 0)
        found = 0;
    while (made > found)
        d->api->unmake(config[--made]);
    d->api->unmake(heuristic);
    return made;
}

static const int modes[] = {DNN_MODE_A, DNN_MODE_B, DNN_MODE_FALLBACK};
enum { MODES = sizeof modes / sizeof *modes };

/* The first proposal that serves, of those that want at most so much workspace. */
static void take_first(const cuda_dnn *d, dnn_plan *p, size_t most)
{
    void *config[PROPOSALS];
    for (int m = 0; m < MODES && !p->plan; m++) {
        int n = propose(d, p, modes[m], config);
        for (int i = 0; i < n; i++) {
            candidate c = {.config = config[i], .mode = modes[m]};
            if (!p->plan && make_plan(d, p, &c) && c.workspace <= most) {
                read_knobs(d, &c);
                take(d, p, &c);
            } else {
                drop(d, &c);
            }
        }
    }
}

/* ---- what was remembered ---- */

static void keep_part(dnn_plan *p, void *made, void **to)
{
    *to = made;
    p->part[p->n_part++] = made;
}

/* The configuration of a choice; NULL: the library has it no more. Its parts stay in p. */
static void *remake(const cuda_dnn *d, dnn_plan *p, const dnn_choice *c)
{
    const dnn_api *api = d->api;
    void *engine, *config = NULL, *knob[DNN_MOST_KNOBS], *made = NULL;
    if (c->n_knob < 0 || c->n_knob > DNN_MOST_KNOBS || p->n_part + c->n_knob + 3 > DNN_MOST_PARTS || api->make(DNN_ENGINE, &made) != 0)
        return NULL;
    keep_part(p, made, &engine);
    if (api->set(engine, DNN_ENGINE_GRAPH, DNN_T_DESCRIPTOR, 1, &p->graph) != 0 ||
        api->set(engine, DNN_ENGINE_INDEX, DNN_T_I64, 1, &c->engine) != 0 ||
        (!d->handle && api->set(engine, DNN_ENGINE_DEVICE, DNN_T_DESCRIPTOR, 1, &d->device) != 0) || api->finalize(engine) != 0)
        return NULL;
    for (int i = 0; i < c->n_knob; i++) {
        if (api->make(DNN_KNOB, &made) != 0)
            return NULL;
        keep_part(p, made, &knob[i]);
        if (api->set(made, DNN_KNOB_TYPE, DNN_T_KNOB, 1, &c->knob[i]) != 0 ||
            api->set(made, DNN_KNOB_VALUE, DNN_T_I64, 1, &c->value[i]) != 0 || api->finalize(made) != 0)
            return NULL;
    }
    if (api->make(DNN_ENGINE_CONFIG, &config) != 0)
        return NULL;
    if (api->set(config, DNN_CONFIG_ENGINE, DNN_T_DESCRIPTOR, 1, &engine) == 0 &&
        (c->n_knob == 0 || api->set(config, DNN_CONFIG_KNOBS, DNN_T_DESCRIPTOR, c->n_knob, knob) == 0) && api->finalize(config) == 0)
        return config;
    api->unmake(config);
    return NULL;
}

/* Leaves p without a plan where the choice does not serve any more. */
static void take_remembered(const cuda_dnn *d, dnn_plan *p)
{
    candidate c = {.mode = DNN_MODE_REMEMBERED};
    const int parts = p->n_part;
    if (!d->memory.recall || !d->memory.recall(d->memory.ctx, &p->key, &c.choice))
        return;
    const dnn_choice known = c.choice;
    c.config = remake(d, p, &known);
    if (c.config && make_plan(d, p, &c) && c.choice.engine == known.engine) {
        take(d, p, &c);
        p->settled = p->plan != NULL;
    } else {
        drop(d, &c);
    }
    while (!p->plan && p->n_part > parts)
        d->api->unmake(p->part[--p->n_part]);
}

void dnn_choose(const cuda_dnn *d, dnn_plan *p)
{
    take_remembered(d, p);
    if (!p->plan)
        take_first(d, p, DNN_WORKSPACE);
    if (!p->plan)
        take_first(d, p, SIZE_MAX);
}

/* ---- measuring ---- */

static double host_seconds(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct bench {
    cuda_queue *q;
    void *from, *to; /* events */
    char *memory;    /* operands and workspace, on the device */
    void *operand[DNN_OPERANDS], *work;
    void *variant;
    float scale;
} bench;

static bool note(bench *b, const char *call, int code)
{
    return cuda_note(b->q, call, code);
}

/* Whether there is memory for it: what there is not is no failure. */
static bool open_bench(bench *b, const dnn_plan *p, size_t workspace)
{
    const cuda_api *api = b->q->api;
    size_t at[DNN_OPERANDS] = {0}, bytes = 0;
    for (int i = DNN_X; i < DNN_OPERANDS; i++) {
        at[i] = bytes;
        bytes += (dnn_operand_bytes(&p->key, i) + 255) / 256 * 256;
    }
    if (api->alloc((void **)&b->memory, bytes + workspace + 256) != 0) {
        b->memory = NULL;
        api->last_error();
        return false;
    }
    for (int i = DNN_X; i < DNN_OPERANDS; i++)
        b->operand[i] = dnn_operand_bytes(&p->key, i) ? b->memory + at[i] : NULL;
    b->scale = 0.125f;
    b->operand[DNN_SCALE] = &b->scale;
    b->work = b->memory + bytes;
    /* 0x3c3c is about 1 in float16, 0x3c3c3c3c about 0.01 in float32 and in bfloat16 */
    return note(b, "fill", api->fill(b->memory, 0x3c, bytes + workspace + 256, b->q->stream)) &&
           note(b, "event_make", api->event_make(&b->from)) && note(b, "event_make", api->event_make(&b->to));
}

static void close_bench(bench *b)
{
    const cuda_api *api = b->q->api;
    if (b->from)
        note(b, "event_free", api->event_free(b->from));
    if (b->to)
        note(b, "event_free", api->event_free(b->to));
    if (b->memory)
        note(b, "release", api->release(b->memory));
}

static bool run_once(bench *b, void *plan)
{
    return b->q->dnn->api->execute(b->q->dnn->handle, plan, b->variant) == 0;
}

/* Seconds between two events around a launch of `program`, or of the plan where that is NULL; < 0: it failed. */
static double time_launch(bench *b, void *plan, void *program)
{
    const cuda_api *api = b->q->api;
    double seconds = -1;
    if (!note(b, "event_record", api->event_record(b->from, b->q->stream)))
        return -1;
    bool ran = program ? note(b, "graph_launch", api->graph_launch(program, b->q->stream)) : run_once(b, plan);
    if (!note(b, "event_record", api->event_record(b->to, b->q->stream)) || !note(b, "wait", api->wait(b->q->stream)) ||
        !note(b, "event_seconds", api->event_seconds(b->from, b->to, &seconds)))
        return -1;
    return ran ? seconds : -1;
}

/* Some runs as one program, as a job's step is one: no time of the host is in what it takes. NULL: it cannot be recorded. */
static void *record_runs(bench *b, void *plan)
{
    const cuda_api *api = b->q->api;
    void *program = NULL;
    size_t kernels;
    bool ran = true;
    if (!note(b, "capture_begin", api->capture_begin(b->q->stream)))
        return NULL;
    for (int i = 0; i < RUNS && ran; i++)
        ran = run_once(b, plan);
    int code = api->capture_end(b->q->stream, &program, &kernels);
    if (code == 0 && ran)
        return program;
    if (code == 0 && program)
        note(b, "graph_free", api->graph_free(program));
    api->last_error();
    return NULL;
}

/* Seconds of one run; < 0: it does not run. `best`: of the fastest so far; what is far behind it is not looked at closely. */
static double time_candidate(bench *b, const candidate *c, double best)
{
    double seconds;
    if (!run_once(b, c->plan) || !note(b, "wait", b->q->api->wait(b->q->stream))) /* what it loads for the first time is loaded */
        return -1;
    seconds = time_launch(b, c->plan, NULL);
    if (seconds < 0 || (best >= 0 && seconds > 2 * best + 1e-4))
        return seconds;
    void *program = record_runs(b, c->plan);
    if (!program)
        return -1;
    seconds = -1;
    for (int i = 0; i < LAUNCHES; i++) {
        double s = time_launch(b, c->plan, program);
        if (s >= 0 && (seconds < 0 || s < seconds))
            seconds = s;
    }
    note(b, "graph_free", b->q->api->graph_free(program));
    return seconds < 0 ? -1 : seconds / RUNS;
}

/* All proposals of all heuristics that can be finalised, each once; c [TIMED]. */
static int gather(const cuda_dnn *d, dnn_plan *p, candidate *c, double until)
{
    void *config[PROPOSALS];
    int n = 0;
    for (int m = 0; m < MODES; m++) {
        int made = propose(d, p, modes[m], config);
        for (int i = 0; i < made; i++) {
            candidate *at = &c[n];
            bool known = n == TIMED || (n > 0 && host_seconds() > until);
            if (known) {
                d->api->unmake(config[i]);
                continue;
            }
            *at = (candidate){.config = config[i], .mode = modes[m]};
            known = !is_allowed(d, &p->key, at);
            read_knobs(d, at);
            for (int k = 0; k < n && !known; k++)
                known = is_same(&c[k].choice, &at->choice);
            if (known || !make_plan(d, p, at) || at->workspace > DNN_WORKSPACE)
                drop(d, at);
            else
                n++;
        }
    }
    return n;
}

/* The place of the fastest; -1: none was measured. */
static int fastest(cuda_queue *q, dnn_plan *p, candidate *c, int n, double until)
{
    bench b = {.q = q};
    const char *where;
    double best = -1;
    size_t workspace = 0;
    int which = -1;
    for (int i = 0; i < n; i++)
        workspace = c[i].workspace > workspace ? c[i].workspace : workspace;
    if (open_bench(&b, p, workspace) && dnn_make_variant(q->dnn, p, b.operand, b.work, &b.variant, &where) == 0) {
        for (int i = 0; i < n && !q->failed && (which < 0 || host_seconds() < until); i++) {
            double seconds = time_candidate(&b, &c[i], best);
            p->timed++;
            c[i].choice.seconds = seconds;
            if (seconds >= 0 && (which < 0 || seconds < best)) {
                best = seconds;
                which = i;
            }
        }
        q->dnn->api->unmake(b.variant);
    }
    close_bench(&b);
    return q->failed ? -1 : which;
}

void dnn_measure(cuda_queue *q, dnn_plan *p)
{
    cuda_dnn *d = q->dnn;
    candidate *c = NULL;
    const double begin = host_seconds(), until = begin + DNN_MEASURE_EACH;
    if (q->failed || d->spent > DNN_MEASURE_ALL || mem_alloc(&c, TIMED, sizeof *c) != ST_OK)
        return;
    const int n = gather(d, p, c, until), which = n > 0 ? fastest(q, p, c, n, until + DNN_MEASURE_EACH) : -1;
    if (which >= 0 && p->n_part + 2 <= DNN_MOST_PARTS) {
        take(d, p, &c[which]);
        if (d->memory.remember && p->choice.n_knob >= 0)
            d->memory.remember(d->memory.ctx, &p->key, &p->choice);
    }
    for (int i = 0; i < n; i++)
        if (i != which || p->plan != c[i].plan)
            drop(d, &c[i]);
    mem_free(c);
    d->spent += host_seconds() - begin;
}
