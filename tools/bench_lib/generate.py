"""Makes a workload in a folder: teacher.onnx, student.onnx and the same weights for
PyTorch, job.ini, samples, facts.json. Weights and samples come
from one seed; nothing is downloaded or kept in the repository.

    python3 -m bench_lib.generate FOLDER NAME...    (with tools/ on PYTHONPATH)"""
import json
import os
import sys

from bench_lib import workloads
from bench_lib.workloads import named

SEED = 1


def networks(w):
    """(teacher in eval mode, student in training mode), as torch modules with the weights of the files."""
    import torch
    from bench_lib import nets
    torch.manual_seed(SEED)
    teacher, student = (eval(call, {"__builtins__": {}}, vars(nets)) for call in (w.teacher, w.student))
    calibrate(torch, teacher, samples(w)[0][:min(w.batch, 32)])
    return teacher.eval().requires_grad_(False), student.train()


def calibrate(torch, teacher, x):
    """Running statistics of a random teacher: those of a batch, so that its activations keep a normal size."""
    norms = [m for m in teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    if norms:
        with torch.no_grad():
            teacher.train()(x)
    for m in norms:
        m.momentum = 0.1


def samples(w):
    """(x, y) as tensors, w.batches batches of them."""
    import torch
    random, n = torch.Generator().manual_seed(SEED), w.batch * w.batches
    if w.words:
        x = torch.randint(0, w.words, (n, *w.sample), generator=random)
    else:
        x = torch.randn((n, *w.sample), generator=random)
    if w.target:
        return x, 0.1 * torch.randn((n, *w.target), generator=random)
    labels = torch.randint(0, w.classes, (n,), generator=random)
    labels[-1] = w.classes - 1  # the job without a teacher counts classes by the labels
    return x, labels


def settings_of(w):
    """The job of `distill`, "section.key" to value; files lie where it runs."""
    keys = {"data.train": "x.npy", "data.labels": "y.npy", "data.val": "val_x.npy", "data.val_labels": "val_y.npy",
            "teacher.path": "teacher.onnx", "teacher.precision": w.precision, "student.onnx": "student.onnx", "train.batch": w.batch, "train.epochs": 1000000,
            "train.optimizer": w.optimizer, "train.lr": w.rate, "train.weight_decay": w.weight_decay, "train.no_decay": "",
            "train.schedule": "constant", "distill.task": w.task, "distill.kd": w.kd,
            "distill.temperature": w.temperature, "distill.task_loss": w.task_loss}
    if w.optimizer == "sgd":
        keys.update({"train.momentum": 0.9, "train.nesterov": "false"})
    for n, hint in enumerate(w.hints, 1):
        keys.update({f"hint.{n}.student": f"feature{n}", f"hint.{n}.teacher": f"feature{n}", f"hint.{n}.weight": hint.weight,
                     f"hint.{n}.regressor": hint.regressor})
    return keys


def plain_settings_of(w):
    """The same student, trained without a teacher."""
    keys = {k: v for k, v in settings_of(w).items() if not k.startswith(("hint.", "teacher."))}
    return {**keys, "distill.task": 1, "distill.kd": 0}


def job_text(w, settings):
    lines, section = [f"; {w.title}, made by tools/bench"], None
    for key, value in sorted(settings.items()):
        *of, name = key.split(".")
        if of != section:
            section = of
            lines += ["", f"[{' '.join(section)}]"]
        lines.append(f"{name} = {value}".rstrip())
    return "\n".join(lines) + "\n"


def facts_of(w, teacher, student, networks):
    """What the tables need; operations are those of one batch."""
    return {"name": w.name, "batch": w.batch, "transposed": student.transposed,
            "teacher_operations": teacher.forward, "student_operations": student.training,
            "teacher_elements": teacher.elements, "student_elements": student.elements,
            "teacher_parameters": sum(p.numel() for p in networks[0].parameters()),
            "student_parameters": sum(p.numel() for p in networks[1].parameters())}


def generate(w, folder):
    import torch
    from bench_lib import npy
    from bench_lib.to_onnx import to_onnx
    os.makedirs(folder, exist_ok=True)
    x, y = samples(w)
    pair = networks(w)
    written = [to_onnx(net, x[:w.batch]) for net in pair]
    for name, each in zip(("teacher.onnx", "student.onnx"), written):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(each.model.encode())
    for name, net in zip(("teacher.pt", "student.pt"), pair):
        torch.save(net.state_dict(), os.path.join(folder, name))
    for name, array in (("x", x), ("y", y), ("val_x", x[:2]), ("val_y", y[:2])):
        npy.save(os.path.join(folder, f"{name}.npy"), array)
    for name, settings in (("job.ini", settings_of(w)), ("plain.ini", plain_settings_of(w))):
        with open(os.path.join(folder, name), "w") as f:
            f.write(job_text(w, settings))
    facts = facts_of(w, *written, pair)
    with open(os.path.join(folder, "facts.json"), "w") as f:
        json.dump(facts, f)
    return facts


def main():
    folder, names = sys.argv[1], sys.argv[2:] or workloads.NAMES
    for name in names:
        facts = generate(named(name), os.path.join(folder, name))
        total = facts["teacher_operations"] + facts["student_operations"]
        print(f"{name}: teacher {facts['teacher_parameters']:,} parameters, student {facts['student_parameters']:,}; "
              f"{total / 1e9:.4g} GF a step")


if __name__ == "__main__":
    main()
