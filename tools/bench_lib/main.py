"""tools/bench - our distillation step beside PyTorch's on the CPU: seven workloads, one definition for both sides.

For each workload: random networks are made (ONNX for us, the same weights for PyTorch); the gate compares the losses
and all gradients of a step with PyTorch's float64 and float32; then every PyTorch setting and our program live in
processes of their own and take turns. Printed: ms of a step from the choice of the batch to the updated weights, the
ratio to PyTorch's best setting (median over the rounds, least, largest), samples/s, GF/s, the share of what the
machine's multipliers could do, peak memory, time from start to the end of the first step (compilation included),
scaling from one thread, and the student's step alone.

One workload, quickly (the machine should do nothing else):

    tools/bench --only cifar-r56-r20 --settings channels_last --rounds 3 --no-extras
    tools/bench --only cifar-r56-r20 --gate-only                  only the same losses and gradients?
    tools/bench --only cifar-r56-r20 --profile                    our step by operator and kernel
    tools/bench --only fmnist-cnn --set exec.conv=direct          with keys of the job
    tools/bench --layers --part "r56 stage"                       single convolutions

tools/bench --demo [...] measures the demonstration's step instead (its own --help), tools/bench --layers single
convolutions beside oneDNN."""
import argparse
import importlib.util
import json
import os
import subprocess
import sys

from bench_lib import layers, ours, suite, workloads


def arguments():
    p = argparse.ArgumentParser(prog="tools/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", metavar="NAME,...", help=f"workloads, of {', '.join(workloads.NAMES)}")
    p.add_argument("--quick", action="store_true", help="the PyTorch settings that are known to be good, the best of them also with mimalloc "
                   "(default)")
    p.add_argument("--full", action="store_true", help=f"all of them: {', '.join(suite.SETTINGS)}, each also with mimalloc; the fastest "
                   f"{suite.FINALISTS} take turns with ours")
    p.add_argument("--settings", metavar="S,...", help="these PyTorch settings; none: only ours")
    p.add_argument("--rounds", type=int, help="turns of each (4, --full 6)")
    p.add_argument("--seconds", type=float, default=1.0, help="of a turn, one step at least (1)")
    p.add_argument("--threads", type=int, help="of both sides (2, for digits-mlp 1)")
    p.add_argument("--isa", choices=("avx2",), help="both sides without AVX-512 (exec.kernels = avx2; ATEN_CPU_CAPABILITY, "
                   "ONEDNN_MAX_CPU_ISA): the kernels of other machines, at the speed of this one")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of our job, e.g. exec.conv=direct")
    p.add_argument("--gate-only", action="store_true", help="no timing")
    p.add_argument("--no-extras", action="store_true", help="neither scaling nor the student alone")
    p.add_argument("--keep-compiled", action="store_true", help="torch.compile may use what an earlier run compiled")
    p.add_argument("--profile", action="store_true", help="only `distill bench --profile` of the workloads")
    p.add_argument("--layers", action="store_true", help="single convolutions beside oneDNN, GF/s of one thread")
    p.add_argument("--part", help="with --layers: only those whose name holds this")
    p.add_argument("--json", action="store_true", help="one JSON object on standard output, the tables on standard error")
    p.add_argument("--distill", default="build/distill", help="the program (build/distill)")
    p.add_argument("--folder", default="build/bench", help="where workloads are made and kept (build/bench)")
    a = p.parse_args()
    names = a.only.split(",") if a.only else workloads.NAMES
    for name in names:
        if name not in workloads.NAMES:
            p.error(f"there is no workload '{name}'; there are {', '.join(workloads.NAMES)}")
    a.set += [f"exec.kernels={a.isa}"] if a.isa else []
    a.only = [w for w in workloads.ALL if w.name in names]
    a.rounds = a.rounds or (6 if a.full else 4)
    if a.settings:
        a.settings = [s for s in a.settings.split(",") if s != "none"]
    if a.rounds < 1 or a.seconds <= 0 or (a.threads or 1) < 1:
        p.error("--rounds, --seconds and --threads take numbers above 0")
    return a


def profile(s):
    for w in s.a.only:
        folder = s.prepare(w)[0]
        print(f"\n== {w.name}", flush=True)
        words = [s.distill, "bench", "--profile", "--student", "job.ini", "--steps", "3", "--threads", str(s.threads(w)),
                 "--quiet"]
        for each in s.a.set:
            words += ["--set", each]
        subprocess.run(words, cwd=folder, env=ours.environment())


def main():
    a = arguments()
    if not importlib.util.find_spec("torch"):
        sys.exit("bench: PyTorch is not in .venv; tools/setup test installs it")
    out = sys.stderr if a.json else sys.stdout

    def say(text):
        print(text, file=out, flush=True)

    s = suite.Suite(a, say)
    m = s.machine
    if a.profile:
        return profile(s)
    say(f"{m['cpu']}, {m['cores']} cores, {' '.join(m['isa'])}, {m['memory_gb']} GB; load before {m['load_before']:.1f}; "
        f"{m['distill']};{' both sides limited to ' + a.isa + ';' if a.isa else ''} mimalloc: {m['mimalloc'] or 'absent (package libmimalloc2.0), not measured'}")
    if a.layers:
        rows = layers.run(s, say)
        if a.json:
            json.dump({"machine": m, "layers": rows}, sys.stdout, indent=1)
        return
    entries = [s.run(w) for w in a.only]
    m["torch"] = next((e["torch"] for e in entries if "torch" in e), None)
    suite.print_summary(entries, say)
    if a.json:
        json.dump({"machine": m, "workloads": entries}, sys.stdout, indent=1)
        print()
    sys.exit(1 if any("failed" in e for e in entries) else 0)


if __name__ == "__main__":
    main()
