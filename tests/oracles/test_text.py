"""Tokenizers against `transformers`: what a checkpoint's tokenizer makes of a text, its AutoTokenizer makes of it too."""

import pytest
import transformers

from tinygrad_llm import models, text

SAMPLE = "The quick brown Fox jumps over the lazy dog.\nÄpfel, and Öl!  A dog sleeps.\n" * 20
SIZES = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 8, "intermediate_size": 8}


@pytest.mark.parametrize("preset", ["bert-base", "electra-small"])
def test_a_saved_wordpiece_tokenizer_keeps_its_letters_in_transformers(preset, tmp_path):
    ours = text.train("wordpiece", SAMPLE, 120, style="bert")
    models.create(preset, vocab_size=ours.vocab_size, **SIZES).save(tmp_path)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    given = "The Lazy fox, A dog : Öl! Ä\n\n two [MASK]"
    ids = ours.encode(given).tolist()
    assert theirs(given, add_special_tokens=False)["input_ids"] == ids
    assert theirs(given)["input_ids"] == [ours.special["cls"], *ids, ours.special["sep"]]
