"""Floating-point operations, counted from shapes."""

from tinygrad_llm.lens.flops import backward_flops, forward_flops


def test_flops_are_counted_from_shapes():
    """A multiply and an add are two; of a causal square half is computed; what is fused counts as its parts do."""
    B, T, S, D, H, K, V = 2, 5, 7, 12, 3, 4, 6
    one = lambda name, inputs, outputs, **params: forward_flops(name, inputs, outputs, params)
    assert one("matmul", [(B, T, D), (B, D, S)], [(B, T, S)]) == 2 * B * T * D * S
    assert one("linear", [(B, T, D), (S, D), (S,)], [(B, T, S)]) == 2 * B * T * D * S
    assert one("linear_cross_entropy", [(T, D), (S, D), (T,)], [()]) == 2 * T * D * S
    attention = lambda keys, **params: one("attention", [(B, H, T, K), (B, 1, keys, K), (B, 1, keys, V)], [(B, H, T, V)], **params)
    assert attention(S) == attention(S, is_causal=True) == 2 * B * H * T * S * (K + V)
    assert attention(T, is_causal=True) == attention(T) // 2 == B * H * T * T * (K + V)
    weights = [(H * K, D), (K, D), (V, D), (D, H * V)]
    parts = 2 * B * T * (H * K * D + K * D + V * D + D * H * V)
    for causal in (False, True):
        whole = one("self_attention", [(B, T, D), *weights, ()], [(B, T, D)], heads=H, kv_heads=1, is_causal=causal)
        assert whole == parts + attention(T, is_causal=causal)
    ahead = one("feed_forward", [(B, T, D), (S, D), (D, S)], [(B, T, D)])
    assert ahead == 2 * B * T * 2 * D * S + one("gelu", [(B, T, S)], [(B, T, S)])
    assert one("add", [(T, 1), (S,)], [(T, S)]) == one("sum", [(T, S)], [(T,)]) == T * S
    assert one("exp", [(T, S)], [(T, S)]) > 5 * T * S
    assert (backward_flops("linear", 10), backward_flops("attention", 10), backward_flops("add", 10)) == (20, 25, 20)
