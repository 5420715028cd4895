"""portable_hashes.py RUN_DIR [option ...] - the portable files of a run in every engine, compared by hash.

The hash is SHA-256 of the int8 logit codes, row-major, in the order of the data set; float outputs are divided by their scale first.
The reference is our own executor, which runs integers. Feeds what the files' metadata say: pixel / 256, or (pixel >> 1) / 128.

  --images N        how many of the test images (default: all); slow engines take at most --slow N (default 10000), some 500 or 1000
  --engines A,B     only these (default: all that are installed, but ort-web-jsep, whose int8 is wrong)
  --files SUBSTRING only files whose name has it
  --distill FILE    our program (default build/distill)
  --data DIR        a folder with t10k-images-idx3-ubyte.gz or samples.npy of uint8 [N, C, H, W] (default: the run's data.dir)

Exit code 0: all equal; 1: one differs or could not be run; 64: usage. An engine that is not installed is named and left out.
"""
import argparse
import configparser
import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
import protocol  # noqa: E402

protocol.use_folder("onnx-reference")
import numpy as np  # noqa: E402
import onnx  # noqa: E402

ORT = [("ort", {"level": level, "prec": precise}) for level in ("all", "extended", "basic", "none") for precise in (False, True)]
ONNX = ORT + [("ort-old", {"level": "all"}), ("ort-old", {"level": "none"}), ("onnx-reference", {}), ("openvino", {}), ("ort-openvino", {}),
              ("opencv", {}), ("tract", {}), ("iree", {}), ("tinygrad", {}), ("ort-web-wasm", {}), ("ort-web-wasm-mt", {}), ("ort-web-webgpu", {}),
              ("ort-web-jsep", {})]
TFLITE = [("litert-xnnpack", {}), ("litert-builtin", {}), ("litert-reference", {}), ("litert-wasm", {}), ("tflm", {}), ("openvino", {})]
NCNN = [("ncnn", {"packing": True}), ("ncnn", {"packing": False})]
SLOW = {"onnx-reference": 1 << 30, "tflm": 1 << 30, "tinygrad": 1000, "ort-web-webgpu": 500, "ort-web-jsep": 500}
NAMED_ONLY = {"ort-web-jsep"}  # known to return other bits for int8 files, without an error
INPUTS = {"pixel / 256": lambda p: p / np.float32(256), "(pixel >> 1) / 128": lambda p: (p >> 1) / np.float32(128)}


def pixels_of(folder):
    samples = os.path.join(folder, "samples.npy")
    if os.path.isfile(samples):
        return np.load(samples)
    with gzip.open(os.path.join(folder, "t10k-images-idx3-ubyte.gz")) as f:
        data = f.read()
    n, h, w = (int.from_bytes(data[4 * i:4 * i + 4], "big") for i in (1, 2, 3))
    return np.frombuffer(data, np.uint8, offset=16).reshape(n, 1, h, w)


def facts_of(path):
    """-> input name, how pixels become inputs, scale of the logits"""
    model = onnx.load(path)
    meta = {p.key: p.value for p in model.metadata_props}
    feed = next((f for text, f in INPUTS.items() if meta.get("input.scale", "").startswith(text)), None)
    last = next(n for n in model.graph.node if model.graph.output[0].name in n.output)
    constants = {c.name: c for c in model.graph.initializer}
    if feed is None or last.op_type != "DequantizeLinear":
        return None
    return model.graph.input[0].name, feed, float(onnx.numpy_helper.to_array(constants[last.input[1]]))


def codes(y, scale):
    """int8 codes of what an engine gave; u8 codes of the tensor with zero point 128 are these plus 128."""
    if y.dtype == np.int8:
        return y
    if y.dtype == np.uint8:
        return (y.astype(np.int16) - 128).astype(np.int8)
    q = y.astype(np.float64) / scale
    if not np.isfinite(q).all() or np.abs(q - np.rint(q)).max() > 1e-3:
        raise protocol.Refused("error", "the outputs are no multiples of their scale")
    return np.rint(q).astype(np.int8)


def own(distill, model, x, folder):
    """Our executor, batch by batch."""
    out, parts = os.path.join(folder, "own.npz"), []
    for begin in range(0, len(x), 1000):
        part = os.path.join(folder, "part.npy")
        np.save(part, x[begin:begin + 1000])
        done = subprocess.run([distill, "run", model, part, "--out", out], capture_output=True, text=True)
        if done.returncode:
            raise protocol.Refused("error", done.stderr)
        with np.load(out) as npz:
            parts.append(npz[npz.files[0]])
    return np.concatenate(parts)


def ask(engine, options, model, x_name, x_file, n, folder):
    y = os.path.join(folder, "y.npy")
    request = {"protocol": 1, "model": model, "inputs": [{"name": x_name, "file": x_file}], "output": y, "output_name": None, "samples": n,
               "batch": 64, "threads": os.cpu_count() or 1, "options": options, "latency": None}
    web = engine.startswith("ort-web") or engine == "litert-wasm"
    command = ["node", os.path.join(HERE, "web.mjs")] if web else [sys.executable, os.path.join(HERE, "runner.py")]
    done = subprocess.run([*command, engine], input=json.dumps(request) + "\n", text=True,
                          capture_output=True, timeout=3600)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise protocol.Refused("error", f"ended with {done.returncode}: {done.stderr[-300:]}") from None
    if not answer["ok"]:
        raise protocol.Refused(answer["kind"], answer["message"])
    return np.load(y), answer


class Table:
    def __init__(self):
        self.different = self.lines = 0

    def line(self, name, file, n, digest, verdict):
        self.lines += 1
        print(f"{name:<34} {file:<28} {n:>6}  {digest:<64}  {verdict}", flush=True)

    def compare(self, name, file, make, reference, scale):
        try:
            y, notes = make()
            q = codes(y.reshape(len(y), -1), scale)
        except protocol.Refused as refused:
            self.different += refused.kind != "missing"
            self.line(name, file, 0, "-", f"{refused.kind}: {protocol.one_line(refused, 160)}")
            return
        same = np.array_equal(q, reference[:len(q)])
        self.different += not same
        off = np.abs(q.astype(int) - reference[:len(q)])
        self.line(name, file, len(q), hashlib.sha256(q.tobytes()).hexdigest(), "equal" + notes if same else
                  f"DIFFERS: {(off.max(1) > 0).sum()} rows, largest {off.max()} LSB, {(q.argmax(1) != reference[:len(q)].argmax(1)).sum()} other classes" + notes)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("run")
    for name, value in (("images", 1 << 30), ("slow", 10000)):
        parser.add_argument("--" + name, type=int, default=value)
    for name, value in (("engines", ""), ("files", ""), ("distill", os.path.join(ROOT, "build/distill")), ("data", "")):
        parser.add_argument("--" + name, default=value)
    a = parser.parse_args()
    if not a.data:
        config = configparser.ConfigParser(strict=False, interpolation=None)
        config.read(os.path.join(a.run, "config.ini"))
        a.data = os.path.join(ROOT, config.get("data", "dir", fallback=""))
    pixels = pixels_of(a.data)[:a.images]
    table, wanted = Table(), [e for e in a.engines.split(",") if e]
    with tempfile.TemporaryDirectory() as folder:
        for key in ("portable", "portable-s8"):
            path = os.path.join(a.run, "export", f"student.{key}.onnx")
            facts = facts_of(path) if os.path.isfile(path) else None
            if not facts:
                print(f"{path}: absent, or no portable file", file=sys.stderr)
                table.different += 1
                continue
            x_name, feed, scale = facts
            x, x_file = feed(pixels).astype(np.float32), os.path.join(folder, "x.npy")
            np.save(x_file, x)
            reference = codes(own(a.distill, path, x, folder).reshape(len(x), -1), scale)
            table.line("distill, integers (the reference)", os.path.basename(path), len(x), hashlib.sha256(reference.tobytes()).hexdigest(), "")
            for n in sorted({min(a.slow, len(x), most) for e, most in SLOW.items() if not wanted or e in wanted} - {len(x)}):
                table.line("the same", os.path.basename(path), n, hashlib.sha256(reference[:n].tobytes()).hexdigest(), "")
            for end, engines in (("onnx", ONNX), ("tflite", TFLITE), ("param", NCNN if key == "portable-s8" else [])):
                file = f"student.{key}.{end}"
                model = os.path.join(a.run, "export", file)
                engines = [(e, o) for e, o in engines if (e in wanted if wanted else e not in NAMED_ONLY)]
                if a.files not in file or not engines:
                    continue
                if end == "param" and not os.path.isfile(model):
                    model = os.path.join(folder, file)
                    subprocess.run([a.distill, "export", path, "--out", model], capture_output=True)
                for engine, options in engines:
                    n = min(a.slow, len(x), SLOW[engine]) if engine in SLOW else len(x)
                    name = engine + (f" {options['level']}" if "level" in options else "") + (" x64quantprecision" if options.get("prec") else "")
                    name += {True: " packing", False: " no packing"}[options["packing"]] if "packing" in options else ""

                    def make():
                        y, answer = ask(engine, options, model, x_name, x_file, n, folder)
                        return y, f" ({answer['runtime']} {answer['version']}, {answer['isa']}, {answer['run_s']:.1f} s)"

                    table.compare(name, file, make, reference, scale)
    print(f"{table.lines} lines, {table.different} differ or failed")
    return table.different > 0


if __name__ == "__main__":
    sys.exit(main())
