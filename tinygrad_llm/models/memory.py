"""What a model takes: parameters by part; bytes for weights, gradients, optimizer, activations and cache; how many cards.

Nothing is allocated: the model is built as a skeleton. All assumptions are in the numbers' names and printed with them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .. import nn
from .._check import need
from .base import longest, positions_of
from .memory_limit import readable
from .registry import head_of, skeleton_of
from .training_flops import training_flops
from .training_memory import TrainingMemory, block_numbers, cross_numbers, training_memory

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
#: bytes per parameter of training with AdamW, beside the weights: gradients, and what the optimizer keeps
TRAINING = {
    "fp32": (4, 8),  # two moments
    "fp16": (2, 12),  # two moments and a copy of the weights, all three in float32
}
QUOTED = 8.55  # bytes per parameter behind the often quoted 63 cards for 175 billion parameters and 642 for 1.8 trillion


def cards(parameters: float, bytes_per_parameter: float = QUOTED, card_gb: float = 24.0) -> int:
    """How many cards of `card_gb` · 10⁹ bytes hold this many parameters at so many bytes each."""
    for name, value in (("bytes_per_parameter", bytes_per_parameter), ("card_gb", card_gb)):
        need(name, value, lambda x: 0 < x < math.inf, "a finite number above 0")
    return math.ceil(parameters * bytes_per_parameter / (card_gb * 1e9))


@dataclass
class Part:
    """Parameters of one name and shape: `count` of them, one per layer."""

    name: str
    shape: tuple[int, ...]
    count: int

    @property
    def total(self) -> int:
        return self.count * math.prod(self.shape)


@dataclass
class Description:
    """The figures of one model; `text()` prints them."""

    name: str
    parameters: int
    parts: list[Part] = field(default_factory=list)
    batch: int = 1
    context: int = 0
    kept_per_token: int = 0  # numbers that backward needs, per token, in all layers
    cache_per_token: int = 0  # numbers in the key-value cache, per token
    card_gb: float = 24.0
    bytes_per_parameter: float = QUOTED
    training: TrainingMemory | None = None  # of a step as this package makes it
    training_flops: int = 0  # operations of its products, forward and backward

    def memory(self) -> dict[str, dict[str, int]]:
        """{"fp32": {"weights": bytes, "gradients": ..., "optimizer": ..., "activations": ..., "cache": ...}, "fp16": ...}"""
        table = {}
        tokens = self.batch * self.context
        for kind, width in BYTES.items():
            row = {"weights": self.parameters * width, "cache": self.cache_per_token * tokens * max(width, 2)}
            if kind in TRAINING:
                gradients, optimizer = TRAINING[kind]
                row |= {"gradients": self.parameters * gradients, "optimizer": self.parameters * optimizer,
                        "activations": self.kept_per_token * tokens * width}  # fmt: skip
            table[kind] = row
        return table

    def cards(self) -> list[tuple[str, float, int]]:
        """(assumption, bytes per parameter, cards), from the leanest to the fullest."""
        rows = [("int8 weights alone", 1.0), ("fp16 weights alone: enough to run it", 2.0), ("fp32 weights alone", 4.0),
                (f"{self.bytes_per_parameter:g} bytes a parameter", self.bytes_per_parameter),
                ("training: fp32 weights 4 + gradients 4 + Adam's moments 8", 16.0),
                ("training, mixed: fp16 weights 2 + gradients 2 + fp32 copy 4 + moments 8", 16.0)]  # fmt: skip
        return [(what, each, cards(self.parameters, each, self.card_gb)) for what, each in rows]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "name": self.name, "parameters": self.parameters, "batch": self.batch, "context": self.context,
            "parts": [{"name": p.name, "shape": list(p.shape), "count": p.count, "parameters": p.total} for p in self.parts],
            "memory": self.memory(), "training": self.training.as_dict() if self.training else None,
            "training_flops": self.training_flops, "card_gb": self.card_gb,
            "cards": [{"assumption": what, "bytes_per_parameter": each, "cards": n} for what, each, n in self.cards()],
        }  # fmt: skip

    def text(self) -> str:
        """The tables, and the assumptions behind them."""
        lines = [f"{self.name}: {self.parameters:,} parameters", ""]
        if self.parts:
            width = max(len(p.name) for p in self.parts)
            lines += [f"  {p.name:<{width}}  {_times(p):>24}  {p.total:>17,}  {p.total / self.parameters:6.1%}" for p in self.parts]
            lines += [f"  {'total':<{width}}  {'':>24}  {self.parameters:>17,}", ""]
        lines += self._memory_text() if self.context else []
        return "\n".join(lines + self._cards_text())

    def _memory_text(self) -> list[str]:
        columns = ("weights", "gradients", "optimizer", "activations", "cache")
        lines = [f"memory at batch {self.batch}, context {self.context}:", "", "        " + "".join(f"{c:>13}" for c in columns)]
        for kind, row in self.memory().items():
            lines.append(f"  {kind:<6}" + "".join(f"{readable(row[c]) if c in row else '-':>13}" for c in columns))
        return [
            *lines, "",
            "  optimizer: AdamW, two float32 moments, with fp16 weights a float32 copy of them too; int8 runs, it does not train",
            f"  activations: {self.kept_per_token:,} numbers a token, kept by the layers for backward; attention patterns are not",
            "  cache: keys and values of every layer, for generation, in 2 bytes at least; an encoder-decoder's of its source,",
            "  of as many tokens, too; 1 GB = 10⁹ bytes", "",
            *self._training_text(),
        ]  # fmt: skip

    def _training_text(self) -> list[str]:
        if self.training is None:
            return []
        gb = {name: readable(n) for name, n in self.training.as_dict().items()}
        return [
            f"  a training step here, float32: {gb['peak']} at the worst moment, beside some 170 MB for the program itself:",
            f"    weights {gb['weights']} + moments {gb['moments']} + {gb['passing']} in passing, and the larger of gradients",
            f"    {gb['gradients']} (backward's end) and activations {gb['activations']} + output layer {gb['output']} (its start)",
            *([f"    or, where it is more, {gb['between']} at a moment between these two"] if self.training.between else []),
            f"    its products take {self.training_flops / 1e9:,.4g}·10⁹ operations, forward and backward; a multiply-add is two",
            "",
        ]

    def _cards_text(self) -> list[str]:
        n, gb = self.parameters, self.card_gb
        lines = [f"cards of {gb:g} GB (bytes / {gb:g}·10⁹, rounded up; activations and cache not counted):", ""]
        for what, each, count in self.cards():
            some = f"{count:>6,} card{'s' * (count > 1)}"
            lines.append(f"  {what:<74} {each:>6g} × {n / 1e9:,.4g}·10⁹ = {readable(n * each):>11} {some}")
        if cards(n, 16, gb) == 1:
            return lines
        return [
            *lines, "",
            f"  Why the figures differ: the weights in fp16 and nothing else fit on {cards(n, 2, gb)}; {cards(n, 16, gb)} hold",
            f"  what training with Adam keeps, 16 bytes a parameter. {QUOTED} bytes lie between the two and give the often quoted",
            "  63 cards of 24 GB for 175 billion parameters and 642 for 1.8 trillion; they stand for no single recipe, so name",
            "  the bytes with the cards.",
        ]  # fmt: skip


def describe(
    name: str, *, batch: int = 1, context: int | None = None, target: int | None = None, card_gb: float = 24.0,
    bytes_per_parameter: float = QUOTED, **overrides: Any,
) -> Description:  # fmt: skip
    """The figures of a preset, of the checkpoint in a directory, or of a bare number of parameters ("1.8e12").

    target: the length of an encoder-decoder's targets in training (None: as long as the context).
    """
    common = {"card_gb": card_gb, "bytes_per_parameter": bytes_per_parameter, "batch": batch}
    lengths = {"context": 1 if context is None else context, "target": 1 if target is None else target}
    for what, value in {**common, **lengths}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"describe: {what} must be positive, got {value}")
    if re.fullmatch(r"[0-9][0-9_,]*(\.[0-9]+)?(e\+?[0-9]+)?", str(name).lower()):
        number = float(str(name).replace(",", "").replace("_", ""))
        if number == math.inf:
            raise ValueError(f"describe: {name} is more parameters than a float holds")
        if number < 1:
            raise ValueError(f"describe: expected at least one parameter, got {name}")
        if batch != 1 or context is not None or target is not None:
            raise ValueError(f"describe: batch, context and target need a model's layers, and {name} is a number of parameters "
                             "alone; leave them out")  # fmt: skip
        return Description(str(name), int(number), **common)
    model = skeleton_of(name, **overrides)
    if target is not None and not model.is_encoder_decoder:
        raise ValueError(f"describe: target is the length of an encoder-decoder's targets, and {name} has none; leave it out")
    limit = positions_of(model)
    if context is not None and limit is not None and context > limit:
        raise ValueError(f"describe: context {context}: {name} has {limit} positions")
    context = context or longest(model)
    return Description(
        str(name), model.num_parameters(), parts_of(model), context=context, kept_per_token=kept(model),
        cache_per_token=cached(model), training=step_memory(model, batch, context, target),
        training_flops=training_flops(model, _blocks(model), batch, context, target), **common,
    )  # fmt: skip


def step_memory(model: Any, batch: int, context: int, target: int | None) -> TrainingMemory:
    """What a training step of this model takes, of an encoder-decoder with `target` tokens after `context` (None: as many)."""
    return training_memory(model, _blocks(model), batch, context, target)


def parts_of(model: Any) -> list[Part]:
    """The parameters, with those of equal name and shape in all layers counted together."""
    counts = Counter((re.sub(r"\.\d+\.", ".*.", name), value.shape) for name, value in model.named_parameters())
    return [Part(name, shape, n) for (name, shape), n in counts.items()]


def _blocks(model: Any) -> list[Any]:
    """Every block as often as it runs."""
    if head_of(model) == "joint":
        return _blocks(model.generator) + _blocks(model.discriminator)
    return model.without_head().blocks()


def kept(model: Any) -> int:
    """Numbers per token that backward needs, in all layers; of an encoder-decoder with as many tokens on both sides."""
    return sum(block_numbers(block) + cross_numbers(block) for block in _blocks(model))


def cached(model: Any) -> int:
    """Numbers per token in the key-value cache; none without a decoder; of an encoder-decoder with as many tokens on both sides."""
    blocks = [block for block in _blocks(model) if isinstance(block, nn.DecoderBlock)]
    return sum(2 * block.attn.kv_heads * block.attn.head_width + cross_numbers(block) for block in blocks)


def _times(part: Part) -> str:
    shape = "×".join(f"{n:,}" for n in part.shape)
    return shape if part.count == 1 else f"{part.count} · {shape}"
