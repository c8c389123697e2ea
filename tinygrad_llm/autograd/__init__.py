"""The engine: tensors that remember how they were made, and the walk back through that memory.

state.py (switches) → node.py (the graph) → tensor.py → op.py (the registry and choke point) → engine.py (the walk)
→ ops_*.py (the operations) → methods.py (what can be called on a Tensor) → functional.py.
"""

import sys
from typing import Any

from kernels._memory import keep_freed_memory

from . import methods as methods
from .anomaly import AnomalyError, detect_anomaly
from .checkpointing import checkpoint
from .elsewhere import OF_AUTOGRAD, no_attribute
from .engine import GradientError, backward, grad
from .node import mark_written
from .op import Op, custom_op, op, registry
from .ops import *  # noqa: F403
from .ops import __all__ as _ops
from .random import generator, manual_seed
from .state import Observer, autocast, enable_grad, is_grad_enabled, module_scope, no_grad, observe
from .tensor import Tensor, implements
from .transforms import hessian, hvp, jacobian, jvp, vjp

__all__ = [
    "AnomalyError", "GradientError", "Observer", "Op", "Tensor", "autocast", "backward", "checkpoint", "custom_op",
    "detect_anomaly", "enable_grad", "generator", "grad", "hessian", "hvp", "implements", "is_grad_enabled", "jacobian",
    "jvp", "manual_seed", "mark_written", "module_scope", "no_grad", "observe", "op", "registry", "vjp",
]  # fmt: skip
__all__ += _ops  # noqa: PLE0605

keep_freed_memory()


def __getattr__(name: str) -> Any:
    """What `torch.autograd` has and this room has not: the error says how it is written."""
    raise no_attribute(sys.modules[__name__], name, OF_AUTOGRAD)
