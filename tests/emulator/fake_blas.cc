/* fake_blas.cc - a twin of cuBLASLt on the host: keeps what was asked of it and computes just that, column-major, with the
 * transpositions, steps, batches and epilogues that the descriptors say. What the real library refuses, it refuses. */
extern "C" {
#include "kernels/cuda/blas.h"
}
#include "emulator.h"
#include "fake.h"
#include "kernels/e4m3.h"

#include <vector>

static long fail_at, calls, alive;
static bool failed;
extern "C" void fake_fail_at(long n)
{
    fail_at = n;
    calls = 0;
    failed = false;
}
extern "C" long fake_calls() { return calls; }
extern "C" bool fake_failed() { return failed; }
extern "C" long fake_alive() { return alive; }
bool fake_fails()
{
    bool now = ++calls == fail_at;
    failed = failed || now;
    return now;
}
void fake_count(long made) { alive += made; }

enum { NOT_SUPPORTED = 15, INVALID = 7, INTERNAL = 14 };
#define MAY_FAIL()                                                                                                     \
    if (fake_fails())                                                                                                  \
    return INTERNAL

namespace {
const uint64_t MAGIC = 0xB1A5;
const size_t WORKSPACE = 640;

struct layout {
    int type;
    int64_t rows, cols, step, batch_step;
    int32_t count;
};
struct product {
    int compute;
    int32_t transposed_a, transposed_b, epilogue;
    void *bias; /* read, or where sums go; of y's type, as is what AUX keeps */
    void *aux;
    int64_t aux_step;
};

float load(const void *p, int type, int64_t i)
{
    if (type == BLAS_R_32F)
        return ((const float *)p)[i];
    if (type == BLAS_R_8F_E4M3)
        return e4m3_value(((const uint8_t *)p)[i]);
    const uint16_t bits = ((const uint16_t *)p)[i];
    return type == BLAS_R_16F ? __half2float({bits}) : __bfloat162float({bits});
}

void store(void *p, int type, int64_t i, float v)
{
    if (type == BLAS_R_32F)
        ((float *)p)[i] = v;
    else
        ((uint16_t *)p)[i] = type == BLAS_R_16F ? __float2half_rn(v).bits : __float2bfloat16_rn(v).bits;
}

/* What is kept of relu is a bit for every element. */
const int SLOPES = (BLAS_EPILOGUE_GELU_TANH_SLOPE | BLAS_EPILOGUE_RELU_SLOPE) & ~BLAS_EPILOGUE_AUX;
bool has_bits(const product &p)
{
    return p.epilogue & BLAS_EPILOGUE_AUX && p.epilogue & (BLAS_EPILOGUE_RELU | (BLAS_EPILOGUE_RELU_SLOPE & ~BLAS_EPILOGUE_AUX));
}

/* As the library checks: sizes go together, steps are large enough, types are a combination that it has. */
bool fits(const product &p, const layout &a, const layout &b, const layout &c, const layout &d)
{
    int64_t m = p.transposed_a ? a.cols : a.rows, k = p.transposed_a ? a.rows : a.cols, n = p.transposed_b ? b.rows : b.cols;
    if ((p.transposed_b ? b.cols : b.rows) != k || d.rows != m || d.cols != n || c.rows != m || c.cols != n)
        return false;
    if (a.step < a.rows || b.step < b.rows || c.step < m || d.step < m || a.type != b.type || (d.type != BLAS_R_32F && d.type != a.type) || c.type != d.type)
        return false;
    if (a.count != b.count || a.count != d.count || a.count != c.count)
        return false;
    if (a.type == BLAS_R_8F_E4M3 && (!p.transposed_a || p.transposed_b || k % 16 || m % 16 || a.step % 16 || b.step % 16 ||
                                     p.epilogue & BLAS_EPILOGUE_BIAS)) /* its bias would be bfloat16 */
        return false;
    if (a.type != BLAS_R_32F && p.compute != BLAS_COMPUTE_32F)
        return false;
    switch (p.epilogue) { /* cublasLtEpilogue_t: sums and slopes with nothing else, one product at a time */
    case BLAS_EPILOGUE_SUMS_FIRST:
    case BLAS_EPILOGUE_SUMS_SECOND:
    case BLAS_EPILOGUE_GELU_TANH_SLOPE:
    case BLAS_EPILOGUE_RELU_SLOPE:
        if (a.count != 1)
            return false;
        break;
    default:
        if (p.epilogue & (BLAS_EPILOGUE_SUMS | SLOPES))
            return false;
    }
    if ((p.epilogue & (BLAS_EPILOGUE_BIAS | BLAS_EPILOGUE_SUMS) && !p.bias) || (p.epilogue & BLAS_EPILOGUE_AUX && (!p.aux || p.aux_step % (has_bits(p) ? 128 : 8) || p.aux_step < m)))
        return false;
    return true;
}

void multiply(product p, float alpha, const void *a, layout la, const void *b, layout lb, float beta, const void *c, layout lc, void *d,
              layout ld)
{
    int64_t k = p.transposed_a ? la.rows : la.cols;
    for (int64_t row = 0; p.epilogue == BLAS_EPILOGUE_SUMS_FIRST && row < ld.rows; row++) {
        float sum = 0;
        for (int64_t j = 0; j < k; j++)
            sum += load(a, la.type, p.transposed_a ? row * la.step + j : j * la.step + row);
        store(p.bias, ld.type, row, sum);
    }
    for (int64_t col = 0; p.epilogue == BLAS_EPILOGUE_SUMS_SECOND && col < ld.cols; col++) {
        float sum = 0;
        for (int64_t j = 0; j < k; j++)
            sum += load(b, lb.type, p.transposed_b ? j * lb.step + col : col * lb.step + j);
        store(p.bias, ld.type, col, sum);
    }
    for (int32_t i = 0; i < ld.count; i++)
        for (int64_t col = 0; col < ld.cols; col++)
            for (int64_t row = 0; row < ld.rows; row++) {
                float sum = 0;
                for (int64_t j = 0; j < k; j++)
                    sum += load(a, la.type, i * la.batch_step + (p.transposed_a ? row * la.step + j : j * la.step + row)) *
                           load(b, lb.type, i * lb.batch_step + (p.transposed_b ? j * lb.step + col : col * lb.step + j));
                float v = alpha * sum;
                if (beta != 0)
                    v += beta * load(c, lc.type, i * lc.batch_step + col * lc.step + row);
                if (p.epilogue & BLAS_EPILOGUE_BIAS)
                    v += load(p.bias, ld.type, row);
                if (has_bits(p)) {
                    unsigned char *at = (unsigned char *)p.aux + (col * p.aux_step + row) / 8;
                    const int bit = 1 << row % 8;
                    if (p.epilogue == BLAS_EPILOGUE_RELU_SLOPE)
                        v = *at & bit ? v : 0;
                    else
                        *at = (unsigned char)((*at & ~bit) | (v > 0 ? bit : 0));
                } else if (p.epilogue == BLAS_EPILOGUE_GELU_TANH_SLOPE) {
                    const float x = load(p.aux, ld.type, col * p.aux_step + row), t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
                    v *= 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.79788456f * (1 + 3 * 0.044715f * x * x);
                } else if (p.epilogue & BLAS_EPILOGUE_AUX)
                    store(p.aux, ld.type, col * p.aux_step + row, v);
                if (p.epilogue & BLAS_EPILOGUE_RELU)
                    v = v < 0 ? 0 : v;
                if (p.epilogue & BLAS_EPILOGUE_GELU_TANH)
                    v = 0.5f * v * (1 + tanhf(0.79788456f * (v + 0.044715f * v * v * v)));
                store(d, ld.type, i * ld.batch_step + col * ld.step + row, v);
            }
}

template <class T> int make(void **out, T what)
{
    MAY_FAIL();
    *out = new T(what);
    fake_count(1);
    return 0;
}
template <class T> int unmake(void *p)
{
    delete (T *)p;
    fake_count(-1);
    return 0;
}

int blas_create(void **handle) { return make(handle, (int)0); }
int blas_destroy(void *handle) { return unmake<int>(handle); }
int blas_product_create(void **out, int compute, int scale)
{
    return scale == BLAS_R_32F ? make(out, product{compute, 0, 0, BLAS_EPILOGUE_NONE, nullptr, nullptr, 0}) : (int)INVALID;
}
int blas_product_destroy(void *p) { return unmake<product>(p); }
int blas_product_set(void *to, int attribute, const void *from, size_t bytes)
{
    product *p = (product *)to;
    MAY_FAIL();
#define TAKE(which, field)                                                                                             \
    case which:                                                                                                        \
        if (bytes != sizeof p->field)                                                                                  \
            return INVALID;                                                                                            \
        memcpy(&p->field, from, bytes);                                                                                \
        return 0
    switch (attribute) {
        TAKE(BLAS_PRODUCT_TRANSA, transposed_a);
        TAKE(BLAS_PRODUCT_TRANSB, transposed_b);
        TAKE(BLAS_PRODUCT_EPILOGUE, epilogue);
        TAKE(BLAS_PRODUCT_BIAS_POINTER, bias);
        TAKE(BLAS_PRODUCT_AUX_POINTER, aux);
        TAKE(BLAS_PRODUCT_AUX_LD, aux_step);
    }
    return INVALID;
#undef TAKE
}
int blas_layout_create(void **out, int type, uint64_t rows, uint64_t cols, int64_t step)
{
    return make(out, layout{type, (int64_t)rows, (int64_t)cols, step, 0, 1});
}
int blas_layout_destroy(void *p) { return unmake<layout>(p); }
int blas_layout_set(void *to, int attribute, const void *from, size_t bytes)
{
    layout *l = (layout *)to;
    MAY_FAIL();
    if (attribute == BLAS_LAYOUT_BATCH_COUNT && bytes == sizeof l->count)
        memcpy(&l->count, from, bytes);
    else if (attribute == BLAS_LAYOUT_BATCH_STEP && bytes == sizeof l->batch_step)
        memcpy(&l->batch_step, from, bytes);
    else
        return INVALID;
    return 0;
}
int blas_preference_create(void **out) { return make(out, (int)0); }
int blas_preference_destroy(void *p) { return unmake<int>(p); }
int blas_preference_set(void *, int attribute, const void *, size_t bytes)
{
    MAY_FAIL();
    return bytes == (attribute == BLAS_PREFER_WORKSPACE ? 8u : 4u) ? 0 : (int)INVALID;
}
int blas_choose(void *, void *what, void *a, void *b, void *c, void *d, void *, int wanted, blas_choice *out, int *n)
{
    MAY_FAIL();
    *n = 0;
    if (wanted < 1 || !fits(*(product *)what, *(layout *)a, *(layout *)b, *(layout *)c, *(layout *)d))
        return NOT_SUPPORTED;
    *out = {};
    out->algorithm[0] = MAGIC;
    out->workspace = WORKSPACE;
    *n = 1;
    return 0;
}
int blas_multiply(void *, void *what, const void *alpha, const void *a, void *la, const void *b, void *lb, const void *beta, const void *c,
                  void *lc, void *d, void *ld, const uint64_t *algorithm, void *work, size_t work_size, void *stream)
{
    MAY_FAIL();
    const product p = *(product *)what;
    const layout A = *(layout *)la, B = *(layout *)lb, C = *(layout *)lc, D = *(layout *)ld;
    const float x = *(const float *)alpha, y = *(const float *)beta;
    if (algorithm[0] != MAGIC || work_size < WORKSPACE || !work || ((uintptr_t)work & 15) || !fits(p, A, B, C, D))
        return INVALID;
    for (const void *at : {a, b, c, (const void *)d, p.epilogue & (BLAS_EPILOGUE_BIAS | BLAS_EPILOGUE_SUMS) ? (const void *)p.bias : nullptr,
                           p.epilogue & BLAS_EPILOGUE_AUX ? (const void *)p.aux : nullptr})
        if ((uintptr_t)at & 15) /* what the preference and the pointers at planning promise */
            return INVALID;
    emulator_enqueue(stream, [=] {
        memset(work, 0xEE, WORKSPACE);
        multiply(p, x, a, A, b, B, y, c, C, d, D);
    });
    return 0;
}
} // namespace

extern "C" const blas_api fake_blas_api = {
#define FIELD(field, name, parameters, arguments) .field = blas_##field,
    BLAS_API(FIELD)
#undef FIELD
};
