/* image_codec.c - JPEG through TurboJPEG, PNG through libspng, binary PNM by hand. */
#include "data/image_codec.h"

#include "base/mem.h"

#include <spng.h>
#include <string.h>
#include <turbojpeg.h>

/* ---- JPEG ---- */

/* How many scans the file announces: SOS markers outside of segments. Each costs a pass over the image. */
static size_t count_scans(const unsigned char *b, size_t n)
{
    size_t scans = 0;
    for (size_t i = 2; i + 3 < n;) {
        if (b[i] != 0xff || b[i + 1] == 0 || b[i + 1] == 0xff || (b[i + 1] >= 0xd0 && b[i + 1] <= 0xd8)) {
            i++; /* compressed data, fill bytes, restart markers */
            continue;
        }
        if (b[i + 1] == 0xd9)
            break;
        scans += b[i + 1] == 0xda;
        size_t len = (size_t)b[i + 2] << 8 | b[i + 3];
        i += 2 + (len < 2 ? 2 : len);
    }
    return scans;
}

static status jpeg_read(tjhandle jpeg, const char *name, const unsigned char *bytes, size_t size,
                        const limits *lim, image *out)
{
    int width, height, sampling, space;
    if (tjDecompressHeader3(jpeg, bytes, (unsigned long)size, &width, &height, &sampling, &space) != 0)
        return fail(ST_BAD_DATA, "%s: damaged JPEG: %s", name, tjGetErrorStr2(jpeg));
    TRY(image_check_size(name, width < 0 ? 0 : (uint64_t)width, height < 0 ? 0 : (uint64_t)height, lim));
    if (space == TJCS_CMYK || space == TJCS_YCCK)
        return fail(ST_BAD_DATA, "%s: is a CMYK JPEG; convert it to RGB", name);
    size_t scans = count_scans(bytes, size);
    if (scans > lim->jpeg_scans)
        return fail(ST_BAD_DATA, "%s: JPEG of %zu scans, more than limits.jpeg_scans", name, scans);
    bool grey = space == TJCS_GRAY;
    TRY(image_reserve(out, height, width, grey ? 1 : 3));
    if (tjDecompress2(jpeg, bytes, (unsigned long)size, out->px, width, 0, height,
                      grey ? TJPF_GRAY : TJPF_RGB, TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS) != 0)
        return fail(ST_BAD_DATA, "%s: damaged JPEG: %s", name, tjGetErrorStr2(jpeg));
    return ST_OK;
}

/* A decoder for each image: a kept one carries tables and, after damage, faults into the next file. */
status jpeg_decode(const char *name, const unsigned char *bytes, size_t size, const limits *lim, image *out)
{
    tjhandle jpeg = tjInitDecompress();
    if (!jpeg)
        return fail(ST_OOM, "%s: no memory for a JPEG decoder", name);
    status st = jpeg_read(jpeg, name, bytes, size, lim, out);
    tjDestroy(jpeg);
    return st;
}

/* ---- PNG ---- */

static void *png_malloc(size_t n)
{
    void *p;
    return mem_alloc(&p, n, 1) == ST_OK ? p : NULL;
}

static void *png_calloc(size_t n, size_t size)
{
    void *p;
    return mem_alloc(&p, n, size) == ST_OK ? p : NULL;
}

static void *png_realloc(void *p, size_t n)
{
    return mem_grow(&p, n, 1) == ST_OK ? p : NULL;
}

#define PNG_CHUNK_MAX ((size_t)8 << 20)  /* of one text or profile chunk, unpacked */
#define PNG_CHUNKS    ((size_t)16 << 20) /* of all that are kept */

static status png_read(spng_ctx *ctx, const char *name, const limits *lim, image *out)
{
    struct spng_ihdr h;
    size_t need;
    int r = spng_get_ihdr(ctx, &h);
    if (r)
        return fail(ST_BAD_DATA, "%s: damaged PNG: %s", name, spng_strerror(r));
    TRY(image_check_size(name, h.width, h.height, lim));
    bool grey = h.color_type == SPNG_COLOR_TYPE_GRAYSCALE && h.bit_depth <= 8;
    bool grey_wide = !grey && (h.color_type == SPNG_COLOR_TYPE_GRAYSCALE ||
                               h.color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA);
    int format = grey ? SPNG_FMT_G8 : SPNG_FMT_RGB8;
    TRY(image_reserve(out, (int32_t)h.height, (int32_t)h.width, grey ? 1 : 3));
    size_t have = (size_t)h.height * h.width * (size_t)out->channels;
    r = spng_decoded_image_size(ctx, format, &need);
    if (r == 0 && need != have)
        return fail(ST_INTERNAL, "%s: PNG of %zu bytes, not %zu", name, need, have);
    if (r == 0)
        r = spng_decode_image(ctx, out->px, have, format, 0);
    if (r == 0)
        r = spng_decode_chunks(ctx); /* to the end, so that a cut file is noticed */
    if (r == SPNG_EMEM)
        return fail(ST_OOM, "%s: no memory for a PNG of %u x %u pixels", name, h.width, h.height);
    if (r)
        return fail(ST_BAD_DATA, "%s: damaged PNG: %s", name, spng_strerror(r));
    if (grey_wide) { /* 16 bits or alpha came as three equal channels */
        for (size_t i = 0; i < have / 3; i++)
            out->px[i] = out->px[3 * i];
        out->channels = 1;
    }
    return ST_OK;
}

status png_decode(const char *name, const unsigned char *bytes, size_t size, const limits *lim, image *out)
{
    struct spng_alloc alloc = {png_malloc, png_realloc, png_calloc, mem_free};
    spng_ctx *ctx = spng_ctx_new2(&alloc, 0);
    if (!ctx)
        return fail(ST_OOM, "%s: no memory for a PNG decoder", name);
    int r = spng_set_chunk_limits(ctx, PNG_CHUNK_MAX, PNG_CHUNKS);
    if (r == 0)
        r = spng_set_png_buffer(ctx, bytes, size);
    status st =
        r ? fail(ST_BAD_DATA, "%s: damaged PNG: %s", name, spng_strerror(r)) : png_read(ctx, name, lim, out);
    spng_ctx_free(ctx);
    return st;
}

/* ---- PNM: "P5" or "P6", width, height, largest value, one blank, samples (netpbm's pgm(5), ppm(5)) ---- */

static bool is_blank(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next number; comments run from # to the end of the line. False without one or above 2^31. */
static bool pnm_number(const unsigned char *b, size_t n, size_t *at, uint32_t *out)
{
    while (*at < n && (is_blank(b[*at]) || b[*at] == '#')) {
        if (b[*at] == '#')
            while (*at < n && b[*at] != '\n')
                ++*at;
        else
            ++*at;
    }
    uint64_t v = 0;
    size_t from = *at;
    for (; *at < n && b[*at] >= '0' && b[*at] <= '9' && v <= INT32_MAX; ++*at)
        v = v * 10 + (b[*at] - '0');
    *out = (uint32_t)v;
    return *at > from && v <= INT32_MAX;
}

status pnm_decode(const char *name, const unsigned char *bytes, size_t size, const limits *lim, image *out)
{
    uint32_t w, h, most;
    size_t at = 2;
    int32_t channels = bytes[1] == '6' ? 3 : 1;
    if (!pnm_number(bytes, size, &at, &w) || !pnm_number(bytes, size, &at, &h) ||
        !pnm_number(bytes, size, &at, &most) || at == size || !is_blank(bytes[at]))
        return fail(ST_BAD_DATA, "%s: damaged PNM header", name);
    at++;
    TRY(image_check_size(name, w, h, lim));
    if (most < 1 || most > 65535)
        return fail(ST_BAD_DATA, "%s: PNM with the largest value %u, outside [1, 65535]", name, most);
    size_t n = (size_t)w * h * (size_t)channels, wide = most > 255 ? 2 : 1;
    if (size - at < n * wide)
        return fail(ST_BAD_DATA,
                    "%s: PNM of %u x %u needs %zu bytes of pixels, the file has %zu; it was cut off", name, w,
                    h, n * wide, size - at);
    TRY(image_reserve(out, (int32_t)h, (int32_t)w, channels));
    for (size_t i = 0; i < n; i++) {
        uint32_t v = wide == 2 ? (uint32_t)bytes[at + 2 * i] << 8 | bytes[at + 2 * i + 1] : bytes[at + i];
        if (v > most)
            return fail(ST_BAD_DATA, "%s: PNM sample %u is above the largest value %u", name, v, most);
        out->px[i] = (uint8_t)((v * 255u + most / 2) / most);
    }
    return ST_OK;
}
