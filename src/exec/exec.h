/* exec.h - a graph made ready to run: plan, memory, kernels.
 *
 * exec_open plans once: which kernel runs every node, where every value lies. After it nothing is allocated. Parameters
 * and states live in a store that several executors share by name (training graph, evaluation graph). */
#ifndef DISTILL_EXEC_EXEC_H
#define DISTILL_EXEC_EXEC_H

#include "exec/backend.h"
#include "graph/graph.h"

/* ---- store: persistent tensors by name ---- */

typedef struct store_entry {
    tensor t;     /* the host's copy; on a remote backend as store_pull left it */
    void *device; /* where kernels have it; NULL: they use t.data */
    value_kind kind; /* VALUE_PARAM or VALUE_STATE */
    uint32_t flags;  /* of the value */
} store_entry;
typedef struct store {
    store_entry *at;
    size_t n, cap;
    backend *remote;                /* whose memory `device` is; NULL: there is none. Must outlive the store */
    bool device_newer, host_newer;  /* than the other copy */
    uint64_t written;               /* how often something may have changed parameters on the device (keep_copies.c) */
} store;
/* Makes the host's copies what they are on the device. To be called before they are read; without a remote backend it does
 * nothing. */
MUST_USE status store_pull(store *s);
/* To be called after the host's copies were written: the next run brings them to the device. */
void store_changed(store *s);
/* Adds what the graph's PARAM and STATE values need and the store lacks, with their start data. A name that is there
 * already must have the same type and shape (ST_INTERNAL otherwise) and keeps its contents. */
MUST_USE status store_add_graph(store *s, const graph *g);
/* Every PARAM and STATE value of g becomes a constant with the store's present contents (export, frozen evaluation). */
MUST_USE status store_bake(store *s, graph *g);
store_entry *store_find(const store *s, const char *name); /* NULL: none */
size_t store_bytes(const store *s);
void store_free(store *s);

/* ---- plan ---- */

typedef struct recomputation { /* what is computed a second time to stay within a memory limit (recompute.c) */
    size_t nodes;
    double macs;  /* multiply-accumulates of them */
    size_t saved; /* bytes of activations */
} recomputation;

typedef struct plan {
    size_t *offset;                /* [n_value] into the activation buffer, SIZE_MAX: not there (constant, persistent, unused) */
    value_id *root;                /* [n_value] whose storage it shares (itself, or what it views or overwrites) */
    const kernel_row **kernel;     /* [n_node]; NULL: no kernel runs (views) */
    size_t *prepared;              /* [n_node] offset of what the kernel made of constant operands; SIZE_MAX: nothing */
    size_t activations, workspace; /* bytes */
    size_t prepared_bytes;
    recomputation again;           /* exec_open; zeros: nothing is */
    size_t persistent;             /* bytes of parameters and states, copies included */
    size_t copies;                 /* bytes of narrow copies of parameters, which the executor keeps */
    size_t constants;              /* bytes of those that a kernel reads as they are */
} plan;
MUST_USE status plan_make(const graph *g, const backend *b, plan **out);
void plan_free(plan *p);
double plan_node_bytes(const graph *g, const node *n); /* of its operands: what it has to read and write at least */
/* Every node: kernel, result, bytes that it reads and writes, multiply-accumulates, estimated cycles of one core (kernels
 * that choose by cost) and, with `seconds` [n_node], its time and rate; totals. */
void plan_print(const plan *p, const graph *g, const double *seconds, text *out);

/* ---- executor ---- */

typedef struct exec exec;
/* Borrows g, b and s for its life (s NULL: only for graphs without parameters and states, or with their start data, which
 * is then copied). Adds missing store entries; after that nobody looks at the start data in g any more. memory_limit 0:
 * none; a plan that needs more recomputes activations, with the same results, until it fits; ST_OOM with the table of what is
 * needed where it cannot. */
MUST_USE status exec_open(const graph *g, backend *b, store *s, size_t memory_limit, exec **out);
/* The same for a graph without parameters and states, of which nothing else is to be run: constants that no kernel reads as
 * they are any more (they were packed, or folded into others) lose their data in g. */
MUST_USE status exec_open_frozen(graph *g, backend *b, size_t memory_limit, exec **out);
void exec_close(exec *e);
/* Where the host has an input (to be filled before exec_run), an output (to be read after it, valid until the next run) or a
 * persistent value of g (store_pull, store_changed). Other values are not kept, or lie otherwise than g says; NULL where a
 * device has them alone. */
void *exec_data(const exec *e, value_id v);
/* Runs the nodes of one phase. No allocation after the first time. Fails on a device only; then nothing of the device is to
 * be trusted any more. */
MUST_USE status exec_run(exec *e, phase when);
/* Copies any value of the graph that is kept, between phases, from and to where it lies (parts of it: `bytes` from its
 * begin): gradients, states. */
MUST_USE status exec_get(const exec *e, value_id v, void *to, size_t bytes);
MUST_USE status exec_put(exec *e, value_id v, const void *from, size_t bytes);

/* ---- several runs as one, on a backend with memory of its own ---- */

typedef struct exec_part {
    exec *e;
    phase when;
    size_t host_bytes; /* outputs of more bytes stay on the device (exec_get) */
    bool beside; /* recorded as a branch beside the begin of the next part: its nodes before the first that takes something of this one */
} exec_part;
/* Value `out` (an input or output) of part `from` becomes input `in` of the later part `to` without passing the host, which
 * neither gives nor gets it. */
typedef struct exec_link {
    size_t from, to;
    value_id out, in;
} exec_link;
typedef struct exec_chain exec_chain;
/* Runs of at most 4 executors of one backend, one after the other, that are launched together and waited for once; results are
 * those of exec_run part by part. Borrows the executors. *out NULL: the backend has no memory of its own, exec_run serves. */
MUST_USE status exec_chain_open(const exec_part *part, size_t n, const exec_link *link, size_t n_link, exec_chain **out);
MUST_USE status exec_chain_run(exec_chain *c);
void exec_chain_close(exec_chain *c); /* before its executors */
/* Kernels that the recorded program of a phase or chain launches (exec_run and exec_chain_run record the second time); 0: there is
 * none yet, or the backend has no memory of its own. */
size_t exec_kernels(const exec *e, phase when);
size_t exec_chain_kernels(const exec_chain *c);

/* ---- runs of a chain ahead of the host (ring.c) ----
 *
 *     exec_chain_begin; inputs through exec_data; exec_chain_launch      ... of a later run, while earlier ones are under way
 *     exec_chain_finish; outputs through exec_data; exec_chain_release   ... of the oldest run
 *
 * Every run has places of its own on the host for small inputs and outputs. Large inputs have two, from which copies to the device go
 * on beside the runs: those of run k + 1 while run k computes. Between begin and launch, and finish and release, exec_data gives
 * the places of that run; nothing else may run meanwhile. Results are those of exec_chain_run. */

/* Room for n runs under way. ST_OOM: there is none; the chain is as before. */
MUST_USE status exec_chain_open_ring(exec_chain *c, size_t n);
size_t exec_chain_under_way(const exec_chain *c);
MUST_USE status exec_chain_begin(exec_chain *c); /* fewer than n are under way */
MUST_USE status exec_chain_launch(exec_chain *c);
MUST_USE status exec_chain_finish(exec_chain *c); /* waits; one at least is under way */
void exec_chain_release(exec_chain *c);

const plan *exec_plan(const exec *e);
const graph *exec_graph(const exec *e); /* what runs: g after the backend's passes; ids of g's values are the same */
/* Seconds spent in every node since exec_open when timing is on (inspect --time); NULL when off. */
void exec_set_timing(exec *e, bool on);
const double *exec_timing(const exec *e);
/* Tells `seen` of every node that ran: its place in exec_graph and when (clock_seconds). NULL: nobody. */
typedef void (*exec_watcher)(void *ctx, node_id n, double begin, double end);
void exec_watch(exec *e, exec_watcher seen, void *ctx);

/* ---- constant folding (fold.c) ---- */

/* Runs one node of g, whose inputs all are constants, with the reference kernels and makes its outputs constants. */
MUST_USE status exec_fold_node(graph *g, node_id n);
/* Folds every node whose inputs are constants and whose outputs are at most limit bytes. */
MUST_USE status pass_fold_constants(graph *g, size_t limit);

#endif
