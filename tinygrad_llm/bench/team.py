"""Contestants in processes of their own: no shared thread pool, no shared allocator, and a peak memory that is theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.bench.case import Options, is_ours
from tinygrad_llm.bench.child import environment
from tinygrad_llm.bench.timing import Lap

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "CPU_COUNT")


class Failed(RuntimeError):
    """A contestant raised, or its process ended; the message carries its traceback."""


class Skipped(Exception):
    """A contestant stays away from a case; the message says why."""


class Contestant:
    """The parent's end of a worker process."""

    def __init__(self, path: Path, name: str, options: Options):
        self.name = name
        variables = {v: str(options.threads) for v in THREAD_VARIABLES}
        if not is_ours(name):
            variables["TINYGRAD_LLM_MALLOC"] = "system"  # the others run with the allocator that their users have
        self.stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # libraries write what they like
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tinygrad_llm.bench.worker", str(path), name, json.dumps(options.to_json())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            env=environment(**variables),
            start_new_session=True,  # a Ctrl-C is the parent's to handle; and the group can be ended as a whole
        )
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(self.process.pid, cores[: options.threads])

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        try:
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(f"the process of {self.name!r} ended with code {self.process.wait()}:\n{self.complaints()}")
        reply = json.loads(line)
        if "skip" in reply:
            raise Skipped(reply["skip"])
        if "error" in reply:
            raise Failed(f"{self.name}: {reply['error']}")
        return reply

    def complaints(self) -> str:
        """The last lines that the process wrote to stderr."""
        self.stderr.seek(0)
        return "".join(self.stderr.readlines()[-20:])

    def output(self, folder: Path) -> list[np.ndarray]:
        """What one call returned, through a file."""
        self.ask("output", to=str(folder / "output.npz"))
        return read_arrays(folder / "output.npz")

    def run(self, folder: Path, outputs: dict[str, list[np.ndarray]]) -> Lap:
        """A lap of one whole call, whose output lands in `outputs` under this contestant's name."""

        def lap(calls: int) -> float:
            seconds = self.ask("run", to=str(folder / "run.npz"))["seconds"]
            outputs[self.name] = read_arrays(folder / "run.npz")
            return seconds

        return lap

    def lap(self) -> Lap:
        return lambda calls: self.ask("lap", calls=calls)["seconds"]

    def peak(self) -> dict[str, int]:
        return self.ask("peak")

    def close(self) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.close()
            self.process.wait(timeout=20)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.kill()
        finally:
            self.stderr.close()

    def kill(self) -> None:
        """End the process, whatever it is doing, and what it started."""
        if self.process.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
            self.process.wait()
        self.stderr.close()


def read_arrays(path: Path) -> list[np.ndarray]:
    """The arrays of an .npz file, which is removed."""
    with np.load(path) as saved:
        arrays = [saved[f"arr_{i}"] for i in range(len(saved.files))]
    path.unlink()
    return arrays
