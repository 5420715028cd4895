/* files.h - the columns of the matrix: the files of a finished run, and what has to be known of them to feed and judge them.
 *
 * fp32 is RUN/student.onnx, KEY is RUN/export/student.KEY.onnx with what lies beside it, teacher-fp32 the job's teacher where it
 * is. Forms that are missing (.tflite, ncnn's .param with .bin) are made in RUN/matrix/files where they can be. Of integer files the operator form (quant/operator_form.h) is made there too. */
#ifndef DISTILL_MATRIX_FILES_H
#define DISTILL_MATRIX_FILES_H

#include "config/config.h"
#include "data/data.h"
#include "distill/feed.h"
#include "matrix/matrix.h"

typedef struct file_facts { /* of a column, read from its ONNX file */
    const char *path;        /* that file, as it can be opened */
    bool teacher, portable, integers, half; /* integers: in QDQ form */
    size_t n_in;
    struct {
        const char *name;
        uint32_t from;       /* input of the data set */
        double scale, low, high; /* portable: what is fed are multiples of scale in [low, high]; 0: anything */
    } in[DATA_INPUTS];
    const char *output;      /* its first output's name */
    size_t width;            /* numbers of one sample's output */
    int rank;                /* of the output, the batch included */
    double out_scale;        /* of the last DequantizeLinear; 0: float outputs */
    int64_t out_zero;
    bool out_unsigned;       /* its codes are uint8 */
    bool normalised;         /* the file says how: mean and std */
    uint32_t channels;
    float mean[DATA_CHANNELS], std[DATA_CHANNELS];
    const char *no_tflite, *no_ncnn, *no_qoperator; /* why there is no such form of it; NULL: there is one */
    bool concat_conv;        /* a Concat of int8 (not uint8) codes feeds a Conv */
    int64_t may_saturate;    /* channels whose int8 products may saturate on x86 without VNNI */
} file_facts;

/* Finds the columns that fit one of the patterns (n 0: all) and reads their facts: m->columns, *facts [n_columns], in m->mem.
 * ds NULL: inputs are not matched with a data set's. ST_NO_INPUT when the run has no student.onnx. */
MUST_USE status files_find(const char *run, const job *j, const char *const *patterns, size_t n, const data_info *data, matrix *m,
                           file_facts **facts);
/* Why there is no such form of it; NULL: nothing is known. */
const char *files_why_not(const file_facts *x, const char *form);
/* The column's file in that form; NULL: there is none. *path: as it can be opened, in mem. */
MUST_USE status files_path(const char *run, const matrix_column *c, const char *form, arena *mem, const matrix_file **file, const char **path);

#endif
