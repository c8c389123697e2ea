"""Flash attention, backward: the pattern is computed again tile by tile from lse, five products per tile.

    Pᵀ = exp(K Qᵀ - lse)      dPᵀ = V dOᵀ      dSᵀ = Pᵀ ∘ (dPᵀ - delta),  delta = Σ out·g per query
    dV += Pᵀ dO               dK += dSᵀ Q      dQ += dS K

Paper: Dao et al. 2022, appendix B.4. A task is one (batch, key head, chunk of queries) and owns what it adds to, so there
are no atomics and the order of every sum is fixed. Tasks that add to the same piece of a bias gradient are one task; with
several chunks each has its own dK and dV, which the caller adds up in order.
"""
import numpy as np

from kernels._jit import jit
from kernels.attention_launch import make_drain
from kernels.attention_products import product_by_columns, product_by_rows
from kernels.attention_tiled_forward import hide_and_bias, task_span, tile_band
from kernels.attention_tiles import (
    FAR,
    INF,
    TILE,
    add_to_dbias,
    drop_tile,
    fill,
    gradient_tile,
    hash_positions,
    pack_rows,
    pack_transposed,
    product_in_band,
)
from kernels.simd import peek_i64, poke, store_part, sum_lanes
from kernels.vectors import constant, lanes, peek, sizeof, splat, vload, vload_part

WIDTH_MULTIPLE = None           # widths are padded to whole vectors


def backward_bytes(p, K_padded, V_padded, chunk):
    """Workspace of one thread, in the order in which `backward_task` lays it out."""
    keys = 2 * (p.S + 2 * TILE) * (K_padded + V_padded)
    queries = (chunk + TILE) * (3 * K_padded + 2 * V_padded + 2)
    return (keys + queries + TILE * (3 * TILE + 64)) * p.dtype.itemsize + 4 * (p.T + p.S + 4 * TILE)


@jit
def prepare_row(p, b, h, t, row_q, row_g, lse, delta, like):
    """delta = Σ out·g of one query; a query without keys gets lse = +inf and zeros, so that it adds nothing anywhere."""
    size, step = sizeof(like), lanes(like)
    saved = peek(p.lse + ((b * p.H + h) * p.T + t) * size, like)
    out = p.out + b * p.out_b + h * p.out_h + t * p.out_t
    if saved == -INF:
        poke(lse, type(like)(INF))
        poke(delta, type(like)(0))
        fill(row_q, p.K_padded, type(like)(0))
        fill(row_g, p.V_padded, type(like)(0))
        return
    total = constant(0.0, like)
    for j in range(0, p.V, step):
        if p.out_c == size:
            total = total + vload(row_g + j * size, like) * vload_part(out + j * size, min(step, p.V - j), like)
        else:
            for c in range(j, min(p.V, j + step)):
                total = total + constant(peek(row_g + c * size, like) * peek(out + c * p.out_c, like) / step, like)
    poke(lse, saved)
    poke(delta, sum_lanes(total))


@jit
def prepare_queries(p, b, h, t_lo, t_end, rows_q, columns_q, rows_g, columns_g, lse, delta, scale):
    """Pack scaled queries and incoming gradients, by rows and transposed, with lse and delta; rows past the end add nothing."""
    size, count = sizeof(scale), t_end - t_lo
    pack_rows(rows_q, p.K_padded, p.q + b * p.q_b + h * p.q_h + t_lo * p.q_t, p.q_t, p.q_c, count, p.K, scale)
    pack_rows(rows_g, p.V_padded, p.g + b * p.g_b + h * p.g_h + t_lo * p.g_t, p.g_t, p.g_c, count, p.V, type(scale)(1))
    tiles = (count + TILE - 1) // TILE
    fill(lse, tiles * TILE, type(scale)(INF))
    fill(delta, tiles * TILE, type(scale)(0))
    for i in range(count):
        prepare_row(p, b, h, t_lo + i, rows_q + i * p.K_padded * size, rows_g + i * p.V_padded * size,
                    lse + i * size, delta + i * size, scale)
    for i in range(0, count, TILE):
        pack_transposed(columns_q + i * p.K_padded * size, rows_q + i * p.K_padded * size, p.K_padded, scale)
        pack_transposed(columns_g + i * p.V_padded * size, rows_g + i * p.V_padded * size, p.V_padded, scale)


@jit
def write_rows(target, row_stride, source, padded, first, last, lo, hi, width, scale):
    """target[i] = scale · source[i - lo] for lo <= i < hi and 0 for the other rows of first .. last; False if one is not finite."""
    size, step = sizeof(scale), lanes(scale)
    wrong, zero = constant(0.0, scale), constant(0.0, scale)
    for i in range(first, last):
        row = target + i * row_stride
        for j in range(0, width, step):
            count = min(step, width - j)
            if lo <= i < hi:
                value = vload(source + ((i - lo) * padded + j) * size, scale) * splat(scale)
                wrong = wrong + value * zero
                store_part(row + j * size, value, count)
            else:
                store_part(row + j * size, zero, count)
    return sum_lanes(wrong) == 0


@jit
def tile_gradients(p, b, h, t, s, queries, rows, keys, values, dk, dv, rows_q, columns_q, dq, rows_g, columns_g,
                   lse, delta, tile, words, like, keep):
    """What one tile of 64 keys × 64 queries adds to dK, dV, dQ and dbias; all addresses are those of this tile."""
    size, step = sizeof(like), lanes(like)
    dtile, scratch = tile + TILE * TILE * size, tile + 2 * TILE * TILE * size
    row_words, column_words = words + 4 * t, words + 4 * (p.T + 2 * TILE + s)
    k_row, v_row, row = p.K_padded * size, p.V_padded * size, TILE * size
    vectors, height, tall = (queries + step - 1) // step, (rows + 7) // 8 * 8, (queries + 7) // 8 * 8
    first, last = tile_band(p, b, t, s, queries, rows)
    low, high = (first, last) if p.dbias == 0 else (-FAR, FAR)      # the bias' gradient takes in the whole tile
    product_in_band(tile, keys, k_row, columns_q, height, vectors, p.K, low, high, like)
    product_in_band(dtile, values, v_row, columns_g, height, vectors, p.V, low, high, like)
    hide_and_bias(p, tile, b, h, t, s, queries, rows, height, vectors, first, last, scratch, like)
    if p.words != 0:
        drop_tile(dtile, height, vectors, row_words, column_words, p.threshold, keep)
    gradient_tile(tile, dtile, height, vectors, lse, delta, low, high, like)
    if p.dbias != 0:
        add_to_dbias(p.dbias + b * p.dbias_b + h * p.dbias_h + t * p.dbias_t + s * p.dbias_c, p.dbias_t, p.dbias_c,
                     dtile, rows, queries, scratch, like)
    if p.words != 0:
        drop_tile(tile, height, vectors, row_words, column_words, p.threshold, keep)
    product_by_rows(dv, v_row, tile, row, rows_g, v_row, height, p.V_padded // step, queries, -last, -first, 1, like)
    product_by_rows(dk, k_row, dtile, row, rows_q, k_row, height, p.K_padded // step, queries, -last, -first, 1, like)
    product_by_columns(dq, k_row, dtile, row, keys, k_row, tall, p.K_padded // step, rows, first, last, 1, like)


@jit
def pair_gradients(p, b, shared, chunk, base, scale, keep):
    """dQ of one chunk of queries for all query heads of one key head, and what the chunk adds to that head's dK and dV.

    Says at `unfit` if something is not finite.
    """
    size, like = sizeof(scale), type(scale)(1)
    group = p.H // p.Hkv
    t_lo = chunk * p.chunk
    t_hi = max(t_lo, min(p.T, t_lo + p.chunk))
    t_end = max(t_lo, min(t_hi, peek_i64(p.q_len + 8 * b)))
    s_lo, s_hi = task_span(p, b, t_lo, t_end) if t_lo < t_end else (0, 0)
    position = peek_i64(p.offset + 8 * b)
    k_room, v_room = (p.S + 2 * TILE) * p.K_padded * size, (p.S + 2 * TILE) * p.V_padded * size
    keys, values, dk, dv = base, base + k_room, base + k_room + v_room, base + 2 * k_room + v_room
    rows_q = base + 2 * (k_room + v_room)
    q_room, g_room = (p.chunk + TILE) * p.K_padded * size, (p.chunk + TILE) * p.V_padded * size
    columns_q, dq, rows_g = rows_q + q_room, rows_q + 2 * q_room, rows_q + 3 * q_room
    columns_g, lse = rows_g + g_room, rows_g + 2 * g_room
    delta = lse + (p.chunk + TILE) * size
    tile = delta + (p.chunk + TILE) * size
    words = tile + TILE * (3 * TILE + 64) * size
    if s_lo < s_hi:
        pack_rows(keys, p.K_padded, p.k + b * p.k_b + shared * p.k_h + s_lo * p.k_t, p.k_t, p.k_c, s_hi - s_lo, p.K, like)
        pack_rows(values, p.V_padded, p.v + b * p.v_b + shared * p.v_h + s_lo * p.v_t, p.v_t, p.v_c, s_hi - s_lo, p.V, like)
        tiles = (s_hi - s_lo + TILE - 1) // TILE
        fill(dk, tiles * TILE * p.K_padded, type(scale)(0))
        fill(dv, tiles * TILE * p.V_padded, type(scale)(0))
    fine = True
    for h in range(shared * group, (shared + 1) * group):
        if p.words != 0:
            stream = peek_i64(p.words + 8 * (b * p.H + h))
            hash_positions(words, p.T, stream & 0xFFFFFFFF, scale)
            hash_positions(words + 4 * (p.T + 2 * TILE), p.S, (stream >> 32) & 0xFFFFFFFF, scale)
        if s_lo < s_hi:
            prepare_queries(p, b, h, t_lo, t_end, rows_q, columns_q, rows_g, columns_g, lse, delta, scale)
            fill(dq, (t_end - t_lo + TILE - 1) // TILE * TILE * p.K_padded, type(scale)(0))
        for s in range(s_lo, s_hi, TILE):
            rows, above = min(TILE, s_hi - s), (s - s_lo) * size
            first = max(t_lo, s - position - p.right)
            last = min(t_end, s + rows - position + p.left)
            for t in range(t_lo + (first - t_lo) // TILE * TILE, last, TILE):
                past = (t - t_lo) * size
                tile_gradients(p, b, h, t, s, min(TILE, t_end - t), rows, keys + above * p.K_padded, values + above * p.V_padded,
                               dk + above * p.K_padded, dv + above * p.V_padded, rows_q + past * p.K_padded,
                               columns_q + past * p.K_padded, dq + past * p.K_padded, rows_g + past * p.V_padded,
                               columns_g + past * p.V_padded, lse + past, delta + past, tile, words, like, keep)
        fine &= write_rows(p.dq + b * p.dq_b + h * p.dq_h, p.dq_t, dq, p.K_padded, t_lo, t_hi, t_lo,
                           t_end if s_lo < s_hi else t_lo, p.K, scale)
    fine &= write_rows(p.dk + b * p.dk_b + shared * p.dk_h + chunk * p.dk_chunk, p.dk_t, dk, p.K_padded, 0, p.S, s_lo, s_hi,
                       p.K, like)
    fine &= write_rows(p.dv + b * p.dv_b + shared * p.dv_h + chunk * p.dv_chunk, p.dv_t, dv, p.V_padded, 0, p.S, s_lo, s_hi,
                       p.V, like)
    if not fine:
        poke(p.unfit, 1)


@jit
def backward_task(task, thread, p, scale, keep):
    """One (batch, key head, chunk), or all batches or heads that share a piece of the bias gradient, in order."""
    chunk, pair = task % p.chunks, task // p.chunks
    heads = 1 if p.share_h != 0 else p.Hkv
    b, shared = pair // heads, pair % heads
    for i in range(p.B if p.share_b != 0 else 1):
        for j in range(p.Hkv if p.share_h != 0 else 1):
            pair_gradients(p, b + i, shared + j, chunk, p.work + thread * p.work_bytes, scale, keep)


drain = make_drain(backward_task)


@jit
def backward_float32(plan, thread, unused, unused_too):
    drain(plan, thread, np.float32(1))


@jit
def backward_float64(plan, thread, unused, unused_too):
    drain(plan, thread, np.float64(1))
