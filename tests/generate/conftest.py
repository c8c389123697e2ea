"""Generation's tests are about choosing tokens, not about kernels: the plain side keeps them free of compilation."""

import pytest

import kernels


@pytest.fixture(autouse=True)
def plain_kernels():
    with kernels.use("numpy"):
        yield
