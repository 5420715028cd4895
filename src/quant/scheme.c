/* scheme.c - the usual choices. */
#include "quant/scheme.h"

quant_scheme quant_scheme_default(void)
{
    return (quant_scheme){.activations = DTYPE_U8, .per_channel = true, .weight_limit = 127, .method = QUANT_MSE,
                          .percentile = 99.99};
}

quant_scheme quant_scheme_portable(quant_profile profile)
{
    quant_scheme s = quant_scheme_default();
    s.activations = profile == PROFILE_PORTABLE_S8 ? DTYPE_I8 : DTYPE_U8;
    s.symmetric = s.power_of_two = true;
    s.weight_limit = 64;
    s.profile = profile;
    return s;
}
