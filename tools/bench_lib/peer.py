"""One PyTorch setting in a process of its own: makes the first step, says so, then makes steps when it is told to.

    python3 -m bench_lib.peer FOLDER WORKLOAD SETTING THREADS

Settings are words joined by '+': eager, channels_last, compile (teacher; student with loss), freeze (with compile: the
teacher's weights become constants, torch._inductor freezing), trace (the teacher by torch.jit trace, freeze and
optimize_for_inference); mimalloc is the caller's, who preloads it. A workload's `precision` is that of the teacher in all of
them. All have the fused optimizer and take their batches
as slices of a tensor in memory.

Answers are lines of JSON: first {loss, first_call_seconds, import_seconds, version}, then for a line "N" {"ms": [N]}
and for "known N" the same with the teacher's answers at hand."""
import json
import os
import sys
import time

from bench_lib.workloads import named


def load(w, folder):
    """(teacher, student with regressors, x, y): networks with the stored weights of generate.py."""
    import torch
    from bench_lib import nets, npy

    def network(call, file):
        with torch.device("meta"):
            net = eval(call, {"__builtins__": {}}, vars(nets))
        net.load_state_dict(torch.load(os.path.join(folder, file), weights_only=True), assign=True)
        return net

    x, y = (npy.load(os.path.join(folder, f)) for f in ("x.npy", "y.npy"))
    teacher = network(w.teacher, "teacher.pt").eval().requires_grad_(False)
    student = network(w.student, "student.pt").train()
    return teacher, Regressed(w, student, teacher, x[:1]), x, y


def regressor_of(torch, hint, student, teacher):
    """The layer that brings a feature of the student to the teacher's channels."""
    if hint.regressor == "none":
        return torch.nn.Identity()
    layer = torch.nn.Conv2d if student.dim() == 4 else torch.nn.Conv1d
    return layer(student.shape[1], teacher.shape[1], 1)


def Regressed(w, student, teacher, x):
    import torch

    class With(torch.nn.Module):
        """The student, its features as the teacher's are shaped."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.student = student
            with torch.no_grad():
                mine, its = student.eval()(x)[1], teacher(x)[1]
            student.train()
            self.regress = torch.nn.ModuleList(regressor_of(torch, *each) for each in zip(w.hints, mine, its))

        def forward(self, x):
            out, features = self.student(x)
            return out, [r(f) for r, f in zip(self.regress, features)]

    return With()


def answers(teacher, x):
    """(output, features) of a teacher in any precision, in float32 or wider."""
    kind = next(teacher.parameters()).dtype if hasattr(teacher, "parameters") else x.dtype
    out, features = teacher(x.to(kind) if x.is_floating_point() else x)
    wide = (lambda t: t.float() if t.element_size() < 4 else t)
    return wide(out), [wide(f) for f in features]


def loss_function(w, student):
    """(x, y, (teacher's output, its features)) -> {"total": ..., "task": ..., "kl": ..., "hint.1": ...}"""
    import torch.nn.functional as F
    t = w.temperature

    def losses(x, y, told):
        out, features = student(x)
        parts = {"task": F.cross_entropy(out, y) if w.task_loss == "ce" else F.l1_loss(out, y)}
        total = w.task * parts["task"]
        if w.kd:
            parts["kl"] = t * t * F.kl_div(F.log_softmax(out / t, 1), F.softmax(told[0] / t, 1), reduction="batchmean")
            total = total + w.kd * parts["kl"]
        for n, (hint, mine, its) in enumerate(zip(w.hints, features, told[1]), 1):
            parts[f"hint.{n}"] = F.mse_loss(mine, its)
            total = total + hint.weight * parts[f"hint.{n}"]
        return {"total": total, **parts}

    return losses


def as_images(torch, net):
    """1-d convolutions as 2-d ones of one row, because channels_last exists for images only."""
    for name, m in net.named_children():
        if isinstance(m, (torch.nn.Conv1d, torch.nn.ConvTranspose1d)):
            made = torch.nn.Conv2d if isinstance(m, torch.nn.Conv1d) else torch.nn.ConvTranspose2d
            new = made(m.in_channels, m.out_channels, (1, *m.kernel_size), (1, *m.stride), (0, *m.padding),
                       dilation=(1, *m.dilation), bias=m.bias is not None)
            grads = m.weight.requires_grad
            new.load_state_dict({k: v.unsqueeze(2) if v.dim() == 3 else v for k, v in m.state_dict().items()})
            setattr(net, name, new.requires_grad_(grads))
        else:
            as_images(torch, m)
    return net


def to_channels_last(teacher, student, x, y):
    import torch
    if x.dim() == 3:
        as_images(torch, teacher), as_images(torch, student)
        x, y = x.unsqueeze(2), y.unsqueeze(2) if y.dim() == 3 else y
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    return (*(net.to(memory_format=torch.channels_last) for net in (teacher, student)), x, y)


def optimizer_of(w, student):
    import torch
    make = torch.optim.AdamW if w.optimizer == "adamw" else torch.optim.SGD
    more = {} if w.optimizer == "adamw" else {"momentum": 0.9}
    return make(student.parameters(), w.rate, weight_decay=w.weight_decay, fused=True, **more)


class Setting:
    """A setting, ready to step."""

    def __init__(self, w, words, folder, threads):
        import torch
        torch.set_num_threads(threads)
        self.w, self.torch, self.words = w, torch, words
        self.teacher, self.student, self.x, self.y = load(w, folder)
        if "channels_last" in words:
            self.teacher, self.student, self.x, self.y = to_channels_last(self.teacher, self.student, self.x, self.y)
        if w.precision == "bf16":
            self.teacher = self.teacher.bfloat16()
        self.losses = loss_function(w, self.student)
        self.optimizer = optimizer_of(w, self.student)
        self.known, self.at = [], 0
        if "trace" in words:
            self.trace()
        if "compile" in words:
            self.teacher, self.losses = torch.compile(self.teacher), torch.compile(self.losses)

    def trace(self):
        torch, net = self.torch, self.teacher

        class Flat(torch.nn.Module):  # a traced module gives no empty list
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, x):
                out, features = self.net(x)
                return (out, *features)

        with torch.no_grad():
            traced = torch.jit.trace(Flat().eval(), self.x[:self.w.batch])
            traced = torch.jit.optimize_for_inference(torch.jit.freeze(traced))

        def teacher(x):
            got = traced(x)
            return (got[0], list(got[1:])) if isinstance(got, tuple) else (got, [])
        self.teacher = teacher

    def told(self, x):
        with self.torch.no_grad():
            return answers(self.teacher, x)

    def step(self, known=False):
        """The next batch, from its choice to updated weights; returns the loss."""
        n, b = self.at % self.w.batches, self.w.batch
        self.at += 1
        x, y = self.x[n * b:(n + 1) * b], self.y[n * b:(n + 1) * b]
        loss = self.losses(x, y, self.known[n] if known else self.told(x))["total"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss

    def first(self):
        config = self.torch._inductor.config if "freeze" in self.words else None
        if config:
            config.freezing = True
            self.told(self.x[:self.w.batch])
            config.freezing = False
        return self.step().item()

    def timed(self, n, known):
        if known and not self.known:
            for k in range(self.w.batches):
                out, features = self.told(self.x[k * self.w.batch:(k + 1) * self.w.batch])
                self.known.append((out.clone(), [f.clone() for f in features]))
        ms = []
        for _ in range(n):
            began = time.perf_counter()
            self.step(known)
            ms.append(1e3 * (time.perf_counter() - began))
        return ms


def say(answer):
    print(json.dumps(answer), flush=True)


def main():
    import warnings
    warnings.simplefilter("ignore")
    folder, name, words, threads = sys.argv[1], sys.argv[2], sys.argv[3].split("+"), int(sys.argv[4])
    began = time.perf_counter()
    import torch
    if "freeze" in words:
        import torch._inductor.config
    imported = time.perf_counter()
    setting = Setting(named(name), words, folder, threads)
    ready = time.perf_counter()
    loss = setting.first()
    done = time.perf_counter()
    say({"loss": loss, "import_seconds": imported - began, "first_call_seconds": done - ready, "version": torch.__version__})
    for line in sys.stdin:
        *how, n = line.split()
        say({"ms": setting.timed(int(n), bool(how))})


if __name__ == "__main__":
    main()
