"""Transformer.   Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin 2017, "Attention Is All You Need"

New in the paper: translation by attention alone, without recurrence: many heads, an encoder, a decoder that attends to it.
Its choices, from which the other files differ: sinusoidal positions; one matrix for source, target and output embeddings,
multiplied by √D on the way in; post-norm; ReLU; no biases in attention; trained with label smoothing 0.1. `save` writes a
layout of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from .. import nn
from ..autograd import Tensor
from ..nn import init
from .config import Config, flag, layers, rate, size, small, token
from .registry import Family, register
from .seq2seq import EncoderDecoder, Seq2SeqLM, Stack

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class TransformerConfig(Config):
    model_type: ClassVar[str] = "transformer"
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model", "num_hidden_layers": "encoder_layers", "num_attention_heads": "num_heads",
        "intermediate_size": "d_ff",
    }  # fmt: skip
    fixed: ClassVar[dict[str, Any]] = {**Config.fixed, "is_encoder_decoder": True}

    vocab_size: int = size()
    d_model: int = size()
    d_ff: int = size()
    num_heads: int = size()
    encoder_layers: int = layers(6)
    decoder_layers: int = layers(6)
    max_position_embeddings: int = size(5000)
    dropout: float = rate(0.1)
    label_smoothing: float = rate(0.1)
    layer_norm_eps: float = small(1e-6)
    tie_word_embeddings: bool = flag(True)
    pad_token_id: Any = token(0)
    bos_token_id: Any = token(1)
    eos_token_id: Any = token(2)
    decoder_start_token_id: Any = token(1)

    def validate(self) -> None:
        self.divides("d_model", "num_heads")


PRESETS = {
    "transformer-base": {"vocab_size": 37000, "d_model": 512, "d_ff": 2048, "num_heads": 8},
    "transformer-big": {"vocab_size": 37000, "d_model": 1024, "d_ff": 4096, "num_heads": 16, "dropout": 0.3},
}

# -- layer recipe ------------------------------------------------------------------------------------------------------


def layer(c: TransformerConfig, decoder: bool) -> nn.EncoderBlock:
    """Post-norm, ReLU, no biases in attention; dropout on what each part adds."""
    D = c.d_model
    attn = lambda: nn.MultiHeadAttention(D, c.num_heads, bias=False)
    mlp = nn.FeedForward(D, c.d_ff, "relu")
    norm = lambda: nn.LayerNorm(D, c.layer_norm_eps)
    if not decoder:
        return nn.EncoderBlock(attn(), mlp, norm(), norm(), norm_first=False, dropout=c.dropout)
    return nn.DecoderBlock(attn(), mlp, norm(), norm(), norm_first=False, dropout=c.dropout, cross=attn(), cross_norm=norm())


# -- embeddings and model ----------------------------------------------------------------------------------------------


class TransformerStack(Stack):
    """Positions added to the scaled embeddings, then L post-norm blocks."""

    def __init__(self, config: TransformerConfig, decoder: bool) -> None:
        self.drop = nn.Dropout(config.dropout)
        self.layers = [layer(config, decoder) for _ in range(config.decoder_layers if decoder else config.encoder_layers)]

    def enter(self, x: Tensor, mask: nn.Mask) -> tuple[Tensor, nn.Mask]:
        T, D = x.shape[1:]
        return self.drop(x + nn.sinusoidal(mask.offset + T, D, x.dtype)[mask.offset :]), mask


class TransformerModel(EncoderDecoder):
    """Both stacks on one token embedding."""

    config_class = TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = TransformerStack(config, decoder=False)
        self.decoder = TransformerStack(config, decoder=True)

    def embed(self, ids: np.ndarray) -> Tensor:
        return self.tokens(ids) * self.config.d_model**0.5

    def initialiser(self, name: str) -> init.Initialiser:
        """Xavier's uniform for matrices; embeddings so that, times √D, they have variance 1."""
        if name.endswith(("norm.weight", "bias")):
            return super().initialiser(name)
        return init.normal(self.config.d_model**-0.5) if name.startswith(("tokens", "lm_head")) else init.xavier_uniform()


# -- heads -------------------------------------------------------------------------------------------------------------


class TransformerForConditionalGeneration(Seq2SeqLM, TransformerModel):
    """Next-token logits; labels are smoothed in training."""

    def label_smoothing(self) -> float:
        return self.config.label_smoothing if self.training else 0.0


register(Family(TransformerConfig, PRESETS, {
    "base": TransformerModel, "seq2seq_lm": TransformerForConditionalGeneration,
}, default="seq2seq_lm"))  # fmt: skip
