"""What can be wrong with a gradient before its numbers are compared: each is found here and reported as itself.

NaN, shape, dtype, the number of gradients, inputs or incoming gradients overwritten, results that differ from run to run
or depend on earlier calls, and float64 that passed through float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import place, unravel
from .problem import Arrays, Problem, Pullback, flat, same

__tracebackhide__ = True  # pytest shows the caller's line and the message, not the checker's own frames


def careful_run(problem: Problem, rng: np.random.Generator) -> tuple[Pullback, np.ndarray, np.ndarray]:
    """Run forward and backward as a careful user would, twice. Returns the pullback, a dense u and its gradient."""
    arrays = problem.copies()
    first = problem.outputs(arrays)
    _unchanged(problem, arrays, "the function")
    _look_at_outputs(problem, first)
    y = problem.value(problem.copies())
    if not same(flat(first), y):
        raise problem.error(
            "nondeterministic", "the function gave two different values for the same inputs; seed its randomness inside"
        )
    u = incoming(y, rng)
    _, pullback = problem.linearize(arrays)
    g = _pull(problem, pullback, u, arrays)
    _look_at_gradients(problem, g, u)
    dense = problem.join(g)
    again_arrays = problem.copies()
    again = problem.join(_pull(problem, problem.linearize(again_arrays)[1], u, again_arrays))
    if not same(dense, again):
        _differs(problem, "nondeterministic", "gave two different gradients for the same inputs", dense, again)
    _independent_of_other_calls(problem, pullback, u, dense, y, first, g)
    return pullback, u, dense


def repeat(problem: Problem, u: np.ndarray, g: np.ndarray, times: int) -> None:
    """The same gradient again, after all that was computed in between."""
    for _ in range(times):
        again = problem.join(problem.linearize(problem.copies())[1](problem.split(u)))
        if not same(g, again):
            _differs(problem, "nondeterministic", "gave different gradients for the same inputs", g, again)


def incoming(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A dense gradient of the outputs: sizes 0.5 to 1.5, both signs; 0 where the output is infinite (a mask)."""
    u = rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape)
    if u.size > 1 and (u > 0).all():
        u[0] *= -1
    return np.where(np.isfinite(y), u, 0.0)


def _unchanged(problem: Problem, arrays: Arrays, who: str) -> None:
    for position, (now, before) in enumerate(zip(arrays, problem.arrays)):
        if isinstance(before, np.ndarray) and not np.array_equal(now, before, equal_nan=before.dtype.kind == "f"):
            spots = np.argwhere(now != before) if now.shape == before.shape else []
            where = f", first at {place(tuple(int(i) for i in spots[0])) or 'its value'}" if len(spots) else ""
            raise problem.error("mutated", f"{who} overwrote this input in place{where}; work on a copy", position)


def _look_at_outputs(problem: Problem, outputs: list[np.ndarray]) -> None:
    problem.output_shapes = [o.shape for o in outputs]
    problem.m = sum(o.size for o in outputs)
    for number, out in enumerate(outputs):
        if out.dtype != np.float64:
            raise problem.error(
                "dtype", f"output {number} is {out.dtype} though the inputs are float64; find the cast to {out.dtype}",
                output=number,
            )  # fmt: skip
        bad = np.flatnonzero(np.isnan(out))
        if len(bad):
            index = unravel(int(bad[0]), out.shape)
            raise problem.error(
                "nan", f"the function's own value is NaN at output {number}{place(index)}; choose inputs in its domain",
                output=number, output_index=index,
            )  # fmt: skip


def _pull(problem: Problem, pullback: Pullback, u: np.ndarray, arrays: Arrays) -> list[Any]:
    """One backward, watching that it leaves its arguments alone. The arrays are the backward's own."""
    parts = problem.split(u)
    gradients = pullback(parts)
    _unchanged(problem, arrays, "its gradient")
    for number, (part, before) in enumerate(zip(parts, problem.split(u))):
        if not np.array_equal(part, before):
            raise problem.error(
                "mutated", f"its gradient overwrote the incoming gradient of output {number} in place; work on a copy",
                output=number,
            )  # fmt: skip
    return gradients


def _look_at_gradients(problem: Problem, gradients: list[Any], u: np.ndarray) -> None:
    for position, d in zip(problem.active, gradients, strict=True):
        if d is None:
            continue
        x = problem.arrays[position]
        if d.shape != x.shape:
            why = " (not summed over the axes that were broadcast?)" if d.ndim >= x.ndim and d.size > x.size else ""
            raise problem.error("shape", f"the gradient has shape {d.shape}, the input has {x.shape}{why}", position)
        if d.dtype != x.dtype:
            raise problem.error("dtype", f"the gradient is {d.dtype}, the input is {x.dtype}", position)
        bad = np.flatnonzero(~np.isfinite(d))
        if len(bad):
            index = unravel(int(bad[0]), d.shape)
            raise problem.error(
                "nan", f"the gradient at index {place(index) or '()'} is {d.reshape(-1)[bad[0]]} "
                f"({len(bad)} of {d.size} elements are not finite); the input there is {float(x.reshape(-1)[bad[0]])!r}",
                position, index=index, analytic=float(d.reshape(-1)[bad[0]]),
            )  # fmt: skip
        if in_float32(d) and np.any(u):
            raise problem.error(
                "precision", "every element of the gradient is a float32 number though it must depend on a random float64 one: "
                "somewhere the rule computes in float32 (a cast, an np.float32 constant, a buffer made without dtype)",
                position,
            )  # fmt: skip


def in_float32(x: np.ndarray) -> bool:
    """True where `x` has nonzero elements and all are exactly float32 numbers: for random float64 ones, 1 in 2^29 is.

    Not so where all are as round as 3 · 2^-54, or small multiples of 2^-54: that is what rounding leaves of a gradient of zero, or
    of 1 - y² where y is almost 1.
    """
    x = x[(x != 0) & np.isfinite(x)]
    x = x[(np.abs(x) >= 2.0**-26) | (np.abs(x) * 2.0**54 % 1 != 0)]
    with np.errstate(over="ignore"):
        if not x.size or not np.all(x == x.astype(np.float32)):
            return False
    digits = np.frexp(x)[0] * 2.0**12
    return bool(np.any(digits != np.round(digits)))


def _differs(problem: Problem, kind: str, text: str, a: np.ndarray, b: np.ndarray) -> None:
    worst = int(np.argmax(np.abs(a - b)))
    position, index = problem.locate(worst)
    raise problem.error(
        kind, f"backward {text}: {float(a[worst])!r} and {float(b[worst])!r} at index {place(index) or '()'}",
        position, index=index, analytic=float(a[worst]),
    )  # fmt: skip


def elsewhere(problem: Problem, rng: np.random.Generator) -> Arrays:
    """Inputs a fair way off that keep signs and order of magnitude: each shrunk to 70-80 percent."""
    x = problem.coordinates(problem.arrays)
    return problem.at(np.where(x == 0, 1e-3 * rng.uniform(0.5, 1, x.shape), x * rng.uniform(0.7, 0.8, x.shape)))


def _independent_of_other_calls(
    problem: Problem, pullback: Pullback, u: np.ndarray, g: np.ndarray, y: np.ndarray, outputs: Arrays, gradients: Arrays
) -> None:
    """Another call in between must not change a backward, nor the arrays that the first call returned; nor may one gradient be
    given for all inputs."""
    arrays = elsewhere(problem, np.random.default_rng(7))
    try:
        with np.errstate(all="ignore"):
            y_there = problem.value(arrays)
            g_there = problem.join(problem.linearize(arrays)[1](problem.split(u))) if y_there.shape == y.shape else g
    except Exception:  # these inputs are ours, not the user's: a function may refuse them (a domain, a norm of one)
        return
    for what, now, before in (("function's value", flat(outputs), y), ("gradient", problem.join(gradients), g)):
        if not same(now, before):
            raise problem.error(
                "state", f"the {what} changed after it was returned, when the next call wrote to the same array (a buffer kept "
                "outside the call); return a new array each time"
            )  # fmt: skip
    later = problem.join(pullback(problem.split(u)))
    if not same(g, later):
        _differs(problem, "state", "depends on which forward ran last (state kept outside the call)", g, later)
    if y_there.shape != y.shape or not np.isfinite(y_there).all():
        return
    moved = y_there[y_there != y]
    if np.any(g) and in_float32(moved):
        raise problem.error(
            "precision", "every output is a float32 number though the inputs are random float64 ones: somewhere the function "
            "computes in float32, and a float64 check can say nothing"
        )  # fmt: skip
    _not_from_float32(problem, arrays, y_there)
    if np.array_equal(g, g_there) and np.any(g):
        here, there, closer = (
            _along(problem, u, g, at, h) for at, h in ((problem.arrays, 1e-5), (arrays, 1e-5), (arrays, 1e-7))
        )
        jumps = not _agree(there[1], closer[1])  # as x - floor(x) does: its gradient is the same everywhere
        if _agree(*here) and not _agree(*there) and not jumps:
            raise problem.error(
                "state", "backward gives bit for bit the same gradient at two different points, and at the second it is "
                f"wrong (along a direction {there[0]:.8g}, measured {there[1]:.8g}): a stale gradient or cache is returned"
            )  # fmt: skip


def _not_from_float32(problem: Problem, arrays: Arrays, y: np.ndarray) -> None:
    """The gradient of one output times 1, at two points close by: what moves and is a float32 number at both was made in float32.

    What does not move may be: a mask, or a float32 weight picked by one. So close by, of weights that are looked up few change.
    """
    if not y.size:
        return
    x = problem.coordinates(arrays)
    near = problem.at(x * (1 + 2e-6 * np.random.default_rng(8).uniform(0.5, 1, x.shape)))
    one = np.eye(1, y.size, y.size // 2)[0]
    try:
        with np.errstate(all="ignore"):
            here, there = (problem.join(problem.linearize(place)[1](problem.split(one))) for place in (arrays, near))
    except Exception:  # as above
        return
    some = (here != 0) & (there != 0)
    moved = (here != there) & some
    for position, start, stop in zip(problem.active, problem.starts[:-1], problem.starts[1:]):
        part = slice(start, stop)
        most = 2 * moved[part].sum() > some[part].sum()
        if most and in_float32(here[part][moved[part]]) and in_float32(there[part][moved[part]]):
            raise problem.error(
                "precision", "its gradient follows random float64 inputs in steps of float32: somewhere the rule computes in "
                "float32 (a value kept for backward, a cast, a buffer made without dtype)",
                position,
            )  # fmt: skip


def _along(problem: Problem, u: np.ndarray, g: np.ndarray, arrays: Arrays, h: float) -> tuple[float, float]:
    """The slope of u · outputs along a direction, as `g` has it and measured with step `h`."""
    x = problem.coordinates(arrays)
    v = np.where(x == 0, 1.0, np.where(np.isfinite(x), np.abs(x), 0.0))
    with np.errstate(all="ignore"):
        return float(g @ v), float(u @ (problem.value(problem.at(x + h * v)) - problem.value(problem.at(x - h * v)))) / (2 * h)


def _agree(claimed: float, measured: float) -> bool:
    return not np.isfinite(measured) or abs(claimed - measured) <= 1e-3 * max(abs(claimed), abs(measured))
