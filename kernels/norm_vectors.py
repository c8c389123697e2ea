"""LayerNorm and RMSNorm in explicit vectors, two rows at a time: the loops of `norm_plain`, which say what is computed.

Two rows share what is read of weight and bias and, backward, what is read and written of their gradients; and they give the
core sums that do not wait for each other. dx, dweight and dbias take one pass over a row, where LLVM's vectoriser
needed three: it gives up where more than 8 pairs of arrays must be proven apart.
A row without a partner is its own: forward writes the same numbers twice; backward its second share is of a gradient of zeros.
"""
import numpy as np

from ._jit import jit, jit_tasks
from ._rows import span
from .simd import fma, sum_lanes
from .vecmath import wide_vectors
from .vectors import constant, first_lanes, lanes, put, row_of, sizeof, take, vload

# ---- forward ----------------------------------------------------------------------------------------------------------

@jit(forceinline=True)
def sums(a, b, width, like):
    """Σ of two rows."""
    size, step = sizeof(like), lanes(like)
    a0 = a1 = b0 = b1 = constant(0.0, like)
    i = 0
    while i + 2 * step <= width:
        a0, a1 = a0 + vload(a + i * size, like), a1 + vload(a + (i + step) * size, like)
        b0, b1 = b0 + vload(b + i * size, like), b1 + vload(b + (i + step) * size, like)
        i += 2 * step
    while i < width:
        a0, b0 = a0 + take(a + i * size, width - i, like), b0 + take(b + i * size, width - i, like)
        i += step
    return sum_lanes(a0 + a1), sum_lanes(b0 + b1)


@jit(forceinline=True)
def square(address, mean, total, like):
    c = vload(address, like) - mean
    return fma(c, c, total)


@jit(forceinline=True)
def square_part(address, count, mean, total, like):
    c = first_lanes(take(address, count, like) - mean, count)
    return fma(c, c, total)


@jit(forceinline=True)
def squares(a, b, mean_a, mean_b, width, like):
    """Σ (x - mean)² of two rows."""
    size, step = sizeof(like), lanes(like)
    a0 = a1 = b0 = b1 = constant(0.0, like)
    i = 0
    while i + 2 * step <= width:
        a0, a1 = square(a + i * size, mean_a, a0, like), square(a + (i + step) * size, mean_a, a1, like)
        b0, b1 = square(b + i * size, mean_b, b0, like), square(b + (i + step) * size, mean_b, b1, like)
        i += 2 * step
    while i < width:
        a0 = square_part(a + i * size, width - i, mean_a, a0, like)
        b0 = square_part(b + i * size, width - i, mean_b, b0, like)
        i += step
    return sum_lanes(a0 + a1), sum_lanes(b0 + b1)


@jit(forceinline=True)
def add_row(x, residual, total, width, like):
    """total = x + residual for one row."""
    for i in range(0, width, lanes(like)):
        at = i * sizeof(like)
        put(total + at, take(x + at, width - i, like) + take(residual + at, width - i, like), width - i, like)


@jit_tasks
def normalize(task, tasks, width, x, residual, weight, bias, eps, total, out, mean, rstd):
    wide_vectors()
    size, step = sizeof(eps), lanes(eps)
    first, last = span(task, tasks, x.shape[0])
    w, shift = weight.ctypes.data, 0 if bias is None else bias.ctypes.data
    for r in range(first, last, 2):
        s = min(r + 1, last - 1)
        a, b = row_of(x, r), row_of(x, s)
        if residual is not None:
            add_row(a, row_of(residual, r), row_of(total, r), width, eps)
            add_row(b, row_of(residual, s), row_of(total, s), width, eps)
            a, b = row_of(total, r), row_of(total, s)
        mean_a = mean_b = type(eps)(0)
        if mean is not None:
            sum_a, sum_b = sums(a, b, width, eps)
            mean_a, mean_b = type(eps)(sum_a / width), type(eps)(sum_b / width)
            mean[r], mean[s] = mean_a, mean_b
        sum_a, sum_b = squares(a, b, mean_a, mean_b, width, eps)
        scale_a, scale_b = type(eps)(1 / np.sqrt(sum_a / width + eps)), type(eps)(1 / np.sqrt(sum_b / width + eps))
        rstd[r], rstd[s] = scale_a, scale_b
        to_a, to_b = row_of(out, r), row_of(out, s)
        for i in range(0, width, step):
            at, count = i * size, width - i
            factor = take(w + at, count, eps)
            y, z = (take(a + at, count, eps) - mean_a) * scale_a, (take(b + at, count, eps) - mean_b) * scale_b
            if bias is None:
                y, z = y * factor, z * factor
            else:
                added = take(shift + at, count, eps)
                y, z = fma(y, factor, added), fma(z, factor, added)
            put(to_a + at, y, count, eps)
            put(to_b + at, z, count, eps)


# ---- backward ---------------------------------------------------------------------------------------------------------

@jit_tasks
def normalize_gradient(task, tasks, width, g, g_total, x, weight, mean, rstd, dx, dweights, dbiases):
    wide_vectors()
    first, last = span(task, tasks, x.shape[0])
    like = rstd[first]
    size, step, zero = sizeof(like), lanes(like), type(like)(0)
    w, dweight = weight.ctypes.data, row_of(dweights, task)
    dbias = 0 if dbiases is None else row_of(dbiases, task)
    spare = np.zeros((2, width if (last - first) % 2 else 0), x.dtype)
    for r in range(first, last, 2):
        s = min(r + 1, last - 1)
        a, b, ga, gb, to_a, to_b = row_of(x, r), row_of(x, s), row_of(g, r), row_of(g, s), row_of(dx, r), row_of(dx, s)
        if s == r:
            gb, to_b = row_of(spare, 0), row_of(spare, 1)
        mean_a = mean_b = zero
        if mean is not None:
            mean_a, mean_b = mean[r], mean[s]
        scale_a, scale_b = rstd[r], rstd[s]
        h_a = h_b = hx_a = hx_b = constant(0.0, like)
        for i in range(0, width, step):
            at, count = i * size, width - i
            factor = take(w + at, count, like)
            h, k = take(ga + at, count, like) * factor, take(gb + at, count, like) * factor
            h_a, h_b = h_a + h, h_b + k
            hx_a, hx_b = fma(h, take(a + at, count, like) - mean_a, hx_a), fma(k, take(b + at, count, like) - mean_b, hx_b)
        off_a = off_b = zero
        if mean is not None:
            off_a, off_b = type(like)(sum_lanes(h_a) / width), type(like)(sum_lanes(h_b) / width)
        slope_a, slope_b = type(like)(sum_lanes(hx_a) * scale_a / width), type(like)(sum_lanes(hx_b) * scale_b / width)
        for i in range(0, width, step):
            at, count = i * size, width - i
            factor, upstream, other = take(w + at, count, like), take(ga + at, count, like), take(gb + at, count, like)
            y, z = (take(a + at, count, like) - mean_a) * scale_a, (take(b + at, count, like) - mean_b) * scale_b
            d, e = (upstream * factor - off_a - y * slope_a) * scale_a, (other * factor - off_b - z * slope_b) * scale_b
            if g_total is not None:
                d = d + take(row_of(g_total, r) + at, count, like)
                e = e + take(row_of(g_total, s) + at, count, like)
            put(to_a + at, d, count, like)
            put(to_b + at, e, count, like)
            put(dweight + at, fma(other, z, fma(upstream, y, take(dweight + at, count, like))), count, like)
            if dbiases is not None:
                put(dbias + at, take(dbias + at, count, like) + upstream + other, count, like)
