"""Configs: each family's sizes and rates under transformers' names, read from `config.json` with every value checked.

A family declares a dataclass of fields made by `size`, `rate`, `small`, `flag`, `choice`, `token` and `anything`. Keys that a
config.json may hold besides are either `fixed` (only one value is implemented; another is refused) or ignored because they
change no number.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

MAX_SIZE = 2**31 - 1  # more than any published size; a typo of a few zeros is caught here, before anything is built


class ConfigError(ValueError):
    """A config with a missing, unknown or impossible value; the message names the key."""


# -- fields ------------------------------------------------------------------------------------------------------------


def _field(good: Callable[[Any], bool], expected: str, default: Any, **metadata: Any) -> Any:
    """A field that must be there without a default, `...`; with the default None it may be None."""
    given = dataclasses.MISSING if default is ... else default
    return dataclasses.field(default=given, kw_only=True, metadata={"good": good, "expected": expected, **metadata})


def is_int(value: Any, least: int, limit: float = math.inf) -> bool:
    """Whether it is an int, and no bool, from `least` to `limit`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= limit


def is_number(value: Any) -> bool:
    """Whether it is an int or a float, and no bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_positive(value: Any) -> bool:
    """Whether it is a finite number above 0."""
    return is_number(value) and 0.0 < value < math.inf


def size(default: Any = ..., limit: int = MAX_SIZE, least: int = 1) -> Any:
    """An int from `least` on."""
    return _field(lambda value: is_int(value, least, limit), f"an int from {least} to {limit}", default)


def layers(default: Any = ..., least: int = 1) -> Any:
    """A number of layers."""
    return size(default, limit=10_000, least=least)


def rate(default: Any) -> Any:
    """A dropout probability in [0, 1)."""
    return _field(lambda value: is_number(value) and 0.0 <= value < 1.0, "a probability in [0, 1)", default, rate=True)


def small(default: Any) -> Any:
    """A positive float such as an epsilon or a standard deviation."""
    return _field(is_positive, "a positive number", default)


def flag(default: Any) -> Any:
    """True or False."""
    return _field(lambda value: isinstance(value, bool), "true or false", default)


def choice(default: Any, *others: str) -> Any:
    """One of several strings; the first is the default."""
    names = list(dict.fromkeys((default, *others)))
    return _field(lambda value: value in names, f"one of {', '.join(map(repr, names))}", default)


def token(default: Any = None) -> Any:
    """A token id, a list of them, or None."""

    def good(value: Any) -> bool:
        ids = value if isinstance(value, list) else [value]
        return value is None or (bool(ids) and all(is_int(i, -1) for i in ids))

    return _field(good, "a token id or null", default)


def anything(default: Any) -> Any:
    """A value that the family's own `validate` checks."""
    return _field(lambda value: True, "", default)


# -- what a config.json holds besides ----------------------------------------------------------------------------------

IGNORED = frozenset(
    """_name_or_path _attn_implementation _attn_implementation_autoset _commit_hash _num_labels architectures auto_map
    bad_words_ids begin_suppress_tokens bos_token cls_token_id mask_token_id transformers_weights use_return_dict xla_device
    chunk_size_feed_forward custom_pipelines decoder diversity_penalty do_sample dtype early_stopping
    encoder_no_repeat_ngram_size eos_token exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id generation_config gradient_checkpointing id2label initializer_factor initializer_range
    keys_to_ignore_at_inference label2id language length_penalty max_length min_length model_type n_ctx name_or_path
    no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences output_attentions output_hidden_states
    output_past output_scores pad_token predict_special_tokens prefix pretraining_tp problem_type remove_invalid_values
    repetition_penalty return_dict return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature
    tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torch_dtype torchscript transformers_version
    transformers.js_config typical_p use_bfloat16 use_cache vocab_file bos_token_id eos_token_id pad_token_id
    decoder_start_token_id summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
    summary_last_dropout reorder_and_upcast_attn _flash_attn_2_enabled adapters author created_date crf_state_dict directionality
    is_llama_config kobart_version license name pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
    pooler_size_per_head pooler_type save_step sbert_ce_default_activation_function sentence_transformers unsloth_fixed
    unsloth_version vocab_size_or_config_json_file""".split()
)
OTHER_WORDS = {  # of nanoGPT, PyTorch and others -> transformers' common name
    **dict.fromkeys(("block_size", "context_length", "context", "max_len", "max_length", "max_seq_len", "n_ctx"),
                    "max_position_embeddings"),
    **dict.fromkeys(("d_model", "dim", "emb_dim", "embed_dim", "width"), "hidden_size"),
    **dict.fromkeys(("num_layers", "n_layers", "depth", "layers"), "num_hidden_layers"),
    **dict.fromkeys(("num_heads", "n_heads", "nhead", "heads"), "num_attention_heads"),
    **dict.fromkeys(("dim_feedforward", "d_ff", "ffn_dim", "hidden_dim"), "intermediate_size"),
    "num_classes": "num_labels", "vocabulary": "vocab_size",
}  # fmt: skip
WRITTEN_ANEW = ("architectures", "transformers_version", "transformers_weights", "dtype", "torch_dtype")  # not kept for save
QUANTIZED = ("quantization", "quantization_config")  # weights in other numbers than floats: GPTQ's, AWQ's, bitsandbytes', MLX's
OFF = (None, False, 0, 0.0, [], {}, "")  # an unknown feature that is switched off changes no number


@dataclasses.dataclass
class Config:
    """Base of the families' configs. `config.hidden_size` works for every family, whatever its own key is called."""

    model_type: ClassVar[str] = ""
    attribute_map: ClassVar[dict[str, str]] = {}  # transformers' common name -> the family's key
    fixed: ClassVar[dict[str, Any]] = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}
    ignored: ClassVar[frozenset[str]] = frozenset()
    absent: ClassVar[dict[str, Any]] = {}  # what transformers takes a key for that a config.json leaves out, if not our default

    pad_token_id: Any = token()
    bos_token_id: Any = token()
    eos_token_id: Any = token()
    tie_word_embeddings: bool = flag(True)
    num_labels: int = size(2)
    problem_type: Any = choice(None, "regression", "single_label_classification", "multi_label_classification")
    extra: dict[str, Any] = dataclasses.field(default_factory=dict, kw_only=True, repr=False)  # ignored keys, written back by save

    @property
    def tied_unless_unequal(self) -> tuple[str, ...]:
        """Two published names that are one matrix, unless a file holds both and they differ; none where the config decides."""
        return ()

    def __getattr__(self, name: str) -> Any:  # only called for what is not there under its own name
        mapped = type(self).attribute_map.get(name)
        if mapped is None:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return getattr(self, mapped)

    @property
    def id2label(self) -> dict[int, str]:
        """The classes' names, LABEL_0, LABEL_1, ... where nobody gave them others. Set it, and there are as many classes."""
        given = self.extra.get("id2label")
        if isinstance(given, dict) and len(given) == self.num_labels:
            return {int(i): str(name) for i, name in sorted(given.items(), key=lambda item: int(item[0]))}
        return {i: f"LABEL_{i}" for i in range(self.num_labels)}

    @id2label.setter
    def id2label(self, names: Mapping[int, str]) -> None:
        self.extra = {**self.extra, **_classes({"id2label": names})}
        self.num_labels = len(names)

    @property
    def label2id(self) -> dict[str, int]:
        """The classes by their names."""
        return _turned(self.id2label)

    @label2id.setter
    def label2id(self, ids: Mapping[str, int]) -> None:
        self.id2label = _turned(ids)

    def validate(self) -> None:
        """What a family checks about values together, and derives for those that are None; raises ConfigError."""

    def __post_init__(self) -> None:
        """Check every value, then the family's own rules."""
        for field in dataclasses.fields(self):
            if field.name != "extra":
                value, expected = getattr(self, field.name), field.metadata["expected"]
                good = (value is None and field.default is None) or field.metadata["good"](value)
                if not good:
                    raise ConfigError(f"{type(self).__name__}.{field.name}: expected {expected}, got {value!r}")
        unset = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is None]
        self.validate()
        self._derived = {name: getattr(self, name) for name in unset}

    def divides(self, whole: str, part: str) -> None:
        """Raise unless `part` divides `whole`."""
        if getattr(self, whole) % getattr(self, part):
            raise ConfigError(f"{whole} = {getattr(self, whole)} is not a multiple of {part} = {getattr(self, part)}")

    def replace(self, **overrides: Any) -> Config:
        """A copy with some values changed, and those derived from them derived anew.

        Common names work too; `dropout` sets every dropout rate that has no own name, and id2label or label2id name the classes.
        """
        names = {field.name for field in dataclasses.fields(self)}
        changed: dict[str, Any] = {name: None for name, value in self._derived.items() if getattr(self, name) == value}
        named = {name: overrides.pop(name) for name in ("id2label", "label2id") if name in overrides}
        if named:
            changed["extra"] = {**self.extra, **_classes(named)}
            changed["num_labels"] = n = len(changed["extra"]["id2label"])
            if overrides.get("num_labels", n) != n:
                raise ConfigError(f"num_labels = {overrides['num_labels']}, but there are names for {n} classes")
        for name, value in overrides.items():
            name = type(self).attribute_map.get(name, name)
            if name == "dropout" and "dropout" not in names:
                rates = [f.name for f in dataclasses.fields(self) if "rate" in f.metadata and f.default is not None]
                changed |= dict.fromkeys(rates, value)
            elif name in names and name != "extra":
                changed[name] = value
            else:
                raise ConfigError(f"{type(self).__name__} has no {name!r}{_nearest(name, names | set(type(self).attribute_map))}")
        return dataclasses.replace(self, **changed)

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "config.json") -> Config:
        """Read what `config.json` holds. Missing, unknown and impossible values raise ConfigError naming `source` and the key."""
        fields = {f.name: f for f in dataclasses.fields(cls) if f.name != "extra"}
        values = cls.translate({**cls.absent, **values})
        given = {cls.attribute_map.get(k, k): v for k, v in values.items() if k != "model_type" or k in fields}
        if "num_labels" not in given and isinstance(given.get("id2label"), dict):
            given["num_labels"] = len(given["id2label"])
        known, extra = {}, {}
        for key, value in given.items():
            if key in fields:
                known[key] = value
            elif key in cls.fixed:
                if value != cls.fixed[key]:
                    raise ConfigError(f"{source}: {key} = {value!r} is not supported, only {cls.fixed[key]!r}")
            elif key in IGNORED or key in cls.ignored or value in OFF:
                extra[key] = value
            elif key in QUANTIZED:
                raise ConfigError(f"{source}: {key}: quantized weights are not supported; load the one that was quantized")
            else:
                raise ConfigError(
                    f"{source}: unknown key {key!r} = {value!r} for model_type {given.get('model_type', cls.model_type)!r}"
                    f"{_nearest(key, set(fields) | set(cls.attribute_map))}; remove it if it changes nothing"
                )
        missing = [n for n, f in fields.items() if n not in known and f.default is dataclasses.MISSING]
        if missing:
            raise ConfigError(f"{source}: missing {', '.join(missing)}")
        try:
            return cls(**known, extra={k: v for k, v in extra.items() if k not in WRITTEN_ANEW})
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None

    @classmethod
    def translate(cls, values: dict[str, Any]) -> dict[str, Any]:
        """A family's chance to bring older or newer spellings of its keys into one."""
        return values

    def to_dict(self) -> dict[str, Any]:
        """What goes into `config.json`."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("extra", "num_labels")}
        labels = self.extra.get("id2label")
        if not isinstance(labels, dict) or len(labels) != self.num_labels:
            own |= _classes({"id2label": self.id2label})
        return {"model_type": self.model_type, **self.extra, **own}


def _classes(named: dict[str, Any]) -> dict[str, Any]:
    """id2label and label2id as config.json holds them, from one of them or both."""
    for key, value in named.items():
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}: expected a dict of the classes' names and numbers, got {value!r}")
    numbers = {str(name): int(i) for name, i in named["label2id"].items()} if "label2id" in named else None
    names = {int(i): str(name) for i, name in (named.get("id2label") or _turned(numbers or {})).items()}
    if sorted(names) != list(range(len(names))) or not names:
        raise ConfigError(f"id2label: expected the classes 0, 1, 2, ... by name, each once, got {sorted(names)}")
    turned = _turned(names)
    if len(turned) != len(names) or (numbers is not None and numbers != turned):
        raise ConfigError(f"id2label and label2id: expected one name for each class and the same in both, got {named}")
    return {"id2label": {str(i): names[i] for i in sorted(names)}, "label2id": {names[i]: i for i in sorted(names)}}


def _turned(names: Mapping[Any, Any]) -> dict[Any, Any]:
    return {value: key for key, value in names.items()}


def _nearest(name: str, names: Any) -> str:
    other, names = OTHER_WORDS.get(name), sorted(names)
    close = difflib.get_close_matches(name, names, 1, cutoff=0.8) or [n for n in names if n == other]
    close = close or difflib.get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
