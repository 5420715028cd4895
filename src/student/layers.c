/* layers.c - a student written layer by layer in [layer NAME] sections.
 *
 * First all sections are parsed and every fault in them is collected; then the layers are added in the order of the
 * file, where the first one that does not fit ends it, with its line. Reading goes by the tables that exist anyway: the
 * operator's attribute rows, the block's rows, the rows of weights.c. */
#include "student/builder.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_FAULTS = 20, MAX_NAME = 100, MAX_OUTPUTS = 1024, MAX_CANDIDATES = 256 };

typedef struct operand { /* what one word of `input` means */
    int layer;           /* index, -1: the student's input, -2: a number */
    size_t output;
    double number;
} operand;
enum { OPERAND_INPUT = -1, OPERAND_NUMBER = -2 };

typedef struct layer {
    const job_layer *from;
    op_id op; /* OP_NONE: a block */
    const block_desc *block;
    const attr_desc *rows;
    void *attr;
    weight_ask ask;
    int64_t activation; /* -1: none */
    operand *in;
    size_t n_in, n_out;
    value_id *out;
    bool used;
} layer;

typedef struct parser {
    builder *b;
    const job *job;
    arena *mem; /* the graph's */
    layer *at;
    size_t n;
    text faults;
    int n_faults;
} parser;

/* ---- faults ---- */

PRINTF_LIKE(3, 4) static void add_fault(parser *p, const origin *at, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (p->n_faults++ >= MAX_FAULTS)
        return;
    status st = config_fault(at, "%s", line);
    (void)st;
    if (p->n_faults > 1)
        text_add(&p->faults, "\n");
    text_add(&p->faults, status_message());
}

/* Where a key of the schema ("op", "input") stands; the section's header when it is not set. */
static const origin *schema_place(const parser *p, const layer *l, const char *key)
{
    char path[MAX_NAME + 32];
    snprintf(path, sizeof path, "layer.%.*s.%s", MAX_NAME, l->from->name, key);
    const origin *o = config_origin(p->job, path);
    return o && o->kind != ORIGIN_DEFAULT ? o : &l->from->from;
}

/* Keys begin in the first column of a line. */
static origin key_place(const origin *at)
{
    origin o = *at;
    if (o.kind == ORIGIN_FILE)
        o.column = 1;
    return o;
}

static const char *suggestion(const char *word, const char *const *all, size_t n, char buf[MAX_NAME + 24])
{
    const char *near = nearest_name(word, all, n, sizeof *all);
    buf[0] = 0;
    if (near)
        snprintf(buf, MAX_NAME + 24, "; did you mean '%.*s'?", MAX_NAME, near);
    return buf;
}

/* ---- op ---- */

static const block_desc *find_block(const char *name)
{
    for (int i = 0; block_table[i]; i++)
        if (strcmp(block_table[i]->name, name) == 0)
            return block_table[i];
    return NULL;
}

static void unknown_op(parser *p, const layer *l)
{
    const char *all[OP_COUNT + 16];
    char hint[MAX_NAME + 24];
    size_t n = 0;
    for (int op = 1; op < OP_COUNT; op++)
        if (!(op_of((op_id)op)->flags & (OP_INTERNAL | OP_FOLD_ONLY)))
            all[n++] = op_of((op_id)op)->name;
    for (int i = 0; block_table[i]; i++)
        all[n++] = block_table[i]->name;
    add_fault(p, schema_place(p, l, "op"), "op: '%.80s' is no operator and no block%s", l->from->op,
              suggestion(l->from->op, all, n, hint));
}

/* Finds operator or block and makes its attribute struct. False: there is none. */
static bool parse_op(parser *p, layer *l, status *st)
{
    l->block = find_block(l->from->op);
    l->op = l->block ? OP_NONE : op_from_name(l->from->op);
    const op_desc *d = op_of(l->op);
    if (!l->block && (l->op == OP_NONE || (d->flags & OP_INTERNAL))) {
        unknown_op(p, l);
        return false;
    }
    if (d->flags & OP_FOLD_ONLY) {
        add_fault(p, schema_place(p, l, "op"), "op: %s only serves the shape arithmetic of imported models",
                  d->name);
        return false;
    }
    l->rows = l->block ? l->block->attrs : d->attrs;
    *st = arena_alloc(p->mem, &l->attr, 1, l->block ? sizeof(block_attrs) : d->attr_size);
    if (*st != ST_OK)
        return false;
    if (l->block)
        block_default_attrs(l->block, l->attr);
    else if (d->attr_size)
        op_default_attrs(l->op, l->attr);
    return true;
}

/* ---- keys ---- */

static const char *op_name(const layer *l)
{
    return l->block ? l->block->name : op_of(l->op)->name;
}

static bool takes_channels(const layer *l)
{
    return l->block || weight_takes_channels(l->op);
}

static status parse_units(const parser *p, layer *l, const char *s)
{
    if (strcmp(s, "classes") == 0) {
        l->ask.channels = p->b->classes;
        return l->ask.channels > 0 ? ST_OK : fail(ST_CONFIG, "units: the number of classes is not known");
    }
    TRY(parse_int(s, "units", &l->ask.channels));
    if (l->ask.channels < 1 || l->ask.channels > 1 << 20)
        return fail(ST_CONFIG, "units: %" PRId64 " is out of range (1 to %d)", l->ask.channels, 1 << 20);
    return ST_OK;
}

static status take_units(const parser *p, layer *l, const char *s)
{
    if (l->from->channels)
        return fail(ST_CONFIG, "units: channels is set too; they mean the same");
    return parse_units(p, l, s);
}

static status take_bias(const parser *p, layer *l, const char *s)
{
    (void)p;
    return parse_bool(s, "bias", &l->ask.bias);
}

static status take_entries(const parser *p, layer *l, const char *s)
{
    (void)p;
    TRY(parse_int(s, "entries", &l->ask.entries));
    return l->ask.entries > 0
               ? ST_OK
               : fail(ST_CONFIG, "entries: %" PRId64 " is out of range (at least 1)", l->ask.entries);
}

static status take_activation(const parser *p, layer *l, const char *s)
{
    const char *all[32];
    char hint[MAX_NAME + 24];
    size_t n = 0;
    (void)p;
    for (; n < 32 && activation_name((int)n); n++)
        all[n] = activation_name((int)n);
    l->activation = activation_from_name(s);
    return l->activation >= 0
               ? ST_OK
               : fail(ST_CONFIG, "activation: '%.80s' is unknown%s", s, suggestion(s, all, n, hint));
}

static bool bias_applies(const layer *l)
{
    return !l->block && weight_takes_bias(l->op);
}
static bool entries_apply(const layer *l)
{
    return !l->block && weight_takes_entries(l->op);
}
static bool activation_applies(const layer *l)
{
    return !l->block; /* a block has it among its own keys */
}

/* Keys that are no attributes, and for which layers they are. */
static const struct layer_key {
    const char *name;
    bool (*applies)(const layer *l);
    status (*take)(const parser *p, layer *l, const char *s);
} layer_keys[] = {
    {"units", takes_channels, take_units},
    {"bias", bias_applies, take_bias},
    {"entries", entries_apply, take_entries},
    {"activation", activation_applies, take_activation},
};
enum { N_LAYER_KEYS = sizeof layer_keys / sizeof layer_keys[0] };

static const struct layer_key *find_layer_key(const layer *l, const char *name)
{
    for (int i = 0; i < N_LAYER_KEYS; i++)
        if (strcmp(layer_keys[i].name, name) == 0 && layer_keys[i].applies(l))
            return &layer_keys[i];
    return NULL;
}

static void unknown_key(parser *p, const layer *l, const free_key *k)
{
    const char *all[MAX_CANDIDATES] = {"op", "input"};
    char hint[MAX_NAME + 24];
    size_t n = 2;
    origin at = key_place(&k->from);
    if (takes_channels(l))
        all[n++] = "channels";
    for (int i = 0; i < N_LAYER_KEYS; i++)
        if (layer_keys[i].applies(l))
            all[n++] = layer_keys[i].name;
    for (const attr_desc *a = l->rows; a && a->name && n < MAX_CANDIDATES; a++)
        if (!(a->flags & ATTR_HIDDEN))
            all[n++] = a->name;
    add_fault(p, &at, "unknown key '%.80s' of %s in [layer %s]%s", k->key, op_name(l), l->from->name,
              suggestion(k->key, all, n, hint));
}

static bool given(const layer *l, const char *key)
{
    for (size_t i = 0; i < l->from->n_free; i++)
        if (strcmp(l->from->free[i].key, key) == 0)
            return true;
    return false;
}

static status parse_key(parser *p, layer *l, const free_key *k)
{
    const attr_desc *a = attr_find(l->rows, k->key);
    const struct layer_key *known = a ? NULL : find_layer_key(l, k->key);
    if (!a && !known) {
        unknown_key(p, l, k);
        return ST_OK;
    }
    size_t place = 0;
    origin at = k->from;
    status st = a ? attr_parse(p->mem, a, k->value, l->attr, &place) : known->take(p, l, k->value);
    at.column += (unsigned)place;
    if (st == ST_CONFIG)
        add_fault(p, &at, "%s", status_message());
    return st == ST_CONFIG ? ST_OK : st;
}

/* What a Gemm means without further keys: a linear layer, weight [out, in] as PyTorch exports it. */
static void linear_default(const layer *l, void *attr)
{
    if (l->n_in == 1 && !given(l, "transB"))
        ((gemm_attrs *)attr)->transB = 1;
}

static status count_split(const void *attr, size_t *n)
{
    const split_attrs *at = attr;
    int64_t k = at->split.v ? at->split.n : at->num_outputs;
    if (k < 1 || k > MAX_OUTPUTS)
        return fail(ST_CONFIG, "needs num_outputs or split, 1 to %d parts", MAX_OUTPUTS);
    *n = (size_t)k;
    return ST_OK;
}

/* Operators that are read a little differently here. */
static const struct special {
    op_id op;
    void (*defaults)(const layer *l, void *attr);
    status (*outputs)(const void *attr, size_t *n);
} specials[] = {
    {OP_GEMM, linear_default, NULL},
    {OP_SPLIT, NULL, count_split},
};

static void parse_special(parser *p, layer *l)
{
    l->n_out = l->block ? 1 : (size_t)op_of(l->op)->out.min;
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        if (l->block || specials[i].op != l->op)
            continue;
        if (specials[i].defaults)
            specials[i].defaults(l, l->attr);
        if (specials[i].outputs && specials[i].outputs(l->attr, &l->n_out) != ST_OK)
            add_fault(p, &l->from->from, "[layer %s]: %s %s", l->from->name, op_name(l), status_message());
    }
    if (l->n_out > 1 && l->activation >= 0)
        add_fault(p, &l->from->from, "[layer %s]: no activation behind a layer of several outputs",
                  l->from->name);
}

static void check_needed(parser *p, const layer *l)
{
    const origin *head = &l->from->from;
    if (l->from->channels && !takes_channels(l))
        add_fault(p, schema_place(p, l, "channels"), "channels: %s keeps or computes its channels",
                  op_name(l));
    if (l->block && l->ask.channels < 1 && !given(l, "units"))
        add_fault(p, head, "[layer %s]: %s needs channels", l->from->name, op_name(l));
    for (const attr_desc *a = l->rows; a && a->name; a++)
        if ((a->flags & ATTR_REQUIRED) && !(a->flags & ATTR_HIDDEN) && !given(l, a->name))
            add_fault(p, head, "[layer %s]: %s needs the key %s", l->from->name, op_name(l), a->name);
}

/* ---- names and inputs ---- */

static bool good_name(const char *s)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char more[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789-";
    return *s && strchr(letters, *s) && s[strspn(s, more)] == 0 && strlen(s) <= MAX_NAME;
}

static void check_name(parser *p, size_t i)
{
    const job_layer *l = p->at[i].from;
    if (!good_name(l->name))
        add_fault(p, &l->from,
                  "[layer %.80s]: a name is letters, digits, _ and -, begins with a letter, and has at most "
                  "%d characters",
                  l->name, MAX_NAME);
    if (strcmp(l->name, "input") == 0)
        add_fault(p, &l->from, "[layer input]: this name is the student's input; choose another");
    if (strcmp(l->name, "logits") == 0 && i + 1 < p->n)
        add_fault(p, &l->from, "[layer logits]: only the last layer can have this name");
}

/* The layer called by the first n bytes of s; p->n: none. */
static size_t find_layer(const parser *p, const char *s, size_t n)
{
    size_t i = 0;
    while (i < p->n && (strncmp(p->at[i].from->name, s, n) != 0 || p->at[i].from->name[n]))
        i++;
    return i;
}

static void unknown_input(parser *p, size_t i, const char *word)
{
    const char **all;
    char hint[MAX_NAME + 24] = "";
    if (mem_alloc(&all, i + 1, sizeof *all) == ST_OK) {
        for (size_t k = 0; k < i; k++)
            all[k] = p->at[k].from->name;
        all[i] = "input";
        suggestion(word, all, i + 1, hint);
        mem_free(all);
    }
    add_fault(p, schema_place(p, &p->at[i], "input"), "input: there is no layer '%.80s'%s", word, hint);
}

static void parse_operand(parser *p, size_t i, const char *word, operand *o)
{
    const origin *at = schema_place(p, &p->at[i], "input");
    const char *dot = strchr(word, '.');
    int64_t output = 0;
    size_t n = dot ? (size_t)(dot - word) : strlen(word);
    if (strcmp(word, "input") == 0) {
        o->layer = OPERAND_INPUT;
        return;
    }
    if (parse_double(word, "input", &o->number) == ST_OK) {
        o->layer = OPERAND_NUMBER;
        return;
    }
    size_t k = find_layer(p, word, n);
    if (k == p->n) {
        unknown_input(p, i, word);
    } else if (k >= i) {
        add_fault(p, at,
                  k == i ? "input: [layer %s] cannot read itself (line %u)"
                         : "input: [layer %s] comes later (line %u); a layer reads those above it",
                  p->at[k].from->name, p->at[k].from->from.line);
    } else if (dot && (parse_int(dot + 1, "input", &output) != ST_OK || output < 0 ||
                       (uint64_t)output >= p->at[k].n_out)) {
        add_fault(p, at, "input: '%.80s': [layer %s] has %zu output%s, counted from 0", word,
                  p->at[k].from->name, p->at[k].n_out, p->at[k].n_out == 1 ? "" : "s");
    } else {
        o->layer = (int)k;
        o->output = (size_t)output;
        p->at[k].used = true;
    }
}

/* How many inputs the layer may have. */
static void check_inputs(parser *p, const layer *l)
{
    const op_desc *d = op_of(l->op);
    int n = (int)l->n_in, least = l->block ? 1 : weight_data_inputs(l->op), most = l->block ? 1 : d->in.max;
    bool made = !l->block && weight_any(l->op);
    if (most < 0 ? n >= least : made ? n == least || (n >= d->in.min && n <= most) : n >= least && n <= most)
        return;
    if (most < 0)
        add_fault(p, schema_place(p, l, "input"), "input: %s takes at least %d, not %d", op_name(l), least,
                  n);
    else if (least == most || made)
        add_fault(p, schema_place(p, l, "input"), "input: %s takes %d, not %d", op_name(l), least, n);
    else
        add_fault(p, schema_place(p, l, "input"), "input: %s takes %d to %d, not %d", op_name(l), least, most,
                  n);
}

static status parse_inputs(parser *p, size_t i)
{
    layer *l = &p->at[i];
    bool takes_none = l->op != OP_NONE && op_of(l->op)->in.max == 0;
    l->n_in = l->from->input.n ? l->from->input.n : takes_none ? 0 : 1;
    TRY(arena_alloc(p->mem, &l->in, l->n_in, sizeof *l->in));
    for (size_t k = 0; k < l->from->input.n; k++)
        parse_operand(p, i, l->from->input.at[k], &l->in[k]);
    if (l->from->input.n == 0 && l->n_in) {
        l->in[0].layer = (int)i - 1; /* the student's input for the first */
        if (i > 0)
            p->at[i - 1].used = true;
    }
    if (l->n_in && l->in[0].layer == OPERAND_NUMBER)
        add_fault(p, schema_place(p, l, "input"), "input: the first must be a layer, not a number");
    return ST_OK;
}

/* ---- all sections ---- */

static status parse_layer(parser *p, size_t i)
{
    layer *l = &p->at[i];
    status st = ST_OK;
    l->activation = -1;
    l->ask = (weight_ask){.channels = l->from->channels, .bias = true};
    check_name(p, i);
    l->n_out = MAX_OUTPUTS; /* as long as nobody knows better: no second fault for those who read it */
    bool known = parse_op(p, l, &st);
    TRY(st);
    TRY(parse_inputs(p, i));
    if (!known)
        return ST_OK;
    check_inputs(p, l);
    for (size_t k = 0; k < l->from->n_free; k++)
        TRY(parse_key(p, l, &l->from->free[k]));
    parse_special(p, l);
    check_needed(p, l);
    return arena_alloc(p->mem, &l->out, l->n_out, sizeof *l->out);
}

static status parse_all(parser *p)
{
    TRY(arena_alloc(p->mem, &p->at, p->n, sizeof *p->at));
    for (size_t i = 0; i < p->n; i++)
        p->at[i].from = &p->job->layer[i];
    for (size_t i = 0; i < p->n; i++)
        TRY(parse_layer(p, i));
    for (size_t i = 0; i + 1 < p->n; i++)
        if (!p->at[i].used)
            add_fault(p, &p->at[i].from->from,
                      "[layer %s]: no layer reads it; the student's output is the last layer",
                      p->at[i].from->name);
    if (p->n_faults > MAX_FAULTS)
        text_printf(&p->faults, "\nthere are more errors; these are the first %d", MAX_FAULTS);
    TRY(p->faults.st);
    return p->n_faults ? fail(ST_CONFIG, "%s", p->faults.s) : ST_OK;
}

/* ---- adding them ---- */

static status operand_value(parser *p, const layer *l, const operand *o, value_id input, value_id first,
                            value_id *out)
{
    (void)l;
    if (o->layer == OPERAND_INPUT)
        *out = input;
    else if (o->layer == OPERAND_NUMBER)
        return graph_add_fill(p->b->g, graph_value(p->b->g, first)->type, (shape){0}, o->number, out);
    else
        *out = p->at[o->layer].out[o->output];
    return ST_OK;
}

static status output_names(parser *p, const layer *l, bool last, const char ***names)
{
    const char *name = last ? "logits" : l->from->name;
    TRY(arena_alloc(p->mem, names, l->n_out, sizeof **names));
    for (size_t k = 0; k < l->n_out; k++)
        TRY(k == 0 ? arena_strdup(p->mem, &(*names)[0], name)
                   : arena_printf(p->mem, &(*names)[k], "%s.%zu", l->from->name, k));
    return ST_OK;
}

static status add_op(parser *p, layer *l, const value_id *in, const char **names)
{
    const char *own = names[0], *place, *act;
    bool plain = l->activation < 0 || strcmp(activation_name((int)l->activation), "none") == 0;
    TRY(arena_printf(p->mem, &place, "%s.op", l->from->name));
    TRY(arena_printf(p->mem, &act, "%s.act", l->from->name));
    if (!plain)
        names[0] = place;
    TRY(builder_op(p->b, l->from->name, l->op, op_of(l->op)->attr_size ? l->attr : NULL, in, l->n_in, &l->ask,
                   names, l->out, l->n_out));
    return plain ? ST_OK : builder_activation(p->b, act, l->activation, own, l->out[0], &l->out[0]);
}

/* The batch goes through a student untouched: it is the first dimension everywhere. */
static status check_batch(const builder *b, const layer *l)
{
    char buf[200];
    for (size_t k = 0; k < l->n_out; k++) {
        const value *v = graph_value(b->g, l->out[k]);
        if (v->sh.rank < 1 || v->sh.dim[0] != b->batch)
            return fail(ST_CONFIG,
                        "its output is %s for a batch of %" PRId64
                        "; the first dimension must stay the batch (in a Reshape's shape: 0)",
                        shape_print(&v->sh, buf), b->batch);
    }
    return ST_OK;
}

static status add_layer(parser *p, size_t i, value_id input)
{
    layer *l = &p->at[i];
    value_id *in;
    const char **names;
    TRY(arena_alloc(p->mem, &in, l->n_in, sizeof *in));
    for (size_t k = 0; k < l->n_in; k++)
        TRY(operand_value(p, l, &l->in[k], input, in[0], &in[k]));
    TRY(output_names(p, l, i + 1 == p->n, &names));
    if (l->block)
        TRY(l->block->build(p->b, l->from->name, names[0], in[0], l->ask.channels, l->attr, &l->out[0]));
    else
        TRY(add_op(p, l, in, names));
    return check_batch(p->b, l);
}

static status add_all(parser *p, value_id input, value_id *out)
{
    for (size_t i = 0; i < p->n; i++) {
        const layer *l = &p->at[i];
        status st = add_layer(p, i, input);
        if (st == ST_BAD_DATA || st == ST_CONFIG)
            return config_fault(&l->from->from, "[layer %s] (%s): %s", l->from->name, op_name(l),
                                status_message());
        TRY(st);
    }
    const layer *last = &p->at[p->n - 1];
    const value *v = graph_value(p->b->g, last->out[0]);
    char buf[200];
    if (p->b->classes && (v->sh.rank != 2 || v->sh.dim[1] != p->b->classes))
        return config_fault(&last->from->from,
                            "[layer %s]: the last layer must give [batch, %" PRId64
                            "], one number a class; it gives %s",
                            last->from->name, p->b->classes, shape_print(&v->sh, buf));
    *out = last->out[0];
    return ST_OK;
}

status build_layers(builder *b, value_id input, value_id *out)
{
    parser p = {.b = b, .job = b->job, .mem = &b->g->mem, .n = b->job->n_layer};
    status st = parse_all(&p);
    text_free(&p.faults);
    return st == ST_OK ? add_all(&p, input, out) : st;
}
