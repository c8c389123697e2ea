"""Rotary positions: each pair of features turns by its position's angle. One read, one write.

x keeps its place in memory as far as possible: leading axes that are evenly spaced are not copied. The angles' leading
axes may be those of x, or fewer, and are then used again in turn.
"""
import numpy as np

from ._jit import jit_tasks
from ._rows import rows_of, share, span
from .arrays import empty
from .reference import _rotary_halves
from .vecmath import wide_vectors


@jit_tasks
def _turn(task, tasks, width, half, interleaved, sign, x, cos, sin, out):
    wide_vectors()
    first, last = span(task, tasks, out.shape[0])
    angles = cos.shape[0]
    for r in range(first, last):
        row, y = x[r][:width], out[r]
        c, s = cos[r % angles], sin[r % angles]
        if interleaved:
            for i in range(half):
                a, b = row[2 * i], row[2 * i + 1]
                y[2 * i] = a * c[i] - b * (sign * s[i])
                y[2 * i + 1] = b * c[i] + a * (sign * s[i])
        else:
            a, b, ya, yb = row[:half], row[half:2 * half], y[:half], y[half:2 * half]
            for i in range(half):
                ya[i] = a[i] * c[i] - b[i] * (sign * s[i])
                yb[i] = b[i] * c[i] + a[i] * (sign * s[i])
        for i in range(2 * half, width):
            y[i] = row[i]


def rotary_forward(x, cos, sin, interleaved=False):
    return _rotary(x, cos, sin, interleaved, 1)


def rotary_backward(g, cos, sin, interleaved=False):
    return _rotary(g, cos, sin, interleaved, -1)


def _rotary(x, cos, sin, interleaved, sign):
    _rotary_halves(x, cos, sin, interleaved)
    if x.size == 0 or cos.shape[-1] == 0:
        return x.copy()
    out = empty(x.shape, x.dtype)
    width, half = x.shape[-1], cos.shape[-1]
    _turn(*share(x.size // width, width), width, half, bool(interleaved), x.dtype.type(sign), rows_of(x),
          _angles(cos, x.shape), _angles(sin, x.shape), out.reshape(-1, width))
    return out


def _angles(angles, shape):
    """Angles as rows such that row r of x turns by row r mod (number of rows)."""
    lead = angles.shape[:-1]
    while lead and lead[0] == 1:
        lead = lead[1:]
    if lead != shape[len(shape) - 1 - len(lead):-1]:
        lead = shape[:-1]
    return np.ascontiguousarray(np.broadcast_to(angles, (*lead, angles.shape[-1])) if angles.ndim <= len(lead) + 1
                                else angles).reshape(-1, angles.shape[-1])


def warmup(dtypes=("float32",)):
    """Nothing: of a training step's kernels these are needed by some models only, and compile in a second."""
