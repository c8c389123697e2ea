"""`tinygrad_llm.functional`, as F: see autograd/functional.py, where it lives."""

from .autograd.functional import *  # noqa: F403
from .autograd.functional import __all__ as __all__
