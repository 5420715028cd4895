/* products.c - convolutions and matrix products: Convolution, ConvolutionDepthWise, InnerProduct, in float and in int8.
 *
 * Weights lie as in ONNX: [O, I, H, W], [out, in]. In the .bin a layer's parts follow each other: weights behind a tag of 4 bytes (0:
 * float32; 0x000D4B38: int8, filled up to 4 bytes), bias in float32, and of int8 layers the reciprocal scales of the weights
 * (one for each output, of grouped convolutions for each group), of the input, and, when the result is int8 too, of the result. */
#include "ncnn/writer.h"

#include <inttypes.h>
#include <math.h>

#define TAG_INT8 0x000D4B38u
#define MASK_EXACT 71 /* featmask: no fp16 arithmetic, fp16 storage, bf16 storage, winograd in this layer */
#define DEPTHWISE_EXACT 8192 /* 2^13: largest sum that ncnn's packed depthwise kernel surely rounds right */

typedef struct product {
    const node *n;
    bool conv, depthwise; /* depthwise: as many groups as channels and outputs */
    bool transposed;      /* the matrix is [in, out] in the graph */
    int64_t outputs, columns, group; /* columns: products in one output's sum */
    value_id weights, bias;
    qdq codes;   /* of the weights */
    bool symmetric; /* codes are int8 with zero point 0 and scales along the outputs */
    node_id act_node;
    const char *act; /* " 9=1", " 9=3 -23310=2,lo,hi" or "" */
    bool positive;
} product;

static status read_product(writer *w, const node *n, product *p)
{
    const value *x = graph_value(w->g, n->in[0]), *k = graph_value(w->g, n->in[1]);
    *p = (product){.n = n, .conv = n->op == OP_CONV, .weights = n->in[1], .bias = n->n_in > 2 ? n->in[2] : 0, .group = 1, .act = ""};
    if (!qdq_is_const(w->g, p->weights))
        return op_fail(n, "its weights '%s' are no constant; ncnn wants them in the file", k->name);
    if (p->conv) {
        const conv_attrs *a = n->attr;
        if (x->sh.rank != 4)
            return op_fail(n, "a convolution over %d axes; written are those over two", x->sh.rank - 2);
        if (n->n_in > 3 || a->relu)
            return op_fail(n, "has a fused epilogue; write the graph before the fusion passes");
        p->outputs = k->sh.dim[0];
        p->group = a->group;
        p->depthwise = a->group > 1 && a->group == x->sh.dim[1] && a->group == p->outputs;
        p->columns = shape_count(&k->sh) / p->outputs;
    } else {
        const gemm_attrs *a = n->op == OP_GEMM ? n->attr : NULL;
        if (k->sh.rank != 2 || x->sh.rank < 2 || x->sh.rank > 3)
            return op_fail(n, "only products of rows with a constant matrix are written to ncnn files");
        if (a && (a->alpha != 1 || (p->bias && a->beta != 1) || a->transA))
            return op_fail(n, "only alpha = 1, beta = 1 and transA = 0 are written to ncnn files");
        p->transposed = !a || !a->transB;
        p->outputs = k->sh.dim[p->transposed ? 1 : 0];
        p->columns = k->sh.dim[p->transposed ? 0 : 1];
    }
    int axis = p->conv || !p->transposed ? 0 : 1;
    p->symmetric = qdq_behind(w->g, p->weights, &p->codes) && p->codes.data && p->codes.type == DTYPE_I8 &&
                   (p->codes.n == 1 || (p->codes.axis == axis && p->codes.n == p->outputs));
    for (int64_t i = 0; p->symmetric && i < p->codes.n; i++)
        p->symmetric = qdq_zero(&p->codes, i) == 0;
    return ST_OK;
}

/* Element j of output o's sum, in the graph's constant. */
static int64_t weight_at(const product *p, int64_t o, int64_t j)
{
    return p->transposed ? j * p->outputs + o : o * p->columns + j;
}

/* Whether ncnn's int8 layer gives the integers of the definition, of an input that holds no code -128. */
static bool int8_holds(const writer *w, const product *p)
{
    if (!p->symmetric || (p->group > 1 && !p->depthwise) || graph_value(w->g, p->n->in[0])->sh.rank == 3)
        return false;
    if (!p->depthwise)
        return true;
    for (int64_t o = 0; o < p->outputs; o++) {
        double sum = 0;
        for (int64_t j = 0; j < p->columns; j++)
            sum += fabs((double)qdq_code(&p->codes, weight_at(p, o, j)));
        if (128 * sum >= DEPTHWISE_EXACT)
            return false;
    }
    return true;
}

/* ---- what follows: an activation, a QuantizeLinear whose codes one int8 product reads ---- */

static status find_activation(writer *w, product *p)
{
    node_id next = nc_only_user(w, p->n->out[0]);
    char lo[NC_NUMBER], hi[NC_NUMBER];
    if (!next)
        return ST_OK;
    const node *n = graph_node(w->g, next);
    if (n->op == OP_RELU) {
        p->act = " 9=1";
        p->positive = true;
    } else if (n->op == OP_CLIP) {
        const clip_attrs *a = n->attr;
        TRY(arena_printf(&w->mem, &p->act, " 9=3 -23310=2,%s,%s", nc_number(a->min, lo), nc_number(a->max, hi)));
        p->positive = a->min >= 0;
    } else {
        return ST_OK;
    }
    p->act_node = next;
    return ST_OK;
}

/* The QuantizeLinear behind v, when its result may stay int8; 0: none. */
static node_id find_int8_result(writer *w, value_id v)
{
    node_id round = nc_only_user(w, v), next;
    qdq q;
    product p;
    if (!round || !qdq_is_quantize(graph_node(w->g, round)) || !qdq_of_node(w->g, graph_node(w->g, round), &q) || q.n != 1 ||
        q.type != DTYPE_I8 || qdq_zero(&q, 0) != 0)
        return 0;
    next = nc_only_user(w, q.codes);
    if (!next || !qdq_is_dequantize(graph_node(w->g, next)))
        return 0;
    v = graph_node(w->g, next)->out[0];
    for (next = nc_only_user(w, v); next && nc_rows[graph_node(w->g, next)->op].emit == nc_emit_view; next = nc_only_user(w, v))
        v = graph_node(w->g, next)->out[0];
    if (!next || nc_rows[graph_node(w->g, next)->op].emit != nc_emit_product || graph_node(w->g, next)->in[0] != v)
        return 0;
    if (read_product(w, graph_node(w->g, next), &p) != ST_OK) {
        status_clear(); /* it will say so when its turn comes */
        return 0;
    }
    return int8_holds(w, &p) ? round : 0;
}

/* ---- the .bin ---- */

static void put_floats(writer *w, const float *v, int64_t n)
{
    text_add_n(&w->bin, v, (size_t)n * sizeof *v);
}

static status put_weights(writer *w, const product *p, bool int8)
{
    uint32_t tag = int8 ? TAG_INT8 : 0;
    const float *real = NULL;
    if (!int8)
        TRY(qdq_floats(w->g, p->weights, &w->mem, &real));
    text_add_n(&w->bin, &tag, sizeof tag);
    for (int64_t o = 0; o < p->outputs; o++) {
        if (!int8 && !p->transposed) {
            put_floats(w, real + o * p->columns, p->columns);
            continue;
        }
        for (int64_t j = 0; j < p->columns; j++) {
            int64_t at = weight_at(p, o, j);
            if (int8)
                text_add_n(&w->bin, &(int8_t){(int8_t)qdq_code(&p->codes, at)}, 1);
            else
                put_floats(w, real + at, 1);
        }
    }
    size_t rest = int8 ? (size_t)(-(p->outputs * p->columns) & 3) : 0;
    text_add_n(&w->bin, "\0\0\0", rest);
    return ST_OK;
}

static status put_bias(writer *w, const product *p)
{
    const float *real;
    if (!p->bias)
        return ST_OK;
    int64_t n = shape_count(&graph_value(w->g, p->bias)->sh);
    TRY(qdq_floats(w->g, p->bias, &w->mem, &real));
    if (!real || (n != 1 && n != p->outputs))
        return op_fail(p->n, "its bias '%s' is not one constant for each output", graph_value(w->g, p->bias)->name);
    for (int64_t i = 0; i < p->outputs; i++)
        put_floats(w, real + (n > 1 ? i : 0), 1);
    return ST_OK;
}

static void put_scales(writer *w, const product *p, float input, float result)
{
    for (int64_t i = 0; i < p->outputs; i++)
        put_floats(w, &(float){1 / p->codes.scale[p->codes.n > 1 ? i : 0]}, 1);
    put_floats(w, &(float){1 / input}, 1);
    if (result > 0)
        put_floats(w, &(float){1 / result}, 1);
}

/* ---- the layer ---- */

static status windows(writer *w, const product *p, const char **params)
{
    const conv_attrs *a = p->n->attr;
    const int64_t *k = a->kernel_shape.v, *s = a->strides.v, *d = a->dilations.v, *pad = a->pads.v;
    const char *group = "";
    if (p->group > 1)
        TRY(arena_printf(&w->mem, &group, " 7=%" PRId64, p->group));
    for (int i = 0; i < 4; i++)
        if (pad[i] < 0)
            return op_fail(p->n, "negative padding is not written to ncnn files");
    return arena_printf(&w->mem, params,
                        " 1=%" PRId64 " 11=%" PRId64 " 2=%" PRId64 " 12=%" PRId64 " 3=%" PRId64 " 13=%" PRId64 " 4=%" PRId64
                        " 14=%" PRId64 " 15=%" PRId64 " 16=%" PRId64 " 5=%d 6=%" PRId64 "%s",
                        k[1], k[0], d[1], d[0], s[1], s[0], pad[1], pad[0], pad[3], pad[2], p->bias != 0, p->outputs * p->columns,
                        group);
}

status nc_emit_product(writer *w, const node *n, const nc_row *row)
{
    (void)row;
    product p;
    const char *shape_params, *params, *int8_params = "";
    int32_t in, out;
    TRY(read_product(w, n, &p));
    const place *x = &w->at[n->in[0]];
    float grid = x->grid;
    bool integers = grid > 0 && p.symmetric, int8 = integers && x->above && int8_holds(w, &p);
    if (x->codes && !int8)
        return fail(ST_INTERNAL, "node '%s': codes meet a product in float", n->name);
    TRY(find_activation(w, &p));
    const node *last = p.act_node ? graph_node(w->g, p.act_node) : n;
    node_id round = int8 && p.conv && p.positive ? find_int8_result(w, last->out[0]) : 0;
    qdq q = {0};
    if (round)
        (void)qdq_of_node(w->g, graph_node(w->g, round), &q);
    TRY(nc_take(w, n->in[0], (int8 ? 0 : TAKE_ROUNDED) | (p.conv || graph_value(w->g, n->in[0])->sh.rank == 3 ? 0 : TAKE_LOOSE), &in));
    if (p.conv)
        TRY(windows(w, &p, &shape_params));
    else
        TRY(arena_printf(&w->mem, &shape_params, " 1=%d 2=%" PRId64, p.bias != 0, p.outputs * p.columns));
    if (int8)
        int8_params = round ? " 8=101" : " 8=1";
    else if (integers)
        TRY(arena_printf(&w->mem, &int8_params, " 31=%d", MASK_EXACT));
    TRY(arena_printf(&w->mem, &params, " 0=%" PRId64 "%s%s%s", p.outputs, shape_params, int8_params, p.act));
    TRY(put_weights(w, &p, int8));
    TRY(put_bias(w, &p));
    if (int8)
        put_scales(w, &p, grid, round ? q.scale[0] : 0);
    TRY(nc_add(w, !p.conv ? "InnerProduct" : p.group > 1 ? "ConvolutionDepthWise" : "Convolution", n->name, params, &in, 1, &out));
    w->facts.int8_layers += int8;
    w->facts.widened += integers && !int8;
    nc_put(w, last->out[0], out);
    w->at[last->out[0]].above = p.positive;
    w->at[last->out[0]].loose = graph_value(w->g, n->in[0])->sh.rank == 3; /* a single row comes out without its axis */
    w->done[p.act_node] = 1; /* node 0 is nobody */
    if (round) {
        w->at[q.codes] = (place){.codes = out, .grid = q.scale[0], .above = true};
        w->done[round] = 1;
    }
    return ST_OK;
}
