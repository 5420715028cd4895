/* data.h - from files to samples: what a data set is, how it is opened, what is known of it.
 *
 *     dataset_open -> loader_open (loader.h) -> loader_next -> step
 *
 * A data set has a training and a validation part. Kinds, recognised from `path` when `kind` is DATA_AUTO:
 *   arrays    idx (gzip or not), npy, npz; or a folder with train-images-idx3-ubyte[.gz],
 *             train-labels-idx1-ubyte[.gz], t10k-..., or with x_train.npy, y_train.npy, x_val.npy, y_val.npy
 *             (also train_images.npy, test_labels.npy ...). An npz uses the same names inside; without them
 *             y, label, labels, target, targets or arr_1 is the label and every other array an input, in the
 *             archive's order.
 *   folder    train/CLASS/IMAGE, val/CLASS/IMAGE (or test/); or CLASS/IMAGE; or images without classes
 *             (unlabelled). Classes are numbered in bytewise order of their names. Folders below CLASS are
 *             not entered.
 *   manifest  a .csv file whose first line names the columns path,label[,split,weight] in any order.
 *             Paths are relative to the manifest, without "..". Labels: whole numbers, or names (numbered
 *             in bytewise order); empty or -1: unlabelled. Split: train (or empty), val or test.
 * Of val and test, val is taken when both exist. With neither, `val_ratio` of the training samples, drawn by
 * `split_seed`, become the validation part.
 *
 * What a sample is: an image (uint8 arrays of rank 3 [N,H,W] or 4, image files, float arrays of rank 4),
 * given out as float32 [C,H,W]; or plain rows (every other array): floats as float32, integers as int64 or
 * int32. Pixels of type uint8 become (p / 255 - mean) / std, computed in float32 in this order as PyTorch's
 * ToTensor and Normalize do; float images become (v - mean) / std. EXIF orientation is not applied. */
#ifndef DISTILL_DATA_DATA_H
#define DISTILL_DATA_DATA_H

#include "base/limits.h"
#include "base/status.h"
#include "data/augment.h"
#include "data/image.h"
#include "graph/types.h"

#define DATA_INPUTS   8  /* inputs of a sample at most */
#define DATA_CHANNELS 16 /* different means */

typedef enum data_part { DATA_TRAIN, DATA_VAL, DATA_PARTS } data_part;
typedef enum data_kind { DATA_AUTO, DATA_ARRAYS, DATA_FOLDER, DATA_MANIFEST } data_kind;
/* AUTO: NHWC when dim 3 is at most 4 and dim 1 is larger. */
typedef enum data_layout { DATA_LAYOUT_AUTO, DATA_NCHW, DATA_NHWC } data_layout;

/* Text is borrowed until dataset_open returns. Zero or NULL is the default unless said otherwise. */
typedef struct data_options {
    const char *path;                              /* folder or file; or give the next ones */
    const char *train, *labels, *val, *val_labels; /* explicit files; labels may be absent */
    data_kind kind;
    data_layout layout;   /* of uint8 and float arrays of rank 4 */
    const char *samples;  /* slices of the training source that are used, "0:2560"; NULL: all */
    const char *labelled; /* slices whose labels are used, the others are unlabelled; NULL: all; "none" */
    bool labelled_only;   /* drop unlabelled training samples */
    double val_ratio;     /* in [0, 1); default 0.1 */
    uint64_t split_seed;
    int64_t classes;                 /* 0: largest label + 1; else a label outside [0, classes) is an error */
    int32_t channels, height, width; /* what the model takes; 0: the data's own */
    resize_mode resize;              /* default RESIZE_STRETCH */
    resize_filter filter;            /* default bilinear with antialias */
    int32_t resize_short;   /* RESIZE_CROP: short side before the centre crop; 0: as large as needed */
    uint32_t n_mean, n_std; /* 0: mean 0, std 1; 1: for all channels; else one each */
    float mean[DATA_CHANNELS], std[DATA_CHANNELS];
    dtype int_type;          /* integer rows are given out as this; default DTYPE_I64, or DTYPE_I32 */
    augment_options augment; /* of training samples, when the loader asks for it */
    uint64_t cache_bytes;    /* decoded images are kept up to this size (2 GiB); random resized crop: never */
    double max_bad;          /* fraction of bad samples that is tolerated; default 0.001 */
    limits lim;
} data_options;
data_options data_options_default(void);

typedef struct data_input {
    const char *name; /* of the array in an npz; "x" otherwise */
    dtype type;       /* as given out: F32, I64 or I32 */
    shape sh;         /* of one sample: images [C,H,W] */
} data_input;

typedef struct data_info {
    const char *path; /* as given */
    const char *kind; /* "idx", "npy", "npz", "image folder", "CSV manifest" */
    uint32_t n_inputs;
    data_input input[DATA_INPUTS];
    bool image;                    /* input 0 is [C,H,W]: augmentation and normalisation apply */
    int64_t classes;               /* 0: there are no class labels */
    const char *const *class_name; /* [classes], or NULL: unnamed */
    int64_t target_size;           /* floats of a regression target; 0: labels are classes */
    shape target;                  /* of one sample's target, when target_size > 0 */
    struct {
        uint32_t n, labelled;      /* samples */
        const uint64_t *histogram; /* [classes] labelled samples of each class, or NULL */
    } part[DATA_PARTS];
    const char *known;       /* a data set known by its bytes, which brings mean, std, class names; or NULL */
    const float *mean, *std; /* [channels] in use; NULL: rows that are no images */
    bool split;              /* validation was cut from the training source */
    /* Identity of the data: SHA-256 over one line for each array (role, type, shape, SHA-256 of its unpacked
     * bytes), or for each image file (name, label) plus the contents of up to 256 evenly spaced ones. Options
     * do not enter. */
    char sha256[65];
} data_info;

typedef struct dataset dataset;
MUST_USE status dataset_open(const data_options *o, dataset **out);
void dataset_close(dataset *ds); /* after its loaders; NULL allowed */
const data_info *dataset_info(const dataset *ds);
/* From now on images are normalised by these numbers [channels] (data_info.mean and std change); no loader is open. Nothing
 * happens where samples are no images. */
void dataset_normalise(dataset *ds, const float *mean, const float *std);
/* Memory that the data takes: arrays, and the cache of decoded images when it is full. */
size_t dataset_bytes(const dataset *ds);

/* Facts of sample i in [0, info.part[p].n). Index in the source: row of the array, of the manifest's training
 * or validation rows, place in the sorted list of files; it does not change with `samples`, `labelled_only`
 * or the split. */
uint32_t dataset_source_index(const dataset *ds, data_part p, uint32_t i);
uint32_t dataset_source_size(const dataset *ds, data_part p); /* rows of the source */
/* -1: unlabelled; with float targets 0 or -1. */
int64_t dataset_label(const dataset *ds, data_part p, uint32_t i);
const char *dataset_file(const dataset *ds, data_part p, uint32_t i); /* of an image file, else NULL */
/* The image as the model sees it before augmentation and normalisation: uint8, H x W x C (float images are
 * scaled to their own smallest and largest value). For reports. `to` may be zeroed or reused; free with
 * image_free. */
MUST_USE status dataset_pixels(dataset *ds, data_part p, uint32_t i, image *to);

/* Floats of sample i's target [info.target_size]; NULL: it has none. */
const float *dataset_target(const dataset *ds, data_part p, uint32_t i);
/* Every integer of input `k`, in both parts, must be in [0, rows): ST_BAD_DATA with the first that is not and `table`. */
MUST_USE status dataset_check_ids(const dataset *ds, uint32_t k, int64_t rows, const char *table);

/* Decodes up to `at_most` evenly spaced samples of the part: a check before a run. Bad ones are recorded;
 * more than tolerated give ST_BAD_DATA. */
MUST_USE status dataset_check(dataset *ds, data_part p, uint32_t at_most);

/* Bad samples met so far. In a batch the place of a bad sample is taken by the next good one of the part
 * (index + 1, ...), the same in every run. More than max_bad of a part: ST_BAD_DATA from then on. */
uint32_t dataset_bad_count(const dataset *ds);
/* Writes part,index,path,reason of each as CSV (no cell starts with = + - @), durably. Sorted, so that it
 * does not depend on threads. */
MUST_USE status dataset_write_bad(const dataset *ds, const char *csv_path);

/* "0:600 1000:1200 -5:" -> is_in[n] (bytes 0 or 1). Slices are Python's without step: separated by blanks or
 * commas, bounds cut to [0, n]. A single number is one sample and must exist. ST_CONFIG naming `what` when
 * malformed. */
MUST_USE status slices_parse(const char *text, const char *what, uint32_t n, uint8_t *is_in);

#endif
