"""Decoding: one or a few new queries against a long cache of keys and values, at the speed of memory.

Here the lanes lie along the head width, as the cache lies in memory: as many keys as a vector has lanes are multiplied into
that many sums, which one transpose in registers turns into their scores. Keys go by in blocks of 512, each read once for all
queries that share it; the keys and the values taken together lie far apart, so that memory reads several streams ahead of us;
a long cache with few heads is cut into splits of 1,024 keys, whose partial results are put together in order by the thread that
finishes the last of them. What does not change from call to call is kept (`Layout`), and the loops read the arrays' addresses
themselves: between two products over all weights nothing is in the cache, and each step in Python costs several times more.
Paper for the splits: Dao et al. 2023, "Flash-Decoding for long-context inference".
"""
import sys

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels import _threads, simd
from kernels._jit import jit
from kernels.arrays import CACHE_LINE
from kernels.attention_launch import launch, pointer_to, worker_address
from kernels.attention_plan import WANTED_TASKS
from kernels.attention_problem import keep, make_problem, newest
from kernels.attention_products import sum_over
from kernels.attention_tiles import INF, LOG2E, TILE, pack_rows
from kernels.matmul_plan import borrow_scratch, return_scratch, round_up
from kernels.reference_attention import output_buffer
from kernels.simd import data_of, draw, fetch_add, field, max_lanes, poke, real, store, store_part, sum_lanes, vmax
from kernels.vectors import _INT, _WORD, _vector, constant, exp2, lanes, peek, sizeof, splat, vload

SPLIT = 1024             # keys per split
BLOCK = 512              # keys per step: long enough that the hardware sees streams
STREAMS = 4              # of values, read side by side
SERIAL_WORK = 1 << 18    # multiply-adds below which a second thread costs more than it brings
# fields of the int64 array that describes a call; Q, KEYS, VALUES, BIAS, OUT, LENGTHS, STARTS
# (0: none) and WORK are arrays by their identity
(B, H, HKV, T, K, V, K_PADDED, V_PADDED, Q, Q_B, Q_H, Q_T, Q_C, KEYS, K_B, K_H, K_S, K_C, VALUES, V_B, V_H, V_S, V_C,
 BIAS, BIAS_B, BIAS_H, BIAS_T, BIAS_S, OUT, OUT_B, OUT_H, OUT_T, LENGTHS, STARTS, LEFT, CAUSAL, SPLITS, TASKS, WORK, WORK_BYTES,
 THREADS, SCALE, FIELDS) = range(43)
COUNTER = round_up(FIELDS, 8)            # after the fields: the counter of tasks, then one of finished splits for each pair


@intrinsic
def dot_rows(typingctx, scores, apart, keys, stride, query, vectors, like):
    """scores[i · apart] = query · keys[i] for as many rows as a vector has lanes; `vectors` vectors per row, strides in bytes."""
    vector, word = _vector(like), _WORD[like]
    kind, count = simd._llvm(vector), vector.lanes

    def codegen(context, builder, sig, args):
        scores, apart, keys, stride, query, vectors = args[:-1]

        def load(address):
            return builder.load(simd._pointer(builder, address, kind), align=word)

        rows = [builder.add(keys, builder.mul(stride, ir.Constant(_INT, i))) for i in range(count)]

        def add(n, totals):
            offset = builder.mul(n, ir.Constant(_INT, count * word))
            part = load(builder.add(query, offset))
            return [simd._call(builder, f"llvm.fma.{simd._name(vector)}", kind, [load(builder.add(row, offset)), part, total])
                    for row, total in zip(rows, totals, strict=True)]

        summed = sum_over(builder, ir.Constant(_INT, 0), vectors, [ir.Constant(kind, None)] * count, add)
        columns = simd._transposed(builder, summed)
        while len(columns) > 1:                                 # pairwise, in a fixed order
            columns = [builder.fadd(columns[i], columns[i + 1]) for i in range(0, len(columns), 2)]
        for i in range(count):
            score = builder.extract_element(columns[0], ir.Constant(ir.IntType(32), i))
            place = builder.add(scores, builder.mul(apart, ir.Constant(_INT, i)))
            builder.store(score, simd._pointer(builder, place, score.type), align=word)
        return context.get_dummy_value()
    return types.void(*[types.int64] * 6, like), codegen


def _row_adder(width):
    """acc = factor · acc + Σ_s weights[s] values[s], `width` vectors, all sums in registers.

    STREAMS rows at a time, which lie a quarter of all apart: each goes on from row to row, so that memory reads it ahead.
    """
    @intrinsic
    def add(typingctx, acc, weights, values, stride, count, factor, like):
        vector, word = _vector(like), _WORD[like]
        kind, scalar = simd._llvm(vector), simd._SCALAR[like]

        def codegen(context, builder, sig, args):
            acc, weights, values, stride, count, factor = args[:-1]

            def place(address, j):
                return simd._pointer(builder, builder.add(address, ir.Constant(_INT, j * vector.lanes * word)), kind)

            apart = builder.sdiv(count, ir.Constant(_INT, STREAMS))

            def adder(streams):
                """Adds `streams` rows, from row n on and `apart`."""
                def add(n, totals):
                    for stream in range(streams):
                        s = builder.add(n, builder.mul(apart, ir.Constant(_INT, stream)))
                        weight = builder.add(weights, builder.mul(s, ir.Constant(_INT, word)))
                        weight = simd._splat(builder, builder.load(simd._pointer(builder, weight, scalar), align=word), vector)
                        value = builder.add(values, builder.mul(s, stride))
                        totals = [simd._call(builder, f"llvm.fma.{simd._name(vector)}", kind,
                                             [builder.load(place(value, j), align=word), weight, total])
                                  for j, total in enumerate(totals)]
                    return totals

                return add

            factor = simd._splat(builder, factor, vector)
            sums = [builder.fmul(builder.load(place(acc, j), align=word), factor) for j in range(width)]
            sums = sum_over(builder, ir.Constant(_INT, 0), apart, sums, adder(STREAMS))
            sums = sum_over(builder, builder.mul(apart, ir.Constant(_INT, STREAMS)), count, sums, adder(1))
            for j in range(width):
                builder.store(sums[j], place(acc, j), align=word)
            return context.get_dummy_value()
        return types.void(*[types.int64] * 5, like, like), codegen

    return add


_add_8, _add_4, _add_2, _add_1 = (_row_adder(width) for width in (8, 4, 2, 1))


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
    step, j = lanes(like) * sizeof(like), 0
    while j + 8 <= vectors:
        _add_8(acc + j * step, weights, values + j * step, stride, count, factor, like)
        j += 8
    if j + 4 <= vectors:
        _add_4(acc + j * step, weights, values + j * step, stride, count, factor, like)
        j += 4
    if j + 2 <= vectors:
        _add_2(acc + j * step, weights, values + j * step, stride, count, factor, like)
        j += 2
    if j < vectors:
        _add_1(acc + j * step, weights, values + j * step, stride, count, factor, like)


@jit
def decode_task(task, thread, d, work, scale):
    """One split of one (batch, key head): partial output, maximum and sum of every query that shares these keys."""
    size, step, like = sizeof(scale), lanes(scale), type(scale)(1)
    split, pair = task % d[SPLITS], task // d[SPLITS]
    b, shared, group = pair // d[HKV], pair % d[HKV], d[H] // d[HKV]
    rows = group * d[T]
    k_row, v_row = d[K_PADDED] * size, d[V_PADDED] * size
    queries = work + thread * d[WORK_BYTES]
    k_block = queries + (rows + TILE) * k_row
    v_block = k_block + BLOCK * k_row
    scores = v_block + BLOCK * v_row
    partial = work + d[THREADS] * d[WORK_BYTES] + task * rows * (d[V_PADDED] + 2 * step) * size
    length = field(data_of(d[LENGTHS]), b)
    first = max(split * SPLIT if d[SPLITS] > 1 else 0, length - d[T] - d[LEFT])
    if d[STARTS] != 0:
        first = max(first, field(data_of(d[STARTS]), b))
    last = min(length, (split + 1) * SPLIT) if d[SPLITS] > 1 else length
    for r in range(rows):
        h, t = shared * group + r // d[T], r % d[T]
        pack_rows(queries + r * k_row, d[K_PADDED], data_of(d[Q]) + b * d[Q_B] + h * d[Q_H] + t * d[Q_T], 0, d[Q_C], 1, d[K], scale)
        acc = partial + r * (d[V_PADDED] + 2 * step) * size
        for j in range(0, d[V_PADDED] + 2 * step, step):
            store(acc + j * size, constant(0.0, scale))
        poke(acc + d[V_PADDED] * size, type(scale)(-INF))
    keys_in_place = d[K] == d[K_PADDED] and d[K_C] == size
    values_in_place = d[V] == d[V_PADDED] and d[V_C] == size
    for s in range(first, last, BLOCK):
        count = min(BLOCK, last - s)
        keys, k_stride = data_of(d[KEYS]) + b * d[K_B] + shared * d[K_H] + s * d[K_S], d[K_S]
        whole = count // step * step if keys_in_place else 0    # the rest goes through a padded copy
        pack_rows(k_block, d[K_PADDED], keys + whole * k_stride, k_stride, d[K_C], count - whole, d[K], like)
        values, v_stride = data_of(d[VALUES]) + b * d[V_B] + shared * d[V_H] + s * d[V_S], d[V_S]
        if not values_in_place:
            pack_rows(v_block, d[V_PADDED], values, d[V_S], d[V_C], count, d[V], like)
            values, v_stride = v_block, v_row
        for r in range(rows):
            apart = whole // step                               # as many streams of keys as a vector has lanes
            for i in range(apart):
                dot_rows(scores + i * size, apart * size, keys + i * k_stride, apart * k_stride, queries + r * k_row,
                         d[K_PADDED] // step, scale)
            for i in range(whole, count, step):
                dot_rows(scores + i * size, size, k_block + (i - whole) * k_row, k_row, queries + r * k_row,
                         d[K_PADDED] // step, scale)
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
        bias = data_of(d[BIAS]) + b * d[BIAS_B] + h * d[BIAS_H] + t * d[BIAS_T] + s * d[BIAS_S]
        for i in range(count):
            poke(scores + i * size, peek(scores + i * size, like) + peek(bias + i * d[BIAS_S], like))
    position = length - 1 - (d[T] - 1 - t) * d[CAUSAL] - s
    for i in range(max(0, position + 1), count):
        poke(scores + i * size, type(like)(-INF))
    for i in range(0, min(count, position - d[LEFT])):
        poke(scores + i * size, type(like)(-INF))


@jit
def finish_pair(pair, d, work, like):
    """out = Σ exp(top_i - top) acc_i / Σ exp(top_i - top) total_i over the splits, in order; zeros where no key was seen."""
    size, step = sizeof(like), lanes(like)
    b, shared, group = pair // d[HKV], pair % d[HKV], d[H] // d[HKV]
    rows, splits, log2e = group * d[T], d[SPLITS], constant(LOG2E, like)
    row_bytes = (d[V_PADDED] + 2 * step) * size
    partial = work + d[THREADS] * d[WORK_BYTES] + pair * splits * rows * row_bytes
    for r in range(rows):
        first, end = partial + r * row_bytes, partial + splits * rows * row_bytes
        top = type(like)(-INF)
        for acc in range(first, end, rows * row_bytes):
            top = max(top, peek(acc + d[V_PADDED] * size, like))
        base = splat(type(like)(0) if top == -INF else top)
        total = constant(0.0, like)
        for acc in range(first, end, rows * row_bytes):
            at = acc + d[V_PADDED] * size
            weight = exp2((splat(peek(at, like)) - base) * log2e)
            store(at, weight)                                   # in place of the maximum
            total = total + weight * splat(peek(at + step * size, like))
        sum_of_all = max_lanes(total)
        factor = splat(type(like)(1) / sum_of_all if sum_of_all != 0 else type(like)(0))
        out = data_of(d[OUT]) + b * d[OUT_B] + (shared * group + r // d[T]) * d[OUT_H] + r % d[T] * d[OUT_T]
        for j in range(0, d[V], step):
            y = constant(0.0, like)
            for acc in range(first, end, rows * row_bytes):
                y = y + vload(acc + j * size, like) * vload(acc + d[V_PADDED] * size, like)
            y = y * factor
            if j + step <= d[V]:
                store(out + j * size, y)
            else:
                store_part(out + j * size, y, d[V] - j)


@jit
def drain(identity, thread, like):
    """Draw tasks from the counter until none is left."""
    address = data_of(identity)
    d = numba.carray(pointer_to(address), (FIELDS,), np.int64)
    scale = type(like)(real(address, SCALE))
    work = (data_of(d[WORK]) + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
    task = draw(address + 8 * COUNTER, d[TASKS], thread)
    while task >= 0:
        decode_task(task, thread, d, work, scale)
        pair = task // d[SPLITS]
        if fetch_add(address + 8 * (COUNTER + 8 + pair), 1) == d[SPLITS] - 1:
            finish_pair(pair, d, work, like)
        task = draw(address + 8 * COUNTER, d[TASKS], thread)


@jit
def decode_float32(plan, thread, unused, unused_too):
    drain(plan, thread, np.float32(1))


@jit
def decode_float64(plan, thread, unused, unused_too):
    drain(plan, thread, np.float64(1))


class Layout:
    """What calls with equal shapes, strides and options share: the plan but for the arrays, and the memory it takes."""

    def __init__(self, p, q, k, v):
        item = p.dtype.itemsize
        step = max(simd.LANES32 * 4 // item, 1)
        K_padded, V_padded = round_up(p.K, step), round_up(p.V, step)
        pairs, rows = p.B * p.Hkv, p.H // max(p.Hkv, 1) * p.T
        splits = max(1, -(-p.S // SPLIT)) if pairs < WANTED_TASKS else 1
        bias = (0,) * 4 if p.bias is None else p.bias.strides
        self.tasks, self.work = pairs * splits, p.B * p.H * p.T * (p.K + p.V)
        self.each = round_up(((rows + TILE + BLOCK) * K_padded + BLOCK * (V_padded + 1)) * item + CACHE_LINE, CACHE_LINE)
        self.partial = self.tasks * rows * (V_padded + 2 * step) * item
        self.plan = np.zeros(COUNTER + 8 + pairs, np.int64)
        self.plan[:Q] = p.B, p.H, p.Hkv, p.T, p.K, p.V, K_padded, V_padded
        self.plan[Q:OUT] = 0, *q.strides, 0, *k.strides, 0, *v.strides, 0, *bias
        self.plan[[LEFT, CAUSAL, SPLITS, TASKS, WORK_BYTES]] = p.left, p.right == 0, splits, self.tasks, self.each
        self.plan[SCALE:SCALE + 1].view(np.float64)[0] = p.scale
        self.worker = worker_address(sys.modules[__name__], "decode", p.dtype)

    def bytes(self, threads):
        """Of the memory that the loops work in."""
        return threads * self.each + self.partial + CACHE_LINE

    def describe(self, q, k, v, bias, out, lengths, work, threads, starts=None):
        """The int64 array that `drain` reads; it counts there which tasks are done. Keys before a batch's start are not seen."""
        d = self.plan.copy()
        d[Q], d[KEYS], d[VALUES], d[BIAS], d[OUT] = id(q), id(k), id(v), 0 if bias is None else id(bias), id(out)
        d[OUT_B], d[OUT_H], d[OUT_T], _ = out.strides
        d[LENGTHS], d[STARTS], d[WORK], d[THREADS] = id(lengths), 0 if starts is None else id(starts), id(work), threads
        return d


@jit
def threads_for(longest, work, tasks, allowed):
    """How many threads pay for so many keys, `work` multiply-adds for each."""
    return min(allowed, max(1, tasks)) if work * longest > SERIAL_WORK else 1


_layouts = {}


def decode(q, k, v, lengths, out, scale, window, bias):
    """attention_decode for a few queries in explicit vectors; checks like `make_problem`, which an unknown layout goes through."""
    lengths = np.asarray(lengths)
    key = (q.shape, q.strides, k.shape, k.strides, v.shape, v.strides, q.dtype, k.dtype, v.dtype, scale, window,
           None if bias is None else (bias.shape, bias.strides, bias.dtype))
    layout = _layouts.get(key)
    usual = lengths.dtype == np.int64 and lengths.shape == q.shape[:1] and lengths.flags.c_contiguous
    counts = lengths.tolist() if usual else [-1]
    if layout is None or min(counts, default=0) < 0 or max(counts, default=0) > k.shape[2]:
        p = make_problem(q, k, v, bias=bias, scale=scale, window=window, is_causal=True, query_offset=newest(lengths, q.shape[2]),
                         kv_lengths=lengths)
        layout, lengths, counts = keep(_layouts, key, Layout(p, q, k, v)), p.k_hi, p.k_hi.tolist()
    out = output_buffer(out, (*q.shape[:3], v.shape[3]), q.dtype, {"q": q, "k": k, "v": v, "bias": bias})
    threads = threads_for(max(counts, default=0), layout.work, layout.tasks, _threads.allowed)
    scratch = borrow_scratch(layout.bytes(threads))
    d = layout.describe(q, k, v, bias, out, lengths, scratch, threads)
    launch(threads, layout.worker, id(d))
    return_scratch(scratch)
    return out


def warmup(dtypes=("float32",)):
    """Compile, or load, a step of decoding."""
    for dtype in dtypes:
        q = np.zeros((1, 2, 1, 64), dtype)
        decode(q, q, q, [1], None, None, None, None)
