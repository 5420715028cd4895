/* bench_layers.c - single convolutions in all three directions, ours beside oneDNN's, one thread.
 *
 *     ninja -C BUILD bench_layers && BUILD/bench_layers [PART [METHOD [constant]]]     layers whose name holds PART; "" all
 *
 * One JSON object a line: layer, direction, GF/s of each (two operations for a multiply-accumulate of the definition, so
 * that Winograd may exceed what the multipliers do), our kernel's name. Ours gets operands as they lie in a blocked
 * region and packs its weights in the time, unless they are to be constant; oneDNN chooses its own layouts, and bringing operands there is not
 * counted. CPU time of the thread, the best of some runs, in turns. */
#include "base/mem.h"
#include "exec/backend.h"
#include "ops/attrs.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef HAVE_DNNL
#include <oneapi/dnnl/dnnl.h>
#endif

typedef struct layer {
    const char *name;
    int64_t n, c, size, m, k; /* size: of each side of the input, pad as large as keeps it at stride 1 */
    int64_t stride, dilation, group;
    int dims; /* 2 or 1 */
} layer;

static const layer layers[] = {
    {"r56 stage 1", 32, 16, 32, 16, 3, 1, 1, 1, 2},
    {"r56 stage 2", 32, 32, 16, 32, 3, 1, 1, 1, 2},
    {"r56 stage 3", 32, 64, 8, 64, 3, 1, 1, 1, 2},
    {"r56 entry", 32, 3, 32, 16, 3, 1, 1, 1, 2},
    {"r56 16-32 stride 2", 32, 16, 32, 32, 3, 2, 1, 1, 2},
    {"r56 32-64 stride 2", 32, 32, 16, 64, 3, 2, 1, 1, 2},
    {"fmnist entry teacher", 128, 1, 28, 32, 3, 1, 1, 1, 2},
    {"fmnist entry student", 128, 1, 28, 8, 3, 1, 1, 1, 2},
    {"fmnist 32-64", 128, 32, 14, 64, 3, 1, 1, 1, 2},
    {"fmnist 8-16", 128, 8, 14, 16, 3, 1, 1, 1, 2},
    {"wrn group 1", 16, 64, 32, 64, 3, 1, 1, 1, 2},
    {"wrn group 2", 16, 128, 16, 128, 3, 1, 1, 1, 2},
    {"wrn group 3", 16, 256, 8, 256, 3, 1, 1, 1, 2},
    {"wrn shortcut", 16, 64, 32, 128, 1, 2, 1, 1, 2},
    {"mbv2 expand 16x16", 64, 16, 16, 96, 1, 1, 1, 1, 2},
    {"mbv2 depthwise 16x16", 64, 96, 16, 96, 3, 1, 1, 96, 2},
    {"mbv2 project 16x16", 64, 96, 16, 16, 1, 1, 1, 1, 2},
    {"mbv2 depthwise stride 2", 64, 96, 16, 96, 3, 2, 1, 96, 2},
    {"mbv2 expand 4x4", 64, 80, 4, 480, 1, 1, 1, 1, 2},
    {"r50 entry 7x7", 4, 3, 224, 64, 7, 2, 1, 1, 2},
    {"r50 stage 1 1x1 in", 4, 256, 56, 64, 1, 1, 1, 1, 2},
    {"r50 stage 1 3x3", 4, 64, 56, 64, 3, 1, 1, 1, 2},
    {"r50 stage 1 1x1 out", 4, 64, 56, 256, 1, 1, 1, 1, 2},
    {"r50 stage 2 3x3 stride 2", 4, 128, 56, 128, 3, 2, 1, 1, 2},
    {"r50 stage 2 3x3", 4, 128, 28, 128, 3, 1, 1, 1, 2},
    {"r50 stage 3 3x3", 4, 256, 14, 256, 3, 1, 1, 1, 2},
    {"r50 stage 3 1x1 out", 4, 256, 14, 1024, 1, 1, 1, 1, 2},
    {"r50 stage 4 3x3", 4, 512, 7, 512, 3, 1, 1, 1, 2},
    {"r50 stage 4 1x1 in", 4, 2048, 7, 512, 1, 1, 1, 1, 2},
    {"r50 shortcut stride 2", 4, 256, 56, 512, 1, 2, 1, 1, 2},
    {"hifigan 256 k3", 2, 256, 256, 256, 3, 1, 1, 1, 1},
    {"hifigan 256 k7 dilated", 2, 256, 256, 256, 7, 1, 3, 1, 1},
    {"hifigan 256 k11 dilated", 2, 256, 256, 256, 11, 1, 5, 1, 1},
    {"hifigan 128 k7", 2, 128, 2048, 128, 7, 1, 1, 1, 1},
    {"hifigan 128 k11 dilated", 2, 128, 2048, 128, 11, 1, 3, 1, 1},
    {"hifigan 64 k3", 2, 64, 4096, 64, 3, 1, 1, 1, 1},
    {"hifigan 64 k7 dilated", 2, 64, 4096, 64, 7, 1, 5, 1, 1},
    {"hifigan 64 short k7", 2, 64, 256, 64, 7, 1, 1, 1, 1},
    {"hifigan 32 k3", 2, 32, 8192, 32, 3, 1, 1, 1, 1},
    {"hifigan 32 k11", 2, 32, 8192, 32, 11, 1, 1, 1, 1},
    {"hifigan 16 k3 dilated", 2, 16, 2048, 16, 3, 1, 3, 1, 1},
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A failure ends the program: this is a tool for people. */
static void *need(size_t bytes)
{
    void *p;
    if (mem_map(&p, bytes + 64) != ST_OK) {
        fprintf(stderr, "%s\n", status_message());
        exit(ST_OOM);
    }
    return p;
}

static void fill(float *p, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(int32_t)seed * 0x1p-31f;
    }
}

/* ---- what is timed ---- */

typedef struct contest {
    void (*run)(void *what);
    void *what;
    double best; /* seconds */
} contest;

static void time_all(contest *c, int n)
{
    double spent = 0;
    for (int i = 0; i < n; i++) {
        c[i].best = 1e9;
        if (c[i].run)
            c[i].run(c[i].what);
    }
    for (int r = 0; r < 4 || (spent < 0.25 && r < 200); r++)
        for (int i = 0; i < n; i++) {
            if (!c[i].run)
                continue;
            double t = now();
            c[i].run(c[i].what);
            t = now() - t;
            spent += t;
            c[i].best = t < c[i].best ? t : c[i].best;
        }
}

/* ---- ours ---- */

typedef struct kernel_run {
    const kernel_row *row;
    kernel_args args;
    size_t bytes[3]; /* of in[0], in[1], out[0] */
    size_t prepared_size;
} kernel_run;

static void run_kernel(void *what)
{
    kernel_run *r = what;
    r->row->run(&r->args);
}

/* Numbers in the channels there are, zeros in those that fill up the block. */
static void fill_tensor(kernel_tensor *t, size_t *bytes, uint32_t seed)
{
    int64_t n = kernel_elements(t), b = t->block, c = t->sh.dim[1];
    *bytes = (size_t)n * sizeof(float);
    float *p = t->data = need(*bytes);
    fill(p, n, seed);
    if (!b || c % b == 0)
        return;
    int64_t blocks = (c + b - 1) / b, inner = n / (t->sh.dim[0] * blocks);
    for (int64_t i = 0; i < n; i++)
        if (i / inner % blocks * b + i % b >= c)
            p[i] = 0;
}

static bool open_kernel(const backend *b, op_id op, bool constant, kernel_run *r)
{
    r->args.threads = b->threads;
    r->row = b->find_blocked ? b->find_blocked(b, op, &r->args) : NULL;
    if (!r->row)
        r->row = b->find(b, op, &r->args);
    if (!r->row)
        return false;
    fill_tensor(&r->args.in[0], &r->bytes[0], 1);
    fill_tensor(&r->args.in[1], &r->bytes[1], 2);
    fill_tensor(&r->args.out[0], &r->bytes[2], 3);
    r->args.work_size = r->row->workspace ? r->row->workspace(&r->args) : 0;
    r->args.work = need(r->args.work_size);
    if (constant && op != OP_CONV_GRAD_WEIGHT && r->row->prepared && (r->prepared_size = r->row->prepared(&r->args)) > 0) {
        void *to = need(r->prepared_size);
        r->row->prepare(&r->args, to);
        r->args.prepared = to;
    }
    return true;
}

static void close_kernel(kernel_run *r)
{
    if (!r->row)
        return;
    mem_unmap(r->args.in[0].data, r->bytes[0] + 64);
    mem_unmap(r->args.in[1].data, r->bytes[1] + 64);
    mem_unmap(r->args.out[0].data, r->bytes[2] + 64);
    mem_unmap(r->args.work, r->args.work_size + 64);
    if (r->args.prepared)
        mem_unmap((void *)(uintptr_t)r->args.prepared, r->prepared_size + 64);
}

/* ---- oneDNN ---- */

#ifdef HAVE_DNNL
typedef struct dnnl_run {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arg[3];
    void *data[3];
    size_t bytes[3];
} dnnl_run;

static void run_dnnl(void *what)
{
    dnnl_run *r = what;
    dnnl_primitive_execute(r->primitive, r->stream, 3, r->arg);
    dnnl_stream_wait(r->stream);
}

static dnnl_memory_desc_t any_layout(const shape *sh, int group)
{
    dnnl_dims_t d;
    dnnl_memory_desc_t md;
    int at = 0;
    if (group > 1) { /* [groups, outputs of a group, ...] */
        d[at++] = group;
        d[at++] = sh->dim[0] / group;
    } else {
        d[at++] = sh->dim[0];
    }
    for (int i = 1; i < sh->rank; i++)
        d[at++] = sh->dim[i];
    dnnl_memory_desc_init_by_tag(&md, at, d, dnnl_f32, dnnl_format_tag_any);
    return md;
}

/* direction: 0 forward, 1 of the data, 2 of the weights. x, w, y: shapes as ONNX has them. */
static bool describe_dnnl(const layer *l, int direction, const shape *x, const shape *w, const shape *y, int64_t pad,
                          dnnl_convolution_desc_t *d)
{
    dnnl_memory_desc_t xm = any_layout(x, 1), wm = any_layout(w, (int)l->group), ym = any_layout(y, 1);
    dnnl_dims_t stride = {l->stride, l->stride}, dilation = {l->dilation - 1, l->dilation - 1}, pads = {pad, pad};
    dnnl_status_t s =
        direction == 0 ? dnnl_dilated_convolution_forward_desc_init(d, dnnl_forward_inference, dnnl_convolution_auto, &xm, &wm,
                                                                    NULL, &ym, stride, dilation, pads, pads)
        : direction == 1 ? dnnl_dilated_convolution_backward_data_desc_init(d, dnnl_convolution_direct, &xm, &wm, &ym, stride,
                                                                            dilation, pads, pads)
                         : dnnl_dilated_convolution_backward_weights_desc_init(d, dnnl_convolution_direct, &xm, &wm, NULL, &ym,
                                                                               stride, dilation, pads, pads);
    return s == dnnl_success;
}

static bool open_dnnl(const layer *l, int direction, const shape *x, const shape *w, const shape *y, int64_t pad, dnnl_run *r)
{
    static const dnnl_query_t query[3][3] = {
        {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md},
        {dnnl_query_diff_src_md, dnnl_query_weights_md, dnnl_query_diff_dst_md},
        {dnnl_query_src_md, dnnl_query_diff_weights_md, dnnl_query_diff_dst_md}};
    static const int name[3][3] = {{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
                                   {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
                                   {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
    dnnl_convolution_desc_t d, fd;
    dnnl_primitive_desc_t pd, hint = NULL;
    if (dnnl_engine_create(&r->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&r->stream, r->engine, dnnl_stream_default_flags) != dnnl_success)
        return false;
    if (!describe_dnnl(l, 0, x, w, y, pad, &fd) || !describe_dnnl(l, direction, x, w, y, pad, &d) ||
        dnnl_primitive_desc_create(&hint, &fd, NULL, r->engine, NULL) != dnnl_success ||
        dnnl_primitive_desc_create(&pd, &d, NULL, r->engine, hint) != dnnl_success ||
        dnnl_primitive_create(&r->primitive, pd) != dnnl_success)
        return false;
    for (int i = 0; i < 3; i++) {
        const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, query[direction][i], 0);
        r->bytes[i] = dnnl_memory_desc_get_size(md);
        r->data[i] = need(r->bytes[i]);
        fill(r->data[i], (int64_t)(r->bytes[i] / sizeof(float)), (uint32_t)i + 1);
        r->arg[i].arg = name[direction][i];
        if (dnnl_memory_create(&r->arg[i].memory, md, r->engine, r->data[i]) != dnnl_success)
            return false;
    }
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_desc_destroy(hint);
    return true;
}

static void close_dnnl(dnnl_run *r)
{
    for (int i = 0; i < 3; i++) {
        dnnl_memory_destroy(r->arg[i].memory);
        mem_unmap(r->data[i], r->bytes[i] + 64);
    }
    dnnl_primitive_destroy(r->primitive);
    dnnl_stream_destroy(r->stream);
    dnnl_engine_destroy(r->engine);
}

static const char *dnnl_name(char *buf, size_t n)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(buf, n, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return buf;
}
#endif

/* ---- a layer ---- */

static shape shape_of(const layer *l, int64_t a, int64_t b, int64_t side)
{
    return l->dims == 2 ? SHAPE(a, b, side, side) : SHAPE(a, b, side);
}

static void bench_layer(const backend *b, const layer *l, bool constant)
{
    static const char *const directions[] = {"forward", "data", "weights"};
    static const op_id ops[] = {OP_CONV, OP_CONV_GRAD_DATA, OP_CONV_GRAD_WEIGHT};
    int64_t pad = l->dilation * (l->k - 1) / 2, out = (l->size + 2 * pad - l->dilation * (l->k - 1) - 1) / l->stride + 1;
    int64_t kernel[] = {l->k, l->k}, strides[] = {l->stride, l->stride}, dilations[] = {l->dilation, l->dilation};
    int64_t pads[] = {pad, pad, pad, pad};
    conv_attrs at;
    op_default_attrs(OP_CONV, &at);
    at.kernel_shape = (attr_ints){l->dims, kernel};
    at.strides = (attr_ints){l->dims, strides};
    at.dilations = (attr_ints){l->dims, dilations};
    at.pads = (attr_ints){2 * l->dims, pads};
    at.group = l->group;
    shape x = shape_of(l, l->n, l->c, l->size), w = shape_of(l, l->m, l->c / l->group, l->k), y = shape_of(l, l->n, l->m, out);
    double flops = 2.0 * (double)shape_count(&w) * (double)(shape_count(&y) / l->m);
    for (int d = 0; d < 3; d++) {
        kernel_tensor in[2] = {{NULL, DTYPE_F32, d == 1 ? y : x, 0}, {NULL, DTYPE_F32, d == 2 ? y : w, 0}};
        kernel_tensor to = {NULL, DTYPE_F32, d == 0 ? y : d == 1 ? x : w, 0};
        kernel_run r = {.args = {.in = in, .out = &to, .n_in = 2, .n_out = 1, .attr = &at}};
        contest c[2] = {{0}};
        if (open_kernel(b, ops[d], constant, &r))
            c[0] = (contest){run_kernel, &r, 0};
#ifdef HAVE_DNNL
        dnnl_run o = {0};
        if (open_dnnl(l, d, &x, &w, &y, pad, &o))
            c[1] = (contest){run_dnnl, &o, 0};
#endif
        time_all(c, 2);
        printf("{\"layer\": \"%s\", \"direction\": \"%s\", \"gflop\": %.4f", l->name, directions[d], flops * 1e-9);
        printf(", \"n\": %d, \"c\": %d, \"size\": %d, \"m\": %d, \"k\": %d, \"stride\": %d, \"dilation\": %d, \"group\": %d, "
               "\"dims\": %d", (int)l->n, (int)l->c, (int)l->size, (int)l->m, (int)l->k, (int)l->stride, (int)l->dilation,
               (int)l->group, l->dims);
        if (c[0].run)
            printf(", \"kernel\": \"%s%s\", \"ours\": %.2f", r.row->name, r.row->blocked_in | r.row->blocked_out ? "" : " (plain)",
                   flops / c[0].best * 1e-9);
#ifdef HAVE_DNNL
        char name[40];
        if (c[1].run)
            printf(", \"%s\": %.2f", dnnl_name(name, sizeof name), flops / c[1].best * 1e-9);
        close_dnnl(&o);
#endif
        printf("}\n");
        fflush(stdout);
        close_kernel(&r);
    }
}

int main(int argc, char **argv)
{
    const char *part = argc > 1 ? argv[1] : "";
    backend *b;
    omp_set_num_threads(1);
    if (backend_open("cpu", &(backend_options){.threads = 1, .max_isa = ISA_AVX512, .method = argc > 2 ? argv[2] : NULL},
                     &b) != ST_OK) {
        fprintf(stderr, "%s\n", status_message());
        return ST_UNAVAILABLE;
    }
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        if (strstr(layers[i].name, part))
            bench_layer(b, &layers[i], argc > 3);
    backend_close(b);
    return 0;
}
