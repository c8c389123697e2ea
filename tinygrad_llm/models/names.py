"""From our parameter names to those in published checkpoints.

A family's table maps module paths: {"layers.*.attn.q": "encoder.layer.*.attention.self.query"}; what follows (".weight") is kept.
`transposed(...)` says that the published tensor is laid out differently: as the transpose, and perhaps several of ours in one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one of our parameters lies: tensor `name`, transposed or not, and which of `parts` equal slices of its rows."""

    name: str
    transposed: bool = False
    part: int = 0
    parts: int = 1


def transposed(name: str, part: int = 0, parts: int = 1) -> Stored:
    """A table entry for GPT-2's "Conv1D" layers, whose weights are (in, out) and may hold q, k and v side by side."""
    return Stored(name, True, part, parts)


Table = dict[str, "str | Stored"]


@lru_cache(maxsize=4096)
def _pattern(ours: str) -> re.Pattern[str]:
    return re.compile(re.escape(ours).replace(r"\*", r"(\d+)") + r"(?P<rest>\..*)?$")


def translate(table: Table, path: str) -> Stored:
    """Where the parameter `path` is stored: the table's first entry that matches, or the same name."""
    for ours, theirs in table.items():
        found = _pattern(ours).match(path)
        if found is None:
            continue
        entry = theirs if isinstance(theirs, Stored) else Stored(theirs)
        name = entry.name
        for number in found.groups()[: ours.count("*")]:  # and then comes the rest
            name = name.replace("*", number, 1)
        rest = found.group("rest") or ""
        # a bias has no second axis to transpose
        return replace(entry, name=name + rest, transposed=entry.transposed and not rest.endswith(".bias"))
    return Stored(path)


def prefixed(entry: Stored, prefix: str) -> Stored:
    """The same place below `prefix`."""
    return replace(entry, name=f"{prefix}.{entry.name}")
