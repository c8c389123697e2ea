"""The same numbers again: in another dtype, as a copy, cut off from their history."""

from __future__ import annotations

from typing import Any

import numpy as np

from .op import op
from .ops_common import derived, of_numpy_2, value
from .ops_shape import as_tensor
from .tensor import Tensor


@op(name="astype")
def _astype(x, *, dtype):
    """y = x in another float dtype; the gradient comes back in x's"""
    return x.astype(dtype), ()

@_astype.grad_of("x")
def _(g): return g


@derived(*of_numpy_2("astype"))
def astype(x: Any, dtype: Any, copy: bool = True) -> Tensor:
    """x in another dtype. To an int or bool the gradient is cut; without a change x itself comes back if `copy` is False."""
    x = as_tensor(x)
    dtype = np.dtype(dtype)
    if dtype == x.dtype and not copy:
        return x
    return _astype(x, dtype=dtype) if dtype.kind == "f" else Tensor(x._data.astype(dtype))


@op(numpy=np.copy)
def copy(x):
    """y = x, in memory of its own"""
    return x.copy(), ()

@copy.grad_of("x")
def _(g): return g


@derived(np.shape)
def shape(x: Any) -> tuple[int, ...]:
    """The lengths of the axes."""
    return np.shape(value(x))


@derived(np.ndim)
def ndim(x: Any) -> int:
    """The number of axes."""
    return np.ndim(value(x))


@derived(np.size)
def size(x: Any, axis: int | None = None) -> int:
    """The number of elements, or the length of an axis."""
    return np.size(value(x), axis)


@derived(np.array_equal)
def array_equal(a: Any, b: Any, equal_nan: bool = False) -> bool:
    """Same shape and same numbers; `equal_nan`: a NaN equals another."""
    return bool(np.array_equal(Tensor(a)._data, Tensor(b)._data, equal_nan))


@derived(np.allclose)
def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """|a - b| ≤ atol + rtol · |b| everywhere."""
    return bool(np.allclose(Tensor(a)._data, Tensor(b)._data, rtol, atol, equal_nan))
