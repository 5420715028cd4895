/* session.c - opens a job and makes its steps. */
#include "train/session.h"
#include "base/clock.h"
#include "base/log.h"
#include "onnx/import.h"
#include "train/job_spec.h"
#include "train/session_ahead.h"
#include "train/session_qat.h"

#include <math.h>
#include <string.h>

#define TEACHER_BATCH 32 /* samples the teacher runs at a time: its activations stay near the caches */
#define EVAL_BATCH    250

/* ---- opening ---- */

static bool hints_wanted(const job *j)
{
    for (size_t i = 0; i < j->n_hint; i++)
        if (j->hint[i].weight > 0 || j->hint[i].weight_end > 0)
            return true;
    return false;
}

status session_open_teacher_file(session *s)
{
    const job *j = s->j;
    s->kd = j->distill.kd > 0 || j->distill.kd_end > 0;
    bool needed = s->kd || hints_wanted(j);
    if (*j->teacher.path)
        return onnx_open(j->teacher.path, &j->limits, &s->teacher_file);
    if (needed)
        return config_fault(config_origin(j, "distill.kd"), "the job learns from a teacher and none is given; name one "
                            "with --teacher FILE or teacher.path, or set distill.kd = 0 and drop the hints");
    return ST_OK;
}

/* The teacher's graph for `rows` samples, its outputs the logits and the hints' values. */
status session_import_teacher(const session *s, int64_t rows, bool with_hints, graph **out)
{
    const char *names[1 + HINTS_MAX];
    import_options o = {.batch = rows};
    size_t n = 0;
    if (*s->j->teacher.output) {
        names[n++] = s->j->teacher.output;
    } else if (with_hints && s->n_hint) {
        names[n++] = s->teacher_output;
    }
    for (size_t i = 0; with_hints && i < s->n_hint; i++)
        names[n++] = s->hint[i].teacher;
    if (n > 0) {
        o.outputs = names;
        o.n_outputs = n;
    }
    TRY(onnx_import(s->teacher_file, &o, out));
    if (n == 0)
        (*out)->n_output = 1; /* further outputs of the model are of no use here */
    return ST_OK;
}

static status open_student(session *s, const graph *teacher)
{
    graph *g = NULL;
    status st = ST_OK;
    TRY_DONE(job_student_spec(s->j, s->info, teacher, &s->spec));
    if (*s->j->student.onnx) {
        TRY_DONE(student_check(s->j));
        TRY_DONE(onnx_open(s->j->student.onnx, &s->j->limits, &s->student_file));
        s->spec.file = s->student_file;
    }
    student_title(s->j, s->title, sizeof s->title);
    TRY_DONE(student_build(&s->spec, s->j->train.batch, &g));
    s->student_stats = graph_measure(g, s->j->train.batch);
    TRY_DONE(session_choose_precision(s, g));
    if (s->n_hint == 0)
        TRY_DONE(job_hints(s->j, g, teacher, &s->mem, s));
done:
    graph_free(g);
    return st;
}

/* The taps' shapes at the training batch, read off the teacher's graph. */
status session_tap_shapes(session *s, const graph *teacher)
{
    for (size_t i = 0; i < s->n_hint; i++) {
        value_id v = graph_find(teacher, s->hint[i].teacher);
        if (!v)
            return fail(ST_CONFIG, "[hint %s]: the teacher has no value '%s'; `distill inspect` lists them",
                        s->hint[i].name, s->hint[i].teacher);
        s->hint[i].tap = teacher->value[v].sh;
        s->hint[i].tap.dim[0] = s->j->train.batch;
    }
    return ST_OK;
}

status session_student(const session *s, int64_t rows, graph **out)
{
    return s->qat ? qat_student(s, rows, out) : student_build(&s->spec, rows, out);
}

/* Parameters and states are in a store: the graph's start values are of no use any more. */
static status forget_start_values(graph *g)
{
    bool *keep;
    TRY(mem_alloc(&keep, g->n_value, sizeof *keep));
    for (size_t v = 1; v < g->n_value; v++)
        keep[v] = g->value[v].kind == VALUE_CONST;
    graph_keep_data(g, keep);
    mem_free(keep);
    return ST_OK;
}

/* The training graph alone computes in s->narrow: what is opened later (evaluation, proofs, training with rounding) is float32. */
status session_open_train_exec(session *s, size_t memory_limit)
{
    if (s->narrow)
        TRY(pass_product_precision(s->tg.g, s->narrow));
    TRY(backend_narrow(s->b, s->narrow));
    status st = exec_open(s->tg.g, s->b, &s->params, memory_limit, &s->train);
    status back = backend_narrow(s->b, DTYPE_NONE);
    return st != ST_OK ? st : back;
}

status session_open_training(session *s)
{
    graph *g = NULL;
    train_spec spec;
    status st = ST_OK;
    TRY_DONE(job_train_spec(s, &spec));
    TRY_DONE(session_student(s, s->j->train.batch, &g));
    TRY_DONE(train_graph_build(g, &spec, &s->tg));
    TRY_DONE(session_match(s));
    graph_free(g);
    g = NULL;
    TRY_DONE(session_open_train_exec(s, job_memory_limit(s->j)));
    st = forget_start_values(s->tg.g);
done:
    graph_free(g);
    return st;
}

/* One sample's outputs, the teacher's and the student's, must be of one shape. */
static status match_outputs(const session *s, const shape *teacher)
{
    shape a = *teacher, b = graph_value(s->tg.g, s->tg.logits)->sh;
    char x[200], y[200];
    a.dim[0] = b.dim[0];
    if (shape_equal(&a, &b))
        return ST_OK;
    if (a.rank == 2 && b.rank == 2)
        return fail(ST_CONFIG, "the teacher has %lld outputs and the student %lld; set student.classes = %lld, or name "
                    "another teacher.output", (long long)a.dim[1], (long long)b.dim[1], (long long)a.dim[1]);
    return fail(ST_CONFIG, "the teacher's output is %s and the student's %s; name another teacher.output", shape_print(&a, x),
                shape_print(&b, y));
}

status session_match(session *s)
{
    const graph *g = s->tg.g;
    const shape *out = &graph_value(g, s->tg.logits)->sh;
    s->width = shape_count(out) / out->dim[0];
    s->numbers = job_gives_numbers(s->j, s->info, out->rank);
    if (s->tg.target && s->info->target_size != s->width)
        return config_fault(config_origin(s->j, "student.classes"), "%lld outputs and %lld targets a sample",
                            (long long)s->width, (long long)s->info->target_size);
    TRY(feed_match(g, s->tg.x, s->tg.n_x, s->info, "the student", &s->x));
    return feed_check_ids(g, &s->x, s->ds, "the student");
}

status session_open_evaluation(session *s)
{
    int64_t n = s->info->part[DATA_VAL].n;
    int64_t most = s->j->train.batch < TEACHER_BATCH ? TEACHER_BATCH : s->j->train.batch; /* a batch that fits can be small */
    most = most < EVAL_BATCH ? most : EVAL_BATCH;
    s->eval_batch = n < 1 ? 1 : n < most ? n : most;
    TRY(session_student(s, s->eval_batch, &s->eval_graph));
    s->eval_graph->n_output = 1;
    TRY(pass_drop_identity(s->eval_graph));
    TRY(feed_match(s->eval_graph, s->eval_graph->input, s->eval_graph->n_input, s->info, "the student", &s->eval_x));
    s->judged = s->j->train.ema > 0 || s->qat ? &s->copies : &s->params; /* rounding moves ranges */
    TRY(exec_open(s->eval_graph, s->b, s->judged, job_memory_limit(s->j), &s->eval));
    return forget_start_values(s->eval_graph);
}

status session_place_taps(session *s)
{
    TRY(arena_alloc(&s->mem, &s->taps, s->t.n_out, sizeof *s->taps));
    s->taps[0] = s->tg.teacher_logits ? exec_data(s->train, s->tg.teacher_logits) : NULL;
    for (size_t i = 0; i < s->n_hint; i++)
        s->taps[s->qat ? s->qat->tap[i] : i + 1] = exec_data(s->train, s->tg.tap[i]);
    for (size_t k = 1; k < s->t.n_out; k++) /* of hints that are left out */
        if (!s->taps[k])
            TRY(arena_alloc(&s->mem, &s->taps[k], (size_t)s->j->train.batch * s->t.width[k], sizeof *s->taps[k]));
    return ST_OK;
}

static status open_teacher(session *s)
{
    int64_t rows = s->j->teacher.batch;
    TRY(group_choose(s));
    if (!s->teacher_file)
        return ST_OK;
    if (s->together > 1)
        rows = s->together * s->j->train.batch;
    if (rows == 0) /* a device wants much at a time, and hands the outputs on */
        rows = s->b->remote || s->j->train.batch < TEACHER_BATCH ? s->j->train.batch : TEACHER_BATCH;
    status st = session_open_frozen_teacher(s, rows);
    if (st != ST_OK)
        return s->together > 1 ? fail_within(st, "%lld batches at once (teacher.ahead)", (long long)s->together) : st;
    if (s->kd)
        TRY(match_outputs(s, frozen_shape(&s->t, 0)));
    TRY(session_place_taps(s));
    return session_open_cache(s);
}

status session_open_loader(session *s)
{
    loader_options o = job_loader_options(s->j);
    o.places = s->near != NULL;
    o.keep = (uint32_t)s->together;
    TRY(loader_open(s->ds, &o, &s->in));
    uint64_t pass = loader_pass_steps(s->in) / (uint64_t)s->j->train.accumulate;
    s->steps_per_epoch = s->j->train.steps_per_epoch ? (uint64_t)s->j->train.steps_per_epoch : pass ? pass : 1;
    s->steps = s->j->train.steps ? (uint64_t)s->j->train.steps : (uint64_t)s->j->train.epochs * s->steps_per_epoch;
    return job_schedule(s->j, s->steps_per_epoch, s->steps, &s->mem, &s->lr);
}

status session_open(const job *j, session *out)
{
    session *s = out;
    graph *teacher = NULL;
    status st = ST_OK;
    *s = (session){.j = j};
    if (j->train.batch < 1)
        return config_fault(config_origin(j, "train.batch"), "a number is wanted here; auto is for training");
    backend_options bo = job_backend_options(j);
    data_options data;
    TRY_DONE(backend_open(j->exec.device, &bo, &s->b));
    TRY_DONE(session_open_teacher_file(s));
    if (s->teacher_file) {
        TRY_DONE(session_import_teacher(s, 1, false, &teacher));
        TRY_DONE(arena_strdup(&s->mem, &s->teacher_output, teacher->value[teacher->output[0]].name));
    }
    TRY_DONE(job_data_options(j, teacher, s->kd || hints_wanted(j), &s->mem, &data));
    TRY_DONE(dataset_open(&data, &s->ds));
    s->info = dataset_info(s->ds);
    /* Hints may name values inside the teacher: the whole graph is at hand in `teacher`. */
    TRY_DONE(open_student(s, teacher));
    if (s->n_hint)
        TRY_DONE(session_tap_shapes(s, teacher));
    graph_free(teacher); /* it may be large, and open_teacher makes the one that runs */
    teacher = NULL;
    TRY_DONE(session_open_training(s));
    TRY_DONE(open_teacher(s));
    if (s->teacher_file)
        onnx_release(s->teacher_file);
    TRY_DONE(session_open_evaluation(s));
    TRY_DONE(session_open_near(s));
    TRY_DONE(session_open_loader(s));
    TRY_DONE(group_open(s));
    TRY_DONE(session_open_chain(s));
    onnx_close(s->student_file);
    s->student_file = NULL;
    s->spec.file = NULL;
done:
    graph_free(teacher);
    if (st != ST_OK)
        session_close(s);
    return st;
}

void session_close(session *s)
{
    loader_close(s->in);
    exec_chain_close(s->chain);
    group_close(s);
    tap_table_close(s->rows);
    resident_close(s->near);
    exec_close(s->eval);
    graph_free(s->eval_graph);
    store_free(&s->copies);
    exec_close(s->train);
    train_graph_free(&s->tg);
    store_free(&s->params);
    frozen_close(&s->t);
    onnx_close(s->teacher_file);
    onnx_close(s->student_file);
    dataset_close(s->ds);
    backend_close(s->b);
    mem_free(s->teacher_val);
    arena_free(&s->mem);
    *s = (session){0};
}

session_memory session_measure_memory(const session *s)
{
    session_memory m = {0};
    m.data = dataset_bytes(s->ds);
    m.batches = loader_bytes(s->in);
    for (size_t i = 0; i < s->params.n; i++)
        *(s->params.at[i].kind == VALUE_PARAM ? &m.parameters : &m.optimizer) += tensor_bytes(&s->params.at[i].t);
    m.activations = exec_plan(s->train)->activations;
    m.workspace = exec_plan(s->train)->workspace + exec_plan(s->train)->prepared_bytes + exec_plan(s->train)->copies;
    if (s->t.e) {
        const plan *p = exec_plan(s->t.e);
        m.teacher = p->activations + p->workspace + p->constants + p->prepared_bytes + group_bytes(s);
        m.teacher_cache = s->t.cache ? cache_measure(s->t.cache).memory : 0;
    }
    const plan *p = exec_plan(s->eval);
    m.evaluation = p->activations + p->workspace + store_bytes(&s->copies) + p->prepared_bytes;
    return m;
}

/* ---- a step ---- */

static double scalar(const exec *e, value_id v)
{
    return v ? (double)*(const float *)exec_data(e, v) : (double)NAN;
}

static void put_scalar(const exec *e, value_id v, double x)
{
    if (v)
        *(float *)exec_data(e, v) = (float)x;
}

void session_weights(const session *s, uint64_t step, float w[3], float *hint)
{
    const job_distill *d = &s->j->distill;
    const double from[3] = {d->task, d->kd, d->temperature}, to[3] = {d->task_end, d->kd_end, d->temperature_end};
    for (int i = 0; i < 3; i++)
        w[i] = (float)ramp_at(d->ramp, from[i], isnan(to[i]) ? from[i] : to[i], step, s->steps);
    for (size_t i = 0; i < s->n_hint; i++)
        hint[i] = (float)ramp_at(d->ramp, s->hint_from[i], s->hint_to[i], step, s->steps);
}

static void put_schedule(session *s, uint64_t step)
{
    session_weights(s, step, exec_data(s->train, s->tg.weights),
                    s->n_hint ? exec_data(s->train, s->tg.hint_weights) : NULL);
    put_scalar(s->train, s->tg.lr, schedule_at(&s->lr, step));
    put_scalar(s->train, s->tg.step, (double)(step + 1));
}

const char *session_task_name(const session *s)
{
    static const char *const names[] = {[TASK_LOSS_CE] = "loss.ce", [TASK_LOSS_BCE] = "loss.bce",
                                        [TASK_LOSS_MSE] = "loss.mse", [TASK_LOSS_L1] = "loss.l1",
                                        [TASK_LOSS_SMOOTH_L1] = "loss.smooth_l1"};
    return names[s->j->distill.task_loss];
}

const char *session_kd_name(const session *s)
{
    static const char *const names[] = {[OUTPUT_LOSS_KL] = "loss.kl", [OUTPUT_LOSS_MSE] = "loss.teacher_mse",
                                        [OUTPUT_LOSS_L1] = "loss.teacher_l1",
                                        [OUTPUT_LOSS_SMOOTH_L1] = "loss.teacher_smooth_l1"};
    return names[s->j->distill.output_loss];
}

/* Float targets of samples without a label are NaN: the task loss leaves them out. */
static void put_targets(session *s, const batch *b)
{
    float *t = exec_data(s->train, s->tg.target);
    size_t each = (size_t)s->info->target_size;
    memcpy(t, b->target, b->n * each * sizeof *t);
    for (uint32_t i = 0; i < b->n; i++)
        for (size_t k = 0; b->label[i] < 0 && k < each; k++)
            t[i * each + k] = NAN;
}

static void put_batch(session *s, const batch *b)
{
    if (!session_is_chained(s) || !s->chain_x)
        feed_put(&s->x, s->train, 0, b->x, 0, b->n);
    if (s->tg.label)
        memcpy(exec_data(s->train, s->tg.label), b->label, b->n * sizeof *b->label);
    if (s->tg.label2) {
        memcpy(exec_data(s->train, s->tg.label2), b->label2, b->n * sizeof *b->label2);
        memcpy(exec_data(s->train, s->tg.lambda), b->lambda, b->n * sizeof *b->lambda);
    }
    if (s->tg.target)
        put_targets(s, b);
}

static status ask_teacher(session *s, const batch *b)
{
    if (s->group)
        return group_ask(s);
    if (s->t.cache)
        return frozen_run_remembered(&s->t, s->t.cache, b->x, b->n, b->index, b->view, s->taps);
    return s->kd || s->n_hint ? frozen_run(&s->t, b->x, b->n, s->taps) : ST_OK;
}

static void read_losses(const session *s, double share, step_result *r)
{
    const train_graph *t = &s->tg;
    double rows = (double)s->j->train.batch;
    r->total += share * scalar(s->train, t->total);
    r->task += share * scalar(s->train, t->task);
    r->kl += share * scalar(s->train, t->kl);
    r->correct += share * scalar(s->train, t->correct) / rows;
    r->agree += share * scalar(s->train, t->agree) / rows;
    for (size_t i = 0; i < s->n_hint; i++)
        r->hint[i] += share * scalar(s->train, t->hint[i]);
}

/* The part that began at `begin` is over: returns now. */
static double end_part(const session *s, session_part part, double begin, const batch *b)
{
    double now = clock_seconds();
    if (s->seen)
        s->seen(s->seen_ctx, part, begin, now, b);
    return now;
}

/* Teacher and main phase for a batch that is in place; with chain_update the update too. `at`: when it began, then ended. */
static status run_batch(session *s, const batch *b, double *at)
{
    if (session_is_chained(s)) {
        if (!s->chain_teacher && !s->chain_rows)
            TRY(ask_teacher(s, b));
        return session_run_chain(s, b);
    }
    TRY(ask_teacher(s, b));
    *at = end_part(s, PART_TEACHER, *at, b);
    TRY(exec_run(s->train, PHASE_MAIN));
    *at = end_part(s, PART_MAIN, *at, b);
    return ST_OK;
}

static status run_update(session *s, const step_result *r)
{
    if (!isfinite(r->total) && s->tg.n_param) { /* gradients may be finite where the loss overflowed: through the norm */
        const float none = NAN;                 /* the update hears of it and skips the step */
        TRY(exec_put(s->train, s->tg.grad[0], &none, sizeof none));
    }
    double at = clock_seconds();
    TRY(exec_run(s->train, PHASE_UPDATE));
    end_part(s, PART_UPDATE, at, NULL);
    return ST_OK;
}

static void clear_result(const session *s, step_result *r)
{
    double *hint = r->hint;
    *r = (step_result){.hint = hint};
    for (size_t i = 0; i < s->n_hint; i++)
        hint[i] = 0;
}

/* Micro batch m of a step into its places. `at`: when that was over. */
static status take_batch(session *s, uint64_t step, int64_t m, batch *made, double *waited, double *at)
{
    const batch *b;
    double asked = clock_seconds();
    TRY(s->group ? group_next(s, &b) : loader_next(s->in, &b));
    *at = end_part(s, PART_WAIT, asked, b);
    *waited += *at - asked;
    TRY(session_make_batch(s, b, made));
    put_batch(s, made);
    if (s->tg.counter)
        *(int64_t *)exec_data(s->train, s->tg.counter) = (int64_t)step * s->j->train.accumulate + m;
    if (s->group && session_is_chained(s))
        group_put_turn(s);
    *at = end_part(s, PART_BATCH, *at, made);
    return ST_OK;
}

/* What is read after the update. */
static void read_update(const session *s, step_result *r)
{
    r->norm = scalar(s->train, s->tg.norm);
    r->lr = scalar(s->train, s->tg.lr);
    r->finite = isfinite(scalar(s->train, s->tg.scale)) && isfinite(r->total);
    r->loss_scale = scalar(s->train, s->tg.loss_scale);
    r->skipped = scalar(s->train, s->tg.skipped);
    r->overflow = s->tg.loss_scale && !r->finite && isfinite(r->total);
    if (r->overflow && r->loss_scale > LOSS_SCALE_SMALLEST)
        r->nonfinite = "gradients";
}

static status whole_step(session *s, uint64_t step, step_result *r)
{
    int64_t micro = s->j->train.accumulate;
    double began = clock_seconds(), at = began;
    clear_result(s, r);
    put_schedule(s, step);
    for (int64_t m = 0; m < micro; m++) {
        batch made;
        TRY(take_batch(s, step, m, &made, &r->waited, &at));
        TRY(run_batch(s, &made, &at));
        read_losses(s, 1.0 / (double)micro, r);
        if (!isfinite(r->total) && !r->nonfinite) /* of this micro batch: the next one overwrites it */
            r->nonfinite = session_find_nonfinite(s);
    }
    if (!session_is_chained(s) || !s->chain_update)
        TRY(run_update(s, r));
    read_update(s, r);
    if (!r->finite && !r->nonfinite)
        r->nonfinite = session_find_nonfinite(s);
    end_part(s, PART_STEP, began, NULL);
    return ST_OK;
}

/* ---- steps ahead of the host ---- */

static bool is_ahead(const session *s)
{
    return s->ahead && session_is_chained(s) && !exec_timing(s->train); /* kernels are timed one by one */
}

uint64_t session_steps_ahead(const session *s)
{
    return is_ahead(s) ? s->ahead - 1 : 0;
}

/* The teacher's launch comes before the step's, and between the begin of that and its launch nothing else runs. */
static status begin_group(session *s, double *waited)
{
    double asked = clock_seconds();
    if (!s->group)
        return ST_OK;
    TRY(group_read(s));
    *waited += clock_seconds() - asked;
    return group_launch(s);
}

status session_begin_step(session *s, uint64_t step)
{
    batch made;
    double at, waited = 0;
    TRY(session_take_rows(s));
    s->begun++;
    s->step_begun = step;
    if (!is_ahead(s))
        return ST_OK;
    TRY(begin_group(s, &waited));
    TRY(exec_chain_begin(s->chain));
    put_schedule(s, step);
    TRY(take_batch(s, step, 0, &made, &waited, &at));
    session_put_teacher(s, &made);
    s->waited[(s->begun - 1) % s->ahead] = waited;
    return exec_chain_launch(s->chain);
}

status session_end_step(session *s, step_result *r)
{
    s->ended++;
    if (!is_ahead(s))
        return whole_step(s, s->step_begun, r);
    clear_result(s, r);
    TRY(exec_chain_finish(s->chain));
    r->waited = s->waited[(s->ended - 1) % s->ahead];
    read_losses(s, 1, r);
    read_update(s, r);
    exec_chain_release(s->chain);
    if (!r->finite && !r->nonfinite)
        r->nonfinite = exec_chain_under_way(s->chain) ? session_guess_nonfinite(s, r) : session_find_nonfinite(s);
    return ST_OK;
}

status session_step(session *s, uint64_t step, step_result *r)
{
    TRY(session_begin_step(s, step));
    return session_end_step(s, r);
}

void session_seek(session *s, uint64_t step)
{
    const uint64_t k = step * (uint64_t)s->j->train.accumulate;
    if (s->group)
        group_seek(s, k);
    else
        loader_seek(s->in, k);
}
