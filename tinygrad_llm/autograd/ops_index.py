"""Reading and writing by index: NumPy's whole indexing, gather and scatter. Repeated indices accumulate their gradients.

`getitem` and `scatter_to_zeros` are each other's gradient, so both are differentiable to any order. Everything else here
is one of them (or `index_put`) with an index made for it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

import kernels

from .op import op
from .ops_common import along, as_index, derived, normal_axis, plain_number, value, wide_enough
from .ops_shape import as_tensor, moveaxis
from .tensor import Tensor

_BASIC = (int, slice, type(None), type(Ellipsis), np.integer)


def plain_index(index: Any) -> Any:
    """The index without Tensors and lists: what NumPy's brackets take."""
    if isinstance(index, tuple):
        return tuple(plain_index(part) for part in index)
    if isinstance(index, Tensor):
        index = index._data
    elif isinstance(index, list):
        index = np.asarray([value(part) for part in index])
        if not index.size:
            index = index.astype(np.int64)
    if isinstance(index, np.ndarray) and index.dtype.kind not in "iub":
        raise IndexError(f"getitem: an index must be integers or bools, got {index.dtype}")
    return wide_enough(index) if isinstance(index, np.ndarray) else index


def _parts(index): return index if isinstance(index, tuple) else (index,)


def _is_basic(index): return all(isinstance(part, _BASIC) and not isinstance(part, bool) for part in _parts(index))


@op
def getitem(x, *, index):
    """y = x[index], with slices, integers, None, ..., integer arrays and bool arrays"""
    return x[index], (index, x.shape)

@getitem.grad_of("x")
def _(g, index, shape): return along(scatter_to_zeros, g, shape=shape, index=index)


@op
def scatter_to_zeros(x, *, shape, index):
    """y = zeros(shape), then y[index] += x, repeated indices too"""
    parts = _parts(index)
    if _is_basic(index) or not any(isinstance(p, np.ndarray) and p.dtype.kind in "iu" and p.size > 1 for p in parts):
        out = np.zeros(shape, x.dtype)
        out[index] = x  # no place is named twice
        return out, (index,)
    rows = parts[0]
    if len(parts) == 1 and len(shape) > 1 and x.dtype in (np.float32, np.float64):
        n, width = shape[0], math.prod(shape[1:])
        if width:
            ids = np.where(rows < 0, rows + n, rows)
            flat = np.ascontiguousarray(x).reshape(*ids.shape, width)
            return kernels.embedding_backward(flat, ids, n).reshape(shape), (index,)
    out = np.zeros(math.prod(shape), x.dtype)
    places = _flat_places(parts, shape)
    np.add.at(out, places.reshape(-1), np.broadcast_to(x, places.shape).reshape(-1))
    return out.reshape(shape), (index,)

@scatter_to_zeros.grad_of("x")
def _(g, index): return g[index]


def _flat_places(parts, shape):
    """The position, in row order, of every element that the index names."""
    if len(parts) == len(shape) and all(np.asarray(p).dtype.kind in "iu" for p in parts):
        positive = [np.where(np.asarray(p) < 0, np.asarray(p) + n, p) for p, n in zip(parts, shape)]
        return np.ravel_multi_index(tuple(np.broadcast_arrays(*positive)), shape)
    return np.arange(math.prod(shape)).reshape(shape)[tuple(parts)]


@op
def index_put(x, values, *, index, accumulate=False):
    """y = x, then y[index] = values, or with `accumulate` y[index] += values (repeated indices add up)"""
    out = x.astype(np.result_type(x, values), copy=True)
    if not accumulate:
        out[index] = values
    elif _is_basic(index):
        out[index] += values
    else:
        np.add.at(out, index, values)
    return out, (index, accumulate)

@index_put.grad_of("x")
def _(g, index, accumulate): return g if accumulate else along(index_put, g, 0.0, index=index)

@index_put.grad_of("values")
def _(g, index, accumulate):
    if accumulate or _is_basic(index):
        return g[index]
    won = _last_writers(g.shape, index)
    return g[index] if won.all() else np.where(won, g[index], 0.0)


def _last_writers(shape, index):
    """Which of the written values are still there: where indices repeat, the last one overwrote the others."""
    named = np.empty(shape, np.bool_)[index]
    order = np.arange(named.size).reshape(named.shape)
    owner = np.empty(shape, np.int64)
    owner[index] = order
    return owner[index] == order


# -- derived: take, gather, scatter ------------------------------------------------------------------------------------


def index_along(shape: tuple[int, ...], axis: int, indices: np.ndarray) -> tuple[Any, ...]:
    """The index that names, along `axis`, the entries `indices`, and along every other axis the entry's own place."""
    return tuple(
        indices if i == axis else np.arange(n).reshape((1,) * i + (n,) + (1,) * (len(shape) - i - 1))
        for i, n in enumerate(shape)
    )


def _checked(x, indices, axis, who):
    """x as a Tensor, indices as integers that lie in x's axis, and the axis counted from the front."""
    x = as_tensor(x)
    axis = normal_axis(axis, x.ndim)
    indices = as_index(indices, who)
    if indices.ndim != x.ndim:
        raise ValueError(f"{who}: expected indices with {x.ndim} axes as x has, got shape {indices.shape}")
    return x, indices, axis


@derived(np.take)
def take(x, indices, axis=None, mode="raise"):
    """y = x[..., indices, ...] along the axis (None: of all elements in a row). mode: "raise", "wrap" or "clip"."""
    x = as_tensor(x)
    if axis is None or x.ndim == 0:
        x, axis = x.reshape(-1), axis or 0
    axis = normal_axis(axis, x.ndim)
    indices = as_index(indices, "take")
    n = x.shape[axis]
    if mode == "wrap":
        indices = indices % n
    elif mode == "clip":
        indices = np.clip(indices, 0, n - 1)
    elif mode != "raise":
        raise ValueError(f"take: mode must be 'raise', 'wrap' or 'clip', got {mode!r}")
    return getitem(x, index=indices if axis == 0 else (slice(None),) * axis + (indices,))


@derived()
def index_select(x, axis, index):
    """PyTorch's name for `take` along an axis."""
    return take(x, index, axis)


@derived(np.take_along_axis)
def take_along_axis(x, indices, axis=-1):
    """y[i, k] = x[i, indices[i, k]] along the last axis, and so along any; the other axes broadcast."""
    if axis is None:
        return take_along_axis(as_tensor(x).reshape(-1), indices, 0)
    x, indices, axis = _checked(x, indices, axis, "take_along_axis")
    return getitem(x, index=index_along(x.shape, axis, indices))


@derived()
def gather(x, axis, index):
    """PyTorch's gather: y[i][j] = x[index[i][j]][j] for axis 0. The index may be shorter than x, and does not broadcast."""
    x, index, axis = _checked(x, index, axis, "gather")
    return getitem(x, index=index_along(index.shape, axis, index))


@derived()
def put_along_axis(x, indices, values, axis):
    """A copy of x with y[i, indices[i, k]] = values[i, k]; where `take_along_axis` reads, this writes."""
    x, indices, axis = _checked(x, indices, axis, "put_along_axis")
    return index_put(x, values, index=index_along(x.shape, axis, indices))


def _source(x, index, src):
    """PyTorch lets the source be longer than the index: the part that the index covers."""
    if isinstance(src, (int, float)):
        return src
    src = as_tensor(src, x)
    return src if src.shape == index.shape else getitem(src, index=tuple(slice(n) for n in index.shape))


@derived()
def scatter(x, axis, index, src):
    """A copy of x with y[index[i][j]][j] = src[i][j] for axis 0."""
    x, index, axis = _checked(x, index, axis, "scatter")
    return index_put(x, _source(x, index, src), index=index_along(index.shape, axis, index))


@derived()
def scatter_add(x, axis, index, src):
    """A copy of x with y[index[i][j]][j] += src[i][j] for axis 0; repeated indices add up."""
    x, index, axis = _checked(x, index, axis, "scatter_add")
    return index_put(x, _source(x, index, src), index=index_along(index.shape, axis, index), accumulate=True)


def _along(x, axis, index, who):
    x = as_tensor(x)
    return x, (slice(None),) * normal_axis(axis, x.ndim) + (as_index(index, who),)


@derived()
def index_add(x, axis, index, src, alpha=1):
    """A copy of x, to whose slices at `index` along the axis the slices of `src`, times alpha, are added."""
    x, where = _along(x, axis, index, "index_add")
    return index_put(x, src if alpha == 1 else as_tensor(src, x) * alpha, index=where, accumulate=True)


@derived()
def index_copy(x, axis, index, src):
    """A copy of x, whose slices at `index` along the axis are those of `src`."""
    x, where = _along(x, axis, index, "index_copy")
    return index_put(x, src, index=where)


@derived()
def index_fill(x, axis, index, fill):
    """A copy of x, whose slices at `index` along the axis are `fill`."""
    x, where = _along(x, axis, index, "index_fill")
    return index_put(x, fill, index=where)


@derived()
def put(x, index, values, accumulate=False):
    """A copy of x with y[index] = values (or += values), for any index that brackets take."""
    return index_put(as_tensor(x), values, index=plain_index(index), accumulate=accumulate)


@derived()
def masked_fill(x, mask, fill):
    """y = fill where the mask is true, else x."""
    return np.where(as_tensor(value(mask)), fill, as_tensor(x))


@derived()
def masked_select(x, mask):
    """The elements of x where the mask is true, in a row."""
    x, mask = as_tensor(x), np.asarray(value(mask))
    shape = np.broadcast_shapes(x.shape, mask.shape)
    return getitem(np.broadcast_to(x, shape), index=np.broadcast_to(mask, shape))


# -- derived: diagonals, triangles, windows ----------------------------------------------------------------------------


@derived(np.diagonal)
def diagonal(x, offset=0, axis1=0, axis2=1):
    """y[..., i] = x[..., i, i + offset], the two axes moved to the end."""
    x = as_tensor(x)
    a, b = normal_axis(axis1, x.ndim), normal_axis(axis2, x.ndim)
    if a == b:
        raise ValueError(f"diagonal: axis1 and axis2 are the same axis {a}")
    x = moveaxis(x, (a, b), (-2, -1))
    n = max(0, min(x.shape[-2] + min(offset, 0), x.shape[-1] - max(offset, 0)))
    i = np.arange(n)
    return getitem(x, index=(..., i + max(-offset, 0), i + max(offset, 0)))


@derived()
def diag_embed(x, offset=0, axis1=-2, axis2=-1):
    """Matrices that are 0 but for the diagonal, which is the last axis of x."""
    x = as_tensor(x)
    n = x.shape[-1] + abs(offset)
    i = np.arange(x.shape[-1])
    y = scatter_to_zeros(x, shape=(*x.shape[:-1], n, n), index=(..., i + max(-offset, 0), i + max(offset, 0)))
    return moveaxis(y, (-2, -1), (axis1, axis2))


@derived(np.diag)
def diag(x, k=0):
    """The k-th diagonal of a matrix, or the matrix with this diagonal."""
    x = as_tensor(x)
    if x.ndim not in (1, 2):
        raise ValueError(f"diag: expected one or two axes, got shape {x.shape}")
    return diag_embed(x, k) if x.ndim == 1 else diagonal(x, k)


@derived(np.diagflat)
def diagflat(x, k=0):
    """The matrix whose k-th diagonal is all of x in a row."""
    return diag_embed(as_tensor(x).reshape(-1), k)


@derived(np.trace)
def trace(x, offset=0, axis1=0, axis2=1):
    """y = the sum of a diagonal."""
    return diagonal(x, offset, axis1, axis2).sum(axis=-1)


@derived(np.tril)
def tril(x, k=0):
    """x, but 0 above the k-th diagonal."""
    x = as_tensor(x)
    return np.where(np.tri(*x.shape[-2:], k=k, dtype=bool), x, x.dtype.type(0))


@derived(np.triu)
def triu(x, k=0):
    """x, but 0 below the k-th diagonal."""
    x = as_tensor(x)
    return np.where(np.tri(*x.shape[-2:], k=k - 1, dtype=bool), x.dtype.type(0), x)


@derived()
def unfold(x, axis, size, step=1):
    """Windows of `size` along an axis, `step` apart: the axis counts the windows, a new last axis runs inside them."""
    x = as_tensor(x)
    axis = normal_axis(axis, x.ndim)
    if not 0 <= size <= x.shape[axis] or step < 1:
        raise ValueError(f"unfold: windows of {size} every {step} do not fit an axis of length {x.shape[axis]}")
    starts = np.arange(0, x.shape[axis] - size + 1, step)
    windows = getitem(x, index=(slice(None),) * axis + (starts[:, None] + np.arange(size),))
    return moveaxis(windows, axis + 1, -1)


@derived(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(x, window_shape, axis=None):
    """Every window of this shape: the axes count the windows, new last axes run inside them."""
    x = as_tensor(x)
    sizes = (window_shape,) if isinstance(window_shape, int) else tuple(window_shape)
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if len(sizes) != len(axes):
        raise ValueError(f"sliding_window_view: {len(sizes)} window lengths for {len(axes)} axes")
    for a, size in zip([normal_axis(a, x.ndim) for a in axes], sizes):
        x = unfold(x, a, size)
    return x


# -- derived: padding --------------------------------------------------------------------------------------------------

_PAD_BY_INDEX = {"reflect", "symmetric", "edge", "wrap"}
_PAD_BY_STATISTIC = {"maximum": np.max, "minimum": np.min, "mean": np.mean, "median": np.median}


@derived(np.pad)
def pad(x, pad_width, mode="constant", constant_values=0, *, end_values=0, stat_length=None, reflect_type="even"):
    """x with more entries before and after each axis, as np.pad.

    mode: "constant"; "edge", "wrap"; "reflect", "symmetric", with reflect_type "odd" turned around the edge's value, too;
    "linear_ramp" to end_values; "maximum", "minimum", "mean", "median" of the nearest stat_length entries (None: of all).
    """
    x = as_tensor(x)
    widths = _pad_widths(pad_width, x.ndim)
    if mode == "constant":
        return _pad_constant(x, widths, constant_values)
    if mode not in (known := {*_PAD_BY_INDEX, *_PAD_BY_STATISTIC, "linear_ramp"}):
        raise ValueError(f"pad: mode must be 'constant' or one of {sorted(known)}, got {mode!r}")
    if reflect_type not in ("even", "odd"):
        raise ValueError(f"pad: reflect_type must be 'even' or 'odd', got {reflect_type!r}")
    plain_number(end_values, "end_values", "tg.concatenate of the ramps and x")
    ends, lengths = (np.broadcast_to(given, (x.ndim, 2)).tolist() for given in (value(end_values), stat_length))
    for axis, pair in enumerate(widths):
        if not any(pair):
            continue
        x = moveaxis(x, axis, 0)
        if not len(x):
            raise ValueError(f"pad: axis {axis} is empty, which only mode 'constant' can extend")
        if mode in _PAD_BY_STATISTIC:
            x = _pad_statistic(x, pair, mode, lengths[axis])
        elif mode == "linear_ramp":
            x = _pad_ramp(x, pair, ends[axis])
        elif reflect_type == "odd" and mode in ("reflect", "symmetric"):
            x = _pad_odd(x, pair, overlap=int(mode == "reflect"))
        else:
            x = take(x, np.pad(np.arange(len(x)), pair, mode=mode), 0)
        x = moveaxis(x, 0, axis)
    return x


def _pad_widths(pad_width, ndim):
    """[[before, after], ...], a pair for each axis."""
    if isinstance(pad_width, dict):  # {axis: width or (before, after)}
        by_axis = {normalize_axis_index(axis, ndim): width for axis, width in pad_width.items()}
        pad_width = [np.broadcast_to(by_axis.get(axis, 0), 2) for axis in range(ndim)]
    given = np.asarray(pad_width)
    widths = np.broadcast_to(given, (ndim, 2)).tolist()
    if (given.size and given.dtype.kind not in "iu") or (given < 0).any():
        raise ValueError(f"pad: expected whole widths ≥ 0, got {widths}")
    return widths


def _pad_constant(x, widths, constant_values):
    shape = tuple(before + n + after for n, (before, after) in zip(x.shape, widths))
    inner = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths))
    if np.all(np.asarray(constant_values) == 0):
        return scatter_to_zeros(x, shape=shape, index=inner)
    frame = np.pad(np.zeros(x.shape, x.dtype), widths, constant_values=constant_values)
    return index_put(frame, x, index=inner)


def _rounded(function, y, dtype):
    """y in x's dtype; integers are what `function` makes of it"""
    return y if y.dtype == dtype else (function(y) if dtype.kind in "iu" else y).astype(dtype)


def _pad_statistic(x, pair, mode, lengths):
    """Before and after x's first axis the maximum, mean, ... of its first and last so many."""
    def end(nearest, count):
        y = _rounded(np.rint, _PAD_BY_STATISTIC[mode](nearest, axis=0, keepdims=True), x.dtype)
        return np.broadcast_to(y, (count, *x.shape[1:]))

    n = len(x)
    first, last = (n if length is None else max(0, min(n, length)) for length in lengths)
    return np.concatenate([end(x[:first], pair[0]), x, end(x[n - last :], pair[1])])


def _pad_ramp(x, pair, ends):
    """Before and after x's first axis straight lines from the values `ends` to its edges."""
    ramps = [(np.arange(n).reshape(-1, *(1,) * (x.ndim - 1)), n or 1) for n in pair]
    left, right = (k * ((edge - end) / n) + end for (k, n), edge, end in zip(ramps, (x[:1], x[-1:]), ends))
    return np.concatenate([_rounded(np.floor, left, x.dtype), x, _rounded(np.floor, right[::-1], x.dtype)])


def _pad_odd(x, pair, overlap):
    """Along the first axis mirrored at the edges, time and again, and turned around their values: ±x[i] + m · (last - first)"""
    n, first, last = max(len(x) - overlap, 1), x[:1], x[-1:]
    place = np.arange(-pair[0], len(x) + pair[1])
    m = np.where((place >= 0) & (place < len(x)), 0, place // n)  # which copy of x this is
    odd = m % 2 == 1
    index = np.minimum(np.where(odd, (m + 1) * n - 1 + overlap - place, place - m * n), len(x) - 1)
    column = lambda numbers: numbers.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    turned = x[index] * column(1 - 2 * odd) + column(m) * (last - first) + column(odd) * (last + first)
    return np.concatenate([turned[: pair[0]], x, turned[pair[0] + len(x) :]])
