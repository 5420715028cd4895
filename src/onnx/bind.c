/* bind.c - finds out by trying which inputs an import needs as constants. */
#include "onnx/bind.h"

#include <stdio.h>
#include <string.h>

/* Whether the message asks for a constant where the model's own input `name` is; the names are quoted. */
static bool asks_for(const char *name)
{
    const char *m = status_message();
    char quoted[300];
    snprintf(quoted, sizeof quoted, "its input '%s'", name);
    return strstr(m, "must be a constant") && strstr(m, quoted);
}

/* Imports, giving as constants what has to be one: what messages ask for; all inputs when that does not help. */
status onnx_import_for(const onnx_model *m, const tensor *in, size_t n_in, bool keep_training_mode, graph **g)
{
    import_bind bind[BIND_INPUTS_MAX];
    bool bound[BIND_INPUTS_MAX] = {false};
    import_dim dims[BIND_INPUTS_MAX * RANK_MAX];
    char names[BIND_INPUTS_MAX * RANK_MAX][280];
    size_t n_dims = 0;
    if (n_in > BIND_INPUTS_MAX)
        return fail(ST_BAD_DATA, "%s: %zu inputs; at most %d are supported", m->path, n_in, BIND_INPUTS_MAX);
    for (size_t i = 0; i < n_in; i++) /* open dimensions are those of the data */
        for (int k = 0; k < in[i].sh.rank; k++, n_dims++) {
            snprintf(names[n_dims], sizeof names[n_dims], "%.250s[%d]", in[i].name, k);
            dims[n_dims] = (import_dim){names[n_dims], in[i].sh.dim[k]};
        }
    for (size_t round = 0;; round++) {
        import_options o = {.bind = bind, .dims = dims, .n_dims = n_dims, .keep_training_mode = keep_training_mode};
        for (size_t i = 0; i < n_in; i++)
            if (bound[i])
                bind[o.n_bind++] = (import_bind){in[i].name, &in[i]};
        status st = onnx_import(m, &o, g);
        if (st == ST_OK ||
            (!strstr(status_message(), "must be a constant") &&
             !strstr(status_message(), "must be constants") && !strstr(status_message(), "not a constant")))
            return st;
        bool more = false;
        for (size_t i = 0; i < n_in; i++)
            if (!bound[i] && asks_for(in[i].name))
                more = bound[i] = true;
        if (!more) {
            for (size_t i = 0; i < n_in; i++) {
                more |= !bound[i];
                bound[i] = true;
            }
            if (!more)
                return st;
        }
    }
}

status onnx_name_inputs(const onnx_model *m, tensor *in, size_t n_in)
{
    const char **names = NULL;
    size_t n = 0;
    TRY(onnx_input_names(m, &names, &n));
    status st = ST_OK;
    if (n_in > n)
        st = fail(ST_BAD_DATA, "%s: %zu inputs given, the model has %zu", m->path, n_in, n);
    for (size_t i = 0; i < n_in && st == ST_OK; i++) {
        mem_free(in[i].name);
        in[i].name = NULL;
        st = mem_strdup(&in[i].name, names[i]);
    }
    mem_free(names);
    return st;
}
