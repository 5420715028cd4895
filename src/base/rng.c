/* rng.c - Philox4x32-10 and the few distributions that are needed. */
#include "base/rng.h"

#include <math.h>

static void philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1], c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

rng rng_make(uint64_t seed, rng_purpose purpose, uint64_t a, uint32_t b)
{
    /* key = seed; counter = {draw number, purpose and high part of a, low part of a, b} */
    rng r = {.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
             .counter = {0, (uint32_t)purpose << 24 | (uint32_t)(a >> 32 & 0xffffff), (uint32_t)a, b}};
    return r;
}

uint32_t rng_u32(rng *r)
{
    if (r->left == 0) {
        philox(r->key, r->counter, r->block);
        r->counter[0]++;
        r->left = 4;
    }
    return r->block[4 - r->left--];
}

uint32_t rng_below(rng *r, uint32_t n)
{
    uint64_t m = (uint64_t)rng_u32(r) * n;
    if ((uint32_t)m < n) {
        uint32_t floor = (uint32_t)(-n) % n;
        while ((uint32_t)m < floor)
            m = (uint64_t)rng_u32(r) * n;
    }
    return (uint32_t)(m >> 32);
}

double rng_uniform(rng *r)
{
    uint64_t hi = rng_u32(r) >> 5, lo = rng_u32(r) >> 6;
    return (double)(hi << 26 | lo) * 0x1p-53;
}

double rng_normal(rng *r)
{
    double u = 1.0 - rng_uniform(r), v = rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void rng_shuffle(rng *r, uint32_t *index, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = rng_below(r, i), t = index[i - 1];
        index[i - 1] = index[j];
        index[j] = t;
    }
}
