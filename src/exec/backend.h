/* backend.h - what the executor asks of a device. The list of backends is in backend.c, the one file that knows which
 * ones were built in. */
#ifndef DISTILL_EXEC_BACKEND_H
#define DISTILL_EXEC_BACKEND_H

#include "kernels/kernel.h"

#define BLOCK_ALL INT32_MAX

/* Whether nodes that have kernels for blocked layout (kernel.h) use them. */
typedef enum layout_choice {
    LAYOUT_AUTO,   /* where it pays */
    LAYOUT_PLAIN,  /* nowhere */
    LAYOUT_BLOCKED, /* wherever a kernel takes it (tests) */
    LAYOUT_NARROW   /* nowhere, but narrow wherever a kernel takes that (tests) */
} layout_choice;

typedef struct backend_options {
    int threads;     /* 0: all cores this process may use */
    isa max_isa;     /* ISA_REF: reference kernels only; ISA_AVX512: the best the machine has */
    isa min_isa;     /* a processor that lacks it is ST_UNAVAILABLE; ISA_REF: any will do */
    const char *method; /* rows of this method first ("reference": no row that has a method); NULL: the best row */
    layout_choice layout;
    bool deterministic, tf32; /* of a CUDA device: exec.deterministic, exec.tf32 */
    bool measure;             /* likewise: which of a library's engines is fastest (exec.cudnn_plans), unless deterministic */
    const char *cache;        /* folder where what was measured is kept, "": the user's; NULL: nowhere */
} backend_options;

typedef struct backend backend;

/* Of a recording: calls go to a branch beside the main line, which follows what was recorded so far; back to the main line; what
 * comes from now on waits for the branch. One branch at a time; it ends before the recording does. */
typedef enum branch_turn { BRANCH_BEGIN, BRANCH_LEAVE, BRANCH_JOIN } branch_turn;
typedef enum copy_way { COPY_TO_DEVICE, COPY_TO_HOST, COPY_ON_DEVICE } copy_way;
/* A device with memory of its own. Kernels and copies happen in the order of the calls, later than these; `wait` waits for
 * them and is where their failures are heard of. Between record and recorded nothing happens: what is called becomes a
 * program that replay runs, with the same addresses, as one call. */
typedef struct backend_remote {
    status (*alloc_host)(backend *b, size_t bytes, void **out); /* zeroed host memory that copies are fast from */
    void (*free_host)(backend *b, void *p);
    status (*copy)(backend *b, void *to, const void *from, size_t bytes, copy_way way);
    status (*wait)(backend *b);
    status (*record)(backend *b);
    /* Ends what record began, also after failure (then *program is NULL). *kernels: how many the program launches. */
    status (*recorded)(backend *b, void **program, size_t *kernels);
    status (*branch)(backend *b, branch_turn turn);
    status (*replay)(backend *b, void *program);
    void (*forget)(backend *b, void *program); /* NULL allowed */
    status (*memory)(backend *b, size_t *available, size_t *all);
    /* A mark is set when what was called before it has happened. `beside`: not in the order of all calls, but in that of a second
     * one, of copies to the device alone, which goes on at the same time. */
    status (*make_mark)(backend *b, void **out);
    void (*free_mark)(backend *b, void *mark); /* NULL allowed */
    status (*set_mark)(backend *b, void *mark, bool beside);
    status (*wait_mark)(backend *b, void *mark); /* the host waits, and hears of failures as in `wait` */
    status (*after_mark)(backend *b, void *mark, bool beside); /* what is called later happens after the mark */
    status (*copy_beside)(backend *b, void *to, const void *from, size_t bytes);
} backend_remote;

struct backend {
    const char *name;
    int threads;
    isa level; /* the best instruction set in use */
    int32_t block; /* channels in a block of blocked layout; BLOCK_ALL: all of a tensor (channels last); 0: there is none */
    dtype narrow;  /* float32 operands lie in this type where they are blocked, and where rows of plain ones take it
                      (backend_narrow); DTYPE_NONE: as float32 */
    layout_choice layout;
    /* The row that runs a node on these operands (data pointers may be NULL), or NULL when there is none. */
    const kernel_row *(*find)(const backend *b, op_id op, const kernel_args *a);
    /* The best row with blocked operands that takes plain shapes `a`; sets the blocks in `a` as the row wants them. NULL:
     * there is none, `a` stays plain. */
    const kernel_row *(*find_blocked)(const backend *b, op_id op, kernel_args *a);
    /* The best row with plain operands in the narrow type (kernel_row.narrow_in, narrow_out) that takes float32 operands `a`,
     * which it leaves as they are; NULL: there is none. NULL itself where there are no such rows. */
    const kernel_row *(*find_narrow)(const backend *b, op_id op, kernel_args *a);
    status (*alloc)(backend *b, size_t bytes, void **out); /* zeroed, 64-byte aligned; on a remote one device memory */
    void (*free)(backend *b, void *p, size_t bytes);
    /* Set when the backend has memory of its own, that only its kernels reach: what the executor needs to bring values
     * there and back. NULL: values lie where the host sees them. */
    const backend_remote *remote;
    bool records_first; /* tests: also what runs for the first time is recorded; else libraries may then still prepare themselves */
    bool untimed;       /* tests: it stands for a device, whose times are not known here */
    size_t taken; /* bytes of that memory that were given out and not given back */
    size_t most_taken; /* the most that this ever was */
    struct cuda_queue *queue; /* given to its kernels; NULL on the CPU */
    status (*set_narrow)(backend *b, dtype t); /* NULL: float32 only */
    void (*identify)(const backend *b, text *out); /* what bits of results depend on: the processor, not the threads */
    void (*describe)(const backend *b, text *out); /* "cpu: AMD ..., AVX-512, 2 threads" */
    void (*close)(backend *b);
};

/* "cpu", "cuda" or "cuda:N"; "auto": a CUDA device that can be used, else the CPU (where there is a driver the log says why).
 * ST_UNAVAILABLE says what is missing. */
MUST_USE status backend_open(const char *device, const backend_options *o, backend **out);
void backend_close(backend *b);
/* What there is besides the CPU, or why it cannot be used and what to do: `tell` for everything that was looked at. */
typedef void (*backend_teller)(void *ctx, const char *name, bool good, const char *what);
void backend_survey(backend_teller tell, void *ctx);
/* Graphs that are opened from now on compute in float16 or bfloat16 (DTYPE_NONE: float32) where the backend has kernels
 * for that: images between them lie in it, channels last, and what lies between linear layers in its own order; sums, statistics, losses and parameters stay float32.
 * ST_UNAVAILABLE where the backend has no such kernels. */
MUST_USE status backend_narrow(backend *b, dtype t);
/* The block of a blocked tensor with so many channels. */
static inline int32_t backend_block(const backend *b, int64_t channels)
{
    return b->block == BLOCK_ALL ? (int32_t)channels : b->block;
}
bool backend_has_bf16(const backend *b); /* fast matrix products of bfloat16 operands */
bool backend_has_fp8(const backend *b);  /* the same of numbers of 8 bits (E4M3): CUDA devices of sm_89 and later */

#endif
