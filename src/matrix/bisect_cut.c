/* bisect_cut.c - see bisect_cut.h. A cut is the shared graph with another output and without the nodes behind it. */
#include "matrix/bisect_cut.h"

#include "exec/exec.h"
#include "graph/widen_half.h"
#include "ncnn/write.h"
#include "onnx/export.h"
#include "quant/operator_form.h"
#include "onnx/import.h"
#include "ops/common.h"
#include "ops/qdq.h"
#include "tflite/write.h"

#include <string.h>

/* ---- where it can be cut ---- */

/* active[v]: depends on the input. rounds[v]: a QuantizeLinear lies behind it before any DequantizeLinear. */
static void mark(const graph *g, uint8_t *active, uint8_t *rounds)
{
    for (size_t i = 0; i < g->n_input; i++)
        active[g->input[i]] = 1;
    for (size_t k = 1; k < g->n_node; k++) {
        uint8_t any = 0;
        for (int i = 0; i < g->node[k].n_in; i++)
            any |= g->node[k].in[i] ? active[g->node[k].in[i]] : 0;
        for (int i = 0; i < g->node[k].n_out; i++)
            if (g->node[k].out[i])
                active[g->node[k].out[i]] = any;
    }
    for (size_t k = g->n_node; k-- > 1;) {
        const node *n = &g->node[k];
        uint8_t any = qdq_is_quantize(n);
        for (int i = 0; i < n->n_out && !qdq_is_dequantize(n); i++)
            any |= n->out[i] ? rounds[n->out[i]] : 0;
        for (int i = 0; i < n->n_in && any; i++)
            if (n->in[i])
                rounds[n->in[i]] = 1;
    }
}

/* The node behind rounding and activations that computes v. */
static const node *layer_of(const graph *g, value_id v)
{
    const node *n = graph_node(g, graph_value(g, v)->from);
    while (n->n_in > 0 && graph_value(g, n->in[0])->from &&
           (qdq_is_dequantize(n) || qdq_is_quantize(n) || n->op == OP_RELU || n->op == OP_CLIP || (op_of(n->op)->flags & OP_VIEW)))
        n = graph_node(g, graph_value(g, n->in[0])->from);
    return n;
}

static status find_points(cut_model *m)
{
    const graph *g = m->g;
    uint8_t *active = NULL, *rounds = NULL;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&active, g->n_value, 1));
    TRY_DONE(mem_alloc(&rounds, g->n_value, 1));
    TRY_DONE(arena_alloc(&m->mem, &m->point, g->n_value, sizeof *m->point));
    mark(g, active, rounds);
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        qdq q;
        bool from_codes = qdq_is_dequantize(n);
        for (int i = 0; i < n->n_out; i++) {
            value_id v = n->out[i];
            const value *x = graph_value(g, v);
            if (!v || !active[v] || (x->type != DTYPE_F32 && x->type != DTYPE_F16) || x->sh.rank < 1 || (rounds[v] && !from_codes))
                continue;
            m->point[m->n++] = (cut_point){.v = v, .layer = layer_of(g, v),
                                           .grid = from_codes && qdq_of_node(g, n, &q) && q.n == 1 ? (double)q.scale[0] : 0};
        }
    }
    if (!m->n)
        st = fail(ST_BAD_DATA, "no value of the model can be cut at");
done:
    mem_free(active);
    mem_free(rounds);
    return st;
}

/* ---- our executor ---- */

/* Graph inputs after the first would need data of their own. */
static status feed(const exec *e, const graph *g, const tensor *x)
{
    const value *in = graph_value(g, g->input[0]);
    if (g->n_input != 1)
        return fail(ST_BAD_DATA, "a model with %zu inputs is not searched", g->n_input);
    if (in->type != x->type || shape_count(&in->sh) != shape_count(&x->sh))
        return fail(ST_BAD_DATA, "its input '%s' does not take the samples' type or shape", in->name);
    memcpy(exec_data(e, g->input[0]), x->data, tensor_bytes(x));
    return ST_OK;
}

static status run_all(cut_model *m, const char *path, const onnx_model *file, const tensor *x, int threads)
{
    backend *b = NULL;
    graph *g = NULL;
    exec *e = NULL;
    value_id *at = NULL;
    status st = ST_OK;
    TRY_DONE(onnx_import(file, &(import_options){.batch = x->sh.dim[0]}, &g));
    TRY_DONE(mem_alloc(&at, m->n, sizeof *at));
    g->n_output = 0;
    for (size_t i = 0; i < m->n; i++) {
        const char *name = graph_value(m->g, m->point[i].v)->name;
        at[i] = graph_find(g, name);
        if (!at[i])
            st = fail(ST_INTERNAL, "%s: value '%s' vanished with another batch", path, name);
        TRY_DONE(st);
        TRY_DONE(graph_add_output(g, at[i]));
    }
    TRY_DONE(pass_widen_half(g));
    TRY_DONE(backend_open("cpu", &(backend_options){.threads = threads, .max_isa = ISA_AVX512, .layout = LAYOUT_PLAIN}, &b));
    TRY_DONE(exec_open(g, b, NULL, 0, &e));
    TRY_DONE(feed(e, g, x));
    TRY_DONE(exec_run(e, PHASE_MAIN));
    for (size_t i = 0; i < m->n; i++) { /* passes keep the outputs' order */
        const value *y = graph_value(g, g->output[i]);
        tensor *t = &m->point[i].want;
        if (y->type != DTYPE_F32)
            st = fail(ST_INTERNAL, "value '%s' is no float32", y->name);
        TRY_DONE(st);
        TRY_DONE(tensor_new(t, graph_value(m->g, m->point[i].v)->name, DTYPE_F32, y->sh));
        memcpy(t->data, exec_data(e, g->output[i]), tensor_bytes(t));
    }
done:
    exec_close(e);
    graph_free(g);
    backend_close(b);
    mem_free(at);
    return st;
}

status cut_open(const char *path, const tensor *x, int threads, cut_model *out)
{
    onnx_model *file = NULL;
    status st = ST_OK;
    *out = (cut_model){0};
    TRY_DONE(onnx_open(path, NULL, &file));
    TRY_DONE(onnx_import(file, &(import_options){.batch = 1}, &out->g));
    TRY_DONE(find_points(out));
    TRY_DONE(run_all(out, path, file, x, threads));
done:
    onnx_close(file);
    return st;
}

void cut_close(cut_model *m)
{
    for (size_t i = 0; i < m->n; i++)
        tensor_free(&m->point[i].want);
    graph_free(m->g);
    arena_free(&m->mem);
    *m = (cut_model){0};
}

/* ---- what lies above ---- */

status cut_above(const cut_model *m, size_t i, size_t *above, size_t room, size_t *n)
{
    const graph *g = m->g;
    uint8_t *need = NULL;
    size_t *point_of = NULL;
    status st = mem_alloc(&need, g->n_value, 1);
    *n = 0;
    if (st == ST_OK)
        st = mem_alloc(&point_of, g->n_value, sizeof *point_of);
    for (size_t k = 0; st == ST_OK && k < i; k++)
        point_of[m->point[k].v] = k + 1;
    if (st == ST_OK)
        need[m->point[i].v] = 1;
    for (size_t k = g->n_node; st == ST_OK && k-- > 1;) {
        bool wanted = false;
        for (int o = 0; o < g->node[k].n_out; o++) {
            value_id v = g->node[k].out[o];
            wanted |= v && need[v] && !point_of[v];
            if (v && need[v] == 1 && point_of[v] && *n < room) {
                above[(*n)++] = point_of[v] - 1;
                need[v] = 2; /* once */
            }
        }
        for (int o = 0; wanted && o < g->node[k].n_in; o++)
            if (g->node[k].in[o] && !need[g->node[k].in[o]])
                need[g->node[k].in[o]] = 1;
    }
    mem_free(need);
    mem_free(point_of);
    return st;
}

/* ---- files ---- */

static status write_form(const graph *g, const char *form, const char *stem, arena *mem, const char **path)
{
    if (strcmp(form, "tflite") == 0) {
        TRY(arena_printf(mem, path, "%s.tflite", stem));
        return tflite_write_file(g, NULL, *path);
    }
    if (strcmp(form, "ncnn") == 0) {
        TRY(arena_printf(mem, path, "%s.param", stem));
        return ncnn_write_files(g, *path, NULL);
    }
    TRY(arena_printf(mem, path, "%s.onnx", stem));
    if (strcmp(form, "qoperator") == 0)
        return operator_form_write(g, *path);
    return onnx_export_file(g, &(export_options){.opset = EXPORT_OPSET_MAX}, *path);
}

status cut_write(const cut_model *m, size_t i, const char *form, const char *stem, arena *mem, const char **path)
{
    graph *g = NULL;
    status st = graph_share(m->g, &g);
    if (st == ST_OK) {
        g->n_output = 0;
        st = graph_add_output(g, m->point[i].v);
    }
    if (st == ST_OK)
        st = pass_dead_nodes(g);
    if (st == ST_OK)
        st = write_form(g, form, stem, mem, path);
    graph_free(g);
    return st;
}

/* The value of `to` that stands for v, made on the way when it is a constant. */
static status copy_value(const graph *from, graph *to, value_id v, value_id *map)
{
    const value *x = graph_value(from, v);
    if (!v || map[v])
        return ST_OK;
    if (x->kind != VALUE_CONST)
        return fail(ST_INTERNAL, "value '%s' lies above the cut", x->name);
    return graph_add_data(to, x->name, VALUE_CONST, x->type, x->sh, x->data, &map[v]);
}

static status copy_nodes(const graph *from, graph *to, const uint8_t *take, value_id *map)
{
    for (size_t k = 1; k < from->n_node; k++) {
        const node *n = &from->node[k];
        value_id in[64], out[8];
        const char *names[8];
        if (!take[k])
            continue;
        if (n->n_in > 64 || n->n_out > 8)
            return fail(ST_BAD_DATA, "node '%s' has too many operands to stand alone", n->name);
        for (int i = 0; i < n->n_in; i++) {
            TRY(copy_value(from, to, n->in[i], map));
            in[i] = map[n->in[i]];
        }
        for (int i = 0; i < n->n_out; i++)
            names[i] = graph_value(from, n->out[i])->name;
        TRY(graph_add_named(to, n->name, n->op, n->attr, in, n->n_in, names, out, n->n_out));
        for (int i = 0; i < n->n_out; i++)
            map[n->out[i]] = out[i];
    }
    return ST_OK;
}

static status build_alone(const cut_model *m, size_t i, const size_t *above, size_t n, graph *to, uint8_t *take, uint8_t *need,
                          value_id *map)
{
    const graph *g = m->g;
    for (size_t k = 0; k < n; k++) {
        const value *x = graph_value(g, m->point[above[k]].v);
        TRY(graph_add_input(to, x->name, x->type, x->sh, &map[m->point[above[k]].v]));
        graph_value(to, map[m->point[above[k]].v])->flags |= VALUE_BATCHED;
    }
    need[m->point[i].v] = 1;
    for (size_t k = g->n_node; k-- > 1;) {
        for (int o = 0; o < g->node[k].n_out; o++)
            take[k] |= g->node[k].out[o] && need[g->node[k].out[o]] && !map[g->node[k].out[o]];
        for (int o = 0; take[k] && o < g->node[k].n_in; o++)
            need[g->node[k].in[o]] = 1;
    }
    TRY(copy_nodes(g, to, take, map));
    return graph_add_output(to, map[m->point[i].v]);
}

status cut_write_alone(const cut_model *m, size_t i, const size_t *above, size_t n, const char *form, const char *stem, arena *mem,
                       const char **path)
{
    graph *to = NULL;
    uint8_t *take = NULL, *need = NULL;
    value_id *map = NULL;
    status st = ST_OK;
    TRY_DONE(graph_new(&to));
    TRY_DONE(mem_alloc(&take, m->g->n_node, 1));
    TRY_DONE(mem_alloc(&need, m->g->n_value, 1));
    TRY_DONE(mem_alloc(&map, m->g->n_value, sizeof *map));
    TRY_DONE(build_alone(m, i, above, n, to, take, need, map));
    TRY_DONE(write_form(to, form, stem, mem, path));
done:
    graph_free(to);
    mem_free(take);
    mem_free(need);
    mem_free(map);
    return st;
}
