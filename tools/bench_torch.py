#!/usr/bin/env python3
"""Our training step and the same step in PyTorch on the CPU, in turns, so that both see the same machine.

The step: 128 images of Fashion-MNIST; the teacher (data/fashion-teacher.onnx, batch norm folded) in inference mode; the
student (ResNet-8, batch norm, 31,434 parameters) in training mode; T^2 KL with T = 4; SGD with Nesterov momentum. Both
networks are rebuilt here as torch modules with the weights of the ONNX files, and no figure is printed unless the losses
of two steps are the same in `distill step` and in every PyTorch setting.

Every PyTorch setting lives in a process of its own, and each of our blocks starts a new one. All PyTorch settings have
the fused optimizer and take their batch as a slice of a tensor that is normalised and resident already, whereas our step
reads bytes, shifts, mirrors and normalises them on loader threads."""
import argparse, importlib.util, json, os, select, shutil, statistics, subprocess, sys, tempfile, time

TEACHER = "data/fashion-teacher.onnx"
STUDENT = "data/fashion-teacher/parity/student_init.onnx"
JOB = "configs/fashion.ini"
DATA = "data/fashion-mnist"
BATCH, BATCHES = 128, 64  # batches that the PyTorch side keeps in memory
MEAN, STD, TEMPERATURE, RATE = 0.2860, 0.3530, 4.0, 0.1
WARM_STEPS = 5
MODES = ("computed", "remembered")  # is the teacher run in every step?
SETTINGS = {
    "eager": "PyTorch eager",
    "channels_last": "PyTorch channels_last",
    "compile": "PyTorch compile",
    "trace": "PyTorch eager, teacher traced",
    "channels_last+compile": "PyTorch channels_last, compile",
    "channels_last+trace": "PyTorch channels_last, traced",
}
DEFAULT = "eager,channels_last,compile,channels_last+trace"


# ---- the PyTorch side: one process per setting ----

def read_images(count):
    import gzip
    import numpy
    with gzip.open(DATA + "/train-images-idx3-ubyte.gz") as f:
        head = numpy.frombuffer(f.read(16), ">i4")
        assert list(head) == [2051, 60000, 28, 28], head
        pixels = numpy.frombuffer(f.read(count * 784), numpy.uint8)
    x = pixels.astype(numpy.float32).reshape(count, 1, 28, 28) / numpy.float32(255)
    return (x - numpy.float32(MEAN)) / numpy.float32(STD)


def networks(torch):
    """Teacher and student; parameters carry the names of the ONNX initializers."""
    from torch import nn
    import onnx
    from onnx import numpy_helper

    def conv(i, o, size, stride, bias):
        return nn.Conv2d(i, o, size, stride, size // 2, bias=bias)

    class Block(nn.Module):
        def __init__(self, i, o, stride, norm):
            super().__init__()
            self.conv1 = conv(i, o, 3, stride, not norm)
            self.bn1 = nn.BatchNorm2d(o) if norm else nn.Identity()
            self.conv2 = conv(o, o, 3, 1, not norm)
            self.bn2 = nn.BatchNorm2d(o) if norm else nn.Identity()
            self.short = None
            if i != o or stride != 1:
                self.short = nn.Sequential(conv(i, o, 1, stride, not norm), *([nn.BatchNorm2d(o)] if norm else []))

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + (x if self.short is None else self.short(x)))

    class ResNet(nn.Module):
        def __init__(self, stem_stride, stages, norm):
            super().__init__()
            width = stages[0][0]
            self.stem = conv(1, width, 3, stem_stride, not norm)
            self.bn = nn.BatchNorm2d(width) if norm else nn.Identity()
            for n, (o, stride, blocks) in enumerate(stages, 1):
                first = Block(width, o, stride, norm)
                self.add_module(f"stage{n}", nn.Sequential(first, *(Block(o, o, 1, norm) for _ in range(blocks - 1))))
                width = o
            self.fc = nn.Linear(width, 10)

        def forward(self, x):
            x = torch.relu(self.bn(self.stem(x)))
            return self.fc(self.stage3(self.stage2(self.stage1(x))).mean((2, 3)))

    def load(net, path):
        values = {}
        for t in onnx.load(path).graph.initializer:
            name = t.name.removesuffix(".weight_bias") + ".bias" if t.name.endswith(".weight_bias") else t.name
            if numpy_helper.to_array(t).dtype == "float32":
                values[name] = torch.from_numpy(numpy_helper.to_array(t).copy())
        missing, extra = net.load_state_dict(values, strict=False)
        missing = [m for m in missing if not m.endswith("num_batches_tracked")]
        assert not missing and not extra, (path, missing, extra)
        return net

    teacher = load(ResNet(1, ((16, 1, 1), (48, 2, 2), (96, 2, 2)), norm=False), TEACHER)
    student = load(ResNet(2, ((16, 1, 1), (24, 2, 1), (32, 2, 1)), norm=True), STUDENT)
    return teacher.eval().requires_grad_(False), student.train()


def worker(setting, threads):
    began = time.perf_counter()
    import warnings
    warnings.simplefilter("ignore")
    import torch
    import torch.nn.functional as F
    torch.set_num_threads(threads)
    parts = setting.split("+")
    x = torch.from_numpy(read_images(BATCH * BATCHES))
    teacher, student = networks(torch)
    parameters = sum(p.numel() for p in student.parameters())
    if "channels_last" in parts:
        x = x.contiguous(memory_format=torch.channels_last)
        teacher = teacher.to(memory_format=torch.channels_last)
        student = student.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(student.parameters(), RATE, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True)

    def loss_of(images, logits):
        return TEMPERATURE**2 * F.kl_div(F.log_softmax(student(images) / TEMPERATURE, 1),
                                         F.softmax(logits / TEMPERATURE, 1), reduction="batchmean")

    if "trace" in parts:
        with torch.no_grad():
            teacher = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(teacher, x[:BATCH])))
    if "compile" in parts:
        teacher, loss_of = torch.compile(teacher), torch.compile(loss_of)

    remembered = []

    def step(n, known):
        at = n % BATCHES * BATCH
        images = x[at:at + BATCH]
        if known:
            logits = remembered[n % BATCHES]
        else:
            with torch.inference_mode() if "compile" not in parts else torch.no_grad():
                logits = teacher(images)
        loss = loss_of(images, logits)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(0, False).item()]
    first = time.perf_counter() - began
    losses.append(step(1, False).item())

    def say(answer):
        print(json.dumps(answer), flush=True)

    say({"losses": losses, "first": first, "parameters": parameters, "version": torch.__version__})
    count = 2
    for line in sys.stdin:
        mode, steps = line.split()
        if mode == "quit":
            break
        known = mode == "remembered"
        if known and not remembered:
            with torch.no_grad():
                remembered.extend(teacher(x[i * BATCH:(i + 1) * BATCH]).clone() for i in range(BATCHES))
        times = []
        for k in range(WARM_STEPS + int(steps)):
            start = time.perf_counter()
            step(count, known)
            if k >= WARM_STEPS:
                times.append(1e3 * (time.perf_counter() - start))
            count += 1
        with open("/proc/self/status") as f:
            peak = next(int(row.split()[1]) * 1024 for row in f if row.startswith("VmHWM"))
        say({"ms": times, "peak": peak})


# ---- the run; this process loads nothing large, since a child's peak memory counts its parent's on Linux ----

class Torch:
    """A PyTorch setting in its process."""

    def __init__(self, setting, a, folder):
        self.setting, self.name = setting, SETTINGS[setting]
        env = dict(os.environ, OMP_NUM_THREADS=str(a.threads), MKL_NUM_THREADS=str(a.threads),
                   TORCHINDUCTOR_CACHE_DIR=f"{folder}/{setting}")
        self.log = open(f"{folder}/{setting}.log", "w+")
        self.process = subprocess.Popen([sys.executable, __file__, "--worker", setting, "--threads", str(a.threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=env)
        self.pending = b""

    def answer(self, timeout):
        end = time.monotonic() + timeout
        fd = self.process.stdout.fileno()
        while b"\n" not in self.pending:
            if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
                raise RuntimeError(f"no answer within {timeout} s")
            got = os.read(fd, 65536)
            if not got:
                self.log.seek(0)
                raise RuntimeError((self.log.read().strip().splitlines() or ["it ended without a message"])[-1])
            self.pending += got
        line, self.pending = self.pending.split(b"\n", 1)
        return json.loads(line)

    def block(self, mode, steps):
        self.process.stdin.write(f"{mode} {steps}\n".encode())
        self.process.stdin.flush()
        return self.answer(600)

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def ours(a, *arguments):
    env = {k: v for k, v in os.environ.items() if not k.startswith("DISTILL_")}
    done = subprocess.run([a.distill, *arguments, "--threads", str(a.threads), "--json", "--quiet"], env=env,
                          stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {a.distill} {arguments[0]} failed with exit code {done.returncode}")
    return json.loads(done.stdout)


def our_losses(a):
    keys = {"data.mean": MEAN, "data.std": STD, "distill.kd": 1, "distill.task": 0, "distill.temperature": TEMPERATURE,
            "train.lr": RATE, "train.momentum": 0.9, "train.nesterov": "true", "train.weight_decay": 5e-4, "train.no_decay": ""}
    settings = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    return ours(a, "step", "--teacher", TEACHER, "--student", STUDENT, "--data", DATA, "--samples", f"0:{2 * BATCH}",
                "--batch", str(BATCH), "--steps", "2", *settings)["loss.total"]


def start(a, folder, losses, running):
    """Appends the settings that run. A wrong loss ends it all."""
    for setting in a.settings.split(","):
        t = Torch(setting, a, folder)
        running.append(t)
        try:
            t.facts = t.answer(400)
        except RuntimeError as e:
            print(f"bench: {t.name} does not run here: {e}", file=sys.stderr)
            running.pop().close()
            continue
        # The second loss sees the first update, in which roundings of the gradient are as large as PyTorch's own
        # between float32 and float64 (7e-5); the first one sees forward passes only.
        for n, tolerance in enumerate((1e-4, 1e-3)):
            off = abs(t.facts["losses"][n] / losses[n] - 1)
            if not off <= tolerance:
                sys.exit(f"bench: NOT THE SAME COMPUTATION: step {n + 1}: loss {losses[n]:.7g} in distill, "
                         f"{t.facts['losses'][n]:.7g} in {t.name}; no figures")
    if not running:
        sys.exit("bench: no PyTorch setting runs here")


def measure(a, running):
    """times[mode][name]: a list of ms per round. Rounds begin with another one each time."""
    names = ["distill"] + [t.name for t in running]
    times = {mode: {n: [] for n in names} for mode in MODES}
    facts, peaks = None, dict.fromkeys(names, 0)
    for r in range(a.rounds):
        turn = [None] + running
        for t in turn[r % len(turn):] + turn[:r % len(turn)]:
            if t is None:
                got = ours(a, "bench", "--student", JOB, "--teacher", TEACHER, "--steps", str(a.steps))
                facts = facts or got
                peaks["distill"] = max(peaks["distill"], got["peak_bytes"])
            for mode in MODES:
                if t is None:
                    times[mode]["distill"].append(got[mode]["ms"])
                else:
                    answer = t.block(mode, a.steps)
                    times[mode][t.name].append(answer["ms"])
                    peaks[t.name] = max(peaks[t.name], answer["peak"])
    return times, facts, peaks


def middle(blocks):
    return statistics.median(ms for block in blocks for ms in block)


def print_mode(title, times, key):
    print(f"\n{title}\n{'':<34}{'min':>9}{'median':>9}{'max':>9}   ms   {'samples/s':>9}")
    for name, blocks in times.items():
        flat = [ms for block in blocks for ms in block]
        median = statistics.median(flat)
        print(f"{name:<34}{min(flat):>9.2f}{median:>9.2f}{max(flat):>9.2f}{'':>8}{1e3 * BATCH / median:>9.0f}")
    best = min((n for n in times if n != "distill"), key=lambda n: middle(times[n]))
    rounds = [statistics.median(b) / statistics.median(a) for a, b in zip(times["distill"], times[best])]
    ratio = middle(times[best]) / middle(times["distill"])
    print(f"{key}: {best} (its best setting) takes {ratio:.2f} times as long as distill "
          f"({min(rounds):.2f} to {max(rounds):.2f} in {len(rounds)} rounds)")
    return best


def processor():
    with open("/proc/cpuinfo") as f:
        return next((row.split(":", 1)[1].strip() for row in f if row.startswith("model name")), "unknown processor")


def main():
    p = argparse.ArgumentParser(prog="tools/bench --demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=4, help="turns of each (4)")
    p.add_argument("--steps", type=int, default=40, help="timed steps in a turn (40)")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both (all cores)")
    p.add_argument("--settings", default=DEFAULT, help=f"of PyTorch, of {', '.join(SETTINGS)} ({DEFAULT})")
    p.add_argument("--distill", default="build/distill", help="the program (build/distill)")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.worker:
        return worker(a.worker, a.threads)
    unknown = [s for s in a.settings.split(",") if s not in SETTINGS]
    if unknown or min(a.rounds, a.steps, a.threads) < 1:
        p.error(f"unknown setting {unknown[0]}" if unknown else "--rounds, --steps and --threads take numbers above 0")
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("onnx")):
        sys.exit("bench: PyTorch and onnx are not in .venv; tools/setup test installs them")

    load, folder, running = os.getloadavg()[0], tempfile.mkdtemp(prefix="distill-bench-"), []
    try:
        losses = our_losses(a)
        start(a, folder, losses, running)
        version = running[0].facts["version"]
        print(f"{processor()}, {a.threads} threads each, PyTorch {version}; load before: {load:.1f} on {os.cpu_count()} cores")
        times, facts, peaks = measure(a, running)
        print(facts["device"])
        if {t.facts["parameters"] for t in running} != {facts["student_parameters"]}:
            sys.exit("bench: the students differ in size; no figures")
        print(f"loss of steps 1 and 2: distill {losses[0]:.6f} {losses[1]:.6f}")
        for t in running:
            print(f"    {t.name:<30} {t.facts['losses'][0]:.6f} {t.facts['losses'][1]:.6f}")
        print(f"{a.rounds} rounds of {a.steps} steps after {WARM_STEPS}, batch {BATCH}; in PyTorch's favour: fused optimizer, batches are\n"
              "slices of a normalised tensor in memory; ours are read, shifted, mirrored and normalised in the step's time")
        print_mode("a whole step: teacher, student, loss, gradients, update", times["computed"], "whole step")
        print_mode("the student's share: what the teacher says is known", times["remembered"], "student's share")
        print(f"\n{'':<34}{'first step after':>18}{'peak memory':>14}   from opening the job, or from importing torch")
        print(f"{'distill':<34}{facts['computed']['first_step_seconds']:>16.2f} s{peaks['distill'] / 2**20:>10.0f} MiB")
        for t in running:
            print(f"{t.name:<34}{t.facts['first']:>16.2f} s{peaks[t.name] / 2**20:>10.0f} MiB")
        least = min(peaks[t.name] for t in running)
        print(f"memory: distill's {peaks['distill'] / 2**20:.0f} MiB are {peaks['distill'] / least:.2f} of PyTorch's least "
              f"({least / 2**20:.0f} MiB); ours holds all 70,000 images, PyTorch's {BATCH * BATCHES:,}")
    finally:
        for t in running:
            t.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
