/* emulator_inside.h - what the emulator's files share: blocks (emulator.cc) and the table of calls (emulator_api.cc). */
#ifndef DISTILL_TESTS_EMULATOR_INSIDE_H
#define DISTILL_TESTS_EMULATOR_INSIDE_H

extern "C" {
#include "kernels/cuda/api.h"
#include "kernels/kernel.h"
}
#include "emulator.h"
#include "emulator_control.h"

/* Codes as CUDA's. */
enum {
    EMULATED_BAD_VALUE = 1,
    EMULATED_NO_MEMORY = 2,
    EMULATED_BAD_CONFIGURATION = 9,
    EMULATED_NO_DEVICE = 101,
    EMULATED_NOT_READY = 600,
    EMULATED_BAD_CAPTURE = 901,
    EMULATED_UNJOINED = 904,
    EMULATED_FAULT = 999,
    EMULATED_LAUNCH_FAILURE = 719
};

struct emulator_launch_of {
    cuda_queue *q;
    const char *name;
    const void *kernel;
    dim3 grid, block;
    size_t shared;
    std::function<void()> body;
};
int emulator_run(const emulator_launch_of *l); /* now */
void emulator_submit(void *stream, emulator_launch_of l);
void emulator_pass(double seconds); /* the device's clock, which events read, goes on: said by work of a stream */
const char *emulator_message(); /* of the last failed launch */
emulator_order_kind emulator_order_now();

#endif
