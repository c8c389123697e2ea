"""No kernel reads or writes past its arrays. A read too many next to an ordinary one goes unnoticed, whatever it finds there."""

import subprocess
import sys
from pathlib import Path

import pytest

from kernels._jit import COMPILED

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.numba_side
@pytest.mark.skipif(not COMPILED or not sys.platform.startswith("linux"), reason="compiled kernels, and pages that can be closed")
@pytest.mark.parametrize("inputs, results", [("end", "end"), ("end", "start"), ("start", "end")])
def test_arrays_may_lie_at_the_edge_of_memory(inputs, results):
    command = [sys.executable, "-m", "tests.kernels.edges", inputs, results]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or f"touched what it may not: {done.stdout.splitlines()[-1]}"
    assert done.stdout.endswith("all\n")
