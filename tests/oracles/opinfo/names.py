"""Adapting argument names: PyTorch's `dim` and `keepdim` to `axis` and `keepdims`."""

# ruff: noqa: E501
from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMES = {"dim": "axis", "keepdim": "keepdims", "dim0": "axis1", "dim1": "axis2", "dims": "axis"}


class Unsupported(Exception):
    """The adapter knows that ours has no such option."""


def renamed(f: Callable[..., Any], drop: tuple[str, ...] = (), **names: str) -> Callable[..., Any]:
    """`f` called with PyTorch's argument names; `drop`: options that change nothing here."""
    table = {**NAMES, **names}

    def adapter(*args: Any, **kwargs: Any) -> Any:
        return f(*args, **{table.get(k, k): v for k, v in kwargs.items() if k not in drop})

    return adapter


def some_axis(axis: Any) -> Any:
    """PyTorch's empty tuple of dims means all of them."""
    return None if axis is not None and not isinstance(axis, int) and len(axis) == 0 else tuple(axis) if isinstance(axis, list) else axis
