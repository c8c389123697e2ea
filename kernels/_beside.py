"""A cold start on two cores: a second process compiles what this one will ask for later, into the same cache.

It starts when something had to be compiled here, so a warm start never sees it. Nothing depends on it: what is not in the cache
when it is asked for is compiled as ever, be it that the other process is late, has failed, or could not be started.
"""

import atexit
import importlib
import os
import subprocess
import sys
from pathlib import Path

from ._cache import at_first_miss

RUN = "import sys; sys.path[:] = {path!r}; from kernels._beside import warm_up; warm_up({names!r}, {dtypes!r})"


def warm_up(names, dtypes):
    """Call functions of `kernels` by name: "attention.warmup"."""
    for name in names:
        module, function = name.split(".")
        getattr(importlib.import_module("." + module, __package__), function)(dtypes)


class Helper:
    """A process that calls these functions, from the first time on that this one had to compile something."""

    def __init__(self, names, dtypes):
        self.names, self.dtypes, self.process = tuple(names), tuple(dtypes), None
        at_first_miss.append(self.start)

    def start(self):
        path = [str(Path(__file__).parents[1]), *(os.path.abspath(p) for p in sys.path)]
        code = RUN.format(path=path, names=self.names, dtypes=self.dtypes)
        environment = os.environ | {"TINYGRAD_LLM_KERNELS": "numba", "NUMBA_NUM_THREADS": "1"}
        try:
            self.process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:               # no processes here: this one compiles everything itself
            return
        atexit.register(self.stop)

    def wait(self):
        """Until it has ended, or at once if it never had to start."""
        if self.start in at_first_miss:
            at_first_miss.remove(self.start)
        if self.process:
            self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait()
