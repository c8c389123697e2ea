"""`tinygrad-llm COMMAND ...`: argparse, quick to start, errors of one or two lines.

Each module of this package that has `add_parser(subparsers)` and `run(args) -> int` is a command (or several: `run` is
called with `args.command`). Such a module imports only the standard library at its top; the rest comes in when it runs.

Exit codes: 0 done, 1 failed, 2 wrong usage. `--debug`, anywhere, shows the traceback, and where a warning comes from.
"""

import argparse
import importlib
import io
import os
import pkgutil
import select
import sys
import warnings

from .. import __version__

__all__ = ["UsageError", "main"]

#: The order of the commands in --help; others follow.
ORDER = ("train", "generate", "eval", "describe", "inspect", "gradcheck", "bench")

#: What goes wrong through no fault of this program; anything else is reported with its type.
EXPECTED = (ValueError, OSError, ImportError, RuntimeError, KeyError, MemoryError, FloatingPointError)


class UsageError(Exception):
    """The command line asks for something that makes no sense."""

    exit_code = 2


def need(args: argparse.Namespace, name: str, good: bool, wanted: str) -> None:
    """A usage error that names the option, unless its value is good."""
    if not good:
        raise UsageError(f"{option(name)}: expected {wanted}, got {getattr(args, name)}")


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as in `2>&-`
            setattr(sys, name, open(os.devnull, "w"))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):  # the C locale's
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it: a terminal without a model's letter shows its number
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    debug = "--debug" in argv[:cut]
    argv = [a for i, a in enumerate(argv) if a != "--debug" or i > cut]
    try:
        code = dispatch(argv, debug)
        sys.stdout.flush()  # Python itself would do so at its end, and say of a full disk that an exception is ignored
        return code
    except BrokenPipeError:
        return abandoned()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 1
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.strerror and not error.filename and stuck(sys.stdout):
            error.filename = "stdout"
        print(f"tinygrad-llm: {explain(error)}", file=sys.stderr)
        return getattr(error, "exit_code", 1)


def dispatch(argv: list[str], debug: bool) -> int:
    """Runs the command that the arguments name, with warnings as short as errors unless debug."""
    parser, commands = build_parser()
    try:
        args = parser.parse_args(argv)
        if args.command is None:
            parser.print_help(sys.stderr)
            return 2
        with warnings.catch_warnings():  # puts back how they are shown
            if not debug:
                warnings.showwarning = show_warning
            return commands[args.command].run(args) or 0
    except SystemExit as stop:  # argparse, after --help or a usage error
        return stop.code if isinstance(stop.code, int) else 2 if stop.code else 0


def show_warning(message, *where) -> None:
    """Its first line, without the file and the line of source that Python shows: Numba adds a traceback."""
    print("tinygrad-llm:", str(message).partition("\n")[0], file=sys.stderr)


def abandoned() -> int:
    """The exit code where a pipe has lost its reader: `tinygrad-llm generate ... | head` has what it wanted."""
    lost = [s for s in (sys.stdout, sys.stderr) if unread(s)]
    for stream in lost or [sys.stdout]:
        discard(stream)
    return 1 if lost == [sys.stderr] else 0  # messages were lost, in the middle of the work


def discard(stream) -> None:
    """What a stream still holds, and what is written to it from now on, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def stuck(stream) -> bool:
    """Whether a stream takes nothing more, as on a full disk; it is discarded then, or Python would try again at its end."""
    try:
        stream.write("\n")  # the text that did not go through may be lost already
        stream.flush()
    except OSError:
        discard(stream)
        return True
    return False


def unread(stream) -> bool:
    """Whether a pipe has lost its reader, where the system tells (Windows does not)."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(stream.fileno(), 0)  # errors alone
    return bool(poll.poll(0))


def build_parser():
    """(parser, {command: module})."""
    parser = argparse.ArgumentParser(
        prog="tinygrad-llm", description="Transformers on NumPy: train one, let it write, look inside.",
        epilog="tinygrad-llm COMMAND --help explains a command. Exit codes: 0 done, 1 failed, 2 wrong usage.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error and the source of a warning")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands = {}
    for module in command_modules():
        module.add_parser(subparsers)
        for name in subparsers.choices:
            commands.setdefault(name, module)
    return parser, commands


def command_modules() -> list:
    names = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    names.sort(key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n))
    modules = [importlib.import_module(f".{n}", __name__) for n in names]
    return [m for m in modules if hasattr(m, "add_parser")]


def explain(error: Exception) -> str:
    """At most two lines that a person can act on."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        advice = "" if type(error) is MemoryError and str(error) else "; use a smaller model, batch or context"  # NumPy's has none
        return f"out of memory: {error}{advice}"
    text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
    lines = [line for line in str(text).splitlines() if line.strip()][:2]
    if isinstance(error, (UsageError, *EXPECTED)) and lines:
        return "\n".join(lines)
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}\nrun again with --debug to see where"
