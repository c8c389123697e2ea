"""The pytest plugin, installed with the package (entry point `pytest11`): a fixture for gradient checks.

    def test_layer(gradcheck):
        gradcheck(forward, backward, (x, w))       # a hand-written pair on ndarrays: check_vjp
        gradcheck(lambda x: x.tanh().sum(), x)     # a function of Tensors: gradcheck

It is loaded in every pytest run of every project in the environment, so it imports nothing until it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

__tracebackhide__ = True  # a failure ends at the test's own line


def _check(*arguments: Any, **options: Any) -> bool:
    second = arguments[1] if len(arguments) > 1 else None
    if "backward" in options or (callable(second) and not hasattr(second, "shape")):
        from .foreign import check_vjp

        return check_vjp(*arguments, **options)
    from .engine_check import gradcheck

    return gradcheck(*arguments, **options)


@pytest.fixture(name="gradcheck", scope="session")
def gradcheck_fixture() -> Callable[..., bool]:
    """`gradcheck(forward, backward, inputs)` for foreign NumPy code, `gradcheck(fn, inputs)` for functions of Tensors.

    True, or fails the test naming the input, the index and both values. Options as in `tinygrad_llm.testing`.
    """
    return _check
