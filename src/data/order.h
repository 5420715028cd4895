/* order.h - inside src/data: which samples batch k holds (the rule stands in loader.h). */
#ifndef DISTILL_DATA_ORDER_H
#define DISTILL_DATA_ORDER_H

#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct order {
    uint32_t n, batch; /* samples of the part, of a batch */
    bool endless, shuffle, drop;
    uint64_t seed;
    uint32_t *perm; /* [n], of pass `have`; NULL without shuffling */
    uint64_t have;  /* pass + 1; 0: none yet */
} order;
/* n and batch at least 1. */
MUST_USE status order_open(order *o, uint32_t n, uint32_t batch, bool endless, bool shuffle, bool drop,
                           uint64_t seed);
void order_close(order *o);
/* Samples and their passes of batch k into index[batch] and pass[batch]; returns how many (0: after the end).
 * Keeps the permutation of the last pass asked for, so calls in order are cheap; not for several threads at
 * once. */
uint32_t order_batch(order *o, uint64_t k, uint32_t *index, uint64_t *pass);

#endif
