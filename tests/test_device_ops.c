/* test_device_ops.c - every row of tests/op_cases_FAMILY.c on a CUDA device, against the CPU's results in double. Skipped where there
 * is none. DISTILL_TEST_DEVICE names another device ("cuda:1"; "emulated" tries this program itself). */
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

#define FAMILY(name)                                                                                              \
    START_TEST(family_##name)                                                                                     \
    {                                                                                                             \
        if (is_there(#name)) {                                                                                    \
            int failed = op_cases_run(#name, op_cases_##name, device_name());                                     \
            ck_assert_msg(failed == 0, "%d rows of family " #name " failed", failed);                             \
        }                                                                                                         \
    }                                                                                                             \
    END_TEST
OP_CASE_FAMILIES(FAMILY)

#define ENTRY(name) TEST(family_##name),
const test_entry test_table[] = {OP_CASE_FAMILIES(ENTRY) {0}};
