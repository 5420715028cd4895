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
    quick: tuple = ("channels_last",)  # settings of PyTorch that --quick takes, each also with mimalloc


BERT = Workload("bert12-6", "BERT-base -> 6 layers, 128 tokens, 6 hidden states", "Bert(12)", "Bert(6)", 8, (128,), classes=2,
                words=30522, hints=(Hint(),) * 6, optimizer="adamw", rate=1e-4, weight_decay=0.01,
                aim=1.15, quick=("eager", "compile"))

ALL = (
    Workload("digits-mlp", "MLP 64-256-256-10 -> 64-32-10", "mlp(64, 256, 256, 10)", "mlp(64, 32, 10)", 128, (64,),
             threads=1, batches=16, aim=4, quick=("compile",)),
    Workload("fmnist-cnn", "CNN 32/64/256 -> 8/16/64, 28x28", "small_cnn(32, 64, 256)", "small_cnn(8, 16, 64)", 128,
             (1, 28, 28), batches=16, aim=2.5,
             quick=("compile+channels_last",)),
    Workload("cifar-r56-r20", "ResNet-56 -> ResNet-20, 32x32", "cifar_resnet(56)", "cifar_resnet(20)", 128, (3, 32, 32),
             aim=3, quick=("channels_last", "compile+channels_last")),
    Workload("cifar-wrn-mbv2", "WRN-28-4 -> MobileNetV2 x0.5 and hint, 32x32", "wide_resnet(28, 4, 100)",
             "mobilenet_v2(0.5, 100)", 64, (3, 32, 32), classes=100, hints=(Hint(regressor="conv1x1"),), aim=2.5),
    Workload("in-r50-r18", "ResNet-50 -> ResNet-18, 224x224", "imagenet_resnet((3, 4, 6, 3), True)",
             "imagenet_resnet((2, 2, 2, 2), False)", 16, (3, 224, 224), classes=1000, batches=2, aim=1.8),
    BERT,
    replace(BERT, name="bert12-6-bf16", title=f"{BERT.title}, both teachers in bfloat16", precision="bf16", aim=1.5),
    Workload("hifigan", "HiFi-GAN V1 -> quarter width, 8192 samples, 4 features", "hifigan(512)", "hifigan(128)", 2, (80, 32),
             classes=0, hints=(Hint(regressor="conv1x1"),) * 4, task=1, kd=0, task_loss="l1", target=(1, 8192),
             optimizer="adamw", rate=1e-4, weight_decay=0.01, aim=1.8),
)
NAMES = [w.name for w in ALL]


def named(name):
    return next(w for w in ALL if w.name == name)
