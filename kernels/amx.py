"""Matrix tiles (Intel AMX) for float32 work: three bfloat16 pieces per number, six products, float32's own accuracy.

A float32 has 24 significant bits and a bfloat16 has 8, so x = x1 + x2 + x3 exactly when each piece is the rest cut off after
8 bits. Of the nine products of pieces the six largest are kept; what is left out is below 2^-24 of |x·y|. The tile unit adds
in float32. Small products are added first, so that they round at their own size. One tile instruction does 16 × 16 × 32
multiply-adds in 16 cycles; with six of them per product that is 2.6 times what two AVX-512 units do (measured: 2.5).
Idea: Henry, Tang, Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations".

A 1 KB tile holds 16 rows of 16 words of two bfloat16. There are two forms, word transposes of each other:

    left operand X[i, k]:   row i,  word k/2 = (X[i, k], X[i, k+1])
    right operand Y[k, j]:  row k/2, word j  = (Y[k, j], Y[k+1, j])

so the left form of X is the right form of Xᵀ with its words transposed. Tiles lie in memory by (block of 16, step of 32, piece).
Infinite inputs do not survive the splitting: callers check `all_finite` and use the vector kernels instead.
"""
import ctypes
import os
import platform
import sys

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels import simd
from kernels._jit import jit
from kernels.attention_vectors import constant, transpose_block, vload
from kernels.simd import store, sum_lanes

TILE_BYTES = 1024
PIECES = 3
_BYTE, _INT, _WORDS, _HALVES = ir.IntType(8), ir.IntType(64), ir.VectorType(ir.IntType(32), 16), ir.VectorType(ir.IntType(16), 32)
_FLOATS = ir.VectorType(ir.FloatType(), 16)
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def _permitted():
    """Linux gives a process the tile registers when it asks; False where there are none or it may not have them."""
    if os.environ.get("TINYGRAD_LLM_AMX") == "0" or sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    features = llvm.get_host_cpu_features()
    if simd.LANES32 != 16 or not (features.get("amx-tile") and features.get("amx-bf16")):
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0


AVAILABLE = _permitted()

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


# (piece of the left operand, piece of the right one): the small products first; neighbours share a piece, which stays loaded
_PRODUCTS = ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2)), ((0, 0),)


@intrinsic
def multiply_block(typingctx, C, ldc, A, a_step, B, b_step, k0, k1):
    """C (32 × 32 float32) = A B over the steps k0 <= k < k1 of 32; a_step and b_step lead to the next block of 16."""
    corners = [(i, j) for i in range(2) for j in range(2)]

    def codegen(context, builder, sig, args):
        C, ldc, A, a_step, B, b_step, k0, k1 = args
        row = ir.Constant(_INT, 64)

        def number(n):
            return ir.Constant(_INT, n)

        def tile(n):
            return ir.Constant(_BYTE, n)

        def pointer(address):
            return builder.inttoptr(address, _BYTE.as_pointer())

        for n in range(4):
            _call(builder, "tilezero", tile(n))
        for products in _PRODUCTS:
            before = builder.block
            loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed("<", k0, k1), loop, done)
            builder.position_at_end(loop)
            k = builder.phi(_INT)
            k.add_incoming(k0, before)
            offset = builder.mul(k, number(PIECES * TILE_BYTES))
            held = (None, None)

            def at(start, step, i, piece, offset=offset):
                line = builder.add(builder.mul(step, number(i)), number(piece * TILE_BYTES))
                return builder.add(builder.add(start, offset), line)

            for left, right in products:
                for i in range(2):
                    if left != held[0]:
                        a = at(A, a_step, i, left)
                        _call(builder, "tileloadd64", tile(4 + i), pointer(a), row)
                    if right != held[1]:
                        b = at(B, b_step, i, right)
                        _call(builder, "tileloadd64", tile(6 + i), pointer(b), row)
                held = left, right
                for i, j in corners:
                    _call(builder, "tdpbf16ps", tile(2 * i + j), tile(4 + i), tile(6 + j))
            following = builder.add(k, number(1))
            k.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, k1), loop, done)
            builder.position_at_end(done)
        for i, j in corners:
            corner = builder.add(builder.add(C, builder.mul(ldc, number(16 * i))), number(64 * j))
            _call(builder, "tilestored64", tile(2 * i + j), pointer(corner), ldc)
        return context.get_dummy_value()
    return types.void(*[types.int64] * 8), codegen


@jit
def multiply(C, ldc, A, B, height, width, steps, low, high, by_column):
    """C (height × width float32, multiples of 32, row stride ldc bytes) = A B over `steps` · 32.

    `low`, `high` cut the sum where a mask follows the diagonal: row i, or column i, needs only k in [i + low, i + high].
    """
    step = steps * PIECES * TILE_BYTES
    for i in range(0, height, 32):
        for j in range(0, width, 32):
            origin = j if by_column else i
            k0, k1 = max(0, (origin + low) // 32), min(steps, (origin + 31 + high) // 32 + 1)
            multiply_block(C + i * ldc + j * 4, ldc, A + i // 16 * step, step, B + j // 16 * step, step, k0, k1)


@jit
def multiply_band(C, ldc, A, B, height, width, steps, low, high):
    """As `multiply`, uncut, but 0 in the blocks that hold no element with i + low <= j <= i + high."""
    step = steps * PIECES * TILE_BYTES
    for i in range(0, height, 32):
        for j in range(0, width, 32):
            needed = j + 31 >= i + low and j <= i + 31 + high
            multiply_block(C + i * ldc + j * 4, ldc, A + i // 16 * step, step, B + j // 16 * step, step, 0, steps if needed else 0)


# -- splitting ------------------------------------------------------------------------------------

def _cut(builder, x):
    """The leading 8 bits of each number (as bits, low half zero), and the rest, exact."""
    bits = builder.bitcast(x, _WORDS)
    high = builder.and_(bits, ir.Constant(_WORDS, [0xFFFF0000] * 16))
    return bits, high, builder.fsub(x, builder.bitcast(high, _FLOATS))


@intrinsic
def split_side_by_side(typingctx, target, x, y):
    """Three rows of 32 bfloat16, one per piece and tile: those of x, then those of y."""
    def codegen(context, builder, sig, args):
        target, x, y = args
        odd = ir.Constant(ir.VectorType(ir.IntType(32), 32), [*range(1, 32, 2), *range(33, 64, 2)])
        for piece in range(PIECES):
            (x_bits, _, x), (y_bits, _, y) = _cut(builder, x), _cut(builder, y)
            row = builder.shuffle_vector(builder.bitcast(x_bits, _HALVES), builder.bitcast(y_bits, _HALVES), odd)
            address = builder.add(target, ir.Constant(_INT, piece * TILE_BYTES))
            builder.store(row, builder.inttoptr(address, _HALVES.as_pointer()), align=64)
        return context.get_dummy_value()
    return types.void(types.int64, simd.f32, simd.f32), codegen


@intrinsic
def split_in_turn(typingctx, target, x, y):
    """Three rows of 16 words, one per piece and tile: (x[0], y[0]), (x[1], y[1]), ..."""
    def codegen(context, builder, sig, args):
        target, x, y = args
        half = ir.Constant(_WORDS, [16] * 16)
        for piece in range(PIECES):
            (x_bits, _, x), (_, y_high, y) = _cut(builder, x), _cut(builder, y)
            row = builder.or_(builder.lshr(x_bits, half), y_high)
            address = builder.add(target, ir.Constant(_INT, piece * TILE_BYTES))
            builder.store(row, builder.inttoptr(address, _WORDS.as_pointer()), align=64)
        return context.get_dummy_value()
    return types.void(types.int64, simd.f32, simd.f32), codegen


@jit
def split_left(target, source, stride, height, width, like):
    """Left form of source[i, k], height (multiple of 16) × width (multiple of 32) float32."""
    steps = width // 32
    for i in range(height):
        for k in range(steps):
            x = source + i * stride + k * 128
            tile = target + (i // 16 * steps + k) * PIECES * TILE_BYTES + i % 16 * 64
            split_side_by_side(tile, vload(x, like), vload(x + 64, like))


@jit
def split_right(target, source, stride, height, width, like):
    """Right form of source[k, j], height (multiple of 32) × width (multiple of 16) float32."""
    steps = height // 32
    for k in range(0, height, 2):
        for j in range(width // 16):
            x = source + k * stride + j * 64
            tile = target + (j * steps + k // 32) * PIECES * TILE_BYTES + k % 32 // 2 * 64
            split_in_turn(tile, vload(x, like), vload(x + stride, like))


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
