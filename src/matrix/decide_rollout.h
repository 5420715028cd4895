/* decide_rollout.h - private to decide*.c: the rule table: which variant ships in which row. */
#ifndef DISTILL_MATRIX_DECIDE_ROLLOUT_H
#define DISTILL_MATRIX_DECIDE_ROLLOUT_H

#include "matrix/decide_facts.h"

typedef enum rule_id { RULE_NOTHING, RULE_MEMORY, RULE_ONE, RULE_TWO, RULE_FEW, RULE_MANY } rule_id;

#define NONE SIZE_MAX

typedef struct rollout {
    rule_id rule;
    size_t one;      /* index of the variant for all; NONE: for_row says */
    size_t *for_row; /* [n_targets]; NONE: nothing serves there */
    bool costly;     /* RULE_FEW: quantising for each costs more than matrix.minutes */
} rollout;

const char *rule_text(rule_id rule);
rule_id rule_for(const facts *f, int64_t platforms);
/* RULE_NOTHING: nothing ships anywhere. */
MUST_USE status rollout_make(const facts *f, rule_id rule, rollout *p);
void rollout_ship_one(const facts *f, rollout *p, size_t variant, bool small); /* another one only in rows that it does not serve */
void rollout_ship_each(const facts *f, rollout *p, bool small);                /* small: of those that fit all devices */
double rollout_minutes(const facts *f, const rollout *p);

size_t rollout_portable(const facts *f, bool small);
bool rollout_is_int8(const option_facts *v);
/* Of two that serve a row: the faster there, else the smaller, else the more accurate; a tenth counts as equal. */
bool rollout_better(const facts *f, const option_facts *a, const option_facts *b, size_t row);

/* decide_device.c: what each device gets, or without devices the rows that get something else. */
MUST_USE status decide_devices(const facts *f, const rollout *p, decision *d);

#define MIB 1048576.0
const char *decide_size(int64_t bytes, char buf[24]); /* "94.0 KiB", "unknown size" */

#endif
