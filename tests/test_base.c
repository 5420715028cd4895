/* test_base.c - memory, random numbers, files, text: what everything else stands on. */
#include "harness.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- status and memory --------------------------------------------------------------------------------------- */

START_TEST(status_messages)
{
    FAILS(ST_BAD_DATA, "outer 7: inner",
          fail(ST_BAD_DATA, "inner") == ST_BAD_DATA ? fail_within(ST_BAD_DATA, "outer %d", 7) : ST_OK);
    char big[20000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = 0;
    FAILS(ST_IO, "xxx", fail(ST_IO, "%s", big));
    ck_assert_uint_lt(strlen(status_message()), 8192);
    FAILS(ST_IO, "y: xxx", fail_within(ST_IO, "y"));
    ck_assert_uint_lt(strlen(status_message()), 8192);
    /* the message may be an argument of the next one */
    FAILS(ST_IO, "again: y: xxx", fail(ST_IO, "again: %s", status_message()));
    status_clear();
    ck_assert_str_eq(status_message(), "");
}
END_TEST

START_TEST(mem_failures_are_reported)
{
    void *p = NULL;
    mem_fail_at(2, true);
    OK(mem_alloc(&p, 10, 4));
    mem_free(p);
    FAILS(ST_OOM, "40 bytes", mem_alloc(&p, 10, 4));
    ck_assert_ptr_null(p);
    OK(mem_alloc(&p, 10, 4));
    mem_fail_at(1, false);
    void *same = p;
    for (int i = 0; i < 3; i++)
        FAILS(ST_OOM, "out of memory", mem_grow(&p, 1000, 4));
    ck_assert_ptr_eq(p, same); /* the old block stays the caller's */
    mem_fail_at(0, false);
    OK(mem_grow(&p, 1000, 4));
    mem_free(p);
    FAILS(ST_OOM, "more than any machine has", mem_alloc(&p, SIZE_MAX / 2, 3));
    mem_fail_at(1, true);
    FAILS(ST_OOM, "out of memory", mem_map(&p, 1 << 20));
    ck_assert_ptr_null(p);
    uint64_t before = mem_count();
    OK(mem_map(&p, (size_t)5 << 20));
    ck_assert_uint_eq(mem_count(), before + 1);
    ck_assert_uint_eq((uintptr_t)p % 64, 0);
    for (size_t i = 0; i < (size_t)5 << 20; i += 4096)
        ck_assert_int_eq(((char *)p)[i], 0);
    mem_unmap(p, (size_t)5 << 20);
    mem_unmap(NULL, 3);
}
END_TEST

START_TEST(arena_pieces_do_not_overlap)
{
    arena a = {0};
    rng r = rng_make(1, RNG_TEST, 0, 0);
    enum { N = 2000 };
    int wrong = 0;
    static struct {
        unsigned char *p;
        size_t n;
    } piece[N];
    for (int i = 0; i < N; i++) {
        piece[i].n = i % 50 == 7 ? 20000 + rng_below(&r, 200000) : rng_below(&r, 300);
        OK(arena_alloc(&a, &piece[i].p, piece[i].n, 1));
        ck_assert_uint_eq((uintptr_t)piece[i].p % 16, 0);
        for (size_t k = 0; k < piece[i].n; k++)
            wrong += piece[i].p[k] != 0;
        memset(piece[i].p, i % 251 + 1, piece[i].n);
    }
    for (int i = 0; i < N; i++)
        for (size_t k = 0; k < piece[i].n; k++)
            wrong += piece[i].p[k] != i % 251 + 1;
    ck_assert_int_eq(wrong, 0);
    const char *s = NULL;
    OK(arena_printf(&a, &s, "%d-%s", 12, "ab"));
    ck_assert_str_eq(s, "12-ab");
    OK(arena_strdup(&a, &s, "copy"));
    ck_assert_str_eq(s, "copy");
    void *p = &a;
    FAILS(ST_OOM, "more than any machine has", arena_alloc(&a, &p, SIZE_MAX, SIZE_MAX));
    ck_assert_ptr_null(p);
    FAILS(ST_OOM, "more than any machine has", arena_alloc(&a, &p, SIZE_MAX - 3, 1));
    mem_fail_at(1, true);
    FAILS(ST_OOM, "out of memory", arena_alloc(&a, &p, 1 << 20, 1));
    arena_free(&a);
    arena_free(&a);
}
END_TEST

START_TEST(sizes_are_checked)
{
    size_t out = 7;
    ck_assert(size_mul(3, 5, &out) && out == 15);
    ck_assert(!size_mul(SIZE_MAX / 2, 3, &out));
    ck_assert(size_mul(SIZE_MAX, 1, &out) && out == SIZE_MAX);
    ck_assert(!size_add(SIZE_MAX, 1, &out));
    ck_assert(size_add(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    limits l = limits_default();
    ck_assert_uint_eq(l.ini_line, 65536);
    ck_assert_uint_eq(l.json_depth, 64);
}
END_TEST

/* ---- random numbers ------------------------------------------------------------------------------------------ */

/* Known answers of the Random123 distribution (tests/kat_vectors, philox4x32 10). */
START_TEST(philox_known_answers)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } rows[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rng r = {.key = {rows[i].key[0], rows[i].key[1]}};
        memcpy(r.counter, rows[i].counter, sizeof r.counter);
        for (int k = 0; k < 4; k++)
            ck_assert_uint_eq(rng_u32(&r), rows[i].want[k]);
    }
}
END_TEST

START_TEST(random_streams)
{
    rng a = rng_make(7, RNG_SHUFFLE, 3, 9), same = a, other = rng_make(7, RNG_SHUFFLE, 3, 10);
    int equal = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t x = rng_u32(&a);
        ck_assert_uint_eq(x, rng_u32(&same));
        equal += x == rng_u32(&other);
    }
    ck_assert_int_lt(equal, 2);
    /* [0, n) evenly: chi-square with 9 degrees of freedom, 99.99 % point 33.7 */
    rng r = rng_make(1, RNG_TEST, 0, 0);
    enum { N = 200000 };
    int bin[10] = {0};
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        bin[rng_below(&r, 10)]++;
        double u = rng_uniform(&r), z = rng_normal(&r);
        ck_assert(u >= 0 && u < 1);
        sum += z;
        squares += z * z;
    }
    double chi = 0;
    for (int i = 0; i < 10; i++)
        chi += (bin[i] - N / 10.0) * (bin[i] - N / 10.0) / (N / 10.0);
    ck_assert_double_lt(chi, 33.7);
    ck_assert_double_lt(fabs(sum / N), 0.01);
    ck_assert_double_lt(fabs(squares / N - 1), 0.02);
    uint32_t index[1000];
    bool seen[1000] = {false};
    int fixed = 0;
    for (uint32_t i = 0; i < 1000; i++)
        index[i] = i;
    rng_shuffle(&r, index, 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        ck_assert(index[i] < 1000 && !seen[index[i]]);
        seen[index[i]] = true;
        fixed += index[i] == i;
    }
    ck_assert_int_lt(fixed, 10);
    ck_assert_uint_eq(rng_below(&r, 1), 0);
}
END_TEST

/* ---- reading files ------------------------------------------------------------------------------------------- */

START_TEST(read_refuses_what_is_no_file)
{
    const char *dir = test_tmp_dir();
    unsigned char *data = NULL;
    size_t n = 0;
    FAILS(ST_BAD_DATA, "is a folder", io_read_file(dir, 100, &data, &n));
    FAILS(ST_NO_INPUT, "No such file", io_read_file(test_path(dir, "missing"), 100, &data, &n));
    FAILS(ST_BAD_DATA, "device", io_read_file("/dev/zero", 100, &data, &n));
    const char *fifo = test_path(dir, "fifo");
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    FAILS(ST_BAD_DATA, "is a pipe", io_read_file(fifo, 100, &data, &n));
    const char *file = test_path(dir, "file");
    OK(io_write_file(file, "hello", 5));
    FAILS(ST_BAD_DATA, "5 bytes are more than the limit of 4", io_read_file(file, 4, &data, &n));
    ck_assert_ptr_null(data);
    OK(io_read_file(file, 5, &data, &n));
    ck_assert_uint_eq(n, 5);
    ck_assert_str_eq((char *)data, "hello");
    mem_free(data);
    OK(io_write_file(file, "", 0));
    OK(io_read_file(file, 0, &data, &n));
    ck_assert_uint_eq(n, 0);
    mem_free(data);
    mem_fail_at(1, true);
    FAILS(ST_OOM, "out of memory", io_read_file(file, 10, &data, &n));
}
END_TEST

START_TEST(read_survives_every_failing_call)
{
    const char *file = test_path(test_tmp_dir(), "file");
    unsigned char block[1000], *data;
    size_t n;
    memset(block, 'a', sizeof block);
    OK(io_write_file(file, block, sizeof block));
    uint64_t from = io_count();
    OK(io_read_file(file, 1000, &data, &n));
    mem_free(data);
    uint64_t calls = io_count() - from;
    ck_assert_uint_ge(calls, 4);
    for (uint64_t k = 1; k <= calls; k++) {
        static const int errors[] = {EIO, EINTR, IO_SHORT};
        for (int e = 0; e < 3; e++) {
            io_fail_at(k, errors[e]);
            status st = io_read_file(file, 1000, &data, &n);
            io_fail_at(0, 0);
            if (st == ST_OK) {
                ck_assert_uint_eq(n, 1000);
                ck_assert_int_eq(memcmp(data, block, 1000), 0);
                mem_free(data);
            } else {
                ck_assert_int_eq(errors[e], EIO);
                ck_assert_ptr_null(data);
            }
            ck_assert(errors[e] != EIO || k == calls || st != ST_OK); /* the last call is close */
        }
    }
}
END_TEST

START_TEST(beneath_stays_beneath)
{
    const char *dir = test_tmp_dir();
    char in[512], buf[8] = "", out[512];
    uint64_t size = 0;
    snprintf(in, sizeof in, "%s/in", dir);
    snprintf(out, sizeof out, "%s/secret", dir);
    OK(io_make_dirs(test_path(in, "sub")));
    OK(io_write_file(out, "secret", 6));
    OK(io_write_file(test_path(in, "sub/data"), "0123456789", 10));
    ck_assert_int_eq(symlink("../secret", test_path(in, "link")), 0);
    ck_assert_int_eq(symlink("sub", test_path(in, "dirlink")), 0);
    ck_assert_int_eq(symlink("sub/data", test_path(in, "inner")), 0);
    ck_assert_int_eq(link(out, test_path(in, "hard")), 0);
    ck_assert_int_eq(mkfifo(test_path(in, "fifo"), 0600), 0);
    for (int old = 0; old < 2; old++) { /* old: as on a kernel without openat2 */
#define HERE(call) (io_fail_at(old ? 2 : 0, ENOSYS), call)
        OK(HERE(io_read_beneath(in, "sub/data", 3, 4, buf)));
        ck_assert_str_eq(buf, "3456");
        OK(HERE(io_read_beneath(in, "./sub//data", 10, 0, buf)));
        OK(HERE(io_size_beneath(in, "sub/data", &size)));
        ck_assert_uint_eq(size, 10);
        FAILS(ST_BAD_DATA, "the file has 10", HERE(io_read_beneath(in, "sub/data", 7, 4, buf)));
        FAILS(ST_BAD_DATA, "the file has 10", HERE(io_read_beneath(in, "sub/data", UINT64_MAX, 4, buf)));
        FAILS(ST_BAD_DATA, "the file has 10", HERE(io_read_beneath(in, "sub/data", 0, SIZE_MAX, buf)));
        FAILS(ST_BAD_DATA, "symbolic link", HERE(io_read_beneath(in, "link", 0, 4, buf)));
        FAILS(ST_BAD_DATA, "symbolic link", HERE(io_read_beneath(in, "inner", 0, 4, buf)));
        ck_assert_int_ne(HERE(io_read_beneath(in, "dirlink/data", 0, 4, buf)), ST_OK);
        FAILS(ST_BAD_DATA, "hard link", HERE(io_read_beneath(in, "hard", 0, 4, buf)));
        FAILS(ST_BAD_DATA, "not a regular file", HERE(io_read_beneath(in, "fifo", 0, 0, buf)));
        FAILS(ST_BAD_DATA, "not a regular file", HERE(io_read_beneath(in, "sub", 0, 0, buf)));
        FAILS(ST_NO_INPUT, "cannot be opened", HERE(io_read_beneath(in, "gone", 0, 0, buf)));
        io_fail_at(0, 0);
    }
    FAILS(ST_BAD_DATA, "'..'", io_read_beneath(in, "../secret", 0, 4, buf));
    FAILS(ST_BAD_DATA, "'..'", io_read_beneath(in, "sub/..", 0, 4, buf));
    FAILS(ST_BAD_DATA, "'..'", io_read_beneath(in, "sub/../../secret", 0, 4, buf));
    FAILS(ST_BAD_DATA, "absolute", io_read_beneath(in, out, 0, 4, buf));
    FAILS(ST_BAD_DATA, "empty", io_read_beneath(in, "", 0, 4, buf));
    FAILS(ST_NO_INPUT, "folder", io_read_beneath(test_path(dir, "no"), "a", 0, 4, buf));
}
END_TEST

/* ---- writing files ------------------------------------------------------------------------------------------- */

#define OLD   "the old contents"
#define LARGE 700000

static status write_large(const char *path)
{
    file_writer w;
    TRY(file_begin(&w, path));
    for (int i = 0; i < LARGE / 7; i++)
        file_printf(&w, "%06d\n", i);
    return file_commit(&w);
}

static void check_large(const char *path)
{
    unsigned char *data = NULL;
    size_t n = 0;
    OK(io_read_file(path, LARGE, &data, &n));
    ck_assert_uint_eq(n, LARGE);
    for (int i = 0; i < LARGE / 7; i++)
        ck_assert_int_eq(atoi((char *)data + (size_t)i * 7), i);
    mem_free(data);
}

/* Every system call of a durable write fails once with each error: the old file stands or the whole new one does, it
 * is the new one if the call says so, and the folder holds nothing else. */
START_TEST(durable_write_survives_every_failing_call)
{
    const char *dir = test_tmp_dir();
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, "checkpoint");
    uint64_t from = io_count();
    OK(write_large(path));
    uint64_t calls = io_count() - from;
    ck_assert_uint_ge(calls, 9);
    int failures = 0, after_rename = 0;
    for (uint64_t k = 1; k <= calls; k++) {
        static const int errors[] = {EIO, ENOSPC, EINTR, IO_SHORT};
        for (int e = 0; e < 4; e++) {
            OK(io_write_file(path, OLD, strlen(OLD)));
            io_fail_at(k, errors[e]);
            status st = write_large(path);
            io_fail_at(0, 0);
            if (st == ST_OK) {
                check_large(path);
            } else if (strstr(status_message(), "written, but")) {
                check_large(path);
                after_rename++;
            } else {
                unsigned char *data = NULL;
                size_t n = 0;
                OK(io_read_file(path, LARGE, &data, &n));
                ck_assert_str_eq((char *)data, OLD);
                mem_free(data);
            }
            ck_assert(st == ST_OK || errors[e] == EIO || errors[e] == ENOSPC);
            failures += st != ST_OK;
            char **names = NULL;
            size_t n = 0;
            OK(io_list(dir, 10, &names, &n));
            ck_assert_msg(n == 1, "call %d, error %d: %d files, one is %s", (int)k, errors[e], (int)n,
                          names[0]);
            io_list_free(names, n);
        }
    }
    ck_assert_int_eq(after_rename, 2);                /* EIO and ENOSPC at the fsync of the folder */
    ck_assert_int_ge(failures, 2 * ((int)calls - 2)); /* all but the first stat and the last close */
}
END_TEST

START_TEST(durable_write_survives_failing_memory)
{
    const char *path = test_path(test_tmp_dir(), "file");
    for (uint64_t k = 1; k <= 3; k++) {
        mem_fail_at(k, true);
        FAILS(ST_OOM, "out of memory", write_large(path));
        ck_assert(!io_exists(path));
    }
    mem_fail_at(0, true);
    OK(write_large(path));
}
END_TEST

/* Killed at any moment, the file is the old one or the new one. */
START_TEST(durable_write_survives_kill)
{
    const char *dir = test_tmp_dir();
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, "file");
    OK(io_write_file(path, OLD, strlen(OLD)));
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0)
            for (;;)
                if (write_large(path) != ST_OK)
                    _exit(1);
        usleep((useconds_t)(1000 + 700 * i));
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        int how = 0;
        ck_assert_int_eq(waitpid(pid, &how, 0), pid);
        ck_assert(WIFSIGNALED(how));
        unsigned char *data = NULL;
        size_t n = 0;
        OK(io_read_file(path, LARGE, &data, &n));
        ck_assert(n == LARGE || (n == strlen(OLD) && strcmp((char *)data, OLD) == 0));
        mem_free(data);
        if (n == LARGE)
            check_large(path);
    }
}
END_TEST

START_TEST(writes_that_cannot_be)
{
    const char *dir = test_tmp_dir();
    file_writer w = {0};
    file_abandon(&w);
    FAILS(ST_CANNOT_CREATE, "not a regular file", io_write_file("/dev/null", "a", 1));
    FAILS(ST_CANNOT_CREATE, "not a regular file", io_write_file(dir, "a", 1));
    FAILS(ST_CANNOT_CREATE, "folder cannot be opened", io_write_file(test_path(dir, "no/such"), "a", 1));
    /* begun and abandoned: nothing remains */
    OK(file_begin(&w, test_path(dir, "x")));
    file_write(&w, "abc", 3);
    ck_assert_uint_eq(w.written, 3);
    file_abandon(&w);
    file_abandon(&w);
    char **names = NULL;
    size_t n = 1;
    OK(io_list(dir, 10, &names, &n));
    ck_assert_uint_eq(n, 0);
    io_list_free(names, n);
    /* a name of 255 bytes has a temporary too; one of 256 is refused */
    char path[600];
    snprintf(path, sizeof path, "%s/%0255d", dir, 1);
    OK(io_write_file(path, "a", 1));
    snprintf(path, sizeof path, "%s/%0256d", dir, 1);
    ck_assert_int_eq(io_write_file(path, "a", 1), ST_CANNOT_CREATE);
    FAILS(ST_BAD_DATA, "more than 0 names", io_list(dir, 0, &names, &n));
    FAILS(ST_NO_INPUT, "folder cannot be opened", io_list(test_path(dir, "none"), 5, &names, &n));
}
END_TEST

START_TEST(full_disk_is_reported)
{
    int fd = -1;
    if (access("/dev/full", W_OK) != 0) {
        test_skip("full_disk_is_reported", "no /dev/full");
        return;
    }
    OK(io_open_append("/dev/full", &fd));
    FAILS(ST_IO, "No space left", io_append(fd, "a", 1));
    io_close(fd);
    io_close(-1);
}
END_TEST

START_TEST(logs_append)
{
    const char *dir = test_tmp_dir(), *path = test_path(dir, "log");
    int fd = -1;
    for (int i = 0; i < 3; i++) {
        OK(io_open_append(path, &fd));
        io_fail_at(1, i == 1 ? IO_SHORT : EINTR);
        OK(io_append(fd, "0123456\n", 8));
        OK(io_sync(fd));
        io_close(fd);
    }
    unsigned char *data = NULL;
    size_t n = 0;
    OK(io_read_file(path, 100, &data, &n));
    ck_assert_str_eq((char *)data, "0123456\n0123456\n0123456\n");
    mem_free(data);
    const char *fifo = test_path(dir, "fifo");
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    ck_assert_int_eq(io_open_append(fifo, &fd), ST_CANNOT_CREATE);
}
END_TEST

START_TEST(lock_is_exclusive)
{
    const char *path = test_path(test_tmp_dir(), "lock");
    int fd = -1, second = -1;
    char me[40];
    OK(io_lock(path, &fd));
    snprintf(me, sizeof me, "locked by process %ld on ", (long)getpid());
    FAILS(ST_STOPPED, me, io_lock(path, &second));
    ck_assert_int_eq(second, -1);
    io_close(fd);
    OK(io_lock(path, &second));
    io_close(second);
}
END_TEST

START_TEST(folders_come_and_go)
{
    const char *dir = test_tmp_dir();
    char a[512];
    snprintf(a, sizeof a, "%s/a", dir);
    OK(io_make_dirs(test_path(dir, "a/b//c/")));
    OK(io_make_dirs(test_path(dir, "a/b/c")));
    ck_assert(io_is_dir(test_path(dir, "a/b/c")));
    OK(io_write_file(test_path(dir, "a/b/file"), "x", 1));
    OK(io_write_file(test_path(dir, "keep"), "x", 1));
    ck_assert_int_eq(symlink("../keep", test_path(dir, "a/link")), 0);
    ck_assert_int_eq(symlink("..", test_path(dir, "a/up")), 0);
    FAILS(ST_CANNOT_CREATE, "cannot be made", io_make_dirs(test_path(dir, "keep/below")));
    FAILS(ST_CANNOT_CREATE, "cannot be made", io_make_dirs(test_path(dir, "keep")));
    char **names = NULL;
    size_t n = 0;
    OK(io_list(a, 10, &names, &n));
    ck_assert_uint_eq(n, 3);
    ck_assert_str_eq(names[0], "b");
    ck_assert_str_eq(names[1], "link");
    ck_assert_str_eq(names[2], "up");
    io_list_free(names, n);
    OK(io_remove_tree(a));
    ck_assert(!io_exists(a));
    ck_assert(io_exists(test_path(dir, "keep")));
    OK(io_remove_tree(a));
    OK(io_remove(test_path(dir, "keep")));
    OK(io_remove(test_path(dir, "keep")));
    ck_assert_uint_gt(io_free_bytes(dir), 0);
    ck_assert_uint_eq(io_free_bytes(test_path(dir, "none")), 0);
    /* deeper than any recursion should go */
    char deep[3000];
    size_t at = (size_t)snprintf(deep, sizeof deep, "%s/d", dir);
    while (at + 3 < sizeof deep) {
        memcpy(deep + at, "/d", 3);
        at += 2;
    }
    OK(io_make_dirs(deep));
    OK(io_remove_tree(test_path(dir, "d")));
    ck_assert(!io_exists(test_path(dir, "d")));
}
END_TEST

/* ---- hashes and text ----------------------------------------------------------------------------------------- */

START_TEST(hashes_known_answers)
{
    char hex[65], hex2[65];
    OK(hash_sha256_hex("abc", 3, hex)); /* FIPS 180-2, appendix B.1 */
    ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    OK(hash_sha256_hex("", 0, hex));
    ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    ck_assert_uint_eq(hash_xxh3("", 0), 0x2D06800538D394C2u); /* XXH3_64bits of nothing, seed 0 */
    size_t n = 3000001;
    unsigned char *data = NULL;
    OK(mem_alloc(&data, n, 1));
    for (size_t i = 0; i < n; i++)
        data[i] = (unsigned char)(i * 7 + i / 1000);
    const char *path = test_path(test_tmp_dir(), "file");
    OK(io_write_file(path, data, n));
    OK(hash_sha256_hex(data, n, hex));
    OK(hash_sha256_file(path, hex2));
    ck_assert_str_eq(hex, hex2);
    mem_free(data);
    FAILS(ST_NO_INPUT, "/none", hash_sha256_file("/none", hex));
}
END_TEST

START_TEST(text_grows_and_sticks)
{
    text t = {0};
    for (int i = 0; i < 1000; i++)
        text_printf(&t, "%d,", i);
    text_add(&t, "end");
    ck_assert_int_eq(t.st, ST_OK);
    ck_assert_uint_eq(t.n, strlen(t.s));
    ck_assert_str_eq(t.s + t.n - 7, "999,end");
    mem_fail_at(1, true);
    while (t.st == ST_OK)
        text_add(&t, "0123456789");
    ck_assert_int_eq(t.st, ST_OOM);
    size_t n = t.n;
    text_add(&t, "more");
    ck_assert_uint_eq(t.n, n);
    text_free(&t);
    text_free(&t);
}
END_TEST

START_TEST(json_is_read_back)
{
    for (int pretty = 0; pretty < 2; pretty++) {
        text t = {0};
        json j = {.out = &t, .pretty = pretty};
        json_put_object(&j, NULL);
        json_put_string(&j, "quo\"te\\", "line\nbreak\ttab \x01 \xc3\xa9 \xff\xc0\x80 \xed\xa0\x80 \x7f");
        json_put_string(&j, "none", NULL);
        json_put_number(&j, "third", 1.0 / 3.0);
        json_put_number(&j, "bad", (double)NAN);
        json_put_number(&j, "worse", -(double)INFINITY);
        json_put_array(&j, "list");
        json_put_int(&j, NULL, INT64_MIN);
        json_put_number(&j, NULL, (double)INFINITY);
        json_put_bool(&j, NULL, true);
        json_put_array(&j, NULL);
        json_end_array(&j);
        json_put_object(&j, NULL);
        json_end_object(&j);
        json_end_array(&j);
        json_put_int(&j, "last", 7);
        json_end_object(&j);
        ck_assert_int_eq(t.st, ST_OK);
        json_error_t error;
        json_t *root = json_loadb(t.s, t.n, JSON_REJECT_DUPLICATES, &error);
        ck_assert_msg(root != NULL, "%s in %s", error.text, t.s);
        const char *s = json_string_value(json_object_get(root, "quo\"te\\"));
        ck_assert_ptr_nonnull(s);
        ck_assert_str_eq(s, "line\nbreak\ttab \x01 \xc3\xa9 \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd "
                            "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \x7f");
        ck_assert(json_is_null(json_object_get(root, "none")));
        ck_assert(json_real_value(json_object_get(root, "third")) == 1.0 / 3.0);
        ck_assert(json_is_null(json_object_get(root, "bad")));
        ck_assert_str_eq(json_string_value(json_object_get(root, "bad_nonfinite")), "nan");
        ck_assert_str_eq(json_string_value(json_object_get(root, "worse_nonfinite")), "-inf");
        json_t *list = json_object_get(root, "list");
        ck_assert_uint_eq(json_array_size(list), 5);
        ck_assert(json_integer_value(json_array_get(list, 0)) == INT64_MIN);
        ck_assert_str_eq(json_string_value(json_array_get(list, 1)), "inf");
        ck_assert_int_eq((int)json_integer_value(json_object_get(root, "last")), 7);
        json_decref(root);
        text_free(&t);
    }
}
END_TEST

START_TEST(numbers_in)
{
    static const char *const bad[] = {"",      " 5",   "5 ",  "5 epochs", "nan",   "inf",    "-inf",
                                      "0x1p3", "0x10", "1,5", "1_000",    "1e400", "-1e400", "1e-400",
                                      "1e",    "1e+",  ".",   "+",        "-",     "--1",    "1.2.3",
                                      "1f",    "e5",   "1\n", "\xd9\xa1"};
    static const struct {
        const char *s;
        double want;
    } good[] = {{"0", 0},
                {"-0", 0},
                {"5", 5},
                {"+5", 5},
                {".5", 0.5},
                {"5.", 5},
                {"1e-3", 1e-3},
                {"1E3", 1000},
                {"0e-400", 0},
                {"0.0", 0},
                {"4.9e-324", 4.9e-324},
                {"1.7976931348623157e308", 1.7976931348623157e308}};
    double x = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        FAILS(ST_CONFIG, "lr: '", parse_double(bad[i], "lr", &x));
        ck_assert(x == 7);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        OK(parse_double(good[i].s, "lr", &x));
        ck_assert_msg(x == good[i].want, "%s", good[i].s);
    }
    static const char *const bad_int[] = {
        "",      " 5", "5 ",  "5.0", "1e3", "0x10", "9223372036854775808", "-9223372036854775809",
        "1_000", "-",  "five"};
    int64_t k = 7;
    for (size_t i = 0; i < sizeof bad_int / sizeof *bad_int; i++) {
        FAILS(ST_CONFIG, "epochs: '", parse_int(bad_int[i], "epochs", &k));
        ck_assert_int_eq(k, 7);
    }
    OK(parse_int("-9223372036854775808", "k", &k));
    ck_assert(k == INT64_MIN);
    OK(parse_int("+007", "k", &k));
    ck_assert_int_eq(k, 7);
    bool b = false;
    OK(parse_bool("Yes", "b", &b));
    ck_assert(b);
    OK(parse_bool("0", "b", &b));
    ck_assert(!b);
    FAILS(ST_CONFIG, "neither true nor false", parse_bool("2", "b", &b));
    FAILS(ST_CONFIG, "neither true nor false", parse_bool("", "b", &b));
}
END_TEST

START_TEST(numbers_out_read_back)
{
    rng r = rng_make(3, RNG_TEST, 0, 0);
    char buf[NUMBER_ROOM];
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = (uint64_t)rng_u32(&r) << 32 | rng_u32(&r);
        double v, back;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v))
            continue;
        OK(parse_double(format_double(v, buf), "v", &back));
        ck_assert(back == v);
    }
    ck_assert_str_eq(format_double(0.1, buf), "0.1");
    ck_assert_str_eq(format_double(5e-4, buf), "0.0005");
    ck_assert_str_eq(format_double(-1e300, buf), "-1e+300");
}
END_TEST

START_TEST(names_nearby)
{
    static const char *const keys[] = {"momentum",  "lr",     "nesterov", "weight_decay",
                                       "optimizer", "epochs", NULL};
    enum { N = 7 };
#define NEAR(s) nearest_name(s, keys, N, sizeof *keys)
    ck_assert_str_eq(NEAR("momentun"), "momentum");
    ck_assert_str_eq(NEAR("Momentum"), "momentum");
    ck_assert_str_eq(NEAR("weight-decay"), "weight_decay");
    ck_assert_str_eq(NEAR("wieght_decay"), "weight_decay");
    ck_assert_str_eq(NEAR("epoch"), "epochs");
    ck_assert_str_eq(NEAR("optim"), "optimizer");
    ck_assert_str_eq(NEAR("lt"), "lr");
    ck_assert_ptr_null(NEAR("zzz"));
    ck_assert_ptr_null(NEAR(""));
    ck_assert_ptr_null(NEAR("an extremely long name that nobody has ever given to any key in any file"));
    struct {
        int number;
        const char *name;
    } rows[] = {{1, "alpha"}, {2, "beta"}};
    ck_assert_str_eq(nearest_name("betta", &rows[0].name, 2, sizeof rows[0]), "beta");
}
END_TEST

START_TEST(numbers_for_people)
{
    char b[24];
    ck_assert_str_eq(human_count(0, b), "0");
    ck_assert_str_eq(human_count(999, b), "999");
    ck_assert_str_eq(human_count(1234, b), "1.23 k");
    ck_assert_str_eq(human_count(31434, b), "31.4 k");
    ck_assert_str_eq(human_count(999999, b), "1.00 M");
    ck_assert_str_eq(human_count(-2.5e9, b), "-2.50 G");
    ck_assert_str_eq(human_bytes(1024, b), "1.00 KiB");
    ck_assert_str_eq(human_bytes(1.5 * 1048576, b), "1.50 MiB");
    ck_assert_str_eq(human_bytes(100, b), "100 B");
    ck_assert_str_eq(human_seconds(0.0123, b), "12.3 ms");
    ck_assert_str_eq(human_seconds(2e-6, b), "2 us");
    ck_assert_str_eq(human_seconds(12.34, b), "12.3 s");
    ck_assert_str_eq(human_seconds(59.99, b), "1 m 00 s");
    ck_assert_str_eq(human_seconds(119.6, b), "2 m 00 s");
    ck_assert_str_eq(human_seconds(8040, b), "2 h 14 m");
    ck_assert_str_eq(human_seconds((double)NAN, b), "unknown");
    human_count(1.7e308, b);
    human_seconds(9.9e9, b);
}
END_TEST

static void keep_line(log_level level, const char *line, void *ctx)
{
    snprintf(ctx, 100, "%d %s", (int)level, line);
}

START_TEST(log_goes_to_the_sink)
{
    char got[100] = "";
    log_warn("nobody listens %d", 1);
    log_set_sink(keep_line, got);
    log_info("step %d", 12);
    ck_assert_str_eq(got, "1 step 12");
    log_set_sink(NULL, NULL);
}
END_TEST

const test_entry test_table[] = {
    TEST(status_messages),
    TEST(mem_failures_are_reported),
    TEST(arena_pieces_do_not_overlap),
    TEST(sizes_are_checked),
    TEST(philox_known_answers),
    TEST(random_streams),
    TEST(read_refuses_what_is_no_file),
    TEST(read_survives_every_failing_call),
    TEST(beneath_stays_beneath),
    TEST(durable_write_survives_every_failing_call),
    TEST(durable_write_survives_failing_memory),
    TEST(durable_write_survives_kill),
    TEST(writes_that_cannot_be),
    TEST(full_disk_is_reported),
    TEST(logs_append),
    TEST(lock_is_exclusive),
    TEST(folders_come_and_go),
    TEST(hashes_known_answers),
    TEST(text_grows_and_sticks),
    TEST(json_is_read_back),
    TEST(numbers_in),
    TEST(numbers_out_read_back),
    TEST(names_nearby),
    TEST(numbers_for_people),
    TEST(log_goes_to_the_sink),
    {0},
};
