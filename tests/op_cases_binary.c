/* op_cases_binary.c - rows of the elementwise operators with several inputs. */
#include "op_case.h"

#include <math.h>

/* Gradients of repeated operands are sums: float32 rounding, not the kernel. */
#define SUMS      .bwd_tol = 2e-6
#define POSITIVE  .lo = 0.5, .hi = 2
#define AWAY      KINKS(0), .avoid_eps = 0.3 /* from 0, for divisors */
#define TO(t)     .attr = &(const cast_attrs){DTYPE_##t, 1}
#define FMOD_     .attr = &(const mod_attrs){1}

static void half_each(const op_case *c, double *const *in, double *const *out)
{
    (void)c;
    for (int i = 0; i < 4; i++)
        out[0][i] = fmax(in[0][i], in[1][i]);
}

/* dx of Max(a, b) and b, where they tie and where not, by the operator's own gradient rule. */
static status max_grad_of(graph *g, const op_case *c, const value_id *in, value_id *out)
{
    value_id y;
    operand_attrs first = {0};
    (void)c;
    TRY(graph_add1(g, OP_MAX, NULL, in[1], in[2], 0, &y));
    return graph_add(g, OP_MINMAX_GRAD, &first, (value_id[]){in[0], y, in[1], in[2]}, 4, out, 1);
}

static status relu_of_cast(graph *g, const op_case *c, const value_id *in, value_id *out)
{
    cast_attrs half = {DTYPE_F16, 1}, single = {DTYPE_F32, 1};
    value_id h;
    (void)c;
    TRY(graph_add1(g, OP_CAST, &half, in[0], 0, 0, &h));
    return graph_add1(g, OP_CAST, &single, h, 0, 0, out);
}

static status through_double(graph *g, const op_case *c, const value_id *in, value_id *out)
{
    cast_attrs wide = {DTYPE_F64, 1}, single = {DTYPE_F32, 1};
    value_id w;
    (void)c;
    TRY(graph_add1(g, OP_CAST, &wide, in[0], 0, 0, &w));
    return graph_add1(g, OP_CAST, &single, w, 0, 0, out);
}

const op_case op_cases_binary[] = {
    {OP_ADD, .in = {{F32(2, 3, 5)}, {F32(2, 3, 5)}}},
    {OP_ADD, "large", .in = {{F32(7, 10001)}, {F32(7, 10001)}}},
    {OP_ADD, "scalar", .in = {{F32(4, 17)}, {SCALAR(F32)}}, SUMS},
    {OP_ADD, "scalar first", .in = {{SCALAR(F32)}, {F32(4, 17)}}, SUMS},
    {OP_ADD, "two scalars", .in = {{SCALAR(F32)}, {SCALAR(F32)}}},
    {OP_ADD, "channel", .in = {{F32(3, 4, 5, 7)}, {F32(4, 1, 1)}}, SUMS},
    {OP_ADD, "row", .in = {{F32(13, 10)}, {F32(10)}}, SUMS},
    {OP_ADD, "column", .in = {{F32(13, 10)}, {F32(13, 1)}}, SUMS},
    {OP_ADD, "both repeated", .in = {{F32(4, 1, 5)}, {F32(3, 1)}}, SUMS},
    {OP_ADD, "eight axes", .in = {{F32(2, 1, 2, 1, 2, 1, 2, 1)}, {F32(1, 3, 1, 2, 1, 3, 1, 2)}}, SUMS},
    {OP_ADD, "middle axis", .in = {{F32(3, 4, 5)}, {F32(3, 1, 5)}}, SUMS},
    {OP_ADD, "wide row in blocks", .in = {{F32(3, 20001)}, {F32(20001)}}, SUMS},
    {OP_ADD, "wide column in blocks", .in = {{F32(3, 20001)}, {F32(3, 1)}}, .bwd_tol = 2e-5},
    {OP_ADD, "many short rows", .in = {{F32(20001, 3)}, {F32(3)}}, .bwd_tol = 2e-5},
    {OP_ADD, "channels of whole vectors", .in = {{F32(2, 3, 4, 6)}, {F32(3, 1, 1)}}, SUMS},
    {OP_ADD, "rows of whole vectors", .in = {{F32(5, 2, 12)}, {F32(5, 1, 12)}}, SUMS},
    {OP_ADD, "no elements", .in = {{F32(3, 0)}, {F32(1)}}},
    {OP_ADD, "an operand with itself", .in = {{F32(3, 5)}, {SAME_AS(0)}}},
    {OP_ADD, "int8 wraps", .in = {{I8(2), FIXED(100, -3)}, {I8(2), FIXED(100, 1)}}, .want = {WANT(-56, -2)}},
    {OP_ADD, "uint64", .in = {{U64(2), FIXED(5e15, 3)}, {U64(1), FIXED(1)}}, .want = {WANT(5e15 + 1, 4)}},
    {OP_ADD, "float16", .in = {{F16(2), FIXED(1, 2)}, {F16(1), FIXED(0.5)}}, .want = {WANT(1.5, 2.5)}},
    {OP_ADD, "bfloat16", .in = {{BF16(2), FIXED(1, 2)}, {BF16(1), FIXED(0.5)}}, .want = {WANT(1.5, 2.5)}},
    {OP_ADD, "shapes", .in = {{F32(3, 4)}, {F32(3)}}, .refuse = "does not broadcast"},
    {OP_ADD, "types", .in = {{F32(3)}, {F64(3)}}, .refuse = "differ in type"},
    {OP_ADD, "bool", .in = {{BOOL(3)}, {BOOL(3)}}, .refuse = "bool"},
    {OP_SUB, .in = {{F32(2, 3, 5)}, {F32(2, 3, 5)}}},
    {OP_SUB, "channel", .in = {{F32(3, 4, 5, 7)}, {F32(4, 1, 1)}}, SUMS},
    {OP_SUB, "channel first", .in = {{F32(4, 1, 1)}, {F32(3, 4, 5, 7)}}, SUMS},
    {OP_SUB, "uint8 wraps", .in = {{U8(2), FIXED(3, 9)}, {U8(2), FIXED(4, 1)}}, .want = {WANT(255, 8)}},
    {OP_MUL, .in = {{F32(2, 3, 5)}, {F32(2, 3, 5)}}},
    {OP_MUL, "large", .in = {{F32(7, 10001)}, {F32(7, 10001)}}},
    {OP_MUL, "channel", .in = {{F32(3, 4, 5, 7)}, {F32(4, 1, 1)}}, SUMS},
    {OP_MUL, "image by gate", .in = {{F32(3, 4, 5, 7)}, {F32(3, 4, 1, 1)}}, SUMS},
    {OP_MUL, "square", .in = {{F32(3, 5)}, {SAME_AS(0)}}},
    {OP_MUL, "int32", .in = {{I32(2), FIXED(-3, 9)}, {I32(2), FIXED(4, 5)}}, .want = {WANT(-12, 45)}},
    {OP_DIV, .in = {{F32(2, 3, 5)}, {F32(2, 3, 5), AWAY}}, .bwd_tol = 1e-6},
    {OP_DIV, "channel", .in = {{F32(3, 4, 5, 7)}, {F32(4, 1, 1), AWAY}}, .bwd_tol = 1e-5},
    {OP_DIV, "by 0", .in = {{F32(3), FIXED(1, -1, 0)}, {F32(1), FIXED(0)}}, .no_grad = true,
     .want = {WANT(INFINITY, -INFINITY, NAN)}},
    {OP_DIV, "int32 cut towards 0", .in = {{I32(3), FIXED(-7, 7, 5)}, {I32(3), FIXED(2, -2, 0)}}, .want = {WANT(-3, -3, 0)}},
    {OP_DIV, "least by -1", .in = {{I32(1), FIXED(-2147483648.0)}, {I32(1), FIXED(-1)}}, .want = {WANT(-2147483648.0)}},
    {OP_DIV, "uint8", .in = {{U8(2), FIXED(200, 7)}, {U8(2), FIXED(3, 255)}}, .want = {WANT(66, 0)}},
    {OP_POW, .in = {{F32(3, 5), POSITIVE}, {F32(3, 5)}}, .fwd_tol = 2e-7, .bwd_tol = 5e-7},
    {OP_POW, "square", .in = {{F32(3, 7)}, {SCALAR(F32), FIXED(2), .kind = VALUE_CONST}}, .bwd_tol = 1e-6},
    {OP_POW, "cube", .in = {{F32(3, 7)}, {F32(1), FIXED(3), .kind = VALUE_CONST}}, .fwd_tol = 2e-7, .bwd_tol = 1e-6},
    {OP_POW, "root", .in = {{F32(3, 7), POSITIVE}, {SCALAR(F32), FIXED(0.5), .kind = VALUE_CONST}}, .bwd_tol = 1e-6},
    {OP_POW, "roots of infinities", .in = {{F32(4), FIXED(-INFINITY, INFINITY, -1, 0)}, {SCALAR(F32), FIXED(0.5)}}, .no_grad = true,
     .want = {WANT(INFINITY, INFINITY, NAN, 0)}},
    {OP_POW, "exponents 0 and 1", .in = {{F32(3, 7)}, {F32(3, 1), FIXED(0, 1, 2), .kind = VALUE_CONST}}, .fwd_tol = 2e-7,
     .bwd_tol = 1e-6},
    {OP_POW, "whole exponent", .in = {{F32(3), FIXED(2, -3, 0.5)}, {I64(3), FIXED(3, 2, -1)}}, .want = {WANT(8, 9, 2)}, .no_grad = true},
    {OP_POW, "int32", .in = {{I32(5), FIXED(2, -3, 7, 2, -1)}, {I32(5), FIXED(3, 3, 0, -1, -3)}}, .want = {WANT(8, -27, 1, 0, -1)}},
    {OP_POW, "int by float", .in = {{I64(2), FIXED(2, 9)}, {F32(2), FIXED(3, 0.5)}}, .want = {WANT(8, 3)}},
    {OP_MOD, "fmod", .in = {{F32(3, 5), .lo = 0.2, .hi = 0.9}, {F32(3, 5), .lo = 0.25, .hi = 0.26}}, FMOD_, .step = 1e-7, .bwd_tol = 1e-5,
     .grad_tol = 1e-6},
    {OP_MOD, "fmod signs", .in = {{F32(4), FIXED(-7, 7, -7, 7)}, {F32(4), FIXED(3, 3, -3, -3)}}, FMOD_, .no_grad = true,
     .want = {WANT(-1, 1, -1, 1)}},
    {OP_MOD, "int32, sign of the divisor", .in = {{I32(6), FIXED(-7, 7, -7, 7, 5, 6)}, {I32(6), FIXED(3, 3, -3, -3, 0, 3)}},
     .want = {WANT(2, 1, -1, -2, 0, 0)}},
    {OP_MOD, "int8, sign of the dividend", .in = {{I8(4), FIXED(-7, 7, -7, 7)}, {I8(4), FIXED(3, 3, -3, -3)}}, FMOD_,
     .want = {WANT(-1, 1, -1, 1)}},
    {OP_MOD, "uint32", .in = {{U32(2), FIXED(4e9, 7)}, {U32(2), FIXED(3e9, 9)}}, .want = {WANT(1e9, 7)}},
    {OP_MOD, "float without fmod", .in = {{F32(3)}, {F32(3)}}, .refuse = "fmod must be 1"},
    {OP_PRELU, .in = {{F32(3, 4, 5), KINKS(0)}, {F32(4, 1)}}, .fwd_tol = 0, SUMS},
    {OP_PRELU, "one slope", .in = {{F32(3, 4, 5, 3), KINKS(0)}, {F32(1)}}, SUMS},
    {OP_PRELU, "slope for each", .in = {{F32(3, 4), KINKS(0)}, {F32(3, 4)}}, SUMS},
    {OP_PRELU, "large", .in = {{F32(2, 7, 5001), KINKS(0)}, {F32(7, 1)}}, .bwd_tol = 2e-5},
    {OP_PRELU, "slope is larger", .in = {{F32(4)}, {F32(3, 4)}}, .refuse = "slope"},
    {OP_SUM, "one", .in = {{F32(3, 4)}}},
    {OP_SUM, "two", .in = {{F32(3, 4)}, {F32(4)}}, SUMS},
    {OP_SUM, "four", .in = {{F32(3, 4)}, {F32(4)}, {F32(3, 1)}, {SCALAR(F32)}}, .fwd_tol = 4e-7, SUMS},
    {OP_SUM, "large", .in = {{F32(3, 20001)}, {F32(3, 20001)}, {F32(20001)}}, .fwd_tol = 4e-7, SUMS},
    {OP_SUM, "halves", .in = {{F16(2), FIXED(1, 2)}, {F16(1), FIXED(0.5)}, {F16(1), FIXED(0.25)}}, .want = {WANT(1.75, 2.75)}},
    {OP_SUM, "int", .in = {{I32(3)}, {I32(3)}}, .refuse = "only float"},
    {OP_MEAN, .in = {{F32(3, 4)}, {F32(3, 4)}, {F32(4)}}, .fwd_tol = 4e-7, SUMS},
    {OP_MEAN, "one", .in = {{F32(3, 4)}}},
    {OP_MAX, .in = {{F32(3, 4), .lo = 0, .hi = 1}, {F32(3, 4), .lo = 0.5, .hi = 1.5}}},
    {OP_MAX, "three, repeated", .in = {{F32(3, 40), .distinct = true}, {F32(40), .distinct = true, .hi = 2.1},
                                       {F32(3, 1), .lo = 0.1, .hi = 1}}, SUMS},
    {OP_MAX, "five", .in = {{F32(3, 8), .distinct = true}, {F32(8), .distinct = true, .hi = 2.1}, {F32(3, 1), .lo = 0.1, .hi = 1},
                            {F32(3, 8), .lo = 1.1, .hi = 1.9}, {F32(1), FIXED(0.7)}}, SUMS},
    {OP_MAX, "five halves", .in = {{F16(2), FIXED(1, 7)}, {F16(2), FIXED(2, 3)}, {F16(1), FIXED(4)}, {F16(1), FIXED(5)}, {F16(1), FIXED(0)}},
     .want = {WANT(5, 7)}},
    {OP_MAX, "one", .in = {{F32(3, 4)}}},
    {OP_MAX, "large", .in = {{F32(70001), .distinct = true}, {F32(70001), .distinct = true}}},
    {OP_MAX, "ties give half each", .in = {{F32(4), FIXED(1, 2, 3, 4), .no_grad = true}, {F32(4), FIXED(5, 2, 1, 4), .no_grad = true},
                                           {F32(4), FIXED(5, 3, 1, 4), .no_grad = true}}, .no_grad = true,
     .build = max_grad_of, .want = {WANT(0.5, 0, 1.5, 2)}},
    {OP_MAX, "expected", .in = {{F32(4)}, {F32(4)}}, .expect = half_each},
    {OP_MAX, "NaN wins", .in = {{F32(3), FIXED(NAN, 1, 2)}, {F32(3), FIXED(1, NAN, 3)}}, .no_grad = true, .want = {WANT(NAN, NAN, 3)}},
    {OP_MAX, "int8", .in = {{I8(2), FIXED(-3, 9)}, {I8(2), FIXED(4, 5)}}, .want = {WANT(4, 9)}},
    {OP_MAX, "uint64", .in = {{U64(2), FIXED(3, 9)}, {U64(1), FIXED(4)}, {U64(1), FIXED(5)}}, .want = {WANT(5, 9)}},
    {OP_MAX, "float16", .in = {{F16(2), FIXED(-3, 9)}, {F16(2), FIXED(4, 5)}}, .want = {WANT(4, 9)}},
    {OP_MIN, .in = {{F32(3, 4), .lo = 0, .hi = 1}, {F32(3, 4), .lo = 0.5, .hi = 1.5}}},
    {OP_MIN, "three, repeated", .in = {{F32(3, 40), .distinct = true}, {F32(40), .distinct = true, .hi = 2.1},
                                       {F32(3, 1), .lo = 0.1, .hi = 1}}, SUMS},
    {OP_MIN, "int32", .in = {{I32(2), FIXED(-3, 9)}, {I32(1), FIXED(4)}}, .want = {WANT(-3, 4)}},
    {OP_EQUAL, .in = {{F32(4), FIXED(1, 2, NAN, 0)}, {F32(4), FIXED(1, 3, NAN, 0)}}, .want = {WANT(1, 0, 0, 1)}},
    {OP_EQUAL, "repeated", .in = {{I64(3, 1), FIXED(1, 2, 3)}, {I64(2), FIXED(2, 3)}}, .want = {WANT(0, 0, 1, 0, 0, 1)}},
    {OP_EQUAL, "bool", .in = {{BOOL(3), FIXED(0, 1, 1)}, {BOOL(3), FIXED(0, 0, 1)}}, .want = {WANT(1, 0, 1)}},
    {OP_LESS, .in = {{F32(3), FIXED(1, 2, 3)}, {F32(1), FIXED(2)}}, .want = {WANT(1, 0, 0)}},
    {OP_LESS, "large", .in = {{F32(3, 20001)}, {F32(3, 1)}}},
    {OP_LESS, "uint8", .in = {{U8(2), FIXED(1, 200)}, {U8(1), FIXED(100)}}, .want = {WANT(1, 0)}},
    {OP_LESS_OR_EQUAL, .in = {{F32(3), FIXED(1, 2, 3)}, {F32(1), FIXED(2)}}, .want = {WANT(1, 1, 0)}},
    {OP_LESS_OR_EQUAL, "int8", .in = {{I8(3), FIXED(-1, 2, 3)}, {I8(1), FIXED(2)}}, .want = {WANT(1, 1, 0)}},
    {OP_GREATER, .in = {{F32(3), FIXED(1, 2, 3)}, {F32(1), FIXED(2)}}, .want = {WANT(0, 0, 1)}},
    {OP_GREATER, "int64", .in = {{I64(2), FIXED(-1, 3)}, {I64(1), FIXED(2)}}, .want = {WANT(0, 1)}},
    {OP_GREATER_OR_EQUAL, .in = {{F32(3), FIXED(1, 2, 3)}, {F32(1), FIXED(2)}}, .want = {WANT(0, 1, 1)}},
    {OP_GREATER_OR_EQUAL, "float16", .in = {{F16(2), FIXED(1, 2)}, {F16(1), FIXED(2)}}, .want = {WANT(0, 1)}},
    {OP_AND, .in = {{BOOL(4), FIXED(0, 0, 1, 1)}, {BOOL(4), FIXED(0, 1, 0, 1)}}, .want = {WANT(0, 0, 0, 1)}},
    {OP_AND, "int", .in = {{I32(4)}, {I32(4)}}, .refuse = "bool is needed"},
    {OP_OR, .in = {{BOOL(4), FIXED(0, 0, 1, 1)}, {BOOL(4), FIXED(0, 1, 0, 1)}}, .want = {WANT(0, 1, 1, 1)}},
    {OP_XOR, .in = {{BOOL(2, 2), FIXED(0, 0, 1, 1)}, {BOOL(2), FIXED(0, 1)}}, .want = {WANT(0, 1, 1, 0)}},
    {OP_WHERE, .in = {{BOOL(3, 4)}, {F32(3, 4)}, {F32(3, 4)}}},
    {OP_WHERE, "all repeated", .in = {{BOOL(3, 1, 2)}, {F32(4, 1)}, {F32(2)}}, SUMS},
    {OP_WHERE, "mask of scores", .in = {{BOOL(2, 1, 1, 5)}, {F32(2, 3, 4, 5)}, {SCALAR(F32), FIXED(-9), .no_grad = true}}},
    {OP_WHERE, "large", .in = {{BOOL(70001)}, {F32(70001)}, {F32(70001)}}},
    {OP_WHERE, "int64", .in = {{BOOL(2), FIXED(1, 0)}, {I64(2), FIXED(5e15, 1)}, {I64(2), FIXED(3, 4)}}, .want = {WANT(5e15, 4)}},
    {OP_WHERE, "uint8", .in = {{BOOL(2), FIXED(1, 0)}, {U8(1), FIXED(5)}, {U8(2), FIXED(3, 4)}}, .want = {WANT(5, 4)}},
    {OP_WHERE, "float16", .in = {{BOOL(2), FIXED(1, 0)}, {F16(1), FIXED(5)}, {F16(2), FIXED(3, 4)}}, .want = {WANT(5, 4)}},
    {OP_WHERE, "condition", .in = {{I32(2)}, {F32(2)}, {F32(2)}}, .refuse = "bool is needed"},
    {OP_CAST, "to double and back", .in = {{F32(3, 4)}}, .build = through_double},
    {OP_CAST, "to double", .in = {{F32(3, 4)}}, TO(F64)},
    {OP_CAST, "through float16", .in = {{F32(3, 40), .no_grad = true}}, .build = relu_of_cast, .no_grad = true},
    {OP_CAST, "float to int", .in = {{F32(5), FIXED(-1.7, 1.7, 3e9, -3e9, NAN)}}, TO(I32),
     .want = {WANT(-1, 1, 2147483647.0, -2147483648.0, 0)}},
    {OP_CAST, "float to uint8", .in = {{F32(3), FIXED(-1.7, 1.7, 300)}}, TO(U8), .want = {WANT(0, 1, 255)}},
    {OP_CAST, "float to bool", .in = {{F32(3), FIXED(0, 0.1, -2)}}, TO(BOOL), .want = {WANT(0, 1, 1)}},
    {OP_CAST, "float to bfloat16", .in = {{F32(2), FIXED(1.5, 1.00390625)}}, TO(BF16), .want = {WANT(1.5, 1)}},
    {OP_CAST, "float16 to float", .in = {{F16(2), FIXED(1.5, 65504)}}, TO(F32), .no_grad = true, .want = {WANT(1.5, 65504)}},
    {OP_CAST, "bfloat16 to float", .in = {{BF16(2), FIXED(1.5, 3e38)}}, TO(F32), .no_grad = true, .want = {WANT(1.5, 0x1.C4p127)}},
    {OP_CAST, "double to float", .in = {{F64(2), FIXED(1.5, 1e-3)}}, TO(F32), .no_grad = true, .want = {WANT(1.5, 1e-3)}},
    {OP_CAST, "int wraps", .in = {{I32(2), FIXED(300, -1)}}, TO(U8), .want = {WANT(44, 255)}},
    {OP_CAST, "sign is extended", .in = {{I8(2), FIXED(-3, 4)}}, TO(I64), .want = {WANT(-3, 4)}},
    {OP_CAST, "int64 to float, one rounding", .in = {{I64(1), FIXED(9007199791611904.0)}}, TO(F32), .want = {WANT(9007199791611904.0)}},
    {OP_CAST, "uint64 to double", .in = {{U64(1), FIXED(0x1p63)}}, TO(F64), .want = {WANT(0x1p63)}},
    {OP_CAST, "bool to float", .in = {{BOOL(2), FIXED(0, 1)}}, TO(F32), .want = {WANT(0, 1)}},
    {OP_CAST, "int to bool", .in = {{I32(2), FIXED(0, 256)}}, TO(BOOL), .want = {WANT(0, 1)}},
    {OP_CAST, "same type", .in = {{I32(2), FIXED(0, 256)}}, TO(I32), .want = {WANT(0, 256)}},
    {OP_CAST, "no type", .in = {{I32(2)}}, .attr = &(const cast_attrs){99, 1}, .refuse = "'to'"},
    /* images with packs of channels: each other, numbers of channels, of images and channels, one number */
#define IMAGE F32(2, 16, 3, 5)
    {OP_ADD, "images", .in = {{IMAGE}, {IMAGE}}, SUMS},
    {OP_ADD, "numbers of channels", .in = {{IMAGE}, {F32(1, 16, 1, 1)}}, .bwd_tol = 4e-6},
    {OP_ADD, "numbers of channels first", .in = {{F32(16, 1, 1)}, {IMAGE}}, .bwd_tol = 4e-6},
    {OP_SUB, "number minus image", .in = {{SCALAR(F32)}, {IMAGE}}, .bwd_tol = 1e-5},
    {OP_MUL, "numbers of images and channels", .in = {{IMAGE}, {F32(2, 16, 1, 1)}}, .bwd_tol = 4e-6},
    {OP_MUL, "numbers of images and channels first", .in = {{F32(2, 16, 1, 1)}, {IMAGE}}, .bwd_tol = 4e-6},
    {OP_MUL, "masks of pixels", .in = {{IMAGE}, {F32(2, 1, 3, 5)}}, .bwd_tol = 4e-6},
    {OP_MUL, "numbers of channels first", .in = {{F32(1, 16, 1, 1)}, {IMAGE}}, .bwd_tol = 4e-6},
    {OP_DIV, "image by number", .in = {{IMAGE}, {SCALAR(F32), .lo = 1, .hi = 2}}, .bwd_tol = 1e-5},
    {OP_DIV, "number by image", .in = {{SCALAR(F32)}, {IMAGE, .lo = 1, .hi = 2}}, .bwd_tol = 1e-5},
    {OP_PRELU, "slopes of channels", .in = {{IMAGE, KINKS(0)}, {F32(16, 1, 1)}}, .bwd_tol = 4e-6},
    {OP_PRELU, "slopes of images and channels", .in = {{IMAGE, KINKS(0)}, {F32(2, 16, 1, 1)}}, .bwd_tol = 4e-6},
    OP_CASE_END};
