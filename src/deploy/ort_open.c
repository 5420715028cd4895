/* ort_open.c - finding and opening ONNX Runtime. See ort.h. */
#include "base/io.h"
#include "base/mem.h"
#include "deploy/ort.h"
#include "deploy/ort_api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

status ort_check(const ort_lib *lib, ort_status *s, status kind, const char *what)
{
    if (!s)
        return ST_OK;
    if (lib->api.GetErrorCode(s) == ORT_NO_SUCH_FILE)
        kind = ST_NO_INPUT;
    status st = fail(kind, "%s: ONNX Runtime %s: %s", what, lib->version, lib->api.GetErrorMessage(s));
    lib->api.ReleaseStatus(s);
    return st;
}

#define HOW_TO_GET                                                                                           \
    "tools/setup brings it (the PyPI wheel onnxruntime into .venv), or name a libonnxruntime.so in "         \
    "DISTILL_ORT"

static status load(ort_lib *lib, const char *path)
{
    /* NODELETE: its threads and thread-local destructors must find their code after ort_close. */
    lib->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!lib->handle)
        return fail(ST_UNAVAILABLE, "ONNX Runtime cannot be opened: %s; %s", dlerror(), HOW_TO_GET);
    return mem_strdup(&lib->path, path);
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* The last name in `dir` that starts with `prefix`: "dir/name" in `to` (n bytes); false when there is none. */
static bool last_entry(const char *dir, const char *prefix, char *to, size_t n)
{
    char **names;
    size_t count;
    bool found = false;
    if (!io_is_dir(dir) || io_list(dir, 100000, &names, &count) != ST_OK)
        return false;
    for (size_t i = 0; i < count; i++)
        if (starts_with(names[i], prefix))
            found = (size_t)snprintf(to, n, "%s/%s", dir, names[i]) < n;
    io_list_free(names, count);
    return found;
}

/* <root>/.venv/lib/python3.X/site-packages/onnxruntime/capi/libonnxruntime.so.Y */
static bool find_wheel(const char *root, char *to, size_t n)
{
    char dir[4096], python[4096];
    if ((size_t)snprintf(dir, sizeof dir, "%s/.venv/lib", root) >= sizeof dir)
        return false;
    if (!last_entry(dir, "python3", python, sizeof python))
        return false;
    if ((size_t)snprintf(dir, sizeof dir, "%s/site-packages/onnxruntime/capi", python) >= sizeof dir)
        return false;
    return last_entry(dir, "libonnxruntime.so", to, n);
}

/* The folders above the program: build/distill and build/asan/tests both lie in the project. */
static bool find_near_program(char *to, size_t n)
{
    char dir[4096];
    ssize_t used = readlink("/proc/self/exe", dir, sizeof dir - 1);
    if (used <= 0)
        return false;
    dir[used] = 0;
    for (int up = 0; up < 5; up++) {
        char *slash = strrchr(dir, '/');
        if (!slash || slash == dir)
            return false;
        *slash = 0;
        if (find_wheel(dir, to, n))
            return true;
    }
    return false;
}

static status find_and_load(ort_lib *lib, const char *path)
{
    char found[8192];
    const char *env = getenv("DISTILL_ORT");
    if (path)
        return load(lib, path);
    if (env && env[0])
        return load(lib, env);
    if (find_near_program(found, sizeof found) || find_wheel(".", found, sizeof found))
        return load(lib, found);
    if (load(lib, "libonnxruntime.so.1") == ST_OK)
        return ST_OK;
    if (load(lib, "libonnxruntime.so") == ST_OK)
        return ST_OK;
    return fail(ST_UNAVAILABLE, "ONNX Runtime was not found; %s", HOW_TO_GET);
}

static status bind_table(ort_lib *lib)
{
    ort_get_api_base get = NULL;
    void *symbol = dlsym(lib->handle, "OrtGetApiBase");
    memcpy(&get, &symbol, sizeof get); /* POSIX: an object pointer from dlsym may hold a function */
    const ort_api_base *base = get ? get() : NULL;
    if (!base)
        return fail(ST_UNAVAILABLE, "%s is not ONNX Runtime (no OrtGetApiBase); %s", lib->path, HOW_TO_GET);
    lib->version = base->GetVersionString();
    const ort_slot *table = base->GetApi(ORT_API_VERSION);
    if (!table)
        return fail(ST_UNAVAILABLE, "%s is ONNX Runtime %s; 1.%d or newer is needed; %s", lib->path,
                    lib->version, ORT_API_VERSION, HOW_TO_GET);
#define ORT_BIND(name, slot, result, parameters) lib->api.name = (result(*) parameters)table[slot];
    ORT_FUNCTIONS(ORT_BIND)
#undef ORT_BIND
    return ST_OK;
}

status ort_open(const char *path, ort_lib **out)
{
    status st = ST_OK;
    ort_lib *lib;
    *out = NULL;
    TRY(mem_alloc(&lib, 1, sizeof *lib));
    TRY_DONE(find_and_load(lib, path));
    TRY_DONE(bind_table(lib));
    /* Its log would go to stderr; what matters comes back as messages. */
    TRY_DONE(
        ort_check(lib, lib->api.CreateEnv(ORT_LOG_FATAL, "distill", &lib->env), ST_UNAVAILABLE, lib->path));
    TRY_DONE(ort_check(lib, lib->api.CreateCpuMemoryInfo(0, 0, &lib->memory), ST_UNAVAILABLE, lib->path));
    TRY_DONE(
        ort_check(lib, lib->api.GetAllocatorWithDefaultOptions(&lib->allocator), ST_UNAVAILABLE, lib->path));
    *out = lib;
done:
    if (st != ST_OK)
        ort_close(lib);
    return st;
}

void ort_close(ort_lib *lib)
{
    if (!lib)
        return;
    if (lib->memory)
        lib->api.ReleaseMemoryInfo(lib->memory);
    if (lib->env)
        lib->api.ReleaseEnv(lib->env);
    if (lib->handle)
        (void)dlclose(lib->handle);
    mem_free(lib->path);
    mem_free(lib);
}

const char *ort_version(const ort_lib *lib)
{
    return lib->version;
}

const char *ort_path(const ort_lib *lib)
{
    return lib->path;
}
