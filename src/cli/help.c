/* help.c - help, completion and version, all made from the tables of options, commands and operators. */
#include "cli/cli.h"
#include "graph/graph.h"
#include "ncnn/write.h"
#include "tflite/write.h"

#include <string.h>

typedef struct option_help {
    const char *name;
    char letter;
    const char *arg, *commands, *meaning;
} option_help;

#define OPTION(field, name, letter, arg, type, commands, meaning) {name, letter, arg, commands, meaning},
static const option_help rows[] = {
#include "cli/options.def"
};
#undef OPTION
#define N_ROWS (sizeof rows / sizeof *rows)

static void option_line(const option_help *r, text *out)
{
    char left[64];
    int n = r->letter ? snprintf(left, sizeof left, "  -%c, --%s", r->letter, r->name)
                      : snprintf(left, sizeof left, "      --%s", r->name);
    if (r->arg)
        snprintf(left + n, sizeof left - (size_t)n, "%s%s", *r->arg == '[' ? "" : " ", r->arg);
    text_printf(out, strlen(left) > 30 ? "%s\n%31s%s\n" : "%-30s %s%s\n", left, "", r->meaning);
}

static void command_help(const command *c, text *out)
{
    text_printf(out, "usage: distill %s%s[options]%s%s\n\n%s\n\noptions:\n", strcmp(c->name, "train") ? c->name : "",
                strcmp(c->name, "train") ? " " : "", *c->args ? " " : "", c->args, c->summary);
    for (size_t i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i].commands, "*") == 0 || strchr(rows[i].commands, c->letter))
            option_line(&rows[i], out);
    if (c->details)
        text_printf(out, "\n%s", c->details);
}

static void overview(text *out)
{
    text_add(out, "distill turns a large ONNX teacher into a small student and proves it.\n\n"
                  "usage: distill --teacher t.onnx --student cfg.ini [options]\n"
                  "       distill COMMAND [options]\n\ncommands:\n");
    for (const command *c = commands; c->name; c++)
        text_printf(out, "  %-10s %s\n", c->name, c->summary);
    text_add(out, "\ntopics: distill help COMMAND, distill help ops, distill help completion\n\n");
    command_help(commands, out);
}

static void operators(text *out)
{
    text_printf(out, "%-24s %-9s %-9s %-7s %-5s %s\n", "operator", "gradient", "portable", "tflite", "ncnn", "attributes");
    for (int op = 1; op < OP_COUNT; op++) {
        const op_desc *d = op_of((op_id)op);
        if (d->flags & OP_INTERNAL)
            continue;
        text_printf(out, "%-24s %-9s %-9s %-7s %-5s", d->name, d->grad ? "yes" : "no", d->flags & OP_PORTABLE ? "yes" : "",
                    tflite_takes((op_id)op) ? "yes" : "", ncnn_takes((op_id)op) ? "yes" : "");
        for (const attr_desc *a = d->attrs; a && a->name; a++)
            if (!(a->flags & ATTR_HIDDEN))
                text_printf(out, " %s", a->name);
        text_add(out, "\n");
    }
}

/* ---- completion ---- */

static bool names_files(const option_help *r)
{
    return r->arg && (strcmp(r->arg, "FILE") == 0 || strcmp(r->arg, "DIR") == 0 || strcmp(r->arg, "PATH") == 0);
}

/* What follows an option that takes a value: files, one of "own|ort", or what nobody can guess. */
static void complete_values(text *out)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        const option_help *r = &rows[i];
        if (!r->arg || *r->arg == '[') /* [=FILE]: the next word is not its value */
            continue;
        text_printf(out, "        --%s", r->name);
        if (r->letter)
            text_printf(out, "|-%c", r->letter);
        if (names_files(r)) {
            text_add(out, ") words= files=1 ;;\n");
        } else if (strchr(r->arg, '|')) {
            text_add(out, ") words='");
            for (const char *p = r->arg; *p; p++)
                text_printf(out, "%c", *p == '|' ? ' ' : *p);
            text_add(out, "' files= ;;\n");
        } else {
            text_add(out, ") return ;;\n");
        }
    }
}

static void option_names(const command *c, text *out)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i].commands, "*") == 0 || strchr(rows[i].commands, c->letter))
            text_printf(out, "--%s ", rows[i].name);
}

static void command_names(text *out)
{
    for (const command *c = commands; c->name; c++)
        text_printf(out, "%s ", c->name);
}

void completion_text(text *out)
{
    text_add(out, "# bash completion of distill; put it into /etc/bash_completion.d or: source <(distill help completion)\n"
                  "_distill() {\n"
                  "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words= files=1\n"
                  "    if [[ $word == = ]]; then # --name= is three words to bash\n        word=\n"
                  "    elif [[ $before == = ]]; then\n        before=${COMP_WORDS[COMP_CWORD-2]}\n    fi\n"
                  "    case ${COMP_WORDS[1]} in\n");
    for (const command *c = commands; c->name; c++) {
        text_printf(out, "        %s) words='", c->name);
        option_names(c, out);
        text_add(out, "' ;;\n");
    }
    text_add(out, "        *) words='");
    option_names(commands, out);
    text_add(out, "' ;;\n    esac\n    if [[ $word != -* ]]; then\n        words=\n"
                  "        ((COMP_CWORD > 1)) || { files= words='");
    command_names(out);
    text_add(out, "'; }\n        [[ ${COMP_WORDS[1]} != help ]] || ((COMP_CWORD == 1)) || { words='ops completion ");
    command_names(out);
    text_add(out, "'; files=; }\n    fi\n    case $before in\n");
    complete_values(out);
    text_add(out, "    esac\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
                  "    [[ -z $files || $word == -* ]] ||\n"
                  "        mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -f -- \"$word\")\n"
                  "}\ncomplete -o filenames -F _distill distill\n");
}

/* ---- the rest ---- */

void help_text(const char *topic, text *out)
{
    if (!topic) {
        overview(out);
        return;
    }
    for (const command *c = commands; c->name; c++)
        if (strcmp(c->name, topic) == 0) {
            command_help(c, out);
            return;
        }
}

status cmd_help(cli *c)
{
    const char *topic = c->o.args.n ? c->o.args.at[0] : NULL;
    text t = {0};
    if (topic && strcmp(topic, "ops") == 0)
        operators(&t);
    else if (topic && strcmp(topic, "completion") == 0)
        completion_text(&t);
    else
        help_text(topic, &t);
    if (topic && t.n)
        help_more(topic, &t);
    if (t.n == 0 && t.st == ST_OK)
        return fail(ST_USAGE, "no help on '%s'; `distill help` lists commands and topics", topic);
    return cli_print(&t);
}

void cli_version(bool as_json, text *out)
{
    const char *compiler = __VERSION__;
    if (as_json) {
        json j = {.out = out};
        json_put_object(&j, NULL);
        json_put_string(&j, "version", DISTILL_VERSION);
        json_put_string(&j, "commit", DISTILL_COMMIT);
        json_put_string(&j, "compiler", compiler);
        json_put_string(&j, "backends", "cpu");
        json_end_object(&j);
        text_add(out, "\n");
        return;
    }
    text_printf(out, "distill %s (%s), built with %s, backends: cpu\n", DISTILL_VERSION, DISTILL_COMMIT, compiler);
}
