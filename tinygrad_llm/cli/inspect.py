"""`tinygrad-llm inspect DIR --text TEXT --out report.html`: one self-contained page about a model's run on a text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("inspect", help="look inside a model: attention, residual stream, logit lens, graph")
    parser.add_argument("directory", metavar="DIR", help="a run of `train`, or any checkpoint directory with a tokenizer")
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
    from ..models.registry import head_of
    from ..training.checkpoint import model_directory
    from . import UsageError

    out = Path(args.out)
    if out.is_dir():
        raise UsageError(f"--out {out}: this is a directory, not a file")
    if out.is_file() and not args.force:
        raise FileExistsError(f"{out} is there already; --force overwrites it, --out names another")
    if not args.text:
        raise ValueError("--text is empty; give the model something to read")
    place = model_directory(args.directory)
    tokenizer = text.load(place)
    model = models.load(place)
    model = getattr(model, "generator", model)  # of ELECTRA's two models the one that knows words, as in `generate`
    if args.target is not None and not (model.is_encoder_decoder and head_of(model) in ("seq2seq_lm", "base")):
        raise UsageError("--target: this model decodes no second text; leave it out")
    inputs = prepare(model, tokenizer, args.text, args.target)
    title = f"{Path(args.directory).resolve().name}: {args.text if len(args.text) <= 60 else args.text[:57] + '...'}"
    page = report(model, inputs, lambda i: token_text(tokenizer, i), title)
    write_page(page, out)
    print(f"wrote {out} ({len(page) / 1e3:,.0f} kB)", file=sys.stderr)
    return 0


def write_page(page: str, out: Path) -> None:
    """Whole or not at all."""
    from ..bench.report import write_whole

    try:
        write_whole(page, out)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from error  # a full disk's error names no file


def prepare(model: Any, tokenizer: Any, given: str, target: str | None) -> dict[str, Any]:
    """The model call's arguments for one text; labels where the model has a loss to show gradients of."""
    from ..models.base import limit_of
    from ..models.registry import head_of
    from ..training.encoder_tasks import classified_batch

    head = head_of(model)
    classifies = head == "sequence_classification"
    ids = (tokenizer.encode if classifies else tokenizer.framed)(given)[None].astype("int64")
    if ids.shape[1] < 1:
        raise ValueError(f"the tokenizer makes no token of {given!r}; give a longer text")
    if classifies:
        ids = classified_batch(tokenizer.special, ids, [0])["input_ids"]
    limit = limit_of(model)
    if limit is not None and ids.shape[1] > limit:
        raise ValueError(f"the text has {ids.shape[1]} tokens, the model reads {limit}; shorten --text")
    if model.is_encoder_decoder:
        return {"input_ids": ids, "decoder_input_ids": decoder_ids(model, head, tokenizer, ids, target)}
    return {"input_ids": ids, "labels": ids} if head == "causal_lm" and ids.shape[1] > 1 else {"input_ids": ids}


def decoder_ids(model: Any, head: str, tokenizer: Any, ids: Any, target: str | None) -> Any:
    """What the decoder reads: the target behind the start token, what the model generates, or, where it does not, the source."""
    import numpy as np

    from ..models.seq2seq import shift_right

    if target is not None:
        return np.array([[model.config.decoder_start_token_id, *tokenizer.encode(target)]], np.int64)
    if head == "seq2seq_lm":
        return model.generate(ids, max_new_tokens=model.make_cache(25).capacity - 1)  # all that is read, the start token too
    return shift_right(ids, model.config)


def token_text(tokenizer: Any, i: int) -> str:
    """One token as text; a special one, which decodes to nothing, by its role."""
    shown = tokenizer.decode([i])
    if shown:
        return shown
    return next((f"<{role}>" for role, at in tokenizer.special.items() if at == i), f"<{i}>")
