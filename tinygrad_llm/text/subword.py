"""Byte-level BPE, WordPiece and Unigram, trained and run by the `tokenizers` library.

Papers: BPE, Sennrich et al. 2016, over bytes, Radford et al. 2019; WordPiece, Schuster and Nakajima 2012, Wu et al.
2016; Unigram, Kudo 2018. The files are those of the checkpoints: tokenizer.json, or GPT's and GPT-2's vocab.json +
merges.txt, or BERT's vocab.txt.
"""

import json
from pathlib import Path

import numpy as np

from .._check import as_ids, whole
from . import simple
from .base import Hinting, around, check_roles, encoded, roles_in, transformers_config

KINDS = ("bpe", "wordpiece", "unigram")


def library():
    """The `tokenizers` package, or what to install."""
    try:
        import tokenizers
    except ImportError:
        raise ImportError(
            "subword tokenizers need the `tokenizers` package: pip install 'tinygrad-llm[text]'  "
            "(or use --tokenizer chars or bytes, which need nothing)"
        ) from None
    return tokenizers


class SubwordTokenizer(Hinting):
    """A `tokenizers.Tokenizer`, which is `inner`, behind the project's interface. `encode` adds no special tokens: objectives do.

    Where each token stands in the text, for questions and names: `inner.encode(text).offsets` and `.word_ids`.
    """

    kind = "subword"

    def __init__(self, inner):
        inner.no_truncation()  # a tokenizer.json may hold both, as its last use left them; texts here have any length
        inner.no_padding()
        self.inner = inner
        self.vocab_size = max(inner.get_vocab().values()) + 1  # ids may have holes
        self.special = roles_in(inner.get_vocab())

    def encode(self, text: str, framed: bool = False) -> np.ndarray:
        """Ids (T,) int64; `framed`: see `framed`."""
        encoded(text)  # the library says of half a surrogate pair that it expected a str
        return np.array(self.inner.encode(text, add_special_tokens=framed).ids, dtype=np.int64)

    def framed(self, text: str) -> np.ndarray:
        """`encode`, within the special tokens that tokenizer.json puts around a text; none where it says nothing of it."""
        return self.encode(text, framed=True)

    def frame(self, first: str | None, last: str | None) -> None:
        """From now on the special tokens with these roles stand before a `framed` text and after it; None: nothing does."""
        check_roles(self.special, first, last)
        single, pair = around(self.special, first, last)
        ids = {role: [self.special[role]] for role in (first, last) if role in self.special}
        if self.framed("").tolist() == [i for part, _ in single for i in ids.get(part, self.encode(""))]:
            return  # so it is, and a checkpoint's file may say more, as GPT-2's does of the space before a token
        spelt = {role: self.inner.id_to_token(i) for role, [i] in ids.items()}
        pieces = lambda parts: [f"{spelt.get(part, part)}:{kind}" for part, kind in parts]
        tokens = [(token, self.special[role]) for role, token in spelt.items()]
        template = library().processors.TemplateProcessing(single=pieces(single), pair=pieces(pair), special_tokens=tokens)
        self.inner.post_processor = template

    def decode(self, ids, skip_special_tokens: bool = False) -> str:
        """The text of ids, special tokens in their spelling or, if so asked, left out."""
        hidden = set(self.special.values()) if skip_special_tokens else ()
        ids = as_ids(ids).reshape(-1)
        if ids.size and ids.min() < 0:
            raise ValueError(f"ids: expected values of at least 0, got {ids.min()}")
        kept = [i for i in ids.tolist() if i not in hidden]
        return self.inner.decode(kept, skip_special_tokens=bool(skip_special_tokens))

    def word_starts(self, ids) -> np.ndarray:
        """(T,) True where a token begins a word; what whole-word masking groups by."""
        tokens = [self.inner.id_to_token(int(i)) or "" for i in ids]
        model = type(self.inner.model).__name__
        if model == "WordPiece":
            return np.array([not t.startswith("##") for t in tokens], dtype=bool)
        marker = ("Ġ", "▁") if model == "BPE" else "▁"  # Llama's BPE is over characters, and marks words as Unigram does
        return np.array([i == 0 or t.startswith(marker) for i, t in enumerate(tokens)], dtype=bool)

    def save(self, directory) -> None:
        """Write tokenizer.json into a directory that is there, and tokenizer_config.json so that transformers takes it as it is."""
        text = self.inner.to_str(pretty=True)  # the library's own save fails by a bare Exception on a full disk
        (Path(directory) / "tokenizer.json").write_text(text, "utf-8")
        config = json.dumps(self.config(json.loads(text)), indent=2, ensure_ascii=False)
        (Path(directory) / simple.CONFIG).write_text(config, "utf-8")
        for name in (simple.FILE, *simple.LEFT):  # of a tokenizer that was here before; `load` would take the first one first
            (Path(directory) / name).unlink(missing_ok=True)

    def config(self, record: dict) -> dict:
        """tokenizer_config.json beside a tokenizer.json that holds `record`, with BERT's way with letters where it has it."""
        added = {token["id"]: token["content"] for token in record["added_tokens"] if token["special"]}
        cls = self.special.get("cls")
        typed = cls not in (None, self.special.get("bos")) and cls in self.framed("")
        said = transformers_config({role: added[i] for role, i in self.special.items() if i in added}, typed)
        way = record["normalizer"] or {}
        if way.get("type") == "BertNormalizer":
            said |= {"do_lower_case": way["lowercase"], "strip_accents": way["strip_accents"],
                     "tokenize_chinese_chars": way["handle_chinese_chars"]}  # fmt: skip
        return said


MOST_TOKENS = 10_000_000  # the library makes room for all that it may learn, and where there is none ends the process


def train_subword(kind: str, texts, vocab_size: int, special_names: dict[str, str]) -> SubwordTokenizer:
    """Learns a vocabulary of at most `vocab_size` from `texts` (an iterable of strings)."""
    tk = library()
    unk = special_names.get("unk") or {"wordpiece": "[UNK]", "unigram": "<unk>"}.get(kind)
    specials = list(special_names.values())
    if unk is not None and unk not in specials:
        specials = [unk, *specials]
    vocab_size = whole("vocab_size", vocab_size)
    if vocab_size > MOST_TOKENS:
        raise ValueError(f"vocab_size: expected at most {MOST_TOKENS:,}, got {vocab_size}")
    if vocab_size <= len(specials):
        raise ValueError(f"vocab_size: expected more than the {len(specials)} special tokens, got {vocab_size}")
    learn = {"bpe": byte_level_bpe, "wordpiece": wordpiece, "unigram": unigram}[kind]
    try:
        inner = learn(tk, texts, vocab_size, specials, unk)
    except Exception as error:  # the library's own are bare: unigram has room for every character, or fails
        if type(error) is not Exception:
            raise
        raise ValueError(f"vocab_size: {kind} cannot learn {vocab_size} tokens from this text: {error}") from error
    inner.add_special_tokens(specials)
    return SubwordTokenizer(inner)


def assembled(model, pre_tokenizer, decoder, normalizer=None):
    """The library's tokenizer of these parts."""
    inner = library().Tokenizer(model)
    inner.normalizer, inner.pre_tokenizer, inner.decoder = normalizer, pre_tokenizer, decoder
    return inner


def byte_level_bpe(tk, texts, vocab_size, specials, unk):
    inner = assembled(tk.models.BPE(), tk.pre_tokenizers.ByteLevel(add_prefix_space=False), tk.decoders.ByteLevel())
    alphabet = tk.pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(alphabet) + len(specials):
        raise ValueError(f"vocab_size: byte-level BPE has {len(alphabet)} bytes and {len(specials)} special tokens "
                         f"before its first merge; got {vocab_size}")
    inner.train_from_iterator(texts, trainer=tk.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False))  # fmt: skip
    return inner


def wordpiece(tk, texts, vocab_size, specials, unk):
    """Learnt twice, because the library numbers the letters within words in an order that is another one in each process, and of
    two pairs that are equally frequent joins that with the lower numbers: first those letters alone, then all with them in order.
    """
    texts = list(texts) if iter(texts) is texts else texts  # a generator gives its texts once

    def vocabulary(size, first):
        inner = framework(tk.models.WordPiece(unk_token=unk))
        trainer = tk.trainers.WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False)
        inner.train_from_iterator(texts, trainer=trainer)
        return inner.get_vocab()

    def framework(model):
        cased = tk.normalizers.BertNormalizer(lowercase=False)
        return assembled(model, tk.pre_tokenizers.BertPreTokenizer(), tk.decoders.WordPiece(), cased)

    letters = sorted(t for t in vocabulary(len(specials), specials) if t.startswith("##") and t not in specials)
    return framework(tk.models.WordPiece(vocabulary(vocab_size, specials + letters), unk_token=unk))


def unigram(tk, texts, vocab_size, specials, unk):
    """The library's pieces, ordered anew: it adds its sums up in an order that is another one each time, so that the last bits of
    the scores and the order of equal ones change, and hands the characters left over scores 0.0001 apart in any order.
    """
    framework = lambda model: assembled(model, tk.pre_tokenizers.Metaspace(), tk.decoders.Metaspace())
    inner = framework(tk.models.Unigram())
    inner.train_from_iterator(texts, trainer=tk.trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=specials, unk_token=unk, show_progress=False))  # fmt: skip
    learnt = json.loads(inner.to_str())["model"]["vocab"]
    pieces = in_order(learnt[len(specials) :])
    return framework(tk.models.Unigram([*map(tuple, learnt[: len(specials)]), *pieces], specials.index(unk), False))


def in_order(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Unigram's pieces, the best first, equal ones in the order of their characters; scores to six decimals."""
    scores = {piece: round(score, 6) for piece, score in pieces}
    least = min(scores.values(), default=0.0)
    steps = {piece: (score - least) * 1e4 for piece, score in scores.items() if len(piece) == 1}
    left_over = sorted(piece for piece, step in steps.items() if step <= len(steps) and abs(step - round(step)) < 0.005)
    scores |= zip(left_over, sorted((scores[piece] for piece in left_over), reverse=True))
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def read_gpt2_files(vocab: Path, merges: Path, add_prefix_space: bool = False) -> SubwordTokenizer:
    """GPT-2's and RoBERTa's pair of files, or the first GPT's, whose words end with </w>. add_prefix_space: a text's first word
    is written as those after a space are."""
    tk = library()
    if "</w>" in merges.read_text("utf-8"):
        return read_gpt1_files(tk, vocab, merges)
    model, pieces = tk.models.BPE.from_file(str(vocab), str(merges)), tk.pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    inner = assembled(model, pieces, tk.decoders.ByteLevel())
    known = inner.get_vocab()
    inner.add_special_tokens([t for t in ("<s>", "<pad>", "</s>", "<unk>", "<|endoftext|>") if t in known])
    if "<mask>" in known:
        inner.add_special_tokens([tk.AddedToken("<mask>", lstrip=True, special=True)])  # RoBERTa's takes the space before it
    return SubwordTokenizer(inner)


def read_gpt1_files(tk, vocab: Path, merges: Path) -> SubwordTokenizer:
    """GPT's pair of files: BPE over the characters of lowercase words (Radford et al. 2018, section 4.1)."""
    end = "</w>"
    model = tk.models.BPE.from_file(str(vocab), str(merges), unk_token="<unk>", end_of_word_suffix=end)
    lower, decoder = tk.normalizers.BertNormalizer(lowercase=True), tk.decoders.BPEDecoder(suffix=end)
    inner = assembled(model, tk.pre_tokenizers.BertPreTokenizer(), decoder, lower)
    inner.add_special_tokens([t for t in ("<unk>",) if t in inner.get_vocab()])
    return SubwordTokenizer(inner)


def read_bert_vocab(vocab: Path, **normalizing: bool | None) -> SubwordTokenizer:
    """BERT's one-token-a-line file; normalizing: arguments of the library's BertNormalizer."""
    tk = library()
    model, normalizer = tk.models.WordPiece.from_file(str(vocab), unk_token="[UNK]"), tk.normalizers.BertNormalizer(**normalizing)
    inner = assembled(model, tk.pre_tokenizers.BertPreTokenizer(), tk.decoders.WordPiece(), normalizer)
    known = inner.get_vocab()
    inner.add_special_tokens([t for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t in known])
    tokenizer = SubwordTokenizer(inner)
    tokenizer.frame("cls", "sep")
    return tokenizer


def read_tokenizer_json(path: Path) -> SubwordTokenizer:
    tk = library()
    try:
        return SubwordTokenizer(tk.Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises bare Exception for a file it cannot parse
        raise ValueError(f"{path}: not a tokenizer.json that the tokenizers library can read: {error}") from error
