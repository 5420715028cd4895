/* op_cases_binary.c - rows of the elementwise operators with several inputs. */
#include "op_case.h"

#include <math.h>

const op_case op_cases_binary[] = {
    {OP_ADD, .in = {{F32(2, 3, 5)}, {F32(2, 3, 5)}}, .bwd_tol = 1e-6},
    OP_CASE_END};
