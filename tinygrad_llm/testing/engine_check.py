"""gradcheck and gradgradcheck: the check for functions of Tensors.

A function is turned into a `Problem` on arrays (tensors.py), compare.py compares, judge.py judges,
and the recorded graph of the failing call tells which operation is to blame (blame.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..autograd.state import enable_grad
from ..autograd.tensor import Tensor
from . import blame
from .compare import examine
from .errors import GradcheckError
from .foreign import parameter_names, refuse_inexact
from .leaks import refuse_float32_rules
from .problem import AS_ARRAYS, Tolerance
from .tensors import Function, derivative_of, fresh_tensors, outputs_of, problem_of

__tracebackhide__ = True  # pytest shows the caller's line and the message, not the checker's own frames


def gradcheck(
    fn: Function,
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-5,
    order: int = 1,
    fast: bool = False,
) -> bool:
    """Check the gradient of `fn` at `inputs`. True, or raises `GradcheckError`.

        x = tg.Tensor(np.random.randn(3, 4), requires_grad=True)
        tg.testing.gradcheck(lambda x: tg.softmax(x, axis=-1), x)

    `fn` gets copies of `inputs` and returns a Tensor or a tuple; integer and bool outputs are passed over, and so is an output that
    requires no gradient beside one that does. `inputs`: a Tensor (or float64 ndarray) or a tuple. Those that require a
    gradient are checked; where none does, every float64 one is. They must be float64.

    An element passes if |claimed - measured| <= atol + rtol · |value|. What fails at the first central difference (step
    `eps`) is measured again over two dozen steps with Richardson extrapolation, and judged by that: values of 1e6 or
    steep curvature raise no false alarm. At a kink any subgradient passes. `order=2` checks the second derivatives as
    well, and so on. `fast`: random directions, elements only where those fail; beyond some 10,000 elements the only way
    that takes seconds (`check_vjp` says why).
    """
    _check_order(order, least=1)
    check = _Check(fn, inputs, Tolerance(eps, atol, rtol), fast)
    check.run("gradcheck", fn, check.values, check.wanted, level=1)
    check.refuse_originals()
    return order < 2 or gradgradcheck(fn, inputs, eps=eps, atol=atol, rtol=rtol, order=order, fast=fast)


def gradgradcheck(
    fn: Function,
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-5,
    order: int = 2,
    fast: bool = False,
) -> bool:
    """Check the second derivatives of `fn` (up to `order`): the gradient of its gradient, as `create_graph` builds it.

    The gradient with `create_graph` is first compared with the one without: fused operations compute the two by
    different routes. Then it is differentiated with respect to the inputs and the incoming gradient. True, or raises
    `GradcheckError`.
    """
    _check_order(order, least=2)
    check = _Check(fn, inputs, Tolerance(eps, atol, rtol), fast)
    check.refuse_originals()
    function, given, active = fn, check.values, check.wanted
    for level in range(2, order + 1):
        with check.blaming(level):
            function, given, active = derivative_of(function, given, active, check.tolerance)
        check.run("gradgradcheck" if level == 2 else f"gradcheck of order {level}", function, given, active, level)
    return True


def _check_order(order: Any, least: int) -> None:
    """Below its least order a check would look at nothing, and pass."""
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or order < least:
        raise ValueError(f"order: expected a whole number of at least {least}, got {order!r}")


# -- inputs ------------------------------------------------------------------------------------------------------------


def _sort_inputs(given: list[Any]) -> tuple[list[Any], list[int]]:
    """The inputs with Tensors as arrays, and the positions to differentiate."""
    for i, x in enumerate(given):
        held = x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple)) else ()
        if any(isinstance(one, Tensor) and one.requires_grad for one in held):
            text = f"gradcheck: input {i} is a {type(x).__name__} of Tensors, into which the check does not look; {AS_ARRAYS}"
            raise GradcheckError("inputs", text, input=i)
    values = [x._data if isinstance(x, Tensor) else x for x in given]
    wanted = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    wanted = wanted or [i for i, v in enumerate(values) if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    if not wanted:
        kinds = ", ".join(str(getattr(v, "dtype", type(v).__name__)) for v in values) or "none"
        raise GradcheckError(
            "inputs", f"gradcheck: no input can have a gradient (got {kinds}); pass float64 Tensors or arrays"
        )
    refuse_inexact("gradcheck", [v if i in wanted else None for i, v in enumerate(values)])
    return values, wanted


class _Check:
    """One call of gradcheck: what stays the same from order to order."""

    def __init__(self, fn: Function, inputs: Any, tolerance: Tolerance, fast: bool) -> None:
        self.fn, self.tolerance, self.fast = fn, tolerance, fast
        self.given = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
        self.values, self.wanted = _sort_inputs(self.given)
        self.names = parameter_names(fn, len(self.values))

    def refuse_originals(self) -> None:
        """A function that computes with the caller's Tensor stands still while its copy moves: nothing would be checked."""
        originals = {x.node: i for i, x in enumerate(self.given) if isinstance(x, Tensor) and x.requires_grad}
        tensors = fresh_tensors(self.values, self.wanted)
        with enable_grad():
            outs = outputs_of(self.fn, tensors)
        ahead: list[Any] = [out.node for out in outs if isinstance(out, Tensor) and out.requires_grad]
        met = set(ahead)
        while ahead:
            parents = {parent for parent in ahead.pop().inputs if parent is not None} - met
            met |= parents
            ahead += parents
        i = next((i for node, i in originals.items() if node in met), None)
        if i is None and (not met or any(tensors[j].node in met for j in self.wanted)):
            return
        name = f" ({self.names[i]})" if i is not None and self.names[i] else ""
        own = "Tensors of its own alone" if i is None else f"input {i}{name} itself"
        raise GradcheckError(
            "inputs",
            f"gradcheck: the function computes with {own}, not with the copies that it is given, so nothing would be checked; "
            "a module's parameter is put in its place first: layer.weight = weight",
            input=i,
        )

    def run(self, what: str, fn: Function, values: list[Any], wanted: list[int], level: int) -> None:
        title = getattr(self.fn, "__name__", type(self.fn).__name__).strip("<>")
        names = [*self.names, *(f"gradient of output {i}" for i in range(len(values) - len(self.names)))]
        problem = problem_of(f"{what} of {title}", fn, values, wanted, names, level)
        with self.blaming(level):
            examine(problem, self.tolerance, self.fast)
        if level == 1:
            refuse_float32_rules(problem)

    @contextmanager
    def blaming(self, level: int) -> Iterator[None]:
        """What fails inside is said with the operation to blame."""
        try:
            yield
        except GradcheckError as error:
            op, text = blame.find(self.fn, self.values, self.wanted, error, self.tolerance, level)
            if text:
                error.blame(op, text)
            raise
