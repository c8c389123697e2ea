"""A function of Tensors as a `Problem` on arrays, and its gradient as a function again.

Every evaluation gets fresh Tensors on copies, so the caller's are never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd.engine import GradientError, grad
from ..autograd.state import enable_grad
from ..autograd.tensor import Tensor
from .errors import GradcheckError
from .hygiene import incoming
from .problem import Arrays, Problem, Pullback, Tolerance, copied, same

Function = Callable[..., Any]


def fresh_tensors(values: Sequence[Any], wanted: Sequence[int]) -> list[Any]:
    """Leaves on copies of the arrays; those in `wanted` require a gradient."""
    return [
        Tensor(v, requires_grad=i in wanted) if isinstance(v, np.ndarray) else v for i, v in enumerate(copied(values))
    ]


def outputs_of(fn: Function, tensors: Sequence[Any]) -> list[Any]:
    result = fn(*tensors)
    return list(result) if isinstance(result, (tuple, list)) else [result]


def problem_of(
    what: str, fn: Function, values: list[Any], wanted: list[int], names: Sequence[str], level: int = 1
) -> Problem:
    """A function of Tensors as a Problem on arrays. Inputs that are not wanted stay what they are.

    An output that requires no gradient beside one that does is passed over; not so a derivative (`level` above 1): of what it
    depends on, it has one.
    """
    live = [v if i in wanted or not isinstance(v, np.ndarray) else _Fixed(v) for i, v in enumerate(values)]

    def call(arrays: Arrays) -> tuple[list[Any], list[Tensor]]:
        tensors = [
            Tensor(a, requires_grad=i in wanted) if isinstance(a, np.ndarray)
            else Tensor(a.array) if isinstance(a, _Fixed) else a
            for i, a in enumerate(arrays)
        ]  # fmt: skip
        outs = outputs_of(fn, tensors)
        for number, out in enumerate(outs):
            if not isinstance(out, Tensor):
                raise GradcheckError(
                    "inputs", f"{what}: output {number} is {type(out).__name__}, expected a Tensor", output=number
                )
        return outs, [tensors[i] for i in wanted]

    with enable_grad():
        first, _ = call(copied(live))
    differentiable = [i for i, out in enumerate(first) if out.requires_grad] if level == 1 else []
    kept = differentiable or [i for i, out in enumerate(first) if out.dtype.kind == "f"]
    if not kept:
        raise GradcheckError("inputs", f"{what}: no output is a float ({', '.join(str(o.dtype) for o in first)})")

    def forward(arrays: Arrays) -> list[np.ndarray]:
        with enable_grad():  # as the gradient's own run: `fn` may differentiate inside, or set hooks
            outs, _ = call(arrays)
        return [outs[i]._data for i in kept]

    def linearize(arrays: Arrays) -> tuple[list[np.ndarray], Pullback]:
        with enable_grad():
            outs, leaves = call(arrays)

        def pullback(grads: list[np.ndarray]) -> list[Any]:
            pairs = [(outs[i], Tensor(g)) for i, g in zip(kept, grads, strict=True) if outs[i].requires_grad]
            if not pairs:
                return [None] * len(leaves)
            try:
                found = grad(
                    [o for o, _ in pairs], leaves, [g for _, g in pairs], allow_unused=True, retain_graph=True
                )
            except GradientError as error:
                raise GradcheckError("shape" if "shape" in str(error) else "raised", f"{what}: {error}") from error
            except Exception as error:  # out of somebody's rule: say so, with the cause attached
                raise GradcheckError("raised", f"{what}: backward raised {type(error).__name__}: {error}") from error
            return [None if d is None else d._data for d in found]

        return [outs[i]._data for i in kept], pullback

    return Problem(what, live, names, forward, linearize)


class _Fixed:
    """An array input that is not differentiated; wrapped, so that it does not count as a coordinate."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


# -- second order ------------------------------------------------------------------------------------------------------


def derivative_of(
    fn: Function, values: list[Any], wanted: list[int], tolerance: Tolerance
) -> tuple[Function, list[Any], list[int]]:
    """`fn`'s gradient as a function of the same inputs and of the incoming gradients, which are appended to them."""
    count = len(values)

    def run(tensors: Sequence[Any]) -> list[Tensor]:
        return [o for o in outputs_of(fn, tensors) if o.requires_grad]

    with enable_grad():
        probe = fresh_tensors(values, wanted)
        outs = run(probe)
    if not outs:
        raise GradcheckError("inputs", "gradgradcheck: no output requires a gradient, so there is no second derivative")
    rng = np.random.default_rng(3)
    seeds = [incoming(o._data, rng) for o in outs]
    chosen = [probe[i] for i in wanted]
    plain = grad(outs, chosen, [Tensor(s) for s in seeds], allow_unused=True, retain_graph=True)
    try:
        graphed = grad(outs, chosen, [Tensor(s) for s in seeds], allow_unused=True, create_graph=True)
    except Exception as error:  # out of somebody's rule, which now gets Tensors
        raise GradcheckError(
            "raised", f"gradgradcheck: backward with create_graph raised {type(error).__name__}: {error}"
        ) from error
    _same_by_both_routes(tolerance, plain, graphed, wanted)

    def derivative(*tensors: Any) -> tuple[Tensor, ...]:
        with enable_grad():
            outs, chosen = run(tensors[:count]), [tensors[i] for i in wanted]
            found = grad(outs, chosen, list(tensors[count:]), allow_unused=True, create_graph=True)
        return tuple(d for d in found if d is not None)

    return derivative, [*values, *seeds], [*wanted, *range(count, count + len(seeds))]


def _same_by_both_routes(tolerance: Tolerance, plain: Sequence[Any], graphed: Sequence[Any], wanted: list[int]) -> None:
    for i, a, b in zip(wanted, plain, graphed, strict=True):
        if a is None or b is None:
            if a is not b:
                how = "with" if a is None else "without"
                raise GradcheckError("missing", f"gradgradcheck: input {i} has a gradient only {how} create_graph", input=i)
            continue
        allowed = tolerance.around(a._data, a._data, np.max(np.abs(a._data), initial=0.0))
        if a.shape != b.shape or not (same(a._data, b._data) or np.all(np.abs(a._data - b._data) <= allowed)):
            raise GradcheckError(
                "mismatch",
                f"gradgradcheck: the gradient of input {i} with create_graph differs from the one without by "
                f"{np.max(np.abs(a._data - b._data)):.4g}: a fused operation's rule and its composite disagree",
                input=i,
            )
