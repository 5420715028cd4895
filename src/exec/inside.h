/* inside.h - the executor's own structure, for exec.c and remote.c. */
#ifndef DISTILL_EXEC_INSIDE_H
#define DISTILL_EXEC_INSIDE_H

#include "exec/internal.h"

typedef struct step { /* one node, ready to run */
    void (*run)(const kernel_args *a);
    kernel_args args;
    phase when;
    node_id n;
} step;

/* What an executor has besides on a backend with memory of its own. Inputs and outputs lie side by side there (`box`), and in
 * the same order on the host (`mirror`), so that few copies bring them. */
typedef struct remote_part {
    char *constants, *box; /* on the device */
    char *mirror;          /* on the host */
    size_t constant_bytes, box_bytes;
    void **host;           /* [n_value] where the host has it; NULL: nowhere */
    void *program[PHASE_UPDATE + 1];
    size_t kernels[PHASE_UPDATE + 1]; /* of the programs */
    bool ran[PHASE_UPDATE + 1]; /* once, kernel by kernel */
    bool mutates; /* some node writes into the store */
    struct kept_copies *copies; /* NULL: there are none */
} remote_part;

struct exec {
    graph *g; /* the caller's as the backend runs it */
    backend *b;
    plan *p;
    store own; /* when the caller gave no store */
    store *s;  /* the one in use */
    char *activations, *workspace, *prepared;
    char *kept; /* narrow copies of parameters (keep_copies.c) */
    remote_part *far; /* NULL: the host sees where values lie */
    step *steps;
    size_t n_step;
    kernel_tensor *operands;
    void **data; /* [n_value] */
    double *seconds;
    bool timing;
    exec_watcher seen; /* NULL: nobody watches */
    void *seen_ctx;
};

#define CHAIN_PARTS 4

struct chain_ring;
struct exec_chain {
    exec_part part[CHAIN_PARTS];
    exec_link *link;
    size_t n, n_link;
    void *program;
    size_t kernels; /* that the program launches */
    bool ran;
    struct chain_ring *ring; /* NULL: every run is waited for */
};

/* remote.c, for ring.c: whether the host gives (up) or gets value v in part i; its kernels and what links carry, without the host's
 * copies; what has to be done before a part runs. */
bool chain_moves(const exec_chain *c, size_t i, value_id v, bool up);
MUST_USE status chain_put_bare(const exec_chain *c, bool recording);
MUST_USE status chain_begin_run(const exec_chain *c, bool *watched);
void ring_close(exec_chain *c);

/* remote.c: what runs where the backend has memory of its own. Without one remote_open does nothing. */
MUST_USE status remote_open(exec *e);
void remote_close(exec *e);
MUST_USE status remote_run(exec *e, phase when);

/* keep_copies.c: finds how copies are made; makes them anew where something else has written parameters since, and counts what the
 * run will write. Outside of recordings. */
MUST_USE status copies_open(exec *e);
void copies_close(exec *e);
MUST_USE status copies_begin_run(exec *e);

#endif
