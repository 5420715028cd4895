/* lift.c - a model's bytes without the large weights. Numbers of fields: onnx.proto3. */
#include "onnx/lift.h"

#include "onnx/wire.h"

#include <string.h>

#define LARGE 4096 /* bytes; smaller ones are not worth it */

enum { MODEL_GRAPH = 7, GRAPH_INITIALIZER = 5, TENSOR_RAW_DATA = 9, TYPE_BYTES = 2 };

typedef struct lift {
    lifted *list;
    size_t n, cap;
    size_t initializers;  /* seen so far */
    unsigned char *free_from; /* what lies between here and the next weights has been copied */
} lift;

typedef struct span { /* one field of a message */
    unsigned char *begin, *data, *end; /* data: of a length-delimited field */
    unsigned number, type;
} span;

static unsigned char *read_varint(unsigned char *p, uint64_t *out)
{
    *out = 0;
    for (int shift = 0;; shift += 7) {
        *out |= (uint64_t)(*p & 0x7f) << shift;
        if (*p++ < 0x80)
            return p;
    }
}

/* wire_check has seen all tags and lengths. */
static span read_field(unsigned char *p)
{
    uint64_t tag, n = 0;
    span s = {.begin = p};
    p = read_varint(p, &tag);
    s.number = (unsigned)(tag >> 3);
    s.type = tag & 7;
    if (s.type == TYPE_BYTES || s.type == 0)
        p = read_varint(p, &n);
    s.data = p;
    s.end = p + (s.type == TYPE_BYTES ? n : s.type == 1 ? 8 : s.type == 5 ? 4 : 0);
    return s;
}

static status take_weights(lift *l, const span *s)
{
    size_t n = (size_t)(s->end - s->data), over = (uintptr_t)s->data % LIFT_ALIGNMENT;
    unsigned char *to = s->data - over;
    if (to < l->free_from)
        to = s->data;
    memmove(to, s->data, n);
    TRY(mem_push(&l->list, &l->cap, l->n, sizeof *l->list));
    l->list[l->n++] = (lifted){l->initializers, to, n};
    l->free_from = s->end;
    return ST_OK;
}

static status put_tensor(lift *l, const span *tensor, text *out)
{
    text t = {0};
    status st = ST_OK;
    for (unsigned char *p = tensor->data; p < tensor->end && st == ST_OK;) {
        span s = read_field(p);
        p = s.end;
        if (s.number == TENSOR_RAW_DATA && s.end - s.data >= LARGE)
            st = take_weights(l, &s);
        else
            text_add_n(&t, s.begin, (size_t)(s.end - s.begin));
    }
    l->initializers++;
    wire_put_message(out, GRAPH_INITIALIZER, &t);
    return st;
}

static status put_graph(lift *l, const span *graph, text *out)
{
    text t = {0};
    status st = ST_OK;
    for (unsigned char *p = graph->data; p < graph->end && st == ST_OK;) {
        span s = read_field(p);
        p = s.end;
        if (s.number == GRAPH_INITIALIZER)
            st = put_tensor(l, &s, &t);
        else
            text_add_n(&t, s.begin, (size_t)(s.end - s.begin));
    }
    wire_put_message(out, MODEL_GRAPH, &t);
    return st;
}

status lift_weights(unsigned char *data, size_t n, text *rest, lifted **list, size_t *n_list)
{
    lift l = {.free_from = data};
    status st = ST_OK;
    for (unsigned char *p = data; p < data + n && st == ST_OK;) {
        span s = read_field(p);
        p = s.end;
        if (s.number == MODEL_GRAPH)
            st = put_graph(&l, &s, rest);
        else
            text_add_n(rest, s.begin, (size_t)(s.end - s.begin));
    }
    if (st == ST_OK)
        st = rest->st;
    if (st != ST_OK) {
        mem_free(l.list);
        l = (lift){0};
    }
    *list = l.list;
    *n_list = l.n;
    return st;
}
