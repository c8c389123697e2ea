"""The inner loop of matmul: a block of C held in registers while k runs, in explicit vectors.

`make_tile(vector, nvec)` is an intrinsic

    tile(k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta)

that computes ROWS rows by nvec vectors:  C = alpha · Σ_k A[:, k] B[k, :] + beta · C.  Addresses and strides are
int64 bytes: A[i, k] lies at pa + i·row_a + k·step_a, so A is read where it is, transposed or not; the row k of B is
nvec whole vectors at pb + k·step_b. beta = 0 does not read C.

Per step of k it loads nvec vectors of B, broadcasts ROWS numbers of A and does ROWS · nvec multiply-adds, enough of
them at once (24) to cover the latency of two units. Each element of C is one chain of multiply-adds in the order of k, so
its bits depend neither on the tile it fell in nor on the number of threads.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import simd

# 32 registers hold 8 x 3 sums, 3 of B and one of A; AVX2's 16 hold 4 x 3
ROWS = 4 if simd.LANES32 == 8 else 8
PANEL = 3                                     # vectors of B side by side in the largest tile
_I64 = ir.IntType(64)


def _const(value):
    return ir.Constant(_I64, value)


def _row_offset(builder, stride, multiples, row):
    """row · stride as (odd multiple) << shift, which x86 addresses for free: 8 rows take 4 registers, not 7."""
    if row == 0:
        return _const(0)
    shift = (row & -row).bit_length() - 1
    odd = row >> shift
    if odd not in multiples:
        product = builder.mul(stride, _const(odd))
        # through an empty asm, or LLVM would see the products again and keep one register for each row
        multiples[odd] = builder.asm(ir.FunctionType(_I64, [_I64]), "", "=r,0", [product], False)
    return builder.shl(multiples[odd], _const(shift))


def make_tile(vector, nvec):
    """The intrinsic `tile` for a vector type and a width of `nvec` vectors."""
    kind, scalar = simd._llvm(vector), simd._SCALAR[vector.dtype]
    align = simd._align(vector)
    size = align * vector.lanes

    def at(builder, base, offset):
        return simd._pointer(builder, builder.add(base, _const(offset)), kind)

    def prefetch_c(builder, pc, row_c):
        i = ir.IntType(32)
        for _ in range(ROWS):
            for v in range(nvec):
                pointer = simd._pointer(builder, builder.add(pc, _const(size * v)), ir.IntType(8))
                simd._call(builder, "llvm.prefetch.p0", ir.VoidType(),
                           [pointer, ir.Constant(i, 1), ir.Constant(i, 3), ir.Constant(i, 1)])
            pc = builder.add(pc, row_c)

    def multiply_add(builder, sums, pa, offsets, pb):
        row_b = [builder.load(at(builder, pb, size * v), align=align) for v in range(nvec)]
        for r in range(ROWS):
            a = builder.load(simd._pointer(builder, builder.add(pa, offsets[r]), scalar))
            a = simd._splat(builder, a, vector)
            for v in range(nvec):
                n = r * nvec + v
                sums[n] = simd._call(builder, f"llvm.fmuladd.{simd._name(vector)}", kind, [a, row_b[v], sums[n]])

    def write(builder, sums, pc, row_c, alpha, beta):
        """C = alpha · sums + beta · C; `beta` is None where C is not read."""
        for r in range(ROWS):
            for v in range(nvec):
                pointer = at(builder, pc, size * v)
                value = builder.fmul(sums[r * nvec + v], alpha)
                if beta is not None:
                    old = builder.load(pointer, align=align)
                    value = simd._call(builder, f"llvm.fmuladd.{simd._name(vector)}", kind, [old, beta, value])
                builder.store(value, pointer, align=align)
            pc = builder.add(pc, row_c)

    def codegen(context, builder, sig, args):
        k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta = args
        multiples = {1: row_a}
        offsets = [_row_offset(builder, row_a, multiples, r) for r in range(ROWS)]
        prefetch_c(builder, pc, row_c)
        entry = builder.block
        loop, done = (builder.append_basic_block(name) for name in ("k_loop", "k_done"))
        builder.branch(loop)
        builder.position_at_end(loop)
        left, a, b = (builder.phi(_I64) for _ in range(3))
        sums = [builder.phi(kind) for _ in range(ROWS * nvec)]
        for phi, start in zip((left, a, b), (k, pa, pb)):
            phi.add_incoming(start, entry)
        for phi in sums:
            phi.add_incoming(ir.Constant(kind, None), entry)
        new = list(sums)
        multiply_add(builder, new, a, offsets, b)
        for phi, value in zip((left, a, b, *sums), (builder.sub(left, _const(1)), builder.add(a, step_a),
                                                    builder.add(b, step_b), *new)):
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed(">", left, _const(1)), loop, done)
        builder.position_at_end(done)
        alpha = simd._splat(builder, alpha, vector)
        with builder.if_else(builder.fcmp_unordered("!=", beta, ir.Constant(scalar, 0.0))) as (accumulate, overwrite):
            with accumulate:
                write(builder, new, pc, row_c, alpha, simd._splat(builder, beta, vector))
            with overwrite:
                write(builder, new, pc, row_c, alpha, None)
        return context.get_dummy_value()

    @intrinsic
    def tile(typingctx, k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta):
        return types.void(*[types.int64] * 8, vector.dtype, vector.dtype), codegen

    return tile
