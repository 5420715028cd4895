#!/usr/bin/env python3
"""runner.py ENGINE - runs one model in one engine, for the deployment matrix. One line of JSON in, one out: protocol.py.

runner.py --list prints the engines. Where they come from: tools/setup-runtimes.
"""
import importlib
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import protocol  # noqa: E402

# engine: (module, class, arguments, folder of tools/setup-runtimes)
ENGINES = {
    "ort": ("onnx_runtime", "OnnxRuntime", (), ""),
    "ort-old": ("onnx_runtime", "OnnxRuntimeOld", (), "ort-old"),
    "ort-openvino": ("onnx_runtime", "OnnxRuntimeProvider", ("OpenVINOExecutionProvider", "OpenVINO", "onnxruntime-openvino"), "ort-openvino"),
    # the next six: in packs for other machines (distill matrix pack)
    "ort-cuda": ("onnx_runtime", "OnnxRuntimeProvider", ("CUDAExecutionProvider", "CUDA", "onnxruntime-gpu"), ""),
    "tensorrt": ("onnx_runtime", "OnnxRuntimeProvider", ("TensorrtExecutionProvider", "TensorRT", "onnxruntime-gpu"), ""),
    "directml": ("onnx_runtime", "OnnxRuntimeProvider", ("DmlExecutionProvider", "DirectML", "onnxruntime-directml"), ""),
    "coreml": ("onnx_runtime", "OnnxRuntimeProvider", ("CoreMLExecutionProvider", "CoreML", "onnxruntime"), ""),
    "rocm": ("onnx_runtime", "OnnxRuntimeProvider", ("MIGraphXExecutionProvider", "MIGraphX", "onnxruntime-rocm"), ""),
    "qnn": ("onnx_runtime", "OnnxRuntimeProvider", ("QNNExecutionProvider", "QNN", "onnxruntime-qnn"), ""),
    "openvino": ("open_vino", "OpenVino", (), "openvino"),
    "litert-xnnpack": ("litert", "LiteRt", ("xnnpack",), "litert"),
    "litert-builtin": ("litert", "LiteRt", ("builtin",), "litert"),
    "litert-reference": ("litert", "LiteRt", ("reference",), "litert"),
    "tflm": ("tflite_micro_", "TfliteMicro", (), "tflm"),
    "opencv": ("opencv", "OpenCv", (), "opencv"),
    "ncnn": ("ncnn_", "Ncnn", (), "ncnn"),
    "tract": ("tract_", "Tract", (), "tract"),
    "iree": ("iree_", "Iree", (), "iree"),
    "tinygrad": ("tinygrad_", "Tinygrad", (), "tinygrad"),
    "onnx-reference": ("onnx_reference", "OnnxReference", (), "onnx-reference"),
}


def main(argv):
    if argv[1:] == ["--list"]:
        print("\n".join(ENGINES))
        return 0
    if len(argv) != 2 or argv[1] not in ENGINES:
        print(f"usage: runner.py ENGINE   ({' '.join(ENGINES)})", file=sys.stderr)
        return 64
    module, name, arguments, folder = ENGINES[argv[1]]

    def make_engine():
        protocol.use_folder(folder)
        try:
            return getattr(importlib.import_module("engines." + module), name)(*arguments)
        except ImportError as problem:
            how = f"tools/setup-runtimes {folder}" if folder else "tools/setup test"
            raise protocol.Refused("missing", f"{argv[1]}: {protocol.one_line(problem)}; to get it: {how}") from None

    protocol.serve(make_engine)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
