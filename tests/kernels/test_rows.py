"""Every row kernel, both passes, both backends: accuracy, layouts, threads, extremes, empty arrays."""
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
from kernels import reference, softmax, vecmath
from kernels._jit import COMPILED, jit
from tests.kernels.row_problems import PROBLEMS

EPS = np.finfo(np.float32).eps
every = pytest.mark.parametrize("name", PROBLEMS)
leads = st.lists(st.integers(1, 6), min_size=1, max_size=2).map(tuple)
shapes = st.tuples(leads, st.integers(3, 70))


def error(results, truth):
    """The largest error of each output, relative to that output's largest value, or to 1 if it is smaller."""
    return {name: np.abs(results[name].astype(np.float64) - exact).max() / max(1.0, np.abs(exact).max())
            for name, exact in truth.items()}


@every
@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_float32_error_is_at_most_twice_the_plain_one(name, scale):
    problem = PROBLEMS[name](np.random.default_rng(0), (12, 16), 192)
    inputs = {key: x * np.float32(scale) if key == "x" else x for key, x in problem.inputs.items()}
    truth = problem.solve(reference, np.float64, inputs)
    plain, fast = error(problem.solve(reference, inputs=inputs), truth), error(problem.solve(kernels, inputs=inputs), truth)
    allowed = 4 if name.startswith("linear") else 2                      # its sums are those of two matrix products
    for output in truth:
        assert fast[output] <= allowed * plain[output] + EPS / 2, output


@every
@given(shape=shapes, seed=st.integers(0, 2**32))
def test_float32_at_any_shape(name, shape, seed):
    problem = PROBLEMS[name](np.random.default_rng(seed), *shape)
    for output, wrong in error(problem.solve(kernels), problem.solve(reference, np.float64)).items():
        assert wrong < 50 * EPS * shape[1] ** 0.5, output           # three near equal numbers make any norm lose digits


@every
@given(shape=shapes, seed=st.integers(0, 2**32))
def test_float64_agrees_with_the_plain_formulas(name, shape, seed):
    problem = PROBLEMS[name](np.random.default_rng(seed), *shape)
    truth, fast = problem.solve(reference, np.float64), problem.solve(kernels, np.float64)
    for output, wrong in error(fast, truth).items():
        assert fast[output].dtype == truth[output].dtype and wrong < 1e-11, output


@every
def test_rows_of_one_number(name):
    problem = PROBLEMS[name](np.random.default_rng(7), (4,), 1)
    for output, wrong in error(problem.solve(kernels), problem.solve(reference, np.float64)).items():
        assert wrong < 1e-4, output


@every
@given(shape=shapes, seed=st.integers(0, 2**32))
def test_gradients_by_finite_differences(name, shape, seed):
    problem = PROBLEMS[name](np.random.default_rng(seed), *shape)
    inputs = {key: x.astype(np.float64) for key, x in problem.inputs.items()}
    results = problem.solve(kernels, inputs=inputs)
    if "dx" not in results or name in ("relu",):
        pytest.skip("no gradient by this name, or a kink in the function")
    direction = np.random.default_rng(seed + 1).standard_normal(inputs["x"].shape)
    measured = 0.0
    for weight, h in ((4 / 3, 1e-4), (-1 / 3, 2e-4)):                      # Richardson: the error falls with h⁴
        there, back = ({**inputs, "x": inputs["x"] + s * h * direction} for s in (1, -1))
        difference = [problem.solve(kernels, inputs=there), problem.solve(kernels, inputs=back)]
        for output, upstream in (("out", inputs.get("g", np.float64(2.5))), ("total", inputs.get("g_total"))):
            if output in results:
                measured += weight * ((difference[0][output] - difference[1][output]) * upstream).sum() / (2 * h)
    predicted = (results["dx"] * direction).sum()
    assert abs(measured - predicted) <= 1e-6 * (1 + np.abs(results["dx"] * direction).sum())


@every
def test_strided_inputs_give_the_same_numbers(name):
    problem = PROBLEMS[name](np.random.default_rng(1), (3, 5), 40)
    expected = problem.solve(kernels)
    for layout in (_inside_wider_rows, _gaps_between_blocks, _from_columns, _reversed, _read_only):
        strided = {key: layout(x) for key, x in problem.inputs.items()}
        for output, y in problem.solve(kernels, inputs=strided).items():
            # a product may take another path, NumPy adds along other axes in another order, loops with bounds checks end otherwise
            loose = name.startswith("linear") or kernels._side.get() == "numpy" or os.environ.get("NUMBA_BOUNDSCHECK") == "1"
            rtol = 1e-5 if loose else 0
            np.testing.assert_allclose(y, expected[output], rtol, rtol, err_msg=f"{layout.__name__} {output}")


def test_a_second_array_may_lie_otherwise_than_the_first():
    x, g = (np.random.default_rng(seed).standard_normal((3, 2001)).astype(np.float32) for seed in (0, 1))
    for first, second in ((x, _inside_wider_rows(g)), (_inside_wider_rows(x), g)):
        np.testing.assert_array_equal(kernels.relu_backward(second, first), kernels.relu_backward(g, x))
        np.testing.assert_array_equal(kernels.swiglu_forward(first, second), kernels.swiglu_forward(x, g))


def _inside_wider_rows(x):
    wide = np.full((*x.shape[:-1], x.shape[-1] + 9), np.nan, x.dtype)
    wide[..., 4:-5] = x
    return wide[..., 4:-5]


def _gaps_between_blocks(x):
    wide = np.full((*x.shape[:-2], 2, *x.shape[-2:]), np.nan, x.dtype)[..., 0, :, :] if x.ndim > 1 else x.copy()
    wide[...] = x
    return wide


def _from_columns(x):
    return np.asfortranarray(x)


def _reversed(x):
    return np.ascontiguousarray(x[::-1])[::-1]


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@every
def test_empty_arrays_pass_through(name):
    for lead, width in (((0,), 5), ((2, 0), 5), ((3,), 0)):
        if name.startswith("linear_cross_entropy") or not width and name.startswith("cross_entropy"):
            continue                                                       # a mean over nothing, a class of none: tested by themselves
        problem = PROBLEMS[name](np.random.default_rng(0), lead, width)
        expected, results = problem.solve(reference), problem.solve(kernels)
        for output, y in results.items():
            assert y.shape == expected[output].shape and np.array_equal(y, expected[output]), output


VALUES = np.array([0.0, -0.0, 1e-45, -1e-40, 1.2e-38, 1.0, -1.0, 30.0, -30.0, 90.0, -90.0, 1e4, -1e4, 1e19, -1e19, 3e38, -3e38,
                   np.inf, -np.inf, np.nan], np.float32)


@pytest.mark.parametrize("name", ["relu", "silu", "tanh", "erf", "softplus", "expm1", "gelu", "gelu_tanh", "swiglu", "geglu", "geglu_tanh",
                                  "silu_beside", "gelu_beside", "gelu_tanh_beside"])
def test_activations_at_the_ends_of_the_range(name):
    problem = PROBLEMS[name](np.random.default_rng(0), (1,), VALUES.size)
    ones = {key: np.ones((1, VALUES.size), np.float32) for key in problem.inputs}
    inputs = {**ones, "x": VALUES[None]}
    truth = problem.solve(reference, np.float64, inputs)
    results = problem.solve(kernels, inputs=inputs)
    for output in results:
        with np.errstate(over="ignore"):
            wanted = truth[output].astype(np.float32)
        np.testing.assert_allclose(results[output], wanted, rtol=1e-6, atol=1e-30, err_msg=output)


def test_silu_in_float64_keeps_its_digits_until_it_is_nothing():
    x = -np.arange(0.0, 700.0, 7.0)
    np.testing.assert_allclose(kernels.silu_forward(x), x / (1 + np.exp(-x)), rtol=1e-13)
    np.testing.assert_allclose(kernels.silu_backward(np.ones_like(x), x), reference.silu_backward(np.ones_like(x), x), rtol=1e-11)


@pytest.mark.parametrize("shape", [(9, 4097), (3, 5)])
@pytest.mark.parametrize("name, options", [("silu", {}), ("gelu", {}), ("gelu", {"approximate": "tanh"})])
def test_a_value_beside_the_gradient_is_that_of_forward(name, options, shape):
    g, x, room = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    forward, backward = getattr(kernels, name + "_forward"), getattr(kernels, name + "_backward")
    for value in (room, np.asfortranarray(room), np.repeat(room, 2, axis=1)[:, ::2]):
        np.testing.assert_allclose(backward(g, x, value=value, **options), backward(g, x, **options), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(value, forward(x, **options), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_lets_no_gradient_through_where_it_is_zero(dtype):
    g, x = np.tile([np.inf, np.nan, -np.inf, 2.0], 7).astype(dtype), np.repeat(np.array([-1, 1], dtype), 14)
    assert np.array_equal(kernels.relu_backward(g, x), np.where(x > 0, g, 0), equal_nan=True)


@pytest.mark.parametrize("how", ["none", "tanh"])
def test_gelu_of_negative_numbers_is_never_positive(how):
    x = np.concatenate([-np.linspace(0, 20, 100_001, dtype=np.float32), np.array([-1e4, -1e30, -np.inf], np.float32)])
    out = kernels.gelu_forward(x, how)
    assert (out <= 0).all() and (out[-3:] == 0).all()
    assert np.abs(out - reference.gelu_forward(x.astype(np.float64), how))[x < -5.8].max() < 2e-8


@pytest.mark.parametrize("module", [kernels, reference])
def test_gelu_keeps_its_digits_where_it_closes(module):
    x = np.concatenate([-np.linspace(1, 37, 2000), [3.0, -0.4 * math.sqrt(2), -4 * math.sqrt(2)]])
    exact = np.array([t * math.erfc(-t / math.sqrt(2)) / 2 for t in x])
    assert np.abs(module.gelu_forward(x) / exact - 1).max() < 5e-13  # t²/2 is an exponent: 700 at -37, of which an ulp is 1e-13


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@given(seed=st.integers(0, 2**32), width=st.integers(1, 40))
def test_softmax_of_extreme_rows(name, seed, width):
    x = np.random.default_rng(seed).choice(VALUES, (4, width))
    x[0] = -np.inf
    with np.errstate(all="ignore"):
        truth = getattr(reference, name + "_forward")(x.astype(np.float64))
        plain = getattr(reference, name + "_forward")(x)
    out = getattr(kernels, name + "_forward")(x)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(plain))
    np.testing.assert_allclose(out, truth.astype(np.float32), rtol=2e-6, atol=2e-38 if name == "softmax" else 1e-6)
    assert np.isnan(out[0]).all()


@given(seed=st.integers(0, 2**32), width=st.integers(2, 40))
def test_cross_entropy_of_extreme_rows(seed, width):
    rng = np.random.default_rng(seed)
    x, targets = rng.choice(VALUES, (4, width)), rng.integers(0, width, 4)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        top = wide.max(axis=1)                            # log Σ is lost beside 3e38, also in float64: it is added last
        truth = np.log(np.exp(wide - top[:, None]).sum(axis=1)) + (top - wide[np.arange(4), targets])
        _, lse = reference.cross_entropy_forward(wide, targets)
        gradient = reference.cross_entropy_backward(1.0, wide, targets, lse)
        losses, lse = kernels.cross_entropy_forward(x, targets)
        np.testing.assert_allclose(losses, truth.astype(np.float32), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(kernels.cross_entropy_backward(1.0, x, targets, lse), gradient, rtol=1e-5,
                                   atol=1e-3)         # lse of 1e4 has 4 digits behind the point


@pytest.mark.parametrize("module", [kernels, reference], ids=["kernels", "reference"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3, 1.0])
def test_equal_logits_lose_the_logarithm_of_their_number_however_large_they_are(module, smoothing):
    for dtype, size in ((np.float32, 1e5), (np.float32, -3e37), (np.float32, 3e38), (np.float64, 1e15), (np.float64, 1e300)):
        losses, _ = module.cross_entropy_forward(np.full((2, 7), size, dtype), np.array([0, 6]), label_smoothing=smoothing)
        np.testing.assert_allclose(losses, np.log(7), rtol=1e-6, err_msg=f"{dtype.__name__} {size}")


@pytest.mark.numba_side
def test_smoothing_over_logits_whose_differences_are_beyond_float32():
    losses, _ = kernels.cross_entropy_forward(np.array([[3e38, -3e38]], np.float32), np.array([0]), label_smoothing=0.1)
    np.testing.assert_allclose(losses, 3e37, rtol=1e-6)


def test_a_long_row_of_masked_blocks():
    x = np.full((1, 7000), -np.inf, np.float32)
    x[0, 6500] = 2.0
    losses, lse = kernels.cross_entropy_forward(x, np.array([6500]))
    assert losses[0] == 0 and lse[0] == 2
    assert not kernels.cross_entropy_backward(1.0, x, np.array([6500]), lse).any()


@pytest.mark.parametrize("side", kernels.SIDES)
def test_a_row_without_any_class_has_no_probability(side):
    with kernels.use(side):
        losses, lse = kernels.cross_entropy_forward(np.full((2, 3), -np.inf), np.array([1, -100]))
    np.testing.assert_array_equal(lse, [-np.inf, -np.inf])
    np.testing.assert_array_equal(losses, [np.nan, 0])


def test_softmax_and_cross_entropy_may_overwrite_their_input():
    x = np.random.default_rng(0).standard_normal((5, 3000)).astype(np.float32)
    expected, y = kernels.softmax_forward(x), x.copy()
    assert kernels.softmax_forward(y, out=y) is y
    np.testing.assert_array_equal(y, expected)
    targets = np.array([0, 1, -100, 2999, 7])
    _, lse = kernels.cross_entropy_forward(x, targets)
    expected = kernels.cross_entropy_backward(0.5, x, targets, lse)
    assert kernels.cross_entropy_backward(0.5, x, targets, lse, out=x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("side", ["numba", "numpy"])
def test_out_is_filled_and_returned(side):
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    calls = {"gelu": (), "silu": (), "relu": (), "tanh": (), "erf": (), "softplus": (), "expm1": (), "softmax": (), "log_softmax": (), "layer_norm": (), "rms_norm": (),
             "swiglu": (x,), "geglu": (x,)}
    with kernels.use(side):
        for name, more in calls.items():
            forward = getattr(kernels, name + "_forward")
            expected, wide = forward(x, *more), np.zeros((4, 12), np.float32)
            for out in (np.empty_like(x), wide[:, ::2]):
                result = forward(x, *more, out=out)
                first, exact = (result[0], expected[0]) if isinstance(result, tuple) else (result, expected)
                assert first is out
                np.testing.assert_array_equal(out, exact)


def test_mean_over_no_rows_is_nan_as_in_pytorch():
    loss, dhidden, dweight, _ = kernels.linear_cross_entropy_forward(np.ones((2, 3), np.float32), np.ones((4, 3), np.float32),
                                                                     np.array([-100, -100]))
    assert np.isnan(loss) and not dhidden.any() and not dweight.any()


@pytest.mark.parametrize("side", kernels.SIDES)
def test_cross_entropy_of_no_classes_and_of_no_features(side):
    none, ignored = np.zeros((3, 0), np.float32), np.full(3, -100)
    with kernels.use(side):
        losses, lse = kernels.cross_entropy_forward(none, ignored)
        assert (losses == 0).all() and (lse == -np.inf).all()
        assert kernels.cross_entropy_backward(1.0, none, ignored, lse).shape == (3, 0)
        loss, dhidden, dweight, _ = kernels.linear_cross_entropy_forward(none, np.zeros((5, 0), np.float32), np.arange(3))
        assert loss == np.float32(np.log(5)) and dhidden.shape == (3, 0) and dweight.shape == (5, 0)


@pytest.mark.parametrize("side", ["numba", "numpy"])
def test_cross_entropy_of_a_single_row_gives_arrays(side):
    logits, target = np.array([0.3, -1.2, 0.7]), np.array(2)
    with kernels.use(side):
        loss, lse = kernels.cross_entropy_forward(logits, target)
        d = kernels.cross_entropy_backward(np.ones(()), logits, target, lse)
    assert isinstance(loss, np.ndarray) and isinstance(lse, np.ndarray) and loss.shape == lse.shape == ()
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(loss, -np.log(p[2]), rtol=1e-12)
    np.testing.assert_allclose(d, p - [0, 0, 1], rtol=1e-12)


@pytest.mark.parametrize("side", kernels.SIDES)
@pytest.mark.parametrize("name", ["layer_norm", "layer_norm_plain", "add_layer_norm", "rms_norm", "add_rms_norm"])
def test_the_statistics_of_a_single_row_go_back_in(name, side):
    problem = PROBLEMS[name](np.random.default_rng(0), (), 5)
    with kernels.use(side):
        results = problem.solve(kernels)
    assert all(type(x) is np.ndarray for x in results.values())
    for output, wrong in error(results, problem.solve(reference, np.float64)).items():
        assert wrong < 20 * EPS, output


@pytest.mark.parametrize("side", kernels.SIDES)
def test_norms_without_weight_or_gradient_of_the_sum(side):
    g, x = np.random.default_rng(0).standard_normal((2, 3, 5))
    one, zero = np.ones(5), np.zeros((3, 5))
    with kernels.use(side):
        _, mean, rstd = kernels.layer_norm_forward(x)
        _, root = kernels.rms_norm_forward(x)
        dx, dweight = kernels.add_rms_norm_backward(g, None, x, None, root)
        layer_dx, layer_dweight, _ = kernels.add_layer_norm_backward(g, None, x, None, mean, rstd)
        assert dweight is None and layer_dweight is None
        np.testing.assert_allclose(dx, kernels.add_rms_norm_backward(g, zero, x, one, root)[0], rtol=1e-12)
        np.testing.assert_allclose(layer_dx, kernels.add_layer_norm_backward(g, zero, x, one, mean, rstd)[0], rtol=1e-12)


@pytest.mark.parametrize("side", kernels.SIDES)
@pytest.mark.parametrize("name", ["relu", "silu", "gelu", "gelu_tanh", "tanh", "erf", "softplus", "expm1", "swiglu", "geglu"])
def test_a_number_without_axes_comes_back_as_an_array(name, side):
    problem = PROBLEMS[name](np.random.default_rng(0), (), 1)
    with kernels.use(side):
        results = problem.solve(kernels, inputs={key: x[0, ...] for key, x in problem.inputs.items()})
    assert all(type(x) is np.ndarray and x.shape == () for x in results.values())


def test_linear_cross_entropy_without_gradients():
    problem = PROBLEMS["linear_cross_entropy"](np.random.default_rng(0), (9,), 5)
    x, weight, bias = (problem.inputs[key] for key in ("x", "weight", "bias"))
    args = (x, weight, problem.fixed["targets"], bias)
    loss, *gradients = kernels.linear_cross_entropy_forward(*args, gradients=False)
    assert gradients == [None, None, None]
    assert loss == kernels.linear_cross_entropy_forward(*args)[0]


def test_dropout_keeps_the_share_it_should_and_no_mask_repeats():
    ones = np.ones(1 << 20, np.float32)
    for p in (0.1, 0.5, 0.9):
        kept = kernels.dropout_forward(ones, p, 3) != 0
        assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / ones.size)
        assert abs(np.corrcoef(kept[:-1], kept[1:])[0, 1]) < 5e-3
        other = kernels.dropout_forward(ones, p, 4) != 0
        assert abs(np.corrcoef(kept, other)[0, 1]) < 5e-3
    assert not kernels.dropout_forward(ones, 1.0, 0).any()
    np.testing.assert_array_equal(kernels.dropout_forward(ones, 0.0, 0), ones)


def test_seeds_go_through_splitmix():
    """Published numbers of splitmix64, from the states that a generator with this seed goes through."""
    published = (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821)
    for i, number in enumerate(published):
        low, high = reference.seed_keys(1234567 + i * 0x9E3779B97F4A7C15)
        assert int(low) + (int(high) << 32) == number


def test_a_bit_of_the_place_or_of_the_seed_turns_over_half_of_the_bits():
    places, seeds = np.random.default_rng(0).integers(0, 2**63, (2, 4096))
    bits = lambda words: np.unpackbits(words.view(np.uint8).reshape(-1, 4), axis=1)
    for bit in range(63):
        turned = bits(reference.random_bits(5, places) ^ reference.random_bits(5, places ^ (1 << bit)))
        assert abs(turned.mean(axis=0) - 0.5).max() < 0.05, bit                 # six standard deviations
        keys = [np.array([reference.seed_keys(int(s)) for s in some]) for some in (seeds[:1000], seeds[:1000] ^ (1 << bit))]
        assert abs(bits(np.ascontiguousarray((keys[0] ^ keys[1])[:, 0])).mean(axis=0) - 0.5).max() < 0.1, bit


def test_places_beyond_32_bits_are_dropped_as_the_definition_says():
    """Arrays of one number repeated: of the last task what stays is its last place."""
    from kernels.dropout import LINE, _drop

    drop = jit(getattr(_drop, "py_func", None) or _drop.__wrapped__)
    k0, k1 = (int(key) for key in reference.seed_keys(3))
    for place in [start + i for start in (2**32 - 30, 5 * 2**32) for i in range(60)]:
        x, out = (np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (place + 1,), (0,)) for _ in range(2))
        lines = -(-x.size // LINE)
        drop(lines - 1, lines, x.size, lines, x, k0, k1, 2**31, np.float32(2), out)
        assert out[0] == 2 * (reference.random_bits(3, place) >= 2**31), place


def test_angles_of_a_batch_serve_all_its_heads():
    rng = np.random.default_rng(0)
    x, cos, sin = (rng.standard_normal(shape) for shape in ((2, 3, 5, 8), (2, 1, 5, 4), (2, 1, 5, 4)))
    np.testing.assert_allclose(kernels.rotary_forward(x, cos, sin), reference.rotary_forward(x, cos, sin), rtol=1e-12, atol=1e-12)


def test_embedding_backward_adds_to_every_other_column():
    out, g = np.ones((4, 6)), np.full((2, 3), 2.0)
    kernels.embedding_backward(g, np.array([1, 1]), 4, out=out[:, ::2], accumulate=True)
    np.testing.assert_array_equal(out, np.where((np.arange(4) == 1)[:, None] & (np.arange(6) % 2 == 0), 5, 1))


def test_ids_may_lie_by_columns_and_be_all_one():
    weight, ids = np.arange(12.0).reshape(4, 3), np.array([[0, 1, 2], [3, 1, 0]]).T
    np.testing.assert_array_equal(kernels.embedding_forward(weight, ids), weight[ids])
    out = np.zeros((4, 64))
    kernels.embedding_backward(np.ones((1 << 14, 64)), np.full(1 << 14, 2), 4, out=out, accumulate=True)
    np.testing.assert_array_equal(out[2], np.full(64, 1 << 14))


def test_embedding_backward_overwrites_or_adds():
    rng = np.random.default_rng(0)
    g, ids = rng.standard_normal((500, 64)).astype(np.float32), rng.integers(0, 5000, 500)
    fresh, out = kernels.embedding_backward(g, ids, 5000), np.full((5000, 64), 7, np.float32)
    assert kernels.embedding_backward(g, ids, 5000, out=out) is out
    np.testing.assert_array_equal(out, fresh)
    kernels.embedding_backward(g, ids, 5000, out=out, accumulate=True)
    np.testing.assert_allclose(out, 2 * fresh, rtol=1e-6)
    assert kernels.embedding_backward(g.astype(np.float32), ids.astype(np.int32), 5000).tobytes() == fresh.tobytes()


def test_adamw_without_decay_leaves_moments_of_an_infinite_parameter_alone():
    p, g = np.array([np.inf, 1], np.float32), np.array([0.5, 0.5], np.float32)
    m, v = np.zeros((2, 2), np.float32)
    expected = [p.copy(), g, m.copy(), v.copy()]
    reference.adamw_step(*expected, 1e-2, 0.9, 0.999, 1e-8, 0.0, 1)
    kernels.adamw_step(p, g, m, v, 1e-2, 0.9, 0.999, 1e-8, 0.0, 1)
    for got, want in zip((p, m, v), (expected[0], *expected[2:])):
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("side", kernels.SIDES)
def test_adamw_takes_no_parameters_and_one_gradient_for_two(side):
    g, p, m, v = (np.full((2, 3), x, np.float32) for x in (1, 1, 0, 0))
    with kernels.use(side):
        kernels.adamw_step([], [], [], [], 0.1, 0.9, 0.9, 1e-8, 0.0, 1)
        kernels.adamw_step(list(p), [g[0], g[0]], list(m), list(v), 0.1, 0.9, 0.9, 1e-8, 0.0, 1)
    np.testing.assert_allclose(p, 0.9, rtol=1e-6)


@pytest.mark.parametrize("side", kernels.SIDES)
def test_the_norm_of_gradients_whose_squares_are_beyond_float32(side):
    with kernels.use(side):
        assert kernels.grad_norm(np.full(4, 1e30, np.float32)) == pytest.approx(2e30)


def test_adamw_takes_columns_of_one_array_and_a_parameter_that_is_its_own_gradient():
    whole = np.abs(np.random.default_rng(0).standard_normal((6, 8))).astype(np.float32)
    apart = [whole[:, i].copy() for i in (0, 0, 2, 3)]
    kernels.adamw_step(whole[:, 0], whole[:, 0], whole[:, 2], whole[:, 3], 1e-2, 0.9, 0.999, 1e-8, 0.1, 1)
    kernels.adamw_step(*apart, 1e-2, 0.9, 0.999, 1e-8, 0.1, 1)
    for i, x in zip((0, 2, 3), (apart[0], *apart[2:])):
        np.testing.assert_array_equal(whole[:, i], x)


def test_adamw_updates_views_in_place():
    rng = np.random.default_rng(0)
    whole = [np.abs(rng.standard_normal((6, 8))).astype(np.float32) for _ in range(4)]
    whole_before = [x.copy() for x in whole]
    p, g, m, v = (x[:, ::2] for x in whole)
    expected = [x.copy() for x in (p, g, m, v)]
    reference.adamw_step(*expected, 1e-2, 0.9, 0.999, 1e-8, 0.1, 1)
    kernels.adamw_step(p, g, m, v, 1e-2, 0.9, 0.999, 1e-8, 0.1, 1)
    for x, y, before in zip((p, g, m, v), expected, whole_before):
        np.testing.assert_allclose(x, y, rtol=1e-6)
        np.testing.assert_array_equal(x.base[:, 1::2], before[:, 1::2])


@pytest.mark.skipif(not COMPILED, reason="plain loops add one number after the other")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_is_summed_alike_wherever_it_lies(dtype):
    """Right before its scratch a short row was summed number by number: the same softmax had other bits once in a while."""
    @jit
    def sums(row, top, scratch):
        vecmath.wide_vectors()
        return softmax._exponentials(row, top, scratch), softmax._differences(row, top, scratch)

    rng, memory, far = np.random.default_rng(0), np.empty(1000, dtype), np.empty(1000, dtype)
    for width in range(1, 80):
        row, scratch = memory[:width], memory[width + softmax.AWAY :][:width]
        row[:] = rng.standard_normal(width)
        assert sums(row, row.max(), scratch) == sums(row, row.max(), far[-width:])
