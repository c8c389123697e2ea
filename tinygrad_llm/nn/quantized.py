"""Weights in eight bits, for generation: each row of a matrix as int8 and one float32 scale.

Decoding one token reads every weight once and does little else, so with a quarter of the bytes
GPT-2 writes three times as fast (`benchmarks/generation.py`).
The rounding, at most 1/254 of a row's largest weight, has no useful gradient: such a weight is for inference alone.
"""

from __future__ import annotations

import numpy as np

import kernels

from ..autograd import Tensor, is_grad_enabled


class Int8Weight:
    """W ≈ q · scale;   q int8 (out, in), scale float32 (out,). Takes the place of a Linear's weight; no parameter of its module."""

    def __init__(self, weight: Tensor) -> None:
        if weight.dtype != np.float32:
            raise TypeError(f"quantize: expected float32 weights, got {weight.dtype}; call astype(np.float32) first")
        self.q, self.scale = kernels.quantize_int8(weight._data)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.q.shape

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """y = x (q · scale)ᵀ + bias   x (..., in) -> (..., out)"""
        if is_grad_enabled():
            raise RuntimeError(
                "a quantized model is for inference alone: call it inside `with tg.no_grad():`; for what needs gradients, as "
                "training and attribution do, load the model anew and quantize it afterwards"
            )
        return Tensor(kernels.matmul_int8(x._data, self.q, self.scale, None if bias is None else bias._data))

    def __repr__(self) -> str:
        return f"Int8Weight{self.shape}"
