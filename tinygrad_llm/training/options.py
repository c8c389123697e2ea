"""How long, how fast, how often: the numbers of a run, checked at once."""

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real

import numpy as np

from ..autograd.state import PRECISIONS

SCHEDULES = ("cosine", "linear", "inverse_sqrt", "constant")
OPTIMIZERS = ("adamw", "adam", "sgd")
#: What may differ between a run and its continuation.
CHANGEABLE = ("steps", "lr", "min_lr", "warmup", "eval_every", "save_every", "sample_every", "patience")


@dataclass(frozen=True)
class Options:
    """A step draws accumulate · batch examples. *_every counts steps; 0 means never. patience counts evaluations."""

    steps: int = 2000
    batch: int = 12
    accumulate: int = 1
    lr: float = 1e-3
    min_lr: float = 0.1  # the rate at the end, as a fraction of lr
    warmup: int = 100
    schedule: str = "cosine"
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.1
    clip: float = 1.0  # 0: no clipping
    eval_every: int = 250
    save_every: int = 250
    sample_every: int = 0
    patience: int = 0  # evaluations without a better loss before the run stops; 0: it never does
    seed: int = 0
    precision: str = "float32"  # of the products in forward and backward; weights, optimizer and evaluation are float32

    def __post_init__(self):
        for name in (f.name for f in fields(self)):
            if isinstance(getattr(self, name), np.generic):  # logs and checkpoints are JSON, which knows Python's numbers
                object.__setattr__(self, name, getattr(self, name).item())
        counts = ("steps", "batch", "accumulate", "warmup", "eval_every", "save_every", "sample_every", "patience", "seed")
        for name in counts:
            self.need(isinstance(getattr(self, name), Integral), name, "a whole number")
        for name in ("lr", "min_lr", "beta1", "beta2", "weight_decay", "clip"):
            self.need(isinstance(getattr(self, name), Real), name, "a number")
        for name in ("steps", "batch", "accumulate"):
            self.need(getattr(self, name) >= 1, name, "at least 1")
        for name in ("warmup", "eval_every", "save_every", "sample_every", "patience", "clip", "weight_decay", "seed"):
            self.need(getattr(self, name) >= 0, name, "at least 0")
        for name in ("clip", "weight_decay"):
            self.need(getattr(self, name) < math.inf, name, "a finite number")
        for name in ("beta1", "beta2"):
            self.need(0 <= getattr(self, name) < 1, name, "at least 0 and below 1")
        self.need(not self.patience or self.eval_every > 0, "patience", "0 where nothing is evaluated (eval_every 0)")
        self.need(0 < self.lr < math.inf, "lr", "a finite number above 0")
        self.need(0 <= self.min_lr <= 1, "min_lr", "a fraction of lr, from 0 to 1")
        self.need(self.schedule in SCHEDULES, "schedule", f"one of {', '.join(SCHEDULES)}")
        self.need(self.optimizer in OPTIMIZERS, "optimizer", f"one of {', '.join(OPTIMIZERS)}")
        self.need(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")
        if self.warmup >= self.steps:  # a short run warms up for a tenth of its steps
            object.__setattr__(self, "warmup", self.steps // 10)

    def need(self, good: bool, name: str, expected: str) -> None:
        if not good:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")
