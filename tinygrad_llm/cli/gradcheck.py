"""`tinygrad-llm gradcheck [OP ...]`: check every gradient of the installed build and print a table."""

import json
import sys


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "gradcheck",
        help="check the gradients of this build against finite differences",
        description="Check the gradient rules of the installed build, first and second order, against finite differences in "
        "float64. Without OP: all of them. Exit code 1 if one is wrong.",
    )
    parser.add_argument("op", nargs="*", metavar="OP", help="operations by name, such as: matmul layer_norm attention")
    parser.add_argument("--order", type=int, choices=(1, 2), default=2, help="1: gradients alone; 2: second derivatives, too")
    parser.add_argument("--fast", action="store_true", help="random directions; single elements only where those fail")
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs' values")
    parser.add_argument("--json", action="store_true", help="results as JSON on stdout; the table goes to stderr")


def run(args) -> int:
    from tinygrad_llm.testing import sweep

    from . import need

    need(args, "seed", args.seed >= 0, "at least 0")
    chosen = list(dict.fromkeys(args.op)) or sweep.names()
    _refuse_unknown(chosen, sweep.names())
    out = sys.stderr if args.json else sys.stdout
    width = max(len(name) for name in chosen)
    print(f"{'operation':{width}}  samples  gradient  2nd order   seconds  inputs", file=out)
    results = []
    for r in sweep.sweep(chosen, order=args.order, fast=args.fast, seed=args.seed):
        results.append(r)
        print(f"{r.op:{width}}  {r.samples:7d}  {r.first:>8}  {r.second:>9}  {r.seconds:8.2f}  {r.inputs}", file=out, flush=True)
    wrong = [r for r in results if not r.ok]
    for r in wrong:
        print(f"\n{r.message}", file=sys.stderr)
    checked = [r for r in results if r.first != "-"]
    print(
        f"{len(checked)} operations checked on {sum(r.samples for r in checked)} samples, {len(wrong)} wrong; "
        f"{len(results) - len(checked)} have no gradient to check",
        file=out,
    )
    if args.json:
        print(json.dumps([vars(r) for r in results], indent=1))
    return 1 if wrong else 0


def _refuse_unknown(chosen, known) -> None:
    import difflib

    from . import UsageError

    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {len(known)}, such as {', '.join(known[:4])}"
            raise UsageError(f"gradcheck: no operation {name!r}; {hint}")
