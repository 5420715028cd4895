"""ONNX Runtime: the release in use where no C program can drive it, one of two years ago, the build with the OpenVINO provider."""
import collections
import importlib.metadata
import json
import os
import subprocess
import tempfile

import onnxruntime as ort

import protocol

from . import Engine, session

OLD = "1.20."  # released in November 2024
LEVELS = {"all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC", "none": "ORT_DISABLE_ALL"}


class OnnxRuntime(Engine):
    runtime, wheel = "ONNX Runtime", "onnxruntime"
    providers = ["CPUExecutionProvider"]

    def open(self, request, profile=None):
        options = request.get("options") or {}
        o = ort.SessionOptions()
        o.intra_op_num_threads = request.get("threads", 1)
        o.inter_op_num_threads = 1
        o.log_severity_level = 3
        o.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[options.get("level", "all")])
        o.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if options.get("prec"):
            o.add_session_config_entry("session.x64quantprecision", "1")
        if profile:
            o.enable_profiling, o.profile_file_prefix = True, profile
        return ort.InferenceSession(request["model"], o, providers=self.providers)

    def placed(self, request, feeds, wanted):
        """Nodes by provider, counted in a profiled run of a session of its own."""
        with tempfile.TemporaryDirectory() as folder:
            s = self.open(request, os.path.join(folder, "p"))
            s.run(wanted, feeds)
            with open(s.end_profiling(), encoding="utf-8") as f:
                events = json.load(f)
        nodes = collections.Counter()
        for name, provider in {(e["name"], e["args"]["provider"]) for e in events if (e.get("args") or {}).get("provider")}:
            nodes[provider] += name.endswith("_kernel_time")
        return [{"name": name, "nodes": count} for name, count in nodes.items()]

    def load(self, request, batch):
        s = self.open(request)
        wanted = [request.get("output_name") or s.get_outputs()[0].name]
        first = s.get_inputs()[0].shape[0] if s.get_inputs()[0].shape else None
        return session(lambda feeds: s.run(wanted, feeds)[0], first if isinstance(first, int) else None,
                       place=lambda feeds: self.placed(request, feeds, wanted))


class OnnxRuntimeOld(OnnxRuntime):
    def __init__(self):
        if not ort.__version__.startswith(OLD):
            raise protocol.Refused("missing", f"this is onnxruntime {ort.__version__}, not {OLD}*; to get it: tools/setup-runtimes ort-old")


class OnnxRuntimeProvider(OnnxRuntime):
    """Another provider first, the CPU for what it does not take; `wheels` are those that carry it, to be had from PyPI."""

    def __init__(self, provider, title, *wheels):
        installed = {d.metadata["Name"].lower().replace("_", "-") for d in importlib.metadata.distributions() if d.metadata["Name"]}
        self.provider, self.title, self.runtime = provider, title, f"ONNX Runtime {title} provider"
        self.wheel = next((w for w in wheels if w in installed), "onnxruntime")
        if provider not in ort.get_available_providers():
            how = "tools/setup-runtimes ort-openvino" if title == "OpenVINO" else f"pip install {wheels[0]}, on a machine that has what it needs"
            raise protocol.Refused("missing", f"this onnxruntime has no {title} provider; to get it: {how}")

    def device(self):
        if self.title in ("CUDA", "TensorRT"):
            told = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True)
            return ", driver ".join(part.strip() for part in told.stdout.splitlines()[0].split(",")) if told.stdout else "a GPU"
        return super().device() if self.title == "OpenVINO" else f"{self.title} on {super().device()}"

    def isa(self):
        return super().isa() if self.title == "OpenVINO" else self.title

    def open(self, request, profile=None):
        options = {"OpenVINOExecutionProvider": {"device_type": "CPU", "num_of_threads": str(request.get("threads", 1)), "precision": "FP32"}}
        self.providers = [(self.provider, options.get(self.provider, {})), "CPUExecutionProvider"]
        return super().open(request, profile)
