"""T5.   Raffel, Shazeer, Roberts, Lee, et al. 2019, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text..."

New in the paper: every task is text in, text out; a study of what matters in pre-training; the span-corruption objective.
Differs from the 2017 Transformer: pre-norm with RMSNorm and a last norm; no biases anywhere; no position embeddings but a
trained bias on the scores, by bucketed distance, shared by a stack's layers; scores are not scaled by K^-1/2 (the
initialisation does it); H·K need not be D. T5 1.1 (Shazeer 2020): gated GELU feed-forward, and an output matrix of its
own; T5 1.0 ties it and scales its input by D^-1/2.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from .. import nn
from ..autograd import Tensor
from ..nn import init
from .base import Model
from .config import Config, ConfigError, anything, layers, rate, size, small, token
from .names import Table
from .outputs import ModelOutput
from .registry import Family, register
from .seq2seq import EncoderDecoder, EncoderSide, Seq2SeqLM, Stack
from .stacks import mean_pool

# -- config and presets ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class T5Config(Config):
    model_type: ClassVar[str] = "t5"
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model", "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads",
        "intermediate_size": "d_ff", "layer_norm_eps": "layer_norm_epsilon", "head_dim": "d_kv",
    }  # fmt: skip
    fixed: ClassVar[dict[str, Any]] = {**Config.fixed, "is_encoder_decoder": True}
    ignored: ClassVar[frozenset[str]] = frozenset({"dense_act_fn", "is_gated_act", "n_positions"})

    vocab_size: int = size()
    d_model: int = size()
    d_kv: int = size()
    d_ff: int = size()
    num_layers: int = layers()
    num_decoder_layers: Any = layers(None)
    num_heads: int = size()
    relative_attention_num_buckets: int = size(32)
    relative_attention_max_distance: int = size(128)
    feed_forward_proj: Any = anything("relu")
    dropout_rate: float = rate(0.1)
    classifier_dropout: float = rate(0.0)
    layer_norm_epsilon: float = small(1e-6)
    initializer_factor: float = small(1.0)
    scale_decoder_outputs: Any = anything(None)
    pad_token_id: Any = token(0)
    eos_token_id: Any = token(1)
    decoder_start_token_id: Any = token(0)

    @classmethod
    def translate(cls, values: dict[str, Any]) -> dict[str, Any]:
        """transformers writes of an encoder alone that it is no encoder-decoder."""
        alone = values.get("architectures") == ["T5EncoderModel"]
        return {key: value for key, value in values.items() if not (alone and key == "is_encoder_decoder")}

    def validate(self) -> None:
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers
        if self.scale_decoder_outputs is None:
            self.scale_decoder_outputs = self.tie_word_embeddings
        if self.act not in nn.ACTIVATIONS:
            known = ", ".join(nn.ACTIVATIONS)
            raise ConfigError(f"feed_forward_proj = {self.feed_forward_proj!r}: expected [gated-] and one of {known}")
        for key, follows in (("dense_act_fn", self.act), ("is_gated_act", self.gated)):  # obeyed by transformers
            if (found := self.extra.pop(key, follows)) != follows:
                raise ConfigError(f"{key} = {found!r} contradicts feed_forward_proj = {self.feed_forward_proj!r}")
        buckets, farthest = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets < 4 or farthest <= buckets // 2:  # half of the buckets are of one distance each, the others reach beyond
            raise ConfigError("expected relative_attention_num_buckets of at least 4 and relative_attention_max_distance above "
                              f"half of it, got {buckets} and {farthest}")  # fmt: skip

    @property
    def tied_unless_unequal(self) -> tuple[str, ...]:
        """transformers 5 writes T5 1.1, too, with tie_word_embeddings = true; that it isn't scaled tells it from T5 1.0."""
        return ("lm_head.weight", "shared.weight") if self.tie_word_embeddings and not self.scale_decoder_outputs else ()

    @property
    def gated(self) -> bool:
        return str(self.feed_forward_proj).startswith("gated-")

    @property
    def act(self) -> str:
        """ "gated-gelu" means the tanh form, as the first T5 1.1 checkpoints were written."""
        return "gelu_new" if self.feed_forward_proj == "gated-gelu" else str(self.feed_forward_proj).removeprefix("gated-")


def _sizes(width: int, kv: int, inner: int, depth: int, heads: int) -> dict[str, Any]:
    return {"vocab_size": 32128, "d_model": width, "d_kv": kv, "d_ff": inner, "num_layers": depth, "num_heads": heads}


_NEW = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
PRESETS = {
    "t5-small": _sizes(512, 64, 2048, 6, 8), "t5-base": _sizes(768, 64, 3072, 12, 12), "t5-large": _sizes(1024, 64, 4096, 24, 16),
    "t5-3b": _sizes(1024, 128, 16384, 24, 32), "t5-11b": _sizes(1024, 128, 65536, 24, 128),
    "t5-v1_1-small": _sizes(512, 64, 1024, 8, 6) | _NEW, "t5-v1_1-base": _sizes(768, 64, 2048, 12, 12) | _NEW,
    "t5-v1_1-large": _sizes(1024, 64, 2816, 24, 16) | _NEW, "t5-v1_1-xl": _sizes(2048, 64, 5120, 24, 32) | _NEW,
    "t5-v1_1-xxl": _sizes(4096, 64, 10240, 24, 64) | _NEW,
}  # fmt: skip

# -- layer recipe ------------------------------------------------------------------------------------------------------


def layer(c: T5Config, decoder: bool) -> nn.EncoderBlock:
    """Pre-norm with RMSNorm, no biases, no score scaling, dropout inside the feed-forward too."""
    D = c.d_model
    attn = lambda: nn.MultiHeadAttention(D, c.num_heads, head_width=c.d_kv, bias=False, scale=1.0, dropout=c.dropout_rate)
    mlp = nn.FeedForward(D, c.d_ff, c.act, gated=c.gated, bias=False, dropout=c.dropout_rate)
    norm = lambda: nn.RMSNorm(D, c.layer_norm_epsilon)
    if not decoder:
        return nn.EncoderBlock(attn(), mlp, norm(), norm(), norm_first=True, dropout=c.dropout_rate)
    return nn.DecoderBlock(attn(), mlp, norm(), norm(), norm_first=True, dropout=c.dropout_rate, cross=attn(), cross_norm=norm())


# -- embeddings and model ----------------------------------------------------------------------------------------------


def _names(stack: str, attentions: dict[str, str], gated: bool) -> Table:
    layer, block = f"{stack}.layers.*", f"{stack}.block.*.layer"
    table: Table = {f"{layer}.{part}_norm": f"{block}.{i}.layer_norm" for i, part in enumerate([*attentions, "mlp"])}
    for i, (ours, theirs) in enumerate(attentions.items()):
        table |= {f"{layer}.{ours}.{n}": f"{block}.{i}.{theirs}.{n}" for n in "qkvo"}
    mlp = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
    feed = f"{block}.{len(attentions)}.DenseReluDense"
    table |= {f"{layer}.mlp.{ours}": f"{feed}.{theirs}" for ours, theirs in mlp.items()}
    relative = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
    return table | {f"{stack}.relative": relative, f"{stack}.final_norm": f"{stack}.final_layer_norm"}


class T5Stack(Stack):
    """L blocks and a last norm; the first layer's relative bias serves them all."""

    def __init__(self, config: T5Config, decoder: bool) -> None:
        c = config
        self.relative = nn.RelativeBias(
            c.num_heads, c.relative_attention_num_buckets, c.relative_attention_max_distance, bidirectional=not decoder
        )  # fmt: skip
        self.layers = [layer(c, decoder) for _ in range(c.num_decoder_layers if decoder else c.num_layers)]
        self.final_norm = nn.RMSNorm(c.d_model, c.layer_norm_epsilon)
        self.drop = nn.Dropout(c.dropout_rate)

    def enter(self, x: Tensor, mask: nn.Mask) -> tuple[Tensor, nn.Mask]:
        T = x.shape[1]
        return self.drop(x), mask.with_bias(self.relative(T, mask.offset + T, mask.offset))

    def leave(self, x: Tensor) -> Tensor:
        return self.drop(self.final_norm(x))


class _T5(Model):
    config_class = T5Config

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config, decoder=False)

    def positions_limit(self) -> None:
        return None

    @property
    def base_names(self) -> Table:  # type: ignore[override]
        encoder = _names("encoder", {"attn": "SelfAttention"}, self.config.gated)
        decoder = _names("decoder", {"attn": "SelfAttention", "cross": "EncDecAttention"}, self.config.gated)
        return {"tokens": "shared", **encoder, **decoder}

    def initialiser(self, name: str) -> init.Initialiser:
        """Mesh TensorFlow's variances: what the missing K^-1/2 in the scores would do is done to q here."""
        c = self.config
        std = {
            "tokens": 1.0, "lm_head": 1.0, "down": c.d_ff**-0.5,
            "q": (c.d_model * c.d_kv) ** -0.5, "o": (c.num_heads * c.d_kv) ** -0.5,
            **dict.fromkeys(("k", "v", "gate", "up", "relative"), c.d_model**-0.5),
        }  # fmt: skip
        part = name.split(".")[-2]
        return init.normal(c.initializer_factor * std[part]) if part in std else super().initialiser(name)


class T5Model(_T5, EncoderDecoder):
    """Both stacks on one token embedding."""

    tied = dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), "tokens.weight")
    unused = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight", r"lm_head\.weight")

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.decoder = T5Stack(config, decoder=True)


class T5EncoderModel(_T5, EncoderSide):
    """The encoder alone, as models that make vectors of sentences have it."""

    tied = {"encoder.embed_tokens.weight": "tokens.weight"}
    unused = (r"decoder\..*", r"lm_head\.weight")

    def forward(self, *args: Any, **kwargs: Any) -> ModelOutput:
        """Hidden states (B, T, D) of ids (B, T): see `encode`."""
        return self.encode(*args, **kwargs)

    def sentence_embeddings(self, input_ids: Any = None, attention_mask: Any = None, **kwargs: Any) -> Tensor:
        """One vector per sequence, the mean of the real positions' states: (B, D)"""
        return mean_pool(self(input_ids, attention_mask, **kwargs).last_hidden_state, attention_mask)


# -- heads -------------------------------------------------------------------------------------------------------------


class T5ForConditionalGeneration(Seq2SeqLM, T5Model):
    """Next-token logits; T5 1.0 scales the states by D^-1/2 before the tied output matrix."""

    tied, unused = {**T5Model.tied, "lm_head.weight": "tokens.weight"}, T5Model.unused[:1]

    def scale(self) -> float:
        return self.config.d_model**-0.5 if self.config.scale_decoder_outputs else 1.0


register(Family(
    T5Config, PRESETS, {"base": T5Model, "seq2seq_lm": T5ForConditionalGeneration, "encoder": T5EncoderModel}, default="seq2seq_lm",
    architectures={"T5WithLMHeadModel": "seq2seq_lm"},
))  # fmt: skip
