"""Validation comes before the clock, and catches what it should."""

import numpy as np
import pytest

from tinygrad_llm.bench import ValidationError, versus
from tinygrad_llm.bench.race import Result, as_arrays, default_tolerance, disagreement
from tinygrad_llm.bench.timing import with_ratios

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


def test_a_contestant_that_fails_is_named():
    with pytest.raises(ZeroDivisionError) as caught:
        versus({"mine": lambda: 1.0, "theirs": lambda: 1 / 0})
    assert caught.value.__notes__ == ["raised by the contestant 'theirs' of versus"]


def test_functions_that_write_into_one_array_are_told_apart():
    y = np.empty_like(X)
    with pytest.raises(ValidationError, match="mine disagrees with numpy"):
        versus({"mine": lambda: np.multiply(X, 3, out=y), "numpy": lambda: np.multiply(X, 2, out=y)}, seconds=0.01)


def test_functions_that_return_nothing_are_not_said_to_agree():
    y = X.copy()
    functions = {"mine": lambda: y.sort(), "numpy": lambda: y.fill(0)}
    with pytest.raises(ValidationError, match="mine and numpy returned nothing that can be compared: .* tol=None"):
        versus(functions, seconds=0.01)
    for one, other, counts in ((None, X, "0 arrays, expected 1"), (X, None, "1 arrays, expected 0")):
        with pytest.raises(ValidationError, match=f"mine disagrees with numpy: returned {counts}"):
            versus({"mine": lambda one=one: one, "numpy": lambda other=other: other}, seconds=0.01)
    assert versus(functions, seconds=0.01, tol=None).timing.ratios["numpy"].ratio > 0
    assert versus({"alone": lambda: y.sort()}, seconds=0.01).timing.median("alone") > 0


def test_bfloat16_of_other_libraries_is_compared():
    torch, jnp = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    for y in (torch.from_numpy(X).bfloat16(), jnp.asarray(X, jnp.bfloat16)):
        assert disagreement(as_arrays(y), [X], 1e-2) is None
        assert "output 0 at (0, 1)" in disagreement(as_arrays(y), [wrong((0, 1), 3.0)], 1e-2)


def test_the_imaginary_part_counts():
    assert disagreement([X + 1j], [X - 1j], 1e-4) and disagreement([X], [X + 1j], 1e-4)
    assert disagreement([X + 1j], [X + (1 + 1e-6) * 1j], 1e-4) is None


@pytest.mark.filterwarnings("error")
def test_equal_nans_and_infinities_agree():
    assert disagreement([np.full(2, np.inf)], [np.full(2, np.inf)], 1e-9) is None
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
    for wrong in ([lambda: X], {"mine": X}):
        with pytest.raises(TypeError, match="a name and a function without arguments"):
            versus(wrong)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_no_time_to_race_is_an_error(seconds):
    with pytest.raises(ValueError, match="seconds: expected a finite number above 0, got"):
        versus({"mine": lambda: X}, seconds=seconds)


@pytest.mark.parametrize("output", ["done", object()])
def test_what_is_no_number_cannot_be_compared(output):
    with pytest.raises(TypeError, match="must return numbers"):
        versus({"mine": lambda: output})


def test_a_difference_is_measured_by_the_largest_expected_value():
    want = np.array([10.0, 0.0, -1.0])
    assert disagreement([want + [0, 9e-4, 0]], [want], 1e-4) is None
    assert "output 0 at (1,) is 0.0011, expected 0 (tolerance 0.0001 of 10)" in disagreement([want + [0, 1.1e-3, 0]], [want], 1e-4)
    endless = np.array([np.inf, 0.0, 1.0])
    assert disagreement([endless + [0, 2e-4, 0]], [endless], 1e-4), "infinity is no measure"
    assert disagreement([np.zeros(2)], [np.zeros(2)], 0.0) is None and disagreement([np.full(2, 1e-30)], [np.zeros(2)], 1e-4)
    assert disagreement([np.zeros((0, 3))], [np.zeros((0, 3))], 0.0) is None
    assert "shape (0, 3)" in disagreement([np.zeros((0, 3))], [np.zeros((0, 2))], 0.0)
    assert "output 1 at (0,)" in disagreement([want, want[:1]], [want, want[:1] + 1], 1e-4)
    assert "is 2," in disagreement([np.array([1.5, 2.0])], [np.array([1.0, 1.0])], 1e-4), "the largest difference is shown"


def test_the_table_has_medians_in_milliseconds():
    result = Result(with_ratios({"mine": [2e-3, 1e-3, 3e-3], "their|s": [6e-3, 3e-3, 12e-3], "slow": [4.0, 2.0, 6.0]}))
    assert result.table().splitlines() == [
        "| contestant | median ms | best ms | time / mine (95% interval) |",
        "| --- | --- | --- | --- |",
        "| mine | 2 | 1 | 1 |",
        "| their\\|s | 6 | 3 | 3.00 (3.00 to 4.00 in 3 rounds) |",
        "| slow | 4000 | 2000 | 2000.00 (2000.00 to 2000.00 in 3 rounds) |",
    ]


def test_the_blas_gets_its_threads_before_every_lap(monkeypatch):
    from kernels import _threads

    monkeypatch.setattr(_threads, "leave_cores_to_blas", lambda: seen.append("threads"))
    seen = []
    versus({"mine": lambda: seen.append("call")}, seconds=1e-9, tol=None)
    assert seen[0] == "threads" and seen.count("threads") >= 4


def test_tolerances_follow_the_precision():
    assert default_tolerance("float64") < 1e-6 < default_tolerance("float32") < 1e-2
