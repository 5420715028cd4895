/* onnx_run.c - one model, one set of inputs, our executor. */
#include "onnx_run.h"

#include "base/io.h"
#include "harness.h"
#include "onnx/bind.h"
#include "onnx/tensor_pb.h"

#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TENSORS_MAX = 64 }; /* inputs or outputs of one model */

/* ---- comparison, as ONNX's test runner does it (numpy.testing.assert_allclose) ---- */

static status compare(model_run *r, const char *name, const tensor *got, const tensor *want)
{
    char a[200], b[200];
    if (got->type != want->type || !shape_equal(&got->sh, &want->sh))
        return fail(ST_GATE, "output '%s' is %s %s, expected %s %s", name, dtype_of(got->type)->name,
                    shape_print(&got->sh, a), dtype_of(want->type)->name, shape_print(&want->sh, b));
    int64_t n = shape_count(&got->sh);
    bool exact = !dtype_of(want->type)->is_float;
    if (exact && memcmp(got->data, want->data, tensor_bytes(want)) != 0)
        for (int64_t i = 0; i < n; i++)
            if (tensor_at(got, i) != tensor_at(want, i))
                return fail(ST_GATE, "output '%s'[%" PRId64 "] is %.17g, expected %.17g", name, i,
                            tensor_at(got, i), tensor_at(want, i));
    for (int64_t i = 0; i < n && !exact; i++) {
        double x = tensor_at(got, i), y = tensor_at(want, i), tolerance = r->atol + r->rtol * fabs(y);
        if ((isnan(x) && isnan(y)) || x == y)
            continue;
        double part = fabs(x - y) / tolerance;
        if (!(part <= 1))
            return fail(ST_GATE, "output '%s'[%" PRId64 "] is %.9g, expected %.9g", name, i, x, y);
        r->worst = part > r->worst ? part : r->worst;
    }
    r->compared += (size_t)n;
    return ST_OK;
}

/* ---- running ---- */

static status execute(model_run *r, const graph *g, const tensor *in, size_t n_in, const tensor *want,
                      size_t n_want)
{
    exec *e;
    TRY(exec_open(g, r->b, NULL, 0, &e));
    status st = ST_OK;
    for (size_t i = 0; i < g->n_input && st == ST_OK; i++) {
        const value *v = &g->value[g->input[i]];
        const tensor *t = NULL;
        for (size_t k = 0; k < n_in; k++)
            if (in[k].name && strcmp(in[k].name, v->name) == 0)
                t = &in[k];
        if (!t)
            st = fail(ST_GATE, "no data for input '%s'", v->name);
        else if (t->type != v->type || !shape_equal(&t->sh, &v->sh))
            st = fail(ST_GATE, "input '%s' differs from its data in type or shape", v->name);
        else if (tensor_bytes(t) > 0)
            memcpy(exec_data(e, g->input[i]), t->data, tensor_bytes(t));
    }
    if (st == ST_OK)
        OK(exec_run(e, PHASE_MAIN));
    for (size_t i = 0; i < n_want && st == ST_OK; i++) {
        const value *v = &g->value[g->output[i]];
        void *data = v->kind == VALUE_CONST ? (void *)(uintptr_t)v->data : exec_data(e, g->output[i]);
        tensor got = {.type = v->type, .sh = v->sh, .data = data};
        st = compare(r, v->name, &got, &want[i]);
    }
    exec_close(e);
    return st;
}

/* The graph as our own file says it; exporting that again must give the same bytes. */
static status reexport(const model_run *r, graph **g)
{
    export_options o = {.opset = r->export_opset, .fixed_batch = true};
    text once = {0}, twice = {0};
    onnx_model *m = NULL;
    status st = onnx_export(*g, &o, &once);
    if (st != ST_OK)
        goto done;
    graph_free(*g);
    *g = NULL;
    TRY_DONE(onnx_open_bytes("exported", once.s, once.n, r->lim, &m));
    TRY_DONE(onnx_import(m, &(import_options){.keep_training_mode = true}, g));
    TRY_DONE(onnx_export(*g, &o, &twice));
    if (once.n != twice.n || memcmp(once.s, twice.s, once.n) != 0)
        st = fail(ST_GATE, "exporting the exported model gives other bytes");
done:
    onnx_close(m);
    text_free(&once);
    text_free(&twice);
    return st;
}

status run_tensors(model_run *r, const char *model, const tensor *in, size_t n_in, const tensor *want,
                   size_t n_want)
{
    onnx_model *m = NULL;
    graph *g = NULL;
    status st = ST_OK;
    TRY_DONE(onnx_open(model, r->lim, &m));
    TRY_DONE(onnx_import_for(m, in, n_in, true, &g));
    TRY_DONE(graph_validate(g));
    if (r->export_opset)
        TRY_DONE(reexport(r, &g));
    if (g->n_output != n_want) {
        st = fail(ST_GATE, "%zu outputs, expected %zu", g->n_output, n_want);
        goto done;
    }
    st = execute(r, g, in, n_in, want, n_want);
done:
    graph_free(g);
    onnx_close(m);
    return st;
}

/* ---- data sets ---- */

static status read_numbered(const char *dir, const char *kind, tensor *t, size_t *n)
{
    for (*n = 0; *n < TENSORS_MAX; ++*n) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s_%zu.pb", dir, kind, *n);
        if (!io_exists(path))
            return ST_OK;
        TRY(tensor_read_pb(path, NULL, &t[*n]));
    }
    return ST_OK;
}

/* Some data sets leave out the names: then the order of the model's inputs tells. */
static status name_inputs(const char *model, tensor *in, size_t n_in)
{
    onnx_model *m = NULL;
    TRY(onnx_open(model, NULL, &m));
    status st = onnx_name_inputs(m, in, n_in);
    onnx_close(m);
    return st;
}

status run_data_set(model_run *r, const char *model, const char *dir)
{
    tensor in[TENSORS_MAX] = {{0}}, want[TENSORS_MAX] = {{0}};
    size_t n_in = 0, n_want = 0;
    status st = ST_OK;
    TRY_DONE(read_numbered(dir, "input", in, &n_in));
    TRY_DONE(read_numbered(dir, "output", want, &n_want));
    TRY_DONE(name_inputs(model, in, n_in));
    st = run_tensors(r, model, in, n_in, want, n_want);
done:
    for (size_t i = 0; i < TENSORS_MAX; i++) {
        tensor_free(&in[i]);
        tensor_free(&want[i]);
    }
    return st;
}

/* ---- archives ---- */

bool unpack_archive(const char *path, const char *to)
{
    struct archive *a = archive_read_new(), *disk = archive_write_disk_new();
    struct archive_entry *entry;
    int rc = ARCHIVE_FATAL;
    archive_read_support_format_tar(a);
    archive_read_support_filter_gzip(a);
    archive_write_disk_set_options(disk, ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_SYMLINKS);
    if (archive_read_open_filename(a, path, 1 << 16) == ARCHIVE_OK)
        while ((rc = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
            char place[8192];
            snprintf(place, sizeof place, "%s/%s", to, archive_entry_pathname(entry));
            archive_entry_set_pathname(entry, place);
            if ((rc = archive_read_extract2(a, entry, disk)) < ARCHIVE_WARN)
                break;
        }
    archive_write_free(disk);
    archive_read_free(a);
    return rc == ARCHIVE_EOF;
}
