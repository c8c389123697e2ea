"""Loops over a line of float32 numbers for functions in explicit vectors: from a vector to `value`, and to `both`, value and slope.

Results go past the caches where the caller says so (`past`) and the line begins on a vector's boundary.
"""
from ._jit import jit
from ._stream import BYTES as STEP
from ._stream import write
from .simd import LANES32, load_f32
from .vectors import put, take


def make_lines(value, both):
    """values(x, y, past): y = value(x); slopes(g, x, dx, past): dx = g · slope; overwrite(x): x = value(x)."""
    @jit
    def values(x, y, past):
        source, target, n, like = x.ctypes.data, y.ctypes.data, x.size, x.dtype.type(0)
        end, past = n // LANES32 * STEP, past and target % STEP == 0
        for at in range(0, end, STEP):
            write(target + at, value(load_f32(source + at)), past)
        left = n % LANES32
        if left:
            put(target + end, value(take(source + end, left, like)), left, like)

    @jit
    def slopes(g, x, dx, past):
        upstream, source, target, n, like = g.ctypes.data, x.ctypes.data, dx.ctypes.data, x.size, x.dtype.type(0)
        end, past = n // LANES32 * STEP, past and target % STEP == 0
        for at in range(0, end, STEP):
            write(target + at, load_f32(upstream + at) * both(load_f32(source + at))[1], past)
        left = n % LANES32
        if left:
            put(target + end, take(upstream + end, left, like) * both(take(source + end, left, like))[1], left, like)

    @jit
    def overwrite(x):
        values(x, x, False)

    return values, slopes, overwrite


def make_gated_lines(value, both):
    """values(gate, up, y, past): y = value(gate) · up; slopes(g, gate, up, dgate, dup, past): its two gradients."""
    @jit
    def values(gate, up, y, past):
        a, b, target, n, like = gate.ctypes.data, up.ctypes.data, y.ctypes.data, y.size, y.dtype.type(0)
        end, past = n // LANES32 * STEP, past and target % STEP == 0
        for at in range(0, end, STEP):
            write(target + at, value(load_f32(a + at)) * load_f32(b + at), past)
        left = n % LANES32
        if left:
            put(target + end, value(take(a + end, left, like)) * take(b + end, left, like), left, like)

    @jit
    def slopes(g, gate, up, dgate, dup, past):
        upstream, a, b, n, like = g.ctypes.data, gate.ctypes.data, up.ctypes.data, g.size, g.dtype.type(0)
        da, db, end = dgate.ctypes.data, dup.ctypes.data, n // LANES32 * STEP
        past = past and da % STEP == 0 and db % STEP == 0
        for at in range(0, end, STEP):
            d, (y, rise) = load_f32(upstream + at), both(load_f32(a + at))
            write(da + at, d * load_f32(b + at) * rise, past)
            write(db + at, d * y, past)
        left = n % LANES32
        if left:
            d, (y, rise) = take(upstream + end, left, like), both(take(a + end, left, like))
            put(da + end, d * take(b + end, left, like) * rise, left, like)
            put(db + end, d * y, left, like)

    return values, slopes
