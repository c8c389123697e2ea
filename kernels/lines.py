"""The loops of `activation._lines` for functions in explicit vectors of float32: `value`, and `both`, value and slope.

Results go past the caches where the caller says so (`past`) and the row begins on a vector's boundary.
"""
from ._jit import jit
from ._stream import BYTES as STEP
from ._stream import write
from .simd import LANES32
from .vectors import put, row_of, take


@jit(forceinline=True)
def on_boundary(x, r):
    return x is None or row_of(x, r) % STEP == 0


@jit(forceinline=True)
def leave(x, r, at, count, vector, past):
    """Write `count` numbers of a vector, from `at` bytes on; a whole one past the caches if `past`."""
    if count < LANES32:
        put(row_of(x, r) + at, vector, count, x.dtype.type(0))
    else:
        write(row_of(x, r) + at, vector, past)


def make_lines(value, both):
    @jit(forceinline=True)
    def value_at(at, count, r, x, up, y, past):
        like = x.dtype.type(0)
        v = value(take(row_of(x, r) + at, count, like))
        leave(y, r, at, count, v if up is None else v * take(row_of(up, r) + at, count, like), past)

    @jit(forceinline=True)
    def slope_at(at, count, r, g, x, up, dx, dup, y, past):
        like = x.dtype.type(0)
        d, (v, slope) = take(row_of(g, r) + at, count, like), both(take(row_of(x, r) + at, count, like))
        leave(dx, r, at, count, d * slope if up is None else d * take(row_of(up, r) + at, count, like) * slope, past)
        if dup is not None:
            leave(dup, r, at, count, d * v, past)
        if y is not None:
            leave(y, r, at, count, v, past)

    @jit
    def values(r, n, x, up, y, past):
        whole, past = n // LANES32 * STEP, past and on_boundary(y, r)
        for at in range(0, whole, STEP):
            value_at(at, LANES32, r, x, up, y, past)
        if n % LANES32:
            value_at(whole, n % LANES32, r, x, up, y, past)

    @jit
    def slopes(r, n, g, x, up, dx, dup, y, past):
        whole, past = n // LANES32 * STEP, past and on_boundary(dx, r) and on_boundary(dup, r) and on_boundary(y, r)
        for at in range(0, whole, STEP):
            slope_at(at, LANES32, r, g, x, up, dx, dup, y, past)
        if n % LANES32:
            slope_at(whole, n % LANES32, r, g, x, up, dx, dup, y, past)

    @jit
    def overwrite(x):
        row = x.reshape(1, x.size)
        values(0, x.size, row, None, row, False)

    return values, slopes, overwrite
