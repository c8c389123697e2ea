"""Explicit vectors for kernels: what LLVM's own vectoriser will not find, written out, on any host.

A vector is a value of Numba type `Vector(float32, LANES32)` and so on; `+ - * /`, unary `-` and comparisons
work between vectors, and between a vector and a scalar of its type. Memory is reached by int64 addresses
(`array.ctypes.data` inside a kernel), without checks: the caller keeps inside the array.

    @jit
    def scale(src, dst, n, by):                     # addresses, a count of float32 and a scalar
        i = 0
        while i + LANES32 <= n:
            store(dst + 4 * i, load_f32(src + 4 * i) * by)
            i += LANES32
        if i < n:
            store_part(dst + 4 * i, load_part_f32(src + 4 * i, n - i) * by, n - i)

The width follows the processor that Numba compiles for: 16 float32 lanes with AVX-512, 8 with AVX2, 4 else (NEON, SSE).
TINYGRAD_LLM_VECTORS=16|8|4 forces one; NUMBA_CPU_NAME=generic and NUMBA_CPU_FEATURES=+avx2,-avx512f,... stand for another
host. Only importable where kernels are compiled (`_jit.COMPILED`).
"""

import operator

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_name
from numba import config, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from . import vecmath
from ._jit import jit
from ._switch import switch
from .arrays import HEAD


def cpu_features():
    """{name: whether it is there} of the processor that Numba compiles for: this host, or what NUMBA_CPU_FEATURES says."""
    stated = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return {name[1:]: name[0] == "+" for name in stated.split(",") if name}


def cpu_name():
    """LLVM's name of that processor."""
    return config.CPU_NAME or get_host_cpu_name()


def _lanes():
    """float32 lanes of the widest vectors that also have a fused multiply-add."""
    if forced := switch("TINYGRAD_LLM_VECTORS", "4", "8", "16"):
        return int(forced)
    features = cpu_features()
    if features.get("avx512f") and features.get("avx512vl") and features.get("avx512dq"):
        return 16
    if features.get("avx2") and features.get("fma"):
        return 8
    return 4


LANES32 = _lanes()
LANES64 = LANES32 // 2
FEW_REGISTERS = LANES32 == 8                   # AVX2 has 16 vectors, AVX-512 and NEON 32


class Vector(types.Type):
    """`lanes` numbers of the scalar type `dtype` (a comparison's result has dtype boolean)."""

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


_SCALAR = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.boolean: ir.IntType(1),
           types.int8: ir.IntType(8), types.int32: ir.IntType(32), types.int64: ir.IntType(64), types.uint32: ir.IntType(32)}
_SUFFIX = {types.float32: "f32", types.float64: "f64", types.int32: "i32", types.int64: "i64",
           types.int8: "i8", types.uint32: "i32"}


def _llvm(vector):
    return ir.VectorType(_SCALAR[vector.dtype], vector.lanes)


def _name(vector):
    return f"v{vector.lanes}{_SUFFIX[vector.dtype]}"


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, _llvm(vector))


f32 = Vector(types.float32, LANES32)
f64 = Vector(types.float64, LANES64)
i32 = Vector(types.int32, LANES32)


def _splat(builder, scalar, vector):
    kind = _llvm(vector)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def _pointer(builder, address, kind):
    return builder.inttoptr(address, kind.as_pointer())


def _call(builder, name, result, arguments):
    module = builder.module
    function = cgutils.get_or_insert_function(module, ir.FunctionType(result, [a.type for a in arguments]), name)
    return builder.call(function, arguments)


def _align(vector):
    return {"f32": 4, "f64": 8, "i32": 4, "i64": 8, "i8": 1}[_SUFFIX[vector.dtype]]


# -- memory ---------------------------------------------------------------------------------------

def _loader(vector):
    @intrinsic
    def load(typingctx, address):
        def codegen(context, builder, sig, args):
            return builder.load(_pointer(builder, args[0], _llvm(vector)), align=_align(vector))
        return vector(types.int64), codegen
    return load


@intrinsic
def load_part_f32(typingctx, address, count):
    """Read the first `count` lanes of a vector; those past them are 0, not read."""
    def codegen(context, builder, sig, args):
        return _load_part(builder, args[0], _first_lanes(builder, args[1], f32), f32)
    return f32(types.int64, types.int64), codegen


def _load_part(builder, address, live, vector):
    """The lanes of a vector that the mask `live` has; the others are 0, not read."""
    kind = _llvm(vector)
    return _call(builder, f"llvm.masked.load.{_name(vector)}.p0", kind,
                 [_pointer(builder, address, kind), ir.Constant(ir.IntType(32), _align(vector)), live, ir.Constant(kind, None)])


def _first_lanes(builder, count, vector):
    """The mask of lanes below `count` (an int64)."""
    lanes = Vector(types.int32, vector.lanes)
    limit = _splat(builder, builder.trunc(count, ir.IntType(32)), lanes)
    return builder.icmp_signed("<", ir.Constant(_llvm(lanes), list(range(vector.lanes))), limit)


load_f32, load_f64 = _loader(f32), _loader(f64)


@intrinsic
def store(typingctx, address, value):
    """Write a vector at an address."""
    def codegen(context, builder, sig, args):
        builder.store(args[1], _pointer(builder, args[0], args[1].type), align=_align(value))
        return context.get_dummy_value()
    return types.void(types.int64, value), codegen


@intrinsic
def store_part(typingctx, address, value, count):
    """Write the first `count` lanes of a vector.

    A whole vector is written as one where masks are not the host's habit: AVX2's masked store takes dozens of cycles on some.
    """
    def codegen(context, builder, sig, args):
        address, vector, count = args
        pointer = _pointer(builder, address, vector.type)

        def masked():
            _call(builder, f"llvm.masked.store.{_name(value)}.p0", ir.VoidType(),
                  [vector, pointer, ir.Constant(ir.IntType(32), _align(value)), _first_lanes(builder, count, value)])

        if LANES32 == 16:
            masked()
        else:
            with builder.if_else(builder.icmp_signed(">=", count, ir.Constant(count.type, value.lanes))) as (whole, part):
                with whole:
                    builder.store(vector, pointer, align=_align(value))
                with part:
                    masked()
        return context.get_dummy_value()
    return types.void(types.int64, value, types.int64), codegen


@intrinsic
def store_stream(typingctx, address, value):
    """Write a vector past the cache; the address must be a multiple of the vector's size."""
    def codegen(context, builder, sig, args):
        size = _align(value) * value.lanes
        written = builder.store(args[1], _pointer(builder, args[0], args[1].type), align=size)
        written.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()
    return types.void(types.int64, value), codegen


def _scalar_loader(scalar):
    @intrinsic
    def peek(typingctx, address):
        def codegen(context, builder, sig, args):
            return builder.load(_pointer(builder, args[0], _SCALAR[scalar]))
        return scalar(types.int64), codegen
    return peek


peek_f32, peek_f64, peek_i64 = (_scalar_loader(s) for s in (types.float32, types.float64, types.int64))


def _field_loader(scalar):
    @intrinsic
    def field(typingctx, record, place):
        """The number at a place of an array of 8 bytes each, by the array's address."""
        def codegen(context, builder, sig, args):
            return builder.load(builder.gep(_pointer(builder, args[0], _SCALAR[scalar]), [args[1]]))
        return scalar(types.int64, types.int64), codegen
    return field


field, real = (_field_loader(s) for s in (types.int64, types.float64))


@jit
def data_of(identity):
    """The address of the numbers of an array with this id; 0 for no array."""
    return peek_i64(identity + HEAD) if identity else 0


def _pointer_maker(scalar):
    @intrinsic
    def pointer(typingctx, address):
        """The address as a typed pointer, for `numba.carray(pointer, shape)`."""
        def codegen(context, builder, sig, args):
            return _pointer(builder, args[0], _SCALAR[scalar])
        return types.CPointer(scalar)(types.int64), codegen
    return pointer


pointer_f32, pointer_f64, pointer_i32 = (_pointer_maker(s) for s in (types.float32, types.float64, types.int32))


def number_of(vector):
    """(bytes, NumPy's type, `peek`, `pointer`) of one number of a vector of floats."""
    single = vector.dtype == types.float32
    return (4, np.float32, peek_f32, pointer_f32) if single else (8, np.float64, peek_f64, pointer_f64)


@intrinsic
def poke(typingctx, address, value):
    """Write a scalar at an address."""
    def codegen(context, builder, sig, args):
        builder.store(args[1], _pointer(builder, args[0], args[1].type))
        return context.get_dummy_value()
    return types.void(types.int64, value), codegen


def _prefetch(builder, address, for_writing=0, level=3):
    i = ir.IntType(32)
    _call(builder, "llvm.prefetch.p0", ir.VoidType(), [_pointer(builder, address, ir.IntType(8)), ir.Constant(i, for_writing),
                                                       ir.Constant(i, level), ir.Constant(i, 1)])


def _prefetcher(level, for_writing=0):
    @intrinsic
    def prefetch(typingctx, address):
        """Ask for the cache line at an address."""
        def codegen(context, builder, sig, args):
            _prefetch(builder, args[0], for_writing, level)
            return context.get_dummy_value()
        return types.void(types.int64), codegen
    return prefetch


prefetch_second = _prefetcher(2)                                        # into the second cache
prefetch_to_write = _prefetcher(3, for_writing=1)


@intrinsic
def fetch_add(typingctx, address, step):
    """Add `step` to the int64 at an address as one indivisible act; its value before.

    What a thread wrote before it adds is there for the threads that add later.
    """
    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", _pointer(builder, args[0], ir.IntType(64)), args[1], "acq_rel")
    return types.int64(types.int64, types.int64), codegen


@jit
def draw(counter, tasks, thread):
    """A task that nobody took yet, or -1: threads of even number take from the front, the others from the back.

    So two threads meet the same rows in kernel after kernel, and find them in their own caches. `counter`: 0 at first.
    """
    taken = fetch_add(counter, 1 if thread % 2 == 0 else 1 << 32)
    front, back = taken & 0xFFFFFFFF, taken >> 32
    if front + back >= tasks:
        return -1
    return front if thread % 2 == 0 else tasks - 1 - back


@intrinsic
def call_address(typingctx, address, a, b, c, d):
    """Call a kernel of four int64 that returns nothing, by its address (`_jit.address_of`)."""
    def codegen(context, builder, sig, args):
        _call_address(builder, *args)
        return context.get_dummy_value()
    return types.void(*[types.int64] * 5), codegen


def _call_address(builder, address, *arguments):
    pointer = ir.PointerType()
    kind = ir.FunctionType(ir.IntType(32), [pointer, pointer, *[ir.IntType(64)] * 4])
    unused = [cgutils.alloca_once(builder, pointer) for _ in range(2)]          # result and exception: there are none
    builder.call(builder.inttoptr(address, kind.as_pointer()), [*unused, *arguments])


# -- making vectors -------------------------------------------------------------------------------

def _splatter(vector):
    @intrinsic
    def splat(typingctx, scalar):
        """A vector of one number in all lanes."""
        def codegen(context, builder, sig, args):
            return _splat(builder, context.cast(builder, args[0], sig.args[0], vector.dtype), vector)
        return vector(scalar), codegen
    return splat


splat_f32, splat_f64 = _splatter(f32), _splatter(f64)


# -- arithmetic -----------------------------------------------------------------------------------

def _through_llvm(builder, name, sig, args):
    return _call(builder, f"llvm.{name}.{_name(sig.return_type)}", _llvm(sig.return_type), list(args))


@intrinsic
def fma(typingctx, x, y, z):
    """x·y + z, with one rounding where the host has the instruction."""
    def codegen(context, builder, sig, args):
        return _through_llvm(builder, "fmuladd", sig, args)
    return x(x, y, z), codegen


@intrinsic
def vabs(typingctx, x):
    def codegen(context, builder, sig, args):
        return _through_llvm(builder, "fabs", sig, args)
    return x(x), codegen


def _chooser(comparison):
    """x if x <comparison> y else y: one instruction; where x is NaN it gives y."""
    @intrinsic
    def choose(typingctx, x, y):
        def codegen(context, builder, sig, args):
            return builder.select(builder.fcmp_ordered(comparison, *args), *args)
        return x(x, y), codegen
    return choose


vmax, vmin = _chooser(">"), _chooser("<")


@intrinsic
def select(typingctx, mask, x, y):
    """Lane by lane: x where the mask is set, else y."""
    def codegen(context, builder, sig, args):
        return builder.select(*args)
    return x(mask, x, y), codegen


def _bitcast(dtype_of):
    @intrinsic
    def cast(typingctx, x):
        target = Vector(dtype_of[x.dtype], x.lanes)

        def codegen(context, builder, sig, args):
            return builder.bitcast(args[0], _llvm(target))
        return target(x), codegen
    return cast


_TO_INT = {types.float32: types.int32, types.float64: types.int64}
bits = _bitcast(_TO_INT)                                                # the same bits, as integers
from_bits = _bitcast({i: f for f, i in _TO_INT.items()})                # the same bits, as floats

_FLOAT = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}
_INTEGER = {operator.add: "add", operator.sub: "sub", operator.mul: "mul", operator.and_: "and_",
            operator.or_: "or_", operator.xor: "xor", operator.lshift: "shl"}
_COMPARE = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=",
            operator.eq: "==", operator.ne: "!="}


def _vector_of(x, y):
    """The vector type two operands meet in, or None when neither is a vector."""
    if isinstance(x, Vector):
        return x if x == y or isinstance(y, types.Number) else None
    return y if isinstance(y, Vector) and isinstance(x, types.Number) else None


def _both_as_vectors(context, builder, sig, args):
    vector = _vector_of(*sig.args)
    return vector, [arg if kind == vector else _splat(builder, context.cast(builder, arg, kind, vector.dtype), vector)
                    for kind, arg in zip(sig.args, args, strict=True)]


def _define_operator(symbol):
    compares = symbol in _COMPARE

    @infer_global(symbol)
    class _Operator(AbstractTemplate):
        def generic(self, args, kws):
            vector = _vector_of(*args) if len(args) == 2 else None
            if vector is None:
                return None
            return signature(Vector(types.boolean, vector.lanes) if compares else vector, *args)

    def lower(context, builder, sig, args):
        vector, (x, y) = _both_as_vectors(context, builder, sig, args)
        floating = vector.dtype in (types.float32, types.float64)
        if compares:
            if floating:
                compare = builder.fcmp_unordered if symbol is operator.ne else builder.fcmp_ordered
            else:
                compare = builder.icmp_unsigned if vector.dtype == types.uint32 else builder.icmp_signed
            return compare(_COMPARE[symbol], x, y)
        if symbol is operator.rshift:
            return (builder.lshr if vector.dtype == types.uint32 else builder.ashr)(x, y)
        return getattr(builder, (_FLOAT if floating else _INTEGER)[symbol])(x, y)

    lower_builtin(symbol, Vector, Vector)(lower)
    lower_builtin(symbol, Vector, types.Number)(lower)
    lower_builtin(symbol, types.Number, Vector)(lower)


for _symbol in {*_FLOAT, *_INTEGER, *_COMPARE, operator.rshift}:
    _define_operator(_symbol)


@infer_global(operator.neg)
class _Negate(AbstractTemplate):
    def generic(self, args, kws):
        return signature(args[0], args[0]) if isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _lower_negate(context, builder, sig, args):
    return builder.fneg(args[0]) if sig.args[0].dtype in _TO_INT else builder.neg(args[0])


# -- exponentials ---------------------------------------------------------------------------------

@jit
def exp_low_f32(x):
    """eˣ for x <= 0, as `vecmath.exp_low`: what would be denormal is 0; NaN stays."""
    z = vmax(splat_f32(-88), x)
    shifted = fma(z, splat_f32(vecmath.LOG2E32), splat_f32(vecmath.BIASED32))
    n = shifted - vecmath.BIASED32
    r = fma(-n, splat_f32(vecmath.LN2_LOW32), fma(-n, splat_f32(vecmath.LN2_HIGH32), z))
    p = fma(splat_f32(vecmath.E4), r, splat_f32(vecmath.E3))
    for coefficient in (vecmath.E2, vecmath.E1, vecmath.E0):
        p = fma(p, r, splat_f32(coefficient))
    return (fma(p * r, r, r) + np.float32(1)) * from_bits(bits(shifted) << 23)


@jit
def silu_f32(x):
    """x σ(x): x / (1 + e⁻ˣ), for x < 0 x eˣ / (1 + eˣ)."""
    e, z = exp_low_f32(-vabs(x)), vmax(splat_f32(-500), x)                          # -500: for inf · 0
    return select(x < np.float32(0), e * z, z) / (e + np.float32(1))


@jit
def silu_and_slope_f32(x):
    """x σ(x) and σ + x σ (1 - σ), from one division."""
    e, z = exp_low_f32(-vabs(x)), vmax(splat_f32(-500), x)
    r = np.float32(1) / (e + np.float32(1))
    gate = select(x < np.float32(0), e * r, r)
    return z * gate, fma(vmin(splat_f32(500), z), e * (r * r), gate)


# -- across lanes ---------------------------------------------------------------------------------

def _fold(builder, values, lanes, combine):
    """Halve each vector until one lane is left, the same order on every host of the same width: one vector of the results.

    `values` are as many as a power of two, at most `lanes`; those of several share a vector as they get shorter.
    """
    kept, length = lanes, lanes                   # lanes left of each value; of the vectors that hold them
    while kept > 1:
        kept //= 2
        if len(values) == 1:
            length //= 2
        pairs = list(zip(values[::2], values[1::2])) or [(values[0], values[0])]
        halves = []
        for start in (0, kept):
            lanes_kept = [lane for chunk in range(0, 2 * lanes, 2 * kept) for lane in range(chunk + start, chunk + start + kept)]
            index = ir.Constant(ir.VectorType(ir.IntType(32), length), lanes_kept[:length])
            halves.append([builder.shuffle_vector(*pair, index) for pair in pairs])
        values, lanes = [combine(builder, low, high) for low, high in zip(*halves)], length
    return values[0]


def _folder(combine):
    @intrinsic
    def fold(typingctx, x):
        def codegen(context, builder, sig, args):
            folded = _fold(builder, [args[0]], x.lanes, combine)
            return builder.extract_element(folded, ir.Constant(ir.IntType(32), 0))
        return x.dtype(x), codegen
    return fold


def _add(builder, x, y):
    return builder.fadd(x, y)


def _larger(builder, x, y):
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


sum_lanes, max_lanes = _folder(_add), _folder(_larger)


def square_side(rows):
    """The power of two from `rows` on."""
    return 1 << (rows - 1).bit_length()


def _transposer(vector):
    @intrinsic
    def transpose(typingctx, src, src_stride, dst, dst_stride):
        def codegen(context, builder, sig, args):
            _transpose(builder, vector, *args)
            return context.get_dummy_value()
        return types.void(types.int64, types.int64, types.int64, types.int64), codegen
    return transpose


def _transpose(builder, vector, source, source_stride, target, target_stride):
    """`target[j, i] = source[i, j]` for as many rows as the vector has lanes and square_side(lanes) columns; strides in bytes.

    Squares of vectors, turned in log2(side) rounds of shuffles; the rows that are missing to a square are not read, nor written.
    """
    rows, side = vector.lanes, square_side(vector.lanes)
    line = Vector(vector.dtype, side)

    def at(start, stride, row, kind):
        return _pointer(builder, builder.add(start, builder.mul(stride, ir.Constant(stride.type, row))), kind)

    lines = [builder.load(at(source, source_stride, r, _llvm(line)), align=_align(vector)) for r in range(rows)]
    lines += [ir.Constant(_llvm(line), ir.Undefined)] * (side - rows)
    first = ir.Constant(ir.VectorType(ir.IntType(32), rows), list(range(rows)))
    for r, turned in enumerate(_transposed(builder, lines)):
        if rows < side:
            turned = builder.shuffle_vector(turned, turned, first)
        builder.store(turned, at(target, target_stride, r, _llvm(vector)), align=_align(vector))


def _transposed(builder, rows):
    """Swap the off-diagonal halves of every 2h × 2h block, for h = 1, 2, 4, ...: a transpose in registers."""
    lanes, half = len(rows), 1
    index = ir.VectorType(ir.IntType(32), lanes)
    while half < lanes:
        upper = [c if c & half == 0 else lanes + (c ^ half) for c in range(lanes)]
        lower = [(c | half) if c & half == 0 else lanes + c for c in range(lanes)]
        swapped = list(rows)
        for r in range(lanes):
            if r & half == 0:
                pair = rows[r], rows[r + half]
                swapped[r] = builder.shuffle_vector(*pair, ir.Constant(index, upper))
                swapped[r + half] = builder.shuffle_vector(*pair, ir.Constant(index, lower))
        rows, half = swapped, half * 2
    return rows
