/* idx.c - idx files to tensors. */
#include "data/idx.h"

#include "base/io.h"
#include "data/gzip.h"

#include <inttypes.h>
#include <string.h>

static dtype idx_type(unsigned char code)
{
    static const dtype types[16] = {[8] = DTYPE_U8,   [9] = DTYPE_I8,   [11] = DTYPE_I16,
                                    [12] = DTYPE_I32, [13] = DTYPE_F32, [14] = DTYPE_F64};
    return code < 16 ? types[code] : DTYPE_NONE;
}

bool idx_is(const unsigned char *bytes, size_t n)
{
    return n >= 4 && bytes[0] == 0 && bytes[1] == 0 && idx_type(bytes[2]) != DTYPE_NONE && bytes[3] >= 1 &&
           bytes[3] <= RANK_MAX;
}

/* Header into type and shape; the header's length into *head. */
static status parse_head(const char *name, const unsigned char *b, size_t n, const limits *lim, tensor *t,
                         size_t *head)
{
    if (n < 4)
        return fail(ST_BAD_DATA, "%s: %zu bytes are too short for an idx file", name, n);
    if (b[0] || b[1])
        return fail(ST_BAD_DATA, "%s: not an idx file: starts with %02x %02x instead of 00 00", name, b[0],
                    b[1]);
    t->type = idx_type(b[2]);
    if (t->type == DTYPE_NONE)
        return fail(ST_BAD_DATA, "%s: idx element type 0x%02x is unknown (08, 09, 0b, 0c, 0d, 0e exist)",
                    name, b[2]);
    if (b[3] < 1 || b[3] > RANK_MAX)
        return fail(ST_BAD_DATA, "%s: idx rank %d is outside [1, %d]", name, b[3], RANK_MAX);
    *head = 4 + (size_t)b[3] * 4;
    if (n < *head)
        return fail(ST_BAD_DATA, "%s: the idx header ends early: %zu of %zu bytes", name, n, *head);
    t->sh.rank = b[3];
    for (int i = 0; i < t->sh.rank; i++) {
        const unsigned char *d = b + 4 + 4 * i;
        t->sh.dim[i] = (int64_t)((uint32_t)d[0] << 24 | (uint32_t)d[1] << 16 | (uint32_t)d[2] << 8 | d[3]);
    }
    if ((uint64_t)t->sh.dim[0] > lim->samples)
        return fail(ST_BAD_DATA, "%s: %" PRId64 " samples are more than limits.samples = %" PRIu64, name,
                    t->sh.dim[0], lim->samples);
    return ST_OK;
}

static void swap_bytes(unsigned char *p, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++, p += size)
        for (size_t k = 0; k < size / 2; k++) {
            unsigned char c = p[k];
            p[k] = p[size - 1 - k];
            p[size - 1 - k] = c;
        }
}

status idx_parse(const char *name, unsigned char *bytes, size_t n, const limits *lim, tensor *out)
{
    size_t head = 0, want = 0;
    char sh[200];
    status st = ST_OK;
    *out = (tensor){0};
    TRY_DONE(parse_head(name, bytes, n, lim, out, &head));
    st = shape_bytes(&out->sh, out->type, &want);
    if (st != ST_OK) {
        st = fail_within(st, "%s", name);
        goto done;
    }
    if (n - head != want) {
        st = fail(ST_BAD_DATA, "%s: %s %s needs %zu bytes after the header, the file has %zu%s", name,
                  dtype_of(out->type)->name, shape_print(&out->sh, sh), want, n - head,
                  n - head < want ? "; it was cut off" : "; too many");
        goto done;
    }
    memmove(bytes, bytes + head, want);
    if (dtype_of(out->type)->size > 1)
        swap_bytes(bytes, want / dtype_of(out->type)->size, dtype_of(out->type)->size);
    out->data = bytes;
    bytes = NULL;
done:
    mem_free(bytes);
    if (st != ST_OK)
        *out = (tensor){0};
    return st;
}

status idx_read(const char *path, const limits *lim, tensor *out)
{
    unsigned char *bytes;
    size_t n;
    *out = (tensor){0};
    TRY(gzip_read_file(path, lim, &bytes, &n));
    return idx_parse(path, bytes, n, lim, out);
}
