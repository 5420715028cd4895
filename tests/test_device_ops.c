/* test_device_ops.c - every row of tests/op_cases_FAMILY.c on a CUDA device, against the CPU's results in double; then with images
 * in float16 and bfloat16 (test_emulated_narrow.c). Skipped where there is none. DISTILL_TEST_DEVICE names another device ("cuda:1"; "emulated" tries this program itself). */
#include "exec/backend.h"
#include "harness.h"
#include "op_case.h"

#include <stdio.h>
#include <stdlib.h>

static const char *device_name(void)
{
    const char *name = getenv("DISTILL_TEST_DEVICE");
    return name && *name ? name : "cuda";
}

static bool is_there(const char *family)
{
    const backend_options none = {.threads = 1};
    backend *b = NULL;
    bool there = backend_open(device_name(), &none, &b) == ST_OK;
    if (!there)
        test_skip(family, status_message());
    backend_close(b);
    return there;
}

#define FAMILY_IN(kind, name, type)                                                                               \
    START_TEST(kind##_##name)                                                                                     \
    {                                                                                                             \
        if (is_there(#name)) {                                                                                    \
            int failed = op_cases_run(#name, op_cases_##name, device_name(), type);                               \
            ck_assert_msg(failed == 0, "%d rows of family " #name " failed in " #kind, failed);                   \
        }                                                                                                         \
    }                                                                                                             \
    END_TEST
#define FAMILY(name)                                                                                              \
    FAMILY_IN(family, name, DTYPE_NONE)                                                                           \
    FAMILY_IN(half, name, DTYPE_F16)                                                                              \
    FAMILY_IN(bfloat, name, DTYPE_BF16)
OP_CASE_FAMILIES(FAMILY)

#define ENTRY(name)        TEST(family_##name),
#define HALF_ENTRY(name)   TEST(half_##name),
#define BFLOAT_ENTRY(name) TEST(bfloat_##name),
const test_entry test_table[] = {OP_CASE_FAMILIES(ENTRY) OP_CASE_FAMILIES(HALF_ENTRY) OP_CASE_FAMILIES(BFLOAT_ENTRY) {0}};
