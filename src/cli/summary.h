/* summary.h - the table and the JSON object that a proof ends with. */
#ifndef DISTILL_CLI_SUMMARY_H
#define DISTILL_CLI_SUMMARY_H

#include "deploy/validation.h"
#include "train/loop.h"

typedef struct summary_model {
    const char *path; /* NULL: there is no such model */
    int64_t parameters;
    double macs; /* of one sample */
    int64_t bytes;
} summary_model;

typedef struct summary {
    const validation *v;
    summary_model teacher, student;
    const char *dir, *report; /* NULL: none */
    const loop_result *loop;  /* NULL: nothing was trained */
} summary;

MUST_USE status summary_print(const summary *m, bool as_json);

#endif
