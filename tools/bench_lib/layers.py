"""Single convolutions, one thread, all three directions: our kernel, oneDNN (tools/bench_layers.c, both in one process, in
turns) and PyTorch's own oneDNN (channels_last; this file as a child, which reads the layers as lines of JSON)."""
import json
import os
import statistics
import subprocess
import sys

DIRECTIONS = ("forward", "data", "weights")


def program(s):
    """bench_layers beside the program that is measured, built if it can be."""
    build = os.path.dirname(s.distill)
    done = subprocess.run(["cmake", "--build", build, "--target", "bench_layers"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"bench: bench_layers could not be built in {build}:\n{done.stdout[-2000:]}")
    return os.path.join(build, "bench_layers")


def run(s, say):
    """One table; the entries for --json."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [program(s), s.a.part or ""]
    method = [each.split("=", 1)[1] for each in s.a.set if each.startswith("exec.conv=")]
    done = subprocess.run(words + method[-1:], stdout=subprocess.PIPE, text=True, env=env)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    if not rows:
        sys.exit(f"bench: no layer's name holds '{s.a.part}'")
    env["PYTHONPATH"] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    torch = subprocess.run([sys.executable, "-m", "bench_lib.layers"], input=done.stdout, stdout=subprocess.PIPE, text=True,
                           env=env)
    for row, line in zip(rows, torch.stdout.splitlines()):
        row.update(json.loads(line))
    print_rows(rows, say)
    return rows


def print_rows(rows, say):
    peers = [k for k in rows[0] if k.startswith("oneDNN") or k.startswith("PyTorch")]
    if not any(p.startswith("oneDNN") for p in peers):
        say("oneDNN itself is absent (package libdnnl-dev, then build again): PyTorch's only")
    say(f"GF/s of one thread, the best of some runs\n{'layer':<26}{'direction':<10}{'ours':>8}"
        + "".join(f"{p:>16}" for p in peers) + "  to the best  kernel")
    ratios = {d: [] for d in DIRECTIONS}
    for r in rows:
        if "ours" not in r:
            say(f"{r['layer']:<26}{r['direction']:<10}{'-':>8}" + "".join(f"{r.get(p, 0):>16.1f}" for p in peers))
            continue
        best = max(r.get(p, 0) for p in peers) if peers else 0
        if best:
            ratios[r["direction"]].append(r["ours"] / best)
        say(f"{r['layer']:<26}{r['direction']:<10}{r['ours']:>8.1f}" + "".join(f"{r.get(p, 0):>16.1f}" for p in peers)
            + f"{r['ours'] / best if best else 0:>13.2f}  {r['kernel']}")
    for d, each in ratios.items():
        if each:
            say(f"{d}: median {statistics.median(each):.2f} of the better of both, least {min(each):.2f}, "
                f"{sum(x < 1 for x in each)} of {len(each)} layers slower")


# ---- PyTorch, in a child ----

def fastest(call):
    """Seconds of the best of some runs, by the CPU time of this thread."""
    import time
    best = spent = 0
    call()
    for n in range(200):
        began = time.thread_time()
        call()
        t = time.thread_time() - began
        best, spent = min(best or t, t), spent + t
        if n >= 3 and spent > 0.12:
            break
    return best


def operands(torch, r):
    """(x, w, dy, arguments of aten.convolution after the bias)"""
    dims, pad = r["dims"], r["dilation"] * (r["k"] - 1) // 2
    torch.manual_seed(1)
    x = torch.randn(r["n"], r["c"], *[1] * (2 - dims), *[r["size"]] * dims)
    w = torch.randn(r["m"], r["c"] // r["group"], *[1] * (2 - dims), *[r["k"]] * dims)
    x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
    rest = ([r["stride"]] * 2, [0] * (2 - dims) + [pad] * dims, [1] * (2 - dims) + [r["dilation"]] * dims)
    if dims == 1:  # one row: its stride is 1
        rest = ([1, r["stride"]], *rest[1:])
    return x, w, torch.ops.aten.convolution(x, w, None, *rest, False, [0, 0], r["group"]), rest


def measure(torch, r):
    x, w, y, rest = operands(torch, r)
    if r["direction"] == "forward":
        return fastest(lambda: torch.ops.aten.convolution(x, w, None, *rest, False, [0, 0], r["group"]))
    mask = [r["direction"] == "data", r["direction"] == "weights", False]
    return fastest(lambda: torch.ops.aten.convolution_backward(y, x, w, None, *rest, False, [0, 0], r["group"], mask))


def main():
    import torch
    torch.set_num_threads(1)
    name = "PyTorch " + torch.__version__.split("+")[0]
    with torch.no_grad():
        for line in sys.stdin:
            r = json.loads(line)
            print(json.dumps({name: round(r["gflop"] / measure(torch, r), 2)}), flush=True)


if __name__ == "__main__":
    main()
