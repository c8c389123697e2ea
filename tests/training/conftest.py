"""Training's tests are about the loop, not about kernels: the plain side keeps them free of compilation."""

import pytest


@pytest.fixture(autouse=True)
def plain_kernels(plain_kernels):
    """For every test of this folder."""
