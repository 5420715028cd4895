/* config.h - a job: everything a run was asked to do, from defaults, file, environment, --set and flags.
 *
 * Later sources win in that order, and every value knows where it came from. All keys stand in schema.def; the structs
 * below are made from it, so `job->train.lr` is the key `lr` of the section [train]. All faults of all sources are
 * reported together (up to 20), one a line, as "file:line:column: error: ...". */
#ifndef DISTILL_CONFIG_CONFIG_H
#define DISTILL_CONFIG_CONFIG_H

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/text.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- values -------------------------------------------------------------------------------------------------- */

typedef struct int_list {
    const int64_t *at;
    size_t n;
} int_list;
typedef struct float_list {
    const double *at;
    size_t n;
} float_list;
typedef struct name_list {
    const char *const *at;
    size_t n;
} name_list;
/* Indices from `begin` to before `end`. "all" is one range 0:INT64_MAX, "none" is no range. */
typedef struct index_range {
    int64_t begin, end;
} index_range;
typedef struct range_list {
    const index_range *at;
    size_t n;
} range_list;
/* A word with a number, "crop:2", or without, "flip" (then value is NaN). */
typedef struct word_number {
    const char *name;
    int kind; /* the constant of the word, e.g. AUGMENT_CROP */
    double value;
} word_number;
typedef struct word_list {
    const word_number *at;
    size_t n;
} word_list;

bool ranges_contain(range_list l, int64_t index);
bool names_contain(name_list l, const char *name);

#define C(constant, text) constant,
#define CHOICES(type, list)                                                                                       \
    typedef enum type {                                                                                           \
        list                                                                                                      \
    } type;
#include "config/schema.def"

/* Where a value came from. */
typedef enum origin_kind { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENV, ORIGIN_SET, ORIGIN_FLAG } origin_kind;
typedef struct origin {
    origin_kind kind;
    const char *source; /* file, variable, the text after --set, or flag */
    unsigned line, column;
} origin;

/* A key that schema.def does not list. In [layer NAME]: an attribute of the operator. In [gate]: a rule, whose name is
 * `key`, or without one: then `key` is the rule itself, with one of < and > in it, and `value` is empty. */
typedef struct free_key {
    const char *key, *value;
    origin from;
} free_key;

/* ---- the structs of the sections: job_data, job_train, ... ------------------------------------------------- */

#define SECTION(section, flags, meaning) typedef struct job_##section {
#define NAMED(section, flags, meaning)                                                                            \
    typedef struct job_##section {                                                                                \
        const char *name; /* [section NAME] */                                                                    \
        origin from;      /* the line of its header, or the --set that made it */                                 \
        const free_key *free;                                                                                     \
        size_t n_free;
#define OPEN(section, flags, meaning) NAMED(section, flags, meaning) /* name: "" */
#define KEY(section, key, type, ctype, dflt, word, word_value, lo, hi, choices, flags, meaning) ctype key;
#define END(section)                                                                                              \
    }                                                                                                             \
    job_##section;
#define NO_LIMITS_SECTION
#include "config/schema.def"
#undef NO_LIMITS_SECTION
typedef limits job_limits;

/* A whole job. All it points to lives as long as it does (config_free). Sections that stand once are members, those with
 * names are arrays in the order of the file. */
typedef struct job {
#define SECTION(section, flags, meaning) job_##section section;
#define OPEN(section, flags, meaning)    job_##section section;
#define NAMED(section, flags, meaning)                                                                            \
    job_##section *section;                                                                                       \
    size_t n_##section;
#include "config/schema.def"
    arena memory;
    struct config_section *sections; /* private: what was set, and where from */
    size_t n_sections;
} job;

/* ---- making one ---------------------------------------------------------------------------------------------- */

/* One "key = value" from the command line. */
typedef struct config_override {
    const char *key;   /* "section.key" or "section.NAME.key" */
    const char *value; /* text as in a file; may be empty for texts and lists */
    const char *flag;  /* the option that says so, "--seed"; NULL: --set */
} config_override;

typedef struct config_sources {
    const char *file;             /* NULL: none */
    const char *const *env;       /* as environ, NULL: none; variables DISTILL_SECTION_KEY */
    const char *const *set;       /* n_set texts "section.key=value" of --set */
    size_t n_set;
    const config_override *flags; /* n_flags values of other options; they win */
    size_t n_flags;
} config_sources;

/* Reads all sources. ST_CONFIG with all faults; ST_NO_INPUT when the file is missing. *out is NULL unless ST_OK. */
MUST_USE status config_load(const config_sources *from, job **out);
/* The same with the file's contents in memory, `name` standing for the file in messages. */
MUST_USE status config_load_text(const char *name, const char *text, size_t n, const config_sources *from, job **out);
void config_free(job *j);

/* ---- asking and printing ------------------------------------------------------------------------------------- */

/* Where "section.key" or "section.NAME.key" came from; NULL: no such key. */
const origin *config_origin(const job *j, const char *key);
/* "cfg.ini:12:8", "environment DISTILL_TRAIN_LR", "--set train.lr=1", "--lr", "default"; into buf, which it returns. */
#define ORIGIN_ROOM 256
const char *origin_text(const origin *o, char *buf);
/* Records "ORIGIN: error: ..." for a fault that only a later stage can see, and returns ST_CONFIG. */
MUST_USE PRINTF_LIKE(2, 3) status config_fault(const origin *o, const char *fmt, ...);

/* The effective job as an INI file that reads back as the same job. */
void config_write(const job *j, text *out);
/* SHA-256 of it without the keys that change no result (threads, logging...). */
MUST_USE status config_hash(const job *j, char out[65]);
/* The effective job with the origin of each value: INI with comments, or JSON. */
void config_show(const job *j, text *out);
void config_show_json(const job *j, text *out);
/* All keys with type, default, range and meaning: a commented INI file, or JSON. */
void config_defaults(text *out);
void config_schema_json(text *out);

#endif
