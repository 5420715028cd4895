/* runtimes.c - the table of rows, and how each is started. See runtimes.h. */
#include "matrix/runtimes.h"
#include "base/io.h"
#include "matrix/runner.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETUP(name) "tools/setup-runtimes " name
#define ELSEWHERE(why) why "; distill matrix pack makes what runs it there, distill matrix merge takes the result"

static const runtime_row rows[] = {
    {"own", "distill", RUNNER_NATIVE, "own", "onnx", "", .seconds = 300},
    {"own-bf16", "distill, matrix products in bfloat16", RUNNER_NATIVE, "own", "onnx", "\"precision\": \"bf16\"", .bf16 = true, .seconds = 300},
    {"own-cuda", "distill, CUDA", RUNNER_NATIVE, "own", "onnx", "\"device\": \"cuda\"", .seconds = 300},
    {"ort", "ONNX Runtime CPU", RUNNER_NATIVE, "ort", "onnx", "\"level\": \"all\"", .seconds = 120, .get = "tools/setup"},
    {"ort-basic", "ONNX Runtime CPU, basic optimisations", RUNNER_NATIVE, "ort", "onnx", "\"level\": \"basic\"", .seconds = 120,
     .get = "tools/setup"},
    {"ort-none", "ONNX Runtime CPU, no optimisations", RUNNER_NATIVE, "ort", "onnx", "\"level\": \"none\"", .seconds = 120,
     .get = "tools/setup"},
    {"ort-prec", "ONNX Runtime CPU, x64quantprecision", RUNNER_NATIVE, "ort", "onnx", "\"level\": \"all\", \"prec\": true",
     .seconds = 120, .get = "tools/setup"},
    {"ort-old", "ONNX Runtime CPU, two years old", RUNNER_NATIVE, "ort", "onnx", "\"level\": \"all\"", .library = "ort-old",
     .seconds = 120, .get = SETUP("ort-old")},
    {"ort-haswell", "ONNX Runtime on AVX2 without VNNI (qemu)", RUNNER_X86, "ort", "onnx", "\"level\": \"all\"", .cpu = "Haswell",
     .slow = true, .emulated = true, .seconds = 60, .get = SETUP("qemu")},
    {"ort-nehalem", "ONNX Runtime on SSE alone (qemu)", RUNNER_X86, "ort", "onnx", "\"level\": \"all\"", .cpu = "Nehalem",
     .slow = true, .emulated = true, .seconds = 60, .get = SETUP("qemu")},
    {"ort-a57", "ONNX Runtime on Cortex-A57 (qemu)", RUNNER_ARM64, "ort", "onnx", "\"level\": \"all\"", .cpu = "cortex-a57",
     .library = "ort-arm64", .slow = true, .emulated = true, .seconds = 60, .get = SETUP("qemu ort-arm64")},
    {"ort-a76", "ONNX Runtime on Cortex-A76 (qemu)", RUNNER_ARM64, "ort", "onnx", "\"level\": \"all\"", .cpu = "cortex-a76",
     .library = "ort-arm64", .slow = true, .emulated = true, .seconds = 60, .get = SETUP("qemu ort-arm64")},
    {"ort-armmax", "ONNX Runtime on ARMv9 (qemu, max)", RUNNER_ARM64, "ort", "onnx", "\"level\": \"all\"", .cpu = "max",
     .library = "ort-arm64", .slow = true, .emulated = true, .seconds = 60, .get = SETUP("qemu ort-arm64")},
    {"ort-openvino", "ONNX Runtime, OpenVINO provider", RUNNER_PYTHON, "ort-openvino", "onnx", "", .seconds = 120,
     .get = SETUP("ort-openvino")},
    {"openvino", "OpenVINO CPU", RUNNER_NATIVE, "openvino", "onnx", "", .seconds = 120, .get = SETUP("openvino"),
     .wrong_concat = "int8 inputs of a Concat before a Conv are rounded to whole numbers"},
    {"ort-web-wasm", "ONNX Runtime Web, wasm, 1 thread", RUNNER_NODE, "ort-web-wasm", "onnx", "", .slow = true, .seconds = 60,
     .get = SETUP("web chromium")},
    {"ort-web-wasm-mt", "ONNX Runtime Web, wasm, threads", RUNNER_NODE, "ort-web-wasm-mt", "onnx", "", .slow = true, .seconds = 60,
     .get = SETUP("web chromium")},
    {"ort-web-webgl", "ONNX Runtime Web, WebGL (software GPU)", RUNNER_NODE, "ort-web-webgl", "onnx", "", .slow = true,
     .emulated = true, .seconds = 60, .get = SETUP("web chromium"),
     .wrong_float = "its cache of programs leaves the activation out: a convolution without one may run with the Relu of another"},
    {"ort-web-webgpu", "ONNX Runtime Web, WebGPU (software GPU)", RUNNER_NODE, "ort-web-webgpu", "onnx", "", .slow = true,
     .emulated = true, .stays = true, .seconds = 60, .get = SETUP("web chromium")},
    {"ort-web-jsep", "ONNX Runtime Web, JSEP WebGPU (software GPU)", RUNNER_NODE, "ort-web-jsep", "onnx", "", .slow = true,
     .emulated = true, .stays = true, .seconds = 60, .get = SETUP("web chromium"),
     .wrong_half = "the JSEP WebGPU provider runs float16 shaders also on a GPU without shader-f16, and does not notice that they fail",
     .wrong_int8 = "the JSEP WebGPU provider returns wrong numbers for int8 files without an error"},
    {"litert-xnnpack", "LiteRT, XNNPACK", RUNNER_PYTHON, "litert-xnnpack", "tflite", "", .seconds = 120, .get = SETUP("litert")},
    {"litert-builtin", "LiteRT, built-in kernels", RUNNER_PYTHON, "litert-builtin", "tflite", "", .seconds = 120, .get = SETUP("litert")},
    {"litert-reference", "LiteRT, reference kernels", RUNNER_PYTHON, "litert-reference", "tflite", "", .slow = true, .seconds = 60,
     .get = SETUP("litert")},
    {"litert-wasm", "LiteRT.js, wasm", RUNNER_NODE, "litert-wasm", "tflite", "", .slow = true, .seconds = 60, .get = SETUP("web")},
    {"tflm", "TFLite-Micro", RUNNER_PYTHON, "tflm", "tflite", "", .slow = true, .seconds = 60, .get = SETUP("tflm")},
    {"opencv", "OpenCV DNN", RUNNER_PYTHON, "opencv", "onnx", "", .seconds = 120, .get = SETUP("opencv")},
    {"opencv-qop", "OpenCV DNN, operator form", RUNNER_PYTHON, "opencv", "qoperator", "", .seconds = 120, .get = SETUP("opencv")},
    {"opencv-debian", "OpenCV DNN of Debian (4.6)", RUNNER_PROGRAM, "opencv_dnn", "onnx", "", .int8_form = "qoperator",
     .library = "opencv-debian", .seconds = 120, .get = SETUP("opencv-debian")},
    {"ncnn", "ncnn", RUNNER_PYTHON, "ncnn", "ncnn", "", .seconds = 120, .get = SETUP("ncnn")},
    {"tract", "tract", RUNNER_PYTHON, "tract", "onnx", "", .seconds = 120, .get = SETUP("tract")},
    {"iree", "IREE, LLVM CPU", RUNNER_PYTHON, "iree", "onnx", "", .slow = true, .seconds = 120, .get = SETUP("iree")},
    {"tinygrad", "tinygrad", RUNNER_PYTHON, "tinygrad", "onnx", "", .slow = true, .seconds = 60, .get = SETUP("tinygrad")},
    {"onnx-reference", "onnx.reference", RUNNER_PYTHON, "onnx-reference", "onnx", "", .slow = true, .seconds = 60,
     .get = SETUP("onnx-reference")},
    {"ort-cuda", "ONNX Runtime CUDA", RUNNER_NEVER, .form = "onnx", .get = ELSEWHERE("needs an NVIDIA GPU")},
    {"tensorrt", "TensorRT", RUNNER_NEVER, .form = "onnx", .get = ELSEWHERE("needs an NVIDIA GPU with TensorRT")},
    {"directml", "ONNX Runtime DirectML", RUNNER_NEVER, .form = "onnx", .get = ELSEWHERE("needs Windows with a DirectX 12 GPU")},
    {"coreml", "ONNX Runtime CoreML", RUNNER_NEVER, .form = "onnx", .get = ELSEWHERE("needs macOS or iOS")},
    {"coreml-mlpackage", "CoreML .mlpackage", RUNNER_NEVER, .form = "onnx", .get = ELSEWHERE("needs macOS or iOS")},
    {"rocm", "ONNX Runtime ROCm", RUNNER_NEVER, .form = "onnx", .get = ELSEWHERE("needs an AMD GPU with ROCm")},
    {"qnn", "ONNX Runtime QNN", RUNNER_NEVER, .form = "onnx", .get = ELSEWHERE("needs a Qualcomm processor with its NPU")},
    {"nnapi", "Android NNAPI", RUNNER_NEVER, .form = "tflite", .get = ELSEWHERE("needs an Android device")},
    {"mediatek", "MediaTek NeuroPilot", RUNNER_NEVER, .form = "tflite", .get = ELSEWHERE("needs a MediaTek processor with its APU")},
    {"webnn", "WebNN", RUNNER_NEVER, .form = "onnx", .get = ELSEWHERE("needs a browser with WebNN and its drivers")},
};

const runtime_row *runtimes_all(size_t *n)
{
    *n = sizeof rows / sizeof *rows;
    return rows;
}

const runtime_row *runtimes_find(const char *key)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].key, key) == 0)
            return &rows[i];
    return NULL;
}

const char *runtimes_form(const runtime_row *r, bool integers)
{
    return integers && r->int8_form ? r->int8_form : r->form;
}

bool runtimes_match(const char *pattern, const char *name)
{
    return fnmatch(pattern, name, FNM_NOESCAPE) == 0;
}

/* ---- places ---- */

/* The folder above the program, or here, that holds tools/runners. */
static status find_root(const char *program, arena *mem, const char **out)
{
    char dir[4096];
    const char *mark;
    size_t n = strlen(program);
    *out = NULL;
    if (n >= sizeof dir)
        return ST_OK;
    memcpy(dir, program, n + 1);
    for (char *slash = strrchr(dir, '/'); slash && slash != dir; slash = strrchr(dir, '/')) {
        *slash = 0;
        TRY(arena_printf(mem, &mark, "%s/tools/runners/runner.py", dir));
        if (io_exists(mark))
            return arena_strdup(mem, out, dir);
    }
    if (io_exists("tools/runners/runner.py") && getcwd(dir, sizeof dir))
        return arena_strdup(mem, out, dir);
    return ST_OK;
}

status runtimes_places(arena *mem, runtime_places *out)
{
    char path[4096], absolute[4096];
    const char *given = getenv("DISTILL_RUNTIMES"), *root = getenv("DISTILL_ROOT");
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    *out = (runtime_places){0};
    if (n <= 0)
        return fail(ST_UNAVAILABLE, "the program cannot find itself in /proc");
    path[n] = 0;
    TRY(arena_strdup(mem, &out->program, path));
    TRY(runner_file_build(path, mem, &out->build));
    if (root && *root)
        out->root = root;
    else
        TRY(find_root(path, mem, &out->root));
    if (given && *given)
        return arena_strdup(mem, &out->runtimes, realpath(given, absolute) ? absolute : given);
    return arena_printf(mem, &out->runtimes, "%s/build/runtimes", out->root ? out->root : ".");
}

/* ---- starting ---- */

enum { WORDS = 12, VARIABLES = 8 };

typedef struct words {
    const char **at;
    size_t n;
} words;

static void add_word(words *w, const char *s)
{
    w->at[w->n++] = s;
}

/* FOLDER/NAME, where NAME is the last that begins with `prefix`; NULL: there is none. */
static status find_library(const char *folder, const char *prefix, arena *mem, const char **out)
{
    char **names;
    size_t n;
    *out = NULL;
    if (!io_is_dir(folder))
        return ST_OK;
    TRY(io_list(folder, 100000, &names, &n));
    status st = ST_OK;
    for (size_t i = 0; i < n && st == ST_OK; i++)
        if (strncmp(names[i], prefix, strlen(prefix)) == 0)
            st = arena_printf(mem, out, "%s/%s", folder, names[i]);
    io_list_free(names, n);
    return st;
}

/* Where a program is; false: nowhere. */
static bool in_path(const char *program, char at[4096])
{
    const char *path = getenv("PATH");
    for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
        int n = (int)strcspn(p, ":");
        if (snprintf(at, 4096, "%.*s/%s", n, p, program) < 4096 && access(at, X_OK) == 0)
            return true;
        p += n + (p[n] == ':');
    }
    return false;
}

static status use_library(const runtime_row *r, const runtime_places *p, arena *mem, words *env, runtime_launch *out)
{
    const char *folder, *library, *variable;
    if (!r->library)
        return ST_OK;
    TRY(arena_printf(mem, &folder, "%s/%s/onnxruntime/capi", p->runtimes, r->library));
    TRY(find_library(folder, "libonnxruntime.so", mem, &library));
    if (!library)
        return arena_printf(mem, &out->missing, "no libonnxruntime.so in %s; %s brings it", folder, r->get);
    TRY(arena_printf(mem, &variable, "DISTILL_ORT=%s", library));
    add_word(env, variable);
    return ST_OK;
}

static status launch_c(const runtime_row *r, const runtime_places *p, arena *mem, words *command, words *env, runtime_launch *out)
{
    const char *program = p->program, *sysroot, *cross;
    char at[4096];
    const char *qemu = r->kind == RUNNER_X86 ? "qemu-x86_64" : r->kind == RUNNER_ARM64 ? "qemu-aarch64" : NULL;
    if (qemu && !in_path(qemu, at))
        return arena_printf(mem, &out->missing, "there is no %s; %s brings it", qemu, SETUP("qemu"));
    if (r->kind == RUNNER_ARM64) {
        TRY(arena_printf(mem, &sysroot, "%s/build/arm64", p->root ? p->root : "."));
        TRY(arena_printf(mem, &cross, "%s/build/aarch64/distill", p->root ? p->root : "."));
        const char *given = getenv("DISTILL_ARM64"), *given_root = getenv("DISTILL_ARM64_ROOT");
        program = given && *given ? given : cross;
        sysroot = given_root && *given_root ? given_root : sysroot;
        if (!io_exists(program) || !io_is_dir(sysroot))
            return arena_printf(mem, &out->missing, "there is no %s; tools/build --aarch64 makes it", cross);
    }
    if (qemu) {
        TRY(arena_strdup(mem, &out->emulator, at));
        add_word(command, qemu);
        add_word(command, "-cpu");
        add_word(command, r->cpu);
    }
    if (r->kind == RUNNER_ARM64) {
        add_word(command, "-L");
        add_word(command, sysroot);
    }
    add_word(command, program);
    add_word(command, "runner");
    add_word(command, r->engine);
    return use_library(r, p, mem, env, out);
}

static status launch_script(const runtime_row *r, const runtime_places *p, arena *mem, words *command, runtime_launch *out)
{
    const char *with, *script;
    char at[4096];
    if (!p->root)
        return arena_printf(mem, &out->missing, "the project's tools/runners is not beside this program; run it from the project's folder");
    TRY(arena_printf(mem, &script, "%s/tools/runners/%s", p->root, r->kind == RUNNER_NODE ? "web.mjs" : "runner.py"));
    TRY(arena_printf(mem, &with, "%s/.venv/bin/python", p->root));
    if (r->kind == RUNNER_NODE) {
        with = "node";
        if (!in_path(with, at))
            return arena_printf(mem, &out->missing, "there is no node; %s needs it", r->get);
    } else if (!io_exists(with)) {
        return arena_printf(mem, &out->missing, "there is no %s; tools/setup makes it", with);
    }
    if (!io_exists(script))
        return arena_printf(mem, &out->missing, "there is no %s", script);
    add_word(command, with);
    add_word(command, script);
    add_word(command, r->engine);
    return ST_OK;
}

static status launch_program(const runtime_row *r, const runtime_places *p, arena *mem, words *command, runtime_launch *out)
{
    const char *program;
    TRY(arena_printf(mem, &program, "%s/%s/%s", p->runtimes, r->library, r->engine));
    if (!io_exists(program))
        return arena_printf(mem, &out->missing, "there is no %s; %s makes it", program, r->get);
    add_word(command, program);
    return ST_OK;
}

status runtimes_launch(const runtime_row *r, const runtime_places *p, arena *mem, runtime_launch *out)
{
    words command = {0}, env = {0};
    const char *variable;
    *out = (runtime_launch){0};
    TRY(arena_alloc(mem, &command.at, WORDS, sizeof *command.at));
    TRY(arena_alloc(mem, &env.at, VARIABLES, sizeof *env.at));
    TRY(arena_printf(mem, &variable, "DISTILL_RUNTIMES=%s", p->runtimes));
    add_word(&env, variable);
    out->command = command.at;
    out->env = env.at;
    if (r->kind == RUNNER_NEVER) {
        out->missing = r->get;
        return ST_OK;
    }
    if (r->kind == RUNNER_PYTHON || r->kind == RUNNER_NODE)
        return launch_script(r, p, mem, &command, out);
    if (r->kind == RUNNER_PROGRAM)
        return launch_program(r, p, mem, &command, out);
    return launch_c(r, p, mem, &command, &env, out);
}
