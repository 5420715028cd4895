/* op.c - the operator table, made from ops.def. */
#include "graph/graph.h"

#include <string.h>

#define OP(e, object) extern const op_desc op_##object;
#include "graph/ops.def"
#undef OP

static status infer_none(graph *g, node *n)
{
    (void)g;
    return fail(ST_INTERNAL, "node '%s' has no operator", n->name);
}

static const op_desc op_none = {.name = "None", .infer = infer_none, NO_GRAD("it is no operator")};

static const op_desc *const table[OP_COUNT] = {
    [OP_NONE] = &op_none,
#define OP(e, object) [OP_##e] = &op_##object,
#include "graph/ops.def"
#undef OP
};

const op_desc *op_of(op_id op)
{
    return table[(unsigned)op < OP_COUNT ? op : OP_NONE];
}

op_id op_from_name(const char *name)
{
    for (int op = 1; op < OP_COUNT; op++)
        if (strcmp(table[op]->name, name) == 0)
            return (op_id)op;
    return OP_NONE;
}

bool op_is_copy(const op_desc *d, int i)
{
    return d->copy && i >= d->head && (i - d->head) % d->tuple == d->copy;
}

bool op_writes(const op_desc *d, int i)
{
    if (d->tuple > 0 && i >= d->head)
        i = d->head + (i - d->head) % d->tuple;
    return (d->flags & OP_MUTATES) && i < 32 && d->mutates >> i & 1;
}

status op_retype_attrs(const node *n, dtype from, dtype to, arena *mem, const void **out)
{
    const op_desc *d = op_of(n->op);
    char *copy;
    *out = NULL;
    if (!n->attr)
        return ST_OK;
    TRY(arena_alloc(mem, &copy, 1, d->attr_size));
    memcpy(copy, n->attr, d->attr_size);
    for (const attr_desc *a = d->attrs; a && a->name; a++) {
        char *at = copy + a->offset;
        if (a->type == ATTR_DTYPE && *(int64_t *)(void *)at == from)
            *(int64_t *)(void *)at = to;
        if (a->type == ATTR_TENSOR && ((attr_tensor *)(void *)at)->type == from)
            ((attr_tensor *)(void *)at)->type = to;
    }
    *out = copy;
    return ST_OK;
}
