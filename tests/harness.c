/* harness.c - the main of every test program. */
#include "harness.h"
#include "base/io.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEST_SECONDS 300

static char root[256]; /* the program's temporary folder; made before the tests fork */
static arena names;

void test_skip(const char *name, const char *reason)
{
    printf("SKIP %s: %s\n", name, reason);
    fflush(stdout);
}

void test_max_error(const char *name, double error, double tolerance)
{
    printf("MAXERR %s %.3g (tolerance %.3g)\n", name, error, tolerance);
    fflush(stdout);
}

const char *test_data_dir(void)
{
    static char beside[4096];
    const char *dir = getenv("DISTILL_TEST_DATA");
    if (!dir) {
        const char *slash = strrchr(SOURCE_DIR, '/');
        snprintf(beside, sizeof beside, "%.*s/shared/data", slash ? (int)(slash - SOURCE_DIR) : 0,
                 SOURCE_DIR);
        dir = beside;
    }
    return access(dir, R_OK) == 0 ? dir : NULL;
}

const char *test_tmp_dir(void)
{
    const char *dir = NULL;
    ck_assert_int_eq(arena_printf(&names, &dir, "%s/XXXXXX", root), ST_OK);
    char *made = mkdtemp((char *)(uintptr_t)dir);
    ck_assert_msg(made != NULL, "cannot make a folder in %s", root);
    return dir;
}

const char *test_path(const char *dir, const char *name)
{
    const char *path = NULL;
    ck_assert_int_eq(arena_printf(&names, &path, "%s/%s", dir, name), ST_OK);
    return path;
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc < 2;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *tmp = getenv("TMPDIR");
    Suite *suite = suite_create(slash ? slash + 1 : argv[0]);
    snprintf(root, sizeof root, "%s/distill-test-XXXXXX",
             tmp && *tmp                     ? tmp
             : access("/dev/shm", W_OK) == 0 ? "/dev/shm"
                                             : "/tmp");
    if (!mkdtemp(root)) {
        fprintf(stderr, "cannot make the temporary folder %s\n", root);
        return 1;
    }
    char cache[sizeof root + 8];
    snprintf(cache, sizeof cache, "%s/cache", root);
    setenv("XDG_CACHE_HOME", cache, 1); /* no test leaves teacher outputs in the user's folder */
    int n = 0;
    for (const test_entry *t = test_table; t->name; t++) {
        if (!wanted(t->name, argc, argv))
            continue;
        TCase *one = tcase_create(t->name);
        tcase_set_timeout(one, TEST_SECONDS);
        tcase_add_test(one, *t->test);
        suite_add_tcase(suite, one);
        n++;
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
    srunner_free(runner);
    arena_free(&names);
    if (io_remove_tree(root) != ST_OK)
        fprintf(stderr, "%s\n", status_message());
    if (n == 0)
        fprintf(stderr, "no test of that name\n");
    return failed > 0 || run < n || n == 0;
}

void test_fits(const char *s, size_t width)
{
    for (const char *line = s; *line;) {
        size_t n = strcspn(line, "\n"), columns = 0;
        for (size_t i = 0; i < n; i++) {
            columns += ((unsigned char)line[i] & 0xC0) != 0x80;
            ck_assert_msg((unsigned char)line[i] >= 0x20, "control character %d in: %.*s", line[i], (int)n, line);
        }
        ck_assert_msg(columns <= width, "%zu columns: %.*s", columns, (int)n, line);
        line += n + (line[n] == '\n');
    }
}
