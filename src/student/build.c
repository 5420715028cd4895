/* build.c - student_build: from a job to a graph, whatever its source. */
#include "student/builder.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_BATCH = 1 << 24 };

status key_fault(const job *j, const char *key, const char *fmt, ...)
{
    char line[1024];
    const origin *at = config_origin(j, key);
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (!at || at->kind == ORIGIN_DEFAULT)
        return fail(ST_CONFIG, "%s: %s", key, line);
    const char *dot = strrchr(key, '.');
    return config_fault(at, "%s: %s", dot ? dot + 1 : key, line);
}

status student_check(const job *j)
{
    bool arch = j->student.arch != ARCH_AUTO, onnx = *j->student.onnx != 0, layers = j->n_layer > 0;
    if (arch + onnx + layers == 1)
        return ST_OK;
    if (arch + onnx + layers == 0)
        return fail(ST_CONFIG, "no student: set student.arch (mlp, cnn, resnet, wrn, mobilenetv2, dscnn) or "
                               "student.onnx, or write [layer NAME] sections");
    return key_fault(j, arch ? "student.arch" : "student.onnx",
                     "the student comes from one of arch, onnx and [layer NAME] sections");
}

static status add_input(builder *b, const student_spec *s, value_id *out)
{
    shape sh = {.rank = s->sample.rank + 1, .dim = {b->batch}};
    if (s->sample.rank < 1 || s->sample.rank >= RANK_MAX)
        return fail(ST_INTERNAL, "a student for samples of rank %d", (int)s->sample.rank);
    memcpy(sh.dim + 1, s->sample.dim, (size_t)s->sample.rank * sizeof sh.dim[0]);
    TRY(graph_add_input(b->g, "input", s->type ? s->type : DTYPE_F32, sh, out));
    graph_value(b->g, *out)->flags |= VALUE_BATCHED;
    return ST_OK;
}

static status build_into(builder *b, const student_spec *s)
{
    value_id input, output;
    TRY(add_input(b, s, &input));
    TRY(b->job->n_layer ? build_layers(b, input, &output) : build_preset(b, input, &output));
    if (strcmp(graph_value(b->g, output)->name, "logits") != 0)
        TRY(graph_rename(b->g, output, "logits"));
    return graph_add_output(b->g, output);
}

static status build_once(const student_spec *s, int64_t batch, bool bare, graph **out)
{
    const job_student *js = &s->job->student;
    builder b = {
        .job = s->job, .classes = js->classes ? js->classes : s->classes, .batch = batch, .bare = bare};
    TRY(graph_new(&b.g));
    status st = build_into(&b, s);
    if (st != ST_OK) {
        graph_free(b.g);
        return st == ST_BAD_DATA ? key_fault(s->job, "student.arch", "%s", status_message()) : st;
    }
    *out = b.g;
    return ST_OK;
}

/* Once without start values and with another batch size: every fault shows here, a batch that was written into an
 * attribute as well, and the size is known before memory is taken. */
static status try_out(const student_spec *s, int64_t batch)
{
    graph *trial;
    char n[24];
    TRY(build_once(s, batch + 1, true, &trial));
    graph_stats stats = graph_measure(trial, batch + 1);
    graph_free(trial);
    if (stats.parameters > 0 && (uint64_t)stats.parameters > s->job->limits.parameters)
        return fail(ST_CONFIG, "the student would have %s parameters; make it smaller (or raise limits.parameters)",
                    human_count((double)stats.parameters, n));
    return ST_OK;
}

status student_build(const student_spec *s, int64_t batch, graph **out)
{
    TRY(student_check(s->job));
    if (batch < 1 || batch > MAX_BATCH)
        return fail(ST_CONFIG, "a batch of %" PRId64 " samples; 1 to %d are possible", batch, MAX_BATCH);
    if (*s->job->student.onnx)
        return build_from_onnx(s, batch, out);
    TRY(try_out(s, batch));
    return build_once(s, batch, false, out);
}

const char *student_title(const job *j, char *buf, size_t n)
{
    static const char *const names[] = {
        [ARCH_AUTO] = "layers",   [ARCH_MLP] = "mlp", [ARCH_CNN] = "cnn",
        [ARCH_RESNET] = "resnet", [ARCH_WRN] = "wrn", [ARCH_MOBILENETV2] = "mobilenetv2",
        [ARCH_DSCNN] = "dscnn",
    };
    const char *slash = strrchr(j->student.onnx, '/');
    if (*j->student.onnx)
        snprintf(buf, n, "%s", slash ? slash + 1 : j->student.onnx);
    else if (j->student.depth)
        snprintf(buf, n, "%s-%" PRId64, names[j->student.arch], j->student.depth);
    else
        snprintf(buf, n, "%s", names[j->student.arch]);
    return buf;
}
