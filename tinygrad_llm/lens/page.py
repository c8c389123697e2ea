"""One self-contained page about one run of a model on one text: `report(model, inputs, ...)` gives its HTML.

Attention is stored as square roots in few levels and deflated; the page needs no network and opens from disk.
"""

from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd import no_grad
from ..models.seq2seq import shift_right
from ..nn import evaluating
from .heads import distance, entropy, induction_scores, previous_token_scores
from .look import record
from .naming import main_side, names, of_side
from .profiler import Profile, profile
from .read import direct_logit_attribution, gradients_kept, logit_lens

BUDGET = 4_000_000  # bytes of packed attention; with everything else the page stays under 5 MB


def report(
    model: Any,
    inputs: Mapping[str, Any] | None = None,
    decode: Callable[[int], str] = str,
    title: str = "inside the model",
    **arguments: Any,
) -> str:
    """The page's HTML.

    `inputs`: the model call's arguments, one row, with `labels` where gradients are wanted; also by name, as everywhere in the
    lens: `report(model, input_ids=ids)`. `decode`: id -> text.
    """
    if not isinstance(inputs or {}, Mapping) or not callable(decode) or "input_ids" not in (inputs or arguments):
        raise TypeError('report: expected (model, {"input_ids": ids}, decode), decode a function; it returns the page as text')
    inputs = _with_decoder_ids(model, {**(inputs or {}), **arguments})
    ids = np.asarray(inputs["input_ids"])
    if ids.ndim != 2 or ids.shape[0] != 1 or ids.shape[1] < 1:
        raise ValueError(f"report: expected one row of ids, shape (1, T), got {ids.shape}")
    texts = {"": [decode(int(i)) for i in ids[0]]}
    if main_side(model):
        texts = {"encoder": texts[""], "decoder": [decode(int(i)) for i in np.asarray(inputs["decoder_input_ids"])[0]]}
    plain = {key: value for key, value in inputs.items() if key != "labels"}
    with evaluating(model), gradients_kept(model):
        _run(model, inputs)  # loads the kernels, which the profile would count as time of the operations
        model.zero_grad()
        run, streams, gradients = _run(model, inputs)
        histograms = _histograms(model)
    for name, value in streams.items():
        _need_finite(name, value)
    for name, value in gradients.items():
        _need_finite(f"the gradient at {name}", value)
    data = {
        "title": title,
        "facts": f"{type(model).__name__}, {model.num_parameters():,} parameters, {ids.shape[1]} tokens",
        "tokens": texts.get("decoder", texts.get("", [])),
        "attention": _attention(model, plain, texts, ids),
        "lens": _lens(model, plain, decode),
        "norms": _norms(streams, gradients, list(texts)),
        "attribution": _attribution(model, plain, decode),
        "histograms": histograms,
        "profile": _profile(run),
        "graph": run.svg(),
    }
    text = json.dumps(data, ensure_ascii=False).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    return page.replace("__DATA__", text).replace("<title>inside the model</title>", f"<title>{html.escape(title)}</title>")


def _with_decoder_ids(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The arguments with what an encoder-decoder's decoder reads, which the model makes of labels where they stand alone."""
    if not main_side(model) or inputs.get("decoder_input_ids") is not None:
        return inputs
    if inputs.get("labels") is None:
        raise TypeError(f"report: {type(model).__name__} reads two texts; expected decoder_input_ids, or labels, too")
    return {**inputs, "decoder_input_ids": shift_right(inputs["labels"], model.config)}


def _need_finite(name: str, value: np.ndarray) -> None:
    """The page's JSON knows no NaN, and a picture of one would say nothing."""
    if not np.isfinite(value).all():
        raise ValueError(f"report: {name} has NaN or infinity on this text; tg.detect_anomaly() names the operation that makes it")


def _run(model: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """One profiled run, backward too where there are labels: (profile, streams by name, their gradients by name)."""
    wanted = [name for name in names(model) if name.endswith(("resid_pre", "resid_post"))]
    learns = inputs.get("labels") is not None
    with profile() as run, record(model, *wanted, gradients=learns) as values:
        out = model(**inputs)
        if learns:
            out.loss.backward()
    return run, dict(values), dict(values.grad)


def _attention(model: Any, inputs: dict[str, Any], texts: dict[str, list[str]], ids: np.ndarray) -> list[dict[str, Any]]:
    """Every kind of attention of the model, packed."""
    known = names(model)
    kinds = [(side, kind) for side in texts for kind in ("attn", "cross") if f"{of_side(side)}blocks.0.{kind}.pattern" in known]
    if not kinds:
        return []
    wanted = [f"{of_side(side)}blocks.*.{kind}.pattern" for side, kind in kinds]
    with no_grad(), evaluating(model), record(model, *wanted) as values:
        model(**inputs)
    result = []
    for side, kind in kinds:
        pattern = values.stack(f"{kind}.pattern", side)[:, :1]  # (L, 1, H, T, S)
        packed, levels = pack(pattern[:, 0], BUDGET // len(kinds))
        L, _, H, T, S = pattern.shape
        keys = texts["encoder"] if kind == "cross" else texts[side]
        name = {"attn": "self-attention", "cross": "cross-attention"}[kind] + (f", {side}" if side else "")
        result.append(
            {"name": name, "L": L, "H": H, "T": T, "S": S, "levels": levels, "packed": packed, "queries": texts[side],
             "keys": keys, "self": kind == "attn", "notes": _notes(pattern, ids if kind == "attn" and not side else None)}
        )  # fmt: skip
    return result


def pack(pattern: np.ndarray, budget: int) -> tuple[str, int]:
    """(L, H, T, S) in [0, 1] -> (base64 of the deflated square roots, number of levels): as many levels as the budget allows."""
    roots = np.sqrt(np.clip(pattern, 0, 1))
    for levels in (64, 32, 16, 8, 4, 2):
        codes = np.rint(roots * (levels - 1)).astype(np.uint8)
        text = base64.b64encode(zlib.compress(codes.tobytes(), 6)).decode("ascii")
        if len(text) <= budget:
            break
    return text, levels


def _notes(pattern: np.ndarray, ids: np.ndarray | None) -> list[list[str]]:
    """A line about each head: entropy, distance and, for self-attention, what it does."""
    spread, far = entropy(pattern), distance(pattern)
    before = previous_token_scores(pattern) if pattern.shape[-1] == pattern.shape[-2] else np.full(spread.shape, np.nan)
    copying = induction_scores(pattern, ids) if ids is not None else np.full(spread.shape, np.nan)
    return [
        [
            f"entropy {spread[i, h]:.2f} nats, mean distance {far[i, h]:.1f}"
            + ("" if np.isnan(before[i, h]) else f", previous token {before[i, h]:.2f}")
            + ("" if np.isnan(copying[i, h]) else f", induction {copying[i, h]:.2f}")
            for h in range(spread.shape[1])
        ]
        for i in range(spread.shape[0])
    ]


def _lens(model: Any, inputs: dict[str, Any], decode: Callable[[int], str]) -> dict[str, Any] | None:
    if "logits" not in names(model):
        return None
    seen = logit_lens(model, top=1, **inputs)
    _need_finite("logits", seen.probabilities)
    rows = []
    for name, tokens, shares in zip(seen.layers, seen.tokens[:, 0, :, 0], seen.probabilities[:, 0, :, 0], strict=True):
        rows.append({"name": name, "cells": [[decode(int(t)), float(p)] for t, p in zip(tokens, shares, strict=True)]})
    return {"rows": rows}


def _norms(streams: dict[str, Any], gradients: dict[str, Any], sides: Sequence[str]) -> list[dict[str, Any]]:
    charts = []
    for side in sides:
        start = of_side(side)
        order = [n for n in streams if n.startswith(start) and (n.endswith("resid_post") or n == f"{start}blocks.0.resid_pre")]
        labels = ["in", *(str(i) for i in range(len(order) - 1))]
        for values, what in ((streams, "stream's vectors after each layer"), (gradients, "loss's gradient there")):
            if values and all(n in values for n in order):
                lengths = [float(np.linalg.norm(values[n], axis=-1).mean()) for n in order]
                caption = f"{side or 'model'}: length of the {what}"
                charts.append({"series": [{"values": lengths}], "labels": labels, "caption": caption})
    return charts


def _attribution(model: Any, inputs: dict[str, Any], decode: Callable[[int], str]) -> dict[str, Any] | None:
    if "logits" not in names(model) or main_side(model):
        return None
    try:
        found = direct_logit_attribution(model, **inputs)
    except TypeError:  # a post-norm model: its stream is not a sum of parts, and the page has no such section
        return None
    order = np.argsort(-np.abs(found.values))[:24]
    labels, values = [found.components[i] for i in order], [float(found.values[i]) for i in order]
    return {"labels": labels, "values": values, "choice": decode(found.token), "total": f"{found.total:.2f}"}


def _profile(run: Profile) -> list[list[Any]]:
    """A row for each operation: name, calls, forward ms, backward ms, share of the time, GFLOP/s of the forward."""
    rows = run.by_op()
    seconds = sum(row.seconds for row in rows) or 1.0
    return [
        [r.name, r.calls, f"{r.forward * 1e3:.2f}", f"{r.backward * 1e3:.2f}", f"{r.seconds / seconds:.1%}",
         f"{r.flops / r.forward / 1e9:.1f}" if r.forward else "-"]
        for r in rows
    ]  # fmt: skip


def _histograms(model: Any) -> list[list[dict[str, Any]]]:
    """Two rows: weight matrices and their gradients, one histogram for each layer."""
    groups: dict[str, list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        parts = name.split(".")
        at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        groups.setdefault(".".join(parts[: at + 1]) if at is not None else parts[0], []).append(parameter)
    weights: list[dict[str, Any]] = []
    gradients: list[dict[str, Any]] = []
    for name, members in groups.items():
        weights.append({"name": name, **_histogram([p._data for p in members])})
        if slopes := [p.grad._data for p in members if p.grad is not None]:
            gradients.append({"name": name, **_histogram(slopes)})
    return [row for row in (weights, gradients) if row]


def _histogram(arrays: list[np.ndarray]) -> dict[str, Any]:
    values = np.concatenate([a.ravel() for a in arrays])
    values = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(values, [0.1, 99.9])) if values.size else (0.0, 1.0)
    counts, _ = np.histogram(values, bins=40, range=(low, high if high > low else low + 1e-12))
    return {"counts": counts.tolist(), "low": low, "high": high}
