/* op_cases_attention.c - rows of Attention. */
#include "op_case.h"

#include <math.h>

/* The second output is there for the gradient and has none. */
#define GRADED .n_out = 2, .loss_outs = 1, .bwd_tol = 2e-5, .grad_tol = 1e-6
#define AT(...) .attr = &(const attention_attrs){__VA_ARGS__}

const op_case op_cases_attention[] = {
    {OP_ATTENTION, "numbers", .in = {{F32(1, 1, 1, 2), FIXED(1, 2)}, {F32(1, 1, 2, 2), FIXED(1, 0, 0, 1)},
     {F32(1, 1, 2, 1), FIXED(10, 20)}}, AT(.scale = 1), .want = {WANT(17.310585786300049)}, .want_tol = 1e-12, .fwd_tol = 1e-6, .no_grad = true},
    {OP_ATTENTION, "heads first", .in = {{F32(2, 3, 17, 16)}, {F32(2, 3, 19, 16)}, {F32(2, 3, 19, 20)}}, AT(.scale = 0.25),
     .fwd_tol = 2e-6, GRADED},
    {OP_ATTENTION, "tokens first", .in = {{F32(2, 50, 3, 64)}, {F32(2, 50, 3, 64)}, {F32(2, 50, 3, 64)}},
     AT(.scale = 0.125, .q_tokens = 1, .k_tokens = 1, .v_tokens = 1, .y_tokens = 1), .fwd_tol = 4e-6, GRADED},
    {OP_ATTENTION, "mixed, mask of a sample", .in = {{F32(2, 7, 3, 5)}, {F32(2, 3, 9, 5)}, {F32(2, 9, 3, 7)}, {F32(2, 1, 1, 9), .no_grad = true}},
     AT(.scale = 0.5, .q_tokens = 1, .v_tokens = 1), .fwd_tol = 2e-6, GRADED},
    {OP_ATTENTION, "mask that lets nothing through but one", .in = {{F32(1, 2, 3, 4)}, {F32(1, 2, 3, 4)}, {F32(1, 2, 3, 4)},
     {F32(3, 3), FIXED(0, -INFINITY, -INFINITY, 0, 0, -INFINITY, 0, 0, 0), .no_grad = true}}, AT(.scale = 1, .y_tokens = 1), .fwd_tol = 2e-6, GRADED},
    {OP_ATTENTION, "large scores, column mask", .in = {{F32(1, 2, 30, 33), .lo = -30, .hi = 30}, {F32(1, 2, 31, 33)},
     {F32(1, 2, 31, 3)}, {F32(2, 30, 1)}}, AT(.scale = 1), .fwd_tol = 5e-4, .no_grad = true},
    {OP_ATTENTION, "several blocks of keys", .in = {{F32(1, 2, 60, 16)}, {F32(1, 2, 1100, 16)}, {F32(1, 2, 1100, 16)},
     {F32(1, 1, 60, 1100), .lo = -3, .hi = 3, .no_grad = true}}, AT(.scale = 0.25), .fwd_tol = 5e-6, GRADED},
    {OP_ATTENTION, "threads over heads", .in = {{F32(3, 40, 5, 32)}, {F32(3, 40, 5, 32)}, {F32(3, 40, 5, 32)}},
     AT(.scale = 0.2, .q_tokens = 1, .k_tokens = 1, .v_tokens = 1, .y_tokens = 1), .fwd_tol = 5e-6, GRADED},
    {OP_ATTENTION, "heads of 96", .in = {{F32(1, 2, 37, 96)}, {F32(1, 2, 21, 96)}, {F32(1, 2, 21, 100)}}, AT(.scale = 0.1),
     .fwd_tol = 5e-6, GRADED},
    {OP_ATTENTION, "heads of 130, mask", .in = {{F32(1, 9, 2, 130)}, {F32(1, 7, 2, 130)}, {F32(1, 7, 2, 129)},
     {F32(1, 1, 1, 7), .no_grad = true}}, AT(.scale = 0.1, .q_tokens = 1, .k_tokens = 1, .v_tokens = 1, .y_tokens = 1), .fwd_tol = 5e-6, GRADED},
    /* Products of narrow operands, where a library has them; else and in the gradient they are not. */
    {OP_ATTENTION, "bfloat16, tokens first", .in = {{F32(2, 66, 3, 16)}, {F32(2, 70, 3, 16)}, {F32(2, 70, 3, 16)}},
     AT(.scale = 0.25, .q_tokens = 1, .k_tokens = 1, .v_tokens = 1, .y_tokens = 1, .precision = PRECISION_BF16), .fwd_tol = 2e-2, .n_out = 2,
     .loss_outs = 1, .bwd_tol = 2e-2, .grad_tol = 1e-6},
    {OP_ATTENTION, "float16, heads first, other widths", .in = {{F32(1, 2, 9, 24)}, {F32(1, 2, 64, 24)}, {F32(1, 2, 64, 8)}},
     AT(.scale = 0.2, .precision = PRECISION_F16), .fwd_tol = 3e-3, .no_grad = true},
    {OP_ATTENTION, "bfloat16, mask of a sample", .in = {{F32(2, 9, 3, 16)}, {F32(2, 70, 3, 16)}, {F32(2, 3, 70, 24)},
     {F32(2, 1, 1, 70), .lo = -3, .hi = 3, .no_grad = true}}, AT(.scale = 0.25, .q_tokens = 1, .k_tokens = 1, .y_tokens = 1, .precision = PRECISION_BF16),
     .fwd_tol = 2e-2, .n_out = 2, .loss_outs = 1, .bwd_tol = 2e-2, .grad_tol = 1e-6},
    {OP_ATTENTION, "float16, mask of a head", .in = {{F32(2, 3, 9, 24)}, {F32(2, 3, 65, 24)}, {F32(2, 3, 65, 8)}, {F32(3, 9, 65), .lo = -3, .hi = 3}},
     AT(.scale = 0.2, .precision = PRECISION_F16), .fwd_tol = 3e-3, .no_grad = true},
    {OP_ATTENTION, "no queries", .in = {{F32(2, 3, 0, 4)}, {F32(2, 3, 5, 4)}, {F32(2, 3, 5, 4)}}, AT(.scale = 1), GRADED},
    {OP_ATTENTION, .in = {{F32(2, 3, 4, 5)}, {F32(2, 3, 4, 6)}, {F32(2, 3, 4, 6)}}, AT(.scale = 1), .refuse = "fit"},
    {OP_ATTENTION, .in = {{F32(2, 3, 4, 5)}, {F32(2, 1, 4, 5)}, {F32(2, 3, 4, 5)}}, AT(.scale = 1), .refuse = "heads"},
    {OP_ATTENTION, .in = {{F32(3, 4, 5)}, {F32(3, 4, 5)}, {F32(3, 4, 5)}}, AT(.scale = 1), .refuse = "four"},
    {OP_ATTENTION, .in = {{F32(1, 3, 4, 5)}, {F32(1, 3, 4, 5)}, {F32(1, 3, 4, 5)}, {F32(2, 1, 4, 4)}}, AT(.scale = 1),
     .refuse = "mask"},
    OP_CASE_END};
