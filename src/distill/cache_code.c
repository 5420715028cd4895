/* cache_code.c - see cache_code.h. */
#include "distill/cache_code.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static size_t top_of(const tap_code *c)
{
    return c->top < c->width[0] ? c->top : c->width[0];
}

static bool is_top(const tap_code *c, size_t k)
{
    return k == 0 && c->store == CACHE_STORE_TOP;
}

static size_t out_bytes(const tap_code *c, size_t k)
{
    size_t n = c->width[k];
    if (n && is_top(c, k))
        return 4 + 8 * top_of(c);
    return n * (c->store == CACHE_STORE_FP32 ? 4 : 2);
}

size_t code_bytes(const tap_code *c)
{
    size_t sum = 0;
    for (size_t k = 0; k < c->n_out; k++)
        sum += out_bytes(c, k);
    return (sum + 7) & ~(size_t)7;
}

size_t code_offset(const tap_code *c, size_t k)
{
    size_t sum = 0;
    for (size_t i = 0; i < k; i++)
        sum += out_bytes(c, i);
    return sum;
}

size_t code_top(const tap_code *c, size_t k)
{
    return c->width[k] && is_top(c, k) ? top_of(c) : 0;
}

/* ---- fp16 ---- */

static void pack_halves(const float *x, size_t n, unsigned char *to)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i] > 65504.0f ? 65504.0f : x[i] < -65504.0f ? -65504.0f : x[i];
        _Float16 h = (_Float16)v;
        memcpy(to + 2 * i, &h, sizeof h);
    }
}

/* By integers: halves that are no numbers are never packed. */
static void unpack_halves(const unsigned char *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, from + 2 * i, sizeof h);
        uint32_t sign = (uint32_t)(h & 0x8000) << 16, bits = ((uint32_t)(h & 0x7fff) << 13) + (112u << 23);
        float small = (float)(h & 0x3ff) * 0x1p-24f, normal;
        memcpy(&normal, &bits, sizeof normal);
        float v = h & 0x7c00 ? normal : small;
        memcpy(&bits, &v, sizeof bits);
        bits |= sign;
        memcpy(&to[i], &bits, sizeof bits);
    }
}

/* ---- top K ---- */

typedef struct pick {
    uint32_t at;
    float value;
} pick;

/* Before b among the largest? */
static bool goes_before(pick a, pick b)
{
    return a.value > b.value || (a.value >= b.value && a.at < b.at);
}

/* The k largest of n as a heap with the last of them on top. */
static void sift(pick *heap, size_t k, size_t i)
{
    for (;;) {
        size_t last = i, l = 2 * i + 1;
        for (size_t j = l; j < l + 2 && j < k; j++)
            if (goes_before(heap[last], heap[j]))
                last = j;
        if (last == i)
            return;
        pick t = heap[i];
        heap[i] = heap[last];
        heap[last] = t;
        i = last;
    }
}

static void pack_top(const tap_code *c, const float *z, unsigned char *to)
{
    size_t n = c->width[0], k = top_of(c);
    double all = 0, kept = 0, most = (double)z[0], fill = 0;
    pick *heap = (pick *)(void *)(to + 4); /* records are aligned to 8, the picks to 4 */
    for (size_t i = 0; i < k; i++)
        heap[i] = (pick){(uint32_t)i, z[i]};
    for (size_t i = k / 2; i-- > 0;)
        sift(heap, k, i);
    for (size_t i = k; i < n; i++) {
        pick p = {(uint32_t)i, z[i]};
        if (k && goes_before(p, heap[0])) {
            heap[0] = p;
            sift(heap, k, 0);
        }
    }
    for (size_t i = 0; i < n; i++)
        most = (double)z[i] > most ? (double)z[i] : most;
    for (size_t i = 0; i < n; i++)
        all += exp(((double)z[i] - most) / c->temperature);
    for (size_t i = 0; i < k; i++)
        kept += exp(((double)heap[i].value - most) / c->temperature);
    /* The others one by one where the difference would lose digits: their largest is at most the heap's top. */
    if (n > k) {
        double rest = all - kept;
        if (rest < 1e-3 * all) {
            rest = 0;
            for (size_t i = 0; i < n; i++)
                if (goes_before(heap[0], (pick){(uint32_t)i, z[i]}))
                    rest += exp(((double)z[i] - most) / c->temperature);
        }
        fill = most + c->temperature * log((rest > 1e-300 ? rest : 1e-300) / (double)(n - k));
    }
    float f = (float)fill;
    memcpy(to, &f, sizeof f);
}

static void unpack_top(const tap_code *c, const unsigned char *from, float *z)
{
    float fill;
    memcpy(&fill, from, sizeof fill);
    for (size_t i = 0; i < c->width[0]; i++)
        z[i] = fill;
    for (size_t i = 0; i < top_of(c); i++) {
        pick p;
        memcpy(&p, from + 4 + i * sizeof p, sizeof p);
        if (p.at < c->width[0])
            z[p.at] = p.value;
    }
}

/* ---- all ---- */

void code_pack(const tap_code *c, const float *const *out, void *to)
{
    unsigned char *at = to;
    for (size_t k = 0; k < c->n_out; at += out_bytes(c, k), k++) {
        if (!c->width[k])
            continue;
        if (is_top(c, k))
            pack_top(c, out[k], at);
        else if (c->store == CACHE_STORE_FP32)
            memcpy(at, out[k], c->width[k] * sizeof(float));
        else
            pack_halves(out[k], c->width[k], at);
    }
}

void code_unpack(const tap_code *c, const void *from, float *const *out)
{
    const unsigned char *at = from;
    for (size_t k = 0; k < c->n_out; at += out_bytes(c, k), k++) {
        if (!c->width[k])
            continue;
        if (is_top(c, k))
            unpack_top(c, at, out[k]);
        else if (c->store == CACHE_STORE_FP32)
            memcpy(out[k], at, c->width[k] * sizeof(float));
        else
            unpack_halves(at, c->width[k], out[k]);
    }
}
