"""What the files of operations share: axes, shapes, and running an op in the world that its operands live in."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .op import KINDS, is_ones_own
from .tensor import Tensor, implements, numpy_table


def derived(*numpy_functions: Any, name: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function written through operations. It stands for these NumPy functions, and its errors begin with its name."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        prefix = f"{name or function.__name__}: "

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                kind = next((kind for kind in (*KINDS, RuntimeError) if isinstance(error, kind)), None)
                if kind is None or is_ones_own(error) or str(error).startswith(prefix):
                    raise
                raise kind(prefix + str(error)) from error

        return implements(*numpy_functions)(called)

    return enter


def of_numpy_2(name: str) -> list[Callable[..., Any]]:
    """The functions of this name in np and np.linalg, where the installed NumPy has them."""
    return [f for f in (getattr(np, name, None), getattr(np.linalg, name, None)) if f is not None]


def in_numpys_order(*functions: Any) -> None:
    """Arguments of these functions by NumPy's positions, where dtype and out stand before keepdims; out may only be None, and
    nothing is overwritten, whatever overwrite_input allows."""
    for function in functions:
        numpy_table[function] = _by_name(tuple(inspect.signature(function).parameters), numpy_table[function])


def _by_name(names: tuple[str, ...], ours: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **options: Any) -> Any:
        if len(args) > 2 or "out" in options or "overwrite_input" in options:
            given = {**dict(zip(names[1:], args[1:])), **options, "overwrite_input": None}
            args, options = args[:1], {name: x for name, x in given.items() if x is not None}
            if "out" in options:
                raise TypeError(f"{ours.__name__}: out= is not supported, a Tensor is a value; use what is returned")
        return ours(*args, **options)

    return called


def has_kernel(x: np.ndarray) -> bool:
    """Whether a kernel for one function is worth its call, and to be compiled: for many numbers of float32."""
    return x.dtype == np.float32 and x.size >= 1 << 13


def value(x: Any) -> Any:
    """The ndarray (or number) of a Tensor, an ndarray or a number: for decisions, never for mathematics."""
    return x._data if isinstance(x, Tensor) else x


def along(op: Any, *arrays: Any, **statics: Any) -> Any:
    """`op` on ndarrays gives an ndarray, on Tensors a Tensor: how a rule calls an op that NumPy has no name for."""
    if any(isinstance(x, Tensor) for x in arrays):
        return op(*arrays, **statics)
    return op.op.forward(*arrays, **statics)[0]


_ONES = {np.dtype(kind): np.ones((), kind) for kind in ("float32", "float64")}


def one(x: Any) -> Any:
    """1 in x's dtype, for rules that run often: NumPy takes twice as long over small arrays where it meets a Python number."""
    return _ONES.get(x.dtype, 1)


def as_floats(x: Any) -> Any:
    """The ndarray or Tensor x, integers and bools as float64, which is what NumPy's functions of floats make of them."""
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def errstate() -> Any:
    """NumPy's warnings off, where an infinity or NaN is expected and dealt with."""
    return np.errstate(divide="ignore", invalid="ignore", over="ignore")


def plain_number(x: Any, what: str, trained: str) -> Any:
    """x, which is used as a number: a Tensor's gradient would end there. `trained` says how one with a gradient is written."""
    if isinstance(x, Tensor) and x.requires_grad:
        raise TypeError(f"{what}: expected a number, got a Tensor that requires a gradient; for one that is trained: {trained}")
    return x


def normal_axis(axis: int, ndim: int) -> int:
    """The axis counted from the front."""
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return axis % ndim


def normal_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """None, an int or a sequence of ints, as a tuple of axes counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    if isinstance(axis, (int, np.integer)):
        return (normal_axis(int(axis), ndim),)
    axes = tuple(normal_axis(int(a), ndim) for a in axis)
    if len(set(axes)) != len(axes):
        raise ValueError(f"an axis is repeated in {tuple(axis)}")
    return axes


def kept_shape(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    """The shape that `keepdims=True` would give a reduction over `axis`."""
    if not shape:  # NumPy lets a reduction name the axes 0 and -1 of a scalar, and refuses others itself
        return ()
    axes = normal_axes(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def count_along(shape: tuple[int, ...], axis: Any) -> int:
    """How many elements a reduction over `axis` puts together."""
    if not shape:  # as in kept_shape
        return 1
    count = 1
    for a in normal_axes(axis, len(shape)):
        count *= shape[a]
    return count


def tuple_axis(axis: Any) -> Any:
    """A list of axes as the tuple that NumPy wants."""
    return tuple(axis) if isinstance(axis, list) else axis


def as_index(x: Any, what: str) -> np.ndarray:
    """An integer array from a Tensor, array or list; `what` names it in the error."""
    array = np.asarray(value(x))
    if array.size == 0 and array.dtype.kind == "f" and not isinstance(x, (np.ndarray, Tensor)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what}: expected integers, got {array.dtype}")
    return wide_enough(array)


def wide_enough(index: np.ndarray) -> np.ndarray:
    """Integers to which an axis' length can be added: bytes and the like as int64."""
    return index if index.dtype.itemsize >= 4 or index.dtype.kind == "b" else index.astype(np.int64)
