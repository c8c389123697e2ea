"""Matmul as loops anybody can step through: plain Python on arrays, no addresses and no vectors.

`product` has the shape of the fast version (blocks, a packed panel, a tile of sums) at sizes made for reading. It runs where
kernels are not compiled, under NUMBA_DISABLE_JIT=1 for one, and for products over an empty axis.
"""

import numpy as np

from .reference_matmul import ACTIVATIONS

ROWS, COLUMNS, STEP = 4, 8, 32                # of a tile of C, and how much of k is packed at a time


def matmul_naive(a, b, out, alpha, beta, bias, residual, pre, *, transpose_a, transpose_b, activation):
    """`matmul` by plain loops, every option; writes `out`, and `pre` where it is an array."""
    a = np.swapaxes(a, -1, -2) if transpose_a and a.ndim > 1 else a
    b = np.swapaxes(b, -1, -2) if transpose_b and b.ndim > 1 else b
    rows = a[None, :] if a.ndim == 1 else a
    columns = b[:, None] if b.ndim == 1 else b
    lead = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    rows, columns = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (rows, columns))
    y = np.zeros((*lead, rows.shape[-2], columns.shape[-1]), a.dtype)
    for index in np.ndindex(*lead):
        product(rows[index], columns[index], y[index])
    scalar = a.dtype.type
    y = y.reshape(out.shape) * scalar(alpha)
    if beta != 0.0:
        y = y + scalar(beta) * out
    if bias is not None:
        y = y + bias
    if pre is not None:
        pre[...] = y
    y = ACTIVATIONS[activation](np.asarray(y))            # two vectors make a number, which NumPy hands back as no array
    out[...] = y if residual is None else y + residual


def product(a, b, c):
    """c += a b for matrices, c in tiles of ROWS x COLUMNS, b packed STEP rows at a time."""
    (m, depth), n = a.shape, b.shape[1]
    for k0 in range(0, depth, STEP):
        k1 = min(k0 + STEP, depth)
        for j0 in range(0, n, COLUMNS):
            panel = pack(b, k0, k1, j0, min(j0 + COLUMNS, n))
            for i0 in range(0, m, ROWS):
                tile(a, panel, c, i0, min(i0 + ROWS, m), j0, min(j0 + COLUMNS, n), k0)


def pack(b, k0, k1, j0, j1):
    """The part b[k0:k1, j0:j1] next to itself, filled up with zero columns."""
    panel = np.zeros((k1 - k0, COLUMNS), b.dtype)
    for k in range(k0, k1):
        for j in range(j0, j1):
            panel[k - k0, j - j0] = b[k, j]
    return panel


def tile(a, panel, c, i0, i1, j0, j1, k0):
    """c[i0:i1, j0:j1] += a[i0:i1, k0:] panel; the sums stay in one small array, as they do in registers."""
    sums = np.zeros((ROWS, COLUMNS), c.dtype)
    for k in range(panel.shape[0]):
        for i in range(i0, i1):
            for j in range(j1 - j0):
                sums[i - i0, j] += a[i, k0 + k] * panel[k, j]
    for i in range(i0, i1):
        for j in range(j0, j1):
            c[i, j] += sums[i - i0, j - j0]
