/* test_bad_images.c - hostile and broken images, made by generators: a message that names the file,
 * ST_BAD_DATA, no crash, no more than five seconds. "BADINPUTS n" counts them; a family such as every
 * truncation of a file counts once. */
#include "base/io.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/image.h"
#include "data_files.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <turbojpeg.h>
#include <zlib.h>

enum { W = 21, H = 13 };

static limits lim;
static image im;
static int cases;
static uint8_t rgb[W * H * 3], grey[W * H];

static void setup(void)
{
    lim = limits_default();
    picture(rgb, W, H, 3, 1);
    picture(grey, W, H, 1, 2);
    cases = 0;
}

static void finish(void)
{
    image_free(&im);
    printf("BADINPUTS %d\n", cases);
}

static status decode(const char *name, const char *bytes, size_t n)
{
    unsigned char *exact; /* a block of just this size, so that the sanitizer sees a read past its end */
    struct timespec t0, t1;
    OK(mem_alloc(&exact, n, 1));
    if (n)
        memcpy(exact, bytes, n);
    clock_gettime(CLOCK_MONOTONIC, &t0);
    status_clear();
    status st = image_decode(name, exact, n, &lim, &im);
    clock_gettime(CLOCK_MONOTONIC, &t1);
    mem_free(exact);
    ck_assert_msg(t1.tv_sec - t0.tv_sec < 5, "%s took more than 5 s", name);
    return st;
}

/* Frees t. */
static void refuse(const char *what, const char *name, text *t, const char *part)
{
    ck_assert_int_eq(t->st, ST_OK);
    status st = decode(name, t->s ? t->s : "", t->n);
    ck_assert_msg(st == ST_BAD_DATA, "%s: status %d: %s", what, (int)st, status_message());
    ck_assert_msg(strstr(status_message(), name) && strstr(status_message(), part), "%s: '%s' lacks '%s'",
                  what, status_message(), part);
    text_free(t);
    cases++;
}

/* Either answer will do, a crash or another status will not. Frees t. */
static void survive(const char *what, const char *name, text *t)
{
    status st = decode(name, t->s, t->n);
    ck_assert_msg(st == ST_OK || st == ST_BAD_DATA, "%s: status %d: %s", what, (int)st, status_message());
    text_free(t);
    cases++;
}

/* Every prefix shorter than `needed` is refused (libspng does not ask for the CRC of IEND); every flipped bit
 * (or 4,000 of them) and 300 random mixtures are survived. Frees t. */
static void torment(const char *what, const char *name, text *t, size_t needed)
{
    ck_assert_msg(decode(name, t->s, t->n) == ST_OK, "%s: %s", what, status_message());
    for (size_t n = 0; n < needed; n++) {
        status st = decode(name, t->s, n);
        ck_assert_msg(st == ST_BAD_DATA, "%s cut to %zu of %zu bytes: status %d: %s", what, n, t->n, (int)st,
                      status_message());
        ck_assert_ptr_nonnull(strstr(status_message(), name));
    }
    cases++;
    size_t bits = t->n * 8, step = bits / 4000 + 1;
    for (size_t bit = 0; bit < bits; bit += step) {
        t->s[bit / 8] ^= (char)(1 << bit % 8);
        status st = decode(name, t->s, t->n);
        ck_assert_msg(st == ST_OK || st == ST_BAD_DATA, "%s bit %zu: status %d: %s", what, bit, (int)st,
                      status_message());
        t->s[bit / 8] ^= (char)(1 << bit % 8);
    }
    cases++;
    char *mixed = malloc(t->n);
    for (uint32_t i = 0; i < 300; i++) {
        rng r = rng_make(7, RNG_TEST, 0, i);
        memcpy(mixed, t->s, t->n);
        for (uint32_t k = 0; k <= i % 8; k++)
            mixed[rng_below(&r, (uint32_t)t->n)] = (char)rng_below(&r, 256);
        status st = decode(name, mixed, t->n);
        ck_assert_msg(st == ST_OK || st == ST_BAD_DATA, "%s mixture %u: status %d: %s", what, i, (int)st,
                      status_message());
    }
    cases++;
    free(mixed);
    text_free(t);
}

START_TEST(other_files)
{
    static const struct {
        const char *bytes, *part;
        size_t n;
    } files[] = {
        {"", "is empty", 0},
        {"x", "not an image that can be read", 1},
        {"<!DOCTYPE html><html>404</html>", "HTML", 31},
        {"<svg xmlns=''/>", "SVG", 15},
        {"{\"error\": 404}", "JSON", 14},
        {"GIF89a\1\0\1\0", "is a GIF", 10},
        {"RIFF\x10\0\0\0WEBPVP8 ", "WebP", 16},
        {"II*\0\x08\0\0\0", "TIFF", 8},
        {"MM\0*\0\0\0\x08", "TIFF", 8},
        {"8BPS\0\1", "Photoshop", 6},
        {"P3\n1 1\n255\n1 2 3\n", "P5 and P6", 18},
        {"#?RADIANCE\n", "not an image", 11},
        {"\0\0\0\x1c"
         "ftypavif",
         "not an image", 12},
        {"\x89PNG", "not an image", 4},
        {"\xff\xd8", "not an image", 2},
        {"version https://git-lfs.github.com/spec/v1\n", "not an image", 43},
    };
    setup();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        text t = {0};
        text_add_n(&t, files[i].bytes, files[i].n);
        refuse(files[i].part, "photo.jpg", &t, files[i].part);
    }
    text t = {0};
    lim.image_file = 100;
    bytes_fill(&t, 'B', 101);
    refuse("a large file", "photo.jpg", &t, "limits.image_file");
    finish();
}
END_TEST

/* ---- PNG ---- */

/* Colour type, depth and filtered rows as given, deflated. */
static void png_raw(text *t, uint32_t w, uint32_t h, unsigned depth, unsigned colour, unsigned interlace,
                    const void *rows, size_t n)
{
    uLongf z_n = compressBound((uLong)n);
    unsigned char *z = malloc(z_n);
    ck_assert(z && compress2(z, &z_n, rows, (uLong)n, 9) == Z_OK);
    bytes_png_start(t, w, h, depth, colour, interlace);
    if (colour == 3)
        bytes_png_chunk(t, "PLTE", "abcdef", 6);
    bytes_png_chunk(t, "IDAT", z, z_n);
    bytes_png_chunk(t, "IEND", "", 0);
    free(z);
}

static void text_chunk(text *t, const char *type, const char *start, size_t start_n, size_t zeros)
{
    uLongf z_n = compressBound((uLong)zeros);
    unsigned char *z = malloc(z_n), *raw = calloc(1, zeros);
    text body = {0};
    ck_assert(z && raw && compress2(z, &z_n, raw, (uLong)zeros, 9) == Z_OK);
    text_add_n(&body, start, start_n);
    text_add_n(&body, z, z_n);
    bytes_png_chunk(t, type, body.s, body.n);
    text_free(&body);
    free(z);
    free(raw);
}

START_TEST(png)
{
    text t = {0};
    setup();
    bytes_png(&t, W, H, 2, rgb);
    torment("PNG RGB", "a.png", &t, t.n - 4);
    bytes_png(&t, W, H, 3, grey);
    torment("PNG palette", "a.png", &t, t.n - 4);
    static const struct {
        uint32_t w, h;
        const char *part;
    } sizes[] = {{0, 5, "PNG"},
                 {5, 0, "PNG"},
                 {65500, 65500, "limits.image_pixels"},
                 {0x7fffffff, 1, ""},
                 {0x80000000u, 1, "PNG"},
                 {1, 0x7fffffff, ""},
                 {0xffffffffu, 0xffffffffu, "PNG"}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        png_raw(&t, sizes[i].w, sizes[i].h, 1, 0, 0, "\0\0", 2);
        refuse("size", "a.png", &t, sizes[i].part);
    }
    char *zeros = calloc(1, (size_t)20 << 20);
    png_raw(&t, 8, 8, 8, 0, 0, zeros, (size_t)20 << 20); /* IDAT unpacks to far more than the image takes */
    survive("IDAT bomb", "a.png", &t);
    lim.image_pixels = 1 << 20;
    png_raw(&t, 60000, 60000, 1, 0, 0, zeros, (size_t)20 << 20);
    refuse("pixel bomb", "a.png", &t, "limits.image_pixels");
    lim = limits_default();
    png_raw(&t, 5, 5, 8, 2, 0, zeros, 10);
    refuse("too little data", "a.png", &t, "damaged PNG");
    png_raw(&t, 5, 5, 5, 2, 0, zeros, 80);
    refuse("5 bits", "a.png", &t, "damaged PNG");
    png_raw(&t, 5, 5, 8, 5, 0, zeros, 80);
    refuse("colour type 5", "a.png", &t, "damaged PNG");
    png_raw(&t, 5, 5, 8, 2, 9, zeros, 80);
    refuse("interlace 9", "a.png", &t, "damaged PNG");
    png_raw(&t, 2, 1, 8, 3, 0, "\0\7\7", 3);
    survive("palette index out of range", "a.png", &t);
    png_raw(&t, 2, 1, 8, 0, 0, "\x09\0\0", 3);
    refuse("filter 9", "a.png", &t, "damaged PNG");
    free(zeros);
    bytes_png(&t, W, H, 2, rgb);
    t.s[29] ^= 1; /* CRC of IHDR */
    refuse("bad CRC in IHDR", "a.png", &t, "damaged PNG");
    bytes_png(&t, W, H, 2, rgb);
    t.s[t.n - 14] ^= 1; /* CRC of IDAT */
    refuse("bad CRC in IDAT", "a.png", &t, "damaged PNG");
    bytes_png(&t, W, H, 2, rgb);
    t.n -= 12;
    refuse("no IEND", "a.png", &t, "damaged PNG");
    bytes_png_start(&t, 4, 4, 8, 3, 0);
    bytes_png_chunk(&t, "IDAT", "x", 1);
    refuse("no palette", "a.png", &t, "damaged PNG");
    bytes_png_start(&t, 4, 4, 8, 2, 0);
    bytes_png_start(&t, 4, 4, 8, 2, 0);
    refuse("a second start", "a.png", &t, "damaged PNG");
    bytes_png_start(&t, 4, 4, 8, 2, 0);
    bytes_png_chunk(&t, "ABCD", "xxxx", 4);
    refuse("an unknown critical chunk", "a.png", &t, "damaged PNG");
    bytes_png_start(&t, 4, 4, 8, 2, 0);
    bytes_be32(&t, 0xfffffff0u);
    text_add(&t, "IDATxxxx");
    refuse("a chunk of 4 GiB", "a.png", &t, "damaged PNG");
    bytes_png_start(&t, W, H, 8, 2, 0);
    text_chunk(&t, "zTXt", "key\0\0", 5, (size_t)30 << 20);
    text_chunk(&t, "iCCP", "icc\0\0", 5, (size_t)30 << 20);
    text_chunk(&t, "iTXt", "key\0\1\0\0\0", 8, (size_t)30 << 20);
    bytes_png_chunk(&t, "IEND", "", 0);
    refuse("text and profile bombs", "a.png", &t, "damaged PNG");
    bytes_png_start(&t, W, H, 8, 2, 0);
    for (int i = 0; i < 5000; i++)
        bytes_png_chunk(&t, "tEXt", "a\0b", 3);
    refuse("5,000 texts", "a.png", &t, "damaged PNG");
    finish();
}
END_TEST

START_TEST(png_variants)
{
    static const unsigned forms[][2] = {{1, 0}, {2, 0}, {4, 0},  {16, 0}, {1, 3},
                                        {2, 3}, {4, 3}, {16, 2}, {16, 4}, {16, 6}};
    static const unsigned samples[7] = {1, 0, 3, 1, 2, 0, 4};
    uint8_t rows[20 * 200];
    setup();
    for (unsigned interlace = 0; interlace < 2; interlace++)
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
            text t = {0};
            memset(rows, 0, sizeof rows);
            unsigned depth = forms[i][0], colour = forms[i][1];
            size_t n = (1 + (5 * samples[colour] * depth + 7) / 8) * 5;
            png_raw(&t, 5, 5, depth, colour, interlace, rows, interlace ? sizeof rows : n);
            status st = decode("a.png", t.s, t.n);
            ck_assert_msg(st == ST_OK || (interlace && st == ST_BAD_DATA), "%u bits, type %u: %s", depth,
                          colour, status_message());
            if (st == ST_OK)
                ck_assert(im.width == 5 && im.height == 5 &&
                          im.channels == (colour == 0 || colour == 4 ? 1 : 3));
            text_free(&t);
        }
    finish();
}
END_TEST

/* ---- JPEG ---- */

/* The place of marker `m` (0xc0 ...), the first or the last one. */
static size_t marker(const text *t, unsigned m)
{
    for (size_t i = 0; i + 1 < t->n; i++)
        if ((unsigned char)t->s[i] == 0xff && (unsigned char)t->s[i + 1] == m)
            return i;
    ck_abort_msg("no marker %02x", m);
}

static size_t segment_size(const text *t, size_t at)
{
    return 2 + ((size_t)(unsigned char)t->s[at + 2] << 8 | (unsigned char)t->s[at + 3]);
}

static void cut(text *t, size_t at, size_t n)
{
    memmove(t->s + at, t->s + at + n, t->n - at - n);
    t->n -= n;
}

/* A copy of t with n bytes of `what` put in at `at`, `times` over. Frees t. */
static void insert(text *t, size_t at, const char *what, size_t n, int times)
{
    text u = {0};
    text_add_n(&u, t->s, at);
    for (int i = 0; i < times; i++)
        text_add_n(&u, what, n);
    text_add_n(&u, t->s + at, t->n - at);
    text_free(t);
    *t = u;
}

static void jpeg_of(text *t, bool progressive)
{
    bytes_jpeg(t, W, H, 3, rgb, progressive);
}

START_TEST(jpeg)
{
    text t = {0};
    setup();
    jpeg_of(&t, false);
    torment("JPEG", "a.jpg", &t, t.n);
    jpeg_of(&t, true);
    torment("progressive JPEG", "a.jpg", &t, t.n);
    bytes_jpeg(&t, W, H, 1, grey, false);
    torment("grey JPEG", "a.jpg", &t, t.n);
    static const struct {
        unsigned w, h;
        const char *part;
    } sizes[] = {{0, 5, "JPEG"},
                 {5, 0, "JPEG"},
                 {65500, 65500, "limits.image_pixels"},
                 {65535, 65535, ""},
                 {1, 65535, "JPEG"}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        jpeg_of(&t, false);
        size_t at = marker(&t, 0xc0);
        t.s[at + 5] = (char)(sizes[i].h >> 8);
        t.s[at + 6] = (char)sizes[i].h;
        t.s[at + 7] = (char)(sizes[i].w >> 8);
        t.s[at + 8] = (char)sizes[i].w;
        refuse("size", "a.jpg", &t, sizes[i].part);
    }
    jpeg_of(&t, true); /* the last scan a thousand times more */
    size_t last = 0;
    for (size_t i = 0; i + 1 < t.n; i++)
        if ((unsigned char)t.s[i] == 0xff && (unsigned char)t.s[i + 1] == 0xda)
            last = i;
    char *scan = malloc(t.n);
    size_t scan_n = t.n - 2 - last;
    memcpy(scan, t.s + last, scan_n);
    insert(&t, t.n - 2, scan, scan_n, 1000);
    free(scan);
    refuse("a thousand scans", "a.jpg", &t, "limits.jpeg_scans");
    static const unsigned kinds[] = {0xc1, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        jpeg_of(&t, false); /* lossless, differential, arithmetic ... told by the frame's marker */
        t.s[marker(&t, 0xc0) + 1] = (char)kinds[i];
        survive("kind of frame", "a.jpg", &t);
    }
    jpeg_of(&t, false);
    t.s[marker(&t, 0xc0) + 4] = 12;
    refuse("12 bits", "a.jpg", &t, "damaged JPEG");
    jpeg_of(&t, false);
    t.s[marker(&t, 0xc0) + 9] = 0;
    refuse("no components", "a.jpg", &t, "damaged JPEG");
    jpeg_of(&t, false);
    t.s[marker(&t, 0xc0) + 11] = (char)0xff;
    refuse("sampling factors 15", "a.jpg", &t, "");
    jpeg_of(&t, false);
    size_t at = marker(&t, 0xdb);
    cut(&t, at, segment_size(&t, at));
    refuse("no quantisation table", "a.jpg", &t, "damaged JPEG");
    jpeg_of(&t, false);
    at = marker(&t, 0xc4);
    cut(&t, at, segment_size(&t, at));
    survive("a Huffman table less", "a.jpg", &t);
    jpeg_of(&t, false);
    at = marker(&t, 0xc0);
    char frame[64];
    size_t frame_n = segment_size(&t, at);
    memcpy(frame, t.s + at, frame_n);
    insert(&t, at, frame, frame_n, 1);
    refuse("two frames", "a.jpg", &t, "damaged JPEG");
    jpeg_of(&t, false);
    t.n -= 2;
    refuse("no end", "a.jpg", &t, "damaged JPEG");
    jpeg_of(&t, false);
    insert(&t, 2, "\xff\xe1\0\2", 4, 100000);
    survive("100,000 empty APP1", "a.jpg", &t);
    jpeg_of(&t, false);
    insert(&t, 2, "\xff\xdd\0\4\0\1", 6, 1); /* restarts that do not come */
    refuse("restart markers missing", "a.jpg", &t, "damaged JPEG");
    jpeg_of(&t, false);
    insert(&t, 2, "\xff\xdd\0\4\0\0", 6, 1);
    ck_assert_int_eq(decode("a.jpg", t.s, t.n), ST_OK); /* DRI 0: none */
    text_free(&t);
    for (char orientation = 0; orientation < 10;
         orientation += 3) { /* EXIF orientation is not applied, odd ones are no matter */
        char exif[] = "\xff\xe1\0\x22"
                      "Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0X\0\0\0\0\0\0\0";
        exif[28] = orientation;
        jpeg_of(&t, false);
        insert(&t, 2, exif, 36, 1);
        ck_assert_msg(decode("a.jpg", t.s, t.n) == ST_OK, "%s", status_message());
        ck_assert(im.width == W && im.height == H);
        text_free(&t);
    }
    tjhandle j = tjInitCompress();
    unsigned char *out = NULL;
    unsigned long n = 0;
    ck_assert_int_eq(tjCompress2(j, rgb, 12, 0, 13, TJPF_CMYK, &out, &n, TJSAMP_444, 90, 0), 0);
    text_add_n(&t, out, n);
    tjFree(out);
    tjDestroy(j);
    refuse("CMYK", "a.jpg", &t, "CMYK");
    finish();
}
END_TEST

/* ---- BMP, TGA, PNM ---- */

static void put_le32(text *t, size_t at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        t->s[at + (size_t)i] = (char)(v >> 8 * i);
}

START_TEST(bmp)
{
    static const struct {
        const char *what;
        size_t at;
        uint32_t value;
        const char *part;
    } patches[] = {
        {"width 0", 18, 0, "0 x 13"},
        {"negative width", 18, 0x80000001u, "0 x 13"},
        {"height 0", 22, 0, "21 x 0"},
        {"smallest height", 22, 0x80000000u, ""},
        {"huge", 18, 0x7fffffff, "limits.image_pixels"},
        {"large", 22, 100000, "cut off"},
        {"pixels before the header's end", 10, 20, "header"},
        {"pixels past the file", 10, 0x7fffffff, "header"},
        {"header of 13 bytes", 14, 13, "unknown header of 13"},
        {"header of 4 GiB", 14, 0xffffffffu, "unknown header"},
        {"header of 64 bytes", 14, 64, ""},
        {"3 bits", 26, 1 | 3 << 16, "3 bits"},
        {"8 bits without a palette", 26, 1 | 8 << 16, "palette"},
        {"1 bit without a palette", 26, 1 | 1 << 16, "palette"},
        {"RLE", 30, 1, "damaged BMP"},
        {"JPEG inside", 30, 4, "damaged BMP"},
        {"bit masks", 30, 3, "damaged BMP"},
    };
    text t = {0};
    setup();
    bytes_bmp24(&t, W, H, rgb);
    torment("BMP", "a.bmp", &t, t.n);
    for (size_t i = 0; i < sizeof patches / sizeof *patches; i++) {
        bytes_bmp24(&t, W, H, rgb);
        put_le32(&t, patches[i].at, patches[i].value);
        refuse(patches[i].what, "a.bmp", &t, patches[i].part);
    }
    bytes_bmp24(&t, W, H, rgb);
    put_le32(&t, 22, (uint32_t)-H); /* top row first */
    ck_assert_int_eq(decode("a.bmp", t.s, t.n), ST_OK);
    ck_assert_int_eq(im.height, H);
    text_free(&t);
    finish();
}
END_TEST

START_TEST(tga)
{
    text t = {0};
    setup();
    bytes_tga24(&t, W, H, rgb);
    torment("TGA", "a.tga", &t, t.n);
    static const struct {
        const char *what;
        size_t at;
        unsigned value;
        const char *part;
    } patches[] = {
        {"width 0", 12, 0, "0 x 13"}, {"height 0", 14, 0, "21 x 0"},
        {"wide", 13, 255, "cut off"}, {"type 7", 2, 7, "image type 7"},
        {"map type 9", 1, 9, "map"},  {"type 1 without a map", 2, 1, "TGA"},
        {"11 bits", 16, 11, "TGA"},   {"a long id", 0, 255, "cut off"},
    };
    for (size_t i = 0; i < sizeof patches / sizeof *patches; i++) {
        bytes_tga24(&t, W, H, rgb);
        t.s[patches[i].at] = (char)patches[i].value;
        refuse(patches[i].what, "a.tga", &t, patches[i].part);
    }
    for (int packed = 0; packed < 2; packed++) { /* run lengths that end early, or never */
        text_add_n(&t, "\0\0\x0a\0\0\0\0\0\0\0\0\0\x10\0\x10\0\x18\x20", 18);
        for (int i = 0; i < 2; i++) {
            bytes_u8(&t, packed ? 0xff : 0x7f);
            bytes_fill(&t, 9, packed ? 3 : 128 * 3);
        }
        ck_assert_msg(decode("a.tga", t.s, t.n) == ST_OK, "%s", status_message());
        for (size_t n = 0; n < t.n; n++)
            ck_assert_msg(decode("a.tga", t.s, n) == ST_BAD_DATA, "%zu", n);
        cases++;
        text_free(&t);
    }
    bytes_png(&t, W, H, 2, rgb);
    refuse("a PNG called .tga", "a.tga", &t, "");
    finish();
}
END_TEST

START_TEST(pnm)
{
    text t = {0};
    setup();
    bytes_ppm(&t, W, H, 3, rgb);
    torment("PPM", "a.ppm", &t, t.n);
    static const char *const bad[][2] = {
        {"P5", "header"},
        {"P5 1", "header"},
        {"P5 1 1", "header"},
        {"P5 1 1 255", "header"},
        {"P5 0 1 255 x", "0 x 1"},
        {"P5 1 0 255 x", "1 x 0"},
        {"P5 -1 1 255 x", "header"},
        {"P5 99999999999999999999 1 255 x", "header"},
        {"P5 2000000000 2000000000 255 x", "limits.image_pixels"},
        {"P5 1 1 0 x", "largest value 0"},
        {"P5 1 1 65536 xx", "largest value 65536"},
        {"P5 2 2 255 xxx", "cut off"},
        {"P6 1 1 255 xx", "cut off"},
        {"P5 1 1 300 x", "cut off"},
        {"P5 1 1 10 x", "above the largest value"},
        {"P5 # no end of the comment", "header"},
        {"P5 1 1 255x", "header"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        text_add(&t, bad[i][0]);
        refuse(bad[i][0], "a.pgm", &t, bad[i][1]);
    }
    finish();
}
END_TEST

const test_entry test_table[] = {
    TEST(other_files), TEST(png), TEST(png_variants), TEST(jpeg), TEST(bmp), TEST(tga), TEST(pnm), {0},
};
