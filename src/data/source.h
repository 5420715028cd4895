/* source.h - inside src/data: what the readers of each kind of file hand to the data set.
 *
 *     data_format row (recognise, load) -> source_set -> dataset.c (slices, split, counts) -> sample.c ->
 *     loader.c */
#ifndef DISTILL_DATA_SOURCE_H
#define DISTILL_DATA_SOURCE_H

#include "base/text.h"
#include "data/data.h"

#include <pthread.h>
#include <stdatomic.h>

typedef enum source_kind {
    SOURCE_PIXELS, /* in[0]: uint8 [n,H,W,C] */
    SOURCE_FLOATS, /* in[0]: float32 [n,C,H,W] */
    SOURCE_ROWS,   /* in[j]: float32, int64 or int32 [n, ...] */
    SOURCE_FILES   /* file[i]: image files */
} source_kind;

/* One set of files. Zeroed is empty. */
typedef struct source {
    source_kind kind;
    char *place; /* path, for messages */
    uint32_t n;
    tensor in[DATA_INPUTS];
    uint32_t n_in;
    int64_t *label;    /* [n], -1: unlabelled; NULL: none has a label */
    tensor target;     /* float32 [n, T], or empty */
    float *weight;     /* [n], or NULL */
    const char **file; /* [n], paths below `place`'s folder; SOURCE_FILES */
    char *dir;         /* folder that `file` is relative to */
    arena names;       /* of file[] */
} source;
void source_free(source *s);

/* Both parts, and what they share. */
typedef struct source_set {
    source part[DATA_PARTS];
    bool has_val;
    const char *format;      /* for people: "idx", "image folder" ... */
    const char **class_name; /* [n_classes], in `names`; NULL: labels are numbers */
    int64_t n_classes;
    arena names;
    text identity; /* what the SHA-256 is taken over */
} source_set;
void source_set_free(source_set *set);

typedef struct data_format {
    data_kind kind;
    const char *looked_for; /* for the message when nothing fits */
    /* Does `path` look like this? Only what can be seen from names and first bytes. */
    status (*recognise)(const char *path, bool is_dir, bool *yes);
    /* Both parts from one path. */
    status (*load)(const data_options *o, const char *path, source_set *set);
    /* One part from a path of its own. */
    status (*load_part)(const data_options *o, const char *path, const char *labels, data_part part,
                        source_set *set);
} data_format;
extern const data_format format_arrays, format_manifest, format_folder;

/* Numbers the label names of n samples into s->label: NULL or "" is unlabelled. When all names are whole
 * numbers >= -1 they are the labels themselves. Otherwise names are numbered in bytewise order over all given
 * sources of the set; the second call on a set (its validation part) must find every name in the first's. */
MUST_USE status classes_number(source_set *set, source *s, const char *const *name);
/* Adds the files of a source to the set's identity: names, labels, contents of some. */
MUST_USE status files_identify(source_set *set, const source *s, const char *part);
/* dir + "/" + name; caller frees with mem_free. */
MUST_USE status path_join(char **out, const char *dir, const char *name);

typedef struct bad_sample {
    data_part part;
    uint32_t sample; /* of the part */
    char *reason;
} bad_sample;

/* What is known of an image file that was tried. */
enum { SAMPLE_UNTRIED, SAMPLE_BUSY, SAMPLE_CACHED, SAMPLE_BAD };

typedef struct data_rows {
    source *src;
    uint32_t n, *id; /* [n] sample -> row of the source */
    uint32_t n_bad;  /* under the lock */
    uint8_t *cache;  /* SOURCE_FILES: decoded images [n][item], or NULL */
    size_t cache_bytes;
    atomic_uchar *state; /* SOURCE_FILES: [n] SAMPLE_..., else NULL */
} data_rows;

struct dataset {
    data_options o; /* its texts are gone; numbers hold */
    data_info info;
    char *path;
    source_set set;
    data_rows part[DATA_PARTS];
    uint64_t *histogram;             /* [DATA_PARTS][classes], or NULL */
    int32_t channels, height, width; /* of the model, when info.image */
    size_t item;                     /* bytes of one uint8 image at that size */
    float *lut;                      /* [C][256] pixel -> normalised value */
    float *mean, *std;               /* [C] */
    pthread_mutex_t lock;            /* of bad, n_bad */
    bool lock_made;
    bad_sample *bad;
    size_t n_bad, bad_cap;
};

/* Fills ds->part from the loaded set: `samples`, the split, `labelled`, `labelled_only`. */
MUST_USE status dataset_make_parts(dataset *ds, const data_options *o);
/* Marks sample i of part p bad, with the recorded message as the reason. ST_OK, or ST_BAD_DATA when there are
 * now more bad ones than tolerated. */
MUST_USE status dataset_record_bad(dataset *ds, data_part p, uint32_t i);

#endif
