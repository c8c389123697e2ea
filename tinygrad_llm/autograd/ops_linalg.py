"""Products of matrices: matmul and what is written through them; solving and determinants.

Large products go to `kernels.matmul`; for small ones NumPy's own call costs less than ours would. Under `autocast` all products
of matrices go there; an operation keeps its precision with what it saves, so that its gradients have the same.
"""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np

import kernels

from .op import op
from .ops_common import derived, normal_axes, of_numpy_2, value
from .ops_reduce import euclidean_norm
from .ops_shape import as_tensor, expand_dims, moveaxis, transpose
from .state import autocast, local, switches

SMALL = 72**3  # multiply-adds; below, np.matmul's lower call cost wins (64³: 5.6 µs against 5.3 to 6.2; 80³: 10 and 8)

COLUMNS = 1 << 12  # numbers; above, a product with ones is up to three times as fast as NumPy's sum over rows

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def precision_of(a: np.ndarray, b: np.ndarray) -> str | None:
    """How the product of these matrices is to be rounded here: None for float32's own precision."""
    if switches.rounding and a.ndim > 1 and b.ndim > 1 and a.dtype == np.float32 and b.dtype == np.float32:
        return local.precision
    return None


FEW_ROWS, FEW_WORK = 16, 1 << 16  # products of so few rows are dot products, each the same whatever it is part of


def is_for_kernels(rows: int, weights: int) -> bool:
    """Whether `rows` rows times a matrix of so many numbers is for our kernels rather than for NumPy."""
    return rows * weights > SMALL or (rows <= FEW_ROWS and rows * weights >= FEW_WORK)


def rows_of(x: np.ndarray) -> np.ndarray:
    """(..., D) -> (rows, D), also where D is 0"""
    if x.ndim == 2:
        return x
    return x.reshape(-1 if x.size else math.prod(x.shape[:-1]), x.shape[-1])


def product(a: np.ndarray, b: np.ndarray, precision: str | None = None) -> np.ndarray:
    """a @ b for ndarrays, by the faster route."""
    if precision is not None:
        return kernels.matmul(a, b, precision=precision)
    if a.ndim > 1 and b.ndim > 1 and a.size * b.shape[-1] > SMALL and a.dtype == b.dtype and a.dtype in FLOATS:
        return kernels.matmul(a, b)
    return np.matmul(a, b)


def column_sums(rows: np.ndarray) -> np.ndarray:
    """Σ over the rows, row by row: (rows, N) -> (N,)"""
    if rows.size > COLUMNS and rows.dtype in FLOATS:
        return kernels.matmul(np.ones(len(rows), rows.dtype), rows)
    return rows.sum(axis=0)


def flip_last(x):
    """Every matrix transposed; works on ndarrays and Tensors."""
    return x.swapaxes(-1, -2)


def times(a, b, precision):
    """a @ b for ndarrays or Tensors, in the precision that the forward had."""
    if type(a) is np.ndarray and type(b) is np.ndarray:
        return product(a, b, precision)
    with autocast(precision):
        return a @ b


@op(numpy=tuple(of_numpy_2("matmul")))
def matmul(a, b):
    """y[..., i, j] = Σₖ a[..., i, k] b[..., k, j]; a vector a is a row, a vector b a column; leading axes broadcast"""
    precision = precision_of(a, b)
    return product(a, b, precision), (a, b, precision)

@matmul.grad_of("a")
def _(g, a, b, precision):
    if b.ndim == 1:
        return g * b if a.ndim == 1 else np.expand_dims(g, -1) * b
    if a.ndim == 1:
        return np.expand_dims(g, -2) @ flip_last(b) if b.ndim == 2 else np.sum(np.expand_dims(g, -2) * b, axis=-1)
    return times(g, flip_last(b), precision)

@matmul.grad_of("b")
def _(g, a, b, precision):
    if a.ndim == 1:
        return g * a if b.ndim == 1 else np.expand_dims(a, -1) * np.expand_dims(g, -2)
    if b.ndim == 1:
        return np.sum(np.expand_dims(g, -1) * a, axis=tuple(range(a.ndim - 1)))
    if b.ndim == 2 and a.ndim > 2:  # one product over all rows instead of many, then a sum
        rows = math.prod(a.shape[:-1])  # -1 would be ambiguous for empty arrays
        a, g = a.reshape((rows, a.shape[-1])), g.reshape((rows, g.shape[-1]))
    return times(flip_last(a), g, precision)


# -- derived products --------------------------------------------------------------------------------------------------


@derived(np.dot)
def dot(a, b):
    """For vectors and matrices the product; else the sum over a's last axis and b's last but one."""
    a, b = as_tensor(a, b), as_tensor(b, a)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return matmul(a, b) if b.ndim <= 2 else tensordot(a, b, axes=((a.ndim - 1,), (b.ndim - 2,)))


@derived(np.vdot)
def vdot(a, b):
    """Σ a · b over all elements."""
    return matmul(as_tensor(a, b).reshape(-1), as_tensor(b, a).reshape(-1))


@derived(np.inner)
def inner(a, b):
    """The sum over both last axes."""
    a, b = as_tensor(a, b), as_tensor(b, a)
    return a * b if a.ndim == 0 or b.ndim == 0 else tensordot(a, b, axes=((a.ndim - 1,), (b.ndim - 1,)))


@derived(*of_numpy_2("outer"))
def outer(a, b):
    """y[i, j] = a[i] · b[j]"""
    return as_tensor(a, b).reshape(-1, 1) * as_tensor(b, a).reshape(1, -1)


@derived(*of_numpy_2("tensordot"))
def tensordot(a, b, axes=2):
    """The sum over pairs of axes: the last `axes` of a with the first of b, or two lists of axes."""
    a, b = as_tensor(a, b), as_tensor(b, a)
    if isinstance(axes, (int, np.integer)):
        left, right = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    else:
        left, right = axes
    left, right = normal_axes(left, a.ndim), normal_axes(right, b.ndim)
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ValueError(f"tensordot: axes {left} of {a.shape} and {right} of {b.shape} have different lengths")
    rest_a = tuple(i for i in range(a.ndim) if i not in left)
    rest_b = tuple(i for i in range(b.ndim) if i not in right)
    n = math.prod(a.shape[i] for i in left)
    shape_a, shape_b = tuple(a.shape[i] for i in rest_a), tuple(b.shape[i] for i in rest_b)
    rows = transpose(a, axes=rest_a + left).reshape((math.prod(shape_a), n))
    columns = transpose(b, axes=right + rest_b).reshape((n, math.prod(shape_b)))
    return matmul(rows, columns).reshape(shape_a + shape_b)


@derived(np.kron)
def kron(a, b):
    """Every element of a times the whole of b."""
    a, b = as_tensor(a, b), as_tensor(b, a)
    ndim = max(a.ndim, b.ndim)
    a, b = (x.reshape((1,) * (ndim - x.ndim) + x.shape) for x in (a, b))
    wide = expand_dims(a, tuple(range(1, 2 * ndim, 2))) * expand_dims(b, tuple(range(0, 2 * ndim, 2)))
    return wide.reshape(tuple(m * n for m, n in zip(a.shape, b.shape)))


@derived(*of_numpy_2("cross"))
def cross(a, b, axis=-1):
    """The vector product of vectors of length 3 along the axis."""
    a, b = moveaxis(as_tensor(a, b), axis, -1), moveaxis(as_tensor(b, a), axis, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(f"cross: expected axes of length 3, got shapes {a.shape} and {b.shape}")
    turn, back = [1, 2, 0], [2, 0, 1]
    return moveaxis(a[..., turn] * b[..., back] - a[..., back] * b[..., turn], -1, axis)


@derived(*of_numpy_2("vecdot"))
def vecdot(a, b, axis=-1):
    """Σ a · b along one axis."""
    return (as_tensor(a) * b).sum(axis=axis)


@derived(*of_numpy_2("matvec"))
def matvec(a, x):
    """y[..., i] = Σⱼ a[..., i, j] x[..., j]; leading axes broadcast"""
    return matmul(a, as_tensor(x)[..., None])[..., 0]


@derived(*of_numpy_2("vecmat"))
def vecmat(x, a):
    """y[..., j] = Σᵢ x[..., i] a[..., i, j]; leading axes broadcast"""
    return matmul(as_tensor(x)[..., None, :], a)[..., 0, :]


@derived(np.linalg.multi_dot)
def multi_dot(arrays):
    """The product of several matrices, from left to right."""
    if not len(arrays):
        raise ValueError("expected at least one array, got none")
    out = as_tensor(arrays[0])
    for x in arrays[1:]:
        out = matmul(out, x)
    return out


# -- norms -------------------------------------------------------------------------------------------------------------


def _power_norm(x, p, axis, keepdims):
    """(Σ |x|ᵖ)^(1/p), with the subgradient 0 at 0: both powers are kept away from it."""
    zero = x._data == 0
    powers = np.where(zero, 0 if p > 0 else np.inf, np.where(zero, 1, np.absolute(x)) ** p)
    total = powers.sum(axis=axis, keepdims=keepdims)
    empty = (total._data == 0) | np.isinf(total._data)
    return np.where(empty, 0 if p > 0 else total._data ** (1 / p), np.where(empty, 1, total) ** (1 / p))


@derived(*of_numpy_2("vector_norm"))
def vector_norm(x, ord=2, axis=None, keepdims=False):
    """‖x‖ of the vectors along the axes (None: of all elements): ord 2, 1, inf, -inf, 0 or any p."""
    x = as_tensor(x)
    if ord == 2:
        return euclidean_norm(x, axis=axis, keepdims=keepdims)
    if ord == 1:
        return np.absolute(x).sum(axis=axis, keepdims=keepdims)
    if ord == np.inf:
        return np.absolute(x).max(axis=axis, keepdims=keepdims)
    if ord == -np.inf:
        return np.absolute(x).min(axis=axis, keepdims=keepdims)
    if ord == 0:
        return np.not_equal(x, 0).astype(x.dtype).sum(axis=axis, keepdims=keepdims)
    if not isinstance(ord, (int, float)):
        raise ValueError(f"ord must be a number for vectors, got {ord!r}")
    return _power_norm(x, ord, axis, keepdims)


@derived(*of_numpy_2("matrix_norm"))
def matrix_norm(x, ord="fro", axis=(-2, -1), keepdims=False):
    """‖x‖ of matrices: "fro", 1 and -1 (column sums), inf and -inf (row sums), 2, -2 and "nuc" (the largest, the least and the
    sum of the singular values)."""
    from .ops_decompose import svdvals

    x = as_tensor(x)
    rows, columns = normal_axes(axis, x.ndim)
    if ord == "fro":
        return vector_norm(x, 2, (rows, columns), keepdims)
    if ord in (2, -2, "nuc"):
        values = svdvals(moveaxis(x, (rows, columns), (-2, -1)))
        out = values.sum(axis=-1) if ord == "nuc" else values.max(axis=-1) if ord == 2 else values.min(axis=-1)
        return expand_dims(out, (rows, columns)) if keepdims else out
    if ord not in (1, -1, np.inf, -np.inf):
        raise ValueError(f"ord must be 'fro', 'nuc', 1, -1, 2, -2, inf or -inf for matrices, got {ord!r}")
    first, second = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = np.absolute(x).sum(axis=first, keepdims=True)
    out = sums.max(axis=second, keepdims=True) if ord > 0 else sums.min(axis=second, keepdims=True)
    return out if keepdims else np.squeeze(out, (rows, columns))


@derived(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    """A vector's length (one axis, or ord None) or a matrix norm (two axes, or a matrix with `ord`), as np.linalg.norm."""
    x = as_tensor(x)
    axes = axis if axis is None or isinstance(axis, (int, np.integer)) else tuple(axis)
    two = (isinstance(axes, tuple) and len(axes) == 2) or (axes is None and x.ndim == 2)
    if ord is not None and two:
        return matrix_norm(x, ord, axes or (0, 1), keepdims)
    if ord is not None and axes is None and x.ndim > 2:
        raise ValueError(f"norm: with ord={ord!r} and {x.ndim} axes, say which: axis=")
    return vector_norm(x, 2 if ord is None else ord, axes, keepdims)


# -- solving -----------------------------------------------------------------------------------------------------------


@op(numpy=np.linalg.inv)
def inv(x):
    """y = x⁻¹"""
    out = np.linalg.inv(x)
    return out, (out,)

@inv.grad_of("x")
def _(g, out): return -(flip_last(out) @ g @ flip_last(out))


@op(name="solve")
def _solve(a, b):
    """y = a⁻¹ b, for matrices b"""
    out = np.linalg.solve(a, b)
    return out, (a, out)

@_solve.grad_of("a")
def _(g, a, out): return -(np.linalg.solve(flip_last(a), g) @ flip_last(out))

@_solve.grad_of("b")
def _(g, a, out): return np.linalg.solve(flip_last(a), g)


@derived(np.linalg.solve)
def solve(a, b):
    """y with a y = b; b is a vector (one axis) or matrices."""
    b = as_tensor(b, a)
    return np.squeeze(_solve(a, expand_dims(b, -1)), -1) if b.ndim == 1 else _solve(a, b)


@op(numpy=np.linalg.det)
def det(x):
    """y = det x; the gradient needs x to be invertible"""
    out = np.linalg.det(x)
    return out, (x, out)

@det.grad_of("x")
def _(g, x, out): return np.expand_dims(g * out, (-1, -2)) * flip_last(np.linalg.inv(x))


@op
def logabsdet(x):
    """y = log |det x|"""
    return np.linalg.slogdet(x)[1], (x,)

@logabsdet.grad_of("x")
def _(g, x): return np.expand_dims(g, (-1, -2)) * flip_last(np.linalg.inv(x))


SlogdetResult = namedtuple("SlogdetResult", "sign logabsdet")


@derived(np.linalg.slogdet)
def slogdet(x):
    """The sign of det x (no gradient) and log |det x|."""
    return SlogdetResult(as_tensor(np.linalg.slogdet(value(x))[0]), logabsdet(x))


def symmetric(x):
    """The mean of x and xᵀ."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"expected square matrices, got shape {x.shape}")
    return (x + flip_last(x)) / 2


@op(name="cholesky")
def _cholesky(x):
    """y lower triangular with y yᵀ = x; of an x that is not symmetric the mean of x and xᵀ counts"""
    out = np.linalg.cholesky(symmetric(x))
    return out, (out,)

@_cholesky.grad_of("x")
def _(g, out):
    """dx = sym(y⁻ᵀ Φ(yᵀ g) y⁻¹), Φ the lower half with the diagonal halved   Murray 2016, arXiv:1602.07527"""
    n = out.shape[-1]
    half = np.tril(np.ones((n, n), out.dtype)) - 0.5 * np.eye(n, dtype=out.dtype)
    back = np.linalg.inv(out)
    dx = flip_last(back) @ ((flip_last(out) @ np.tril(g)) * half) @ back
    return (dx + flip_last(dx)) / 2


@derived(np.linalg.cholesky)
def cholesky(x, *, upper=False):
    """The lower triangular y with y yᵀ = x, x symmetric and positive definite; `upper`: yᵀ."""
    return flip_last(_cholesky(x)) if upper else _cholesky(x)


@derived(np.linalg.matrix_power)
def matrix_power(x, n):
    """x multiplied with itself n times; n = 0 is the identity, a negative n takes the inverse."""
    x = as_tensor(x)
    if n < 0:
        x, n = inv(x), -n
    if n == 0:
        return as_tensor(np.broadcast_to(np.eye(x.shape[-1], dtype=x.dtype), x.shape)) + x * 0
    out = None
    while n:
        if n & 1:
            out = x if out is None else matmul(out, x)
        n >>= 1
        x = matmul(x, x) if n else x
    return out
