"""The forward pass of `attention_tiled_forward` with its products on the matrix tiles of `amx`, for float32 and for bfloat16.

    Sᵀ = K Qᵀ   with K in left form and Qᵀ in right form, both split once
    outᵀ += Vᵀ Pᵀ   with Vᵀ in left form, split once, and Pᵀ split tile by tile into right form
"""
import numpy as np

from kernels._jit import jit
from kernels.amx import (
    ONE_PIECE,
    THREE_PIECES,
    TILE_BYTES,
    all_finite,
    close_tiles,
    make_multiply_beside,
    multiply,
    open_tiles,
    pieces_for,
    split_in_turn,
    split_left,
    split_right,
    transpose_words,
)
from kernels.attention_launch import plan_at
from kernels.attention_tiled_forward import empty_rows, hide_and_bias, task_span, tile_band, write_rows
from kernels.attention_tiles import (
    FAR,
    INF,
    TILE,
    drop_tile,
    exponential,
    fill,
    finite_base,
    hash_positions,
    pack_rows,
    raise_tops,
    shrink_and_add,
    softmax_tile,
    unpack_transposed,
)
from kernels.simd import draw, peek_i64, poke, store
from kernels.vectors import constant, vload

FORM = 128               # bytes per column and piece of one split tile of 64 rows
ROW = 4 * TILE           # bytes of a row of one tile of scores
WIDTH_MULTIPLE = 32
VECTORS = TILE // 16
# what `weigh_rows` reads: addresses of a tile of scores, of maximum and sum, and of the form to be made
R_TILE, R_TOP, R_TOTAL, R_PATTERN = range(0, 32, 8)
WEIGH_STEPS = 8 * VECTORS


def forward_bytes(p, K_padded, V_padded):
    """Workspace of one thread, in the order in which `forward_task` lays it out."""
    per_column = FORM * len(pieces_for(p.precision))
    queries = query_room.py_func(max(K_padded, V_padded), per_column)
    return (p.S // TILE + 2) * per_column * (K_padded + V_padded) + queries + 4 * (p.T + p.S + 4 * TILE)


@jit
def query_room(width, per_column):
    """Bytes that `query_tile` lays out."""
    return width * (3 * per_column + 3 * ROW) + TILE * (per_column + 4 * ROW) + 8256


@jit
def split_keys(target, source, row_stride, column_stride, count, width, padded, scratch, like, pieces):
    """Left forms of `count` rows, one tile of 64 after the other; False if a number is not finite."""
    per_column = FORM * len(pieces)
    fine = True
    for i in range(0, count, TILE):
        pack_rows(scratch, padded, source + i * row_stride, row_stride, column_stride, min(TILE, count - i), width, like)
        fine = fine and all_finite(scratch, TILE * padded, like)
        split_left(target + i // TILE * per_column * padded, scratch, 4 * padded, TILE, padded, like, pieces)
    return fine


@jit
def split_transposed(target, source, row_stride, column_stride, count, width, padded, scratch, like, pieces):
    """Left forms of the transposes of tiles of 64 rows; False if a number is not finite."""
    per_column = FORM * len(pieces)
    fine, form = True, scratch + TILE * 4 * padded
    for i in range(0, count, TILE):
        pack_rows(scratch, padded, source + i * row_stride, row_stride, column_stride, min(TILE, count - i), width, like)
        fine = fine and all_finite(scratch, TILE * padded, like)
        split_right(form, scratch, 4 * padded, TILE, padded, like, pieces)
        transpose_words(target + i // TILE * per_column * padded, form, per_column * padded // 1024, like)
    return fine


@jit
def weigh_rows(record, n, like, pieces):
    """Eight rows by 16 queries of exp(scores - top), straight into right form; their sums join the total; n < WEIGH_STEPS. The
    record holds the addresses, see R_TILE."""
    j, row = n // 8, n % 8 * 8
    base = finite_base(vload(peek_i64(record + R_TOP) + 64 * j, like), like)
    here, total = peek_i64(record + R_TILE) + row * ROW + 64 * j, peek_i64(record + R_TOTAL) + 64 * j
    there = peek_i64(record + R_PATTERN) + (2 * j + row // 32) * len(pieces) * TILE_BYTES + row % 32 * 32
    even = odd = constant(0.0, like)
    for _ in range(4):
        x = exponential(vload(here, like) - base, like)
        y = exponential(vload(here + ROW, like) - base, like)
        split_in_turn(there, x, y, pieces)
        even, odd = even + x, odd + y
        here, there = here + 2 * ROW, there + 64
    store(total, vload(total, like) + (even + odd))


score_and_weigh = make_multiply_beside(weigh_rows)


@jit
def query_tile(p, b, h, t, queries, s_base, s_end, keys, values, work, words, scale, keep, pieces):
    """The forward pass of one tile of queries against split keys and values that start at position s_base.

    While the tile unit multiplies the next tile's scores, the vector units weigh those of this one.
    """
    per_column = FORM * len(pieces)
    width = max(p.K_padded, p.V_padded)
    scratch, form, columns_q = work, work + width * ROW, work + width * (ROW + per_column)
    acc, added = columns_q + width * per_column, columns_q + width * (per_column + ROW)
    tile = added + width * ROW
    hiding, pattern = tile + 2 * TILE * ROW, tile + 4 * TILE * ROW
    top = pattern + TILE * per_column
    total, shrink, record = top + ROW, top + 2 * ROW, top + 3 * ROW
    other, weighed = tile + TILE * ROW, p.words == 0
    poke(record + R_TOP, top)
    poke(record + R_TOTAL, total)
    poke(record + R_PATTERN, pattern)
    lo, hi = task_span(p, b, t, t + queries)
    pack_rows(scratch, p.K_padded, p.q + b * p.q_b + h * p.q_h + t * p.q_t, p.q_t, p.q_c, queries, p.K, scale)
    fine = all_finite(scratch, TILE * p.K_padded, scale)
    split_left(form, scratch, 4 * p.K_padded, TILE, p.K_padded, scale, pieces)
    transpose_words(columns_q, form, per_column * p.K_padded // 1024, scale)
    fill(top, TILE, type(scale)(-INF))
    fill(total, TILE, type(scale)(0))
    fill(acc, TILE * p.V_padded, type(scale)(0))
    start, stop = s_base + (lo - s_base) // TILE * TILE, min(hi, s_end)
    for s in range(start, stop + TILE, TILE):            # the scores of one tile, what comes of those of the one before
        if s > start:
            poke(record + R_TILE, other)
            if weighed:
                raise_tops(other, TILE, VECTORS, top, total, shrink, -FAR, FAR, scale)
        steps = WEIGH_STEPS if s > start and weighed else 0
        place = (s - s_base) // TILE * per_column
        if s < stop:
            rows = min(TILE, s_end - s)
            first, last = tile_band(p, b, t, s, queries, rows)
            score_and_weigh(tile, ROW, keys + place * p.K_padded, columns_q, p.K_padded // 32, -last, -first, record, 0, steps,
                            scale, pieces)
            hide_and_bias(p, tile, b, h, t, s, queries, rows, TILE, VECTORS, first, last, hiding, scale)
        else:
            for n in range(steps):
                weigh_rows(record, n, scale, pieces)
        if s > start:
            before = s - TILE
            if not weighed:
                softmax_tile(other, TILE, VECTORS, top, total, shrink, -FAR, FAR, scale)
                drop_tile(other, TILE, VECTORS, words + 4 * t, words + 4 * (p.T + 2 * TILE + before), p.threshold, keep)
                split_right(pattern, other, ROW, TILE, TILE, scale, pieces)
            first, last = tile_band(p, b, t, before, queries, min(TILE, s_end - before))
            multiply(added, ROW, values + (place - per_column) * p.V_padded, pattern, p.V_padded, TILE, 2, first, last, True,
                     0, pieces)
            shrink_and_add(acc, added, p.V_padded, shrink, scale)
        tile, other = other, tile
    unpack_transposed(scratch, acc, p.V_padded, scale)
    write_rows(p, b, h, t, queries, scratch, top, total, scale)
    return fine


@jit
def forward_task(task, thread, p, scale, keep, pieces):
    """All query heads of one (batch, key head) for one chunk of queries; False if a number was not finite."""
    per_column = FORM * len(pieces)
    like = type(scale)(1)
    chunk, pair = task % p.chunks, task // p.chunks
    b, shared, group = pair // p.Hkv, pair % p.Hkv, p.H // p.Hkv
    t_lo = chunk * p.chunk
    t_hi = max(t_lo, min(p.T, t_lo + p.chunk))
    t_end = max(t_lo, min(t_hi, peek_i64(p.q_len + 8 * b)))
    s_lo, s_hi = task_span(p, b, t_lo, t_end)
    room = (p.S // TILE + 2) * per_column
    keys = p.work + thread * p.work_bytes
    values, work = keys + room * p.K_padded, keys + room * (p.K_padded + p.V_padded)
    words = work + query_room(max(p.K_padded, p.V_padded), per_column)
    fine = True
    if s_lo < s_hi and t_lo < t_end:
        fine = split_keys(keys, p.k + b * p.k_b + shared * p.k_h + s_lo * p.k_t, p.k_t, p.k_c, s_hi - s_lo, p.K, p.K_padded,
                          work, like, pieces)
        fine = fine and split_transposed(values, p.v + b * p.v_b + shared * p.v_h + s_lo * p.v_t, p.v_t, p.v_c, s_hi - s_lo,
                                         p.V, p.V_padded, work, like, pieces)
    for h in range(shared * group, (shared + 1) * group):
        if p.words != 0:
            stream = peek_i64(p.words + 8 * (b * p.H + h))
            hash_positions(words, p.T, stream & 0xFFFFFFFF, scale)
            hash_positions(words + 4 * (p.T + 2 * TILE), p.S, (stream >> 32) & 0xFFFFFFFF, scale)
        for t in range(t_lo, t_end, TILE):
            queries = min(TILE, t_end - t)
            lo, hi = task_span(p, b, t, t + queries)
            if lo < hi and fine:
                fine = query_tile(p, b, h, t, queries, s_lo, s_hi, keys, values, work, words, scale, keep, pieces)
            else:
                empty_rows(p, b, h, t, t + queries, scale)
        empty_rows(p, b, h, t_end, t_hi, scale)
    return fine


def make_drain(run):
    """drain(address, thread, pieces), as on vectors; a task that meets infinity or NaN says so at `unfit`, and all stop."""
    @jit
    def drain(address, thread, pieces):
        p = plan_at(address)
        scale, keep = np.float32(p.scale), np.float32(p.keep)
        open_tiles(p.config)
        while peek_i64(p.unfit) == 0:
            task = draw(p.counter, p.tasks, thread)
            if task < 0:
                break
            if not run(task, thread, p, scale, keep, pieces):
                poke(p.unfit, 1)
        close_tiles()

    return drain


drain = make_drain(forward_task)


@jit
def forward_float32(plan, thread, unused, unused_too):
    """In three pieces a number."""
    drain(plan, thread, THREE_PIECES)


@jit
def forward_bfloat16(plan, thread, unused, unused_too):
    """In one."""
    drain(plan, thread, ONE_PIECE)
