/* fuzz_student.c - job files of any bytes: a student that builds twice alike, or faults with an explanation. */
#include "base/mem.h"
#include "student/student.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t n);

static void require(bool holds)
{
    if (!holds)
        abort(); /* what libFuzzer counts as a finding */
}

/* Parameters and states are the same in name, shape and start value. */
static void require_alike(const graph *a, const graph *b)
{
    for (size_t v = 1; v < a->n_value; v++) {
        const value *x = &a->value[v], *y;
        if (x->kind != VALUE_PARAM && x->kind != VALUE_STATE)
            continue;
        require(graph_find(b, x->name) != 0);
        y = graph_value(b, graph_find(b, x->name));
        require(x->type == y->type && shape_equal(&x->sh, &y->sh) && x->flags == y->flags && x->data && y->data);
        require(memcmp(x->data, y->data, (size_t)shape_count(&x->sh) * dtype_of(x->type)->size) == 0);
    }
}

static void build(job *j)
{
    student_spec s = {.job = j, .classes = 4, .sample = SHAPE(3, 6, 6)};
    graph *a = NULL, *b = NULL;
    j->limits.parameters = 200000;
    status st = student_build(&s, 2, &a);
    if (st != ST_OK) {
        require(st == ST_CONFIG && !a && *status_message());
        return;
    }
    require(student_build(&s, 7, &b) == ST_OK);
    require(graph_validate(a) == ST_OK && graph_validate(b) == ST_OK);
    require_alike(a, b);
    graph_free(a);
    graph_free(b);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t n)
{
    config_sources none = {0};
    job *j = NULL;
    if (config_load_text("s.ini", (const char *)data, n, &none, &j) != ST_OK)
        return 0; /* fuzz_ini's part */
    if (!*j->student.onnx) /* no files here */
        build(j);
    config_free(j);
    return 0;
}
