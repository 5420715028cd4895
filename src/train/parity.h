/* parity.h - a few training steps whose every number can be compared with another framework's: given samples in order, no
 * augmentation, in float32 with the fast kernels or in float64 with the reference kernels; in fp16 or bf16 on a device where
 * train.precision asks for it by name (the loss is scaled by 1024 then, and what is said of gradients is without it). */
#ifndef DISTILL_TRAIN_PARITY_H
#define DISTILL_TRAIN_PARITY_H

#include "config/config.h"
#include "graph/types.h"

typedef struct parity_options {
    const job *j;   /* data, student, teacher, losses, optimizer, schedule */
    uint64_t steps;
    bool wide;      /* float64, reference kernels */
} parity_options;

/* Makes the steps. `out` gets, by name: loss.total, loss.TASK ("ce"), loss.kl (T^2 KL), loss.hint.NAME, lr, each
 * [steps]; teacher.logits [batch, classes] and student.logits of the first step; grad.NAME: the gradient of the total
 * at the first step, without weight decay; NAME: every parameter (of regressors too:
 * hint.NAME.weight, hint.NAME.bias) and running statistic at the end. */
MUST_USE status parity_run(const parity_options *o, tensor_list *out);

#endif
