/* replay.c - a fuzz target without libFuzzer: every seed as it is, then seeded random changes of the seeds.
 *
 * replay CORPUS [SECONDS]: exits 0 when no input made the target stop. Built with every compiler and in every test run;
 * the libFuzzer programs (DISTILL_FUZZ) search further. */
#include "base/io.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEEDS_MAX  10000
#define SEED_BYTES ((uint64_t)1 << 20)

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t n);

typedef struct seed {
    unsigned char *data;
    size_t n;
} seed;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The target gets a block of exactly n bytes, so that a sanitizer sees a read past its end. */
static status give(const unsigned char *data, size_t n)
{
    unsigned char *copy;
    TRY(mem_alloc(&copy, n, 1));
    if (n)
        memcpy(copy, data, n);
    (void)LLVMFuzzerTestOneInput(copy, n);
    mem_free(copy);
    return ST_OK;
}

/* Changes, removes or doubles a few bytes; *n grows by at most 64. */
static void change(rng *r, unsigned char *p, size_t *n)
{
    for (uint32_t k = 1 + rng_below(r, 4); k > 0 && *n > 0; k--) {
        size_t at = rng_below(r, (uint32_t)*n), len = 1 + rng_below(r, 16);
        if (len > *n - at)
            len = *n - at;
        switch (rng_below(r, 5)) {
        case 0:
            p[at] = (unsigned char)rng_u32(r);
            break;
        case 1:
            p[at] ^= (unsigned char)(1u << rng_below(r, 8));
            break;
        case 2:
            memmove(p + at, p + at + len, *n - at - len);
            *n -= len;
            break;
        case 3:
            memmove(p + at + len, p + at, *n - at);
            *n += len;
            break;
        default:
            *n = rng_below(r, 8) ? *n : at; /* now and then: cut off */
        }
    }
}

static status replay(const char *dir, double seconds)
{
    char **names = NULL, path[4096];
    seed *seeds = NULL;
    unsigned char *p = NULL;
    size_t n_names = 0, n_seeds = 0, longest = 0, inputs = 0;
    status st = ST_OK;
    TRY_DONE(io_list(dir, SEEDS_MAX, &names, &n_names));
    TRY_DONE(mem_alloc(&seeds, n_names, sizeof *seeds));
    for (; n_seeds < n_names; n_seeds++) {
        seed *s = &seeds[n_seeds];
        snprintf(path, sizeof path, "%s/%s", dir, names[n_seeds]);
        TRY_DONE(io_read_file(path, SEED_BYTES, &s->data, &s->n));
        TRY_DONE(give(s->data, s->n));
        longest = s->n > longest ? s->n : longest;
        inputs++;
    }
    if (n_seeds == 0) {
        st = fail(ST_NO_INPUT, "%s: no seeds", dir);
        goto done;
    }
    TRY_DONE(mem_alloc(&p, longest + 64, 1));
    rng r = rng_make(1, RNG_TEST, 0, 0);
    for (double end = now() + seconds; now() < end; inputs++) {
        const seed *s = &seeds[rng_below(&r, (uint32_t)n_seeds)];
        size_t n = s->n;
        memcpy(p, s->data, n);
        change(&r, p, &n);
        TRY_DONE(give(p, n));
    }
    printf("%s: %zu seeds, %zu inputs\n", dir, n_seeds, inputs);
done:
    for (size_t i = 0; i < n_seeds; i++)
        mem_free(seeds[i].data);
    mem_free(seeds);
    mem_free(p);
    io_list_free(names, n_names);
    return st;
}

int main(int argc, char **argv)
{
    status st = argc < 2 ? fail(ST_USAGE, "usage: replay CORPUS [SECONDS]")
                         : replay(argv[1], argc > 2 ? strtod(argv[2], NULL) : 3);
    if (st != ST_OK)
        fprintf(stderr, "%s\n", status_message());
    return (int)st;
}
