/* op_cases_fake_quant.c - rows of FakeQuant, its gradient and its range. The straight-through gradient is no derivative: rows of
 * FakeQuantGrad hold it against its closed form instead of finite differences; test_qat.c holds the rule that adds it. */
#include "op_case.h"

#include <math.h>

#define Q(...)    .attr = &(const fake_quant_attrs){.multiple = 1, __VA_ARGS__}
#define U8Q       .qmin = 0, .qmax = 255
#define S8Q       .qmin = -128, .qmax = 127
#define WEIGHT4   .attr = &(const fake_quant_attrs){.qmin = -64, .qmax = 64, .multiple = 4}
#define BIAS4     .attr = &(const fake_quant_attrs){.qmin = -8388608, .qmax = 8388608, .multiple = 4, .offset = 2}
#define ONE(x)    {SCALAR(F32), FIXED(x)}
#define SCALES(n) {F32(n), .lo = 0.004, .hi = 0.02}

static double half_even(double x)
{
    return nearbyint(x);
}

/* FakeQuantGrad by its definition, written for tensors [outer, C, inner] with scales [C] or one. */
static void expect_grad(const op_case *c, double *const *in, double *const *out)
{
    const fake_quant_attrs *at = c->attr;
    int64_t n = shape_count(&c->in[1].sh), scales = c->in[2].sh.rank ? c->in[2].sh.dim[0] : 1, inner = 1;
    for (int i = (int)at->axis + 1; scales > 1 && i < c->in[1].sh.rank; i++)
        inner *= c->in[1].sh.dim[i];
    double sum[64] = {0};
    for (int64_t i = 0; i < n; i++) {
        int64_t k = scales > 1 ? i / inner % scales : 0;
        double s = in[2][k], z = in[3] ? in[3][k] : 0, x = in[1][i], r = half_even(x / s);
        bool inside = r + z >= at->qmin && r + z <= at->qmax && !(at->relu && x <= 0);
        double low = at->relu ? fmax(at->qmin - z, 0) : at->qmin - z;
        out[0][i] = inside ? in[0][i] : 0;
        sum[k] += in[0][i] * (inside ? r - x / s : fmin(fmax(r, low), at->qmax - z));
    }
    for (int64_t k = 0; k < scales && out[1]; k++)
        out[1][k] = at->scale_grad * sum[k];
}

const op_case op_cases_fake_quant[] = {
    {OP_FAKE_QUANT, "half to even, clamped", .in = {{F32(8), FIXED(0.5, 1.5, 2.5, -0.5, -1.5, -130, 126.5, 200)}, ONE(1)}, Q(S8Q),
     .no_grad = true, .want = {WANT(0, 2, 2, 0, -2, -128, 126, 127)}},
    {OP_FAKE_QUANT, "zero point", .in = {{F32(5), FIXED(-3, -2.6, 0, 250, 254)}, ONE(1), ONE(3)}, Q(U8Q), .no_grad = true,
     .want = {WANT(-3, -3, 0, 250, 252)}},
    {OP_FAKE_QUANT, "ranges", .in = {{F32(4), FIXED(-3, 2, 7, 0)}, ONE(0.5)}, Q(S8Q), .n_out = 3, .no_grad = true,
     .want = {WANT(-3, 2, 7, 0), WANT(-3), WANT(7)}},
    {OP_FAKE_QUANT, "ranges hold 0, relu", .in = {{F32(2), FIXED(-3, -1)}, ONE(0.5)}, Q(U8Q, .relu = 1), .n_out = 3, .no_grad = true,
     .want = {WANT(0, 0), WANT(0), WANT(0)}},
    {OP_FAKE_QUANT, "relu, signed", .in = {{F32(4), FIXED(-3, 2, 300, 0)}, ONE(1), ONE(128)}, Q(U8Q, .relu = 1), .no_grad = true,
     .want = {WANT(0, 2, 127, 0)}},
    {OP_FAKE_QUANT, "special values", .in = {{F32(4), FIXED(-INFINITY, INFINITY, NAN, 1)}, ONE(0.25)}, Q(S8Q), .n_out = 3, .no_grad = true,
     .want = {WANT(-32, 31.75, NAN, 1), WANT(NAN), WANT(NAN)}},
    {OP_FAKE_QUANT, "multiples of 4", .in = {{F32(7), FIXED(2, 2.5, 6, -6, -10, 63, 90)}, ONE(1)}, WEIGHT4, .no_grad = true,
     .want = {WANT(0, 4, 8, -8, -8, 64, 64)}},
    {OP_FAKE_QUANT, "2 mod 4", .in = {{F32(7), FIXED(0, 4, 3.9, 4.1, -1, -4, -4.5)}, ONE(1)}, BIAS4, .no_grad = true,
     .want = {WANT(2, 2, 2, 6, -2, -6, -6)}},
    {OP_FAKE_QUANT, "2 mod 4, a scale for each", .in = {{F32(3), FIXED(0, 1, -1)}, {F32(3), FIXED(1, 0.125, 0.0625)}}, BIAS4, .no_grad = true,
     .want = {WANT(2, 1.25, -0.875)}},
    {OP_FAKE_QUANT, "power of two", .in = {{F32(7, 10000, 1), .lo = -9, .hi = 9}, ONE(0.0625)}, Q(S8Q), .n_out = 3, .no_grad = true},
    {OP_FAKE_QUANT, "large", .in = {{F32(7, 10000, 1), .lo = -9, .hi = 9}, ONE(0.0613), ONE(100)}, Q(U8Q), .n_out = 3, .no_grad = true},
    {OP_FAKE_QUANT, "images", .in = {{F32(2, 21, 5, 3), .lo = -9, .hi = 9}, ONE(0.0613), ONE(100)}, Q(U8Q), .n_out = 3, .no_grad = true},
    {OP_FAKE_QUANT, "images, relu", .in = {{F32(2, 32, 5, 3), .lo = -9, .hi = 9}, ONE(0.0131)}, Q(U8Q, .relu = 1), .no_grad = true},
    {OP_FAKE_QUANT, "per channel", .in = {{F32(19, 4, 3, 3)}, SCALES(19)}, Q(S8Q), .n_out = 3, .no_grad = true},
    {OP_FAKE_QUANT, "per column", .in = {{F32(20, 33)}, SCALES(33)}, Q(S8Q, .axis = 1), .n_out = 3, .no_grad = true},
    {OP_FAKE_QUANT, "long columns", .in = {{F32(700, 33)}, SCALES(33)}, Q(S8Q, .axis = 1), .n_out = 3, .no_grad = true},
    {OP_FAKE_QUANT, "middle axis, zero points", .in = {{F32(3, 5, 40)}, SCALES(5), {F32(5), FIXED(0, 7, 128, 200, 255)}}, Q(U8Q, .axis = -2),
     .no_grad = true},
    {OP_FAKE_QUANT, "weights onto multiples of 4", .in = {{F32(16, 8, 3, 3)}, {F32(16), FIXED(0.03125, 0.0625)}}, WEIGHT4, .no_grad = true},
    {OP_FAKE_QUANT, "no elements", .in = {{F32(0, 3)}, ONE(1)}, Q(S8Q), .n_out = 3, .no_grad = true},
    {OP_FAKE_QUANT, "a scale that went wrong", .in = {{F32(3), FIXED(1, 2, 3)}, {F32(3), FIXED(1, 0, -1)}}, Q(S8Q), .no_grad = true,
     .want = {WANT(1, NAN, NAN)}},
    {OP_FAKE_QUANT, "scale 0", .in = {{F32(3)}, {SCALAR(F32), FIXED(0), .kind = VALUE_CONST}}, Q(S8Q), .refuse = "a positive number is needed"},
    {OP_FAKE_QUANT, "scale NaN", .in = {{F32(3)}, {SCALAR(F32), FIXED(NAN), .kind = VALUE_CONST}}, Q(S8Q), .refuse = "a positive number"},
    {OP_FAKE_QUANT, "scale infinite", .in = {{F32(3)}, {SCALAR(F32), FIXED(INFINITY), .kind = VALUE_CONST}}, Q(S8Q), .refuse = "a positive number"},
    {OP_FAKE_QUANT, "zero point outside", .in = {{F32(3)}, ONE(1), {SCALAR(F32), FIXED(300), .kind = VALUE_CONST}}, Q(U8Q),
     .refuse = "an integer from 0 to 255"},
    {OP_FAKE_QUANT, "scales of another number", .in = {{F32(3, 4)}, {F32(4)}}, Q(S8Q), .refuse = "shape"},
    {OP_FAKE_QUANT, "axis", .in = {{F32(3, 4)}, {F32(4)}}, Q(S8Q, .axis = 2), .refuse = "axis"},
    {OP_FAKE_QUANT, "range upside down", .in = {{F32(3)}, ONE(1)}, Q(.qmin = 3, .qmax = 3), .refuse = "integers from 3 to 3"},

    {OP_FAKE_QUANT_GRAD, "straight through", .in = {{F32(6), FIXED(1, 2, 3, 4, 5, 6)}, {F32(6), FIXED(-128.5, -129, 0, 127.4, 127.5, NAN)}, ONE(1)},
     Q(S8Q), .want = {WANT(1, 0, 3, 4, 0, 0)}},
    {OP_FAKE_QUANT_GRAD, "relu", .in = {{F32(6), FIXED(1, 2, 3, 4, 5, 6)}, {F32(6), FIXED(-1, -0.25, 0, 0.25, 255.25, 256)}, ONE(1)},
     Q(U8Q, .relu = 1), .want = {WANT(0, 0, 0, 4, 5, 0)}},
    {OP_FAKE_QUANT_GRAD, "learned scale", .in = {{F32(4), FIXED(1, 1, 1, 1)}, {F32(4), FIXED(0.3, -1.6, 200, -200)}, ONE(1)},
     Q(S8Q, .scale_grad = 0.5), .n_out = 2, .want = {WANT(1, 1, 0, 0), WANT(-0.85)}, .want_tol = 2e-6, .fwd_tol = 2e-6},
    {OP_FAKE_QUANT_GRAD, "large", .in = {{F32(7, 10000, 1)}, {F32(7, 10000, 1), .lo = -9, .hi = 9}, ONE(0.0613), ONE(100)}, Q(U8Q),
     .expect = expect_grad},
    {OP_FAKE_QUANT_GRAD, "large, power of two, learned", .in = {{F32(7, 10000, 1)}, {F32(7, 10000, 1), .lo = -9, .hi = 9}, ONE(0.0625)},
     Q(S8Q, .scale_grad = 0.01), .n_out = 2, .expect = expect_grad, .fwd_tol = 1e-5, .want_tol = 1e-5},
    {OP_FAKE_QUANT_GRAD, "large, learned", .in = {{F32(7, 10000, 1)}, {F32(7, 10000, 1), .lo = -9, .hi = 9}, ONE(0.0613), ONE(100)},
     Q(U8Q, .scale_grad = 0.01), .n_out = 2, .expect = expect_grad, .fwd_tol = 1e-5, .want_tol = 1e-5},
    {OP_FAKE_QUANT_GRAD, "images, relu", .in = {{F32(2, 32, 5, 3)}, {F32(2, 32, 5, 3), .lo = -9, .hi = 9}, ONE(0.0131)},
     Q(U8Q, .relu = 1), .expect = expect_grad},
    {OP_FAKE_QUANT_GRAD, "images, learned", .in = {{F32(2, 21, 5, 3)}, {F32(2, 21, 5, 3), .lo = -9, .hi = 9}, ONE(0.0131), ONE(128)},
     Q(U8Q, .relu = 1, .scale_grad = 0.1), .n_out = 2, .expect = expect_grad, .fwd_tol = 1e-5, .want_tol = 1e-5},
    {OP_FAKE_QUANT_GRAD, "per channel", .in = {{F32(19, 4, 3, 3)}, {F32(19, 4, 3, 3)}, SCALES(19)}, Q(S8Q), .expect = expect_grad},
    {OP_FAKE_QUANT_GRAD, "per channel, learned", .in = {{F32(19, 4, 3, 3)}, {F32(19, 4, 3, 3)}, SCALES(19)}, Q(S8Q, .scale_grad = 0.01),
     .n_out = 2, .expect = expect_grad, .fwd_tol = 1e-5, .want_tol = 1e-5},
    {OP_FAKE_QUANT_GRAD, "per column, learned", .in = {{F32(20, 33)}, {F32(20, 33)}, SCALES(33)}, Q(S8Q, .axis = 1, .scale_grad = 0.01),
     .n_out = 2, .expect = expect_grad, .fwd_tol = 1e-5, .want_tol = 1e-5},
    {OP_FAKE_QUANT_GRAD, "long columns, learned", .in = {{F32(700, 33)}, {F32(700, 33)}, SCALES(33)}, Q(S8Q, .axis = 1, .scale_grad = 0.01),
     .n_out = 2, .expect = expect_grad, .fwd_tol = 2e-5, .want_tol = 1e-5},
    {OP_FAKE_QUANT_GRAD, "weights onto multiples of 4", .in = {{F32(6), FIXED(1, 2, 3, 4, 5, 6)}, {F32(6), FIXED(65.5, 66.5, -65.9, -66.1, 0, 3)},
     ONE(1)}, WEIGHT4, .want = {WANT(1, 0, 3, 0, 5, 6)}},
    {OP_FAKE_QUANT_GRAD, "biases", .in = {{F32(16)}, {F32(16)}, {F32(16), FIXED(0.03125, 0.0625)}}, BIAS4},
    {OP_FAKE_QUANT_GRAD, "a scale that went wrong", .in = {{F32(3), FIXED(1, 2, 3)}, {F32(3)}, {F32(3), FIXED(1, 0, NAN)}}, Q(S8Q),
     .want = {WANT(1, 0, 0)}},

    {OP_FAKE_QUANT_RANGE, "moving average", .in = {{SCALAR(F32), FIXED(-1), .kind = VALUE_STATE}, {SCALAR(F32), FIXED(3), .kind = VALUE_STATE},
     {SCALAR(F32), FIXED(1), .kind = VALUE_STATE}, {SCALAR(F32), FIXED(0), .kind = VALUE_STATE}, ONE(-2), ONE(5)},
     Q(U8Q, .momentum = 0.5), .fwd_tol = 1e-7},
    {OP_FAKE_QUANT_RANGE, "of channels, fixed zero points", .in = {{F32(3), FIXED(0), .kind = VALUE_STATE}, {F32(3), FIXED(0), .kind = VALUE_STATE},
     {F32(3), FIXED(1, 2, 3), .kind = VALUE_STATE}, {F32(3), FIXED(0), .kind = VALUE_STATE}, {F32(3), FIXED(-2, 0, NAN)}, {F32(3), FIXED(1, 0, 5)}},
     Q(.qmin = -127, .qmax = 127, .momentum = 1, .fixed_zero = 1), .fwd_tol = 1e-7},
    {OP_FAKE_QUANT_RANGE, "momentum", .in = {{F32(1)}, {F32(1)}, {F32(1)}, {F32(1)}, {F32(1)}, {F32(1)}}, Q(U8Q), .refuse = "momentum"},

    {OP_FAKE_QUANT_CAP, "below and above", .in = {{F32(3, 4), FIXED(1, -2, 3, 4, 1, 2, -3, 4.5, 10, -10, 10, 10), .kind = VALUE_STATE}, ONE(0.5)},
     Q(.qmax = 20), .fwd_tol = 1e-7},
    {OP_FAKE_QUANT_CAP, "of columns, a scale for each", .in = {{F32(2, 3), FIXED(1, 2, 3, -4, 5, 6), .kind = VALUE_STATE}, {F32(3), FIXED(1, 0.5, 4)}},
     Q(.axis = -1, .qmax = 4), .fwd_tol = 1e-7},
    {OP_FAKE_QUANT_CAP, "of a convolution", .in = {{F32(7, 5, 3, 3), .kind = VALUE_STATE}, {F32(7), .lo = 0.01, .hi = 0.02}}, Q(.qmax = 2000),
     .fwd_tol = 1e-6},
    {OP_FAKE_QUANT_CAP, "of long columns", .in = {{F32(700, 33), .kind = VALUE_STATE}, {F32(33), .lo = 0.01, .hi = 0.02}}, Q(.axis = 1, .qmax = 2000),
     .fwd_tol = 1e-6},
    {OP_FAKE_QUANT_CAP, "not finite", .in = {{F32(2, 2), FIXED(1, NAN, 5, INFINITY), .kind = VALUE_STATE}, ONE(1)}, Q(.qmax = 4)},
    {OP_FAKE_QUANT_CAP, "scales of another number", .in = {{F32(3, 4)}, {F32(4)}}, Q(.qmax = 4), .refuse = "shape"},
    {OP_FAKE_QUANT_CAP, "nothing is left", .in = {{F32(3, 4)}, {F32(3)}}, Q(.qmax = 0), .refuse = "a largest sum of 0"},
    OP_CASE_END};
