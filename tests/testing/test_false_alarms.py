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


def test_there_are_many() -> None:
    assert len(RIGHT) >= 80
    assert len({pair.name for pair in RIGHT}) == len(RIGHT)
