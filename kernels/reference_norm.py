"""LayerNorm and RMSNorm over the last axis, plain NumPy. Part of `kernels.reference`.

Every forward returns its row statistics; backward takes them back, so that nothing else need be saved.
The `add_` pair fuses the residual addition of a transformer block: the sum is itself an output (the residual stream).
"""
import numpy as np

from . import _check as check


def layer_norm_forward(x, weight=None, bias=None, eps=1e-5, out=None):
    """out = (x - mean) · rstd · weight + bias,  rstd = 1 / sqrt(var + eps)   Ba et al. 2016

    x (..., D); weight, bias (D,) or None. Returns out, mean (...), rstd (...).
    """
    _vectors(x, weight, bias)
    mean = np.asarray(_mean(x))
    centred = x - mean[..., None]
    rstd = np.asarray(1 / np.sqrt(_mean(centred * centred) + x.dtype.type(eps)))
    y = centred * rstd[..., None]
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return check.into(out, y, (x, weight, bias)), mean, rstd


def layer_norm_backward(g, x, weight, mean, rstd):
    """dx = rstd · (h - mean(h) - xhat · mean(h · xhat)),  h = g · weight,  xhat = (x - mean) · rstd

    Returns dx, dweight = Σ g · xhat (None if weight is None), dbias = Σ g, the sums over all rows.
    """
    check.like_array("g", g, _vectors(x, weight))
    check.statistics("mean", mean, x), check.statistics("rstd", rstd, x)
    xhat = (x - mean[..., None]) * rstd[..., None]
    h = g if weight is None else g * weight
    dx = rstd[..., None] * (h - _mean(h)[..., None] - xhat * _mean(h * xhat)[..., None])
    dweight = None if weight is None else _sum_rows(g * xhat)
    return dx, dweight, _sum_rows(g)


def rms_norm_forward(x, weight=None, eps=1e-6, out=None):
    """out = x · rstd · weight,  rstd = 1 / sqrt(mean(x²) + eps)   Zhang and Sennrich 2019

    x (..., D); weight (D,) or None. Returns out, rstd (...).
    """
    _vectors(x, weight)
    rstd = np.asarray(1 / np.sqrt(_mean(x * x) + x.dtype.type(eps)))
    y = x * rstd[..., None]
    return check.into(out, y if weight is None else y * weight, (x, weight)), rstd


def rms_norm_backward(g, x, weight, rstd):
    """dx = rstd · (h - xhat · mean(h · xhat)),  h = g · weight,  xhat = x · rstd

    Returns dx, dweight = Σ g · xhat over all rows (None if weight is None).
    """
    check.like_array("g", g, _vectors(x, weight))
    check.statistics("rstd", rstd, x)
    xhat = x * rstd[..., None]
    h = g if weight is None else g * weight
    dx = rstd[..., None] * (h - xhat * _mean(h * xhat)[..., None])
    return dx, None if weight is None else _sum_rows(g * xhat)


def add_layer_norm_forward(x, residual, weight=None, bias=None, eps=1e-5):
    """total = x + residual;  out, mean, rstd = layer_norm(total).  Returns total, out, mean, rstd."""
    total = x + check.like_array("residual", residual, check.rows("x", x))
    return (total, *layer_norm_forward(total, weight, bias, eps))


def add_layer_norm_backward(g_out, g_total, total, weight, mean, rstd):
    """dtotal = g_total + layer_norm_backward(g_out).  Returns dtotal (the gradient of x and of residual alike), dweight, dbias.

    g_total, the gradient that reaches the sum along the residual stream, may be None.
    """
    dtotal, dweight, dbias = layer_norm_backward(g_out, total, weight, mean, rstd)
    return _plus(dtotal, g_total), dweight, dbias


def add_rms_norm_forward(x, residual, weight=None, eps=1e-6):
    """total = x + residual;  out, rstd = rms_norm(total).  Returns total, out, rstd."""
    total = x + check.like_array("residual", residual, check.rows("x", x))
    return (total, *rms_norm_forward(total, weight, eps))


def add_rms_norm_backward(g_out, g_total, total, weight, rstd):
    """dtotal = g_total + rms_norm_backward(g_out).  Returns dtotal, dweight; g_total may be None."""
    dtotal, dweight = rms_norm_backward(g_out, total, weight, rstd)
    return _plus(dtotal, g_total), dweight


def _vectors(x, *vectors):
    check.rows("x", x)
    for name, vector in zip(("weight", "bias"), vectors):
        check.vector(name, vector, x, x.shape[-1])
    return x


def _mean(x):
    """The mean along the last axis; 0 for rows without elements."""
    return x.sum(axis=-1) / x.dtype.type(max(x.shape[-1], 1))


def _sum_rows(x):
    return x.reshape(-1, x.shape[-1]).sum(axis=0) if x.size else np.zeros(x.shape[-1], x.dtype)


def _plus(dtotal, g_total):
    return dtotal if g_total is None else dtotal + check.like_array("g_total", g_total, dtotal)
