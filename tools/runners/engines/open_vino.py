"""OpenVINO's CPU plugin. Shapes are made static before compiling: its kernels for known shapes are the ones that ship."""
import collections

import openvino as ov

from . import Engine, nhwc, session

# Float files compute in float32: on some processors the plugin would take bfloat16 by itself.
OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}


def layer_kind(info):
    parts = [info[key].astype(str) for key in ("layerType", "runtimePrecision") if key in info]
    return " ".join(parts) or "other"


class OpenVino(Engine):
    runtime, wheel, forms = "OpenVINO", "openvino", ["onnx", "tflite"]

    def load(self, request, batch):
        core = ov.Core()
        model = core.read_model(request["model"])
        fixed = None
        for port in model.inputs:
            shape = port.partial_shape
            if shape.rank.is_static and len(shape) and shape[0].is_static and not request["model"].endswith(".tflite"):
                fixed = shape[0].get_length()
        if fixed is None:
            model.reshape({port: [batch, *list(port.partial_shape)[1:]] for port in model.inputs})
        compiled = core.compile_model(model, "CPU", {**OPTIONS, "INFERENCE_NUM_THREADS": str(request.get("threads", 1))})
        call = compiled.create_infer_request()
        names = {name: port for port in compiled.inputs for name in port.names}
        wanted = compiled.output(request["output_name"]) if request.get("output_name") and not request["model"].endswith(".tflite") \
            else compiled.output(0)
        kinds = collections.Counter(layer_kind(op.get_rt_info()) for op in compiled.get_runtime_model().get_ops())
        layers = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        tflite = request["model"].endswith(".tflite")

        def run(feeds):
            given = {names.get(name, compiled.input(0)) if len(feeds) == 1 else names[name]: nhwc(x) if tflite else x
                     for name, x in feeds.items()}
            return call.infer(given)[wanted]

        notes = [f"compiled to {layers}"] + (["input given as NHWC"] if tflite else [])
        return session(run, fixed or batch, [{"name": "CPU", "nodes": sum(kinds.values())}], notes)
