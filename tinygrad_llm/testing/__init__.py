"""Gradient testing, for our operations and for anybody's NumPy code.

    from tinygrad_llm import testing
    testing.gradcheck(lambda x: (x * x).sum(), x)          # a function of Tensors
    testing.check_vjp(forward, backward, (x, w))           # a hand-written pair on plain ndarrays

Names are imported when they are first used; Hypothesis only by `strategies`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "GradcheckError": "errors",
    "numerical_gradient": "numeric",
    "assert_gradients_close": "compare",
    "check_vjp": "foreign",
    "gradcheck": "engine_check",
    "gradgradcheck": "engine_check",
}
_MODULES = ("strategies", "declarations")

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(__all__))}")


def __dir__() -> list[str]:
    return sorted(__all__)
