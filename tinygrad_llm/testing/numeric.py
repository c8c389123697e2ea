"""Derivatives by measuring: central differences, complex step, and a ladder of steps with Richardson extrapolation.

The ladder is the judge of every suspect. It evaluates the function at x ± h for h from about |x|/2 down by factors of
four, removes the leading error terms (Richardson 1911; Ridders 1982), estimates the function's own noise from the
smallest steps, and keeps the estimate whose spread over neighbouring steps, plus noise / h, is least. So it finds the
right step for values of 1e6 and for curvature of 1e8 alike, and says how far its answer can be trusted. It also
measures the slope on either side alone: where the two differ there is a kink, and every value between them is a
subgradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._check import need

ULP = float(np.finfo(np.float64).eps)
Line = Callable[[float], np.ndarray]  # coordinate -> outputs, flat

FACTOR = 4.0
LEVELS = 22


@dataclass(frozen=True)
class Slope:
    """A measured derivative for every output: the estimate and how far it may be off, two-sided and on each side."""

    both: np.ndarray
    both_error: np.ndarray
    right: np.ndarray
    right_error: np.ndarray
    left: np.ndarray
    left_error: np.ndarray
    endless: np.ndarray  # a number that the slope passes where it grows with every smaller step (√x at 0), else 0
    widest: float  # the steps that were used
    finest: float

    def each(self, change: Callable[[str, np.ndarray], np.ndarray]) -> Slope:
        """The same with change(name, array) in the place of each array."""
        changed: dict[str, Any] = {name: change(name, a) for name, a in vars(self).items() if isinstance(a, np.ndarray)}
        return replace(self, **changed)

    def only(self, j: int) -> Slope:
        """The slope of output `j` alone."""
        return self.each(lambda name, a: a[j : j + 1])

    @property
    def known(self) -> np.ndarray:
        return np.isfinite(self.both_error) | np.isfinite(self.right_error) | np.isfinite(self.left_error)

    @property
    def best(self) -> np.ndarray:
        """The two-sided estimate, or that of the side that exists (at the edge of the domain)."""
        side = np.where(self.right_error <= self.left_error, self.right, self.left)
        return np.where(np.isfinite(self.both_error), self.both, side)

    @property
    def best_error(self) -> np.ndarray:
        return np.where(np.isfinite(self.both_error), self.both_error, np.minimum(self.right_error, self.left_error))

    @property
    def least_error(self) -> float:
        """Of a single output: how well the better of the two ways, two-sided or by sides, knows the slope."""
        return float(min(self.best_error[0], self.right_error[0] + self.left_error[0]))

    @property
    def kinked(self) -> np.ndarray:
        """Where the slopes of the two sides differ by more than their errors (also at a jump)."""
        gap = np.abs(self.right - self.left)
        size = np.maximum(np.abs(self.right), np.abs(self.left))
        return gap > 20 * (self.right_error + self.left_error) + 1e-6 * size

    @property
    def jumps(self) -> np.ndarray:
        """Where two-sided differences mean nothing, as at a jump."""
        return self.both_error > 1e3 * (self.right_error + self.left_error)

    def admits(self, value: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
        """Where `value` can be the derivative: equal to the estimate, or between the slopes of the two sides.

        Where the slope is infinite, 0 passes as the usual convention, but no other number that the slope has passed.
        """
        equal = ~self.jumps & (np.abs(value - self.both) <= tolerance + 10 * self.both_error)
        slack = tolerance + 10 * (self.right_error + self.left_error)
        low, high = np.fmin(self.left, self.right), np.fmax(self.left, self.right)
        between = (value >= low - slack) & (value <= high + slack) & np.isfinite(slack)
        one_sided = np.isinf(self.both_error) & (np.abs(value - self.best) <= tolerance + 10 * self.best_error)
        passed = (value != 0) & (value * np.sign(self.endless) < np.abs(self.endless) / 2)
        return ((np.isfinite(self.both_error) & equal) | between | one_sided) & ~passed


def steps_for(x: float) -> np.ndarray:
    """Steps for a coordinate of value `x`, falling; powers of two, so that x ± h rounds as little as it can."""
    top = 2.0 ** np.round(np.log2(max(abs(x), 1.0) / 2))
    steps = top * FACTOR ** -np.arange(LEVELS)
    size = abs(x)
    if 0 < size < 1e-5:  # a value near zero may be as far as the function can go: steps on its own scale, too
        own = 2.0 ** np.round(np.log2(size / 2)) * FACTOR ** -np.arange(12.0)
        steps = np.concatenate([steps[steps > 2 * own[0]], own])
    return steps


def measure(line: Line, x: float) -> Slope:
    """The derivative of `line` at coordinate `x` by the ladder of steps."""
    steps = steps_for(x)
    with np.errstate(all="ignore"):
        high = np.stack([line(x + h) for h in steps])  # (K, m)
        low = np.stack([line(x - h) for h in steps])
        up = np.array([(x + h) - x for h in steps])[:, None]
        down = np.array([x - (x - h) for h in steps])[:, None]
        noise = _noise(high, low, steps / max(abs(x), 1.0))
        two_sided = (high - low) / (up + down)
        both = _extrapolate(two_sided, (up + down) / 2, noise, 2)
        above, below = np.diff(high, axis=0) / np.diff(up, axis=0), np.diff(low, axis=0) / -np.diff(down, axis=0)
        right, left = _extrapolate(above, up[:-1], noise, 1), _extrapolate(below, down[:-1], noise, 1)
    return Slope(*both, *right, *left, _endless(above, below), float(steps[0]), float(steps[-1]))


def _endless(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The slope at the finest step where it grows by a tenth at each of the last ten on every side that there is, else 0.

    A power of x does, below 1 at 0; x log x does not, and noise not ten times in a row.
    """

    def growing(d: np.ndarray) -> np.ndarray:
        d = d[-10:]
        grows = (d[1:] * d[:-1] > 0) & (np.abs(d[1:]) > 1.1 * np.abs(d[:-1]))
        return np.where(grows.all(axis=0), d[-1], 0.0)

    right, left = growing(above), growing(below)
    no_right, no_left = np.isnan(above).all(axis=0), np.isnan(below).all(axis=0)
    return np.where(no_left | (right * left > 0), right, np.where(no_right, left, 0.0))


def spread_over(slope: Slope, moved: np.ndarray, flat_error: np.ndarray) -> Slope:
    """A slope measured for the outputs in `moved` (indices) alone as one for all; the others did not move at all."""

    def whole(name: str, part: np.ndarray) -> np.ndarray:
        full = flat_error.copy() if name.endswith("_error") else np.zeros_like(flat_error)
        full[moved] = part
        return full

    return slope.each(whole)


def _noise(high: np.ndarray, low: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """How much each output jitters: rounding of its value, or what the smallest steps show beyond a straight line."""
    values = np.where(np.isfinite(high), high, 0)[-8:], np.where(np.isfinite(low), low, 0)[-8:]
    noise = ULP * np.maximum(np.abs(values[0]).max(axis=0), np.abs(values[1]).max(axis=0))
    for y in values:
        y = y[-5:]
        bend = (y[:-2] - y[1:-1]) - FACTOR * (y[1:-1] - y[2:])  # zero for a straight line
        noise = np.maximum(noise, np.abs(bend).max(axis=0) / (2 + FACTOR))
    return np.maximum(np.maximum(noise, _grain(np.concatenate([high, low]))), _stair(high, low, steps))


def _stair(high: np.ndarray, low: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The height of the first stair, where an output stands still over the finest steps and then jumps by a rounding.

    log Σ exp of values near 1,000 moves in stairs of 1e-13. Only small stairs close by count; others are the function.
    """
    moved = (high != high[-1]) | (low != high[-1])
    still = ~moved[-3:].any(axis=0)
    first = len(steps) - 1 - np.argmax(moved[::-1], axis=0)[None]  # the finest step at which it moves
    take = lambda y: np.take_along_axis(y, first, 0)[0]
    height = np.maximum(np.abs(take(high) - high[-1]), np.abs(take(low) - high[-1]))
    small = (height <= 1e-8 * np.maximum(np.abs(high[-1]), 1.0)) & (steps[first[0]] <= 1e-6)
    return np.where(still & moved.any(axis=0) & small, height, 0.0)


def _grain(y: np.ndarray) -> np.ndarray:
    """The power of two that all values of an output are multiples of: the trace of (x + 1e6) - 1e6, or of float32.

    Such a function is flat over steps finer than its grain, which must not be taken for a slope of zero. A grain of the
    order of the values (floor, round) is the function itself, no noise.
    """
    mantissa, exponent = np.frexp(np.where(np.isfinite(y), y, 0.0))
    digits = (mantissa * 2.0**53).astype(np.int64)
    lowest = np.where(digits == 0, 1, digits & -digits)
    power = np.where(digits == 0, 1 << 20, exponent - 53 + np.log2(lowest).astype(int)).min(axis=0)
    grain = np.ldexp(1.0, np.minimum(power, 0))
    return np.where(grain <= 1e-6 * np.maximum(np.abs(np.nan_to_num(y)).max(axis=0), 1.0), grain, 0.0)


def _extrapolate(d: np.ndarray, h: np.ndarray, noise: np.ndarray, power: int) -> tuple[np.ndarray, np.ndarray]:
    """From differences `d` at steps `h` the best estimate and its error; `power` of h in the leading error term."""
    ratio = h[:-1] / h[1:]
    once = (ratio**power * d[1:] - d[:-1]) / (ratio**power - 1)
    weight = ratio[:-1] ** (2 * power)
    twice = (weight * once[1:] - once[:-1]) / (weight - 1)
    spread = lambda t: np.abs(np.diff(t, axis=0))[:-1] + np.abs(np.diff(t, axis=0))[1:]
    plain = d[1:-1], spread(d) + 2 * noise / h[1:-1]
    first = once[1:-1], spread(once) + 3 * noise / h[2:-1]
    agree = np.abs(twice - once[1:]) + np.abs(np.diff(twice, axis=0, append=np.nan))
    second = twice, agree + 4 * noise / h[2:]
    estimates = np.concatenate([plain[0], first[0], second[0]])
    errors = np.concatenate([plain[1], first[1], second[1]]) + _contradiction(estimates, d, h, noise)
    errors = np.where(np.isfinite(errors) & np.isfinite(estimates), errors, np.inf)
    best = np.argmin(errors, axis=0)[None]
    estimate = np.take_along_axis(estimates, best, 0)[0]
    error = np.take_along_axis(errors, best, 0)[0]
    return np.where(np.isfinite(error), estimate, np.nan), error


def _contradiction(estimates: np.ndarray, d: np.ndarray, h: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """How much each estimate is contradicted by a finer step, beyond that step's own truncation and noise.

    Without this, log(x) at 1e-8 would be taken for flat: over steps of 0.1 its slope is small and steady.
    """
    worst = np.zeros_like(estimates)
    count = len(d) - 2
    first_level = np.concatenate([np.arange(1, count + 1), np.arange(2, count + 1), np.arange(2, count + 2)])[:, None]
    for k in range(count):
        unsure = 10 * noise / h[k] + 2 * (np.abs(d[k] - d[k + 1]) + np.abs(d[k + 1] - d[k + 2]))
        excess = np.abs(estimates - d[k]) - unsure
        worst = np.where((first_level < k) & (excess > worst), excess, worst)
    return worst


# -- the public building block -----------------------------------------------------------------------------------------


def numerical_gradient(
    fn: Callable[[Any], Any], x: Any, method: str = "central", *, eps: float | None = None
) -> np.ndarray:
    """The gradient of `fn` at `x`, measured; nothing of `fn` but its values is used. It gets copies of `x`, which stays as it is.

    For a function with one output the gradient has the shape of `x`; for an array of outputs the result is the
    Jacobian, of shape ``output.shape + x.shape``. `x` is a float64 ndarray, or a Tensor if `fn` wants one.

    method     how, and the relative error to expect
    central    (f(x + h) - f(x - h)) / 2h with h = eps · max(1, |x|), eps 1e-6 unless given: 1e-10 to 1e-6
    complex    Im f(x + ih) / h with h = 1e-30 (Squire & Trapp 1998): rounding only; `fn` must be analytic NumPy
               (no abs, max, comparisons) and take complex arrays
    richardson the ladder of this file, any scale: 1e-12 to 1e-9
    """
    if method not in ("central", "complex", "richardson"):
        raise ValueError(f"numerical_gradient: method is 'central', 'complex' or 'richardson', got {method!r}")
    if eps is not None:
        need("eps", eps, lambda h: 0 < h < np.inf, "a finite number above 0, or None")
    call, base = _on_arrays(fn, x)
    if base.dtype != np.float64:
        raise TypeError(f"numerical_gradient: x must be float64, got {base.dtype}; use x.astype(np.float64)")
    value = call(base.copy())
    columns = np.empty((value.size, base.size))
    for i in range(base.size):
        if method == "complex":
            columns[:, i] = _complex_step(call, base, i)
            continue
        line = lambda t, i=i: call(with_element(base, i, t)).ravel()
        at = float(base.flat[i])
        if method == "central":
            h = (eps or 1e-6) * max(1.0, abs(at))
            columns[:, i] = (line(at + h) - line(at - h)) / ((at + h) - (at - h))
        else:
            columns[:, i] = measure(line, at).best
    return columns.reshape(value.shape + base.shape)


def with_element(base: np.ndarray, flat: int, value: Any) -> np.ndarray:
    """A copy of `base` with one element replaced."""
    changed = base.copy()
    changed.flat[flat] = value
    return changed


def _on_arrays(fn: Callable[[Any], Any], x: Any) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """`fn` as a function of an ndarray, and the array to start from. Values are copied: `fn` may return one buffer each time."""
    if isinstance(x, (np.ndarray, list, tuple)) or np.isscalar(x):
        base = np.array(x, dtype=None if isinstance(x, np.ndarray) else float)
        return lambda array: np.array(_plain(fn(array))), base
    return lambda array: np.array(_plain(fn(type(x)(array)))), np.array(x.numpy())


def _plain(value: Any) -> Any:
    return value.numpy() if hasattr(value, "numpy") and not isinstance(value, np.ndarray) else value


def _complex_step(call: Callable[[np.ndarray], np.ndarray], base: np.ndarray, i: int, h: float = 1e-30) -> np.ndarray:
    shifted = base.astype(np.complex128)
    shifted.flat[i] += 1j * h
    result = call(shifted)
    if result.dtype.kind != "c":
        raise TypeError(
            "numerical_gradient: method='complex' needs a function that keeps complex numbers; "
            f"it returned {result.dtype}. abs, max, comparisons and casts to float lose the imaginary part; "
            "use method='richardson'"
        )
    return (result.imag / h).ravel()
