"""Beam search: what it says it is, better sequences, and the best of many scores."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
from tests.generate.small import EOS, PAD, V, decoder, prompts, seq2seq
from tinygrad_llm.generate import Settings, beam, generate


def log_probability(model, ids, start):
    logits = model(input_ids=ids[None, :-1]).logits.data[0, start - 1 :]
    return float(np.take_along_axis(kernels.log_softmax_forward(logits.astype(np.float64)), ids[start:, None], 1).sum())


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_best_sequence(seed):
    """With as many beams as there are prefixes, nothing is pruned: compared with every sequence of three tokens."""
    model, prompt = decoder(seed), prompts(seed, rows=1, length=3)
    beam = generate(model, prompt, max_new_tokens=3, num_beams=V * V)[0]
    pairs = np.array(list(itertools.product(range(V), repeat=2)))
    rows = np.concatenate([np.repeat(prompt, len(pairs), axis=0), pairs], axis=1)
    logs = kernels.log_softmax_forward(model(input_ids=rows).logits.data[:, 2:].astype(np.float64))  # (V², 3, V)
    each = np.arange(len(pairs))
    total = logs[each, 0, pairs[:, 0]] + logs[each, 1, pairs[:, 1]] + logs[:, 2].max(axis=-1)
    best = int(total.argmax())
    assert beam[3:].tolist() == [*pairs[best], logs[best, 2].argmax()]


@pytest.mark.parametrize("seed", range(6))
def test_more_beams_are_not_worse(seed):
    model, prompt = decoder(seed), prompts(seed, rows=1)
    scores = [log_probability(model, generate(model, prompt, max_new_tokens=4, num_beams=k)[0], 5) for k in (1, 24)]
    assert scores[1] >= scores[0] - 1e-5


def test_several_beams_come_back_best_first():
    model, ids = decoder(), prompts(0)
    best, three = (generate(model, ids, max_new_tokens=6, num_beams=4, num_return_sequences=n) for n in (1, 3))
    assert three.shape == (6, 11) and np.array_equal(three[::3], best)
    for prompt in range(2):
        scores = [log_probability(model, row, 5) for row in three[3 * prompt : 3 * prompt + 3]]
        assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3


def plainly(model, source, begun, options, eos):
    """Beam search of one prompt in lists, each step a fresh pass over whole sequences: the finished ones, best first."""
    K, new, penalty = options["num_beams"], options["max_new_tokens"], options.get("length_penalty", 1.0)
    early = options.get("early_stopping", False)
    running, finished, improvable = [(0.0, list(begun))], [], True
    for n in range(1, new + 1):
        rows = np.array([ids for _, ids in running])
        inputs = {"input_ids": np.repeat(source[None], len(rows), axis=0), "decoder_input_ids": rows}
        logits = model(**inputs if model.is_encoder_decoder else {"input_ids": rows}).logits.data[:, -1]
        logs = kernels.log_softmax_forward(logits.astype(np.float64))
        found = [(s + logs[i, t], ids + [t]) for i, (s, ids) in enumerate(running) for t in range(V)]
        found = sorted(found, key=lambda f: -f[0])[: max(2, 1 + len(eos)) * K]
        over = lambda ids: ids[-1] in eos or n == new  # noqa: B023
        if improvable and not (early is True and len(finished) == K):
            finished += [(s / n**penalty, ids) for s, ids in found[:K] if over(ids)]
            finished = sorted(finished, key=lambda f: -f[0])[:K]
        running = [f for f in found if not over(f[1])][:K]
        if not running:
            break
        reach = new if early == "never" and penalty > 0 else n
        improvable &= len(finished) < K or running[0][0] / reach**penalty > finished[-1][0]
    return [ids for _, ids in finished]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [
    {}, {"length_penalty": 2.5}, {"length_penalty": -1.0}, {"early_stopping": True}, {"early_stopping": "never"},
    {"early_stopping": "never", "length_penalty": -0.5},
])  # fmt: skip
@pytest.mark.parametrize("make", [decoder, seq2seq])
def test_beam_search_is_what_it_says(make, options, seed):
    """Several prompts at once, with caches that are reordered, find what a plain search finds for each alone."""
    model, ids, eos = make(seed), prompts(seed, rows=3), [EOS, *range(12, 16)][: 1 + 2 * seed]
    options = {"num_beams": 3, "max_new_tokens": 7} | options
    got = generate(model, ids, eos_token_id=eos, num_return_sequences=2, **options).reshape(3, 2, -1).tolist()
    for source, rows in zip(ids, got):
        begun = [PAD] if model.is_encoder_decoder else source.tolist()
        for row, want in zip(rows, plainly(model, source, begun, options, eos)):
            assert row[: len(want)] == want and set(row[len(want) :]) <= {eos[0], PAD}


def test_drawn_beams_differ_and_repeat_with_their_seed():
    draw = lambda seed: generate(decoder(), prompts(0), max_new_tokens=6, num_beams=2, do_sample=True, rng=np.random.default_rng(seed))
    drawn = [draw(seed) for seed in range(6)]
    assert len({x.tobytes() for x in drawn}) > 3 and np.array_equal(drawn[0], draw(0))


def test_drawn_continuations_stand_best_first():
    """Which of them may finish goes by their place, so the order in which they were drawn must not show."""
    settings = Settings(num_beams=3, do_sample=True, max_new_tokens=2, eos=(EOS,))
    beams = beam.start(np.ones((40, 1), dtype=np.int64), settings)
    total = np.log(np.random.default_rng(0).dirichlet(np.ones(V), (40, 3)))
    scores, sources, candidates = beam.continuations(total, beams, 1, settings, np.random.default_rng(1))
    assert (np.diff(scores, axis=1) <= 0).all()
    np.testing.assert_array_equal(scores, total[np.arange(40)[:, None], sources, candidates[:, :, 1]])


@given(st.integers(1, 3), st.integers(1, 700), st.integers(1, 12), st.booleans(), st.integers(0, 2**32 - 1))
def test_top_indices_sifts_many_scores_as_a_stable_sort_would(rows, width, k, tied, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 3, (rows, width)).astype(np.float32) if tied else rng.standard_normal((rows, width), np.float32)
    scores[rng.random((rows, width)) < 0.2] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(beam.top_indices(scores, min(k, width)), expected)
