"""Products in bfloat16: rounded operands, float32 sums, on tiles where the host has them and after rounding elsewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels import reference
from kernels._jit import COMPILED
from tests.kernels import attention_problems
from tests.kernels.fresh import python
from tests.kernels.test_matmul import bound, in_float64, problems

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 97, 130, 200]))


def rounded(x):
    """Round half to even by Python's own rules: 8 significant bits."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.round(mantissa * 256) / 256, exponent)


# -- rounding ----------------------------------------------------------------------------------------------------------

def every_exponent():
    """Each exponent and sign with fractions at, beside and between ties."""
    fractions = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0x10000, 0x17FFF, 0x18000, 0x18001, 0x3FFFFF, 0x400000, 0x7F7FFF,
                          0x7F8000, 0x7FFFFF], np.uint32)
    return (np.arange(512, dtype=np.uint32)[:, None] << 23 | fractions).view(np.float32)


@pytest.mark.parametrize("round_bfloat16", [reference.round_bfloat16, kernels.round_bfloat16])
def test_rounding_is_to_the_nearest_ties_to_even(round_bfloat16):
    x = every_exponent()
    got = round_bfloat16(x)
    assert not np.any(got.view(np.uint32) & 0xFFFF)
    normal = np.isfinite(x) & (np.abs(x) >= 2.0**-126)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got[normal], rounded(x[normal]).astype(np.float32))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(x))
    np.testing.assert_array_equal(got[np.isinf(x)], x[np.isinf(x)])
    small = np.abs(x) < 2.0**-126
    assert not np.any(got[small])
    numbers = ~np.isnan(x)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(x[numbers]))


@given(shape=st.lists(st.integers(0, 70), min_size=0, max_size=3), transpose=st.booleans(), step=st.sampled_from([1, 2, -1]))
def test_rounding_takes_any_layout(shape, transpose, step):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x = x.T if transpose else x
    x = x[::step] if x.ndim else x
    got = kernels.round_bfloat16(x)
    assert got.shape == x.shape and got.dtype == np.float32
    np.testing.assert_array_equal(got, rounded(x).astype(np.float32))


# -- products ----------------------------------------------------------------------------------------------------------

@given(problem=problems(sizes=SIZES, dtypes=(np.float32,)))
def test_product_of_rounded_operands_with_every_option(problem):
    a, b, options = problem
    a16, b16 = reference.round_bfloat16(a), reference.round_bfloat16(b)
    exact = in_float64(options)
    exact_out = reference.matmul(a16.astype(np.float64), b16.astype(np.float64), **exact)
    limit = bound(a16, b16, options)
    got = kernels.matmul(a, b, precision="bfloat16", **options)
    assert got.dtype == np.float32 and got.shape == exact_out.shape
    assert np.all(np.abs(got - exact_out) <= limit)
    if "pre" in options:
        assert np.all(np.abs(options["pre"] - exact["pre"]) <= limit)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (64, 64, 64), (65, 33, 31), (200, 130, 1700), (1024, 48, 800)])
@pytest.mark.parametrize("side", ["numba", "numpy"])
def test_every_size_is_rounded_on_both_sides(shape, side):
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(1, 2, size).astype(np.float32) for size in ((m, k), (k, n)))
    with kernels.use(side):
        got = kernels.matmul(a, b, precision="bfloat16")
        plain = kernels.matmul(a, b)
    want = rounded(a) @ rounded(b)
    assert np.abs(got - want).max() <= 2e-6 * want.max()
    assert np.abs(plain - want).max() > 2e-4          # float32 products are another thing


def test_more_batch_axes_than_the_loops_walk_are_rounded_too():
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(1, 2, shape).astype(np.float32) for shape in ((2, 3, 2, 5, 70), (2, 1, 2, 70, 6)))
    want = rounded(a) @ rounded(b)
    assert np.abs(kernels.matmul(a, b, precision="bfloat16") - want).max() <= 2e-6 * want.max()


@settings(max_examples=40)
@given(transpose_a=st.booleans(), transpose_b=st.booleans(), batch=st.sampled_from([(), (3,)]), m=SIZES, n=SIZES, k=SIZES,
       activation=st.sampled_from([None, "gelu"]))
def test_gradients_round_the_incoming_gradient_too(transpose_a, transpose_b, batch, m, n, k, activation):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((*batch, *((k, m) if transpose_a else (m, k)))).astype(np.float32)
    b = rng.standard_normal((n, k) if transpose_b else (k, n)).astype(np.float32)
    g, pre = (rng.standard_normal((*batch, m, n)).astype(np.float32) for _ in range(2))
    options = {"transpose_a": transpose_a, "transpose_b": transpose_b, "bias": True, "precision": "bfloat16",
               "activation": activation, "pre": pre if activation else None}
    want = reference.matmul_backward(g, a, b, **options)
    got = kernels.matmul_backward(g, a, b, **options)
    rows = max(1, m * int(np.prod(batch)))
    for x, y, depth in zip(got, want, (n, rows, rows)):
        assert x.shape == y.shape
        # an activation's gradient is worked out twice: a last bit may round to the other side
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=(2e-2 if activation else 4e-6) * np.sqrt(depth))


def test_infinities_and_nans_survive():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((70, 300)).astype(np.float32), rng.standard_normal((300, 90)).astype(np.float32)
    a[3, 4], b[7, 9], b[299, 11], a[60, 250], a[5, 5] = np.inf, np.nan, -np.inf, 3.4e38, -3.4e38
    with np.errstate(all="ignore"):
        want = reference.matmul(a, b, precision="bfloat16")
        got = kernels.matmul(a, b, precision="bfloat16")
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(got[np.isinf(want)], want[np.isinf(want)])
    finite = np.isfinite(want)
    np.testing.assert_allclose(got[finite], want[finite], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("exponent_a, exponent_b", [(-140, 100), (-126, 126), (-130, 0), (100, -120), (-70, -70), (60, 60)])
def test_extreme_scales_stay_within_the_smallest_normal_number(exponent_a, exponent_b):
    rng = np.random.default_rng(3)
    a = np.ldexp(rng.uniform(1, 2, (40, 100)), exponent_a).astype(np.float32)
    b = np.ldexp(rng.uniform(1, 2, (100, 50)), exponent_b).astype(np.float32)
    want = reference.round_bfloat16(a).astype(np.float64) @ reference.round_bfloat16(b).astype(np.float64)
    got = kernels.matmul(a, b, precision="bfloat16")
    assert np.all(np.abs(got - want) <= 2e-5 * np.abs(want) + 100 * 2.0**-126)


SAME_BITS = """
import numpy as np
import kernels

rng = np.random.default_rng(4)
for m, n, k, batch in ((300, 260, 1700, ()), (2048, 96, 384, ()), (65, 70, 64, (5,)), (7, 700, 300, ())):
    a, b = rng.standard_normal((*batch, m, k)).astype(np.float32), rng.standard_normal((*batch, k, n)).astype(np.float32)
    bits = set()
    for threads in (1, 2, 4, 8):
        kernels.set_num_threads(threads)
        assert kernels.get_num_threads() == threads
        out = np.ones((*batch, m, n), np.float32)
        bits.add(kernels.matmul(a, b, out, beta=1.0, bias=b[..., 0, :].reshape(-1, n)[0], precision="bfloat16").tobytes())
    assert len(bits) == 1, (m, n, k)
print("all")
"""


AGAINST_REFERENCE = """
import numpy as np
import kernels
from kernels import reference
from kernels._jit import COMPILED

rng = np.random.default_rng(5)
large = (65, 100, 333) if COMPILED else (22, 19, 70)              # more than one block each way, and a rest
for m, n, k in ((1, 1, 1), (5, 6, 7), (9, 48, 2), (40, 33, 70), large, (70, 50, 0)):
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    got = kernels.matmul(a, b, precision="bfloat16")
    want = reference.matmul(a, b, precision="bfloat16")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    wide_a, wide_b = np.zeros((2 * m, k + 3), np.float32), np.zeros((n + 5, 3 * k), np.float32)      # parts of something wider
    wide_a[::2, :k], wide_b[:n, ::3] = a, b.T
    got = kernels.matmul(wide_a[::2, :k], wide_b[:n, ::3], transpose_b=True, precision="bfloat16")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    turned = kernels.matmul(np.ascontiguousarray(a.T), b, transpose_a=True, bias=b[0] if k else None, precision="bfloat16")
    np.testing.assert_allclose(turned, want + b[0] if k else want, rtol=1e-5, atol=1e-5)
    special = a.copy()
    special[:1, :1] = np.inf
    special[1:2, :1] = 1e-40
    got, want = (side.matmul(special, b, precision="bfloat16") for side in (kernels, reference))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
print("all")
"""


PAIRS = {"TINYGRAD_LLM_AMX": "0", "TINYGRAD_LLM_PAIRS": "1"}        # where the host has no such instruction, numbers are rounded first


@pytest.mark.skipif(not COMPILED, reason="threads belong to compiled kernels")
@pytest.mark.parametrize("variables", [{}, {"TINYGRAD_LLM_AMX": "0"}, PAIRS], ids=str)
def test_equal_bits_at_any_number_of_threads(variables):
    assert python(SAME_BITS, NUMBA_NUM_THREADS="8", **variables) == "all"


@pytest.mark.parametrize("variables", [{"TINYGRAD_LLM_AMX": "0"}, PAIRS, {"NUMBA_DISABLE_JIT": "1"},
                                       {"TINYGRAD_LLM_KERNELS": "numpy"}], ids=str)
def test_hosts_without_tiles_or_compiler_give_the_same_numbers(variables):
    assert python(AGAINST_REFERENCE, **variables) == "all"


def test_linear_cross_entropy_rounds_its_three_products():
    rng = np.random.default_rng(6)
    hidden, weight = rng.standard_normal((30, 48)).astype(np.float32), rng.standard_normal((90, 48)).astype(np.float32)
    targets, bias = rng.integers(0, 90, 30), rng.standard_normal(90).astype(np.float32)
    got = kernels.linear_cross_entropy_forward(hidden, weight, targets, bias, chunk_rows=8, precision="bfloat16")
    want = reference.linear_cross_entropy_forward(hidden, weight, targets, bias, chunk_rows=8, precision="bfloat16")
    plain = kernels.linear_cross_entropy_forward(hidden, weight, targets, bias, chunk_rows=8)
    for x, y, z in zip(got[:3], want[:3], plain[:3]):
        scale = np.abs(y).max()
        assert np.abs(x - y).max() <= 2e-4 * scale          # a probability's last bit may round to the other side
        assert 1e-6 * scale < np.abs(z - y).max() <= 2e-2 * scale


# -- attention ---------------------------------------------------------------------------------------------------------

def longest_row(x):
    """Rounding moves a product of rows by a fraction of their lengths'."""
    return np.sqrt((x.astype(np.float64) ** 2).sum(axis=-1).max())


@settings(max_examples=60)
@given(problem=attention_problems.problems(longest=150, dtypes=(np.float32,)))
def test_attention_stays_within_a_few_roundings_of_float64(problem):
    q, k, v, g, options = problem
    truth = attention_problems.in_float64(q, k, v, g, options)
    scale = options.get("scale", q.shape[-1] ** -0.5)
    limit = 2**-6 * (1 + longest_row(g) * longest_row(v) + scale * longest_row(q) * longest_row(k))
    for module in (kernels, reference):
        got = attention_problems.solve(module, q, k, v, g, {**options, "precision": "bfloat16"})
        assert all(x is None or x.dtype == np.float32 for x in got)
        assert attention_problems.worst(got, truth) <= limit, module.__name__


def attend(precision, rng, **options):
    q, k, v, g = (rng.standard_normal((2, 3, 200, 64)).astype(np.float32) for _ in range(4))
    return attention_problems.solve(kernels, q, k, v, g, {"is_causal": True, "precision": precision, **options})


@pytest.mark.numba_side
@pytest.mark.skipif(not COMPILED, reason="the tiles belong to compiled kernels")
@pytest.mark.parametrize("options", [{}, {"dropout_p": 0.2, "seed": 3}])
def test_attention_is_rounded_where_the_host_has_tiles(options):
    rounded_results, plain = (attend(precision, np.random.default_rng(7), **options) for precision in ("bfloat16", None))
    from kernels import amx

    for x, y in zip(rounded_results[:5], plain):
        off = np.abs(x - y).max() / np.abs(y).max()
        assert off < 2**-6
        assert (off > 1e-5) == amx.AVAILABLE


@pytest.mark.numba_side
def test_attention_with_infinities_and_hidden_rows_is_float32s():
    rng = np.random.default_rng(8)
    q, k, v, g = (rng.standard_normal((1, 2, 70, 32)).astype(np.float32) for _ in range(4))
    q[0, 0, 5, 3] = np.inf
    mask = np.ones((70, 70), bool)
    mask[9] = False
    with np.errstate(all="ignore"):
        got, want = (attention_problems.solve(kernels, q, k, v, g, {"mask": mask, "precision": p}) for p in ("bfloat16", None))
    for x, y in zip(got[:5], want):
        np.testing.assert_array_equal(x, y)
    assert not np.any(got[0][0, :, 9])


# -- bad input ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("side", ["numba", "numpy"])
def test_bad_input(side):
    a = np.ones((4, 4), np.float32)
    with kernels.use(side):
        with pytest.raises(ValueError, match=r"precision.*bfloat16.*float16"):
            kernels.matmul(a, a, precision="float16")
        with pytest.raises(TypeError, match="float32"):
            kernels.matmul(a.astype(np.float64), a.astype(np.float64), precision="bfloat16")
        with pytest.raises(TypeError, match=r"float32.*float64"):
            kernels.round_bfloat16(a.astype(np.float64))
        q = np.ones((1, 1, 2, 4), np.float32)
        with pytest.raises(ValueError, match=r"precision.*bfloat16"):
            kernels.attention_forward(q, q, q, precision="half")
