/* weights.c - which operands of which operators are parameters, their shapes and start values.
 *
 * One row an operand; presets, blocks and layer sections make their weights through builder_op, and a student from ONNX
 * that starts anew draws its weights by the same rows. */
#include "student/builder.h"

#include <inttypes.h>
#include <string.h>

/* ---- shapes ---- */

/* What a shape may depend on; x is the first data input. */
typedef struct weight_place {
    const void *attr;
    shape x;
    const weight_ask *ask;
} weight_place;

static status per_output(const weight_place *p, shape *out)
{
    *out = SHAPE(p->ask->channels);
    return ST_OK;
}

static status per_channel(const weight_place *p, shape *out)
{
    if (p->x.rank < 2)
        return fail(ST_CONFIG, "needs an input with channels, [batch, channels, ...]");
    *out = SHAPE(p->x.dim[1]);
    return ST_OK;
}

static status check_conv(const weight_place *p, const conv_attrs *at)
{
    if (p->x.rank < 3)
        return fail(ST_CONFIG, "needs an input [batch, channels, ...] with spatial axes");
    if (at->kernel_shape.n != p->x.rank - 2)
        return fail(ST_CONFIG, "kernel_shape needs %d numbers, one for every spatial axis of its input",
                    (int)p->x.rank - 2);
    for (int64_t i = 0; i < at->kernel_shape.n; i++)
        if (at->kernel_shape.v[i] < 1)
            return fail(ST_CONFIG, "kernel_shape must be at least 1");
    if (at->group < 1)
        return fail(ST_CONFIG, "group must be at least 1");
    return ST_OK;
}

static status divide(int64_t n, int64_t group, const char *what, int64_t *out)
{
    if (n % group != 0)
        return fail(ST_CONFIG, "%" PRId64 " %s channels do not divide into %" PRId64 " groups", n, what,
                    group);
    *out = n / group;
    return ST_OK;
}

/* [channels, C / group, kernel...] */
static status conv_weight(const weight_place *p, shape *out)
{
    const conv_attrs *at = p->attr;
    int64_t each = 0, all = 0;
    TRY(check_conv(p, at));
    TRY(divide(p->x.dim[1], at->group, "input", &each));
    TRY(divide(p->ask->channels, at->group, "output", &all));
    *out = SHAPE(p->ask->channels, each);
    for (int64_t i = 0; i < at->kernel_shape.n; i++)
        out->dim[out->rank++] = at->kernel_shape.v[i];
    return ST_OK;
}

/* [C, channels / group, kernel...] */
static status conv_transpose_weight(const weight_place *p, shape *out)
{
    const conv_attrs *at = p->attr;
    int64_t each = 0, all = 0;
    TRY(check_conv(p, at));
    TRY(divide(p->ask->channels, at->group, "output", &each));
    TRY(divide(p->x.dim[1], at->group, "input", &all));
    *out = SHAPE(p->x.dim[1], each);
    for (int64_t i = 0; i < at->kernel_shape.n; i++)
        out->dim[out->rank++] = at->kernel_shape.v[i];
    return ST_OK;
}

static status gemm_weight(const weight_place *p, shape *out)
{
    const gemm_attrs *at = p->attr;
    if (p->x.rank != 2)
        return fail(ST_CONFIG,
                    "needs an input [batch, features]; put a Flatten or GlobalAveragePool before it");
    if (at->transA)
        return fail(ST_CONFIG, "transA would put the batch on the wrong axis");
    int64_t features = p->x.dim[1];
    *out = at->transB ? SHAPE(p->ask->channels, features) : SHAPE(features, p->ask->channels);
    return ST_OK;
}

static status matmul_weight(const weight_place *p, shape *out)
{
    if (p->x.rank < 2)
        return fail(ST_CONFIG, "needs an input [batch, ..., features]");
    *out = SHAPE(p->x.dim[p->x.rank - 1], p->ask->channels);
    return ST_OK;
}

static status layer_norm_weight(const weight_place *p, shape *out)
{
    const layer_norm_attrs *at = p->attr;
    int axis = shape_axis(&p->x, at->axis);
    if (axis < 1)
        return fail(ST_CONFIG, "axis %" PRId64 " is none of the axes behind the batch", at->axis);
    *out = shape_from(p->x.dim + axis, (size_t)(p->x.rank - axis));
    return ST_OK;
}

/* [C, 1, 1 ...], which broadcasts over [N, C, ...] */
static status prelu_weight(const weight_place *p, shape *out)
{
    TRY(per_channel(p, out));
    for (int i = 2; i < p->x.rank; i++)
        out->dim[out->rank++] = 1;
    return ST_OK;
}

static status table_weight(const weight_place *p, shape *out)
{
    *out = SHAPE(p->ask->entries, p->ask->channels);
    return ST_OK;
}

/* ---- the rows ---- */

/* How fan_in and fan_out are read off the weight's shape. */
enum { FAN_NONE, FAN_CONV, FAN_GEMM, FAN_MATMUL };
/* Keys that the shape depends on. */
enum { NEED_CHANNELS = 1, NEED_ENTRIES = 2 };

typedef struct weight_row {
    op_id op;
    int operand;
    const char *name;
    value_kind kind;
    uint32_t flags;
    start_rule start;
    int fan, needs;
    bool optional; /* an operand that `bias = false` leaves out */
    status (*shape_of)(const weight_place *p, shape *out);
} weight_row;

#define NORM(enum_, at, name_, rule, shape_)                                                                 \
    {                                                                                                        \
        .op = enum_, .operand = at, .name = name_, .kind = VALUE_PARAM, .flags = VALUE_NO_DECAY_NORM,        \
        .start = rule, .shape_of = shape_                                                                    \
    }
#define STAT(enum_, at, name_, rule)                                                                         \
    {                                                                                                        \
        .op = enum_, .operand = at, .name = name_, .kind = VALUE_STATE, .start = rule,                       \
        .shape_of = per_channel                                                                              \
    }
#define BIAS(enum_, at)                                                                                      \
    {                                                                                                        \
        .op = enum_, .operand = at, .name = "bias", .kind = VALUE_PARAM, .flags = VALUE_NO_DECAY_BIAS,       \
        .start = START_LINEAR, .optional = true, .shape_of = per_output                                      \
    }
#define WEIGHT(enum_, at, rule, fan_, needs_, shape_)                                                        \
    {                                                                                                        \
        .op = enum_, .operand = at, .name = "weight", .kind = VALUE_PARAM, .start = rule, .fan = fan_,       \
        .needs = needs_, .shape_of = shape_                                                                  \
    }

static const weight_row rows[] = {
    WEIGHT(OP_CONV, 1, START_CONV, FAN_CONV, NEED_CHANNELS, conv_weight),
    BIAS(OP_CONV, 2),
    WEIGHT(OP_CONV_TRANSPOSE, 1, START_CONV, FAN_CONV, NEED_CHANNELS, conv_transpose_weight),
    BIAS(OP_CONV_TRANSPOSE, 2),
    WEIGHT(OP_GEMM, 1, START_LINEAR, FAN_GEMM, NEED_CHANNELS, gemm_weight),
    BIAS(OP_GEMM, 2),
    WEIGHT(OP_MATMUL, 1, START_LINEAR, FAN_MATMUL, NEED_CHANNELS, matmul_weight),
    NORM(OP_BATCH_NORM, 1, "weight", START_ONE, per_channel),
    NORM(OP_BATCH_NORM, 2, "bias", START_ZERO, per_channel),
    STAT(OP_BATCH_NORM, 3, "running_mean", START_ZERO),
    STAT(OP_BATCH_NORM, 4, "running_var", START_ONE),
    NORM(OP_INSTANCE_NORM, 1, "weight", START_ONE, per_channel),
    NORM(OP_INSTANCE_NORM, 2, "bias", START_ZERO, per_channel),
    NORM(OP_LAYER_NORM, 1, "weight", START_ONE, layer_norm_weight),
    {.op = OP_LAYER_NORM,
     .operand = 2,
     .name = "bias",
     .kind = VALUE_PARAM,
     .flags = VALUE_NO_DECAY_NORM,
     .start = START_ZERO,
     .optional = true,
     .shape_of = layer_norm_weight},
    WEIGHT(OP_PRELU, 1, START_QUARTER, FAN_NONE, 0, prelu_weight),
    WEIGHT(OP_GATHER, 0, START_NORMAL, FAN_NONE, NEED_CHANNELS | NEED_ENTRIES, table_weight),
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

static const weight_row *row_of(op_id op, int operand)
{
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].op == op && rows[i].operand == operand)
            return &rows[i];
    return NULL;
}

static int needs_of(op_id op)
{
    int needs = 0;
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].op == op)
            needs |= rows[i].needs;
    return needs;
}

bool weight_any(op_id op)
{
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].op == op)
            return true;
    return false;
}

bool weight_takes_channels(op_id op)
{
    return (needs_of(op) & NEED_CHANNELS) != 0;
}

bool weight_takes_entries(op_id op)
{
    return (needs_of(op) & NEED_ENTRIES) != 0;
}

bool weight_takes_bias(op_id op)
{
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].op == op && rows[i].optional)
            return true;
    return false;
}

int weight_data_inputs(op_id op)
{
    int n = 0;
    for (int i = 0; i < op_of(op)->in.min; i++)
        n += row_of(op, i) == NULL;
    return n;
}

/* ---- making them ---- */

/* torch.nn.init._calculate_fan_in_and_fan_out: receptive field times the weight's second and first dimension. */
static void fans_of(int kind, const shape *w, bool rows_are_outputs, int64_t *fan_in, int64_t *fan_out)
{
    if (kind == FAN_NONE || w->rank < 2)
        return;
    bool swapped = kind == FAN_MATMUL || (kind == FAN_GEMM && !rows_are_outputs);
    int first = kind == FAN_CONV ? 0 : w->rank - 2; /* a MatMul's weight may be a stack of matrices */
    int64_t receptive = 1;
    for (int i = 2; i < w->rank && kind == FAN_CONV; i++)
        receptive *= w->dim[i];
    *fan_in = w->dim[first + !swapped] * receptive;
    *fan_out = w->dim[first + swapped] * receptive;
}

static bool outputs_first(op_id op, const void *attr)
{
    return op == OP_GEMM && ((const gemm_attrs *)attr)->transB != 0;
}

typedef struct fans {
    int64_t in, out;
} fans;

static status make_weight(builder *b, const weight_row *r, const char *place, const weight_place *p, fans *f,
                          value_id *out)
{
    shape sh;
    size_t bytes;
    float *start = NULL;
    const char *name;
    status st = ST_OK;
    TRY(r->shape_of(p, &sh));
    TRY(shape_bytes(&sh, DTYPE_F32, &bytes));
    fans_of(r->fan, &sh, outputs_first(r->op, p->attr), &f->in, &f->out);
    TRY(builder_name(b, place, r->name, &name));
    if (!b->bare) {
        TRY(mem_alloc(&start, bytes, 1));
        start_fill(start, shape_count(&sh), r->start, b->job->student.init, f->in, f->out,
                   (uint64_t)b->job->train.seed, name);
    }
    st = graph_add_data(b->g, name, r->kind, DTYPE_F32, sh, start, out);
    mem_free(start);
    TRY(st);
    graph_value(b->g, *out)->flags = r->flags;
    return ST_OK;
}

static status check_ask(op_id op, const weight_ask *ask)
{
    int needs = needs_of(op);
    if ((needs & NEED_CHANNELS) && ask->channels < 1)
        return fail(ST_CONFIG, "needs 'channels', the width of its output");
    if ((needs & NEED_ENTRIES) && ask->entries < 1)
        return fail(ST_CONFIG, "needs 'entries', the rows of its table");
    return ST_OK;
}

enum { MAX_MADE = 8 }; /* operands of an operator that makes its own */

status builder_op(builder *b, const char *place, op_id op, const void *attr, const value_id *in, size_t n,
                  const weight_ask *ask, const char *const *out_names, value_id *out, size_t n_out)
{
    const op_desc *d = op_of(op);
    const char *const *names = out_names && out_names[0] ? out_names : NULL;
    value_id operand[MAX_MADE] = {0};
    fans f = {0};
    if ((int)n >= d->in.min || !weight_any(op)) /* every operand is given */
        return graph_add_named(b->g, place, op, attr, in, n, names, out, n_out);
    if ((int)n != weight_data_inputs(op))
        return fail(ST_CONFIG, "takes %d input%s (or %d with its weights), %zu given", weight_data_inputs(op),
                    weight_data_inputs(op) == 1 ? "" : "s", d->in.min, n);
    TRY(check_ask(op, ask));
    weight_place p = {attr, graph_value(b->g, in[0])->sh, ask};
    int filled = 0;
    size_t next = 0;
    for (int i = 0; i < MAX_MADE && (d->in.max < 0 || i < d->in.max); i++) {
        const weight_row *r = row_of(op, i);
        if (r && (!r->optional || ask->bias)) {
            TRY(make_weight(b, r, place, &p, &f, &operand[i]));
            filled = i + 1;
        } else if (!r && next < n) {
            operand[i] = in[next++];
            filled = i + 1;
        }
    }
    return graph_add_named(b->g, place, op, attr, operand, (size_t)filled, names, out, n_out);
}

/* ---- drawing anew the weights of an imported model ---- */

/* Operands that have no row because ONNX does not call them weights: they start as if they were not there. */
static const struct {
    op_id op;
    start_rule start;
} neutral[] = {{OP_ADD, START_ZERO},
               {OP_SUB, START_ZERO},
               {OP_CONCAT, START_ZERO},
               {OP_MUL, START_ONE},
               {OP_DIV, START_ONE}};

/* Operators that hand a weight on: a parameter behind them is drawn by the rule of the reader. */
static const op_id movers[] = {OP_IDENTITY,  OP_TRANSPOSE, OP_RESHAPE, OP_SQUEEZE,
                               OP_UNSQUEEZE, OP_FLATTEN,   OP_EXPAND,  OP_CAST};

static bool moves(op_id op)
{
    for (size_t i = 0; i < sizeof movers / sizeof movers[0]; i++)
        if (movers[i] == op)
            return true;
    return false;
}

/* The parameter or state that v is, perhaps in another shape; 0: none. */
static value_id stored_behind(const graph *g, value_id v)
{
    while (v && g->value[v].kind == VALUE_TEMP) {
        const node *n = &g->node[g->value[v].from];
        v = g->value[v].from && moves(n->op) ? n->in[0] : 0;
    }
    return v && (g->value[v].kind == VALUE_PARAM || g->value[v].kind == VALUE_STATE) ? v : 0;
}

/* Reads fan_in and fan_out off the node's weight. False: it has none that is stored. */
static bool node_fans(const graph *g, const node *n, fans *f)
{
    for (int i = 0; i < n->n_in && i < MAX_MADE; i++) {
        const weight_row *r = row_of(n->op, i);
        if (r && r->fan != FAN_NONE && stored_behind(g, n->in[i])) {
            fans_of(r->fan, &g->value[n->in[i]].sh, outputs_first(n->op, n->attr), &f->in, &f->out);
            return true;
        }
    }
    if (n->op == OP_MATMUL && stored_behind(g, n->in[0])) { /* weight on the left: [..., out, in] */
        fans_of(FAN_GEMM, &g->value[n->in[0]].sh, true, &f->in, &f->out);
        return true;
    }
    return false;
}

/* The rule for operand i of node n, and its fans. */
static bool rule_of(const graph *g, const node *n, int i, start_rule *rule, fans *f)
{
    const weight_row *r = row_of(n->op, i);
    bool weighted = node_fans(g, n, f);
    if (r || (n->op == OP_MATMUL && weighted)) {
        *rule = r ? r->start : START_LINEAR;
        return true;
    }
    for (int k = 0; k < n->n_in && n->op == OP_ADD; k++) { /* MatMul + Add is a linear layer with a bias */
        node_id from = g->value[n->in[k]].from;
        if (k != i && from && g->node[from].op == OP_MATMUL && node_fans(g, &g->node[from], f)) {
            *rule = START_LINEAR;
            return true;
        }
    }
    for (size_t k = 0; k < sizeof neutral / sizeof neutral[0]; k++)
        if (neutral[k].op == n->op) {
            *rule = neutral[k].start;
            return true;
        }
    return false;
}

static status redraw(graph *g, value_id v, start_rule rule, const fans *f, init_kind init, uint64_t seed)
{
    value *x = graph_value(g, v);
    int64_t n = shape_count(&x->sh);
    void *data;
    float *start;
    size_t bytes;
    TRY(shape_bytes(&x->sh, x->type, &bytes));
    TRY(graph_alloc_data(g, bytes, &data));
    TRY(mem_alloc(&start, (size_t)n, sizeof *start));
    start_fill(start, n, rule, init, f->in, f->out, seed, x->name);
    for (int64_t i = 0; i < n; i++)
        dtype_store(x->type, data, i, (double)start[i]);
    mem_free(start);
    x->data = data;
    return ST_OK;
}

status weight_redraw(graph *g, node_id k, init_kind init, uint64_t seed, uint8_t *done)
{
    const node *n = graph_node(g, k);
    if (moves(n->op))
        return ST_OK;
    for (int i = 0; i < n->n_in; i++) {
        value_id v = stored_behind(g, n->in[i]);
        start_rule rule;
        fans f = {0};
        if (!v || done[v])
            continue;
        if (!rule_of(g, n, i, &rule, &f))
            return fail(ST_CONFIG,
                        "node '%s' (%s): no rule says how its parameter '%s' starts anew; start from the "
                        "stored weights (from_scratch = false)",
                        n->name, op_of(n->op)->name, g->value[v].name);
        TRY(redraw(g, v, rule, &f, init, seed));
        done[v] = 1;
    }
    return ST_OK;
}
