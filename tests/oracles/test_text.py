"""Tokenizers against `transformers`: what a checkpoint's tokenizer makes of a text, its AutoTokenizer makes of it too."""

import json

import pytest
import transformers

from tinygrad_llm import models, text
from tinygrad_llm.text import subword
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


def learnt(kind, names):
    """A vocabulary with these special tokens, and merges, as transformers' own classes take them."""
    inner = subword.train_subword(kind, [SAMPLE], 340, names).inner
    model = json.loads(inner.to_str())["model"]
    if kind == "unigram":
        return {"vocab": list(map(tuple, model["vocab"]))}
    return {"vocab": model["vocab"]} | ({"merges": list(map(tuple, model["merges"]))} if kind == "bpe" else {})


def llama():
    """BPE over characters, and bytes for those that it does not know."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *"▁thequickbrownfxjmpsvlazydgTF", "he", "▁t", "▁the", "▁▁"]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return {"vocab": vocab, "merges": [("h", "e"), ("▁", "t"), ("▁t", "he"), ("▁", "▁")]}


def gpt():
    tokens = ["<unk>", *"theuickbrownfjmpsvlazydg", *(f"{c}</w>" for c in "thekbnxdg.,!"), "th", "the</w>"]
    return {"vocab": {token: i for i, token in enumerate(dict.fromkeys(tokens))}, "merges": [("t", "h"), ("th", "e</w>")]}


BERT, BART, T5 = (text.STYLES[style] for style in ("bert", "bart", "t5"))
THEIRS = {
    "BertTokenizer": (lambda: learnt("wordpiece", BERT), [{}, {"do_lower_case": False}, {"strip_accents": False}]),
    "RobertaTokenizer": (lambda: learnt("bpe", BART), [{}, {"add_prefix_space": True}]),
    "GPT2Tokenizer": (lambda: learnt("bpe", text.STYLES["gpt"]), [{}, {"add_prefix_space": True}, {"add_bos_token": True}]),
    "OpenAIGPTTokenizer": (gpt, [{}]),
    "T5Tokenizer": (lambda: learnt("unigram", T5), [{"extra_ids": 4}]),
    "AlbertTokenizer": (lambda: learnt("unigram", BERT | {"pad": "<pad>", "unk": "<unk>"}), [{}, {"do_lower_case": False}]),
    "LlamaTokenizer": (llama, [{}, {"add_eos_token": True}]),
}


@pytest.mark.parametrize(("name", "options"), [(name, options) for name, (_, several) in THEIRS.items() for options in several])
def test_what_save_pretrained_wrote(name, options, tmp_path):
    """Ids and texts, with a token that was added; and AutoTokenizer reads what is saved of it again."""
    theirs = getattr(transformers, name)(**THEIRS[name][0](), **options)
    theirs.add_tokens(["<user>"])
    theirs.save_pretrained(tmp_path)
    (tmp_path / "again").mkdir()
    text.load(tmp_path).save(tmp_path / "again")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    for given in [*TEXTS, "hi <user> the", "fi ﬁ Ⅷ a\u0301", "<0x41> we'll . ,"]:
        ids = theirs(given)["input_ids"]
        assert again(given)["input_ids"] == ids
        for ours in (text.load(tmp_path), text.load(tmp_path / "again")):
            assert ours.framed(given).tolist() == ids
            assert ours.encode(given).tolist() == theirs(given, add_special_tokens=False)["input_ids"]
            for skip in (False, True):
                assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)
    assert again("the fox", "a dog")["input_ids"] == theirs("the fox", "a dog")["input_ids"]


@pytest.mark.parametrize("name", ["BertTokenizer", "RobertaTokenizer", "GPT2Tokenizer", "OpenAIGPTTokenizer"])
def test_the_older_files(name, tmp_path):
    """vocab.txt, or vocab.json with merges.txt, without a tokenizer.json."""
    files = THEIRS[name][0]()
    theirs = getattr(transformers, name)(**files)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}), "utf-8")
    if "merges" in files:
        (tmp_path / "vocab.json").write_text(json.dumps(files["vocab"]), "utf-8")
        (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, files["merges"])), "utf-8")
    else:
        (tmp_path / "vocab.txt").write_text("\n".join(sorted(files["vocab"], key=files["vocab"].get)), "utf-8")
    ours = text.load(tmp_path)
    (tmp_path / "saved").mkdir()
    ours.save(tmp_path / "saved")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    for given in TEXTS[:-1]:  # RoBERTa's mask takes the space before it where a checkpoint of it says so
        assert ours.framed(given).tolist() == theirs(given)["input_ids"] == again(given)["input_ids"]
