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

const test_entry test_table[] = {
    TEST(rows_give_what_the_whole_gradient_gives),
    TEST(one_node_for_each_decay),
    TEST(layer_norm_grad_takes_the_addition),
    {0},
};
