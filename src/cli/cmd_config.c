/* cmd_config.c - `distill config` and `distill report`: what needs no computing. */
#include "cli/cli.h"
#include "cli/run_page.h"

status cmd_config(cli *c)
{
    text t = {0};
    job *j = NULL;
    if (c->o.schema) {
        config_schema_json(&t);
        return cli_print(&t);
    }
    if (c->o.defaults) {
        config_defaults(&t);
        return cli_print(&t);
    }
    if (!c->o.show && !c->o.student)
        return fail(ST_USAGE, "give --defaults, --schema, or --show (with --student FILE for a job)");
    TRY(cli_load_job(c, c->o.student != NULL, &j));
    if (c->o.json)
        config_show_json(j, &t);
    else
        config_show(j, &t);
    config_free(j);
    return cli_print(&t);
}

status cmd_report(cli *c)
{
    text path = {0};
    if (c->o.args.n != 1)
        return fail(ST_USAGE, "which run? distill report RUN_DIR");
    text_printf(&path, "%s/report.html\n", c->o.args.at[0]);
    status st = path.st == ST_OK ? run_page_write(c->o.args.at[0]) : path.st;
    if (st != ST_OK) {
        text_free(&path);
        return st;
    }
    return cli_print(&path);
}
