"""Matrix tiles (Intel AMX): products of float32 numbers in one bfloat16 piece a number, or in three at float32's own accuracy.

One piece is the number rounded to the nearest bfloat16: one product, an error of 2^-8 of |x·y| at most, subnormal numbers taken
for zero. Infinities and NaN stay what they are.

Three pieces: a float32 has 24 significant bits and a bfloat16 has 8, so x = x1 + x2 + x3 exactly when each piece is the rest cut
off after 8 bits. Of the nine products of pieces the six largest are kept; what is left out is below 2^-24 of |x·y|. The tile unit
adds in float32, and its error grows with the length of the sum rather than with its square root (measured against float64): callers
end a sum after some 500 numbers and add the next one with vectors. One tile instruction does 16 × 16 × 32 multiply-adds in 16
cycles; with six of them per product that is 2.6 times what two AVX-512 units do. Measured: 2.5 with zeros in the tiles, 2.0
with numbers, for which the core lowers its clock.
Idea: Henry, Tang, Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations".

A 1 KB tile holds 16 rows of 16 words of two bfloat16. There are two forms, word transposes of each other:

    left operand X[i, k]:   row i,  word k/2 = (X[i, k], X[i, k+1])
    right operand Y[k, j]:  row k/2, word j  = (Y[k, j], Y[k+1, j])

so the left form of X is the right form of Xᵀ with its words transposed. Tiles lie in memory by (block of 16, step of 32, piece).
Infinite inputs do not survive the splitting in three: callers check `all_finite` and use the vector kernels instead.
The number of pieces is the length of a tuple, ONE_PIECE or THREE_PIECES, which is part of its type: each is compiled by itself.
"""
import ctypes
import platform
import sys

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels import simd
from kernels._jit import jit
from kernels._switch import switch
from kernels.simd import store, sum_lanes
from kernels.vectors import constant, transpose_block, vload

TILE_BYTES = 1024
ONE_PIECE, THREE_PIECES = (0,), (0, 0, 0)
_BYTE, _INT, _WORDS, _HALVES = ir.IntType(8), ir.IntType(64), ir.VectorType(ir.IntType(32), 16), ir.VectorType(ir.IntType(16), 32)
_FLOATS = ir.VectorType(ir.FloatType(), 16)
# the bits of 2^-100, the smallest number that can be split, and of infinity
_SMALLEST_BITS, _INFINITY_BITS = (127 - 100) << 23, 0xFF << 23
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def _permitted():
    """Linux gives a process the tile registers when it asks; False where there are none or it may not have them."""
    if switch("TINYGRAD_LLM_AMX", "0", "1") == "0" or sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    features = simd.cpu_features()
    if simd.LANES32 != 16 or not all(features.get(name) for name in ("amx-tile", "amx-bf16", "avx512bf16")):
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0


AVAILABLE = _permitted()


def pieces_for(precision):
    """What a product in this precision is made of."""
    return ONE_PIECE if precision else THREE_PIECES


# palette 1, eight tiles of 16 rows × 64 bytes
CONFIG = np.zeros(64, np.uint8)
CONFIG[0] = 1
CONFIG[16:32:2] = 64
CONFIG[48:56] = 16


def _call(builder, name, *arguments):
    simd._call(builder, f"llvm.x86.{name}", ir.VoidType(), list(arguments))


@intrinsic
def open_tiles(typingctx, config):
    """Configure this thread's tile registers; `config` is the address of CONFIG."""
    def codegen(context, builder, sig, args):
        _call(builder, "ldtilecfg", builder.inttoptr(args[0], _BYTE.as_pointer()))
        return context.get_dummy_value()
    return types.void(types.int64), codegen


@intrinsic
def close_tiles(typingctx):
    """Give the tile registers back, so that thread switches stay cheap."""
    def codegen(context, builder, sig, args):
        _call(builder, "tilerelease")
        return context.get_dummy_value()
    return types.void(), codegen


# pieces -> (piece of the left operand, piece of the right one) of each product; neighbours share a piece, which stays loaded
_PRODUCTS = {1: ((0, 0),), 3: ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0))}
_CORNERS = [(i, j) for i in range(2) for j in range(2)]


def _number(n):
    return ir.Constant(_INT, n)


def _tile(n):
    return ir.Constant(_BYTE, n)


@intrinsic
def clear_block(typingctx):
    """The 32 × 32 sums, tiles 0 to 3, are zero."""
    def codegen(context, builder, sig, args):
        for i, j in _CORNERS:
            _call(builder, "tilezero", _tile(2 * i + j))
        return context.get_dummy_value()
    return types.void(), codegen


def _mover(name):
    @intrinsic
    def move(typingctx, C, ldc):
        def codegen(context, builder, sig, args):
            C, ldc = args
            for i, j in _CORNERS:
                address = builder.add(builder.add(C, builder.mul(ldc, _number(16 * i))), _number(64 * j))
                _call(builder, name, _tile(2 * i + j), builder.inttoptr(address, _BYTE.as_pointer()), ldc)
            return context.get_dummy_value()
        return types.void(types.int64, types.int64), codegen
    return move


load_block, store_block = _mover("tileloadd64"), _mover("tilestored64")      # the sums from, and to, 32 × 32 float32


def _adder(part, parts):
    """One of several parts, in order, of: the 32 × 32 sums += A B over one step of 32, two tiles a piece, a_step and b_step bytes
    apart."""
    @intrinsic
    def add_products(typingctx, A, a_step, B, b_step, pieces):
        def codegen(context, builder, sig, args):
            A, a_step, B, b_step, _ = args
            products = _PRODUCTS[len(pieces)]
            start, stop = (len(products) * n // parts for n in (part, part + 1))
            held = products[start - 1] if start else (None, None)

            def load(tile, start, step, i, piece):
                address = builder.add(start, builder.add(builder.mul(step, _number(i)), _number(piece * TILE_BYTES)))
                _call(builder, "tileloadd64", _tile(tile), builder.inttoptr(address, _BYTE.as_pointer()), _number(64))

            for left, right in products[start:stop]:
                for i in range(2):
                    if left != held[0]:
                        load(4 + i, A, a_step, i, left)
                    if right != held[1]:
                        load(6 + i, B, b_step, i, right)
                held = left, right
                for i, j in _CORNERS:
                    _call(builder, "tdpbf16ps", _tile(2 * i + j), _tile(4 + i), _tile(6 + j))
            return context.get_dummy_value()
        return types.void(*[types.int64] * 4, pieces), codegen

    return add_products


add_products = _adder(0, 1)
add_first_third, add_second_third, add_last_third = (_adder(part, 3) for part in range(3))


@jit
def multiply_block(C, ldc, A, a_step, B, b_step, k0, k1, start, pieces):
    """C (32 × 32 float32) = start · C + A B over the steps k0 <= k < k1 of 32, start 0 or 1.

    a_step and b_step lead to the next block of 16.
    """
    if start == 0:
        clear_block()
    else:
        load_block(C, ldc)
    for k in range(k0, k1):
        here = k * len(pieces) * TILE_BYTES
        add_products(A + here, a_step, B + here, b_step, pieces)
    store_block(C, ldc)


@jit
def multiply(C, ldc, A, B, height, width, steps, low, high, by_column, start, pieces):
    """C (height × width float32, multiples of 32, row stride ldc bytes) = start · C + A B over `steps` · 32, start 0 or 1.

    `low`, `high` cut the sum where a mask follows the diagonal: row i, or column i, needs only k in [i + low, i + high].
    """
    step = steps * len(pieces) * TILE_BYTES
    for i in range(0, height, 32):
        for j in range(0, width, 32):
            origin = j if by_column else i
            k0, k1 = max(0, (origin + low) // 32), min(steps, (origin + 31 + high) // 32 + 1)
            multiply_block(C + i * ldc + j * 4, ldc, A + i // 16 * step, step, B + j // 16 * step, step, k0, k1, start, pieces)


def make_multiply_beside(beside):
    """`multiply` of a 64 × 64 tile, uncut, but 0 in the blocks that hold no element with i + low <= j <= i + high; and meanwhile
    beside(record, n, like, pieces) for first <= n < last, on the vector units.

    A third of a step of 32 keeps the tile unit busy for 128 cycles with few instructions: there is room for others.
    """
    @jit
    def multiply_beside(C, ldc, A, B, steps, low, high, record, first, last, like, pieces):
        step, n, due, parts = steps * len(pieces) * TILE_BYTES, first, 0, 12 * steps
        for i in range(0, 64, 32):
            for j in range(0, 64, 32):
                needed = j + 31 >= i + low and j <= i + 31 + high
                clear_block()
                for k in range(steps):
                    here = k * len(pieces) * TILE_BYTES
                    a, b = A + i // 16 * step + here, B + j // 16 * step + here
                    for third in range(3):
                        if needed and third == 0:
                            add_first_third(a, step, b, step, pieces)
                        elif needed and third == 1:
                            add_second_third(a, step, b, step, pieces)
                        elif needed:
                            add_last_third(a, step, b, step, pieces)
                        due += last - first
                        while (n - first) * parts < due:
                            beside(record, n, like, pieces)
                            n += 1
                store_block(C + i * ldc + j * 4, ldc)

    return multiply_beside


# -- splitting ------------------------------------------------------------------------------------

def _cut(builder, x):
    """The leading 8 bits of each number (as bits, low half zero), and the rest, exact."""
    bits = builder.bitcast(x, _WORDS)
    high = builder.and_(bits, ir.Constant(_WORDS, [0xFFFF0000] * 16))
    return bits, high, builder.fsub(x, builder.bitcast(high, _FLOATS))


class BFloat(ir.types.HalfType):
    """LLVM's bfloat16, which llvmlite has no type for."""

    def __str__(self):
        return "bfloat"


BFloat._create_instance()


def rounded(builder, x, y, order=range(32)):
    """The nearest bfloat16, ties to even, of the 16 numbers of x, then those of y: 32 halves, in another order if one is given."""
    kind = ir.VectorType(BFloat(), 32)
    halves = builder.bitcast(simd._call(builder, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", kind, [y, x]), _HALVES)
    return builder.shuffle_vector(halves, halves, _lanes(order))


def _lanes(order):
    return ir.Constant(ir.VectorType(ir.IntType(32), 32), list(order))


IN_TURN = [lane // 2 + lane % 2 * 16 for lane in range(32)]         # x[0], y[0], x[1], y[1], ...


def _rows_side_by_side(builder, x, y, pieces):
    """For each piece 32 bfloat16: those of x, then those of y."""
    if pieces == 1:
        return [rounded(builder, x, y)]
    rows, odd = [], _lanes([*range(1, 32, 2), *range(33, 64, 2)])
    for _ in range(pieces):
        (x_bits, _, x), (y_bits, _, y) = _cut(builder, x), _cut(builder, y)
        rows.append(builder.shuffle_vector(builder.bitcast(x_bits, _HALVES), builder.bitcast(y_bits, _HALVES), odd))
    return rows


def _rows_in_turn(builder, x, y, pieces):
    """For each piece 16 words: (x[0], y[0]), (x[1], y[1]), ..."""
    if pieces == 1:
        return [rounded(builder, x, y, IN_TURN)]
    rows, half = [], ir.Constant(_WORDS, [16] * 16)
    for _ in range(pieces):
        (x_bits, _, x), (_, y_high, y) = _cut(builder, x), _cut(builder, y)
        rows.append(builder.bitcast(builder.or_(builder.lshr(x_bits, half), y_high), _HALVES))
    return rows


def _splitter(make_rows):
    """`split(target, x, y, pieces)`: for each piece a row of a tile, a tile apart."""
    @intrinsic
    def split(typingctx, target, x, y, pieces):
        def codegen(context, builder, sig, args):
            _store_rows(builder, args[0], make_rows(builder, args[1], args[2], len(pieces)))
            return context.get_dummy_value()
        return types.void(types.int64, simd.f32, simd.f32, pieces), codegen

    return split


def _store_rows(builder, target, rows):
    for piece, row in enumerate(rows):
        address = builder.add(target, _number(piece * TILE_BYTES))
        builder.store(row, builder.inttoptr(address, _HALVES.as_pointer()), align=64)


# rows of 32 bfloat16, those of x and then those of y; rows of 16 words, (x[0], y[0]), (x[1], y[1]), ...
split_side_by_side, split_in_turn = _splitter(_rows_side_by_side), _splitter(_rows_in_turn)


def _tile_splitter(across, left_form):
    @intrinsic
    def split_tile(typingctx, target, source, line, ahead, extremes, pieces):
        """16 lines × 32 k into one tile a piece; the sizes of the numbers are noted in `extremes` where they matter.

        Lines lie `line` bytes apart, or k do and 16 lines side by side (`across`). What lies `ahead` bytes on is asked for.
        """
        def codegen(context, builder, sig, args):
            target, source, line, ahead, extremes, _ = args

            def vector(half, number):
                row, offset = (16 * half + number, 0) if across else (number, 64 * half)
                start = builder.add(builder.add(source, builder.mul(line, _number(row))), _number(offset))
                simd._prefetch(builder, builder.add(start, ahead), level=2)
                return builder.load(builder.inttoptr(start, _FLOATS.as_pointer()), align=4)

            squares = [[vector(half, number) for number in range(16)] for half in range(2)]
            if across == left_form:                       # they lie the other way round
                squares = [simd._transposed(builder, square) for square in squares]
            if left_form:
                pairs, make_rows = list(zip(*squares)), _rows_side_by_side
            else:
                pairs, make_rows = [square[n : n + 2] for square in squares for n in range(0, 16, 2)], _rows_in_turn
            for i, (x, y) in enumerate(pairs):
                _store_rows(builder, builder.add(target, _number(64 * i)), make_rows(builder, x, y, len(pieces)))
            if len(pieces) > 1:
                _note_sizes(builder, extremes, [x for square in squares for x in square])
            return context.get_dummy_value()
        return types.void(*[types.int64] * 5, pieces), codegen

    return split_tile


split_left_along, split_left_across = _tile_splitter(False, True), _tile_splitter(True, True)
split_right_along, split_right_across = _tile_splitter(False, False), _tile_splitter(True, False)


def _extremes(builder, address):
    """Pointers to the smallest and to the largest sizes noted, lane by lane."""
    return [builder.inttoptr(builder.add(address, _number(offset)), _WORDS.as_pointer()) for offset in (0, 64)]


def _note_sizes(builder, extremes, numbers):
    """A number's size: its bits without the sign, doubled; zero is no small number."""
    lows, highs = _extremes(builder, extremes)
    low, high = builder.load(lows, align=4), builder.load(highs, align=4)
    for x in numbers:
        size = builder.shl(builder.bitcast(x, _WORDS), ir.Constant(_WORDS, [1] * 16))
        high = simd._call(builder, "llvm.umax.v16i32", _WORDS, [high, size])
        low = simd._call(builder, "llvm.umin.v16i32", _WORDS, [low, builder.sub(size, ir.Constant(_WORDS, [1] * 16))])
    builder.store(low, lows, align=4)
    builder.store(high, highs, align=4)


@intrinsic
def tame(typingctx, extremes):
    """Whether all numbers noted since the last call can be split, and forget them."""
    def codegen(context, builder, sig, args):
        lows, highs = _extremes(builder, args[0])
        low, high = builder.load(lows, align=4), builder.load(highs, align=4)
        fine = builder.and_(builder.icmp_unsigned(">=", low, ir.Constant(_WORDS, [2 * _SMALLEST_BITS - 1] * 16)),
                            builder.icmp_unsigned("<", high, ir.Constant(_WORDS, [2 * _INFINITY_BITS] * 16)))
        builder.store(ir.Constant(_WORDS, [-1] * 16), lows, align=4)
        builder.store(ir.Constant(_WORDS, [0] * 16), highs, align=4)
        return builder.icmp_unsigned("==", builder.bitcast(fine, ir.IntType(16)), ir.Constant(ir.IntType(16), 0xFFFF))
    return types.boolean(types.int64), codegen


@jit
def split_left(target, source, stride, height, width, like, pieces):
    """Left form of source[i, k], height (multiple of 16) × width (multiple of 32) float32."""
    steps = width // 32
    for i in range(height):
        for k in range(steps):
            x = source + i * stride + k * 128
            tile = target + (i // 16 * steps + k) * len(pieces) * TILE_BYTES + i % 16 * 64
            split_side_by_side(tile, vload(x, like), vload(x + 64, like), pieces)


@jit
def split_right(target, source, stride, height, width, like, pieces):
    """Right form of source[k, j], height (multiple of 32) × width (multiple of 16) float32."""
    steps = height // 32
    for k in range(0, height, 2):
        for j in range(width // 16):
            x = source + k * stride + j * 64
            tile = target + (j * steps + k // 32) * len(pieces) * TILE_BYTES + k % 32 // 2 * 64
            split_in_turn(tile, vload(x, like), vload(x + stride, like), pieces)


@jit
def transpose_words(target, source, count, like):
    """The other form of the transpose, tile by tile: left form of X -> right form of Xᵀ, and back."""
    for t in range(count):
        transpose_block(source + t * TILE_BYTES, 64, target + t * TILE_BYTES, 64, like)


@jit
def all_finite(source, count, like):
    """Whether `count` numbers (a multiple of 16) hold neither infinity nor NaN."""
    total, zero = constant(0.0, like), constant(0.0, like)
    for i in range(count // 16):
        total = total + vload(source + 64 * i, like) * zero
    return sum_lanes(total) == 0


@jit
def add_tile(C, source, height, width, like):
    """C += source, both `width` (a multiple of 16) float32 wide and dense."""
    for i in range(height * width // 16):
        store(C + 64 * i, vload(C + 64 * i, like) + vload(source + 64 * i, like))
