"""Decompositions of matrices: eigenvalues, singular values, QR, and what is made of them; diagonals of many matrices.

The factors are determined up to signs, and only as far as eigenvalues (or singular values) differ: where two are equal, the
gradient through the vectors is NaN, while that through the values alone is finite at first order. Left out: `eig`, whose values
are complex, and the factors of `full_matrices`, which x does not determine.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from .op import op
from .ops_common import as_floats, derived, errstate, of_numpy_2, value
from .ops_index import diagonal, trace
from .ops_join import concatenate
from .ops_linalg import flip_last, inv, matmul, norm, symmetric
from .ops_shape import as_tensor
from .tensor import Tensor

EighResult = namedtuple("EighResult", "eigenvalues eigenvectors")
SVDResult = namedtuple("SVDResult", "U S Vh")
QRResult = namedtuple("QRResult", "Q R")


def _diagonal(x, n):
    """Vectors as diagonal matrices: (..., n) -> (..., n, n)"""
    return np.expand_dims(x, -1) * np.eye(n, dtype=x.dtype)


def _over_gaps(skew, x):
    """skewᵢⱼ / (xⱼ - xᵢ), and 0 on the diagonal: how the vectors turn; NaN or inf where two of x are equal"""
    n = skew.shape[-1]
    return skew / (np.expand_dims(x, -2) - np.expand_dims(x, -1) + np.eye(n, dtype=x.dtype))


# -- diagonals, as np.linalg has them ----------------------------------------------------------------------------------


@derived(*of_numpy_2("diagonal")[1:], name="diagonal")
def _diagonal_of_each(x, *, offset=0):
    """The diagonal of every matrix: the last two axes, where np.diagonal takes the first two."""
    return diagonal(x, offset, -2, -1)


@derived(*of_numpy_2("trace")[1:], name="trace")
def _trace_of_each(x, *, offset=0):
    """The sum of the diagonal of every matrix."""
    return trace(x, offset, -2, -1)


# -- symmetric matrices ------------------------------------------------------------------------------------------------


@op(name="eigh")
def _eigh(x):
    """y = (w, v) with x = v diag(w) vᵀ, w ascending; of an x that is not symmetric the mean of x and xᵀ counts"""
    out = tuple(np.linalg.eigh(symmetric(x)))
    return out, (out,)

@_eigh.grad_of("x")
def _(g, out):
    """dx = v (diag(dw) + skew(vᵀ dv) / (wⱼ - wᵢ)) vᵀ   Giles 2008, An extended collection of matrix derivative results, 3.1"""
    (w, v), (dw, dv) = out, g
    inner = 0 if dw is None else _diagonal(dw, w.shape[-1])
    if dv is not None:
        turn = flip_last(v) @ dv
        inner = inner + _over_gaps((turn - flip_last(turn)) / 2, w)
    return v @ inner @ flip_last(v)


@derived(np.linalg.eigh)
def eigh(x, UPLO=None):
    """The eigenvalues w (..., n) of symmetric matrices, ascending, and the columns v (..., n, n), their vectors: x v = v diag(w).

    Of an x that is not symmetric the mean of x and xᵀ counts, or with UPLO "L" or "U" what the lower or upper triangle says.
    """
    return EighResult(*_eigh(_of_triangle(x, UPLO)))


def _of_triangle(x, UPLO):
    """x, or the symmetric matrices with this triangle of it."""
    if UPLO is None:
        return x
    if str(UPLO).upper() not in ("L", "U"):
        raise ValueError(f"UPLO must be 'L' or 'U', got {UPLO!r}")
    triangle, below = (np.tril, -1) if str(UPLO).upper() == "L" else (np.triu, 1)
    x = as_tensor(x)
    return triangle(x) + flip_last(triangle(x, below))


@derived(np.linalg.eigvalsh)
def eigvalsh(x, UPLO=None):
    """The eigenvalues of symmetric matrices, ascending; UPLO as for eigh."""
    return _eigh(_of_triangle(x, UPLO))[0]


# -- singular values ---------------------------------------------------------------------------------------------------


@op(name="svd")
def _svd(x):
    """y = (u, s, vᵀ) with x = u diag(s) vᵀ, s descending, as many as the shorter side is long"""
    out = tuple(np.linalg.svd(x, full_matrices=False))
    return out, (out,)

@_svd.grad_of("x")
def _(g, out):
    """dx = u (diag(ds) + F∘skew(uᵀ du) s + s F∘skew(vᵀ dv)) vᵀ + (1 - u uᵀ) du s⁻¹ vᵀ + u s⁻¹ dvᵀ (1 - v vᵀ), where
    Fᵢⱼ = 2 / (sⱼ² - sᵢ²)   Townsend 2016, Differentiating the singular value decomposition"""
    (u, s, vh), (du, ds, dvh) = out, g
    inner, beside = 0 if ds is None else _diagonal(ds, s.shape[-1]), 0
    row, column = np.expand_dims(s, -2), np.expand_dims(s, -1)
    if du is not None:
        turn = flip_last(u) @ du
        inner = inner + _over_gaps(turn - flip_last(turn), s * s) * row
        if u.shape[-2] > u.shape[-1]:
            beside = (du - u @ turn) / row @ vh
    if dvh is not None:
        turn = vh @ flip_last(dvh)
        inner = inner + column * _over_gaps(turn - flip_last(turn), s * s)
        if vh.shape[-1] > vh.shape[-2]:
            beside = u @ ((dvh - flip_last(turn) @ vh) / column)
    return u @ inner @ vh + beside


@derived(np.linalg.svd)
def svd(x, full_matrices=True, compute_uv=True):
    """x = U diag(S) Vh for x (..., m, n): U (..., m, k), S (..., k) descending, Vh (..., k, n), k the lesser of m and n.

    `full_matrices` must be False unless m = n; without `compute_uv` S alone.
    """
    x = as_tensor(x)
    if compute_uv and full_matrices and len({*x.shape[-2:]}) > 1:
        raise ValueError(f"shape {x.shape} is not square: pass full_matrices=False; x does not determine the vectors beyond those")
    return SVDResult(*_svd(x)) if compute_uv else _svd(x)[1]


@derived(*of_numpy_2("svdvals"))
def svdvals(x):
    """The singular values, descending."""
    return _svd(x)[1]


@op(numpy=np.linalg.pinv)
def pinv(x, *, rcond=1e-15):
    """y = x⁺, the Moore-Penrose inverse, without the singular values up to rcond times the largest; the gradient takes the rank
    as fixed"""
    out = np.linalg.pinv(x, rcond)
    return out, (x, out, rcond)

@pinv.grad_of("x")
def _(g, x, out, rcond):
    """dx = -yᵀ g yᵀ + (1 - x y) gᵀ y yᵀ + yᵀ y gᵀ (1 - y x)   Golub and Pereyra 1973, SIAM J. Numer. Anal. 10"""
    a, rounding = value(x), np.finfo(x.dtype).eps * max(x.shape[-2:])
    if np.any(np.absolute(a - a @ value(out) @ a) > 10 * rounding * np.absolute(a).max(axis=(-2, -1), keepdims=True, initial=0)):
        return _truncated_pinv_grad(g, x, rcond)
    gt, yt = flip_last(g), flip_last(out)
    left, right = gt @ out @ yt, yt @ out @ gt
    return left - x @ (out @ left) + right - (right @ out) @ x - yt @ g @ yt


def _truncated_pinv_grad(g, x, rcond):
    """Where more than rounding is left out. With f(s) = 1/s of the singular values that stay, 0 of the others, and a = uᵀ gᵀ v
    dx = u (P∘sym(a) + M∘skew(a)) vᵀ + (gᵀ v - u a) f² vᵀ + u f² (uᵀ gᵀ - a vᵀ), where P, M = (fᵢ ∓ fⱼ) / (sᵢ ∓ sⱼ)

    Noferini 2017, A formula for the Fréchet derivative of a generalized matrix function, SIAM J. Matrix Anal. Appl. 38
    """
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    kept = value(s) > np.asarray(rcond)[..., None] * value(s)[..., :1]
    f = np.where(kept, 1 / np.where(kept, s, 1), 0)
    (fi, si, ki), (fj, sj, kj) = (tuple(np.expand_dims(t, axis) for t in (f, s, kept)) for axis in (-1, -2))
    one = ki ^ kj  # of which the difference is not 0
    plus = np.where(one, (fi - fj) / np.where(one, si - sj, 1), -fi * fj)
    minus = np.where(one, (fi + fj) / np.where(one, si + sj, 1), fi * fj)
    ut, gt, v = flip_last(u), flip_last(g), flip_last(vh)
    a = ut @ gt @ v
    at = flip_last(a)
    inner = (plus * (a + at) + minus * (a - at)) / 2
    return u @ inner @ vh + (gt @ v - u @ a) * (fj * fj) @ vh + u @ (fi * fi * (ut @ gt - a @ vh))


@derived(np.linalg.lstsq)
def lstsq(a, b, rcond=None):
    """(x, residuals, rank, s): the x of the least ‖a x - b‖, and of the least ‖x‖ where many are; Σ (a x - b)² per column of b
    where a has full rank and more rows than columns, else nothing; the rank; a's singular values, of which those up to rcond times
    the largest (None: rounding) count as 0."""
    a, b = as_floats(as_tensor(a, b)), as_tensor(b, a)
    if a.ndim != 2 or b.ndim not in (1, 2) or len(a) != len(b):
        raise ValueError(f"expected a of shape (m, n) and b of (m,) or (m, k), got {a.shape} and {b.shape}")
    m, n = a.shape
    rcond = np.finfo(a.dtype).eps * max(m, n) if rcond is None else rcond
    x, s = pinv(a, rcond) @ b, svdvals(a)
    rank = int(np.count_nonzero(value(s) > rcond * value(s).max(initial=0)))
    left = np.square(a @ x - b).sum(axis=0) if rank == n < m else Tensor(np.zeros(0, x.dtype))
    return x, np.atleast_1d(left), rank, s


@derived(np.linalg.cond)
def cond(x, p=None):
    """‖x‖ ‖x⁻¹‖ in the matrix norm p; None: the largest singular value over the least, inf where all are 0."""
    if p in (None, 2, -2):
        s = svdvals(x)
        over, under = (s[..., -1], s[..., 0]) if p == -2 else (s[..., 0], s[..., -1])
        with errstate():
            return np.where(s[..., 0] > 0, over / under, np.inf)
    return norm(x, p, (-2, -1)) * norm(inv(x), p, (-2, -1))


@derived(np.linalg.matrix_rank)
def matrix_rank(x, tol=None):
    """How many singular values are above `tol` (None: rounding error of the largest). No gradient."""
    return Tensor(np.asarray(np.linalg.matrix_rank(value(x), value(tol))))


# -- QR ----------------------------------------------------------------------------------------------------------------


@op(name="qr")
def _qr(x):
    """y = (q, r) with x = q r, qᵀ q = 1 and r upper triangular, for x at least as high as wide"""
    out = tuple(np.linalg.qr(x))
    return out, (out,)

@_qr.grad_of("x")
def _(g, out):
    """dx = (dq + q M) r⁻ᵀ, M symmetric with the lower half of r drᵀ - dqᵀ q   Walter and Lehmann, arXiv:1001.1654"""
    (q, r), (dq, dr) = out, g
    lower = (0 if dr is None else r @ flip_last(dr)) - (0 if dq is None else flip_last(dq) @ q)
    both = q @ (np.tril(lower) + flip_last(np.tril(lower, -1))) + (0 if dq is None else dq)
    return flip_last(np.linalg.solve(r, flip_last(both)))


@derived(np.linalg.qr)
def qr(x, mode="reduced"):
    """x = Q R for x (..., m, n): Q (..., m, k) with QᵀQ = 1, R (..., k, n) upper triangular, k the lesser of m and n; with the mode
    "r" R alone. The gradient needs the first k columns to be independent."""
    if mode not in ("reduced", "r"):
        raise ValueError(f"qr: mode must be 'reduced' or 'r', got {mode!r}")
    x = as_tensor(x)
    k = min(x.shape[-2:])
    q, r = _qr(x[..., :k])
    if x.shape[-1] > k:
        r = concatenate([r, matmul(flip_last(q), x[..., k:])], -1)
    return r if mode == "r" else QRResult(q, r)
