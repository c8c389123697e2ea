"""What a model call returns: one object whose fields are named as in transformers; None where not computed or not asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor, is_grad_enabled, no_grad
from ..autograd import node as nodes

FIELDS = (
    "loss", "logits", "last_hidden_state", "hidden_states", "attentions", "past_key_values", "pooler_output",
    "prediction_logits", "seq_relationship_logits", "sop_logits", "start_logits", "end_logits",
    "encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions",
    "decoder_hidden_states", "decoder_attentions", "cross_attentions",
    "generator_loss", "discriminator_loss", "generator_logits", "corrupted_ids",
)  # fmt: skip


class Later:
    """A value that is made when somebody reads it: with labels, the loss is found without ever storing all the logits."""

    def __init__(self, make: Callable[[], Any], parameters: Iterable[Any]) -> None:
        self.make = make
        self.recorded = is_grad_enabled()
        self.read = tuple((p, p._data) for p in parameters if p is not None)
        self.time = nodes.last_write

    def has_changed(self) -> bool:
        """Whether a parameter was overwritten, or given an array of other values; an optimizer's first step does both."""
        return any(
            nodes.overwritten(array, self.time) or (p._data is not array and not np.array_equal(p._data, array, equal_nan=True))
            for p, array in self.read
        )

    def value(self) -> Any:
        if self.has_changed():
            raise RuntimeError("these logits were not read before parameters were changed; read them before optimizer.step()")
        if self.recorded == is_grad_enabled():
            return self.make()
        if self.recorded:
            raise RuntimeError("these logits belong to a recorded call; read them outside no_grad(), or call the model inside it")
        with no_grad():
            return self.make()


class _Field:
    """One field of the output; makes a `Later` when it is first read."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, out: Any, owner: Any = None) -> Any:
        if out is None:
            return self
        value = out.values.get(self.name)
        if isinstance(value, Later):
            value = out.values[self.name] = value.value()
        return value

    def __set__(self, out: Any, value: Any) -> None:
        out.values[self.name] = value


class ModelOutput:
    """Fields by name: `out.logits`, `out["logits"]`. `hidden_states` and `attentions` are tuples, one entry per layer
    (hidden states: the embeddings first, what leaves the last norm last).

    With labels a vocabulary's `loss` is not made of `logits`, which are made when read: its gradient does not pass through them.
    Who wants it there makes the loss of the logits, or looks: `lens.record(model, "logits", gradients=True)`."""

    __slots__ = ("values",)

    if TYPE_CHECKING:  # one attribute per field

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, **values: Any) -> None:
        unknown = set(values) - set(FIELDS)
        if unknown:
            raise TypeError(f"ModelOutput has no {', '.join(sorted(unknown))}")
        self.values = values

    def __getitem__(self, name: str) -> Any:
        if name not in FIELDS:
            raise KeyError(f"{name!r} is not an output; there are {', '.join(self.keys())}")
        return getattr(self, name)

    def keys(self) -> list[str]:
        """Names of the fields that are there."""
        return [name for name in FIELDS if self.values.get(name) is not None]

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __repr__(self) -> str:
        return f"ModelOutput({', '.join(f'{name}={_show(self.values[name])}' for name in self.keys())})"


def word_logits(out: ModelOutput | Tensor) -> Any:
    """The vocabulary's logits; heads for two tasks, such as BERT's of pretraining, have a name of their own for them, and a module
    of one's own may return them alone."""
    if isinstance(out, Tensor):
        return out
    return out.prediction_logits if out.logits is None else out.logits


def _show(value: Any) -> str:
    if isinstance(value, Later):
        return "(when read)"
    if isinstance(value, tuple):
        return f"({len(value)} × {_show(value[0])})" if value else "()"
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{value.item():.6g}" if shape == () else f"{tuple(shape)}"


for _name in FIELDS:
    setattr(ModelOutput, _name, _Field(_name))
