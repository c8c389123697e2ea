"""Cross-entropy from logits, and straight from hidden states, plain NumPy. Part of `kernels.reference`."""
import numpy as np

from . import _check as check
from .reference_matmul import matmul


def cross_entropy_forward(logits, targets, ignore_index=-100, label_smoothing=0.0):
    """loss = lse - (1 - ε) x_t - ε mean(x),  lse = log Σ_v exp(x_v)   ε the label smoothing, Szegedy et al. 2016

    logits (..., V), integer targets (...). Returns the loss of each row, 0 where the target is `ignore_index`, and lse.
    """
    _classes(logits, targets, ignore_index, label_smoothing)
    if logits.size == 0:
        return np.zeros(targets.shape, logits.dtype), np.full(targets.shape, -np.inf, logits.dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        top = logits.max(axis=-1, initial=-np.inf)
        base = np.where(top == -np.inf, logits.dtype.type(0), top)[..., None]
        log_sum = np.log(np.exp(logits - base).sum(axis=-1))                # kept apart: top may be so large that it swallows it
    valid = targets != ignore_index
    picked = np.take_along_axis(logits, np.where(valid, targets, 0)[..., None], axis=-1)[..., 0]
    eps = logits.dtype.type(label_smoothing)
    with np.errstate(invalid="ignore"):
        losses = top - picked
        if eps != 0:
            losses = (1 - eps) * losses + eps * (top[..., None] - logits).mean(axis=-1)
        return np.where(valid, losses + log_sum, logits.dtype.type(0)), np.asarray(top + log_sum)


def cross_entropy_backward(g, logits, targets, lse, ignore_index=-100, label_smoothing=0.0, out=None):
    """dlogits = g · (softmax(x) - (1 - ε) onehot(t) - ε / V), 0 in ignored rows

    g: the gradient of each row's loss (...), or one number for all rows. `out` may be `logits` itself.
    """
    _classes(logits, targets, ignore_index, label_smoothing)
    check.statistics("lse", lse, logits)
    g = row_gradient(g, targets, ignore_index, logits)
    if logits.size == 0:
        return check.into(out, np.zeros(logits.shape, logits.dtype))
    d = np.exp(logits - lse[..., None])
    if label_smoothing:
        d -= d.dtype.type(label_smoothing / max(logits.shape[-1], 1))
    valid = targets != ignore_index
    index = np.where(valid, targets, 0)[..., None]
    np.put_along_axis(d, index, np.take_along_axis(d, index, -1) - d.dtype.type(1 - label_smoothing), -1)
    d = np.where(valid[..., None], d * g[..., None], d.dtype.type(0))
    return check.into(out, d, (lse,) if check.same_place(out, logits) else (logits, lse))


def linear_cross_entropy_forward(hidden, weight, targets, bias=None, *, reduction="mean", ignore_index=-100,
                                 label_smoothing=0.0, chunk_rows=None, gradients=True, precision=None):
    """loss = reduce(cross_entropy(hidden weightᵀ + bias, targets)) without ever storing all the logits

    hidden (..., D), weight (V, D), bias (V,) or None, targets (...); reduction "mean" (over the rows that are not ignored)
    or "sum". Rows go in chunks: logits of one chunk, its loss, its dlogits in the same buffer, its share of the three
    gradients. So the forward pass already has the gradients for g = 1, at three products instead of the four of recomputing.
    `precision` is that of the three products, as in `matmul`.
    Returns loss (a 0-d array), dhidden, dweight, dbias; the gradients are None if not asked for, dbias also without a bias.
    """
    _linear(hidden, weight, targets, bias, reduction, chunk_rows)
    rows, flat = hidden.reshape(targets.size, hidden.shape[-1]), targets.reshape(-1)
    check.index_range("targets", flat, weight.shape[0], ignore_index)
    scale = reduction_scale(flat, ignore_index, reduction)
    step = chunk_rows or default_chunk(weight.shape[0], hidden.itemsize)
    dhidden, dweight = (np.empty_like(rows), np.zeros_like(weight)) if gradients else (None, None)
    dbias = np.zeros_like(bias) if gradients and bias is not None else None
    loss = 0.0
    for i in range(0, len(rows), step):
        h, t = rows[i:i + step], flat[i:i + step]
        logits = matmul(h, weight, transpose_b=True, bias=bias, precision=precision)
        losses, lse = cross_entropy_forward(logits, t, ignore_index, label_smoothing)
        loss += float(losses.sum(dtype=np.float64))
        if gradients:
            d = cross_entropy_backward(scale, logits, t, lse, ignore_index, label_smoothing)
            dhidden[i:i + step] = matmul(d, weight, precision=precision)
            dweight += matmul(d, h, transpose_a=True, precision=precision)
            if dbias is not None:
                dbias += d.sum(axis=0)
    loss = np.asarray(loss * scale, hidden.dtype)
    return loss, (dhidden.reshape(hidden.shape) if gradients else None), dweight, dbias


def linear_cross_entropy_backward(g, dhidden, dweight, dbias=None):
    """g times the gradients that the forward pass left; returned as they are when g is 1, as it is at the end of a model."""
    g = float(g)
    if g == 1.0:
        return dhidden, dweight, dbias
    return tuple(None if d is None else d * d.dtype.type(g) for d in (dhidden, dweight, dbias))


def reduction_scale(targets, ignore_index, reduction):
    """What each row's loss is multiplied with: 1, or 1 / (rows that count). NaN when there is none, as in PyTorch."""
    if reduction == "sum":
        return 1.0
    count = int((targets != ignore_index).sum())
    return 1.0 / count if count else float("nan")


def default_chunk(classes, itemsize):
    """Rows whose logits fill about 64 MB, a multiple of 16: with fewer the weight is read too often (16 MB: 1.5 times the time)."""
    return max(16, (64 << 20) // max(1, classes * itemsize) // 16 * 16)


def row_gradient(g, targets, ignore_index, logits):
    """g as one number per row in the logits' dtype, from a number or an array; 0 for ignored rows."""
    g = np.asarray(g, logits.dtype)
    if g.ndim and g.shape != targets.shape:
        raise ValueError(f"g: expected one number, or one per row with shape {targets.shape}, got {g.shape}")
    return np.where(targets != ignore_index, g, logits.dtype.type(0))


def _classes(logits, targets, ignore_index, label_smoothing):
    check.rows("logits", logits)
    check.integers("targets", targets)
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets: expected shape {logits.shape[:-1]}, one per row of logits {logits.shape}, got {targets.shape}")
    check.index_range("targets", targets, logits.shape[-1], ignore_index)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing: expected a number in [0, 1], got {label_smoothing}")


def _linear(hidden, weight, targets, bias, reduction, chunk_rows):
    check.rows("hidden", hidden)
    check.same_dtype("weight", check.float_array("weight", weight), hidden)
    if weight.ndim != 2 or weight.shape[1] != hidden.shape[-1]:
        raise ValueError(f"weight: expected shape (V, {hidden.shape[-1]}) to match hidden {hidden.shape}, got {weight.shape}")
    check.vector("bias", bias, hidden, weight.shape[0])
    check.integers("targets", targets)
    if targets.shape != hidden.shape[:-1]:
        raise ValueError(f"targets: expected shape {hidden.shape[:-1]}, one per row of hidden, got {targets.shape}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
    if chunk_rows is not None and chunk_rows < 1:
        raise ValueError(f"chunk_rows: expected a count from 1, or None for the usual one, got {chunk_rows}")
