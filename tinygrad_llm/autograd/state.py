"""The engine's switches, one set per thread: is a gradient wanted, is somebody watching, which module runs, how precise.

Everything that can be switched hangs here and is scoped by ``with``; nothing in this file knows Tensors.

Python lets Ctrl-C in where a call begins and where one ends. So what belongs together is written with no call in between, and who
is interrupted while he switches puts all back: nobody would ever turn off a switch whose block has not begun.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
import types
from collections.abc import Callable
from typing import Any

PLAIN, NO_GRAD, WATCHED = 0, 1, 2  # `mode`: what the choke point in op.py reads, one attribute for one `if`


class Switches:
    """How many threads have switched anything: while none has, the choke point need not ask for its thread's own."""

    __slots__ = ("rounding", "threads")

    def __init__(self) -> None:
        self.threads = 0
        self.rounding = 0  # threads inside an `autocast`


switches = Switches()
_counting = threading.Lock()


class Local(threading.local):
    """This thread's switches. `mode` is derived from the others by `refresh`."""

    mode: int = PLAIN
    grad_enabled: bool = True
    observers: tuple[Any, ...] = ()
    precision: str | None = None  # of products of float32 matrices; None: float32
    path: tuple[str, ...] = ()  # names of the modules that are running, outermost first
    modules: tuple[tuple[Any, int], ...] = ()  # those themselves, and how many names there are down to each
    lens: Any = None  # what looks through the models' taps, see nn/tap.py
    again: bool = False  # a checkpointed function runs for the second time
    generator: Any = None  # this thread's random generator, see random.py

    def refresh(self) -> None:
        mode = WATCHED if self.observers else PLAIN if self.grad_enabled else NO_GRAD
        if (self.mode == PLAIN) == (mode == PLAIN):
            self.mode = mode
        else:
            with _counting:
                switches.threads += -1 if mode == PLAIN else 1
                self.mode = mode

    def round_to(self, precision: str | None) -> None:
        if (self.precision is None) == (precision is None):
            self.precision = precision
        else:
            with _counting:
                switches.rounding += -1 if precision is None else 1
                self.precision = precision


local = Local()


def in_forked_child(function: Callable[[], None]) -> Callable[[], None]:
    """``@in_forked_child``: called in each, where the system forks. The parent's other threads are not there, their locks are."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


@in_forked_child
def _count_anew() -> None:
    """One of the other threads may have been counting."""
    global _counting
    _counting = threading.Lock()
    switches.threads, switches.rounding = int(local.mode != PLAIN), int(local.precision is not None)


def _within(enter: Callable[[], Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` run inside ``with enter():``; a generator or coroutine each time that it goes on, for others run in between."""
    if inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__name__}: an asynchronous generator is not switched as a whole; use `with` between its yields")
    if not inspect.isgeneratorfunction(function) and not inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        def switched(*args: Any, **kwargs: Any) -> Any:
            with enter():
                return function(*args, **kwargs)

        return switched

    @functools.wraps(function)
    def resumed(*args: Any, **kwargs: Any) -> Any:
        running = function(*args, **kwargs)
        go_on, value = running.send, None
        while True:
            try:
                with enter():
                    made = go_on(value)
            except StopIteration as end:
                return end.value
            try:
                go_on, value = running.send, (yield made)
            except BaseException as error:  # thrown in by the caller, or GeneratorExit: the generator's to handle
                go_on, value = running.throw, error

    if inspect.isgeneratorfunction(function):
        return resumed
    steps = types.coroutine(resumed)

    @functools.wraps(function)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await steps(*args, **kwargs)

    return awaited


class _Switch:
    """A context manager that is also a decorator: sets `grad_enabled`, puts the old value back."""

    wanted: bool

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else _within(cls, function)

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(local.grad_enabled)
        try:
            local.grad_enabled = self.wanted
            local.refresh()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exc: object) -> None:
        local.grad_enabled = self._before[-1]
        del self._before[-1]
        try:
            local.refresh()
        except BaseException:
            local.refresh()
            raise

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return _within(type(self), function)


class no_grad(_Switch):
    """Operations inside record nothing for backward. ``with no_grad():``, ``@no_grad()`` or ``@no_grad``; this thread only."""

    wanted = False


class enable_grad(_Switch):
    """Undoes an outer `no_grad`. ``with enable_grad():``, ``@enable_grad()`` or ``@enable_grad``; this thread only."""

    wanted = True


def is_grad_enabled() -> bool:
    """True where operations on tensors that require a gradient are recorded for backward."""
    return local.grad_enabled


PRECISIONS = ("float32", "bfloat16")


class autocast:
    """``with autocast("bfloat16"):`` products of float32 matrices inside round their operands to bfloat16 and add in float32.

    That is `matmul`, `linear`, `linear_cross_entropy`, `attention` and what is written through them, and their gradients, wherever
    backward runs; einsum and products with a vector stay float32, as do all results, parameters and other operations, and
    attention where the host has no matrix tiles. float64 is untouched. Also a decorator; this thread only; "float32" undoes an
    outer one. bfloat16 has float32's exponents, so that losses need no scaling.
    Kalamkar et al. 2019, arXiv:1905.12322; Micikevicius et al. 2018, arXiv:1710.03740
    """

    def __init__(self, precision: str | None = "bfloat16") -> None:
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f"autocast: expected one of {PRECISIONS}, got {precision!r}")
        self.precision = None if precision == "float32" else precision
        self._before: list[str | None] = []

    def __enter__(self) -> None:
        self._before.append(local.precision)
        try:
            local.round_to(self.precision)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exc: object) -> None:
        before = self._before[-1]
        del self._before[-1]
        try:
            local.round_to(before)
        except BaseException:
            local.round_to(before)
            raise

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return _within(lambda: autocast(self.precision), function)


class observe:
    """``with observe(watcher):`` shows the watcher every operation of this thread, forward and backward.

    The watcher is an `Observer`, which says what there is to see.
    """

    def __init__(self, watcher: Observer) -> None:
        self.watcher = watcher

    def __enter__(self) -> Observer:
        local.observers = (*local.observers, self.watcher)
        try:
            local.refresh()
        except BaseException:
            self.__exit__()
            raise
        return self.watcher

    def __exit__(self, *exc: object) -> None:
        if local.observers and local.observers[-1] is self.watcher:
            local.observers = local.observers[:-1]
        else:
            last = len(local.observers) - 1 - local.observers[::-1].index(self.watcher)
            local.observers = local.observers[:last] + local.observers[last + 1 :]
        try:
            local.refresh()
        except BaseException:
            local.refresh()
            raise


class Observer:
    """What a watcher may override; the defaults do nothing.

    `before_op` runs before the forward; `after_op` gets the call's tensors (outputs as a tuple) and the node that was
    recorded, None where no gradient is needed; `after_rule` runs after a node's gradient rules; `generator_used` before
    numbers are drawn from `rng`. Times are seconds of this call alone.
    """

    def before_op(self, op: Any, inputs: tuple[Any, ...], params: dict[str, Any]) -> None: ...

    def after_op(
        self, op: Any, inputs: tuple[Any, ...], params: dict[str, Any], outputs: tuple[Any, ...], node: Any, seconds: float
    ) -> None: ...

    def after_rule(self, node: Any, g: Any, gradients: tuple[Any, ...], seconds: float) -> None: ...

    def generator_used(self, rng: Any) -> None: ...


class module_scope:
    """``with module_scope("attn"):`` names what runs inside, for watchers. Modules enter it only when watched.

    `module`: what runs, for lenses; "" is the outermost, which has no name.
    """

    def __init__(self, name: str, module: Any = None) -> None:
        self.name, self.module = name, module

    def __enter__(self) -> None:
        self._before = local.path, local.modules
        if self.name:
            local.path = (*local.path, self.name)
        local.modules = (*local.modules, (self.module, len(local.path)))

    def __exit__(self, *exc: object) -> None:
        local.path, local.modules = self._before
