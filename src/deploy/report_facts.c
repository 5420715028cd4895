/* report_facts.c - teacher and student side by side, the checks, and how to make the same student again. */
#include "deploy/report_page.h"

#include <math.h>
#include <string.h>

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

static void put_error_cell(text *t, double error)
{
    text_add(t, "<td>");
    if (!isnan(error))
        page_number(t, error, "%.4g");
    text_add(t, "</td>");
}

static void put_error_rows(text *t, const report_data *r)
{
    const validation *v = &r->val;
    bool both = r->run.has_teacher;
    begin_row(t, "Mean absolute error");
    if (both)
        put_error_cell(t, v->has_teacher ? v->teacher.error : (double)NAN);
    put_error_cell(t, v->student.error);
    text_add(t, both ? "<td></td></tr>\n" : "</tr>\n");
    if (both && v->has_agreement) {
        begin_row(t, "Mean distance from the teacher");
        text_add(t, "<td></td>");
        put_error_cell(t, v->agreement.mean_abs);
        text_add(t, "<td></td></tr>\n");
    }
}

static void put_score_rows(text *t, const report_data *r)
{
    const validation *v = &r->val;
    bool both = r->run.has_teacher;
    if (v->numbers) {
        put_error_rows(t, r);
        return;
    }
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
    if (both && !isnan(teacher) && !isnan(student)) {
        text_add(t, "<td>");
        page_points(t, student - teacher);
        text_add(t, " points</td>");
    } else if (both) {
        text_add(t, "<td></td>");
    }
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

void page_summary(text *t, const report_data *r)
{
    const run_info *i = &r->run;
    page_heading(t, "models", "Teacher and student");
    text_add(t, "<div class=\"scroll\" tabindex=\"0\"><table "
                "class=\"summary\">\n<thead><tr>"
                "<th scope=\"col\"></th>");
    text_add(t, i->has_teacher
                    ? "<th scope=\"col\">Teacher</th><th scope=\"col\">Student</th><th scope=\"col\"></th>"
                    : "<th scope=\"col\">Student</th>");
    text_add(t, "</tr></thead>\n<tbody>\n");
    if (r->has_validation)
        put_score_rows(t, r);
    put_count_row(t, r, "Parameters", i->teacher.parameters, i->student.parameters);
    put_count_row(t, r, "Multiply-accumulates, one sample", i->teacher.macs, i->student.macs);
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

void page_checks(text *t, const validation *v)
{
    if (v->n_checks == 0)
        return;
    page_heading(t, "checks", "What had to hold");
    text_add(t, "<ul class=\"checks\">\n");
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

/* ---- how to make it again ---- */

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
    if (r->device && (!r->cpu || strcmp(r->device, r->cpu) != 0))
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
    text_add(t, "<h3>Files</h3>\n<div class=\"scroll\" tabindex=\"0\"><table class=\"facts\">\n<tbody>\n");
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

void page_facts(text *t, const report_data *r)
{
    page_heading(t, "reproduce", "How to reproduce");
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
        page_heading(t, "configuration", "Configuration in effect");
        text_add(t, "<pre tabindex=\"0\">");
        page_escaped(t, r->config);
        text_add(t, "</pre>\n");
    }
    page_heading(t, "versions", "Versions, machine and files");
    text_add(t, "<div class=\"scroll\" tabindex=\"0\"><table "
                "class=\"facts\">\n<tbody>\n");
    put_machine(t, &r->run);
    text_add(t, "</tbody></table></div>\n");
    put_files(t, &r->run);
}
