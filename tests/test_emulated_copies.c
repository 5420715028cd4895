/* test_emulated_copies.c - weights in half precision that the optimizer writes with the parameters (exec/keep_copies.c): the kernels write
 * what a Reorder would make; steps have the bits of those that round every weight anew, whoever writes parameters in between. */
#include "base/rng.h"
#include "bert.h"
#include "config/config.h"
#include "distill/train_graph.h"
#include "emulator/emulator_control.h"
#include "exec/exec.h"
#include "harness.h"
#include "ops/attrs.h"
#include "student/student.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- kernels ---- */

typedef struct weight {
    int64_t dim[4];
    int rank;
    bool last, absent; /* channels last; without a copy */
} weight;
/* Several chunks, whole and in part; channels that fill no 16 bytes; one pixel; many; nothing. */
static const weight weights[] = {{{5, 3, 3, 3}, 4, true, false},   {{16, 8, 3, 3}, 4, true, false},  {{40, 64, 3, 2}, 4, true, false},
                                 {{7, 24, 1, 1}, 4, true, false},  {{0, 8, 3, 3}, 4, true, false},   {{9, 16, 5, 5}, 4, true, false},
                                 {{65, 70}, 2, false, false},      {{33}, 1, false, true},           {{2, 8, 23, 23}, 4, true, false},
                                 {{6, 5, 700}, 3, true, false},    {{3, 7}, 2, false, false},        {{130, 32, 3}, 3, true, false}};
enum { WEIGHTS = sizeof weights / sizeof *weights, MOST = 24 << 10, FEW = 64 };

typedef struct fixture { /* operands of an update of all of them, on the device */
    backend *b;
    kernel_tensor in[FEW + WEIGHTS * ADAM_TUPLE];
    kernel_args a;
} fixture;

static shape shape_of(const weight *w)
{
    shape s = {.rank = w->rank};
    memcpy(s.dim, w->dim, sizeof w->dim);
    return s;
}

static void put(fixture *f, int i, dtype t, shape sh, int32_t block, const void *from)
{
    const size_t bytes = (size_t)shape_count(&sh) * dtype_of(t)->size;
    f->in[i] = (kernel_tensor){.type = t, .sh = sh, .block = block};
    OK(f->b->alloc(f->b, bytes, &f->in[i].data));
    if (bytes)
        OK(f->b->remote->copy(f->b, f->in[i].data, from, bytes, COPY_TO_DEVICE));
    OK(f->b->remote->wait(f->b));
}

static void get(const fixture *f, int i, void *to)
{
    const size_t bytes = (size_t)shape_count(&f->in[i].sh) * dtype_of(f->in[i].type)->size;
    if (bytes)
        OK(f->b->remote->copy(f->b, to, f->in[i].data, bytes, COPY_TO_HOST));
    OK(f->b->remote->wait(f->b));
}

static int head_of(bool adam)
{
    return adam ? ADAM_HEAD : SGD_HEAD;
}
static int tuple_of(bool adam)
{
    return adam ? ADAM_TUPLE : SGD_TUPLE;
}
static int copy_of(bool adam, int i)
{
    return head_of(adam) + i * tuple_of(adam) + (adam ? ADAM_COPY : SGD_COPY);
}

/* type DTYPE_NONE: without copies. */
static void make_update(fixture *f, bool adam, dtype type, float scale)
{
    static const adam_attrs adam_at = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .decoupled = 1};
    static const sgd_attrs sgd_at = {.momentum = 0.9, .weight_decay = 0.01};
    static float x[MOST];
    static uint16_t old[MOST];
    const float numbers[] = {0.1f, scale, 3};
    rng r = rng_make(4, RNG_TEST, 0, 0);
    *f = (fixture){0};
    OK(backend_open("emulated", &(backend_options){.threads = 1, .max_isa = ISA_REF}, &f->b));
    memset(old, 0x2A, sizeof old);
    for (int i = 0; i < head_of(adam); i++)
        put(f, i, DTYPE_F32, (shape){0}, 0, &numbers[i]);
    for (int i = 0; i < WEIGHTS; i++) {
        const shape sh = shape_of(&weights[i]);
        const int first = head_of(adam) + i * tuple_of(adam), copy = adam ? ADAM_COPY : SGD_COPY;
        for (int k = 0; k < copy; k++) {
            if (k == UPDATE_EMA)
                continue;
            for (int64_t n = 0; n < shape_count(&sh); n++)
                x[n] = (float)(k >= SGD_MOMENTUM ? fabs(rng_normal(&r)) : rng_normal(&r));
            put(f, first + k, DTYPE_F32, sh, 0, x);
        }
        if (type && !weights[i].absent)
            put(f, first + copy, type, sh, weights[i].last ? (int32_t)sh.dim[1] : 0, old);
    }
    f->a = (kernel_args){.in = f->in, .n_in = head_of(adam) + WEIGHTS * tuple_of(adam), .threads = 1, .queue = f->b->queue,
                         .attr = adam ? (const void *)&adam_at : (const void *)&sgd_at};
    const kernel_row *row = f->b->find(f->b, adam ? OP_ADAM_UPDATE : OP_SGD_UPDATE, &f->a);
    ck_assert_ptr_nonnull(row);
    const size_t work = row->workspace ? row->workspace(&f->a) : 0;
    OK(f->b->alloc(f->b, work, &f->a.work));
    row->run(&f->a);
    OK(f->b->remote->wait(f->b));
    f->b->free(f->b, f->a.work, work);
}

static void free_update(fixture *f)
{
    for (int i = 0; i < f->a.n_in; i++)
        if (f->in[i].data)
            f->b->free(f->b, f->in[i].data, (size_t)shape_count(&f->in[i].sh) * dtype_of(f->in[i].type)->size);
    backend_close(f->b);
}

static void check_update(bool adam, dtype type)
{
    static float x[MOST], plain[MOST];
    static uint16_t want[MOST], got[MOST];
    fixture with, without;
    make_update(&with, adam, type, 0.5f);
    make_update(&without, adam, DTYPE_NONE, 0.5f);
    for (int i = 0; i < WEIGHTS; i++) {
        const shape sh = shape_of(&weights[i]);
        const int first = head_of(adam) + i * tuple_of(adam);
        const int64_t n = shape_count(&sh), channels = weights[i].last ? sh.dim[1] : 1, pixels = n && weights[i].last ? n / sh.dim[0] / channels : 1;
        get(&with, first, x);
        get(&without, first, plain);
        ck_assert_msg(memcmp(x, plain, (size_t)n * sizeof *x) == 0, "parameter %d differs", i);
        if (weights[i].absent)
            continue;
        for (int64_t k = 0; k < n; k++)
            dtype_store(type, want, (k / pixels / channels * pixels + k % pixels) * channels + k / pixels % channels, (double)x[k]);
        get(&with, copy_of(adam, i), got);
        ck_assert_msg(memcmp(got, want, (size_t)n * sizeof *got) == 0, "copy %d differs", i);
    }
    free_update(&with);
    free_update(&without);
}

START_TEST(kernels_write_copies)
{
    for (emulator_order_kind order = EMULATOR_FORWARD; order <= EMULATOR_RANDOM; order++)
        for (int adam = 0; adam < 2; adam++) {
            const size_t damaged = emulator_count()->damaged;
            emulator_order(order);
            check_update(adam, DTYPE_F16);
            check_update(adam, DTYPE_BF16);
            ck_assert_uint_eq(emulator_count()->damaged, damaged);
        }
    emulator_order(EMULATOR_FORWARD);
}
END_TEST

/* A step that is skipped leaves the copies as they were. */
START_TEST(skipped_kernels_write_none)
{
    static uint16_t got[MOST], old[MOST];
    memset(old, 0x2A, sizeof old);
    for (int adam = 0; adam < 2; adam++) {
        fixture f;
        make_update(&f, adam, DTYPE_F16, NAN);
        for (int i = 0; i < WEIGHTS; i++) {
            const shape sh = shape_of(&weights[i]);
            if (weights[i].absent)
                continue;
            get(&f, copy_of(adam, i), got);
            ck_assert(memcmp(got, old, (size_t)shape_count(&sh) * sizeof *got) == 0);
        }
        free_update(&f);
    }
}
END_TEST

/* ---- steps ---- */

enum { BATCH = 2, CLASSES = 10, STEPS = 9 };

typedef enum way { RUNS, CHAIN, RING } way; /* how the phases are launched */

typedef struct row {
    const char *name, *device;
    bool tokens;
    dtype type;
    optimizer_kind kind;
    int accumulate;
    way by;
    size_t copies; /* how many weights are kept */
} row;
static const row rows[] = {
    {"images, sgd", "emulated", false, DTYPE_F16, OPTIMIZER_SGD, 1, RUNS, 4},
    {"images, adamw, accumulated", "emulated", false, DTYPE_BF16, OPTIMIZER_ADAMW, 2, RUNS, 4},
    {"images, adam, a chain", "emulated", false, DTYPE_F16, OPTIMIZER_ADAM, 1, CHAIN, 4},
    {"images, sgd, runs ahead", "emulated", false, DTYPE_BF16, OPTIMIZER_SGD, 1, RING, 4},
    {"tokens, adamw, a chain", "emulated", true, DTYPE_BF16, OPTIMIZER_ADAMW, 1, CHAIN, 8},
    {"tokens, sgd, accumulated", "emulated", true, DTYPE_F16, OPTIMIZER_SGD, 2, RUNS, 8},
    {"tokens, biases for a library too", "emulated-libs", true, DTYPE_BF16, OPTIMIZER_ADAMW, 1, RUNS, 15},
};

typedef struct opened {
    graph *g;
    backend *b;
    exec *e, *other; /* two executors of one store */
    exec_chain *chain;
    store kept;
    train_graph t;
} opened;

static graph *student_of(const row *r)
{
    static const bert_sizes sizes = {.batch = BATCH, .tokens = 4, .width = 16, .wide = 24, .heads = 2, .words = 12, .classes = CLASSES,
                                     .layers = 1, .seed = 4};
    static const char ini[] = "[student]\n[layer a]\nop = conv_bn\nchannels = 8\nactivation = relu\n[layer b]\nop = conv_bn\nchannels = 16\n"
                              "stride = 2\nactivation = relu\n[layer c]\nop = conv_bn\nchannels = 24\nkernel = 1\nactivation = relu\n"
                              "[layer p]\nop = GlobalAveragePool\n[layer f]\nop = Flatten\n[layer o]\nop = Gemm\nunits = classes\n";
    job *j = NULL;
    graph *g = NULL;
    if (r->tokens)
        return bert_make(&sizes);
    OK(config_load_text("net", ini, strlen(ini), &(config_sources){0}, &j));
    OK(student_build(&(student_spec){.job = j, .classes = CLASSES, .sample = SHAPE(3, 6, 6)}, BATCH, &g));
    config_free(j);
    return g;
}

/* A backend whose updates write no copies. */
static const kernel_row *(*find_any)(const backend *b, op_id op, const kernel_args *a);
static const kernel_row *find_without(const backend *b, op_id op, const kernel_args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (op_is_copy(op_of(op), i) && a->in[i].type)
            return NULL;
    return find_any(b, op, a);
}

static void open_steps(const row *r, bool copies, opened *o)
{
    const train_spec s = {.task = true, .kd = true, .bn_momentum = 0.1, .seed = 3, .keep_gradients = true,
                          .opt = {.kind = r->kind, .momentum = 0.9, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.01,
                                  .ema = 0.5, .accumulate = r->accumulate}};
    *o = (opened){.g = student_of(r)};
    OK(train_graph_build(o->g, &s, &o->t));
    OK(pass_product_precision(o->t.g, r->type));
    OK(backend_open(r->device, &(backend_options){.threads = 1, .max_isa = ISA_REF}, &o->b));
    OK(backend_narrow(o->b, r->type));
    if (!copies) {
        find_any = o->b->find;
        o->b->find = find_without;
    }
    OK(exec_open(o->t.g, o->b, &o->kept, 0, &o->e));
    OK(graph_validate(exec_graph(o->e)));
    OK(exec_open(o->t.g, o->b, &o->kept, 0, &o->other));
    const exec_part part[] = {{o->e, PHASE_MAIN, SIZE_MAX, false}, {o->e, PHASE_UPDATE, SIZE_MAX, false}};
    if (r->by != RUNS)
        OK(exec_chain_open(part, 2, NULL, 0, &o->chain));
    if (r->by == RING)
        OK(exec_chain_open_ring(o->chain, 2));
}

static void close_steps(opened *o)
{
    exec_chain_close(o->chain);
    exec_close(o->e);
    exec_close(o->other);
    store_free(&o->kept);
    backend_close(o->b);
    train_graph_free(&o->t);
    graph_free(o->g);
}

static void fill_inputs(const opened *o, exec *e, uint32_t step)
{
    rng r = rng_make(5, RNG_TEST, step, 0);
    const train_graph *t = &o->t;
    for (size_t i = 0; i < t->g->n_input; i++) {
        const value *v = graph_value(t->g, t->g->input[i]);
        for (int64_t k = 0; k < shape_count(&v->sh); k++)
            dtype_store(v->type, exec_data(e, t->g->input[i]), k, v->type == DTYPE_I64 ? (double)rng_below(&r, CLASSES) : rng_normal(&r));
    }
    float *w = exec_data(e, t->weights);
    w[0] = 0.6f, w[1] = 0.4f, w[2] = 3;
    *(float *)exec_data(e, t->lr) = 0.02f;
    if (t->step)
        *(float *)exec_data(e, t->step) = (float)(step + 1);
    if (t->counter)
        *(int64_t *)exec_data(e, t->counter) = 1;
}

/* The update sees a gradient that is not finite. */
static void spoil(const opened *o)
{
    const float none = NAN;
    OK(exec_put(o->e, o->t.grad[0], &none, sizeof none));
}

static void run_phases(const opened *o, const row *r, exec *e, uint32_t step, bool bad)
{
    for (int m = 0; m < r->accumulate; m++) {
        fill_inputs(o, e, step * 2 + (uint32_t)m);
        OK(exec_run(e, PHASE_MAIN));
    }
    if (bad)
        spoil(o);
    OK(exec_run(e, PHASE_UPDATE));
}

static float run_step(const opened *o, const row *r, uint32_t step, bool bad)
{
    if (r->by == RUNS || bad) {
        run_phases(o, r, o->e, step, bad);
    } else if (r->by == CHAIN) {
        fill_inputs(o, o->e, step * 2);
        OK(exec_chain_run(o->chain));
    } else {
        float loss;
        OK(exec_chain_begin(o->chain));
        fill_inputs(o, o->e, step * 2);
        OK(exec_chain_launch(o->chain));
        OK(exec_chain_finish(o->chain));
        loss = *(float *)exec_data(o->e, o->t.total);
        exec_chain_release(o->chain);
        return loss;
    }
    return *(float *)exec_data(o->e, o->t.total);
}

/* Parameters as the host would restore them: all others than they are. */
static void restore(opened *o)
{
    OK(store_pull(&o->kept));
    for (size_t i = 0; i < o->kept.n; i++)
        for (int64_t k = 0; o->kept.at[i].kind == VALUE_PARAM && k < shape_count(&o->kept.at[i].t.sh); k++)
            ((float *)o->kept.at[i].t.data)[k] *= -0.75f;
    store_changed(&o->kept);
}

/* Every parameter, written on the device. */
static void put_parameters(const opened *o)
{
    for (size_t p = 0; p < o->t.n_param; p++) {
        const size_t n = (size_t)shape_count(&o->t.g->value[o->t.param[p]].sh);
        float *x;
        OK(mem_alloc(&x, n, sizeof *x));
        OK(exec_get(o->e, o->t.param[p], x, n * sizeof *x));
        for (size_t k = 0; k < n; k++)
            x[k] *= 1.25f;
        OK(exec_put(o->e, o->t.param[p], x, n * sizeof *x));
        mem_free(x);
    }
}

/* What comes before step k: as it is when nothing does, after a step that is skipped, ... */
enum { SKIPPED = 2, RESTORED = 4, PUT = 6, WRITTEN = 7 };
static void event(opened *o, const row *r, uint32_t step)
{
    if (step == RESTORED)
        restore(o);
    if (step == PUT)
        put_parameters(o);
    if (step == WRITTEN) /* the other executor makes a step on the same store */
        run_phases(o, r, o->other, 100, false);
}

static size_t count_copies(const graph *g)
{
    size_t n = 0;
    for (size_t v = 1; v < g->n_value; v++)
        n += g->value[v].kind == VALUE_STATE && g->value[v].narrow;
    return n;
}

static void check_same(opened *a, opened *b, const row *r, uint32_t step)
{
    OK(store_pull(&a->kept));
    OK(store_pull(&b->kept));
    ck_assert_uint_eq(a->kept.n, b->kept.n);
    for (size_t i = 0; i < a->kept.n; i++)
        ck_assert_msg(memcmp(a->kept.at[i].t.data, b->kept.at[i].t.data, tensor_bytes(&a->kept.at[i].t)) == 0,
                      "%s: '%s' differs after step %d", r->name, a->kept.at[i].t.name, (int)step);
}

static void check_row(const row *r)
{
    opened with, without;
    open_steps(r, true, &with);
    open_steps(r, false, &without);
    const size_t copies = count_copies(exec_graph(with.e));
    printf("%s: %zu copies, %zu bytes; %zu nodes, %zu without\n", r->name, copies, exec_plan(with.e)->copies,
           exec_graph(with.e)->n_node - 1, exec_graph(without.e)->n_node - 1);
    ck_assert_uint_eq(copies, r->copies);
    ck_assert_uint_eq(count_copies(exec_graph(without.e)), 0);
    ck_assert_uint_eq(with.kept.n, without.kept.n); /* of no store, so in no checkpoint */
    for (uint32_t k = 0; k < STEPS; k++) {
        event(&with, r, k);
        event(&without, r, k);
        const float a = run_step(&with, r, k, k == SKIPPED), b = run_step(&without, r, k, k == SKIPPED);
        ck_assert_msg(isfinite(a) && memcmp(&a, &b, sizeof a) == 0, "%s: the loss of step %d is %g and %g", r->name, (int)k, (double)a, (double)b);
        check_same(&with, &without, r, k);
    }
    close_steps(&with);
    close_steps(&without);
}

START_TEST(steps_have_the_same_bits)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(&rows[i]);
}
END_TEST

const test_entry test_table[] = {TEST(kernels_write_copies), TEST(skipped_kernels_write_none), TEST(steps_have_the_same_bits), {0}};
