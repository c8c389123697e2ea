"""The losses of the heads, from hidden states or logits and labels, as transformers defines them; labels of -100 are ignored.

Without labels there is no loss, and each of them gives None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..autograd import functional as F
from ..nn import Int8Weight, Linear, Module, linear, tap
from ..nn.module import is_plain
from ..nn.tap import wanted
from .inputs import IGNORED, as_array, label_ids
from .outputs import Later


def vocabulary(
    hidden: Tensor,
    output: Tensor | Int8Weight | Module,
    bias: Tensor | None = None,
    labels: Any = None,
    *,
    transform: Callable[[Tensor], Tensor] | None = None,
    transform_reads: Iterable[Tensor] = (),
    label_smoothing: float = 0.0,
    next_token: bool = False,
) -> tuple[Any, Tensor | None]:
    """(logits, loss) of the output layer: logits = output(transform(hidden)) + bias, (B, T, D) -> (B, T, V).

    `output` is a layer, or the weight (V, D) of one. With labels (B, T), the loss is made chunk by chunk from the labelled rows
    alone, and the logits only if somebody reads them: they are the largest array of a training step, and in masked language
    modelling six rows in seven of them are not used. That reads a Linear's parameters; a layer with a hook or a forward of its
    own is called. `next_token`: position t's logits are judged at label t + 1. `transform_reads`: the parameters of `transform`.
    """
    if isinstance(output, Linear) and is_plain(output, Linear):
        own = output.bias
        output, bias = output.weight, own if bias is None else bias if own is None else bias + own

    def logits() -> Tensor:
        x = hidden if transform is None else transform(hidden)
        if not isinstance(output, Module):
            return tap("logits", linear(x, output, bias))
        return tap("logits", output(x) if bias is None else output(x) + bias)

    if labels is None:
        return logits(), None
    B, T, D = hidden.shape
    # somebody looks at them, or changes them; or the loss has no shortcut
    shown = logits() if wanted("logits") or not isinstance(output, Tensor) else None
    target = label_ids(labels, (B, T), output.shape[0] if shown is None else shown.shape[-1])
    if next_token:  # labels move, not logits
        target = np.concatenate([target[:, 1:], np.full((B, 1), IGNORED)], axis=1)
    target = target.reshape(-1)
    if shown is not None:
        return shown, F.cross_entropy(shown.reshape(B * T, -1), target, ignore_index=IGNORED, label_smoothing=label_smoothing)
    rows = hidden.reshape(B * T, D)
    used = np.flatnonzero(target != IGNORED)
    if 0 < used.size < 0.9 * target.size:  # a copy of few rows is cheaper than products with all
        rows, target = rows[used], target[used]
    rows = rows if transform is None else transform(rows)
    return Later(logits, (output, bias, *transform_reads)), F.linear_cross_entropy(
        rows, output, target, bias, ignore_index=IGNORED, label_smoothing=label_smoothing
    )


def tokens(logits: Tensor, labels: Any) -> Tensor | None:
    """Mean cross-entropy of logits (B, T, C) at labels (B, T)."""
    if labels is None:
        return None
    B, T, C = logits.shape
    return F.cross_entropy(logits.reshape(B * T, C), label_ids(labels, (B, T), C).reshape(-1), ignore_index=IGNORED)


def rows(logits: Tensor, labels: Any, name: str = "labels") -> Tensor | None:
    """Mean cross-entropy of logits (B, C) at labels (B,)."""
    if labels is None:
        return None
    B, C = logits.shape
    return F.cross_entropy(logits, label_ids(as_array(labels, name).reshape(-1), (B,), C, name), ignore_index=IGNORED)


def classification(logits: Tensor, labels: Any, problem_type: str | None) -> Tensor | None:
    """Regression, single-label or multi-label, by `problem_type` or else by the labels' dtype and the number of classes."""
    if labels is None:
        return None
    B, classes = logits.shape
    array = as_array(labels, "labels")
    kind = problem_type
    if kind is None:
        whole = array.dtype.kind in "iu"
        kind = "regression" if classes == 1 else "single_label_classification" if whole else "multi_label_classification"
    if kind == "single_label_classification":
        return rows(logits, array)
    if classes == 1:
        array = array.reshape(-1, 1)
    if array.shape != logits.shape:
        what = "a number" if kind == "regression" else "0 or 1"
        raise ValueError(f"labels: expected {logits.shape} ({what} for each class), got {np.shape(labels)}")
    targets = Tensor(array.astype(logits.dtype))
    return F.mse_loss(logits, targets) if kind == "regression" else F.binary_cross_entropy_with_logits(logits, targets)


def span(start: Tensor, end: Tensor, start_positions: Any, end_positions: Any) -> Tensor | None:
    """Mean of the cross-entropies of an answer's first and last position; positions outside the sequence are ignored."""
    if start_positions is None or end_positions is None:
        return None
    B, T = start.shape
    parts = []
    for logits, given, name in ((start, start_positions, "start_positions"), (end, end_positions, "end_positions")):
        where = as_array(given, name).reshape(-1)
        if where.shape != (B,):
            raise ValueError(f"{name}: expected shape ({B},), got {where.shape}")
        where = np.clip(where, 0, T)
        parts.append(F.cross_entropy(logits, np.where(where == T, IGNORED, where), ignore_index=IGNORED))
    return (parts[0] + parts[1]) / 2


def add(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """The sum of the losses that are there."""
    return first if second is None else second if first is None else first + second
