/* known.h - data sets that are recognised by their bytes, with what their authors or users publish of them. */
#ifndef DISTILL_DATA_KNOWN_H
#define DISTILL_DATA_KNOWN_H

#include "data/data.h"

typedef struct known_set {
    const char *sha256; /* data_info.sha256 */
    const char *name;
    uint32_t channels;
    float mean[3], std[3]; /* of pixel / 255 */
    int64_t classes;
    const char *class_name[10];
} known_set;

const known_set *known_find(const char *sha256); /* NULL: not one of them */

#endif
