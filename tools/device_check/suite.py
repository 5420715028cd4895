"""suite.py - the seven workloads of tools/bench on the device: our step beside PyTorch's, in turns, after the same losses.

What needs no quiet machine is done beside the other steps of `run` (Preparation): the workloads are made, the gate compares
losses and gradients, and torch.compile fills its cache. Then every workload has its share of the time that is left: ours and the
settings of PyTorch live in processes of their own, each is timed alone, and the fastest ones take turns with ours. What does not
fit is listed under "not_run"; a second run finds what was compiled."""
import json, os, signal, statistics, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = HERE if os.path.isdir(f"{HERE}/bench_lib") else os.path.dirname(HERE)  # a pack, or the repository's tools/
sys.path.insert(0, LIBRARY)
from bench_lib.process import Gone, Process
from bench_lib.workloads import DEVICE_NAMES, named

IMAGES = ("channels_last+reduce-overhead", "channels_last+max-autotune", "channels_last", "eager", "channels_last+compile",
          "reduce-overhead")
OTHERS = ("reduce-overhead", "max-autotune", "eager", "compile")
COMPILED = ("compile", "max-autotune", "reduce-overhead")
LARGE = ("in-r50-r18", "bert12-6", "hifigan")  # fewer of them at once
ROUNDS, BLOCK_SECONDS, FINALISTS = 5, 0.25, 2
ROUNDS_SECONDS = 10  # kept free for the rounds of a workload
COLD_SECONDS = 25  # what is not compiled yet is not begun with less
WARM_SHARE = 0.25  # of the benchmark's time that may pass until it begins, for what is being compiled
GATE_SECONDS, MAKE_SECONDS, WARM_SECONDS = 120, 200, 300
SAME_LOSS = {"fp32": 1e-3, "tf32": 1e-2, "half": 5e-2}


def settings_for(w):
    return IMAGES if len(w.sample) == 3 or w.task_loss == "l1" else OTHERS


def is_compiled(setting):
    return bool(set(setting.split("+")) & set(COMPILED))


class Job:
    """Something done beside the other steps. `answer`: what its process printed last; `why`: it failed."""

    def __init__(self, kind, name, words, most, env=None, cwd=None, after=()):
        self.kind, self.name, self.words, self.most, self.env, self.cwd, self.after = kind, name, words, most, env, cwd, after
        self.done, self.answer, self.why, self.child, self.ended = False, None, None, None, False

    def run(self):
        failed = next((j for j in self.after if j.why), None)
        if failed:
            self.why = failed.why
        else:
            self.start()
        self.done = True

    def start(self):
        self.child = subprocess.Popen(self.words, cwd=self.cwd, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True)
        if self.ended:  # before it began
            self.end()
        try:
            out, said = self.child.communicate(timeout=self.most)
        except subprocess.TimeoutExpired:
            self.end()
            self.child.communicate()
            self.why = f"not done after {self.most:.0f} s"
            return
        self.answer = (out.strip().splitlines() or [""])[-1]
        if self.child.returncode:
            said = said.strip().splitlines() or [f"exit status {self.child.returncode}"]
            self.why = "no time was left for it" if self.ended else said[-1][:300]

    def end(self):
        self.ended = True
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except (OSError, AttributeError):
            pass


class Preparation:
    """Works off jobs on some threads. Jobs that others come after must stand before these."""

    def __init__(self, jobs, threads):
        self.jobs, self.lock, self.stopped = jobs, threading.Lock(), False
        self.taken = set()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]
        for t in self.threads:
            t.start()

    def next(self):
        with self.lock:
            for job in self.jobs:
                if id(job) not in self.taken and not (self.stopped and job.kind == "warm") and all(j.done for j in job.after):
                    self.taken.add(id(job))
                    return job
        return None

    def work(self):
        while True:
            job = self.next()
            if job:
                job.run()
            elif all(id(j) in self.taken or self.stopped and j.kind == "warm" for j in self.jobs):
                return
            else:
                time.sleep(0.1)

    def is_needed(self):
        return any(not j.done for j in self.jobs if j.kind != "warm")

    def finish(self, seconds, warm_seconds=0):
        """Nothing runs any more afterwards. Waits that long for what has to be, and for what is compiled."""
        end, warm_end = time.monotonic() + seconds, time.monotonic() + warm_seconds
        while any(t.is_alive() for t in self.threads) and time.monotonic() < (end if self.is_needed() else warm_end):
            time.sleep(0.1)
        self.stopped = True
        with self.lock:
            for job in self.jobs:
                if id(job) not in self.taken:
                    self.taken.add(id(job))
                    job.why, job.done = "no time was left for it", True
        for job in self.jobs:
            if not job.done:
                job.end()
        for t in self.threads:
            t.join(10)


class Contestant:
    def __init__(self, name, precision, process):
        self.name, self.precision, self.process, self.facts = name, precision, process, None
        self.rounds, self.block, self.device_bytes, self.kernels = [], None, 0, 0

    def begin(self, seconds):
        self.facts = self.process.answer(max(1, seconds))

    def steps(self, n):
        got = self.process.ask(n, 120)
        self.device_bytes = max(self.device_bytes, got.get("device_bytes", 0))
        self.kernels = max(self.kernels, got.get("kernels", 0))
        return statistics.mean(got["ms"])

    def measure(self, seconds):
        if not self.block:
            trial = self.steps(2)
            self.block = max(1, min(5000, round(seconds * 1e3 / trial)))
        if seconds:
            self.steps(max(1, min(5, self.block // 4)))  # others ran meanwhile
        self.rounds.append(self.steps(self.block))

    @property
    def ms(self):
        return statistics.median(self.rounds)

    def close(self):
        self.process.child.kill()
        self.process.close()


class Suite:
    """`check`: the object of run that calls our programs. `folder`: where workloads and compiled code are kept."""

    def __init__(self, check, names=(), precisions=("half", "fp32"), settings=None, folder=HERE):
        self.check, self.small = check, not check.device.startswith("cuda")
        self.names = [f"{n}@{'tiny' if self.small else 'device'}" for n in names or DEVICE_NAMES]
        self.settings, self.folder, self.compiled = settings, f"{folder}/workloads", f"{folder}/compiled"
        found = check.torch_fact("import torch; print(torch.__version__, torch.cuda.is_available())")
        self.torch = found.split()[0] if found else None
        self.peer_device = "cpu" if self.small else "cuda"
        self.has_peers = bool(found) and (self.small or found.split()[1] == "True")
        self.not_run, self.precisions = [], list(precisions)
        self.narrow_key = self.find_narrow_key()
        if not self.narrow_key and "half" in self.precisions:
            self.precisions.remove("half")
            self.not_run.append("half precision: this program trains in float32 only")
        os.makedirs(self.folder, exist_ok=True)
        cores = os.cpu_count() or 1
        self.together = max(1, min(10, cores // 2))
        self.preparation = Preparation(self.jobs(), max(1, min(3, cores // 4))) if self.torch else None

    def find_narrow_key(self):
        schema = json.loads(self.check.call("distill", "config", "--schema", most=20).stdout)
        return next((f"{s['name']}.{key['name']}" for s in schema["sections"] for key in s["keys"]
                     if s["name"] in ("train", "exec") and key["name"] == "precision"), None)

    # ---- what is done beside other steps ----

    def python_env(self, threads=None):
        env = dict(os.environ, PYTHONPATH=LIBRARY, TORCHINDUCTOR_CACHE_DIR=f"{self.compiled}/inductor",
                   TRITON_CACHE_DIR=f"{self.compiled}/triton", PYTHONWARNINGS="ignore", TORCHINDUCTOR_FX_GRAPH_CACHE="1")
        if threads:
            env["TORCHINDUCTOR_COMPILE_THREADS"] = str(threads)
        return env

    def settings_of(self, w, precision):
        return [f"{precision}+{s}" for s in self.settings or settings_for(w)]

    def keys(self, w, precision):
        words = ["exec.tf32=true"] if precision == "tf32" else []
        if self.narrow_key:  # which also says what training is in by itself
            kind = w.half if precision == "half" else "fp32"
            words += [f"{self.narrow_key}={kind}", f"teacher.precision={kind}"]
        return [part for word in words for part in ("--set", word)]

    def jobs(self):
        env, python, cores = self.python_env(4), sys.executable, os.cpu_count() or 1
        make, gates, warm = [], [], []
        for name in self.names:
            w, folder = named(name), os.path.join(self.folder, name)
            there = os.path.exists(os.path.join(folder, "facts.json"))
            made = Job("make", name, ["true"] if there else [python, "-m", "bench_lib.generate", self.folder, name], MAKE_SECONDS, env)
            make.append(made)
            for precision in self.precisions:
                path = os.path.join(folder, f"step.{precision}.npz")
                step = Job("step", name, [*self.check.command("distill"), "step", "--quiet", *self.step_words(w), *self.keys(w, precision),
                                          "--out", path], GATE_SECONDS, self.check.env, folder, (made,))
                gate = Job("gate", f"{name} {precision}", [python, "-m", "bench_lib.device_gate", folder, name, precision,
                                                           self.peer_device if self.has_peers else "cpu", path],
                           GATE_SECONDS, env, after=(step,))
                gates += [step, gate]
                warm += [(rank, Job("warm", f"{name} {s}", self.peer_words(name, s), WARM_SECONDS, env, after=(made,)))
                         for rank, s in enumerate(self.settings_of(w, precision)) if self.has_peers and cores > 4 and is_compiled(s)]
        return make + gates + [job for _, job in sorted(warm, key=lambda each: each[0])]  # the likely best of all workloads first

    def step_words(self, w):
        from bench_lib.generate import settings_of
        words = ["--device", self.check.device, "--steps", "1", "--teacher", "teacher.onnx", "--student", "student.onnx"]
        for key, value in {**settings_of(w), "train.lr": 0}.items():
            if key not in ("teacher.path", "student.onnx"):
                words += ["--set", f"{key}={value}"]
        return words

    def peer_words(self, name, setting):
        return [sys.executable, "-m", "bench_lib.device_peer", os.path.join(self.folder, name), name, setting, self.peer_device]

    def prepared(self, kind, name):
        return next(j for j in self.preparation.jobs if j.kind == kind and j.name == name)

    # ---- the measurement ----

    def run(self, left):
        if not self.torch:
            return {"workloads": [], "not_run": ["all workloads: PyTorch makes them, and Python here has none"]}
        end = time.monotonic() + left
        self.preparation.finish(left * 0.5, left * WARM_SHARE)
        result = {"workloads": [], "not_run": self.not_run, "probe": self.probe(), "torch": self.torch}
        if not self.has_peers:
            self.not_run.append("PyTorch's side: this PyTorch has no CUDA device")
        for k, name in enumerate(self.names):
            share = (end - time.monotonic()) / (len(self.names) - k)
            try:
                result["workloads"] += self.workload(name, time.monotonic() + share, result["probe"])
            except (Gone, OSError, ValueError) as why:
                self.not_run.append(f"{named(name).name}: {why}")
        return result

    def probe(self):
        job = Job("probe", "", [sys.executable, "-m", "bench_lib.device_probe", self.peer_device], 60, self.python_env())
        if self.has_peers:
            job.run()
        if not self.has_peers or job.why:
            self.not_run.append(f"floors: {job.why or 'this PyTorch has no CUDA device'}")
            return None
        return json.loads(job.answer)

    def passed(self, name):
        """Precisions whose gate was passed, and what it said."""
        said = {}
        for precision in self.precisions:
            job = self.prepared("gate", f"{name} {precision}")
            gate = {"passed": False, "why": job.why} if job.why else json.loads(job.answer)
            said[precision] = gate
            if not gate["passed"]:
                self.not_run.append(f"{name} {precision}: gate not passed: {gate['why']}")
        return said

    def workload(self, name, end, probe):
        w, folder, running = named(name), os.path.join(self.folder, name), []
        with open(os.path.join(folder, "facts.json")) as f:
            facts = json.load(f)
        gates = self.passed(name)
        precisions = [p for p in self.precisions if gates[p]["passed"]]
        try:
            ours = {p: self.spawn_ours(name, w, folder, p, running) for p in precisions}
            peers = self.start_all(w, name, ours, gates, end - (0 if self.small else ROUNDS_SECONDS), running)
            finalists = [c for p in ours for c in sorted((c for c in peers if c.precision == p), key=lambda c: c.ms)[:FINALISTS]]
            for c in peers:
                if c not in finalists:
                    c.close()
            self.take_turns([*ours.values(), *finalists], end)
            return [self.entry(w, facts, c, [x for x in peers if x.precision == p], finalists, gates[p], probe) for p, c in ours.items()
                    if c.rounds]
        finally:
            for c in running:
                c.close()

    def spawn_ours(self, name, w, folder, precision, running):
        words = [*self.check.command("distill"), "bench", "--serve", "--quiet", "--student", "job.ini", "--device", self.check.device,
                 "--set", "cache.views=fresh", "--set", "data.shuffle=false", *self.keys(w, precision)]
        c = Contestant("distill", precision, Process(words, self.check.env, folder, f"{self.folder}/{name}.{precision}.log"))
        running.append(c)
        return c

    def begin_ours(self, name, ours, gates):
        """Leaves in `ours` those that made their first step, with the loss that the gate saw."""
        for precision, c in list(ours.items()):
            try:
                c.begin(120)
                loss, want = c.facts["loss"], gates[precision]["total"]
                if not abs(loss - want) <= SAME_LOSS[precision] * abs(want):
                    raise Gone(f"its first loss is {loss:.6g}, that of the gate was {want:.6g}")
            except Gone as why:
                self.not_run.append(f"{name} {precision}: {why}")
                del ours[precision]

    def is_cold(self, name, setting):
        warm = [j for j in self.preparation.jobs if j.kind == "warm" and j.name == f"{name} {setting}"]
        return is_compiled(setting) and any(j.why for j in warm)

    def wanted(self, w, name, ours):
        """Settings of PyTorch: those that need no compiling now come first."""
        all = [s for some in zip(*(self.settings_of(w, p) for p in ours)) for s in some] if ours and self.has_peers else []
        return sorted(all, key=lambda s: self.is_cold(name, s))

    def start_all(self, w, name, ours, gates, end, running):
        """Ours, and PyTorch's settings that run, each timed alone."""
        wanted = self.wanted(w, name, ours)
        at_once = min(self.together, 4) if w.name.split("@")[0] in LARGE else self.together
        peers = []
        for k in range(0, max(1, len(wanted)), at_once):
            batch = []
            for setting in wanted[k:k + at_once]:
                needs = 0 if self.small else COLD_SECONDS if self.is_cold(name, setting) else 8
                if time.monotonic() > end - needs:
                    self.not_run.append(f"{name} PyTorch {setting}: no time was left for it")
                    continue
                log = f"{self.folder}/{name}.{setting}.log"
                c = Contestant(setting.split("+", 1)[1], setting.split("+")[0],
                               Process(self.peer_words(name, setting), self.python_env(), HERE, log))
                running.append(c)
                batch.append((setting, c))
            if k == 0:
                self.begin_ours(name, ours, gates)
            for setting, c in batch:
                if c.precision not in ours:
                    c.close()
            batch = [(setting, c) for setting, c in batch if c.precision in ours]
            for setting, c in batch:
                try:
                    c.begin(end - time.monotonic())
                    mine = ours[c.precision].facts["loss"]
                    if not w.hints and not abs(c.facts["loss"] - mine) <= 2 * SAME_LOSS[c.precision] * abs(mine):
                        raise Gone(f"its first loss is {c.facts['loss']:.6g}, ours {mine:.6g}")
                except Gone as why:
                    self.not_run.append(f"{name} PyTorch {setting}: {why}")
                    c.close()
                    batch = [b for b in batch if b[1] is not c]
            for setting, c in batch:
                try:
                    c.measure(0 if self.small else BLOCK_SECONDS)
                    peers.append(c)
                except Gone as why:
                    self.not_run.append(f"{name} PyTorch {setting}: {why}")
                    c.close()
        return peers

    def take_turns(self, contestants, end):
        for c in contestants:
            c.alone, c.rounds = c.rounds, []
        for r in range(1 if self.small else ROUNDS):
            if r >= 2 and time.monotonic() > end:
                break
            at = r % max(1, len(contestants))
            for c in contestants[at:] + contestants[:at]:
                c.measure(0 if self.small else BLOCK_SECONDS)

    def entry(self, w, facts, mine, peers, finalists, gate, probe):
        p = mine.precision
        e = {"name": w.name.split("@")[0], "title": w.title, "precision": w.half if p == "half" else p, "batch": w.batch, "ms": mine.ms,
             "rounds_ms": mine.rounds, "samples_per_second": 1e3 * w.batch / mine.ms, "kernels": mine.kernels, "aim": w.device_aim,
             "device_bytes": mine.device_bytes, "gate": gate, "first_step_seconds": mine.facts["first_step_seconds"], "device": mine.facts["device"],
             "peers": {c.name: {"ms": c.ms, "rounds_ms": c.rounds, "in_turns": c in finalists, "device_bytes": c.device_bytes,
                                "first_steps_seconds": c.facts["first_call_seconds"]} for c in peers}}
        best = min((c for c in peers if c in finalists), key=lambda c: c.ms, default=None)
        if best:
            ratios = [a / b for a, b in zip(best.rounds, mine.rounds)]
            e.update(best=best.name, best_ms=best.ms, ratio=statistics.median(ratios), ratio_min=min(ratios), ratio_max=max(ratios))
        if probe:
            e.update(floors(w, facts, mine, p, probe))
        return e


def floors(w, facts, mine, precision, probe):
    """Times that no program of this form goes below: so many kernels one after the other; so many operations and bytes.

    Bytes, in 2 or 4 for a number: the teacher's activations written and read once, the student's nine times (twice forward,
    seven times backward), the teacher's weights read, the student's read three times, 20 bytes each for gradient, master
    copy and momentum."""
    kind = w.half if precision == "half" else precision
    rate = probe["gemm_tflops"].get(kind) or probe["gemm_tflops"]["fp32"]
    size = 2 if precision == "half" else 4
    count = (facts["teacher_operations"] + facts["student_operations"])
    moved = (size * (2 * facts["teacher_elements"] + 9 * facts["student_elements"] + facts["teacher_parameters"])
             + (3 * size + 20) * facts["student_parameters"])
    launch = 1e-3 * (probe["launch_us"] + max(0, mine.kernels - 1) * probe["kernel_us"])
    work, bytes_ms = 1e-9 * count / rate, 1e-6 * moved / probe["copy_gb_s"]
    return {"launch_floor_ms": launch, "arithmetic_floor_ms": work, "bytes_floor_ms": bytes_ms,
            "of_launch_floor": launch / mine.ms, "of_work_floor": max(work, bytes_ms) / mine.ms}


def table(result):
    rows = result.get("workloads", [])
    lines = [f"\n{'training step':16}{'in':>5}{'batch':>6}{'ms':>9}{'samples/s':>11}{'best PyTorch':>14}  {'setting':30}{'ratio':>6}  "
             f"{'least, most':13}{'aim':>5}{'kernels':>8}{'launch':>8}{'work':>6}{'MB':>8}{'PyTorch MB':>11}"]
    for e in rows:
        best = e.get("best")
        of = "".join(f"{100 * e[k]:>{n}.0f}%" if k in e else f"{'-':>{n + 1}}" for k, n in (("of_launch_floor", 7), ("of_work_floor", 5)))
        span = "{:.2f}, {:.2f}".format(e["ratio_min"], e["ratio_max"]) if best else "-"
        peer_mb = "{:.0f}".format(e["peers"][best]["device_bytes"] / 1e6) if best else "-"
        lines.append(f"{e['name']:16}{e['precision']:>5}{e['batch']:>6}{e['ms']:>9.4g}{e['samples_per_second']:>11.0f}"
                     f"{e.get('best_ms', float('nan')):>14.4g}  {best or '-':30}{e.get('ratio', float('nan')):>6.2f}  {span:13}{e['aim']:>5g}"
                     f"{e['kernels']:>8}{of}{e['device_bytes'] / 1e6:>8.0f}{peer_mb:>11}")
    if rows:
        lines.append("launch, work: share of the step that its kernels need one after the other at least, and its operations or bytes do;\n"
                     "ratio: PyTorch's time by ours, median of the rounds. MB: of the device, PyTorch's as its allocator reserves them.")
    return "\n".join(lines + [f"not run: {each}" for each in result.get("not_run", [])])
