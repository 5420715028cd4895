/* test_onnx_import.c - ONNX models into graphs: roles, batch, taps, rewriting, folding, bodies, external data. */
#include "base/io.h"
#include "exec/exec.h"
#include "harness.h"
#include "onnx/import.h"
#include "onnx/tensor_pb.h"
#include "onnx_build.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static graph *import(model_builder *b, const import_options *o)
{
    text m = build_model(b);
    onnx_model *model;
    graph *g;
    OK(onnx_open_bytes("m.onnx", m.s, m.n, NULL, &model));
    OK(onnx_import(model, o, &g));
    OK(graph_validate(g));
    onnx_close(model);
    text_free(&m);
    *b = (model_builder){0};
    return g;
}

static status import_fails(model_builder *b, const import_options *o)
{
    text m = build_model(b);
    onnx_model *model;
    graph *g = NULL;
    OK(onnx_open_bytes("m.onnx", m.s, m.n, NULL, &model));
    status st = onnx_import(model, o, &g);
    ck_assert_msg(st == ST_OK || g == NULL, "a graph in spite of a failure");
    graph_free(g);
    onnx_close(model);
    text_free(&m);
    *b = (model_builder){0};
    return st;
}

static const value *find(const graph *g, const char *name)
{
    value_id v = graph_find(g, name);
    ck_assert_msg(v != 0, "there is no value '%s'", name);
    return graph_value(g, v);
}

static void check_dims(const value *v, shape want)
{
    char a[200], b[200];
    ck_assert_msg(shape_equal(&v->sh, &want), "%s is %s, not %s", v->name, shape_print(&v->sh, a),
                  shape_print(&want, b));
}

static size_t count(const graph *g, op_id op)
{
    size_t n = 0;
    for (size_t k = 1; k < g->n_node; k++)
        n += g->node[k].op == op;
    return n;
}

/* Runs a graph with one float input on the numbers 0.1, 0.2 ... and copies its first output. */
static void run(const graph *g, float *out, size_t n)
{
    backend *b;
    exec *e;
    OK(backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_REF}, &b));
    OK(exec_open(g, b, NULL, 0, &e));
    float *x = exec_data(e, g->input[0]);
    for (int64_t i = 0; i < shape_count(&g->value[g->input[0]].sh); i++)
        x[i] = 0.1F * (float)(i % 17 + 1);
    OK(exec_run(e, PHASE_MAIN));
    ck_assert_uint_eq((size_t)shape_count(&g->value[g->output[0]].sh), n);
    memcpy(out, exec_data(e, g->output[0]), n * sizeof *out);
    exec_close(e);
    backend_close(b);
}

/* ---- roles ---- */

START_TEST(trainable_roles)
{
    static const struct {
        const char *name;
        value_kind kind;
        uint32_t flags;
    } want[] = {
        {"conv.w", VALUE_PARAM, 0},
        {"bn.scale", VALUE_PARAM, VALUE_NO_DECAY_NORM},
        {"bn.bias", VALUE_PARAM, VALUE_NO_DECAY_NORM},
        {"bn.mean", VALUE_STATE, 0},
        {"bn.var", VALUE_STATE, 0},
        {"fc.w", VALUE_PARAM, 0},
        {"fc.b", VALUE_PARAM, VALUE_NO_DECAY_BIAS},
        {"x", VALUE_INPUT, VALUE_BATCHED},
    };
    model_builder b = {0};
    build_network(&b);
    graph *g = import(&b, &(import_options){.batch = 5, .trainable = true});
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const value *v = find(g, want[i].name);
        ck_assert_msg(v->kind == want[i].kind && v->flags == want[i].flags, "%s: kind %d flags %u", v->name,
                      (int)v->kind, v->flags);
        ck_assert(v->kind == VALUE_INPUT || v->data != NULL);
    }
    check_dims(find(g, "x"), SHAPE(5, 1, 6, 6));
    check_dims(find(g, "y"), SHAPE(5, 3));
    ck_assert_uint_eq(g->n_node - 1, 6);
    ck_assert_str_eq(g->node[1].name, "conv");
    graph_free(g);
    build_network(&b);
    g = import(&b, NULL);
    for (size_t i = 0; i < 7; i++)
        ck_assert_int_eq(find(g, want[i].name)->kind, VALUE_CONST);
    check_dims(find(g, "x"), SHAPE(1, 1, 6, 6));
    graph_free(g);
}
END_TEST

/* One stored tensor for two layers: separate parameters behind Identity, one where it is used directly; as weight and
 * as statistics at once: two values. */
START_TEST(shared_initializers)
{
    model_builder b = {0};
    build_input(&b, "x", DTYPE_F32, "N 2 4 4");
    build_floats(&b, "ones", "2", 1, 0);
    build_floats(&b, "zeros", "2", 0, 0);
    build_node(&b, "Identity", "i1", "ones", "bn2.scale", NULL);
    build_node(&b, "Identity", "i2", "bn2.scale", "bn3.scale", NULL);
    build_node(&b, "BatchNormalization", "bn1", "x ones zeros zeros ones", "a", NULL);
    build_node(&b, "BatchNormalization", "bn2", "a bn2.scale zeros zeros ones", "b", NULL);
    build_node(&b, "BatchNormalization", "bn3", "b bn3.scale zeros zeros ones", "y", NULL);
    build_output(&b, "y", DTYPE_F32, NULL);
    graph *g = import(&b, &(import_options){.batch = 2, .trainable = true});
    ck_assert_int_eq(find(g, "ones")->kind, VALUE_PARAM);
    ck_assert_int_eq(find(g, "bn2.scale")->kind, VALUE_PARAM);
    ck_assert_int_eq(find(g, "bn3.scale")->kind, VALUE_PARAM);
    for (size_t k = 1; k < 4; k++) {
        const node *n = &g->node[k];
        ck_assert_int_eq(n->op, OP_BATCH_NORM);
        for (int i = 1; i < 5; i++)
            ck_assert_int_eq(g->value[n->in[i]].kind, i < 3 ? VALUE_PARAM : VALUE_STATE);
        ck_assert_uint_ne(n->in[1], n->in[4]);
    }
    ck_assert_uint_ne(g->node[1].in[1], g->node[2].in[1]);
    ck_assert_uint_ne(g->node[2].in[1], g->node[3].in[1]);
    ck_assert_uint_eq(g->node[1].in[2], g->node[3].in[2]);
    graph_free(g);
}
END_TEST

/* Numbers written as Constant nodes stay constants; an initializer that is added or multiplied is a weight when it has
 * more than one element. float16 weights behind Cast become float32 parameters. */
START_TEST(small_roles)
{
    static const _Float16 half[4] = {1, 2, 3, 4};
    model_builder b = {0};
    text at = {0}, t = {0};
    build_input(&b, "x", DTYPE_F32, "N 4");
    build_floats(&b, "scalar", "1", 2, 0);
    build_floats(&b, "vector", "4", 2, 1);
    build_floats(&b, "table", "1 4", 2, 1);
    build_init(&b, "half", DTYPE_F16, "4 1", half);
    shape sh = SHAPE(4);
    OK(tensor_put_pb(&t, NULL, DTYPE_F32, &sh, (const float[]){1, 2, 3, 4}));
    attr_message(&at, "value", 5, 4, &t);
    build_node(&b, "Constant", "c", "", "written", &at);
    attr_int(&at, "to", 1);
    build_node(&b, "Cast", "cast", "half", "whole", &at);
    build_node(&b, "Mul", "m1", "x scalar", "a", NULL);
    build_node(&b, "Mul", "m2", "a vector", "b", NULL);
    build_node(&b, "Add", "a1", "b written", "c2", NULL);
    build_node(&b, "Add", "a2", "table c2", "d", NULL);
    build_node(&b, "MatMul", "mm", "d whole", "y", NULL);
    build_output(&b, "y", DTYPE_F32, NULL);
    graph *g = import(&b, &(import_options){.batch = 3, .trainable = true});
    ck_assert_int_eq(find(g, "scalar")->kind, VALUE_CONST);
    ck_assert_int_eq(find(g, "vector")->kind, VALUE_PARAM);
    ck_assert_uint_eq(find(g, "vector")->flags, 0);
    ck_assert_int_eq(find(g, "written")->kind, VALUE_CONST);
    ck_assert_int_eq(find(g, "table")->kind, VALUE_PARAM);
    ck_assert_uint_eq(find(g, "table")->flags, VALUE_NO_DECAY_BIAS);
    ck_assert_int_eq(find(g, "whole")->kind, VALUE_PARAM);
    ck_assert_int_eq(find(g, "whole")->type, DTYPE_F32);
    ck_assert_double_eq(dtype_load(DTYPE_F32, find(g, "whole")->data, 3), 4);
    graph_free(g);
}
END_TEST

/* ---- outputs ---- */

START_TEST(taps)
{
    model_builder b = {0};
    static const char *const names[] = {"r", "c"};
    import_options o = {.outputs = names, .n_outputs = 2};
    build_network(&b);
    build_node(&b, "NotAnOperator", "bad", "y", "z", NULL); /* behind the cut: no harm */
    build_input(&b, "unused", DTYPE_F32, "q r s");
    graph *g = import(&b, &o);
    ck_assert_uint_eq(g->n_output, 2);
    ck_assert_str_eq(g->value[g->output[0]].name, "r");
    ck_assert_str_eq(g->value[g->output[1]].name, "c");
    ck_assert_uint_eq(g->n_node - 1, 3);
    ck_assert_uint_eq(g->n_input, 1);
    ck_assert_uint_eq(graph_find(g, "fc.w"), 0);
    graph_free(g);
    static const char *const wrong[] = {"conv.ww"};
    build_network(&b);
    FAILS(ST_CONFIG, "no value 'conv.ww'; did you mean 'conv.w'?",
          import_fails(&b, &(import_options){.outputs = wrong, .n_outputs = 1}));
    static const char *const twice[] = {"r", "r"};
    build_network(&b);
    FAILS(ST_CONFIG, "listed twice", import_fails(&b, &(import_options){.outputs = twice, .n_outputs = 2}));
}
END_TEST

/* ---- batch and other dimensions ---- */

static void fixed_batch_model(model_builder *b, bool open_end)
{
    static const int64_t to[2] = {1, 12}, to_open[2] = {1, -1};
    build_input(b, "x", DTYPE_F32, "1 3 2 2");
    build_ints(b, "to", open_end ? to_open : to, 2);
    build_floats(b, "w", "12 2", 0, 0.1F);
    build_node(b, "Relu", "r", "x", "a", NULL);
    build_node(b, "Reshape", "flat", "a to", "f", NULL);
    build_node(b, "MatMul", "mm", "f w", "y", NULL);
    build_output(b, "y", DTYPE_F32, "1 2");
}

START_TEST(fixed_batch)
{
    model_builder b = {0};
    for (int open_end = 0; open_end < 2; open_end++) {
        fixed_batch_model(&b, open_end);
        graph *g = import(&b, NULL);
        check_dims(find(g, "y"), SHAPE(1, 2));
        ck_assert_uint_eq(find(g, "x")->flags, 0);
        graph_free(g);
        fixed_batch_model(&b, open_end);
        g = import(&b, &(import_options){.batch = 7});
        check_dims(find(g, "x"), SHAPE(7, 3, 2, 2));
        check_dims(find(g, "y"), SHAPE(7, 2));
        ck_assert_uint_eq(find(g, "x")->flags, VALUE_BATCHED);
        graph_free(g);
    }
    /* the batch is squeezed away: cannot be rebound */
    static const int64_t axis[1] = {0};
    text at = {0};
    build_input(&b, "x", DTYPE_F32, "1 3 2 2");
    build_ints(&b, "k", axis, 1);
    build_node(&b, "Squeeze", "s", "x k", "y", NULL);
    build_output(&b, "y", DTYPE_F32, NULL);
    FAILS(ST_BAD_DATA, "exported with the fixed batch 1", import_fails(&b, &(import_options){.batch = 4}));
    /* an output that does not follow the batch */
    build_input(&b, "x", DTYPE_F32, "1 3");
    ATTR_INTS_OF(&at, "axes", 0);
    build_node(&b, "ReduceMean", "s", "x", "y", &at);
    build_output(&b, "y", DTYPE_F32, NULL);
    FAILS(ST_BAD_DATA, "output 'y' does not follow", import_fails(&b, &(import_options){.batch = 4}));
    FAILS(ST_CONFIG, "batch size -1",
          (fixed_batch_model(&b, 0), import_fails(&b, &(import_options){.batch = -1})));
}
END_TEST

START_TEST(dimensions)
{
    model_builder b = {0};
    static const import_dim dims[] = {{"h", 5}, {"x[3]", 6}};
    build_input(&b, "x", DTYPE_F32, "N 3 h ?");
    build_input(&b, "state", DTYPE_F32, "2 N 3");
    build_node(&b, "Relu", "r", "x", "y", NULL);
    build_node(&b, "Relu", "r2", "state", "z", NULL);
    build_output(&b, "y", DTYPE_F32, NULL);
    build_output(&b, "z", DTYPE_F32, NULL);
    graph *g = import(&b, &(import_options){.batch = 4, .dims = dims, .n_dims = 2});
    check_dims(find(g, "x"), SHAPE(4, 3, 5, 6));
    check_dims(find(g, "state"), SHAPE(2, 4, 3)); /* the batch by its name */
    ck_assert_uint_eq(find(g, "state")->flags, 0);
    graph_free(g);
    /* an input given as a constant */
    tensor t;
    OK(tensor_new(&t, NULL, DTYPE_I64, SHAPE(2)));
    ((int64_t *)t.data)[0] = 6;
    ((int64_t *)t.data)[1] = -1;
    import_bind bind = {"to", &t};
    build_input(&b, "x", DTYPE_F32, "2 3 4");
    build_input(&b, "to", DTYPE_I64, "2");
    build_node(&b, "Reshape", "r", "x to", "y", NULL);
    build_output(&b, "y", DTYPE_F32, NULL);
    g = import(&b, &(import_options){.bind = &bind, .n_bind = 1});
    check_dims(find(g, "y"), SHAPE(6, 4));
    ck_assert_uint_eq(g->n_input, 1);
    graph_free(g);
    build_input(&b, "to", DTYPE_F32, "2");
    build_node(&b, "Relu", "r", "to", "y", NULL);
    build_output(&b, "y", DTYPE_F32, NULL);
    FAILS(ST_CONFIG, "input 'to' is float32, the value given for it int64",
          import_fails(&b, &(import_options){.bind = &bind, .n_bind = 1}));
    bind.name = "nobody";
    build_network(&b);
    FAILS(ST_CONFIG, "no input 'nobody'", import_fails(&b, &(import_options){.bind = &bind, .n_bind = 1}));
    tensor_free(&t);
}
END_TEST

/* ---- folding, order, bodies ---- */

/* x.view(x.size(0), -1) as exporters write it: nothing but the Reshape is left. */
START_TEST(shape_arithmetic_disappears)
{
    model_builder b = {0};
    static const int64_t zero[1] = {0}, minus[1] = {-1};
    text at = {0};
    build_input(&b, "x", DTYPE_F32, "N 3 2 2");
    build_init(&b, "i0", DTYPE_I64, "", zero);
    build_ints(&b, "axes", zero, 1);
    build_ints(&b, "rest", minus, 1);
    build_node(&b, "Reshape", "view", "x shape", "y", NULL); /* out of order: sorted */
    build_node(&b, "Shape", "size", "x", "s", NULL);
    build_node(&b, "Gather", "g", "s i0", "n", NULL);
    build_node(&b, "Unsqueeze", "u", "n axes", "n1", NULL);
    attr_int(&at, "axis", 0);
    build_node(&b, "Concat", "c", "n1 rest", "shape", &at);
    build_output(&b, "y", DTYPE_F32, NULL);
    graph *g = import(&b, &(import_options){.batch = 9});
    ck_assert_uint_eq(g->n_node - 1, 1);
    check_dims(find(g, "y"), SHAPE(9, 12));
    graph_free(g);
}
END_TEST

static text branch(const char *op, const char *in, const char *out)
{
    model_builder b = {0};
    build_node(&b, op, "inner", in, out, NULL);
    build_output(&b, out, DTYPE_F32, NULL);
    return b.graph;
}

START_TEST(if_with_a_constant_condition)
{
    static const uint8_t yes[1] = {1};
    for (int constant = 0; constant < 2; constant++) {
        model_builder b = {0};
        text at = {0}, then_branch = branch("Relu", "x", "t"), else_branch = branch("Unsupported", "x", "e");
        build_input(&b, "x", DTYPE_F32, "2");
        if (constant)
            build_init(&b, "c", DTYPE_BOOL, "", yes);
        else
            build_input(&b, "c", DTYPE_BOOL, "");
        attr_message(&at, "then_branch", 6, 5, &then_branch);
        attr_message(&at, "else_branch", 6, 5, &else_branch);
        build_node(&b, "If", "If_3", "c", "y", &at);
        build_output(&b, "y", DTYPE_F32, NULL);
        if (!constant) {
            FAILS(ST_BAD_DATA, "node 'If_3' (If): its condition 'c' is not a constant",
                  import_fails(&b, NULL));
            continue;
        }
        graph *g = import(&b, NULL);
        ck_assert_uint_eq(g->n_node - 1, 1);
        ck_assert_int_eq(g->node[1].op, OP_RELU);
        ck_assert_str_eq(g->value[g->output[0]].name, "y");
        graph_free(g);
    }
}
END_TEST

/* A function with an attribute of its own, given by the call or by default, that calls another. */
START_TEST(functions)
{
    for (int given = 0; given < 2; given++) {
        model_builder b = {.opset = 17};
        text f = {0}, inner = {0}, at = {0}, opset = {0}, call = {0};
        wire_put_string(&inner, 1, "twice");
        wire_put_string(&inner, 4, "a");
        wire_put_string(&inner, 5, "b");
        build_node_into(&inner, 7, NULL, "Add", "sum", "a a", "b", NULL);
        wire_put_string(&inner, 10, "here");
        wire_put_int(&opset, 2, 17);
        wire_put_message(&inner, 9, &opset);
        wire_put_message(&b.functions, 25, &inner);
        wire_put_string(&f, 1, "block");
        wire_put_string(&f, 4, "p");
        wire_put_string(&f, 4, "absent");
        wire_put_string(&f, 5, "q");
        build_node_into(&f, 7, "here", "twice", "call", "p", "p2", NULL);
        attr_reference(&at, "alpha", "slope", 1);
        build_node_into(&f, 7, NULL, "LeakyRelu", "act", "p2", "q", &at);
        text def = {0};
        wire_put_string(&def, 1, "slope");
        wire_put_float(&def, 2, 0.25F);
        wire_put_int(&def, 20, 1);
        wire_put_message(&f, 11, &def);
        wire_put_string(&f, 10, "here");
        wire_put_message(&b.functions, 25, &f);
        build_input(&b, "x", DTYPE_F32, "3");
        if (given)
            attr_float(&call, "slope", 0.5F);
        build_node_into(&b.graph, 1, "here", "block", "blk", "x", "y", &call);
        build_output(&b, "y", DTYPE_F32, NULL);
        graph *g = import(&b, NULL);
        ck_assert_uint_eq(g->n_node - 1, 2);
        ck_assert_int_eq(g->node[1].op, OP_ADD);
        ck_assert_str_eq(g->node[1].name, "blk/call/sum");
        ck_assert_str_eq(g->node[2].name, "blk/act");
        ck_assert_double_eq(*(const double *)g->node[2].attr, given ? 0.5 : 0.25);
        ck_assert_str_eq(g->value[g->output[0]].name, "y");
        graph_free(g);
    }
}
END_TEST

/* ---- older forms ---- */

/* Softmax before opset 13 runs over everything from its axis on. */
START_TEST(old_softmax)
{
    model_builder b = {.opset = 11};
    float y[12];
    double sum = 0;
    build_input(&b, "x", DTYPE_F32, "1 3 2 2");
    build_node(&b, "Softmax", "s", "x", "y", NULL); /* axis 1 by default */
    build_output(&b, "y", DTYPE_F32, NULL);
    graph *g = import(&b, NULL);
    check_dims(find(g, "y"), SHAPE(1, 3, 2, 2));
    run(g, y, 12);
    for (int i = 0; i < 12; i++)
        sum += (double)y[i];
    ck_assert_double_eq_tol(sum, 1, 1e-6);
    ck_assert_double_eq_tol((double)y[1] / (double)y[0], exp(0.1), 1e-5);
    graph_free(g);
}
END_TEST

/* Five outputs at opset 13, or training_mode at 14: inference with the stored statistics. */
START_TEST(training_forms)
{
    float want[16], got[16];
    for (int form = 0; form < 3; form++) {
        model_builder b = {.opset = form == 1 ? 13 : 14};
        text at = {0};
        build_input(&b, "x", DTYPE_F32, "2 2 2 2");
        build_floats(&b, "scale", "2", 1, 1);
        build_floats(&b, "bias", "2", 0, 1);
        build_floats(&b, "mean", "2", 0.3F, 0.3F);
        build_floats(&b, "var", "2", 0.5F, 1);
        if (form == 2)
            attr_int(&at, "training_mode", 1);
        build_node(&b, "BatchNormalization", "bn", "x scale bias mean var",
                   form == 0   ? "y"
                   : form == 1 ? "y m v sm sv"
                               : "y m v",
                   &at);
        build_node(&b, "Dropout", "drop", "y", "z", NULL);
        build_output(&b, "z", DTYPE_F32, NULL);
        graph *g = import(&b, &(import_options){.trainable = form == 1});
        run(g, form == 0 ? want : got, 16);
        for (int i = 0; i < 16 && form > 0; i++)
            ck_assert_double_eq((double)got[i], (double)want[i]);
        graph_free(g);
    }
}
END_TEST

/* ---- LayerNormalization in small pieces ---- */

static void written_out_layer_norm(model_builder *b, bool square_by_mul, bool doubled_sub, bool affine)
{
    text at = {0};
    build_input(b, "x", DTYPE_F32, "2 3 8");
    build_floats(b, "scale", "8", 1, 0.1F);
    build_floats(b, "bias", "8", 0.5F, -0.1F);
    build_floats(b, "two", "", 2, 0);
    build_floats(b, "eps", "", 1e-3F, 0);
    ATTR_INTS_OF(&at, "axes", -1);
    build_node(b, "ReduceMean", "m", "x", "mean", &at);
    build_node(b, "Sub", "s", "x mean", "d", NULL);
    if (doubled_sub)
        build_node(b, "Sub", "s2", "x mean", "d2", NULL);
    const char *square =
        doubled_sub ? (square_by_mul ? "d2 d2" : "d2 two") : (square_by_mul ? "d d" : "d two");
    build_node(b, square_by_mul ? "Mul" : "Pow", "p", square, "q", NULL);
    ATTR_INTS_OF(&at, "axes", 2);
    build_node(b, "ReduceMean", "v", "q", "var", &at);
    build_node(b, "Add", "e", "var eps", "ve", NULL);
    build_node(b, "Sqrt", "r", "ve", "sd", NULL);
    build_node(b, "Div", "n", "d sd", affine ? "xhat" : "y", NULL);
    if (affine) {
        build_node(b, "Mul", "g", "xhat scale", "xs", NULL);
        build_node(b, "Add", "b", "bias xs", "y", NULL);
    }
    build_output(b, "y", DTYPE_F32, NULL);
}

START_TEST(layer_norm_is_joined)
{
    for (int form = 0; form < 8; form++) {
        model_builder b = {.opset = 13};
        bool affine = form & 4;
        float y[48];
        written_out_layer_norm(&b, form & 1, form & 2, affine);
        graph *g = import(&b, &(import_options){.trainable = true});
        ck_assert_uint_eq(g->n_node - 1, 1);
        ck_assert_int_eq(g->node[1].op, OP_LAYER_NORM);
        if (affine) {
            ck_assert_uint_eq(find(g, "scale")->flags, VALUE_NO_DECAY_NORM);
            ck_assert_uint_eq(find(g, "bias")->flags, VALUE_NO_DECAY_NORM);
        }
        run(g, y, 48);
        for (int r = 0; r < 6; r++) {
            double x[8], mean = 0, var = 0;
            for (int i = 0; i < 8; i++) {
                x[i] = 0.1 * ((r * 8 + i) % 17 + 1);
                mean += x[i] / 8;
            }
            for (int i = 0; i < 8; i++)
                var += (x[i] - mean) * (x[i] - mean) / 8;
            for (int i = 0; i < 8; i++) {
                double want = (x[i] - mean) / sqrt(var + 1e-3);
                want = affine ? want * (1 + 0.1 * i) + 0.5 - 0.1 * i : want;
                ck_assert_double_eq_tol((double)y[r * 8 + i], want, 2e-6);
            }
        }
        graph_free(g);
    }
    /* a tap inside keeps the pieces */
    static const char *const inside[] = {"y", "var"};
    model_builder b = {.opset = 13};
    written_out_layer_norm(&b, false, false, true);
    graph *g = import(&b, &(import_options){.outputs = inside, .n_outputs = 2});
    ck_assert_uint_eq(count(g, OP_LAYER_NORM), 0);
    graph_free(g);
}
END_TEST

/* ---- storage of tensors ---- */

START_TEST(storage_forms)
{
    model_builder b = {0};
    static const struct {
        const char *name;
        dtype type;
        unsigned field;
    } rows[] = {{"f", DTYPE_F32, 4},   {"d", DTYPE_F64, 10},   {"h", DTYPE_F16, 5},    {"i8", DTYPE_I8, 5},
                {"u8", DTYPE_U8, 5},   {"i16", DTYPE_I16, 5},  {"u16", DTYPE_U16, 5},  {"i32", DTYPE_I32, 5},
                {"i64", DTYPE_I64, 7}, {"u32", DTYPE_U32, 11}, {"u64", DTYPE_U64, 11}, {"bo", DTYPE_BOOL, 5}};
    const double v[2] = {1, 0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        text t = {0};
        wire_put_int(&t, 1, 2);
        wire_put_int(&t, 2, dtype_of(rows[i].type)->onnx);
        wire_put_string(&t, 8, rows[i].name);
        for (int k = 0; k < 2; k++) {
            if (rows[i].field == 4) {
                wire_put_float(&t, 4, (float)v[k]);
            } else if (rows[i].field == 10) {
                wire_put_varint(&t, 10 << 3 | 1);
                text_add_n(&t, &v[k], 8);
            } else {
                wire_put_int(&t, rows[i].field, rows[i].type == DTYPE_F16 ? (k ? 0 : 0x3c00) : (int64_t)v[k]);
            }
        }
        build_init_raw(&b, &t);
        char out[16];
        snprintf(out, sizeof out, "%s_y", rows[i].name);
        build_node(&b, "Identity", NULL, rows[i].name, out, NULL);
        build_output(&b, out, rows[i].type, "2");
    }
    graph *g = import(&b, NULL);
    for (size_t i = 0; i < g->n_output; i++) {
        const value *y = &g->value[g->output[i]];
        ck_assert_int_eq(y->type, rows[i].type);
        ck_assert_double_eq(dtype_load(y->type, y->data, 0), 1);
        ck_assert_double_eq(dtype_load(y->type, y->data, 1), 0);
    }
    graph_free(g);
}
END_TEST

START_TEST(tensor_files)
{
    const char *path = test_path(test_tmp_dir(), "t.pb");
    tensor t, back;
    OK(tensor_new(&t, "name", DTYPE_F16, SHAPE(2, 3)));
    for (int i = 0; i < 6; i++)
        tensor_put(&t, i, i * 0.5);
    OK(tensor_write_pb(path, &t));
    OK(tensor_read_pb(path, NULL, &back));
    ck_assert_int_eq(back.type, t.type);
    ck_assert(shape_equal(&back.sh, &t.sh));
    ck_assert_str_eq(back.name, "name");
    ck_assert_mem_eq(back.data, t.data, tensor_bytes(&t));
    tensor_free(&t);
    tensor_free(&back);
    FAILS(ST_NO_INPUT, "missing.pb", tensor_read_pb(test_path(test_tmp_dir(), "missing.pb"), NULL, &back));
    OK(io_write_file(path, "\x0a\xff", 2));
    FAILS(ST_BAD_DATA, "t.pb: byte", tensor_read_pb(path, NULL, &back));
}
END_TEST

/* ---- external data ---- */

typedef struct external {
    const char *keys[10]; /* key, value, ... */
    status want;
    const char *part;
} external;

static status open_external(const char *dir, const char *const *keys, graph **g)
{
    model_builder b = {0};
    text t = {0};
    const char *path = test_path(dir, "m.onnx");
    wire_put_int(&t, 1, 2);
    wire_put_int(&t, 2, 1);
    wire_put_string(&t, 8, "w");
    wire_put_int(&t, 14, 1);
    for (int i = 0; keys[i]; i += 2) {
        text pair = {0};
        wire_put_string(&pair, 1, keys[i]);
        wire_put_string(&pair, 2, keys[i + 1]);
        wire_put_message(&t, 13, &pair);
    }
    build_input(&b, "x", DTYPE_F32, "2");
    build_init_raw(&b, &t);
    build_node(&b, "Add", "add", "x w", "y", NULL);
    build_output(&b, "y", DTYPE_F32, "2");
    text m = build_model(&b);
    OK(io_write_file(path, m.s, m.n));
    text_free(&m);
    onnx_model *model = NULL;
    *g = NULL;
    status st = onnx_open(path, NULL, &model);
    if (st == ST_OK)
        st = onnx_import(model, NULL, g);
    onnx_close(model);
    return st;
}

static void link_or_die(int rc)
{
    ck_assert_msg(rc == 0, "cannot make a link: %s", strerror(errno));
}

START_TEST(external_data)
{
    const char *dir = test_tmp_dir(), *outside = test_tmp_dir();
    const float w[4] = {1, 2, 3, 4};
    OK(io_write_file(test_path(dir, "w.bin"), w, sizeof w));
    OK(io_write_file(test_path(dir, "own.bin"), w, sizeof w));
    OK(io_write_file(test_path(outside, "secret"), w, sizeof w));
    OK(io_make_dirs(test_path(dir, "sub/deep")));
    OK(io_write_file(test_path(dir, "sub/deep/w.bin"), w, sizeof w));
    link_or_die(symlink(test_path(outside, "secret"), test_path(dir, "link")));
    link_or_die(symlink(outside, test_path(dir, "linkdir")));
    link_or_die(symlink("nowhere", test_path(dir, "dangling")));
    link_or_die(symlink("loop", test_path(dir, "loop")));
    link_or_die(link(test_path(outside, "secret"), test_path(dir, "hard")));
    link_or_die(mkfifo(test_path(dir, "fifo"), 0600));
    char long_name[5001];
    memset(long_name, 'a', 5000);
    long_name[5000] = 0;
    const external rows[] = {
        {{"location", "w.bin", "offset", "4", "length", "8"}, ST_OK, ""},
        {{"location", "w.bin"}, ST_OK, ""},
        {{"location", "sub/deep/w.bin", "offset", "8"}, ST_OK, ""},
        {{"location", "./w.bin"}, ST_OK, ""},
        {{"offset", "0"}, ST_BAD_DATA, "names no file"},
        {{"location", ""}, ST_BAD_DATA, "names no file"},
        {{"location", "missing.bin"}, ST_NO_INPUT, "missing.bin"},
        {{"location", "../secret"}, ST_BAD_DATA, "'..'"},
        {{"location", "sub/../../secret"}, ST_BAD_DATA, "'..'"},
        {{"location", "/etc/passwd"}, ST_BAD_DATA, "absolute"},
        {{"location", "/proc/self/mem"}, ST_BAD_DATA, "absolute"},
        {{"location", "C:\\w.bin"}, ST_NO_INPUT, "C:"},
        {{"location", "."}, ST_BAD_DATA, "not a regular file"},
        {{"location", "sub"}, ST_BAD_DATA, "not a regular file"},
        {{"location", "link"}, ST_BAD_DATA, "symbolic link"},
        {{"location", "linkdir/secret"}, ST_BAD_DATA, "symbolic link"},
        {{"location", "dangling"}, ST_BAD_DATA, "symbolic link"},
        {{"location", "loop"}, ST_BAD_DATA, "symbolic link"},
        {{"location", "hard"}, ST_BAD_DATA, "hard link"},
        {{"location", "fifo"}, ST_BAD_DATA, "not a regular file"},
        {{"location", long_name}, ST_NO_INPUT, ""},
        {{"location", "https://example.com/w.bin"}, ST_NO_INPUT, ""},
        {{"location", "*/_ORT_MEM_ADDR_/*"}, ST_NO_INPUT, ""},
        {{"location", "w.bin", "offset", "-1"}, ST_BAD_DATA, "offset '-1' is not a number"},
        {{"location", "w.bin", "offset", "1e3"}, ST_BAD_DATA, "not a number"},
        {{"location", "w.bin", "offset", " 5"}, ST_BAD_DATA, "not a number"},
        {{"location", "w.bin", "offset", "0x10"}, ST_BAD_DATA, "not a number"},
        {{"location", "w.bin", "offset", ""}, ST_BAD_DATA, "not a number"},
        {{"location", "w.bin", "offset", "18446744073709551616"}, ST_BAD_DATA, "not a number"},
        {{"location", "w.bin", "offset", "18446744073709551615"}, ST_BAD_DATA, "'w.bin' has 16"},
        {{"location", "w.bin", "offset", "12"}, ST_BAD_DATA, "8 bytes at 12 wanted"},
        {{"location", "w.bin", "offset", "17"}, ST_BAD_DATA, "8 bytes at 17 wanted"},
        {{"location", "w.bin", "length", "7"}, ST_BAD_DATA, "length is 7, type and shape need 8"},
        {{"location", "w.bin", "length", "18446744073709551615"}, ST_BAD_DATA, "length is"},
        {{"location", "w.bin", "location", "own.bin"}, ST_BAD_DATA, "'location' twice"},
        {{"location", "w.bin", "offset", "0", "offset", "4"}, ST_BAD_DATA, "'offset' twice"},
        {{"location", "w.bin", "format", "raw"}, ST_BAD_DATA, "the key 'format'"},
        {{"location", "w.bin", "checksum", "0"}, ST_BAD_DATA, "the key 'checksum'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        graph *g;
        status st = open_external(dir, rows[i].keys, &g);
        ck_assert_msg(st == rows[i].want, "row %zu: status %d, expected %d: %s", i, (int)st,
                      (int)rows[i].want, status_message());
        ck_assert_msg(st == ST_OK || strstr(status_message(), rows[i].part),
                      "row %zu: message '%s' lacks '%s'", i, status_message(), rows[i].part);
        if (st == ST_OK)
            ck_assert_double_eq(dtype_load(DTYPE_F32, find(g, "w")->data, 0), i == 0 ? 2 : i == 2 ? 3 : 1);
        graph_free(g);
    }
}
END_TEST

/* The identity of a model covers its external data. */
START_TEST(identity_covers_external_data)
{
    const char *dir = test_tmp_dir();
    const char *const keys[] = {"location", "w.bin", NULL};
    char first[65];
    float w[2] = {1, 2};
    graph *g;
    onnx_model *m;
    for (int i = 0; i < 2; i++) {
        w[1] += (float)i;
        OK(io_write_file(test_path(dir, "w.bin"), w, sizeof w));
        OK(open_external(dir, keys, &g));
        graph_free(g);
        OK(onnx_open(test_path(dir, "m.onnx"), NULL, &m));
        if (i == 0)
            memcpy(first, m->sha256, sizeof first);
        else
            ck_assert_str_ne(first, m->sha256);
        onnx_close(m);
    }
}
END_TEST

/* ---- failing allocations: a clean error at every one of them ---- */

START_TEST(allocations_fail)
{
    model_builder b = {0};
    build_network(&b);
    text m = build_model(&b);
    for (int once = 0; once < 2; once++) {
        size_t failed = 0;
        for (uint64_t i = 1;; i++) {
            onnx_model *model = NULL;
            graph *g = NULL;
            mem_fail_at(i, once);
            status st = onnx_open_bytes("m.onnx", m.s, m.n, NULL, &model);
            if (st == ST_OK)
                st = onnx_import(model, &(import_options){.batch = 2, .trainable = true}, &g);
            mem_fail_at(0, false);
            graph_free(g);
            onnx_close(model);
            if (st == ST_OK)
                break;
            ck_assert_msg(st == ST_OOM, "allocation %llu: status %d: %s", (unsigned long long)i, (int)st,
                          status_message());
            failed++;
        }
        ck_assert_uint_gt(failed, 100);
    }
    text_free(&m);
}
END_TEST

const test_entry test_table[] = {TEST(trainable_roles),
                                 TEST(shared_initializers),
                                 TEST(small_roles),
                                 TEST(taps),
                                 TEST(fixed_batch),
                                 TEST(dimensions),
                                 TEST(shape_arithmetic_disappears),
                                 TEST(if_with_a_constant_condition),
                                 TEST(functions),
                                 TEST(old_softmax),
                                 TEST(training_forms),
                                 TEST(layer_norm_is_joined),
                                 TEST(storage_forms),
                                 TEST(tensor_files),
                                 TEST(external_data),
                                 TEST(identity_covers_external_data),
                                 TEST(allocations_fail),
                                 {0}};
