"""Small functions written through the operations: angles, interpolation, what is left when NaNs are set aside."""

from __future__ import annotations

import math

import numpy as np

from . import ops_reduce as reduce
from .op import op
from .ops_common import derived, normal_axis, value
from .ops_join import concatenate
from .ops_shape import as_tensor, ravel, swapaxes

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
def nanmax(x, axis=None, keepdims=False):
    """The largest of what is not NaN (-inf where all is NaN)"""
    return reduce.max(_without_nan(x, -np.inf), axis=axis, keepdims=keepdims)


@derived(np.nanmin)
def nanmin(x, axis=None, keepdims=False):
    """The smallest of what is not NaN (inf where all is NaN)"""
    return reduce.min(_without_nan(x, np.inf), axis=axis, keepdims=keepdims)


def _without_nan(x, instead):
    x = as_tensor(x)
    return np.where(np.isnan(x), instead, x) if x.dtype.kind == "f" else x


@derived(*(f for f in (getattr(np, "trapezoid", None),) if f))
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """∫ y dx by trapezoids along the axis; `x` the places (one row, or shaped as y), else `dx` apart"""
    y = as_tensor(y)
    axis = normal_axis(axis, y.ndim)
    y = np.moveaxis(y, axis, -1)
    if x is not None:
        x = as_tensor(x)
        x = np.moveaxis(x, axis, -1) if x.ndim > 1 else x
        dx = x[..., 1:] - x[..., :-1]
    return ((y[..., 1:] + y[..., :-1]) * dx / 2).sum(axis=-1)


@derived(np.interp)
def interp(x, xp, fp):
    """y on the line through the points (xp, fp), xp ascending; fp's first and last value beyond its ends"""
    x, xp, fp = as_tensor(x), as_tensor(xp), as_tensor(fp)
    if xp.ndim != 1 or fp.shape != xp.shape or not xp.size:
        raise ValueError(f"expected xp and fp to be vectors of one length, got shapes {xp.shape} and {fp.shape}")
    before, x = value(x) < value(xp)[0], np.clip(x, xp[0], xp[-1])
    left = np.clip(np.searchsorted(value(xp), value(x), side="right") - 1, 0, max(xp.size - 2, 0))
    right = np.minimum(left + 1, xp.size - 1)
    gap = xp[right] - xp[left]
    step = (value(gap) == 0) & ~np.isnan(value(x))  # at the last of several points at one place
    line = fp[left] + np.where(step, 1, (x - xp[left]) / np.where(step, 1, gap)) * (fp[right] - fp[left])
    return np.where(before, fp[0], line)


@derived(np.append)
def append(x, values, axis=None):
    """x, then `values`, along an axis (None: both ravelled)"""
    return concatenate([ravel(x), ravel(as_tensor(values, x))] if axis is None else [x, values], 0 if axis is None else axis)


@derived(*(f for f in (getattr(np, "matrix_transpose", None), getattr(np.linalg, "matrix_transpose", None)) if f))
def matrix_transpose(x):
    """Every matrix transposed"""
    return swapaxes(x, -1, -2)


@derived(np.cov)
def cov(x, y=None, rowvar=True, bias=False, ddof=None):
    """The covariance matrix of the rows of x (and of y, below them), whose columns are the observations; with `rowvar`
    False the other way round. Σ / (n - ddof), `ddof` 1 by default and 0 with `bias`; one variable has no axes."""
    variables = [_variables(v, rowvar) for v in (x, y) if v is not None]
    x = concatenate(variables) if len(variables) > 1 else variables[0]
    centred = x - x.mean(axis=1, keepdims=True)
    lost = int(not bias) if ddof is None else ddof
    return np.squeeze(centred @ centred.T / max(x.shape[1] - lost, 0))


def _variables(x, rowvar):
    """x with a row for each variable."""
    x = as_tensor(x)
    if x.ndim > 2:
        raise ValueError(f"expected at most two axes, got shape {x.shape}")
    return np.atleast_2d(x) if rowvar or x.ndim < 2 else x.T
