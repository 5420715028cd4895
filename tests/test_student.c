/* test_student.c - jobs to student graphs: sizes against PyTorch, names, start values, gradients, faults. */
#include "harness.h"
#include "base/io.h"
#include "distill/train_graph.h"
#include "exec/exec.h"
#include "onnx/import.h"
#include "ops/attrs.h"
#include "student/student.h"

#include <math.h>
#include <stdio.h>

static job *job_of(const char *ini)
{
    job *j = NULL;
    config_sources none = {0};
    OK(config_load_text("s.ini", ini, strlen(ini), &none, &j));
    return j;
}

static graph *build(const job *j, int64_t classes, shape sample, int64_t batch)
{
    graph *g = NULL;
    OK(student_build(&(student_spec){.job = j, .classes = classes, .sample = sample}, batch, &g));
    OK(graph_validate(g));
    return g;
}

static const value *find(const graph *g, const char *name)
{
    value_id v = graph_find(g, name);
    ck_assert_msg(v != 0, "there is no value '%s'", name);
    return graph_value(g, v);
}

static bool is_shape(const value *v, shape want)
{
    return shape_equal(&v->sh, &want);
}

/* ---- presets ---- */

#define IMG(c, n) {3, {c, n, n}}

/* Parameters and multiply-accumulates of the same networks written as PyTorch modules: tools/golden/student_presets.py
 * prints these numbers. */
static const struct preset_row {
    const char *ini;
    shape sample;
    int64_t classes, parameters;
    double macs;
    const char *names; /* values that must exist */
} preset_rows[] = {
    {"arch = mlp", IMG(1, 28), 10, 235146, 234752, "layer1 layer2"},
    {"arch = mlp\nhidden = 300 100 50\nwidth = 0.5", {1, {20}}, 3, 12053, 11825, "layer1 layer3"},
    {"arch = cnn", IMG(1, 28), 10, 24058, 1919872, "layer1 layer2 layer3"},
    {"arch = cnn\ndepth = 4\nwidths = 8 24\nstem_stride = 2\nhidden = 32", IMG(3, 32), 7, 8863, 646112, "layer1 layer2"},
    {"arch = resnet\ndepth = 8\nwidths = 16 24 32\nstem_stride = 2", IMG(1, 28), 10, 31434, 1644224,
     "stem layer1 layer2 layer3"},
    {"arch = resnet\ndepth = 20", IMG(3, 32), 10, 272474, 40813184, "stem layer3"},
    {"arch = resnet\ndepth = 110", IMG(3, 32), 10, 1730714, 253149824, "stem layer3"},
    {"arch = resnet\ndepth = 20\npreact = true", IMG(3, 32), 10, 272282, 40813184, "layer1 layer3"},
    {"arch = resnet\ndepth = 18\nwidths = 64 128 256 512", IMG(3, 32), 100, 11220132, 555468800, "stem layer4"},
    {"arch = wrn\ndepth = 16\nwidth = 4", IMG(3, 32), 10, 2748890, 392612352, "layer3"},
    {"arch = wrn\ndepth = 40\nwidth = 2\ndropout = 0.3", IMG(3, 32), 100, 2255156, 327610880, "layer3"},
    {"arch = mobilenetv2", IMG(3, 224), 1000, 3504872, 300774272, "stem layer7"},
    {"arch = mobilenetv2\nwidth = 0.35", IMG(1, 32), 10, 408650, 15316224, "stem layer7"},
    {"arch = dscnn", {3, {1, 49, 10}}, 12, 21196, 2408768, "stem layer1"},
    {"arch = dscnn\ndepth = 6\nwidths = 24 48 96", IMG(3, 32), 10, 23674, 1076928, "stem layer3"},
};
enum { N_PRESETS = sizeof preset_rows / sizeof preset_rows[0] };

static job *preset_job(const struct preset_row *r)
{
    char ini[300];
    snprintf(ini, sizeof ini, "[student]\n%s\n", r->ini);
    return job_of(ini);
}

START_TEST(presets_have_the_sizes_of_pytorch)
{
    for (int i = 0; i < N_PRESETS; i++) {
        const struct preset_row *r = &preset_rows[i];
        job *j = preset_job(r);
        for (int64_t batch = 1; batch <= 5; batch += 4) {
            graph *g = build(j, r->classes, r->sample, batch);
            graph_stats s = graph_measure(g, batch);
            ck_assert_msg(s.parameters == r->parameters, "%s: %lld parameters, PyTorch has %lld", r->ini,
                          (long long)s.parameters, (long long)r->parameters);
            ck_assert_msg(fabs(s.macs - r->macs) < 0.5, "%s: %.1f MACs, PyTorch has %.1f", r->ini, s.macs, r->macs);
            const value *x = find(g, "input"), *y = find(g, "logits");
            ck_assert(is_shape(y, SHAPE(batch, r->classes)) && x->flags == VALUE_BATCHED);
            ck_assert(g->n_input == 1 && g->n_output == 1 && graph_value(g, g->output[0]) == y);
            char names[100], *save, *n;
            snprintf(names, sizeof names, "%s", r->names);
            for (n = strtok_r(names, " ", &save); n; n = strtok_r(NULL, " ", &save))
                ck_assert_int_eq(find(g, n)->kind, VALUE_TEMP);
            graph_free(g);
        }
        config_free(j);
    }
}
END_TEST

/* Operators of a preset are in the set that every runtime takes; batch norm is folded away when it is exported. */
START_TEST(presets_are_portable)
{
    for (int i = 0; i < N_PRESETS; i++) {
        job *j = preset_job(&preset_rows[i]);
        graph *g = build(j, preset_rows[i].classes, preset_rows[i].sample, 2);
        for (size_t k = 1; k < g->n_node; k++) {
            op_id op = g->node[k].op;
            ck_assert_msg(op == OP_BATCH_NORM || op == OP_DROPOUT || (op_of(op)->flags & OP_PORTABLE), "%s: %s", preset_rows[i].ini,
                          op_of(op)->name);
        }
        graph_free(g);
        config_free(j);
    }
}
END_TEST

/* A loss on the logits reaches every parameter, in inference and in training form. */
static void check_gradients(graph *g, const char *what)
{
    value_id y = g->output[0], square, loss, *wrt, *grad;
    size_t n = 0;
    OK(graph_add1(g, OP_MUL, NULL, y, y, 0, &square));
    OK(graph_add1(g, OP_REDUCE_SUM, &(reduce_attrs){.keepdims = 0}, square, 0, 0, &loss));
    OK(mem_alloc(&wrt, g->n_value, sizeof *wrt));
    OK(mem_alloc(&grad, g->n_value, sizeof *grad));
    for (size_t v = 1; v < g->n_value; v++)
        if (g->value[v].kind == VALUE_PARAM)
            wrt[n++] = (value_id)v;
    ck_assert_uint_gt(n, 0);
    OK(graph_gradients(g, loss, wrt, n, grad));
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(grad[i] && shape_equal(&g->value[grad[i]].sh, &g->value[wrt[i]].sh), "%s: no gradient for '%s'", what,
                      g->value[wrt[i]].name);
    OK(graph_validate(g));
    mem_free(wrt);
    mem_free(grad);
}

START_TEST(gradients_reach_every_parameter)
{
    for (int i = 0; i < N_PRESETS; i++)
        for (int training = 0; training < 2; training++) {
            job *j = preset_job(&preset_rows[i]);
            graph *g = build(j, preset_rows[i].classes, preset_rows[i].sample, 2);
            if (training)
                OK(pass_training_mode(g, 0.1));
            check_gradients(g, preset_rows[i].ini);
            graph_free(g);
            config_free(j);
        }
}
END_TEST

START_TEST(activations_can_be_chosen)
{
    static const char *const names[] = {"none", "relu", "relu6", "leaky_relu", "prelu", "elu", "gelu", "silu", "hard_swish", "sigmoid", "tanh"};
    static const char *const archs[] = {"resnet", "cnn", "wrn", "mobilenetv2", "dscnn", "mlp"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t a = 0; a < sizeof archs / sizeof *archs; a++) {
            char ini[200];
            snprintf(ini, sizeof ini, "[student]\narch = %s\nactivation = %s\n", archs[a], names[i]);
            job *j = job_of(ini);
            graph *g = build(j, 10, SHAPE(1, 16, 16), 2);
            (void)find(g, "layer1");
            check_gradients(g, ini);
            graph_free(g);
            config_free(j);
        }
}
END_TEST

START_TEST(one_dimensional_signals)
{
    job *j = job_of("[student]\narch = resnet\ndepth = 10\nwidths = 8 16\n");
    graph *g = build(j, 5, SHAPE(2, 100), 3);
    ck_assert(is_shape(find(g, "layer2"), SHAPE(3, 16, 50)));
    ck_assert(is_shape(find(g, "stage1.0.conv1.weight"), SHAPE(8, 8, 3)));
    graph_free(g);
    config_free(j);
}
END_TEST

/* ---- the reference student ---- */

static graph *import(const char *path, int64_t batch)
{
    onnx_model *m;
    graph *g = NULL;
    OK(onnx_open(path, NULL, &m));
    OK(onnx_import(m, &(import_options){.batch = batch, .trainable = true}, &g));
    onnx_close(m);
    return g;
}

static void compare_nodes(const graph *ours, node_id a, const graph *theirs, node_id b)
{
    const node *x = &ours->node[a], *y = &theirs->node[b];
    text at = {0}, bt = {0};
    ck_assert_msg(x->op == y->op, "node %u is %s, not %s", a, op_of(x->op)->name, op_of(y->op)->name);
    if (x->op == OP_BATCH_NORM) { /* the file holds float32(1e-5) */
        const batch_norm_attrs *p = x->attr, *q = y->attr;
        ck_assert(fabs(p->epsilon - q->epsilon) < 1e-12 && fabs(p->momentum - q->momentum) < 1e-7);
    } else {
        graph_print_attrs(x, &at);
        graph_print_attrs(y, &bt);
        ck_assert_str_eq(at.s ? at.s : "", bt.s ? bt.s : "");
    }
    text_free(&at);
    text_free(&bt);
    ck_assert(x->n_in == y->n_in && x->n_out == y->n_out);
    for (int i = 0; i < x->n_in; i++) {
        const value *v = &ours->value[x->in[i]], *w = &theirs->value[y->in[i]];
        ck_assert_msg(v->kind == w->kind && shape_equal(&v->sh, &w->sh), "node %u (%s), input %d", a, op_of(x->op)->name, i);
        if (v->kind != VALUE_TEMP) {
            ck_assert_str_eq(v->name, w->name);
            ck_assert_uint_eq(v->flags & ~(uint32_t)VALUE_BATCHED, w->flags & ~(uint32_t)VALUE_BATCHED);
        }
    }
    ck_assert(shape_equal(&ours->value[x->out[0]].sh, &theirs->value[y->out[0]].sh));
}

/* Node for node the graph that PyTorch exported, but for the mean: ReduceMean there, GlobalAveragePool and Reshape here. */
START_TEST(resnet8_is_the_reference_student)
{
    const char *dir = test_data_dir();
    const char *path = dir ? test_path(dir, "fashion-teacher/parity/student_init.onnx") : NULL;
    job *j = preset_job(&preset_rows[4]);
    graph *ours = build(j, 10, SHAPE(1, 28, 28), 4), *theirs;
    config_free(j);
    if (!path) {
        test_skip("resnet8_is_the_reference_student", "no test data");
        graph_free(ours);
        return;
    }
    theirs = import(path, 4);
    size_t a = 1, b = 1;
    for (; a < ours->n_node && b < theirs->n_node; a++, b++) {
        if (theirs->node[b].op == OP_REDUCE_MEAN) {
            ck_assert(ours->node[a].op == OP_GLOBAL_AVERAGE_POOL && ours->node[a + 1].op == OP_RESHAPE);
            a++;
        } else {
            compare_nodes(ours, (node_id)a, theirs, (node_id)b);
        }
    }
    ck_assert(a == ours->n_node && b == theirs->n_node);
    size_t n = 0, m = 0;
    for (size_t v = 1; v < ours->n_value; v++)
        n += ours->value[v].kind == VALUE_PARAM || ours->value[v].kind == VALUE_STATE;
    for (size_t v = 1; v < theirs->n_value; v++)
        m += theirs->value[v].kind == VALUE_PARAM || theirs->value[v].kind == VALUE_STATE;
    ck_assert_uint_eq(n, m);
    graph_free(ours);
    graph_free(theirs);
}
END_TEST

/* ---- start values ---- */

static void moments(const value *v, double *mean, double *var, double *kurtosis, double *largest)
{
    const float *x = v->data;
    int64_t n = shape_count(&v->sh);
    double m = 0, m2 = 0, m4 = 0;
    *largest = 0;
    for (int64_t i = 0; i < n; i++) {
        m += (double)x[i] / (double)n;
        if (fabs((double)x[i]) > *largest)
            *largest = fabs((double)x[i]);
    }
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - m;
        m2 += d * d / (double)n;
        m4 += d * d * d * d / (double)n;
    }
    *mean = m;
    *var = m2;
    *kurtosis = m4 / (m2 * m2);
}

/* Within five standard errors of U(-bound, bound): mean 0, variance bound^2/3, kurtosis 9/5. */
static void check_uniform(const graph *g, const char *name, double bound)
{
    const value *v = find(g, name);
    double n = (double)shape_count(&v->sh), mean, var, kurtosis, largest;
    moments(v, &mean, &var, &kurtosis, &largest);
    ck_assert_msg(largest <= bound * (1 + 1e-6), "%s: %g lies outside +-%g", name, largest, bound);
    ck_assert_msg(largest > bound * (1 - 20 / n), "%s: largest %g of a bound of %g", name, largest, bound);
    ck_assert_msg(fabs(mean) < 5 * bound / sqrt(3 * n), "%s: mean %g", name, mean);
    /* Var(x^2) = bound^4 (1/5 - 1/9) */
    ck_assert_msg(fabs(var - bound * bound / 3) < 5 * bound * bound * sqrt((1.0 / 5 - 1.0 / 9) / n), "%s: variance %g", name, var);
    if (n > 1000)
        ck_assert_msg(fabs(kurtosis - 1.8) < 10 / sqrt(n), "%s: kurtosis %g", name, kurtosis);
}

static void check_normal(const graph *g, const char *name, double deviation)
{
    const value *v = find(g, name);
    double n = (double)shape_count(&v->sh), mean, var, kurtosis, largest, s2 = deviation * deviation;
    moments(v, &mean, &var, &kurtosis, &largest);
    ck_assert_msg(fabs(mean) < 5 * deviation / sqrt(n), "%s: mean %g", name, mean);
    ck_assert_msg(fabs(var - s2) < 5 * s2 * sqrt(2 / n), "%s: variance %g, not %g", name, var, s2);
    ck_assert_msg(fabs(kurtosis - 3) < 5 * sqrt(24 / n), "%s: kurtosis %g", name, kurtosis);
    ck_assert_msg(largest > 2.5 * deviation && largest < 7 * deviation, "%s: largest %g", name, largest);
}

static void check_all(const graph *g, const char *name, float want)
{
    const value *v = find(g, name);
    for (int64_t i = 0; i < shape_count(&v->sh); i++)
        ck_assert_msg(((const float *)v->data)[i] == want, "%s[%d] is not %g", name, (int)i, (double)want);
}

/* torch.nn.Conv2d and Linear: weight and bias uniform in +-1/sqrt(fan_in); norms 1 and 0. */
START_TEST(init_pytorch)
{
    job *j = job_of("[student]\narch = cnn\nwidths = 32 64\nhidden = 200\ninit = pytorch\n");
    graph *g = build(j, 100, SHAPE(3, 32, 32), 2);
    check_uniform(g, "stage1.0.conv.weight", 1 / sqrt(3 * 9));
    check_uniform(g, "stage2.0.conv.weight", 1 / sqrt(32 * 9));
    check_uniform(g, "fc1.weight", 1 / sqrt(64));
    check_uniform(g, "fc1.bias", 1 / sqrt(64));
    check_uniform(g, "fc.weight", 1 / sqrt(200));
    check_uniform(g, "fc.bias", 1 / sqrt(200));
    check_all(g, "stage2.0.bn.weight", 1);
    check_all(g, "stage2.0.bn.bias", 0);
    check_all(g, "stage2.0.bn.running_mean", 0);
    check_all(g, "stage2.0.bn.running_var", 1);
    ck_assert_uint_eq(find(g, "stage2.0.bn.weight")->flags, VALUE_NO_DECAY_NORM);
    ck_assert_uint_eq(find(g, "stage2.0.bn.bias")->flags, VALUE_NO_DECAY_NORM);
    ck_assert_uint_eq(find(g, "fc.bias")->flags, VALUE_NO_DECAY_BIAS);
    ck_assert_uint_eq(find(g, "fc.weight")->flags, 0);
    ck_assert_int_eq(find(g, "stage2.0.bn.running_var")->kind, VALUE_STATE);
    graph_free(g);
    config_free(j);
}
END_TEST

/* Convolutions normal with variance 2/fan_out; PyTorch counts fan_out of a depthwise one over all its channels. */
START_TEST(init_he)
{
    job *j = job_of("[student]\narch = dscnn\ndepth = 2\nwidths = 64 128\ninit = he\n");
    graph *g = build(j, 50, SHAPE(3, 32, 32), 2);
    check_normal(g, "stem.weight", sqrt(2.0 / (64 * 9)));
    check_normal(g, "stage2.0.depthwise.weight", sqrt(2.0 / (64 * 9)));
    check_normal(g, "stage2.0.pointwise.weight", sqrt(2.0 / 128));
    check_uniform(g, "fc.weight", 1 / sqrt(128));
    check_uniform(g, "fc.bias", 1 / sqrt(128));
    check_all(g, "bn.weight", 1);
    graph_free(g);
    config_free(j);
}
END_TEST

START_TEST(init_of_layers)
{
    job *j = job_of("[layer e]\nop = Gather\nentries = 300\nchannels = 48\n"
                    "[layer n]\nop = LayerNormalization\n"
                    "[layer m]\nop = MatMul\nchannels = 96\n"
                    "[layer t]\nop = Transpose\nperm = 0 2 1\n"
                    "[layer p]\nop = PRelu\n"
                    "[layer u]\nop = ConvTranspose\nchannels = 40\nkernel_shape = 3\n"
                    "[layer r]\nop = ReduceMean\naxes = 2\nkeepdims = 0\n"
                    "[layer f]\nop = Gemm\nchannels = 7\n");
    graph *g = NULL;
    OK(student_build(&(student_spec){.job = j, .classes = 7, .sample = SHAPE(20), .type = DTYPE_I64}, 3, &g));
    check_normal(g, "e.weight", 1);
    check_all(g, "n.weight", 1);
    check_all(g, "n.bias", 0);
    check_uniform(g, "m.weight", 1 / sqrt(48)); /* [in, out] */
    check_all(g, "p.weight", 0.25f);
    /* torch.nn.ConvTranspose1d: fan_in is counted on weight [in, out, k] as on any other: out * k */
    check_uniform(g, "u.weight", 1 / sqrt(40 * 3));
    check_uniform(g, "u.bias", 1 / sqrt(40 * 3));
    check_uniform(g, "f.weight", 1 / sqrt(40));
    ck_assert(is_shape(find(g, "f.weight"), SHAPE(7, 40)));
    ck_assert(is_shape(find(g, "p.weight"), SHAPE(96, 1)));
    check_gradients(g, "layers");
    graph_free(g);
    config_free(j);
}
END_TEST

/* Same names and start values in a and b. */
static bool same_start(const graph *a, const graph *b, bool all_equal)
{
    size_t n = 0, equal = 0;
    for (size_t v = 1; v < a->n_value; v++) {
        const value *x = &a->value[v], *y;
        if (x->kind != VALUE_PARAM && x->kind != VALUE_STATE)
            continue;
        y = find(b, x->name);
        ck_assert(shape_equal(&x->sh, &y->sh) && x->kind == y->kind && x->flags == y->flags);
        n++;
        equal += memcmp(x->data, y->data, (size_t)shape_count(&x->sh) * sizeof(float)) == 0;
    }
    ck_assert_uint_gt(n, 10);
    return all_equal ? equal == n : equal > 0;
}

START_TEST(start_values_follow_seed_and_name)
{
    job *j = job_of("[student]\narch = resnet\n[train]\nseed = 1\n"), *k = job_of("[student]\narch = resnet\n[train]\nseed = 2\n");
    job *deep = job_of("[student]\narch = resnet\ndepth = 14\n[train]\nseed = 1\n");
    graph *a = build(j, 10, SHAPE(1, 28, 28), 128), *b = build(j, 10, SHAPE(1, 28, 28), 1000);
    graph *c = build(k, 10, SHAPE(1, 28, 28), 128), *d = build(deep, 10, SHAPE(1, 28, 28), 128);
    ck_assert(same_start(a, b, true));
    ck_assert(!same_start(a, c, true));
    ck_assert(same_start(a, d, true)); /* more layers change none that were there */
    const float *x = find(a, "stage1.0.conv1.weight")->data, *y = find(a, "stage1.0.conv2.weight")->data;
    ck_assert_msg(memcmp(x, y, 64) != 0, "two parameters begin alike");
    /* nodes are the same but for the batch */
    ck_assert_uint_eq(a->n_node, b->n_node);
    for (size_t i = 1; i < a->n_node; i++) {
        text s = {0}, t = {0};
        graph_print_attrs(&a->node[i], &s);
        graph_print_attrs(&b->node[i], &t);
        ck_assert_str_eq(s.s ? s.s : "", t.s ? t.s : "");
        text_free(&s);
        text_free(&t);
    }
    graph_free(a), graph_free(b), graph_free(c), graph_free(d);
    config_free(j), config_free(k), config_free(deep);
}
END_TEST

/* ---- dropout ---- */

/* Runs a graph of one input (filled with ones) and the counter; copies output 0. */
static void run_dropout(exec *e, const graph *g, value_id counter, int64_t number, float *out)
{
    float *x = exec_data(e, g->input[0]);
    int64_t n = shape_count(&g->value[g->input[0]].sh);
    for (int64_t i = 0; i < n; i++)
        x[i] = 1;
    *(int64_t *)exec_data(e, counter) = number;
    OK(exec_run(e, PHASE_MAIN));
    memcpy(out, exec_data(e, g->output[0]), (size_t)n * sizeof *out);
}

/* A share of the elements, another one each time, the rest scaled up; the mean stays (five standard errors). */
START_TEST(dropout_is_random)
{
    enum { N = 300000 };
    graph *g;
    backend *b;
    exec *e;
    value_id x, counter, y;
    float *first, *again, *next;
    size_t bytes = N * sizeof(float);
    OK(graph_new(&g));
    OK(graph_add_input(g, "x", DTYPE_F32, SHAPE(3, N / 3), &x));
    OK(graph_add_input(g, "counter", DTYPE_I64, (shape){0}, &counter));
    OK(graph_add1(g, OP_DROPOUT_TRAIN, &(dropout_attrs){.ratio = 0.3, .seed = 11}, x, counter, 0, &y));
    OK(graph_add_output(g, y));
    OK(backend_open("cpu", &(backend_options){.threads = 2, .max_isa = ISA_AVX512}, &b));
    OK(exec_open(g, b, NULL, 0, &e));
    OK(mem_alloc(&first, N, sizeof *first));
    OK(mem_alloc(&again, N, sizeof *again));
    OK(mem_alloc(&next, N, sizeof *next));
    run_dropout(e, g, counter, 5, first);
    run_dropout(e, g, counter, 6, next);
    run_dropout(e, g, counter, 5, again);
    ck_assert(memcmp(first, again, bytes) == 0);
    double dropped = 0, both = 0;
    for (int i = 0; i < N; i++) {
        ck_assert(first[i] == 0 || fabs((double)first[i] - 1 / 0.7) < 1e-6);
        dropped += first[i] == 0;
        both += first[i] == 0 && next[i] == 0;
    }
    ck_assert(fabs(dropped / N - 0.3) < 5 * sqrt(0.3 * 0.7 / N));
    ck_assert_msg(fabs(both / N - 0.09) < 5 * sqrt(0.09 * 0.91 / N), "two runs drop %g together", both / N);
    mem_free(first);
    mem_free(again);
    mem_free(next);
    exec_close(e);
    backend_close(b);
    graph_free(g);
}
END_TEST

/* The training graph drops at every Dropout of the student, forward and backward, each with a mask of its own. */
START_TEST(dropout_enters_the_training_graph)
{
    job *j = job_of("[student]\narch = mlp\nhidden = 20 30\ndropout = 0.25\n");
    graph *g = build(j, 10, SHAPE(1, 8, 8), 4);
    train_graph t;
    train_spec s = {.kd = true, .bn_momentum = 0.1, .seed = 3, .opt = {.kind = OPTIMIZER_SGD, .accumulate = 1}};
    size_t forward = 0, all = 0;
    int64_t seeds[8] = {0};
    OK(train_graph_build(g, &s, &t));
    ck_assert_uint_ne(t.counter, 0);
    for (size_t k = 1; k < t.g->n_node; k++) {
        const node *n = &t.g->node[k];
        ck_assert_int_ne(n->op, OP_DROPOUT);
        if (n->op != OP_DROPOUT_TRAIN)
            continue;
        const dropout_attrs *at = n->attr;
        ck_assert(fabs(at->ratio - 0.25) < 1e-12 && n->in[1] == t.counter);
        for (size_t m = 1; m < g->n_node; m++)
            forward += g->node[m].op == OP_DROPOUT && strcmp(g->node[m].name, n->name) == 0;
        ck_assert_uint_lt(all, 8);
        seeds[all++] = at->seed;
    }
    ck_assert_uint_eq(forward, 2);
    ck_assert_uint_eq(all, 4);
    ck_assert(seeds[0] != seeds[1] && seeds[0] == seeds[3] && seeds[1] == seeds[2]);
    train_graph_free(&t);
    graph_free(g);
    config_free(j);
    j = job_of("[student]\narch = mlp\n");
    g = build(j, 10, SHAPE(1, 8, 8), 4);
    OK(train_graph_build(g, &s, &t));
    ck_assert_uint_eq(t.counter, 0);
    train_graph_free(&t);
    graph_free(g);
    config_free(j);
}
END_TEST

/* ---- layer sections ---- */

/* The reference student once more, in blocks. */
START_TEST(layers_make_the_same_network)
{
    job *j = job_of("[layer stem]\nop = conv_bn\nchannels = 16\nstride = 2\n"
                    "[layer layer1]\nop = residual\nchannels = 16\n"
                    "[layer layer2]\nop = residual\nchannels = 24\nstride = 2\n"
                    "[layer layer3]\nop = residual\nchannels = 32\nstride = 2\n"
                    "[layer pool]\nop = GlobalAveragePool\n"
                    "[layer flat]\nop = Flatten\n"
                    "[layer fc]\nop = Gemm\nunits = classes\n");
    graph *g = build(j, 10, SHAPE(1, 28, 28), 6);
    graph_stats s = graph_measure(g, 6);
    ck_assert_int_eq(s.parameters, 31434);
    ck_assert(fabs(s.macs - 1644224) < 0.5);
    ck_assert(is_shape(find(g, "layer3"), SHAPE(6, 32, 4, 4)));
    ck_assert(is_shape(find(g, "layer3.short.0.weight"), SHAPE(32, 24, 1, 1)));
    ck_assert_uint_eq(graph_find(g, "fc"), 0);
    check_gradients(g, "layers");
    graph_free(g);
    config_free(j);
}
END_TEST

/* Branches, several outputs, numbers as operands, every block, activations. */
START_TEST(layers_with_branches)
{
    job *j = job_of("[layer a]\nop = Conv\nchannels = 8\nkernel_shape = 3 3\npads = 1 1 1 1\nactivation = silu\n"
                    "[layer parts]\nop = Split\naxis = 1\nnum_outputs = 2\n"
                    "[layer left]\nop = inverted_residual\ninput = parts\nchannels = 4\nexpand = 2\n"
                    "[layer right]\nop = depthwise_separable\ninput = parts.1\nchannels = 4\nkernel = 5\n"
                    "[layer both]\nop = Concat\ninput = left right\naxis = 1\n"
                    "[layer scaled]\nop = Mul\ninput = both 0.5\n"
                    "[layer sum]\nop = Add\ninput = scaled a\nactivation = relu\n"
                    "[layer pre]\nop = preact\nchannels = 8\ndropout = 0.1\n"
                    "[layer clip]\nop = Clip\nmin = -1\nmax = 6\n"
                    "[layer pool]\nop = MaxPool\nkernel_shape = 2 2\nstrides = 2 2\n"
                    "[layer bn]\nop = BatchNormalization\n"
                    "[layer hidden]\nop = dense\nchannels = 12\ndropout = 0.2\nactivation = gelu\n"
                    "[layer logits]\nop = Gemm\nchannels = 5\nbias = false\n");
    graph *g = build(j, 5, SHAPE(3, 8, 8), 2);
    ck_assert(is_shape(find(g, "parts.1"), SHAPE(2, 4, 8, 8)));
    ck_assert(is_shape(find(g, "right.depthwise.weight"), SHAPE(4, 1, 5, 5)));
    ck_assert(is_shape(find(g, "left.expand.weight"), SHAPE(8, 4, 1, 1)));
    ck_assert(is_shape(find(g, "hidden.weight"), SHAPE(12, 128)));
    ck_assert_uint_eq(graph_find(g, "logits.bias"), 0);
    ck_assert_uint_ne(graph_find(g, "a.bias"), 0);
    check_gradients(g, "branches");
    graph_free(g);
    config_free(j);
}
END_TEST

#define CONV  "[layer c]\nop = Conv\nchannels = 8\nkernel_shape = 3 3\n"
#define GEMM  "[layer f]\nop = Gemm\nunits = classes\n"
#define TAIL  "[layer p]\nop = GlobalAveragePool\n[layer q]\nop = Flatten\n" GEMM

/* A student file and a part of each message it must give; several messages are separated by '|'. */
static const struct bad_row {
    const char *ini, *want;
} bad_rows[] = {
    {"[train]\nlr = 1\n", "no student: set student.arch"},
    /* presets */
    {"[student]\narch = resnet\ndepth = 9\n", "s.ini:3:9: error: depth: with 3 stages the depth of resnet is 6n + 2: 8, 14, 20 ... up to 2000, not 9"},
    {"[student]\narch = resnet\ndepth = 2\n", "s.ini:3:9: error: depth"},
    {"[student]\narch = wrn\ndepth = 8\n", "s.ini:3:9: error: depth: with 3 stages the depth of wrn is 6n + 4: 10, 16, 22"},
    {"[student]\narch = resnet\ndepth = 9998\n", "up to 2000, not 9998"},
    {"[student]\narch = mlp\ndepth = 3\n", "s.ini:3:9: error: depth: mlp has no depth to choose"},
    {"[student]\narch = mlp\nwidths = 3 4\n", "s.ini:3:10: error: widths: mlp takes no list of widths; use 'hidden'"},
    {"[student]\narch = mobilenetv2\nwidths = 3 4\n", "s.ini:3:10: error: widths: mobilenetv2 takes no list of widths; use 'width'"},
    {"[student]\narch = mlp\nstem_stride = 2\n", "s.ini:3:15: error: stem_stride: mlp has no stem"},
    {"[student]\narch = cnn\npreact = yes\n", "s.ini:3:10: error: preact: only resnet and wrn"},
    {"[student]\narch = cnn\nactivation = rlu\n", "s.ini:3:14: error: activation: activation 'rlu' is unknown; did you mean 'relu'?"},
    {"[student]\narch = cnn\nwidths = 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n", "s.ini:3:10: error: widths: 17 stages; at most 16"},
    {"[student]\narch = cnn\nwidths = 65536 65536\nwidth = 64\n", "s.ini:3:10: error: widths: 4194304 channels"},
    {"[student]\narch = cnn\nwidths = 65536 65536\n", "parameters; make it smaller"},
    {"[student]\narch = cnn\nwidths = 8 8 8 8 8 8\n", "s.ini:2:8: error: arch: node 'stage6.pool' (MaxPool)"},
    /* the keys of layers */
    {"[layer c]\nop = Cnv\n" TAIL, "s.ini:2:6: error: op: 'Cnv' is no operator and no block; did you mean 'Conv'?"},
    {"[layer c]\nop = residul\nchannels = 4\n" TAIL, "s.ini:2:6: error: op: 'residul' is no operator and no block; did you mean 'residual'?"},
    {"[layer c]\nop = ReluGrad\n" TAIL, "s.ini:2:6: error: op: 'ReluGrad' is no operator and no block"},
    {"[layer c]\nop = Range\n" TAIL, "s.ini:2:6: error: op: Range only serves the shape arithmetic"},
    {"[layer c]\nop = Conv\nchannels = 8\nkernel_shap = 3 3\n" TAIL,
     "s.ini:4:1: error: unknown key 'kernel_shap' of Conv in [layer c]; did you mean 'kernel_shape'?"},
    {"[layer c]\nop = residual\nchannels = 8\nkernel_shape = 3 3\n" TAIL,
     "s.ini:4:1: error: unknown key 'kernel_shape' of residual in [layer c]"},
    {CONV "relu = 1\n" TAIL, "s.ini:5:1: error: unknown key 'relu' of Conv"}, /* an attribute of ours that is not ONNX's */
    {CONV "strides = 2 x\n" TAIL, "s.ini:5:13: error: strides: 'x' is not a whole number"},
    {CONV "group = 0\n" TAIL, "s.ini:5:9: error: group"},
    {CONV "auto_pad = SAME\n" TAIL, "s.ini:5:12: error: auto_pad = SAME is none of: NOTSET SAME_UPPER SAME_LOWER VALID"},
    {CONV "bias = perhaps\n" TAIL, "s.ini:5:8: error: bias: 'perhaps' is neither true nor false"},
    {CONV "units = 3\n" TAIL, "s.ini:5:9: error: units: channels is set too"},
    {CONV "activation = sigmod\n" TAIL, "s.ini:5:14: error: activation: 'sigmod' is unknown; did you mean 'sigmoid'?"},
    {CONV "entries = 4\n" TAIL, "s.ini:5:1: error: unknown key 'entries' of Conv"},
    {CONV "[layer r]\nop = Relu\nchannels = 8\n" TAIL, "s.ini:7:12: error: channels: Relu keeps or computes its channels"},
    {CONV "[layer r]\nop = Relu\nbias = true\n" TAIL, "s.ini:7:1: error: unknown key 'bias' of Relu"},
    {CONV "[layer r]\nop = LeakyRelu\nalpha = inf\n" TAIL, "s.ini:7:9: error: alpha: 'inf' is not a number"},
    {CONV "[layer r]\nop = Reshape\n" TAIL, "s.ini:5:1: error: [layer r]: Reshape needs the key shape"},
    {"[layer c]\nop = residual\n" TAIL, "s.ini:1:1: error: [layer c]: residual needs channels"},
    {"[layer c]\nop = residual\nchannels = 8\nstride = 0\n" TAIL, "s.ini:4:10: error: stride is outside 1 to 16"},
    {CONV "[layer s]\nop = Split\naxis = 1\n" TAIL, "s.ini:5:1: error: [layer s]: Split needs num_outputs or split"},
    {CONV "[layer s]\nop = Split\naxis = 1\nnum_outputs = 2\nactivation = relu\n" TAIL, "no activation behind a layer of several outputs"},
    /* names and inputs */
    {"[layer 1c]\nop = Relu\n" TAIL, "s.ini:1:1: error: [layer 1c]: a name is letters, digits"},
    {"[layer a.b]\nop = Relu\n" TAIL, "s.ini:1:1: error: [layer a.b]: a name is letters, digits"},
    {"[layer input]\nop = Relu\n" TAIL, "s.ini:1:1: error: [layer input]: this name is the student's input"},
    {"[layer logits]\nop = Relu\n" TAIL, "s.ini:1:1: error: [layer logits]: only the last layer"},
    {CONV "[layer r]\nop = Relu\ninput = d\n" TAIL, "s.ini:7:9: error: input: there is no layer 'd'"},
    {CONV "[layer r]\nop = Relu\ninput = inptu\n" TAIL, "s.ini:7:9: error: input: there is no layer 'inptu'; did you mean 'input'?"},
    {CONV "[layer r]\nop = Add\ninput = c q\n" TAIL, "s.ini:7:9: error: input: [layer q] comes later (line 10)"},
    {CONV "[layer r]\nop = Add\ninput = c r\n" TAIL, "s.ini:7:9: error: input: [layer r] cannot read itself (line 5)"},
    {CONV "[layer r]\nop = Relu\ninput = c.1\n" TAIL, "s.ini:7:9: error: input: 'c.1': [layer c] has 1 output, counted from 0"},
    {CONV "[layer r]\nop = Add\n" TAIL, "s.ini:5:1: error: input: Add takes 2, not 1"},
    {CONV "[layer r]\nop = Relu\ninput = c c\n" TAIL, "s.ini:7:9: error: input: Relu takes 1, not 2"},
    {CONV "[layer r]\nop = Sub\ninput = 1 c\n" TAIL, "s.ini:7:9: error: input: the first must be a layer"},
    {CONV "[layer r]\nop = Relu\n[layer s]\nop = Relu\ninput = c\n" TAIL, "s.ini:5:1: error: [layer r]: no layer reads it"},
    /* shapes */
    {"[layer c]\nop = Conv\nkernel_shape = 3 3\n" TAIL, "s.ini:1:1: error: [layer c] (Conv): needs 'channels'"},
    {"[layer c]\nop = Conv\nchannels = 8\n" TAIL, "s.ini:1:1: error: [layer c] (Conv): kernel_shape needs 2 numbers"},
    {"[layer c]\nop = Conv\nchannels = 8\nkernel_shape = 3\n" TAIL, "s.ini:1:1: error: [layer c] (Conv): kernel_shape needs 2 numbers"},
    {"[layer c]\nop = Conv\nchannels = 8\nkernel_shape = 40 3\n" TAIL, "s.ini:1:1: error: [layer c] (Conv): node 'c'"},
    {CONV "group = 3\n" TAIL, "s.ini:1:1: error: [layer c] (Conv): 1 input channels do not divide into 3 groups"},
    {"[layer c]\nop = conv_bn\nchannels = 8\nkernel = 4\n" TAIL, "s.ini:1:1: error: [layer c] (conv_bn): kernel must be odd"},
    {CONV GEMM, "s.ini:5:1: error: [layer f] (Gemm): needs an input [batch, features]; put a Flatten"},
    {CONV "[layer d]\nop = Conv\nchannels = 4\nkernel_shape = 3 3\n[layer a]\nop = Add\ninput = c d\n" TAIL,
     "s.ini:9:1: error: [layer a] (Add)"},
    {CONV "[layer r]\nop = Reshape\nshape = 4 -1\n" GEMM, "s.ini:5:1: error: [layer r] (Reshape): its output is [4, "},
    {CONV "[layer r]\nop = ReduceMean\naxes = 0\n" TAIL, "the first dimension must stay the batch"},
    {CONV "[layer t]\nop = Transpose\nperm = 1 0 2 3\n" TAIL, "the first dimension must stay the batch"},
    {CONV "[layer t]\nop = Transpose\nperm = 0 0 2 3\n" TAIL, "s.ini:5:1: error: [layer t] (Transpose)"},
    {CONV, "s.ini:1:1: error: [layer c]: the last layer must give [batch, 10]"},
    {"[layer f]\nop = dense\nchannels = 9\n", "s.ini:1:1: error: [layer f]: the last layer must give [batch, 10], one number a class; it gives [5, 9]"},
    /* many at once */
    {"[layer a]\nop = Conv\nchanels = 8\nkernel_shape = 3 b\n[layer b]\nop = Rel\n[layer d]\nop = Gemm\ninput = b e\nunits = x\n",
     "s.ini:3:1: error: unknown key 'chanels' of Conv in [layer a]; did you mean 'channels'?|"
     "s.ini:4:18: error: kernel_shape: 'b' is not a whole number|s.ini:6:6: error: op: 'Rel' is no operator|"
     "s.ini:9:9: error: input: there is no layer 'e'|s.ini:10:9: error: units: 'x' is not a whole number"},
};

START_TEST(bad_students_are_explained)
{
    for (size_t i = 0; i < sizeof bad_rows / sizeof *bad_rows; i++) {
        const struct bad_row *r = &bad_rows[i];
        config_sources none = {0};
        job *j = NULL;
        graph *g = NULL;
        char wants[600], *save;
        OK(config_load_text("s.ini", r->ini, strlen(r->ini), &none, &j));
        status st = student_build(&(student_spec){.job = j, .classes = 10, .sample = SHAPE(1, 28, 28)}, 4, &g);
        ck_assert_msg(st == ST_CONFIG, "status %d for\n%s(%s)", (int)st, r->ini, status_message());
        ck_assert_ptr_null(g);
        snprintf(wants, sizeof wants, "%s", r->want);
        for (char *w = strtok_r(wants, "|", &save); w; w = strtok_r(NULL, "|", &save))
            ck_assert_msg(strstr(status_message(), w) != NULL, "the message for\n%s\nis '%s'\nand lacks '%s'", r->ini,
                          status_message(), w);
        config_free(j);
    }
    ck_assert_uint_ge(sizeof bad_rows / sizeof *bad_rows, 50);
}
END_TEST

START_TEST(at_most_twenty_faults)
{
    text t = {0};
    config_sources none = {0};
    job *j;
    graph *g;
    for (int i = 0; i < 40; i++)
        text_printf(&t, "[layer l%d]\nop = Rellu\n", i);
    OK(config_load_text("s.ini", t.s, t.n, &none, &j));
    FAILS(ST_CONFIG, "these are the first 20", student_build(&(student_spec){.job = j, .sample = SHAPE(3)}, 1, &g));
    int lines = 0;
    for (const char *c = status_message(); *c; c++)
        lines += *c == '\n';
    ck_assert_int_eq(lines, 20);
    config_free(j);
    text_free(&t);
}
END_TEST

START_TEST(sample_shapes_are_checked)
{
    job *j = job_of("[student]\narch = resnet\n"), *k = job_of("[student]\narch = mlp\n");
    graph *g = NULL;
    FAILS(ST_CONFIG, "for plain features there is mlp", student_build(&(student_spec){.job = j, .classes = 3, .sample = SHAPE(20)}, 1, &g));
    FAILS(ST_CONFIG, "number of classes is not known", student_build(&(student_spec){.job = j, .sample = SHAPE(1, 8, 8)}, 1, &g));
    FAILS(ST_CONFIG, "a batch of 0", student_build(&(student_spec){.job = j, .classes = 3, .sample = SHAPE(1, 8, 8)}, 0, &g));
    FAILS(ST_CONFIG, "a batch of", student_build(&(student_spec){.job = k, .classes = 3, .sample = SHAPE(4)}, INT64_MAX, &g));
    ck_assert_ptr_null(g);
    config_free(j);
    config_free(k);
    j = job_of("[student]\narch = mlp\nclasses = 4\n");
    g = build(j, 9, SHAPE(5), 2); /* the job's number wins */
    ck_assert(is_shape(find(g, "logits"), SHAPE(2, 4)));
    graph_free(g);
    config_free(j);
}
END_TEST

/* Every allocation fails once: a clean error each time, nothing left behind (memory checkers run this). */
START_TEST(allocations_may_fail)
{
    job *j = job_of("[student]\narch = resnet\n"), *k = job_of(CONV "activation = relu\n" TAIL);
    for (int layers = 0; layers < 2; layers++) {
        student_spec s = {.job = layers ? k : j, .classes = 10, .sample = SHAPE(1, 28, 28)};
        graph *g = NULL;
        int n = 0;
        for (uint64_t at = 1;; at += 1 + at / 8, n++) {
            mem_fail_at(at, true);
            status st = student_build(&s, 2, &g);
            mem_fail_at(0, false);
            if (st == ST_OK)
                break;
            ck_assert_int_eq(st, ST_OOM);
        }
        ck_assert_int_gt(n, 10);
        graph_free(g);
    }
    config_free(j);
    config_free(k);
}
END_TEST

/* ---- from ONNX ---- */

static job *onnx_job(const char *path, const char *more)
{
    char ini[900];
    snprintf(ini, sizeof ini, "[student]\nonnx = %s\n%s", path, more);
    return job_of(ini);
}

START_TEST(student_from_onnx)
{
    const char *dir = test_data_dir();
    if (!dir) {
        test_skip("student_from_onnx", "no test data");
        return;
    }
    const char *path = test_path(dir, "fashion-teacher/parity/student_init.onnx");
    const char *teacher = test_path(dir, "fashion-teacher/teacher.onnx");
    job *kept = onnx_job(path, ""), *anew = onnx_job(path, "from_scratch = true\n"), *big = onnx_job(teacher, "from_scratch = true\ninit = he\n");
    graph *a = build(kept, 10, SHAPE(1, 28, 28), 2), *b = build(kept, 10, SHAPE(1, 28, 28), 64);
    graph *c = build(anew, 10, SHAPE(1, 28, 28), 2), *d = build(anew, 10, SHAPE(1, 28, 28), 5);
    graph *e = build(big, 10, SHAPE(1, 28, 28), 2), *file = import(path, 2);
    ck_assert(same_start(a, file, true));
    ck_assert(same_start(a, b, true));
    ck_assert(!same_start(a, c, true));
    ck_assert(same_start(c, d, true));
    ck_assert_uint_eq(graph_value(a, a->input[0])->flags & VALUE_BATCHED, VALUE_BATCHED);
    check_uniform(c, "stage3.0.conv2.weight", 1 / sqrt(32 * 9));
    check_uniform(c, "fc.weight", 1 / sqrt(32));
    check_uniform(c, "fc.bias", 1 / sqrt(32));
    check_all(c, "bn.weight", 1);
    check_all(c, "bn.running_var", 1);
    check_normal(e, "stage3.1.conv2.weight", sqrt(2.0 / (96 * 9)));
    check_uniform(e, "fc.weight", 1 / sqrt(96));
    check_gradients(a, path);
    check_gradients(e, teacher);
    graph_free(a), graph_free(b), graph_free(c), graph_free(d), graph_free(e), graph_free(file);
    a = NULL;
    FAILS(ST_CONFIG, "does not take samples of shape [3, 28, 28]",
          student_build(&(student_spec){.job = kept, .classes = 10, .sample = SHAPE(3, 28, 28)}, 2, &a));
    FAILS(ST_CONFIG, "a student gives [batch, 7]",
          student_build(&(student_spec){.job = kept, .classes = 7, .sample = SHAPE(1, 28, 28)}, 2, &a));
    ck_assert_ptr_null(a);
    config_free(kept), config_free(anew), config_free(big);
    kept = onnx_job("/nowhere/s.onnx", "");
    FAILS(ST_NO_INPUT, "/nowhere/s.onnx", student_build(&(student_spec){.job = kept, .classes = 10, .sample = SHAPE(1, 28, 28)}, 2, &a));
    config_free(kept);
}
END_TEST

/* ---- the jobs that ship ---- */

/* Every file in configs/ loads, and its student and hints are what they say. */
START_TEST(configs_build)
{
    char **names;
    size_t n, hints = 0, jobs = 0;
    OK(io_list(SOURCE_DIR "/configs", 1000, &names, &n));
    for (size_t i = 0; i < n; i++) {
        job *j;
        config_sources from = {.file = test_path(SOURCE_DIR "/configs", names[i])};
        OK(config_load(&from, &j));
        graph *g = build(j, 10, SHAPE(1, 28, 28), j->train.batch);
        if (strncmp(names[i], "fashion", 7) == 0)
            ck_assert_int_eq(graph_measure(g, j->train.batch).parameters, j->student.arch == ARCH_MOBILENETV2 ? 250778 : 31434);
        for (size_t k = 0; k < j->n_hint; k++, hints++)
            (void)find(g, j->hint[k].student);
        jobs++;
        graph_free(g);
        config_free(j);
    }
    ck_assert_uint_ge(jobs, 5);
    ck_assert_uint_ge(hints, 2);
    io_list_free(names, n);
}
END_TEST

/* The grids of the hints in fashion-hints.ini are equal, as its comments say. */
START_TEST(hint_grids_are_equal)
{
    job *j;
    config_sources from = {.file = SOURCE_DIR "/configs/fashion-hints.ini"};
    OK(config_load(&from, &j));
    graph *g = build(j, 10, SHAPE(1, 28, 28), 2), *t = import(SOURCE_DIR "/data/fashion-teacher.onnx", 2);
    for (size_t k = 0; k < j->n_hint; k++) {
        const value *a = find(g, j->hint[k].student), *b = find(t, j->hint[k].teacher);
        ck_assert_int_eq(a->sh.rank, 4);
        ck_assert(a->sh.dim[2] == b->sh.dim[2] && a->sh.dim[3] == b->sh.dim[3]);
        ck_assert_int_eq(a->sh.dim[2], k == 0 ? 14 : 7);
    }
    ck_assert_uint_eq(j->n_hint, 2);
    graph_free(g);
    graph_free(t);
    config_free(j);
}
END_TEST

START_TEST(titles)
{
    char buf[40];
    job *j = job_of("[student]\narch = resnet\ndepth = 8\n");
    ck_assert_str_eq(student_title(j, buf, sizeof buf), "resnet-8");
    config_free(j);
    j = job_of("[student]\nonnx = a/b/c.onnx\n");
    ck_assert_str_eq(student_title(j, buf, sizeof buf), "c.onnx");
    config_free(j);
    j = job_of(CONV TAIL);
    ck_assert_str_eq(student_title(j, buf, sizeof buf), "layers");
    config_free(j);
}
END_TEST

const test_entry test_table[] = {
    TEST(presets_have_the_sizes_of_pytorch), TEST(presets_are_portable), TEST(gradients_reach_every_parameter),
    TEST(activations_can_be_chosen), TEST(one_dimensional_signals), TEST(resnet8_is_the_reference_student),
    TEST(init_pytorch), TEST(init_he), TEST(init_of_layers), TEST(start_values_follow_seed_and_name),
    TEST(dropout_is_random), TEST(dropout_enters_the_training_graph),
    TEST(layers_make_the_same_network), TEST(layers_with_branches), TEST(bad_students_are_explained),
    TEST(at_most_twenty_faults), TEST(sample_shapes_are_checked), TEST(allocations_may_fail), TEST(student_from_onnx),
    TEST(configs_build), TEST(hint_grids_are_equal), TEST(titles), {0},
};
