"""The log of a run: one JSON object a line, so that a killed run loses at most its last line."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

LOG = "log.jsonl"


class Log:
    """Appends to `path` (or nowhere, with None). A resumed run first drops what the lost steps had written."""

    def __init__(self, path: Path | None, resume_at: int | None = None):
        self.path = path
        if path is not None:
            path.touch()
            kept = 0 if resume_at is None else size_until(path, resume_at)
            os.truncate(path, kept)  # in its place, which is locked; nothing that stays is written anew

    def write(self, record: dict) -> None:
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(finite(record)) + "\n")


def finite(record: dict) -> dict:
    """JSON has no name for NaN and infinity, such as a diverged model's loss or perplexity: they are null there."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}


def whole_lines(path: Path) -> Iterator[tuple[dict, int]]:
    """The record of each whole line, and where it ends in the file. A line that was cut off or spoilt ends the log."""
    end = 0
    with open(path, "rb") as file:
        for line in file:
            end += len(line)
            try:
                record = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n"):
                return
            yield record, end


def size_until(path: Path, step: int) -> int:
    """The bytes of all whole lines up to this step; steps only rise."""
    return max((end for record, end in whole_lines(path) if record.get("step", 0) <= step), default=0)


def read(path: Path) -> list[dict]:
    """All whole lines."""
    return [record for record, _ in whole_lines(path)]


def is_log(path: Path) -> bool:
    """Whether a file is the log of a run (an empty one is that of a run just begun), and not something else of that name."""
    try:
        records = read(path)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return all(isinstance(r, dict) and "step" in r for r in records) and (bool(records) or not path.stat().st_size)
