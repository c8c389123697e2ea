"""Encoder and decoder blocks, with the norm before each part (pre-norm) or after it (post-norm). Parts are handed in.

pre-norm    x ← x + part(norm(x))          GPT-2, GPT-3, T5, Llama
post-norm   x ← norm(x + part(x))          Transformer, BERT and its kin, GPT, BART
"""

from __future__ import annotations

from typing import Any

from ..autograd import Tensor
from ..autograd.state import local as engine
from .attention import MultiHeadAttention
from .feedforward import FeedForward
from .layers import Dropout, is_idle
from .mask import OPEN, Mask
from .module import Module, is_plain
from .tap import tap


class EncoderBlock(Module):
    """Self-attention, then feed-forward. `attn_norm` and `mlp_norm` are the norms; dropout acts on what each part adds.

    Each part: x ← x + part(norm(x)) with `norm_first`, else x ← norm(x + part(x)).
    """

    cross: Module | None = None  # a decoder's attention to an encoder's output

    def __init__(self, attn: Module, mlp: Module, attn_norm: Module, mlp_norm: Module, *, norm_first: bool, dropout: float = 0.0):
        self.norm_first = norm_first
        self.attn_norm, self.attn = attn_norm, attn
        self.mlp_norm, self.mlp = mlp_norm, mlp
        self.drop = Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Mask = OPEN, output_attentions: bool = False, **kwargs: Any
    ) -> tuple[Tensor, tuple[Any, Any]]:
        """x (B, T, D) -> (B, T, D) and (pattern, None), the pattern (B, H, T, S) if asked. Keywords go to the attention."""
        x = tap("resid_pre", x)
        x, pattern = self.attend(x, self.attn, self.attn_norm, "attn_out", mask=mask, output_pattern=output_attentions, **kwargs)
        return self.feed(tap("resid_mid", x)), (pattern, None)

    def attend(self, x: Tensor, attn: Module, norm: Module, name: str, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """One attention part with its norm and residual."""
        inner = norm(x) if self.norm_first else x
        if self.adds_inside(attn, MultiHeadAttention):
            x, pattern = attn(inner, residual=x, **kwargs)
        else:
            out, pattern = with_patterns(attn(inner, **kwargs), None)
            x = x + tap(name, self.drop(out))
        return x if self.norm_first else norm(x), pattern

    def adds_inside(self, part: Module, kind: type) -> bool:
        """Whether the part may add the residual itself: nothing happens to its output in between, and nobody looks at it."""
        return is_plain(part, kind) and is_idle(self.drop) and engine.lens is None

    def feed(self, x: Tensor) -> Tensor:
        """The feed-forward part with its norm and residual."""
        inner = self.mlp_norm(x) if self.norm_first else x
        if self.adds_inside(self.mlp, FeedForward):
            x = self.mlp(inner, residual=x)
        else:
            x = x + tap("mlp_out", self.drop(self.mlp(inner)))
        return tap("resid_post", x if self.norm_first else self.mlp_norm(x))


def with_patterns(out: Any, none: Any) -> Any:
    """What a part gave, in full: one of somebody's own may return its Tensor alone, which would be unpacked by its rows."""
    return (out, none) if isinstance(out, Tensor) else out


class DecoderBlock(EncoderBlock):
    """Causal self-attention, then, if `cross` is given, attention to an encoder's output, then feed-forward."""

    def __init__(self, attn: Module, mlp: Module, attn_norm: Module, mlp_norm: Module, *, norm_first: bool,
                 dropout: float = 0.0, cross: Module | None = None, cross_norm: Module | None = None):  # fmt: skip
        if (cross is None) != (cross_norm is None):
            raise ValueError("DecoderBlock: expected cross and cross_norm together, got one without the other")
        super().__init__(attn, mlp, attn_norm, mlp_norm, norm_first=norm_first, dropout=dropout)
        self.cross, self.cross_norm = cross, cross_norm

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        mask: Mask = OPEN,
        context: Tensor | None = None,
        context_mask: Mask = OPEN,
        cache: Any = None,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
        """x (B, T, D), context (B, S, D) -> (B, T, D) and the patterns (self, cross), None where not asked for."""
        x = tap("resid_pre", x)
        x, pattern = self.attend(
            x, self.attn, self.attn_norm, "attn_out", mask=mask, cache=cache, output_pattern=output_attentions, **kwargs
        )
        cross_pattern = None
        if self.cross is not None and self.cross_norm is not None:
            if context is None:  # attention without one would be to x itself
                raise TypeError("DecoderBlock: expected context, the encoder's output, for the cross-attention; got None")
            x, cross_pattern = self.attend(
                x, self.cross, self.cross_norm, "cross_out", context=context, mask=context_mask, cache=cache,
                output_pattern=output_attentions,
            )  # fmt: skip
        return self.feed(tap("resid_mid", x)), (pattern, cross_pattern)
