"""A PyTorch module as an ONNX model: torch.fx records what it calls, one rule per called thing writes the nodes.

Unlike torch.onnx it needs no further package, keeps batch norm in its trainable form, and every initializer has the name
of the parameter in state_dict (weights of token-wise linear layers are stored transposed, as MatMul wants them; `Written`
lists those). The rules also count multiplications and additions of convolutions and matrix products, 2 per pair."""
import copy
import math
import operator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from bench_lib.onnx_file import FLOAT, INT64, Model, Node, Port, Tensor

OPSET = 20  # Gelu is one operator from here on


@dataclass
class Written:
    model: Model
    transposed: list = field(default_factory=list)  # initializers that are the transpose of their parameter
    forward: float = 0  # operations of one batch forward
    first: float = 0  # of them those of layers that take the input itself, which need no gradient of it
    elements: int = 0  # that these layers give for one batch

    @property
    def training(self):
        """Forward, gradient of the weights, gradient of the inputs."""
        return 3 * self.forward - self.first


class Writer:
    def __init__(self, module, example):
        self.module = fx.symbolic_trace(module)
        shapes = fx.GraphModule(copy.deepcopy(self.module).to("meta"), copy.deepcopy(self.module.graph))
        ShapeProp(shapes).propagate(example.to("meta"))
        self.shape = {n.name: tuple(n.meta["tensor_meta"].shape) for n in shapes.graph.nodes
                      if hasattr(n.meta.get("tensor_meta"), "shape")}
        self.example, self.nodes, self.initializers = example, [], {}
        self.value, self.taken, self.written = {}, {}, Written(None)

    # -- pieces that the rules use --

    def new(self, name):
        """A value name that is not taken yet."""
        n = self.taken[name] = self.taken.get(name, 0) + 1
        return name if n == 1 else f"{name}.{n}"

    def add(self, op, inputs, name, **attributes):
        out = self.new(name)
        self.nodes.append(Node(op, inputs, [out], attributes))
        return out

    def constant(self, name, tensor):
        name = self.new(name)
        self.initializers[name] = tensor.contiguous()
        return name

    def integers(self, *numbers):
        return self.constant("numbers", torch.tensor(numbers, dtype=torch.int64))

    def scalar(self, number):
        return self.constant("number", torch.tensor(number, dtype=torch.float32))

    def parameter(self, name, transpose=False):
        if name not in self.initializers:
            tensor = self.module.state_dict()[name].detach()
            self.initializers[name] = (tensor.T if transpose else tensor).contiguous()
            if transpose:
                self.written.transposed.append(name)
        return name

    def weights(self, path, *names):
        have = self.module.state_dict()
        return [self.parameter(f"{path}.{n}") for n in names if f"{path}.{n}" in have]

    def count(self, node, operations):
        self.written.forward += operations
        self.written.elements += self.size(node)
        if node.args[0].op == "placeholder":
            self.written.first += operations

    def reshape(self, x, shape, name):
        return self.add("Reshape", [x, self.integers(0, *shape[1:])], name)

    # -- the walk --

    def write(self, output, features):
        names = self.names_of_results(output, features)
        inputs, results = [], []
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.value[node] = "input"
                kind = INT64 if self.example.dtype == torch.int64 else FLOAT
                inputs.append(Port("input", kind, ["N", *self.example.shape[1:]]))
            elif node.op == "get_attr":
                self.value[node] = self.parameter(node.target)
            elif node.op == "output":
                first = node.args[0][0]
                results.append(Port(output, FLOAT, ["N", *self.shape[first.name][1:]]))
            else:
                self.value[node] = self.convert(node, names.get(node, self.name_of(node)))
        kept = [Tensor(name, data) for name, data in self.initializers.items()]
        self.written.model = Model(OPSET, inputs, results, self.nodes, kept)
        return self.written

    def names_of_results(self, output, features):
        result = next(n for n in self.module.graph.nodes if n.op == "output").args[0]
        names = {result[0]: output}
        for n, feature in enumerate(result[1], 1):
            names[feature] = f"{features}{n}"
        return names

    def name_of(self, node):
        return node.target if node.op == "call_module" else node.name

    def convert(self, node, name):
        called = node.target
        if node.op == "call_module":
            called = type(self.module.get_submodule(node.target))
        rule = RULES.get(called)
        if not rule:
            raise NotImplementedError(f"to_onnx.py has no rule for {called}")
        return rule(self, node, name)

    def inputs(self, node):
        return [self.value[a] for a in node.args if isinstance(a, fx.Node)]

    def size(self, node):
        return math.prod(self.shape[node.name])


# ---- rules: (writer, node, name of the result) -> the result's name ----

RULES = {}


def rule(*called):
    def keep(function):
        RULES.update(dict.fromkeys(called, function))
        return function
    return keep


def simple(op, *called, **attributes):
    RULES.update(dict.fromkeys(called, lambda w, node, name: w.add(op, w.inputs(node), name, **attributes)))


simple("Relu", nn.ReLU, F.relu)
simple("Tanh", torch.tanh)
simple("Add", operator.add)
simple("Flatten", nn.Flatten)
simple("GlobalAveragePool", nn.AdaptiveAvgPool2d)
simple("Gelu", F.gelu)


@rule(nn.Identity)
def identity(w, node, name):
    return w.value[node.args[0]]


@rule(operator.truediv)
def divide(w, node, name):
    return w.add("Div", [w.value[node.args[0]], w.scalar(node.args[1])], name)


@rule(F.leaky_relu)
def leaky_relu(w, node, name):
    return w.add("LeakyRelu", w.inputs(node), name, alpha=node.kwargs["negative_slope"])


@rule(nn.ReLU6)
def relu6(w, node, name):
    return w.add("Clip", [w.value[node.args[0]], w.scalar(0), w.scalar(6)], name)


@rule(nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)
def convolution(w, node, name):
    m, x = w.module.get_submodule(node.target), node.args[0]
    transposed = isinstance(m, nn.ConvTranspose1d)
    places = w.size(x if transposed else node) // (m.in_channels if transposed else m.out_channels)
    w.count(node, 2 * m.weight.numel() * places)
    return w.add("ConvTranspose" if transposed else "Conv", [w.value[x], *w.weights(node.target, "weight", "bias")], name,
                 kernel_shape=m.kernel_size, strides=m.stride, dilations=m.dilation, pads=m.padding * 2, group=m.groups)


@rule(nn.BatchNorm2d)
def batch_norm(w, node, name):
    m = w.module.get_submodule(node.target)
    return w.add("BatchNormalization", [w.value[node.args[0]], *w.weights(node.target, "weight", "bias", "running_mean",
                                                                        "running_var")],
                 name, epsilon=m.eps, momentum=1 - m.momentum)


@rule(nn.LayerNorm)
def layer_norm(w, node, name):
    m = w.module.get_submodule(node.target)
    return w.add("LayerNormalization", [w.value[node.args[0]], *w.weights(node.target, "weight", "bias")], name, axis=-1,
                 epsilon=m.eps)


@rule(nn.MaxPool2d)
def max_pool(w, node, name):
    m = w.module.get_submodule(node.target)
    return w.add("MaxPool", w.inputs(node), name, kernel_shape=[m.kernel_size] * 2, strides=[m.stride] * 2,
                 pads=[m.padding] * 4)


@rule(nn.Linear)
def linear(w, node, name):
    m, x = w.module.get_submodule(node.target), node.args[0]
    w.count(node, 2 * m.weight.numel() * (w.size(x) // m.in_features))
    if len(w.shape[x.name]) == 2:
        return w.add("Gemm", [w.value[x], *w.weights(node.target, "weight", "bias")], name, transB=1)
    product = w.add("MatMul", [w.value[x], w.parameter(f"{node.target}.weight", transpose=True)], f"{name}.product")
    return w.add("Add", [product, w.parameter(f"{node.target}.bias")], name)


@rule(nn.Embedding)
def embedding(w, node, name):
    return w.add("Gather", [w.parameter(f"{node.target}.weight"), w.value[node.args[0]]], name, axis=0)


@rule(F.pad)
def pad(w, node, name):
    flat, rank = node.args[1], len(w.shape[node.name])
    pairs = [(0, 0)] * (rank - len(flat) // 2) + [tuple(flat[i:i + 2]) for i in range(len(flat) - 2, -1, -2)]
    return w.add("Pad", [w.value[node.args[0]], w.integers(*(p[0] for p in pairs), *(p[1] for p in pairs)), w.scalar(0)], name)


@rule(operator.getitem)
def index(w, node, name):
    """Slices and whole numbers, not both in one index."""
    x, parts = w.value[node.args[0]], node.args[1]
    cut = [(axis, s) for axis, s in enumerate(parts) if isinstance(s, slice) and s != slice(None)]
    if cut:
        shape = w.shape[node.args[0].name]
        of = [(axis, *s.indices(shape[axis])) for axis, s in cut]
        axes, starts, ends, steps = (w.integers(*column) for column in zip(*of))
        x = w.add("Slice", [x, starts, ends, axes, steps], name)
    for axis, at in enumerate(parts):
        if isinstance(at, int):
            x = w.add("Gather", [x, w.constant("number", torch.tensor(at, dtype=torch.int64))], name, axis=axis)
    return x


@rule("unflatten", "flatten")
def reshape(w, node, name):
    return w.reshape(w.value[node.args[0]], w.shape[node.name], name)


@rule("transpose")
def transpose(w, node, name):
    order = list(range(len(w.shape[node.name])))
    a, b = node.args[1:]
    order[a], order[b] = order[b], order[a]
    return w.add("Transpose", [w.value[node.args[0]]], name, perm=order)


@rule(F.scaled_dot_product_attention)
def attention(w, node, name):
    q, k, v = node.args
    batch, heads, tokens, size = w.shape[q.name]
    w.count(node, 4 * batch * heads * tokens * tokens * size)
    turned = w.add("Transpose", [w.value[k]], f"{name}.turned", perm=[0, 1, 3, 2])
    score = w.add("MatMul", [w.value[q], turned], f"{name}.product")
    scaled = w.add("Mul", [score, w.scalar(size**-0.5)], f"{name}.scaled")
    return w.add("MatMul", [w.add("Softmax", [scaled], f"{name}.softmax", axis=-1), w.value[v]], name)


def to_onnx(module, example, output="output", features="feature"):
    """`module` returns (output, [features]); `example`: one batch. The features are values named feature1, feature2 ..."""
    return Writer(module, example).write(output, features)
