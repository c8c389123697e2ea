"""PyTorch's products of matrices and linear algebra in terms of ours."""

# ruff: noqa: E501
from __future__ import annotations

from typing import Any

import tinygrad_llm as tg

from .names import Unsupported


def addmm(c: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return beta * c + alpha * (a @ b)


def addbmm(c: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return beta * c + alpha * tg.sum(a @ b, axis=0)


def addr(c: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return beta * c + alpha * tg.outer(a, b)


def cross(a: Any, b: Any, *, dim: Any = -1) -> Any:
    if dim is None:
        dim = next(k for k, n in enumerate(a.shape) if n == 3)
    return tg.cross(a, b, axis=dim)


def cholesky(a: Any, upper: bool = False) -> Any:
    lower = tg.cholesky(a)
    return tg.swapaxes(lower, -1, -2) if upper else lower


def linalg_cholesky(a: Any, *, upper: bool = False) -> Any:
    return cholesky(a, upper)


def solve(a: Any, b: Any, *, left: bool = True) -> Any:
    if not left:
        raise Unsupported("left=False")
    vectors = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])  # a batch of vectors, as PyTorch reads it
    return tg.squeeze(tg.solve(a, tg.expand_dims(b, -1)), axis=-1) if vectors else tg.solve(a, b)


def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    return tg.tensordot(a, b, dims)


def einsum(operands: Any, equation: str) -> Any:
    return tg.einsum(equation, *operands)


def multi_dot(tensors: Any) -> Any:
    return tg.multi_dot(list(tensors))


def matrix_power(a: Any, n: int) -> Any:
    return tg.matrix_power(a, n)


def diagonal(a: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    return tg.diagonal(a, offset, dim1, dim2)


def pinv(a: Any, *, atol: Any = None, rtol: Any = None) -> Any:
    if atol is not None:
        raise Unsupported("atol")
    return tg.pinv(a, max(a.shape[-2:]) * 2.0**-52 if rtol is None else rtol)


def qr(a: Any, mode: str = "reduced") -> Any:
    return tg.qr(a, "reduced" if a.shape[-2] <= a.shape[-1] and mode == "complete" else mode)


TABLE = {
    "addmm": addmm, "addmm.decomposed": addmm, "addmv": addmm, "baddbmm": addmm, "addbmm": addbmm, "addr": addr,
    "dot": tg.dot, "vdot": tg.vdot, "mm": tg.matmul, "mv": tg.matmul, "bmm": tg.matmul, "matmul": tg.matmul,
    "__rmatmul__": lambda a, b: b @ a, "outer": tg.outer, "inner": tg.inner, "kron": tg.kron, "tensordot": tensordot,
    "einsum": einsum, "cross": cross, "linalg.cross": cross, "linalg.vecdot": lambda a, b, *, dim=-1: tg.vecdot(a, b, axis=dim),
    "linalg.multi_dot": multi_dot, "linalg.matrix_power": matrix_power, "cholesky": cholesky, "linalg.cholesky": linalg_cholesky,
    "linalg.det": tg.det, "linalg.slogdet": lambda a: tuple(tg.slogdet(a)), "logdet": lambda a: tg.logabsdet(a),
    "linalg.inv": tg.inv, "linalg.solve": solve, "linalg.svdvals": tg.svdvals, "linalg.pinv": pinv,
    "linalg.qr": qr, "linalg.cond": tg.cond, "linalg.diagonal": diagonal,
}  # fmt: skip
