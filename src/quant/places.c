/* places.c - which tensors become integers, and which of them share a scale. */
#include "quant/places.h"
#include "ops/attrs.h"

#include <math.h>
#include <string.h>

typedef enum place_class { CLASS_FLOAT, CLASS_PRODUCT, CLASS_SUM, CLASS_MOVE, CLASS_MEAN } place_class;

/* What the scheme makes of an operator. `fits` may say that this node of it stays float. */
typedef struct place_rule {
    place_class class;
    bool (*fits)(const graph *g, const node *n);
    bool rounds_alone; /* products: the result is rounded although only float nodes read it */
    bool clamps;       /* may belong to the product or sum before it: (fits) cuts at 0 */
    bool positive;     /* its result is never negative, when fits */
    bool joins;        /* moves: every input comes in, not the first alone */
} place_rule;

static bool is_weight(const graph *g, value_id v)
{
    return v && (g->value[v].kind == VALUE_CONST || g->value[v].kind == VALUE_PARAM) && dtype_of(g->value[v].type)->is_float;
}

static bool has_weight(const graph *g, const node *n)
{
    return n->n_in > 1 && is_weight(g, n->in[1]) && !is_weight(g, n->in[0]) && n->n_in <= 3;
}

static bool conv_fits(const graph *g, const node *n)
{
    return has_weight(g, n) && (n->n_in < 3 || !n->in[2] || is_weight(g, n->in[2]));
}

/* The channels of a transposed convolution lie in groups of axis 1: one axis only without groups. */
static bool conv_transpose_fits(const graph *g, const node *n)
{
    return conv_fits(g, n) && ((const conv_attrs *)n->attr)->group == 1;
}

/* y = x W + b with b for each column: factors and a transposed x are beyond integer products. */
static bool gemm_fits(const graph *g, const node *n)
{
    const gemm_attrs *a = n->attr;
    if (!has_weight(g, n) || a->transA || a->alpha != 1.0)
        return false;
    if (n->n_in < 3 || !n->in[2])
        return true;
    const value *b = &g->value[n->in[2]], *w = &g->value[n->in[1]];
    int64_t columns = w->sh.dim[a->transB ? 0 : 1];
    return is_weight(g, n->in[2]) && a->beta == 1.0 && shape_count(&b->sh) == columns && b->sh.rank >= 1 &&
           b->sh.dim[b->sh.rank - 1] == columns;
}

static bool matmul_fits(const graph *g, const node *n)
{
    const matmul_attrs *a = n->attr;
    return has_weight(g, n) && g->value[n->in[1]].sh.rank == 2 && (!a || (!a->transA && !a->transB));
}

static bool sum_fits(const graph *g, const node *n)
{
    return !is_weight(g, n->in[0]) && !is_weight(g, n->in[1]) &&
           shape_equal(&g->value[n->in[0]].sh, &g->value[n->in[1]].sh);
}

/* Zeros are on every scale. */
static bool pad_fits(const graph *g, const node *n)
{
    const pad_attrs *a = n->attr;
    (void)g;
    return a->mode != PAD_CONSTANT || a->constant_value == 0.0;
}

static bool resize_fits(const graph *g, const node *n)
{
    const resize_attrs *a = n->attr;
    (void)g;
    return a->mode == RESIZE_NEAREST && a->coordinate_transformation_mode != COORD_TF_CROP;
}

static bool clip_fits(const graph *g, const node *n)
{
    const clip_attrs *a = n->attr;
    (void)g;
    return a->min == 0.0 && a->max > 0;
}

static bool is_float32(const graph *g, const node *n)
{
    return g->value[n->in[0]].type == DTYPE_F32;
}

static const place_rule rules[OP_COUNT] = {
    [OP_CONV] = {CLASS_PRODUCT, conv_fits, .rounds_alone = true},
    [OP_CONV_TRANSPOSE] = {CLASS_PRODUCT, conv_transpose_fits, .rounds_alone = true},
    [OP_GEMM] = {CLASS_PRODUCT, gemm_fits, .rounds_alone = true},
    [OP_MATMUL] = {CLASS_PRODUCT, matmul_fits},
    [OP_ADD] = {CLASS_SUM, sum_fits},
    [OP_RELU] = {CLASS_MEAN, is_float32, .clamps = true, .positive = true},
    [OP_CLIP] = {CLASS_MEAN, clip_fits, .clamps = true, .positive = true},
    [OP_GLOBAL_AVERAGE_POOL] = {CLASS_MEAN, is_float32},
    [OP_REDUCE_MEAN] = {CLASS_MEAN, is_float32},
    [OP_AVERAGE_POOL] = {CLASS_MOVE, is_float32},
    [OP_MAX_POOL] = {CLASS_MOVE, is_float32},
    [OP_RESHAPE] = {CLASS_MOVE, is_float32},
    [OP_FLATTEN] = {CLASS_MOVE, is_float32},
    [OP_SQUEEZE] = {CLASS_MOVE, is_float32},
    [OP_UNSQUEEZE] = {CLASS_MOVE, is_float32},
    [OP_TRANSPOSE] = {CLASS_MOVE, is_float32},
    [OP_SLICE] = {CLASS_MOVE, is_float32},
    [OP_SPLIT] = {CLASS_MOVE, is_float32},
    [OP_CONCAT] = {CLASS_MOVE, is_float32, .joins = true},
    [OP_PAD] = {CLASS_MOVE, pad_fits},
    [OP_RESIZE] = {CLASS_MOVE, resize_fits},
    [OP_IDENTITY] = {CLASS_MOVE, is_float32},
    [OP_DROPOUT] = {CLASS_MOVE, is_float32},
    [OP_SOFTMAX] = {CLASS_FLOAT, NULL, .positive = true},
    [OP_SIGMOID] = {CLASS_FLOAT, NULL, .positive = true},
    [OP_HARD_SIGMOID] = {CLASS_FLOAT, NULL, .positive = true},
};

/* A batch norm belongs to the convolution before it. */
static const bool is_norm[OP_COUNT] = {[OP_BATCH_NORM] = true, [OP_BATCH_NORM_TRAIN] = true};
static const uint8_t weight_axis[OP_COUNT] = {[OP_CONV_TRANSPOSE] = 1, [OP_MATMUL] = 1};

bool pattern_matches(const char *pattern, const char *name)
{
    const char *star = NULL, *from = name; /* where the last * stood, and where its text begins */
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

/* ---- what stays float by the user's wish ---- */

static bool node_matches(const graph *g, const node *n, const char *pattern)
{
    if (pattern_matches(pattern, n->name) || pattern_matches(pattern, op_of(n->op)->name))
        return true;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] && pattern_matches(pattern, g->value[n->out[i]].name))
            return true;
    return false;
}

static status mark_kept(const graph *g, const quant_scheme *s, uint8_t *kept)
{
    for (size_t i = 0; i < s->n_keep_float; i++) {
        size_t found = 0;
        for (size_t k = 1; k < g->n_node; k++)
            if (node_matches(g, &g->node[k], s->keep_float[i])) {
                kept[k] = 1;
                found++;
            }
        if (!found)
            return fail(ST_CONFIG, "quant.keep_float: no node, value or operator is called '%s'; `distill inspect --nodes` "
                        "lists them", s->keep_float[i]);
    }
    return ST_OK;
}

/* ---- in order of execution ---- */

typedef struct finder {
    const graph *g;
    const quant_scheme *s;
    places *p;
    uint32_t *uses;
    node_id *reader;    /* [n_value] the one that reads it last; what it means when uses is 1 */
    uint8_t *kept;      /* [n_node] stays float */
    uint8_t *absorbed;  /* [n_node] belongs to the product or sum before it */
    uint32_t *parent;   /* [n_value] union-find over values that share a scale */
} finder;

static const place_rule *rule_of(const finder *f, node_id k)
{
    static const place_rule none = {.class = CLASS_FLOAT};
    const place_rule *r = &rules[f->g->node[k].op];
    return f->kept[k] || (r->fits && !r->fits(f->g, &f->g->node[k])) ? &none : r;
}

static uint32_t root_of(const finder *f, uint32_t v)
{
    while (f->parent[v] != v) {
        f->parent[v] = f->parent[f->parent[v]];
        v = f->parent[v];
    }
    return v;
}

static void share(const finder *f, value_id a, value_id b)
{
    uint32_t x = root_of(f, a), y = root_of(f, b);
    if (x != y)
        f->parent[x > y ? x : y] = x > y ? y : x; /* the first value stands for the group */
}

/* The value that is rounded for a product or sum: behind the norm and the relu that belong to it. */
static value_id find_tail(const finder *f, node_id k)
{
    const graph *g = f->g;
    value_id v = g->node[k].out[0];
    for (bool norm = rules[g->node[k].op].class == CLASS_PRODUCT;; norm = false) {
        node_id next = f->uses[v] == 1 ? f->reader[v] : 0;
        if (!next || f->kept[next] || g->node[next].in[0] != v)
            return v;
        if (!(norm && is_norm[g->node[next].op]) && !rule_of(f, next)->clamps)
            return v;
        bool last = !is_norm[g->node[next].op];
        v = g->node[next].out[0];
        f->absorbed[next] = 1;
        if (last)
            return v;
    }
}

static void round_value(const finder *f, value_id v, bool by_int, bool moved)
{
    place *at = &f->p->value[v];
    at->rounded = true;
    at->made_int |= by_int;
    at->moved |= moved;
}

/* Products take the integers of whatever comes in. */
static void place_products(finder *f)
{
    for (size_t k = 1; k < f->g->n_node; k++) {
        const node *n = &f->g->node[k];
        if (rule_of(f, (node_id)k)->class != CLASS_PRODUCT || f->g->value[n->in[0]].type != DTYPE_F32)
            continue;
        f->p->integer[k] = f->p->product[k] = 1;
        round_value(f, n->in[0], false, false);
    }
}

static bool all_rounded(const finder *f, const node *n, int count)
{
    for (int i = 0; i < count; i++)
        if (n->in[i] && !f->p->value[n->in[i]].rounded)
            return false;
    return count > 0;
}

static bool read_by_integers(const finder *f, value_id v)
{
    return f->p->value[v].rounded; /* a product takes it; others that could are asked later */
}

static void place_node(finder *f, node_id k)
{
    const node *n = &f->g->node[k];
    const place_rule *r = rule_of(f, k);
    if (f->absorbed[k])
        return;
    if (f->p->product[k]) {
        value_id tail = find_tail(f, k);
        bool output = false;
        for (size_t i = 0; i < f->g->n_output; i++)
            output |= f->g->output[i] == tail;
        if (r->rounds_alone || output || read_by_integers(f, tail)) {
            f->p->tail[k] = tail;
            round_value(f, tail, true, false);
        }
        return;
    }
    if (r->class == CLASS_SUM && all_rounded(f, n, 2)) {
        f->p->integer[k] = 1;
        f->p->tail[k] = find_tail(f, k);
        round_value(f, f->p->tail[k], true, false);
        for (int i = 0; f->s->profile != PROFILE_NONE && i < 2; i++)
            share(f, n->in[i], f->p->tail[k]);
    }
    if (r->class == CLASS_MEAN && all_rounded(f, n, 1)) {
        f->p->integer[k] = 1;
        round_value(f, n->out[0], true, false);
    }
    if (r->class == CLASS_MOVE && all_rounded(f, n, r->joins ? n->n_in : 1)) {
        f->p->integer[k] = 1;
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i] && f->g->value[n->out[i]].type == DTYPE_F32) {
                round_value(f, n->out[i], true, true);
                share(f, n->in[0], n->out[i]);
            }
        for (int i = 1; r->joins && i < n->n_in; i++)
            share(f, n->in[0], n->in[i]);
    }
}

/* Numbers the groups and finds which are never negative. */
static status number_groups(finder *f)
{
    places *p = f->p;
    const graph *g = f->g;
    uint32_t *number = NULL;
    status st = ST_OK;
    TRY_DONE(mem_alloc(&number, p->n_value, sizeof *number));
    TRY_DONE(mem_alloc(&p->group, p->n_value, sizeof *p->group));
    for (size_t v = 1; v < p->n_value; v++) {
        if (!p->value[v].rounded)
            continue;
        uint32_t root = root_of(f, (uint32_t)v);
        if (!number[root]) {
            p->group[p->n_group] = (place_group){.positive = true, .first = (value_id)v};
            number[root] = (uint32_t)++p->n_group;
        }
        p->value[v].group = number[root] - 1;
        node_id from = g->value[v].from;
        bool positive = p->value[v].moved || (from && rules[g->node[from].op].positive &&
                                              (!rules[g->node[from].op].fits || rules[g->node[from].op].fits(g, &g->node[from])));
        if (!positive) {
            value_id x = from ? g->node[from].in[0] : 0; /* a mean of what is never negative */
            positive = from && p->integer[from] && rules[g->node[from].op].class == CLASS_MEAN && p->value[x].rounded &&
                       p->group[p->value[x].group].positive;
        }
        p->group[p->value[v].group].positive &= positive;
    }
    for (size_t i = 0; i < g->n_output; i++)
        if (p->value[g->output[i]].rounded)
            p->group[p->value[g->output[i]].group].output = true;
done:
    mem_free(number);
    return st;
}

static status find_readers(finder *f)
{
    const graph *g = f->g;
    TRY(mem_alloc(&f->reader, g->n_value, sizeof *f->reader));
    for (size_t k = 1; k < g->n_node; k++)
        for (int i = 0; i < g->node[k].n_in; i++)
            f->reader[g->node[k].in[i]] = (node_id)k;
    for (size_t i = 0; i < g->n_output; i++)
        f->reader[g->output[i]] = 0;
    return graph_count_uses(g, &f->uses);
}

status places_find(const graph *g, const quant_scheme *s, places *out)
{
    finder f = {.g = g, .s = s, .p = out};
    status st = ST_OK;
    *out = (places){.n_value = g->n_value, .n_node = g->n_node};
    TRY_DONE(mem_alloc(&out->value, g->n_value, sizeof *out->value));
    TRY_DONE(mem_alloc(&out->integer, g->n_node, 1));
    TRY_DONE(mem_alloc(&out->product, g->n_node, 1));
    TRY_DONE(mem_alloc(&out->tail, g->n_node, sizeof *out->tail));
    TRY_DONE(mem_alloc(&f.kept, g->n_node, 1));
    TRY_DONE(mem_alloc(&f.absorbed, g->n_node, 1));
    TRY_DONE(mem_alloc(&f.parent, g->n_value, sizeof *f.parent));
    for (size_t v = 0; v < g->n_value; v++)
        f.parent[v] = (uint32_t)v;
    TRY_DONE(find_readers(&f));
    TRY_DONE(mark_kept(g, s, f.kept));
    place_products(&f);
    for (size_t k = 1; k < g->n_node; k++)
        place_node(&f, (node_id)k);
    TRY_DONE(number_groups(&f));
done:
    mem_free(f.uses);
    mem_free(f.reader);
    mem_free(f.kept);
    mem_free(f.absorbed);
    mem_free(f.parent);
    return st;
}

void places_free(places *p)
{
    mem_free(p->value);
    mem_free(p->integer);
    mem_free(p->product);
    mem_free(p->tail);
    mem_free(p->group);
    *p = (places){0};
}

bool places_clamps_at_zero(const graph *g, const node *n)
{
    return rules[n->op].clamps && rules[n->op].fits(g, n);
}

bool places_reads_rounded(const places *p, const graph *g, node_id k, int i)
{
    value_id v = g->node[k].in[i];
    return v && p->value[v].rounded && (p->value[v].made_int || (p->integer[k] && (i == 0 || !p->product[k])));
}

bool places_gives_rounded(const places *p, const graph *g, size_t i)
{
    return p->value[g->output[i]].rounded && p->value[g->output[i]].made_int;
}

product_operands places_operands(const graph *g, const node *n)
{
    product_operands o = {.bias = n->n_in > 2 && is_weight(g, n->in[2]) ? 2 : -1, .axis = weight_axis[n->op]};
    if (rules[n->op].fits == gemm_fits)
        o.axis = ((const gemm_attrs *)n->attr)->transB ? 0 : 1;
    return o;
}

bool places_per_channel(const graph *g, const node *n, const quant_scheme *s)
{
    bool matrix = g->value[n->in[1]].sh.rank == 2;
    return s->per_channel && (s->profile == PROFILE_NONE || !matrix);
}
