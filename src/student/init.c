/* init.c - start values of parameters.
 *
 * The numbers of a parameter are a stream of its own, chosen by its name: adding or dropping a layer leaves the others
 * as they were, and two graphs of one student begin alike whatever their batch.
 *
 * torch.nn.Linear and ConvNd draw weight from kaiming_uniform(a = sqrt(5)), that is gain sqrt(2/(1 + 5)), standard
 * deviation gain/sqrt(fan_in), bound sqrt(3) times that = 1/sqrt(fan_in), and bias from the same interval. He:
 * kaiming_normal(mode = fan_out, relu), standard deviation sqrt(2/fan_out) (He et al. 2015, eq. 14; torchvision's
 * resnet.py). */
#include "base/rng.h"
#include "student/builder.h"

#include <math.h>

static uint64_t name_stream(const char *name)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    return h;
}

static void fill(float *to, int64_t n, float number)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = number;
}

static void fill_uniform(float *to, int64_t n, double bound, rng *r)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)((2 * rng_uniform(r) - 1) * bound);
}

static void fill_normal(float *to, int64_t n, double deviation, rng *r)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)(rng_normal(r) * deviation);
}

void start_fill(float *to, int64_t n, start_rule rule, init_kind init, int64_t fan_in, int64_t fan_out,
                uint64_t seed, const char *name)
{
    rng r = rng_make(seed, RNG_INIT, name_stream(name), 0);
    double bound = 1 / sqrt((double)(fan_in > 0 ? fan_in : 1));
    switch (rule) {
    case START_KEPT:
        break;
    case START_ZERO:
        fill(to, n, 0);
        break;
    case START_ONE:
        fill(to, n, 1);
        break;
    case START_QUARTER:
        fill(to, n, 0.25f);
        break;
    case START_NORMAL:
        fill_normal(to, n, 1, &r);
        break;
    case START_CONV:
        if (init == INIT_HE) {
            fill_normal(to, n, sqrt(2 / (double)(fan_out > 0 ? fan_out : 1)), &r);
            break;
        } /* fall through */
    case START_LINEAR:
        fill_uniform(to, n, bound, &r);
        break;
    }
}
