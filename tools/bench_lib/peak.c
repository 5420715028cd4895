/* peak.c - GF/s of float32 multiply-adds of one core: the floor that training steps are measured against.
 *
 * Twelve vectors that depend on themselves only hide the latency of the multipliers; the best of some short runs. */
#include <stdio.h>
#include <time.h>

#ifdef __AVX512F__
#define WIDTH 16
#elif defined __AVX__
#define WIDTH 8
#else
#define WIDTH 4
#endif
#define CHAINS 12
#define TURNS  2000000

typedef float vec __attribute__((vector_size(4 * WIDTH)));

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void)
{
    volatile float seed = 1e-3f;
    vec x[CHAINS], a, b;
    double best = 0;
    for (int i = 0; i < WIDTH; i++) {
        a[i] = 0.999f + seed * 1e-3f;
        b[i] = seed;
        for (int c = 0; c < CHAINS; c++)
            x[c][i] = (float)c;
    }
    for (int run = 0; run < 12; run++) {
        double t = now();
        for (int n = 0; n < TURNS; n++)
#pragma GCC unroll 12
            for (int c = 0; c < CHAINS; c++)
                x[c] = x[c] * a + b;
        t = now() - t;
        double rate = 2e-9 * TURNS * CHAINS * WIDTH / t;
        best = rate > best ? rate : best;
    }
    float sum = 0;
    for (int c = 0; c < CHAINS; c++)
        sum += x[c][0];
    seed = sum; /* the loops are needed */
    printf("%.2f\n", best);
    return 0;
}
