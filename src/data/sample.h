/* sample.h - inside src/data: one sample, from where it lies to what the network takes. */
#ifndef DISTILL_DATA_SAMPLE_H
#define DISTILL_DATA_SAMPLE_H

#include "data/source.h"

/* Scratch of one thread. */
typedef struct sampler {
    dataset *ds;
    struct loader *owner; /* of a loader's thread */
    image raw, sized;
    resizer rs;
    float *other; /* mixup's second image */
} sampler;
MUST_USE status sampler_open(sampler *s, dataset *ds);
void sampler_close(sampler *s);

/* How a sample is to be changed; NULL in the calls below: not at all. */
typedef struct sample_change {
    uint64_t seed, view;
} sample_change;

/* Sample i of part p into to[j], one row of each input. A sample whose file is bad: ST_BAD_DATA, ST_NO_INPUT
 * or ST_IO. */
MUST_USE status sample_make(sampler *s, data_part p, uint32_t i, const sample_change *change,
                            void *const *to);
/* Is this status a fault of the sample (and not of the machine)? */
bool sample_is_bad(status st);
/* The same, but the place of a bad sample is taken by the next good one; *i becomes its index. */
MUST_USE status sample_make_good(sampler *s, data_part p, uint32_t *i, const sample_change *change,
                                 void *const *to);
/* Which sample that is, of a part all of whose samples were tried. */
MUST_USE status sample_find_good(const dataset *ds, data_part p, uint32_t *i);
/* Image at the model's size, uint8, not changed. The pixels live until the next call with s. */
MUST_USE status sample_pixels(sampler *s, data_part p, uint32_t i, const uint8_t **px, int32_t *channels);
/* A uint8 array's image as it is, copied into s->raw with so many channels. */
MUST_USE status sample_array(sampler *s, data_part p, uint32_t i, int32_t channels);

#endif
