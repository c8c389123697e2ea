"""Who is to blame: the operations of a failing call, checked one by one.

The call is run once more under a watcher that keeps every operation with its inputs. Each is then checked alone, in the
order in which it ran; the first whose own gradient fails in the same way is named.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autograd.state import Observer, enable_grad, observe
from ..autograd.tensor import Tensor
from .compare import examine
from .errors import KINDS, GradcheckError
from .problem import Tolerance, laid_out
from .tensors import derivative_of, fresh_tensors, problem_of

#: failures of one op that explain a failure of the whole, whatever form that took
KINDRED = {"mismatch", "missing", "nan", "state", "nonlinear", "raised", "shape", "mutated", "precision"}
#: what to look for between the operations, where each is right by itself
BETWEEN = {
    "nondeterministic": "randomness drawn anew in each run, as by dropout without rng=np.random.default_rng(0) inside the function",
    "mutated": "NumPy writing to .data",
}
ELSE_BETWEEN = "a detach, a .data or .numpy(), a hook, a closure over a Tensor"
SIZE_LIMIT = 1 << 20  # elements: an operation beyond it is not checked alone
CALLS_LIMIT = 400


@dataclass
class _Call:
    op: Any
    inputs: tuple[Any, ...]
    params: dict[str, Any]


class _Recorder(Observer):
    def __init__(self) -> None:
        self.calls: list[_Call] = []

    def before_op(self, op: Any, inputs: tuple[Any, ...], params: dict[str, Any]) -> None:
        kept = tuple(laid_out(x._data, x._data) if isinstance(x, Tensor) else x for x in inputs)  # as they were before the call
        self.calls.append(_Call(op, kept, dict(params)))


def find(
    fn: Callable[..., Any], values: list[Any], wanted: list[int], error: GradcheckError, tolerance: Tolerance, level: int
) -> tuple[str | None, str]:
    """The op's name and a line for the message; (None, a line) where no single op is wrong; (None, "") where moot."""
    if error.kind in ("inputs", "noise", "count"):
        return None, ""
    recorder = _Recorder()
    with enable_grad(), observe(recorder):
        fn(*fresh_tensors(values, wanted))
    tried = 0
    for call in recorder.calls[:CALLS_LIMIT]:
        found = _alone(call, error, tolerance, level)
        if found is None:
            continue
        tried += 1
        if isinstance(found, GradcheckError):
            return call.op.name, f"op to blame: {call.op.name}{_which(call, found, level)}"
    if not tried:
        return None, ""
    return None, (
        f"op to blame: none; each of the {tried} operations is right by itself. Look at what lies between them: "
        + BETWEEN.get(error.kind, ELSE_BETWEEN)
    )


def _alone(call: _Call, error: GradcheckError, tolerance: Tolerance, level: int) -> GradcheckError | bool | None:
    """The error of this op alone; True if it is right; None where it cannot be checked."""
    op = call.op
    wanted = [i for i, x in enumerate(call.inputs) if isinstance(x, np.ndarray) and x.dtype == np.float64]
    size = sum(x.size for x in call.inputs if isinstance(x, np.ndarray))
    finite = all(np.isfinite(call.inputs[i]).all() for i in wanted)
    if not op.differentiable or not wanted or size > SIZE_LIMIT or not finite:
        return None
    names = [*op.inputs] * (len(call.inputs) if op.variadic else 1)
    run: Callable[..., Any] = lambda *tensors: op.call(*tensors, **call.params)
    values = list(call.inputs)
    for order in range(1, level + 1):
        try:
            if order > 1:
                run, values, wanted = derivative_of(run, values, wanted, tolerance)
                names = [""] * len(values)
            examine(problem_of(op.name, run, values, wanted, names, order), tolerance, fast=True)
        except GradcheckError as found:
            cast = (found.kind, error.kind) == ("dtype", "precision")
            if found.kind == error.kind or {found.kind, error.kind} <= KINDRED or cast:
                return found
            return True if found.kind != "inputs" else None
    return True


def _which(call: _Call, found: GradcheckError, level: int) -> str:
    """`, its rule for input 'b' (file.py:12)`."""
    op = call.op
    name = ""
    rule = op.joint
    if found.input is not None and found.input < len(call.inputs):
        place = min(found.input, len(op.inputs) - 1)
        name = op.inputs[place]
        rule = op.joint or op.rules[place]
    if level > 1 and op.composite is not None:
        rule = op.composite
    code = getattr(inspect.unwrap(rule), "__code__", None)
    where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
    looks = next((line.split("pattern", 1)[1].strip() for line in str(found).splitlines() if "pattern" in line), "")
    looks = looks or ("" if found.kind == "mismatch" else f"{found.kind}, {KINDS[found.kind]}")
    return f", its rule for input {name!r}{where}" * bool(name) + (f": {looks}" if looks else "")
