"""Tests of tools/bench: what the generator writes computes what PyTorch computes, operations are counted right, and the
gate passes what is right and stops what is wrong.

    python3 tests/bench_gate.py DISTILL     with tools/ on PYTHONPATH; tests/check_bench runs it"""
import math
import os
import sys
import tempfile
import unittest

import numpy
import onnxruntime
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench_lib import gate, nets
from bench_lib.generate import generate, job_text, settings_of
from bench_lib.to_onnx import to_onnx
from bench_lib.workloads import ALL, named

DISTILL = os.path.abspath(sys.argv.pop(1))

# One of every kind, small: (network, shape of a batch, numbers below which tokens lie)
SMALL = {
    "mlp": (lambda: nets.mlp(5, 7, 3), (4, 5), 0),
    "small_cnn": (lambda: nets.small_cnn(3, 5, 11), (2, 1, 28, 28), 0),
    "cifar_resnet": (lambda: nets.cifar_resnet(8), (2, 3, 32, 32), 0),
    "wide_resnet": (lambda: nets.wide_resnet(10, 1, 7), (2, 3, 32, 32), 0),
    "mobilenet_v2": (lambda: nets.mobilenet_v2(0.25, 7), (2, 3, 32, 32), 0),
    "bottlenecks": (lambda: nets.imagenet_resnet((1, 1, 1, 1), True), (1, 3, 64, 64), 0),
    "basic blocks": (lambda: nets.imagenet_resnet((1, 1, 1, 1), False), (1, 3, 64, 64), 0),
    "bert": (lambda: nets.Bert(2, 24, 48, 3, 50, 6, 2, 2), (2, 6), 50),
    "hifigan": (lambda: nets.hifigan(16, 5), (2, 5, 3), 0),
}


def example(shape, words):
    torch.manual_seed(3)
    return torch.randint(0, words, shape) if words else torch.randn(shape)


class Written(unittest.TestCase):
    def test_computes_the_same(self):
        for name, (make, shape, words) in SMALL.items():
            with self.subTest(name), torch.no_grad():
                x, net = example(shape, words), make().eval()
                model = to_onnx(net, x).model
                session = onnxruntime.InferenceSession(model.encode(), providers=["CPUExecutionProvider"])
                for batch in (x, x[:1]):  # the batch is a free dimension
                    want, got = net(batch)[0].numpy(), session.run(None, {"input": batch.numpy()})[0]
                    self.assertEqual(want.shape, got.shape)
                    self.assertLess(abs(want - got).max() / abs(want).max(), 1e-4)

    def test_names_are_those_of_the_parameters(self):
        for name, (make, shape, words) in SMALL.items():
            with self.subTest(name):
                net = make()
                model = to_onnx(net, example(shape, words)).model
                written = {t.name for t in model.initializer}
                self.assertLessEqual({k for k, _ in net.named_parameters()}, written)
                values = {o for n in model.node for o in n.output}
                features = net(example(shape, words))[1]
                self.assertLessEqual({f"feature{n + 1}" for n in range(len(features))} | {"output"}, values)

    def test_operations_are_those_that_pytorch_counts(self):
        for name in SMALL.keys() - {"bert"}:  # PyTorch counts no attention on the CPU
            with self.subTest(name):
                make, shape, words = SMALL[name]
                x, net = example(shape, words), make()
                written = to_onnx(net, x)
                with FlopCounterMode(display=False) as counted:
                    out, features = net(x)
                self.assertEqual(written.forward, counted.get_total_flops())
                if name == "mobilenet_v2":  # nor groups in the gradients of convolutions
                    continue
                with FlopCounterMode(display=False) as counted:
                    sum([out.sum(), *(f.sum() for f in features)]).backward()
                self.assertEqual(written.training - written.forward, counted.get_total_flops())


class Jobs(unittest.TestCase):
    def test_every_workload_has_one_section_each(self):
        for w in ALL:
            text = job_text(w, settings_of(w))
            sections = [line for line in text.splitlines() if line.startswith("[")]
            self.assertEqual(len(sections), len(set(sections)))
            self.assertEqual(text.count("[hint "), len(w.hints))


class Gate(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.room = tempfile.TemporaryDirectory()
        for name in ("digits-mlp", "fmnist-cnn"):
            generate(named(name), os.path.join(cls.room.name, name))

    @classmethod
    def tearDownClass(cls):
        cls.room.cleanup()

    def check(self, name, *extra):
        return gate.check(DISTILL, os.path.join(self.room.name, name), named(name), 1, extra)

    def test_passes_what_is_right(self):
        for name in ("digits-mlp", "fmnist-cnn"):
            with self.subTest(name):
                result = self.check(name)
                self.assertTrue(result["passed"], result)
                self.assertLess(result["all"], 1e-5)
                self.assertEqual(result["losses"].keys(), {"total", "task", "kl"})

    def test_stops_another_loss(self):
        for extra in ("distill.temperature=2", "distill.kd=0.899", "distill.label_smoothing=0.01"):
            with self.subTest(extra):
                result = self.check("digits-mlp", extra)
                self.assertFalse(result["passed"])
                self.assertTrue(result["failed"])

    def test_says_why_it_could_not_be_run(self):
        result = self.check("digits-mlp", "train.batch=0")
        self.assertFalse(result["passed"])
        self.assertIn("batch", result["why"])

    def test_distances(self):
        want = {"a": numpy.ones(4), "b": 2 * numpy.ones((2, 2)), "nothing": numpy.zeros(3)}
        have = {**want, "a": numpy.array([1, 1, 1, 1.02]), "nothing": numpy.full(3, 1e-12)}
        each, together = gate.distances(have, want)
        self.assertAlmostEqual(each["a"], 0.01)
        self.assertEqual(each["b"], 0)
        self.assertLess(each["nothing"], 1e-6)
        self.assertAlmostEqual(together, 0.02 / math.sqrt(4 + 16))
        self.assertEqual(gate.distances({**have, "b": numpy.full((2, 2), numpy.nan)}, want)[0]["b"], math.inf)

    def test_missing_gradients_are_errors(self):
        with self.assertRaises(RuntimeError):
            gate.our_gradients({"grad.a": numpy.zeros(2)}, {"a": numpy.zeros(2), "b": numpy.zeros(2)}, set())


if __name__ == "__main__":
    torch.set_num_threads(1)
    unittest.main(verbosity=0)
