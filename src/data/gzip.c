/* gzip.c - inflating with zlib; memory grows with what really comes out, not with what a header claims. */
#include "data/gzip.h"

#include "base/io.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>
#include <zlib.h>

bool gzip_is(const unsigned char *bytes, size_t n)
{
    return n >= 3 && bytes[0] == 0x1f && bytes[1] == 0x8b && bytes[2] == 8;
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

/* The most that may come out of n bytes. */
static size_t budget(size_t n, const limits *lim)
{
    size_t most;
    if (!size_mul(n, lim->data_ratio, &most))
        most = SIZE_MAX;
    if (most < UNPACK_FREE)
        most = UNPACK_FREE;
    return most < lim->data_file ? most : (size_t)lim->data_file;
}

static unsigned chunk(size_t n)
{
    return n > (1u << 30) ? 1u << 30 : (unsigned)n;
}

status gzip_inflate(const char *name, const unsigned char *bytes, size_t n, const limits *lim,
                    unsigned char **out, size_t *out_n)
{
    size_t most = budget(n, lim), cap = 0, used = 0, at = 0;
    unsigned char *buf = NULL;
    z_stream z = {.zalloc = z_alloc, .zfree = z_free};
    status st = ST_OK;
    *out = NULL;
    *out_n = 0;
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return fail(ST_OOM, "%s: no memory for inflating", name);
    for (;;) {
        if (used == cap) {
            if (cap > most) {
                st = fail(ST_BAD_DATA,
                          "%s: unpacks to more than %zu bytes from %zu (limits.data_file, "
                          "limits.data_ratio); a gzip bomb?",
                          name, most, n);
                goto done;
            }
            cap = cap ? cap * 2 : n < 4096 ? 16384 : n * 4 < n ? n : n * 4;
            if (cap > most)
                cap = most + 1; /* one more than allowed, so that "too much" shows itself */
            TRY_DONE(mem_grow(&buf, cap, 1));
        }
        z.next_in = (Bytef *)(uintptr_t)(bytes + at);
        z.avail_in = chunk(n - at);
        z.next_out = buf + used;
        z.avail_out = chunk(cap - used);
        unsigned in = z.avail_in, room = z.avail_out;
        int r = inflate(&z, Z_NO_FLUSH);
        at += in - z.avail_in;
        used += room - z.avail_out;
        if (r == Z_STREAM_END) {
            if (at == n)
                break;
            if (!gzip_is(bytes + at, n - at)) {
                st = fail(ST_BAD_DATA, "%s: byte %zu: %zu bytes after the end of the gzip data", name, at,
                          n - at);
                goto done;
            }
            (void)inflateReset(&z); /* cannot fail on a valid stream */
        } else if (r == Z_MEM_ERROR) {
            st = fail(ST_OOM, "%s: no memory for inflating", name);
            goto done;
        } else if (r != Z_OK && !(r == Z_BUF_ERROR && z.avail_out == 0)) {
            if (at == n)
                st = fail(ST_BAD_DATA, "%s: the gzip data ends early (%zu bytes); fetch the file again", name,
                          n);
            else
                st = fail(ST_BAD_DATA, "%s: byte %zu: damaged gzip data: %s", name, at,
                          z.msg ? z.msg : "unknown reason");
            goto done;
        }
    }
    if (used > most) {
        st = fail(
            ST_BAD_DATA,
            "%s: unpacks to more than %zu bytes from %zu (limits.data_file, limits.data_ratio); a gzip bomb?",
            name, most, n);
        goto done;
    }
    *out = buf;
    *out_n = used;
    buf = NULL;
done:
    (void)inflateEnd(&z);
    mem_free(buf);
    return st;
}

status gzip_read_file(const char *path, const limits *lim, unsigned char **out, size_t *out_n)
{
    unsigned char *raw;
    size_t n;
    *out = NULL;
    *out_n = 0;
    TRY(io_read_file(path, lim->data_file, &raw, &n));
    if (!gzip_is(raw, n)) {
        *out = raw;
        *out_n = n;
        return ST_OK;
    }
    status st = gzip_inflate(path, raw, n, lim, out, out_n);
    mem_free(raw);
    return st;
}
