/* report.c - report.html: what the run directory says, put together into one page. Everything that comes from files goes
 * through page_escaped. */
#include "deploy/report.h"
#include "base/io.h"
#include "deploy/report_page.h"

#include <math.h>
#include <string.h>

/* ---- gathering ---- */

static status join(arena *mem, const char **out, const char *dir, const char *name)
{
    return arena_printf(mem, out, "%s/%s", dir, name);
}

static status read_config(const char *path, report_data *r)
{
    unsigned char *data;
    size_t size;
    if (!io_exists(path))
        return ST_OK;
    TRY(io_read_file(path, limits_default().ini_file, &data, &size));
    status st = arena_strdup(&r->mem, &r->config, (const char *)data);
    mem_free(data);
    return st;
}

static status gather(const char *dir, report_data *r)
{
    const char *path;
    if (!io_is_dir(dir))
        return fail(ST_NO_INPUT, "%s: no such run directory", dir);
    TRY(join(&r->mem, &path, dir, "run.json"));
    if (!io_exists(path))
        return fail(ST_NO_INPUT, "%s is not a run directory: it has no run.json", dir);
    TRY(run_info_read(path, &r->mem, &r->run));
    TRY(join(&r->mem, &path, dir, "metrics.jsonl"));
    TRY(metrics_log_read(path, &r->metrics));
    TRY(join(&r->mem, &path, dir, "config.ini"));
    TRY(read_config(path, r));
    TRY(join(&r->mem, &path, dir, "validation.json"));
    r->has_validation = io_exists(path);
    return r->has_validation ? validation_read(path, &r->val) : ST_OK;
}

status report_from_run(const char *run_dir, report_data *out)
{
    *out = (report_data){0};
    status st = gather(run_dir, out);
    if (st != ST_OK)
        report_free(out);
    return st;
}

void report_free(report_data *r)
{
    validation_free(&r->val);
    metrics_log_free(&r->metrics);
    arena_free(&r->mem);
    *r = (report_data){0};
}

/* ---- headline ---- */

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

/* "11.8 times fewer parameters", or nothing when it is not known or not fewer. */
static void put_fewer(text *t, const char *before, int64_t teacher, int64_t student, const char *of_what)
{
    if (teacher <= 0 || student <= 0 || teacher <= student)
        return;
    text_printf(t, "%s%.1f times fewer %s", before, (double)teacher / (double)student, of_what);
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

static void put_good_news(text *t, const report_data *r)
{
    const validation *v = &r->val;
    const runtime_result *proof = proof_of(v);
    double accuracy = score_accuracy(&v->student),
           teacher = v->has_teacher ? score_accuracy(&v->teacher) : (double)NAN;
    if (!isnan(accuracy)) {
        text_add(t, "It reaches ");
        page_percent(t, accuracy);
        if (!isnan(teacher)) {
            text_add(t, " where its teacher reaches ");
            page_percent(t, teacher);
        }
    } else if (v->has_agreement && v->agreement.samples > 0) {
        text_add(t, "It gives its teacher's answer on ");
        page_percent(t, 1 - (double)v->agreement.disagreements / (double)v->agreement.samples);
        text_add(t, " of the samples");
    } else {
        text_add(t, "There were no labels to measure its accuracy");
    }
    if (r->run.has_teacher) {
        put_fewer(t, ", with ", r->run.teacher.parameters, r->run.student.parameters, "parameters");
        put_fewer(t, " and ", r->run.teacher.macs, r->run.student.macs,
                  "multiply\xe2\x80\x93"
                  "accumulates");
    }
    if (proof && proof->diff.disagreements == 0) {
        text_add(t, ". ONNX Runtime ");
        page_escaped(t, proof->version ? proof->version : "");
        text_add(t, " gives the same class as our own executor on all ");
        page_count(t, (int64_t)proof->diff.samples);
        text_add(t, " samples");
    }
    text_add(t, ".");
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
    } else if (first) {
        text_add(t, "<p class=\"decision no\"><b>");
        page_tick(t, false, "", "Do not ship this student");
        text_printf(t, "</b>%zu of %zu checks did not hold; the first is: ", failed, r->val.n_checks);
        page_escaped(t, first->name);
        if (first->detail) {
            text_add(t, " (");
            page_escaped(t, first->detail);
            text_add(t, ")");
        }
        text_add(t, ".");
    } else {
        text_add(t, "<p class=\"decision yes\"><b>");
        page_tick(t, true, "The student can ship", "");
        text_add(t, "</b>");
        put_good_news(t, r);
    }
    if (r->run.reason) {
        text_add(t, " ");
        page_escaped(t, r->run.reason);
    }
    text_add(t, "</p>\n");
}

static void put_tile(text *t, const char *value, const char *label, const char *more)
{
    text_printf(t, "<li><strong>%s</strong><span>%s%s</span></li>\n", value, label, more);
}

static void put_ratio_tile(text *t, int64_t teacher, int64_t student, const char *what)
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
    text label = {0};
    text_printf(&label, "%s%s", what, more.s ? ": " : "");
    if (value.st == ST_OK && more.st == ST_OK && label.st == ST_OK)
        put_tile(t, value.s, label.s, more.s ? more.s : "");
    text_free(&value);
    text_free(&more);
    text_free(&label);
}

static void put_accuracy_tile(text *t, const report_data *r)
{
    text value = {0}, more = {0};
    page_percent(&value, r->has_validation ? score_accuracy(&r->val.student) : (double)NAN);
    if (r->has_validation && r->val.has_teacher) {
        text_add(&more, ": teacher ");
        page_percent(&more, score_accuracy(&r->val.teacher));
    }
    if (value.st == ST_OK && more.st == ST_OK)
        put_tile(t, value.s, "student's accuracy", more.s ? more.s : "");
    text_free(&value);
    text_free(&more);
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
        text_printf(&more, ": teacher %.3g ms", teacher->time.p50);
    if (value.st == ST_OK && more.st == ST_OK)
        put_tile(t, value.s, "latency, median", more.s ? more.s : "");
    text_free(&value);
    text_free(&more);
}

static void put_tiles(text *t, const report_data *r)
{
    int64_t none = -1;
    const run_info *i = &r->run;
    text_add(t, "<ul class=\"tiles\">\n");
    put_accuracy_tile(t, r);
    put_ratio_tile(t, i->has_teacher ? i->teacher.parameters : none, i->student.parameters,
                   "fewer parameters");
    put_ratio_tile(t, i->has_teacher ? i->teacher.macs : none, i->student.macs,
                   "fewer multiply\xe2\x80\x93"
                   "accumulates");
    put_latency_tile(t, r);
    text_add(t, "</ul>\n");
}

static void put_headline(text *t, const report_data *r)
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
    text_add(t, ". Started ");
    page_escaped(t, r->run.started);
    text_add(t, ".</p>\n");
    put_decision(t, r);
    put_tiles(t, r);
}

/* ---- summary ---- */

static void begin_row(text *t, const char *name)
{
    text_printf(t, "<tr><th scope=\"row\">%s</th>", name);
}

static void put_factor(text *t, double teacher, double student, const char *word)
{
    text_add(t, "<td>");
    if (teacher > 0 && student > 0)
        text_printf(t, "%.1f\xc2\xa0\xc3\x97 %s", teacher / student, word);
    text_add(t, "</td></tr>\n");
}

static void put_count_row(text *t, const report_data *r, const char *name, int64_t teacher, int64_t student)
{
    begin_row(t, name);
    if (r->run.has_teacher) {
        text_add(t, "<td>");
        page_count(t, teacher);
        text_add(t, "</td>");
    }
    text_add(t, "<td>");
    page_count(t, student);
    text_add(t, "</td>");
    if (r->run.has_teacher)
        put_factor(t, (double)teacher, (double)student, "fewer");
    else
        text_add(t, "</tr>\n");
}

static void put_size_row(text *t, const report_data *r)
{
    const int64_t bytes[] = {r->run.teacher.bytes, r->run.student.bytes};
    begin_row(t, "File");
    for (int i = r->run.has_teacher ? 0 : 1; i < 2; i++) {
        char buf[24];
        text_printf(t, "<td>%s</td>", bytes[i] >= 0 ? human_bytes((double)bytes[i], buf) : "\xe2\x80\x93");
    }
    if (r->run.has_teacher)
        put_factor(t, (double)bytes[0], (double)bytes[1], "smaller");
    else
        text_add(t, "</tr>\n");
}

static void put_score_rows(text *t, const report_data *r)
{
    const validation *v = &r->val;
    bool both = r->run.has_teacher;
    double teacher = v->has_teacher ? score_accuracy(&v->teacher) : (double)NAN,
           student = score_accuracy(&v->student);
    begin_row(t, "Accuracy");
    if (both) {
        text_add(t, "<td>");
        page_percent(t, teacher);
        text_add(t, "</td>");
    }
    text_add(t, "<td>");
    page_percent(t, student);
    text_add(t, "</td>");
    if (both && !isnan(teacher) && !isnan(student))
        text_printf(t, "<td>%+.2f points</td>", 100 * (student - teacher));
    else if (both)
        text_add(t, "<td></td>");
    text_add(t, "</tr>\n");
    begin_row(t, "Cross entropy, nats");
    if (both) {
        text_add(t, "<td>");
        if (v->has_teacher && !isnan(v->teacher.ce))
            page_number(t, v->teacher.ce, "%.4f");
        text_add(t, "</td>");
    }
    text_add(t, "<td>");
    if (!isnan(v->student.ce))
        page_number(t, v->student.ce, "%.4f");
    text_add(t, both ? "</td><td></td></tr>\n" : "</td></tr>\n");
    if (both && v->has_agreement && v->agreement.samples) {
        begin_row(t, "Same answer as the teacher");
        text_add(t, "<td></td><td>");
        page_percent(t, 1 - (double)v->agreement.disagreements / (double)v->agreement.samples);
        text_add(t, "</td><td></td></tr>\n");
    }
}

static void put_latency_row(text *t, const report_data *r)
{
    const runtime_result *of[] = {page_latency_of(&r->val, "teacher"), page_latency_of(&r->val, "student")};
    if (!of[1])
        return;
    text_add(t, "<tr><th scope=\"row\">Latency, median, ");
    page_escaped(t, of[1]->runtime);
    text_add(t, "</th>");
    for (int i = r->run.has_teacher ? 0 : 1; i < 2; i++) {
        text_add(t, "<td>");
        if (of[i])
            text_printf(t, "%.3g\xc2\xa0ms", of[i]->time.p50);
        text_add(t, "</td>");
    }
    if (r->run.has_teacher)
        put_factor(t, of[0] ? of[0]->time.p50 : 0, of[1]->time.p50, "faster");
    else
        text_add(t, "</tr>\n");
}

static void put_summary(text *t, const report_data *r)
{
    const run_info *i = &r->run;
    text_add(t, "<h2>Teacher and student</h2>\n<div class=\"scroll\"><table class=\"summary\">\n<thead><tr>"
                "<th scope=\"col\"></th>");
    text_add(t, i->has_teacher
                    ? "<th scope=\"col\">Teacher</th><th scope=\"col\">Student</th><th scope=\"col\"></th>"
                    : "<th scope=\"col\">Student</th>");
    text_add(t, "</tr></thead>\n<tbody>\n");
    if (r->has_validation)
        put_score_rows(t, r);
    put_count_row(t, r, "Parameters", i->teacher.parameters, i->student.parameters);
    put_count_row(t, r,
                  "Multiply\xe2\x80\x93"
                  "accumulates, one sample",
                  i->teacher.macs, i->student.macs);
    put_size_row(t, r);
    if (r->has_validation)
        put_latency_row(t, r);
    text_add(t, "</tbody></table></div>\n");
    if (r->has_validation) {
        text_add(t, "<p class=\"quiet\">Measured on ");
        page_count(t, (int64_t)r->val.samples);
        text_add(t, " samples of ");
        page_escaped(t, r->val.set);
        text_add(t, ".</p>\n");
    }
}

static void put_checks(text *t, const validation *v)
{
    if (v->n_checks == 0)
        return;
    text_add(t, "<h2>What had to hold</h2>\n<ul class=\"checks\">\n");
    for (size_t i = 0; i < v->n_checks; i++) {
        text_add(t, "<li>");
        page_tick(t, v->checks[i].held, "held:", "did not hold:");
        text_add(t, " ");
        page_escaped(t, v->checks[i].name);
        if (v->checks[i].detail) {
            text_add(t, " <span class=\"quiet\">");
            page_escaped(t, v->checks[i].detail);
            text_add(t, "</span>");
        }
        text_add(t, "</li>\n");
    }
    text_add(t, "</ul>\n");
}

/* ---- curves ---- */

static status put_curves(text *t, const report_data *r)
{
    const metrics_log *m = &r->metrics;
    curve accuracy = m->accuracy, rate = m->rate;
    accuracy.name = "student";
    rate.name = "learning rate";
    double teacher = r->has_validation && r->val.has_teacher ? score_accuracy(&r->val.teacher) : (double)NAN;
    text_add(t, "<h2>Training</h2>\n<div class=\"plots\">\n");
    TRY(page_plot(t, &(plot){.title = "Loss terms, weighted",
                             .curves = m->loss,
                             .n = m->n_loss,
                             .reference = (double)NAN}));
    TRY(page_plot(t, &(plot){.title = "Accuracy on the validation set",
                             .curves = &accuracy,
                             .n = 1,
                             .percent = true,
                             .dots = true,
                             .reference = teacher,
                             .reference_name = "teacher"}));
    TRY(page_plot(t, &(plot){.title = "Learning rate", .curves = &rate, .n = 1, .reference = (double)NAN}));
    text_add(t, "</div>\n");
    if (m->resumes)
        text_printf(t, "<p class=\"quiet\">The run was resumed %zu time%s.</p>\n", m->resumes,
                    m->resumes == 1 ? "" : "s");
    if (m->nonfinite)
        text_printf(t, "<p class=\"bad\">%zu step%s skipped because of values that were not finite.</p>\n",
                    m->nonfinite, m->nonfinite == 1 ? " was" : "s were");
    if (m->unreadable)
        text_printf(t, "<p class=\"quiet\">%zu line%s of metrics.jsonl could not be read.</p>\n",
                    m->unreadable, m->unreadable == 1 ? "" : "s");
    return t->st;
}

/* ---- facts ---- */

static void put_fact(text *t, const char *name, const char *value)
{
    if (!value)
        return;
    text_printf(t, "<tr><th scope=\"row\">%s</th><td>", name);
    page_escaped(t, value);
    text_add(t, "</td></tr>\n");
}

static void put_machine(text *t, const run_info *r)
{
    char buf[24];
    put_fact(t, "distill", r->version);
    put_fact(t, "Build", r->build);
    put_fact(t, "System", r->system);
    text_add(t, "<tr><th scope=\"row\">Processor</th><td>");
    page_escaped(t, r->cpu);
    if (r->cores > 0)
        text_printf(t, ", %d core%s", r->cores, r->cores == 1 ? "" : "s");
    if (r->threads > 0)
        text_printf(t, ", %d used", r->threads);
    if (r->memory > 0)
        text_printf(t, ", %s memory", human_bytes((double)r->memory, buf));
    text_add(t, "</td></tr>\n");
    put_fact(t, "Device", r->device);
    text_printf(t, "<tr><th scope=\"row\">Seed</th><td>%llu</td></tr>\n", (unsigned long long)r->seed);
    for (size_t i = 0; i < r->n_libraries; i++) {
        text_add(t, "<tr><th scope=\"row\">");
        page_escaped(t, r->libraries[i].name);
        text_add(t, "</th><td>");
        page_escaped(t, r->libraries[i].version);
        text_add(t, "</td></tr>\n");
    }
}

static void put_files(text *t, const run_info *r)
{
    if (r->n_files == 0)
        return;
    text_add(t, "<h3>Files</h3>\n<div class=\"scroll\"><table class=\"facts\">\n<tbody>\n");
    for (size_t i = 0; i < r->n_files; i++) {
        const file_info *f = &r->files[i];
        char buf[24];
        text_add(t, "<tr><th scope=\"row\">");
        page_escaped(t, f->name);
        text_add(t, "</th><td>");
        page_escaped(t, f->path);
        if (f->bytes >= 0)
            text_printf(t, ", %s", human_bytes((double)f->bytes, buf));
        if (f->sha256) {
            text_add(t, "<br><code class=\"quiet\">");
            page_escaped(t, f->sha256);
            text_add(t, "</code>");
        }
        text_add(t, "</td></tr>\n");
    }
    text_add(t, "</tbody></table></div>\n");
}

static void put_facts(text *t, const report_data *r)
{
    text_add(t, "<h2>How to reproduce</h2>\n");
    if (r->run.n_command) {
        text_add(t, "<pre class=\"wrap\">");
        page_command(t, r->run.command, r->run.n_command);
        text_add(t, "</pre>\n");
    }
    if (r->run.folder) {
        text_add(t, "<p class=\"quiet\">Started in <code>");
        page_escaped(t, r->run.folder);
        text_add(
            t,
            "</code>. The same seed, program and files give the same student, whatever the number of threads."
            "</p>\n");
    }
    if (r->config) {
        text_add(t, "<h2>Configuration in effect</h2>\n<pre>");
        page_escaped(t, r->config);
        text_add(t, "</pre>\n");
    }
    text_add(
        t, "<h2>Versions, machine and files</h2>\n<div class=\"scroll\"><table class=\"facts\">\n<tbody>\n");
    put_machine(t, &r->run);
    text_add(t, "</tbody></table></div>\n");
    put_files(t, &r->run);
}

/* ---- page ---- */

static status put_page(text *t, const report_data *r)
{
    text_add(t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
                "'unsafe-inline'; "
                "img-src data:\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
    page_escaped(t, r->run.name);
    text_add(t, " \xe2\x80\x93 distillation report</title>\n<style>\n");
    text_add(t, page_style);
    text_add(t, "</style>\n</head>\n<body>\n<main>\n");
    put_headline(t, r);
    put_summary(t, r);
    if (r->has_validation)
        put_checks(t, &r->val);
    TRY(put_curves(t, r));
    if (r->has_validation) {
        text_add(t, "<h2>Runtimes</h2>\n");
        page_runtimes(t, &r->val);
        if (r->val.student.labelled) {
            text_add(t, "<h2>Accuracy by class</h2>\n");
            page_per_class(t, &r->val);
            text_add(t, "<h2>Confusion</h2>\n");
            page_confusion(t, &r->val);
        }
        text_add(t, "<h2>Where student and teacher differ most</h2>\n");
        TRY(page_farthest(t, &r->val));
    }
    put_facts(t, r);
    text_add(t, "<footer>Made by distill ");
    page_escaped(t, r->run.version);
    text_add(t, ". This page needs no network and no scripts.</footer>\n</main>\n</body>\n</html>\n");
    return t->st;
}

status report_write(const char *path, const report_data *r)
{
    text t = {0};
    status st = put_page(&t, r);
    if (st == ST_OK)
        st = io_write_file(path, t.s, t.n);
    text_free(&t);
    return st;
}
