/* emulator_control.h - what tests tell the emulator (emulator.h), and ask it. */
#ifndef DISTILL_TESTS_EMULATOR_CONTROL_H
#define DISTILL_TESTS_EMULATOR_CONTROL_H

#include "kernels/cuda/api.h"

typedef enum emulator_order_kind { EMULATOR_FORWARD, EMULATOR_REVERSE, EMULATOR_RANDOM } emulator_order_kind;

/* What there is now of things that have to be given back, and what happened since the program began. */
typedef struct emulator_counts {
    size_t memory, host_memory, streams, events, graphs; /* now */
    size_t damaged;         /* blocks of memory that were written beside, found when they were given back */
    size_t launches, waits; /* graphs launched, waits for a stream or an event */
    size_t branches;        /* streams that took part in the recording of another */
} emulator_counts;

#ifdef __cplusplus
extern "C" {
#endif
extern const cuda_api emulator_api;
void emulator_order(emulator_order_kind kind); /* in which threads and warps run between barriers, and
                                               branches of a graph */
const emulator_counts *emulator_count(void);
void emulator_driver(int version);  /* 13000 unless told otherwise; 0: there is none */
void emulator_level(int level);     /* compute capability * 10: 90 unless told otherwise */
void emulator_code(int level);      /* that the kernels were compiled for: 90 unless told otherwise */
void emulator_memory(size_t bytes); /* that the device says it has; 4 GiB unless told otherwise */
/* From now on calls of the table are counted from 1; those from `first` to `last` fail. first = 0: none does. */
void emulator_fail(size_t first, size_t last);
size_t emulator_calls(void);             /* since emulator_fail */
const char *emulator_failed_call(void);  /* the first that was made to fail; NULL: none */
#ifdef __cplusplus
}
#endif

#endif
