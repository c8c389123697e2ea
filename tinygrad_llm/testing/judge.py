"""The judge: a suspected element is measured again by the ladder of steps before it is accused.

Kinks. At a tie, or where relu meets zero, there is no derivative; any value between the slopes of the two sides is a
subgradient and passes. Where that is not enough (the middle one of three tied values moves on neither side), the
gradient is compared with those at two dozen points near by, where the function is smooth: a value between them is in
Clarke's generalized gradient (Clarke 1983, 2.5) and passes. Each tied element alone may pass while all together are
wrong (a tied max that gives every element the whole gradient), so the excused elements of an output are at last moved
together, and the slope along that direction must fit as well.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .errors import pattern, place
from .hygiene import repeat
from .numeric import ULP, Slope, measure, spread_over
from .problem import Problem, Pullback, Tolerance

__tracebackhide__ = True  # pytest shows the caller's line and the message, not the checker's own frames

NEIGHBOURS = 24
FEW_OUTPUTS = 64
JOINT_OUTPUTS = 16  # outputs whose excused elements are moved together
PATTERN_SIZE = 2048  # inputs up to this size are measured whole to say what the error looks like


class Excused(NamedTuple):
    """A claimed value that passed at a kink, and on which side it is the slope: 1, -1, or 0 on neither."""

    claimed: float
    side: int


class Judge:
    """Hears suspects one coordinate at a time; `close` hears the excused ones together."""

    def __init__(self, problem: Problem, tolerance: Tolerance, pullback: Pullback, u: np.ndarray, g: np.ndarray) -> None:
        self.problem, self.tolerance, self.pullback = problem, tolerance, pullback
        self.u, self.g = u, g
        self.excused: dict[int, dict[int, Excused]] = {}  # output -> coordinate
        self.blind: list[tuple[int, float, float]] = []  # (coordinate, claimed, possible error): too noisy to say

    def hear(self, c: int, suspect: np.ndarray, combinations: Any, claimed: np.ndarray, scale: np.ndarray) -> None:
        """Coordinate `c` measured by the ladder, and each suspect heard: an output, or a row of `combinations` of outputs.
        `scale`: of what size the gradients of each are."""
        slope = self._measure(c)
        if combinations is None:
            for j in np.flatnonzero(suspect & (self.u != 0)):
                self._hear_entry(c, int(j), float(claimed[j]), slope, float(scale[j]))
            return
        kinked = (slope.kinked | slope.jumps | ~slope.known) & (self.u != 0)
        for j in np.flatnonzero(kinked)[:8]:
            self._hear_entry(c, int(j), self._claim(c, int(j)), slope, float(scale.max()))
        for r in np.flatnonzero(suspect):
            self._search(c, np.where(kinked, 0.0, combinations[r]), slope, float(scale[r]))

    def _measure(self, c: int) -> Slope:
        """The slope along one coordinate; of many outputs only those that move with it are measured."""
        x = float(self.problem.coordinates(self.problem.arrays)[c])
        near = self.problem.line(c)
        line = lambda t: self.problem.of_this_size(near(t))
        if self.problem.m <= FEW_OUTPUTS:
            return measure(line, x)
        here, step, wide = line(x), self.tolerance.eps * max(1.0, abs(x)), max(1.0, abs(x)) / 2
        with np.errstate(all="ignore"):  # a wide step may leave the domain: NaN counts as moved
            moved = np.flatnonzero(np.any([line(x + h) != here for h in (step, -step, wide, -wide)], axis=0))
        return spread_over(measure(lambda t: line(t)[moved], x), moved, 8 * ULP * np.abs(here) / wide)

    # -- one element -------------------------------------------------------------------------------------------------

    def _claim(self, c: int, j: int) -> float:
        """What backward says about output j and coordinate c alone."""
        return float(self.problem.join(self.pullback(self._alone(j)))[c] / self.u[j])

    def _alone(self, j: int) -> list[np.ndarray]:
        """The incoming gradients with output j's alone in them; new memory, for a rule may write to it."""
        one = np.zeros(self.problem.m)
        one[j] = self.u[j]
        return self.problem.split(one)

    def _search(self, c: int, u: np.ndarray, slope: Slope, scale: float) -> None:
        """Halve the set of outputs until the one whose entry is wrong is alone. The errors of many, of either sign, add up as their
        squares do: as their sizes, those of three thousand outputs that do not move would hide a wrong one."""
        estimate, error = np.nan_to_num(slope.best), np.where(u == 0, 0.0, slope.best_error)

        def gap(part: np.ndarray) -> float:
            value = self.problem.join(self.pullback(self.problem.split(part)))[c]
            expected = float(part @ estimate)
            size = max(scale, abs(value), abs(expected))
            allowed = self.tolerance.around(value, expected, size) + 10 * float(np.linalg.norm(part * error))
            return abs(value - expected) / max(allowed, 1e-300)

        outputs = np.flatnonzero(u)
        if gap(u) <= 1:
            return
        while len(outputs) > 1:
            halves = []
            for half in (outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :]):
                part = np.zeros_like(u)
                part[half] = u[half]
                halves.append((gap(part), half))
            outputs = max(halves, key=lambda pair: pair[0])[1]
        j = int(outputs[0])
        self._hear_entry(c, j, self._claim(c, j), slope, scale)

    def _hear_entry(self, c: int, j: int, claimed: float, slope: Slope, scale: float) -> None:
        value, best, error = np.array(claimed), float(slope.best[j]), float(slope.best_error[j])
        one = slope.only(j)
        allowed = self.tolerance.around(claimed, best if np.isfinite(best) else 0.0, max(scale, abs(claimed)))
        if bool(one.admits(value, np.array(allowed))[0]):
            if bool(one.kinked[0]):
                on = [abs(claimed - float(side[0])) <= allowed + 1e-4 * abs(claimed) for side in (one.right, one.left)]
                self.excused.setdefault(j, {})[c] = Excused(claimed, int(on[0]) - int(on[1]))
            elif abs(claimed - best) > allowed and 10 * one.least_error > max(1e-2 * abs(claimed), self.tolerance.atol):
                self.blind.append((c, claimed, error))
            return
        if self._near_by(j, np.eye(1, self.problem.n, c)[0], claimed, allowed):
            self.excused.setdefault(j, {})[c] = Excused(claimed, 0)
            return
        self._accuse(c, j, claimed, one, allowed)

    def _near_by(self, j: int, v: np.ndarray, claimed: float, allowed: float) -> bool:
        """Is `claimed` between the gradients at points near by, they being right there and not all the same?"""
        problem = self.problem
        found = [(float(problem.join(pullback(self._alone(j))) @ v / self.u[j]), there) for there, pullback in self._neighbours]
        (low, at_low), (high, at_high) = min(found, key=lambda f: f[0]), max(found, key=lambda f: f[0])
        if not high - low > 1e-3 * max(abs(low), abs(high)) or not low - allowed <= claimed <= high + allowed:
            return False
        for value, there in ((low, at_low), (high, at_high)):
            slope = measure(problem.ray_of(j, v, there), 0.0)
            if not bool(slope.admits(np.array(value), np.array(allowed + 1e-4 * abs(value)))[0]):
                return False
        return True

    @functools.cached_property
    def _neighbours(self) -> list[tuple[np.ndarray, Pullback]]:
        """Points near by, and the pullback at each; the same for all elements, of which thousands may be excused."""
        rng, x = np.random.default_rng(11), self.problem.coordinates(self.problem.arrays)
        size = 2.0**-20 * np.maximum(np.where(np.isfinite(x), np.abs(x), 0.0), 1.0)
        points = [x + size * way for way in (*self._orders, *(rng.uniform(-1, 1, x.shape) for _ in range(NEIGHBOURS)))]
        return [(there, self.problem.linearize(self.problem.at(there))[1]) for there in points]

    @functools.cached_property
    def _orders(self) -> list[np.ndarray]:
        """Ways to part what is equal: the order of the coordinates, as a stable sort has it, and that in which the rule gives the
        outputs, as for topk; both upwards and downwards. By chance sixty equal numbers do not get into it."""
        falling = self.problem.join(self.pullback(self.problem.split(np.linspace(2, 1, self.problem.m) * (self.u != 0))))
        ways = (np.linspace(-1, 1, self.problem.n), falling / max(np.max(np.abs(falling)), 1e-300))
        return [sign * way for way in ways for sign in (1, -1)]

    # -- all together ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Excused elements of one output, moved together; and the share of elements that nothing could be said about."""
        problem = self.problem
        several = [(j, entries) for j, entries in self.excused.items() if len(entries) > 1]
        for j, entries in several[:JOINT_OUTPUTS]:
            ends = {c: e.side for c, e in entries.items() if e.side}
            rest = {c: 1 for c, e in entries.items() if not e.side}
            misfit = self._misfit(j, dict.fromkeys(entries, 1))
            # kinks that do not meet, as of clip at both its ends, fit when each moves to the side whose slope it claims
            if misfit and (not ends or self._misfit(j, ends) or self._misfit(j, rest)):
                self._accuse_together(j, entries, *misfit)
        if len(self.blind) > problem.n / 2:
            c, claimed, error = self.blind[0]
            position, index = problem.locate(c)
            raise problem.error(
                "noise", f"nothing can be said: at index {place(index) or '()'} the gradient {claimed:.4g} drowns in the "
                f"function's rounding noise (the derivative cannot be measured closer than {error:.1g}); use inputs of "
                "ordinary size",
                position, index=index, analytic=claimed,
            )  # fmt: skip

    def _misfit(self, j: int, signs: dict[int, int]) -> tuple[float, Slope] | None:
        """What output `j`'s excused elements claim for moving together by `signs`, and what is measured, where that cannot be."""
        v = np.zeros(self.problem.n)
        v[list(signs)] = list(signs.values())
        slope = measure(self.problem.ray_of(j, v), 0.0)
        terms = [sign * self.excused[j][c].claimed for c, sign in signs.items()]
        claimed = float(sum(terms))
        allowed = self.tolerance.around(claimed, float(slope.best[0]), max(map(abs, terms), default=0.0)) * len(signs)
        fits = bool(slope.admits(np.array(claimed), np.array(allowed))[0]) or self._near_by(j, v, claimed, allowed)
        return None if fits else (claimed, slope)

    # -- accusations -------------------------------------------------------------------------------------------------

    def _accuse(self, c: int, j: int, claimed: float, slope: Slope, allowed: float) -> None:
        problem = self.problem
        repeat(problem, self.u, self.g, 5)  # if it is not the same each time, that is the finding
        position, index = problem.locate(c)
        number, output_index = problem.locate_output(j)
        best, error = float(slope.best[0]), float(slope.best_error[0])
        facts = dict(index=index, output=number, output_index=output_index, analytic=claimed, numeric=best)
        if not np.isfinite(error):
            raise problem.error(
                "nan", f"the function is NaN or Inf on both sides of index {place(index) or '()'}; choose inputs in its domain",
                position, **facts,
            )  # fmt: skip
        answer = dict(zip(problem.active, self.pullback(self._alone(j)), strict=True))[position]
        missing = answer is None
        lines = [
            f"the gradient of {problem.name_output(j)} at index {place(index) or '()'} is wrong"
            if not missing else f"the gradient is missing (None), but {problem.name_output(j)} does depend on it",
            f"  claimed     {'None' if missing else format(claimed, '.12g')}",
            f"  measured    {best:.12g}  (to within {max(error, 1e-16):.1g}; Richardson, steps {slope.widest:.2g} to "
            f"{slope.finest:.2g})",
            f"  difference  {abs(claimed - best):.4g}, allowed {allowed:.2g}",
        ]  # fmt: skip
        if bool(slope.kinked[0]):
            lines.append(f"  there is a kink: {float(slope.left[0]):.8g} on the left, {float(slope.right[0]):.8g} on the right")
        if slope.endless[0]:
            lines.append(f"  the slope has no end: it passes {float(slope.endless[0]):.4g} and grows with every smaller step")
        looks = "" if missing else self._pattern(position)
        if looks:
            lines.append(f"  pattern     {looks}")
        raise problem.error("missing" if missing else "mismatch", "\n".join(lines), position, **facts)

    def _accuse_together(self, j: int, entries: dict[int, Excused], claimed: float, slope: Slope) -> None:
        problem = self.problem
        position, index = problem.locate(next(iter(entries)))
        number, output_index = problem.locate_output(j)
        spots = ", ".join(f"{problem.name(p)} {place(i)}" for p, i in (problem.locate(c) for c in list(entries)[:4]))
        raise problem.error(
            "mismatch",
            f"the gradient of {problem.name_output(j)} is wrong at a tie or kink\n"
            f"  elements    {len(entries)}: {spots}{', …' if len(entries) > 4 else ''}\n"
            f"  claimed     {claimed:.12g} in sum; each may be, all together cannot\n"
            f"  measured    {float(slope.best[0]):.12g} when they move together\n"
            f"  difference  {abs(claimed - float(slope.best[0])):.4g}; share the gradient among the tied elements, or give it "
            "to one",
            position, index=index, output=number, output_index=output_index, analytic=claimed, numeric=float(slope.best[0]),
        )  # fmt: skip

    def _pattern(self, position: int) -> str:
        """What the whole gradient of that input looks like beside the measured one."""
        problem = self.problem
        k = problem.active.index(position)
        start, stop = int(problem.starts[k]), int(problem.starts[k + 1])
        if stop - start > PATTERN_SIZE:
            return ""
        x = problem.coordinates(problem.arrays)
        measured = np.empty(stop - start)
        with np.errstate(all="ignore"):
            for c in range(start, stop):
                line, h = problem.line(c), 1e-6 * max(1.0, abs(x[c]))
                measured[c - start] = np.dot(self.u, line(x[c] + h) - line(x[c] - h)) / ((x[c] + h) - (x[c] - h))
        shape = problem.arrays[position].shape
        return pattern(self.g[start:stop].reshape(shape), measured.reshape(shape))
