/* fuzz_ini.c - job files of any bytes: a job that reads back the same, or faults with their places.
 *
 * The first line, if it begins with "--set ", is an override; the rest is the file. */
#include "base/mem.h"
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t n);

static void require(bool holds)
{
    if (!holds)
        abort(); /* what libFuzzer counts as a finding */
}

static job *read_back(const text *ini)
{
    config_sources none = {0};
    job *j = NULL;
    require(config_load_text("again.ini", ini->s, ini->n, &none, &j) == ST_OK);
    return j;
}

/* What a job writes reads back as the same job. */
static void check_round_trip(const job *j)
{
    text first = {0}, second = {0};
    char hash[65], hash2[65];
    config_write(j, &first);
    require(first.st == ST_OK);
    job *again = read_back(&first);
    config_write(again, &second);
    require(second.st == ST_OK && strcmp(first.s, second.s) == 0);
    require(config_hash(j, hash) == ST_OK && config_hash(again, hash2) == ST_OK && strcmp(hash, hash2) == 0);
    config_free(again);
    text_free(&second);
    config_show(j, &second);
    again = read_back(&second);
    text_free(&second);
    config_write(again, &second);
    require(strcmp(first.s, second.s) == 0);
    config_free(again);
    text_free(&first);
    text_free(&second);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t n)
{
    config_sources from = {0};
    char set[256] = "";
    const char *texts[1] = {set}, *ini = (const char *)data;
    const char *line_end = n > 6 && memcmp(ini, "--set ", 6) == 0 ? memchr(ini, '\n', n) : NULL;
    if (line_end && (size_t)(line_end - ini) < sizeof set) {
        memcpy(set, ini + 6, (size_t)(line_end - ini) - 6);
        from.set = texts;
        from.n_set = 1;
        n -= (size_t)(line_end + 1 - ini);
        ini = line_end + 1;
    }
    job *j = NULL;
    status st = config_load_text("cfg.ini", ini, n, &from, &j);
    if (st == ST_OK) {
        check_round_trip(j);
        config_free(j);
    } else {
        require(st == ST_CONFIG && !j && strstr(status_message(), ": error: ") != NULL);
    }
    return 0;
}
