/* tables.h - the kernel tables of the CPU backend. REF tables exist as _ref_f32 and _ref_f64, SIMD tables as _base,
 * _avx2, _avx512, ONCE tables under their own name. One line a family. */
#define CPU_REF_TABLES(X) \
    X(attention) \
    X(binary) \
    X(conv) \
    X(dropout) \
    X(fake_quant) \
    X(loss) \
    X(matmul) \
    X(move) \
    X(norm) \
    X(pool) \
    X(reduce) \
    X(resize) \
    X(unary) \
    X(update)

#define CPU_SIMD_TABLES(X) \
    X(attention) \
    X(batch_norm) \
    X(batch_norm_blocked) \
    X(binary) \
    X(conv_blocked) \
    X(conv_blocked_weight) \
    X(conv_direct) \
    X(conv_entry) \
    X(conv_flat) \
    X(conv_line) \
    X(conv_weight) \
    X(conv_winograd) \
    X(conv_winograd_weight) \
    X(depthwise_blocked) \
    X(fake_quant) \
    X(gather_rows) \
    X(gemm) \
    X(gemm_bf16) \
    X(loss) \
    X(move) \
    X(pool) \
    X(pool_blocked) \
    X(qdepthwise) \
    X(qconv_vnni) \
    X(qconv) \
    X(quant) \
    X(resize) \
    X(reduce) \
    X(reorder) \
    X(row_norm) \
    X(unary) \
    X(update)

#define CPU_ONCE_TABLES(X) \
    X(batch_images) \
    X(binary) \
    X(cast) \
    X(move) \
    X(pool) \
    X(qconv) \
    X(quant) \
    X(reduce) \
    X(resize) \
    X(unary)
