/* train_graph.c - student + losses -> gradients -> updates, all as nodes of one graph. */
#include "distill/train_graph.h"
#include "base/hash.h"
#include "ops/attrs.h"
#include "quant/qat.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static status add_input(graph *g, const char *name, dtype type, shape sh, value_id *out)
{
    return graph_add_input(g, name, type, sh, out);
}

/* Dropout becomes random: the mask of each node is a function of (seed, its name, the counter of the run). */
static status add_dropout(train_graph *t, uint64_t seed)
{
    graph *g = t->g;
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = graph_node(g, (node_id)k);
        dropout_attrs *at;
        value_id *in;
        if (n->op != OP_DROPOUT || ((const dropout_attrs *)n->attr)->ratio <= 0 || (n->n_out > 1 && n->out[1]))
            continue;
        if (!t->counter)
            TRY(add_input(g, "dropout.counter", DTYPE_I64, (shape){0}, &t->counter));
        TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
        TRY(arena_alloc(&g->mem, &in, 2, sizeof *in));
        at->ratio = ((const dropout_attrs *)n->attr)->ratio;
        at->seed = (int64_t)(hash_xxh3(n->name, strlen(n->name)) + seed);
        in[0] = n->in[0];
        in[1] = t->counter;
        node *r = graph_node(g, (node_id)k);
        *r = (node){.op = OP_DROPOUT_TRAIN, .name = r->name, .n_in = 2, .n_out = 1, .in = in, .out = r->out, .attr = at,
                    .when = r->when};
    }
    return ST_OK;
}

/* ---- losses ---- */

static status add_kd_loss(train_graph *t, const train_spec *s)
{
    graph *g = t->g;
    shape rows = SHAPE(g->value[t->logits].sh.dim[0]), full = g->value[t->logits].sh;
    bool ce = s->task && s->task_loss == TASK_LOSS_CE;
    if (ce)
        TRY(add_input(g, "label", DTYPE_I64, rows, &t->label));
    if (ce && s->mixup) {
        TRY(add_input(g, "label2", DTYPE_I64, rows, &t->label2));
        TRY(add_input(g, "lambda", DTYPE_F32, rows, &t->lambda));
    }
    bool kl = s->kd && s->output_loss == OUTPUT_LOSS_KL;
    if (kl)
        TRY(add_input(g, "teacher.logits", DTYPE_F32, full, &t->teacher_logits));
    kd_loss_attrs at;
    op_default_attrs(OP_KD_LOSS, &at);
    at.label_smoothing = s->label_smoothing;
    at.per_labelled = s->per_labelled;
    if (s->class_weights)
        at.class_weights = (attr_floats){full.dim[1], s->class_weights};
    value_id in[6] = {t->logits, t->teacher_logits, t->label, t->label2, t->lambda, t->weights};
    value_id out[6];
    const char *names[6] = {"loss.kd_ce", "loss.ce", "loss.kl", "loss.dlogits", ce ? "correct" : NULL,
                            kl ? "agree" : NULL};
    TRY(graph_add_named(g, "loss", OP_KD_LOSS, &at, in, 6, names, out, 6));
    t->total = out[0];
    t->task = ce ? out[1] : 0;
    t->kl = kl ? out[2] : 0;
    t->correct = out[4];
    t->agree = out[5];
    return ST_OK;
}

/* One element of a small vector input, as a scalar. */
static status element(graph *g, value_id v, int64_t i, value_id *out)
{
    int64_t from = i, to = i + 1, axis = 0;
    slice_attrs at;
    reshape_attrs scalar = {.shape = {0, &axis}, .allowzero = 1};
    op_default_attrs(OP_SLICE, &at);
    at.starts = (attr_ints){1, &from};
    at.ends = (attr_ints){1, &to};
    at.axes = (attr_ints){1, &axis};
    TRY(graph_add1(g, OP_SLICE, &at, v, 0, 0, out));
    return graph_add1(g, OP_RESHAPE, &scalar, *out, 0, 0, out);
}

static status add_weighted(graph *g, value_id loss, value_id weight, value_id *total)
{
    value_id w;
    TRY(graph_add1(g, OP_MUL, NULL, loss, weight, 0, &w));
    if (!*total) {
        *total = w;
        return ST_OK;
    }
    return graph_add1(g, OP_ADD, NULL, *total, w, 0, total);
}

/* Task losses against float targets [batch, outputs]. */
static status add_target_loss(train_graph *t, const train_spec *s)
{
    static const struct {
        op_id op;
        int64_t kind;
        const char *name;
    } row[] = {[TASK_LOSS_BCE] = {OP_BCE_LOSS, 0, "loss.bce"},
               [TASK_LOSS_MSE] = {OP_REGRESSION_LOSS, REGRESSION_MSE, "loss.mse"},
               [TASK_LOSS_L1] = {OP_REGRESSION_LOSS, REGRESSION_L1, "loss.l1"},
               [TASK_LOSS_SMOOTH_L1] = {OP_REGRESSION_LOSS, REGRESSION_SMOOTH_L1, "loss.smooth_l1"}};
    graph *g = t->g;
    regression_loss_attrs at = {.kind = row[s->task_loss].kind, .masked = 1};
    value_id weight;
    TRY(add_input(g, "target", DTYPE_F32, g->value[t->logits].sh, &t->target));
    value_id in[2] = {t->logits, t->target};
    const char *name = row[s->task_loss].name;
    TRY(graph_add_named(g, name, row[s->task_loss].op, &at, in, 2, &name, &t->task, 1));
    TRY(element(g, t->weights, 0, &weight));
    return add_weighted(g, t->task, weight, &t->total);
}

/* Outputs against the teacher's, number by number. */
static status add_output_loss(train_graph *t, const train_spec *s)
{
    static const struct {
        int64_t kind;
        const char *name;
    } row[] = {[OUTPUT_LOSS_MSE] = {REGRESSION_MSE, "loss.teacher_mse"},
               [OUTPUT_LOSS_L1] = {REGRESSION_L1, "loss.teacher_l1"},
               [OUTPUT_LOSS_SMOOTH_L1] = {REGRESSION_SMOOTH_L1, "loss.teacher_smooth_l1"}};
    graph *g = t->g;
    regression_loss_attrs at = {.kind = row[s->output_loss].kind};
    const char *name = row[s->output_loss].name;
    value_id weight;
    TRY(add_input(g, "teacher.logits", DTYPE_F32, g->value[t->logits].sh, &t->teacher_logits));
    value_id in[2] = {t->logits, t->teacher_logits};
    TRY(graph_add_named(g, name, OP_REGRESSION_LOSS, &at, in, 2, &name, &t->kl, 1));
    TRY(element(g, t->weights, 1, &weight));
    return add_weighted(g, t->kl, weight, &t->total);
}

static status add_hints(train_graph *t, const train_spec *s)
{
    char name[512];
    if (s->n_hint == 0)
        return ST_OK;
    TRY(add_input(t->g, "hint.weights", DTYPE_F32, SHAPE((int64_t)s->n_hint), &t->hint_weights));
    for (size_t i = 0; i < s->n_hint; i++) {
        value_id weight;
        snprintf(name, sizeof name, "teacher.%s", s->hint[i].name);
        TRY(add_input(t->g, name, DTYPE_F32, s->hint[i].tap, &t->tap[i]));
        TRY(hint_build(t->g, &s->hint[i], s->seed, t->tap[i], &t->hint[i]));
        TRY(element(t->g, t->hint_weights, (int64_t)i, &weight));
        TRY(add_weighted(t->g, t->hint[i], weight, &t->total));
    }
    return ST_OK;
}

/* ---- updates ---- */

static status add_state(graph *g, value_id param, const char *suffix, bool copy, value_id *out)
{
    char name[1024];
    value v = g->value[param];
    snprintf(name, sizeof name, "%s.%s", v.name, suffix);
    return graph_add_data(g, name, VALUE_STATE, v.type, v.sh, copy ? v.data : NULL, out);
}

/* The gradient of a table whose rows the batch names by index stays a list of rows where that is at most half of the table:
 * no zeros are written, added up and read again for the rest. Nobody but the update reads it. */
static status list_rows(train_graph *t)
{
    graph *g = t->g;
    uint32_t *uses;
    status st = ST_OK;
    TRY(graph_count_uses(g, &uses));
    for (size_t i = 0; i < t->n_param; i++) {
        node_id k = g->value[t->grad[i]].from;
        const node *n = graph_node(g, k);
        const shape *table = &g->value[t->param[i]].sh;
        value_id *out;
        if (n->op != OP_GATHER_GRAD || uses[t->grad[i]] ||
            shape_axis(table, ((const gather_attrs *)n->attr)->axis) != 0 ||
            2 * shape_count(&g->value[n->in[1]].sh) > table->dim[0] || shape_count(table) < 16 * table->dim[0])
            continue;
        TRY_DONE(arena_alloc(&g->mem, &out, 2, sizeof *out));
        out[0] = t->grad[i];
        TRY_DONE(graph_add_value(g, NULL, DTYPE_NONE, (shape){0}, VALUE_TEMP, &out[1]));
        g->value[out[1]].from = k;
        node *rows = graph_node(g, k);
        rows->op = OP_GATHER_ROWS;
        rows->out = out;
        rows->n_out = 2;
        TRY_DONE(op_of(OP_GATHER_ROWS)->infer(g, rows));
    }
done:
    mem_free(uses);
    return st;
}

/* Where the rows of a gradient belong; 0: it is whole. */
static value_id place_of(const graph *g, value_id grad)
{
    const node *n = &g->node[g->value[grad].from];
    return g->value[grad].from && n->op == OP_GATHER_ROWS ? n->out[1] : 0;
}

/* The operands of parameter i, from `in` on. */
static status add_operands(train_graph *t, const optimizer_spec *o, size_t i, value_id *in)
{
    graph *g = t->g;
    in[UPDATE_PARAM] = t->param[i];
    in[UPDATE_GRAD] = t->grad[i];
    in[o->kind == OPTIMIZER_SGD ? SGD_PLACE : ADAM_PLACE] = place_of(g, t->grad[i]);
    if (o->ema > 0)
        TRY(add_state(g, t->param[i], "ema", true, &in[UPDATE_EMA]));
    if (o->kind == OPTIMIZER_SGD)
        return o->momentum != 0 ? add_state(g, t->param[i], "momentum", false, &in[SGD_MOMENTUM]) : ST_OK;
    TRY(add_state(g, t->param[i], "adam_m", false, &in[ADAM_M]));
    return add_state(g, t->param[i], "adam_v", false, &in[ADAM_V]);
}

static status add_optimizer_node(train_graph *t, const optimizer_spec *o, double decay, const value_id *in, size_t n)
{
    if (o->kind == OPTIMIZER_SGD) {
        sgd_attrs at = {.momentum = o->momentum, .weight_decay = decay, .nesterov = o->nesterov,
                        .decoupled = o->decoupled, .ema = o->ema};
        return graph_add(t->g, OP_SGD_UPDATE, &at, in, n, NULL, 0);
    }
    adam_attrs at = {.beta1 = o->beta1, .beta2 = o->beta2, .eps = o->eps, .weight_decay = decay,
                     .decoupled = o->kind == OPTIMIZER_ADAMW || o->decoupled, .ema = o->ema};
    return graph_add(t->g, OP_ADAM_UPDATE, &at, in, n, NULL, 0);
}

static bool decays_at_all(const optimizer_spec *o, uint32_t flags)
{
    return !(flags & (o->no_decay | VALUE_QUANT_SCALE));
}

/* One node for the parameters that decay, one for those that do not; more only when there are very many. */
static status add_optimizer(train_graph *t, const optimizer_spec *o, bool decays)
{
    enum { PARAMETERS_MAX = 8192 }; /* of a node, whose operands are counted in 16 bits */
    const size_t head = o->kind == OPTIMIZER_SGD ? SGD_HEAD : ADAM_HEAD, each = o->kind == OPTIMIZER_SGD ? SGD_TUPLE : ADAM_TUPLE;
    value_id *in;
    size_t n = 0;
    status st = ST_OK;
    TRY(mem_alloc(&in, head + t->n_param * each, sizeof *in));
    in[UPDATE_LR] = t->lr;
    in[UPDATE_SCALE] = t->scale;
    if (o->kind != OPTIMIZER_SGD)
        in[UPDATE_STEP] = t->counted_step ? t->counted_step : t->step;
    for (size_t i = 0; i < t->n_param; i++) {
        if (decays_at_all(o, t->g->value[t->param[i]].flags) == decays)
            TRY_DONE(add_operands(t, o, i, in + head + each * n++));
        if (n == PARAMETERS_MAX || (n && i + 1 == t->n_param)) {
            TRY_DONE(add_optimizer_node(t, o, decays ? o->weight_decay : 0, in, head + each * n));
            memset(in + head, 0, each * n * sizeof *in);
            n = 0;
        }
    }
done:
    mem_free(in);
    return st;
}

/* With accumulation each micro batch adds its share to a sum, which the update reads and clears. */
static status add_accumulation(train_graph *t, int micro_batches)
{
    graph *g = t->g;
    value_id share;
    TRY(graph_add_fill(g, DTYPE_F32, (shape){0}, 1.0 / micro_batches, &share));
    for (size_t i = 0; i < t->n_param; i++) {
        value_id acc;
        TRY(add_state(g, t->param[i], "accumulated", false, &acc));
        value_id in[4] = {acc, t->grad[i], share, place_of(g, t->grad[i])};
        TRY(graph_add(g, OP_ACCUMULATE, NULL, in, 4, NULL, 0));
        t->grad[i] = acc;
    }
    return ST_OK;
}

/* ---- loss scaling ---- */

typedef struct scale_state {
    value_id scale, good, skipped; /* 0: the loss is not scaled */
} scale_state;

static status add_scale_state(graph *g, double start, scale_state *out)
{
    const float first = (float)start;
    *out = (scale_state){0};
    if (start <= 0)
        return ST_OK;
    TRY(graph_add_data(g, LOSS_SCALE_STATE, VALUE_STATE, DTYPE_F32, (shape){0}, &first, &out->scale));
    TRY(graph_add_data(g, LOSS_SCALE_STATE ".good_steps", VALUE_STATE, DTYPE_F32, (shape){0}, NULL, &out->good));
    return graph_add_data(g, LOSS_SCALE_STATE ".skipped_steps", VALUE_STATE, DTYPE_F32, (shape){0}, NULL, &out->skipped);
}

/* What the norm of scaled gradients says: how the updates take them, and the next scale. */
static status add_loss_scale(train_graph *t, const optimizer_spec *o, const scale_state *s, value_id norm)
{
    loss_scale_attrs at;
    op_default_attrs(OP_LOSS_SCALE, &at);
    at.max_norm = o->clip > 0 ? o->clip : HUGE_VAL;
    at.smallest = LOSS_SCALE_SMALLEST;
    at.largest = LOSS_SCALE_LARGEST;
    at.interval = o->scale_interval > 0 ? o->scale_interval : at.interval;
    const value_id in[LOSS_SCALE_INPUTS] = {norm, s->scale, s->good, s->skipped, t->step};
    const char *names[LOSS_SCALE_OUTPUTS] = {"grad.scale", "grad.norm", LOSS_SCALE_STATE ".now", LOSS_SCALE_STATE ".skipped",
                                             LOSS_SCALE_STATE ".step"};
    value_id out[LOSS_SCALE_OUTPUTS] = {0};
    const size_t without = t->step ? 0 : 1; /* the step is last on both sides */
    TRY(graph_add_named(t->g, "loss_scale", OP_LOSS_SCALE, &at, in, LOSS_SCALE_INPUTS - without, names, out,
                        LOSS_SCALE_OUTPUTS - without));
    t->scale = out[LOSS_SCALE_UPDATE];
    t->norm = out[LOSS_SCALE_TRUE_NORM];
    t->loss_scale = out[LOSS_SCALE_NOW];
    t->skipped = out[LOSS_SCALE_SKIPPED_NOW];
    t->counted_step = out[LOSS_SCALE_TRUE_STEP];
    return ST_OK;
}

/* The norm of all gradients, and of 0 * total where that is to be finite too. */
static status add_norm(train_graph *t, const optimizer_spec *o, const scale_state *s, bool guard_total)
{
    graph *g = t->g;
    grad_norm_attrs at = {.max_norm = o->clip > 0 && !s->scale ? o->clip : HUGE_VAL};
    value_id *in = NULL, out[2], zero;
    const char *plain[2] = {"grad.scale", "grad.norm"}, *scaled[2] = {LOSS_SCALE_STATE ".finite", LOSS_SCALE_STATE ".norm"};
    const char *const *names = s->scale ? scaled : plain;
    size_t n = t->n_param;
    status st = ST_OK;
    TRY(mem_alloc(&in, n + 1, sizeof *in));
    memcpy(in, t->grad, n * sizeof *in);
    if (guard_total) {
        TRY_DONE(graph_add_fill(g, DTYPE_F32, (shape){0}, 0, &zero));
        TRY_DONE(graph_add(g, OP_MUL, NULL, (value_id[]){t->total, zero}, 2, &in[n++], 1));
    }
    TRY_DONE(graph_add_named(g, "grad_norm", OP_GRAD_NORM, &at, in, n, names, out, 2));
    t->scale = out[0];
    t->norm = out[1];
    if (s->scale)
        st = add_loss_scale(t, o, s, out[1]);
done:
    mem_free(in);
    return st;
}

static status add_updates(train_graph *t, const optimizer_spec *o, const scale_state *scaled, bool keep_gradients, bool guard_total)
{
    graph *g = t->g;
    if (!keep_gradients)
        TRY(list_rows(t));
    TRY(add_input(g, "lr", DTYPE_F32, (shape){0}, &t->lr));
    if (o->kind != OPTIMIZER_SGD)
        TRY(add_input(g, "step", DTYPE_F32, (shape){0}, &t->step));
    if (o->accumulate > 1)
        TRY(add_accumulation(t, o->accumulate));
    g->when = PHASE_UPDATE;
    TRY(add_norm(t, o, scaled, guard_total));
    TRY(add_optimizer(t, o, true));
    TRY(add_optimizer(t, o, false));
    if (o->accumulate > 1)
        TRY(graph_add(g, OP_CLEAR, NULL, t->grad, t->n_param, NULL, 0));
    g->when = PHASE_MAIN;
    return ST_OK;
}

static status add_outputs(train_graph *t)
{
    const value_id wanted[] = {t->total, t->task, t->kl, t->correct, t->agree, t->norm, t->scale, t->loss_scale, t->skipped, t->logits};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (wanted[i])
            TRY(graph_add_output(t->g, wanted[i]));
    for (size_t i = 0; i < t->n_hint; i++)
        TRY(graph_add_output(t->g, t->hint[i]));
    return ST_OK;
}

/* After passes renumbered the values: every id again, by name. */
typedef struct kept_name {
    value_id *id;
    const char *name;
} kept_name;

static status finish(train_graph *t, bool keep_gradients)
{
    value_id *all[] = {&t->label, &t->label2, &t->lambda, &t->target, &t->teacher_logits, &t->weights,
                       &t->hint_weights, &t->counter, &t->lr, &t->step, &t->total, &t->task, &t->kl, &t->correct, &t->agree,
                       &t->norm, &t->scale, &t->loss_scale, &t->skipped, &t->logits};
    size_t fixed = sizeof all / sizeof *all, n = 0;
    kept_name *kept = NULL;
    status st = ST_OK;
    TRY(mem_alloc(&kept, fixed + t->n_x + 2 * t->n_hint + 2 * t->n_param, sizeof *kept));
    for (size_t i = 0; i < fixed; i++)
        kept[n++].id = all[i];
    for (size_t i = 0; i < t->n_x; i++)
        kept[n++].id = &t->x[i];
    for (size_t i = 0; i < t->n_hint; i++) {
        kept[n++].id = &t->tap[i];
        kept[n++].id = &t->hint[i];
    }
    for (size_t i = 0; i < t->n_param; i++) {
        kept[n++].id = &t->param[i];
        kept[n++].id = &t->grad[i];
        if (keep_gradients)
            TRY_DONE(graph_add_output(t->g, t->grad[i]));
    }
    for (size_t i = 0; i < n; i++)
        kept[i].name = t->g->value[*kept[i].id].name;
    TRY_DONE(pass_fuse_norm_grads(t->g));
    TRY_DONE(pass_fuse_linear(t->g));
    for (size_t i = 0; i < n; i++)
        if (*kept[i].id)
            *kept[i].id = graph_find(t->g, kept[i].name);
    st = graph_validate(t->g);
done:
    mem_free(kept);
    return st;
}

status train_graph_build(const graph *student, const train_spec *s, train_graph *out)
{
    *out = (train_graph){.n_hint = s->n_hint};
    train_graph *t = out;
    TRY(graph_clone(student, &t->g));
    graph *g = t->g;
    TRY(mem_alloc(&t->tap, s->n_hint, sizeof *t->tap));
    TRY(mem_alloc(&t->hint, s->n_hint, sizeof *t->hint));
    TRY(mem_alloc(&t->x, g->n_input, sizeof *t->x));
    bool of_classes = (s->task && (s->task_loss == TASK_LOSS_CE || s->task_loss == TASK_LOSS_BCE)) ||
                      (s->kd && s->output_loss == OUTPUT_LOSS_KL);
    if (g->n_input < 1 || g->n_output < 1 || g->value[g->output[0]].sh.rank < 1)
        return fail(ST_CONFIG, "the student must have an input and an output [batch, ...]");
    if (of_classes && g->value[g->output[0]].sh.rank != 2)
        return fail(ST_CONFIG, "the student's output is no logits [batch, classes]: cross entropy and KL need them; take "
                               "distill.task_loss and distill.output_loss = l1 or mse for other outputs");
    g->n_output = 1;
    TRY(pass_training_mode(g, s->bn_momentum));
    for (; t->n_x < g->n_input; t->n_x++)
        t->x[t->n_x] = g->input[t->n_x];
    TRY(add_dropout(t, s->seed));
    t->logits = g->output[0];
    g->n_output = 0;
    TRY(add_input(g, "loss.weights", DTYPE_F32, SHAPE(3), &t->weights));
    if ((s->task && s->task_loss == TASK_LOSS_CE) || (s->kd && s->output_loss == OUTPUT_LOSS_KL))
        TRY(add_kd_loss(t, s));
    if (s->task && s->task_loss != TASK_LOSS_CE)
        TRY(add_target_loss(t, s));
    if (s->kd && s->output_loss != OUTPUT_LOSS_KL)
        TRY(add_output_loss(t, s));
    TRY(add_hints(t, s));
    if (!t->total)
        return fail(ST_CONFIG, "there is nothing to train on: the task weight, the distillation weight and all hint "
                               "weights are 0");
    TRY(pass_join_gelu(g));
    TRY(pass_fuse_attention_graded(g));
    TRY(pass_fuse_norms(g)); /* after the hints: what they read stays */
    TRY(qat_training_mode(g));
    for (size_t v = 1; v < g->n_value; v++)
        t->n_param += g->value[v].kind == VALUE_PARAM;
    TRY(mem_alloc(&t->param, t->n_param, sizeof *t->param));
    TRY(mem_alloc(&t->grad, t->n_param, sizeof *t->grad));
    size_t n = 0;
    for (size_t v = 1; v < g->n_value; v++)
        if (g->value[v].kind == VALUE_PARAM)
            t->param[n++] = (value_id)v;
    scale_state scaled;
    TRY(add_scale_state(g, s->opt.none ? 0 : s->opt.loss_scale, &scaled));
    TRY(graph_gradients_from(g, t->total, scaled.scale, t->param, n, t->grad));
    TRY(qat_add_updates(g));
    size_t used = 0;
    for (size_t i = 0; i < n; i++) /* a parameter that the loss does not depend on is left as it is */
        if (t->grad[i]) {
            t->param[used] = t->param[i];
            t->grad[used++] = t->grad[i];
        }
    t->n_param = used;
    if (!s->opt.none) {
        TRY(add_updates(t, &s->opt, &scaled, s->keep_gradients, s->guard_total));
        TRY(qat_add_caps(g));
    }
    TRY(add_outputs(t));
    return finish(t, s->opt.none || s->keep_gradients);
}

void train_graph_free(train_graph *t)
{
    graph_free(t->g);
    mem_free(t->x);
    mem_free(t->tap);
    mem_free(t->hint);
    mem_free(t->param);
    mem_free(t->grad);
    *t = (train_graph){0};
}
