"""tinygrad_llm: the transformer, from gradient rules to generated text, on NumPy and Numba.

    import tinygrad_llm as tg

Array operations keep NumPy's names, neural parts PyTorch's, model calls those of Hugging Face transformers.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import kernels as _kernels

if not any((Path(place) / "reference.py").is_file() for place in _kernels.__path__):
    raise ImportError(
        f"tinygrad_llm needs its own package 'kernels', but Python found another at {list(_kernels.__path__)}; "
        "uninstall that one (pip uninstall kernels) and reinstall tinygrad_llm, or use separate environments"
    )

from . import autograd as autograd
from .autograd import *  # noqa: F403
from .autograd import random as random

__version__ = "0.1.0"

_ROOMS = (
    "bench",
    "cli",
    "data",
    "functional",
    "generate",
    "lens",
    "models",
    "nn",
    "objectives",
    "optim",
    "testing",
    "text",
    "training",
)


def __getattr__(name: str) -> Any:
    """`tg.nn`, `tg.models`, ...: imported when first used, so that `import tinygrad_llm` stays quick."""
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'tinygrad_llm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
