"""runners.py DISTILL [ENGINE ...] - tests of tools/runners: every installed engine answers the protocol and computes what it should.

Models are made here: a small float one, and portable INT8 ones in both profiles that `distill inspect --portable` proves; their .tflite
forms are `distill export`'s. Float outputs are compared with ONNX Runtime, portable ones with our executor, bit for bit.
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNNERS = os.path.join(ROOT, "tools", "runners")
DISTILL = sys.argv[1]
SAMPLES, BATCH = 37, 16  # the last batch is short
ONNX_ENGINES = ["ort", "ort-old", "ort-openvino", "openvino", "opencv", "tract", "iree", "tinygrad", "onnx-reference", "ort-web-wasm",
                "ort-web-wasm-mt", "ort-web-webgl", "ort-web-webgpu", "ort-web-jsep"]
TFLITE_ENGINES = ["litert-xnnpack", "litert-builtin", "litert-reference", "tflm", "litert-wasm"]
# Seconds are spent on starting or compiling: these take one file, the others all.
SLOW = {"iree": ["portable"], "tinygrad": ["portable"], "ort-web-wasm": ["portable"], "ort-web-wasm-mt": ["portable-s8"], "ort-web-webgl": ["float"],
        "ort-web-webgpu": [], "ort-web-jsep": ["float"]}
failures, checks, skips = [], [], []


def skip(name, why):
    print(f"SKIP {name}: {why}", flush=True)
    skips.append(name)


def check(name, ok, what=""):
    checks.append(name)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{': ' + str(what) if what and not ok else ''}", flush=True)
    if not ok:
        failures.append(name)


# ---- models ----


class Net:
    """A graph in the making; `s8` None: float."""

    def __init__(self, s8, seed):
        self.s8, self.rng, self.nodes, self.constants, self.count = s8, np.random.default_rng(seed), [], [], 0
        self.v, self.scale, self.channels = "x", 0.0, 2
        if s8 is not None:
            self.quantise(2.0 ** -7 if s8 else 2.0 ** -8, True)

    def constant(self, array):
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def node(self, op, *inputs, **attributes):
        self.count += 1
        self.v = f"v{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [self.v], **attributes))
        return self.v

    def quantise(self, scale, positive):
        if self.s8 is None:
            return
        zero = np.int8(0) if self.s8 else np.uint8(0 if positive else 128)
        self.scale = scale
        pair = [self.constant(np.float32(scale)), self.constant(zero)]
        self.node("QuantizeLinear", self.v, *pair)
        self.node("DequantizeLinear", self.v, *pair)

    def weighted(self, op, shape, to, relu=False, per_channel=True, **attributes):
        """Conv or Gemm by the rules: weights multiples of 4 within 64, biases 2 mod 4, shift 7."""
        x, out = self.v, shape[0]
        if self.s8 is None:
            w = self.constant(self.rng.normal(0, 0.3, shape).astype(np.float32))
            b = self.constant(self.rng.normal(0, 0.3, out).astype(np.float32))
        else:
            s = np.float32(to / self.scale / 128)
            s = np.full(out, s) if per_channel else s
            zeros = np.zeros(np.shape(s), np.int8)
            axis = {"axis": 0} if per_channel else {}
            w = self.node("DequantizeLinear", self.constant((4 * self.rng.integers(-16, 17, shape)).astype(np.int8)), self.constant(s),
                          self.constant(zeros), **axis)
            b = self.node("DequantizeLinear", self.constant((4 * self.rng.integers(-200, 200, out) + 2).astype(np.int32)),
                          self.constant((s * np.float32(self.scale)).astype(np.float32)), **axis)
        self.node(op, x, w, b, **attributes)
        if relu:
            self.node("Relu", self.v)
        self.quantise(to, relu)

    def save(self, path, batch="N"):
        graph = helper.make_graph(self.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2, 8, 8])],
                                  [helper.make_tensor_value_info(self.v, TensorProto.FLOAT, [batch, 5])], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def make_net(s8, path, batch="N"):
    n = Net(s8, 7)
    n.weighted("Conv", (4, 2, 3, 3), 2.0 ** -6, relu=True, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    kept = n.v
    n.weighted("Conv", (4, 1, 3, 3), 2.0 ** -6, kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=4)
    n.node("Add", n.v, kept)
    n.quantise(2.0 ** -6, False)
    n.node("MaxPool", n.v, kernel_shape=[2, 2], strides=[2, 2])
    n.quantise(2.0 ** -6, False)
    n.weighted("Conv", (6, 4, 1, 1), 2.0 ** -5, relu=True, kernel_shape=[1, 1], strides=[2, 2])
    n.node("Flatten", n.v)
    n.quantise(2.0 ** -5, True)
    n.weighted("Gemm", (5, 24), 2.0 ** -3, per_channel=False, transB=1)
    n.save(path, batch)


def make_all(folder):
    """-> {kind: (onnx, tflite, input file, expected)}"""
    made, rng = {}, np.random.default_rng(3)
    for kind, s8 in (("float", None), ("portable", False), ("portable-s8", True)):
        path = os.path.join(folder, kind + ".onnx")
        make_net(s8, path)
        grid = 128 if s8 else 256
        x = (rng.integers(0, grid, (SAMPLES, 2, 8, 8)) / grid).astype(np.float32)
        x_file, lite = os.path.join(folder, kind + ".npy"), path.replace(".onnx", ".tflite")
        np.save(x_file, x)
        if s8 is None:
            expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        else:
            proof = subprocess.run([DISTILL, "inspect", "--portable", path], capture_output=True, text=True)
            check(f"{kind}: the test's own model is portable", proof.returncode == 0, proof.stdout + proof.stderr)
            out = os.path.join(folder, "own.npz")
            done = subprocess.run([DISTILL, "run", path, x_file, "--out", out], capture_output=True, text=True)
            check(f"{kind}: our executor runs it", done.returncode == 0, done.stderr)
            with np.load(out) as npz:
                expected = npz[npz.files[0]]
            check(f"{kind}: outputs vary", len(np.unique(expected)) > 20 and np.abs(expected).max() > 0)
        done = subprocess.run([DISTILL, "export", path, "--out", lite], capture_output=True, text=True)
        check(f"{kind}: exported as .tflite", done.returncode == 0, done.stderr)
        made[kind] = path, lite, x_file, expected
    return made


# ---- the protocol ----


def of_the_web(engine):
    return engine.startswith("ort-web") or engine == "litert-wasm"


def command(engine):
    if engine == "opencv-debian":
        return [os.path.join(os.environ.get("DISTILL_RUNTIMES") or os.path.join(ROOT, "build", "runtimes"), engine, "opencv_dnn")]
    if of_the_web(engine):
        return ["node", os.path.join(RUNNERS, "web.mjs"), engine]
    return [sys.executable, os.path.join(RUNNERS, "runner.py"), engine]


def ask(engine, request, environment=None, name=None):
    """-> the answer; a process that does not end with 0 and exactly one line of JSON is a failure"""
    line = request if isinstance(request, str) else json.dumps(request)
    try:
        done = subprocess.run(command(engine), input=line + "\n", capture_output=True, text=True, timeout=120, env={**os.environ, **(environment or {})})
        lines = done.stdout.splitlines()
        answer = json.loads(lines[0])
        if len(lines) == 1 and done.returncode == 0 and answer["protocol"] == 1 and isinstance(answer["ok"], bool):
            return answer
        what = f"exit {done.returncode}, {len(lines)} lines"
    except (subprocess.TimeoutExpired, FileNotFoundError, ValueError, IndexError, KeyError) as problem:
        what = f"{type(problem).__name__}: {problem}"
    check(f"{name or engine}: one line of JSON", False, what)
    return {"ok": False, "kind": "none", "message": what}


def cell(model, x_file, folder, **more):
    return {"protocol": 1, "model": model, "inputs": [{"name": "x", "file": x_file}], "output": os.path.join(folder, "y.npy"), "output_name": None,
            "samples": SAMPLES, "batch": BATCH, "threads": 1, "options": {}, "latency": None, **more}


def compare(engine, kind, model, x_file, expected, folder, latency):
    request = cell(model, x_file, folder, latency=latency)
    if os.path.exists(request["output"]):
        os.remove(request["output"])
    answer = ask(engine, request)
    name = f"{engine}, {kind}"
    if not answer["ok"]:
        check(name, False, answer)
        return
    y = np.load(request["output"])
    facts = answer["shape"] == list(y.shape) and answer["type"] == y.dtype.name and answer["load_ms"] > 0 and answer["run_s"] > 0
    check(f"{name}: what it says of its output", facts and (answer["peak_mb"] or 0) > 1 and len(answer["latency_ms"]) == (8 if latency else 0), answer)
    error = np.abs(y - expected).max() if y.shape == expected.shape else np.inf
    print(f"MAXERR {name} {error:.3g} (tolerance {1e-4 if kind == 'float' else 0})")
    check(f"{name}: outputs", error <= (1e-4 if kind == "float" else 0), f"{(y != expected).sum() if y.shape == expected.shape else y.shape} differ")


def engine_tests(engine, made, folder):
    if of_the_web(engine) and not shutil.which("node"):
        skip(f"runner {engine}", "there is no node")
        return
    facts = ask(engine, {"protocol": 1, "describe": True})
    if not facts["ok"]:
        check(f"{engine}: absent engines say how to get them", facts["kind"] == "missing" and "tools/setup" in facts["message"], facts)
        skip(f"runner {engine}", facts["message"])
        return
    check(f"{engine}: describes itself", all(facts[k] for k in ("runtime", "version", "build", "device", "isa", "forms")), facts)
    for kind in SLOW.get(engine, made):
        model, lite, x_file, expected = made[kind]
        compare(engine, kind, lite if engine in TFLITE_ENGINES else model, x_file, expected, folder,
                {"batch": 1, "warmup": 1, "runs": 8, "seconds": 60} if kind == "portable" else None)


def opencv_debian_test(made, folder):
    """A program of its own: what it computes, and what it refuses."""
    if not os.path.exists(command("opencv-debian")[0]):
        skip("runner opencv-debian", f"there is no {command('opencv-debian')[0]}; tools/setup-runtimes opencv-debian makes it")
        return
    model, _, x_file, expected = made["float"]
    facts = ask("opencv-debian", {"protocol": 1, "describe": True})
    check("opencv-debian: describes itself", facts["ok"] and all(facts[k] for k in ("runtime", "version", "build", "device", "isa", "forms")), facts)
    for latency in (None, {"batch": 1, "warmup": 1, "runs": 8, "seconds": 60}):
        compare("opencv-debian", "float", model, x_file, expected, folder, latency)
    torn, short = os.path.join(folder, "torn.npy"), cell(model, x_file, folder, samples=SAMPLES + 1)
    with open(x_file, "rb") as f, open(torn, "wb") as to:
        to.write(f.read()[:700])
    cases = [("an older protocol", {**cell(model, x_file, folder), "protocol": 0}, "error"), ("garbage", "{", "error"), ("no object", "[]", "error"),
             ("no model", cell(model + "x", x_file, folder), "unsupported"), ("more samples than rows", short, "error"),
             ("a batch of 0", cell(model, x_file, folder, batch=0), "error"), ("an input that is no array", cell(model, model, folder), "error"),
             ("a torn array", cell(model, torn, folder), "error"), ("integers in QDQ form", cell(made["portable"][0], x_file, folder), "unsupported")]
    for name, request, kind in cases:
        answer = ask("opencv-debian", request, name=name)
        check(f"opencv-debian refuses: {name}", not answer["ok"] and answer["kind"] == kind and answer["message"], answer)


def no_such_operator(folder):
    path = os.path.join(folder, "wrong.onnx")
    graph = helper.make_graph([helper.make_node("NoSuchOperator", ["x"], ["y"], domain="")], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 8, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, 8, 8])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def stay_test(engine, made, folder):
    """One browser for several files: each comes out as alone, also after one that was refused, and the runner ends when its input does."""
    if not shutil.which("node") or not ask(engine, {"protocol": 1, "describe": True})["ok"]:
        skip(f"runner {engine} stays", "it is not installed")
        return
    wrong = no_such_operator(folder)
    places = os.path.join(folder, "tmp")
    os.makedirs(places, exist_ok=True)
    process = subprocess.Popen(command(engine), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": places})
    try:
        for turn, kind in enumerate(("portable", "float", None, "portable-s8", "portable")):
            model, _, x_file, expected = made[kind or "float"]
            process.stdin.write(json.dumps(cell(model if kind else wrong, x_file, folder, more=True)) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline() or "{}")
            name = f"{engine} stays, file {turn + 1}, {kind or 'an unknown operator'}"
            if not kind:
                check(name, answer.get("ok") is False and answer["kind"] == "unsupported", answer)
                continue
            error = np.abs(np.load(os.path.join(folder, "y.npy")) - expected).max() if answer.get("ok") else np.inf
            check(name, error <= (1e-4 if kind == "float" else 0), answer)
            warm = any("earlier files" in note for note in answer.get("notes", []))
            check(f"{name}: the browser of the file before", warm == (turn > 0), answer.get("notes"))
        process.stdin.close()
        check(f"{engine} stays until its input ends", process.wait(timeout=20) == 0 and process.stdout.read() == "")
        check(f"{engine} leaves no profile behind", os.listdir(places) == [], os.listdir(places))
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as problem:
        check(f"{engine} stays", False, f"{type(problem).__name__}: {problem}")
    finally:
        process.kill()
        process.wait()


def ncnn_test(folder):
    """A linear layer: .param and .bin by hand."""
    facts = ask("ncnn", {"protocol": 1, "describe": True})
    if not facts["ok"]:
        skip("runner ncnn", facts["message"])
        return
    rng = np.random.default_rng(1)
    w, b, x = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((5, 24), 5, (SAMPLES, 24)))
    path, x_file = os.path.join(folder, "linear.param"), os.path.join(folder, "linear.npy")
    with open(path, "w", encoding="ascii") as f:
        f.write("7767517\n2 2\nInput x 0 1 x 0=24\nInnerProduct fc 1 1 x y 0=5 1=1 2=120\n")
    with open(path.replace(".param", ".bin"), "wb") as f:
        f.write(struct.pack("<I", 0) + w.tobytes() + b.tobytes())
    np.save(x_file, x)
    compare("ncnn", "float", path, x_file, x @ w.T + b, folder, None)


def refusal_tests(made, folder):
    """What is wrong is answered with its kind."""
    model, lite, x_file, expected = made["float"]
    wrong = no_such_operator(folder)
    torn = os.path.join(folder, "torn.onnx")
    with open(model, "rb") as f, open(torn, "wb") as to:
        to.write(f.read()[:700])
    cases = [("an older protocol", {**cell(model, x_file, folder), "protocol": 0}, "error"), ("garbage", "{", "error"), ("no object", "[]", "error"),
             ("no model", cell(model + "x", x_file, folder), "error"), ("more samples than rows", cell(model, x_file, folder, samples=SAMPLES + 1), "error"),
             ("a batch of 0", cell(model, x_file, folder, batch=0), "error"), ("an input that is no array", cell(model, model, folder), "error"),
             ("half a file", cell(torn, x_file, folder), "error"), ("an unknown operator", cell(wrong, x_file, folder), "unsupported")]
    for name, request, kind in cases:
        answer = ask("ort", request, name=name)
        check(f"refused: {name}", not answer["ok"] and answer["kind"] == kind, answer)
    absent = set() if shutil.which("node") else {"litert-wasm", "ort-web-wasm"}
    for engine in sorted({"openvino", "opencv", "tract", "tinygrad", "onnx-reference", "litert-wasm"} - absent):
        answer = ask(engine, cell(wrong, x_file, folder))
        check(f"{engine} does not support an unknown operator", not answer["ok"] and answer["kind"] in ("unsupported", "missing"), answer)
    for engine in sorted({"openvino", "opencv", "tract", "tflm", "litert-wasm", "ort-web-wasm"} - absent):
        answer = ask(engine, {"protocol": 1, "describe": True}, {"DISTILL_RUNTIMES": os.path.join(folder, "none")})
        check(f"{engine} is missing where it is not", not answer["ok"] and answer["kind"] == "missing" and "tools/setup-runtimes" in answer["message"], answer)
    if not absent:
        answer = ask("ort-web-wasm", {"protocol": 1, "describe": True}, {"DISTILL_CHROMIUM": "/nonexistent"})
        check("a browser that is not there is missing", not answer["ok"] and answer["kind"] == "missing", answer)
    fixed = os.path.join(folder, "fixed.onnx")
    make_net(None, fixed, 8)
    answer = ask("ort", cell(fixed, x_file, folder, latency={"batch": 1, "warmup": 0, "runs": 3, "seconds": 60}))
    same = answer["ok"] and np.abs(np.load(os.path.join(folder, "y.npy")) - expected).max() < 1e-5
    check("a fixed batch is filled up, and said", same and any("fixed batch of 8" in n for n in answer["notes"]), answer)


def main():
    chosen = sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        made = make_all(folder)
        for engine in ONNX_ENGINES + TFLITE_ENGINES:
            if not chosen or engine in chosen:
                engine_tests(engine, made, folder)
        if not chosen or "opencv-debian" in chosen:
            opencv_debian_test(made, folder)
        if not chosen or "ncnn" in chosen:
            ncnn_test(folder)
        if not chosen or "ort-web-webgpu" in chosen:
            stay_test("ort-web-webgpu", made, folder)
        if not chosen:
            refusal_tests(made, folder)
    n = len(checks) + len(skips)  # as Check prints it, which tools/test counts
    print(f"{100 * (n - len(failures)) // n}%: Checks: {n}, Failures: {len(failures)}, Errors: 0")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
