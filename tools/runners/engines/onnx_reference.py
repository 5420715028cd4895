"""onnx.reference: ONNX's own evaluator in Python, the definition made executable. Slow."""
import onnx
import onnx.version_converter
from onnx.reference import ReferenceEvaluator

from . import Engine, session

LEAST_OPSET = 21  # it has no QuantizeLinear and DequantizeLinear of the opsets before


class OnnxReference(Engine):
    runtime, wheel = "onnx.reference", "onnx"

    def isa(self):
        return "python"

    def load(self, request, batch):
        model, notes = onnx.load(request["model"]), []
        opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        if opset < LEAST_OPSET and any(n.op_type in ("QuantizeLinear", "DequantizeLinear") for n in model.graph.node):
            model = onnx.version_converter.convert_version(model, LEAST_OPSET)
            notes.append(f"opset {opset} made {LEAST_OPSET} by onnx.version_converter")
        evaluator = ReferenceEvaluator(model)
        wanted = [request.get("output_name") or evaluator.output_names[0]]
        first = model.graph.input[0].type.tensor_type.shape
        fixed = first.dim[0].dim_value if first.dim and first.dim[0].HasField("dim_value") else None
        return session(lambda feeds: evaluator.run(wanted, feeds)[0], fixed, [], notes)
