"""Compiled kernels kept on disk, one file per function and signature.

Numba's own cache looks at the defining file only, keeps an index that two processes can overwrite, and
raises on a truncated entry. Here the key covers the source of every kernel, the versions, the host's CPU and
its features; an entry is written under a temporary name and renamed, and carries its digest, so that a
reader sees a whole entry or none; a folder that cannot be written is passed over for the next one.

Entries go to NUMBA_CACHE_DIR if it is set, else to __pycache__ beside the kernels, else to the user's cache folder.
"""

import functools
import hashlib
import inspect
import os
import pickle
import sys
import tempfile
from pathlib import Path

import llvmlite
import numba
from numba.core import compiler, serialize
from numba.core.caching import _Cache
from numba.core.runtime import rtsys

HERE = Path(__file__).parent
# read when kernels are compiled: they change the code that comes out
_SWITCHES = ("TINYGRAD_LLM_VECTORS", "NUMBA_BOUNDSCHECK", "NUMBA_OPT", "NUMBA_DEBUGINFO", "NUMBA_SLP_VECTORIZE",
             "NUMBA_LOOP_VECTORIZE", "NUMBA_DISABLE_INTEL_SVML", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")


@functools.cache
def build_stamp():
    """Everything outside a function that decides its machine code: sources, versions, switches."""
    digest = hashlib.sha256()
    for path in sorted(HERE.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    versions = (numba.__version__, llvmlite.__version__, sys.version, sys.platform)
    digest.update(repr((versions, [os.environ.get(name) for name in _SWITCHES])).encode())
    return digest.hexdigest()


@functools.cache
def folders():
    """Where entries may lie, best first."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen) / "tinygrad_llm"]
    if sys.platform == "win32":
        user = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    elif sys.platform == "darwin":
        user = os.path.expanduser("~/Library/Caches")
    else:
        user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [HERE / "__pycache__", Path(user) / "tinygrad_llm" / "kernels"]


def _describe(value):
    """A closure's value as text that is the same in every process."""
    function = getattr(value, "py_func", None) or getattr(value, "_defn", None) or value
    if inspect.isfunction(function):
        cells = function.__closure__ or ()
        return (function.__module__, function.__qualname__, function.__code__.co_firstlineno,
                [_describe(cell.cell_contents) for cell in cells], repr(function.__defaults__))
    text = repr(function)
    if " at 0x" in text:
        raise TypeError(f"a kernel's closure holds {text}: its name is another one in each process, so no entry is ever found; "
                        "let it hold functions, types and numbers")
    return text


at_first_miss = []                            # what to call, once, when something has to be compiled


class KernelCache(_Cache):
    """The part of Numba's cache protocol that a dispatcher calls."""

    def __init__(self, py_func, options):
        self._function = py_func
        self._identity = repr((_describe(py_func), sorted((k, repr(v) if k != "fastmath" else sorted(v))
                                                          for k, v in options.items())))
        self._enabled = True

    cache_path = property(lambda self: str(folders()[0]))

    def enable(self):
        self._enabled = True

    def disable(self):
        self._enabled = False

    def flush(self):
        for folder in folders():
            for path in folder.glob(f"{self._function.__name__}-*.kernel"):
                path.unlink(missing_ok=True)

    def _file_name(self, signature, codegen):
        key = repr((build_stamp(), self._identity, str(signature), codegen.magic_tuple()))
        return f"{self._function.__name__}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.kernel"

    def load_overload(self, signature, target_context):
        """The compiled function, or None when there is no whole entry for it."""
        if not self._enabled:
            return None
        # enough for code that is compiled already; Numba's own cache loads all that a compiler knows, half a second
        rtsys.initialize(target_context)
        name = self._file_name(signature, target_context.codegen())
        for folder in folders():
            payload = _read(folder / name)
            if payload is not None:
                return compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
        while at_first_miss:
            at_first_miss.pop()()
        return None

    def save_overload(self, signature, result):
        if not self._enabled or result.lifted or result.library.has_dynamic_globals:
            return
        payload = serialize.dumps(result._reduce())
        name = self._file_name(signature, result.codegen)
        for folder in folders():
            if _write(folder / name, payload):
                return


def _read(path):
    """The payload of an entry; None when it is absent, unreadable, cut short or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, payload = data[:32], data[32:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def _write(path, payload):
    """Put a whole entry in place at once; False where the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".tmp", dir=path.parent)
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(payload).digest() + payload)
        os.replace(temporary, path)
    except OSError:                   # disk full, or Windows: another process has the entry open
        Path(temporary).unlink(missing_ok=True)
        return False
    return True
