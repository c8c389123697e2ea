"""Generation: caches and padding change nothing, filters keep what they promise, beams find better sequences."""

import gc
import itertools
import json
import warnings
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
import tinygrad_llm as tg
from tinygrad_llm import models, text
from tinygrad_llm.generate import Settings, beam, fill_mask, filters, generate
from tinygrad_llm.generate.decoding import Seq2Seq

V, PAD, EOS, MASK = 24, 0, 1, 2


def vary(model, seed=0):
    """Weights large enough that the tokens' scores differ clearly."""
    rng = np.random.default_rng(seed)
    for _, p in model.named_parameters():
        if p.ndim >= 2:
            p.data[...] = rng.normal(0, 0.3, p.shape)
    return model


def decoder(seed=0, **roles):
    return vary(models.create("gpt2", n_layer=2, n_head=2, n_embd=16, n_positions=32, vocab_size=V, dropout=0.0,
                              bos_token_id=None, **({"eos_token_id": None, "pad_token_id": PAD} | roles)), seed)  # fmt: skip


def seq2seq(seed=0):
    return vary(models.create("t5-small", d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=2,
                              vocab_size=V, dropout=0.0, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD),
                seed)  # fmt: skip


def bart(head=None, **changes):
    return vary(models.create("bart-base", head, **({
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": V, "max_position_embeddings": 8, "dropout": 0.0,
        "eos_token_id": None, "forced_eos_token_id": None} | changes)))  # fmt: skip


def prompts(seed, rows=2, length=5):
    return np.random.default_rng(seed).integers(3, V, (rows, length))


@given(st.integers(0, 50))
def test_the_cache_changes_nothing(seed):
    """Each token is the best one of a fresh pass over everything before it."""
    model = decoder(seed)
    out = generate(model, prompts(seed), max_new_tokens=6)
    for t in range(5, 11):
        assert np.array_equal(model(input_ids=out[:, :t]).logits.data[:, -1].argmax(-1), out[:, t])


@given(st.integers(0, 50), st.integers(1, 4))
def test_left_padding_changes_nothing(seed, padding):
    model, ids = decoder(seed), prompts(seed, rows=1)
    alone = generate(model, ids, max_new_tokens=6)
    other = prompts(seed + 1, rows=1, length=5 + padding)
    batch = np.concatenate([np.pad(ids, ((0, 0), (padding, 0)), constant_values=PAD), other])
    mask = np.concatenate([np.pad(np.ones_like(ids), ((0, 0), (padding, 0))), np.ones_like(other)])
    together = generate(model, batch, attention_mask=mask, max_new_tokens=6)
    assert np.array_equal(together[0, padding:], alone[0])
    assert np.array_equal(together, generate(model, batch, max_new_tokens=6)), "the mask follows from the pad id"


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}])
@pytest.mark.parametrize("make", [decoder, seq2seq])
def test_vectors_stand_for_ids(make, options):
    """From what the token table gives for ids comes what comes from the ids, which are no part of a decoder's result then."""
    model, ids, mask = make(), prompts(0), np.array([[0, 0, 1, 1, 1], [1] * 5])

    def written(**prompt):
        return generate(model, attention_mask=mask, max_new_tokens=6, rng=np.random.default_rng(0), **prompt, **options)

    whole = written(input_ids=ids)
    vectors = model.without_head().tokens(ids)
    for embeds in (vectors, vectors.data):
        assert np.array_equal(written(inputs_embeds=embeds), whole if model.is_encoder_decoder else whole[:, 5:])
    counted = 0 if model.is_encoder_decoder else 5
    assert generate(model, inputs_embeds=vectors, max_length=4 + counted).shape == (2, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input_ids": [[4]], "inputs_embeds": np.ones((1, 2, 16))}, "input_ids and inputs_embeds: expected one of them, got both"),
        ({"inputs_embeds": np.ones((2, 16))}, r"inputs_embeds: expected shape \(batch, positions, width\), got \(2, 16\)"),
        ({"inputs_embeds": np.ones((1, 2, 15))}, r"inputs_embeds: expected shape \(batch, positions, 16\)"),
        ({"inputs_embeds": np.ones((1, 0, 16))}, "none of them 0"),
        ({"inputs_embeds": np.ones((0, 2, 16))}, "none of them 0"),
        ({"inputs_embeds": np.ones((1, 33, 16))}, "there are 33 tokens"),
        ({"inputs_embeds": np.ones((1, 2, 16)), "prompt_lookup_num_tokens": 2}, "prompt_lookup_num_tokens: expected input_ids"),
        ({"inputs_embeds": np.ones((1, 2, 16)), "attention_mask": [[1]]}, r"the shape of the prompts, \(1, 2\); got \(1, 1\)"),
        ({}, "input_ids: expected integers"),
    ],
)
def test_vectors_that_cannot_stand_for_ids(given, message):
    with pytest.raises(ValueError, match=message):
        generate(decoder(), **given)


def test_a_prompt_of_pad_tokens_alone_is_read_in_any_batch():
    model, ids = decoder(), prompts(0)
    ids[0] = PAD
    assert np.array_equal(generate(model, ids, max_new_tokens=6)[:1], generate(model, ids[:1], max_new_tokens=6))


def test_a_pad_id_that_is_passed_hides_padding_as_a_configs_does():
    model, ids = decoder(pad_token_id=None), prompts(0)
    ids[0, :3] = PAD
    hidden = generate(model, ids, attention_mask=ids != PAD, max_new_tokens=6)
    assert not np.array_equal(generate(model, ids, max_new_tokens=6), hidden)
    assert np.array_equal(generate(model, ids, max_new_tokens=6, pad_token_id=PAD), hidden)


def test_an_encoder_reads_all_tokens_where_no_mask_is_passed():
    model, source = seq2seq(), prompts(3)
    source[:, -2:] = PAD
    assert np.array_equal(generate(model, source), generate(model, source, np.ones_like(source)))
    assert not np.array_equal(generate(model, source), generate(model, source, source != PAD))


def test_padding_of_a_source_is_read_nowhere():
    model, source = seq2seq(), prompts(3, rows=1)
    padded, mask = np.pad(source, ((0, 0), (0, 3)), constant_values=7), np.pad(np.ones_like(source), ((0, 0), (0, 3)))
    for beams in (1, 3):
        alone = generate(model, source, max_new_tokens=8, num_beams=beams)
        assert np.array_equal(generate(model, padded, mask, max_new_tokens=8, num_beams=beams), alone)
    start, one = np.array([[PAD]]), np.array([5])
    beside, by_itself = (Seq2Seq(model, *given, start, 2) for given in ((padded, mask), (source, np.ones_like(source))))
    for scores in ((beside.first(), by_itself.first()), (beside.next(one), by_itself.next(one))):
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)  # tokens alone may be the same by chance


@pytest.mark.parametrize("beams", [1, 3])
def test_a_token_that_stands_in_padding_alone_is_no_repetition(beams):
    model, ids = decoder(), prompts(0, rows=1)
    options = {"max_new_tokens": 6, "repetition_penalty": 5.0, "num_beams": beams}
    alone = generate(model, ids, **options)
    padded = np.pad(ids, ((0, 0), (2, 0)), constant_values=int(alone[0, 5]))  # with what will be written
    mask = np.pad(np.ones_like(ids), ((0, 0), (2, 0)))
    assert np.array_equal(generate(model, padded, mask, **options)[:, 2:], alone)


@pytest.mark.parametrize("beams", [1, 2])
def test_the_last_token_needs_no_position(beams):
    for model, ids, room in ((decoder(), prompts(0), 32 + 1 - 5), (bart(), prompts(0), 8)):
        length = 1 if model.is_encoder_decoder else 5
        assert generate(model, ids, max_new_tokens=room, num_beams=beams).shape == (2, length + room)
        steps = []
        with pytest.raises(ValueError, match=f"ask for at most {room}$"):
            generate(model, ids, max_new_tokens=room + 1, stream=steps.append)
        assert not steps, "found out beforehand"


def test_encoder_decoders():
    model = seq2seq()
    source = prompts(3)
    out = model.generate(source, max_new_tokens=7)
    assert (out[:, 0] == PAD).all() and out.dtype == np.int64
    for row, ids in zip(source, out):
        steps = ids[1:]
        steps = steps[: int(np.argmax(steps == EOS)) + 1] if (steps == EOS).any() else steps
        for t, token in enumerate(steps):
            logits = model(input_ids=row[None], decoder_input_ids=ids[None, : t + 1]).logits.data
            assert logits[0, -1].argmax() == token


def test_decoder_ids_begin_with_the_start_token():
    model, source, begun = seq2seq(), prompts(3), [[8, 7], [11, 9]]
    out = generate(model, source, decoder_input_ids=begun, max_new_tokens=4)
    assert out[:, :3].tolist() == [[PAD, 8, 7], [PAD, 11, 9]]
    assert np.array_equal(out, generate(model, source, decoder_input_ids=out[:, :3], max_new_tokens=4)), "it is not put twice"
    other = generate(model, source, decoder_input_ids=begun, max_new_tokens=4, decoder_start_token_id=5)
    assert other[:, :3].tolist() == [[5, 8, 7], [5, 11, 9]]


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


def test_drawn_beams_differ_and_repeat_with_their_seed():
    draw = lambda seed: generate(decoder(), prompts(0), max_new_tokens=6, num_beams=2, do_sample=True, rng=np.random.default_rng(seed))
    drawn = [draw(seed) for seed in range(6)]
    assert len({x.tobytes() for x in drawn}) > 3 and np.array_equal(drawn[0], draw(0))


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


def test_stop_strings():
    tokenizer = text.train("chars", "abcdefghijklmnopqrstuvwx")
    model, ids = decoder(), prompts(2, rows=1)
    free = tokenizer.decode(generate(model, ids, max_new_tokens=12)[0, 5:])
    stop = free[3:5]
    got = tokenizer.decode(generate(model, ids, max_new_tokens=12, stop_strings=stop, tokenizer=tokenizer)[0, 5:])
    assert got == free[: free.index(stop) + 2]


class Letters:
    def decode(self, ids):
        return "".join(chr(97 + int(i)) for i in ids)


@pytest.mark.parametrize("options", [{}, {"prompt_lookup_num_tokens": 3}])
def test_stop_strings_may_begin_in_the_prompt_and_must_end_in_what_is_written(options):
    model, ids = decoder(), prompts(2, rows=1)
    free = generate(model, ids, max_new_tokens=12, **options)
    stopped = lambda stop: generate(model, ids, max_new_tokens=12, stop_strings=stop, tokenizer=Letters(), **options)
    text = Letters().decode(free[0])
    assert np.array_equal(stopped(text[3:6]), free[:, :6])
    assert np.array_equal(stopped([text[3:6], "?"]), free[:, :6]) and np.array_equal(stopped(["?", text[3:6]]), free[:, :6])
    assert text[1:4] not in text[3:], "stands in the prompt alone"
    assert np.array_equal(stopped(text[1:4]), free)


def test_a_stop_string_may_end_in_a_character_of_several_tokens():
    class Bytes:
        def decode(self, ids):
            return bytes(int(i) for i in ids).decode("utf-8", errors="replace")

    settings = Settings(stop_strings=("né", "é!"), tokenizer=Bytes())
    text = np.frombuffer("née né!".encode(), np.uint8)
    ends = [n for n in range(1, len(text) + 1) if settings.ended(text[None, :n])[0]]
    assert ends == [3, 8, 9]


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


def test_a_checkpoint_may_force_its_first_token(tmp_path):
    bart(forced_bos_token_id=5).save(tmp_path)
    model = models.load(tmp_path)
    assert (generate(model, prompts(0), max_new_tokens=3)[:, 1] == 5).all()
    assert (generate(model, prompts(0), max_new_tokens=3, forced_bos_token_id=9)[:, 1] == 9).all()


def told(tmp_path, model, **said):
    """The model, loaded with a generation_config.json that says this."""
    model.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    return models.load(tmp_path)


def test_generation_config_decides_and_is_saved(tmp_path):
    plain, ids = decoder(), prompts(1, rows=1)
    first = int(generate(plain, ids, max_new_tokens=8)[0, 5])
    model = told(tmp_path, plain, eos_token_id=[EOS, first], note="kept")
    assert generate(model, ids, max_new_tokens=8).shape == (1, 6)
    assert generate(model, ids, max_new_tokens=8, eos_token_id=EOS).shape == (1, 13), "the argument goes first"
    model.save(tmp_path / "again")
    again = models.load(tmp_path / "again")
    assert again.generation_config == model.generation_config and again.generation_config["note"] == "kept"
    plain.save(tmp_path / "again")
    assert models.load(tmp_path / "again").generation_config is None, "of another model"


def test_lengths_words_and_ngrams_follow_the_checkpoint(tmp_path):
    model, ids = told(tmp_path, decoder(), eos_token_id=list(range(12)), min_new_tokens=4, no_repeat_ngram_size=1,
                      suppress_tokens=[20]), prompts(1, rows=1)  # fmt: skip
    for beams in (1, 3):
        new = generate(model, ids, max_new_tokens=8, num_beams=beams)[0, 5:].tolist()
        assert len(new) > 4 and min(new[:4]) >= 12 and 20 not in new
        assert len({*new, *ids[0].tolist()}) == len(new) + len(set(ids[0].tolist()))
    assert generate(model, ids, max_new_tokens=1, min_new_tokens=0, min_length=0)[0, 5] not in ids


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


def test_no_new_tokens_at_least_takes_back_a_least_length(tmp_path):
    plain, ids = decoder(), prompts(1, rows=1)
    first = int(generate(plain, ids, max_new_tokens=1)[0, 5])
    model = told(tmp_path, plain, eos_token_id=first, min_length=9)
    assert generate(model, ids, max_new_tokens=8).shape[1] >= 9
    assert generate(model, ids, max_new_tokens=8, min_new_tokens=0).shape == (1, 6)


def test_what_a_checkpoint_asks_for_in_vain_is_said(tmp_path):
    idle = {"num_return_sequences": 1, "repetition_penalty": 1.0, "diversity_penalty": 0.0, "num_beam_groups": 1, "stop_strings": []}
    model = told(tmp_path, decoder(), num_beams=2, length_penalty=2.0, top_h=0.5, sequence_bias=[[[3], 1.0]], do_sample=True, **idle)
    with pytest.warns(UserWarning) as seen:
        generate(model, prompts(0), max_new_tokens=1)
    assert [str(w.message).split(":")[0] for w in seen] == [
        "the checkpoint asks for num_beams = 2", "the checkpoint asks for sequence_bias = [[[3], 1.0]]"]  # fmt: skip
    model.generation_config = {"num_beams": 2, "temperature": 0.3, "top_h": 0.5, "no_repeat_ngram_size": 0, "top_k": 50}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(model, prompts(0), max_new_tokens=1, num_beams=3)
    with pytest.warns(UserWarning, match=r"top_h = 0.5: generate cannot"):
        generate(model, prompts(0), max_new_tokens=1, num_beams=3, do_sample=True)


def test_fill_mask():
    model = vary(models.create("bert-tiny", head="masked_lm", num_hidden_layers=1, hidden_size=16, num_attention_heads=2,
                               intermediate_size=32, vocab_size=V, max_position_embeddings=16))  # fmt: skip
    ids = np.array([[5, MASK, 7, MASK]])
    answers = fill_mask(model, ids, MASK, top_k=3)
    logits = model.eval()(input_ids=ids).logits.data[0]
    for answer, place in zip(answers[0], (1, 3)):
        p = filters.softmax(logits[place].astype(np.float64)[None])[0]
        assert [t for t, _ in answer] == np.argsort(-p, kind="stable")[:3].tolist()
        assert [x for _, x in answer] == pytest.approx(sorted(p)[::-1][:3])
    padded = fill_mask(model, np.pad(ids, ((0, 0), (0, 3))), MASK, top_k=3, attention_mask=np.pad(np.ones_like(ids), ((0, 0), (0, 3))))
    for answer, other in zip(answers[0], padded[0]):
        assert [t for t, _ in answer] == [t for t, _ in other] and [x for _, x in answer] == pytest.approx([x for _, x in other], rel=1e-4)
    with pytest.raises(ValueError, match="no mask token"):
        fill_mask(model, [[5, 6]], MASK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": 0.0}, "do_sample=False"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"num_beams": 2, "stream": print}, "stream"),
        ({"stop_strings": ["a"]}, "tokenizer"),
        ({"max_new_tokens": 40}, "the model has 32 positions"),
        ({"attention_mask": np.ones((1, 5))}, "the shape of the prompts"),
        ({"attention_mask": np.array([[1, 1, 1, 1, 0]] * 2)}, "pad on the left"),
        ({"attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])}, "pad on the left"),
        ({"attention_mask": [[0.5, 1, 1, 1, 1]] * 2}, "expected 0 and 1"),
        ({"decoder_input_ids": [[1]]}, "decoder_input_ids: GPT2LMHeadModel has no encoder"),
        ({"length_penalty": 1e4, "num_beams": 2}, "length_penalty"),
        ({"length_penalty": float("nan")}, "length_penalty"),
        ({"no_repeat_ngram_size": 1.5}, "no_repeat_ngram_size"),
        ({"forced_eos_token_id": 5, "suppress_tokens": [6, 5]}, "suppress_tokens: expected none that must come last"),
        ({"forced_bos_token_id": 5, "suppress_tokens": [6, 5]}, "suppress_tokens: expected none that must come first"),
        ({"max_new_tokens": 2.5}, "max_new_tokens: expected a whole number"),
        ({"num_beams": 2.0}, "num_beams: expected a whole number"),
        ({"num_return_sequences": 2}, "num_return_sequences: expected 1 with do_sample=False"),
        ({"num_return_sequences": 3, "num_beams": 2}, "num_return_sequences: expected at most num_beams = 2"),
        ({"num_return_sequences": 0, "do_sample": True}, "num_return_sequences: expected a whole number"),
        ({"top_k": 2.5, "do_sample": True}, "top_k: expected a whole number"),
        ({"max_length": 5}, "max_length: expected a whole number above 5"),
        ({"typical_p": 0.0}, "typical_p: expected a number in"),
        ({"epsilon_cutoff": 1.0}, "epsilon_cutoff: expected a number in"),
        ({"encoder_repetition_penalty": -1.0}, "encoder_repetition_penalty: expected a number above 0"),
        ({"exponential_decay_length_penalty": (3,)}, "exponential_decay_length_penalty: expected"),
    ],
)
def test_bad_choices(options, message):
    with pytest.raises(ValueError, match=message):
        generate(decoder(), prompts(0), **options)


@pytest.mark.parametrize("name", ["eos_token_id", "pad_token_id"])
@pytest.mark.parametrize("wrong", [2.5, "a", True, np.array([1.0]), [3, "b"]], ids=str)
def test_ids_that_are_no_whole_numbers_are_refused(name, wrong):
    with pytest.raises(TypeError, match=f"{name}: expected ids, which are whole numbers, got "):
        generate(decoder(), prompts(0), max_new_tokens=2, **{name: wrong})


@pytest.mark.parametrize("name", ["gpt2", "llama-7b"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_text_goes_on_from_a_cache(name, padded):
    model = models.create(name, num_hidden_layers=2, num_attention_heads=2, hidden_size=16, intermediate_size=24,
                          max_position_embeddings=40, vocab_size=V, dropout=0.0, eos_token_id=None, pad_token_id=PAD,
                          bos_token_id=None)  # fmt: skip
    model, ids = vary(model), prompts(3, rows=3, length=9)
    if padded:
        ids[0, :2] = ids[2, :3] = PAD
    mask = (ids != PAD).astype(int)
    whole = generate(model, ids, mask, max_new_tokens=8)
    with tg.no_grad():
        cache = model.make_cache(2)  # grows
        model(input_ids=ids[:, :4], attention_mask=mask[:, :4], position_ids=np.maximum(mask[:, :4].cumsum(1) - 1, 0),
              past_key_values=cache)  # fmt: skip
    np.testing.assert_array_equal(generate(model, ids, mask, max_new_tokens=5, past_key_values=cache), whole[:, :14])
    assert cache.length == 13  # the last token was never read
    mask = np.concatenate([mask, np.ones((3, 5), int)], axis=1)
    np.testing.assert_array_equal(generate(model, whole[:, :14], mask, max_new_tokens=3, past_key_values=cache), whole)


def test_guesses_leave_nothing_in_a_cache_that_was_given():
    model, ids = decoder(), np.tile(prompts(1, rows=1, length=4), 3)
    with tg.no_grad():
        cache = model(input_ids=ids[:, :6], use_cache=True).past_key_values
    out = generate(model, ids, max_new_tokens=9, prompt_lookup_num_tokens=4, past_key_values=cache)
    np.testing.assert_array_equal(out, generate(model, ids, max_new_tokens=9))
    assert cache.length == out.shape[1] - 1
    np.testing.assert_array_equal(generate(model, out, max_new_tokens=4, past_key_values=cache), generate(model, out, max_new_tokens=4))


def test_a_cache_that_does_not_go_with_the_prompt():
    model, ids = decoder(), prompts(0)
    with tg.no_grad():
        cache = model(input_ids=ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="past_key_values: it holds 5 positions; expected a prompt of those and more, got 5"):
        generate(model, ids, past_key_values=cache)
    longer = np.concatenate([ids, ids], axis=1)
    for more in ({"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}):
        with pytest.raises(ValueError, match="past_key_values: its rows are those of input_ids, each of which is continued once"):
            generate(model, longer, past_key_values=cache, **more)
    with pytest.raises(ValueError, match="cache: made for a batch of 2, got 1"):
        generate(model, longer[:1], past_key_values=cache)
    with pytest.raises(ValueError, match=r"there are 10 tokens and 30 are to follow, but the model has 32 positions"):
        generate(model, longer, max_new_tokens=30, past_key_values=cache)
    with pytest.raises(TypeError, match="past_key_values: expected a cache"):
        generate(model, longer, past_key_values=((1, 2),))
    with pytest.raises(ValueError, match="past_key_values: T5ForConditionalGeneration has an encoder"):
        generate(seq2seq(), longer, past_key_values=cache)
    assert cache.length == 5


def test_unknown_arguments_and_bad_ids():
    with pytest.raises(TypeError, match="unknown argument 'beams'; besides the named ones it takes bad_words_ids, "):
        generate(decoder(), prompts(0), beams=3)
    with pytest.raises(TypeError, match=r"unknown argument 'streamer'; here: stream=function of each step's tokens \(B,\)"):
        generate(decoder(), prompts(0), beams=3, streamer=print)
    with pytest.raises(ValueError, match=r"stream: expected a function of each step's tokens \(B,\), or None, got True"):
        generate(decoder(), prompts(0), stream=True)
    with pytest.raises(ValueError, match="expected integers"):
        generate(decoder(), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="outside the vocabulary"):
        generate(decoder(), [[1, 99]])
    with pytest.raises(ValueError, match="rows of different lengths; pad them"):
        generate(decoder(), [[1, 2], [3]])


def test_models_without_a_language_models_head_say_so():
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 32, "vocab_size": V}
    for model in (models.create("gpt2", "base", **sizes), bart("base"), bart("sequence_classification")):
        with pytest.raises(TypeError, match=f"{type(model).__name__} cannot generate"):
            model.generate(prompts(0))


def test_each_module_is_in_its_own_mode_again():
    model = decoder().train()
    model.transformer.layers[0].eval()
    modes = [m.training for m in model.modules()]
    generate(model, prompts(0), max_new_tokens=1)
    assert [m.training for m in model.modules()] == modes
    with pytest.raises(ValueError, match="outside the vocabulary"):
        generate(model, [[99]])
    fill_mask(model, [[5, MASK]], MASK)
    assert [m.training for m in model.modules()] == modes


@given(st.integers(1, 3), st.integers(1, 700), st.integers(1, 12), st.booleans(), st.integers(0, 2**32 - 1))
def test_top_indices_sifts_many_scores_as_a_stable_sort_would(rows, width, k, tied, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 3, (rows, width)).astype(np.float32) if tied else rng.standard_normal((rows, width), np.float32)
    scores[rng.random((rows, width)) < 0.2] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(beam.top_indices(scores, min(k, width)), expected)


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


def test_arguments_may_stand_in_the_order_of_the_signature():
    model, prompt = decoder(), prompts(0)
    draw = np.random.default_rng
    named = model.generate(prompt, max_new_tokens=4, do_sample=True, temperature=0.5, top_k=7, rng=draw(0))
    assert np.array_equal(named, model.generate(prompt, None, 4, True, 0.5, 7, rng=draw(0)))


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
@pytest.mark.parametrize("make", [decoder, seq2seq])
def test_the_cache_is_freed_with_the_call_and_needs_no_garbage_collector(make, options, monkeypatch):
    model, caches = make(), []
    made = model.make_cache

    def make_cache(*args, **kwargs):
        cache = made(*args, **kwargs)
        caches.append(weakref.ref(cache))
        return cache

    monkeypatch.setattr(model, "make_cache", make_cache)
    gc.collect()
    gc.disable()
    try:
        model.generate(prompts(0), max_new_tokens=4, **options)
        assert caches and [cache() for cache in caches] == [None] * len(caches)
    finally:
        gc.enable()
