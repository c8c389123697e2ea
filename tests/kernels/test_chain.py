"""A chain gives the bits of the same kernels called one by one (but for fused multiply-adds), of what its arrays hold when it is run."""
import numpy as np
import pytest

import kernels

pytestmark = pytest.mark.numba_side


@pytest.fixture
def chain():
    if not kernels.can_chain():
        pytest.skip("kernels are not compiled here")
    from kernels.chain import Chain

    return Chain()


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows, width", [(1, 1), (1, 768), (3, 37), (16, 200)])
def test_norms(chain, rows, width, bias):
    x, w, b = numbers(0, rows, width), numbers(1, width), numbers(2, width) if bias else None
    layer, rms = np.empty_like(x), np.empty_like(x)
    chain.layer_norm(x, w, b, 1e-5, layer)
    chain.rms_norm(x, w, 1e-6, rms)
    for seed in (3, 4):
        x[...] = numbers(seed, rows, width)
        chain.run()
        np.testing.assert_array_equal(layer, kernels.layer_norm_forward(x, w, b, 1e-5)[0])
        np.testing.assert_array_equal(rms, kernels.rms_norm_forward(x, w, 1e-6)[0])


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("rows, n, depth", [(1, 1, 1), (1, 3072, 768), (5, 130, 33), (16, 768, 768)])
def test_products(chain, rows, n, depth, activation):
    x, w, b, r = numbers(0, rows, depth), numbers(1, n, depth), numbers(2, n), numbers(3, rows, n)
    q, scale = kernels.quantize_int8(w)
    plain, whole, small = (np.empty((rows, n), np.float32) for _ in range(3))
    chain.product(x, w, plain)
    chain.product(x, w, whole, b, activation, r)
    chain.product_int8(x, q, scale, small, b, activation, r)
    for seed in (4, 5):
        x[...] = numbers(seed, rows, depth)
        chain.run()
        np.testing.assert_array_equal(plain, kernels.matmul(x, w, transpose_b=True))
        np.testing.assert_array_equal(whole, kernels.matmul(x, w, transpose_b=True, bias=b, activation=activation, residual=r))
        y = kernels.matmul_int8(x, q, scale, b)
        if activation is not None:
            tanh = ("tanh",) if activation == "gelu_tanh" else ()
            y = getattr(kernels, f"{activation.removesuffix('_tanh')}_forward")(y, *tanh)
        np.testing.assert_allclose(small, r + y, rtol=1e-6, atol=1e-6)


def test_gated_and_added(chain):
    gate, up = numbers(0, 3, 50), numbers(1, 3, 50)
    silu, exact, tanh, total = (np.empty_like(gate) for _ in range(4))
    for name, out in (("silu", silu), ("gelu", exact), ("gelu_tanh", tanh)):
        chain.gate(name, gate, up, out)
    chain.add(silu, up, total)
    chain.run()
    np.testing.assert_array_equal(silu, kernels.swiglu_forward(gate, up))
    np.testing.assert_array_equal(exact, kernels.geglu_forward(gate, up))
    np.testing.assert_array_equal(tanh, kernels.geglu_forward(gate, up, "tanh"))
    np.testing.assert_array_equal(total, silu + up)


@pytest.mark.parametrize("B, H, Hkv, T, K, S", [(1, 4, 4, 1, 64, 9), (3, 4, 2, 2, 24, 40), (2, 3, 1, 5, 7, 1100)])
def test_a_step_of_attention(chain, B, H, Hkv, T, K, S):
    """Rotary positions, the cache, attention to it; keys and values of a cache with room for more, as a view of a joined product."""
    joined, capacity = numbers(0, B, T, H + 2 * Hkv, K).transpose(0, 2, 1, 3), S + 20
    q, k, v = joined[:, :H], joined[:, H:H + Hkv], joined[:, H + Hkv:]
    keys, values = numbers(1, B, Hkv, capacity, K), numbers(2, B, Hkv, capacity, K)
    cos, sin = numbers(3, B, T, K // 2), numbers(4, B, T, K // 2)
    lengths, starts = np.zeros(B, np.int64), np.zeros(B, np.int64)
    turned, out = np.empty((B, H, T, K), np.float32), np.empty((B, T, H, K), np.float32).transpose(0, 2, 1, 3)
    chain.rotary(q, cos, sin, turned)
    chain.keep(k, keys, lengths)
    chain.keep(v, values, lengths)
    chain.attend(turned, keys, values, lengths, starts, out, K**-0.5)
    expected_keys, expected_values = keys.copy(), values.copy()
    for length in (T, S, S + 3):
        lengths[:] = length
        chain.run()
        expected_keys[:, :, length - T:length], expected_values[:, :, length - T:length] = k, v
        np.testing.assert_allclose(turned, kernels.rotary_forward(q, cos[:, None], sin[:, None]), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(keys, expected_keys)
        np.testing.assert_array_equal(values, expected_values)
        np.testing.assert_array_equal(out, kernels.attention_decode(turned, keys, values, lengths))
    starts[:] = np.arange(B) + 1
    lengths[:] = S
    chain.run()
    seen = np.arange(capacity) >= starts[:, None]
    expected = kernels.attention_forward(turned, keys, values, key_mask=seen, is_causal=True, query_offset=S - T, kv_lengths=lengths)[0]
    np.testing.assert_allclose(out, expected, rtol=2e-5, atol=2e-6)


def test_queries_that_see_all_keys_in_their_own_order(chain):
    q, k, v, bias = numbers(0, 2, 3, 4, 16), numbers(1, 2, 3, 30, 16), numbers(2, 2, 3, 30, 16), numbers(3, 1, 3, 4, 30)
    lengths, out = np.array([30, 11]), np.empty_like(q)
    chain.attend(q, k, v, lengths, None, out, 0.3, bias=bias, is_causal=False)
    chain.run()
    np.testing.assert_allclose(out, kernels.attention_forward(q, k, v, scale=0.3, bias=bias, kv_lengths=lengths)[0], rtol=2e-5, atol=2e-6)


def test_a_room_is_shared_by_steps_of_one_shape_alone(chain):
    assert chain.room("work", 8) is chain.room("work", 8)
    assert chain.room("work", 9).shape == (9,)


def test_bits_on_any_number_of_threads(chain):
    from kernels.chain import Chain

    def run(threads):
        kernels.set_num_threads(threads)
        made, x = Chain(), numbers(0, 2, 768)
        y, z = np.empty((2, 3072), np.float32), np.empty((2, 768), np.float32)
        made.product(x, numbers(1, 3072, 768), y, activation="gelu_tanh")
        made.product(y, numbers(2, 768, 3072), z, residual=x)
        made.run()
        return z

    before = kernels.get_num_threads()
    try:
        alone = run(1)
        for _ in range(3):
            np.testing.assert_array_equal(run(2), alone)
    finally:
        kernels.set_num_threads(before)
