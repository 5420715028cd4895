"""The workloads: what is distilled from what, on which batch, with which losses. Only names and numbers: this file is
also read by the process that measures, which must not load torch."""
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Hint:
    """Feature k of both networks; weight of the mean squared error. `regressor`: shape of the learned layer."""
    weight: float = 1.0
    regressor: str = "none"  # none, conv1x1


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    teacher: str  # a call in nets.py
    student: str
    batch: int
    sample: tuple  # shape of one sample
    classes: int = 10
    threads: int = 2
    hints: tuple = ()
    task: float = 0.1
    kd: float = 0.9
    temperature: float = 4.0
    task_loss: str = "ce"  # ce, l1
    optimizer: str = "sgd"  # sgd (momentum 0.9), adamw
    rate: float = 0.01
    weight_decay: float = 5e-4
    target: tuple = ()  # shape of one sample's dense target
    words: int = 0  # token input: numbers below this
    precision: str = "fp32"  # of the teacher, on both sides: fp32, bf16
    batches: int = 4  # batches in the data set; an epoch takes them in a new order
    aim: float = 0.0  # ratio to the best PyTorch that is aimed at
    half: str = "fp16"  # the narrow type of training on a device: fp16, bf16
    device_batch: int = 128  # on a GPU
    device_aim: float = 0.0
    quick: tuple = ("channels_last",)  # settings of PyTorch that --quick takes, each also with mimalloc


BERT = Workload("bert12-6", "BERT-base -> 6 layers, 128 tokens, 6 hidden states", "Bert(12)", "Bert(6)", 8, (128,), classes=2,
                words=30522, hints=(Hint(),) * 6, optimizer="adamw", rate=1e-4, weight_decay=0.01, half="bf16", device_batch=64, device_aim=1.2,
                aim=1.15, quick=("eager", "compile"))

ALL = (
    Workload("digits-mlp", "MLP 64-256-256-10 -> 64-32-10", "mlp(64, 256, 256, 10)", "mlp(64, 32, 10)", 128, (64,),
             threads=1, batches=16, aim=4, device_aim=5, quick=("compile",)),
    Workload("fmnist-cnn", "CNN 32/64/256 -> 8/16/64, 28x28", "small_cnn(32, 64, 256)", "small_cnn(8, 16, 64)", 128,
             (1, 28, 28), batches=16, aim=2.5, device_aim=4,
             quick=("compile+channels_last",)),
    Workload("cifar-r56-r20", "ResNet-56 -> ResNet-20, 32x32", "cifar_resnet(56)", "cifar_resnet(20)", 128, (3, 32, 32),
             aim=3, device_aim=2.5, quick=("channels_last", "compile+channels_last")),
    Workload("cifar-wrn-mbv2", "WRN-28-4 -> MobileNetV2 x0.5 and hint, 32x32", "wide_resnet(28, 4, 100)",
             "mobilenet_v2(0.5, 100)", 64, (3, 32, 32), classes=100, hints=(Hint(regressor="conv1x1"),), aim=2.5, device_aim=2),
    Workload("in-r50-r18", "ResNet-50 -> ResNet-18, 224x224", "imagenet_resnet((3, 4, 6, 3), True)",
             "imagenet_resnet((2, 2, 2, 2), False)", 16, (3, 224, 224), classes=1000, batches=2, aim=1.8,
             device_batch=256, device_aim=1.6),
    BERT,
    replace(BERT, name="bert12-6-bf16", title=f"{BERT.title}, both teachers in bfloat16", precision="bf16", aim=1.5),
    Workload("hifigan", "HiFi-GAN V1 -> quarter width, 8192 samples, 4 features", "hifigan(512)", "hifigan(128)", 2, (80, 32),
             classes=0, hints=(Hint(regressor="conv1x1"),) * 4, task=1, kd=0, task_loss="l1", target=(1, 8192),
             optimizer="adamw", rate=1e-4, weight_decay=0.01, aim=1.8, device_batch=16, device_aim=2),
)
NAMES = [w.name for w in ALL]

# On a device: with larger batches; and so small that an emulator makes some steps of it.
DEVICE_NAMES = [name for name in NAMES if name != "bert12-6-bf16"]
TINY = {
    "digits-mlp": {"teacher": "mlp(64, 32, 10)", "student": "mlp(64, 16, 10)"},
    "fmnist-cnn": {"teacher": "small_cnn(4, 8, 16)", "student": "small_cnn(2, 4, 8)"},
    "cifar-r56-r20": {"teacher": "cifar_resnet(8)", "student": "cifar_resnet(8)", "sample": (3, 8, 8)},
    "cifar-wrn-mbv2": {"teacher": "wide_resnet(10, 1, 10)", "student": "mobilenet_v2(0.25, 10)", "sample": (3, 8, 8), "classes": 10},
    "in-r50-r18": {"teacher": "imagenet_resnet((1, 1, 1, 1), True)", "student": "imagenet_resnet((1, 1, 1, 1), False)",
                   "sample": (3, 32, 32)},
    "bert12-6": {"teacher": "Bert(2, 24, 48, 3, 50, 6, 2, 2)", "student": "Bert(2, 24, 48, 3, 50, 6, 2, 2)", "sample": (6,), "words": 50,
                 "hints": (Hint(),) * 2},
    "hifigan": {"teacher": "hifigan(16, 5)", "student": "hifigan(16, 5)", "sample": (5, 2), "target": (1, 512)},
}


def named(name):
    """NAME, NAME@device or NAME@tiny."""
    name, _, form = name.partition("@")
    w = next(w for w in ALL if w.name == name)
    if form == "tiny":
        return replace(w, name=f"{name}@tiny", batch=2, batches=2, **TINY[name])
    return replace(w, name=f"{name}@device", batch=w.device_batch, batches=min(w.batches, 4)) if form else w
