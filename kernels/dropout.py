"""Dropout whose mask is a function of (seed, place), so that backward needs no stored mask.

Two rounds of a 32-bit mixer for each element, all in integers, which LLVM vectorises; see `kernels.reference.random_bits`.
"""
import numpy as np

from . import _check as check
from ._jit import COMPILED, jit_tasks
from ._rows import LINE, share, span
from .arrays import empty
from .reference import _mix, seed_keys
from .vecmath import wide_vectors

if COMPILED:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def kept(typingctx, low, high, k0, k1, threshold):
        """Whether mix(mix(low ^ k0) + k1 + high · odd) >= threshold, for the counter 2³² high + low."""
        def lower(context, builder, sig, args):
            word = ir.IntType(32)
            low, high, k0, k1, threshold = [builder.trunc(x, word) for x in args]
            h = _lower_mix(builder, builder.xor(low, k0), word)
            h = builder.add(builder.add(h, k1), builder.mul(high, ir.Constant(word, 0x9E3779B9)))
            return builder.icmp_unsigned(">=", _lower_mix(builder, h, word), threshold)

        return types.boolean(*[types.int64] * 5), lower

    def _lower_mix(builder, h, word):
        for shift, odd in ((16, 0x21F0AAAD), (15, 0x735A2D97), (15, None)):
            h = builder.xor(h, builder.lshr(h, ir.Constant(word, shift)))
            h = h if odd is None else builder.mul(h, ir.Constant(word, odd))
        return h
else:
    def kept(low, high, k0, k1, threshold):
        """Whether the 32 random bits of the counter 2³² high + low reach the threshold."""
        word = 0xFFFFFFFF
        with np.errstate(over="ignore"):
            h = _mix(np.uint32((low ^ k0) & word)) + np.uint32(k1) + np.uint32(high & word) * np.uint32(0x9E3779B9)
            return _mix(h) >= threshold


@jit_tasks
def _drop(task, tasks, total, lines, x, k0, k1, threshold, scale, out):
    wide_vectors()
    first, last = span(task, tasks, lines)
    zero = x.dtype.type(0)
    for r in range(first, last):
        start = r * LINE
        row = x[start:min(start + LINE, total)]
        y = out[start:min(start + LINE, total)]
        high, base = start >> 32, start & 0xFFFFFFFF
        for i in range(row.size):
            y[i] = row[i] * scale if kept(base + i, high, k0, k1, threshold) else zero


def dropout_forward(x, p, seed):
    check.float_array("x", x)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p: expected a probability in [0, 1], got {p}")
    out = empty(x.shape, x.dtype)
    threshold = round(p * 2**32)
    if threshold >= 2**32:
        out[...] = 0
    elif x.size:
        k0, k1 = seed_keys(seed)
        lines = -(-x.size // LINE)
        _drop(*share(lines, LINE), x.size, lines, np.ascontiguousarray(x).reshape(-1), int(k0), int(k1), threshold,
              x.dtype.type(1.0 / (1.0 - p)), out.reshape(-1))
    return out


def dropout_backward(g, p, seed):
    return dropout_forward(g, p, seed)


def warmup(dtypes=("float32",)):
    for dtype in dtypes:
        dropout_forward(np.ones(1 << 16, dtype), 0.1, 0)
