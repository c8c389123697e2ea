"""Random numbers: one generator per thread, seeded by `manual_seed`, or the one a caller passes as `rng=`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from .state import local


def manual_seed(seed: int) -> np.random.Generator:
    """Seed this thread's generator; the same seed gives the same bits. Returns the generator."""
    local.generator = np.random.default_rng(seed)
    return local.generator


def generator(rng: np.random.Generator | None = None) -> np.random.Generator:
    """`rng` itself, or this thread's generator where it is None. Every random draw of the project asks here."""
    if rng is None:
        rng = local.generator
        if rng is None:
            rng = local.generator = np.random.default_rng()
    elif not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}; np.random.default_rng(0) makes one")
    for watcher in local.observers:
        watcher.generator_used(rng)
    return rng


@contextlib.contextmanager
def drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Inside, this thread's generator is `rng`."""
    outer, local.generator = local.generator, rng
    try:
        yield
    finally:
        local.generator = outer


def draw_seed(rng: np.random.Generator | None = None) -> int:
    """A fresh 63-bit seed, for kernels with a counter-based generator of their own."""
    return int(generator(rng).integers(0, 2**63 - 1, dtype=np.int64))
