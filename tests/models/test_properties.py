"""What holds for every model whatever its size: causality, padding, caches, sharing, and that each family can learn."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm.autograd.state import local as engine

COMMON = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, vocab_size=23)
DECODERS = {
    "gpt": dict(COMMON, max_position_embeddings=16),
    "gpt2": dict(COMMON, max_position_embeddings=16),
    "gpt3-125m": dict(COMMON, max_position_embeddings=16, band=3),
    "llama-7b": dict(COMMON, num_attention_heads=6, num_key_value_heads=2, intermediate_size=17),
    "mistral-7b": dict(COMMON, num_key_value_heads=1, intermediate_size=17, sliding_window=3),
    "qwen2-0.5b": dict(COMMON, num_key_value_heads=1, intermediate_size=17),
    "qwen3-0.6b": dict(COMMON, num_key_value_heads=1, intermediate_size=17, head_dim=4),
}
ENCODERS = {
    "bert-base": dict(COMMON, intermediate_size=17, max_position_embeddings=16),
    "roberta-base": dict(COMMON, intermediate_size=17, max_position_embeddings=18),
    "albert-base": dict(COMMON, intermediate_size=17, max_position_embeddings=16, embedding_size=7),
    "electra-small": dict(COMMON, intermediate_size=17, max_position_embeddings=16, embedding_size=7),
}
SEQ2SEQ = {
    "transformer-base": dict(COMMON, decoder_layers=2, d_ff=17, label_smoothing=0.0),
    "bart-base": dict(COMMON, decoder_layers=1, decoder_attention_heads=3, encoder_ffn_dim=17, decoder_ffn_dim=9,
                      max_position_embeddings=16),
    "t5-small": dict(COMMON, d_kv=5, d_ff=17, num_decoder_layers=1, relative_attention_num_buckets=8,
                     relative_attention_max_distance=12),
    "t5-v1_1-small": dict(COMMON, d_kv=5, d_ff=17, num_decoder_layers=1, relative_attention_num_buckets=8,
                          relative_attention_max_distance=12),
}  # fmt: skip
LM = {**DECODERS, **SEQ2SEQ}


def small(name, head=None, seed=0, dtype=np.float64, **more):
    """A preset shrunk to a few thousand parameters, without dropout, its values large enough that nothing is near zero."""
    sizes = {**DECODERS, **ENCODERS, **SEQ2SEQ}[name]
    rng = np.random.default_rng(seed)
    model = tg.models.create(name, head, rng=rng, dtype=dtype, **{**sizes, "dropout": 0.0, **more})
    for value in model.parameters():
        if value.ndim > 1:
            value.data[...] = 0.3 * rng.standard_normal(value.shape)
    return model.eval()


def states(model, ids, mask=None, positions=None):
    """The states that predict: a decoder's for ids, a seq2seq decoder's for ids after a fixed source."""
    with tg.no_grad():
        if model.is_encoder_decoder:
            source = np.tile(np.arange(4, 10), (len(ids), 1))
            return model(input_ids=source, decoder_input_ids=ids, decoder_attention_mask=mask).logits.data
        keywords = {} if positions is None else {"position_ids": positions}
        return model(input_ids=ids, attention_mask=mask, **keywords).logits.data


@pytest.mark.parametrize("name", LM)
@given(seed=st.integers(0, 2**32 - 1), T=st.integers(2, 12), data=st.data())
def test_what_follows_changes_nothing_before_it(name, seed, T, data):
    t = data.draw(st.integers(1, T - 1), label="first changed position")
    rng = np.random.default_rng(seed)
    model = small(name, seed=seed % 7)
    ids = rng.integers(4, 23, (2, T))
    changed = ids.copy()
    changed[:, t:] = rng.integers(4, 23, (2, T - t))
    np.testing.assert_allclose(states(model, ids)[:, :t], states(model, changed)[:, :t], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS])
@given(seed=st.integers(0, 2**32 - 1), T=st.integers(1, 8), left=st.integers(0, 3), right=st.integers(0, 3))
def test_padding_of_any_amount_and_content_changes_no_real_position(name, seed, T, left, right):
    rng = np.random.default_rng(seed)
    model = small(name, "masked_lm" if name in ENCODERS else None, seed=seed % 7)
    ids = rng.integers(4, 23, (1, T))
    pad = lambda n: rng.integers(4, 23, (1, n)) if "roberta" not in name else np.full((1, n), 1)  # its positions count real tokens
    padded = np.concatenate([pad(left), ids, pad(right)], axis=1)
    mask = np.concatenate([np.zeros((1, left)), np.ones((1, T)), np.zeros((1, right))], axis=1).astype(int)
    places = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    with tg.no_grad():
        plain = model(input_ids=ids).logits.data
        keywords = {} if "roberta" in name else {"position_ids": places}
        shown = model(input_ids=padded, attention_mask=mask, **keywords).logits.data
    np.testing.assert_allclose(shown[:, left : left + T], plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SEQ2SEQ)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 5))
def test_padding_the_source_changes_no_target(name, seed, n):
    rng = np.random.default_rng(seed)
    model = small(name, seed=seed % 7)
    source, target = rng.integers(4, 23, (2, 6)), rng.integers(4, 23, (2, 5))
    padded = np.concatenate([source, rng.integers(4, 23, (2, n))], axis=1)
    mask = np.concatenate([np.ones((2, 6)), np.zeros((2, n))], axis=1)
    with tg.no_grad():
        plain = model(input_ids=source, decoder_input_ids=target).logits.data
        shown = model(input_ids=padded, attention_mask=mask, decoder_input_ids=target).logits.data
    np.testing.assert_allclose(shown, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LM)
@given(
    seed=st.integers(0, 2**32 - 1), pieces=st.lists(st.integers(1, 4), min_size=2, max_size=4), capacity=st.sampled_from([1, 3, 64])
)
def test_cached_decoding_is_uncached_decoding(name, seed, pieces, capacity):
    """In pieces of any length, with a cache that must grow: within 1e-12 in float64 (products sum in another order)."""
    rng = np.random.default_rng(seed)
    model = small(name, seed=seed % 7)
    ids = rng.integers(4, 23, (2, sum(pieces)))
    whole = states(model, ids)
    cache, got, start = model.make_cache(capacity), [], 0
    with tg.no_grad():
        encoded = model.encode(np.tile(np.arange(4, 10), (2, 1))) if model.is_encoder_decoder else None
        for n in pieces:
            new = ids[:, start : start + n]
            start += n
            if encoded is not None:
                out = model(encoder_outputs=encoded, decoder_input_ids=new, past_key_values=cache)
            else:
                out = model(input_ids=new, past_key_values=cache)
            got.append(out.logits.data)
    assert cache.length == sum(pieces)
    np.testing.assert_allclose(np.concatenate(got, axis=1), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gpt2", *SEQ2SEQ])
def test_a_cache_that_was_asked_for_goes_on_where_it_is(name):
    model, ids = small(name), np.array([[4, 5, 6, 7]])
    source = {"input_ids": ids} if model.is_encoder_decoder else {}
    call = lambda ids, **more: model(**source, **{"decoder_input_ids" if source else "input_ids": ids}, use_cache=True, **more)
    with tg.no_grad():
        first = call(ids[:, :3])
        second = call(ids[:, 3:], past_key_values=first.past_key_values)
        whole = call(ids)
    assert second.past_key_values is first.past_key_values and second.past_key_values.length == whole.past_key_values.length == 4
    np.testing.assert_allclose(second.logits.data[:, 0], whole.logits.data[:, 3], rtol=0, atol=1e-12)


def test_what_a_decoder_reads_of_its_labels():
    shift, config = tg.models.seq2seq.shift_right, small("bart-base").config
    start, pad = config.decoder_start_token_id, config.pad_token_id
    got = shift([[5, -100, 7, -100], [8, 9, -100, 4]], config)
    np.testing.assert_array_equal(got, [[start, 5, pad, 7], [start, 8, 9, pad]])
    for name in ("decoder_start_token_id", "pad_token_id"):
        with pytest.raises(tg.models.ConfigError, match="decoder_start_token_id and pad_token_id must be set"):
            shift([[5]], config.replace(**{name: None}))
    with pytest.raises(ValueError, match=r"labels: expected shape \(batch, positions\), got \(2,\)"):
        shift([5, 6], config)


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_what_was_passed_is_called_wrong_not_what_the_decoder_makes_of_it(name):
    model, ids = small(name), [[4, 5, 6]]
    for labels, error, message in (
        ([[99, 5]], ValueError, "^labels: 99 is outside"), ([[-1, 5]], ValueError, "^labels: -1 is outside"),
        ([[4.0, 5.0]], TypeError, "^labels: expected integers"), ([4, 5], ValueError, "^labels: expected shape"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            model(ids, labels=labels)
    for wrong in ([4, 5], [[4, 5], [6]]):
        with pytest.raises(ValueError, match="^input_ids: "):
            model(wrong, **({} if name == "bart-base" else {"decoder_input_ids": ids}))


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_both_sides_have_as_many_rows_and_the_lens_sees_what_each_begins_with(name):
    model, seen = small(name), set()

    class Places:
        wants = staticmethod(lambda name: name == "embed")
        see = staticmethod(lambda name, value: seen.add(engine.path[-1]) or value)

    with tg.nn.looking_through(Places()):
        model(input_ids=[[4, 5]], decoder_input_ids=[[6]])
    assert seen == {"encoder", "decoder"}
    with pytest.raises(ValueError, match="^decoder_input_ids: 2 rows, but the encoder saw 1"):
        model(input_ids=[[4, 5]], decoder_input_ids=[[6], [7]])
    limit = model.without_head().positions_limit()
    assert model.make_cache(10**4).capacity == (limit or 10**4)


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_the_encoders_outputs_may_be_a_tuple(name):
    model, source, target = small(name), np.arange(4, 10)[None], np.array([[7, 8]])
    encoded = model.encode(source, output_hidden_states=True)
    out = model(encoder_outputs=(encoded.last_hidden_state, encoded.hidden_states), decoder_input_ids=target)
    np.testing.assert_array_equal(out.logits.data, model(input_ids=source, decoder_input_ids=target).logits.data)
    assert out.encoder_hidden_states is encoded.hidden_states and out.encoder_attentions is None


@pytest.mark.parametrize("name", ["gpt", "gpt2", "gpt3-125m"])
def test_the_type_of_a_token_is_one_more_token_in_its_place(name):
    model, ids, types = small(name), np.arange(4, 10)[None], np.array([[1, 1, 1, 2, 2, 1]])
    typed = model(input_ids=ids, token_type_ids=types).logits.data
    base = model.transformer
    base.positions.weight.data[:6] += base.tokens.weight.data[types[0]]
    np.testing.assert_allclose(model(input_ids=ids).logits.data, typed, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="token_type_ids: expected shape"):
        model(input_ids=ids, token_type_ids=[[1]])
    with pytest.raises(TypeError, match="token_type_ids: LlamaModel has no types"):
        small("llama-7b")(input_ids=ids, token_type_ids=ids)


class Lens:
    """Logits as many times as large."""

    def __init__(self, times):
        self.times = times

    def wants(self, name):
        return name == "logits"

    def see(self, name, value):
        return value * self.times


def test_the_first_transformer_scales_its_embeddings_and_smooths_labels_in_training_alone():
    model, ids = small("transformer-base", label_smoothing=0.2), np.arange(4, 10)[None]
    x = model.embed(ids)
    np.testing.assert_allclose(x.data, model.tokens.weight.data[ids] * 12**0.5)
    np.testing.assert_allclose(model.encoder.enter(x, tg.nn.Mask())[0].data, x.data + tg.nn.sinusoidal(6, 12, np.float64))
    scores = model(input_ids=ids, labels=ids).logits.data
    costs = np.log(np.exp(scores).sum(-1, keepdims=True)) - scores
    plain = costs[0, np.arange(6), ids[0]].mean()
    assert model(input_ids=ids, labels=ids).loss.item() == pytest.approx(plain)
    smoothed = pytest.approx(0.8 * plain + 0.2 * costs.mean())
    assert model.train()(input_ids=ids, labels=ids).loss.item() == smoothed
    with tg.nn.looking_through(Lens(1.0)):  # the loss of logits that somebody looks at
        assert model(input_ids=ids, labels=ids).loss.item() == smoothed


@pytest.mark.parametrize(("name", "scale"), [("t5-small", 12**-0.5), ("t5-v1_1-small", 1.0)])
def test_t5_scales_what_its_tied_matrix_reads(name, scale):
    model, ids = small(name), np.arange(4, 10)[None]
    out = model(input_ids=ids, decoder_input_ids=ids)
    matrix = model.tokens.weight if model.lm_head is None else model.lm_head.weight
    np.testing.assert_allclose(out.logits.data, out.last_hidden_state.data * scale @ matrix.data.T, rtol=1e-12)


def test_electras_pair_is_one_loss():
    """The discriminator judges what the generator made of the masked tokens, and counts as often as the config says."""
    model, ids = small("electra-small", "joint", discriminator_weight=3.0), np.arange(4, 16).reshape(2, 6)
    masked = np.arange(6) % 3 == 1
    real = np.array([[1] * 6, [1] * 4 + [0] * 2])
    out = model(np.where(masked, 3, ids), real, labels=np.where(masked, ids, -100), rng=np.random.default_rng(0))
    assert out.loss.item() == pytest.approx(out.generator_loss.item() + 3.0 * out.discriminator_loss.item())
    np.testing.assert_array_equal(out.corrupted_ids[:, ~masked], ids[:, ~masked])
    judged = model.discriminator(out.corrupted_ids, real, labels=(out.corrupted_ids != ids).astype(int))
    assert out.discriminator_loss.item() == pytest.approx(judged.loss.item()) and (out.corrupted_ids != ids).any()
    both = [model.discriminator(ids, form, labels=ids % 2).loss.item() for form in (None, np.ones((2, 6, 6), int))]
    assert both[0] == pytest.approx(both[1])
    x, y = judged.logits.data[real == 1], (out.corrupted_ids != ids)[real == 1]
    assert judged.loss.item() == pytest.approx(np.mean(np.log1p(np.exp(x)) - x * y))
    assert model.without_head() is model.discriminator.electra
    assert model.generator.electra.positions is model.discriminator.electra.positions
    with pytest.raises(ValueError, match=r"^labels: 23 is outside \[0, 23\)"):
        model(ids, labels=np.full_like(ids, 23))
    plain = tg.models.preset_config("electra-small")
    assert (plain.discriminator_weight, plain.for_generator().hidden_size) == (50.0, 64)
    least = plain.replace(hidden_size=21, num_attention_heads=3, intermediate_size=30).for_generator()
    assert (least.hidden_size, least.num_attention_heads, least.intermediate_size) == (5, 1, 7)  # rounded down, but one head
    generator = tg.models.preset_config("electra-base").for_generator()
    assert (generator.hidden_size, generator.num_attention_heads, generator.intermediate_size) == (256, 4, 1024)


@pytest.mark.parametrize("watched", [False, True])
def test_electras_guesses_are_drawn_from_what_its_generator_says(watched):
    """The largest of logits and Gumbel noise is a draw from their softmax; the kinds of segments are heard by both."""
    model, ids = small("electra-small", "joint"), np.arange(4, 16).reshape(2, 6)
    masked, types = np.arange(6) % 2 == 1, np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]])
    given, labels = np.where(masked, 3, ids), np.where(masked, ids, -100)
    real = np.array([[1] * 6, [1] * 5 + [0]])
    call = lambda: model(given, real, labels=labels, rng=np.random.default_rng(1), token_type_ids=types)
    if watched:
        with tg.nn.looking_through(Lens(3.0)):
            out = call()
    else:
        out = call()
    guess = model.generator(given, real, labels=labels, token_type_ids=types)
    scores = guess.logits.data * (3.0 if watched else 1.0)
    np.testing.assert_allclose(out.generator_logits.data, scores, rtol=1e-12)
    drawn = (scores[:, masked].reshape(6, 23) + np.random.default_rng(1).gumbel(size=(6, 23))).argmax(axis=-1)
    np.testing.assert_array_equal(out.corrupted_ids[:, masked].reshape(-1), drawn)
    if not watched:
        assert out.generator_loss.item() == pytest.approx(guess.loss.item())
        judged = model.discriminator(out.corrupted_ids, real, token_type_ids=types)
        np.testing.assert_allclose(out.logits.data, judged.logits.data, rtol=1e-12)


SIDES = ("encoder", "decoder")
ATTENTIONS = ["encoder.layers.*.attn", "decoder.layers.*.attn", "decoder.layers.*.cross"]


@pytest.mark.parametrize(("name", "rate", "places"), [
    ("gpt", "embd_pdrop", ["drop"]), ("gpt2", "embd_pdrop", ["drop"]), ("gpt2", "attn_pdrop", ["layers.*.attn"]),
    ("gpt", "attn_pdrop", ["layers.*.attn"]), ("gpt", "resid_pdrop", ["layers.*.drop"]), ("gpt2", "resid_pdrop", ["layers.*.drop"]),
    ("llama-7b", "attention_dropout", ["layers.*.attn"]),
    ("bert-base", "hidden_dropout_prob", ["drop", "layers.*.drop"]), ("bert-base", "attention_probs_dropout_prob", ["layers.*.attn"]),
    ("roberta-base", "hidden_dropout_prob", ["drop", "layers.*.drop"]),
    ("albert-base", "hidden_dropout_prob", ["drop", "shared.*.drop"]), ("albert-base", "attention_probs_dropout_prob", ["shared.*.attn"]),
    ("electra-small", "hidden_dropout_prob", ["drop", "layers.*.drop"]),
    ("transformer-base", "dropout", [f"{side}.{place}" for side in SIDES for place in ("drop", "layers.*.drop")]),
    ("bart-base", "dropout", [f"{side}.{place}" for side in SIDES for place in ("drop", "layers.*.drop")]),
    ("bart-base", "attention_dropout", ATTENTIONS), ("bart-base", "activation_dropout", [f"{side}.layers.*.mlp.drop" for side in SIDES]),
    ("t5-small", "dropout_rate", ATTENTIONS + [f"{s}.{place}" for s in SIDES for place in ("drop", "layers.*.drop", "layers.*.mlp.drop")]),
])  # fmt: skip
def test_each_rate_of_dropout_acts_in_its_places(name, rate, places):
    found, passed, model = set(), set(), small(name, "base", **{rate: 0.25})
    for path, part in model.named_modules():
        own = part.p if isinstance(part, tg.nn.Dropout) else part.dropout if isinstance(part, tg.nn.MultiHeadAttention) else None
        place = re.sub(r"\.\d+\.", ".*.", path)
        found |= {place} if own == 0.25 else set()
        part.register_forward_hook(lambda module, args, out, place=place: passed.add(place))
    model(**{key: np.array([[4, 5]]) for key in ("input_ids", "decoder_input_ids")[: 1 + model.is_encoder_decoder]})
    assert found == set(places) <= passed


@pytest.mark.parametrize("name", ENCODERS)
def test_a_classifier_has_its_own_dropout_where_the_config_gives_one(name):
    key = "classifier_dropout_prob" if name == "albert-base" else "classifier_dropout"
    for head in ("sequence_classification", "token_classification"):
        for rate in (0.5, 0.0):
            model = small(name, head, hidden_dropout_prob=0.25, **{key: rate})
            drop = model.drop if "drop" in vars(model) else model.classifier.drop
            assert drop.p == rate
        if name != "albert-base":  # whose classifier has a rate of its own always
            plain = small(name, head, hidden_dropout_prob=0.25)
            assert (plain.drop if "drop" in vars(plain) else plain.classifier.drop).p == 0.25


def test_alberts_order_of_sentences_is_a_classifier_like_any_other():
    model = small("albert-base", "pretraining", num_labels=3, classifier_dropout_prob=0.5)
    assert model.drop.p == 0.5 and model(np.array([[4, 5, 6]])).sop_logits.shape == (1, 3)


@pytest.mark.parametrize(("name", "head", "output"), [
    ("bert-base", "sequence_classification", "logits"), ("bert-base", "token_classification", "logits"),
    ("gpt2", "token_classification", "logits"), ("albert-base", "pretraining", "sop_logits"),
])  # fmt: skip
def test_dropout_stands_before_the_classifier(name, head, output):
    model, ids = small(name, head), np.array([[4, 5, 6]])
    last = model.order if head == "pretraining" else model.classifier
    plain = model(ids)[output].data
    model.drop.register_forward_hook(lambda module, args, out: out * 3.0)
    np.testing.assert_allclose(model(ids)[output].data - last.bias.data, 3.0 * (plain - last.bias.data), rtol=1e-9)


def test_dropout_stands_before_both_products_of_a_dense_classifier():
    classifier = tg.models.heads.DenseClassifier(5, 3, "tanh", 0.5).astype(np.float64).eval()
    x = np.random.default_rng(0).standard_normal((2, 5))
    classifier.drop.register_forward_hook(lambda module, args, out: out * 3.0)
    np.testing.assert_allclose(classifier(tg.Tensor(x)).data, classifier.out(tg.tanh(classifier.dense(tg.Tensor(x * 3.0))) * 3.0).data)


@pytest.mark.parametrize(("name", "key"), [("bert-base", "next_sentence_label"), ("albert-base", "sentence_order_label")])
def test_the_loss_of_pretraining_is_of_the_labels_that_are_given(name, key):
    model, ids = small(name, "pretraining"), np.arange(4, 16).reshape(2, 6)
    words, order = {"labels": np.where(ids % 3, -100, ids)}, {key: np.array([0, 1])}
    alone = [model(ids, **given).loss.item() for given in (words, order)]
    assert model(ids).loss is None and min(alone) > 0
    assert model(ids, **words, **order).loss.item() == pytest.approx(sum(alone), rel=1e-12)


def test_a_reordered_cache_continues_the_other_row():
    model = small("gpt2")
    ids = np.array([[4, 5, 6], [9, 8, 7]])
    cache = model.make_cache()
    with tg.no_grad():
        model(input_ids=ids, past_key_values=cache)
        cache.reorder([1, 1])
        got = model(input_ids=[[10], [10]], past_key_values=cache).logits.data
        want = model(input_ids=[[9, 8, 7, 10]]).logits.data[:, -1]
    np.testing.assert_allclose(got[:, 0], np.repeat(want, 2, axis=0), rtol=0, atol=1e-12)


def test_caching_with_gradients_says_no():
    model = small("gpt2")
    cache = model(input_ids=[[4, 5]], use_cache=True).past_key_values
    with pytest.raises(RuntimeError, match="no_grad"):
        model(input_ids=[[6]], past_key_values=cache)
    with pytest.raises(TypeError, match=r"past_key_values: expected a cache, of model\.make_cache\(\) .*; got a tuple"):
        model(input_ids=[[6]], past_key_values=((np.ones((1, 2, 2, 6)),) * 2,) * 2)
    got = model.requires_grad_(False)(input_ids=[[6]], past_key_values=cache).logits.data
    np.testing.assert_allclose(got, model(input_ids=[[4, 5, 6]]).logits.data[:, -1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gpt2", "bart-base"])
def test_positions_in_the_cache_count(name):
    """16 of them there are: of two more after 15 the model says so, by whatever name they come, and one more it reads."""
    model = small(name)
    side = "decoder_" if model.is_encoder_decoder else ""
    ids = np.arange(4, 21)[None]
    vectors = model.without_head().tokens(ids).data
    with tg.no_grad():
        more = {"encoder_outputs": model.encode(ids[:, :3])} if side else {}
        cache = model.make_cache(64)
        model(**{f"{side}input_ids": ids[:, :15]}, past_key_values=cache, **more)
        for key, value in ((f"{side}input_ids", ids), (f"{side}inputs_embeds", vectors)):
            with pytest.raises(ValueError, match=f"^{key}: 17 positions, the model has 16"):
                model(**{key: value[:, 15:]}, past_key_values=cache, **more)
        assert model(**{f"{side}input_ids": ids[:, 15:16]}, past_key_values=cache, **more).logits.shape == (1, 1, 23)


@pytest.mark.parametrize("name", [*ENCODERS, "gpt", "gpt2", "gpt3-125m", "bart-base"])
def test_all_positions_can_be_read_and_no_more(name):
    """16 of them: RoBERTa's table has two rows more, which it leaves unused, and so has BART's, beside what its config says."""
    model, ids = small(name), np.arange(4, 21)[None]
    longest = model(ids[:, :16]).last_hidden_state.shape[1]
    assert longest == 16
    with pytest.raises(ValueError, match="^input_ids: 17 positions, the model has 16"):
        model(ids)


@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS])
def test_positions_may_be_given(name):
    """Those that a model would count itself change nothing; each row may have its own."""
    model, ids = small(name), np.array([[4, 5, 6, 7], [9, 8, 7, 6]])
    states = lambda *args, **more: model.without_head()(*args, **more).last_hidden_state.data
    first = 2 if "roberta" in name else 0
    plain, places = states(ids), first + np.arange(4)
    for rows in (places, places[None], np.tile(places, (2, 1))):
        np.testing.assert_array_equal(states(ids, position_ids=rows), plain)
    apart = np.stack([places, places[::-1]])
    got = states(ids, position_ids=apart)
    np.testing.assert_allclose(got[1:], states(ids[1:], position_ids=places[::-1]), rtol=0, atol=1e-12)
    assert np.abs(got[1] - plain[1]).max() > 1e-3


def test_alberts_groups_run_one_after_another_and_are_stored_apart():
    model = small("albert-base", "base", num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2)
    assert [model.shared.index(block) for block in model.blocks()] == [0, 1, 0, 1, 2, 3, 2, 3]
    places = [model.weight_names()[f"shared.{i}.mlp.up.weight"].name for i in range(4)]
    assert places == [f"encoder.albert_layer_groups.{g}.albert_layers.{i}.ffn.weight" for g in (0, 1) for i in (0, 1)]


@pytest.mark.parametrize(("name", "act"), [("bert-base", "relu"), ("albert-base", "relu"), ("roberta-base", "gelu"), ("electra-small", "gelu")])
def test_what_activates_the_head_of_a_masked_language_model(name, act):
    """The config's function, but in RoBERTa's and ELECTRA's code GELU always."""
    model, x = small(name, "masked_lm", hidden_act="relu"), tg.Tensor(np.linspace(-2, 2, 9))
    np.testing.assert_array_equal(model.head.act(x).data, tg.nn.activation(act)(x).data)


def test_electras_discriminator_has_the_configs_function_and_two_kinds_of_labels():
    model, ids = small("electra-small", "pretraining", hidden_act="relu"), np.array([[4, 5, 6]])
    inner = np.maximum(model.dense(model.electra(ids).last_hidden_state).data, 0.0)
    np.testing.assert_allclose(model(ids).logits.data, model.out(tg.Tensor(inner)).data[..., 0], rtol=1e-12)
    with pytest.raises(ValueError, match=r"^labels: 2 is outside \[0, 2\)"):
        model(ids, labels=[[0, 1, 2]])


@pytest.mark.parametrize(("name", "head"), [
    *((name, "masked_lm") for name in ENCODERS), ("gpt", None), ("gpt2", None), ("gpt3-125m", None), ("llama-7b", None),
])  # fmt: skip
def test_every_norm_has_the_configs_eps(name, head):
    key = "rms_norm_eps" if name.startswith("llama") else "layer_norm_eps"
    norms = [part for part in small(name, head, **{key: 0.125}).modules() if isinstance(part, tg.nn.LayerNorm | tg.nn.RMSNorm)]
    assert len(norms) > 2 and {part.eps for part in norms} == {0.125}


def numeric(loss, value, index, eps=1e-6):
    kept = value.data[index]
    value.data[index] = kept + eps
    up = loss().item()
    value.data[index] = kept - eps
    down = loss().item()
    value.data[index] = kept
    return (up - down) / (2 * eps)


@pytest.mark.parametrize(("name", "head", "parameter"), [
    ("albert-base", "masked_lm", "albert.shared.0.attn.q.weight"),  # used by every layer
    ("albert-base", "masked_lm", "albert.shared.0.mlp_norm.bias"),
    ("gpt2", None, "transformer.tokens.weight"),  # looked up, and the output matrix
    ("t5-small", None, "tokens.weight"),  # both sides and the output
    ("t5-small", None, "encoder.relative.weight"),  # the scores of every layer
    ("transformer-base", None, "tokens.weight"),
    ("electra-small", "joint", "discriminator.electra.tokens.weight"),  # two models
])  # fmt: skip
def test_shared_parameters_collect_every_contribution(name, head, parameter):
    model = small(name, head, pad_token_id=None) if head else small(name)  # padding's row gets no gradient, by design
    ids = np.array([[4, 5, 6, 7, 8], [9, 4, 11, 5, 6]])
    labels = np.where(np.arange(5) % 2 == 0, ids, -100) if head else ids
    rng = (lambda: {"rng": np.random.default_rng(3)}) if head == "joint" else dict
    loss = lambda: model(input_ids=ids, labels=labels, **rng()).loss
    loss().backward()
    value = dict(model.named_parameters())[parameter]
    flat = np.random.default_rng(0).choice(value.size, min(8, value.size), replace=False)
    for place in flat:
        index = np.unravel_index(place, value.shape)
        assert value.grad.data[index] == pytest.approx(numeric(loss, value, index), rel=1e-5, abs=1e-7), index


@pytest.mark.parametrize("name", [*DECODERS, *SEQ2SEQ, *ENCODERS])
def test_eight_examples_are_learnt_by_heart(name):
    head = {"electra-small": "joint"}.get(name, "masked_lm") if name in ENCODERS else None
    rng = np.random.default_rng(0)
    model = tg.models.create(name, head, rng=rng, dropout=0.0, **{**{**LM, **ENCODERS}[name], "hidden_size": 24})
    ids = rng.integers(4, 23, (8, 6))
    inputs = {"input_ids": ids, "labels": ids}
    if name in ENCODERS:
        masked = np.arange(6) % 3 == 1
        inputs = {"input_ids": np.where(masked, 3, ids), "labels": np.where(masked, ids, -100)}
        inputs["input_ids"][:, 0] = np.arange(8) + 4  # so that the rows can be told apart
    optimizer = tg.optim.Adam(list(model.parameters()), lr=1e-2)
    model.train()
    first = None
    for _ in range(300):
        out = model(**inputs)
        loss = out.loss if head != "joint" else out.generator_loss + out.discriminator_loss
        first = loss.item() if first is None else first
        if loss.item() < min(0.1, 0.1 * first):
            break
        model.zero_grad()
        loss.backward()
        optimizer.step()
    final = loss.item()
    assert final < 0.25 * first and (final < 0.2 or head == "joint"), (first, final)


def test_an_output_is_asked_for_its_fields_as_a_mapping_is():
    out = small("gpt2")(np.arange(4, 10)[None], output_attentions=True)
    assert list(out) == out.keys() == ["logits", "last_hidden_state", "attentions"]
    assert "logits" in out and "loss" not in out and 0 not in out
    assert dict(out)["logits"] is out.logits


def test_logits_of_the_last_positions_alone():
    model = tg.models.create("gpt2", n_embd=32, n_head=2, n_layer=1, vocab_size=19, n_positions=16).eval()
    ids = np.arange(14).reshape(2, 7)
    whole = model(ids).logits.data
    for keep in (1, 3, 7, 9):
        np.testing.assert_allclose(model(ids, logits_to_keep=keep).logits.data, whole[:, -keep:], rtol=1e-6, atol=1e-6)
    for wrong in (dict(logits_to_keep=-1), dict(logits_to_keep=2, labels=ids)):
        with pytest.raises(ValueError, match="logits_to_keep"):
            model(ids, **wrong)


class Doubled(tg.nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2.0


@pytest.mark.parametrize("part", ["", "head.dense."])
@pytest.mark.parametrize("change", [
    lambda ps: [setattr(p, "data", 2 * p.data) for p in ps],  # given other arrays
    lambda ps: tg.optim.SGD(ps, lr=1.0).step(),  # moved, then written
    lambda ps: [p.data.__imul__(2) for p in ps],
])  # fmt: skip
def test_logits_read_after_their_parameters_changed_say_so(change, part):
    model, ids = small("bert-base", head="masked_lm"), np.arange(4, 10)[None]
    parts = [p for name, p in model.named_parameters() if name.startswith(part)]
    out, moved = (model(input_ids=ids, labels=ids) for _ in range(2))
    out.loss.backward()
    tg.optim.SGD(parts, lr=1.0)
    assert moved.logits.shape == (1, 6, model.config.vocab_size)  # elsewhere, but the same
    change(parts)
    with pytest.raises(RuntimeError, match="read them before optimizer.step"):
        _ = out.logits


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(
    ("name", "head", "place"),
    [("gpt2", None, "lm_head"), ("llama-7b", None, "lm_head"), ("t5-v1_1-small", None, "lm_head"),
     ("bert-base", "masked_lm", "decoder")],
)  # fmt: skip
def test_an_output_layer_is_a_module_like_any_other(name, head, place, labelled):
    """It may have a bias, a hook, a forward of its own, and all of them are heard, by the loss too."""
    model = small(name, head, tie_word_embeddings=False)
    holder = model if place == "lm_head" else model.head
    layer = getattr(holder, place)
    ids = np.arange(12).reshape(2, 6)
    inputs = {"input_ids": ids, **({"decoder_input_ids": ids} if model.is_encoder_decoder else {})}
    if labelled:
        inputs["labels"] = ids

    def loss_of(logits):
        moved = logits[:, :-1] if name in DECODERS else logits
        return tg.functional.cross_entropy(moved.reshape(-1, 23), (ids[:, 1:] if name in DECODERS else ids).reshape(-1)).item()

    def check(expected):
        out = model(**inputs)
        np.testing.assert_allclose(out.logits.data, expected, rtol=1e-12)
        if labelled:
            assert out.loss.item() == pytest.approx(loss_of(tg.Tensor(expected)), rel=1e-10)

    plain = model(**inputs).logits.data
    handle = layer.register_forward_hook(lambda module, args, out: out * 3.0)
    check(plain * 3)
    handle.remove()
    other = Doubled(*layer.weight.shape[::-1], bias=layer.bias is not None)
    other.astype(np.float64).load_state_dict(layer.state_dict())
    setattr(holder, place, other)
    check(plain * 2)
    with_bias = tg.nn.Linear(*layer.weight.shape[::-1]).astype(np.float64)
    with_bias.weight.data[...] = layer.weight.data
    with_bias.bias.data[...] = np.arange(23) + (layer.bias.data if layer.bias is not None else 0.0)
    setattr(holder, place, with_bias)
    check(plain + np.arange(23))


class Alone(tg.nn.Module):
    """A part of one's own that returns its Tensor, or the Tensor and what blocks return with it."""

    def __init__(self, more=()):
        self.linear, self.more = tg.nn.Linear(12, 12).astype(np.float64), more

    def forward(self, x, **kwargs):
        return (self.linear(x), *self.more) if self.more else self.linear(x)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("part, more", [("attn", (None,)), ("block", ((None, None),))])
@pytest.mark.parametrize("name", ["gpt2", "bert-base"])
def test_a_part_of_ones_own_may_return_its_tensor_alone(name, part, more, recompute):
    """Two rows would pass for an output and its pattern."""
    model, alone, ids = small(name), Alone(), np.arange(4, 12).reshape(2, 4)
    layers, outputs = model.without_head().layers, []
    model.recompute = recompute
    for own in (alone, Alone(more)):
        own.linear = alone.linear
        if part == "attn":
            layers[0].attn = own
        else:
            layers[0] = own
        outputs.append(model(input_ids=ids).last_hidden_state.data)
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("name, head", [("gpt2", None), ("bert-base", "masked_lm"), ("t5-small", None)])
def test_another_module_may_stand_in_the_token_tables_place(name, head):
    class Table(tg.nn.Module):
        def __init__(self, weight):
            self.weight = weight

        def forward(self, ids):
            return tg.functional.embedding(ids, self.weight)

    model, ids = small(name, head), np.arange(4, 12).reshape(2, 4)
    inputs = {"input_ids": ids, "labels": ids}
    expected, base = model(**inputs).loss.item(), model.without_head()
    base.tokens = Table(base.tokens.weight)
    assert model(**inputs).loss.item() == expected


def test_a_part_may_be_a_function_in_generation_too():
    model, ids = small("gpt2"), np.arange(4, 12).reshape(2, 4)
    block = model.transformer.layers[0]
    block.mlp, block.mlp_norm, block.drop = (lambda x: x * 0.0), (lambda x: x), (lambda x: x)
    written = model.generate(ids, max_new_tokens=3, eos_token_id=-1)
    for length in (4, 5, 6):
        with tg.no_grad():
            logits = model(input_ids=written[:, :length]).logits.data
        np.testing.assert_array_equal(logits[:, -1].argmax(-1), written[:, length])


def test_an_output_layers_bias_is_added_to_that_of_the_model():
    model, ids = small("bart-base"), np.arange(4, 16).reshape(2, 6)
    model.logits_bias = np.random.default_rng(1).standard_normal((1, 23))
    plain = model(input_ids=ids, labels=ids).logits.data
    layer = tg.nn.Linear(12, 23).astype(np.float64)
    layer.weight.data[...], layer.bias.data[...] = model.model.tokens.weight.data, np.arange(23)
    model.lm_head = layer
    for _ in range(2):
        out = model(input_ids=ids, labels=ids)
        loss = tg.functional.cross_entropy(tg.Tensor(plain + np.arange(23)).reshape(-1, 23), ids.reshape(-1))
        np.testing.assert_allclose(out.logits.data, plain + np.arange(23), rtol=1e-12)
        assert out.loss.item() == pytest.approx(loss.item(), rel=1e-10)
        layer.register_forward_hook(lambda module, args, out: out * 1.0)  # it is called from now on


@pytest.mark.parametrize(("name", "head", "parameter"), [
    ("gpt2", None, "transformer.tokens.weight"), ("bert-base", "masked_lm", "bert.tokens.weight"), ("bert-base", "masked_lm", "head.bias"),
    ("llama-7b", None, "lm_head.weight"),
])  # fmt: skip
def test_logits_of_parameters_that_are_no_more_are_refused(name, head, parameter):
    """With labels they are made when they are read."""
    model, ids = small(name, head), np.arange(4, 10)[None]
    value = dict(model.named_parameters())[parameter]
    out, read = model(ids, labels=ids), model(ids, labels=ids)
    before = read.logits.data.copy()
    read.loss.backward()
    optimizer = tg.optim.SGD([value], lr=0.1)
    for _ in range(2):  # the first step moves parameters to another place
        optimizer.step()
        np.testing.assert_array_equal(read.logits.data, before)
        with pytest.raises(RuntimeError, match="not read before parameters were changed"):
            out.logits  # noqa: B018
        out = model(ids, labels=ids)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64])
def test_ids_and_labels_are_integers_of_any_kind(kind):
    ids, one = np.arange(4, 16).reshape(2, 6), np.array([0, 1])
    for name, head, more in (("gpt2", None, {"labels": ids, "position_ids": np.arange(6)}), ("bert-base", "masked_lm", {"labels": ids}),
                             ("bert-base", "sequence_classification", {"labels": one}),
                             ("bert-base", "sequence_classification", {"labels": one[:, None]})):  # fmt: skip
        model = small(name, head)
        want = model(ids, **more).loss.item()
        assert model(ids.astype(kind), **{key: value.astype(kind) for key, value in more.items()}).loss.item() == want


def test_a_classifiers_loss_is_of_its_problem_type():
    rng = np.random.default_rng(0)
    ids, numbers, marks = rng.integers(4, 23, (4, 6)), rng.standard_normal((4, 2)), rng.integers(0, 2, (4, 2))
    bce = lambda x, y: np.mean(np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0) - x * y)
    for kind, labels, expected in (
        ("regression", numbers, lambda x: np.mean((x - numbers) ** 2)),
        ("multi_label_classification", marks, lambda x: bce(x, marks)),
        (None, marks.astype(float), lambda x: bce(x, marks)),
    ):
        model = small("bert-base", "sequence_classification", num_labels=2, problem_type=kind)
        out = model(input_ids=ids, labels=labels)
        np.testing.assert_allclose(out.loss.item(), expected(out.logits.data))
        for wrong in (labels.T, labels.reshape(-1)):
            with pytest.raises(ValueError, match=r"labels: expected \(4, 2\)"):
                model(input_ids=ids, labels=wrong)
    model = small("bert-base", "sequence_classification", num_labels=1)
    out = model(input_ids=ids, labels=numbers[:, 0])
    np.testing.assert_allclose(out.loss.item(), np.mean((out.logits.data[:, 0] - numbers[:, 0]) ** 2))
    with pytest.raises(tg.models.ConfigError, match="problem_type: expected one of None, 'regression'"):
        small("bert-base", "sequence_classification", problem_type="ranking")


@pytest.mark.parametrize("form", [lambda pairs: pairs, lambda pairs: pairs[:, None], lambda pairs: np.repeat(pairs[:, None], 2, axis=1)])
@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama-7b"])
def test_documents_in_one_row_that_do_not_see_each_other_are_read_as_each_alone(name, recorded, form):
    """A mask of pairs, in each of its shapes, with a gradient and without."""
    sizes = dict(vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                 max_position_embeddings=8)  # fmt: skip
    if name == "gpt2":
        sizes = dict(vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=8)
    model = tg.models.create(name, rng=np.random.default_rng(0), **sizes).eval()
    ids = np.random.default_rng(1).integers(3, 20, (2, 8))
    document = np.array([0] * 3 + [1] * 5)
    places = np.array([0, 1, 2, 0, 1, 2, 3, 4])
    pairs = np.broadcast_to(document[:, None] == document, (2, 8, 8))
    with tg.enable_grad() if recorded else tg.no_grad():
        together = model(input_ids=ids, attention_mask=form(pairs), position_ids=places[None]).logits.data
        alone = [model(input_ids=part).logits.data for part in (ids[:, :3], ids[:, 3:])]
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS, *SEQ2SEQ])
def test_what_the_token_table_gives_may_be_given_in_place_of_ids(name):
    model = small(name, "masked_lm" if name in ENCODERS else None)
    base, rng = model.without_head(), np.random.default_rng(3)
    ids = rng.integers(4, 23, (2, 5))
    sides = ("", "decoder_") if model.is_encoder_decoder else ("",)
    make = base.embed if model.is_encoder_decoder else base.tokens
    vectors = {f"{side}inputs_embeds": tg.Tensor(make(ids).data, requires_grad=True) for side in sides}
    expected = model(**{f"{side}input_ids": ids for side in sides}, labels=ids)
    out = model(**vectors, labels=ids)
    np.testing.assert_array_equal(out.logits.data, expected.logits.data)
    assert out.loss.item() == expected.loss.item()
    out.loss.backward()
    for key, x in vectors.items():
        assert x.grad.shape == x.shape and np.abs(x.grad.data).max() > 0
        twin = key.replace("inputs_embeds", "input_ids")
        with pytest.raises(ValueError, match=f"{twin} and {key}: expected one of them, got both"):
            model(**vectors, **{twin: ids})


def test_vectors_may_be_given_as_lists():
    model = small("gpt2")
    x = np.random.default_rng(3).normal(size=(1, 3, 12)).astype(np.float32)
    np.testing.assert_array_equal(model(inputs_embeds=x.tolist()).logits.data, model(inputs_embeds=x).logits.data)
    with pytest.raises(ValueError, match="^inputs_embeds: rows of different lengths"):
        model(inputs_embeds=[[[0.5] * 12], [[0.5] * 12] * 2])


@pytest.mark.parametrize("name", ["bert-base", "gpt2", "bart-base"])
@pytest.mark.parametrize("shape, dtype, error", [
    ((2, 5, 3), float, ValueError), ((2, 0, 12), float, ValueError), ((2, 5), float, ValueError), ((2, 40, 12), float, ValueError),
    ((2, 5, 12), int, TypeError),
])  # fmt: skip
def test_vectors_that_no_model_can_read(name, shape, dtype, error):
    with pytest.raises(error, match="^inputs_embeds: "):
        small(name)(inputs_embeds=np.zeros(shape, dtype))


def test_a_prompt_of_vectors_can_be_trained_in_front_of_a_model_that_stays():
    model = small("gpt2", dtype=np.float32)
    ids, prompt = np.array([[5, 9, 7, 11]]), tg.Tensor(np.zeros((1, 3, 12), np.float32), requires_grad=True)
    optimizer, losses = tg.optim.AdamW([prompt], lr=0.1), []
    for _ in range(30):
        vectors = tg.concatenate([prompt, model.without_head().tokens(ids).detach()], axis=1)
        loss = model(inputs_embeds=vectors, labels=np.concatenate([np.full((1, 3), -100), ids], axis=1)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
