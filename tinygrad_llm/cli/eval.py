"""`tinygrad-llm eval DIR FILE`: how well a model predicts a text."""

from pathlib import Path

from tinygrad_llm.cli._flags import as_flags
from tinygrad_llm.cli._json import HELP, check_json, write_json


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "eval",
        help="loss, perplexity and accuracy on a file",
        description="Reads the whole FILE once, in the way that the model was trained: a decoder predicts every token, "
        "an encoder the ones that are masked.",
    )
    parser.add_argument("directory", metavar="DIR", help="a run of `train`, or any checkpoint directory")
    parser.add_argument("file", metavar="FILE", help="text; for translation SOURCE<tab>TARGET; for classification LABEL<tab>TEXT")
    parser.add_argument("--target", metavar="FILE", help="for translation: the other language, line by line")
    parser.add_argument("--objective", help="default: what the run was trained for, or what the model's head can do")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="examples at once (default 16)")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help=HELP)


def run(args) -> int:
    from tinygrad_llm import models, text
    from tinygrad_llm.cli import need
    from tinygrad_llm.training.checkpoint import model_directory
    from tinygrad_llm.training.whole_file import evaluate_file

    need(args, "batch", args.batch >= 1, "at least 1")
    check_json(args.json)
    place = model_directory(args.directory)
    if not Path(args.file).exists():
        raise FileNotFoundError(f"{args.file}: no such file")
    model, tokenizer = models.load(place), text.load(place)
    with as_flags():
        result = evaluate_file(model, tokenizer, args.file, target=args.target, objective=args.objective, batch=args.batch,
                               run=Path(args.directory))  # fmt: skip
    if args.json != "-":
        print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items()))
    if args.json:
        write_json(result, args.json)
    return 0
