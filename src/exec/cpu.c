/* cpu.c - the CPU backend: finds the machine's instruction set, owns the kernel tables.
 *
 * OpenBLAS runs single-threaded; our own loops split the work into fixed blocks, so results do not depend on the number
 * of threads. */
#include "exec/internal.h"
#include "kernels/cpu/tables.h"

#include <cblas.h>
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define DECLARE_REF(name)  extern const kernel_row cpu_##name##_ref_f32[], cpu_##name##_ref_f64[];
#define DECLARE_ONCE(name) extern const kernel_row cpu_##name[];
#if defined(__x86_64__)
#define DECLARE_SIMD(name) extern const kernel_row cpu_##name##_base[], cpu_##name##_avx2[], cpu_##name##_avx512[];
#define LIST_SIMD(name)    cpu_##name##_avx512, cpu_##name##_avx2, cpu_##name##_base,
#else
#define DECLARE_SIMD(name) extern const kernel_row cpu_##name##_base[];
#define LIST_SIMD(name)    cpu_##name##_base,
#endif
#define LIST_REF(name)  cpu_##name##_ref_f32, cpu_##name##_ref_f64,
#define LIST_ONCE(name) cpu_##name,

CPU_REF_TABLES(DECLARE_REF)
CPU_SIMD_TABLES(DECLARE_SIMD)
CPU_ONCE_TABLES(DECLARE_ONCE)

static const kernel_row *const tables[] = {CPU_SIMD_TABLES(LIST_SIMD) CPU_REF_TABLES(LIST_REF) CPU_ONCE_TABLES(LIST_ONCE) NULL};

typedef struct cpu_backend {
    backend base;
    const char *method; /* backend_options.method */
    const kernel_row *row[OP_COUNT][48]; /* candidates of every operator, best first, NULL-terminated */
} cpu_backend;

static const kernel_row *cpu_find(const backend *b, op_id op, const kernel_args *a)
{
    const cpu_backend *c = (const cpu_backend *)b;
    dtype t = DTYPE_NONE;
    for (int i = 0; i < a->n_in && t == DTYPE_NONE; i++)
        t = a->in[i].type;
    for (int i = 0; i < a->n_out && t == DTYPE_NONE; i++)
        t = a->out[i].type;
    for (const kernel_row *const *r = c->row[op]; *r; r++)
        if (c->method && (*r)->method && strcmp(c->method, (*r)->method) != 0)
            continue;
        else if (((*r)->type == t || (*r)->type == DTYPE_NONE) && (!(*r)->takes || (*r)->takes(a)))
            return *r;
    return NULL;
}

static status cpu_alloc(backend *b, size_t bytes, void **out)
{
    (void)b;
    return mem_map(out, bytes);
}

static void cpu_free(backend *b, void *p, size_t bytes)
{
    (void)b;
    mem_unmap(p, bytes);
}

static void cpu_close(backend *b)
{
    mem_free(b);
}

static isa best_isa(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return ISA_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return ISA_AVX2;
#endif
    return ISA_BASE;
}

/* The brand string of the processor; "unknown CPU" where there is none. */
static void cpu_model(char *buf, size_t size)
{
    snprintf(buf, size, "unknown CPU");
#if defined(__x86_64__)
    unsigned regs[12];
    for (unsigned i = 0; i < 3; i++)
        __asm__ volatile("cpuid"
                         : "=a"(regs[i * 4]), "=b"(regs[i * 4 + 1]), "=c"(regs[i * 4 + 2]), "=d"(regs[i * 4 + 3])
                         : "a"(0x80000002u + i), "c"(0));
    char brand[49] = {0};
    memcpy(brand, regs, 48);
    const char *start = brand;
    while (*start == ' ')
        start++;
    if (*start)
        snprintf(buf, size, "%s", start);
#endif
}

static void cpu_describe(const backend *b, text *out)
{
    static const char *const levels[] = {"reference kernels", "baseline", "AVX2", "AVX-512"};
    char model[80];
    cpu_model(model, sizeof model);
    text_printf(out, "cpu: %s, %s, %d thread%s, %s", model, levels[b->level], b->threads, b->threads == 1 ? "" : "s",
                openblas_get_config());
}

static int usable_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? n : 1;
}

status cpu_open(const backend_options *o, backend **out)
{
    cpu_backend *c;
    TRY(mem_alloc(&c, 1, sizeof *c));
    isa best = best_isa();
    c->method = o->method;
    c->base = (backend){.name = "cpu",
                        .threads = o->threads > 0 ? o->threads : usable_cores(),
                        .level = o->max_isa < best ? o->max_isa : best,
                        .find = cpu_find,
                        .alloc = cpu_alloc,
                        .free = cpu_free,
                        .describe = cpu_describe,
                        .close = cpu_close};
    openblas_set_num_threads(1);
    for (int level = (int)c->base.level; level >= ISA_REF; level--)
        for (const kernel_row *const *t = tables; *t; t++)
            for (const kernel_row *r = *t; r->op != OP_NONE; r++) {
                size_t n = 0, room = sizeof c->row[0] / sizeof *c->row[0];
                while (c->row[r->op][n])
                    n++;
                if ((int)r->level != level || n + 1 >= room)
                    continue;
                c->row[r->op][n] = r;
            }
    *out = &c->base;
    return ST_OK;
}
