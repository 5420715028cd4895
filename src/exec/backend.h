/* backend.h - what the executor asks of a device. The list of backends is in backend.c, the one file that knows which
 * ones were built in. */
#ifndef DISTILL_EXEC_BACKEND_H
#define DISTILL_EXEC_BACKEND_H

#include "kernels/kernel.h"

/* Whether nodes that have kernels for blocked layout (kernel.h) use them. */
typedef enum layout_choice {
    LAYOUT_AUTO,   /* where it pays */
    LAYOUT_PLAIN,  /* nowhere */
    LAYOUT_BLOCKED /* wherever a kernel takes it (tests) */
} layout_choice;

typedef struct backend_options {
    int threads;     /* 0: all cores this process may use */
    isa max_isa;     /* ISA_REF: reference kernels only; ISA_AVX512: the best the machine has */
    isa min_isa;     /* a processor that lacks it is ST_UNAVAILABLE; ISA_REF: any will do */
    const char *method; /* rows of this method first ("reference": no row that has a method); NULL: the best row */
    layout_choice layout;
} backend_options;

typedef struct backend backend;
struct backend {
    const char *name;
    int threads;
    isa level; /* the best instruction set in use */
    int32_t block; /* channels in a block of blocked layout; 0: there is none */
    layout_choice layout;
    /* The row that runs a node on these operands (data pointers may be NULL), or NULL when there is none. */
    const kernel_row *(*find)(const backend *b, op_id op, const kernel_args *a);
    /* The best row with blocked operands that takes plain shapes `a`; sets the blocks in `a` as the row wants them. NULL:
     * there is none, `a` stays plain. */
    const kernel_row *(*find_blocked)(const backend *b, op_id op, kernel_args *a);
    status (*alloc)(backend *b, size_t bytes, void **out); /* zeroed, 64-byte aligned */
    void (*free)(backend *b, void *p, size_t bytes);
    void (*identify)(const backend *b, text *out); /* what bits of results depend on: the processor, not the threads */
    void (*describe)(const backend *b, text *out); /* "cpu: AMD ..., AVX-512, 2 threads" */
    void (*close)(backend *b);
};

MUST_USE status backend_open(const char *device, const backend_options *o, backend **out); /* "auto", "cpu" */
void backend_close(backend *b);
bool backend_has_bf16(const backend *b); /* fast matrix products of bfloat16 operands */

#endif
