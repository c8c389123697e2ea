"""float32 numbers at the nearest bfloat16: what products round first on hosts whose tiles do not do it while packing.

Integer arithmetic, which LLVM vectorises: half of the last kept bit is added, with that bit's own parity for ties, and the low
half is cut off. See `kernels.reference.round_bfloat16` for the mathematics.
"""
import numpy as np

from ._jit import jit_tasks
from ._rows import LINE, share, span
from .reference_matmul import check_float32
from .vecmath import wide_vectors

HALF, KEPT = np.uint32(0x7FFF), np.uint32(0xFFFF0000)
EXPONENT, FRACTION = np.uint32(0x7F800000), np.uint32(0x007FFFFF)
SIGN, QUIET = np.uint32(0x80000000), np.uint32(0x00400000)
SHIFT, ONE, ZERO = np.uint32(16), np.uint32(1), np.uint32(0)


@jit_tasks
def _round(task, tasks, lines, x, out):
    wide_vectors()
    first, last = span(task, tasks, lines)
    for r in range(first, last):
        row, y = x[r * LINE:min((r + 1) * LINE, x.size)], out[r * LINE:min((r + 1) * LINE, x.size)]
        for i in range(row.size):
            bits = row[i]
            exponent = bits & EXPONENT
            if exponent == ZERO:                      # zero, or below the smallest normal number
                rounded = bits & SIGN
            elif exponent == EXPONENT:                # infinity, or NaN, which stays one
                rounded = bits | QUIET if bits & FRACTION != ZERO else bits
            else:
                rounded = bits + (HALF + ((bits >> SHIFT) & ONE))
            y[i] = np.uint32(rounded) & KEPT


def round_bfloat16(x):
    """A new array; by columns where x is."""
    check_float32("x", x)
    source = x if x.flags.forc else np.ascontiguousarray(x)
    out = np.empty_like(source)
    if out.size:
        lines = -(-out.size // LINE)
        _round(*share(lines, LINE), lines, source.ravel("K").view(np.uint32), out.ravel("K").view(np.uint32))
    return out


def warmup(dtypes=("float32",)):
    if "float32" in [np.dtype(d).name for d in dtypes]:
        round_bfloat16(np.ones(1 << 16, np.float32))
