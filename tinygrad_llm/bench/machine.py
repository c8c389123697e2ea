"""What ran the benchmark: processor, versions, revision, and the two limits that every kernel meets (`limits`)."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from tinygrad_llm.bench.case import PACKAGES
from tinygrad_llm.bench.child import ROOT, output_of

REPORTED = dict.fromkeys(("numpy", "numba", *PACKAGES.values(), "tinygrad-llm"))  # each once, in this order


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, with x86's family and model: virtual machines give several generations one name."""
    first = cpuinfo.read_text("utf-8", errors="replace").split("\n\n")[0] if cpuinfo.is_file() else ""
    fields = {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in first.splitlines())}
    name = fields.get("model name") or platform.processor() or platform.machine()
    if {"cpu family", "model"} <= fields.keys():
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name


def total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in REPORTED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def revision() -> str | None:
    """The git revision of this checkout, "+changes" if it is not clean; None for an installed package."""
    if not (ROOT / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain") else "")


def describe(threads: int, dtype: str = "float32") -> dict[str, Any]:
    """The machine's record. Two results are from the same machine when `identity` of theirs is equal."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": total_memory(),
        "system": f"{platform.system()} {platform.machine()}",
        **measured_limits(threads, dtype),
    }


def identity(machine: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(machine.get(key) for key in ("processor", "cores", "system"))


def measured_limits(threads: int, dtype: str) -> dict[str, float]:
    """What `limits.best` finds at this thread count, of multiply-adds in this dtype, from a fresh process."""
    return json.loads(output_of("-m", "tinygrad_llm.bench.limits", str(threads), dtype, NUMBA_NUM_THREADS=str(threads)))
