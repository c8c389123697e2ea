"""What is done to a block of C while it is still in the cache: bias, activation, residual.

    pre = C + bias          (kept when the caller wants it: backward of the activation needs it)
    out = activation(pre) + residual
"""

from numba import carray

from . import simd
from ._jit import jit
from .activation import LINES32, LINES64
from .simd import call_address, field, poke

from .matmul_plan import (  # isort: skip
    ACTIVATION, COL_R, N2, P1, P2, P_BIAS, P_PRE, P_RES, R1, R2, ROW_C, ROW_P, ROW_R, STEP_BIAS,
)


def make_epilogue(vector):
    """`finish(plan, args, where, pc)` for one dtype; `where` holds i0, rows, j0, cols and batch of a finished block."""
    size, _, peek, pointer = simd.number_of(vector)
    relu, gelu, gelu_tanh, silu = ((LINES32 if size == 4 else LINES64)[name][2] for name in ("relu", "none", "tanh", "silu"))

    @jit
    def add_row(x, address, step):
        """x += the numbers at an address, `step` bytes apart."""
        if step == size:
            y = carray(pointer(address), (x.size,))
            for i in range(x.size):
                x[i] += y[i]
        else:
            for i in range(x.size):
                x[i] += peek(address + i * step)

    @jit
    def activate(code, row):
        if code == 1:
            relu(row)
        elif code == 2:
            gelu(row)
        elif code == 3:
            gelu_tanh(row)
        elif code == 4:
            silu(row)

    @jit
    def finish(plan, args, where, pc):
        i0, rows, j0, cols, batch = field(where, 0), field(where, 1), field(where, 2), field(where, 3), field(where, 4)
        bias, residual, pre = field(args, P_BIAS), field(args, P_RES), field(args, P_PRE)
        code = field(plan, ACTIVATION)
        first, second = batch // field(plan, N2), batch % field(plan, N2)
        row_c, row_p, row_r = field(plan, ROW_C), field(plan, ROW_P), field(plan, ROW_R)
        col_r, step_bias = field(plan, COL_R), field(plan, STEP_BIAS)
        to_pre = pre + first * field(plan, P1) + second * field(plan, P2) + j0 * size
        from_r = residual + first * field(plan, R1) + second * field(plan, R2) + j0 * col_r
        for i in range(i0, i0 + rows):
            row = carray(pointer(pc + i * row_c + j0 * size), (cols,))
            if bias:
                add_row(row, bias + j0 * step_bias, step_bias)
            if pre:
                saved = carray(pointer(to_pre + i * row_p), (cols,))
                for j in range(cols):
                    saved[j] = row[j]
            activate(code, row)
            if residual:
                add_row(row, from_r + i * row_r, col_r)

    return finish


@jit
def finish_block(finish, plan, args, scratch, i0, rows, j0, cols, batch, pc):
    """Call `finish`, an address or 0 where there is nothing to do, on one block."""
    if finish:
        poke(scratch, i0)
        poke(scratch + 8, rows)
        poke(scratch + 16, j0)
        poke(scratch + 24, cols)
        poke(scratch + 32, batch)
        call_address(finish, plan, args, scratch, pc)
