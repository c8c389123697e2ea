"""Llama.   Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models"; the modern decoder

New in the paper: nothing but the choice of parts, and training a smaller model on more text than was usual.
Differs from GPT-2: rotary positions instead of learned ones, RMSNorm instead of LayerNorm, a gated SiLU feed-forward (SwiGLU),
no biases, no dropout, its own output matrix; later sizes share keys and values among groups of heads (GQA).
Three other families' checkpoints are the same recipe with one change each: Mistral (a sliding window), Qwen2 (biases on q,
k, v) and Qwen3 (RMSNorm on each head's q and k).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np

from .. import nn
from .base import Model
from .config import Config, ConfigError, anything, choice, flag, is_positive, layers, rate, size, small
from .heads import LastTokenClassification, TokenClassification
from .names import Table
from .registry import Family, register
from .stacks import CausalLM, Decoder

# -- config and presets ------------------------------------------------------------------------------------------------

TYPES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
THETA = 10000.0
#: by kind of scaling, the numbers it needs; llama3 also takes original_max_position_embeddings, by default the config's own
FACTORS = {"linear": ("factor",), "llama3": ("factor", "low_freq_factor", "high_freq_factor")}
#: biases that a config may ask for, by the types whose layers have a place for them
BIASES = {"attention_bias": ("llama", "qwen3"), "mlp_bias": ("llama",)}
#: what transformers takes a key for that a config.json leaves out
ABSENT: dict[str, dict[str, Any]] = {
    "llama": {"bos_token_id": 1, "eos_token_id": 2},
    "mistral": {"bos_token_id": 1, "eos_token_id": 2, "num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"num_key_value_heads": 32, "sliding_window": 4096},
    "qwen3": {"num_key_value_heads": 32, "sliding_window": 4096, "head_dim": 128},
}


@dataclasses.dataclass
class LlamaConfig(Config):
    ignored: ClassVar[frozenset[str]] = frozenset({"max_sequence_length"})

    model_type: str = choice("llama", *TYPES)  # type: ignore[misc]
    vocab_size: int = size()
    hidden_size: int = size()
    intermediate_size: int = size()
    num_hidden_layers: int = layers()
    num_attention_heads: int = size()
    num_key_value_heads: Any = size(None)
    head_dim: Any = size(None)
    max_position_embeddings: int = size()
    hidden_act: str = choice("silu", *nn.ACTIVATIONS)
    rms_norm_eps: float = small(1e-6)
    initializer_range: float = small(0.02)
    attention_bias: bool = flag(False)
    mlp_bias: bool = flag(False)
    attention_dropout: float = rate(0.0)
    tie_word_embeddings: bool = flag(False)
    rope_parameters: Any = anything(None)
    layer_types: Any = anything(None)
    sliding_window: Any = size(None)
    use_sliding_window: Any = anything(None)
    max_window_layers: int = layers(28, least=0)

    @classmethod
    def translate(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Older files say rope_theta and rope_scaling, newer ones rope_parameters; without model_type the class name decides.
        Biases that the type has no place for change no number, as in transformers."""
        named = str((values.get("architectures") or [""])[0])
        kind = values.get("model_type") or next((t for t, name in TYPES.items() if named.startswith(name)), "llama")
        values = {**ABSENT.get(str(kind), {}), **values, "model_type": kind}
        values = {key: value for key, value in values.items() if kind in BIASES.get(key, (kind,))}
        scaling, theta = values.pop("rope_scaling", None), values.pop("rope_theta", THETA)
        rope = scaling or values.get("rope_parameters") or {}  # the older word wins, as in transformers
        return {**values, "rope_parameters": {"rope_theta": theta, **rope} if isinstance(rope, dict) else rope}

    def validate(self) -> None:
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        if self.head_dim is None:
            self.divides("hidden_size", "num_attention_heads")
            self.head_dim = self.hidden_size // self.num_attention_heads
        self.divides("num_attention_heads", "num_key_value_heads")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim = {self.head_dim} is odd, and rotary positions turn pairs")
        for key, types in BIASES.items():
            if getattr(self, key) and self.model_type not in types:
                raise ConfigError(f"{key}: expected false for {self.model_type}, only {' and '.join(types)} may have these biases")
        self.rope_parameters = self.rope()
        if self.layer_types is not None and self.model_type != "llama":
            self.check_layer_types()

    def rope(self) -> dict[str, Any]:
        """`rope_parameters` with its kind under "rope_type" (old files call it "type") and θ filled in, every number checked."""
        given = {} if self.rope_parameters is None else self.rope_parameters
        if not isinstance(given, dict):
            raise ConfigError(f"rope_parameters (once rope_scaling): expected an object, got {given!r}")
        kind = given.get("rope_type", given.get("type", "default"))
        if not isinstance(kind, str) or kind not in nn.positions.SCALINGS:
            raise ConfigError(f"rope_parameters.rope_type = {kind!r} is not supported, only {', '.join(nn.positions.SCALINGS)}")
        rope = {"rope_theta": THETA, **given, "rope_type": kind}
        for key in ("rope_theta", *FACTORS.get(kind, ())):
            if not is_positive(rope.get(key)):
                raise ConfigError(f"rope_parameters.{key}: expected a positive number, got {rope.get(key)!r}")
        if kind == "llama3" and rope["high_freq_factor"] <= rope["low_freq_factor"]:
            raise ConfigError(f"rope_parameters.high_freq_factor = {rope['high_freq_factor']} must exceed low_freq_factor")
        return rope

    def check_layer_types(self) -> None:
        """Raise unless every layer has one of the two kinds of attention, and those with a window are told its size."""
        kinds = ("full_attention", "sliding_attention")
        if not isinstance(self.layer_types, list) or any(kind not in kinds for kind in self.layer_types):
            raise ConfigError(f"layer_types: expected a list of {' and '.join(kinds)}, got {self.layer_types!r}")
        if len(self.layer_types) != self.num_hidden_layers:
            raise ConfigError(f"layer_types names {len(self.layer_types)} layers, num_hidden_layers = {self.num_hidden_layers}")
        if kinds[1] in self.layer_types and not (self.has_windows() and self.sliding_window):
            raise ConfigError("layer_types has sliding_attention: use_sliding_window must be true and sliding_window an int")

    def has_windows(self) -> bool:
        """Mistral does, Qwen where it says so; Llama has no use for these keys, even if they are there."""
        return self.model_type == "mistral" or (self.model_type != "llama" and bool(self.use_sliding_window))

    def window(self, i: int) -> int | None:
        """Layer i's sliding window, None where it sees everything before it."""
        if not self.has_windows():
            return None
        if self.layer_types is not None:  # of Mistral too, which transformers' AutoModel then calls Ministral
            return self.sliding_window if self.layer_types[i] == "sliding_attention" else None
        return self.sliding_window if self.model_type == "mistral" or i >= self.max_window_layers else None

    def to_dict(self) -> dict[str, Any]:
        """Without what is None of these two: transformers' AutoModel takes a Mistral that has the key layer_types for a Ministral,
        and its Qwen configs want true or false for use_sliding_window."""
        absent = ("layer_types", None), ("use_sliding_window", None)
        return {key: value for key, value in super().to_dict().items() if (key, value) not in absent}


_LLAMA = {"vocab_size": 32000, "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2}
_THREE = {
    "vocab_size": 128256, "max_position_embeddings": 131072, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "bos_token_id": 128000,
    "eos_token_id": 128001, "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}  # fmt: skip


def _sizes(hidden: int, inner: int, depth: int, heads: int) -> dict[str, int]:
    return {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": depth, "num_attention_heads": heads}


PRESETS: dict[str, dict[str, Any]] = {
    "llama-7b": {**_LLAMA, **_sizes(4096, 11008, 32, 32)},
    "llama-13b": {**_LLAMA, **_sizes(5120, 13824, 40, 40)},
    "llama-30b": {**_LLAMA, **_sizes(6656, 17920, 60, 52)},
    "llama-65b": {**_LLAMA, **_sizes(8192, 22016, 80, 64)},
    "llama2-70b": {**_LLAMA, **_sizes(8192, 28672, 80, 64), "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
                   "max_position_embeddings": 4096},
    "llama3.1-8b": {**_THREE, **_sizes(4096, 14336, 32, 32)},
    "llama3.1-70b": {**_THREE, **_sizes(8192, 28672, 80, 64)},
    "mistral-7b": {**_LLAMA, **_sizes(4096, 14336, 32, 32), "model_type": "mistral", "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
                   "max_position_embeddings": 32768, "sliding_window": 4096},
    "qwen2-0.5b": {**_sizes(896, 4864, 24, 14), "model_type": "qwen2", "vocab_size": 151936, "num_key_value_heads": 2,
                   "max_position_embeddings": 131072, "tie_word_embeddings": True, "bos_token_id": 151643, "eos_token_id": 151643,
                   "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}},
    "qwen3-0.6b": {**_sizes(1024, 3072, 28, 16), "model_type": "qwen3", "vocab_size": 151936, "head_dim": 128,
                   "num_key_value_heads": 8,
                   "max_position_embeddings": 40960, "tie_word_embeddings": True, "bos_token_id": 151643, "eos_token_id": 151645,
                   "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}},
}  # fmt: skip

# -- layer recipe ------------------------------------------------------------------------------------------------------


def layer(c: LlamaConfig) -> nn.DecoderBlock:
    """Pre-norm with RMSNorm, grouped queries, gated feed-forward, no biases, no dropout on the residual stream."""
    D = c.hidden_size
    norm = functools.partial(nn.RMSNorm, eps=c.rms_norm_eps)
    attn = nn.MultiHeadAttention(
        D, c.num_attention_heads, kv_heads=c.num_key_value_heads, head_width=c.head_dim, dropout=c.attention_dropout,
        bias=c.attention_bias or c.model_type == "qwen2", out_bias=c.attention_bias,
        qk_norm=norm if c.model_type == "qwen3" else None,
    )  # fmt: skip
    mlp = nn.FeedForward(D, c.intermediate_size, c.hidden_act, gated=True, bias=c.mlp_bias)
    return nn.DecoderBlock(attn, mlp, norm(D), norm(D), norm_first=True)


# -- embeddings and model ----------------------------------------------------------------------------------------------

NAMES: Table = {
    "tokens": "embed_tokens",
    "layers.*.attn_norm": "layers.*.input_layernorm",
    "layers.*.attn.q": "layers.*.self_attn.q_proj",
    "layers.*.attn.k": "layers.*.self_attn.k_proj",
    "layers.*.attn.v": "layers.*.self_attn.v_proj",
    "layers.*.attn.o": "layers.*.self_attn.o_proj",
    "layers.*.attn.q_norm": "layers.*.self_attn.q_norm",
    "layers.*.attn.k_norm": "layers.*.self_attn.k_norm",
    "layers.*.mlp_norm": "layers.*.post_attention_layernorm",
    "layers.*.mlp.gate": "layers.*.mlp.gate_proj",
    "layers.*.mlp.up": "layers.*.mlp.up_proj",
    "layers.*.mlp.down": "layers.*.mlp.down_proj",
    "final_norm": "norm",
}


class _Llama(Model):
    config_class = LlamaConfig
    base_prefix = "model"
    base_names = NAMES


class LlamaModel(Decoder, _Llama):
    """Tokens, L pre-norm blocks whose q and k are turned by their positions, a last norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        rope = {"original_max_position_embeddings": config.max_position_embeddings, **config.rope_parameters}
        self.rotary = nn.Rotary(config.head_dim, rope["rope_theta"], rope)
        self.layers = [layer(config) for _ in range(config.num_hidden_layers)]
        self.final_norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def positions_limit(self) -> None:
        return None

    def turn(self, positions: np.ndarray, dtype: Any) -> dict[str, Any]:
        return {"rotary": self.rotary(positions, dtype)}

    def window(self, i: int) -> int | None:
        return self.config.window(i)


# -- heads -------------------------------------------------------------------------------------------------------------


class LlamaForCausalLM(CausalLM, _Llama):
    """Next-token logits, from an output matrix of its own unless tied."""

    base_class = LlamaModel


class LlamaForSequenceClassification(LastTokenClassification, _Llama):
    base_class = LlamaModel


class LlamaForTokenClassification(TokenClassification, _Llama):
    base_class, rate = LlamaModel, 0.1
    head_names: ClassVar[Table] = {"classifier": "score"}


HEADS: dict[str, type[Model]] = {
    "base": LlamaModel, "causal_lm": LlamaForCausalLM, "sequence_classification": LlamaForSequenceClassification,
    "token_classification": LlamaForTokenClassification,
}  # fmt: skip

register(
    Family(
        LlamaConfig, PRESETS, HEADS, default="causal_lm", model_types=tuple(TYPES),
        architectures={n + cls.__name__.removeprefix("Llama"): head for n in TYPES.values() for head, cls in HEADS.items()},
        architecture_of=lambda model: TYPES[model.config.model_type] + type(model).__name__.removeprefix("Llama"),
    )
)  # fmt: skip
