/* print.c - a graph as text: one line a node, the same text for the same graph. */
#include "graph/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void print_choice(const char *choices, int64_t index, text *out)
{
    const char *s = choices;
    for (int64_t i = 0; i < index && *s; i++) {
        s += strcspn(s, " ");
        s += *s == ' ';
    }
    text_add_n(out, s, strcspn(s, " "));
}

static void print_attr(const attr_desc *a, const char *field, text *out)
{
    int64_t i;
    double f;
    attr_ints ints;
    attr_floats floats;
    attr_tensor t;
    switch (a->type) {
    case ATTR_INT:
        memcpy(&i, field, sizeof i);
        text_printf(out, "%" PRId64, i);
        break;
    case ATTR_CHOICE:
        memcpy(&i, field, sizeof i);
        print_choice(a->choices, i, out);
        break;
    case ATTR_DTYPE:
        memcpy(&i, field, sizeof i);
        text_add(out, dtype_of((dtype)i)->name);
        break;
    case ATTR_FLOAT:
        memcpy(&f, field, sizeof f);
        text_printf(out, "%.9g", f);
        break;
    case ATTR_INTS:
        memcpy(&ints, field, sizeof ints);
        for (int64_t k = 0; k < ints.n; k++)
            text_printf(out, "%s%" PRId64, k ? " " : "", ints.v[k]);
        break;
    case ATTR_FLOATS:
        memcpy(&floats, field, sizeof floats);
        for (int64_t k = 0; k < floats.n; k++)
            text_printf(out, "%s%.9g", k ? " " : "", floats.v[k]);
        break;
    case ATTR_TENSOR:
        memcpy(&t, field, sizeof t);
        text_printf(out, "%.9g:%s", t.v, dtype_of(t.type)->name);
        break;
    }
}

/* Whether the attribute says what its default says anyway. */
static bool is_default(const attr_desc *a, const char *field)
{
    int64_t i;
    double f;
    attr_ints list; /* attr_floats has the same layout */
    switch (a->type) {
    case ATTR_FLOAT:
        memcpy(&f, field, sizeof f);
        return f == a->def;
    case ATTR_INTS:
    case ATTR_FLOATS:
        memcpy(&list, field, sizeof list);
        return list.v == NULL;
    case ATTR_INT:
    case ATTR_CHOICE:
    case ATTR_DTYPE:
        memcpy(&i, field, sizeof i);
        return i == (int64_t)a->def;
    case ATTR_TENSOR:
        break;
    }
    return false;
}

void graph_print_attrs(const node *n, text *out)
{
    const op_desc *d = op_of(n->op);
    const char *sep = "";
    for (const attr_desc *a = d->attrs; a && a->name; a++) {
        const char *field = (const char *)n->attr + a->offset;
        if (is_default(a, field))
            continue;
        text_printf(out, "%s%s=", sep, a->name);
        print_attr(a, field, out);
        sep = ", ";
    }
}

static void print_value(const graph *g, value_id v, text *out)
{
    char buf[200];
    const value *x = &g->value[v];
    if (!v)
        text_add(out, "-");
    else
        text_printf(out, "%s %s%s", x->name, dtype_of(x->type)->name, shape_print(&x->sh, buf));
}

void graph_print(const graph *g, text *out)
{
    static const char *const kinds[] = {"temp", "input", "const", "param", "state"};
    for (size_t v = 1; v < g->n_value; v++)
        if (g->value[v].kind != VALUE_TEMP) {
            text_printf(out, "%s ", kinds[g->value[v].kind]);
            print_value(g, (value_id)v, out);
            text_add(out, "\n");
        }
    for (size_t k = 1; k < g->n_node; k++) {
        const node *n = &g->node[k];
        for (int i = 0; i < n->n_out; i++) {
            text_add(out, i ? ", " : "");
            print_value(g, n->out[i], out);
        }
        text_printf(out, " = %s(", op_of(n->op)->name);
        for (int i = 0; i < n->n_in; i++)
            text_printf(out, "%s%s", i ? ", " : "", n->in[i] ? g->value[n->in[i]].name : "-");
        text_add(out, ")");
        if (n->attr) {
            text attrs = {0};
            graph_print_attrs(n, &attrs);
            if (attrs.n)
                text_printf(out, " {%s}", attrs.s);
            text_free(&attrs);
        }
        text_printf(out, " # %s%s\n", n->name, n->when == PHASE_UPDATE ? " (update)" : "");
    }
    for (size_t i = 0; i < g->n_output; i++)
        text_printf(out, "output %s\n", g->value[g->output[i]].name);
}
