/* test_emulated_narrow.c - the CUDA kernels that compute in float16 and bfloat16, channels last, on the host: the rows of
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

#define ENTRY(name) TEST(float16_##name), TEST(bfloat16_##name),
const test_entry test_table[] = {OP_CASE_FAMILIES(ENTRY) {0}};
