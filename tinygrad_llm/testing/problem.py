"""Problem: a function and its claimed gradient, seen as plain arrays in and plain arrays out.

`gradcheck` makes one from a function of Tensors, `check_vjp` from a foreign pair; everything that measures and judges
works on this form alone. The differentiable inputs, flat and end to end, are the *coordinates* 0 … n-1; the float
outputs, likewise, are 0 … m-1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import GradcheckError, place, unravel

Arrays = list[Any]
Pullback = Callable[[list[np.ndarray]], list[Any]]  # gradients of the outputs -> gradient of each differentiable input
AS_ARRAYS = "give a number as np.array(x), what a dict or list holds one by one: lambda *given: f(dict(zip(names, given)))"


@dataclass(frozen=True)
class Tolerance:
    """`atol` + `rtol` · |value|; `eps` is the step of the first measurement."""

    eps: float = 1e-6
    atol: float = 1e-7
    rtol: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 < self.eps < np.inf:
            raise ValueError(f"eps: expected a step above 0, got {self.eps}")
        for name in ("atol", "rtol"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: expected a finite tolerance of at least 0, got {getattr(self, name)}")

    def around(self, analytic: Any, numeric: Any, scale: Any, floor: Any = 0.0) -> Any:
        """What may differ. Where the whole gradient is small, so is the default `atol`: else it would hide anything."""
        atol = self.atol if self.atol > 1e-7 else np.minimum(self.atol, np.maximum(1e-5 * scale, floor))
        return atol + self.rtol * np.fmax(np.abs(analytic), np.abs(numeric))


class Problem:
    """`outputs(arrays)` gives the float outputs; `linearize(arrays)` the same and the pullback to check."""

    def __init__(
        self,
        what: str,
        arrays: Sequence[Any],
        names: Sequence[str],
        outputs: Callable[[Arrays], list[np.ndarray]],
        linearize: Callable[[Arrays], tuple[list[np.ndarray], Pullback]],
    ) -> None:
        self.what = what
        self.arrays = copied(arrays)
        self.names = list(names)
        self.active = [i for i, a in enumerate(arrays) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
        self.outputs = outputs
        self.linearize = linearize
        sizes = [self.arrays[i].size for i in self.active]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self.n = int(self.starts[-1])
        self.output_shapes: list[tuple[int, ...]] = []
        self.m = 0

    def of(self, arrays: Sequence[Any]) -> Problem:
        """The same function at other inputs of the same kinds."""
        return Problem(self.what, arrays, self.names, self.outputs, self.linearize)

    @property
    def output_sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.output_shapes]

    # -- values ------------------------------------------------------------------------------------------------------

    def copies(self) -> Arrays:
        return copied(self.arrays)

    def value(self, arrays: Arrays) -> np.ndarray:
        """All outputs, flat and end to end; its own memory."""
        return flat(self.outputs(arrays))

    def _value_near_by(self, arrays: Arrays) -> np.ndarray:
        """The value at inputs that a measurement chose; NaN where the function refuses them (a step out of its domain)."""
        try:
            return self.value(arrays)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError):  # at the caller's own inputs they are not caught
            return np.full(self.m, np.nan)

    def of_this_size(self, outputs: np.ndarray) -> np.ndarray:
        """The outputs, or NaN where there are more or fewer of them than at the inputs (x[x > 0], farther from x)."""
        return outputs if outputs.shape == (self.m,) else np.full(self.m, np.nan)

    def coordinates(self, arrays: Arrays) -> np.ndarray:
        return flat([arrays[i] for i in self.active])

    def at(self, coordinates: np.ndarray) -> Arrays:
        """The inputs with other values in the coordinates."""
        arrays = self.copies()
        for i, start, stop in zip(self.active, self.starts[:-1], self.starts[1:]):
            arrays[i] = laid_out(coordinates[start:stop].reshape(self.arrays[i].shape), self.arrays[i])
        return arrays

    def line(self, coordinate: int) -> Callable[[float], np.ndarray]:
        """The outputs as a function of one coordinate."""
        position, offset = self._input_of(coordinate)

        def along(t: float) -> np.ndarray:
            arrays = self.copies()
            arrays[position].flat[offset] = t
            return self._value_near_by(arrays)

        return along

    def ray(self, direction: np.ndarray, start: np.ndarray | None = None) -> Callable[[float], np.ndarray]:
        """The outputs as a function of t at x + t · direction."""
        x = self.coordinates(self.arrays) if start is None else start
        return lambda t: self.of_this_size(self._value_near_by(self.at(x + t * direction)))

    def ray_of(self, j: int, direction: np.ndarray, start: np.ndarray | None = None) -> Callable[[float], np.ndarray]:
        """Output `j` alone as a function of t at x + t · direction."""
        ray = self.ray(direction, start)
        return lambda t: ray(t)[j : j + 1]

    # -- gradients ---------------------------------------------------------------------------------------------------

    def split(self, u: np.ndarray) -> list[np.ndarray]:
        """A flat vector over the outputs as one array for each output; new memory, for a rule may write to it."""
        parts, start = [], 0
        for shape, size in zip(self.output_shapes, self.output_sizes, strict=True):
            parts.append(u[start : start + size].reshape(shape).copy())
            start += size
        return parts

    def join(self, gradients: Sequence[Any]) -> np.ndarray:
        """The pullback's answer as one vector over the coordinates; None counts as zero."""
        return flat(
            [np.zeros(self.arrays[i].size) if d is None else d for i, d in zip(self.active, gradients, strict=True)]
        )

    # -- words -------------------------------------------------------------------------------------------------------

    def _input_of(self, coordinate: int) -> tuple[int, int]:
        k = int(np.searchsorted(self.starts, coordinate, side="right") - 1)
        return self.active[k], int(coordinate - self.starts[k])

    def locate(self, coordinate: int) -> tuple[int, tuple[int, ...]]:
        """Which input, and the index in it."""
        position, offset = self._input_of(coordinate)
        return position, unravel(offset, self.arrays[position].shape)

    def locate_output(self, j: int) -> tuple[int, tuple[int, ...]]:
        for number, size in enumerate(self.output_sizes):
            if j < size:
                return number, unravel(j, self.output_shapes[number])
            j -= size
        raise IndexError(j)

    def name(self, position: int) -> str:
        """`input 0 (x)`."""
        return f"input {position} ({self.names[position]})" if self.names[position] else f"input {position}"

    def name_output(self, j: int) -> str:
        """`output [2]`, or `output 1 [2]` where there are several."""
        number, index = self.locate_output(j)
        return f"output {number if len(self.output_shapes) > 1 else ''}{place(index)}".replace("output [", "output[").rstrip()

    def error(self, kind: str, text: str, position: int | None = None, **facts: Any) -> GradcheckError:
        where = f", {self.name(position)}" if position is not None else ""
        return GradcheckError(kind, f"{self.what}{where}: {text}", input=position, **facts)


def laid_out(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The values in new memory, laid out as `like` is: a rule may be wrong in Fortran order alone, or in a reversed view.

    The order of the axes, their directions and the gaps between elements are kept; a gap of more than an axis covers shrinks
    to that.
    """
    if like.flags.c_contiguous or like.dtype.hasobject:
        return values.copy()
    strides, reach, first = [0] * like.ndim, like.itemsize, 0
    for k in sorted(range(like.ndim), key=lambda k: (abs(like.strides[k]), -k)):  # the innermost axis first
        step = max(reach, min(abs(like.strides[k]), 2 * reach))
        strides[k] = -step if like.strides[k] < 0 else step
        covered = step * (like.shape[k] - 1)
        reach += covered
        first += covered if like.strides[k] < 0 else 0
    copy = np.ndarray(like.shape, like.dtype, np.zeros(reach, np.uint8), first, tuple(strides))  # type: ignore[arg-type]
    copy[...] = values
    return copy


def copied(arrays: Sequence[Any]) -> Arrays:
    """Copies of the arrays, laid out as they are; what is no array stays."""
    return [laid_out(a, a) if isinstance(a, np.ndarray) else a for a in arrays]


def flat(arrays: Sequence[Any]) -> np.ndarray:
    """Arrays end to end as one float64 vector, in new memory."""
    return np.concatenate([np.zeros(0), *(np.asarray(a, np.float64).ravel() for a in arrays)])


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to a few roundings of the largest value: threads may sum in another order, nothing else may differ."""
    if a.shape != b.shape:
        return False
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return False
    scale = np.max(np.abs(a[finite]), initial=0.0)
    return bool(np.all(np.abs(a[finite] - b[finite]) <= 64 * np.finfo(np.float64).eps * scale))
