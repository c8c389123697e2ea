"""A contestant's process: `python -m tinygrad_llm.bench.worker QUESTION_FILE CONTESTANT OPTIONS_JSON`.

Reads one JSON command a line on stdin, answers one JSON line on the original stdout (what libraries print goes to stderr):

    {"do": "setup", "case": i}    -> {} or {"skip": reason} or {"error": traceback}
    {"do": "output", "to": path}  -> runs once, saves what it returned as path (.npz)
    {"do": "lap", "calls": n}     -> {"seconds": s}; a short lap has some calls before the clock, each lap ends with rest
    {"do": "run", "to": path}     -> {"seconds": s} of one call, and saves what it returned
    {"do": "peak"}                -> {"bytes": largest resident memory so far, "before": the same before set-up}
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from tinygrad_llm.bench.case import Case, Options, Skip, Timed, is_ours
from tinygrad_llm.bench.discover import load_question
from tinygrad_llm.bench.race import as_arrays
from tinygrad_llm.bench.timing import Lap, rest, timed_lap


def use_threads(contestant: str, threads: int) -> None:
    """The environment was set by the parent; libraries with a switch of their own get told as well."""
    if is_ours(contestant):
        import kernels
        kernels.set_num_threads(threads)
    elif contestant in ("torch", "compile", "transformers"):
        import torch

        torch.set_num_threads(threads)


def peak_memory() -> int:
    """Largest resident set of this process in bytes.

    On Linux from VmHWM: ru_maxrss survives exec, so a worker would report its parent's size where that was larger.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    if sys.platform == "win32":
        return peak_working_set()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def peak_working_set() -> int:
    """The same on Windows: PeakWorkingSetSize of PROCESS_MEMORY_COUNTERS."""
    import ctypes
    from ctypes import wintypes

    names = ("peak", "now", "paged_peak", "paged", "other_peak", "other", "file", "file_peak")
    fields = [("size", wintypes.DWORD), ("faults", wintypes.DWORD), *((name, ctypes.c_size_t) for name in names)]
    counters = type("Counters", (ctypes.Structure,), {"_fields_": fields})()
    counters.size = ctypes.sizeof(counters)
    kernel32 = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel32.GetCurrentProcess.restype = wintypes.HANDLE
    if not kernel32.K32GetProcessMemoryInfo(wintypes.HANDLE(kernel32.GetCurrentProcess()), ctypes.byref(counters), counters.size):
        raise OSError("GetProcessMemoryInfo failed")
    return counters.peak


def no_case() -> None:
    """Stands in for a timed function between cases, so that the last case's memory can go."""
    raise RuntimeError("no case is set up")


class Worker:
    """Holds one contestant's timed function at a time."""

    def __init__(self, path: str, contestant: str, options: Options):
        self.contestant, self.options = contestant, options
        self.cases = iter(load_question(path).cases(options))
        self.index, self.before = -1, 0
        self.take(no_case)

    def take(self, timed: Timed) -> None:
        self.timed = timed
        self.timed_lap: Lap = timed_lap(timed)

    def case(self, index: int) -> Case:
        case = None
        while self.index < index:
            case = next(self.cases)
            self.index += 1
        if case is None:
            raise IndexError(f"case {index} comes before the current one ({self.index}); cases are set up in order")
        return case

    def setup(self, case: int) -> dict[str, Any]:
        self.take(no_case)
        gc.collect()
        chosen = self.case(case)
        try:
            use_threads(self.contestant, self.options.threads)
            inputs = chosen.inputs(np.random.default_rng(self.options.seed))
            self.before = peak_memory()
            self.take(chosen.contestants[self.contestant](*inputs))
        except Skip as reason:
            return {"skip": str(reason)}
        except ModuleNotFoundError as missing:
            return {"skip": f"needs the package {missing.name!r}, which is not installed"}
        return {}

    def output(self, to: str) -> dict[str, Any]:
        np.savez(to, *as_arrays(self.timed()))
        return {}

    def lap(self, calls: int) -> dict[str, Any]:
        return {"seconds": self.timed_lap(calls)}

    def run(self, to: str) -> dict[str, Any]:
        start = time.perf_counter()
        output = self.timed()
        seconds = time.perf_counter() - start
        rest()
        np.savez(to, *as_arrays(output))
        return {"seconds": seconds}

    def peak(self) -> dict[str, Any]:
        return {"bytes": peak_memory(), "before": self.before}


def answer(worker: Worker, command: dict[str, Any]) -> dict[str, Any]:
    do: Callable[..., dict[str, Any]] = getattr(worker, command.pop("do"))
    try:
        return do(**command)
    except Exception:  # the parent fails the run with this text
        return {"error": traceback.format_exc()}


def serve(worker: Worker, commands: IO[str], answers: IO[str]) -> None:
    for line in commands:
        print(json.dumps(answer(worker, json.loads(line))), file=answers, flush=True)


def main(argv: list[str]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    path, contestant, options = argv
    serve(Worker(path, contestant, Options.from_json(json.loads(options))), sys.stdin, answers)


if __name__ == "__main__":
    main(sys.argv[1:])
