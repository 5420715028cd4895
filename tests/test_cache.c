/* test_cache.c - kept teacher outputs: what they are keyed by, that they change nothing, and everything that may go wrong. */
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "base/rng.h"
#include "distill/cache.h"
#include "harness.h"
#include "program.h"
#include "toy.h"
#include "train/session.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void quiet(log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)line;
    (void)ctx;
}

/* ---- packing ---- */

static float half_value(uint16_t h)
{
    _Float16 v;
    memcpy(&v, &h, sizeof v);
    return (float)v;
}

START_TEST(every_half_unpacks_to_itself)
{
    const size_t width = 1;
    const tap_code c = {.store = CACHE_STORE_FP16, .n_out = 1, .width = &width};
    unsigned char packed[8];
    ck_assert_uint_eq(code_bytes(&c), 8);
    for (uint32_t h = 0; h < 65536; h++) {
        float x = half_value((uint16_t)h), y, *to = &y;
        const float *from = &x;
        if (!isfinite(x))
            continue;
        code_pack(&c, &from, packed);
        code_unpack(&c, packed, &to);
        ck_assert_msg(memcmp(&x, &y, sizeof x) == 0, "half %04x: %a became %a", h, (double)x, (double)y);
    }
}
END_TEST

START_TEST(halves_are_rounded_to_nearest_even)
{
    const size_t width = 1;
    const tap_code c = {.store = CACHE_STORE_FP16, .n_out = 1, .width = &width};
    unsigned char packed[8];
    rng r = rng_make(1, RNG_TEST, 0, 0);
    for (int i = 0; i < 200000; i++) {
        float x = (float)ldexp(rng_uniform(&r) * 2 - 1, (int)rng_below(&r, 60) - 40), y, *to = &y;
        const float *from = &x;
        code_pack(&c, &from, packed);
        code_unpack(&c, packed, &to);
        float want = x > 65504 ? 65504.0f : x < -65504 ? -65504.0f : (float)(_Float16)x;
        ck_assert_msg(memcmp(&want, &y, sizeof y) == 0, "%a became %a, not %a", (double)x, (double)y, (double)want);
    }
}
END_TEST

/* The K largest are exact, ties go to the lower class; the others together keep their share at the temperature. */
START_TEST(top_keeps_the_largest_and_the_share_of_the_rest)
{
    enum { C = 40, K = 5 };
    rng r = rng_make(2, RNG_TEST, 0, 0);
    double worst = 0;
    for (int round = 0; round < 400; round++) {
        const size_t width[2] = {C, 3};
        const tap_code c = {.store = CACHE_STORE_TOP, .n_out = 2, .top = round % 50 == 49 ? C + 7 : K, .width = width,
                            .temperature = 1 + round % 4};
        float z[C], y[C], h[3] = {1, -2, 0.5f}, g[3], *to[2] = {y, g};
        const float *from[2] = {z, h};
        unsigned char packed[1024];
        size_t k = c.top < C ? c.top : C, kept = 0;
        for (int i = 0; i < C; i++)
            z[i] = (float)(round % 3 ? 6 * rng_normal(&r) : (double)rng_below(&r, 4)); /* every third round is full of ties */
        ck_assert_uint_le(code_bytes(&c), sizeof packed);
        code_pack(&c, from, packed);
        code_unpack(&c, packed, to);
        ck_assert(memcmp(g, h, sizeof g) == 0);
        double all = 0, rest = 0, all_y = 0, rest_y = 0, top = -1e30;
        for (int i = 0; i < C; i++)
            top = (double)z[i] > top ? (double)z[i] : top;
        for (int i = 0; i < C; i++) {
            size_t before = 0; /* classes that go before i */
            for (int j = 0; j < C; j++)
                before += z[j] > z[i] || (z[j] >= z[i] && j < i);
            all += exp(((double)z[i] - top) / c.temperature);
            all_y += exp(((double)y[i] - top) / c.temperature);
            if (before < k) {
                ck_assert_msg(memcmp(&y[i], &z[i], sizeof y[i]) == 0, "round %d: class %d was %g, is %g", round, i, (double)z[i], (double)y[i]);
                kept++;
            } else {
                rest += exp(((double)z[i] - top) / c.temperature);
                rest_y += exp(((double)y[i] - top) / c.temperature);
            }
        }
        ck_assert_uint_eq(kept, k);
        double off = fabs(rest / all - rest_y / all_y);
        worst = off > worst ? off : worst;
    }
    test_max_error("share of the rest", worst, 1e-6);
    ck_assert(worst < 1e-6);
}
END_TEST

/* ---- the cache alone ---- */

enum { VIEWS = 2, SAMPLES = 30, ROWS = 50, WIDTH = 7 };

static const size_t widths[2] = {WIDTH, 0};
static uint32_t row_map[SAMPLES];

static float *output_of(uint32_t view, uint32_t sample, float *to)
{
    rng r = rng_make(3, RNG_TEST, view, sample);
    for (int i = 0; i < WIDTH; i++)
        to[i] = (float)rng_normal(&r);
    return to;
}

static uint64_t input(uint32_t view, uint32_t sample)
{
    return 1000 + view * 100 + sample;
}

static status try_open(const char *dir, uint64_t memory, tap_cache **c)
{
    for (uint32_t i = 0; i < SAMPLES; i++)
        row_map[i] = (i * 7 + 3) % ROWS;
    log_set_sink(quiet, NULL);
    return cache_open(&(cache_options){.code = {.n_out = 2, .width = widths}, .views = VIEWS, .samples = SAMPLES, .rows = ROWS,
                                       .row = row_map, .memory_limit = memory, .dir = dir, .disk_limit = 1 << 20,
                                       .identity = "test", .about = "test"}, c);
}

static tap_cache *open_cache(const char *dir, uint64_t memory)
{
    tap_cache *c;
    OK(try_open(dir, memory, &c));
    return c;
}

/* One pass over every view and sample as a run makes it; false: something came out wrong. */
static bool try_pass(tap_cache *c)
{
    bool right = true;
    for (uint32_t v = 0; v < VIEWS; v++)
        for (uint32_t i = 0; i < SAMPLES; i++) {
            float want[WIDTH], have[WIDTH] = {0}, *out[2] = {have, NULL};
            output_of(v, i, want);
            bool known = cache_known(c, v, i) || cache_load(c, v, i, input(v, i));
            if (!known || !cache_get(c, v, i, out)) {
                output_of(v, i, have);
                cache_put(c, v, i, input(v, i), out);
            }
            right = right && memcmp(want, have, sizeof want) == 0;
        }
    return right;
}

static cache_stats pass(tap_cache *c)
{
    ck_assert_msg(try_pass(c), "an output is not what was put");
    return cache_measure(c);
}

static cache_stats one_pass(const char *dir, uint64_t memory)
{
    tap_cache *c = open_cache(dir, memory);
    cache_stats s = pass(c);
    cache_close(c);
    return s;
}

/* For child processes, which must say nothing to Check. */
static bool quiet_pass(const char *dir, uint64_t memory)
{
    tap_cache *c;
    if (try_open(dir, memory, &c) != ST_OK)
        return false;
    bool right = try_pass(c);
    cache_close(c);
    return right;
}

#define ALL (VIEWS * SAMPLES)

START_TEST(what_was_put_is_found)
{
    for (int m = 0; m < 2; m++) { /* with a memory, then without */
        const char *dir = test_tmp_dir();
        uint64_t memory = m ? 1 : 0;
        tap_cache *c = open_cache(dir, memory);
        cache_stats s = pass(c);
        ck_assert(s.computed == ALL && s.loaded == 0);
        s = pass(c);
        ck_assert(s.computed == ALL && s.hits == ALL);
        cache_close(c);
        s = one_pass(dir, memory);
        ck_assert_msg(s.computed == 0 && s.loaded == ALL && s.damaged == 0, "%d: %d computed, %d loaded", m, (int)s.computed,
                      (int)s.loaded);
    }
    cache_stats s = one_pass(NULL, 1); /* neither memory nor disk */
    ck_assert(s.computed == ALL && s.hits == 0);
}
END_TEST

START_TEST(another_input_is_not_taken)
{
    const char *dir = test_tmp_dir();
    float have[WIDTH], *out[2] = {have, NULL};
    (void)one_pass(dir, 0);
    for (int m = 0; m < 2; m++) {
        tap_cache *c = open_cache(dir, m ? 1 : 0);
        ck_assert(!cache_load(c, 0, 3, input(0, 3) + 1) && cache_load(c, 0, 4, input(0, 4)));
        ck_assert(!cache_load(c, 0, 3, input(0, 3))); /* once refused it is computed */
        output_of(0, 3, have);
        cache_put(c, 0, 3, input(0, 3), out);
        ck_assert(cache_known(c, 0, 3));
        cache_close(c);
    }
}
END_TEST

START_TEST(outputs_that_are_not_finite_are_not_kept)
{
    float have[WIDTH] = {1, 2, (float)INFINITY}, *out[2] = {have, NULL};
    const char *dir = test_tmp_dir();
    tap_cache *c = open_cache(dir, 0);
    cache_put(c, 0, 0, 5, out);
    ck_assert(!cache_known(c, 0, 0) && isinf(have[2]));
    cache_close(c);
    c = open_cache(dir, 0);
    ck_assert(!cache_load(c, 0, 0, 5));
    cache_close(c);
}
END_TEST

static const char *view_file_name(const char *dir, size_t which, size_t *n)
{
    char **names;
    const char *path = NULL;
    size_t all, found = 0;
    OK(io_list(dir, 1000, &names, &all));
    for (size_t i = 0; i < all; i++)
        if (strstr(names[i], ".taps") && found++ == which)
            path = test_path(dir, names[i]);
    io_list_free(names, all);
    if (n)
        *n = found;
    return path;
}

static void poke(const char *path, long at, int byte)
{
    FILE *f = fopen(path, "r+b");
    ck_assert(f != NULL && fseek(f, at, SEEK_SET) == 0);
    int old = fgetc(f);
    ck_assert(fseek(f, at, SEEK_SET) == 0 && fputc(byte < 0 ? old ^ 0x10 : byte, f) != EOF);
    fclose(f);
}

/* One flipped bit anywhere in a record, and only that record is made anew; in the head, and all of the view's are. */
START_TEST(damage_is_found)
{
    const char *dir = test_tmp_dir();
    size_t record = CACHE_RECORD_HEAD + 32;
    (void)one_pass(dir, 0);
    const char *path = view_file_name(dir, 0, NULL);
    for (size_t k = 0; k < record; k++) {
        poke(path, (long)(CACHE_HEAD + row_map[k % SAMPLES] * record + k), -1);
        cache_stats s = one_pass(dir, k % 2);
        ck_assert_msg(s.computed == 1 && s.damaged >= 1, "byte %zu: %d made anew, %d damaged", k, (int)s.computed, (int)s.damaged);
    }
    for (long at = 0; at < CACHE_HEAD; at += at < 40 ? 1 : 97) {
        poke(path, at, -1);
        cache_stats s = one_pass(dir, 0);
        ck_assert_msg(s.computed == SAMPLES, "byte %ld of the head: %d made anew", at, (int)s.computed);
    }
    cache_stats s = one_pass(dir, 0);
    ck_assert(s.computed == 0);
}
END_TEST

START_TEST(a_truncated_file_loses_its_end_only)
{
    const char *dir = test_tmp_dir();
    size_t record = CACHE_RECORD_HEAD + 32;
    (void)one_pass(dir, 0);
    const char *path = view_file_name(dir, 0, NULL);
    for (int size = CACHE_HEAD + ROWS * (int)record; size >= 0; size -= 133) {
        size_t lost = 0;
        for (uint32_t i = 0; i < SAMPLES; i++)
            lost += CACHE_HEAD + (row_map[i] + 1) * record > (size_t)size;
        ck_assert_int_eq(truncate(path, size), 0);
        cache_stats s = one_pass(dir, 0);
        ck_assert_msg(s.computed == lost, "%d bytes: %d made anew, not %zu", size, (int)s.computed, lost);
    }
    /* while it is open */
    tap_cache *c = open_cache(dir, 1);
    ck_assert_int_eq(truncate(path, CACHE_HEAD + 5 * (long)record + 11), 0);
    (void)pass(c);
    cache_close(c);
    ck_assert_uint_eq(one_pass(dir, 0).computed, 0);
}
END_TEST

/* Each record is another sample's, whole but in the wrong place. */
START_TEST(a_record_in_the_wrong_place_is_not_taken)
{
    const char *dir = test_tmp_dir();
    unsigned char *data;
    size_t n, record = CACHE_RECORD_HEAD + 32;
    (void)one_pass(dir, 0);
    const char *path = view_file_name(dir, 0, NULL);
    OK(io_read_file(path, 1 << 20, &data, &n));
    memmove(data + CACHE_HEAD, data + CACHE_HEAD + record, (ROWS - 1) * record);
    OK(io_write_file(path, data, n));
    mem_free(data);
    ck_assert_uint_ge(one_pass(dir, 0).computed, SAMPLES - 1);
}
END_TEST

/* Whatever system call fails, in whatever way: every output is right and nothing is said to be wrong. */
START_TEST(no_failing_call_stops_a_run)
{
    static const int errors[] = {EIO, ENOSPC, EACCES, ENOMEM, IO_SHORT};
    for (int m = 0; m < 2; m++)
        for (size_t e = 0; e < sizeof errors / sizeof *errors; e++) {
            const char *dir = test_tmp_dir();
            for (uint64_t n = 1; n < 400; n += n < 60 ? 1 : 17) {
                uint64_t before = io_count();
                io_fail_at(n, errors[e]);
                (void)one_pass(dir, m ? 1 : 0);
                io_fail_at(0, 0);
                if (io_count() - before < n)
                    break; /* beyond the last */
                if (n % 5 == 0)
                    OK(io_remove_tree(dir));
            }
            (void)one_pass(dir, 0);
            ck_assert_uint_eq(one_pass(dir, m ? 1 : 0).computed, 0);
        }
}
END_TEST

/* ---- two processes ---- */

START_TEST(two_writers_share_a_folder)
{
    for (int round = 0; round < 6; round++) {
        const char *dir = test_tmp_dir();
        pid_t child[3];
        for (int k = 0; k < 3; k++) {
            child[k] = fork();
            ck_assert_int_ge(child[k], 0);
            if (child[k] == 0) {
                bool right = true;
                for (int i = 0; i < 20; i++)
                    right = quiet_pass(dir, k == 2) && right;
                _exit(right ? 0 : 1);
            }
        }
        for (int k = 0; k < 3; k++) {
            int how;
            ck_assert(waitpid(child[k], &how, 0) == child[k] && WIFEXITED(how) && WEXITSTATUS(how) == 0);
        }
        cache_stats s = one_pass(dir, 0);
        ck_assert_msg(s.computed == 0 && s.damaged == 0, "%d were made anew, %d damaged", (int)s.computed, (int)s.damaged);
    }
}
END_TEST

/* Killed at any moment, also in the middle of a record: what comes after is right. */
START_TEST(killed_writers_leave_a_cache_that_works)
{
    const char *dir = test_tmp_dir();
    for (int round = 0; round < 60; round++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0); /* kill(-1) would end everything */
        if (child == 0)
            for (int i = 0;; i++) {
                if (!quiet_pass(dir, i % 2 ? 1 : 0) ||
                    (i % 3 == 0 && cache_clean(dir, &(size_t){0}, &(uint64_t){0}, &(size_t){0}) != ST_OK))
                    _exit(1);
            }
        nanosleep(&(struct timespec){.tv_nsec = 200000L * (round + 1)}, NULL);
        int how;
        kill(child, SIGKILL);
        ck_assert(waitpid(child, &how, 0) == child && WIFSIGNALED(how)); /* it did not end by itself: nothing was wrong */
        cache_stats s = one_pass(dir, 0);
        ck_assert_uint_le(s.computed + s.loaded, ALL);
        ck_assert_uint_eq(one_pass(dir, 0).computed, 0);
    }
    /* a record of which only the first half reached the file */
    size_t record = CACHE_RECORD_HEAD + 32;
    const char *path = view_file_name(dir, 0, NULL);
    for (size_t k = record / 2; k < record; k++)
        poke(path, (long)(CACHE_HEAD + row_map[4] * record + k), 0);
    ck_assert_uint_eq(one_pass(dir, 0).computed, 1);
}
END_TEST

/* ---- bounds ---- */

static uint64_t folder_size(const char *dir)
{
    arena mem = {0};
    cache_entry *at;
    size_t n;
    uint64_t sum = 0;
    OK(cache_list(dir, &mem, &at, &n));
    for (size_t i = 0; i < n; i++)
        sum += at[i].facts.size;
    arena_free(&mem);
    return sum;
}

static void open_one(const char *dir, int key, uint32_t rows, uint64_t limit, cache_file *f)
{
    char name[16];
    snprintf(name, sizeof name, "key%d", key);
    OK(cache_file_open(dir, limit, name, "about", 100, rows, f));
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); /* times of files tick slowly */
}

START_TEST(the_folder_stays_within_its_size)
{
    const char *dir = test_tmp_dir();
    const uint64_t each = CACHE_HEAD + 100 * 100, limit = 3 * each + 50;
    cache_file f[6];
    char name[32];
    for (int k = 0; k < 5; k++) {
        open_one(dir, k, 100, limit, &f[k]);
        ck_assert_uint_eq(f[k].rows, 100);
        cache_file_close(&f[k]);
        if (k == 3) { /* 0 went; 1 is used again, so 2 goes next */
            open_one(dir, 1, 100, limit, &f[5]);
            ck_assert(!f[5].made);
            cache_file_close(&f[5]);
        }
        ck_assert_uint_le(folder_size(dir), limit);
    }
    for (int k = 0; k < 5; k++) {
        snprintf(name, sizeof name, "key%d.taps", k);
        ck_assert_msg(io_exists(test_path(dir, name)) == (k == 1 || k >= 3), "file %d", k);
    }
    /* what is open stays, and the new one gets what room there is */
    open_one(dir, 3, 100, limit, &f[3]);
    open_one(dir, 4, 100, limit, &f[4]);
    open_one(dir, 5, 200, limit, &f[5]);
    ck_assert(io_exists(f[3].path) && io_exists(f[4].path));
    ck_assert_msg(f[5].rows == 100, "%u rows", f[5].rows);
    ck_assert_uint_le(folder_size(dir), limit);
    size_t removed, kept;
    uint64_t bytes;
    OK(cache_clean(dir, &removed, &bytes, &kept));
    ck_assert(removed == 0 && kept == 3);
    for (int k = 3; k < 6; k++)
        cache_file_close(&f[k]);
    open_one(dir, 7, 100, 500, &f[0]); /* no room for a single record: everything else may go, this is not opened */
    ck_assert(f[0].rows == 0 && f[0].fd < 0);
    cache_file_close(&f[0]);
    OK(cache_clean(dir, &removed, &bytes, &kept));
    ck_assert_uint_eq(folder_size(dir), 0);
}
END_TEST

/* A link or a folder in place of a file is nobody's cache. */
START_TEST(odd_things_in_the_folder)
{
    const char *dir = test_tmp_dir();
    (void)one_pass(dir, 0);
    const char *path = view_file_name(dir, 0, NULL), *other = test_path(test_tmp_dir(), "precious");
    OK(io_write_file(other, "do not touch", 12));
    OK(io_remove(path));
    ck_assert_int_eq(symlink(other, path), 0);
    (void)one_pass(dir, 0);
    unsigned char *data;
    size_t n;
    OK(io_read_file(other, 100, &data, &n));
    ck_assert(n == 12 && memcmp(data, "do not touch", 12) == 0);
    mem_free(data);
    OK(io_remove(path));
    ck_assert_int_eq(mkdir(path, 0777), 0);
    (void)one_pass(dir, 0);
    const char *file = test_path(test_tmp_dir(), "file");
    OK(io_write_file(file, "x", 1));
    (void)one_pass(file, 0); /* cache.dir is a file */
    (void)one_pass(test_path(file, "below"), 0);
}
END_TEST

/* ---- whole runs ---- */

static uint64_t weights(const session *s)
{
    uint64_t h = 1;
    for (size_t i = 0; i < s->params.n; i++)
        h = h * 0x9E3779B97F4A7C15u + hash_xxh3(s->params.at[i].t.data, tensor_bytes(&s->params.at[i].t));
    return h;
}

/* All steps of the toy job with these changes. */
static uint64_t run(const char *dir, const char *cache, const char *const *set, cache_stats *stats)
{
    char folder[600];
    const char *all[16] = {"data.augment=crop:1 flip", "cache.views=8", "train.epochs=10"};
    double hint[4];
    step_result r = {.hint = hint};
    session s;
    size_t n = 3;
    snprintf(folder, sizeof folder, "cache.dir=%s", cache ? cache : "");
    all[n++] = cache ? folder : "cache.disk=false";
    for (size_t i = 0; set && set[i]; i++)
        all[n++] = set[i];
    job *j = toy_job(dir, all);
    log_set_sink(quiet, NULL);
    OK(session_open(j, &s));
    for (uint64_t k = 0; k < s.steps; k++) {
        OK(session_step(&s, k, &r));
        ck_assert(r.finite);
    }
    uint64_t h = weights(&s);
    if (stats)
        *stats = s.t.cache ? cache_measure(s.t.cache) : (cache_stats){0};
    session_close(&s);
    config_free(j);
    return h;
}

/* In memory, on a cold disk, on a warm one, from disk without a memory: the weights after 60 steps are the same to the bit,
 * and those of a run that computes every output. */
START_TEST(a_run_with_kept_outputs_gives_the_same_weights)
{
    static const char *const kinds[][4] = {{NULL}, {"hint.auto.pairs=2"}, {"hint.auto.pairs=2", "distill.kd=0"}};
    for (size_t k = 0; k < 3; k++) {
        const char *dir = test_tmp_dir(), *cache = test_tmp_dir(), *small[5];
        cache_stats stats;
        size_t n = 0;
        toy_make(dir);
        for (; kinds[k][n]; n++)
            small[n] = kinds[k][n];
        small[n++] = "cache.memory_limit=1"; /* MiB: the features of 8 views take more */
        small[n] = NULL;
        uint64_t want = run(dir, NULL, kinds[k], &stats);
        ck_assert_uint_gt(stats.hits, 0);
        ck_assert(run(dir, cache, kinds[k], &stats) == want && stats.loaded == 0);
        uint64_t computed = stats.computed;
        ck_assert(run(dir, cache, kinds[k], &stats) == want);
        ck_assert_msg(stats.computed == 0 && stats.loaded == computed, "%d computed, %d loaded of %d", (int)stats.computed,
                      (int)stats.loaded, (int)computed);
        ck_assert(run(dir, cache, small, &stats) == want && stats.computed == 0);
        ck_assert(run(dir, NULL, small, &stats) == want); /* computed whenever they do not fit */
        ck_assert(k == 0 || stats.hits == 0);
    }
}
END_TEST

/* The teacher's logits on the validation samples are kept too, exactly whatever cache.store says. */
START_TEST(validation_finds_what_another_run_computed)
{
    const char *dir = test_tmp_dir(), *cache = test_tmp_dir();
    char folder[600];
    float want[TOY_VAL * TOY_CLASSES];
    toy_make(dir);
    snprintf(folder, sizeof folder, "cache.dir=%s", cache);
    for (int k = 0; k < 4; k++) { /* computed, kept, found, found by a run that trains without augmentation */
        session s;
        evaluation e;
        job *j = toy_job(dir, ARGS(folder, "cache.views=1", "cache.store=fp16", k == 3 ? "data.augment=" : "data.augment=flip",
                                   k ? "cache.disk=true" : "cache.disk=false", "teacher.batch=8"));
        log_set_sink(quiet, NULL);
        OK(session_open(j, &s));
        OK(session_evaluate(&s, &e));
        if (k == 0)
            memcpy(want, s.teacher_val, sizeof want);
        ck_assert(memcmp(want, s.teacher_val, sizeof want) == 0);
        ck_assert_msg(s.t.runs == (k < 2 ? TOY_VAL : 8), "run %d: %d samples were computed", k, (int)s.t.runs); /* 8: the trial */
        evaluation_free(&e);
        session_close(&s);
        config_free(j);
    }
}
END_TEST

/* fp16 and top change the weights a little, and in the same way whether outputs were found or computed. */
START_TEST(lossy_runs_do_not_depend_on_what_was_found)
{
    const char *dir = test_tmp_dir();
    toy_make(dir);
    uint64_t exact = run(dir, NULL, ARGS("hint.auto.pairs=1"), NULL);
    static const char *const stores[][3] = {{"cache.store=fp16", "hint.auto.pairs=1"},
                                            {"cache.store=top", "cache.top=2", "hint.auto.pairs=1"}};
    for (int k = 0; k < 2; k++) {
        const char *set[5] = {stores[k][0], stores[k][1], k ? stores[k][2] : NULL}, *cache = test_tmp_dir();
        cache_stats stats;
        uint64_t cold = run(dir, cache, set, NULL);
        ck_assert(cold != exact && run(dir, cache, set, &stats) == cold && stats.computed == 0 && run(dir, NULL, set, NULL) == cold);
    }
}
END_TEST

START_TEST(runs_survive_damage)
{
    const char *dir = test_tmp_dir(), *cache = test_tmp_dir();
    cache_stats stats;
    rng r = rng_make(4, RNG_TEST, 0, 0);
    size_t n;
    toy_make(dir);
    uint64_t want = run(dir, cache, NULL, NULL);
    (void)view_file_name(cache, 0, &n);
    ck_assert_uint_eq(n, 8);
    for (size_t i = 0; i < n; i++) {
        io_facts f;
        const char *path = view_file_name(cache, i, NULL);
        OK(io_look(path, &f));
        for (int k = 0; k < 30; k++)
            poke(path, (i ? CACHE_HEAD : 0) + (long)rng_below(&r, (uint32_t)f.size - (i ? CACHE_HEAD : 0)), -1);
        if (i % 3 == 0)
            ck_assert_int_eq(truncate(path, (off_t)(f.size / 2)), 0);
    }
    ck_assert(run(dir, cache, NULL, &stats) == want && stats.computed > 0 && stats.damaged > 0);
    ck_assert(run(dir, cache, NULL, &stats) == want && stats.computed == 0);
}
END_TEST

/* Records that are whole but not what this teacher gives (another build's rounding): the trial sees it. */
START_TEST(outputs_of_another_build_are_seen)
{
    const char *dir = test_tmp_dir(), *cache = test_tmp_dir();
    cache_stats stats;
    size_t n;
    toy_make(dir);
    uint64_t want = run(dir, cache, NULL, NULL);
    (void)view_file_name(cache, 0, &n);
    for (size_t i = 0; i < n; i++) {
        unsigned char *data;
        size_t size, record = CACHE_RECORD_HEAD + TOY_CLASSES * sizeof(float);
        const char *path = view_file_name(cache, i, NULL);
        OK(io_read_file(path, 1 << 20, &data, &size));
        for (uint32_t row = 0; row < TOY_TRAIN; row++) {
            unsigned char *at = data + CACHE_HEAD + row * record;
            if (cache_record_state(at, record, row) != RECORD_WHOLE)
                continue;
            at[CACHE_RECORD_HEAD] ^= 1; /* the last bit of a logit */
            cache_record_seal(at, record, row, cache_record_input(at));
        }
        OK(io_write_file(path, data, size));
        mem_free(data);
    }
    ck_assert(run(dir, cache, NULL, &stats) == want && stats.computed > 0);
    ck_assert(run(dir, cache, NULL, &stats) == want && stats.computed == 0);
}
END_TEST

/* Two whole runs of the program at once in one folder; a third finds everything; their students are the same file. */
START_TEST(two_runs_share_a_folder)
{
    const char *dir = test_tmp_dir(), *cache = test_tmp_dir(), *out[4];
    char set[600], hash[4][65];
    started at[2];
    toy_make(dir);
    snprintf(set, sizeof set, "cache.dir=%s", cache);
    for (int k = 0; k < 4; k++)
        out[k] = test_path(dir, k == 0 ? "a" : k == 1 ? "b" : k == 2 ? "c" : "d");
#define RUN(k, disk)                                                                                              \
    ARGS("--student", test_path(dir, "job.ini"), "--set", set, "--set", "cache.views=3", "--set", "data.augment=crop:1 flip",  \
         "--set", "cache.disk=" disk, "--set", "train.epochs=10", "--out", out[k])
    for (int k = 0; k < 2; k++)
        at[k] = program_start(NULL, RUN(k, "true"));
    for (int k = 0; k < 4; k++) {
        ran r = k < 2 ? program_wait(&at[k]) : program_run(NULL, k == 2 ? RUN(2, "true") : RUN(3, "false"));
        ck_assert_msg(r.code == 0 || r.code == 1, "%s", r.err); /* 1: ONNX Runtime is not here */
        ck_assert_msg(k != 2 || strstr(r.err, "teacher outputs: 0 computed"), "%s", r.err);
        ran_free(&r);
        OK(hash_sha256_file(test_path(out[k], "student.onnx"), hash[k]));
        ck_assert_str_eq(hash[k], hash[0]);
    }
}
END_TEST

/* ---- keys ---- */

/* How many files the folder gains by a run with these changes: none when all it needs is there under the same key. */
static size_t gained(const char *dir, const char *cache, const char *const *set)
{
    char folder[600];
    size_t before, after, n = 0;
    const char *all[16];
    session s;
    snprintf(folder, sizeof folder, "cache.dir=%s", cache);
    all[n++] = folder;
    all[n++] = "cache.views=1";
    all[n++] = "data.augment=crop:1 flip";
    for (size_t i = 0; set && set[i]; i++)
        all[n++] = set[i];
    all[n] = NULL;
    job *j = toy_job(dir, all);
    (void)view_file_name(cache, 0, &before);
    log_set_sink(quiet, NULL);
    OK(session_open(j, &s));
    session_close(&s);
    config_free(j);
    (void)view_file_name(cache, 0, &after);
    return after - before;
}

START_TEST(the_key_holds_what_matters_and_nothing_else)
{
    const char *dir = test_tmp_dir(), *cache = test_tmp_dir();
    static const char *const other[][4] = {
        {"data.mean=0.4"}, {"data.std=0.3"}, {"data.augment=crop:2 flip"}, {"data.augment=flip"}, {"data.augment="}, {"train.seed=9"},
        {"teacher.batch=5"}, {"cache.store=fp16"}, {"cache.store=top"}, {"cache.store=top", "cache.top=3"},
        {"cache.store=top", "distill.temperature=2"}, {"hint.auto.pairs=1"}, {"hint.auto.pairs=2"}, {"hint.auto.pairs=1", "distill.kd=0"},
        {"exec.kernels=reference"}, {"data.mean=0.4", "data.std=0.3"},
    };
    static const char *const same[][4] = {
        {NULL}, {"student.widths=6 6"}, {"train.lr=1"}, {"train.epochs=7"}, {"train.batch=32", "teacher.batch=16"}, {"exec.threads=2"},
        {"data.samples=0:40"}, {"data.labelled=0:10"}, {"distill.temperature=2"}, {"distill.kd=0.3"}, {"cache.memory_limit=off"},
        {"data.shuffle=false"}, {"cache.top=3"}, {"data.augment=", "train.seed=9"}, {"cache.size=10"},
    };
    toy_make(dir);
    ck_assert_uint_eq(gained(dir, cache, ARGS("teacher.batch=16")), 1);
    (void)gained(dir, cache, NULL);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        ck_assert_msg(gained(dir, cache, other[i]) == 1, "%s makes no difference", other[i][0]);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        ck_assert_msg(gained(dir, cache, same[i]) == 0, "%s makes a difference", same[i][0] ? same[i][0] : "nothing");
    ck_assert_uint_eq(gained(dir, cache, ARGS("cache.views=4")), 3); /* view 0 is shared */
    /* another teacher, other data */
    toy_model("[student]\narch = cnn\nwidths = 8 16\ndepth = 2\ninit = he\n", test_path(dir, "teacher.onnx"));
    ck_assert_uint_eq(gained(dir, cache, NULL), 1);
    toy_make(dir);
    ck_assert_uint_eq(gained(dir, cache, NULL), 0);
    poke(test_path(dir, "data/x_train.npy"), 128 + 77, -1);
    ck_assert_uint_eq(gained(dir, cache, NULL), 1);
}
END_TEST

START_TEST(a_dry_run_leaves_nothing)
{
    const char *dir = test_tmp_dir(), *cache = test_path(test_tmp_dir(), "none");
    char set[600];
    toy_make(dir);
    snprintf(set, sizeof set, "cache.dir=%s", cache);
    ran r = program_run(NULL, ARGS("--student", test_path(dir, "job.ini"), "--set", "cache.views=1", "--set", set, "--dry-run"));
    ck_assert_msg(r.code == 0 && !io_exists(cache), "%s", r.err);
    ran_free(&r);
}
END_TEST

START_TEST(the_command_lists_and_cleans)
{
    const char *dir = test_tmp_dir(), *cache = test_tmp_dir();
    char set[600];
    toy_make(dir);
    snprintf(set, sizeof set, "cache.dir=%s", cache);
    ck_assert_uint_eq(gained(dir, cache, ARGS("cache.views=2")), 2);
    ran r = program_run(NULL, ARGS("cache", "--list", "--set", set));
    ck_assert_msg(r.code == 0 && strstr(r.out, "2 files") && strstr(r.out, "teacher.onnx on data, fp32, view 1"), "%s%s", r.out, r.err);
    ran_free(&r);
    r = program_run(NULL, ARGS("cache", "--list", "--json", "--set", set));
    ck_assert_msg(r.code == 0 && strstr(r.out, "\"in_use\":false") && strstr(r.out, "\"limit\":4294967296"), "%s%s", r.out, r.err);
    ran_free(&r);
    poke(view_file_name(cache, 0, NULL), 30, 27); /* an escape in the text of the head */
    r = program_run(NULL, ARGS("cache", "--list", "--set", set));
    ck_assert_msg(r.code == 0 && strstr(r.out, "damaged") && !strchr(r.out, 27), "%s%s", r.out, r.err);
    ran_free(&r);
    r = program_run(NULL, ARGS("cache", "--clean", "--set", set));
    ck_assert_msg(r.code == 0 && strstr(r.out, "removed 2 files"), "%s%s", r.out, r.err);
    ran_free(&r);
    r = program_run(NULL, ARGS("cache", "--list", "--set", set));
    ck_assert_msg(r.code == 0 && strstr(r.out, "0 files"), "%s%s", r.out, r.err);
    ran_free(&r);
    r = program_run(NULL, ARGS("cache"));
    ck_assert_msg(r.code == 64, "%s", r.err);
    ran_free(&r);
    r = program_run(NULL, ARGS("cache", "--list", "--set", "cache.dir=/nowhere/at/all"));
    ck_assert_msg(r.code == 0 && strstr(r.out, "0 files"), "%s%s", r.out, r.err);
    ran_free(&r);
}
END_TEST

const test_entry test_table[] = {TEST(every_half_unpacks_to_itself), TEST(halves_are_rounded_to_nearest_even),
                                 TEST(top_keeps_the_largest_and_the_share_of_the_rest), TEST(what_was_put_is_found),
                                 TEST(another_input_is_not_taken), TEST(outputs_that_are_not_finite_are_not_kept),
                                 TEST(damage_is_found), TEST(a_truncated_file_loses_its_end_only),
                                 TEST(a_record_in_the_wrong_place_is_not_taken), TEST(no_failing_call_stops_a_run),
                                 TEST(two_writers_share_a_folder), TEST(killed_writers_leave_a_cache_that_works),
                                 TEST(the_folder_stays_within_its_size), TEST(odd_things_in_the_folder),
                                 TEST(a_run_with_kept_outputs_gives_the_same_weights),
                                 TEST(validation_finds_what_another_run_computed),
                                 TEST(lossy_runs_do_not_depend_on_what_was_found), TEST(runs_survive_damage),
                                 TEST(outputs_of_another_build_are_seen), TEST(two_runs_share_a_folder),
                                 TEST(the_key_holds_what_matters_and_nothing_else), TEST(a_dry_run_leaves_nothing),
                                 TEST(the_command_lists_and_cleans), {0}};
