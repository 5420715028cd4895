/* test_updates.c - optimizer steps as train_graph.c writes them: gradients that are lists of rows give what whole ones give,
 * bit for bit; what LayerNormGrad takes over means the same. */
#include "distill/train_graph.h"
#include "exec/exec.h"
#include "harness.h"
#include "ops/attrs.h"

#include <math.h>
#include <string.h>

#define BATCH   4
#define WORDS   9 /* in a sample */
#define TABLE   301
#define WIDTH   24
#define CLASSES 5

static void numbers(float *to, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        to[i] = (float)(int32_t)seed * 0x1p-31f;
    }
}

static value_id param(graph *g, const char *name, shape sh, uint32_t seed)
{
    float data[TABLE * WIDTH];
    value_id v;
    numbers(data, shape_count(&sh), seed);
    OK(graph_add_data(g, name, VALUE_PARAM, DTYPE_F32, sh, data, &v));
    return v;
}

/* Words from a table, the mean of each sample's, logits. */
static graph *words_student(void)
{
    graph *g;
    value_id ids, v;
    OK(graph_new(&g));
    OK(graph_add_input(g, "ids", DTYPE_I64, SHAPE(BATCH, WORDS), &ids));
    value_id table = param(g, "table", SHAPE(TABLE, WIDTH), 1), weight = param(g, "weight", SHAPE(CLASSES, WIDTH), 2);
    gemm_attrs product = {.alpha = 1, .beta = 1, .transB = 1};
    reduce_attrs mean = {.axes = {1, (const int64_t[]){1}}, .keepdims = 0};
    OK(graph_add1(g, OP_GATHER, &(gather_attrs){.axis = 0}, table, ids, 0, &v));
    OK(graph_add1(g, OP_REDUCE_MEAN, &mean, v, 0, 0, &v));
    OK(graph_add1(g, OP_GEMM, &product, v, weight, 0, &v));
    OK(graph_add_output(g, v));
    return g;
}

static int count(const graph *g, op_id op)
{
    int n = 0;
    for (size_t k = 1; k < g->n_node; k++)
        n += g->node[k].op == op;
    return n;
}

static void put_batch(const train_graph *t, exec *e, int step)
{
    int64_t *ids = exec_data(e, t->x[0]), *label = exec_data(e, t->label);
    for (int i = 0; i < BATCH * WORDS; i++) /* some words twice, some from the end */
        ids[i] = (i * 7 + step * 3) % 40 * (i % 3 ? 1 : 5) - (i % 5 ? 0 : 100);
    for (int i = 0; i < BATCH; i++)
        label[i] = (i + step) % CLASSES;
    memcpy(exec_data(e, t->weights), (const float[]){1, 0, 1}, 3 * sizeof(float));
    *(float *)exec_data(e, t->lr) = 0.05f;
    if (t->step)
        *(float *)exec_data(e, t->step) = (float)(step + 1);
}

/* Three steps; `params` receives what they leave. */
static void train(const optimizer_spec *opt, bool whole, int threads, isa level, store *params)
{
    const train_spec spec = {.task = true, .task_loss = TASK_LOSS_CE, .opt = *opt, .keep_gradients = whole};
    graph *g = words_student();
    train_graph t;
    backend *b;
    exec *e;
    OK(train_graph_build(g, &spec, &t));
    ck_assert_int_eq(count(t.g, OP_GATHER_ROWS), !whole);
    ck_assert_int_eq(count(t.g, OP_GATHER_GRAD), whole);
    OK(backend_open("cpu", &(backend_options){.threads = threads, .max_isa = level}, &b));
    OK(exec_open(t.g, b, params, 0, &e));
    for (int step = 0; step < 3; step++) {
        for (int m = 0; m < opt->accumulate; m++) {
            put_batch(&t, e, step * opt->accumulate + m);
            OK(exec_run(e, PHASE_MAIN));
        }
        put_batch(&t, e, step);
        OK(exec_run(e, PHASE_UPDATE));
        ck_assert(isfinite(*(float *)exec_data(e, t.scale)));
    }
    exec_close(e);
    backend_close(b);
    train_graph_free(&t);
    graph_free(g);
}

static void check_equal(const store *a, const store *b)
{
    ck_assert_uint_eq(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        const store_entry *x = &a->at[i], *y = store_find(b, x->t.name);
        ck_assert_msg(y && memcmp(x->t.data, y->t.data, tensor_bytes(&x->t)) == 0, "'%s' differs", x->t.name);
    }
}

START_TEST(rows_give_what_the_whole_gradient_gives)
{
    const optimizer_spec opts[] = {
        {.kind = OPTIMIZER_SGD, .accumulate = 1},
        {.kind = OPTIMIZER_SGD, .momentum = 0.9, .nesterov = true, .weight_decay = 0.01, .accumulate = 1, .ema = 0.9},
        {.kind = OPTIMIZER_ADAMW, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .accumulate = 1},
        {.kind = OPTIMIZER_ADAM, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .accumulate = 2, .ema = 0.5},
    };
    for (size_t i = 0; i < sizeof opts / sizeof *opts; i++)
        for (int level = ISA_REF; level <= ISA_AVX512; level++) {
            store whole = {0}, rows = {0}, threads = {0};
            train(&opts[i], true, 1, (isa)level, &whole);
            train(&opts[i], false, 1, (isa)level, &rows);
            train(&opts[i], false, 3, (isa)level, &threads);
            check_equal(&whole, &rows);
            check_equal(&whole, &threads);
            store_free(&whole);
            store_free(&rows);
            store_free(&threads);
        }
}
END_TEST

/* A table of few words keeps its whole gradient; what decays and what does not are two nodes, however many parameters. */
START_TEST(one_node_for_each_decay)
{
    const train_spec spec = {.task = true, .task_loss = TASK_LOSS_CE,
                             .opt = {.kind = OPTIMIZER_SGD, .weight_decay = 0.1, .no_decay = VALUE_NO_DECAY_BIAS, .accumulate = 1}};
    for (int classes = 0; classes < 2; classes++) {
        graph *g = words_student();
        train_graph t;
        for (value_id v = 1; v < g->n_value && classes; v++)
            if (strcmp(g->value[v].name, "weight") == 0)
                g->value[v].flags |= VALUE_NO_DECAY_BIAS;
        OK(train_graph_build(g, &spec, &t));
        ck_assert_int_eq(count(t.g, OP_SGD_UPDATE), 1 + classes);
        train_graph_free(&t);
        graph_free(g);
    }
}
END_TEST

/* y = LN(s) + s * c with s = x + f: s goes on as it is, so two gradients meet behind the norm's. */
static graph *norm_graph(void)
{
    graph *g;
    value_id x, f, s, y, r, loss, grad[2];
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(6, WIDTH), &x));
    OK(graph_add_input(g, "f", DTYPE_F32, SHAPE(6, WIDTH), &f));
    value_id scale = param(g, "scale", SHAPE(WIDTH), 3), bias = param(g, "bias", SHAPE(WIDTH), 4);
    value_id c = param(g, "c", SHAPE(6, WIDTH), 5);
    OK(graph_add1(g, OP_ADD, NULL, x, f, 0, &s));
    OK(graph_add1(g, OP_LAYER_NORM, NULL, s, scale, bias, &y));
    OK(graph_add1(g, OP_MUL, NULL, y, y, 0, &y));
    OK(graph_add1(g, OP_MUL, NULL, s, c, 0, &r));
    OK(graph_add1(g, OP_ADD, NULL, y, r, 0, &y));
    OK(graph_add1(g, OP_REDUCE_SUM, &(reduce_attrs){.keepdims = 0}, y, 0, 0, &loss));
    OK(graph_gradients(g, loss, (value_id[]){x, scale}, 2, grad));
    OK(graph_add_output(g, grad[0]));
    OK(graph_add_output(g, grad[1]));
    return g;
}

static void run_norm(const graph *g, isa level, float *out)
{
    backend *b;
    exec *e;
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = level}, &b));
    OK(exec_open(g, b, NULL, 0, &e));
    for (size_t i = 0; i < g->n_input; i++)
        numbers(exec_data(e, g->input[i]), 6 * WIDTH, 90 + (uint32_t)i);
    OK(exec_run(e, PHASE_MAIN));
    memcpy(out, exec_data(e, g->output[0]), 6 * WIDTH * sizeof *out);
    memcpy(out + 6 * WIDTH, exec_data(e, g->output[1]), WIDTH * sizeof *out);
    exec_close(e);
    backend_close(b);
}

START_TEST(layer_norm_grad_takes_the_addition)
{
    float before[7 * WIDTH], after[7 * WIDTH];
    graph *g = norm_graph();
    run_norm(g, ISA_REF, before);
    int adds = count(g, OP_ADD);
    OK(pass_fuse_norm_grads(g));
    OK(graph_validate(g));
    ck_assert_int_eq(count(g, OP_ADD), adds - 1);
    for (int level = ISA_REF; level <= ISA_AVX512; level++) {
        run_norm(g, (isa)level, after);
        for (int i = 0; i < 7 * WIDTH; i++)
            ck_assert_msg(fabsf(before[i] - after[i]) <= 4e-6f * fmaxf(1, fabsf(before[i])), "level %d element %d: %g, was %g",
                          level, i, (double)after[i], (double)before[i]);
    }
    graph_free(g);
}
END_TEST

/* ---- loss scaling ---- */

enum { FEW = 5 };
#define SCALE_AT_START 1024

typedef struct scaled_run {
    store params;
    double norm[FEW], scale, skipped; /* norm of each step; the state as the graph's outputs tell it in the end */
    bool finite[FEW];
} scaled_run;

/* Steps 0 .. FEW - 1, the loss times `scale` (0: as it is). The batch of step `bad` has an infinite loss; without `bad_too` that
 * step is not made at all, and what counts steps goes on as if it were not there. */
static void train_scaled(const optimizer_spec *opt, double scale, int bad, bool bad_too, isa level, scaled_run *out)
{
    optimizer_spec o = *opt;
    o.loss_scale = scale;
    o.scale_interval = 2;
    const train_spec spec = {.task = true, .task_loss = TASK_LOSS_CE, .opt = o};
    graph *g = words_student();
    train_graph t;
    backend *b;
    exec *e;
    *out = (scaled_run){0};
    OK(train_graph_build(g, &spec, &t));
    ck_assert_int_eq(count(t.g, OP_LOSS_SCALE), scale > 0);
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = level}, &b));
    OK(exec_open(t.g, b, &out->params, 0, &e));
    for (int step = 0; step < FEW; step++) {
        if (step == bad && !bad_too)
            continue;
        for (int m = 0; m < opt->accumulate; m++) {
            put_batch(&t, e, step * opt->accumulate + m);
            if (step == bad && m == 0)
                *(float *)exec_data(e, t.weights) = INFINITY;
            OK(exec_run(e, PHASE_MAIN));
        }
        if (t.step)
            *(float *)exec_data(e, t.step) = (float)(step + 1 - (bad >= 0 && !bad_too && step > bad));
        OK(exec_run(e, PHASE_UPDATE));
        out->norm[step] = (double)*(float *)exec_data(e, t.norm);
        out->finite[step] = isfinite(*(float *)exec_data(e, t.scale));
    }
    if (t.loss_scale) {
        out->scale = (double)*(float *)exec_data(e, t.loss_scale);
        out->skipped = (double)*(float *)exec_data(e, t.skipped);
    }
    exec_close(e);
    backend_close(b);
    train_graph_free(&t);
    graph_free(g);
}

static float state(const scaled_run *r, const char *name)
{
    const store_entry *e = store_find(&r->params, name);
    ck_assert_msg(e && e->kind == VALUE_STATE, "there is no state '%s'", name);
    return *(const float *)e->t.data;
}

/* Largest distance of what is in `a` from the same in `b`. */
static double apart(const store *a, const store *b)
{
    double worst = 0;
    for (size_t i = 0; i < a->n; i++) {
        const store_entry *x = &a->at[i], *y = store_find(b, x->t.name);
        ck_assert_msg(y, "'%s' is not on both sides", x->t.name);
        for (int64_t k = 0; k < shape_count(&x->t.sh); k++)
            worst = fmax(worst, fabs(tensor_at(&x->t, k) - tensor_at(&y->t, k)));
    }
    return worst;
}

static const optimizer_spec scaled_optimizers[] = {
    {.kind = OPTIMIZER_SGD, .accumulate = 1},
    {.kind = OPTIMIZER_SGD, .momentum = 0.9, .nesterov = true, .weight_decay = 0.01, .clip = 0.2, .accumulate = 2, .ema = 0.9},
    {.kind = OPTIMIZER_ADAM, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .accumulate = 1, .ema = 0.5},
    {.kind = OPTIMIZER_ADAMW, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .clip = 0.3, .accumulate = 2},
};
enum { SCALED = sizeof scaled_optimizers / sizeof *scaled_optimizers };

/* A scale that is a power of two changes no bit of a gradient but its exponent: the same parameters, states and averages; with
 * clipping the factor is rounded elsewhere. */
START_TEST(scaled_loss_trains_the_same)
{
    double worst = 0;
    for (int i = 0; i < SCALED; i++)
        for (int level = ISA_REF; level <= ISA_AVX512; level++) {
            scaled_run plain, scaled;
            train_scaled(&scaled_optimizers[i], 0, -1, false, (isa)level, &plain);
            train_scaled(&scaled_optimizers[i], SCALE_AT_START, -1, false, (isa)level, &scaled);
            double d = apart(&plain.params, &scaled.params);
            worst = fmax(worst, d);
            ck_assert_msg(d <= (scaled_optimizers[i].clip > 0 ? 1e-6 : 0), "optimizer %d, level %d: %g apart", i, level, d);
            for (int k = 0; k < FEW; k++)
                ck_assert_msg(fabs(plain.norm[k] - scaled.norm[k]) <= 1e-6 * plain.norm[k], "norm of step %d: %g, without a scale %g", k,
                              scaled.norm[k], plain.norm[k]);
            ck_assert(state(&scaled, "loss_scale") == 4 * SCALE_AT_START); /* doubled after steps 2 and 4 */
            ck_assert(state(&scaled, "loss_scale.good_steps") == 1 && state(&scaled, "loss_scale.skipped_steps") == 0);
            ck_assert(scaled.scale == 4 * SCALE_AT_START && scaled.skipped == 0);
            ck_assert(!store_find(&plain.params, "loss_scale"));
            store_free(&plain.params);
            store_free(&scaled.params);
        }
    test_max_error("parameters with and without a scale", worst, 1e-6);
}
END_TEST

/* A step whose gradients are not finite leaves what trains as if it had not been, the step count of Adam too. */
START_TEST(overflow_skips_exactly_that_step)
{
    for (int i = 0; i < SCALED; i++)
        for (int bad = 0; bad < FEW; bad++) {
            scaled_run without, with;
            train_scaled(&scaled_optimizers[i], SCALE_AT_START, bad, false, ISA_AVX512, &without);
            train_scaled(&scaled_optimizers[i], SCALE_AT_START, bad, true, ISA_AVX512, &with);
            for (int k = 0; k < FEW; k++)
                ck_assert_int_eq(with.finite[k], k != bad);
            ck_assert(with.skipped == 1 && state(&with, "loss_scale.skipped_steps") == 1);
            ck_assert(state(&without, "loss_scale.skipped_steps") == 0);
            const int doubled = bad / 2 + (FEW - 1 - bad) / 2; /* good steps in a row on both sides of it */
            ck_assert_msg(with.scale == SCALE_AT_START * 0.5 * (1 << doubled), "optimizer %d, step %d: the scale is %g", i, bad, with.scale);
            size_t seen = 0;
            for (size_t k = 0; k < with.params.n; k++) {
                const tensor *x = &with.params.at[k].t;
                if (strncmp(x->name, LOSS_SCALE_STATE, strlen(LOSS_SCALE_STATE)) == 0)
                    continue;
                const tensor *y = &store_find(&without.params, x->name)->t;
                for (int64_t n = 0; n < shape_count(&x->sh); n++)
                    ck_assert_msg(fabs(tensor_at(x, n) - tensor_at(y, n)) <= (scaled_optimizers[i].clip > 0 ? 1e-6 : 0),
                                  "optimizer %d, step %d: '%s' differs", i, bad, x->name);
                seen++;
            }
            ck_assert_uint_ge(seen, 2);
            store_free(&without.params);
            store_free(&with.params);
        }
}
END_TEST

const test_entry test_table[] = {
    TEST(scaled_loss_trains_the_same),
    TEST(overflow_skips_exactly_that_step),
    TEST(rows_give_what_the_whole_gradient_gives),
    TEST(one_node_for_each_decay),
    TEST(layer_norm_grad_takes_the_addition),
    {0},
};
