"""Arrays that are freed and allocated again do not come from the system again."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
import tinygrad_llm
def use():
    return [np.ones(400_000, dtype=np.float32) for _ in range(20)]
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment) -> int:
    out = subprocess.run([sys.executable, "-c", PROGRAM], env=os.environ | environment, capture_output=True, text=True, check=True)
    return int(out.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept():
    kept, system = faults(), faults(TINYGRAD_LLM_MALLOC="system")
    assert kept < 100 or kept < system / 10, (kept, system)
