"""`tinygrad-llm describe NAME-or-DIR`: parameters, memory, cards. `tinygrad-llm compare A B`: what differs between two families."""

import argparse
import json
import math
from pathlib import Path


def add_parser(subparsers) -> None:
    """The two commands."""
    describe = subparsers.add_parser("describe", help="parameters by part, memory and cards of a model, without allocating it")
    names = 'a preset ("gpt3-175b"), a run\'s or checkpoint\'s folder, or a number of parameters ("1.8e12")'
    describe.add_argument("name", metavar="NAME-or-DIR", help=names)
    describe.add_argument("--batch", type=int, default=1, help="sequences at a time (1)")
    describe.add_argument("--context", type=int, help="positions (the model's own)")
    describe.add_argument("--target", type=int, help="positions of an encoder-decoder's targets in training (as many)")
    describe.add_argument("--card-gb", type=float, default=24.0, help="memory of one card in 10⁹ bytes (24)")
    describe.add_argument("--bytes-per-parameter", type=float, default=8.55, help="for the number of cards (8.55)")
    describe.add_argument("--json", action="store_true", help="machine-readable, to stdout")
    compare = subparsers.add_parser("compare", help="what differs between two families or presets")
    compare.add_argument("a", metavar="A", help='a family ("bert"), a preset ("bert-large"), or a folder with a model')
    compare.add_argument("b", metavar="B", help="another one")
    compare.add_argument("--json", action="store_true", help="machine-readable, to stdout")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    from tinygrad_llm import models

    from . import need

    if args.command == "compare":
        from tinygrad_llm.models.differences import compare_text

        if args.json:
            print(json.dumps([{"row": row, args.a: a, args.b: b} for row, a, b in models.compare(args.a, args.b)]))
        else:
            print(compare_text(args.a, args.b))
        return 0
    for name in ("batch", "context", "target", "card_gb", "bytes_per_parameter"):
        value = getattr(args, name)
        need(args, name, value is None or 0 < value < math.inf, "a finite number above 0")
    found = models.describe(
        place(args.name), batch=args.batch, context=args.context, target=args.target, card_gb=args.card_gb,
        bytes_per_parameter=args.bytes_per_parameter,
    )  # fmt: skip
    print(json.dumps(found.as_dict()) if args.json else found.text())
    return 0


def place(name: str) -> str:
    """A run's folder as that of the model in it; a preset keeps its name, whatever else lies in a folder called so."""
    from tinygrad_llm.models import registry
    from tinygrad_llm.training.checkpoint import model_directory

    if not Path(name).is_dir() or (registry.is_name(name) and not (Path(name) / "config.json").is_file()):
        return name
    return str(model_directory(name))
