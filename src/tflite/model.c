/* model.c - lists, and their FlatBuffer. Order in the buffer: data, tensors, operators, subgraph, model. */
#include "tflite/model.h"

#include "tflite/flatbuffer.h"

#include <string.h>

void tfl_model_free(tfl_model *m)
{
    mem_free(m->tensor);
    mem_free(m->op);
    mem_free(m->in);
    mem_free(m->out);
    arena_free(&m->mem);
    *m = (tfl_model){0};
}

status tfl_add_tensor(tfl_model *m, const tfl_tensor *t, int32_t *out)
{
    TRY(mem_push(&m->tensor, &m->cap_tensor, m->n_tensor, sizeof *m->tensor));
    m->tensor[m->n_tensor] = *t;
    *out = (int32_t)m->n_tensor++;
    return ST_OK;
}

static status copy_ids(tfl_model *m, const int32_t *from, size_t n, const int32_t **to)
{
    int32_t *v;
    TRY(arena_alloc(&m->mem, &v, n, sizeof *v));
    if (n)
        memcpy(v, from, n * sizeof *v);
    *to = v;
    return ST_OK;
}

status tfl_add_op(tfl_model *m, const tfl_op *op)
{
    TRY(mem_push(&m->op, &m->cap_op, m->n_op, sizeof *m->op));
    tfl_op *to = &m->op[m->n_op];
    *to = *op;
    TRY(copy_ids(m, op->in, op->n_in, &to->in));
    TRY(copy_ids(m, op->out, op->n_out, &to->out));
    m->n_op++;
    return ST_OK;
}

status tfl_add_port(tfl_port **list, size_t *n, size_t *cap, const char *name, int32_t id)
{
    TRY(mem_push(list, cap, *n, sizeof **list));
    (*list)[(*n)++] = (tfl_port){.name = name, .tensor = id};
    return ST_OK;
}

size_t tfl_type_size(int type)
{
    static const uint8_t size[] = {[TFL_FLOAT32] = 4, [TFL_INT32] = 4, [TFL_INT64] = 8, [TFL_BOOL] = 1, [TFL_INT8] = 1};
    return size[type];
}

/* ---- the pieces ---- */

/* Lists of references on their way into a vector. */
typedef struct ref_list {
    fb_ref *at;
    size_t n, cap;
} ref_list;

static void add_ref(flatbuffer *b, ref_list *l, fb_ref ref)
{
    if (b->st == ST_OK)
        b->st = mem_push(&l->at, &l->cap, l->n, sizeof *l->at);
    if (b->st == ST_OK)
        l->at[l->n++] = ref;
}

/* Writes the list and empties it for the next. */
static fb_ref end_refs(flatbuffer *b, ref_list *l)
{
    fb_ref r = fb_refs(b, l->at, l->n);
    l->n = 0;
    return r;
}

static fb_ref put_buffer(flatbuffer *b, const void *data, size_t bytes)
{
    fb_ref v = data ? fb_vector(b, data, bytes, 1, TFL_ALIGN) : 0;
    fb_table_begin(b);
    fb_put_ref(b, BUFFER_DATA, v);
    return fb_table_end(b);
}

static fb_ref put_quant(flatbuffer *b, const tfl_quant *q)
{
    if (!q->n)
        return 0;
    fb_ref scale = fb_vector(b, q->scale, (size_t)q->n, 4, 4), zero = fb_vector(b, q->zero, (size_t)q->n, 8, 8);
    fb_table_begin(b);
    fb_put_ref(b, QUANTIZATION_SCALE, scale);
    fb_put_ref(b, QUANTIZATION_ZERO_POINT, zero);
    fb_put_i32(b, QUANTIZATION_DIMENSION, q->axis, 0);
    return fb_table_end(b);
}

static fb_ref put_tensor(flatbuffer *b, const tfl_tensor *t, uint32_t buffer)
{
    int32_t dim[RANK_MAX], signature[RANK_MAX];
    for (int i = 0; i < t->sh.rank; i++) {
        if (t->sh.dim[i] > INT32_MAX && b->st == ST_OK)
            b->st = fail(ST_BAD_DATA, "tensor '%s': a dimension is larger than 2^31 - 1", t->name);
        dim[i] = signature[i] = (int32_t)t->sh.dim[i];
    }
    if (t->sh.rank)
        signature[0] = t->batched ? -1 : signature[0];
    fb_ref sh = fb_vector(b, dim, (size_t)t->sh.rank, 4, 4), name = fb_string(b, t->name), quant = put_quant(b, &t->q);
    fb_ref sig = t->batched ? fb_vector(b, signature, (size_t)t->sh.rank, 4, 4) : 0;
    fb_table_begin(b);
    fb_put_ref(b, TENSOR_SHAPE, sh);
    fb_put_i32(b, TENSOR_BUFFER, (int32_t)buffer, 0);
    fb_put_ref(b, TENSOR_NAME, name);
    fb_put_ref(b, TENSOR_QUANTIZATION, quant);
    fb_put_ref(b, TENSOR_SHAPE_SIGNATURE, sig);
    fb_put_i8(b, TENSOR_TYPE, t->type, TFL_FLOAT32);
    return fb_table_end(b);
}

static fb_ref put_options(flatbuffer *b, const tfl_op *op)
{
    if (op->option_type == TFL_OPT_NONE)
        return 0;
    fb_ref list = op->list ? fb_vector(b, op->list, op->n_list, 4, 4) : 0;
    fb_table_begin(b);
    for (size_t i = 0; i < op->n_option; i++) {
        const tfl_option *o = &op->option[i];
        if (o->kind == 'b')
            fb_put_i8(b, o->slot, o->i, o->def);
        else if (o->kind == 'i')
            fb_put_i32(b, o->slot, o->i, o->def);
        else if (o->kind == 'f')
            fb_put_f32(b, o->slot, o->f, 0);
        else
            fb_put_ref(b, o->slot, list);
    }
    return fb_table_end(b);
}

static fb_ref put_op(flatbuffer *b, const tfl_op *op, int32_t code)
{
    fb_ref in = fb_vector(b, op->in, op->n_in, 4, 4), out = fb_vector(b, op->out, op->n_out, 4, 4);
    fb_ref options = put_options(b, op);
    fb_table_begin(b);
    fb_put_i32(b, OPERATOR_OPCODE, code, 0);
    fb_put_ref(b, OPERATOR_INPUTS, in);
    fb_put_ref(b, OPERATOR_OUTPUTS, out);
    fb_put_ref(b, OPERATOR_OPTIONS, options);
    fb_put_i8(b, OPERATOR_OPTIONS_TYPE, op->option_type, TFL_OPT_NONE);
    return fb_table_end(b);
}

/* ---- operator codes: every (operator, version) once ---- */

typedef struct code_list {
    struct {
        int code, version;
    } *at;
    size_t n, cap;
} code_list;

static int32_t code_of(flatbuffer *b, code_list *l, const tfl_op *op)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->at[i].code == op->code && l->at[i].version == op->version)
            return (int32_t)i;
    if (b->st == ST_OK)
        b->st = mem_push(&l->at, &l->cap, l->n, sizeof *l->at);
    if (b->st != ST_OK)
        return 0;
    l->at[l->n].code = op->code;
    l->at[l->n].version = op->version;
    return (int32_t)l->n++;
}

static fb_ref put_codes(flatbuffer *b, const code_list *l, ref_list *refs)
{
    for (size_t i = 0; i < l->n; i++) {
        int code = l->at[i].code; /* the old field is a byte: 127 sends readers to the new one */
        fb_table_begin(b);
        fb_put_i32(b, OPCODE_VERSION, l->at[i].version, 1);
        fb_put_i32(b, OPCODE_CODE, code, 0);
        fb_put_i8(b, OPCODE_DEPRECATED_CODE, code > 127 ? 127 : code, 0);
        add_ref(b, refs, fb_table_end(b));
    }
    return end_refs(b, refs);
}

/* ---- ports ---- */

static fb_ref put_port_ids(flatbuffer *b, const tfl_port *p, size_t n)
{
    int32_t *id;
    if (b->st == ST_OK)
        b->st = mem_alloc(&id, n, sizeof *id);
    if (b->st != ST_OK)
        return 0;
    for (size_t i = 0; i < n; i++)
        id[i] = p[i].tensor;
    fb_ref r = fb_vector(b, id, n, 4, 4);
    mem_free(id);
    return r;
}

static fb_ref put_port_map(flatbuffer *b, const tfl_port *p, size_t n, ref_list *refs)
{
    for (size_t i = 0; i < n; i++) {
        fb_ref name = fb_string(b, p[i].name);
        fb_table_begin(b);
        fb_put_ref(b, TENSOR_MAP_NAME, name);
        fb_put_i32(b, TENSOR_MAP_TENSOR, p[i].tensor, 0);
        add_ref(b, refs, fb_table_end(b));
    }
    return end_refs(b, refs);
}

/* Inputs and outputs by name, as readers with signatures look for them. */
static fb_ref put_signature(flatbuffer *b, const tfl_model *m, ref_list *refs)
{
    fb_ref in = put_port_map(b, m->in, m->n_in, refs), out = put_port_map(b, m->out, m->n_out, refs);
    fb_ref key = fb_string(b, "serving_default");
    fb_table_begin(b);
    fb_put_ref(b, SIGNATURE_INPUTS, in);
    fb_put_ref(b, SIGNATURE_OUTPUTS, out);
    fb_put_ref(b, SIGNATURE_KEY, key);
    add_ref(b, refs, fb_table_end(b));
    return end_refs(b, refs);
}

static fb_ref put_subgraph(flatbuffer *b, const tfl_model *m, code_list *codes, ref_list *refs)
{
    uint32_t buffer = 0; /* buffer 0 is empty, for what has no contents */
    for (size_t i = 0; i < m->n_tensor; i++)
        add_ref(b, refs, put_tensor(b, &m->tensor[i], m->tensor[i].data ? ++buffer : 0));
    fb_ref tensors = end_refs(b, refs);
    for (size_t i = 0; i < m->n_op; i++)
        add_ref(b, refs, put_op(b, &m->op[i], code_of(b, codes, &m->op[i])));
    fb_ref ops = end_refs(b, refs), in = put_port_ids(b, m->in, m->n_in), out = put_port_ids(b, m->out, m->n_out);
    fb_ref name = fb_string(b, "main");
    fb_table_begin(b);
    fb_put_ref(b, SUBGRAPH_TENSORS, tensors);
    fb_put_ref(b, SUBGRAPH_INPUTS, in);
    fb_put_ref(b, SUBGRAPH_OUTPUTS, out);
    fb_put_ref(b, SUBGRAPH_OPERATORS, ops);
    fb_put_ref(b, SUBGRAPH_NAME, name);
    add_ref(b, refs, fb_table_end(b));
    return end_refs(b, refs);
}

/* ---- the file ---- */

/* Buffers: the empty one, every constant's, every metadata text's. Returns the index of the first metadata buffer. */
static uint32_t put_buffers(flatbuffer *b, const tfl_model *m, const tflite_options *o, ref_list *buffers)
{
    add_ref(b, buffers, put_buffer(b, NULL, 0));
    for (size_t i = 0; i < m->n_tensor; i++) {
        const tfl_tensor *t = &m->tensor[i];
        if (t->data)
            add_ref(b, buffers, put_buffer(b, t->data, (size_t)shape_count(&t->sh) * tfl_type_size(t->type)));
    }
    uint32_t first = (uint32_t)buffers->n;
    for (size_t i = 0; i < o->n_meta; i++)
        add_ref(b, buffers, put_buffer(b, o->meta[i].value, strlen(o->meta[i].value)));
    return first;
}

static fb_ref put_metadata(flatbuffer *b, const tflite_options *o, uint32_t buffer, ref_list *refs)
{
    if (!o->n_meta)
        return 0;
    for (size_t i = 0; i < o->n_meta; i++) {
        fb_ref name = fb_string(b, o->meta[i].key);
        fb_table_begin(b);
        fb_put_ref(b, METADATA_NAME, name);
        fb_put_i32(b, METADATA_BUFFER, (int32_t)(buffer + i), 0);
        add_ref(b, refs, fb_table_end(b));
    }
    return end_refs(b, refs);
}

status tfl_model_bytes(const tfl_model *m, const tflite_options *o, text *out)
{
    flatbuffer b;
    ref_list refs = {0}, buffers = {0};
    code_list codes = {0};
    fb_begin(&b);
    uint32_t first_meta = put_buffers(&b, m, o, &buffers);
    fb_ref data = end_refs(&b, &buffers);
    fb_ref meta = put_metadata(&b, o, first_meta, &refs);
    fb_ref subgraphs = put_subgraph(&b, m, &codes, &refs);
    fb_ref code = put_codes(&b, &codes, &refs), signatures = put_signature(&b, m, &refs);
    fb_ref description = fb_string(&b, "distill " DISTILL_VERSION);
    fb_table_begin(&b);
    fb_put_i32(&b, MODEL_VERSION, TFL_SCHEMA_VERSION, 0);
    fb_put_ref(&b, MODEL_OPERATOR_CODES, code);
    fb_put_ref(&b, MODEL_SUBGRAPHS, subgraphs);
    fb_put_ref(&b, MODEL_DESCRIPTION, description);
    fb_put_ref(&b, MODEL_BUFFERS, data);
    fb_put_ref(&b, MODEL_METADATA, meta);
    fb_put_ref(&b, MODEL_SIGNATURE_DEFS, signatures);
    status st = fb_finish(&b, fb_table_end(&b), TFL_IDENTIFIER);
    if (st == ST_OK) {
        text_add_n(out, b.at + b.cap - b.used, b.used);
        st = out->st;
    } else if (st == ST_BAD_DATA) {
        st = fail_within(st, "the model is too large for TFLite");
    }
    fb_free(&b);
    mem_free(refs.at);
    mem_free(buffers.at);
    mem_free(codes.at);
    return st;
}
