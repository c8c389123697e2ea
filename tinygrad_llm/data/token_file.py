"""Token ids on disk, memory-mapped: a corpus may be larger than memory.

A 24-byte header (8 bytes of magic, then the number of bytes per token and the number of tokens as little-endian int64), then
the ids as little-endian uint16 or uint32, whichever the vocabulary needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .._check import as_ids, whole

MAGIC = b"TGLTOKS2"
HEADER = 24


def write_tokens(path, pieces: Iterable[np.ndarray], vocab_size: int) -> int:
    """Writes the ids of `pieces` one after another and returns their number; beside `path` first, then renamed."""
    vocab_size = whole("vocab_size", vocab_size, 1)
    if vocab_size > 1 << 32:
        raise ValueError(f"vocab_size: expected at most 2**32, got {vocab_size}")
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    path, total = Path(path), 0
    beside = path.with_name(path.name + ".new")
    try:
        with open(beside, "wb") as file:
            file.write(bytes(HEADER))  # of no token file, until all tokens are there
            for piece in pieces:
                piece = as_ids(piece)
                if piece.size and (piece.min() < 0 or piece.max() >= vocab_size):
                    raise ValueError(f"ids: expected values in [0, {vocab_size}), got {piece.min()} to {piece.max()}")
                file.write(piece.astype(dtype).tobytes())
                total += piece.size
            file.seek(0)
            file.write(MAGIC + np.array([dtype.itemsize, total], dtype="<i8").tobytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)  # it may fill the disk, and nothing reads it
        raise
    return total


class TokenFile:
    """A written file as a read-only array: `len`, and slices that come as int64 and touch only what they need."""

    def __init__(self, path, start: int = 0, stop: int | None = None):
        self.path = Path(path)
        with open(self.path, "rb") as file:
            header = file.read(HEADER)
        width, total = np.frombuffer(header[8:], dtype="<i8").tolist() if len(header) == HEADER else (0, 0)
        if header[:8] != MAGIC or width not in (2, 4):
            raise ValueError(f"{self.path}: not a token file; write one with write_tokens")
        expected, size = HEADER + total * width, self.path.stat().st_size
        if size != expected:
            raise ValueError(f"{self.path}: damaged, expected {expected} bytes for its {total} tokens, got {size}; write it anew")
        self.range = range(total)[start:stop]  # which of the file's tokens these are
        self.array = np.memmap(self.path, dtype=f"<u{width}", mode="r", offset=HEADER)[self.range.start : self.range.stop]

    def part(self, start: int, stop: int | None = None) -> TokenFile:
        """The tokens from `start` to `stop` as a TokenFile; nothing is read."""
        part = self.range[start:stop]
        return TokenFile(self.path, part.start, part.stop)

    def __reduce__(self):
        return TokenFile, (self.path.absolute(), self.range.start, self.range.stop)  # a worker process maps the file, too

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index) -> np.ndarray:
        return np.asarray(self.array[index]).astype(np.int64)
