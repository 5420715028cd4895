/* cuda.c - the CUDA backend: a device, its memory, a queue, and the kernel tables of kernels/cuda.
 *
 * Every call goes through the table of kernels/cuda/api.h, so that the same code runs on a device, on the emulator of the
 * tests, and on a table that fails. Kernels and copies are put on one stream; what an executor does in a phase is captured
 * once and launched as one graph. */
#include "exec/cuda_libs.h"
#include "exec/dnn_cache.h"
#include "exec/internal.h"
#include "base/log.h"
#include "kernels/cuda/api.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MOST_ROWS 24 /* of one operator */

typedef struct cuda_backend {
    backend base;
    cuda_queue queue;
    cuda_device_info info;
    void *beside;    /* stream of copies to the device; NULL: none was wanted yet */
    cuda_libs *libs; /* NULL: none were looked for */
    dnn_cache *measured; /* NULL: nothing is remembered */
    void *stream, *side;   /* the queue is on `stream`; in a branch of a recording on `side` (NULL: nothing was recorded so far) */
    void *forked, *joined; /* events */
    const kernel_row *row[OP_COUNT][MOST_ROWS]; /* candidates of every operator, best first, NULL-terminated */
} cuda_backend;

static cuda_backend *of(backend *b)
{
    return (cuda_backend *)(void *)b;
}

/* CUDA keeps the last failure of a call until it is asked for: it is told here, and must not be taken for that of a later launch. */
static status cuda_fault(const cuda_queue *q, const char *where, int code)
{
    const char *library = cuda_libs_text(code);
    q->api->last_error();
    return fail(ST_OOM, "cuda:%d: %s: %s (error %d)", q->device, where, library ? library : q->api->text(code), code);
}

#define CUDA(q, name, ...)                                                                                        \
    do {                                                                                                          \
        int cuda_code_ = (q)->api->name(__VA_ARGS__);                                                             \
        if (cuda_code_ != 0)                                                                                      \
            return cuda_fault((q), #name, cuda_code_);                                                            \
    } while (0)

/* ---- memory ---- */

static status cuda_no_memory(cuda_backend *c, size_t bytes, int code)
{
    size_t available = 0, all = 0;
    char a[24], w[24], m[24];
    c->queue.api->last_error(); /* as in cuda_fault */
    if (c->queue.api->memory(&available, &all) != 0)
        return cuda_fault(&c->queue, "alloc", code);
    return fail(ST_OOM, "out of memory on cuda:%d (%s): %s wanted, %s of %s free; make the batch smaller or end what else uses "
                "the device", c->queue.device, c->info.name, human_bytes((double)bytes, w), human_bytes((double)available, a),
                human_bytes((double)all, m));
}

static status cuda_alloc(backend *b, size_t bytes, void **out)
{
    cuda_queue *q = &of(b)->queue;
    *out = NULL;
    int code = q->api->alloc(out, bytes ? bytes : 1);
    if (code != 0) {
        *out = NULL;
        return cuda_no_memory(of(b), bytes, code);
    }
    code = q->api->fill(*out, 0, bytes, q->stream);
    if (code != 0) {
        q->api->release(*out);
        *out = NULL;
        return cuda_fault(q, "fill", code);
    }
    b->taken += bytes;
    b->most_taken = b->taken > b->most_taken ? b->taken : b->most_taken;
    return ST_OK;
}

static void cuda_free(backend *b, void *p, size_t bytes)
{
    if (!p)
        return;
    b->taken -= bytes;
    cuda_note(&of(b)->queue, "release", of(b)->queue.api->release(p));
}

static status cuda_alloc_host(backend *b, size_t bytes, void **out)
{
    cuda_queue *q = &of(b)->queue;
    char n[24];
    *out = NULL;
    int code = q->api->alloc_host(out, bytes ? bytes : 1);
    if (code != 0) {
        *out = NULL;
        q->api->last_error(); /* as in cuda_fault */
        return fail(ST_OOM, "cuda:%d: %s of pinned memory could not be had: %s", q->device, human_bytes((double)bytes, n),
                    q->api->text(code));
    }
    memset(*out, 0, bytes);
    return ST_OK;
}

static void cuda_free_host(backend *b, void *p)
{
    if (p)
        cuda_note(&of(b)->queue, "release_host", of(b)->queue.api->release_host(p));
}

static status cuda_memory(backend *b, size_t *available, size_t *all)
{
    CUDA(&of(b)->queue, memory, available, all);
    return ST_OK;
}

/* ---- the stream ---- */

static status cuda_copy_bytes(backend *b, void *to, const void *from, size_t bytes, copy_way way)
{
    static const cuda_copy ways[] = {CUDA_COPY_TO_DEVICE, CUDA_COPY_TO_HOST, CUDA_COPY_ON_DEVICE};
    cuda_queue *q = &of(b)->queue;
    if (bytes)
        CUDA(q, copy, to, from, bytes, ways[way], q->stream);
    return ST_OK;
}

static status cuda_queue_status(const cuda_queue *q)
{
    return q->failed ? cuda_fault(q, q->failed_where, q->failed) : ST_OK;
}

static status cuda_wait(backend *b)
{
    cuda_queue *q = &of(b)->queue;
    TRY(cuda_queue_status(q));
    cuda_note(q, "wait", q->api->wait(q->stream)); /* what failed while it ran; it stays */
    return cuda_queue_status(q);
}

/* What a branch needs, before a recording begins: a device may refuse to make streams meanwhile. */
static status make_branch(cuda_backend *c)
{
    cuda_queue *q = &c->queue;
    if (!c->forked)
        CUDA(q, event_make, &c->forked);
    if (!c->joined)
        CUDA(q, event_make, &c->joined);
    if (!c->side)
        CUDA(q, stream_make, &c->side);
    return ST_OK;
}

static status cuda_record(backend *b)
{
    cuda_queue *q = &of(b)->queue;
    TRY(cuda_queue_status(q));
    TRY(make_branch(of(b)));
    dnn_cache_save(of(b)->measured); /* a run that comes so far has made its plans */
    CUDA(q, capture_begin, q->stream);
    if (q->dnn)
        q->dnn->recording = true;
    return ST_OK;
}

static void use_stream(cuda_backend *c, void *stream)
{
    cuda_queue *q = &c->queue;
    if (q->stream == stream)
        return;
    q->stream = stream;
    if (q->dnn)
        cuda_note(q, "cudnnSetStream", cuda_dnn_use_stream(q->dnn, stream));
}

/* What fails stays in the queue, so that the end of the recording tells of it. */
static status cuda_branch(backend *b, branch_turn turn)
{
    cuda_backend *c = of(b);
    cuda_queue *q = &c->queue;
    switch (turn) {
    case BRANCH_BEGIN:
        cuda_note(q, "event_record", q->api->event_record(c->forked, c->stream));
        cuda_note(q, "event_wait", q->api->event_wait(c->side, c->forked));
        use_stream(c, c->side);
        break;
    case BRANCH_LEAVE:
        cuda_note(q, "event_record", q->api->event_record(c->joined, c->side));
        use_stream(c, c->stream);
        break;
    case BRANCH_JOIN:
        cuda_note(q, "event_wait", q->api->event_wait(c->stream, c->joined));
        break;
    }
    return cuda_queue_status(q);
}

static status cuda_recorded(backend *b, void **program, size_t *kernels)
{
    cuda_queue *q = &of(b)->queue;
    *program = NULL;
    *kernels = 0;
    use_stream(of(b), of(b)->stream); /* a branch that failed was not left */
    if (q->dnn)
        q->dnn->recording = false;
    int code = q->api->capture_end(q->stream, program, kernels);
    if (q->failed || code != 0) {
        if (*program)
            q->api->graph_free(*program);
        *program = NULL;
        TRY(cuda_queue_status(q));
        return cuda_fault(q, "capture_end", code);
    }
    return ST_OK;
}

static status cuda_replay(backend *b, void *program)
{
    CUDA(&of(b)->queue, graph_launch, program, of(b)->queue.stream);
    return ST_OK;
}

static void cuda_forget(backend *b, void *program)
{
    if (program)
        cuda_note(&of(b)->queue, "graph_free", of(b)->queue.api->graph_free(program));
}

/* ---- marks, and copies beside the stream ---- */

static status cuda_make_mark(backend *b, void **out)
{
    *out = NULL;
    CUDA(&of(b)->queue, event_make, out);
    return ST_OK;
}

static void cuda_free_mark(backend *b, void *mark)
{
    if (mark)
        cuda_note(&of(b)->queue, "event_free", of(b)->queue.api->event_free(mark));
}

/* The stream of copies, made when it is first wanted. */
static status stream_of(backend *b, bool beside, void **out)
{
    cuda_backend *c = of(b);
    if (beside && !c->beside)
        CUDA(&c->queue, stream_make, &c->beside);
    *out = beside ? c->beside : c->queue.stream;
    return ST_OK;
}

static status cuda_set_mark(backend *b, void *mark, bool beside)
{
    void *stream = NULL;
    TRY(cuda_queue_status(&of(b)->queue));
    TRY(stream_of(b, beside, &stream));
    CUDA(&of(b)->queue, event_record, mark, stream);
    return ST_OK;
}

static status cuda_wait_mark(backend *b, void *mark)
{
    cuda_queue *q = &of(b)->queue;
    TRY(cuda_queue_status(q));
    cuda_note(q, "event_sync", q->api->event_sync(mark));
    return cuda_queue_status(q);
}

static status cuda_after_mark(backend *b, void *mark, bool beside)
{
    void *stream = NULL;
    TRY(stream_of(b, beside, &stream));
    CUDA(&of(b)->queue, event_wait, stream, mark);
    return ST_OK;
}

static status cuda_copy_beside(backend *b, void *to, const void *from, size_t bytes)
{
    void *stream = NULL;
    TRY(stream_of(b, true, &stream));
    CUDA(&of(b)->queue, copy, to, from, bytes, CUDA_COPY_TO_DEVICE, stream);
    return ST_OK;
}

static const backend_remote remote = {.alloc_host = cuda_alloc_host, .free_host = cuda_free_host, .copy = cuda_copy_bytes,
                                      .wait = cuda_wait, .record = cuda_record, .recorded = cuda_recorded, .branch = cuda_branch,
                                      .replay = cuda_replay, .forget = cuda_forget, .memory = cuda_memory, .make_mark = cuda_make_mark,
                                      .free_mark = cuda_free_mark, .set_mark = cuda_set_mark, .wait_mark = cuda_wait_mark,
                                      .after_mark = cuda_after_mark, .copy_beside = cuda_copy_beside};

/* ---- kernels ---- */

static bool is_masked(const kernel_tensor *t, uint32_t mask, int i)
{
    return t->type != DTYPE_NONE && i < 32 && mask >> i & 1;
}

/* Whether the operand lies as the row wants it: channels last where the mask says so, else plain. */
static bool lies_so(const kernel_tensor *t, uint32_t mask, int i)
{
    return t->block == (is_masked(t, mask, i) ? (int32_t)t->sh.dim[1] : 0);
}

/* Whether plain operands lie in the row's narrow type where it wants that, and at least one does. */
static bool is_narrow_as_wanted(const kernel_row *r, const kernel_args *a)
{
    bool some = !r->narrow;
    for (int i = 0; r->narrow && i < a->n_in + a->n_out; i++) {
        const bool in = i < a->n_in;
        const int k = in ? i : i - a->n_in;
        const kernel_tensor *t = in ? &a->in[k] : &a->out[k];
        if (!is_masked(t, in ? r->narrow_in : r->narrow_out, k)) {
            if (t->type == r->narrow) /* a tensor that is of this type by itself */
                return false;
            continue;
        }
        some |= t->type == r->narrow;
        if (t->type != r->narrow && (t->type != DTYPE_F32 || !is_masked(t, in ? r->either_in : r->either_out, k)))
            return false;
    }
    return some;
}

static bool lies_as_wanted(const kernel_row *r, const kernel_args *a)
{
    const op_desc *d = op_of(r->op);
    for (int i = 0; i < a->n_in; i++)
        if (!op_is_copy(d, i) && !lies_so(&a->in[i], r->blocked_in, i)) /* a copy's row looks at it itself (takes) */
            return false;
    for (int i = 0; i < a->n_out; i++)
        if (!lies_so(&a->out[i], r->blocked_out, i))
            return false;
    return is_narrow_as_wanted(r, a);
}

static bool takes(const kernel_row *r, const kernel_args *a)
{
    return (r->narrow || r->type == kernel_type(a) || r->type == DTYPE_NONE) && (!r->takes || r->takes(a));
}

static const kernel_row *cuda_find(const backend *b, op_id op, const kernel_args *a)
{
    kernel_args asked = *a;
    asked.queue = b->queue;
    for (int plain = 0; plain < 2; plain++) /* rows for narrow operands first: others may take them for tensors of that type */
        for (const kernel_row *const *r = ((const cuda_backend *)(const void *)b)->row[op]; *r; r++)
            if (!(*r)->narrow == (plain != 0) && lies_as_wanted(*r, a) && takes(*r, &asked))
                return *r;
    return NULL;
}

/* The operand as the row wants it (NULL: plain); false when it has no channels. */
static bool lay_out(const backend *b, kernel_tensor *t, int i, uint32_t mask)
{
    if (t->block) { /* back to plain */
        t->type = t->type == b->narrow ? DTYPE_F32 : t->type;
        t->block = 0;
    }
    if (!is_masked(t, mask, i))
        return true;
    if (t->sh.rank < 3 || t->sh.dim[1] < 1 || (b->narrow && t->type == b->narrow)) /* of that type already: not ours to change */
        return false;
    t->block = backend_block(b, t->sh.dim[1]);
    t->type = t->type == DTYPE_F32 && b->narrow ? b->narrow : t->type;
    return true;
}

static bool lay_all_out(const backend *b, kernel_args *a, uint32_t in, uint32_t out)
{
    bool ok = true;
    for (int i = 0; i < a->n_in; i++)
        ok = lay_out(b, &a->in[i], i, in) && ok;
    for (int i = 0; i < a->n_out; i++)
        ok = lay_out(b, &a->out[i], i, out) && ok;
    return ok;
}

static const kernel_row *cuda_find_blocked(const backend *b, op_id op, kernel_args *a)
{
    a->queue = b->queue;
    for (const kernel_row *const *r = ((const cuda_backend *)(const void *)b)->row[op]; *r; r++)
        if (((*r)->blocked_in | (*r)->blocked_out) && lay_all_out(b, a, (*r)->blocked_in, (*r)->blocked_out) && takes(*r, a))
            return *r;
    lay_all_out(b, a, 0, 0);
    return NULL;
}

static bool all_float(const kernel_tensor *t, int n, uint32_t mask)
{
    for (int i = 0; i < n; i++)
        if (is_masked(&t[i], mask, i) && t[i].type != DTYPE_F32)
            return false;
    return true;
}

/* Operands of the mask are said to be narrow, or float32 again. */
static void make_narrow(const backend *b, kernel_tensor *t, int n, uint32_t mask, bool narrow)
{
    for (int i = 0; i < n; i++)
        if (is_masked(&t[i], mask, i) && t[i].type == (narrow ? DTYPE_F32 : b->narrow))
            t[i].type = narrow ? b->narrow : DTYPE_F32;
}

static const kernel_row *cuda_find_narrow(const backend *b, op_id op, kernel_args *a)
{
    a->queue = b->queue;
    if (a->n_in > 32 || a->n_out > 32) /* more than a mask has bits */
        return NULL;
    for (int i = 0; i < a->n_in + a->n_out; i++) {
        const kernel_tensor *t = i < a->n_in ? &a->in[i] : &a->out[i - a->n_in];
        if (t->block || t->type == b->narrow) /* of that type already: not ours to change */
            return NULL;
    }
    for (const kernel_row *const *r = ((const cuda_backend *)(const void *)b)->row[op]; *r; r++) {
        const uint32_t in = (*r)->narrow_in & ~(*r)->either_in, out = (*r)->narrow_out & ~(*r)->either_out;
        if (!((*r)->narrow_in | (*r)->narrow_out) || ((*r)->narrow && (*r)->narrow != b->narrow))
            continue;
        const bool can = all_float(a->in, a->n_in, (*r)->narrow_in) && all_float(a->out, a->n_out, (*r)->narrow_out);
        make_narrow(b, a->in, a->n_in, in, can);
        make_narrow(b, a->out, a->n_out, out, can);
        const bool found = can && takes(*r, a);
        make_narrow(b, a->in, a->n_in, in, false);
        make_narrow(b, a->out, a->n_out, out, false);
        if (found)
            return *r;
    }
    return NULL;
}

static status cuda_narrow(backend *b, dtype t)
{
    b->narrow = t;
    b->block = t ? BLOCK_ALL : 0;
    b->layout = t ? LAYOUT_AUTO : LAYOUT_PLAIN;
    return ST_OK;
}

/* ---- opening ---- */

static void cuda_describe(const backend *b, text *out)
{
    const cuda_backend *c = (const cuda_backend *)(const void *)b;
    char m[24];
    text_printf(out, "cuda:%d: %s, sm_%d, %s", c->queue.device, c->info.name, c->info.level, human_bytes((double)c->info.memory, m));
}

static void cuda_identify(const backend *b, text *out)
{
    const cuda_backend *c = (const cuda_backend *)(const void *)b;
    text_printf(out, "cuda %s sm_%d tf32 %d deterministic %d", c->info.name, c->info.level, (int)c->queue.tf32,
                (int)c->queue.deterministic);
}

static void cuda_close(backend *b)
{
    cuda_backend *c = of(b);
    cuda_blas_close(c->queue.blas);
    dnn_cache_close(c->measured);
    cuda_dnn_close(c->queue.dnn);
    cuda_libs_close(c->libs);
    if (c->beside)
        c->queue.api->stream_free(c->beside);
    if (c->forked)
        c->queue.api->event_free(c->forked);
    if (c->joined)
        c->queue.api->event_free(c->joined);
    if (c->side)
        c->queue.api->stream_free(c->side);
    if (c->stream)
        c->queue.api->stream_free(c->stream);
    mem_free(c);
}

static status find_device(const cuda_api *api, int index)
{
    int driver = 0, runtime = 0, n = 0;
    int code = api->driver_version(&driver);
    if (code != 0 || driver == 0)
        return fail(ST_UNAVAILABLE, "cuda: no NVIDIA driver was found on this machine; install one, or take --device cpu");
    if (api->runtime_version(&runtime) != 0)
        api->last_error(); /* as in cuda_fault: not worth a failure */
    else if (driver / 1000 < runtime / 1000)
        return fail(ST_UNAVAILABLE, "cuda: the driver serves CUDA %d.%d, this program needs CUDA %d (%s); update the driver, or "
                    "take --device cpu", driver / 1000, driver % 1000 / 10, runtime / 1000, cuda_driver_for(runtime));
    code = api->device_count(&n);
    if (code != 0)
        return fail(ST_UNAVAILABLE, "cuda: devices cannot be listed: %s (error %d)", api->text(code), code);
    if (n == 0)
        return fail(ST_UNAVAILABLE, "cuda: the driver sees no device");
    if (index >= n)
        return fail(ST_UNAVAILABLE, "cuda:%d: there %s %d device%s, the last is cuda:%d", index, n == 1 ? "is" : "are", n,
                    n == 1 ? "" : "s", n - 1);
    return ST_OK;
}

static status open_queue(cuda_backend *c, int index)
{
    cuda_queue *q = &c->queue;
    int code;
    CUDA(q, use_device, index);
    CUDA(q, device_info, index, &c->info);
    CUDA(q, compiled_for, &code);
    q->level = code < c->info.level ? code : c->info.level;
    if (q->level < 80 && c->info.level >= 80)
        log_warn("cuda:%d is sm_%d, and this build has kernels for sm_%d alone that it can run: they know nothing of its tensor cores; "
                 "build with -DDISTILL_CUDA_ARCHS=release", index, c->info.level, q->level);
    q->multiprocessors = c->info.multiprocessors;
    CUDA(q, stream_make, &c->stream);
    q->stream = c->stream;
    return ST_OK;
}

/* How cuDNN's engines are chosen. Without a folder they are measured in every run. */
static status choose_plans(cuda_backend *c, const backend_options *o)
{
    char device[320];
    c->queue.dnn->measure = o->measure && !o->deterministic;
    if (!c->queue.dnn->measure || !o->cache)
        return ST_OK;
    snprintf(device, sizeof device, "%s, sm_%d", c->info.name, c->info.level);
    status st = dnn_cache_open(o->cache, device, cuda_libs_dnn_version(c->libs), &c->measured);
    c->queue.dnn->memory = dnn_cache_memory(c->measured);
    if (st == ST_OOM)
        return st;
    if (st != ST_OK)
        log_warn("%s; cuDNN's engines are measured in every run", status_message());
    return ST_OK;
}

/* A library that is there and cannot be used (its first call fails) is an error: without it everything would be slower, and
 * nobody would know why. */
static status open_libraries(cuda_backend *c, const backend_options *o)
{
    cuda_queue *q = &c->queue;
    const blas_api *blas = cuda_libs_blas(c->libs);
    const dnn_api *dnn = cuda_libs_dnn(c->libs);
    int code = blas ? cuda_blas_open(blas, &q->blas) : 0;
    if (code != 0)
        return cuda_fault(q, "cublasLtCreate", cuda_library_code(CUDA_BLAS_CODES, code));
    code = dnn ? cuda_dnn_open(dnn, q->stream, &q->dnn) : 0;
    if (code != 0)
        return cuda_fault(q, "cudnnCreate", cuda_library_code(CUDA_DNN_CODES, code));
    return q->dnn ? choose_plans(c, o) : ST_OK;
}

static status add_rows(cuda_backend *c, const kernel_row *const *tables)
{
    for (; *tables; tables++)
        for (const kernel_row *r = *tables; r->op != OP_NONE; r++) {
            size_t n = 0;
            while (c->row[r->op][n])
                n++;
            if (n + 1 >= MOST_ROWS)
                return fail(ST_INTERNAL, "cuda: %s has more than %d kernels", op_of(r->op)->name, MOST_ROWS - 1);
            c->row[r->op][n] = r;
        }
    return ST_OK;
}

status cuda_open(const cuda_api *api, const kernel_row *const *tables, open_libs_fn *open_libs, const backend_options *o, int index,
                 backend **out)
{
    cuda_backend *c;
    status st = ST_OK;
    TRY(find_device(api, index));
    TRY(mem_alloc(&c, 1, sizeof *c));
    c->queue = (cuda_queue){.api = api, .device = index, .deterministic = o->deterministic, .tf32 = o->tf32};
    c->base = (backend){.name = "cuda", .threads = 1, .level = ISA_BASE, .find = cuda_find, .find_blocked = cuda_find_blocked,
                        .find_narrow = cuda_find_narrow, .set_narrow = cuda_narrow,
                        .layout = LAYOUT_PLAIN, .alloc = cuda_alloc, .free = cuda_free, .remote = &remote, .queue = &c->queue,
                        .identify = cuda_identify, .describe = cuda_describe, .close = cuda_close};
    TRY_DONE(add_rows(c, tables));
    TRY_DONE(open_queue(c, index));
    if (open_libs)
        TRY_DONE(open_libs(&c->libs));
    TRY_DONE(open_libraries(c, o));
    *out = &c->base;
    return ST_OK;
done:
    cuda_close(&c->base);
    return st;
}
