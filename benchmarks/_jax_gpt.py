"""GPT-2's training step in JAX, compiled as one program: loss, gradients, clipping, AdamW, with the old arrays given back.

Weights have Hugging Face's names and its (in, out) layout.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _numpy_gpt import read

Weights = dict[str, jax.Array]
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def affine(x: jax.Array, w: Weights, name: str) -> jax.Array:
    return x @ w[name + ".weight"] + w[name + ".bias"]


def norm(x: jax.Array, w: Weights, name: str) -> jax.Array:
    mean, variance = jnp.mean(x, -1, keepdims=True), jnp.var(x, -1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * w[name + ".weight"] + w[name + ".bias"]


def gpt_loss(w: Weights, ids: jax.Array, heads: int, layers: int) -> jax.Array:
    """Mean cross-entropy of the next token."""
    B, T = ids.shape
    x = w["wte.weight"][ids] + w["wpe.weight"][:T]
    for i in range(layers):
        p = f"h.{i}."
        q, k, v = jnp.split(affine(norm(x, w, p + "ln_1"), w, p + "attn.c_attn"), 3, axis=-1)
        split = lambda y: y.reshape(B, T, heads, -1)
        y = jax.nn.dot_product_attention(split(q), split(k), split(v), is_causal=True)  # (B, T, H, K)
        x = x + affine(y.reshape(B, T, -1), w, p + "attn.c_proj")
        x = x + affine(jax.nn.gelu(affine(norm(x, w, p + "ln_2"), w, p + "mlp.c_fc"), approximate=True), w, p + "mlp.c_proj")
    logits = norm(x, w, "ln_f")[:, :-1] @ w["wte.weight"].T
    judged = jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, 1:, None], axis=-1)
    return -jnp.mean(judged)


def adamw(w: Weights, grads: Weights, m: Weights, v: Weights, count: jax.Array, rate: float, decay: float, clip: float) -> Any:
    """(norm before clipping, new weights, new m, new v)."""
    length = jnp.sqrt(sum(jnp.sum(g * g) for g in grads.values()))
    scale = jnp.minimum(1.0, clip / (length + 1e-6))
    new_w, new_m, new_v = {}, {}, {}
    for name, p in w.items():
        g = grads[name] * scale
        new_m[name] = BETA1 * m[name] + (1 - BETA1) * g
        new_v[name] = BETA2 * v[name] + (1 - BETA2) * g * g
        move = new_m[name] / (1 - BETA1**count) / (jnp.sqrt(new_v[name] / (1 - BETA2**count)) + EPS)
        new_w[name] = p * (1 - rate * (decay if p.ndim >= 2 else 0.0)) - rate * move
    return length, new_w, new_m, new_v


def jax_step(folder: Path, ids: np.ndarray, rate: float, decay: float, clip: float) -> Callable[[], Any]:
    saved, heads, layers = read(folder)
    weights = {k: jnp.asarray(v) for k, v in saved.items()}
    zeros = lambda: {k: jnp.zeros_like(v) for k, v in weights.items()}
    tokens = jnp.asarray(ids)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def run(w: Weights, m: Weights, v: Weights, count: jax.Array) -> Any:
        loss, grads = jax.value_and_grad(gpt_loss)(w, tokens, heads, layers)
        return loss, *adamw(w, grads, m, v, count, rate, decay, clip)

    state = [weights, zeros(), zeros(), 0]

    def step() -> tuple[float, float]:
        w, m, v, done = state
        loss, length, *new = run(w, m, v, jnp.float32(done + 1))
        state[:] = [*new, done + 1]
        return float(loss), float(jax.block_until_ready((length, new))[0])

    return step
