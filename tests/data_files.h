/* data_files.h - small data files that tests make themselves. */
#ifndef DISTILL_TESTS_DATA_FILES_H
#define DISTILL_TESTS_DATA_FILES_H

#include "base/text.h"
#include <stddef.h>
#include <stdint.h>

/* All: append to a text, which here is a byte string; text_free it. */
void bytes_u8(text *t, unsigned v);
void bytes_be16(text *t, unsigned v);
void bytes_be32(text *t, uint32_t v);
void bytes_le16(text *t, unsigned v);
void bytes_le32(text *t, uint32_t v);
void bytes_fill(text *t, unsigned v, size_t n);
void bytes_gzip(text *t, const void *data, size_t n);
/* An idx file: type code, sizes, elements as they are. */
void bytes_idx(text *t, unsigned type, unsigned rank, const uint32_t *dim, const void *data, size_t n);
/* One PNG chunk with its CRC; a whole PNG of 8-bit samples (colour type 0, 2, 3, 4, 6), rows without filter.
 * */
void bytes_png_chunk(text *t, const char *type, const void *data, size_t n);
void bytes_png_start(text *t, uint32_t w, uint32_t h, unsigned depth, unsigned colour, unsigned interlace);
void bytes_png(text *t, uint32_t w, uint32_t h, unsigned colour, const uint8_t *px);
/* JPEG of w x h x c (1 or 3) through TurboJPEG, progressive or not. */
void bytes_jpeg(text *t, int w, int h, int c, const uint8_t *px, bool progressive);
void bytes_ppm(text *t, uint32_t w, uint32_t h, int c, const uint8_t *px);
void bytes_bmp24(text *t, int32_t w, int32_t h, const uint8_t *px);
void bytes_tga24(text *t, unsigned w, unsigned h, const uint8_t *px);
/* Writes t to dir/name (folders made), frees it, and returns the path (test_path). */
const char *bytes_save(text *t, const char *dir, const char *name);
const char *save_text(const char *dir, const char *name, const char *s);
/* A Python that can import `module`: $DISTILL_PYTHON, the checkout's .venv, python3; or NULL. */
const char *test_python(const char *module);
/* A picture whose pixels differ: w * h * c bytes into px. */
void picture(uint8_t *px, int w, int h, int c, unsigned seed);

#endif
