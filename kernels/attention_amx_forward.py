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
    multiply,
    multiply_band,
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
from kernels.attention_vectors import constant, vload
from kernels.simd import draw, peek_i64, poke, store

FORM = 128               # bytes per column and piece of one split tile of 64 rows
ROW = 4 * TILE           # bytes of a row of one tile of scores
WIDTH_MULTIPLE = 32
VECTORS = TILE // 16


def forward_bytes(p, K_padded, V_padded):
    """Workspace of one thread, in the order in which `forward_task` lays it out."""
    per_column = FORM * len(pieces_for(p.precision))
    tiles = p.S // TILE + 2
    width = max(K_padded, V_padded)
    queries = width * (3 * per_column + 3 * ROW) + TILE * (per_column + 3 * ROW) + 8192
    return tiles * per_column * (K_padded + V_padded) + queries + 4 * (p.T + p.S + 4 * TILE)


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
def weigh_and_split(pattern, tile, top, total, like, pieces):
    """Right form of exp(scores - top) without storing it in between; column sums join `total`."""
    for j in range(VECTORS):
        base = finite_base(vload(top + 64 * j, like), like)
        even = odd = constant(0.0, like)
        here, there = tile + 64 * j, pattern + 2 * j * len(pieces) * TILE_BYTES
        for s in range(0, TILE, 2):
            x = exponential(vload(here, like) - base, like)
            y = exponential(vload(here + ROW, like) - base, like)
            split_in_turn(there + s // 32 * len(pieces) * TILE_BYTES + s % 32 * 32, x, y, pieces)
            even, odd = even + x, odd + y
            here += 2 * ROW
        store(total + 64 * j, vload(total + 64 * j, like) + (even + odd))


@jit
def query_tile(p, b, h, t, queries, s_base, s_end, keys, values, work, words, scale, keep, pieces):
    """The forward pass of one tile of queries against split keys and values that start at position s_base."""
    per_column = FORM * len(pieces)
    width = max(p.K_padded, p.V_padded)
    scratch, form, columns_q = work, work + width * ROW, work + width * (ROW + per_column)
    acc, added = columns_q + width * per_column, columns_q + width * (per_column + ROW)
    tile = added + width * ROW
    hiding, pattern = tile + TILE * ROW, tile + 3 * TILE * ROW
    top = pattern + TILE * per_column
    total, shrink = top + ROW, top + 2 * ROW
    lo, hi = task_span(p, b, t, t + queries)
    pack_rows(scratch, p.K_padded, p.q + b * p.q_b + h * p.q_h + t * p.q_t, p.q_t, p.q_c, queries, p.K, scale)
    fine = all_finite(scratch, TILE * p.K_padded, scale)
    split_left(form, scratch, 4 * p.K_padded, TILE, p.K_padded, scale, pieces)
    transpose_words(columns_q, form, per_column * p.K_padded // 1024, scale)
    fill(top, TILE, type(scale)(-INF))
    fill(total, TILE, type(scale)(0))
    fill(acc, TILE * p.V_padded, type(scale)(0))
    for s in range(s_base + (lo - s_base) // TILE * TILE, min(hi, s_end), TILE):
        rows, place = min(TILE, s_end - s), (s - s_base) // TILE * per_column
        first, last = tile_band(p, b, t, s, queries, rows)
        multiply_band(tile, ROW, keys + place * p.K_padded, columns_q, TILE, TILE, p.K_padded // 32, -last, -first, pieces)
        hide_and_bias(p, tile, b, h, t, s, queries, rows, TILE, VECTORS, hiding, scale)
        if p.words != 0:
            softmax_tile(tile, TILE, VECTORS, top, total, shrink, scale)
            drop_tile(tile, TILE, VECTORS, words + 4 * t, words + 4 * (p.T + 2 * TILE + s), p.threshold, keep)
            split_right(pattern, tile, ROW, TILE, TILE, scale, pieces)
        else:
            raise_tops(tile, TILE, VECTORS, top, total, shrink, scale)
            weigh_and_split(pattern, tile, top, total, scale, pieces)
        multiply(added, ROW, values + place * p.V_padded, pattern, p.V_padded, TILE, 2, first, last, True, pieces)
        shrink_and_add(acc, added, p.V_padded, shrink, scale)
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
    words = work + max(p.K_padded, p.V_padded) * (3 * per_column + 3 * ROW) + TILE * (per_column + 3 * ROW) + 8192
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


@jit
def drain(plan, thread, pieces):
    """As `drain` of the vector kernel; a task that meets infinity or NaN says so at `unfit`, and all stop."""
    p = plan_at(plan)
    scale, keep = np.float32(p.scale), np.float32(p.keep)
    open_tiles(p.config)
    while peek_i64(p.unfit) == 0:
        task = draw(p.counter, p.tasks, thread)
        if task < 0:
            break
        if not forward_task(task, thread, p, scale, keep, pieces):
            poke(p.unfit, 1)
    close_tiles()


@jit
def forward_float32(plan, thread, unused, unused_too):
    """In three pieces a number."""
    drain(plan, thread, THREE_PIECES)


@jit
def forward_bfloat16(plan, thread, unused, unused_too):
    """In one."""
    drain(plan, thread, ONE_PIECE)
