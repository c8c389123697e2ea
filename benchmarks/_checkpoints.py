"""The same random weights for every contestant: a checkpoint in Hugging Face's layout, kept in the temporary folder."""

from __future__ import annotations

import getpass
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import tinygrad_llm
from tinygrad_llm.bench.child import output_of

WRITE = """
import json, sys
import tinygrad_llm as tg
name, overrides, to = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
tg.manual_seed(0)
tg.models.create(name, **overrides).save(to)
"""


def checkpoint(name: str, **overrides: Any) -> Path:
    """The folder of this preset with these overrides. Written by a process of its own, so that nobody's peak memory holds it."""
    what = json.dumps([name, overrides, tinygrad_llm.__version__], sort_keys=True)
    key = hashlib.sha256(what.encode()).hexdigest()[:10]
    folder = Path(tempfile.gettempdir()) / f"tinygrad-llm-bench-{getpass.getuser()}" / f"{name}-{key}"
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
        to = Path(fresh) / "checkpoint"
        output_of("-c", WRITE, name, json.dumps(overrides), str(to))
        try:
            to.rename(folder)
        except OSError:
            if not (folder / "config.json").is_file():  # otherwise another contestant was quicker
                raise
    return folder
