"""What cannot fit into memory is refused before it is made: Linux hands out more than it has, and ends the process later."""

from __future__ import annotations

import re
from pathlib import Path


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that this process can have: the machine's memory and swap, or its control group's limit where that is less.

    None where the system does not tell, or makes more swap when it is needed (macOS, Windows).
    """
    try:
        found = (root / "proc/meminfo").read_text("ascii")
    except OSError:
        return None
    sizes = {name: int(kb) << 10 for name, kb in re.findall(r"^(\w+): +(\d+) kB$", found, re.MULTILINE)}
    whole = [sizes["MemTotal"] + sizes.get("SwapTotal", 0)] if "MemTotal" in sizes else []  # a sandbox may show an empty file
    return min([*whole, *group_limits(root)], default=None)


def group_limits(root: Path) -> list[int]:
    """The limits of this process's control group and of those around it, in version 2's files and in version 1's."""
    try:
        groups = re.findall(r"^\d+:(memory)?:/(.*)$", (root / "proc/self/cgroup").read_text("utf-8"), re.MULTILINE)
    except OSError:
        return []
    limits = []
    for version1, group in groups:
        top = root / "sys/fs/cgroup" / version1
        inner = top / group
        name = "memory.limit_in_bytes" if version1 else "memory.max"
        for folder in (inner, *inner.parents):
            try:
                text = (folder / name).read_text("ascii").strip()
            except OSError:  # not there, or not for us
                text = "max"
            limits += [int(text)] if text.isdigit() else []
            if folder == top:
                break
    return limits


def check_room(what: str, needed: int) -> None:
    """MemoryError if `what` takes more bytes than this process can ever have."""
    limit = memory_limit()
    if limit is not None and needed > limit:
        raise MemoryError(
            f"{what} needs {readable(needed)}, the machine has {readable(limit)}; use a smaller model, batch or context"
        )


def readable(nbytes: float) -> str:
    """In the largest unit that leaves a digit before the point; 1 GB = 10⁹ bytes."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if nbytes >= limit:
            return f"{nbytes / limit:,.4g} {unit}"
    return f"{nbytes / 1e3:,.4g} kB"
