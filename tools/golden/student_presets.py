#!/usr/bin/env python3
"""Parameters and multiply-accumulates of the student presets, written as PyTorch modules from the papers.

    python3 tools/golden/student_presets.py

prints the rows of tests/test_student.c. Needs torch. (MobileNetV2 at width 1 with 1000 classes has torchvision's 3,504,872
parameters.) MACs: for every Conv2d and Linear, elements of its output times
the weights that each of them uses (weight elements / output channels); nothing else counts.
"""
import torch
from torch import nn
import torch.nn.functional as F

def cbr(i, o, k=3, s=1, g=1, act=nn.ReLU):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), *([act()] if act else []))

class Basic(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.a = nn.Sequential(cbr(i, o, 3, s), cbr(o, o, 3, 1, act=None))
        self.s = cbr(i, o, 1, s, act=None) if s != 1 or i != o else nn.Identity()
    def forward(self, x):
        return F.relu(self.a(x) + self.s(x))

class Pre(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.b1, self.c1 = nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, s, 1, bias=False)
        self.b2, self.c2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.s = nn.Conv2d(i, o, 1, s, bias=False) if s != 1 or i != o else None
    def forward(self, x):
        h = F.relu(self.b1(x))
        y = self.c2(F.relu(self.b2(self.c1(h))))
        return y + (self.s(h) if self.s else x)

class Separable(nn.Sequential):
    def __init__(self, i, o, s):
        super().__init__(cbr(i, i, 3, s, i), cbr(i, o, 1))

def staged(block, cin, stem, widths, n, stem_stride, classes, pre=False):
    m = [nn.Conv2d(cin, stem, 3, stem_stride, 1, bias=False)] + ([] if pre else [nn.BatchNorm2d(stem), nn.ReLU()])
    i = stem
    for k, w in enumerate(widths):
        for b in range(n):
            m.append(block(i, w, 2 if k and not b else 1))
            i = w
    if pre:
        m += [nn.BatchNorm2d(i), nn.ReLU()]
    return nn.Sequential(*m, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, classes))

def cnn(cin, widths, n, stride, classes, hidden=()):
    m, i = [], cin
    for k, w in enumerate(widths):
        if k:
            m.append(nn.MaxPool2d(2))
        for b in range(n):
            m.append(cbr(i, w, 3, stride if not k and not b else 1))
            i = w
    m += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    for h in hidden:
        m += [nn.Linear(i, h), nn.ReLU()]
        i = h
    return nn.Sequential(*m, nn.Linear(i, classes))

def mlp(features, hidden, classes):
    m, i = [nn.Flatten()], features
    for h in hidden:
        m += [nn.Linear(i, h), nn.ReLU()]
        i = h
    return nn.Sequential(*m, nn.Linear(i, classes))

def divisible(v):
    n = max(8, int(v + 4) // 8 * 8)
    return n + 8 if n < 0.9 * v else n

class Inverted(nn.Module):
    def __init__(self, i, o, s, t):
        super().__init__()
        h, r = i * t, nn.ReLU6
        self.a = nn.Sequential(*([cbr(i, h, 1, act=r)] if t != 1 else []), cbr(h, h, 3, s, h, act=r), cbr(h, o, 1, act=None))
        self.add = s == 1 and i == o
    def forward(self, x):
        return x + self.a(x) if self.add else self.a(x)

def mobile(width, classes, small, cin=3):
    i = divisible(32 * width)
    m = [cbr(cin, i, 3, 1 if small else 2, act=nn.ReLU6)]
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for k, (t, c, n, s) in enumerate(table):
        for b in range(n):
            m.append(Inverted(i, divisible(c * width), 1 if b or (small and k == 1) else s, t))
            i = divisible(c * width)
    last = divisible(1280 * max(1.0, width))
    m += [cbr(i, last, 1, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes)]
    return nn.Sequential(*m)

def measure(m, *sample):
    macs = 0
    def hook(mod, args, out):
        nonlocal macs
        macs += out.numel() * (mod.weight.numel() // mod.weight.shape[0])
    for x in m.modules():
        if isinstance(x, (nn.Conv2d, nn.Linear)):
            x.register_forward_hook(hook)
    m.eval()(torch.zeros(1, *sample))
    return sum(p.numel() for p in m.parameters()), macs

rows = [
    ("mlp 256 128", mlp(784, (256, 128), 10), (1, 28, 28)),
    ("mlp 300 100 50 x 0.5", mlp(20, (150, 50, 25), 3), (20, 1, 1)),
    ("cnn", cnn(1, (16, 32, 64), 1, 1, 10), (1, 28, 28)),
    ("cnn depth 4, widths 8 24, stride 2, hidden 32", cnn(3, (8, 24), 2, 2, 7, (32,)), (3, 32, 32)),
    ("resnet-8 16 24 32 stem 2", staged(Basic, 1, 16, (16, 24, 32), 1, 2, 10), (1, 28, 28)),
    ("resnet-20", staged(Basic, 3, 16, (16, 32, 64), 3, 1, 10), (3, 32, 32)),
    ("resnet-110", staged(Basic, 3, 16, (16, 32, 64), 18, 1, 10), (3, 32, 32)),
    ("resnet-20 preact", staged(Pre, 3, 16, (16, 32, 64), 3, 1, 10, True), (3, 32, 32)),
    ("resnet depth 18, widths 64 128 256 512", staged(Basic, 3, 64, (64, 128, 256, 512), 2, 1, 100), (3, 32, 32)),
    ("wrn-16-4", staged(Pre, 3, 16, (64, 128, 256), 2, 1, 10, True), (3, 32, 32)),
    ("wrn-40-2", staged(Pre, 3, 16, (32, 64, 128), 6, 1, 100, True), (3, 32, 32)),
    ("mobilenetv2 1.0 224", mobile(1.0, 1000, False), (3, 224, 224)),
    ("mobilenetv2 0.35 32", mobile(0.35, 10, True, 1), (1, 32, 32)),
    ("dscnn", staged(Separable, 1, 64, (64,), 4, 2, 12), (1, 49, 10)),
    ("dscnn depth 6, widths 24 48 96", staged(Separable, 3, 24, (24, 48, 96), 2, 2, 10), (3, 32, 32)),
]
if __name__ == "__main__":
    for name, m, sample in rows:
        print("%-48s %10d %12d" % ((name,) + measure(m, *sample)))
