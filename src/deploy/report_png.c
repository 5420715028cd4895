/* report_png.c - a thumbnail as PNG (one IDAT, no filter; PNG specification, W3C 2003) in a data: URI. */
#include "base/base64.h"
#include "base/mem.h"
#include "deploy/report_page.h"

#include <string.h>
#include <zlib.h>

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* Length, type, data, CRC over type and data. */
static void put_chunk(text *png, const char *type, const void *data, size_t n)
{
    uint8_t word[4];
    put_u32(word, (uint32_t)n);
    text_add_n(png, word, 4);
    text_add_n(png, type, 4);
    text_add_n(png, data, n);
    uLong crc = crc32(crc32(0, (const Bytef *)type, 4), data, (uInt)n);
    put_u32(word, (uint32_t)crc);
    text_add_n(png, word, 4);
}

/* Rows with a zero (filter type None) in front of each, deflated. */
static status put_pixels(text *png, const thumbnail *p)
{
    status st = ST_OK;
    size_t row = (size_t)p->width * (size_t)p->channels, raw = (row + 1) * (size_t)p->height;
    uLongf packed = compressBound((uLong)raw);
    uint8_t *rows = NULL, *out = NULL;
    TRY_DONE(mem_alloc(&rows, raw, 1));
    TRY_DONE(mem_alloc(&out, packed, 1));
    for (size_t y = 0; y < (size_t)p->height; y++)
        memcpy(rows + y * (row + 1) + 1, p->pixels + y * row, row);
    if (compress2(out, &packed, rows, (uLong)raw, 9) != Z_OK) {
        st = fail(ST_OOM, "out of memory: a picture of %zu bytes could not be compressed", raw);
        goto done;
    }
    put_chunk(png, "IDAT", out, packed);
done:
    mem_free(rows);
    mem_free(out);
    return st;
}

status page_picture(text *t, const thumbnail *p)
{
    text png = {0};
    uint8_t header[13] = {[8] = 8, [9] = p->channels == 1 ? 0 : 2}; /* 8 bits; gray or RGB */
    put_u32(header, (uint32_t)p->width);
    put_u32(header + 4, (uint32_t)p->height);
    text_add_n(&png, "\x89PNG\r\n\x1a\n", 8);
    put_chunk(&png, "IHDR", header, sizeof header);
    status st = put_pixels(&png, p);
    put_chunk(&png, "IEND", "", 0);
    text_add(t, "data:image/png;base64,");
    base64_add(t, png.s, png.n);
    if (st == ST_OK)
        st = png.st;
    text_free(&png);
    return st;
}
