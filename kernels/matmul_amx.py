"""Float32 products on the matrix tiles of `amx`, in three bfloat16 pieces a number (float32's own accuracy) or in one (bfloat16).

Differs from `matmul_blocked` in how a block of C is made; plan, counter, epilogue and the promise of equal bits at any number of
threads are the same. A block of C takes k in steps of KC: B's part is split into tiles in right form, then A's, STRIP rows
at a time, in left form, and each 32 × 32 of C is one loop over the tiles. The steps of a small product are tasks of their own.

In three pieces those of numbers below 2^-100 would be subnormal, which the tile unit takes for zero, and infinities do not
survive the splitting. Packing looks at every number anyway: 64 rows × 32 columns that need such a one are left to the plain loops
(`plain_block`), whatever the blocks are, so that the bits do not depend on them. In one piece every number is what the
precision makes of it, and nothing is looked at.
"""

import numpy as np

from . import amx
from ._jit import jit
from .matmul_epilogue import finish_block
from .matmul_plan import SCRATCH, ceil_div, host_caches, round_up
from .matmul_record import matrices
from .simd import call_address, draw, fetch_add, field, fma, peek_f32, poke, real, store
from .simd import prefetch_to_write as ask_to_write
from .vectors import constant, put, take, vload

from .matmul_plan import (  # isort: skip
    BLOCK_M, BLOCK_N, CHUNKS, COL_B, FIELDS, K, KC, M, N, N1, N2, P_ALPHA, P_BETA, P_C, P_COUNTER, P_DONE, P_FINISH, P_SHARED,
    ROW_A, ROW_B, ROW_C, SHARED, STEP_A, STRIPS, TASKS_M, TASKS_N,
)
from .matmul_plan import STRIP as STRIP_ROWS  # isort: skip

TILE = amx.TILE_BYTES
MOST_K = {1: 768, 3: 512}                                     # of one step, and so of one sum of the tile unit, by pieces
TASKS = 2                                                     # for each thread: more balance, but pack A and B more often
STRIP = 64                                                    # rows of A that are packed at a time,
TALL_STRIP = 256                                              # or so many where they lie across: whole lines of memory are read
JUDGED = 64                                                   # rows that are left to the plain loops together
LEAST_WORK = 1 << 21                                          # multiply-adds below which three pieces cost more than they bring

# where the fallback's arguments lie: the address of `plain_block`, and what it is called with
W_ROWS, W_COLS, W_A, W_B, W_C, W_ALPHA, W_KEEP, W_FIELDS = range(8)
HEAD_BYTES = 256                                              # of a thread's scratch: the arguments above
SPOILT = 1 << 32                                              # added to the count of a block's steps by one that was not tame
SEEN = 128                                                    # bytes that keep the smallest and largest numbers of one packing


def suits(dims, size, skinny):
    """Whether a product of (m, n, k) is worth splitting in three."""
    m, n, k = dims
    return amx.AVAILABLE and size == 4 and not skinny and min(m, n) >= 32 and k >= 64 and m * n * k >= LEAST_WORK


def make_plan_amx(plain, dims, batch, threads, pieces):
    """`plain` with blocks for the tiles, and behind it `plain` itself for the fallback."""
    m, n, k = dims
    kc = round_up(ceil_div(k, ceil_div(k, MOST_K[len(pieces)])), 32)
    room = host_caches()[1] * 3 // 5 // (kc * 2 * len(pieces))
    block_n = round_up(min(n, max(64, room // 32 * 32)), 32)
    block_n = round_up(ceil_div(n, ceil_div(n, block_n)), 32)
    block_m = round_up(ceil_div(m, ceil_div(m, 1024)), 32)
    block_m, strip = round_up(block_m, STRIP), TALL_STRIP if plain[ROW_A] == 4 != plain[STEP_A] else STRIP
    wanted = threads * (TASKS if m * n * k * batch > 1 << 26 else 1) if threads > 1 else 1
    while ceil_div(m, block_m) * ceil_div(n, block_n) * batch < wanted and max(block_m, block_n) > 64:
        if block_m >= block_n:
            block_m = round_up(block_m // 2, STRIP)
        else:
            block_n = round_up(block_n // 2, 32)
    plan = np.concatenate([plain, plain])
    strip = min(strip, block_m)
    plan[[BLOCK_M, BLOCK_N, KC, STRIP_ROWS]] = block_m, block_n, kc, strip
    plan[[TASKS_M, TASKS_N]] = ceil_div(m, block_m), ceil_div(n, block_n)
    step = len(pieces) * TILE
    own = HEAD_BYTES + 8 * FIELDS + 4096 + step + 2048 + 128 + (block_n // 32) * (SEEN + 8) + strip // 32 * SEEN
    own += (block_n + strip) // 16 * (kc // 32) * step
    plan[SCRATCH] = round_up(own, 64) + 64 + plain[SCRATCH]
    # steps of k as tasks of their own, where all fits the caches: each thread reads the rows that it has made itself. In one piece
    # the tile unit goes on from the step before, so that the bits would not be the same
    fits = 4 * (m + n) * k <= threads * host_caches()[1] and plan[ROW_C] == 4 * n
    if k > kc and threads > 1 and batch == 1 and fits and len(pieces) > 1 and plan[TASKS_M] * plan[TASKS_N] <= STRIPS:
        plan[CHUNKS] = ceil_div(k, kc)
        plan[SHARED] = plan[CHUNKS] * m * 4 * n + 64
    plan.flags.writeable = False
    return plan


@jit
def wild_rows(seen, rows):
    """A bit for each JUDGED rows of a strip: 1 where they hold a number that cannot be split."""
    wild = 0
    for g in range((rows + 31) // 32):
        if not amx.tame(seen + g * SEEN):
            wild |= 1 << g * 32 // JUDGED
    return wild


@jit
def gather(dense, src, lines, left, line, step, across, like):
    """Up to 16 lines × 32 k as a dense float32 array, or k by lines where they lie `across`; zeros for what is not there."""
    if across:
        for k in range(32):
            store(dense + 64 * k, take(src + k * step, lines if k < left else 0, like))
    elif step == 4:
        for i in range(16):
            here = left if i < lines else 0
            store(dense + 128 * i, take(src + i * line, here, like))
            store(dense + 128 * i + 64, take(src + i * line + 64, here - 16, like))
    else:
        for i in range(16):
            for k in range(32):
                inside = i < lines and k < left
                poke(dense + (32 * i + k) * 4, peek_f32(src + i * line + k * step) if inside else np.float32(0))


@jit
def merge(pc, row_c, source, row_source, rows, cols, alpha, keep, like):
    """C = alpha · source + keep · C."""
    scale, old = constant(alpha, like), constant(keep, like)
    for i in range(rows):
        for j in range(0, cols, 16):
            address = pc + i * row_c + 4 * j
            value = vload(source + i * row_source + 4 * j, like) * scale
            if keep != 0:
                value = fma(old, take(address, cols - j, like), value)       # as written, wherever this is compiled
            put(address, value, cols - j, like)


@jit
def plain_step(plan, k, rows, cols, pa, pb, pc, alpha, keep, scratch):
    """One step of k by the vector loops: a copy of the plain plan with this step for its depth."""
    own, where = scratch + HEAD_BYTES, scratch
    for i in range(FIELDS):
        poke(own + 8 * i, field(plan, FIELDS + i))
    poke(own + 8 * K, k)
    poke(where + 8 * W_ROWS, rows)
    poke(where + 8 * W_COLS, cols)
    poke(where + 8 * W_A, pa)
    poke(where + 8 * W_B, pb)
    poke(where + 8 * W_C, pc)
    poke(where + 8 * W_ALPHA, np.float64(alpha))
    poke(where + 8 * W_KEEP, np.float64(keep))
    rest = scratch + field(plan, SCRATCH) - field(plan, FIELDS + SCRATCH)
    call_address(field(scratch, W_FIELDS), own, where, rest // 64 * 64, 0)


@jit
def clear(address, count):
    """`count` bytes of zeros."""
    for i in range(0, count, 8):
        poke(address + i, 0)


@jit
def pack(to, src, lines, k, line, step, left_form, spare, seen, like, pieces):
    """`lines` lines (rows of A or columns of B) × k as tiles, 16 lines at a time; `line` and `step` are byte strides.

    What was seen of each 32 lines is kept SEEN bytes from the last ones'.
    """
    size = len(pieces) * TILE
    steps, groups = (k + 31) // 32, (lines + 15) // 16
    across = line == 4 and step != 4
    for t in range(steps * groups):  # in the order in which the source lies in memory
        i, s = (t % groups, t // groups) if across else (t // steps, t % steps)
        tile, extremes = to + (i * steps + s) * size, seen + i // 2 * SEEN
        from_here, here, left = src + 16 * i * line + 32 * s * step, lines - 16 * i, k - 32 * s
        apart, ahead = (step, 32 * step) if across else (line, 16 * line)
        if here < 16 or left < 32 or not (across or step == 4):
            gather(spare, from_here, here, left, line, step, across, like)
            from_here, apart, ahead = spare, 64 if across else 128, 0
        if left_form:
            if across:
                amx.split_left_across(tile, from_here, apart, ahead, extremes, pieces)
            else:
                amx.split_left_along(tile, from_here, apart, ahead, extremes, pieces)
        elif across:
            amx.split_right_across(tile, from_here, apart, ahead, extremes, pieces)
        else:
            amx.split_right_along(tile, from_here, apart, ahead, extremes, pieces)
    if groups % 2 == 1:               # blocks of C take 32 lines at a time
        clear(to + groups * steps * size, steps * size)


@jit
def multiply_strip(rows, cols, steps, packed_a, packed_b, pc, row_c, alpha, keep, product, like, pieces):
    """Some rows of C against 32 columns: straight into C where it holds whole tiles and needs no scaling."""
    line = steps * len(pieces) * TILE
    for r in range(0, rows, 32):
        a, to_c = packed_a + r // 16 * line, pc + r * row_c
        for i in range(min(32, rows - r)):
            ask_to_write(to_c + i * row_c)
            ask_to_write(to_c + i * row_c + 64)
        whole = rows - r >= 32 and cols == 32 and alpha == 1
        if whole and (keep == 0 or keep == len(pieces) == 1):         # three pieces: the tile unit's sums stay short
            amx.multiply_block(to_c, row_c, a, line, packed_b, line, 0, steps, np.int64(keep), pieces)
        else:
            amx.multiply_block(product, 128, a, line, packed_b, line, 0, steps, 0, pieces)
            merge(to_c, row_c, product, 128, min(32, rows - r), cols, alpha, keep, like)


@jit
def block_amx(plan, args, task, chunk, has_b, scratch, like, pieces):
    """A block of C; or where `chunk` is not -1 what this step of k alone gives to it, kept for `add_chunks`; False, and nothing
    kept, if that is for the plain loops.

    `has_b`: B's part is packed already, by the task before.
    """
    alpha, beta = np.float32(real(args, P_ALPHA)), np.float32(real(args, P_BETA))
    tasks_m = field(plan, TASKS_M)
    batch, here = divmod(task, tasks_m * field(plan, TASKS_N))
    j0, i0 = here // tasks_m * field(plan, BLOCK_N), here % tasks_m * field(plan, BLOCK_M)
    rows = min(field(plan, BLOCK_M), field(plan, M) - i0)
    cols = min(field(plan, BLOCK_N), field(plan, N) - j0)
    depth, kc = field(plan, K), field(plan, KC)
    row_a, step_a = field(plan, ROW_A), field(plan, STEP_A)
    row_b, col_b, row_c = field(plan, ROW_B), field(plan, COL_B), field(plan, ROW_C)
    a_0, b_0, c = matrices(plan, args, batch)
    pa, pb = a_0 + i0 * row_a, b_0 + j0 * col_b
    start, stop, chunked = 0, depth, chunk >= 0
    if chunked:
        c, alpha, beta = field(args, P_SHARED) + chunk * field(plan, M) * row_c, np.float32(1), np.float32(0)
        start, stop = chunk * kc, min(depth, chunk * kc + kc)
    pc = c + i0 * row_c + j0 * 4
    strip = field(plan, STRIP_ROWS)
    size, watch = len(pieces) * TILE, len(pieces) > 1
    product = (scratch + HEAD_BYTES + 8 * FIELDS + 63) // 64 * 64
    spare, groups = product + 4096, (cols + 31) // 32
    seen = spare + 2048
    seen_b = seen + strip // 32 * SEEN
    tame_b = seen_b + groups * SEEN
    packed_a = (tame_b + 8 * groups + 63) // 64 * 64
    if watch:
        for g in range(groups + strip // 32):
            amx.tame(seen + g * SEEN)
    for k0 in range(start, stop, kc):
        k = min(kc, stop - k0)
        steps = (k + 31) // 32
        packed_b = packed_a + strip // 16 * steps * size
        keep = beta if k0 == start else np.float32(1)
        a, b = pa + k0 * step_a, pb + k0 * row_b
        if not has_b:
            pack(packed_b, b, cols, k, col_b, row_b, False, spare, seen_b, like, pieces)
            if watch:
                for g in range(groups):
                    poke(tame_b + 8 * g, np.int64(amx.tame(seen_b + g * SEEN)))
        for i in range(0, rows, strip):
            here = min(strip, rows - i)
            pack(packed_a, a + i * row_a, here, k, row_a, step_a, True, spare, seen, like, pieces)
            wild = wild_rows(seen, here) if watch else 0
            for j in range(0, cols, 32):
                wide, to_c = min(32, cols - j), pc + i * row_c + 4 * j
                from_b = packed_b + j // 16 * steps * size
                if not watch or (wild == 0 and field(tame_b, j // 32)):
                    multiply_strip(here, wide, steps, packed_a, from_b, to_c, row_c, alpha, keep, product, like, pieces)
                    continue
                if chunked:
                    return False
                for r in range(0, here, JUDGED):
                    part, to_part = min(JUDGED, here - r), to_c + r * row_c
                    if wild >> r // JUDGED & 1 or not field(tame_b, j // 32):
                        plain_step(plan, k, part, wide, a + (i + r) * row_a, b + j * col_b, to_part, alpha, keep, scratch)
                    else:
                        multiply_strip(part, wide, steps, packed_a + r // 16 * steps * size, from_b, to_part, row_c, alpha,
                                       keep, product, like, pieces)
            if k0 + kc >= depth and not chunked:                # while the strip is in the cache
                finish_block(field(args, P_FINISH), plan, args, scratch, i0 + i, here, j0, cols, batch, c)
    return True


@jit
def add_chunks(plan, args, task, scratch, like):
    """A block of C from what its steps of k gave, in their order."""
    alpha, beta = np.float32(real(args, P_ALPHA)), np.float32(real(args, P_BETA))
    j, i = divmod(task, field(plan, TASKS_M))
    i0, j0, row_c = i * field(plan, BLOCK_M), j * field(plan, BLOCK_N), field(plan, ROW_C)
    rows = min(field(plan, BLOCK_M), field(plan, M) - i0)
    cols = min(field(plan, BLOCK_N), field(plan, N) - j0)
    c, here = field(args, P_C), i0 * row_c + 4 * j0
    for chunk in range(field(plan, CHUNKS)):
        source = field(args, P_SHARED) + chunk * field(plan, M) * row_c + here
        merge(c + here, row_c, source, row_c, rows, cols, alpha, beta if chunk == 0 else np.float32(1), like)
    finish_block(field(args, P_FINISH), plan, args, scratch, i0, rows, j0, cols, 0, c)


def make_amx(plain_address, pieces):
    """`worker(plan, args, thread, scratch)`, as `make_matmul` makes for the vector loops; `plain_address` is its `plain_block`."""
    config = amx.CONFIG.ctypes.data

    @jit
    def worker(plan, args, thread, scratch):
        tasks_m, chunks = field(plan, TASKS_M), field(plan, CHUNKS)
        one_step = chunks > 1 or field(plan, K) <= field(plan, KC)
        blocks = tasks_m * field(plan, TASKS_N) * field(plan, N1) * field(plan, N2)
        poke(scratch + 8 * W_FIELDS, field(plan, 2 * FIELDS))
        amx.open_tiles(field(plan, 2 * FIELDS + 1))
        task, last = draw(args + 8 * P_COUNTER, blocks * chunks, thread), -1
        whole, unpacked = np.int64(-1), np.bool_(False)       # constants would have `block_amx` compiled once more for each
        while task >= 0:
            chunk, block = divmod(task, blocks)
            has_b = one_step and task // tasks_m == last
            last = task // tasks_m
            tame = block_amx(plan, args, block, whole if chunks == 1 else chunk, has_b, scratch, np.float32(0), pieces)
            if chunks > 1:
                done = fetch_add(args + 8 * (P_DONE + block), 1 if tame else 1 + SPOILT)
                if done % SPOILT == chunks - 1:
                    if tame and done < SPOILT:
                        add_chunks(plan, args, block, scratch, np.float32(0))
                    else:                             # in the order in which one thread would do it
                        block_amx(plan, args, block, whole, unpacked, scratch, np.float32(0), pieces)
                        last = -1
            task = draw(args + 8 * P_COUNTER, blocks * chunks, thread)
        amx.close_tiles()

    return worker, np.array([plain_address, config], np.int64)
