"""The gate of a workload on a device: one step of `distill step` there against PyTorch from the same weights and batch, in
float64 as the judge, and in the precision that was asked for as the yardstick: losses, and all gradients together.

    python3 -m bench_lib.device_gate FOLDER WORKLOAD PRECISION DEVICE STEP.npz

STEP.npz: what `distill step` wrote with train.lr = 0 (regressors start from values that only the program knows; so they are in
the file). A loss passes within LOSS of float64, relative, or ten times the yardstick's distance; gradients within GRADIENT or three
times. Prints {"passed", "loss", "loss_torch", "gradient", "gradient_torch", "total", "why"}."""
import json
import math
import os
import sys

from bench_lib import npy
from bench_lib.device_peer import to_device
from bench_lib.peer import answers, loss_function
from bench_lib.workloads import named

LOSS = {"fp32": 1e-4, "tf32": 1e-2, "half": 2e-2}
GRADIENT = {"fp32": 1e-3, "tf32": 3e-2, "half": 1e-1}


def theirs(w, folder, device, have, rows, precision):
    """(losses, gradients in float64 on the CPU); precision "wide": float64."""
    import torch
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    teacher, student, x, y = to_device(w, folder, device, False)
    x, y = x[:rows], y[:rows]
    with torch.no_grad():
        for n, r in enumerate(student.regress, 1):
            for kind, p in r.named_parameters():
                p.copy_(have[f"hint.{n}.{kind}"].reshape(p.shape))
    if precision == "wide":
        teacher.double(), student.double()
        x, y = (t.double() if t.is_floating_point() else t for t in (x, y))
    kind = torch.bfloat16 if w.half == "bf16" else torch.float16
    with torch.autocast(device, dtype=kind, enabled=precision == "half"):
        with torch.no_grad():
            told = answers(teacher, x)
        losses = loss_function(w, student)(x, y, told)
    losses["total"].backward()
    of = {k: p.grad.double().cpu() for k, p in student.student.named_parameters()}
    for n, r in enumerate(student.regress, 1):
        of.update({f"hint.{n}.{k}": p.grad.double().cpu() for k, p in r.named_parameters()})
    return {k: v.item() for k, v in losses.items()}, of


def apart(a, b):
    return abs(a - b) / max(abs(b), 1e-3) if math.isfinite(a) else math.inf


def distance(have, want):
    """Of all gradients together, relative."""
    off = math.sqrt(sum((have[k] - g).norm().item() ** 2 for k, g in want.items()))
    return off / math.sqrt(sum(g.norm().item() ** 2 for g in want.values()))


def check(folder, w, precision, device, have):
    rows = len(have["student.logits"]) if "student.logits" in have else w.batch
    with open(os.path.join(folder, "facts.json")) as f:
        transposed = set(json.load(f)["transposed"])
    exact, wide = theirs(w, folder, device, have, rows, "wide")
    rough, narrow = theirs(w, folder, device, have, rows, precision)
    names = {"total": "loss.total", "task": f"loss.{w.task_loss}", "kl": "loss.kl"}
    mine = {k: have[names.get(k, f"loss.{k}")][0].item() for k in exact}
    grads = {k: have[f"grad.{k}"].double() for k in wide}
    grads = {k: (g.T if k in transposed else g).reshape(wide[k].shape) for k, g in grads.items()}
    got = {"loss": max(apart(mine[k], exact[k]) for k in exact), "loss_torch": max(apart(rough[k], exact[k]) for k in exact),
           "gradient": distance(grads, wide), "gradient_torch": distance(narrow, wide), "total": mine["total"]}
    why = [f"loss {k}: {mine[k]:.7g}, PyTorch's {exact[k]:.7g}" for k in exact
           if not apart(mine[k], exact[k]) <= max(LOSS[precision], 10 * apart(rough[k], exact[k]))]
    if not got["gradient"] <= max(GRADIENT[precision], 3 * got["gradient_torch"]):
        why.append(f"gradients: {got['gradient']:.3g} apart")
    return {"passed": not why, **got, "why": "; ".join(why[:3])}


def main():
    folder, name, precision, device, path = sys.argv[1:]
    print(json.dumps(check(folder, named(name), precision, device, npy.load_all(path))))


if __name__ == "__main__":
    main()
