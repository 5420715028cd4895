"""protocol.py - the Python side of the runner protocol, version 1 (src/matrix/README.md describes it).

A runner reads one line of JSON on stdin and answers with one line of JSON on stdout. Whatever an engine prints goes to stderr: stdout is
put away before an engine is imported. An engine is a class with

    runtime, folder, wheel, forms    its name, its folder under build/runtimes, the wheel whose files identify it, file forms it reads
    version()                        text
    device(), isa()                  what it computes on and with; by default this processor and its best instruction set
    load(request, batch)             a session for batches of that many rows

and a session is an object with

    run(feeds)     {name: array [batch, ...]} -> array [batch, ...], the wanted output
    batch          None: takes any number of rows; else the only number it takes (a file's fixed batch, or the asked one)
    providers      [{"name", "nodes"}] or [], where the engine tells how many nodes run where
    place(feeds)   None, or what finds out `providers` by another run
    notes          sentences about what was done to the file or its inputs
"""
import hashlib
import importlib.metadata
import json
import os
import re
import sys
import time

VERSION = 1


class Refused(Exception):
    """An answer that is no result; kind: unsupported, missing, error, memory."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


# How the engines say that they cannot run a model, as against failing at it.
UNSUPPORTED = re.compile(
    r"not supported|unsupported|not implemented|unimplemented|not.?implementederror|no implementation|could not find an implementation"
    r"|cannot be (?:imported|converted)|no (?:kernel|conversion)|unknown (?:op|layer)|didn't find op|failed to find (?:op|kernel)"
    r"|no op registered|translating node|failed to legalize|can't create layer|layer .* not exists or registered|unregistered op|missing op|not registered", re.IGNORECASE)


def one_line(text, most=600):
    line = re.sub(r"\x1b\[[0-9;]*m", "", " ".join(str(text).split())).split(" Stack backtrace:")[0]
    return line if len(line) <= most else line[: most - 3] + "..."


def refusal_of(problem):
    if isinstance(problem, Refused):
        return problem
    text = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, MemoryError) or "bad_alloc" in text or "std::bad_alloc" in text:
        return Refused("memory", one_line(text))
    if isinstance(problem, ModuleNotFoundError):
        return Refused("missing", one_line(f"{text}; to get it: tools/setup-runtimes {problem.name}"))
    if isinstance(problem, NotImplementedError) or UNSUPPORTED.search(text):
        return Refused("unsupported", one_line(text))
    return Refused("error", one_line(text))


# ---- runtimes and their folders ----


def runtimes_root():
    here = os.path.dirname(os.path.abspath(__file__))
    return os.environ.get("DISTILL_RUNTIMES") or os.path.join(os.path.dirname(os.path.dirname(here)), "build", "runtimes")


def use_folder(name):
    """Puts build/runtimes/NAME and the shared numpy before everything else that can be imported; absent ones are left out."""
    for folder in ("numpy", name):
        path = os.path.join(runtimes_root(), folder)
        if folder and os.path.isdir(path):
            sys.path.insert(0, path)


def wheel_build(wheel):
    """What identifies the installed files: a hash over the hashes that the wheel lists of them."""
    listed = importlib.metadata.distribution(wheel).read_text("RECORD") or ""
    lines = sorted(line for line in listed.splitlines() if ",sha256=" in line and ".dist-info/" not in line)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return f"wheel {wheel} {importlib.metadata.version(wheel)}, {len(lines)} files, sha256 {digest}"


# ---- the machine ----


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            for line in f:
                if line.startswith(("model name", "Model name", "Hardware")):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine() or "unknown processor"


def cpu_isa():
    """numpy asks the processor itself, so that emulated ones say what they are."""
    try:
        import numpy

        core = getattr(numpy, "_core", None) or numpy.core
        has = core._multiarray_umath.__cpu_features__
    except (ImportError, AttributeError):
        return "unknown"
    if has.get("ASIMD") or has.get("NEON"):
        return "neon"
    if has.get("AVX512F"):
        return "avx512_vnni" if has.get("AVX512VNNI") or has.get("AVX512_ICL") else "avx512"
    if has.get("AVX2"):
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
                return "avx2_vnni" if re.search(r"^flags.* avx_vnni", f.read(), re.MULTILINE) else "avx2"
        except OSError:
            return "avx2"
    return "sse" if has.get("SSE2") or has.get("SSE") else "scalar"


def peak_mb():
    """The process's largest resident set, MiB; None where the system does not say."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as f:
            for line in f:
                if line.startswith("VmHWM:"):
                    return round(int(line.split()[1]) / 1024, 2)
    except OSError:
        pass
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 2)
    except ImportError:
        return None


# ---- requests ----


def checked(request):
    def need(ok, what):
        if not ok:
            raise Refused("error", f"request: {what}")

    need(isinstance(request, dict), "not a JSON object")
    need(request.get("protocol") == VERSION, f"protocol {request.get('protocol')!r}; this runner speaks {VERSION}")
    if request.get("describe"):
        return request
    for key in ("model", "output"):
        need(isinstance(request.get(key), str), f"'{key}' is not a path")
    inputs = request.get("inputs")
    need(isinstance(inputs, list) and inputs, "'inputs' is not a list of inputs")
    for i in inputs:
        need(isinstance(i, dict) and isinstance(i.get("file"), str) and isinstance(i.get("name"), str), "an input without name or file")
    for key in ("samples", "batch", "threads"):
        value = request.get(key, 1)
        need(isinstance(value, int) and not isinstance(value, bool) and value > 0, f"'{key}' is not a number above 0")
    need(request.get("samples"), "'samples' is missing")
    need(isinstance(request.get("options") or {}, dict), "'options' is not an object")
    need(os.path.isfile(request["model"]), f"there is no model {request['model']}")
    return request


class Rows:
    """An array that stays in its .npy file, read row by row: what is not needed counts to no engine's memory."""

    def __init__(self, path):
        from numpy.lib import format as npy

        self.path = path
        with open(path, "rb") as f:
            version = npy.read_magic(f)
            self.shape, fortran, self.dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(f)
            self.start = f.tell()
        if self.dtype.hasobject or (fortran and len(self.shape) > 1) or not self.shape:
            raise Refused("error", f"{path}: rows are read of plain arrays in C order alone")
        self.width = 1
        for n in self.shape[1:]:
            self.width *= n

    def read(self, first, count):
        import numpy as np

        x = np.fromfile(self.path, self.dtype, count * self.width, offset=self.start + first * self.width * self.dtype.itemsize)
        if x.size < count * self.width:
            raise Refused("error", f"{self.path}: it was cut off")
        return x.reshape(count, *self.shape[1:])


def read_inputs(request):
    arrays = {}
    for i in request["inputs"]:
        x = arrays[i["name"]] = Rows(i["file"])
        if x.shape[0] < request["samples"]:
            raise Refused("error", f"{i['file']}: {x.shape[0]} rows, {request['samples']} are asked for")
    return arrays


def rows_of(arrays, begin, count, total):
    """Rows begin .. begin + count of each input; the last row again where there are no more."""
    import numpy as np

    there = min(count, total - begin)
    rows = {name: x.read(begin, there) for name, x in arrays.items()}
    return {name: np.concatenate([x, np.repeat(x[-1:], count - there, axis=0)]) if there < count else x for name, x in rows.items()}


def run_all(session, arrays, samples, batch):
    """-> output of all rows, seconds inside the engine"""
    import numpy as np

    size = session.batch or batch
    parts, seconds = [], 0.0
    for begin in range(0, samples, size):
        used = min(size, samples - begin)
        feeds = rows_of(arrays, begin, size if session.batch else used, samples)
        start = time.perf_counter()
        y = session.run(feeds)
        seconds += time.perf_counter() - start
        y = np.asarray(y)
        if y.ndim < 1 or len(y) < used:
            raise Refused("error", f"the output has shape {list(y.shape)} for {used} rows")
        parts.append(np.array(y[:used], copy=True))
    return np.concatenate(parts), seconds


def measure_latency(session, arrays, samples, plan):
    """Milliseconds of single runs after a warm-up; ends after `runs` or `seconds`, at least 5 of them."""
    size = session.batch or plan.get("batch", 1)
    taken, feeds = [], [rows_of(arrays, i % samples, size, samples) for i in range(8)]
    for i in range(plan.get("warmup", 5)):
        session.run(feeds[i % len(feeds)])
    runs, limit, began = plan.get("runs", 100), plan.get("seconds", 1.0), time.perf_counter()
    while len(taken) < runs and (len(taken) < min(5, runs) or time.perf_counter() - began < limit):
        start = time.perf_counter()
        session.run(feeds[len(taken) % len(feeds)])
        taken.append(round((time.perf_counter() - start) * 1e3, 5))
    return taken


def describe(engine):
    return {"protocol": VERSION, "ok": True, "runtime": engine.runtime, "version": engine.version(), "build": wheel_build(engine.wheel),
            "device": engine.device(), "isa": engine.isa(), "forms": engine.forms}


def run_cell(engine, request):
    import numpy as np

    arrays = read_inputs(request)
    samples, batch, latency = request["samples"], request.get("batch", 1), request.get("latency")
    start = time.perf_counter()
    session = engine.load(request, batch)
    load_ms = (time.perf_counter() - start) * 1e3
    y, run_s = run_all(session, arrays, samples, batch)
    notes, taken = list(session.notes), []
    if session.place:
        session.providers = session.place(rows_of(arrays, 0, session.batch or 1, samples))
    providers = session.providers
    if latency:
        wanted = latency.get("batch", 1)
        if session.batch not in (None, wanted):
            session = engine.load(request, wanted)
        if session.batch not in (None, wanted):
            notes.append(f"latency is that of the file's fixed batch of {session.batch}")
        taken = measure_latency(session, arrays, samples, latency)
    y = np.ascontiguousarray(y.astype(y.dtype.newbyteorder("<"), copy=False))
    with open(request["output"], "wb") as f:
        np.save(f, y, allow_pickle=False)
    answer = describe(engine)
    del answer["forms"]
    answer.update(type=y.dtype.name, shape=list(y.shape), providers=providers, load_ms=round(load_ms, 3), run_s=round(run_s, 6),
                  latency_ms=taken, peak_mb=peak_mb(), notes=notes)
    return answer


def serve(make_engine):
    """Answers one request; make_engine() imports the engine or raises ImportError or Refused."""
    sys.stdout.flush()
    answers = os.dup(1)
    os.dup2(2, 1)
    try:
        try:
            request = checked(json.loads(sys.stdin.readline()))
        except ValueError as problem:
            raise Refused("error", f"request: {problem}") from None
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        if not request.get("describe"):
            os.environ["OMP_NUM_THREADS"] = str(request.get("threads", 1))
        engine = make_engine()
        answer = describe(engine) if request.get("describe") else run_cell(engine, request)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # pyo3's panics are no Exception
        if isinstance(problem, SystemExit) and not problem.code:
            raise
        import traceback

        if not isinstance(problem, Refused):
            traceback.print_exc()
        refused = refusal_of(problem)
        answer = {"protocol": VERSION, "ok": False, "kind": refused.kind, "message": one_line(refused)}
    with os.fdopen(answers, "w", encoding="utf-8") as f:
        f.write(json.dumps(answer, allow_nan=False) + "\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # some engines crash in their destructors; the answer is out
