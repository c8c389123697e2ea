"""`detect_anomaly`: name the first operation that makes a NaN or an Inf, forward or backward, with its module and line."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from .node import checksum
from .op import describe_value
from .state import Observer, local, observe
from .tensor import Tensor

ENGINE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class AnomalyError(RuntimeError):
    """An operation made a NaN or an Inf, or an array that backward needs was overwritten."""


def _bad(value: Any) -> str:
    """'a NaN', 'an Inf' or ''."""
    if isinstance(value, Tensor):
        value = value._data
    if isinstance(value, float):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or np.isfinite(value).all():
        return ""
    return "a NaN" if np.isnan(value).any() else "an Inf"


def _where() -> str:
    """The module path and the line that called the engine, of the caller's code or of a layer's."""
    frame: Any = sys._getframe(2)
    while frame.f_code.co_filename.startswith(ENGINE):
        frame = frame.f_back
    line = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
    path = ".".join(local.path)
    return f"module {path}, {line}" if path else line


def _fingerprint(saved: Any, total: int = 0) -> int:
    for value in saved:
        if isinstance(value, (tuple, list)):
            total = _fingerprint(value, total)
        elif isinstance(value, np.ndarray):
            total = hash((total, checksum(value)))
    return total


class _Detector(Observer):
    def __init__(self) -> None:
        self.prints: dict[int, tuple[Any, int]] = {}

    def after_op(self, op: Any, inputs: Any, params: Any, outputs: Any, node: Any, seconds: float) -> None:
        where = _where()
        if node is not None:
            node.extras().where = where
            if isinstance(node.saved, tuple):
                self.prints[id(node)] = (node, _fingerprint(node.saved))
        found = [_bad(x) for x in inputs]
        if "a NaN" in found:
            name = op.inputs[min(found.index("a NaN"), len(op.inputs) - 1)]
            raise AnomalyError(f"{op.name}: a NaN came in with its input {name!r}, from data and not from an operation ({where})")
        for out in outputs:
            made = _bad(out)
            if made == "a NaN" or (made and "an Inf" not in found):
                given = ", ".join(describe_value(x._data if isinstance(x, Tensor) else x) for x in inputs)
                raise AnomalyError(f"{op.name} made {made} in its forward, called with {given} ({where})")

    def after_rule(self, node: Any, g: Any, gradients: Any, seconds: float) -> None:
        where = node.extra.where if node.extra is not None and node.extra.where else "recorded outside detect_anomaly"
        known = self.prints.get(id(node))
        # what a checkpoint has thrown away, its second run makes and checks
        if known is not None and isinstance(node.saved, tuple) and known[1] != _fingerprint(node.saved):
            raise AnomalyError(f"{node.op.name}: an array that its gradient needs was overwritten after the forward ({where})")
        came = [_bad(x) for x in (g if isinstance(g, (tuple, list)) else (g,))]
        for i, d in enumerate(gradients):
            made = _bad(d)
            if made and made not in came:
                name = node.op.inputs[min(i, len(node.op.inputs) - 1)]
                raise AnomalyError(
                    f"{node.op.name} made {made} in its backward, in the gradient of {name!r}; forward was at: {where}"
                )


class detect_anomaly(observe):
    """``with detect_anomaly():`` stops at the first operation that makes a NaN or Inf, forward or backward.

    The error names the operation, the module path and the line that called it. Also finds every array that was overwritten between
    forward and backward, by whoever had it (`array = x.data` before, `array[0] = 1` after). Slow: every value is checked.
    """

    def __init__(self) -> None:
        super().__init__(_Detector())
