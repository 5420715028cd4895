"""As much of the ONNX file format as to_onnx.py writes: messages as lists of (field, value), encoded as protobuf. Numbers
of fields are those of onnx.proto."""
import struct
from dataclasses import dataclass, field

from bench_lib.npy import raw

FLOAT, INT64 = 1, 7  # TensorProto.DataType
KINDS = {"torch.float32": FLOAT, "torch.int64": INT64}


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def number(at, n):
    return varint(at << 3) + varint(n)


def real(at, x):
    return varint(at << 3 | 5) + struct.pack("<f", x)


def block(at, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(at << 3 | 2) + varint(len(data)) + data


def attribute(name, value):
    """Floats, integers and lists of these."""
    if isinstance(value, float):
        return block(1, name) + real(2, value) + number(20, 1)
    if isinstance(value, int):
        return block(1, name) + number(3, value) + number(20, 2)
    return block(1, name) + b"".join(number(8, v) for v in value) + number(20, 7)


@dataclass
class Tensor:
    name: str
    data: object  # a torch tensor

    def encode(self):
        return (b"".join(number(1, d) for d in self.data.shape) + number(2, KINDS[str(self.data.dtype)]) + block(8, self.name)
                + block(9, raw(self.data)))


@dataclass
class Node:
    op: str
    input: list
    output: list
    attributes: dict

    def encode(self):
        return (b"".join(block(1, v) for v in self.input) + b"".join(block(2, v) for v in self.output) + block(3, self.output[0])
                + block(4, self.op) + b"".join(block(5, attribute(k, v)) for k, v in self.attributes.items()))


@dataclass
class Port:
    """An input or output; its dimensions are numbers or names."""
    name: str
    kind: int
    shape: list

    def encode(self):
        dims = b"".join(block(1, block(2, d) if isinstance(d, str) else number(1, d)) for d in self.shape)
        return block(1, self.name) + block(2, block(1, number(1, self.kind) + block(2, dims)))


@dataclass
class Model:
    opset: int
    inputs: list
    outputs: list
    node: list = field(default_factory=list)
    initializer: list = field(default_factory=list)

    def encode(self):
        parts = ((1, self.node), (5, self.initializer), (11, self.inputs), (12, self.outputs))
        graph = block(2, "net") + b"".join(block(at, each.encode()) for at, all in parts for each in all)
        return (number(1, 9) + block(2, "tools/bench") + block(7, graph)
                + block(8, block(1, "") + number(2, self.opset)))
