"""Row kernels in processes of their own: bits at 1, 2, 4 and 8 threads, checked bounds, and the loops as plain Python."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

AGAINST_REFERENCE = """
import numpy as np
import kernels
from kernels import reference
from tests.kernels.row_problems import PROBLEMS

np.seterr(all="ignore")
for name, make in PROBLEMS.items():
    problem = make(np.random.default_rng(0), (2, 3), WIDTH)
    truth = problem.solve(reference, np.float64)
    for dtype in DTYPES:
        for output, y in problem.solve(kernels, dtype).items():
            assert y.dtype == truth[output].dtype or dtype is np.float32, (name, output)
            np.testing.assert_allclose(y, truth[output], rtol=1e-4, atol=1e-4, err_msg=f"{name} {output}")
print("all", len(PROBLEMS))
"""

SAME_BITS = """
import numpy as np
import kernels
from tests.kernels.row_problems import PROBLEMS

for name, make in PROBLEMS.items():
    problem = make(np.random.default_rng(0), (9, 41), 203)
    bits = set()
    for threads in (1, 2, 4, 8):
        kernels.set_num_threads(threads)
        assert kernels.get_num_threads() == threads
        bits.add(b"".join(y.tobytes() for y in problem.solve(kernels).values()))
    assert len(bits) == 1, name
print("all", len(PROBLEMS))
"""


def run(script, **variables):
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=600,
                            env={**os.environ, "PYTHONPATH": str(ROOT), **variables})
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("all")


@pytest.mark.slow
def test_bits_do_not_depend_on_the_number_of_threads():
    run(SAME_BITS, NUMBA_NUM_THREADS="8")


@pytest.mark.slow
def test_no_index_leaves_its_array():
    run(AGAINST_REFERENCE.replace("WIDTH", "37").replace("DTYPES", "[np.float32]"), NUMBA_BOUNDSCHECK="1")


def test_the_loops_run_as_plain_python():
    run(AGAINST_REFERENCE.replace("WIDTH", "5").replace("DTYPES", "[np.float32, np.float64]"), NUMBA_DISABLE_JIT="1")
