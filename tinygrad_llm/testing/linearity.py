"""Backward is linear in the incoming gradient, of whatever size, in whatever parts, and however it lies in memory.

Nothing is measured here: such a backward contradicts itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import GradcheckError, place
from .hygiene import repeat
from .problem import Problem, same

__tracebackhide__ = True  # pytest shows the caller's line and the message, not the checker's own frames


def refuse_nonlinear(problem: Problem, pullback: Any, u: np.ndarray, g: np.ndarray) -> None:
    """Raise unless the backward that gives g for u gives for other gradients made of u what it must."""
    _any_size(problem, pullback, u, g)
    _any_parts(problem, pullback, u, g)
    _any_layout(problem, pullback, u, g)


def _any_size(problem: Problem, pullback: Any, u: np.ndarray, g: np.ndarray) -> None:
    """A power of two or a sign in the incoming gradient comes out as it went in: nothing is clipped, cut off or added."""
    for factor in (2.0**-20, 2.0**20, -1.0):
        scaled = problem.join(pullback(problem.split(u * factor))) / factor
        off = (np.abs(scaled - g) > 1e-9 * np.abs(g) + 1e-14) & np.isfinite(scaled)
        refuse_where(
            off, problem, u, g, scaled,
            f"{{:.10g}} for one of ordinary size, but {{:.10g}} times {factor:.3g} for {factor:.3g} times the same "
            "(clipped, cut off at a threshold, or not multiplied by it?)",
        )  # fmt: skip


def _any_parts(problem: Problem, pullback: Any, u: np.ndarray, g: np.ndarray) -> None:
    """The gradients of two parts add up to that of the whole: where one has zeros, and where it is ones, as of a sum."""
    rng, x = np.random.default_rng(5), problem.coordinates(problem.arrays)
    values = problem.value(problem.copies())
    largest = np.max(np.abs(values[np.isfinite(values)]), initial=1.0)
    for part in (u * (rng.uniform(size=u.shape) < 0.5), np.where(u == 0, 0.0, 1.0)):
        one, other = (problem.join(pullback(problem.split(p))) for p in (part, u - part))
        total = one + other
        slack = 1e-6 * (np.abs(one) + np.abs(other) + np.abs(g)) + 1e-14 * largest / np.clip(np.abs(x), 1e-9, 1)  # rounding
        refuse_where(
            ~(np.abs(total - g) <= slack) & np.isfinite(x), problem, u, g, total,
            "{:.10g} for the whole, but {:.10g} for its parts (something special for zeros, ones, or one sign?)",
        )  # fmt: skip


def _any_layout(problem: Problem, pullback: Any, u: np.ndarray, g: np.ndarray) -> None:
    """An incoming gradient that lies in memory in another way, as behind a transposition, gives the same."""
    for laid in (np.asfortranarray, lambda p: np.repeat(p[::-1], 2, axis=0)[::-2] if p.ndim else p):
        try:
            other = problem.join(pullback([laid(p) for p in problem.split(u)]))
        except GradcheckError as error:
            if error.kind == "raised":  # foreign code may insist on a layout
                continue
            raise
        if not same(g, other):
            repeat(problem, u, g, 5)  # if it is not the same each time, that is the finding
            c = int(np.argmax(np.abs(g - other)))
            position, index = problem.locate(c)
            raise problem.error(
                "mismatch", "backward depends on how the incoming gradient lies in memory: "
                f"at index {place(index) or '()'} it gives {other[c]:.10g} for a transposed, reversed or strided one, "
                f"{g[c]:.10g} for the same numbers in C order",
                position, index=index, analytic=float(other[c]), numeric=float(g[c]),
            )  # fmt: skip


def refuse_where(off: np.ndarray, problem: Problem, u: np.ndarray, g: np.ndarray, other: np.ndarray, says: str) -> None:
    """Where `off`, accuse a backward that gives g for u, and `other` by linearity from other gradients; `says` shows both."""
    if not off.any():
        return
    repeat(problem, u, g, 5)  # if it is not the same each time, that is the finding
    c = int(np.argmax(off))
    position, index = problem.locate(c)
    raise problem.error(
        "nonlinear",
        f"backward is not linear in the incoming gradient: at index {place(index) or '()'} it gives "
        + says.format(g[c], other[c]),
        position, index=index, analytic=float(g[c]), numeric=float(other[c]),
    )  # fmt: skip
