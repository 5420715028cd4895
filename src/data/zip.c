/* zip.c - reading and writing zip archives within bounds. */
#include "data/zip.h"

#include "base/mem.h"
#include "data/gzip.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    LOCAL = 0x04034b50,
    CENTRAL = 0x02014b50,
    END = 0x06054b50,
    END64 = 0x06064b50,
    LOCATOR64 = 0x07064b50
};
enum { LOCAL_SIZE = 30, CENTRAL_SIZE = 46, END_SIZE = 22, END64_SIZE = 56, LOCATOR64_SIZE = 20 };
enum { STORED = 0, DEFLATED = 8 };

static uint32_t get16(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t get32(const unsigned char *p)
{
    return get16(p) | get16(p + 2) << 16;
}

static uint64_t get64(const unsigned char *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

bool zip_is(const unsigned char *bytes, size_t n)
{
    return n >= 4 && (get32(bytes) == LOCAL || get32(bytes) == END);
}

/* The directory's place and number of entries. */
static status find_directory(const zip_archive *z, uint64_t *offset, uint64_t *size, uint64_t *count)
{
    const unsigned char *b = z->bytes;
    size_t at = z->n >= END_SIZE ? z->n - END_SIZE : 0,
           lowest = z->n > END_SIZE + 65535u ? z->n - END_SIZE - 65535u : 0;
    bool found = false;
    for (; z->n >= END_SIZE && !found; at--) {
        found = get32(b + at) == END && get16(b + at + 20) == z->n - at - END_SIZE;
        if (found || at == lowest)
            break;
    }
    if (!found)
        return fail(ST_BAD_DATA,
                    "%s: no end of a zip directory in %zu bytes; the file was cut off or is no npz", z->path,
                    z->n);
    *count = get16(b + at + 10);
    *size = get32(b + at + 12);
    *offset = get32(b + at + 16);
    if (at >= LOCATOR64_SIZE && get32(b + at - LOCATOR64_SIZE) == LOCATOR64) {
        uint64_t end = get64(b + at - LOCATOR64_SIZE + 8);
        if (end > z->n || z->n - end < END64_SIZE || get32(b + end) != END64)
            return fail(ST_BAD_DATA, "%s: the zip64 end record is not at byte %" PRIu64, z->path, end);
        *count = get64(b + end + 32);
        *size = get64(b + end + 40);
        *offset = get64(b + end + 48);
    }
    if (*offset > at || *size > at - *offset)
        return fail(ST_BAD_DATA,
                    "%s: the zip directory (%" PRIu64 " bytes at %" PRIu64 ") lies outside the file", z->path,
                    *size, *offset);
    if (*count > *size / CENTRAL_SIZE)
        return fail(ST_BAD_DATA,
                    "%s: %" PRIu64 " zip members do not fit into a directory of %" PRIu64 " bytes", z->path,
                    *count, *size);
    return ST_OK;
}

static bool has_parent_step(const char *name)
{
    for (const char *p = name; p; p = strchr(p, '/'), p = p ? p + 1 : NULL)
        if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == 0))
            return true;
    return false;
}

/* Values that do not fit 32 bits stand in the extra field 1, in this order. */
static bool read_zip64(zip_member *m, const unsigned char *x, size_t n)
{
    uint64_t *const want[] = {&m->size, &m->packed, &m->offset};
    bool needed = false;
    for (size_t i = 0; i < 3; i++)
        needed |= *want[i] == UINT32_MAX;
    if (!needed)
        return true;
    while (n >= 4) {
        size_t len = get16(x + 2);
        if (len > n - 4)
            return false;
        if (get16(x) == 1) {
            const unsigned char *v = x + 4;
            for (size_t i = 0; i < 3; i++) {
                if (*want[i] != UINT32_MAX)
                    continue;
                if (len < 8)
                    return false;
                *want[i] = get64(v);
                v += 8;
                len -= 8;
            }
            return true;
        }
        x += 4 + len;
        n -= 4 + len;
    }
    return false;
}

static status read_member(const zip_archive *z, const unsigned char *c, size_t left, const limits *lim,
                          zip_member *m, size_t *used)
{
    if (left < CENTRAL_SIZE || get32(c) != CENTRAL)
        return fail(ST_BAD_DATA, "%s: damaged zip directory at byte %zu", z->path, (size_t)(c - z->bytes));
    size_t name_n = get16(c + 28), extra_n = get16(c + 30), comment_n = get16(c + 32);
    *used = CENTRAL_SIZE + name_n + extra_n + comment_n;
    if (*used > left || name_n == 0 || name_n > lim->name || memchr(c + CENTRAL_SIZE, 0, name_n))
        return fail(ST_BAD_DATA, "%s: damaged zip member name at byte %zu", z->path, (size_t)(c - z->bytes));
    m->flags = get16(c + 8);
    m->method = get16(c + 10);
    m->crc = get32(c + 16);
    m->packed = get32(c + 20);
    m->size = get32(c + 24);
    m->offset = get32(c + 42);
    TRY(mem_alloc(&m->name, name_n + 1, 1));
    memcpy(m->name, c + CENTRAL_SIZE, name_n);
    if (!read_zip64(m, c + CENTRAL_SIZE + name_n, extra_n))
        return fail(ST_BAD_DATA, "%s: member '%s': damaged zip64 sizes", z->path, m->name);
    if (m->flags & 1)
        return fail(ST_BAD_DATA, "%s: member '%s' is encrypted", z->path, m->name);
    if (m->method != STORED && m->method != DEFLATED)
        return fail(ST_BAD_DATA,
                    "%s: member '%s' uses zip method %u; stored (0) and deflated (8) can be read", z->path,
                    m->name, m->method);
    if (has_parent_step(m->name))
        return fail(ST_BAD_DATA, "%s: member name '%s' contains '..'", z->path, m->name);
    return ST_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static status refuse_duplicates(const zip_archive *z)
{
    const char **name;
    TRY(mem_alloc(&name, z->members, sizeof *name));
    for (size_t i = 0; i < z->members; i++)
        name[i] = z->at[i].name;
    qsort(name, z->members, sizeof *name, by_name);
    status st = ST_OK;
    for (size_t i = 1; i < z->members && st == ST_OK; i++)
        if (strcmp(name[i - 1], name[i]) == 0)
            st = fail(ST_BAD_DATA, "%s: two members are called '%s'", z->path, name[i]);
    mem_free(name);
    return st;
}

status zip_open(zip_archive *z, const char *path, const unsigned char *bytes, size_t n, const limits *lim)
{
    uint64_t offset = 0, size = 0, count = 0;
    *z = (zip_archive){.path = path, .bytes = bytes, .n = n};
    if (!size_mul(n, lim->data_ratio, &z->budget))
        z->budget = SIZE_MAX;
    if (z->budget < UNPACK_FREE)
        z->budget = UNPACK_FREE;
    if (z->budget > lim->data_file)
        z->budget = (size_t)lim->data_file;
    TRY(find_directory(z, &offset, &size, &count));
    if (count > lim->tensors)
        return fail(ST_BAD_DATA, "%s: %" PRIu64 " members are more than limits.tensors = %" PRIu64, path,
                    count, lim->tensors);
    status st = mem_alloc(&z->at, (size_t)count, sizeof *z->at);
    const unsigned char *c = bytes + offset;
    size_t left = (size_t)size, used = 0;
    for (; st == ST_OK && z->members < count; c += used, left -= used) {
        st = read_member(z, c, left, lim, &z->at[z->members], &used);
        z->members++;
    }
    if (st == ST_OK)
        st = refuse_duplicates(z);
    if (st != ST_OK)
        zip_close(z);
    return st;
}

void zip_close(zip_archive *z)
{
    for (size_t i = 0; i < z->members; i++)
        mem_free(z->at[i].name);
    mem_free(z->at);
    *z = (zip_archive){0};
}

/* Where a member's packed bytes start. */
static status locate(const zip_archive *z, const zip_member *m, const unsigned char **from)
{
    if (m->offset > z->n || z->n - m->offset < LOCAL_SIZE || get32(z->bytes + m->offset) != LOCAL)
        return fail(ST_BAD_DATA, "%s: member '%s' is not at byte %" PRIu64, z->path, m->name, m->offset);
    const unsigned char *l = z->bytes + m->offset;
    size_t name_n = get16(l + 26), head = LOCAL_SIZE + name_n + get16(l + 28),
           left = z->n - (size_t)m->offset;
    if (head > left || m->packed > left - head)
        return fail(ST_BAD_DATA, "%s: member '%s' (%" PRIu64 " bytes) goes past the end of the file", z->path,
                    m->name, m->packed);
    if (name_n != strlen(m->name) || memcmp(l + LOCAL_SIZE, m->name, name_n) != 0)
        return fail(ST_BAD_DATA, "%s: member '%s' has another name in its own header", z->path, m->name);
    *from = l + head;
    return ST_OK;
}

static void *z_alloc(void *ctx, unsigned n, unsigned size)
{
    void *p;
    (void)ctx;
    return mem_alloc(&p, n, size) == ST_OK ? p : NULL;
}

static void z_free(void *ctx, void *p)
{
    (void)ctx;
    mem_free(p);
}

/* Exactly m->size bytes must come out of exactly m->packed. Memory grows with what comes. */
static status inflate_member(const zip_archive *z, const zip_member *m, const unsigned char *from,
                             unsigned char **out)
{
    size_t cap = 0, used = 0, at = 0, packed = (size_t)m->packed, size = (size_t)m->size;
    z_stream s = {.zalloc = z_alloc, .zfree = z_free};
    int r = inflateInit2(&s, -15);
    status st = r == Z_OK ? ST_OK : fail(ST_OOM, "%s: no memory for inflating", z->path);
    if (r != Z_OK)
        return st;
    while (r == Z_OK) {
        if (used == cap && cap <= size) {
            cap = cap ? cap * 2 : packed > 4096 ? packed * 4 : 16384;
            cap = cap > size ? size + 1 : cap; /* one byte more, so that "too much" shows itself */
            TRY_DONE(mem_grow(out, cap, 1));
        }
        size_t in = packed - at > 1u << 30 ? 1u << 30 : packed - at,
               room = cap - used > 1u << 30 ? 1u << 30 : cap - used;
        s.next_in = (Bytef *)(uintptr_t)(from + at);
        s.avail_in = (uInt)in;
        s.next_out = *out + used;
        s.avail_out = (uInt)room;
        r = inflate(&s, Z_NO_FLUSH);
        at += in - s.avail_in;
        used += room - s.avail_out;
        if (used > size)
            break;
    }
    if (r == Z_MEM_ERROR)
        st = fail(ST_OOM, "%s: no memory for inflating", z->path);
    else if (r != Z_STREAM_END || used != size || at != packed)
        st = fail(ST_BAD_DATA, "%s: member '%s': damaged data: %zu of %zu bytes unpacked%s%s", z->path,
                  m->name, used, size, s.msg ? ": " : "", s.msg ? s.msg : "");
done:
    (void)inflateEnd(&s);
    return st;
}

status zip_extract(zip_archive *z, size_t member, unsigned char **out, size_t *out_n)
{
    const zip_member *m = &z->at[member];
    const unsigned char *from = NULL;
    status st = ST_OK;
    *out = NULL;
    *out_n = 0;
    TRY(locate(z, m, &from));
    if (m->size > z->budget)
        return fail(ST_BAD_DATA,
                    "%s: member '%s' unpacks to %" PRIu64
                    " bytes, more than the %zu left for this archive of %zu "
                    "(limits.data_file, limits.data_ratio); a zip bomb?",
                    z->path, m->name, m->size, z->budget, z->n);
    z->budget -= (size_t)m->size;
    if (m->method == DEFLATED) {
        st = inflate_member(z, m, from, out);
    } else if (m->packed != m->size) {
        st = fail(ST_BAD_DATA, "%s: stored member '%s' has two sizes, %" PRIu64 " and %" PRIu64, z->path,
                  m->name, m->packed, m->size);
    } else {
        st = mem_alloc(out, (size_t)m->size, 1);
        if (st == ST_OK)
            memcpy(*out, from, (size_t)m->size);
    }
    if (st == ST_OK && crc32_z(0, *out, (size_t)m->size) != m->crc)
        st = fail(ST_BAD_DATA, "%s: member '%s': CRC differs; the file is damaged", z->path, m->name);
    if (st != ST_OK) {
        mem_free(*out);
        *out = NULL;
        return st;
    }
    *out_n = (size_t)m->size;
    return ST_OK;
}

/* ---- writing ---- */

static unsigned char *put16(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
    return p + 2;
}

static unsigned char *put32(unsigned char *p, uint32_t v)
{
    return put16(put16(p, v & 0xffff), v >> 16);
}

static unsigned char *put64(unsigned char *p, uint64_t v)
{
    return put32(put32(p, (uint32_t)v), (uint32_t)(v >> 32));
}

static uint32_t cut32(uint64_t v)
{
    return v >= UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

/* The fields that local header and directory share, from "version needed" to the sizes. 1 January 1980 as
 * date. */
static unsigned char *put_common(unsigned char *p, const zip_member *m, bool big)
{
    p = put16(p, big ? 45 : 20);
    p = put16(p, 1u << 11); /* names are UTF-8 */
    p = put16(p, m->method);
    p = put16(p, 0);
    p = put16(p, 1 << 5 | 1);
    p = put32(p, m->crc);
    p = put32(p, big ? UINT32_MAX : (uint32_t)m->packed);
    return put32(p, big ? UINT32_MAX : (uint32_t)m->size);
}

static bool is_big(const zip_member *m)
{
    return m->size >= UINT32_MAX || m->packed >= UINT32_MAX || m->offset >= UINT32_MAX;
}

static void emit(zip_writer *w, const void *p, size_t n)
{
    file_write(&w->file, p, n);
    w->offset += n;
}

status zip_begin(zip_writer *w, const char *path)
{
    *w = (zip_writer){0};
    w->file.fd = -1;
    return file_begin(&w->file, path);
}

static void deflate_piece(z_stream *s, const void *data, size_t n, int flush, int *r)
{
    const unsigned char *p = data;
    do {
        size_t now = n > 1u << 30 ? 1u << 30 : n;
        s->next_in = (Bytef *)(uintptr_t)p;
        s->avail_in = (uInt)now;
        *r = deflate(s, n == now ? flush : Z_NO_FLUSH);
        p += now;
        n -= now;
    } while (n > 0 && *r == Z_OK);
}

/* head and data deflated into a fresh buffer; *packed 0 with ST_OK: too much for one call of zlib, store it. */
static status pack(const void *head, size_t head_n, const void *data, size_t n, unsigned char **out,
                   uint64_t *packed)
{
    z_stream s = {.zalloc = z_alloc, .zfree = z_free};
    *packed = 0;
    *out = NULL;
    if (n > (1u << 30))
        return ST_OK;
    if (deflateInit2(&s, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return fail(ST_OOM, "no memory for deflating %zu bytes", n);
    size_t bound = deflateBound(&s, head_n + n) + 64;
    status st = mem_alloc(out, bound, 1);
    int r = Z_OK;
    if (st == ST_OK) {
        s.next_out = *out;
        s.avail_out = (uInt)bound;
        deflate_piece(&s, head, head_n, Z_NO_FLUSH, &r);
        deflate_piece(&s, data, n, Z_FINISH, &r);
        *packed = s.total_out;
    }
    (void)deflateEnd(&s);
    if (st == ST_OK && r != Z_STREAM_END)
        st = fail(ST_INTERNAL, "deflate gave %d for %zu bytes", r, n);
    return st;
}

status zip_add(zip_writer *w, const char *name, const void *head, size_t head_n, const void *data, size_t n,
               bool deflated)
{
    size_t name_n = strlen(name);
    if (name_n > 65535)
        return fail(ST_CANNOT_CREATE, "%s: member name of %zu bytes is too long for a zip file", w->file.path,
                    name_n);
    TRY(mem_push(&w->at, &w->cap, w->members, sizeof *w->at));
    zip_member *m = &w->at[w->members];
    *m = (zip_member){.method = STORED, .size = head_n + n, .packed = head_n + n, .offset = w->offset};
    TRY(mem_strdup(&m->name, name));
    w->members++;
    m->crc = (uint32_t)crc32_z(crc32_z(0, head, head_n), n ? data : (const void *)"", n);
    unsigned char *packed = NULL;
    if (deflated) {
        uint64_t size;
        status st = pack(head, head_n, n ? data : "", n, &packed, &size);
        if (st != ST_OK) {
            mem_free(packed);
            return st;
        }
        if (size) {
            m->method = DEFLATED;
            m->packed = size;
        }
    }
    unsigned char h[LOCAL_SIZE + 20], *p = h;
    bool big = is_big(m);
    p = put_common(put32(p, LOCAL), m, big);
    p = put16(p, (uint32_t)name_n);
    p = put16(p, big ? 20 : 0);
    emit(w, h, LOCAL_SIZE);
    emit(w, name, name_n);
    if (big) {
        p = put64(put64(put16(put16(h, 1), 16), m->size), m->packed);
        emit(w, h, (size_t)(p - h));
    }
    if (m->method == DEFLATED) {
        emit(w, packed, (size_t)m->packed);
    } else {
        emit(w, head, head_n);
        if (n)
            emit(w, data, n);
    }
    mem_free(packed);
    return w->file.st;
}

static void emit_directory(zip_writer *w)
{
    unsigned char h[128], *p;
    uint64_t start = w->offset;
    for (size_t i = 0; i < w->members; i++) {
        const zip_member *m = &w->at[i];
        bool big = is_big(m);
        size_t name_n = strlen(m->name);
        p = put16(put32(h, CENTRAL), 3 << 8 | 45); /* made by: Unix, 4.5 */
        p = put_common(p, m, big);
        p = put16(p, (uint32_t)name_n);
        p = put16(p, big ? 28 : 0);
        p = put16(put16(put16(p, 0), 0), 0);
        p = put32(p, 0100644u << 16);
        p = put32(p, big ? UINT32_MAX : (uint32_t)m->offset);
        emit(w, h, (size_t)(p - h));
        emit(w, m->name, name_n);
        if (big) {
            p = put64(put64(put64(put16(put16(h, 1), 24), m->size), m->packed), m->offset);
            emit(w, h, (size_t)(p - h));
        }
    }
    uint64_t size = w->offset - start, end = w->offset;
    if (w->members >= 65535 || start >= UINT32_MAX || size >= UINT32_MAX) {
        p = put16(put16(put64(put32(h, END64), END64_SIZE - 12), 45), 45);
        p = put64(put64(put32(put32(p, 0), 0), w->members), w->members);
        p = put64(put64(p, size), start);
        p = put32(put64(put32(put32(p, LOCATOR64), 0), end), 1);
        emit(w, h, (size_t)(p - h));
    }
    uint32_t count = w->members >= 65535 ? 65535 : (uint32_t)w->members;
    p = put16(put16(put16(put16(put32(h, END), 0), 0), count), count);
    p = put16(put32(put32(p, cut32(size)), cut32(start)), 0);
    emit(w, h, (size_t)(p - h));
}

static void free_members(zip_writer *w)
{
    for (size_t i = 0; i < w->members; i++)
        mem_free(w->at[i].name);
    mem_free(w->at);
    w->at = NULL;
    w->members = w->cap = 0;
}

status zip_finish(zip_writer *w)
{
    emit_directory(w);
    free_members(w);
    return file_commit(&w->file);
}

void zip_abandon(zip_writer *w)
{
    free_members(w);
    file_abandon(&w->file);
}
