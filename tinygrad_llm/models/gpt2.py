"""GPT-2.   Radford, Wu, Child, Luan, Amodei, Sutskever 2019, "Language Models are Unsupervised Multitask Learners"

New in the paper: a decoder alone, trained on the web's text, does many tasks without being trained for them.
Differs from GPT: the norms stand before attention and feed-forward and one more after the last layer (pre-norm); residual
outputs start smaller, N(0, 0.02/sqrt(2L)); 1024 positions; byte-level vocabulary of 50,257.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from .. import nn
from ..nn import init
from . import gpt
from .base import Model
from .config import choice, flag, size
from .heads import LastTokenClassification, TokenClassification
from .names import Table
from .registry import Family, register
from .stacks import CausalLM, Decoder, GPTConfig

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class GPT2Config(GPTConfig):
    model_type: ClassVar[str] = "gpt2"
    absent: ClassVar[dict[str, Any]] = {"bos_token_id": 50256, "eos_token_id": 50256}
    attribute_map: ClassVar[dict[str, str]] = {**GPTConfig.attribute_map, "intermediate_size": "n_inner"}

    n_inner: Any = size(None)
    activation_function: str = choice("gelu_new", *nn.ACTIVATIONS)
    scale_attn_weights: bool = flag(True)
    scale_attn_by_inverse_layer_idx: bool = flag(False)

    def score_scale(self, i: int) -> float:
        """What layer i's scores are multiplied by: K^-1/2, and in Stanford's and CodeParrot's checkpoints 1/(i + 1)."""
        scale = (self.n_embd // self.n_head) ** -0.5 if self.scale_attn_weights else 1.0
        return scale / (i + 1) if self.scale_attn_by_inverse_layer_idx else scale


_COMMON = {"vocab_size": 50257, "n_positions": 1024, "bos_token_id": 50256, "eos_token_id": 50256}
PRESETS = {
    "gpt2": {**_COMMON, "n_embd": 768, "n_layer": 12, "n_head": 12},
    "gpt2-medium": {**_COMMON, "n_embd": 1024, "n_layer": 24, "n_head": 16},
    "gpt2-large": {**_COMMON, "n_embd": 1280, "n_layer": 36, "n_head": 20},
    "gpt2-xl": {**_COMMON, "n_embd": 1600, "n_layer": 48, "n_head": 25},
}

# -- layer recipe ------------------------------------------------------------------------------------------------------


def layer(c: Any, score_scale: float | None = None) -> nn.DecoderBlock:
    """Pre-norm, biases everywhere, tanh GELU, feed-forward four times as wide."""
    D = c.n_embd
    attn = nn.MultiHeadAttention(D, c.n_head, scale=score_scale, dropout=c.attn_pdrop)
    mlp = nn.FeedForward(D, c.n_inner or 4 * D, c.activation_function)
    norm = lambda: nn.LayerNorm(D, c.layer_norm_epsilon)
    return nn.DecoderBlock(attn, mlp, norm(), norm(), norm_first=True, dropout=c.resid_pdrop)


# -- embeddings and model ----------------------------------------------------------------------------------------------

NAMES: Table = {**gpt.NAMES, "tokens": "wte", "positions": "wpe", "final_norm": "ln_f"}


class _GPT2(Model):
    config_class = GPT2Config
    base_prefix = "transformer"
    base_names = NAMES
    unused = (r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",)  # the causal mask, in old files

    def initialiser(self, name: str) -> init.Initialiser:
        if name.endswith(("attn.o.weight", "mlp.down.weight")):
            return init.normal(self.config.initializer_range / (2 * self.config.n_layer) ** 0.5)
        return super().initialiser(name)


class GPT2Model(Decoder, _GPT2):
    """Tokens plus learned positions, L pre-norm blocks, a last norm."""

    adds_types = True

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.LearnedPositions(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.layers = [layer(config, config.score_scale(i)) for i in range(config.n_layer)]
        self.final_norm = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)


# -- heads -------------------------------------------------------------------------------------------------------------


class GPT2LMHeadModel(CausalLM, _GPT2):
    """Next-token logits; the output matrix is the token embedding."""

    base_class = GPT2Model


class GPT2ForSequenceClassification(LastTokenClassification, _GPT2):
    base_class = GPT2Model


class GPT2ForTokenClassification(TokenClassification, _GPT2):
    base_class, rate = GPT2Model, 0.1


register(Family(GPT2Config, PRESETS, {
    "base": GPT2Model, "causal_lm": GPT2LMHeadModel, "sequence_classification": GPT2ForSequenceClassification,
    "token_classification": GPT2ForTokenClassification,
}, default="causal_lm"))  # fmt: skip
