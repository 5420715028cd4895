/* presets.c - the architectures that [student] arch names, written in the blocks of blocks.c.
 *
 * All convolutional ones are a stem, stages of equal blocks, and a head (global mean, linear). A row says which blocks,
 * how many for a depth, and where the grid shrinks: the stem by stem_stride, stages 2 and later by 2 at their entry. */
#include "student/builder.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_STAGES = 16, MAX_DEPTH = 2000, MAX_WIDTH = 1 << 20, MAX_ACTIVATIONS = 32 };

typedef struct preset preset;
struct preset {
    const char *name;
    const block_desc *block;
    int per_block, extra;   /* depth = per_block * stages * blocks + extra; 0: the depth is fixed */
    int64_t blocks;         /* default: in every stage */
    int64_t width[3];       /* default widths */
    int n_widths;           /* 0: fixed */
    int64_t stem_stride;    /* default; 0: there is no stem */
    const char *activation; /* default */
    bool pool;              /* stages shrink by max pooling instead of a stride */
    bool widen;             /* `width` multiplies the stages, not the stem */
    bool preact; /* the stem is a bare convolution; batch norm and activation come before the head */
    status (*build)(builder *b, const preset *p, value_id x, int64_t activation, value_id *out);
};

typedef struct stages {
    int n;
    int64_t stem, width[MAX_STAGES];
    int64_t blocks; /* in every stage */
} stages;

/* ---- numbers asked for ---- */

/* round(width * multiplier), at least 1 */
static status scale_width(const job *j, const char *key, int64_t width, double by, int64_t *out)
{
    double w = round((double)width * by);
    if (width < 1 || !(w <= MAX_WIDTH))
        return key_fault(j, key, "%.9g channels or units in a layer; 1 to %d are possible",
                         width < 1 ? (double)width : w, MAX_WIDTH);
    *out = w < 1 ? 1 : (int64_t)w;
    return ST_OK;
}

static status depth_of(const job *j, const preset *p, stages *out)
{
    int64_t depth = j->student.depth;
    int each = p->per_block * out->n;
    out->blocks = p->blocks;
    if (depth == 0)
        return ST_OK;
    out->blocks = (depth - p->extra) / each;
    if (depth > MAX_DEPTH || out->blocks < 1 || out->blocks * each + p->extra != depth)
        return key_fault(j, "student.depth",
                         "with %d stage%s the depth of %s is %dn + %d: %d, %d, %d ... up to %d, not %" PRId64,
                         out->n, out->n == 1 ? "" : "s", p->name, each, p->extra, each + p->extra,
                         2 * each + p->extra, 3 * each + p->extra, MAX_DEPTH, depth);
    return ST_OK;
}

static status stages_of(const job *j, const preset *p, stages *out)
{
    const job_student *s = &j->student;
    const int64_t *width = s->widths.n ? s->widths.at : p->width;
    if (s->widths.n > MAX_STAGES)
        return key_fault(j, "student.widths", "%zu stages; at most %d are possible", s->widths.n, MAX_STAGES);
    out->n = s->widths.n ? (int)s->widths.n : p->n_widths;
    TRY(scale_width(j, "student.widths", width[0], p->widen ? 1 : s->width, &out->stem));
    for (int i = 0; i < out->n; i++)
        TRY(scale_width(j, "student.widths", width[i], s->width, &out->width[i]));
    return depth_of(j, p, out);
}

/* ---- the common frame ---- */

static status head(builder *b, value_id x, value_id *out)
{
    TRY(builder_dropout(b, "dropout", b->job->student.dropout, x, &x));
    return builder_linear(b, "fc", "logits", x, b->classes, out);
}

/* "stem.weight", "bn.weight" ...: the names a plain PyTorch module has. */
static status stem(builder *b, value_id x, int64_t channels, int64_t stride, int64_t activation,
                   value_id *out)
{
    TRY(builder_conv(b, "stem", x, channels, 3, stride, 1, out));
    TRY(builder_batch_norm(b, "bn", NULL, *out, out));
    return builder_activation(b, "act", activation, "stem", *out, out);
}

/* Block k (from 0) of `blocks` in stage i: the last one's result is the stage's. */
static status add_block(builder *b, const block_desc *d, int i, int64_t k, int64_t blocks, int64_t channels,
                        const block_attrs *at, value_id *x)
{
    char place[48], layer[24];
    snprintf(place, sizeof place, "stage%d.%" PRId64, i + 1, k);
    snprintf(layer, sizeof layer, "layer%d", i + 1);
    return d->build(b, place, k + 1 == blocks ? layer : NULL, *x, channels, at, x);
}

static status build_stages(builder *b, const preset *p, value_id x, int64_t activation, value_id *out)
{
    const job_student *s = &b->job->student;
    stages st;
    block_attrs at;
    int64_t stride = s->stem_stride ? s->stem_stride : p->stem_stride;
    TRY(stages_of(b->job, p, &st));
    block_default_attrs(p->block, &at);
    at.activation = activation;
    at.dropout = p->preact ? s->dropout : 0;
    if (p->preact)
        TRY(builder_conv(b, "stem", x, st.stem, 3, stride, 1, &x));
    else if (!p->pool)
        TRY(stem(b, x, st.stem, stride, activation, &x));
    for (int i = 0; i < st.n; i++) {
        char pool[32];
        snprintf(pool, sizeof pool, "stage%d.pool", i + 1);
        if (p->pool && i > 0)
            TRY(builder_max_pool(b, pool, x, 2, &x));
        for (int64_t k = 0; k < st.blocks; k++) {
            at.stride = k > 0 ? 1 : p->pool ? (i == 0 ? stride : 1) : i > 0 ? 2 : 1;
            TRY(add_block(b, p->block, i, k, st.blocks, st.width[i], &at, &x));
        }
    }
    if (p->preact) {
        TRY(builder_batch_norm(b, "bn", NULL, x, &x));
        TRY(builder_activation(b, "act", activation, NULL, x, &x));
    }
    return builder_global_pool(b, "pool", x, out);
}

/* Hidden linear layers; those of an mlp are its stages and are called layer1, layer2 ... */
static status build_hidden(builder *b, bool stage, value_id x, int64_t activation, value_id *out)
{
    static const int64_t usual[] = {256, 128};
    const job_student *s = &b->job->student;
    int_list hidden = s->hidden.n || !stage ? s->hidden : (int_list){usual, 2};
    block_attrs at;
    block_default_attrs(&block_dense, &at);
    at.activation = activation;
    for (size_t i = 0; i < hidden.n; i++) {
        char place[32], layer[32];
        int64_t width;
        snprintf(place, sizeof place, "fc%zu", i + 1);
        snprintf(layer, sizeof layer, "layer%zu", i + 1);
        at.dropout = i > 0 || !stage ? s->dropout : 0;
        TRY(scale_width(b->job, "student.hidden", hidden.at[i], stage ? s->width : 1, &width));
        TRY(block_dense.build(b, place, stage ? layer : NULL, x, width, &at, &x));
    }
    *out = x;
    return ST_OK;
}

static status build_mlp(builder *b, const preset *p, value_id x, int64_t activation, value_id *out)
{
    (void)p;
    TRY(builder_flatten(b, "flat", x, &x));
    TRY(build_hidden(b, true, x, activation, &x));
    return head(b, x, out);
}

static status build_staged(builder *b, const preset *p, value_id x, int64_t activation, value_id *out)
{
    TRY(build_stages(b, p, x, activation, &x));
    TRY(build_hidden(b, false, x, activation, &x));
    return head(b, x, out);
}

/* ---- MobileNetV2 ---- */

/* Sandler et al. 2018, table 2: expansion, channels, blocks, stride of the first. Small images (below 96 pixels) keep
 * their size in the stem and in stage 2, as is usual on CIFAR. */
static const struct mobile_stage {
    int64_t expand, channels, blocks, stride;
} mobile_stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                     {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
enum { N_MOBILE = sizeof mobile_stages / sizeof mobile_stages[0], SMALL_IMAGE = 96 };

/* Channels in steps of 8, never below 90 % of what was asked (torchvision, _make_divisible). */
static int64_t divisible_width(double channels)
{
    int64_t w = (int64_t)(channels + 4) / 8 * 8;
    if (w < 8)
        w = 8;
    return (double)w < 0.9 * channels ? w + 8 : w;
}

static bool is_small(const shape *x)
{
    for (int i = 2; i < x->rank; i++)
        if (x->dim[i] >= SMALL_IMAGE)
            return false;
    return true;
}

static status build_mobilenetv2(builder *b, const preset *p, value_id x, int64_t activation, value_id *out)
{
    const job_student *s = &b->job->student;
    bool small = is_small(&graph_value(b->g, x)->sh);
    int64_t stride = s->stem_stride ? s->stem_stride : small ? 1 : p->stem_stride;
    block_attrs at;
    TRY(stem(b, x, divisible_width(32 * s->width), stride, activation, &x));
    for (int i = 0; i < N_MOBILE; i++) {
        const struct mobile_stage *m = &mobile_stages[i];
        block_default_attrs(p->block, &at);
        at.activation = activation;
        at.expand = m->expand;
        for (int64_t k = 0; k < m->blocks; k++) {
            at.stride = k > 0 || (small && i == 1) ? 1 : m->stride;
            TRY(add_block(b, p->block, i, k, m->blocks, divisible_width((double)m->channels * s->width), &at,
                          &x));
        }
    }
    block_default_attrs(&block_conv_bn, &at);
    at.activation = activation;
    at.kernel = 1;
    TRY(block_conv_bn.build(b, "last", NULL, x, divisible_width(1280 * fmax(s->width, 1)), &at, &x));
    TRY(builder_global_pool(b, "pool", x, &x));
    TRY(build_hidden(b, false, x, activation, &x));
    return head(b, x, out);
}

/* ---- the table ---- */

static const preset presets[] = {
    [ARCH_MLP] = {.name = "mlp", .activation = "relu", .build = build_mlp},
    [ARCH_CNN] = {.name = "cnn",
                  .block = &block_conv_bn,
                  .per_block = 1,
                  .blocks = 1,
                  .width = {16, 32, 64},
                  .n_widths = 3,
                  .stem_stride = 1,
                  .activation = "relu",
                  .pool = true,
                  .build = build_staged},
    [ARCH_RESNET] = {.name = "resnet",
                     .block = &block_residual,
                     .per_block = 2,
                     .extra = 2,
                     .blocks = 1,
                     .width = {16, 32, 64},
                     .n_widths = 3,
                     .stem_stride = 1,
                     .activation = "relu",
                     .build = build_staged},
    [ARCH_WRN] = {.name = "wrn",
                  .block = &block_preact,
                  .per_block = 2,
                  .extra = 4,
                  .blocks = 2,
                  .width = {16, 32, 64},
                  .n_widths = 3,
                  .stem_stride = 1,
                  .activation = "relu",
                  .preact = true,
                  .widen = true,
                  .build = build_staged},
    [ARCH_MOBILENETV2] = {.name = "mobilenetv2",
                          .block = &block_inverted_residual,
                          .stem_stride = 2,
                          .activation = "relu6",
                          .build = build_mobilenetv2},
    [ARCH_DSCNN] = {.name = "dscnn",
                    .block = &block_depthwise_separable,
                    .per_block = 1,
                    .blocks = 4,
                    .width = {64},
                    .n_widths = 1,
                    .stem_stride = 2,
                    .activation = "relu",
                    .build = build_staged},
};
/* [student] preact = true */
static const preset preset_preact_resnet = {
    .name = "resnet",
    .block = &block_preact,
    .per_block = 2,
    .extra = 2,
    .blocks = 1,
    .width = {16, 32, 64},
    .n_widths = 3,
    .stem_stride = 1,
    .activation = "relu",
    .preact = true,
    .build = build_staged,
};

/* Keys that this architecture would ignore are mistakes. */
static status check_keys(const job *j, const preset *p)
{
    const job_student *s = &j->student;
    if (s->depth && !p->per_block)
        return key_fault(j, "student.depth", "%s has no depth to choose", p->name);
    if (s->widths.n && !p->n_widths)
        return key_fault(j, "student.widths", "%s takes no list of widths; use '%s'", p->name,
                         p->block ? "width" : "hidden");
    if (s->stem_stride && !p->stem_stride)
        return key_fault(j, "student.stem_stride", "%s has no stem", p->name);
    if (s->preact && !p->preact)
        return key_fault(j, "student.preact", "only resnet and wrn have a pre-activation form");
    return ST_OK;
}

static status preset_activation(const job *j, const preset *p, int64_t *out)
{
    const char *asked =
        j->student.activation && *j->student.activation ? j->student.activation : p->activation;
    const char *all[MAX_ACTIVATIONS];
    size_t n = 0;
    while (n < MAX_ACTIVATIONS && activation_name((int)n)) {
        all[n] = activation_name((int)n);
        n++;
    }
    *out = activation_from_name(asked);
    if (*out >= 0)
        return ST_OK;
    const char *near = nearest_name(asked, all, n, sizeof *all);
    return key_fault(j, "student.activation", "activation '%.80s' is unknown%s%s%s", asked,
                     near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

status build_preset(builder *b, value_id input, value_id *out)
{
    const job_student *s = &b->job->student;
    const preset *p = s->arch == ARCH_RESNET && s->preact ? &preset_preact_resnet : &presets[s->arch];
    int64_t activation;
    TRY(check_keys(b->job, p));
    TRY(preset_activation(b->job, p, &activation));
    if (b->classes < 1)
        return key_fault(b->job, "student.classes", "the number of classes is not known; set it");
    if (p->block && graph_value(b->g, input)->sh.rank < 3)
        return key_fault(b->job, "student.arch",
                         "%s needs samples with channels and spatial axes, [C, H, W] or [C, L]; for plain "
                         "features there is mlp",
                         p->name);
    return p->build(b, p, input, activation, out);
}
