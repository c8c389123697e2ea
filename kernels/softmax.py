"""Softmax and log-softmax, forward and backward, along any axis.

A row is read for its maximum, read again (from the cache) for the exponentials, which go to a small scratch row together
with their sum, and written once, scaled. Because the scratch row stands between, `out` may be the input itself.
An axis other than the last is brought to the back by a copy.
"""
import math

import numpy as np

from . import _check as check
from ._jit import COMPILED, jit, jit_tasks
from ._rows import handed_back, rows_of, share, span
from ._stream import LARGE
from .arrays import empty
from .vecmath import exp, exp_low, row_max, wide_vectors

AWAY = 128                                    # numbers


@jit(forceinline=True)
def _scratch(width, dtype):
    """Memory for a row that begins AWAY numbers after whatever lies before it.

    A loop that reads one array and writes another runs in vectors where the one written begins before the one read, or a few
    vectors after it: that is all LLVM checks. A short row right before its scratch would be summed number by number, to other bits.
    """
    return np.empty(AWAY + width, dtype)[AWAY:]


@jit(forceinline=True)
def _exponentials(row, top, scratch):
    """scratch = exp(row - top); their sum"""
    s = row.dtype.type(0)
    for i in range(row.size):
        e = exp_low(row[i] - top)
        scratch[i] = e
        s += e
    return s


@jit(forceinline=True)
def _differences(row, top, scratch):
    """scratch = row - top; the sum of their exponentials"""
    s = row.dtype.type(0)
    for i in range(row.size):
        z = row[i] - top
        scratch[i] = z
        s += exp_low(z)
    return s


@jit_tasks
def _softmax(task, tasks, width, x, out):
    wide_vectors()
    first, last = span(task, tasks, x.shape[0])
    scratch = _scratch(width, x.dtype)
    for r in range(first, last):
        row, y = x[r][:width], out[r][:width]
        top = row_max(row)
        scale = x.dtype.type(1 / _exponentials(row, top, scratch))
        for i in range(width):
            y[i] = scratch[i] * scale


@jit_tasks
def _log_softmax(task, tasks, width, x, out):
    wide_vectors()
    first, last = span(task, tasks, x.shape[0])
    scratch = _scratch(width, x.dtype)
    for r in range(first, last):
        row, y = x[r][:width], out[r][:width]
        top = row_max(row)
        log = x.dtype.type(math.log(_differences(row, top, scratch)))
        for i in range(width):
            y[i] = scratch[i] - log


if COMPILED:
    from ._stream import write
    from .simd import fma, sum_lanes
    from .vectors import constant, lanes, put, sizeof, take, vload

    @jit
    def _row_gradient(g, y, d, past):
        """d = y · (g - Σ g·y) in explicit vectors, whose sum is two that do not wait for each other."""
        like, width, g, y, d = y[0], y.size, g.ctypes.data, y.ctypes.data, d.ctypes.data
        size, step, i = sizeof(like), lanes(like), 0
        s = t = constant(0.0, like)
        while i + 2 * step <= width:
            s = fma(vload(g + i * size, like), vload(y + i * size, like), s)
            t = fma(vload(g + (i + step) * size, like), vload(y + (i + step) * size, like), t)
            i += 2 * step
        while i < width:
            s = fma(take(g + i * size, width - i, like), take(y + i * size, width - i, like), s)
            i += step
        total = sum_lanes(s + t)
        end, left, past = width // step * step * size, width % step, past and d % (step * size) == 0
        for at in range(0, end, step * size):
            write(d + at, vload(y + at, like) * (vload(g + at, like) - total), past)
        if left:
            put(d + end, take(y + end, left, like) * (take(g + end, left, like) - total), left, like)
else:
    def _row_gradient(g, y, d, _):
        """d = y · (g - Σ g·y)"""
        s = y.dtype.type(0)
        for i in range(y.size):
            s += g[i] * y[i]
        for i in range(y.size):
            d[i] = y[i] * (g[i] - s)


@jit_tasks
def _softmax_gradient(task, tasks, width, g, out, dx):
    wide_vectors()
    first, last = span(task, tasks, dx.shape[0])
    past = dx.shape[0] * width * dx.itemsize >= LARGE
    for r in range(first, last):
        _row_gradient(g[r][:width], out[r][:width], dx[r][:width], past)


@jit_tasks
def _log_softmax_gradient(task, tasks, width, g, out, dx):
    wide_vectors()
    first, last = span(task, tasks, dx.shape[0])
    for r in range(first, last):
        gr, y, d = g[r][:width], out[r][:width], dx[r][:width]
        s = out.dtype.type(0)
        for i in range(width):
            s += gr[i]
        for i in range(width):
            d[i] = gr[i] - exp(y[i]) * s


# ---- the kernels ------------------------------------------------------------------------------------------------------

def softmax_forward(x, axis=-1, out=None):
    return _forward(_softmax, "softmax", x, axis, out)


def softmax_backward(g, out, axis=-1):
    return _backward(_softmax_gradient, "softmax", g, out, axis)


def log_softmax_forward(x, axis=-1, out=None):
    return _forward(_log_softmax, "log_softmax", x, axis, out)


def log_softmax_backward(g, out, axis=-1):
    return _backward(_log_softmax_gradient, "log_softmax", g, out, axis)


def _forward(loop, name, x, axis, out):
    axis = check.axis_of(name, axis, check.rows("x", x).ndim)
    if out is not None:
        check.writable("out", out, x.shape, x.dtype, () if check.same_place(out, x) else (x,))
    last = axis == x.ndim - 1
    if last and (out is None or out.flags.c_contiguous):
        return _call(loop, (x,), out)
    y = _call(loop, (np.moveaxis(x, axis, -1),))
    return handed_back(out, y if last else np.moveaxis(y, -1, axis))


def _backward(loop, name, g, out, axis):
    check.like_array("g", g, check.rows("out", out))
    axis = check.axis_of(name, axis, out.ndim)
    if axis == out.ndim - 1:
        return _call(loop, (g, out))
    return np.moveaxis(_call(loop, (np.moveaxis(g, axis, -1), np.moveaxis(out, axis, -1))), -1, axis)


def _call(loop, inputs, out=None):
    """The loop over the rows of its inputs, into `out` or a new array."""
    out = empty(inputs[0].shape, inputs[0].dtype) if out is None else out
    if out.size:
        views, width = [rows_of(x) for x in (*inputs, out)], out.shape[-1]
        loop(*share(len(views[0]), width), width, *views)
    return out


def warmup(dtypes=("float32",)):
    """Nothing: a training step's softmax is inside attention and cross-entropy."""
