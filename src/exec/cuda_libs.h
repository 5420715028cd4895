/* cuda_libs.h - cuBLASLt and cuDNN (and NCCL), opened while the program runs: one program serves with and without them.
 *
 * Looked for, in this order: the folders in DISTILL_CUDA_LIBS (separated by ':'), cuda/ and ../build/cuda/ beside the program
 * (tools/setup-cuda fills build/cuda), the site-packages of $VIRTUAL_ENV and $CONDA_PREFIX (where PyTorch keeps them) and their lib/, the
 * system's loader. A folder may hold the libraries themselves, or be a site-packages tree (nvidia/.../lib). */
#ifndef DISTILL_EXEC_CUDA_LIBS_H
#define DISTILL_EXEC_CUDA_LIBS_H

#include "base/text.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/dnn.h"

typedef struct cuda_libs cuda_libs;

/* Opens what there is; what is missing is no failure. */
MUST_USE status cuda_libs_open(cuda_libs **out);
/* Also those that only `distill doctor` asks for: NCCL. */
MUST_USE status cuda_libs_open_all(cuda_libs **out);
/* Libraries that are there already (tests); NULL: none. Both are borrowed. */
MUST_USE status cuda_libs_given(const blas_api *blas, const dnn_api *dnn, cuda_libs **out);
void cuda_libs_close(cuda_libs *l); /* NULL allowed */

const blas_api *cuda_libs_blas(const cuda_libs *l); /* NULL: it is not there; so for l NULL */
const dnn_api *cuda_libs_dnn(const cuda_libs *l);
size_t cuda_libs_dnn_version(const cuda_libs *l); /* 91900: 9.19.0; 0: not known */
/* One line a library: its version and file, or what is missing and how to get it. */
void cuda_libs_describe(const cuda_libs *l, text *out);
/* What a status of theirs (CUDA_BLAS_CODES, CUDA_DNN_CODES) means; static text, NULL for other codes. */
const char *cuda_libs_text(int code);

#endif
