"""The report's figures for notebooks and papers, by matplotlib. Each returns the Figure; `figure.savefig("x.pdf")` keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .read import Attribution, LogitLens

BLUE, ORANGE = "#0072b2", "#d55e00"  # Okabe and Ito's palette: told apart by the colour-blind too
MAP = "cividis"
SMALL, SLIM = {"shrink": 0.8}, {"fraction": 0.05, "pad": 0.02}  # the colour bar of a square figure and of a wide one
TOKEN = {"fontsize": 8, "parse_math": False}  # the dollar signs of a token are no formula


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'tinygrad-llm[viz]'") from error
    return plt


def _map(values: np.ndarray, width: float, height: float, label: str, bar: dict[str, float], **how: Any) -> tuple[Any, Any]:
    """(figure, axes) with a table of numbers as colours, and their scale in a bar beside it."""
    figure, axes = _pyplot().subplots(figsize=(width, height), layout="constrained")
    figure.colorbar(axes.imshow(values, **{"cmap": MAP, **how}), label=label, **bar)
    return figure, axes


def _shown(token: str) -> str:
    """A token as it can be seen: a line's end would break the figure's own line, and blanks alone look like nothing."""
    token = token.replace("\n", "⏎").replace("\t", "⇥")
    return token if token.strip(" ") else "␣" * len(token)


def attention(pattern: np.ndarray, tokens: Sequence[str] | None = None, keys: Sequence[str] | None = None, title: str = "") -> Any:
    """One head's pattern (T, S), queries down and keys across."""
    figure, axes = _map(pattern, 5, 5, "attention", SMALL, vmin=0, vmax=1)
    if tokens is not None:
        across = tokens if keys is None else keys
        axes.set_xticks(range(len(across)), map(_shown, across), rotation=90, **TOKEN)
        axes.set_yticks(range(len(tokens)), map(_shown, tokens), **TOKEN)
    axes.set(title=title, xlabel="key", ylabel="query")
    return figure


def heads(scores: np.ndarray, title: str = "", label: str = "score") -> Any:
    """A number for each head, (L, H), as a map with the numbers written in."""
    L, H = scores.shape
    least, top = min(0.0, float(np.nanmin(scores))), max(1e-12, float(np.nanmax(np.abs(scores))))
    figure, axes = _map(scores, 1.2 + 0.55 * H, 1.2 + 0.45 * L, label, SMALL, vmin=least, vmax=top)
    for i in range(L):
        for h in range(H):
            axes.text(h, i, f"{scores[i, h]:.2f}", ha="center", va="center", fontsize=7,
                      color="black" if scores[i, h] > 0.6 * top else "white")  # fmt: skip
    axes.set(title=title, xlabel="head", ylabel="layer", xticks=range(H), yticks=range(L))
    return figure


def logit_lens(seen: LogitLens, decode: Any = str, row: int = 0) -> Any:
    """First choices of every layer at every position, shaded by their probability."""
    tokens, shares = seen.tokens[:, row, :, 0], seen.probabilities[:, row, :, 0]
    rows, T = tokens.shape
    figure, axes = _map(shares, 1.5 + 0.6 * T, 1 + 0.32 * rows, "probability", SLIM, vmin=0, vmax=1, aspect="auto")
    for i in range(rows):
        for t in range(T):
            axes.text(t, i, _shown(decode(int(tokens[i, t]))), ha="center", va="center", fontsize=7, parse_math=False,
                      color="black" if shares[i, t] > 0.6 else "white")  # fmt: skip
    axes.set_yticks(range(len(seen.layers)), seen.layers)
    axes.set(xlabel="position", title="logit lens")
    return figure


def attribution(found: Attribution, limit: int = 16) -> Any:
    """What each component writes towards a logit, largest first."""
    order = np.argsort(-np.abs(found.values))[:limit][::-1]
    figure, axes = _pyplot().subplots(figsize=(6, 0.8 + 0.27 * len(order)), layout="constrained")
    values = found.values[order]
    axes.barh([found.components[i] for i in order], values, color=np.where(values < 0, ORANGE, BLUE))
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="contribution to the logit", title=f"direct logit attribution (total {found.total:.2f})")
    return figure


def patching(values: np.ndarray, tokens: Sequence[str] | None = None, title: str = "activation patching") -> Any:
    """(L, T) from `activation_patching` or `attribution_patching`."""
    L, T = values.shape
    most = max(1e-12, float(np.abs(values).max()))
    figure, axes = _map(values, 1.5 + 0.45 * T, 1.6 + 0.35 * L, "share brought back", SLIM,
                        cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto")  # fmt: skip
    axes.set_yticks(range(L))
    if tokens is not None:
        axes.set_xticks(range(len(tokens)), map(_shown, tokens), rotation=90, **TOKEN)
    axes.set(title=title, xlabel="position", ylabel="layer")
    return figure
