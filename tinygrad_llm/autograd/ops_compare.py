"""Comparisons, logic and questions about numbers: bools and integers, which carry no gradient."""

from __future__ import annotations

import numpy as np

from .op import op
from .ops_common import in_numpys_order, value


def _plain(function, doc):
    """Enter a NumPy function with one or two inputs as an operation without a gradient."""
    forward = (lambda x: (function(x), ())) if function.nin == 1 else (lambda a, b: (function(a, b), ()))
    forward.__name__, forward.__doc__ = function.__name__, doc
    return op(forward, differentiable=False, numpy=function)


equal = _plain(np.equal, "y = a == b")
not_equal = _plain(np.not_equal, "y = a != b")
less = _plain(np.less, "y = a < b")
less_equal = _plain(np.less_equal, "y = a ≤ b")
greater = _plain(np.greater, "y = a > b")
greater_equal = _plain(np.greater_equal, "y = a ≥ b")

logical_and = _plain(np.logical_and, "y = a and b, element by element")
logical_or = _plain(np.logical_or, "y = a or b, element by element")
logical_xor = _plain(np.logical_xor, "y = exactly one of a and b")
logical_not = _plain(np.logical_not, "y = not x")

bitwise_and = _plain(np.bitwise_and, "y = a & b; for bools, logical and")
bitwise_or = _plain(np.bitwise_or, "y = a | b; for bools, logical or")
bitwise_xor = _plain(np.bitwise_xor, "y = a ^ b")
invert = _plain(np.invert, "y = ~x; for bools, logical not")

isnan = _plain(np.isnan, "y = x is NaN")
isinf = _plain(np.isinf, "y = x is an infinity")
isfinite = _plain(np.isfinite, "y = x is neither NaN nor an infinity")
signbit = _plain(np.signbit, "y = x has a minus sign")


@op(differentiable=False, numpy=np.isclose)
def isclose(a, b, *, rtol=1e-5, atol=1e-8, equal_nan=False):
    """y = |a - b| ≤ atol + rtol · |b|"""
    return np.isclose(a, b, rtol=value(rtol), atol=value(atol), equal_nan=equal_nan), ()


@op(differentiable=False, numpy=np.any)
def any(x, *, axis=None, keepdims=False, where=True):
    """y = some element along the axis is true"""
    return np.any(x, axis=axis, keepdims=keepdims, where=value(where)), ()


@op(differentiable=False, numpy=np.all)
def all(x, *, axis=None, keepdims=False, where=True):
    """y = every element along the axis is true"""
    return np.all(x, axis=axis, keepdims=keepdims, where=value(where)), ()


@op(differentiable=False, numpy=np.count_nonzero)
def count_nonzero(x, *, axis=None, keepdims=False):
    """y = how many elements along the axis are not 0"""
    return np.count_nonzero(x, axis=axis, keepdims=keepdims), ()


@op(differentiable=False, numpy=np.argmax)
def argmax(x, *, axis=None, keepdims=False):
    """y = the index of the (first) largest element"""
    return np.argmax(x, axis=axis, keepdims=keepdims), ()


@op(differentiable=False, numpy=np.argmin)
def argmin(x, *, axis=None, keepdims=False):
    """y = the index of the (first) smallest element"""
    return np.argmin(x, axis=axis, keepdims=keepdims), ()


in_numpys_order(np.any, np.all, np.argmax, np.argmin)


@op(differentiable=False, numpy=np.zeros_like)
def zeros_like(x, *, dtype=None, order="K", subok=True, shape=None):
    """y = 0 in the shape of x, or in `shape`"""
    return np.zeros_like(x, dtype, order, subok, shape), ()


@op(differentiable=False, numpy=np.ones_like)
def ones_like(x, *, dtype=None, order="K", subok=True, shape=None):
    """y = 1 in the shape of x, or in `shape`"""
    return np.ones_like(x, dtype, order, subok, shape), ()


in_numpys_order(np.zeros_like, np.ones_like)
