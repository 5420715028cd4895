/* feed.c - see feed.h. */
#include "distill/feed.h"
#include "base/hash.h"
#include "ops/gather.h"

#include <stdio.h>
#include <string.h>

static void set_port(const graph *g, value_id v, uint32_t from, struct feed_port *p)
{
    const value *x = graph_value(g, v);
    int64_t rows = x->sh.rank ? x->sh.dim[0] : 0;
    size_t each = rows > 0 ? (size_t)(shape_count(&x->sh) / rows) : 0;
    *p = (struct feed_port){.to = v, .from = from, .bytes = each * dtype_of(x->type)->size, .type = x->type};
}

status feed_plain(const graph *g, feed *out)
{
    *out = (feed){0};
    if (g->n_input < 1 || g->n_input > DATA_INPUTS)
        return fail(ST_BAD_DATA, "a model with %zu inputs; 1 to %d are possible", g->n_input, DATA_INPUTS);
    for (size_t i = 0; i < g->n_input; i++)
        set_port(g, g->input[i], (uint32_t)i, &out->port[out->n++]);
    return ST_OK;
}

static int find_input(const data_info *info, const char *name)
{
    for (uint32_t k = 0; k < info->n_inputs; k++)
        if (strcmp(info->input[k].name, name) == 0)
            return (int)k;
    return -1;
}

static status check_port(const graph *g, value_id v, const data_input *from, const char *who)
{
    const value *x = graph_value(g, v);
    char a[200], b[200];
    shape sample = {.rank = x->sh.rank - 1};
    for (int i = 0; i < sample.rank; i++)
        sample.dim[i] = x->sh.dim[i + 1];
    if (x->sh.rank < 1 || !shape_equal(&sample, &from->sh))
        return fail(ST_CONFIG, "%s: input '%s' is %s, which does not take samples of shape %s", who, x->name,
                    shape_print(&x->sh, a), shape_print(&from->sh, b));
    if (x->type != from->type)
        return fail(ST_CONFIG, "%s: input '%s' is %s, the samples are %s", who, x->name, dtype_of(x->type)->name,
                    dtype_of(from->type)->name);
    return ST_OK;
}

status feed_match(const graph *g, const value_id *in, size_t n, const data_info *info, const char *who, feed *out)
{
    bool named = true;
    *out = (feed){0};
    for (size_t i = 0; i < n; i++)
        named = named && find_input(info, graph_value(g, in[i])->name) >= 0;
    if (n < 1 || n > DATA_INPUTS || (!named && n != info->n_inputs))
        return fail(ST_CONFIG, "%s has %zu inputs, a sample of %s has %u; give arrays of the same names", who, n, info->path,
                    info->n_inputs);
    for (size_t i = 0; i < n; i++) {
        uint32_t from = named ? (uint32_t)find_input(info, graph_value(g, in[i])->name) : (uint32_t)i;
        TRY(check_port(g, in[i], &info->input[from], who));
        set_port(g, in[i], from, &out->port[out->n++]);
    }
    return ST_OK;
}

status feed_check_ids(const graph *g, const feed *f, const dataset *ds, const char *who)
{
    char table[600];
    for (size_t i = 0; i < f->n; i++) {
        const struct feed_port *p = &f->port[i];
        if (p->type != DTYPE_I64 && p->type != DTYPE_I32)
            continue;
        for (size_t k = 1; k < g->n_node; k++) {
            int64_t rows = op_gather_size(g, graph_node(g, (node_id)k), p->to);
            if (rows < 0)
                continue;
            snprintf(table, sizeof table, "%.60s: '%.500s'", who, graph_value(g, graph_node(g, (node_id)k)->in[0])->name);
            TRY(dataset_check_ids(ds, p->from, rows, table));
        }
    }
    return ST_OK;
}

void feed_put(const feed *f, const exec *e, size_t at, const void *const *x, size_t first, size_t n)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct feed_port *p = &f->port[i];
        unsigned char *to = exec_data(e, p->to);
        if (to)
            memcpy(to + at * p->bytes, (const unsigned char *)x[p->from] + first * p->bytes, n * p->bytes);
    }
}

void feed_clear(const feed *f, const exec *e, size_t at, size_t n)
{
    for (size_t i = 0; i < f->n; i++) {
        unsigned char *to = exec_data(e, f->port[i].to);
        if (to)
            memset(to + at * f->port[i].bytes, 0, n * f->port[i].bytes);
    }
}

uint64_t feed_hash(const feed *f, const void *const *x, size_t i)
{
    uint64_t h = 0;
    for (size_t k = 0; k < f->n; k++) {
        const struct feed_port *p = &f->port[k];
        h = h * 0x9E3779B97F4A7C15u + hash_xxh3((const unsigned char *)x[p->from] + i * p->bytes, p->bytes);
    }
    return h;
}
