"""The attention operation: with and without gradients it takes different kernels for a few new queries, to the same end."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm.autograd.functional import attention


@given(
    st.integers(1, 3), st.sampled_from([(1, 1), (4, 4), (6, 2)]), st.integers(1, 9), st.integers(0, 70), st.sampled_from([4, 16, 24]),
    st.booleans(), st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_new_queries_against_a_cache_give_the_same_with_and_without_gradients(B, heads, T, past, K, causal, biased, seed):
    rng = np.random.default_rng(seed)
    (H, Hkv), S = heads, past + T
    draw = lambda *shape: tg.Tensor(rng.standard_normal(shape).astype(np.float32))
    q, k, v = draw(B, H, T, K), draw(B, Hkv, S, K), draw(B, Hkv, S, K)
    bias = draw(1, H, T, S) if biased else None
    options = {"is_causal": causal, "query_offset": past}
    expected = attention(q.detach().requires_grad_(), k, v, bias, **options)
    with tg.no_grad():
        got = attention(q, k, v, bias, **options)
    np.testing.assert_allclose(got.data, expected.data, rtol=1e-5, atol=2e-6)
