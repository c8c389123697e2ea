"""Floating-point operations and bytes of one call of an operation, counted from its shapes.

A multiply and an add are two. Products are counted exactly; any other operation as a fixed number per element of its
largest array, which is what a roofline needs to know of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Shapes = list[tuple[int, ...]]


def _matmul(inputs: Shapes, outputs: Shapes, params: dict[str, Any]) -> int:
    return 2 * math.prod(outputs[0]) * inputs[0][-1]


def _linear(inputs: Shapes, outputs: Shapes, params: dict[str, Any]) -> int:
    return 2 * math.prod(inputs[0]) * inputs[1][0]


def _attention(inputs: Shapes, outputs: Shapes, params: dict[str, Any]) -> int:
    q, k, v = inputs[:3]
    pairs = math.prod(q[:-1]) * k[-2]
    work = 2 * pairs * (q[-1] + v[-1])
    return work // 2 if params.get("is_causal") and q[-2] == k[-2] else work


def _feed_forward(inputs: Shapes, outputs: Shapes, params: dict[str, Any]) -> int:
    rows = math.prod(inputs[0][:-1])
    return 2 * rows * (math.prod(inputs[1]) + math.prod(inputs[2])) + PER_ELEMENT["gelu"] * rows * inputs[1][0]


def _self_attention(inputs: Shapes, outputs: Shapes, params: dict[str, Any]) -> int:
    B, T, _ = inputs[0]
    projections = sum(math.prod(weight) for weight in inputs[1:5])
    heads, kv_heads = params["heads"], params["kv_heads"]
    K, V = inputs[1][0] // heads, inputs[3][0] // kv_heads
    inner = _attention([(B, heads, T, K), (B, kv_heads, T, K), (B, kv_heads, T, V)], outputs, params)
    return 2 * B * T * projections + inner


PRODUCTS: dict[str, Callable[[Shapes, Shapes, dict[str, Any]], int]] = {
    "matmul": _matmul,
    "linear": _linear,
    "attention": _attention,
    "feed_forward": _feed_forward,
    "self_attention": _self_attention,
    "linear_cross_entropy": _linear,  # of hidden states, with the output matrix
}
WITH_SHAPES = {"attention": 3, "feed_forward": 3, "self_attention": 5}  # how many of the first inputs are counted
PER_ELEMENT = {"exp": 10, "log": 10, "tanh": 15, "erf": 15, "gelu": 20, "silu": 12, "softmax": 14, "log_softmax": 14,
               "layer_norm": 8, "rms_norm": 6, "add_layer_norm": 9, "add_rms_norm": 7, "cross_entropy": 14}  # fmt: skip
#: backward over forward where it isn't 2, as of a product, which has two gradients of its own size: the scores are made again
BACKWARD = {"attention": 2.5, "self_attention": 2.1}


def forward_flops(name: str, inputs: Shapes, outputs: Shapes, params: dict[str, Any]) -> int:
    """Floating-point operations of the forward."""
    if name in PRODUCTS and inputs and all(inputs[: WITH_SHAPES.get(name, 2)]):
        return PRODUCTS[name](inputs, outputs, params)
    return PER_ELEMENT.get(name, 1) * max(math.prod(shape) for shape in [*inputs, *outputs])


def backward_flops(name: str, forward: int) -> int:
    """Floating-point operations of all the gradient rules of a call."""
    return int(BACKWARD.get(name, 2.0) * forward)
