"""Vectors whose type follows a scalar: `like` is a number of the dtype at work, and lanes, sizes and constants follow from
it, so that one source serves float32 and float64. Adds 2^x to the operations of `simd`.
"""
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels import simd
from kernels._jit import jit

_INT = ir.IntType(64)
_WORD = {types.float32: 4, types.float64: 8}


def _vector(dtype):
    return simd.Vector(dtype, simd.LANES32 * 4 // _WORD[dtype])


def _uints(dtype):
    return simd.Vector(types.uint32, _vector(dtype).lanes)


# -- vectors whose type follows a scalar ----------------------------------------------------------

@intrinsic
def sizeof(typingctx, like):
    """Bytes of one number."""
    return types.int64(like), lambda context, builder, sig, args: ir.Constant(_INT, _WORD[like])


@intrinsic
def lanes(typingctx, like):
    """Numbers in one vector."""
    return types.int64(like), lambda context, builder, sig, args: ir.Constant(_INT, _vector(like).lanes)


@intrinsic
def vload(typingctx, address, like):
    def codegen(context, builder, sig, args):
        return builder.load(simd._pointer(builder, args[0], simd._llvm(_vector(like))), align=_WORD[like])
    return _vector(like)(types.int64, like), codegen


@intrinsic
def vload_part(typingctx, address, count, like):
    """The first `count` numbers, zeros after them; nothing past them is read."""
    vector = _vector(like)

    def codegen(context, builder, sig, args):
        return simd._load_part(builder, args[0], simd._first_lanes(builder, args[1], vector), vector)
    return vector(types.int64, types.int64, like), codegen


@intrinsic
def first_lanes(typingctx, x, count):
    """The first `count` lanes of x, zeros after them."""
    def codegen(context, builder, sig, args):
        return builder.select(simd._first_lanes(builder, args[1], x), args[0], ir.Constant(simd._llvm(x), None))
    return x(x, types.int64), codegen


@intrinsic
def byte_mask(typingctx, address, count, like):
    """The mask of lanes whose byte (a NumPy bool) is not 0; bytes from `count` on are not read and count as 0."""
    vector = simd.Vector(types.int8, _vector(like).lanes)

    def codegen(context, builder, sig, args):
        loaded = simd._load_part(builder, args[0], simd._first_lanes(builder, args[1], vector), vector)
        return builder.icmp_unsigned("!=", loaded, ir.Constant(loaded.type, None))
    return simd.Vector(types.boolean, vector.lanes)(types.int64, types.int64, like), codegen


@intrinsic
def peek_byte(typingctx, address):
    def codegen(context, builder, sig, args):
        return builder.zext(builder.load(simd._pointer(builder, args[0], ir.IntType(8))), _INT)
    return types.int64(types.int64), codegen


@intrinsic
def peek_word(typingctx, address):
    """An unsigned 32-bit word as int64."""
    def codegen(context, builder, sig, args):
        return builder.zext(builder.load(simd._pointer(builder, args[0], ir.IntType(32))), _INT)
    return types.int64(types.int64), codegen


@intrinsic
def splat(typingctx, like):
    def codegen(context, builder, sig, args):
        return simd._splat(builder, args[0], _vector(like))
    return _vector(like)(like), codegen


@intrinsic
def constant(typingctx, value, like):
    """A vector with `value` in every lane."""
    def codegen(context, builder, sig, args):
        return simd._splat(builder, context.cast(builder, args[0], sig.args[0], like), _vector(like))
    return _vector(like)(value, like), codegen


@intrinsic
def peek(typingctx, address, like):
    def codegen(context, builder, sig, args):
        return builder.load(simd._pointer(builder, args[0], simd._SCALAR[like]))
    return like(types.int64, like), codegen


@intrinsic
def uload(typingctx, address, like):
    """As many 32-bit words as a vector has lanes."""
    def codegen(context, builder, sig, args):
        return builder.load(simd._pointer(builder, args[0], simd._llvm(_uints(like))), align=4)
    return _uints(like)(types.int64, like), codegen


@intrinsic
def usplat(typingctx, word, like):
    def codegen(context, builder, sig, args):
        return simd._splat(builder, builder.trunc(args[0], ir.IntType(32)), _uints(like))
    return _uints(like)(types.int64, like), codegen


@intrinsic
def ucount(typingctx, first, like):
    """first, first + 1, first + 2, ... as 32-bit words."""
    def codegen(context, builder, sig, args):
        kind = simd._llvm(_uints(like))
        return builder.add(simd._splat(builder, builder.trunc(args[0], ir.IntType(32)), _uints(like)),
                           ir.Constant(kind, list(range(_uints(like).lanes))))
    return _uints(like)(types.int64, like), codegen


@intrinsic
def lanes_between(typingctx, low, high, like):
    """The mask of lanes with low <= lane <= high (int64, clamped by the caller to ±2^30)."""
    vector = simd.Vector(types.int32, _vector(like).lanes)

    def codegen(context, builder, sig, args):
        index = ir.Constant(simd._llvm(vector), list(range(vector.lanes)))
        low, high = (simd._splat(builder, builder.trunc(arg, ir.IntType(32)), vector) for arg in args[:2])
        return builder.and_(builder.icmp_signed(">=", index, low), builder.icmp_signed("<=", index, high))
    return simd.Vector(types.boolean, vector.lanes)(types.int64, types.int64, like), codegen


@intrinsic
def transpose_block(typingctx, source, source_stride, target, target_stride, like):
    """target[j, i] = source[i, j] for a square of one vector's width; strides in bytes."""
    def codegen(context, builder, sig, args):
        simd._transpose(builder, _vector(like), *args[:4])
        return context.get_dummy_value()
    return types.void(types.int64, types.int64, types.int64, types.int64, like), codegen


# -- rows whose length is no multiple of a vector's -----------------------------------------------

@jit(forceinline=True)
def row_of(x, r):
    """The address of row r of an array."""
    return x.ctypes.data + r * x.strides[0]


@jit(forceinline=True)
def take(address, count, like):
    """A vector of the first `count` numbers: all where there are more, none below 1; zeros after them."""
    return vload(address, like) if count >= lanes(like) else vload_part(address, count, like)


@jit(forceinline=True)
def put(address, value, count, like):
    """Write the first `count` numbers of a vector, all where there are more."""
    if count >= lanes(like):
        simd.store(address, value)
    else:
        simd.store_part(address, value, count)


# -- 2^x ------------------------------------------------------------------------------------------

# Coefficients of x^n ... x^0, minimax for relative error on [-1/2, 1/2] with 1 held fixed: 2^-28.9 and 2^-58.
_EXP2 = {
    types.float32: (1.5353360991859916e-4, 1.3398875248422364e-3, 9.618437368099008e-3, 5.5503324687802905e-2,
                    2.4022647913462333e-1, 6.931472028563578e-1, 1.0),
    types.float64: (4.434627128896299e-10, 7.073791853706688e-9, 1.0178200613420852e-7, 1.3215435225732874e-6,
                    1.5252733490366324e-5, 1.5403530457242876e-4, 1.3333558146777845e-3, 9.618129107593998e-3,
                    5.550410866482007e-2, 2.402265069591013e-1, 6.931471805599453e-1, 1.0),
}
_SMALLEST = {types.float32: -125.0, types.float64: -1021.0}      # below it 2^x is taken as 0: no denormals


@intrinsic
def exp2(typingctx, x):
    """2^x for x <= 0: 2^round(x) by its exponent bits times a polynomial; 0 for -inf, NaN for NaN."""
    dtype, word = x.dtype, _WORD[x.dtype]
    whole = ir.VectorType(ir.IntType(8 * word), x.lanes)
    kind = simd._llvm(x)

    def codegen(context, builder, sig, args):
        def constant(value):
            return ir.Constant(kind, [value] * x.lanes)

        def llvm(name, *arguments):
            return simd._call(builder, f"llvm.{name}.{simd._name(x)}", kind, list(arguments))

        low = constant(_SMALLEST[dtype])
        vanishes = builder.fcmp_ordered("<", args[0], low)
        y = builder.select(vanishes, low, args[0])
        n = llvm("rint", y)
        f = builder.fsub(y, n)
        power = constant(_EXP2[dtype][0])
        for coefficient in _EXP2[dtype][1:]:
            power = llvm("fma", power, f, constant(coefficient))
        shift = ir.Constant(whole, [23 if word == 4 else 52] * x.lanes)
        exponent = builder.shl(builder.fptosi(n, whole), shift)
        result = builder.bitcast(builder.add(builder.bitcast(power, whole), exponent), kind)
        return builder.select(vanishes, constant(0.0), result)
    return x(x), codegen
