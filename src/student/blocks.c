/* blocks.c - the parts that students are made of: presets and [layer] sections add the same ones.
 *
 * A block sits at a place ("stage1.0"); its parameters are PLACE.conv1.weight, PLACE.bn1.bias and so on. Convolutions
 * before a batch norm have no bias. Spatial rank follows the input: [N, C, L] works as [N, C, H, W] does. */
#include "student/builder.h"

#include <inttypes.h>
#include <string.h>

status builder_name(builder *b, const char *a, const char *suffix, const char **out)
{
    if (!suffix)
        return arena_strdup(&b->g->mem, out, a);
    return arena_printf(&b->g->mem, out, "%s.%s", a, suffix);
}

/* ---- single nodes ---- */

static status one_op(builder *b, const char *place, const char *suffix, op_id op, const void *attr,
                     value_id x, const weight_ask *ask, const char *out_name, value_id *out)
{
    const char *name, *names[1] = {out_name};
    TRY(builder_name(b, place, suffix, &name));
    return builder_op(b, name, op, attr, &x, 1, ask, names, out, 1);
}

/* Lists of one number for every spatial axis of x (pads: twice). */
static status conv_lists(builder *b, value_id x, int64_t kernel, int64_t stride, attr_ints *k, attr_ints *s,
                         attr_ints *pads, int64_t pad)
{
    int rank = graph_value(b->g, x)->sh.rank - 2;
    int64_t *v;
    if (rank < 1)
        return fail(ST_CONFIG, "needs an input with channels and spatial axes, [C, H, W] or [C, L]");
    TRY(arena_alloc(&b->g->mem, &v, (size_t)rank * 4, sizeof *v));
    for (int i = 0; i < rank; i++) {
        v[i] = kernel;
        v[rank + i] = stride;
        v[2 * rank + i] = v[3 * rank + i] = pad;
    }
    *k = (attr_ints){rank, v};
    *s = (attr_ints){rank, v + rank};
    *pads = (attr_ints){2 * rank, v + 2 * rank};
    return ST_OK;
}

status builder_conv(builder *b, const char *place, value_id x, int64_t channels, int64_t kernel,
                    int64_t stride, int64_t group, value_id *out)
{
    conv_attrs at;
    op_default_attrs(OP_CONV, &at);
    if (kernel % 2 == 0)
        return fail(ST_CONFIG, "kernel must be odd, so that the grid keeps its size; it is %" PRId64, kernel);
    TRY(conv_lists(b, x, kernel, stride, &at.kernel_shape, &at.strides, &at.pads, kernel / 2));
    at.group = group;
    return one_op(b, place, NULL, OP_CONV, &at, x, &(weight_ask){.channels = channels}, NULL, out);
}

status builder_batch_norm(builder *b, const char *place, const char *out_name, value_id x, value_id *out)
{
    return one_op(b, place, NULL, OP_BATCH_NORM, NULL, x, &(weight_ask){.bias = true}, out_name, out);
}

status builder_max_pool(builder *b, const char *place, value_id x, int64_t kernel, value_id *out)
{
    pool_attrs at;
    op_default_attrs(OP_MAX_POOL, &at);
    TRY(conv_lists(b, x, kernel, kernel, &at.kernel_shape, &at.strides, &at.pads, 0));
    return one_op(b, place, NULL, OP_MAX_POOL, &at, x, NULL, NULL, out);
}

status builder_flatten(builder *b, const char *place, value_id x, value_id *out)
{
    /* Reshape and not Flatten: every runtime has it. 0 keeps the batch. */
    reshape_attrs at;
    if (graph_value(b->g, x)->sh.rank == 2) {
        *out = x;
        return ST_OK;
    }
    op_default_attrs(OP_RESHAPE, &at);
    at.shape = (attr_ints){2, (const int64_t[]){0, -1}};
    return one_op(b, place, NULL, OP_RESHAPE, &at, x, NULL, NULL, out);
}

status builder_global_pool(builder *b, const char *place, value_id x, value_id *out)
{
    const char *flat;
    TRY(builder_name(b, place, "flat", &flat));
    TRY(one_op(b, place, NULL, OP_GLOBAL_AVERAGE_POOL, NULL, x, NULL, NULL, out));
    return builder_flatten(b, flat, *out, out);
}

status builder_dropout(builder *b, const char *place, double ratio, value_id x, value_id *out)
{
    dropout_attrs at;
    *out = x;
    if (ratio <= 0)
        return ST_OK;
    op_default_attrs(OP_DROPOUT, &at);
    at.ratio = ratio;
    return one_op(b, place, NULL, OP_DROPOUT, &at, x, NULL, NULL, out);
}

status builder_linear(builder *b, const char *place, const char *out_name, value_id x, int64_t channels,
                      value_id *out)
{
    gemm_attrs at;
    op_default_attrs(OP_GEMM, &at);
    at.transB = 1; /* weight [out, in], as torch.nn.Linear keeps it */
    return one_op(b, place, NULL, OP_GEMM, &at, x, &(weight_ask){.channels = channels, .bias = true},
                  out_name, out);
}

/* ---- activations ---- */

/* X(name, operator or OP_NONE, attributes or NULL, multiply the operator's result with its input) */
#define ACTIVATIONS(X)                                                                                       \
    X(none, OP_NONE, NULL, false)                                                                            \
    X(relu, OP_RELU, NULL, false)                                                                            \
    X(relu6, OP_CLIP, &relu6, false)                                                                         \
    X(leaky_relu, OP_LEAKY_RELU, NULL, false)                                                                \
    X(prelu, OP_PRELU, NULL, false)                                                                          \
    X(elu, OP_ELU, NULL, false)                                                                              \
    X(gelu, OP_GELU, NULL, false)                                                                            \
    X(silu, OP_SIGMOID, NULL, true)                                                                          \
    X(hard_swish, OP_HARD_SWISH, NULL, false)                                                                \
    X(sigmoid, OP_SIGMOID, NULL, false)                                                                      \
    X(tanh, OP_TANH, NULL, false)

static const clip_attrs relu6 = {0, 6};
static const struct activation {
    const char *name;
    op_id op;
    const void *attr;
    bool times_input;
} activations[] = {
#define ACTIVATION_ROW(name, op, attr, times_input) {#name, op, attr, times_input},
    ACTIVATIONS(ACTIVATION_ROW)
#undef ACTIVATION_ROW
};
#define ACTIVATION_ENUM(name, op, attr, times_input) ACTIVATION_##name,
enum { ACTIVATIONS(ACTIVATION_ENUM) N_ACTIVATIONS };
#undef ACTIVATION_ENUM
#define ACTIVATION_WORD(name, op, attr, times_input) #name " "
#define ACTIVATION_WORDS                             ACTIVATIONS(ACTIVATION_WORD)

const char *activation_name(int activation)
{
    return activation < N_ACTIVATIONS ? activations[activation].name : NULL;
}

int activation_from_name(const char *name)
{
    for (int i = 0; i < N_ACTIVATIONS; i++)
        if (strcmp(activations[i].name, name) == 0)
            return i;
    return -1;
}

status builder_activation(builder *b, const char *place, int64_t activation, const char *out_name, value_id x,
                          value_id *out)
{
    const struct activation *a = &activations[activation];
    value_id gate;
    *out = x;
    if (a->op == OP_NONE)
        return out_name ? graph_rename(b->g, x, out_name) : ST_OK;
    if (!a->times_input)
        return one_op(b, place, NULL, a->op, a->attr, x, &(weight_ask){0}, out_name, out);
    const char *mul, *names[1] = {out_name};
    TRY(one_op(b, place, "gate", a->op, a->attr, x, &(weight_ask){0}, NULL, &gate));
    TRY(builder_name(b, place, "mul", &mul));
    return builder_op(b, mul, OP_MUL, NULL, (value_id[]){x, gate}, 2, NULL, names, out, 1);
}

/* ---- blocks ---- */

/* Convolution, batch norm, activation, under three places. */
static status conv_bn_act(builder *b, const char *conv, const char *bn, const char *act, value_id x,
                          int64_t channels, int64_t kernel, int64_t stride, int64_t group, int64_t activation,
                          const char *out_name, value_id *out)
{
    bool plain = activation == ACTIVATION_none;
    TRY(builder_conv(b, conv, x, channels, kernel, stride, group, out));
    TRY(builder_batch_norm(b, bn, plain ? out_name : NULL, *out, out));
    return plain ? ST_OK : builder_activation(b, act, activation, out_name, *out, out);
}

/* The same with the places PLACE.WHAT, PLACE.WHAT_bn, PLACE.WHAT_act. */
static status conv_unit(builder *b, const char *place, const char *what, value_id x, int64_t channels,
                        int64_t kernel, int64_t stride, int64_t group, int64_t activation,
                        const char *out_name, value_id *out)
{
    const char *conv, *bn, *act;
    TRY(builder_name(b, place, what, &conv));
    TRY(arena_printf(&b->g->mem, &bn, "%s_bn", conv));
    TRY(arena_printf(&b->g->mem, &act, "%s_act", conv));
    return conv_bn_act(b, conv, bn, act, x, channels, kernel, stride, group, activation, out_name, out);
}

static status add_to(builder *b, const char *place, value_id x, value_id y, const char *out_name,
                     value_id *out)
{
    const char *name, *names[1] = {out_name};
    TRY(builder_name(b, place, "add", &name));
    return builder_op(b, name, OP_ADD, NULL, (value_id[]){x, y}, 2, NULL, names, out, 1);
}

static int64_t channels_of(const builder *b, value_id x)
{
    const value *v = graph_value(b->g, x);
    return v->sh.rank > 1 ? v->sh.dim[1] : 1;
}

/* conv_bn: convolution without bias, batch norm, activation. */
static status conv_build(builder *b, const char *place, const char *out_name, value_id x, int64_t channels,
                         const block_attrs *at, value_id *out)
{
    const char *conv, *bn, *act;
    TRY(builder_name(b, place, "conv", &conv));
    TRY(builder_name(b, place, "bn", &bn));
    TRY(builder_name(b, place, "act", &act));
    return conv_bn_act(b, conv, bn, act, x, channels, at->kernel, at->stride, 1, at->activation, out_name,
                       out);
}

/* residual: y = act(bn2(conv2(act(bn1(conv1(x))))) + s(x)); s is the identity, or a 1x1 convolution with batch norm
 * where the shape changes (He et al. 2016, "Deep residual learning", option B). conv1 carries the stride. */
static status residual_build(builder *b, const char *place, const char *out_name, value_id x,
                             int64_t channels, const block_attrs *at, value_id *out)
{
    const char *name[7], *const suffix[7] = {"conv1", "bn1", "act1", "conv2", "bn2", "short.0", "short.1"};
    const char *act;
    value_id y, s = x;
    for (int i = 0; i < 7; i++)
        TRY(builder_name(b, place, suffix[i], &name[i]));
    TRY(conv_bn_act(b, name[0], name[1], name[2], x, channels, at->kernel, at->stride, 1, at->activation,
                    NULL, &y));
    TRY(builder_conv(b, name[3], y, channels, at->kernel, 1, 1, &y));
    TRY(builder_batch_norm(b, name[4], NULL, y, &y));
    if (at->stride != 1 || channels_of(b, x) != channels) {
        TRY(builder_conv(b, name[5], x, channels, 1, at->stride, 1, &s));
        TRY(builder_batch_norm(b, name[6], NULL, s, &s));
    }
    TRY(builder_name(b, place, "act2", &act));
    if (at->activation == ACTIVATION_none)
        return add_to(b, place, y, s, out_name, out);
    TRY(add_to(b, place, y, s, NULL, &y));
    return builder_activation(b, act, at->activation, out_name, y, out);
}

/* preact: o = act(bn1(x)); y = conv2(dropout(act(bn2(conv1(o))))) + s; s = x, or a 1x1 convolution of o where the shape
 * changes (He et al. 2016, "Identity mappings"; Zagoruyko and Komodakis 2016, "Wide residual networks"). */
static status preact_build(builder *b, const char *place, const char *out_name, value_id x, int64_t channels,
                           const block_attrs *at, value_id *out)
{
    const char *name[8], *const suffix[8] = {"bn1",  "act1",    "conv1", "bn2",
                                             "act2", "dropout", "conv2", "short"};
    value_id o, y, s = x;
    for (int i = 0; i < 8; i++)
        TRY(builder_name(b, place, suffix[i], &name[i]));
    TRY(builder_batch_norm(b, name[0], NULL, x, &o));
    TRY(builder_activation(b, name[1], at->activation, NULL, o, &o));
    TRY(builder_conv(b, name[2], o, channels, at->kernel, at->stride, 1, &y));
    TRY(builder_batch_norm(b, name[3], NULL, y, &y));
    TRY(builder_activation(b, name[4], at->activation, NULL, y, &y));
    TRY(builder_dropout(b, name[5], at->dropout, y, &y));
    TRY(builder_conv(b, name[6], y, channels, at->kernel, 1, 1, &y));
    if (at->stride != 1 || channels_of(b, x) != channels)
        TRY(builder_conv(b, name[7], o, channels, 1, at->stride, 1, &s));
    return add_to(b, place, y, s, out_name, out);
}

/* inverted_residual: 1x1 convolution to `expand` times the channels, depthwise convolution, linear 1x1 convolution
 * back; plus x where the shape stays (Sandler et al. 2018, "MobileNetV2"). expand = 1 leaves out the first. */
static status inverted_build(builder *b, const char *place, const char *out_name, value_id x,
                             int64_t channels, const block_attrs *at, value_id *out)
{
    int64_t in = channels_of(b, x), wide = in * at->expand;
    bool adds = at->stride == 1 && in == channels;
    value_id y = x;
    if (at->expand != 1)
        TRY(conv_unit(b, place, "expand", y, wide, 1, 1, 1, at->activation, NULL, &y));
    TRY(conv_unit(b, place, "depthwise", y, wide, at->kernel, at->stride, wide, at->activation, NULL, &y));
    TRY(conv_unit(b, place, "project", y, channels, 1, 1, 1, ACTIVATION_none, adds ? NULL : out_name, out));
    return adds ? add_to(b, place, x, *out, out_name, out) : ST_OK;
}

/* depthwise_separable: depthwise convolution, then 1x1 convolution, each with batch norm and activation (Howard et al.
 * 2017, "MobileNets"; Zhang et al. 2017, "Hello edge"). */
static status separable_build(builder *b, const char *place, const char *out_name, value_id x,
                              int64_t channels, const block_attrs *at, value_id *out)
{
    int64_t in = channels_of(b, x);
    value_id y;
    TRY(conv_unit(b, place, "depthwise", x, in, at->kernel, at->stride, in, at->activation, NULL, &y));
    return conv_unit(b, place, "pointwise", y, channels, 1, 1, 1, at->activation, out_name, out);
}

/* dense: dropout on the input (flattened), linear layer with bias, activation. */
static status dense_build(builder *b, const char *place, const char *out_name, value_id x, int64_t channels,
                          const block_attrs *at, value_id *out)
{
    const char *flat, *drop, *act;
    bool plain = at->activation == ACTIVATION_none;
    value_id y;
    TRY(builder_name(b, place, "flat", &flat));
    TRY(builder_name(b, place, "dropout", &drop));
    TRY(builder_name(b, place, "act", &act));
    TRY(builder_flatten(b, flat, x, &y));
    TRY(builder_dropout(b, drop, at->dropout, y, &y));
    TRY(builder_linear(b, place, plain ? out_name : NULL, y, channels, out));
    return plain ? ST_OK : builder_activation(b, act, at->activation, out_name, *out, out);
}

#define KERNEL                                                                                               \
    {                                                                                                        \
        ATTR(block_attrs, kernel), .type = ATTR_INT, .def = 3, .min = 1, .max = 31                           \
    }
#define STRIDE                                                                                               \
    {                                                                                                        \
        ATTR(block_attrs, stride), .type = ATTR_INT, .def = 1, .min = 1, .max = 16                           \
    }
#define DROPOUT                                                                                              \
    {                                                                                                        \
        ATTR(block_attrs, dropout), .type = ATTR_FLOAT, .min = 0, .max = 0.95                                \
    }
#define EXPAND                                                                                               \
    {                                                                                                        \
        ATTR(block_attrs, expand), .type = ATTR_INT, .def = 6, .min = 1, .max = 64                           \
    }
#define ACT(d)                                                                                               \
    {                                                                                                        \
        ATTR(block_attrs, activation), .type = ATTR_CHOICE, .def = ACTIVATION_##d,                           \
                                       .choices = ACTIVATION_WORDS                                           \
    }

const block_desc block_conv_bn = {
    .name = "conv_bn",
    .build = conv_build,
    .attrs = (const attr_desc[]){KERNEL, STRIDE, ACT(relu), {0}},
};
const block_desc block_residual = {
    .name = "residual",
    .build = residual_build,
    .attrs = (const attr_desc[]){KERNEL, STRIDE, ACT(relu), {0}},
};
const block_desc block_preact = {
    .name = "preact",
    .build = preact_build,
    .attrs = (const attr_desc[]){KERNEL, STRIDE, DROPOUT, ACT(relu), {0}},
};
const block_desc block_inverted_residual = {
    .name = "inverted_residual",
    .build = inverted_build,
    .attrs = (const attr_desc[]){KERNEL, STRIDE, EXPAND, ACT(relu6), {0}},
};
const block_desc block_depthwise_separable = {
    .name = "depthwise_separable",
    .build = separable_build,
    .attrs = (const attr_desc[]){KERNEL, STRIDE, ACT(relu), {0}},
};
const block_desc block_dense = {
    .name = "dense",
    .build = dense_build,
    .attrs = (const attr_desc[]){DROPOUT, ACT(relu), {0}},
};
const block_desc *const block_table[] = {
    &block_conv_bn,
    &block_residual,
    &block_preact,
    &block_inverted_residual,
    &block_depthwise_separable,
    &block_dense,
    NULL,
};

void block_default_attrs(const block_desc *d, block_attrs *at)
{
    memset(at, 0, sizeof *at);
    for (const attr_desc *a = d->attrs; a->name; a++) {
        char *field = (char *)at + a->offset;
        int64_t whole = (int64_t)a->def;
        if (a->type == ATTR_FLOAT)
            memcpy(field, &a->def, sizeof a->def);
        else
            memcpy(field, &whole, sizeof whole);
    }
}
