/* image.h - image files to pixels, and pixels to another size.
 *
 * JPEG by TurboJPEG (warnings are errors, scans limited), PNG by libspng, BMP and TGA by stb_image, binary PNM
 * by hand. What a file is, its first bytes say, not its name (TGA alone has no such bytes: its name must end
 * in .tga). Sizes are checked against the limits before anything is decoded. Alpha is dropped, 16-bit samples
 * keep their high byte, EXIF orientation is not applied; CMYK JPEG is refused. */
#ifndef DISTILL_DATA_IMAGE_H
#define DISTILL_DATA_IMAGE_H

#include "base/limits.h"
#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* uint8 pixels, height x width x channels, channels last. Owns px; `cap` bytes of it are reused by the next
 * image. */
typedef struct image {
    int32_t height, width, channels; /* channels: 1 grey, 3 RGB */
    uint8_t *px;
    size_t cap;
} image;
void image_free(image *im);
/* Makes room for a size; contents are undefined. */
MUST_USE status image_reserve(image *im, int32_t height, int32_t width, int32_t channels);

/* Keeps the height x width pixels whose corner is (y, x), in place. */
void image_crop(image *im, int32_t y, int32_t x, int32_t height, int32_t width);

/* Decodes a file's bytes. `name` stands in messages and gives the suffix for TGA. */
MUST_USE status image_decode(const char *name, const unsigned char *bytes, size_t size, const limits *lim,
                             image *out);
bool image_has_suffix(const char *name); /* .jpg .jpeg .png .bmp .tga .ppm .pgm .pnm, any case */

/* Grey to RGB (three times the same) or RGB to grey (0.299 R + 0.587 G + 0.114 B in Pillow's fixed point), in
 * place. Equal counts: nothing. Others: ST_BAD_DATA. */
MUST_USE status image_set_channels(image *im, const char *name, int32_t channels);

typedef enum resize_mode {
    RESIZE_STRETCH, /* to H x W, whatever the aspect */
    RESIZE_CROP, /* short side to a size, then the centre H x W (torchvision's Resize(int) and CenterCrop) */
    RESIZE_NONE  /* another size than H x W is a bad sample */
} resize_mode;
typedef enum resize_filter {
    FILTER_BILINEAR, /* triangle filter, widened when shrinking (antialias), with Pillow's arithmetic */
    FILTER_NEAREST   /* pixel floor((y + 0.5) * h / H) */
} resize_filter;

/* Scratch of the resizer, one per thread. Zeroed is empty. */
typedef struct resizer {
    uint8_t *rows;
    size_t rows_cap;
    int32_t *weight; /* coefficients of one axis */
    int32_t *first;  /* first source pixel and count for each output pixel */
    size_t weight_cap, first_cap;
} resizer;
void resizer_free(resizer *r);
/* `to` becomes H x W from the box (y, x, h, w) of `from`. Neither may share pixels. */
MUST_USE status image_resize(resizer *r, const image *from, int32_t y, int32_t x, int32_t h, int32_t w,
                             resize_filter filter, int32_t H, int32_t W, image *to);
/* The size before the centre crop of RESIZE_CROP, and the crop's corner: short side = `side` (0: just enough
 * for H x W). */
void resize_crop_plan(int32_t h, int32_t w, int32_t side, int32_t H, int32_t W, int32_t *rh, int32_t *rw,
                      int32_t *y, int32_t *x);

#endif
