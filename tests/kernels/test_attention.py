"""Attention kernels against the plain definition in float64, over every option, layout and head ratio."""
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kernels
from kernels import amx, attention, attention_plain, attention_reach, reference_attention
from kernels._jit import COMPILED
from kernels.attention_problem import make_problem
from kernels.matmul_plan import HUGE_PAGE, _idle
from tests.kernels.attention_problems import KINDS, in_float64, laid_out, options, problems, solve, worst
from tests.kernels.fresh import python

if COMPILED:
    from kernels import attention_cached

E3 = np.zeros((2, 2, 3, 4), np.float32)
WITH_BIAS = np.zeros((2, 2, 3, 4), np.float32)


def random_problem(seed, shape, dtype=np.float32, /, **extra):
    """(q, k, v, g, options) of shape B, H, Hkv, T, S, K, V."""
    B, H, Hkv, T, S, K, V = shape
    rng = np.random.default_rng(seed)
    arrays = [laid_out(rng, s, dtype, "positions first")
              for s in ((B, H, T, K), (B, Hkv, S, K), (B, Hkv, S, V), (B, H, T, V))]
    return *arrays, extra


@pytest.fixture(params=["matrix tiles", "vectors"])
def units(request, monkeypatch):
    """Both ways of multiplying in float32; without Intel's matrix tiles they are the same one."""
    if request.param == "vectors":
        monkeypatch.setattr(amx, "AVAILABLE", False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems())
def test_matches_the_definition(units, problem):
    tolerance = 5e-5 if problem[0].dtype == np.float32 else 1e-12  # with one key dk is a sum of hundreds of rounding errors
    assert worst(solve(attention, *problem), in_float64(*problem)) < tolerance


@pytest.fixture(scope="module")
def plain_loops():
    """Compiled once, for arrays of any strides: otherwise Numba makes them anew for each mixture of layouts that is drawn."""
    if not COMPILED:
        yield
        return
    from numba import boolean, float64, int64, types

    array = lambda ndim, kind=float64, readonly=True: types.Array(kind, ndim, "A", readonly)
    given, made, lse = array(4), array(4, readonly=False), array(3, readonly=False)
    rest = (array(2, int64), array(4, boolean), given, array(2, int64), int64, float64, float64)
    for loops, arguments in ((attention_plain.forward_rows, (given, given, given, made, lse, *rest)),
                             (attention_plain.backward_rows, (given,) * 5 + (lse,) + (made,) * 4 + rest)):
        loops.compile(arguments)
        loops.disable_compile()
    yield
    for loops in (attention_plain.forward_rows, attention_plain.backward_rows):
        loops.disable_compile(False)


@given(problem=problems(longest=12, dtypes=(np.float64,)))
def test_plain_loops_match_the_definition(plain_loops, problem):
    q, k, v, g, opts = problem
    p = make_problem(q, k, v, **opts)
    out, lse = np.full((p.B, p.H, p.T, p.V), np.nan), np.full((p.B, p.H, p.T), np.nan)
    attention_plain.forward(p, q, k, v, out, lse)
    grads = [np.full(x.shape, np.nan) for x in (q, k, v)]
    dbias = np.zeros(opts["bias"].shape) if "bias" in opts else None
    attention_plain.backward(p, g, q, k, v, out, lse, *grads, dbias)
    assert worst([out, lse, *grads, dbias], in_float64(*problem)) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_error_is_at_most_twice_that_of_plain_float32(kind, units):
    """Root mean square over the entries of each result, so that one unlucky rounding does not decide."""
    shape = (2, 4, 2, 300, 310, 64, 64)
    rng = np.random.default_rng(5)
    problem = random_problem(5, shape)[:4] + (options(kind, rng, (2, 4, 300, 310), np.float32),)
    truth = in_float64(*problem)
    ours, plain = solve(attention, *problem), solve(reference_attention, *problem)
    for x, y, exact in zip(ours, plain, truth, strict=True):
        if exact is not None:
            finite = np.isfinite(exact)
            error, allowed = (np.sqrt(np.mean((z[finite] - exact[finite]) ** 2)) for z in (x, y))
            assert error <= 2 * allowed + 1e-9


@pytest.mark.parametrize("kind", ["none", "causal", "head_bias", "mask", "dropout"])
def test_gradients_by_finite_differences(kind):
    q, k, v, g, _ = random_problem(3, (1, 2, 1, 5, 6, 4, 3), np.float64)
    opts = options(kind, np.random.default_rng(3), (1, 2, 5, 6), np.float64)
    inputs = {"q": q.copy(), "k": k.copy(), "v": v.copy(), **({"bias": opts["bias"]} if "bias" in opts else {})}

    def loss():
        return float((attention.attention_forward(inputs["q"], inputs["k"], inputs["v"], **opts)[0] * g).sum())

    _, _, *grads = solve(attention, inputs["q"], inputs["k"], inputs["v"], g, opts)
    for x, gradient in zip(inputs.values(), grads, strict=False):
        slopes = np.zeros_like(x)
        for i in np.ndindex(x.shape):
            before, h = x[i], 1e-5
            x[i] = before + h
            above = loss()
            x[i] = before - h
            slopes[i] = (above - loss()) / (2 * h)
            x[i] = before
        assert np.abs(slopes - gradient).max() < 1e-8


@pytest.mark.parametrize("shape", [(1,), (2, 1, 1), (2, 300, 1), (300,)])
def test_bias_gradient_summed_over_a_whole_pattern_is_as_exact_as_plain_float32(shape, units):
    rng = np.random.default_rng(12)
    wrong = {attention: 0.0, reference_attention: 0.0}
    for seed in range(4):
        problem = random_problem(seed, (1, 2, 2, 300, 300, 64, 64))[:4] + ({"bias": rng.standard_normal(shape).astype(np.float32)},)
        exact = in_float64(*problem)[-1]
        for module in wrong:
            wrong[module] += ((solve(module, *problem)[-1] - exact) ** 2).mean()
    assert wrong[attention] <= 4 * wrong[reference_attention]        # of squares: twice the error


def test_fully_masked_rows_give_zeros_and_no_gradient(units):
    q, k, v, g, _ = random_problem(0, (2, 2, 2, 70, 80, 20, 20))
    seen = np.ones((2, 1, 70, 80), bool)
    seen[0, :, 3] = False
    bias = np.zeros((2, 1, 70, 80), np.float32)
    bias[1, :, 66] = -np.inf
    g[0, :, 3], g[1, :, 66] = np.nan, np.inf                    # what comes in for such a row must not matter
    out, lse, dq, dk, dv, dbias = solve(attention, q, k, v, g, {"mask": seen, "bias": bias})
    for b, t in ((0, 3), (1, 66)):
        assert (out[b, :, t] == 0).all() and (lse[b, :, t] == -np.inf).all()
        assert (dq[b, :, t] == 0).all() and (dbias[b, :, t] == 0).all()
    assert all(np.isfinite(x).all() for x in (dq, dk, dv, dbias))


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_scores(size, units):
    q, k, v, g, _ = random_problem(1, (1, 2, 2, 70, 70, 16, 16))
    q, k = q * np.float32(size / 4), k.copy()
    problem = q, k, v, g, {"is_causal": True}
    truth = in_float64(*problem)
    plain = worst(solve(reference_attention, *problem), truth)
    assert worst(solve(attention, *problem), truth) <= 2 * plain


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_reach_their_row_and_no_other(bad, units):
    q, k, v, _, _ = random_problem(2, (1, 1, 1, 80, 80, 16, 16))
    q[0, 0, 5, 3] = bad
    out, lse = attention.attention_forward(q, k, v, is_causal=True)
    assert np.isnan(out[0, 0, 5]).all() and np.isnan(lse[0, 0, 5])
    assert np.isfinite(np.delete(out[0, 0], 5, axis=0)).all()


def one_query_at_a_time(q, k, v, g, options):
    """`solve` of each query alone with the keys that it may see, of which no other is there to be reached."""
    p = make_problem(q, k, v, **options)
    seen = np.broadcast_to(reference_attention.visible_keys(p), (p.B, p.H, p.T, p.S))
    out, lse = np.zeros((p.B, p.H, p.T, p.V)), np.full((p.B, p.H, p.T), -np.inf)
    dq, dk, dv = (np.zeros(x.shape) for x in (q, k, v))
    full = np.zeros((p.B, p.H, p.T, p.S))
    for b, h, t in np.ndindex(lse.shape):
        one, keys = (slice(b, b + 1), slice(h, h + 1), slice(t, t + 1)), np.flatnonzero(seen[b, h, t])
        theirs = (*np.ix_([b], [h // (p.H // p.Hkv)], keys),)
        bias = {} if p.bias is None else {"bias": p.bias[one][..., keys]}
        out[one], lse[one], dq[one], of_k, of_v, of_bias = solve(reference_attention, q[one], k[theirs], v[theirs], g[one],
                                                                 {"scale": p.scale, **bias})
        dk[theirs] += of_k
        dv[theirs] += of_v
        if bias:
            full[b, h, t, keys] = of_bias[0, 0, 0]
    return [out, lse, dq, dk, dv, None if p.bias is None else reference_attention.bias_gradient(full, p)]


@pytest.mark.parametrize("module", [attention, reference_attention])
@given(data=st.data())
def test_nan_reaches_who_sees_it_and_no_one_else(module, data):
    *arrays, opts = data.draw(problems(longest=10, dtypes=(np.float64,)))
    opts = {name: x for name, x in opts.items() if name != "dropout_p"}
    arrays = [x.copy() for x in arrays]
    for which in data.draw(st.lists(st.sampled_from([*arrays, *([opts["bias"]] if "bias" in opts else [])]), max_size=3)):
        which[tuple(data.draw(st.integers(0, n - 1)) for n in which.shape)] = np.nan
    assert worst(solve(module, *arrays, opts), one_query_at_a_time(*arrays, opts)) < 1e-12


@pytest.mark.parametrize("module", [attention, reference_attention])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_hidden_keys_and_values_may_hold_anything(module, bad):
    q, k, v, g, _ = random_problem(6, (2, 4, 2, 70, 80, 16, 24))
    mask = np.random.default_rng(6).random((2, 1, 70, 80)) < 0.5
    mask[:, :, :, [3, 70]] = False
    bias = np.where(mask, np.float32(0.5), -np.float32(np.inf))
    for hidden in ({"mask": mask}, {"bias": bias}, {"key_mask": np.ascontiguousarray(mask.any((1, 2)))}, {"is_causal": True}):
        places = [75] if "is_causal" in hidden else [3, 70]
        clean = solve(module, q, k, v, g, hidden)
        dirty_k, dirty_v = k.copy(), v.copy()
        dirty_k[:, :, places] = dirty_v[:, :, places] = bad
        with np.errstate(invalid="ignore"):
            dirty = solve(module, q, dirty_k, dirty_v, g, hidden)
        assert all(x is None or np.array_equal(x, y) for x, y in zip(clean, dirty, strict=True))
        assert (dirty[3][:, :, places] == 0).all() and (dirty[4][:, :, places] == 0).all()


@pytest.mark.parametrize("module", [attention, reference_attention])
def test_a_query_without_keys_is_zero_whatever_anything_holds(module):
    q, k, v, g, _ = random_problem(6, (1, 2, 2, 9, 80, 16, 24))
    mask = np.ones((1, 1, 9, 80), bool)
    mask[0, 0, 4] = mask[..., 70] = False
    q[:, :, 4] = g[:, :, 4] = k[:, :, 70] = v[:, :, 70] = np.nan
    out, lse, dq, dk, dv, _ = solve(module, q, k, v, g, {"mask": mask})
    assert (out[:, :, 4] == 0).all() and (lse[:, :, 4] == -np.inf).all() and (dq[:, :, 4] == 0).all()
    assert all(np.isfinite(x).all() for x in (out, dq, dk, dv))


@pytest.mark.skipif(not COMPILED, reason="the plain loops take one key at a time")
def test_finite_numbers_are_not_computed_twice(units, monkeypatch):
    monkeypatch.setattr(attention_reach.plain, "visible_keys", lambda p: pytest.fail("looked at again"))
    for kind in KINDS:
        shape = (2, 4, 2, 70, 90, 20, 33)
        problem = random_problem(7, shape)[:4]
        solve(attention, *problem, options(kind, np.random.default_rng(7), (2, 4, 70, 90), np.float32))


def test_too_many_pairs_are_not_stored(monkeypatch):
    monkeypatch.setattr(attention_reach, "MOST", 12)
    monkeypatch.setattr(attention_reach.plain, "visible_keys", lambda p: pytest.fail("looked at again"))
    q, k, v, *_ = random_problem(8, (1, 1, 1, 3, 4, 8, 8))
    v[0, 0, 0] = np.nan
    assert np.isnan(attention.attention_forward(q, k, v, is_causal=True)[0]).all()


def test_memory_outside_the_spans_is_not_read():
    q, k, v, g, _ = random_problem(4, (2, 2, 1, 40, 90, 16, 16))
    k[1, :, 50:], v[1, :, 50:], g[0, :, 30:], q[0, :, 30:] = np.nan, np.nan, np.nan, np.nan
    results = solve(attention, q, k, v, g, {"kv_lengths": np.array([90, 50]), "q_lengths": np.array([30, 40])})
    assert all(np.isfinite(x).all() for x in results[2:5]) and np.isfinite(results[0]).all()


@pytest.mark.parametrize("B,H,Hkv,T,S", [(0, 2, 1, 3, 4), (2, 0, 0, 3, 4), (2, 2, 1, 0, 4), (2, 2, 1, 3, 0)])
def test_empty_axes(B, H, Hkv, T, S):
    problem = random_problem(0, (B, H, Hkv, T, S, 8, 8))
    results, expected = solve(attention, *problem), solve(reference_attention, *problem)
    for x, y in zip(results[:5], expected[:5], strict=True):
        assert x.shape == y.shape and np.array_equal(x, y)


@pytest.mark.parametrize("kind", ["causal", "row_bias", "head_bias", "dropout"])
def test_same_bits_at_any_number_of_threads(kind, units):
    B, H, T = (1, 2, 700) if kind in ("causal", "row_bias") else (3, 4, 130)   # causal: in chunks of queries; row_bias: not
    problem = random_problem(8, (B, H, H // 2, T, T, 64, 64))[:4]
    opts = options(kind, np.random.default_rng(8), (B, H, T, T), np.float32)
    before = kernels.get_num_threads()
    try:
        runs = []
        for n in (1, 2, 4):
            kernels.set_num_threads(n)
            runs.append(solve(attention, *problem, opts))
    finally:
        kernels.set_num_threads(before)
    assert worst(runs[0], in_float64(*problem, opts)) < 5e-5
    for run in runs[1:]:
        assert all(x is None or x.tobytes() == y.tobytes() for x, y in zip(run, runs[0], strict=True))


def test_writes_into_given_buffers_of_one_fused_array():
    B, H, T, K = 2, 3, 50, 16
    rng = np.random.default_rng(0)
    fused = rng.standard_normal((B, T, 3, H, K)).astype(np.float32)
    q, k, v = (fused[:, :, i].swapaxes(1, 2) for i in range(3))
    dfused = np.full_like(fused, np.nan)
    grads = tuple(dfused[:, :, i].swapaxes(1, 2) for i in range(3))
    out, lse = attention.attention_forward(q, k, v, is_causal=True)
    assert out.swapaxes(1, 2).flags.c_contiguous                # merging the heads is a reshape
    given = attention.attention_backward(out, q, k, v, out, lse, grads=grads, is_causal=True)
    expected = attention.attention_backward(out, q, k, v, out, lse, is_causal=True)
    assert given[0] is grads[0] and all(np.array_equal(x, y) for x, y in zip(given[:3], expected[:3], strict=True))
    assert np.isfinite(dfused).all()


@st.composite
def decodings(draw):
    """(q, k_cache, v_cache, lengths, options) with unused and uninitialised room in the caches."""
    B, Hkv, group, T = (draw(st.integers(1, n)) for n in (3, 3, 3, 4))
    capacity = draw(st.sampled_from([8, 70, 600, 1500]))
    K, V = draw(st.sampled_from([4, 16, 20, 64])), draw(st.sampled_from([5, 16, 48, 64]))
    dtype, layout = draw(st.sampled_from([np.float32, np.float64])), draw(st.sampled_from(["heads first", "positions first", "reversed"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    q, k, v = (laid_out(rng, s, dtype, layout)
               for s in ((B, Hkv * group, T, K), (B, Hkv, capacity, K), (B, Hkv, capacity, V)))
    lengths = rng.integers(0, capacity + 1, B)
    k[:, :, lengths.max():], v[:, :, lengths.max():] = np.nan, np.nan
    extra = draw(st.sampled_from(["none", "window", "bias", "scale"]))
    return q, k, v, lengths, {"none": {}, "window": {"window": 9}, "scale": {"scale": 0.5},
                              "bias": {"bias": rng.standard_normal((1, Hkv * group, T, capacity)).astype(dtype)}}[extra]


@given(decodings())
def test_decoding_matches_the_definition(problem):
    *arrays, options = problem
    wide = {name: x.astype(np.float64) if name == "bias" else x for name, x in options.items()}
    q, k, v, lengths = arrays
    exact = reference_attention.attention_decode(*(x.astype(np.float64) for x in (q, k, v)), lengths, **wide)
    assert worst([attention.attention_decode(*arrays, **options)], [exact]) < (2e-5 if q.dtype == np.float32 else 1e-12)


def test_decoding_equals_the_last_rows_of_the_whole():
    q, k, v, _, _ = random_problem(9, (2, 4, 2, 300, 300, 32, 32))
    whole = attention.attention_forward(q, k, v, is_causal=True)[0][:, :, -2:]
    last = attention.attention_decode(q[:, :, -2:], k, v, [300, 300])
    assert np.abs(whole - last).max() < 1e-5


@pytest.mark.parametrize("T", [3, 9])
@pytest.mark.parametrize("module", [attention, reference_attention])
def test_unsigned_lengths_decode_as_signed_ones(module, T):
    """Also where a sequence holds fewer keys than there are new tokens, whose first ones then see nothing."""
    q, k, v, _, _ = random_problem(11, (2, 2, 2, T, 12, 8, 8))
    expected = module.attention_decode(q, k, v, np.array([2, 12]))
    assert (expected[0, :, : T - 2] == 0).all()
    for dtype in (np.uint8, np.uint32, np.uint64):
        np.testing.assert_array_equal(module.attention_decode(q, k, v, np.array([2, 12], dtype)), expected)


def test_splits_of_a_long_cache_are_put_together_whoever_finishes_last():
    q, k, v, _, _ = random_problem(10, (1, 4, 2, 2, 5000, 24, 20))
    lengths, before, found = np.array([4321]), kernels.get_num_threads(), []
    expected = reference_attention.attention_decode(*(x.astype(np.float64) for x in (q, k, v)), lengths)
    try:
        for threads in (1, 2):
            kernels.set_num_threads(threads)
            if COMPILED:
                attention_cached._layouts.clear()               # made anew: the splits may not depend on the threads
            found += [attention.attention_decode(q, k, v, lengths) for _ in range(20)]
    finally:
        kernels.set_num_threads(before)
    assert worst([found[0]], [expected]) < 2e-5
    assert len({y.tobytes() for y in found}) == 1


@pytest.mark.numba_side
@pytest.mark.skipif(not COMPILED, reason="memory of compiled loops")
@pytest.mark.parametrize("threads", [1, 2])
def test_decoding_writes_only_the_memory_that_its_layout_asks_for(threads, same_threads_after):
    kernels.set_num_threads(threads)
    q, k, v, _, _ = random_problem(10, (1, 4, 2, 2, 5000, 24, 20))
    attention_cached._layouts.clear()
    attention.attention_decode(q, k, v, [5000])
    (layout,) = attention_cached._layouts.values()
    scratch = np.full(layout.bytes(threads) + 2 * HUGE_PAGE, 0xA5, np.uint8)
    _idle[:] = [scratch]
    attention.attention_decode(q, k, v, [5000])
    touched = np.flatnonzero(scratch != 0xA5)
    assert touched.size and touched[-1] < layout.bytes(kernels.get_num_threads())


@pytest.mark.parametrize("lengths", [[4, 1], [1, -1], [1], [1, 1, 1]])
@pytest.mark.parametrize("module", [attention, reference_attention])
def test_decoding_names_bad_lengths(module, lengths):
    module.attention_decode(E3[:, :, :1], E3, E3, [3, 1])       # what is known of these shapes from now on does not spare the check
    with pytest.raises(ValueError, match=r"kv_lengths must (lie in 0\.\.3|be an int array of shape \(2,\))"):
        module.attention_decode(E3[:, :, :1], E3, E3, lengths)


def test_what_is_kept_serves_no_call_that_only_looks_like_it():
    """Equal shapes, strides and options but for one."""
    rng, lengths, apart = np.random.default_rng(13), np.array([30, 11]), np.array([30, 2, 11, 3])[::2]
    for dtype, step in ((np.float32, 2), (np.float64, 1)):        # of equal strides in bytes
        wide = [rng.standard_normal((2, heads, T, 8 * step)).astype(dtype)[..., ::step] for heads, T in ((4, 2), (2, 30), (2, 30))]
        layouts = [wide, *([x.copy() if i == j else x for j, x in enumerate(wide)] for i in range(3))]
        bias = rng.standard_normal((2, 4, 2, 30 * step)).astype(dtype)[..., ::step]
        for arrays in layouts:
            exact = [x.astype(float) for x in arrays]
            for chosen in ({}, {"scale": 1.0}, {"window": 1}, {"bias": bias}, {"bias": bias[:, :1]}, {"bias": bias[..., ::-1]}):
                exactly = {name: x.astype(float) if name == "bias" else x for name, x in chosen.items()}
                decoded = reference_attention.attention_decode(*exact, lengths, **exactly)
                for counts in (lengths, apart):
                    assert worst([attention.attention_decode(*arrays, counts, **chosen)], [decoded]) < 2e-5
                assert worst(attention.attention_forward(*arrays, **chosen),
                             reference_attention.attention_forward(*exact, **exactly)) < 2e-5
        for i in range(4 if dtype == np.float32 else 0):
            *mixed, other = (rng.standard_normal(x.shape) if i == j else x for j, x in enumerate((*wide, bias)))
            with pytest.raises(TypeError, match="must have dtype"):
                attention.attention_decode(*mixed, lengths, bias=other)
            with pytest.raises(TypeError, match="must have dtype"):
                attention.attention_forward(*mixed, **({"bias": other} if i == 3 else {}))


def test_a_window_of_so_many_keys_reaches_both_ways():
    s = np.arange(3)
    seen = reference_attention.visible_keys(make_problem(E3, E3, E3, window=2))
    np.testing.assert_array_equal(seen[0, 0], np.abs(s - s[:, None]) < 2)


def test_a_key_mask_and_lengths_hide_each_their_own():
    mask = np.array([[True, False, True], [True, True, True]])
    seen = reference_attention.visible_keys(make_problem(E3, E3, E3, key_mask=mask, kv_lengths=[3, 1]))
    np.testing.assert_array_equal(seen[:, 0, 0], mask & (np.arange(3) < [[3], [1]]))


def test_lse_may_lie_anywhere():
    q, k, v, g, _ = random_problem(14, (2, 2, 2, 20, 30, 8, 8))
    out, lse = attention.attention_forward(q, k, v)
    apart = np.stack([lse, np.full_like(lse, np.nan)], axis=-1)[..., 0]
    for x, y in zip(*(attention.attention_backward(g, q, k, v, out, each)[:3] for each in (lse, apart)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_both_sides_of_the_switch_agree():
    problem = random_problem(6, (2, 4, 2, 33, 40, 16, 16), is_causal=True, dropout_p=0.2, seed=3)
    fast = solve(kernels, *problem)
    with kernels.use("numpy"):
        slow = solve(kernels, *problem)
    assert all(x is None or np.allclose(x, y, atol=2e-5) for x, y in zip(fast, slow, strict=True))


def test_dropout_drops_the_share_it_is_asked_to_and_keeps_the_mean():
    ones = np.ones((1, 4, 256, 64), np.float32)
    out, _ = attention.attention_forward(ones, ones, ones, dropout_p=0.25, seed=1)
    again, _ = attention.attention_forward(ones, ones, ones, dropout_p=0.25, seed=2)
    assert abs(out.mean() - 1) < 0.01 and not np.array_equal(out, again)
    assert not attention.attention_forward(ones, ones, ones, dropout_p=1.0)[0].any()



@pytest.mark.parametrize("arguments,error,words", [
    ({"q": E3[0]}, ValueError, "q must have 4 axes"),
    ({"q": [1.0]}, TypeError, "q must be a numpy array"),
    ({"q": E3.astype(np.float16)}, TypeError, "float32 or float64"),
    ({"k": E3.astype(np.float64)}, TypeError, "k must have dtype float32"),
    ({"k": E3[..., :3]}, ValueError, "k must have shape"),
    ({"v": E3[:, :, :2]}, ValueError, "v must have shape"),
    ({"q": np.zeros((2, 3, 3, 4), np.float32)}, ValueError, "multiple"),
    ({"k": E3[:, :0], "v": E3[:, :0]}, ValueError, "multiple"),
    ({"mask": np.zeros((3, 3), np.float32)}, TypeError, "mask must have dtype bool"),
    ({"mask": np.zeros((4, 3), bool)}, ValueError, "mask must broadcast"),
    ({"bias": np.zeros((2, 2, 3, 5), np.float32)}, ValueError, "bias must broadcast"),
    ({"bias": np.zeros((3, 3))}, TypeError, "bias must have dtype float32"),
    ({"key_mask": np.zeros((3, 2), bool)}, ValueError, "key_mask must have shape"),
    ({"kv_lengths": [4, 1]}, ValueError, "kv_lengths must lie in 0..3"),
    ({"q_lengths": [1.0, 1.0]}, ValueError, "q_lengths must be an int array"),
    ({"window": 0}, ValueError, "window must be"),
    ({"window": (1, 2, 3)}, ValueError, "window must be"),
    ({"query_offset": 1.5}, ValueError, "query_offset must be"),
    ({"query_offset": [1]}, ValueError, "query_offset must be"),
    ({"scale": np.nan}, ValueError, "scale must be finite"),
    ({"dropout_p": 1.5}, ValueError, "dropout_p must be"),
    ({"out": np.zeros((2, 2, 3, 5), np.float32)}, ValueError, "out must have shape"),
    ({"out": np.broadcast_to(np.float32(0), (2, 2, 3, 4))}, ValueError, "read-only"),
    ({"out": E3}, ValueError, "overlaps"),
    ({"out": np.lib.stride_tricks.as_strided(np.zeros((2, 3, 4), np.float32), E3.shape, (48, 0, 16, 4))}, ValueError, "overlaps itself"),
    ({"out": WITH_BIAS, "bias": WITH_BIAS[:, :, :, :1]}, ValueError, "out overlaps bias"),
    ({"out": np.zeros((2, 2, 4, 3), np.float32).swapaxes(2, 3)}, ValueError, "contiguous"),
])
@pytest.mark.parametrize("module", [attention, reference_attention])
def test_bad_input_is_named(module, arguments, error, words):
    with pytest.raises(error, match=words.replace("..", r"\.\.")):
        module.attention_forward(**{"q": E3, "k": E3, "v": E3, **arguments})


@pytest.mark.parametrize("module", [attention, reference_attention])
@pytest.mark.parametrize("written", [0, 1, 2])
@pytest.mark.parametrize("read", ["g", "q", "k", "v", "out", "lse", "bias", "grads"])
def test_a_gradient_that_overlaps_what_is_read_is_refused(module, written, read):
    shapes = {name: (1, 2, 3, 4) for name in ("g", "q", "k", "v", "out")} | {"lse": (1, 2, 3), "bias": (1, 2, 3, 3)}
    given = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    fused, grads = np.zeros((1, 2, 3, 8), np.float32), [None, None, None]
    grads[written] = fused[..., :4]
    if read == "grads":
        grads[(written + 1) % 3] = fused[..., 3:7]
    else:
        given[read] = fused[..., 3] if read == "lse" else fused[..., 3 : 3 + shapes[read][-1]]
    with pytest.raises(ValueError, match="overlaps " + ("d[qkv]" if read == "grads" else read)):
        module.attention_backward(**given, grads=tuple(grads))


@pytest.mark.parametrize("module", [attention, reference_attention])
@pytest.mark.parametrize("read", ["q", "k_cache", "v_cache", "bias"])
def test_a_decoded_row_that_overlaps_what_is_read_is_refused(module, read):
    fused, lengths = np.zeros((2, 2, 3, 8), np.float32), [3, 3]
    given = {"q": E3, "k_cache": E3, "v_cache": E3, "bias": np.zeros((2, 2, 3, 3), np.float32)}
    given[read] = fused[..., 3 : 3 + given[read].shape[-1]]
    with pytest.raises(ValueError, match=f"overlaps {read.split('_')[0]};"):
        module.attention_decode(**given, lengths=lengths, out=fused[..., :4])


def test_bias_gradient_without_bias_is_an_error():
    out, lse = attention.attention_forward(E3, E3.copy(), E3.copy())
    for module in (attention, reference_attention):
        with pytest.raises(ValueError, match="no bias was given"):
            module.attention_backward(E3, E3, E3, E3, out, lse, need_bias=True)


SMALL_RUN = """
import numpy as np
from kernels import amx, attention, attention_plain, attention_reach, reference_attention
from kernels.attention_problem import make_problem
rng = np.random.default_rng(0)
q, k, v, g = (rng.standard_normal(s) for s in ((1, 2, 5, 4), (1, 1, 6, 4), (1, 1, 6, 3), (1, 2, 5, 3)))
options = {"bias": rng.standard_normal((1, 2, 5, 6)), "is_causal": True, "dropout_p": 0.2, "key_mask": np.ones((1, 6), bool)}
expected = reference_attention.attention_forward(q, k, v, **options)
results = attention.attention_forward(q, k, v, **options)
grads = attention.attention_backward(g, q, k, v, *results, need_bias=True, **options)
wanted = reference_attention.attention_backward(g, q, k, v, *expected, need_bias=True, **options)
p = make_problem(q, k, v, **options)
plain = np.empty((1, 2, 5, 3)), np.empty((1, 2, 5))
attention_plain.forward(p, q, k, v, *plain)
for x, y in zip((*results, *grads, *plain), (*expected, *wanted, *expected), strict=True):
    assert np.abs(x - y).max() < 1e-12
print("same")
"""


@pytest.mark.parametrize("switch", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_runs_uncompiled_and_with_checked_bounds(switch):
    assert python(SMALL_RUN, **{switch: "1"}) == "same"


MEMORY_RUN = """
import resource, sys
import numpy as np
from kernels import attention
def run(T):
    q = np.ones((1, 1, T, 16), np.float32)
    out, lse = attention.attention_forward(q, q, q)
    attention.attention_backward(q, q, q, q, out, lse)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(64)
start = run(512)
print((run(int(sys.argv[1])) - start) / 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource is a Unix module")
def test_memory_is_linear_in_the_length():
    """8,192 positions: one pattern would be 256 MB; measured are 10 to 20."""
    scale = 1024 if sys.platform == "darwin" else 1             # bytes there, kilobytes elsewhere
    assert float(python(MEMORY_RUN, 8192)) / scale < 64
