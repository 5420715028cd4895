/* harness.h - what every test program shares: one main, counted skips, where data lies.
 *
 * A test file defines its tests with Check's START_TEST and one table:
 *     const test_entry test_table[] = {TEST(name_of_start_test), ..., {0}};
 * and links to harness.c, whose main runs the table (or only the tests named as arguments), prints the largest errors and
 * skips, and exits non-zero on failure. Each test runs in a child process; CK_FORK=no keeps all in one (for a debugger).
 * No call with an effect stands inside an assert. */
#ifndef DISTILL_TESTS_HARNESS_H
#define DISTILL_TESTS_HARNESS_H

#include <check.h>
#undef fail /* Check has an old macro of that name */
#include "base/status.h"
#ifndef fail
#define fail(...) status_not_ok(status_record(__VA_ARGS__)) /* again, where status.h came before Check */
#endif
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct test_entry {
    const char *name;
    const TTest *const *test; /* the address of the pointer: Check's START_TEST does not make a constant */
} test_entry;
#define TEST(fn) {#fn, &fn}
extern const test_entry test_table[];

/* Fails the test with the recorded message unless `call` gave ST_OK. */
#define OK(call)                                                                                                  \
    do {                                                                                                          \
        status ok_status_ = (call);                                                                               \
        ck_assert_msg(ok_status_ == ST_OK, "%s: status %d: %s", #call, (int)ok_status_, status_message());        \
    } while (0)
/* Fails unless `call` gave the status `want` and its message contains `part`. */
#define FAILS(want, part, call)                                                                                   \
    do {                                                                                                          \
        status fails_status_ = (call);                                                                            \
        ck_assert_msg(fails_status_ == (want), "%s: status %d, expected %d: %s", #call, (int)fails_status_,       \
                      (int)(want), status_message());                                                             \
        ck_assert_msg(strstr(status_message(), part) != NULL, "%s: message '%s' lacks '%s'", #call,               \
                      status_message(), part);                                                                    \
    } while (0)

/* Prints "SKIP name: reason"; tools/test counts these lines. */
void test_skip(const char *name, const char *reason);

/* Every line of a terminal's text is at most `width` columns wide, and holds no control character. */
void test_fits(const char *s, size_t width);
/* Prints "MAXERR name value (tolerance t)": what the closest comparison of a test saw. */
void test_max_error(const char *name, double error, double tolerance);
/* The folder with optional data (environment DISTILL_TEST_DATA, else the folder beside the checkout), or NULL. */
const char *test_data_dir(void);
/* A fresh empty folder (a new one at each call) below TMPDIR (else /dev/shm, where fsync costs nothing, else /tmp),
 * removed when the program ends. */
const char *test_tmp_dir(void);
/* "dir/name", valid until the program ends. */
const char *test_path(const char *dir, const char *name);

#endif
