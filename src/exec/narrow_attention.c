/* narrow_attention.c - attention computes in the type that images lie in (backend_narrow): its operands stay float32 between
 * kernels, a kernel that can rounds them for its products. The gradient stays float32. */
#include "base/mem.h"
#include "exec/internal.h"
#include "ops/attrs.h"

status pass_narrow_attention(graph *g, const backend *b)
{
    const int64_t precision = b->narrow == DTYPE_F16 ? PRECISION_F16 : PRECISION_BF16;
    for (size_t k = 1; k < g->n_node && b->narrow; k++) {
        node *n = &g->node[k];
        attention_attrs *at;
        if (n->op != OP_ATTENTION || g->value[n->in[0]].type != DTYPE_F32)
            continue;
        TRY(arena_alloc(&g->mem, &at, 1, sizeof *at));
        *at = *(const attention_attrs *)n->attr;
        at->precision = precision;
        n->attr = at;
    }
    return ST_OK;
}
