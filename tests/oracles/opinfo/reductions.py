"""PyTorch's reductions, scans, sorting and norms in terms of ours."""

# ruff: noqa: E501
from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_llm as tg

from .names import Unsupported, some_axis


def over(x: Any, dim: Any) -> Any:
    """The axis: none for a 0-dimensional tensor, of which PyTorch says that it has one."""
    return some_axis(dim) if x.ndim else None


def _no_dtype(dtype: Any) -> None:
    if dtype is not None and np.dtype(dtype) != np.float64:
        raise Unsupported("dtype")


def reduction(f: Any, **fixed: Any) -> Any:
    def adapter(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        _no_dtype(dtype)
        return f(x, axis=over(x, dim), keepdims=keepdim, **fixed)

    return adapter


def truth(f: Any) -> Any:
    def adapter(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        return f(x, axis=dim if isinstance(dim, int) or dim is None else tuple(dim), keepdims=keepdim) if x.ndim else f(x)

    return adapter


def scan(f: Any) -> Any:
    def adapter(x: Any, dim: int, *, dtype: Any = None) -> Any:
        _no_dtype(dtype)
        if x.ndim:
            return f(x, axis=dim)
        found = f(tg.reshape(x, 1), axis=0)
        return tuple(t.reshape(()) for t in found) if isinstance(found, tuple) else found.reshape(())

    return adapter


def spread(f: Any) -> Any:
    """var and std: `unbiased` in any place, `correction` as keyword."""

    def adapter(x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        ddof = 1 if correction is None and unbiased is None else int(unbiased) if unbiased is not None else correction
        return f(x, axis=over(x, dim), ddof=ddof, keepdims=keepdim)

    return adapter


def with_mean(f: Any) -> Any:
    def adapter(x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        return spread(f)(x, dim, unbiased, keepdim, correction=correction), tg.mean(x, axis=over(x, dim), keepdims=keepdim)

    return adapter


def extreme(value: Any, index: Any) -> Any:
    """max and min with dim: values and indices; the whole gradient goes to the element named by the index."""

    def adapter(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            return value(x)
        if not x.ndim:
            return tg.copy(x), np.int64(0)
        where = index(x, axis=dim, keepdims=True)
        best = tg.take_along_axis(x, where, axis=dim)
        return (best, where) if keepdim else (tg.squeeze(best, axis=dim), tg.squeeze(where, axis=dim))

    return adapter


def index_of(f: Any) -> Any:
    def adapter(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        return f(x, axis=dim if x.ndim else None, keepdims=keepdim and x.ndim > 0)

    return adapter


def logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Any:
    return tg.logsumexp(x, axis=over(x, dim), keepdims=keepdim)


def aminmax(x: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    axis = dim if x.ndim else None
    return tg.amin(x, axis=axis, keepdims=keepdim), tg.amax(x, axis=axis, keepdims=keepdim)


def sort(x: Any, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    if not x.ndim:
        return tg.copy(x), np.int64(0)
    order = tg.argsort(x, axis=dim, descending=descending, stable=True)
    return tg.take_along_axis(x, order, axis=dim), order


def argsort(x: Any, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    return tg.argsort(x, axis=dim, descending=descending, stable=True) if x.ndim else np.int64(0)


def topk(x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    return tg.topk(x, k, axis=dim, largest=largest, sorted=sorted)


def kthvalue(x: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    return tg.kthvalue(x, k, axis=dim, keepdims=keepdim)


def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    _no_dtype(dtype)
    return tg.vector_norm(x, ord, axis=over(x, dim), keepdims=keepdim)


def linalg_norm(x: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    _no_dtype(dtype)
    return tg.norm(x, ord, axis=tuple(dim) if isinstance(dim, (list, tuple)) else dim, keepdims=keepdim)


def matrix_norm(x: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None) -> Any:
    _no_dtype(dtype)
    return tg.matrix_norm(x, ord, axis=tuple(dim), keepdims=keepdim)


def norm(x: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    _no_dtype(dtype)
    if p == "nuc":
        return tg.matrix_norm(x, "nuc", axis=tuple(dim) if dim is not None else (-2, -1), keepdims=keepdim)
    return tg.vector_norm(x, 2 if p in ("fro", None) else p, axis=over(x, dim), keepdims=keepdim)


def quantile(f: Any) -> Any:
    def adapter(x: Any, q: Any, dim: Any = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
        return f(x, q, axis=dim if x.ndim else None, keepdims=keepdim, method=interpolation)

    return adapter


def trapezoid(y: Any, x: Any = None, *, dx: float = 1.0, dim: int = -1) -> Any:
    steps = dx if x is None else tg.diff(x, axis=-1 if x.ndim == 1 else dim)
    first = tg.take(y, np.arange(y.shape[dim] - 1), axis=dim)
    second = tg.take(y, np.arange(1, y.shape[dim]), axis=dim)
    if x is not None and x.ndim == 1 and y.ndim > 1:
        steps = tg.reshape(steps, *(-1 if a == dim % y.ndim else 1 for a in range(y.ndim)))
    return (first + second) * steps / 2


def renorm(x: Any, p: float, dim: int, maxnorm: float) -> Any:
    axes = tuple(a for a in range(x.ndim) if a != dim % x.ndim)
    n = tg.vector_norm(x, p, axis=axes, keepdims=True)
    return tg.where(n > maxnorm, x * (maxnorm / (n + 1e-7)), x)


TABLE = {
    "sum": reduction(tg.sum), "mean": reduction(tg.mean), "prod": reduction(tg.prod), "nansum": reduction(tg.nansum),
    "nanmean": reduction(tg.nanmean), "amax": reduction(tg.amax), "amin": reduction(tg.amin), "all": truth(tg.all),
    "any": truth(tg.any), "count_nonzero": truth(tg.count_nonzero), "logsumexp": logsumexp, "aminmax": aminmax,
    "max.reduction_no_dim": extreme(tg.max, tg.argmax), "min.reduction_no_dim": extreme(tg.min, tg.argmin),
    "max.reduction_with_dim": extreme(tg.max, tg.argmax), "min.reduction_with_dim": extreme(tg.min, tg.argmin),
    "argmax": index_of(tg.argmax), "argmin": index_of(tg.argmin),
    "var": spread(tg.var), "std": spread(tg.std), "var.unbiased": spread(tg.var), "std.unbiased": spread(tg.std),
    "var_mean": with_mean(tg.var), "std_mean": with_mean(tg.std), "var_mean.unbiased": with_mean(tg.var),
    "std_mean.unbiased": with_mean(tg.std),
    "cumsum": scan(tg.cumsum), "cumprod": scan(tg.cumprod), "logcumsumexp": scan(tg.logcumsumexp), "cummax": scan(tg.cummax),
    "cummin": scan(tg.cummin), "sort": sort, "msort": lambda x: tg.sort(x, axis=0), "argsort": argsort, "topk": topk,
    "kthvalue": kthvalue, "linalg.vector_norm": vector_norm, "linalg.norm": linalg_norm,
    "linalg.norm.subgradients_at_zero": linalg_norm, "linalg.matrix_norm": matrix_norm, "norm": norm, "norm.fro": norm,
    "norm.inf": norm, "norm.nuc": norm,
    "dist": lambda a, b, p=2: tg.vector_norm(a - b, p), "quantile": quantile(tg.quantile),
    "trapz": lambda y, x=None, **kw: tg.sum(trapezoid(y, x, **kw), axis=kw.get("dim", -1)),
    "trapezoid": lambda y, x=None, **kw: tg.sum(trapezoid(y, x, **kw), axis=kw.get("dim", -1)),
    "cumulative_trapezoid": lambda y, x=None, **kw: tg.cumsum(trapezoid(y, x, **kw), axis=kw.get("dim", -1)),
    "renorm": renorm,
}  # fmt: skip
