/* conv_epilogue.h - what follows the sums of a convolution with a blocked result, vector by vector on the way out. */
#ifndef DISTILL_KERNELS_CONV_EPILOGUE_H
#define DISTILL_KERNELS_CONV_EPILOGUE_H

#include "kernels/cpu/blocked.h"

/* relu(sum + bias + residual) */
typedef struct conv_epilogue {
    const float *bias;         /* [blocks of the result * LANES], zeros where there is none */
    const float *y, *residual; /* the whole result; what is added, like it, or NULL */
    bool relu;
} conv_epilogue;

/* `bias`: of these channels; `at`: where in the result the vector goes. */
ALWAYS_INLINE vec conv_finish(const conv_epilogue *e, vec sum, vec bias, const float *at)
{
    sum += bias;
    if (e->residual)
        sum += vec_load(e->residual + (at - e->y));
    return e->relu ? vec_relu(sum) : sum;
}

/* bias [groups * channels] (or NULL) -> to [groups][blocks * LANES] */
static inline void conv_pack_bias(const float *bias, int64_t groups, int64_t channels, float *to)
{
    int64_t blocks = (channels + LANES - 1) / LANES;
    for (int64_t i = 0; i < groups * blocks; i++)
        vec_store(to + i * LANES, bias ? load_channels(bias + i / blocks * channels, i % blocks, channels) : vec_set(0));
}

#endif
