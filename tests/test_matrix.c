/* test_matrix.c - matrix.json, runners that misbehave in every way, and a matrix made of them. */
#include "harness.h"
#include "base/io.h"
#include "matrix/matrix.h"
#include "matrix/process.h"

#include <math.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- matrix.json ---- */

static const double class_accuracy[] = {0.5, 0.1 + 0.2, 1};
static const double latencies[] = {0.25, 1e-7, 3};

static matrix_cell full_cell(const char *runtime, const char *variant)
{
    matrix_cell c = matrix_cell_empty();
    c.runtime = runtime;
    c.variant = variant;
    c.state = CELL_DIFFERS;
    c.reason = "int16 sums saturate \"here\"";
    c.engine = "ONNX Runtime";
    c.version = "1.31.1";
    c.build = "b", c.device = "d", c.isa = "avx2", c.providers = "CPUExecutionProvider 3", c.notes = "n";
    c.host = "here", c.log = "matrix/a.log", c.key = "00ff", c.when = 1795305720;
    c.cached = true, c.emulated = true;
    c.images = 10000, c.labelled = 9999, c.correct = 9000;
    c.accuracy = 0.9, c.accuracy_low = 0.89, c.accuracy_high = 0.91;
    c.class_accuracy = class_accuracy, c.classes = 3, c.worst_class = 1, c.worst_class_accuracy = 0.3;
    c.disagree = 12, c.flips = 13;
    c.max_error = (double)INFINITY, c.mean_error = 0.1, c.p99_error = 0.2, c.tolerance = 1e-5;
    for (uint32_t i = 0; i < CELL_HISTOGRAM; i++)
        c.histogram[i] = i * 1000;
    c.worst[0].sample = 7, c.worst[0].error = (double)INFINITY, c.worst[1].sample = 8, c.worst[1].error = 0.5;
    c.n_worst = 2;
    c.output_hash = "ab";
    c.p50_ms = 0.25, c.p90_ms = 3, c.p99_ms = 3, c.latency_ms = latencies, c.n_latency = 3;
    c.throughput = 1e4, c.load_ms = 5, c.peak_mb = 60.5, c.seconds = 1.5, c.bytes = 1234;
    return c;
}

static matrix_row rows[] = {{.runtime = "own", .title = "distill", .present = true},
                            {.runtime = "qnn", .title = "QNN", .how = "needs a Qualcomm device", .emulated = true}};
static matrix_file files[] = {{.form = "onnx", .path = "student.onnx", .sha256 = "aa", .bytes = 10},
                              {.form = "tflite", .path = "export/a.tflite", .bytes = -1}};
static matrix_column columns[] = {{.variant = "fp32", .model = "student", .files = files, .n_files = 2},
                                  {.variant = "portable", .model = "student", .portable = true}};

static matrix small_matrix(matrix_cell cells[4])
{
    for (size_t i = 0; i < 4; i++) {
        cells[i] = matrix_cell_empty();
        cells[i].runtime = rows[i / 2].runtime;
        cells[i].variant = columns[i % 2].variant;
    }
    cells[0] = full_cell("own", "fp32");
    return (matrix){.run = "runs/a", .set = "test", .version = "0.1.0", .system = "Linux", .cpu = "c", .cores = 2,
                    .memory = 1 << 30, .samples = 10000, .seconds = 3, .rows = rows, .columns = columns, .cells = cells,
                    .n_rows = 2, .n_columns = 2};
}

START_TEST(a_matrix_comes_back_as_it_was_written)
{
    matrix_cell cells[4];
    matrix m = small_matrix(cells), back;
    const char *dir = test_tmp_dir(), *first = test_path(dir, "matrix.json"), *second = test_path(dir, "again.json");
    unsigned char *a, *b;
    size_t na, nb;
    OK(matrix_write(first, &m));
    OK(matrix_read(first, &back));
    OK(matrix_write(second, &back));
    OK(io_read_file(first, 1 << 20, &a, &na));
    OK(io_read_file(second, 1 << 20, &b, &nb));
    ck_assert_str_eq((char *)a, (char *)b);
    const matrix_cell *c = matrix_find(&back, "own", "fp32"), *e = matrix_find(&back, "qnn", "portable");
    ck_assert(c && e && !matrix_find(&back, "own", "fp16") && !matrix_find(&back, "x", "fp32"));
    ck_assert(c->state == CELL_DIFFERS && c->cached && c->emulated && c->images == 10000 && c->flips == 13);
    ck_assert(isinf(c->max_error) && isinf(c->worst[0].error) && c->worst[1].error == 0.5 && c->n_worst == 2);
    ck_assert(c->classes == 3 && memcmp(c->class_accuracy, class_accuracy, sizeof class_accuracy) == 0);
    ck_assert(c->n_latency == 3 && memcmp(c->latency_ms, latencies, sizeof latencies) == 0);
    ck_assert(c->histogram[11] == 11000 && c->bytes == 1234 && c->when == 1795305720);
    ck_assert_str_eq(c->reason, "int16 sums saturate \"here\"");
    ck_assert(e->state == CELL_NOT_RUN && isnan(e->accuracy) && e->bytes == -1 && !e->reason && !e->class_accuracy);
    ck_assert(back.rows[1].emulated && !back.rows[1].present && back.columns[1].portable && back.columns[0].n_files == 2);
    mem_free(a);
    mem_free(b);
    matrix_free(&back);
}
END_TEST

static void refused(const char *text_of_it, const char *part)
{
    matrix m;
    const char *path = test_path(test_tmp_dir(), "m.json");
    OK(io_write_file(path, text_of_it, strlen(text_of_it)));
    FAILS(ST_BAD_DATA, part, matrix_read(path, &m));
    matrix_free(&m);
}

#define HEAD "{\"schema\": 1, \"runtimes\": [{\"runtime\": \"own\"}], \"variants\": [{\"variant\": \"fp32\"}], \"cells\": ["
START_TEST(a_wrong_matrix_is_refused_by_name)
{
    matrix m;
    FAILS(ST_NO_INPUT, "none.json", matrix_read(test_path(test_tmp_dir(), "none.json"), &m));
    matrix_free(&m);
    refused("{\"schema\": 2}", "schema 2");
    refused("{\"schema\": 1}", "runtimes");
    refused("{\"schema\": 1, \"runtimes\": [3], \"variants\": [], \"cells\": []}", "objects");
    refused(HEAD "7]}", "cells");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\"}]}", "state");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"fine\"}]}", "fine");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp64\", \"state\": \"ok\"}]}", "fp64");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"images\": -1}]}", "images");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"accuracy\": \"high\"}]}", "accuracy");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"histogram\": [1]}]}", "histogram");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"latency_ms\": [\"x\"]}]}", "latency_ms");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"worst\": [1]}]}", "worst");
    refused(HEAD "{\"runtime\": \"own\", \"variant\": \"fp32\", \"state\": \"ok\", \"images\": 2, \"right\": \"012\"}]}", "right");
}
END_TEST

/* ---- processes ---- */

typedef struct asked {
    process_result r;
    arena mem;
    const char *log;
} asked;

/* What `script` (of /bin/sh) makes of a request. */
static asked ask(const char *script, double seconds, int64_t memory)
{
    asked a = {0};
    const char *command[] = {"/bin/sh", "-c", script, NULL};
    a.log = test_path(test_tmp_dir(), "log");
    const process_options o = {.command = command, .log = a.log, .seconds = seconds, .memory = memory, .log_limit = 4096};
    OK(process_ask(&o, "{\"protocol\": 1}", &a.mem, &a.r));
    return a;
}

static void ends(const char *script, double seconds, process_end end, const char *why)
{
    asked a = ask(script, seconds, 0);
    ck_assert_msg(a.r.end == end, "%s: end %d, expected %d: %s", script, (int)a.r.end, (int)end, a.r.why);
    ck_assert_msg(strstr(a.r.why, why) != NULL, "%s: '%s' lacks '%s'", script, a.r.why, why);
    ck_assert((a.r.answer != NULL) == (end == PROCESS_ANSWERED));
    ck_assert(a.r.seconds < seconds + 8);
    arena_free(&a.mem);
}

START_TEST(a_process_answers_with_the_line_that_it_read)
{
    asked a = ask("echo started >&2; cat", 20, 0);
    unsigned char *log;
    size_t n;
    ck_assert_msg(a.r.end == PROCESS_ANSWERED, "%s", a.r.why);
    ck_assert_str_eq(a.r.answer, "{\"protocol\": 1}");
    OK(io_read_file(a.log, 1 << 20, &log, &n));
    ck_assert_str_eq((char *)log, "started\n");
    ck_assert(a.r.code == 0 && a.r.signal == 0 && a.r.seconds < 10);
    mem_free(log);
    arena_free(&a.mem);
}
END_TEST

START_TEST(a_process_that_fails_is_told_apart)
{
    ends("kill -SEGV $$", 20, PROCESS_CRASHED, "signal 11");
    ends("exit 3", 20, PROCESS_CRASHED, "exit status 3");
    ends("echo '{}'; exit 4", 20, PROCESS_CRASHED, "exit status 4 after its answer");
    ends("echo '{}'; kill -ABRT $$", 20, PROCESS_CRASHED, "signal 6");
    ends("exit 0", 20, PROCESS_CRASHED, "without an answer");
    ends("exec >&-; exit 0", 20, PROCESS_CRASHED, "without an answer");
    ends("printf torn", 20, PROCESS_GARBAGE, "no end");
    ends("echo '{}'; echo more", 20, PROCESS_GARBAGE, "more than one line");
    ends("printf 'a\\000b\\n'", 20, PROCESS_GARBAGE, "zero byte");
    ends("sleep 100", 0.5, PROCESS_TIMEOUT, "no answer in 0.5 s");
    ends("trap '' TERM INT; while :; do sleep 1; done", 0.5, PROCESS_TIMEOUT, "no answer");
    ends("exec >&-; sleep 100", 20, PROCESS_CRASHED, "closed its output");
    ends("head -c 20000000 /dev/zero", 20, PROCESS_GARBAGE, "more than");
}
END_TEST

START_TEST(a_process_that_floods_its_log_is_heard_out)
{
    asked a = ask("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo '{}'", 20, 0);
    unsigned char *log;
    size_t n;
    ck_assert_msg(a.r.end == PROCESS_ANSWERED, "%s", a.r.why);
    OK(io_read_file(a.log, 1 << 20, &log, &n));
    ck_assert_msg(n >= 4096 && n < 5000, "the log has %zu bytes", n);
    mem_free(log);
    arena_free(&a.mem);
}
END_TEST

START_TEST(a_process_that_eats_memory_is_ended)
{
    asked a = ask("head -c 2000000000 /dev/zero | tail -n 1", 20, 100 << 20); /* tail keeps the endless line, in a child of the shell */
    ck_assert_msg(a.r.end == PROCESS_MEMORY, "end %d: %s", (int)a.r.end, a.r.why);
    ck_assert_msg(a.r.peak > 100 << 20, "peak %lld", (long long)a.r.peak);
    arena_free(&a.mem);
}
END_TEST

START_TEST(a_child_of_the_process_does_not_stay)
{
    asked a = ask("sleep 1000 & echo $!", 20, 0);
    ck_assert_msg(a.r.end == PROCESS_ANSWERED, "%s", a.r.why);
    pid_t left = (pid_t)strtol(a.r.answer, NULL, 10);
    for (int i = 0; i < 200 && kill(left, 0) == 0; i++) { /* until init reaped it */
        char path[64], s[256];
        snprintf(path, sizeof path, "/proc/%ld/stat", (long)left);
        io_read_system(path, s, sizeof s);
        if (strstr(s, ") Z"))
            break;
        usleep(10000);
        ck_assert_msg(i < 199, "process %ld is still there", (long)left);
    }
    arena_free(&a.mem);
}
END_TEST

START_TEST(the_environment_and_the_network_are_as_asked)
{
    arena mem = {0};
    process_result r;
    const char *command[] = {"sh", "-c", "echo $A-$HOME-$(grep -c : /proc/net/dev)-$(pwd)", NULL};
    const char *env[] = {"A=1", "HOME=/nowhere", NULL};
    process_options o = {.command = command, .env = env, .seconds = 20, .folder = "/"};
    OK(process_ask(&o, "", &mem, &r));
    if (r.offline)
        ck_assert_str_eq(r.answer, "1-/nowhere-1-/"); /* the loopback alone */
    else
        test_skip("network", "no namespace of its own is allowed here");
    o.command = (const char *const[]){"no-such-program", NULL};
    FAILS(ST_UNAVAILABLE, "no-such-program", process_ask(&o, "", &mem, &r));
    arena_free(&mem);
}
END_TEST

static volatile sig_atomic_t stop_now;
static void on_alarm(int n)
{
    (void)n;
    stop_now = 1;
}

START_TEST(a_signal_stops_the_wait)
{
    arena mem = {0};
    process_result r;
    const char *command[] = {"sleep", "100", NULL};
    const process_options o = {.command = command, .seconds = 50, .stop = &stop_now};
    signal(SIGALRM, on_alarm);
    alarm(1);
    FAILS(ST_STOPPED, "stopped", process_ask(&o, "", &mem, &r));
    arena_free(&mem);
}
END_TEST

const test_entry test_table[] = {
    TEST(a_matrix_comes_back_as_it_was_written),
    TEST(a_wrong_matrix_is_refused_by_name),
    TEST(a_process_answers_with_the_line_that_it_read),
    TEST(a_process_that_fails_is_told_apart),
    TEST(a_process_that_floods_its_log_is_heard_out),
    TEST(a_process_that_eats_memory_is_ended),
    TEST(a_child_of_the_process_does_not_stay),
    TEST(the_environment_and_the_network_are_as_asked),
    TEST(a_signal_stops_the_wait),
    {0},
};
