/* kd_loss.cu - KdLoss: cross entropy, Kullback-Leibler divergence and their gradient; formulas in src/ops/loss.c.
 *
 * One pass: a warp (a long row: a block) reads a row of logits and one of the teacher's, keeps them in registers, and writes
 * the gradient and the row's losses, which a second launch of one block sums in the order of the rows. */
#include "kernels/cuda/mixed.cuh"
#include "kernels/cuda/rows.cuh"

struct kd_args {
    const float *z, *teacher, *lambda, *weights; /* teacher, lambda: NULL allowed; weights: w_task, w_kd, T */
    const int64_t *label, *label2;               /* NULL allowed */
    const float *class_weights, *divisor;        /* in the workspace; NULL: all 1; NULL: the number of rows */
    void *dz;
    int dz_kind; /* MIXED_*: the gradient may lie in bfloat16, for products that read it (float16 has it scaled first) */
    float4 *made; /* of every row: CE, KL, correct, agrees */
    int64_t rows, classes;
    float smoothing;
};

struct kd_label {
    int64_t first, second, main; /* main: the one with the larger share */
    float share;                 /* of the first */
    bool labelled;
};
__device__ static inline kd_label label_of(const kd_args &g, int64_t r)
{
    kd_label l = {g.label ? g.label[r] : -1, 0, 0, 1, false};
    if (g.label2) {
        l.share = g.lambda[r];
        l.second = g.label2[r];
    }
    l.labelled = (l.share == 0 || l.first >= 0) && (l.share == 1 || l.second >= 0) && g.label;
    l.main = l.share >= 0.5f ? l.first : l.second;
    if (l.share == 0) /* a label without a share is not looked at */
        l.first = l.second;
    if (l.share == 1)
        l.second = l.first;
    return l;
}
__device__ static inline float target_of(const kd_args &g, const kd_label &l, int64_t c)
{
    const float on = (c == l.first ? l.share : 0) + (c == l.second ? 1 - l.share : 0);
    return (g.class_weights ? g.class_weights[c] : 1) * ((1 - g.smoothing) * on + g.smoothing / (float)g.classes);
}

/* The largest of a row and the first place where it is. */
struct peak {
    float value;
    int at;
};
__device__ static inline void peak_join(peak &a, float value, int at)
{
    if (value > a.value || (value == a.value && at < a.at))
        a = {value, at};
}
__device__ static inline peak warp_peak(peak a)
{
    for (int m = 16; m; m >>= 1) {
        const float value = __shfl_xor_sync(FULL_WARP, a.value, m);
        const int at = __shfl_xor_sync(FULL_WARP, a.at, m);
        peak_join(a, value, at);
    }
    return a;
}
template <bool BLOCK> __device__ static inline peak row_peak(peak a, float *part, int *place)
{
    a = warp_peak(a);
    if (!BLOCK)
        return a;
    __syncthreads();
    if ((threadIdx.x & 31) == 0) {
        part[threadIdx.x >> 5] = a.value;
        place[threadIdx.x >> 5] = a.at;
    }
    __syncthreads();
    a = {-INFINITY, INT32_MAX};
    if ((threadIdx.x & 31) < ROW_THREADS / 32)
        a = {part[threadIdx.x & 31], place[threadIdx.x & 31]};
    return warp_peak(a);
}

template <int V, int K, bool BLOCK, bool TEACHER> __global__ static void __launch_bounds__(ROW_THREADS) kd_rows(kd_args g)
{
    __shared__ float part[32];
    __shared__ int place[32];
    const int64_t n = g.classes;
    const float w_task = g.weights[0], w_kd = g.weights[1], temperature = g.weights[2], over = 1 / temperature;
    const float divisor = g.divisor ? *g.divisor : (float)g.rows, share = divisor > 0 ? w_task / divisor : 0;
    const float factor = TEACHER ? w_kd * temperature / (float)g.rows : 0;
    EACH_ROW(r, g.rows)
    {
        row_part<V, K> z, t;
        peak pz = {-INFINITY, INT32_MAX}, pt = pz;
        LOAD_ROW(z, g.z + r * n, n);
        if (TEACHER)
            LOAD_ROW(t, g.teacher + r * n, n);
        EACH_PACK(k, i, n)
        {
            const floats<V> a = z.get(k, i);
            for (int j = 0; j < V; j++)
                peak_join(pz, a.v[j], (int)i + j);
            if (TEACHER) {
                const floats<V> b = t.get(k, i);
                for (int j = 0; j < V; j++)
                    peak_join(pt, b.v[j], (int)i + j);
            }
        }
        pz = row_peak<BLOCK>(pz, part, place);
        if (TEACHER)
            pt = row_peak<BLOCK>(pt, part, place);
        const kd_label l = label_of(g, r);
        const bool valid = l.labelled && l.first < n && l.second < n;
        float sum_z = 0, sum_t = 0, dot = 0, sum = 0, off = 0, all = 0;
        EACH_PACK(k, i, n)
        {
            const floats<V> a = z.get(k, i);
            if (valid)
                for (int j = 0; j < V; j++) {
                    const float d = a.v[j] - pz.value, q = target_of(g, l, i + j);
                    sum += expf(d);
                    all += q;
                    off += q > 0 ? q * d : 0;
                }
            if (TEACHER) {
                const floats<V> b = t.get(k, i);
                for (int j = 0; j < V; j++) {
                    const float dz = (a.v[j] - pz.value) * over, dt = (b.v[j] - pt.value) * over, e = expf(dt);
                    sum_z += expf(dz);
                    sum_t += e;
                    dot += e > 0 ? e * (dt - dz) : 0; /* a class without probability counts nothing, however far off */
                }
            }
        }
        float4 made = make_float4(0, 0, l.labelled && (pz.at == INT32_MAX ? 0 : pz.at) == l.main ? 1.0f : 0.0f, 0);
        float of_z = 0, of_t = 0, of_ce = 0;
        if (TEACHER) {
            sum_z = row_sum<BLOCK>(sum_z, part);
            sum_t = row_sum<BLOCK>(sum_t, part);
            dot = row_sum<BLOCK>(dot, part);
            made.y = dot / sum_t + logf(sum_z) - logf(sum_t);
            made.w = pz.at == pt.at ? 1 : 0;
            of_z = factor / sum_z;
            of_t = factor / sum_t;
        }
        if (valid) { /* of the whole row alike */
            sum = row_sum<BLOCK>(sum, part);
            off = row_sum<BLOCK>(off, part);
            all = g.class_weights ? row_sum<BLOCK>(all, part) : 1;
            made.x = all * logf(sum) - off;
            of_ce = share * all / sum;
        } else if (l.labelled) {
            made.x = NAN;
        }
        EACH_PACK(k, i, n)
        {
            const floats<V> a = z.get(k, i);
            pack<float, V> d;
            for (int j = 0; j < V; j++)
                d.at[j] = l.labelled && !valid && w_task != 0 ? NAN : 0;
            if (TEACHER && factor != 0) {
                const floats<V> b = t.get(k, i);
                for (int j = 0; j < V; j++)
                    d.at[j] += expf((a.v[j] - pz.value) * over) * of_z - expf((b.v[j] - pt.value) * over) * of_t;
            }
            if (valid && share != 0)
                for (int j = 0; j < V; j++)
                    d.at[j] += expf(a.v[j] - pz.value) * of_ce - share * target_of(g, l, i + j);
            mixed_store<V>(g.dz, g.dz_kind, r * n + i, d);
        }
        if ((BLOCK ? threadIdx.x : threadIdx.x & 31) == 0)
            g.made[r] = made;
    }
}

/* The rows' losses together. out: total, CE, KL, and where wanted the rows that are correct and that agree. */
struct kd_outputs {
    float *total, *ce, *kl, *correct, *agree;
};
__global__ static void __launch_bounds__(ROW_THREADS) kd_sum(kd_args g, kd_outputs out)
{
    __shared__ float part[32];
    float4 all = make_float4(0, 0, 0, 0);
    for (int64_t r = threadIdx.x; r < g.rows; r += ROW_THREADS) {
        all.x += g.made[r].x;
        all.y += g.made[r].y;
        all.z += g.made[r].z;
        all.w += g.made[r].w;
    }
    all.x = block_sum(all.x, part);
    all.y = block_sum(all.y, part);
    all.z = block_sum(all.z, part);
    all.w = block_sum(all.w, part);
    if (threadIdx.x != 0)
        return;
    const float w_task = g.weights[0], w_kd = g.weights[1], temperature = g.weights[2];
    const float divisor = g.divisor ? *g.divisor : (float)g.rows;
    const float ce = divisor > 0 ? all.x / divisor : all.x, kl = all.y * (temperature * temperature / (float)g.rows);
    *out.total = (w_task != 0 ? w_task * ce : 0) + (w_kd != 0 && g.teacher ? w_kd * kl : 0);
    *out.ce = ce;
    *out.kl = kl;
    if (out.correct)
        *out.correct = all.z;
    if (out.agree)
        *out.agree = all.w;
}

/* per_labelled: the weights of all labels. */
__global__ static void __launch_bounds__(ROW_THREADS) kd_divisor(kd_args g, float *to)
{
    __shared__ float part[32];
    float sum = 0;
    for (int64_t r = threadIdx.x; r < g.rows; r += ROW_THREADS) {
        const kd_label l = label_of(g, r);
        if (!l.labelled || l.first >= g.classes || l.second >= g.classes)
            continue;
        sum += l.share * (g.class_weights ? g.class_weights[l.first] : 1) + (1 - l.share) * (g.class_weights ? g.class_weights[l.second] : 1);
    }
    sum = block_sum(sum, part);
    if (threadIdx.x == 0)
        *to = sum;
}

/* Class weights are an attribute, which the host has: some with every launch. */
struct some_weights {
    float v[512];
    int n;
};
__global__ static void put_weights(float *to, some_weights w)
{
    for (int i = (int)threadIdx.x; i < w.n; i += (int)blockDim.x)
        to[i] = w.v[i];
}

static void put_class_weights(cuda_queue *q, attr_floats from, float *to)
{
    for (int64_t done = 0; done < from.n;) {
        some_weights w = {.v = {0}, .n = (int)(from.n - done < 512 ? from.n - done : 512)};
        for (int i = 0; i < w.n; i++)
            w.v[i] = (float)from.v[done + i];
        LAUNCH(put_weights, 1, 256, 0, q, to + done, w);
        done += w.n;
    }
}

/* In the workspace: float4 a row, the divisor, class weights. */
static size_t kd_work(const kernel_args *a)
{
    const size_t classes = (size_t)a->in[0].sh.dim[a->in[0].sh.rank - 1], rows = (size_t)shape_count(&a->in[0].sh) / classes;
    return (rows + 1) * sizeof(float4) + classes * sizeof(float);
}

static void kd_run(const kernel_args *a)
{
    const kd_loss_attrs *at = (const kd_loss_attrs *)a->attr;
    const void *in[6] = {0};
    void *out[6] = {0};
    for (int i = 0; i < a->n_in; i++)
        in[i] = a->in[i].data;
    for (int i = 0; i < a->n_out; i++)
        out[i] = a->out[i].data;
    kd_args g = {.z = (const float *)in[0], .teacher = (const float *)in[1], .lambda = (const float *)in[4],
                 .weights = (const float *)in[5], .label = (const int64_t *)in[2], .label2 = (const int64_t *)in[3],
                 .class_weights = NULL, .divisor = NULL, .dz = out[3], .dz_kind = mixed_kind_of(a->out[3].type), .made = (float4 *)a->work,
                 .classes = a->in[0].sh.dim[a->in[0].sh.rank - 1], .smoothing = (float)at->label_smoothing};
    g.rows = shape_count(&a->in[0].sh) / g.classes;
    float *divisor = (float *)(g.made + g.rows), *weights = divisor + 4;
    const bool vector = g.classes % 4 == 0 && is_vector(g.z) && is_vector(g.teacher) && is_vector(g.dz);
    if (at->class_weights.v) {
        put_class_weights(a->queue, at->class_weights, weights);
        g.class_weights = weights;
    }
    if (at->per_labelled) {
        LAUNCH(kd_divisor, 1, ROW_THREADS, 0, a->queue, g, divisor);
        g.divisor = divisor;
    }
    if (g.teacher)
        LAUNCH_ROWS(kd_rows, true, g.rows, g.classes, vector, a->queue, g);
    else
        LAUNCH_ROWS(kd_rows, false, g.rows, g.classes, vector, a->queue, g);
    const kd_outputs sums = {(float *)out[0], (float *)out[1], (float *)out[2], (float *)out[4], (float *)out[5]};
    LAUNCH(kd_sum, 1, ROW_THREADS, 0, a->queue, g, sums);
}

CUDA_TABLE(kd_loss) = {
    {.op = OP_KD_LOSS, .type = DTYPE_F32, .name = "KD loss", .run = kd_run, .workspace = kd_work},
    {.op = OP_KD_LOSS, .name = "KD loss, gradient BF16", .run = kd_run, .workspace = kd_work, .narrow = DTYPE_BF16, .narrow_out = 8},
    KERNEL_END};
