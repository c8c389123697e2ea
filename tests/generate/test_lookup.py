"""Prompt lookup: guesses from earlier text change no token, and save runs of the model where text repeats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.generate.small import EOS, PAD, Letters, V, vary
from tinygrad_llm import models
from tinygrad_llm.generate import Settings, generate
from tinygrad_llm.generate.lookup import lookup, propose
from tinygrad_llm.generate.sampling import sample

FAMILIES = {
    "gpt2": dict(n_layer=2, n_head=2, n_embd=16, n_positions=96, dropout=0.0, bos_token_id=None),
    "llama": dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                  max_position_embeddings=96, bos_token_id=None),
    "t5-small": dict(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=2, dropout=0.0,
                     decoder_start_token_id=PAD),
    "bart-base": dict(d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
                      encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=96, dropout=0.0,
                      decoder_start_token_id=PAD, bos_token_id=None, forced_eos_token_id=EOS),
}  # fmt: skip


def make(family, seed=0, **roles):
    roles = {"vocab_size": V, "pad_token_id": PAD, "eos_token_id": None} | FAMILIES[family] | roles
    return vary(models.create(family, **roles), seed)


def repetitive(seed, length=18):
    rng = np.random.default_rng(seed)
    return np.resize(rng.integers(3, V, rng.integers(2, 6)), length)


def counted(model, monkeypatch):
    """How many ids the model (or its decoder) is given, call by call."""
    seen, forward = [], type(model).forward

    def counting(self, *args, **named):
        ids = named.get("input_ids") if named.get("decoder_input_ids") is None else named["decoder_input_ids"]
        seen.append(np.shape(ids)[1])
        return forward(self, *args, **named)

    monkeypatch.setattr(type(model), "forward", counting)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 200), n=st.integers(1, 12), repeats=st.booleans(), eos=st.booleans(), penalty=st.sampled_from([1.0, 1.3]))
def test_the_tokens_are_those_of_plain_greedy_decoding(family, seed, n, repeats, eos, penalty):
    model = make(family, seed, eos_token_id=EOS if eos else None)
    ids = repetitive(seed) if repeats else np.random.default_rng(seed).integers(3, V, 1 + seed % 9)
    streams = [], []
    options = dict(max_new_tokens=1 + seed % 30, repetition_penalty=penalty)
    plain = generate(model, ids, **options, stream=streams[0].append)
    guessed = generate(model, ids, **options, stream=streams[1].append, prompt_lookup_num_tokens=n)
    assert guessed.dtype == plain.dtype and np.array_equal(guessed, plain)
    assert np.array_equal(streams[0], streams[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_repetition_saves_runs_of_the_model(family, monkeypatch):
    """Where positions count little, greedy decoding of small models falls into a loop, and loops are guessed."""
    model, ids = make(family, 4), repetitive(4)
    for name, p in model.named_parameters():
        if "positions" in name:
            p.data[...] *= 0.1
    plain = generate(model, ids, max_new_tokens=60)
    calls = counted(model, monkeypatch)
    assert np.array_equal(generate(model, ids, max_new_tokens=60, prompt_lookup_num_tokens=8), plain)
    assert len(calls) < 40, calls
    assert max(calls[1:]) == 9


@given(seed=st.integers(0, 100), padding=st.integers(1, 5))
def test_left_padding(seed, padding):
    model = make("gpt2", seed)
    ids = np.pad(repetitive(seed), (padding, 0))
    for mask in (None, (ids != PAD).astype(int)):
        plain = generate(model, ids, attention_mask=mask, max_new_tokens=25)
        assert np.array_equal(generate(model, ids, attention_mask=mask, max_new_tokens=25, prompt_lookup_num_tokens=6), plain)


@pytest.mark.parametrize("place", [1, 7, 20])
def test_stop_strings_end_within_accepted_guesses(place):
    model, ids = make("gpt2", 4), repetitive(4)
    written = Letters().decode(generate(model, ids, max_new_tokens=40)[0, len(ids) :])
    stop = {"stop_strings": written[place : place + 3], "tokenizer": Letters()}
    plain = generate(model, ids, max_new_tokens=40, **stop)
    assert plain.shape[1] <= len(ids) + place + 3
    assert np.array_equal(generate(model, ids, max_new_tokens=40, prompt_lookup_num_tokens=8, **stop), plain)


class Rounding:
    """Bigrams for a model. Runs on several tokens round otherwise: by 1e-6, which turns ties round."""

    padding, source = None, np.empty(0, np.int64)

    def __init__(self, ids, near):
        self.scores = np.random.default_rng(0).normal(size=(V, V)).astype(np.float32)
        for row in self.scores[::2]:
            first, second = np.sort(np.argsort(row)[-2:])
            row[second] = row[first] = row.max()
            row[second] -= near
        self.seen = [int(i) for i in ids[0]]

    def first(self):
        return self.scores[self.seen[-1:]]

    def next(self, tokens):
        self.seen += tokens.tolist()
        return self.first()

    def following(self, ids):
        self.seen += ids.tolist()
        noise = np.linspace(-1e-6, 1e-6, V, dtype=np.float32)
        return self.scores[ids] + (noise if len(ids) > 1 else 0)

    def rewind(self, length):
        assert length <= len(self.seen)
        del self.seen[length:]


@pytest.mark.parametrize("near", [0, 5e-7])
@pytest.mark.parametrize("start", range(V))
def test_a_run_on_many_tokens_decides_nothing_by_its_rounding(start, near):
    ids = np.array([[start]])
    chosen = Settings(max_new_tokens=40, prompt_lookup_num_tokens=5)
    fast, plain = Rounding(ids, near), sample(Rounding(ids, near), ids, Settings(max_new_tokens=40), None)
    assert np.array_equal(lookup(fast, ids, chosen), plain)


def test_the_guess_is_what_followed_the_latest_longest_match():
    a = np.array
    assert propose(a([1, 2, 3, 9, 8, 5, 3, 7, 1, 2, 3]), 3).tolist() == [9, 8, 5], "three tokens before one"
    assert propose(a([1, 2, 5, 1, 2, 6, 1, 2]), 2).tolist() == [6, 1], "the latest of two"
    assert propose(a([4, 1, 2, 3, 1]), 5).tolist() == [2, 3, 1, 2, 3], "a period goes on"
    assert propose(a([7, 7]), 3).tolist() == [7, 7, 7]
    assert propose(a([1, 2, 3]), 4).size == 0
    assert propose(a([1]), 4).size == 0
    assert propose(a([1, 1]), 0).size == 0


@pytest.mark.parametrize("named, message", [
    ({"prompt_lookup_num_tokens": 0}, "prompt_lookup_num_tokens: expected a whole number"),
    ({"prompt_lookup_num_tokens": 2.5}, "prompt_lookup_num_tokens: expected a whole number"),
    ({"prompt_lookup_num_tokens": True}, "prompt_lookup_num_tokens: expected a whole number"),
    ({"prompt_lookup_num_tokens": 3, "do_sample": True}, "do_sample: expected False"),
    ({"prompt_lookup_num_tokens": 3, "num_beams": 2}, "num_beams: expected 1"),
])  # fmt: skip
def test_bad_settings(named, message):
    with pytest.raises(ValueError, match=message):
        generate(make("gpt2"), repetitive(0), **named)


def test_one_prompt_at_a_time():
    with pytest.raises(ValueError, match="expected one prompt, got 2"):
        generate(make("gpt2"), np.stack([repetitive(0)] * 2), prompt_lookup_num_tokens=3)
