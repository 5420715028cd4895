/* summary.c - what a user reads at the end. */
#include "cli/summary.h"
#include "cli/cli.h"
#include "deploy/prove.h"

#include <math.h>
#include <string.h>

static void percent(text *t, double x)
{
    if (isnan(x))
        text_printf(t, " %10s", "-");
    else
        text_printf(t, " %8.2f %%", 100 * x);
}

static void model_row(const validation *v, text *t, const char *model, const summary_model *m)
{
    char p[24], macs[24], b[24];
    const runtime_result *own = NULL, *ort = NULL;
    for (size_t i = 0; i < v->n_runtimes; i++)
        if (strcmp(v->runtimes[i].model, model) == 0)
            *(strcmp(v->runtimes[i].runtime, "distill") == 0 ? &own : &ort) = &v->runtimes[i];
    double error = strcmp(model, "teacher") == 0 ? v->teacher.error : v->student.error;
    text_printf(t, "%-8s", model);
    if (v->numbers && !isnan(error))
        text_printf(t, " %10.4g", error);
    else
        percent(t, own ? own->accuracy : (double)NAN);
    text_printf(t, " %11s %9s %10s", human_count((double)m->parameters, p), human_count(m->macs, macs),
                human_bytes((double)m->bytes, b));
    for (int i = 0; i < 2; i++) {
        const runtime_result *r = i ? ort : own;
        if (r && r->has_latency)
            text_printf(t, " %8.3f", r->time.p50);
        else
            text_printf(t, " %8s", "-");
    }
    if (ort && ort->has_difference)
        text_printf(t, " %11.2e %12zu\n", ort->diff.max_abs, ort->diff.disagreements);
    else
        text_printf(t, " %11s %12s\n", "-", "-");
}

static void variant_rows(const validation *v, text *t)
{
    char b[24];
    if (!v->n_variants)
        return;
    text_printf(t, "\n%-18s %10s %10s %10s %10s %8s %8s %24s\n", "variant", "accuracy", "in ORT", "size", "as .tflite", "own ms",
                "ORT ms", "as in fp32 / ORT as own");
    for (size_t i = 0; i < v->n_variants; i++) {
        const variant_result *r = &v->variants[i];
        text_printf(t, "%-18s", r->key);
        percent(t, r->accuracy);
        percent(t, r->accuracy_ort);
        text_printf(t, " %10s", human_bytes((double)r->bytes, b));
        text_printf(t, " %10s", r->tflite ? human_bytes((double)r->tflite_bytes, b) : "-");
        for (int k = 0; k < 2; k++) {
            if (k ? r->has_latency_ort : r->has_latency)
                text_printf(t, " %8.3f", k ? r->time_ort.p50 : r->time.p50);
            else
                text_printf(t, " %8s", "-");
        }
        if (v->numbers)
            text_printf(t, " %11.3g", r->agreement.mean_abs);
        else
            text_printf(t, " %9.2f %%", 100 - 100 * (double)r->agreement.disagreements / (double)v->samples);
        if (!r->has_difference)
            text_printf(t, " %12s\n", "-");
        else if (v->numbers)
            text_printf(t, " %12.3g\n", r->diff.mean_abs);
        else
            text_printf(t, " %10.2f %%\n", 100 - 100 * (double)r->diff.disagreements / (double)v->samples);
    }
    for (size_t i = 0; i < v->n_variants; i++)
        if (v->variants[i].note)
            text_printf(t, "%s: %s (distill inspect says more)\n", v->variants[i].key, v->variants[i].note);
    for (size_t i = 0; i < v->n_variants; i++)
        if (v->variants[i].tflite_message)
            text_printf(t, "%s has no .tflite: %s\n", v->variants[i].key, v->variants[i].tflite_message);
}

static status print_table(const summary *m)
{
    text t = {0};
    const validation *v = m->v;
    text_printf(&t, "\n%-8s %10s %11s %9s %10s %17s %24s\n", "", v->numbers ? "mean error" : "accuracy", "parameters", "MACs", "size",
                "latency ms, 1 smp.", "own / ONNX Runtime");
    text_printf(&t, "%-8s %10s %11s %9s %10s %8s %8s %11s %12s\n", "", "", "", "", "", "own", "ORT", "max diff",
                "other class");
    if (m->teacher.path)
        model_row(v, &t, "teacher", &m->teacher);
    model_row(v, &t, "student", &m->student);
    variant_rows(v, &t);
    if (v->has_agreement && v->numbers)
        text_printf(&t, "\nthe student's outputs are %.4g from the teacher's in the mean (at most %.4g) on %zu samples\n",
                    v->agreement.mean_abs, v->agreement.max_abs, v->agreement.samples);
    else if (v->has_agreement)
        text_printf(&t, "\nthe student agrees with the teacher on %.2f %% of %zu samples\n",
                    100 - 100 * (double)v->agreement.disagreements / (double)v->agreement.samples,
                    v->agreement.samples);
    for (size_t i = 0; i < v->n_checks; i++)
        text_printf(&t, "%s %s: %s\n", v->checks[i].held ? "held  " : "FAILED", v->checks[i].name,
                    v->checks[i].detail);
    text_add(&t, "\n");
    if (m->dir || v->n_variants == 0)
        text_printf(&t, "%s\n", m->student.path);
    for (size_t i = 0; !m->dir && i < v->n_variants; i++) { /* what was made of that file */
        text_printf(&t, "%s\n", v->variants[i].file);
        if (v->variants[i].tflite)
            text_printf(&t, "%s\n", v->variants[i].tflite);
    }
    if (m->report)
        text_printf(&t, "%s\n", m->report);
    return cli_print(&t);
}

static void put_model(json *j, const char *key, const summary_model *m, const score *s)
{
    double accuracy = score_accuracy(s);
    json_put_object(j, key);
    json_put_string(j, "path", m->path);
    json_put_number(j, "accuracy", accuracy);
    if (!isnan(s->error))
        json_put_number(j, "error", s->error);
    json_put_int(j, "parameters", m->parameters);
    json_put_number(j, "macs", m->macs);
    json_put_int(j, "bytes", m->bytes);
    json_end_object(j);
}

static void put_runtimes(json *j, const validation *v)
{
    json_put_array(j, "runtimes");
    for (size_t i = 0; i < v->n_runtimes; i++) {
        const runtime_result *r = &v->runtimes[i];
        json_put_object(j, NULL);
        json_put_string(j, "model", r->model);
        json_put_string(j, "runtime", r->runtime);
        json_put_string(j, "version", r->version);
        json_put_bool(j, "ok", r->ok);
        json_put_number(j, "accuracy", r->accuracy);
        if (r->has_difference) {
            json_put_number(j, "max_difference", r->diff.max_abs);
            json_put_int(j, "disagreements", (int64_t)r->diff.disagreements);
        }
        if (r->has_latency)
            json_put_number(j, "latency_ms_p50", r->time.p50);
        json_end_object(j);
    }
    json_end_array(j);
}

static void put_variants(json *j, const validation *v)
{
    json_put_array(j, "variants");
    for (size_t i = 0; i < v->n_variants; i++) {
        const variant_result *r = &v->variants[i];
        json_put_object(j, NULL);
        json_put_string(j, "key", r->key);
        json_put_string(j, "model", r->model);
        json_put_string(j, "file", r->file);
        json_put_int(j, "bytes", r->bytes);
        json_put_number(j, "accuracy", r->accuracy);
        json_put_number(j, "accuracy_ort", r->accuracy_ort);
        if (r->has_agreement)
            json_put_int(j, "disagreements_with_fp32", (int64_t)r->agreement.disagreements);
        if (r->has_difference) {
            json_put_number(j, "max_difference", r->diff.max_abs);
            json_put_int(j, "disagreements", (int64_t)r->diff.disagreements);
        }
        if (r->has_latency)
            json_put_number(j, "latency_ms_p50", r->time.p50);
        if (r->has_latency_ort)
            json_put_number(j, "latency_ort_ms_p50", r->time_ort.p50);
        json_put_string(j, "tflite", r->tflite);
        json_put_int(j, "tflite_bytes", r->tflite_bytes);
        json_put_string(j, "tflite_message", r->tflite_message);
        json_put_string(j, "note", r->note);
        json_end_object(j);
    }
    json_end_array(j);
}

static status print_json(const summary *m)
{
    text t = {0};
    json j = {.out = &t};
    const validation *v = m->v;
    json_put_object(&j, NULL);
    json_put_int(&j, "schema", 1);
    json_put_bool(&j, "held", prove_held(v));
    if (m->teacher.path)
        put_model(&j, "teacher", &m->teacher, &v->teacher);
    put_model(&j, "student", &m->student, &v->student);
    put_runtimes(&j, v);
    put_variants(&j, v);
    json_put_array(&j, "checks");
    for (size_t i = 0; i < v->n_checks; i++) {
        json_put_object(&j, NULL);
        json_put_string(&j, "name", v->checks[i].name);
        json_put_bool(&j, "held", v->checks[i].held);
        json_put_string(&j, "detail", v->checks[i].detail);
        json_end_object(&j);
    }
    json_end_array(&j);
    if (m->loop) {
        json_put_int(&j, "steps", (int64_t)m->loop->steps_done);
        json_put_int(&j, "skipped_steps", (int64_t)m->loop->skipped);
        json_put_number(&j, "seconds", m->loop->seconds);
        json_put_number(&j, "data_wait_seconds", m->loop->waited);
        json_put_number(&j, "samples_per_second", m->loop->samples_per_second);
    }
    json_put_string(&j, "folder", m->dir);
    json_put_string(&j, "report", m->report);
    json_end_object(&j);
    text_add(&t, "\n");
    return cli_print(&t);
}

status summary_print(const summary *m, bool as_json)
{
    return as_json ? print_json(m) : print_table(m);
}
