"""TFLite-Micro: the interpreter of microcontrollers, as its wheel runs it here (reference kernels). One sample at a time."""
import numpy as np
from tflite_micro import runtime

from . import Engine, nhwc, only_input, session

LEAST_ARENA, MOST_ARENA = 1 << 18, 1 << 28


class TfliteMicro(Engine):
    runtime, wheel, forms = "TFLite-Micro", "tflite-micro", ["tflite"]

    def isa(self):
        return "reference kernels"

    def open(self, path):
        """With the smallest arena of a power of two that holds the model; -> interpreter, bytes"""
        size = LEAST_ARENA
        while True:
            try:
                return runtime.Interpreter.from_file(path, arena_size=size), size
            except RuntimeError:
                if size >= MOST_ARENA:
                    raise
                size *= 2

    def load(self, request, batch):
        i, size = self.open(request["model"])
        name = only_input(request)
        detail = i.get_input_details(0)
        output = i.get_output_details(0)

        def run(feeds):
            x, rows = nhwc(feeds[name]), []
            for k in range(len(x)):
                i.set_input(np.ascontiguousarray(x[k:k + 1].astype(detail["dtype"], copy=False)), 0)
                i.invoke()
                rows.append(np.array(i.get_output(0), dtype=output["dtype"], copy=True))
            return np.concatenate(rows)

        return session(run, None, [], [f"one sample at a time, one thread, arena of {size >> 10} KiB", "input given as NHWC"])
