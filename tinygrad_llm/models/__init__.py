"""Model families, one file each: lay `bert.py` beside `t5.py` and read what differs.

create("gpt2")    a preset with random weights    load("directory")                a Hugging Face checkpoint
list()            the presets' names              count_parameters("gpt3-175b")    without allocating

model(input_ids=ids, labels=labels) has `.loss` and `.logits`; model.generate(ids, max_new_tokens=50) returns ids. Both take
inputs_embeds (B, T, D), vectors in place of ids; other arguments are those of transformers. For a tokenizer with more tokens,
model.resize_token_embeddings(vocab_size).
"""

import re
import sys
from typing import Any

from ..autograd.elsewhere import OF_MODELS, OTHER_HEAD, no_attribute
from . import albert as albert
from . import bart as bart
from . import bert as bert
from . import electra as electra
from . import gpt as gpt
from . import gpt2 as gpt2
from . import gpt3 as gpt3
from . import llama as llama
from . import registry as registry
from . import roberta as roberta
from . import t5 as t5
from . import transformer as transformer
from .base import Model
from .checkpoint import load
from .config import Config, ConfigError
from .memory import cards, describe
from .outputs import ModelOutput
from .registry import Family, count_parameters, create, families, preset_config, register, skeleton
from .registry import names as list  # noqa: A004
from .tensor_file import CheckpointError

__all__ = [
    "CheckpointError", "Config", "ConfigError", "Family", "Model", "ModelOutput", "cards", "compare", "count_parameters", "create",
    "describe", "families", "list", "load", "preset_config", "register", "skeleton",
]  # fmt: skip


def compare(a: str, b: str):
    """(row, what a has, what b has) wherever two families, presets or checkpoints differ."""
    from .differences import compare

    return compare(a, b)


def __getattr__(name: str) -> Any:
    """What transformers has and this room has not: the error says how it is written."""
    hint = None
    if name.startswith("AutoModelFor") or registry.is_architecture(name):
        hint = OF_MODELS["AutoModel"]
    elif re.fullmatch("[A-Z][A-Za-z0-9]+Config", name):
        hint = OF_MODELS["AutoConfig"]
    elif re.fullmatch("[A-Z][A-Za-z0-9]+Tokenizer(Fast)?", name):
        hint = OF_MODELS["AutoTokenizer"]
    elif re.fullmatch("[A-Z][A-Za-z0-9]+For[A-Z][A-Za-z0-9]+", name):
        hint = OTHER_HEAD
    raise no_attribute(sys.modules[__name__], name, OF_MODELS if hint is None else {**OF_MODELS, name: OF_MODELS.get(name, hint)})
