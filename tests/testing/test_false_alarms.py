"""No right gradient may be accused, however hard it is to measure."""

import numpy as np
import pytest

from tinygrad_llm.testing import check_vjp

from .right_rules import RIGHT, Pair


@pytest.mark.parametrize("pair", RIGHT, ids=repr)
@pytest.mark.parametrize("fast", [False, True], ids=["", "fast"])
def test_right_pairs_pass(pair: Pair, fast: bool) -> None:
    with np.errstate(all="ignore"):
        assert check_vjp(pair.forward, pair.backward, pair.inputs, fast=fast) is True


@pytest.mark.parametrize("low", [10, 13, 16])
@pytest.mark.parametrize("size", [1, 4])
def test_what_one_minus_a_square_near_one_leaves_is_not_taken_for_float32(low: int, size: int) -> None:
    """1 - y² is a small multiple of 2^-53 there, so that float32 could hold it, too."""
    for seed in range(4):
        x = np.random.default_rng(seed).uniform(low, low + 3, size)
        assert check_vjp(np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2), x)


def test_there_are_many() -> None:
    assert len(RIGHT) >= 80
    assert len({pair.name for pair in RIGHT}) == len(RIGHT)
