"""Generation against `transformers`: the same tokens for greedy and beam search, the same filters for sampling."""

import json

import numpy as np
import pytest
import torch
import transformers
from transformers.generation import logits_process as theirs

from tinygrad_llm import models
from tinygrad_llm.generate import filters

V = 40
FAMILIES = {
    "gpt2": ("gpt2", "GPT2LMHeadModel", {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64}),
    "llama": ("llama-7b", "LlamaForCausalLM", {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
              "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 64}),
    "t5": ("t5-small", "T5ForConditionalGeneration", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2,
           "num_decoder_layers": 2, "num_heads": 4}),
    "bart": ("bart-base", "BartForConditionalGeneration", {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
             "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
             "max_position_embeddings": 64}),
}  # fmt: skip
HEADS = {"gpt2": "causal_lm", "llama": "causal_lm", "t5": "seq2seq_lm", "bart": "seq2seq_lm"}
PAD, EOS = 3, 7


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(request, tmp_path_factory):
    """(ours, theirs) with the same weights, made to vary: logits far apart, so that rounding cannot swap two tokens."""
    preset, architecture, sizes = FAMILIES[request.param]
    roles = {"pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": 5}
    if HEADS[request.param] == "seq2seq_lm":
        roles["decoder_start_token_id"] = 5
    ours = models.create(preset, head=HEADS[request.param], vocab_size=V, dropout=0.0, **sizes, **roles)
    rng = np.random.default_rng(4)
    for p in ours.parameters():
        if p.ndim >= 2:
            p.data[...] = rng.normal(0, 0.35, p.shape)
    folder = tmp_path_factory.mktemp(request.param)
    ours.save(folder)
    other = getattr(transformers, architecture).from_pretrained(folder).eval()
    return ours, other


def prompts(seed, rows=3, length=6):
    return np.random.default_rng(seed).integers(8, V, (rows, length))


def left_padded(seed):
    ids = prompts(seed)
    mask = np.ones_like(ids)
    ids[1, :2], mask[1, :2] = PAD, 0
    ids[2, :4], mask[2, :4] = PAD, 0
    return ids, mask


def compare(pair, ids, mask, **options):
    ours, other = pair
    got = ours.generate(ids, attention_mask=mask, **options)
    with torch.no_grad():
        expected = other.generate(torch.tensor(ids), attention_mask=torch.tensor(mask), **options).numpy()
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.7}, {"repetition_penalty": 0.6}])
def test_greedy(pair, seed, options):
    compare(pair, *left_padded(seed), max_new_tokens=14, do_sample=False, num_beams=1, **options)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "options",
    [{"num_beams": 2}, {"num_beams": 5}, {"num_beams": 3, "length_penalty": 2.5}, {"num_beams": 3, "length_penalty": -1.0},
     {"num_beams": 4, "early_stopping": True}, {"num_beams": 4, "early_stopping": "never"},
     {"num_beams": 3, "repetition_penalty": 1.4}, {"num_beams": 4, "num_return_sequences": 3},
     {"num_beams": 3, "num_return_sequences": 3, "early_stopping": True}],
)  # fmt: skip
def test_beam_search(pair, seed, options):
    compare(pair, *left_padded(seed), max_new_tokens=12, do_sample=False, **options)


def test_several_end_tokens(pair):
    for seed in range(6):
        compare(pair, *left_padded(seed), max_new_tokens=12, do_sample=False, num_beams=3, eos_token_id=[EOS, 9, 11, 12])
        compare(pair, *left_padded(seed), max_new_tokens=12, do_sample=False, num_beams=1, eos_token_id=[EOS, 9, 11, 12, 14, 20])


@pytest.mark.parametrize("options", [{"num_beams": 1}, {"num_beams": 3}, {"num_beams": 1, "repetition_penalty": 1.7}])
def test_an_own_processor_acts_after_the_penalties(pair, options):
    """The same function runs on arrays and on PyTorch's tensors. It lowers every other token by what came last."""

    def lower(ids, scores):
        scores[:, ::2] -= 0.7 * (1 + ids[:, -1:] % 3)
        return scores

    for seed in range(4):
        compare(pair, *left_padded(seed), max_new_tokens=10, do_sample=False, logits_processor=[lower], **options)


MORE = [
    {"encoder_repetition_penalty": 1.5}, {"encoder_repetition_penalty": 0.7, "repetition_penalty": 1.3}, {"encoder_no_repeat_ngram_size": 1},
    {"encoder_no_repeat_ngram_size": 2, "no_repeat_ngram_size": 3}, {"begin_suppress_tokens": [*range(8, 30)]},
    {"begin_suppress_tokens": [*range(8, 30)], "forced_bos_token_id": 11}, {"exponential_decay_length_penalty": (2, 1.6)},
    {"renormalize_logits": True, "repetition_penalty": 1.5},
]  # fmt: skip


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("options", MORE)
def test_what_favours_bars_and_ends(pair, options, beams):
    ours, _ = pair
    for seed in range(4):
        compare(pair, *left_padded(seed), max_new_tokens=10, do_sample=False, num_beams=beams, **options)
    length = 1 if ours.is_encoder_decoder else 6
    compare(pair, *left_padded(5), max_length=length + 7, do_sample=False, num_beams=beams, **options)


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.7}, {"num_beams": 3}, {"no_repeat_ngram_size": 2},
                                     {"min_length": 10}, {"min_new_tokens": 4}, {"max_length": 9}])  # fmt: skip
def test_vectors_in_place_of_ids(pair, options):
    """transformers' repetition_penalty leaves out as many new ids as there was padding; so none is there."""
    ours, other = pair
    options = {"max_new_tokens": 10} | options
    if "max_length" in options:
        del options["max_new_tokens"]
    for seed in range(4):
        ids, mask = left_padded(seed)
        if "repetition_penalty" in options:
            mask = np.ones_like(mask)
        table, noise = other.get_input_embeddings().weight.detach().numpy(), np.random.default_rng(seed).normal(0, 0.1, (*ids.shape, 32))
        vectors = (table[ids] + noise).astype(np.float32)
        got = ours.generate(inputs_embeds=vectors, attention_mask=mask, **options)
        expected = other.generate(inputs_embeds=torch.tensor(vectors), attention_mask=torch.tensor(mask), do_sample=False, **options)
        np.testing.assert_array_equal(got, expected.numpy())


SAID = {"eos_token_id": [EOS, 9], "no_repeat_ngram_size": 2, "min_length": 9, "bad_words_ids": [[11], [12, 13], [14, 15, 16]],
        "suppress_tokens": [20, 21], "forced_bos_token_id": 10, "forced_eos_token_id": 9, "pad_token_id": PAD,
        "decoder_start_token_id": 6, "early_stopping": True}  # fmt: skip


@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
def test_a_checkpoint_s_own_settings(pair, place, tmp_path):
    ours, other = pair
    ours.save(tmp_path)
    given = json.loads((tmp_path / "config.json").read_text()) if place == "config.json" else {}
    (tmp_path / place).write_text(json.dumps(given | SAID))
    told = models.load(tmp_path), type(other).from_pretrained(tmp_path).eval()
    for seed in range(3):
        for beams in (1, 3):
            compare(told, *left_padded(seed), max_new_tokens=12, do_sample=False, num_beams=beams)
            compare(told, *left_padded(seed), max_new_tokens=12, do_sample=False, num_beams=beams, min_new_tokens=0)


def test_room_padding_and_starts_that_are_passed(pair):
    ours, other = pair
    ids, mask = left_padded(1)
    if ours.is_encoder_decoder:
        for given in ([[8, 7], [11, 9], [5, 6]], [[8, 7], [11, 9], [12, 6]]):
            got = ours.generate(ids, attention_mask=mask, decoder_input_ids=given, max_new_tokens=6)
            expected = other.generate(torch.tensor(ids), attention_mask=torch.tensor(mask), decoder_input_ids=torch.tensor(given),
                                      max_new_tokens=6, do_sample=False)  # fmt: skip
            np.testing.assert_array_equal(got, expected.numpy())
        return
    ids[0, :3] = 9  # padding for this call alone
    got = ours.generate(ids, pad_token_id=9, max_new_tokens=64 + 1 - 6, eos_token_id=39)
    expected = other.generate(torch.tensor(ids), pad_token_id=9, max_new_tokens=64 + 1 - 6, eos_token_id=39, do_sample=False)
    np.testing.assert_array_equal(got, expected.numpy())


@pytest.mark.parametrize("beams", [1, 3])
def test_pad_tokens_without_a_mask(pair, beams):
    ours, other = pair
    for seed in range(3):
        ids, _ = left_padded(seed)
        ids[0, -2:] = PAD  # where a text ends in padding, what is written starts again from position 1
        got = ours.generate(ids, max_new_tokens=10, num_beams=beams)
        expected = other.generate(torch.tensor(ids), max_new_tokens=10, num_beams=beams, do_sample=False)
        np.testing.assert_array_equal(got, expected.numpy())


@pytest.mark.parametrize("seed", range(10))
def test_filters(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (4, 50)).astype(np.float32)
    scores[0, :10] = scores[0, 10:20]  # ties
    scores[1, 5] = -np.inf
    ids = rng.integers(0, 50, (4, 9))
    tensor, past = torch.tensor(scores), torch.tensor(ids)
    cases = [
        (filters.repetition_penalty(scores, ids, 1.3), theirs.RepetitionPenaltyLogitsProcessor(1.3)),
        (filters.temperature(scores, 0.7), theirs.TemperatureLogitsWarper(0.7)),
        *[(filters.top_k(scores, k), theirs.TopKLogitsWarper(k)) for k in (1, 7, 100)],
        *[(filters.min_p(scores, p), theirs.MinPLogitsWarper(p)) for p in (0.0, 0.1, 1.0)],
    ]
    cases += [(filters.cutoff(scores, x), theirs.EpsilonLogitsWarper(x)) for x in (1e-4, 0.03, 0.9)]
    cases += [(filters.cutoff(scores, x, by_entropy=True), theirs.EtaLogitsWarper(x)) for x in (1e-4, 0.03, 0.9)]
    cases += [(filters.typical_p(scores, p), theirs.TypicalLogitsWarper(p)) for p in (0.1, 0.5, 0.9, 0.999)]
    for ours, processor in cases:
        np.testing.assert_array_equal(ours, processor(past, tensor).numpy())
    distinct = scores[2:]  # which of two tied tokens top-p drops depends on the sort
    for p in (0.1, 0.5, 0.9, 0.999):
        np.testing.assert_array_equal(filters.top_p(distinct, p), theirs.TopPLogitsWarper(p)(past[2:], tensor[2:]).numpy())
