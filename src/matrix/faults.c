/* faults.c - see faults.h. */
#include "matrix/faults.h"
#include "base/mem.h"
#include "ops/qdq.h"

status faults_find_concat_conv(const graph *g, bool *found)
{
    static const bool joins[OP_COUNT] = {[OP_CONCAT] = true}, convolves[OP_COUNT] = {[OP_CONV] = true, [OP_CONV_TRANSPOSE] = true};
    static const bool ends[OP_COUNT] = {[OP_GEMM] = true, [OP_MATMUL] = true}; /* sums of products are no longer what was joined */
    enum { JOINED = 1, CODES };
    uint8_t *is; /* [n_value] what its values are */
    *found = false;
    TRY(mem_alloc(&is, g->n_value, 1));
    for (node_id i = 1; i < g->n_node && !*found; i++) {
        const node *n = graph_node(g, i);
        const value_id from = n->n_in > 0 ? n->in[0] : 0, to = n->n_out > 0 ? n->out[0] : 0;
        uint8_t was = from ? is[from] : 0;
        qdq q;
        for (uint32_t k = 1; k < n->n_in; k++)
            was = !n->in[k] || qdq_is_const(g, n->in[k]) ? was : 0;
        if (qdq_is_quantize(n) && was)
            was = qdq_of_node(g, n, &q) && q.type == DTYPE_I8 ? CODES : 0;
        *found = convolves[n->op] && was == CODES;
        if (to)
            is[to] = joins[n->op] ? JOINED : convolves[n->op] || ends[n->op] ? 0 : was;
    }
    mem_free(is);
    return ST_OK;
}
