"""What does training in bfloat16 bring: a whole step beside the same step in float32, and beside PyTorch's autocast?

The step of `training_step`: products of matrices rounded to bfloat16 with float32 sums, weights, optimizer and all else float32.
PyTorch runs the same model under `torch.autocast("cpu", dtype=torch.bfloat16)`. Validated are loss and gradient norm of the
first step, to bfloat16's accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from _checkpoints import checkpoint
from training_step import SHAPES, Batch, our_step, steps_on_a_batch, tight_gpt, torch_step

from tinygrad_llm.bench import Case, Options

NAMES = (
    "nanoGPT on a CPU, 4 x 128, B12 T64",
    "characters, 6 x 384, B8 T256",
    "GPT-2 124M, B1 T256",
    "GPT-2 124M, B4 T256",
)


def cases(options: Options) -> Iterator[Case]:
    return map(precision_case, options.picked(NAMES))


def precision_case(name: str) -> Case:
    preset, overrides, vocabulary, B, T, S = SHAPES[name]
    case = steps_on_a_batch(name, preset, vocabulary, B, T, S, tol=2e-2)

    @case.contestant("ours")
    def _(batch: Batch) -> Any:
        import tinygrad_llm as tg

        return tg.autocast("bfloat16")(our_step(checkpoint(preset, **overrides), batch))

    @case.contestant("ours float32")
    def _(batch: Batch) -> Any:
        return our_step(checkpoint(preset, **overrides), batch)

    @case.contestant("torch")
    def _(batch: Batch) -> Any:
        model, loss = tight_gpt(checkpoint(preset, **overrides), batch)
        return torch_step(model, in_torch_bfloat16(loss))

    return case


def in_torch_bfloat16(loss: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    def autocast_loss() -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss()

    return autocast_loss
