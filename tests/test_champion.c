/* test_champion.c - `distill gate`: exit codes, the champion's way from run to run, and nothing torn when it is stopped. */
#include "base/hash.h"
#include "base/io.h"
#include "base/json_in.h"
#include "base/log.h"
#include "harness.h"
#include "matrix/champion.h"
#include "matrix/store.h"
#include "program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { N = 1000 };

/* A run folder NAME whose only row is own: fp32 with `wrong` of 1000 wrong. The marks lie in dir/cache. */
static void make_run(const char *dir, const char *name, const char *gate, size_t wrong)
{
    const char *run = test_path(dir, name), *model = test_path(run, "student.onnx");
    char key[65], accuracy[32];
    static uint8_t right[N];
    matrix m = {.run = name, .set = "set", .version = "0.1.0", .samples = N, .n_rows = 1, .n_columns = 1};
    matrix_file file = {.form = "onnx", .path = "student.onnx", .bytes = 7};
    store *s;
    OK(io_make_dirs(run));
    OK(io_write_file(model, name, strlen(name)));
    char sha[65];
    OK(hash_sha256_file(model, sha));
    file.sha256 = sha;
    OK(arena_alloc(&m.mem, &m.rows, 1, sizeof *m.rows));
    OK(arena_alloc(&m.mem, &m.columns, 1, sizeof *m.columns));
    OK(arena_alloc(&m.mem, &m.cells, 1, sizeof *m.cells));
    m.rows[0] = (matrix_row){.runtime = "own", .title = "own", .present = true};
    m.columns[0] = (matrix_column){.variant = "fp32", .model = "student", .files = &file, .n_files = 1};
    matrix_cell *c = &m.cells[0];
    *c = matrix_cell_empty();
    snprintf(accuracy, sizeof accuracy, "%zu", wrong);
    const key_part parts[] = {{"model", name}, {"wrong", accuracy}};
    OK(store_key(parts, 2, key));
    for (size_t i = 0; i < N; i++)
        right[i] = i >= wrong;
    c->runtime = "own";
    c->variant = "fp32";
    c->state = CELL_OK;
    c->key = key;
    c->when = 1770000000;
    c->images = c->labelled = N;
    c->correct = N - wrong;
    c->accuracy = (double)c->correct / N;
    c->right = right;
    c->bytes = 7;
    OK(matrix_write(test_path(run, "matrix.json"), &m));
    OK(io_make_dirs(test_path(dir, "cache")));
    OK(store_open(test_path(dir, "cache/matrix.sqlite"), &s));
    OK(store_put(s, c, parts, 2));
    store_close(s);
    matrix_free(&m);
    text t = {0};
    text_printf(&t, "[cache]\ndir = %s/cache\n[gate]\n%s", dir, gate);
    OK(io_write_file(test_path(run, "config.ini"), t.s, t.n));
    text_free(&t);
}

static ran gate(const char *dir, const char *name, const char *more)
{
    return program_run(&(program_options){0}, ARGS("gate", test_path(dir, name), more));
}

/* Runs it and holds exit code and a part of what it says (either stream) against what is wanted. */
static void expect(const char *dir, const char *name, const char *more, int code, const char *says)
{
    ran r = gate(dir, name, more);
    ck_assert_msg(r.code == code, "%s %s: exit %d, wanted %d: %s%s", name, more ? more : "", r.code, code, r.out, r.err);
    ck_assert_msg(!says || strstr(r.out, says) || strstr(r.err, says), "%s: lacks '%s': %s%s", name, says, r.out, r.err);
    ran_free(&r);
}

static void champion_is(const char *dir, const char *name)
{
    champion c;
    OK(champion_read(test_path(dir, "champion.json"), &c));
    ck_assert(c.present == (name != NULL));
    if (name) {
        ck_assert_str_eq(c.run, name);
        ck_assert(c.who && *c.who && c.host && *c.host && c.when && strlen(c.when) == 20);
    }
    champion_free(&c);
}

START_TEST(exit_codes)
{
    const char *dir = test_tmp_dir();
    make_run(dir, "good", "top1 >= 0.92\nsize = size_mb <= 1\n", 70);
    make_run(dir, "bad", "top1 >= 0.92\nsize = size_mb <= 1\n", 90);
    make_run(dir, "none", "", 70);
    make_run(dir, "wrong", "top1 >= 0.92\nsize = size_gb <= 1\n", 70);
    make_run(dir, "stale", "top1 >= 0.92\n", 70);
    make_run(dir, "damaged", "top1 >= 0.92\n", 70);
    make_run(dir, "missing", "top1 >= 0.92\n", 70);
    OK(io_write_file(test_path(dir, "stale/student.onnx"), "another", 7));
    OK(io_write_file(test_path(dir, "damaged/matrix.json"), "{", 1));
    OK(io_remove(test_path(dir, "missing/matrix.json")));
    expect(dir, "good", NULL, 0, "gate: held (2 rules)");
    expect(dir, "bad", NULL, 1, "gate: does not hold: 1 of 2 rules");
    expect(dir, "bad", "--promote", 1, "not promoted");
    champion_is(dir, NULL);
    expect(dir, "none", NULL, 78, "[gate] has no rules");
    expect(dir, "wrong", NULL, 78, "config.ini:5:8: error: gate: 'size_gb <= 1'");
    expect(dir, "stale", NULL, 65, "is not the file that the matrix was measured with");
    expect(dir, "damaged", NULL, 65, "matrix.json");
    expect(dir, "missing", NULL, 66, "`distill matrix");
    expect(dir, "nowhere", NULL, 66, "config.ini");
    ran r = program_run(&(program_options){0}, ARGS("gate"));
    ck_assert(r.code == 64);
    ran_free(&r);
    r = program_run(&(program_options){0}, ARGS("gate", test_path(dir, "none"), "--set", "gate.a=top1 >= 0.95", "--set", "gate.b=broken <= 0"));
    ck_assert(r.code == 1 && strstr(r.out, "does not hold: 1 of 2 rules"));
    ran_free(&r);
    r = program_run(&(program_options){.stdout_to = "/dev/full"}, ARGS("gate", test_path(dir, "good")));
    ck_assert(r.code == 74);
    ran_free(&r);
}
END_TEST

START_TEST(json_says_all)
{
    const char *dir = test_tmp_dir();
    make_run(dir, "a", "top1 >= 0.92\nsize = size_mb <= 1\n", 90);
    json_in j;
    ran r = gate(dir, "a", "--json");
    OK(json_in_parse(&j, "gate --json", r.out, strlen(r.out), 16));
    ck_assert(!json_in_bool(&j, j.root, "held", true));
    size_t n, cells;
    json_t *rules = json_in_array(&j, j.root, "rules", &n);
    ck_assert_uint_eq(n, 2);
    json_t *cell = json_array_get(json_in_array(&j, json_array_get(rules, 0), "cells", &cells), 0);
    ck_assert(cells == 1 && fabs(json_in_number(&j, cell, "margin") + 0.01) < 1e-12 && fabs(json_in_number(&j, cell, "value") - 0.91) < 1e-12);
    ck_assert(!json_in_bool(&j, json_in_object(&j, j.root, "champion"), "promoted", true));
    json_in_close(&j);
    ran_free(&r);
}
END_TEST

START_TEST(the_champion_moves_from_run_to_run)
{
    static const char rules[] = "top1 drop <= 0.002 vs champion\n";
    const char *dir = test_tmp_dir(), *file = test_path(dir, "champion.json");
    champion c;
    make_run(dir, "first", rules, 80);
    make_run(dir, "chance", rules, 84); /* 4 more wrong, 0 fewer: p = 0.125 */
    make_run(dir, "worse", rules, 95);
    make_run(dir, "better", rules, 60);
    expect(dir, "first", NULL, 0, "champion: none yet");
    champion_is(dir, NULL);
    expect(dir, "first", "--promote", 0, "promoted: first");
    champion_is(dir, "first");
    expect(dir, "worse", "--promote", 1, "p = 6.1e-05: 15 against 0 of 1000");
    champion_is(dir, "first");
    expect(dir, "chance", NULL, 0, "within chance, p = 0.12: 4 against 0");
    expect(dir, "better", "--promote", 0, "champion before: first");
    champion_is(dir, "better");
    expect(dir, "first", NULL, 1, "20 against 0"); /* what was good enough is no more */
    OK(io_remove_tree(test_path(dir, "better"))); /* its figures stay */
    expect(dir, "first", NULL, 1, "20 against 0");
    json_in j;
    size_t n;
    OK(json_in_open(&j, file, 1 << 20, 8));
    json_t *past = json_in_array(&j, j.root, "history", &n);
    ck_assert(n == 1 && strcmp(json_string_value(json_object_get(json_array_get(past, 0), "run")), "first") == 0);
    json_in_close(&j);
    char **names;
    OK(io_list(dir, 100, &names, &n));
    size_t copies = 0;
    for (size_t i = 0; i < n; i++)
        copies += strncmp(names[i], "champion-", 9) == 0;
    io_list_free(names, n);
    ck_assert_uint_eq(copies, 1);
    /* a copy that was touched, a name that leads elsewhere, a file that is none */
    OK(champion_read(file, &c));
    const char *copy = test_path(dir, c.copy);
    champion_free(&c);
    unsigned char *data;
    OK(io_read_file(copy, 1 << 20, &data, &n));
    data[n / 2] ^= 1;
    OK(io_write_file(copy, data, n));
    mem_free(data);
    FAILS(ST_BAD_DATA, "was changed since", champion_read(file, &c));
    champion_free(&c);
    expect(dir, "first", NULL, 65, "was changed since");
    OK(io_remove(copy));
    FAILS(ST_BAD_DATA, "are missing", champion_read(file, &c));
    champion_free(&c);
    static const char *const bad[] = {
        "{", "{}", "[]", "{\"schema\": 2, \"matrix\": \"champion-ab.json\", \"matrix_sha256\": \"ab\"}",
        "{\"schema\": 1, \"matrix\": \"../matrix.json\", \"matrix_sha256\": \"ab\"}",
        "{\"schema\": 1, \"matrix\": \"champion-/../.json\", \"matrix_sha256\": \"ab\"}",
        "{\"schema\": 1, \"matrix\": \"champion-.json\", \"matrix_sha256\": \"ab\"}",
        "{\"schema\": 1, \"matrix\": 3, \"matrix_sha256\": \"ab\"}", "{\"schema\": 1, \"matrix\": \"champion-ab.json\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        OK(io_write_file(file, bad[i], strlen(bad[i])));
        status st = champion_read(file, &c);
        ck_assert_msg(st == ST_BAD_DATA, "%s: %d", bad[i], (int)st);
        champion_free(&c);
    }
}
END_TEST

/* Any byte of champion.json changed: a champion whose figures are whole, or an error. */
START_TEST(a_damaged_champion_is_refused)
{
    const char *dir = test_tmp_dir(), *file = test_path(dir, "champion.json");
    unsigned char *data;
    size_t n, read = 0;
    make_run(dir, "a", "top1 >= 0.5\n", 10);
    expect(dir, "a", "--promote", 0, "promoted");
    OK(io_read_file(file, 1 << 20, &data, &n));
    for (size_t i = 0; i < n; i++) {
        champion c;
        unsigned char was = data[i];
        data[i] ^= (unsigned char)(1 << i % 8);
        OK(io_write_file(file, data, n));
        status st = champion_read(file, &c);
        ck_assert_msg(st == ST_BAD_DATA || (st == ST_OK && c.present && c.m.n_rows == 1), "byte %zu: %d", i, (int)st);
        read += st == ST_OK;
        champion_free(&c);
        data[i] = was;
    }
    ck_assert(read < n); /* who, when and the like may be any text */
    mem_free(data);
}
END_TEST

START_TEST(the_file_is_where_the_job_says)
{
    static const struct {
        const char *run, *path;
    } rows[] = {{"runs/a", "runs/champion.json"}, {"runs/a/", "runs/champion.json"}, {"runs/a//", "runs/champion.json"}, {"a", "champion.json"},
                {"/a", "/champion.json"}, {".", "./../champion.json"}, {"runs/..", "runs/../../champion.json"}, {"/", "//../champion.json"}};
    const config_sources nothing = {0};
    const char *const set[] = {"gate.champion=elsewhere/c.json"};
    const config_sources told = {.set = set, .n_set = 1};
    job *j;
    arena mem = {0};
    const char *path;
    OK(config_load(&nothing, &j));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OK(champion_path(j, rows[i].run, &mem, &path));
        ck_assert_str_eq(path, rows[i].path);
    }
    config_free(j);
    OK(config_load(&told, &j));
    OK(champion_path(j, "runs/a", &mem, &path));
    ck_assert_str_eq(path, "elsewhere/c.json");
    config_free(j);
    arena_free(&mem);
}
END_TEST

START_TEST(one_promotes_at_a_time)
{
    const char *dir = test_tmp_dir();
    int fd, other;
    make_run(dir, "a", "top1 >= 0.5\n", 10);
    OK(champion_lock(test_path(dir, "champion.json"), &fd));
    FAILS(ST_STOPPED, "", champion_lock(test_path(dir, "champion.json"), &other));
    expect(dir, "a", "--promote", 75, NULL);
    expect(dir, "a", NULL, 0, NULL); /* only to look needs no lock */
    io_close(fd);
    expect(dir, "a", "--promote", 0, "promoted");
}
END_TEST

/* `distill matrix history`: the cell of the run's own file, newest first. */
START_TEST(history_is_told)
{
    const char *dir = test_tmp_dir(), *run = test_path(dir, "a");
    make_run(dir, "a", "top1 >= 0.5\n", 10);
    store *s;
    char key[65], sha[65];
    OK(hash_sha256_file(test_path(run, "student.onnx"), sha));
    OK(store_open(test_path(dir, "cache/matrix.sqlite"), &s));
    for (int i = 0; i < 3; i++) {
        const key_part parts[] = {{"model", sha}, {"version", i < 2 ? "1.30" : "1.31"}};
        matrix_cell c = matrix_cell_empty();
        OK(store_key(parts, 2, key));
        c.runtime = "own", c.variant = "fp32", c.key = key, c.version = parts[1].value, c.images = 10, c.accuracy = 0.75;
        c.when = 1767225600 + i * 86400;
        c.state = i < 2 ? CELL_OK : CELL_DIFFERS;
        OK(store_put(s, &c, parts, 2));
    }
    store_close(s);
    ran r = program_run(&(program_options){0}, ARGS("matrix", "history", run, "own/fp32"));
    ck_assert_msg(r.code == 0, "%s", r.err);
    ck_assert_ptr_nonnull(strstr(r.out, "own/fp32: differs since 2026-01-03 (version 1.30 -> 1.31); ok before"));
    ck_assert_ptr_nonnull(strstr(r.out, "2026-01-02T00:00:00Z ok           1.30           0.7500"));
    ran_free(&r);
    r = program_run(&(program_options){0}, ARGS("matrix", "history", run, "own/fp32", "--json"));
    json_in j;
    size_t n;
    OK(json_in_parse(&j, "history", r.out, strlen(r.out), 8));
    (void)json_in_array(&j, j.root, "measurements", &n);
    ck_assert_uint_eq(n, 3);
    json_in_close(&j);
    ran_free(&r);
    r = program_run(&(program_options){0}, ARGS("matrix", "history", run, "own/int8"));
    ck_assert(r.code == 64 && strstr(r.err, "there is no cell own/int8"));
    ran_free(&r);
}
END_TEST

/* Stopped or failing at any write: the champion is the old one or the new one, whole. */
START_TEST(stopped_anywhere_there_is_one_champion)
{
    static const char *const calls[] = {"write", "fsync", "rename", "unlink", "openat"}, *const faults[] = {"signal=KILL", "error=EIO", "error=ENOSPC"};
    const char *dir = test_tmp_dir(), *file = test_path(dir, "champion.json");
    int runs = 0, old = 0, new = 0;
    if (system("strace -o /dev/null -e inject=fsync:error=EIO:when=9999 true >/dev/null 2>&1") != 0) {
        test_skip("stopped_anywhere_there_is_one_champion", "strace cannot trace here");
        return;
    }
    make_run(dir, "old", "top1 >= 0.5\n", 10);
    make_run(dir, "new", "top1 >= 0.5\n", 20);
    for (size_t f = 0; f < 3; f++)
        for (size_t c = 0; c < 5; c++)
            for (int when = c == 4 ? 30 : 1;; when += c == 4 ? 9 : 1) {
                char inject[100];
                champion now;
                expect(dir, "old", "--promote", 0, "promoted: old");
                snprintf(inject, sizeof inject, "inject=%s:%s:when=%d", calls[c], faults[f], when);
                ran r = program_run(&(program_options){.before = ARGS("strace", "-f", "-qq", "-o", "/dev/null", "-e", inject)},
                                    ARGS("gate", test_path(dir, "new"), "--promote"));
                runs++;
                status st = champion_read(file, &now);
                ck_assert_msg(st == ST_OK && now.present, "%s: %s", inject, status_message());
                bool is_new = strcmp(now.run, "new") == 0;
                ck_assert_msg(is_new || strcmp(now.run, "old") == 0, "%s", inject);
                ck_assert_msg(is_new || r.code != 0 || r.signal, "%s: it said that it promoted", inject);
                champion_free(&now);
                old += !is_new;
                new += is_new;
                bool over = r.code == 0 || when > 60;
                ran_free(&r);
                if (over)
                    break;
            }
    printf("%d promotions: %d left the old champion, %d made the new one\n", runs, old, new);
    ck_assert(old > 20 && new >= 15);
}
END_TEST

const test_entry test_table[] = {TEST(exit_codes),
                                 TEST(json_says_all),
                                 TEST(the_champion_moves_from_run_to_run),
                                 TEST(a_damaged_champion_is_refused),
                                 TEST(the_file_is_where_the_job_says),
                                 TEST(one_promotes_at_a_time),
                                 TEST(history_is_told),
                                 TEST(stopped_anywhere_there_is_one_champion),
                                 {0}};
