/* cpu.h - how the CPU kernels are written and found.
 *
 * NAME_ref.c   the plain reference: compiled once with REAL_F32 and once with REAL_F64; `real` is the type, REF(fn)
 *              names a function per type, and the rows it exports are KERNEL_TABLE(NAME).
 * NAME_simd.c  fast float32 kernels, compiled once per instruction set with ISA defined; SIMD(fn), KERNEL_TABLE(NAME).
 * NAME.c       compiled once (type-generic moves, integer and boolean kernels): rows `cpu_NAME`.
 * A new table gets a line in kernels/cpu/tables.h. */
#ifndef DISTILL_KERNELS_CPU_H
#define DISTILL_KERNELS_CPU_H

#include "kernels/kernel.h"
#include "ops/attrs.h"

#define CPU_PASTE_(a, b) a##_##b
#define CPU_PASTE(a, b)  CPU_PASTE_(a, b)

#if defined(REAL_F32)
typedef float real;
#define REAL_DTYPE DTYPE_F32
#define REAL_ISA   ISA_REF
#define VARIANT    ref_f32
#elif defined(REAL_F64)
typedef double real;
#define REAL_DTYPE DTYPE_F64
#define REAL_ISA   ISA_REF
#define VARIANT    ref_f64
#elif defined(ISA)
#define VARIANT ISA
#define LEVEL_base   ISA_BASE
#define LEVEL_avx2   ISA_AVX2
#define LEVEL_avx512 ISA_AVX512
#define REAL_ISA     CPU_PASTE(LEVEL, ISA)
#define REAL_DTYPE   DTYPE_F32
#endif
#if defined(VARIANT)
#define REF(fn)            CPU_PASTE(fn, VARIANT)
#define SIMD(fn)           CPU_PASTE(fn, VARIANT)
#define KERNEL_TABLE(name) const kernel_row CPU_PASTE(cpu_##name, VARIANT)[]
#endif

/* Rows end with {.op = OP_NONE}. */
#define KERNEL_END {.op = OP_NONE}

#endif
