"""Functions that are written through operations. One line declares one: an expression in np.*, which on ndarrays is the
reference and on Tensors runs ours; or for what NumPy lacks, ours beside a reference. Value, gradient, second order.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd import ops
from tinygrad_llm.autograd.op import registry
from tinygrad_llm.testing import gradcheck, gradgradcheck

WINDOWS = np.lib.stride_tricks.sliding_window_view
METHODS = "lower higher nearest midpoint linear hazen weibull median_unbiased normal_unbiased interpolated_inverted_cdf".split()
MANY = dict(a=(2, 3), b=(4,), c=(2, 3, 4), s=(), e=(0, 3), m=(3, 3))  # the arrays that expressions name

SAME_IN_NUMPY = {
    "allclose": [lambda a: np.allclose(a, a), lambda a: np.allclose(a, a + 1)],
    "append": [lambda a, b: np.append(a, b), lambda a: np.append(a, a, axis=0)],
    "cov": [lambda c: np.cov(c[0]), lambda b: np.cov(b, ddof=0), lambda a: np.cov(a, rowvar=False), lambda b: np.cov(b, b * b),
            lambda a, m: np.cov(a, m[:2], bias=True), lambda a, m: np.cov(a, m[:2], False, False, 0),
            lambda a: np.cov(a, fweights=[1, 0, 3]), lambda c: np.cov(c[0], aweights=[0.1, 0.2, 0.3, 0.9], dtype=np.float64),
            lambda m: np.cov(m, fweights=[1, 2, 1], aweights=[1.0, 0.5, 2], rowvar=False), lambda m: np.cov(m, aweights=[1.0, 0.5, 2], ddof=0)],
    "corrcoef": [lambda c: np.corrcoef(c[0] ** 2), lambda b: np.corrcoef(b, b * b), lambda m: np.corrcoef(m**2, rowvar=False)],
    "cumulative_prod": [lambda b: np.cumulative_prod(b), lambda c: np.cumulative_prod(c, axis=-1, include_initial=True)],
    "cumulative_sum": [lambda b: np.cumulative_sum(b), lambda c: np.cumulative_sum(c, axis=1, include_initial=True),
                       lambda e: np.cumulative_sum(e, axis=0, include_initial=True)],
    "delete": [lambda a: np.delete(a, 1), lambda a: np.delete(a, [0, -1], axis=1), lambda c: np.delete(c, slice(None, None, 2), 2),
               lambda b: np.delete(b, np.array([True, False, True, False])), lambda b: np.delete(b, [])],
    "gradient": [lambda b: np.gradient(b), lambda c: np.gradient(c), lambda c: np.gradient(c, 0.5, axis=(0, 2)),
                 lambda b: np.gradient(b * 2, np.cumsum(b * b + 0.5), edge_order=2), lambda a, s: np.gradient(a, s, 2.0),
                 lambda c: np.gradient(c, np.array([0.0, 1, 3, 3.5]), axis=-1, edge_order=2),
                 lambda m: np.gradient(m, np.array([0.0, 1, 3]), 0.3, edge_order=2), lambda a: np.gradient(a, axis=0),
                 lambda m: np.gradient(m, np.array([3, 2, 0], np.uint8), axis=0)],
    "insert": [lambda a, s: np.insert(a, 1, s), lambda a, b: np.insert(a, [0, 3, 3], b[:3], axis=1), lambda c: np.insert(c, 1, 0, 2),
               lambda a, m: np.insert(a, 1, m[0], axis=0), lambda a: np.insert(a, -1, a[0] * 2), lambda b: np.insert(b, [], b[:0]),
               lambda m: np.insert(m, [1], m[:, :2] * 3, axis=1), lambda b: np.insert(b, slice(0, 3, 2), b[:2])],
    "pinv": [lambda m: np.linalg.pinv(m), lambda c: np.linalg.pinv(c), lambda a, m: np.linalg.pinv(m[:, :2] @ a),
             lambda m: np.linalg.pinv(m + m.T, 0.3), lambda c: np.linalg.pinv(c, 0.6), lambda a: np.linalg.pinv(a.T, 0.9),
             lambda m: np.linalg.pinv(np.stack([m + 5 * np.eye(3), m * 0.01 + np.diag([1, 1, 0.2])]), 0.3)],
    "lstsq": [lambda c: np.linalg.lstsq(c[0].T, np.arange(4.0)), lambda m, a: np.linalg.lstsq(m, a.T),
              lambda a, m: np.linalg.lstsq(a, m[:2], rcond=0.1), lambda c, m: np.linalg.lstsq(c[1].T @ m, c[0].T * 2)],
    "nanmedian": [lambda a: np.nanmedian(np.where(a > 0.3, np.nan, a)), lambda c: np.nanmedian(c, axis=(0, 1)),
                  lambda c: np.nanmedian(np.where(c == np.max(c, 1, keepdims=True), np.nan, c), axis=1, keepdims=True)],
    "select": [lambda a: np.select([a > 0.5, a > 0], [a * 2, a * a], -a), lambda c, b: np.select([c > b], [b]),
               lambda a: np.select([a > 9], [a], default=1.5)],
    "deg2rad": [lambda a: np.deg2rad(a), lambda a: np.radians(a)],
    "interp": [lambda a, b: np.interp(a, np.sort(b), b), lambda a, b: np.interp(a * 0.3, np.array([-1.0, 0, 1, 2]), b * b),
               lambda s: np.interp(0.3, np.array([0.0, 1]), np.stack([s, s * 3])), lambda a, b: np.interp(a, b[:1], b[:1]),
               lambda a, b: np.interp(a, np.sort(b) / 2, b, left=-7, right=9.5), lambda a, b: np.interp(a, b, b * b, period=-0.7)],
    "isneginf": [lambda a: np.isneginf(np.where(a > 0, -np.inf, a))],
    "isposinf": [lambda a: np.isposinf(np.where(a > 0, np.inf, a))],
    "nanmax": [lambda a: np.nanmax(np.where(a > 0.3, np.nan, a), axis=0), lambda a: np.nanmax(a, 1, initial=0.5, where=a > 0), lambda a: np.nanmax(a)],
    "nanmin": [lambda a: np.nanmin(np.where(a > 0.3, np.nan, a), axis=0), lambda a: np.nanmin(a, keepdims=True)],
    "rad2deg": [lambda a: np.rad2deg(a)],
    "argsort": [lambda a: np.argsort(a), lambda c: np.argsort(c, axis=1), lambda a: np.argsort(a, axis=None)],
    "argwhere": [lambda a: np.argwhere(a > 0)],
    "array_equal": [lambda a: np.array_equal(a, a), lambda a: np.array_equal(a, a + 1)],
    "array_split": [lambda c: np.array_split(c, 3, 2), lambda b: np.array_split(b, [1, 1, 3]), lambda b: np.array_split(b, 7),
                    lambda a: np.array_split(a, [2, 1], 1)],
    "atleast_1d": [lambda s: np.atleast_1d(s), lambda a, s: np.atleast_1d(a, s)],
    "atleast_2d": [lambda s: np.atleast_2d(s), lambda b: np.atleast_2d(b)],
    "atleast_3d": [lambda s: np.atleast_3d(s), lambda b: np.atleast_3d(b), lambda a: np.atleast_3d(a)],
    "average": [lambda a: np.average(a), lambda a: np.average(a, axis=1, weights=np.array([1.0, 2, 3])),
                lambda a: np.average(a, axis=0, weights=np.array([[1.0, 2, 3], [4, 5, 6]])),
                lambda a: np.average(a, 1, np.array([1.0, 2, 3]), True), lambda a: np.average(a, 0, returned=True),
                lambda c: np.average(c, axis=(2, 0), weights=np.arange(8.0).reshape(4, 2)),
                lambda a: np.average(np.argsort(a), 1, np.array([1, 2, 4]), True)],
    "bincount": [lambda a: np.bincount(np.argsort(a).reshape(-1)), lambda b: np.bincount(np.arange(b.size) % 3, b, 5)],
    "block": [lambda a, m: np.block([[a, a * 2], [m, m]]), lambda b, s: np.block([b, b[:1], s]), lambda s: np.block(s),
              lambda a, b: np.block([[a[0], 0.1], [b]]), lambda c: np.block([[[c]], [[c * c]]])],
    "broadcast_arrays": [lambda b, s: tuple(np.broadcast_arrays(b, s))],
    "cholesky": [lambda m: np.linalg.cholesky(m @ m.T + 3 * np.eye(3))],
    "float_power": [lambda a: np.float_power(a * a, 1.5), lambda a: np.float_power(2, a)],
    "clip": [lambda a: np.clip(a, -0.5, 0.5), lambda a: np.clip(a, None, 0.5), lambda a: np.clip(a, -0.2, None)],
    "column_stack": [lambda b: np.column_stack([b, b * 2]), lambda a: np.column_stack([a, a])],
    "concatenate": [lambda a: np.concatenate([a, a * 2], axis=-1), lambda a, b: np.concatenate([a, b], axis=None)],
    "cond": [lambda m: np.linalg.cond(m + 3 * np.eye(3)), lambda c: np.linalg.cond(c), lambda a: np.linalg.cond(a, -2),
             lambda m: np.linalg.cond(m + 3 * np.eye(3), 1), lambda m: np.linalg.cond(m + 3 * np.eye(3), "nuc")],
    "cross": [lambda a: np.cross(a, a[::-1] * 2), lambda m: np.cross(m, m.T, axis=0)],
    "cumprod": [lambda a: np.cumprod(a), lambda a: np.cumprod(a, axis=1)],
    "cumsum": [lambda a: np.cumsum(a), lambda c: np.cumsum(c, axis=-2), lambda a: np.cumsum(a, 0, np.float64)],
    "diag": [lambda b: np.diag(b, 1), lambda m: np.diag(m, -1), lambda a: np.diag(a, 5)],
    "diagflat": [lambda a: np.diagflat(a, -1)],
    "diagonal": [lambda m: np.diagonal(m), lambda c: np.diagonal(c, 1, 2, 0), lambda a: np.diagonal(a, -4)],
    "diff": [lambda b: np.diff(b), lambda c: np.diff(c, 2, axis=1), lambda a: np.diff(a, prepend=0.0, append=1.5),
             lambda a, s: np.diff(a, prepend=s, axis=0, append=s * s), lambda b: np.diff(b, 9), lambda b: np.diff(b, 0)],
    "dot": [lambda a, m: np.dot(a, m), lambda b: np.dot(b, b), lambda a, s: np.dot(a, s),
            lambda c: np.dot(c, np.swapaxes(c, 1, 2))],
    "dsplit": [lambda c: np.dsplit(c, 2)],
    "dstack": [lambda b: np.dstack([b, b * 2]), lambda a: np.dstack([a, a])],
    "eigh": [lambda m: np.linalg.eigh(m, "U")[1] ** 2, lambda m: np.linalg.eigh(m, UPLO="L")[1] ** 2, lambda m: np.linalg.eigh(m + m.T), lambda c: np.linalg.eigh(c @ np.swapaxes(c, 1, 2))],
    "eigvalsh": [lambda m: np.linalg.eigvalsh(m, "u"), lambda m: np.linalg.eigvalsh(m + m.T), lambda c: np.linalg.eigvalsh(c @ np.swapaxes(c, 1, 2))],
    "einsum": [lambda c: np.einsum("...ij->...ji", c), lambda m: np.einsum("ii", m), lambda a, m: np.einsum("ij,jk", a, m),
               lambda a, m: np.einsum(a, [0, 1], m, [1, 2], [2, 0]), lambda c, b: np.einsum("a...k,k->...a", c, b),
               lambda c, a: np.einsum("ij...,...", c, a[0, 0])],
    "expand_dims": [lambda a: np.expand_dims(a, 1), lambda a: np.expand_dims(a, (0, -1)), lambda s: np.expand_dims(s, 0)],
    "fliplr": [lambda a: np.fliplr(a)],
    "flipud": [lambda a: np.flipud(a)],
    "hsplit": [lambda a: np.hsplit(a, 3), lambda b: np.hsplit(b, [1])],
    "hstack": [lambda b: np.hstack([b, b]), lambda a, m: np.hstack([a.T, m])],
    "inner": [lambda a: np.inner(a, a * 2), lambda b: np.inner(b, b), lambda c, b: np.inner(c, b), lambda a, s: np.inner(a, s)],
    "kron": [lambda a, b: np.kron(a, b), lambda a, m: np.kron(m, a), lambda s, a: np.kron(s, a)],
    "matrix_power": [lambda m: np.linalg.matrix_power(m, 3), lambda m: np.linalg.matrix_power(m + 4 * np.eye(3), -2),
                     lambda m: np.linalg.matrix_power(m, 0)],
    "matrix_rank": [lambda m: np.linalg.matrix_rank(m), lambda c: np.linalg.matrix_rank(c), lambda a: np.linalg.matrix_rank(a, 9.0)],
    "median": [lambda a: np.median(a), lambda e: np.median(e), lambda e: np.median(e, 0, None, False, True), lambda c: np.median(c, axis=1), lambda b: np.median(b, keepdims=True)],
    "meshgrid": [lambda b, s: tuple(np.meshgrid(b, s)), lambda b: tuple(np.meshgrid(b, b * 2, b, indexing="ij")),
                 lambda b: tuple(np.meshgrid(b, b, sparse=True)), lambda b: tuple(np.meshgrid(b))],
    "moveaxis": [lambda c: np.moveaxis(c, 0, -1), lambda c: np.moveaxis(c, (0, 2), (1, 0))],
    "nanmean": [lambda a: np.nanmean(np.where(a > 0.3, np.nan, a), axis=0), lambda a: np.nanmean(a, 0, None, None, True, where=a < 2)],
    "nancumprod": [lambda a: np.nancumprod(np.where(a > 0.3, np.nan, a), axis=1), lambda a: np.nancumprod(a)],
    "nancumsum": [lambda a: np.nancumsum(np.where(a > 0.3, np.nan, a)), lambda a: np.nancumsum(a, 0, np.float64)],
    "nanpercentile": [lambda c: np.nanpercentile(np.where(c == np.max(c, 2, keepdims=True), np.nan, c), [40, 90], axis=(0, 2))],
    "nanquantile": [lambda a: np.nanquantile(np.where(a > 0.3, np.nan, a), 0.3), lambda e: np.nanquantile(e, 0.3, 0),
                    lambda c: np.nanquantile(np.where(c == np.max(c, 2, keepdims=True), np.nan, c), [[0.2, 0.7]], axis=2, keepdims=True),
                    lambda c: np.nanquantile(np.where(c == np.min(c), np.nan, c), 0.4, 0, method="higher")],
    "nansum": [lambda a: np.nansum(np.where(a > 0, np.nan, a)), lambda a: np.nansum(a, axis=1, keepdims=True)],
    "nanprod": [lambda a: np.nanprod(np.where(a > 0.3, np.nan, a), axis=0), lambda a: np.nanprod(a, 1, initial=2, where=a < 0.5), lambda a: np.nanprod(a, keepdims=True)],
    "nanstd": [lambda a: np.nanstd(np.where(a > 0.3, np.nan, a)), lambda a: np.nanstd(a, 1, ddof=1, keepdims=True),
               lambda a: np.nanstd(a, correction=1)],
    "nanvar": [lambda a: np.nanvar(np.where(a > 0.3, np.nan, a)), lambda a: np.nanvar(a, 1, where=a < 1), lambda c: np.nanvar(c, (0, 2), ddof=1, keepdims=True),
               lambda a: np.nanvar(a, 0, correction=0.5), lambda a: np.var(a, axis=1, correction=1), lambda a: np.std(a, correction=1)],
    "ndim": [lambda c: np.ndim(c)],
    "nonzero": [lambda a: np.nonzero(a > 0)],
    "norm": [lambda a: np.linalg.norm(a), lambda a: np.linalg.norm(a, axis=1), lambda c: np.linalg.norm(c, axis=(0, 2)),
             lambda a: np.linalg.norm(a, 1, axis=0), lambda b: np.linalg.norm(b, np.inf), lambda b: np.linalg.norm(b, -np.inf),
             lambda a: np.linalg.norm(a, 3, axis=1, keepdims=True), lambda b: np.linalg.norm(b, 0),
             lambda a: np.linalg.norm(a, "fro"),
             lambda a: np.linalg.norm(a, 1), lambda a: np.linalg.norm(a, -np.inf),
             lambda c: np.linalg.norm(c, np.inf, (0, 1), True),
             lambda b: np.linalg.norm(b, 0.5), lambda b: np.linalg.norm(b, -1.5), lambda a: np.linalg.norm(a, -1),
             *(lambda c, p=p: np.linalg.norm(c, p, (2, 0)) for p in (2, -2, "nuc")), lambda a: np.linalg.norm(a, 2, keepdims=True)],
    "outer": [lambda a, b: np.outer(a, b), lambda s, b: np.outer(s, b)],
    "pad": [lambda a: np.pad(a, 1), lambda a: np.pad(a, ((0, 1), (2, 0))), lambda a: np.pad(a, 1, constant_values=5.0),
            *(lambda c, m=m: np.pad(c, ((1, 1), (0, 2), (3, 3)), mode=m) for m in ("reflect", "symmetric", "edge", "wrap")),
            *(lambda a, m=m: np.pad(a, ((3, 1), (0, 2)), m) for m in ("maximum", "minimum", "mean", "median", "linear_ramp")),
            lambda c: np.pad(c, 1, "mean", stat_length=((1, 2), (9, 1), (3, 2))), lambda a: np.pad(a, 2, "maximum", stat_length=2),
            lambda a: np.pad(a, 2, "linear_ramp", end_values=((1, 2), (3, 4))), lambda a: np.pad(np.argsort(a), 3, "linear_ramp"),
            lambda a: np.pad(np.argsort(a) * 3, 1, "mean"),
            *(lambda b, m=m: np.pad(b, (13, 9), m, reflect_type="odd") for m in ("reflect", "symmetric")),
            lambda a: np.pad(a[:, :1], 2, "reflect", reflect_type="odd")],
    "percentile": [lambda a: np.percentile(a, 30), lambda c: np.percentile(c, [10, 90], axis=1)],
    "ptp": [lambda a: np.ptp(a), lambda a: np.ptp(a, 1, None, True), lambda c: np.ptp(c, axis=1, keepdims=True)],
    "qr": [lambda m: np.linalg.qr(m + 3 * np.eye(3)), lambda a: np.linalg.qr(a.T), lambda c: np.linalg.qr(c), lambda c: np.linalg.qr(c, "r")],
    "quantile": [lambda a: np.quantile(a, 0.3), lambda c: np.quantile(c, np.array([[0, 0.5], [0.7, 1]]), axis=-1),
                 lambda c: np.quantile(c, [0.2], axis=0, keepdims=True), lambda a: np.quantile(a, 0.4, keepdims=True),
                 *(lambda c, m=m: np.quantile(c, [0, 0.1, 0.5, 0.77, 1], axis=1, method=m) for m in METHODS),
                 *(lambda a, m=m: np.quantile(np.argsort(a), 0.3, method=m) for m in METHODS),
                 lambda a: np.quantile(a, 0.3, 1, None, True, "lower")],
    "ravel": [lambda c: np.ravel(c), lambda s: np.ravel(s), lambda c: np.ravel(c, "F"), lambda c: c.ravel(order="F")],
    "repeat": [lambda a: np.repeat(a, 2), lambda a: np.repeat(a, [1, 0, 3], axis=1), lambda c: np.repeat(c, 3, axis=-2),
               lambda s: np.repeat(s, 2, axis=0)],
    "reshape": [lambda c: np.reshape(c, (4, -1)), lambda c: np.reshape(c, (4, 6), "F"), lambda c: c.reshape(6, 4), lambda s: s.reshape(1, 1), lambda s: s.reshape(()),
                lambda c: np.reshape(c, (4, -1), order="F"), lambda c: c.reshape(6, 4, order="F")],
    "rollaxis": [lambda c: np.rollaxis(c, 2), lambda c: np.rollaxis(c, 0, 3)],
    "rot90": [lambda a, k=k: np.rot90(a, k) for k in range(-1, 4)] + [lambda c: np.rot90(c, 1, (1, 2)),
              lambda c: np.rot90(c, 3, (2, 0))],
    "searchsorted": [lambda b: np.searchsorted(np.sort(b), b), lambda b, a: np.searchsorted(np.sort(b), a, side="right")],
    "shape": [lambda c: np.shape(c)],
    "size": [lambda c: np.size(c), lambda c: np.size(c, 1)],
    "sliding_window_view": [lambda b: WINDOWS(b, 3), lambda c: WINDOWS(c, (2, 3), axis=(0, 2)), lambda a: WINDOWS(a, (2, 2))],
    "slogdet": [lambda m: np.linalg.slogdet(m + 3 * np.eye(3)), lambda m: np.linalg.slogdet(m + 3 * np.eye(3)).logabsdet],
    "solve": [lambda m, a: np.linalg.solve(m + 4 * np.eye(3), a.T), lambda m, a: np.linalg.solve(m + 4 * np.eye(3), a[0])],
    "sort": [lambda a: np.sort(a), lambda c: np.sort(c, axis=0), lambda a: np.sort(a, axis=None), lambda e: np.sort(e)],
    "split": [lambda a: np.split(a, 3, axis=1), lambda b: np.split(b, [1, 3]), lambda b: np.split(b, [-3, 2])],
    "squeeze": [lambda a: np.squeeze(a[:, :1]), lambda a: np.squeeze(a[:1, None], axis=(0, 1)), lambda s: np.squeeze(s)],
    "stack": [lambda a: np.stack([a, a * 2]), lambda a: np.stack([a, a * 2], axis=-1), lambda s: np.stack([s, s])],
    "svd": [lambda m: np.linalg.svd(m), lambda c: np.linalg.svd(c, full_matrices=False), lambda a: np.linalg.svd(a.T, False),
            lambda c: np.linalg.svd(c, compute_uv=False)],
    "swapaxes": [lambda c: np.swapaxes(c, 0, -1)],
    "take": [lambda a: np.take(a, [0, -1, 0]), lambda a: np.take(a, [[2, 2], [0, 1]], axis=1), lambda c: np.take(c, 1, axis=-1),
             lambda b: np.take(b, [5, -7], mode="wrap"), lambda b: np.take(b, [5, -7], mode="clip"),
             lambda s: np.take(s, [0, 0], axis=-1)],
    "take_along_axis": [lambda a: np.take_along_axis(a, np.array([[0, 0, 2, 1], [1, 1, 1, 0]]), 1),
                        lambda c: np.take_along_axis(c, np.array([[[1]], [[0]]]), 1),
                        lambda a: np.take_along_axis(a, np.array([0, 5, 5]), None)],
    "tensordot": [lambda c: np.tensordot(c, c, ([0, 1], [0, 1])), lambda a, m: np.tensordot(a, m, 1),
                  lambda a, b: np.tensordot(a, b, 0)],
    "tile": [lambda a: np.tile(a, 2), lambda a: np.tile(a, (3, 1, 2)), lambda c: np.tile(c, (2, 1)), lambda s: np.tile(s, 3)],
    "trace": [lambda m: np.trace(m), lambda c: np.trace(c, 1, 1, 2)],
    "transpose": [lambda c: np.transpose(c), lambda c: c.transpose(2, 0, 1), lambda c: c.T],
    "tril": [lambda m: np.tril(m), lambda c: np.tril(c, -1)],
    "triu": [lambda m: np.triu(m), lambda c: np.triu(c, 1)],
    "unique": [lambda a: np.unique(np.round(a)), lambda a: tuple(np.unique(np.round(a), return_counts=True))],
    "vdot": [lambda a: np.vdot(a, a * 2)],
    "vsplit": [lambda a: np.vsplit(a, 2)],
    "vstack": [lambda b: np.vstack([b, b]), lambda a, m: np.vstack([a, m])],
    "broadcast_to": [lambda b: np.broadcast_to(b, (2, 4))],
}  # fmt: skip


def _scattered(x, axis, index, src, add):
    """PyTorch's scatter, place by place."""
    out = x.copy()
    for place in np.ndindex(index.shape):
        target = list(place)
        target[axis] = index[place]
        out[tuple(target)] = src[place] + (out[tuple(target)] if add else 0)
    return out


def _best(x, k, axis, largest):
    order = np.argsort(-x if largest else x, axis=axis, kind="stable")
    indices = np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(x, indices, axis), indices


def _running_places(x, axis, function):
    """Running extreme, and by brute force the latest index that reaches it."""
    out = function.accumulate(x, axis=axis)
    rows, values = np.moveaxis(x, axis, -1), np.moveaxis(out, axis, -1)
    indices = np.zeros(rows.shape, np.int64)
    for place in np.ndindex(rows.shape):
        row = rows[place[:-1]][: place[-1] + 1]
        indices[place] = max(np.flatnonzero(row == values[place]))
    return out, np.moveaxis(indices, -1, axis)


def _put(x, index, values, accumulate=False):
    out = x.copy()
    np.add.at(out, index, values) if accumulate else out.__setitem__(index, values)
    return out


I = np.array([[0, 1, 2, 0], [2, 0, 0, 1]])[:, :3]
MASK = np.array([[True, False, True], [False, False, True]])

#: name -> pairs (ours, reference), or one pair for both if the call is the same
BESIDE_A_REFERENCE = {
    "abs": [(tg.abs, lambda a: np.abs(a))],
    "amax": [(tg.amax, np.amax)],
    "amin": [(tg.amin, np.amin)],
    "fabs": [(tg.fabs, lambda a: np.fabs(a))],
    "fix": [(tg.fix, lambda a: np.fix(a))],
    "mod": [(lambda a: tg.mod(a, 0.7), lambda a: a % 0.7)],
    "true_divide": [(lambda a: tg.true_divide(a, 3), lambda a: a / 3)],
    "concat": [(lambda a: tg.concat([a, a]), lambda a: np.concatenate([a, a]))],
    "acos": [(lambda a: tg.acos(a / 9), lambda a: np.arccos(a / 9))],
    "acosh": [(lambda a: tg.acosh(a * a + 1.5), lambda a: np.arccosh(a * a + 1.5))],
    "asin": [(lambda a: tg.asin(a / 9), lambda a: np.arcsin(a / 9))],
    "asinh": [(tg.asinh, lambda a: np.arcsinh(a))],
    "atan": [(tg.atan, lambda a: np.arctan(a))],
    "atan2": [(lambda a: tg.atan2(a, a + 3), lambda a: np.arctan2(a, a + 3))],
    "atanh": [(lambda a: tg.atanh(a / 9), lambda a: np.arctanh(a / 9))],
    "around": [(lambda a: tg.around(a, 1), lambda a: np.round(a, 1))],
    "bitwise_not": [(lambda a: tg.bitwise_not(a > 0), lambda a: ~(a > 0))],
    "degrees": [(lambda a: tg.degrees(a), lambda a: np.degrees(a))],
    "pow": [(lambda a: tg.pow(a, 3), lambda a: a**3)],
    "radians": [(lambda a: tg.radians(a), lambda a: np.radians(a))],
    "permute_dims": [(lambda c: tg.permute_dims(c, (1, 2, 0)), lambda c: c.transpose(1, 2, 0))],
    "astype": [
        (lambda a: tg.astype(a, np.int64), lambda a: a.astype(np.int64)),
        (lambda a: a.astype(bool), lambda a: a.astype(bool)),
    ],
    "cummax": [
        (lambda c: tg.cummax(c, 1), lambda c: _running_places(c, 1, np.maximum)),
        (lambda a: tg.cummax(a - a, -1), lambda a: _running_places(a - a, -1, np.maximum)),
    ],
    "cummin": [(lambda c: tg.cummin(c, -1), lambda c: _running_places(c, -1, np.minimum))],
    "diag_embed": [
        (tg.diag_embed, lambda x: x[..., None] * np.eye(x.shape[-1])),
        (lambda b: tg.diag_embed(b, -2), lambda b: np.diag(b, -2)),
    ],
    "flatten": [
        (tg.flatten, np.ravel),
        (lambda c: tg.flatten(c, 1), lambda c: c.reshape(2, 12)),
        (lambda s: s.flatten(), np.ravel),
    ],
    "gather": [
        (lambda a: tg.gather(a, 1, I), lambda a: np.take_along_axis(a, I, 1)),
        (lambda c: tg.gather(c, 0, [[[1, 0]]]), lambda c: np.array([[[c[1, 0, 0], c[0, 0, 1]]]])),
    ],
    "index_add": [
        (
            lambda a, b: tg.index_add(a, 1, [0, 0, 2], a * 2),
            lambda a, b: a + np.stack([2 * a[:, 0] + 2 * a[:, 1], 0 * a[:, 0], 2 * a[:, 2]], 1),
        )
    ],
    "index_copy": [
        (lambda a: tg.index_copy(a, 1, [2, 0], a[:, :2] * 3), lambda a: np.stack([3 * a[:, 1], a[:, 1], 3 * a[:, 0]], 1))
    ],
    "index_fill": [(lambda a: tg.index_fill(a, 0, [1], 7.0), lambda a: np.stack([a[0], 0 * a[1] + 7]))],
    "index_select": [(lambda c: tg.index_select(c, 2, [3, 3, 0]), lambda c: c[:, :, [3, 3, 0]])],
    "kthvalue": [
        (lambda c: tg.kthvalue(c, 2, 1), lambda c: (np.sort(c, 1)[:, 1], np.argsort(c, 1)[:, 1])),
        (lambda b: tg.kthvalue(b, 1, keepdims=True), lambda b: (b.min(keepdims=True), b.argmin(keepdims=True))),
    ],
    "masked_fill": [(lambda a: tg.masked_fill(a, MASK, -1.0), lambda a: np.where(MASK, -1.0, a))],
    "masked_select": [
        (lambda a: tg.masked_select(a, MASK), lambda a: a[MASK]),
        (lambda a: tg.masked_select(a, MASK[0]), lambda a: a[:, MASK[0]].ravel()),
    ],
    "matrix_norm": [
        (tg.matrix_norm, lambda x: np.sqrt((x * x).sum((-2, -1)))),
        (lambda c: tg.matrix_norm(c, 1, (1, 2)), lambda c: np.abs(c).sum(1).max(1)),
    ],
    "multi_dot": [(lambda a, m: tg.multi_dot([a, m, m.T]), lambda a, m: a @ m @ m.T),
                  (lambda a, m: np.linalg.multi_dot([a, m, m.T]), lambda a, m: a @ m @ m.T)],
    "put": [
        (lambda a: tg.put(a, (0, [1, 1]), 3.0), lambda a: _put(a, (0, [1, 1]), 3.0)),
        (lambda a: tg.put(a, [0, 0], a[:1], accumulate=True), lambda a: _put(a, [0, 0], a[:1], True)),
    ],
    "put_along_axis": [
        (
            lambda a: tg.put_along_axis(a, [[1], [2]], a[:, :1] * 9, 1),
            lambda a: np.stack([_put(a[0], 1, a[0, 0] * 9), _put(a[1], 2, a[1, 0] * 9)]),
        )
    ],
    "scatter": [(lambda a: tg.scatter(a, 0, [[1, 0]], a * 2), lambda a: _scattered(a, 0, np.array([[1, 0]]), a * 2, False))],
    "scatter_add": [(lambda a: tg.scatter_add(a, 1, I, a * 2), lambda a: _scattered(a, 1, I, a * 2, True))],
    "split_lengths": [
        (lambda b: tg.split_lengths(b, 3), lambda b: (b[:3], b[3:])),
        (lambda c: tg.split_lengths(c, [1, 3], -1), lambda c: (c[..., :1], c[..., 1:])),
    ],
    "svdvals": [(tg.svdvals, lambda x: np.linalg.svd(x, compute_uv=False)), (lambda c: tg.svdvals(c), lambda c: np.linalg.svd(c)[1])],
    "topk": [
        (lambda c: tg.topk(c, 2), lambda c: _best(c, 2, -1, True)),
        (lambda c: tg.topk(c, 1, 1, largest=False), lambda c: _best(c, 1, 1, False)),
        (lambda c: tg.topk(c.reshape(-1), 3), lambda c: _best(c.reshape(-1), 3, 0, True)),
        (lambda s: tg.topk(s, 1), lambda s: (s, np.array(0))),
    ],
    "unflatten": [(lambda c: tg.unflatten(c, -1, (2, -1)), lambda c: c.reshape(2, 3, 2, 2))],
    "unfold": [
        (lambda b: tg.unfold(b, 0, 3), lambda b: np.stack([b[:3], b[1:]])),
        (lambda c: tg.unfold(c, -1, 1, 2), lambda c: c[:, :, ::2, None]),
    ],
    "unstack": [(lambda c: tg.unstack(c, 1), lambda c: (c[:, 0], c[:, 1], c[:, 2])), (lambda a: tuple(a), lambda a: (a[0], a[1]))],
    "frac": [(tg.frac, lambda a: np.fmod(a, 1))],
    "lerp": [(lambda a: tg.lerp(a, a * 3, 0.25), lambda a: 1.5 * a)],
    "logit": [
        (lambda a: tg.logit(tg.sigmoid(a)), lambda a: a),
        (lambda a: tg.logit(a, 0.1), lambda a: np.log(np.clip(a, 0.1, 0.9) / (1 - np.clip(a, 0.1, 0.9)))),
    ],
    "matrix_transpose": [(tg.matrix_transpose, lambda x: x.swapaxes(-1, -2))],
    "trapezoid": [
        (lambda c: tg.trapezoid(c, dx=0.5, axis=1), lambda c: (c[:, 1:] + c[:, :-1]).sum(1) / 4),
        (lambda b: tg.trapezoid(b, b * b), lambda b: ((b[1:] + b[:-1]) / 2 * np.diff(b * b)).sum()),
    ],
    "matvec": [(lambda c, b: tg.matvec(c, b), lambda c, b: c @ b), (lambda c, a: tg.matvec(a, c[:, :, :3]), lambda c, a: (a @ c[:, :, :3, None])[..., 0])],
    "vecmat": [(lambda a, m: tg.vecmat(a, m), lambda a, m: a @ m), (lambda b, c: tg.vecmat(b[:3], c), lambda b, c: b[:3] @ c)],
    "vecdot": [(lambda a: tg.vecdot(a, a * 3), lambda a: (3 * a * a).sum(-1))],
    "vector_norm": [
        (tg.vector_norm, lambda x: np.sqrt((x * x).sum())),
        (lambda a: tg.vector_norm(a, 4, 0), lambda a: ((a**4).sum(0)) ** 0.25),
    ],
}

CREATION = {
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "identity",
    "linspace",
    "multinomial",
    "one_hot",
    "ones",
    "rand",
    "randint",
    "randn",
    "randperm",
    "tensor",
    "tri",
    "zeros",
}  # fmt: skip  tested in test_creation.py

SINCE_NUMPY_2_1 = {"cumulative_prod", "cumulative_sum"}


def arrays_for(function, seed=0):
    """The arrays that the function's parameters name; each value apart from the others, and from what is compared with it."""
    rng = np.random.default_rng(seed)
    names = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    shapes = [MANY.get(name, (2, 3)) for name in names]
    return [np.asarray(rng.permutation(math.prod(s)) * 0.37 - 0.9).reshape(s) * 0.7 for s in shapes]


def cases():
    for name, functions in SAME_IN_NUMPY.items():
        lacking = name in SINCE_NUMPY_2_1 and not hasattr(np, name)
        for i, f in enumerate(functions):
            yield pytest.param(f, f, id=f"{name}-{i}", marks=pytest.mark.skipif(lacking, reason=f"this NumPy has no {name}"))
    for name, pairs in BESIDE_A_REFERENCE.items():
        for i, (ours, reference) in enumerate(pairs):
            yield pytest.param(ours, reference, id=f"{name}-{i}")


def test_every_public_function_is_an_operation_or_declared_here():
    in_registry = {name for name in ops.__all__ if getattr(getattr(ops, name), "op", None) is registry.get(name, 0)}
    declared = {*SAME_IN_NUMPY, *BESIDE_A_REFERENCE, *CREATION}
    assert set(ops.__all__) - in_registry - declared == set()
    assert declared - set(ops.__all__) == set()


def listed(outs):
    return list(outs) if isinstance(outs, (tuple, list)) else [outs]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("ours, reference", list(cases()))
def test_value(ours, reference):
    arrays = arrays_for(reference)
    outs, wanted = listed(ours(*map(tg.Tensor, arrays))), listed(reference(*arrays))
    assert len(outs) == len(wanted)
    for out, want in zip(outs, wanted):
        if isinstance(out, tg.Tensor):
            assert out.shape == np.shape(want) and out.dtype == np.asarray(want).dtype
            out = out.data
        np.testing.assert_allclose(out, want, rtol=1e-11, atol=1e-12)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("ours, reference", list(cases()))
def test_gradient_and_second_order(ours, reference):
    arrays = [x + 0.01 for x in arrays_for(reference, seed=1)]
    leaves = [tg.Tensor(x, requires_grad=True) for x in arrays]
    outs = [o for o in listed(ours(*leaves)) if isinstance(o, tg.Tensor) and o.dtype.kind == "f" and o.requires_grad]
    if not outs:
        return  # indices and bools; test_value has seen that they are NumPy's

    def function(*xs):
        kept = [o for o in listed(ours(*xs)) if isinstance(o, tg.Tensor) and o.dtype.kind == "f"]
        return tuple(kept) if len(kept) > 1 else kept[0]

    used = [x for x, g in zip(leaves, tg.grad([o.sum() for o in outs], leaves, allow_unused=True)) if g is not None]
    assert used
    assert gradcheck(function, tuple(leaves), fast=True)
    assert gradgradcheck(function, tuple(leaves), fast=True)


def test_logit_is_steep_at_its_ends():
    x = tg.Tensor(np.array([0.0, 0.25, 1.0]), requires_grad=True)
    with np.errstate(divide="ignore"):
        y = tg.logit(x)
        (d,) = tg.grad(y, x, np.ones(3))
    np.testing.assert_allclose(y.data, [-np.inf, -np.log(3), np.inf])
    np.testing.assert_allclose(d.data, [np.inf, 16 / 3, np.inf])


def test_where_of_a_condition_alone_names_the_places_where_it_holds():
    a = np.array([[0.0, 1, 2], [3, 0, 0]])
    for given in (tg.Tensor(a), tg.Tensor(a, requires_grad=True), tg.Tensor(a) > 0):
        for places in (tg.where(given), np.where(given)):
            assert [p.data.tolist() for p in places] == [[0, 0, 1], [1, 2, 0]]
    assert tg.Tensor(a)[tg.where(a > 1)].data.tolist() == [2, 3]
    for half in (lambda: tg.where(a > 0, a), lambda: tg.where(a > 0, b=a), lambda: tg.where(a > 0, None, a)):
        with pytest.raises(ValueError, match="where: expected both a and b, or neither"):
            half()


def test_functions_that_numpy_offers_a_second_time():
    a, m = (np.random.default_rng(0).standard_normal(shape) for shape in ((4, 3), (3, 3)))
    x, y = tg.Tensor(a, requires_grad=True), tg.Tensor(m, requires_grad=True)
    calls = [lambda a, m: np.zeros_like(a, None, "K", True, (2, 3)), lambda a, m: np.ones_like(a, shape=5, dtype=np.float32)]
    calls += [lambda a, m: np.full_like(a, 0.1, order="F"), lambda a, m: np.full_like(a, [0.5, 1.5, 2.5], shape=(2, 3)), lambda a, m: np.zeros_like(a, int)]
    calls += [lambda a, m: np.around(a, 1), lambda a, m: np.around(a, decimals=2)]
    calls += [lambda a, m: np.full_like(a, 2), lambda a, m: np.full_like(a, 2, dtype=np.float32), lambda a, m: np.zeros_like(np.empty_like(a))]
    if hasattr(np.linalg, "matmul"):
        calls += [lambda a, m: np.linalg.matmul(a, m), lambda a, m: np.linalg.outer(a[0], m[0])]
        calls += [lambda a, m: np.linalg.tensordot(a, m, axes=1), lambda a, m: np.linalg.cross(a[:3], m)]
        calls += [lambda a, m: np.linalg.diagonal(np.stack([m, 2 * m]), offset=1), lambda a, m: np.linalg.trace(np.stack([m, 2 * m]))]
        calls += [lambda a, m: np.linalg.svdvals(a)]
    if hasattr(np, "astype"):
        calls += [lambda a, m: np.astype(a, np.float32)]
    if hasattr(np, "unstack"):
        calls += [lambda a, m: np.unstack(a, axis=1)[2]]
    for call in calls:
        np.testing.assert_allclose(call(x, y).detach().data, call(a, m), rtol=1e-12)
        assert call(x, y).dtype == call(a, m).dtype
    upper = tg.cholesky(y @ y.T + np.eye(3), upper=True)
    np.testing.assert_allclose((upper.T @ upper).detach().data, m @ m.T + np.eye(3))
    with pytest.raises(TypeError, match=r"np\.fft\.fft has no gradient rule"):
        np.fft.fft(x)


def test_bools_and_foreign_byte_orders_go_where_numpy_takes_them():
    ones, signs = np.ones((2, 3), bool), np.array([True, False])
    for ours, reference in ((tg.tril, np.tril), (tg.triu, np.triu)):
        assert ours(ones).dtype == bool
        np.testing.assert_array_equal(ours(ones).data, reference(ones))
    np.testing.assert_array_equal(tg.copysign(signs, np.array([-1.0, 1.0])).data, [-1, 0])
    np.testing.assert_array_equal(tg.copysign(signs, signs).data, [1, 0])
    x = tg.Tensor(np.array([[1.0, 2], [3, 2]], ">f8"), requires_grad=True)
    np.testing.assert_array_equal(tg.grad(tg.max(x, axis=0).sum(), x)[0].data, [[0, 0.5], [1, 0.5]])


@pytest.mark.parametrize("cuts", [[3, 1], [-1, 1], [5, 0], [2, 2]])
def test_cuts_may_come_in_any_order(cuts):
    x = np.arange(8.0).reshape(2, 4)
    for ours, reference in ((tg.array_split, np.array_split), (tg.split, np.split)):
        pieces = ours(x, cuts, axis=1)
        assert len(pieces) == 3
        for piece, want in zip(pieces, reference(x, cuts, axis=1)):
            np.testing.assert_array_equal(piece.data, want)


def test_the_weights_of_bincount_have_a_gradient():
    w = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    sums = tg.bincount([2, 0, 2], w, minlength=4)
    assert sums.tolist() == [2.0, 0.0, 4.0, 0.0] and sums.dtype == np.float64
    (sums * sums).sum().backward()
    assert w.grad.tolist() == [8.0, 4.0, 8.0]
    with pytest.raises(ValueError, match=r"bincount: .* don't have the same length"):
        tg.bincount([0, 1], w)


def test_numpys_own_ways_to_call():
    c = np.random.default_rng(0).standard_normal((2, 3, 4))
    x, order = tg.Tensor(c), np.array([2, 0, 1])
    for turned in (tg.transpose(x, axes=(2, 0, 1)), np.transpose(x, axes=order), x.transpose(order), x.transpose(tg.Tensor(order))):
        np.testing.assert_array_equal(turned.data, c.transpose(2, 0, 1))
    assert x.reshape(np.array([6, 4])).shape == tg.reshape(c, np.array([6, -1])).shape == (6, 4)
    gaps = np.array([1.0, np.nan])
    assert tg.array_equal(gaps, gaps, equal_nan=True) and not tg.array_equal(gaps, gaps)
    assert (tg.shape([[1, 2]]), tg.ndim([[1, 2]]), tg.size([[1, 2]], 0)) == ((1, 2), 2, 1)


def test_the_larger_of_two_arrays_is_refused_with_its_name():
    for y in (tg.tensor(2.0), tg.ones(3), np.array([0, 1, 0])):
        with pytest.raises(TypeError, match=r"max: axis is an int or a tuple of ints; element by element: tg\.maximum\(x, y\)"):
            tg.max(tg.ones(3), y)
        with pytest.raises(TypeError, match=r"min: .*: tg\.minimum\(x, y\)"):
            tg.ones(3).min(y)


@pytest.mark.parametrize("call", [lambda x: x.transpose(1, -1), lambda x: tg.transpose(x, 1, 2), lambda x: x.transpose(tg.Tensor([1, 2]))])
def test_pytorchs_transpose_of_two_axes_is_refused_with_the_name_that_swaps(call):
    with pytest.raises(ValueError, match=r"expected 3 axes for shape \(2, 3, 4\), got .*; x\.swapaxes\(1, 2\) swaps two"):
        call(tg.ones(2, 3, 4))


def test_a_kind_of_sort_in_numpys_place_is_not_taken_for_descending():
    x = tg.Tensor([2.0, 1.0, 3.0])
    for call in (lambda: np.sort(x, -1, "stable"), lambda: x.argsort(0, "quicksort"), lambda: tg.argsort(x, -1, "stable")):
        with pytest.raises(TypeError, match="descending must be True or False, got '(stable|quicksort)'.*kind="):
            call()
    assert tg.sort(x, -1, True).tolist() == [3.0, 2.0, 1.0]
    assert np.sort(x, kind="stable").tolist() == [1.0, 2.0, 3.0] == tg.sort(x, -1, np.False_).tolist()


def test_what_cannot_be_padded_joined_or_weighted_is_named():
    x = tg.Tensor(np.ones((2, 3)), requires_grad=True)
    for wrong, message in (
        (lambda: np.pad(x, 1, "ramp"), "pad: mode must be 'constant' or one of .*'linear_ramp'.*got 'ramp'"),
        (lambda: np.pad(x[:0], 1, "mean"), "pad: axis 0 is empty"),
        (lambda: np.pad(x, 1, "reflect", reflect_type="up"), "pad: reflect_type must be 'even' or 'odd', got 'up'"),
        (lambda: np.block([x, [x]]), r"block: expected arrays in lists of one depth, got them at depths \[1, 2\]"),
        (lambda: np.cov(x, aweights=[1, 2, -1]), "cov: aweights: expected 3 numbers of at least 0"),
        (lambda: np.interp(x, [0.0, 1], [0.0, 1], period=0), "interp: period: expected a number other than 0"),
        (lambda: np.linalg.eigh(x[:, :2], "A"), "eigh: UPLO must be 'L' or 'U', got 'A'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            wrong()
    with pytest.raises(TypeError, match="cov: fweights: expected whole numbers"):
        np.cov(x, fweights=[1, 2, 0.5])


def test_results_of_decompositions_have_numpys_names():
    m = np.random.default_rng(0).standard_normal((3, 3))
    for function in (np.linalg.slogdet, np.linalg.eigh, np.linalg.svd, np.linalg.qr):
        wanted, ours = function(m @ m.T), function(tg.Tensor(m @ m.T))
        assert type(ours).__name__ == type(wanted).__name__ and ours._fields == wanted._fields
        for out, want in zip(ours, wanted):
            np.testing.assert_allclose(out.data, want)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_equal_eigenvalues_have_a_gradient_and_their_vectors_say_that_they_have_none():
    """v diag(f(w)) vᵀ has one at equal w, which the rules cannot know (f' of it): NaN, not a number that is wrong."""
    x = tg.Tensor(2 * np.eye(3), requires_grad=True)
    for values in (tg.eigvalsh, tg.svdvals, lambda x: tg.eigh(x).eigenvalues, lambda x: tg.matrix_norm(x, "nuc")):
        np.testing.assert_allclose(tg.grad((values(x) ** 2).sum() / 2, x)[0].data, np.eye(3) * (6 if values(x).ndim == 0 else 2))
    np.testing.assert_allclose(tg.grad(tg.matrix_norm(x, 2), x)[0].data, np.eye(3) / 3)  # a subgradient, as max gives
    w, v = tg.eigh(x)
    assert np.isnan(tg.grad(((v * tg.exp(w)) @ v.T).sum(), x)[0].data).all()
    zero = tg.Tensor(np.zeros((2, 3)), requires_grad=True)
    for p in (2, -2, "nuc"):
        assert np.isfinite(tg.grad(tg.matrix_norm(zero, p), zero)[0].data).all()


def test_decompositions_refuse_what_they_cannot_do():
    x = tg.Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(ValueError, match=r"svd: shape \(2, 3\) is not square: pass full_matrices=False"):
        np.linalg.svd(x)
    with pytest.raises(ValueError, match="qr: mode must be 'reduced' or 'r', got 'complete'"):
        np.linalg.qr(x, "complete")
    for function in (tg.eigh, tg.eigvalsh, tg.cholesky):  # x + xᵀ of one row would broadcast
        with pytest.raises(ValueError, match=r"expected square matrices, got shape \(1, 3\)"):
            function(x[:1])
    assert tg.cond(np.zeros((2, 2))).item() == tg.cond(np.diag([1.0, 0])).item() == np.inf


def test_reductions_take_numpys_arguments_by_position_and_by_name():
    a, mask = np.random.default_rng(0).standard_normal((2, 3)), np.array([[True, False, True], [False, False, True]])
    x = tg.Tensor(a, requires_grad=True)
    for call in (
        lambda x: np.sum(x, 0, None, None, True), lambda x: np.sum(x, 0, np.float32), lambda x: np.mean(x, axis=0, dtype=None, out=None),
        lambda x: np.max(x, 1, None, True), lambda x: np.any(x, 0, None, True), lambda x: np.argmin(x, 1, None),
        lambda x: np.std(x, 0, None, None, 1), lambda x: np.any(x, where=mask), lambda x: np.all(x, axis=0, where=mask),
        lambda x: np.prod(x, 1, None, None, False, 2.0, mask), lambda x: x.min(initial=-0.2, where=mask),
        lambda x: np.mean(x, axis=1, where=mask, keepdims=True), lambda x: x[:0].max(axis=0, initial=3.0),
    ):  # fmt: skip
        np.testing.assert_allclose(call(x).detach().data, call(a), rtol=1e-6)
        assert call(x).dtype == call(a).dtype and call(x).shape == call(a).shape
    single = tg.Tensor(a.astype(np.float32), requires_grad=True)
    y = tg.mean(single, dtype=np.float64, where=tg.Tensor(mask))
    (d,) = tg.grad(y, single)
    assert y.dtype == np.float64 and d.dtype == np.float32
    np.testing.assert_allclose(d.data, mask / 3, rtol=1e-6)
    tie = tg.Tensor([1.0, 1.0], requires_grad=True)  # the initial value is one more that shares
    np.testing.assert_allclose(tg.grad(tie.max(initial=1), tie)[0].data, [1 / 3, 1 / 3])
    for wrong, message in (
        (lambda: np.sum(x, dtype=int), "sum: dtype must be a float for an array of float64, got int64"),
        (lambda: np.sum(x, 0, None, a[0]), "sum: out= is not supported"),
    ):
        with pytest.raises(TypeError, match=message):
            wrong()
    with pytest.raises(ValueError, match="max: with where=, initial= must say"):
        x.max(where=mask)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_is_left_out_and_gets_no_gradient():
    gaps = tg.Tensor([[1.0, np.nan, 1.0], [np.nan, np.nan, np.nan]], requires_grad=True)
    for ours, reference in ((tg.nanvar, np.nanvar), (tg.nanstd, np.nanstd)):
        y = ours(gaps, axis=1)
        np.testing.assert_array_equal(y.data, reference(gaps.detach().data, axis=1))
        np.testing.assert_array_equal(tg.grad(y[0], gaps)[0].data[0], [0, 0, 0])  # a flat row: the subgradient 0
        assert y.dtype == np.float32
    for ours, reference in ((tg.nanmax, np.nanmax), (tg.nanmin, np.nanmin)):
        for axis in (None, 0, 1, (0, 1)):
            y = ours(gaps, axis=axis)
            np.testing.assert_array_equal(y.data, reference(gaps.detach().data, axis=axis))
            (d,) = tg.grad(y, gaps, np.ones(y.shape))
            assert np.array_equal(d.data[0], [0.5, 0, 0.5] if axis != 0 else [1, 0, 1]) and not d.data[1].any()
    assert (gaps.item(0), gaps.item(0, 2), gaps.item(-6)) == (1, 1, 1)
    with pytest.raises(ValueError, match="item: expected one element or an index"):
        gaps.item()
