/* report_variants.c - the networks in fewer bits: distil or quantise? */
#include "deploy/report_page.h"

static void put_time(text *t, bool has, const latency *time)
{
    text_add(t, "<td>");
    if (has)
        page_number(t, time->p50, time->p50 < 10 ? "%.3f" : "%.1f");
    else
        page_escaped(t, NULL);
    text_add(t, "</td>");
}

/* Share of the samples on which two networks name the same class. */
static void put_same(text *t, bool has, const difference *d)
{
    text_add(t, "<td>");
    if (has && d->samples)
        page_percent(t, 1 - (double)d->disagreements / (double)d->samples);
    else
        page_escaped(t, NULL);
    text_add(t, "</td>");
}

static void put_note(text *t, const char *what, const char *message)
{
    if (!message)
        return;
    text_printf(t, " <span class=\"quiet\">%s", what);
    page_escaped(t, message);
    text_add(t, "</span>");
}

static void put_variant(text *t, const variant_result *r, bool numbers)
{
    char size[24];
    text_add(t, "<tr><th scope=\"row\">");
    page_escaped(t, r->model);
    text_add(t, "</th><td class=\"word\">");
    page_escaped(t, r->key);
    put_note(t, "", r->message);
    put_note(t, "no .tflite: ", r->tflite_message);
    put_note(t, "", r->note);
    text_printf(t, "</td><td>%s</td><td>", human_bytes((double)r->bytes, size));
    page_escaped(t, r->tflite ? human_bytes((double)r->tflite_bytes, size) : NULL);
    text_add(t, "</td><td>");
    page_percent(t, r->accuracy);
    text_add(t, "</td><td>");
    page_percent(t, r->accuracy_ort);
    text_add(t, "</td>");
    put_same(t, r->has_agreement && !numbers, &r->agreement);
    put_same(t, r->has_difference && !numbers, &r->diff);
    put_time(t, r->has_latency, &r->time);
    put_time(t, r->has_latency_ort, &r->time_ort);
    text_add(t, "</tr>\n");
}

void page_variants(text *t, const validation *v)
{
    if (v->n_variants == 0)
        return;
    page_heading(t, "variants", "Variants");
    text_add(t, "<p class=\"quiet\">The same networks in other forms. Same class: on how many samples the variant "
                "and its network in float32 agree, both in our executor; and ONNX Runtime and our executor on the variant. Latency is "
                "of one sample, the median.</p>\n"
                "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><th scope=\"col\">Model</th><th scope=\"col\" "
                "class=\"word\">Variant</th><th scope=\"col\">Size</th><th scope=\"col\">As .tflite</th><th scope=\"col\">Accuracy</th><th scope=\"col\">In ONNX "
                "Runtime</th><th scope=\"col\">Same class as float32</th><th scope=\"col\">ONNX Runtime as own</th><th scope=\"col\">"
                "own, ms</th><th scope=\"col\">ONNX Runtime, ms</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < v->n_variants; i++)
        put_variant(t, &v->variants[i], v->numbers);
    text_add(t, "</tbody></table></div>\n");
}
