"""Tensors from nothing. Floats are float32 unless `dtype` says otherwise; random ones draw from `rng` or the thread's generator."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from .ops_common import plain_number
from .random import generator
from .tensor import Tensor, implements

FILLED = "tg.broadcast_to(value, shape)"


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with its own copy of the data."""
    made = Tensor(data, dtype=dtype)
    return Tensor(made._data.copy(), requires_grad)


def asarray(data: Any, dtype: Any = None) -> Tensor:
    """The Tensor itself, or one around the data."""
    return data if isinstance(data, Tensor) and dtype in (None, data.dtype) else Tensor(data, dtype=dtype)


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape from `zeros(2, 3)` or `zeros((2, 3))`."""
    if len(shape) == 1 and np.ndim(shape[0]):
        shape = tuple(shape[0])
    try:
        return tuple(index(n) for n in shape)
    except TypeError as error:
        raise TypeError(
            f"shape: expected whole numbers or one tuple of them, got {shape}; a dtype is a keyword here, dtype=..."
        ) from error


def zeros(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """All 0."""
    return Tensor(np.zeros(_shape(shape), dtype), requires_grad)


def ones(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """All 1."""
    return Tensor(np.ones(_shape(shape), dtype), requires_grad)


def empty(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Whatever the memory holds: to be overwritten."""
    return Tensor(np.empty(_shape(shape), dtype), requires_grad)


def full(shape: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All `fill_value`."""
    fill = Tensor(plain_number(fill_value, "full", FILLED), dtype=dtype)
    return Tensor(np.full(_shape((shape,)), fill._data), requires_grad)


@implements(np.full_like)
def full_like(x: Any, fill_value: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None) -> Tensor:
    """All `fill_value`, in x's shape and dtype, or in `shape`."""
    fill_value = plain_number(fill_value, "full_like", FILLED)
    fill_value = fill_value._data if isinstance(fill_value, Tensor) else fill_value
    return Tensor(np.full_like(Tensor(x)._data, fill_value, dtype, order, subok, shape))


@implements(np.empty_like)
def empty_like(x: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None) -> Tensor:
    """Whatever the memory holds, in x's shape and dtype, or in `shape`."""
    return Tensor(np.empty_like(Tensor(x)._data, dtype, order, subok, shape))


def arange(*bounds: float, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """arange(stop), arange(start, stop) or arange(start, stop, step): int64 for ints, float32 for floats."""
    numbers = np.arange(*bounds)
    default = np.float32 if numbers.dtype.kind == "f" else np.int64
    return Tensor(numbers.astype(dtype or default, copy=False), requires_grad)


def linspace(start: float, stop: float, num: int = 50, endpoint: bool = True, dtype: Any = np.float32) -> Tensor:
    """`num` numbers at equal distances from start to stop."""
    return Tensor(np.linspace(start, stop, num, endpoint).astype(dtype))


def eye(n: int, m: int | None = None, k: int = 0, dtype: Any = np.float32) -> Tensor:
    """1 on the k-th diagonal, else 0."""
    return Tensor(np.eye(n, m, k, dtype))


def tri(n: int, m: int | None = None, k: int = 0, dtype: Any = np.float32) -> Tensor:
    """1 on and below the k-th diagonal, else 0."""
    return Tensor(np.tri(n, m, k, dtype))


def one_hot(tensor: Any, num_classes: int = -1, dtype: Any = np.int64) -> Tensor:
    """y[..., c] = 1 where tensor[...] = c, else 0; -1 takes the largest index + 1 as the number of classes."""
    ids = Tensor(tensor)._data
    if ids.dtype.kind not in "iu":
        raise TypeError(f"one_hot: expected integers, got {ids.dtype}")
    if num_classes == -1 and ids.size == 0:
        raise ValueError("one_hot: say num_classes where there are no indices")
    classes = int(ids.max()) + 1 if num_classes == -1 else num_classes
    if ids.size and (ids.min() < 0 or ids.max() >= classes):
        raise ValueError(f"one_hot: indices must lie in 0..{classes - 1}, got {ids.min()}..{ids.max()}")
    return Tensor((ids[..., None] == np.arange(classes)).astype(dtype))


def rand(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False, rng: np.random.Generator | None = None) -> Tensor:
    """Uniform in [0, 1)."""
    return Tensor(generator(rng).random(_shape(shape), np.dtype(dtype)), requires_grad)


def randn(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False, rng: np.random.Generator | None = None) -> Tensor:
    """Normal, mean 0 and variance 1."""
    return Tensor(generator(rng).standard_normal(_shape(shape), np.dtype(dtype)), requires_grad)


def randint(low: int, high: Any = None, shape: Any = (), rng: np.random.Generator | None = None) -> Tensor:
    """Uniform integers in [low, high), or [0, low) where only one bound is given: randint(5, shape=(2, 3)), randint(5, (2, 3))."""
    if isinstance(high, (tuple, list)):
        if np.shape(shape) != (0,):
            raise TypeError(f"randint: expected bounds that are numbers, got {high} beside the shape {shape}")
        high, shape = None, high
    return Tensor(np.asarray(generator(rng).integers(low, high, _shape((shape,)) or None)))


def randperm(n: int, rng: np.random.Generator | None = None) -> Tensor:
    """The integers below n in random order."""
    return Tensor(generator(rng).permutation(n))


def multinomial(weights: Any, num_samples: int, replacement: bool = False, rng: np.random.Generator | None = None) -> Tensor:
    """(..., num_samples) categories drawn with probability weights / Σ weights, of the last axis of weights (..., classes).

    The weights are not negative and need not add up to 1. Without replacement no category comes twice, and the first has the
    smallest of Exp(1) / weight: an exponential race, in which the winner is drawn in proportion to the weights and so is each that
    follows, among those left (Efraimidis and Spirakis 2006). ValueError where a row has too few weights above 0.
    """
    w, num_samples = np.asarray(Tensor(weights)._data, np.float64), index(num_samples)
    if w.ndim == 0 or w.size == 0 or not (np.isfinite(w).all() and (w >= 0).all()):
        raise ValueError(f"multinomial: expected finite weights >= 0 along the last axis, got shape {w.shape}" + _span_of(w))
    wanted, fewest = num_samples if not replacement else 1, int((w > 0).sum(axis=-1).min())
    if num_samples < 1 or fewest < wanted:
        raise ValueError(
            f"multinomial: cannot draw {num_samples} {'with' if replacement else 'without'} replacement from a row with {fewest} "
            "weights above 0"
        )
    draws = generator(rng)
    if not replacement:
        with np.errstate(divide="ignore"):
            finish = draws.exponential(size=w.shape) / w
        return Tensor(np.argsort(finish, axis=-1)[..., :num_samples])
    rows = w.reshape(-1, w.shape[-1])
    picked = np.empty((len(rows), num_samples), np.int64)
    for row, drawn, u in zip(rows, picked, draws.random((len(rows), num_samples)), strict=True):
        ends = np.cumsum(row / row.max())
        drawn[...] = np.searchsorted(ends, u * ends[-1], side="right").clip(max=np.flatnonzero(row)[-1])
    return Tensor(picked.reshape(*w.shape[:-1], num_samples))


def _span_of(x: np.ndarray) -> str:
    return f" from {x.min()} to {x.max()}" if x.size else ""
