/* data_files.c - generators of small data files. */
#include "data_files.h"
#include "base/io.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>
#include <zlib.h>

void bytes_u8(text *t, unsigned v)
{
    unsigned char b = (unsigned char)v;
    text_add_n(t, &b, 1);
}

void bytes_be16(text *t, unsigned v)
{
    bytes_u8(t, v >> 8);
    bytes_u8(t, v);
}

void bytes_be32(text *t, uint32_t v)
{
    bytes_be16(t, v >> 16);
    bytes_be16(t, v & 0xffff);
}

void bytes_le16(text *t, unsigned v)
{
    bytes_u8(t, v);
    bytes_u8(t, v >> 8);
}

void bytes_le32(text *t, uint32_t v)
{
    bytes_le16(t, v & 0xffff);
    bytes_le16(t, v >> 16);
}

void bytes_fill(text *t, unsigned v, size_t n)
{
    char block[4096];
    memset(block, (int)v, sizeof block);
    for (; n > sizeof block; n -= sizeof block)
        text_add_n(t, block, sizeof block);
    text_add_n(t, block, n);
}

void bytes_gzip(text *t, const void *data, size_t n)
{
    z_stream z = {0};
    unsigned char out[65536];
    int r;
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)n;
    do {
        z.next_out = out;
        z.avail_out = sizeof out;
        r = deflate(&z, Z_FINISH);
        text_add_n(t, out, sizeof out - z.avail_out);
    } while (r == Z_OK);
    ck_assert_int_eq(r, Z_STREAM_END);
    deflateEnd(&z);
}

void bytes_idx(text *t, unsigned type, unsigned rank, const uint32_t *dim, const void *data, size_t n)
{
    bytes_be16(t, 0);
    bytes_u8(t, type);
    bytes_u8(t, rank);
    for (unsigned i = 0; i < rank; i++)
        bytes_be32(t, dim[i]);
    text_add_n(t, data, n);
}

void bytes_png_chunk(text *t, const char *type, const void *data, size_t n)
{
    uLong crc = crc32(crc32(0, (const Bytef *)type, 4), data, (uInt)n);
    bytes_be32(t, (uint32_t)n);
    text_add_n(t, type, 4);
    if (n)
        text_add_n(t, data, n);
    bytes_be32(t, (uint32_t)(n ? crc : crc32(0, (const Bytef *)type, 4)));
}

void bytes_png_start(text *t, uint32_t w, uint32_t h, unsigned depth, unsigned colour, unsigned interlace)
{
    text head = {0};
    text_add_n(t, "\x89PNG\r\n\x1a\n", 8);
    bytes_be32(&head, w);
    bytes_be32(&head, h);
    bytes_u8(&head, depth);
    bytes_u8(&head, colour);
    bytes_u8(&head, 0);
    bytes_u8(&head, 0);
    bytes_u8(&head, interlace);
    bytes_png_chunk(t, "IHDR", head.s, head.n);
    text_free(&head);
}

void bytes_png(text *t, uint32_t w, uint32_t h, unsigned colour, const uint8_t *px)
{
    static const size_t samples[7] = {1, 0, 3, 1, 2, 0, 4};
    size_t row = w * samples[colour];
    text raw = {0};
    uLongf n;
    bytes_png_start(t, w, h, 8, colour, 0);
    if (colour == 3) {
        text palette = {0};
        for (unsigned i = 0; i < 256; i++) {
            bytes_u8(&palette, i);
            bytes_u8(&palette, 255 - i);
            bytes_u8(&palette, i / 2);
        }
        bytes_png_chunk(t, "PLTE", palette.s, palette.n);
        text_free(&palette);
    }
    for (uint32_t y = 0; y < h; y++) {
        bytes_u8(&raw, 0);
        text_add_n(&raw, px + y * row, row);
    }
    n = compressBound((uLong)raw.n);
    unsigned char *z = malloc(n);
    ck_assert(z && compress2(z, &n, (const Bytef *)raw.s, (uLong)raw.n, 9) == Z_OK);
    bytes_png_chunk(t, "IDAT", z, n);
    free(z);
    text_free(&raw);
    bytes_png_chunk(t, "IEND", "", 0);
}

void bytes_jpeg(text *t, int w, int h, int c, const uint8_t *px, bool progressive)
{
    tjhandle j = tjInitCompress();
    unsigned char *out = NULL;
    unsigned long n = 0;
    int r = tjCompress2(j, px, w, 0, h, c == 1 ? TJPF_GRAY : TJPF_RGB, &out, &n,
                        c == 1 ? TJSAMP_GRAY : TJSAMP_444, 95, progressive ? TJFLAG_PROGRESSIVE : 0);
    ck_assert_int_eq(r, 0);
    text_add_n(t, out, n);
    tjFree(out);
    tjDestroy(j);
}

void bytes_ppm(text *t, uint32_t w, uint32_t h, int c, const uint8_t *px)
{
    text_printf(t, "P%d\n%u %u\n255\n", c == 1 ? 5 : 6, w, h);
    text_add_n(t, px, (size_t)w * h * (size_t)c);
}

void bytes_bmp24(text *t, int32_t w, int32_t h, const uint8_t *px)
{
    size_t pad = (4 - (size_t)w * 3 % 4) % 4, size = ((size_t)w * 3 + pad) * (size_t)h;
    text_add(t, "BM");
    bytes_le32(t, (uint32_t)(54 + size));
    bytes_le32(t, 0);
    bytes_le32(t, 54);
    bytes_le32(t, 40);
    bytes_le32(t, (uint32_t)w);
    bytes_le32(t, (uint32_t)h);
    bytes_le16(t, 1);
    bytes_le16(t, 24);
    bytes_fill(t, 0, 24);
    for (int32_t y = h - 1; y >= 0; y--) {
        for (int32_t x = 0; x < w; x++)
            for (int k = 2; k >= 0; k--)
                bytes_u8(t, px[(y * w + x) * 3 + k]);
        bytes_fill(t, 0, pad);
    }
}

void bytes_tga24(text *t, unsigned w, unsigned h, const uint8_t *px)
{
    bytes_u8(t, 0);
    bytes_u8(t, 0);
    bytes_u8(t, 2);
    bytes_fill(t, 0, 9);
    bytes_le16(t, w);
    bytes_le16(t, h);
    bytes_u8(t, 24);
    bytes_u8(t, 0x20); /* top row first */
    for (size_t i = 0; i < (size_t)w * h; i++)
        for (int k = 2; k >= 0; k--)
            bytes_u8(t, px[i * 3 + (size_t)k]);
}

const char *bytes_save(text *t, const char *dir, const char *name)
{
    const char *path = test_path(dir, name);
    char folder[4096];
    ck_assert_int_eq(t->st, ST_OK);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    OK(io_make_dirs(folder));
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f != NULL, "cannot write %s", path);
    size_t n = t->n ? fwrite(t->s, 1, t->n, f) : 0;
    ck_assert_uint_eq(n, t->n);
    ck_assert_int_eq(fclose(f), 0);
    text_free(t);
    return path;
}

const char *save_text(const char *dir, const char *name, const char *s)
{
    text t = {0};
    text_add(&t, s);
    return bytes_save(&t, dir, name);
}

const char *test_python(const char *module)
{
    static char found[4096];
    const char *named = getenv("DISTILL_PYTHON");
    const char *const candidates[] = {named, SOURCE_DIR "/.venv/bin/python", "python3"};
    for (size_t i = 0; i < 3; i++) {
        char command[8192];
        if (!candidates[i])
            continue;
        snprintf(command, sizeof command, "%s -c 'import %s' >/dev/null 2>&1", candidates[i], module);
        if (system(command) != 0)
            continue;
        snprintf(found, sizeof found, "%s", candidates[i]);
        return found;
    }
    return NULL;
}

void picture(uint8_t *px, int w, int h, int c, unsigned seed)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int k = 0; k < c; k++)
                *px++ = (uint8_t)((unsigned)(x * 5 + y * 3 + k * 40) + seed * 17u + (unsigned)(x * y) / 3u);
}
