/* cmd_quant.c - an existing float32 model in fewer bits. */
#include "base/io.h"
#include "base/io_shared.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/summary.h"
#include "deploy/prove.h"
#include "onnx/import.h"
#include "onnx/export.h"
#include "train/job_spec.h"
#include "train/sensitivity.h"
#include "train/session_qat.h"
#include "train/variants.h"

#include <math.h>
#include <string.h>

typedef struct quantised {
    cli *c;
    job *j;
    arena mem;
    const char *model, *out, *key;
    dataset *ds;
    backend *b;
    validation v;
    proof p;
    int64_t bytes;
} quantised;

static status choose_files(quantised *x)
{
    const options *o = &x->c->o;
    if (o->args.n != 1 || (!o->variant && !o->sensitivity))
        return fail(ST_USAGE, "distill quant MODEL --data DIR --variant KEY [--out FILE], or --sensitivity");
    if (o->variant && variant_of_teacher(o->variant))
        return fail(ST_USAGE, "variant '%s' is a run's; here MODEL is any float32 model: name the teacher's file and '%s'", o->variant,
                    o->variant + strlen("teacher-"));
    x->model = o->args.at[0];
    x->key = o->variant;
    size_t n = strlen(x->model);
    int stem = (int)(n > 5 && strcmp(x->model + n - 5, ".onnx") == 0 ? n - 5 : n);
    if (o->out)
        return arena_strdup(&x->mem, &x->out, o->out);
    return x->key ? arena_printf(&x->mem, &x->out, "%.*s.%s.onnx", stem, x->model, x->key) : ST_OK;
}

/* A variant that trains: the model is the student, and the teacher too where none is named. */
static status train_variant(quantised *x)
{
    session s = {0};
    const char *dir;
    status st = ST_OK;
    x->j->student.onnx = x->model;
    if (!*x->j->teacher.path) {
        log_info("no --teacher: the model in float is the teacher");
        x->j->teacher.path = x->model;
    }
    TRY(arena_printf(&x->mem, &dir, "%s.train", x->out));
    TRY(session_open(x->j, &s));
    const prove_options o = {.b = s.b, .ds = s.ds, .ort = x->c->o.ort, .atol = 1e-4, .rtol = 1e-4, .lim = &x->j->limits,
                             .numbers = s.numbers};
    TRY_DONE(prove(&o, NULL, x->model, &x->v, &x->p));
    const export_pair facts[] = {{"distill.teacher", s.teacher_file ? s.teacher_file->sha256 : "none"}, {"distill.student", s.title}};
    const cli_variant v = {.key = x->key, .dir = dir, .file = x->out, .path = x->out, .facts = facts, .n_facts = 2,
                           .reference = x->p.student, .width = (size_t)x->p.width};
    st = cli_train_variant(x->c, &s, &v, &o, &x->v);
done:
    session_close(&s);
    return st;
}

static status show(quantised *x)
{
    summary m = {.v = &x->v, .student = {x->model, x->p.student_parameters, x->p.student_macs, x->bytes}};
    TRY(summary_print(&m, x->c->o.json));
    return prove_held(&x->v) ? ST_OK : fail(ST_GATE, "not all checks held");
}

static status make_variant(quantised *x)
{
    const job *j = x->j;
    const variant_job vj = {.j = j, .b = x->b, .ds = x->ds, .student = x->model, .teacher = *j->teacher.path ? j->teacher.path : NULL};
    const prove_options o = {.b = x->b, .ds = x->ds, .ort = x->c->o.ort, .atol = 1e-4, .rtol = 1e-4, .lim = &j->limits,
                             .numbers = job_gives_numbers(j, dataset_info(x->ds), 2)};
    text line = {0};
    if (strcmp(x->out, x->model) == 0)
        return fail(ST_USAGE, "--out is the model itself");
    if (qat_variant(x->key)) {
        TRY(train_variant(x));
        return show(x);
    }
    status st = variant_write(&vj, x->key, x->out, &line);
    if (st == ST_OK)
        log_info("variant %s", line.s);
    text_free(&line);
    TRY(st);
    TRY(prove(&o, NULL, x->model, &x->v, &x->p));
    const cli_variant made = {.key = x->key, .file = x->out, .path = x->out, .reference = x->p.student, .width = (size_t)x->p.width};
    TRY(cli_prove_variant(j, &made, "student", &o, &x->v));
    return show(x);
}

static void sensitivity_lines(const sensitivity *s, text *t)
{
    text_printf(t, "%-40s %12s %14s %12s\n", "only this layer in int8", "mean KL", "largest error", "accuracy");
    for (size_t i = 0; i < s->n; i++) {
        const sensitivity_row *r = &s->row[i];
        text_printf(t, "%-40s %12.3e %14.4g", r->name, r->kl, r->max_abs);
        if (isnan(r->accuracy))
            text_printf(t, " %12s\n", "-");
        else
            text_printf(t, " %10.2f %%\n", 100 * r->accuracy);
    }
    text_printf(t, "on %zu samples; in float32 the accuracy is %.2f %%. To keep layers in float: --set quant.keep_float=NAME\n",
                s->samples, 100 * s->accuracy);
}

static void sensitivity_json(const sensitivity *s, text *t)
{
    json j = {.out = t};
    json_put_object(&j, NULL);
    json_put_int(&j, "samples", (int64_t)s->samples);
    json_put_number(&j, "accuracy", s->accuracy);
    json_put_array(&j, "layers");
    for (size_t i = 0; i < s->n; i++) {
        json_put_object(&j, NULL);
        json_put_string(&j, "name", s->row[i].name);
        json_put_number(&j, "kl", s->row[i].kl);
        json_put_number(&j, "max_abs", s->row[i].max_abs);
        json_put_number(&j, "accuracy", s->row[i].accuracy);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_end_object(&j);
    text_add(t, "\n");
}

static status rank_layers(quantised *x)
{
    const variant_job vj = {.j = x->j, .b = x->b, .ds = x->ds, .student = x->model};
    sensitivity s = {0};
    text t = {0};
    status st = sensitivity_find(&vj, &s);
    if (st == ST_OK) {
        (x->c->o.json ? sensitivity_json : sensitivity_lines)(&s, &t);
        st = cli_print(&t);
    }
    sensitivity_free(&s);
    return st;
}

status cmd_quant(cli *c)
{
    quantised x = {.c = c};
    status st = ST_OK;
    TRY_DONE(choose_files(&x));
    TRY_DONE(cli_load_job(c, false, &x.j));
    TRY_DONE(cli_open_data(x.j, x.model, &x.mem, &x.ds, &x.bytes));
    backend_options bo = job_backend_options(x.j);
    TRY_DONE(backend_open(x.j->exec.device, &bo, &x.b));
    st = c->o.sensitivity ? rank_layers(&x) : make_variant(&x);
done:
    proof_free(&x.p);
    validation_free(&x.v);
    backend_close(x.b);
    dataset_close(x.ds);
    config_free(x.j);
    arena_free(&x.mem);
    return st;
}
