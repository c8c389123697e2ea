"""Activations under PyTorch's names. Part of `functional`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._check import need
from . import ops_neural as fused
from .ops_common import as_floats, derived, normal_axis, plain_number, value
from .ops_elementary import expm1, sigmoid, tanh
from .ops_join import array_split
from .ops_shape import as_tensor
from .random import generator
from .tensor import Tensor

relu, silu, swiglu, geglu = fused.relu, fused.silu, fused.swiglu, fused.geglu


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """y = x Φ(x); approximate="tanh" is GPT-2's form."""
    return fused.gelu(input, approximate=approximate)


def _rows(function: Any, input: Any, axis: int, dtype: Any) -> Tensor:
    input = as_tensor(input) if dtype is None else as_tensor(input).astype(dtype)
    if input.ndim == 0:
        return function(input.reshape(1), axis=axis).reshape(())
    return function(input, axis=axis)


def softmax(input: Any, axis: int = -1, dtype: Any = None) -> Tensor:
    """yᵢ = e^xᵢ / Σⱼ e^xⱼ along the axis."""
    return _rows(fused.softmax, input, axis, dtype)


def softmin(input: Any, axis: int = -1, dtype: Any = None) -> Tensor:
    """The softmax of -x."""
    return softmax(-as_tensor(input), axis, dtype)


def log_softmax(input: Any, axis: int = -1, dtype: Any = None) -> Tensor:
    """The logarithm of softmax, without the loss of small numbers."""
    return _rows(fused.log_softmax, input, axis, dtype)


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Tensor:
    """y = x where x > 0, else slope · x."""
    plain_number(negative_slope, "leaky_relu: negative_slope", "tg.functional.prelu(x, weight)")
    x = as_floats(as_tensor(input))
    return x * fused.by_sign(value(x), negative_slope)


def prelu(input: Any, weight: Any) -> Tensor:
    """`leaky_relu` with a trained slope, one for all or one for each channel (axis 1)."""
    x = as_tensor(input)
    weight = as_tensor(weight, x)
    if weight.size != 1 and x.ndim > 1:
        weight = weight.reshape((1, -1) + (1,) * (x.ndim - 2))
    return np.where(x > 0, x, x * weight)


def elu(input: Any, alpha: float = 1.0) -> Tensor:
    """y = x where x > 0, else α (eˣ - 1)."""
    alpha = plain_number(alpha, "elu: alpha", "tg.where(x > 0, x, alpha * tg.expm1(tg.minimum(x, 0)))")
    return fused.elu(as_floats(as_tensor(input)), alpha=alpha)


def selu(input: Any) -> Tensor:
    """y = 1.0507 elu(x) with α = 1.6733, which keeps mean 0 and variance 1   Klambauer et al. 2017, arXiv:1706.02515"""
    return 1.0507009873554805 * elu(input, 1.6732632423543772)


def celu(input: Any, alpha: float = 1.0) -> Tensor:
    """y = max(x, 0) + min(α (e^(x/α) - 1), 0)."""
    x = as_tensor(input)
    return np.where(x > 0, x, alpha * expm1(np.where(x > 0, 0, x) / alpha))


def mish(input: Any) -> Tensor:
    """y = x tanh(softplus(x))   Misra 2019, arXiv:1908.08681"""
    x = as_tensor(input)
    return x * tanh(softplus(x))


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """y = log(1 + e^(βx)) / β, and x itself where βx exceeds the threshold."""
    x = as_tensor(input)
    y = fused.softplus(x * beta) / beta if beta != 1 else fused.softplus(x)
    if x.dtype == np.float32 and threshold >= 20:  # there y is x
        return y
    return np.where(x * beta > threshold, x, y)


def logsigmoid(input: Any) -> Tensor:
    """y = log σ(x) = -log(1 + e⁻ˣ)."""
    return -fused.softplus(-as_tensor(input))


def softsign(input: Any) -> Tensor:
    """y = x / (1 + |x|)."""
    x = as_tensor(input)
    return x / (1 + np.absolute(x))


def tanhshrink(input: Any) -> Tensor:
    """y = x - tanh x."""
    x = as_tensor(input)
    return x - tanh(x)


def _within(x: Tensor, low: float, high: float) -> Tensor:
    """clip, but a bound itself gets no gradient, as in PyTorch's hard functions; NaN is on neither bound and stays."""
    low, high = x.dtype.type(low), x.dtype.type(high)
    return np.where(x >= high, high, np.where(x <= low, low, x))


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """y = x cut off at both values."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} exceeds max_val {max_val}")
    low, high = (plain_number(bound, "hardtanh", "tg.clip(x, low, high)") for bound in (min_val, max_val))
    return _within(as_tensor(input), low, high)


def relu6(input: Any) -> Tensor:
    """y = min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0)


def hardsigmoid(input: Any) -> Tensor:
    """y = min(max(x / 6 + 1/2, 0), 1)."""
    return _within(as_tensor(input) / 6 + 0.5, 0.0, 1.0)


def hardswish(input: Any) -> Tensor:
    """y = x · hardsigmoid(x)."""
    x = as_tensor(input)
    inner = np.where((x <= -3) | (x >= 3), 0, x)  # the branch not taken must not make inf · 0 of an infinite x
    return np.where(x <= -3, 0, np.where(x >= 3, x, inner * (inner + 3) / 6))


def hardshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """y = x where |x| > λ, else 0."""
    x = as_tensor(input)
    return np.where((x >= -lambd) & (x <= lambd), 0, x)


def softshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """y = x moved towards 0 by λ, at most to 0."""
    x = as_tensor(input)
    return np.where((x >= -lambd) & (x <= lambd), 0, x - lambd * np.sign(x._data))


def threshold(input: Any, threshold: float, value: float) -> Tensor:
    """y = x where x exceeds the threshold, else the value."""
    x = as_tensor(input)
    return np.where(x <= threshold, value, x)


@derived()
def glu(input: Any, axis: int = -1) -> Tensor:
    """y = a σ(b), a and b the halves of x along the axis   Dauphin et al. 2017, arXiv:1612.08083"""
    x = as_tensor(input)
    if x.shape[normal_axis(axis, x.ndim)] % 2:
        raise ValueError(f"the axis must have an even length, got shape {x.shape}, axis {axis}")
    a, b = array_split(x, 2, axis)
    return a * sigmoid(b)


def gumbel_softmax(
    logits: Any, tau: float = 1.0, hard: bool = False, axis: int = -1, rng: np.random.Generator | None = None
) -> Tensor:
    """y = softmax((x - log(-log u)) / τ), u uniform in (0, 1): a draw with a gradient   Jang et al. 2017 §2, arXiv:1611.01144

    `hard`: one-hot at the largest y, with y's gradient.
    """
    need("tau", tau, lambda t: 0 < t < float("inf"), "a finite number above 0")
    x = as_tensor(logits)
    noise = generator(rng).gumbel(size=x.shape).astype(x.dtype)
    soft = softmax((x + noise) / tau, axis)
    if not hard:
        return soft
    winner = soft._data == soft._data.max(axis=axis, keepdims=True)
    return soft + (winner.astype(x.dtype) - soft._data)


__all__ = [
    "celu", "elu", "geglu", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "leaky_relu", "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "selu", "sigmoid", "silu",
    "softmax", "softmin", "softplus", "softshrink", "softsign", "swiglu", "tanh", "tanhshrink", "threshold",
]  # fmt: skip
