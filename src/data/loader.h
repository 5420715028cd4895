/* loader.h - batches ahead of the step.
 *
 * Threads fill a ring of batch buffers made at loader_open; nothing is allocated afterwards, except while
 * image files are read and decoded. Batch k is a function of (data set, options, k) alone: not of the number
 * of threads, not of the batches before it. A resume is loader_seek(k).
 *
 * Which samples batch k holds. A pass is one permutation of the part's n samples, drawn from (seed, pass).
 *   tail dropped   each pass gives floor(n / B) batches; its last n mod B samples are not seen in that pass.
 *                  Batch k is place (k mod floor(n / B)) * B of pass k / floor(n / B).
 *   tail carried   the passes stand one after the other in an endless stream; batch k is places [kB, kB + B)
 *                  of it and may span passes (with n < B several).
 *   TAIL_AUTO      dropped when n >= B and an epoch is a pass or less (steps_per_epoch is 0 or <= floor(n /
 *                  B)), else carried: 60,000 samples at 128 give 468 batches a pass as PyTorch's drop_last;
 *                  600 samples with 468 steps an epoch are passed 99.84 times an epoch.
 * Not endless (validation): one pass; the last batch is smaller. */
#ifndef DISTILL_DATA_LOADER_H
#define DISTILL_DATA_LOADER_H

#include "data/data.h"

typedef enum loader_tail { TAIL_AUTO, TAIL_DROP, TAIL_CARRY } loader_tail;

/* `views` V > 0: in pass p, sample i gets augmentation p mod V, the same each time that view comes, so that a
 * teacher's outputs can be kept per (view, sample); 0: fresh in every pass. */
typedef struct loader_options {
    data_part part;
    uint32_t batch; /* samples of a batch */
    bool endless;   /* training: full batches for ever */
    bool shuffle, augment;
    bool places; /* samples are not made, x is NULL: somebody has them elsewhere (block.h); all else is as ever */
    loader_tail tail;
    uint64_t steps_per_epoch; /* 0: one pass; only TAIL_AUTO asks */
    uint64_t seed;
    uint32_t views;
    uint32_t threads; /* 0: batches are made by loader_next itself */
    uint32_t ahead;   /* finished batches at most; 0: threads + 1, more where they are small, at least `keep` */
    uint32_t keep;    /* the last so many batches stay valid; 0: one */
} loader_options;
/* Endless, shuffled, augmented, one thread. */
loader_options loader_train_options(uint32_t batch, uint64_t seed);
/* In order, once, as it is, one thread. */
loader_options loader_eval_options(data_part part, uint32_t batch);

/* Valid until the next call on the loader (with `keep` until that many more were read). Unlabelled samples have label -1 (with float targets a label is 0
 * or -1). */
typedef struct batch {
    uint64_t step;              /* k */
    uint32_t n;                 /* samples, <= loader_options.batch */
    const void *x[DATA_INPUTS]; /* [n, info.input[j].sh] of info.input[j].type; images: float32 [n,C,H,W] */
    const int64_t *label;       /* [n] */
    const float *target;        /* [n, info.target_size], zeros where unlabelled; or NULL */
    const float *weight;        /* [n], 1 unless the manifest says else */
    const int64_t *label2;      /* [n], mixup's second label; NULL without mixup */
    const float *lambda;        /* [n], mixup's share of `label` (float targets are mixed already); or NULL */
    const uint32_t *index;      /* [n], sample in the part */
    const uint32_t *other;      /* [n], the sample that mixup mixes in; or NULL */
    const uint32_t *view;       /* [n], pass mod V; with fresh augmentation the pass */
    uint32_t made_by;           /* the loader thread that filled it; loader_options.threads: the reader */
    double made_from, made_to;  /* and when (clock_seconds) */
} batch;

typedef struct loader loader;
/* `ds` is borrowed until loader_close. */
MUST_USE status loader_open(dataset *ds, const loader_options *o, loader **out);
/* *out is NULL after the last batch of a loader that is not endless. An error of a thread comes with its
 * message. */
MUST_USE status loader_next(loader *l, const batch **out);
void loader_seek(loader *l, uint64_t step); /* the next batch is `step` */
void loader_close(loader *l);               /* NULL allowed */

/* Batches of a pass: floor(n / B) when endless (at least 1), else rounded up. */
uint64_t loader_pass_steps(const loader *l);
bool loader_drops_tail(const loader *l);
size_t loader_bytes(const loader *l); /* memory of the ring */

#endif
