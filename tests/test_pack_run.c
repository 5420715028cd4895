/* test_pack_run.c - the whole way: a run's matrix, packed by the program, run from a fresh folder with an empty environment by the
 * packed program, merged: the same cells. What has changed at home meanwhile is refused; other machines' cells outlive a new matrix. */
#include "base/io.h"
#include "base/mem.h"
#include "data/npy.h"
#include "data_files.h"
#include "harness.h"
#include "matrix/matrix.h"
#include "onnx/export.h"
#include "onnx_run.h"
#include "ops/attrs.h"
#include "program.h"
#include "qnet.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TRAIN = 8, VAL = 40, CLASSES = 5 };

static void write_arrays(const char *dir, const char *part, int64_t n)
{
    char name[64];
    tensor x, y;
    OK(tensor_new(&x, NULL, DTYPE_F32, SHAPE(n, 2, 8, 8)));
    OK(tensor_new(&y, NULL, DTYPE_I64, SHAPE(n)));
    for (int64_t i = 0; i < n * 128; i++)
        tensor_put(&x, i, (double)(i * 37 % 128) / 128);
    for (int64_t i = 0; i < n; i++)
        tensor_put(&y, i, (double)(i % CLASSES));
    snprintf(name, sizeof name, "x_%s.npy", part);
    OK(npy_write(test_path(dir, name), &x));
    snprintf(name, sizeof name, "y_%s.npy", part);
    OK(npy_write(test_path(dir, name), &y));
    tensor_free(&x);
    tensor_free(&y);
}

/* A run folder with a float student and its portable-s8 variant. */
static const char *make_run(const char **data)
{
    const char *run = test_tmp_dir();
    text ini = {0};
    *data = test_tmp_dir();
    write_arrays(*data, "train", TRAIN);
    write_arrays(*data, "val", VAL);
    qnet n = qnet_new(DTYPE_NONE, false, SHAPE(1, 2, 8, 8), 1, 0, 3);
    qnet_conv(&n, (qconv){.out = 4, .kernel = 3, .pads = {1, 1, 1, 1}}, 0.01f);
    qnet_relu(&n);
    qnet_node(&n, OP_FLATTEN, &(axis_attrs){1});
    qnet_gemm(&n, CLASSES, true, 0.002f);
    graph *g = qnet_end(&n);
    OK(onnx_export_file(g, &(export_options){0}, test_path(run, "student.onnx")));
    graph_free(g);
    g = qnet_portable(11, DTYPE_I8, true, 1);
    OK(io_make_dirs(test_path(run, "export")));
    OK(onnx_export_file(g, &(export_options){0}, test_path(run, "export/student.portable-s8.onnx")));
    graph_free(g);
    text_printf(&ini, "[data]\ndir = %s\n[teacher]\npath = %s\n[student]\narch = mlp\n[matrix]\ncache = false\nruntimes = own\nvariants = fp32 portable-s8\nlatency_runs = 5\n", *data,
                test_path(run, "student.onnx"));
    save_text(run, "config.ini", ini.s);
    text_free(&ini);
    return run;
}

static ran distill(const char *const *args)
{
    return program_run(&(program_options){0}, args);
}

static void must(const char *const *args)
{
    ran r = distill(args);
    ck_assert_msg(r.code == 0, "%s %s: %d: %s", args[0], args[1], r.code, r.err);
    ran_free(&r);
}

static void must_not(const char *const *args, int code, const char *why)
{
    ran r = distill(args);
    ck_assert_msg(r.code == code && strstr(r.err, why), "%s %s: %d, expected %d and '%s': %s", args[0], args[1], r.code, code, why, r.err);
    ran_free(&r);
}

/* Packs, unpacks, runs with nothing in the environment; the result's path. */
static const char *there(const char *run, const char *name)
{
    const char *fresh = test_tmp_dir(), *archive = test_path(run, "p.tar.gz");
    char command[4096];
    must(ARGS("matrix", "pack", run, "--for", "linux", "--out", archive));
    ck_assert(unpack_archive(archive, fresh));
    const char *result = test_path(fresh, "distill-matrix-linux/result.json");
    snprintf(command, sizeof command, "cd / && env -i sh '%s' %s%s >'%s' 2>&1 || { cat '%s'; exit 1; }",
             test_path(fresh, "distill-matrix-linux/run.sh"), *name ? "--name " : "", name, test_path(fresh, "said"), test_path(fresh, "said"));
    ck_assert_int_eq(system(command), 0);
    return result;
}

static void read_matrix(const char *run, matrix *m)
{
    OK(matrix_read(test_path(run, "matrix.json"), m));
}

static void same_cells(const matrix *a, const char *row_a, const matrix *b, const char *row_b)
{
    static const char *const variants[] = {"fp32", "portable-s8"};
    for (size_t i = 0; i < 2; i++) {
        const matrix_cell *x = matrix_find(a, row_a, variants[i]), *y = matrix_find(b, row_b, variants[i]);
        ck_assert_msg(x && y, "%s: a cell is not there", variants[i]);
        ck_assert_msg(x->state == CELL_OK && y->state == CELL_OK, "%s: %s", variants[i], y->reason ? y->reason : "");
        ck_assert_uint_eq(x->images, y->images);
        ck_assert_uint_eq(x->correct, y->correct);
        ck_assert_uint_eq(y->flips, 0);
        ck_assert_int_eq(x->bytes, y->bytes);
        ck_assert_str_eq(x->version, y->version);
        ck_assert(y->n_latency > 0);
        if (i == 1) {
            ck_assert_ptr_nonnull(x->output_hash);
            ck_assert_str_eq(x->output_hash, y->output_hash);
        }
    }
}

START_TEST(merges_back_to_the_same_cells)
{
    const char *data, *run;
    matrix before = {0}, after = {0}, again = {0};
    if (access("/usr/bin/python3", X_OK) != 0) {
        test_skip("merges_back_to_the_same_cells", "no /usr/bin/python3: what an empty environment finds");
        return;
    }
    run = make_run(&data);
    must_not(ARGS("matrix", "merge", run, test_path(run, "none.json")), 66, "none.json");
    must(ARGS("matrix", run));
    read_matrix(run, &before);
    const char *result = there(run, "");
    must(ARGS("matrix", "merge", run, result));
    read_matrix(run, &after);
    ck_assert_uint_eq(after.n_rows, before.n_rows); /* this machine: its own row */
    same_cells(&before, "own", &after, "own");
    ck_assert_ptr_nonnull(strstr(matrix_find(&after, "own", "fp32")->host, "("));
    const char *other = there(run, "other");
    must(ARGS("matrix", run));
    must(ARGS("matrix", "merge", run, other)); /* another machine: a row beside */
    must(ARGS("matrix", run));                 /* which a new matrix keeps */
    read_matrix(run, &again);
    same_cells(&before, "own", &again, "own@other");
    same_cells(&before, "own", &again, "own");
    ck_assert_str_eq(matrix_find(&again, "own", "fp32")->host, "here");
    char **names;
    size_t n;
    OK(io_list(test_path(run, "matrix"), 100, &names, &n));
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(strncmp(names[i], "reference", 9) != 0, "%s was left behind", names[i]);
    io_list_free(names, n);
    matrix_free(&before);
    matrix_free(&after);
    matrix_free(&again);
}
END_TEST

START_TEST(what_changed_at_home_is_refused)
{
    const char *data, *run;
    unsigned char *bytes, *kept;
    size_t n, n_kept;
    if (access("/usr/bin/python3", X_OK) != 0) {
        test_skip("what_changed_at_home_is_refused", "no /usr/bin/python3");
        return;
    }
    run = make_run(&data);
    must(ARGS("matrix", run));
    const char *result = there(run, "other"), *kept_path = test_path(run, "matrix.json");
    OK(io_read_file(kept_path, 1 << 24, &kept, &n_kept));
    OK(io_read_file(result, 1 << 24, &bytes, &n));
    char *at = strstr((char *)bytes, "\"latency_ms\": [");
    ck_assert_ptr_nonnull(at);
    at[15] = at[15] == '9' ? '8' : '9';
    OK(io_write_file(test_path(run, "tampered.json"), bytes, n));
    must_not(ARGS("matrix", "merge", run, test_path(run, "tampered.json")), 65, "signature does not hold");
    graph *g = qnet_portable(12, DTYPE_I8, true, 1);
    OK(onnx_export_file(g, &(export_options){0}, test_path(run, "export/student.portable-s8.onnx")));
    graph_free(g);
    must_not(ARGS("matrix", "merge", run, result), 65, "has changed since variant portable-s8 was packed");
    g = qnet_portable(11, DTYPE_I8, true, 1);
    OK(onnx_export_file(g, &(export_options){0}, test_path(run, "export/student.portable-s8.onnx")));
    graph_free(g);
    write_arrays(data, "val", VAL - 1);
    must_not(ARGS("matrix", "merge", run, result), 65, "validation samples");
    mem_free(bytes);
    OK(io_read_file(kept_path, 1 << 24, &bytes, &n));
    ck_assert(n == n_kept && memcmp(bytes, kept, n) == 0); /* nothing was written */
    write_arrays(data, "val", VAL);
    int lock;
    OK(io_lock(test_path(run, "matrix/lock"), &lock));
    must_not(ARGS("matrix", "merge", run, result), 75, "lock"); /* a matrix is being made */
    io_close(lock);
    must(ARGS("matrix", "merge", run, result));
    mem_free(bytes);
    mem_free(kept);
}
END_TEST

/* Probes instead of a run: what comes back is a section that a job file takes. */
START_TEST(a_device_profile_becomes_a_section)
{
    const char *dir = test_path(test_tmp_dir(), "probes"), *fresh = test_tmp_dir(), *archive = test_path(fresh, "p.tar.gz");
    char command[4096];
    text ini = {0};
    if (access("/usr/bin/python3", X_OK) != 0) {
        test_skip("a_device_profile_becomes_a_section", "no /usr/bin/python3");
        return;
    }
    must(ARGS("matrix", "pack", dir, "--profile", "--for", "linux", "--out", archive, "--set", "matrix.runtimes=own", "--set",
              "matrix.latency_runs=5"));
    ck_assert(unpack_archive(archive, fresh));
    const char *result = test_path(fresh, "distill-matrix-linux/result.json");
    snprintf(command, sizeof command, "env -i sh '%s' --name 'a board [1]' --runtimes own >/dev/null 2>&1",
             test_path(fresh, "distill-matrix-linux/run.sh"));
    ck_assert_int_eq(system(command), 0);
    ran r = distill(ARGS("matrix", "merge", dir, result));
    ck_assert_msg(r.code == 0, "%s", r.err);
    ck_assert_ptr_nonnull(strstr(r.out, "[device a-board--1-]\nruntime = own\nfallbacks =\noperators = Relu "));
    ck_assert_ptr_nonnull(strstr(r.out, "LayerNormalization"));
    text_printf(&ini, "%s\n[student]\narch = mlp\n", r.out);
    ran_free(&r);
    r = distill(ARGS("config", "--student", save_text(fresh, "job.ini", ini.s), "--show"));
    ck_assert_msg(r.code == 0 && strstr(r.out, "[device a-board--1-]"), "%s", r.err);
    ran_free(&r);
    text_free(&ini);
}
END_TEST

START_TEST(words_of_the_command)
{
    const char *data, *run = make_run(&data);
    must_not(ARGS("matrix", "pack", run), 64, "--for linux");
    must_not(ARGS("matrix", "pack", run, "--for", "linus"), 64, "did you mean linux");
    must_not(ARGS("matrix", "merge", run), 64, "RESULT.json");
    must_not(ARGS("matrix", "bisect", run, "own"), 64, "RUNTIME/VARIANT");
    must_not(ARGS("matrix", "bisect", run, "nobody/fp32"), 64, "no runtime 'nobody'");
    must_not(ARGS("matrix", "pack", test_tmp_dir(), "--for", "ios"), 66, "config.ini");
    ran r = distill(ARGS("matrix", "bisect", run, "own/portable-s8"));
    ck_assert_msg(r.code == 0 && strstr(r.out, "agrees with our executor"), "%s", r.err);
    ran_free(&r);
}
END_TEST

const test_entry test_table[] = {TEST(merges_back_to_the_same_cells), TEST(what_changed_at_home_is_refused),
                                 TEST(a_device_profile_becomes_a_section), TEST(words_of_the_command), {0}};
