"""tract (Sonos): an engine in Rust for small devices. One thread."""
import numpy as np
import tract

import protocol

from . import Engine, session


class Tract(Engine):
    runtime, wheel = "tract", "tract"

    def load(self, request, batch):
        model = tract.onnx().load(request["model"])
        outputs = [model.output_name(i) for i in range(model.output_count())]
        order = [model.input_name(i) for i in range(model.input_count())]
        given = {i["name"]: np.load(i["file"], mmap_mode="r") for i in request["inputs"]}
        if len(order) != len(given):
            raise protocol.Refused("error", f"the model has the inputs {order}")
        names = [name if name in given else list(given)[k] for k, name in enumerate(order)]
        types = {"float32": "f32", "uint8": "u8", "int8": "i8", "int64": "i64", "int32": "i32"}
        for k, name in enumerate(names):
            x = given[name]
            model.set_input_fact(k, ",".join([str(batch), *map(str, x.shape[1:]), types[x.dtype.name]]))
        wanted = outputs.index(request["output_name"]) if request.get("output_name") in outputs else 0
        runnable = model.into_model().into_runnable()
        return session(lambda feeds: runnable.run([feeds[name] for name in names])[wanted].to_numpy(), batch, [], ["one thread"])
