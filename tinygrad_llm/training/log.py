"""The log of a run: one JSON object a line, so that a killed run loses at most its last line."""

import json
from pathlib import Path

LOG = "log.jsonl"


class Log:
    """Appends to `path` (or nowhere, with None). A resumed run first drops what the lost steps had written."""

    def __init__(self, path: Path | None, resume_at: int | None = None):
        self.path = path
        if path is None:
            return
        if resume_at is None:
            path.write_text("", "utf-8")
            return
        kept = [r for r in read(path) if r.get("step", 0) <= resume_at] if path.is_file() else []
        path.write_text("".join(json.dumps(r) + "\n" for r in kept), "utf-8")

    def write(self, record: dict) -> None:
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def read(path: Path) -> list[dict]:
    """All whole lines; a last line that was cut off is left out."""
    records = []
    for line in Path(path).read_text("utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def is_log(path: Path) -> bool:
    """Whether a file is the log of a run (an empty one is that of a run just begun), and not something else of that name."""
    try:
        records = read(path)
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
        return False
    return all(isinstance(r, dict) and "step" in r for r in records) and (bool(records) or not path.stat().st_size)
