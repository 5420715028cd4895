/* test_checkpoint.c - checkpoints: nothing that is damaged is taken, what is whole is found, the right ones are kept. */
#include "harness.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/text.h"
#include "train/checkpoint.h"
#include "train/loop.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* A store of a few tensors whose bytes depend on `seed`. */
static void fill(store *s, unsigned seed)
{
    static const struct {
        const char *name;
        shape sh;
        value_kind kind;
    } rows[] = {{"conv.weight", {4, {2, 1, 3, 3}}, VALUE_PARAM},
                {"conv.bias \"quoted\" \xc3\xa9", {1, {2}}, VALUE_PARAM},
                {"steps", {0}, VALUE_STATE},
                {"empty", {2, {0, 3}}, VALUE_STATE}};
    rng r = rng_make(seed, RNG_TEST, 0, 0);
    size_t n = sizeof rows / sizeof *rows;
    *s = (store){.n = n, .cap = n};
    OK(mem_alloc(&s->at, n, sizeof *s->at));
    for (size_t i = 0; i < n; i++) {
        s->at[i].kind = rows[i].kind;
        OK(tensor_new(&s->at[i].t, rows[i].name, DTYPE_F32, rows[i].sh));
        for (int64_t k = 0; k < shape_count(&rows[i].sh); k++)
            tensor_put(&s->at[i].t, k, rng_normal(&r));
    }
}

static bool store_equal(const store *a, const store *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = memcmp(a->at[i].t.data, b->at[i].t.data, tensor_bytes(&a->at[i].t)) == 0;
    return same;
}

static const fact facts[] = {{"step", "7"}, {"note", "a \\ and a \" and \xc3\xa9"}};

static const char *save(const char *dir, unsigned step)
{
    arena mem = {0};
    const char *path, *kept;
    store s;
    fill(&s, step);
    OK(checkpoint_path(&mem, dir, step, &path));
    OK(checkpoint_write(path, &s, facts, 2));
    store_free(&s);
    kept = test_path(dir, strrchr(path, '/') + 1);
    arena_free(&mem);
    return kept;
}

START_TEST(what_is_written_is_read)
{
    const char *dir = test_tmp_dir(), *path = save(dir, 7);
    limits lim = limits_default();
    store want, have;
    checkpoint c;
    fill(&want, 7);
    fill(&have, 99);
    ck_assert(!store_equal(&want, &have));
    OK(checkpoint_read(path, &lim, &c));
    OK(checkpoint_restore(&c, &have));
    ck_assert(store_equal(&want, &have));
    for (int i = 0; i < 2; i++)
        ck_assert_str_eq(checkpoint_fact(&c, facts[i].key), facts[i].value);
    ck_assert(checkpoint_fact(&c, "nothing") == NULL);
    checkpoint_free(&c);
    /* twice the same bytes */
    unsigned char *a, *b;
    size_t n_a, n_b;
    OK(io_read_file(path, 1 << 20, &a, &n_a));
    const char *again = save(test_tmp_dir(), 7);
    OK(io_read_file(again, 1 << 20, &b, &n_b));
    ck_assert_uint_eq(n_a, n_b);
    ck_assert_mem_eq(a, b, n_a);
    mem_free(a);
    mem_free(b);
    store_free(&want);
    store_free(&have);
}
END_TEST

/* ---- damage ---- */

static unsigned warnings;

static void count_warnings(log_level level, const char *line, void *ctx)
{
    (void)line;
    (void)ctx;
    warnings += level == LOG_WARN;
}

/* With these bytes as step 2, step 1 must be what is found, and a warning must say so. */
static void expect_previous(const char *dir, const char *path, const unsigned char *bytes, size_t n, const char *what, size_t at)
{
    limits lim = limits_default();
    checkpoint c;
    uint64_t step = 0;
    bool found = false;
    FILE *f = fopen(path, "wb");
    ck_assert(f != NULL && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
    unsigned before = warnings;
    OK(checkpoint_find_newest(dir, &lim, &c, &step, &found));
    ck_assert_msg(found && step == 1, "%s %zu: step %llu was taken", what, at, (unsigned long long)step);
    ck_assert_msg(warnings == before + 1, "%s %zu: no warning", what, at);
    checkpoint_free(&c);
}

START_TEST(every_truncation_is_seen)
{
    const char *dir = test_tmp_dir(), *path;
    unsigned char *bytes;
    size_t n;
    save(dir, 1);
    path = save(dir, 2);
    OK(io_read_file(path, 1 << 20, &bytes, &n));
    log_set_sink(count_warnings, NULL);
    for (size_t k = 0; k < n; k++)
        expect_previous(dir, path, bytes, k, "cut to", k);
    OK(mem_grow(&bytes, n + 1, 1));
    bytes[n] = 0;
    expect_previous(dir, path, bytes, n + 1, "longer by", 1);
    log_set_sink(NULL, NULL);
    mem_free(bytes);
}
END_TEST

/* Every single bit of the file, one at a time. */
START_TEST(every_flipped_bit_is_seen)
{
    const char *dir = test_tmp_dir(), *path;
    unsigned char *bytes;
    size_t n;
    save(dir, 1);
    path = save(dir, 2);
    OK(io_read_file(path, 1 << 20, &bytes, &n));
    log_set_sink(count_warnings, NULL);
    for (size_t k = 0; k < n * 8; k++) {
        bytes[k / 8] ^= (unsigned char)(1u << k % 8);
        expect_previous(dir, path, bytes, n, "bit", k);
        bytes[k / 8] ^= (unsigned char)(1u << k % 8);
    }
    log_set_sink(NULL, NULL);
    mem_free(bytes);
}
END_TEST

START_TEST(damage_names_the_tensor)
{
    const char *dir = test_tmp_dir(), *path = save(dir, 2);
    unsigned char *bytes;
    size_t n;
    checkpoint c;
    limits lim = limits_default();
    OK(io_read_file(path, 1 << 20, &bytes, &n));
    bytes[n - 1] ^= 1; /* the last tensor with bytes */
    OK(io_write_file(path, bytes, n));
    FAILS(ST_BAD_DATA, "'steps' is damaged", checkpoint_read(path, &lim, &c));
    ck_assert(strstr(status_message(), path) != NULL);
    mem_free(bytes);
}
END_TEST

/* ---- files made to deceive ---- */

/* A file with this header, whose own hash is put in place, and n data bytes of zeros. */
static void craft(const char *path, const char *header, size_t data)
{
    char *h;
    text t = {0};
    size_t n = strlen(header);
    OK(mem_strdup(&h, header));
    char *mark = strstr(h, "\"header\":\"");
    if (mark) {
        char hex[17];
        snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash_xxh3(h, n));
        memcpy(mark + 10, hex, 16);
    }
    for (int i = 0; i < 8; i++)
        text_add_n(&t, (unsigned char[]){(unsigned char)(n >> (8 * i))}, 1);
    text_add(&t, h);
    for (size_t i = 0; i < data; i++)
        text_add_n(&t, "", 1);
    OK(t.st);
    OK(io_write_file(path, t.s, t.n));
    text_free(&t);
    mem_free(h);
}

#define META   "\"__metadata__\":{\"header\":\"0000000000000000\",\"format\":\"distill 1\""

START_TEST(crafted_files_are_refused)
{
    static const struct {
        const char *header, *says;
        size_t data;
    } rows[] = {
        {"", "said to be", 0},
        {"{", "said to be", 0},
        {"[]", "no hash", 0},
        {"{}", "no hash", 0},
        {"[\"header\":\"0000000000000000\"]", "no JSON object", 0},
        {"{" META "},", "no JSON object", 0},
        {"{\"x\":{\"header\":\"0000000000000000\"}}", "__metadata__", 0},
        {"{\"__metadata__\":{\"header\":\"0000000000000000\"}}", "format", 0},
        {"{\"__metadata__\":{\"header\":\"0000000000000000\",\"format\":\"distill 2\"}}", "distill 2", 0},
        {"{" META "}}", "follow", 4},
        {"{" META "},\"a\":3}", "dtype", 4},
        {"{" META "},\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", "unknown dtype 'F31'", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", "shape", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", "dimension", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", "dimension", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", "at most 8", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", "'a'", 0},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1073741824,1073741824],\"data_offsets\":[0,0]}}", "'a'", 0},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", "data_offsets", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,\"4\"]}}", "data_offsets", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", "data_offsets", 8},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", "data_offsets", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "data_offsets", 8},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "data_offsets", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", "data_offsets", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[9223372036854775804,9223372036854775807]}}",
         "data_offsets", 4},
        {"{" META "},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "damaged", 4},
        {"{" META ",\"xxh3.a\":7},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "damaged", 4},
        {"{" META ",\"xxh3.a\":\"%HASH4%\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "duplicate", 8},
        {"{" META ",\"xxh3.a\":\"%HASH4%\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "follow", 8},
        {"{" META ",\"xxh3.a\":\"%HASH4%\",\"xxh3.b\":\"%HASH4%\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":"
         "[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "data_offsets", 4}, /* overlap */
        {"{" META ",\"xxh3.a\":\"%HASH4%\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", NULL, 4},
    };
    const char *path = test_path(test_tmp_dir(), "c.safetensors");
    limits lim = limits_default();
    unsigned char zeros[4] = {0};
    char hash[17];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash_xxh3(zeros, 4));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char header[1024], *spot;
        checkpoint c;
        snprintf(header, sizeof header, "%s", rows[i].header);
        while ((spot = strstr(header, "%HASH4%")) != NULL) {
            memmove(spot + 16, spot + 7, strlen(spot + 7) + 1);
            memcpy(spot, hash, 16);
        }
        craft(path, header, rows[i].data);
        status st = checkpoint_read(path, &lim, &c);
        if (!rows[i].says) { /* the last row: what is asked of the others can be had */
            ck_assert_msg(st == ST_OK, "row %zu: %s", i, status_message());
            checkpoint_free(&c);
            continue;
        }
        ck_assert_msg(st == ST_BAD_DATA, "row %zu: status %d", i, (int)st);
        ck_assert_msg(strstr(status_message(), rows[i].says) != NULL, "row %zu: '%s' lacks '%s'", i, status_message(),
                      rows[i].says);
        ck_assert_msg(strstr(status_message(), path) == status_message(), "row %zu: %s", i, status_message());
    }
}
END_TEST

START_TEST(header_lengths_are_bounded)
{
    static const uint64_t lengths[] = {0, 1, 17, 1000, (uint64_t)1 << 32, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7};
    const char *path = test_path(test_tmp_dir(), "c.safetensors");
    limits lim = limits_default();
    checkpoint c;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        unsigned char bytes[24] = {0};
        memcpy(bytes, &lengths[i], 8);
        OK(io_write_file(path, bytes, sizeof bytes));
        FAILS(ST_BAD_DATA, path, checkpoint_read(path, &lim, &c));
    }
    save(test_tmp_dir(), 1);
    const char *good = save(test_tmp_dir(), 1);
    lim.checkpoint_header = 100;
    FAILS(ST_BAD_DATA, "header", checkpoint_read(good, &lim, &c));
    FAILS(ST_NO_INPUT, "cannot be opened", checkpoint_read(test_path(test_tmp_dir(), "none"), &lim, &c));
    FAILS(ST_BAD_DATA, "folder", checkpoint_read(test_tmp_dir(), &lim, &c));
}
END_TEST

/* ---- another model's file ---- */

START_TEST(a_file_of_another_model_changes_nothing)
{
    const char *dir = test_tmp_dir(), *path = save(dir, 1);
    limits lim = limits_default();
    store mine, before;
    checkpoint c;
    OK(checkpoint_read(path, &lim, &c));
    for (int kind = 0; kind < 4; kind++) {
        fill(&mine, 50);
        fill(&before, 50);
        if (kind == 0) { /* another name */
            mine.at[1].t.name[0] = before.at[1].t.name[0] = 'X';
        } else if (kind == 1) { /* another shape of as many elements */
            mine.at[0].t.sh = before.at[0].t.sh = SHAPE(1, 2, 3, 3);
        } else if (kind == 2) { /* another type */
            mine.at[2].t.type = before.at[2].t.type = DTYPE_I32;
        } else { /* the run has fewer */
            tensor_free(&mine.at[3].t);
            tensor_free(&before.at[3].t);
            mine.n = before.n = 3;
        }
        FAILS(ST_BAD_DATA, "of another student", checkpoint_restore(&c, &mine));
        ck_assert(store_equal(&mine, &before));
        store_free(&mine);
        store_free(&before);
    }
    checkpoint_free(&c);
}
END_TEST

/* ---- loss scaling on one side only ---- */

static void add_scale(store *s, float scale, float skipped)
{
    static const char *const names[] = {"loss_scale", "loss_scale.good_steps", "loss_scale.skipped_steps"};
    const float now[] = {scale, 5, skipped};
    store_entry *at;
    OK(mem_alloc(&at, s->n + 3, sizeof *at));
    memcpy(at, s->at, s->n * sizeof *at);
    mem_free(s->at);
    s->at = at;
    s->cap = s->n + 3;
    for (int i = 0; i < 3; i++, s->n++) {
        s->at[s->n].kind = VALUE_STATE;
        OK(tensor_new(&s->at[s->n].t, names[i], DTYPE_F32, (shape){0}));
        tensor_put(&s->at[s->n].t, 0, (double)now[i]);
    }
}

/* Float32's checkpoint in a run that scales its loss: the scale begins anew. The other way: it is dropped. Both: it goes on. */
START_TEST(loss_scale_may_be_on_one_side)
{
    const char *dir = test_tmp_dir();
    limits lim = limits_default();
    for (int sides = 0; sides < 4; sides++) {
        const bool written = sides & 1, wanted = sides & 2;
        const char *path = test_path(dir, "one.safetensors");
        store was, now;
        checkpoint c;
        fill(&was, 3);
        fill(&now, 4);
        if (written)
            add_scale(&was, 512, 7);
        if (wanted)
            add_scale(&now, 65536, 0);
        OK(checkpoint_write(path, &was, NULL, 0));
        OK(checkpoint_read(path, &lim, &c));
        OK(checkpoint_restore(&c, &now));
        for (int i = 0; i < 4; i++)
            ck_assert(memcmp(was.at[i].t.data, now.at[i].t.data, tensor_bytes(&was.at[i].t)) == 0);
        if (wanted) {
            ck_assert(tensor_at(&now.at[4].t, 0) == (written ? 512 : 65536));
            ck_assert(tensor_at(&now.at[6].t, 0) == (written ? 7 : 0));
        }
        checkpoint_free(&c);
        store_free(&was);
        store_free(&now);
    }
}
END_TEST

/* ---- the folder ---- */

static size_t count_files(const char *dir, const char *begins)
{
    char **names;
    size_t n, count = 0;
    OK(io_list(dir, 1000, &names, &n));
    for (size_t i = 0; i < n; i++)
        count += strncmp(names[i], begins, strlen(begins)) == 0;
    io_list_free(names, n);
    return count;
}

static bool holds(const char *dir, unsigned step)
{
    char name[64];
    snprintf(name, sizeof name, "step_%08u.safetensors", step);
    return io_exists(test_path(dir, name));
}

START_TEST(the_newest_and_the_best_are_kept)
{
    const char *dir = test_tmp_dir();
    uint64_t step = 0;
    for (unsigned k = 1; k <= 9; k++)
        save(dir, k * 10);
    ck_assert(!checkpoint_pointed(dir, "best", &step));
    OK(checkpoint_point(dir, "best", 20));
    ck_assert(checkpoint_pointed(dir, "best", &step) && step == 20);
    OK(io_write_file(test_path(dir, "notes.txt"), "mine", 4)); /* what is not ours stays */
    OK(io_write_file(test_path(dir, "step_7.safetensors"), "mine", 4));
    OK(checkpoint_retain(dir, 3, 90));
    for (unsigned k = 1; k <= 9; k++)
        ck_assert_msg(holds(dir, k * 10) == (k >= 7 || k == 2), "step %u", k * 10);
    ck_assert(io_exists(test_path(dir, "notes.txt")) && io_exists(test_path(dir, "step_7.safetensors")));
    OK(checkpoint_retain(dir, 1, 90));
    ck_assert(holds(dir, 90) && holds(dir, 20) && !holds(dir, 80) && !holds(dir, 70));
    save(dir, 95); /* a run that passed over damaged files goes on below their steps: what it saves must stay */
    OK(checkpoint_retain(dir, 1, 90));
    ck_assert(holds(dir, 90) && holds(dir, 95));
    OK(checkpoint_retain(dir, 1, 95));
    ck_assert(!holds(dir, 90) && holds(dir, 95));
    ck_assert_uint_eq(count_files(dir, "step_000"), 2);
}
END_TEST

START_TEST(steps_are_ordered_by_number)
{
    const char *dir = test_tmp_dir();
    limits lim = limits_default();
    checkpoint c;
    uint64_t step = 0;
    bool found = true;
    OK(checkpoint_find_newest(dir, &lim, &c, &step, &found));
    ck_assert(!found);
    OK(checkpoint_find_newest(test_path(dir, "none"), &lim, &c, &step, &found));
    ck_assert(!found);
    arena mem = {0};
    static const uint64_t steps[] = {99999999, 100000000, 9, 10};
    for (size_t i = 0; i < 4; i++) {
        store s;
        const char *path;
        fill(&s, 1);
        OK(checkpoint_path(&mem, dir, steps[i], &path));
        OK(checkpoint_write(path, &s, NULL, 0));
        store_free(&s);
    }
    arena_free(&mem);
    OK(checkpoint_find_newest(dir, &lim, &c, &step, &found)); /* nine digits sort before eight as text */
    ck_assert(found);
    ck_assert_uint_eq(step, 100000000);
    checkpoint_free(&c);
    OK(checkpoint_retain(dir, 1, 100000000));
    OK(checkpoint_find_newest(dir, &lim, &c, &step, &found));
    ck_assert_uint_eq(step, 100000000);
    checkpoint_free(&c);
}
END_TEST

START_TEST(pointers_that_are_damaged_name_nothing)
{
    static const char *const bad[] = {"", "\n", "step_1.safetensors\n", "../../etc/passwd\n", "step_00000001.safetensors.x\n",
                                      "step_99999999999999999999.safetensors\n", "step_-0000001.safetensors\n"};
    const char *dir = test_tmp_dir();
    uint64_t step = 5;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        OK(io_write_file(test_path(dir, "best"), bad[i], strlen(bad[i])));
        ck_assert_msg(!checkpoint_pointed(dir, "best", &step), "'%s' was taken", bad[i]);
    }
}
END_TEST

/* ---- the run's folder ---- */

START_TEST(a_folder_with_a_run_is_not_touched)
{
    const char *dir = test_tmp_dir(), *in = test_path(dir, "a/b/c");
    int lock = -1;
    loop_options o = {.dir = in};
    OK(loop_prepare(&o, &lock));
    ck_assert(lock >= 0 && io_is_dir(test_path(in, "ckpt")));
    io_close(lock);
    FAILS(ST_CANNOT_CREATE, "holds a run already", loop_prepare(&o, &lock));
    ck_assert_int_eq(lock, -1);
    save(test_path(in, "ckpt"), 3);
    OK(io_write_file(test_path(in, "metrics.jsonl"), "{}\n", 3));
    OK(io_write_file(test_path(in, "events.out.tfevents.1.h.2"), "x", 1));
    OK(io_write_file(test_path(in, "notes.txt"), "mine", 4));
    o.resume = true;
    OK(loop_prepare(&o, &lock));
    io_close(lock);
    ck_assert(holds(test_path(in, "ckpt"), 3));
    o = (loop_options){.dir = in, .force = true};
    OK(loop_prepare(&o, &lock));
    io_close(lock);
    ck_assert(!holds(test_path(in, "ckpt"), 3) && !io_exists(test_path(in, "metrics.jsonl")));
    ck_assert(!io_exists(test_path(in, "events.out.tfevents.1.h.2")) && io_exists(test_path(in, "notes.txt")));
    OK(io_write_file(test_path(dir, "file"), "x", 1));
    o.dir = test_path(dir, "file");
    FAILS(ST_CANNOT_CREATE, "file", loop_prepare(&o, &lock));
    o.dir = "";
    FAILS(ST_CANNOT_CREATE, "empty", loop_prepare(&o, &lock));
}
END_TEST

START_TEST(one_process_at_a_time)
{
    const char *dir = test_tmp_dir();
    int lock = -1, other = -1, to_child[2], from_child[2];
    char byte = 0, holder[64];
    loop_options o = {.dir = dir, .resume = true};
    ck_assert_int_eq(pipe(to_child), 0);
    ck_assert_int_eq(pipe(from_child), 0);
    pid_t child = fork();
    if (child == 0) {
        status st = loop_prepare(&o, &lock);
        byte = (char)st;
        if (write(from_child[1], &byte, 1) != 1 || read(to_child[0], &byte, 1) != 1)
            _exit(9);
        _exit(0); /* the lock dies with the process, without any clean-up */
    }
    ck_assert_int_eq(read(from_child[0], &byte, 1), 1);
    ck_assert_int_eq(byte, ST_OK);
    snprintf(holder, sizeof holder, "locked by process %ld on ", (long)child);
    FAILS(ST_STOPPED, holder, loop_prepare(&o, &other));
    o.force = true; /* no force takes a folder away from a process that works there */
    o.resume = false;
    FAILS(ST_STOPPED, holder, loop_prepare(&o, &other));
    ck_assert_int_eq(other, -1);
    ck_assert_int_eq(write(to_child[1], &byte, 1), 1);
    int how;
    ck_assert_int_eq(waitpid(child, &how, 0), child);
    OK(loop_prepare(&o, &lock));
    FAILS(ST_STOPPED, "locked by process", loop_prepare(&o, &other)); /* nor twice within one process */
    io_close(lock);
}
END_TEST

/* Files that a process left half-written when it was killed do not stay for ever. */
START_TEST(leftovers_of_killed_processes_go)
{
    const char *dir = test_tmp_dir();
    int lock = -1;
    loop_options o = {.dir = dir, .resume = true};
    OK(io_make_dirs(test_path(dir, "ckpt")));
    OK(io_write_file(test_path(dir, "ckpt/.step_00000009.safetensors.tmp.4711.3"), "torn", 4));
    OK(io_write_file(test_path(dir, ".config.ini.tmp.4711.0"), "torn", 4));
    OK(io_make_dirs(test_path(dir, ".sanity")));
    OK(io_write_file(test_path(dir, ".sanity/student.onnx"), "x", 1));
    OK(io_write_file(test_path(dir, ".hidden"), "mine", 4));
    OK(loop_prepare(&o, &lock));
    io_close(lock);
    ck_assert(!io_exists(test_path(dir, "ckpt/.step_00000009.safetensors.tmp.4711.3")));
    ck_assert(!io_exists(test_path(dir, ".config.ini.tmp.4711.0")) && !io_exists(test_path(dir, ".sanity")));
    ck_assert(io_exists(test_path(dir, ".hidden")));
}
END_TEST

const test_entry test_table[] = {TEST(what_is_written_is_read),
                                 TEST(every_truncation_is_seen),
                                 TEST(every_flipped_bit_is_seen),
                                 TEST(damage_names_the_tensor),
                                 TEST(crafted_files_are_refused),
                                 TEST(header_lengths_are_bounded),
                                 TEST(a_file_of_another_model_changes_nothing), TEST(loss_scale_may_be_on_one_side),
                                 TEST(the_newest_and_the_best_are_kept),
                                 TEST(steps_are_ordered_by_number),
                                 TEST(pointers_that_are_damaged_name_nothing),
                                 TEST(a_folder_with_a_run_is_not_touched),
                                 TEST(one_process_at_a_time),
                                 TEST(leftovers_of_killed_processes_go),
                                 {0}};
