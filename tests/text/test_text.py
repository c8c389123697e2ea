"""Tokenizers: what goes in comes out, files round-trip, and errors say what to do."""

import ast
import copy
import gzip
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm import text
from tinygrad_llm.autograd.elsewhere import OF_A_TOKENIZER
from tinygrad_llm.text import simple, subword
from tinygrad_llm.text.corpus import Lines

SAMPLE = "The quick brown fox jumps over the lazy dog.\nThe dog sleeps. A fox, quick and brown, does not!\n" * 20


@given(st.text(min_size=1))
def test_bytes_and_chars_round_trip(sample):
    for kind in ("bytes", "chars"):
        tokenizer = text.train(kind, sample, style="t5", sentinels=3)
        ids = tokenizer.encode(sample)
        assert ids.dtype == np.int64 and ids.min() >= tokenizer.first and ids.max() < tokenizer.vocab_size
        if kind == "chars" or sample.isprintable():
            assert tokenizer.decode(ids) == sample


@pytest.mark.parametrize("kind", ["chars", "bytes", "bpe", "wordpiece", "unigram"])
@pytest.mark.parametrize("style", ["gpt", "bert", "bart", "t5"])
def test_train_save_load(kind, style, tmp_path):
    tokenizer = text.train(kind, SAMPLE, 330, style=style, sentinels=4)
    tokenizer.save(tmp_path)
    again = text.load(tmp_path)
    sample = "The lazy fox does not sleep."
    assert np.array_equal(tokenizer.encode(sample), again.encode(sample))
    assert again.special == tokenizer.special and again.vocab_size == tokenizer.vocab_size
    for role, spelling in text.special_tokens(style, 4).items():
        assert again.decode([again.special[role]]).strip() == spelling
        if kind not in ("chars", "bytes"):
            assert tokenizer.encode(f"fox{spelling}")[-1] == tokenizer.special[role], "one token wherever it stands"
    if kind in ("chars", "bytes", "bpe", "unigram"):
        assert again.decode(again.encode(sample)) == sample


def test_a_saved_wordpiece_tokenizer_says_what_becomes_of_capital_letters(tmp_path):
    """transformers asks tokenizer_config.json alone, and takes small letters where it says nothing."""
    text.train("wordpiece", SAMPLE, 330, style="bert").save(tmp_path)
    record = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    letters = {"do_lower_case": False, "strip_accents": None, "tokenize_chinese_chars": True}
    assert record == letters | {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"], "pad_token": "[PAD]", "unk_token": "[UNK]",
        "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
    }  # fmt: skip
    text.train("bpe", SAMPLE, 330, style="gpt").save(tmp_path)  # of BERT nothing stays behind
    assert json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8")) == {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"], "cls_token": "<|endoftext|>", "sep_token": "<|endoftext|>",
        "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["chars", "bytes"])
@pytest.mark.parametrize("style", ["plain", "t5"])
def test_characters_and_bytes_are_written_for_other_libraries_too(kind, style, tmp_path):
    """Over a tokenizer of another kind, of which nothing stays behind."""
    tk = pytest.importorskip("tokenizers")
    ours = text.train(kind, SAMPLE + "é\u2028😀\t", style=style, sentinels=3)
    text.train("wordpiece", SAMPLE, 330, style="bert").save(tmp_path)
    ours.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    assert "do_lower_case" not in config and config["split_special_tokens"] and "[CLS]" not in config.values()
    inner = tk.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert inner.get_vocab_size() == ours.vocab_size
    inner.encode_special_tokens = True  # split_special_tokens
    for sample in ("", "The fox\n \t\té \u2028😀 ", "a fox", "日本 </s><extra_id_0>"):
        if kind == "chars" and style == "plain" and sample.startswith("日"):
            with pytest.raises(Exception, match="Missing"):  # as `encode` refuses it
                inner.encode(sample)
            continue
        ids = ours.framed(sample).tolist()
        assert inner.encode(sample).ids == ids
        for skip in (False, True):
            assert inner.decode(ids, skip_special_tokens=skip) == ours.decode(ids, skip_special_tokens=skip)
    half = ours.encode("é")[:1]  # a byte alone shows as the replacement character
    assert inner.decode(half.tolist()) == ours.decode(half)


#: Tokens around a text, and around two, by style
FRAMED = {
    "plain": ("dog", "dog dog"), "gpt": ("dog", "dog dog"), "bert": ("[CLS] dog [SEP]", "[CLS] dog [SEP] dog [SEP]"),
    "bart": ("<s> dog </s>", "<s> dog </s> </s> dog </s>"), "t5": ("dog </s>", "dog </s> dog </s>"),
    "seq2seq": ("dog </s>", "dog </s> dog </s>"),
}  # fmt: skip


@pytest.mark.parametrize("kind", text.KINDS)
@pytest.mark.parametrize("style", FRAMED)
def test_a_text_is_framed_as_its_style_has_it(kind, style, tmp_path):
    """In the tokenizer.json too, which holds any kind."""
    tk = pytest.importorskip("tokenizers")
    tokenizer = text.train(kind, SAMPLE, 330, style=style, sentinels=2)
    tokenizer.save(tmp_path)
    inner = tk.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    word, pair = tokenizer.encode("dog").tolist(), inner.encode("dog", "dog")
    ids_of = lambda line: [i for t in line.split() for i in (word if t == "dog" else [inner.token_to_id(t)])]
    one, two = map(ids_of, FRAMED[style])
    again = text.load(tmp_path)
    assert tokenizer.framed("dog").tolist() == again.framed("dog").tolist() == inner.encode("dog").ids == one and pair.ids == two
    assert again.encode("dog").tolist() == word and tokenizer.framed("").tolist() == again.framed("").tolist()
    if style not in ("plain", "gpt"):  # of which the files say nothing
        assert pair.type_ids == [0] * len(one) + [int(style == "bert")] * (len(two) - len(one))
    tokenizer.frame(None, None)
    tokenizer.save(tmp_path)
    for path in tmp_path.glob("*.json"):  # as they were written before there was a frame
        record = json.loads(path.read_text("utf-8"))
        record.pop("frame", None)
        if "post_processor" in record:
            record["post_processor"] = None
        path.write_text(json.dumps(record), "utf-8")
    older = text.load(tmp_path)
    assert older.framed("dog").tolist() == older.encode("dog").tolist() == word and older.special == tokenizer.special


@pytest.mark.parametrize("kind", ["chars", "bytes", "bpe", "wordpiece", "unigram"])
def test_special_tokens_are_left_out_of_a_text_where_asked(kind):
    tokenizer = text.train(kind, SAMPLE, 330, style="bart")
    special, ids = tokenizer.special, tokenizer.encode("lazy dog")
    framed = np.concatenate([[special["bos"]], ids[:1], [special["mask"]], ids[1:], [special["eos"]], [special["pad"]] * 2])
    assert tokenizer.decode(framed, skip_special_tokens=True) == tokenizer.decode(ids)
    assert "<pad>" in tokenizer.decode(framed) and tokenizer.decode([special["pad"]], skip_special_tokens=True) == ""


@pytest.mark.parametrize("kind", ["chars", "bytes", "wordpiece"])
def test_a_tokenizer_says_how_the_words_of_transformers_are_written_here(kind):
    tokenizer = text.train(kind, SAMPLE, 330, style="bert")
    names = {"tokenizer": tokenizer, "text": "lazy dog", "texts": ["lazy dog", "fox"], "ids": [5, 6]}
    for name, hint in OF_A_TOKENIZER.items():
        with pytest.raises(AttributeError) as error:
            getattr(tokenizer, name)
        assert str(error.value) == f"{type(tokenizer).__name__!r} object has no attribute {name!r}; here: {hint}"
        if hint.startswith(("tokenizer.special[", "tokenizer.decode", "[")) and name[:3] not in ("bos", "eos", "eot", "bat"):
            eval(hint, names)
    with pytest.raises(TypeError, match=r"a tokenizer is not called: .* tg\.data\.pad\(\[tokenizer\.framed\(text\)"):
        tokenizer(["lazy dog"], padding=True, return_tensors="np")
    again = copy.deepcopy(tokenizer)
    assert np.array_equal(again.encode("lazy dog"), tokenizer.encode("lazy dog")) and not hasattr(again, "colour")


def test_a_tokenizer_with_a_token_more():
    """As the hint for add_special_tokens has it."""
    pytest.importorskip("tokenizers")
    tokenizer = text.train("bpe", SAMPLE, 330, style="gpt")
    tokenizer.inner.add_special_tokens(["<pad>"])
    again = type(tokenizer)(tokenizer.inner)
    assert (again.vocab_size, again.special["pad"]) == (tokenizer.vocab_size + 1, tokenizer.vocab_size)
    assert again.encode("fox<pad>")[-1] == again.special["pad"]


def test_wordpiece_learns_the_same_in_each_process():
    """Equally frequent letters and pairs too, of which any order is as good."""
    pytest.importorskip("tokenizers")
    script = ("from tinygrad_llm import text; words = [f'{a}{b}{c}xyz' for a in 'bdfg' for b in 'aeiou' for c in 'klmn'] * 3;"
              "read = lambda: (' '.join(words[i : i + 20]) for i in range(0, 240, 20));"
              "found = [text.train('wordpiece', t, 70, style='bert') for t in (read(), list(read()))];"
              "print([sorted(t.inner.get_vocab().items(), key=lambda item: item[1]) for t in found])")  # fmt: skip
    seen = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout for _ in range(3)]
    assert seen[0] == seen[1] == seen[2]
    from_generator, from_list = ast.literal_eval(seen[0])
    assert from_generator == from_list and len(from_list) == 70
    assert not text.train("wordpiece", "aab aab", 9, style="bert").special.keys() - {"pad", "unk", "cls", "sep", "mask"}


def test_unigram_learns_the_same_each_time():
    """The ids too, and the scores of characters that stand in longer pieces only."""
    pytest.importorskip("tokenizers")
    sample = " ".join(f"{a}{b}{c}xyz" for a in "bdfg" for b in "aeiou" for c in "klmn") + " " + SAMPLE
    learnt = [text.train("unigram", sample, 60, style="t5").inner.to_str() for _ in range(3)]
    assert learnt[0] == learnt[1] == learnt[2]


def test_pieces_stand_in_one_order():
    """Three characters are left over, 0.0001 apart: they take their scores in the order of their own."""
    pieces = [("b", -5.0), ("ab", -1.0), ("c", -4.9999), ("d", -2.0), ("e", -4.99985), ("a", -4.9998), ("aa", -1.0000001)]
    ordered = [("aa", -1.0), ("ab", -1.0), ("d", -2.0), ("a", -4.9998), ("e", -4.99985), ("b", -4.9999), ("c", -5.0)]
    assert subword.in_order(pieces) == subword.in_order(pieces[::-1]) == ordered and subword.in_order([]) == []


@pytest.mark.parametrize(("style", "roles"), [("bert", ["pad", "unk", "cls", "sep", "mask"]), ("plain", ["unk"])])
def test_wordpiece_has_a_token_for_what_it_does_not_know(style, roles):
    pytest.importorskip("tokenizers")
    tokenizer = text.train("wordpiece", SAMPLE, 60, style=style)
    assert [tokenizer.special[role] for role in roles] == list(range(len(roles)))
    unk = tokenizer.special["unk"]
    assert unk in tokenizer.encode("é") and tokenizer.vocab_size == 60
    assert tokenizer.encode("[UNK]").tolist() == [unk] and tokenizer.inner.decode([unk]) == ""  # special in every way


def test_byte_level_bpe_has_room_for_every_byte():
    pytest.importorskip("tokenizers")
    assert text.train("bpe", SAMPLE, 256 + 5, style="bert").vocab_size == 261
    with pytest.raises(ValueError, match="256 bytes and 5 special tokens before its first merge; got 260"):
        text.train("bpe", SAMPLE, 256 + 4, style="bert")


def test_ids_are_code_points_in_order():
    assert text.train("chars", "banana").encode("nab").tolist() == [2, 0, 1]
    assert text.train("bytes", "").encode("é").tolist() == [0xC3, 0xA9]


@pytest.mark.parametrize("kind", text.KINDS)
@pytest.mark.parametrize("texts", [["a", "b"], b"ab"])
def test_several_texts_are_refused_with_how_to_encode_them(kind, texts):
    tokenizer = text.train(kind, SAMPLE, 330)
    with pytest.raises(TypeError, match=rf"got {type(texts).__name__}; of several, one at a time"):
        tokenizer.encode(texts)


def test_a_vocabulary_has_a_size_where_none_is_asked_for():
    assert 256 < text.train("bpe", SAMPLE).vocab_size <= 4096


def test_roles_are_borrowed_where_they_are_missing():
    assert text.base.with_borrowed_roles({"bos": 0, "eos": 2}) == {"bos": 0, "eos": 2, "cls": 0, "sep": 2}
    assert text.base.with_borrowed_roles({"bos": 0, "cls": 5}) == {"bos": 0, "cls": 5}


def test_no_characters():
    assert text.CharTokenizer("").encode("").tolist() == [] and text.CharTokenizer("", {"unk": "?"}).encode("ab").tolist() == [0, 0]
    with pytest.raises(ValueError, match="'a' .* is not in this model's vocabulary of 0 characters"):
        text.CharTokenizer("").encode("a")


def test_unknown_character():
    plain, with_unk = text.train("chars", "abc"), text.train("chars", "abc", style="bert")
    with pytest.raises(ValueError, match=r"'z' \(U\+007A\) is not in this model's vocabulary of 3"):
        plain.encode("az")
    assert with_unk.encode("az").tolist()[1] == with_unk.special["unk"]
    with pytest.raises(ValueError, match="expected values in"):
        plain.decode([7])


def test_gpt2_and_bert_files(tmp_path):
    """The pairs of files that GPT-2 and BERT come with, made here at small size."""
    gpt = tmp_path / "gpt"
    gpt.mkdir()
    alphabet = sorted({c for c in "helo wrd"} - {" "}) + ["Ġ"]
    vocab = alphabet + ["he", "ll", "hell", "hello", "Ġw", "<|endoftext|>"]
    (gpt / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocab)}))
    (gpt / "merges.txt").write_text("#version: 0.2\nh e\nl l\nhe ll\nhell o\nĠ w\n")
    tokenizer = text.load(gpt)
    assert tokenizer.encode("hello world").tolist() == [vocab.index(t) for t in ("hello", "Ġw", "o", "r", "l", "d")]
    assert tokenizer.decode(tokenizer.encode("hello world")) == "hello world"
    assert tokenizer.special["eos"] == vocab.index("<|endoftext|>")
    assert np.array_equal(tokenizer.framed("hello"), tokenizer.encode("hello"))
    (gpt / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate([*vocab[:-1], "<s>", "</s>"])}))
    hello, bos, eos = vocab.index("hello"), len(vocab) - 1, len(vocab)
    for name, said, ids in (("config.json", {"model_type": "gpt2"}, [hello]), ("config.json", {"model_type": "bart"}, [bos, hello, eos]),
                            ("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"}, [hello]),
                            ("tokenizer_config.json", {"tokenizer_class": "RobertaTokenizerFast"}, [bos, hello, eos])):  # fmt: skip
        (gpt / name).write_text(json.dumps(said))
        assert text.load(gpt).framed("hello").tolist() == ids
    (gpt / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": True}))
    assert text.load(gpt).encode("world").tolist() == [vocab.index(t) for t in ("Ġw", "o", "r", "l", "d")]
    bert = tmp_path / "bert"
    bert.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "wor", "##ld", "!"]
    (bert / "vocab.txt").write_text("\n".join(words))
    tokenizer = text.load(bert)
    ids = tokenizer.encode("Hello world!")
    assert ids.tolist() == [5, 6, 7, 8]
    assert tokenizer.word_starts(ids).tolist() == [True, True, False, True]
    assert [tokenizer.special[r] for r in ("pad", "unk", "cls", "sep", "mask")] == [0, 1, 2, 3, 4]
    assert tokenizer.framed("Hello").tolist() == [2, 5, 3]
    assert tokenizer.encode("hello [MASK]! [SEP]").tolist() == [5, 4, 8, 3]
    (bert / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert text.load(bert).encode("Hello hello").tolist() == [1, 5]


def test_what_lies_beside_the_vocabulary(tmp_path):
    """Tokens that were added later, and whether accents and Chinese characters stay as they are."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "café", "cafe", "你", "你好"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), "utf-8")
    assert text.load(tmp_path).encode("Café 你好").tolist() == [6, 7, 1]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"strip_accents": False, "tokenize_chinese_chars": False}))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<bot>": 10, "<user>": 9}))
    tokenizer = text.load(tmp_path)
    assert tokenizer.encode("<user>Café<bot>你好").tolist() == [9, 5, 10, 8]
    assert tokenizer.vocab_size == len(tokenizer) == 11
    tokenizer.save(tmp_path)
    assert text.load(tmp_path).encode("<user>Café").tolist() == [9, 5]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<user>": 12}))
    with pytest.raises(ValueError, match="added_tokens.json: '<user>' has id 12, expected 9"):
        text.load(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps(["<user>"]))
    with pytest.raises(ValueError, match="added_tokens.json: expected an object"):
        text.load(tmp_path)


def test_gpt_files(tmp_path):
    """The first GPT's words end with </w>; transformers' OpenAIGPTTokenizer gives these ids."""
    vocab = ["<unk>", "h", "e", "l", "o", "o</w>", "he", "hel", "hell", "hello</w>", "w", "r", "d</w>", "!</w>"]
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocab)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\nhe l\nhel l\nhell o</w>\n")
    tokenizer = text.load(tmp_path)
    ids = tokenizer.encode("Hello hellé world!")
    assert [vocab[i] for i in ids] == ["hello</w>", "hell", "<unk>", "w", "o", "r", "l", "d</w>", "!</w>"]
    assert tokenizer.decode(tokenizer.encode("Hello world!")) == "hello world !"
    assert tokenizer.special == {"unk": 0} and tokenizer.encode("hello <unk> !").tolist() == [9, 0, 13]


def test_a_file_that_cuts_and_pads_does_neither_here(tmp_path):
    """A tokenizer.json keeps the truncation and padding of its last use, as those of sentence encoders do."""
    tokenizer = text.train("bpe", SAMPLE, 330)
    ids = tokenizer.encode(SAMPLE)
    tokenizer.inner.enable_truncation(8)
    tokenizer.inner.enable_padding(length=8)
    tokenizer.save(tmp_path)
    again = text.load(tmp_path)
    assert np.array_equal(again.encode(SAMPLE), ids) and len(again.encode("")) == 0


def test_what_stands_around_a_text_is_asked_for(tmp_path):
    tk = pytest.importorskip("tokenizers")
    tokenizer = text.train("bpe", SAMPLE, 330, style="bart")
    bos, eos = tokenizer.special["bos"], tokenizer.special["eos"]
    around = tk.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", bos), ("</s>", eos)])
    tokenizer.inner.post_processor = around
    ids = tokenizer.encode("the fox").tolist()
    assert tokenizer.framed("the fox").tolist() == [bos, *ids, eos] and bos not in ids and eos not in ids
    tokenizer.inner.post_processor = tk.processors.RobertaProcessing(("</s>", eos), ("<s>", bos))
    tokenizer.frame("cls", "sep")  # so it is: the place of " fox" goes on without its space
    assert tokenizer.inner.encode("the fox").offsets[-2][0] > 3
    tokenizer.frame(None, "eos")
    assert tokenizer.framed("the fox").tolist() == [*ids, eos]
    for tokens in (tokenizer.encode(""), text.train("chars", "").encode(""), text.train("bytes", "").encode("")):
        assert tokens.dtype == np.int64 and tokens.shape == (0,)
    assert tokenizer.word_starts([]).dtype == bool


@pytest.mark.parametrize(("first", "second"), [("chars", "bpe"), ("bpe", "chars"), ("bytes", "unigram")])
def test_a_directory_gives_back_what_was_saved_last(first, second, tmp_path):
    left = {"special_tokens_map.json": {"pad_token": "[PAD]"}, "added_tokens.json": {"<bot>": 5}}  # to which transformers listens
    for kind in (first, second):
        tokenizer = text.train(kind, SAMPLE, 330)
        for name, content in left.items():
            (tmp_path / name).write_text(json.dumps(content))
        tokenizer.save(tmp_path)
        assert not left.keys() & {path.name for path in tmp_path.iterdir()}
    assert np.array_equal(text.load(tmp_path).encode("The fox"), tokenizer.encode("The fox"))


@pytest.mark.parametrize("kind", text.KINDS)
def test_half_a_surrogate_pair(kind):
    """What a command line makes of bytes that are not UTF-8."""
    with pytest.raises(ValueError, match=r"surrogate pair, U\+DCFF, at character 1; give the text in UTF-8"):
        text.train(kind, SAMPLE, 330).encode("a\udcff")
    with pytest.raises(ValueError, match="surrogate pair"):
        text.train(kind, SAMPLE, 330).framed("a\udcff")


def test_words_of_a_bpe_over_bytes():
    tokenizer = text.train("bpe", SAMPLE, 300)
    ids = tokenizer.encode("the lazy fox")
    starts = np.flatnonzero(tokenizer.word_starts(ids)).tolist()
    assert [tokenizer.decode(ids[a:b]) for a, b in zip(starts, [*starts[1:], None])] == ["the", " lazy", " fox"]


def test_words_of_a_bpe_over_characters():
    """Llama's kind of vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    from tinygrad_llm.text.subword import SubwordTokenizer

    inner = Tokenizer(models.BPE({"▁": 0, "a": 1, "b": 2, "▁a": 3}, [("▁", "a")]))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    assert SubwordTokenizer(inner).word_starts([3, 2, 3, 1]).tolist() == [True, False, True, False]
    maltese = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("Ġ", -1.0)], 0))  # there a letter, and no space
    assert SubwordTokenizer(maltese).word_starts([1, 2, 1]).tolist() == [True, False, True]


def test_a_folder_in_the_users_home_and_none(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    text.train("chars", "abc").save(tmp_path / "run")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert text.load("~/run").vocab_size == text.load(tmp_path / "run").vocab_size
    with pytest.raises(FileNotFoundError, match="somebody/model: no such directory; `hf download`"):
        text.load("somebody/model")


def test_no_tokenizer_here(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer here"):
        text.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="not a tokenizer.json"):
        text.load(tmp_path)
    (tmp_path / "vocabulary.json").write_text("[]")
    with pytest.raises(ValueError, match="vocabulary.json: damaged, 'characters' is missing"):
        simple.from_record({"kind": "chars", "special": {}})
    with pytest.raises(ValueError, match="vocabulary.json: kind: expected chars or bytes, got 'words'"):
        simple.from_record({"kind": "words", "special": {}})
    with pytest.raises(ValueError, match="vocabulary.json: expected an object with kind, characters and special; got list"):
        text.load(tmp_path)


def test_bad_choices():
    with pytest.raises(ValueError, match="expected one of chars, bytes, bpe"):
        text.train("words", "a")
    with pytest.raises(ValueError, match="256 bytes"):
        text.train("bpe", "a", 100)
    with pytest.raises(ValueError, match="vocab_size: expected more than the 0 special tokens, got 0"):
        text.train("bpe", "a", 0)
    with pytest.raises(ValueError, match="more than the 5 special tokens, got 5"):
        text.train("wordpiece", "a", 5, style="bert")
    with pytest.raises(ValueError, match="vocab_size: unigram cannot learn 8 tokens from this text"):
        text.train("unigram", SAMPLE, 8, style="t5")
    with pytest.raises(TypeError, match="not iterable"):  # and not that so many tokens cannot be learnt
        text.train("bpe", ["a", 3], 300)
    with pytest.raises(ValueError, match="style: expected one of"):
        text.train("chars", "a", style="gpt9")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"\x89PNG\x00\x00", "binary file; expected UTF-8"), ("hi".encode("utf-16"), "UTF-16"),
     ("Größe".encode("latin-1"), "iconv"), (b"abc", "at least 10")],
)  # fmt: skip
def test_files_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        text.read_text(path, minimum=10)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        text.read_text(tmp_path / "nothing.txt")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        text.read_text(tmp_path)


def test_byte_order_mark_and_line_ends(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert text.read_text(path) == "one\ntwo\n"


def test_the_place_of_a_bad_byte_counts_the_byte_order_mark(tmp_path):
    path = tmp_path / "windows.txt"
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(mark + b"two\xffthree")
        for read in (text.read_text, lambda path: list(Lines(path))):
            with pytest.raises(ValueError, match=f"byte 0xff at offset {len(mark) + 3}"):
                read(path)


@pytest.mark.parametrize("name", ["f.txt", "f.txt.gz"])
def test_files_of_any_size_are_read_piece_by_piece(tmp_path, name):
    """The place of a bad byte counts from the file's beginning."""
    path, line = tmp_path / name, "ein Äpfel\r\n".encode()
    content = b"\xef\xbb\xbf" + line * 500_000
    write = gzip.compress if name.endswith(".gz") else bytes
    path.write_bytes(write(content))
    pieces = list(Lines(path))
    assert len(pieces) > 1 and "".join(pieces) == "ein Äpfel\n" * 500_000
    path.write_bytes(write(content + b"\xff\n"))
    with pytest.raises(ValueError, match=f"byte 0xff at offset {len(content)}"):
        list(Lines(path))
    if name.endswith(".gz"):
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match="not a whole gzip file"):
            list(Lines(path))


def test_builtin_corpus_is_python():
    corpus = text.builtin_corpus(200_000)
    assert len(corpus) == 200_000 and corpus.isascii() and corpus.count("def ") > 200
    assert corpus == text.builtin_corpus(200_000)


def test_the_builtin_corpus_takes_what_is_ascii_and_not_empty(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match="no Python source files to learn from"):
        text.builtin_corpus()
    contents = {"b.py": b"two\r\n", "a.py": b"one\n", "c.py": "é".encode(), "d.py": b" \n", "e.py": b"x\x00", "f.txt": b"no", "g.py": b"end"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert text.builtin_corpus() == "one\n\ntwo\n\nend" and text.builtin_corpus(6) == "one\n\nt"


@pytest.mark.parametrize("kind", text.KINDS)
def test_ids_that_are_none_are_not_decoded(kind):
    pytest.importorskip("tokenizers")
    tokenizer = text.train(kind, "hello world " * 50, 300)
    for ids in ([1.5], [float("nan")], ["1"]):
        with pytest.raises(TypeError, match="expected token ids, which are integers"):
            tokenizer.decode(ids)
    with pytest.raises(ValueError, match="ids: expected values .*got -100"):
        tokenizer.decode([1, -100])  # labels
    assert tokenizer.decode([]) == "" and tokenizer.decode(np.float32([1, 2])) == tokenizer.decode([1, 2])


@pytest.mark.parametrize("kind", text.KINDS)
def test_a_role_that_there_is_not_frames_no_text(kind):
    pytest.importorskip("tokenizers")
    tokenizer = text.train(kind, "hello world " * 50, 300, style="bert")
    before = tokenizer.framed("hello").tolist()
    for roles in (("CLS", "sep"), ("cls", "[SEP]"), (2, None), (["cls"], None)):
        with pytest.raises(ValueError, match="frame: expected a role, one of pad, .*, or None; got"):
            tokenizer.frame(*roles)
    assert tokenizer.framed("hello").tolist() == before
    tokenizer.frame("bos", None)  # a role without a token here
    assert tokenizer.framed("hello").tolist() == tokenizer.encode("hello").tolist()


def test_a_vocabulary_is_learnt_to_a_whole_number():
    pytest.importorskip("tokenizers")
    with pytest.raises(TypeError, match="vocab_size: expected a whole number, got '300'"):
        text.train("bpe", "hello", "300")
