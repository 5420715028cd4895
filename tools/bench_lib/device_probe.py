"""What a device can do at most, by PyTorch, as one JSON object:

    python3 -m bench_lib.device_probe DEVICE

launch_us: a recorded graph of one tiny kernel, launched and waited for; kernel_us: every further kernel that waits for the one
before it; copy_gb_s: bytes read and written by a copy on the device; gemm_tflops by type. On "cpu" (to try this file) the same
with small sizes and no graphs."""
import json
import sys
import time

MOST = {"cuda": (8192, 1 << 28, 500), "cpu": (256, 1 << 20, 20)}  # matrix, floats copied, kernels


def main():
    import torch
    device = sys.argv[1]
    cuda = device == "cuda"
    size, floats, kernels = MOST[device]

    def wait():
        if cuda:
            torch.cuda.synchronize()

    def seconds(call, least=0.2):
        """Of a call, the best of five times as many as take that long."""
        call(), wait()
        began, n = time.perf_counter(), 0
        while time.perf_counter() - began < least / 5:
            call(), wait()
            n += 1
        best = 1e9
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(n):
                call()
            wait()
            best = min(best, (time.perf_counter() - began) / n)
        return best

    def chain(n):
        x = torch.zeros(32, device=device)

        def add():
            for _ in range(n):
                x.add_(1)
        if not cuda:
            return add
        add(), wait()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            add()
        return lambda: (graph.replay(), wait())

    one, many = seconds(chain(1)), seconds(chain(kernels))
    a, b = (torch.zeros(floats, device=device) for _ in range(2))
    found = {"name": torch.cuda.get_device_name() if cuda else "cpu", "launch_us": 1e6 * one,
             "kernel_us": 1e6 * (many - one) / (kernels - 1), "copy_gb_s": 8e-9 * floats / seconds(lambda: a.copy_(b)), "gemm_tflops": {}}
    del a, b
    for name, kind, tf32 in (("fp32", torch.float32, False), ("tf32", torch.float32, True), ("fp16", torch.float16, False),
                             ("bf16", torch.bfloat16, False)):
        if name == "tf32" and not cuda:
            continue
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
        found["gemm_tflops"][name] = 2e-12 * size**3 / seconds(lambda: torch.mm(a, b))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
