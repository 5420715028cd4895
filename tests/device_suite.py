"""Tests of the benchmark of tools/device-check, without a GPU: its workloads in toy size, its gate, and the whole of it on the
emulator.

    python3 tests/device_suite.py DISTILL     with tools/ on PYTHONPATH; tests/check_bench runs it"""
import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest

import numpy
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "device_check"))
import suite
from bench_lib import device_gate, npy
from bench_lib.generate import generate, settings_of
from bench_lib.workloads import DEVICE_NAMES, named

DISTILL = os.path.abspath(sys.argv.pop(1))


class Files(unittest.TestCase):
    def test_are_numpys(self):
        with tempfile.TemporaryDirectory() as room:
            path = os.path.join(room, "a.npy")
            for t in (torch.randn(3, 4), torch.arange(7), torch.tensor(2.5, dtype=torch.float64), torch.zeros(0, 2), torch.randn(4, 3).T):
                npy.save(path, t)
                self.assertTrue(numpy.array_equal(numpy.load(path), t.numpy()))
                self.assertTrue(torch.equal(npy.load(path), t))
            numpy.savez(os.path.join(room, "b.npz"), x=numpy.eye(3), y=numpy.arange(4))
            back = npy.load_all(os.path.join(room, "b.npz"))
            self.assertTrue(torch.equal(back["x"], torch.eye(3, dtype=torch.float64)) and torch.equal(back["y"], torch.arange(4)))


class Gate(unittest.TestCase):
    def step(self, w, folder):
        words = [DISTILL, "step", "--quiet", "--steps", "1", "--teacher", "teacher.onnx", "--student", "student.onnx", "--out", "step.npz"]
        for key, value in {**settings_of(w), "train.lr": 0}.items():
            if key not in ("teacher.path", "student.onnx"):
                words += ["--set", f"{key}={value}"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return npy.load_all(os.path.join(folder, "step.npz"))

    def test_every_workload_in_toy_size(self):
        with tempfile.TemporaryDirectory() as room:
            for name in DEVICE_NAMES:
                w, folder = named(f"{name}@tiny"), os.path.join(room, name)
                with self.subTest(name):
                    facts = generate(w, folder)
                    self.assertGreater(facts["student_elements"], 0)
                    have = self.step(w, folder)
                    said = device_gate.check(folder, w, "fp32", "cpu", have)
                    self.assertTrue(said["passed"], said)
                    have["loss.total"] = have["loss.total"] * 1.01
                    self.assertIn("loss total", device_gate.check(folder, w, "fp32", "cpu", have)["why"])
                    key = max((k for k in have if k.startswith("grad.")), key=lambda k: have[k].norm().item())
                    have[key] = have[key] * 1.05
                    self.assertIn("gradients", device_gate.check(folder, w, "fp32", "cpu", have)["why"])

    def test_forms(self):
        self.assertEqual(named("in-r50-r18@device").batch, 256)
        self.assertEqual(named("bert12-6@device").batch, 64)
        self.assertEqual(named("hifigan").batch, 2)


class Prepares(unittest.TestCase):
    def test_jobs(self):
        first = suite.Job("make", "a", ["echo", "one\ntwo"], 10)
        bad = suite.Job("make", "b", ["sh", "-c", "echo reason >&2; exit 3"], 10)
        after, lost = (suite.Job("gate", "c", ["echo", "three"], 10, after=(j,)) for j in (first, bad))
        slow = suite.Job("gate", "d", ["sleep", "30"], 0.3)
        suite.Preparation([first, bad, after, lost, slow], 2).finish(20)
        self.assertEqual((first.answer, first.why, after.answer, after.why), ("two", None, "three", None))
        self.assertEqual((bad.why, lost.why), ("reason", "reason"))
        self.assertIn("not done", slow.why)

    def test_ends_in_time(self):
        jobs = [suite.Job("warm", str(k), ["sleep", "60"], 60) for k in range(4)]
        began = time.monotonic()
        suite.Preparation(jobs, 2).finish(0.5)
        self.assertLess(time.monotonic() - began, 8)
        self.assertTrue(all(j.done for j in jobs))
        self.assertTrue(all(j.why for j in jobs))


class Operators(unittest.TestCase):
    """run's step `ops`: families that fail, crash or hang leave the others' results."""
    PROGRAM = """#!/bin/sh
case $1 in
family_conv) echo 'FAIL conv row 3: Conv: wrong'; exit 1 ;;
half_conv) echo 'FAIL conv row 4: Conv: late'; exec sleep 30 ;;
bfloat_conv) kill -SEGV $$ ;;
half_norm) echo gone >&2; exit 3 ;;
esac
echo 'MAXERR Add (output) 1e-7 (tolerance 1e-6)'
"""

    def setUp(self):
        loader = importlib.machinery.SourceFileLoader("run", os.path.join(os.path.dirname(suite.__file__), "run"))
        self.run_file = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
        loader.exec_module(self.run_file)

    def test_families(self):
        with open(os.path.join(os.path.dirname(__file__), "op_case.h")) as f:
            listed = re.findall(r"^    X\((\w+)\)", f.read(), re.M)
        self.assertEqual(list(self.run_file.OP_FAMILIES), listed)

    def test_what_fails_stays_alone(self):
        with tempfile.TemporaryDirectory() as room:
            program = os.path.join(room, "program")
            with open(program, "w") as f:
                f.write(self.PROGRAM)
            os.chmod(program, 0o755)
            check = object.__new__(self.run_file.Check)
            check.device, check.env, check.patience, check.end = "cuda", dict(os.environ), 1, time.monotonic() + 6
            check.command = lambda name: [program]
            with self.assertRaises(self.run_file.Failed) as failed:
                check.ops()
        result = failed.exception.args[1]
        self.assertEqual(result["failures"], ["FAIL conv row 3: Conv: wrong", "FAIL conv row 4: Conv: late (half_conv)"])
        self.assertEqual(set(result["ended"]), {"half_conv", "bfloat_conv", "half_norm"})
        self.assertIn("in time", result["ended"]["half_conv"])
        self.assertIn("gone", result["ended"]["half_norm"])
        self.assertEqual(result["largest_errors"], {"Add (output)": [1e-7, 1e-6]})


class Figures(unittest.TestCase):
    def test_floors(self):
        class Mine:
            kernels, ms = 11, 2.0
        probe = {"launch_us": 5, "kernel_us": 2, "copy_gb_s": 1000, "gemm_tflops": {"fp32": 10, "bf16": 100}}
        facts = {"teacher_operations": 6e9, "student_operations": 4e9, "teacher_elements": 1000, "student_elements": 100,
                 "teacher_parameters": 10, "student_parameters": 1}
        f = suite.floors(named("bert12-6@device"), facts, Mine, "fp32", probe)
        self.assertAlmostEqual(f["launch_floor_ms"], 0.025)
        self.assertAlmostEqual(f["arithmetic_floor_ms"], 1)
        self.assertAlmostEqual(f["bytes_floor_ms"], 1e-9 * (4 * (2000 + 900 + 10) + 32))
        self.assertAlmostEqual(f["of_work_floor"], 0.5)
        self.assertAlmostEqual(suite.floors(named("bert12-6@device"), facts, Mine, "half", probe)["arithmetic_floor_ms"], 0.1)

    def test_table_without_pytorch(self):
        row = {"name": "x", "precision": "fp32", "batch": 2, "ms": 1.5, "samples_per_second": 9, "aim": 2, "kernels": 7, "device_bytes": 5e6,
               "peers": {}}
        text = suite.table({"workloads": [row], "not_run": ["y: why"]})
        self.assertIn("not run: y: why", text)
        self.assertIn("     7", text)


class Check:
    """What suite.py needs of run."""
    device = "emulated"

    def __init__(self):
        self.env = dict(os.environ, OMP_WAIT_POLICY="passive")

    def command(self, program):
        return [DISTILL]

    def call(self, program, *words, most):
        return subprocess.run([DISTILL, *words], capture_output=True, text=True, check=True, timeout=most)

    def torch_fact(self, code):
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() or None


class Whole(unittest.TestCase):
    def test_one_workload_on_the_emulator(self):
        with tempfile.TemporaryDirectory() as room:
            s = suite.Suite(Check(), ["digits-mlp"], ["fp32"], ["eager"], room)
            result = s.run(240)
            self.assertEqual(result["not_run"], [])
            row, = result["workloads"]
            self.assertTrue(row["gate"]["passed"])
            self.assertGreater(row["kernels"], 10)
            self.assertGreater(row["device_bytes"], 1000)
            self.assertEqual(row["best"], "eager")
            self.assertGreater(row["ratio"], 0)
            self.assertIn("digits-mlp", suite.table(result))


if __name__ == "__main__":
    torch.set_num_threads(1)
    unittest.main(verbosity=0)
