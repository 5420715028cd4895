"""The benchmark of tools/bench: seven distillation steps, ours and PyTorch's, from one definition.

    workloads.py   the table: networks, batch, losses, optimizer
    nets.py        the networks, as PyTorch modules
    to_onnx.py     a module as an ONNX file with the names of its parameters, and its arithmetic
    onnx_file.py   the ONNX format, as far as that needs it
    npy.py         tensors as .npy files
    generate.py    a workload on disk: teacher.onnx, student.onnx, job.ini, samples
    peer.py        one PyTorch setting in a process of its own
    ours.py        `distill bench --serve` and `distill step`
    gate.py        the same losses and gradients, or no figures
    suite.py       rounds in turns, tables, JSON
    layers.py      single convolutions beside oneDNN
    machine.py     what this machine is and how fast its multipliers are

The process that controls and measures loads neither torch nor numpy; whatever needs them runs in a child."""
