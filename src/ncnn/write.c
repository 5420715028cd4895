/* write.c - the walk over the graph, node by node through the rows; then layers become lines.
 *
 * ncnn wants every blob read once: where it is read more often, or read and also a result, a Split stands behind its layer. */
#include "ncnn/writer.h"

#include "base/io.h"
#include "base/log.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NAME_ROOM 200 /* ncnn reads 255 bytes of a name */

/* ---- names, numbers, shapes ---- */

/* `base` as ncnn's parser reads names, and unlike every other. */
static status unique_name(writer *w, const char *base, const char **out)
{
    char buf[NAME_ROOM];
    uint32_t *taken;
    size_t n = 0;
    for (; base && base[n] && n < NAME_ROOM - 1; n++)
        buf[n] = base[n] > ' ' && base[n] < 0x7f && base[n] != '#' ? base[n] : '_'; /* '#' marks copies */
    buf[n] = 0;
    for (uint32_t i = 1;; i++) {
        if (i == 1)
            TRY(arena_printf(&w->mem, out, "%s", n ? buf : "_"));
        else
            TRY(arena_printf(&w->mem, out, "%s_%" PRIu32, buf, i));
        TRY(name_map_put(&w->names, *out, &taken));
        if (*taken == 0) {
            *taken = 1;
            return ST_OK;
        }
    }
}

const char *nc_number(double v, char *buf)
{
    double limit = (double)FLT_MAX;
    snprintf(buf, NC_NUMBER, "%.8e", fmin(fmax(v, -limit), limit));
    return buf;
}

status nc_dims(writer *w, value_id v, const char **params)
{
    const shape *sh = &graph_value(w->g, v)->sh;
    text t = {0};
    for (int i = 1; i < sh->rank; i++)
        text_printf(&t, " %d=%" PRId64, i - 1, sh->dim[sh->rank - i]);
    status st = t.st;
    if (st == ST_OK)
        st = arena_strdup(&w->mem, params, t.n ? t.s : "");
    text_free(&t);
    return st;
}

static status check_shape(const value *x, const char *what)
{
    char buf[200];
    if (x->sh.rank < 2 || x->sh.rank > 4 || x->sh.dim[0] != 1)
        return fail(ST_BAD_DATA, "%s '%s' has shape %s; ncnn has no batch: values are [1, C, H, W], [1, rows, columns] or [1, columns]",
                    what, x->name, shape_print(&x->sh, buf));
    for (int i = 1; i < x->sh.rank; i++)
        if (x->sh.dim[i] < 1 || x->sh.dim[i] > INT32_MAX)
            return fail(ST_BAD_DATA, "%s '%s' has shape %s, which ncnn cannot hold", what, x->name, shape_print(&x->sh, buf));
    return ST_OK;
}

/* ---- layers ---- */

static status add_blob(writer *w, const char *name, int32_t *out)
{
    if (w->n_blob == 0)
        w->n_blob = 1; /* 0 is no blob */
    if (w->n_blob >= INT32_MAX / 2)
        return fail(ST_BAD_DATA, "more blobs than ncnn counts");
    TRY(mem_push(&w->blob, &w->cap_blob, w->n_blob, sizeof *w->blob));
    w->blob[w->n_blob] = (nc_blob){.name = NULL};
    TRY(unique_name(w, name, &w->blob[w->n_blob].name));
    *out = (int32_t)w->n_blob++;
    return ST_OK;
}

status nc_add(writer *w, const char *type, const char *name, const char *params, const int32_t *in, size_t n_in, int32_t *out)
{
    nc_layer l = {.type = type, .params = params, .n_in = n_in};
    TRY(arena_alloc(&w->mem, &l.in, n_in, sizeof *l.in));
    for (size_t i = 0; i < n_in; i++) {
        l.in[i] = in[i];
        w->blob[in[i]].uses++;
    }
    TRY(add_blob(w, name, &l.out));
    l.name = w->blob[l.out].name;
    TRY(mem_push(&w->layer, &w->cap_layer, w->n_layer, sizeof *w->layer));
    w->layer[w->n_layer++] = l;
    *out = l.out;
    return ST_OK;
}

void nc_put(writer *w, value_id v, int32_t blob)
{
    w->at[v] = (place){.raw = blob};
}

status nc_single(writer *w, const node *n, const nc_row *row, const char *type, const char *params)
{
    int32_t in, out;
    place x = w->at[n->in[0]];
    bool commutes = row->commutes && x.grid > 0;
    TRY(nc_take(w, n->in[0], commutes ? 0 : TAKE_ROUNDED, &in));
    TRY(nc_add(w, type, n->name, params, &in, 1, &out));
    w->at[n->out[0]] = (place){.raw = out, .grid = commutes ? x.grid : 0, .above = row->positive || (commutes && x.above)};
    return ST_OK;
}

/* x -> scale * clip(round(x / scale)): on the grid of int8. */
static status add_rounding(writer *w, value_id v, place *p)
{
    const char *name = graph_value(w->g, v)->name, *mul, *back;
    char buf[NC_NUMBER];
    int32_t t = p->raw;
    TRY(arena_printf(&w->mem, &mul, " 0=2 1=1 2=%s", nc_number(1 / (double)p->grid, buf)));
    TRY(arena_printf(&w->mem, &back, " 0=2 1=1 2=%s", nc_number((double)p->grid, buf)));
    TRY(nc_add(w, "BinaryOp", name, mul, &t, 1, &t));
    TRY(nc_add(w, "UnaryOp", name, " 0=18", &t, 1, &t));
    TRY(nc_add(w, "Clip", name, " 0=-1.28000000e+02 1=1.27000000e+02", &t, 1, &t));
    return nc_add(w, "BinaryOp", name, back, &t, 1, &p->rounded);
}

status nc_take(writer *w, value_id v, int how, int32_t *blob)
{
    place *p = &w->at[v];
    if (!p->raw && !p->codes)
        return fail(ST_BAD_DATA, "value '%s': a constant or an integer stands where ncnn files have a float tensor",
                    graph_value(w->g, v)->name);
    if (p->codes) {
        *blob = p->codes;
        return ST_OK;
    }
    if (p->loose && !(how & TAKE_LOOSE)) {
        const char *params;
        TRY(nc_dims(w, v, &params));
        int32_t *from = p->rounded ? &p->rounded : &p->raw;
        TRY(nc_add(w, "Reshape", graph_value(w->g, v)->name, params, from, 1, from));
        if (p->rounded)
            p->raw = p->rounded; /* what is on the grid stays there when it is rounded again */
        p->loose = false;
    }
    if ((how & TAKE_ROUNDED) && p->grid > 0 && !p->rounded)
        TRY(add_rounding(w, v, p));
    *blob = (how & TAKE_ROUNDED) && p->grid > 0 ? p->rounded : p->raw;
    return ST_OK;
}

/* ---- constants ---- */

node_id nc_only_user(const writer *w, value_id v)
{
    return v && w->uses[v] == 1 ? w->user[v] : 0;
}

/* ---- the walk ---- */

static status begin(writer *w)
{
    const graph *g = w->g;
    TRY(mem_alloc(&w->at, g->n_value, sizeof *w->at));
    TRY(mem_alloc(&w->done, g->n_node, 1));
    TRY(mem_alloc(&w->user, g->n_value, sizeof *w->user));
    TRY(graph_count_uses(g, &w->uses));
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            w->user[g->node[k].in[i]] = (node_id)k;
    for (size_t i = 0; i < g->n_output; i++) {
        w->user[g->output[i]] = 0; /* the graph itself */
        for (size_t j = 0; j < i; j++)
            if (g->output[j] == g->output[i])
                return fail(ST_BAD_DATA, "output '%s' is there twice, which ncnn cannot name", graph_value(g, g->output[i])->name);
    }
    return ST_OK;
}

static status add_inputs(writer *w, const char **output_name)
{
    const graph *g = w->g;
    for (size_t i = 0; i < g->n_input; i++) { /* inputs keep their names, then outputs */
        const value *x = graph_value(g, g->input[i]);
        const char *params;
        int32_t blob;
        if (x->type != DTYPE_F32)
            return fail(ST_BAD_DATA, "input '%s' is %s; ncnn files are written with float32 inputs", x->name, dtype_of(x->type)->name);
        TRY(check_shape(x, "input"));
        TRY(nc_dims(w, g->input[i], &params));
        TRY(nc_add(w, "Input", x->name, params, NULL, 0, &blob));
        w->at[g->input[i]] = (place){.raw = blob, .above = true};
    }
    for (size_t i = 0; i < g->n_output; i++)
        TRY(unique_name(w, graph_value(g, g->output[i])->name, &output_name[i]));
    return ST_OK;
}

static status emit_node(writer *w, const node *n)
{
    const nc_row *row = &nc_rows[n->op];
    if (!row->emit)
        return op_fail(n, "is not written to ncnn files; keep this model as ONNX, or leave the operator out of the student");
    TRY(row->emit(w, n, row));
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] && !qdq_is_const(w->g, n->out[i]) && check_shape(graph_value(w->g, n->out[i]), "value") != ST_OK)
            return op_fail(n, "%s", status_message());
    return ST_OK;
}

static status walk(writer *w, const char **output_name)
{
    const graph *g = w->g;
    TRY(begin(w));
    TRY(add_inputs(w, output_name));
    for (size_t k = 1; k < g->n_node; k++)
        if (!w->done[k])
            TRY(emit_node(w, &g->node[k]));
    for (size_t i = 0; i < g->n_output; i++) {
        int32_t blob;
        TRY(nc_take(w, g->output[i], TAKE_ROUNDED, &blob));
        w->blob[blob].uses++;
    }
    for (size_t i = 0; i < g->n_output; i++) {
        int32_t blob;
        TRY(nc_take(w, g->output[i], TAKE_ROUNDED, &blob)); /* the same again */
        if (w->blob[blob].uses > 1)
            continue;
        if ((size_t)blob <= g->n_input)
            return fail(ST_BAD_DATA, "output '%s' is an input of the model", graph_value(g, g->output[i])->name);
        w->blob[blob].name = output_name[i]; /* nobody else reads it: it bears the output's name */
        output_name[i] = NULL;
    }
    return ST_OK;
}

/* ---- the .param ---- */

typedef struct printer {
    writer *w;
    const char **output_name; /* still to be named, by output */
    const int32_t *output;    /* blob of each */
    uint32_t *given;          /* [n_blob] copies handed out so far */
    text lines;
    size_t layers, blobs;
} printer;

static void put_blob(printer *p, int32_t b, bool read)
{
    text_printf(&p->lines, " %s", p->w->blob[b].name);
    if (read && p->w->blob[b].uses > 1)
        text_printf(&p->lines, "#%" PRIu32, p->given[b]++);
}

/* "Split NAME 1 K blob copies", the copies that are results of the graph under their names, behind those that layers read. */
static void put_split(printer *p, int32_t b)
{
    const nc_blob *x = &p->w->blob[b];
    uint32_t results = 0;
    for (size_t i = 0; i < p->w->g->n_output; i++)
        results += p->output_name[i] && p->output[i] == b;
    text_printf(&p->lines, "Split %s#split 1 %" PRIu32 " %s", x->name, x->uses, x->name);
    for (uint32_t k = 0; k < x->uses - results; k++)
        text_printf(&p->lines, " %s#%" PRIu32, x->name, k);
    for (size_t i = 0; i < p->w->g->n_output; i++)
        if (p->output_name[i] && p->output[i] == b)
            text_printf(&p->lines, " %s", p->output_name[i]);
    text_add(&p->lines, "\n");
    p->layers++;
    p->blobs += x->uses;
}

static void put_layers(printer *p)
{
    for (size_t i = 0; i < p->w->n_layer; i++) {
        const nc_layer *l = &p->w->layer[i];
        text_printf(&p->lines, "%s %s %zu 1", l->type, l->name, l->n_in);
        for (size_t k = 0; k < l->n_in; k++)
            put_blob(p, l->in[k], true);
        put_blob(p, l->out, false);
        text_printf(&p->lines, "%s\n", l->params);
        p->layers++;
        p->blobs++;
        if (p->w->blob[l->out].uses > 1)
            put_split(p, l->out);
    }
}

static status print_param(writer *w, const char **output_name, text *param)
{
    printer p = {.w = w, .output_name = output_name};
    int32_t *output = NULL;
    status st = mem_alloc(&output, w->g->n_output, sizeof *output);
    if (st == ST_OK)
        st = mem_alloc(&p.given, w->n_blob + 1, sizeof *p.given);
    for (size_t i = 0; st == ST_OK && i < w->g->n_output; i++)
        st = nc_take(w, w->g->output[i], TAKE_ROUNDED, &output[i]);
    if (st == ST_OK) {
        p.output = output;
        put_layers(&p);
        text_printf(param, "7767517\n%zu %zu\n", p.layers, p.blobs);
        text_add_n(param, p.lines.s, p.lines.n);
        w->facts.layers = p.layers;
        st = p.lines.st != ST_OK ? p.lines.st : param->st;
    }
    text_free(&p.lines);
    mem_free(p.given);
    mem_free(output);
    return st;
}

/* ---- the whole ---- */

status ncnn_write(const graph *g, text *param, text *bin, ncnn_facts *facts)
{
    writer w = {0};
    graph *own = NULL; /* borrows the data of g, which stays as it is */
    const char **output_name = NULL;
    size_t start = param->n;
    status st = ST_OK;
    TRY_DONE(graph_share(g, &own));
    TRY_DONE(pass_fold_batch_norm(own));
    TRY_DONE(pass_dead_nodes(own));
    w.g = own;
    TRY_DONE(mem_alloc(&output_name, own->n_output, sizeof *output_name));
    TRY_DONE(walk(&w, output_name));
    TRY_DONE(w.bin.st);
    TRY_DONE(print_param(&w, output_name, param));
    text_add_n(bin, w.bin.s, w.bin.n);
    TRY_DONE(bin->st);
    w.facts.param_bytes = param->n - start;
    w.facts.bin_bytes = w.bin.n;
    if (facts)
        *facts = w.facts;
done:
    if (st != ST_OK && param->s)
        param->s[param->n = start] = 0;
    text_free(&w.bin);
    name_map_free(&w.names);
    arena_free(&w.mem);
    mem_free(w.blob);
    mem_free(w.layer);
    mem_free(w.at);
    mem_free(w.done);
    mem_free(w.uses);
    mem_free(w.user);
    mem_free(output_name);
    graph_free(own);
    return st;
}

status ncnn_write_files(const graph *g, const char *path, ncnn_facts *facts)
{
    size_t n = strlen(path);
    arena mem = {0};
    text param = {0}, bin = {0};
    const char *bin_path;
    status st = ST_OK;
    if (n < 7 || strcmp(path + n - 6, ".param") != 0)
        return fail(ST_CONFIG, "'%s': a file of ncnn's layers ends in .param", path);
    TRY_DONE(arena_printf(&mem, &bin_path, "%.*s.bin", (int)(n - 6), path));
    st = ncnn_write(g, &param, &bin, facts);
    if (st != ST_OK)
        st = fail_within(st, "%s", path);
    TRY_DONE(st);
    TRY_DONE(io_write_file(bin_path, bin.n ? bin.s : "", bin.n));
    TRY_DONE(io_write_file(path, param.s, param.n));
done:
    text_free(&param);
    text_free(&bin);
    arena_free(&mem);
    return st;
}

status ncnn_write_beside(const graph *g, const char *path, bool *written)
{
    size_t n = strlen(path), stem = n > 5 && strcmp(path + n - 5, ".onnx") == 0 ? n - 5 : n;
    arena mem = {0};
    const char *to;
    status st = arena_printf(&mem, &to, "%.*s.param", (int)stem, path);
    if (st == ST_OK)
        st = ncnn_write_files(g, to, NULL);
    *written = st == ST_OK;
    if (st == ST_BAD_DATA) {
        log_info("no ncnn file: %s", status_message());
        status_clear();
        st = ST_OK;
    }
    arena_free(&mem);
    return st;
}

bool ncnn_takes(op_id op)
{
    return nc_rows[op].emit != NULL;
}
