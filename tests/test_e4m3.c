/* test_e4m3.c - numbers of 8 bits: every code, rounding against the definition in double, and which kernels multiply them where. */
#include "emulator/emulator_control.h"
#include "exec/backend.h"
#include "harness.h"
#include "kernels/e4m3.h"
#include "op_case.h"

#include <math.h>
#include <stdio.h>

/* OCP 8-bit Floating Point Specification: (-1)^S 2^(E - 7) (1 + M / 8); E = 0: (-1)^S 2^-6 M / 8. */
static double defined(int code)
{
    const int exponent = code >> 3 & 15, fraction = code & 7;
    const double size = exponent ? ldexp(1 + fraction / 8.0, exponent - 7) : ldexp(fraction / 8.0, -6);
    return (code & 0x7f) == 0x7f ? (double)NAN : code & 0x80 ? -size : size;
}

START_TEST(every_code)
{
    for (int code = 0; code < 256; code++) {
        const double want = defined(code), got = (double)e4m3_value((uint8_t)code);
        if (isnan(want)) {
            ck_assert_msg(isnan(got), "%02x: %g", (unsigned)code, got);
            ck_assert_int_eq(e4m3_of((float)got) & 0x7f, 0x7f);
            continue;
        }
        ck_assert_msg(got == want && signbit(got) == signbit(want), "%02x: %g, %g by definition", (unsigned)code, got, want);
        ck_assert_msg(e4m3_of((float)want) == code, "%02x: %g becomes %02x", (unsigned)code, want, (unsigned)e4m3_of((float)want));
    }
    ck_assert(defined(0x7e) == (double)E4M3_LARGEST && defined(1) == 0x1p-9);
}
END_TEST

/* The nearest of all codes; of two the one whose fraction is even. */
static int nearest(double x)
{
    int best = 0;
    double apart = INFINITY;
    for (int code = 0; code < 0x7f; code++) {
        const double d = fabs(fabs(x) - defined(code));
        if (d < apart || (d == apart && code % 2 == 0)) {
            best = code;
            apart = d;
        }
    }
    return best | (signbit(x) ? 0x80 : 0);
}

static void check(float x)
{
    const int got = e4m3_of(x), want = nearest((double)x);
    ck_assert_msg(got == want, "%.9g becomes %02x, not %02x", (double)x, (unsigned)got, (unsigned)want);
}

/* All codes, the middles between neighbours and the floats beside both; numbers all over the range and beyond it. */
START_TEST(rounding)
{
    for (int code = 0; code < 0x7f; code++)
        for (int sign = -1; sign <= 1; sign += 2) {
            const float at = (float)(sign * defined(code)), next = code < 0x7e ? (float)(sign * defined(code + 1)) : (float)sign * 480;
            const float middle = (at + next) / 2, x[] = {at, middle};
            for (size_t i = 0; i < 2; i++) {
                check(x[i]);
                check(nextafterf(x[i], INFINITY));
                check(nextafterf(x[i], -INFINITY));
            }
        }
    uint32_t bits = 1;
    for (int i = 0; i < 100000; i++) {
        float x;
        bits = bits * 1664525 + 1013904223;
        memcpy(&x, &bits, sizeof x);
        if (!isnan(x) && fabsf(x) < 1e6f)
            check(x);
    }
    const float large[] = {448, 464, 479.9f, 480, 1e9f, 3e38f, INFINITY, 1e-45f, 0x1p-10f, 0};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        ck_assert_int_eq(e4m3_of(large[i]), i < 7 ? 0x7e : 0);
        ck_assert_int_eq(e4m3_of(-large[i]), i < 7 ? 0xfe : 0x80);
    }
}
END_TEST

/* What is scaled to the largest number comes back as it was; and by how much a rounded number may be off. */
START_TEST(scales)
{
    for (double range = 1e-15; range <= 1e15; range *= 7.3) {
        const float s = e4m3_scale(range), top = e4m3_value(e4m3_of((float)range * s));
        ck_assert_msg(top == E4M3_LARGEST, "%g is %g", range, (double)top);
        const double back = e4m3_alpha(2, range, range) * (double)top * (double)top;
        ck_assert_msg(fabs(back / (2 * range * range) - 1) < 1e-6, "%g squared is %g", range, back / 2);
    }
    for (double x = 0x1p-6; x <= 448; x *= 1.0371) {
        const double got = (double)e4m3_value(e4m3_of((float)x));
        ck_assert(fabs(got - x) <= x / 16);
    }
}
END_TEST

/* ---- kernels ---- */

#define FP8 .alpha = 1, .precision = PRECISION_FP8, .a_range = 1.5, .b_range = 2.5
static const op_case rows_of_fp8[] = {
    {OP_LINEAR, "fp8, constant", .in = {{F32(37, 70)}, {F32(70, 33), .kind = VALUE_CONST}, {F32(33)}},
     .attr = &(const linear_attrs){FP8, .activation = ACTIVATION_RELU}, .fwd_tol = 2e-5},
    {OP_LINEAR, "fp8, everything", .in = {{F32(2, 20, 65)}, {F32(20, 65)}, {F32(20)}, {F32(2, 20, 20)}},
     .attr = &(const linear_attrs){FP8, .transB = 1, .activation = ACTIVATION_GELU}, .n_out = 2, .fwd_tol = 2e-5},
    OP_CASE_END};

START_TEST(rows_on_an_older_device)
{
    emulator_level(80);
    int failed = op_cases_run("matmul on sm_80", rows_of_fp8, "emulated", DTYPE_NONE);
    emulator_level(90);
    ck_assert_msg(failed == 0, "%d rows failed", failed);
}
END_TEST

static const char *row_on(const char *device, int level, linear_attrs at, int64_t n, char *name, size_t size)
{
    const backend_options none = {.threads = 1};
    kernel_tensor in[2] = {{.type = DTYPE_F32, .sh = SHAPE(32, 64)}, {.type = DTYPE_F32, .sh = SHAPE(64, n)}};
    kernel_tensor out = {.type = DTYPE_F32, .sh = SHAPE(32, n)};
    const kernel_args a = {.in = in, .out = &out, .n_in = 2, .n_out = 1, .attr = &at, .threads = 1};
    backend *b;
    if (level)
        emulator_level(level);
    if (at.transA)
        in[0].sh = (shape)SHAPE(64, 32);
    OK(backend_open(device, &none, &b));
    ck_assert_int_eq(backend_has_fp8(b), level >= 89);
    const kernel_row *r = b->find(b, OP_LINEAR, &a);
    snprintf(name, size, "%s", r ? r->name : "none");
    backend_close(b);
    emulator_level(90);
    return name;
}

START_TEST(which_kernel_runs)
{
    const linear_attrs fp8 = {.alpha = 1, .precision = PRECISION_FP8, .a_range = 1, .b_range = 1};
    linear_attrs turned = fp8, whole = fp8;
    char name[64];
    turned.transA = 1;
    whole.precision = PRECISION_FP32;
    ck_assert_str_eq(row_on("emulated", 90, fp8, 48, name, sizeof name), "linear fp8");
    ck_assert_str_eq(row_on("emulated", 89, fp8, 48, name, sizeof name), "linear fp8");
    ck_assert_str_eq(row_on("emulated", 86, fp8, 48, name, sizeof name), "linear");
    ck_assert_str_eq(row_on("emulated", 75, fp8, 48, name, sizeof name), "linear");
    ck_assert_str_eq(row_on("emulated", 90, turned, 48, name, sizeof name), "linear");
    ck_assert_str_eq(row_on("emulated", 90, whole, 48, name, sizeof name), "linear");
    ck_assert_str_eq(row_on("emulated-libs", 90, fp8, 48, name, sizeof name), "linear fp8 cuBLASLt");
    ck_assert_str_eq(row_on("emulated-libs", 90, fp8, 40, name, sizeof name), "linear fp8"); /* no multiple of 16 */
    ck_assert_str_eq(row_on("emulated-libs", 86, fp8, 48, name, sizeof name), "linear");
    emulator_code(75); /* code of an older device, that this one makes its own of */
    backend *b;
    OK(backend_open("emulated", &(backend_options){.threads = 1}, &b));
    ck_assert(!backend_has_fp8(b) && !backend_has_bf16(b));
    backend_close(b);
    emulator_code(90);
    ck_assert_str_eq(row_on("cpu", 0, fp8, 48, name, sizeof name), "linear_ref");
}
END_TEST

const test_entry test_table[] = {TEST(every_code), TEST(rounding), TEST(scales), TEST(rows_on_an_older_device), TEST(which_kernel_runs), {0}};
