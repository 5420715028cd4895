/* cmd_doctor.c - `distill doctor`: what this machine has and what is missing. */
#include "base/io.h"
#include "cli/cli.h"
#include "deploy/ort.h"
#include "exec/backend.h"

#include <archive.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <zlib.h>

typedef struct finding {
    const char *name;
    bool good;
    char text[400], own_name[24];
} finding;

static void look_at_host(finding *f)
{
    struct utsname u;
    char memory[24];
    f->name = "host";
    f->good = uname(&u) == 0;
    if (f->good)
        snprintf(f->text, sizeof f->text, "%s %s %s, %ld cores, %s of memory", u.sysname, u.release, u.machine,
                 sysconf(_SC_NPROCESSORS_ONLN),
                 human_bytes((double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE), memory));
}

static void look_at_device(finding *f)
{
    backend *b = NULL;
    text t = {0};
    backend_options o = {.max_isa = ISA_AVX512};
    f->name = "device";
    f->good = backend_open("cpu", &o, &b) == ST_OK;
    if (f->good) {
        b->describe(b, &t);
        snprintf(f->text, sizeof f->text, "%s", t.s ? t.s : "");
        backend_close(b);
    } else {
        snprintf(f->text, sizeof f->text, "%s", status_message());
    }
    text_free(&t);
}

typedef struct findings {
    finding at[24];
    size_t n;
} findings;

static void add_device(void *ctx, const char *name, bool good, const char *what)
{
    findings *f = ctx;
    if (f->n == sizeof f->at / sizeof *f->at - 3) /* the others follow */
        return;
    finding *x = &f->at[f->n++];
    snprintf(x->own_name, sizeof x->own_name, "%s", name);
    snprintf(x->text, sizeof x->text, "%s", what);
    x->name = x->own_name;
    x->good = good;
}

static void look_at_ort(const char *path, finding *f)
{
    ort_lib *lib = NULL;
    f->name = "ONNX Runtime";
    f->good = ort_open(path, &lib) == ST_OK;
    if (f->good)
        snprintf(f->text, sizeof f->text, "%s, %s", ort_version(lib), ort_path(lib));
    else
        snprintf(f->text, sizeof f->text, "%s", status_message());
    ort_close(lib);
}

static void look_at_disk(finding *f)
{
    char b[24];
    uint64_t bytes = io_free_bytes(".");
    f->name = "disk";
    f->good = bytes > (uint64_t)100 << 20;
    snprintf(f->text, sizeof f->text, "%s free in the current folder%s", human_bytes((double)bytes, b),
             f->good ? "" : ": too little for a run");
}

static void look_at_libraries(finding *f)
{
    f->name = "libraries";
    f->good = true;
    snprintf(f->text, sizeof f->text, "%s, zlib %s, %s", archive_version_string(), zlibVersion(),
             OpenSSL_version(OPENSSL_VERSION));
}

status cmd_doctor(cli *c)
{
    findings f = {0};
    text t = {0};
    json j = {.out = &t};
    bool good = true;
    look_at_host(&f.at[f.n++]);
    look_at_device(&f.at[f.n++]);
    backend_survey(add_device, &f);
    look_at_ort(c->o.ort, &f.at[f.n++]);
    look_at_disk(&f.at[f.n++]);
    look_at_libraries(&f.at[f.n++]);
    if (c->o.json)
        json_put_object(&j, NULL);
    for (size_t i = 0; i < f.n; i++) {
        good &= f.at[i].good;
        if (c->o.json) {
            json_put_object(&j, f.at[i].name);
            json_put_bool(&j, "ok", f.at[i].good);
            json_put_string(&j, "detail", f.at[i].text);
            json_end_object(&j);
        } else {
            text_printf(&t, "%-8s %-14s %s\n", f.at[i].good ? "ok" : "MISSING", f.at[i].name, f.at[i].text);
        }
    }
    if (c->o.json) {
        json_end_object(&j);
        text_add(&t, "\n");
    }
    TRY(cli_print(&t));
    return good ? ST_OK : fail(ST_UNAVAILABLE, "something is missing: see above");
}
