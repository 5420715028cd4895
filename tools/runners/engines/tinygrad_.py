"""tinygrad: kernels generated and compiled by clang (or LLVM) when the model is first run."""
import os
import shutil
import tempfile

os.environ["DEV"] = "CPU"
os.environ.setdefault("CACHELEVEL", "0")  # nothing is left in the user's folders
os.environ.setdefault("XDG_CACHE_HOME", tempfile.gettempdir())

from tinygrad import Tensor, TinyJit  # noqa: E402
from tinygrad.nn.onnx import OnnxRunner  # noqa: E402

import protocol  # noqa: E402

from . import Engine, compiled_batch, session  # noqa: E402


class Tinygrad(Engine):
    runtime, wheel = "tinygrad", "tinygrad"

    def __init__(self):
        if not shutil.which("clang"):
            raise protocol.Refused("missing", "tinygrad compiles with clang, and there is none; to get it: apt-get install clang")

    def load(self, request, batch):
        runner = OnnxRunner(request["model"])
        wanted = request.get("output_name") or runner.graph_outputs[0]
        names = [i["name"] for i in request["inputs"]]

        @TinyJit
        def call(*tensors):
            return runner(dict(zip(names, tensors)))[wanted].contiguous().realize()

        def run(feeds):
            return call(*(Tensor(feeds[name].copy(), device="CPU").realize() for name in names)).numpy()

        first = next(iter(runner.graph_inputs.values())).shape[0]
        return session(run, first if isinstance(first, int) else compiled_batch(request, batch), [], ["compiled by clang, one thread"])
