"""What can be called on a Tensor: the operators and methods, each one line.

Operations register their NumPy name with ``@op(numpy=...)``; here they become operators and methods.
"""

from __future__ import annotations

from typing import Any

from . import engine
from .tensor import Tensor


def backward(self: Tensor, gradient: Any = None, create_graph: bool = False, retain_graph: bool = False) -> None:
    """Add d(self)/d(leaf), weighted by `gradient`, to every leaf's `.grad`.

    `gradient` has self's shape and may be left out for one element. `create_graph` makes the gradients differentiable
    themselves; `retain_graph` keeps what a second backward needs.
    """
    engine.backward(self, gradient, create_graph, retain_graph)


def attach(**methods: Any) -> None:
    """Give Tensor methods by name."""
    for name, function in methods.items():
        setattr(Tensor, name, function)


attach(backward=backward)
