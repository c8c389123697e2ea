"""Matmul for all but the thinnest shapes: C in blocks, A and B packed next to themselves, tiles of C in registers.

A task is one block of C. Within it k runs in steps of KC. For each step B's block is copied into panels of PANEL vectors by KC
(one panel stays in the first or second cache while a strip of A passes over it: `matmul_plan.k_step`), and A's into groups
of rows, STRIP rows at a time. Packed, they lie on few memory pages and in no pattern that fills the same cache lines twice:
reading A in place costs 10 to 30% from 512 rows up. Small problems are read in place (DIRECT_A, DIRECT_B): there packing
costs more.

Tasks are handed out by a counter, from both ends, and a task's result does not depend on who computed it: the bits are the same
for every number of threads.
"""

import functools

import numpy as np
from numba import int64

from . import _pool, simd
from ._jit import address_of, jit
from .matmul_epilogue import finish_block
from .matmul_pack import make_pack
from .matmul_pairs import add_pairs, leave, make_pairs
from .matmul_record import matrices

from .matmul_plan import (  # isort: skip
    BLOCK_M, BLOCK_N, CHUNKS, COL_B, DIRECT_A, DIRECT_B, HIGH_A, HIGH_B, HIGH_C, HUGE_PAGE, K, KC, LOW_A, LOW_B, LOW_C, M, N, N1,
    N2, P_A, P_ALPHA, P_B, P_BETA, P_BIAS, P_C, P_COUNTER, P_FIELDS, P_FINISH, P_PRE, P_RES, P_SHARED, PIECE, ROW_A, ROW_B, ROW_C,
    SCRATCH, STEP_A, STRIP, TASKS_M, TASKS_N,
)
from .matmul_tile import PANEL, ROWS, make_tile
from .simd import data_of, draw, field, prefetch_second, real


def make_matmul(vector, pairs=False):
    """`worker(plan, args, thread, scratch)` for a vector type: the addresses of what one thread needs; and `plain_block`.

    pairs: float32 is packed as bfloat16, two neighbours of k in a word (`matmul_pairs`); the plan has both operands packed.
    """
    size, scalar, peek, _ = simd.number_of(vector)
    lanes, width = vector.lanes, PANEL * vector.lanes
    add_product = add_pairs if pairs else None
    tile_1, tile_2, tile_3 = (make_tile(vector, n, add_product=add_product) for n in (1, 2, 3))
    low_4, low_2 = (make_tile(vector, PANEL, rows, add_product=add_product) for rows in (4, 2))
    low_tiles = simd.FEW_REGISTERS            # 6 rows: the powers of two that most sizes are leave 4 rows or 2 of them
    pack_a, gather_a = make_pack(simd.Vector(vector.dtype, ROWS))
    pack_b, gather_b = make_pack(vector)
    convert = make_pairs if pairs else leave

    @jit
    def tile(nvec, k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta):
        if nvec == 3 and PANEL == 3:
            tile_3(k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta)
        elif nvec == 2:
            tile_2(k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta)
        else:
            tile_1(k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta)

    @jit
    def low_tile(rows, k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta):
        """The last rows, 4 or 2."""
        if rows == 4:
            low_4(k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta)
        else:
            low_2(k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta)

    @jit
    def edge_tile(nvec, k, rows, cols, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta, spare):
        """A tile that sticks out of C: computed aside, then the part inside is moved."""
        row_spare = nvec * lanes * size
        tile(nvec, k, pa, row_a, step_a, pb, step_b, spare, row_spare, alpha, scalar(0))
        for r in range(rows):
            src, dst = spare + r * row_spare, pc + r * row_c
            for _ in range(cols):
                value = peek(src)
                if beta != 0:
                    value += beta * peek(dst)
                simd.poke(dst, value)
                src += size
                dst += size

    @jit
    def panel_width(left):
        """Columns of the next panel: full ones, but 2 + 2 vectors rather than 3 + 1."""
        if left > width + lanes or left <= width:
            return min(width, left)
        return 2 * lanes

    @jit
    def strip(plan, k, rows, cols, pa, step_a, pb, step_b, pc, alpha, beta, scratch):
        """`rows` rows of A against one panel of B: the tiles, top to bottom. step_a = 0: A is read in place."""
        row_c = field(plan, ROW_C)
        nvec, steps = (cols + lanes - 1) // lanes, (k + 1) // 2 if pairs else k
        row_a, in_place = size, step_a == 0
        if in_place:
            row_a, step_a = field(plan, ROW_A), field(plan, STEP_A)
        for i in range(0, rows, ROWS):
            tile_rows = min(ROWS, rows - i)
            a = pa + i * row_a if in_place else pa + i * size * k
            if tile_rows == ROWS and cols == nvec * lanes:
                tile(nvec, steps, a, row_a, step_a, pb, step_b, pc + i * row_c, row_c, alpha, beta)
                continue
            if low_tiles and (tile_rows == 4 or tile_rows == 2) and cols == width:
                low_tile(tile_rows, steps, a, row_a, step_a, pb, step_b, pc + i * row_c, row_c, alpha, beta)
                continue
            spare, row, step = scratch, row_a, step_a
            if in_place and tile_rows < ROWS:
                few = scratch + ROWS * width * size
                gather_a(k, ROWS, tile_rows, a, step_a, row_a, few)
                a, row, step = few, size, ROWS * size
            edge_tile(nvec, steps, tile_rows, cols, a, row, step, pb, step_b, pc + i * row_c, row_c, alpha, beta, spare)

    @jit
    def pack_block_b(plan, k, cols, pb, to):
        """All panels of a block of B, one behind the other."""
        row_b, col_b = field(plan, ROW_B), field(plan, COL_B)
        rows = 8 if col_b == size else k      # of B at once: left to right along lines is how memory is read ahead
        for r in range(0, k, rows):
            j, deep = 0, min(rows, k - r)
            while j < cols:
                here = panel_width(cols - j)
                count = (here + lanes - 1) // lanes * lanes
                lines = to + (j * k + r * count) * size
                pack_b(deep, count, here, pb + r * row_b + j * col_b, row_b, col_b, lines)
                convert(deep, count, lines, to + (j * k + r // 2 * count) * size)
                j += here

    @jit
    def pack_block_a(plan, k, rows, pa, to):
        """All tiles of rows of a block of A, one behind the other."""
        row_a, step_a = field(plan, ROW_A), field(plan, STEP_A)
        deep = 8 if row_a == size else k      # of k at once, as in `pack_block_b`
        for first in range(0, k, deep):
            here = min(deep, k - first)
            for i in range(0, rows, ROWS):
                lines = to + (i * k + first * ROWS) * size
                pack_a(here, ROWS, min(ROWS, rows - i), pa + i * row_a + first * step_a, step_a, row_a, lines)
                convert(here, ROWS, lines, to + (i * k + first // 2 * ROWS) * size)

    @jit
    def ask_for_rows(plan, k, rows, pa):
        """Have memory bring the next rows of A while these are multiplied: few numbers of each, so that nothing else asks ahead."""
        row_a, step_a = field(plan, ROW_A), field(plan, STEP_A)
        lines, line, length = (rows, row_a, k) if step_a == size else (k, step_a, rows)
        for n in range(lines):
            for address in range(pa + n * line, pa + n * line + length * size, 64):
                prefetch_second(address)

    @jit
    def strips(plan, k, rows, cols, pa, step_a, pb, packed_b, pc, alpha, beta, scratch):
        """`rows` rows of A against every panel of a block of B."""
        row_b = field(plan, ROW_B)
        j = 0
        while j < cols:
            here = panel_width(cols - j)
            count = (here + lanes - 1) // lanes * lanes
            b, step_b = packed_b + j * k * size, count * size
            if field(plan, DIRECT_B):
                b, step_b = pb + j * size, row_b
                if here < count:
                    b, step_b = packed_b, count * size
                    gather_b(k, count, here, pb + j * size, row_b, size, b)
            strip(plan, k, rows, here, pa, step_a, b, step_b, pc + j * size, alpha, beta, scratch)
            j += here

    @jit
    def block(plan, rows, cols, pa, pb, pc, alpha, beta, scratch):
        """One task: a block of C, k in steps, for each step all of B's block and STRIP rows of A at a time."""
        depth, kc, strip_rows = field(plan, K), field(plan, KC), field(plan, STRIP)
        packed_a = scratch + ROWS * (width + kc) * size
        packed_b = packed_a + (strip_rows + ROWS) * kc * size
        for k0 in range(0, depth, kc):
            k = min(kc, depth - k0)
            a, b = pa + k0 * field(plan, STEP_A), pb + k0 * field(plan, ROW_B)
            if not field(plan, DIRECT_B):
                pack_block_b(plan, k, cols, b, packed_b)
            keep = beta if k0 == 0 else scalar(1)
            for i in range(0, rows, strip_rows):
                here, step_a = min(strip_rows, rows - i), 0
                from_a, to_c = a + i * field(plan, ROW_A), pc + i * field(plan, ROW_C)
                if not field(plan, DIRECT_A):
                    pack_block_a(plan, k, here, from_a, packed_a)
                    if i + here < rows:
                        ask_for_rows(plan, k, min(here, rows - i - here), from_a + here * field(plan, ROW_A))
                    else:
                        ask_for_rows(plan, min(kc, depth - k0 - k), min(strip_rows, rows), a + k * field(plan, STEP_A))
                    from_a, step_a = packed_a, ROWS * size
                strips(plan, k, here, cols, from_a, step_a, b, packed_b, to_c, alpha, keep, scratch)

    @jit
    def worker(plan, args, thread, scratch):
        """Take blocks until none is left."""
        tasks_m, tasks_n = field(plan, TASKS_M), field(plan, TASKS_N)
        block_m, block_n = field(plan, BLOCK_M), field(plan, BLOCK_N)
        tasks = tasks_m * tasks_n * field(plan, N1) * field(plan, N2)
        alpha, beta = scalar(real(args, P_ALPHA)), scalar(real(args, P_BETA))
        task = draw(args + 8 * P_COUNTER, tasks, thread)
        while task >= 0:
            batch, here = divmod(task, tasks_m * tasks_n)
            i, j = divmod(here, tasks_n)
            i0, j0 = i * block_m, j * block_n
            rows, cols = min(block_m, field(plan, M) - i0), min(block_n, field(plan, N) - j0)
            pa, pb, pc = matrices(plan, args, batch)
            block(plan, rows, cols, pa + i0 * field(plan, ROW_A), pb + j0 * field(plan, COL_B),
                  pc + i0 * field(plan, ROW_C) + j0 * size, alpha, beta, scratch)
            finish_block(field(args, P_FINISH), plan, args, scratch, i0, rows, j0, cols, batch, pc)
            task = draw(args + 8 * P_COUNTER, tasks, thread)

    @jit
    def plain_block(plan, where, scratch, _):
        """`block` with its arguments in memory, for `matmul_amx`."""
        block(plan, field(where, 0), field(where, 1), field(where, 2), field(where, 3), field(where, 4), scalar(real(where, 5)),
              scalar(real(where, 6)), scratch)

    return worker, plain_block


(L_WORKER, L_PLAN, L_ARGS, L_START, L_STEP, L_FIELDS) = range(6)      # what a part reads


@jit
def part(block, index, unused, unused_too):
    """The worker in the part's own scratch."""
    args = field(block, L_ARGS)
    simd.call_address(field(block, L_WORKER), field(block, L_PLAN), args, index,
                      field(block, L_START) + index * field(block, L_STEP))


@functools.cache
def part_address():
    return address_of(part, *[int64] * 4)


@jit
def launch(pool, threads, part, worker, finish, plan, a, b, c, bias, residual, pre, alpha, beta, scratch, careful):
    """Addresses of loops, ids of arrays, 0 for none; a plan of `matmul_plan`. True, and nothing done, if C may overlap A or B."""
    pa, pb, pc = data_of(a), data_of(b), data_of(c)
    low, high = pc + plan[LOW_C], pc + plan[HIGH_C]
    if careful and ((low < pa + plan[HIGH_A] and pa + plan[LOW_A] < high) or (low < pb + plan[HIGH_B] and pb + plan[LOW_B] < high)):
        return True
    start(pool, threads, part, worker, finish, plan.ctypes.data, pa, pb, pc, data_of(bias), data_of(residual), data_of(pre), alpha,
          beta, first_page(scratch.ctypes.data))
    return False


@jit
def first_page(scratch):
    """Where the first huge page begins."""
    return (scratch + HUGE_PAGE - 1) // HUGE_PAGE * HUGE_PAGE


@jit
def start(pool, threads, part, worker, finish, plan, pa, pb, pc, bias, residual, pre, alpha, beta, scratch):
    """Run a plan's loops. All arguments but the factors and the number of threads are addresses, 0 for none."""
    args = np.zeros(P_FIELDS, np.int64)
    args[P_A], args[P_B], args[P_C], args[P_FINISH] = pa, pb, pc, finish
    args[P_BIAS], args[P_RES], args[P_PRE] = bias, residual, pre
    simd.poke(args.ctypes.data + 8 * P_ALPHA, np.float64(alpha))
    simd.poke(args.ctypes.data + 8 * P_BETA, np.float64(beta))
    each = field(plan, SCRATCH)
    args[P_SHARED] = scratch + threads * each
    if threads == 1:
        simd.call_address(worker, plan, args.ctypes.data, 0, scratch)
        return
    piece = field(plan, PIECE)
    if piece != 0:
        _pool.expect(pool, pb, piece, field(plan, TASKS_N) * field(plan, CHUNKS))
    block = np.empty(L_FIELDS, np.int64)
    block[L_WORKER], block[L_PLAN], block[L_ARGS] = worker, plan, args.ctypes.data
    block[L_START], block[L_STEP] = scratch, each
    _pool.launch(pool, threads, part, block.ctypes.data)
