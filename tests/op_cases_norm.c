/* op_cases_norm.c - rows of normalisation and softmax. Expected numbers without a formula beside them are PyTorch 2.13's
 * in double (torch.nn.functional of the same name, eps 1e-5). */
#include "op_case.h"

#include <math.h>

#define BN(...) .attr = &(const batch_norm_attrs){.epsilon = 1e-5, .momentum = 0.9, __VA_ARGS__}
#define LN(...) .attr = &(const layer_norm_attrs){.epsilon = 1e-5, .stash_type = 1, __VA_ARGS__}
#define IN      .attr = &(const instance_norm_attrs){1e-5}
#define AXIS(k) .attr = &(const axis_attrs){k}

/* Scale, bias and statistics of C channels. */
#define SCALE(C) {F32(C), .lo = 0.5, .hi = 2}
#define BIAS(C)  {F32(C)}
#define MEAN(C)  {F32(C), .no_grad = true}
#define VAR(C)   {F32(C), .lo = 0.5, .hi = 2, .no_grad = true}

/* PyTorch's example: x [2, 2, 1, 3]. */
#define X_FIXED     F32(2, 2, 1, 3), FIXED(1, -2, .5, 3, 4, -1, .25, 2, -3, 5, -6, .75)
#define DY_FIXED    F32(2, 2, 1, 3), FIXED(.5, -1, 2, 1, .25, -.75, -2, 1, .125, .5, 1.5, -1)
#define SCALE_FIXED F32(2), FIXED(1.5, -.5)
#define BIAS_FIXED  F32(2), FIXED(.25, 1)
#define BATCH_MEAN  -0.20833333333333334, 0.95833333333333337
#define BATCH_VAR   3.0086805555555554, 13.675347222222221
#define BATCH_Y                                                                                                   \
    1.2949349465581286, -1.2993863000689492, 0.86254807212028228, 0.72395142929215672, 0.58874396608831503,       \
        1.2647812821075233, 0.64635463490135914, 2.1597086954338209, -2.164160048944642, 0.45353650288447334,     \
        1.9408185981267316, 1.0281682215008003
#define ROW8 FIXED(1, -2, .5, 3, 4, -1, .25, 2)

/* running = (1 - m) * running + m * batch, the variance times n / (n - 1); channel 2 has no finite statistics. */
static void expect_stats(const op_case *c, double *const *in, double *const *out)
{
    const batch_norm_attrs *at = c->attr;
    double n = (double)at->count, factor = at->unbiased ? n / (n - 1) : 1, m = at->momentum;
    (void)out;
    for (int i = 0; i < 5; i++) {
        if (!isfinite(in[2][i]) || !isfinite(in[3][i]))
            continue;
        in[0][i] = (1 - m) * in[0][i] + m * in[2][i];
        in[1][i] = (1 - m) * in[1][i] + m * factor * in[3][i];
    }
}
#define STATE(C) {F32(C), .kind = VALUE_STATE}

const op_case op_cases_norm[] = {
    /* inference */
    {OP_BATCH_NORM, .in = {{F32(2, 3, 4, 5)}, SCALE(3), BIAS(3), MEAN(3), VAR(3)}, BN(.training_mode = 0),
     .fwd_tol = 1e-6, .bwd_tol = 2e-6},
    {OP_BATCH_NORM, "relu", .in = {{F32(2, 19, 4, 5)}, SCALE(19), BIAS(19), MEAN(19), VAR(19)},
     BN(.training_mode = 0, .relu = 1), .fwd_tol = 1e-6, .bwd_tol = 3e-6},
    {OP_BATCH_NORM, "rank 2", .in = {{F32(5, 37)}, SCALE(37), BIAS(37), MEAN(37), VAR(37)}, BN(.training_mode = 0),
     .fwd_tol = 1e-6, .bwd_tol = 2e-6},
    {OP_BATCH_NORM, "rank 3, one channel", .in = {{F32(3, 1, 7)}, SCALE(1), BIAS(1), MEAN(1), VAR(1)},
     BN(.training_mode = 0), .fwd_tol = 1e-6, .bwd_tol = 2e-6},
    {OP_BATCH_NORM, "no sample", .in = {{F32(0, 2, 3)}, SCALE(2), BIAS(2), MEAN(2), VAR(2)}, BN(.training_mode = 0)},
    {OP_BATCH_NORM, "large", .in = {{F32(9, 5, 33, 31)}, SCALE(5), BIAS(5), MEAN(5), VAR(5)}, BN(.training_mode = 0),
     .fwd_tol = 1e-6, .bwd_tol = 3e-5 /* of a sum of 9207 numbers of size 1 */},
    /* ONNX's training form: population variance, running * 0.9 + batch * 0.1 */
    {OP_BATCH_NORM, "training", .in = {{X_FIXED}, {SCALE_FIXED}, {BIAS_FIXED}, {F32(2), FIXED(.5, -1), .no_grad = true},
                                       {F32(2), FIXED(2, .5), .no_grad = true}},
     .n_out = 3, BN(.training_mode = 1), .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 2e-6,
     .want = {WANT(BATCH_Y), WANT(0.4291666666666667, -0.8041666666666667),
              WANT(.9 * 2 + .1 * 3.0086805555555554, .9 * .5 + .1 * 13.675347222222221)}, .want_tol = 1e-12},
    {OP_BATCH_NORM, "training, 16 channels",
     .in = {{F32(6, 16)}, SCALE(16), BIAS(16), MEAN(16), VAR(16)}, .n_out = 3, BN(.training_mode = 1), .loss_outs = 1,
     .fwd_tol = 1e-6, .bwd_tol = 4e-6},
    /* the students' training form */
    {OP_BATCH_NORM_TRAIN, "as PyTorch", .in = {{X_FIXED}, {SCALE_FIXED}, {BIAS_FIXED}}, BN(.training_mode = 0),
     .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 2e-6, .want = {WANT(BATCH_Y), WANT(BATCH_MEAN), WANT(BATCH_VAR)},
     .want_tol = 1e-12},
    {OP_BATCH_NORM_TRAIN, .in = {{F32(4, 3, 5, 7)}, SCALE(3), BIAS(3)}, BN(.training_mode = 0), .loss_outs = 1,
     .fwd_tol = 1e-6, .bwd_tol = 3e-6},
    {OP_BATCH_NORM_TRAIN, "channels beside each other", .in = {{F32(33, 165)}, SCALE(165), BIAS(165)}, BN(.training_mode = 0),
     .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 3e-6},
    {OP_BATCH_NORM_TRAIN, "more rows than are summed at once", .in = {{F32(600, 18)}, SCALE(18), BIAS(18)},
     BN(.training_mode = 0), .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 1e-5},
    {OP_BATCH_NORM_TRAIN, "few channels, several blocks", .in = {{F32(70, 3, 16, 17)}, SCALE(3), BIAS(3)},
     BN(.training_mode = 0), .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 1e-5, .grad_tol = 1e-6},
    {OP_BATCH_NORM_TRAIN, "long rows", .in = {{F32(2, 3, 91, 101)}, SCALE(3), BIAS(3)}, BN(.training_mode = 0),
     .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 1e-5, .grad_tol = 1e-6},
    {OP_BATCH_NORM_TRAIN, "two elements", .in = {{F32(2, 3, 1, 1), .distinct = true}, SCALE(3), BIAS(3)},
     BN(.training_mode = 0), .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 1e-5, .grad_tol = 1e-6},
    {OP_BATCH_NORM_TRAIN, "far from zero", .in = {{F32(16, 4, 9, 9), .lo = 1000, .hi = 1001}, SCALE(4), BIAS(4)},
     BN(.training_mode = 0), .loss_outs = 1, .fwd_tol = 3e-4, .bwd_tol = 1e-3, .grad_tol = 1e-5, .step = 1e-8},
    {OP_BATCH_NORM_TRAIN, "relu", .in = {{F32(4, 3, 5, 7)}, SCALE(3), BIAS(3)}, BN(.relu = 1), .loss_outs = 1,
     .fwd_tol = 1e-6, .bwd_tol = 3e-6},
    {OP_BATCH_NORM_TRAIN, "relu6, odd channels", .in = {{F32(3, 17, 5, 6)}, SCALE(17), BIAS(17)},
     BN(.relu = 1, .ceiling = 0.5), .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 3e-6},
    {OP_BATCH_NORM_TRAIN, "residual", .in = {{F32(3, 5, 4, 6)}, SCALE(5), BIAS(5), {F32(3, 5, 4, 6)}}, BN(.relu = 0),
     .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 3e-6},
    {OP_BATCH_NORM_TRAIN, "residual and relu", .in = {{F32(19, 33, 20, 21)}, SCALE(33), BIAS(33), {F32(19, 33, 20, 21)}},
     BN(.relu = 1), .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 4e-5, .grad_tol = 1e-6},
    {OP_BATCH_NORM_TRAIN, "residual and relu, rank 2", .in = {{F32(70, 85)}, SCALE(85), BIAS(85), {F32(70, 85)}},
     BN(.relu = 1), .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 1e-5},
    {OP_BATCH_NORM_TRAIN, "residual and relu, long rows",
     .in = {{F32(2, 3, 91, 101)}, SCALE(3), BIAS(3), {F32(2, 3, 91, 101)}}, BN(.relu = 1, .ceiling = 2), .loss_outs = 1,
     .fwd_tol = 1e-6, .bwd_tol = 1e-5, .grad_tol = 1e-6},
    {OP_BATCH_NORM_GRAD, "relu", .in = {{F32(4, 3, 5, 7)}, {F32(4, 3, 5, 7)}, SCALE(3), MEAN(3), VAR(3), {F32(4, 3, 5, 7)}},
     .n_out = 4, BN(.training_mode = 1, .relu = 1, .ceiling = 1), .fwd_tol = 2e-6},
    {OP_BATCH_NORM_GRAD, "relu seen from x",
     .in = {{F32(19, 33, 20, 21)}, {F32(19, 33, 20, 21)}, SCALE(33), MEAN(33), VAR(33), {0}, BIAS(33)}, .n_out = 3,
     BN(.training_mode = 1, .relu = 1, .ceiling = 1), .fwd_tol = 5e-6},
    {OP_BATCH_NORM_MOMENTS, .in = {{F32(4, 3, 5, 7)}}, .fwd_tol = 1e-6},
    {OP_BATCH_NORM_MOMENTS, "odd channels, several blocks", .in = {{F32(19, 33, 20, 21)}}, .fwd_tol = 1e-6},
    {OP_BATCH_NORM_MOMENTS, "far from zero", .in = {{F32(16, 4, 9, 9), .lo = 1000, .hi = 1001}}, .fwd_tol = 1e-6},
    {OP_BATCH_NORM_GRAD, "relu without a result", .in = {{F32(4, 3)}, {F32(4, 3)}, SCALE(3), MEAN(3), VAR(3)}, .n_out = 3,
     BN(.training_mode = 1, .relu = 1), .refuse = "input 5"},
    {OP_BATCH_NORM_GRAD, "as PyTorch",
     .in = {{DY_FIXED}, {X_FIXED}, {SCALE_FIXED}, {F32(2), FIXED(BATCH_MEAN)}, {F32(2), FIXED(BATCH_VAR)}}, .n_out = 3,
     BN(.training_mode = 1), .fwd_tol = 1e-6,
     .want = {WANT(0.067054563159281516, -0.54672249824084462, 1.4781124467917224, -0.11465255480101381,
                   -0.01973526306252402, 0.14791372846327494, -1.9240339185515967, 0.27164691695932353,
                   0.65394248988211368, -0.060025434527875898, -0.12386153542341151, 0.1703610593515503),
              WANT(2.7414528914010674, -1.0647587727302528), WANT(0.625, 1.5)},
     .want_tol = 1e-7},
    {OP_BATCH_NORM_GRAD_APPLY, "as PyTorch",
     .in = {{DY_FIXED}, {X_FIXED}, {SCALE_FIXED}, {F32(2), FIXED(BATCH_MEAN)}, {F32(2), FIXED(BATCH_VAR)},
            {F32(2), FIXED(2.7414528914010674, -1.0647587727302528)}, {F32(2), FIXED(0.625, 1.5)}},
     BN(.training_mode = 1), .fwd_tol = 1e-6,
     .want = {WANT(0.067054563159281516, -0.54672249824084462, 1.4781124467917224, -0.11465255480101381,
                   -0.01973526306252402, 0.14791372846327494, -1.9240339185515967, 0.27164691695932353,
                   0.65394248988211368, -0.060025434527875898, -0.12386153542341151, 0.1703610593515503)},
     .want_tol = 1e-7},
    {OP_BATCH_NORM_GRAD_APPLY, "packs of channels", .in = {{F32(8, 24, 20, 21)}, {F32(8, 24, 20, 21)}, SCALE(24), MEAN(24), VAR(24), BIAS(24), BIAS(24)},
     BN(.training_mode = 1), .fwd_tol = 2e-6},
    {OP_BATCH_NORM_GRAD_APPLY, "statistics of others", .in = {{F32(5, 7, 4)}, {F32(5, 7, 4)}, SCALE(7), MEAN(7), VAR(7), BIAS(7), BIAS(7)},
     BN(.training_mode = 0), .fwd_tol = 2e-6},
    {OP_BATCH_NORM_GRAD_APPLY, "sums of other channels", .in = {{F32(5, 7, 4)}, {F32(5, 7, 4)}, SCALE(7), MEAN(7), VAR(7), BIAS(7), BIAS(6)},
     BN(.training_mode = 1), .refuse = "operand of the channels"},
    {OP_BATCH_NORM_STATS, "PyTorch's rule", .in = {STATE(5), STATE(5), {F32(5), FIXED(1, -2, INFINITY, 3, .5)},
                                                   {F32(5), FIXED(1, 2, 3, NAN, .5)}},
     .attr = &(const batch_norm_attrs){.momentum = 0.1, .unbiased = 1, .count = 12}, .fwd_tol = 1e-7,
     .expect = expect_stats, .want_tol = 1e-15},
    {OP_BATCH_NORM_STATS, "population variance", .in = {STATE(5), STATE(5), {F32(5)}, {F32(5), .lo = 0.5, .hi = 2}},
     .attr = &(const batch_norm_attrs){.momentum = 0.25, .count = 12}, .fwd_tol = 1e-7, .expect = expect_stats,
     .want_tol = 1e-15},
    {OP_BATCH_NORM, "scale", .in = {{F32(2, 3, 4)}, SCALE(4), BIAS(3), MEAN(3), VAR(3)}, .refuse = "[4]"},
    {OP_BATCH_NORM, "no channels", .in = {{F32(3)}, SCALE(3), BIAS(3), MEAN(3), VAR(3)}, .refuse = "channels"},
    {OP_BATCH_NORM, "outputs", .in = {{F32(2, 3)}, SCALE(3), BIAS(3), MEAN(3), VAR(3)}, .n_out = 3,
     .refuse = "training_mode"},
    {OP_BATCH_NORM, "integers", .in = {{I32(2, 3)}, SCALE(3), BIAS(3), MEAN(3), VAR(3)}, .refuse = "int32"},
    {OP_BATCH_NORM, "epsilon", .in = {{F32(2, 3)}, SCALE(3), BIAS(3), MEAN(3), VAR(3)},
     .attr = &(const batch_norm_attrs){.epsilon = -1}, .refuse = "epsilon"},
    {OP_BATCH_NORM_TRAIN, "one element", .in = {{F32(1, 3, 1, 1)}, SCALE(3), BIAS(3)}, .refuse = "batch"},
    {OP_BATCH_NORM_STATS, "momentum", .in = {STATE(5), STATE(5), {F32(5)}, {F32(5)}},
     .attr = &(const batch_norm_attrs){.momentum = 1.5}, .refuse = "momentum"},

    {OP_LAYER_NORM, "as PyTorch", .in = {{F32(2, 4), ROW8}, {F32(4), FIXED(1.5, -.5, 1, 2)}, {F32(4), FIXED(.25, 1, 0, -1)}},
     LN(.axis = -1), .fwd_tol = 1e-6, .bwd_tol = 2e-6,
     .want = {WANT(0.56583758498295555, 1.7369543649602299, -0.070186129996212362, 1.66707293985607, 2.3916843256101981,
                   1.6142815507564134, -0.5644749385329203, -0.26950302072210308)}, .want_tol = 1e-12},
    {OP_LAYER_NORM, .in = {{F32(2, 3, 19)}, {F32(19)}, {F32(19)}}, .n_out = 3, LN(.axis = -1), .loss_outs = 1,
     .fwd_tol = 1e-6, .bwd_tol = 3e-6},
    {OP_LAYER_NORM, "two axes, no bias", .in = {{F32(4, 3, 5)}, {F32(3, 5)}}, LN(.axis = 1), .fwd_tol = 1e-6,
     .bwd_tol = 3e-6},
    {OP_LAYER_NORM, "all axes, ones in front", .in = {{F32(3, 4)}, {F32(1, 3, 4)}, {F32(1, 1, 3, 4)}}, LN(.axis = 0),
     .fwd_tol = 1e-6, .bwd_tol = 3e-6},
    {OP_LAYER_NORM, "many rows", .in = {{F32(2500, 9)}, {F32(9)}, {F32(9)}}, LN(.axis = 1), .fwd_tol = 1e-6,
     .bwd_tol = 3e-6},
    {OP_LAYER_NORM, "long rows", .in = {{F32(3, 8300)}, {F32(8300)}, {F32(8300)}}, LN(.axis = 1), .fwd_tol = 1e-6,
     .bwd_tol = 3e-6, .grad_tol = 1e-6},
    {OP_LAYER_NORM, "rows of whole vectors", .in = {{F32(70, 516)}, {F32(516)}, {F32(516)}}, LN(.axis = 1), .fwd_tol = 3e-6,
     .bwd_tol = 5e-6, .grad_tol = 1e-6},
    {OP_LAYER_NORM, "rows of a block", .in = {{F32(19, 1028)}, {F32(1028)}, {F32(1028)}}, LN(.axis = 1), .fwd_tol = 4e-6,
     .bwd_tol = 5e-6, .grad_tol = 1e-6},
    {OP_LAYER_NORM, "one element", .in = {{F32(3, 1)}, {F32(1)}, {F32(1)}}, LN(.axis = 1), .fwd_tol = 1e-6,
     .bwd_tol = 2e-5 /* one rounding of a fused multiply-add, times 1/sqrt(epsilon) = 316 */},
    {OP_LAYER_NORM, "far from zero", .in = {{F32(5, 100), .lo = 1000, .hi = 1001}, {F32(100)}, {F32(100)}}, LN(.axis = 1),
     .fwd_tol = 5e-4, .bwd_tol = 5e-4, .grad_tol = 1e-5, .step = 1e-8},
    {OP_LAYER_NORM_GRAD, "more is added", .in = {{F32(40, 19)}, {F32(40, 19)}, {F32(19)}, {F32(40, 19)}}, .n_out = 3, LN(.axis = -1),
     .fwd_tol = 3e-6, .no_grad = true},
    {OP_LAYER_NORM_GRAD, "rows all equal: only what is added", .in = {{F32(2, 3)}, {F32(2, 3), FIXED(4)}, {F32(3), FIXED(0)}, {F32(2, 3), FIXED(1, 2, 3, 4, 5, 6)}},
     LN(.axis = 1), .no_grad = true, .want = {WANT(1, 2, 3, 4, 5, 6)}},
    {OP_LAYER_NORM_GRAD, "more", .in = {{F32(2, 3)}, {F32(2, 3)}, {F32(3)}, {F32(2, 4)}}, LN(.axis = 1), .refuse = "shape"},
    {OP_LAYER_NORM, "axis", .in = {{F32(2, 3)}, {F32(3)}}, LN(.axis = 2), .refuse = "axis"},
    {OP_LAYER_NORM, "scale", .in = {{F32(2, 3)}, {F32(2)}}, LN(.axis = 1), .refuse = "[2]"},

    {OP_INSTANCE_NORM, "as PyTorch", .in = {{F32(1, 2, 4), ROW8}, {SCALE_FIXED}, {BIAS_FIXED}}, IN, .fwd_tol = 1e-6,
     .bwd_tol = 3e-6,
     .want = {WANT(0.56583758498295555, -1.9608630948806893, 0.14472080500568146, 2.2503047048920521,
                   0.28610522479660072, 1.6142815507564132, 1.2822374692664602, 0.81737575518052574)}, .want_tol = 1e-12},
    {OP_INSTANCE_NORM, .in = {{F32(3, 4, 5, 7)}, SCALE(4), BIAS(4)}, IN, .fwd_tol = 1e-6, .bwd_tol = 3e-6},
    {OP_INSTANCE_NORM, "one channel, long", .in = {{F32(1, 1, 8500)}, SCALE(1), BIAS(1)}, IN, .fwd_tol = 1e-6,
     .bwd_tol = 1e-5},
    {OP_INSTANCE_NORM, "rank", .in = {{F32(3, 4)}, SCALE(4), BIAS(4)}, IN, .refuse = "rank"},

    {OP_SOFTMAX, "as PyTorch", .in = {{F32(2, 4), ROW8}}, AXIS(-1), .fwd_tol = 3e-7, .bwd_tol = 1e-6,
     .want = {WANT(0.11055375036173921, 0.0055041471275836728, 0.067054239140611469, 0.81688786337006569,
                   0.8579338897707125, 0.005780713077994294, 0.02017667118088495, 0.11610872597040824)}, .want_tol = 1e-15},
    {OP_SOFTMAX, .in = {{F32(7, 10)}}, AXIS(-1), .fwd_tol = 3e-7, .bwd_tol = 1e-6},
    {OP_SOFTMAX, "long", .in = {{F32(3, 1000), .lo = -9, .hi = 9}}, AXIS(1), .fwd_tol = 3e-7, .bwd_tol = 1e-6},
    {OP_SOFTMAX, "longer, odd", .in = {{F32(3, 1003), .lo = -9, .hi = 9}}, AXIS(1), .fwd_tol = 3e-7, .bwd_tol = 1e-6},
    {OP_SOFTMAX, "longer, even", .in = {{F32(3, 2048), .lo = -9, .hi = 9}}, AXIS(1), .fwd_tol = 3e-7, .bwd_tol = 1e-6},
    {OP_SOFTMAX, "a vocabulary", .in = {{F32(2, 4500), .lo = -9, .hi = 9}}, AXIS(1), .fwd_tol = 3e-7, .bwd_tol = 1e-6},
    {OP_SOFTMAX, "first axis", .in = {{F32(5, 2, 67)}}, AXIS(0), .fwd_tol = 3e-7, .bwd_tol = 1e-6},
    {OP_SOFTMAX, "middle axis", .in = {{F32(2, 9, 5)}}, AXIS(1), .fwd_tol = 3e-7, .bwd_tol = 1e-6},
    {OP_SOFTMAX, "middle axis, many", .in = {{F32(3, 20, 700)}}, AXIS(-2), .fwd_tol = 3e-7, .bwd_tol = 1e-6},
    {OP_SOFTMAX, "large numbers", .in = {{F32(2, 3), FIXED(1e4, -1e4, 9999, -1e4, -1e4, -9999)}}, AXIS(1), .fwd_tol = 3e-7,
     .bwd_tol = 1e-6, .no_grad = true},
    {OP_SOFTMAX, "masked", .in = {{F32(1, 4), FIXED(-INFINITY, 1, 2, -INFINITY)}}, AXIS(1), .fwd_tol = 3e-7, .no_grad = true},
    {OP_SOFTMAX, "one element", .in = {{F32(3, 1)}}, AXIS(1), .bwd_tol = 1e-7},
    {OP_SOFTMAX, "nothing", .in = {{F32(3, 0)}}, AXIS(1)},
    {OP_SOFTMAX, "axis", .in = {{F32(2, 3)}}, AXIS(2), .refuse = "axis"},
    {OP_SOFTMAX, "integers", .in = {{I64(2, 3)}}, AXIS(1), .refuse = "int64"},
    {OP_LOG_SOFTMAX, "as PyTorch", .in = {{F32(2, 4), ROW8}}, AXIS(0), .fwd_tol = 5e-7, .bwd_tol = 1e-6,
     .want = {WANT(-3.0485873515737421, -1.3132616875182228, -0.57593941987884367, -0.31326168751822286,
                   -0.048587351573741965, -0.31326168751822286, -0.82593941987884367, -1.3132616875182228)},
     .want_tol = 1e-15},
    {OP_LOG_SOFTMAX, .in = {{F32(7, 10)}}, AXIS(-1), .fwd_tol = 5e-7, .bwd_tol = 1e-6},
    {OP_LOG_SOFTMAX, "long", .in = {{F32(3, 1000), .lo = -9, .hi = 9}}, AXIS(1), .fwd_tol = 5e-7, .bwd_tol = 2e-6, .grad_tol = 1e-6},
    {OP_LOG_SOFTMAX, "a vocabulary", .in = {{F32(2, 4500), .lo = -9, .hi = 9}}, AXIS(1), .fwd_tol = 2e-6, .bwd_tol = 2e-6, .grad_tol = 1e-6},
    {OP_LOG_SOFTMAX, "middle axis", .in = {{F32(2, 9, 67)}}, AXIS(1), .fwd_tol = 5e-7, .bwd_tol = 1e-6},
    {OP_LOG_SOFTMAX, "large numbers", .in = {{F32(2, 3), FIXED(1e4, -1e4, 9999, -1e4, -1e4, -9999)}}, AXIS(1),
     .fwd_tol = 5e-7, .no_grad = true},
    /* whole packs of channels, as kernels that have them last read them: one block's, several pieces, several groups of channels */
    {OP_BATCH_NORM, "packs of channels", .in = {{F32(2, 40, 4, 5)}, SCALE(40), BIAS(40), MEAN(40), VAR(40)},
     BN(.training_mode = 0, .relu = 1), .fwd_tol = 1e-6, .bwd_tol = 4e-6},
    {OP_BATCH_NORM, "training, packs of channels", .in = {{F32(6, 16, 3, 3)}, SCALE(16), BIAS(16), MEAN(16), VAR(16)}, .n_out = 3,
     BN(.training_mode = 1), .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 4e-6},
    {OP_BATCH_NORM_TRAIN, "packs of channels", .in = {{F32(4, 8, 5, 7)}, SCALE(8), BIAS(8)}, BN(.relu = 0), .loss_outs = 1,
     .fwd_tol = 1e-6, .bwd_tol = 4e-6},
    {OP_BATCH_NORM_TRAIN, "packs of channels, pieces", .in = {{F32(8, 16, 33, 37)}, SCALE(16), BIAS(16), {F32(8, 16, 33, 37)}},
     BN(.relu = 1), .loss_outs = 1, .fwd_tol = 2e-6, .bwd_tol = 4e-5, .grad_tol = 2e-6},
    {OP_BATCH_NORM_TRAIN, "packs of channels, groups", .in = {{F32(3, 328, 3, 5)}, SCALE(328), BIAS(328)},
     BN(.relu = 1, .ceiling = 1), .loss_outs = 1, .fwd_tol = 1e-6, .bwd_tol = 4e-6},
    {OP_BATCH_NORM_TRAIN, "packs of channels, far from zero", .in = {{F32(16, 8, 9, 9), .lo = 100, .hi = 101}, SCALE(8), BIAS(8)},
     BN(.relu = 0), .loss_outs = 1, .fwd_tol = 3e-5, .bwd_tol = 1e-4, .grad_tol = 1e-5, .step = 1e-7},
    {OP_BATCH_NORM_APPLY, .in = {{F32(4, 3, 5, 7)}, SCALE(3), BIAS(3), MEAN(3), VAR(3)}, BN(.relu = 0), .fwd_tol = 2e-6},
    {OP_BATCH_NORM_APPLY, "residual and relu", .in = {{F32(3, 24, 4, 5)}, SCALE(24), BIAS(24), MEAN(24), VAR(24), {F32(3, 24, 4, 5)}},
     BN(.relu = 1, .ceiling = 1.5), .fwd_tol = 2e-6},
    {OP_BATCH_NORM_APPLY, "pieces", .in = {{F32(8, 16, 33, 37)}, SCALE(16), BIAS(16), MEAN(16), VAR(16), {F32(8, 16, 33, 37)}},
     BN(.relu = 1), .fwd_tol = 2e-6},
    {OP_BATCH_NORM_APPLY, "variance of other channels", .in = {{F32(4, 3, 5, 7)}, SCALE(3), BIAS(3), MEAN(3), VAR(4)}, BN(.relu = 0),
     .refuse = "operand of the channels"},
    {OP_BATCH_NORM_MOMENTS, "packs of channels", .in = {{F32(8, 24, 20, 21)}}, .fwd_tol = 1e-6},
    OP_CASE_END};
