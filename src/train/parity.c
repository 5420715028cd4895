/* parity.c - the training graph itself, driven step by step with nothing around it. */
#include "train/parity.h"
#include "train/job_spec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SCALE 1024 /* of the loss in float16: large enough for small gradients, and the first step is to be seen, not skipped */

typedef struct bench {
    session s; /* only data, device, specs and the training graph are opened */
    graph *teacher;
    exec *teach;
    feed teach_x;
    bool wide;
} bench;

/* Numbers go in and come out as the graph's type. */
static void put(const bench *b, value_id v, const float *from, int64_t n)
{
    if (!v)
        return;
    dtype t = graph_value(b->s.tg.g, v)->type;
    void *to = exec_data(b->s.train, v);
    for (int64_t i = 0; i < n; i++)
        dtype_store(t, to, i, (double)from[i]);
}

static void put_number(const bench *b, value_id v, double x)
{
    if (v)
        dtype_store(graph_value(b->s.tg.g, v)->type, exec_data(b->s.train, v), 0, x);
}

static double get(const bench *b, value_id v)
{
    return v ? dtype_load(graph_value(b->s.tg.g, v)->type, exec_data(b->s.train, v), 0) : (double)NAN;
}

static status keep_value(const bench *b, value_id v, const char *name, tensor_list *out)
{
    tensor t;
    const value *x = graph_value(b->s.tg.g, v);
    TRY(tensor_new(&t, name, x->type, x->sh));
    memcpy(t.data, exec_data(b->s.train, v), tensor_bytes(&t));
    return tensor_list_add(out, &t);
}

/* ---- opening ---- */

/* As asked by name, or like the student; whether its outputs agree is not looked at here. */
static status open_teacher_in(bench *b)
{
    static const dtype types[] = {[TEACHER_FP16] = DTYPE_F16, [TEACHER_BF16] = DTYPE_BF16, [TEACHER_FP8] = DTYPE_NONE};
    session *s = &b->s;
    const teacher_precision_kind how = s->j->teacher.precision;
    dtype narrow = how == TEACHER_SAME ? s->narrow : types[how];
    TRY(backend_narrow(s->b, s->b->set_narrow ? narrow : DTYPE_NONE));
    status st = exec_open_frozen(b->teacher, s->b, 0, &b->teach);
    status back = backend_narrow(s->b, DTYPE_NONE);
    return st != ST_OK ? st : back;
}

static status open_teacher(bench *b)
{
    session *s = &b->s;
    if (!s->teacher_file)
        return ST_OK;
    if (s->j->teacher.precision == TEACHER_FP8 && !b->wide)
        return fail(ST_UNAVAILABLE, "teacher.precision = fp8: single steps have no samples for its ranges; compare with bf16 or fp32");
    TRY(session_import_teacher(s, s->j->train.batch, true, &b->teacher));
    TRY(feed_match(b->teacher, b->teacher->input, b->teacher->n_input, s->info, "the teacher", &b->teach_x));
    TRY(feed_check_ids(b->teacher, &b->teach_x, s->ds, "the teacher"));
    if (s->j->teacher.precision == TEACHER_INT8 && !b->wide)
        TRY(session_quantise_teacher(s, &b->teacher));
    if (b->wide) {
        TRY(pass_drop_identity(b->teacher));
        TRY(pass_to_double(b->teacher)); /* before folding, which then rounds to double */
        TRY(pass_fold_batch_norm(b->teacher));
    } else {
        TRY(frozen_passes(b->teacher));
    }
    if (s->j->teacher.precision == TEACHER_BF16 && !b->wide)
        TRY(pass_linear_bf16(b->teacher));
    for (size_t i = 0; i < b->teach_x.n; i++) /* the passes may have numbered the inputs anew */
        b->teach_x.port[i].to = b->teacher->input[i];
    return open_teacher_in(b);
}

static status open_bench(const parity_options *o, bench *b)
{
    session *s = &b->s;
    graph *teacher = NULL, *student = NULL;
    data_options data;
    train_spec spec;
    status st = ST_OK;
    b->wide = o->wide;
    s->j = o->j;
    if (o->j->train.batch < 1)
        TRY_DONE(config_fault(config_origin(o->j, "train.batch"), "a number is wanted here; auto is for training"));
    backend_options bo = job_backend_options(o->j);
    if (o->wide)
        bo.max_isa = ISA_REF;
    TRY_DONE(backend_open(o->wide ? "cpu" : o->j->exec.device, &bo, &s->b)); /* devices have no kernels for double */
    TRY_DONE(session_open_teacher_file(s));
    if (s->teacher_file) {
        TRY_DONE(session_import_teacher(s, 1, false, &teacher));
        TRY_DONE(arena_strdup(&s->mem, &s->teacher_output, teacher->value[teacher->output[0]].name));
    }
    TRY_DONE(job_data_options(o->j, teacher, s->teacher_file != NULL, &s->mem, &data));
    data.augment = (augment_options){0};
    data.val_ratio = 0; /* every sample trains */
    TRY_DONE(dataset_open(&data, &s->ds));
    s->info = dataset_info(s->ds);
    TRY_DONE(job_student_spec(o->j, s->info, teacher, &s->spec));
    TRY_DONE(student_build(&s->spec, o->j->train.batch, &student));
    TRY_DONE(job_hints(o->j, student, teacher, &s->mem, s));
    TRY_DONE(session_tap_shapes(s, teacher));
    if (!b->wide && o->j->train.precision != TRAIN_AUTO)
        TRY_DONE(session_choose_precision(s, student));
    TRY_DONE(job_train_spec(s, &spec));
    if (spec.opt.loss_scale > 0)
        spec.opt.loss_scale = SCALE;
    spec.mixup = false;
    spec.keep_gradients = true;
    TRY_DONE(train_graph_build(student, &spec, &s->tg));
    TRY_DONE(session_match(s));
    if (b->wide)
        TRY_DONE(pass_to_double(s->tg.g));
    TRY_DONE(session_open_train_exec(s, 0));
    TRY_DONE(open_teacher(b));
    loader_options lo = loader_train_options((uint32_t)o->j->train.batch, 1);
    lo.shuffle = lo.augment = false;
    TRY_DONE(loader_open(s->ds, &lo, &s->in));
    s->steps = o->steps;
    s->steps_per_epoch = loader_pass_steps(s->in);
    st = job_schedule(o->j, s->steps_per_epoch, o->steps, &s->mem, &s->lr);
done:
    graph_free(student);
    graph_free(teacher);
    return st;
}

static void close_bench(bench *b)
{
    exec_close(b->teach);
    graph_free(b->teacher);
    session_close(&b->s);
}

/* ---- one step ---- */

/* A batch into the inputs of a graph, which may be wider than the data. */
static void put_inputs(const graph *g, const exec *e, const feed *f, const data_info *info, const batch *in)
{
    for (size_t i = 0; i < f->n; i++) {
        const value *v = graph_value(g, f->port[i].to);
        dtype from = info->input[f->port[i].from].type;
        void *to = exec_data(e, f->port[i].to);
        int64_t n = shape_count(&v->sh);
        const void *x = in->x[f->port[i].from];
        if (from == v->type)
            memcpy(to, x, (size_t)n * dtype_of(from)->size);
        for (int64_t k = 0; from != v->type && k < n; k++)
            dtype_store(v->type, to, k, dtype_load(from, x, k));
    }
}

static status teach(const bench *b, const batch *in)
{
    const session *s = &b->s;
    if (!b->teach)
        return ST_OK;
    put_inputs(b->teacher, b->teach, &b->teach_x, s->info, in);
    TRY(exec_run(b->teach, PHASE_MAIN));
    for (size_t i = 0; i < 1 + s->n_hint; i++) {
        value_id from = b->teacher->output[i], to = i ? s->tg.tap[i - 1] : s->tg.teacher_logits;
        if (to)
            memcpy(exec_data(s->train, to), exec_data(b->teach, from),
                   (size_t)shape_count(&graph_value(b->teacher, from)->sh) *
                       dtype_of(graph_value(b->teacher, from)->type)->size);
    }
    return ST_OK;
}

static void put_targets(const bench *b, const batch *in)
{
    const session *s = &b->s;
    if (s->tg.label)
        memcpy(exec_data(s->train, s->tg.label), in->label, in->n * sizeof *in->label);
    if (s->tg.target)
        put(b, s->tg.target, in->target, (int64_t)in->n * s->info->target_size);
}

static void put_schedule(const bench *b, uint64_t step)
{
    const session *s = &b->s;
    float w[3], h[HINTS_MAX];
    session_weights(s, step, w, h);
    put(b, s->tg.weights, w, 3);
    put(b, s->tg.hint_weights, h, (int64_t)s->n_hint);
    put_number(b, s->tg.lr, schedule_at(&s->lr, step));
    put_number(b, s->tg.step, (double)(step + 1));
}

static status keep_first(const bench *b, tensor_list *out)
{
    char name[1100];
    const train_graph *t = &b->s.tg;
    if (t->teacher_logits)
        TRY(keep_value(b, t->teacher_logits, "teacher.logits", out));
    TRY(keep_value(b, t->logits, "student.logits", out));
    for (size_t i = 0; i < t->n_param; i++) {
        snprintf(name, sizeof name, "grad.%s", graph_value(t->g, t->param[i])->name);
        TRY(keep_value(b, t->grad[i], name, out));
        tensor *g = &out->at[out->n - 1];
        for (int64_t k = 0; t->loss_scale && k < shape_count(&g->sh); k++)
            tensor_put(g, k, tensor_at(g, k) / SCALE);
    }
    return ST_OK;
}

/* One row of figures per step, as [steps] tensors. */
static status new_rows(uint64_t steps, const char *name, bool wanted, tensor *t)
{
    *t = (tensor){0};
    return wanted ? tensor_new(t, name, DTYPE_F64, SHAPE((int64_t)steps)) : ST_OK;
}

static void add_figure(tensor *t, uint64_t step, double x)
{
    if (t->data)
        ((double *)t->data)[step] = x;
}

static status run_steps(bench *b, tensor *rows, tensor *hint_rows, tensor_list *out)
{
    session *s = &b->s;
    for (uint64_t step = 0; step < s->steps; step++) {
        const batch *in;
        TRY(loader_next(s->in, &in));
        put_inputs(s->tg.g, s->train, &s->x, s->info, in);
        put_targets(b, in);
        put_schedule(b, step);
        TRY(teach(b, in));
        if (s->tg.counter)
            *(int64_t *)exec_data(s->train, s->tg.counter) = (int64_t)step;
        TRY(exec_run(s->train, PHASE_MAIN));
        const double figures[] = {get(b, s->tg.total), get(b, s->tg.task), get(b, s->tg.kl), get(b, s->tg.lr)};
        for (int i = 0; i < 4; i++)
            add_figure(&rows[i], step, figures[i]);
        for (size_t i = 0; i < s->n_hint; i++)
            add_figure(&hint_rows[i], step, get(b, s->tg.hint[i]));
        if (step == 0)
            TRY(keep_first(b, out));
        TRY(exec_run(s->train, PHASE_UPDATE));
    }
    return ST_OK;
}

static status keep_entry(const bench *b, const char *name, tensor_list *out)
{
    const store_entry *e = store_find(&b->s.params, name);
    tensor t;
    if (!e)
        return ST_OK;
    TRY(tensor_copy(&t, &e->t));
    return tensor_list_add(out, &t);
}

/* Parameters (regressors of hints too) and running statistics; the optimizer's own state is not asked for. */
static status keep_state(bench *b, tensor_list *out)
{
    session *s = &b->s;
    const train_graph *t = &s->tg;
    graph *plain;
    status st = ST_OK;
    TRY(store_pull(&s->params));
    for (size_t i = 0; i < t->n_param; i++)
        TRY(keep_entry(b, graph_value(t->g, t->param[i])->name, out));
    TRY(student_build(&s->spec, s->j->train.batch, &plain));
    for (size_t v = 1; v < plain->n_value && st == ST_OK; v++)
        if (plain->value[v].kind == VALUE_STATE)
            st = keep_entry(b, plain->value[v].name, out);
    graph_free(plain);
    return st;
}

status parity_run(const parity_options *o, tensor_list *out)
{
    bench b = {0};
    tensor rows[4] = {{0}}, hints[HINTS_MAX] = {{0}};
    char name[200];
    status st = ST_OK;
    TRY_DONE(open_bench(o, &b));
    const session *s = &b.s;
    snprintf(name, sizeof name, "%s", session_task_name(s));
    TRY_DONE(new_rows(o->steps, "loss.total", true, &rows[0]));
    TRY_DONE(new_rows(o->steps, name, s->tg.task != 0, &rows[1]));
    TRY_DONE(new_rows(o->steps, session_kd_name(s), s->tg.kl != 0, &rows[2]));
    TRY_DONE(new_rows(o->steps, "lr", s->tg.lr != 0, &rows[3]));
    for (size_t i = 0; i < s->n_hint; i++) {
        snprintf(name, sizeof name, "loss.hint.%s", s->hint[i].name);
        TRY_DONE(new_rows(o->steps, name, true, &hints[i]));
    }
    TRY_DONE(run_steps(&b, rows, hints, out));
    for (int i = 0; i < 4; i++)
        if (rows[i].data)
            TRY_DONE(tensor_list_add(out, &rows[i]));
    for (size_t i = 0; i < s->n_hint; i++)
        TRY_DONE(tensor_list_add(out, &hints[i]));
    st = keep_state(&b, out);
done:
    for (int i = 0; i < 4; i++)
        tensor_free(&rows[i]);
    for (int i = 0; i < HINTS_MAX; i++)
        tensor_free(&hints[i]);
    close_bench(&b);
    return st;
}
