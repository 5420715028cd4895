/* emulator_control.h - what tests tell the emulator (emulator.h). */
#ifndef DISTILL_TESTS_EMULATOR_CONTROL_H
#define DISTILL_TESTS_EMULATOR_CONTROL_H

#include "kernels/cuda/api.h"

typedef enum emulator_order_kind { EMULATOR_FORWARD, EMULATOR_REVERSE, EMULATOR_RANDOM } emulator_order_kind;

#ifdef __cplusplus
extern "C" {
#endif
extern const cuda_api emulator_api;
void emulator_order(emulator_order_kind kind); /* in which threads and warps run between barriers */
#ifdef __cplusplus
}
#endif

#endif
