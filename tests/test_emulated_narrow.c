/* test_emulated_narrow.c - the CUDA kernels that compute in float16 and bfloat16 on the host, channels last and plain: the rows of
 * tests/op_cases_FAMILY.c on numbers that the type holds, every node that has such a kernel in it, Reorder nodes between. */
#include "harness.h"
#include "op_case.h"

#define FAMILY(name)                                                                                              \
    START_TEST(float16_##name)                                                                                    \
    {                                                                                                             \
        int failed = op_cases_run(#name, op_cases_##name, "emulated", DTYPE_F16);                                 \
        ck_assert_msg(failed == 0, "%d rows of family " #name " failed", failed);                                 \
    }                                                                                                             \
    END_TEST                                                                                                      \
    START_TEST(bfloat16_##name)                                                                                   \
    {                                                                                                             \
        int failed = op_cases_run(#name, op_cases_##name, "emulated", DTYPE_BF16);                                \
        ck_assert_msg(failed == 0, "%d rows of family " #name " failed", failed);                                 \
    }                                                                                                             \
    END_TEST
OP_CASE_FAMILIES(FAMILY)

/* Families with kernels for plain operands; those of products in both types. */
#define PLAIN_FAMILIES(X)                                                                                         \
    X(float16, DTYPE_F16, attention) X(float16, DTYPE_F16, binary) X(float16, DTYPE_F16, matmul) X(float16, DTYPE_F16, move) \
    X(float16, DTYPE_F16, reduce) X(bfloat16, DTYPE_BF16, loss) X(bfloat16, DTYPE_BF16, matmul) \
    X(bfloat16, DTYPE_BF16, norm) X(bfloat16, DTYPE_BF16, unary)
#define PLAIN_FAMILY(type, narrow, name)                                                                          \
    START_TEST(plain_##type##_##name)                                                                             \
    {                                                                                                             \
        int failed = op_cases_run_plain(#name, op_cases_##name, "emulated", narrow);                              \
        ck_assert_msg(failed == 0, "%d rows of family " #name " failed", failed);                                 \
    }                                                                                                             \
    END_TEST
PLAIN_FAMILIES(PLAIN_FAMILY)

#define ENTRY(name) TEST(float16_##name), TEST(bfloat16_##name),
#define PLAIN_ENTRY(type, narrow, name) TEST(plain_##type##_##name),
const test_entry test_table[] = {OP_CASE_FAMILIES(ENTRY) PLAIN_FAMILIES(PLAIN_ENTRY) {0}};
