"""What a process is started with that is to import this very package, wherever it was started from."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def environment(**more: str) -> dict[str, str]:
    """This process's environment with our folder first among those that Python looks in, and `more`.

    Bytecode is kept, as it is for everything that pip has installed.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **more, "PYTHONPATH": path}
