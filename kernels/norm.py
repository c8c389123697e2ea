"""LayerNorm and RMSNorm, forward and backward, with the residual addition fused on request.

Forward goes over a row three times (mean, variance, result), but the row stays in the first-level cache: memory sees one
read and one write. Two-pass variance costs nothing then, and has none of the cancellation of E[x²] - E[x]².
Backward needs two sums over the row before it can write dx, and adds the row's share of dweight and dbias to
partial sums of its task; these are added up at the end in the order of the tasks, whoever computed them. dx and dweight have
loops of their own: LLVM vectorises a loop only if at most 8 pairs of arrays must be proven apart, and together there are 12.
"""
import numpy as np

from . import _check as check
from ._jit import jit, jit_tasks
from ._rows import empty_rows, rows_of, share, span
from .arrays import empty
from .vecmath import wide_vectors

PARTIALS = 32                       # at most so many partial sums of dweight; each costs a row of memory and one addition


# ---- forward ----------------------------------------------------------------------------------------------------------

@jit_tasks
def _layer_norm(task, tasks, width, x, residual, weight, bias, eps, total, out, statistics):
    wide_vectors()
    first, last = span(task, tasks, x.shape[0])
    zero = x.dtype.type(0)
    for r in range(first, last):
        row = x[r][:width]
        if residual is not None:
            extra, into = residual[r][:width], total[r][:width]
            for i in range(width):
                into[i] = row[i] + extra[i]
            row = into
        s = zero
        for i in range(width):
            s += row[i]
        mu = x.dtype.type(s / width)
        s = zero
        for i in range(width):
            c = row[i] - mu
            s += c * c
        scale = x.dtype.type(1 / np.sqrt(s / width + eps))
        y = out[r][:width]
        if weight is None:
            for i in range(width):
                y[i] = (row[i] - mu) * scale
        elif bias is None:
            for i in range(width):
                y[i] = (row[i] - mu) * scale * weight[i]
        else:
            for i in range(width):
                y[i] = (row[i] - mu) * scale * weight[i] + bias[i]
        statistics[0, r], statistics[1, r] = mu, scale


@jit_tasks
def _rms_norm(task, tasks, width, x, residual, weight, eps, total, out, rstd):
    wide_vectors()
    first, last = span(task, tasks, x.shape[0])
    for r in range(first, last):
        row = x[r][:width]
        if residual is not None:
            extra, into = residual[r][:width], total[r][:width]
            for i in range(width):
                into[i] = row[i] + extra[i]
            row = into
        s = x.dtype.type(0)
        for i in range(width):
            s += row[i] * row[i]
        scale = x.dtype.type(1 / np.sqrt(s / width + eps))
        y = out[r][:width]
        if weight is None:
            for i in range(width):
                y[i] = row[i] * scale
        else:
            for i in range(width):
                y[i] = row[i] * scale * weight[i]
        rstd[r] = scale


# ---- backward ---------------------------------------------------------------------------------------------------------

@jit_tasks
def _layer_norm_gradient(task, tasks, width, g, g_total, x, weight, mean, rstd, dx, dweights, dbiases):
    wide_vectors()
    first, last = span(task, tasks, x.shape[0])
    zero, dweight, dbias = x.dtype.type(0), dweights[task], dbiases[task]
    for r in range(first, last):
        row, gr, d = x[r][:width], g[r][:width], dx[r][:width]
        mu, scale = mean[r], rstd[r]
        sum_h, sum_hx = zero, zero
        for i in range(width):
            h = gr[i] if weight is None else gr[i] * weight[i]
            sum_h += h
            sum_hx += h * ((row[i] - mu) * scale)
        sum_h, sum_hx = x.dtype.type(sum_h / width), x.dtype.type(sum_hx / width)
        for i in range(width):
            h = gr[i] if weight is None else gr[i] * weight[i]
            d[i] = scale * (h - sum_h - (row[i] - mu) * scale * sum_hx)
        for i in range(width):
            if weight is not None:
                dweight[i] += gr[i] * ((row[i] - mu) * scale)
            dbias[i] += gr[i]
        if g_total is not None:
            _add_to(d, g_total[r][:width])


@jit_tasks
def _rms_norm_gradient(task, tasks, width, g, g_total, x, weight, rstd, dx, dweights):
    wide_vectors()
    first, last = span(task, tasks, x.shape[0])
    dweight = dweights[task]
    for r in range(first, last):
        row, gr, d = x[r][:width], g[r][:width], dx[r][:width]
        scale, sum_hx = rstd[r], x.dtype.type(0)
        for i in range(width):
            h = gr[i] if weight is None else gr[i] * weight[i]
            sum_hx += h * (row[i] * scale)
        sum_hx = x.dtype.type(sum_hx / width)
        for i in range(width):
            h = gr[i] if weight is None else gr[i] * weight[i]
            d[i] = scale * (h - row[i] * scale * sum_hx)
        if weight is not None:
            for i in range(width):
                dweight[i] += gr[i] * (row[i] * scale)
        if g_total is not None:
            _add_to(d, g_total[r][:width])


@jit(forceinline=True)
def _add_to(row, extra):
    for i in range(row.size):
        row[i] += extra[i]


# ---- the kernels ------------------------------------------------------------------------------------------------------

def layer_norm_forward(x, weight=None, bias=None, eps=1e-5, out=None):
    return _layer_norm_forward(x, None, weight, bias, eps, out)[1:]


def add_layer_norm_forward(x, residual, weight=None, bias=None, eps=1e-5):
    check.like_array("residual", residual, check.rows("x", x))
    return _layer_norm_forward(x, residual, weight, bias, eps, None)


def _layer_norm_forward(x, residual, weight, bias, eps, out):
    weight, bias = _vectors(x, weight, bias)
    if out is not None:
        check.writable("out", out, x.shape, x.dtype, (x, weight, bias))
    y = empty_rows(x, out)
    statistics = np.empty((2, *x.shape[:-1]), x.dtype)
    total = None if residual is None else empty(x.shape, x.dtype)
    if x.size == 0:
        statistics[0], statistics[1] = 0, 1 / np.sqrt(x.dtype.type(eps))
        return total, y, *statistics
    if weight is None and bias is not None:
        weight = np.ones_like(bias)
    rows, width = rows_of(x), x.shape[-1]
    target = y if y.flags.c_contiguous else empty(x.shape, x.dtype)
    _layer_norm(*share(len(rows), width), width, rows, _maybe_rows(residual), weight, bias, x.dtype.type(eps),
                _maybe_rows(total), rows_of(target), statistics.reshape(2, -1))
    if target is not y:
        y[...] = target
    return total, y, statistics[0], statistics[1]


def layer_norm_backward(g, x, weight, mean, rstd):
    return _layer_norm_backward(g, None, x, weight, mean, rstd)


def add_layer_norm_backward(g_out, g_total, total, weight, mean, rstd):
    if g_total is not None:
        check.like_array("g_total", g_total, total)
    return _layer_norm_backward(g_out, g_total, total, weight, mean, rstd)


def _layer_norm_backward(g, g_total, x, weight, mean, rstd):
    (weight,) = _vectors(x, weight)
    check.like_array("g", g, x)
    check.statistics("mean", mean, x), check.statistics("rstd", rstd, x)
    width, dx = x.shape[-1], empty(x.shape, x.dtype)
    if x.size == 0:
        return dx, None if weight is None else np.zeros(width, x.dtype), np.zeros(width, x.dtype)
    rows = rows_of(x)
    threads, tasks = _gradient_share(len(rows), width)
    dweights, dbiases = np.zeros((tasks, width), x.dtype), np.zeros((tasks, width), x.dtype)
    _layer_norm_gradient(threads, tasks, width, rows_of(g), _maybe_rows(g_total), rows, weight, _flat(mean), _flat(rstd),
                         rows_of(dx), dweights, dbiases)
    return dx, None if weight is None else _ordered_sum(dweights), _ordered_sum(dbiases)


def rms_norm_forward(x, weight=None, eps=1e-6, out=None):
    return _rms_norm_forward(x, None, weight, eps, out)[1:]


def add_rms_norm_forward(x, residual, weight=None, eps=1e-6):
    check.like_array("residual", residual, check.rows("x", x))
    return _rms_norm_forward(x, residual, weight, eps, None)


def _rms_norm_forward(x, residual, weight, eps, out):
    (weight,) = _vectors(x, weight)
    if out is not None:
        check.writable("out", out, x.shape, x.dtype, (x, weight))
    y, rstd = empty_rows(x, out), np.empty(x.shape[:-1], x.dtype)
    total = None if residual is None else empty(x.shape, x.dtype)
    if x.size == 0:
        rstd[...] = 1 / np.sqrt(x.dtype.type(eps))
        return total, y, rstd
    rows, width = rows_of(x), x.shape[-1]
    target = y if y.flags.c_contiguous else empty(x.shape, x.dtype)
    _rms_norm(*share(len(rows), width), width, rows, _maybe_rows(residual), weight, x.dtype.type(eps), _maybe_rows(total),
              rows_of(target), rstd.reshape(-1))
    if target is not y:
        y[...] = target
    return total, y, rstd


def rms_norm_backward(g, x, weight, rstd):
    return _rms_norm_backward(g, None, x, weight, rstd)


def add_rms_norm_backward(g_out, g_total, total, weight, rstd):
    if g_total is not None:
        check.like_array("g_total", g_total, total)
    return _rms_norm_backward(g_out, g_total, total, weight, rstd)


def _rms_norm_backward(g, g_total, x, weight, rstd):
    (weight,) = _vectors(x, weight)
    check.like_array("g", g, x)
    check.statistics("rstd", rstd, x)
    width, dx = x.shape[-1], empty(x.shape, x.dtype)
    if x.size == 0:
        return dx, None if weight is None else np.zeros(width, x.dtype)
    rows = rows_of(x)
    threads, tasks = _gradient_share(len(rows), width)
    dweights = np.zeros((tasks, width), x.dtype)
    _rms_norm_gradient(threads, tasks, width, rows_of(g), _maybe_rows(g_total), rows, weight, _flat(rstd),
                       rows_of(dx), dweights)
    return dx, None if weight is None else _ordered_sum(dweights)


def _vectors(x, *vectors):
    check.rows("x", x)
    width, contiguous = x.shape[-1:], []
    for name, vector in zip(("weight", "bias"), vectors):
        if vector is not None and (type(vector) is not np.ndarray or vector.dtype is not x.dtype or vector.shape != width):
            check.vector(name, vector, x, *width)
        contiguous.append(vector if vector is None or vector.flags.c_contiguous else np.ascontiguousarray(vector))
    return contiguous


def _maybe_rows(x):
    return None if x is None else rows_of(x)


def _flat(x):
    return x.reshape(-1) if x.flags.c_contiguous else np.ascontiguousarray(x).reshape(-1)


def _gradient_share(rows, width):
    return share(rows, width, max(1 << 14, -(-rows * width // PARTIALS)))


def _ordered_sum(partials):
    return partials[0] if len(partials) == 1 else np.add.reduce(partials, axis=0)


def warmup(dtypes=("float32",)):
    for dtype in dtypes:
        x, w = np.ones((64, 1024), dtype), np.ones(1024, dtype)
        out, mean, rstd = layer_norm_forward(x, w, w)
        layer_norm_backward(out, x, w, mean, rstd)
