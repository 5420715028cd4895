/* names.h - a map from names to small numbers. */
#ifndef DISTILL_ONNX_NAMES_H
#define DISTILL_ONNX_NAMES_H

#include "base/mem.h"

/* Open addressing. Zeroed is empty. Borrows the names: they must outlive the map. */
typedef struct name_map {
    struct name_slot *slot;
    size_t cap, used;
} name_map;

/* *out: where the number of `name` is kept; 0 when it is new. Valid until the next put. */
MUST_USE status name_map_put(name_map *m, const char *name, uint32_t **out);
uint32_t name_map_get(const name_map *m, const char *name); /* 0: not there */
void name_map_free(name_map *m);

#endif
