"""Compare a claimed gradient with the measured one: along random directions, then element by element.

An element that differs at the first measurement is a suspect, no more: the ladder (numeric.py) measures it again, and
judge.py knows about kinks. Up to `SMALL` coordinates every element is visited, so one wrong element in a thousand is
always found; beyond that, random directions in blocks of 256 whose tolerance is set by the largest single contribution,
one direction so that all contributions are alike: a wrong element still shows. A block that fails is divided until its
elements are visited.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import GradcheckError, place
from .hygiene import careful_run, repeat
from .judge import Judge
from .linearity import refuse_nonlinear, refuse_where
from .numeric import ULP, Line, measure
from .problem import AS_ARRAYS, Problem, Tolerance

__tracebackhide__ = True  # pytest shows the caller's line and the message, not the checker's own frames

SMALL = 4096  # coordinates that are all visited, unless fast
BLOCK = 256
LEAF = 64  # so few are visited at once
FULL_OUTPUTS = 128  # up to so many outputs the whole Jacobian is compared, beyond it random combinations of outputs, array by array
COMBINATIONS = 3
FULL_ARRAYS = 32
WIDER = 1e3  # times the first step, where the rounding of large outputs hides small slopes


def examine(problem: Problem, tolerance: Tolerance, fast: bool) -> bool:
    """True, or raises GradcheckError."""
    if not problem.active:
        kind = lambda a: str(a.dtype) if isinstance(a, np.ndarray) else type(a).__name__ + " scalar" * isinstance(a, np.generic)
        got = ", ".join(map(kind, problem.arrays)) or "none"
        hint = "; a number or a list of them: np.array(x)" if any(isinstance(a, (float, list)) for a in problem.arrays) else ""
        hint = f"; {AS_ARRAYS}" if any(isinstance(a, dict) for a in problem.arrays) else hint
        raise problem.error("inputs", f"no input is a float64 array (got {got}), so there is no gradient to check{hint}")
    rng = np.random.default_rng(20240229)
    pullback, u, g = careful_run(problem, rng)
    if not problem.n:
        return True
    if problem.m:
        judge = Judge(problem, tolerance, pullback, u, g)
        combinations, claimed = _claims(problem, pullback, u, g, rng)
        todo = _blocks(problem, fast)
        small = problem.n <= (LEAF if fast else SMALL)
        while todo:
            block = todo.pop()
            if small or len(block) <= LEAF:
                _visit(problem, tolerance, judge, combinations, claimed, block)
            elif not _directions_agree(problem, tolerance, combinations, claimed, block, rng, fast):
                todo.extend(np.array_split(block, 4))  # narrowing the search, rather than visiting thousands
        judge.close()
        refuse_nonlinear(problem, pullback, u, g)
    repeat(problem, u, g, 1)
    _beside_alike(problem, tolerance, fast)
    return True


def _beside_alike(problem: Problem, tolerance: Tolerance, fast: bool) -> None:
    """Inputs that are one number throughout, as weights begin with zeros or ones, hide a factor that is forgotten: once more with
    other numbers in their place."""
    alike = [i for i in problem.active if _is_alike(problem.arrays[i])]
    if not alike:
        return
    rng, x = np.random.default_rng(17), problem.coordinates(problem.arrays)
    moved = problem.at(np.where(x == 0, rng.uniform(0.3, 0.7, x.shape), x * rng.uniform(0.7, 0.8, x.shape)))
    arrays = [moved[i] if i in alike else a for i, a in enumerate(problem.arrays)]
    try:
        examine(problem.of(arrays), tolerance, fast)
    except GradcheckError as error:
        if error.kind in ("mismatch", "missing"):
            names = " and ".join(problem.name(i) for i in alike)
            raise error.add(
                f"at the inputs given it is right: one number throughout hides it ({names}). Found with random numbers in its place"
            ) from None
    except Exception:  # these inputs are ours, not the user's: a function may refuse them
        return


def _is_alike(x: np.ndarray) -> bool:
    """One finite number throughout; a single one only where it is 0 or 1 in size.

    Not what may have to stay as it is: the identity, for a rule may be right for symmetric matrices alone; shares or a direction,
    for one may be right where they add up to 1, or their squares do.
    """
    if not x.size or x.min() != x.max() or not np.isfinite(x).all():
        return False
    value = abs(float(x.reshape(-1)[0]))
    if any(n > 1 and np.isclose(n * whole, 1) for n in (*x.shape, x.size) for whole in (value, value**2)):
        return False
    return x.size > 1 or value in (0.0, 1.0)


def _claims(problem: Problem, pullback: Any, u: np.ndarray, g: np.ndarray, rng: Any) -> tuple[np.ndarray | None, np.ndarray]:
    """The rows to compare: (None, the Jacobian) where it is small, else (combinations U, U · Jacobian). A combination is of one of
    the returned arrays, up to `FULL_ARRAYS` of them, for a small loss must not stand beside large ones."""
    if problem.m > FULL_OUTPUTS or problem.m * problem.n > 2_000_000:
        others = [u * rng.uniform(0.5, 2.0, u.shape) * rng.choice([-1.0, 1.0], u.shape) for _ in range(COMBINATIONS - 1)]
        combinations = np.stack([u, *others])
        if 1 < len(problem.output_shapes) <= FULL_ARRAYS:
            number = np.repeat(np.arange(len(problem.output_shapes)), problem.output_sizes)
            combinations = np.concatenate([np.where(number == k, combinations, 0.0) for k in np.unique(number)])
            return combinations, np.stack([problem.join(pullback(problem.split(c))) for c in combinations])
        rows = [g, *(problem.join(pullback(problem.split(c))) for c in combinations[1:])]
        return combinations, np.stack(rows)
    rows = []
    for j in range(problem.m):
        one = np.zeros(problem.m)
        one[j] = u[j]  # of either sign and any size, as a real gradient would be
        rows.append(problem.join(pullback(problem.split(one))) / u[j] if u[j] else np.zeros(problem.n))
    jacobian = np.stack(rows)
    terms = u[:, None] * jacobian
    total = terms.sum(axis=0)
    refuse_where(
        np.abs(total - g) > 1e-9 * (np.abs(terms).sum(axis=0) + np.abs(g)) + 1e-14, problem, u, g, total,
        "{:.10g} for a dense one, but {:.10g} when the outputs come one by one (not multiplied by it, "
        "or abs, a square or a sign of it in the rule?)",
    )  # fmt: skip
    return None, jacobian


def _blocks(problem: Problem, fast: bool) -> list[np.ndarray]:
    """Coordinates that are looked at together; within one input, as small slopes must not stand beside another's large ones."""
    if fast or problem.n <= SMALL:
        return [np.arange(problem.n)]
    return [
        np.arange(start, min(start + BLOCK, stop))
        for first, stop in zip(problem.starts[:-1], problem.starts[1:])
        for start in range(first, stop, BLOCK)
    ]


def _directions_agree(
    problem: Problem, tolerance: Tolerance, combinations: Any, claimed: np.ndarray, block: np.ndarray, rng: Any, fast: bool
) -> bool:
    """Two random directions within the block: is the slope along them what the gradient says, to within one element?

    The first moves each element by a share of itself, which stays within the function's domain. The second moves each so
    far that all count alike, for in the first an element close to 0, or with a small slope, is lost beside the others; it
    may leave the domain, or be too long to measure well, and then says something only where the block can be divided for
    that (not if `fast`).
    """
    x = problem.coordinates(problem.arrays)[block]
    u = combinations if combinations is not None else np.eye(problem.m)
    own = np.where(x == 0, 1.0, np.where(np.isfinite(x), np.abs(x), 0.0))
    for sizes, measurable in ((own, True), (_counting_alike(claimed[:, block], own), not fast)):
        v = np.zeros(problem.n)
        v[block] = sizes * rng.uniform(0.5, 1, len(block)) * rng.choice([-1.0, 1.0], len(block))
        slope = measure(_combined(problem.ray(v), u), 0.0)
        largest = np.abs(claimed[:, block] * v[block]).max(axis=1)
        allowed, error = tolerance.around(largest, largest, largest), 10 * slope.both_error
        gap = np.abs(claimed @ v - slope.both)
        off = ~((gap <= allowed) & (error <= allowed)) if measurable else gap > allowed + error
        if off.any():
            return False
    return True


def _counting_alike(claimed: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """How far to move each element for its share in the slope to be that of the others; `sizes` say how far is usual."""
    slopes, moving = np.abs(claimed).max(axis=0), sizes > 0
    some = slopes > 0
    if not (some.any() and moving.any()):
        return sizes
    usual = np.median(slopes[some])
    even = np.where(some, usual / np.maximum(slopes, 1e-3 * usual), 1.0)
    return np.where(moving, even * np.median(sizes[moving]), 0.0)


def _combined(ray: Line, u: np.ndarray) -> Line:
    return lambda t: u @ ray(t)


def _visit(problem: Problem, tolerance: Tolerance, judge: Judge, combinations: Any, claimed: np.ndarray, block: Any) -> None:
    """Every element of the block by central differences; what differs goes to the judge."""
    x = problem.coordinates(problem.arrays)
    scales = _sizes(problem, claimed, together=combinations is not None)
    with np.errstate(all="ignore"):
        for c in block:
            if not np.isfinite(x[c]):
                continue  # -inf in a mask: there is nothing to measure
            scale = scales[:, int(np.searchsorted(problem.starts, c, side="right") - 1)]
            look = functools.partial(_first_look, problem, tolerance, combinations, claimed[:, c], int(c), float(x[c]), scale)
            suspect, unsure = look(tolerance.eps)
            if unsure.any():
                again = look(WIDER * tolerance.eps)
                suspect |= np.logical_or(*again)
            if suspect.any():
                judge.hear(int(c), suspect, combinations, claimed[:, c], scale)


def _sizes(problem: Problem, claimed: np.ndarray, together: bool) -> np.ndarray:
    """For each row of `claimed` and each input the largest claim in that row's output: a penalty of 1e-9 is not held to the size of
    the loss beside it. Of rows that are combinations of outputs, the largest of those of the same outputs."""
    largest = [np.abs(claimed[:, a:b]).max(axis=1, initial=0.0) for a, b in zip(problem.starts[:-1], problem.starts[1:])]
    sizes, start = np.stack(largest, axis=1), 0
    for length in [COMBINATIONS] * (len(claimed) // COMBINATIONS) if together else problem.output_sizes:
        rows = sizes[start : start + length]
        rows[...] = rows.max(axis=0, initial=0.0)
        start += length
    return sizes


def _first_look(
    problem: Problem, tolerance: Tolerance, combinations: Any, claimed: np.ndarray, c: int, x: float, scale: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """One central difference along coordinate `c`, from its value x: which claims differ from it, and which by no more than the
    rounding of large outputs may be, of which a wider step shows less."""
    line, h = problem.line(c), eps * max(1.0, abs(x))
    high, low = line(x + h), line(x - h)
    if eps > tolerance.eps:
        high, low = problem.of_this_size(high), problem.of_this_size(low)
    elif high.shape != (problem.m,) or low.shape != (problem.m,):
        position, index = problem.locate(c)
        raise problem.error(
            "inputs", f"the number of output elements changes when index {place(index)} moves by {h:.1g}", position, index=index
        )
    measured = (high - low) / ((x + h) - (x - h))
    size = np.fmax(np.abs(high), np.abs(low))
    if combinations is not None:
        measured, size = combinations @ measured, np.abs(combinations) @ size
    gap, largest = np.abs(claimed - measured), np.fmax(scale, np.abs(measured))
    off = ~(gap <= tolerance.around(claimed, measured, largest))
    rounding = gap <= tolerance.around(claimed, measured, largest, 8 * ULP * size / h)
    return off & ~rounding, off & rounding


# -- public building block ---------------------------------------------------------------------------------------------


def assert_gradients_close(
    actual: Any, expected: Any, *, atol: float = 1e-7, rtol: float = 1e-5, names: Sequence[str] | None = None
) -> None:
    """Fail unless gradients agree: |actual - expected| <= atol + rtol · |expected|, same shapes, None only with None.

    One array or Tensor, or a sequence of them. The message names the input and the worst index. Raises GradcheckError.
    """
    Tolerance(atol=atol, rtol=rtol)  # refuses what can be none
    several = isinstance(actual, (list, tuple))
    if several != isinstance(expected, (list, tuple)):
        raise TypeError("assert_gradients_close: expected two sequences of gradients, or two gradients")
    pairs = list(zip(actual, expected, strict=False)) if several else [(actual, expected)]
    if several and len(actual) != len(expected):
        raise GradcheckError("count", f"{len(actual)} gradients, expected {len(expected)}")
    for i, (a, e) in enumerate(pairs):
        label = f"gradient {i}" + (f" ({names[i]})" if names else "") if several or names else "gradient"
        _assert_close(label, i, a, e, atol, rtol)


def _assert_close(label: str, i: int, a: Any, e: Any, atol: float, rtol: float) -> None:
    if a is None or e is None:
        if a is not e:
            raise GradcheckError("missing", f"{label}: one is None, the other is not", input=i)
        return
    a, e = (np.asarray(t.numpy() if hasattr(t, "numpy") else t, dtype=np.float64) for t in (a, e))
    if a.shape != e.shape:
        raise GradcheckError("shape", f"{label}: shape {a.shape}, expected {e.shape}", input=i)
    off = ~((np.abs(a - e) <= atol + rtol * np.abs(e)) | (a == e))
    if off.any():
        gap = np.where(np.isnan(a - e), np.inf, np.abs(a - e) - rtol * np.abs(e))
        worst = tuple(int(k) for k in np.unravel_index(int(np.argmax(gap)), a.shape)) if a.ndim else ()
        raise GradcheckError(
            "mismatch",
            f"{label}: {int(off.sum())} of {a.size} elements differ; the worst is {place(worst) or 'its value'}: "
            f"{a[worst]:.10g}, expected {e[worst]:.10g} (difference {abs(a[worst] - e[worst]):.3g}, "
            f"allowed {atol + rtol * abs(e[worst]):.3g})",
            input=i, index=worst, analytic=float(a[worst]), numeric=float(e[worst]),
        )  # fmt: skip
