"""Tensor files: reading safetensors piece by piece through a memory map, bfloat16 exactly, and writing them in one pass.

A file is 8 bytes (the header's length), a JSON header {name: {dtype, shape, data_offsets}}, and the bytes.
A bfloat16 is the upper half of a float32, so reading one is a shift by 16 bits. NumPy knows no such dtype, and the
safetensors library's NumPy side refuses it; so the library checks the file, and the bytes are read here.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

READ = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "I32": np.int32,
        "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_}  # fmt: skip
WRITE = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
CHUNK = 8 << 20  # bytes copied at a time: what a load needs beyond the weights themselves


class CheckpointError(ValueError):
    """A checkpoint that cannot be read into the model; the message names the file and the tensor."""


class Entry:
    """One tensor in a file: its name, dtype and shape, and how to get at its values."""

    __slots__ = ("dtype", "file", "name", "offset", "shape")

    def __init__(self, file: TensorFile, name: str, dtype: str, shape: tuple[int, ...], offset: int) -> None:
        self.file, self.name, self.dtype, self.shape, self.offset = file, name, dtype, shape, offset

    def copy_to(self, out: np.ndarray, transposed: bool = False, rows: tuple[int, int] | None = None) -> None:
        """Fill `out` with the tensor, or with its transpose, or with rows `rows` of that. A few MB at a time, rows in order."""
        raw = self.raw()
        view = raw.T if transposed else raw
        if rows is not None:
            view = view[rows[0] : rows[1]]
        if view.shape != out.shape:
            raise CheckpointError(f"{self.file.path.name}: {self.name}: expected {out.shape}, got {view.shape}")
        if out.ndim == 0 or view.size == 0:
            out[...] = self.values(view)
            return
        step = max(1, CHUNK // max(view[0].nbytes, 1))
        for start in range(0, view.shape[0], step):
            out[start : start + step] = self.values(view[start : start + step])
            if not transposed:
                self.file.drop_pages()
        self.file.drop_pages()

    def raw(self) -> np.ndarray:
        """The stored numbers as they lie in the file; bfloat16 as uint16."""
        flat = np.frombuffer(self.file.map, READ[self.dtype], int(np.prod(self.shape, dtype=np.int64)), self.offset)
        return flat.reshape(self.shape)

    def values(self, raw: np.ndarray) -> np.ndarray:
        """Stored numbers as numbers."""
        return (raw.astype(np.uint32) << 16).view(np.float32) if self.dtype == "BF16" else raw


class TensorFile:
    """A safetensors file and its `entries()`. Nothing is read before an entry is asked for its values."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _validate(self.path)
        with open(self.path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.metadata = header.pop("__metadata__", {})
        self.header, self.start = header, 8 + length
        for name, item in header.items():
            if item["dtype"] not in READ:
                raise CheckpointError(f"{self.path.name}: {name} has dtype {item['dtype']}; supported are {', '.join(READ)}")

    def entries(self) -> dict[str, Entry]:
        """All tensors by name. They hold the file, which does not hold them: it is closed with the last of them."""
        return {
            name: Entry(self, name, item["dtype"], tuple(item["shape"]), self.start + item["data_offsets"][0])
            for name, item in self.header.items()
        }

    def drop_pages(self) -> None:
        """Give the pages read so far back, so that the file does not count as our memory beside the copy."""
        if hasattr(self.map, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
            self.map.madvise(mmap.MADV_DONTNEED)


def _validate(path: Path) -> None:
    """Let the format's own library check header, offsets and length."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="numpy"):
            pass
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a complete safetensors file ({error})") from error


def same(a: Entry, b: Entry) -> bool:
    """True if two stored tensors hold the same numbers, whatever their dtypes."""
    if a.shape != b.shape:
        return False
    x, y = a.raw().reshape(-1), b.raw().reshape(-1)
    step = CHUNK // x.itemsize
    equal = all(np.array_equal(a.values(x[i : i + step]), b.values(y[i : i + step])) for i in range(0, x.size, step))
    a.file.drop_pages()
    b.file.drop_pages()
    return equal


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The uint16 patterns of the nearest bfloat16 values, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


#: one tensor to write: name, shape, and a function that makes its values when their turn comes
Item = tuple[str, tuple[int, ...], Callable[[], np.ndarray]]


def width_of(dtype: str) -> int:
    """Bytes of a number in a file."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def write(path: Path, items: Iterable[Item], dtype: str, metadata: dict[str, str]) -> None:
    """Write the tensors in this dtype ("float32", ...), one after the other, never holding more than one beside the model."""
    items = list(items)
    width = width_of(dtype)
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name, shape, _ in items:
        nbytes = int(np.prod(shape, dtype=np.int64)) * width
        header[name] = {"dtype": WRITE[dtype], "shape": list(shape), "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape, make in items:
            values = make()
            if values.shape != tuple(shape):
                raise CheckpointError(f"{name}: expected {shape}, got {values.shape}")
            values = to_bfloat16(values) if dtype == "bfloat16" else np.ascontiguousarray(values, dtype)
            file.write(values.reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
