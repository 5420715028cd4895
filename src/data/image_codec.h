/* image_codec.h - inside src/data: one function for each image format. */
#ifndef DISTILL_DATA_IMAGE_CODEC_H
#define DISTILL_DATA_IMAGE_CODEC_H

#include "data/image.h"

/* All: bytes that start like the format -> out (1 or 3 channels), or ST_BAD_DATA naming the file. */
#define IMAGE_CODEC(f)                                                                                       \
    MUST_USE status f(const char *name, const unsigned char *bytes, size_t size, const limits *lim,          \
                      image *out)
IMAGE_CODEC(jpeg_decode);
IMAGE_CODEC(png_decode);
IMAGE_CODEC(bmp_decode);
IMAGE_CODEC(tga_decode);
IMAGE_CODEC(pnm_decode);
#undef IMAGE_CODEC

MUST_USE status image_check_size(const char *name, uint64_t width, uint64_t height, const limits *lim);

#endif
