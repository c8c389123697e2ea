"""Read a run: logit lens, direct logit attribution, activation patching, attribution patching.

All of them use the model itself, in evaluation mode, through `record` and `patch`: no second implementation of any family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._check import whole
from ..autograd import Tensor, enable_grad, grad, no_grad
from ..generate.beam import top_indices
from ..generate.filters import softmax
from ..models.outputs import word_logits
from ..nn import evaluating
from .look import patch, record
from .naming import main_side, names, of_side

Metric = Callable[[Any], Any]  # takes the model's output, returns a scalar Tensor (or a number, where no gradient is asked for)


def depth(model: Any, side: str = "") -> int:
    """How many layers the model has; of an encoder-decoder its `side`, "encoder" or "decoder" (the default)."""
    start = f"{of_side(side or main_side(model))}blocks."
    numbers = [int(name[len(start) :].split(".")[0]) for name in names(model) if name.startswith(start)]
    if not numbers:
        raise ValueError(f"depth: {type(model).__name__} has no layers named {start}0, {start}1, ...")
    return 1 + max(numbers)


@contextmanager
def gradients_kept(model: Any) -> Iterator[None]:
    """A backward inside starts from no gradients and leaves those that the parameters had before."""
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in before:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient


def _need_logits(model: Any, who: str) -> None:
    if "logits" not in names(model):
        own = 'load it with a head that does (head=...), or name your own, nn.tap("logits", ...)'
        raise TypeError(f"{who}: {type(model).__name__} makes no logits of words; {own}")


def _need_place(shape: tuple[int, ...], position: int, *tokens: int | None) -> None:
    T, V = shape
    if not -T <= position < T:
        raise IndexError(f"direct_logit_attribution: position {position} is outside the text's {T} tokens")
    for token in tokens:
        if token is not None and not 0 <= token < V:
            raise IndexError(f"direct_logit_attribution: token {token} is outside the vocabulary of {V}")


def _need_targets(targets: np.ndarray, shape: tuple[int, ...]) -> None:
    if targets.shape != shape[:2] or targets.dtype.kind not in "iu":
        raise ValueError(f"logit_lens: expected token ids of shape {shape[:2]} as targets, got {targets.dtype} {targets.shape}")
    if targets.size and not 0 <= targets.min() <= targets.max() < shape[2]:
        raise IndexError(f"logit_lens: targets from {targets.min()} to {targets.max()} are outside the vocabulary of {shape[2]}")


def _patch_places(model: Any, tap: str, side: str, clean: dict[str, Any], corrupted: dict[str, Any]) -> list[str]:
    """The names of one tap in every layer, for patching position by position; both runs must line up."""
    for run in (clean, corrupted):
        if not isinstance(run, Mapping):
            raise TypeError(
                f'patching by position: a run is the model call\'s arguments, {{"input_ids": ids}}; got {type(run).__name__}'
            )
    if tap.endswith(("scores", "pattern")):
        raise ValueError(
            f"patching by position: {tap} has heads where other values have positions; take 'attn.z' or patch() itself"
        )
    for key in clean:
        one, other = np.shape(clean[key]), np.shape(corrupted.get(key, ()))
        if one != other:
            raise ValueError(f"patching by position: {key} of the clean run has shape {one}, of the corrupted run {other}")
    return [f"{of_side(side or main_side(model))}blocks.{i}.{tap}" for i in range(depth(model, side))]


def _number(score: Any) -> float:
    """What a metric returned: a Tensor, an array or a number."""
    if np.size(score) != 1:
        raise ValueError(f"patching by position: the metric gives one number for a run, got an array of shape {np.shape(score)}")
    return float(score.item() if hasattr(score, "item") else score)


# -- logit lens --------------------------------------------------------------------------------------------------------


@dataclass
class LogitLens:
    """What each layer would say if it were the last. Row 0 is the embedding, row i what comes out of layer i."""

    layers: list[str]
    tokens: np.ndarray  # (L + 1, B, T, k) int64, most likely first
    probabilities: np.ndarray  # (L + 1, B, T, k)
    ranks: np.ndarray | None  # (L + 1, B, T): the rank of `targets`, 0 = first

    def text(self, decode: Callable[[int], str] = str, row: int = 0, width: int = 12) -> str:
        """The first choices as a table, a line for each layer."""
        lines = []
        for layer, tokens in zip(self.layers, self.tokens[:, row, :, 0], strict=True):
            cells = [repr(decode(int(t)))[1:-1][: width - 1].ljust(width) for t in tokens]
            lines.append(f"{layer:<20}{''.join(cells)}")
        return "\n".join(lines)


def logit_lens(model: Any, top: int = 5, targets: np.ndarray | None = None, **inputs: Any) -> LogitLens:
    """Read the residual stream after each layer with the model's own last norm and output matrix.

    The stream after layer i is put in the place of the last layer's, and the model goes on from there. `targets` (B, T):
    tokens whose rank is wanted. nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    _need_logits(model, "logit_lens")
    top = whole("top", top, 0)  # 0: the ranks alone
    side, last = of_side(main_side(model)), depth(model) - 1
    places = [f"{side}blocks.0.resid_pre", *(f"{side}blocks.{i}.resid_post" for i in range(last + 1))]
    with no_grad(), evaluating(model), record(model, *places) as values:
        model(**inputs)
    tokens, shares, ranks = [], [], []
    for place in places:
        with no_grad(), evaluating(model), patch(model, {places[-1]: values[place]}):
            logits = word_logits(model(**inputs))._data
        V = logits.shape[-1]
        if targets is not None:
            _need_targets(np.asarray(targets), logits.shape)
        top_tokens = top_indices(logits.reshape(-1, V), min(top, V)).reshape(*logits.shape[:-1], -1)
        tokens.append(top_tokens)
        shares.append(np.take_along_axis(softmax(logits), top_tokens, -1))
        if targets is not None:
            own = np.take_along_axis(logits, np.asarray(targets)[..., None], -1)
            ranks.append((logits > own).sum(-1))
    labels = ["embed", *(f"layer {i}" for i in range(last + 1))]
    return LogitLens(labels, np.stack(tokens), np.stack(shares), np.stack(ranks) if targets is not None else None)


# -- direct logit attribution ------------------------------------------------------------------------------------------


@dataclass
class Attribution:
    """How much each component adds to the logit of `token`. `values[i]` belongs to `components[i]`; they sum to `total`."""

    components: list[str]
    values: np.ndarray
    total: float
    token: int

    def text(self, limit: int = 12) -> str:
        """The parts that write most, one a line."""
        order = np.argsort(-np.abs(self.values))[:limit]
        return "\n".join(f"{self.components[i]:<24}{self.values[i]:>10.4f}" for i in order)


def direct_logit_attribution(
    model: Any, position: int = -1, token: int | None = None, against: int | None = None, heads: bool = False, **inputs: Any
) -> Attribution:
    """What each part of a pre-norm decoder writes towards a token's logit at one position (of the first row).

    The stream before the last norm is a sum: embedding, each layer's attention, each feed-forward. With the norm's scale
    held at its value in this run, norm and output matrix are linear, and the logit is the sum of what they make of each part
    (and of a constant, the biases). `token` None is the model's first choice; `against` attributes the difference of two logits.
    `heads`: each attention's part is told head by head, named as `patch` names a head; the output projection's bias is constant.
    Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
    """
    _need_logits(model, "direct_logit_attribution")
    side, L = of_side(main_side(model)), depth(model)
    parts = [f"{side}blocks.0.resid_pre"]
    for i in range(L):
        parts += [n for n in (f"{side}blocks.{i}.{tap}" for tap in ("attn_out", "cross_out", "mlp_out")) if n in names(model)]
    end = f"{side}blocks.{L - 1}.resid_post"
    with no_grad(), evaluating(model), record(model, *parts, end) as values:
        logits = word_logits(model(**inputs))._data[0]  # (T, V)
    _need_place(logits.shape, position, token, against)
    logits = logits[position]
    stream = values[end][0, position].astype(np.float64)
    pieces = np.stack([values[name][0, position] for name in parts]).astype(np.float64)
    if np.abs(pieces.sum(0) - stream).max() > 1e-5 * max(np.abs(pieces).max(), np.abs(stream).max()):  # float32 sums
        raise TypeError(
            f"direct_logit_attribution: in {type(model).__name__} the last stream is not the sum of its parts "
            "(a norm follows each: post-norm); use attribution_patching, which needs no such sum"
        )
    token = int(np.argmax(logits)) if token is None else token
    direction, constant = _frozen_readout(model, end, stream, token, against, position, inputs)
    worth = pieces @ direction
    total = float(logits[token] - (0.0 if against is None else logits[against]))
    told = dict(zip(["embed", *(name.removeprefix(side) for name in parts[1:])], worth, strict=True))
    if heads:
        told, constant = _by_head(model, side, told, constant, direction, position, inputs)
    return Attribution([*told, "constant"], np.array([*told.values(), constant]), total, token)


def _by_head(
    model: Any, side: str, told: dict[str, float], constant: float, direction: np.ndarray, position: int, inputs: Any
) -> tuple[dict[str, float], float]:
    """The same with heads in the place of attentions. What an attention writes is linear in its heads' z: its gradient there tells
    each head's share, and what no head brings is the bias."""
    attentions = {name: f"{name.removesuffix('_out')}.z" for name in told if name.endswith(("attn_out", "cross_out"))}
    z: dict[str, Tensor] = {}
    written: dict[str, Tensor] = {}
    cut = lambda name: lambda value: z.setdefault(name, Tensor(value._data, requires_grad=True))
    read = lambda name: lambda value: (written.setdefault(name, (value[0, position] * direction).sum()), value)[1]
    watched = {side + tap: cut(out) for out, tap in attentions.items()} | {side + out: read(out) for out in attentions}
    with enable_grad(), evaluating(model), patch(model, watched):
        word_logits(model(**inputs))
        slopes = dict(zip(attentions, grad(list(written.values()), [z[out] for out in attentions]), strict=True))
    result: dict[str, float] = {}
    for name, value in told.items():
        if name not in attentions:
            result[name] = value
            continue
        slope = slopes[name]
        assert slope is not None
        shares = (z[name]._data[0, position].astype(np.float64) * slope._data[0, position]).sum(-1)  # (T, H, K) -> (H,)
        result |= {f"{attentions[name]}[:, :, {h}]": float(share) for h, share in enumerate(shares)}
        constant += value - float(shares.sum())
    return result, constant


def _frozen_readout(model: Any, end: str, stream: np.ndarray, token: int, against: int | None, position: int, inputs: Any) -> Any:
    """(direction, constant): the logit as a linear function of the stream, with the last norm's scale held fixed.

    The logit's gradient g at the stream x is that of the norm in full. Norms keep their value when x - mean(x) is scaled, so what
    is frozen differs only along that line: w = g + c·(x - mean(x)), c fixed by asking that the parts' sum give the logit.
    """
    stop: dict[str, Tensor] = {}

    def catch(value: Tensor) -> Tensor:
        return stop.setdefault("x", Tensor(value._data, requires_grad=True))  # a checkpoint calls it again

    def logit(change: Callable[[Tensor], Tensor]) -> Tensor:
        with evaluating(model), patch(model, {end: change}):
            row = word_logits(model(**inputs))[0, position]
        return row[token] if against is None else row[token] - row[against]

    with enable_grad():
        picked = logit(catch)
        (slope,) = grad(picked, [stop["x"]])  # no parameter's gradient is touched
    assert slope is not None
    value, g = picked.item(), slope._data[0, position].astype(np.float64)
    with no_grad():
        at_zero = logit(lambda v: v * 0.0).item()  # norm of nothing: what the biases alone say
    centred = stream - (stream.mean() if abs(g.sum()) <= 1e-4 * np.abs(g).sum() else 0.0)
    square = centred @ stream
    c = (value - at_zero - g @ stream) / square if square else 0.0  # a stream of zeros adds nothing
    return g + c * centred, at_zero


# -- patching ----------------------------------------------------------------------------------------------------------


def activation_patching(
    model: Any, clean: dict[str, Any], corrupted: dict[str, Any], metric: Metric, tap: str = "resid_pre", side: str = ""
) -> np.ndarray:
    """(L, T): the metric of the corrupted run when one layer's value at one position is taken from the clean run.

    0 where it changes nothing, 1 where it brings back the clean run's metric. `side`: whose layers and positions, the "encoder"'s
    or the "decoder"'s. Meng et al. 2022, "Locating and Editing Factual Associations in GPT", §2.
    """
    places = _patch_places(model, tap, side, clean, corrupted)
    with no_grad(), evaluating(model):
        with record(model, *places) as values:
            best = _number(metric(model(**clean)))
        worst = _number(metric(model(**corrupted)))
        T = values[places[0]].shape[1]
        result = np.empty((len(places), T))
        for i, place in enumerate(places):
            for t in range(T):
                with patch(model, {f"{place}[:, {t}]": values[place][:, t]}):
                    result[i, t] = _number(metric(model(**corrupted)))
    if best == worst:
        raise ValueError("activation_patching: both runs have the same metric; there is nothing to bring back")
    return (result - worst) / (best - worst)


def attribution_patching(
    model: Any, clean: dict[str, Any], corrupted: dict[str, Any], metric: Metric, tap: str = "resid_pre", side: str = ""
) -> np.ndarray:
    """(L, T): a linear estimate of `activation_patching` from three runs: (clean - corrupted) · d metric / d value.

    Nanda 2023, "Attribution Patching: Activation Patching At Industrial Scale".
    """
    places = _patch_places(model, tap, side, clean, corrupted)
    with no_grad(), evaluating(model), record(model, *places) as good:
        best = _number(metric(model(**clean)))
    with enable_grad(), evaluating(model), gradients_kept(model), record(model, *places, gradients=True) as bad:
        value = metric(model(**corrupted))
        if not isinstance(value, Tensor):
            got = type(value).__name__
            raise TypeError(f"attribution_patching: the metric is differentiated, so it returns a Tensor; got {got}")
        worst = _number(value)
        value.backward()
    if best == worst:
        raise ValueError("attribution_patching: both runs have the same metric; there is nothing to bring back")
    rows = [((good[p] - bad[p]) * bad.grad[p]).sum(axis=(0, *range(2, good[p].ndim))) for p in places]
    return np.stack(rows) / (best - worst)
