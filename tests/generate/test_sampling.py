"""One token after another: draws, their seed, and their end."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.generate.small import PAD, decoder, prompts, seq2seq
from tinygrad_llm.generate import generate


def test_several_drawn_continuations_are_draws_for_as_many_prompts():
    for model, ids in ((decoder(), prompts(0)), (seq2seq(), prompts(3))):
        options = {"max_new_tokens": 6, "do_sample": True}
        drawn = generate(model, ids, num_return_sequences=3, rng=np.random.default_rng(1), **options)
        apart = generate(model, np.repeat(ids, 3, axis=0), rng=np.random.default_rng(1), **options)
        assert len(drawn) == 6 and np.array_equal(drawn, apart) and len({tuple(row) for row in drawn}) == 6


def test_finished_rows_are_padded_and_all_finished_ends():
    model = decoder()
    ids = prompts(0, rows=4)
    free = generate(model, ids, max_new_tokens=10)
    eos = int(free[0, 7])
    out = generate(model, ids, max_new_tokens=10, eos_token_id=eos)
    for row, whole in zip(out, free):
        ends = np.flatnonzero(row[5:] == eos)
        length = 5 + ends[0] + 1 if len(ends) else len(row)
        assert np.array_equal(row[:length], whole[:length]) and (row[length:] == PAD).all()
    alone = generate(model, ids[:1], max_new_tokens=10, eos_token_id=eos)
    assert alone[0, -1] == eos and alone.shape[1] <= 8


def test_sampling_repeats_with_its_seed_and_streams_what_it_returns():
    model, ids, seen = decoder(), prompts(1), []
    options = {"max_new_tokens": 8, "do_sample": True, "temperature": 1.5}
    first = generate(model, ids, rng=np.random.default_rng(3), stream=seen.append, **options)
    assert np.array_equal(first[:, 5:], np.stack(seen, axis=1))
    assert np.array_equal(first, generate(model, ids, rng=np.random.default_rng(3), **options))
    assert not np.array_equal(first, generate(model, ids, rng=np.random.default_rng(4), **options))


@pytest.mark.parametrize("options", [
    {"temperature": 1e-6}, {"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"epsilon_cutoff": 0.999}, {"eta_cutoff": 0.999, "top_k": 1},
    {"top_k": 1, "renormalize_logits": True},
])  # fmt: skip
def test_a_draw_among_the_best_alone_is_greedy(options):
    model, ids = decoder(), prompts(1)
    drawn = generate(model, ids, max_new_tokens=8, do_sample=True, rng=np.random.default_rng(3), **options)
    assert np.array_equal(drawn, generate(model, ids, max_new_tokens=8))


def test_without_rng_manual_seed_decides_what_is_drawn():
    model, prompt = decoder(), prompts(0)
    draw = lambda: model.generate(prompt, max_new_tokens=8, do_sample=True)  # noqa: E731
    tg.manual_seed(3)
    first, other = draw(), draw()
    assert not np.array_equal(first, other)
    tg.manual_seed(3)
    assert np.array_equal(first, draw())
    with pytest.raises(TypeError, match="rng must be a numpy.random.Generator, got int"):
        model.generate(prompt, max_new_tokens=8, do_sample=True, rng=3)
