"""Validation comes before the clock, and catches what it should."""

import numpy as np
import pytest

from tinygrad_llm.bench import ValidationError, versus
from tinygrad_llm.bench.race import as_arrays, disagreement

X = np.linspace(-1.0, 1.0, 12).reshape(3, 4)


def test_five_lines_of_a_person():
    x = np.random.default_rng(0).standard_normal((64, 64))
    result = versus({"mine": lambda: np.einsum("ij,jk->ik", x, x), "numpy": lambda: x @ x}, seconds=0.05)
    head, _, mine, theirs = result.table().splitlines()
    assert "95% interval" in head and mine.startswith("| mine") and theirs.startswith("| numpy")
    assert result.timing.ratios["numpy"].ratio > 0


def wrong(at, value):
    y = X.copy()
    y[at] = value
    return y


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (wrong((1, 2), X[1, 2] + 0.01), r"output 0 at \(1, 2\)"),
        (wrong((2, 3), np.nan), r"output 0 at \(2, 3\) is nan"),
        (wrong((0, 0), np.inf), r"output 0 at \(0, 0\) is inf"),
        (X.T, r"shape \(4, 3\), expected \(3, 4\)"),
        ((X, X), "returned 2 arrays, expected 1"),
        (-X, "output 0"),
    ],
)
def test_a_wrong_contestant_is_named_and_not_timed(got, message):
    calls = []

    def judge():
        calls.append(1)
        return X

    with pytest.raises(ValidationError, match=f"mine disagrees with theirs: .*{message}"):
        versus({"mine": lambda: got, "theirs": judge}, seconds=1)
    assert len(calls) == 1


def test_equal_nans_and_infinities_agree():
    y = np.array([np.nan, np.inf, -np.inf, 1.0])
    assert disagreement([y], [y.copy()], 1e-9) is None
    assert disagreement([y], [np.array([np.nan, -np.inf, -np.inf, 1.0])], 1e-9)


def test_outputs_of_any_kind_are_flattened():
    class Foreign:
        def detach(self):
            return self

        def numpy(self):
            return np.ones(2)

    arrays = as_arrays((1.5, [Foreign(), None], {"b": np.zeros(3), "a": np.zeros(4)}))
    assert [a.shape for a in arrays] == [(), (2,), (4,), (3,)]


def test_nothing_to_race_is_an_error():
    with pytest.raises(ValueError, match="at least one function"):
        versus({})
