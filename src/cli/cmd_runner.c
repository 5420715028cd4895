/* cmd_runner.c - `distill runner ENGINE`: one cell of the deployment matrix in a process of its own. */
#include "cli/cli.h"
#include "matrix/runner.h"
#include "matrix/process.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static status read_line(text *line)
{
    char buf[4096];
    while (!line->n || !memchr(line->s, '\n', line->n)) {
        ssize_t n = read(STDIN_FILENO, buf, sizeof buf);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        text_add_n(line, buf, (size_t)n);
        if (line->st != ST_OK || line->n > PROCESS_REQUEST)
            return line->st != ST_OK ? line->st : fail(ST_USAGE, "a request is one line of at most %d bytes", PROCESS_REQUEST);
    }
    return ST_OK;
}

/* An engine may print what it likes: meanwhile standard output is standard error. */
status cmd_runner(cli *c)
{
    text line = {0}, answer = {0};
    status st = ST_OK;
    if (c->o.args.n != 1)
        return fail(ST_USAGE, "which engine? distill runner own|ort|openvino, with a request on standard input");
    const runner_engine *e = runner_find(c->o.args.at[0]);
    if (!e)
        return fail(ST_USAGE, "there is no engine '%s'; known are own, ort, openvino", c->o.args.at[0]);
    int out = dup(STDOUT_FILENO);
    if (out < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return fail(ST_IO, "standard output cannot be put away: %s", strerror(errno));
    TRY_DONE(read_line(&line));
    TRY_DONE(runner_answer(e, line.s ? line.s : "", line.n, &answer));
    text_add(&answer, "\n");
done:
    fflush(stdout);
    if (dup2(out, STDOUT_FILENO) < 0 && st == ST_OK)
        st = fail(ST_IO, "standard output cannot be had back: %s", strerror(errno));
    close(out);
    text_free(&line);
    if (st == ST_OK)
        return cli_print(&answer);
    text_free(&answer);
    return st;
}
