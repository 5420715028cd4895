/* onnx_build.c - ONNX models for tests, without any library that would refuse to write wrong ones. */
#include "onnx_build.h"

#include <stdlib.h>
#include <string.h>

static void put_names(text *t, unsigned field, const char *names)
{
    while (*names) {
        size_t n = strcspn(names, " ");
        wire_put_bytes(t, field, names, n == 1 && *names == '-' ? 0 : n);
        names += n;
        names += *names == ' ';
    }
}

void build_node_into(text *t, unsigned field, const char *domain, const char *op, const char *name,
                     const char *in, const char *out, text *attrs)
{
    text node = {0};
    put_names(&node, 1, in);
    put_names(&node, 2, out);
    if (name)
        wire_put_string(&node, 3, name);
    wire_put_string(&node, 4, op);
    if (attrs) {
        text_add_n(&node, attrs->n ? attrs->s : "", attrs->n);
        text_free(attrs);
    }
    if (domain)
        wire_put_string(&node, 7, domain);
    wire_put_message(t, field, &node);
}

void build_node(model_builder *b, const char *op, const char *name, const char *in, const char *out,
                text *attrs)
{
    build_node_into(&b->graph, 1, NULL, op, name, in, out, attrs);
}

static void put_value_info(text *t, unsigned field, const char *name, dtype type, const char *dims)
{
    text info = {0}, outer = {0}, inner = {0}, sh = {0};
    wire_put_int(&inner, 1, dtype_of(type)->onnx);
    for (const char *d = dims ? dims : ""; *d;) {
        text dim = {0};
        size_t n = strcspn(d, " ");
        if ((*d >= '0' && *d <= '9') || *d == '-')
            wire_put_int(&dim, 1, strtoll(d, NULL, 10));
        else if (*d != '?')
            wire_put_bytes(&dim, 2, d, n);
        wire_put_message(&sh, 1, &dim);
        d += n;
        d += *d == ' ';
    }
    if (dims)
        wire_put_message(&inner, 2, &sh);
    wire_put_message(&outer, 1, &inner);
    wire_put_string(&info, 1, name);
    wire_put_message(&info, 2, &outer);
    wire_put_message(t, field, &info);
}

void build_input(model_builder *b, const char *name, dtype type, const char *dims)
{
    put_value_info(&b->graph, 11, name, type, dims);
}

void build_output(model_builder *b, const char *name, dtype type, const char *dims)
{
    put_value_info(&b->graph, 12, name, type, dims);
}

void build_init_raw(model_builder *b, text *tensor_proto)
{
    wire_put_message(&b->graph, 5, tensor_proto);
}

void build_init(model_builder *b, const char *name, dtype type, const char *dims, const void *data)
{
    text t = {0};
    size_t bytes = dtype_of(type)->size;
    for (const char *d = dims; *d;) {
        int64_t n = strtoll(d, NULL, 10);
        wire_put_int(&t, 1, n);
        bytes *= (size_t)n;
        d += strcspn(d, " ");
        d += *d == ' ';
    }
    wire_put_int(&t, 2, dtype_of(type)->onnx);
    wire_put_string(&t, 8, name);
    wire_put_bytes(&t, 9, data, bytes);
    build_init_raw(b, &t);
}

void build_floats(model_builder *b, const char *name, const char *dims, float first, float step)
{
    static float v[4096];
    for (size_t i = 0; i < 4096; i++)
        v[i] = first + step * (float)i;
    build_init(b, name, DTYPE_F32, dims, v);
}

void build_ints(model_builder *b, const char *name, const int64_t *v, int64_t n)
{
    char dims[24] = {0};
    text t = {0};
    text_printf(&t, "%lld", (long long)n);
    memcpy(dims, t.s, t.n);
    text_free(&t);
    build_init(b, name, DTYPE_I64, dims, v);
}

/* ---- attributes ---- */

static void put_attribute(text *t, const char *name, text *body, int type)
{
    text a = {0};
    wire_put_string(&a, 1, name);
    text_add_n(&a, body->n ? body->s : "", body->n);
    text_free(body);
    wire_put_int(&a, 20, type);
    wire_put_message(t, 5, &a);
}

void attr_int(text *t, const char *name, int64_t v)
{
    text body = {0};
    wire_put_int(&body, 3, v);
    put_attribute(t, name, &body, 2);
}

void attr_float(text *t, const char *name, float v)
{
    text body = {0};
    wire_put_float(&body, 2, v);
    put_attribute(t, name, &body, 1);
}

void attr_string(text *t, const char *name, const char *v)
{
    text body = {0};
    wire_put_string(&body, 4, v);
    put_attribute(t, name, &body, 3);
}

void attr_ints_list(text *t, const char *name, const int64_t *v, size_t n)
{
    text body = {0};
    wire_put_ints(&body, 8, v, n);
    put_attribute(t, name, &body, 7);
}

void attr_message(text *t, const char *name, unsigned field, int type, text *message)
{
    text body = {0};
    wire_put_message(&body, field, message);
    put_attribute(t, name, &body, type);
}

void attr_reference(text *t, const char *name, const char *of, int type)
{
    text body = {0};
    wire_put_string(&body, 21, of);
    put_attribute(t, name, &body, type);
}

/* ---- models ---- */

text build_model(model_builder *b)
{
    text m = {0}, opset = {0};
    wire_put_int(&m, 1, b->ir ? b->ir : 8);
    wire_put_message(&m, 7, &b->graph);
    if (!b->no_opset) {
        wire_put_int(&opset, 2, b->opset ? b->opset : 17);
        wire_put_message(&m, 8, &opset);
    }
    text_add_n(&m, b->functions.n ? b->functions.s : "", b->functions.n);
    text_free(&b->functions);
    return m;
}

void build_network(model_builder *b)
{
    text at = {0};
    build_input(b, "x", DTYPE_F32, "N 1 6 6");
    build_floats(b, "conv.w", "2 1 3 3", -0.5F, 0.06F);
    build_floats(b, "bn.scale", "2", 1, 0.5F);
    build_floats(b, "bn.bias", "2", 0, 0.1F);
    build_floats(b, "bn.mean", "2", 0.1F, 0.1F);
    build_floats(b, "bn.var", "2", 1, 0.25F);
    build_floats(b, "fc.w", "3 18", -0.4F, 0.015F);
    build_floats(b, "fc.b", "3", 0, 0.1F);
    ATTR_INTS_OF(&at, "kernel_shape", 3, 3);
    ATTR_INTS_OF(&at, "pads", 1, 1, 1, 1);
    build_node(b, "Conv", "conv", "x conv.w", "c", &at);
    build_node(b, "BatchNormalization", "bn", "c bn.scale bn.bias bn.mean bn.var", "n", NULL);
    build_node(b, "Relu", "relu", "n", "r", NULL);
    ATTR_INTS_OF(&at, "kernel_shape", 2, 2);
    ATTR_INTS_OF(&at, "strides", 2, 2);
    build_node(b, "MaxPool", "pool", "r", "p", &at);
    build_node(b, "Flatten", "flat", "p", "f", NULL);
    attr_int(&at, "transB", 1);
    build_node(b, "Gemm", "fc", "f fc.w fc.b", "y", &at);
    build_output(b, "y", DTYPE_F32, "N 3");
}
