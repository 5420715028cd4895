/* qconv_vnni_simd.c - integer convolutions and products by vpdpbusd (AVX512-VNNI, AVX-VNNI): four products a lane. */
#if defined(__AVX512F__) && !defined(__clang__)
#pragma GCC target("avx512vnni")
#define QDOT_BYTES
#define HAS_QDOT __builtin_cpu_supports("avx512vnni")
#elif defined(__AVX2__) && !defined(__clang__)
#pragma GCC target("avxvnni")
#define QDOT_BYTES
#define HAS_QDOT __builtin_cpu_supports("avxvnni")
#endif

#ifdef QDOT_BYTES
#include "kernels/cpu/qconv_run.h"

KERNEL_TABLE(qconv_vnni) = {QCONV_ROWS("vnni"), KERNEL_END};
#else
#include "kernels/cpu/cpu.h"
KERNEL_TABLE(qconv_vnni) = {KERNEL_END};
#endif
