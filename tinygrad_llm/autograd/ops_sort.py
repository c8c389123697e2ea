"""Order: sorting, top-k, running extremes, medians. What is chosen is an index; the gradient goes to what was chosen."""

from __future__ import annotations

import numpy as np

from .ops_common import as_floats, count_along, derived, errstate, in_numpys_order, kept_shape, normal_axes, normal_axis, value
from .ops_index import scatter_to_zeros, take, take_along_axis
from .ops_shape import as_tensor
from .tensor import Tensor


@derived(np.argsort)
def argsort(x, axis=-1, descending=False, stable=True, kind=None):
    """The indices that would sort x; equal elements keep their order. No gradient."""
    if not isinstance(descending, (bool, np.bool_)):
        raise TypeError(f"descending must be True or False, got {descending!r}; NumPy's kind is a keyword here, kind=...")
    x = np.asarray(value(x))
    if axis is None:
        x, axis = x.reshape(-1), 0
    if not descending:
        return Tensor(np.argsort(x, axis=axis, kind="stable"))
    backwards = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    return Tensor(x.shape[axis] - 1 - backwards)


@derived(np.sort)
def sort(x, axis=-1, descending=False, kind=None, stable=True):
    """x in order along the axis (None: all elements in a row); NaN last, or first when descending."""
    x = as_tensor(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    if x.ndim == 0:
        raise np.exceptions.AxisError(axis, 0)
    return take_along_axis(x, argsort(x, axis, descending), axis)


@derived()
def topk(x, k, axis=-1, largest=True, sorted=True):
    """The k largest (or smallest) elements along the axis, in order, and their indices."""
    x = as_tensor(x)
    if x.ndim == 0:
        if k not in (0, 1):
            raise ValueError(f"topk: k={k} of a single element")
        return x, Tensor(np.zeros((), np.int64))
    axis = normal_axis(axis, x.ndim)
    n = x.shape[axis]
    if not 0 <= k <= n:
        raise ValueError(f"topk: k must lie in 0..{n}, the length of axis {axis}; got {k}")
    indices = _topk_indices(x._data, k, axis, largest)
    return take_along_axis(x, indices, axis), Tensor(indices)


def _topk_indices(x, k, axis, largest):
    """Indices of the k chosen, best first. A partition, then a sort of the chosen alone; a NaN counts as the largest."""
    n = x.shape[axis]
    if 0 < k < n // 4:
        chosen = np.argpartition(x, n - k if largest else k - 1, axis=axis)
        chosen = np.take(chosen, np.arange(n - k, n) if largest else np.arange(k), axis=axis)
    else:
        chosen = np.broadcast_to(np.arange(n).reshape((n,) + (1,) * (x.ndim - axis - 1)), x.shape)
    order = argsort(np.take_along_axis(x, chosen, axis), axis, descending=bool(largest))._data
    return np.take_along_axis(chosen, np.take(order, np.arange(k), axis=axis), axis)


@derived()
def kthvalue(x, k, axis=-1, keepdims=False):
    """The k-th smallest element along the axis, counted from 1, and its index."""
    x = as_tensor(x)
    if x.ndim == 0:
        return x, Tensor(np.zeros((), np.int64))
    n = x.shape[normal_axis(axis, x.ndim)]
    if not 1 <= k <= n:
        raise ValueError(f"kthvalue: k must lie in 1..{n}, got {k}")
    index = np.take(argsort(x, axis)._data, [k - 1], axis=axis)
    kth = take_along_axis(x, index, axis)
    return (kth, Tensor(index)) if keepdims else (np.squeeze(kth, axis), Tensor(np.squeeze(index, axis)))


def _running(x, axis, better):
    """Running extreme along the axis and the index of its latest place; a NaN stays."""
    x = as_tensor(x)
    axis = normal_axis(axis, max(x.ndim, 1))
    if x.ndim == 0:
        return x, Tensor(np.zeros((), np.int64))
    out = better.accumulate(x._data, axis=axis)
    places = np.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - axis - 1))
    reached = (x._data == out) | np.isnan(x._data)
    indices = np.maximum.accumulate(np.where(reached, places, 0), axis=axis)
    return take_along_axis(x, indices, axis), Tensor(indices)


@derived()
def cummax(x, axis):
    """yₖ = max(x₀, ..., xₖ), and the index of its latest place."""
    return _running(x, axis, np.maximum)


@derived()
def cummin(x, axis):
    """yₖ = min(x₀, ..., xₖ), and the index of its latest place."""
    return _running(x, axis, np.minimum)


# -- quantiles ---------------------------------------------------------------------------------------------------------


#: how far from the lower to the higher neighbour; f is the fraction, k the lower one's place
_BETWEEN = {
    "lower": lambda f, k: 0.0 * f,
    "higher": lambda f, k: np.ceil(f),
    "midpoint": lambda f, k: np.where(f > 0, 0.5, 0.0),
    "nearest": lambda f, k: np.where((f > 0.5) | ((f == 0.5) & (k % 2 == 1)), 1.0, 0.0),  # halves to the even place
}
#: where q stands among n, counted from 0: n q + a + q (1 - a - b) - 1   Hyndman and Fan 1996, and in between its line
_PLACED = {
    "linear": (1, 1), "interpolated_inverted_cdf": (0, 1), "hazen": (0.5, 0.5), "weibull": (0, 0),
    "median_unbiased": (1 / 3, 1 / 3), "normal_unbiased": (3 / 8, 3 / 8),
}  # fmt: skip


@derived(np.quantile)
def quantile(x, q, axis=None, keepdims=False, method="linear"):
    """The q-th quantile, q in [0, 1]. An array of q makes a new first axis.

    method: between the two nearest elements "linear", or their "midpoint"; one of them: "lower", "higher", "nearest"; and NumPy's
    other ways to say where q stands that have no steps, "hazen", "weibull", "median_unbiased" and more.
    """
    return _quantile(x, q, axis, keepdims, method)


def _quantile(x, q, axis, keepdims, method, only_numbers=False):
    """The quantile of all, or of what is not NaN."""
    if method not in _BETWEEN and method not in _PLACED:
        raise ValueError(f"method must be one of {[*_PLACED, *_BETWEEN]}, got {method!r}")
    x, moving = as_tensor(x), isinstance(q, Tensor) and q.node is not None
    if method not in ("lower", "higher", "nearest") or x.dtype.kind not in "iu" or moving:
        x = as_floats(x)
    qs = np.asarray(value(q), np.float64)
    if not np.all((qs >= 0) & (qs <= 1)):  # NaN neither
        raise ValueError(f"q must lie in [0, 1], got {q}")
    axes = normal_axes(axis, x.ndim)
    rows, n = _in_order(x, axes)
    shape = kept_shape(x.shape, axes) if keepdims else rows.shape[1:]
    if n == 0:
        if not only_numbers:
            raise ValueError(f"of no elements, in axis {axis} of shape {x.shape}")
        return Tensor(np.full(qs.shape + shape, np.nan, x.dtype))
    columns = qs.reshape(qs.shape + (1,) * (rows.ndim - 1))
    if only_numbers:
        n = np.add.reduce(~np.isnan(value(rows)), axis=0)  # NaN stands last
    below, weight, slope = _neighbours(columns, n, method)
    if moving:  # the quantile moves with q, too
        weight = weight + (q - qs).reshape(columns.shape) * slope
    above = np.minimum(below + 1, np.maximum(n - 1, 0))
    low, high = (_at_places(rows, k, qs.shape) for k in (below, above))
    out = _on_the_line(low, high, weight.astype(x.dtype))
    if not only_numbers:
        out = np.where(np.isnan(value(rows[-1])), rows[-1], out)  # NaN stands last, and makes everything NaN
    return out.reshape(qs.shape + shape)


def _neighbours(q, n, method):
    """Where q stands among n in order: the place of the element below, the weight of the one above, and d weight / d q."""
    a, b = _PLACED.get(method, (1, 1))
    place = q * (n + 1 - a - b) + (a - 1)
    inside = (place >= 0) & (place <= n - 1)
    place = np.maximum(np.minimum(place, n - 1), 0)
    below = np.floor(place).astype(np.int64)
    weight = place - below if method in _PLACED else _BETWEEN[method](place - below, below)
    below, weight = np.where(weight == 1, below + 1, below), np.where(weight == 1, 0.0, weight)
    return below, weight, np.where(inside & (method in _PLACED), n + 1 - a - b, 0)


def _on_the_line(low, high, weight):
    """low + (high - low) · weight, also of infinities"""
    infinite = np.isinf(value(low)) | np.isinf(value(high))
    same = infinite & ((value(weight) == 0) | (value(low) == value(high)))  # 0 · inf and inf - inf are NaN
    with errstate():
        return low + np.where(same, 0, high - low) * weight


def _at_places(rows, k, leading):
    """rows (n, ...) at k: the same place of all, k (*leading, 1, ...), or a place for each, k (*leading, ...)."""
    places = int(np.prod(leading))
    if k.size == places:
        return take(rows, k.reshape(leading), 0)
    return take_along_axis(rows, k.reshape(places, *rows.shape[1:]), 0).reshape(leading + rows.shape[1:])


def _in_order(x, axes):
    """The elements along `axes` as one first axis, sorted; and their number."""
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    n = count_along(x.shape, axes)
    return sort(np.transpose(x, axes + rest).reshape((n, *(x.shape[i] for i in rest))), 0), n


@derived(np.percentile)
def percentile(x, q, axis=None, keepdims=False, method="linear"):
    """The q-th quantile, q in [0, 100]."""
    return _quantile(x, _of_hundred(q), axis, keepdims, method)


def _of_hundred(q):
    numbers = np.asarray(value(q))
    if not np.all((numbers >= 0) & (numbers <= 100)):  # NaN neither
        raise ValueError(f"q must lie in [0, 100], got {q}")
    return (q if isinstance(q, Tensor) else numbers) / 100


@derived(np.nanquantile)
def nanquantile(x, q, axis=None, keepdims=False, method="linear"):
    """The q-th quantile of what is not NaN, q in [0, 1]; NaN where nothing is."""
    return _quantile(x, q, axis, keepdims, method, only_numbers=True)


@derived(np.nanpercentile)
def nanpercentile(x, q, axis=None, keepdims=False, method="linear"):
    """The q-th quantile of what is not NaN, q in [0, 100]; NaN where nothing is."""
    return _quantile(x, _of_hundred(q), axis, keepdims, method, only_numbers=True)


@derived(np.median)
def median(x, axis=None, keepdims=False):
    """The middle element, or the mean of the middle two; NaN of nothing."""
    x = as_tensor(x)
    return _quantile(x, 0.5, axis, keepdims, "linear", only_numbers=count_along(x.shape, axis) == 0)


@derived(np.nanmedian)
def nanmedian(x, axis=None, keepdims=False):
    """The median of what is not NaN; NaN where nothing is."""
    return _quantile(x, 0.5, axis, keepdims, "linear", only_numbers=True)


in_numpys_order(np.quantile, np.percentile, np.median, np.nanquantile, np.nanpercentile, np.nanmedian)


# -- without a gradient ------------------------------------------------------------------------------------------------


@derived(np.searchsorted)
def searchsorted(a, v, side="left"):
    """Where each v would stand in the sorted a (sorted along its last axis). No gradient."""
    a, v = np.asarray(value(a)), np.asarray(value(v))
    if a.ndim == 1:
        return Tensor(np.asarray(np.searchsorted(a, v, side=side)))
    if a.shape[:-1] != v.shape[:-1]:
        raise ValueError(f"searchsorted: leading axes differ, {a.shape} and {v.shape}")
    rows = [np.searchsorted(x, y, side=side) for x, y in zip(a.reshape(-1, a.shape[-1]), v.reshape(-1, v.shape[-1]))]
    return Tensor(np.asarray(rows, np.int64).reshape(v.shape))


@derived(np.unique)
def unique(x, return_index=False, return_inverse=False, return_counts=False, axis=None):
    """The different elements in order, as np.unique. No gradient."""
    found = np.unique(np.asarray(value(x)), return_index, return_inverse, return_counts, axis)
    return tuple(map(Tensor, found)) if isinstance(found, tuple) else Tensor(found)


@derived(np.nonzero)
def nonzero(x):
    """The indices of the elements that are not 0, one array for each axis. No gradient."""
    return tuple(map(Tensor, np.nonzero(value(x))))


@derived(np.argwhere)
def argwhere(x):
    """The indices of the elements that are not 0, one row for each. No gradient."""
    return Tensor(np.argwhere(value(x)))


@derived(np.bincount)
def bincount(x, weights=None, minlength=0):
    """How often each integer occurs; or the sum of the `weights` that stand where it does, in float64, with their gradient."""
    ids = np.asarray(value(x))
    counts = np.bincount(ids, None if weights is None else np.asarray(value(weights)), minlength)
    if isinstance(weights, Tensor) and weights.requires_grad:
        return scatter_to_zeros(weights.astype(np.float64), shape=counts.shape, index=ids)
    return Tensor(counts)
