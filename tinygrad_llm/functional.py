"""`tinygrad_llm.functional`, as F: see autograd/functional.py, where it lives."""

import sys
from typing import Any

from .autograd import __all__ as _functions
from .autograd.elsewhere import OF_FUNCTIONAL, no_attribute
from .autograd.functional import *  # noqa: F403
from .autograd.functional import __all__ as __all__


def __getattr__(name: str) -> Any:
    """What `torch.nn.functional` has and this room has not: the error says how it is written."""
    raise no_attribute(sys.modules[__name__], name, OF_FUNCTIONAL, _functions, __all__)
