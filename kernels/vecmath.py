"""exp, expm1, tanh, erf, softplus, the logistic function and the normal tail for one number, in a form LLVM turns into vectors.

The loops of the row kernels call these scalar functions; LLVM inlines them and, because they are straight lines of
multiply-adds and selects with no branch, computes 16 at a time. libm's exp inside such a loop stays scalar: softmax is then
four times slower. Over the whole range, infinities, NaN and denormals included, float32 results are within 2 ulp
(tests/kernels/test_vecmath.py walks every exponent); float64 exp is too, and the other float64 functions come from it or libm.

The steps to exp: write x = n ln 2 + r with |r| <= ln 2 / 2, so eˣ = 2ⁿ eʳ. Adding 1.5 · 2²³ to a float32 rounds it to an integer
and leaves that in its low bits, so n costs an addition, and 2ⁿ a shift. eʳ - 1 = r + r² P(r), P of degree 4, fitted for the
least relative error over the interval. The sum must be rounded as written, so this file is compiled without re-association.
"""
import math

import numpy as np

from ._jit import COMPILED, jit

# no reassoc here: it would fold (x + SHIFT) - SHIFT back to x
rounded = jit(fastmath={"contract"}, forceinline=True)

F = np.float32
SHIFT32, SHIFT64 = F(1.5 * 2**23), np.float64(1.5 * 2**52)
BIASED32 = F(1.5 * 2**23 + 127)                       # the same, and leaves n + 127, the exponent's bits
LOG2E32, LOG2E64 = F(math.log2(math.e)), math.log2(math.e)
LN2_HIGH32, LN2_LOW32 = F(0.693359375), F(-2.12194440e-4)
LN2_HIGH64, LN2_LOW64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
E0, E1, E2, E3, E4 = F(0.49999997), F(0.16666542), F(0.041667204), F(0.008366647), F(0.0013882498)
# 2^r for |r| <= 1/2
P1, P2, P3, P4, P5, P6 = F(0.6931472), F(0.24022646), F(0.055503286), F(0.009618489), F(0.0013399931), F(0.00015345812)
# (tanh(x) - x) / x³ in x² up to 0.45
T0, T1, T2, T3 = F(-0.33333248), F(0.13329199), F(-0.053339437), F(0.018013928)
# log(1 + e) / e in e up to 1
L1, L2, L3, L4, L5, L6, L7, L8, L9 = (F(-0.499999), F(0.33329964), F(-0.24954134), F(0.19675939), F(-0.1530559),
                                      F(0.106036514), F(-0.0569595), F(0.019851444), F(-0.0032440212))
# (log(1 + eˣ) - log 2 - x/2) / x² in x² up to 1
S0, S1, S2, S3, S4 = F(0.125), F(-0.0052082846), F(0.00034699406), F(-2.5879726e-05), F(1.6807919e-06)
LN2 = F(math.log(2))
# erf(x)/x - 1 in x² up to 1, log erfc(x) / x in x beyond
N0, N1, N2, N3, N4, N5, N6 = (F(0.12837917), F(-0.37612626), F(0.112835854), F(-0.026853813), F(0.005188328),
                              F(-0.00080101984), F(7.853875e-05))
W0, W1, W2, W3, W4, W5, W6 = (F(-1.1286371), F(-0.63519806), F(-0.10615903), F(0.02369455), F(-0.0036103341),
                              F(0.0003148561), F(-1.0432902e-05))
# Mills' ratio Φ(-a)/φ(a) in a, where φ(a) is not yet nothing; its error there times φ(a) is below 2^-24
M0, M1, M2, M3, M4, M5 = F(1.253314), F(-0.9999912), F(0.62653303), F(-0.3326338), F(0.15459095), F(-0.06297097)
M6, M7, M8, M9, M10, M11 = (F(0.021815924), F(-0.0060827294), F(0.0012719049), F(-0.00018283895), F(1.5854414e-05),
                            F(-6.185189e-07))
DENSITY_SCALE, DENSITY_SHIFT = F(-0.5 * math.log2(math.e)), F(-0.5 * math.log2(2 * math.pi))
HALF, ONE, TWO, ZERO = F(0.5), F(1), F(2), F(0)


if COMPILED:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic, overload

    @intrinsic
    def times_biased_power(typingctx, p, shifted):
        """p · 2ⁿ for n > -bias, 0 for n = -bias: n + bias lies in the low bits of `shifted`, a shift makes it an exponent."""
        def lower(context, builder, sig, args):
            real, bits, mantissa = ((ir.FloatType(), ir.IntType(32), 23) if sig.args[0] == types.float32
                                    else (ir.DoubleType(), ir.IntType(64), 52))
            exponent = builder.shl(builder.bitcast(args[1], bits), ir.Constant(bits, mantissa))
            return builder.fmul(args[0], builder.bitcast(exponent, real))

        return p(p, shifted), lower

    def _times_power_rule(halves):
        @intrinsic
        def times_power(typingctx, p, shifted):
            """p · 2ⁿ for the integer n in the low bits of `shifted`; in two factors, so that results may be denormal."""
            def lower(context, builder, sig, args):
                real, bits, mantissa, bias = ((ir.FloatType(), ir.IntType(32), 23, 127) if sig.args[0] == types.float32
                                              else (ir.DoubleType(), ir.IntType(64), 52, 1023))
                p, z = args
                base = builder.bitcast(ir.Constant(real, 1.5 * 2.0**mantissa), bits)
                n = builder.sub(builder.bitcast(z, bits), base)
                first = builder.ashr(n, ir.Constant(bits, 1)) if halves == 2 else n
                parts = [first, builder.sub(n, first)][:halves]
                for part in parts:
                    biased = builder.add(part, ir.Constant(bits, bias))
                    p = builder.fmul(p, builder.bitcast(builder.shl(biased, ir.Constant(bits, mantissa)), real))
                return p

            return p(p, shifted), lower

        return times_power

    @intrinsic
    def wide_vectors(typingctx):
        """Called in a kernel: use the host's widest vectors there (LLVM takes half of AVX-512 by default), and do not inline it."""
        def lower(context, builder, sig, args):
            attributes = builder.function.attributes
            attributes.add("noinline")
            set.add(attributes, '"prefer-vector-width"="512"')        # llvmlite knows no attributes with a value
            return context.get_dummy_value()

        return types.none(), lower

    times_power, times_normal_power = _times_power_rule(2), _times_power_rule(1)

    def by_dtype(single, double):
        """A function of one number that is `single` for float32 and `double` for float64."""
        def function(x):
            return single(x) if x.dtype == np.float32 else double(x)

        @overload(function, jit_options={"forceinline": True})
        def choose(x):
            if x == types.float32:
                return lambda x: single(x)
            if x == types.float64:
                return lambda x: double(x)

        function.__doc__ = single.__doc__
        return function
else:
    def wide_vectors():
        """Nothing to widen in plain Python."""

    def times_power(p, shifted):
        """p · 2ⁿ for the integer n that `shifted` = n + 1.5 · 2^mantissa carries"""
        return np.ldexp(p, int(shifted - (SHIFT32 if p.dtype == np.float32 else SHIFT64)) if shifted == shifted else 0)

    times_normal_power = times_power

    def times_biased_power(p, shifted):
        """p · 2ⁿ for n > -bias, 0 for n = -bias, where `shifted` = n + bias + 1.5 · 2^mantissa"""
        shift, bias = (SHIFT32, 127) if p.dtype == np.float32 else (SHIFT64, 1023)
        n = int(shifted - shift) - bias if shifted == shifted else 0
        return p.dtype.type(0) if n == -bias else np.ldexp(p, n)

    def by_dtype(single, double):
        return lambda x: single(x) if x.dtype == np.float32 else double(x)


@rounded
def split_32(z, shift):
    """z = n ln 2 + r: n + shift (n in its low bits, after a shift of BIASED32 n + 127), n, and eʳ - 1"""
    shifted = z * LOG2E32 + shift
    n = shifted - shift
    r = (z - n * LN2_HIGH32) - n * LN2_LOW32
    p = (((E4 * r + E3) * r + E2) * r + E1) * r + E0
    return shifted, n, p * r * r + r


@rounded
def exp_32(x):
    """eˣ"""
    z = x if x > F(-104) else F(-104)                 # below, 0; NaN takes this road too, and the last line
    z = z if z < F(89) else F(89)                     # above, inf
    shifted, _, grown = split_32(z, SHIFT32)
    y = times_power(grown + ONE, shifted)
    return y if x == x else x


@rounded
def exp_64(x):
    """eˣ"""
    z = x if x > -746.0 else -746.0
    z = z if z < 710.0 else 710.0
    shifted = z * LOG2E64 + SHIFT64
    n = shifted - SHIFT64
    r = (z - n * LN2_HIGH64) - n * LN2_LOW64
    p = 1 / 6227020800.0
    p = (((p * r + 1 / 479001600.0) * r + 1 / 39916800.0) * r + 1 / 3628800.0) * r + 1 / 362880.0
    p = (((p * r + 1 / 40320.0) * r + 1 / 5040.0) * r + 1 / 720.0) * r + 1 / 120.0
    p = ((p * r + 1 / 24.0) * r + 1 / 6.0) * r + 0.5
    y = times_power((p * r * r + r) + 1.0, shifted)
    return y if x == x else x


exp = by_dtype(exp_32, exp_64)


@rounded
def exp_low_32(x):
    """eˣ for x <= 0 at two thirds of the price: what would be denormal is 0, exactly so for -inf; NaN stays"""
    z = F(-88) if x < F(-88) else x
    shifted, _, grown = split_32(z, BIASED32)
    return times_biased_power(grown + ONE, shifted)


exp_low = by_dtype(exp_low_32, exp_64)


@rounded
def exp2_low_32(x):
    """2ˣ for x <= 0, cheaper still: no rounding of ln 2 to make up for; what would be denormal is 0; NaN stays"""
    z = F(-127) if x < F(-127) else x
    shifted = z + BIASED32
    r = z - (shifted - BIASED32)
    p = (((((P6 * r + P5) * r + P4) * r + P3) * r + P2) * r + P1) * r + ONE
    return times_biased_power(p, shifted)


@rounded
def expm1_32(x):
    """eˣ - 1 = 2ⁿ ((eʳ - 1) + (1 - 2⁻ⁿ))"""
    z = x if x > F(-18) else F(-18)                   # below, -1
    z = z if z < F(89) else F(89)                     # above, inf
    shifted, n, grown = split_32(z, SHIFT32)
    lost = times_normal_power(ONE, SHIFT32 - (n if n < F(30) else F(30)))
    y = times_power(grown + (ONE - lost), shifted)
    return y if x == x and x != ZERO else x


@rounded
def expm1_64(x):
    """eˣ - 1, from libm, which as plain Python raises an error in place of inf"""
    return math.inf if x > 709.782712893384 else math.expm1(x)


expm1 = by_dtype(expm1_32, expm1_64)


@rounded
def tanh_32(x):
    """tanh x: x + x³ P(x²) up to 0.45, beyond it e / (e + 2) with e = e²ˣ - 1 = 2ⁿ (eʳ - 1) + (2ⁿ - 1)"""
    a = abs(x)
    s = a * a if a < ONE else ONE
    near = a + a * s * (((T3 * s + T2) * s + T1) * s + T0)
    z = TWO * (a if a < F(10) else F(10))
    shifted, _, grown = split_32(z, SHIFT32)
    power = times_normal_power(ONE, shifted)
    e = power * grown + (power - ONE)
    y = near if a < F(0.45) else e / (e + TWO)
    y = -y if x < ZERO else y
    return y if x == x and x != ZERO else x


@rounded
def tanh_64(x):
    """tanh x, from libm"""
    return math.tanh(x)


tanh = by_dtype(tanh_32, tanh_64)


@rounded
def erf_32(x):
    """2/√π ∫₀ˣ exp(-t²) dt: x + x P(x²) up to 1, and 1 - exp(x Q(x)) beyond"""
    a = abs(x)
    a = a if a < F(4) else F(4)                       # erf(4) rounds to 1
    s = a * a
    near = a + a * ((((((N6 * s + N5) * s + N4) * s + N3) * s + N2) * s + N1) * s + N0)
    w = a * ((((((W6 * a + W5) * a + W4) * a + W3) * a + W2) * a + W1) * a + W0)
    far = ONE - exp_32(w)
    y = near if a < ONE else far
    y = -y if x < ZERO else y
    return y if x == x and x != ZERO else x


@rounded
def erf_64(x):
    """erf x, from libm"""
    return math.erf(x)


erf = by_dtype(erf_32, erf_64)


@rounded
def logistic_32(x):
    """σ(x) = 1 / (1 + e⁻ˣ) and its slope σ (1 - σ), from e⁻ᵃ with a = |x|: no overflow, and no cancellation in 1 - σ"""
    e = exp_low_32(-abs(x))
    r = ONE / (ONE + e)
    return (e if x < ZERO else ONE) * r, e * (r * r)


@rounded
def logistic_64(x):
    """σ(x) and its slope"""
    e = exp_64(-abs(x))
    r = 1.0 / (1.0 + e)
    return (e if x < 0.0 else 1.0) * r, e * (r * r)


logistic = by_dtype(logistic_32, logistic_64)


@rounded
def softplus_32(x):
    """log(1 + eˣ) and its slope σ(x), from e = e⁻ᵃ with a = |x|: max(x, 0) + log(1 + e), up to a = 1 log 2 + x/2 + x² P(x²)"""
    a = abs(x)
    e = exp_32(-a)
    log = e + e * e * ((((((((L9 * e + L8) * e + L7) * e + L6) * e + L5) * e + L4) * e + L3) * e + L2) * e + L1)
    s = a * a if a < ONE else ONE
    near = LN2 + (HALF * x + s * ((((S4 * s + S3) * s + S2) * s + S1) * s + S0))
    return near if a < ONE else (ZERO if x < ZERO else x) + log, (e if x < ZERO else ONE) / (ONE + e)


@rounded
def softplus_64(x):
    """log(1 + eˣ) and its slope σ(x)"""
    e = exp_64(-abs(x))
    return (0.0 if x < 0.0 else x) + math.log1p(e), (e if x < 0.0 else 1.0) / (1.0 + e)


softplus = by_dtype(softplus_32, softplus_64)


@rounded
def logistic2_32(y):
    """σ(y ln 2) = 1 / (1 + 2⁻ʸ) and σ (1 - σ)"""
    e = exp2_low_32(-abs(y))
    r = ONE / (ONE + e)
    return (e if y < ZERO else ONE) * r, e * (r * r)


@rounded
def logistic2_64(y):
    """σ(y ln 2) and σ (1 - σ)"""
    return logistic_64(y * math.log(2))


logistic2 = by_dtype(logistic2_32, logistic2_64)


@rounded
def normal_tail_32(a):
    """Φ(-a) and φ(a) of the normal distribution for 0 <= a <= 13, from one exponential and no division: φ(a) times Mills' ratio

    The absolute error is below 2^-24; the relative one grows beyond a = 4, where Φ(-a) is 3e-5, and beyond 5.7 the result is 0.
    """
    s = a * a
    density = exp2_low_32(s * DENSITY_SCALE + DENSITY_SHIFT)
    odd = (((M11 * s + M9) * s + M7) * s + M5) * s + M3               # fewer steps that wait for each other
    even = (((M10 * s + M8) * s + M6) * s + M4) * s + M2
    ratio = ((odd * a + even) * a + M1) * a + M0
    return density * (ratio if ratio > ZERO else ZERO), density


@rounded
def normal_tail_64(a):
    """Φ(-a) and φ(a)"""
    return 0.5 * math.erfc(a * math.sqrt(0.5)), exp_64(-0.5 * a * a) / math.sqrt(2 * math.pi)


normal_tail = by_dtype(normal_tail_32, normal_tail_64)


# ---- the largest of a row ---------------------------------------------------------------------------------------------

if COMPILED:
    @intrinsic
    def order_key(typingctx, x):
        """An integer that orders as the float does, NaN above inf; LLVM vectorises the maximum of integers, but not of floats."""
        def lower(context, builder, sig, args):
            bits = ir.IntType(sig.args[0].bitwidth)
            return _flip(builder, builder.bitcast(args[0], bits), bits)

        return {types.float32: types.int32, types.float64: types.int64}[x](x), lower

    @intrinsic
    def from_order_key(typingctx, key):
        """The float of a key."""
        def lower(context, builder, sig, args):
            bits, real = (ir.IntType(32), ir.FloatType()) if sig.args[0] == types.int32 else (ir.IntType(64), ir.DoubleType())
            return builder.bitcast(_flip(builder, args[0], bits), real)

        return {types.int32: types.float32, types.int64: types.float64}[key](key), lower

    def _flip(builder, k, bits):
        """Negative floats order backwards: turn their value bits over."""
        sign = builder.ashr(k, ir.Constant(bits, bits.width - 1))
        return builder.xor(k, builder.and_(sign, ir.Constant(bits, 2 ** (bits.width - 1) - 1)))
else:
    def order_key(x):
        """x itself orders well enough, if NaN counts as inf."""
        return x if x == x else x.dtype.type(np.inf)

    def from_order_key(key):
        return key


@jit(forceinline=True)
def row_max(row):
    """max of a row with at least one element; inf or NaN if there is a NaN, which the following exponentials spread"""
    top = order_key(row[0])
    for i in range(row.size):
        key = order_key(row[i])
        top = key if key > top else top
    return from_order_key(top)
