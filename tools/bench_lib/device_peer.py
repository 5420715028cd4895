"""One PyTorch setting on a GPU (or, to try this file, on the CPU), in a process of its own.

    python3 -m bench_lib.device_peer FOLDER WORKLOAD SETTING DEVICE

Settings are words joined by '+': fp32, tf32 or half (autocast to the workload's narrow type, with a scaled loss for float16);
channels_last; one of compile, max-autotune, reduce-overhead (torch.compile of teacher, student and losses as one function).
All have the fused optimizer and take their batches as slices of a tensor on the device; nothing waits for a step.

Says {"loss", "version", "first_call_seconds"} after three steps, then for a line N {"ms": [mean of N steps], "device_bytes"}."""
import json
import os
import sys
import time

from bench_lib.peer import answers, load, loss_function, optimizer_of, to_channels_last
from bench_lib.workloads import named

MODES = {"compile": "default", "max-autotune": "max-autotune", "reduce-overhead": "reduce-overhead"}


def to_device(w, folder, device, channels_last):
    """(teacher, student, x, y)"""
    parts = load(w, folder)
    return [part.to(device) for part in (to_channels_last(*parts) if channels_last else parts)]


class Step:
    def __init__(self, w, words, folder, device):
        import torch
        self.torch, self.w, self.device, self.at = torch, w, device, 0
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = "tf32" in words
        torch.backends.cudnn.benchmark = True
        self.teacher, self.student, self.x, self.y = to_device(w, folder, device, "channels_last" in words)
        self.optimizer = optimizer_of(w, self.student)
        kind = getattr(torch, {"fp16": "float16", "bf16": "bfloat16"}[w.half])
        self.scaler = torch.amp.GradScaler(device, enabled="half" in words and w.half == "fp16")
        losses = loss_function(w, self.student)

        def loss_of(x, y):
            with torch.autocast(device, dtype=kind, enabled="half" in words):
                with torch.no_grad():
                    told = answers(self.teacher, x)
                return losses(x, y, told)["total"]

        mode = next((MODES[word] for word in words if word in MODES), None)
        self.loss_of = torch.compile(loss_of, mode=mode, dynamic=False) if mode else loss_of

    def step(self):
        n, b = self.at % self.w.batches, self.w.batch
        self.at += 1
        self.torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of(self.x[n * b:(n + 1) * b], self.y[n * b:(n + 1) * b])
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def timed(self, n):
        self.wait()
        began = time.perf_counter()
        for _ in range(n):
            self.step()
        self.wait()
        return {"ms": [1e3 * (time.perf_counter() - began) / n],
                "device_bytes": self.torch.cuda.max_memory_reserved() if self.device == "cuda" else 0}


def main():
    import warnings
    warnings.simplefilter("ignore")
    folder, name, words, device = sys.argv[1], sys.argv[2], sys.argv[3].split("+"), sys.argv[4]
    import torch
    began = time.perf_counter()
    setting = Step(named(name), words, folder, device)
    loss = setting.step().item()
    setting.timed(2)
    print(json.dumps({"loss": loss, "version": torch.__version__, "first_call_seconds": time.perf_counter() - began}), flush=True)
    for line in sys.stdin:
        print(json.dumps(setting.timed(int(line))), flush=True)
    os._exit(0)  # helpers of torch.compile need not be waited for


if __name__ == "__main__":
    main()
