/* saturate.c - the bound of saturate.h, channel by channel. */
#include "quant/saturate.h"

#include "ops/attrs.h"
#include "ops/qdq.h"

#include <inttypes.h>

/* Where a product has its weights, and which of their dimensions counts the outputs. */
typedef struct product_row {
    int weights;  /* input; 0: no product */
    bool integer; /* they are the codes themselves; else a DequantizeLinear makes them */
    bool conv;    /* outputs are dimension 0; else the last one, */
    bool gemm;    /* with transB the one before it */
} product_row;

static const product_row rows[OP_COUNT] = {
    [OP_CONV] = {1, .conv = true}, [OP_GEMM] = {1, .gemm = true}, [OP_MATMUL] = {1},
    [OP_QLINEAR_CONV] = {3, .integer = true, .conv = true}, [OP_CONV_INTEGER] = {1, .integer = true, .conv = true},
    [OP_QGEMM] = {3, .integer = true, .gemm = true}, [OP_QLINEAR_MATMUL] = {3, .integer = true}, [OP_MATMUL_INTEGER] = {1, .integer = true},
};

/* Constant int8 codes of the node's weights, or NULL. */
static const int8_t *codes_of(const graph *g, const node *n, const product_row *row, const shape **sh)
{
    qdq q;
    if (n->n_in <= row->weights || !n->in[row->weights])
        return NULL;
    const value *v = graph_value(g, n->in[row->weights]);
    if (row->integer)
        q = (qdq){.type = v->type, .sh = &v->sh, .data = v->kind == VALUE_CONST ? v->data : NULL};
    else if (!qdq_behind(g, n->in[row->weights], &q))
        return NULL;
    *sh = q.sh;
    return q.type == DTYPE_I8 ? q.data : NULL;
}

static int transposed(const node *n, const product_row *row)
{
    const gemm_attrs *a = row->gemm ? n->attr : NULL;
    return a && a->transB;
}

/* Takes v >= 0 into the two largest. */
static void keep_two(int v, int two[2])
{
    if (v > two[0]) {
        two[1] = two[0];
        two[0] = v;
    } else if (v > two[1]) {
        two[1] = v;
    }
}

/* The largest |w1 + w2| among weights of one sign: groups of `inner` that lie `step` apart. */
static int64_t largest_pair(const int8_t *w, int64_t groups, int64_t inner, int64_t step)
{
    int high[2] = {0}, low[2] = {0};
    for (int64_t i = 0; i < groups; i++)
        for (int64_t k = 0; k < inner; k++) {
            int v = w[i * step + k];
            keep_two(v > 0 ? v : 0, high);
            keep_two(v < 0 ? -v : 0, low);
        }
    int most = high[0] + high[1], least = low[0] + low[1];
    return most > least ? most : least;
}

static void measure_product(const node *n, const int8_t *w, const shape *sh, int axis, saturation *s)
{
    int64_t outputs = sh->dim[axis], inner = 1, count = shape_count(sh);
    for (int i = axis + 1; i < sh->rank; i++)
        inner *= sh->dim[i];
    s->products++;
    s->channels += outputs;
    for (int64_t o = 0; o < outputs && count; o++) {
        int64_t pair = largest_pair(w + o * inner, count / (outputs * inner), inner, outputs * inner);
        s->may += pair > SATURATE_PAIR;
        if (pair > s->pair) {
            s->pair = pair;
            s->where = n->name;
        }
    }
}

saturation saturation_measure(const graph *g)
{
    saturation s = {0};
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        const product_row *row = &rows[n->op];
        const shape *sh = NULL;
        const int8_t *w = row->weights ? codes_of(g, n, row, &sh) : NULL;
        int axis = !w || row->conv ? 0 : sh->rank - 1 - transposed(n, row);
        if (w && axis >= 0 && sh->rank > 0)
            measure_product(n, w, sh, axis, &s);
    }
    return s;
}

void saturation_print(const saturation *s, text *t)
{
    if (s->products)
        text_printf(t, "%" PRId64 " of %" PRId64 " channels of int8 weights may saturate on x86 without VNNI", s->may, s->channels);
}

void saturation_json(const saturation *s, json *j)
{
    json_put_object(j, "saturation");
    json_put_int(j, "products", s->products);
    json_put_int(j, "channels", s->channels);
    json_put_int(j, "may_saturate", s->may);
    json_put_int(j, "largest_pair", s->pair);
    json_put_int(j, "limit", SATURATE_PAIR);
    json_put_string(j, "node", s->where);
    json_end_object(j);
}
