"""PyTorch's neural functions (torch.nn.functional, the part a transformer library has) in terms of ours."""

# ruff: noqa: E501
from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm import functional as F

from .names import Unsupported, renamed


def softmax(f: Any) -> Any:
    def adapter(x: Any, dim: Any = None, *_: Any, dtype: Any = None, **__: Any) -> Any:
        if dtype is not None and np.dtype(dtype) != np.float64:
            raise Unsupported("dtype")
        return f(x, axis=dim if x.ndim else None) if x.ndim else f(tg.reshape(x, 1), axis=0).reshape(())

    return adapter


def scaled_dot_product_attention(q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, **kw: Any) -> Any:
    if dropout_p:
        raise Unsupported("random dropout")
    return F.scaled_dot_product_attention(q, k, v, attn_mask, 0.0, **kw)


def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if training and 0 < p < 1:
        raise Unsupported("random")
    return F.dropout(x, p, training)


def pad(x: Any, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    return F.pad(x, tuple(pad), mode, 0.0 if value is None else value)


def embedding(weight: Any, index: Any, padding_idx: Any = None, max_norm: Any = None, **options: Any) -> Any:
    if max_norm is not None or options.get("scale_grad_by_freq"):
        raise Unsupported("max_norm, scale_grad_by_freq")
    return F.embedding(index, weight, padding_idx)


def loss(f: Any) -> Any:
    """size_average and reduce are the old names of reduction."""

    def adapter(*args: Any, size_average: Any = None, reduce: Any = None, **kwargs: Any) -> Any:
        if size_average is not None or reduce is not None:
            raise Unsupported("size_average, reduce")
        return f(*args, **kwargs)

    return adapter


def cosine_similarity(a: Any, b: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    if not a.ndim and not b.ndim:
        return F.cosine_similarity(tg.reshape(a, 1), tg.reshape(b, 1), axis=dim, eps=eps)
    return F.cosine_similarity(a, b, axis=dim, eps=eps)


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    return F.linear(x, weight, bias)


TABLE = {
    "softmax": softmax(F.softmax), "softmax.with_dtype": softmax(F.softmax), "log_softmax": softmax(F.log_softmax),
    "log_softmax.with_dtype": softmax(F.log_softmax), "nn.functional.softmin": softmax(F.softmin),
    "nn.functional.softmin.with_dtype": softmax(F.softmin),
    "nn.functional.scaled_dot_product_attention": scaled_dot_product_attention, "nn.functional.linear": linear,
    "nn.functional.bilinear": F.bilinear, "nn.functional.embedding": embedding, "nn.functional.dropout": dropout,
    "nn.functional.layer_norm": F.layer_norm, "nn.functional.rms_norm": F.rms_norm, "nn.functional.group_norm": F.group_norm,
    "nn.functional.normalize": renamed(F.normalize), "nn.functional.cosine_similarity": cosine_similarity,
    "nn.functional.pairwise_distance": F.pairwise_distance,
    "nn.functional.pad.constant": pad, "nn.functional.pad.reflect": pad, "nn.functional.pad.replicate": pad,
    "nn.functional.pad.replicate_negative": pad, "nn.functional.pad.circular": pad, "constant_pad_nd": lambda x, pad, value=0: F.pad(x, tuple(pad), "constant", value),
    "nn.functional.cross_entropy": loss(F.cross_entropy), "nn.functional.nll_loss": loss(F.nll_loss),
    "nn.functional.mse_loss": loss(F.mse_loss), "nn.functional.l1_loss": loss(F.l1_loss),
    "nn.functional.smooth_l1_loss": loss(F.smooth_l1_loss), "nn.functional.huber_loss": loss(F.huber_loss),
    "nn.functional.kl_div": loss(F.kl_div), "nn.functional.binary_cross_entropy": loss(F.binary_cross_entropy),
    "nn.functional.binary_cross_entropy_with_logits": loss(F.binary_cross_entropy_with_logits),
    "nn.functional.gaussian_nll_loss": loss(F.gaussian_nll_loss), "nn.functional.poisson_nll_loss": loss(F.poisson_nll_loss),
    "nn.functional.hinge_embedding_loss": loss(F.hinge_embedding_loss),
    "nn.functional.margin_ranking_loss": loss(F.margin_ranking_loss),
    "nn.functional.cosine_embedding_loss": loss(F.cosine_embedding_loss),
    "nn.functional.triplet_margin_loss": loss(F.triplet_margin_loss),
    "nn.functional.soft_margin_loss": loss(F.soft_margin_loss),
}  # fmt: skip
