/* test_store.c - kept cells: what they are keyed by, that they come back whole, and everything that may go wrong. */
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "harness.h"
#include "matrix/store.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char last_warning[2000];
static int warnings;

static void listen(log_level level, const char *line, void *ctx)
{
    (void)ctx;
    if (level != LOG_WARN)
        return;
    warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", line);
}

static store *open_store(const char *path)
{
    store *s = NULL;
    log_set_sink(listen, NULL);
    OK(store_open(path, &s));
    ck_assert_ptr_nonnull(s);
    return s;
}

/* ---- keys ---- */

/* All that store.h promises. */
static const key_part base[] = {
    {"model", "9f86d081884c7d65"}, {"external data", "5e884898da280471"}, {"runner", "distill runner ort 1"}, {"runtime", "ort"},
    {"version", "1.31.1"},         {"build", "libonnxruntime.so 60303ae2"}, {"provider", "CPUExecutionProvider"}, {"device", "cpu"},
    {"driver", "6.1.0"},           {"system", "Linux"},                    {"architecture", "x86_64"},            {"isa", "avx512_vnni"},
    {"precision", "int8"},         {"shapes", "64x1x28x28"},               {"data", "fashion 10000 abcdef"},      {"options", "level=all threads=2"},
    {"distill", "0.1.0"},          {"nothing", NULL},                      {"empty", ""},
};
#define PARTS (sizeof base / sizeof *base)

START_TEST(any_change_of_any_part_is_another_key)
{
    char want[65], key[65], changed[100];
    key_part parts[PARTS + 1];
    OK(store_key(base, PARTS, want));
    OK(store_key(base, PARTS, key));
    ck_assert_str_eq(want, key);
    for (size_t i = 0; i < PARTS; i++)
        parts[PARTS - 1 - i] = base[i];
    OK(store_key(parts, PARTS, key));
    ck_assert_msg(strcmp(want, key) == 0, "the order of parts changes the key");
    for (size_t i = 0; i < PARTS; i++) {
        const char *other[] = {NULL, "", "x", changed};
        snprintf(changed, sizeof changed, "%s ", base[i].value ? base[i].value : "");
        for (size_t k = 0; k < 4; k++) {
            bool same = other[k] && base[i].value ? strcmp(other[k], base[i].value) == 0 : other[k] == base[i].value;
            memcpy(parts, base, sizeof base);
            parts[i].value = other[k];
            OK(store_key(parts, PARTS, key));
            ck_assert_msg((strcmp(want, key) == 0) == same, "part '%s' as '%s'", base[i].name, other[k] ? other[k] : "(unknown)");
        }
        memcpy(parts, base, sizeof base); /* another name, and a part more or less */
        parts[i].name = "renamed";
        OK(store_key(parts, PARTS, key));
        ck_assert_str_ne(want, key);
        parts[i] = parts[PARTS - 1];
        OK(store_key(parts, PARTS - 1, key));
        ck_assert_str_ne(want, key);
    }
    memcpy(parts, base, sizeof base);
    parts[PARTS] = (key_part){"more", NULL};
    OK(store_key(parts, PARTS + 1, key));
    ck_assert_str_ne(want, key);
    parts[PARTS] = (key_part){"model", "again"};
    FAILS(ST_INTERNAL, "'model' twice", store_key(parts, PARTS + 1, key));
}
END_TEST

/* Texts that would be the same bytes if they only followed each other. */
START_TEST(parts_do_not_run_into_each_other)
{
    static const key_part lists[][2] = {{{"a", "b"}, {"c", "d"}}, {{"a", "bc"}, {"d", ""}},     {{"ab", "c"}, {"d", ""}},
                                        {{"a", ""}, {"bcd", ""}},  {{"a", "1:c1:d"}, {"b", ""}}, {{"a", "b1:c1:d"}, {"b", NULL}},
                                        {{"a", NULL}, {"b", "-"}}, {{"a", "-"}, {"b", NULL}},    {{"a", NULL}, {"b", NULL}}};
    enum { N = sizeof lists / sizeof *lists };
    char keys[N][65];
    for (int i = 0; i < N; i++) {
        OK(store_key(lists[i], 2, keys[i]));
        for (int k = 0; k < i; k++)
            ck_assert_msg(strcmp(keys[i], keys[k]) != 0, "lists %d and %d", i, k);
    }
}
END_TEST

/* ---- cells ---- */

enum { IMAGES = 300, RUNS = 20, CLASSES = 10 };

typedef struct sample_cell {
    char key[65], number[32], reason[64];
    key_part parts[3];
    uint8_t right[IMAGES];
    double latency[RUNS], per_class[CLASSES];
    matrix_cell cell;
} sample_cell;

/* Cell number i with all fields set, as a function of i. */
/* Also in writers that are killed: not through Check, whose stream of messages they share with the test. */
static void make_cell(int i, sample_cell *s)
{
    rng r = rng_make(5, RNG_TEST, 0, (uint32_t)i);
    snprintf(s->number, sizeof s->number, "build %d", i);
    snprintf(s->reason, sizeof s->reason, "reason \"%d\" \xc3\xa9\n", i);
    s->parts[0] = (key_part){"model", "m"};
    s->parts[1] = (key_part){"build", s->number};
    s->parts[2] = (key_part){"provider", NULL};
    if (store_key(s->parts, 3, s->key) != ST_OK)
        abort();
    for (int k = 0; k < IMAGES; k++)
        s->right[k] = rng_below(&r, 10) > 0;
    for (int k = 0; k < RUNS; k++)
        s->latency[k] = rng_uniform(&r);
    for (int k = 0; k < CLASSES; k++)
        s->per_class[k] = rng_uniform(&r);
    s->cell = matrix_cell_empty();
    s->cell.runtime = "ort";
    s->cell.variant = "portable";
    s->cell.state = i % 3 ? CELL_OK : CELL_DIFFERS;
    s->cell.reason = s->reason;
    s->cell.version = "1.31.1";
    s->cell.build = s->number;
    s->cell.key = s->key;
    s->cell.when = 1770000000 + (int64_t)i * 86400;
    s->cell.images = IMAGES;
    s->cell.labelled = IMAGES;
    s->cell.right = s->right;
    s->cell.accuracy = rng_uniform(&r);
    s->cell.max_error = i % 5 ? rng_uniform(&r) : (double)INFINITY;
    s->cell.class_accuracy = s->per_class;
    s->cell.classes = CLASSES;
    s->cell.latency_ms = s->latency;
    s->cell.n_latency = RUNS;
    s->cell.p50_ms = 0.25 + i;
    s->cell.histogram[3] = (uint32_t)i;
    s->cell.bytes = 1000 + i;
}

static void check_same(const matrix_cell *a, const matrix_cell *b)
{
    ck_assert_int_eq(a->state, b->state);
    ck_assert_str_eq(a->runtime, b->runtime);
    ck_assert_str_eq(a->variant, b->variant);
    ck_assert_str_eq(a->reason, b->reason);
    ck_assert_str_eq(a->build, b->build);
    ck_assert_str_eq(a->key, b->key);
    ck_assert_int_eq(a->when, b->when);
    ck_assert_uint_eq(a->images, b->images);
    ck_assert_mem_eq(a->right, b->right, IMAGES);
    ck_assert_mem_eq(a->latency_ms, b->latency_ms, sizeof(double[RUNS]));
    ck_assert_mem_eq(a->class_accuracy, b->class_accuracy, sizeof(double[CLASSES]));
    ck_assert_mem_eq(&a->accuracy, &b->accuracy, sizeof(double));
    ck_assert_mem_eq(&a->max_error, &b->max_error, sizeof(double));
    ck_assert_mem_eq(a->histogram, b->histogram, sizeof a->histogram);
    ck_assert_int_eq(a->bytes, b->bytes);
}

static bool has(store *s, int i)
{
    sample_cell want;
    matrix_cell c;
    arena mem = {0};
    bool hit;
    make_cell(i, &want);
    OK(store_get(s, want.key, &mem, &c, &hit));
    if (hit)
        check_same(&want.cell, &c);
    arena_free(&mem);
    return hit;
}

static void put(store *s, int i)
{
    sample_cell c;
    make_cell(i, &c);
    OK(store_put(s, &c.cell, c.parts, 3));
}

START_TEST(cells_come_back_as_they_were)
{
    const char *path = test_path(test_tmp_dir(), "deep/er/matrix.sqlite");
    store *s = open_store(path);
    for (int i = 0; i < 12; i++) {
        ck_assert(!has(s, i));
        put(s, i);
        ck_assert(has(s, i));
    }
    store_close(s);
    s = open_store(path);
    for (int i = 0; i < 12; i++)
        ck_assert(has(s, i));
    ck_assert(!has(s, 12));
    sample_cell c;
    make_cell(3, &c); /* measured again: the last one counts */
    c.cell.accuracy = 0.5;
    c.cell.when++;
    OK(store_put(s, &c.cell, c.parts, 3));
    matrix_cell got;
    arena mem = {0};
    bool hit;
    OK(store_get(s, c.key, &mem, &got, &hit));
    ck_assert(hit && got.accuracy == 0.5);
    c.parts[1].value = "another";
    FAILS(ST_INTERNAL, "another key than its parts", store_put(s, &c.cell, c.parts, 3));
    OK(store_clean(s));
    ck_assert(!has(s, 3) && store_works(s));
    arena_free(&mem);
    store_close(s);
    store_close(NULL);
    ck_assert_int_eq(warnings, 0);
}
END_TEST

START_TEST(history_says_since_when)
{
    store *s = open_store(test_path(test_tmp_dir(), "matrix.sqlite"));
    static const struct {
        int64_t day;
        cell_state state;
        const char *version, *build;
    } past[] = {{0, CELL_OK, "1.29.0", "a"}, {10, CELL_OK, "1.30.0", "b"}, {20, CELL_DIFFERS, "1.31.1", "b"}, {30, CELL_DIFFERS, "1.31.1", "c"}};
    history_entry *at;
    size_t n;
    arena mem = {0};
    const char *said;
    for (size_t i = 0; i < 4; i++) {
        key_part parts[] = {{"model", "m1"}, {"version", past[i].version}, {"build", past[i].build}};
        char key[65];
        OK(store_key(parts, 3, key));
        matrix_cell c = matrix_cell_empty();
        c.runtime = "ort";
        c.variant = "int8-ptq";
        c.key = key;
        c.state = past[i].state;
        c.version = past[i].version;
        c.when = 1767225600 + past[i].day * 86400; /* 2026-01-01 */
        c.images = 10;
        c.accuracy = 0.9;
        OK(store_put(s, &c, parts, 3));
        parts[0].value = "m2";
        OK(store_key(parts, 3, key));
        c.state = CELL_OK;
        OK(store_put(s, &c, parts, 3));
        OK(store_history(s, "ort", "int8-ptq", "m1", &mem, &at, &n));
        ck_assert_uint_eq(n, i + 1);
        OK(history_since(at, n, &mem, &said));
        if (i == 1)
            ck_assert_str_eq(said, "ok in all 2 measurements, since 2026-01-01");
    }
    ck_assert_int_eq(at[0].when, 1767225600 + 30 * 86400);
    ck_assert_str_eq(at[0].changed, "build b -> c");
    ck_assert_str_eq(at[1].changed, "version 1.30.0 -> 1.31.1");
    ck_assert_str_eq(at[2].changed, "build a -> b, version 1.29.0 -> 1.30.0");
    ck_assert_ptr_null(at[3].changed);
    ck_assert_int_eq(at[1].state, CELL_DIFFERS);
    ck_assert_int_eq(at[2].state, CELL_OK);
    ck_assert_str_eq(said, "differs since 2026-01-21 (version 1.30.0 -> 1.31.1); ok before");
    OK(store_history(s, "ort", "int8-ptq", NULL, &mem, &at, &n));
    ck_assert_uint_eq(n, 8);
    OK(store_history(s, "ort", "portable", "m1", &mem, &at, &n));
    ck_assert_uint_eq(n, 0);
    OK(history_since(at, n, &mem, &said));
    ck_assert_str_eq(said, "never measured before");
    arena_free(&mem);
    store_close(s);
}
END_TEST

START_TEST(history_ends_somewhere)
{
    store *s = open_store(test_path(test_tmp_dir(), "matrix.sqlite"));
    history_entry *at;
    size_t n;
    arena mem = {0};
    for (int i = 0; i < 230; i++)
        put(s, i);
    OK(store_history(s, "ort", "portable", "m", &mem, &at, &n));
    ck_assert_uint_eq(n, 200);
    ck_assert_str_eq(at[0].build, "build 229");
    ck_assert(has(s, 229) && !has(s, 29) && has(s, 30));
    arena_free(&mem);
    store_close(s);
}
END_TEST

/* ---- damage ---- */

/* One statement by hand, as nobody should. */
static void by_hand(const char *path, const char *sql)
{
    sqlite3 *db;
    char *message = NULL;
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    int code = sqlite3_exec(db, sql, NULL, NULL, &message);
    ck_assert_msg(code == SQLITE_OK, "%s: %s", sql, message ? message : "");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

START_TEST(a_corrupt_row_is_measured_anew)
{
    static const char *const damage[] = {
        "UPDATE cell SET cell = replace(cell, '\"images\":300', '\"images\":301') WHERE cell LIKE '%build 1\"%'",
        "UPDATE cell SET cell = substr(cell, 1, 100) WHERE cell LIKE '%build 1\"%'",
        "UPDATE cell SET cell = '' WHERE cell LIKE '%build 1\"%'",
        "UPDATE cell SET \"check\" = \"check\" + 1 WHERE cell LIKE '%build 1\"%'",
        "UPDATE cell SET at = at - 1 WHERE cell LIKE '%build 1\"%'",
        "UPDATE cell SET runtime = 'own' WHERE cell LIKE '%build 1\"%'",
        "UPDATE cell SET variant = 'fp32' WHERE cell LIKE '%build 1\"%'",
        "UPDATE cell SET parts = '{}' WHERE cell LIKE '%build 1\"%'",
        "UPDATE cell SET model = x'ff00' WHERE cell LIKE '%build 1\"%'",
        "UPDATE cell SET cell = x'00ff' WHERE cell LIKE '%build 1\"%'",
        "UPDATE cell SET (cell, \"check\") = (SELECT cell, \"check\" FROM cell WHERE cell LIKE '%build 2\"%') WHERE cell LIKE '%build 1\"%'",
    };
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        const char *path = test_path(test_tmp_dir(), "matrix.sqlite");
        store *s = open_store(path);
        for (int k = 0; k < 3; k++)
            put(s, k);
        store_close(s);
        by_hand(path, damage[i]);
        warnings = 0;
        s = open_store(path);
        ck_assert_msg(!has(s, 1), "%s", damage[i]);
        ck_assert_msg(warnings == 1 && strstr(last_warning, "measuring it anew"), "%s: %s", damage[i], last_warning);
        ck_assert(!has(s, 1) && warnings == 1); /* it is gone */
        ck_assert(has(s, 0) && has(s, 2) && store_works(s));
        put(s, 1);
        ck_assert(has(s, 1));
        store_close(s);
    }
}
END_TEST

static void write_at(const char *path, off_t at, const void *data, size_t n)
{
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, data, n, at), (ssize_t)n);
    close(fd);
}

static off_t size_of(const char *path)
{
    struct stat sb;
    ck_assert_int_eq(stat(path, &sb), 0);
    return sb.st_size;
}

/* Whatever the bytes of the file are: the store opens, gives only what was put, and keeps what is put then. */
START_TEST(a_damaged_file_is_begun_anew)
{
    const char *dir = test_tmp_dir(), *path = test_path(dir, "matrix.sqlite");
    unsigned char *whole;
    size_t n;
    store *s = open_store(path);
    for (int i = 0; i < 20; i++)
        put(s, i);
    store_close(s);
    OK(io_read_file(path, 1 << 24, &whole, &n));
    rng r = rng_make(6, RNG_TEST, 0, 0);
    int lost = 0;
    for (int round = 0; round < 60; round++) {
        unsigned char junk[700];
        char what[100];
        OK(io_remove_tree(dir));
        OK(io_make_dirs(dir));
        OK(io_write_file(path, whole, n));
        for (size_t i = 0; i < sizeof junk; i++)
            junk[i] = (unsigned char)rng_below(&r, 256);
        off_t at = (off_t)rng_below(&r, (uint32_t)n - 700);
        if (round == 0) { /* all sorts of other files */
            snprintf(what, sizeof what, "text");
            OK(io_write_file(path, "hello, this is no database at all, but long enough\n", 51));
        } else if (round == 1) {
            snprintf(what, sizeof what, "empty");
            OK(io_write_file(path, "", 0));
        } else if (round < 12) {
            snprintf(what, sizeof what, "cut at %ld", (long)at);
            ck_assert_int_eq(truncate(path, round == 2 ? 1 : round == 3 ? 100 : at), 0);
        } else if (round < 20) {
            snprintf(what, sizeof what, "journal of junk");
            OK(io_write_file(test_path(dir, "matrix.sqlite-wal"), junk, sizeof junk));
            write_at(path, round % 2 ? 0 : at, junk, 50);
        } else {
            snprintf(what, sizeof what, "junk at %ld", (long)(round == 20 ? 0 : at));
            write_at(path, round == 20 ? 0 : at, junk, round % 2 ? sizeof junk : 16);
        }
        s = open_store(path);
        ck_assert_msg(s && store_works(s), "%s: %s", what, last_warning);
        for (int i = 0; i < 20; i++)
            lost += !has(s, i);
        if (store_works(s)) { /* damage that only reading finds ends its use in this process */
            put(s, 77);
            ck_assert_msg(has(s, 77) || !store_works(s), "%s", what);
        }
        store_close(s);
        s = open_store(path);
        ck_assert_msg(store_works(s), "%s", what);
        store_close(s);
    }
    printf("damaged files: %d of 1200 cells were lost\n", lost);
    ck_assert_int_gt(lost, 100); /* the damage was one */
    mem_free(whole);
}
END_TEST

START_TEST(files_that_are_not_ours_stay)
{
    const char *path = test_path(test_tmp_dir(), "matrix.sqlite");
    by_hand(path, "CREATE TABLE precious(a); INSERT INTO precious VALUES(1)");
    store *s = open_store(path);
    ck_assert(!store_works(s) && strstr(last_warning, "not a file of this program"));
    put(s, 1);
    ck_assert(!has(s, 1));
    store_close(s);
    by_hand(path, "DELETE FROM precious"); /* it is still there */
    path = test_path(test_tmp_dir(), "matrix.sqlite");
    store_close(open_store(path));
    by_hand(path, "PRAGMA user_version = 99");
    s = open_store(path);
    ck_assert(!store_works(s) && strstr(last_warning, "a later version"));
    store_close(s);
    by_hand(path, "PRAGMA user_version = 1; CREATE TRIGGER t AFTER INSERT ON cell BEGIN DELETE FROM cell; END");
    s = open_store(path); /* ours, but changed: damaged */
    ck_assert(store_works(s) && strstr(last_warning, "begun anew"));
    put(s, 1);
    ck_assert(has(s, 1));
    store_close(s);
}
END_TEST

START_TEST(a_folder_that_cannot_be_written_costs_a_warning)
{
    const char *dir = test_tmp_dir(), *file = test_path(dir, "file");
    OK(io_write_file(file, "x", 1));
    const char *paths[] = {test_path(file, "matrix.sqlite"), "/proc/self/nowhere/matrix.sqlite", dir, "/proc/version"};
    for (size_t i = 0; i < 4; i++) {
        warnings = 0;
        store *s = open_store(paths[i]);
        ck_assert_msg(!store_works(s) && warnings == 1, "%s", paths[i]);
        put(s, 1);
        ck_assert(!has(s, 1));
        OK(store_clean(s));
        arena mem = {0};
        history_entry *at;
        size_t n;
        OK(store_history(s, "ort", "portable", NULL, &mem, &at, &n));
        ck_assert(n == 0 && warnings == 1);
        store_close(s);
    }
    ck_assert_int_eq(chmod(dir, 0555), 0);
    store *mine = open_store(test_path(test_tmp_dir(), "x.sqlite"));
    store_close(mine);
    if (geteuid() == 0 && seteuid(65534) != 0) {
        test_skip("read-only folder", "root writes everywhere");
        return;
    }
    warnings = 0;
    store *s = open_store(test_path(dir, "matrix.sqlite"));
    ck_assert(!store_works(s) && warnings == 1);
    store_close(s);
    ck_assert(geteuid() != 65534 || seteuid(0) == 0);
}
END_TEST

/* ---- others at work ---- */

static int wait_for(pid_t pid)
{
    int code;
    ck_assert_int_eq(waitpid(pid, &code, 0), pid);
    return code;
}

START_TEST(eight_processes_write_at_once)
{
    enum { WRITERS = 8, CELLS = 25 };
    const char *path = test_path(test_tmp_dir(), "matrix.sqlite");
    pid_t pid[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        pid[w] = fork();
        ck_assert_int_ge(pid[w], 0);
        if (pid[w] == 0) {
            store *s;
            int bad = 0;
            sample_cell c;
            matrix_cell got;
            arena mem = {0};
            bool hit;
            log_set_sink(listen, NULL);
            if (store_open(path, &s) != ST_OK || !store_works(s))
                _exit(101);
            for (int i = 0; i < CELLS; i++) { /* half of them also another writer's */
                make_cell(w / 2 * 1000 + (i % 2 ? w * 100 : 0) + i, &c);
                bad += store_put(s, &c.cell, c.parts, 3) != ST_OK;
                bad += store_get(s, c.key, &mem, &got, &hit) != ST_OK || !hit;
            }
            store_close(s);
            arena_free(&mem);
            _exit(bad + warnings > 100 ? 100 : bad + warnings);
        }
    }
    for (int w = 0; w < WRITERS; w++) {
        int code = wait_for(pid[w]);
        ck_assert_msg(WIFEXITED(code) && WEXITSTATUS(code) == 0, "writer %d: %d", w, code);
    }
    store *s = open_store(path);
    for (int w = 0; w < WRITERS; w++)
        for (int i = 0; i < CELLS; i++)
            ck_assert_msg(has(s, w / 2 * 1000 + (i % 2 ? w * 100 : 0) + i), "writer %d, cell %d", w, i);
    store_close(s);
    ck_assert_int_eq(warnings, 0);
}
END_TEST

/* A writer that says after each cell that it is kept. */
static void write_on(const char *path, const char *said, int from)
{
    store *s;
    sample_cell c;
    int fd = open(said, O_WRONLY | O_CREAT | O_APPEND, 0600);
    log_set_sink(listen, NULL);
    if (fd < 0 || store_open(path, &s) != ST_OK)
        _exit(101);
    for (int i = from; i < from + 100000 && store_works(s); i++) {
        char line[16];
        make_cell(i, &c);
        c.cell.variant = i < 1000000 ? "portable" : "fp32"; /* each its own history, which keeps 200 */
        if (store_put(s, &c.cell, c.parts, 3) != ST_OK)
            _exit(102);
        snprintf(line, sizeof line, "%d\n", i);
        if (store_works(s) && write(fd, line, strlen(line)) < 0)
            _exit(103);
    }
    _exit(store_works(s) ? 0 : 99);
}

/* The last number that was said; -1: none. */
static int last_said(const char *said)
{
    unsigned char *data;
    size_t n;
    if (io_read_file(said, 1 << 24, &data, &n) != ST_OK)
        return -1;
    while (n && data[n - 1] != '\n')
        n--;
    data[n] = 0;
    if (n)
        data[n - 1] = 0;
    const char *line = strrchr((char *)data, '\n');
    int value = n ? atoi(line ? line + 1 : (char *)data) : -1;
    mem_free(data);
    return value;
}

static void check_kept(const char *path, int from, int to, const char *what)
{
    store *s = open_store(path);
    ck_assert_msg(store_works(s) && warnings == 0, "%s: %s", what, last_warning);
    for (int i = from; i <= to; i++)
        ck_assert_msg(has(s, i), "%s: cell %d of %d to %d was said to be kept", what, i, from, to);
    store_close(s);
}

START_TEST(killed_at_any_time_nothing_that_was_kept_is_lost)
{
    const char *dir = test_tmp_dir(), *path = test_path(dir, "matrix.sqlite"), *said = test_path(dir, "said");
    rng r = rng_make(7, RNG_TEST, 0, 0);
    int from = 0, kept = 0;
    for (int round = 0; round < 40; round++) {
        pid_t pid[2];
        char more[2][32];
        for (int k = 0; k < 2; k++) { /* the second shares the file and is killed too */
            snprintf(more[k], sizeof more[k], "said%d-%d", round, k);
            const char *to = k ? test_path(dir, more[k]) : said;
            pid[k] = fork();
            ck_assert_int_ge(pid[k], 0);
            if (pid[k] == 0)
                write_on(path, to, from + k * 1000000);
        }
        nanosleep(&(struct timespec){.tv_nsec = (long)rng_below(&r, 60) * 1000000L}, NULL);
        for (int k = 0; k < 2; k++)
            kill(pid[k], SIGKILL);
        for (int k = 0; k < 2; k++) {
            int code = wait_for(pid[k]);
            ck_assert_msg(WIFSIGNALED(code), "writer %d ended by itself: %x", k, code);
        }
        int last = last_said(said);
        if (last >= from) {
            check_kept(path, last - 150 > from ? last - 150 : from, last, "killed"); /* history keeps 200 */
            kept += last - from + 1;
            from = last + 2;
        }
    }
    printf("killed 80 writers; %d cells were said to be kept\n", kept);
    ck_assert_int_gt(kept, 50);
}
END_TEST

/* ---- disks and memory ---- */

/* Not a test of its own: the process that strace stops below. */
START_TEST(writer_under_strace)
{
    const char *path = getenv("STORE_WRITER");
    char said[4096];
    if (!path)
        return;
    snprintf(said, sizeof said, "%s.said", path);
    sample_cell c;
    store *s = open_store(path);
    int fd = open(said, O_WRONLY | O_CREAT | O_APPEND, 0600);
    for (int i = 0; i < 6; i++) {
        char line[16];
        make_cell(i, &c);
        OK(store_put(s, &c.cell, c.parts, 3));
        snprintf(line, sizeof line, "%d\n", i);
        if (store_works(s))
            ck_assert_int_gt(write(fd, line, strlen(line)), 0);
    }
    store_close(s);
    close(fd);
}
END_TEST

static int traced(const char *path, const char *inject)
{
    text t = {0};
    text_printf(&t, "CK_FORK=no STORE_WRITER='%s' strace -f -qq -o /dev/null -e inject=%s '%s/test_store' writer_under_strace >/dev/null 2>&1",
                path, inject, BUILD_DIR);
    ck_assert_int_eq(t.st, ST_OK);
    int code = system(t.s);
    text_free(&t);
    return code;
}

START_TEST(stopped_or_failing_at_every_write)
{
    static const char *const calls[] = {"pwrite64", "ftruncate,fallocate", "fdatasync,fsync", "unlink"};
    static const char *const faults[] = {"signal=KILL", "error=ENOSPC", "error=EIO"};
    int runs = 0, stops = 0;
    if (system("strace -o /dev/null -e inject=fsync:error=EIO:when=9999 true >/dev/null 2>&1") != 0) {
        test_skip("stopped_or_failing_at_every_write", "strace cannot trace here");
        return;
    }
    for (size_t f = 0; f < 3; f++)
        for (size_t c = 0; c < 4; c++)
            for (int when = 1, step = 1; when < 60; when += step) {
                char inject[100], said[4200];
                const char *path = test_path(test_tmp_dir(), "matrix.sqlite");
                snprintf(inject, sizeof inject, "%s:%s:when=%d%s", calls[c], faults[f], when, f == 1 ? "+" : "");
                int code = traced(path, inject);
                runs++;
                snprintf(said, sizeof said, "%s.said", path);
                warnings = 0;
                int last = last_said(said);
                store *s = open_store(path);
                ck_assert_msg(store_works(s) && warnings == 0, "%s: %s", inject, last_warning);
                for (int i = 0; i <= last; i++)
                    ck_assert_msg(has(s, i), "%s: cell %d of %d", inject, i, last);
                put(s, 5);
                ck_assert_msg(has(s, 5), "%s", inject);
                store_close(s);
                bool stopped = code != 0 || last < 5;
                stops += stopped;
                if (!stopped)
                    break;
                step = when > 8 ? 7 : when > 3 ? 3 : 1;
            }
    printf("%d runs, %d of them stopped or without a disk\n", runs, stops);
    ck_assert_int_gt(stops, 20);
}
END_TEST

/* 40 cells where no file may grow beyond `kib`. In a process of its own: the stream in which Check counts grows as well.
 * Exits with the number of cells that were there, or 101 to 103 for what went wrong. */
static void fill_disk(const char *path, int kib)
{
    const struct rlimit small = {(rlim_t)kib * 1024, (rlim_t)kib * 1024};
    matrix_cell got;
    sample_cell c;
    arena mem = {0};
    store *s;
    bool hit;
    int kept = 0;
    log_set_sink(listen, NULL);
    signal(SIGXFSZ, SIG_IGN);
    warnings = 0;
    if (setrlimit(RLIMIT_FSIZE, &small) != 0 || store_open(path, &s) != ST_OK)
        _exit(101);
    for (int i = 0; i < 40; i++) {
        make_cell(i, &c);
        if (store_put(s, &c.cell, c.parts, 3) != ST_OK || store_get(s, c.key, &mem, &got, &hit) != ST_OK)
            _exit(102);
        kept += hit;
    }
    bool works = store_works(s);
    store_close(s);
    arena_free(&mem);
    _exit(!works && warnings == 1 ? kept : 103);
}

START_TEST(a_full_disk_costs_a_warning)
{
    for (int kib = 0; kib <= 64; kib += 4) {
        const char *path = test_path(test_tmp_dir(), "matrix.sqlite");
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0)
            fill_disk(path, kib);
        int code = wait_for(pid);
        ck_assert_msg(WIFEXITED(code) && WEXITSTATUS(code) <= 40, "%d KiB: %x", kib, code);
        warnings = 0;
        store *s = open_store(path);
        ck_assert_msg(store_works(s) && warnings == 0, "%d KiB: %s", kib, last_warning);
        int again = 0;
        for (int i = 0; i < 40; i++)
            again += has(s, i);
        ck_assert_msg(again >= WEXITSTATUS(code), "%d KiB: %d were kept, %d are there", kib, WEXITSTATUS(code), again);
        store_close(s);
    }
}
END_TEST

/* Every allocation fails once, and from there on: out of memory or an answer, and the file is whole. */
START_TEST(without_memory_it_says_so)
{
    const char *path = test_path(test_tmp_dir(), "matrix.sqlite");
    int failed = 0;
    store *s = open_store(path);
    put(s, 1);
    store_close(s);
    for (int once = 0; once < 2; once++)
        for (uint64_t n = 1;; n += n < 40 ? 1 : n / 16) {
            sample_cell c;
            arena mem = {0};
            matrix_cell got;
            history_entry *at;
            size_t entries;
            bool hit = false;
            make_cell(1, &c);
            s = NULL;
            log_set_sink(listen, NULL);
            uint64_t before = mem_count();
            mem_fail_at(n, once);
            status st = store_open(path, &s);
            if (st == ST_OK)
                st = store_get(s, c.key, &mem, &got, &hit);
            if (st == ST_OK)
                st = store_put(s, &c.cell, c.parts, 3);
            if (st == ST_OK)
                st = store_history(s, "ort", "portable", "m", &mem, &at, &entries);
            mem_fail_at(0, false);
            bool over = mem_count() - before < n;
            ck_assert_msg(st == ST_OK || st == ST_OOM, "allocation %d: status %d: %s", (int)n, (int)st, status_message());
            failed += st == ST_OOM;
            if (st == ST_OK && hit)
                check_same(&c.cell, &got);
            if (over)
                ck_assert(st == ST_OK && hit);
            arena_free(&mem);
            store_close(s);
            if (over)
                break;
        }
    ck_assert_int_gt(failed, 50);
    warnings = 0;
    s = open_store(path);
    ck_assert(store_works(s) && has(s, 1) && warnings == 0);
    store_close(s);
}
END_TEST

START_TEST(the_default_is_the_users_cache_folder)
{
    const char *dir = test_tmp_dir();
    store *s = NULL;
    setenv("XDG_CACHE_HOME", dir, 1);
    log_set_sink(listen, NULL);
    OK(store_open_in("", &s));
    put(s, 1);
    store_close(s);
    ck_assert_int_gt(size_of(test_path(dir, "distill/matrix.sqlite")), 0);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    OK(store_open_in(NULL, &s));
    ck_assert(!store_works(s) && warnings == 1 && strstr(last_warning, "set cache.dir"));
    store_close(s);
    OK(store_open_in(test_path(dir, "told"), &s));
    ck_assert(store_works(s) && size_of(test_path(dir, "told/matrix.sqlite")) > 0);
    store_close(s);
}
END_TEST

const test_entry test_table[] = {TEST(any_change_of_any_part_is_another_key),
                                 TEST(parts_do_not_run_into_each_other),
                                 TEST(cells_come_back_as_they_were),
                                 TEST(history_says_since_when),
                                 TEST(history_ends_somewhere),
                                 TEST(a_corrupt_row_is_measured_anew),
                                 TEST(a_damaged_file_is_begun_anew),
                                 TEST(files_that_are_not_ours_stay),
                                 TEST(a_folder_that_cannot_be_written_costs_a_warning),
                                 TEST(eight_processes_write_at_once),
                                 TEST(killed_at_any_time_nothing_that_was_kept_is_lost),
                                 TEST(writer_under_strace),
                                 TEST(stopped_or_failing_at_every_write),
                                 TEST(a_full_disk_costs_a_warning),
                                 TEST(without_memory_it_says_so),
                                 TEST(the_default_is_the_users_cache_folder),
                                 {0}};
