/* session_nonfinite.c - which tensor was the first that is not finite, when a step was skipped. */
#include "train/session.h"

#include <math.h>

static bool all_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* A value that cannot be read is not the one. */
static bool holds_nonfinite(const session *s, value_id v)
{
    const value *x = graph_value(s->tg.g, v);
    float part[1024];
    int64_t n = v && x->type == DTYPE_F32 ? shape_count(&x->sh) : 0;
    tensor t = {0};
    if (n <= (int64_t)(sizeof part / sizeof *part))
        return n > 0 && exec_get(s->train, v, part, (size_t)n * sizeof *part) == ST_OK && !all_finite(part, n);
    bool found = tensor_new(&t, NULL, DTYPE_F32, x->sh) == ST_OK && exec_get(s->train, v, t.data, tensor_bytes(&t)) == ST_OK &&
                 !all_finite(t.data, n);
    tensor_free(&t);
    return found;
}

const char *session_find_nonfinite(const session *s)
{
    const train_graph *t = &s->tg;
    const value_id later[] = {t->logits, t->task, t->kl};
    for (size_t i = 0; i < t->n_x; i++)
        if (holds_nonfinite(s, t->x[i]))
            return graph_value(t->g, t->x[i])->name;
    if (holds_nonfinite(s, t->teacher_logits))
        return graph_value(t->g, t->teacher_logits)->name;
    for (size_t i = 0; i < t->n_hint; i++)
        if (holds_nonfinite(s, t->tap[i]))
            return graph_value(t->g, t->tap[i])->name;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (holds_nonfinite(s, later[i]))
            return graph_value(t->g, later[i])->name;
    for (size_t i = 0; i < t->n_hint; i++)
        if (holds_nonfinite(s, t->hint[i]))
            return graph_value(t->g, t->hint[i])->name;
    if (holds_nonfinite(s, t->total))
        return graph_value(t->g, t->total)->name;
    for (size_t i = 0; i < t->n_param; i++)
        if (holds_nonfinite(s, t->grad[i]))
            return graph_value(t->g, t->param[i])->name;
    return "gradient norm";
}

const char *session_guess_nonfinite(const session *s, const step_result *r)
{
    const train_graph *t = &s->tg;
    if (t->task && !isfinite(r->task))
        return graph_value(t->g, t->task)->name;
    if (t->kl && !isfinite(r->kl))
        return graph_value(t->g, t->kl)->name;
    for (size_t i = 0; i < s->n_hint; i++)
        if (!isfinite(r->hint[i]))
            return graph_value(t->g, t->hint[i])->name;
    return !isfinite(r->total) ? graph_value(t->g, t->total)->name : "gradient norm";
}
