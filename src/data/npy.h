/* npy.h - NumPy's .npy and .npz files to tensors and back.
 *
 * Read: format versions 1 to 3, little and big endian (swapped), C and Fortran order (transposed), bool,
 * integers, float16, float32, float64 and two-byte void as bfloat16; rank <= 8. Refused with a message:
 * object arrays (pickle is never read), structured and string types, complex and long double, sizes that do
 * not match, bytes that follow. Written: version 1, little endian, C order. numpy.load reads them. Equal
 * tensors give equal bytes. Format: numpy.lib.format documentation. */
#ifndef DISTILL_DATA_NPY_H
#define DISTILL_DATA_NPY_H

#include "base/limits.h"
#include "graph/types.h"

bool npy_is(const unsigned char *bytes, size_t n);
/* Takes `bytes` (a mem_alloc block; freed on failure): the tensor's data is the same block where the order
 * allows. `name` stands in messages; the tensor gets no name. */
MUST_USE status npy_parse(const char *name, unsigned char *bytes, size_t n, const limits *lim, tensor *out);
MUST_USE status npy_read(const char *path, const limits *lim, tensor *out);

/* An array that stays in its file, read row by row: little endian and C order alone, rank at least 1. */
typedef struct npy_rows {
    const char *path; /* borrowed */
    int fd;
    dtype type;
    shape sh;
    uint64_t start;
    size_t row; /* bytes */
} npy_rows;
MUST_USE status npy_rows_open(const char *path, const limits *lim, npy_rows *out); /* close also after failure */
/* Rows [first, first + n), which must be there. */
MUST_USE status npy_rows_read(const npy_rows *r, size_t first, size_t n, void *to);
void npy_rows_close(npy_rows *r);

MUST_USE status npy_write(const char *path, const tensor *t); /* durably */

/* Every member NAME.npy becomes a tensor called NAME, in the archive's order. Other members are an error. */
MUST_USE status npz_parse(const char *name, const unsigned char *bytes, size_t n, const limits *lim,
                          tensor_list *out);
MUST_USE status npz_read(const char *path, const limits *lim, tensor_list *out);
/* Tensors at[0..n), each with a name of its own, durably. `deflated`: packed (numpy.savez_compressed), else
 * stored. */
MUST_USE status npz_write(const char *path, const tensor *at, size_t n, bool deflated);

#endif
