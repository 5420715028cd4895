/* json_in.h - reading JSON (jansson) without believing it: bounded size and depth, members by name, and messages that
 * say which member of which file is wrong.
 *
 * The first failure sticks in `st`, so that a caller may read everything and check once. A member that is missing gives
 * the "unknown" value of each function; one of another type is ST_BAD_DATA. The object argument may be NULL (as a
 * missing object gives): then every member is missing. */
#ifndef DISTILL_BASE_JSON_IN_H
#define DISTILL_BASE_JSON_IN_H

#include "base/mem.h"
#include "base/status.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct json_in {
    const char *name; /* the file, for messages; borrowed */
    json_t *root;     /* an object; owned */
    status st;
} json_in;

/* Parses n bytes. `depth`: how deep objects and arrays may nest. Close also after failure. */
MUST_USE status json_in_parse(json_in *j, const char *name, const char *s, size_t n, uint64_t depth);
/* Reads and parses a file of at most `limit` bytes. Missing: ST_NO_INPUT. */
MUST_USE status json_in_open(json_in *j, const char *path, uint64_t limit, uint64_t depth);
void json_in_close(json_in *j);

json_t *json_in_object(json_in *j, json_t *o, const char *key);           /* NULL: missing or null */
json_t *json_in_array(json_in *j, json_t *o, const char *key, size_t *n); /* the same, with n = 0 */
double json_in_number(json_in *j, json_t *o, const char *key); /* NAN; text.h's KEY_nonfinite is understood */
int64_t json_in_int(json_in *j, json_t *o, const char *key, int64_t unknown);
size_t json_in_count(json_in *j, json_t *o, const char *key, size_t most); /* 0 to most; missing: 0 */
bool json_in_bool(json_in *j, json_t *o, const char *key, bool unknown);
/* A copy in `mem`; NULL: missing or null. */
const char *json_in_string(json_in *j, arena *mem, json_t *o, const char *key);
/* For what the file must have: ST_BAD_DATA, unless there was a failure before. */
PRINTF_LIKE(2, 3) void json_in_fail(json_in *j, const char *fmt, ...);

#endif
