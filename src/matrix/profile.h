/* profile.h - what a device can do, measured before a student is chosen: small probes, one for each set of operators.
 *
 * profile_pack writes the probes as a pack (pack.h) whose home is a folder of its own; profile_merge reads what came back and writes
 * FOLDER/NAME.ini with a [device NAME] section: the runtime that computes most probes right (then the fastest), the others as
 * fallbacks, the operators it covers, and times and memory as comments. */
#ifndef DISTILL_MATRIX_PROFILE_H
#define DISTILL_MATRIX_PROFILE_H

#include "config/config.h"
#include "matrix/pack.h"

/* Makes `dir` and PROBES in it. */
MUST_USE status profile_pack(const char *dir, const pack_target *t, const job *j, const char *out, pack_facts *facts);
/* Was this folder made by profile_pack? */
bool profile_is(const char *dir);
/* *section: the text, also written to *file; both in mem. */
MUST_USE status profile_merge(const char *dir, const char *result, arena *mem, const char **file, const char **section);

#endif
