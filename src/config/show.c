/* show.c - jobs and the schema as text: config.ini of a run, --show, --defaults, --schema. */
#include "base/hash.h"
#include "config/load.h"

#include <string.h>

/* ---- jobs ---------------------------------------------------------------------------------------------------- */

#define COMMENT_COLUMN 36

/* equals: " =", or "" where the key is all of the line (a rule without a name). */
static void write_line(const char *key, const char *equals, const char *value, const origin *from, text *out)
{
    char where[ORIGIN_ROOM];
    size_t begin = out->n;
    text_printf(out, "%s%s%s%s", key, equals, *value ? " " : "", value);
    if (from) {
        size_t n = out->n - begin;
        text_printf(out, "%*s ; %s", n < COMMENT_COLUMN ? (int)(COMMENT_COLUMN - n) : 0, "",
                    origin_text(from, where));
    }
    text_add(out, "\n");
}

/* A key as config_hash takes it: what earlier versions did without a word for it is written as they wrote it. NULL: not at all. */
static const char *as_hashed(const schema_section *s, const schema_key *k, const char *value)
{
    if (k->flags & LATER && strcmp(value, k->dflt) == 0)
        return NULL;
    if (strcmp(s->name, "teacher") == 0 && strcmp(k->name, "precision") == 0 && strcmp(value, "same") == 0)
        return "fp32"; /* what was the default is that of the student: on the CPU fp32, as then */
    if (strcmp(s->name, "teacher") == 0 && strcmp(k->name, "ahead") == 0 && strcmp(value, "1") == 0)
        return NULL; /* as without the key */
    return value;
}

/* Every value of the job; with origins as comments; without sections and keys that have one of the flags `without`, for config_hash. */
static void write_job(const job *j, text *out, bool origins, unsigned without)
{
    for (size_t i = 0; i < j->n_sections; i++) {
        const config_section *c = &j->sections[i];
        const schema_section *s = c->schema;
        if (s->flags & without)
            continue;
        text_printf(out, "%s[%s%s%s]\n", i ? "\n" : "", s->name, *c->name ? " " : "", c->name);
        for (size_t k = 0; k < s->n_keys; k++) {
            if (s->keys[k].flags & without)
                continue;
            text value = {0};
            schema_print(&s->keys[k], (const char *)c->at + s->keys[k].offset, &value);
            const char *shown = value.n ? value.s : "";
            if (without)
                shown = as_hashed(s, &s->keys[k], shown);
            if (shown)
                write_line(s->keys[k].name, " =", shown, origins ? &c->origins[k] : NULL, out);
            out->st = out->st == ST_OK ? value.st : out->st;
            text_free(&value);
        }
        for (size_t k = 0; k < c->n_free; k++) {
            const free_key *f = &c->free[k];
            bool rule = !s->named && !*f->value && strpbrk(f->key, "<>");
            write_line(f->key, rule ? "" : " =", f->value, origins ? &f->from : NULL, out);
        }
    }
}

void config_write(const job *j, text *out)
{
    write_job(j, out, false, 0);
}

void config_show(const job *j, text *out)
{
    write_job(j, out, true, 0);
}

status config_hash(const job *j, char out[65])
{
    text t = {0};
    write_job(j, &t, false, NO_RESULT);
    status st = t.st == ST_OK ? hash_sha256_hex(t.s, t.n, out) : t.st;
    text_free(&t);
    return st;
}

void config_show_json(const job *j, text *out)
{
    char where[ORIGIN_ROOM];
    json js = {.out = out, .pretty = true};
    json_put_object(&js, NULL);
    for (size_t i = 0; i < j->n_sections; i++) {
        const config_section *c = &j->sections[i];
        text name = {0};
        text_printf(&name, "%s%s%s", c->schema->name, *c->name ? "." : "", c->name);
        json_put_object(&js, name.s ? name.s : "");
        for (size_t k = 0; k < c->schema->n_keys; k++) {
            text value = {0};
            schema_print(&c->schema->keys[k], (const char *)c->at + c->schema->keys[k].offset, &value);
            json_put_object(&js, c->schema->keys[k].name);
            json_put_string(&js, "value", value.n ? value.s : "");
            json_put_string(&js, "origin", origin_text(&c->origins[k], where));
            json_end_object(&js);
            text_free(&value);
        }
        for (size_t k = 0; k < c->n_free; k++) {
            json_put_object(&js, c->free[k].key);
            json_put_string(&js, "value", c->free[k].value);
            json_put_string(&js, "origin", origin_text(&c->free[k].from, where));
            json_end_object(&js);
        }
        json_end_object(&js);
        text_free(&name);
    }
    json_end_object(&js);
    text_add(out, "\n");
}

/* ---- the schema ---------------------------------------------------------------------------------------------- */

void config_defaults(text *out)
{
    text_add(out, "; Every key of a distill job, with its default. Comments begin with ';' (after a value: "
                  "with a blank before it).\n"
                  "; Later sources win: defaults, this file, environment (DISTILL_TRAIN_LR=0.1), --set "
                  "train.lr=0.1, options.\n");
    for (const schema_section *s = config_schema; s < config_schema + config_schema_n; s++) {
        const char *off = s->named ? "; " : "";
        text_printf(out, "\n; %s\n%s[%s%s]\n", s->meaning, off, s->name, s->named ? " NAME" : "");
        for (const schema_key *k = s->keys; k < s->keys + s->n_keys; k++) {
            text range = {0};
            schema_range(k, &range);
            text_printf(out, "\n; %s\n; %s%s%s\n%s%s =%s%s\n", k->meaning, schema_type_name(k->type),
                        !range.n              ? ""
                        : k->type == KEY_ENUM ? " "
                                              : ": ",
                        range.n ? range.s : "", off, k->name, *k->dflt ? " " : "", k->dflt);
            text_free(&range);
        }
    }
}

void config_schema_json(text *out)
{
    json j = {.out = out, .pretty = true};
    json_put_object(&j, NULL);
    json_put_array(&j, "sections");
    for (const schema_section *s = config_schema; s < config_schema + config_schema_n; s++) {
        json_put_object(&j, NULL);
        json_put_string(&j, "name", s->name);
        json_put_string(&j, "meaning", s->meaning);
        json_put_bool(&j, "named", s->named);
        json_put_bool(&j, "free_keys", s->flags & FREE_KEYS);
        json_put_array(&j, "keys");
        for (const schema_key *k = s->keys; k < s->keys + s->n_keys; k++) {
            bool numbers = k->lo < k->hi;
            json_put_object(&j, NULL);
            json_put_string(&j, "name", k->name);
            json_put_string(&j, "type", schema_type_name(k->type));
            json_put_string(&j, "default", k->dflt);
            json_put_string(&j, "meaning", k->meaning);
            if (k->word)
                json_put_string(&j, "word", k->word);
            if (numbers) {
                json_put_number(&j, k->flags & OPEN_LO ? "above" : "min", k->lo);
                json_put_number(&j, k->flags & OPEN_HI ? "below" : "max", k->hi);
            }
            if (k->choices) {
                json_put_array(&j, "choices");
                for (const choice *c = k->choices; c->text; c++)
                    json_put_string(&j, NULL, c->text);
                json_end_array(&j);
            }
            json_put_bool(&j, "changes_result", !(k->flags & NO_RESULT));
            json_end_object(&j);
        }
        json_end_array(&j);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_end_object(&j);
    text_add(out, "\n");
}
