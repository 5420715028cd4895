/* session.h - a job, opened: device, data, teacher, student and training graph, ready to step.
 *
 *     config job -> session_open -> session_step ... session_evaluate ... session_export -> session_close
 *
 * The order of what happens (loop.h) and where it is written is no concern of this file. */
#ifndef DISTILL_TRAIN_SESSION_H
#define DISTILL_TRAIN_SESSION_H

#include "config/config.h"
#include "data/loader.h"
#include "distill/frozen.h"
#include "distill/resident.h"
#include "distill/tap_table.h"
#include "distill/train_graph.h"
#include "onnx/model.h"
#include "student/student.h"
#include "train/schedule.h"

/* The parts of a step, one after the other, and the step itself. */
typedef enum session_part { PART_WAIT, PART_BATCH, PART_TEACHER, PART_MAIN, PART_UPDATE, PART_STEP } session_part;
/* Told of every part when it is over (clock_seconds); `b`: the batch it was for, NULL for PART_UPDATE and PART_STEP. */
typedef void (*session_watcher)(void *ctx, session_part part, double begin, double end, const batch *b);

typedef struct session {
    const job *j;
    arena mem;
    backend *b;
    dataset *ds;
    const data_info *info;

    onnx_model *teacher_file; /* NULL: no teacher; released (onnx_release) once the teacher is open */
    const char *teacher_output; /* the model's first output */
    frozen_net t;
    dtype narrow; /* float16, bfloat16: images of the training graph lie in it on the device (train.precision); DTYPE_NONE: float32 */
    uint64_t teacher_int8; /* of the integers and scales of a teacher in int8: a hash; 0: it is not */
    uint64_t teacher_fp8;  /* of the ranges of a teacher in fp8: likewise */
    graph_stats teacher_stats;
    bool kd;                  /* the teacher's outputs are learned from */
    bool numbers;             /* outputs are numbers to come close to, not logits of classes */
    hint_spec *hint;
    double *hint_from, *hint_to; /* weights [n_hint] */
    size_t n_hint;

    student_spec spec;
    onnx_model *student_file; /* while the session is opened: student.onnx, read once; else NULL */
    char title[128];
    graph_stats student_stats;
    train_graph tg;
    store params; /* what trains: parameters, statistics, optimizer state */
    exec *train;
    graph *eval_graph;
    store copies;   /* with train.ema the averaged weights, with quantisation a copy, as they are judged; else empty */
    store *judged;  /* what is judged and exported: copies (session_sync_weights fills them) or params */
    exec *eval;
    feed x, eval_x; /* from a batch to the two graphs */
    int64_t eval_batch;
    int64_t width; /* floats of one sample's output: classes, when they are logits */

    loader *in;
    resident *near; /* the training samples where the steps run: batches hold their places alone; NULL: the loader makes them */
    const char *cache_dir; /* of the teacher's outputs; NULL: none */
    float **taps; /* [teacher outputs]: where the training graph wants them */
    int64_t together; /* batches that the teacher runs at once; more than 1: */
    struct teacher_group *group; /* session_ahead.h: it is ahead of the steps; else NULL */
    tap_table *rows; /* all remembered teacher outputs where the steps run; NULL: the host has them */
    bool rows_fit;   /* they may become that */
    uint64_t rows_known; /* places of the cache before this one are known */
    exec_chain *chain; /* teacher, main and update phase launched as one (session_chain.c); NULL: each by itself */
    bool chain_teacher, chain_x, chain_update; /* it runs the teacher; has the student's inputs already; updates */
    bool chain_rows; /* it takes the teacher's outputs of `rows` */
    uint64_t ahead; /* runs of the chain that may be under way (exec_chain_open_ring); 0: each is waited for */
    uint64_t begun, ended;  /* steps since the session was opened */
    uint64_t step_begun;    /* its number, where the end does all of it */
    double *waited;         /* [ahead] for their batches, of steps under way */
    uint64_t steps, steps_per_epoch;
    schedule lr;
    session_watcher seen; /* NULL: nobody watches */
    void *seen_ctx;
    float *teacher_val; /* [validation samples, width], made by the first evaluation */
    struct session_qat *qat; /* session_qat.h: the student trains as the integer model that it will be; NULL: in float */
} session;

/* Opens all of it. Errors of the job name the key and where it was set. */
MUST_USE status session_open(const job *j, session *out);
/* auto_batch.c: where train.batch is auto or auto:SHARE it becomes a number: that of `before` (config.ini of a run that is resumed;
 * NULL: none) or one whose plans take that share of the memory there is; the job is opened some times to find out. */
MUST_USE status session_choose_batch(job *j, const char *before);
void session_close(session *s);

/* session_precision.c: what train.precision means for student g on this backend, into s->narrow; a device's choice is told. With
 * float16 the loss is scaled. */
MUST_USE status session_choose_precision(session *s, const graph *g);
const char *session_precision_name(const session *s); /* "fp32", "fp16", "bf16": of training */
/* The teacher for `rows` samples at a time in the precision of teacher.precision, into s->t (session_precision.c). */
MUST_USE status session_open_frozen_teacher(session *s, int64_t rows);

/* The teacher's graph becomes one in QDQ form by the scheme of [quant], calibrated on training samples; what follows from
 * that is hashed into s->teacher_int8. *g is freed and replaced; also after failure the caller owns what is in it. */
MUST_USE status session_quantise_teacher(session *s, graph **g);

/* Bytes by item, for the plan table. */
typedef struct session_memory {
    size_t data, batches, parameters, optimizer, activations, workspace, teacher, teacher_cache, evaluation;
} session_memory;
session_memory session_measure_memory(const session *s);

/* What one step said: means over its micro batches. */
typedef struct step_result {
    double total, task, kl, norm, lr;
    double correct, agree;     /* shares of the batch, NAN when not computed */
    double *hint;              /* [n_hint] */
    double waited;             /* seconds in which the step waited for its batches */
    bool finite;               /* false: a loss or gradient was not, and the update was skipped: no parameter, optimizer
                                  state or average changed; running statistics follow the finite micro batches */
    bool overflow;             /* not finite were scaled gradients alone: with a smaller loss scale the next step may be */
    double loss_scale, skipped; /* from now on; steps that were skipped since the first; NAN when the loss is not scaled */
    const char *nonfinite;     /* the first tensor that is not finite, NULL when all are */
} step_result;
/* Takes the next batches and makes step number `step` (0 is the first). `hint` in the result must have room. */
MUST_USE status session_step(session *s, uint64_t step, step_result *out);
/* The same in two halves, so that the host can be ahead of a device: steps begin in order, and end in order. At most
 * session_steps_ahead(s) + 1 may be under way at once (on the CPU one); nothing else of the session may be used meanwhile. A step
 * that is not finite names a tensor for certain only if none is under way behind it. */
MUST_USE status session_begin_step(session *s, uint64_t step);
MUST_USE status session_end_step(session *s, step_result *out);
uint64_t session_steps_ahead(const session *s);
/* Kernels that a step launches where a device has recorded it (the second step does); less or 0 before, 0 on the CPU. Remembered
 * teacher outputs launch none. */
size_t session_kernels(const session *s);
/* The next step taken is `step`. */
void session_seek(session *s, uint64_t step);

/* session_cache.c: gives the teacher a memory (and a disk) for its outputs where the same input comes again. */
MUST_USE status session_open_cache(session *s);
/* The same for its first output on the validation samples, exactly and on disk only; *out NULL when there is no disk. */
MUST_USE status session_open_val_cache(session *s, tap_cache **out);

/* Pieces of session_open, for parity.c and session_qat.c. */
/* The student that trains, in inference form. */
MUST_USE status session_student(const session *s, int64_t rows, graph **out);
MUST_USE status session_open_training(session *s);
MUST_USE status session_open_train_exec(session *s, size_t memory_limit); /* s->train, in s->narrow */
MUST_USE status session_open_evaluation(session *s);
MUST_USE status session_open_loader(session *s);
/* session_feed.c: the training samples go to the device where data.device, their kind and the room there allow it. After all
 * executors are open, before the loader. */
MUST_USE status session_open_near(session *s);
/* The places of a batch into the graph that makes it, and where the host has to see it (somebody watches the parts, or asks the
 * teacher beside the chain), its samples into *out, whose texts and arrays are b's or that graph's. */
MUST_USE status session_make_batch(session *s, const batch *b, batch *out);
/* session_nonfinite.c: the first tensor that explains a skipped step: what came in, what the student made of it, losses, then
 * gradients in the order of the parameters. Of a step behind which others have run: by its numbers alone. */
const char *session_find_nonfinite(const session *s);
const char *session_guess_nonfinite(const session *s, const step_result *r);
/* session_rows.c: whether the teacher's remembered outputs fit into `room` bytes of the device. */
void session_weigh_rows(session *s, double room);
/* Before a step, where none is under way: takes them there when all are known. */
MUST_USE status session_take_rows(session *s);
bool session_is_chained(const session *s); /* the parts of a step are launched as one */
MUST_USE status session_place_taps(session *s); /* where the teacher's outputs go */
/* session_chain.c: on a device with memory of its own the parts of a step that need nothing of the host in between become one
 * launch, and the teacher's outputs stay there. On the CPU it does nothing. After all executors are open. */
MUST_USE status session_open_chain(session *s);
/* Puts a batch into the inputs of the chain's teacher, where it has one that takes them from the host. */
void session_put_teacher(session *s, const batch *b);
/* Runs it on a batch of which the inputs that are not the student's alone are not yet in place. */
MUST_USE status session_run_chain(session *s, const batch *b);
/* Makes `judged` what it is to be now: the averages where they are kept. */
MUST_USE status session_sync_weights(session *s);
MUST_USE status session_open_teacher_file(session *s);
/* The teacher's graph for `rows` samples, outputs: the logits, then (with_hints) the hints' values. */
MUST_USE status session_import_teacher(const session *s, int64_t rows, bool with_hints, graph **out);
MUST_USE status session_tap_shapes(session *s, const graph *whole_teacher);
/* Loss weights and temperature, and hint weights, of a step. */
void session_weights(const session *s, uint64_t step, float w[3], float *hint);
const char *session_task_name(const session *s); /* "loss.ce" ...: the task loss in metrics */
const char *session_kd_name(const session *s);   /* "loss.kl" ...: likewise */
/* Matches data and training graph, and outputs with targets and teacher; sets x, width, numbers. */
MUST_USE status session_match(session *s);

typedef struct evaluation {
    uint32_t n, labelled;
    /* Outputs that are numbers: mean absolute error over labelled samples, and from the teacher's outputs; NAN without. */
    double error, teacher_error, distance;
    double accuracy, ce;  /* over labelled samples; NAN when there are none */
    double agreement;     /* with the teacher's classes; NAN without one */
    double teacher_accuracy;
    float *logits;        /* [n, width], kept until evaluation_free */
} evaluation;
/* The student as it is now (its averaged weights when train.ema is on) on the validation part. */
MUST_USE status session_evaluate(session *s, evaluation *out);
void evaluation_free(evaluation *e);

/* Writes the student as it is now. `meta`: metadata of the file. */
struct export_pair;
MUST_USE status session_export(session *s, const char *path, const struct export_pair *meta, size_t n_meta);

#endif
