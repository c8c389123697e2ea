"""Clipping by the global norm (Pascanu et al. 2013)."""

import numpy as np

import kernels

from ..autograd import Tensor
from .optimizer import as_list, clip_scale


def clip_grad_norm_(parameters, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> np.float64:
    """Scales all gradients by min(1, max_norm / (norm + 1e-6)) and returns the norm before that, as PyTorch does.

    The norm is (Σ |g|^norm_type)^(1/norm_type) over all of them, the largest |g| for infinity. RuntimeError with
    `error_if_nonfinite` where it is NaN or infinite; else a NaN makes every gradient NaN, an infinity itself NaN and the others 0.
    The gradients are replaced, not overwritten: two parameters may share one gradient array.
    """
    owners = [p for p in {id(p): p for p in as_list(parameters)}.values() if p.grad is not None]
    grads = [p.grad._data for p in owners]
    norm = np.float64(total_norm(grads, norm_type))
    if error_if_nonfinite and not np.isfinite(norm):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {norm}; a gradient has a NaN or an infinity")
    scale = clip_scale(norm, max_norm)
    if scale != 1.0:
        for p, g in zip(owners, grads):
            p.grad = Tensor(g * g.dtype.type(scale))
    return norm


def total_norm(grads, norm_type: float) -> float:
    if not grads:
        return 0.0
    if norm_type == 2.0:
        return kernels.grad_norm(grads)
    if not norm_type > 0:
        raise ValueError(f"norm_type: expected a number above 0, or infinity for the largest gradient; got {norm_type}")
    if norm_type == np.inf:
        return np.max([np.abs(g).max(initial=0.0) for g in grads])  # not Python's max, which loses a NaN
    return sum(float((np.abs(g).astype(np.float64) ** norm_type).sum()) for g in grads) ** (1.0 / norm_type)
