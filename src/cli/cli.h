/* cli.h - what the commands share: parsed options, output, signals. Only src/cli prints and ends the program. */
#ifndef DISTILL_CLI_CLI_H
#define DISTILL_CLI_CLI_H

#include "base/status.h"
#include "base/text.h"
#include "config/config.h"
#include "data/data.h"
#include "train/progress.h"

#include <signal.h>
#include <stdio.h>

typedef struct text_list {
    const char *const *at;
    size_t n;
} text_list;

#define FIELD_FLAG   bool
#define FIELD_TEXT   const char *
#define FIELD_MAYBE  const char *
#define FIELD_NUMBER int64_t
#define FIELD_REAL   double
#define FIELD_LIST   text_list
#define OPTION(field, name, letter, arg, type, commands, meaning) FIELD_##type field;
typedef struct options {
#include "cli/options.def"
    text_list args; /* what is no option */
    const char *batch_text; /* --batch as it was written */
} options;
#undef OPTION

typedef struct cli {
    options o;
    int argc;
    char *const *argv;
    progress_sink sink;
    bool redrawn; /* the terminal's last line is a progress line */
    const volatile sig_atomic_t *stop;
} cli;

typedef struct command {
    const char *name;
    char letter;        /* in options.def */
    const char *args;   /* "MODEL [INPUT ...]" */
    const char *summary;
    const char *details; /* after the options in its help; NULL: none */
    status (*run)(cli *c);
} command;
extern const command commands[];

status cmd_train(cli *c);
status cmd_run(cli *c);
status cmd_inspect(cli *c);
status cmd_validate(cli *c);
status cmd_step(cli *c);
status cmd_bench(cli *c);
status cmd_quant(cli *c);
status cmd_export(cli *c);
status cmd_report(cli *c);
status cmd_runner(cli *c);
status cmd_gate(cli *c);
status cmd_matrix(cli *c);
status cmd_config(cli *c);
status cmd_cache(cli *c);
status cmd_doctor(cli *c);
status cmd_help(cli *c);

/* The options that stand for keys of a job, as overrides; returns how many of CLI_FLAGS. */
#define CLI_FLAGS 16
size_t cli_flags(cli *c, config_override *flags);
const char *const *cli_environment(void);
/* The job of --student, --set, environment and the options that stand for keys. `file` false: no job file is needed. */
MUST_USE status cli_load_job(cli *c, bool file, job **out);
/* The job's data set as the inputs of a model want it, and the bytes of the model's file. Text lives in mem. */
MUST_USE status cli_open_data(const job *j, const char *model, arena *mem, dataset **ds, int64_t *bytes);
/* Prints the text to standard output; ST_IO when it cannot be written. Frees the text. */
MUST_USE status cli_print(text *t);
/* Ends a redrawn progress line, so that the next message begins on a line of its own. */
void cli_end_line(cli *c);
void cli_version(bool as_json, text *out);
/* What `distill help TOPIC` says besides the command's own help; nothing for most. */
void help_more(const char *topic, text *out);

/* train_variant.c: a variant that trains (session_qat.h) on session s, into the file `path`, and its row in the validation, with the
 * images that the file wants. */
typedef struct cli_variant {
    const char *key;
    const char *dir, *run; /* where it trains; the run's folder, where it goes on if it can (NULL: it does so with --resume alone) */
    const char *file, *path; /* as the validation names it; where it is written */
    const struct export_pair *facts;
    size_t n_facts;
    const float *reference; /* outputs of the float model, [samples, width] */
    size_t width;
} cli_variant;
struct session;
struct prove_options;
struct validation;
/* Proves the file of a variant that was written, makes the TFLite file beside it and says of both in the validation. `model`:
 * "student" or "teacher". */
MUST_USE status cli_prove_variant(const job *j, const cli_variant *v, const char *model, const struct prove_options *o,
                                  struct validation *out);
MUST_USE status cli_train_variant(cli *c, struct session *s, const cli_variant *v, const struct prove_options *o,
                                  struct validation *out);

/* help.c */
void help_text(const char *topic, text *out);
void completion_text(text *out);

#endif
