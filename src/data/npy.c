/* npy.c - one array: header text to type and shape, bytes to a tensor, and back. npz: many in a zip. */
#include "data/npy.h"

#include "base/io.h"
#include "base/io_shared.h"
#include "base/text.h"
#include "data/zip.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

bool npy_is(const unsigned char *bytes, size_t n)
{
    return n >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0;
}

/* ---- the header: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } ---- */

typedef struct head {
    dtype type;
    bool big_endian, fortran;
    shape sh;
} head;

typedef struct cursor {
    const char *p, *end;
    const char *file;
} cursor;

static void skip_blanks(cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

static bool eat(cursor *c, char want)
{
    skip_blanks(c);
    if (c->p == c->end || *c->p != want)
        return false;
    c->p++;
    return true;
}

static bool eat_word(cursor *c, const char *word)
{
    size_t n = strlen(word);
    skip_blanks(c);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
        return false;
    c->p += n;
    return true;
}

static status malformed(const cursor *c, const char *wanted)
{
    char near[17] = {0};
    size_t n = (size_t)(c->end - c->p) < 16 ? (size_t)(c->end - c->p) : 16;
    for (size_t i = 0; i < n; i++)
        near[i] = c->p[i] >= ' ' && c->p[i] < 127 ? c->p[i] : '?';
    return fail(ST_BAD_DATA, "%s: damaged npy header: %s expected at '%s'", c->file, wanted, near);
}

/* A quoted string without escapes into buf. */
static status read_string(cursor *c, char *buf, size_t size, const char *wanted)
{
    skip_blanks(c);
    if (c->p == c->end || (*c->p != '\'' && *c->p != '"'))
        return malformed(c, wanted);
    char quote = *c->p;
    const char *from = c->p + 1, *to = memchr(from, quote, (size_t)(c->end - from));
    if (!to || (size_t)(to - from) >= size || memchr(from, 0, (size_t)(to - from)) ||
        memchr(from, '\\', (size_t)(to - from)))
        return malformed(c, wanted);
    memcpy(buf, from, (size_t)(to - from));
    buf[to - from] = 0;
    c->p = to + 1;
    return ST_OK;
}

static status read_descr(cursor *c, head *h)
{
    char s[32];
    skip_blanks(c);
    if (c->p < c->end && *c->p == '[')
        return fail(ST_BAD_DATA,
                    "%s: structured arrays cannot be read; save each field as an array of its own", c->file);
    TRY(read_string(c, s, sizeof s, "a type such as '<f4'"));
    const char *kind = s + (s[0] && strchr("<>|=", s[0]) ? 1 : 0);
    if (kind[0] == 'O')
        return fail(ST_BAD_DATA,
                    "%s: object arrays hold Python pickles and are not read; save numbers instead", c->file);
    h->type = dtype_from_npy(kind);
    if (h->type == DTYPE_NONE)
        return fail(ST_BAD_DATA,
                    "%s: element type '%s' cannot be read (bool, integers and floats of 2, 4 or 8 bytes can)",
                    c->file, s);
    h->big_endian = s[0] == '>' && dtype_of(h->type)->size > 1;
    return ST_OK;
}

static status read_shape(cursor *c, head *h)
{
    if (!eat(c, '('))
        return malformed(c, "a shape such as (3, 4)");
    while (!eat(c, ')')) {
        int64_t v = 0;
        const char *from = c->p;
        for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++)
            if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *c->p - '0', &v))
                return fail(ST_BAD_DATA, "%s: npy dimension does not fit 63 bits", c->file);
        if (c->p == from)
            return malformed(c, "a dimension (a whole number >= 0)");
        (void)eat(c, 'L'); /* Python 2 wrote (3L, 4L) */
        if (h->sh.rank == RANK_MAX)
            return fail(ST_BAD_DATA, "%s: npy array of more than %d dimensions", c->file, RANK_MAX);
        h->sh.dim[h->sh.rank++] = v;
        if (!eat(c, ',')) {
            if (!eat(c, ')'))
                return malformed(c, "',' or ')'");
            break;
        }
    }
    return ST_OK;
}

static status parse_head(const char *file, const char *dict, size_t n, head *h)
{
    cursor c = {dict, dict + n, file};
    bool descr = false, order = false, dims = false;
    *h = (head){0};
    if (!eat(&c, '{'))
        return malformed(&c, "'{'");
    while (!eat(&c, '}')) {
        char key[32];
        TRY(read_string(&c, key, sizeof key, "a key"));
        if (!eat(&c, ':'))
            return malformed(&c, "':'");
        if (strcmp(key, "descr") == 0 && !descr) {
            TRY(read_descr(&c, h));
            descr = true;
        } else if (strcmp(key, "fortran_order") == 0 && !order) {
            h->fortran = eat_word(&c, "True");
            if (!h->fortran && !eat_word(&c, "False"))
                return malformed(&c, "True or False");
            order = true;
        } else if (strcmp(key, "shape") == 0 && !dims) {
            TRY(read_shape(&c, h));
            dims = true;
        } else {
            return fail(ST_BAD_DATA, "%s: npy header has an unknown or second key '%s'", file, key);
        }
        if (!eat(&c, ',')) {
            if (!eat(&c, '}'))
                return malformed(&c, "',' or '}'");
            break;
        }
    }
    skip_blanks(&c);
    if (c.p != c.end)
        return malformed(&c, "the end of the header");
    if (!descr || !order || !dims)
        return fail(ST_BAD_DATA, "%s: npy header lacks '%s'", file,
                    !descr   ? "descr"
                    : !order ? "fortran_order"
                             : "shape");
    return ST_OK;
}

/* ---- the data ---- */

static void swap_bytes(unsigned char *p, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++, p += size)
        for (size_t k = 0; k < size / 2; k++) {
            unsigned char t = p[k];
            p[k] = p[size - 1 - k];
            p[size - 1 - k] = t;
        }
}

/* Fortran order (first index fastest) to C order. */
static status to_c_order(tensor *t)
{
    size_t size = dtype_of(t->type)->size, bytes = tensor_bytes(t);
    unsigned char *to;
    const unsigned char *from = t->data;
    int64_t count = shape_count(&t->sh), at[RANK_MAX] = {0}, stride[RANK_MAX], offset = 0;
    TRY(mem_alloc(&to, bytes, 1));
    for (int d = 0; d < t->sh.rank; d++)
        stride[d] = d ? stride[d - 1] * t->sh.dim[d - 1] : 1;
    for (int64_t i = 0; i < count; i++) {
        memcpy(to + (size_t)i * size, from + (size_t)offset * size, size);
        for (int d = t->sh.rank - 1; d >= 0; d--) {
            offset += stride[d];
            if (++at[d] < t->sh.dim[d])
                break;
            offset -= stride[d] * t->sh.dim[d];
            at[d] = 0;
        }
    }
    mem_free(t->data);
    t->data = to;
    return ST_OK;
}

/* Version and header; where the data starts into *start. */
static status parse_start(const char *name, const unsigned char *b, size_t n, head *h, size_t *start)
{
    if (!npy_is(b, n))
        return fail(ST_BAD_DATA, "%s: not an npy file (it does not start with \\x93NUMPY)", name);
    if (n < 10)
        return fail(ST_BAD_DATA, "%s: the npy header ends early (%zu bytes)", name, n);
    unsigned major = b[6];
    if (major < 1 || major > 3 || b[7] != 0)
        return fail(ST_BAD_DATA, "%s: npy format version %u.%u is unknown (1.0, 2.0 and 3.0 exist)", name,
                    major, b[7]);
    size_t at = major == 1 ? 10 : 12;
    if (n < at)
        return fail(ST_BAD_DATA, "%s: the npy header ends early (%zu bytes)", name, n);
    size_t len = b[8] | (size_t)b[9] << 8;
    if (major > 1)
        len |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (len > n - at)
        return fail(ST_BAD_DATA, "%s: npy header of %zu bytes in a file of %zu", name, len, n);
    *start = at + len;
    return parse_head(name, (const char *)b + at, len, h);
}

static status check_shape(const char *name, const head *h, const limits *lim, size_t *bytes)
{
    char sh[200];
    status st = shape_bytes(&h->sh, h->type, bytes);
    if (st == ST_OK && (uint64_t)shape_count(&h->sh) > lim->elements)
        st = fail(ST_BAD_DATA, "shape %s has more elements than limits.elements = %" PRIu64, shape_print(&h->sh, sh), lim->elements);
    return st == ST_OK ? st : fail_within(st, "%s", name);
}

static status wrong_size(const char *name, const head *h, size_t want, uint64_t has)
{
    char sh[200];
    return fail(ST_BAD_DATA, "%s: %s %s needs %zu bytes after the header, the file has %" PRIu64 "%s", name, dtype_of(h->type)->name,
                shape_print(&h->sh, sh), want, has, has < want ? "; it was cut off" : "; too many");
}

status npy_parse(const char *name, unsigned char *bytes, size_t n, const limits *lim, tensor *out)
{
    head h;
    size_t start = 0, want = 0;
    status st = ST_OK;
    *out = (tensor){0};
    TRY_DONE(parse_start(name, bytes, n, &h, &start));
    TRY_DONE(check_shape(name, &h, lim, &want));
    if (n - start != want) {
        st = wrong_size(name, &h, want, n - start);
        goto done;
    }
    memmove(bytes, bytes + start, want);
    *out = (tensor){.type = h.type, .sh = h.sh, .data = bytes};
    if (h.big_endian)
        swap_bytes(bytes, want / dtype_of(h.type)->size, dtype_of(h.type)->size);
    if (h.type == DTYPE_BOOL)
        for (size_t i = 0; i < want; i++)
            bytes[i] = bytes[i] != 0;
    bytes = NULL;
    if (h.fortran && h.sh.rank > 1)
        st = to_c_order(out);
done:
    mem_free(bytes);
    if (st != ST_OK)
        tensor_free(out);
    return st;
}

status npy_read(const char *path, const limits *lim, tensor *out)
{
    unsigned char *bytes;
    size_t n;
    *out = (tensor){0};
    TRY(io_read_file(path, lim->data_file, &bytes, &n));
    return npy_parse(path, bytes, n, lim, out);
}

/* ---- row by row ---- */

enum { HEAD_MAX = 65536 }; /* version 1 has no longer ones */

status npy_rows_open(const char *path, const limits *lim, npy_rows *out)
{
    unsigned char *b = NULL;
    uint64_t size;
    size_t got, want = 0, start = 0;
    head h;
    status st = ST_OK;
    *out = (npy_rows){.path = path, .fd = -1};
    TRY(io_open_read(path, &out->fd, &size));
    TRY_DONE(mem_alloc(&b, HEAD_MAX, 1));
    TRY_DONE(io_read_at(out->fd, path, 0, b, size < HEAD_MAX ? (size_t)size : HEAD_MAX, &got));
    TRY_DONE(parse_start(path, b, got, &h, &start));
    TRY_DONE(check_shape(path, &h, lim, &want));
    if (size - start != want)
        st = wrong_size(path, &h, want, size - start);
    else if (h.sh.rank < 1 || h.sh.dim[0] < 1)
        st = fail(ST_BAD_DATA, "%s: the array has no rows", path);
    else if (h.big_endian || (h.fortran && h.sh.rank > 1))
        st = fail(ST_BAD_DATA, "%s: rows are read of arrays in C order and little endian alone; numpy.ascontiguousarray makes them", path);
    if (st == ST_OK)
        *out = (npy_rows){path, out->fd, h.type, h.sh, start, want / (size_t)h.sh.dim[0]};
done:
    mem_free(b);
    return st;
}

status npy_rows_read(const npy_rows *r, size_t first, size_t n, void *to)
{
    size_t got, bytes = n * r->row;
    TRY(io_read_at(r->fd, r->path, r->start + (uint64_t)first * r->row, to, bytes, &got));
    if (got < bytes)
        return fail(ST_BAD_DATA, "%s: it was cut off while it was read", r->path);
    for (size_t i = 0; r->type == DTYPE_BOOL && i < bytes; i++)
        ((unsigned char *)to)[i] = ((unsigned char *)to)[i] != 0;
    return ST_OK;
}

void npy_rows_close(npy_rows *r)
{
    io_close(r->fd);
    r->fd = -1;
}

/* ---- writing ---- */

/* Magic, version, length and text, padded with blanks so that the data starts at a multiple of 64. */
static status make_head(const tensor *t, text *out)
{
    const dtype_info *d = dtype_of(t->type);
    unsigned char start[12] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    char dict[512];
    size_t used = (size_t)snprintf(dict, sizeof dict, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                                   d->size > 1 ? '<' : '|', d->npy);
    for (int i = 0; i < t->sh.rank; i++)
        used += (size_t)snprintf(dict + used, sizeof dict - used, "%s%" PRId64, i ? ", " : "", t->sh.dim[i]);
    used += (size_t)snprintf(dict + used, sizeof dict - used, "%s), }", t->sh.rank == 1 ? "," : "");
    size_t total = (10 + used + 1 + 63) / 64 * 64, len = total - 10;
    start[8] = (unsigned char)len;
    start[9] = (unsigned char)(len >> 8);
    text_add_n(out, start, 10);
    text_add_n(out, dict, used);
    for (size_t i = 10 + used; i < total - 1; i++)
        text_add(out, " ");
    text_add(out, "\n");
    return out->st;
}

status npy_write(const char *path, const tensor *t)
{
    text h = {0};
    file_writer w = {.fd = -1};
    status st = make_head(t, &h);
    if (st == ST_OK)
        st = file_begin(&w, path);
    if (st == ST_OK) {
        file_write(&w, h.s, h.n);
        file_write(&w, t->data, tensor_bytes(t));
        st = file_commit(&w);
    }
    text_free(&h);
    return st;
}

/* ---- npz ---- */

static status read_members(zip_archive *z, const limits *lim, tensor_list *out)
{
    for (size_t i = 0; i < z->members; i++) {
        const char *member = z->at[i].name;
        size_t n = strlen(member), size;
        unsigned char *bytes;
        char where[512];
        tensor t;
        if (n < 5 || strcmp(member + n - 4, ".npy") != 0)
            return fail(ST_BAD_DATA, "%s: member '%s' is no array (its name does not end in .npy)", z->path,
                        member);
        TRY(zip_extract(z, i, &bytes, &size));
        snprintf(where, sizeof where, "%s: member '%s'", z->path, member);
        TRY(npy_parse(where, bytes, size, lim, &t));
        status st = mem_alloc(&t.name, n - 3, 1);
        if (st != ST_OK) {
            tensor_free(&t);
            return st;
        }
        memcpy(t.name, member, n - 4);
        TRY(tensor_list_add(out, &t));
    }
    return ST_OK;
}

status npz_parse(const char *name, const unsigned char *bytes, size_t n, const limits *lim, tensor_list *out)
{
    zip_archive z;
    *out = (tensor_list){0};
    if (!zip_is(bytes, n))
        return fail(ST_BAD_DATA, "%s: not an npz file (a zip archive starts with PK)", name);
    TRY(zip_open(&z, name, bytes, n, lim));
    status st = read_members(&z, lim, out);
    zip_close(&z);
    if (st != ST_OK)
        tensor_list_free(out);
    return st;
}

status npz_read(const char *path, const limits *lim, tensor_list *out)
{
    unsigned char *bytes;
    size_t n;
    *out = (tensor_list){0};
    TRY(io_read_file(path, lim->data_file, &bytes, &n));
    status st = npz_parse(path, bytes, n, lim, out);
    mem_free(bytes);
    return st;
}

static status write_members(zip_writer *w, const tensor *at, size_t n, bool deflated)
{
    text start = {0}, name = {0};
    status st = ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        start.n = name.n = 0;
        text_printf(&name, "%s.npy", at[i].name ? at[i].name : "");
        st = name.st != ST_OK ? name.st : make_head(&at[i], &start);
        if (st == ST_OK)
            st = zip_add(w, name.s, start.s, start.n, at[i].data, tensor_bytes(&at[i]), deflated);
    }
    text_free(&start);
    text_free(&name);
    return st;
}

status npz_write(const char *path, const tensor *at, size_t n, bool deflated)
{
    zip_writer w;
    TRY(zip_begin(&w, path));
    status st = write_members(&w, at, n, deflated);
    if (st != ST_OK) {
        zip_abandon(&w);
        return st;
    }
    return zip_finish(&w);
}
