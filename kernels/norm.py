"""LayerNorm and RMSNorm, forward and backward, with the residual addition fused on request.

Forward goes over a row three times (mean, variance, result), but the row stays in the first-level cache: memory sees one
read and one write. Two-pass variance costs nothing then, and has none of the cancellation of E[x²] - E[x]².
Backward needs two sums over the row before it can write dx, and adds the row's share of dweight and dbias to
partial sums of its task; these are added up at the end in the order of the tasks, whoever computed them.
The loops stand in `norm_vectors`, and as plain Python in `norm_plain`.
"""
import numpy as np

from . import _check as check
from ._jit import COMPILED
from ._rows import handed_back, rows_of, share, target_of
from .arrays import empty

if COMPILED:
    from .norm_vectors import normalize, normalize_gradient
else:
    from .norm_plain import normalize, normalize_gradient

PARTIALS = 32                       # at most so many partial sums of dweight; each costs a row of memory and one addition


# ---- the kernels ------------------------------------------------------------------------------------------------------

def layer_norm_forward(x, weight=None, bias=None, eps=1e-5, out=None):
    return _forward(x, None, weight, bias, eps, out)[1:]


def add_layer_norm_forward(x, residual, weight=None, bias=None, eps=1e-5):
    check.like_array("residual", residual, check.rows("x", x))
    return _forward(x, residual, weight, bias, eps)


def rms_norm_forward(x, weight=None, eps=1e-6, out=None):
    _, y, _, rstd = _forward(x, None, weight, None, eps, out, centred=False)
    return y, rstd


def add_rms_norm_forward(x, residual, weight=None, eps=1e-6):
    check.like_array("residual", residual, check.rows("x", x))
    total, y, _, rstd = _forward(x, residual, weight, None, eps, centred=False)
    return total, y, rstd


def layer_norm_backward(g, x, weight, mean, rstd):
    return _backward(g, None, x, weight, mean, rstd)


def add_layer_norm_backward(g_out, g_total, total, weight, mean, rstd):
    return _backward(g_out, g_total, total, weight, mean, rstd)


def rms_norm_backward(g, x, weight, rstd):
    return _backward(g, None, x, weight, None, rstd, centred=False)[:2]


def add_rms_norm_backward(g_out, g_total, total, weight, rstd):
    return _backward(g_out, g_total, total, weight, None, rstd, centred=False)[:2]


def _forward(x, residual, weight, bias, eps, out=None, centred=True):
    """(total, y, mean, rstd); without a residual total is None, and where no mean is taken off mean is."""
    check.rows("x", x)
    weight, bias = _vector("weight", weight, x), _vector("bias", bias, x)
    target = target_of("out", out, x.shape, x.dtype, (x, weight, bias))
    total = None if residual is None else empty(x.shape, x.dtype)
    mean, rstd = np.empty(x.shape[:-1], x.dtype) if centred else None, np.empty(x.shape[:-1], x.dtype)
    if x.size == 0:
        rstd[...] = 1 / np.sqrt(x.dtype.type(eps))
        if centred:
            mean[...] = 0
        return total, target, mean, rstd
    rows, width = rows_of(x), x.shape[-1]
    normalize(*share(len(rows), width), width, rows, _maybe(rows_of, residual), _ones_if_none(weight, x), bias, x.dtype.type(eps),
              _maybe(rows_of, total), rows_of(target), _maybe(_flat, mean), _flat(rstd))
    return total, handed_back(out, target), mean, rstd


def _backward(g, g_total, x, weight, mean, rstd, centred=True):
    """(dx, dweight, dbias); without a weight dweight is None, and where no mean was taken off dbias is."""
    weight = _vector("weight", weight, check.rows("x", x))
    check.like_array("g", g, x)
    if centred:
        check.statistics("mean", mean, x)
    check.statistics("rstd", rstd, x)
    if g_total is not None:
        check.like_array("g_total", g_total, x)
    width, dx = x.shape[-1], empty(x.shape, x.dtype)
    threads, tasks = share(rstd.size, width, max(1 << 14, -(-x.size // PARTIALS)))
    partials = np.zeros((2 if centred else 1, tasks, width), x.dtype)
    if x.size:
        normalize_gradient(threads, tasks, width, rows_of(g), _maybe(rows_of, g_total), rows_of(x), _ones_if_none(weight, x),
                           _maybe(_flat, mean), _flat(rstd), rows_of(dx), partials[0], partials[1] if centred else None)
    summed = partials[:, 0] if tasks == 1 else np.add.reduce(partials, axis=1)         # in the order of tasks
    return dx, None if weight is None else summed[0], summed[1] if centred else None


def _vector(name, vector, x):
    """None, or one contiguous number per column of x."""
    if vector is None:
        return None
    if type(vector) is not np.ndarray or vector.dtype is not x.dtype or vector.shape != x.shape[-1:]:
        check.vector(name, vector, x, *x.shape[-1:])
    return vector if vector.flags.c_contiguous else np.ascontiguousarray(vector)


def _maybe(change, x):
    return None if x is None else change(x)


def _ones_if_none(weight, x):
    return np.ones(x.shape[-1], x.dtype) if weight is None else weight


def _flat(x):
    return x if x.ndim == 1 and x.flags.c_contiguous else np.ascontiguousarray(x).reshape(-1)


def warmup(dtypes=("float32",)):
    for dtype in dtypes:
        x, w = np.ones((64, 1024), dtype), np.ones(1024, dtype)
        out, mean, rstd = layer_norm_forward(x, w, w)
        layer_norm_backward(out, x, w, mean, rstd)
