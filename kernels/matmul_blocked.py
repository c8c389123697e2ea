"""Matmul for all but the thinnest shapes: C in blocks, B packed a panel at a time, A read where it lies.

A task is one block of C. Within it k runs in steps of KC; for each step a panel of B, KC x 3 vectors, is copied next to
itself into 36 KB of scratch, which stays in the first cache while every row tile of A passes over it. A's rows are read in
place, through strides, from the second cache: broadcasts do not care how they lie, so A is never copied.

Tasks are handed out by a counter, and a task's result does not depend on who computed it: the bits are the same for
every number of threads.
"""

import numpy as np
from numba import float32

from . import simd
from ._jit import jit, jit_parallel, prange
from .matmul_epilogue import make_epilogue
from .matmul_plan import (
    A1,
    A2,
    B1,
    B2,
    BLOCK_M,
    BLOCK_N,
    C1,
    C2,
    COL_B,
    DIRECT_B,
    KC,
    N1,
    N2,
    P_A,
    P_B,
    P_BIAS,
    P_C,
    P_FIELDS,
    P_PRE,
    P_RES,
    PANEL_FIRST,
    ROW_A,
    ROW_B,
    ROW_C,
    STEP_A,
    TASKS_M,
    TASKS_N,
    K,
    M,
    N,
)
from .matmul_tile import PANEL, ROWS, make_tile
from .simd import fetch_add, peek_i64, store

HEAD = object.__basicsize__                   # an ndarray's data pointer is the first field after the object's head


def make_matmul(vector):
    """The launcher for a vector type: `launch(threads, plan, id(a), id(b), id(c), ids or 0 ..., alpha, beta)`."""
    single = vector.dtype == float32
    size = 4 if single else 8
    lanes = vector.lanes
    width = PANEL * lanes
    tile_1, tile_2, tile_3 = (make_tile(vector, n) for n in (1, 2, 3))
    load = simd.load_f32 if single else simd.load_f64
    peek = simd.peek_f32 if single else simd.peek_f64
    transpose = simd.transpose_f32 if single else simd.transpose_f64
    scalar = np.float32 if single else np.float64
    finish = make_epilogue(vector)

    @jit
    def tile(nvec, k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta):
        if nvec == 3:
            tile_3(k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta)
        elif nvec == 2:
            tile_2(k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta)
        else:
            tile_1(k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta)

    @jit
    def pack_rows(k, nvec, pb, row_b, to):
        """Rows of B that lie together: copied vector by vector."""
        step = nvec * lanes * size
        for _ in range(k):
            for v in range(nvec):
                store(to + v * lanes * size, load(pb + v * lanes * size))
            pb += row_b
            to += step

    @jit
    def pack_columns(k, nvec, pb, col_b, to):
        """Columns of B that lie together (B stored transposed): square blocks turned in registers."""
        step = nvec * lanes * size
        whole = k - k % lanes
        for v in range(nvec):
            src, dst = pb + v * lanes * col_b, to + v * lanes * size
            for i in range(0, whole, lanes):
                transpose(src + i * size, col_b, dst + i * step, step)
            for i in range(whole, k):
                for c in range(lanes):
                    simd.poke(dst + i * step + c * size, peek(src + c * col_b + i * size))

    @jit
    def pack_any(k, nvec, cols, pb, row_b, col_b, to):
        """Any strides, and a last panel that is not full: the rest of its vectors are zero."""
        for _ in range(k):
            for c in range(nvec * lanes):
                simd.poke(to, peek(pb + c * col_b) if c < cols else scalar(0))
                to += size
            pb += row_b

    @jit
    def pack_b(k, nvec, cols, pb, row_b, col_b, to):
        if cols < nvec * lanes:
            pack_any(k, nvec, cols, pb, row_b, col_b, to)
        elif col_b == size:
            pack_rows(k, nvec, pb, row_b, to)
        elif row_b == size:
            pack_columns(k, nvec, pb, col_b, to)
        else:
            pack_any(k, nvec, cols, pb, row_b, col_b, to)

    @jit
    def pack_few_rows(k, rows, pa, row_a, step_a, to):
        """Fewer rows than a tile has: the missing ones are zero."""
        for i in range(k):
            for r in range(ROWS):
                simd.poke(to, peek(pa + r * row_a + i * step_a) if r < rows else scalar(0))
                to += size

    @jit
    def edge_tile(nvec, k, skip, rows, cols, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta, spare):
        """A tile that sticks out of C: computed aside, then rows `skip` to `skip + rows` and `cols` columns moved."""
        row_spare = nvec * lanes * size
        tile(nvec, k, pa, row_a, step_a, pb, step_b, spare, row_spare, alpha, scalar(0))
        for r in range(rows):
            src, dst = spare + (r + skip) * row_spare, pc + r * row_c
            for _ in range(cols):
                value = peek(src)
                if beta != 0:
                    value += beta * peek(dst)
                simd.poke(dst, value)
                src += size
                dst += size

    @jit
    def panel(plan, i0, rows, j0, cols, k0, pa, pb, pc, alpha, beta, scratch):
        """One panel of B, `cols` wide, against `rows` rows of A, for one step of k."""
        row_a, step_a, row_b, col_b = (peek_i64(plan + 8 * ROW_A), peek_i64(plan + 8 * STEP_A),
                                       peek_i64(plan + 8 * ROW_B), peek_i64(plan + 8 * COL_B))
        row_c, few = peek_i64(plan + 8 * ROW_C), peek_i64(plan + 8 * M) < ROWS
        k = min(peek_i64(plan + 8 * KC), peek_i64(plan + 8 * K) - k0)
        nvec = (cols + lanes - 1) // lanes
        whole_columns = cols == nvec * lanes
        spare = scratch
        a, c = pa + i0 * row_a + k0 * step_a, pc + i0 * row_c + j0 * size
        b, step_b = pb + k0 * row_b + j0 * col_b, row_b
        if not (whole_columns and peek_i64(plan + 8 * DIRECT_B)):
            step_b = nvec * lanes * size
            packed = scratch + ROWS * width * size
            pack_b(k, nvec, cols, b, row_b, col_b, packed)
            b = packed
        if few:
            few_rows = scratch + (ROWS + peek_i64(plan + 8 * KC)) * width * size
            pack_few_rows(k, rows, a, row_a, step_a, few_rows)
            edge_tile(nvec, k, 0, rows, cols, few_rows, size, ROWS * size, b, step_b, c, row_c, alpha, beta, spare)
            return
        for i in range(0, rows, ROWS):
            tile_rows = min(ROWS, rows - i)
            if whole_columns and tile_rows == ROWS:
                tile(nvec, k, a + i * row_a, row_a, step_a, b, step_b, c + i * row_c, row_c, alpha, beta)
            else:                             # rows above the last ones are computed again, and left out
                skip = ROWS - tile_rows
                edge_tile(nvec, k, skip, tile_rows, cols, a + (i - skip) * row_a, row_a, step_a, b, step_b,
                          c + i * row_c, row_c, alpha, beta, spare)

    @jit
    def panel_width(left):
        """Columns of the next panel: full ones, but 2 + 2 vectors rather than 3 + 1."""
        if left > 4 * lanes or left <= width:
            return min(width, left)
        return 2 * lanes

    @jit
    def block(plan, args, i0, rows, j0, cols, pa, pb, pc, batch, alpha, beta, scratch):
        """One task: the block of C at (i0, j0)."""
        depth, kc = peek_i64(plan + 8 * K), peek_i64(plan + 8 * KC)
        panel_first = peek_i64(plan + 8 * PANEL_FIRST)
        outer = depth if panel_first else kc  # whether all of k is done for a panel before the next panel
        for start in range(0, depth, outer):
            j = 0
            while j < cols:
                width_j = panel_width(cols - j)
                for k0 in range(start, min(start + outer, depth), kc):
                    panel(plan, i0, rows, j0 + j, width_j, k0, pa, pb, pc, alpha, beta if k0 == 0 else scalar(1), scratch)
                j += width_j
        finish(plan, args, i0, rows, j0, cols, pc, batch)

    @jit
    def worker(plan, args, counter, alpha, beta):
        """Take blocks until none is left."""
        tasks_m, tasks_n = peek_i64(plan + 8 * TASKS_M), peek_i64(plan + 8 * TASKS_N)
        block_m, block_n = peek_i64(plan + 8 * BLOCK_M), peek_i64(plan + 8 * BLOCK_N)
        n2 = peek_i64(plan + 8 * N2)
        tasks = tasks_m * tasks_n * peek_i64(plan + 8 * N1) * n2
        room = np.empty((ROWS + peek_i64(plan + 8 * KC)) * (width + ROWS) * size + 64, np.uint8)
        scratch = (room.ctypes.data + 63) // 64 * 64
        task = fetch_add(counter, 1)
        while task < tasks:
            batch, here = divmod(task, tasks_m * tasks_n)
            first, second = divmod(batch, n2)
            j, i = divmod(here, tasks_m)
            i0, j0 = i * block_m, j * block_n
            block(plan, args, i0, min(block_m, peek_i64(plan + 8 * M) - i0), j0, min(block_n, peek_i64(plan + 8 * N) - j0),
                  peek_i64(args + 8 * P_A) + first * peek_i64(plan + 8 * A1) + second * peek_i64(plan + 8 * A2),
                  peek_i64(args + 8 * P_B) + first * peek_i64(plan + 8 * B1) + second * peek_i64(plan + 8 * B2),
                  peek_i64(args + 8 * P_C) + first * peek_i64(plan + 8 * C1) + second * peek_i64(plan + 8 * C2),
                  batch, alpha, beta, scratch)
            task = fetch_add(counter, 1)
        return room.size                      # keeps `room` alive to here

    @jit_parallel
    def launch(threads, plan, a, b, c, bias, residual, pre, alpha, beta):
        """ids of the arrays, 0 for none; `plan` is int64 fields made by `matmul_plan`."""
        args = np.zeros(P_FIELDS + 1, np.int64)
        args[P_A], args[P_B], args[P_C] = peek_i64(a + HEAD), peek_i64(b + HEAD), peek_i64(c + HEAD)
        if bias:
            args[P_BIAS] = peek_i64(bias + HEAD)
        if residual:
            args[P_RES] = peek_i64(residual + HEAD)
        if pre:
            args[P_PRE] = peek_i64(pre + HEAD)
        for _ in prange(threads):
            worker(plan.ctypes.data, args.ctypes.data, args.ctypes.data + 8 * P_FIELDS, scalar(alpha), scalar(beta))

    return launch


launch_f32 = make_matmul(simd.f32)
launch_f64 = make_matmul(simd.f64)
