"""Losses under PyTorch's names. `reduction` is "mean", "sum" or "none". Part of `functional`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from . import ops_neural as fused
from .functional_activation import log_softmax
from .ops_arithmetic import clip, where, xlogy
from .ops_common import derived, plain_number, value
from .ops_join import broadcast_arrays
from .ops_linalg import vector_norm
from .ops_shape import as_tensor, tensors
from .tensor import Tensor

MISSING = -100  # PyTorch's label for "do not count this place"


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction != "none":
        raise ValueError(f"reduction: expected 'mean', 'sum' or 'none', got {reduction!r}")
    return losses


def _beside(x: Tensor, other: Any) -> Tensor:
    """`other` as a Tensor; whole numbers take x's dtype, as in PyTorch, where NumPy would go on in float64."""
    y = as_tensor(other, x)
    return y.astype(x.dtype) if x.dtype.kind == "f" and y.dtype.kind in "biu" else y


def _weighed(losses: Tensor, weight: Any) -> Tensor:
    return losses if weight is None else losses * _beside(losses, weight)


def _pair(who: str, input: Any, target: Any, strict: bool = False) -> tuple[Tensor, Tensor]:
    """Both as Tensors. (N, 1) beside (N,) would compare each with each: refused if `strict`, else a warning, as in PyTorch."""
    x = as_tensor(input, target)
    y = _beside(x, target)
    if x.shape != y.shape:
        try:
            both = np.broadcast_shapes(x.shape, y.shape)
        except ValueError as error:
            raise ValueError(f"{who}: input {x.shape} and target {y.shape} do not broadcast") from error
        if both not in (x.shape, y.shape):
            said = f"{who}: input {x.shape} and target {y.shape} make {both}, each with each; reshape one to the other's shape"
            if strict:
                raise ValueError(said)
            warnings.warn(said, stacklevel=3)
    return x, y


# -- classes -----------------------------------------------------------------------------------------------------------


def _classes_last(x: Tensor, who: str) -> Tensor:
    """(C,), (N, C) or (N, C, d₁, ...) with the classes moved to the end."""
    if x.ndim == 0:
        raise ValueError(f"{who}: expected logits of shape (C,), (N, C) or (N, C, d1, ...), got a scalar")
    return np.moveaxis(x, 1, -1) if x.ndim > 2 else x


def _labels(target: Any, shape: tuple[int, ...], who: str) -> np.ndarray:
    labels = np.asarray(value(target))
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{who}: class indices must be integers, got {labels.dtype}")
    if labels.shape != shape:
        hint = ""
        if len(shape) > 1 and labels.shape[:1] == shape[:1] and labels.ndim == len(shape):  # classes may be taken to stand last
            hint = "; classes are along axis 1, as in PyTorch: for logits (B, T, V) reshape them to (-1, V), the targets to (-1,)"
        raise ValueError(f"{who}: expected targets of shape {shape}, got {labels.shape}{hint}")
    return labels


def _class_weight(weight: Any, x: Tensor, who: str) -> Tensor:
    """The weights of the classes, which x has on its last axis."""
    weight, classes = _beside(x, weight), x.shape[-1]
    if weight.shape != (classes,):
        raise ValueError(f"{who}: expected one weight for each of {classes} classes, got shape {weight.shape}")
    return weight


def _mean_of(losses: Tensor, count: int) -> Tensor:
    """The sum over a Python number, which leaves the losses their dtype; NaN where nothing counts."""
    return losses.sum() * (1.0 / count if count else float("nan"))


def cross_entropy(
    input: Any, target: Any, weight: Any = None, ignore_index: int = MISSING, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """-log softmax(x)[target], averaged over the targets that are not `ignore_index`.

    input (C,), (N, C) or (N, C, d₁, ...); target integer classes without the axis C, or probabilities in input's shape.
    `weight` (C,) weighs classes, and the mean with them; `label_smoothing` ε mixes the target with the uniform one.
    """
    x = as_tensor(input)
    plain_number(label_smoothing, "cross_entropy: label_smoothing", "(1 - s) * loss - s * tg.log_softmax(x, axis=-1).mean()")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must lie in [0, 1], got {label_smoothing}")
    target = target if isinstance(target, Tensor) else np.asarray(target)
    if target.dtype.kind == "f":
        return _probability_cross_entropy(x, as_tensor(target), weight, reduction, label_smoothing)
    rows = _classes_last(x, "cross_entropy")
    labels = _labels(target, rows.shape[:-1], "cross_entropy")
    if weight is not None:
        return _weighed_cross_entropy(rows, labels, weight, ignore_index, reduction, label_smoothing)
    losses = fused.cross_entropy(rows, labels, ignore_index=ignore_index, label_smoothing=label_smoothing)
    if reduction != "mean":
        return _reduced(losses, reduction)
    return _mean_of(losses, int(np.count_nonzero(labels != ignore_index)))


def _probability_cross_entropy(x: Tensor, target: Tensor, weight: Any, reduction: str, smoothing: float) -> Tensor:
    if target.shape != x.shape:
        raise ValueError(f"cross_entropy: probabilities must have the logits' shape {x.shape}, got {target.shape}")
    x, target = _classes_last(x, "cross_entropy"), _classes_last(target, "cross_entropy")
    if smoothing:
        target = target * (1 - smoothing) + smoothing / x.shape[-1]
    terms = log_softmax(x) * target
    if weight is not None:
        terms = terms * _class_weight(weight, x, "cross_entropy")
    losses = -terms.sum(axis=-1)
    return _mean_of(losses, losses.size) if reduction == "mean" else _reduced(losses, reduction)


def _weighed_cross_entropy(
    x: Tensor, labels: np.ndarray, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    logp, weight = log_softmax(x), _class_weight(weight, x, "cross_entropy")
    losses, weights, counted = _picked(logp, labels, weight, ignore_index, "cross_entropy")
    if smoothing:
        smooth = np.where(counted, -(logp * weight).sum(axis=-1), 0)
        losses = (1 - smoothing) * losses + smoothing / x.shape[-1] * smooth
    return losses.sum() / weights.sum() if reduction == "mean" else _reduced(losses, reduction)


def _picked(
    logp: Tensor, labels: np.ndarray, weight: Tensor | None, ignore_index: int, who: str
) -> tuple[Tensor, Any, np.ndarray]:
    """(weighed losses, their weights, which count); one that does not count is 0 whatever stands in its row."""
    counted = labels != ignore_index
    safe = np.where(counted, labels, 0)
    if labels.size and (safe.min() < 0 or safe.max() >= logp.shape[-1]):
        raise IndexError(f"{who}: targets must lie in 0..{logp.shape[-1] - 1}, got {safe.min()}..{safe.max()}")
    weights = counted.astype(logp.dtype) if weight is None else np.where(counted, weight[safe], 0)
    picked = np.where(counted, np.take_along_axis(logp, safe[..., None], -1)[..., 0], 0)
    return -picked * weights, weights, counted


def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = MISSING, reduction: str = "mean") -> Tensor:
    """-x[target], x log-probabilities of shape (C,), (N, C) or (N, C, d₁, ...); the mean is weighed by `weight`."""
    rows = _classes_last(as_tensor(input), "nll_loss")
    labels = _labels(target, rows.shape[:-1], "nll_loss")
    class_weight = None if weight is None else _class_weight(weight, rows, "nll_loss")
    losses, weights, _ = _picked(rows, labels, class_weight, ignore_index, "nll_loss")
    return losses.sum() / weights.sum() if reduction == "mean" else _reduced(losses, reduction)


def linear_cross_entropy(
    hidden: Any, weight: Any, target: Any, bias: Any = None, ignore_index: int = MISSING, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """`cross_entropy(linear(hidden, weight, bias), target)` without all logits in memory; reduction "mean" or "sum"."""
    options = dict(reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing)
    return fused.linear_cross_entropy(hidden, weight, np.asarray(value(target)), bias, **options)


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """-(t log p + (1 - t) log(1 - p)), the logarithms not below -100, p in [0, 1]."""
    p, t = _pair("binary_cross_entropy", input, target, strict=True)
    if p.size and (p._data.min() < 0 or p._data.max() > 1):
        raise ValueError(
            f"binary_cross_entropy: input must lie in [0, 1], got {p._data.min()} to {p._data.max()}; for logits there is "
            "binary_cross_entropy_with_logits"
        )
    return _reduced(_weighed(fused.binary_cross_entropy(p, t), weight), reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """-(w t log σ(x) + (1 - t) log(1 - σ(x))), w = `pos_weight`."""
    x, t = _pair("binary_cross_entropy_with_logits", input, target, strict=True)
    positive = 1 if pos_weight is None else (_beside(x, pos_weight) - 1) * t + 1
    losses = (1 - t) * x + positive * fused.softplus(-x)
    return _reduced(_weighed(losses, weight), reduction)


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """t (log t - x), x log-probabilities and t probabilities (or their logarithms); "batchmean" divides by len(x)."""
    x, t = _pair("kl_div", input, target)
    losses = np.exp(t) * (t - x) if log_target else xlogy(t, t) - t * x
    if reduction == "batchmean":
        return losses.sum() / x.shape[0] if x.ndim else losses
    return _reduced(losses, reduction)


# -- distances ---------------------------------------------------------------------------------------------------------


def mse_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Tensor:
    """(x - t)²"""
    x, t = _pair("mse_loss", input, target)
    return _reduced(_weighed(np.square(x - t), weight), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Tensor:
    """|x - t|"""
    x, t = _pair("l1_loss", input, target)
    return _reduced(_weighed(np.absolute(x - t), weight), reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d² / 2β where |d| < β, else |d| - β/2; d = x - t"""
    x, t = _pair("smooth_l1_loss", input, target)
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(x, t, reduction)
    d = np.absolute(x - t)
    return _reduced(where(d < beta, np.square(x - t) / (2 * beta), d - beta / 2), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Tensor:
    """d² / 2 where |d| ≤ δ, else δ (|d| - δ/2); d = x - t"""
    x, t = _pair("huber_loss", input, target)
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    d = np.absolute(x - t)
    return _reduced(_weighed(where(d <= delta, np.square(x - t) / 2, delta * (d - delta / 2)), weight), reduction)


def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """log(1 + e^(-t x)), t = 1 or -1"""
    x, t = _pair("soft_margin_loss", input, target)
    return _reduced(fused.softplus(-t * x), reduction)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """x where t = 1, max(0, margin - x) where t = -1"""
    x, t = _pair("hinge_embedding_loss", input, target)
    far = clip(margin - x, 0)
    return _reduced(np.where(t != 1, far, 0) + np.where(t != -1, x, 0), reduction)


def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """max(0, -t (x₁ - x₂) + margin)"""
    difference = as_tensor(input1, input2) - input2
    return _reduced(clip(-_beside(difference, target) * difference + margin, 0), reduction)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """½ (log v + (x - t)² / v), v = max(var, eps) (without a gradient at eps); `full` adds ½ log 2π"""
    x, t = _pair("gaussian_nll_loss", input, target)
    variance = _beside(x, var)
    if variance.ndim == x.ndim - 1 and variance.shape == x.shape[:-1]:
        variance = variance.reshape((*variance.shape, 1))
    if variance.size and variance._data.min() < 0:
        raise ValueError(f"gaussian_nll_loss: var must not be negative, got {variance._data.min()}")
    variance = variance + (np.maximum(variance._data, eps) - variance._data)
    losses = 0.5 * (np.log(variance) + np.square(x - t) / variance)
    return _reduced(losses + 0.5 * float(np.log(2 * np.pi)) if full else losses, reduction)


def poisson_nll_loss(
    input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
) -> Tensor:
    """eˣ - t x, or x - t log(x + eps) if the input is no logarithm; `full` adds Stirling's log t!"""
    x, t = _pair("poisson_nll_loss", input, target)
    losses = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    if full:
        safe = np.where(t > 1, t, 1)
        losses = losses + np.where(t > 1, t * np.log(safe) - t + 0.5 * np.log(2 * np.pi * safe), 0)
    return _reduced(losses, reduction)


# -- vectors -----------------------------------------------------------------------------------------------------------


def normalize(input: Any, p: float = 2.0, axis: int = 1, eps: float = 1e-12) -> Tensor:
    """y = x / max(‖x‖ₚ, eps)"""
    x = as_tensor(input)
    return x / clip(vector_norm(x, p, axis, keepdims=True), eps)


@derived()
def cosine_similarity(x1: Any, x2: Any, axis: int = 1, eps: float = 1e-8) -> Tensor:
    """y = x₁·x₂ / (max(‖x₁‖, eps) max(‖x₂‖, eps))"""
    a, b = broadcast_arrays(*tensors((x1, x2)))
    return (normalize(a, 2, axis, eps) * normalize(b, 2, axis, eps)).sum(axis=axis)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """y = ‖x₁ - x₂ + eps‖ₚ along the last axis"""
    return vector_norm(as_tensor(x1, x2) - x2 + eps, p, -1, keepdims=keepdim)


def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """1 - cos where t = 1, max(0, cos - margin) where t = -1"""
    (a, b), t = tensors((input1, input2)), as_tensor(target)
    tiny = 1e-12
    cos = (a * b).sum(axis=-1) / np.sqrt((np.square(a).sum(axis=-1) + tiny) * (np.square(b).sum(axis=-1) + tiny))
    return _reduced(np.where(t == 1, 1 - cos, 0) + np.where(t == -1, clip(cos - margin, 0), 0), reduction)


def triplet_margin_loss(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """max(0, d(anchor, positive) - d(anchor, negative) + margin); `swap` takes the nearer of anchor and positive"""
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = np.minimum(far, pairwise_distance(positive, negative, p, eps))
    return _reduced(clip(near - far + margin, 0), reduction)


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cosine_similarity",
    "cross_entropy", "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss",
    "linear_cross_entropy", "margin_ranking_loss", "mse_loss", "nll_loss", "normalize", "pairwise_distance",
    "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
]  # fmt: skip
