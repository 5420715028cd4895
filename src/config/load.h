/* load.h - private to src/config: a job while it is being put together. */
#ifndef DISTILL_CONFIG_LOAD_H
#define DISTILL_CONFIG_LOAD_H

#include "config/schema.h"

#define FAULTS_MAX 20
#define NAMED_MAX  4096 /* sections with names */
#define FREE_MAX   256  /* free keys of one section */

/* One section of a job with the origin of each value. */
typedef struct config_section {
    const schema_section *schema;
    const char *name; /* "" unless named */
    void *at;         /* the section's struct */
    origin from;
    origin *origins; /* [schema->n_keys] */
    free_key *free;
    size_t n_free;
} config_section;

/* The faults found so far, one a line. */
typedef struct faults {
    text lines;
    unsigned n;
} faults;

/* Adds "ORIGIN: error: message". */
PRINTF_LIKE(3, 4) void faults_add(faults *f, const origin *at, const char *fmt, ...);

/* Faults that lie in no single value but between them. */
void config_check(const job *j, faults *f);

#endif
