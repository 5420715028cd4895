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

/* ---- curves ---- */

/* With one term, the total says the same once more: then it is left out. */
static bool total_is_all(const metrics_log *m)
{
    const curve *total = m->loss, *term = m->loss + 1;
    if (m->n_loss != 2 || strcmp(total->name, "total") != 0 || total->n != term->n)
        return false;
    for (size_t i = 0; i < total->n; i++)
        if (total->y[i] != term->y[i] && !(isnan(total->y[i]) && isnan(term->y[i])))
            return false;
    return true;
}

static status put_curves(text *t, const report_data *r)
{
    const metrics_log *m = &r->metrics;
    size_t skip = total_is_all(m) ? 1 : 0;
    curve accuracy = m->accuracy, error = m->error, rate = m->rate;
    accuracy.name = error.name = "student";
    rate.name = "learning rate";
    double teacher = r->has_validation && r->val.has_teacher ? score_accuracy(&r->val.teacher) : (double)NAN;
    page_heading(t, "training", "Training");
    text_add(t, "<div class=\"plots\">\n");
    TRY(page_plot(t, &(plot){.title = skip ? "Loss" : "Loss terms, weighted",
                             .curves = m->loss + skip,
                             .n = m->n_loss - skip,
                             .reference = (double)NAN}));
    bool numbers = error.n > 0;
    if (numbers && r->has_validation && r->val.has_teacher)
        teacher = r->val.teacher.error;
    TRY(page_plot(t, &(plot){.title = numbers ? "Mean error on the validation set" : "Accuracy on the validation set",
                             .curves = numbers ? &error : &accuracy,
                             .n = 1,
                             .percent = !numbers,
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

/* ---- page ---- */

static status put_checks(text *t, const report_data *r)
{
    page_checks(t, &r->val);
    return t->st;
}

static status put_summary(text *t, const report_data *r)
{
    page_summary(t, r);
    return t->st;
}

static status put_runtimes(text *t, const report_data *r)
{
    page_heading(t, "runtimes", "Runtimes");
    page_runtimes(t, &r->val);
    page_variants(t, &r->val);
    return t->st;
}

static status put_classes(text *t, const report_data *r)
{
    if (!r->val.student.labelled || r->val.numbers)
        return t->st;
    page_heading(t, "classes", "Accuracy by class");
    page_per_class(t, &r->val);
    page_heading(t, "confusion", "Confusion");
    page_confusion(t, &r->val);
    return t->st;
}

static status put_farthest(text *t, const report_data *r)
{
    if (r->val.numbers)
        return t->st;
    page_heading(t, "farthest", "Where student and teacher differ most");
    return page_farthest(t, &r->val);
}

static status put_facts(text *t, const report_data *r)
{
    page_facts(t, r);
    return t->st;
}

typedef struct section {
    const char *id;
    bool proved; /* only of a run that was validated */
    status (*put)(text *t, const report_data *r);
} section;

static const section sections[] = {
    {"models", false, put_summary}, {"checks", true, put_checks},      {"training", false, put_curves},
    {"runtimes", true, put_runtimes}, {"classes", true, put_classes}, {"farthest", true, put_farthest},
    {"reproduce", false, put_facts},
};
#define N_SECTIONS (sizeof sections / sizeof *sections)

static bool is_here(const section *s, const report_data *r)
{
    return !s->proved || r->has_validation;
}

/* The section that a further one stands before: the one it names, else the last. */
static size_t place_of(const report_section *more, const report_data *r)
{
    for (size_t i = 0; more->before && i < N_SECTIONS; i++)
        if (is_here(&sections[i], r) && strcmp(sections[i].id, more->before) == 0)
            return i;
    return N_SECTIONS - 1;
}

static status put_sections(text *t, const report_data *r)
{
    for (size_t i = 0; i < N_SECTIONS; i++) {
        for (size_t k = 0; k < r->n_more; k++)
            if (place_of(&r->more[k], r) == i)
                TRY(r->more[k].put(t, r->more[k].ctx));
        if (is_here(&sections[i], r))
            TRY(sections[i].put(t, r));
    }
    return t->st;
}

/* Links to the headings of the body. What came from outside is escaped there, so "<h2 id=" is always page_heading's. */
static void put_contents(text *t, const text *body)
{
    const char *mark = "<h2 id=\"";
    text_add(t, "<nav aria-label=\"Contents\"><ul>\n");
    for (const char *p = body->s ? strstr(body->s, mark) : NULL; p; p = strstr(p, mark)) {
        const char *id = p + strlen(mark), *title = id + strcspn(id, "\"") + 2, *end = strstr(title, "</h2>");
        text_add(t, "<li><a href=\"#");
        text_add_n(t, id, (size_t)(title - 2 - id));
        text_add(t, "\">");
        text_add_n(t, title, (size_t)(end - title));
        text_add(t, "</a></li>\n");
        p = end;
    }
    text_add(t, "</ul></nav>\n");
}

static status put_page(text *t, const report_data *r)
{
    text body = {0};
    status st = ST_OK;
    text_add(t, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
                "'unsafe-inline'; "
                "img-src data:\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
    page_escaped(t, r->run.name);
    text_add(t, " \xe2\x80\x93 distillation report</title>\n<style>\n");
    text_add(t, page_style);
    for (size_t i = 0; i < r->n_more; i++)
        text_add(t, r->more[i].style ? r->more[i].style : "");
    text_add(t, "</style>\n</head>\n<body>\n<main>\n");
    page_headline(t, r);
    TRY_DONE(put_sections(&body, r));
    put_contents(t, &body);
    text_add_n(t, body.s, body.n);
    text_add(t, "<footer>Made by distill ");
    page_escaped(t, r->run.version);
    text_add(t, ". This page needs no network and no scripts.</footer>\n</main>\n</body>\n</html>\n");
    st = t->st;
done:
    text_free(&body);
    return st;
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
