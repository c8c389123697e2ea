"""Shapes: six operations with rules (reshape, transpose, broadcast_to, flip, roll, concatenate, split), the rest derived."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .op import op
from .ops_common import derived, normal_axes, normal_axis, value
from .tensor import Tensor


def as_tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


@op
def reshape(x, *, shape):
    """y has the elements of x, in row order, in another shape; one length may be -1"""
    return x.reshape(shape), (x.shape,)

@reshape.grad_of("x")
def _(g, shape): return g.reshape(shape)


@op(numpy=np.transpose)
def transpose(x, *, axes=None):
    """y[i, j, ...] = x[..., j, i], or with `axes`, y's axis k is x's axis axes[k]"""
    return x.transpose(axes), (axes, x.ndim)

@transpose.grad_of("x")
def _(g, axes, ndim):
    if axes is None:
        return g.transpose()
    back = [0] * ndim
    for i, a in enumerate(axes):
        back[a] = i
    return g.transpose(back)


@op
def broadcast_to(x, *, shape):
    """y[..., i, j] = x[..., 0 or i, 0 or j]: repeated along new axes and axes of length 1"""
    return np.broadcast_to(x, shape), ()

@broadcast_to.grad_of("x")
def _(g): return g  # the walker sums


@op(numpy=np.flip)
def flip(x, *, axis=None):
    """y = x backwards along the axes (all by default)"""
    axis = tuple(axis) if isinstance(axis, list) else axis
    return np.flip(x, axis), (axis,)

@flip.grad_of("x")
def _(g, axis): return np.flip(g, axis)


@op(numpy=np.roll)
def roll(x, *, shift, axis=None):
    """y[i] = x[i - shift], around the end"""
    return np.roll(x, shift, axis), (shift, axis)

@roll.grad_of("x")
def _(g, shift, axis):
    return np.roll(g, tuple(-s for s in shift) if isinstance(shift, (tuple, list)) else -shift, axis)


@op(name="concatenate")
def _concatenate(*arrays, axis=0):
    """y = the arrays one after the other along the axis"""
    if axis is None:
        raise ValueError("axis=None is not supported; ravel the arrays first")
    out = np.concatenate(arrays, axis)
    return out, (tuple(a.shape[axis] for a in arrays), axis)

@_concatenate.grad
def _(g, lengths, axis):
    before = (slice(None),) * (axis % g.ndim)
    pieces, start = [], 0
    for n in lengths:
        pieces.append(g[(*before, slice(start, start + n))])
        start += n
    return tuple(pieces)


@op(name="split")
def _split(x, *, lengths, axis=0):
    """y₀, y₁, ... = pieces of x of these lengths along the axis"""
    axis = normal_axis(axis, x.ndim)
    if sum(lengths) != x.shape[axis]:
        raise ValueError(f"the lengths {tuple(lengths)} do not add up to the axis's {x.shape[axis]}")
    before = (slice(None),) * axis
    ends = np.cumsum([0, *lengths]).tolist()
    pieces = tuple(x[(*before, slice(a, b))] for a, b in zip(ends, ends[1:]))
    return pieces, (tuple(lengths), axis, x.shape, x.dtype)

@_split.grad
def _(g, lengths, axis, shape, dtype):
    def zeros(n): return np.zeros((*shape[:axis], n, *shape[axis + 1 :]), dtype)
    return (np.concatenate([zeros(n) if piece is None else piece for n, piece in zip(lengths, g)], axis),)


# -- derived: new and lost axes ----------------------------------------------------------------------------------------


@derived(np.reshape, name="reshape")
def reshape_to(x, *shape, order="C", **named):
    """`reshape` as NumPy and PyTorch call it: the shape as one tuple or as several numbers."""
    shape = named.get("shape", named.get("newshape", shape))
    if order != "C":
        raise ValueError(f"reshape: only row order is supported, got order={order!r}")
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = shape[0]
    return reshape(x, shape=tuple(int(n) for n in shape))


@derived(np.broadcast_to, name="broadcast_to")
def broadcast(x, shape):
    """`x` repeated to `shape`."""
    return broadcast_to(x, shape=(shape,) if isinstance(shape, int) else tuple(shape))


@derived(np.expand_dims)
def expand_dims(x, axis):
    """New axes of length 1, at these positions of the result."""
    x = as_tensor(x)
    count = 1 if isinstance(axis, int) else len(axis)
    new = normal_axes(axis, x.ndim + count)
    rest = iter(x.shape)
    return reshape(x, shape=tuple(1 if i in new else next(rest) for i in range(x.ndim + count)))


@derived(np.squeeze)
def squeeze(x, axis=None):
    """Without the axes of length 1, or without the named ones, whose length must be 1."""
    x = as_tensor(x)
    gone = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else normal_axes(axis, x.ndim)
    for a in gone:
        if x.shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} has length {x.shape[a]}, expected 1 (shape {x.shape})")
    return reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in gone))


@derived(np.ravel)
def ravel(x):
    """All elements in one row."""
    return reshape(x, shape=(-1,))


@derived()
def flatten(x, start_axis=0, end_axis=-1):
    """The axes from `start_axis` to `end_axis` as one."""
    x = as_tensor(x)
    if x.ndim == 0:
        return reshape(x, shape=(1,))
    a, b = normal_axis(start_axis, x.ndim), normal_axis(end_axis, x.ndim)
    if a > b:
        raise ValueError(f"flatten: start_axis {a} lies behind end_axis {b}")
    return reshape(x, shape=(*x.shape[:a], math.prod(x.shape[a : b + 1]), *x.shape[b + 1 :]))


@derived()
def unflatten(x, axis, shape):
    """One axis as several, whose lengths are `shape` (one may be -1)."""
    x = as_tensor(x)
    a = normal_axis(axis, x.ndim)
    shape = list(shape)
    if shape.count(-1) == 1:
        shape[shape.index(-1)] = x.shape[a] // max(1, -math.prod(shape))
    if math.prod(shape) != x.shape[a]:
        raise ValueError(f"unflatten: {tuple(shape)} does not multiply to axis {axis}'s length {x.shape[a]}")
    return reshape(x, shape=(*x.shape[:a], *shape, *x.shape[a + 1 :]))


@derived(np.atleast_1d)
def atleast_1d(*xs):
    """At least one axis."""
    out = tuple(reshape(x, shape=(1,)) if as_tensor(x).ndim == 0 else as_tensor(x) for x in xs)
    return out[0] if len(out) == 1 else out


@derived(np.atleast_2d)
def atleast_2d(*xs):
    """At least two axes, new ones in front."""
    out = tuple(x if x.ndim > 1 else reshape(x, shape=(1, x.size)) for x in map(as_tensor, xs))
    return out[0] if len(out) == 1 else out


@derived(np.atleast_3d)
def atleast_3d(*xs):
    """At least three axes, placed as NumPy places them: (n,) becomes (1, n, 1), (m, n) becomes (m, n, 1)."""
    shapes = {0: lambda s: (1, 1, 1), 1: lambda s: (1, s[0], 1), 2: lambda s: (*s, 1)}
    out = tuple(x if x.ndim > 2 else reshape(x, shape=shapes[x.ndim](x.shape)) for x in map(as_tensor, xs))
    return out[0] if len(out) == 1 else out


# -- derived: order of axes --------------------------------------------------------------------------------------------


@derived(name="transpose")
def permute(x, *axes):
    """`transpose` with the axes as one tuple or as several numbers."""
    x = as_tensor(x)
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
        axes = axes[0]
    if axes is None or (not axes and x.ndim):
        return transpose(x)
    order = normal_axes(axes, x.ndim)
    if len(order) != x.ndim:
        raise ValueError(f"expected {x.ndim} axes for shape {x.shape}, got {tuple(axes)}")
    return transpose(x, axes=order)


@derived(np.swapaxes)
def swapaxes(x, axis1, axis2):
    """Two axes change places."""
    x = as_tensor(x)
    order = list(range(x.ndim))
    a, b = normal_axis(axis1, x.ndim), normal_axis(axis2, x.ndim)
    order[a], order[b] = b, a
    return transpose(x, axes=tuple(order))


@derived(np.moveaxis)
def moveaxis(x, source, destination):
    """The axes `source` move to the positions `destination`, the others keep their order."""
    x = as_tensor(x)
    source, destination = normal_axes(source, x.ndim), normal_axes(destination, x.ndim)
    if len(source) != len(destination):
        raise ValueError(f"moveaxis: {len(source)} axes to move but {len(destination)} places")
    order = [i for i in range(x.ndim) if i not in source]
    for place, axis in sorted(zip(destination, source)):
        order.insert(place, axis)
    return transpose(x, axes=tuple(order))


@derived(np.rollaxis)
def rollaxis(x, axis, start=0):
    """`axis` moves in front of `start`."""
    x = as_tensor(x)
    axis = normal_axis(axis, x.ndim)
    start = start + x.ndim if start < 0 else start
    return moveaxis(x, axis, start - 1 if axis < start else start)


@derived(np.fliplr)
def fliplr(x):
    """Backwards along axis 1."""
    return flip(x, axis=1)


@derived(np.flipud)
def flipud(x):
    """Backwards along axis 0."""
    return flip(x, axis=0)


@derived(np.rot90)
def rot90(x, k=1, axes=(0, 1)):
    """Turned by k quarter turns in the plane of two axes, from the first towards the second."""
    x = as_tensor(x)
    a, b = normal_axes(tuple(axes), x.ndim)
    k %= 4
    if k == 2:
        return flip(x, axis=(a, b))
    if k == 1:
        return swapaxes(flip(x, axis=b), a, b)
    return flip(swapaxes(x, a, b), axis=b) if k else x


# -- derived: joining and parting --------------------------------------------------------------------------------------


@derived(np.concatenate)
def concatenate(arrays, axis=0):
    """The arrays one after the other along an existing axis (None: all ravelled)."""
    arrays = list(arrays)
    if axis is None:
        return _concatenate(*(ravel(a) for a in arrays), axis=0)
    return _concatenate(*arrays, axis=axis)


@derived(np.stack)
def stack(arrays, axis=0):
    """The arrays side by side along a new axis."""
    arrays = [as_tensor(a) for a in arrays]
    if len({a.shape for a in arrays}) != 1:
        raise ValueError(f"stack: expected arrays of one shape, got {[a.shape for a in arrays]}")
    return _concatenate(*(expand_dims(a, axis) for a in arrays), axis=axis)


@derived(np.hstack)
def hstack(arrays):
    """Concatenated along axis 1 (axis 0 for one-dimensional arrays)."""
    arrays = [atleast_1d(a) for a in arrays]
    return _concatenate(*arrays, axis=0 if arrays[0].ndim == 1 else 1)


@derived(np.vstack)
def vstack(arrays):
    """Concatenated along axis 0, after making every array at least two-dimensional."""
    return _concatenate(*(atleast_2d(a) for a in arrays), axis=0)


@derived(np.dstack)
def dstack(arrays):
    """Concatenated along axis 2, after making every array at least three-dimensional."""
    return _concatenate(*(atleast_3d(a) for a in arrays), axis=2)


@derived(np.column_stack)
def column_stack(arrays):
    """One-dimensional arrays as the columns of a matrix; matrices side by side."""
    arrays = [as_tensor(a) for a in arrays]
    return _concatenate(*(a if a.ndim > 1 else reshape(a, shape=(a.size, 1)) for a in arrays), axis=1)


@derived()
def split_lengths(x, lengths, axis=0):
    """Pieces of the given lengths, or all of one length, the last perhaps shorter (PyTorch's split)."""
    x = as_tensor(x)
    n = x.shape[normal_axis(axis, x.ndim)]
    if isinstance(lengths, int):
        if lengths <= 0:
            raise ValueError(f"split: expected a positive length, got {lengths}")
        lengths = [min(lengths, n - start) for start in range(0, n, lengths)] or [0]
    return _split(x, lengths=tuple(lengths), axis=axis)


@derived(np.array_split)
def array_split(x, sections, axis=0):
    """Pieces of x: `sections` nearly equal ones, or cut before the given indices."""
    x = as_tensor(x)
    n = x.shape[normal_axis(axis, x.ndim)]
    if isinstance(sections, (int, np.integer)):
        if sections <= 0:
            raise ValueError(f"split: expected a positive number of sections, got {sections}")
        small, larger = divmod(n, sections)
        lengths = [small + 1] * larger + [small] * (sections - larger)
    else:
        cuts = [0, *(min(max(c + n if c < 0 else c, 0), n) for c in map(int, sections)), n]
        lengths = [max(b - a, 0) for a, b in zip(cuts, cuts[1:])]
    return _split(x, lengths=tuple(lengths), axis=axis)


@derived(np.split)
def split(x, sections, axis=0):
    """Pieces of x: `sections` equal ones, or cut before the given indices."""
    x = as_tensor(x)
    n = x.shape[normal_axis(axis, x.ndim)]
    if isinstance(sections, (int, np.integer)) and (sections <= 0 or n % sections):
        raise ValueError(f"split: axis {axis} has length {n}, which does not divide into {sections} equal sections")
    return array_split(x, sections, axis)


@derived(np.hsplit)
def hsplit(x, sections):
    """`split` along axis 1 (axis 0 for one dimension)."""
    return split(x, sections, 1 if as_tensor(x).ndim > 1 else 0)


@derived(np.vsplit)
def vsplit(x, sections):
    """`split` along axis 0."""
    return split(x, sections, 0)


@derived(np.dsplit)
def dsplit(x, sections):
    """`split` along axis 2."""
    return split(x, sections, 2)


@derived()
def unstack(x, axis=0):
    """The slices along an axis, without it."""
    x = as_tensor(x)
    a = normal_axis(axis, x.ndim)
    return tuple(squeeze(piece, a) for piece in _split(x, lengths=(1,) * x.shape[a], axis=a))


# -- derived: repeating ------------------------------------------------------------------------------------------------


@derived(np.tile)
def tile(x, reps):
    """x laid side by side `reps` times along each axis."""
    x = as_tensor(x)
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    ndim = max(x.ndim, len(reps))
    reps = (1,) * (ndim - len(reps)) + reps
    shape = (1,) * (ndim - x.ndim) + x.shape
    doubled = tuple(n for pair in zip((1,) * ndim, shape) for n in pair)  # (1, n₀, 1, n₁, ...)
    wide = tuple(n for pair in zip(reps, shape) for n in pair)
    return reshape(broadcast_to(reshape(x, shape=doubled), shape=wide), shape=tuple(r * n for r, n in zip(reps, shape)))


@derived(np.repeat)
def repeat(x, repeats, axis=None):
    """Every element (or slice along an axis) `repeats` times in a row; one number, or one for each."""
    x = as_tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = normal_axis(axis, x.ndim)
    repeats = np.asarray(value(repeats))
    if repeats.size == 1:
        k = int(repeats.reshape(()))
        lead, tail = x.shape[: axis + 1], x.shape[axis + 1 :]
        wide = broadcast_to(reshape(x, shape=(*lead, 1, *tail)), shape=(*lead, k, *tail))
        return reshape(wide, shape=(*lead[:-1], lead[-1] * k, *tail))
    index = np.repeat(np.arange(x.shape[axis]), repeats)
    return x[(slice(None),) * axis + (index,)]


@derived(np.meshgrid)
def meshgrid(*xs, indexing="xy", copy=True, sparse=False):
    """Coordinate arrays from coordinate vectors; "xy" swaps the first two axes, "ij" does not."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    n = len(xs)
    place = list(range(n))
    if indexing == "xy" and n > 1:
        place[0], place[1] = 1, 0
    xs = tuple(as_tensor(x) for x in xs)
    thin = [reshape(x, shape=tuple(x.size if j == place[i] else 1 for j in range(n))) for i, x in enumerate(xs)]
    if sparse:
        return tuple(thin)
    full = np.broadcast_shapes(*(t.shape for t in thin))
    return tuple(broadcast_to(t, shape=full) for t in thin)


@derived(np.broadcast_arrays)
def broadcast_arrays(*xs):
    """All arrays in their common shape."""
    xs = tuple(as_tensor(x) for x in xs)
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    return tuple(broadcast_to(x, shape=shape) for x in xs)


