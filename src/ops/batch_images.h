/* batch_images.h - attributes of BatchImages (batch_images.c). */
#ifndef DISTILL_OPS_BATCH_IMAGES_H
#define DISTILL_OPS_BATCH_IMAGES_H

#include "ops/attrs.h"

typedef struct batch_boxes_attrs { /* fields of augment_options (picture.h) */
    batch_images_attrs change;
    double scale_min, scale_max;    /* of random resized crops; scale_max 0: none */
    int64_t height, width, nearest; /* of the result, where there are such crops; nearest pixels instead of the triangle filter */
} batch_boxes_attrs;

#endif
