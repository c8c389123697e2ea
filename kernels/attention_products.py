"""Products inside attention: small dense C += A B whose operands already lie in the caches, on register tiles.

`by rows`     C[i] += Σ_k A[i, k] B[k]     scores K Qᵀ, dP = V dOᵀ, dV = P dO, dK = dS Q
`by columns`  C[i] += Σ_k A[k, i] B[k]     out = Pᵀ V, dQ = dSᵀ K

B's rows are vectors, A is read as scalars and broadcast. Nothing is packed: attention's operands are packed once per head.
`low` and `high` cut the sum for masks that follow the diagonal: row i takes k in [i + low, i + height + high).
"""
import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels import simd
from kernels._jit import jit
from kernels.vectors import _INT, _WORD, _vector, lanes, sizeof

FAR = 1 << 40                   # further than any two positions lie apart
# rows and vectors of the largest register tile: 4 × 4 of 32 registers, 6 × 2 of 16
TALL, WIDE = (6, 2) if simd.FEW_REGISTERS else (4, 4)


def sum_over(builder, first, last, start, add):
    """A loop: `start`, a list of values, each replaced by what `add(n, values)` makes of them for first <= n < last."""
    begin = builder.block
    loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
    builder.position_at_end(loop)
    n, totals = builder.phi(_INT), [builder.phi(value.type) for value in start]
    summed = add(n, totals)
    following = builder.add(n, ir.Constant(_INT, 1))
    for phi, before, later in zip([n, *totals], [first, *start], [following, *summed], strict=True):
        phi.add_incoming(before, begin)
        phi.add_incoming(later, loop)
    builder.cbranch(builder.icmp_signed("<", following, last), loop, done)
    builder.position_at_end(done)
    results = [builder.phi(value.type) for value in start]
    for result, before, later in zip(results, start, summed, strict=True):
        result.add_incoming(before, begin)
        result.add_incoming(later, loop)
    return results


def _micro_kernel(by_column, height, width):
    """C[height × width vectors] = start + A B for k0 <= k < k1, all sums in registers; strides in bytes.

    A is read as scalars: A[i, k] lies at A + i·lda + k (by rows) or at A + i + k·lda (by columns), B[k] is a row of vectors.
    `start` is 0 for scales == 0, C for scales == 1, else C[i] · (number i at the address `scales`).
    """
    @intrinsic
    def micro(typingctx, C, ldc, A, lda, B, ldb, k0, k1, scales, like):
        vector, word = _vector(like), _WORD[like]
        kind = simd._llvm(vector)
        cells = [(i, j) for i in range(height) for j in range(width)]

        def codegen(context, builder, sig, args):
            C, ldc, A, lda, B, ldb, k0, k1, scales = args[:-1]
            fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3),
                                                 f"llvm.fma.{simd._name(vector)}")

            def number(n):
                return ir.Constant(_INT, n)

            def at(address, offset=0, to=kind):
                return simd._pointer(builder, builder.add(address, number(offset)), to)

            def scalar(address, offset=0):
                return simd._splat(builder, builder.load(at(address, offset, simd._SCALAR[like]), align=word), vector)

            out_rows = [builder.add(C, builder.mul(ldc, number(i))) for i in range(height)]
            in_rows = [builder.add(A, builder.mul(lda, number(i))) for i in range(height)]
            places = {(i, j): (out_rows[i], j * vector.lanes * word) for i, j in cells}
            zero = ir.Constant(kind, None)
            entry = builder.block
            continued, scaled, begin = (builder.append_basic_block(n) for n in ("continued", "scaled", "begin"))
            builder.cbranch(builder.icmp_unsigned("==", scales, number(0)), begin, continued)
            builder.position_at_end(continued)
            before = {c: builder.load(at(*places[c]), align=word) for c in cells}
            builder.cbranch(builder.icmp_unsigned("==", scales, number(1)), begin, scaled)
            builder.position_at_end(scaled)
            factors = [scalar(scales, i * word) for i in range(height)]
            rescaled = {c: builder.fmul(before[c], factors[c[0]]) for c in cells}
            builder.branch(begin)

            builder.position_at_end(begin)
            start = [builder.phi(kind) for _ in cells]
            for c, phi in zip(cells, start, strict=True):
                for value, block in ((zero, entry), (before[c], continued), (rescaled[c], scaled)):
                    phi.add_incoming(value, block)

            def add(k, totals):
                b_row = builder.add(B, builder.mul(k, ldb))
                b = [builder.load(at(b_row, j * vector.lanes * word), align=word) for j in range(width)]
                summed = []
                for i in range(height):
                    if by_column:
                        a = scalar(builder.add(A, builder.mul(k, lda)), i * word)
                    else:
                        a = scalar(builder.add(in_rows[i], builder.mul(k, number(word))))
                    summed += [builder.call(fma, [a, b[j], totals[i * width + j]]) for j in range(width)]
                return summed

            for c, result in zip(cells, sum_over(builder, k0, k1, start, add), strict=True):
                builder.store(result, at(*places[c]), align=word)
            return context.get_dummy_value()
        return types.void(*[types.int64] * 9, like), codegen
    return micro


def _strip(by_column, rows, width):
    """The rows from `first` to before `last`, so many whole tiles, of a strip of `width` vectors."""
    micro = _micro_kernel(by_column, rows, width)

    @jit
    def strip(C, ldc, A, lda, B, ldb, first, last, depth, low, high, start, like):
        size = sizeof(like)
        next_row = size if by_column else lda
        for i in range(first, last, rows):
            scale = start + i * size if start > 1 else start
            micro(C + i * ldc, ldc, A + i * next_row, lda, B, ldb, max(0, i + low), min(depth, i + rows + high), scale, like)

    return strip


def _product(by_column):
    """The whole product: strips of vectors, from left to right, cut into the micro-kernel's tiles."""
    wide, pair, one = (_strip(by_column, rows, width) for rows, width in ((TALL, WIDE), (4, 2), (8, 1)))
    unit = math.lcm(TALL, 4)                     # rows that leave whole tiles of 4, none where TALL is 4

    @jit
    def product(C, ldc, A, lda, B, ldb, height, vectors, depth, low, high, start, like):
        step = lanes(like) * sizeof(like)
        cut = low != -FAR or high != FAR         # then in steps that groups of 8 rows end with: `attention_tiles.rows_seen`
        tall = 0 if cut and unit != 4 else height // unit * unit
        j = 0
        while j + WIDE <= vectors:
            wide(C + j * step, ldc, A, lda, B + j * step, ldb, 0, tall, depth, low, high, start, like)
            if WIDE == 2:
                pair(C + j * step, ldc, A, lda, B + j * step, ldb, tall, height, depth, low, high, start, like)
            j += WIDE
        while j + 2 <= vectors:
            pair(C + j * step, ldc, A, lda, B + j * step, ldb, 0, height, depth, low, high, start, like)
            j += 2
        if j < vectors:
            one(C + j * step, ldc, A, lda, B + j * step, ldb, 0, height, depth, low, high, start, like)

    return product


# C (height × vectors) = start + A B with A[i, k], or start + Aᵀ B with A[k, i]; height a multiple of 8; strides in bytes
product_by_rows, product_by_columns = _product(False), _product(True)
