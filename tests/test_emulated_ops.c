/* test_emulated_ops.c - the CUDA kernels' own source on the host: every row of tests/op_cases_FAMILY.c.
 *
 * The .cu files are compiled as C++ over tests/emulator; blocks run with one fiber a thread, between guard bytes, in three
 * orders of threads and warps, and the whole graph through the executor, recorded and replayed. */
#include "harness.h"
#include "op_case.h"

#define FAMILY(name)                                                                                              \
    START_TEST(family_##name)                                                                                     \
    {                                                                                                             \
        int failed = op_cases_run(#name, op_cases_##name, "emulated", DTYPE_NONE);                                \
        ck_assert_msg(failed == 0, "%d rows of family " #name " failed", failed);                                 \
    }                                                                                                             \
    END_TEST
OP_CASE_FAMILIES(FAMILY)

#define ENTRY(name) TEST(family_##name),
const test_entry test_table[] = {OP_CASE_FAMILIES(ENTRY) {0}};
