"""The feed-forward part of a block, plain and gated.

plain   out = act(x W1ᵀ + b1) W2ᵀ + b2                     Vaswani et al. 2017 §3.3
gated   out = (act(x Wgᵀ) * (x W1ᵀ)) W2ᵀ                   Shazeer 2020, "GLU variants improve transformer"
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..autograd import Tensor
from ..autograd import functional as F
from ..autograd.ops_shape import as_tensor
from ..autograd.state import local as engine
from .layers import Dropout, Linear, are_fusible, is_idle
from .module import Module
from .tap import tap


def quick_gelu(x: Tensor) -> Tensor:
    """x σ(1.702 x), the first approximation of GELU.   Hendrycks and Gimpel 2016"""
    return x * F.sigmoid(x * 1.702)


def relu2(x: Tensor) -> Tensor:
    """max(x, 0)².   So et al. 2021 (Primer)"""
    y = F.relu(x)
    return y * y


#: transformers' names for GELU's tanh form: one formula, written down five times
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh")

#: transformers' names for activations -> functions. "gelu" is exact (erf); "gelu_new" is the tanh form of the BERT and GPT code.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_python": F.gelu,
    **{name: functools.partial(F.gelu, approximate="tanh") for name in TANH_GELUS},
    "quick_gelu": quick_gelu,
    "relu2": relu2,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": F.tanh,
}


#: names under which `feed_forward` has the activations that it fuses
FUSED = {
    "relu": "relu", "gelu": "gelu", "gelu_python": "gelu", "silu": "silu", "swish": "silu",
    **dict.fromkeys(TANH_GELUS, "gelu_tanh"),
}  # fmt: skip

#: act(gate) · up as one operation, where there is one
GATED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "silu": F.swiglu,
    "gelu": F.geglu,
    "gelu_new": functools.partial(F.geglu, approximate="tanh"),
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function of that name; an unknown one is an error that lists those there are."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not known; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def is_same_function(f: Callable[..., Any], g: Callable[..., Any]) -> bool:
    """Whether two functions are one; a copied model has copies of the partial ones."""
    if isinstance(f, functools.partial) and isinstance(g, functools.partial):
        return f.func is g.func and f.keywords == g.keywords
    return f is g


class FeedForward(Module):
    """`up` widens D to F, `down` narrows it again; with `gated`, `gate` goes through the activation and multiplies `up`.

    y = down(act(up(x))), gated down(act(gate(x)) · up(x));   x (..., D) -> (..., D). ValueError for an `act` that is not known.
    """

    def __init__(self, width: int, inner: int, act: str, *, gated: bool = False, bias: bool = True, dropout: float = 0.0) -> None:
        self.act, self.act_name = activation(act), act
        self.join = GATED.get(act)
        self.gate = Linear(width, inner, bias) if gated else None
        self.up = Linear(width, inner, bias)
        self.down = Linear(inner, width, bias)
        self.drop = Dropout(dropout)  # on the inner values; most families have none here

    def is_fusible(self, x: Tensor) -> bool:
        """Whether one operation can do all of it, without the names inside, which a lens would want to see."""
        return (
            self.gate is None and engine.lens is None and self.act_name in FUSED and self.has_its_act()
            and are_fusible(x, self.up, self.down) and is_idle(self.drop)
        )  # fmt: skip

    def has_its_act(self) -> bool:
        """Whether `act` is still the function of its name, so that an operation which has that function in it may be taken."""
        return is_same_function(self.act, ACTIVATIONS[self.act_name])

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """The part's output, added to `residual` (..., D) where one is given."""
        x = as_tensor(x)
        if self.is_fusible(x):
            up, down = self.up, self.down
            return F.feed_forward(
                x, up.weight, down.weight, up.bias, down.bias, residual, activation=FUSED[self.act_name]
            )
        y = self._step_by_step(x)
        return y if residual is None else residual + y

    def _step_by_step(self, x: Tensor) -> Tensor:
        pre = tap("mlp_pre", self.up(x) if self.gate is None else self.gate(x))  # (B, T, D) -> (B, T, F)
        if self.gate is None:
            post = self.act(pre)
        else:
            up = self.up(x)
            post = self.join(pre, up) if self.join is not None and self.has_its_act() else self.act(pre) * up
        return self.down(self.drop(tap("mlp_post", post)))  # (B, T, F) -> (B, T, D)
