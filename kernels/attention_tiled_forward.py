"""Flash attention, forward: each tile of 64 queries walks the tiles of 64 keys it may see, with an online softmax.

    for each tile of keys:   Sᵀ = K Qᵀ;  Pᵀ = exp(Sᵀ - top);  out = shrink · out + P V
    at the end:              out / total,  lse = top + log(total)

Papers: Dao et al. 2022, algorithm 1 (tiling); Milakov and Gimelshein 2018 (online softmax).
A task is one (batch, key head, chunk of queries); it packs its keys and values once and serves all query heads that share them.
"""
import math

import numpy as np

from kernels._jit import jit
from kernels.attention_launch import make_drain
from kernels.attention_products import product_by_columns
from kernels.attention_tiles import (
    FAR,
    INF,
    TILE,
    add_bias,
    drop_tile,
    fill,
    hash_positions,
    hide_band,
    hide_masked,
    pack_rows,
    pack_transposed,
    product_in_band,
    softmax_tile,
)
from kernels.simd import peek_i64, poke, store_part, sum_lanes
from kernels.vectors import constant, lanes, peek, sizeof, splat, vload

WIDTH_MULTIPLE = None           # widths are padded to whole vectors


def forward_bytes(p, K_padded, V_padded):
    """Workspace of one thread, in the order in which `forward_task` lays it out."""
    keys = (p.S + 2 * TILE) * (K_padded + V_padded)
    queries = TILE * (2 * K_padded + V_padded + 2 * TILE + 64 + 3)
    return (keys + queries) * p.dtype.itemsize + 4 * (p.T + p.S + 4 * TILE)


@jit
def task_span(p, b, t_lo, t_hi):
    """The keys [s_lo, s_hi) that queries t_lo <= t < t_hi of batch b may see between them."""
    position = peek_i64(p.offset + 8 * b)
    s_lo = max(peek_i64(p.k_lo + 8 * b), position + t_lo - p.left)
    s_hi = min(peek_i64(p.k_hi + 8 * b), position + t_hi + p.right)
    return s_lo, max(s_lo, s_hi)


@jit
def tile_band(p, b, t, s, queries, rows):
    """Query q of this tile sees keys q + first .. q + last of this tile; (-FAR, FAR) if that is all of them."""
    position = peek_i64(p.offset + 8 * b) + t - s
    if rows - 1 > position + p.right or queries - 1 + position - p.left > 0:
        return position - p.left, min(position + p.right, FAR - 1)
    return -FAR, FAR


@jit
def hide_and_bias(p, tile, b, h, t, s, queries, rows, height, vectors, first, last, scratch, like):
    """Add the bias and put -inf where a key is hidden, doing nothing where nothing is; first, last: `tile_band`'s."""
    if p.bias != 0:
        add_bias(tile, p.bias + b * p.bias_b + h * p.bias_h + t * p.bias_t + s * p.bias_c, p.bias_t, p.bias_c,
                 rows, queries, scratch, like)
    if p.mask != 0:
        hide_masked(tile, p.mask + b * p.mask_b + h * p.mask_h + t * p.mask_t + s * p.mask_c, p.mask_t, p.mask_c,
                    rows, queries, scratch, like)
    if p.holes != 0:
        hide_masked(tile, p.holes + b * p.S + s, np.int64(0), np.int64(1), rows, queries, scratch, like)
    if last < FAR or rows < height:
        hide_band(tile, height, vectors, rows, first, last, like)


@jit
def empty_rows(p, b, h, t_lo, t_hi, like):
    """Queries without any key: out = 0, lse = -inf."""
    for t in range(t_lo, t_hi):
        for c in range(p.V):
            poke(p.out + b * p.out_b + h * p.out_h + t * p.out_t + c * p.out_c, type(like)(0))
        poke(p.lse + ((b * p.H + h) * p.T + t) * sizeof(like), type(like)(-INF))


@jit
def write_rows(p, b, h, t, queries, acc, top, total, like):
    """out = acc / total and lse = top + log(total); zeros where no key was seen. Says at `unfit` if something is not finite."""
    size, step = sizeof(like), lanes(like)
    wrong, zero = constant(0.0, like), constant(0.0, like)
    for i in range(queries):
        count, highest = peek(total + i * size, like), peek(top + i * size, like)
        seen = count != 0
        factor = splat(type(like)(1.0) / count if seen else type(like)(0))
        row = p.out + b * p.out_b + h * p.out_h + (t + i) * p.out_t
        for j in range(0, p.V, step):
            value = vload(acc + (i * p.V_padded + j) * size, like) * factor
            wrong = wrong + value * zero
            store_part(row + j * size, value, min(step, p.V - j))
        poke(p.lse + ((b * p.H + h) * p.T + t + i) * size, type(like)(highest + math.log(count) if seen else -INF))
    if sum_lanes(wrong) != 0:
        poke(p.unfit, 1)


@jit
def query_tile(p, b, h, t, queries, s_base, s_end, keys, values, work, words, scale, keep):
    """The forward pass of one tile of queries against packed keys and values that start at position s_base."""
    size, step = sizeof(scale), lanes(scale)
    rows_q = work
    columns_q = rows_q + TILE * p.K_padded * size
    acc = columns_q + TILE * p.K_padded * size
    tile = acc + TILE * p.V_padded * size
    scratch = tile + TILE * TILE * size
    top = scratch + (TILE * TILE + 64 * TILE) * size
    total, shrink = top + TILE * size, top + 2 * TILE * size
    row_words, column_words = words, words + 4 * (p.T + 2 * TILE)
    lo, hi = task_span(p, b, t, t + queries)
    hi = min(hi, s_end)
    pack_rows(rows_q, p.K_padded, p.q + b * p.q_b + h * p.q_h + t * p.q_t, p.q_t, p.q_c, queries, p.K, scale)
    pack_transposed(columns_q, rows_q, p.K_padded, scale)
    fill(top, TILE, type(scale)(-INF))
    fill(total, TILE, type(scale)(0))
    fill(acc, TILE * p.V_padded, type(scale)(0))
    vectors, tall = (queries + step - 1) // step, (queries + 7) // 8 * 8
    for s in range(s_base + (lo - s_base) // TILE * TILE, hi, TILE):
        rows = min(TILE, s_end - s)
        height = (rows + 7) // 8 * 8
        first, last = tile_band(p, b, t, s, queries, rows)
        product_in_band(tile, keys + (s - s_base) * p.K_padded * size, p.K_padded * size, columns_q, height, vectors, p.K,
                        first, last, scale)
        hide_and_bias(p, tile, b, h, t, s, queries, rows, height, vectors, first, last, scratch, scale)
        softmax_tile(tile, height, vectors, top, total, shrink, first, last, scale)
        if p.words != 0:
            drop_tile(tile, height, vectors, row_words + 4 * t, column_words + 4 * s, p.threshold, keep)
        product_by_columns(acc, p.V_padded * size, tile, TILE * size, values + (s - s_base) * p.V_padded * size,
                           p.V_padded * size, tall, p.V_padded // step, rows, first, last, shrink, scale)
    write_rows(p, b, h, t, queries, acc, top, total, scale)


@jit
def forward_task(task, thread, p, scale, keep):
    """All query heads of one (batch, key head) for one chunk of queries."""
    size = sizeof(scale)
    chunk, pair = task % p.chunks, task // p.chunks
    b, shared, group = pair // p.Hkv, pair % p.Hkv, p.H // p.Hkv
    t_lo = chunk * p.chunk
    t_hi = max(t_lo, min(p.T, t_lo + p.chunk))
    t_end = max(t_lo, min(t_hi, peek_i64(p.q_len + 8 * b)))
    s_lo, s_hi = task_span(p, b, t_lo, t_end)
    keys = p.work + thread * p.work_bytes
    values = keys + (p.S + 2 * TILE) * p.K_padded * size
    work = values + (p.S + 2 * TILE) * p.V_padded * size
    words = work + TILE * (2 * p.K_padded + p.V_padded + 2 * TILE + 64 + 3) * size
    if s_lo < s_hi and t_lo < t_end:
        pack_rows(keys, p.K_padded, p.k + b * p.k_b + shared * p.k_h + s_lo * p.k_t, p.k_t, p.k_c, s_hi - s_lo, p.K,
                  type(scale)(1))
        pack_rows(values, p.V_padded, p.v + b * p.v_b + shared * p.v_h + s_lo * p.v_t, p.v_t, p.v_c, s_hi - s_lo, p.V,
                  type(scale)(1))
    for h in range(shared * group, (shared + 1) * group):
        if p.words != 0:
            stream = p.words + 8 * (b * p.H + h)
            hash_positions(words, p.T, peek_i64(stream) & 0xFFFFFFFF, scale)
            hash_positions(words + 4 * (p.T + 2 * TILE), p.S, (peek_i64(stream) >> 32) & 0xFFFFFFFF, scale)
        for t in range(t_lo, t_end, TILE):
            queries = min(TILE, t_end - t)
            lo, hi = task_span(p, b, t, t + queries)
            if lo < hi:
                query_tile(p, b, h, t, queries, s_lo, s_hi, keys, values, work, words, scale, keep)
            else:
                empty_rows(p, b, h, t, t + queries, scale)
        empty_rows(p, b, h, t_end, t_hi, scale)


drain = make_drain(forward_task)


@jit
def forward_float32(plan, thread, unused, unused_too):
    drain(plan, thread, np.float32(1))


@jit
def forward_float64(plan, thread, unused, unused_too):
    drain(plan, thread, np.float64(1))
