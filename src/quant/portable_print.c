/* portable_print.c - the report of portable.h as text and as JSON. */
#include "quant/portable.h"

#include <inttypes.h>
#include <math.h>

static const char *profile_name(const portable_report *r)
{
    return r->profile == PROFILE_PORTABLE_S8 ? "portable-s8" : "portable";
}

void portable_print(const portable_report *r, text *t)
{
    if (r->n_layer)
        text_printf(t, "%-32s %-6s %8s %8s %6s %12s\n", "layer", "", "outputs", "shift k", "|w|", "bound");
    for (size_t i = 0; i < r->n_layer; i++) {
        const portable_layer *l = &r->layer[i];
        text_printf(t, "%-32s %-6s %8" PRId64 " %4d..%-3d %6d      2^%-6.1f%s\n", l->name, l->op, l->outputs, l->k_min, l->k_max,
                    l->w_max, l->bound > 0 ? log2(l->bound) : 0, l->proven ? "" : " broken");
    }
    for (size_t i = 0; i < r->n_fault; i++)
        text_printf(t, "rule %d    %s: %s\n", r->fault[i].rule, r->fault[i].node, r->fault[i].what);
    for (size_t i = 0; i < r->n_input; i++)
        text_printf(t, "input     %s: multiples of %.9g from %g to %g\n", r->input[i].name, r->input[i].scale, r->input[i].low,
                    r->input[i].high);
    for (size_t i = 0; i < r->n_tail; i++)
        text_printf(t, "float     %s stands behind the integers; what it gives is not part of the promise\n", r->tail[i]);
    if (r->n_fault)
        text_printf(t, "%s: not proven, %zu fault%s\n", profile_name(r), r->n_fault, r->n_fault > 1 ? "s" : "");
    else
        text_printf(t, "%s: proven\n", profile_name(r));
}

void portable_json(const portable_report *r, json *j)
{
    json_put_object(j, "portable");
    json_put_string(j, "profile", profile_name(r));
    json_put_bool(j, "proven", r->n_fault == 0);
    json_put_array(j, "layers");
    for (size_t i = 0; i < r->n_layer; i++) {
        const portable_layer *l = &r->layer[i];
        json_put_object(j, NULL);
        json_put_string(j, "name", l->name);
        json_put_string(j, "op", l->op);
        json_put_int(j, "outputs", l->outputs);
        json_put_int(j, "shift_min", l->k_min);
        json_put_int(j, "shift_max", l->k_max);
        json_put_int(j, "weight_max", l->w_max);
        json_put_number(j, "bound", l->bound);
        json_put_bool(j, "proven", l->proven);
        json_end_object(j);
    }
    json_end_array(j);
    json_put_array(j, "faults");
    for (size_t i = 0; i < r->n_fault; i++) {
        json_put_object(j, NULL);
        json_put_int(j, "rule", r->fault[i].rule);
        json_put_string(j, "node", r->fault[i].node);
        json_put_string(j, "what", r->fault[i].what);
        json_end_object(j);
    }
    json_end_array(j);
    json_put_array(j, "inputs");
    for (size_t i = 0; i < r->n_input; i++) {
        json_put_object(j, NULL);
        json_put_string(j, "name", r->input[i].name);
        json_put_number(j, "scale", r->input[i].scale);
        json_put_number(j, "low", r->input[i].low);
        json_put_number(j, "high", r->input[i].high);
        json_end_object(j);
    }
    json_end_array(j);
    json_put_array(j, "float_tail");
    for (size_t i = 0; i < r->n_tail; i++)
        json_put_string(j, NULL, r->tail[i]);
    json_end_array(j);
    json_end_object(j);
}
