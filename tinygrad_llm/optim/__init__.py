"""Optimizers over flat storage, gradient clipping, and learning-rate schedules.

    optimizer = optim.AdamW(optim.decay_groups(model.named_parameters(), 0.1), lr=1e-3)
    schedule = optim.cosine(optimizer, warmup=100, total=2000)
    loss.backward(); optim.clip_grad_norm_(parameters, 1.0); optimizer.step(); schedule.step(); optimizer.zero_grad()
"""

import sys
from typing import Any

from ..autograd.elsewhere import OF_OPTIM, no_attribute
from .adam import Adam, AdamW
from .clip import clip_grad_norm_
from .optimizer import Optimizer, decay_groups
from .schedules import Schedule, constant, cosine, inverse_sqrt, linear
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "Schedule", "clip_grad_norm_", "constant", "cosine", "decay_groups",
           "inverse_sqrt", "linear"]


def __getattr__(name: str) -> Any:
    """What `torch.optim` has and this room has not: the error says how it is written."""
    raise no_attribute(sys.modules[__name__], name, OF_OPTIM)
