"""The registry: which family, preset and head a name or a checkpoint's `architectures` means."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..nn import init
from .base import Model
from .config import Config


@dataclass(frozen=True)
class Family:
    """What a family's file declares at its end: config, presets, its models by head, and the head a preset gets by default."""

    config: type[Config]
    presets: dict[str, dict[str, Any]]
    models: dict[str, type[Model]]
    default: str
    model_types: tuple[str, ...] = ()  # of config.json; the config's own by default
    architectures: dict[str, str] = field(default_factory=dict)  # further class names in checkpoints -> head
    architecture_of: Callable[[Model], str] | None = None  # the class name to save, where it is not our class's

    @property
    def name(self) -> str:
        """That of its file."""
        return self.config.__module__.rsplit(".", 1)[-1]


families: dict[str, Family] = {}  # by family name ("gpt2")
_presets: dict[str, tuple[Family, str]] = {}
_architectures: dict[str, tuple[Family, str]] = {}

ALIASES = {
    "bert-base-uncased": "bert-base", "bert-large-uncased": "bert-large", "openai-gpt": "gpt", "gpt1": "gpt", "gpt2-small": "gpt2",
    "albert-base-v2": "albert-base", "albert-large-v2": "albert-large", "albert-xlarge-v2": "albert-xlarge",
    "albert-xxlarge-v2": "albert-xxlarge", "electra-small-discriminator": "electra-small", "gpt3": "gpt3-175b",
    "electra-base-discriminator": "electra-base", "electra-large-discriminator": "electra-large", "transformer": "transformer-base",
    "llama": "llama-7b", "llama2-7b": "llama-7b", "llama2-13b": "llama-13b",
}  # fmt: skip


def register(family: Family) -> Family:
    """Enter a family."""
    families[family.name] = family
    _presets.update({name: (family, name) for name in family.presets})
    heads = {cls.__name__: head for head, cls in family.models.items()} | family.architectures
    _architectures.update({name: (family, head) for name, head in heads.items()})
    return family


def place_of(model: Model) -> tuple[Family, str]:
    """(family, head) of a model; a class that no family declares is an error."""
    name = type(model).__name__
    if name not in _architectures:
        raise TypeError(f"{name}: expected a model of a registered family; enter yours with models.register(Family(...))")
    return _architectures[name]


def head_of(model: Model) -> str:
    """"causal_lm", "base", ...: what a model of ours has on top."""
    return place_of(model)[1]


def names() -> list[str]:
    """The presets' names, family by family."""
    return list(_presets)


def is_name(name: str) -> bool:
    """Whether a preset or an alias is called so, in any case."""
    return name.lower() in _presets or name.lower() in ALIASES


def is_architecture(name: str) -> bool:
    """Whether a checkpoint's `architectures` may say so."""
    return name in _architectures


def find(name: str, also: str = "") -> tuple[Family, str]:
    """(family, preset) for a preset's name or alias, in any case. also: what else the name is not, for the error."""
    key = name.lower()
    key = ALIASES.get(key, key)
    if key not in _presets:
        close = difflib.get_close_matches(key, list(_presets), 3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(_presets)}"
        raise ValueError(f"no model named {name!r}{also}; {hint}")
    return _presets[key]


def preset_config(name: str, **overrides: Any) -> Config:
    """The preset's config with some values changed."""
    family, preset = find(name)
    return family.config(**family.presets[preset]).replace(**overrides)


def model_class(name: str, head: str | None = None) -> type[Model]:
    """The class of a preset with the given head, or with the one the preset is published with."""
    family, _ = find(name)
    head = head or family.default
    if head not in family.models:
        raise ValueError(f"{name}: no head {head!r}; there are {', '.join(family.models)}")
    return family.models[head]


def by_architecture(name: str, source: str, model_type: Any) -> tuple[Family, type[Model]]:
    """The family and class of an entry in a config.json's `architectures`; its `model_type` tells a typo from another family."""
    if name not in _architectures:
        own = [a for a, (family, _) in _architectures.items() if model_type is None or model_type in types_of(family)]
        close = difflib.get_close_matches(name, own, 1, cutoff=0.9)
        if close:
            hint = f"did you mean {close[0]!r}?"
        elif own:
            hint = f"supported are {', '.join(sorted(own))}; with architecture=... `load` puts another head on the same base"
        else:
            hint = f"its model_type {model_type!r} is not supported, only {', '.join(model_types())}"
        raise ValueError(f"{source}: unknown architecture {name!r}; {hint}")
    family, head = _architectures[name]
    if model_type is not None and model_type not in types_of(family):
        raise ValueError(f"{source}: {name} does not go with model_type {model_type!r}, only {', '.join(types_of(family))}")
    return family, family.models[head]


def by_model_type(model_type: str, source: str) -> Family:
    """The family of a config.json's `model_type`."""
    for family in families.values():
        if model_type in types_of(family):
            return family
    raise ValueError(f"{source}: unknown model_type {model_type!r}; supported are {', '.join(model_types())}")


def model_types() -> list[str]:
    """All values of `model_type` that can be read."""
    return [t for f in families.values() for t in types_of(f)]


def types_of(family: Family) -> tuple[str, ...]:
    """The values of `model_type` that mean this family."""
    return family.model_types or (family.config.model_type,)


def create(
    name: str, head: str | None = None, *, rng: np.random.Generator | None = None, dtype: Any = np.float32, **overrides: Any
) -> Any:
    """A preset with random weights: ``create("gpt2", num_hidden_layers=6)``, ``create("bert-base", head="masked_lm")``.

    `overrides` are keys of the family's config, or transformers' common names (hidden_size, num_hidden_layers,
    num_attention_heads, max_position_embeddings), or `dropout` for all rates at once; id2label={0: "no", 1: "yes"} names classes.
    """
    return model_class(name, head)(preset_config(name, **overrides), rng=rng, dtype=dtype)


def skeleton(name: str, head: str | None = None, **overrides: Any) -> Any:
    """The preset as a model whose parameters have shapes but no memory."""
    with init.skeleton():
        return model_class(name, head)(preset_config(name, **overrides))


def skeleton_of(name: str | int | float, **overrides: Any) -> Any:
    """The skeleton of a preset, or of the checkpoint in a directory."""
    from .checkpoint import config_in

    folder = Path(str(name))
    if not (folder / "config.json").is_file():
        find(str(name), "" if folder.exists() else ", and no such directory")
        return skeleton(str(name), **overrides)
    cls, config = config_in(folder)
    with init.skeleton():
        return cls(config.replace(**overrides))


def count_parameters(name: str, head: str | None = None, **overrides: Any) -> int:
    """How many parameters the preset has, tied ones counted once. Allocates none of them."""
    return skeleton(name, head, **overrides).num_parameters()
