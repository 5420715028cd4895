/* order.c - the stream of samples as a function of (seed, pass). */
#include "data/order.h"

#include "base/mem.h"
#include "base/rng.h"

status order_open(order *o, uint32_t n, uint32_t batch, bool endless, bool shuffle, bool drop, uint64_t seed)
{
    *o = (order){.n = n,
                 .batch = batch,
                 .endless = endless,
                 .shuffle = shuffle,
                 .drop = drop && endless && n >= batch,
                 .seed = seed};
    return shuffle ? mem_alloc(&o->perm, n, sizeof *o->perm) : ST_OK;
}

void order_close(order *o)
{
    mem_free(o->perm);
    *o = (order){0};
}

static uint32_t sample_at(order *o, uint64_t pass, uint32_t place)
{
    if (!o->shuffle)
        return place;
    if (o->have != pass + 1) {
        for (uint32_t i = 0; i < o->n; i++)
            o->perm[i] = i;
        rng r = rng_make(o->seed, RNG_SHUFFLE, pass, 0);
        rng_shuffle(&r, o->perm, o->n);
        o->have = pass + 1;
    }
    return o->perm[place];
}

uint32_t order_batch(order *o, uint64_t k, uint32_t *index, uint64_t *pass)
{
    uint64_t per_pass = o->drop ? o->n / o->batch : 0;
    uint64_t p = o->drop ? k / per_pass : k * o->batch / o->n;
    uint64_t place = o->drop ? k % per_pass * o->batch : k * o->batch % o->n;
    uint32_t count = 0;
    for (; count < o->batch && (o->endless || p == 0); count++) {
        index[count] = sample_at(o, p, (uint32_t)place);
        pass[count] = p;
        if (++place == o->n) {
            place = 0;
            p++;
        }
    }
    return count;
}
