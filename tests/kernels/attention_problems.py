"""Attention problems for the tests: Hypothesis draws one, `solve` runs it, `worst` compares."""
import numpy as np
from hypothesis import strategies as st

from kernels import reference_attention

KINDS = ("none", "causal", "offset", "window", "band", "mask", "key_mask", "padding", "bias", "head_bias", "row_bias",
         "ragged", "dropout", "all")


@st.composite
def problems(draw, longest=90, dtypes=(np.float32, np.float64)):
    """(q, k, v, g, options): any head ratio, widths off the vector, views of one fused array or arrays of their own."""
    B, Hkv, group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    T, S = draw(st.integers(1, longest)), draw(st.integers(1, longest))
    K, V = draw(st.sampled_from([1, 3, 8, 16, 20, 33, 64])), draw(st.sampled_from([1, 5, 16, 24, 40, 64]))
    dtype, layout = draw(st.sampled_from(dtypes)), draw(st.sampled_from(["heads first", "positions first", "reversed"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    H = Hkv * group
    arrays = [laid_out(rng, shape, dtype, layout)
              for shape in ((B, H, T, K), (B, Hkv, S, K), (B, Hkv, S, V), (B, H, T, V))]
    return *arrays, options(draw(st.sampled_from(KINDS)), rng, (B, H, T, S), dtype)


def laid_out(rng, shape, dtype, layout):
    """A random array (B, H, T, K) whose memory is in one of the orders that callers bring."""
    B, H, T, K = shape
    if layout == "positions first":                             # a slice of one fused projection
        fused = np.full((B, T, H, 2 * K), np.nan, dtype)        # what lies beside them must not matter
        fused[..., K:] = rng.standard_normal((B, T, H, K))
        return fused[..., K:].swapaxes(1, 2)
    x = rng.standard_normal(shape).astype(dtype)
    return x if layout == "heads first" else x[..., ::-1]


def options(kind, rng, full, dtype):
    """Keyword arguments of one kind; the names that end up in the arguments say what they do."""
    B, H, T, S = full
    table = {
        "none": {}, "causal": {"is_causal": True}, "dropout": {"dropout_p": 0.3, "seed": 11},
        "offset": {"is_causal": True, "query_offset": rng.integers(-3, S, B)},
        "window": {"window": int(rng.integers(1, 20)), "scale": 0.3}, "band": {"window": (5, None)},
        "mask": {"mask": rng.random((B, 1, T, S)) > 0.4}, "key_mask": {"key_mask": rng.random((B, S)) > 0.4},
        "padding": {"key_mask": np.arange(S) < rng.integers(0, S + 1, (B, 1)), "is_causal": True},
        "bias": {"bias": rng.standard_normal(full).astype(dtype)},
        "head_bias": {"bias": rng.standard_normal((1, H, T, S)).astype(dtype), "scale": 1.0},
        "row_bias": {"bias": rng.standard_normal((B, 1, 1, S)).astype(dtype)},
        "ragged": {"q_lengths": rng.integers(0, T + 1, B), "kv_lengths": rng.integers(0, S + 1, B)},
    }
    table["all"] = {**table["head_bias"], **table["mask"], **table["window"], **table["dropout"], **table["ragged"]}
    return table[kind]


def solve(module, q, k, v, g, options):
    """out, lse, dq, dk, dv, dbias of one backend."""
    out, lse = module.attention_forward(q, k, v, **options)
    grads = module.attention_backward(g, q, k, v, out, lse, need_bias="bias" in options, **options)
    return [out, lse, *grads]


def in_float64(q, k, v, g, options):
    wide = {name: x.astype(np.float64) if name == "bias" else x for name, x in options.items()}
    return solve(reference_attention, *(x.astype(np.float64) for x in (q, k, v, g)), wide)


def worst(results, truth):
    """Largest absolute error over all results, where the truth is finite; infinities and None must agree."""
    errors = []
    for x, exact in zip(results, truth, strict=True):
        if exact is None:
            assert x is None
            continue
        finite = np.isfinite(exact)
        assert np.array_equal(np.isfinite(x), finite)
        errors.append(np.abs(x[finite] - exact[finite]).max(initial=0.0) / max(1.0, np.abs(exact[finite]).max(initial=0.0)))
    return max(errors)
