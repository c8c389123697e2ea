"""Small functions written through the operations: angles, interpolation, slopes, pieces put in and taken out, what is left
when NaNs are set aside."""

from __future__ import annotations

import math

import numpy as np

from . import ops_reduce as reduce
from .op import op
from .ops_common import as_floats, derived, in_numpys_order, normal_axes, normal_axis, of_numpy_2, tuple_axis, value
from .ops_index import take
from .ops_join import concatenate
from .ops_shape import as_tensor, ravel, swapaxes, tensors

NEAR_ZERO = 1e-2  # where sinc's slope is taken from its series: the closed form would cancel


@op(numpy=np.sinc)
def sinc(x):
    """y = sin(πx) / πx, and 1 at 0"""
    return np.sinc(x), (x,)

@sinc.grad_of("x")
def _(g, x):
    near = np.absolute(x) < NEAR_ZERO
    far = np.where(near, 1, x) * math.pi
    u = np.square(np.where(near, x, 0) * math.pi)
    series = math.pi * math.pi * np.where(near, x, 0) * (-1 / 3 + u * (1 / 30 + u * (-1 / 840 + u / 45360)))
    return g * np.where(near, series, math.pi * (far * np.cos(far) - np.sin(far)) / np.square(far))


@derived(np.fabs)
def fabs(x):
    """y = |x|; integers give floats"""
    return np.absolute(as_floats(as_tensor(x)))


@derived(np.deg2rad, np.radians)
def deg2rad(x):
    """y = x · π / 180"""
    return as_tensor(x) * (math.pi / 180)


@derived(np.rad2deg, np.degrees)
def rad2deg(x):
    """y = x · 180 / π"""
    return as_tensor(x) * (180 / math.pi)


@derived()
def logit(x, eps=None):
    """y = log(x / (1 - x)), the inverse of sigmoid; with `eps`, x is first kept within [eps, 1 - eps]"""
    x = as_tensor(x) if eps is None else np.clip(as_tensor(x), eps, 1 - eps)
    return np.log(x) - np.log1p(-x)  # the quotient's slope at 0 and 1 would be inf · 0


@derived()
def lerp(a, b, weight):
    """y = a + weight · (b - a)"""
    a = as_tensor(a, b)
    return a + weight * (b - a)


@derived()
def frac(x):
    """y = x - trunc x"""
    x = as_tensor(x)
    return x - np.trunc(x)


@derived(np.isneginf)
def isneginf(x):
    """y = x is -inf"""
    return as_tensor(x) == -np.inf


@derived(np.isposinf)
def isposinf(x):
    """y = x is inf"""
    return as_tensor(x) == np.inf


@derived(np.nanmax)
def nanmax(x, axis=None, keepdims=False, *, initial=None, where=True):
    """The largest of what is not NaN; NaN where there is nothing else"""
    return _of_numbers(reduce.max, x, -np.inf, axis, keepdims, initial, where)


@derived(np.nanmin)
def nanmin(x, axis=None, keepdims=False, *, initial=None, where=True):
    """The smallest of what is not NaN; NaN where there is nothing else"""
    return _of_numbers(reduce.min, x, np.inf, axis, keepdims, initial, where)


in_numpys_order(np.nanmax, np.nanmin)


def _of_numbers(reduction, x, instead, axis, keepdims, initial, where):
    """The reduction of x with `instead` of each NaN."""
    x = as_tensor(x)
    missing = np.isnan(value(x))
    y = reduction(np.where(missing, instead, x) if missing.any() else x, axis=axis, keepdims=keepdims, initial=initial, where=where)
    if initial is not None or not missing.any():
        return y
    return np.where(missing.all(axis=tuple_axis(axis), keepdims=keepdims), np.nan, y)


@derived(*of_numpy_2("trapezoid"))
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """∫ y dx by trapezoids along the axis; `x` the places (one row, or shaped as y), else `dx` apart"""
    y = as_tensor(y, x)
    axis = normal_axis(axis, y.ndim)
    y = np.moveaxis(y, axis, -1)
    if x is not None:
        x = as_tensor(x, y)
        x = np.moveaxis(x, axis, -1) if x.ndim > 1 else x
        dx = x[..., 1:] - x[..., :-1]
    return ((y[..., 1:] + y[..., :-1]) * dx / 2).sum(axis=-1)


@derived(np.interp)
def interp(x, xp, fp, left=None, right=None, period=None):
    """y on the line through the points (xp, fp), xp ascending; beyond its ends `left` and `right`, or fp's first and last value.
    With a `period` the points repeat, and xp may come in any order."""
    _, xp, fp = tensors([x, xp, fp])
    x = as_tensor(x, xp)
    if xp.ndim != 1 or fp.shape != xp.shape or not xp.size:
        raise ValueError(f"expected xp and fp to be vectors of one length, got shapes {xp.shape} and {fp.shape}")
    if period is not None:
        if period == 0:
            raise ValueError("period: expected a number other than 0")
        left, right, period = None, None, abs(period)
        x, xp = x % period, xp % period
        order = np.argsort(value(xp), kind="stable")
        xp, fp = xp[order], fp[order]
        xp, fp = concatenate([xp[-1:] - period, xp, xp[:1] + period]), concatenate([fp[-1:], fp, fp[:1]])
    before, behind, x = value(x) < value(xp)[0], value(x) > value(xp)[-1], np.clip(x, xp[0], xp[-1])
    i = np.clip(np.searchsorted(value(xp), value(x), side="right") - 1, 0, max(xp.size - 2, 0))
    j = np.minimum(i + 1, xp.size - 1)
    gap = xp[j] - xp[i]
    step = (value(gap) == 0) & ~np.isnan(value(x))  # at the last of several points at one place
    line = fp[i] + np.where(step, 1, (x - xp[i]) / np.where(step, 1, gap)) * (fp[j] - fp[i])
    line = np.where(before, fp[0] if left is None else left, line)
    return line if right is None else np.where(behind, right, line)


@derived(np.append)
def append(x, values, axis=None):
    """x, then `values`, along an axis (None: both ravelled)"""
    return concatenate([ravel(x), ravel(as_tensor(values, x))] if axis is None else [x, values], 0 if axis is None else axis)


@derived(np.delete)
def delete(x, obj, axis=None):
    """x without the places `obj` (a number, numbers, a slice or a mask) of the axis (None: of x ravelled)"""
    x, axis = (ravel(as_tensor(x)), 0) if axis is None else (as_tensor(x), axis)
    return take(x, np.delete(np.arange(x.shape[normal_axis(axis, x.ndim)]), value(obj)), axis)


@derived(np.insert)
def insert(x, obj, values, axis=None):
    """x with `values` before the places `obj` (a number, numbers, a slice or a mask) of the axis (None: of x ravelled)"""
    x = as_tensor(x)
    values = as_tensor(values, x).astype(x.dtype)
    numbers = np.arange(x.size).reshape(x.shape)  # NumPy puts the numbers of the elements together, and we take those
    placed = np.insert(numbers, value(obj), x.size + np.arange(values.size).reshape(values.shape), axis)
    return take(concatenate([ravel(x), ravel(values)]), placed)


@derived(np.select)
def select(condlist, choicelist, default=0):
    """Each element from the first of the choices whose condition holds there, `default` where none does"""
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ValueError(f"expected a choice for each condition, got {len(condlist)} conditions and {len(choicelist)} choices")
    if any(np.asarray(value(condition)).dtype != np.bool_ for condition in condlist):
        raise TypeError("expected conditions that are true or false")
    for condition, choice in zip(condlist[::-1], choicelist[::-1]):
        default = np.where(as_tensor(condition), choice, default)
    return default


@derived(np.gradient)
def gradient(f, *spacing, axis=None, edge_order=1):
    """The slopes of f along each axis, a tuple where that is several: central differences, and one-sided ones of `edge_order` at
    the ends.

    spacing: the distance of neighbours (1), or the places along the axis; one for all axes or one for each. With distances h before
    and k after a place the slope is  ((f₊ - f) h/k + (f - f₋) k/h) / (h + k).
    """
    f = as_floats(as_tensor(f))
    axes = normal_axes(axis, f.ndim)
    if edge_order not in (1, 2):
        raise ValueError(f"edge_order: expected 1 or 2, got {edge_order!r}")
    spacing = spacing or (1.0,)
    spacing = spacing * len(axes) if len(spacing) == 1 and np.ndim(value(spacing[0])) == 0 else spacing
    if len(spacing) != len(axes):
        raise TypeError(f"expected one spacing, or one for each of {len(axes)} axes, got {len(spacing)}")
    slopes = tuple(np.moveaxis(_slope(np.moveaxis(f, a, -1), h, edge_order), -1, a) for a, h in zip(axes, spacing))
    return slopes if len(slopes) > 1 else slopes[0]


def _slope(f, spacing, edge_order):
    """Of f along its last axis."""
    n, spacing = f.shape[-1], as_floats(as_tensor(spacing, f))  # bytes that descend would wrap around
    if n <= edge_order:
        raise ValueError(f"expected at least {edge_order + 1} elements along an axis, got {n}")
    if spacing.ndim and spacing.shape != (n,):
        raise ValueError(f"expected a distance or {n} places along an axis of {n}, got shape {spacing.shape}")
    step = spacing[1:] - spacing[:-1] if spacing.ndim else np.broadcast_to(spacing, (n - 1,))
    chord = (f[..., 1:] - f[..., :-1]) / step
    before, after = step[:-1], step[1:]
    middle = (chord[..., :-1] * after + chord[..., 1:] * before) / (before + after)
    first, last = chord[..., :1], chord[..., -1:]
    if edge_order == 2:  # the parabola through three points
        first = first + (first - chord[..., 1:2]) * step[:1] / (step[:1] + step[1:2])
        last = last + (last - chord[..., -2:-1]) * step[-1:] / (step[-1:] + step[-2:-1])
    return concatenate([first, middle, last], axis=-1)


@derived(*of_numpy_2("cumulative_sum"))
def cumulative_sum(x, axis=None, include_initial=False):
    """cumsum along the axis (may be left out for a vector); with `include_initial` a 0 stands before"""
    return _cumulative(np.cumsum, 0, x, axis, include_initial)


@derived(*of_numpy_2("cumulative_prod"))
def cumulative_prod(x, axis=None, include_initial=False):
    """cumprod along the axis (may be left out for a vector); with `include_initial` a 1 stands before"""
    return _cumulative(np.cumprod, 1, x, axis, include_initial)


def _cumulative(function, initial, x, axis, include_initial):
    x = as_tensor(x)
    if axis is None and x.ndim != 1:
        raise ValueError(f"axis: expected one for an array of shape {x.shape}")
    axis = normal_axis(0 if axis is None else axis, x.ndim)
    out = function(x, axis=axis)
    start = np.full((*x.shape[:axis], 1, *x.shape[axis + 1 :]), initial, out.dtype)
    return concatenate([start, out], axis) if include_initial else out


@derived(*of_numpy_2("matrix_transpose"))
def matrix_transpose(x):
    """Every matrix transposed"""
    return swapaxes(x, -1, -2)


@derived(np.cov)
def cov(x, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    """The covariance matrix of the rows of x (and of y, below them), whose columns are the observations; with `rowvar`
    False the other way round. Σ / (n - ddof), `ddof` 1 by default and 0 with `bias`; one variable has no axes.

    fweights say how often an observation was made, aweights how much it counts: Σ w x xᵀ / (Σ w - ddof · Σ w a / Σ w), w = f a
    """
    variables = [_variables(v, rowvar) for v in tensors(v for v in (x, y) if v is not None)]
    x = concatenate(variables) if len(variables) > 1 else variables[0]
    x = x if dtype is None else x.astype(dtype)
    lost = int(not bias) if ddof is None else ddof
    if fweights is None and aweights is None:
        centred = x - x.mean(axis=1, keepdims=True)
        return np.squeeze(centred @ centred.T / max(x.shape[1] - lost, 0))
    often, much = (_weights(name, w, x) for name, w in (("fweights", fweights), ("aweights", aweights)))
    if (value(often) % 1).any():
        raise TypeError("fweights: expected whole numbers, how often each observation was made")
    w = often * much
    total = w.sum()
    left = total - lost * ((w * much).sum() / total if aweights is not None else 1)
    centred = x - (x * w).sum(axis=1, keepdims=True) / total
    return np.squeeze((centred * w) @ centred.T / (left if value(left) > 0 else 0.0))


def _weights(name, w, x):
    """One for each column of x."""
    w = np.ones(x.shape[1]) if w is None else w
    w = as_tensor(w, x).astype(as_floats(x).dtype)
    if w.shape != x.shape[1:] or (value(w) < 0).any():
        raise ValueError(f"{name}: expected {x.shape[1]} numbers of at least 0, got shape {w.shape}")
    return w


@derived(np.corrcoef)
def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    """cov with every variable scaled to variance 1"""
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.ndim:
        return c / c
    deviation = np.sqrt(np.diagonal(c))
    return np.clip(c / deviation[:, None] / deviation, -1, 1)  # rounding leads beyond


def _variables(x, rowvar):
    """x with a row for each variable."""
    if x.ndim > 2:
        raise ValueError(f"expected at most two axes, got shape {x.shape}")
    return np.atleast_2d(x) if rowvar or x.ndim < 2 else x.T
