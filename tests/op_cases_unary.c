/* op_cases_unary.c - rows of the elementwise operators with one input. */
#include "op_case.h"

#include <math.h>

/* 70001 elements: several blocks, threads, and a tail that fills no vector */
#define LARGE F32(7, 10000, 1)
#define SIX   .attr = &(const clip_attrs){0, 6}

static status whole_chain(graph *g, const op_case *c, const value_id *in, value_id *out)
{
    (void)c;
    value_id t;
    TRY(graph_add1(g, OP_SIGMOID, NULL, in[0], 0, 0, &t));
    TRY(graph_add1(g, OP_TANH, NULL, t, 0, 0, &t));
    return graph_add1(g, OP_EXP, NULL, t, 0, 0, out);
}

const op_case op_cases_unary[] = {
    {OP_RELU, .in = {{F32(2, 3, 5, 7), KINKS(0)}}},
    {OP_RELU, "large", .in = {{F32(70001), KINKS(0)}}},
    {OP_RELU, "one element", .in = {{SCALAR(F32), .lo = 1, .hi = 2}}},
    {OP_RELU, "no elements", .in = {{F32(3, 0, 2)}}},
    {OP_RELU, "special values", .in = {{F32(5), FIXED(-INFINITY, INFINITY, NAN, 0, -1)}}, .no_grad = true,
     .want = {WANT(0, INFINITY, NAN, 0, 0)}},
    {OP_RELU, "int8", .in = {{I8(3), FIXED(-100, 0, 100)}}, .want = {WANT(0, 0, 100)}},
    {OP_RELU, "int64", .in = {{I64(2), FIXED(-5e9, 5e9)}}, .want = {WANT(0, 5e9)}},
    {OP_RELU, "float16", .in = {{F16(2, 2), FIXED(-1, 2, -3, 0.5)}}, .want = {WANT(0, 2, 0, 0.5)}},
    {OP_RELU, "bool", .in = {{BOOL(2)}}, .refuse = "bool"},
    {OP_LEAKY_RELU, .in = {{F32(4, 33), KINKS(0)}}, .fwd_tol = 1e-8, .bwd_tol = 1e-7},
    {OP_LEAKY_RELU, "alpha", .in = {{F32(4, 33), KINKS(0)}}, .attr = &(const alpha_attrs){0.3}, .fwd_tol = 1e-7, .bwd_tol = 1e-7},
    {OP_LEAKY_RELU, "int", .in = {{I32(4)}}, .refuse = "only float types"},
    {OP_CLIP, .in = {{F32(4, 5, 17), KINKS(0, 6), .lo = -3, .hi = 9}}, SIX},
    {OP_CLIP, "no bounds", .in = {{F32(40)}}},
    {OP_CLIP, "bounds in the wrong order", .in = {{F32(3), FIXED(-9, 3, 9)}}, .attr = &(const clip_attrs){6, 0}, .no_grad = true,
     .want = {WANT(0)}},
    {OP_CLIP, "on the bounds", .in = {{F32(4), FIXED(0, 6, -1, 7)}}, SIX, .no_grad = true, .want = {WANT(0, 6, 0, 6)}},
    {OP_CLIP, "int8", .in = {{I8(3), FIXED(-100, 3, 100)}}, .attr = &(const clip_attrs){-5, 5}, .want = {WANT(-5, 3, 5)}},
    {OP_CLIP, "uint8 beyond the type", .in = {{U8(3), FIXED(0, 3, 255)}}, .attr = &(const clip_attrs){-5, INFINITY},
     .want = {WANT(0, 3, 255)}},
    {OP_CLIP, "int64 without bounds", .in = {{I64(2), FIXED(-9e15, 9e15)}}, .want = {WANT(-9e15, 9e15)}},
    {OP_CLIP, "float16", .in = {{F16(3), FIXED(-9, 0.5, 9)}}, SIX, .want = {WANT(0, 0.5, 6)}},
    {OP_SIGMOID, .in = {{F32(3, 100), .lo = -12, .hi = 12}}, .fwd_tol = 3e-7, .bwd_tol = 3e-7},
    {OP_SIGMOID, "large", .in = {{LARGE, .lo = -100, .hi = 100}}, .fwd_tol = 3e-7, .bwd_tol = 3e-7},
    {OP_SIGMOID, "limits", .in = {{F32(3), FIXED(-INFINITY, INFINITY, 0)}}, .no_grad = true, .want = {WANT(0, 1, 0.5)}},
    {OP_SIGMOID, "bfloat16", .in = {{BF16(2), FIXED(0, 100)}}, .want = {WANT(0.5, 1)}},
    {OP_HARD_SIGMOID, .in = {{F32(3, 100), KINKS(-2.5, 2.5), .lo = -5, .hi = 5}}, .fwd_tol = 2e-7, .bwd_tol = 1e-7},
    {OP_HARD_SIGMOID, "as PyTorch", .in = {{F32(3, 100), KINKS(-3, 3), .lo = -5, .hi = 5}},
     .attr = &(const hard_sigmoid_attrs){1.0 / 6, 0.5}, .fwd_tol = 2e-7, .bwd_tol = 1e-7},
    {OP_HARD_SWISH, .in = {{F32(3, 100), KINKS(-3, 3), .lo = -5, .hi = 5}}, .fwd_tol = 3e-7, .bwd_tol = 3e-7},
    {OP_TANH, .in = {{F32(3, 100), .lo = -5, .hi = 5}}, .fwd_tol = 2e-7, .bwd_tol = 4e-7},
    {OP_TANH, "large", .in = {{LARGE, .lo = -0.7, .hi = 0.7}}, .fwd_tol = 2e-7, .bwd_tol = 4e-7},
    {OP_TANH, "limits", .in = {{F32(3), FIXED(-INFINITY, INFINITY, 0)}}, .no_grad = true, .want = {WANT(-1, 1, 0)}},
    {OP_ERF, .in = {{F32(3, 100), .lo = -4, .hi = 4}}, .fwd_tol = 2e-7, .bwd_tol = 3e-7},
    {OP_GELU, .in = {{F32(3, 100), .lo = -6, .hi = 6}}, .fwd_tol = 3e-7, .bwd_tol = 4e-7},
    {OP_GELU, "large", .in = {{LARGE, .lo = -6, .hi = 6}}, .fwd_tol = 3e-7, .bwd_tol = 4e-7},
    {OP_GELU, "tanh form", .in = {{F32(3, 100), .lo = -6, .hi = 6}}, .attr = &(const gelu_attrs){GELU_TANH}, .fwd_tol = 3e-7,
     .bwd_tol = 6e-7},
    {OP_EXP, .in = {{F32(3, 100), .lo = -4, .hi = 4}}, .fwd_tol = 2e-7, .bwd_tol = 2e-7},
    {OP_EXP, "limits", .in = {{F32(4), FIXED(-INFINITY, INFINITY, 0, NAN)}}, .no_grad = true, .want = {WANT(0, INFINITY, 1, NAN)}},
    {OP_LOG, .in = {{F32(3, 100), .lo = 0.1, .hi = 10}}, .fwd_tol = 2e-7, .bwd_tol = 1e-7},
    {OP_LOG, "limits", .in = {{F32(4), FIXED(0, INFINITY, -1, 1)}}, .no_grad = true, .want = {WANT(-INFINITY, INFINITY, NAN, 0)}},
    {OP_SQRT, .in = {{F32(3, 100), .lo = 0.1, .hi = 10}}, .bwd_tol = 2e-7},
    {OP_NEG, .in = {{F32(3, 100)}}},
    {OP_NEG, "int32", .in = {{I32(2), FIXED(-7, 9)}}, .want = {WANT(7, -9)}},
    {OP_NEG, "int8 wraps", .in = {{I8(2), FIXED(-128, 127)}}, .want = {WANT(-128, -127)}},
    {OP_ABS, .in = {{F32(3, 100), KINKS(0)}}},
    {OP_ABS, "int32", .in = {{I32(3), FIXED(-7, 0, 9)}}, .want = {WANT(7, 0, 9)}},
    {OP_ABS, "uint8", .in = {{U8(2), FIXED(0, 200)}}, .want = {WANT(0, 200)}},
    {OP_RECIPROCAL, .in = {{F32(3, 100), .lo = 0.3, .hi = 3}}, .bwd_tol = 3e-7},
    {OP_SOFTPLUS, .in = {{F32(3, 100), .lo = -10, .hi = 10}}, .fwd_tol = 3e-7, .bwd_tol = 3e-7},
    {OP_ELU, .in = {{F32(3, 100), KINKS(0), .lo = -5}}, .fwd_tol = 2e-7, .bwd_tol = 2e-7},
    {OP_ELU, "alpha", .in = {{F32(3, 100), KINKS(0)}}, .attr = &(const alpha_attrs){-0.7}, .fwd_tol = 2e-7, .bwd_tol = 2e-7},
    {OP_SIN, .in = {{F32(3, 100), .lo = -7, .hi = 7}}, .fwd_tol = 1e-7, .bwd_tol = 1e-7},
    {OP_COS, .in = {{F32(3, 100), .lo = -7, .hi = 7}}, .fwd_tol = 1e-7, .bwd_tol = 1e-7},
    {OP_FLOOR, .in = {{F32(100), KINKS(-4, -3, -2, -1, 0, 1, 2, 3, 4), .lo = -4, .hi = 4}}},
    {OP_CEIL, .in = {{F32(100), KINKS(-4, -3, -2, -1, 0, 1, 2, 3, 4), .lo = -4, .hi = 4}}},
    {OP_ROUND, .in = {{F32(100), KINKS(-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5), .lo = -4, .hi = 4}}},
    {OP_ROUND, "half to even", .in = {{F32(6), FIXED(0.5, 1.5, 2.5, -0.5, -1.5, -2.5)}}, .no_grad = true,
     .want = {WANT(0, 2, 2, 0, -2, -2)}},
    {OP_SIGN, .in = {{F32(100), KINKS(0)}}},
    {OP_SIGN, "int8", .in = {{I8(3), FIXED(-7, 0, 9)}}, .want = {WANT(-1, 0, 1)}},
    {OP_SIGN, "uint16", .in = {{U16(2), FIXED(0, 9)}}, .want = {WANT(0, 1)}},
    {OP_SIGN, "special values", .in = {{F32(4), FIXED(0, NAN, -INFINITY, INFINITY)}}, .no_grad = true, .want = {WANT(0, NAN, -1, 1)}},
    {OP_NOT, .in = {{BOOL(2, 3), FIXED(0, 1, 1)}}, .want = {WANT(1, 0, 0)}},
    {OP_NOT, "float", .in = {{F32(2)}}, .refuse = "bool is needed"},
    {OP_EXP, "a chain in place", .in = {{F32(3, 100)}}, .fwd_tol = 4e-7, .bwd_tol = 6e-7, .build = whole_chain},
    /* images of whole packs of channels, as kernels that have them last read them */
#define IMAGES(O, f, b, ...) {OP_##O, "images", .in = {{F32(2, 8, 3, 5), __VA_ARGS__}}, .fwd_tol = f, .bwd_tol = b},
    IMAGES(RELU, 0, 0, KINKS(0))
    IMAGES(LEAKY_RELU, 1e-7, 1e-7, KINKS(0))
    IMAGES(HARD_SIGMOID, 2e-7, 1e-7, KINKS(-2.5, 2.5), .lo = -5, .hi = 5)
    IMAGES(HARD_SWISH, 3e-7, 3e-7, KINKS(-3, 3), .lo = -5, .hi = 5)
    IMAGES(SIGMOID, 3e-7, 3e-7, .lo = -12, .hi = 12)
    IMAGES(TANH, 2e-7, 4e-7, .lo = -5, .hi = 5)
    IMAGES(ERF, 2e-7, 3e-7, .lo = -4, .hi = 4)
    IMAGES(GELU, 3e-7, 4e-7, .lo = -6, .hi = 6)
    IMAGES(EXP, 2e-7, 2e-7, .lo = -4, .hi = 4)
    IMAGES(LOG, 2e-7, 1e-7, .lo = 0.5, .hi = 10)
    IMAGES(SQRT, 0, 2e-7, .lo = 0.5, .hi = 10)
    IMAGES(ABS, 0, 0, KINKS(0))
    IMAGES(NEG, 0, 0, .lo = -3, .hi = 3)
    IMAGES(RECIPROCAL, 0, 3e-7, .lo = 0.5, .hi = 3)
    IMAGES(SOFTPLUS, 3e-7, 3e-7, .lo = -10, .hi = 10)
    IMAGES(ELU, 2e-7, 2e-7, KINKS(0), .lo = -5, .hi = 5)
    IMAGES(SIN, 1e-7, 1e-7, .lo = -7, .hi = 7)
    IMAGES(COS, 1e-7, 1e-7, .lo = -7, .hi = 7)
    IMAGES(FLOOR, 0, 0, KINKS(-4, -3, -2, -1, 0, 1, 2, 3, 4), .lo = -4, .hi = 4)
    IMAGES(CEIL, 0, 0, KINKS(-4, -3, -2, -1, 0, 1, 2, 3, 4), .lo = -4, .hi = 4)
    IMAGES(ROUND, 0, 0, KINKS(-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5), .lo = -4, .hi = 4)
    IMAGES(SIGN, 0, 0, KINKS(0))
    {OP_CLIP, "images", .in = {{F32(2, 8, 3, 5), KINKS(0, 6), .lo = -3, .hi = 9}}, SIX},
    OP_CASE_END};
