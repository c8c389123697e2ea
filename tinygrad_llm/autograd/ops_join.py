"""Joining, parting and repeating: two operations with rules (concatenate, split), the rest derived."""

from __future__ import annotations

import numpy as np

from .op import op
from .ops_common import derived, normal_axis, of_numpy_2, value
from .ops_shape import as_tensor, atleast_1d, atleast_2d, atleast_3d, broadcast_to, expand_dims, ravel, reshape, squeeze, tensors
from .tensor import Tensor


@op(name="concatenate")
def _concatenate(*arrays, axis=0):
    """y = the arrays one after the other along the axis"""
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


# -- derived: joining and parting --------------------------------------------------------------------------------------


@derived(np.concatenate)
def concatenate(arrays, axis=0):
    """The arrays one after the other along an existing axis (None: all ravelled)."""
    arrays = list(arrays)
    if axis is None:
        return _concatenate(*map(ravel, tensors(arrays)), axis=0)
    return _concatenate(*arrays, axis=axis)


@derived(np.stack)
def stack(arrays, axis=0):
    """The arrays side by side along a new axis."""
    arrays = tensors(arrays)
    if len({a.shape for a in arrays}) != 1:
        raise ValueError(f"stack: expected arrays of one shape, got {[a.shape for a in arrays]}")
    return _concatenate(*(expand_dims(a, axis) for a in arrays), axis=axis)


@derived(np.hstack)
def hstack(arrays):
    """Concatenated along axis 1 (axis 0 for one-dimensional arrays)."""
    arrays = [atleast_1d(a) for a in tensors(arrays)]
    return _concatenate(*arrays, axis=1 if arrays and arrays[0].ndim > 1 else 0)


@derived(np.vstack)
def vstack(arrays):
    """Concatenated along axis 0, after making every array at least two-dimensional."""
    return _concatenate(*(atleast_2d(a) for a in tensors(arrays)), axis=0)


@derived(np.dstack)
def dstack(arrays):
    """Concatenated along axis 2, after making every array at least three-dimensional."""
    return _concatenate(*(atleast_3d(a) for a in tensors(arrays)), axis=2)


@derived(np.column_stack)
def column_stack(arrays):
    """One-dimensional arrays as the columns of a matrix; matrices side by side."""
    arrays = tensors(arrays)
    return _concatenate(*(a if a.ndim > 1 else reshape(a, shape=(a.size, 1)) for a in arrays), axis=1)


@derived(np.block)
def block(arrays):
    """Nested lists of arrays as one: the innermost lists are joined along the last axis, those around them along the one before."""
    leaves = list(_leaves(arrays))
    if len({depth for depth, _ in leaves}) != 1:
        raise ValueError(f"expected arrays in lists of one depth, got them at depths {sorted({depth for depth, _ in leaves})}")
    depth, kinds = leaves[0][0], [leaf.dtype for _, leaf in leaves if isinstance(leaf, np.ndarray | Tensor)]
    beside = np.empty(0, np.result_type(*kinds)) if kinds else None
    ndim = max(depth, *(np.ndim(value(leaf)) for _, leaf in leaves))

    def joined(part, axis):
        if isinstance(part, list):
            return _concatenate(*(joined(p, axis + 1) for p in part), axis=axis)
        part = as_tensor(part, beside)
        return reshape(part, shape=(1,) * (ndim - part.ndim) + part.shape)

    return joined(arrays, -depth)


def _leaves(part, depth=0):
    """(depth, array) of each array in nested lists."""
    if not isinstance(part, list):
        yield depth, part
    for inner in part if isinstance(part, list) else ():
        yield from _leaves(inner, depth + 1)


@derived()
def split_lengths(x, lengths, axis=0):
    """Pieces of the given lengths, or all of one length, the last perhaps shorter (PyTorch's split)."""
    x = as_tensor(x)
    n = x.shape[normal_axis(axis, x.ndim)]
    if isinstance(lengths, (int, np.integer)):
        if lengths <= 0:
            raise ValueError(f"expected a positive length, got {lengths}")
        lengths = [min(lengths, n - start) for start in range(0, n, lengths)] or [0]
    return _split(x, lengths=tuple(lengths), axis=axis)


@derived(np.array_split)
def array_split(x, sections, axis=0):
    """Pieces of x: `sections` nearly equal ones, or cut before the given indices."""
    x = as_tensor(x)
    n = x.shape[normal_axis(axis, x.ndim)]
    if isinstance(sections, (int, np.integer)):
        if sections <= 0:
            raise ValueError(f"expected a positive number of sections, got {sections}")
        small, larger = divmod(n, sections)
        lengths = [small + 1] * larger + [small] * (sections - larger)
    else:
        cuts = [0, *(min(max(c + n if c < 0 else c, 0), n) for c in map(int, sections)), n]
        if cuts != sorted(cuts):  # pieces that overlap, or leave something out
            before = (slice(None),) * normal_axis(axis, x.ndim)
            return tuple(x[(*before, slice(a, b))] for a, b in zip(cuts, cuts[1:]))
        lengths = [b - a for a, b in zip(cuts, cuts[1:])]
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
    """`split` along axis 0, of two or more axes."""
    if (x := as_tensor(x)).ndim < 2:
        raise ValueError(f"expected two or more axes, got shape {x.shape}")
    return split(x, sections, 0)


@derived(np.dsplit)
def dsplit(x, sections):
    """`split` along axis 2."""
    return split(x, sections, 2)


@derived(*of_numpy_2("unstack"))
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
    reps = (reps,) if isinstance(reps, (int, np.integer)) else tuple(reps)
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
    if axis is None or x.ndim == 0:
        x, axis = ravel(x), axis or 0
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
