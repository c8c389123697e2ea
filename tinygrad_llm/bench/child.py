"""Processes that import this very package, wherever they are started from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def environment(**more: str) -> dict[str, str]:
    """This process's environment with our folder first among those that Python looks in, and `more`.

    Bytecode is kept, as it is for everything that pip has installed.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **more, "PYTHONPATH": path}


def output_of(*arguments: str, **variables: str) -> str:
    """What `python ARGUMENTS` prints, run to its end with these variables; RuntimeError with its complaints if it fails."""
    done = subprocess.run([sys.executable, *arguments], env=environment(**variables), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout
