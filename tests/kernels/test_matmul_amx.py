"""Products on matrix tiles: the same contract as every matmul, where the host has the tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels._jit import COMPILED
from tests.kernels.fresh import python

if not COMPILED:
    pytest.skip("kernels are not compiled here", allow_module_level=True)

from kernels import amx, matmul_amx, matmul_call  # noqa: E402

if not amx.AVAILABLE:
    pytest.skip("this host has no matrix tiles", allow_module_level=True)


@pytest.fixture(autouse=True)
def split_everything_that_fits(monkeypatch):
    monkeypatch.setattr(matmul_amx, "LEAST_WORK", 0)
    matmul_call._problems.clear()
    yield
    matmul_call._problems.clear()


def errors(got, a, b, exact=0.0):
    """(ours, plain float32's): root mean square errors against float64."""
    want = a.astype(np.float64) @ b.astype(np.float64) + exact
    with np.errstate(all="ignore"):
        plain = a @ b + np.float32(0) * a[:1, :1] + np.asarray(exact, np.float32)
    return [np.sqrt(np.square(x - want).mean()) for x in (got, plain)]


def stored(rng, rows, columns, how, scale):
    """A (rows × columns) matrix, laid out in one of five ways."""
    x = (rng.standard_normal((rows, columns)) * scale).astype(np.float32)
    if how == "transposed":
        return np.ascontiguousarray(x.T).T
    if how == "every other":
        wide = np.zeros((rows, 2 * columns), np.float32)
        wide[:, ::2] = x
        return wide[:, ::2]
    if how == "backwards":
        return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    if how == "padded rows":
        wide = np.full((rows, columns + 3), np.nan, np.float32)
        wide[:, :columns] = x
        return wide[:, :columns]
    return x


LAYOUTS = st.sampled_from(("plain", "transposed", "every other", "backwards", "padded rows"))


@settings(max_examples=40)
@given(
    m=st.integers(32, 150), n=st.integers(32, 150), k=st.integers(64, 620), how_a=LAYOUTS, how_b=LAYOUTS,
    scale=st.sampled_from((1.0, 1e-20, 1e15)), beta=st.sampled_from((0.0, 1.0, -0.5)), seed=st.integers(0, 99),
)  # fmt: skip
def test_error_is_at_most_plain_float32s_own(m, n, k, how_a, how_b, scale, beta, seed):
    rng = np.random.default_rng(seed)
    a, b = stored(rng, m, k, how_a, scale), stored(rng, k, n, how_b, 1.0)
    c = rng.standard_normal((m, n)).astype(np.float32) * np.float32(scale)
    got = kernels.matmul(a, b, out=c.copy(), beta=beta)
    ours, plain = errors(got, a, b, beta * c.astype(np.float64))
    assert ours <= plain
    assert np.abs(got - (a.astype(np.float64) @ b + beta * c)).max() <= 1e-5 * scale * np.sqrt(k)


@pytest.mark.parametrize("k", [64, 513, 1100])
def test_infinities_nans_and_tiny_numbers_take_the_plain_loops(k):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((70, k)).astype(np.float32), rng.standard_normal((k, 90)).astype(np.float32)
    a[3, 4], b[7, 9], b[k - 1, 11], a[60, k - 2] = np.inf, np.nan, -np.inf, 1e-38
    with np.errstate(all="ignore"):
        want = a.astype(np.float64) @ b.astype(np.float64)
        got = kernels.matmul(a, b)
    assert np.array_equal(np.isnan(got), np.isnan(want)) and np.array_equal(np.isinf(got), np.isinf(want))
    finite = np.isfinite(want)
    np.testing.assert_allclose(got[finite], want[finite], rtol=1e-4, atol=1e-4)


def test_tiny_times_huge_keeps_its_digits():
    rng = np.random.default_rng(1)
    a = (rng.uniform(1, 2, (64, 64)) * 1e-37).astype(np.float32)
    b = (rng.uniform(1, 2, (64, 64)) * 1e37).astype(np.float32)
    np.testing.assert_allclose(kernels.matmul(a, b), a.astype(np.float64) @ b.astype(np.float64), rtol=1e-6)


def test_epilogue_and_batches():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((3, 40, 96)).astype(np.float32), rng.standard_normal((3, 96, 50)).astype(np.float32)
    bias, residual = rng.standard_normal(50).astype(np.float32), rng.standard_normal((3, 40, 50)).astype(np.float32)
    got = kernels.matmul(a, b, bias=bias, activation="relu", residual=residual)
    np.testing.assert_allclose(got, np.maximum(a @ b + bias, 0) + residual, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("m, k, n", [(300, 700, 260), (512, 768, 128), (65, 1030, 128), (33, 1600, 40)])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.7, "beta": 0.3}, {"beta": 1.0}, {"epilogue": True}, {"precision": "bfloat16"}],
                         ids=lambda options: " ".join(options) or "plain")  # fmt: skip
def test_equal_bits_at_any_number_of_threads(m, k, n, transpose_a, options):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    a[20, 300], b[400, 20], a[5, 650] = 1e-38, 1e-36, np.inf  # some blocks take the plain loops
    c = rng.standard_normal((m, n)).astype(np.float32)
    options = dict(options)
    more = {"bias": c[0], "activation": "gelu", "residual": c} if options.pop("epilogue", False) else {}
    before = kernels.get_num_threads()
    results = []
    for threads in (1, 2, 4):
        kernels.set_num_threads(threads)
        out = c.copy() if "beta" in options else None
        given = np.ascontiguousarray(a.T) if transpose_a else a
        with np.errstate(invalid="ignore"):
            results.append(kernels.matmul(given, b, out, transpose_a=transpose_a, **options, **more))
    kernels.set_num_threads(before)
    truth = (options.get("alpha", 1) * a.astype(np.float64) @ b + options.get("beta", 0) * c)[10:20]
    if not more and "precision" not in options:
        np.testing.assert_allclose(results[0][10:20], truth, rtol=1e-5, atol=2e-4)
    for result in results[1:]:
        np.testing.assert_array_equal(results[0], result)


def test_the_tiles_can_be_switched_off():
    code = """
        import numpy as np
        import kernels
        from kernels import amx
        ones = np.ones((64, 64), np.float32)
        print(amx.AVAILABLE, kernels.matmul(ones, ones).sum())"""
    assert python(code, TINYGRAD_LLM_AMX="0").split() == ["False", str(64.0**3)]
