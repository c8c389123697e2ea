"""Shapes: five operations with rules (reshape, transpose, broadcast_to, flip, roll), the rest derived from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from operator import index
from typing import Any

import numpy as np

from .op import listed, op
from .ops_common import derived, normal_axes, normal_axis
from .tensor import Tensor


def as_tensor(x: Any, beside: Any = None) -> Tensor:
    """x itself, or a Tensor of it; a Python number takes the dtype that it would have with the array `beside` it, a list of floats
    that of a float64."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, (bool, int, float)) and isinstance(beside, (np.ndarray, Tensor)):
        return Tensor(np.asarray(x, np.result_type(beside.dtype, x)))
    return Tensor(listed(x, (beside,)))


def tensors(xs: Iterable[Any]) -> list[Tensor]:
    """All as Tensors, a list of floats as float64 where another one is."""
    xs = list(xs)
    return [x if isinstance(x, Tensor) else Tensor(listed(x, tuple(xs))) for x in xs]


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


# -- derived: new and lost axes ----------------------------------------------------------------------------------------


@derived(np.reshape, name="reshape")
def reshape_to(x, *shape, order="C", **named):
    """`reshape` as NumPy and PyTorch call it: the shape as one tuple or as several numbers. Order "F": column after column."""
    if shape and isinstance(shape[-1], str):  # np.reshape(x, shape, order)
        *shape, order = shape
    shape = named.get("shape", named.get("newshape", shape))
    if order not in ("C", "F"):
        raise ValueError(f"reshape: order must be 'C' or 'F', got {order!r}")
    if len(shape) == 1 and np.ndim(shape[0]):
        shape = shape[0]
    shape = tuple(index(n) for n in shape)
    return reshape(x, shape=shape) if order == "C" else transpose(reshape(transpose(x), shape=shape[::-1]))


@derived(np.broadcast_to, name="broadcast_to")
def broadcast(x, shape):
    """`x` repeated to `shape`."""
    return broadcast_to(x, shape=(shape,) if isinstance(shape, (int, np.integer)) else tuple(shape))


@derived(np.expand_dims)
def expand_dims(x, axis):
    """New axes of length 1, at these positions of the result."""
    x = as_tensor(x)
    count = 1 if isinstance(axis, (int, np.integer)) else len(axis)
    new = normal_axes(axis, x.ndim + count)
    rest = iter(x.shape)
    return reshape(x, shape=tuple(1 if i in new else next(rest) for i in range(x.ndim + count)))


@derived(np.squeeze)
def squeeze(x, axis=None):
    """Without the axes of length 1, or without the named ones, whose length must be 1."""
    x = as_tensor(x)
    if axis in (0, -1) and not x.ndim:  # of a scalar NumPy and PyTorch let one axis be named
        return x
    gone = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else normal_axes(axis, x.ndim)
    for a in gone:
        if x.shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} has length {x.shape[a]}, expected 1 (shape {x.shape})")
    return reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in gone))


@derived(np.ravel)
def ravel(x, order="C"):
    """All elements in one row; order "F": the first index runs fastest: column after column."""
    return reshape_to(x, -1, order=order)


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
    return _with_axes(xs, 1, lambda shape: (1,))


def _with_axes(xs, ndim, new_shape):
    """Each of xs with at least `ndim` axes, those that have fewer in a new shape made of theirs; a single one by itself."""
    out = tuple(x if x.ndim >= ndim else reshape(x, shape=new_shape(x.shape)) for x in map(as_tensor, xs))
    return out[0] if len(out) == 1 else out


@derived(np.atleast_2d)
def atleast_2d(*xs):
    """At least two axes, new ones in front."""
    return _with_axes(xs, 2, lambda shape: (1, *shape) if shape else (1, 1))


@derived(np.atleast_3d)
def atleast_3d(*xs):
    """At least three axes, placed as NumPy places them: (n,) becomes (1, n, 1), (m, n) becomes (m, n, 1)."""
    return _with_axes(xs, 3, lambda shape: ((1, 1, 1), (1, *shape, 1), (*shape, 1))[len(shape)])


# -- derived: order of axes --------------------------------------------------------------------------------------------


@derived(name="transpose")
def permute(x, *numbers, axes=None):
    """`transpose` with the axes as one tuple or as several numbers."""
    x = as_tensor(x)
    if numbers and axes is not None:
        raise TypeError(f"the axes were given twice, {numbers} and {axes}")
    if numbers:
        axes = numbers[0] if len(numbers) == 1 and (numbers[0] is None or np.ndim(numbers[0])) else numbers
    if axes is None or (not len(axes) and x.ndim):
        return transpose(x)
    order = normal_axes(axes, x.ndim)
    if len(order) != x.ndim:
        swap = "; x.swapaxes({}, {}) swaps two".format(*order) if len(order) == 2 else ""
        raise ValueError(f"expected {x.ndim} axes for shape {x.shape}, got {tuple(axes)}{swap}")
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
    return flip(swapaxes(x, a, b), axis=b) if k else x[...]  # a tensor of its own, for hooks and retain_grad
