"""The backward pass of `attention_tiled_backward` with its products on the matrix tiles of `amx`, for float32 and for bfloat16.

Each tile of the pattern and of its gradient is split once per form it is needed in:

    Sᵀ = K Qᵀ        dPᵀ = V dOᵀ        left forms of K, V; right forms of Qᵀ, dOᵀ
    dV += Pᵀ dO      dK += dSᵀ Q        left forms of Pᵀ, dSᵀ; right forms of dO, Q
    dQᵀ += Kᵀ dSᵀ                       left form of Kᵀ; right form of dSᵀ

Queries go by in spans of 256, whose forms (about 0.5 MB at width 64) stay in the second-level cache while all keys pass.
"""
import numpy as np

from kernels._jit import jit
from kernels.amx import (
    ONE_PIECE,
    THREE_PIECES,
    TILE_BYTES,
    add_tile,
    all_finite,
    make_multiply_beside,
    multiply,
    pieces_for,
    split_in_turn,
    split_left,
    split_right,
    split_side_by_side,
    transpose_words,
)
from kernels.attention_amx_forward import FORM, ROW, VECTORS, WIDTH_MULTIPLE, make_drain, split_keys, split_transposed
from kernels.attention_tiled_backward import prepare_row, write_rows
from kernels.attention_tiled_forward import hide_and_bias, task_span, tile_band
from kernels.attention_tiles import (
    FAR,
    INF,
    TILE,
    add_to_dbias,
    drop_tile,
    exponential,
    fill,
    gradient_tile,
    hash_positions,
    pack_rows,
    unpack_transposed,
)
from kernels.simd import peek_i64, poke
from kernels.vectors import vload

SPAN = 256               # queries whose forms are in use at a time
# what `form_rows` reads: addresses of a tile of scores and of dP, of lse and delta, and of the three forms to be made
R_TILE, R_DTILE, R_LSE, R_DELTA, R_PATTERN, R_LEFT, R_RIGHT = range(0, 56, 8)

__all__ = ["WIDTH_MULTIPLE", "backward_bfloat16", "backward_bytes", "backward_float32"]


def backward_bytes(p, K_padded, V_padded, chunk):
    """Workspace of one thread, in the order in which `pair_gradients` and `span_gradients` lay it out."""
    per_column = FORM * len(pieces_for(p.precision))
    keys = (p.S // TILE + 2) * ((2 * per_column + ROW) * K_padded + (per_column + ROW) * V_padded)
    return keys + span_room.py_func(K_padded, V_padded, per_column) + 4 * (p.T + p.S + 4 * TILE)


@jit
def span_room(K_padded, V_padded, per_column):
    """Bytes that `span_gradients` lays out."""
    forms = SPAN // TILE * ((2 * per_column + ROW) * K_padded + 2 * per_column * V_padded + 2 * ROW)
    return forms + max(K_padded, V_padded) * (per_column + 3 * ROW) + TILE * (3 * per_column + 6 * ROW) + 8256


@jit
def prepare_span(p, b, h, t_lo, t_end, forms, lse, delta, work, scale, pieces):
    """For each tile of queries: right forms of Qᵀ, Q, dOᵀ, dO and a zeroed dQᵀ; lse and delta. False if something is not finite."""
    per_column = FORM * len(pieces)
    like = type(scale)(1)
    q_form, g_form = per_column * p.K_padded, per_column * p.V_padded
    each = 2 * (q_form + g_form) + ROW * p.K_padded
    rows_q, rows_g = work, work + ROW * p.K_padded
    form = rows_g + ROW * p.V_padded
    fill(lse, SPAN, type(scale)(INF))
    fill(delta, SPAN, type(scale)(0))
    fine = True
    for t in range(t_lo, t_end, TILE):
        count, here = min(TILE, t_end - t), forms + (t - t_lo) // TILE * each
        pack_rows(rows_q, p.K_padded, p.q + b * p.q_b + h * p.q_h + t * p.q_t, p.q_t, p.q_c, count, p.K, scale)
        pack_rows(rows_g, p.V_padded, p.g + b * p.g_b + h * p.g_h + t * p.g_t, p.g_t, p.g_c, count, p.V, like)
        for i in range(count):
            prepare_row(p, b, h, t + i, rows_q + i * p.K_padded * 4, rows_g + i * p.V_padded * 4,
                        lse + (t - t_lo + i) * 4, delta + (t - t_lo + i) * 4, scale)
        fine = fine and all_finite(rows_q, TILE * p.K_padded, like) and all_finite(rows_g, TILE * p.V_padded, like)
        split_left(form, rows_q, 4 * p.K_padded, TILE, p.K_padded, like, pieces)
        transpose_words(here, form, q_form // 1024, like)
        split_right(here + q_form, rows_q, 4 * p.K_padded, TILE, p.K_padded, like, pieces)
        split_left(form, rows_g, 4 * p.V_padded, TILE, p.V_padded, like, pieces)
        transpose_words(here + 2 * q_form, form, g_form // 1024, like)
        split_right(here + 2 * q_form + g_form, rows_g, 4 * p.V_padded, TILE, p.V_padded, like, pieces)
        fill(here + 2 * (q_form + g_form), TILE * p.K_padded, type(scale)(0))
    return fine


@jit
def form_rows(record, n, like, pieces):
    """Two rows by 32 queries of `gradient_tile`, straight into left forms of the pattern and of dscores and the right form of
    dscores; n < TILE. The record holds the addresses, see R_TILE."""
    j, s, step = n // 32 * 32, n % 32 * 2, len(pieces) * TILE_BYTES
    lse, delta = peek_i64(record + R_LSE) + 4 * j, peek_i64(record + R_DELTA) + 4 * j
    base0, base1, mean0, mean1 = vload(lse, like), vload(lse + 64, like), vload(delta, like), vload(delta + 64, like)
    here, there = peek_i64(record + R_TILE) + s * ROW + 4 * j, peek_i64(record + R_DTILE) + s * ROW + 4 * j
    p00 = exponential(vload(here, like) - base0, like)
    p01 = exponential(vload(here + 64, like) - base1, like)
    p10 = exponential(vload(here + ROW, like) - base0, like)
    p11 = exponential(vload(here + ROW + 64, like) - base1, like)
    d00, d01 = p00 * (vload(there, like) - mean0), p01 * (vload(there + 64, like) - mean1)
    d10, d11 = p10 * (vload(there + ROW, like) - mean0), p11 * (vload(there + ROW + 64, like) - mean1)
    row = (s // 16 * 2 + j // 32) * step + s % 16 * 64
    pattern, left = peek_i64(record + R_PATTERN) + row, peek_i64(record + R_LEFT) + row
    split_side_by_side(pattern, p00, p01, pieces)
    split_side_by_side(pattern + 64, p10, p11, pieces)
    split_side_by_side(left, d00, d01, pieces)
    split_side_by_side(left + 64, d10, d11, pieces)
    right = peek_i64(record + R_RIGHT) + (j // 16 * 2 + s // 32) * step + s % 32 * 32
    split_in_turn(right, d00, d10, pieces)
    split_in_turn(right + 2 * step, d01, d11, pieces)


score_and_form = make_multiply_beside(form_rows)


@jit
def form_tile(p, b, h, t, s, queries, rows, hiding, words, record, like, keep, pieces):
    """All of `form_rows`, where dropout comes between or the gradient of a bias is asked for."""
    tile, dtile = peek_i64(record + R_TILE), peek_i64(record + R_DTILE)
    pattern, left, right = peek_i64(record + R_PATTERN), peek_i64(record + R_LEFT), peek_i64(record + R_RIGHT)
    row_words, column_words = words + 4 * t, words + 4 * (p.T + 2 * TILE + s)
    if p.words != 0:
        drop_tile(dtile, TILE, VECTORS, row_words, column_words, p.threshold, keep)
    gradient_tile(tile, dtile, TILE, VECTORS, peek_i64(record + R_LSE), peek_i64(record + R_DELTA), -FAR, FAR, like)
    if p.dbias != 0:
        add_to_dbias(p.dbias + b * p.dbias_b + h * p.dbias_h + t * p.dbias_t + s * p.dbias_c, p.dbias_t, p.dbias_c,
                     dtile, rows, queries, hiding, like)
    if p.words != 0:
        drop_tile(tile, TILE, VECTORS, row_words, column_words, p.threshold, keep)
    split_left(pattern, tile, ROW, TILE, TILE, like, pieces)
    split_left(left, dtile, ROW, TILE, TILE, like, pieces)
    split_right(right, dtile, ROW, TILE, TILE, like, pieces)


@jit
def score_tile(p, b, h, t, s, queries, rows, keys, values, form, tile, hiding, record, steps, like, pieces):
    """Scores of 64 keys × 64 queries into `tile`, what is hidden at -inf, and dP behind them; and `steps` of `form_rows` for the
    tile before, which the vector units take while the tile unit multiplies. No rows: those steps alone."""
    if rows == 0:
        for n in range(steps):
            form_rows(record, n, like, pieces)
        return
    first, last = tile_band(p, b, t, s, queries, rows)
    for n in range(2):
        A, width, columns = (keys, p.K_padded, form) if n == 0 else (values, p.V_padded, form + 2 * FORM * len(pieces) * p.K_padded)
        score_and_form(tile + n * TILE * ROW, ROW, A, columns, width // 32, -last, -first, record, n * steps // 2,
                       (n + 1) * steps // 2, like, pieces)
    hide_and_bias(p, tile, b, h, t, s, queries, rows, TILE, VECTORS, first, last, hiding, like)


@jit
def sum_tile(p, b, t, s, queries, rows, keys, dk, dv, form, added, goes_on, ends, record, like, pieces):
    """What one tile adds to dK, dV and dQᵀ, from the forms of its pattern and of dscores.

    The sums of up to 256 queries stay with the tile unit: `goes_on`, the tile before had the same keys; `ends`, the next has not.
    """
    q_form, g_form = FORM * len(pieces) * p.K_padded, FORM * len(pieces) * p.V_padded
    rows_q, rows_g, dq = form + q_form, form + 2 * q_form + g_form, form + 2 * q_form + 2 * g_form
    added_v, added_q = added + ROW * p.K_padded, added + ROW * (p.K_padded + p.V_padded)
    first, last = tile_band(p, b, t, s, queries, rows)
    pattern, left, right = peek_i64(record + R_PATTERN), peek_i64(record + R_LEFT), peek_i64(record + R_RIGHT)
    multiply(added_v, 4 * p.V_padded, pattern, rows_g, TILE, p.V_padded, 2, -last, -first, False, goes_on, pieces)
    multiply(added, 4 * p.K_padded, left, rows_q, TILE, p.K_padded, 2, -last, -first, False, goes_on, pieces)
    multiply(added_q, ROW, keys + q_form, right, p.K_padded, TILE, 2, first, last, True, 0, pieces)
    add_tile(dq, added_q, p.K_padded, TILE, like)
    if ends:
        add_tile(dv, added_v, TILE, p.V_padded, like)
        add_tile(dk, added, TILE, p.K_padded, like)


@jit
def next_tile(p, position, s, t, s_hi, t_lo, t_end):
    """The first tile from (s, t) on, keys by keys, in which a key and a query see each other; (s_hi, t_lo) if there is none."""
    while s < s_hi:
        rows = min(TILE, s_hi - s)
        first, last = max(t_lo, s - position - p.right), min(t_end, s + rows - position + p.left)
        t = max(t, t_lo + (first - t_lo) // TILE * TILE)
        if t < last:
            return s, t
        s, t = s + TILE, t_lo
    return s_hi, t_lo


@jit
def span_gradients(p, b, h, t_lo, t_end, s_lo, s_hi, keys, values, dk, dv, work, words, scale, keep, pieces):
    """All keys against up to 256 queries of one head; writes their dQ. False if something is not finite."""
    per_column = FORM * len(pieces)
    like = type(scale)(1)
    each = 2 * per_column * (p.K_padded + p.V_padded) + ROW * p.K_padded
    forms, lse = work, work + SPAN // TILE * each
    delta = lse + 4 * SPAN
    room = delta + 4 * SPAN
    fine = prepare_span(p, b, h, t_lo, t_end, forms, lse, delta, room, scale, pieces)
    added, tile = room, room + ROW * (2 * p.K_padded + p.V_padded)
    hiding, record = tile + 4 * TILE * ROW, tile + 6 * TILE * ROW + 8192
    for n in range(3):
        poke(record + R_PATTERN + 8 * n, record + 64 + n * TILE * per_column)
    plain = p.words == 0 and p.dbias == 0
    position, other, steps = peek_i64(p.offset + 8 * b), tile + 2 * TILE * ROW, np.int64(0)
    s, t = next_tile(p, position, s_lo if fine else s_hi, t_lo, s_hi, t_lo, t_end)
    before_s, before_t, summed_s = s_hi, t, s_hi
    while s < s_hi or before_s < s_hi:                   # the scores of one tile, the sums of the one before
        place, form = (s - s_lo) // TILE * per_column, forms + (t - t_lo) // TILE * each
        score_tile(p, b, h, t, s, min(TILE, t_end - t), min(TILE, s_hi - s), keys + place * 2 * p.K_padded,
                   values + place * p.V_padded, form, tile, hiding, record, steps, like, pieces)
        if before_s < s_hi:
            n, form = (before_s - s_lo) // TILE, forms + (before_t - t_lo) // TILE * each
            queries, rows = min(TILE, t_end - before_t), min(TILE, s_hi - before_s)
            if not plain:
                form_tile(p, b, h, before_t, before_s, queries, rows, hiding, words, record, like, keep, pieces)
            sum_tile(p, b, before_t, before_s, queries, rows, keys + n * 2 * per_column * p.K_padded, dk + n * ROW * p.K_padded,
                     dv + n * ROW * p.V_padded, form, added, np.int64(summed_s == before_s), s != before_s, record, like, pieces)
            summed_s = before_s
        poke(record + R_TILE, tile)
        poke(record + R_DTILE, tile + TILE * ROW)
        poke(record + R_LSE, lse + 4 * (t - t_lo))
        poke(record + R_DELTA, delta + 4 * (t - t_lo))
        tile, other, before_s, before_t, steps = other, tile, s, t, TILE if plain and s < s_hi else 0
        s, t = next_tile(p, position, s, t + TILE, s_hi, t_lo, t_end)
    for t in range(t_lo, t_end, TILE):
        unpack_transposed(room, forms + (t - t_lo) // TILE * each + 2 * per_column * (p.K_padded + p.V_padded), p.K_padded, like)
        count = min(TILE, t_end - t)
        write_rows(p.dq + b * p.dq_b + h * p.dq_h + t * p.dq_t, p.dq_t, room, p.K_padded, 0, count, 0, count, p.K, scale)
    return fine


@jit
def split_pair(p, b, shared, s_lo, s_hi, keys, values, dk, dv, work, like, pieces):
    """Left forms of K and Kᵀ side by side per tile, and of V; zeroed dK and dV. False if a number is not finite."""
    per_column = FORM * len(pieces)
    fine, q_form = True, per_column * p.K_padded
    for s in range(s_lo, s_hi, TILE):
        here, count = keys + (s - s_lo) // TILE * 2 * q_form, min(TILE, s_hi - s)
        source = p.k + b * p.k_b + shared * p.k_h + s * p.k_t
        fine = fine and split_keys(here, source, p.k_t, p.k_c, count, p.K, p.K_padded, work, like, pieces)
        fine = fine and split_transposed(here + q_form, source, p.k_t, p.k_c, count, p.K, p.K_padded, work, like, pieces)
    fine = fine and split_keys(values, p.v + b * p.v_b + shared * p.v_h + s_lo * p.v_t, p.v_t, p.v_c, s_hi - s_lo, p.V,
                               p.V_padded, work, like, pieces)
    tiles = (s_hi - s_lo + TILE - 1) // TILE
    fill(dk, tiles * TILE * p.K_padded, type(like)(0))
    fill(dv, tiles * TILE * p.V_padded, type(like)(0))
    return fine


@jit
def pair_gradients(p, b, shared, chunk, base, scale, keep, pieces):
    """dQ of one chunk of queries for all query heads of one key head, and what the chunk adds to that head's dK and dV."""
    per_column = FORM * len(pieces)
    like = type(scale)(1)
    group = p.H // p.Hkv
    t_lo = chunk * p.chunk
    t_hi = max(t_lo, min(p.T, t_lo + p.chunk))
    t_end = max(t_lo, min(t_hi, peek_i64(p.q_len + 8 * b)))
    s_lo, s_hi = task_span(p, b, t_lo, t_end) if t_lo < t_end else (0, 0)
    tiles = p.S // TILE + 2
    keys, values = base, base + tiles * 2 * per_column * p.K_padded
    dk = values + tiles * per_column * p.V_padded
    dv = dk + tiles * ROW * p.K_padded
    work = dv + tiles * ROW * p.V_padded
    words = work + span_room(p.K_padded, p.V_padded, per_column)
    fine = split_pair(p, b, shared, s_lo, s_hi, keys, values, dk, dv, work, like, pieces)
    for h in range(shared * group, (shared + 1) * group):
        if p.words != 0:
            stream = peek_i64(p.words + 8 * (b * p.H + h))
            hash_positions(words, p.T, stream & 0xFFFFFFFF, scale)
            hash_positions(words + 4 * (p.T + 2 * TILE), p.S, (stream >> 32) & 0xFFFFFFFF, scale)
        if s_lo < s_hi:
            for t in range(t_lo, t_end, SPAN):
                fine = fine and span_gradients(p, b, h, t, min(t + SPAN, t_end), s_lo, s_hi, keys, values, dk, dv, work, words,
                                               scale, keep, pieces)
        write_rows(p.dq + b * p.dq_b + h * p.dq_h, p.dq_t, dk, p.K_padded, t_end if s_lo < s_hi else t_lo, t_hi, 0, 0, p.K, scale)
    write_rows(p.dk + b * p.dk_b + shared * p.dk_h + chunk * p.dk_chunk, p.dk_t, dk, p.K_padded, 0, p.S, s_lo, s_hi, p.K, like)
    write_rows(p.dv + b * p.dv_b + shared * p.dv_h + chunk * p.dv_chunk, p.dv_t, dv, p.V_padded, 0, p.S, s_lo, s_hi, p.V, like)
    return fine


@jit
def backward_task(task, thread, p, scale, keep, pieces):
    """One (batch, key head, chunk), or all batches or heads that share a piece of the bias gradient, in order."""
    chunk, pair = task % p.chunks, task // p.chunks
    heads = 1 if p.share_h != 0 else p.Hkv
    b, shared = pair // heads, pair % heads
    fine = True
    for i in range(p.B if p.share_b != 0 else 1):
        for j in range(p.Hkv if p.share_h != 0 else 1):
            fine = fine and pair_gradients(p, b + i, shared + j, chunk, p.work + thread * p.work_bytes, scale, keep, pieces)
    return fine


drain = make_drain(backward_task)


@jit
def backward_float32(plan, thread, unused, unused_too):
    """In three pieces a number."""
    drain(plan, thread, THREE_PIECES)


@jit
def backward_bfloat16(plan, thread, unused, unused_too):
    """In one."""
    drain(plan, thread, ONE_PIECE)
