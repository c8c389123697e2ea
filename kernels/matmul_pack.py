"""Copies of the operands laid out in the order in which the tiles read them.

Packed data are lines, one for each step of k, of `count` numbers: columns of B for a panel, rows of A for a tile.
"""

from . import simd
from ._jit import jit
from .simd import store


def make_pack(vector):
    """`pack` and `gather_lines` for lines made of this kind of vector."""
    size, scalar, peek, _ = simd.number_of(vector)
    lanes, side = vector.lanes, simd.square_side(vector.lanes)
    load, transpose = simd._loader(vector), simd._transposer(vector)

    @jit
    def copy_lines(k, vectors, src, step, dst, step_dst):
        """k lines of `vectors` vectors, as they lie."""
        for _ in range(k):
            for v in range(vectors):
                store(dst + v * lanes * size, load(src + v * lanes * size))
            src += step
            dst += step_dst

    @jit
    def turn_lines(k, vectors, src, step, dst, step_dst):
        """vectors · lanes lines that run along k: square blocks turned in registers, so that k lines come out."""
        whole = k - k % side
        for v in range(vectors):
            from_v, to_v = src + v * lanes * step, dst + v * lanes * size
            for i in range(0, whole, side):
                transpose(from_v + i * size, step, to_v + i * step_dst, step_dst)
            for i in range(whole, k):
                for c in range(lanes):
                    simd.poke(to_v + i * step_dst + c * size, peek(from_v + c * step + i * size))

    @jit
    def gather_lines(k, count, filled, src, step, between, dst):
        """k lines of `count` numbers from any strides; past `filled` they are zero."""
        for _ in range(k):
            for c in range(count):
                simd.poke(dst, peek(src + c * between) if c < filled else scalar(0))
                dst += size
            src += step

    @jit
    def pack(k, count, filled, src, step, between, dst):
        """k lines of `count` numbers next to each other: `step` bytes from line to line, `between` from number to number."""
        vectors = count // lanes
        if filled < count or (between != size and step != size):
            gather_lines(k, count, filled, src, step, between, dst)
        elif between == size:
            copy_lines(k, vectors, src, step, dst, count * size)
        else:
            turn_lines(k, vectors, src, between, dst, count * size)

    return pack, gather_lines
