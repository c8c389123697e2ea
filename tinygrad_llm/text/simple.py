"""Characters and bytes: tokenizers that need no training and no library."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._check import as_ids
from .base import Hinting, around, check_roles, encoded, transformers_config, with_borrowed_roles

FILE = "vocabulary.json"
CONFIG = "tokenizer_config.json"
#: What an older tokenizer may have left beside its files; transformers would add its tokens to those of the one that is saved now.
LEFT = ("special_tokens_map.json", "added_tokens.json")


class SimpleTokenizer(Hinting):
    """Special tokens first, then one id per symbol (a character or a byte). `special_names` maps role -> spelling."""

    kind = ""
    vocab_size: int

    if TYPE_CHECKING:  # what the two kinds define

        def transformers_model(self) -> dict: ...
        def encode(self, text: str) -> np.ndarray: ...
        def decode(self, ids, skip_special_tokens: bool = False) -> str: ...

    def __init__(self, special_names: dict[str, str] | None = None):
        self.special_names = dict(special_names or {})
        self.special_texts = list(self.special_names.values())  # by id
        self.special = with_borrowed_roles({role: i for i, role in enumerate(self.special_names)})
        self.first = len(self.special_names)  # the id of the first ordinary symbol
        self.frame(None, None)

    def framed(self, text: str) -> np.ndarray:
        """`encode`, within the special tokens that vocabulary.json puts around a text; none where it says nothing of it."""
        found = ([self.special[role]] if role in self.special else [] for role in self.roles_around)
        before, after = (np.array(ids, dtype=np.int64) for ids in found)
        return np.concatenate([before, self.encode(text), after])

    def frame(self, first: str | None, last: str | None) -> None:
        """From now on the special tokens with these roles stand before a `framed` text and after it; None: nothing does."""
        check_roles(self.special, first, last)
        self.roles_around = first, last

    def save(self, directory) -> None:
        """Write vocabulary.json into a directory that is there; and tokenizer.json with tokenizer_config.json, for transformers."""
        record = {"kind": self.kind, "special": self.special_names, "frame": self.roles_around, **self.extra()}
        for name, content in ((FILE, record), ("tokenizer.json", self.for_transformers()), (CONFIG, self.config())):
            (Path(directory) / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        for name in LEFT:
            (Path(directory) / name).unlink(missing_ok=True)

    def config(self) -> dict:
        """Special tokens that a text spells out are none, as here."""
        spelt = {role: self.special_texts[i] for role, i in self.special.items()}
        typed = ("$B", 1) in around(self.special, *self.roles_around)[1]
        return transformers_config(spelt, typed) | {"split_special_tokens": True}

    def for_transformers(self) -> dict:
        """The tokenizer in the words of the `tokenizers` library."""
        spelt = {role: self.special_texts[self.special[role]] for role in self.roles_around if role in self.special}
        name = lambda part: ("SpecialToken", spelt[part]) if part in spelt else ("Sequence", part[1:])
        pieces = lambda parts: [{what: {"id": text, "type_id": kind}} for part, kind in parts for what, text in [name(part)]]
        single, pair = map(pieces, around(self.special, *self.roles_around))
        tokens = {token: {"id": token, "ids": [self.special[role]], "tokens": [token]} for role, token in spelt.items()}
        template = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}
        ways = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        added = [{"id": i, "content": token, **ways} for i, token in enumerate(self.special_texts)]
        return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
                "post_processor": template, **self.transformers_model()}  # fmt: skip

    def numbered(self, symbols) -> dict[str, int]:
        """The whole vocabulary, special tokens first."""
        return {symbol: i for i, symbol in enumerate([*self.special_texts, *symbols])}

    def extra(self) -> dict:
        return {}

    def checked(self, ids, skip_special_tokens: bool) -> np.ndarray:
        ids = as_ids(ids).reshape(-1)
        if ids.size and (ids.min() < 0 or ids.max() >= self.vocab_size):
            raise ValueError(f"ids: expected values in [0, {self.vocab_size}), got {ids.min()} to {ids.max()}")
        return ids[ids >= self.first] if skip_special_tokens else ids


class CharTokenizer(SimpleTokenizer):
    """One id per character that the training text has, in code point order.

    A character outside the vocabulary becomes the `unk` token where there is one, else it is an error.
    """

    kind = "chars"

    def __init__(self, characters: str, special_names=None):
        super().__init__(special_names)
        self.characters = "".join(sorted(set(characters)))
        self.codes = code_points(self.characters)  # (n,), ascending
        self.vocab_size = self.first + len(self.characters)

    def extra(self) -> dict:
        return {"characters": self.characters}

    def transformers_model(self) -> dict:
        """Every character is a word; one outside the vocabulary an error where there is no `unk`, here as there."""
        split = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
        unk = self.special_names.get("unk", "[UNK]")
        return {"pre_tokenizer": split, "decoder": {"type": "Fuse"},
                "model": {"type": "WordLevel", "vocab": self.numbered(self.characters), "unk_token": unk}}  # fmt: skip

    def encode(self, text: str) -> np.ndarray:
        """Ids (T,) int64; ValueError for a character outside the vocabulary where there is no `unk`."""
        points = code_points(text)
        known = np.isin(points, self.codes)
        ids = np.searchsorted(self.codes, points).astype(np.int64) + self.first
        if not known.all():
            if "unk" not in self.special:
                strange = chr(points[np.argmin(known)])
                raise ValueError(
                    f"the character {strange!r} (U+{ord(strange):04X}) is not in this model's vocabulary of "
                    f"{len(self.characters)} characters; leave it out, or train with a text that has it"
                )
            ids[~known] = self.special["unk"]
        return ids

    def decode(self, ids, skip_special_tokens: bool = False) -> str:
        """The text of ids, without the special tokens among them if so asked; ValueError for an id that there is not."""
        return "".join(self.special_texts[i] if i < self.first else self.characters[i - self.first]
                       for i in self.checked(ids, skip_special_tokens).tolist())


class ByteTokenizer(SimpleTokenizer):
    """UTF-8 bytes: any text, 256 symbols; bytes that do not decode show as the replacement character."""

    kind = "bytes"

    def __init__(self, special_names=None):
        super().__init__(special_names)
        self.vocab_size = self.first + 256

    def transformers_model(self) -> dict:
        """Byte-level BPE before its first merge, each byte by the letter that GPT-2 writes for it."""
        seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
        unseen = iter(range(256, 512))
        letters = [chr(b if b in seen else next(unseen)) for b in range(256)]
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return {"pre_tokenizer": level, "decoder": level, "model": {"type": "BPE", "vocab": self.numbered(letters), "merges": []}}

    def encode(self, text: str) -> np.ndarray:
        """Ids (bytes,) int64."""
        return np.frombuffer(encoded(text), dtype=np.uint8).astype(np.int64) + self.first

    def decode(self, ids, skip_special_tokens: bool = False) -> str:
        """The text of ids, without the special tokens among them if so asked; ValueError for an id that there is not."""
        raw = b"".join(self.special_texts[i].encode("utf-8") if i < self.first else bytes([i - self.first])
                       for i in self.checked(ids, skip_special_tokens).tolist())
        return raw.decode("utf-8", errors="replace")


def code_points(text: str) -> np.ndarray:
    """"hé" -> [104, 233] as uint32."""
    return np.frombuffer(encoded(text, "utf-32-le"), dtype=np.uint32)


def from_record(record: dict) -> SimpleTokenizer:
    if not isinstance(record, dict):
        raise ValueError(f"{FILE}: expected an object with kind, characters and special; got {type(record).__name__}")
    kind = record.get("kind")
    if kind not in ("chars", "bytes"):
        raise ValueError(f"{FILE}: kind: expected chars or bytes, got {kind!r}")
    try:
        names = record["special"]
        tokenizer = CharTokenizer(record["characters"], names) if kind == "chars" else ByteTokenizer(names)
    except KeyError as error:
        raise ValueError(f"{FILE}: damaged, {error} is missing; save the tokenizer anew") from None
    tokenizer.frame(*record.get("frame", (None, None)))
    return tokenizer
