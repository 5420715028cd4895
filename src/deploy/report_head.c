/* report_head.c - the top of the report: what was distilled, what came out, and whether it was proved. */
#include "deploy/report_page.h"

#include <math.h>
#include <string.h>

static const check_result *first_failed(const validation *v, size_t *failed)
{
    const check_result *first = NULL;
    *failed = 0;
    for (size_t i = 0; i < v->n_checks; i++)
        if (!v->checks[i].held) {
            first = first ? first : &v->checks[i];
            (*failed)++;
        }
    return first;
}

/* "11.8 times fewer parameters"; false, and nothing written, when it is not known or not fewer. */
static bool put_fewer(text *t, const char *before, int64_t teacher, int64_t student, const char *of_what)
{
    if (teacher <= 0 || student <= 0 || teacher <= student)
        return false;
    text_printf(t, "%s%.1f times fewer %s", before, (double)teacher / (double)student, of_what);
    return true;
}

/* The student's result in ONNX Runtime, or NULL. */
static const runtime_result *proof_of(const validation *v)
{
    for (size_t i = 0; i < v->n_runtimes; i++) {
        const runtime_result *r = &v->runtimes[i];
        if (r->ok && r->has_difference && strcmp(r->model, "student") == 0 &&
            strcmp(r->runtime, "ONNX Runtime") == 0)
            return r;
    }
    return NULL;
}

static void put_error_sentence(text *t, const validation *v)
{
    if (!isnan(v->student.error)) {
        text_printf(t, "The student's mean absolute error is %.4g", v->student.error);
        if (v->has_teacher && !isnan(v->teacher.error))
            text_printf(t, ", its teacher's %.4g", v->teacher.error);
        text_add(t, ".");
    }
    if (v->has_agreement)
        text_printf(t, "%sThe student's outputs are %.4g from its teacher's in the mean.", isnan(v->student.error) ? "" : " ",
                    v->agreement.mean_abs);
    if (isnan(v->student.error) && !v->has_agreement)
        text_add(t, "There were no targets to measure the student's error.");
}

static void put_accuracy_sentence(text *t, const validation *v)
{
    double accuracy = score_accuracy(&v->student),
           teacher = v->has_teacher ? score_accuracy(&v->teacher) : (double)NAN;
    if (v->numbers) {
        put_error_sentence(t, v);
        return;
    }
    if (!isnan(accuracy)) {
        text_add(t, "The student reaches ");
        page_percent(t, accuracy);
        if (!isnan(teacher)) {
            text_printf(t, ", %.2f points %s its teacher", fabs(100 * (teacher - accuracy)),
                        accuracy < teacher ? "below" : "above");
        }
        text_add(t, ".");
    } else if (v->has_agreement && v->agreement.samples > 0) {
        text_add(t, "The student gives its teacher's answer on ");
        page_percent(t, 1 - (double)v->agreement.disagreements / (double)v->agreement.samples);
        text_add(t, " of the samples; there were no labels.");
    } else {
        text_add(t, "There were no labels to measure the student's accuracy.");
    }
}

static void put_proof_sentence(text *t, const validation *v)
{
    const runtime_result *proof = proof_of(v);
    if (!proof) {
        text_add(t, " It was not compared in ONNX Runtime.");
        return;
    }
    text_add(t, " ONNX Runtime ");
    page_escaped(t, proof->version ? proof->version : "");
    if (v->numbers) {
        text_printf(t, " differs from our own executor by at most %.2g on ", proof->diff.max_abs);
    } else if (proof->diff.disagreements == 0) {
        text_add(t, " gives the same class as our own executor on all ");
    } else {
        text_add(t, " gives another class than our own executor on ");
        page_count(t, (int64_t)proof->diff.disagreements);
        text_add(t, " of ");
    }
    page_count(t, (int64_t)proof->diff.samples);
    text_add(t, " samples.");
}

static void put_findings(text *t, const report_data *r)
{
    put_accuracy_sentence(t, &r->val);
    if (r->run.has_teacher) {
        bool any =
            put_fewer(t, " It has ", r->run.teacher.parameters, r->run.student.parameters, "parameters");
        any |= put_fewer(t, any ? " and needs " : " It needs ", r->run.teacher.macs, r->run.student.macs,
                         "multiply-accumulates");
        text_add(t, any ? "." : "");
    }
    put_proof_sentence(t, &r->val);
}

static void put_failures(text *t, const check_result *first, size_t failed, size_t of)
{
    text_printf(t, "%zu of %zu checks did not hold; the first is: ", failed, of);
    page_escaped(t, first->name);
    if (first->detail) {
        text_add(t, " (");
        page_escaped(t, first->detail);
        text_add(t, ")");
    }
    text_add(t, ". ");
}

static void put_decision(text *t, const report_data *r)
{
    size_t failed = 0;
    const check_result *first = r->has_validation ? first_failed(&r->val, &failed) : NULL;
    bool done = strcmp(r->run.status, "done") == 0;
    if (!r->has_validation) {
        text_printf(t, "<p class=\"decision%s\"><b>Not proved yet</b>The student has not been validated%s",
                    strcmp(r->run.status, "failed") == 0 ? " no" : "",
                    done ? "." : ": the run is not finished, its status is ");
        if (!done) {
            page_escaped(t, r->run.status);
            text_add(t, ".");
        }
    } else {
        text_printf(t, "<p class=\"decision %s\"><b>", first ? "no" : r->val.n_checks ? "yes" : "");
        if (r->val.n_checks)
            page_tick(t, !first, "Every check held", "Do not ship this student");
        else
            text_add(t, "Nothing was checked");
        text_add(t, "</b>");
        if (first)
            put_failures(t, first, failed, r->val.n_checks);
        put_findings(t, r);
    }
    if (r->run.reason) {
        text_add(t, " ");
        page_escaped(t, r->run.reason);
    }
    text_add(t, "</p>\n");
}

/* Frees value and more. */
static void put_tile(text *t, text *value, const char *label, text *more)
{
    text_printf(t, "<li><strong>%s</strong><span>%s</span><span>%s</span></li>\n", value->s ? value->s : "",
                label, more->s ? more->s : "");
    if (value->st != ST_OK || more->st != ST_OK)
        t->st = value->st != ST_OK ? value->st : more->st;
    text_free(value);
    text_free(more);
}

static void put_ratio_tile(text *t, int64_t teacher, int64_t student, const char *fewer, const char *plain)
{
    text value = {0}, more = {0};
    char buf[24];
    if (teacher > 0 && student > 0)
        text_printf(&value, "%.1f\xc2\xa0\xc3\x97", (double)teacher / (double)student);
    else
        text_add(&value, student >= 0 ? human_count((double)student, buf) : "\xe2\x80\x93");
    if (teacher > 0 && student >= 0)
        text_printf(&more, "%s", human_count((double)student, buf));
    if (teacher > 0 && student >= 0)
        text_printf(&more, " instead of %s", human_count((double)teacher, buf));
    put_tile(t, &value, teacher > 0 ? fewer : plain, &more);
}

static void put_accuracy_tile(text *t, const report_data *r)
{
    text value = {0}, more = {0};
    if (r->has_validation && r->val.numbers) {
        page_number(&value, r->val.student.error, "%.4g");
        if (r->val.has_teacher && !isnan(r->val.teacher.error))
            text_printf(&more, "teacher %.4g", r->val.teacher.error);
        put_tile(t, &value, "student's mean error", &more);
        return;
    }
    page_percent(&value, r->has_validation ? score_accuracy(&r->val.student) : (double)NAN);
    if (r->has_validation && r->val.has_teacher) {
        text_add(&more, "teacher ");
        page_percent(&more, score_accuracy(&r->val.teacher));
    }
    put_tile(t, &value, "student's accuracy", &more);
}

static void put_latency_tile(text *t, const report_data *r)
{
    const runtime_result *s = r->has_validation ? page_latency_of(&r->val, "student") : NULL;
    const runtime_result *teacher = r->has_validation ? page_latency_of(&r->val, "teacher") : NULL;
    text value = {0}, more = {0};
    if (s)
        text_printf(&value, "%.3g\xc2\xa0ms", s->time.p50);
    else
        text_add(&value, "\xe2\x80\x93");
    if (s && teacher)
        text_printf(&more, "teacher %.3g\xc2\xa0ms", teacher->time.p50);
    put_tile(t, &value, "latency, median", &more);
}

static void put_tiles(text *t, const report_data *r)
{
    int64_t none = -1;
    const run_info *i = &r->run;
    text_add(t, "<ul class=\"tiles\">\n");
    put_accuracy_tile(t, r);
    put_ratio_tile(t, i->has_teacher ? i->teacher.parameters : none, i->student.parameters,
                   "fewer parameters", "parameters");
    put_ratio_tile(t, i->has_teacher ? i->teacher.macs : none, i->student.macs, "fewer multiply-accumulates",
                   "multiply-accumulates");
    put_latency_tile(t, r);
    text_add(t, "</ul>\n");
}

/* "2025-11-21T14:00:00Z" as "2025-11-21 14:00 UTC"; anything else as it stands. */
static void put_time(text *t, const char *when)
{
    if (strlen(when) != strlen("2025-11-21T14:00:00Z") || when[10] != 'T' || when[19] != 'Z') {
        page_escaped(t, when);
        return;
    }
    char day[11] = {0}, minute[6] = {0};
    memcpy(day, when, 10);
    memcpy(minute, when + 11, 5);
    page_escaped(t, day);
    text_add(t, " ");
    page_escaped(t, minute);
    text_add(t, " UTC");
}

void page_headline(text *t, const report_data *r)
{
    char buf[24];
    text_add(t, "<p class=\"kind\">Distillation report</p>\n<h1>");
    page_escaped(t, r->run.name);
    text_add(t, "</h1>\n<p class=\"quiet\">");
    page_escaped(t, r->run.student.name ? r->run.student.name : "A student");
    if (r->run.has_teacher) {
        text_add(t, " distilled from ");
        page_escaped(t, r->run.teacher.name ? r->run.teacher.name : r->run.teacher.path);
    }
    if (r->run.method) {
        text_add(t, "; ");
        page_escaped(t, r->run.method);
    }
    text_add(t, ". ");
    page_count(t, r->run.steps_done);
    text_add(t, " steps");
    if (r->run.steps > r->run.steps_done) {
        text_add(t, " of ");
        page_count(t, r->run.steps);
    }
    if (isfinite(r->run.epochs))
        text_printf(t, ", %.4g epoch%s", r->run.epochs, r->run.epochs == 1 ? "" : "s");
    if (isfinite(r->run.seconds))
        text_printf(t, ", %s", human_seconds(r->run.seconds, buf));
    if (r->run.started) {
        text_add(t, ". Started ");
        put_time(t, r->run.started);
    }
    text_add(t, ".</p>\n");
    put_decision(t, r);
    put_tiles(t, r);
}
