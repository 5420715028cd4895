"""One module for each engine; protocol.py says what they provide. Importing one imports its engine."""
import types

import protocol


class Engine:
    """What most engines have in common."""

    runtime = wheel = ""
    forms = ["onnx"]

    def version(self):
        import importlib.metadata

        return importlib.metadata.version(self.wheel)

    def device(self):
        return protocol.cpu_name()

    def isa(self):
        return protocol.cpu_isa()


def session(run, batch=None, providers=(), notes=(), place=None):
    return types.SimpleNamespace(run=run, batch=batch, providers=list(providers), notes=list(notes), place=place)


def compiled_batch(request, batch):
    """Engines that compile for seconds do it once: for the batch whose latency is asked."""
    return request["latency"].get("batch", 1) if request.get("latency") else batch


def only_input(request):
    """The input of engines that take one tensor."""
    if len(request["inputs"]) != 1:
        raise protocol.Refused("unsupported", "this runner feeds models of one input only")
    return request["inputs"][0]["name"]


def nhwc(x):
    """[N, C, H, W] as an engine wants it that reads [N, H, W, C]."""
    import numpy as np

    return np.ascontiguousarray(x.transpose(0, *range(2, x.ndim), 1)) if x.ndim > 2 else x
