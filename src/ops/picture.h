/* picture.h - what a picture of bytes becomes on its way into a batch: random changes, then planes of normalised numbers.
 *
 * One piece of arithmetic for the data set's threads (src/data), the operator BatchImages (batch_images.c) and, repeated step
 * by step, its CUDA kernel: the numbers of sample i are those of the stream (seed, RNG_AUGMENT, view, number of i), in the
 * order in which augment_make takes them. */
#ifndef DISTILL_OPS_PICTURE_H
#define DISTILL_OPS_PICTURE_H

#include "base/rng.h"
#include <stdbool.h>
#include <stdint.h>

/* Zeroed: none. The words are those of augment_parse.
 *   crop:P            P raw zeros on every side (before normalisation, as torchvision's RandomCrop pads),
 *                     then an H x W cut at a uniformly drawn place
 *   flip              left and right exchanged with probability 1/2
 *   rrc[:MIN[:MAX]]   random resized crop: MIN..MAX (0.08..1) of the area, aspect 3/4..4/3, log-uniform
 *                     (Szegedy et al. 2015; torchvision's rules)
 *   jitter:B[:C[:S]]  brightness, contrast and saturation of the uint8 pixels, in this order, changed by
 *                     factors from [max(0, 1-B), 1+B] and so on
 *   cutout:S          an S x S square at a random centre, cut at the border, is 0 after normalisation
 *                     (DeVries and Taylor 2017)
 *   mixup:A           x = l x + (1-l) x', l ~ Beta(A, A) per sample, x' a random sample of the part (Zhang et
 *                     al. 2018); the second label and l come with the batch */
typedef struct augment_options {
    int32_t crop;
    bool flip;
    double scale_min, scale_max; /* rrc; off when scale_max is 0 */
    double brightness, contrast, saturation;
    int32_t cutout;
    double mixup;
} augment_options;

/* What was drawn for one image of H x W pixels that comes from one of h x w. */
typedef struct augment_draw {
    int32_t box_y, box_x, box_h, box_w;     /* rrc: the part of the h x w image; box_h 0: no such crop */
    float brightness, contrast, saturation; /* 1: unchanged */
    int32_t dy, dx; /* crop: output (y, x) is input (y + dy, x + dx), outside is raw 0 */
    bool flip;      /* after the crop */
    int32_t cut_y0, cut_y1, cut_x0, cut_x1; /* cutout: rows [y0, y1), columns [x0, x1) of the output */
} augment_draw;
augment_draw augment_make(const augment_options *o, rng *r, int32_t h, int32_t w, int32_t H, int32_t W);
/* Colour jitter of n pixels of c channels (1 or 3; saturation needs 3) in place. */
void augment_jitter(uint8_t *px, int64_t n, int32_t c, const augment_draw *d);

/* Pixels px: [H][W][own] bytes, own = channels or 1 (which serves every channel), into to: [channels][H][W] by way of
 * table: [channels][256]. Row (y, x) is pixel (y + dy, x + dx), raw 0 outside, the row then mirrored; the cutout is 0. */
void picture_planes(const uint8_t *px, int32_t own, const float *table, int32_t channels, int32_t H, int32_t W,
                    const augment_draw *d, float *to);
/* The same of a float image [channels][H][W]: (v - mean) / std, outside like v = 0. */
void picture_float_planes(const float *px, const float *mean, const float *std, int32_t channels, int32_t H, int32_t W,
                          const augment_draw *d, float *to);
/* to = share * to + (1 - share) * other, n elements: mixup. */
void picture_mix(float *to, const float *other, float share, int64_t n);

#endif
