"""Tensor: an ndarray and, where a gradient is wanted, the node that made it.

A Tensor is a value: no operation changes one. What can be called on it stands in methods.py, on one screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import node as nodes
from .elsewhere import no_rule
from .node import Node

#: NumPy function -> ours; filled by ``@op(numpy=np.add)`` and `implements`, read by the two protocols below
numpy_table: dict[Any, Callable[..., Any]] = {}


def implements(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``@implements(np.moveaxis)``: called with a Tensor, the NumPy function runs ours."""

    def enter(ours: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            numpy_table[function] = ours
        return ours

    return enter


def to_array(data: Any, dtype: Any = None) -> np.ndarray:
    """The ndarray for what a user passed: Python floats and lists of them become float32, arrays stay as they are."""
    if isinstance(data, Tensor):
        array = data._data
    elif isinstance(data, (np.ndarray, np.generic)):
        if type(data) is not np.ndarray and hasattr(data, "mask") and np.ma.is_masked(data):
            raise TypeError("Tensor: a masked array would lose its mask; array.filled(0), and the mask in tg.where or x[~mask]")
        array = np.asarray(data)
    else:
        try:
            array = np.asarray(data)
        except (ValueError, RuntimeError) as error:
            held = ", ".join(type(x).__name__ for x in data[:4]) if isinstance(data, (list, tuple)) else ""
            kind = type(data).__name__ + (f" ({held}{', ...' if len(data) > 4 else ''})" if held else "")
            raise type(error)(f"Tensor: cannot make an array of {kind}: {error}") from error
        if array.dtype.kind == "f" and dtype is None:
            array = array.astype(np.float32)
    if dtype is not None:
        array = array.astype(dtype, copy=False)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"Tensor: dtype {array.dtype} is not supported; expected floats, integers or bools (got {type(data).__name__})"
        )
    return array


class Tensor:
    """An n-dimensional array that remembers how it was made.

    `data`: numbers, nested lists, an ndarray (kept as it is, not copied) or a Tensor (its array, without its history).
    Python numbers and lists become float32; ints stay int64, bools stay bool. `requires_grad` asks `backward` for
    a gradient in `.grad`; only floats can have one.
    """

    __slots__ = ("__weakref__", "_data", "asleep", "node")
    __array_priority__ = 1000

    _data: np.ndarray
    node: Node | None
    asleep: tuple[Node, nodes.Extra]  # only where `requires_grad_(False)` was called: what to go on with after (True)

    if TYPE_CHECKING:  # what methods.py attaches, for type checkers

        def _binary(self, other: Any) -> Tensor: ...
        def _unary(self) -> Tensor: ...
        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __iter__(self) -> Iterator[Tensor]: ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _binary
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _binary
        __lt__ = __le__ = __gt__ = __ge__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _binary
        __neg__ = __pos__ = __abs__ = __invert__ = _unary

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        self._data = to_array(data, dtype)
        self.node = None
        if requires_grad:
            if not isinstance(requires_grad, (bool, np.bool_)):
                raise TypeError(f"requires_grad: expected True or False, got {requires_grad!r}; a dtype is a keyword: dtype=...")
            self.requires_grad_()

    # -- the array ---------------------------------------------------------------------------------------------------

    @property
    def data(self) -> np.ndarray:
        """The ndarray itself. Where a backward still needs it, a write is found: that backward refuses."""
        return nodes.give(self)

    @data.setter
    def data(self, value: Any) -> None:
        new = to_array(value)
        if self.node is not None and new.shape != self._data.shape:
            raise ValueError(f"data: expected shape {self._data.shape}, got {new.shape}; make a new Tensor to change the shape")
        if new is self._data:  # `t.data += 1` ends here, after the array was overwritten
            nodes.mark_written(new)
        self._data = new

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype:
        """NumPy's dtype of the elements."""
        return self._data.dtype

    @property
    def nbytes(self) -> int:
        """The bytes of the elements."""
        return self._data.nbytes

    def numpy(self) -> np.ndarray:
        """The ndarray, not a copy."""
        return nodes.give(self)

    def item(self, *index: Any) -> Any:
        """The one element as a Python number; or the one at an index, `x.item(1, 2)`, of all in a row `x.item(5)`."""
        if self._data.size != 1 and not index:
            raise ValueError(f"item: expected one element or an index, got shape {self.shape}")
        return self._data.item(*index)

    def tolist(self) -> Any:
        """Nested Python lists of Python numbers."""
        return self._data.tolist()

    # -- gradients ---------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """True for a leaf that asked for a gradient, and for what was made from one."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        self.requires_grad_(wanted)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask (or stop asking) for this leaf's gradient. Returns self.

        Its hooks and the gradient it has so far sleep meanwhile, and losses from before still reach it when it asks again.
        """
        if not requires_grad:
            if not self.is_leaf:
                raise RuntimeError("requires_grad_(False): this tensor was made by an operation; use .detach()")
            if self.node is not None:
                self.asleep = self.node, self.node.extras()
                self.node.extra = nodes.Extra()  # a backward from now on leaves nothing here
                self.node = None
        elif self.node is None:
            if self._data.dtype.kind != "f":
                raise TypeError(f"requires_grad: only floats have gradients, got {self._data.dtype}; use .astype(np.float32)")
            node, extra = getattr(self, "asleep", (None, None))
            if node is None or node.shape != self._data.shape or node.dtype != self._data.dtype:
                node = nodes.leaf(self._data)
                extra = node.extra
            self.node, node.extra = node, extra
        return self

    @property
    def is_leaf(self) -> bool:
        """True where no recorded operation made this tensor."""
        return self.node is None or self.node.op is None

    @property
    def grad(self) -> Tensor | None:
        """What `backward` accumulated here: for leaves, and where `retain_grad` was called."""
        return self.node.extra.grad if self.node is not None and self.node.extra is not None else None

    @grad.setter
    def grad(self, value: Any) -> None:
        if self.node is None:
            if value is not None:
                raise RuntimeError("grad: this tensor does not require a gradient; call requires_grad_() first")
            if hasattr(self, "asleep"):
                self.asleep[1].grad = None
            return
        if value is not None:
            value = value if isinstance(value, Tensor) else Tensor(value)
            if value.shape != self.shape:
                raise ValueError(f"grad: expected shape {self.shape}, got {value.shape}")
        self.node.extras().grad = value

    def detach(self) -> Tensor:
        """The same array without its history."""
        return from_node(self._data, None)

    def register_hook(self, hook: Callable[[Tensor], Any]) -> nodes.HookHandle:
        """Call `hook(gradient)` when this tensor's gradient is complete; what it returns, if not None, replaces it."""
        if self.node is None:
            raise RuntimeError("register_hook: this tensor does not require a gradient")
        return nodes.HookHandle(self.node.extras().hooks, hook)

    def retain_grad(self) -> None:
        """Keep `.grad` for a tensor that is not a leaf, too."""
        if self.node is None:
            raise RuntimeError("retain_grad: this tensor does not require a gradient")
        self.node.extras().retain = True

    # -- Python's and NumPy's protocols ------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.node is not None:
            raise RuntimeError(
                "a Tensor that requires a gradient cannot become an ndarray silently; use .numpy() or .detach(), the function of "
                "the same name in tinygrad_llm, a @ x for the array's method a.dot(x), or tg.stack for a list of Tensors, tg.block "
                "for nested lists"
            )
        if copy or (dtype is not None and np.dtype(dtype) != self._data.dtype):
            return np.array(self._data, dtype)
        return nodes.give(self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        into = inputs[:1] if method == "at" else kwargs.get("out")
        if into and all(isinstance(x, np.ndarray) for x in into):
            if not any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
                # p.data -= lr * p.grad: values without a history, written into an ndarray
                return getattr(ufunc, method)(*(x._data if isinstance(x, Tensor) else x for x in inputs), **kwargs)
        ours = numpy_table.get(ufunc) if method == "__call__" else None
        if ours is None or kwargs.get("out") is not None:
            raise no_rule(ufunc, method, kwargs.get("out") is not None)
        return ours(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        ours = numpy_table.get(function)
        if ours is None:
            raise no_rule(function)
        return ours(*args, **kwargs)

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeError("len() of a 0-dimensional Tensor")
        return len(self._data)

    def __contains__(self, x: Any) -> bool:
        return bool(np.any(self._data == (x.data if isinstance(x, Tensor) else x)))

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ValueError(f"the truth of a Tensor of shape {self.shape} is ambiguous; use .any() or .all()")
        return bool(self._data.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self._data.__index__()

    def __format__(self, spec: str) -> str:
        return format(self._data.item() if self._data.size == 1 and spec else str(self), spec)

    def __repr__(self) -> str:
        text = np.array2string(self._data, separator=", ", prefix="Tensor(", threshold=60, precision=4)
        made = "" if self.is_leaf else f", made_by={self.node.op.name}"  # type: ignore[union-attr]
        kind = "" if self._data.dtype in (np.float32, np.int64, np.bool_) else f", dtype={self._data.dtype}"
        return f"Tensor({text}{kind}{', requires_grad=True' if self.is_leaf and self.requires_grad else made})"

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> Any:
        if not self.is_leaf:
            raise TypeError("only leaves can be copied or pickled; use .detach() first")
        return Tensor, (self._data, self.requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        make, (array, requires_grad) = self.__reduce__()
        copied = make(array.copy(), requires_grad)
        if self.grad is not None:
            copied.grad = from_node(self.grad._data.copy(), None)
        return copied


def from_node(data: Any, node: Node | None) -> Tensor:
    """A Tensor from an array and its node, skipping every check: the engine's own constructor."""
    tensor = Tensor.__new__(Tensor)
    tensor._data = data if type(data) is np.ndarray else np.asarray(data)
    tensor.node = node
    return tensor
