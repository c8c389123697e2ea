"""Cross-entropy from logits, forward and backward, and straight from hidden states without storing all the logits.

A row goes by in blocks of 2048 that stay in the first-level cache: the block's maximum, then its Σ exp against the maximum so
far, the earlier sum being scaled down when that rises (Milakov and Gimelshein 2018). Forward saves one number per row, lse.
Backward reads once and writes once, and may write over the logits. What comes next is asked for while exponentials are worked
out: with 103 MB of logits and two threads forward 5.9 -> 4.3 ms, and backward, which also writes each vector as soon as it is
made, 10.3 -> 5.5.
"""
import math

import numpy as np

import kernels

from . import _check as check
from ._jit import COMPILED, jit, jit_tasks
from ._rows import handed_back, rows_of, share, span, target_of
from ._stream import LARGE, ask_for, stream
from .arrays import empty
from .reference_loss import _classes, _linear, default_chunk, linear_cross_entropy_backward, reduction_scale, row_gradient
from .vecmath import exp, exp_low, rounded, row_max, wide_vectors

__all__ = ["cross_entropy_backward", "cross_entropy_forward", "linear_cross_entropy_backward", "linear_cross_entropy_forward"]

BLOCK = 2048                        # numbers, 8 KB of float32
AHEAD = 512                         # of the next block that are asked for before as many of this one are worked on
AHEAD_BYTES = 1 << 12               # the same where results are written at once


@rounded
def _below(top, logit):
    """top - logit, as written: elsewhere LLVM may re-associate, and top + log_sum, where log_sum is lost, is at hand."""
    return top - logit


@jit_tasks
def _loss(task, tasks, width, logits, targets, ignore_index, smoothing, losses, lse):
    wide_vectors()
    first, last = span(task, tasks, logits.shape[0])
    zero = logits.dtype.type(0)
    for r in range(first, last):
        row = logits[r][:width]
        top, s = logits.dtype.type(-np.inf), zero
        for start in range(0, width, BLOCK):
            part = row[start:min(start + BLOCK, width)]
            higher = row_max(part)
            higher = top if higher < top else higher
            if higher == -np.inf:
                continue                              # nothing but -inf so far: adds 0, but exp(-inf + inf) is NaN
            s *= exp(top - higher)
            for near in range(0, part.size, AHEAD):
                ask_for(row, start + BLOCK + near, start + BLOCK + near + AHEAD)
                here = part[near:near + AHEAD]
                for i in range(here.size):
                    s += exp_low(here[i] - higher)
            top = higher
        log_sum = math.log(s) if s != zero else 0.0   # float64, and kept apart: top may be so large that it swallows it
        lse[r] = top + log_sum
        target = targets[r]
        if target == ignore_index:
            losses[r] = zero
        elif smoothing == zero:
            losses[r] = _below(top, row[target]) + log_sum
        else:
            total = 0.0                               # of differences, none negative: large logits take nothing off each other
            for i in range(width):
                total += _below(np.float64(top), row[i])
            losses[r] = (1 - smoothing) * _below(top, row[target]) + smoothing * (total / width) + log_sum


@jit
def _slopes_64(row, log, share_of_all, scale, past, d):
    """d = (exp(row - log) - share_of_all) · scale, by way of a scratch row: so LLVM sees that no store changes the next load."""
    wide_vectors()
    scratch = np.empty(BLOCK, row.dtype)
    for start in range(0, row.size, BLOCK):
        part, into = row[start:start + BLOCK], d[start:start + BLOCK]
        for i in range(part.size):
            scratch[i] = (exp_low(part[i] - log) - share_of_all) * scale
        if past:
            stream(into, scratch[:part.size])
            continue
        for i in range(part.size):                    # into[:] = ... would keep callers alive: Numba's typing of it raises inside
            into[i] = scratch[i]


if COMPILED:
    from ._stream import write
    from .simd import LANES32, exp_low_f32, load_f32, load_part_f32, prefetch_second, splat_f32, store_part

    @jit
    def _slopes_32(row, log, share_of_all, scale, past, d):
        """The same in explicit vectors: memory takes one result while the next is worked out, and is asked for what comes."""
        source, target, n = row.ctypes.data, d.ctypes.data, row.size
        base, part, factor = splat_f32(log), splat_f32(share_of_all), splat_f32(scale)
        i = min(-target % (4 * LANES32) // 4, n)         # from here on whole lines are written
        if i > 0:
            store_part(target, (exp_low_f32(load_part_f32(source, i) - base) - part) * factor, i)
        while i + LANES32 <= n:
            prefetch_second(source + 4 * i + AHEAD_BYTES)
            write(target + 4 * i, (exp_low_f32(load_f32(source + 4 * i) - base) - part) * factor, past)
            i += LANES32
        if i < n:
            store_part(target + 4 * i, (exp_low_f32(load_part_f32(source + 4 * i, n - i) - base) - part) * factor, n - i)
else:
    _slopes_32 = _slopes_64


def _gradient_by(slopes):
    """Rows of the gradient, each by `slopes` but for the target's own."""
    @jit_tasks
    def gradient(task, tasks, width, past, g, logits, targets, lse, ignore_index, smoothing, out):
        first, last = span(task, tasks, logits.shape[0])
        zero = logits.dtype.type(0)
        share_of_all = logits.dtype.type(smoothing / width)
        for r in range(first, last):
            row, d = logits[r][:width], out[r][:width]
            target = targets[r]
            if target == ignore_index:
                d[:] = zero
                continue
            hot = (exp(row[target] - lse[r]) - share_of_all - (1 - smoothing)) * g[r]
            slopes(row, lse[r], share_of_all, g[r], past, d)
            d[target] = hot

    return gradient


_GRADIENT = {check.F32: _gradient_by(_slopes_32), check.F64: _gradient_by(_slopes_64)}


# ---- the kernels ------------------------------------------------------------------------------------------------------

def cross_entropy_forward(logits, targets, ignore_index=-100, label_smoothing=0.0):
    _classes(logits, targets, ignore_index, label_smoothing)
    losses, lse = np.empty(targets.shape, logits.dtype), np.empty(targets.shape, logits.dtype)
    if logits.size == 0:
        losses[...], lse[...] = 0, -np.inf
        return losses, lse
    rows, width = rows_of(logits), logits.shape[-1]
    _loss(*share(len(rows), width), width, rows, _flat(targets), np.int64(ignore_index), logits.dtype.type(label_smoothing),
          losses.reshape(-1), lse.reshape(-1))
    return losses, lse


def cross_entropy_backward(g, logits, targets, lse, ignore_index=-100, label_smoothing=0.0, out=None):
    _classes(logits, targets, ignore_index, label_smoothing)
    check.statistics("lse", lse, logits)
    g = row_gradient(g, targets, ignore_index, logits)
    in_place = check.same_place(out, logits)
    target = target_of("out", out, logits.shape, logits.dtype, (lse,) if in_place else (logits, lse))
    if logits.size == 0:
        return target
    rows, width = rows_of(logits), logits.shape[-1]
    past = not in_place and logits.nbytes >= LARGE
    _GRADIENT[logits.dtype](*share(len(rows), width), width, past, _flat(g), rows, _flat(targets), _flat(lse),
                            np.int64(ignore_index), logits.dtype.type(label_smoothing), target.reshape(-1, width))
    return handed_back(out, target)


def linear_cross_entropy_forward(hidden, weight, targets, bias=None, *, reduction="mean", ignore_index=-100,
                                 label_smoothing=0.0, chunk_rows=None, gradients=True, precision=None):
    _linear(hidden, weight, targets, bias, reduction, chunk_rows)
    rows, flat = np.ascontiguousarray(hidden).reshape(targets.size, hidden.shape[-1]), _flat(targets)
    check.index_range("targets", flat, weight.shape[0], ignore_index)
    scale = reduction_scale(flat, ignore_index, reduction)
    step = chunk_rows or default_chunk(weight.shape[0], hidden.itemsize)
    buffer = empty((min(step, len(rows)), weight.shape[0]), hidden.dtype)
    dhidden, dweight = (empty(x.shape, x.dtype, np.empty if len(rows) else np.zeros) if gradients else None for x in (rows, weight))
    dbias = np.zeros(bias.shape, bias.dtype) if gradients and bias is not None else None
    loss = 0.0
    for i in range(0, len(rows), step):
        h, t = rows[i:i + step], flat[i:i + step]
        logits = kernels.matmul(h, weight, buffer[:len(h)], transpose_b=True, bias=bias, precision=precision)
        losses, lse = cross_entropy_forward(logits, t, ignore_index, label_smoothing)
        loss += float(losses.sum(dtype=np.float64))
        if gradients:
            d = cross_entropy_backward(scale, logits, t, lse, ignore_index, label_smoothing, out=logits)
            kernels.matmul(d, weight, dhidden[i:i + step], precision=precision)
            kernels.matmul(d, h, dweight, transpose_a=True, beta=float(i > 0), precision=precision)
            if dbias is not None:
                dbias += d.sum(axis=0)
    loss = np.asarray(loss * scale, hidden.dtype)
    return loss, (dhidden.reshape(hidden.shape) if gradients else None), dweight, dbias


def _flat(x):
    return np.ascontiguousarray(x).reshape(-1)


def warmup(dtypes=("float32",)):
    for dtype in dtypes:
        logits, targets = np.ones((64, 1024), dtype), np.zeros(64, np.int64)
        losses, lse = cross_entropy_forward(logits, targets)
        cross_entropy_backward(1.0, logits, targets, lse)
