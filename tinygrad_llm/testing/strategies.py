"""Hypothesis strategies for testing array code and its gradients, ours or anybody's.

    from hypothesis import given
    from tinygrad_llm.testing import check_vjp, strategies as st

    @given(st.arrays(st.shapes(max_side=4)))
    def test_softplus(x):
        check_vjp(softplus, softplus_backward, x)

All shrink towards few dimensions, short sides and simple values. Needs Hypothesis: pip install 'tinygrad-llm[test]'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp
except ImportError as error:
    raise ImportError("tinygrad_llm.testing.strategies needs Hypothesis: pip install 'tinygrad-llm[test]'") from error

from .declarations.forms import away_from

Shape = tuple[int, ...]

MASK_KINDS = ("none", "causal", "boolean", "float", "padding", "fully masked row")


def shapes(min_dims: int = 0, max_dims: int = 4, min_side: int = 1, max_side: int = 5) -> st.SearchStrategy[Shape]:
    """Shapes; `min_side=0` includes empty arrays."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def broadcastable_shapes(
    count: int = 2, min_dims: int = 0, max_dims: int = 3, min_side: int = 1, max_side: int = 4
) -> st.SearchStrategy[tuple[Shape, ...]]:
    """Tuples of `count` shapes that broadcast against each other."""
    several = hnp.mutually_broadcastable_shapes(
        num_shapes=count, min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )
    return several.map(lambda found: found.input_shapes)


@st.composite
def arrays(
    draw: Any,
    shape: Shape | st.SearchStrategy[Shape] | None = None,
    *,
    low: float = -2.0,
    high: float = 2.0,
    dtype: Any = np.float64,
    avoid: Sequence[float] = (),
    margin: float = 1e-2,
    ties: bool = False,
    layouts: bool = False,
) -> np.ndarray:
    """Float arrays with values in [low, high].

    `avoid`: values (kinks, poles) to keep `margin` away from. `ties`: values from a coarse lattice, so that some are
    equal; otherwise all differ by at least a thousandth of the range, so that no sort or max sits on a tie.
    `layouts`: Fortran order, reversed and strided views as well.
    """
    given = shapes() if shape is None else shape
    shape = draw(given) if isinstance(given, st.SearchStrategy) else given
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = int(np.prod(shape))
    if ties:
        x = rng.integers(0, 5, size) / 4 * (high - low) + low
    else:  # one value from each of `size` cells of the range, in random order
        x = low + (rng.permutation(size) + rng.uniform(0.25, 0.75, size)) / max(size, 1) * (high - low)
    x = away_from(x, avoid, margin, rng).reshape(shape).astype(dtype)
    layout = draw(st.sampled_from(["C", "F", "reversed", "strided"])) if layouts and x.ndim else "C"
    return _with_layout(x, layout)


def _with_layout(x: np.ndarray, layout: str) -> np.ndarray:
    """The same values lying differently in memory."""
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "reversed":
        return np.ascontiguousarray(x[::-1])[::-1]
    if layout == "strided":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


def tensors(
    shape: Shape | st.SearchStrategy[Shape] | None = None, *, requires_grad: bool = True, **options: Any
) -> st.SearchStrategy[Any]:
    """Tensors on `arrays(shape, **options)`."""
    from ..autograd.tensor import Tensor

    return arrays(shape, **options).map(lambda x: Tensor(x, requires_grad=requires_grad))


@st.composite
def axes(draw: Any, ndim: int, *, none: bool = True, several: bool = True, negative: bool = True) -> Any:
    """An `axis` argument for `ndim` dimensions: None, an int, or a tuple of ints (possibly empty)."""
    kinds = (["none"] if none else []) + (["one"] if ndim else []) + (["several"] if several else [])
    if not kinds:
        raise ValueError("axes: a 0-dimensional array has no axis; allow none=True or several=True")
    kind = draw(st.sampled_from(kinds))
    if kind == "none":
        return None
    sign = (lambda a: draw(st.sampled_from([a, a - ndim]))) if negative else (lambda a: a)
    if kind == "one":
        return sign(draw(st.integers(0, ndim - 1)))
    chosen = draw(st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim)) if ndim else []
    return tuple(sign(a) for a in chosen)


@st.composite
def index_expressions(draw: Any, shape: Shape, *, advanced: bool = True, repeats: bool = True) -> Any:
    """What may stand in x[...] for an array of `shape`: ints, slices, None, Ellipsis; integer and boolean arrays.

    Integer arrays repeat indices (gradients must accumulate) unless `repeats=False`.
    """
    if advanced and shape and draw(st.integers(0, 4)) == 0:
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        return rng.uniform(size=shape) < 0.5
    parts: list[Any] = []
    arrays_shape: Shape | None = None
    for side in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["slice", "int", "array"] if advanced else ["slice", "int"])) if side else "slice"
        if kind == "int":
            parts.append(draw(st.integers(-side, side - 1)))
        elif kind == "slice":
            parts.append(draw(st.slices(side)))
        else:
            if arrays_shape is None:  # all index arrays of one expression broadcast
                arrays_shape = draw(shapes(1, 2, 1, 3)) if repeats else (draw(st.integers(1, min(n for n in shape if n))),)
            values = st.integers(-side, side - 1) if repeats else st.integers(0, side - 1)
            size = int(np.prod(arrays_shape))
            flat = draw(st.lists(values, min_size=size, max_size=size, unique=not repeats))
            parts.append(np.array(flat, dtype=np.int64).reshape(arrays_shape))
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), None)
    if draw(st.booleans()):
        parts.append(...)
    return parts[0] if len(parts) == 1 and draw(st.booleans()) else tuple(parts)


@dataclass(frozen=True)
class AttentionProblem:
    """B batch, H query heads, T queries, S keys, D head width; `mask` one of `MASK_KINDS`; `groups` query heads a key head."""

    B: int
    H: int
    T: int
    S: int
    D: int
    mask: str
    groups: int
    seed: int

    @property
    def is_causal(self) -> bool:
        return self.mask == "causal"

    def arrays(self, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """q (B, H, T, D), k and v (B, H / groups, S, D), and the mask: None, bool (True = may attend) or float (added)."""
        rng = np.random.default_rng(self.seed)
        q = rng.standard_normal((self.B, self.H, self.T, self.D)).astype(dtype)
        k, v = (rng.standard_normal((self.B, self.H // self.groups, self.S, self.D)).astype(dtype) for _ in range(2))
        return q, k, v, self._mask(rng, dtype)

    def _mask(self, rng: np.random.Generator, dtype: Any) -> np.ndarray | None:
        if self.mask in ("none", "causal"):
            return None
        if self.mask == "float":
            return rng.standard_normal((self.B, self.H, self.T, self.S)).astype(dtype)
        if self.mask == "padding":
            lengths = rng.integers(1, self.S + 1, self.B)
            return (np.arange(self.S) < lengths[:, None])[:, None, None, :]  # (B, 1, 1, S)
        may = rng.uniform(size=(self.T, self.S)) < 0.6
        may[np.arange(self.T), rng.integers(0, self.S, self.T)] = True
        if self.mask == "fully masked row":
            may[rng.integers(0, self.T)] = False
        return may


@st.composite
def attention_problems(
    draw: Any, *, max_length: int = 6, max_width: int = 4, masks: Sequence[str] = MASK_KINDS
) -> AttentionProblem:
    """Attention problems: (B, H, T, S, D), mask kind, and how many query heads share a key head (GQA)."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    length = st.integers(1, max_length)
    return AttentionProblem(
        B=draw(st.integers(1, 2)),
        H=groups * draw(st.integers(1, 2)),
        T=draw(length),
        S=draw(length),
        D=draw(st.integers(1, max_width)),
        mask=draw(st.sampled_from(list(masks))),
        groups=groups,
        seed=draw(st.integers(0, 2**32 - 1)),
    )
