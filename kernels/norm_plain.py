"""LayerNorm and RMSNorm over rows as plain loops: what `norm_vectors` computes, to be read and stepped through.

RMSNorm is LayerNorm that takes no mean off: `mean`, `bias` and `dbiases` are None.
"""
import numpy as np

from ._jit import jit_tasks
from ._rows import span


@jit_tasks
def normalize(task, tasks, width, x, residual, weight, bias, eps, total, out, mean, rstd):
    """out = (x - mean) · rstd · weight + bias; with a residual of total = x + residual. mean and rstd are written."""
    first, last = span(task, tasks, x.shape[0])
    for r in range(first, last):
        row, y, mu = x[r][:width], out[r][:width], x.dtype.type(0)
        if residual is not None:
            row = total[r][:width]
            for i in range(width):
                row[i] = x[r, i] + residual[r, i]
        if mean is not None:
            s = x.dtype.type(0)
            for i in range(width):
                s += row[i]
            mean[r] = mu = x.dtype.type(s / width)
        s = x.dtype.type(0)
        for i in range(width):
            c = row[i] - mu
            s += c * c
        rstd[r] = scale = x.dtype.type(1 / np.sqrt(s / width + eps))
        for i in range(width):
            y[i] = (row[i] - mu) * scale * weight[i]
            if bias is not None:
                y[i] += bias[i]


@jit_tasks
def normalize_gradient(task, tasks, width, g, g_total, x, weight, mean, rstd, dx, dweights, dbiases):
    """With h = g · weight and y = (x - mean) · rstd: dx = rstd · (h - Σh/n - y · Σ(h·y)/n), dweight += g · y, dbias += g."""
    first, last = span(task, tasks, x.shape[0])
    zero = x.dtype.type(0)
    for r in range(first, last):
        mu, scale = zero if mean is None else mean[r], rstd[r]
        sum_h, sum_hy = zero, zero
        for i in range(width):
            h = g[r, i] * weight[i]
            sum_h += h
            sum_hy += h * ((x[r, i] - mu) * scale)
        off = zero if mean is None else x.dtype.type(sum_h / width)
        slope = x.dtype.type(sum_hy / width)
        for i in range(width):
            y = (x[r, i] - mu) * scale
            dx[r, i] = scale * (g[r, i] * weight[i] - off - y * slope)
            if g_total is not None:
                dx[r, i] += g_total[r, i]
            dweights[task, i] += g[r, i] * y
            if dbiases is not None:
                dbiases[task, i] += g[r, i]
