"""The gate: the same weights and batch through `distill step` and through PyTorch; losses and every gradient of the
first step must agree, else no speed is reported.

    python3 -m bench_lib.gate DISTILL FOLDER WORKLOAD THREADS [SECTION.KEY=VALUE]...

PyTorch's float64 is the judge and its float32 the yardstick (with the teacher in bfloat16 where the workload says so): of
a network whose gradients are ill-conditioned, two correct float32 programs differ. For images the yardstick is the larger of
PyTorch's two layouts: of ResNet-18's gradients one is 1e-3 from float64 and the other, channels_last, 7e-3. Distances are L2, relative to the norm
of that gradient (or to 1e-5 of the norm of all, where it is smaller still: a bias before batch norm has gradient 0 but for
rounding). A gradient passes within 1e-3 of float64, or
within ten times the distance of PyTorch's float32; all of them together within 1e-4 or three times it; a loss within 1e-4 of
float64, or within ten times the distance of PyTorch's float32.

Prints one JSON object: {"passed", "losses": {name: [ours, PyTorch's float64]}, "loss": largest relative difference, "gradient",
"where", "gradient_torch": largest distance of ours, its name, that of PyTorch's float32, "all", "all_torch": of all gradients together,
"failed": names} or {"passed": false, "why"}."""
import json
import os
import subprocess
import sys
import tempfile

from bench_lib.generate import settings_of
from bench_lib.workloads import named

FLOOR = 1e-5
LOSS, GRADIENT, ALL = 1e-4, 1e-3, 1e-4
TIMES, ALL_TIMES = 10, 3


def ours(distill, folder, w, threads, extra):
    """Everything `distill step` writes of one step, by name. The learning rate is 0, so that the parameters at the end
    are those that the gradients belong to (regressors start from values that only the program knows)."""
    import numpy
    words = [distill, "step", "--quiet", "--teacher", "teacher.onnx", "--student", "student.onnx", "--steps", "1",
             "--threads", str(threads)]
    for key, value in {**settings_of(w), "train.lr": 0}.items():
        if key not in ("teacher.path", "student.onnx"):
            words += ["--set", f"{key}={value}"]
    for each in extra:
        words += ["--set", each]
    with tempfile.TemporaryDirectory() as room:
        out = os.path.join(room, "step.npz")
        env = {k: v for k, v in os.environ.items() if not k.startswith("DISTILL_")}
        done = subprocess.run(words + ["--out", out], cwd=folder, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        with numpy.load(out) as all:
            return {name: all[name] for name in all.files}


def peers(w, folder, threads, have, how):
    """(losses, gradients) of PyTorch, `how`: "wide" (float64), "narrow" (float32), "channels_last" (float32); regressors
    start as ours."""
    import torch
    from bench_lib.peer import answers, load, loss_function
    torch.set_num_threads(threads)
    teacher, student, x, y = load(w, folder)
    x, y = x[:w.batch], y[:w.batch]
    wide = how == "wide"
    if how == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
        teacher, student = (net.to(memory_format=torch.channels_last) for net in (teacher, student))
    if w.precision == "bf16" and not wide:
        teacher.bfloat16()
    with torch.no_grad():
        for n, r in enumerate(student.regress, 1):
            for kind, p in r.named_parameters():
                p.copy_(torch.from_numpy(have[f"hint.{n}.{kind}"]).reshape(p.shape))
        if wide:
            teacher.double(), student.double()
            x, y = (t.double() if t.is_floating_point() else t for t in (x, y))
        told = answers(teacher, x)
    losses = loss_function(w, student)(x, y, told)
    losses["total"].backward()
    gradients = {k: p.grad.numpy() for k, p in student.student.named_parameters()}
    for n, r in enumerate(student.regress, 1):
        gradients.update({f"hint.{n}.{k}": p.grad.numpy() for k, p in r.named_parameters()})
    return {k: v.item() for k, v in losses.items()}, gradients


def compare_losses(w, have, want):
    names = {"total": "loss.total", "task": f"loss.{w.task_loss}", "kl": "loss.kl"}
    return {k: [float(have[names.get(k, f"loss.{k}")][0]), v] for k, v in want.items()}


def apart(a, b):
    """Distance of two losses, relative to b."""
    return abs(a - b) / max(abs(b), 1e-3)


def our_gradients(have, want, transposed):
    """Shaped as `want`; a missing or an extra one is an error."""
    mine = {k[len("grad."):]: v for k, v in have.items() if k.startswith("grad.")}
    if mine.keys() != want.keys():
        raise RuntimeError(f"gradients that only one side has: {sorted(mine.keys() ^ want.keys())[:4]}")
    return {k: (mine[k].T if k in transposed else mine[k]).reshape(g.shape) for k, g in want.items()}


def distances(have, want):
    """({name: relative distance}, that of all together)"""
    import numpy
    norm = {k: numpy.linalg.norm(g) for k, g in want.items()}
    off = {k: numpy.linalg.norm(have[k] - g) for k, g in want.items()}
    whole = numpy.linalg.norm(list(norm.values()))
    known = {k: float(off[k] / max(norm[k], FLOOR * whole)) for k in want}
    return ({k: v if numpy.isfinite(v) else float("inf") for k, v in known.items()},
            float(numpy.linalg.norm(list(off.values())) / whole))


def check(distill, folder, w, threads, extra=()):
    try:
        have = ours(distill, folder, w, threads, extra)
        with open(os.path.join(folder, "facts.json")) as f:
            transposed = set(json.load(f)["transposed"])
        (rough, narrow), (exact, wide) = (peers(w, folder, threads, have, each) for each in ("narrow", "wide"))
        losses = compare_losses(w, have, exact)
        mine, all_mine = distances(our_gradients(have, wide, transposed), wide)
        yard, all_yard = distances(narrow, wide)
        if len(w.sample) == 3:
            other, all_other = distances(peers(w, folder, threads, have, "channels_last")[1], wide)
            yard, all_yard = {k: max(yard[k], other[k]) for k in yard}, max(all_yard, all_other)
    except RuntimeError as e:
        return {"passed": False, "why": str(e)}
    failed = [f"loss {k}" for k, (a, b) in losses.items() if not apart(a, b) <= max(LOSS, TIMES * apart(rough[k], b))]
    failed += [k for k in mine if not mine[k] <= max(GRADIENT, TIMES * yard[k])]
    failed += ["all gradients together"] if not all_mine <= max(ALL, ALL_TIMES * all_yard) else []
    return {"passed": not failed, "failed": failed, "losses": losses,
            "loss": max(apart(a, b) for a, b in losses.values()),
            "gradient": max(mine.values()), "where": max(mine, key=mine.get),
            "gradient_torch": max(yard.values()), "all": all_mine, "all_torch": all_yard}


def main():
    distill, folder, name, threads, *extra = sys.argv[1:]
    print(json.dumps(check(os.path.abspath(distill), folder, named(name), int(threads), extra)))


if __name__ == "__main__":
    main()
