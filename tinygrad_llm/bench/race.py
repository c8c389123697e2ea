"""Validate, then time: outputs are compared before any clock starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels import _threads
from tinygrad_llm._check import need
from tinygrad_llm.bench.timing import Timing, interval_text, measure, table_row, timed_lap


class ValidationError(AssertionError):
    """A contestant's output differs from what was expected; nothing was timed."""


def as_arrays(output: Any) -> list[np.ndarray]:
    """Flatten what a contestant returned (array, Tensor of any library, tuple, list, dict, None) to ndarrays."""
    if output is None:
        return []
    if isinstance(output, dict):
        return [a for key in sorted(output) for a in as_arrays(output[key])]
    if isinstance(output, tuple | list):
        return [a for part in output for a in as_arrays(part)]
    output = widened(output)
    for method in ("detach", "numpy"):
        if hasattr(output, method) and not isinstance(output, np.ndarray):
            output = getattr(output, method)()
    array = np.asarray(output)
    if array.dtype.kind in "OSU":
        raise TypeError(f"a contestant's function must return numbers, which can be compared; it returned {array.dtype}")
    return [array]


def widened(output: Any) -> Any:
    """A library's bfloat16, which NumPy has not, as float32, which holds the same values."""
    if "bfloat16" not in str(getattr(output, "dtype", "")):
        return output
    return output.float() if hasattr(output, "float") else output.astype(np.float32)  # PyTorch's name, and JAX's


def default_tolerance(dtype: str) -> float:
    return 1e-9 if dtype == "float64" else 1e-4


def disagreement(got: list[np.ndarray], want: list[np.ndarray], tol: float) -> str | None:
    """None if all arrays agree, else one line that says where they do not."""
    if len(got) != len(want):
        return f"returned {len(got)} arrays, expected {len(want)}"
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        if a.shape != b.shape:
            return f"output {i} has shape {a.shape}, expected {b.shape}"
        if a.size == 0:
            continue
        wide = np.result_type(a, b, np.float64)  # complex where one is
        x, y = a.astype(wide), b.astype(wide)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        with np.errstate(invalid="ignore"):  # inf - inf where both are inf, which counts as the same
            gap = np.where(same, 0.0, np.abs(x - y))
        finite = np.abs(y[np.isfinite(y)])
        scale = max(float(finite.max(initial=0.0)), np.finfo(np.float64).tiny)
        if not gap.max() <= tol * scale:
            at = tuple(int(k) for k in np.unravel_index(np.argmax(np.nan_to_num(gap, nan=np.inf)), gap.shape))
            return f"output {i} at {at} is {x[at]:.7g}, expected {y[at]:.7g} (tolerance {tol:g} of {scale:.3g})"
    return None


def validate(outputs: dict[str, list[np.ndarray]], want: list[np.ndarray], judge: str, tol: float) -> None:
    """Raise ValidationError naming the first contestant that disagrees with `want`, or returned as little as the judge."""
    for name, got in outputs.items():
        if name == judge:
            continue
        if not got and not want:
            raise ValidationError(
                f"{name} and {judge} returned nothing that can be compared: return the result (of work in place, the array "
                "that it changed), or go without comparing, by tol=None of versus or check=False of a Case"
            )
        if why := disagreement(got, want, tol):
            raise ValidationError(f"{name} disagrees with {judge}: {why}")


@dataclass
class Result:
    """What `versus` measured."""

    timing: Timing

    def table(self) -> str:
        names = list(self.timing.laps)
        rows = [["contestant", "median ms", "best ms", f"time / {names[0]} (95% interval)"], ["---"] * 4]
        for name in names:
            ratio = self.timing.ratios.get(name)
            shown = "1" if ratio is None else f"{ratio.ratio:.2f} ({interval_text(ratio.low, ratio.high, ratio.rounds, ' to ')})"
            rows.append([name, f"{1e3 * self.timing.median(name):.4g}", f"{1e3 * self.timing.best(name):.4g}", shown])
        return "\n".join(map(table_row, rows))


def versus(functions: dict[str, Callable[[], Any]], seconds: float = 5.0, tol: float | None = 1e-4) -> Result:
    """Time zero-argument functions against each other in this process; the first is the one compared with.

    All must return the same values within `tol` of the largest (None: do not compare, as where they return nothing). A ratio
    above 1 means the first is faster.
    """
    if len(functions) < 1:
        raise ValueError('versus needs at least one function, as in versus({"mine": f, "numpy": g})')
    if not isinstance(functions, dict) or not all(map(callable, functions.values())):
        raise TypeError('versus takes a name and a function without arguments for each, as in versus({"mine": lambda: f(x)})')
    need("seconds", seconds, lambda x: 0 < x < float("inf"), "a finite number above 0")
    if tol is not None:  # copies: the functions may write into one array, as in `lambda: np.matmul(x, x, out=y)`
        outputs = {name: [a.copy() for a in as_arrays(called(name, f))] for name, f in functions.items()}
        judge = list(functions)[-1]
        validate(outputs, outputs[judge], judge, tol)
    before = _threads.leave_cores_to_blas  # our kernels leave NumPy's BLAS one thread; a contestant that calls it shall have all
    return Result(measure({name: timed_lap(f, before) for name, f in functions.items()}, seconds))


def called(name: str, function: Callable[[], Any]) -> Any:
    """What the function returns; an error of its own says whose it is."""
    try:
        return function()
    except Exception as error:
        error.add_note(f"raised by the contestant {name!r} of versus")
        raise
