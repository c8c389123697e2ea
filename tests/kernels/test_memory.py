"""Arrays that are freed and allocated again do not come from the system again."""

import sys

import pytest

from tests.kernels.fresh import python

PROGRAM = """
import resource
import sys
import numpy as np
exec(sys.argv[3])
def use():
    size, count = int(sys.argv[1]), int(sys.argv[2])
    return [np.ones(size, dtype=np.float32) for _ in range(count)]
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(size: int, count: int, first: str, **environment) -> int:
    return int(python(PROGRAM, size, count, first, **environment))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize(("size", "count"), [(400_000, 20), (12_000_000, 2)])  # 1.6 MB each, and more than glibc's 32 MB
@pytest.mark.parametrize("first", ["import tinygrad_llm.autograd", "import kernels; kernels.relu_forward(np.ones(3))"])
def test_freed_memory_is_kept(size, count, first):
    kept, system = faults(size, count, first), faults(size, count, first, TINYGRAD_LLM_MALLOC="system")
    assert kept < 100 or kept < system / 10, (kept, system)
