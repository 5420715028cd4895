/* test_ops.c - every operator, by the rows of tests/op_cases_FAMILY.c; and that no operator is left out. */
#include "harness.h"
#include "op_case.h"

#include <stdio.h>
#include <string.h>

const op_excuse op_excuses[] = {{OP_REORDER, "test_layout.c", true},
                                 {OP_LINEAR_MASKED, "test_emulated_libs.c", true},
                                 {OP_FAKE_QUANT, "its gradient, which is no derivative: test_qat.c", true},
                                 {OP_NONE}};

#define FAMILY(name)                                                                                              \
    START_TEST(family_##name)                                                                                     \
    {                                                                                                             \
        int failed = op_cases_run(#name, op_cases_##name, NULL, DTYPE_NONE);                                                        \
        ck_assert_msg(failed == 0, "%d rows of family " #name " failed", failed);                                 \
    }                                                                                                             \
    END_TEST
OP_CASE_FAMILIES(FAMILY)

START_TEST(every_operator_has_a_case)
{
    static bool seen[OP_COUNT], graded[OP_COUNT];
    int missing = 0;
#define COVER(name) OK(op_cases_cover(op_cases_##name, seen, graded));
    OP_CASE_FAMILIES(COVER)
    for (int op = 1; op < OP_COUNT; op++) {
        const op_desc *d = op_of((op_id)op);
        const char *excuse = NULL;
        bool elsewhere = false;
        for (const op_excuse *x = op_excuses; x->op != OP_NONE; x++)
            if ((int)x->op == op) {
                excuse = x->reason;
                elsewhere = x->elsewhere;
            }
        bool covered = seen[op] && (graded[op] || !d->grad);
        if (excuse && !covered && !elsewhere)
            test_skip(d->name, excuse);
        if (covered == (excuse == NULL))
            continue;
        printf("FAIL operator %s: %s\n", d->name,
               excuse ? "has an excuse that it no longer needs" : seen[op] ? "its gradient has no case" : "has no case");
        missing++;
    }
    fflush(stdout);
    ck_assert_msg(missing == 0, "%d operators", missing);
}
END_TEST

START_TEST(rows_of_the_operator_table_are_sound)
{
    for (int op = 1; op < OP_COUNT; op++) {
        const op_desc *d = op_of((op_id)op);
        ck_assert_msg(op_from_name(d->name) == (op_id)op, "operator name '%s' is used twice", d->name);
        ck_assert_msg(d->infer != NULL, "%s has no inference", d->name);
        ck_assert_msg((d->grad != NULL) != (d->no_grad != NULL), "%s: a gradient or a reason, not both", d->name);
        ck_assert_msg((d->attrs != NULL) <= (d->attr_size > 0), "%s: attributes without a struct", d->name);
        ck_assert_msg(!(d->flags & OP_MUTATES) == !d->mutates, "%s: OP_MUTATES and its mask disagree", d->name);
        for (const attr_desc *a = d->attrs; a && a->name; a++)
            ck_assert_msg(a->offset + sizeof(int64_t) <= d->attr_size, "%s: attribute %s lies outside the struct",
                          d->name, a->name);
    }
    ck_assert(op_from_name("NoSuchOperator") == OP_NONE);
}
END_TEST

#define ENTRY(name) TEST(family_##name),
const test_entry test_table[] = {OP_CASE_FAMILIES(ENTRY) TEST(every_operator_has_a_case),
                                 TEST(rows_of_the_operator_table_are_sound), {0}};
