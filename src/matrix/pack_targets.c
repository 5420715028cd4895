/* pack_targets.c - the kinds of machine that a matrix is packed for: what starts it there, what its reader must know. */
#include "matrix/pack.h"

#include <string.h>

static const char run_sh[] =
    "#!/bin/sh\n"
    "# Starts run.py with the first Python 3 there is; arguments go on to it (--help lists them).\n"
    "PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}\n"
    "export PATH\n"
    "cd \"$(dirname \"$0\")\" || exit 66\n"
    "for python in \"${DISTILL_PYTHON:-python3}\" python3 python /usr/bin/python3; do\n"
    "    \"$python\" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && exec \"$python\" run.py \"$@\"\n"
    "done\n"
    "echo 'no Python 3.8 or newer here; DISTILL_PYTHON names one' >&2\n"
    "exit 69\n";

static const char run_cmd[] =
    "@echo off\r\n"
    "rem Starts run.py with the first Python 3 there is; arguments go on to it (--help lists them).\r\n"
    "cd /d \"%~dp0\"\r\n"
    "if not \"%DISTILL_PYTHON%\"==\"\" goto named\r\n"
    "py -3 -c \"import sys\" >nul 2>nul && (py -3 run.py %* & exit /b)\r\n"
    "python run.py %*\r\n"
    "exit /b\r\n"
    ":named\r\n"
    "\"%DISTILL_PYTHON%\" run.py %*\r\n";

static const char run_adb_sh[] =
    "#!/bin/sh\n"
    "# On a computer with adb: copies this folder to the device, runs run.py there, brings result.json back.\n"
    "# DISTILL_PYTHON: Python 3 on the device (default: python3 in its PATH; Termux has one). Arguments go on to run.py.\n"
    "set -e\n"
    "cd \"$(dirname \"$0\")\"\n"
    "to=${DISTILL_DEVICE_FOLDER:-/data/local/tmp/distill-matrix}\n"
    "python=${DISTILL_PYTHON:-python3}\n"
    "adb get-state >/dev/null\n"
    "adb shell \"rm -rf '$to' && mkdir -p '$to'\"\n"
    "adb push . \"$to/\" >/dev/null\n"
    "if ! adb shell \"'$python' -c 'import sys; sys.exit(sys.version_info < (3, 8))'\" 2>/dev/null; then\n"
    "    echo \"no Python 3.8 on the device as '$python'; README.txt says what else can be done. The files lie in $to\" >&2\n"
    "    exit 69\n"
    "fi\n"
    "name=$(adb shell getprop ro.product.model | tr -d '\\r')\n"
    "adb shell \"cd '$to' && '$python' run.py --name '$name' $*\"\n"
    "adb pull \"$to/result.json\" .\n";

#define SETUP_NOTES \
    "Runtimes: `./run.sh --list` says which of the rows are present and how to get the others. tools/setup-runtimes NAME...\n" \
    "brings those that are packages of PyPI into build/runtimes of this folder; --runtimes-dir names another one. ONNX Runtime's rows want\n" \
    "the package onnxruntime (ort-cuda, tensorrt: onnxruntime-gpu; rocm: onnxruntime-rocm) in the Python that runs: DISTILL_PYTHON names it.\n"

const pack_target pack_targets[] = {
    {"linux", ".tar.gz", "run.sh", run_sh, "Start: ./run.sh\n\n" SETUP_NOTES,
     "own own-bf16 own-cuda ort ort-basic ort-none ort-prec ort-old ort-openvino ort-cuda tensorrt rocm openvino litert-xnnpack litert-builtin litert-reference "
     "tflm opencv opencv-qop ncnn tract iree tinygrad onnx-reference qnn ort-web-wasm ort-web-wasm-mt ort-web-webgl ort-web-webgpu ort-web-jsep litert-wasm"},
    {"windows", ".zip", "run.cmd", run_cmd,
     "Start: run.cmd (Python 3.8 or newer; DISTILL_PYTHON names one).\n\n"
     "Runtimes: `run.cmd --list` says which of the rows are present. Into the Python that run.cmd uses: pip install onnxruntime, or\n"
     "onnxruntime-directml for the row directml; openvino, ai-edge-litert, opencv-python-headless, ncnn for theirs.\n",
     "ort ort-basic ort-none ort-prec ort-cuda directml tensorrt qnn openvino litert-xnnpack litert-builtin litert-reference opencv opencv-qop ncnn tract "
     "onnx-reference ort-web-wasm ort-web-wasm-mt ort-web-webgl ort-web-webgpu ort-web-jsep litert-wasm"},
    {"macos", ".tar.gz", "run.sh", run_sh,
     "Start: ./run.sh\n\n" SETUP_NOTES
     "The row coreml is ONNX Runtime's CoreML provider, which its macOS wheel has.\n",
     "ort ort-basic ort-none coreml coreml-mlpackage litert-xnnpack litert-builtin litert-reference opencv opencv-qop ncnn tract iree tinygrad "
     "onnx-reference ort-web-wasm ort-web-wasm-mt ort-web-webgl ort-web-webgpu ort-web-jsep litert-wasm"},
    {"android", ".tar.gz", "run-adb.sh", run_adb_sh,
     "Start, on a computer with adb and a device in debugging mode: ./run-adb.sh\n\n"
     "It needs a Python 3 on the device that has the runtimes (Termux: pkg install python python-numpy). Without one: run the files in\n"
     "models/ by the app or vendor tool that ships (NNAPI, Qualcomm's and MediaTek's have no runner here), write its outputs as below,\n"
     "and make the result with python3 run.py --collect DIR --name DEVICE.\n",
     "ort nnapi qnn mediatek litert-xnnpack litert-builtin litert-reference ncnn"},
    {"ios", ".zip", "collect.sh", run_sh,
     "iOS starts no program of others, so nothing here runs by itself. Put models/ and inputs/ into the app that ships (its ONNX Runtime\n"
     "with the CoreML provider, CoreML, LiteRT or ncnn), let it run every row of the input through the model, write its outputs as below,\n"
     "copy them to a computer and make the result there: ./collect.sh --collect DIR --name DEVICE\n",
     "ort coreml coreml-mlpackage litert-xnnpack ncnn"},
    {0}};

const pack_target *pack_find_target(const char *name)
{
    for (const pack_target *t = pack_targets; t->name; t++)
        if (strcmp(t->name, name) == 0)
            return t;
    return NULL;
}

bool pack_has_row(const pack_target *t, const char *row)
{
    size_t n = strlen(row);
    for (const char *at = t->rows; (at = strstr(at, row)); at++)
        if ((at == t->rows || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0))
            return true;
    return false;
}
