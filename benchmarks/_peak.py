"""What a training process takes: python _peak.py PRESET OVERRIDES_JSON BATCH CONTEXT TARGET. Prints JSON.

Three steps of `training_step`, each with other random tokens. The base is the process with everything imported and every kernel
loaded, before the model is made; the peak is the largest resident memory from there on. Linux counts both.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path

import numpy as np
from training_step import CLIP, DECAY, LEARNING_RATE, batch_of

import kernels
import tinygrad_llm as tg

STEPS = 3


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def forget_peak() -> None:
    """Give freed memory back, and have the system count the peak from here."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def train(preset: str, overrides: dict, batch: int, context: int, target: int) -> None:
    tg.manual_seed(0)
    model = tg.models.create(preset, **overrides).train()
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model.named_parameters(), DECAY), lr=LEARNING_RATE)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        model(**batch_of(preset, model.config.vocab_size, batch, context, target, rng)).loss.backward()
        optimizer.clip_and_step(CLIP)
        optimizer.zero_grad()


def main(preset: str, overrides: str, *sizes: str) -> None:
    kernels.warmup()
    tg.models.describe(preset, **json.loads(overrides))
    forget_peak()
    base = resident("VmRSS")
    train(preset, json.loads(overrides), *map(int, sizes))
    print(json.dumps({"base": base, "peak_above_base": resident("VmHWM") - base}))


if __name__ == "__main__":
    main(*sys.argv[1:])
