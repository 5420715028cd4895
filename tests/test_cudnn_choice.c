/* test_cudnn_choice.c - which of cuDNN's engines runs a graph: the fastest by the device's clock, measured once, remembered on
 * disk. On the emulated device with a twin of cuDNN whose engines take the time that a row says; no GPU is needed, and none
 * could tell the times beforehand. */
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "emulator/emulator_control.h"
#include "emulator/fake.h"
#include "exec/dnn_cache.h"
#include "exec/exec.h"
#include "harness.h"
#include "ops/attrs.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern const dnn_api fake_dnn_api;

#define NONDETERMINISTIC (DNN_NOTE_NONDETERMINISTIC + 1)
#define WINOGRAD         (DNN_NOTE_WINOGRAD + 1)
static const fake_engine engines[] = {
    {.number = 1, .mode = DNN_MODE_A, .seconds = 5e-6, .workspace = 64},
    {.number = 2, .mode = DNN_MODE_A, .seconds = 4e-6, .workspace = 96},
    {.number = 2, .knob = 3, .mode = DNN_MODE_A, .seconds = 3e-6, .workspace = 4096},
    {.number = 6, .mode = DNN_MODE_A, .seconds = 1e-7, .stops = true},
    {.number = 7, .mode = DNN_MODE_A, .seconds = 1e-7, .broken = true},
    {.number = 8, .mode = DNN_MODE_A, .seconds = 1e-7, .workspace = DNN_WORKSPACE + 1},
    {.number = 9, .mode = DNN_MODE_B, .seconds = 1e-7, .note = DNN_NOTE_REDUCED_PRECISION + 1},
    {.number = 2, .mode = DNN_MODE_B, .seconds = 4e-6, .workspace = 96}, /* the same again */
    {.number = 4, .mode = DNN_MODE_B, .seconds = 2e-6, .workspace = 128, .note = WINOGRAD},
    {.number = 5, .mode = DNN_MODE_FALLBACK, .seconds = 1e-6, .note = NONDETERMINISTIC},
    {.number = 3, .mode = DNN_MODE_FALLBACK, .seconds = 1e-3},
};
enum { ENGINES = sizeof engines / sizeof *engines };

static dnn_key small_key(void)
{
    dnn_key k;
    memset(&k, 0, sizeof k);
    k.kind = DNN_CONV_FORWARD;
    k.axes = 2;
    k.bias = 1;
    const int64_t x[] = {1, 3, 5, 5}, w[] = {4, 3, 3, 3}, y[] = {1, 4, 3, 3};
    memcpy(k.x, x, sizeof x);
    memcpy(k.w, w, sizeof w);
    memcpy(k.y, y, sizeof y);
    k.stride[0] = k.stride[1] = k.dilation[0] = k.dilation[1] = 1;
    return k;
}

static void open_queue(cuda_queue *q, bool measure)
{
    *q = (cuda_queue){.api = &emulator_api};
    ck_assert_int_eq(q->api->stream_make(&q->stream), 0);
    ck_assert_int_eq(cuda_dnn_open(&fake_dnn_api, q->stream, &q->dnn), 0);
    q->dnn->measure = measure;
}
static void close_queue(cuda_queue *q)
{
    ck_assert_int_eq(q->failed, 0);
    cuda_dnn_close(q->dnn);
    q->api->stream_free(q->stream);
}

/* ---- the choice ---- */

START_TEST(the_fastest_is_taken)
{
    static const struct {
        const char *what;
        bool measure, deterministic, exact, recording;
        int engine, knob;
        double seconds;
    } rows[] = {
        {"proposals", .engine = 1},
        {"measured", .measure = true, .engine = 5, .seconds = 1e-6},
        {"deterministic engines", .measure = true, .deterministic = true, .engine = 4, .seconds = 2e-6},
        {"exact sums, deterministic", .measure = true, .deterministic = true, .exact = true, .engine = 2, .knob = 3, .seconds = 3e-6},
        {"while a program is recorded", .measure = true, .recording = true, .engine = 1},
    };
    const emulator_counts was = *emulator_count();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cuda_queue q;
        open_queue(&q, rows[i].measure);
        q.dnn->recording = rows[i].recording;
        fake_dnn_engines(engines, ENGINES);
        dnn_key key = small_key();
        key.deterministic = rows[i].deterministic;
        key.exact = rows[i].exact;
        const dnn_plan *p = cuda_dnn_plan(&q, &key);
        ck_assert(p && p->usable && !p->settled && p->choice.engine == 1);
        size_t workspace = cuda_dnn_workspace(&q, p);
        const fake_dnn_asked asked = *fake_dnn_count();
        ck_assert_msg(p->settled && p->choice.engine == rows[i].engine, "%s: engine %d", rows[i].what, (int)p->choice.engine);
        ck_assert_msg(p->choice.n_knob < 1 || p->choice.value[0] == rows[i].knob, "%s", rows[i].what);
        ck_assert_msg(p->choice.seconds >= 0.99 * rows[i].seconds && p->choice.seconds < 1.01 * rows[i].seconds + 1e-12, "%s: %g s",
                      rows[i].what, p->choice.seconds);
        ck_assert((asked.runs > 0) == (rows[i].seconds > 0));
        ck_assert_uint_eq(cuda_dnn_workspace(&q, p), workspace); /* for ever */
        ck_assert_ptr_eq(cuda_dnn_plan(&q, &key), p);
        ck_assert_int_eq(fake_dnn_count()->runs, asked.runs);
        ck_assert_int_eq(fake_dnn_count()->plans, asked.plans);
        close_queue(&q);
    }
    ck_assert_int_eq(fake_alive(), 0);
    const emulator_counts *now = emulator_count();
    ck_assert(now->memory == was.memory && now->events == was.events && now->graphs == was.graphs && now->streams == was.streams);
    fake_dnn_engines(NULL, 0);
}
END_TEST

/* What is far slower than another is not run often, and where the budget is spent nothing is measured. */
START_TEST(measuring_is_bounded)
{
    cuda_queue q;
    open_queue(&q, true);
    fake_dnn_engines(engines, ENGINES);
    dnn_key key = small_key();
    const dnn_plan *p = cuda_dnn_plan(&q, &key);
    cuda_dnn_workspace(&q, p);
    printf("%d candidates measured, %d runs\n", p->timed, fake_dnn_count()->runs);
    ck_assert_int_eq(p->timed, 7); /* each once: the two engines 2, the one that stops and the slow one included */
    ck_assert_int_le(fake_dnn_count()->runs, 5 * 7 + 2 + 1);
    q.dnn->spent = DNN_MEASURE_ALL + 1;
    key.x[0] = key.y[0] = 2;
    p = cuda_dnn_plan(&q, &key);
    cuda_dnn_workspace(&q, p);
    ck_assert(p->settled && p->timed == 0 && p->choice.engine == 1);
    close_queue(&q);
    fake_dnn_engines(NULL, 0);
}
END_TEST

/* ---- sums with a convolution, where they pay ---- */

/* How many convolutions of a norm of conv(x, w) give its statistics, on such engines. */
static size_t moments_with(const fake_engine *e, bool measure)
{
    const conv_attrs conv = {.group = 1};
    const batch_norm_attrs norm = {.epsilon = 1e-5};
    const shape shapes[] = {SHAPE(4, 8, 6, 6), SHAPE(16, 8, 1, 1), SHAPE(16), SHAPE(16)};
    value_id in[4], y, out[3];
    size_t n = 0;
    graph *g;
    backend *b;
    exec *x;
    fake_dnn_engines(e, 1);
    OK(graph_new(&g));
    for (int i = 0; i < 4; i++)
        OK(graph_add_input(g, NULL, DTYPE_F32, shapes[i], &in[i]));
    OK(graph_add1(g, OP_CONV, &conv, in[0], in[1], 0, &y));
    OK(graph_add(g, OP_BATCH_NORM_TRAIN, &norm, (const value_id[]){y, in[2], in[3]}, 3, out, 3));
    for (int i = 0; i < 3; i++)
        OK(graph_add_output(g, out[i]));
    OK(backend_open("emulated-libs", &(backend_options){.threads = 1, .measure = measure}, &b));
    OK(backend_narrow(b, DTYPE_F16));
    OK(exec_open(g, b, NULL, 0, &x));
    OK(exec_run(x, PHASE_MAIN));
    for (size_t k = 1; k < exec_graph(x)->n_node; k++)
        n += exec_graph(x)->node[k].op == OP_CONV_MOMENTS;
    exec_close(x);
    backend_close(b);
    graph_free(g);
    fake_dnn_engines(NULL, 0);
    ck_assert_int_eq(fake_alive(), 0);
    return n;
}

START_TEST(sums_where_they_pay)
{
    const fake_engine quick = {.number = 1, .mode = DNN_MODE_A, .seconds = 1e-5, .sums = 1e-6},
                      slow = {.number = 1, .mode = DNN_MODE_A, .seconds = 1e-5, .sums = 1e-4};
    ck_assert_uint_eq(moments_with(&quick, true), 1);
    ck_assert_uint_eq(moments_with(&slow, true), 0);
    ck_assert_uint_eq(moments_with(&slow, false), 1); /* nobody knows */
}
END_TEST

/* ---- a job ---- */

/* y = relu(conv(x, w) + b) */
static status make_graph(graph **out, value_id *y)
{
    static const float numbers[128] = {1, -2, 3, 0.5f, -0.25f, 4, -1, 2};
    const conv_attrs conv = {.kernel_shape = {2, (const int64_t[]){3, 3}}, .strides = {2, (const int64_t[]){1, 1}},
                             .dilations = {2, (const int64_t[]){1, 1}}, .pads = {4, (const int64_t[]){1, 1, 1, 1}}, .group = 1,
                             .relu = 1};
    const shape shapes[] = {SHAPE(1, 3, 4, 4), SHAPE(2, 3, 3, 3), SHAPE(2)};
    value_id in[3];
    TRY(graph_new(out));
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), 0};
        TRY(graph_add_data(*out, name, VALUE_CONST, DTYPE_F32, shapes[i], numbers + i, &in[i]));
    }
    TRY(graph_add(*out, OP_CONV, &conv, in, 3, y, 1));
    return graph_add_output(*out, *y);
}

/* y = attention of 2 heads, 2 queries, 64 keys, in bfloat16: two of them, one of which keeps the sums and one of which has a mask */
static status make_attention(graph **out, value_id *y)
{
    static float numbers[2 * 64 * 8];
    const attention_attrs at = {.scale = 0.5, .precision = PRECISION_BF16};
    value_id in[3], mask, first[2];
    for (int i = 0; i < 2 * 64 * 8; i++)
        numbers[i] = (float)(i * 37 % 64 - 32) / 64; /* no rounding */
    TRY(graph_new(out));
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), 0};
        TRY(graph_add_data(*out, name, VALUE_CONST, DTYPE_F32, SHAPE(1, 2, i ? 64 : 2, 8), numbers, &in[i]));
    }
    TRY(graph_add_data(*out, "mask", VALUE_CONST, DTYPE_F32, SHAPE(1, 1, 1, 64), numbers, &mask));
    TRY(graph_add(*out, OP_ATTENTION, &at, in, 3, first, 2));
    TRY(graph_add(*out, OP_ATTENTION, &at, (value_id[]){first[0], in[1], in[2], mask}, 4, y, 1));
    TRY(graph_add_output(*out, first[1]));
    return graph_add_output(*out, *y);
}

typedef struct outcome {
    float y[32];
    const char *kernel;
} outcome;

static status run(const char *device, const backend_options *how, const graph *g, value_id y, outcome *o)
{
    backend *b = NULL;
    exec *e = NULL;
    status st = ST_OK;
    TRY_DONE(backend_open(device, how, &b));
    TRY_DONE(exec_open(g, b, NULL, 0, &e));
    o->kernel = exec_plan(e)->kernel[exec_graph(e)->n_node - 1]->name;
    for (int i = 0; i < 3; i++) /* kernel by kernel, recorded, replayed */
        TRY_DONE(exec_run(e, PHASE_MAIN));
    TRY_DONE(exec_get(e, y, o->y, sizeof o->y));
done:
    exec_close(e);
    backend_close(b);
    return st;
}

static float tolerance = 1e-4f;

static void check_same(const outcome *a, const outcome *b)
{
    for (size_t i = 0; i < sizeof a->y / sizeof *a->y; i++)
        ck_assert_msg(a->y[i] - b->y[i] < tolerance && b->y[i] - a->y[i] < tolerance, "element %zu: %g and %g", i, (double)a->y[i],
                      (double)b->y[i]);
}

typedef struct world {
    graph *g;
    value_id y;
    outcome cpu;
    const char *dir;
    char path[4200]; /* of the cache's file */
} world;

static void quiet(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)line;
    (void)ctx;
}

static void open_world_of(world *w, status (*make)(graph **out, value_id *y))
{
    const backend_options plain = {.threads = 1};
    dnn_cache *c;
    log_set_sink(quiet, NULL);
    w->dir = test_tmp_dir();
    OK(make(&w->g, &w->y));
    OK(run("cpu", &plain, w->g, w->y, &w->cpu));
    OK(dnn_cache_open(w->dir, "emulated GPU, sm_90", 0, &c));
    snprintf(w->path, sizeof w->path, "%s", dnn_cache_path(c));
    dnn_cache_close(c);
    ck_assert(!io_exists(w->path));
}

static void open_world(world *w)
{
    open_world_of(w, make_graph);
}

/* Runs the job with these engines; returns what was asked of the library. */
static fake_dnn_asked job(const world *w, const fake_engine *e, int n)
{
    const backend_options how = {.threads = 1, .measure = true, .cache = w->dir};
    outcome o = {0};
    fake_dnn_engines(e, n);
    OK(run("emulated-libs", &how, w->g, w->y, &o));
    ck_assert_msg(strstr(o.kernel, "cuDNN") != NULL, "%s", o.kernel);
    check_same(&o, &w->cpu);
    fake_dnn_asked asked = *fake_dnn_count();
    fake_dnn_engines(NULL, 0);
    ck_assert_int_eq(fake_alive(), 0);
    return asked;
}

/* The one engine that the file has. */
static int64_t kept_engine(const world *w)
{
    dnn_cache *c;
    dnn_key key;
    dnn_choice choice = {.engine = -1};
    unsigned char *data;
    size_t size, refused;
    OK(dnn_cache_open(w->dir, "emulated GPU, sm_90", 0, &c));
    ck_assert_uint_eq(dnn_cache_count(c, &refused), 1);
    ck_assert_uint_eq(refused, 0);
    OK(io_read_file(w->path, 1 << 20, &data, &size));
    const char *line = strchr(strchr((char *)data, '\n') + 1, '\n') + 1;
    for (size_t i = 0; i < sizeof key; i++) {
        unsigned byte;
        ck_assert_int_eq(sscanf(line + 2 * i, "%2x", &byte), 1);
        ((unsigned char *)&key)[i] = (unsigned char)byte;
    }
    dnn_memory m = dnn_cache_memory(c);
    ck_assert(m.recall(m.ctx, &key, &choice));
    mem_free(data);
    dnn_cache_close(c);
    return choice.engine;
}

enum { RUNS_OF_A_JOB = 2 }; /* one kernel by kernel, one recorded */

START_TEST(the_next_run_asks_nothing)
{
    world w = {0};
    open_world(&w);
    fake_dnn_asked first = job(&w, engines, ENGINES);
    ck_assert(first.heuristics >= 3 && first.plans > 5 && first.runs > 10);
    ck_assert_int_eq(kept_engine(&w), 5);
    fake_dnn_asked second = job(&w, engines, ENGINES);
    ck_assert_int_eq(second.heuristics, 0);
    ck_assert_int_eq(second.plans, 1);
    ck_assert_int_eq(second.runs, RUNS_OF_A_JOB);
    ck_assert_int_eq(kept_engine(&w), 5);
    graph_free(w.g);
}
END_TEST

START_TEST(engines_that_are_gone)
{
    fake_engine changed[ENGINES];
    world w = {0};
    open_world(&w);
    job(&w, engines, ENGINES);
    memcpy(changed, engines, sizeof changed);
    for (int i = 0; i < ENGINES; i++)
        changed[i].broken = changed[i].broken || changed[i].number == 5;
    ck_assert_int_gt(job(&w, changed, ENGINES).runs, RUNS_OF_A_JOB); /* measured again */
    ck_assert_int_eq(kept_engine(&w), 4);
    ck_assert_int_eq(job(&w, changed, 3).heuristics > 0, 1); /* a library that knows no engine 4 */
    ck_assert_int_eq(kept_engine(&w), 2);
    ck_assert_int_eq(job(&w, changed, 3).heuristics, 0);
    graph_free(w.g);
}
END_TEST

/* Every byte of the file changed, every length (which may end with a line: then there is nothing to believe): never believed, always measured again, and whole afterwards. */
START_TEST(damage_is_not_believed)
{
    unsigned char *right, *now;
    size_t n, m, refused;
    dnn_cache *c;
    world w = {0};
    open_world(&w);
    job(&w, engines, ENGINES);
    OK(io_read_file(w.path, 1 << 20, &right, &n));
    ck_assert_uint_gt(n, 2 * sizeof(dnn_key));
    for (size_t at = 0; at < 2 * n; at++) {
        OK(io_read_file(w.path, 1 << 20, &now, &m));
        if (at < n)
            now[at] ^= (unsigned char)(1 << at % 8);
        OK(io_write_file(w.path, now, at < n ? n : at - n));
        mem_free(now);
        OK(dnn_cache_open(w.dir, "emulated GPU, sm_90", 0, &c));
        ck_assert_msg(dnn_cache_count(c, &refused) == 0 && (refused > 0 || at > n), "position %zu was not noticed", at);
        dnn_cache_close(c);
        if (at % 97 == 0) {
            ck_assert_int_gt(job(&w, engines, ENGINES).runs, RUNS_OF_A_JOB);
            ck_assert_int_eq(kept_engine(&w), 5);
        }
        OK(io_write_file(w.path, right, n));
    }
    mem_free(right);
    graph_free(w.g);
}
END_TEST

/* Lines with right checksums that say impossible things are of no harm: the library is asked whether they serve. */
START_TEST(hostile_choices)
{
    static const dnn_choice rows[] = {
        {.engine = INT32_MAX, .n_knob = 0},
        {.engine = 5, .n_knob = DNN_MOST_KNOBS},
        {.engine = 5, .n_knob = 1, .knob = {INT32_MAX}, .value = {INT64_MIN}},
        {.engine = 5, .n_knob = 2, .knob = {1, 1}, .value = {9, INT64_MAX}},
        {.engine = 9, .n_knob = 0}, /* of too little precision */
        {.engine = 8, .n_knob = 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cuda_queue q;
        dnn_cache *c;
        const char *dir = test_tmp_dir();
        dnn_key key = small_key();
        open_queue(&q, true);
        fake_dnn_engines(engines, ENGINES);
        for (int round = 0; round < 2; round++) { /* as remembered now, and as read from the file */
            OK(dnn_cache_open(dir, "emulated GPU, sm_90", 0, &c));
            q.dnn->memory = dnn_cache_memory(c);
            if (round == 0)
                q.dnn->memory.remember(c, &key, &rows[i]);
            else
                ck_assert_msg(cuda_dnn_plan(&q, &key)->usable, "row %zu", i);
            dnn_cache_close(c);
        }
        const dnn_plan *p = cuda_dnn_plan(&q, &key);
        ck_assert_msg(p->choice.engine == 1 || p->choice.engine == 8, "row %zu: engine %d", i, (int)p->choice.engine);
        q.dnn->memory = (dnn_memory){0};
        close_queue(&q);
    }
    fake_dnn_engines(NULL, 0);
}
END_TEST

/* ---- the file ---- */

static dnn_key numbered_key(int i)
{
    dnn_key k = small_key();
    k.x[0] = k.y[0] = 1 + i;
    return k;
}

START_TEST(writers_at_once)
{
    enum { WRITERS = 6, EACH = 5 };
    const char *dir = test_tmp_dir();
    dnn_cache *c;
    size_t refused;
    log_set_sink(quiet, NULL);
    pid_t child[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        child[i] = fork();
        ck_assert_int_ge(child[i], 0);
        if (child[i] == 0) {
            if (dnn_cache_open(dir, "a device", 91900, &c) != ST_OK)
                _exit(1);
            dnn_memory m = dnn_cache_memory(c);
            for (int k = 0; k < EACH; k++) {
                const dnn_key key = numbered_key(i * EACH + k);
                const dnn_choice choice = {.engine = i, .n_knob = 1, .knob = {2}, .value = {-k}, .seconds = 1e-6};
                m.remember(m.ctx, &key, &choice);
                dnn_cache_save(c);
            }
            dnn_cache_close(c);
            _exit(0);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        int how;
        ck_assert_int_eq(waitpid(child[i], &how, 0), child[i]);
        ck_assert(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    }
    OK(dnn_cache_open(dir, "a device", 91900, &c));
    ck_assert_uint_eq(dnn_cache_count(c, &refused), WRITERS * EACH);
    ck_assert_uint_eq(refused, 0);
    for (int i = 0; i < WRITERS * EACH; i++) {
        const dnn_key key = numbered_key(i);
        dnn_choice choice;
        ck_assert(dnn_cache_memory(c).recall(c, &key, &choice));
        ck_assert(choice.engine == i / EACH && choice.n_knob == 1 && choice.knob[0] == 2 && choice.value[0] == -(i % EACH));
    }
    dnn_cache_close(c);
}
END_TEST

/* A plan is of one device and one version of the library. */
START_TEST(other_devices)
{
    const char *dir = test_tmp_dir();
    dnn_cache *c;
    size_t refused;
    const dnn_key key = small_key();
    const dnn_choice choice = {.engine = 3, .n_knob = 0};
    OK(dnn_cache_open(dir, "a device", 91900, &c));
    dnn_cache_memory(c).remember(c, &key, &choice);
    dnn_cache_close(c);
    static const struct {
        const char *device;
        size_t version, n;
    } rows[] = {{"a device", 91900, 1}, {"a device", 91901, 0}, {"a device, too", 91900, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OK(dnn_cache_open(dir, rows[i].device, rows[i].version, &c));
        ck_assert_uint_eq(dnn_cache_count(c, &refused), rows[i].n);
        dnn_cache_close(c);
    }
}
END_TEST

/* A folder that cannot be made, a file that cannot be written: jobs run, and say so. */
START_TEST(no_place_for_it)
{
    char inside[4200];
    fake_dnn_asked asked;
    world w = {0};
    open_world(&w);
    snprintf(inside, sizeof inside, "%s/file/folder", w.dir);
    *strrchr(inside, '/') = 0;
    OK(io_write_file(inside, "x", 1));
    inside[strlen(inside)] = '/';
    w.dir = inside;
    for (int i = 0; i < 2; i++) {
        asked = job(&w, engines, ENGINES);
        ck_assert_int_gt(asked.runs, RUNS_OF_A_JOB);
    }
    graph_free(w.g);
}
END_TEST

/* ---- attention ---- */

/* Attention of a job whose images are narrow runs in the library, of others it does not, and the job's graph stays as it was. */
START_TEST(attention_follows_the_images)
{
    static const struct {
        dtype narrow;
        bool library;
    } rows[] = {{DTYPE_NONE, false}, {DTYPE_BF16, true}, {DTYPE_F16, true}};
    world w = {0};
    open_world_of(&w, make_attention);
    for (size_t k = 1; k < w.g->n_node; k++) {
        attention_attrs *at;
        OK(arena_alloc(&w.g->mem, &at, 1, sizeof *at));
        *at = *(const attention_attrs *)w.g->node[k].attr;
        at->precision = PRECISION_FP32;
        w.g->node[k].attr = at;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const backend_options how = {.threads = 1};
        backend *b;
        exec *e;
        outcome o = {0};
        OK(backend_open("emulated-libs", &how, &b));
        if (rows[i].narrow)
            OK(backend_narrow(b, rows[i].narrow));
        OK(exec_open(w.g, b, NULL, 0, &e));
        for (size_t k = 1; k < w.g->n_node; k++) {
            const char *name = exec_plan(e)->kernel[k]->name;
            ck_assert_msg((strstr(name, "cuDNN") != NULL) == rows[i].library, "row %zu: %s", i, name);
            ck_assert_int_eq(((const attention_attrs *)w.g->node[k].attr)->precision, PRECISION_FP32);
        }
        OK(exec_run(e, PHASE_MAIN));
        OK(exec_get(e, w.y, o.y, sizeof o.y));
        tolerance = 1e-2f;
        check_same(&o, &w.cpu);
        exec_close(e);
        backend_close(b);
    }
    graph_free(w.g);
}
END_TEST

/* ---- failures ---- */

/* Each (or each stride-th) call of the library, or of CUDA's run time, fails once while engines are measured: an error with a message, or the
 * right result; nothing is left behind. */
static void fail_each(bool library, long stride, status (*make)(graph **out, value_id *y))
{
    world w = {0};
    long n = 0, errors = 0;
    open_world_of(&w, make);
    job(&w, NULL, 0); /* the library is used, and right, where nothing fails */
    for (bool failed = true; failed; n += failed ? stride : 0) {
        const char *dir = test_tmp_dir();
        const backend_options how = {.threads = 1, .measure = true, .cache = dir};
        const emulator_counts was = *emulator_count(), *now = emulator_count();
        outcome o = {0};
        fake_dnn_engines(engines + 1, 2);
        if (library)
            fake_fail_at(n + 1);
        else
            emulator_fail((size_t)n + 1, (size_t)n + 1);
        status st = run("emulated-libs", &how, w.g, w.y, &o);
        failed = library ? fake_failed() : emulator_failed_call() != NULL;
        const char *call = library || !failed ? "" : emulator_failed_call();
        fake_fail_at(0);
        emulator_fail(0, 0);
        ck_assert_msg(fake_alive() == 0, "call %ld %s: %ld things of the library left", n + 1, call, fake_alive());
        ck_assert_msg(now->memory == was.memory && now->events == was.events && now->graphs == was.graphs && now->streams == was.streams,
                      "call %ld %s: something was left on the device", n + 1, call);
        if (st == ST_OK)
            check_same(&o, &w.cpu);
        else
            ck_assert_msg(strlen(status_message()) > 10, "call %ld %s: no message", n + 1, call);
        errors += st != ST_OK;
        OK(io_remove_tree(dir));
    }
    printf("calls of the %s up to %ld failed once each: %ld errors\n", library ? "library" : "run time", n, errors);
    ck_assert_int_gt(n, 60);
    fake_dnn_engines(NULL, 0);
    graph_free(w.g);
}
START_TEST(every_call_of_the_library_fails)
{
    fail_each(true, 1, make_graph);
}
END_TEST
START_TEST(every_call_fails_of_attention)
{
    tolerance = 1e-2f; /* of bfloat16 */
    fail_each(true, 3, make_attention);
    fail_each(false, 1, make_attention);
}
END_TEST
START_TEST(every_call_of_the_device_fails)
{
    fail_each(false, 1, make_graph);
}
END_TEST

const test_entry test_table[] = {TEST(the_fastest_is_taken), TEST(measuring_is_bounded), TEST(the_next_run_asks_nothing),
                                 TEST(engines_that_are_gone), TEST(damage_is_not_believed), TEST(hostile_choices),
                                 TEST(sums_where_they_pay), TEST(writers_at_once), TEST(attention_follows_the_images), TEST(other_devices), TEST(no_place_for_it),
                                 TEST(every_call_of_the_library_fails), TEST(every_call_of_the_device_fails),
                                 TEST(every_call_fails_of_attention), {0}};
