/* schema.h - schema.def as a table, and values by it: text to field, field to text. */
#ifndef DISTILL_CONFIG_SCHEMA_H
#define DISTILL_CONFIG_SCHEMA_H

#include "config/config.h"

typedef enum key_type {
    KEY_BOOL,   /* bool */
    KEY_INT,    /* int64_t */
    KEY_FLOAT,  /* double */
    KEY_STRING, /* const char * */
    KEY_PATH,   /* const char * */
    KEY_ENUM,   /* an enum of schema.def */
    KEY_INTS,   /* int_list */
    KEY_FLOATS, /* float_list */
    KEY_NAMES,  /* name_list */
    KEY_RANGES, /* range_list */
    KEY_WORDS,  /* word_list */
} key_type;     /* value.c relies on the lists being last */

enum {
    OPEN_LO = 1,   /* lo itself is outside the range */
    OPEN_HI = 2,   /* hi itself is */
    NO_RESULT = 4, /* changes nothing in what comes out of a run */
    LATER = 32,    /* runs were made before there was this key: config_hash leaves it out where it has its default, so that they go on */
    WORD_SHARE = 16, /* the word may have a share, auto:0.8; the field is then -800, the share in thousandths */
    FREE_KEYS = 8, /* of a section with names: other keys are kept as they are; of one that stands once: they are rules */
};

typedef struct choice {
    const char *text;
    int constant;
} choice;

typedef struct schema_key {
    const char *name;
    key_type type;
    size_t offset; /* in the section's struct */
    const char *dflt;
    const char *word; /* taken besides numbers; NULL: none */
    double word_value;
    double lo, hi;
    const choice *choices; /* up to a row without text; NULL: any */
    unsigned flags;
    const char *meaning;
} schema_key;

typedef struct schema_section {
    const char *name, *meaning;
    const schema_key *keys;
    size_t n_keys, size; /* keys; bytes of the struct */
    size_t offset;       /* in job: of the struct, or (named) of the pointer to the array */
    size_t n_offset;     /* in job (named): of the number of structs */
    unsigned flags;
    bool named;
} schema_section;

extern const schema_section config_schema[];
extern const size_t config_schema_n;

const schema_section *schema_find(const char *section);
const schema_key *schema_find_key(const schema_section *s, const char *key);
/* "float", "list of names", ... */
const char *schema_type_name(key_type type);
/* "> 0", "0 to 1", "ce, bce, mse, l1 or smooth_l1", "" when anything goes. */
void schema_range(const schema_key *k, text *out);

/* Reads `value` into the field by the key's type; lists lie in the arena. ST_CONFIG: the message says what is wrong,
 * *at is the place in `value` (bytes). */
MUST_USE status schema_parse(const schema_key *k, const char *value, arena *a, void *field, size_t *at);
/* The text that schema_parse reads back as the same value. */
void schema_print(const schema_key *k, const void *field, text *out);

#endif
