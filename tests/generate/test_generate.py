"""Generation: caches, padding and vectors in place of ids change nothing; what goes in, and what is refused."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tests.generate.small import EOS, MASK, PAD, V, bart, decoder, prompts, seq2seq, vary
from tinygrad_llm import models
from tinygrad_llm.generate import fill_mask, generate
from tinygrad_llm.generate.decoding import Seq2Seq


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
