/* cpu.c - the CPU backend: finds the machine's instruction set, owns the kernel tables.
 *
 * Kernels split their work into fixed blocks, so results do not depend on the number of threads. */
#include "exec/internal.h"
#include "kernels/cpu/tables.h"

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

dtype kernel_type(const kernel_args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i].type != DTYPE_NONE)
            return a->in[i].type;
    for (int i = 0; i < a->n_out; i++)
        if (a->out[i].type != DTYPE_NONE)
            return a->out[i].type;
    return DTYPE_NONE;
}

static int32_t block_of(const backend *b, const kernel_tensor *t, uint32_t mask, int i)
{
    return t->type != DTYPE_NONE && i < 32 && mask >> i & 1 ? b->block : 0;
}

static bool lies_as_wanted(const backend *b, const kernel_row *r, const kernel_args *a)
{
    if ((r->blocked_in | r->blocked_out) && r->level != b->level)
        return false;
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i].block != block_of(b, &a->in[i], r->blocked_in, i))
            return false;
    for (int i = 0; i < a->n_out; i++)
        if (a->out[i].block != block_of(b, &a->out[i], r->blocked_out, i))
            return false;
    return true;
}

static void lay_out(const backend *b, const kernel_row *r, kernel_args *a)
{
    for (int i = 0; i < a->n_in; i++)
        a->in[i].block = r ? block_of(b, &a->in[i], r->blocked_in, i) : 0;
    for (int i = 0; i < a->n_out; i++)
        a->out[i].block = r ? block_of(b, &a->out[i], r->blocked_out, i) : 0;
}

/* A blocked operand is [N, C, ...]. */
static bool can_be_blocked(const kernel_row *r, const kernel_args *a)
{
    for (int i = 0; i < a->n_in && i < 32; i++)
        if (r->blocked_in >> i & 1 && a->in[i].type != DTYPE_NONE && a->in[i].sh.rank < 3)
            return false;
    for (int i = 0; i < a->n_out && i < 32; i++)
        if (r->blocked_out >> i & 1 && a->out[i].type != DTYPE_NONE && a->out[i].sh.rank < 3)
            return false;
    return true;
}

static bool has_method(const kernel_row *r, const char *method)
{
    return r->method && strcmp(r->method, method) == 0;
}

/* Whether r is to be preferred to `best`, which stands before it in the table. */
static bool is_better(const cpu_backend *c, const kernel_row *r, double cost, const kernel_row *best, double best_cost)
{
    if (!best)
        return true;
    if (c->method && has_method(r, c->method) != has_method(best, c->method))
        return has_method(r, c->method);
    return r->level == best->level && r->cost && best->cost && cost < best_cost;
}

static const kernel_row *best_row(const backend *b, op_id op, kernel_args *a, bool blocked)
{
    const cpu_backend *c = (const cpu_backend *)b;
    dtype t = kernel_type(a);
    const kernel_row *best = NULL;
    double best_cost = 0;
    bool none = c->method && strcmp(c->method, "reference") == 0;
    for (const kernel_row *const *p = c->row[op]; *p; p++) {
        const kernel_row *r = *p;
        if ((none && r->method) || (r->type != t && r->type != DTYPE_NONE))
            continue;
        if (blocked) {
            if (!(r->blocked_in | r->blocked_out) || r->level != b->level || !can_be_blocked(r, a))
                continue;
            lay_out(b, r, a);
        } else if (!lies_as_wanted(b, r, a)) {
            continue;
        }
        if (r->takes && !r->takes(a))
            continue;
        double cost = r->cost ? r->cost(a) : 0;
        if (is_better(c, r, cost, best, best_cost)) {
            best = r;
            best_cost = cost;
        }
    }
    if (blocked)
        lay_out(b, best, a);
    return best;
}

static const kernel_row *cpu_find(const backend *b, op_id op, const kernel_args *a)
{
    kernel_args copy = *a; /* operands are not written */
    return best_row(b, op, &copy, false);
}

static const kernel_row *cpu_find_blocked(const backend *b, op_id op, kernel_args *a)
{
    const cpu_backend *c = (const cpu_backend *)b;
    const kernel_row *plain = c->method ? best_row(b, op, a, false) : NULL, *r = b->block ? best_row(b, op, a, true) : NULL;
    if (r && r->method && plain && has_method(plain, c->method) && !has_method(r, c->method)) {
        lay_out(b, NULL, a); /* the method that was asked for is to be had for plain tensors only */
        return NULL;
    }
    return r;
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

static const char *const level_names[] = {[ISA_REF] = "reference kernels", [ISA_BASE] = "baseline",
                                          [ISA_AVX2] = "AVX2", [ISA_AVX512] = "AVX-512"};

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
    char model[80];
    cpu_model(model, sizeof model);
    text_printf(out, "cpu: %s, %s, %d thread%s", model, level_names[b->level], b->threads, b->threads == 1 ? "" : "s");
}

static void cpu_identify(const backend *b, text *out)
{
    const char *method = ((const cpu_backend *)(const void *)b)->method;
    char model[80];
    cpu_model(model, sizeof model);
    text_printf(out, "cpu %s level %d block %d layout %d method %s", model, (int)b->level, (int)b->block,
                (int)b->layout, method ? method : "auto");
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
    isa best = best_isa();
    if (o->min_isa > best)
        return fail(ST_UNAVAILABLE, "exec.kernels: this processor has no %s, it has %s; take fast", level_names[o->min_isa],
                    level_names[best]);
    TRY(mem_alloc(&c, 1, sizeof *c));
    c->method = o->method;
    c->base = (backend){.name = "cpu",
                        .threads = o->threads > 0 ? o->threads : usable_cores(),
                        .level = o->max_isa < best ? o->max_isa : best,
                        .find = cpu_find,
                        .find_blocked = cpu_find_blocked,
                        .layout = o->layout,
                        .alloc = cpu_alloc,
                        .free = cpu_free,
                        .identify = cpu_identify,
                        .describe = cpu_describe,
                        .close = cpu_close};
    static const int32_t lanes[] = {[ISA_REF] = 0, [ISA_BASE] = 4, [ISA_AVX2] = 8, [ISA_AVX512] = 16};
    c->base.block = lanes[c->base.level];
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
