/* train_graph.h - one graph that is a whole training step: student, losses, gradients, updates.
 *
 * In: the student in inference form and what the teacher gives (taps). Out: a graph whose inputs are the batch, the
 * taps and the numbers that schedules change, whose PHASE_MAIN is forward, losses and gradients of one micro batch and
 * whose PHASE_UPDATE is the optimizer. A term whose weight is 0 throughout is not built. */
#ifndef DISTILL_DISTILL_TRAIN_GRAPH_H
#define DISTILL_DISTILL_TRAIN_GRAPH_H

#include "config/config.h"
#include "graph/graph.h"

/* FitNets hint (Romero et al., "FitNets: hints for thin deep nets", 2015, eq. 3): a student feature goes through a
 * learned regressor and is compared with a teacher feature. Loss: mean over all elements. */
typedef struct hint_spec {
    const char *name, *student, *teacher; /* value names; teacher: in the teacher graph */
    hint_loss_kind loss;
    regressor_kind regressor;
    shape tap; /* of the teacher's value at the training batch */
} hint_spec;

/* Where a loss scale begins and within which limits it stays (LossScale). Its state are three numbers of the graph, "loss_scale",
 * "loss_scale.good_steps" and "loss_scale.skipped_steps". */
#define LOSS_SCALE_START    65536.0
#define LOSS_SCALE_SMALLEST 1.0
#define LOSS_SCALE_LARGEST  16777216.0
#define LOSS_SCALE_STATE    "loss_scale" /* how the names of its state begin */

typedef struct optimizer_spec {
    optimizer_kind kind;
    double momentum, weight_decay, beta1, beta2, eps;
    bool nesterov, decoupled; /* decoupled: of SGD and Adam; AdamW always is */
    uint32_t no_decay;        /* VALUE_NO_DECAY_* : parameters with one of these flags do not decay */
    double clip;              /* largest norm of all gradients together; 0: none */
    int accumulate;           /* micro batches in a step, >= 1 */
    double ema;               /* decay of the averaged weights; 0: none */
    double loss_scale;        /* dynamic loss scaling begins with it (LOSS_SCALE_START); 0: the loss is not scaled */
    int64_t scale_interval;   /* good steps before the scale doubles; 0: 2,000 */
    bool none;                /* gradients only: no update (parity checks) */
} optimizer_spec;

typedef struct train_spec {
    bool task;      /* task loss: else no labels are read */
    task_loss_kind task_loss;
    bool kd; /* KL (or output_loss) to the teacher's outputs */
    output_loss_kind output_loss;
    bool mixup;
    double label_smoothing;
    const double *class_weights; /* [classes] or NULL */
    bool per_labelled;           /* CE divided by the labelled samples instead of the batch size */
    const hint_spec *hint;
    size_t n_hint;
    optimizer_spec opt;
    double bn_momentum;
    uint64_t seed;      /* start of the regressors, masks of dropout */
    bool guard_total;    /* a total that is not finite skips the update by itself: nobody looks at it between the phases */
    bool keep_gradients; /* gradients are outputs too (they stay readable after a run) */
} train_spec;

typedef struct train_graph {
    graph *g;
    /* inputs; 0 when the term is not built */
    value_id *x; /* [n_x] the student's own inputs, in its order */
    value_id label, label2, lambda, target, teacher_logits, *tap; /* tap[n_hint] */
    value_id weights;      /* [3] = task weight, KD weight, temperature */
    value_id hint_weights; /* [n_hint] */
    value_id counter;      /* int64, another one for each run of PHASE_MAIN; 0: the student has no dropout */
    value_id lr, step;     /* scalars; step >= 1 for Adam's bias correction */
    /* outputs, scalars; 0 when not built */
    value_id total, task, kl, correct, agree, *hint; /* kl: any output loss; hint[n_hint], unweighted */
    value_id norm, scale;  /* of the gradients, the loss scale divided out; scale is not finite when the step was skipped */
    value_id loss_scale, skipped; /* the loss scale from now on, and the steps that were skipped so far; 0: the loss is not scaled */
    value_id counted_step; /* no output: what Adam takes for its step; 0: `step` */
    value_id logits;
    value_id *param, *grad; /* [n_param] */
    size_t n_param, n_hint, n_x;
} train_graph;

/* `student`: inference form, first output the logits [batch, classes], or [batch, ...] where no loss is of classes (KL,
 * cross entropy). Names of student values keep their names. Free with train_graph_free, also after failure. */
MUST_USE status train_graph_build(const graph *student, const train_spec *s, train_graph *out);
void train_graph_free(train_graph *t);

/* The hint's value in the student must exist and fit: ST_CONFIG with the shapes otherwise. */
MUST_USE status hint_build(graph *g, const hint_spec *h, uint64_t seed, value_id tap, value_id *loss);

/* hint.c: K student stages paired with evenly spaced teacher stages. A stage is where the grid (height x width) shrinks,
 * at the last value before it, and the last value before the grid goes. Writes at most `k` pairs; names are borrowed
 * from the graphs. Features can hurt across architectures: callers warn. */
MUST_USE status hint_pairs(const graph *student, const graph *teacher, size_t k, hint_spec *out, size_t *n);

#endif
