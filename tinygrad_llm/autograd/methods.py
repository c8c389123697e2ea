"""What can be called on a Tensor: the operators and methods, each one line.

Operations register their NumPy name with ``@op(numpy=...)``; here they become operators and methods.
"""

from __future__ import annotations

from typing import Any

from . import engine, ops
from .elsewhere import OF_A_TENSOR, OF_NUMPY, no_attribute
from .ops_index import getitem, plain_index
from .ops_shape import permute, reshape_to
from .state import local
from .tensor import Tensor

HINTS = OF_NUMPY | OF_A_TENSOR


def backward(self: Tensor, gradient: Any = None, create_graph: bool = False, retain_graph: bool = False) -> None:
    """Add d(self)/d(leaf), weighted by `gradient`, to every leaf's `.grad`.

    `gradient` has self's shape and may be left out for one element. `create_graph` makes the gradients differentiable
    themselves; `retain_graph` keeps what a second backward needs.
    """
    engine.backward(self, gradient, create_graph, retain_graph)


def attach(**methods: Any) -> None:
    """Give Tensor methods by name; operators take the way for two operands and nothing else."""
    for name, function in methods.items():
        setattr(Tensor, name, getattr(function, "operator", function) if name.startswith("__") else function)


def _or_identity(comparison: Any) -> Any:
    """`x == None` and `x != None` ask whether x is None, as everywhere in Python; all else is compared element by element."""
    return lambda self, other: NotImplemented if other is None else comparison.operator(self, other)


def swapped(operation: Any) -> Any:
    """The operator with its operands the other way round: `2 - x` calls `x.__rsub__(2)`."""
    return lambda self, other: operation(other, self)


def _augmented(sign: str, operation: Any) -> Any:
    """`x += y` names the sum x. Under no_grad, where `p -= lr * p.grad` is meant to change p, that would change nothing."""

    def method(self: Tensor, other: Any) -> Tensor:
        if self.node is not None and not local.grad_enabled and self.is_leaf:
            raise TypeError(
                f"a Tensor is a value: p {sign} x would leave the parameter of shape {self.shape} as it is; write p.data {sign} x"
            )
        return operation.operator(self, other)

    return method


def _getitem(self: Tensor, index: Any) -> Tensor:
    """x[index]: slices, integers, None, ..., arrays of integers or bools, and tuples of them."""
    return getitem(self, index=plain_index(index))


def _setitem(self: Tensor, index: Any, new: Any) -> None:
    raise TypeError("a Tensor is a value: x[index] = new is not supported; y = tg.put(x, index, new) makes a changed copy")


def _iter(self: Tensor) -> Any:
    if not self.ndim:
        raise TypeError("iteration over a 0-dimensional Tensor")
    return iter(ops.unstack(self))


def _getattr(self: Tensor, name: str) -> Any:
    """Called for what is not there."""
    if name == "_mask" and self.node is not None:  # asked for by np.ma's operators, which took _data without its history
        raise TypeError("a masked array keeps no gradient; array.filled(0), and the mask in tg.where or x[~mask]")
    if name.startswith("_"):
        raise no_attribute(self, name, {})
    from . import functional

    raise no_attribute(self, name, HINTS, ops.__all__, functional.__all__)


attach(
    backward=backward, __getattr__=_getattr,
    __add__=ops.add, __radd__=ops.add, __sub__=ops.subtract, __rsub__=swapped(ops.subtract),
    __mul__=ops.multiply, __rmul__=ops.multiply, __truediv__=ops.divide, __rtruediv__=swapped(ops.divide),
    __floordiv__=ops.floor_divide, __rfloordiv__=swapped(ops.floor_divide),
    __mod__=ops.remainder, __rmod__=swapped(ops.remainder), __pow__=ops.power, __rpow__=swapped(ops.power),
    __matmul__=ops.matmul, __rmatmul__=swapped(ops.matmul), __neg__=ops.negative, __pos__=ops.positive,
    __abs__=ops.absolute, __eq__=_or_identity(ops.equal), __ne__=_or_identity(ops.not_equal),
    __lt__=ops.less, __le__=ops.less_equal, __gt__=ops.greater, __ge__=ops.greater_equal,
    __and__=ops.bitwise_and, __rand__=ops.bitwise_and, __or__=ops.bitwise_or, __ror__=ops.bitwise_or,
    __xor__=ops.bitwise_xor, __rxor__=ops.bitwise_xor,
    __iadd__=_augmented("+=", ops.add), __isub__=_augmented("-=", ops.subtract),
    __imul__=_augmented("*=", ops.multiply), __itruediv__=_augmented("/=", ops.divide),
    __invert__=ops.invert, __getitem__=_getitem, __setitem__=_setitem, __iter__=_iter,
)  # fmt: skip

# methods that stand under the same name in `ops`
for _name in (
    "abs all any argmax argmin argsort astype clip copy cumprod cumsum diagonal dot exp flatten inner log logsumexp max mean min "
    "nonzero prod ptp ravel repeat round searchsorted sigmoid sin cos sort sqrt squeeze std sum swapaxes take tanh trace tril "
    "triu unflatten unstack var"
).split():
    attach(**{_name: getattr(ops, _name)})

attach(reshape=reshape_to, transpose=permute)
Tensor.T = property(ops.transpose, doc="The axes in reverse order.")  # type: ignore[attr-defined]
Tensor.mT = property(lambda self: ops.swapaxes(self, -1, -2), doc="Every matrix transposed.")  # type: ignore[attr-defined]
