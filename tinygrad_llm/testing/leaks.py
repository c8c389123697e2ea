"""float32 in the middle: a rule that computes in float32 somewhere inside a float64 graph.

The walker casts what a rule returns to the input's dtype, and an error of 6e-8 is within any tolerance, so neither dtype nor
value shows it. But a gradient that depends on a random float64 one is a float32 number with a chance of 1 in 2^29.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.state import Observer, observe
from .hygiene import in_float32, incoming
from .problem import Problem


def _cancelled(d: np.ndarray, g: np.ndarray) -> bool:
    """A sum that cancels leaves a few last bits, which any float32 could hold: no evidence."""
    return bool(np.abs(d).max(initial=0) <= 1e-12 * np.abs(g).max(initial=0))


class _Watch(Observer):
    def __init__(self) -> None:
        self.found: tuple[str, int] | None = None

    def after_rule(self, node: Any, g: Any, gradients: tuple[Any, ...], seconds: float) -> None:
        if self.found or not isinstance(g, np.ndarray) or g.dtype != np.float64 or in_float32(g):
            return
        for i, d in enumerate(gradients):
            if isinstance(d, np.ndarray) and d.dtype == np.float64 and in_float32(d) and not _cancelled(d, g):
                self.found = node.op.name, i
                return


def refuse_float32_rules(problem: Problem) -> None:
    """Run one backward and look at what each rule returns."""
    with np.errstate(all="ignore"):
        u = incoming(problem.value(problem.copies()), np.random.default_rng(13))
        pullback = problem.linearize(problem.copies())[1]
        watch = _Watch()
        with observe(watch):
            pullback(problem.split(u))
    if watch.found is None:
        return
    op, i = watch.found
    error = problem.error(
        "precision",
        f"the rule of {op!r} for its input {i} returns float32 numbers, though its incoming gradient is float64: a cast, an "
        "np.float32 constant, or a buffer made without dtype",
    )
    raise error.blame(op, f"op to blame: {op}, its rule for input {i}")
