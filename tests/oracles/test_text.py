"""Tokenizers against `transformers`: what a checkpoint's tokenizer makes of a text, its AutoTokenizer makes of it too."""

import pytest
import transformers

from tinygrad_llm import models, text
from tinygrad_llm.training.families import RECIPES, small_model
from tinygrad_llm.training.prepare import DataChoices, make_tokenizer

SAMPLE = "The quick brown Fox jumps over the lazy dog.\nÄpfel, and Öl!  A dog sleeps.\n" * 20
SIZES = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 8, "intermediate_size": 8}

#: What is hard to read alike: nothing, spaces, letters that are not known, marks, and special tokens that are written out.
TEXTS = ["", " ", "The quick brown Fox", "  two  leading", "trailing ", "Äpfel, Öl! it's don't .", "日本 \U0001f600 é", "a\n\n b\tc ",
         "x [MASK] y <mask> z <s> </s> <pad>[UNK]<unk> <extra_id_0> [CLS]q[SEP] <|endoftext|>"]  # fmt: skip


@pytest.mark.parametrize("kind", text.KINDS)
@pytest.mark.parametrize("family", RECIPES)
def test_a_run_of_each_family_and_kind(family, kind, tmp_path):
    """As `train` writes them: ids of texts, framed as in training, texts of ids, special tokens, and a model that takes what comes."""
    recipe = RECIPES[family]
    ours = make_tokenizer(SAMPLE, DataChoices(recipe.objective, recipe.style, 64, kind, 340))
    small_model(recipe, recipe.objective, ours, layers=1, heads=1, width=8, context=64, dropout=0.0).save(tmp_path)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for given in TEXTS:
        if kind == "chars" and "unk" not in ours.special and not set(given) <= set(SAMPLE):
            with pytest.raises(Exception, match="Missing"):  # where ours is an error too
                theirs(given)
            continue
        ids = ours.framed(given).tolist()
        assert theirs(given)["input_ids"] == ids
        assert theirs(given, add_special_tokens=False)["input_ids"] == ours.encode(given).tolist()
        for skip in (False, True):
            assert theirs.decode(ids, skip_special_tokens=skip) == ours.decode(ids, skip_special_tokens=skip)
    roles = {role: getattr(theirs, f"{role}_token_id") for role in ("pad", "unk", "cls", "sep", "mask", "bos", "eos")}
    assert {role: i for role, i in roles.items() if i is not None} == {r: i for r, i in ours.special.items() if r in roles}
    if family in ("transformer", "gpt3"):  # which transformers has not
        return
    model = transformers.AutoModel.from_pretrained(tmp_path)
    pair = theirs("The quick", "brown Fox", return_tensors="pt")
    assert ("token_type_ids" in pair) == (family in ("bert", "albert", "electra"))
    model(**pair, **({"decoder_input_ids": pair["input_ids"]} if model.config.is_encoder_decoder else {}))


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
