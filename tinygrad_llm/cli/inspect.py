"""`tinygrad-llm inspect DIR --text TEXT --out report.html`: one self-contained page about a model's run on a text."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("inspect", help="look inside a model: attention, residual stream, logit lens, graph")
    parser.add_argument("directory", metavar="DIR", help="a model's directory: config.json, model.safetensors and a tokenizer")
    parser.add_argument("--text", required=True, help="the text that the model runs on")
    parser.add_argument(
        "--target",
        default=None,
        help="for a sequence-to-sequence model: the text that its decoder runs on (default: what it generates)",
    )
    parser.add_argument("--out", default="report.html", help="the page to write (default: report.html)")
    parser.add_argument("--force", action="store_true", help="overwrite the page if it is there")


def run(args: argparse.Namespace) -> int:
    from .. import models, text
    from ..lens.page import report

    out = Path(args.out)
    if out.exists() and not args.force:
        raise FileExistsError(f"{out} is there already; --force overwrites it, --out names another")
    if not args.text:
        raise ValueError("--text is empty; give the model something to read")
    tokenizer = text.load(args.directory)
    model = models.load(args.directory)
    model.eval()
    inputs = prepare(model, tokenizer, args.text, args.target)
    title = f"{Path(args.directory).resolve().name}: {args.text if len(args.text) <= 60 else args.text[:57] + '...'}"
    page = report(model, inputs, lambda i: token_text(tokenizer, i), title)
    beside = out.with_name(out.name + ".part")
    beside.write_text(page, encoding="utf-8")
    os.replace(beside, out)
    print(f"wrote {out} ({len(page) / 1e6:.1f} MB)", file=sys.stderr)
    return 0


def prepare(model: Any, tokenizer: Any, given: str, target: str | None) -> dict[str, Any]:
    """The model call's arguments for one text; labels where the model has a loss to show gradients of."""
    ids = tokenizer.encode(given)[None].astype("int64")
    if ids.shape[1] < 1:
        raise ValueError(f"the tokenizer makes no token of {given!r}; give a longer text")
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and ids.shape[1] > longest:
        raise ValueError(f"the text has {ids.shape[1]} tokens, the model reads {longest}; shorten --text")
    if getattr(model, "is_encoder_decoder", False):
        decoded = model.generate(ids, max_new_tokens=24) if target is None else with_start(model, tokenizer.encode(target)[None])
        return {"input_ids": ids, "decoder_input_ids": decoded}
    if "CausalLM" in type(model).__name__ or "LMHead" in type(model).__name__:
        return {"input_ids": ids, "labels": ids} if ids.shape[1] > 1 else {"input_ids": ids}
    return {"input_ids": ids}


def with_start(model: Any, ids: Any) -> Any:
    """Decoder ids: the start token, then the text."""
    import numpy as np

    start = np.full((1, 1), model.config.decoder_start_token_id)
    return np.concatenate([start, ids], axis=1).astype(np.int64)


def token_text(tokenizer: Any, i: int) -> str:
    """One token as text; a special one, which decodes to nothing, by its role."""
    shown = tokenizer.decode([i])
    if shown:
        return shown
    return next((f"<{role}>" for role, at in tokenizer.special.items() if at == i), f"<{i}>")
