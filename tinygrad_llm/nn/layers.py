"""The layers with parameters of their own: Linear, Embedding, LayerNorm, RMSNorm; and Dropout.

Shapes and names of the parameters are PyTorch's; so are the default initial values, which the families replace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._check import need
from ..autograd import Tensor, is_grad_enabled
from ..autograd import functional as F
from ..autograd.ops_linalg import FEW_ROWS, is_for_kernels
from . import init
from .module import Module, is_plain
from .quantized import Int8Weight

LEAST_WIDTH, FUSED_WORK = 64, 1 << 21  # of a weight, and multiply-adds; below, kernels choose their way by the size


class Linear(Module):
    """y = x Wᵀ + b;   weight (out, in), bias (out,)"""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, rng: np.random.Generator | None = None) -> None:
        self.weight = init.parameter((out_features, in_features), init.fan_in_uniform, rng)
        self.bias = init.parameter((out_features,), init.uniform(in_features**-0.5), rng) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)"""
        return linear(x, self.weight, self.bias)

    def quantize(self) -> Linear:
        """Keep the weight in eight bits from now on, for inference alone. Returns self."""
        if not isinstance(self.weight, Int8Weight):
            self.weight = Int8Weight(self.weight)
        return self


def are_fusible(x: Tensor, *layers: Any) -> bool:
    """Whether an operation may read these layers' parameters itself: nobody watches or replaced them, the dtypes agree, and the
    product with as many rows as x (..., D) has is the same bit for bit when it is part of a larger one."""
    array = x._data
    rows = math.prod(array.shape[:-1])
    decoding = rows <= FEW_ROWS and not is_grad_enabled()
    for layer in layers:
        if not is_plain(layer, Linear):
            return False
        weight = layer.weight
        if type(weight) is not Tensor or weight._data.dtype != array.dtype:
            return False
        size = weight._data.size
        if not (is_for_kernels(rows, size) if decoding else min(weight._data.shape) >= LEAST_WIDTH and rows * size >= FUSED_WORK):
            return False
    return True


def linear(x: Tensor, weight: Tensor | Int8Weight, bias: Tensor | None = None) -> Tensor:
    """y = x Wᵀ + b, whatever W is stored in."""
    return weight.linear(x, bias) if isinstance(weight, Int8Weight) else F.linear(x, weight, bias)


class Embedding(Module):
    """y = weight[ids];   weight (num, width). The row `padding_idx` begins as zeros and gets no gradient from here."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, rng: np.random.Generator | None = None
    ) -> None:
        self.weight = init.parameter((num_embeddings, embedding_dim), init.normal(1.0), rng)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(f"Embedding: padding_idx must lie in the table of {num_embeddings} rows, got {padding_idx}")
            if not init.in_skeleton():
                self.weight._data[padding_idx] = 0.0
        self.padding_idx = padding_idx
        self.quantized: Int8Weight | None = None

    def quantize(self) -> Embedding:
        """Keep a copy in eight bits for a tied output layer, for inference alone. Returns self."""
        if self.quantized is None:
            self.quantized = Int8Weight(self.weight)
        return self

    def forward(self, ids: Any) -> Tensor:
        """ids (...) -> (..., width)"""
        return F.embedding(ids, self.weight, self.padding_idx)


def output_weight(tokens: Any) -> Tensor | Int8Weight:
    """The table as the matrix of a tied output layer: after `quantize` the copy in eight bits. Look-ups keep the floats.
    What stands in an Embedding's place has the table in `weight`."""
    quantized = tokens.quantized if isinstance(tokens, Embedding) else None
    return tokens.weight if quantized is None else quantized


def lengths(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """The lengths of the last axes, from one number or several."""
    return (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)


def checked_eps(eps: float) -> float:
    need("eps", eps, lambda x: 0 <= x < math.inf, "a finite number of at least 0")
    return eps


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) · weight + bias, over the last axes, one or more.   Ba, Kiros, Hinton 2016"""

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, *, bias: bool = True) -> None:
        self.eps = checked_eps(eps)
        self.weight = init.parameter(lengths(normalized_shape), init.ones)
        self.bias = init.parameter(self.weight.shape, init.zeros) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x (..., *normalized_shape) -> the same shape"""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class RMSNorm(Module):
    """y = x / sqrt(mean(x²) + eps) · weight, over the last axes, one or more.   Zhang and Sennrich 2019"""

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-6) -> None:
        self.eps = checked_eps(eps)
        self.weight = init.parameter(lengths(normalized_shape), init.ones)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., *normalized_shape) -> the same shape"""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Dropout(Module):
    """In training, each value is zeroed with probability p and the rest is scaled by 1/(1-p); else nothing happens."""

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | None = None) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"Dropout: p must be in [0, 1], got {p}")
        self.p = float(p)
        self.rng = rng

    def forward(self, x: Tensor) -> Tensor:
        """x -> the same shape"""
        if not self.training or self.p == 0.0:
            return x
        return F.dropout(x, self.p, True, rng=self.rng)


def is_idle(drop: Any) -> bool:
    """Whether what a block has for dropout gives its input back as it is, unseen."""
    return is_plain(drop, Dropout) and (not drop.training or drop.p == 0.0)
