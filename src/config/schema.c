/* schema.c - the table of all keys, and values by it. */
#include "config/schema.h"

#include <math.h>
#include <string.h>

/* ---- the tables ---------------------------------------------------------------------------------------------- */

#define C(constant, text) {text, constant},
#define CHOICES(type, list) static const choice choices_##type[] = {list{NULL, 0}};
#include "config/schema.def"

#define SECTION(section, flags, meaning) static const schema_key keys_##section[] = {
#define OPEN(section, flags, meaning) static const schema_key keys_##section[] = {
#define NAMED(section, flags, meaning) static const schema_key keys_##section[] = {
#define KEY(section, key, type, ctype, dflt, word, word_value, lo, hi, choices, flags, meaning)                   \
    {#key, type, offsetof(job_##section, key), dflt, word, word_value, lo, hi, choices, flags, meaning},
#define END(section)                                                                                              \
    }                                                                                                             \
    ;
#include "config/schema.def"

#define N_KEYS(section) (sizeof keys_##section / sizeof *keys_##section)
const schema_section config_schema[] = {
#define SECTION(section, flags, meaning)                                                                                 \
    {#section, meaning, keys_##section, N_KEYS(section), sizeof(job_##section), offsetof(job, section), 0, flags, false},
#define OPEN(section, flags, meaning) SECTION(section, (flags) | FREE_KEYS, meaning)
#define NAMED(section, flags, meaning)                                                                            \
    {#section,         meaning, keys_##section, N_KEYS(section), sizeof(job_##section), offsetof(job, section),   \
     offsetof(job, n_##section), flags,   true},
#include "config/schema.def"
};
const size_t config_schema_n = sizeof config_schema / sizeof *config_schema;

_Static_assert(sizeof(arch_kind) == sizeof(int), "enums are stored as int");

const schema_section *schema_find(const char *section)
{
    for (size_t i = 0; i < config_schema_n; i++)
        if (strcmp(config_schema[i].name, section) == 0)
            return &config_schema[i];
    return NULL;
}

const schema_key *schema_find_key(const schema_section *s, const char *key)
{
    for (size_t i = 0; i < s->n_keys; i++)
        if (strcmp(s->keys[i].name, key) == 0)
            return &s->keys[i];
    return NULL;
}

const char *schema_type_name(key_type type)
{
    static const char *const names[] = {
        [KEY_BOOL] = "true or false", [KEY_INT] = "whole number",     [KEY_FLOAT] = "number",
        [KEY_STRING] = "text",        [KEY_PATH] = "path",            [KEY_ENUM] = "one of",
        [KEY_INTS] = "whole numbers", [KEY_FLOATS] = "numbers",       [KEY_NAMES] = "names",
        [KEY_RANGES] = "ranges",      [KEY_WORDS] = "words with numbers",
    };
    return names[type];
}

/* ---- ranges in words ----------------------------------------------------------------------------------------- */

#define HUGE_BOUND 1e15 /* bounds beyond it stand for "any" and are not shown */

static void bounds(const schema_key *k, text *out)
{
    char lo[NUMBER_ROOM], hi[NUMBER_ROOM];
    bool open_lo = k->flags & OPEN_LO, open_hi = k->flags & OPEN_HI;
    format_double(k->lo, lo);
    format_double(k->hi, hi);
    if (k->hi >= HUGE_BOUND)
        text_printf(out, "%s %s", open_lo ? ">" : ">=", lo);
    else
        text_printf(out, "%s%s to %s%s", open_lo ? "above " : "", lo, open_hi ? "below " : "", hi);
}

void schema_range(const schema_key *k, text *out)
{
    bool numbers = k->type == KEY_INT || k->type == KEY_FLOAT || k->type == KEY_INTS || k->type == KEY_FLOATS;
    for (const choice *c = k->choices; c && c->text; c++)
        text_printf(out, "%s%s", c == k->choices ? "" : c[1].text ? ", " : " or ", c->text);
    if (k->type == KEY_RANGES)
        text_add(out, "all, none, or e.g. 0:600 1000:1200");
    if (numbers)
        bounds(k, out);
    if (k->word)
        text_printf(out, k->flags & WORD_SHARE ? ", or %s or %s:0.8" : ", or %s", k->word, k->word);
}
