"""KV cache: keys and values of the positions already seen, so that a new token costs one position and not all of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.arrays import empty

from ..autograd import Tensor
from ..autograd.elsewhere import OF_A_CACHE, no_attribute


class Extent:
    """What the layers of a cache share. Held apart from it: a layer that knew its cache would be a reference cycle, and the memory
    of a generation would wait for the garbage collector."""

    __slots__ = ("capacity", "copies", "length")

    def __init__(self, capacity: int) -> None:
        self.capacity, self.copies, self.length = capacity, 1, 0


class LayerCache:
    """One layer's share: `k`, `v` (B, Hkv, capacity, K), and for seq2seq the encoder's keys and values in `cross`."""

    __slots__ = ("cross", "extent", "k", "v")

    def __init__(self, extent: Extent) -> None:
        self.extent = extent
        self.k: np.ndarray | None = None
        self.v: np.ndarray | None = None
        self.cross: tuple[Tensor, Tensor] | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions' k, v (B, Hkv, T, K); returns those of all positions, (B, Hkv, S, K)."""
        if self.extent.length and k.requires_grad:
            raise RuntimeError("cache: gradients do not flow into cached positions; continue a sequence under tg.no_grad()")
        keys, values = self.append_arrays(k._data, v._data)
        return (k, v) if self.extent.length == 0 else (Tensor(keys), Tensor(values))

    def append_arrays(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`append` on arrays. The first positions come back as they are: nothing was stored before them."""
        past, T = self.extent.length, k.shape[2]
        self._reserve(k, v, past + T)
        assert self.k is not None and self.v is not None
        self.k[:, :, past : past + T] = k
        self.v[:, :, past : past + T] = v
        return (k, v) if past == 0 else (self.k[:, :, : past + T], self.v[:, :, : past + T])

    def _reserve(self, k: np.ndarray, v: np.ndarray, needed: int) -> None:
        if self.k is not None and self.k.shape[0] != k.shape[0]:
            raise ValueError(f"cache: made for a batch of {self.k.shape[0]}, got {k.shape[0]}")
        held = 0 if self.k is None else self.k.shape[2]
        if needed <= held:
            return
        capacity = self.extent.capacity if self.k is None else 2 * held
        capacity = max(capacity, needed)
        self.k, self.v = (_grown(old, new, capacity, self.extent.length) for old, new in ((self.k, k), (self.v, v)))


def _grown(old: np.ndarray | None, new: np.ndarray, capacity: int, used: int) -> np.ndarray:
    B, Hkv, _, K = new.shape
    array = empty((B, Hkv, capacity, K), new.dtype)
    if old is not None:
        array[:, :, :used] = old[:, :, :used]
    return array


class KVCache:
    """The caches of all layers. `length` positions are filled; `capacity` are reserved at first use, more when they run out.
    `copies` neighbouring rows look at equal rows of the encoder's output (beams), whose keys and values are kept once.

    A model call reads `cache[i]` in layer i and calls `advance(T)` at its end.
    """

    def __init__(self, layers: int, capacity: int = 256) -> None:
        self.extent = Extent(max(int(capacity), 1))
        self.prepared: dict[tuple[int, int], Any] = {}  # the layers as one call, see prepared.py
        self.layers = [LayerCache(self.extent) for _ in range(layers)]

    def __getattr__(self, name: str) -> Any:  # called for what is not there
        raise no_attribute(self, name, OF_A_CACHE)

    @property
    def capacity(self) -> int:
        """How many positions are reserved."""
        return self.extent.capacity

    @property
    def length(self) -> int:
        """How many positions are filled."""
        return self.extent.length

    @property
    def copies(self) -> int:
        """How many neighbouring rows share one source."""
        return self.extent.copies

    @copies.setter
    def copies(self, copies: int) -> None:
        self.extent.copies = copies

    def __getitem__(self, i: int) -> LayerCache:
        return self.layers[i]

    def __len__(self) -> int:
        return len(self.layers)

    def advance(self, T: int) -> None:
        """Count T more positions as filled."""
        self.extent.length += T

    def truncate(self, length: int) -> None:
        """Forget the positions from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cache: cannot truncate {self.length} positions to {length}")
        self.extent.length = length

    def get_seq_length(self) -> int:
        """How many positions are filled (transformers' name)."""
        return self.length

    def reorder(self, rows: Any, shared_source: bool = False) -> None:
        """Batch row b becomes what row `rows[b]` was: beam search keeps the histories of the surviving beams.

        `shared_source`: row b and row `rows[b]` look at the same encoder output, so that its keys and values stay.
        """
        rows = np.asarray(rows, np.int64)
        batch = next((len(layer.k) for layer in self.layers if layer.k is not None), len(rows))
        moved = np.flatnonzero(rows != np.arange(len(rows))) if len(rows) == batch else None
        for layer in self.layers:
            for name in ("k", "v"):
                held = getattr(layer, name)
                if held is None:
                    continue
                if moved is None:
                    setattr(layer, name, held[rows])
                elif len(moved):
                    held[moved, :, : self.length] = held[rows[moved], :, : self.length]
            if layer.cross is not None and not shared_source:
                sources = rows if len(layer.cross[0]._data) == batch else self._sources(rows)
                layer.cross = tuple(Tensor(x._data[sources]) for x in layer.cross)  # type: ignore[assignment]

    def _sources(self, rows: np.ndarray) -> np.ndarray:
        """The source of every `copies` rows."""
        sources = rows.reshape(-1, self.copies) // self.copies
        if (sources != sources[:, :1]).any():
            raise ValueError(f"cache: rows in groups of {self.copies} must look at one source each, got {rows.tolist()}")
        return sources[:, 0]
