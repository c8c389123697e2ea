"""Activation checkpointing: keep a function's inputs, forget what its operations saved, run it again when backward asks.

The first run records its nodes as always, but their saved values are thrown away, and with them the activations. The
first node that backward visits runs the function once more, with the same random numbers and lens, and every node gets its
values back. The graph is the one that would have been without it, so gradients are the same bit for bit, hooks,
`tg.grad` and `create_graph` work, and checkpoints nest. (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import node as nodes
from .node import tick
from .random import generator
from .state import Observer, autocast, enable_grad, local, observe
from .tensor import Tensor, from_node


class _Saved:
    """Stands for a node's saved values: the k-th recorded call of its region."""

    __slots__ = ("index", "region")

    def __init__(self, region: _Region, index: int) -> None:
        self.region = region
        self.index = index

    def restore(self) -> tuple[Any, ...]:
        return self.region.saved_of(self.index)


class _Strip(Observer):
    """Watches the first run: takes the saved values off each node, and notes the parameters and where each generator stood."""

    def __init__(self, region: _Region) -> None:
        self.region = region
        self.count = 0

    def after_op(self, op: Any, inputs: Any, params: Any, outputs: Any, node: Any, seconds: float) -> None:
        if node is not None:
            self.region.note_parameters(inputs)
            if isinstance(node.saved, tuple):
                node.saved = _Saved(self.region, self.count)
            self.count += 1

    def generator_used(self, rng: np.random.Generator) -> None:
        self.region.generators.setdefault(id(rng), (rng, rng.bit_generator.state))


class _Collect(Observer):
    """Watches the second run: keeps the saved values in the order of the calls."""

    def __init__(self, time: int) -> None:
        self.time = time  # when the region was recorded
        self.values: dict[int, Any] = {}
        self.ops: list[str] = []

    def after_op(self, op: Any, inputs: Any, params: Any, outputs: Any, node: Any, seconds: float) -> None:
        if node is not None:
            self.values[len(self.ops)] = node.saved
            self.ops.append(op.name)


class _Region:
    """One checkpointed call: what is needed to run it again."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.fn = fn
        self.args = tuple(_cut(a) for a in args)
        self.kwargs = {name: _cut(a) for name, a in kwargs.items()}
        self.generators: dict[int, tuple[np.random.Generator, Any]] = {}
        self.given = {id(a) for a in (*args, *kwargs.values())}
        self.parameters: dict[int, tuple[Tensor, np.ndarray]] = {}
        self.values: dict[int, Any] = {}
        self.count = 0
        self.precision, self.path, self.modules, self.lens = local.precision, local.path, local.modules, local.lens
        self.generator = generator()  # this thread's
        nodes.readers.add(self)
        # a region inside another is recorded anew when the outer one runs again, of arrays as they were the first time
        self.time = min((o.time for o in local.observers if isinstance(o, _Collect)), default=tick())

    def saved_of(self, index: int) -> tuple[Any, ...]:
        if index not in self.values:
            self._run_again()
        value = self.values.pop(index)
        return value if isinstance(value, tuple) else value.restore()

    def _run_again(self) -> None:
        self._refuse_other_parameters()
        now = [(rng, rng.bit_generator.state) for rng, _ in self.generators.values()]
        collect = _Collect(self.time)
        outer, local.observers = local.observers, ()  # watchers saw these calls already
        outer_scope = local.generator, local.path, local.modules, local.lens, local.again
        local.generator, local.path, local.modules, local.lens = self.generator, self.path, self.modules, self.lens
        local.again = True
        try:
            for rng, state in self.generators.values():
                rng.bit_generator.state = state
            with enable_grad(), autocast(self.precision), observe(collect):
                self.fn(*self.args, **self.kwargs)
        finally:
            local.observers = outer
            local.generator, local.path, local.modules, local.lens, local.again = outer_scope
            local.refresh()
            for rng, state in now:
                rng.bit_generator.state = state
        self._refuse_other_than_first(collect)
        self.values = collect.values

    def note_parameters(self, inputs: Any) -> None:
        """Those that `fn` finds by itself, such as a layer's weights, with the arrays they have now; what it was given is kept."""
        for x in inputs:
            if isinstance(x, Tensor) and x.requires_grad and x.is_leaf and id(x) not in self.given:
                self.parameters.setdefault(id(x), (x, x._data))

    def _refuse_other_parameters(self) -> None:
        for x, first in self.parameters.values():
            if x._data is not first and not np.array_equal(x._data, first, equal_nan=True):
                raise RuntimeError(
                    f"checkpoint: a parameter of shape {first.shape} was given other data after the forward; run backward first"
                )

    def _refuse_other_than_first(self, collect: _Collect) -> None:
        if len(collect.ops) != self.count:
            name = getattr(self.fn, "__name__", "the function")
            raise RuntimeError(
                f"checkpoint: {name} recorded {self.count} operations the first time and {len(collect.ops)} the second; "
                "it must do the same each time it is called with the same arguments"
            )
        if nodes.last_write > self.time:
            for index, saved in collect.values.items():
                if nodes.overwritten(saved, self.time):
                    raise RuntimeError(
                        f"checkpoint: an array that the gradient of {collect.ops[index]} needs was changed in place after the "
                        "forward; change a copy, or run backward first"
                    )


def _cut(x: Any) -> Any:
    """A leaf with the same array, so that the second run records the same nodes but no history before them."""
    return from_node(x._data, None).requires_grad_() if isinstance(x, Tensor) and x.requires_grad else x


def checkpoint(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`fn(*args, **kwargs)`, keeping only its inputs for backward and running it a second time there.

    Gradients are the same bit for bit, dropout included: random generators drawn from (this thread's, or one passed as
    `rng`) are put back for the second run. Costs one more forward; saves what `fn`'s operations would have kept.
    """
    if not local.grad_enabled:
        return fn(*args, **kwargs)
    region = _Region(fn, args, kwargs)
    strip = _Strip(region)
    with observe(strip):
        generator()  # notes where this thread's stands
        result = fn(*args, **kwargs)
    region.count = strip.count
    return result
