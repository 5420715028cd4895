/* test_narrow_layout.c - training steps and frozen models that compute in float16 and bfloat16 (backend_narrow): between kernels
 * images stay in it, channels last, and tokens and rows of features as they lie. Where tensors change is counted: at the region's
 * edges and nowhere else; and the steps' losses and gradients are those of float32 but for rounding. */
#include "base/rng.h"
#include "bert.h"
#include "config/config.h"
#include "distill/frozen.h"
#include "distill/train_graph.h"
#include "exec/exec.h"
#include "harness.h"
#include "ops/attrs.h"
#include "student/student.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BATCH = 4, CLASSES = 10 };

typedef struct net {
    const char *name, *ini;
    int64_t size;        /* of its pictures */
    size_t edges;        /* Reorder nodes of a training step that are not of weights */
    size_t frozen_edges; /* of the frozen model */
    size_t written;      /* norms of a training step whose result is written: something else than convolutions reads it */
    const bert_sizes *bert; /* instead of `ini` */
} net;

#define SE                                                                                                        \
    "[layer e]\nop = GlobalAveragePool\n[layer e1]\nop = Conv\nkernel_shape = 1, 1\nchannels = 8\nactivation = relu\n"    \
    "[layer e2]\nop = Conv\nkernel_shape = 1, 1\nchannels = 32\n[layer e3]\nop = HardSigmoid\n"                          \
    "[layer m]\nop = Mul\ninput = b e3\n"
#define END "[layer p]\nop = GlobalAveragePool\n[layer f]\nop = Flatten\n[layer o]\nop = Gemm\nunits = classes\n"

static const net nets[] = {
    /* the picture, what the last layer reads and, backwards, in float16 the gradient of the logits, which the loss makes in bfloat16;
     * norms that a block or its shortcut ends with are read by additions, the last one by the mean over the image */
    {"resnet-20", "[student]\narch = resnet\ndepth = 20\n", 32, 3, 2, 12},
    {"mobilenetv2", "[student]\narch = mobilenetv2\n", 32, 3, 2, 17},
    {"dscnn", "[student]\narch = dscnn\n", 32, 3, 2, 1},
    {"wrn-10", "[student]\narch = wrn\ndepth = 10\n", 16, 3, 2, 1},
    {"preact resnet-20", "[student]\narch = resnet\ndepth = 20\npreact = true\n", 32, 3, 2, 1},
    /* what squeezes and excites is a plain mean of each channel, that convolutions read, and whose gradient comes from one */
    {"squeeze and excite", "[student]\n[layer a]\nop = conv_bn\nchannels = 16\nactivation = hard_swish\n"
     "[layer b]\nop = conv_bn\nchannels = 32\nactivation = silu\n" SE END, 16, 5, 3, 0},
    {"pools, parts, slopes", "[student]\n[layer a]\nop = conv_bn\nchannels = 16\nactivation = prelu\n"
     "[layer b]\nop = MaxPool\nkernel_shape = 3, 3\nstrides = 2, 2\npads = 1, 1, 1, 1\n"
     "[layer c]\nop = conv_bn\nchannels = 24\nactivation = relu6\n[layer d]\nop = Concat\naxis = 1\ninput = b c\n"
     "[layer g]\nop = AveragePool\nkernel_shape = 2, 2\nstrides = 2, 2\n[layer h]\nop = Dropout\nratio = 0.2\n"
     "[layer i]\nop = conv_bn\nchannels = 16\nactivation = leaky_relu\n" END, 16, 3, 2, 0},
};

typedef struct opened {
    graph *g;
    backend *b;
    exec *e;
    store kept;
    train_graph t;
} opened;

static graph *student_of(const net *n)
{
    job *j = NULL;
    if (n->bert)
        return bert_make(n->bert);
    graph *g = NULL;
    OK(config_load_text("net", n->ini, strlen(n->ini), &(config_sources){0}, &j));
    OK(student_build(&(student_spec){.job = j, .classes = CLASSES, .sample = SHAPE(3, n->size, n->size)}, BATCH, &g));
    config_free(j);
    return g;
}

/* A backend whose tables lack some operators: a list ended by OP_NONE. */
static const op_id norms_in[] = {OP_NORM_CONV, OP_NORM_CONV_GRAD_WEIGHT, OP_NONE}, grad_sums[] = {OP_CONV_GRAD_DATA_SUMS, OP_NONE};
static const op_id *lacking;
static const kernel_row *(*find_any)(const backend *b, op_id op, const kernel_args *a);
static const kernel_row *find_apart(const backend *b, op_id op, const kernel_args *a)
{
    for (const op_id *o = lacking; *o != OP_NONE; o++)
        if (*o == op)
            return NULL;
    return find_any(b, op, a);
}

/* narrow DTYPE_NONE: float32. apart: operators that the backend lacks; NULL: none. */
static void open_step_on(const char *device, const net *n, dtype narrow, const op_id *apart, opened *o)
{
    const train_spec s = {.task = true, .kd = true, .bn_momentum = 0.1, .seed = 3, .keep_gradients = true,
                          .opt = {.kind = OPTIMIZER_SGD, .momentum = 0.9, .accumulate = 1}};
    *o = (opened){.g = student_of(n)};
    OK(train_graph_build(o->g, &s, &o->t));
    OK(pass_product_precision(o->t.g, narrow)); /* as a session does */
    OK(backend_open(device, &(backend_options){.threads = 1, .max_isa = ISA_REF}, &o->b));
    OK(backend_narrow(o->b, narrow));
    if (apart) {
        lacking = apart;
        find_any = o->b->find;
        o->b->find = find_apart;
    }
    OK(exec_open(o->t.g, o->b, &o->kept, 0, &o->e));
    OK(graph_validate(exec_graph(o->e)));
}
static void open_step(const net *n, dtype narrow, opened *o)
{
    open_step_on("emulated", n, narrow, NULL, o);
}

static void close_step(opened *o)
{
    exec_close(o->e);
    store_free(&o->kept);
    backend_close(o->b);
    train_graph_free(&o->t);
    graph_free(o->g);
}

typedef struct reorders {
    size_t nodes;               /* of weights */
    size_t last, plain, others; /* weights of convolutions, channels last, and of matrix products; what else changes */
    size_t kept_last, kept_plain; /* weights that the optimizer writes in the narrow type */
    double kept_bytes;          /* of parameters that no step reads to round them */
} reorders;

/* Of a graph that runs, states in a narrow type are those. */
static void count_copies(const graph *g, reorders *r)
{
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        if (x->kind != VALUE_STATE || !x->narrow)
            continue;
        ++*(x->block ? &r->kept_last : &r->kept_plain);
        r->kept_bytes += 4.0 * (double)shape_count(&x->sh);
    }
}

/* Counts Reorder nodes; weights that change apart, which do so together. What is not expected is printed. */
static reorders count_reorders(const graph *g, bool show)
{
    reorders r = {0};
    count_copies(g, &r);
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        char sh[200];
        if (n->op != OP_REORDER)
            continue;
        const value *x = &g->value[n->in[0]];
        if (x->kind == VALUE_PARAM || x->kind == VALUE_CONST) {
            *(g->value[n->out[0]].block ? &r.last : &r.plain) += n->n_in;
            r.nodes++;
            continue;
        }
        r.others++;
        if (show)
            printf("reorder of %s from %s\n", shape_print(&x->sh, sh), x->from ? op_of(g->node[x->from].op)->name : "an input");
    }
    return r;
}

static size_t count_of(const graph *g, op_id op)
{
    size_t n = 0;
    for (size_t k = 1; k < g->n_node; k++)
        n += g->node[k].op == op;
    return n;
}

static size_t convolutions(const graph *g)
{
    return count_of(g, OP_CONV) + count_of(g, OP_NORM_CONV) + count_of(g, OP_CONV_MOMENTS);
}

/* Convolutions with a norm on the way in. */
static size_t norm_convs(const graph *g)
{
    size_t n = count_of(g, OP_NORM_CONV);
    for (size_t k = 1; k < g->n_node; k++)
        n += g->node[k].op == OP_CONV_MOMENTS && g->node[k].n_in > 4;
    return n;
}

/* Those of them that have a channel a group; their weights' gradients. */
static size_t norm_depthwise(const graph *g, bool gradients)
{
    size_t n = 0;
    for (size_t k = 1; k < g->n_node; k++) {
        const node *c = &g->node[k];
        const bool is = gradients ? c->op == OP_NORM_CONV_GRAD_WEIGHT : c->op == OP_NORM_CONV || (c->op == OP_CONV_MOMENTS && c->n_in > 4);
        n += is && ((const conv_attrs *)c->attr)->group == g->value[c->in[0]].sh.dim[1];
    }
    return n;
}

/* Nodes that read or make images and do so plain, though more than a number for each channel. */
static size_t plain_images(const graph *g)
{
    size_t plain = 0;
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        if (n->op == OP_REORDER || n->when != PHASE_MAIN)
            continue;
        for (int i = 0; i < n->n_in + n->n_out; i++) {
            const value *x = &g->value[i < n->n_in ? n->in[i] : n->out[i - n->n_in]];
            const bool picture = x->kind == VALUE_TEMP && x->sh.rank == 4 && x->sh.dim[0] == BATCH && x->sh.dim[2] > 1;
            if (!picture || x->block)
                continue;
            printf("%s on plain images\n", op_of(n->op)->name);
            plain++;
        }
    }
    return plain;
}

static size_t matrices(const graph *g)
{
    size_t n = 0;
    for (size_t v = 1; v < g->n_value; v++)
        n += g->value[v].kind == VALUE_PARAM && g->value[v].sh.rank == 2;
    return n;
}

static void check_counts(const char *name, const graph *g, size_t edges, bool frozen)
{
    const reorders r = count_reorders(g, false);
    printf("%s: %zu nodes, %zu and %zu weights in %zu Reorder, %zu others; %zu and %zu weights written in halves, %.0f bytes less read\n",
           name, g->n_node - 1, r.last, r.plain, r.nodes, r.others, r.kept_last, r.kept_plain, r.kept_bytes);
    if (r.others != edges)
        count_reorders(g, true);
    ck_assert_uint_eq(r.nodes, 0); /* a frozen model's are constants that lie as they are wanted, a step's come from the optimizer */
    ck_assert_uint_eq(r.others, edges);
    ck_assert_uint_eq(r.kept_last == 0, frozen);
    ck_assert_uint_le(r.kept_last, frozen ? 0 : convolutions(g));
    ck_assert_uint_eq(r.kept_plain, frozen ? 0 : matrices(g));
    ck_assert_uint_eq(plain_images(g), 0);
}

/* Of the norms that only convolutions read are taken the moments; two readers, the convolution and its weight's gradient. */
static void check_norms(const net *n, const graph *g)
{
    const size_t written = count_of(g, OP_BATCH_NORM_TRAIN) + count_of(g, OP_BATCH_NORM) + count_of(g, OP_BATCH_NORM_APPLY);
    const size_t moments = count_of(g, OP_BATCH_NORM_GRAD) + count_of(g, OP_BATCH_NORM_GRAD_APPLY) - written;
    printf("%s: %zu norms written, %zu on the way into convolutions\n", n->name, written, moments);
    if (n->written == 0)
        return;
    ck_assert_uint_eq(written, n->written);
    ck_assert_uint_ge(norm_convs(g), moments);
    ck_assert_uint_eq(norm_convs(g), count_of(g, OP_NORM_CONV_GRAD_WEIGHT));
    ck_assert_uint_gt(moments, 0);
}

/* Weights that change together, of many sizes, channels last or as they lie: each is what its own node would make of it. */
START_TEST(weights_change_together)
{
    static const int64_t sizes[][4] = {{5, 3, 3, 3}, {16, 8, 3, 3}, {7, 24, 1, 1}, {1, 1, 5, 5}, {0, 8, 3, 3},
                                        {40, 64, 3, 2}, {9, 12, 1, 3}, {70, 61, 1, 1}};
    enum { N = sizeof sizes / sizeof *sizes };
    static float x[N][40 * 64 * 6];
    static uint16_t want[40 * 64 * 6], got[40 * 64 * 6];
    for (int form = 0; form < 4; form++) {
        const dtype t = form & 1 ? DTYPE_BF16 : DTYPE_F16;
        const bool plain = form >= 2;
        kernel_tensor in[N], out[N];
        rng r = rng_make(4, RNG_TEST, 0, 0);
        backend *b;
        OK(backend_open("emulated", &(backend_options){.threads = 1, .max_isa = ISA_REF}, &b));
        OK(backend_narrow(b, t));
        for (size_t i = 0; i < N; i++) {
            const shape sh = SHAPE(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
            const size_t n = (size_t)shape_count(&sh);
            in[i] = (kernel_tensor){.type = DTYPE_F32, .sh = sh};
            out[i] = (kernel_tensor){.type = t, .sh = sh, .block = plain ? 0 : (int32_t)sh.dim[1]};
            OK(b->alloc(b, n * sizeof(float), &in[i].data));
            OK(b->alloc(b, n * sizeof(uint16_t), &out[i].data));
            for (size_t k = 0; k < n; k++)
                x[i][k] = (float)rng_normal(&r);
            if (n)
                OK(b->remote->copy(b, in[i].data, x[i], n * sizeof(float), COPY_TO_DEVICE));
        }
        const kernel_args a = {.in = in, .out = out, .n_in = N, .n_out = N, .threads = 1, .queue = b->queue};
        const kernel_row *row = b->find(b, OP_REORDER, &a);
        ck_assert_ptr_nonnull(row);
        row->run(&a);
        OK(b->remote->wait(b));
        for (size_t i = 0; i < N; i++) {
            const int64_t *d = sizes[i], pixels = d[2] * d[3], n = d[0] * d[1] * pixels;
            for (int64_t k = 0; k < n; k++)
                dtype_store(t, want, plain ? k : (k / pixels / d[1] * pixels + k % pixels) * d[1] + k / pixels % d[1], (double)x[i][k]);
            if (n) {
                OK(b->remote->copy(b, got, out[i].data, (size_t)n * sizeof *got, COPY_TO_HOST));
                OK(b->remote->wait(b));
            }
            ck_assert_msg(memcmp(got, want, (size_t)n * sizeof *got) == 0, "weight %zu differs", i);
            b->free(b, in[i].data, (size_t)n * sizeof(float));
            b->free(b, out[i].data, (size_t)n * sizeof(uint16_t));
        }
        backend_close(b);
    }
}
END_TEST

START_TEST(training_steps_change_layout_at_their_edges_only)
{
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        for (dtype t = DTYPE_F16;; t = DTYPE_BF16) {
            opened o;
            open_step(&nets[i], t, &o);
            check_counts(nets[i].name, exec_graph(o.e), nets[i].edges - (t == DTYPE_BF16), false);
            check_norms(&nets[i], exec_graph(o.e));
            close_step(&o);
            if (t == DTYPE_BF16)
                break;
        }
    }
}
END_TEST

/* The student as a file has it: all numbers are constants. */
static void open_frozen(const net *n, dtype narrow, backend **b, frozen_net *f)
{
    graph *g = student_of(n);
    for (size_t v = 1; v < g->n_value; v++)
        if (g->value[v].kind == VALUE_PARAM || g->value[v].kind == VALUE_STATE)
            g->value[v].kind = VALUE_CONST;
    OK(backend_open("emulated", &(backend_options){.threads = 1, .max_isa = ISA_REF}, b));
    OK(backend_narrow(*b, narrow));
    OK(frozen_open(g, *b, 0, f));
}

START_TEST(frozen_models_change_layout_at_their_edges_only)
{
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        backend *b;
        frozen_net f;
        open_frozen(&nets[i], DTYPE_F16, &b, &f);
        check_counts(nets[i].name, exec_graph(f.e), nets[i].frozen_edges, true);
        frozen_close(&f);
        backend_close(b);
    }
}
END_TEST

/* ---- statistics out of convolutions ---- */

/* The images that nodes read to take their statistics, in bytes; *made: how many of these a convolution makes. */
static double read_for_statistics(const graph *g, size_t *made)
{
    double bytes = 0;
    *made = 0;
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        if (n->op != OP_BATCH_NORM_TRAIN && n->op != OP_BATCH_NORM_MOMENTS)
            continue;
        const value *x = &g->value[n->in[0]];
        const op_desc *maker = x->from ? op_of(g->node[x->from].op) : NULL;
        bytes += (double)shape_count(&x->sh) * (x->narrow ? 2 : 4);
        *made += maker && maker->macs;
    }
    return bytes;
}

START_TEST(statistics_come_out_of_convolutions)
{
    static const size_t rows[] = {0, 1, 2, 3}; /* of nets; where a norm reads a sum, a convolution adds it up */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        opened wide, narrow;
        size_t made;
        double bytes = 0;
        open_step(&nets[rows[i]], DTYPE_NONE, &wide);
        open_step(&nets[rows[i]], DTYPE_F16, &narrow);
        const graph *g = exec_graph(narrow.e);
        for (size_t k = 1; k < g->n_node; k++)
            bytes += g->node[k].op == OP_CONV_MOMENTS ? 2.0 * (double)shape_count(&g->value[g->node[k].out[0]].sh) : 0;
        const double left = read_for_statistics(g, &made);
        printf("%s: of %zu norms %zu have their statistics from convolutions, %zu read these; %.0f bytes of images less, %.0f left\n",
               nets[rows[i]].name, count_of(exec_graph(wide.e), OP_BATCH_NORM_TRAIN), count_of(g, OP_CONV_MOMENTS), made, bytes, left);
        ck_assert_uint_eq(made, 0);
        ck_assert(left == 0);
        ck_assert_uint_gt(count_of(g, OP_CONV_MOMENTS), 0);
        ck_assert_uint_eq(count_of(g, OP_CONV_MOMENTS) + count_of(g, OP_BATCH_NORM_TRAIN) + count_of(g, OP_BATCH_NORM_MOMENTS),
                          count_of(exec_graph(wide.e), OP_BATCH_NORM_TRAIN));
        close_step(&wide);
        close_step(&narrow);
    }
}
END_TEST

/* ---- sums of norms' gradients out of convolutions' gradients ---- */

/* Norms whose gradient reads what a convolution's gradient made for it alone, to take its sums. */
static size_t sums_of_gradients(const graph *g)
{
    size_t found = 0;
    uint32_t *uses;
    OK(graph_count_uses(g, &uses));
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        const node_id from = n->op == OP_BATCH_NORM_GRAD && uses[n->in[0]] == 1 ? g->value[n->in[0]].from : 0;
        found += from && g->node[from].op == OP_CONV_GRAD_DATA;
    }
    mem_free(uses);
    return found;
}

START_TEST(sums_come_out_of_convolutions)
{
    static const struct {
        size_t net, fused;
    } rows[] = {{0, 9}, {1, 36}, {2, 8}, {3, 4}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (dtype t = DTYPE_F16;; t = DTYPE_BF16) {
            opened o;
            double bytes = 0;
            open_step(&nets[rows[i].net], t, &o);
            const graph *g = exec_graph(o.e);
            for (size_t k = 1; k < g->n_node; k++) /* the gradient and x, once less */
                bytes += g->node[k].op == OP_CONV_GRAD_DATA_SUMS ? 2 * 2.0 * (double)shape_count(&g->value[g->node[k].out[0]].sh) : 0;
            const size_t fused = count_of(g, OP_CONV_GRAD_DATA_SUMS), left = count_of(g, OP_BATCH_NORM_GRAD);
            printf("%s: %zu norms' gradients have their sums from convolutions, %zu take them; %.0f bytes of images less\n",
                   nets[rows[i].net].name, fused, left, bytes);
            ck_assert_uint_eq(fused, rows[i].fused);
            ck_assert_uint_eq(count_of(g, OP_BATCH_NORM_GRAD_APPLY), fused);
            ck_assert_uint_eq(sums_of_gradients(g), 0);
            close_step(&o);
            if (t == DTYPE_BF16)
                break;
        }
    }
}
END_TEST

/* They are those of the numbers that were written, not of the sums before these were rounded. */
START_TEST(statistics_are_of_what_was_written)
{
    static const struct {
        int64_t n, c, m, size;
        double shift;
    } rows[] = {{3, 16, 16, 23, 0}, {3, 8, 10, 9, 0}, {2, 8, 72, 24, 3}, {4, 16, 64, 7, 60}, {9, 8, 16, 61, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const int64_t m = rows[i].m, pixels = rows[i].size * rows[i].size, count = rows[i].n * pixels;
        const conv_attrs conv = {.group = 1};
        const batch_norm_attrs norm = {.epsilon = 1e-5, .relu = 1};
        rng r = rng_make(7, RNG_TEST, i, 0);
        value_id in[5], y, out[3];
        double worst = 0;
        graph *g;
        backend *b;
        exec *e;
        OK(graph_new(&g));
        const shape shapes[] = {SHAPE(rows[i].n, rows[i].c, rows[i].size, rows[i].size), SHAPE(m, rows[i].c, 1, 1), SHAPE(m), SHAPE(m), SHAPE(m)};
        for (size_t k = 0; k < 5; k++)
            OK(graph_add_input(g, NULL, DTYPE_F32, shapes[k], &in[k]));
        OK(graph_add1(g, OP_CONV, &conv, in[0], in[1], in[2], &y));
        OK(graph_add(g, OP_BATCH_NORM_TRAIN, &norm, (const value_id[]){y, in[3], in[4]}, 3, out, 3));
        OK(graph_add_output(g, y));
        for (size_t k = 0; k < 3; k++)
            OK(graph_add_output(g, out[k]));
        OK(backend_open("emulated", &(backend_options){.threads = 1, .max_isa = ISA_REF}, &b));
        OK(backend_narrow(b, DTYPE_F16));
        OK(exec_open(g, b, NULL, 0, &e));
        ck_assert_uint_eq(count_of(exec_graph(e), OP_CONV_MOMENTS), 1);
        for (size_t k = 0; k < 5; k++)
            for (int64_t j = 0; j < shape_count(&shapes[k]); j++)
                ((float *)exec_data(e, in[k]))[j] = (float)(rng_normal(&r) + (k == 2 ? rows[i].shift : 0));
        OK(exec_run(e, PHASE_MAIN));
        const float *x = exec_data(e, y), *mean = exec_data(e, out[1]), *var = exec_data(e, out[2]);
        for (int64_t c = 0; c < m; c++) {
            double sum = 0, square = 0;
            for (int64_t k = 0; k < count; k++)
                sum += (double)x[(k / pixels * m + c) * pixels + k % pixels] / (double)count;
            for (int64_t k = 0; k < count; k++) {
                const double far = (double)x[(k / pixels * m + c) * pixels + k % pixels] - sum;
                square += far * far / (double)count;
            }
            worst = fmax(worst, fmax(fabs((double)mean[c] - sum) / fmax(1, fabs(sum)), fabs((double)var[c] - square) / square));
        }
        test_max_error("moments", worst, 2e-6);
        ck_assert_msg(worst <= 2e-6, "row %zu: off by %g", i, worst);
        exec_close(e);
        backend_close(b);
        graph_free(g);
    }
}
END_TEST

/* ---- what they compute ---- */

static void fill_inputs(const opened *o) /* labels, and words */
{
    rng r = rng_make(5, RNG_TEST, 0, 0);
    const train_graph *t = &o->t;
    for (size_t i = 0; i < t->g->n_input; i++) {
        const value *v = graph_value(t->g, t->g->input[i]);
        for (int64_t k = 0; k < shape_count(&v->sh); k++)
            dtype_store(v->type, exec_data(o->e, t->g->input[i]), k, v->type == DTYPE_I64 ? (double)rng_below(&r, CLASSES) : rng_normal(&r));
    }
    float *w = exec_data(o->e, t->weights);
    w[0] = 0.6f, w[1] = 0.4f, w[2] = 3;
    *(float *)exec_data(o->e, t->lr) = 0.05f;
    if (t->counter)
        *(int64_t *)exec_data(o->e, t->counter) = 1;
}

static float *fetched(const opened *o, value_id v)
{
    float *x;
    const size_t n = (size_t)shape_count(&o->t.g->value[v].sh);
    OK(mem_alloc(&x, n, sizeof *x));
    OK(exec_get(o->e, v, x, n * sizeof *x));
    return x;
}

/* Loss, and all gradients as one vector: its distance from the exact ones over their length. */
static void check_near(const char *what, const opened *exact, const opened *o, double tolerance)
{
    double off = 0, square = 0;
    float *a = fetched(exact, exact->t.total), *b = fetched(o, o->t.total);
    const double loss = fabs((double)*a - (double)*b) / fabs((double)*a);
    mem_free(a);
    mem_free(b);
    for (size_t p = 0; p < exact->t.n_param; p++) {
        a = fetched(exact, exact->t.grad[p]);
        b = fetched(o, o->t.grad[p]);
        for (int64_t k = 0; k < shape_count(&exact->t.g->value[exact->t.grad[p]].sh); k++) {
            off += ((double)a[k] - (double)b[k]) * ((double)a[k] - (double)b[k]);
            square += (double)a[k] * (double)a[k];
        }
        mem_free(a);
        mem_free(b);
    }
    printf("%s: loss off by %.2g, gradients by %.2g of their length\n", what, loss, sqrt(off / square));
    test_max_error("loss", loss, tolerance);
    test_max_error("gradients", sqrt(off / square), 10 * tolerance);
    ck_assert(loss <= tolerance);
    ck_assert(sqrt(off / square) <= 10 * tolerance);
}

static void check_step(const net *n, dtype type, double tolerance)
{
    opened wide, narrow;
    char what[80];
    open_step(n, DTYPE_NONE, &wide);
    open_step(n, type, &narrow);
    fill_inputs(&wide);
    fill_inputs(&narrow);
    OK(exec_run(wide.e, PHASE_MAIN));
    OK(exec_run(narrow.e, PHASE_MAIN));
    snprintf(what, sizeof what, "%s in %s", n->name, dtype_of(type)->name);
    check_near(what, &wide, &narrow, tolerance);
    close_step(&wide);
    close_step(&narrow);
}

START_TEST(steps_are_those_of_float32)
{
    static const net small[] = {
        {"resnet-8", "[student]\narch = resnet\ndepth = 8\nwidths = 8 16 24\n", 8, 0, 0, 0},
        {"squeeze and excite", "[student]\n[layer a]\nop = conv_bn\nchannels = 16\nactivation = hard_swish\n"
         "[layer b]\nop = conv_bn\nchannels = 32\nactivation = silu\n" SE END, 8, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        check_step(&small[i], DTYPE_F16, 2e-3);
        check_step(&small[i], DTYPE_BF16, 1.5e-2);
    }
    check_step(&nets[sizeof nets / sizeof *nets - 1], DTYPE_F16, 2e-3);
}
END_TEST

/* A norm on the way into convolutions is computed as the one that is written, and rounded as that is: loss and gradients are the
 * same bits. */
static void check_apart(const net *n, dtype type, size_t depthwise)
{
    opened in, apart;
    open_step_on("emulated", n, type, NULL, &in);
    open_step_on("emulated", n, type, norms_in, &apart);
    ck_assert_uint_gt(norm_convs(exec_graph(in.e)), 0);
    ck_assert_uint_eq(norm_convs(exec_graph(apart.e)), 0);
    ck_assert_uint_eq(norm_depthwise(exec_graph(in.e), false), depthwise);
    ck_assert_uint_eq(norm_depthwise(exec_graph(in.e), true), depthwise);
    ck_assert_uint_lt(exec_plan(in.e)->activations, exec_plan(apart.e)->activations);
    fill_inputs(&in);
    fill_inputs(&apart);
    OK(exec_run(in.e, PHASE_MAIN));
    OK(exec_run(apart.e, PHASE_MAIN));
    for (size_t p = 0; p <= in.t.n_param; p++) {
        const value_id v = p < in.t.n_param ? in.t.grad[p] : in.t.total;
        float *a = fetched(&in, v), *b = fetched(&apart, v);
        ck_assert_msg(memcmp(a, b, (size_t)shape_count(&in.t.g->value[v].sh) * sizeof *a) == 0, "%s: gradient %zu of %zu differs", n->name,
                      p, in.t.n_param);
        mem_free(a);
        mem_free(b);
    }
    close_step(&in);
    close_step(&apart);
}

START_TEST(norms_on_the_way_in_are_those_that_are_written)
{
    static const struct {
        net n;
        size_t depthwise; /* of the norms on the way in */
    } rows[] = {
        {{"preact resnet-8", "[student]\narch = resnet\ndepth = 8\nwidths = 8 16 24\npreact = true\n", 8, 0, 0, 0}, 0},
        {{"ceilings, few channels", "[student]\n[layer a]\nop = conv_bn\nchannels = 20\nactivation = relu6\n[layer b]\nop = conv_bn\n"
          "channels = 32\nstride = 2\nactivation = relu\n[layer c]\nop = conv_bn\nchannels = 40\nkernel = 1\n" END, 9, 0, 0, 0}, 0},
        /* ceilings, strides, a sum between, five taps in a row */
        {{"inverted residuals", "[student]\n[layer a]\nop = conv_bn\nchannels = 8\nactivation = relu6\n"
          "[layer b]\nop = inverted_residual\nchannels = 8\nexpand = 3\n[layer c]\nop = inverted_residual\nchannels = 16\nexpand = 2\n"
          "stride = 2\n[layer d]\nop = inverted_residual\nchannels = 16\nexpand = 1\nkernel = 5\nstride = 2\n" END, 11, 0, 0, 0}, 3},
        /* taken in: b, d; not 5x5 with stride 1, which takes each element in ten times, nor 20 channels */
        {{"separable", "[student]\n[layer a]\nop = conv_bn\nchannels = 16\nstride = 2\n[layer b]\nop = depthwise_separable\n"
          "channels = 24\n[layer c]\nop = depthwise_separable\nchannels = 24\nkernel = 5\n[layer d]\nop = depthwise_separable\n"
          "channels = 20\nkernel = 5\nstride = 2\n[layer e]\nop = depthwise_separable\nchannels = 16\n" END, 11, 0, 0, 0}, 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        check_apart(&rows[i].n, DTYPE_F16, rows[i].depthwise);
        check_apart(&rows[i].n, DTYPE_BF16, rows[i].depthwise);
    }
}
END_TEST

/* Sums that a convolution's gradient makes are of what is written, as those that a pass of its own takes: they differ by their order. */
static void check_summed(const net *n, dtype type, double tolerance)
{
    opened fused, apart;
    open_step_on("emulated", n, type, NULL, &fused);
    open_step_on("emulated", n, type, grad_sums, &apart);
    ck_assert_uint_gt(count_of(exec_graph(fused.e), OP_CONV_GRAD_DATA_SUMS), 0);
    ck_assert_uint_eq(count_of(exec_graph(apart.e), OP_CONV_GRAD_DATA_SUMS), 0);
    fill_inputs(&fused);
    fill_inputs(&apart);
    OK(exec_run(fused.e, PHASE_MAIN));
    OK(exec_run(apart.e, PHASE_MAIN));
    check_near(n->name, &apart, &fused, tolerance);
    close_step(&fused);
    close_step(&apart);
}

START_TEST(sums_are_those_of_their_own_pass)
{
    static const net small[] = {
        {"resnet-8", "[student]\narch = resnet\ndepth = 8\nwidths = 8 16 24\n", 8, 0, 0, 0},
        {"depthwise, few channels", "[student]\n[layer a]\nop = conv_bn\nchannels = 20\nactivation = relu6\n[layer b]\n"
         "op = inverted_residual\nchannels = 24\nexpand = 2\n[layer c]\nop = depthwise_separable\nchannels = 32\nstride = 2\n"
         "[layer d]\nop = conv_bn\nchannels = 40\nkernel = 1\n" END, 9, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        check_summed(&small[i], DTYPE_F16, 1e-6);
        check_summed(&small[i], DTYPE_BF16, 5e-6);
    }
}
END_TEST

/* cuDNN's engines of float16 have scale and shift in it: a twin of the library gives what written norms give but for that. */
START_TEST(cudnn_takes_norms_in)
{
    static const net small = {"resnet-8", "[student]\narch = resnet\ndepth = 8\nwidths = 8 16 24\n", 8, 0, 0, 0};
    opened in, apart;
    open_step_on("emulated-libs", &small, DTYPE_F16, NULL, &in);
    open_step_on("emulated", &small, DTYPE_F16, norms_in, &apart);
    ck_assert_uint_eq(norm_convs(exec_graph(in.e)), 3); /* one a block */
    ck_assert_uint_eq(count_of(exec_graph(in.e), OP_NORM_CONV_GRAD_WEIGHT), 3);
    for (size_t k = 1; k < exec_graph(in.e)->n_node; k++) /* a library's gradient is not taken from it for the sake of sums */
        if (exec_graph(in.e)->node[k].op == OP_CONV_GRAD_DATA_SUMS)
            ck_assert_ptr_nonnull(strstr(exec_plan(in.e)->kernel[k]->name, "cuDNN"));
    ck_assert_uint_eq(count_of(exec_graph(in.e), OP_CONV_GRAD_DATA_SUMS), 3);
    fill_inputs(&in);
    fill_inputs(&apart);
    OK(exec_run(in.e, PHASE_MAIN));
    OK(exec_run(apart.e, PHASE_MAIN));
    check_near("cuDNN's twin", &apart, &in, 2e-3);
    close_step(&in);
    close_step(&apart);
    open_step_on("emulated-libs", &small, DTYPE_BF16, NULL, &in); /* no engines */
    ck_assert_uint_eq(norm_convs(exec_graph(in.e)), 0);
    close_step(&in);
}
END_TEST

START_TEST(frozen_models_are_those_of_float32)
{
    static float x[BATCH * 3 * 16 * 16], y[2][BATCH * CLASSES];
    rng r = rng_make(9, RNG_TEST, 0, 0);
    for (size_t k = 0; k < sizeof x / sizeof *x; k++)
        x[k] = (float)rng_normal(&r);
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        double worst = 0, largest = 0;
        if (nets[i].size != 16)
            continue;
        for (int narrow = 0; narrow < 2; narrow++) {
            backend *b;
            frozen_net f;
            open_frozen(&nets[i], narrow ? DTYPE_F16 : DTYPE_NONE, &b, &f);
            OK(frozen_run(&f, &(const void *){x}, BATCH, &(float *){y[narrow]}));
            frozen_close(&f);
            backend_close(b);
        }
        for (int k = 0; k < BATCH * CLASSES; k++) {
            worst = fmax(worst, fabs((double)y[0][k] - (double)y[1][k]));
            largest = fmax(largest, fabs((double)y[0][k]));
        }
        test_max_error(nets[i].name, worst / largest, 5e-3);
        ck_assert(worst <= 5e-3 * largest);
    }
}
END_TEST

/* ---- tokens ---- */

#define SMALL .batch = BATCH, .tokens = 6, .width = 24, .wide = 40, .heads = 3, .words = 20, .classes = CLASSES, .seed = 4
static const bert_sizes small_post = {SMALL, .layers = 2}, small_pre = {SMALL, .layers = 2, .pre_norm = true, .masked = true},
                        long_post = {.batch = BATCH, .tokens = 64, .width = 32, .wide = 128, .heads = 2, .words = 20, .classes = CLASSES,
                                     .layers = 2, .masked = true, .seed = 4}; /* many tokens: what they take is most of the memory */
static const bert_sizes small_apart = {SMALL, .layers = 1, .masked = true, .apart = true};
static const net transformers[] = {{.name = "norms after sums", .bert = &small_post}, {.name = "norms before", .bert = &small_pre},
                                   {.name = "attention apart", .bert = &small_apart}};

static size_t activation_bytes(const exec *e)
{
    return exec_plan(e)->activations;
}

static size_t count_op(const graph *g, op_id op)
{
    size_t n = 0;
    for (size_t k = 1; k < g->n_node; k++)
        n += g->node[k].op == op;
    return n;
}

/* Gradients of biases and slopes of activations are part of the products, in either type. */
static void check_products(const graph *g)
{
    ck_assert_uint_eq(count_op(g, OP_LINEAR_GRAD_WEIGHT), 14); /* six a layer, two of the classifier */
    ck_assert_uint_eq(count_op(g, OP_LINEAR_GRAD_DATA), 3);    /* gelu in both layers, tanh before the classifier */
    ck_assert_uint_eq(count_op(g, OP_GELU_GRAD) + count_op(g, OP_TANH_GRAD), 0);
    ck_assert_uint_eq(count_op(g, OP_REDUCE_SUM), 1); /* the places' words, which no product reads */
}

/* Of a step over tokens: the optimizer writes every weight of an encoder as it is read, and little changes type besides. */
START_TEST(tokens_stay_narrow)
{
    for (int pre = 0; pre < 2; pre++) {
        bert_sizes sizes = long_post;
        opened o, wide;
        sizes.pre_norm = pre;
        const net n = {.name = pre ? "norms before sums" : "norms after sums", .bert = &sizes};
        open_step(&n, DTYPE_NONE, &wide);
        open_step(&n, DTYPE_BF16, &o);
        const reorders r = count_reorders(exec_graph(o.e), true);
        const double share = (double)activation_bytes(o.e) / (double)activation_bytes(wide.e);
        printf("%s: %zu nodes, %zu weights written in halves, %.0f bytes less read, %zu others change type, %.3f of float32's activations\n", n.name,
               exec_graph(o.e)->n_node - 1, r.kept_plain, r.kept_bytes, r.others, share);
        check_products(exec_graph(o.e));
        check_products(exec_graph(wide.e));
        ck_assert_uint_eq(r.kept_plain, 14); /* six products a layer, two of the classifier, on [batch, width] */
        ck_assert_uint_eq(r.nodes, 0);
        ck_assert_uint_eq(r.others, pre ? 2 : 0); /* of a stream in float32 the first words, and what they give it */
        ck_assert(share < (pre ? 0.66 : 0.58)); /* a stream of residuals in float32 takes its share */
        close_step(&o);
        close_step(&wide);
    }
}
END_TEST

START_TEST(steps_of_tokens_are_those_of_float32)
{
    for (size_t i = 0; i < sizeof transformers / sizeof *transformers; i++) {
        check_step(&transformers[i], DTYPE_F16, 2e-3);
        check_step(&transformers[i], DTYPE_BF16, 1.5e-2);
    }
}
END_TEST

/* Attention that is no node: its products, forwards and backwards, read narrow heads; scores and their gradients, which the softmax
 * and its gradient read, are float32. */
START_TEST(products_of_heads)
{
    static const char *const devices[] = {"emulated", "emulated-libs"};
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
        opened o;
        size_t products = 0, exact = 0;
        open_step_on(devices[d], &transformers[2], DTYPE_BF16, NULL, &o);
        const graph *g = exec_graph(o.e);
        const reorders r = count_reorders(g, true);
        for (size_t k = 1; k < g->n_node; k++) {
            const node *n = &g->node[k];
            if (n->op != OP_MATMUL)
                continue;
            ck_assert_int_eq(g->value[n->in[0]].narrow, DTYPE_BF16);
            ck_assert_int_eq(g->value[n->in[1]].narrow, DTYPE_BF16);
            exact += !g->value[n->out[0]].narrow;
            products++;
        }
        printf("%s: %zu products of heads, %zu give float32; %zu others change type\n", devices[d], products, exact, r.others);
        ck_assert_uint_eq(count_of(g, OP_ATTENTION), 0);
        ck_assert_uint_eq(products, 6);
        ck_assert_uint_eq(exact, 2);
        ck_assert_uint_eq(r.others, 0); /* what scales weights and gradients of scores rounds them too */
        close_step(&o);
    }
}
END_TEST

/* ---- rows of features ---- */

/* Widths so large that what lies between layers is most of the memory. */
static const net mlp = {"mlp", "[student]\narch = mlp\nhidden = 128 96 72\n", 8, 0, 0, 0, NULL};

/* Of a step of an MLP: the samples and, in float16, the gradient of the logits are rounded, and nothing else (weights by the
 * optimizer); the logits are float32, as are the gradients of parameters. */
START_TEST(rows_stay_narrow)
{
    for (dtype t = DTYPE_F16;; t = DTYPE_BF16) {
        opened o, wide;
        open_step(&mlp, t, &o);
        open_step(&mlp, DTYPE_NONE, &wide);
        const graph *g = exec_graph(o.e);
        const reorders r = count_reorders(g, true);
        size_t made[2] = {0};
        for (size_t k = 1; k < g->n_node; k++)
            if (op_of(g->node[k].op)->macs)
                made[g->value[g->node[k].out[0]].narrow == t]++;
        printf("mlp in %s: %zu nodes, in float32 %zu; %zu products give float32, %zu give it\n", dtype_of(t)->name, g->n_node - 1,
               exec_graph(wide.e)->n_node - 1, made[0], made[1]);
        ck_assert_uint_eq(r.nodes, 0);
        ck_assert_uint_eq(r.kept_plain, 4);
        ck_assert_uint_eq(r.others, t == DTYPE_F16 ? 2 : 1);
        ck_assert_uint_eq(made[0], 5); /* the logits, gradients of four weights */
        ck_assert_uint_eq(made[1], 6); /* three layers, and gradients of what they make */
        ck_assert_uint_eq(g->n_node, exec_graph(wide.e)->n_node + r.others);
        close_step(&o);
        close_step(&wide);
        if (t == DTYPE_BF16)
            break;
    }
}
END_TEST

/* The library's products of rows that lie in float32 round both operands in launches of their own. */
START_TEST(rows_are_rounded_once)
{
    size_t launches[2];
    for (int lies = 0; lies < 2; lies++) {
        opened o;
        open_step_on("emulated-libs", &mlp, lies ? DTYPE_BF16 : DTYPE_NONE, NULL, &o);
        if (!lies) { /* the same products, rounded, of what lies in float32 */
            exec_close(o.e);
            store_free(&o.kept);
            OK(pass_product_precision(o.t.g, DTYPE_BF16));
            OK(exec_open(o.t.g, o.b, &o.kept, 0, &o.e));
        }
        fill_inputs(&o);
        if (lies)
            ck_assert_uint_eq(count_reorders(exec_graph(o.e), false).kept_plain, 4 + 3); /* it wants biases in the type of the result */
        for (int again = 0; again < 2; again++) /* the second time it is recorded */
            OK(exec_run(o.e, PHASE_MAIN));
        launches[lies] = exec_kernels(o.e, PHASE_MAIN);
        close_step(&o);
    }
    printf("mlp with cuBLASLt: %zu launches beside the products where operands are rounded for each, %zu where they lie so\n", launches[0],
           launches[1]);
    ck_assert_uint_eq(launches[0], launches[1] + 21); /* 22 operands of 11 products; the samples: the optimizer writes weights and biases */
}
END_TEST

/* A bias gives the same bits in either type, with own kernels and with the library. */
START_TEST(biases_in_either_type)
{
    enum { M = 70, K = 24, N = 21 };
    static const char *const devices[] = {"emulated", "emulated-libs"};
    for (size_t d = 0; d < 4; d++) {
        static uint16_t x[M * K], w[K * N], half[N];
        static float bias[N], got[2][M * N];
        const dtype t = d & 1 ? DTYPE_BF16 : DTYPE_F16;
        const linear_attrs at = {.alpha = 0.5, .activation = ACTIVATION_TANH};
        rng r = rng_make(6, RNG_TEST, d, 0);
        backend *b;
        OK(backend_open(devices[d / 2], &(backend_options){.threads = 1, .max_isa = ISA_REF}, &b));
        OK(backend_narrow(b, t));
        for (int i = 0; i < M * K; i++)
            dtype_store(t, x, i, rng_normal(&r));
        for (int i = 0; i < K * N; i++)
            dtype_store(t, w, i, rng_normal(&r));
        for (int i = 0; i < N; i++) {
            dtype_store(t, half, i, rng_normal(&r));
            bias[i] = (float)dtype_load(t, half, i);
        }
        for (int narrow = 0; narrow < 2; narrow++) {
            const void *const from[] = {x, w, narrow ? (const void *)half : bias};
            const size_t bytes[] = {sizeof x, sizeof w, narrow ? sizeof half : sizeof bias, sizeof got[0]};
            void *at_device[5];
            kernel_tensor in[3] = {{.type = t, .sh = SHAPE(M, K)}, {.type = t, .sh = SHAPE(K, N)},
                                   {.type = narrow ? t : DTYPE_F32, .sh = SHAPE(N)}};
            kernel_tensor out = {.type = DTYPE_F32, .sh = SHAPE(M, N)};
            kernel_args a = {.in = in, .out = &out, .n_in = 3, .n_out = 1, .attr = &at, .threads = 1, .queue = b->queue};
            const kernel_row *row = b->find(b, OP_LINEAR, &a);
            ck_assert_ptr_nonnull(row);
            a.work_size = row->workspace(&a);
            for (int i = 0; i < 5; i++)
                OK(b->alloc(b, i < 4 ? bytes[i] : a.work_size, &at_device[i]));
            for (int i = 0; i < 3; i++) {
                in[i].data = at_device[i];
                OK(b->remote->copy(b, in[i].data, from[i], bytes[i], COPY_TO_DEVICE));
            }
            out.data = at_device[3];
            a.work = at_device[4];
            row->run(&a);
            OK(b->remote->copy(b, got[narrow], out.data, sizeof got[0], COPY_TO_HOST));
            OK(b->remote->wait(b));
            for (int i = 0; i < 5; i++)
                b->free(b, at_device[i], i < 4 ? bytes[i] : a.work_size);
        }
        ck_assert_msg(memcmp(got[0], got[1], sizeof got[0]) == 0, "%s, %s", devices[d / 2], dtype_of(t)->name);
        backend_close(b);
    }
}
END_TEST

START_TEST(steps_of_rows_are_those_of_float32)
{
    static const net smooth = {"mlp of gelus", "[student]\narch = mlp\nactivation = gelu\nhidden = 128 96 72\n", 8, 0, 0, 0, NULL};
    check_step(&smooth, DTYPE_F16, 2e-3); /* near its kink a relu may go the other way when its number is rounded */
    check_step(&smooth, DTYPE_BF16, 1.5e-2);
}
END_TEST

const test_entry test_table[] = {TEST(weights_change_together), TEST(training_steps_change_layout_at_their_edges_only),
                                 TEST(frozen_models_change_layout_at_their_edges_only), TEST(statistics_come_out_of_convolutions),
                                 TEST(statistics_are_of_what_was_written), TEST(steps_are_those_of_float32),
                                 TEST(norms_on_the_way_in_are_those_that_are_written), TEST(cudnn_takes_norms_in),
                                 TEST(sums_come_out_of_convolutions), TEST(sums_are_those_of_their_own_pass),
                                 TEST(frozen_models_are_those_of_float32), TEST(tokens_stay_narrow),
                                 TEST(steps_of_tokens_are_those_of_float32), TEST(products_of_heads),
                                 TEST(rows_stay_narrow), TEST(rows_are_rounded_once), TEST(biases_in_either_type),
                                 TEST(steps_of_rows_are_those_of_float32), {0}};
