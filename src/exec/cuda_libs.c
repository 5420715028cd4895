/* cuda_libs.c - finds cuBLASLt and cuDNN, checks their versions, fills the tables of functions. */
#include "exec/cuda_libs.h"
#include "base/mem.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_ROOM 4096

typedef enum library { LIB_NVRTC, LIB_BLAS, LIB_DNN, LIB_NCCL, LIBRARIES } library;
/* In order of opening: cuDNN finds the two others by their names when they are there already. */
static const struct {
    const char *name, *file, *missing;
    const char *folder[2]; /* below a site-packages tree */
} known[LIBRARIES] = {
    [LIB_NVRTC] = {"NVRTC", "libnvrtc.so.13", "cuDNN cannot compile fused engines", {"nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"}},
    [LIB_BLAS] = {"cuBLASLt", "libcublasLt.so.13", "matrix products run on own kernels", {"nvidia/cu13/lib", "nvidia/cublas/lib"}},
    [LIB_DNN] = {"cuDNN", "libcudnn.so.9", "convolutions run on own kernels", {"nvidia/cudnn/lib", "nvidia/cudnn/lib"}},
    [LIB_NCCL] = {"NCCL", "libnccl.so.2", "one GPU needs none, and this version trains on one", {"nvidia/nccl/lib", "nvidia/nccl/lib"}},
};

struct cuda_libs {
    int n; /* the first so many are looked for */
    void *handle[LIBRARIES];
    char *path[LIBRARIES];
    size_t version[LIBRARIES];
    char *fault[LIBRARIES]; /* why a file that is there does not serve; NULL: none */
    blas_api blas;
    dnn_api dnn;
    bool has_blas, has_dnn;
    const blas_api *given_blas;
    const dnn_api *given_dnn;
};

/* ---- looking ---- */

static status try_file(cuda_libs *l, library k, const char *path)
{
    if (l->handle[k])
        return ST_OK;
    if (strchr(path, '/') && access(path, F_OK) != 0)
        return ST_OK;
    l->handle[k] = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (l->handle[k]) {
        mem_free(l->fault[k]);
        l->fault[k] = NULL;
        return mem_strdup(&l->path[k], path);
    }
    const char *why = dlerror();
    return strchr(path, '/') && !l->fault[k] ? mem_strdup(&l->fault[k], why ? why : path) : ST_OK;
}

/* The libraries in a folder, or in the site-packages tree that it is. */
static status try_folder(cuda_libs *l, const char *folder, int length)
{
    char path[PATH_ROOM];
    for (int k = 0; k < l->n; k++)
        for (int i = -1; i < 2; i++) {
            int n = snprintf(path, sizeof path, "%.*s/%s%s%s", length, folder, i < 0 ? "" : known[k].folder[i], i < 0 ? "" : "/",
                             known[k].file);
            if (n > 0 && n < (int)sizeof path)
                TRY(try_file(l, (library)k, path));
        }
    return ST_OK;
}

static status try_list(cuda_libs *l, const char *folders)
{
    while (folders && *folders) {
        size_t n = strcspn(folders, ":");
        if (n > 0 && n < PATH_ROOM)
            TRY(try_folder(l, folders, (int)n));
        folders += n + (folders[n] == ':');
    }
    return ST_OK;
}

static status try_beside_program(cuda_libs *l)
{
    char self[PATH_ROOM], path[PATH_ROOM + 16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return ST_OK;
    self[n] = 0;
    char *slash = strrchr(self, '/');
    if (!slash)
        return ST_OK;
    *slash = 0;
    snprintf(path, sizeof path, "%s/cuda", self);
    TRY(try_folder(l, path, (int)strlen(path)));
    snprintf(path, sizeof path, "%s/../build/cuda", self);
    return try_folder(l, path, (int)strlen(path));
}

/* The site-packages of a Python environment; then its own libraries, where conda puts them. */
static status try_environment(cuda_libs *l, const char *root)
{
    char pattern[PATH_ROOM];
    glob_t found = {0};
    status st = ST_OK;
    if (!root || !*root || snprintf(pattern, sizeof pattern, "%s/lib/python3*/site-packages", root) >= (int)sizeof pattern)
        return ST_OK;
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && st == ST_OK; i++)
            st = try_folder(l, found.gl_pathv[i], (int)strlen(found.gl_pathv[i]));
    globfree(&found);
    if (st == ST_OK && snprintf(pattern, sizeof pattern, "%s/lib", root) < (int)sizeof pattern)
        st = try_folder(l, pattern, (int)strlen(pattern));
    return st;
}

static status find_all(cuda_libs *l)
{
    TRY(try_list(l, getenv("DISTILL_CUDA_LIBS")));
    TRY(try_beside_program(l));
    TRY(try_environment(l, getenv("VIRTUAL_ENV")));
    TRY(try_environment(l, getenv("CONDA_PREFIX")));
    for (int k = 0; k < l->n; k++)
        TRY(try_file(l, (library)k, known[k].file));
    return ST_OK;
}

/* ---- what was found ---- */

static status refuse(cuda_libs *l, library k, const char *why)
{
    char line[PATH_ROOM + 200];
    snprintf(line, sizeof line, "%s: %s", l->path[k], why);
    mem_free(l->fault[k]);
    l->fault[k] = NULL;
    return mem_strdup(&l->fault[k], line);
}

/* Fills a table of `n` functions; names: [n]. False: *missing is not there. */
static bool fill_table(void *handle, void *table, const char *const *names, size_t n, const char **missing)
{
    for (size_t i = 0; i < n; i++) {
        void *f = dlsym(handle, names[i]);
        if (!f) {
            *missing = names[i];
            return false;
        }
        memcpy((char *)table + i * sizeof f, &f, sizeof f);
    }
    return true;
}

static size_t version_of(void *handle, const char *name)
{
    size_t (*version)(void) = NULL;
    void *f = dlsym(handle, name);
    if (!f)
        return 0;
    memcpy(&version, &f, sizeof f);
    return version();
}

static status load_blas(cuda_libs *l)
{
#define NAME(field, name, parameters, arguments) #name,
    static const char *const names[] = {BLAS_API(NAME)};
    const char *missing = NULL;
    char line[160];
    if (!l->handle[LIB_BLAS])
        return ST_OK;
    l->version[LIB_BLAS] = version_of(l->handle[LIB_BLAS], "cublasLtGetVersion");
    if (!fill_table(l->handle[LIB_BLAS], &l->blas, names, sizeof names / sizeof *names, &missing)) {
        snprintf(line, sizeof line, "has no function %s", missing);
        return refuse(l, LIB_BLAS, line);
    }
    if (l->version[LIB_BLAS] / 10000 != 13) {
        snprintf(line, sizeof line, "is version %zu, this program needs 13", l->version[LIB_BLAS]);
        return refuse(l, LIB_BLAS, line);
    }
    l->has_blas = true;
    return ST_OK;
}

static status load_dnn(cuda_libs *l)
{
    static const char *const names[] = {DNN_API(NAME)};
#undef NAME
    const char *missing = NULL;
    char line[160];
    if (!l->handle[LIB_DNN])
        return ST_OK;
    l->version[LIB_DNN] = version_of(l->handle[LIB_DNN], "cudnnGetVersion");
    if (!fill_table(l->handle[LIB_DNN], &l->dnn, names, sizeof names / sizeof *names, &missing)) {
        snprintf(line, sizeof line, "has no function %s", missing);
        return refuse(l, LIB_DNN, line);
    }
    if (l->version[LIB_DNN] / 10000 != 9) {
        snprintf(line, sizeof line, "is version %zu, this program needs 9", l->version[LIB_DNN]);
        return refuse(l, LIB_DNN, line);
    }
    l->has_dnn = true;
    return ST_OK;
}

/* Of NCCL only the version is asked. */
static status load_nccl(cuda_libs *l)
{
    int (*version)(int *) = NULL;
    int v = 0;
    void *f = l->handle[LIB_NCCL] ? dlsym(l->handle[LIB_NCCL], "ncclGetVersion") : NULL;
    if (!l->handle[LIB_NCCL])
        return ST_OK;
    if (!f)
        return refuse(l, LIB_NCCL, "has no function ncclGetVersion");
    memcpy(&version, &f, sizeof f);
    if (version(&v) != 0)
        return refuse(l, LIB_NCCL, "does not tell its version");
    l->version[LIB_NCCL] = (size_t)v;
    return ST_OK;
}

static status open_first(int n, cuda_libs **out)
{
    cuda_libs *l;
    status st = ST_OK;
    TRY(mem_alloc(&l, 1, sizeof *l));
    l->n = n;
    TRY_DONE(find_all(l));
    TRY_DONE(load_blas(l));
    TRY_DONE(load_dnn(l));
    TRY_DONE(load_nccl(l));
    *out = l;
    return ST_OK;
done:
    cuda_libs_close(l);
    return st;
}

status cuda_libs_open(cuda_libs **out)
{
    return open_first(LIB_NCCL, out);
}

status cuda_libs_open_all(cuda_libs **out)
{
    return open_first(LIBRARIES, out);
}

status cuda_libs_given(const blas_api *blas, const dnn_api *dnn, cuda_libs **out)
{
    TRY(mem_alloc(out, 1, sizeof **out));
    (*out)->given_blas = blas;
    (*out)->given_dnn = dnn;
    return ST_OK;
}

void cuda_libs_close(cuda_libs *l)
{
    if (!l)
        return;
    for (int k = 0; k < LIBRARIES; k++) {
        if (l->handle[k])
            dlclose(l->handle[k]);
        mem_free(l->path[k]);
        mem_free(l->fault[k]);
    }
    mem_free(l);
}

const blas_api *cuda_libs_blas(const cuda_libs *l)
{
    return !l ? NULL : l->has_blas ? &l->blas : l->given_blas;
}
const dnn_api *cuda_libs_dnn(const cuda_libs *l)
{
    return !l ? NULL : l->has_dnn ? &l->dnn : l->given_dnn;
}

size_t cuda_libs_dnn_version(const cuda_libs *l)
{
    return l && l->has_dnn ? l->version[LIB_DNN] : 0;
}

void cuda_libs_describe(const cuda_libs *l, text *out)
{
    for (int k = 0; k < l->n; k++) {
        bool serves = l->handle[k] && !l->fault[k];
        size_t v = l->version[k];
        text_printf(out, "%s: ", known[k].name);
        if (serves && v) /* 91900: 9.19.0; all count so */
            text_printf(out, "%zu.%zu.%zu, %s\n", v / 10000, v % 10000 / 100, v % 100, l->path[k]);
        else if (serves)
            text_printf(out, "%s\n", l->path[k]);
        else if (l->fault[k])
            text_printf(out, "%s; %s\n", l->fault[k], known[k].missing);
        else
            text_printf(out, "%s was not found: %s; tools/setup-cuda installs it, or DISTILL_CUDA_LIBS names a folder that has it "
                        "(the site-packages of a PyTorch, say)\n", known[k].file, known[k].missing);
    }
}

const char *cuda_libs_text(int code)
{
    static const struct {
        int code;
        const char *text;
    } said[] = {
        {CUDA_BLAS_CODES - 1, "no memory for cuBLASLt"},     {CUDA_BLAS_CODES + 1, "cuBLASLt is not initialised"},
        {CUDA_BLAS_CODES + 3, "cuBLASLt could not allocate"}, {CUDA_BLAS_CODES + 7, "cuBLASLt refuses a value"},
        {CUDA_BLAS_CODES + 8, "cuBLASLt does not know this device"}, {CUDA_BLAS_CODES + 13, "cuBLASLt: execution failed"},
        {CUDA_BLAS_CODES + 14, "cuBLASLt: internal error"},   {CUDA_BLAS_CODES + 15, "cuBLASLt does not support this"},
        {CUDA_DNN_CODES - 1, "no memory for cuDNN"},         {CUDA_DNN_CODES + 1001, "cuDNN is not initialised"},
        {CUDA_DNN_CODES + 5000, "cuDNN: execution failed"},   {CUDA_DNN_CODES + 5001, "cuDNN: the driver failed"},
    };
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (said[i].code == code)
            return said[i].text;
    return code >= CUDA_DNN_CODES - 1   ? "cuDNN failed (the code less 2097152 is its status)"
           : code >= CUDA_BLAS_CODES - 1     ? "cuBLASLt failed (the code less 1048576 is its status)"
                                                : NULL;
}
