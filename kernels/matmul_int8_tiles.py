"""`matmul_int8` on matrix tiles (Intel AMX): the weights go from memory into the tile unit as they are.

A tile instruction multiplies 16 rows × 64 numbers of eight bits with 64 × 16 others and adds in int32, exactly. The weights are the
left operand: 16 rows of q as they lie in memory. x becomes the right one: with 2^e the power of two above a row's largest size,

    x / 2^(e-30) = d0 + 256 d1 + 256² d2 + 256³ d3,   |d| <= 128

moves x by 2^(e-31) at most, where float32's own rounding of the largest number is up to 2^(e-25); numbers down to 2^-7 of the
largest are exact. A column is one digit of one row, so four rows fill a tile, and one row takes one instruction, 16 cycles, for
1 KB of weights: with up to 16 rows memory sets the pace. The four sums are put together in float64.

Wild rows are for the loops on vectors: those with infinity or NaN, and those where few numbers are anywhere near the largest, so
that a weight of 0 beside that one would leave a sum of numbers that have lost their last digits.
"""

import math

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from . import amx, simd
from ._jit import jit
from .amx import TILE_BYTES, clear_block, close_tiles, open_tiles, store_block
from .simd import draw, field, pointer_f32, pointer_i32, poke, prefetch_second, real
from .vectors import take, transpose_block

from .matmul_plan import (  # isort: skip
    BLOCK_M, BLOCK_N, CHUNKS, FIELDS, K, M, N, P_A, P_B, P_BIAS, P_C, P_COUNTER, P_RES, PIECE, ROW_C, SCRATCH, SHARED, TASKS_M,
    TASKS_N, ceil_div, host_caches, round_up,
)

AVAILABLE = amx.AVAILABLE and bool(simd.cpu_features().get("amx-int8"))
DEPTH, ROWS, TOGETHER = 64, 4, 64             # k of a step; rows of x in a tile; most rows of q at a time
BITS, BALANCE = 30, 0x00808080                # of the largest number; adding it and taking it off by bits makes digits signed
MOST_DEPTH = 1 << 16                          # sums of so many products of eight bits fit in 32
TASK_BYTES = 1 << 17                          # of q, for one task
AHEAD = 48 << 10                              # bytes from what is read to what is asked for, line by line
SIZE, INFINITY = np.int32(0x7FFFFFFF), 0x7F800000             # the bits of a number but for its sign; of infinity
NEAR, FEWEST = 9 << 23, 4                     # in a tame row one number in FEWEST that are not 0 is above 2^-9 of the largest


def _adder(pairs):
    """For (row block, column block) pairs: the n-th of them += q x, into tile n."""
    @intrinsic
    def add_products(typingctx, q, row_q, x, step_x):
        def codegen(context, builder, sig, args):
            q, row_q, x, step_x = args
            number, held = amx._number, {}

            def load(register, start, stride, index, line):
                if held.get(register) != index:
                    address = builder.inttoptr(builder.add(start, builder.mul(stride, number(index))), ir.IntType(8).as_pointer())
                    amx._call(builder, "tileloadd64", amx._tile(register), address, line)
                    held[register] = index

            for n, (i, j) in enumerate(pairs):
                load(4 + i % 2, q, builder.mul(row_q, number(16)), i, row_q)
                load(6 + j, x, step_x, j, number(64))
                amx._call(builder, "tdpbssd", amx._tile(n), amx._tile(4 + i % 2), amx._tile(6 + j))
            return context.get_dummy_value()
        return types.void(*[types.int64] * 4), codegen

    return add_products


# 64 rows of q where one tile holds all of x, else 32: four sums side by side, since each takes 52 cycles until it can go on
TALL, WIDE, HALF = [(i, 0) for i in range(4)], [(i, j) for i in range(2) for j in range(2)], [(0, 0), (1, 0)]
add_tall, add_wide, add_half = _adder(TALL), _adder(WIDE), _adder(HALF)


@intrinsic
def put_digits(typingctx, target, x, factor):
    """The digits of 16 numbers times a factor: for each 4 neighbours along k 16 bytes, digit by digit, a row of a tile apart."""
    def codegen(context, builder, sig, args):
        target, x, factor = args
        wide, words, octets = (ir.VectorType(kind, 16) for kind in (ir.DoubleType(), ir.IntType(32), ir.IntType(8)))
        factors = simd._splat(builder, factor, simd.Vector(types.float64, 16))
        whole = simd._call(builder, "llvm.rint.v16f64", wide, [builder.fmul(builder.fpext(x, wide), factors)])
        balance = ir.Constant(words, [BALANCE] * 16)
        digits = builder.xor(builder.add(builder.fptosi(whole, words), balance), balance)
        octet = ir.VectorType(ir.IntType(8), 64)
        digits = builder.bitcast(digits, octet)
        for group in range(4):
            order = [(4 * group + k) * 4 + digit for digit in range(4) for k in range(4)]
            part = builder.shuffle_vector(digits, digits, ir.Constant(words, order))
            place = builder.inttoptr(builder.add(target, amx._number(64 * group)), octets.as_pointer())
            builder.store(part, place, align=16)
        return context.get_dummy_value()
    return types.void(types.int64, simd.f32, types.float64), codegen


@jit
def largest(bits, depth):
    """The bits of the largest size in a row; -1 for a wild one."""
    top, near, some = np.int32(0), 0, 0
    for k in range(depth):
        top = max(top, bits[k] & SIZE)
    if top >= INFINITY:
        return np.int32(-1)
    low = top - NEAR
    for k in range(depth):
        size = bits[k] & SIZE
        near += size > low
        some += size > 0
    return top if FEWEST * near >= some else np.int32(-1)


@jit
def put_rows(x, rows, depth, to, steps, like):
    """x (rows, depth) as digits in tiles, and behind them what a row's digits are worth, 0 for wild rows. How many those are."""
    values, wild = to + ceil_of(rows, ROWS) * steps * TILE_BYTES, 0
    for m in range(rows):
        row = x + m * 4 * depth
        top = largest(carray(pointer_i32(row), (depth,)), depth)
        if top < 0:
            poke(values + 8 * m, 0.0)
            wild += 1
            continue
        exponent = max(top >> 23, 1) - 126                    # the number is below 2^exponent
        factor = math.ldexp(1.0, BITS - exponent)
        poke(values + 8 * m, math.ldexp(1.0, exponent - BITS))
        tile = to + m // ROWS * steps * TILE_BYTES + m % ROWS * 16
        for k in range(0, steps * DEPTH, 16):
            here = row + 4 * k
            numbers = take(here, depth - k, like)
            put_digits(tile + k // DEPTH * TILE_BYTES + k % DEPTH * 16, numbers, factor)
    return wild


@jit
def ceil_of(x, y):
    return (x + y - 1) // y


@jit
def put_together(sums, values, rows, scale, bias, out, row_out, count):
    """Up to 4 rows × 16 numbers of the result: sums holds row 4 r + d: what digit d of row r gives."""
    scales = carray(pointer_f32(scale), (count,))
    for r in range(rows):
        value = real(values, r)
        digits, y = carray(pointer_i32(sums + 256 * r), (4, 16)), carray(pointer_f32(out + r * row_out), (count,))
        for j in range(count):
            total = np.float64(digits[0, j]) + 256.0 * digits[1, j] + 65536.0 * digits[2, j] + 16777216.0 * digits[3, j]
            y[j] = np.float32(total * (value * scales[j]))
        if bias != 0:
            added = carray(pointer_f32(bias), (count,))
            for j in range(count):
                y[j] += added[j]


peek_octet = simd._scalar_loader(types.int8)


@jit
def copy_rows(q, row_q, rows, depth, to, row_to):
    """So many rows of q, zeros after them."""
    for i in range(TOGETHER):
        for k in range(0, row_to, 8):
            poke(to + i * row_to + k, np.int64(0))
        if i < rows:
            for k in range(depth):
                poke(to + i * row_to + k, peek_octet(q + i * row_q + k))


@jit
def add_up(tall, wide, steps, q, row_q, x, line, ask, sums):
    """Sums of up to 4 tiles, those of 32 × 32 if wide; what will be read after this is asked for, where `ask` is not 0."""
    clear_block()
    for s in range(steps):
        if ask != 0:
            for ahead in range(0, 16 * (4 if tall else 2) * DEPTH, 64):
                prefetch_second(ask + ahead)
            ask += 16 * (4 if tall else 2) * DEPTH
        if tall:
            add_tall(q + s * DEPTH, row_q, x + s * TILE_BYTES, line)
        elif wide:
            add_wide(q + s * DEPTH, row_q, x + s * TILE_BYTES, line)
        else:
            add_half(q + s * DEPTH, row_q, x + s * TILE_BYTES, line)
    store_block(sums, 128)


@jit
def worker(plan, args, thread, scratch):
    """Take blocks of rows of q, for a block of rows of x, until none is left; P_RES holds the scales, P_BIAS the bias or 0."""
    rows, n, depth = field(plan, M), field(plan, N), field(plan, K)
    block_m, block_n, tasks_n = field(plan, BLOCK_M), field(plan, BLOCK_N), field(plan, TASKS_N)
    px, pq, out = field(args, P_A), field(args, P_B), field(args, P_C)
    scale, bias, row_out = field(args, P_RES), field(args, P_BIAS), field(plan, ROW_C)
    steps, tiles = ceil_of(depth, DEPTH), ceil_of(rows, ROWS)
    values, line = px + tiles * steps * TILE_BYTES, steps * TILE_BYTES
    sums, turned, aside = scratch, scratch + 4096, scratch + 5120
    tall = tiles == 1
    together = TOGETHER if tall else TOGETHER // 2
    open_tiles(field(plan, FIELDS))
    task = draw(args + 8 * P_COUNTER, tasks_n * field(plan, TASKS_M), thread)
    while task >= 0:
        first, start = task // tasks_n * block_m, task % tasks_n * block_n
        for j in range(start, min(start + block_n, n), together):
            q, row_q, here = pq + j * depth, depth, min(together, n - j)
            if here < together or (depth % DEPTH != 0 and j + together >= n):       # nothing past the array is read
                copy_rows(q, row_q, here, depth, aside, steps * DEPTH)
                q, row_q = aside, steps * DEPTH
            for t in range(first // ROWS, min((first + block_m) // ROWS, tiles), 2):
                wide = t + 1 < tiles
                add_up(tall, wide, steps, q, row_q, px + t * line, line, pq + j * depth + AHEAD if t == 0 else 0, sums)
                for tile in range(4 if tall or wide else 2):
                    i, r = (tile // 2, t + tile % 2) if wide else (tile, t)
                    c = j + 16 * i
                    if 16 * i < here:
                        transpose_block(sums + tile // 2 * 2048 + tile % 2 * 64, 128, turned, 64, np.float32(0))
                        put_together(turned, values + 8 * ROWS * r, min(ROWS, rows - ROWS * r), scale + 4 * c,
                                     bias + 4 * c if bias != 0 else 0, out + ROWS * r * row_out + 4 * c, row_out, min(16, n - c))
        task = draw(args + 8 * P_COUNTER, tasks_n * field(plan, TASKS_M), thread)
    close_tiles()


def make_plan(rows, n, depth):
    """The plan for `worker`; SHARED: where the digits lie, behind what the threads have for themselves."""
    plan = np.zeros(FIELDS + 1, np.int64)
    line = round_up(depth, DEPTH)
    block_m = round_up(min(rows, max(8, host_caches()[1] // 2 // (4 * line) // 8 * 8)), 8)
    block_n = round_up(max(TOGETHER, TASK_BYTES // line), TOGETHER)
    plan[[M, N, K, BLOCK_M, BLOCK_N, ROW_C]] = rows, n, depth, block_m, block_n, 4 * n
    plan[[TASKS_M, TASKS_N, CHUNKS]] = ceil_div(rows, block_m), ceil_div(n, block_n), 1
    plan[PIECE] = block_n * depth if rows <= block_m else 0
    plan[SCRATCH] = round_up(5120 + TOGETHER * line, 64)
    plan[SHARED] = round_up(rows, ROWS) * (4 * line + 8) + 64
    plan[FIELDS] = amx.CONFIG.ctypes.data
    plan.flags.writeable = False
    return plan
