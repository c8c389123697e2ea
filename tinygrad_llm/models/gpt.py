"""GPT.   Radford, Narasimhan, Salimans, Sutskever 2018, "Improving Language Understanding by Generative Pre-Training"

New in the paper: train a decoder on running text first, then fine-tune all of it on each task.
Differs from the 2017 decoder: no encoder and so no cross-attention; learned positions; tanh GELU instead of ReLU. The norms
still stand after attention and feed-forward (post-norm), and there is none at the end.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from .. import nn
from .base import Model
from .config import choice
from .heads import LastTokenClassification
from .names import Table, transposed
from .registry import Family, register
from .stacks import CausalLM, Decoder, GPTConfig

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class OpenAIGPTConfig(GPTConfig):
    model_type: ClassVar[str] = "openai-gpt"
    ignored: ClassVar[frozenset[str]] = frozenset({"n_special"})

    afn: str = choice("gelu", "relu", "silu", "swish")


PRESETS = {"gpt": {"vocab_size": 40478, "n_positions": 512, "n_embd": 768, "n_layer": 12, "n_head": 12}}

# -- layer recipe ------------------------------------------------------------------------------------------------------


def layer(c: OpenAIGPTConfig) -> nn.DecoderBlock:
    """Post-norm, biases everywhere; its "gelu" is the tanh form."""
    D = c.n_embd
    attn = nn.MultiHeadAttention(D, c.n_head, dropout=c.attn_pdrop)
    mlp = nn.FeedForward(D, 4 * D, "gelu_new" if c.afn == "gelu" else c.afn)
    norm = lambda: nn.LayerNorm(D, c.layer_norm_epsilon)
    return nn.DecoderBlock(attn, mlp, norm(), norm(), norm_first=False, dropout=c.resid_pdrop)


# -- embeddings and model ----------------------------------------------------------------------------------------------

NAMES: Table = {
    "tokens": "tokens_embed",
    "positions": "positions_embed",
    "layers.*.attn.q": transposed("h.*.attn.c_attn", 0, 3),
    "layers.*.attn.k": transposed("h.*.attn.c_attn", 1, 3),
    "layers.*.attn.v": transposed("h.*.attn.c_attn", 2, 3),
    "layers.*.attn.o": transposed("h.*.attn.c_proj"),
    "layers.*.attn_norm": "h.*.ln_1",
    "layers.*.mlp.up": transposed("h.*.mlp.c_fc"),
    "layers.*.mlp.down": transposed("h.*.mlp.c_proj"),
    "layers.*.mlp_norm": "h.*.ln_2",
}


class _GPT(Model):
    config_class = OpenAIGPTConfig
    base_prefix = "transformer"
    base_names = NAMES
    unused = (r"(transformer\.)?h\.\d+\.attn\.bias",)  # the causal mask, in old files


class OpenAIGPTModel(Decoder, _GPT):
    """Tokens plus learned positions, L post-norm blocks, no last norm."""

    adds_types = True

    def __init__(self, config: OpenAIGPTConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.LearnedPositions(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.layers = [layer(config) for _ in range(config.n_layer)]


# -- heads -------------------------------------------------------------------------------------------------------------


class OpenAIGPTLMHeadModel(CausalLM, _GPT):
    """Next-token logits; the output matrix is the token embedding."""

    base_class = OpenAIGPTModel


class OpenAIGPTForSequenceClassification(LastTokenClassification, _GPT):
    base_class = OpenAIGPTModel


register(Family(OpenAIGPTConfig, PRESETS, {
    "base": OpenAIGPTModel, "causal_lm": OpenAIGPTLMHeadModel, "sequence_classification": OpenAIGPTForSequenceClassification,
}, default="causal_lm"))  # fmt: skip
