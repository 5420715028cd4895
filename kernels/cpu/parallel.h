/* parallel.h - fixed blocks of work over threads: which block holds what depends on the sizes alone, so results do not
 * depend on the number of threads. */
#ifndef DISTILL_KERNELS_PARALLEL_H
#define DISTILL_KERNELS_PARALLEL_H

#include <stdint.h>

#define BLOCK_ELEMENTS    ((int64_t)8192)  /* of an elementwise loop: 32 KiB an operand, half a level-1 cache */
#define PARALLEL_ELEMENTS ((int64_t)32768) /* below, waking threads costs more than it saves */

static inline int64_t block_count(int64_t n, int64_t block)
{
    return (n + block - 1) / block;
}
static inline int64_t block_end(int64_t b, int64_t n, int64_t block)
{
    return (b + 1) * block < n ? (b + 1) * block : n;
}

/* for (int64_t VAR = 0; VAR < COUNT; VAR++) body, blocks over THREADS when the whole is at least PARALLEL_ELEMENTS. */
#define PRAGMA(...) _Pragma(#__VA_ARGS__)
#define PARALLEL_FOR(var, count, threads, elements)                                                               \
    PRAGMA(omp parallel for num_threads(threads) schedule(static) if ((elements) >= PARALLEL_ELEMENTS && (threads) > 1)) \
    for (int64_t var = 0; var < (count); var++)

#endif
