/* element.cuh - elements of a type that is known only when a kernel runs; how each type is computed with. */
#ifndef DISTILL_KERNELS_CUDA_ELEMENT_CUH
#define DISTILL_KERNELS_CUDA_ELEMENT_CUH

#include "kernels/cuda/cuda.cuh"

/* In what elements of type T are computed with: halves in float, others in their own type. */
template <class T> struct arithmetic {
    typedef T number;
    __device__ static T load(T v) { return v; }
    __device__ static T store(T v) { return v; }
};
template <class T> struct half_arithmetic {
    typedef float number;
    __device__ static float load(T v) { return as_float(v); }
    __device__ static T store(float v) { return from_float<T>(v); }
};
template <> struct arithmetic<__half> : half_arithmetic<__half> {};
template <> struct arithmetic<__nv_bfloat16> : half_arithmetic<__nv_bfloat16> {};

/* X(enum, type in kernels) over the whole numbers, and over the halves. */
#define WHOLE_TYPES(X)                                                                                                 \
    X(I8, int8_t) X(U8, uint8_t) X(I16, int16_t) X(U16, uint16_t) X(I32, int32_t) X(U32, uint32_t) X(I64, int64_t)     \
    X(U64, uint64_t)
#define HALF_TYPES(X) X(F16, __half) X(BF16, __nv_bfloat16)

/* A whole number, sign-extended; bool is 0 or 1. */
__device__ static inline uint64_t load_whole(dtype t, const void *data, int64_t i)
{
    switch (t) {
#define LOAD_WHOLE(E, T)                                                                                               \
    case DTYPE_##E: return (uint64_t)((const T *)data)[i];
        WHOLE_TYPES(LOAD_WHOLE)
    default: return ((const uint8_t *)data)[i];
    }
}

/* Wraps; to bool: whether it is not 0. */
__device__ static inline void store_whole(dtype t, void *data, int64_t i, uint64_t v)
{
    switch (t) {
#define STORE_WHOLE(E, T)                                                                                              \
    case DTYPE_##E: ((T *)data)[i] = (T)v; break;
        WHOLE_TYPES(STORE_WHOLE)
    default: ((uint8_t *)data)[i] = v != 0; break;
    }
}

/* Any type as double, and back: cut towards 0, saturating, NaN to 0; floats are rounded to nearest even, once. */
__device__ static inline double load_number(dtype t, const void *data, int64_t i)
{
    switch (t) {
    case DTYPE_F64: return ((const double *)data)[i];
    case DTYPE_F32: return (double)((const float *)data)[i];
    case DTYPE_F16: return (double)as_float(((const __half *)data)[i]);
    case DTYPE_BF16: return (double)as_float(((const __nv_bfloat16 *)data)[i]);
    case DTYPE_U64: return (double)((const uint64_t *)data)[i];
    default: return (double)(int64_t)load_whole(t, data, i);
    }
}

/* A double as float so that rounding it once more to fewer bits is the same as rounding at once (round to odd). */
__device__ static inline float round_odd(double v)
{
    float f = (float)v;
    uint32_t bits;
    if ((double)f == v || f != f)
        return f;
    memcpy(&bits, &f, sizeof bits);
    if (fabs((double)f) > fabs(v)) /* towards 0 first */
        bits--;
    bits |= 1;
    memcpy(&f, &bits, sizeof f);
    return f;
}

__device__ static inline int64_t clamp_whole(double v, int64_t least, int64_t most)
{
    return v != v ? 0 : v <= (double)least ? least : v >= (double)most ? most : (int64_t)v;
}

__device__ static inline void store_number(dtype t, void *data, int64_t i, double v)
{
    switch (t) {
    case DTYPE_F64: ((double *)data)[i] = v; break;
    case DTYPE_F32: ((float *)data)[i] = (float)v; break;
    case DTYPE_F16: ((__half *)data)[i] = from_float<__half>(round_odd(v)); break;
    case DTYPE_BF16: ((__nv_bfloat16 *)data)[i] = from_float<__nv_bfloat16>(round_odd(v)); break;
    case DTYPE_I8: ((int8_t *)data)[i] = (int8_t)clamp_whole(v, INT8_MIN, INT8_MAX); break;
    case DTYPE_U8: ((uint8_t *)data)[i] = (uint8_t)clamp_whole(v, 0, UINT8_MAX); break;
    case DTYPE_I16: ((int16_t *)data)[i] = (int16_t)clamp_whole(v, INT16_MIN, INT16_MAX); break;
    case DTYPE_U16: ((uint16_t *)data)[i] = (uint16_t)clamp_whole(v, 0, UINT16_MAX); break;
    case DTYPE_I32: ((int32_t *)data)[i] = (int32_t)clamp_whole(v, INT32_MIN, INT32_MAX); break;
    case DTYPE_U32: ((uint32_t *)data)[i] = (uint32_t)clamp_whole(v, 0, UINT32_MAX); break;
    case DTYPE_I64: ((int64_t *)data)[i] = clamp_whole(v, INT64_MIN, INT64_MAX); break;
    case DTYPE_U64: ((uint64_t *)data)[i] = v != v || v <= 0 ? 0 : v >= 0x1p64 ? UINT64_MAX : (uint64_t)v; break;
    default: ((uint8_t *)data)[i] = v != 0; break;
    }
}

#endif
