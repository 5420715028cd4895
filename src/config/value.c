/* value.c - the text of a value to the field of a struct, and back, by the key's type. */
#include "config/schema.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- text to value ------------------------------------------------------------------------------------------- */

static status unknown_choice(const schema_key *k, const char *word)
{
    size_t n = 0;
    while (k->choices[n].text)
        n++;
    const char *near = nearest_name(word, &k->choices->text, n, sizeof *k->choices);
    text all = {0};
    schema_range(k, &all);
    status st =
        near ? fail(ST_CONFIG, "%s: '%.80s' is unknown; did you mean '%s'? (%s)", k->name, word, near,
                    all.s ? all.s : "")
             : fail(ST_CONFIG, "%s: '%.80s' is unknown; it may be %s", k->name, word, all.s ? all.s : "");
    text_free(&all);
    return st;
}

static status find_choice(const schema_key *k, const char *word, int *constant)
{
    for (const choice *c = k->choices; c->text; c++)
        if (strcmp(c->text, word) == 0) {
            *constant = c->constant;
            return ST_OK;
        }
    return unknown_choice(k, word);
}

static status check_bounds(const schema_key *k, double v, const char *value)
{
    bool low = k->flags & OPEN_LO ? v <= k->lo : v < k->lo,
         high = k->flags & OPEN_HI ? v >= k->hi : v > k->hi;
    if (!low && !high)
        return ST_OK;
    text range = {0};
    schema_range(k, &range);
    status st = fail(ST_CONFIG, "%s: %.80s is out of range (%s)", k->name, value, range.s ? range.s : "");
    text_free(&range);
    return st;
}

/* "auto:0.8" as -800. */
static status parse_share(const schema_key *k, const char *share, int64_t *i, double *d)
{
    TRY(parse_double(share, k->name, d));
    if (!(*d >= 0.001 && *d <= 1))
        return fail(ST_CONFIG, "%s: %.80s is no share; %s: takes one above 0, at most 1", k->name, share, k->word);
    *i = -llround(1000 * *d);
    return ST_OK;
}

/* One number of a key that holds whole ones or any; the key's word is taken too. */
static status parse_number(const schema_key *k, const char *value, bool whole, int64_t *i, double *d)
{
    if (k->word && strcmp(value, k->word) == 0) {
        *d = k->word_value;
        *i = isnan(*d) ? 0 : (int64_t)*d;
        return ST_OK;
    }
    size_t word = k->word ? strlen(k->word) : 0;
    if (k->flags & WORD_SHARE && strncmp(value, k->word, word) == 0 && value[word] == ':')
        return parse_share(k, value + word + 1, i, d);
    if (whole) {
        TRY(parse_int(value, k->name, i));
        *d = (double)*i;
    } else {
        TRY(parse_double(value, k->name, d));
    }
    if (k->word && !(*d < k->word_value || *d > k->word_value)) /* 0 for "auto" */
        return ST_OK;
    return check_bounds(k, *d, value);
}

/* "a:b", "a:", ":b" or "all". */
static status parse_range(const schema_key *k, char *item, void *to)
{
    index_range *r = to;
    *r = (index_range){0, INT64_MAX};
    if (strcmp(item, "all") == 0)
        return ST_OK;
    char *colon = strchr(item, ':');
    if (!colon)
        return fail(ST_CONFIG, "%s: '%.80s' is not a range; write it like 0:600, or all, or none", k->name,
                    item);
    *colon = 0;
    if (*item)
        TRY(parse_int(item, k->name, &r->begin));
    if (colon[1])
        TRY(parse_int(colon + 1, k->name, &r->end));
    *colon = ':';
    if (r->begin < 0 || r->end <= r->begin)
        return fail(ST_CONFIG,
                    "%s: the range %.80s is empty; its end is excluded and must be above its begin", k->name,
                    item);
    return ST_OK;
}

/* "name" or "name:number". */
static status parse_word(const schema_key *k, char *item, void *to)
{
    word_number *w = to;
    char *colon = strchr(item, ':');
    int64_t unused;
    w->value = (double)NAN;
    if (colon)
        *colon = 0;
    TRY(find_choice(k, item, &w->kind));
    w->name = item;
    return colon ? parse_number(k, colon + 1, false, &unused, &w->value) : ST_OK;
}

static status parse_int_item(const schema_key *k, char *item, void *to)
{
    double real;
    return parse_number(k, item, true, to, &real);
}

static status parse_float_item(const schema_key *k, char *item, void *to)
{
    int64_t whole;
    return parse_number(k, item, false, &whole, to);
}

static status parse_name(const schema_key *k, char *item, void *to)
{
    int constant;
    *(const char **)to = item;
    return k->choices ? find_choice(k, item, &constant) : ST_OK;
}

/* ---- value to text ------------------------------------------------------------------------------------------- */

static void print_int(int64_t v, const schema_key *k, text *out)
{
    if (k->word && !isnan(k->word_value) && v == (int64_t)k->word_value)
        text_add(out, k->word);
    else if (k->flags & WORD_SHARE && v < 0)
        text_printf(out, "%s:%g", k->word, (double)-v / 1000);
    else
        text_printf(out, "%" PRId64, v);
}

static void print_float(double v, const schema_key *k, text *out)
{
    char buf[NUMBER_ROOM];
    bool is_word = k->word && (isnan(k->word_value) ? isnan(v) : !(v < k->word_value || v > k->word_value));
    text_add(out, is_word ? k->word : format_double(v, buf));
}

static void print_int_item(const schema_key *k, const void *item, text *out)
{
    print_int(*(const int64_t *)item, k, out);
}

static void print_float_item(const schema_key *k, const void *item, text *out)
{
    print_float(*(const double *)item, k, out);
}

static void print_name(const schema_key *k, const void *item, text *out)
{
    (void)k;
    text_add(out, *(const char *const *)item);
}

static void print_range(const schema_key *k, const void *item, text *out)
{
    const index_range *r = item;
    (void)k;
    if (r->begin == 0 && r->end == INT64_MAX)
        text_add(out, "all");
    else if (r->end == INT64_MAX)
        text_printf(out, "%" PRId64 ":", r->begin);
    else
        text_printf(out, "%" PRId64 ":%" PRId64, r->begin, r->end);
}

static void print_word(const schema_key *k, const void *item, text *out)
{
    const word_number *w = item;
    text_add(out, w->name);
    if (!isnan(w->value)) {
        text_add(out, ":");
        print_float(w->value, k, out);
    }
}

/* ---- lists: all list structs are an address and a number ------------------------------------------------------ */

typedef struct any_list {
    const void *at;
    size_t n;
} any_list;

static const struct {
    size_t size;
    status (*parse)(const schema_key *k, char *item,
                    void *to); /* may change the item's text, which outlives the list */
    void (*print)(const schema_key *k, const void *item, text *out);
} item_types[] = {
    [KEY_INTS] = {sizeof(int64_t), parse_int_item, print_int_item},
    [KEY_FLOATS] = {sizeof(double), parse_float_item, print_float_item},
    [KEY_NAMES] = {sizeof(const char *), parse_name, print_name},
    [KEY_RANGES] = {sizeof(index_range), parse_range, print_range},
    [KEY_WORDS] = {sizeof(word_number), parse_word, print_word},
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static size_t count_items(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += !is_blank(*s) && (is_blank(s[1]) || s[1] == 0);
    return n;
}

/* Items stand apart by blanks. */
static status parse_list(const schema_key *k, const char *value, arena *a, void *field, size_t *at)
{
    size_t n = count_items(value), size = item_types[k->type].size;
    char *copy, *items = NULL;
    if (k->type == KEY_RANGES && n == 0)
        return fail(ST_CONFIG, "%s: has no value; write none for no sample", k->name);
    if (k->type == KEY_RANGES && strcmp(value, "none") == 0)
        n = 0;
    if (n) {
        TRY(arena_alloc(a, &copy, strlen(value) + 1, 1));
        TRY(arena_alloc(a, &items, n, size));
        char *p = strcpy(copy, value);
        for (size_t i = 0; i < n; i++) {
            p += strspn(p, " \t");
            char *item = p;
            p += strcspn(p, " \t");
            if (*p)
                *p++ = 0;
            *at = (size_t)(item - copy);
            TRY(item_types[k->type].parse(k, item, items + i * size));
        }
    }
    any_list list = {items, n};
    memcpy(field, &list, sizeof list);
    return ST_OK;
}

static void print_list(const schema_key *k, const void *field, text *out)
{
    any_list list;
    memcpy(&list, field, sizeof list);
    if (k->type == KEY_RANGES && list.n == 0)
        text_add(out, "none");
    for (size_t i = 0; i < list.n; i++) {
        if (i)
            text_add(out, " ");
        item_types[k->type].print(k, (const char *)list.at + i * item_types[k->type].size, out);
    }
}

/* ---- any value ----------------------------------------------------------------------------------------------- */

static status no_value(const schema_key *k)
{
    text range = {0};
    schema_range(k, &range);
    status st = fail(ST_CONFIG, "%s: has no value; expected: %s%s%s", k->name, schema_type_name(k->type),
                     range.n ? ", " : "", range.n ? range.s : "");
    text_free(&range);
    return st;
}

status schema_parse(const schema_key *k, const char *value, arena *a, void *field, size_t *at)
{
    int64_t whole = 0;
    double real = 0;
    *at = 0;
    if (k->type >= KEY_INTS)
        return parse_list(k, value, a, field, at);
    if (k->type == KEY_STRING || k->type == KEY_PATH)
        return arena_strdup(a, (const char **)field, value);
    if (!*value)
        return no_value(k);
    if (k->type == KEY_BOOL)
        return parse_bool(value, k->name, field);
    if (k->type == KEY_ENUM)
        return find_choice(k, value, field);
    TRY(parse_number(k, value, k->type == KEY_INT, &whole, &real));
    if (k->type == KEY_INT)
        *(int64_t *)field = whole;
    else
        *(double *)field = real;
    return ST_OK;
}

void schema_print(const schema_key *k, const void *field, text *out)
{
    if (k->type >= KEY_INTS)
        print_list(k, field, out);
    else if (k->type == KEY_STRING || k->type == KEY_PATH)
        text_add(out, *(const char *const *)field);
    else if (k->type == KEY_BOOL)
        text_add(out, *(const bool *)field ? "true" : "false");
    else if (k->type == KEY_INT)
        print_int(*(const int64_t *)field, k, out);
    else if (k->type == KEY_FLOAT)
        print_float(*(const double *)field, k, out);
    else
        for (const choice *c = k->choices; c->text; c++)
            if (c->constant == *(const int *)field)
                text_add(out, c->text);
}

bool ranges_contain(range_list l, int64_t index)
{
    for (size_t i = 0; i < l.n; i++)
        if (index >= l.at[i].begin && index < l.at[i].end)
            return true;
    return false;
}

bool names_contain(name_list l, const char *name)
{
    for (size_t i = 0; i < l.n; i++)
        if (strcmp(l.at[i], name) == 0)
            return true;
    return false;
}
