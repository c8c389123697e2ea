"""Encoders, decoders and language models: the forward that families share once they have said how ids become vectors.

A family's base model sets `tokens`, `layers` and what else of the attributes here it has.
"""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np

from .. import nn
from ..autograd import Tensor
from ..autograd.state import local as engine
from ..nn import tap
from ..nn.layers import output_weight
from ..nn.tap import Unpacked, looking_through
from . import inputs, losses
from .base import BaseModel, Record, run_blocks
from .config import Config, choice, layers, rate, size, small
from .heads import WithHead, lm_head
from .outputs import ModelOutput


@dataclasses.dataclass
class EncoderConfig(Config):
    """BERT's sizes and rates, which the encoders after it kept; a family declares what it adds, and its other defaults."""

    vocab_size: int = size()
    hidden_size: int = size()
    num_hidden_layers: int = layers()
    num_attention_heads: int = size()
    intermediate_size: int = size()
    max_position_embeddings: int = size()
    type_vocab_size: int = size(2)
    hidden_act: str = choice("gelu", *nn.ACTIVATIONS)
    hidden_dropout_prob: float = rate(0.1)
    attention_probs_dropout_prob: float = rate(0.1)
    layer_norm_eps: float = small(1e-12)
    initializer_range: float = small(0.02)

    def validate(self) -> None:
        self.divides("hidden_size", "num_attention_heads")


class Encoder(BaseModel):
    """Every position sees all others. Embeddings are BERT's: tokens, positions and segments summed, normed, perhaps widened.

    `width`: the embeddings'; `padding_position`: the row of positions where padding stands, if it has one of its own.
    """

    widen: nn.Linear | None = None
    pooler: nn.Module | None = None

    def __init__(self, config: EncoderConfig, width: int, padding_position: int | None = None) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, width, config.pad_token_id)
        self.positions = nn.LearnedPositions(config.max_position_embeddings, width, padding_position)
        self.segments = nn.Embedding(config.type_vocab_size, width)
        self.embed_norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.drop = nn.Dropout(config.hidden_dropout_prob)

    def place(self, input_ids: Any, position_ids: Any, B: int, T: int) -> np.ndarray:
        """Each token's row in the table of positions."""
        return inputs.position_rows(position_ids, B, T, 0, self.config.max_position_embeddings)

    def embed(self, input_ids: Any, token_type_ids: Any, position_ids: Any, inputs_embeds: Any = None) -> Tensor:
        """(B, T) -> (B, T, D)"""
        x = inputs.token_vectors(self, self.tokens, input_ids, inputs_embeds)
        shape = x.shape[:2]
        segments = inputs.segment_ids(token_type_ids, shape, self.config.type_vocab_size)
        x = x + self.segments(segments) + self.positions(self.place(input_ids, position_ids, *shape))
        x = self.drop(self.embed_norm(x))
        return x if self.widen is None else self.widen(x)

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        skip_padding: bool = False,
        inputs_embeds: Any = None,
    ) -> ModelOutput:
        """Hidden states of ids (B, T); attention_mask (B, T) is 1 for real tokens; pooler_output where there is a pooler.

        `inputs_embeds` (B, T, D) stand for what `tokens` makes of ids.
        `skip_padding`: nothing is computed for padding but attention's own grid, and its last hidden states are zeros.
        """
        x = tap("embed", self.embed(input_ids, token_type_ids, position_ids, inputs_embeds))
        B, T, _ = x.shape
        mask = nn.from_attention_mask(attention_mask, B, T, T)
        record = Record(output_hidden_states, output_attentions)
        if skip_padding and mask.keys is not None:
            mask = dataclasses.replace(mask, packed=nn.Packed(mask.keys))
            x = mask.packed.pack(x)
        watched = mask.packed is not None and engine.lens is not None
        with looking_through(Unpacked(engine.lens, mask.packed)) if watched else nullcontext():  # type: ignore[arg-type]
            x = run_blocks(self.blocks(), x, lambda i: mask, record, recompute=self._recompute)
        if mask.packed is not None:
            x = mask.packed.spread(x)
            record.hidden = record.hidden and tuple(mask.packed.spread(h) for h in record.hidden)
        x = tap("final_norm", x)
        pooled = None if self.pooler is None else self.pooler(x)
        return ModelOutput(last_hidden_state=x, pooler_output=pooled, hidden_states=record.states(x), attentions=record.attentions)

    def sentence_embeddings(self, input_ids: Any, attention_mask: Any = None, pooling: str = "mean", **kwargs: Any) -> Tensor:
        """One vector per sequence, (B, D): the mean of the real positions, or "pooled", what the pooler makes of the first."""
        if pooling not in ("mean", "pooled") or (pooling == "pooled" and self.pooler is None):
            raise ValueError(f"pooling: expected 'mean'{' or ' + repr('pooled') if self.pooler else ''}, got {pooling!r}")
        first = True if attention_mask is None else np.atleast_2d(inputs.as_array(attention_mask, "attention_mask"))[:, 0].all()
        skip = pooling == "mean" or bool(first)  # the pooler reads the first position, be it padding
        out = self(input_ids, attention_mask, skip_padding=skip, **kwargs)
        return out.pooler_output if pooling == "pooled" else mean_pool(out.last_hidden_state, attention_mask)


def mean_pool(hidden: Tensor, attention_mask: Any = None) -> Tensor:
    """The mean over the real positions: (B, T, D) -> (B, D)"""
    if attention_mask is None:
        return hidden.mean(axis=1)
    weight = inputs.as_array(attention_mask, "attention_mask").astype(hidden.dtype)[..., None]
    return (hidden * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1.0).astype(hidden.dtype)


@dataclasses.dataclass
class GPTConfig(Config):
    """GPT's sizes and rates, under the names that GPT-2 and GPT-3 kept; a family declares what it adds, and its other defaults."""

    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions", "layer_norm_eps": "layer_norm_epsilon",
    }  # fmt: skip

    vocab_size: int = size()
    n_positions: int = size()
    n_embd: int = size()
    n_layer: int = layers()
    n_head: int = size()
    embd_pdrop: float = rate(0.1)
    attn_pdrop: float = rate(0.1)
    resid_pdrop: float = rate(0.1)
    layer_norm_epsilon: float = small(1e-5)
    initializer_range: float = small(0.02)

    def validate(self) -> None:
        self.divides("n_embd", "n_head")


class Decoder(BaseModel):
    """Every position sees itself and those before. Embeddings are GPT's, tokens and positions summed, or tokens alone."""

    positions: nn.LearnedPositions | None = None
    drop: nn.Dropout
    final_norm: nn.Module | None = None
    adds_types: ClassVar[bool] = False  # whether token_type_ids are tokens whose vectors are added

    def embed(self, x: Tensor, positions: np.ndarray) -> Tensor:
        """What happens to the tokens' vectors before the blocks: x (B, T, D), positions (T,) or (B, T) -> (B, T, D)"""
        return x if self.positions is None else self.drop(x + self.positions(positions))

    def window(self, i: int) -> int | None:
        """How many of the nearest positions layer i sees; None for all."""
        return None

    def turn(self, positions: np.ndarray, dtype: Any) -> dict[str, Any]:
        """What the attention of every layer gets besides: rotary angles."""
        return {}

    def make_cache(self, capacity: int = 256) -> nn.KVCache:
        return nn.KVCache(len(self.layers), min(capacity, self.positions_limit() or capacity))

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: nn.KVCache | None = None,
        use_cache: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        inputs_embeds: Any = None,
        token_type_ids: Any = None,
    ) -> ModelOutput:
        """Hidden states of ids (B, T), which follow the positions in `past_key_values`; attention_mask (B, past + T).

        `inputs_embeds` (B, T, D) stand for what `tokens` makes of ids; `token_type_ids` (B, T) are GPT's and GPT-2's alone: tokens
        that are added, such as that of who speaks.
        """
        cache = self.make_cache() if use_cache and past_key_values is None else past_key_values
        past = inputs.past_length(cache)
        x = inputs.token_vectors(self, self.tokens, input_ids, inputs_embeds, past)
        B, T, _ = x.shape
        mask = nn.from_attention_mask(attention_mask, B, T, past + T, causal=True, offset=past)
        positions = inputs.position_rows(position_ids, B, T, past, self.positions_limit())
        if token_type_ids is not None:
            if not self.adds_types:
                raise TypeError(f"token_type_ids: {type(self).__name__} has no types of tokens")
            x = x + self.tokens(inputs.segment_ids(token_type_ids, (B, T), self.config.vocab_size))
        x = tap("embed", self.embed(x, positions))
        record = Record(output_hidden_states, output_attentions)
        seen = lambda i: mask.with_window(self.window(i))
        x = run_blocks(self.blocks(), x, seen, record, cache, self._recompute, **self.turn(positions, x.dtype))
        x = tap("final_norm", x if self.final_norm is None else self.final_norm(x))
        if cache is not None:
            cache.advance(T)
        return ModelOutput(last_hidden_state=x, hidden_states=record.states(x), attentions=record.attentions, past_key_values=cache)


class CausalLM(WithHead):
    """Next-token logits over a Decoder. The output matrix is the token embedding, or `lm_head` where they are not tied."""

    can_generate = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lm_head = lm_head(config)

    @property
    def tied(self) -> dict[str, str]:  # type: ignore[override]
        return {"lm_head.weight": f"{self.base_prefix}.tokens.weight"} if self.lm_head is None else {}

    def make_cache(self, capacity: int = 256) -> nn.KVCache:
        return self.base.make_cache(capacity)

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, logits_to_keep: int = 0, **kwargs: Any
    ) -> ModelOutput:
        """The base model's output with `logits` (B, T, V), of the last `logits_to_keep` positions alone if it is not 0; and
        `loss` where labels (B, T) are given (moved by one inside)."""
        if logits_to_keep < 0 or (logits_to_keep and labels is not None):
            raise ValueError(f"logits_to_keep: expected 0 or a number of positions, and no labels with it; got {logits_to_keep}")
        out = self.base(input_ids, attention_mask, **kwargs)
        output = output_weight(self.base.tokens) if self.lm_head is None else self.lm_head
        hidden = out.last_hidden_state
        if 0 < logits_to_keep < hidden.shape[1]:
            hidden = hidden[:, -logits_to_keep:]
        out.logits, out.loss = losses.vocabulary(hidden, output, labels=labels, next_token=True)
        return out
