"""out = x (q · scale)ᵀ + bias with weights of eight bits, for decoding.

With one row a product reads each weight once, so it takes the time that memory takes to deliver the weights, and with a quarter
of the bytes about a third of the time. A row's scale is a factor of the finished sum, and a sum runs over k alone, so that neither
the number of threads nor the other rows change its bits. Nothing is lost but what `quantize_int8` rounded off:

    on matrix tiles     x is cut into digits of eight bits, and products and sums are whole numbers (`matmul_int8_tiles`)
    on vectors          weights become float32 in registers, on their way to the multiply-add: dot products as in `matmul_skinny`;
                        for MANY rows of x a block of q at a time is turned into float32 for `matmul`
"""

import functools

import numpy as np

from . import _check as check
from . import _threads
from ._jit import COMPILED
from ._rows import handed_back
from .arrays import address
from .matmul_call import matmul
from .matmul_plan import FIELDS, SERIAL_SKINNY, borrow_scratch, ceil_div, return_scratch, round_up
from .reference_matmul import check_int8

from .matmul_plan import (  # isort: skip
    BLOCK_N, CHUNKS, COL_B, K, M, N, P_A, P_B, P_BIAS, P_C, P_COUNTER, P_RES, PIECE, ROW_A, ROW_C, SCRATCH, SHARED, TASKS_N,
)

MANY = 1024                                   # rows of x: dot products reach 150 GFLOP/s here, `matmul` 200 to 250
TASK_BYTES = 1 << 16                          # of q, for one task: the cut, and so the bits, do not depend on the threads
BLOCK_NUMBERS = 1 << 18                       # of q that are turned into float32 at a time: 1 MB

if COMPILED:
    from numba import int64, types

    from . import matmul_int8_tiles as tiles
    from . import simd
    from ._jit import address_of, jit
    from ._pool import ready
    from .matmul_blocked import first_page, part_address, start
    from .matmul_tile import BESIDE_4, make_dots
    from .simd import data_of, draw, field, peek_f32, poke, real

    LANES = simd.LANES32
    _EIGHT_BITS = simd.Vector(types.int8, LANES)
    _dots_1x4, _dots_1x1, _dots_4, _dots_4x1 = (make_dots(simd.f32, r, c, _EIGHT_BITS)
                                                for r, c in ((1, 4), (1, 1), (4, BESIDE_4), (4, 1)))

    @jit
    def _most_beside(rows, columns):
        """Of how many rows of q `_dots` takes the products with 4 rows of x, or with 1."""
        most = 4 if rows == 1 else BESIDE_4
        return most if columns >= most else 1

    @jit
    def _dots(rows, columns, depth, px, row_x, pq, row_q, spare):
        vectors, tail = depth // LANES, depth % LANES
        if rows == 1:
            if columns == 4:
                _dots_1x4(vectors, px, row_x, pq, row_q, tail, spare)
            else:
                _dots_1x1(vectors, px, row_x, pq, row_q, tail, spare)
        elif columns == BESIDE_4:
            _dots_4(vectors, px, row_x, pq, row_q, tail, spare)
        else:
            _dots_4x1(vectors, px, row_x, pq, row_q, tail, spare)

    @jit
    def _put(src, rows, columns, to, row_to, first, apart, scale, bias):
        for r in range(rows):
            for c in range(columns):
                at = 4 * (first + c * apart)
                value = peek_f32(src) * peek_f32(scale + at)
                if bias != 0:
                    value += peek_f32(bias + at)
                poke(to + r * row_to + at, value)
                src += 4

    @jit
    def worker(plan, args, thread, spare):
        """Take blocks of rows of q until none is left; P_RES holds the scales, P_BIAS the bias or 0."""
        rows, depth, tasks = field(plan, M), field(plan, K), field(plan, TASKS_N)
        row_x, row_out = field(plan, ROW_A), field(plan, ROW_C)
        px, pq, out = field(args, P_A), field(args, P_B), field(args, P_C)
        scale, bias = field(args, P_RES), field(args, P_BIAS)
        task = draw(args + 8 * P_COUNTER, tasks, thread)
        while task >= 0:
            start, i = task * field(plan, BLOCK_N), 0
            end = min(start + field(plan, BLOCK_N), field(plan, N))
            while i < rows:
                together, j = (4 if rows - i >= 4 else 1), start
                while j < end:
                    beside = _most_beside(together, end - j)
                    apart = (end - j) // beside               # so that each is a stream of many rows of q, one after the other
                    for first in range(j, j + apart):
                        _dots(together, beside, depth, px + i * row_x, row_x, pq + first * depth, apart * depth, spare)
                        _put(spare, together, beside, out + i * row_out, row_out, first, apart, scale, bias)
                    j += apart * beside
                i += together
            task = draw(args + 8 * P_COUNTER, tasks, thread)

    @functools.cache
    def worker_address():
        return address_of(worker, *[int64] * 4)

    @functools.cache
    def _plan(rows, n, depth):
        plan = np.zeros(FIELDS, np.int64)
        block = round_up(max(8, TASK_BYTES // depth), 8)
        plan[[M, N, K]] = rows, n, depth
        plan[[ROW_A, COL_B, ROW_C]] = 4 * depth, depth, 4 * n
        plan[[BLOCK_N, TASKS_N, CHUNKS, PIECE, SCRATCH]] = block, ceil_div(n, block), 1, block * depth, 256
        plan.flags.writeable = False
        return plan

    @functools.cache
    def tiles_address():
        return address_of(tiles.worker, *[int64] * 4)

    @jit
    def _multiply_on_tiles(pool, threads, part, tile_worker, tile_plan, worker, row_plan, px, pq, py, bias, scale, page):
        """Addresses throughout. Wild rows one by one on vectors."""
        rows, depth = field(tile_plan, M), field(tile_plan, K)
        digits, steps = page + threads * field(tile_plan, SCRATCH), tiles.ceil_of(depth, tiles.DEPTH)
        wild = tiles.put_rows(px, rows, depth, digits, steps, np.float32(0))
        values = digits + tiles.ceil_of(rows, tiles.ROWS) * steps * tiles.TILE_BYTES
        if wild < rows:
            start(pool, threads, part, tile_worker, 0, tile_plan, digits, pq, py, bias, scale, 0, 1.0, 0.0, page)
        for i in range(rows if wild else 0):
            if real(values, i) == 0:
                x, y = px + i * 4 * depth, py + i * field(tile_plan, ROW_C)
                start(pool, threads, part, worker, 0, row_plan, x, pq, y, bias, scale, 0, 1.0, 0.0, page)

    def make_multiply(have_tiles):
        @jit
        def multiply(pool, threads, part, tile_worker, tile_plan, worker, plan, row_plan, x, q, out, bias, scale, scratch):
            """A product by addresses of loops and plans, 0 for a tile_worker that is not wanted, and ids of arrays."""
            px, pq, py, pb, ps, page = data_of(x), data_of(q), data_of(out), data_of(bias), data_of(scale), first_page(scratch)
            if have_tiles:                            # known when this is compiled: other hosts have no such instructions
                if tile_worker != 0:
                    _multiply_on_tiles(pool, threads, part, tile_worker, tile_plan, worker, row_plan, px, pq, py, pb, ps, page)
                    return
            start(pool, threads, part, worker, 0, plan, px, pq, py, pb, ps, 0, 1.0, 0.0, page)

        return multiply

    multiply = make_multiply(tiles.AVAILABLE)

    @functools.lru_cache(1024)
    class _Prepared:
        """What `multiply` needs besides the arrays, for one shape."""

        def __init__(self, rows, n, depth, allowed):
            self.threads = 1 if rows * n * depth < SERIAL_SKINNY else allowed
            plan, row_plan = _plan(rows, n, depth), _plan(1, n, depth)
            on_tiles = tiles.AVAILABLE and depth <= tiles.MOST_DEPTH
            tile_plan = tiles.make_plan(rows, n, depth) if on_tiles else plan
            self.plans = plan, tile_plan, row_plan
            self.addresses = (part_address(), tiles_address() if on_tiles else 0, tile_plan.ctypes.data, worker_address(),
                              plan.ctypes.data, row_plan.ctypes.data)
            self.scratch = max(int(p[SCRATCH]) * self.threads + int(p[SHARED]) for p in self.plans)

    def prepare(rows, n, depth):
        return _Prepared(rows, n, depth, _threads.allowed)


def matmul_int8(x, q, scale, bias=None, out=None):
    """out = x (q · scale)ᵀ + bias   x float32 (..., K); q int8 (N, K) and scale float32 (N,) of `quantize_int8`; bias (N,)

    TypeError for other dtypes; ValueError for shapes that do not fit and for an `out` that is read-only or overlaps an input.
    """
    check_int8(x, q, scale, bias)
    shape = (*x.shape[:-1], q.shape[0])
    if out is not None:
        check.writable("out", out, shape, check.F32, (x, q, scale, bias))
    y = out if out is not None and out.flags.c_contiguous else np.empty(shape, np.float32)
    if y.size:
        rows = np.ascontiguousarray(x).reshape(y.size // q.shape[0], q.shape[1])
        in_place = COMPILED and (len(rows) < MANY or tiles.AVAILABLE) and q.shape[1]
        (_read_in_place if in_place else _by_blocks)(rows, q, scale, bias, y.reshape(len(rows), q.shape[0]))
    return handed_back(out, y)


def _read_in_place(x, q, scale, bias, y):
    q, scale = np.ascontiguousarray(q), np.ascontiguousarray(scale)
    bias = None if bias is None else np.ascontiguousarray(bias)
    p = prepare(len(x), *q.shape)
    scratch = borrow_scratch(p.scratch)
    multiply(ready(p.threads), p.threads, *p.addresses, id(x), id(q), id(y), 0 if bias is None else id(bias), id(scale),
             address(scratch))
    return_scratch(scratch)


def _by_blocks(x, q, scale, bias, y):
    step = max(64, BLOCK_NUMBERS // max(1, q.shape[1]))
    for j in range(0, q.shape[0], step):
        block = slice(j, j + step)
        matmul(x, q[block] * scale[block, None], y[:, block], transpose_b=True, bias=None if bias is None else bias[block])


def warmup(dtypes=("float32",)):
    """Nothing: a training step has no weights in eight bits; these loops compile in a second at their first call."""
