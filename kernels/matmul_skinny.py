"""Matmul with few rows (decoding: one new token for each sequence), at the speed at which B can be read.

B stored [out, in] (transpose_b): its rows lie along k, so each output is a dot product; a few rows of B are read at once,
against all rows of A before they leave the cache. Those few lie far apart: each is the start of a stream of many rows, which
memory reads ahead of us. B stored [in, out]: 8 to 32 rows of B at a time are walked from left to right, each added to the
outputs, which stay in the cache; walking down a column instead reads a few lines of every memory page, at half the speed.
Threads share such a product along k, so that each reads whole rows; who finishes a strip's last chunk adds up what the chunks
gave. (Sharing the columns cuts rows into pieces of half a page: 18 GB/s where this has 26.)
"""

from numba import carray

from . import simd
from ._jit import jit
from .matmul_epilogue import finish_block
from .matmul_record import matrices

from .matmul_plan import (  # isort: skip
    BLOCK_N, CHUNK, CHUNKS, COL_B, K, KC, M, N, N1, N2, P_ALPHA, P_BETA, P_COUNTER, P_DONE, P_FINISH, P_SHARED, ROW_A, ROW_B, ROW_C,
    STEP_A, TASKS_N, k_at_once,
)
from .matmul_tile import BESIDE_4, MOST_ROWS, make_dots, make_tile
from .simd import draw, fetch_add, field, fma, real
from .vecmath import wide_vectors

COLUMNS = 48                          # of the result that all rows of A meet while B's rows for them are in the cache


@jit
def rows_next(left):
    """Rows taken together: 8, 4, 2 or 1."""
    return 8 if left >= 8 and MOST_ROWS == 8 else 4 if left >= 4 else 2 if left >= 2 else 1


@jit
def most_beside(rows, columns):
    """Of how many columns `dots` takes the products with 8, 4, 2 or 1 rows together."""
    most = 3 if rows == 8 else BESIDE_4 if rows == 4 else 4
    return most if columns >= most else 1


def make_by_dots(vector):
    """`by_dots` for a vector type: B stored [out, in]."""
    (size, _, peek, _), lanes = simd.number_of(vector), vector.lanes
    dots_1x4, dots_2x4, dots_4, dots_8x3 = (make_dots(vector, r, c) for r, c in ((1, 4), (2, 4), (4, BESIDE_4), (8, 3)))
    dots_1x1, dots_2x1, dots_4x1, dots_8x1 = (make_dots(vector, r, 1) for r in (1, 2, 4, 8))

    @jit
    def dots(rows, columns, vectors, pa, row_a, pb, col_b, tail, to):
        """As `make_dots`, for so many rows and columns as `rows_next` and `most_beside` say."""
        if rows == 1:
            if columns == 4:
                dots_1x4(vectors, pa, row_a, pb, col_b, tail, to)
            else:
                dots_1x1(vectors, pa, row_a, pb, col_b, tail, to)
        elif rows == 2:
            if columns == 4:
                dots_2x4(vectors, pa, row_a, pb, col_b, tail, to)
            else:
                dots_2x1(vectors, pa, row_a, pb, col_b, tail, to)
        elif rows == 4:
            if columns == BESIDE_4:
                dots_4(vectors, pa, row_a, pb, col_b, tail, to)
            else:
                dots_4x1(vectors, pa, row_a, pb, col_b, tail, to)
        elif MOST_ROWS == 8:
            if columns == 3:
                dots_8x3(vectors, pa, row_a, pb, col_b, tail, to)
            else:
                dots_8x1(vectors, pa, row_a, pb, col_b, tail, to)

    @jit
    def put(src, rows, columns, pc, row_c, col_c, alpha, beta):
        """C = alpha · products + beta · C for a few finished products."""
        for r in range(rows):
            for c in range(columns):
                to = pc + r * row_c + c * col_c
                value = alpha * peek(src)
                if beta != 0:
                    value += beta * peek(to)
                simd.poke(to, value)
                src += size

    @jit
    def by_dots(plan, cols, pa, pb, pc, alpha, beta, spare):
        """Columns that are taken together lie `apart`, so that each is a stream of many rows of B, one after the other."""
        rows, depth = field(plan, M), field(plan, K)
        row_a, col_b, row_c = field(plan, ROW_A), field(plan, COL_B), field(plan, ROW_C)
        for j in range(0, cols, COLUMNS):
            i, end = 0, min(j + COLUMNS, cols)
            while i < rows:
                together, c = rows_next(rows - i), j
                while c < end:
                    beside = most_beside(together, end - c)
                    apart = (end - c) // beside
                    for first in range(c, c + apart):
                        dots(together, beside, depth // lanes, pa + i * row_a, row_a, pb + first * col_b, apart * col_b,
                             depth % lanes, spare)
                        put(spare, together, beside, pc + i * row_c + first * size, row_c, apart * size, alpha, beta)
                    c += apart * beside
                i += together

    return by_dots


def make_by_rows(vector):
    """`by_rows` for a vector type: B stored [in, out]."""
    (size, scalar, peek, _), lanes = simd.number_of(vector), vector.lanes
    load, splat = (simd.load_f32, simd.splat_f32) if size == 4 else (simd.load_f64, simd.splat_f64)
    # the next rows of B are asked for early, into the second cache: rows a multiple of 4 KB apart fall into the same sets of the
    # first. Not with AVX2: its tiles are narrow, and asking costs them a third
    tile_2, tile_4, tile_8 = (make_tile(vector, n, r, k_at_once(r) if MOST_ROWS == 8 else 0)
                              for n, r in ((4, 2), (BESIDE_4, 4), (3, 8)))

    @jit
    def narrow(k, rows, cols, pa, row_a, step_a, pb, row_b, pc, row_c, alpha, beta):
        """The last columns, fewer than a tile has: number by number."""
        for r in range(rows):
            for c in range(cols):
                total = scalar(0)
                for i in range(k):
                    total += peek(pa + r * row_a + i * step_a) * peek(pb + i * row_b + c * size)
                to = pc + r * row_c + c * size
                simd.poke(to, alpha * total + (beta * peek(to) if beta != 0 else scalar(0)))

    @jit
    def add_row(a, columns, pb, pc):
        """C += a · a row of B, both so many whole vectors long."""
        factor = splat(a)
        for j in range(0, columns * size, lanes * size):
            simd.store(pc + j, fma(factor, load(pb + j), load(pc + j)))

    @jit
    def add_eight_rows(pa, step_a, alpha, columns, pb, row_b, pc):
        """C += alpha · (eight numbers of A) eight rows of B. The numbers stay in registers, and all else is read in its order."""
        a0, a1 = splat(alpha * peek(pa)), splat(alpha * peek(pa + step_a))
        a2, a3 = splat(alpha * peek(pa + 2 * step_a)), splat(alpha * peek(pa + 3 * step_a))
        a4, a5 = splat(alpha * peek(pa + 4 * step_a)), splat(alpha * peek(pa + 5 * step_a))
        a6, a7 = splat(alpha * peek(pa + 6 * step_a)), splat(alpha * peek(pa + 7 * step_a))
        for j in range(0, columns * size, lanes * size):
            b = pb + j
            even = fma(a0, load(b), load(pc + j))
            odd = a1 * load(b + row_b)
            even, odd = fma(a2, load(b + 2 * row_b), even), fma(a3, load(b + 3 * row_b), odd)
            even, odd = fma(a4, load(b + 4 * row_b), even), fma(a5, load(b + 5 * row_b), odd)
            even, odd = fma(a6, load(b + 6 * row_b), even), fma(a7, load(b + 7 * row_b), odd)
            simd.store(pc + j, even + odd)

    @jit
    def sweep_one(k, cols, pa, step_a, pb, row_b, pc, alpha, beta):
        """`sweep` for one row."""
        whole = cols // lanes * lanes
        if beta != 1:
            for j in range(0, whole * size, lanes * size):
                simd.store(pc + j, load(pc + j) * beta if beta != 0 else splat(scalar(0)))
        if k == 8:
            add_eight_rows(pa, step_a, alpha, whole, pb, row_b, pc)
        else:
            for i in range(k):
                add_row(alpha * peek(pa + i * step_a), whole, pb + i * row_b, pc)
        if whole < cols:
            narrow(k, 1, cols - whole, pa, 0, step_a, pb + whole * size, row_b, pc + whole * size, 0, alpha, beta)

    @jit
    def sweep(k, rows, cols, pa, row_a, step_a, pb, row_b, pc, row_c, alpha, beta):
        """`rows` (8, 4, 2 or 1) rows of C += k rows of B, from left to right."""
        if rows == 1:
            sweep_one(k, cols, pa, step_a, pb, row_b, pc, alpha, beta)
            return
        width = (4 if rows == 2 else BESIDE_4 if rows == 4 else 3) * lanes
        j = 0
        while j + width <= cols:
            b, c = pb + j * size, pc + j * size
            if rows == 2:
                tile_2(k, pa, row_a, step_a, b, row_b, c, row_c, alpha, beta)
            elif rows == 4:
                tile_4(k, pa, row_a, step_a, b, row_b, c, row_c, alpha, beta)
            elif MOST_ROWS == 8:
                tile_8(k, pa, row_a, step_a, b, row_b, c, row_c, alpha, beta)
            j += width
        if j < cols:
            narrow(k, rows, cols - j, pa, row_a, step_a, pb + j * size, row_b, pc + j * size, row_c, alpha, beta)

    @jit
    def by_rows(plan, depth, cols, pa, pb, pc, row_c, alpha, beta):
        rows, kc = field(plan, M), field(plan, KC)
        row_a, step_a, row_b = field(plan, ROW_A), field(plan, STEP_A), field(plan, ROW_B)
        for k0 in range(0, depth, kc):
            keep = beta if k0 == 0 else scalar(1)
            i = 0
            while i < rows:
                together = rows_next(rows - i)
                sweep(min(kc, depth - k0), together, cols, pa + i * row_a + k0 * step_a, row_a, step_a, pb + k0 * row_b, row_b,
                      pc + i * row_c, row_c, alpha, keep)
                i += together

    return by_rows


def make_skinny(vector):
    """`worker(plan, args, thread, scratch)` for a vector type, as in `matmul_blocked`."""
    size, scalar, _, pointer = simd.number_of(vector)
    by_dots, by_rows = make_by_dots(vector), make_by_rows(vector)

    @jit
    def add_chunks(chunks, rows, cols, sums, pc, row_c, alpha, beta):
        """C = alpha · (what the chunks add up to, in their order) + beta · C."""
        wide_vectors()
        for i in range(rows):
            total = carray(pointer(sums + i * cols * size), (cols,))
            for chunk in range(1, chunks):
                part = carray(pointer(sums + (chunk * rows + i) * cols * size), (cols,))
                for j in range(cols):
                    total[j] += part[j]
            row = carray(pointer(pc + i * row_c), (cols,))
            if beta == 0:
                for j in range(cols):
                    row[j] = alpha * total[j]
            else:
                for j in range(cols):
                    row[j] = alpha * total[j] + beta * row[j]

    @jit
    def by_chunks(plan, args, j, chunk, cols, pa, pb, pc, alpha, beta):
        """One chunk of a strip's rows of B. Whether it was the last to be done: then the strip is complete."""
        chunks, length = field(plan, CHUNKS), field(plan, CHUNK)
        rows, k0 = field(plan, M), chunk * length
        sums = field(args, P_SHARED) + j * chunks * rows * field(plan, BLOCK_N) * size
        by_rows(plan, min(length, field(plan, K) - k0), cols, pa + k0 * field(plan, STEP_A),
                pb + k0 * field(plan, ROW_B), sums + chunk * rows * cols * size, cols * size, scalar(1), scalar(0))
        if fetch_add(args + 8 * (P_DONE + j), 1) < chunks - 1:
            return False
        add_chunks(chunks, rows, cols, sums, pc, field(plan, ROW_C), alpha, beta)
        return True

    @jit
    def worker(plan, args, thread, scratch):
        """Take strips of columns, or chunks of them, until none is left."""
        tasks_n, block_n = field(plan, TASKS_N), field(plan, BLOCK_N)
        alpha, beta = scalar(real(args, P_ALPHA)), scalar(real(args, P_BETA))
        chunks = field(plan, CHUNKS)
        tasks = tasks_n * field(plan, N1) * field(plan, N2) * chunks
        task = draw(args + 8 * P_COUNTER, tasks, thread)
        while task >= 0:
            strip, chunk = task // chunks, task % chunks
            batch, j = strip // tasks_n, strip % tasks_n
            cols = min(block_n, field(plan, N) - j * block_n)
            pa, pb, pc = matrices(plan, args, batch)
            b, c, complete = pb + j * block_n * field(plan, COL_B), pc + j * block_n * size, True
            if field(plan, COL_B) != size:
                by_dots(plan, cols, pa, b, c, alpha, beta, scratch)
            elif chunks > 1:
                complete = by_chunks(plan, args, j, chunk, cols, pa, b, c, alpha, beta)
            else:
                by_rows(plan, field(plan, K), cols, pa, b, c, field(plan, ROW_C), alpha, beta)
            if complete:
                finish_block(field(args, P_FINISH), plan, args, scratch, 0, field(plan, M), j * block_n, cols,
                             batch, pc)
            task = draw(args + 8 * P_COUNTER, tasks, thread)

    return worker
