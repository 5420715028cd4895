/* roles.c - which initializers of a student are trained, which are running statistics.
 *
 * An operator's row says which inputs are weights (op_desc.params) and statistics (op_desc.states). Add and Mul scale and
 * shift too: an initializer of more than one element there is a weight. Only values made of initializers alone count, so
 * numbers that an exporter wrote as Constant nodes stay constants. */
#include "onnx/importer.h"

#include "ops/attrs.h"

/* What the op rows do not say: weight decay is not applied to inputs of these kinds. */
typedef struct role_row {
    op_id op;
    uint32_t
        params; /* inputs that are weights although the op row says nothing; only with more than one element */
    uint32_t norm, bias;
    bool alone; /* also where all inputs are constants: a token that is repeated for every sample */
} role_row;
/* clang-format off */
static const role_row rows[] = {
    {OP_BATCH_NORM, 0, 1 << 1 | 1 << 2, 0}, {OP_LAYER_NORM, 0, 1 << 1 | 1 << 2, 0},
    {OP_INSTANCE_NORM, 0, 1 << 1 | 1 << 2, 0}, {OP_CONV, 0, 0, 1 << 2}, {OP_CONV_TRANSPOSE, 0, 0, 1 << 2},
    {OP_GEMM, 0, 0, 1 << 2}, {OP_ADD, 3, 0, 0}, {OP_MUL, 3, 0, 0},
    {OP_EXPAND, 1, 0, 0, .alone = true},
};
/* clang-format on */

static const role_row *find_row(op_id op)
{
    static const role_row none = {OP_NONE, 0, 0, 0, false};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].op == op)
            return &rows[i];
    return &none;
}

/* A vector along one axis that is added is a bias; a table (position embedding) is not. */
static bool is_vector(const shape *s)
{
    int wide = 0;
    for (int i = 0; i < s->rank; i++)
        wide += s->dim[i] > 1;
    return wide <= 1;
}

/* Only what is repeated as often as there are samples is a token. */
static bool repeats_for_batch(const importer *im, const draft *d)
{
    const shape_attrs *at = d->attr;
    return at->shape.n > 0 && at->shape.v[0] == im->batch;
}

status roles_apply(importer *im, draft *d, bool all_constant)
{
    const op_desc *op = op_of(d->op);
    const role_row *row = find_row(d->op);
    if (!im->o->trainable || (all_constant && !row->alone) || (row->alone && !repeats_for_batch(im, d)))
        return ST_OK;
    for (size_t i = 0; i < d->n_in && i < 32; i++) {
        uint32_t bit = (uint32_t)1 << i, flags = 0;
        value *v = &im->g->value[d->in[i]];
        bool extra = (row->params & bit) && shape_count(&v->sh) > 1;
        bool param = (op->params & bit) || extra, state = op->states & bit;
        if (!d->in[i] || !(param || state) || !dtype_of(v->type)->is_float || !is_from_init(im, d->in[i]))
            continue;
        value_kind kind = state ? VALUE_STATE : VALUE_PARAM;
        if (v->kind != VALUE_CONST &&
            v->kind != kind) { /* one initializer as weight and as statistics: two values */
            const char *name = v->name;
            TRY(import_alias(im, name, d->in[i], kind, &d->in[i]));
            v = &im->g->value[d->in[i]];
        }
        if (row->norm & bit)
            flags = VALUE_NO_DECAY_NORM;
        else if ((row->bias & bit) || (extra && d->op == OP_ADD && is_vector(&v->sh)))
            flags = VALUE_NO_DECAY_BIAS;
        v->kind = kind;
        v->flags |= flags;
    }
    return ST_OK;
}
