"""What every test leans on: Hypothesis profiles, and a seal on global state.

HYPOTHESIS_PROFILE=quick (the default) or thorough. Deadlines are off: a first call may compile a kernel.
"""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("quick", max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background jobs, and in all that they start
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    import kernels

    if kernels._side.get() == "numpy":
        kernels.set_num_threads(1)  # of BLAS: the processes that share the tests share the cores, and its threads wait busily
        for item in items:
            if item.get_closest_marker("numba_side"):
                item.add_marker(pytest.mark.skip(reason="holds for compiled kernels only"))


@pytest.fixture(autouse=True)
def sealed_state():
    """A test leaves grad mode, watchers, module path, seeds' generator and NumPy's error state as it found them."""
    import kernels
    from tinygrad_llm.autograd.state import local

    before = (local.grad_enabled, local.observers, local.path, np.geterr(), kernels._side.get())
    generator, local.generator = local.generator, None
    yield
    local.generator = generator
    after = (local.grad_enabled, local.observers, local.path, np.geterr(), kernels._side.get())
    assert after == before, f"the test leaked global state: {before} became {after}"


@pytest.fixture
def same_threads_after():
    import kernels

    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


@pytest.fixture
def plain_kernels(same_threads_after):
    """The plain side, with one thread: processes that share the tests share the cores, and threads of a BLAS wait for work busily."""
    import kernels

    kernels.set_num_threads(1)
    with kernels.use("numpy"):
        yield
