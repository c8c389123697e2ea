"""BART.   Lewis, Liu, Goyal, et al. 2019, "BART: Denoising Sequence-to-Sequence Pre-training"

New in the paper: a full encoder-decoder trained to undo noise: spans of text replaced by one mask, sentences shuffled.
Differs from the 2017 Transformer: learned positions (rows 0 and 1 unused), embeddings normed on each side, GELU instead of ReLU,
biases on attention, a bias on the logits.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from .. import nn
from ..autograd import Tensor
from . import heads, inputs, losses
from .base import Model
from .config import Config, ConfigError, choice, flag, layers, rate, size, small, token
from .names import Table
from .outputs import ModelOutput
from .registry import Family, register
from .seq2seq import EncoderDecoder, Seq2SeqLM, Stack, shift_right

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class BartConfig(Config):
    model_type: ClassVar[str] = "bart"
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model", "num_hidden_layers": "encoder_layers", "num_attention_heads": "encoder_attention_heads",
        "intermediate_size": "encoder_ffn_dim", "initializer_range": "init_std",
    }  # fmt: skip
    fixed: ClassVar[dict[str, Any]] = {
        **Config.fixed, "is_encoder_decoder": True, "normalize_embedding": True, "normalize_before": False,
        "add_bias_logits": False, "add_final_layer_norm": False, "static_position_embeddings": False,
        "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0,
    }  # fmt: skip
    ignored: ClassVar[frozenset[str]] = frozenset(
        {"force_bos_token_to_be_generated", "num_hidden_layers", "classif_dropout", "extra_pos_embeddings"}
    )

    vocab_size: int = size()
    max_position_embeddings: int = size()
    d_model: int = size()
    encoder_layers: int = layers()
    decoder_layers: int = layers()
    encoder_attention_heads: int = size()
    decoder_attention_heads: int = size()
    encoder_ffn_dim: int = size()
    decoder_ffn_dim: int = size()
    activation_function: str = choice("gelu", *nn.ACTIVATIONS)
    dropout: float = rate(0.1)
    attention_dropout: float = rate(0.0)
    activation_dropout: float = rate(0.0)
    classifier_dropout: float = rate(0.0)
    scale_embedding: bool = flag(False)
    init_std: float = small(0.02)
    num_labels: int = size(3)
    pad_token_id: Any = token(1)
    bos_token_id: Any = token(0)
    eos_token_id: Any = token(2)
    decoder_start_token_id: Any = token(2)
    forced_bos_token_id: Any = token()
    forced_eos_token_id: Any = token(2)

    def validate(self) -> None:
        self.divides("d_model", "encoder_attention_heads")
        self.divides("d_model", "decoder_attention_heads")
        if not self.tie_word_embeddings:  # transformers then has four tables: shared, the encoder's, the decoder's, the logits'
            raise ConfigError("tie_word_embeddings = False is not supported: encoder, decoder and logits share one matrix here")


def _sizes(width: int, depth: int, heads: int) -> dict[str, Any]:
    side = {"layers": depth, "attention_heads": heads, "ffn_dim": 4 * width}
    both = {f"{stack}_{key}": value for stack in ("encoder", "decoder") for key, value in side.items()}
    return both | {"vocab_size": 50265, "max_position_embeddings": 1024, "d_model": width}


PRESETS = {"bart-base": _sizes(768, 6, 12), "bart-large": _sizes(1024, 12, 16)}

# -- layer recipe ------------------------------------------------------------------------------------------------------


def layer(c: BartConfig, decoder: bool) -> nn.EncoderBlock:
    """Post-norm, biases everywhere, exact GELU."""
    D = c.d_model
    H, inner = (c.encoder_attention_heads, c.encoder_ffn_dim) if not decoder else (c.decoder_attention_heads, c.decoder_ffn_dim)
    attn = lambda: nn.MultiHeadAttention(D, H, dropout=c.attention_dropout)
    mlp = nn.FeedForward(D, inner, c.activation_function, dropout=c.activation_dropout)
    norm = lambda: nn.LayerNorm(D)
    if not decoder:
        return nn.EncoderBlock(attn(), mlp, norm(), norm(), norm_first=False, dropout=c.dropout)
    return nn.DecoderBlock(attn(), mlp, norm(), norm(), norm_first=False, dropout=c.dropout, cross=attn(), cross_norm=norm())


# -- embeddings and model ----------------------------------------------------------------------------------------------


def _names(stack: str) -> Table:
    layer = f"{stack}.layers.*"  # the same on both sides
    kinds = {"attn": "self_attn", "cross": "encoder_attn"}
    attention = {f"{layer}.{a}.{n[0]}": f"{layer}.{b}.{n}_proj" for a, b in kinds.items() for n in ("q", "k", "v", "out")}
    parts = {"attn": "self_attn", "cross": "encoder_attn", "mlp": "final"}
    norms = {f"{layer}.{a}_norm": f"{layer}.{b}_layer_norm" for a, b in parts.items()}
    feed = {f"{layer}.mlp.up": f"{layer}.fc1", f"{layer}.mlp.down": f"{layer}.fc2"}
    outer = {f"{stack}.positions": f"{stack}.embed_positions", f"{stack}.embed_norm": f"{stack}.layernorm_embedding"}
    return attention | norms | feed | outer


NAMES: Table = {"tokens": "shared", **_names("encoder"), **_names("decoder")}
TIED = {f"model.{stack}.embed_tokens.weight": "model.tokens.weight" for stack in ("encoder", "decoder")}


class BartStack(Stack):
    """Positions added and the sum normed, then L post-norm blocks."""

    def __init__(self, config: BartConfig, decoder: bool) -> None:
        c = config
        self.positions = nn.LearnedPositions(c.max_position_embeddings + 2, c.d_model, offset=2)
        self.embed_norm = nn.LayerNorm(c.d_model)
        self.drop = nn.Dropout(c.dropout)
        self.layers = [layer(c, decoder) for _ in range(c.decoder_layers if decoder else c.encoder_layers)]

    def enter(self, x: Tensor, mask: nn.Mask) -> tuple[Tensor, nn.Mask]:
        positions = self.positions(np.arange(mask.offset, mask.offset + x.shape[1]))
        return self.drop(self.embed_norm(x + positions)), mask


class _Bart(Model):
    config_class = BartConfig
    base_prefix = "model"
    base_names = NAMES
    unused = (r"(model\.)?(encoder|decoder)\.version", r"final_logits_bias")
    is_encoder_decoder = True


class BartModel(EncoderDecoder, _Bart):
    """Both stacks on one token embedding."""

    tied = dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), "tokens.weight")

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        self.encoder = BartStack(config, decoder=False)
        self.decoder = BartStack(config, decoder=True)

    def embed(self, ids: np.ndarray) -> Tensor:
        x = self.tokens(ids)
        return x * self.config.d_model**0.5 if self.config.scale_embedding else x

    def forward(  # type: ignore[override]
        self, input_ids: Any = None, attention_mask: Any = None, decoder_input_ids: Any = None, **kwargs: Any
    ) -> ModelOutput:
        if decoder_input_ids is None and input_ids is not None and kwargs.get("decoder_inputs_embeds") is None:
            # the paper's denoising: the decoder reads what the encoder does
            decoder_input_ids = shift_right(input_ids, self.config, "input_ids")
        return super().forward(input_ids, attention_mask, decoder_input_ids, **kwargs)


# -- heads -------------------------------------------------------------------------------------------------------------


class BartForConditionalGeneration(Seq2SeqLM, _Bart):
    """Next-token logits; a constant bias on them is part of the published files."""

    buffers, tied = {"logits_bias": "final_logits_bias"}, {**TIED, "lm_head.weight": "model.tokens.weight"}
    unused = _Bart.unused[:1]

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.model = BartModel(config)
        self.logits_bias = np.zeros((1, config.vocab_size), np.float32)


class BartForSequenceClassification(_Bart):
    """One row of logits per sequence, from the decoder's state at the last end-of-sequence token."""

    head_names: ClassVar[Table] = {"classifier.out": "classification_head.out_proj", "classifier": "classification_head"}
    tied = TIED

    def __init__(self, config: BartConfig) -> None:
        super().__init__(config)
        self.model = BartModel(config)
        self.classifier = heads.DenseClassifier(config.d_model, config.num_labels, "tanh", config.classifier_dropout)

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **kwargs: Any) -> ModelOutput:
        out = self.model(input_ids, attention_mask, **kwargs)
        ends = inputs.token_ids(input_ids, self.config.vocab_size) == self.config.eos_token_id
        if not ends.any(axis=1).all():
            raise ValueError(f"input_ids: every row must hold the end token {self.config.eos_token_id}, whose state is classified")
        out.logits = self.classifier(heads.at_last(out.last_hidden_state, ends))  # (B, T, D) -> (B, C)
        out.loss = losses.classification(out.logits, labels, self.config.problem_type)
        return out


register(Family(BartConfig, PRESETS, {
    "base": BartModel, "seq2seq_lm": BartForConditionalGeneration, "sequence_classification": BartForSequenceClassification,
}, default="seq2seq_lm"))  # fmt: skip
