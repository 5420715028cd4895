"""torch_step.py SETTING DEVICE - the demonstration's distillation step in PyTorch (random weights: only time counts), as many
as each line on standard input says; answers with their times. SETTING: parts joined by '+': eager, channels_last, amp, compile,
reduce-overhead."""
import json, sys, time
import torch
import torch.nn.functional as F
from torch import nn

BATCH, BATCHES, TEMPERATURE, WARM = 128, 64, 4.0, 10


class Block(nn.Module):
    def __init__(self, i, o, stride, norm):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(a, o, 3, s, 1, bias=not norm) for a, s in ((i, stride), (o, 1)))
        self.bn1, self.bn2 = (nn.BatchNorm2d(o) if norm else nn.Identity() for _ in range(2))
        self.short = nn.Identity()
        if i != o or stride != 1:
            self.short = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=not norm), *([nn.BatchNorm2d(o)] if norm else []))

    def forward(self, x):
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + self.short(x))


def resnet(stem_stride, stages, norm):
    width = stages[0][0]
    layers = [nn.Conv2d(1, width, 3, stem_stride, 1, bias=not norm), *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU()]
    for o, stride, blocks in stages:
        for k in range(blocks):
            layers.append(Block(width, o, stride if k == 0 else 1, norm))
            width = o
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def main():
    parts, device = sys.argv[1].split("+"), sys.argv[2]
    torch.backends.cudnn.benchmark = True
    teacher = resnet(1, ((16, 1, 1), (48, 2, 2), (96, 2, 2)), norm=False).to(device).eval().requires_grad_(False)
    student = resnet(2, ((16, 1, 1), (24, 2, 1), (32, 2, 1)), norm=True).to(device).train()
    x = torch.randn(BATCH * BATCHES, 1, 28, 28, device=device)
    if "channels_last" in parts:
        x, teacher, student = (v.to(memory_format=torch.channels_last) for v in (x, teacher, student))
    optimizer = torch.optim.SGD(student.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True)
    scaler = torch.amp.GradScaler(device, enabled="amp" in parts)

    def loss_of(images):
        with torch.amp.autocast(device, torch.float16, enabled="amp" in parts):
            with torch.no_grad():
                logits = teacher(images)
            own = student(images)
        return TEMPERATURE**2 * F.kl_div(F.log_softmax(own.float() / TEMPERATURE, 1), F.softmax(logits.float() / TEMPERATURE, 1),
                                         reduction="batchmean")

    if "compile" in parts or "reduce-overhead" in parts:
        loss_of = torch.compile(loss_of, mode="reduce-overhead" if "reduce-overhead" in parts else "max-autotune")

    def step(n):
        at = n % BATCHES * BATCH
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x[at:at + BATCH])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    for n in range(3):
        step(n)
    wait()
    print(json.dumps({"version": torch.__version__}), flush=True)
    count = 3
    for line in sys.stdin:
        steps = int(line)
        for _ in range(WARM):
            step(count)
            count += 1
        wait()
        began = time.perf_counter()
        for _ in range(steps):
            step(count)
            count += 1
        wait()
        each = 1e3 * (time.perf_counter() - began) / steps  # steps are queued: only their mean has a meaning
        print(json.dumps({"ms": [each] * steps}), flush=True)


main()
