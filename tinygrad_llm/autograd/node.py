"""Node: one recorded call of an operation. The graph is made of nodes; Tensors only point at theirs.

A node knows its parents and the values that its gradient rules asked for, nothing else: no Tensor, no child, so that
there is no reference cycle and dropping the loss frees everything at once, without the garbage collector.
"""

from __future__ import annotations

import itertools
import weakref
import zlib
from collections.abc import Callable
from sys import getrefcount
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

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
        if not callable(hook):
            raise TypeError(f"hook: expected a function, got {type(hook).__name__}")
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
# Whoever overwrites an array says so, and when; and an array that leaves its Tensor (`.data`) may be overwritten by NumPy without
# a word, so that what it held then is noted. Backward compares the last of these times with each node's, and only where it is
# younger looks at the arrays.

last_write = -1  # when an array was last overwritten, or went where it may be
readers: weakref.WeakSet[Any] = weakref.WeakSet()  # what will read arrays that it does not hold: checkpointed calls
_written: dict[int, tuple[int, Any]] = {}  # id of the array that owns the memory -> (time of its last write, weakref)
_given: dict[int, Given] = {}  # id of the owner -> what was given away of its memory


class Given:
    """The parts of an array's memory that were given away: for each, what it held when (a checksum), and its bounds.

    Each change adds a state, with the last time that it was seen. A node's is the first that was seen after it: whoever moves
    x.data[0] to and fro to measure a slope, and puts it back, has changed nothing for the nodes from before.
    """

    def __init__(self, owner: np.ndarray) -> None:
        key = id(owner)
        self.owner = weakref.ref(owner, lambda _: _given.pop(key, None))
        self.parts: dict[Any, tuple[list[tuple[int, int | None]], tuple[int, int]]] = {}

    def note(self, array: np.ndarray, owner: np.ndarray) -> int:
        """The time at which `array`, a view of the owner, was given away: now."""
        part = None  # the owner, also for a view of what has gaps
        if array is not owner and _in_memory_order(owner).flags.c_contiguous:
            part = array.shape, array.dtype, array.ctypes.data - owner.ctypes.data, array.strides
        else:
            array = owner
        now, held = tick(), checksum(array)
        known = self.parts.pop(part, None)
        states, bounds = known or ([], byte_bounds(array))
        if states and states[-1][1] == held:
            states[-1] = now, held
        else:
            states.append((now, held))
        if len(states) > MOST_STATES:
            states[:2] = [(states[1][0], None)]  # what is older was changed, for all that we know
        if len(self.parts) >= MOST_PARTS:
            self.parts.pop(tuple(self.parts)[0], None)  # a tuple: another thread may be adding
        self.parts[part] = states, bounds
        return now

    def changed(self, value: np.ndarray, time: int) -> bool:
        """Whether a part that shares memory with `value` was given away after `time`, and is not as it was then."""
        owner = self.owner()
        if owner is None or not value.size:
            return False
        low, high = byte_bounds(value)
        for part, (states, (start, end)) in tuple(self.parts.items()):
            if states[-1][0] > time and start < high and low < end:
                held = next(held for since, held in tuple(states) if since > time)
                if checksum(owner if part is None else _part(owner, *part)) != held:
                    return True
        return False


MOST_PARTS = 1000  # of one array that are remembered
MOST_STATES = 300  # of one part: three for each number whose slope is measured


def _in_memory_order(array: np.ndarray) -> np.ndarray:
    """The array with its axes in the order of its strides: C-contiguous where it has no gaps, as NumPy's own results have none."""
    return array.transpose(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


def _part(owner: np.ndarray, shape: Any, dtype: Any, offset: int, strides: Any) -> np.ndarray:
    return np.ndarray(shape, dtype, _in_memory_order(owner), offset, strides)


def checksum(array: np.ndarray) -> int:
    """A number that changes with the array's bytes: of all of them where they are few, else of sums over rows and columns of words.

    A row has an odd number of words, so that no change of every number alike, as of all signs, sums to nothing.
    """
    numbers = np.ascontiguousarray(_in_memory_order(array)).reshape(-1).view(np.uint8)
    whole = len(numbers) // (8 * 509) * (8 * 509) if len(numbers) > 1 << 16 else 0
    words = numbers[:whole].view(np.uint64).reshape(-1, 509)
    total = zlib.crc32(numbers[whole:].data)
    for axis in (0, 1) if whole else ():
        total = zlib.crc32(words.sum(axis).data, total)
    return total


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


def _counts(tensor: Any) -> tuple[bool, int, int]:
    array = tensor._data
    owner = memory_owner(array)
    return owner is array, getrefcount(array), getrefcount(owner)


class _Holder:
    """As much of a Tensor as `_counts` needs."""

    def __init__(self, array: np.ndarray) -> None:
        self._data = array


_ALONE = {_counts(_Holder(np.zeros(1))), _counts(_Holder(np.zeros(1)[:]))}  # of an array, and of a view, that one Tensor holds


def give(tensor: Any) -> np.ndarray:
    """The tensor's array, for somebody who may write to it. What it holds is noted, unless the tensor alone needs it."""
    global last_write
    alone = _counts(tensor) in _ALONE and not readers
    array: np.ndarray = tensor._data
    if alone or not array.flags.writeable:
        return array
    owner = memory_owner(array)
    given = _given.get(id(owner))
    if given is None:
        given = _given[id(owner)] = Given(owner)
    last_write = given.note(array, owner)
    return array


def overwritten(value: Any, time: int) -> bool:
    """True where `value` is, or holds, an array that was written after `time`."""
    if isinstance(value, np.ndarray):
        key = id(memory_owner(value))
        known = _written.get(key)
        if known is not None and known[0] > time:
            return True
        given = _given.get(key)
        return given is not None and given.changed(value, time)
    return isinstance(value, (tuple, list)) and any(overwritten(part, time) for part in value)
