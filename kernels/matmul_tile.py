"""The inner loop of matmul: a block of C held in registers while k runs, in explicit vectors.

`make_tile(vector, nvec)` is an intrinsic

    tile(k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta)

that computes ROWS rows by nvec vectors:  C = alpha · Σ_k A[:, k] B[k, :] + beta · C.  Addresses and strides are
int64 bytes: A[i, k] lies at pa + i·row_a + k·step_a, so A is read where it is, transposed or not; the row k of B is
nvec whole vectors at pb + k·step_b. beta = 0 does not read C.

Per step of k it loads nvec vectors of B, broadcasts ROWS numbers of A and does ROWS · nvec multiply-adds, enough of
them at once (24, with AVX2 12) to cover the latency of two units. Each element of C is one chain of multiply-adds in the order
of k, so its bits depend neither on the tile it fell in nor on the number of threads.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import simd

# Rows of the largest tile, and vectors of B side by side in it: 32 registers hold 8 x 3 sums, 3 of B and one of A; 16 hold 6 x 2,
# which reads less of B than 4 x 3 and divides more widths
ROWS, PANEL = (6, 2) if simd.FEW_REGISTERS else (8, 3)
# Where there are few rows: so many at most are taken together, and 4 of them meet so many columns or vectors of B at once
MOST_ROWS, BESIDE_4 = (4, 3) if simd.FEW_REGISTERS else (8, 4)
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


def _multiply_adder(vector):
    name = f"llvm.fmuladd.{simd._name(vector)}"

    def add_product(builder, a, b, total):
        return simd._call(builder, name, total.type, [a, b, total])

    return add_product


def make_tile(vector, nvec, rows=ROWS, ahead=0, add_product=None):
    """The intrinsic `tile` for a vector type, a width of `nvec` vectors and a height of `rows`.

    ahead: B is asked for so many rows before it is needed, into the second cache. add_product(builder, a, b, sum): a * b + sum, if
    it is not that.
    """
    kind, scalar, multiply_and_add = simd._llvm(vector), simd._SCALAR[vector.dtype], _multiply_adder(vector)
    add_product = add_product or multiply_and_add
    align = simd._align(vector)
    size = align * vector.lanes

    def at(builder, base, offset):
        return simd._pointer(builder, builder.add(base, _const(offset)), kind)

    def prefetch_c(builder, pc, row_c):
        for _ in range(rows):
            for v in range(nvec):
                simd._prefetch(builder, builder.add(pc, _const(size * v)), for_writing=1)
            pc = builder.add(pc, row_c)

    def multiply_add(builder, sums, pa, offsets, pb):
        row_b = [builder.load(at(builder, pb, size * v), align=align) for v in range(nvec)]
        for r in range(rows):
            a = builder.load(simd._pointer(builder, builder.add(pa, offsets[r]), scalar))
            a = simd._splat(builder, a, vector)
            for v in range(nvec):
                n = r * nvec + v
                sums[n] = add_product(builder, a, row_b[v], sums[n])

    def write(builder, sums, pc, row_c, alpha, beta):
        """C = alpha · sums + beta · C; `beta` is None where C is not read."""
        for r in range(rows):
            for v in range(nvec):
                pointer = at(builder, pc, size * v)
                value = builder.fmul(sums[r * nvec + v], alpha)
                if beta is not None:
                    old = builder.load(pointer, align=align)
                    value = multiply_and_add(builder, old, beta, value)
                builder.store(value, pointer, align=align)
            pc = builder.add(pc, row_c)

    def codegen(context, builder, sig, args):
        k, pa, row_a, step_a, pb, step_b, pc, row_c, alpha, beta = args
        multiples = {1: row_a}
        offsets = [_row_offset(builder, row_a, multiples, r) for r in range(rows)]
        prefetch_c(builder, pc, row_c)
        entry = builder.block
        loop, done = (builder.append_basic_block(name) for name in ("k_loop", "k_done"))
        builder.branch(loop)
        builder.position_at_end(loop)
        left, a, b = (builder.phi(_I64) for _ in range(3))
        sums = [builder.phi(kind) for _ in range(rows * nvec)]
        for phi, start in zip((left, a, b), (k, pa, pb)):
            phi.add_incoming(start, entry)
        for phi in sums:
            phi.add_incoming(ir.Constant(kind, None), entry)
        if ahead:
            below = builder.add(b, builder.mul(step_b, _const(ahead)))
            for v in range(0, size * nvec, 64):
                simd._prefetch(builder, builder.add(below, _const(v)), level=2)
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


def make_dots(vector, rows, columns, right=None):
    """The intrinsic `dots(vectors, pa, row_a, pb, col_b, tail, to)`: rows x columns dot products along k.

    A's rows and B's columns lie along k: whole `vectors` of it, then `tail` (< lanes) numbers. The products are written to `to`,
    one after the other, row by row. Each is summed lane by lane and then across lanes, in an order fixed by k alone.
    `right` is the vector type in which B is stored, where it is stored in integers: they are converted as they are read.
    """
    right = vector if right is None else right
    kind = simd._llvm(vector)
    align = simd._align(vector)
    add_product = _multiply_adder(vector)

    def read_right(builder, read, address):
        numbers = read(address, right)
        if right == vector:
            return numbers
        whole = builder.sext(numbers, ir.VectorType(ir.IntType(32), vector.lanes))
        return builder.sitofp(whole, kind)

    def multiply_add(builder, sums, read, pa, row_a, pb, col_b):
        columns_of_b = [read_right(builder, read, builder.add(pb, builder.mul(col_b, _const(c)))) for c in range(columns)]
        for r in range(rows):
            left = read(builder.add(pa, builder.mul(row_a, _const(r))), vector)
            for c in range(columns):
                n = r * columns + c
                sums[n] = add_product(builder, left, columns_of_b[c], sums[n])

    def steps(builder, count, each, read, pa, row_a, pb, col_b, sums):
        """`count` times `each` vectors of k; where a and b stand then, and the sums."""
        entry = builder.block
        head, loop, done = (builder.append_basic_block(block) for block in ("head", "along_k", "after_k"))
        builder.branch(head)
        builder.position_at_end(head)
        phis = left, a, b, *totals = [builder.phi(_I64) for _ in range(3)] + [builder.phi(kind) for _ in sums]
        builder.cbranch(builder.icmp_signed(">", left, _const(0)), loop, done)
        builder.position_at_end(loop)
        new, next_a, next_b = list(totals), a, b
        for _ in range(each):
            multiply_add(builder, new, read, next_a, row_a, next_b, col_b)
            next_a = builder.add(next_a, _const(align * vector.lanes))
            next_b = builder.add(next_b, _const(simd._align(right) * vector.lanes))
        for phi, start, value in zip(phis, (count, pa, pb, *sums), (builder.sub(left, _const(1)), next_a, next_b, *new)):
            phi.add_incoming(start, entry)
            phi.add_incoming(value, loop)
        builder.branch(head)
        builder.position_at_end(done)
        return a, b, totals

    def codegen(context, builder, sig, args):
        vectors, pa, row_a, pb, col_b, tail, to = args

        def whole(address, stored):
            return builder.load(simd._pointer(builder, address, simd._llvm(stored)), align=simd._align(stored))

        a, b, sums = pa, pb, [ir.Constant(kind, None)] * (rows * columns)
        together = 64 // (simd._align(right) * vector.lanes)          # a cache line at a time
        if together > 1:
            a, b, sums = steps(builder, builder.sdiv(vectors, _const(together)), together, whole, a, row_a, b, col_b, sums)
            vectors = builder.srem(vectors, _const(together))
        a, b, sums = steps(builder, vectors, 1, whole, a, row_a, b, col_b, sums)
        live = simd._first_lanes(builder, tail, vector)

        def part(address, stored):
            return simd._load_part(builder, address, live, stored)

        some_left = builder.zext(builder.icmp_signed(">", tail, _const(0)), _I64)
        _, _, sums = steps(builder, some_left, 1, part, a, row_a, b, col_b, sums)
        for first in range(0, len(sums), vector.lanes):
            together = simd._fold(builder, sums[first : first + vector.lanes], vector.lanes, simd._add)
            place = builder.inttoptr(builder.add(to, _const(first * align)), together.type.as_pointer())
            builder.store(together, place, align=align)
        return context.get_dummy_value()

    @intrinsic
    def dots(typingctx, vectors, pa, row_a, pb, col_b, tail, to):
        return types.void(*[types.int64] * 7), codegen

    return dots
