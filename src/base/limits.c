/* limits.c - the defaults of the one list in limits.h. */
#include "base/limits.h"

limits limits_default(void)
{
#define LIMIT_VALUE(name, value, meaning) .name = (value),
    return (limits){LIMITS(LIMIT_VALUE)};
#undef LIMIT_VALUE
}
