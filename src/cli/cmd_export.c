/* cmd_export.c - `distill export MODEL`: an existing model as a TFLite file, as ncnn's two files, or as ONNX the way this
 * program writes it. */
#include "base/io.h"
#include "base/log.h"
#include "cli/cli.h"
#include "ncnn/write.h"
#include "onnx/import.h"
#include "tflite/write.h"

#include <inttypes.h>
#include <string.h>

typedef struct exported {
    arena mem;
    const char *out;
    onnx_model *m;
    graph *g;
    export_pair *meta;
    size_t n_meta;
    tflite_facts facts;
    size_t bytes;
} exported;

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && strcmp(s + n - k, end) == 0;
}

static status choose_out(cli *c, exported *x)
{
    const char *model = c->o.args.n == 1 ? c->o.args.at[0] : NULL;
    if (!model)
        return fail(ST_USAGE, "which model? distill export MODEL [--out FILE.tflite]");
    int stem = (int)(strlen(model) - (ends_with(model, ".onnx") ? 5 : 0));
    if (c->o.out)
        TRY(arena_strdup(&x->mem, &x->out, c->o.out));
    else
        TRY(arena_printf(&x->mem, &x->out, "%.*s.tflite", stem, model));
    if (!ends_with(x->out, ".tflite") && !ends_with(x->out, ".onnx") && !ends_with(x->out, ".param"))
        return fail(ST_USAGE, "'%s': the name's end says the form; use .tflite, .param (ncnn) or .onnx", x->out);
    if (ends_with(x->out, ".param") && c->o.batch > 1)
        return fail(ST_USAGE, "ncnn has no batch; leave --batch out");
    if (strcmp(x->out, model) == 0)
        return fail(ST_USAGE, "--out is the model itself");
    return ST_OK;
}

static status write_tflite(const cli *c, exported *x)
{
    tflite_options o = {.int8_ports = c->o.int8_ports, .fixed_batch = c->o.batch > 0, .meta = x->meta, .n_meta = x->n_meta};
    text t = {0};
    status st = tflite_write(x->g, &o, &t, &x->facts);
    if (st == ST_OK)
        st = io_write_file(x->out, t.s, t.n);
    else
        st = fail_within(st, "%s", x->m->path);
    x->bytes = t.n;
    text_free(&t);
    return st;
}

static status write_onnx(const cli *c, exported *x)
{
    export_options o = {.fixed_batch = c->o.batch > 0, .meta = x->meta, .n_meta = x->n_meta};
    text t = {0};
    status st = onnx_export(x->g, &o, &t);
    if (st == ST_OK)
        st = io_write_file(x->out, t.s, t.n);
    x->bytes = t.n;
    x->facts = (tflite_facts){.dynamic_batch = !o.fixed_batch, .batch = c->o.batch, .operators = x->g->n_node - 1};
    text_free(&t);
    return st;
}

static status write_ncnn(exported *x)
{
    ncnn_facts f;
    TRY(ncnn_write_files(x->g, x->out, &f));
    if (f.widened)
        log_info("%s: %zu products on integers are computed in float32: what they read may hold code -128, or their sums pass what "
                 "ncnn's int8 kernel rounds right", x->out, f.widened);
    x->bytes = f.param_bytes + f.bin_bytes;
    x->facts = (tflite_facts){.batch = 1, .operators = f.layers, .int8_operators = f.int8_layers};
    return ST_OK;
}

static void describe(const exported *x, bool as_json, text *t)
{
    char size[24];
    if (!as_json) {
        text_printf(t, "%s: %s, %zu operators, %zu of them int8, ", x->out, human_bytes((double)x->bytes, size),
                    x->facts.operators, x->facts.int8_operators);
        if (x->facts.dynamic_batch || !x->facts.batch)
            text_add(t, "any batch\n");
        else
            text_printf(t, "a batch of %" PRId64 "\n", x->facts.batch);
        return;
    }
    json j = {.out = t};
    json_put_object(&j, NULL);
    json_put_string(&j, "path", x->out);
    json_put_int(&j, "bytes", (int64_t)x->bytes);
    json_put_int(&j, "operators", (int64_t)x->facts.operators);
    json_put_int(&j, "int8_operators", (int64_t)x->facts.int8_operators);
    json_put_bool(&j, "dynamic_batch", x->facts.dynamic_batch);
    json_put_int(&j, "batch", x->facts.batch);
    json_end_object(&j);
    text_add(t, "\n");
}

status cmd_export(cli *c)
{
    exported x = {0};
    text t = {0};
    status st = ST_OK;
    TRY_DONE(choose_out(c, &x));
    TRY_DONE(onnx_open(c->o.args.at[0], NULL, &x.m));
    TRY_DONE(onnx_import(x.m, &(import_options){.batch = ends_with(x.out, ".param") ? 1 : c->o.batch}, &x.g));
    x.n_meta = onnx_meta_count(x.m);
    TRY_DONE(mem_alloc(&x.meta, x.n_meta, sizeof *x.meta));
    for (size_t i = 0; i < x.n_meta; i++)
        onnx_meta(x.m, i, &x.meta[i].key, &x.meta[i].value);
    st = ends_with(x.out, ".tflite") ? write_tflite(c, &x) : ends_with(x.out, ".param") ? write_ncnn(&x) : write_onnx(c, &x);
    TRY_DONE(st);
    describe(&x, c->o.json, &t);
    st = cli_print(&t);
done:
    text_free(&t);
    mem_free(x.meta);
    graph_free(x.g);
    onnx_close(x.m);
    arena_free(&x.mem);
    return st;
}
