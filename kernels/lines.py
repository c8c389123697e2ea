"""Loops over a line of float32 numbers, for functions in explicit vectors: `value(x)` and its slope `rise(x)`, vector to vector."""
from ._jit import jit
from .simd import LANES32, load_f32, store
from .vectors import put, take

SIZE = 4
STEP = SIZE * LANES32


def make_lines(value, rise):
    """values(x, y): y = value(x); slopes(g, x, dx): dx = g · rise(x); overwrite(x): x = value(x)."""
    @jit
    def values(x, y):
        source, target, n, like = x.ctypes.data, y.ctypes.data, x.size, x.dtype.type(0)
        end = n // LANES32 * STEP
        for at in range(0, end, STEP):
            store(target + at, value(load_f32(source + at)))
        left = n % LANES32
        if left:
            put(target + end, value(take(source + end, left, like)), left, like)

    @jit
    def slopes(g, x, dx):
        upstream, source, target, n, like = g.ctypes.data, x.ctypes.data, dx.ctypes.data, x.size, x.dtype.type(0)
        end = n // LANES32 * STEP
        for at in range(0, end, STEP):
            store(target + at, load_f32(upstream + at) * rise(load_f32(source + at)))
        left = n % LANES32
        if left:
            put(target + end, take(upstream + end, left, like) * rise(take(source + end, left, like)), left, like)

    @jit
    def overwrite(x):
        values(x, x)

    return values, slopes, overwrite


def make_gated_lines(value, rise):
    """values(gate, up, y): y = value(gate) · up; slopes(g, gate, up, dgate, dup): its two gradients."""
    @jit
    def values(gate, up, y):
        a, b, target, n, like = gate.ctypes.data, up.ctypes.data, y.ctypes.data, y.size, y.dtype.type(0)
        end = n // LANES32 * STEP
        for at in range(0, end, STEP):
            store(target + at, value(load_f32(a + at)) * load_f32(b + at))
        left = n % LANES32
        if left:
            put(target + end, value(take(a + end, left, like)) * take(b + end, left, like), left, like)

    @jit
    def slopes(g, gate, up, dgate, dup):
        upstream, a, b, n, like = g.ctypes.data, gate.ctypes.data, up.ctypes.data, g.size, g.dtype.type(0)
        da, db, end = dgate.ctypes.data, dup.ctypes.data, n // LANES32 * STEP
        for at in range(0, end, STEP):
            d, x = load_f32(upstream + at), load_f32(a + at)
            store(da + at, d * load_f32(b + at) * rise(x))
            store(db + at, d * value(x))
        left = n % LANES32
        if left:
            d, x = take(upstream + end, left, like), take(a + end, left, like)
            put(da + end, d * take(b + end, left, like) * rise(x), left, like)
            put(db + end, d * value(x), left, like)

    return values, slopes
