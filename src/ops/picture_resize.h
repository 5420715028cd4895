/* picture_resize.h - a box of an image to another size, by the formulas of picture_rule.h. */
#ifndef DISTILL_OPS_PICTURE_RESIZE_H
#define DISTILL_OPS_PICTURE_RESIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What picture_resize uses meanwhile, for each axis that changes its length: room for out * picture_most_taps(in, out) weights
 * and 2 * out first pixels; for both of them h * W * c bytes of rows. Nearest pixels need none. */
typedef struct picture_scratch {
    int32_t *weight, *first;
    uint8_t *rows;
} picture_scratch;

/* h x w pixels of c channels, rows `pitch` bytes apart, to [H][W][c]: the nearest pixel, or a triangle filter that is widened where
 * an axis becomes shorter. */
void picture_resize(const picture_scratch *s, const uint8_t *px, size_t pitch, int32_t h, int32_t w, int32_t c, bool nearest_pixel,
                    int32_t H, int32_t W, uint8_t *to);

#endif
