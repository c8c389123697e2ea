"""Decoding: one or a few new queries against a long cache of keys and values, at the speed of memory.

Here the lanes lie along the head width, as the cache lies in memory: 16 keys at a time are multiplied into 16 sums, which one
transpose in registers turns into a vector of scores. Keys go by in blocks of 512, each read once for all queries that share it;
a long cache with few heads is cut into splits of 1,024 keys, whose partial results are put together in order.
Paper for the splits: Dao et al. 2023, "Flash-Decoding for long-context inference".
"""
import math
import sys

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels import simd
from kernels._jit import jit
from kernels.attention_launch import launch, pointer_to, worker_address
from kernels.attention_plan import CACHE_LINE, WANTED_TASKS
from kernels.attention_products import _micro_kernel
from kernels.attention_tiles import INF, LOG2E, TILE, pack_rows
from kernels.attention_vectors import _INT, _WORD, _vector, constant, exp2, lanes, peek, sizeof, splat, vload
from kernels.simd import fetch_add, max_lanes, peek_f64, peek_i64, poke, store, sum_lanes, vmax

SPLIT = 1024             # keys per split
BLOCK = 512              # keys per step: long enough that the hardware sees streams
# fields of the int64 array that describes a call
(B, H, HKV, T, K, V, K_PADDED, V_PADDED, Q, Q_B, Q_H, Q_T, Q_C, KEYS, K_B, K_H, K_S, K_C, VALUES, V_B, V_H, V_S, V_C,
 BIAS, BIAS_B, BIAS_H, BIAS_T, BIAS_S, LENGTHS, LEFT, SPLITS, TASKS, COUNTER, WORK, WORK_BYTES, PARTIAL, SCALE,
 FIELDS) = range(38)

_ROW = {width: _micro_kernel(False, 1, width) for width in (4, 2, 1)}
_row_four, _row_two, _row_one = _ROW[4], _ROW[2], _ROW[1]


@intrinsic
def dot_rows(typingctx, scores, keys, stride, query, vectors, like):
    """scores[i] = query · keys[i] for as many rows as a vector has lanes; `vectors` vectors per row, stride in bytes."""
    vector, word = _vector(like), _WORD[like]
    kind, count = simd._llvm(vector), vector.lanes

    def codegen(context, builder, sig, args):
        scores, keys, stride, query, vectors = args[:-1]

        def load(address):
            return builder.load(simd._pointer(builder, address, kind), align=word)

        rows = [builder.add(keys, builder.mul(stride, ir.Constant(_INT, i))) for i in range(count)]
        begin = builder.block
        loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        offset = builder.phi(_INT)
        total = [builder.phi(kind) for _ in range(count)]
        part = load(builder.add(query, offset))
        summed = [simd._call(builder, f"llvm.fma.{simd._name(vector)}", kind, [load(builder.add(row, offset)), part, old])
                  for row, old in zip(rows, total, strict=True)]
        following = builder.add(offset, ir.Constant(_INT, count * word))
        for phi, first, later in ((offset, ir.Constant(_INT, 0), following),
                                  *((old, ir.Constant(kind, None), new) for old, new in zip(total, summed, strict=True))):
            phi.add_incoming(first, begin)
            phi.add_incoming(later, loop)
        end = builder.mul(vectors, ir.Constant(_INT, count * word))
        builder.cbranch(builder.icmp_signed("<", following, end), loop, done)
        builder.position_at_end(done)
        columns = simd._transposed(builder, summed)
        while len(columns) > 1:                                 # pairwise, in a fixed order
            columns = [builder.fadd(columns[i], columns[i + 1]) for i in range(0, len(columns), 2)]
        builder.store(columns[0], simd._pointer(builder, scores, kind), align=word)
        return context.get_dummy_value()
    return types.void(*[types.int64] * 5, like), codegen


@jit
def softmax_row(scores, count, top, total, like):
    """Online softmax of one row of up to 512 scores; returns the factor by which the output so far shrinks."""
    size, step = sizeof(like), lanes(like)
    log2e, lowest = constant(LOG2E, like), constant(-INF, like)
    end = (count + step - 1) // step * step
    for s in range(count, end):
        poke(scores + s * size, type(like)(-INF))
    high = lowest
    for s in range(0, end, step):
        high = vmax(vload(scores + s * size, like), high)
    old = peek(top, like)
    new = max(old, max_lanes(high))
    base = splat(type(like)(0) if new == -INF else new)
    added = constant(0.0, like)
    for s in range(0, end, step):
        weight = exp2((vload(scores + s * size, like) - base) * log2e)
        store(scores + s * size, weight)
        added = added + weight
    factor = max_lanes(exp2((splat(old) - base) * log2e))
    poke(top, new)
    poke(total, peek(total, like) * factor + sum_lanes(added))
    return factor


@jit
def add_values(acc, weights, values, stride, vectors, count, factor, like):
    """acc = factor · acc + Σ_s weights[s] values[s]."""
    size, step = sizeof(like), lanes(like) * sizeof(like)
    poke(weights + BLOCK * size, factor)
    scale, j = weights + BLOCK * size, 0
    while j + 4 <= vectors:
        _row_four(acc + j * step, 0, weights, 0, values + j * step, stride, 0, count, scale, like)
        j += 4
    while j + 2 <= vectors:
        _row_two(acc + j * step, 0, weights, 0, values + j * step, stride, 0, count, scale, like)
        j += 2
    if j < vectors:
        _row_one(acc + j * step, 0, weights, 0, values + j * step, stride, 0, count, scale, like)


@jit
def decode_task(task, thread, d, scale):
    """One split of one (batch, key head): partial output, maximum and sum of every query that shares these keys."""
    size, step, like = sizeof(scale), lanes(scale), type(scale)(1)
    split, pair = task % d[SPLITS], task // d[SPLITS]
    b, shared, group = pair // d[HKV], pair % d[HKV], d[H] // d[HKV]
    rows = group * d[T]
    k_row, v_row = d[K_PADDED] * size, d[V_PADDED] * size
    queries = d[WORK] + thread * d[WORK_BYTES]
    k_block = queries + (rows + TILE) * k_row
    v_block = k_block + BLOCK * k_row
    scores = v_block + BLOCK * v_row
    partial = d[PARTIAL] + task * rows * (d[V_PADDED] + 2 * step) * size
    length = peek_i64(d[LENGTHS] + 8 * b)
    first = max(split * SPLIT if d[SPLITS] > 1 else 0, length - d[T] - d[LEFT])
    last = min(length, (split + 1) * SPLIT) if d[SPLITS] > 1 else length
    for r in range(rows):
        h, t = shared * group + r // d[T], r % d[T]
        pack_rows(queries + r * k_row, d[K_PADDED], d[Q] + b * d[Q_B] + h * d[Q_H] + t * d[Q_T], 0, d[Q_C], 1, d[K], scale)
        acc = partial + r * (d[V_PADDED] + 2 * step) * size
        for j in range(0, d[V_PADDED] + 2 * step, step):
            store(acc + j * size, constant(0.0, scale))
        poke(acc + d[V_PADDED] * size, type(scale)(-INF))
    keys_in_place = d[K] == d[K_PADDED] and d[K_C] == size
    values_in_place = d[V] == d[V_PADDED] and d[V_C] == size
    for s in range(first, last, BLOCK):
        count = min(BLOCK, last - s)
        keys, k_stride = d[KEYS] + b * d[K_B] + shared * d[K_H] + s * d[K_S], d[K_S]
        whole = count // step * step if keys_in_place else 0    # the rest goes through a padded copy
        pack_rows(k_block, d[K_PADDED], keys + whole * k_stride, k_stride, d[K_C], count - whole, d[K], like)
        values, v_stride = d[VALUES] + b * d[V_B] + shared * d[V_H] + s * d[V_S], d[V_S]
        if not values_in_place:
            pack_rows(v_block, d[V_PADDED], values, d[V_S], d[V_C], count, d[V], like)
            values, v_stride = v_block, v_row
        for r in range(rows):
            for i in range(0, whole, step):
                dot_rows(scores + i * size, keys + i * k_stride, k_stride, queries + r * k_row, d[K_PADDED] // step, scale)
            for i in range(whole, count, step):
                dot_rows(scores + i * size, k_block + (i - whole) * k_row, k_row, queries + r * k_row, d[K_PADDED] // step, scale)
            hide_and_add(d, scores, b, shared * group + r // d[T], r % d[T], s, count, length, scale)
            acc = partial + r * (d[V_PADDED] + 2 * step) * size
            top = acc + d[V_PADDED] * size
            factor = softmax_row(scores, count, top, top + step * size, scale)
            add_values(acc, scores, values, v_stride, d[V_PADDED] // step, count, factor, scale)


@jit
def hide_and_add(d, scores, b, h, t, s, count, length, like):
    """Bias, causal order among the new tokens, and the window, for one row of scores."""
    size = sizeof(like)
    if d[BIAS] != 0:
        bias = d[BIAS] + b * d[BIAS_B] + h * d[BIAS_H] + t * d[BIAS_T] + s * d[BIAS_S]
        for i in range(count):
            poke(scores + i * size, peek(scores + i * size, like) + peek(bias + i * d[BIAS_S], like))
    position = length - d[T] + t - s
    for i in range(max(0, position + 1), count):
        poke(scores + i * size, type(like)(-INF))
    for i in range(0, min(count, position - d[LEFT])):
        poke(scores + i * size, type(like)(-INF))


@jit
def drain(address, thread, like):
    """Draw tasks from the counter until none is left."""
    d = numba.carray(pointer_to(address), (FIELDS,), np.int64)
    scale = type(like)(peek_f64(d[SCALE]))
    while True:
        task = fetch_add(d[COUNTER], 1)
        if task >= d[TASKS]:
            break
        decode_task(task, thread, d, scale)


@jit
def decode_float32(plan, thread, unused, unused_too):
    drain(plan, thread, np.float32(1))


@jit
def decode_float64(plan, thread, unused, unused_too):
    drain(plan, thread, np.float64(1))


@jit
def combine_splits(d, out, splits, step):
    """out = Σ exp(top_i - top) acc_i / Σ exp(top_i - top) total_i over the splits, in order; zeros where no key was seen."""
    for b in range(out.shape[0]):
        for h in range(out.shape[1]):
            group = out.shape[1] // d.shape[1]
            for t in range(out.shape[2]):
                rows = d[b, h // group]
                r = h % group * out.shape[2] + t
                V, padded = out.shape[3], d.shape[4] - 2 * step
                top = -np.inf
                for i in range(splits):
                    top = max(top, rows[i, r, padded])
                base = 0.0 if top == -np.inf else top
                total = 0.0
                for i in range(splits):
                    total += math.exp(rows[i, r, padded] - base) * rows[i, r, padded + step]
                for c in range(V):
                    out[b, h, t, c] = 0
                for i in range(splits):
                    factor = math.exp(rows[i, r, padded] - base) / total if total != 0 else 0.0
                    for c in range(V):
                        out[b, h, t, c] += factor * rows[i, r, c]


def decode(p, q, k, v, out, threads):
    """Fill `out` for the problem `p`: causal, query_offset = lengths - T."""
    item = p.dtype.itemsize
    step = max(simd.LANES32 * 4 // item, 1)
    K_padded, V_padded = -(-p.K // step) * step, -(-p.V // step) * step
    pairs, rows = p.B * p.Hkv, p.H // max(p.Hkv, 1) * p.T
    splits = -(-int(p.k_hi.max(initial=1)) // SPLIT) if pairs < WANTED_TASKS else 1
    splits = max(splits, 1)
    scale = np.array([p.scale])
    partial = np.empty((p.B, p.Hkv, splits, rows, V_padded + 2 * step), p.dtype)
    each = ((rows + TILE + BLOCK) * K_padded + BLOCK * (V_padded + 2)) * item // CACHE_LINE * CACHE_LINE + 2 * CACHE_LINE
    room = np.zeros(threads * each + 3 * CACHE_LINE, np.uint8)
    start = -(-room.ctypes.data // CACHE_LINE) * CACHE_LINE
    bias = (0,) * 5 if p.bias is None else (p.bias.ctypes.data, *p.bias.strides)
    d = np.array((p.B, p.H, p.Hkv, p.T, p.K, p.V, K_padded, V_padded, q.ctypes.data, *q.strides, k.ctypes.data, *k.strides,
                  v.ctypes.data, *v.strides, *bias, p.k_hi.ctypes.data, p.left, splits, pairs * splits, start,
                  start + 2 * CACHE_LINE, each, partial.ctypes.data,
                  scale.ctypes.data), np.int64)
    launch(max(1, min(threads, pairs * splits)), worker_address(sys.modules[__name__], "decode", p.dtype), d.ctypes.data)
    combine_splits(partial, out, splits, step)
