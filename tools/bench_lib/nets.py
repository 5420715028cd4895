"""The networks of the workloads, as a PyTorch user writes them. `Net` says which values a hint may look at: forward
returns the output and a list of features."""
import torch
import torch.nn.functional as F
from torch import nn


def conv(i, o, size, stride=1, groups=1):
    return nn.Conv2d(i, o, size, stride, size // 2, groups=groups, bias=False)


def conv_norm(i, o, size, stride=1, groups=1, act=None):
    return [conv(i, o, size, stride, groups), nn.BatchNorm2d(o)] + ([act()] if act else [])


def pool_and_classify(channels, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


class Net(nn.Module):
    """Parts in a row; the outputs of the parts in `hints` are features."""

    def __init__(self, parts, hints=()):
        super().__init__()
        self.parts, self.hints = nn.ModuleDict(parts), tuple(hints)

    def forward(self, x):
        features = []
        for name, part in self.parts.items():
            x = part(x)
            if name in self.hints:
                features.append(x)
        return x, features


def mlp(*sizes):
    layers = []
    for n, (i, o) in enumerate(zip(sizes, sizes[1:])):
        layers += [nn.Linear(i, o)] + ([nn.ReLU()] if n < len(sizes) - 2 else [])
    return Net({"all": nn.Sequential(*layers)})


def small_cnn(first, second, hidden):
    """28x28 grey: two convolutions, two poolings, two linear layers."""
    return Net({"features": nn.Sequential(*conv_norm(1, first, 3, act=nn.ReLU), nn.MaxPool2d(2),
                                          *conv_norm(first, second, 3, act=nn.ReLU), nn.MaxPool2d(2)),
                "head": nn.Sequential(nn.Flatten(), nn.Linear(second * 49, hidden), nn.ReLU(), nn.Linear(hidden, 10))})


class ShortcutA(nn.Module):
    """He et al. 2015, option A: every second pixel, missing channels are zeros."""

    def __init__(self, i, o):
        super().__init__()
        self.more = (o - i) // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more))


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x))"""

    def __init__(self, branch, shortcut=None):
        super().__init__()
        self.branch, self.shortcut = nn.Sequential(*branch), shortcut or nn.Identity()

    def forward(self, x):
        return F.relu(self.branch(x) + self.shortcut(x))


def cifar_resnet(depth, classes=10):
    """ResNet-(6n+2) on 32x32 with widths 16, 32, 64."""
    blocks, width = [], 16
    for stage, out in enumerate((16, 32, 64)):
        for n in range((depth - 2) // 6):
            down = stage > 0 and n == 0
            branch = conv_norm(width, out, 3, 2 if down else 1, act=nn.ReLU) + conv_norm(out, out, 3)
            blocks.append(Residual(branch, ShortcutA(width, out) if down else None))
            width = out
    return Net({"stem": nn.Sequential(*conv_norm(3, 16, 3, act=nn.ReLU)), "blocks": nn.Sequential(*blocks),
                "head": nn.Sequential(*pool_and_classify(64, classes))})


class WideBlock(nn.Module):
    """Zagoruyko and Komodakis 2016: normalisation and ReLU before each convolution."""

    def __init__(self, i, o, stride):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(i), conv(i, o, 3, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(o), conv(o, o, 3)
        self.shortcut = conv(i, o, 1, stride) if i != o else None

    def forward(self, x):
        a = F.relu(self.norm1(x))
        y = self.conv2(F.relu(self.norm2(self.conv1(a))))
        return y + (x if self.shortcut is None else self.shortcut(a))


def wide_resnet(depth, factor, classes):
    """Its feature is what the second group gives: 32*factor channels of 16x16."""
    n = (depth - 4) // 6

    def group(i, o, stride):
        return nn.Sequential(*(WideBlock(i if b == 0 else o, o, stride if b == 0 else 1) for b in range(n)))

    widths = [16 * factor, 32 * factor, 64 * factor]
    return Net({"stem": conv(3, 16, 3), "group1": group(16, widths[0], 1), "group2": group(widths[0], widths[1], 2),
                "group3": group(widths[1], widths[2], 2),
                "head": nn.Sequential(nn.BatchNorm2d(widths[2]), nn.ReLU(), *pool_and_classify(widths[2], classes))},
               hints=("group2",))


class Inverted(nn.Module):
    """Sandler et al. 2018: expand, depthwise, project; a shortcut where the shape stays."""

    def __init__(self, i, o, stride, expand):
        super().__init__()
        middle = i * expand
        layers = conv_norm(i, middle, 1, act=nn.ReLU6) if expand > 1 else []
        layers += conv_norm(middle, middle, 3, stride, middle, act=nn.ReLU6) + conv_norm(middle, o, 1)
        self.layers, self.same = nn.Sequential(*layers), stride == 1 and i == o

    def forward(self, x):
        return x + self.layers(x) if self.same else self.layers(x)


MOBILE_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(width, classes):
    """For 32x32: the first two strides are 1. Its feature: the 16x16 one."""
    def scaled(c):
        return max(8, int(c * width + 4) // 8 * 8)

    i = scaled(32)
    early, late = conv_norm(3, i, 3, act=nn.ReLU6), []
    for stage, (expand, out, count, stride) in enumerate(MOBILE_STAGES):
        for n in range(count):
            (early if stage < 3 else late).append(Inverted(i, scaled(out), stride if n == 0 else 1, expand))
            i = scaled(out)
    last = scaled(1280)
    return Net({"early": nn.Sequential(*early), "late": nn.Sequential(*late, *conv_norm(i, last, 1, act=nn.ReLU6)),
                "head": nn.Sequential(*pool_and_classify(last, classes))}, hints=("early",))


def imagenet_resnet(counts, bottleneck):
    """He et al. 2015 for 224x224, the stride of a bottleneck on its 3x3."""
    blocks, i = [], 64
    for stage, (count, width) in enumerate(zip(counts, (64, 128, 256, 512))):
        for n in range(count):
            stride, out = 2 if stage > 0 and n == 0 else 1, width * (4 if bottleneck else 1)
            if bottleneck:
                branch = (conv_norm(i, width, 1, act=nn.ReLU) + conv_norm(width, width, 3, stride, act=nn.ReLU)
                          + conv_norm(width, out, 1))
            else:
                branch = conv_norm(i, width, 3, stride, act=nn.ReLU) + conv_norm(width, width, 3)
            shortcut = nn.Sequential(*conv_norm(i, out, 1, stride)) if i != out or stride > 1 else None
            blocks.append(Residual(branch, shortcut))
            i = out
    return Net({"stem": nn.Sequential(*conv_norm(3, 64, 7, 2, act=nn.ReLU), nn.MaxPool2d(3, 2, 1)),
                "blocks": nn.Sequential(*blocks), "head": nn.Sequential(*pool_and_classify(i, 1000))})


# ---- transformer ----

class Encoder(nn.Module):
    """One layer of BERT: normalisation after each residual sum."""

    def __init__(self, width, wide, heads):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, wide), nn.Linear(wide, width)
        self.norm1, self.norm2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads

    def split(self, x):
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, x):
        a = F.scaled_dot_product_attention(self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x)))
        x = self.norm1(x + self.out(a.transpose(1, 2).flatten(2)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """Token numbers [batch, tokens] to class logits; six features, evenly spaced over the layers."""

    def __init__(self, layers, width=768, wide=3072, heads=12, words=30522, tokens=128, classes=2, features=6):
        super().__init__()
        self.embed, self.place = nn.Embedding(words, width), nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Encoder(width, wide, heads) for _ in range(layers))
        self.pool, self.classify, self.every = nn.Linear(width, width), nn.Linear(width, classes), layers // features

    def forward(self, tokens):
        x, features = self.norm(self.embed(tokens) + self.place), []
        for n, layer in enumerate(self.layers, 1):
            x = layer(x)
            if n % self.every == 0:
                features.append(x)
        return self.classify(torch.tanh(self.pool(x[:, 0]))), features


# ---- waveforms ----

def conv1d(i, o, size, dilation=1):
    return nn.Conv1d(i, o, size, 1, dilation * (size - 1) // 2, dilation)


class WaveBlock(nn.Module):
    """Kong et al. 2020, residual block 1: three dilations."""

    def __init__(self, channels, size):
        super().__init__()
        self.dilated = nn.ModuleList(conv1d(channels, channels, size, d) for d in (1, 3, 5))
        self.plain = nn.ModuleList(conv1d(channels, channels, size) for _ in range(3))

    def forward(self, x):
        for dilated, plain in zip(self.dilated, self.plain):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, 0.1)), 0.1))
        return x


class WaveStage(nn.Module):
    def __init__(self, i, o, stride, size):
        super().__init__()
        self.up = nn.ConvTranspose1d(i, o, size, stride, (size - stride) // 2)
        self.blocks = nn.ModuleList(WaveBlock(o, k) for k in (3, 7, 11))

    def forward(self, x):
        x = self.up(F.leaky_relu(x, 0.1))
        a, b, c = (block(x) for block in self.blocks)
        return (a + b + c) / 3


class WaveEnd(nn.Module):
    def __init__(self, i):
        super().__init__()
        self.conv = conv1d(i, 1, 7)

    def forward(self, x):
        return torch.tanh(self.conv(F.leaky_relu(x)))


def hifigan(channels, bands=80):
    """Mel bands [batch, 80, frames] to samples [batch, 1, 256 * frames]; four features, one after each stage."""
    parts, i = {"start": conv1d(bands, channels, 7)}, channels
    for n, (stride, size) in enumerate(((8, 16), (8, 16), (2, 4), (2, 4)), 1):
        parts[f"stage{n}"] = WaveStage(i, i // 2, stride, size)
        i //= 2
    parts["end"] = WaveEnd(i)
    return Net(parts, hints=("stage1", "stage2", "stage3", "stage4"))
