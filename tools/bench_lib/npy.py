"""Tensors as .npy and .npz files, without numpy (a PyTorch need not have it)."""
import ast
import ctypes
import struct
import zipfile

CODES = {"float32": "<f4", "float64": "<f8", "int64": "<i8", "int32": "<i4", "uint8": "|u1"}


def raw(tensor):
    """The bytes of a tensor in memory order."""
    t = tensor.detach().cpu().contiguous()
    return ctypes.string_at(t.data_ptr(), t.numel() * t.element_size())


def save(path, tensor):
    code = CODES[str(tensor.dtype).split(".")[1]]
    shape = "".join(f"{d}, " for d in tensor.shape)
    head = f"{{'descr': '{code}', 'fortran_order': False, 'shape': ({shape}), }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + raw(tensor))


def parse(data):
    import torch
    at, size = (10, struct.unpack_from("<H", data, 8)[0]) if data[6] == 1 else (12, struct.unpack_from("<I", data, 8)[0])
    head = ast.literal_eval(data[at:at + size].decode())
    if head["fortran_order"]:
        raise ValueError("a matrix in the order of Fortran")
    kind = getattr(torch, {code: name for name, code in CODES.items()}[head["descr"]])
    body = bytearray(data[at + size:])
    return torch.frombuffer(body, dtype=kind).reshape(head["shape"]) if body else torch.zeros(head["shape"], dtype=kind)


def load(path):
    with open(path, "rb") as f:
        return parse(f.read())


def load_all(path):
    """{name: tensor} of an .npz file."""
    with zipfile.ZipFile(path) as z:
        return {name[:-4]: parse(z.read(name)) for name in z.namelist()}
