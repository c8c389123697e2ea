"""Choosing, training and reading tokenizers by name and by directory."""

import json
from collections.abc import Iterable
from pathlib import Path

from . import simple, subword
from .base import FRAMES, Tokenizer, special_tokens
from .simple import ByteTokenizer, CharTokenizer

KINDS = ("chars", "bytes", *subword.KINDS)


def train(kind: str, text: str | Iterable[str], vocab_size: int | None = None, *, style: str = "plain",
          sentinels: int = 0) -> Tokenizer:
    """A tokenizer of this kind for this text (one string, or an iterable of strings).

    style: whose special tokens to have (`STYLES`), and to put around a text that is `framed`. vocab_size counts for the subword
    kinds only, 4096 where it is not given.
    """
    names = special_tokens(style, sentinels)
    texts = [text] if isinstance(text, str) else text
    if kind not in KINDS:
        raise ValueError(f"tokenizer: expected one of {', '.join(KINDS)}; got {kind!r}")
    tokenizer: Tokenizer
    if kind == "chars":
        tokenizer = CharTokenizer("".join(set().union(*map(set, texts))), names)
    elif kind == "bytes":
        tokenizer = ByteTokenizer(names)
    else:
        tokenizer = subword.train_subword(kind, texts, 4096 if vocab_size is None else vocab_size, names)
    tokenizer.frame(*FRAMES.get(style, (None, None)))
    return tokenizer


def load(directory) -> Tokenizer:
    """The tokenizer of a checkpoint directory, whichever of the known files it has."""
    folder = Path(directory).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such directory; `hf download` fetches a checkpoint and its tokenizer into one")
    if (folder / simple.FILE).is_file():
        return simple.from_record(read_json(folder / simple.FILE))
    if (folder / "tokenizer.json").is_file():
        return subword.read_tokenizer_json(folder / "tokenizer.json")
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        prefix = bool(config_of(folder).get("add_prefix_space", False))
        tokenizer = with_added_tokens(subword.read_gpt2_files(folder / "vocab.json", folder / "merges.txt", prefix), folder)
        if is_roberta(folder):
            tokenizer.frame("bos", "eos")
        return tokenizer
    if (folder / "vocab.txt").is_file():
        return with_added_tokens(subword.read_bert_vocab(folder / "vocab.txt", **bert_options(folder)), folder)
    raise FileNotFoundError(f"{folder}: no tokenizer here; expected {simple.FILE}, tokenizer.json, vocab.json with "
                            "merges.txt, or vocab.txt")


def config_of(folder: Path, name: str = simple.CONFIG) -> dict:
    """What a file of settings says; nothing where there is none."""
    return read_json(folder / name) if (folder / name).is_file() else {}


def is_roberta(folder: Path) -> bool:
    """Whether the pair of files is RoBERTa's or BART's, which frame a text; a GPT-2 with the same special tokens does not."""
    said = config_of(folder).get("tokenizer_class") or config_of(folder, "config.json").get("model_type") or ""
    return said.lower().startswith(("roberta", "bart"))


def bert_options(folder: Path) -> dict[str, bool | None]:
    """How BERT's text is prepared, as tokenizer_config.json says; uncased where it says nothing, and accents go where case goes."""
    said = config_of(folder)
    return {"lowercase": bool(said.get("do_lower_case", True)), "strip_accents": said.get("strip_accents"),
            "handle_chinese_chars": bool(said.get("tokenize_chinese_chars", True))}  # fmt: skip


def with_added_tokens(tokenizer: subword.SubwordTokenizer, folder: Path) -> subword.SubwordTokenizer:
    """The tokenizer with what added_tokens.json adds to its vocabulary: token -> id, in the order of their ids."""
    path = folder / "added_tokens.json"
    if not path.is_file():
        return tokenizer
    added = read_json(path)
    if not isinstance(added, dict) or not all(isinstance(i, int) for i in added.values()):
        raise ValueError(f"{path}: expected an object that gives each token its id")
    inner = tokenizer.inner
    inner.add_special_tokens(sorted(added, key=lambda token: added[token]))
    for token, i in added.items():
        if (expected := inner.token_to_id(token)) != i:
            raise ValueError(f"{path}: {token!r} has id {i}, expected {expected}: ids of added tokens follow the vocabulary "
                             "without a hole; save the tokenizer as tokenizer.json")  # fmt: skip
    return subword.SubwordTokenizer(inner)


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged, not valid JSON ({error})") from error
