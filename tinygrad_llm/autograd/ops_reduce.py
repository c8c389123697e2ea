"""Reductions. `axis` is None (all), an int or a tuple; ties of max and min share the gradient evenly.

As in NumPy, `where` (a mask that broadcasts) says which elements count, `initial` is one more of them, and `dtype` is what is
added up in.
"""

from __future__ import annotations

import builtins
import operator

import numpy as np

from .op import op
from .ops_common import (
    as_floats,
    count_along,
    derived,
    errstate,
    in_numpys_order,
    kept_shape,
    normal_axes,
    normal_axis,
    plain_number,
    tuple_axis,
    value,
)
from .ops_shape import as_tensor
from .tensor import Tensor


def spread(g, shape, axis, keepdims):
    """The gradient of a reduction's output, as seen from every element that went into it."""
    if not keepdims:
        g = g.reshape(kept_shape(shape, axis))
    return np.broadcast_to(g, shape)


def only(g, where):
    """The gradient of the elements that counted, 0 for the others."""
    return g if where is True else np.where(where, g, 0)


def _float_dtype(x, dtype):
    """Refuses to make integers of floats: that has no gradient."""
    if dtype is not None and x.dtype.kind == "f" and np.dtype(dtype).kind != "f":
        raise TypeError(f"dtype must be a float for an array of {x.dtype}, got {np.dtype(dtype)}; convert it first, x.astype(...)")
    return dtype


@op(numpy=np.sum)
def sum(x, *, axis=None, keepdims=False, dtype=None, initial=0, where=True):
    """y = Σ x"""
    axis, where, dtype = tuple_axis(axis), value(where), _float_dtype(x, dtype)
    if type(initial) is Tensor:
        plain_number(initial, "initial", "x.sum(axis) + initial")
    y = np.add.reduce(x, axis=axis, dtype=dtype, keepdims=keepdims, initial=initial, where=where)
    return y, (x.shape, axis, keepdims, where)

@sum.grad_of("x")
def _(g, shape, axis, keepdims, where): return only(spread(g, shape, axis, keepdims), where)


@op(numpy=np.mean)
def mean(x, *, axis=None, keepdims=False, dtype=None, where=True):
    """y = Σ x / n"""
    axis, where, dtype = tuple_axis(axis), value(where), _float_dtype(x, dtype)
    half = x.dtype.char == "e" and dtype is None  # added up in float32, as NumPy does: 656 numbers of 100 are more than float16 has
    total = np.add.reduce(x, axis=axis, dtype=np.float32 if half else dtype, keepdims=keepdims, where=where)
    n = count_along(x.shape, axis)
    if where is not True:
        n = np.add.reduce(np.broadcast_to(where, x.shape), axis=axis, keepdims=keepdims, dtype=total.dtype)
    with errstate():  # an empty mean is NaN
        y = total / n
    return y.astype(np.float16) if half else y, (x.shape, axis, keepdims, n, where)

@mean.grad_of("x")
def _(g, shape, axis, keepdims, n, where):
    return only(spread(g / (np.maximum(n, 1) if where is not True else builtins.max(n, 1)), shape, axis, keepdims), where)


@op(numpy=np.prod)
def prod(x, *, axis=None, keepdims=False, dtype=None, initial=1, where=True):
    """y = Π x"""
    axis, where, dtype = tuple_axis(axis), value(where), _float_dtype(x, dtype)
    plain_number(initial, "initial", "x.prod(axis) * initial")
    y = np.multiply.reduce(x, axis=axis, dtype=dtype, keepdims=keepdims, initial=initial, where=where)
    return y, (x, axis, keepdims, initial, where)

@prod.grad_of("x")
def _(g, x, axis, keepdims, initial, where):
    g = g if initial == 1 else g * initial
    return only(_product_slope(g, x if where is True else np.where(where, x, 1), axis, keepdims), where)

def _product_slope(g, x, axis, keepdims):
    """dy/dxₖ = the product of the others: y / xₖ, or where there are zeros, multiplied out"""
    if count_along(x.shape, axis) == 1:
        return spread(g, x.shape, axis, keepdims)
    if value(x).all():
        return spread(g * np.prod(x, axis=axis, keepdims=keepdims), x.shape, axis, keepdims) / x
    axes = normal_axes(axis, x.ndim)
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    n = count_along(x.shape, axes)
    rows = np.transpose(x, rest + axes).reshape(tuple(x.shape[i] for i in rest) + (1, n))  # (..., 1, n)
    others = np.prod(np.where(np.eye(n, dtype=bool), 1, rows), axis=-1)  # (..., n, n) -> (..., n)
    others = others.reshape(tuple(x.shape[i] for i in rest + axes))
    back = np.argsort(rest + axes)
    return spread(g, x.shape, axis, keepdims) * np.transpose(others, tuple(back))


def _extreme(ufunc, x, axis, keepdims, initial, where):
    """The extreme, and what its rule needs: where it stands, and how many share it; a NaN that was handed on counts as standing
    where it came from."""
    if isinstance(axis, (Tensor, np.ndarray)):  # PyTorch's max(x, y)
        raise TypeError(f"axis is an int or a tuple of ints; element by element: tg.{ufunc.__name__}(x, y)")
    axis, where = tuple_axis(axis), value(where)
    plain_number(initial, "initial", f"tg.{ufunc.__name__}(x.{ufunc.__name__[:3]}(axis), initial)")
    if initial is None and where is not True:
        raise ValueError("with where=, initial= must say what there is where nothing counts")
    out = np.asarray(ufunc.reduce(x, axis=axis, keepdims=keepdims, initial=initial, where=where))
    kept = out.reshape(kept_shape(x.shape, axis))
    reached = x == kept
    if x.dtype.kind == "f" and np.isnan(out).any():
        reached = reached | np.isnan(x)
    reached = reached if where is True else reached & where
    count = np.add.reduce(reached, axis=axis, keepdims=True, dtype=x.dtype.type if x.dtype.kind == "f" else None)
    return out, (reached, np.maximum(count if initial is None else count + (kept == initial), 1), axis, keepdims)

def _share_evenly(g, reached, count, axis, keepdims):
    if not keepdims:
        g = g.reshape(count.shape)
    return np.where(reached, g / count, 0)


@op(numpy=(np.max, np.amax))
def max(x, *, axis=None, keepdims=False, initial=None, where=True):
    """y = the largest x"""
    return _extreme(np.maximum, x, axis, keepdims, initial, where)

max.grad_of("x")(_share_evenly)


@op(numpy=(np.min, np.amin))
def min(x, *, axis=None, keepdims=False, initial=None, where=True):
    """y = the smallest x"""
    return _extreme(np.minimum, x, axis, keepdims, initial, where)

min.grad_of("x")(_share_evenly)


# -- spread of values --------------------------------------------------------------------------------------------------


def _variance(x, axis, ddof, keepdims):
    n = count_along(x.shape, axis)
    with errstate():
        centred = x - np.add.reduce(x, axis=axis, keepdims=True) / n
        total = np.asarray(np.add.reduce(centred * centred, axis=axis, keepdims=keepdims))
        return total / np.asarray(builtins.max(n - ddof, 0), dtype=total.dtype)

def _variance_slope(g, x, axis, ddof, keepdims):
    n = count_along(x.shape, axis)
    scale = 2 / (n - ddof) if n > ddof else np.nan
    centred = x - np.sum(x, axis=axis, keepdims=True) / builtins.max(n, 1)  # NumPy's mean of a scalar takes no axis
    return spread(g * scale, x.shape, axis, keepdims) * centred


def _lost(ddof, correction):
    """How much less than n the sum is divided by: `correction` is the name of ddof in the array API, and PyTorch's."""
    if correction is None:
        return ddof
    if ddof:
        raise ValueError(f"ddof {ddof} and correction {correction} are two names of one thing; give one")
    return correction


@op(numpy=np.var)
def var(x, *, axis=None, ddof=0, keepdims=False, correction=None):
    """y = Σ (x - mean)² / (n - ddof)"""
    axis, ddof = tuple_axis(axis), _lost(ddof, correction)
    return _variance(x, axis, ddof, keepdims), (x, axis, ddof, keepdims)

var.grad_of("x")(_variance_slope)


@op(numpy=np.std)
def std(x, *, axis=None, ddof=0, keepdims=False, correction=None):
    """y = √var; the subgradient is 0 where all values are equal"""
    axis, ddof = tuple_axis(axis), _lost(ddof, correction)
    out = np.sqrt(_variance(x, axis, ddof, keepdims))
    return out, (x, out, axis, ddof, keepdims)

@std.grad_of("x")
def _(g, x, out, axis, ddof, keepdims):
    low, high = (of(value(x), axis=axis, keepdims=keepdims, initial=i) for of, i in ((np.min, np.inf), (np.max, -np.inf)))
    flat = (out == 0) | (low == high)  # the mean of equal values may be rounded to another one
    return _variance_slope(np.where(flat, 0, g / np.where(flat, 1, 2 * out)), x, axis, ddof, keepdims)


in_numpys_order(np.sum, np.mean, np.prod, np.max, np.amax, np.min, np.amin, np.var, np.std)


# -- sums of exponentials, lengths -------------------------------------------------------------------------------------


@op
def logsumexp(x, *, axis=None, keepdims=False):
    """y = log Σ eˣ, without overflow; -inf where every x is -inf, with the gradient 0"""
    axis, x = tuple_axis(axis), as_floats(x)
    if count_along(x.shape, axis) == 0:
        out = np.full(np.add.reduce(x, axis=axis, keepdims=keepdims).shape, -np.inf, np.result_type(x, np.float32))
        return out, (x, out, axis, keepdims)
    largest = np.maximum.reduce(x, axis=axis, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0)
    with errstate():
        out = np.log(np.add.reduce(np.exp(x - largest), axis=axis, keepdims=keepdims))
    out = out + largest.reshape(np.shape(out))
    return out, (x, out, axis, keepdims)

@logsumexp.grad_of("x")
def _(g, x, out, axis, keepdims):
    shift = np.where(out == -np.inf, 0, out)
    with errstate():  # ∞ - ∞ is NaN
        return spread(g, x.shape, axis, keepdims) * np.exp(x - spread(shift, x.shape, axis, keepdims))


@op
def euclidean_norm(x, *, axis=None, keepdims=False):
    """y = √(Σ x²); the subgradient of the zero vector is 0"""
    axis, x = tuple_axis(axis), as_floats(x)
    out = np.sqrt(np.add.reduce(x * x, axis=axis, keepdims=keepdims))
    return out, (x, out, axis, keepdims)

@euclidean_norm.grad_of("x")
def _(g, x, out, axis, keepdims):
    return x * spread(g / np.where(out == 0, 1, out), x.shape, axis, keepdims)


# -- running sums, products and extremes along one axis ----------------------------------------------------------------


def _cumsum_from_behind(x, axis):
    """yₖ = xₖ + ... + xₙ"""
    return np.flip(np.cumsum(np.flip(x, axis), axis=axis), axis)


@op(name="cumsum")
def _cumsum(x, *, axis):
    """yₖ = x₀ + ... + xₖ"""
    return np.cumsum(x, axis=axis), (axis,)

@_cumsum.grad_of("x")
def _(g, axis): return _cumsum_from_behind(g, axis)


@op(name="cumprod")
def _cumprod(x, *, axis):
    """yₖ = x₀ · ... · xₖ"""
    out = np.cumprod(x, axis=axis)
    return out, (x, out, axis)

@_cumprod.grad_of("x")
def _(g, x, out, axis):
    """dxₖ = Σ_{j≥k} gⱼ yⱼ / xₖ; where there are zeros, the products without xₖ are multiplied out"""
    if value(x).all():
        return _cumsum_from_behind(g * out, axis) / x
    n = x.shape[axis]
    rows = np.expand_dims(np.moveaxis(x, axis, -1), -2)  # (..., 1, n)
    without = np.cumprod(np.where(np.eye(n, dtype=bool), 1, rows), axis=-1)  # (..., k, j): Π_{i≤j, i≠k} xᵢ
    without = np.where(np.triu(np.ones((n, n), bool)), without, 0)
    dx = np.sum(np.expand_dims(np.moveaxis(g, axis, -1), -2) * without, axis=-1)
    return np.moveaxis(dx, -1, axis)


@op
def logcumsumexp(x, *, axis):
    """yₖ = log(e^x₀ + ... + e^xₖ)"""
    out = np.logaddexp.accumulate(x, axis=axis)
    return out, (x, out, axis)

@logcumsumexp.grad_of("x")
def _(g, x, out, axis):
    """dxₖ = Σ_{j≥k} gⱼ e^(xₖ - yⱼ): n² terms, none of which can overflow"""
    n = x.shape[axis]
    upper = np.triu(np.ones((n, n), bool))
    columns = np.expand_dims(np.moveaxis(x, axis, -1), -1)  # (..., k, 1)
    totals = np.expand_dims(np.moveaxis(out, axis, -1), -2)  # (..., 1, j)
    gap = np.where(upper & ~np.isinf(totals), columns - np.where(np.isinf(totals), 0, totals), -np.inf)
    dx = np.sum(np.expand_dims(np.moveaxis(g, axis, -1), -2) * np.exp(gap), axis=-1)
    return np.moveaxis(dx, -1, axis)


def _in_dtype(x, dtype):
    x = as_tensor(x)
    return x if _float_dtype(x, dtype) is None else x.astype(dtype)


@derived(np.cumsum)
def cumsum(x, axis=None, dtype=None):
    """yₖ = x₀ + ... + xₖ along the axis (None: over all elements in a row); in `dtype`, if one is given"""
    x = _in_dtype(x, dtype)
    return _cumsum(x, axis=axis) if axis is not None else _cumsum(x.reshape(-1), axis=0)


@derived(np.cumprod)
def cumprod(x, axis=None, dtype=None):
    """yₖ = x₀ · ... · xₖ along the axis (None: over all elements in a row); in `dtype`, if one is given"""
    x = _in_dtype(x, dtype)
    return _cumprod(x, axis=axis) if axis is not None else _cumprod(x.reshape(-1), axis=0)


# -- derived -----------------------------------------------------------------------------------------------------------


@derived(np.nansum)
def nansum(x, axis=None, keepdims=False, *, dtype=None, initial=0, where=True):
    """Σ x without the NaNs"""
    return sum(_without_nan(x, 0), axis=axis, keepdims=keepdims, dtype=dtype, initial=initial, where=where)


def _without_nan(x, instead):
    x = as_tensor(x)
    return np.where(np.isnan(x), instead, x)


@derived(np.nanmean)
def nanmean(x, axis=None, keepdims=False, *, dtype=None, where=True):
    """The mean of what is not NaN"""
    total = nansum(x, axis, keepdims, dtype=dtype, where=where)
    count = np.add.reduce(~np.isnan(value(x)), axis=tuple_axis(axis), keepdims=keepdims, where=value(where))
    with errstate():
        return total / (np.asarray(count, total.dtype) if total.dtype.kind == "f" else count)


@derived(np.nanprod)
def nanprod(x, axis=None, keepdims=False, *, dtype=None, initial=1, where=True):
    """Π x without the NaNs"""
    return prod(_without_nan(x, 1), axis=axis, keepdims=keepdims, dtype=dtype, initial=initial, where=where)


@derived(np.nancumsum)
def nancumsum(x, axis=None, dtype=None):
    """cumsum with 0 for each NaN"""
    return cumsum(_without_nan(x, 0), axis, dtype)


@derived(np.nancumprod)
def nancumprod(x, axis=None, dtype=None):
    """cumprod with 1 for each NaN"""
    return cumprod(_without_nan(x, 1), axis, dtype)


def _nan_centred(x, axis, ddof, keepdims, where):
    """x less the mean of what is not NaN, 0 for a NaN; and how many are not, less ddof: NaN where none would be left"""
    x = as_tensor(x) if where is True else np.where(where, x, np.nan)
    left = np.add.reduce(~np.isnan(value(x)), axis=tuple_axis(axis), keepdims=keepdims) - ddof
    centred = np.where(np.isnan(x), 0, x - nanmean(x, axis, keepdims=True))
    return centred, np.where(left > 0, left, np.nan).astype(centred.dtype)


@derived(np.nanvar)
def nanvar(x, axis=None, ddof=0, keepdims=False, *, where=True, correction=None):
    """The variance of what is not NaN, Σ (x - mean)² / (n - ddof)"""
    centred, n = _nan_centred(x, axis, _lost(ddof, correction), keepdims, where)
    return sum(centred * centred, axis=axis, keepdims=keepdims) / n


@derived(np.nanstd)
def nanstd(x, axis=None, ddof=0, keepdims=False, *, where=True, correction=None):
    """√nanvar; the subgradient is 0 where all values are equal"""
    centred, n = _nan_centred(x, axis, _lost(ddof, correction), keepdims, where)
    return euclidean_norm(centred, axis=axis, keepdims=keepdims) / np.sqrt(n)


@derived(np.ptp)
def ptp(x, axis=None, keepdims=False):
    """The largest less the smallest"""
    return max(x, axis=axis, keepdims=keepdims) - min(x, axis=axis, keepdims=keepdims)


in_numpys_order(np.nansum, np.nanmean, np.nanprod, np.nanvar, np.nanstd, np.ptp)


@derived(np.average)
def average(x, axis=None, weights=None, returned=False, *, keepdims=False):
    """Σ w x / Σ w, w shaped as x or as the axes, in their order; without weights the mean. `returned`: (that, Σ w)"""
    x = as_tensor(x)
    if weights is None:
        y = mean(x, axis=axis, keepdims=keepdims)
        return (y, Tensor(np.full(y.shape, count_along(x.shape, axis), y.dtype))) if returned else y
    weights = as_tensor(weights, x)
    if weights.shape != x.shape:
        if axis is None:
            raise TypeError(f"weights of shape {weights.shape} for an array of {x.shape} need an axis")
        axes = normal_axes(axis, x.ndim)
        if weights.shape != tuple(x.shape[a] for a in axes):
            raise ValueError(f"weights: expected shape {x.shape} or {tuple(x.shape[a] for a in axes)}, got {weights.shape}")
        weights = np.transpose(weights, tuple(np.argsort(axes)))
        weights = weights.reshape(tuple(n if a in axes else 1 for a, n in enumerate(x.shape)))
    total = sum(np.broadcast_to(weights, x.shape), axis=axis, keepdims=keepdims)
    y = sum(x * weights, axis=axis, keepdims=keepdims) / total
    return (y, total.astype(y.dtype)) if returned else y


@derived(np.diff)
def diff(x, n=1, axis=-1, prepend=None, append=None):
    """yₖ = xₖ₊₁ - xₖ, n times over; `prepend` and `append` are put before and behind first"""
    x = as_tensor(x)
    axis = normal_axis(operator.index(axis), x.ndim)
    if n < 0:
        raise ValueError(f"diff: expected n ≥ 0, got {n}")
    edge = lambda e: e if np.ndim(value(e)) else np.broadcast_to(as_tensor(e, x), kept_shape(x.shape, axis))
    parts = [x if part is x else edge(part) for part in (prepend, x, append) if part is not None]
    x = np.concatenate(parts, axis) if len(parts) > 1 else x
    before = (slice(None),) * axis
    for _ in range(n):
        later, earlier = x[(*before, slice(1, None))], x[(*before, slice(None, -1))]
        x = later - earlier if x.dtype.kind != "b" else later != earlier
    return x
