/* from_onnx.c - a student that comes as an ONNX model, with its weights or anew. */
#include "onnx/import.h"
#include "student/builder.h"

#include <inttypes.h>
#include <string.h>

/* Fresh start values for every parameter and running statistic, by the rules of weights.c. */
static status start_anew(graph *g, init_kind init, uint64_t seed)
{
    uint8_t *done;
    status st = ST_OK;
    TRY(mem_alloc(&done, g->n_value, 1));
    for (size_t k = 1; k < g->n_node && st == ST_OK; k++)
        st = weight_redraw(g, (node_id)k, init, seed, done);
    mem_free(done);
    return st;
}

static bool sample_fits(const value *input, const shape *sample)
{
    if (input->sh.rank != sample->rank + 1)
        return false;
    return memcmp(input->sh.dim + 1, sample->dim, (size_t)sample->rank * sizeof sample->dim[0]) == 0;
}

/* What a student must be: one input of the samples' shape, logits [batch, classes] first, something to train. */
static status check_model(const student_spec *s, const graph *g, int64_t batch)
{
    const char *path = s->job->student.onnx;
    int64_t classes = s->job->student.classes ? s->job->student.classes : s->classes;
    char a[200], b[200];
    uint32_t inputs = s->n_inputs > 1 ? s->n_inputs : 1;
    if (g->n_input < 1 || g->n_input > inputs)
        return fail(ST_CONFIG, "%s: this model has %zu inputs, a sample has %u", path, g->n_input, inputs);
    const value *x = graph_value(g, g->input[0]), *y = graph_value(g, g->output[0]);
    if (inputs == 1 && !sample_fits(x, &s->sample))
        return fail(ST_CONFIG, "%s: input '%s' is %s, which does not take samples of shape %s", path, x->name,
                    shape_print(&x->sh, a), shape_print(&s->sample, b));
    if (inputs == 1 && x->type != (s->type ? s->type : DTYPE_F32))
        return fail(ST_CONFIG, "%s: input '%s' is %s, the samples are %s", path, x->name,
                    dtype_of(x->type)->name, dtype_of(s->type ? s->type : DTYPE_F32)->name);
    if (y->sh.rank < 1 || y->sh.dim[0] != batch || (classes && (y->sh.rank != 2 || y->sh.dim[1] != classes)))
        return fail(ST_CONFIG, "%s: output '%s' is %s; a student gives [batch, %" PRId64 "] logits", path,
                    y->name, shape_print(&y->sh, a), classes);
    for (size_t v = 1; v < g->n_value; v++)
        if (g->value[v].kind == VALUE_PARAM)
            return ST_OK;
    return fail(ST_CONFIG, "%s: no weight in it can be trained", path);
}

status build_from_onnx(const student_spec *s, int64_t batch, graph **out)
{
    const job *j = s->job;
    onnx_model *m = NULL;
    graph *g = NULL;
    import_options o = {.batch = batch, .trainable = true};
    status st = s->file ? ST_OK : onnx_open(j->student.onnx, &j->limits, &m);
    if (st == ST_OK)
        st = onnx_import(s->file ? s->file : m, &o, &g);
    onnx_close(m);
    TRY(st);
    TRY_DONE(check_model(s, g, batch));
    if (j->student.from_scratch)
        TRY_DONE(start_anew(g, j->student.init, (uint64_t)j->train.seed));
    for (size_t i = 0; i < g->n_input; i++)
        graph_value(g, g->input[i])->flags |= VALUE_BATCHED;
    *out = g;
    return ST_OK;
done:
    graph_free(g);
    return st;
}
