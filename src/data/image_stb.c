/* image_stb.c - BMP and TGA through stb_image.
 *
 * Only these two of its readers are compiled. It trusts headers and reads zeros past the end of a file, so
 * sizes are checked here first and its reads are watched: one byte too far is an error. */
#include "data/image_codec.h"

#include "base/mem.h"

#include <string.h>

static void *stb_malloc(size_t n)
{
    void *p;
    return mem_alloc(&p, n, 1) == ST_OK ? p : NULL;
}

#define STBI_MALLOC(n)     stb_malloc(n)
#define STBI_REALLOC(p, n) NULL /* not used by these readers */
#define STBI_FREE(p)       mem_free(p)
#define STBI_ASSERT(x)     ((void)0)
#define STBI_ONLY_BMP
#define STBI_ONLY_TGA
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#pragma GCC diagnostic ignored                                                                               \
    "-Wunused-function" /* of its many declarations; reported at the end of the file */
#include <stb/stb_image.h>

static uint32_t get16(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t get32(const unsigned char *p)
{
    return get16(p) | get16(p + 2) << 16;
}

typedef struct feed {
    const unsigned char *at;
    size_t left;
    bool past; /* something was wanted after the end */
} feed;

static int feed_read(void *user, char *to, int n)
{
    feed *f = user;
    size_t got = (size_t)n < f->left ? (size_t)n : f->left;
    f->past |= f->left == 0;
    memcpy(to, f->at, got);
    f->at += got;
    f->left -= got;
    return (int)got;
}

static void feed_skip(void *user, int n)
{
    feed *f = user;
    size_t by = n < 0 ? 0 : (size_t)n;
    f->past |= by > f->left;
    by = by < f->left ? by : f->left;
    f->at += by;
    f->left -= by;
}

static int feed_end(void *user)
{
    return ((feed *)user)->left == 0;
}

/* Alpha, if any, is dropped. */
static status take(const char *name, const stbi_uc *px, int w, int h, int c, image *out)
{
    int keep = c >= 3 ? 3 : 1;
    TRY(image_reserve(out, h, w, keep));
    size_t n = (size_t)w * (size_t)h;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < (size_t)keep; k++)
            out->px[i * (size_t)keep + k] = px[i * (size_t)c + k];
    (void)name;
    return ST_OK;
}

static status decode(const char *name, const unsigned char *bytes, size_t size, const char *format,
                     image *out)
{
    static const stbi_io_callbacks calls = {feed_read, feed_skip, feed_end};
    feed f = {bytes, size, false};
    int w, h, c;
    stbi_uc *px = stbi_load_from_callbacks(&calls, &f, &w, &h, &c, 0);
    status st = ST_OK;
    if (!px)
        st = fail(ST_BAD_DATA, "%s: damaged %s: %s", name, format,
                  stbi_failure_reason() ? stbi_failure_reason() : "unknown reason");
    else if (f.past)
        st = fail(ST_BAD_DATA, "%s: the %s ends early", name, format);
    else
        st = take(name, px, w, h, c, out);
    mem_free(px);
    return st;
}

/* 14 bytes of file header, then an info header of 12 (OS/2), 40, 56, 108 or 124 bytes. */
status bmp_decode(const char *name, const unsigned char *b, size_t size, const limits *lim, image *out)
{
    if (size < 26)
        return fail(ST_BAD_DATA, "%s: the BMP header ends early", name);
    uint32_t offset = get32(b + 10), head = get32(b + 14), entry = head == 12 ? 3 : 4;
    if (head != 12 && (head < 40 || head > 124))
        return fail(ST_BAD_DATA, "%s: BMP with an unknown header of %u bytes", name, head);
    if (size < 14 + (size_t)head || offset < 14 + head || offset > size)
        return fail(ST_BAD_DATA, "%s: the BMP header ends early", name);
    int64_t w = head == 12 ? (int64_t)get16(b + 18) : (int32_t)get32(b + 18),
            h = head == 12 ? (int64_t)get16(b + 20) : (int32_t)get32(b + 22);
    uint32_t bits = get16(b + (head == 12 ? 24 : 28));
    h = h < 0 ? -h : h;
    TRY(image_check_size(name, w < 0 ? 0 : (uint64_t)w, (uint64_t)h, lim));
    if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32)
        return fail(ST_BAD_DATA, "%s: BMP of %u bits a pixel", name, bits);
    if (bits <= 8 && offset - 14 - head < entry << bits)
        return fail(ST_BAD_DATA, "%s: BMP palette of %u colours where %u bits a pixel need %u", name,
                    (offset - 14 - head) / entry, bits, 1u << bits);
    uint64_t row = ((uint64_t)w * bits + 31) / 32 * 4;
    if (row * (uint64_t)h > size - offset)
        return fail(ST_BAD_DATA,
                    "%s: BMP of %lld x %lld needs %llu bytes of pixels, the file has %zu; it was cut off",
                    name, (long long)w, (long long)h, (unsigned long long)(row * (uint64_t)h), size - offset);
    return decode(name, b, size, "BMP", out);
}

/* 18 bytes of header, an id, a palette, pixels. */
status tga_decode(const char *name, const unsigned char *b, size_t size, const limits *lim, image *out)
{
    if (size < 18)
        return fail(ST_BAD_DATA, "%s: the TGA header ends early", name);
    uint32_t w = get16(b + 12), h = get16(b + 14), bits = b[16], type = b[2], indexed = b[1];
    TRY(image_check_size(name, w, h, lim));
    if (indexed > 1 || (type != 1 && type != 2 && type != 3 && type != 9 && type != 10 && type != 11))
        return fail(ST_BAD_DATA, "%s: not a TGA that can be read (map type %u, image type %u)", name, indexed,
                    type);
    uint64_t palette = indexed ? (uint64_t)get16(b + 5) * ((b[7] + 7u) / 8) : 0;
    uint64_t need = 18 + (uint64_t)b[0] + palette + (type < 9 ? (uint64_t)w * h * ((bits + 7) / 8) : 0);
    if (need > size)
        return fail(ST_BAD_DATA, "%s: TGA of %u x %u needs %llu bytes, the file has %zu; it was cut off",
                    name, w, h, (unsigned long long)need, size);
    return decode(name, b, size, "TGA", out);
}
