"""check_vjp: the gradient check for anybody's code, a forward and a backward on plain ndarrays.

No Tensor, no graph, no engine: NumPy in, NumPy out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .compare import examine
from .errors import GradcheckError
from .problem import AS_ARRAYS, Arrays, Problem, Pullback, Tolerance

__tracebackhide__ = True  # pytest shows the caller's line and the message, not the checker's own frames


def check_vjp(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-5,
    fast: bool = False,
    names: Sequence[str] | None = None,
) -> bool:
    """Check a hand-written backward. True, or raises `GradcheckError`.

        def forward(x, w): return x @ w
        def backward(g, x, w): return g @ w.T, x.T @ g
        check_vjp(forward, backward, (x, w))

    `forward(*inputs)` returns an array or a tuple of arrays. `backward(grads, *inputs)` gets the gradients of the outputs
    in the same form (an array for an array, a tuple for a tuple; zeros for integer outputs) and returns the gradients of
    the inputs in order, None where there is none; for a single input the bare array will do. Inputs to check are
    float64; integer, bool and non-array inputs are passed along. `eps`: the step of the first measurement.
    `fast`: random directions first, elements only where they fail. `names`: the inputs' names for messages.

    Beyond 4,096 elements `forward` runs some ninety times for each 256 of them, so that the cost grows with the square of
    the size: 100,000 elements take minutes, with `fast` a second.
    """
    arrays = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    what = f"check_vjp of {getattr(forward, '__name__', 'forward').strip('<>')}"
    refuse_inexact(what, arrays)
    names = list(names) if names else parameter_names(forward, len(arrays))
    if len(names) != len(arrays):
        raise ValueError(f"names: expected one for each of {len(arrays)} inputs, got {len(names)}")
    pair = _Pair(what, forward, backward)
    problem = Problem(what, arrays, names, pair.outputs, lambda values: pair.linearize(problem, values))
    return examine(problem, Tolerance(eps, atol, rtol), fast)


class _Pair:
    """The foreign pair, its answers checked for form."""

    def __init__(self, what: str, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        self.what, self.forward, self.backward = what, forward, backward

    def run(self, arrays: Arrays) -> tuple[list[np.ndarray], bool]:
        result = self.forward(*arrays)
        several = isinstance(result, (tuple, list))
        return [self._array(r, several) for r in (result if several else [result])], several

    def _array(self, output: Any, several: bool) -> np.ndarray:
        try:
            array = np.asarray(output)
        except ValueError:  # arrays of several shapes
            array = np.empty(0, object)
        if array.dtype.kind in "fiub":
            return array
        kind = type(output).__name__ if array.dtype == object else array.dtype
        text = f"{self.what}: forward returned {kind}; expected arrays of floats or integers"
        if several:
            text += (
                "\n  Of a forward that returns (out, cache), give out alone, and let backward run both: "
                "lambda *inputs: forward(*inputs)[0], lambda g, *inputs: backward(g, forward(*inputs)[1])"
            )
        raise GradcheckError("dtype", text)

    def outputs(self, arrays: Arrays) -> list[np.ndarray]:
        outs, _ = self.run(arrays)
        floats = [o for o in outs if o.dtype.kind == "f"]
        if not floats:
            raise GradcheckError("dtype", f"{self.what}: forward returned {outs[0].dtype}, which has no gradient")
        return floats

    def linearize(self, problem: Problem, arrays: Arrays) -> tuple[list[np.ndarray], Pullback]:
        outs, several = self.run(arrays)

        def pullback(grads: list[np.ndarray]) -> list[Any]:
            given = iter(grads)
            full = tuple(next(given) if o.dtype.kind == "f" else np.zeros(o.shape) for o in outs)
            try:
                result = self.backward(full if several else full[0], *arrays)
            except Exception as error:  # out of the code under test: say so, with the cause attached
                text = f"{self.what}: backward raised {type(error).__name__}: {error}"
                if not takes(self.backward, 1 + len(arrays)):
                    text += (
                        f"\n  it is called with the gradient and the {len(arrays)} inputs. Of a layer that keeps its inputs, let "
                        "both run: lambda g, *inputs: (layer.forward(*inputs), layer.backward(g))[1]"
                    )
                raise GradcheckError("raised", text) from error
            return self._checked(problem, result)

        return [o for o in outs if o.dtype.kind == "f"], pullback

    def _checked(self, problem: Problem, result: Any) -> list[Any]:
        count = len(problem.arrays)
        if not isinstance(result, (tuple, list)):
            if count > 1:
                raise problem.error(
                    "count", f"backward returned one {type(result).__name__}, expected a tuple of {count} gradients, one for each "
                    "input in order (None where there is none)"
                )  # fmt: skip
            result = (result,)
        if len(result) != count:
            raise problem.error(
                "count", f"backward returned {len(result)} gradients for {count} inputs; one for each input in order, None where "
                "there is none"
            )  # fmt: skip
        for i, (given, claimed) in enumerate(zip(problem.arrays, result, strict=True)):
            none = claimed is None or (isinstance(claimed, (int, float)) and claimed == 0)
            if not none and not isinstance(given, (np.ndarray, np.integer, int)):
                kind = type(given).__name__
                raise problem.error("inputs", f"backward returned a gradient of it, but a {kind} is not checked; {AS_ARRAYS}", i)
        return [None if result[i] is None else np.asarray(result[i]) for i in problem.active]


def refuse_inexact(what: str, arrays: Sequence[Any]) -> None:
    """Only float64 can be checked by differences; say what to do about anything else."""
    for position, a in enumerate(arrays):
        if not isinstance(a, np.ndarray):
            continue
        if a.dtype.kind == "c":
            text = f"{what}: input {position} is {a.dtype}; complex gradients are not supported"
            raise GradcheckError("inputs", text, input=position)
        if a.dtype.kind == "f" and a.dtype != np.float64:
            raise GradcheckError(
                "inputs",
                f"{what}: input {position} is {a.dtype}. Differences of {a.dtype} numbers lose all but two or three digits, so the "
                "check would mean nothing. Check in float64: pass x.astype(np.float64); the rules are the same code. "
                f"Then compare the {a.dtype} gradient with the float64 one (assert_gradients_close, rtol 1e-4).",
                input=position,
            )


def takes(fn: Callable[..., Any], count: int) -> bool:
    """Whether `fn` can be called with so many arguments; True where it does not tell."""
    try:
        inspect.signature(fn).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # builtins and C functions have no signature
        return True
    return True


def parameter_names(fn: Callable[..., Any], count: int) -> list[str]:
    """The names of the first parameters of `fn`, empty where it does not tell or has *args."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # builtins and C functions have no signature
        return [""] * count
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (names + [""] * count)[:count]
