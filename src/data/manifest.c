/* manifest.c - a CSV file that lists images: path,label[,split,weight].
 *
 * RFC 4180 quoting, LF or CRLF, a UTF-8 byte order mark is skipped. The file is read into memory and cut into
 * fields in place. */
#include "base/io.h"
#include "base/mem.h"
#include "data/source.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#define FIELDS 64

typedef struct csv {
    const char *path;
    char *p, *end; /* what is left; *end is 0 */
    uint64_t line; /* of the row that was read last */
    uint64_t next_line, line_max;
    char *field[FIELDS];
    int fields;
} csv;

/* One quoted field in place: "" becomes ". Leaves c->p after the closing quote. */
static status read_quoted(csv *c)
{
    char *to = ++c->p;
    for (;; c->p++) {
        if (c->p == c->end)
            return fail(ST_BAD_DATA, "%s:%" PRIu64 ": a quoted cell is not closed", c->path, c->line);
        if (*c->p == '\n')
            c->next_line++;
        if (*c->p == '"') {
            if (c->p[1] != '"')
                break;
            c->p++;
        }
        *to++ = *c->p;
    }
    c->p++;
    if (c->p < c->end && *c->p != ',' && *c->p != '\n' && *c->p != '\r')
        return fail(ST_BAD_DATA, "%s:%" PRIu64 ": text after a closing quote", c->path, c->line);
    *to = 0;
    return ST_OK;
}

/* The next row that is not empty into c->field; *got false at the end. */
static status read_row(csv *c, bool *got)
{
    *got = false;
    while (c->p < c->end && (*c->p == '\n' || *c->p == '\r')) {
        c->next_line += *c->p == '\n';
        c->p++;
    }
    if (c->p == c->end)
        return ST_OK;
    const char *start = c->p;
    c->line = c->next_line;
    c->fields = 0;
    for (;;) {
        if (c->fields == FIELDS)
            return fail(ST_BAD_DATA, "%s:%" PRIu64 ": more than %d cells", c->path, c->line, FIELDS);
        if (*c->p == '"') {
            c->field[c->fields++] = c->p + 1;
            TRY(read_quoted(c));
        } else {
            c->field[c->fields++] = c->p;
            c->p += strcspn(c->p, ",\r\n\"");
            if (*c->p == '"')
                return fail(ST_BAD_DATA, "%s:%" PRIu64 ": a quote inside an unquoted cell", c->path, c->line);
        }
        if ((uint64_t)(c->p - start) > c->line_max)
            return fail(ST_BAD_DATA,
                        "%s:%" PRIu64 ": a line of more than limits.ini_line = %" PRIu64 " bytes", c->path,
                        c->line, c->line_max);
        char stop = *c->p;
        *c->p = 0;
        if (c->p == c->end)
            break;
        c->p++;
        if (stop == ',')
            continue;
        if (stop == '\r' && *c->p == '\n')
            c->p++;
        c->next_line++;
        break;
    }
    *got = true;
    return ST_OK;
}

typedef enum column { COL_PATH, COL_LABEL, COL_SPLIT, COL_WEIGHT, COLUMNS } column;
static const char *const column_name[COLUMNS] = {"path", "label", "split", "weight"};

static status read_header(csv *c, int at[COLUMNS])
{
    bool got;
    for (int k = 0; k < COLUMNS; k++)
        at[k] = -1;
    TRY(read_row(c, &got));
    if (!got)
        return fail(ST_BAD_DATA, "%s: is empty; the first line names the columns: path,label[,split,weight]",
                    c->path);
    for (int i = 0; i < c->fields; i++)
        for (int k = 0; k < COLUMNS; k++)
            if (strcasecmp(c->field[i], column_name[k]) == 0) {
                if (at[k] >= 0)
                    return fail(ST_BAD_DATA, "%s:%" PRIu64 ": two columns '%s'", c->path, c->line,
                                column_name[k]);
                at[k] = i;
            }
    if (at[COL_PATH] < 0)
        return fail(ST_BAD_DATA,
                    "%s:%" PRIu64
                    ": no column 'path'; the first line names the columns: path,label[,split,weight]",
                    c->path, c->line);
    return ST_OK;
}

static status check_path(const csv *c, const char *path)
{
    if (!*path)
        return fail(ST_BAD_DATA, "%s:%" PRIu64 ": an empty path", c->path, c->line);
    if (*path == '/')
        return fail(ST_BAD_DATA, "%s:%" PRIu64 ": '%s' is absolute; paths are relative to the manifest",
                    c->path, c->line, path);
    for (const char *p = path; *p; p += *p == '/') {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return fail(ST_BAD_DATA, "%s:%" PRIu64 ": '%s' contains '..'", c->path, c->line, path);
        p += n;
    }
    return ST_OK;
}

/* 0 train, 1 val, 2 test. */
static status read_split(const csv *c, const char *s, int *out)
{
    static const struct {
        const char *word;
        int split;
    } words[] = {{"", 0}, {"train", 0}, {"val", 1}, {"valid", 1}, {"validation", 1}, {"test", 2}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(s, words[i].word) == 0) {
            *out = words[i].split;
            return ST_OK;
        }
    return fail(ST_BAD_DATA, "%s:%" PRIu64 ": split '%s' is none of train, val, test", c->path, c->line, s);
}

/* Rows of one part while they are collected. `label` points into the file's text. */
typedef struct rows {
    source *s;
    const char **label;
    size_t cap, label_cap, weight_cap;
} rows;

static status add_row(rows *r, const csv *c, const char *path, const char *label, const char *weight)
{
    source *s = r->s;
    double w = 1;
    if (weight && *weight) {
        status st = parse_double(weight, "weight", &w);
        if (st != ST_OK || w < 0 || w > (double)__FLT_MAX__)
            return fail(ST_BAD_DATA, "%s:%" PRIu64 ": weight '%s' is no number >= 0", c->path, c->line,
                        weight);
    }
    TRY(mem_push(&s->file, &r->cap, s->n, sizeof *s->file));
    TRY(mem_push(&r->label, &r->label_cap, s->n, sizeof *r->label));
    if (weight) {
        TRY(mem_push(&s->weight, &r->weight_cap, s->n, sizeof *s->weight));
        s->weight[s->n] = (float)w;
    }
    TRY(arena_strdup(&s->names, &s->file[s->n], path));
    r->label[s->n++] = label;
    return ST_OK;
}

static const char *cell(const csv *c, int at)
{
    return at >= 0 ? c->field[at] : NULL;
}

/* All rows into three piles by split; `only` >= 0: rows of any split into that pile. */
static status read_rows(csv *c, const int at[COLUMNS], int only, uint64_t most, rows pile[3])
{
    bool got;
    int needed = 0;
    for (int k = 0; k < COLUMNS; k++)
        needed = at[k] >= needed ? at[k] + 1 : needed;
    for (uint64_t n = 0;; n++) {
        int split = 0;
        TRY(read_row(c, &got));
        if (!got)
            return ST_OK;
        if (c->fields < needed)
            return fail(ST_BAD_DATA, "%s:%" PRIu64 ": %d cells, the header has at least %d", c->path, c->line,
                        c->fields, needed);
        if (n >= most || n >= UINT32_MAX - 1)
            return fail(ST_BAD_DATA, "%s:%" PRIu64 ": more than limits.samples = %" PRIu64 " rows", c->path,
                        c->line, most);
        TRY(check_path(c, cell(c, at[COL_PATH])));
        if (at[COL_SPLIT] >= 0)
            TRY(read_split(c, cell(c, at[COL_SPLIT]), &split));
        TRY(add_row(&pile[only >= 0 ? only : split], c, cell(c, at[COL_PATH]), cell(c, at[COL_LABEL]),
                    cell(c, at[COL_WEIGHT])));
    }
}

/* Moves a pile into the set as `part`. */
static status keep(source_set *set, rows *r, data_part part, const char *path)
{
    source *s = &set->part[part];
    const char *slash = strrchr(path, '/');
    *s = *r->s;
    *r->s = (source){0};
    s->kind = SOURCE_FILES;
    TRY(mem_strdup(&s->place, path));
    TRY(mem_strdup(&s->dir, slash ? path : "."));
    if (slash)
        s->dir[slash == path ? 1 : slash - path] = 0;
    if (r->label[0])
        TRY(classes_number(set, s, r->label));
    return files_identify(set, s, part == DATA_TRAIN ? "train" : "val");
}

static status load_rows(const data_options *o, const char *path, int only, source_set *set)
{
    source found[3] = {0};
    rows pile[3] = {{.s = &found[0]}, {.s = &found[1]}, {.s = &found[2]}};
    csv c = {.path = path, .next_line = 1, .line_max = o->lim.ini_line};
    unsigned char *bytes;
    size_t n;
    int at[COLUMNS], train = only < 0 ? 0 : only;
    status st = ST_OK;
    set->format = "CSV manifest";
    TRY(io_read_file(path, o->lim.data_file, &bytes, &n));
    c.p = (char *)bytes;
    c.end = c.p + n;
    if (n >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
        c.p += 3;
    if (memchr(bytes, 0, n)) {
        st = fail(ST_BAD_DATA, "%s: contains NUL bytes; a manifest is text in UTF-8", path);
        goto done;
    }
    TRY_DONE(read_header(&c, at));
    TRY_DONE(read_rows(&c, at, only, o->lim.samples, pile));
    if (found[train].n == 0) {
        st = fail(ST_BAD_DATA, "%s: no %s rows", path, only > 0 ? "validation" : "training");
        goto done;
    }
    TRY_DONE(keep(set, &pile[train], (data_part)train, path));
    if (only < 0 && (found[1].n || found[2].n)) {
        TRY_DONE(keep(set, &pile[found[1].n ? 1 : 2], DATA_VAL, path));
        set->has_val = true;
    }
done:
    for (int k = 0; k < 3; k++) {
        mem_free(pile[k].label);
        source_free(&found[k]);
    }
    mem_free(bytes);
    return st;
}

static status load(const data_options *o, const char *path, source_set *set)
{
    if (!io_is_dir(path))
        return load_rows(o, path, -1, set);
    char *file;
    TRY(path_join(&file, path, "manifest.csv"));
    status st = load_rows(o, file, -1, set);
    mem_free(file);
    return st;
}

static status load_part(const data_options *o, const char *path, const char *labels, data_part part,
                        source_set *set)
{
    if (labels)
        return fail(ST_CONFIG, "%s: a manifest holds its labels itself; %s cannot be added", path, labels);
    return load_rows(o, path, (int)part, set);
}

static status recognise(const char *path, bool is_dir, bool *yes)
{
    size_t n = strlen(path);
    *yes = !is_dir && n > 4 && strcasecmp(path + n - 4, ".csv") == 0;
    if (!is_dir)
        return ST_OK;
    char *file;
    TRY(path_join(&file, path, "manifest.csv"));
    *yes = io_exists(file);
    mem_free(file);
    return ST_OK;
}

const data_format format_manifest = {
    .kind = DATA_MANIFEST,
    .looked_for = "a .csv file or manifest.csv",
    .recognise = recognise,
    .load = load,
    .load_part = load_part,
};
