"""What the library says of an argument is said of the flag that it came from, and is wrong usage: exit code 2."""

import contextlib


@contextlib.contextmanager
def as_flags(names=()):
    """ "min_lr: expected ..." becomes "--min-lr: expected ...", where the flag is one of `names`."""
    from tinygrad_llm.cli import UsageError

    try:
        yield
    except ValueError as error:
        argument, colon, rest = str(error).partition(":")
        flag = {"vocab_size": "vocab"}.get(argument, argument.replace("_", "-"))
        text = f"--{flag}:{rest}" if colon and flag in names else str(error)
        if text.startswith("--"):
            raise UsageError(text) from error
        raise
