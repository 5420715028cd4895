"""IREE: the graph is compiled by MLIR and LLVM for this processor. The batch is fixed when it is compiled."""
import os
import subprocess
import sys
import tempfile

import iree.compiler as compiler
import iree.runtime as rt
import onnx
from iree.compiler.tools.import_onnx import __main__ as importer

import protocol

from . import Engine, compiled_batch, session

TARGET = ["--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host"]
LEAST_OPSET = 17  # of the importer


def fixed_batch(path, batch, to):
    model, notes = onnx.load(path), []
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset < LEAST_OPSET:
        model = onnx.version_converter.convert_version(model, LEAST_OPSET)
        notes.append(f"opset {opset} made {LEAST_OPSET} by onnx.version_converter")
    for value in [*model.graph.input, *model.graph.output]:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = batch
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    del model.graph.value_info[:]
    onnx.save(model, to)
    return fixed, notes


class Iree(Engine):
    runtime, wheel = "IREE", "iree-base-compiler"

    def load(self, request, batch):
        with tempfile.TemporaryDirectory() as folder:
            graph, mlir = os.path.join(folder, "m.onnx"), os.path.join(folder, "m.mlir")
            fixed, notes = fixed_batch(request["model"], compiled_batch(request, batch), graph)
            importer.main(importer.parse_arguments([graph, "-o", mlir]))
            try:
                binary = compiler.compile_file(mlir, input_type="auto", extra_args=TARGET)
            except compiler.CompilerToolError as problem:
                unsupported = "failed to legalize" in str(problem) or "unsupported" in str(problem).lower()
                raise protocol.Refused("unsupported" if unsupported else "error", protocol.one_line(problem)) from None
        config = rt.Config("local-sync")
        module = rt.load_vm_module(rt.VmModule.copy_buffer(config.vm_instance, binary), config)
        names = [n for n in module.vm_module.function_names if not n.startswith("__") and not n.endswith("$async")]
        call, order = module[names[0]], [i["name"] for i in request["inputs"]]

        def run(feeds):
            y = call(*(feeds[name] for name in order))
            return (y[0] if isinstance(y, (list, tuple)) else y).to_host()

        return session(run, fixed, [], [*notes, "compiled for this processor, one thread"])
