"""How one matmul is cut up: strides, batches, blocks. Made once for a set of shapes and kept.

A plan is an int64 array that the compiled loops read; the names below are its fields. Strides are bytes. PIECE: the bytes of B that
one task reads, where B is read from end to end by one row; 0 where not (`_ahead`).
Batch axes that can be walked with one stride are merged, and merged into the rows where B is shared by the batch, so that
(B, T, D) @ (D, F) is one product of B·T rows. Two batch axes may be left (N1, N2); `matmul_call` goes over more one by one.
"""

import functools
import sys
from pathlib import Path

import numpy as np

(M, N, K, ROW_A, STEP_A, ROW_B, COL_B, ROW_C, N1, N2, A1, B1, C1, R1, P1, A2, B2, C2, R2, P2, BLOCK_M, BLOCK_N, TASKS_M,
 TASKS_N, KC, STRIP, DIRECT_A, DIRECT_B, ACTIVATION, ROW_R, COL_R, ROW_P, STEP_BIAS, SCRATCH, LOW_A, HIGH_A,
 LOW_B, HIGH_B, LOW_C, HIGH_C, CHUNK, CHUNKS, SHARED, PIECE, FIELDS) = range(45)
# addresses that change with every call
P_A, P_B, P_C, P_BIAS, P_RES, P_PRE, P_ALPHA, P_BETA, P_FINISH, P_SHARED = range(10)
P_COUNTER, P_DONE, P_FIELDS = 16, 17, 34      # counters, written by all threads, on cache lines of their own
STRIPS = P_FIELDS - P_DONE                    # of columns, at most, where a product with few rows is cut along k as well

ACTIVATIONS = {None: 0, "relu": 1, "gelu": 2, "gelu_tanh": 3, "silu": 4}

SERIAL_WORK = 1 << 17                         # multiply-adds below which a second thread costs more than it brings
WAKING_WORK = 1 << 20                         # and below which it is not woken where it sleeps
SERIAL_SKINNY = 1 << 18                       # the same with few rows, where reading B is what takes the time


@functools.cache
def host_caches():
    """Bytes of the first and second data cache of a core; 32 KB and 512 KB where the host does not say."""
    sizes = {1: 32 << 10, 2: 512 << 10}
    for entry in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        kind, level, size = ((entry / name).read_text().strip() for name in ("type", "level", "size"))
        if kind != "Instruction" and int(level) in sizes and size.endswith("K"):
            sizes[int(level)] = int(size[:-1]) << 10
    if sys.platform == "darwin":
        sizes.update(_macos_caches())
    return sizes[1], sizes[2]


def _macos_caches():
    import ctypes

    found = {}
    for level, name in ((1, b"hw.l1dcachesize"), (2, b"hw.l2cachesize")):
        value, length = ctypes.c_int64(0), ctypes.c_size_t(8)
        if ctypes.CDLL(None).sysctlbyname(name, ctypes.byref(value), ctypes.byref(length), None, 0) == 0 and value.value:
            found[level] = value.value
    return found


def ceil_div(x, y):
    return -(-x // y)


def round_up(x, to):
    return ceil_div(x, to) * to


def merge_batches(axes):
    """Join neighbouring axes (size, stride, stride, ...) that every operand can walk with one stride."""
    merged = []
    for size, *strides in axes:
        if size == 1:
            continue
        if merged and all(outer == inner * size for outer, inner in zip(merged[-1][1:], strides)):
            merged[-1] = (merged[-1][0] * size, *strides)
        else:
            merged.append((size, *strides))
    return merged


def merge_into_rows(rows, row_strides, batch, shared_b):
    """Make the last batch axis part of the rows where it uses one B: (rows, remaining batch axes)."""
    if batch and shared_b(batch[-1]):
        size, a, _, c, r, p = batch[-1]
        if all(outer == inner * rows for outer, inner in zip((a, c, r, p), row_strides)):
            return rows * size, batch[:-1]
    return rows, batch


def k_step(depth, panel_bytes):
    """Steps of k of equal length, or all of it where that is no more than 4/3 steps: one step spares C a second visit.

    A panel of B fills three quarters of the first cache at most. Of three vectors of 64 bytes it may be LONG_STEP lines long and
    come from the second: 24 multiply-adds leave the time for three lines, and C is visited less often.
    """
    most = max(64, host_caches()[0] * 3 // 4 // panel_bytes // 32 * 32)
    if panel_bytes == 3 * 64:
        most = max(most, LONG_STEP)
    steps = 1 if 3 * depth <= 4 * most else ceil_div(depth, most)
    return min(depth, round_up(ceil_div(depth, steps), 16)) or 1


def blocks(m, n, kc_bytes, batch, work, width, rows, threads):
    """(block_m, block_n): B's packed block takes two fifths of the second cache, or BLOCK_BYTES, since it is read once for every
    strip of A; one or two for each thread, no smaller than that. Of the ways to cut C the one whose fullest thread has least to do.
    """
    most_n = max(4 * width, max(host_caches()[1] * 2 // 5, BLOCK_BYTES) // kc_bytes // width * width)
    fewest_m, fewest_n = ceil_div(m, 2048), ceil_div(n, most_n)
    if threads == 1:
        return cut(m, fewest_m, rows), cut(n, fewest_n, width)
    ways = []
    for wanted in (threads, 2 * threads) if work > 1 << 25 else (threads,):
        for parts_n in range(fewest_n, fewest_n + wanted):
            parts_m = max(fewest_m, ceil_div(wanted, parts_n * batch))
            ways += [(parts, parts_n) for parts in (parts_m, round_up(parts_m, threads))]     # each thread its own rows
    sizes = dict.fromkeys((cut(m, parts_m, rows), cut(n, parts_n, width)) for parts_m, parts_n in ways)
    return min(sizes, key=lambda block: fullest_thread(m, n, *block, batch, threads))


def fullest_thread(m, n, block_m, block_n, batch, threads):
    """What the thread with most to do has to do, if blocks are drawn as in `simd.draw`.

    A block costs its multiply-adds for one k, and to pack a number of an operand as much as PACKING of them.
    """
    count = ceil_div(m, block_m) * ceil_div(n, block_n) * batch
    if count <= threads or count > MANY_TASKS:
        h, w = min(block_m, m), min(block_n, n)
        return ceil_div(count, threads) * (h * w + PACKING * (h + w))
    heights, widths = ([min(part, length - at) for at in range(0, length, part)] for length, part in ((m, block_m), (n, block_n)))
    tasks, loads = [h * w + PACKING * (h + w) for h in heights for w in widths] * batch, [0] * threads
    for _ in range(count):
        thread = loads.index(min(loads))
        loads[thread] += tasks.pop(0 if thread % 2 == 0 else -1)
    return max(loads)


MANY_TASKS = 64                               # from where on a last block more or less makes no difference
LONG_STEP, BLOCK_BYTES = 384, 1 << 20         # lines of a panel from the second cache; of packed B in a block, at least
PACKING = 20


def cut(length, parts, unit):
    """The length of a part, in whole units."""
    return round_up(ceil_div(length, parts), unit)


def is_skinny(dims, strides, size):
    """Whether few enough rows are asked for that reading B is all that counts (`matmul_skinny`)."""
    m, n, depth = dims
    _, step_a, row_b, col_b, *_ = strides
    if row_b == size and step_a == size:
        return m <= 16
    return col_b == size and m <= 8 and n >= 64


AT_ONCE = 8                                   # rows of B, at least, that few rows of A meet side by side
PIECE_BYTES = 192 << 10                       # of B in a task, about, with one row
RUN_BYTES, CHUNK_BYTES, TASKS = 16 << 10, 512 << 10, 8            # of a row of B at a time; of B at least in a task; tasks wanted


def k_at_once(m):
    """Rows of B that m rows of A meet before the outputs go back to the cache: the more sums there are, the longer they stay.

    With AVX2's few sums AT_ONCE for any m: a first cache holds 8 rows that lie a multiple of 4 KB apart.
    """
    return AT_ONCE * min(max(m // 2, 1), 4)


def strips_and_chunks(n, depth, size, lanes, at_once):
    """(columns of a strip, rows of B in a chunk of it), for few rows of A and a B whose rows lie in memory as they are.

    Memory likes long reads: a chunk reads whole rows of B, or four pages of each. The cuts do not depend on the number of
    threads, nor do the bits.
    """
    strip = max(RUN_BYTES // size, round_up(ceil_div(n, STRIPS), 8 * lanes))
    strip = n if n <= strip else round_up(ceil_div(n, ceil_div(n, strip)), 8 * lanes)
    strips = ceil_div(n, strip)
    chunks = max(1, min(depth * n * size // CHUNK_BYTES // strips, ceil_div(TASKS, strips)))
    return strip, round_up(ceil_div(depth, chunks), at_once)


def make_plan(dims, strides, batch, size, lanes, tile, activation, threads, extents, packed=False):
    """The int64 plan. dims = (m, n, k); tile = (rows, vectors) of the largest one; strides = (row_a, step_a, row_b, col_b, row_c,
    row_r, col_r, row_p, step_bias).

    packed: both operands are packed whatever the shape, because they change as they are.
    """
    m, n, depth = dims
    rows, width = tile[0], tile[1] * lanes
    few_registers = tile[1] < 3                   # AVX2's
    (n1, *strides_1), (n2, *strides_2) = ([(1, 0, 0, 0, 0, 0)] * 2 + batch)[-2:]
    kc = k_step(depth, width * size)
    block_m, block_n = blocks(m, n, kc * size, n1 * n2, m * n * depth * n1 * n2, width, rows, threads)
    strip_bytes = host_caches()[1] * 2 // 7       # packed A stays in the second cache while B's panels pass
    strip = min(block_m, max(4 * rows, strip_bytes // (kc * size) // rows * rows))
    chunk, piece = depth, 0
    if is_skinny(dims, strides, size) and not packed:
        at_once = AT_ONCE if few_registers else k_at_once(m)
        block_m, kc = m, min(depth, at_once)
        # eight tasks whatever the threads: where a strip ends decides which loop sums a column, and so its bits
        block_n = max(8 * lanes, round_up(ceil_div(n, 8), 8 * lanes))
        if m == 1:                            # short enough that a thread that found much of its share in its cache can take more
            block_n = min(block_n, round_up(ceil_div(PIECE_BYTES, depth * size), lanes))
            piece = block_n * strides[3]
        if strides[3] == size and n1 * n2 == 1:
            block_n, chunk = strips_and_chunks(n, depth, size, lanes, at_once)
            piece = chunk * strides[2] if block_n == n and m == 1 else 0
    direct_a = not packed and (n <= 2 * width or m * depth * size <= 128 << 10)
    b_bytes = depth * strides[2]
    few = m <= 4 * rows and (not few_registers or b_bytes <= 1 << 20)     # two vectors are too little of a line of a large B
    direct_b = not packed and strides[3] == size and (few or (b_bytes <= 96 << 10 and m <= 128))
    plan = np.zeros(FIELDS, np.int64)
    plan[[M, N, K]] = dims
    plan[[ROW_A, STEP_A, ROW_B, COL_B, ROW_C, ROW_R, COL_R, ROW_P, STEP_BIAS]] = strides
    plan[[N1, A1, B1, C1, R1, P1]] = (n1, *strides_1)
    plan[[N2, A2, B2, C2, R2, P2]] = (n2, *strides_2)
    plan[[BLOCK_M, BLOCK_N, STRIP, KC]] = block_m, block_n, strip, kc
    plan[[TASKS_M, TASKS_N]] = ceil_div(m, block_m), ceil_div(n, block_n)
    plan[[DIRECT_A, DIRECT_B, ACTIVATION]] = direct_a, direct_b, ACTIVATIONS[activation]
    chunks = ceil_div(depth, chunk)
    plan[[CHUNK, CHUNKS, SHARED]] = chunk, chunks, ceil_div(n, block_n) * chunks * m * block_n * size if chunks > 1 else 0
    plan[PIECE] = piece if n1 * n2 == 1 else 0
    plan[[LOW_A, HIGH_A, LOW_B, HIGH_B, LOW_C, HIGH_C]] = extents
    plan[SCRATCH] = scratch_bytes(kc, strip, block_n, width, rows, size)
    plan.flags.writeable = False
    return plan


def scratch_bytes(kc, strip, block_n, width, rows, size):
    """One thread's: a spare tile and its few rows, A's strip, B's block, and two lines so that no thread shares one."""
    return round_up((rows * (width + kc) + kc * (strip + rows) + kc * (block_n + 2 * width)) * size, 64) + 128


HUGE_PAGE = 2 << 20
_idle = []                                    # scratch arrays that no call is using


def borrow_scratch(need):
    """An array with `need` bytes from the next huge page's start on; give it back by `return_scratch`.

    NumPy asks for huge pages from 4 MB up; packed blocks on 4 KB pages cost a tenth of the speed in address look-ups.
    """
    need += HUGE_PAGE
    try:
        scratch = _idle.pop()                 # one act under the GIL: two Python threads get two arrays
    except IndexError:
        scratch = None
    if scratch is None or scratch.nbytes < need:
        scratch = np.empty(round_up(max(need, 2 * HUGE_PAGE), HUGE_PAGE), np.uint8)
    return scratch


return_scratch = _idle.append
