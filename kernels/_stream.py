"""Writing past the caches: for results so large that no cache would hold them until somebody reads them.

An ordinary write reads the line first. Two threads, y = 1.5 x: 26 GB/s for arrays of 100 MB, past the caches 46; for 25 MB 55 both.
Such writes reach other threads' sight with the next atomic act, and every kernel ends with one.
"""
from ._jit import COMPILED, jit

LARGE = 48 << 20                              # bytes of a result from which it pays

if COMPILED:
    from .simd import LANES32, load_f32, load_f64, prefetch_second, store, store_stream

    BYTES = 4 * LANES32

    @jit(forceinline=True)
    def ask_for(x, start, stop):
        """Ask memory for x[start:stop] of a contiguous vector, as far as there is one, while other work is done."""
        first, end = x.ctypes.data + start * x.itemsize, x.ctypes.data + min(stop, x.size) * x.itemsize
        for address in range(first, end, 64):
            prefetch_second(address)

    @jit(forceinline=True)
    def write(address, vector, past):
        """A whole vector, past the caches if `past`: its address is a multiple of its size then."""
        if past:
            store_stream(address, vector)
        else:
            store(address, vector)

    @jit
    def stream(into, source):
        """into[...] = source, for two contiguous vectors of one type and length."""
        size, n, i = into.itemsize, into.size, 0
        to, start = into.ctypes.data, source.ctypes.data
        while i < n and (to + i * size) % BYTES != 0:
            into[i] = source[i]
            i += 1
        while i + BYTES // size <= n:
            if size == 4:
                store_stream(to + i * size, load_f32(start + i * size))
            else:
                store_stream(to + i * size, load_f64(start + i * size))
            i += BYTES // size
        while i < n:
            into[i] = source[i]
            i += 1
else:
    def ask_for(x, start, stop):
        """Memory is not waited for in plain Python."""

    def stream(into, source):
        into[...] = source
