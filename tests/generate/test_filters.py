"""Filters keep what they promise, and bar what may not come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.generate.small import EOS, PAD, V, decoder, prompts, seq2seq
from tinygrad_llm.generate import Settings, filters, generate


@pytest.mark.parametrize("beams", [1, 3])
def test_a_token_that_stands_in_padding_alone_is_no_repetition(beams):
    model, ids = decoder(), prompts(0, rows=1)
    options = {"max_new_tokens": 6, "repetition_penalty": 5.0, "num_beams": beams}
    alone = generate(model, ids, **options)
    padded = np.pad(ids, ((0, 0), (2, 0)), constant_values=int(alone[0, 5]))  # with what will be written
    mask = np.pad(np.ones_like(ids), ((0, 0), (2, 0)))
    assert np.array_equal(generate(model, padded, mask, **options)[:, 2:], alone)


def test_draws_follow_the_probabilities():
    scores = np.log(np.array([[0.5, 0.25, 0.0, 0.25]]) + 1e-300).astype(np.float32)
    scores[0, 2] = -np.inf
    rng = np.random.default_rng(0)
    draws = np.array([filters.draw(scores, rng)[0] for _ in range(4000)])
    shares = np.bincount(draws, minlength=4) / 4000
    assert shares[2] == 0 and abs(shares - [0.5, 0.25, 0, 0.25]).max() < 0.03


rows = st.lists(st.floats(-8, 8, width=32), min_size=4, max_size=12).map(lambda x: np.array([x], dtype=np.float32))


@given(rows, st.integers(1, 12), st.floats(0.01, 0.99))
def test_filters_keep_the_best(scores, k, p):
    probabilities = filters.softmax(scores.astype(np.float64))[0]
    for kept in (filters.top_k(scores, k)[0], filters.top_p(scores, p)[0], filters.min_p(scores, p)[0]):
        alive = np.isfinite(kept)
        assert alive[scores[0].argmax()] or scores[0].max() in kept
        assert np.array_equal(kept[alive], scores[0][alive])
        if not alive.all():
            assert probabilities[alive].min() >= probabilities[~alive].max() - 1e-9
    assert np.isfinite(filters.top_k(scores, k)).sum() >= min(k, scores.size)
    nucleus = np.isfinite(filters.top_p(scores, p)[0])
    assert probabilities[nucleus].sum() >= p - 1e-4
    assert probabilities[nucleus].sum() - probabilities[nucleus].min() <= p + 1e-4, "one fewer would not do"
    relative = np.isfinite(filters.min_p(scores, p)[0])
    assert (
        np.array_equal(relative, probabilities >= p * probabilities.max())
        or np.isclose(probabilities, p * probabilities.max()).any()
    )


def test_typical_p_keeps_what_surprises_as_much_as_expected():
    """As many tokens, the nearest to the expected surprise first, as sum to p: told here row by row, in float64."""
    scores = np.random.default_rng(0).normal(0, 2, (6, 12)).astype(np.float32)
    scores[:, 5] = -np.inf
    for p in (0.1, 0.4, 0.7, 0.95):
        for row, kept in zip(scores, filters.typical_p(scores, p)):
            probabilities = filters.softmax(row.astype(np.float64)[None])[0]
            surprise = -np.log(np.maximum(probabilities, 1e-300))
            order = np.argsort(np.abs(surprise - (probabilities * surprise).sum()))
            alive = np.sort(order[: 1 + (np.cumsum(probabilities[order]) < p).sum()])
            assert np.array_equal(np.flatnonzero(np.isfinite(kept)), alive) and np.array_equal(kept[alive], row[alive])


def test_cutoffs_keep_what_is_probable_enough_and_the_best():
    scores = np.random.default_rng(0).normal(0, 2, (6, 12)).astype(np.float32)
    for least in (0.01, 0.1, 0.9):
        for row, plain, kept in zip(scores, filters.cutoff(scores, least), filters.cutoff(scores, least, by_entropy=True)):
            probabilities = filters.softmax(row.astype(np.float64)[None])[0]
            entropy = -(probabilities * np.log(probabilities)).sum()
            for found, limit in ((plain, least), (kept, min(least, least**0.5 * np.exp(-entropy)))):
                alive = (probabilities >= limit) | (probabilities == probabilities.max())
                assert np.array_equal(np.isfinite(found), alive) and np.array_equal(found[alive], row[alive])


@pytest.mark.parametrize("named, sifted", [
    ({"repetition_penalty": 2.0}, lambda x, ids: filters.repetition_penalty(x, ids, 2.0)),
    ({"no_repeat_ngram_size": 2}, lambda x, ids: filters.no_repeated_ngram(x, ids, 2)),
    ({"temperature": 0.5}, lambda x, ids: filters.temperature(x, 0.5)),
    ({"top_k": 3}, lambda x, ids: filters.top_k(x, 3)),
    ({"top_p": 0.5}, lambda x, ids: filters.top_p(x, 0.5)),
    ({"min_p": 0.2}, lambda x, ids: filters.min_p(x, 0.2)),
    ({"typical_p": 0.5}, lambda x, ids: filters.typical_p(x, 0.5)),
    ({"epsilon_cutoff": 0.05}, lambda x, ids: filters.cutoff(x, 0.05)),
    ({"eta_cutoff": 0.05}, lambda x, ids: filters.cutoff(x, 0.05, by_entropy=True)),
    ({"renormalize_logits": True}, lambda x, ids: filters.log_softmax(x)),
], ids=lambda x: next(iter(x)) if isinstance(x, dict) else "")  # fmt: skip
def test_each_setting_has_its_filter_and_rows_do_not_mix(named, sifted):
    rng = np.random.default_rng(0)
    scores, ids = rng.normal(0, 2, (4, 12)).astype(np.float32), np.array([[3, 1, 2, 1], [4, 4, 4, 4], [5, 6, 7, 8], [9, 0, 9, 0]])
    got = Settings(do_sample=True, **named).process(scores, ids, False)
    assert np.array_equal(got, sifted(scores, ids)) and not np.array_equal(got, scores)
    assert np.array_equal(got, np.concatenate([sifted(scores[i : i + 1], ids[i : i + 1]) for i in range(4)]))
    drawn = not {"repetition_penalty", "no_repeat_ngram_size", "renormalize_logits"} & set(named)
    assert np.array_equal(Settings(**named).process(scores, ids, False), scores) == drawn, "what sifts a draw is for draws alone"


def test_settings_that_sift_nothing():
    scores = np.random.default_rng(0).normal(0, 2, (2, 12)).astype(np.float32)
    idle = Settings(do_sample=True, top_p=1.0, min_p=0.0, typical_p=1.0, epsilon_cutoff=0.0, eta_cutoff=0.0, top_k=99)
    assert np.array_equal(idle.process(scores, np.zeros((2, 1), np.int64), False), scores)


def test_repetition_penalty():
    scores = np.array([[2.0, -2.0, 1.0, 0.5]], dtype=np.float32)
    ids = np.array([[3, 0, 1, 1]])
    assert filters.repetition_penalty(scores, ids, 2.0).tolist() == [[1.0, -4.0, 1.0, 0.25]]
    assert filters.repetition_penalty(scores, ids, 2.0, skip=[1]).tolist() == [[1.0, -4.0, 1.0, 0.5]]


def test_what_may_not_come():
    scores, ids = np.zeros((2, 6), np.float32), np.array([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4]])
    barred = lambda s: [np.flatnonzero(np.isneginf(row)).tolist() for row in s]
    assert barred(filters.no_repeated_ngram(scores, ids, 1)) == [[1, 2, 3], [4]]
    assert barred(filters.no_repeated_ngram(scores, ids, 3)) == [[3], [4]]
    assert barred(filters.no_repeated_ngram(scores, ids, 5)) == [[], [4]]
    assert barred(filters.no_repeated_ngram(scores, ids, 6)) == [[], []]
    assert barred(filters.no_repeated_ngram(scores, ids[:, :2], 3, ids)) == [[3], [4]], "as many tokens as there are, and one more"
    assert barred(filters.no_repeated_ngram(scores, ids[:, :2], 4, ids)) == [[], []]
    assert barred(filters.no_bad_words(scores, ids, [[5], [1, 2, 0], [3, 1], [1, 1, 2, 3, 1, 2, 3], [4, 4, 4, 4, 4, 4, 0]])) == [[0, 5], [5]]
    assert barred(filters.without(scores, [2, 77])) == [[2], [2]]
    assert filters.only(scores, [1, 4]).tolist() == [[-np.inf, 0, -np.inf, -np.inf, 0, -np.inf]] * 2
    assert not scores.any(), "the scores given stay as they are"


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "top_k": 5}, {"repetition_penalty": 1.5}])
def test_an_own_processor_bars_what_suppress_tokens_would(options):
    seen = []

    def bar(ids, scores):
        seen.append(ids.shape)
        scores[:, [3, 5, 7]] = -np.inf
        ids[:] = 0  # the generation's own ids stay as they are
        return scores

    run = lambda **own: generate(decoder(), prompts(0), max_new_tokens=6, rng=np.random.default_rng(1), **options, **own)
    expected = run(suppress_tokens=[3, 5, 7])
    np.testing.assert_array_equal(run(logits_processor=[bar]), expected)
    np.testing.assert_array_equal(run(logits_processor=bar), expected)
    assert len(seen) == 12 and seen[0][1] == prompts(0).shape[1] and seen[5][1] == seen[0][1] + 5
    assert (run(logits_processor=[lambda ids, scores: -scores]) != run()).any()


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (lambda ids, scores: None, r"expected scores of shape \(2, 24\) back, got object"),
        (lambda ids, scores: scores[:1], r"back, got float32 \(1, 24\)"),
        (lambda ids, scores: scores * np.nan, "NaN"),
        (lambda ids, scores: np.full_like(scores, -np.inf), "no token above -inf"),
        (lambda ids, scores: np.concatenate([scores[:1], np.full_like(scores[1:], -np.inf)]), "no token above -inf"),
        ("top", "functions of"),
    ],
)
def test_a_processor_that_returns_no_scores_is_refused(processor, message):
    with pytest.raises(ValueError, match=f"^logits_processor: .*{message}"):
        generate(decoder(), prompts(0), logits_processor=[processor])


def test_forced_tokens():
    settings = Settings(forced_bos_token_id=4, forced_eos_token_id=6)
    scores = np.zeros((1, 8), dtype=np.float32)
    assert settings.process(scores, np.zeros((1, 1), dtype=int), False).argmax() == 4
    assert settings.process(scores, np.zeros((1, 5), dtype=int), True).argmax() == 6


@pytest.mark.parametrize("beams", [1, 3])
def test_what_stands_in_the_prompt_may_be_barred_or_favoured(beams):
    for model, ids in ((decoder(), prompts(1)), (seq2seq(), prompts(3))):
        options = {"max_new_tokens": 6, "num_beams": beams}
        barred, favoured = (generate(model, ids, **options, **more)[:, -6:] for more in (
            {"encoder_no_repeat_ngram_size": 1}, {"encoder_repetition_penalty": 50.0}))  # fmt: skip
        for source, without, within in zip(ids.tolist(), barred.tolist(), favoured.tolist()):
            assert not set(without) & set(source) and set(within) <= {*source, PAD, EOS}


def test_a_length_with_the_prompt_a_barred_beginning_and_an_end_that_draws_near():
    model, ids = decoder(eos_token_id=None), prompts(1, rows=1)
    free = generate(model, ids, max_new_tokens=8)
    assert np.array_equal(generate(model, ids, max_length=13), free)
    first, eos = int(free[0, 5]), next(t for t in range(V) if t not in free)
    assert generate(model, ids, max_new_tokens=8, begin_suppress_tokens=[first])[0, 5] != first
    drawn = generate(model, ids, max_new_tokens=20, eos_token_id=eos, exponential_decay_length_penalty=(3, 50.0))
    assert np.array_equal(drawn[0, :9], free[0, :9]) and 9 < drawn.shape[1] < 13 and drawn[0, -1] == eos
    with pytest.raises(ValueError, match="max_length 13 and max_new_tokens 8 both"):
        generate(model, ids, max_length=13, max_new_tokens=8)
