/* image.c - the pixel block, channels, and which decoder reads a file. */
#include "data/image_codec.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

void image_free(image *im)
{
    mem_free(im->px);
    *im = (image){0};
}

status image_reserve(image *im, int32_t height, int32_t width, int32_t channels)
{
    size_t n;
    if (height < 1 || width < 1 || channels < 1 || !size_mul((size_t)height, (size_t)width, &n) ||
        !size_mul(n, (size_t)channels, &n))
        return fail(ST_BAD_DATA, "an image of %d x %d pixels and %d channels", width, height, channels);
    if (n > im->cap) {
        mem_free(im->px);
        *im = (image){0};
        TRY(mem_alloc(&im->px, n, 1));
        im->cap = n;
    }
    im->height = height;
    im->width = width;
    im->channels = channels;
    return ST_OK;
}

void image_crop(image *im, int32_t y, int32_t x, int32_t height, int32_t width)
{
    size_t c = (size_t)im->channels, from = (size_t)im->width * c, to = (size_t)width * c;
    for (int32_t r = 0; r < height; r++)
        memmove(im->px + (size_t)r * to, im->px + (size_t)(y + r) * from + (size_t)x * c, to);
    im->height = height;
    im->width = width;
}

status image_set_channels(image *im, const char *name, int32_t channels)
{
    size_t n = (size_t)im->height * (size_t)im->width;
    if (im->channels == channels)
        return ST_OK;
    if (im->channels == 1 && channels == 3) {
        if (n * 3 > im->cap) {
            TRY(mem_grow(&im->px, n, 3));
            im->cap = n * 3;
        }
        for (size_t i = n; i-- > 0;)
            im->px[3 * i] = im->px[3 * i + 1] = im->px[3 * i + 2] = im->px[i];
    } else if (im->channels == 3 && channels == 1) {
        for (size_t i = 0; i < n; i++) {
            const uint8_t *p = im->px + 3 * i;
            im->px[i] = (uint8_t)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
        }
    } else {
        return fail(ST_BAD_DATA, "%s: an image of %d channels where %d are needed", name, im->channels,
                    channels);
    }
    im->channels = channels;
    return ST_OK;
}

status image_check_size(const char *name, uint64_t width, uint64_t height, const limits *lim)
{
    if (width < 1 || height < 1)
        return fail(ST_BAD_DATA, "%s: an image of %llu x %llu pixels", name, (unsigned long long)width,
                    (unsigned long long)height);
    if (width > INT32_MAX || height > INT32_MAX || width > lim->image_pixels / height)
        return fail(ST_BAD_DATA, "%s: %llu x %llu pixels are more than limits.image_pixels = %llu", name,
                    (unsigned long long)width, (unsigned long long)height,
                    (unsigned long long)lim->image_pixels);
    return ST_OK;
}

static const char *suffix_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && !strchr(dot, '/') ? dot : "";
}

bool image_has_suffix(const char *name)
{
    static const char *const known[] = {".jpg", ".jpeg", ".png", ".bmp", ".tga", ".ppm", ".pgm", ".pnm"};
    const char *s = suffix_of(name);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(s, known[i]) == 0)
            return true;
    return false;
}

/* First bytes of a format; `decode` NULL: known, but not read, with the reason. */
typedef struct image_format {
    const char *start;
    size_t n;
    status (*decode)(const char *, const unsigned char *, size_t, const limits *, image *);
    const char *refusal;
} image_format;

static const image_format formats[] = {
    {"\xff\xd8\xff", 3, jpeg_decode, NULL},
    {"\x89PNG\r\n\x1a\n", 8, png_decode, NULL},
    {"BM", 2, bmp_decode, NULL},
    {"P5", 2, pnm_decode, NULL},
    {"P6", 2, pnm_decode, NULL},
    {"P1", 2, NULL, "is a text or bit PNM; P5 and P6 can be read"},
    {"P2", 2, NULL, "is a text or bit PNM; P5 and P6 can be read"},
    {"P3", 2, NULL, "is a text or bit PNM; P5 and P6 can be read"},
    {"P4", 2, NULL, "is a text or bit PNM; P5 and P6 can be read"},
    {"GIF8", 4, NULL, "is a GIF; convert it to PNG"},
    {"RIFF", 4, NULL, "is a WebP or another RIFF file; convert it to PNG"},
    {"II*", 3, NULL, "is a TIFF; convert it to PNG"},
    {"MM\0*", 4, NULL, "is a TIFF; convert it to PNG"},
    {"8BPS", 4, NULL, "is a Photoshop file; convert it to PNG"},
    {"<", 1, NULL, "is text (HTML, XML or SVG), not an image; was it saved from an error page?"},
    {"{", 1, NULL, "is text (JSON), not an image"},
};

status image_decode(const char *name, const unsigned char *bytes, size_t size, const limits *lim, image *out)
{
    if (size == 0)
        return fail(ST_BAD_DATA, "%s: is empty", name);
    if (size > lim->image_file)
        return fail(ST_BAD_DATA, "%s: %zu bytes are more than limits.image_file", name, size);
    if (strcasecmp(suffix_of(name), ".tga") == 0)
        return tga_decode(name, bytes, size, lim, out);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const image_format *f = &formats[i];
        if (size < f->n || memcmp(bytes, f->start, f->n) != 0)
            continue;
        if (!f->decode)
            return fail(ST_BAD_DATA, "%s: %s", name, f->refusal);
        return f->decode(name, bytes, size, lim, out);
    }
    return fail(ST_BAD_DATA,
                "%s: not an image that can be read (starts with %02x %02x); JPEG, PNG, BMP, TGA and PNM can",
                name, bytes[0], size > 1 ? bytes[1] : 0);
}
