/* cmd_step.c - `distill step`: training steps that can be compared number by number. */
#include "cli/cli.h"
#include "data/npy.h"
#include "train/parity.h"

#include <string.h>

/* What differs from a job's own defaults: given samples in file order, a learning rate at which two implementations stay
 * comparable over some steps. */
static const char step_defaults[] = "[data]\nshuffle = false\n[train]\nlr = 0.002\nschedule = constant\n";

static status load_job(cli *c, job **out)
{
    config_override flags[CLI_FLAGS + 1];
    const options *o = &c->o;
    size_t n = cli_flags(c, flags);
    flags[n++] = (config_override){"student.onnx", o->student ? o->student : "", "--student"};
    const config_sources from = {.env = cli_environment(), .set = o->set.at, .n_set = o->set.n, .flags = flags,
                                 .n_flags = n};
    return config_load_text("step", step_defaults, sizeof step_defaults - 1, &from, out);
}

static status print_losses(const cli *c, const tensor_list *l, uint64_t steps)
{
    text t = {0};
    json j = {.out = &t};
    if (c->o.json) {
        json_put_object(&j, NULL);
        json_put_int(&j, "schema", 1);
        json_put_int(&j, "steps", (int64_t)steps);
    } else {
        text_add(&t, "step");
        for (size_t i = 0; i < l->n; i++)
            if (strncmp(l->at[i].name, "loss.", 5) == 0)
                text_printf(&t, " %16s", l->at[i].name);
        text_add(&t, "\n");
    }
    for (size_t i = 0; c->o.json && i < l->n; i++) {
        if (strncmp(l->at[i].name, "loss.", 5) != 0)
            continue;
        json_put_array(&j, l->at[i].name);
        for (uint64_t k = 0; k < steps; k++)
            json_put_number(&j, NULL, tensor_at(&l->at[i], (int64_t)k));
        json_end_array(&j);
    }
    for (uint64_t k = 0; !c->o.json && k < steps; k++) {
        text_printf(&t, "%4llu", (unsigned long long)k + 1);
        for (size_t i = 0; i < l->n; i++)
            if (strncmp(l->at[i].name, "loss.", 5) == 0)
                text_printf(&t, " %16.9g", tensor_at(&l->at[i], (int64_t)k));
        text_add(&t, "\n");
    }
    if (c->o.json) {
        json_put_string(&j, "out", c->o.out);
        json_end_object(&j);
        text_add(&t, "\n");
    }
    return cli_print(&t);
}

status cmd_step(cli *c)
{
    job *j = NULL;
    tensor_list out = {0};
    status st = ST_OK;
    if (!c->o.student)
        return fail(ST_USAGE, "which student? distill step --teacher T.onnx --student S.onnx --data DIR --steps N");
    if (c->o.steps < 0 || c->o.batch < 0)
        return fail(ST_USAGE, "--steps and --batch take numbers above 0");
    TRY_DONE(load_job(c, &j));
    const parity_options o = {.j = j, .steps = c->o.steps ? (uint64_t)c->o.steps : 1, .wide = c->o.double_precision};
    TRY_DONE(parity_run(&o, &out));
    if (c->o.out)
        TRY_DONE(npz_write(c->o.out, out.at, out.n, false));
    st = print_losses(c, &out, o.steps);
done:
    tensor_list_free(&out);
    config_free(j);
    return st;
}
