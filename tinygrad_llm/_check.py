"""What every room asks of its numbers: a wrong one is refused by its name, before it does anything."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np


def whole(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int, also where it is a float without a fraction, such as 1e5."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r:.60}") from None
    if least is not None and number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    return number


def need(name: str, value: Any, good: Callable[[Any], Any], expected: str) -> None:
    """ValueError where `good` is not true of the value, TypeError where that cannot be asked of it: of '0.1', None, several."""
    try:
        if good(value):
            return
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected {expected}, got {value!r:.60}") from None
    raise ValueError(f"{name}: expected {expected}, got {value}")


def as_ids(values: Any) -> np.ndarray:
    """Ids as int64; numbers that a cast would change (0.5, NaN) are refused, for they are no ids."""
    given = np.asarray(values)
    integers = given.dtype.kind in "iub"
    if given.dtype.kind == "f":  # an empty list is a float array, and joined with ids makes floats of them
        integers = bool(((np.abs(given) < 2**63) & (given == np.trunc(given))).all())
    if not integers:
        raise TypeError(f"expected token ids, which are integers, got {given.dtype}")
    if given.dtype == np.uint64 and given.size and given.max() >= 2**63:
        raise ValueError(f"expected token ids below 2**63, got {given.max()}")
    return given.astype(np.int64, copy=False)
