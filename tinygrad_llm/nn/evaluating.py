"""Evaluation mode for a while, also where several threads ask for it: a server generates with one model in all of its threads.

The modules are the threads' common ones. Whoever comes first notes each module's mode and whoever leaves last gives it back: with
each putting back what he found, the first to leave turned dropout on under the others, and the last left the model without.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ..autograd.state import in_forked_child
from .module import Module, structure


class _Evaluated:
    """A module in evaluation mode: the mode that it was in, and the visits, (thread, an object of its own), that need it so."""

    __slots__ = ("mode", "module", "visits")

    def __init__(self, module: Module) -> None:
        self.module, self.mode = module, module.training
        self.visits: set[tuple[int, object]] = set()


_evaluated: dict[int, _Evaluated] = {}  # by the id of the module, which is kept
_changing = threading.Lock()


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[Module]:
    """Evaluation mode inside; when nobody is inside any more each module is in its own mode again, so that frozen parts stay so."""
    modules, visit = list(model.modules()), (threading.get_ident(), object())
    try:
        with _changing:
            for module in modules:
                _evaluated.setdefault(id(module), _Evaluated(module)).visits.add(visit)
                _set_mode(module, False)
        yield model
    finally:
        try:
            _leave(modules, visit)
        except BaseException:  # Ctrl-C while we were at it
            _leave(modules, visit)
            raise


def _leave(modules: list[Module], visit: tuple[int, object]) -> None:
    with _changing:
        for module in modules:
            held = _evaluated.get(id(module))
            if held is not None:
                held.visits.discard(visit)
                if not held.visits:
                    _set_mode(module, held.mode)
                    _evaluated.pop(id(module), None)


def _set_mode(module: Module, mode: bool) -> None:
    if module.training != mode:  # a chain of a cache that lives longer (see prepared.py) holds as long as nothing changes
        object.__setattr__(module, "training", mode)
        structure.version += 1


@in_forked_child
def _forget() -> None:
    """The other threads stayed with the parent, and their visits, too."""
    global _changing
    _changing = threading.Lock()
    here = threading.get_ident()
    for held in tuple(_evaluated.values()):
        for visit in [visit for visit in held.visits if visit[0] != here]:
            _leave([held.module], visit)
