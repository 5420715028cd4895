/* op_cases_reduce.c - rows of the reductions. */
#include "op_case.h"

#include <math.h>

const op_case op_cases_reduce[] = {
    {OP_REDUCE_SUM, .in = {{F32(2, 3, 5)}}, .fwd_tol = 1e-6},
    OP_CASE_END};
