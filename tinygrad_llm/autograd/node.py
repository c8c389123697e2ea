"""Node: one recorded call of an operation. The graph is made of nodes; Tensors only point at theirs.

A node knows its parents and the values that its gradient rules asked for, nothing else: no Tensor, no child, so that
there is no reference cycle and dropping the loss frees everything at once, without the garbage collector.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

tick = itertools.count().__next__


class Extra:
    """What few nodes have: a kept gradient, hooks, and where the call was written (noted only when watched)."""

    __slots__ = ("grad", "hooks", "retain", "where")

    def __init__(self) -> None:
        self.grad: Any = None  # a Tensor, for leaves and retained nodes
        self.hooks: dict[int, Callable[[Any], Any]] = {}
        self.retain = False
        self.where = ""


class Node:
    """One call: `op` (None for a leaf), `inputs` (a Node, or None where no gradient flows), `saved` for the rules.

    `time` is when it was recorded, on a clock that only counts: parents are older than their children, so that order
    is a topological one; and a write in place that is younger than a node is one its saved arrays may not have seen.
    """

    __slots__ = ("dtype", "extra", "inputs", "op", "params", "saved", "shape", "time")

    op: Any
    inputs: tuple[Any, ...]
    saved: Any  # the tuple that the op's forward returned beside its output
    params: Any  # the call's static parameters
    shape: Any  # of the output, and so of its gradient; a tuple of shapes where the op has several outputs
    dtype: Any
    time: int
    extra: Extra | None

    def extras(self) -> Extra:
        if self.extra is None:
            self.extra = Extra()
        return self.extra

    def __repr__(self) -> str:
        return f"<Node {'leaf' if self.op is None else self.op.name} {self.shape} {self.dtype}>"


class HookHandle:
    """Returned by `register_hook` and `register_forward_hook`; `.remove()` takes the hook back."""

    def __init__(self, hooks: dict[int, Callable[..., Any]], hook: Callable[..., Any]) -> None:
        self._hooks, self._key = hooks, tick()  # not id(self): a handle nobody keeps gives its id to the next one
        hooks[self._key] = hook

    def remove(self) -> None:
        self._hooks.pop(self._key, None)


def make_node(op: Any, inputs: tuple[Any, ...], saved: Any, params: Any, shape: Any, dtype: Any) -> Node:
    """A node, recorded now. (Not `Node.__init__`: without one, an operation makes its node a tenth faster.)"""
    node = Node()
    node.op, node.inputs, node.saved, node.params = op, inputs, saved, params
    node.shape, node.dtype, node.time, node.extra = shape, dtype, tick(), None
    return node


def leaf(array: np.ndarray) -> Node:
    """The node of a tensor that no operation made."""
    node = make_node(None, (), None, None, array.shape, array.dtype)
    node.extra = Extra()
    return node


# -- writes in place ---------------------------------------------------------------------------------------------------
# Whoever overwrites an array says so, and when. Backward compares the last write's time with each node's, and only where
# a write is younger looks at the arrays.

last_write = -1
_written: dict[int, tuple[int, Any]] = {}  # id of the array that owns the memory -> (time of its last write, weakref)


def memory_owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory `array` is a view of."""
    while type(array.base) is np.ndarray:
        array = array.base
    return array


def mark_written(array: np.ndarray) -> None:
    """Say that `array` was overwritten in place: backward through a node that saved it (or a view of it) will refuse."""
    global last_write
    last_write = tick()
    owner = memory_owner(array)
    key = id(owner)
    known = _written.get(key)
    reference = known[1] if known else weakref.ref(owner, lambda _, key=key: _written.pop(key, None))  # type: ignore[misc]
    _written[key] = (last_write, reference)


def overwritten(value: Any, time: int) -> bool:
    """True where `value` is, or holds, an array that was written after `time`."""
    if isinstance(value, np.ndarray):
        known = _written.get(id(memory_owner(value)))
        return known is not None and known[0] > time
    return isinstance(value, (tuple, list)) and any(overwritten(part, time) for part in value)
