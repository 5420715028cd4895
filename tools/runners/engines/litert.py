"""LiteRT (TensorFlow Lite): with XNNPACK as it ships, its own optimised kernels, its reference kernels."""
import numpy as np
from ai_edge_litert import interpreter as lite

from . import Engine, nhwc, session

RESOLVERS = {"xnnpack": lite.OpResolverType.AUTO, "builtin": lite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
             "reference": lite.OpResolverType.BUILTIN_REF}
NAMES = {"xnnpack": "LiteRT XNNPACK", "builtin": "LiteRT builtin kernels", "reference": "LiteRT reference kernels"}


class LiteRt(Engine):
    wheel, forms = "ai-edge-litert", ["tflite"]

    def __init__(self, kernels):
        self.kernels, self.runtime = kernels, NAMES[kernels]

    def load(self, request, batch):
        i = lite.Interpreter(request["model"], experimental_op_resolver_type=RESOLVERS[self.kernels], num_threads=request.get("threads", 1))
        ports, notes = i.get_input_details(), []
        by_name = {p["name"]: p for p in ports}
        fixed = None
        for p in ports:
            signature = p["shape_signature"]
            if len(signature) and signature[0] == -1:
                i.resize_tensor_input(p["index"], [batch, *p["shape"][1:]], strict=True)
            else:
                fixed = int(p["shape"][0])
        i.allocate_tensors()
        outputs = i.get_output_details()
        wanted = next((o for o in outputs if o["name"] == request.get("output_name")), outputs[0])
        if any(len(p["shape"]) > 2 for p in ports):
            notes.append("input given as NHWC")

        def run(feeds):
            for name, x in feeds.items():
                p = by_name.get(name, ports[0]) if len(ports) == 1 else by_name[name]
                x = nhwc(x)
                i.set_tensor(p["index"], x if x.dtype == p["dtype"] else quantised(x, p))
            i.invoke()
            return i.get_tensor(wanted["index"])

        def quantised(x, p):
            if not np.issubdtype(p["dtype"], np.integer) or x.dtype != np.float32:
                return x.astype(p["dtype"])
            scale, zero = p["quantization"]
            limits = np.iinfo(p["dtype"])
            return np.clip(np.rint(x / np.float32(scale)) + zero, limits.min, limits.max).astype(p["dtype"])

        return session(run, fixed or batch, [], notes)
