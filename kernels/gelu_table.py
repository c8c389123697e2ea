"""GELU and its slope from tables in registers, for float32 on hosts whose vectors have 16 lanes (AVX-512).

    gelu(x) = max(x, 0) - a gate(a),   gate(a) = Φ(-a),                                a = |x|
    gelu'(x) = slope(a) for x < 0, 1 - slope(a) for the others,   slope(a) = Φ(-a) - a φ(a)

and with tanh's approximation of Φ. gate and slope are smooth, and nothing beyond 6: they are cut into 32 pieces, one around each
multiple of 1/5, each a polynomial of degree 4. The 32 coefficients of one degree fill two registers, and one instruction
(vpermi2ps) finds in them what every lane needs: 15 operations for 16 numbers, where the formulas of `activation` take 25 to 28.
For x << 0 this is zero minus a small number, and not the difference of large ones.
"""
import math

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from . import simd
from ._jit import jit
from .simd import LANES32, bits, f32, fma, i32, select, splat_f32, vabs, vmax, vmin

AVAILABLE = LANES32 == 16 and simd.cpu_features().get("avx512f", False)
PIECES, DEGREE, PER_UNIT = 32, 4, np.float32(5)
END = (PIECES - 1) / PER_UNIT                        # from here on gate and slope are 0
MAGIC = np.float32(1.5 * 2**23)                      # adding this rounds a float32 to an integer, which then lies in its low bits


def _normal(a):
    """Φ(-a) and φ(a)."""
    return 0.5 * math.erfc(a * math.sqrt(0.5)), math.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)


def _logistic(a):
    """What stands for Φ(-a) with tanh, σ(-2u) of u = √(2/π) (a + 0.044715 a³); and how fast it falls."""
    scale = 2 * math.sqrt(2 / math.pi)
    gate = 1 / (1 + math.exp(scale * (a + 0.044715 * a**3)))
    return gate, gate * (1 - gate) * scale * (1 + 3 * 0.044715 * a * a)


def _slope(gate_and_fall, a):
    gate, fall = gate_and_fall(a)
    return gate - a * fall


def _coefficients(curve):
    """(DEGREE + 1, PIECES): the polynomial in 5a - n that meets the curve at Chebyshev's nodes of piece n."""
    nodes = np.cos((np.arange(DEGREE + 1) + 0.5) * math.pi / (DEGREE + 1)) / 2
    values = [[curve((n + u) / float(PER_UNIT)) for n in range(PIECES - 1)] + [0.0] for u in nodes]
    return np.linalg.solve(np.vander(nodes, increasing=True), np.array(values)).astype(np.float32)


def _finder(numbers):
    """`find(index)`: for each lane the one of 32 numbers that the low five bits of its index name."""
    @intrinsic
    def find(typingctx, index):
        def codegen(context, builder, sig, args):
            halves = [ir.Constant(simd._llvm(f32), [float(x) for x in half]) for half in np.split(numbers, 2)]
            return simd._call(builder, "llvm.x86.avx512.vpermi2var.ps.512", simd._llvm(f32), [halves[0], args[0], halves[1]])
        return f32(i32), codegen
    return find


def _make_curve(curve):
    """The curve for a vector of numbers from 0 to END."""
    f0, f1, f2, f3, f4 = (_finder(row) for row in _coefficients(curve))

    @jit
    def at(a):
        shifted = fma(a, splat_f32(PER_UNIT), splat_f32(MAGIC))
        n, u = bits(shifted), fma(a, splat_f32(PER_UNIT), -(shifted - MAGIC))
        return fma(fma(fma(fma(f4(n), u, f3(n)), u, f2(n)), u, f1(n)), u, f0(n))

    return at


def _make_functions(gate_and_fall):
    """GELU, and GELU with its slope, from vector to vector."""
    gate, slope = _make_curve(lambda a: gate_and_fall(a)[0]), _make_curve(lambda a: _slope(gate_and_fall, a))

    @jit
    def value(x):
        a = vmin(splat_f32(END), vabs(x))                    # NaN stays
        return fma(-a, gate(a), vmax(splat_f32(0), x))

    @jit
    def both(x):
        d = slope(vmin(splat_f32(END), vabs(x)))
        return value(x), select(x < np.float32(0), d, np.float32(1) - d)

    return value, both


FUNCTIONS = {"none": _make_functions(_normal), "tanh": _make_functions(_logistic)}
