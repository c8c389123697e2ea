"""What attention heads do, told from their patterns."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.lens.small import IDS
from tinygrad_llm import lens


def test_head_scores_of_made_up_heads():
    T = 8
    ids = np.array([[1, 2, 3, 4, 1, 2, 3, 4]])
    previous, induction, duplicate = np.eye(T, k=-1), np.eye(T), np.eye(T)
    for t in range(4, T):
        induction[t] = np.eye(T)[t - 3]
        duplicate[t] = np.eye(T)[t - 4]
    pattern = np.stack([previous, induction, duplicate])[None, None]  # (1, 1, 3, T, T)
    np.testing.assert_allclose(lens.previous_token_scores(pattern)[0, 0], 1)
    np.testing.assert_allclose(lens.induction_scores(pattern, ids)[0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(lens.duplicate_token_scores(pattern, ids)[0], [0, 0, 1], atol=1e-12)
    uniform = np.full((1, 1, 1, T, T), 1 / T)
    np.testing.assert_allclose(lens.entropy(uniform), np.log(T))
    np.testing.assert_allclose(lens.rollout(uniform)[0].sum(-1), 1)


def test_heads_of_a_model_with_few_positions_are_detected_on_a_shorter_text():
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, n_positions=32, vocab_size=20)
    found = lens.detect_heads(model, rng=np.random.default_rng(0))
    assert found.keys() == {"previous", "duplicate", "induction"} and found["induction"].shape == (2, 2)
    shorter = lens.detect_heads(model, length=16, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(found["induction"], shorter["induction"])


def test_patterns_wants_the_ids_by_name(gpt):
    with pytest.raises(TypeError, match="have names: input_ids=ids; got a ndarray as side"):
        lens.patterns(gpt, IDS)


def test_distance_and_entropy_of_heads_that_look_at_one_key():
    back, ahead = np.eye(6)[[0, 0, 0, 1, 2, 3]], np.eye(6)[[3, 4, 5, 5, 5, 5]]
    pattern = np.stack([[back, ahead], [ahead, back]])[:, None].repeat(2, axis=1)  # (2 layers, 2 texts, 2 heads, 6, 6)
    np.testing.assert_allclose(lens.distance(pattern), [[9 / 6, 12 / 6], [12 / 6, 9 / 6]])
    np.testing.assert_array_equal(lens.entropy(pattern), np.zeros((2, 2)))
    pattern = np.random.default_rng(0).dirichlet(np.ones(6), (3, 2, 4, 6))  # (L, B, H, T, S)
    by_hand = [[np.mean([-row @ np.log(row) for row in pattern[i, :, h].reshape(12, 6)]) for h in range(4)] for i in range(3)]
    np.testing.assert_allclose(lens.entropy(pattern), by_hand)


def test_scores_are_means_over_texts_and_those_of_their_queries_that_have_such_a_place():
    """Three of the six queries of two texts repeat a token: two of the first text, one of the second."""
    pattern = np.random.default_rng(0).dirichlet(np.ones(4), (2, 2, 3, 4))  # (L, B, H, T, S)
    ids = np.array([[1, 2, 1, 2], [5, 6, 6, 7]])
    first, second = pattern[:, 0], pattern[:, 1]
    copies = (first[:, :, 2, 0] + first[:, :, 3, 1] + second[:, :, 2, 1]) / 3
    np.testing.assert_allclose(lens.duplicate_token_scores(pattern, ids), copies)
    after = (first[:, :, 2, 1] + first[:, :, 3, 2] + second[:, :, 2, 2]) / 3
    np.testing.assert_allclose(lens.induction_scores(pattern, ids), after)
    steps = [p[:, :, t, t - 1] for p in (first, second) for t in (1, 2, 3)]
    np.testing.assert_allclose(lens.previous_token_scores(pattern), np.mean(steps, axis=0))
    assert np.isnan(lens.duplicate_token_scores(pattern, np.arange(8).reshape(2, 4))).all()


def test_heads_are_detected_on_tokens_that_come_twice(gpt):
    ids = lens.repeated_tokens(50, 6, 3, np.random.default_rng(1))
    assert ids.shape == (3, 12) and np.array_equal(ids[:, :6], ids[:, 6:]) and not np.array_equal(ids[0], ids[1])
    assert lens.repeated_tokens(2, 99, 1).max() == 1
    ids = lens.repeated_tokens(60, 5, 2, np.random.default_rng(1))
    found, pattern = lens.detect_heads(gpt, length=5, batch=2, rng=np.random.default_rng(1)), lens.patterns(gpt, input_ids=ids)
    assert list(found) == ["previous", "duplicate", "induction"]
    np.testing.assert_array_equal(found["previous"], lens.previous_token_scores(pattern))
    np.testing.assert_array_equal(found["duplicate"], lens.duplicate_token_scores(pattern, ids))
    np.testing.assert_array_equal(found["induction"], lens.induction_scores(pattern, ids))


def test_rollout_follows_the_layers_from_the_input_up():
    pattern = np.random.default_rng(0).dirichlet(np.ones(5), (3, 2, 4, 5))  # (L, B, H, T, S)
    for share in (0.5, 0.2):
        for row in range(2):
            layers = [share * np.eye(5) + (1 - share) * heads.mean(axis=0) for heads in pattern[:, row]]
            np.testing.assert_allclose(lens.rollout(pattern, share)[row], layers[2] @ layers[1] @ layers[0])
    np.testing.assert_allclose(lens.rollout(pattern), lens.rollout(pattern, 0.5))
    halved = lens.rollout(np.where(np.tri(5), pattern, 0.0))  # rows that do not sum to one, as where keys were knocked out
    np.testing.assert_allclose(halved.sum(-1), 1.0)
    with pytest.raises(ValueError, match=r"rollout: expected the patterns of self-attention, .* got \(2, 1, 2, 3, 4\)"):
        lens.rollout(np.ones((2, 1, 2, 3, 4)))
