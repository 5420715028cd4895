/* op_cases_update.c - rows of the optimizer updates. The expected contents of the PyTorch rows are those of two steps of
 * torch.optim (2.13, double) with parameters 1 -2 0.5 3, gradients (0.5 -1 2 0.125) times 1 and 2, lr 0.1 and weight
 * decay 0.01; a row does the second step from the state after the first. */
#include "op_case.h"

#include <math.h>
#include <string.h>

#define SGD(...)  .attr = &(const sgd_attrs){__VA_ARGS__}
#define ADAM(...) .attr = &(const adam_attrs){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, __VA_ARGS__}
#define P(...)    {F32(4), FIXED(__VA_ARGS__), .kind = VALUE_PARAM}
#define S(...)    {F32(4), FIXED(__VA_ARGS__), .kind = VALUE_STATE}
#define PARAM(...) {F32(__VA_ARGS__), .kind = VALUE_PARAM}
#define STATE(...) {F32(__VA_ARGS__), .lo = 0.1, .hi = 1, .kind = VALUE_STATE}
#define ONE(x)    {SCALAR(F32), FIXED(x)}
#define NUMBER(x) {SCALAR(F32), FIXED(x), .kind = VALUE_STATE}
#define SCALE_IN(by, most, norm) \
    .attr = &(const loss_scale_attrs){.growth = by, .shrink = .5, .smallest = 1, .largest = most, .interval = 2000, .max_norm = norm}
#define SCALE(norm) SCALE_IN(2, 16777216, norm)
#define ABSENT    {DTYPE_NONE}
#define GRAD2     {F32(4), FIXED(1, -2, 4, .25)}

static void fill(double *to, const double *from)
{
    memcpy(to, from, 4 * sizeof *to);
}

static void expect_nesterov(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)out;
    fill(in[SGD_HEAD + UPDATE_PARAM], (const double[]){0.67007410999999995, -1.3401482199999999, -0.80358119500000003, 2.9048509549999997});
    fill(in[SGD_HEAD + SGD_MOMENTUM], (const double[]){1.4680310000000001, -2.9360620000000002, 5.8056904999999999, 0.41920550000000001});
}
static void expect_adam(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)out;
    fill(in[ADAM_HEAD + UPDATE_PARAM], (const double[]){0.80336669106856706, -1.8033719251635725, 0.30346583771378255, 2.8024146095735762});
    fill(in[ADAM_HEAD + ADAM_M], (const double[]){0.14680000000196075, -0.29370000000098034, 0.58085000000049869, 0.041850000006451601});
    fill(in[ADAM_HEAD + ADAM_V], (const double[]){0.0012779209000395694, 0.0051157206000395925, 0.020048020975039958, 0.00010184197503600009});
}
static void expect_adamw(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)out;
    fill(in[ADAM_HEAD + UPDATE_PARAM], (const double[]){0.80158280063650933, -1.7995837990271664, 0.30258229822249483, 2.7975848102925669});
    fill(in[ADAM_HEAD + ADAM_M], (const double[]){0.14499999999999996, -0.28999999999999992, 0.57999999999999985, 0.036249999999999991});
    fill(in[ADAM_HEAD + ADAM_V], (const double[]){0.0012497500000000011, 0.0049990000000000043, 0.019996000000000017, 7.8109375000000067e-05});
}
static void expect_plain(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)out;
    fill(in[SGD_HEAD + UPDATE_PARAM], (const double[]){0.95, -1.9, 0.3, 2.9875});
}
/* The average follows the parameter as it is after the step. */
static void expect_average(const op_case *c, double *const *in, double *const *out)
{
    const double before[] = {1, -2, .5, 3}, d = ((const sgd_attrs *)c->attr)->ema;
    expect_plain(c, in, out);
    for (int i = 0; i < 4; i++)
        in[SGD_HEAD + UPDATE_EMA][i] = d * before[i] + (1 - d) * in[SGD_HEAD + UPDATE_PARAM][i];
}
/* Row 1 has a gradient. */
static void expect_row(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)out;
    fill(in[SGD_HEAD + UPDATE_PARAM], (const double[]){1, -2.05, .5, 3});
    fill(in[SGD_HEAD + UPDATE_EMA], (const double[]){.5, -1.025, .25, 1.5});
    fill(in[SGD_HEAD + SGD_MOMENTUM], (const double[]){0, .5, 0, 0});
}
/* Two parameters in one node: each as alone. */
static void expect_two(const op_case *c, double *const *in, double *const *out)
{
    expect_nesterov(c, in, out);
    expect_nesterov(c, in + SGD_TUPLE, out);
}
/* The row's numbers stay as they are. */
static void expect_unchanged(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)in;
    (void)out;
}
static void expect_sum(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)out;
    for (int i = 0; i < 4; i++)
        in[0][i] += (in[2] ? *in[2] : 1) * in[1][i];
}
static void expect_zero(const op_case *c, double *const *in, double *const *out)
{
    (void)out;
    for (int i = 0; i < c->n_in; i++)
        fill(in[i], (const double[4]){0});
}

/* What a LossScale node leaves in what it writes. */
static void leave(double *const *in, double scale, double good, double skipped)
{
    *in[LOSS_SCALE_SCALE] = scale;
    *in[LOSS_SCALE_GOOD] = good;
    *in[LOSS_SCALE_SKIPPED] = skipped;
}
static void expect_good(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)out;
    leave(in, 1024, 8, 3);
}
static void expect_grown(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)out;
    leave(in, 4096, 0, 3);
}
static void expect_halved(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)out;
    leave(in, 512, 0, 4);
}
static void expect_lowest(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    (void)out;
    leave(in, 1, 0, 4);
}

#define NESTEROV_P P(0.90310000000000001, -1.8062, 0.11904999999999999, 2.9705499999999998)
#define NESTEROV_B S(.51, -1.02, 2.005, .155)
#define GRAD1      {F32(4), FIXED(.5, -1, 2, .125)}

const op_case op_cases_update[] = {
    {OP_SGD_UPDATE, "PyTorch, Nesterov", .in = {ONE(.1), ONE(1), NESTEROV_P, GRAD2, ABSENT, NESTEROV_B},
     SGD(.momentum = .9, .weight_decay = .01, .nesterov = 1), .fwd_tol = 1e-6, .expect = expect_nesterov, .want_tol = 1e-6},
    {OP_SGD_UPDATE, "two parameters", .in = {ONE(.1), ONE(1), NESTEROV_P, GRAD2, ABSENT, NESTEROV_B, ABSENT, ABSENT, NESTEROV_P, GRAD2, ABSENT, NESTEROV_B},
     SGD(.momentum = .9, .weight_decay = .01, .nesterov = 1), .fwd_tol = 1e-6, .expect = expect_two, .want_tol = 1e-6},
    {OP_SGD_UPDATE, "three parameters", .in = {ONE(.1), ONE(.7), PARAM(4101), {F32(4101)}, ABSENT, ABSENT, ABSENT, ABSENT, PARAM(3), {F32(3)}, ABSENT,
                                               ABSENT, ABSENT, ABSENT, PARAM(90, 91), {F32(90, 91)}}, SGD(.weight_decay = .01), .fwd_tol = 1e-6},
    {OP_SGD_UPDATE, "PyTorch, plain", .in = {ONE(.1), ABSENT, P(1, -2, .5, 3), GRAD1},
     SGD(.momentum = 0), .fwd_tol = 1e-6, .expect = expect_plain, .want_tol = 1e-8},
    {OP_SGD_UPDATE, "scaled gradient", .in = {ONE(.1), ONE(.5), P(1, -2, .5, 3), GRAD2},
     SGD(.momentum = 0), .fwd_tol = 1e-6, .expect = expect_plain, .want_tol = 1e-8},
    {OP_SGD_UPDATE, "averaged", .in = {ONE(.1), ONE(1), P(1, -2, .5, 3), GRAD1, S(1, -2, .5, 3)},
     SGD(.ema = .875), .fwd_tol = 1e-6, .expect = expect_average, .want_tol = 1e-8},
    {OP_SGD_UPDATE, "first step from zeros", .in = {ONE(.1), ONE(1), PARAM(1003), {F32(1003)}, ABSENT, {F32(1003), FIXED(0), .kind = VALUE_STATE}},
     SGD(.momentum = .9, .weight_decay = .01), .fwd_tol = 1e-6},
    {OP_SGD_UPDATE, "decoupled; blocks of several tensors", .in = {ONE(.1), ONE(.3), PARAM(40000), {F32(40000)}, STATE(40000), STATE(40000), ABSENT,
                                                                ABSENT, PARAM(9001), {F32(9001)}, STATE(9001), STATE(9001)},
     SGD(.momentum = .9, .weight_decay = .01, .decoupled = 1, .ema = .99), .fwd_tol = 1e-6},
    {OP_SGD_UPDATE, "gradient by rows", .in = {ONE(.1), ONE(1), P(1, -2, .5, 3), {F32(1), FIXED(.5)}, S(0, 0, 0, 0), S(0, 0, 0, 0), ABSENT, {I32(4), FIXED(-1, 0, -1, -1)}},
     SGD(.momentum = .9, .ema = .5), .fwd_tol = 1e-6, .expect = expect_row, .want_tol = 1e-7},
    {OP_SGD_UPDATE, "rows in blocks", .in = {ONE(.1), ONE(1), PARAM(700, 33), {F32(9, 33)}, ABSENT, STATE(700, 33), ABSENT, {I32(700), FIXED(3, -1, -1, 8, -1, 0, 1)}},
     SGD(.momentum = .9, .weight_decay = .01), .fwd_tol = 1e-6},
    {OP_SGD_UPDATE, "wrong rows", .in = {ONE(.1), ONE(1), PARAM(7, 3), {F32(2, 4)}, ABSENT, ABSENT, ABSENT, {I32(7), FIXED(-1)}}, SGD(.momentum = 0),
     .refuse = "do not fit"},
    {OP_SGD_UPDATE, "wrong places", .in = {ONE(.1), ONE(1), PARAM(7, 3), {F32(2, 3)}, ABSENT, ABSENT, ABSENT, {I32(6), FIXED(-1)}}, SGD(.momentum = 0),
     .refuse = "do not fit"},
    {OP_SGD_UPDATE, "not finite: skipped", .in = {ONE(.1), ONE(NAN), P(1, -2, .5, 3), {F32(4), FIXED(1, NAN, 0, 0)}, S(5, 6, 7, 8), S(1, 2, 3, 4)},
     SGD(.momentum = .9, .weight_decay = .01, .ema = .9), .expect = expect_unchanged},
    {OP_SGD_UPDATE, "buffer", .in = {ONE(.1), ABSENT, PARAM(4), {F32(4)}}, SGD(.momentum = .9), .refuse = "input 5"},
    {OP_SGD_UPDATE, "average", .in = {ONE(.1), ABSENT, PARAM(4), {F32(4)}}, SGD(.ema = .9), .refuse = "input 4"},
    {OP_SGD_UPDATE, "shape", .in = {ONE(.1), ABSENT, PARAM(4), {F32(5)}}, SGD(.momentum = 0), .refuse = "shape"},
    {OP_SGD_UPDATE, "second shape", .in = {ONE(.1), ABSENT, PARAM(4), {F32(4)}, ABSENT, ABSENT, ABSENT, ABSENT, PARAM(5), {F32(4)}}, SGD(.momentum = 0),
     .refuse = "shape"},
    {OP_SGD_UPDATE, "no second parameter", .in = {ONE(.1), ABSENT, PARAM(4), {F32(4)}, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, {F32(4)}}, SGD(.momentum = 0),
     .refuse = "input 8"},
    {OP_SGD_UPDATE, "copy", .in = {ONE(.1), ABSENT, PARAM(4), {F32(4)}, ABSENT, ABSENT, STATE(4)}, SGD(.momentum = 0),
     .refuse = "narrow type"},
    {OP_SGD_UPDATE, "rate", .in = {{F32(2)}, ABSENT, PARAM(4), {F32(4)}}, SGD(.momentum = 0), .refuse = "one number"},
    {OP_SGD_UPDATE, "no parameter", .in = {ONE(.1), ONE(1)}, SGD(.momentum = 0), .refuse = "no parameter"},
    {OP_SGD_UPDATE, "decay", .in = {ONE(.1), ABSENT, PARAM(4), {F32(4)}}, SGD(.weight_decay = -1), .refuse = "weight_decay"},
    {OP_SGD_UPDATE, "decay of the average", .in = {ONE(.1), ABSENT, PARAM(4), {F32(4)}, STATE(4)}, SGD(.ema = 1), .refuse = "ema"},
    {OP_SGD_UPDATE, "nesterov", .in = {ONE(.1), ABSENT, PARAM(4), {F32(4)}}, SGD(.nesterov = 1), .refuse = "momentum"},

    {OP_ADAM_UPDATE, "PyTorch, Adam",
     .in = {ONE(.1), ONE(1), ONE(2), P(0.90000000196078433, -1.9000000009803921, 0.40000000049875312, 2.9000000064516125), GRAD2, ABSENT,
            S(.051, -.102, .2005, .0155), S(0.0002601, 0.0010404, 0.004020025, 2.4025e-05)},
     ADAM(.weight_decay = .01), .fwd_tol = 1e-6, .expect = expect_adam, .want_tol = 1e-6},
    {OP_ADAM_UPDATE, "PyTorch, AdamW",
     .in = {ONE(.1), ONE(1), ONE(2), P(0.899000002, -1.898000001, 0.3995000005, 2.897000008), GRAD2, ABSENT, S(.05, -.1, .2, .0125),
            S(0.00025, 0.001, 0.004, 1.5625e-05)},
     ADAM(.weight_decay = .01, .decoupled = 1), .fwd_tol = 1e-6, .expect = expect_adamw, .want_tol = 1e-6},
    {OP_ADAM_UPDATE, "two large parameters",
     .in = {ONE(.01), ONE(.7), ONE(1000), PARAM(40001), {F32(40001)}, STATE(40001), STATE(40001), STATE(40001), ABSENT, ABSENT, PARAM(77), {F32(77)},
            STATE(77), STATE(77), STATE(77)},
     ADAM(.weight_decay = .1, .ema = .999), .fwd_tol = 1e-6},
    {OP_ADAM_UPDATE, "gradient by rows", .in = {ONE(.01), ONE(.7), ONE(10), PARAM(60, 700), {F32(4, 700)}, STATE(60, 700), STATE(60, 700),
                                                STATE(60, 700), ABSENT, {I32(60), FIXED(-1, -1, 2, 0, 3, -1, -1, -1)}},
     ADAM(.weight_decay = .1, .ema = .999), .fwd_tol = 1e-6},
    {OP_ADAM_UPDATE, "not finite: skipped", .in = {ONE(.1), ONE(INFINITY), ONE(2), P(1, -2, .5, 3), GRAD2, S(5, 6, 7, 8), S(1, 2, 3, 4), S(1, 2, 3, 4)},
     ADAM(.weight_decay = .01, .ema = .9), .expect = expect_unchanged},
    {OP_ADAM_UPDATE, "beta", .in = {ONE(.1), ONE(1), ONE(1), PARAM(4), {F32(4)}, ABSENT, STATE(4), STATE(4)},
     .attr = &(const adam_attrs){.beta1 = 1, .beta2 = .9}, .refuse = "beta1"},
    {OP_ADAM_UPDATE, "step", .in = {ONE(.1), ONE(1), ABSENT, PARAM(4), {F32(4)}, ABSENT, STATE(4), STATE(4)}, .refuse = "input 2"},
    {OP_ADAM_UPDATE, "moments", .in = {ONE(.1), ONE(1), ONE(1), PARAM(4), {F32(4)}, ABSENT, STATE(4)}, .refuse = "input 7"},

    {OP_GRAD_NORM, "PyTorch's clip_grad_norm_", .in = {{F32(4), FIXED(3, 0, 0, 0)}, {F32(2), FIXED(0, 4)}}, .n_out = 2,
     .attr = &(const grad_norm_attrs){2}, .fwd_tol = 1e-7, .want = {WANT(0.399999920000016), WANT(5)}, .want_tol = 1e-15},
    {OP_GRAD_NORM, "within the limit", .in = {{F32(4), FIXED(3, 0, 0, 0)}, {F32(2), FIXED(0, 4)}}, .n_out = 2,
     .attr = &(const grad_norm_attrs){6}, .want = {WANT(1), WANT(5)}},
    {OP_GRAD_NORM, "no limit", .in = {{F32(70, 1000)}, {F32(1)}, {F32(0)}, {F32(3, 9000)}}, .n_out = 2,
     .attr = &(const grad_norm_attrs){INFINITY}, .fwd_tol = 1e-7},
    {OP_GRAD_NORM, "NaN", .in = {{F32(4), FIXED(3, 0, 0, 0)}, {F32(2), FIXED(0, NAN)}}, .attr = &(const grad_norm_attrs){2},
     .want = {WANT(NAN)}},
    {OP_GRAD_NORM, "infinity", .in = {{F32(4), FIXED(3, 0, -INFINITY, 0)}}, .attr = &(const grad_norm_attrs){INFINITY},
     .want = {WANT(NAN)}},
    {OP_GRAD_NORM, "squares beyond float", .in = {{F32(2), FIXED(3e30, 4e30)}}, .n_out = 2,
     .attr = &(const grad_norm_attrs){INFINITY}, .fwd_tol = 1e-7, .want = {WANT(1), WANT(5e30)}, .want_tol = 1e-7},
    {OP_GRAD_NORM, "limit", .in = {{F32(4)}}, .attr = &(const grad_norm_attrs){0}, .refuse = "max_norm"},

    {OP_LOSS_SCALE, "good step", .in = {ONE(2048), NUMBER(1024), NUMBER(7), NUMBER(3), ONE(50)}, .n_out = 5, SCALE(INFINITY),
     .fwd_tol = 1e-7, .expect = expect_good, .want = {WANT(1. / 1024), WANT(2), WANT(1024), WANT(3), WANT(47)}, .want_tol = 1e-15},
    {OP_LOSS_SCALE, "clipped", .in = {ONE(2048), NUMBER(1024), NUMBER(7), NUMBER(3)}, .n_out = 2, SCALE(1),
     .fwd_tol = 1e-7, .expect = expect_good, .want = {WANT(0.49999975000012500 / 1024), WANT(2)}, .want_tol = 1e-12},
    {OP_LOSS_SCALE, "grows after the interval", .in = {ONE(4096), NUMBER(2048), NUMBER(1999), NUMBER(3)}, .n_out = 4, SCALE(INFINITY),
     .expect = expect_grown, .want = {WANT(1. / 2048), WANT(2), WANT(4096), WANT(3)}},
    {OP_LOSS_SCALE, "grows to the largest", .in = {ONE(4096), NUMBER(2048), NUMBER(1999), NUMBER(3)}, .n_out = 4,
     SCALE_IN(1000, 4096, INFINITY), .expect = expect_grown, .want = {WANT(1. / 2048), WANT(2), WANT(4096), WANT(3)}},
    {OP_LOSS_SCALE, "infinity: skipped", .in = {ONE(INFINITY), NUMBER(1024), NUMBER(7), NUMBER(3), ONE(50)}, .n_out = 5, SCALE(1),
     .expect = expect_halved, .want = {WANT(NAN), WANT(INFINITY), WANT(512), WANT(4), WANT(47)}},
    {OP_LOSS_SCALE, "NaN: skipped", .in = {ONE(NAN), NUMBER(1024), NUMBER(1999), NUMBER(3)}, .n_out = 4, SCALE(INFINITY),
     .expect = expect_halved, .want = {WANT(NAN), WANT(NAN), WANT(512), WANT(4)}},
    {OP_LOSS_SCALE, "not below the smallest", .in = {ONE(NAN), NUMBER(1), NUMBER(7), NUMBER(3)}, .n_out = 4, SCALE(INFINITY),
     .expect = expect_lowest, .want = {WANT(NAN), WANT(NAN), WANT(1), WANT(4)}},
    {OP_LOSS_SCALE, "a scale that is none", .in = {ONE(NAN), NUMBER(NAN), NUMBER(7), NUMBER(3)}, SCALE(INFINITY),
     .expect = expect_lowest, .want = {WANT(NAN)}},
    {OP_LOSS_SCALE, "no number", .in = {{F32(2)}, NUMBER(1), NUMBER(7), NUMBER(3)}, SCALE(1), .refuse = "one number"},
    {OP_LOSS_SCALE, "no scale", .in = {ONE(1), ABSENT, NUMBER(7), NUMBER(3)}, SCALE(1), .refuse = "input 1"},
    {OP_LOSS_SCALE, "no step", .in = {ONE(1), NUMBER(1), NUMBER(7), NUMBER(3)}, .n_out = 5, SCALE(1), .refuse = "input 4"},
    {OP_LOSS_SCALE, "limits", .in = {ONE(1), NUMBER(1), NUMBER(7), NUMBER(3)}, SCALE_IN(2, .5, 1), .refuse = "largest"},

    {OP_ACCUMULATE, .in = {S(1, -2, .5, 3), {F32(4)}, ONE(.25)}, .fwd_tol = 1e-7, .expect = expect_sum, .want_tol = 1e-15},
    {OP_ACCUMULATE, "rows", .in = {STATE(300, 70), {F32(5, 70)}, ONE(.5), {I32(300), FIXED(-1, 2, -1, 4, 0)}}, .fwd_tol = 1e-7},
    {OP_ACCUMULATE, "no share", .in = {S(1, -2, .5, 3), {F32(4)}}, .fwd_tol = 1e-7, .expect = expect_sum, .want_tol = 1e-15},
    {OP_CLEAR, .in = {S(1, NAN, .5, 3), S(1, 2, 3, 4)}, .n_in = 2, .expect = expect_zero},
    {OP_CLEAR, "five", .in = {STATE(5), STATE(4096), STATE(0), STATE(9001), {SCALAR(F32), .kind = VALUE_STATE}}},
    OP_CASE_END};
