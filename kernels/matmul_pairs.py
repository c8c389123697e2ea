"""bfloat16 products on vectors, for hosts that have them there and no matrix tiles: AVX-512's `vdpbf16ps`.

One instruction adds two neighbours of k to 16 sums:   sum[j] += A[i, k] B[k, j] + A[i, k+1] B[k+1, j]

so a packed line holds words of two bfloat16, (X[k], X[k+1]), and k takes half the steps of `matmul_tile`; all else is the float32
product. Sums are float32; subnormal numbers count as zero. On Zen 4 and 5 and Cooper Lake that is twice float32's multiply-adds a
cycle (uops.info). Newer Intel cores, which have the tiles, do half of that: there the rounded copies of `bfloat16` are faster.
TINYGRAD_LLM_PAIRS=1 takes the instruction wherever it exists, 0 nowhere.
"""
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from . import simd
from ._jit import jit
from ._switch import switch
from .amx import IN_TURN, BFloat, rounded
from .simd import load_f32, load_part_f32, splat_f32, store, store_part

FAST_ON = ("znver4", "znver5", "cooperlake")          # LLVM's names
NARROW = 8                                    # numbers in a line of a packed A: two lines fill a vector


def _pays():
    """Whether the host has the instruction, and does it as fast as one multiply-add."""
    asked = switch("TINYGRAD_LLM_PAIRS", "0", "1")
    there = simd.LANES32 == 16 and bool(simd.cpu_features().get("avx512bf16"))
    return there and asked != "0" and (asked == "1" or simd.cpu_name() in FAST_ON)


AVAILABLE = _pays()


def add_pairs(builder, a, b, total):
    """total + the products of 16 pairs of bfloat16."""
    pairs = ir.VectorType(BFloat(), 32)
    return simd._call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", total.type,
                      [total, builder.bitcast(a, pairs), builder.bitcast(b, pairs)])


def _pairer(order):
    @intrinsic
    def pair(typingctx, x, y):
        def codegen(context, builder, sig, args):
            return builder.bitcast(rounded(builder, *args, order), simd._llvm(simd.f32))
        return simd.f32(simd.f32, simd.f32), codegen
    return pair


# of two lines, x and y: words (x[i], y[i]). Of four short ones, x[:8], x[8:], y[:8], y[8:]: (x[i], x[8 + i]), then (y[i], y[8 + i])
pair_lines = _pairer(IN_TURN)
pair_short_lines = _pairer([first + i + 8 * second for first in (0, 16) for i in range(8) for second in (0, 1)])


@jit
def make_pairs(k, count, at, to):
    """k packed lines of `count` float32 become (k + 1) // 2 lines of words, in place or before them; what is missing is zero."""
    size = 4 * count
    if count == NARROW:
        for n in range(0, k, 4):
            x = load_part_f32(at + n * size, min(k - n, 2) * NARROW)
            y = load_part_f32(at + n * size + 64, min(max(k - n - 2, 0), 2) * NARROW)
            store_part(to, pair_short_lines(x, y), min(k - n + 1, 4) // 2 * NARROW)
            to += 64
        return
    for n in range(0, k, 2):
        for i in range(0, size, 64):
            x = load_f32(at + n * size + i)
            y = load_f32(at + (n + 1) * size + i) if n + 1 < k else splat_f32(np.float32(0))
            store(to, pair_lines(x, y))
            to += 64


@jit
def leave(k, count, at, to):
    """Packed lines stay as they are: what other products do in its place."""
