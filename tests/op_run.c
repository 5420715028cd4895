/* op_run.c - runs a graph node by node, every operand and workspace between guard bytes. */
#include "op_run.h"
#include "emulator/emulator_control.h"
#include "exec/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define POISON(p, n)   ((void)0)
#define UNPOISON(p, n) ((void)0)
#endif

#define GUARD    256
#define OPERANDS 64 /* more operands a node than any test row has */

/* 0xFFE5 repeated: a NaN as float16, float32 and float64, so that a read outside spoils the result. */
static void fill_garbage(void *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)to)[i] = i & 1 ? 0xFF : 0xE5;
}

static bool is_garbage(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != (i & 1 ? 0xFF : 0xE5))
            return false;
    return true;
}

static status guarded_make(guarded *b, size_t bytes)
{
    TRY(mem_alloc(&b->raw, bytes + 2 * GUARD + 64, 1));
    uintptr_t start = (uintptr_t)b->raw + GUARD;
    b->data = b->raw + GUARD + (64 - start % 64) % 64;
    b->bytes = bytes;
    fill_garbage((unsigned char *)b->data - GUARD, GUARD);
    fill_garbage(b->data, bytes);
    fill_garbage((unsigned char *)b->data + bytes, GUARD);
    POISON((unsigned char *)b->data - GUARD, GUARD);
    POISON((unsigned char *)b->data + bytes, GUARD);
    return ST_OK;
}

static bool guarded_intact(const guarded *b)
{
    unsigned char *p = b->data;
    if (!p)
        return true;
    UNPOISON(p - GUARD, GUARD);
    UNPOISON(p + b->bytes, GUARD);
    bool ok = is_garbage(p - GUARD, GUARD) && is_garbage(p + b->bytes, GUARD);
    POISON(p - GUARD, GUARD);
    POISON(p + b->bytes, GUARD);
    return ok;
}

static void guarded_free(guarded *b)
{
    if (b->raw) {
        UNPOISON((unsigned char *)b->data - GUARD, GUARD);
        UNPOISON((unsigned char *)b->data + b->bytes, GUARD);
    }
    mem_free(b->raw);
    *b = (guarded){0};
}

static size_t bytes_of(const value *v)
{
    kernel_tensor t = {.sh = v->sh, .block = v->block};
    return (size_t)kernel_elements(&t) * dtype_of(value_lies_in(v))->size;
}

/* Whether what was prepared stands for input i. */
static bool is_packed(const op_run *r, const node *n, int i)
{
    size_t k = (size_t)(n - r->g->node);
    return r->prepared[k].data && r->row[k]->packed_in >> i & 1;
}

/* The node's operands; in and out have OPERANDS places. */
static void operands(const op_run *r, const node *n, kernel_tensor *in, kernel_tensor *out, kernel_args *a)
{
    plan_operands(r->g, n, in, out, a);
    for (int i = 0; i < n->n_in; i++)
        in[i].data = r->at[n->in[i]].data;
    for (int i = 0; i < n->n_out; i++)
        out[i].data = r->at[n->out[i]].data;
    a->threads = r->threads;
    a->queue = r->b->queue;
    a->prepared = r->prepared[n - r->g->node].data;
    for (int i = 0; i < n->n_in; i++)
        if (is_packed(r, n, i))
            in[i].data = NULL;
}

static bool is_far(const backend *b);
static status run_far(op_run *r, const kernel_row *row, const kernel_args *a, guarded *to);

static status choose(op_run *r, size_t k)
{
    const node *n = &r->g->node[k];
    kernel_tensor in[OPERANDS], out[OPERANDS];
    kernel_args a;
    if (n->n_in > OPERANDS || n->n_out > OPERANDS)
        return fail(ST_INTERNAL, "node '%s' has too many operands for a test", n->name);
    if (op_of(n->op)->flags & OP_VIEW)
        return ST_OK;
    operands(r, n, in, out, &a);
    r->row[k] = r->b->find(r->b, n->op, &a);
    if (!r->row[k])
        return fail(ST_BAD_DATA, "node '%s': no kernel for %s on %s", n->name, op_of(n->op)->name,
                    dtype_of(n->n_in ? in[0].type : out[0].type)->name);
    for (int i = 0; i < n->n_in; i++)
        if (r->g->value[n->in[i]].kind != VALUE_CONST)
            in[i].data = NULL;
    for (int i = 0; i < n->n_out; i++)
        out[i].data = NULL;
    size_t bytes = r->row[k]->prepared ? r->row[k]->prepared(&a) : 0;
    if (bytes) {
        TRY(guarded_make(&r->prepared[k], bytes));
        if (is_far(r->b))
            TRY(run_far(r, r->row[k], &a, &r->prepared[k]));
        else
            r->row[k]->prepare(&a, r->prepared[k].data);
        if (!guarded_intact(&r->prepared[k]))
            return fail(ST_INTERNAL, "node '%s' (%s): wrote outside what it prepares", n->name, r->row[k]->name);
    }
    return ST_OK;
}

status op_run_open(op_run *r, const graph *g, const backend *b, int threads)
{
    *r = (op_run){.b = b, .threads = threads};
    TRY(graph_share(g, &r->g));
    TRY(pass_layout(r->g, b));
    TRY(graph_validate(r->g));
    g = r->g;
    TRY(mem_alloc(&r->at, g->n_value, sizeof *r->at));
    TRY(mem_alloc(&r->row, g->n_node, sizeof *r->row));
    TRY(mem_alloc(&r->prepared, g->n_node, sizeof *r->prepared));
    for (size_t v = 1; v < g->n_value; v++) {
        const value *x = &g->value[v];
        TRY(guarded_make(&r->at[v], bytes_of(x)));
        if (x->data)
            memcpy(r->at[v].data, x->data, bytes_of(x));
        else if (x->kind != VALUE_TEMP)
            memset(r->at[v].data, 0, bytes_of(x));
    }
    for (size_t k = 1; k < g->n_node; k++)
        TRY(choose(r, k));
    return ST_OK;
}

void op_run_close(op_run *r)
{
    for (size_t v = 1; r->at && v < r->g->n_value; v++)
        guarded_free(&r->at[v]);
    for (size_t k = 1; r->prepared && k < r->g->n_node; k++)
        guarded_free(&r->prepared[k]);
    guarded_free(&r->work);
    mem_free(r->prepared);
    mem_free(r->at);
    mem_free(r->row);
    graph_free(r->g);
    *r = (op_run){0};
}

/* ---- a device that does not see these buffers ---- */

/* Whether kernels need copies of the operands. DISTILL_OP_FAR=1: also on the emulator, to try this path. */
static bool is_far(const backend *b)
{
    return b->remote && (b->queue->api != &emulator_api || getenv("DISTILL_OP_FAR"));
}

typedef struct moved { /* a buffer and its guards on the device */
    void *host, *there;
    size_t bytes;
} moved;
typedef struct moving {
    backend *b;
    moved at[2 * OPERANDS + 2];
    int n;
} moving;

/* *p becomes the address on the device of the guarded buffer there; the same buffer moves once. */
static status move_there(moving *m, void **p, size_t bytes)
{
    if (!*p)
        return ST_OK;
    for (int i = 0; i < m->n; i++)
        if (m->at[i].host == *p) {
            *p = (char *)m->at[i].there + GUARD;
            return ST_OK;
        }
    moved *x = &m->at[m->n];
    *x = (moved){.host = *p, .bytes = bytes};
    TRY(m->b->alloc(m->b, bytes + 2 * GUARD, &x->there));
    m->n++;
    TRY(m->b->remote->copy(m->b, x->there, (char *)x->host - GUARD, bytes + 2 * GUARD, COPY_TO_DEVICE));
    *p = (char *)x->there + GUARD;
    return ST_OK;
}

static status move_back(moving *m)
{
    for (int i = 0; i < m->n; i++)
        TRY(m->b->remote->copy(m->b, (char *)m->at[i].host - GUARD, m->at[i].there, m->at[i].bytes + 2 * GUARD, COPY_TO_HOST));
    return m->b->remote->wait(m->b);
}

static size_t operand_bytes(const kernel_tensor *t)
{
    return (size_t)kernel_elements(t) * dtype_of(t->type)->size;
}

/* As row->run, or with `to` as row->prepare, on copies of everything with its guards. */
static status run_far(op_run *r, const kernel_row *row, const kernel_args *a, guarded *to)
{
    kernel_tensor in[OPERANDS], out[OPERANDS];
    kernel_args there = *a;
    moving m = {.b = (backend *)(uintptr_t)r->b};
    void *made = to ? to->data : NULL, *prepared = NULL;
    status st = ST_OK;
    there.in = in;
    there.out = out;
    for (int i = 0; i < a->n_in; i++) {
        in[i] = a->in[i];
        TRY_DONE(move_there(&m, &in[i].data, operand_bytes(&in[i])));
    }
    for (int i = 0; i < a->n_out; i++) {
        out[i] = a->out[i];
        TRY_DONE(move_there(&m, &out[i].data, operand_bytes(&out[i])));
    }
    TRY_DONE(move_there(&m, &there.work, a->work_size));
    for (size_t k = 1; a->prepared && k < r->g->n_node; k++)
        if (r->prepared[k].data == a->prepared) {
            prepared = r->prepared[k].data;
            TRY_DONE(move_there(&m, &prepared, r->prepared[k].bytes));
        }
    there.prepared = prepared;
    if (to) {
        TRY_DONE(move_there(&m, &made, to->bytes));
        row->prepare(&there, made);
    } else {
        row->run(&there);
    }
    TRY_DONE(m.b->remote->wait(m.b));
    TRY_DONE(move_back(&m));
done:
    for (int i = 0; i < m.n; i++)
        m.b->free(m.b, m.at[i].there, m.at[i].bytes + 2 * GUARD);
    return st;
}

/* A workspace of exactly the size that was asked for. */
static status run_row(op_run *r, const kernel_row *row, kernel_args *a)
{
    size_t want = row->workspace ? row->workspace(a) : 0;
    if (!r->work.raw || r->work.bytes != want) {
        guarded_free(&r->work);
        TRY(guarded_make(&r->work, want));
    }
    fill_garbage(r->work.data, want);
    a->work = r->work.data;
    a->work_size = want;
    if (is_far(r->b))
        return run_far(r, row, a, NULL);
    row->run(a);
    return r->b->remote ? r->b->remote->wait((backend *)(uintptr_t)r->b) : ST_OK; /* a launch may have failed */
}

/* Runs the node once more with out[0] over a copy of input i and the other outputs elsewhere; compares all of them. */
static status check_in_place(op_run *r, const node *n, const kernel_row *row, int i)
{
    kernel_tensor in[OPERANDS], out[OPERANDS];
    guarded fresh[OPERANDS] = {{0}};
    kernel_args a;
    status st = ST_OK;
    operands(r, n, in, out, &a);
    for (int o = 0; o < n->n_out; o++) {
        if (!n->out[o])
            continue;
        TRY_DONE(guarded_make(&fresh[o], r->at[n->out[o]].bytes));
        out[o].data = fresh[o].data;
    }
    memcpy(out[0].data, in[i].data, fresh[0].bytes);
    in[i].data = out[0].data;
    TRY_DONE(run_row(r, row, &a));
    for (int o = 0; o < n->n_out; o++) {
        if (!n->out[o])
            continue;
        if (!guarded_intact(&fresh[o]))
            st = fail(ST_INTERNAL, "node '%s' (%s) in place over input %d: wrote outside output %d", n->name, row->name, i,
                      o);
        else if (memcmp(fresh[o].data, r->at[n->out[o]].data, fresh[o].bytes) != 0)
            st = fail(ST_INTERNAL, "node '%s' (%s) in place over input %d: output %d differs", n->name, row->name, i, o);
    }
done:
    for (int o = 0; o < n->n_out; o++)
        guarded_free(&fresh[o]);
    return st;
}

static status check_all_in_place(op_run *r, const node *n, const kernel_row *row)
{
    if (!(op_of(n->op)->flags & OP_INPLACE) || n->n_out < 1 || !n->out[0])
        return ST_OK;
    const value *y = &r->g->value[n->out[0]];
    for (int i = 0; i < n->n_in; i++) {
        const value *x = &r->g->value[n->in[i]];
        int reads = 0;
        if (is_packed(r, n, i))
            continue;
        for (int j = 0; j < n->n_in; j++)
            reads += n->in[j] == n->in[i];
        if (n->in[i] && reads == 1 && x->type == y->type && shape_equal(&x->sh, &y->sh) && x->block == y->block && x->narrow == y->narrow)
            TRY(check_in_place(r, n, row, i));
    }
    return ST_OK;
}

/* Once more without what was prepared, every output elsewhere; the same bits are due. */
static status check_unprepared(op_run *r, const node *n, const kernel_row *row)
{
    kernel_tensor in[OPERANDS], out[OPERANDS];
    guarded fresh[OPERANDS] = {{0}};
    kernel_args a;
    status st = ST_OK;
    operands(r, n, in, out, &a);
    if (!a.prepared)
        return ST_OK;
    a.prepared = NULL;
    for (int i = 0; i < n->n_in; i++)
        in[i].data = r->at[n->in[i]].data;
    for (int o = 0; o < n->n_out; o++) {
        TRY_DONE(guarded_make(&fresh[o], r->at[n->out[o]].bytes));
        if (n->out[o])
            out[o].data = fresh[o].data;
    }
    TRY_DONE(run_row(r, row, &a));
    for (int o = 0; o < n->n_out; o++)
        if (n->out[o] && memcmp(fresh[o].data, r->at[n->out[o]].data, fresh[o].bytes) != 0)
            st = fail(ST_INTERNAL, "node '%s' (%s): output %d differs without what was prepared", n->name, row->name, o);
done:
    for (int o = 0; o < n->n_out; o++)
        guarded_free(&fresh[o]);
    return st;
}

static status run_checked(op_run *r, const node *n, const kernel_row *row, kernel_args *a)
{
    guarded before[OPERANDS] = {{0}};
    status st = ST_OK;
    for (int i = 0; i < n->n_in; i++) {
        TRY_DONE(guarded_make(&before[i], r->at[n->in[i]].bytes));
        if (n->in[i])
            memcpy(before[i].data, r->at[n->in[i]].data, before[i].bytes);
    }
    TRY_DONE(run_row(r, row, a));
    for (int i = 0; i < n->n_in && st == ST_OK; i++) {
        bool may_write = op_writes(op_of(n->op), i);
        if (!guarded_intact(&r->at[n->in[i]]))
            st = fail(ST_INTERNAL, "node '%s' (%s): wrote outside input %d", n->name, row->name, i);
        else if (n->in[i] && !may_write && memcmp(before[i].data, r->at[n->in[i]].data, before[i].bytes) != 0)
            st = fail(ST_INTERNAL, "node '%s' (%s): changed input %d", n->name, row->name, i);
    }
    for (int o = 0; o < n->n_out && st == ST_OK; o++)
        if (!guarded_intact(&r->at[n->out[o]]))
            st = fail(ST_INTERNAL, "node '%s' (%s): wrote outside output %d", n->name, row->name, o);
    if (st == ST_OK && !guarded_intact(&r->work))
        st = fail(ST_INTERNAL, "node '%s' (%s): wrote outside its workspace", n->name, row->name);
    if (st == ST_OK)
        st = check_all_in_place(r, n, row);
    if (st == ST_OK)
        st = check_unprepared(r, n, row);
done:
    for (int i = 0; i < n->n_in; i++)
        guarded_free(&before[i]);
    return st;
}

status op_run_nodes(op_run *r, size_t end, bool checked)
{
    kernel_tensor in[OPERANDS], out[OPERANDS];
    kernel_args a;
    for (size_t k = 1; k < end; k++) {
        const node *n = &r->g->node[k];
        if (!r->row[k]) {
            memcpy(r->at[n->out[0]].data, r->at[n->in[0]].data, r->at[n->out[0]].bytes);
            continue;
        }
        operands(r, n, in, out, &a);
        for (int o = 0; checked && o < n->n_out; o++)
            if (n->out[o])
                fill_garbage(out[o].data, r->at[n->out[o]].bytes);
        if (checked)
            TRY(run_checked(r, n, r->row[k], &a));
        else
            TRY(run_row(r, r->row[k], &a));
    }
    return ST_OK;
}
