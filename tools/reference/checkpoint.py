"""Tensor files: a safetensors reader and writer by hand (bfloat16 has no NumPy type)."""
import gzip
import json
import struct
from pathlib import Path

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


def read_bytes(path):
    """The file, or its gzipped twin."""
    path = Path(path)
    if path.exists():
        return path.read_bytes()
    return gzip.decompress(path.with_name(path.name + ".gz").read_bytes())


def exists(path):
    path = Path(path)
    return path.exists() or path.with_name(path.name + ".gz").exists()


def from_bf16(bits):
    """u16 bit patterns -> float32"""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bf16(values):
    """float32 -> u16 bit patterns, to nearest, ties to even"""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def read_safetensors(path):
    """-> {name: array}; bfloat16 and float16 come out as float32, which holds them exactly"""
    data = read_bytes(path)
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + size])
    out = {}
    for name, t in header.items():
        if name == "__metadata__":
            continue
        begin, end = t["data_offsets"]
        a = np.frombuffer(data[8 + size + begin:8 + size + end], DTYPES[t["dtype"]]).reshape(t["shape"])
        out[name] = from_bf16(a) if t["dtype"] == "BF16" else a.astype(np.float32) if t["dtype"] == "F16" else a
    return out


def write_safetensors(path, tensors, bf16=()):
    """`bf16`: names of the float32 tensors to store as bfloat16."""
    kinds = {np.dtype(v): k for k, v in DTYPES.items() if k != "BF16"}
    header, body, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        a = np.ascontiguousarray(tensors[name])
        raw = (to_bf16(a) if name in bf16 else a).tobytes()
        kind = "BF16" if name in bf16 else kinds[a.dtype]
        header[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [at, at + len(raw)]}
        body.append(raw)
        at += len(raw)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)  # the data begins at a multiple of eight
    Path(path).write_bytes(struct.pack("<Q", len(head)) + head + b"".join(body))


def load(directory):
    """All tensors of a checkpoint directory, sharded or not -> {name: float32 array}"""
    directory = Path(directory)
    index = directory / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    elif exists(directory / "model.safetensors"):
        files = ["model.safetensors"]
    else:
        raise FileNotFoundError(f"{directory}: neither model.safetensors nor an index")
    out = {}
    for f in files:
        out.update(read_safetensors(directory / f))
    return out
