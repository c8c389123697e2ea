"""Training's tests are about the loop, not about kernels: the plain side keeps them free of compilation."""

import pytest

import kernels


@pytest.fixture(autouse=True)
def plain_kernels():
    before = kernels.get_num_threads()
    kernels.set_num_threads(1)  # the processes that share the tests share the cores, and the threads of a BLAS wait for work busily
    with kernels.use("numpy"):
        yield
    kernels.set_num_threads(before)
