/* tap_table.c - see tap_table.h.
 *
 * A record's parts become a table each, of their own type: numbers as float or float16; of the largest logits (cache_code.h) the
 * number of all others, the classes and the values. A batch gathers its rows of them. */
#include "distill/tap_table.h"

#include "ops/attrs.h"

#include <string.h>

#define TABLES 200 /* at most: the logits take three, every hint one */

/* What of a record becomes a table: `each` elements, `step` bytes from one to the next. */
typedef struct part {
    dtype type;
    size_t at, each, step;
} part;

typedef struct builder {
    tap_table *t;
    tap_records r;
    void *own[TABLES]; /* the tables' elements, until the executor has them on the device */
    size_t bytes[TABLES], n;
} builder;

static void copy_part(const tap_records *r, part p, unsigned char *to)
{
    const size_t size = dtype_of(p.type)->size;
    const unsigned char *from = (const unsigned char *)r->data + p.at;
    for (uint64_t i = 0; i < (uint64_t)r->views * r->samples; i++, from += r->bytes, to += p.each * size) {
        if (p.step == size)
            memcpy(to, from, p.each * size);
        for (size_t k = 0; p.step != size && k < p.each; k++)
            memcpy(to + k * size, from + k * p.step, size);
    }
}

/* The rows of a batch: [batch, each]. */
static status add_part(builder *b, part p, value_id *out)
{
    const gather_attrs by_row = {.axis = 0};
    const shape sh = SHAPE((int64_t)b->r.views * b->r.samples, (int64_t)p.each);
    size_t *bytes = &b->bytes[b->n];
    graph *g = b->t->g;
    value_id v;
    TRY(shape_bytes(&sh, p.type, bytes));
    TRY(mem_map(&b->own[b->n], *bytes));
    copy_part(&b->r, p, b->own[b->n]);
    TRY(graph_add_value(g, NULL, p.type, sh, VALUE_CONST, &v));
    graph_value(g, v)->data = b->own[b->n++];
    return graph_add1(g, OP_GATHER, &by_row, v, b->t->row, 0, out);
}

/* One number for all classes, but for the `top` that have their own. */
static status add_top(builder *b, size_t at, size_t top, size_t width, value_id *out)
{
    const shape whole = SHAPE(b->t->batch, (int64_t)width);
    const gather_attrs back = {.axis = 1, .data_shape = {whole.rank, whole.dim}};
    graph *g = b->t->g;
    float *one, zero = 0;
    value_id fill, class, own, ones, zeros, kept;
    TRY(add_part(b, (part){DTYPE_F32, at, 1, 4}, &fill));
    TRY(add_part(b, (part){DTYPE_I32, at + 4, top, 8}, &class));
    TRY(add_part(b, (part){DTYPE_F32, at + 8, top, 8}, &own));
    TRY(mem_alloc(&one, (size_t)b->t->batch * top, sizeof *one));
    for (size_t i = 0; i < (size_t)b->t->batch * top; i++)
        one[i] = 1;
    status st = graph_add_data(g, NULL, VALUE_CONST, DTYPE_F32, SHAPE(b->t->batch, (int64_t)top), one, &ones);
    mem_free(one);
    TRY(st);
    TRY(graph_add_data(g, NULL, VALUE_CONST, DTYPE_F32, SHAPE(1, 1), &zero, &zeros));
    TRY(graph_add1(g, OP_GATHER_ELEMENTS_GRAD, &back, ones, class, 0, &kept));
    TRY(graph_add1(g, OP_GREATER, NULL, kept, zeros, 0, &kept));
    TRY(graph_add1(g, OP_GATHER_ELEMENTS_GRAD, &back, own, class, 0, &own));
    return graph_add1(g, OP_WHERE, NULL, kept, own, fill, out);
}

static status add_output(builder *b, size_t k, value_id *out)
{
    const tap_code *code = b->r.code;
    const size_t at = code_offset(code, k), top = code_top(code, k), width = code->width[k];
    const bool whole = code->store == CACHE_STORE_FP32;
    const cast_attrs to_float = {.to = DTYPE_F32};
    if (top)
        return add_top(b, at, top, width, out);
    TRY(add_part(b, whole ? (part){DTYPE_F32, at, width, 4} : (part){DTYPE_F16, at, width, 2}, out));
    return whole ? ST_OK : graph_add1(b->t->g, OP_CAST, &to_float, *out, 0, 0, out);
}

static status build(builder *b)
{
    tap_table *t = b->t;
    const tap_code *code = b->r.code;
    TRY(graph_new(&t->g));
    TRY(graph_add_input(t->g, "row", DTYPE_I64, SHAPE(t->batch), &t->row));
    TRY(mem_alloc(&t->out, code->n_out, sizeof *t->out));
    for (size_t k = 0; k < code->n_out; k++) {
        if (!code->width[k])
            continue;
        if (b->n + 3 > sizeof b->own / sizeof *b->own)
            return fail(ST_INTERNAL, "more outputs are remembered than there are hints");
        TRY(add_output(b, k, &t->out[k]));
        TRY(graph_add_output(t->g, t->out[k]));
    }
    return graph_validate(t->g);
}

status tap_table_open(const tap_cache *c, int64_t batch, backend *b, tap_table **out)
{
    builder make = {.r = cache_records(c)};
    tap_table *t;
    status st = ST_OK;
    *out = NULL;
    TRY(mem_alloc(&t, 1, sizeof *t));
    t->batch = batch;
    t->samples = make.r.samples;
    make.t = t;
    TRY_DONE(build(&make));
    TRY_DONE(exec_open(t->g, b, NULL, 0, &t->e));
done:
    for (size_t v = 1; t->g && v < t->g->n_value; v++)
        for (size_t k = 0; k < make.n; k++)
            if (graph_value(t->g, (value_id)v)->data == make.own[k])
                graph_value(t->g, (value_id)v)->data = NULL;
    for (size_t k = 0; k < sizeof make.own / sizeof *make.own; k++)
        mem_unmap(make.own[k], make.bytes[k]);
    if (st == ST_OK)
        *out = t;
    else
        tap_table_close(t);
    return st;
}

void tap_table_close(tap_table *t)
{
    if (!t)
        return;
    exec_close(t->e);
    graph_free(t->g);
    mem_free(t->out);
    mem_free(t);
}

void tap_table_put(const tap_table *t, const uint32_t *view, const uint32_t *sample)
{
    int64_t *row = exec_data(t->e, t->row);
    for (int64_t j = 0; j < t->batch; j++)
        row[j] = (int64_t)view[j] * t->samples + sample[j];
}
