/* loss.cu - losses that are a mean over elements: BceLoss, RegressionLoss and their gradients; formulas in src/ops/loss.c.
 *
 * a, b: [samples, each]. A warp sums a piece of a sample, one block then sums the pieces in their order. Where targets may
 * be unlabelled (a NaN in the sample's b) a sample counts wholly or not at all; else all elements are one sample. */
#include "kernels/cuda/rows.cuh"

#define PIECE     2048
#define KIND_BCE  3 /* beside REGRESSION_* */
#define WARPS     (CUDA_THREADS / 32)

template <int KIND> __device__ static inline float loss_of(float a, float b)
{
    if (KIND == KIND_BCE)
        return (a > 0 ? a : 0) - a * b + log1pf(expf(-fabsf(a)));
    const float d = a - b, m = fabsf(d);
    return KIND == REGRESSION_MSE ? d * d : KIND == REGRESSION_L1 ? m : m < 1 ? d * d * 0.5f : m - 0.5f;
}
template <int KIND> __device__ static inline float slope_of(float a, float b)
{
    if (KIND == KIND_BCE)
        return 1 / (1 + expf(-a)) - b;
    const float d = a - b, sign = d > 0 ? 1 : d < 0 ? -1 : d;
    return KIND == REGRESSION_MSE ? 2 * d : KIND == REGRESSION_L1 ? sign : fabsf(d) < 1 ? d : sign;
}

struct mean_args {
    const float *a, *b, *dy;
    float *loss, *dx;
    int64_t samples, each, pieces; /* pieces of a sample */
    float2 *part;                  /* [samples, pieces]: sum, whether it counts */
    float *share, *counts;         /* gradient of masked samples: dy / elements that count; [samples] 1 or 0 */
};

/* SUM: losses; else only what counts is looked for. */
template <int V, int KIND, bool MASKED, bool SUM> __global__ static void __launch_bounds__(CUDA_THREADS) mean_pieces(mean_args g)
{
    const int lane = (int)(threadIdx.x & 31);
    for (int64_t p = (int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5); p < g.samples * g.pieces; p += (int64_t)gridDim.x * WARPS) {
        const int64_t sample = p / g.pieces, from = (p - sample * g.pieces) * PIECE;
        const int64_t length = g.each - from < PIECE ? g.each - from : PIECE, at = sample * g.each + from;
        float sum = 0, bad = 0;
        for (int64_t i = (int64_t)lane * V; i < length; i += 32 * V) {
            const floats<V> b = floats_at<V>(g.b + at + i, 0);
            for (int j = 0; j < V && MASKED; j++)
                bad = b.v[j] != b.v[j] ? 1 : bad;
            if (SUM) {
                const floats<V> a = floats_at<V>(g.a + at + i, 0);
                float some = 0;
                for (int j = 0; j < V; j++)
                    some += loss_of<KIND>(a.v[j], b.v[j]);
                sum += some;
            }
        }
        if (SUM)
            sum = warp_sum(sum);
        if (MASKED)
            bad = warp_max(bad);
        if (lane == 0)
            g.part[p] = make_float2(sum, 1 - bad);
    }
}

/* One block: the loss, or (share) what the gradient is multiplied with. */
template <bool MASKED> __global__ static void __launch_bounds__(CUDA_THREADS) mean_of_pieces(mean_args g)
{
    __shared__ float part[32];
    float sum = 0, counted = 0;
    for (int64_t s = threadIdx.x; s < (MASKED ? g.samples : g.pieces); s += CUDA_THREADS) {
        float own = 0, in = 1;
        for (int64_t p = 0; p < (MASKED ? g.pieces : 1); p++) {
            const float2 one = g.part[MASKED ? s * g.pieces + p : s];
            own += one.x;
            in = MASKED && one.y == 0 ? 0 : in;
        }
        sum += in != 0 ? own : 0;
        counted += in;
        if (MASKED && g.counts)
            g.counts[s] = in;
    }
    sum = block_sum(sum, part);
    counted = MASKED ? block_sum(counted, part) : 1;
    if (threadIdx.x != 0)
        return;
    const float elements = counted * (float)g.each;
    if (g.loss)
        *g.loss = counted > 0 ? sum / elements : 0;
    if (g.share)
        *g.share = counted > 0 ? *g.dy / elements : 0;
}

template <int V, int KIND, bool MASKED, class INDEX> __global__ static void mean_grad(mean_args g)
{
    const float share = MASKED ? *g.share : *g.dy / (float)g.each;
    GRID_STRIDE(i, g.samples * g.each / V)
    {
        floats<V> a = floats_at<V>(g.a, i);
        const floats<V> b = floats_at<V>(g.b, i);
        for (int j = 0; j < V; j++) {
            const bool in = !MASKED || g.counts[(INDEX)(i * V + j) / (INDEX)g.each] != 0;
            a.v[j] = in ? share * slope_of<KIND>(a.v[j], b.v[j]) : 0;
        }
        floats_put<V>(g.dx, i, a);
    }
}

static mean_args mean_args_of(const kernel_args *a, int first, bool masked)
{
    const shape *x = &a->in[first].sh;
    mean_args g = {.a = (const float *)a->in[first].data, .b = (const float *)a->in[first + 1].data, .dy = NULL, .loss = NULL,
                   .dx = NULL, .samples = masked && x->rank ? x->dim[0] : 1, .part = (float2 *)a->work};
    g.each = shape_count(x) / g.samples;
    g.pieces = (g.each + PIECE - 1) / PIECE;
    return g;
}
static size_t mean_work(const kernel_args *a, int first, bool masked)
{
    const mean_args g = mean_args_of(a, first, masked);
    return (size_t)(g.samples * g.pieces) * sizeof(float2) + (size_t)(g.samples + 1) * sizeof(float);
}
static dim3 pieces_grid(const cuda_queue *q, const mean_args *g)
{
    int64_t blocks = (g->samples * g->pieces + WARPS - 1) / WARPS, most = (int64_t)q->multiprocessors * 16;
    return dim3((unsigned)(blocks < most ? blocks : most));
}

template <int KIND, bool MASKED> static void loss_run(const kernel_args *a)
{
    mean_args g = mean_args_of(a, 0, MASKED);
    g.loss = (float *)a->out[0].data;
    if (g.each % 4 == 0 && is_vector(g.a) && is_vector(g.b))
        LAUNCH((mean_pieces<4, KIND, MASKED, true>), pieces_grid(a->queue, &g), CUDA_THREADS, 0, a->queue, g);
    else
        LAUNCH((mean_pieces<1, KIND, MASKED, true>), pieces_grid(a->queue, &g), CUDA_THREADS, 0, a->queue, g);
    LAUNCH(mean_of_pieces<MASKED>, 1, CUDA_THREADS, 0, a->queue, g);
}

template <int KIND, bool MASKED> static void grad_run(const kernel_args *a)
{
    mean_args g = mean_args_of(a, 1, MASKED);
    const int64_t n = g.samples * g.each;
    const bool vector = n % 4 == 0 && is_vector(g.a) && is_vector(g.b) && is_vector(a->out[0].data);
    g.dy = (const float *)a->in[0].data;
    g.dx = (float *)a->out[0].data;
    if (MASKED) {
        g.share = (float *)(g.part + g.samples * g.pieces);
        g.counts = g.share + 1;
        if (g.each % 4 == 0 && is_vector(g.b))
            LAUNCH((mean_pieces<4, KIND, MASKED, false>), pieces_grid(a->queue, &g), CUDA_THREADS, 0, a->queue, g);
        else
            LAUNCH((mean_pieces<1, KIND, MASKED, false>), pieces_grid(a->queue, &g), CUDA_THREADS, 0, a->queue, g);
        LAUNCH(mean_of_pieces<MASKED>, 1, CUDA_THREADS, 0, a->queue, g);
    }
    if (n >= (int64_t)1 << 31)
        LAUNCH((mean_grad<1, KIND, MASKED, uint64_t>), grid_for(a->queue, n, 2), CUDA_THREADS, 0, a->queue, g);
    else if (vector)
        LAUNCH((mean_grad<4, KIND, MASKED, uint32_t>), grid_for(a->queue, n / 4, 1), CUDA_THREADS, 0, a->queue, g);
    else
        LAUNCH((mean_grad<1, KIND, MASKED, uint32_t>), grid_for(a->queue, n, 2), CUDA_THREADS, 0, a->queue, g);
}

static size_t bce_work(const kernel_args *a)
{
    return mean_work(a, 0, true);
}
static size_t bce_grad_work(const kernel_args *a)
{
    return mean_work(a, 1, true);
}
static size_t regression_work(const kernel_args *a)
{
    return mean_work(a, 0, ((const regression_loss_attrs *)a->attr)->masked);
}
static size_t regression_grad_work(const kernel_args *a)
{
    return mean_work(a, 1, ((const regression_loss_attrs *)a->attr)->masked);
}

typedef void kernel_run(const kernel_args *a);
static void regression_run(const kernel_args *a)
{
    static kernel_run *const of[3][2] = {{loss_run<REGRESSION_MSE, false>, loss_run<REGRESSION_MSE, true>},
                                         {loss_run<REGRESSION_L1, false>, loss_run<REGRESSION_L1, true>},
                                         {loss_run<REGRESSION_SMOOTH_L1, false>, loss_run<REGRESSION_SMOOTH_L1, true>}};
    const regression_loss_attrs *at = (const regression_loss_attrs *)a->attr;
    of[at->kind][at->masked != 0](a);
}
static void regression_grad_run(const kernel_args *a)
{
    static kernel_run *const of[3][2] = {{grad_run<REGRESSION_MSE, false>, grad_run<REGRESSION_MSE, true>},
                                         {grad_run<REGRESSION_L1, false>, grad_run<REGRESSION_L1, true>},
                                         {grad_run<REGRESSION_SMOOTH_L1, false>, grad_run<REGRESSION_SMOOTH_L1, true>}};
    const regression_loss_attrs *at = (const regression_loss_attrs *)a->attr;
    of[at->kind][at->masked != 0](a);
}

CUDA_TABLE(loss) = {
    {.op = OP_BCE_LOSS, .type = DTYPE_F32, .name = "BCE loss", .run = loss_run<KIND_BCE, true>, .workspace = bce_work},
    {.op = OP_BCE_LOSS_GRAD, .type = DTYPE_F32, .name = "BCE loss grad", .run = grad_run<KIND_BCE, true>, .workspace = bce_grad_work},
    {.op = OP_REGRESSION_LOSS, .type = DTYPE_F32, .name = "regression loss", .run = regression_run, .workspace = regression_work},
    {.op = OP_REGRESSION_LOSS_GRAD, .type = DTYPE_F32, .name = "regression loss grad", .run = regression_grad_run,
     .workspace = regression_grad_work},
    KERNEL_END};
