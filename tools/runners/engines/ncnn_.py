"""ncnn: the model is its .param file, with the weights in a .bin of the same name beside it. One sample at a time."""
import os

import ncnn
import numpy as np

import protocol

from . import Engine, only_input, session


class Ncnn(Engine):
    runtime, wheel, forms = "ncnn", "ncnn", ["ncnn"]

    def load(self, request, batch):
        options = request.get("options") or {}
        if not request["model"].endswith(".param"):
            raise protocol.Refused("unsupported", "ncnn reads .param files")
        net = ncnn.Net()
        net.opt.num_threads = request.get("threads", 1)
        net.opt.use_vulkan_compute = False
        net.opt.use_int8_inference = True
        net.opt.use_winograd_convolution = bool(options.get("winograd", False))
        net.opt.use_packing_layout = bool(options.get("packing", True))
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed"):
            if hasattr(net.opt, name):
                setattr(net.opt, name, bool(options.get("half", False)))
        if net.load_param(request["model"]) != 0:
            raise protocol.Refused("unsupported", "ncnn does not take the .param file; what it says is in the log")
        if net.load_model(os.path.splitext(request["model"])[0] + ".bin") != 0:
            raise protocol.Refused("error", "ncnn does not take the .bin file; what it says is in the log")
        given = only_input(request)
        inputs, outputs = list(net.input_names()), list(net.output_names())
        x_name = given if given in inputs else inputs[0]
        y_name = request["output_name"] if request.get("output_name") in outputs else outputs[0]

        def run(feeds):
            rows = []
            for x in feeds[given].astype(np.float32, copy=False):
                extractor = net.create_extractor()
                extractor.input(x_name, ncnn.Mat(np.ascontiguousarray(x)).clone())
                code, y = extractor.extract(y_name)
                if code != 0:
                    raise protocol.Refused("error", f"ncnn's extract returned {code}")
                rows.append(np.array(y, copy=True)[None])
            return np.concatenate(rows)

        on = ["off", "on"]
        notes = f"one sample at a time, packing layout {on[net.opt.use_packing_layout]}, Winograd {on[net.opt.use_winograd_convolution]}"
        return session(run, None, [], [f"{notes}, float32 where not int8"])
