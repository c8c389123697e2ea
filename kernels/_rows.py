"""How a row kernel sees its arrays, and how its rows are shared out.

A kernel takes two-dimensional C-contiguous arrays. Where an array is a slice of something wider, such as one half of a fused
projection, it gets the wider rows and uses the first `width` numbers of each: nothing is copied, and LLVM still knows
that neighbours in a row are neighbours in memory. Only where rows do not lie at one even distance is a copy made.
"""
import math

import numpy as np

from . import _check as check
from ._jit import get_num_threads, jit
from .arrays import empty

SERIAL_BELOW = 1 << 15              # elements; 10 microseconds of work, a few times what a parallel launch costs


def rows_of(x):
    """x (..., width) as (rows, stride >= width), C-contiguous; a copy only where the rows are not evenly spaced."""
    width = x.shape[-1]
    if x.flags.c_contiguous:
        return x if x.ndim == 2 else x.reshape(-1, width)
    step = _row_step(x)
    if step is None:
        return np.ascontiguousarray(x).reshape(-1, width)
    count = math.prod(x.shape[:-1])
    return np.lib.stride_tricks.as_strided(x, (count, step), (step * x.itemsize, x.itemsize), writeable=x.flags.writeable)


def _row_step(x):
    """The distance of neighbouring rows in elements, or None where there is no single one that leaves room for a row."""
    if x.size == 0 or (x.strides[-1] != x.itemsize and x.shape[-1] != 1):
        return None
    axes = [(count, stride) for count, stride in zip(x.shape[:-1], x.strides[:-1]) if count > 1]
    if not axes:
        return x.shape[-1]
    for (_, outer), (count, inner) in zip(axes, axes[1:]):
        if outer != count * inner:
            return None
    step, rest = divmod(axes[-1][1], x.itemsize)
    return step if rest == 0 and step >= x.shape[-1] else None


def flat_or_rows(*arrays):
    """Equal shapes for a pointwise kernel: (views, width, total), lines of `width` numbers, `total` in all; None stays None.

    All contiguous: cut into lines of 4096, the last one shorter. Else by rows.
    """
    total = arrays[0].size
    if all([x is None or x.flags.c_contiguous for x in arrays]):
        width, lines = min(total, LINE), -(-total // LINE)
        return [None if x is None else _lines(x, lines, width) for x in arrays], width, total
    return [None if x is None else rows_of(x) for x in arrays], arrays[0].shape[-1], total


LINE = 4096


def _lines(x, lines, width):
    if x.size == lines * width:
        return x.reshape(lines, width)
    return np.lib.stride_tricks.as_strided(x, (lines, width), (width * x.itemsize, x.itemsize), writeable=x.flags.writeable)


def share(rows, width, grain=1 << 14):
    """(threads, tasks): tasks of about `grain` elements, a number that depends on the shape alone, so that bits do too."""
    total = rows * width
    tasks = max(1, min(rows, total // grain))
    return 1 if total < SERIAL_BELOW else min(get_num_threads(), tasks), tasks


@jit(forceinline=True)
def span(task, tasks, rows):
    """The rows [first, last) of a task."""
    return task * rows // tasks, (task + 1) * rows // tasks


def target_of(name, out, shape, dtype, inputs=()):
    """What a loop writes: `out`, checked, where it lies in C order, else a new array that does; `handed_back` returns it."""
    if out is not None:
        check.writable(name, out, shape, dtype, inputs)
        if out.flags.c_contiguous:
            return out
    return empty(shape, dtype)


def handed_back(out, target):
    """What the caller gets: `out`, filled where a loop wrote elsewhere, or the target itself where there is none."""
    if out is None or out is target:
        return target
    out[...] = target
    return out
