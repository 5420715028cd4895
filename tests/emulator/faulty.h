/* faulty.h - kernels with the faults that the emulator is to find (test_emulator.c). */
#ifndef DISTILL_TESTS_EMULATOR_FAULTY_H
#define DISTILL_TESTS_EMULATOR_FAULTY_H

#include "kernels/cuda/api.h"

/* X(name, what it does) */
#define FAULTY(X)                                                                                                 \
    X(sound_rotate, "out[i] = the next thread's number, through shared memory")                                   \
    X(missing_barrier, "the same without the barrier")                                                            \
    X(behind_shared, "writes the first element behind dynamic shared memory")                                     \
    X(behind_memory, "writes out[n]")                                                                             \
    X(two_barriers, "half of the block waits at one barrier, the other half at another")                          \
    X(barrier_in_warp, "half of a warp waits for the block, the other half shuffles")                             \
    X(gone_lane, "shuffles from a lane that has returned")                                                        \
    X(left_out, "a lane waits with a mask that leaves it out")                                                    \
    X(early_end, "half of the threads return before the barrier: allowed")                                        \
    X(old_shared, "reads static shared memory that only the block before wrote")                                  \
    X(wide_block, "2048 threads")                                                                                 \
    X(empty_grid, "no block")                                                                                     \
    X(much_shared, "100 KiB of dynamic shared memory, which a kernel has to ask for")                             \
    X(two_shared, "32 KiB of its own shared memory beside 20 KiB of dynamic")                                     \
    X(crooked_copy, "begins a copy of 16 bytes from an address that is a multiple of 4")                          \
    X(early_copy, "begins copies over what other threads still read: each the number half a block on")            \
    X(half_warps, "sums over 16 lanes with masks of 16: allowed")

#ifdef __cplusplus
extern "C" {
#endif
#define FAULTY_DECLARE(name, text) void faulty_##name(cuda_queue *q, float *out, int n); /* out: [n], n a multiple of 64 */
FAULTY(FAULTY_DECLARE)
#undef FAULTY_DECLARE
#ifdef __cplusplus
}
#endif

#endif
