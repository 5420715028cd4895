/* tables.h - the kernel tables of the CUDA backend: one line a family, one file kernels/cuda/NAME.cu. Of rows that take a node the
 * first one runs: the libraries' (blas, dnn) stand before our own. */
#define CUDA_TABLES(X) \
    X(blas) \
    X(blas_grad) \
    X(blas_half) \
    X(dnn) \
    X(dnn_attention) \
    X(attention) \
    X(augment) \
    X(batch_norm) \
    X(batch_norm_half) \
    X(binary) \
    X(binary_half) \
    X(binary_rows) \
    X(cast) \
    X(conv) \
    X(conv_half) \
    X(conv_half_weight) \
    X(depthwise) \
    X(depthwise_half) \
    X(depthwise_half_weight) \
    X(dropout) \
    X(fake_quant) \
    X(fp8) \
    X(gather) \
    X(gemm) \
    X(gemm_half) \
    X(kd_loss) \
    X(layer_norm) \
    X(linear_grad) \
    X(linear_grad_half) \
    X(loss) \
    X(move) \
    X(pad) \
    X(pool) \
    X(pool_half) \
    X(qconv) \
    X(quant) \
    X(reduce) \
    X(reduce_half) \
    X(reorder) \
    X(resize) \
    X(shape) \
    X(softmax) \
    X(unary) \
    X(unary_half) \
    X(update)
