"""Deliberately wrong backwards, each with what the checker must call it. One line, one mistake that people make."""

# ruff: noqa: E501  (a table: one pair, one line)
from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .right_rules import (
    Pair,
    first_max_backward,
    gelu,
    gelu_slope,
    layer_norm,
    layer_norm_backward,
    logsumexp,
    normal,
    softmax,
    softmax_backward,
    sort_backward,
    unbroadcast,
)

X, Y, ROW = normal(3, 4), normal(3, 4), normal(4)
POSITIVE = np.abs(X) + 0.3
A, B = normal(4, 5), normal(5, 3)
LONG = normal(1000)
BUFFER = np.empty((3, 4))
TIES = np.array([[1.0, 3, 3, 0], [2, 2, 2, 2]])
calls = itertools.count()
cache: dict[str, Any] = {}
noise = np.random.default_rng()


def spoil(d: np.ndarray, index: Any, factor: float) -> np.ndarray:
    d = np.array(d)
    d[index] *= factor
    return d


def in_place(target: np.ndarray, result: Any) -> Any:
    target += 1.0
    return result


def overwrite_first(x: np.ndarray) -> np.ndarray:
    y = np.sin(x)
    x.flat[0] = 0.0
    return y


def remembers_forward(x: np.ndarray) -> np.ndarray:
    cache["x"] = x
    return np.sin(x)


def first_gradient(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    key = str(g.tobytes())
    return cache.setdefault(key, g * np.cos(x))


def bumped_ln(g: np.ndarray, x: np.ndarray, w: np.ndarray, b: np.ndarray, which: int) -> tuple[np.ndarray, ...]:
    grads = list(layer_norm_backward(g, x, w, b))
    c = x - x.mean(-1, keepdims=True)
    r = 1 / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)
    h = g * w
    if which == 0:  # the projection on the normalised row forgotten
        grads[0] = r * (h - h.mean(-1, keepdims=True))
    elif which == 1:  # gradient of the weight without the normalisation
        grads[1] = unbroadcast(g * c, w.shape)
    else:  # variance treated as a constant of the row, mean forgotten
        grads[0] = r * (h - c * r * (h * c * r).mean(-1, keepdims=True))
    return tuple(grads)


def tied_max(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    return g[..., None] * (x == x.max(-1, keepdims=True))


def w(name: str, forward: Any, backward: Any, *inputs: Any, kind: str = "mismatch", input: int = 0) -> Pair:
    return Pair(name, forward, backward, inputs, kind, input)


WRONG = [
    # signs and factors
    w("sign", np.sin, lambda g, x: -g * np.cos(x), X),
    w("sign of the second input", np.subtract, lambda g, a, b: (g, g), X, Y, input=1),
    w("2.001 for 2", lambda x: x * x, lambda g, x: g * 2.001 * x, X),
    w("2.0001 for 2", lambda x: x * x, lambda g, x: g * 2.0001 * x, X),
    w("1.0005 of one input", np.multiply, lambda g, a, b: (g * b, g * a * 1.0005), X, Y, input=1),
    w("factor 2 forgotten", lambda x: x * x, lambda g, x: g * x, X),
    w("zero", np.tanh, lambda g, x: 0 * g, X),
    w("not multiplied by g", np.sin, lambda g, x: np.cos(x), X, kind="nonlinear"),
    w("squared g", lambda x: 3 * x, lambda g, x: 3 * g * g, X),
    w("clipped at 50", lambda x: x @ B, lambda g, x: np.clip(g @ B.T, -50, 50), 0.1 * A, kind="nonlinear"),
    w("small g dropped", np.sin, lambda g, x: g * (abs(g) > 1e-3) * np.cos(x), X, kind="nonlinear"),
    w("factor 1.1 for positive g of one output", lambda x: x.sum(), lambda g, x: g * (1.1 if g > 0 else 1) * np.ones_like(x), X, kind="nonlinear"),
    w("factor 1.1 where all g are one number", np.sin, lambda g, x: g * np.cos(x) * (1.1 if g.min() == g.max() else 1), X, kind="nonlinear"),
    w("factor 1.1 where a g is zero, many outputs", np.sin, lambda g, x: g * np.cos(x) * (1.1 if (g == 0).any() else 1), LONG, kind="nonlinear"),
    w("absolute g", lambda x: 3 * x, lambda g, x: 3 * abs(g), X),
    w("tiny scale, factor 2", lambda x: 1e-9 * x**2, lambda g, x: g * 4e-9 * x, X),
    w("huge scale, factor 1.001", lambda x: 1e9 * np.sin(x), lambda g, x: g * 1.001e9 * np.cos(x), X),
    w("value near 1e6, factor 1.001", lambda x: np.sin(x) + 1e6, lambda g, x: g * 1.001 * np.cos(x), X),
    w("degrees for radians", np.sin, lambda g, x: g * np.cos(x) * np.pi / 180, X),
    w("off by a constant 1e-4", np.exp, lambda g, x: g * (np.exp(x) + 1e-4), X),
    # wrong mathematics
    w("cos for -sin", np.cos, lambda g, x: g * np.sin(x), X),
    w("derivative of log10 for log", np.log, lambda g, x: g / (x * np.log(10)), POSITIVE),
    w("power: exponent not lowered", lambda x: x**3, lambda g, x: g * 3 * x**3, X),
    w("power: log of the exponent", np.power, lambda g, a, b: (g * b * a ** (b - 1), g * a**b * np.log(abs(b))), POSITIVE, Y, input=1),
    w("quotient rule without square", np.divide, lambda g, a, b: (g / b, -g * a / b), X, POSITIVE, input=1),
    w("tanh: square of x", np.tanh, lambda g, x: g * (1 - x * x), X),
    w("tanh: not squared", np.tanh, lambda g, x: g * (1 - np.tanh(x)), X),
    w("sigmoid: its own value", lambda x: 1 / (1 + np.exp(-x)), lambda g, x: g / (1 + np.exp(-x)), X),
    w("gelu: tanh form's slope for erf", gelu, lambda g, x: g * (gelu_slope(x) + 2e-4 * np.sin(3 * x)), X),
    w("softmax: diagonal only", softmax, lambda g, x: g * softmax(x) * (1 - softmax(x)), X),
    w("softmax: sum over the wrong axis", softmax, lambda g, x: softmax(x) * (g - (g * softmax(x)).sum(0)), X),
    w("softmax: sum without g", softmax, lambda g, x: softmax(x) * (g - softmax(x).sum(-1, keepdims=True)), X, kind="nonlinear"),
    w("logsumexp: not normalised", logsumexp, lambda g, x: g[:, None] * np.exp(x), X),
    w("layer norm: projection forgotten", layer_norm, lambda g, *a: bumped_ln(g, *a, 0), X, ROW, ROW * 2),
    w("layer norm: weight without norm", layer_norm, lambda g, *a: bumped_ln(g, *a, 1), X, ROW, ROW * 2, input=1),
    w("layer norm: mean forgotten", layer_norm, lambda g, *a: bumped_ln(g, *a, 2), X, ROW, ROW * 2),
    w("variance: ddof mixed up", lambda x: x.var(), lambda g, x: g * 2 * (x - x.mean()) / (x.size - 1), X),
    w("variance: mean forgotten", lambda x: x.var(), lambda g, x: g * 2 * x / x.size, X),
    w("norm: squared norm", np.linalg.norm, lambda g, x: g * x / (x**2).sum(), X),
    w("mean: divided by the wrong axis", lambda x: x.mean(-1), lambda g, x: g[:, None] * np.ones_like(x) / x.shape[0], X),
    w("product: not divided by x", lambda x: x.prod(), lambda g, x: g * x.prod() * np.ones_like(x), X),
    w("detached factor", lambda x: x * np.exp(x), lambda g, x: g * np.exp(x), X),
    # axes and layout
    w("matmul: not transposed", np.matmul, lambda g, a, b: (g @ b, g @ a), normal(4, 4), normal(4, 4)),
    w("matmul: transposed result", np.matmul, lambda g, a, b: ((g @ b.T).T, a.T @ g), normal(4, 4), normal(4, 4)),
    w("matmul: operands swapped", np.matmul, lambda g, a, b: (g @ b.T, g @ a.T), normal(4, 4), normal(4, 4), input=1),
    w("transpose forgotten", lambda x: x.T.copy(), lambda g, x: g.reshape(x.shape), X),
    w("sum spread over the wrong axis", lambda x: x.sum(0), lambda g, x: g[:, None] * np.ones_like(x), normal(4, 4)),
    w("reversal forgotten", lambda x: x[::-1] * 2, lambda g, x: g * 2, LONG[:10]),
    w("cumulative sum the same way", np.cumsum, lambda g, x: np.cumsum(g), LONG[:10]),
    w("roll the same way", lambda x: np.roll(x, 1), lambda g, x: np.roll(g, 1), LONG[:10]),
    w("concatenation: parts swapped", lambda a, b: np.concatenate([a, b]), lambda g, a, b: (g[3:], g[:3]), X, Y),
    w("repeated index overwritten", lambda x: x[[1, 1, 2]], lambda g, x: _assigned(g, x), X),
    w("sort: not sent back", lambda x: np.sort(x, -1), lambda g, x: g, X),
    w("sort: inverse permutation", lambda x: np.sort(x, -1), lambda g, x: np.take_along_axis(g, np.argsort(x, -1), -1), X),
    # single elements
    w("one in a thousand, 1.0005", np.sin, lambda g, x: spoil(g * np.cos(x), 577, 1.0005), LONG),
    w("one in a thousand, zero", np.sin, lambda g, x: spoil(g * np.cos(x), 999, 0.0), LONG),
    w("one in three thousand, 1.0001 of a small one", np.sin, lambda g, x: spoil(g * np.cos(x), 1552, 1.0001), np.full(3000, 1.6)),
    w("one in a thousand of a sum", lambda x: np.sin(x).sum(), lambda g, x: spoil(g * np.cos(x), 0, 1.001), LONG),
    w("first row", np.exp, lambda g, x: spoil(g * np.exp(x), 0, 1.01), X),
    w("last element", np.exp, lambda g, x: spoil(g * np.exp(x), (-1, -1), -1.0), X),
    w("one entry of a weight", np.matmul, lambda g, a, b: (g @ b.T, spoil(a.T @ g, (2, 1), 1.002)), A, B, input=1),
    w("leaks to the neighbour", np.sin, lambda g, x: g * np.cos(x) + 1e-3 * np.roll(g, 1), X),
    # hidden where all numbers of an input are alike
    w("square of zeros, factor 5", np.square, lambda g, x: g * 5 * x, np.zeros(4)),
    w("cube of ones, not squared", lambda x: x**3, lambda g, x: g * 3 * x, np.ones(4)),
    w("layer norm: weight of ones forgotten", layer_norm, lambda g, x, w, b: layer_norm_backward(g, x, 1.0 + 0 * w, b), X, np.ones(4), np.zeros(4)),
    w("softmax of zeros: mean for the weighted sum", softmax, lambda g, x: softmax(x) * (g - g.mean(-1, keepdims=True)), np.zeros((2, 4))),
    w("tanh forgotten, weight of zeros", lambda x, w: np.tanh(x @ w), lambda g, x, w: (g @ w.T, x.T @ g), A, np.zeros((5, 3))),
    w("scale of one forgotten", lambda s, x: s * x, lambda g, s, x: ((g * x).sum(), g), np.array(1.0), X, input=1),
    # only for some values
    w("wrong for negative", lambda x: x * x, lambda g, x: g * 2 * abs(x), X),
    w("wrong above 100", np.square, lambda g, x: g * np.where(x > 100, x, 2 * x), np.array([1.0, 50, 200])),
    w("wrong below 1e-3", np.square, lambda g, x: g * np.where(abs(x) < 1e-3, 0, 2 * x), np.array([1.0, 5e-4, 2])),
    w("wrong for exactly zero", np.exp, lambda g, x: g * np.where(x == 0, 0, np.exp(x)), np.array([1.0, 0, 2])),
    w("relu: slope 1 below zero too", lambda x: np.maximum(x, 0), lambda g, x: g, X),
    w("relu: step at 1", lambda x: np.maximum(x, 0), lambda g, x: g * (x > 1), X * 2),
    w("relu: 2 at zero", lambda x: np.maximum(x, 0), lambda g, x: g * np.where(x == 0, 2, x > 0), np.array([1.0, 0, -2])),
    w("abs: 1.5 at zero", np.abs, lambda g, x: g * np.where(x == 0, 1.5, np.sign(x)), np.array([1.0, 0, -2])),
    w("clip: passes outside", lambda x: np.clip(x, -1, 1), lambda g, x: g, X * 2),
    w("max: every tie the whole", lambda x: x.max(-1), tied_max, TIES),
    w("max: nothing at ties", lambda x: x.max(-1), lambda g, x: g[:, None] * (x >= np.sort(x, -1)[:, -2:-1] + 1e-9), TIES),
    w("max: the last but one", lambda x: x.max(-1), lambda g, x: first_max_backward(g, -x), X),
    w("max: every tie the whole, after twenty kinks", lambda x: np.append(np.maximum(x, 0), x.max()),
      lambda g, x: g[:-1] * (x > 0) + g[-1] * (x == x.max()), np.array([0.0] * 20 + [3, 3])),
    w("maximum: both at ties", np.maximum, lambda g, a, b: (g * (a >= b), g * (b >= a)), np.array([1.0, 2]), np.array([1.0, 5])),
    w("minimum for maximum", np.maximum, lambda g, a, b: (g * (a < b), g * (a >= b)), X, Y),
    w("where: condition reversed", lambda x: np.where(X > 0, x, 0), lambda g, x: g * (X <= 0), Y),
    w("dropout: not scaled", lambda x: x * (X > 0) / 0.5, lambda g, x: g * (X > 0), Y),
    # reported as themselves
    w("nan", np.sqrt, lambda g, x: g * 0.5 / np.sqrt(x - x), POSITIVE, kind="nan"),
    w("nan in one element", np.exp, lambda g, x: spoil(g * np.exp(x), (1, 1), np.nan), X, kind="nan"),
    w("infinity", np.exp, lambda g, x: spoil(g * np.exp(x), (2, 0), np.inf), X, kind="nan"),
    w("missing", np.multiply, lambda g, a, b: (g * b, None), X, Y, kind="missing", input=1),
    w("float32 at the end", np.sin, lambda g, x: (g * np.cos(x)).astype(np.float32).astype(float), X, kind="precision"),
    w("float32 in the function", lambda x: np.sin(x.astype(np.float32)).astype(float), lambda g, x: g * np.cos(x), X, kind="precision"),
    w("float32 kept for backward", np.tanh, lambda g, x: g * (1 - np.tanh(x.astype(np.float32)) ** 2), X, kind="precision"),
    w("float32 kept for a product", np.matmul, lambda g, a, b: (g @ b.T, a.astype(np.float32).T @ g), A, B, kind="precision", input=1),
    w("overwrites its input", np.exp, lambda g, x: in_place(x, g * np.exp(x)), X, kind="mutated"),
    w("overwrites the second input", np.multiply, lambda g, a, b: in_place(b, (g * b, g * a)), X, Y, kind="mutated", input=1),
    w("forward overwrites its input", overwrite_first, lambda g, x: g * np.cos(x), X, kind="mutated"),
    w("random noise", np.exp, lambda g, x: g * np.exp(x) * (1 + 1e-9 * noise.normal(size=x.shape)), X, kind="nondeterministic"),
    w("every third call wrong", np.exp, lambda g, x: g * np.exp(x) * (1 + (next(calls) % 3 == 1)), X, kind="nondeterministic"),
    w("random forward", lambda x: x * (noise.uniform(size=x.shape) > 0.5), lambda g, x: g, X, kind="nondeterministic"),
    w("state of the last forward", remembers_forward, lambda g, x: g * np.cos(cache["x"]), X, kind="state"),
    w("first gradient for ever", lambda x: np.sin(x), first_gradient, X, kind="state"),
    w("gradient in a buffer", np.sin, lambda g, x: np.multiply(g, np.cos(x), out=BUFFER), X, kind="state"),
]  # fmt: skip

#: mistakes that only a foreign pair can make or show: the engine sums over broadcast axes and casts by itself, and the operation
#: after one that returns its buffer makes a new array
FOREIGN_ONLY = [
    w("value in a buffer", lambda x: np.sin(x, out=BUFFER), lambda g, x: g * np.cos(x), X, kind="state"),
    w("not summed over broadcast axes", np.add, lambda g, a, b: (g, g), X, ROW, kind="shape", input=1),
    w("summed over too much", np.add, lambda g, a, b: (g, g.sum()), X, ROW, kind="shape", input=1),
    w("keepdims forgotten", np.multiply, lambda g, a, b: (g * b, (g * a).sum(-1)), X, normal(3, 1), kind="shape", input=1),
    w("flattened", np.sin, lambda g, x: (g * np.cos(x)).ravel(), X, kind="shape"),
    w("float32 gradient", np.sin, lambda g, x: (g * np.cos(x)).astype(np.float32), X, kind="dtype"),
    w("float32 output", lambda x: np.sin(x).astype(np.float32), lambda g, x: g * np.cos(x), X, kind="dtype", input=-1),
    w("one gradient short", np.multiply, lambda g, a, b: (g * b,), X, Y, kind="count", input=-1),
    w("one gradient too many", np.sin, lambda g, x: (g * np.cos(x), None), X, kind="count", input=-1),
    w("a bare array for two inputs", np.multiply, lambda g, a, b: g * b, X, Y, kind="count", input=-1),
    w("overwrites the incoming gradient", lambda x: 2 * x, lambda g, x: np.multiply(g, 2, out=g), X, kind="mutated", input=-1),
    w("gradients in the wrong order", np.multiply, lambda g, a, b: (g * a, g * b), X, Y),
    w("g of the wrong output", lambda x: (np.sin(x), np.cos(x)), lambda g, x: g[1] * np.cos(x) - g[0] * np.sin(x), X),
    w("second output forgotten", lambda x: (np.sin(x), x * x), lambda g, x: g[0] * np.cos(x), X),
    w("softmax pair, wrong in one row", softmax, lambda g, x: spoil(softmax_backward(g, x), 1, 1.001), X),
    w("sort pair, ties counted twice", lambda x: np.sort(x, -1), lambda g, x: sort_backward(g, x) * np.where(x == 3, 2, 1), TIES),
]  # fmt: skip


def _assigned(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    d = np.zeros_like(x)
    d[[1, 1, 2]] = g
    return d
