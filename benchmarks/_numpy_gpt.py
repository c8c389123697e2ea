"""GPT-2's loss in plain NumPy, for libraries that differentiate NumPy code: HIPS autograd and MyGrad.

Weights have Hugging Face's names and its (in, out) layout. AdamW is NumPy, in place.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

Weights = dict[str, Any]


def gpt_loss(xp: Any, w: Weights, ids: np.ndarray, heads: int, layers: int) -> Any:
    """Mean cross-entropy of the next token; xp is the library's NumPy."""
    B, T = ids.shape
    D = w["wte.weight"].shape[1]
    hidden = np.triu(np.full((T, T), -np.inf, np.float32), 1)
    x = w["wte.weight"][ids] + w["wpe.weight"][:T]
    for i in range(layers):
        p = f"h.{i}."
        q, k, v = split_heads(xp, affine(xp, norm(xp, x, w, p + "ln_1"), w, p + "attn.c_attn"), B, T, D, heads)
        scores = xp.matmul(q, xp.swapaxes(k, -1, -2)) * np.float32((D // heads) ** -0.5) + hidden
        e = xp.exp(scores - np.max(np.asarray(values(scores)), axis=-1, keepdims=True))
        y = xp.matmul(e / xp.sum(e, axis=-1, keepdims=True), v)
        y = xp.reshape(xp.swapaxes(y, 1, 2), (B, T, D))
        x = x + affine(xp, y, w, p + "attn.c_proj")
        h = affine(xp, norm(xp, x, w, p + "ln_2"), w, p + "mlp.c_fc")
        h = np.float32(0.5) * h * (1 + xp.tanh(np.float32((2 / np.pi) ** 0.5) * (h + np.float32(0.044715) * h * h * h)))
        x = x + affine(xp, h, w, p + "mlp.c_proj")
    x = xp.reshape(norm(xp, x, w, "ln_f")[:, :-1], (B * (T - 1), D))
    logits = xp.matmul(x, xp.transpose(w["wte.weight"]))
    top = np.max(np.asarray(values(logits)), axis=-1, keepdims=True)
    log_total = xp.log(xp.sum(xp.exp(logits - top), axis=-1)) + top[:, 0]
    return xp.mean(log_total - logits[np.arange(B * (T - 1)), ids[:, 1:].reshape(-1)])


def values(x: Any) -> Any:
    """The array in a library's box: `_value` in HIPS autograd (nested while it traces), `data` in MyGrad."""
    while hasattr(x, "_value"):
        x = x._value
    return x if isinstance(x, np.ndarray) else x.data


def affine(xp: Any, x: Any, w: Weights, name: str) -> Any:
    return xp.matmul(x, w[name + ".weight"]) + w[name + ".bias"]


def norm(xp: Any, x: Any, w: Weights, name: str) -> Any:
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    variance = xp.mean(centred * centred, axis=-1, keepdims=True)
    return centred / xp.sqrt(variance + np.float32(1e-5)) * w[name + ".weight"] + w[name + ".bias"]


def split_heads(xp: Any, qkv: Any, B: int, T: int, D: int, heads: int) -> list[Any]:
    """(B, T, 3 D) -> three of (B, H, T, K)"""
    parts = [qkv[:, :, i * D : (i + 1) * D] for i in range(3)]
    return [xp.swapaxes(xp.reshape(part, (B, T, heads, D // heads)), 1, 2) for part in parts]


class AdamW:
    """p ← p (1 - lr λ) - lr m̂ / (√v̂ + ε), after clipping all gradients to a common norm."""

    def __init__(self, weights: dict[str, np.ndarray], rate: float, decay: float, clip: float):
        self.weights, self.rate, self.decay, self.clip, self.steps = weights, rate, decay, clip, 0
        self.m = {k: np.zeros_like(v) for k, v in weights.items()}
        self.v = {k: np.zeros_like(v) for k, v in weights.items()}

    def step(self, grads: dict[str, np.ndarray]) -> float:
        norm = float(np.sqrt(sum(float(np.vdot(g, g)) for g in grads.values())))
        scale, self.steps = min(1.0, self.clip / (norm + 1e-6)), self.steps + 1
        for name, p in self.weights.items():
            g, m, v = grads[name] * np.float32(scale), self.m[name], self.v[name]
            m += np.float32(0.1) * (g - m)
            v += np.float32(0.001) * (g * g - v)
            root = np.sqrt(v / (1 - 0.999**self.steps)) + np.float32(1e-8)
            p *= np.float32(1 - self.rate * (self.decay if p.ndim >= 2 else 0.0))
            p -= np.float32(self.rate / (1 - 0.9**self.steps)) * m / root
        return norm


def read(folder: Path) -> tuple[dict[str, np.ndarray], int, int]:
    c = json.loads((folder / "config.json").read_text("utf-8"))
    saved = {k.removeprefix("transformer."): v for k, v in load_file(folder / "model.safetensors").items()}
    wanted = [k for k in saved if not k.endswith((".attn.bias", "masked_bias", "lm_head.weight"))]
    return {k: saved[k].copy() for k in wanted}, c["n_head"], c["n_layer"]


def autograd_step(folder: Path, ids: np.ndarray, rate: float, decay: float, clip: float) -> Callable[[], Any]:
    import autograd.numpy as anp
    from autograd import value_and_grad

    weights, heads, layers = read(folder)
    optimizer = AdamW(weights, rate, decay, clip)
    run = value_and_grad(lambda w: gpt_loss(anp, w, ids, heads, layers))

    def step() -> tuple[float, float]:
        loss, grads = run(weights)
        return float(loss), optimizer.step(grads)

    return step


def mygrad_step(folder: Path, ids: np.ndarray, rate: float, decay: float, clip: float) -> Callable[[], Any]:
    import mygrad as mg

    weights, heads, layers = read(folder)
    optimizer = AdamW(weights, rate, decay, clip)

    def step() -> tuple[float, float]:
        boxed = {k: mg.tensor(v, copy=False) for k, v in weights.items()}
        loss = gpt_loss(mg, boxed, ids, heads, layers)
        loss.backward()
        grads = {k: np.asarray(t.grad) for k, t in boxed.items()}
        value = loss.item()
        loss.null_gradients()
        return value, optimizer.step(grads)

    return step
