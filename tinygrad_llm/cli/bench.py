"""`tinygrad-llm bench`: side-by-side benchmarks in one run."""

from __future__ import annotations

import argparse
import sys
from typing import Any

#: What only a run has a use for, and its value where nobody asks for anything.
OF_A_RUN = {"names": [], "against": None, "threads": None, "dtype": "float32", "size": "", "seconds": 10.0}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="side-by-side benchmarks against what is installed",
        description="Validates, warms up, interleaves the contestants, and reports ratios with intervals.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="questions (default: all), or your own file.py; see --list")
    parser.add_argument("--list", action="store_true", help="list the questions and exit")
    parser.add_argument("--against", metavar="A,B", help="contestants besides ours (default: all that are installed)")
    parser.add_argument("--threads", type=int, help="threads of every contestant (default: all cores)")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="of what goes in (default float32)")
    parser.add_argument("--size", metavar="N,M", default="",
                        help="problem sizes instead of the question's own; of whole models, cases by number")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=10.0, help="time per case (10); five rounds may take three times that")
    parser.add_argument("--json", metavar="FILE", help="write the results, anew after every case; - for stdout, at the end")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables, over earlier ones")
    parser.add_argument("--readme", metavar="FILE", help="put a summary between the benchmark markers of a README")
    parser.add_argument("--plots", metavar="DIR", help="draw the results (needs matplotlib)")
    parser.add_argument("--show", metavar="FILE", help="earlier results, for stdout, --readme, --markdown or --plots; runs nothing")
    parser.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"), help="compare two result files; exit code 1 on a regression")


def run(args: argparse.Namespace) -> int:
    from tinygrad_llm.bench import discover, report
    from tinygrad_llm.cli import UsageError

    modes = [mode for mode in ("list", "show", "compare") if getattr(args, mode)]
    useless = [name for name, default in OF_A_RUN.items() if getattr(args, name) != default]
    if modes and (more := modes[1:] + useless):
        raise UsageError(f"{'NAME' if more[0] == 'names' else f'--{more[0]}'}: --{modes[0]} runs nothing; leave it out")
    writes = [flag for flag in ("json", "markdown", "readme", "plots") if getattr(args, flag)]
    if writes and (args.compare or args.list):
        raise UsageError(f"--{writes[0]}: --{'compare' if args.compare else 'list'} only prints; redirect it into a file")
    check_files(args)
    if args.compare:
        text, regressions = report.compare(*map(report.read, args.compare))
        print(text)
        return 1 if regressions else 0
    if args.list:
        for name in discover.question_names():
            print(f"{name:16} {(discover.load_question(discover.find_question(name)).__doc__ or '').splitlines()[0]}")
        return 0
    if args.show:
        deliver(report.read(args.show), args)
        return 0
    return run_questions(args)


def check_files(args: argparse.Namespace) -> None:
    """Before anything runs: files that are to be written can be, and hold nothing of another kind."""
    from pathlib import Path

    from tinygrad_llm.bench import plots, report
    from tinygrad_llm.cli import UsageError
    from tinygrad_llm.cli._json import check_json

    if args.json and args.json != "-":
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    check_json(args.json, "questions")
    if args.markdown:
        path = Path(args.markdown)
        if path.is_dir():
            raise UsageError(f"--markdown {path}: this is a directory, not a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
        if text and report.EXPLANATION not in text.splitlines()[:3]:
            raise UsageError(f"--markdown {path}: this file is there and holds no tables of `tinygrad-llm bench`")
    if args.plots:
        plots.need_matplotlib()
        Path(args.plots).mkdir(parents=True, exist_ok=True)
    if args.readme:
        report.read_readme(Path(args.readme))


def run_questions(args: argparse.Namespace) -> int:
    """Run, print the tables, write the files; 1 if a question failed, 2 if asked for something that is not there."""
    from tinygrad_llm.bench import discover, report

    try:
        options = parse_options(args)
        paths = [discover.find_question(name) for name in args.names or discover.question_names()]
        if twice := [p.stem for i, p in enumerate(paths) if p.stem in [q.stem for q in paths[:i]]]:
            raise ValueError(f"two questions are named {twice[0]!r}; results are compared by name, so give each its own")
        against = [n.strip() for n in args.against.split(",") if n.strip()] if args.against is not None else None
        # what cannot be imported, and who takes part in nothing, is said before the first has run for minutes
        check_against(against, [discover.load_question(path) for path in paths], options)
    except (LookupError, ValueError, ImportError) as error:
        print(f"tinygrad-llm bench: {error}", file=sys.stderr)
        return 2
    results = report.new_report(options)
    try:
        ask_all(paths, options, against, results, args.json)
    except KeyboardInterrupt:
        show(results, args)
        cases = sum(len(q["cases"]) for q in results["questions"])
        where = f"; {args.json} holds what was measured" if args.json and args.json != "-" else ""
        print(f"stopped by Ctrl-C after {cases} finished case{'' if cases == 1 else 's'}{where}", file=sys.stderr)
        return 1
    deliver(results, args)
    return 1 if any(q["failed"] for q in results["questions"]) else 0


def check_against(against: list[str] | None, questions: list[Any], options: Any) -> None:
    """Who takes part in none of these questions is said, and left out; an error where none that any question knows is left."""
    from tinygrad_llm.bench.case import PACKAGES, is_ours

    if not against:
        return
    try:
        known = {name for question in questions for case in question.cases(options) for name in case.contestants}
    except Exception:  # in a question's own code: its run says so, and others go on
        return
    others = ", ".join(sorted(n for n in known if not is_ours(n))) or "none"
    absent = sorted(set(against) - known)
    unknown = [name for name in absent if name not in PACKAGES]
    if len(unknown) == len(set(against)):  # a typing error: the run would compare nobody
        raise LookupError(f"--against: no contestant {unknown[0]!r} in these questions; there are: {others}")
    for name in absent:
        there = f"; there are: {others}" if name in unknown else ""
        print(f"{name} is skipped: none of these questions has this contestant{there}", file=sys.stderr)


def parse_options(args: argparse.Namespace) -> Any:
    import kernels
    from kernels._threads import cores
    from tinygrad_llm.bench import Options

    kernels._chosen_side()  # a wrong TINYGRAD_LLM_KERNELS is said here, not by every process with a traceback
    threads = cores() if args.threads is None else args.threads
    if not 1 <= threads <= cores():
        raise ValueError(f"--threads must be 1 to {cores()} on this machine, got {threads}")
    if not args.seconds > 0:
        raise ValueError(f"--seconds must be positive, got {args.seconds}")
    try:
        sizes = tuple(int(part) for part in args.size.split(",") if part)
    except ValueError:
        raise ValueError(f"--size takes whole numbers, as in 64,256; got {args.size!r}") from None
    if any(n < 1 for n in sizes):
        raise ValueError(f"--size takes positive numbers, got {args.size!r}")
    return Options(threads=threads, dtype=args.dtype, size=sizes, seconds=args.seconds)


def ask_all(paths: list[Any], options: Any, against: list[str] | None, results: dict[str, Any], json_file: str | None) -> None:
    """Fills results["questions"] under one progress bar, and `json_file` after every case.

    Where stderr is no terminal every finished case is a plain line.
    """
    from tqdm import tqdm

    from tinygrad_llm.bench import report
    from tinygrad_llm.bench.run import Question

    records, live = results["questions"], sys.stderr.isatty()

    def keep(record: dict[str, Any]) -> None:
        if not records or records[-1] is not record:
            records.append(record)
        elif not live and not record["failed"]:
            print(f"{record['name']}, {report.case_line(record['cases'][-1])}", file=sys.stderr, flush=True)
        if json_file and is_file_to_be(json_file):
            report.write(results, json_file)

    def say(text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    with tqdm(paths, unit="question", disable=not live, file=sys.stderr) as bar:
        for path in bar:
            def progress(case: str, share: float, stem: str = path.stem) -> None:
                bar.set_postfix_str(f"{stem}: {case} {share:.0%}")

            record = Question(path, options, against, say, progress, keep, results["machine"]).run()
            if record["failed"]:
                say(f"{path.stem} FAILED: {record['failed']}")
    results["complete"] = True


def is_file_to_be(name: str) -> bool:
    """Not stdout, a pipe or a device, where results go once, at the end."""
    from pathlib import Path

    return name != "-" and (Path(name).is_file() or not Path(name).exists())


def show(results: dict[str, Any], args: argparse.Namespace) -> None:
    """The tables, or the JSON that was asked for in their place; and the JSON file."""
    import json

    from tinygrad_llm.bench import report

    if args.json == "-":
        print(json.dumps(results))
        return
    print(report.markdown(results))
    if args.json:
        report.write(results, args.json)


def deliver(results: dict[str, Any], args: argparse.Namespace) -> None:
    """Everything that was asked for: only a whole run replaces tables and plots."""
    from pathlib import Path

    from tinygrad_llm.bench import plots, report

    show(results, args)
    if args.markdown:
        Path(args.markdown).write_text(report.markdown(results) + "\n", "utf-8")
    if args.readme:
        report.update_readme(results, Path(args.readme))
    if args.plots:
        for path in plots.draw(results, Path(args.plots)):
            print(f"drew {path}", file=sys.stderr)
