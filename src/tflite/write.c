/* write.c - the walk over the graph: which batch, which groups, node by node through the rows, then the ports. */
#include "tflite/write.h"

#include "base/io.h"
#include "base/log.h"
#include "tflite/writer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- what is known before the walk ---- */

static status find_users(writer *w)
{
    const graph *g = w->g;
    TRY(graph_count_uses(g, &w->uses));
    TRY(mem_alloc(&w->first, g->n_value + 1, sizeof *w->first));
    size_t total = 0;
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++, total++)
            w->first[g->node[k].in[i]]++;
    TRY(mem_alloc(&w->user, total, sizeof *w->user));
    uint32_t end = 0;
    for (size_t v = 0; v <= g->n_value; v++) { /* now the end of each list; filling from behind makes it the start */
        end += v < g->n_value ? w->first[v] : 0;
        w->first[v] = end;
    }
    for (size_t k = g->n_node; k-- > 1;)
        for (int i = g->node[k].n_in; i-- > 0;)
            w->user[--w->first[g->node[k].in[i]]] = (node_id)k;
    return ST_OK;
}

static uint32_t user_count(const writer *w, value_id v)
{
    return w->first[v + 1] - w->first[v];
}

/* The node that alone uses v, which is no output of the graph; 0: none. */
static node_id only_user(const writer *w, value_id v)
{
    return v && w->uses[v] == 1 && user_count(w, v) == 1 ? w->user[w->first[v]] : 0;
}

/* A constant operand as large as the batch: the batch is built into it. */
static bool holds_batch(const writer *w, const node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        const value *x = graph_value(w->g, n->in[i]);
        if (n->in[i] && qdq_is_const(w->g, n->in[i]) && w->batch > 1 && tfl_rows[n->op].keeps_order &&
            x->sh.rank == graph_value(w->g, n->out[0])->sh.rank && x->sh.rank > 0 && x->sh.dim[0] == w->batch)
            return true;
    }
    return false;
}

/* Which values depend on the batch, and whether it may stay open: it must be dimension 0 of all of them. */
static void find_batch(writer *w)
{
    const graph *g = w->g;
    for (size_t i = 0; i < g->n_input; i++) {
        const value *v = graph_value(g, g->input[i]);
        if (!(v->flags & VALUE_BATCHED) || v->sh.rank == 0)
            continue;
        w->batch = v->sh.dim[0];
        w->batched[g->input[i]] = 1;
    }
    w->dynamic = w->batch > 0 && !w->o->fixed_batch;
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        uint8_t any = 0;
        for (int i = 0; i < n->n_in; i++)
            any |= n->in[i] ? w->batched[n->in[i]] : 0;
        for (int i = 0; i < n->n_out; i++) {
            const value *y = graph_value(g, n->out[i]);
            if (!n->out[i] || !any)
                continue;
            w->batched[n->out[i]] = 1;
            if (y->sh.rank == 0 || y->sh.dim[0] != w->batch || holds_batch(w, n))
                w->dynamic = false;
        }
    }
}

/* ---- groups ---- */

static bool expressible(double lo, double hi, int *act)
{
    static const struct {
        double lo, hi;
        int act;
    } known[] = {{-INFINITY, INFINITY, TFL_ACT_NONE}, {0, INFINITY, TFL_ACT_RELU}, {0, 6, TFL_ACT_RELU6},
                 {-1, 1, TFL_ACT_RELU_N1_TO_1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].lo == lo && known[i].hi == hi) {
            *act = known[i].act;
            return true;
        }
    return false;
}

/* The codes cannot leave the bounds. */
static bool implied(const qdq *q, double lo, double hi)
{
    int64_t zero = qdq_zero(q, 0), least = q->type == DTYPE_U8 ? 0 : -128;
    double s = (double)q->scale[0];
    return s * (double)(least - zero) >= lo && s * (double)(least + 255 - zero) <= hi;
}

static bool inputs_quantised(const writer *w, const node *n, const tfl_row *row)
{
    for (int i = 0; i < row->data_in; i++)
        if (i >= n->n_in || !writer_has_q(w, n->in[i]))
            return false;
    return !row->int8_ok || row->int8_ok(w, n);
}

void group_find(const writer *w, const node *n, const tfl_row *row, group *out)
{
    double lo = -INFINITY, hi = INFINITY;
    *out = (group){.y = n->out[0]};
    if (row->clamp)
        row->clamp(n, &lo, &hi);
    node_id next = only_user(w, out->y), act = 0;
    value_id y = out->y;
    if (next && row->fuses && tfl_rows[graph_node(w->g, next)->op].clamp) {
        act = next;
        tfl_rows[graph_node(w->g, act)->op].clamp(graph_node(w->g, act), &lo, &hi);
        y = graph_node(w->g, act)->out[0];
        next = only_user(w, y);
    }
    bool fits = expressible(lo, hi, &out->act), q_behind = next && qdq_is_quantize(graph_node(w->g, next));
    if (row->int8 && q_behind && qdq_of_node(w->g, graph_node(w->g, next), &out->out) && out->out.n == 1 &&
        (out->out.type == DTYPE_U8 || out->out.type == DTYPE_I8) && inputs_quantised(w, n, row) &&
        (fits || implied(&out->out, lo, hi))) {
        out->q = true;
        out->act_node = act;
        out->q_node = next;
        out->y = out->out.codes;
        out->act = fits ? out->act : TFL_ACT_NONE;
    } else if (fits && act) {
        out->act_node = act;
        out->y = y;
    } else if (!row->clamp) {
        out->act = TFL_ACT_NONE;
    }
}

status group_result(writer *w, const group *gr, order as, int32_t *t)
{
    tfl_quant q;
    if (gr->q)
        TRY(writer_quant(w, &gr->out, &q));
    TRY(writer_tensor(w, gr->y, as, gr->q ? &q : NULL, t));
    writer_put(w, gr->y, gr->q, as, *t);
    w->done[gr->act_node] = w->done[gr->q_node] = 1; /* node 0 is nobody */
    return ST_OK;
}

bool writer_flat_serves(writer *w, value_id v)
{
    for (;;) { /* a chain; a fork of elementwise operators is not followed */
        uint32_t n = user_count(w, v);
        if (n == 0 || w->uses[v] != n)
            return false;
        bool columns = true;
        for (uint32_t i = 0; i < n; i++) {
            const node *u = graph_node(w->g, w->user[w->first[v] + i]);
            columns &= tfl_rows[u->op].columns && u->in[0] == v && qdq_is_const(w->g, u->in[1]);
        }
        if (columns)
            return true;
        const node *u = graph_node(w->g, w->user[w->first[v]]);
        if (n != 1 || !tfl_rows[u->op].keeps_order || u->in[0] != v)
            return false;
        for (int i = 1; i < u->n_in; i++)
            if (u->in[i] && !(qdq_is_const(w->g, u->in[i]) && shape_count(&graph_value(w->g, u->in[i])->sh) == 1))
                return false;
        v = u->out[0];
    }
}

/* ---- ports ---- */

static status add_inputs(writer *w)
{
    const graph *g = w->g;
    for (size_t i = 0; i < g->n_input; i++) {
        value_id v = g->input[i], holder = v;
        const value *x = graph_value(g, v);
        order as = x->sh.rank == 4 ? ORDER_IMAGE : ORDER_PLAIN;
        node_id next = only_user(w, v);
        qdq q;
        tfl_quant quant = {0};
        int32_t t;
        bool bytes = x->type == DTYPE_U8 || x->type == DTYPE_I8;
        if (!bytes && x->type != DTYPE_F32)
            return fail(ST_BAD_DATA, "input '%s' is %s; TFLite files are written with float32, uint8 or int8 inputs", x->name,
                        dtype_of(x->type)->name);
        bool at_edge = w->o->int8_ports && next && qdq_is_quantize(graph_node(g, next)) &&
                       qdq_of_node(g, graph_node(g, next), &q) && q.n == 1;
        if (at_edge) {
            TRY(writer_quant(w, &q, &quant));
            holder = q.codes;
            w->done[next] = 1;
        }
        TRY(writer_tensor(w, v, as, bytes || at_edge ? &quant : NULL, &t));
        writer_put(w, holder, bytes || at_edge, as, t);
        TRY(tfl_add_port(&w->m.in, &w->m.n_in, &w->m.cap_in, x->name, t));
    }
    return ST_OK;
}

static status add_outputs(writer *w)
{
    const graph *g = w->g;
    for (size_t i = 0; i < g->n_output; i++) {
        value_id v = g->output[i];
        const value *x = graph_value(g, v);
        bool q = w->at[v].q >= 0 && (w->o->int8_ports || x->type != DTYPE_F32);
        int32_t t;
        TRY(writer_take(w, v, x->sh.rank == 4 ? ORDER_IMAGE : ORDER_PLAIN, q, &t));
        TRY(tfl_add_port(&w->m.out, &w->m.n_out, &w->m.cap_out, x->name, t));
    }
    return ST_OK;
}

/* ---- the whole ---- */

static status emit_node(writer *w, const node *n)
{
    const tfl_row *row = &tfl_rows[n->op];
    if (!row->emit)
        return op_fail(n, "is not written to TFLite files; keep this model as ONNX, or leave the operator out of the student");
    return row->emit(w, n, row);
}

static status walk(writer *w)
{
    const graph *g = w->g;
    TRY(mem_alloc(&w->at, g->n_value, sizeof *w->at));
    TRY(mem_alloc(&w->batched, g->n_value, 1));
    TRY(mem_alloc(&w->done, g->n_node, 1));
    for (size_t v = 0; v < g->n_value; v++)
        w->at[v].f = w->at[v].q = -1;
    TRY(find_users(w));
    find_batch(w);
    TRY(add_inputs(w));
    for (size_t k = 1; k < g->n_node; k++)
        if (!w->done[k])
            TRY(emit_node(w, &g->node[k]));
    return add_outputs(w);
}

status tflite_write(const graph *g, const tflite_options *o, text *out, tflite_facts *facts)
{
    static const tflite_options defaults = {0};
    writer w = {.o = o ? o : &defaults};
    graph *own = NULL; /* borrows the data of g, which stays as it is */
    size_t start = out->n;
    status st = graph_share(g, &own);
    if (st == ST_OK)
        st = pass_fold_batch_norm(own);
    if (st == ST_OK)
        st = pass_dead_nodes(own);
    w.g = own;
    if (st == ST_OK)
        st = walk(&w);
    if (st == ST_OK)
        st = tfl_model_bytes(&w.m, w.o, out);
    if (st == ST_OK && facts)
        *facts = (tflite_facts){.dynamic_batch = w.dynamic, .batch = w.dynamic ? 1 : w.batch, .operators = w.m.n_op,
                                .int8_operators = w.int8_ops};
    tfl_model_free(&w.m);
    mem_free(w.at);
    mem_free(w.batched);
    mem_free(w.done);
    mem_free(w.uses);
    mem_free(w.first);
    mem_free(w.user);
    graph_free(own);
    if (st != ST_OK)
        out->n = start;
    return st;
}

/* A failure to write the form, which is the graph's, has no path in its message. */
static status write_to(const graph *g, const tflite_options *o, const char *path)
{
    text out = {0};
    tflite_facts facts = {0};
    status st = tflite_write(g, o, &out, &facts);
    if (st == ST_OK && facts.batch && !facts.dynamic_batch && !(o && o->fixed_batch))
        log_info("%s: the graph has its batch of %" PRId64 " built in; so has the file", path, facts.batch);
    if (st == ST_OK)
        st = io_write_file(path, out.s, out.n);
    text_free(&out);
    return st;
}

status tflite_write_file(const graph *g, const tflite_options *o, const char *path)
{
    status st = write_to(g, o, path);
    return st == ST_BAD_DATA ? fail_within(st, "%s", path) : st;
}

status tflite_name_beside(arena *mem, const char *path, const char **out)
{
    size_t n = strlen(path), stem = n > 5 && strcmp(path + n - 5, ".onnx") == 0 ? n - 5 : n;
    return arena_printf(mem, out, "%.*s.tflite", (int)stem, path);
}

status tflite_write_beside(const graph *g, const tflite_options *o, const char *path, text *why)
{
    arena mem = {0};
    const char *to;
    status st = ST_OK;
    TRY_DONE(tflite_name_beside(&mem, path, &to));
    TRY_DONE(io_remove(to));
    st = write_to(g, o, to);
    if (st == ST_BAD_DATA) {
        if (why)
            text_add(why, status_message());
        status_clear();
        st = ST_OK;
    }
done:
    arena_free(&mem);
    return st;
}

bool tflite_takes(op_id op)
{
    return tfl_rows[op].emit != NULL;
}
