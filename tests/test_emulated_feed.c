/* test_emulated_feed.c - samples that stay on the device: the batches made there against the loader's, bit for bit, with every
 * kind of data and of change; whole jobs with them against jobs without; what happens where they do not fit. */
#include "harness.h"
#include "base/io.h"
#include "base/log.h"
#include "base/rng.h"
#include "data/block.h"
#include "data/npy.h"
#include "data_files.h"
#include "distill/cache_file.h"
#include "distill/resident.h"
#include "emulator/emulator_control.h"
#include "toy.h"
#include "train/checkpoint.h"
#include "exec/internal.h"
#include "kernels/cuda/tables.h"
#include "ops/attrs.h"
#include "train/job_spec.h"
#include "train/loop.h"
#include "train/session.h"
#include "train/session_qat.h"

#include <signal.h>
#include <stdio.h>

enum { SAMPLES = 37, BATCH = 16, STEPS = 6, MOST_STEPS = 16 };

#define MLP "student.arch=mlp", "student.widths=", "student.depth=auto", "student.hidden=12"

/* ---- batches ---- */

static void save_array(const char *dir, const char *name, dtype type, shape sh, double lo, double hi)
{
    tensor t;
    char file[64];
    rng r = rng_make(3, RNG_TEST, (uint64_t)sh.rank, (uint32_t)name[0]);
    OK(tensor_new(&t, "t", type, sh));
    for (int64_t i = 0; i < shape_count(&sh); i++)
        tensor_put(&t, i, lo + (hi - lo) * rng_uniform(&r));
    snprintf(file, sizeof file, "%s.npy", name);
    OK(npy_write(test_path(dir, file), &t));
    tensor_free(&t);
}

static void both_parts(const char *dir, dtype type, shape sh, double lo, double hi)
{
    save_array(dir, "x_train", type, sh, lo, hi);
    save_array(dir, "y_train", DTYPE_U8, SHAPE(sh.dim[0]), 0, 4);
    sh.dim[0] = 5;
    save_array(dir, "x_val", type, sh, lo, hi);
    save_array(dir, "y_val", DTYPE_U8, SHAPE(5), 0, 4);
}

static void grey(const char *dir) { both_parts(dir, DTYPE_U8, SHAPE(SAMPLES, 9, 11), 0, 256); }
static void colour(const char *dir) { both_parts(dir, DTYPE_U8, SHAPE(SAMPLES, 12, 8, 3), 0, 256); }
static void floats(const char *dir) { both_parts(dir, DTYPE_F32, SHAPE(SAMPLES, 3, 6, 7), 0, 1); }
static void rows(const char *dir) { both_parts(dir, DTYPE_F32, SHAPE(SAMPLES, 13), -2, 2); }
static void tokens(const char *dir) { both_parts(dir, DTYPE_I64, SHAPE(SAMPLES, 6), 0, 90); }

/* Two classes of images, one of which cannot be read. */
static void folder(const char *dir)
{
    for (int i = 0; i < SAMPLES; i++) {
        uint8_t px[14 * 10 * 3];
        text t = {0};
        char name[64];
        snprintf(name, sizeof name, "%s/%s/%02d.ppm", i % 6 ? "train" : "val", i % 2 ? "cat" : "dog", i);
        picture(px, 14, 10, 3, (unsigned)i);
        bytes_ppm(&t, 14, 10, 3, px);
        if (i == 7)
            t.n -= 5;
        bytes_save(&t, dir, name);
    }
}

static const struct made {
    const char *name;
    void (*write)(const char *dir);
    const char *augment, *samples;
    int32_t channels, side;
    resize_filter filter;
} made[] = {
    {"grey", grey, "", NULL, 0, 0, 0},
    {"grey, crop and flip", grey, "crop:3 flip", NULL, 0, 0, 0},
    {"grey for three channels, cutout", grey, "cutout:4", NULL, 3, 0, 0},
    {"colour, all", colour, "crop:2 flip cutout:3 jitter:0.4:0.5:0.6", NULL, 0, 0, 0},
    {"colour, all, mixed", colour, "crop:2 flip cutout:3 jitter:0.4:0.5:0.6 mixup:0.4", NULL, 0, 0, 0},
    {"colour, jitter of light", colour, "jitter:0.8", NULL, 0, 0, 0},
    {"colour, mixed", colour, "mixup:1", NULL, 0, 0, 0},
    {"colour of another size, some", colour, "crop:1 flip jitter:0.1:0.9", "3:30 32", 0, 10, 0},
    {"colour as grey", colour, "flip jitter:0.3:0.3", NULL, 1, 0, 0},
    {"floats", floats, "", "1:", 0, 0, 0},
    {"floats, all, mixed", floats, "crop:2 flip cutout:3 mixup:0.5", "1:", 0, 0, 0},
    {"rows", rows, "", "-20:", 0, 0, 0},
    {"tokens", tokens, "", NULL, 0, 0, 0},
    {"image files, one of them bad", folder, "crop:2 flip cutout:3 jitter:0.2:0.2:0.2 mixup:0.5", NULL, 0, 8, 0},
    {"boxes", colour, "rrc flip", NULL, 0, 0, 0},
    {"boxes of another size, all, mixed, some", colour, "rrc:0.2:0.9 crop:1 flip jitter:0.3:0.3:0.3 cutout:3 mixup:0.5", "3:30 32", 0, 10, 0},
    {"nearest boxes, grey for three channels", grey, "rrc crop:1", NULL, 3, 7, FILTER_NEAREST},
    {"boxes, grey for three channels, jitter", grey, "rrc jitter:0.3:0.5:0.2", NULL, 3, 0, 0},
    {"boxes, colour as grey", colour, "rrc:0.05:0.3 flip jitter:0.3", NULL, 1, 16, 0},
};

static dataset *open_made(const struct made *m)
{
    data_options d = data_options_default();
    dataset *ds;
    d.path = test_tmp_dir();
    m->write(d.path);
    d.samples = m->samples;
    d.channels = m->channels;
    d.height = d.width = m->side;
    d.filter = m->filter;
    d.max_bad = 0.2;
    d.n_mean = d.n_std = 1;
    d.mean[0] = 0.45f;
    d.std[0] = 0.3f;
    OK(augment_parse(m->augment, &d.augment));
    OK(dataset_open(&d, &ds));
    return ds;
}

static void same_batches(const struct made *m, const loader_options *o, uint64_t first)
{
    const backend_options bo = {.threads = 1};
    backend *b;
    resident *r;
    loader *whole, *bare;
    const batch *x, *p;
    loader_options po = *o;
    dataset *ds = open_made(m), *twin = open_made(m);
    const data_info *info = dataset_info(ds);
    po.places = true;
    OK(backend_open("emulated", &bo, &b));
    OK(resident_open(twin, DATA_TRAIN, o->batch, o->seed, 2, b, &r));
    ck_assert_uint_eq(r->n_x, info->n_inputs);
    OK(loader_open(ds, o, &whole));
    OK(loader_open(twin, &po, &bare));
    ck_assert_uint_lt(loader_bytes(bare), loader_bytes(whole));
    loader_seek(whole, first);
    loader_seek(bare, first);
    for (int k = 0; k < 6; k++) { /* the first run goes kernel by kernel, the second is recorded */
        OK(loader_next(whole, &x));
        OK(loader_next(bare, &p));
        ck_assert_ptr_eq(p->x[0], NULL);
        ck_assert_mem_eq(x->index, p->index, x->n * sizeof *x->index);
        ck_assert_mem_eq(x->label, p->label, x->n * sizeof *x->label);
        resident_put(r, twin, p, 0);
        OK(exec_run(r->e, PHASE_MAIN));
        for (uint32_t i = 0; i < info->n_inputs; i++) {
            size_t bytes;
            OK(shape_bytes(&info->input[i].sh, info->input[i].type, &bytes));
            const unsigned char *here = x->x[i], *there = exec_data(r->e, r->x[i]);
            size_t j = 0;
            while (j < x->n * bytes && here[j] == there[j]) /* an assertion for each would take Check minutes */
                j++;
            ck_assert_msg(j == x->n * bytes, "%s: batch %d, input %u, sample %zu: byte %zu of %zu differs", m->name, k, i, j / bytes,
                          j % bytes, bytes);
        }
    }
    loader_close(whole);
    loader_close(bare);
    resident_close(r);
    backend_close(b);
    dataset_close(ds);
    dataset_close(twin);
}

/* Passes, views, an order that ends in the middle of a batch, several threads. */
START_TEST(batches)
{
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        loader_options o = loader_train_options(BATCH, 99 + i);
        o.tail = i % 2 ? TAIL_CARRY : TAIL_AUTO;
        o.views = i % 3 == 2 ? 2 : 0;
        o.threads = (uint32_t)(i % 4);
        same_batches(&made[i], &o, i * 3);
    }
    loader_options more = loader_train_options(50, 5); /* than there are */
    same_batches(&made[4], &more, 1);
}
END_TEST

START_TEST(what_stays_on_the_host)
{
    static const struct made rrc = {"", folder, "rrc flip", NULL, 0, 8, 0}, bytes = {"", grey, "rrc flip", NULL, 0, 0, 0};
    dataset *ds = open_made(&rrc);
    ck_assert_ptr_nonnull(strstr(dataset_keeps_host(ds, DATA_TRAIN), "rrc"));
    ck_assert_ptr_null(dataset_keeps_host(ds, DATA_VAL));
    dataset_close(ds);
    ds = open_made(&bytes);
    ck_assert_ptr_null(dataset_keeps_host(ds, DATA_TRAIN));
    dataset_close(ds);
}
END_TEST

/* ---- jobs ---- */

static char said[4000];
static void listen(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)ctx;
    size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s\n", line);
}

typedef struct trail {
    double total[MOST_STEPS];
    uint64_t after[MOST_STEPS];
    bool near;
    uint64_t rows_at; /* the first step that took remembered outputs there; 0: none did */
    cache_stats cache;
} trail;

static void watch(void *ctx, session_part part, double begin, double end, const batch *b)
{
    (void)ctx, (void)part, (void)begin, (void)end, (void)b;
}

/* Steps [from, n) of the toy job; from > 0: resumed from `mid`, else `mid` is written after half of them. */
static trail run_steps(const char *dir, const char *const *set, const char *where, uint64_t from, uint64_t n, const char *mid, bool is_watched)
{
    static trail t;
    const char *all[20] = {"exec.device=emulated", "train.steps=16", where};
    const limits lim = limits_default();
    double hint[8];
    step_result r = {.hint = hint};
    session s;
    memset(&t, 0, sizeof t);
    for (size_t i = 0; set[i]; i++)
        all[i + 3] = set[i];
    job *j = toy_job(dir, all);
    OK(session_open(j, &s));
    t.near = s.near != NULL;
    s.seen = is_watched ? watch : NULL;
    if (from) {
        checkpoint c;
        OK(checkpoint_read(mid, &lim, &c));
        OK(checkpoint_restore(&c, &s.params));
        checkpoint_free(&c);
        session_seek(&s, from);
    }
    for (uint64_t k = from; k < n; k++) {
        if (!from && mid && k == n / 2)
            OK(checkpoint_write(mid, &s.params, NULL, 0));
        OK(session_step(&s, k, &r));
        ck_assert(r.finite);
        t.total[k] = r.total;
        t.after[k] = toy_hash(&s.params);
        if (s.chain_rows && !t.rows_at)
            t.rows_at = k;
    }
    if (s.t.cache)
        t.cache = cache_measure(s.t.cache);
    session_close(&s);
    config_free(j);
    return t;
}

static trail run_job(const char *dir, const char *const *set, const char *where, uint64_t from, const char *mid, bool is_watched)
{
    return run_steps(dir, set, where, from, STEPS, mid, is_watched);
}

static void same_steps(const trail *a, const trail *b, uint64_t from, uint64_t n, const char *what, size_t row)
{
    for (uint64_t k = from; k < n; k++) {
        ck_assert_msg(memcmp(&a->total[k], &b->total[k], sizeof a->total[k]) == 0, "job %zu, %s: the loss of step %d is %.17g, not %.17g", row, what,
                      (int)k, b->total[k], a->total[k]);
        ck_assert_msg(a->after[k] == b->after[k], "job %zu, %s: weights after step %d differ", row, what, (int)k);
    }
}

static void same_trail(const trail *a, const trail *b, uint64_t from, const char *what, size_t row)
{
    same_steps(a, b, from, STEPS, what, row);
}

/* Teacher in the chain, beside it (another batch), remembered, none; accumulation; passes that end within a batch; workers. */
static const char *const jobs[][12] = {
    {"data.augment=crop:1 flip", "data.loaders=3", "train.batch=8", NULL},
    {MLP, "data.augment=jitter:0.3 cutout:2 mixup:0.4", "data.drop_last=false", "train.batch=36", NULL},
    {MLP, "cache.views=2", "data.augment=flip", "cache.disk=false", NULL},
    {MLP, "train.accumulate=2", "train.batch=8", "train.optimizer=adam", "distill.kd=0", NULL},
    {MLP, "teacher.batch=5", "data.augment=crop:2", "train.batch=10", NULL},
    {MLP, "distill.kd=0", "data.samples=5:90", "data.loaders=2", NULL},
    {MLP, "data.augment=rrc flip mixup:0.3", NULL},
};

START_TEST(near_and_far)
{
    const emulator_counts was = *emulator_count();
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        const char *dir = test_tmp_dir(), *mid = test_path(dir, "mid.safetensors");
        toy_make(dir);
        const trail far = run_job(dir, jobs[i], "data.device=off", 0, NULL, false);
        const trail near = run_job(dir, jobs[i], "data.device=on", 0, mid, false);
        const trail again = run_job(dir, jobs[i], "data.device=auto", STEPS / 2, mid, false);
        ck_assert(!far.near && near.near && again.near);
        same_trail(&far, &near, 0, "on the device", i);
        same_trail(&near, &again, STEPS / 2, "resumed", i);
        if (i < 2) {
            const trail parts = run_job(dir, jobs[i], "data.device=on", 0, NULL, true);
            same_trail(&near, &parts, 0, "watched", i);
        }
    }
    ck_assert_uint_eq(emulator_count()->memory, was.memory);
    ck_assert_uint_eq(emulator_count()->damaged, was.damaged);
}
END_TEST

/* What an augmentation, or the room on the device, keeps on the host trains there, and says so. */
START_TEST(too_much)
{
    char where[600];
    const char *const set[] = {"exec.device=emulated", "data.augment=rrc", "data.device=auto", where, "data.size=8", "data.max_bad=0.2",
                               "data.channels=1", "data.mean=0.5", "distill.kd=0", "teacher.path=", MLP, NULL};
    const char *asked[sizeof set / sizeof *set];
    static const char *const plain[] = {"exec.device=emulated", "train.steps=8", "train.metrics_every=1", MLP, NULL};
    const char *dir = test_tmp_dir();
    session s;
    toy_make(dir);
    folder(test_path(dir, "files"));
    snprintf(where, sizeof where, "data.dir=%s/files", dir);
    memcpy(asked, set, sizeof set);
    asked[2] = "data.device=on";
    log_set_sink(listen, NULL);
    job *j = toy_job(dir, set);
    OK(session_open(j, &s));
    ck_assert_ptr_null(s.near);
    ck_assert_msg(strstr(said, "stay on the host, which makes the batches: the augmentation rrc") != NULL, "%s", said);
    session_close(&s);
    config_free(j);
    j = toy_job(dir, asked);
    FAILS(ST_CONFIG, "on, but the augmentation rrc", session_open(j, &s));
    config_free(j);
    j = toy_job(dir, plain);
    job off = *j;
    off.data.device = DATA_DEVICE_OFF;
    emulator_fail(0, 0);
    OK(session_open(&off, &s));
    const size_t taken = s.b->taken, calls = emulator_calls();
    session_close(&s);
    said[0] = 0;
    emulator_memory(taken + 11000); /* 6144 bytes of samples */
    OK(session_open(j, &s));
    ck_assert_ptr_null(s.near);
    ck_assert_msg(strstr(said, "and half of the") != NULL, "%s", said);
    session_close(&s);
    emulator_memory((size_t)4 << 30);
    /* what takes them there fails */
    for (size_t at = calls + 1; at < calls + 12; at++) {
        emulator_fail(at, at);
        said[0] = 0;
        status st = session_open(j, &s);
        const char *call = emulator_failed_call();
        emulator_fail(0, 0);
        ck_assert_ptr_nonnull(call);
        if (st != ST_OK) { /* how much is free cannot be told, or nothing works any more */
            ck_assert_msg(st == ST_OOM && (strcmp(call, "memory") == 0 || strcmp(call, "wait") == 0), "%s: %s", call, status_message());
            continue;
        }
        ck_assert_msg((s.near == NULL) == (strstr(said, "stay on the host") != NULL), "%s: %s", call, said);
        if (strncmp(call, "alloc", 5) == 0)
            ck_assert_msg(s.near == NULL, "%s failed", call);
        double hint[1];
        step_result r = {.hint = hint};
        OK(session_step(&s, 0, &r));
        ck_assert(r.finite);
        session_close(&s);
    }
    config_free(j);
}
END_TEST

/* ---- remembered teacher outputs ---- */

/* How they are kept, views, passes that leave samples out (of which the rest is computed then), micro batches, hints; and the step
 * from which on all of them are known. */
static const struct remembered {
    const char *set[10];
    uint64_t rows_at;
} remembered[] = {
    {{MLP, "cache.views=2", "data.augment=crop:1 flip", "train.batch=32", "cache.disk=false", NULL}, 6},
    {{MLP, "cache.views=1", "cache.store=fp16", "train.batch=20", "cache.disk=false", NULL}, 4},
    {{"cache.views=1", "cache.store=top", "cache.top=2", "hint.auto.pairs=1", "train.batch=48", "cache.disk=false", NULL}, 2},
    {{MLP, "cache.views=1", "data.drop_last=false", "train.batch=36", "train.accumulate=2", "cache.disk=false", NULL}, 1},
};

START_TEST(remembered_rows)
{
    for (size_t i = 0; i < sizeof remembered / sizeof *remembered; i++) {
        const struct remembered *m = &remembered[i];
        const uint64_t n = m->rows_at + 2;
        const char *dir = test_tmp_dir(), *mid = test_path(dir, "mid.safetensors");
        toy_make(dir);
        const trail far = run_steps(dir, m->set, "data.device=off", 0, n, NULL, false);
        const trail near = run_steps(dir, m->set, "data.device=auto", 0, n, mid, false);
        ck_assert(!far.near && near.near);
        ck_assert_uint_eq(far.rows_at, 0);
        ck_assert_uint_eq(near.rows_at, m->rows_at);
        same_steps(&far, &near, 0, n, "rows on the device", i);
        ck_assert_uint_ge(near.cache.computed, far.cache.computed);
        ck_assert_uint_gt(near.cache.hits, 0);
        if (i)
            continue;
        const trail again = run_steps(dir, m->set, "data.device=auto", n / 2, n + 3, mid, false); /* knows nothing at first */
        same_steps(&near, &again, n / 2, n, "resumed", i);
        ck_assert_uint_eq(again.rows_at, n / 2 + 6);
        const trail parts = run_steps(dir, m->set, "data.device=auto", 0, n, NULL, true);
        ck_assert_uint_eq(parts.rows_at, 0);
        same_steps(&near, &parts, 0, n, "watched", i);
    }
}
END_TEST

/* A byte of the first record of the only file changes. */
static void damage_one(const char *folder)
{
    arena mem = {0};
    cache_entry *at;
    size_t n;
    char path[700], byte;
    OK(cache_list(folder, &mem, &at, &n));
    ck_assert_uint_eq(n, 1);
    snprintf(path, sizeof path, "%s/%s", folder, at[0].name);
    arena_free(&mem);
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, CACHE_HEAD + CACHE_RECORD_HEAD, SEEK_SET), 0);
    ck_assert_uint_eq(fread(&byte, 1, 1, f), 1);
    byte = (char)(byte ^ 1);
    ck_assert_int_eq(fseek(f, CACHE_HEAD + CACHE_RECORD_HEAD, SEEK_SET), 0);
    ck_assert_uint_eq(fwrite(&byte, 1, 1, f), 1);
    ck_assert_int_eq(fclose(f), 0);
}

/* Outputs that another run left on disk, one of them damaged since: read when first asked for, then on the device. */
START_TEST(remembered_rows_of_another_run)
{
    const char *dir = test_tmp_dir(), *cache = test_path(dir, "cache");
    char where[600];
    snprintf(where, sizeof where, "cache.dir=%s", cache);
    const char *const set[] = {MLP, "cache.views=1", "train.batch=32", where, NULL};
    toy_make(dir);
    const trail first = run_steps(dir, set, "data.device=off", 0, 6, NULL, false);
    ck_assert_uint_eq(first.cache.computed, TOY_TRAIN);
    damage_one(cache);
    const trail second = run_steps(dir, set, "data.device=auto", 0, 6, NULL, false);
    ck_assert_uint_eq(second.rows_at, 3);
    ck_assert_uint_eq(second.cache.loaded, TOY_TRAIN - 1);
    ck_assert_uint_eq(second.cache.damaged, 1);
    ck_assert_uint_eq(second.cache.computed, 1);
    same_steps(&first, &second, 0, 6, "from disk", 0);
}
END_TEST

/* Training with rounding fills them too, and leaves them to the float session. */
START_TEST(remembered_rows_and_rounding)
{
    const char *dir = test_tmp_dir();
    double total[2][6], hint[8];
    step_result r = {.hint = hint};
    toy_make(dir);
    for (int near = 0; near < 2; near++) {
        job *j = toy_job(dir, (const char *const[]){"exec.device=emulated", "cache.views=1", "cache.disk=false", "train.batch=48",
                                                    "quant.epochs=1", near ? "data.device=auto" : "data.device=off", NULL});
        session base, q;
        OK(session_open(j, &base));
        OK(session_step(&base, 0, &r));
        total[near][0] = r.total;
        OK(session_open_qat(&base, "int8-qat", &q));
        for (uint64_t k = 0; k < 4; k++) {
            OK(session_step(&q, k, &r));
            total[near][1 + k] = r.total;
        }
        ck_assert_int_eq(q.chain_rows, near);
        session_close_qat(&q);
        ck_assert(!base.chain_rows && (base.rows != NULL) == near);
        OK(session_step(&base, 1, &r));
        total[near][5] = r.total;
        ck_assert_int_eq(base.chain_rows, near);
        session_close(&base);
        config_free(j);
    }
    ck_assert_mem_eq(total[0], total[1], sizeof total[0]);
}
END_TEST

/* Rows for which the device has no room, by the rule or after all, stay on the host. */
START_TEST(rows_that_do_not_fit)
{
    static const char *const set[] = {"exec.device=emulated", "train.steps=8", MLP, "cache.views=1", "cache.disk=false", NULL};
    const char *dir = test_tmp_dir();
    double hint[1];
    step_result r = {.hint = hint};
    session s;
    toy_make(dir);
    log_set_sink(listen, NULL);
    job *j = toy_job(dir, set);
    job off = *j;
    off.data.device = DATA_DEVICE_OFF;
    OK(session_open(&off, &s));
    const size_t taken = s.b->taken;
    session_close(&s);
    for (int late = 0; late < 2; late++) {
        said[0] = 0;
        if (!late) /* half of it is for 6144 bytes of samples, but not for 1536 of rows too */
            emulator_memory(taken + 14000);
        OK(session_open(j, &s));
        ck_assert_ptr_nonnull(s.near);
        ck_assert_int_eq(s.rows_fit, late);
        ck_assert_msg(late || strstr(said, "remembered teacher outputs stay on the host: they take 1.50 KiB") != NULL, "%s", said);
        if (late)
            emulator_memory(s.b->taken + 100);
        for (uint64_t k = 0; k < 8; k++) {
            OK(session_step(&s, k, &r));
            ck_assert(r.finite && !s.chain_rows);
        }
        ck_assert(!s.rows_fit);
        ck_assert_msg(!late || strstr(said, ") stay on the host: ") != NULL, "%s", said);
        session_close(&s);
        emulator_memory((size_t)4 << 30);
    }
    config_free(j);
}
END_TEST

/* ---- steps ahead of the host ---- */

typedef struct told { /* by a loop: its lines with numbers that are no times */
    char text[20000];
    uint64_t hash;
    uint64_t steps;
    status st;
} told;

/* Lines of metrics.jsonl without what depends on the clock. */
static void read_metrics(const char *dir, told *t)
{
    unsigned char *all;
    size_t n, at = 0;
    OK(io_read_file(test_path(dir, "metrics.jsonl"), 1 << 20, &all, &n));
    for (char *line = strtok((char *)all, "\n"); line; line = strtok(NULL, "\n")) {
        for (char *part = line; part && *part;) { /* members, one after the other */
            char *end = strchr(part + 1, ',');
            size_t length = end ? (size_t)(end - part) : strlen(part);
            if (!memmem(part, length, "\"time\"", 6) && !memmem(part, length, "samples_per_second", 18) &&
                !memmem(part, length, "data_wait", 9) && !memmem(part, length, "\"path\"", 6) && at + length + 2 < sizeof t->text) {
                memcpy(t->text + at, part, length);
                at += length;
            }
            part = end;
        }
        t->text[at++] = '\n';
    }
    t->text[at] = 0;
    mem_free(all);
}

/* A whole loop. stop_after: the flag is set when that many steps are begun; 0: never. */
static volatile sig_atomic_t stop_now;
static uint64_t stop_after, seen_lines;
static void progress_line(const char *line, bool replace, void *ctx)
{
    (void)line, (void)replace, (void)ctx;
    seen_lines++;
    if (stop_after && seen_lines >= stop_after)
        stop_now = 1;
}

static void run_loop(const char *dir, const char *out, const char *every, const char *const *set, uint64_t stop, bool resume, told *t)
{
    const progress_sink sink = {.line = progress_line, .terminal = true, .width = 80};
    const loop_options o = {.dir = out, .resume = resume, .stop = &stop_now, .sink = &sink};
    const char *all[20] = {"exec.device=emulated", "train.steps=20", "train.log_every=7", "data.augment=crop:1 flip", every};
    loop_result r;
    session s;
    int lock;
    for (size_t i = 0; set[i]; i++)
        all[i + 5] = set[i];
    memset(t, 0, sizeof *t);
    stop_now = 0;
    stop_after = stop;
    seen_lines = 0;
    job *j = toy_job(dir, all);
    OK(session_open(j, &s));
    OK(loop_prepare(&o, &lock));
    t->st = loop_run(&s, &o, &r);
    t->steps = r.steps_done;
    t->hash = toy_hash(&s.params);
    read_metrics(out, t);
    io_close(lock);
    evaluation_free(&r.last);
    session_close(&s);
    config_free(j);
}

/* Every figure of metrics.jsonl and every weight is what it is when each step is waited for: with samples on the device and (large
 * enough to be copied beside the steps, or not) from the host; with steps that are not finite; stopped, and resumed. */
START_TEST(steps_ahead)
{
    static const char *const near[] = {MLP, "train.ema=0.9", NULL}, *const far[] = {MLP, "data.device=off", "distill.kd=0", NULL};
    static const char *const large[] = {MLP, "data.device=off", "train.batch=320", "train.steps=9", "distill.kd=0", NULL};
    static const char *const *const sets[] = {near, far, large};
    static told one, many, half, rest;
    const char *dir = test_tmp_dir(), *stopped = test_path(dir, "stopped");
    toy_make(dir);
    for (size_t i = 0; i < 3; i++) {
        char a[16], b[16];
        snprintf(a, sizeof a, "one%zu", i);
        snprintf(b, sizeof b, "many%zu", i);
        run_loop(dir, test_path(dir, a), "train.metrics_every=1", sets[i], 0, false, &one);
        run_loop(dir, test_path(dir, b), i == 1 ? "train.metrics_every=3" : "train.metrics_every=16", sets[i], 0, false, &many);
        OK(one.st);
        OK(many.st);
        ck_assert_str_eq(one.text, many.text);
        ck_assert_ptr_nonnull(strstr(one.text, "loss"));
        ck_assert_uint_eq(one.hash, many.hash);
        ck_assert_uint_eq(one.steps, many.steps);
    }
    run_loop(dir, test_path(dir, "whole"), "train.metrics_every=16", near, 0, false, &one);
    run_loop(dir, stopped, "train.metrics_every=5", near, 3, false, &half);
    ck_assert_int_eq(half.st, ST_STOPPED);
    ck_assert_uint_lt(half.steps, 20);
    run_loop(dir, stopped, "train.metrics_every=16", near, 0, true, &rest);
    OK(rest.st);
    ck_assert_uint_eq(one.hash, rest.hash);
}
END_TEST

START_TEST(steps_ahead_that_are_not_finite)
{
    static const char *const set[] = {"data.shuffle=false", MLP, "data.device=off", "train.precision=fp32", NULL};
    static told one, many;
    const char *dir = test_tmp_dir();
    log_set_sink(listen, NULL);
    toy_make_float(dir, 5, 3e38);
    run_loop(dir, test_path(dir, "one"), "train.metrics_every=1", set, 0, false, &one);
    run_loop(dir, test_path(dir, "many"), "train.metrics_every=16", set, 0, false, &many);
    OK(one.st);
    OK(many.st);
    ck_assert_uint_eq(one.hash, many.hash);
    ck_assert_ptr_nonnull(strstr(many.text, "nonfinite"));
    for (const char *a = one.text, *b = many.text; (a = strstr(a, "\"skipped\"")) != NULL; a++, b++) { /* as many, at the same steps */
        b = strstr(b, "\"skipped\"");
        ck_assert_ptr_nonnull(b);
        ck_assert_int_eq(strncmp(a, b, 12), 0);
    }
}
END_TEST

/* ---- the order of calls ---- */

static cuda_api logged;
static char calls[4000];
static const cuda_api *real;
static void *first_stream;
static void note(const char *what, void *stream)
{
    size_t n = strlen(calls);
    first_stream = first_stream ? first_stream : stream;
    snprintf(calls + n, sizeof calls - n, "%s%s ", what, !stream ? "" : stream == first_stream ? ":run" : ":beside");
}
static int log_copy(void *to, const void *from, size_t bytes, cuda_copy way, void *stream)
{
    if (bytes >= 65536)
        note(way == CUDA_COPY_TO_DEVICE ? "up" : way == CUDA_COPY_TO_HOST ? "down" : "take", stream);
    return real->copy(to, from, bytes, way, stream);
}
static int log_launch(void *program, void *stream) { return note("launch", stream), real->graph_launch(program, stream); }
static int log_sync(void *event) { return note("sync", NULL), real->event_sync(event); }
static int log_wait(void *stream) { return note("wait", stream), real->wait(stream); }
static int log_after(void *stream, void *event) { return note("after", stream), real->event_wait(stream, event); }

#define DECLARE(name) extern const kernel_row cuda_##name##_emulated[];
#define LIST(name)    cuda_##name##_emulated,
CUDA_TABLES(DECLARE)
static const kernel_row *const emulated_tables[] = {CUDA_TABLES(LIST) NULL};

/* The next batch goes up beside a run that is under way: the host waits for nothing between launch and copy. */
START_TEST(copies_beside_runs)
{
    const backend_options bo = {.threads = 1};
    const int64_t n = 20000;
    backend *b;
    graph *g;
    value_id x, y;
    exec *e;
    exec_chain *c;
    reduce_attrs all = {.keepdims = 0};
    real = &emulator_api;
    logged = emulator_api;
    logged.copy = log_copy;
    logged.graph_launch = log_launch;
    logged.event_sync = log_sync;
    logged.wait = log_wait;
    logged.event_wait = log_after;
    OK(cuda_open(&logged, emulated_tables, NULL, &bo, 0, &b));
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(n), &x));
    OK(graph_add1(g, OP_REDUCE_SUM, &all, x, 0, 0, &y));
    OK(graph_add_output(g, y));
    OK(exec_open(g, b, NULL, 0, &e));
    OK(exec_chain_open(&(exec_part){e, PHASE_MAIN, 1024}, 1, NULL, 0, &c));
    OK(exec_chain_open_ring(c, 3));
    float want[6] = {0};
    size_t got = 0;
    for (int k = 0; k < 6; k++) {
        calls[0] = 0;
        OK(exec_chain_begin(c));
        float *to = exec_data(e, x);
        for (int64_t i = 0; i < n; i++)
            to[i] = (float)(k + (i == 7));
        want[k] = (float)(k * n + 1);
        OK(exec_chain_launch(c));
        if (k == 4) /* two of three are under way */
            ck_assert_str_eq(calls, "sync after:beside up:beside after:run take:run launch:run ");
        while (exec_chain_under_way(c) == 3 || (k == 5 && exec_chain_under_way(c))) {
            OK(exec_chain_finish(c));
            ck_assert_double_eq((double)*(const float *)exec_data(e, y), (double)want[got]);
            got++;
            exec_chain_release(c);
        }
    }
    ck_assert_uint_eq(got, 6);
    FAILS(ST_INTERNAL, "no run is under way", exec_chain_finish(c));
    exec_chain_close(c);
    exec_close(e);
    graph_free(g);
    backend_close(b);
}
END_TEST

const test_entry test_table[] = {TEST(batches), TEST(what_stays_on_the_host), TEST(near_and_far), TEST(too_much), TEST(remembered_rows),
                                 TEST(remembered_rows_of_another_run), TEST(remembered_rows_and_rounding), TEST(rows_that_do_not_fit), TEST(steps_ahead),
                                 TEST(steps_ahead_that_are_not_finite), TEST(copies_beside_runs), {0}};
