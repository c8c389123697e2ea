"""Positions, four ways: sinusoidal, learned, T5's relative bias, rotary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..autograd import functional as F
from . import init
from .layers import Embedding
from .module import Module


def sinusoidal(length: int, width: int, dtype: Any = np.float32) -> np.ndarray:
    """(length, width): sin(p / 10000^(2i/D)) in the even columns, cos in the odd ones.   Vaswani et al. 2017 §3.5"""
    angles = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, width, 2) / width)
    table = np.empty((length, width))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : width // 2])
    return table.astype(dtype)


class LearnedPositions(Embedding):
    """A trained vector per position; position p is row `p + offset` (BART and RoBERTa leave rows 0 and 1 unused: offset 2)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, offset: int = 0) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx)
        self.offset = offset

    def forward(self, ids: np.ndarray) -> Tensor:
        """Positions (...) -> (..., width)"""
        return super().forward(ids + self.offset)


def relative_buckets(distance: np.ndarray, buckets: int, max_distance: int, bidirectional: bool) -> np.ndarray:
    """The bucket of each key-minus-query distance: exact when near, logarithmic out to `max_distance`.   Raffel et al. 2020 §2.1"""
    result = np.zeros(distance.shape, np.int64)
    if bidirectional:
        buckets //= 2
        result += (distance > 0) * buckets
        distance = np.abs(distance)
    else:
        distance = -np.minimum(distance, 0)
    exact = buckets // 2
    # float32 on purpose: at a bucket's edge the rounding decides, and the published weights were trained with this one
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    far = exact + (ratio * np.float32(buckets - exact)).astype(np.int64)
    return result + np.where(distance < exact, distance, np.minimum(far, buckets - 1))


class RelativeBias(Module):
    """T5's position bias: a trained number per (bucket, head), added to the scores.   weight (buckets, H)"""

    def __init__(self, heads: int, buckets: int, max_distance: int, bidirectional: bool) -> None:
        self.weight = init.parameter((buckets, heads), init.normal(1.0))
        self.max_distance, self.bidirectional = max_distance, bidirectional

    def forward(self, T: int, S: int, offset: int = 0) -> Tensor:
        """The bias (1, H, T, S) for queries at `offset` to `offset + T`."""
        distance = np.arange(S)[None, :] - (offset + np.arange(T)[:, None])
        bucket = relative_buckets(distance, self.weight.shape[0], self.max_distance, self.bidirectional)
        return F.embedding(bucket, self.weight).transpose(2, 0, 1).reshape(1, -1, T, S)  # (T, S, H) -> (1, H, T, S)


class Rotary:
    """Rotary positions: pairs (i, i + K/2) of q and k turn by angle p·θ^(-2i/K).   Su et al. 2021

    `scaling` stretches the frequencies for longer contexts: {"rope_type": "linear", "factor": f}, or Llama 3.1's
    {"rope_type": "llama3", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}.
    """

    def __init__(self, head_width: int, theta: float = 10000.0, scaling: dict[str, Any] | None = None) -> None:
        frequencies = 1.0 / theta ** (np.arange(0, head_width, 2) / head_width)
        kind = (scaling or {}).get("rope_type", "default")
        if kind not in SCALINGS:
            raise ValueError(f"rope_type: {kind!r} is not supported; there are {', '.join(SCALINGS)}")
        self.frequencies = SCALINGS[kind](frequencies, scaling or {})

    def __call__(self, positions: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """cos and sin, (T, K/2) or (B, 1, T, K/2), for positions (T,) or (B, T). Angles have the model's precision."""
        angles = np.asarray(positions, dtype)[..., None] * self.frequencies.astype(dtype)  # (..., T) -> (..., T, K/2)
        if angles.ndim == 3:
            angles = angles[:, None]  # (B, T, K/2) -> (B, 1, T, K/2)
        return np.cos(angles), np.sin(angles)


def _llama3(frequencies: np.ndarray, scaling: dict[str, Any]) -> np.ndarray:
    """Low frequencies are divided by `factor`, high ones kept, those between blended (Llama 3.1, "context extension")."""
    length, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = length * frequencies / (2 * math.pi)  # full turns within the original context
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return frequencies * (blend + (1.0 - blend) / factor)


SCALINGS = {
    "default": lambda frequencies, scaling: frequencies,
    "linear": lambda frequencies, scaling: frequencies / scaling["factor"],
    "llama3": _llama3,
}
