/* test_recompute.c - training within a memory limit: activations that are computed twice change no bit of anything. */
#include "base/rng.h"
#include "distill/train_graph.h"
#include "exec/exec.h"
#include "harness.h"
#include "student/student.h"

#include <stdio.h>
#include <string.h>

enum { ROWS = 8, CLASSES = 5, STEPS = 3, WORDS = 20 };

typedef struct net { /* a student, and what must be possible */
    const char *name, *ini;
    shape sample;
    dtype type;
    int least; /* percent of the activations that recomputing must at least come down to */
} net;

static const net nets[] = {
    {"resnet", "[student]\narch = resnet\ndepth = 20\nwidths = 16 32 64\n", {3, {3, 16, 16}}, DTYPE_F32, 75},
    {"mobilenetv2", "[student]\narch = mobilenetv2\n", {3, {3, 32, 32}}, DTYPE_F32, 75},
    {"tokens",
     "[layer e]\nop = Gather\nentries = 20\nchannels = 32\n"
     "[layer n1]\nop = LayerNormalization\n[layer u1]\nop = MatMul\nchannels = 128\n[layer a1]\nop = Gelu\n"
     "[layer d1]\nop = MatMul\nchannels = 32\n[layer r1]\nop = Add\ninput = d1 e\n"
     "[layer n2]\nop = LayerNormalization\n[layer u2]\nop = MatMul\nchannels = 128\n[layer a2]\nop = Tanh\n"
     "[layer d2]\nop = MatMul\nchannels = 32\n[layer r2]\nop = Add\ninput = d2 r1\n"
     "[layer p]\nop = Dropout\nratio = 0.2\n"
     "[layer n3]\nop = LayerNormalization\n[layer u3]\nop = MatMul\nchannels = 128\n[layer a3]\nop = Sigmoid\n"
     "[layer d3]\nop = MatMul\nchannels = 32\n[layer r3]\nop = Add\ninput = d3 p\n"
     "[layer flat]\nop = Flatten\n[layer f]\nop = Gemm\nchannels = 5\n",
     {1, {16}}, DTYPE_I64, 75},
};

static size_t plan_bytes(const exec *e)
{
    const plan *p = exec_plan(e);
    return p->activations + p->workspace + p->persistent + p->constants + p->prepared_bytes;
}

static void fill_inputs(const train_graph *t, const exec *e)
{
    rng r = rng_make(5, RNG_TEST, 0, 0);
    for (size_t i = 0; i < t->g->n_input; i++) {
        const value *v = graph_value(t->g, t->g->input[i]);
        bool ids = t->g->input[i] == t->x[0];
        for (int64_t k = 0; k < shape_count(&v->sh); k++)
            dtype_store(v->type, exec_data(e, t->g->input[i]), k,
                        v->type == DTYPE_I64 ? (double)rng_below(&r, ids ? WORDS : CLASSES) : rng_normal(&r));
    }
    float *w = exec_data(e, t->weights);
    w[0] = 0.6f, w[1] = 0.4f, w[2] = 3;
    *(float *)exec_data(e, t->lr) = 0.05f;
}

static void append(text *t, const void *data, size_t bytes)
{
    text_add_n(t, data, bytes);
}

/* Some steps; every loss and gradient of each, and all parameters and states in the end. */
static void run(const train_graph *t, exec *e, const store *s, text *all)
{
    fill_inputs(t, e);
    for (int step = 0; step < STEPS; step++) {
        if (t->counter)
            *(int64_t *)exec_data(e, t->counter) = step;
        OK(exec_run(e, PHASE_MAIN));
        OK(exec_run(e, PHASE_UPDATE));
        for (size_t i = 0; i < t->g->n_output; i++) {
            const value *v = graph_value(t->g, t->g->output[i]);
            append(all, exec_data(e, t->g->output[i]), (size_t)shape_count(&v->sh) * dtype_of(v->type)->size);
        }
    }
    for (size_t i = 0; i < s->n; i++)
        append(all, s->at[i].t.data, tensor_bytes(&s->at[i].t));
    ck_assert_int_eq(all->st, ST_OK);
}

static void check_net(const net *n, layout_choice layout)
{
    job *j = NULL;
    graph *g = NULL;
    train_graph t;
    backend *b;
    exec *e;
    store kept = {0};
    text want = {0};
    int fitted = 0;
    OK(config_load_text("net", n->ini, strlen(n->ini), &(config_sources){0}, &j));
    OK(student_build(&(student_spec){.job = j, .classes = CLASSES, .sample = n->sample, .type = n->type}, ROWS, &g));
    const train_spec s = {.task = true, .kd = true, .bn_momentum = 0.1, .seed = 3, .keep_gradients = true,
                          .opt = {.kind = OPTIMIZER_SGD, .momentum = 0.9, .accumulate = 1}};
    OK(train_graph_build(g, &s, &t));
    OK(backend_open("cpu", &(backend_options){.threads = 2, .max_isa = ISA_AVX512, .layout = layout}, &b));
    OK(exec_open(t.g, b, &kept, 0, &e));
    ck_assert_uint_eq(exec_plan(e)->again.nodes, 0);
    size_t activations = exec_plan(e)->activations, fixed = plan_bytes(e) - activations;
    run(&t, e, &kept, &want);
    exec_close(e);
    for (int percent = 95; percent >= 5; percent -= 10) {
        store params = {0};
        text have = {0};
        size_t limit = fixed + activations / 100 * (size_t)percent;
        status st = exec_open(t.g, b, &params, limit, &e);
        if (st != ST_OK) {
            ck_assert_int_eq(st, ST_OOM);
            ck_assert_msg(strstr(status_message(), "recomputing activations brings it to") != NULL, "%s", status_message());
            store_free(&params);
            break;
        }
        fitted = percent;
        ck_assert_uint_gt(exec_plan(e)->again.nodes, 0);
        ck_assert_uint_gt(exec_plan(e)->again.saved, 0);
        ck_assert_uint_le(plan_bytes(e), limit);
        run(&t, e, &params, &have);
        ck_assert_uint_eq(have.n, want.n);
        ck_assert_msg(memcmp(have.s, want.s, want.n) == 0, "%s: other bits within %d %% of the activations", n->name, percent);
        printf("%s: %d %% of the activations, %zu nodes again\n", n->name, percent, exec_plan(e)->again.nodes);
        exec_close(e);
        store_free(&params);
        text_free(&have);
    }
    ck_assert_msg(fitted && fitted <= n->least, "%s: recomputing comes down to %d %% only", n->name, fitted);
    text_free(&want);
    store_free(&kept);
    train_graph_free(&t);
    graph_free(g);
    backend_close(b);
    config_free(j);
}

START_TEST(same_bits_resnet)
{
    check_net(&nets[0], LAYOUT_AUTO);
    check_net(&nets[0], LAYOUT_PLAIN);
}
END_TEST

START_TEST(same_bits_mobilenet)
{
    check_net(&nets[1], LAYOUT_AUTO);
}
END_TEST

START_TEST(same_bits_tokens)
{
    check_net(&nets[2], LAYOUT_AUTO);
}
END_TEST

const test_entry test_table[] = {TEST(same_bits_resnet), TEST(same_bits_mobilenet), TEST(same_bits_tokens), {0}};
