"""`--json [FILE]`: where a result goes. FILE is looked at before the work begins, and is never something of another kind."""

import json
from pathlib import Path

HELP = "write the result as JSON to FILE or stdout"


def check_json(where: str | None, key: str = "objective") -> None:
    """Refuses a FILE that cannot be written, or holds something else: in `train --json corpus.txt` it is the corpus.

    An earlier result is known by `key`.
    """
    from tinygrad_llm.cli import UsageError

    if where in (None, "-"):
        return
    path = Path(where)
    if path.is_dir():
        raise UsageError(f"--json {where}: this is a directory, not a file")
    if path.exists() and not path.is_file():  # a pipe or a device
        return
    was_there = path.exists()
    if was_there and not is_result(path, key):
        raise UsageError(f"--json {where}: this file is there and holds no result; an input file stands before --json")
    with open(path, "ab"):
        pass
    if not was_there:
        path.resolve().unlink()  # through a link to a file that is not there yet


def is_result(path: Path, key: str) -> bool:
    """Whether a file is empty, or holds a result."""
    if not path.stat().st_size:
        return True
    try:
        result = json.loads(path.read_text("utf-8"))
    except ValueError:
        return False
    return isinstance(result, dict) and key in result


def write_json(result: dict, where: str) -> None:
    from tinygrad_llm.training.log import finite

    text = json.dumps(finite(result))
    if where == "-":
        print(text)
        return
    try:
        Path(where).write_text(text + "\n", "utf-8")
    except OSError as error:  # a full disk does not name the file
        raise OSError(error.errno, error.strerror, where) from error
