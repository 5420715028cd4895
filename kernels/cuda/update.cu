/* update.cu - what an optimizer step does to persistent values (src/ops/update.c): all parameters of a node as one flat
 * run of chunks, a block for each chunk.
 *
 * Which tensor a chunk belongs to stands in a table among the kernel's arguments (4 KB), so that nothing is copied to the
 * device before; a node with more tensors takes several launches. Learning rate, scale and step are read on the device;
 * scalars are combined in double and rounded once, as on the CPU.
 *
 * The narrow copy of a parameter is written in the same pass: 8 bytes beside the 16 of the parameter where both lie alike. A copy
 * with the channels last goes through shared memory: a chunk is then some whole groups of 8 channels with all their pixels, and a
 * thread writes 8 channels of a pixel, 16 bytes, neighbours beside it. */
#include "kernels/cuda/broadcast.cuh"

enum { CHUNK = 4096 }; /* elements: 4 packs a thread */

/* ---- tables ---- */

/* A parameter and what belongs to it. */
typedef struct entry {
    int64_t n; /* elements */
    float *to; /* what is written */
    const float *grad;
    float *ema, *first, *second; /* average, momentum buffer or m, v; NULL: absent */
    const int32_t *place;        /* rows of the gradient, of `inner` elements; NULL: the gradient is whole */
    int64_t inner;
    void *copy;                /* of what is written, in a narrow type; NULL: there is none */
    uint32_t channels, pixels; /* of a copy [filters, pixels, channels]; one pixel: it lies as the parameter */
    uint32_t chunk;            /* number of its first chunk */
    uint16_t each;             /* elements of a chunk */
    uint8_t wide, staged;      /* packs of 4 can be read and written; the copy goes through shared memory */
} entry;
#ifdef CUDA_EMULATED
enum { ENTRIES = 2, TENSORS = 2 }; /* so that tests of few tensors take several launches */
#else
enum { ENTRIES = 44, TENSORS = 160 };
#endif
typedef struct table {
    entry at[ENTRIES];
    int64_t n, chunks;
} table;

/* A tensor alone. */
typedef struct tensor_entry {
    int64_t chunk, n;
    float *data;
} tensor_entry;
typedef struct tensor_table {
    tensor_entry at[TENSORS];
    int64_t n, chunks;
} tensor_table;

static_assert(sizeof(table) <= 3968 && sizeof(tensor_table) <= 3968, "a kernel has 4 KB of arguments");

/* The entry of the block's chunk. */
template <class T> __device__ static inline int table_find(const T &t)
{
    int lo = 0, hi = (int)t.n - 1;
    while (lo < hi) {
        const int mid = (lo + hi + 1) / 2;
        if (t.at[mid].chunk <= (int64_t)blockIdx.x)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

/* body(element, how many) for the packs and single elements of [from, from + count). */
template <class F> __device__ static inline void for_part(int64_t from, int count, bool wide, F body)
{
    const int packs = wide ? count / 4 : 0;
    for (int p = threadIdx.x; p < packs; p += CUDA_THREADS)
        body(from + p * 4, pack_width<4>());
    for (int i = packs * 4 + threadIdx.x; i < count; i += CUDA_THREADS)
        body(from + i, pack_width<1>());
}
/* The same for the block's chunk. */
template <class F> __device__ static inline void for_chunk(int64_t chunk, int64_t n, bool wide, F body)
{
    const int64_t from = chunk * CHUNK, left = n - from;
    for_part(from, left < CHUNK ? (int)left : (int)CHUNK, wide, body);
}

template <int V> __device__ static inline pack<float, V> read(const float *from, int64_t i)
{
    return *(const pack<float, V> *)(from + i);
}
template <int V> __device__ static inline void write(float *to, int64_t i, const pack<float, V> &p)
{
    *(pack<float, V> *)(to + i) = p;
}
template <int V> __device__ static inline pack<float, V> gradient(const entry &e, int64_t i)
{
    if (!e.place)
        return read<V>(e.grad, i);
    const int64_t r = e.n < (int64_t)1 << 31 ? (uint32_t)i / (uint32_t)e.inner : i / e.inner;
    const int32_t row = e.place[r];
    return row < 0 ? pack<float, V>{} : read<V>(e.grad, row * e.inner + (i - r * e.inner));
}

static float *data_of(const kernel_args *a, int i)
{
    return i < a->n_in ? (float *)a->in[i].data : NULL;
}

/* The copy of the tensor. Chunks are whole groups of 8 channels where it is staged. */
static void entry_copy(entry *e, const kernel_tensor *c)
{
    const shape *s = &c->sh;
    e->copy = c->data;
    e->wide = e->wide && is_vector(c->data);
    if (!c->data || !c->block)
        return;
    e->channels = (uint32_t)s->dim[1];
    e->pixels = (uint32_t)(e->n / s->dim[0] / s->dim[1]);
    e->staged = e->pixels > 1 && e->pixels <= CHUNK / 8 && e->channels % 8 == 0 && e->n <= INT32_MAX && is_vector(c->data);
    if (e->staged)
        e->each = (uint16_t)(CHUNK / (8 * e->pixels) * 8 * e->pixels);
}

/* Adds the tensor at input `to`. */
static void table_add(table *t, const kernel_args *a, int to, int grad, int ema, int first, int second, int copy, int place)
{
    const shape *s = &a->in[to].sh;
    entry e = {.n = shape_count(s),
               .to = data_of(a, to),
               .grad = data_of(a, grad),
               .ema = data_of(a, ema),
               .first = data_of(a, first),
               .second = data_of(a, second),
               .place = (const int32_t *)(const void *)data_of(a, place),
               .inner = 1,
               .channels = 1,
               .pixels = 1,
               .chunk = (uint32_t)t->chunks,
               .each = CHUNK};
    if (e.n == 0)
        return;
    e.inner = s->rank ? e.n / s->dim[0] : 1;
    e.wide = is_vector(e.to) && is_vector(e.grad) && is_vector(e.ema) && is_vector(e.first) && is_vector(e.second) &&
             (!e.place || e.inner % 4 == 0);
    if (copy < a->n_in)
        entry_copy(&e, &a->in[copy]);
    t->at[t->n++] = e;
    t->chunks += (e.n + e.each - 1) / e.each;
}

/* The type of the copies that an update writes; DTYPE_F32: there are none. */
static dtype copies_in(const kernel_args *a, int head, int copy, int tuple)
{
    for (copy += head; copy < a->n_in; copy += tuple)
        if (a->in[copy].type != DTYPE_NONE)
            return a->in[copy].type;
    return DTYPE_F32;
}
/* All of one type, in the parameter's order or with all channels last. */
static bool copies_fit(const kernel_args *a, int head, int copy, int tuple)
{
    const dtype t = copies_in(a, head, copy, tuple);
    bool some = false;
    for (copy += head; copy < a->n_in; copy += tuple) {
        const kernel_tensor *c = &a->in[copy];
        if (c->type == DTYPE_NONE)
            continue;
        some = true;
        if (c->type != t || (c->block && (c->sh.rank < 3 || c->block != c->sh.dim[1])))
            return false;
    }
    return !some || t == DTYPE_F16 || t == DTYPE_BF16;
}

/* As many tensors from input `from` on as fit. Returns the input behind them. */
static int tensors_fill(tensor_table *t, const kernel_args *a, int from)
{
    t->n = t->chunks = 0;
    for (; from < a->n_in && t->n < TENSORS; from++) {
        const int64_t n = shape_count(&a->in[from].sh);
        if (n == 0)
            continue;
        t->at[t->n++] = (tensor_entry){.chunk = t->chunks, .n = n, .data = (float *)a->in[from].data};
        t->chunks += (n + CHUNK - 1) / CHUNK;
    }
    return from;
}

/* ---- updates ---- */

__device__ static inline bool is_finite(double v)
{
    return fabs(v) < (double)INFINITY;
}
__device__ static inline double scalar(const float *v, double absent)
{
    return v ? (double)*v : absent;
}

/* The averaged parameter p. */
template <int V>
__device__ static inline void average(const entry &e, int64_t i, const pack<float, V> &p, float keep, float take)
{
    if (!e.ema)
        return;
    pack<float, V> y = read<V>(e.ema, i);
    UNROLL
    for (int v = 0; v < V; v++)
        y.at[v] = keep * y.at[v] + take * p.at[v];
    write<V>(e.ema, i, y);
}

/* ---- copies, of type To (float: there are none) ---- */

/* A group of 8 channels takes two elements more than it has in shared memory: an odd number of words, so that threads that read the
 * same element of neighbouring groups meet in no bank. */
template <class To> inline constexpr int stage_size = sizeof(To) == 2 ? CHUNK + CHUNK / 16 * 2 : 1;

/* Of a chunk that begins at `from`. */
template <class To, int V>
__device__ static inline void copy_out(const entry &e, To *stage, int64_t from, int64_t i, const pack<float, V> &p)
{
    if constexpr (sizeof(To) == 2) {
        pack<To, V> h;
        if (!e.copy)
            return;
        UNROLL
        for (int v = 0; v < V; v++)
            h.at[v] = from_float<To>(p.at[v]);
        if (e.pixels == 1) {
            *(pack<To, V> *)((To *)e.copy + i) = h;
            return;
        }
        if (e.staged) {
            const uint32_t at = (uint32_t)(i - from), group = at / (8 * e.pixels);
            UNROLL
            for (int v = 0; v < V; v++)
                stage[at + 2 * group + v] = h.at[v];
            return;
        }
        for (int v = 0; v < V; v++) {
            const int64_t row = (i + v) / e.pixels, pixel = (i + v) - row * e.pixels, filter = row / e.channels;
            ((To *)e.copy)[(filter * e.pixels + pixel) * e.channels + (row - filter * e.channels)] = h.at[v];
        }
    }
}

/* What is staged of a chunk, `count` elements from `from` on, to where it belongs. */
template <class To> __device__ static inline void copy_staged(const entry &e, const To *stage, int64_t from, int count)
{
    if constexpr (sizeof(To) == 2) {
        if (!e.staged)
            return;
        const uint32_t size = 8 * e.pixels, groups = (uint32_t)count / size, first = (uint32_t)from / size, row = e.channels / 8;
        __syncthreads();
        for (uint32_t k = threadIdx.x; k < groups * e.pixels; k += CUDA_THREADS) {
            const uint32_t pixel = k / groups, group = k - pixel * groups, filter = (first + group) / row;
            pack<To, 8> h;
            UNROLL
            for (uint32_t v = 0; v < 8; v++)
                h.at[v] = stage[(size + 2) * group + v * e.pixels + pixel];
            const int64_t to = ((int64_t)filter * e.pixels + pixel) * e.channels + (first + group - filter * row) * 8;
            *(pack<To, 8> *)((To *)e.copy + to) = h;
        }
    }
}

/* body(element, how many, store): store(p) takes the parameter as it is now. Of the block's chunk. */
template <class To, class F> __device__ static inline void for_parameter(const entry &e, F body)
{
    __shared__ To stage[stage_size<To>];
    const int64_t from = ((int64_t)blockIdx.x - e.chunk) * e.each, left = e.n - from;
    const int count = left < e.each ? (int)left : (int)e.each;
    for_part(from, count, e.wide, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<float, V> p = body(i, width);
        write<V>(e.to, i, p);
        copy_out<To, V>(e, stage, from, i, p);
    });
    copy_staged<To>(e, stage, from, count);
}

/* ---- kernels ---- */

template <class To>
__global__ static void __launch_bounds__(CUDA_THREADS)
    sgd_kernel(__grid_constant__ const table t, const float *lr_at, const float *scale_at,
               __grid_constant__ const sgd_attrs at)
{
    const entry &e = t.at[table_find(t)];
    const double rate = scalar(lr_at, 0), by = scalar(scale_at, 1);
    const float lr = (float)rate, scale = (float)by, momentum = (float)at.momentum;
    const float keep = at.decoupled ? (float)(1 - rate * at.weight_decay) : 1,
                decay = at.decoupled ? 0 : (float)at.weight_decay;
    if (!is_finite(by))
        return;
    for_parameter<To>(e, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<float, V> grad = gradient<V>(e, i);
        pack<float, V> p = read<V>(e.to, i), g;
        UNROLL
        for (int v = 0; v < V; v++)
            g.at[v] = scale * grad.at[v] + decay * p.at[v];
        if (e.first) {
            pack<float, V> b = read<V>(e.first, i);
            UNROLL
            for (int v = 0; v < V; v++) {
                b.at[v] = momentum * b.at[v] + g.at[v];
                g.at[v] = at.nesterov ? g.at[v] + momentum * b.at[v] : b.at[v];
            }
            write<V>(e.first, i, b);
        }
        UNROLL
        for (int v = 0; v < V; v++)
            p.at[v] = keep * p.at[v] - lr * g.at[v];
        average<V>(e, i, p, (float)at.ema, (float)(1 - at.ema));
        return p;
    });
}
template <class To> static void sgd_launch(const kernel_args *a)
{
    for (int k = SGD_HEAD; k < a->n_in;) {
        table t = {.n = 0};
        for (; k < a->n_in && t.n < ENTRIES; k += SGD_TUPLE)
            table_add(&t, a, k, k + UPDATE_GRAD, k + UPDATE_EMA, k + SGD_MOMENTUM, a->n_in, k + SGD_COPY, k + SGD_PLACE);
        if (t.chunks)
            LAUNCH((sgd_kernel<To>), dim3((unsigned)t.chunks), CUDA_THREADS, 0, a->queue, t,
                   (const float *)data_of(a, UPDATE_LR), (const float *)data_of(a, UPDATE_SCALE),
                   *(const sgd_attrs *)a->attr);
    }
}
static void sgd_run(const kernel_args *a)
{
    const dtype t = copies_in(a, SGD_HEAD, SGD_COPY, SGD_TUPLE);
    if (t == DTYPE_F16)
        sgd_launch<__half>(a);
    else if (t == DTYPE_BF16)
        sgd_launch<__nv_bfloat16>(a);
    else
        sgd_launch<float>(a);
}
static bool sgd_takes(const kernel_args *a)
{
    return copies_fit(a, SGD_HEAD, SGD_COPY, SGD_TUPLE);
}

/* What Adam's step number makes of the attributes: once, not in every thread. */
typedef struct adam_step {
    float scale, keep, decay, keep1, take1, keep2, take2, size, over_c2, eps, ema, ema_take;
    int skip;
} adam_step;

__global__ static void adam_step_kernel(adam_step *out, const float *lr_at, const float *scale_at, const float *step_at,
                                        __grid_constant__ const adam_attrs at)
{
    const double lr = scalar(lr_at, 0), scale = scalar(scale_at, 1), step = scalar(step_at, 1);
    adam_step s;
    s.scale = (float)scale;
    s.keep = at.decoupled ? (float)(1 - lr * at.weight_decay) : 1;
    s.decay = at.decoupled ? 0 : (float)at.weight_decay;
    s.keep1 = (float)at.beta1;
    s.take1 = (float)(1 - at.beta1);
    s.keep2 = (float)at.beta2;
    s.take2 = (float)(1 - at.beta2);
    s.size = (float)(lr / (1 - pow(at.beta1, step)));
    s.over_c2 = (float)(1 / sqrt(1 - pow(at.beta2, step)));
    s.eps = (float)at.eps;
    s.ema = (float)at.ema;
    s.ema_take = (float)(1 - at.ema);
    s.skip = !is_finite(scale);
    *out = s;
}

template <class To>
__global__ static void __launch_bounds__(CUDA_THREADS)
    adam_kernel(__grid_constant__ const table t, const adam_step *made)
{
    const entry &e = t.at[table_find(t)];
    const adam_step s = *made;
    if (s.skip)
        return;
    for_parameter<To>(e, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<float, V> grad = gradient<V>(e, i);
        pack<float, V> p = read<V>(e.to, i), m = read<V>(e.first, i), r = read<V>(e.second, i);
        UNROLL
        for (int v = 0; v < V; v++) {
            const float g = s.scale * grad.at[v] + s.decay * p.at[v];
            m.at[v] = s.keep1 * m.at[v] + s.take1 * g;
            r.at[v] = s.keep2 * r.at[v] + s.take2 * (g * g);
            p.at[v] = s.keep * p.at[v] - s.size * m.at[v] / (sqrtf(r.at[v]) * s.over_c2 + s.eps);
        }
        write<V>(e.first, i, m);
        write<V>(e.second, i, r);
        average<V>(e, i, p, s.ema, s.ema_take);
        return p;
    });
}
static size_t adam_workspace(const kernel_args *a)
{
    (void)a;
    return sizeof(adam_step);
}
template <class To> static void adam_launch(const kernel_args *a)
{
    LAUNCH(adam_step_kernel, 1, 1, 0, a->queue, (adam_step *)a->work, (const float *)data_of(a, UPDATE_LR),
           (const float *)data_of(a, UPDATE_SCALE), (const float *)data_of(a, UPDATE_STEP),
           *(const adam_attrs *)a->attr);
    for (int k = ADAM_HEAD; k < a->n_in;) {
        table t = {.n = 0};
        for (; k < a->n_in && t.n < ENTRIES; k += ADAM_TUPLE)
            table_add(&t, a, k, k + UPDATE_GRAD, k + UPDATE_EMA, k + ADAM_M, k + ADAM_V, k + ADAM_COPY, k + ADAM_PLACE);
        if (t.chunks)
            LAUNCH((adam_kernel<To>), dim3((unsigned)t.chunks), CUDA_THREADS, 0, a->queue, t, (const adam_step *)a->work);
    }
}
static void adam_run(const kernel_args *a)
{
    const dtype t = copies_in(a, ADAM_HEAD, ADAM_COPY, ADAM_TUPLE);
    if (t == DTYPE_F16)
        adam_launch<__half>(a);
    else if (t == DTYPE_BF16)
        adam_launch<__nv_bfloat16>(a);
    else
        adam_launch<float>(a);
}
static bool adam_takes(const kernel_args *a)
{
    return copies_fit(a, ADAM_HEAD, ADAM_COPY, ADAM_TUPLE);
}

__global__ static void __launch_bounds__(CUDA_THREADS)
    accumulate_kernel(__grid_constant__ const entry e, const float *share_at)
{
    const float share = share_at ? *share_at : 1;
    for_chunk((int64_t)blockIdx.x, e.n, e.wide, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<float, V> g = gradient<V>(e, i);
        pack<float, V> s = read<V>(e.to, i);
        UNROLL
        for (int v = 0; v < V; v++)
            s.at[v] += share * g.at[v];
        write<V>(e.to, i, s);
    });
}
static void accumulate_run(const kernel_args *a)
{
    table t = {.n = 0};
    table_add(&t, a, ACCUMULATE_SUM, ACCUMULATE_GRAD, a->n_in, a->n_in, a->n_in, a->n_in, ACCUMULATE_PLACE);
    if (t.chunks)
        LAUNCH(accumulate_kernel, dim3((unsigned)t.chunks), CUDA_THREADS, 0, a->queue, t.at[0],
               (const float *)data_of(a, ACCUMULATE_SHARE));
}

__global__ static void clear_kernel(__grid_constant__ const tensor_table t)
{
    const tensor_entry &e = t.at[table_find(t)];
    for_chunk((int64_t)blockIdx.x - e.chunk, e.n, ((uintptr_t)e.data & 15) == 0, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        write<V>(e.data, i, pack<float, V>{});
    });
}
static void clear_run(const kernel_args *a)
{
    for (int k = 0; k < a->n_in;) {
        tensor_table t;
        k = tensors_fill(&t, a, k);
        if (t.chunks)
            LAUNCH(clear_kernel, dim3((unsigned)t.chunks), CUDA_THREADS, 0, a->queue, t);
    }
}

/* ---- GradNorm: sums of squares of chunks, in double; then joined in their order ---- */

__device__ static inline double block_sum_double(double v, double *part)
{
    for (int m = 16; m; m >>= 1)
        v += __shfl_xor_sync(FULL_WARP, v, m);
    if ((threadIdx.x & 31) == 0)
        part[threadIdx.x >> 5] = v;
    __syncthreads();
    v = 0;
    for (int w = 0; w < CUDA_THREADS / 32; w++)
        v += part[w];
    return v;
}

__global__ static void __launch_bounds__(CUDA_THREADS)
    squares_kernel(double *out, __grid_constant__ const tensor_table t)
{
    __shared__ double part[CUDA_THREADS / 32];
    const tensor_entry &e = t.at[table_find(t)];
    double sum = 0;
    for_chunk((int64_t)blockIdx.x - e.chunk, e.n, ((uintptr_t)e.data & 15) == 0, [&](int64_t i, auto width) {
        constexpr int V = decltype(width)::value;
        const pack<float, V> g = read<V>(e.data, i);
        UNROLL
        for (int v = 0; v < V; v++)
            sum += (double)g.at[v] * (double)g.at[v];
    });
    sum = block_sum_double(sum, part);
    if (threadIdx.x == 0)
        out[blockIdx.x] = sum;
}

/* One block. norm_at may be NULL. */
__global__ static void __launch_bounds__(CUDA_THREADS)
norm_kernel(float *scale_at, float *norm_at, const double *squares, int64_t n, double limit)
{
    __shared__ double part[CUDA_THREADS / 32];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += CUDA_THREADS)
        sum += squares[i];
    sum = block_sum_double(sum, part);
    if (threadIdx.x != 0)
        return;
    const double norm = sqrt(sum), scale = limit / (norm + 1e-6);
    *scale_at = !is_finite(norm) ? NAN : scale < 1 ? (float)scale : 1;
    if (norm_at)
        *norm_at = (float)norm;
}
static int64_t all_chunks(const kernel_args *a)
{
    int64_t chunks = 0;
    for (int k = 0; k < a->n_in; k++)
        chunks += (shape_count(&a->in[k].sh) + CHUNK - 1) / CHUNK;
    return chunks;
}
static size_t grad_norm_workspace(const kernel_args *a)
{
    return (size_t)all_chunks(a) * sizeof(double);
}
static void grad_norm_run(const kernel_args *a)
{
    double *work = (double *)a->work;
    for (int k = 0; k < a->n_in;) {
        tensor_table t;
        k = tensors_fill(&t, a, k);
        if (t.chunks)
            LAUNCH(squares_kernel, dim3((unsigned)t.chunks), CUDA_THREADS, 0, a->queue, work, t);
        work += t.chunks;
    }
    LAUNCH(norm_kernel, 1, CUDA_THREADS, 0, a->queue, (float *)a->out[0].data,
           a->n_out > 1 ? (float *)a->out[1].data : (float *)NULL, (const double *)a->work, all_chunks(a),
           ((const grad_norm_attrs *)a->attr)->max_norm);
}

/* ---- LossScale: one thread, in double as on the CPU ---- */

typedef struct loss_scale_places {
    const float *norm, *step;                        /* step: NULL allowed */
    float *scale, *good, *skipped;                   /* written */
    float *update, *true_norm, *now, *skipped_now, *true_step; /* outputs; NULL: absent */
} loss_scale_places;

__device__ static inline void put(float *to, double v)
{
    if (to)
        *to = (float)v;
}
__global__ static void loss_scale_kernel(__grid_constant__ const loss_scale_places p, __grid_constant__ const loss_scale_attrs at)
{
    const double by = *p.scale;
    double norm = *p.norm, now = by, good = *p.good, skipped = *p.skipped, update = NAN;
    put(p.true_step, scalar(p.step, 1) - skipped);
    if (is_finite(norm)) {
        norm /= by;
        update = fmin(1.0, at.max_norm / (norm + 1e-6)) / by;
        good += 1;
        if (good >= (double)at.interval) {
            now *= at.growth;
            good = 0;
        }
    } else {
        now *= at.shrink;
        good = 0;
        skipped += 1;
    }
    now = fmin(fmax(now, at.smallest), at.largest); /* also where it was NaN */
    put(p.scale, now);
    put(p.good, good);
    put(p.skipped, skipped);
    put(p.update, update);
    put(p.true_norm, norm);
    put(p.now, now);
    put(p.skipped_now, skipped);
}
static float *output_of(const kernel_args *a, int i)
{
    return i < a->n_out ? (float *)a->out[i].data : NULL;
}
static void loss_scale_run(const kernel_args *a)
{
    const loss_scale_places p = {.norm = data_of(a, LOSS_SCALE_NORM),
                                 .step = data_of(a, LOSS_SCALE_STEP),
                                 .scale = data_of(a, LOSS_SCALE_SCALE),
                                 .good = data_of(a, LOSS_SCALE_GOOD),
                                 .skipped = data_of(a, LOSS_SCALE_SKIPPED),
                                 .update = output_of(a, LOSS_SCALE_UPDATE),
                                 .true_norm = output_of(a, LOSS_SCALE_TRUE_NORM),
                                 .now = output_of(a, LOSS_SCALE_NOW),
                                 .skipped_now = output_of(a, LOSS_SCALE_SKIPPED_NOW),
                                 .true_step = output_of(a, LOSS_SCALE_TRUE_STEP)};
    LAUNCH(loss_scale_kernel, 1, 1, 0, a->queue, p, *(const loss_scale_attrs *)a->attr);
}

CUDA_TABLE(update) = {
    {.op = OP_SGD_UPDATE, .type = DTYPE_F32, .name = "sgd", .run = sgd_run, .takes = sgd_takes},
    {.op = OP_ADAM_UPDATE, .type = DTYPE_F32, .name = "adam", .run = adam_run, .workspace = adam_workspace,
     .takes = adam_takes},
    {.op = OP_GRAD_NORM, .type = DTYPE_F32, .name = "grad norm", .run = grad_norm_run, .workspace = grad_norm_workspace},
    {.op = OP_LOSS_SCALE, .type = DTYPE_F32, .name = "loss scale", .run = loss_scale_run},
    {.op = OP_ACCUMULATE, .type = DTYPE_F32, .name = "accumulate", .run = accumulate_run},
    {.op = OP_CLEAR, .type = DTYPE_F32, .name = "clear", .run = clear_run},
    KERNEL_END};
