/* config.c - defaults, file, environment, --set and flags become one job. */
#include "config/config.h"
#include "base/io.h"
#include "config/ini_reader.h"
#include "config/load.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct loader {
    job *job;
    size_t cap;     /* room in job->sections */
    size_t current; /* the section that keys of the file go to; NONE: they are left out */
    const char *file;
    faults faults;
} loader;
#define NONE SIZE_MAX

/* ---- faults -------------------------------------------------------------------------------------------------- */

const char *origin_text(const origin *o, char *buf)
{
    switch (o->kind) {
    case ORIGIN_FILE:
        snprintf(buf, ORIGIN_ROOM, "%.200s:%u:%u", o->source, o->line, o->column);
        break;
    case ORIGIN_ENV:
        snprintf(buf, ORIGIN_ROOM, "environment %.200s", o->source);
        break;
    case ORIGIN_SET:
        snprintf(buf, ORIGIN_ROOM, "--set %.200s", o->source);
        break;
    case ORIGIN_FLAG:
        snprintf(buf, ORIGIN_ROOM, "%.200s", o->source);
        break;
    default:
        snprintf(buf, ORIGIN_ROOM, "default");
    }
    return buf;
}

void faults_add(faults *f, const origin *at, const char *fmt, ...)
{
    char message[1024], where[ORIGIN_ROOM];
    va_list ap;
    if (f->n++ >= FAULTS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    text_printf(&f->lines, "%s%s: error: %s", f->n > 1 ? "\n" : "", origin_text(at, where), message);
}

status config_fault(const origin *o, const char *fmt, ...)
{
    char message[1024], where[ORIGIN_ROOM];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    return fail(ST_CONFIG, "%s: error: %s", origin_text(o, where), message);
}

/* " did you mean 'x'?" or "". */
static const char *suggest(const char *near, char buf[100])
{
    buf[0] = 0;
    if (near)
        snprintf(buf, 100, "; did you mean '%s'?", near);
    return buf;
}

/* ---- sections ------------------------------------------------------------------------------------------------ */

static config_section *find_section(const job *j, const schema_section *s, const char *name)
{
    for (size_t i = 0; i < j->n_sections; i++)
        if (j->sections[i].schema == s && strcmp(j->sections[i].name, name) == 0)
            return &j->sections[i];
    return NULL;
}

/* Adds a section with its defaults. The struct of a named one lies apart until all are known. */
static status add_section(loader *l, const schema_section *s, const char *name, const origin *from)
{
    job *j = l->job;
    config_section new = {.schema = s, .from = *from};
    TRY(mem_push(&j->sections, &l->cap, j->n_sections, sizeof *j->sections));
    TRY(arena_strdup(&j->memory, &new.name, name));
    TRY(arena_alloc(&j->memory, &new.origins, s->n_keys, sizeof *new.origins));
    if (s->named)
        TRY(arena_alloc(&j->memory, &new.at, 1, s->size));
    else
        new.at = (char *)j + s->offset;
    for (size_t i = 0; i < s->n_keys; i++) {
        size_t at;
        const schema_key *k = &s->keys[i];
        TRY(schema_parse(k, k->dflt, &j->memory, (char *)new.at + k->offset, &at));
    }
    j->sections[j->n_sections++] = new;
    return ST_OK;
}

static void unknown_section(loader *l, const char *section, const origin *at)
{
    char hint[100];
    faults_add(
        &l->faults, at, "unknown section [%.80s]%s", section,
        suggest(nearest_name(section, &config_schema[0].name, config_schema_n, sizeof *config_schema), hint));
}

/* The section that "[section name]" stands for; named ones are made. *out NULL: there was a fault. */
static status open_section(loader *l, const char *section, const char *name, const origin *from,
                           config_section **out)
{
    job *j = l->job;
    const schema_section *s = schema_find(section);
    *out = NULL;
    if (!s) {
        unknown_section(l, section, from);
        return ST_OK;
    }
    if (s->named && !*name) {
        faults_add(&l->faults, from, "[%s] needs a name: [%s NAME]", section, section);
        return ST_OK;
    }
    if (!s->named && *name) {
        faults_add(&l->faults, from, "[%s] takes no name", section);
        return ST_OK;
    }
    *out = find_section(j, s, name);
    if (*out)
        return ST_OK;
    if (j->n_sections >= NAMED_MAX) {
        faults_add(&l->faults, from, "more than %d sections", NAMED_MAX);
        return ST_OK;
    }
    TRY(add_section(l, s, name, from));
    *out = &j->sections[j->n_sections - 1];
    return ST_OK;
}

/* ---- values -------------------------------------------------------------------------------------------------- */

static status set_free_key(loader *l, config_section *c, const char *key, const char *value,
                           const origin *from)
{
    arena *a = &l->job->memory;
    free_key *f = NULL;
    for (size_t i = 0; i < c->n_free; i++)
        if (strcmp(c->free[i].key, key) == 0)
            f = &c->free[i];
    if (f && f->from.kind == ORIGIN_FILE && from->kind == ORIGIN_FILE) {
        faults_add(&l->faults, from, "key '%.80s' stands twice in [%s%s%s]; first in line %u", key, c->schema->name,
                   *c->name ? " " : "", c->name, f->from.line);
        return ST_OK;
    }
    if (!f && c->n_free == FREE_MAX) {
        faults_add(&l->faults, from, "[%s%s%s] has more than %d keys", c->schema->name, *c->name ? " " : "", c->name,
                   FREE_MAX);
        return ST_OK;
    }
    if (!c->free)
        TRY(arena_alloc(a, &c->free, FREE_MAX, sizeof *c->free));
    if (!f) {
        f = &c->free[c->n_free];
        TRY(arena_strdup(a, &f->key, key));
        c->n_free++;
    }
    f->from = *from;
    return arena_strdup(a, &f->value, value);
}

/* Keys that stood in another section once: job files and run folders of that time are still read. */
static const struct {
    const char *section, *key, *now_in;
} moved_keys[] = {{"data", "views", "cache"}};

static config_section *moved_to(const job *j, const schema_section *s, const char *key)
{
    for (size_t i = 0; i < sizeof moved_keys / sizeof *moved_keys; i++)
        if (strcmp(moved_keys[i].section, s->name) == 0 && strcmp(moved_keys[i].key, key) == 0)
            return find_section(j, schema_find(moved_keys[i].now_in), "");
    return NULL;
}

/* A rule without a name, "top1 >= 0.92", comes as the key "top1 >" and the value "0.92": the key is all of it then. */
static status set_rule(loader *l, config_section *c, const char *key, const char *value, const origin *from)
{
    size_t n = strlen(key);
    const char *rule;
    if (n == 0 || !strchr("<>", key[n - 1]))
        return set_free_key(l, c, key, value, from);
    TRY(arena_printf(&l->job->memory, &rule, "%s= %s", key, value));
    return set_free_key(l, c, rule, "", from);
}

/* `from` is the place of the value; in files the key stands in column 1. */
static status set_value(loader *l, config_section *c, const char *key, const char *value, const origin *from)
{
    config_section *now = moved_to(l->job, c->schema, key);
    c = now ? now : c;
    const schema_section *s = c->schema;
    const schema_key *k = schema_find_key(s, key);
    origin at = *from;
    char hint[100];
    if (!k && s->flags & FREE_KEYS)
        return s->named ? set_free_key(l, c, key, value, from) : set_rule(l, c, key, value, from);
    if (!k) {
        at.column = 1;
        faults_add(&l->faults, &at, "unknown key '%.80s' in [%s]%s", key, s->name,
                   suggest(nearest_name(key, &s->keys[0].name, s->n_keys, sizeof *s->keys), hint));
        return ST_OK;
    }
    origin *known = &c->origins[k - s->keys];
    if (known->kind == ORIGIN_FILE && from->kind == ORIGIN_FILE) {
        at.column = 1;
        faults_add(&l->faults, &at, "key '%s' stands twice in [%s]; first in line %u", key, s->name,
                   known->line);
        return ST_OK;
    }
    size_t offset;
    status st = schema_parse(k, value, &l->job->memory, (char *)c->at + k->offset, &offset);
    if (st == ST_CONFIG) {
        at.column += utf8_count(value, offset);
        faults_add(&l->faults, &at, "%s%s", status_message(),
                   strstr(value, " #") ? " (after a value, comments begin with ';')" : "");
        st = ST_OK;
    }
    *known = *from;
    return st;
}

/* ---- the file ------------------------------------------------------------------------------------------------ */

/* After the 20th fault nothing more is looked at. */
static status go_on(const loader *l)
{
    return l->faults.n > FAULTS_MAX ? ST_CONFIG : l->faults.lines.st;
}

static status on_section(void *ctx, const char *section, const char *name, unsigned line)
{
    loader *l = ctx;
    origin from = {ORIGIN_FILE, l->file, line, 1};
    size_t before = l->job->n_sections;
    config_section *c;
    l->current = NONE;
    TRY(open_section(l, section, name, &from, &c));
    if (c && l->job->n_sections == before && c->from.line)
        faults_add(&l->faults, &from, "section [%s%s%.80s] stands twice; first in line %u", section,
                   *name ? " " : "", name, c->from.line);
    else if (c) {
        c->from = from;
        l->current = (size_t)(c - l->job->sections);
    }
    return go_on(l);
}

static status on_key(void *ctx, const char *key, const char *value, unsigned line, unsigned column)
{
    loader *l = ctx;
    origin from = {ORIGIN_FILE, l->file, line, column};
    if (l->current == NONE) /* its section is at fault already */
        return ST_OK;
    TRY(set_value(l, &l->job->sections[l->current], key, value, &from));
    return go_on(l);
}

static status on_fault(void *ctx, unsigned line, unsigned column, const char *message)
{
    loader *l = ctx;
    origin from = {ORIGIN_FILE, l->file, line, column};
    faults_add(&l->faults, &from, "%s", message);
    return go_on(l);
}

/* ---- environment, --set, flags ------------------------------------------------------------------------------- */

/* A value that an INI file could not hold could not be written into the run's config.ini either. */
static bool is_writable(const char *s)
{
    size_t n = strlen(s), step;
    for (size_t i = 0; i < n; i += step) {
        step = utf8_length(s + i, n - i);
        unsigned char c = (unsigned char)s[i];
        if (step == 0 || (c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return n == 0 || !(s[0] == ';' || strstr(s, " ;") || strstr(s, "\t;") || strchr(" \t", s[0]) ||
                       strchr(" \t", s[n - 1]));
}

/* "section.key" or "section.NAME.key" in its three parts. */
static bool split_key(char *path, char **section, char **name, char **key)
{
    char *first = strchr(path, '.'), *last = strrchr(path, '.');
    if (!first || !last[1] || first == path)
        return false;
    *section = path;
    *name = last > first ? first + 1 : last;
    *key = last + 1;
    *first = *last = 0;
    return !strpbrk(*name, "[];#") && is_writable(*name) && is_writable(*key) && !strpbrk(*key, "=:[;# \t");
}

static status override(loader *l, char *path, const char *value, origin_kind kind, const char *source)
{
    origin from = {.kind = kind};
    char *section, *name, *key;
    config_section *c;
    TRY(arena_strdup(&l->job->memory, &from.source, source));
    if (!is_writable(value))
        faults_add(&l->faults, &from,
                   "the value cannot stand in a file: no control characters, no blanks around it, no ';' "
                   "after a blank");
    else if (!split_key(path, &section, &name, &key))
        faults_add(&l->faults, &from, "expected section.key=value (or section.NAME.key=value)");
    else {
        TRY(open_section(l, section, name, &from, &c));
        if (c)
            TRY(set_value(l, c, key, value, &from));
    }
    return ST_OK;
}

/* DISTILL_SECTION_KEY=value. Variables whose second word is no section are not ours. */
static status take_variable(loader *l, const char *variable)
{
    char path[128], source[128];
    const char *eq = strchr(variable, '=');
    size_t n = eq ? (size_t)(eq - variable) : 0;
    if (strncmp(variable, "DISTILL_", 8) != 0 || n <= 8 || n >= sizeof path)
        return ST_OK;
    snprintf(source, sizeof source, "%.*s", (int)n, variable);
    for (size_t i = 8; i <= n; i++)
        path[i - 8] = (char)tolower((unsigned char)source[i]);
    char *end = strchr(path, '_');
    if (!end)
        return ST_OK;
    *end = 0;
    const schema_section *s = schema_find(path);
    if (!s || s->named)
        return ST_OK;
    *end = '.';
    return override(l, path, eq + 1, ORIGIN_ENV, source);
}

static status take_overrides(loader *l, const config_sources *from)
{
    status st = ST_OK;
    char *path = NULL;
    for (const char *const *v = from->env; v && *v; v++)
        TRY(take_variable(l, *v));
    for (size_t i = 0; i < from->n_set; i++) {
        TRY_DONE(mem_strdup(&path, from->set[i]));
        char *eq = strchr(path, '=');
        if (eq)
            *eq = 0;
        else
            path[0] = 0; /* no key either: the fault says what is expected */
        TRY_DONE(override(l, path, eq ? eq + 1 : "", ORIGIN_SET, from->set[i]));
        mem_free(path);
        path = NULL;
    }
    for (size_t i = 0; i < from->n_flags; i++) {
        const config_override *f = &from->flags[i];
        TRY_DONE(mem_strdup(&path, f->key));
        TRY_DONE(override(l, path, f->value, f->flag ? ORIGIN_FLAG : ORIGIN_SET, f->flag ? f->flag : f->key));
        mem_free(path);
        path = NULL;
    }
done:
    mem_free(path);
    return st;
}

/* ---- the whole ----------------------------------------------------------------------------------------------- */

/* What all named structs and open ones begin with (config.h). */
typedef struct named_head {
    const char *name;
    origin from;
    const free_key *free;
    size_t n_free;
} named_head;

/* Named structs move into one array for each kind, in the order in which they came. */
static status gather(job *j)
{
    for (const schema_section *s = config_schema; s < config_schema + config_schema_n; s++) {
        size_t n = 0;
        char *array;
        if (!s->named && s->flags & FREE_KEYS) {
            config_section *c = find_section(j, s, "");
            named_head head = {c->name, c->from, c->free, c->n_free};
            memcpy(c->at, &head, sizeof head);
        }
        if (!s->named)
            continue;
        for (size_t i = 0; i < j->n_sections; i++)
            n += j->sections[i].schema == s;
        TRY(arena_alloc(&j->memory, &array, n, s->size));
        memcpy((char *)j + s->offset, &array, sizeof array);
        memcpy((char *)j + s->n_offset, &n, sizeof n);
        for (size_t i = 0; i < j->n_sections; i++) {
            config_section *c = &j->sections[i];
            if (c->schema != s)
                continue;
            named_head head = {c->name, c->from, c->free, c->n_free};
            memcpy(array, c->at, s->size);
            memcpy(array, &head, sizeof head);
            c->at = array;
            array += s->size;
        }
    }
    return ST_OK;
}

static status load(loader *l, const char *ini, size_t n, const config_sources *from)
{
    origin none = {.kind = ORIGIN_DEFAULT};
    for (size_t i = 0; i < config_schema_n; i++)
        if (!config_schema[i].named)
            TRY(add_section(l, &config_schema[i], "", &none));
    if (ini) {
        ini_sink sink = {on_section, on_key, on_fault, l};
        status st = ini_read(ini, n, limits_default().ini_line, &sink);
        if (st != ST_OK && l->faults.n <= FAULTS_MAX)
            return st;
    }
    if (l->faults.n <= FAULTS_MAX)
        TRY(take_overrides(l, from));
    TRY(gather(l->job));
    if (l->faults.n == 0)
        config_check(l->job, &l->faults);
    if (l->faults.n > FAULTS_MAX)
        text_printf(&l->faults.lines, "\nthere are more errors; these are the first %d", FAULTS_MAX);
    TRY(l->faults.lines.st);
    return l->faults.n ? fail(ST_CONFIG, "%s", l->faults.lines.s) : ST_OK;
}

status config_load_text(const char *name, const char *ini, size_t n, const config_sources *from, job **out)
{
    loader l = {.current = NONE};
    *out = NULL;
    TRY(mem_alloc(&l.job, 1, sizeof *l.job));
    status st = arena_strdup(&l.job->memory, &l.file, name ? name : "");
    if (st == ST_OK)
        st = load(&l, ini, n, from);
    text_free(&l.faults.lines);
    if (st == ST_OK)
        *out = l.job;
    else
        config_free(l.job);
    return st;
}

status config_load(const config_sources *from, job **out)
{
    unsigned char *data = NULL;
    size_t n = 0;
    *out = NULL;
    if (from->file)
        TRY(io_read_file(from->file, limits_default().ini_file, &data, &n));
    status st = config_load_text(from->file, (const char *)data, n, from, out);
    mem_free(data);
    return st;
}

void config_free(job *j)
{
    if (!j)
        return;
    mem_free(j->sections);
    arena_free(&j->memory);
    mem_free(j);
}

const origin *config_origin(const job *j, const char *key)
{
    const char *first = strchr(key, '.'), *last = strrchr(key, '.');
    if (!first)
        return NULL;
    for (size_t i = 0; i < j->n_sections; i++) {
        const config_section *c = &j->sections[i];
        size_t n = strlen(c->schema->name), m = strlen(c->name);
        bool same =
            (size_t)(first - key) == n && memcmp(key, c->schema->name, n) == 0 &&
            (first == last ? m == 0 : (size_t)(last - first - 1) == m && memcmp(first + 1, c->name, m) == 0);
        const schema_key *k = same ? schema_find_key(c->schema, last + 1) : NULL;
        if (k)
            return &c->origins[k - c->schema->keys];
        for (size_t f = 0; same && f < c->n_free; f++)
            if (strcmp(c->free[f].key, last + 1) == 0)
                return &c->free[f].from;
    }
    return NULL;
}
