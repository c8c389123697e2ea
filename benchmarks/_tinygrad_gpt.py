"""GPT-2's training step in tinygrad on the CPU, captured by TinyJit: loss, gradients, clipping, its own AdamW.

Weights have Hugging Face's names and its (in, out) layout. tinygrad compiles with clang, which must be on PATH.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _numpy_gpt import read

from tinygrad_llm.bench import Skip

os.environ["DEV"] = "CPU"  # read when tinygrad is imported
if not shutil.which(os.environ.get("CC", "clang")):
    raise Skip("tinygrad compiles for the CPU with clang, which is not on PATH")

from tinygrad import Context, Tensor, TinyJit, nn  # noqa: E402

Weights = dict[str, Tensor]


def affine(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[name + ".weight"] + w[name + ".bias"]


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    return x.layernorm(eps=1e-5) * w[name + ".weight"] + w[name + ".bias"]


def gpt_loss(w: Weights, ids: Tensor, heads: int, layers: int) -> Tensor:
    """Mean cross-entropy of the next token."""
    B, T = ids.shape
    x = w["wte.weight"][ids] + w["wpe.weight"][:T]
    for i in range(layers):
        p = f"h.{i}."
        split = lambda y: y.reshape(B, T, heads, -1).transpose(1, 2)  # (B, H, T, K)
        q, k, v = map(split, affine(norm(x, w, p + "ln_1"), w, p + "attn.c_attn").chunk(3, dim=-1))
        y = q.scaled_dot_product_attention(k, v, is_causal=True).transpose(1, 2).reshape(B, T, -1)
        x = x + affine(y, w, p + "attn.c_proj")
        x = x + affine(affine(norm(x, w, p + "ln_2"), w, p + "mlp.c_fc").gelu(), w, p + "mlp.c_proj")
    logits = norm(x, w, "ln_f")[:, :-1] @ w["wte.weight"].T
    return logits.reshape(B * (T - 1), -1).sparse_categorical_crossentropy(ids[:, 1:].reshape(-1))


def tinygrad_step(folder: Path, ids: np.ndarray, rate: float, decay: float, clip: float) -> Callable[[], Any]:
    saved, heads, layers = read(folder)
    weights = {k: Tensor(v).realize() for k, v in saved.items()}
    tokens = Tensor(ids.astype(np.int32)).realize()
    matrices = [p for p in weights.values() if p.ndim >= 2]
    others = [p for p in weights.values() if p.ndim < 2]
    groups = (nn.optim.AdamW(matrices, lr=rate, weight_decay=decay), nn.optim.AdamW(others, lr=rate, weight_decay=0.0))
    optimizer = nn.optim.OptimizerGroup(*groups)

    @TinyJit
    def run() -> tuple[Tensor, Tensor]:
        optimizer.zero_grad()
        loss = gpt_loss(weights, tokens, heads, layers).backward()
        length = sum((p.grad.square().sum() for p in weights.values()), Tensor(0.0)).sqrt()
        scale = (clip / (length + 1e-6)).minimum(1.0)
        for p in weights.values():
            p.grad = p.grad * scale
        return loss.realize(length, *optimizer.schedule_step()), length

    def step() -> tuple[float, float]:
        with Context(TRAINING=1):
            loss, length = run()
        return loss.item(), length.item()

    return step
