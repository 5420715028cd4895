/* bench_kernels.c - speed of the convolutions and matrix products, in GF/s, for every instruction set this machine has,
 * beside the classic way: im2col and OpenBLAS.
 *
 *     ninja -C BUILD bench_kernels && BUILD/bench_kernels [threads [name-part]]
 *
 * The best of several runs; a result that differs from the classic way's is marked WRONG. */
#include "exec/backend.h"
#include "kernels/cpu/spatial.h"

#include <cblas.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct conv_case {
    const char *name;
    int64_t n, c, size, m, k, stride, group;
} conv_case;

static const conv_case convs[] = {
    {"teacher stage 1", 128, 16, 28, 16, 3, 1, 1},
    {"teacher stage 2", 128, 48, 14, 48, 3, 1, 1},
    {"teacher stage 3", 128, 96, 7, 96, 3, 1, 1},
    {"teacher entry", 128, 1, 28, 16, 3, 1, 1},
    {"teacher 16-48 stride 2", 128, 16, 28, 48, 3, 2, 1},
    {"teacher 48-96 stride 2", 128, 48, 14, 96, 3, 2, 1},
    {"teacher shortcut", 128, 16, 28, 48, 1, 2, 1},
    {"student entry", 128, 1, 28, 16, 3, 2, 1},
    {"student stage 1", 128, 16, 14, 16, 3, 1, 1},
    {"student 16-24 stride 2", 128, 16, 14, 24, 3, 2, 1},
    {"student shortcut", 128, 16, 14, 24, 1, 2, 1},
    {"student stage 2", 128, 24, 7, 24, 3, 1, 1},
    {"student 24-32 stride 2", 128, 24, 7, 32, 3, 2, 1},
    {"student stage 3", 128, 32, 4, 32, 3, 1, 1},
    {"depthwise 3x3", 128, 96, 14, 96, 3, 1, 96},
    {"depthwise 3x3 stride 2", 128, 96, 14, 96, 3, 2, 96},
    {"depthwise 5x5", 128, 192, 7, 192, 5, 1, 192},
    {"pointwise", 128, 96, 14, 24, 1, 1, 1},
    {"wide 3x3", 8, 256, 14, 256, 3, 1, 1},
    {"image entry 7x7", 4, 3, 224, 64, 7, 2, 1},
    {"groups of four", 16, 128, 28, 128, 3, 1, 32},
};

typedef struct gemm_case {
    const char *name;
    int64_t m, n, k;
    bool ta, tb;
    int64_t batch; /* 0: Gemm; else MatMul of so many pairs */
} gemm_case;

static const gemm_case gemms[] = {
    {"classifier", 128, 10, 32, false, true},
    {"classifier dW", 10, 32, 128, true, false},
    {"classifier dX", 128, 32, 10, false, false},
    {"hidden layer", 128, 512, 784, false, true},
    {"hidden layer dW", 512, 784, 128, true, false},
    {"hidden layer dX", 128, 784, 512, false, false},
    {"square", 512, 512, 512, false, false},
    {"tokens", 1024, 768, 192, false, true},
    {"bert projection", 1024, 768, 768, false, false},
    {"bert projection dW", 768, 768, 1024, true, false},
    {"bert projection dX", 1024, 768, 768, false, true},
    {"bert up", 1024, 3072, 768, false, false},
    {"bert up dW", 768, 3072, 1024, true, false},
    {"bert up dX", 1024, 768, 3072, false, true},
    {"bert down", 1024, 768, 3072, false, false},
    {"bert attention scores", 128, 128, 64, false, true, 96},
    {"bert attention mix", 128, 64, 128, false, false, 96},
    {"bert attention dV", 128, 64, 128, true, false, 96},
    {"mlp 64-256", 128, 256, 64, false, true},
    {"mlp 256-256", 128, 256, 256, false, true},
    {"mlp 256-10", 128, 10, 256, false, true},
    {"mlp 64-32", 128, 32, 64, false, true},
    {"mlp 64-32 dW", 32, 64, 128, true, false},
    {"mlp 32-10", 128, 10, 32, false, true},
    {"mlp 32-10 dW", 10, 32, 128, true, false},
    {"mlp 32-10 dX", 128, 32, 10, false, false},
    {"head 512-10", 128, 10, 512, false, true},
    {"head 512-10 dW", 10, 512, 128, true, false},
};

/* One thread is timed by its processor time, which others on the machine disturb less. */
static clockid_t the_clock = CLOCK_MONOTONIC;
static double now(void)
{
    struct timespec t;
    clock_gettime(the_clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A failure ends the program: this is a tool for people. */
static void *need(size_t bytes)
{
    void *p;
    if (mem_map(&p, bytes) != ST_OK) {
        fprintf(stderr, "%s\n", status_message());
        exit(ST_OOM);
    }
    return p;
}

static float *numbers(int64_t n, uint32_t seed)
{
    float *p = need((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(int32_t)seed * 0x1p-31f;
    }
    return p;
}

/* Seconds of the fastest of some runs, 0.2 s in all at least. */
typedef void run_fn(void *what);
static double fastest(run_fn *fn, void *what)
{
    double best = 1e9, begin = now();
    fn(what);
    for (int i = 0; i < 5 || now() - begin < 0.2; i++) {
        double t = now();
        fn(what);
        t = now() - t;
        best = t < best ? t : best;
    }
    return best;
}

/* ---- kernels of a backend ---- */

typedef struct kernel_run {
    const kernel_row *row;
    kernel_args args;
} kernel_run;
static void run_kernel(void *what)
{
    kernel_run *r = what;
    r->row->run(&r->args);
}

static const char *const level_names[] = {"ref", "base", "avx2", "avx512"};

/* Times every level and prints; `want` (may be NULL): what the classic way gave. */
static void time_levels(backend *const *levels, op_id op, kernel_args a, double flops, const float *want)
{
    for (int level = ISA_BASE; level <= ISA_AVX512; level++) {
        backend *b = levels[level];
        if (!b)
            continue;
        kernel_run r = {.args = a};
        r.args.threads = b->threads;
        r.row = b->find(b, op, &r.args);
        if (!r.row)
            continue;
        size_t bytes = r.row->workspace ? r.row->workspace(&r.args) : 0;
        r.args.work = need(bytes + 64);
        r.args.work_size = bytes;
        double t = fastest(run_kernel, &r), worst = 0;
        const float *got = a.out[0].data;
        for (int64_t i = 0; want && i < shape_count(&a.out[0].sh); i++)
            worst = fmax(worst, fabs((double)(got[i] - want[i])) / fmax(1, fabs((double)want[i])));
        printf("  %s %7.1f", level_names[level], flops / t * 1e-9);
        if (worst > 1e-3)
            printf(" (WRONG by %g)", worst);
        mem_unmap(r.args.work, bytes + 64);
    }
}

/* ---- the classic way ---- */

typedef struct classic {
    spatial s;
    op_id op;
    const float *a, *b; /* operands in the order of the operator */
    float *out, *columns, *partial;
    int threads;
} classic;

/* columns[c][tap][window] of one image and group; `back`: adds the columns onto the image instead. */
static void im2col(const spatial *s, int64_t c, float *x, float *columns, bool back)
{
    for (int64_t i = 0; i < c; i++)
        for (int64_t kh = 0; kh < s->kernel[1]; kh++)
            for (int64_t kw = 0; kw < s->kernel[2]; kw++)
                for (int64_t oh = 0; oh < s->out[1]; oh++, columns += s->out[2]) {
                    int64_t ih = oh * s->stride[1] + kh * s->dilation[1] - s->pad[1];
                    range r = windows_of_tap(s, 2, kw);
                    float *row = x + (i * s->in[1] + ih) * s->in[2] + kw * s->dilation[2] - s->pad[2];
                    if (ih < 0 || ih >= s->in[1])
                        r.begin = r.end = 0;
                    if (!back)
                        memset(columns, 0, (size_t)s->out[2] * sizeof *columns);
                    for (int64_t ow = r.begin; ow < r.end; ow++)
                        if (back)
                            row[ow * s->stride[2]] += columns[ow];
                        else
                            columns[ow] = row[ow * s->stride[2]];
                }
}

static void run_classic(void *what)
{
    classic *j = what;
    const spatial *s = &j->s;
    int64_t c = s->channels / s->group, m = s->outputs / s->group, k = c * spatial_taps(s), p = spatial_out(s);
    int64_t in = c * spatial_in(s), weight = m * k;
    if (j->op == OP_CONV_GRAD_WEIGHT)
        memset(j->partial, 0, (size_t)(j->threads * s->group * weight) * sizeof(float));
#pragma omp parallel for num_threads(j->threads) schedule(static)
    for (int64_t i = 0; i < s->n * s->group; i++) {
        int t = omp_get_thread_num();
        int64_t g = i % s->group;
        float *columns = j->columns + t * k * p;
        if (j->op == OP_CONV) {
            im2col(s, c, (float *)(uintptr_t)(j->a + i * in), columns, false);
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)m, (int)p, (int)k, 1, j->b + g * weight, (int)k,
                        columns, (int)p, 0, j->out + i * m * p, (int)p);
        } else if (j->op == OP_CONV_GRAD_DATA) {
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)k, (int)p, (int)m, 1, j->b + g * weight, (int)k,
                        j->a + i * m * p, (int)p, 0, columns, (int)p);
            memset(j->out + i * in, 0, (size_t)in * sizeof(float));
            im2col(s, c, j->out + i * in, columns, true);
        } else {
            im2col(s, c, (float *)(uintptr_t)(j->a + i * in), columns, false);
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)k, (int)p, 1, j->b + i * m * p, (int)p,
                        columns, (int)p, 1, j->partial + (t * s->group + g) * weight, (int)k);
        }
    }
    if (j->op == OP_CONV_GRAD_WEIGHT) {
        memcpy(j->out, j->partial, (size_t)(s->group * weight) * sizeof(float));
        for (int64_t t = 1; t < j->threads; t++)
            for (int64_t i = 0; i < s->group * weight; i++)
                j->out[i] += j->partial[t * s->group * weight + i];
    }
}

typedef struct classic_gemm {
    const gemm_case *c;
    const float *a, *b;
    float *y;
} classic_gemm;
static void run_classic_gemm(void *what)
{
    const classic_gemm *j = what;
    const gemm_case *c = j->c;
    for (int64_t i = 0; i < (c->batch ? c->batch : 1); i++)
        cblas_sgemm(CblasRowMajor, c->ta ? CblasTrans : CblasNoTrans, c->tb ? CblasTrans : CblasNoTrans, (int)c->m,
                    (int)c->n, (int)c->k, 1, j->a + i * c->m * c->k, (int)(c->ta ? c->m : c->k), j->b + i * c->k * c->n,
                    (int)(c->tb ? c->k : c->n), 0, j->y + i * c->m * c->n, (int)c->n);
}

/* ---- cases ---- */

static void bench_conv(backend *const *levels, const conv_case *c, int threads)
{
    int64_t pad = c->k / 2, out = (c->size + 2 * pad - c->k) / c->stride + 1;
    int64_t kernel[] = {c->k, c->k}, strides[] = {c->stride, c->stride}, dilations[] = {1, 1}, pads[] = {pad, pad, pad, pad};
    conv_attrs at = {.kernel_shape = {2, kernel}, .strides = {2, strides}, .dilations = {2, dilations}, .pads = {4, pads},
                     .group = c->group};
    shape x = SHAPE(c->n, c->c, c->size, c->size), y = SHAPE(c->n, c->m, out, out), w = SHAPE(c->m, c->c / c->group, c->k, c->k);
    double flops = 2.0 * (double)shape_count(&w) * (double)(c->n * out * out);
    const struct {
        op_id op;
        shape a, b, out;
        const char *name;
    } way[] = {{OP_CONV, x, w, y, "forward"}, {OP_CONV_GRAD_DATA, y, w, x, "data"}, {OP_CONV_GRAD_WEIGHT, x, y, w, "weight"}};
    for (int d = 0; d < 3; d++) {
        int64_t count = shape_count(&way[d].out), na = shape_count(&way[d].a), nb = shape_count(&way[d].b);
        float *a = numbers(na, 1), *b = numbers(nb, 2), *got = need((size_t)count * sizeof *got);
        classic j = {.s = conv_spatial(&at, &x, &y), .op = way[d].op, .a = a, .b = b, .threads = threads};
        size_t columns = (size_t)(threads * c->c / c->group * c->k * c->k * out * out) * sizeof(float);
        size_t partial = (size_t)(threads * shape_count(&w)) * sizeof(float);
        j.columns = need(columns);
        j.partial = need(partial);
        j.out = need((size_t)count * sizeof(float));
        printf("%-24s %-8s", c->name, way[d].name);
        double t = fastest(run_classic, &j);
        kernel_tensor in[] = {{a, DTYPE_F32, way[d].a}, {b, DTYPE_F32, way[d].b}}, to = {got, DTYPE_F32, way[d].out};
        time_levels(levels, way[d].op, (kernel_args){.in = in, .out = &to, .n_in = 2, .n_out = 1, .attr = &at}, flops, j.out);
        printf("  im2col+blas %7.1f\n", flops / t * 1e-9);
        mem_unmap(j.out, (size_t)count * sizeof(float));
        mem_unmap(j.partial, partial);
        mem_unmap(j.columns, columns);
        mem_unmap(got, (size_t)count * sizeof *got);
        mem_unmap(b, (size_t)nb * sizeof *b);
        mem_unmap(a, (size_t)na * sizeof *a);
    }
}

/* A frozen model's product: B is a constant and prepared once; in bfloat16 where the processor has it. */
static void time_bf16(const backend *b, kernel_args a, bool tb, double flops)
{
    const linear_attrs at = {.alpha = 1, .transB = tb, .precision = PRECISION_BF16};
    kernel_run r = {.args = a};
    if (!b || !backend_has_bf16(b))
        return;
    r.args.attr = &at;
    r.args.threads = b->threads;
    r.row = b->find(b, OP_LINEAR, &r.args);
    size_t bytes = r.row->workspace(&r.args);
    r.args.work = need(bytes + 64);
    kernel_tensor constant[2] = {a.in[0], a.in[1]};
    constant[0].data = NULL;
    kernel_args once = r.args;
    once.in = constant;
    size_t packed = r.row->prepared(&once);
    void *prepared = need(packed);
    r.row->prepare(&once, prepared);
    r.args.prepared = prepared;
    printf("  bf16 %7.1f", flops / fastest(run_kernel, &r) * 1e-9);
    mem_unmap(prepared, packed);
    mem_unmap(r.args.work, bytes + 64);
}

static void bench_gemm(backend *const *levels, const gemm_case *c)
{
    const gemm_attrs at = {.alpha = 1, .beta = 1, .transA = c->ta, .transB = c->tb};
    const matmul_attrs pairs = {.transA = c->ta, .transB = c->tb};
    int64_t batch = c->batch ? c->batch : 1, ar = c->ta ? c->k : c->m, ac = c->ta ? c->m : c->k, br = c->tb ? c->n : c->k,
            bc = c->tb ? c->k : c->n;
    shape as = c->batch ? SHAPE(batch, ar, ac) : SHAPE(ar, ac), bs = c->batch ? SHAPE(batch, br, bc) : SHAPE(br, bc);
    shape ys = c->batch ? SHAPE(batch, c->m, c->n) : SHAPE(c->m, c->n);
    size_t bytes = (size_t)shape_count(&ys) * sizeof(float);
    float *a = numbers(shape_count(&as), 1), *b = numbers(shape_count(&bs), 2), *y = need(bytes), *got = need(bytes);
    classic_gemm j = {c, a, b, y};
    double flops = 2.0 * (double)(batch * c->m * c->n * c->k), t = fastest(run_classic_gemm, &j);
    kernel_tensor in[] = {{a, DTYPE_F32, as}, {b, DTYPE_F32, bs}}, to = {got, DTYPE_F32, ys};
    kernel_args args = {.in = in, .out = &to, .n_in = 2, .n_out = 1, .attr = c->batch ? (const void *)&pairs : &at};
    printf("%-24s %-8s", c->name, "");
    time_levels(levels, c->batch ? OP_MATMUL : OP_GEMM, args, flops, y);
    if (!c->batch && !c->ta)
        time_bf16(levels[ISA_AVX512], args, c->tb, flops);
    printf("  blas (1 thread) %7.1f\n", flops / t * 1e-9);
    mem_unmap(got, bytes);
    mem_unmap(y, bytes);
    mem_unmap(b, (size_t)shape_count(&bs) * sizeof *b);
    mem_unmap(a, (size_t)shape_count(&as) * sizeof *a);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    const char *part = argc > 2 ? argv[2] : "";
    the_clock = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    backend *levels[ISA_AVX512 + 1] = {NULL};
    text about = {0};
    for (int level = ISA_BASE; level <= ISA_AVX512; level++) {
        if (backend_open("cpu", &(backend_options){.threads = threads, .max_isa = (isa)level}, &levels[level]) != ST_OK) {
            fprintf(stderr, "%s\n", status_message());
            return ST_UNAVAILABLE;
        }
        if ((int)levels[level]->level < level) { /* this machine has less */
            backend_close(levels[level]);
            levels[level] = NULL;
        } else {
            about.n = 0;
            levels[level]->describe(levels[level], &about);
        }
    }
    printf("%s; GF/s, best run\n", about.s);
    text_free(&about);
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++)
        if (strstr(convs[i].name, part))
            bench_conv(levels, &convs[i], levels[ISA_BASE]->threads);
    for (size_t i = 0; i < sizeof gemms / sizeof *gemms; i++)
        if (strstr(gemms[i].name, part))
            bench_gemm(levels, &gemms[i]);
    for (int level = ISA_BASE; level <= ISA_AVX512; level++)
        backend_close(levels[level]);
    return 0;
}
