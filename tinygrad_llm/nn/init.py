"""Initialisers, the table of who uses which, and skeletons: models whose parameters have shapes but no memory.

    who                  weights                                       residual outputs        embeddings
    PyTorch's layers     U(±1/sqrt(fan_in)), biases too                as weights              N(0, 1)
    Transformer 2017     Xavier uniform, biases 0                      as weights              N(0, D^-1/2)
    BERT, RoBERTa,       N(0, 0.02) (BERT's own code truncates at 2σ)  as weights              N(0, 0.02)
      ALBERT, ELECTRA
    GPT                  N(0, 0.02)                                    as weights              N(0, 0.02)
    GPT-2, GPT-3         N(0, 0.02)                                    N(0, 0.02/sqrt(2L))     N(0, 0.02)
    Llama                N(0, 0.02), no biases                         as weights              N(0, 0.02)
    BART                 N(0, 0.02)                                    as weights              N(0, 0.02)
    T5                   q N(0, (DK)^-1/2); k, v N(0, D^-1/2)          o N(0, (HK)^-1/2),      N(0, 1)
                         wi N(0, D^-1/2)                               wo N(0, F^-1/2)

An initialiser is a function (array, rng) that fills the array in place. Norm weights are ones everywhere, biases zeros where the
table says nothing else.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernels.arrays import empty

from ..autograd import Tensor, generator
from ..autograd.elsewhere import OF_INIT, no_attribute

Initialiser = Callable[[np.ndarray, np.random.Generator], None]


def normal(std: float = 0.02, mean: float = 0.0) -> Initialiser:
    """N(mean, std²)."""

    def fill(array: np.ndarray, rng: np.random.Generator) -> None:
        dtype = array.dtype if array.dtype in (np.float32, np.float64) else np.float32
        drawn = rng.standard_normal(array.shape, dtype)
        drawn *= std
        drawn += mean
        array[...] = drawn

    return fill


def uniform(bound: float) -> Initialiser:
    """U(-bound, bound)."""

    def fill(array: np.ndarray, rng: np.random.Generator) -> None:
        array[...] = rng.uniform(-bound, bound, array.shape)

    return fill


def xavier_uniform(gain: float = 1.0) -> Initialiser:
    """U(±gain · sqrt(6 / (fan_in + fan_out))).   Glorot and Bengio 2010"""

    def fill(array: np.ndarray, rng: np.random.Generator) -> None:
        uniform(gain * math.sqrt(6.0 / sum(array.shape)))(array, rng)

    return fill


def fan_in_uniform(array: np.ndarray, rng: np.random.Generator) -> None:
    """U(±1/sqrt(fan_in)): what torch.nn.Linear does."""
    uniform(1.0 / math.sqrt(max(array.shape[-1], 1)))(array, rng)


def constant(value: float) -> Initialiser:
    """The same number everywhere."""

    def fill(array: np.ndarray, rng: np.random.Generator) -> None:
        array[...] = value

    return fill


zeros, ones = constant(0.0), constant(1.0)


class _Building(threading.local):
    skeleton: bool = False


_building = _Building()


@contextlib.contextmanager
def skeleton() -> Iterator[None]:
    """Modules made inside get parameters with a shape but without memory: count, compare and check before allocating."""
    before = _building.skeleton
    _building.skeleton = True
    try:
        yield
    finally:
        _building.skeleton = before


def in_skeleton() -> bool:
    """True inside `with skeleton():`."""
    return _building.skeleton


def parameter(shape: tuple[int, ...], init: Initialiser, rng: np.random.Generator | None = None, dtype: Any = np.float32) -> Tensor:
    """A trainable Tensor of this shape, filled by `init`."""
    for n in shape:
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"parameter: every size must be a positive int, got shape {shape}")
    if _building.skeleton:
        return Tensor(np.broadcast_to(np.zeros((), dtype), shape), requires_grad=True)
    array = empty(shape, dtype)
    init(array, generator(rng))
    return Tensor(array, requires_grad=True)


def __getattr__(name: str) -> Any:
    """What `torch.nn.init` has and this module has not: the error says how it is written."""
    raise no_attribute(sys.modules[__name__], name, OF_INIT)
