"""tinygrad_llm: the transformer, from gradient rules to generated text, on NumPy and Numba.

    import tinygrad_llm as tg

Array operations keep NumPy's names, neural parts PyTorch's, model calls those of Hugging Face transformers.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kernels as _kernels

if TYPE_CHECKING:
    from . import autograd as autograd
    from .autograd import *  # noqa: F403
    from .autograd import random as random

# without `any`, which is ours when this module is reloaded
if not [place for place in _kernels.__path__ if (Path(place) / "reference.py").is_file()]:
    raise ImportError(
        f"tinygrad_llm needs its own package 'kernels', but Python found another at {list(_kernels.__path__)}; "
        "uninstall that one (pip uninstall kernels) and reinstall tinygrad_llm, or use separate environments"
    )

__version__ = "0.1.0"

_ROOMS = ("autograd", "bench", "cli", "data", "functional", "generate", "lens", "models", "nn", "objectives", "optim", "testing",
          "text", "training")  # fmt: skip


def __getattr__(name: str) -> Any:
    """`tg.nn`, `tg.models`, ... and all that `tinygrad_llm.autograd` exports, imported when first asked for.

    So `import tinygrad_llm` and the command line start before NumPy has been read.
    """
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name == "__all__" or not name.startswith("__"):  # whoever asks for other such names wants no engine
        engine = _engine()
        if name in engine:
            return engine[name]
        raise _nothing(name)
    raise AttributeError(f"module 'tinygrad_llm' has no attribute {name!r}")


def _nothing(name: str) -> AttributeError:
    """The error, with how to write here what others have under this name."""
    from . import functional, nn
    from .autograd import elsewhere

    hints = elsewhere.OF_SCIPY | elsewhere.OF_NUMPY | elsewhere.OF_A_TENSOR | elsewhere.OF_NN
    hints |= {part: f"tg.nn.{part}" for part in nn.__all__} | elsewhere.OF_THE_PACKAGE
    return elsewhere.no_attribute(sys.modules[__name__], name, hints, functional=functional.__all__)


def _engine() -> dict[str, Any]:
    """What `tinygrad_llm.autograd` exports, from now on attributes of this module too."""
    autograd = importlib.import_module(".autograd", __name__)
    exported = {name: getattr(autograd, name) for name in [*autograd.__all__, "random"]}
    globals().update(exported, __all__=[*exported, "autograd"])
    return globals()


def __dir__() -> list[str]:
    return sorted({*_engine(), *_ROOMS})
