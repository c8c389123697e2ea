"""Model: what all families share: a config, parameters that are filled once, published names, saving, the protocol of generation.

The protocol that `tinygrad_llm.generate` uses (any model that can generate has it):

    model.can_generate                    True
    model.config                          pad_token_id, eos_token_id, bos_token_id, decoder_start_token_id (seq2seq)
    model.generation_config               what generation_config.json says; None: what it would say stands in the config
    model.is_encoder_decoder              False: decoder only; True: encoder and decoder
    cache = model.make_cache(capacity)    a KVCache, of less capacity where the model has fewer positions
    model(input_ids=..., attention_mask=..., position_ids=..., past_key_values=cache, logits_to_keep=...)
                                          decoder only: ids of the new positions, attention_mask (B, past + new); the cache is
                                          filled in place and counts itself forward; of a prompt the last logits are asked for
    encoded = model.encode(input_ids=..., attention_mask=...)
                                          seq2seq: once per prompt, then
    model(encoder_outputs=encoded, attention_mask=..., decoder_input_ids=..., past_key_values=cache)

A prompt of vectors goes to the first call of a decoder, or to `encode`, as inputs_embeds (B, T, D) in place of input_ids.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kernels.arrays import empty

from .. import nn
from ..autograd import Tensor, checkpoint, generator
from ..nn import init
from ..nn.blocks import with_patterns
from .config import Config
from .memory_limit import check_room
from .names import Stored, Table, prefixed, translate


class _Building(type):
    """Models are built without memory, then filled once by their family's initialiser (or by `load`, from a file)."""

    def __call__(cls, config: Config, *, rng: np.random.Generator | None = None, dtype: Any = np.float32, **options: Any) -> Any:
        outermost = not init.in_skeleton()
        with init.skeleton():
            model = super().__call__(config, **options)
        if outermost:
            model.initialise(rng, dtype)
        return model


class Model(nn.Module, metaclass=_Building):
    """Base of every family's models. `Cls(config, rng=None, dtype=np.float32)` has the random weights of its paper."""

    config_class: ClassVar[type[Config]] = Config
    base_prefix: ClassVar[str] = ""  # the attribute that holds the base model, and its prefix in published names
    base_names: ClassVar[Table] = {}  # the base model's table of published names
    head_names: ClassVar[Table] = {}  # the head's
    buffers: ClassVar[dict[str, str]] = {}  # constants that checkpoints hold: our attribute -> published name
    tied: ClassVar[dict[str, str]] = {}  # published names that repeat a tied parameter -> that parameter of ours
    unused: ClassVar[tuple[str, ...]] = ()  # published names (regular expressions) that this model has no use for
    is_encoder_decoder: ClassVar[bool] = False
    can_generate: ClassVar[bool] = False
    generation_config: dict[str, Any] | None = None  # a checkpoint's generation_config.json, written back by save
    _recompute: bool = False

    def __init__(self, config: Config) -> None:
        if not isinstance(config, self.config_class):
            raise TypeError(f"{type(self).__name__}: expected a {self.config_class.__name__}, got {type(config).__name__}")
        self.config = config

    @property
    def recompute(self) -> bool:
        """Activation checkpointing, off at first: keep only the blocks' inputs for backward, and run each block once more there.

        Set it on any model; the models and stacks inside follow.
        """
        return self._recompute

    @recompute.setter
    def recompute(self, wanted: bool) -> None:
        for module in self.modules():
            object.__setattr__(module, "_recompute", bool(wanted))

    # -- parameters --------------------------------------------------------------------------------------------------

    def initialiser(self, name: str) -> init.Initialiser:
        """How the parameter of this name is filled. The default: norms one, biases zero, the rest N(0, initializer_range²)."""
        if name.endswith("bias"):
            return init.zeros
        if name.endswith("norm.weight"):
            return init.ones
        return init.normal(self.config.initializer_range)

    def initialise(self, rng: np.random.Generator | None = None, dtype: Any = np.float32) -> None:
        """Give every parameter memory and its random value, in the order of their names; the same seed gives the same bits."""
        rng = generator(rng)
        self.check_room(dtype)
        for name, value in self.named_parameters():
            array = empty(value.shape, dtype)
            self.initialiser(name)(array, rng)
            fill(value, array)

    def check_room(self, dtype: Any) -> None:
        """MemoryError if the weights are more than the machine can hold."""
        n, dtype = self.num_parameters(), np.dtype(dtype)
        check_room(f"{type(self).__name__} with {n:,} parameters in {dtype}", n * dtype.itemsize)

    def weight_names(self) -> dict[str, Stored]:
        """Our name -> where that parameter lies in a published checkpoint, each parameter once."""
        return {name: self.stored_as(name) for name, _ in self.named_parameters()}

    def stored_as(self, name: str) -> Stored:
        """Where one parameter lies in a published checkpoint."""
        prefix = self.base_prefix
        if not self.holds_base():
            return translate(self.base_names, name)
        if name.startswith(prefix + "."):
            return prefixed(translate(self.base_names, name[len(prefix) + 1 :]), prefix)
        return translate(self.head_names, name)

    def holds_base(self) -> bool:
        """True for a model with a head: its base model is the attribute `base_prefix`."""
        return bool(self.base_prefix) and self.base_prefix in vars(self)

    def without_head(self) -> Model:
        """The base model: itself where it has no head."""
        return getattr(self, self.base_prefix) if self.holds_base() else self

    def save(self, directory: str | Path, dtype: Any = None, shard_bytes: int = 5 * 10**9) -> None:
        """Write config.json and model.safetensors as transformers reads them. `dtype`: "float32", "float16" or "bfloat16"."""
        from .saving import save

        save(self, directory, dtype, shard_bytes)

    # -- other vocabularies ------------------------------------------------------------------------------------------

    def resize_token_embeddings(self, vocab_size: int) -> Model:
        """Give the vocabulary more tokens, after its last, or fewer, in place. Returns self.

        A new token's row in the embedding and in the output matrix is the mean of the old ones; so is its output bias or, beside
        a tied matrix, 0: as in transformers. An optimizer is made afterwards.
        """
        self.refuse_if_quantized("resize_token_embeddings")
        config = self.config.replace(vocab_size=vocab_size)
        with init.skeleton():
            old, new = type(self)(self.config), type(self)(config)
        before, after = dict(old.named_parameters()), dict(new.named_parameters())
        for name, value in self.named_parameters():
            if name in before and before[name].shape != after[name].shape:  # vocab_size rows
                array, kept = empty(after[name].shape, value.dtype), value._data[:vocab_size]
                tied_bias = value.ndim == 1 and self.config.tie_word_embeddings
                array[: len(kept)], array[len(kept) :] = kept, 0.0 if tied_bias else value._data.mean(axis=0)
                wanted, value.grad = value.requires_grad, None
                fill(value, array)
                value.requires_grad_(wanted)
        for name in self.buffers:
            held, wide = getattr(self, name), getattr(new, name).shape[-1]
            setattr(self, name, np.pad(held[..., :wide], [(0, 0)] * (held.ndim - 1) + [(0, max(wide - held.shape[-1], 0))]))
        for module in self.modules():
            if isinstance(module, Model):
                vars(module.config)["vocab_size"] = vocab_size
        return self

    # -- eight bits --------------------------------------------------------------------------------------------------

    def quantize(self, kind: str = "int8") -> Model:
        """Keep the weights of all Linear layers in eight bits, in place, for faster generation. Returns self.

        A tied output layer gets a copy of the embedding in eight bits; look-ups keep the floats. Afterwards the model neither
        learns (it runs under `no_grad` alone) nor saves.
        """
        if kind != "int8":
            raise ValueError(f'quantize: expected "int8", got {kind!r}')
        for name, value in self.named_parameters():
            if value.dtype != np.float32:
                raise TypeError(f"quantize: expected a float32 model, but {name} is {value.dtype}; call astype(np.float32) first")
        modules = dict(self.named_modules())
        for path, module in modules.items():
            if isinstance(module, nn.Linear):
                module.quantize()
            elif isinstance(module, Model) and module.config.tie_word_embeddings:
                for alias, name in module.tied.items():
                    if alias.endswith("embed_tokens.weight"):  # another name of the look-up, no output layer
                        continue
                    table = modules[".".join(filter(None, (path, name.rsplit(".", 1)[0])))]
                    if isinstance(table, nn.Embedding):
                        table.quantize()
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """Path -> parameter; see `Module.state_dict`. A quantized model has lost its weights and refuses."""
        self.refuse_if_quantized("state_dict")
        return super().state_dict()

    def refuse_if_quantized(self, what: str) -> None:
        """An error where the float weights are needed that `quantize` has replaced."""
        if any(isinstance(m, nn.Linear) and isinstance(m.weight, nn.Int8Weight) for m in self.modules()):
            raise RuntimeError(f"{what}: this model was quantized, its float weights are gone; save before you call quantize")

    # -- generation --------------------------------------------------------------------------------------------------

    def make_cache(self, capacity: int = 256) -> nn.KVCache:
        """An empty cache for this model's decoder."""
        raise TypeError(f"{type(self).__name__} has no decoder to cache for")

    def generate(self, input_ids: Any = None, attention_mask: Any = None, *args: Any, **kwargs: Any) -> np.ndarray:
        """Continue the prompts: see `tinygrad_llm.generate.generate` for the arguments. Returns int64 ids."""
        from ..generate import generate

        return generate(self, input_ids, attention_mask, *args, **kwargs)


class BaseModel(Model):
    """A family's model without a head."""

    tokens: nn.Embedding
    layers: list[nn.Module]

    def positions_limit(self) -> int | None:
        """How many positions the model has; None for no limit."""
        return self.config.max_position_embeddings

    def blocks(self) -> list[nn.Module]:
        """The blocks in the order in which they run."""
        return self.layers


def positions_of(model: Any) -> int | None:
    """How many positions there are for a model's tokens, one of one's own included; None for no limit."""
    base = getattr(model, "without_head", lambda: model)()
    return getattr(base, "positions_limit", lambda: None)()


def limit_of(model: Model) -> int | None:
    """How many tokens the model has positions for, else how many it was made for; None where nothing says, as of T5."""
    limit = positions_of(model)  # RoBERTa's config counts two that no token can have
    return limit or getattr(model.config, "max_position_embeddings", None)


def longest(model: Model) -> int:
    """How many tokens the model sees at once: its limit, or 512."""
    return int(limit_of(model) or 512)


def fill(value: Tensor, array: np.ndarray) -> None:
    """Make `array` the parameter's memory, whatever dtype it had."""
    value.requires_grad_(False)
    value.data = array
    value.requires_grad_(True)


class Record:
    """Collects hidden states and attention patterns on the way through the layers, if asked for; None if not."""

    def __init__(self, hidden: bool, attentions: bool) -> None:
        self.hidden: tuple[Tensor, ...] | None = () if hidden else None
        self.attentions: tuple[Tensor, ...] | None = () if attentions else None
        self.cross = self.attentions

    def states(self, last: Tensor) -> tuple[Tensor, ...] | None:
        """All hidden states, `last` in the last place."""
        return None if self.hidden is None else (*self.hidden, last)


def run_blocks(
    blocks: list[Any],
    x: Tensor,
    mask_of: Callable[[int], nn.Mask],
    record: Record,
    cache: nn.KVCache | None = None,
    recompute: bool = False,
    **kwargs: Any,
) -> Tensor:
    """x (B, T, D) through all blocks; block i sees `mask_of(i)`. `recompute`: keep only the blocks' inputs for backward."""
    wants = record.attentions is not None
    if cache is not None and not wants and record.hidden is None:
        out = nn.run_prepared(blocks, x, [mask_of(i) for i in range(len(blocks))], cache, **kwargs)
        if out is not None:
            return out

    def layer(i: int, x: Tensor, **keywords: Any) -> Any:
        if blocks[i]._name != f"layers.{i}":  # a block that serves as several layers says which one it is now
            object.__setattr__(blocks[i], "_name", f"layers.{i}")
        return with_patterns(blocks[i](x, mask=mask_of(i), **keywords), (None, None))

    for i in range(len(blocks)):
        if record.hidden is not None:
            record.hidden += (x,)
        keywords = kwargs if cache is None else {**kwargs, "cache": cache[i]}
        if recompute and not wants and cache is None:
            x = checkpoint(lambda x, i=i, keywords=keywords: layer(i, x, **keywords)[0], x)
            continue
        x, (pattern, cross) = layer(i, x, output_attentions=wants, **keywords)
        if wants:
            record.attentions += (pattern,)  # type: ignore[operator]
            if cross is not None:
                record.cross += (cross,)  # type: ignore[operator]
    return x
