"""What hides which key from which query: one record for all of attention, made once per model call.

Conventions: booleans say True = may attend; floats are added to the scores. A query that may attend to nothing gets zeros.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..autograd.ops_index import index_put
from ..autograd.ops_shape import reshape


class Packed:
    """The real tokens of a padded batch, one after another: (B, T, D) with padding <-> (1, N, D) without."""

    def __init__(self, keys: np.ndarray) -> None:
        self.B, self.T = keys.shape
        self.rows = np.flatnonzero(keys)  # (N,) where in the B·T positions they stand

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (1, N, D)"""
        return reshape(x, shape=(self.B * self.T, x.shape[-1]))[None, self.rows]

    def spread(self, x: Tensor) -> Tensor:
        """(1, N, D) -> (B, T, D), zeros at padding"""
        D = x.shape[-1]
        grid = index_put(np.zeros((self.B * self.T, D), x.dtype), reshape(x, shape=(len(self.rows), D)), index=self.rows)
        return reshape(grid, shape=(self.B, self.T, D))


@dataclass(frozen=True, slots=True)
class Mask:
    """Everything that restricts or biases attention. Query t stands at position `offset + t` among the keys.

    keys    (B, S) bool, True = a real token, False = padding
    pairs   bool, broadcastable to (B, H, T, S), True = may attend
    causal  a query sees keys at its own position and before
    window  a query sees the `window` keys nearest to it on either side, its own position included
    bias    float Tensor, broadcastable to (B, H, T, S), added to the scores and trained (T5's relative positions)
    packed  the stream holds the real tokens alone; only attention sees the grid of B × T positions
    """

    keys: np.ndarray | None = None
    pairs: np.ndarray | None = None
    causal: bool = False
    window: int | None = None
    offset: int = 0
    bias: Tensor | None = None
    packed: Packed | None = None

    def __post_init__(self) -> None:
        for name in ("keys", "pairs"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, np.ndarray) and value.dtype == bool):
                what = f"{value.dtype} " if isinstance(value, (np.ndarray, Tensor)) else ""
                raise TypeError(
                    f"Mask: expected {name} as an array of bools, True = may be attended to, got {what}{type(value).__name__}; "
                    f"of 0 and 1 it is np.asarray({name}) == 1, of what would be added to the scores np.asarray({name}) == 0"
                )

    def with_bias(self, bias: Tensor | None) -> Mask:
        """The same with this bias in place of its own."""
        return replace(self, bias=bias)

    def with_window(self, window: int | None) -> Mask:
        """The same with this window in place of its own."""
        return self if window == self.window else replace(self, window=window)

    def allowed(self, T: int, S: int) -> np.ndarray | None:
        """All of it but the bias as one boolean array broadcastable to (B, H, T, S); None where nothing is hidden."""
        parts = []
        distance = np.arange(S)[None, :] - (self.offset + np.arange(T)[:, None])  # (T, S), positive = in the future
        if self.causal:
            parts.append(distance <= 0)
        if self.window is not None:
            parts.append(np.abs(distance) < self.window)
        if self.keys is not None:
            parts.append(self.keys[:, None, None, :])
        if self.pairs is not None:
            parts.append(self.pairs)
        return functools.reduce(operator.and_, parts) if parts else None


OPEN = Mask()


def from_attention_mask(attention_mask: Any, B: int, T: int, S: int, *, causal: bool = False, offset: int = 0) -> Mask:
    """The Mask for what a caller passed as `attention_mask`: None, (B, S) with 1 = real token, or (B, T, S) / (B, 1|H, T, S) pairs.

    Raises ValueError for any other shape and for values other than 0 and 1.
    """
    if attention_mask is None:
        return Mask(causal=causal, offset=offset)
    mask = attention_mask._data if isinstance(attention_mask, Tensor) else np.asarray(attention_mask)
    if mask.dtype != bool:
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(f"attention_mask: expected 0 and 1 (or booleans), 1 = a real token; got {mask.dtype} values "
                             f"from {mask.min()} to {mask.max()}")  # fmt: skip
        mask = mask.astype(bool)
    if mask.shape == (B, S):
        return Mask(keys=None if mask.all() else mask, causal=causal, offset=offset)
    if mask.shape == (B, T, S):
        return Mask(pairs=mask[:, None], causal=causal, offset=offset)
    if mask.ndim == 4 and mask.shape[0] in (1, B) and mask.shape[2:] == (T, S):
        return Mask(pairs=mask, causal=causal, offset=offset)
    raise ValueError(f"attention_mask: expected shape ({B}, {S}), ({B}, {T}, {S}) or ({B}, 1, {T}, {S}), got {mask.shape}")
