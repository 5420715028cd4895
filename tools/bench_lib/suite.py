"""Workloads one after another: generate, gate, start everybody, rounds in turns, what is left over, the table."""
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

from bench_lib import machine, ours
from bench_lib.process import Gone, Process

HERE = os.path.dirname(os.path.abspath(__file__))
SETTINGS = ("eager", "channels_last", "compile", "compile+channels_last", "compile+freeze", "compile+channels_last+freeze",
            "trace", "channels_last+trace")
WARM_BELOW_MS = 500  # a block of shorter steps begins with an untimed one: others ran meanwhile, the caches are cold
FIRST_TIMEOUT = 400  # seconds for a first step, compilation included
FINALISTS = 4  # PyTorch settings that go into the rounds: the fastest in a block of their own
ROUNDS_SECONDS = 90  # of a workload; at least three rounds


def python(*words, **more):
    """A child of this package."""
    env = {**os.environ, "PYTHONPATH": os.path.dirname(HERE)}
    return subprocess.run([sys.executable, "-m", *words], env=env, stdout=subprocess.PIPE, text=True, **more)


class Contestant:
    """A process that makes steps, and the times of its rounds (ms, the median of a block)."""

    def __init__(self, name, process):
        self.name, self.process, self.rounds, self.block = name, process, [], None
        try:
            self.facts = process.answer(FIRST_TIMEOUT)
        except Gone:
            process.close()
            raise
        self.first_seconds, self.retired_mb = process.age(), None

    def peak_mb(self):
        return self.process.peak_mb() if self.retired_mb is None else self.retired_mb

    def retire(self):
        self.retired_mb = self.process.peak_mb()
        self.process.close()

    def measure(self, seconds, how=""):
        """One block of about that many seconds; `how`: "known " asks PyTorch for steps without the teacher."""
        if self.block is None:
            trial = self.process.ask(f"{how}1")["ms"][0]
            self.warm = 1 if trial < WARM_BELOW_MS else 0
            trial = self.process.ask(f"{how}1")["ms"][0] if self.warm else trial
            self.block = max(1, min(5000, round(seconds * 1e3 / trial)))
        self.rounds.append(statistics.median(self.process.ask(f"{how}{self.warm + self.block}")["ms"][self.warm:]))

    def begin_again(self):
        self.rounds, self.block = [], None

    @property
    def ms(self):
        return statistics.median(self.rounds)


def take_turns(contestants, rounds, seconds, how=lambda c: ""):
    """Each round begins with another one."""
    began = time.monotonic()
    for r in range(rounds):
        if r >= 3 and time.monotonic() - began > ROUNDS_SECONDS:
            break
        at = r % len(contestants)
        for c in contestants[at:] + contestants[:at]:
            c.measure(seconds, how(c))


def ratios(of, to):
    each = [a / b for a, b in zip(of.rounds, to.rounds)]
    return statistics.median(each), min(each), max(each)


class Suite:
    def __init__(self, a, say):
        self.a, self.say, self.folder = a, say, os.path.abspath(a.folder)
        self.distill = os.path.abspath(a.distill)
        os.makedirs(self.folder, exist_ok=True)
        self.machine = machine.describe(self.distill)
        self.peak = machine.build_peak(self.folder, self.a.isa)
        self.mimalloc = self.machine["mimalloc"]

    # -- pieces --

    def prepare(self, w):
        """Folder of the workload, made anew when the generator or the workload changed."""
        folder, stamp = os.path.join(self.folder, w.name), hashlib.sha256(repr(w).encode())
        for name in ("nets.py", "to_onnx.py", "onnx_file.py", "npy.py", "generate.py"):
            with open(os.path.join(HERE, name), "rb") as f:
                stamp.update(f.read())
        mark = os.path.join(folder, "stamp")
        if not (os.path.exists(mark) and open(mark).read() == stamp.hexdigest()):
            shutil.rmtree(folder, ignore_errors=True)
            done = python("bench_lib.generate", self.folder, w.name)
            if done.returncode:
                raise Gone("the workload could not be made")
            with open(mark, "w") as f:
                f.write(stamp.hexdigest())
        with open(os.path.join(folder, "facts.json")) as f:
            return folder, json.load(f)

    def gate(self, w, folder):
        done = python("bench_lib.gate", self.distill, folder, w.name, str(self.threads(w)), *self.a.set)
        if done.returncode:
            return {"passed": False, "why": "the gate itself failed"}
        return json.loads(done.stdout)

    def threads(self, w):
        return self.a.threads or min(w.threads, self.machine["cores"])

    def serve(self, w, folder, name, threads, *settings, job="job.ini"):
        log = os.path.join(self.folder, f"{w.name}.{name}.log")
        return Contestant(name, ours.serve(self.distill, folder, threads, log, *self.a.set, *settings, job=job))

    def settings(self, w):
        if self.a.settings is not None:
            return self.a.settings
        return list(SETTINGS) if self.a.full else list(w.quick)

    def start_torch(self, w, folder, setting):
        threads = str(self.threads(w))
        compiled = setting.removesuffix("+mimalloc")  # takes what its twin compiled: the code is the same
        cache = os.path.join(self.folder, "inductor", f"{w.name}.{compiled}")
        if compiled == setting and not self.a.keep_compiled:
            shutil.rmtree(cache, ignore_errors=True)
        env = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TORCHINDUCTOR_CACHE_DIR": cache,
               "PYTHONPATH": os.path.dirname(HERE)}
        if self.a.isa:
            env.update(ATEN_CPU_CAPABILITY=self.a.isa, ONEDNN_MAX_CPU_ISA=self.a.isa.upper())
        if "mimalloc" in setting.split("+"):
            env["LD_PRELOAD"] = self.mimalloc
        words = [sys.executable, "-m", "bench_lib.peer", folder, w.name, setting, threads]
        return Contestant(setting, Process(words, env, folder, os.path.join(self.folder, f"{w.name}.{setting}.log")))

    def start_peers(self, w, folder, peers):
        """Appends the PyTorch settings that run, each timed once by itself; all but the fastest are retired. With --full
        every setting has a twin with mimalloc, otherwise the fastest one has."""
        asked = self.settings(w)
        twins = self.mimalloc and self.a.settings is None
        for setting in [each for s in asked for each in ([s, f"{s}+mimalloc"] if twins and self.a.full else [s])]:
            self.try_peer(w, folder, setting, peers)
        if twins and not self.a.full and peers:
            self.try_peer(w, folder, f"{min(peers, key=lambda c: c.ms).name}+mimalloc", peers)
        for c in peers:
            if c.retired_mb is None:
                c.begin_again()

    def try_peer(self, w, folder, setting, peers):
        try:
            c = self.start_torch(w, folder, setting)
        except Gone as e:
            self.say(f"    PyTorch {setting} does not run here: {e}")
            return
        peers.append(c)
        c.measure(self.a.seconds / 2)
        self.say(f"    PyTorch {setting}: first step after {c.first_seconds:.1f} s, loss {c.facts['loss']:.6f}, {c.ms:.4g} ms")
        if not abs(c.facts["loss"] - peers[0].facts["loss"]) <= 1e-3 * abs(peers[0].facts["loss"]):
            raise Gone(f"PyTorch {setting} computes another loss than PyTorch {peers[0].name}")
        running = [p for p in peers if p.retired_mb is None]
        if len(running) > FINALISTS:
            max(running, key=lambda p: p.ms).retire()

    # -- a workload --

    def run(self, w):
        """The workload's entry of the JSON; {"name", "failed"} when there is no figure."""
        self.say(f"\n{w.name}: {w.title}; batch {w.batch}, {self.threads(w)} thread{'s' * (self.threads(w) > 1)}")
        running = []
        try:
            folder, facts = self.prepare(w)
            gate = self.gate(w, folder)
            self.say("    " + gate_text(gate))
            if not gate["passed"]:
                return {"name": w.name, "failed": gate_text(gate), "gate": gate}
            if self.a.gate_only:
                return {"name": w.name, "gate": gate}
            return {"name": w.name, "gate": gate, **self.figures(w, folder, facts, running)}
        except Gone as e:
            self.say(f"    NO FIGURES: {e}")
            return {"name": w.name, "failed": str(e)}
        finally:
            for c in running:
                c.process.close()

    def figures(self, w, folder, facts, running):
        mine = self.serve(w, folder, "distill", self.threads(w))
        running.append(mine)
        self.say(f"    distill: first step after {mine.first_seconds:.2f} s")
        if mine.facts["student_parameters"] != facts["student_parameters"]:
            raise Gone("the students differ in size")
        peers = []
        try:
            self.start_peers(w, folder, peers)
        finally:
            running.extend(peers)
        take_turns([mine, *(c for c in peers if c.retired_mb is None)], self.a.rounds, self.a.seconds)
        entry = self.entry(w, facts, mine, peers)
        print_entry(w, entry, self.say)
        if not self.a.no_extras:
            self.extras(w, folder, mine, peers, entry, running)
        return entry

    def entry(self, w, facts, mine, peers):
        operations = facts["teacher_operations"] + facts["student_operations"]
        rate = machine.peak(self.peak)
        entry = {"ours_ms": mine.ms, "ours_rounds_ms": mine.rounds, "threads": self.threads(w), "batch": w.batch,
                 "samples_per_second": 1e3 * w.batch / mine.ms, "gflops": operations / mine.ms * 1e-6,
                 "peak_gflops_core": rate,
                 "floor_fraction": operations / mine.ms * 1e-6 / (rate * self.threads(w)) if rate else None,
                 "rss_mb": mine.process.peak_mb(), "first_step_seconds": mine.first_seconds, "aim": w.aim,
                 "peers": {c.name: c.ms for c in peers}, "peers_rounds_ms": {c.name: c.rounds for c in peers},
                 "peers_rss_mb": {c.name: c.peak_mb() for c in peers},
                 "peers_first_step_seconds": {c.name: c.first_seconds for c in peers},
                 "peers_not_in_the_rounds": [c.name for c in peers if c.retired_mb is not None]}
        if peers:
            best = min((c for c in peers if c.retired_mb is None), key=lambda c: c.ms)
            ratio, low, high = ratios(best, mine)
            entry.update(best_peer=best.name, ratio_to_best=ratio, ratio_min=low, ratio_max=high, torch=best.facts["version"])
        return entry

    # -- what else is asked: scaling, the student alone --

    def extras(self, w, folder, mine, peers, entry, running):
        rounds, seconds = max(2, self.a.rounds // 2), self.a.seconds / 2
        for c in peers:
            if c.name != entry.get("best_peer") and c.retired_mb is None:
                c.retire()
        if self.threads(w) > 1:
            single = self.serve(w, folder, "one-thread", 1)
            running.append(single)
            mine.begin_again()
            take_turns([mine, single], rounds, seconds)
            single.process.close()
            entry["scaling"] = ratios(single, mine)[0]
            self.say(f"    1 thread -> {self.threads(w)}: {entry['scaling']:.2f} times as fast")
        self.student_alone(w, folder, [c for c in peers if c.name == entry.get("best_peer")], entry, running, rounds, seconds)

    def student_alone(self, w, folder, best, entry, running, rounds, seconds):
        cached = self.serve(w, folder, "cached", self.threads(w), "cache.views=1")
        running.append(cached)
        if not cached.facts["remembers"]:
            self.say("    student alone: this job's teacher outputs are not cached")
            return
        plain = self.serve(w, folder, "plain", self.threads(w), job="plain.ini")
        running.append(plain)
        cached.process.ask(cached.facts["steps_per_pass"])
        for c in best:
            c.begin_again()
        take_turns([cached, plain, *best], rounds, seconds, lambda c: "known " if c in best else "")
        entry.update(student_ms=cached.ms, plain_ms=plain.ms, student_to_plain=ratios(cached, plain)[0])
        text = f"    student alone (teacher cached): {cached.ms:.4g} ms, {entry['student_to_plain']:.3f} of plain training"
        for c in best:
            entry.update(student_peer_ms=c.ms, student_ratio=ratios(c, cached)[0])
            text += f"; PyTorch {c.name} {c.ms:.4g} ms, {entry['student_ratio']:.2f} times as long"
        self.say(text)


def gate_text(g):
    if "why" in g:
        return f"GATE NOT PASSED, no figures: {g['why']}"
    text = (f"distance to PyTorch's float64: losses {g['loss']:.1e}, gradients {g['all']:.1e} (PyTorch's float32 "
            f"{g['all_torch']:.1e}), worst tensor {g['gradient']:.1e} ({g['gradient_torch']:.1e}): {g['where']}")
    return ("gate passed: " if g["passed"] else f"GATE FAILED ({', '.join(g['failed'][:3])} ...), no figures: ") + text


def print_entry(w, e, say):
    say(f"    {'':<50}{'ms':>10}{'samples/s':>11}{'GF/s':>9}{'peak MB':>9}{'first s':>9}")

    def line(name, ms, mb, first):
        gf = e["gflops"] * e["ours_ms"] / ms
        say(f"    {name:<50}{ms:>10.4g}{1e3 * w.batch / ms:>11.0f}{gf:>9.1f}{mb:>9.0f}{first:>9.2f}")

    line("distill", e["ours_ms"], e["rss_mb"], e["first_step_seconds"])
    for name, ms in sorted(e["peers"].items(), key=lambda each: each[1]):
        line(f"PyTorch {name}{' (one block)' if name in e['peers_not_in_the_rounds'] else ''}", ms, e["peers_rss_mb"][name], e["peers_first_step_seconds"][name])
    if e["floor_fraction"]:
        say(f"    {100 * e['floor_fraction']:.0f} % of what {e['threads']} x {e['peak_gflops_core']:.0f} GF/s of multiply-adds "
            "would take (above 100 %: fewer multiplications than the definition)")
    if e["peers"]:
        say(f"    best of PyTorch: {e['best_peer']}, {e['ratio_to_best']:.2f} times as long as distill ({e['ratio_min']:.2f} to "
            f"{e['ratio_max']:.2f} in {len(e['ours_rounds_ms'])} rounds; aim {w.aim:g}); memory: "
            f"{e['rss_mb'] / min(e['peers_rss_mb'].values()):.2f} of PyTorch's least")


def print_summary(entries, say):
    say(f"\n{'workload':<16}{'ours ms':>10}{'best PyTorch ms':>17}  {'setting':<38}{'ratio':>7}  {'min to max':<14}{'aim':>5}"
        f"{'floor':>7}{'MB':>7}{'of PT':>6}{'first s':>8}{'1->n':>6}")
    for e in entries:
        if "ours_ms" not in e:
            say(f"{e['name']:<16}{'-':>10}  {e.get('failed') or gate_text(e['gate'])}")
            continue
        best = e.get("best_peer")
        say(f"{e['name']:<16}{e['ours_ms']:>10.4g}{e['peers'].get(best, float('nan')):>17.4g}  {best or '-':<38}"
            f"{e.get('ratio_to_best', float('nan')):>7.2f}  "
            f"{e.get('ratio_min', 0):>5.2f} to {e.get('ratio_max', 0):<5.2f}{e['aim']:>5g}"
            f"{100 * (e['floor_fraction'] or 0):>6.0f}%{e['rss_mb']:>7.0f}"
            f"{e['rss_mb'] / min(e['peers_rss_mb'].values(), default=float('nan')):>6.2f}{e['first_step_seconds']:>8.2f}"
            + (f"{e['scaling']:>6.2f}" if "scaling" in e else f"{'-':>6}"))
    lost = [e["name"] for e in entries if "failed" in e]
    if lost:
        say(f"{len(lost)} of {len(entries)} workloads gave no figures: {', '.join(lost)}")
