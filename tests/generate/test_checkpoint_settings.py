"""What a checkpoint's generation_config.json decides."""

import json
import warnings

import pytest

from tests.generate.small import EOS, bart, decoder, prompts
from tinygrad_llm import models
from tinygrad_llm.generate import generate


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
