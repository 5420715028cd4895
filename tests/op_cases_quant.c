/* op_cases_quant.c - rows of the quantised operators. Expected numbers: ONNX's reference and by hand. All runs give equal
 * integers; the double twin computes in float too (kernels/cpu/quant.h). */
#include "op_case.h"

#include <math.h>

/* Complete attributes of two spatial axes. */
#define WINDOW(kh, kw, sh, sw, dh, dw, ...)                                                                       \
    .kernel_shape = INTS(kh, kw), .strides = INTS(sh, sw), .dilations = INTS(dh, dw), .pads = INTS(__VA_ARGS__)
#define CONV(...)  .attr = &(const conv_attrs){.group = 1, __VA_ARGS__}
#define AXIS(k)    .attr = &(const quant_attrs){.axis = (k), .saturate = 1}
#define BYTES      .lo = 0, .hi = 256
#define CHARS      .lo = -128, .hi = 128
#define K          .kind = VALUE_CONST
#define ONE(...)   SCALAR(F32), FIXED(__VA_ARGS__), K
#define ZU8(...)   SCALAR(U8), FIXED(__VA_ARGS__), K
#define ZI8(...)   SCALAR(I8), FIXED(__VA_ARGS__), K
#define X_U8(...)  U8(__VA_ARGS__), BYTES
#define X_I8(...)  I8(__VA_ARGS__), CHARS

const op_case op_cases_quant[] = {
    {OP_QUANTIZE_LINEAR, "half to even, saturated", .in = {{F32(8), FIXED(0, 2, 3, 1000, -254, -1000, 5, 7)}, {ONE(2)}, {ZU8(128)}},
     .want = {WANT(128, 129, 130, 255, 1, 0, 130, 132)}},
    {OP_QUANTIZE_LINEAR, "no zero point", .in = {{F32(2, 3, 5), .lo = -4, .hi = 80}, {ONE(0.25)}}},
    {OP_QUANTIZE_LINEAR, "int8", .in = {{F32(6), FIXED(-3, -1, 1, 0.5, 200, -200)}, {ONE(2)}, {ZI8(0)}},
     .want = {WANT(-2, 0, 0, 0, 100, -100)}},
    {OP_QUANTIZE_LINEAR, "int8, saturated", .in = {{F32(4), FIXED(300, -300, 1e30, -1e30)}, {ONE(0.5)}, {ZI8(-7)}},
     .want = {WANT(127, -128, 127, -128)}},
    {OP_QUANTIZE_LINEAR, "axis 1", .in = {{F32(2, 3, 5, 7), .lo = -90, .hi = 90}, {F32(3), FIXED(0.5, 1, 0.375)},
     {U8(3), FIXED(0, 128, 200)}}, AXIS(1)},
    {OP_QUANTIZE_LINEAR, "axis 0, long", .in = {{F32(5, 301), .lo = -90, .hi = 90}, {F32(5), FIXED(0.5, 1, 0.375, 2, 3), K},
     {I8(5), FIXED(0, 1, -3, 4, 5), K}}, AXIS(0)},
    {OP_QUANTIZE_LINEAR, "last axis", .in = {{F32(4, 33), .lo = -90, .hi = 90}, {F32(33), .lo = 0.25, .hi = 2}}, AXIS(-1)},
    {OP_QUANTIZE_LINEAR, "many", .in = {{F32(3, 50, 301), .lo = -90, .hi = 90}, {ONE(0.37)}, {ZU8(113)}}},
    {OP_QUANTIZE_LINEAR, "int16", .in = {{F32(2, 33), .lo = -9e4, .hi = 9e4}, {ONE(1.5)}, {SCALAR(I16), FIXED(-300), K}}},
    {OP_QUANTIZE_LINEAR, "int32", .in = {{F32(2, 33), .lo = -9e4, .hi = 9e4}, {ONE(0.015625)}, {SCALAR(I32), FIXED(0), K}}},
    {OP_QUANTIZE_LINEAR, "from int32", .in = {{I32(2, 33), .lo = -90, .hi = 90}, {ONE(1.5)}, {ZU8(3)}}},
    {OP_QUANTIZE_LINEAR, "float16", .in = {{F16(2, 33), .lo = -90, .hi = 90}, {SCALAR(F16), FIXED(1.5), K}, {ZU8(3)}}},
    {OP_QUANTIZE_LINEAR, "scale 0", .in = {{F32(4)}, {ONE(0)}}, .refuse = "in1' has 0 at place 0; a scale must be finite"},
    {OP_QUANTIZE_LINEAR, "scale negative", .in = {{F32(4)}, {ONE(-1)}}, .refuse = "a scale must be finite"},
    {OP_QUANTIZE_LINEAR, "scale NaN", .in = {{F32(4)}, {ONE((double)NAN)}}, .refuse = "a scale must be finite"},
    {OP_QUANTIZE_LINEAR, "scale inf", .in = {{F32(4)}, {ONE((double)INFINITY)}}, .refuse = "a scale must be finite"},
    {OP_QUANTIZE_LINEAR, "scale of a channel", .in = {{F32(4, 3)}, {F32(3), FIXED(1, 2, 0), K}}, .refuse = "at place 2"},
    {OP_QUANTIZE_LINEAR, "axis", .in = {{F32(4, 3)}, {F32(3)}}, AXIS(2), .refuse = "axis 2"},
    {OP_QUANTIZE_LINEAR, "sizes", .in = {{F32(4, 3)}, {F32(4)}}, AXIS(1), .refuse = "3 channels"},
    {OP_QUANTIZE_LINEAR, "sizes of the pair", .in = {{F32(4, 3)}, {F32(3)}, {U8(1)}}, AXIS(1), .refuse = "its zero point"},
    {OP_QUANTIZE_LINEAR, "zero point's type", .in = {{F32(4, 3)}, {ONE(1)}, {I64(1)}}, .refuse = "zero point 'in2' is int64"},
    {OP_QUANTIZE_LINEAR, "zero point of int32", .in = {{F32(4, 3)}, {ONE(1)}, {SCALAR(I32), FIXED(4), K}}, .refuse = "but 0"},
    {OP_QUANTIZE_LINEAR, "blocks", .in = {{F32(4, 4)}, {F32(4, 2)}}, .attr = &(const quant_attrs){.axis = 1, .block_size = 2},
     .refuse = "by blocks"},
    {OP_QUANTIZE_LINEAR, "scale's type", .in = {{F32(4, 4)}, {I32(1)}}, .refuse = "only float"},

    {OP_DEQUANTIZE_LINEAR, "uint8", .in = {{U8(4), FIXED(0, 3, 128, 255)}, {ONE(2)}, {ZU8(128)}}, .want = {WANT(-256, -250, 0, 254)}},
    {OP_DEQUANTIZE_LINEAR, "int8, no zero point", .in = {{X_I8(3, 50, 301)}, {ONE(0.37)}}},
    {OP_DEQUANTIZE_LINEAR, "axis 1", .in = {{X_U8(2, 3, 5, 7)}, {F32(3), FIXED(0.5, 1, 0.37)}, {U8(3), FIXED(0, 128, 200)}}, AXIS(1)},
    {OP_DEQUANTIZE_LINEAR, "axis 0, long", .in = {{X_I8(5, 301)}, {F32(5), FIXED(0.5, 1, 0.37, 2, 3)}, {I8(5), FIXED(0, 1, -3, 4, 5)}},
     AXIS(0)},
    {OP_DEQUANTIZE_LINEAR, "int32", .in = {{I32(5, 31), .lo = -2e9, .hi = 2e9}, {F32(5), FIXED(0.5, 1, 0.37, 2, 3)}}, AXIS(0)},
    {OP_DEQUANTIZE_LINEAR, "uint16", .in = {{U16(5, 31), .lo = 0, .hi = 65535}, {ONE(0.37)}, {SCALAR(U16), FIXED(32767)}}},
    {OP_DEQUANTIZE_LINEAR, "zero point's type", .in = {{U8(4)}, {ONE(2)}, {ZI8(1)}}, .refuse = "must be uint8"},
    {OP_DEQUANTIZE_LINEAR, "zero point of int32", .in = {{I32(4)}, {ONE(2)}, {SCALAR(I32), FIXED(1), K}}, .refuse = "no zero point but 0"},
    {OP_DEQUANTIZE_LINEAR, "scale", .in = {{U8(4)}, {ONE(0)}}, .refuse = "finite"},
    {OP_DEQUANTIZE_LINEAR, "float", .in = {{F32(4)}, {ONE(1)}}, .refuse = "float32"},
    {OP_DEQUANTIZE_LINEAR, "sizes", .in = {{U8(4, 3)}, {F32(4)}}, AXIS(1), .refuse = "3 channels"},

    {OP_DYNAMIC_QUANTIZE_LINEAR, .in = {{F32(6), FIXED(0, 2, -3, -2.5, 1.34, 0.5)}}, .fwd_tol = 1e-7, .want = {WANT(153, 255, 0, 26, 221, 179),
     WANT(0.0196078438311815262), WANT(153)}},
    {OP_DYNAMIC_QUANTIZE_LINEAR, "all above 0", .in = {{F32(3, 40), .lo = 1, .hi = 6}}, .fwd_tol = 1e-7},
    {OP_DYNAMIC_QUANTIZE_LINEAR, "all 0", .in = {{F32(3), FIXED(0)}}, .want = {WANT(0), WANT(0), WANT(0)}},

    {OP_QLINEAR_ADD, "same shape", .in = {{X_U8(2, 3, 5, 67)}, {ONE(0.5)}, {ZU8(3)}, {X_U8(2, 3, 5, 67)}, {ONE(0.37)}, {ZU8(200)}, {ONE(0.6)},
     {ZU8(100)}}},
    {OP_QLINEAR_ADD, "int8", .in = {{X_I8(2, 3, 5, 7)}, {ONE(0.5)}, {ZI8(3)}, {X_I8(2, 3, 5, 7)}, {ONE(0.5)}, {ZI8(0)}, {ONE(0.5)}, {ZI8(-20)}}},
    {OP_QLINEAR_ADD, "broadcast", .in = {{X_U8(2, 3, 5, 7)}, {ONE(0.5)}, {ZU8(3)}, {X_U8(3, 1, 1)}, {ONE(0.37)}, {ZU8(200)}, {ONE(0.6)},
     {ZU8(100)}}},
    {OP_QLINEAR_ADD, "mixed types, large", .in = {{X_U8(4, 40, 301)}, {ONE(0.5)}, {0}, {X_I8(4, 40, 301)}, {ONE(0.37)}, {ZI8(-2)}, {ONE(0.6)}, {ZI8(3)}}},
    {OP_QLINEAR_ADD, "scale", .in = {{X_U8(2)}, {ONE(0)}, {ZU8(3)}, {X_U8(2)}, {ONE(0.5)}, {ZU8(0)}, {ONE(0.5)}, {ZU8(0)}}, .refuse = "finite"},
    {OP_QLINEAR_ADD, "zero point", .in = {{X_U8(2)}, {ONE(1)}, {ZI8(3)}, {X_U8(2)}, {ONE(0.5)}, {ZU8(0)}, {ONE(0.5)}, {ZU8(0)}}, .refuse = "must be uint8"},

#define QCONV_X(x, z)  {x}, {ONE(0.02)}, {z}
#define QCONV_W(w, z)  {w, K}, {ONE(0.011)}, {z}
#define QCONV_Y        {ONE(0.17)}, {ZU8(120)}
    {OP_QLINEAR_CONV, "by hand", .in = {{U8(1, 1, 2, 2), FIXED(10, 20, 30, 40)}, {ONE(0.5)}, {ZU8(10)}, {U8(1, 1, 1, 1), FIXED(3)}, {ONE(0.25)},
     {ZU8(1)}, {ONE(2)}, {ZU8(5)}}, .want = {WANT(5, 6, 7, 9)}}, /* acc 0 20 40 60, times 1/16: 0 1.25 2.5 3.75 */
    {OP_QLINEAR_CONV, "ties", .in = {{U8(1, 1, 1, 5), FIXED(1, 2, 3, 5, 255)}, {ONE(0.5)}, {ZU8(0)}, {I8(1, 1, 1, 1), FIXED(1)}, {ONE(1)},
     {ZI8(0)}, {ONE(1)}, {ZI8(0)}}, .want = {WANT(0, 1, 2, 2, 127)}},
    {OP_QLINEAR_CONV, "3x3 same, bias", .in = {QCONV_X(X_U8(2, 5, 9, 8), ZU8(113)), QCONV_W(X_I8(7, 5, 3, 3), ZI8(0)), QCONV_Y, {I32(7), .lo = -9000, .hi = 9000, K}},
     CONV(WINDOW(3, 3, 1, 1, 1, 1, 1, 1, 1, 1))},
    {OP_QLINEAR_CONV, "3x3, blocks of channels", .in = {QCONV_X(X_U8(2, 32, 9, 8), ZU8(3)), QCONV_W(X_I8(48, 32, 3, 3), ZI8(0)), QCONV_Y, {I32(48), .lo = -9000, .hi = 9000, K}},
     CONV(WINDOW(3, 3, 1, 1, 1, 1, 1, 1, 1, 1))},
    {OP_QLINEAR_CONV, "3x3, int8", .in = {QCONV_X(X_I8(2, 32, 9, 8), ZI8(-3)), QCONV_W(X_I8(40, 32, 3, 3), ZI8(0)), {ONE(0.17)}, {ZI8(5)}, {I32(40), .lo = -9000, .hi = 9000, K}},
     CONV(WINDOW(3, 3, 1, 1, 1, 1, 1, 1, 1, 1))},
    {OP_QLINEAR_CONV, "weights uint8 with zero points", .in = {QCONV_X(X_U8(2, 19, 9, 8), ZU8(77)), {X_U8(17, 19, 3, 3), K}, {F32(17), .lo = 0.003, .hi = 0.02, K},
     {U8(17), .lo = 90, .hi = 150, K}, QCONV_Y}, CONV(WINDOW(3, 3, 1, 1, 1, 1, 1, 1, 1, 1))},
    {OP_QLINEAR_CONV, "weights that are no constants", .in = {QCONV_X(X_U8(2, 19, 9, 8), ZU8(77)), {X_I8(17, 19, 3, 3)}, {F32(17), .lo = 0.003, .hi = 0.02},
     {I8(17), .lo = -5, .hi = 5}, QCONV_Y, {I32(17), .lo = -9000, .hi = 9000}}, CONV(WINDOW(3, 3, 1, 1, 1, 1, 1, 1, 1, 1))},
    {OP_QLINEAR_CONV, "per channel", .in = {QCONV_X(X_U8(3, 16, 7, 7), ZU8(0)), {X_I8(24, 16, 3, 3), K}, {F32(24), .lo = 0.003, .hi = 0.02, K},
     {I8(24), FIXED(0), K}, {ONE(0.05)}, {ZU8(0)}, {I32(24), .lo = -9000, .hi = 9000, K}}, CONV(WINDOW(3, 3, 2, 2, 1, 1, 1, 1, 1, 1))},
    {OP_QLINEAR_CONV, "1x1", .in = {QCONV_X(X_U8(2, 33, 5, 5), ZU8(9)), QCONV_W(X_I8(34, 33, 1, 1), ZI8(0)), QCONV_Y, {I32(34), .lo = -9000, .hi = 9000, K}}},
    {OP_QLINEAR_CONV, "1x1, many pixels", .in = {QCONV_X(X_U8(2, 64, 13, 17), ZU8(0)), QCONV_W(X_I8(96, 64, 1, 1), ZI8(0)), QCONV_Y}},
    {OP_QLINEAR_CONV, "1x1 stride 2", .in = {QCONV_X(X_I8(2, 36, 7, 8), ZI8(9)), QCONV_W(X_I8(17, 36, 1, 1), ZI8(0)), QCONV_Y}, CONV(WINDOW(1, 1, 2, 2, 1, 1, 0, 0, 0, 0))},
    {OP_QLINEAR_CONV, "kernel 5x4, odd strides", .in = {QCONV_X(X_U8(2, 3, 13, 11), ZU8(99)), QCONV_W(X_I8(5, 3, 5, 4), ZI8(0)), QCONV_Y},
     CONV(WINDOW(5, 4, 3, 2, 1, 1, 2, 1, 0, 3))},
    {OP_QLINEAR_CONV, "entry of an image", .in = {QCONV_X(X_U8(1, 3, 25, 23), ZU8(120)), QCONV_W(X_I8(24, 3, 7, 7), ZI8(0)), QCONV_Y, {I32(24), .lo = -9000, .hi = 9000, K}},
     CONV(WINDOW(7, 7, 2, 2, 1, 1, 3, 3, 3, 3))},
    {OP_QLINEAR_CONV, "dilated and strided", .in = {QCONV_X(X_U8(2, 6, 12, 13), ZU8(99)), QCONV_W(X_I8(18, 6, 3, 3), ZI8(0)), QCONV_Y},
     CONV(WINDOW(3, 3, 2, 3, 2, 2, 1, 2, 3, 0))},
    {OP_QLINEAR_CONV, "padding larger than kernel", .in = {QCONV_X(X_U8(1, 2, 3, 2), ZU8(99)), QCONV_W(X_I8(3, 2, 2, 2), ZI8(0)), QCONV_Y},
     CONV(WINDOW(2, 2, 1, 1, 1, 1, 4, 3, 3, 4))},
    {OP_QLINEAR_CONV, "groups", .in = {QCONV_X(X_U8(2, 12, 6, 5), ZU8(99)), QCONV_W(X_I8(18, 4, 3, 3), ZI8(0)), QCONV_Y, {I32(18), .lo = -900, .hi = 900, K}},
     .attr = &(const conv_attrs){WINDOW(3, 3, 1, 2, 1, 1, 1, 1, 1, 1), .group = 3}},
    {OP_QLINEAR_CONV, "depthwise", .in = {QCONV_X(X_U8(2, 33, 9, 11), ZU8(99)), QCONV_W(X_I8(33, 1, 3, 3), ZI8(0)), QCONV_Y, {I32(33), .lo = -900, .hi = 900, K}},
     .attr = &(const conv_attrs){WINDOW(3, 3, 1, 1, 1, 1, 1, 1, 1, 1), .group = 33}},
    {OP_QLINEAR_CONV, "depthwise, stride 2, int8", .in = {QCONV_X(X_I8(2, 32, 10, 9), ZI8(-99)), {X_I8(32, 1, 5, 5), K}, {F32(32), .lo = 0.003, .hi = 0.02, K},
     {I8(32), FIXED(0), K}, QCONV_Y}, .attr = &(const conv_attrs){WINDOW(5, 5, 2, 2, 1, 1, 2, 2, 1, 2), .group = 32}},
    {OP_QLINEAR_CONV, "depthwise with multiplier", .in = {QCONV_X(X_U8(2, 3, 6, 7), ZU8(99)), QCONV_W(X_I8(9, 1, 3, 3), ZI8(0)), QCONV_Y},
     .attr = &(const conv_attrs){WINDOW(3, 3, 2, 1, 1, 1, 1, 1, 0, 1), .group = 3}},
    {OP_QLINEAR_CONV, "one axis", .in = {QCONV_X(X_U8(2, 17, 110), ZU8(99)), QCONV_W(X_I8(16, 17, 5), ZI8(0)), QCONV_Y},
     CONV(.kernel_shape = INTS(5), .strides = INTS(1), .dilations = INTS(3), .pads = INTS(6, 6))},
    {OP_QLINEAR_CONV, "three axes", .in = {QCONV_X(X_U8(2, 3, 4, 5, 6), ZU8(99)), QCONV_W(X_I8(4, 3, 2, 3, 2), ZI8(0)), QCONV_Y},
     CONV(.strides = INTS(1, 2, 1), .dilations = INTS(2, 1, 1), .pads = INTS(1, 0, 1, 0, 1, 0))},
    {OP_QLINEAR_CONV, "extremes", .in = {{U8(1, 64, 4, 4), FIXED(255)}, {ONE(0.02)}, {ZU8(0)}, {I8(32, 64, 3, 3), FIXED(-128, 127, -128, -128), K}, {ONE(0.011)}, {ZI8(0)},
     {ONE(9)}, {ZI8(3)}}, CONV(WINDOW(3, 3, 1, 1, 1, 1, 1, 1, 1, 1))},
    {OP_QLINEAR_CONV, "scale", .in = {QCONV_X(X_U8(1, 1, 2, 2), ZU8(0)), {X_I8(1, 1, 1, 1), K}, {ONE(0)}, {ZI8(0)}, QCONV_Y}, .refuse = "scale of the weight 'in4' has 0"},
    {OP_QLINEAR_CONV, "scale of the result", .in = {QCONV_X(X_U8(1, 1, 2, 2), ZU8(0)), QCONV_W(X_I8(1, 1, 1, 1), ZI8(0)), {ONE(-1)}, {ZU8(0)}}, .refuse = "result"},
    {OP_QLINEAR_CONV, "factor", .in = {{X_U8(1, 1, 2, 2)}, {ONE(1e-30)}, {ZU8(0)}, {X_I8(1, 1, 1, 1), K}, {ONE(1e-30)}, {ZI8(0)}, QCONV_Y}, .refuse = "no finite float above 0"},
    {OP_QLINEAR_CONV, "zero point's type", .in = {QCONV_X(X_U8(1, 1, 2, 2), ZI8(0)), QCONV_W(X_I8(1, 1, 1, 1), ZI8(0)), QCONV_Y}, .refuse = "zero point of the data 'in2' is int8"},
    {OP_QLINEAR_CONV, "zero point of the weight", .in = {QCONV_X(X_U8(1, 1, 2, 2), ZU8(0)), QCONV_W(X_I8(1, 1, 1, 1), ZU8(0)), QCONV_Y}, .refuse = "zero point of the weight 'in5'"},
    {OP_QLINEAR_CONV, "zero point of the result", .in = {QCONV_X(X_U8(1, 1, 2, 2), ZU8(0)), QCONV_W(X_I8(1, 1, 1, 1), ZI8(0)), {ONE(1)}, {SCALAR(I32), FIXED(1)}}, .refuse = "int32"},
    {OP_QLINEAR_CONV, "sizes", .in = {QCONV_X(X_U8(1, 1, 2, 2), ZU8(0)), {X_I8(3, 1, 1, 1), K}, {F32(2)}, {ZI8(0)}, QCONV_Y}, .refuse = "3 channels"},
    {OP_QLINEAR_CONV, "bias", .in = {QCONV_X(X_U8(1, 1, 2, 2), ZU8(0)), QCONV_W(X_I8(1, 1, 1, 1), ZI8(0)), QCONV_Y, {F32(1)}}, .refuse = "must be int32"},
    {OP_QLINEAR_CONV, "bias's size", .in = {QCONV_X(X_U8(1, 1, 2, 2), ZU8(0)), QCONV_W(X_I8(1, 1, 1, 1), ZI8(0)), QCONV_Y, {I32(2)}}, .refuse = "bias"},
    {OP_QLINEAR_CONV, "float data", .in = {QCONV_X(F32(1, 1, 2, 2), ZU8(0)), QCONV_W(X_I8(1, 1, 1, 1), ZI8(0)), QCONV_Y}, .refuse = "uint8 and int8"},
    {OP_QLINEAR_CONV, "weight", .in = {QCONV_X(X_U8(1, 3, 2, 2), ZU8(0)), QCONV_W(X_I8(1, 2, 1, 1), ZI8(0)), QCONV_Y}, .refuse = "weight"},
    {OP_QLINEAR_CONV, "overflow", .in = {{X_U8(1, 70000, 1, 1)}, {ONE(1)}, {ZU8(0)}, {I8(1, 70000, 1, 1), FIXED(-127), K}, {ONE(1)}, {ZI8(0)}, {ONE(1)}, {ZU8(0)}},
     .refuse = "beyond int32"},
    {OP_QLINEAR_CONV, "overflow by the bias", .in = {QCONV_X(X_U8(1, 1, 2, 2), ZU8(0)), QCONV_W(X_I8(1, 1, 1, 1), ZI8(0)), QCONV_Y, {I32(1), FIXED(2147483647), K}},
     .refuse = "beyond int32"},
    {OP_QLINEAR_CONV, "long sums that fit", .in = {{X_U8(1, 40000, 1, 1)}, {ONE(1)}, {ZU8(0)}, {I8(3, 40000, 1, 1), .lo = -8, .hi = 9, K}, {ONE(1)}, {ZI8(0)},
     {ONE(9000)}, {ZU8(90)}}},

    {OP_CONV_INTEGER, "no zero points", .in = {{X_U8(1, 2, 5, 6)}, {X_U8(3, 2, 3, 3), K}}},
    {OP_CONV_INTEGER, "zero points", .in = {{X_U8(2, 3, 5, 6)}, {X_I8(4, 3, 3, 3), K}, {ZU8(100)}, {I8(4), FIXED(1, 2, -3, 4)}}, CONV(WINDOW(3, 3, 1, 2, 1, 1, 1, 1, 1, 1))},
    {OP_CONV_INTEGER, .in = {{X_U8(2, 3, 5, 6)}, {F32(4, 3, 3, 3)}}, .refuse = "float32"},
    {OP_CONV_INTEGER, .in = {{X_U8(2, 3, 5, 6)}, {X_I8(4, 3, 3, 3), K}, {ZI8(3)}}, .refuse = "must be uint8"},

#define QMAT(a, za, b, zb, zy) {a}, {ONE(0.03)}, {za}, {b}, {ONE(0.017)}, {zb}, {ONE(0.4)}, {zy}
    {OP_QLINEAR_MATMUL, "matrices", .in = {QMAT(X_U8(5, 37), ZU8(100), X_I8(37, 19), ZI8(0), ZU8(99))}},
    {OP_QLINEAR_MATMUL, "stacks", .in = {QMAT(X_I8(2, 3, 5, 7), ZI8(1), X_I8(3, 7, 4), ZI8(5), ZI8(9))}},
    {OP_QLINEAR_MATMUL, "stack and matrix", .in = {QMAT(X_U8(2, 5, 67), ZU8(1), X_U8(67, 33), ZU8(5), ZU8(9))}},
    {OP_QLINEAR_MATMUL, "vectors", .in = {QMAT(X_U8(37), ZU8(100), X_I8(37, 3), ZI8(0), ZU8(99))}},
    {OP_QLINEAR_MATMUL, "per row and column", .in = {{X_U8(3, 37)}, {F32(3), FIXED(0.01, 0.02, 0.03)}, {U8(3), FIXED(1, 2, 3)}, {X_I8(37, 5)},
     {F32(5), .lo = 0.01, .hi = 0.02}, {I8(5)}, {ONE(0.4)}, {ZU8(5)}}},
    {OP_QLINEAR_MATMUL, "per column", .in = {{X_U8(17, 64)}, {ONE(0.02)}, {ZU8(2)}, {X_I8(64, 50), K}, {F32(50), .lo = 0.01, .hi = 0.02, K}, {I8(50), FIXED(0), K},
     {ONE(0.4)}, {ZU8(5)}}},
    {OP_QLINEAR_MATMUL, .in = {QMAT(X_U8(5, 37), ZU8(100), X_I8(36, 19), ZI8(0), ZU8(99))}, .refuse = "do not multiply"},
    {OP_QLINEAR_MATMUL, .in = {QMAT(X_U8(5, 37), ZI8(100), X_I8(37, 19), ZI8(0), ZU8(99))}, .refuse = "zero point of a"},
    {OP_QLINEAR_MATMUL, "overflow", .in = {QMAT(X_U8(1, 66000), ZU8(0), X_U8(66000, 1), ZU8(0), ZU8(99))}, .refuse = "beyond int32"},
    {OP_MATMUL_INTEGER, "matrices", .in = {{X_U8(5, 37)}, {X_I8(37, 19)}, {ZU8(7)}, {ZI8(0)}}},
    {OP_MATMUL_INTEGER, "no zero points", .in = {{X_U8(2, 5, 7)}, {X_U8(7, 3)}}},
    {OP_MATMUL_INTEGER, "per row and column", .in = {{X_U8(5, 37)}, {X_I8(37, 3)}, {U8(5), FIXED(1, 2, 3)}, {I8(3), FIXED(1, -2, 3)}}},
    {OP_MATMUL_INTEGER, .in = {{X_U8(5, 37)}, {X_I8(37, 3)}, {U8(4)}}, .refuse = "5 channels"},

#define QGEMM(ta, tb) .attr = &(const gemm_attrs){.alpha = 1, .transA = (ta), .transB = (tb)}
    {OP_QGEMM, "bias, transposed weights", .in = {{X_U8(5, 67)}, {ONE(0.03)}, {ZU8(7)}, {X_I8(33, 67), K}, {F32(33), .lo = 0.01, .hi = 0.02, K}, {I8(33), FIXED(0), K},
     {I32(33), .lo = -9000, .hi = 9000, K}, {ONE(0.4)}, {ZU8(5)}}, QGEMM(0, 1)},
    {OP_QGEMM, "plain, rows of a stack", .in = {{X_I8(2, 17, 36)}, {ONE(0.03)}, {ZI8(7)}, {X_I8(36, 10), K}, {ONE(0.01)}, {ZI8(3)}, {I32(10), .lo = -9000, .hi = 9000, K},
     {ONE(0.4)}, {ZI8(5)}}, QGEMM(0, 0)},
    {OP_QGEMM, "transposed a, float result", .in = {{X_U8(36, 5)}, {ONE(0.03)}, {ZU8(7)}, {X_U8(36, 10), K}, {ONE(0.01)}, {ZU8(3)}}, QGEMM(1, 0)},
    {OP_QGEMM, .in = {{X_U8(5, 6)}, {ONE(0.03)}, {ZU8(7)}, {X_I8(6, 3), K}, {ONE(0.01)}, {ZI8(3)}, {I32(3, 1), FIXED(1), K}, {ONE(0.4)}, {ZU8(5)}}, QGEMM(0, 0), .refuse = "bias"},
    {OP_QGEMM, .in = {{X_U8(5, 6)}, {ONE(0.03)}, {ZU8(7)}, {X_I8(6, 3), K}, {ONE(0.01)}, {ZI8(3)}}, .attr = &(const gemm_attrs){.alpha = 2}, .refuse = "alpha"},
    OP_CASE_END};
