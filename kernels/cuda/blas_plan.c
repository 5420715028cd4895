/* blas_plan.c - from a product's sizes to an algorithm of cuBLASLt, by its heuristic, once; then only the call is left. */
#include "base/mem.h"
#include "kernels/cuda/blas.h"

#include <string.h>

#define MOST_WORKSPACE ((uint64_t)32 << 20) /* what NVIDIA advises for sm_90 */
#define ALIGNMENT      16u                  /* of every operand, in bytes */

int cuda_blas_open(const blas_api *api, cuda_blas **out)
{
    cuda_blas *b;
    *out = NULL;
    if (mem_alloc(&b, 1, sizeof *b) != ST_OK)
        return -1;
    b->api = api;
    int code = api->create(&b->handle);
    if (code != 0) {
        mem_free(b);
        return code;
    }
    *out = b;
    return 0;
}

static void free_plan(const blas_api *api, blas_plan *p)
{
    if (!p)
        return;
    if (p->product)
        api->product_destroy(p->product);
    for (int i = 0; i < 3; i++) {
        void *layout = i == 0 ? p->a : i == 1 ? p->b : p->y;
        if (layout)
            api->layout_destroy(layout);
    }
    mem_free(p);
}

void cuda_blas_close(cuda_blas *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->n_plan; i++)
        free_plan(b->api, b->plan[i]);
    b->api->destroy(b->handle);
    mem_free(b->plan);
    mem_free(b);
}

/* ---- making a plan: the first failure ends it ---- */

static bool set_product(const blas_api *api, blas_plan *p, int attribute, const void *from, size_t bytes)
{
    return api->product_set(p->product, attribute, from, bytes) == 0;
}

/* Elements from a row of what is kept to the next: of relu a bit each, in whole groups of 128. */
static int64_t aux_step(const blas_key *k)
{
    const bool bits = k->epilogue & (BLAS_EPILOGUE_RELU | (BLAS_EPILOGUE_RELU_SLOPE & ~BLAS_EPILOGUE_AUX));
    return bits ? (k->n + 127) / 128 * 128 : k->n;
}

static bool make_product(const blas_api *api, blas_plan *p)
{
    const blas_key *k = &p->key;
    const int64_t step = aux_step(k);
    int32_t first = k->b_transposed ? BLAS_OP_T : BLAS_OP_N, second = k->a_transposed ? BLAS_OP_T : BLAS_OP_N;
    if (api->product_create(&p->product, k->compute, BLAS_R_32F) != 0) {
        p->product = NULL;
        return false;
    }
    if (!set_product(api, p, BLAS_PRODUCT_TRANSA, &first, sizeof first) ||
        !set_product(api, p, BLAS_PRODUCT_TRANSB, &second, sizeof second) ||
        !set_product(api, p, BLAS_PRODUCT_EPILOGUE, &k->epilogue, sizeof k->epilogue))
        return false;
    void *somewhere = (void *)(uintptr_t)ALIGNMENT; /* the heuristic wants to know how pointers will be aligned */
    if (k->epilogue & (BLAS_EPILOGUE_BIAS | BLAS_EPILOGUE_SUMS) && !set_product(api, p, BLAS_PRODUCT_BIAS_POINTER, &somewhere, sizeof somewhere))
        return false;
    return !(k->epilogue & BLAS_EPILOGUE_AUX) ||
           (set_product(api, p, BLAS_PRODUCT_AUX_POINTER, &somewhere, sizeof somewhere) &&
            set_product(api, p, BLAS_PRODUCT_AUX_LD, &step, sizeof step));
}

/* The matrix that lies as [rows, cols] row-major: [cols, rows] there. */
static bool make_layout(const blas_api *api, const blas_key *k, int type, int64_t rows, int64_t cols, int64_t step, void **out)
{
    int32_t count = (int32_t)k->count;
    if (api->layout_create(out, type, (uint64_t)cols, (uint64_t)rows, cols) != 0) {
        *out = NULL;
        return false;
    }
    return k->count == 1 || (api->layout_set(*out, BLAS_LAYOUT_BATCH_COUNT, &count, sizeof count) == 0 &&
                             api->layout_set(*out, BLAS_LAYOUT_BATCH_STEP, &step, sizeof step) == 0);
}

static bool make_layouts(const blas_api *api, blas_plan *p)
{
    const blas_key *k = &p->key;
    bool ta = k->a_transposed != 0, tb = k->b_transposed != 0;
    return make_layout(api, k, k->type, ta ? k->k : k->m, ta ? k->m : k->k, k->a_step, &p->a) &&
           make_layout(api, k, k->type, tb ? k->n : k->k, tb ? k->k : k->n, k->b_step, &p->b) &&
           make_layout(api, k, k->y_type, k->m, k->n, k->m * k->n, &p->y);
}

static bool set_preference(const blas_api *api, void *preference)
{
    const uint32_t reductions = BLAS_REDUCE_IN_WORKSPACE, alignment = ALIGNMENT;
    const uint64_t most = MOST_WORKSPACE;
    bool ok = api->preference_set(preference, BLAS_PREFER_WORKSPACE, &most, sizeof most) == 0 &&
              api->preference_set(preference, BLAS_PREFER_REDUCTIONS, &reductions, sizeof reductions) == 0;
    for (int i = BLAS_PREFER_ALIGNMENT_A; ok && i <= BLAS_PREFER_ALIGNMENT_D; i++)
        ok = api->preference_set(preference, i, &alignment, sizeof alignment) == 0;
    return ok;
}

static bool choose(const cuda_blas *b, blas_plan *p)
{
    void *preference = NULL;
    int found = 0;
    if (b->api->preference_create(&preference) != 0)
        return false;
    bool ok = set_preference(b->api, preference) && b->api->choose(b->handle, p->product, p->b, p->a, p->y, p->y, preference, 1,
                                                                   &p->choice, &found) == 0;
    b->api->preference_destroy(preference);
    return ok && found == 1 && p->choice.state == 0 && p->choice.workspace <= MOST_WORKSPACE;
}

const blas_plan *cuda_blas_plan(cuda_queue *q, const blas_key *key)
{
    cuda_blas *b = q->blas;
    blas_plan *p;
    if (!b || key->count > INT32_MAX)
        return NULL;
    for (size_t i = 0; i < b->n_plan; i++)
        if (memcmp(&b->plan[i]->key, key, sizeof *key) == 0)
            return b->plan[i]->usable ? b->plan[i] : NULL;
    if (mem_grow(&b->plan, b->n_plan + 1, sizeof(blas_plan *)) != ST_OK || mem_alloc(&p, 1, sizeof *p) != ST_OK)
        return NULL;
    p->key = *key;
    b->plan[b->n_plan++] = p;
    p->usable = make_product(b->api, p) && make_layouts(b->api, p) && choose(b, p);
    return p->usable ? p : NULL;
}

void cuda_blas_run(cuda_queue *q, const blas_plan *p, const blas_operands *o)
{
    const blas_api *api = q->blas->api;
    const float beta = p->key.adds ? o->beta : 0;
    const void *const vector = p->key.epilogue & BLAS_EPILOGUE_SUMS ? o->sums : o->bias; /* one attribute says where either is */
    if (q->failed)
        return;
    if (p->key.epilogue & (BLAS_EPILOGUE_BIAS | BLAS_EPILOGUE_SUMS) &&
        !cuda_note(q, "cublasLtMatmulDescSetAttribute",
                   cuda_library_code(CUDA_BLAS_CODES, api->product_set(p->product, BLAS_PRODUCT_BIAS_POINTER, &vector, sizeof vector))))
        return;
    if (p->key.epilogue & BLAS_EPILOGUE_AUX &&
        !cuda_note(q, "cublasLtMatmulDescSetAttribute",
                   cuda_library_code(CUDA_BLAS_CODES, api->product_set(p->product, BLAS_PRODUCT_AUX_POINTER, &o->aux, sizeof o->aux))))
        return;
    cuda_note(q, "cublasLtMatmul",
              cuda_library_code(CUDA_BLAS_CODES, api->multiply(q->blas->handle, p->product, &o->alpha, o->b, p->b, o->a, p->a, &beta,
                                           p->key.adds ? o->c : o->y, p->y, o->y, p->y, p->choice.algorithm, o->work,
                                           p->choice.workspace, q->stream)));
}
