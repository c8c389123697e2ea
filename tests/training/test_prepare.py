"""From files to examples: what is read, split and refused."""

import gzip

import numpy as np
import pytest

from tests.training.small import TEXT, prepared
from tinygrad_llm import text as texts
from tinygrad_llm.training import prepare


def test_translation_pairs(tmp_path):
    lines = [f"{i} apples\t{i} Äpfel" for i in range(40)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    choices = prepare.DataChoices("translation", "seq2seq", 16)
    data = prepare.prepare(tmp_path / "pairs.tsv", None, choices)
    assert data.info == {"pairs": 40, "longest": 9} and data.task.smoothing == choices.label_smoothing == 0.1
    batch = data.task.draw(4)
    eos = data.tokenizer.special["eos"]
    for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"]):
        source, target = data.tokenizer.decode(ids[mask == 1][:-1]), data.tokenizer.decode(labels[labels >= 0][:-1])
        assert f"{source}\t{target}" in lines and labels[labels >= 0][-1] == eos
    (tmp_path / "en").write_text("\n".join(p.split("\t")[0] for p in lines))
    (tmp_path / "de").write_text("\n".join(p.split("\t")[1] for p in lines))
    two = prepare.prepare(tmp_path / "en", tmp_path / "de", choices)
    assert np.array_equal(two.task.draw(4)["labels"], batch["labels"])


@pytest.mark.parametrize(
    ("objective", "content", "message"),
    [
        ("translation", "one\ttwo\nthree\n", "line 2: expected SOURCE<tab>TARGET"),
        ("translation", "one\ttwo\n", "1 pairs; at least 10"),
        ("classification", "ham\thello\nspam\n", "line 2: expected LABEL<tab>TEXT"),
        ("classification", "".join(f"{i}\ttext\n" for i in range(10)), "9 different labels in 9 lines"),
        ("masked+next_sentence", "one line\nonly", "at least 4"),
        ("causal", "short", "fewer than one window of 17; use a longer text or a shorter context"),
    ],
)
def test_files_that_do_not_fit_the_objective(tmp_path, objective, content, message):
    (tmp_path / "f").write_text(content)
    with pytest.raises(ValueError, match=message):
        prepare.prepare(tmp_path / "f", None, prepare.DataChoices(objective, "bert", 16))


@pytest.mark.parametrize("family", ["bert", "albert"])
@pytest.mark.parametrize("paragraphs", [4, 9, 14])
def test_few_paragraphs_hold_out_a_stranger(family, paragraphs, tmp_path):
    """Next-sentence prediction draws from another document, so that one alone cannot be evaluated."""
    data, _ = prepared(family, "the fox jumps. it is quick.\n\n" * paragraphs, tmp_path)
    assert len(data.task.held) == 2 and len(data.task.train) == paragraphs - 2
    assert data.info["documents"] == paragraphs and data.info["tokens"] == len("the fox jumps.it is quick.") * paragraphs
    data.task.evaluation()


@pytest.mark.parametrize(
    ("objective", "style", "framed"),
    [("causal", "plain", "fox"), ("masked", "bert", "[CLS]fox[SEP]"), ("masked", "bart", "<s>fox</s>"), ("replaced_token", "bert", "[CLS]fox[SEP]"),
     ("text_infilling", "bart", "fox</s>"), ("span_corruption", "t5", "fox</s>"), ("translation", "seq2seq", "fox</s>"),
     ("classification", "plain", "<s>fox</s>"), ("classification", "bert", "[CLS]fox[SEP]")],
)  # fmt: skip
def test_a_tokenizer_frames_a_text_as_the_objective_does(objective, style, framed, tmp_path):
    pytest.importorskip("tokenizers")
    corpus = {"translation": "the fox	der Fuchs\n" * 20, "classification": "ham	the fox\nspam	the dog\n" * 20}.get(objective, TEXT)
    (tmp_path / "corpus.txt").write_text(corpus)
    choices = prepare.DataChoices(objective, style, 16, tokenizer="bpe", vocab=300)
    data = prepare.prepare(tmp_path / "corpus.txt", None, choices)
    assert data.tokenizer.inner.decode(data.tokenizer.framed("fox").tolist(), skip_special_tokens=False) == framed
    ids, special = data.task.draw(2)["input_ids"][0], data.tokenizer.special
    frame = [special[role] if role else None for role in data.task.frame]
    assert frame[0] in (None, ids[0]) and frame[1] in (None, *ids[ids != special.get("pad", -1)][-1:])
    data.tokenizer.save(tmp_path)  # another run's tokenizer has this one's frame
    for other in ("causal", "masked"):
        again = prepare.make_tokenizer(None, prepare.DataChoices(other, "bert", 16, tokenizer=str(tmp_path)))
        cls, sep = ([special[role]] if role in special and other == "masked" else [] for role in ("cls", "sep"))
        assert again.framed("fox").tolist() == [*cls, *again.encode("fox"), *sep]


def test_a_directory_called_as_a_kind_of_tokenizer(tmp_path, monkeypatch):
    (tmp_path / "chars").mkdir()
    monkeypatch.chdir(tmp_path)
    assert prepared("gpt2", tmp_path=tmp_path)[0].tokenizer.kind == "chars"


def test_lines_end_at_line_ends_alone(tmp_path):
    """str.splitlines cuts at eight more characters, which stand inside of texts."""
    odd = "a\u2028b\u0085c\x0bd\x0ce"
    (tmp_path / "en").write_bytes("\r\n".join([odd] * 12).encode())
    (tmp_path / "de").write_text("\n".join(["Satz"] * 12) + "\n", "utf-8")
    assert prepare.read_pairs(tmp_path / "en", tmp_path / "de") == [(odd, "Satz")] * 12
    (tmp_path / "f").write_text(f"ham\t{odd}\nspam\tbuy now\n" * 10, "utf-8")
    data = prepare.prepare(tmp_path / "f", None, prepare.DataChoices("classification", "bert", 16))
    assert data.info["examples"] == 20
    (tmp_path / "f").write_text("one\ttwo\n\nthree\n")
    with pytest.raises(ValueError, match="line 3: expected SOURCE<tab>TARGET"):
        prepare.read_pairs(tmp_path / "f")


def test_a_header_is_no_example(tmp_path):
    (tmp_path / "f").write_text("label\ttext\n" + "ham\thello there\nspam\tbuy now\n" * 10)
    data = prepare.prepare(tmp_path / "f", None, prepare.DataChoices("classification", "bert", 16))
    assert data.info["labels"] == ["ham", "spam"] and data.info["examples"] == 20


def test_a_large_file_is_read_from_disk(tmp_path, monkeypatch):
    """The same windows, whether the tokens are in memory or in a file."""
    (tmp_path / "f").write_text(TEXT)
    choices = prepare.DataChoices("causal", "plain", 16)
    small = prepare.prepare(tmp_path / "f", None, choices, scratch=tmp_path / "out")
    monkeypatch.setattr(prepare, "IN_MEMORY", 100)
    with gzip.open(tmp_path / "f.gz", "wt") as file:
        file.write(TEXT)
    packed = prepare.prepare(tmp_path / "f.gz", None, choices, scratch=tmp_path / "packed")
    large = prepare.prepare(tmp_path / "f", None, choices, scratch=tmp_path / "out")
    assert (tmp_path / "out" / "tokens.bin").is_file()
    again = prepare.prepare(tmp_path / "f", None, choices, tokenizer=small.tokenizer, scratch=tmp_path / "out")
    assert again.tokenizer is small.tokenizer, "one that is given is not trained anew"
    with pytest.raises(ValueError, match="--target is for translation"):
        prepare.prepare(tmp_path / "f", tmp_path / "f", choices)
    for _ in range(3):
        ids = small.task.draw(5)["input_ids"]
        assert np.array_equal(ids, large.task.draw(5)["input_ids"]) and np.array_equal(ids, packed.task.draw(5)["input_ids"])
    assert all(np.array_equal(a["labels"], b["labels"]) for a, b in zip(small.task.evaluation(), large.task.evaluation()))


def test_classes_that_are_numbers_stand_in_their_order(tmp_path):
    """2 before 10, and numbers before names; a text may have tabs of its own."""
    (tmp_path / "f").write_text("".join(f"{label}\tsome\ttext\n" for label in ("10", "b", "9", "-1", "a")) * 4)
    data = prepare.prepare(tmp_path / "f", None, prepare.DataChoices("classification", "bert", 16))
    assert data.info["labels"] == ["-1", "9", "10", "a", "b"]
    ids, label = data.task.source.items[0]
    assert data.tokenizer.decode(ids) == "some\ttext" and label == 2


def test_a_class_in_every_line_is_none(tmp_path):
    """Two classes are few enough for two lines; one alone leaves nothing to tell apart."""
    choices = prepare.DataChoices("classification", "bert", 16)
    (tmp_path / "f").write_text("ham\thello\nspam\tbuy\nham\thi\n")
    assert prepare.prepare(tmp_path / "f", None, choices).info["labels"] == ["ham", "spam"]
    (tmp_path / "f").write_text("ham\thello\n" * 9)
    with pytest.raises(ValueError, match="1 different labels in 9 lines"):
        prepare.prepare(tmp_path / "f", None, choices)


def test_documents_are_paragraphs_of_a_few_sentences():
    """One of a single sentence goes on with the next; a long one is cut, and a sentence left over is no document."""
    text = "One. Two!\n \nalone?\n\nthree; four: five. six.\nseven\nlast"
    assert prepare.documents(text, longest=3, least=2) == [["One.", "Two!"], ["alone?", "three;", "four:"], ["five.", "six.", "seven"]]
    assert [len(d) for d in prepare.documents("word. " * 61 + "\n\n", least=1)] == [30, 30]
    with pytest.raises(ValueError, match="the text has 2 paragraphs .* need at least 3"):
        prepare.documents("a. b.\n\nc. d.", least=3)


def test_a_sentence_without_tokens_is_in_no_pair(tmp_path):
    sample = "".join(f"Here it is, {i}.\n\u200b\nAnd here again.\n\n" for i in range(40))
    data, _ = prepared("bert", sample, tmp_path, tokenizer="wordpiece", vocab=60)
    assert all(len(sentence) for d in data.task.train + data.task.held for sentence in d)


def test_what_stands_in_a_file_of_pairs(tmp_path):
    """Spaces around a text and what follows a second tab are none of it; a pair with one side empty is none."""
    (tmp_path / "f").write_text("one \t eins\tnoun\n\tzwei\nthree\t\n\nfour\tvier\n")
    assert prepare.read_pairs(tmp_path / "f", least=2) == [("one", "eins"), ("four", "vier")]
    (tmp_path / "g").write_text("eins\n")
    with pytest.raises(ValueError, match=r"f has 5 lines and .*g has 1; they must be translations line by line"):
        prepare.read_pairs(tmp_path / "f", tmp_path / "g")


def test_only_marks_that_are_tokens_end_sentences(tmp_path):
    tokenizer = texts.train("chars", "abc. d!\n", style="bert")  # which has no question mark, and says [UNK] for it
    assert prepare.sentence_ends(tokenizer) == [int(tokenizer.encode(mark)[0]) for mark in ".!\n"]
    assert prepare.sentence_ends(texts.train("chars", "abc")) == []
    data, _ = prepared("bart", tmp_path=tmp_path)
    assert len(data.task.ends) == 3 and data.task.ends == prepare.sentence_ends(data.tokenizer)


@pytest.mark.parametrize("objective, wanted", [("translation", "a file of pairs"), ("classification", "a file with one LABEL<tab>TEXT")])
def test_no_corpus_is_built_in_for_pairs_and_labels(objective, wanted):
    with pytest.raises(ValueError, match=f"{objective} needs {wanted}"):
        prepare.prepare(None, None, prepare.DataChoices(objective, "seq2seq", 16))
