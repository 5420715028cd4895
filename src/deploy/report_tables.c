/* report_tables.c - the tables and pictures of the report that come from validation.json. */
#include "base/mem.h"
#include "deploy/report_page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FULL_CLASSES  24 /* up to here the whole confusion is shown */
#define WORST_CLASSES 30 /* up to here every class is shown, beyond the weakest */
#define WORST_PAIRS   20

const char *page_class_name(const validation *v, int32_t c)
{
    return c >= 0 && (size_t)c < v->classes ? v->class_names[c] : "none";
}

static double share(uint32_t part, uint32_t whole)
{
    return whole ? (double)part / (double)whole : (double)NAN;
}

/* ---- classes ---- */

typedef struct class_row {
    size_t c;
    double student;
} class_row;

/* Weakest first, classes without samples last, equals in class order. */
static int by_student(const void *a, const void *b)
{
    const class_row *x = a, *y = b;
    double sx = isnan(x->student) ? 2 : x->student, sy = isnan(y->student) ? 2 : y->student;
    return sx != sy ? (sx > sy) - (sx < sy) : (x->c > y->c) - (x->c < y->c);
}

static void put_bar(text *t, double teacher, double student)
{
    if (isnan(student)) {
        text_add(t, "<td></td>");
        return;
    }
    text_printf(t,
                "<td class=\"bar\" aria-hidden=\"true\"><span class=\"track\"><i style=\"width:%.1f%%\"></i>",
                100 * student);
    if (!isnan(teacher))
        text_printf(t, "<b style=\"left:%.1f%%\"></b>", 100 * teacher);
    text_add(t, "</span></td>");
}

static void put_class(text *t, const validation *v, const class_row *row)
{
    uint32_t n = v->student.class_samples[row->c];
    double teacher = v->has_teacher
                         ? share(v->teacher.class_correct[row->c], v->teacher.class_samples[row->c])
                         : (double)NAN;
    text_add(t, "<tr><th scope=\"row\">");
    page_escaped(t, v->class_names[row->c]);
    text_add(t, "</th><td>");
    page_count(t, n);
    if (v->has_teacher) {
        text_add(t, "</td><td>");
        page_percent(t, teacher);
    }
    text_add(t, "</td><td>");
    page_percent(t, row->student);
    if (v->has_teacher) {
        text_add(t, "</td><td>");
        if (isnan(teacher) || isnan(row->student))
            page_escaped(t, NULL);
        else
            page_points(t, row->student - teacher);
    }
    text_add(t, "</td>");
    put_bar(t, teacher, row->student);
    text_add(t, "</tr>\n");
}

void page_per_class(text *t, const validation *v)
{
    class_row *rows;
    size_t shown = v->classes <= WORST_CLASSES ? v->classes : WORST_CLASSES;
    status st = mem_alloc(&rows, v->classes, sizeof *rows);
    if (st != ST_OK) {
        t->st = st;
        return;
    }
    for (size_t c = 0; c < v->classes; c++)
        rows[c] = (class_row){c, share(v->student.class_correct[c], v->student.class_samples[c])};
    if (shown < v->classes)
        qsort(rows, v->classes, sizeof *rows, by_student);
    text_printf(t, "<p class=\"quiet\">%sThe bar is the student%s.</p>\n",
                shown < v->classes ? "The weakest classes of the student. " : "",
                v->has_teacher ? ", the mark on it the teacher" : "");
    text_add(t, "<div class=\"scroll\" tabindex=\"0\"><table class=\"classes\">\n<thead><tr><th "
                "scope=\"col\">Class</th>"
                "<th scope=\"col\">Samples</th>");
    text_add(t, v->has_teacher ? "<th scope=\"col\">Teacher</th><th scope=\"col\">Student</th>"
                                 "<th scope=\"col\">Difference, points</th>"
                               : "<th scope=\"col\">Student</th>");
    text_add(t, "<th scope=\"col\" aria-hidden=\"true\"></th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < shown; i++)
        put_class(t, v, &rows[i]);
    text_add(t, "</tbody></table></div>\n");
    mem_free(rows);
}

/* ---- confusion ---- */

typedef struct pair_count {
    uint32_t count;
    size_t label, guess;
} pair_count;

static int by_count(const void *a, const void *b)
{
    const pair_count *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    size_t px = x->label * CONFUSION_MAX + x->guess, py = y->label * CONFUSION_MAX + y->guess;
    return (px > py) - (px < py);
}

/* The most frequent mistakes, most frequent first, in `to` (room for WORST_PAIRS); returns how many. */
static size_t worst_pairs(const score *s, pair_count *to)
{
    size_t used = 0;
    for (size_t i = 0; i < s->classes; i++)
        for (size_t k = 0; k < s->classes; k++) {
            pair_count p = {s->confusion[i * s->classes + k], i, k};
            if (i == k || p.count == 0 || (used == WORST_PAIRS && by_count(&p, &to[used - 1]) >= 0))
                continue;
            to[used < WORST_PAIRS ? used++ : used - 1] = p;
            qsort(to, used, sizeof *to, by_count);
        }
    return used;
}

static void put_pairs(text *t, const validation *v, const pair_count *pairs, size_t n)
{
    text_add(
        t,
        "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><th scope=\"col\">Label</th><th "
        "scope=\"col\">taken "
        "for</th>"
        "<th scope=\"col\">Times</th><th scope=\"col\">of the label's samples</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < n; i++) {
        text_add(t, "<tr><th scope=\"row\">");
        page_escaped(t, v->class_names[pairs[i].label]);
        text_add(t, "</th><td class=\"word\">");
        page_escaped(t, v->class_names[pairs[i].guess]);
        text_add(t, "</td><td>");
        page_count(t, pairs[i].count);
        text_add(t, "</td><td>");
        page_percent(t, share(pairs[i].count, v->student.class_samples[pairs[i].label]));
        text_add(t, "</td></tr>\n");
    }
    text_add(t, "</tbody></table></div>\n");
}

/* Right answers and mistakes have shades of their own; a mistake's is scaled up to be seen. */
static void put_cell(text *t, const score *s, size_t label, size_t guess)
{
    uint32_t count = s->confusion[label * s->classes + guess];
    double part = share(count, s->class_samples[label]);
    if (count == 0) {
        text_add(t, label == guess ? "<td class=\"hit\">0</td>" : "<td class=\"none\">\xc2\xb7</td>");
        return;
    }
    double shade = label == guess ? 0.15 + 0.55 * part : 0.06 + 2.2 * part;
    text_printf(t, "<td class=\"%s\" style=\"--a:%.2f\">", label == guess ? "hit" : "miss",
                shade < 0.75 ? shade : 0.75);
    page_count(t, count);
    text_add(t, "</td>");
}

static void put_matrix(text *t, const validation *v)
{
    const score *s = &v->student;
    text_add(t, "<div class=\"scroll\" tabindex=\"0\"><table class=\"confusion\">\n<thead><tr><td "
                "class=\"corner\">label "
                "\xe2\x86\x93 "
                "&nbsp;student says \xe2\x86\x92</td>");
    for (size_t c = 0; c < s->classes; c++) {
        text_add(t, "<th scope=\"col\"><span>");
        page_escaped(t, v->class_names[c]);
        text_add(t, "</span></th>");
    }
    text_add(t, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < s->classes; i++) {
        text_add(t, "<tr><th scope=\"row\">");
        page_escaped(t, v->class_names[i]);
        text_add(t, "</th>");
        for (size_t k = 0; k < s->classes; k++)
            put_cell(t, s, i, k);
        text_add(t, "</tr>\n");
    }
    text_add(t, "</tbody></table></div>\n");
}

void page_confusion(text *t, const validation *v)
{
    pair_count pairs[WORST_PAIRS];
    if (!v->student.confusion) {
        text_printf(t, "<p class=\"quiet\">Not kept for more than %d classes.</p>\n", CONFUSION_MAX);
        return;
    }
    size_t n = worst_pairs(&v->student, pairs);
    if (n == 0) {
        text_add(t, "<p class=\"quiet\">The student made no mistake.</p>\n");
        return;
    }
    if (v->classes > FULL_CLASSES) {
        text_add(t, "<p class=\"quiet\">The most frequent mistakes of the student.</p>\n");
        put_pairs(t, v, pairs, n);
        return;
    }
    text_add(t, "<p class=\"quiet\">Samples by label and by the student's answer. Most often, ");
    page_escaped(t, v->class_names[pairs[0].label]);
    text_add(t, " is taken for ");
    page_escaped(t, v->class_names[pairs[0].guess]);
    text_add(t, ": ");
    page_count(t, pairs[0].count);
    text_add(t, " of ");
    page_count(t, v->student.class_samples[pairs[0].label]);
    text_add(t, ".</p>\n");
    put_matrix(t, v);
}

/* ---- runtimes ---- */

const runtime_result *page_latency_of(const validation *v, const char *model)
{
    const runtime_result *best = NULL;
    for (size_t i = 0; i < v->n_runtimes; i++) {
        const runtime_result *r = &v->runtimes[i];
        if (!r->ok || !r->has_latency || strcmp(r->model, model) != 0)
            continue;
        if (!best || (strcmp(r->runtime, "ONNX Runtime") == 0 && strcmp(best->runtime, "ONNX Runtime") != 0))
            best = r;
    }
    return best;
}

static void put_latency(text *t, const runtime_result *r)
{
    const double at[] = {r->time.p50, r->time.p90, r->time.p99};
    for (int i = 0; i < 3; i++) {
        text_add(t, "<td>");
        if (r->has_latency)
            page_number(t, at[i], at[i] < 10 ? "%.3f" : "%.1f");
        else
            page_escaped(t, NULL);
        text_add(t, "</td>");
    }
    text_add(t, "<td class=\"word\">");
    if (r->has_latency && r->threads > 0)
        text_printf(t, "%d sample%s, %d thread%s", r->batch, r->batch == 1 ? "" : "s", r->threads,
                    r->threads == 1 ? "" : "s");
    else if (r->has_latency)
        text_printf(t, "%d sample%s", r->batch, r->batch == 1 ? "" : "s");
    text_add(t, "</td>");
}

static void put_runtime(text *t, const runtime_result *r)
{
    text_add(t, "<tr><th scope=\"row\">");
    page_escaped(t, r->model);
    text_add(t, "</th><td class=\"word\">");
    page_escaped(t, r->runtime);
    text_add(t, " ");
    page_escaped(t, r->version ? r->version : "");
    text_add(t, "</td><td class=\"word\">");
    page_escaped(t, r->precision);
    text_add(t, "</td><td class=\"word\">");
    page_tick(t, r->ok, "ran", "failed");
    if (r->message) {
        text_add(t, " <span class=\"quiet\">");
        page_escaped(t, r->message);
        text_add(t, "</span>");
    }
    text_add(t, "</td><td>");
    page_percent(t, r->accuracy);
    text_add(t, "</td><td>");
    if (r->has_difference)
        page_number(t, r->diff.max_abs, "%.2g");
    else
        page_escaped(t, NULL);
    text_add(t, "</td><td>");
    if (r->has_difference) {
        page_count(t, (int64_t)r->diff.disagreements);
        text_add(t, " of ");
        page_count(t, (int64_t)r->diff.samples);
    } else {
        page_escaped(t, NULL);
    }
    text_add(t, "</td>");
    put_latency(t, r);
    text_add(t, "</tr>\n");
}

void page_runtimes(text *t, const validation *v)
{
    if (v->n_runtimes == 0) {
        text_add(t, "<p class=\"quiet\">No runtime was tried.</p>\n");
        return;
    }
    text_add(
        t,
        "<p class=\"quiet\">Differences are to our own executor: the largest of any logit, and the samples "
        "where "
        "the predicted class differs. Latency is of one call.</p>\n"
        "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><th scope=\"col\">Model</th><th "
        "scope=\"col\" "
        "class=\"word\">Runtime</th>"
        "<th scope=\"col\" class=\"word\">Precision</th><th scope=\"col\" class=\"word\">Result</th><th "
        "scope=\"col\">Accuracy</th>"
        "<th scope=\"col\">Largest difference</th><th scope=\"col\">Other class</th>"
        "<th scope=\"col\">p50, ms</th><th scope=\"col\">p90</th><th scope=\"col\">p99</th>"
        "<th scope=\"col\" class=\"word\">One call</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < v->n_runtimes; i++)
        put_runtime(t, &v->runtimes[i]);
    text_add(t, "</tbody></table></div>\n");
}

/* ---- samples ---- */

static void put_answer(text *t, const validation *v, const char *who, int32_t answer, double p, int32_t label)
{
    text_printf(t, "<dt>%s</dt><dd>", who);
    page_escaped(t, page_class_name(v, answer));
    if (isfinite(p))
        text_printf(t, " <span class=\"quiet\">%.0f\xc2\xa0%%</span>", 100 * p);
    if (label >= 0) {
        text_add(t, "<br>");
        page_tick(t, answer == label, "right", "wrong");
    }
    text_add(t, "</dd>\n");
}

status page_farthest(text *t, const validation *v)
{
    if (v->n_farthest == 0) {
        text_add(t, "<p class=\"quiet\">None were recorded.</p>\n");
        return t->st;
    }
    text_add(
        t,
        "<p class=\"quiet\">The samples on which the student's probabilities are farthest from the teacher's "
        "(Kullback\xe2\x80\x93Leibler divergence), farthest first, with each one's probability of its own "
        "answer.</p>\n<ul class=\"samples\">\n");
    for (size_t i = 0; i < v->n_farthest; i++) {
        const far_sample *f = &v->farthest[i];
        text_add(t, "<li>");
        if (f->image.width > 0) {
            text_printf(t, "<img alt=\"sample %zu\" src=\"", f->sample);
            TRY(page_picture(t, &f->image));
            text_add(t, "\">");
        }
        text_add(t, "\n<dl><dt>Sample</dt><dd>");
        page_count(t, (int64_t)f->sample);
        text_add(t, "</dd>\n<dt>Label</dt><dd>");
        page_escaped(t, page_class_name(v, f->label));
        text_add(t, "</dd>\n");
        put_answer(t, v, "Teacher", f->teacher, f->teacher_p, f->label);
        put_answer(t, v, "Student", f->student, f->student_p, f->label);
        text_add(t, "</dl></li>\n");
    }
    text_add(t, "</ul>\n");
    return t->st;
}
