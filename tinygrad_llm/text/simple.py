"""Characters and bytes: tokenizers that need no training and no library."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .base import Hinting, encoded, with_borrowed_roles

FILE = "vocabulary.json"


class SimpleTokenizer(Hinting):
    """Special tokens first, then one id per symbol (a character or a byte). `special_names` maps role -> spelling."""

    kind = ""
    vocab_size: int

    if TYPE_CHECKING:  # what the two kinds define

        def encode(self, text: str) -> np.ndarray: ...
        def decode(self, ids, skip_special_tokens: bool = False) -> str: ...

    def __init__(self, special_names: dict[str, str] | None = None):
        self.special_names = dict(special_names or {})
        self.special_texts = list(self.special_names.values())  # by id
        self.special = with_borrowed_roles({role: i for i, role in enumerate(self.special_names)})
        self.first = len(self.special_names)  # the id of the first ordinary symbol

    def framed(self, text: str) -> np.ndarray:
        """`encode`: no file says what stands around a text."""
        return self.encode(text)

    def frame(self, first: str | None, last: str | None) -> None:
        """Nothing: no file would say it."""

    def save(self, directory) -> None:
        """Write vocabulary.json into a directory that is there."""
        record = {"kind": self.kind, "special": self.special_names, **self.extra()}
        (Path(directory) / FILE).write_text(json.dumps(record, ensure_ascii=False), "utf-8")

    def extra(self) -> dict:
        return {}

    def checked(self, ids, skip_special_tokens: bool) -> np.ndarray:
        ids = np.asarray(ids, dtype=np.int64).reshape(-1)
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

    def encode(self, text: str) -> np.ndarray:
        """Ids (T,) int64; ValueError for a character outside the vocabulary where there is no `unk`."""
        points = code_points(text)
        if not len(self.codes):
            places, known = np.zeros(len(points), dtype=np.int64), np.zeros(len(points), dtype=bool)
        else:
            places = np.minimum(np.searchsorted(self.codes, points), len(self.codes) - 1)
            known = self.codes[places] == points
        ids = places.astype(np.int64) + self.first
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
    try:
        if record.get("kind") == "chars":
            return CharTokenizer(record["characters"], record["special"])
        if record.get("kind") == "bytes":
            return ByteTokenizer(record["special"])
    except KeyError as error:
        raise ValueError(f"{FILE}: damaged, {error} is missing; save the tokenizer anew") from None
    raise ValueError(f"{FILE}: kind: expected chars or bytes, got {record.get('kind')!r}")
