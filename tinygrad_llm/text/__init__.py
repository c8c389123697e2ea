"""From text to ids and back: characters, bytes, and the three subword methods of the checkpoints people have.

    tokenizer = text.train("bpe", "some text ...", vocab_size=500)
    ids = tokenizer.encode("hello")            # int64 ndarray (T,)
    tokenizer.decode(ids)                      # "hello"
    tokenizer.save(directory); text.load(directory)

Every tokenizer has `vocab_size`, `encode`, `decode`, `save`, and `special`: a dict from a role ("pad", "bos", "eos",
"unk", "mask", "cls", "sep", "extra_0", ...) to an id, with only the roles that it has. `framed` is `encode` within
the special tokens that the files put around a text, `frame` says which. What `save` writes is read by transformers'
AutoTokenizer, too, with the same ids.
"""

import sys
from typing import Any

from .base import STYLES, Tokenizer, special_tokens
from .corpus import builtin_corpus, read_text
from .files import KINDS, load, train
from .simple import ByteTokenizer, CharTokenizer

__all__ = ["KINDS", "STYLES", "ByteTokenizer", "CharTokenizer", "Tokenizer", "builtin_corpus", "load", "read_text",
           "special_tokens", "train"]


def __getattr__(name: str) -> Any:
    """What transformers has and this room has not: the error says how it is written."""
    from ..autograd.elsewhere import OF_TEXT, no_attribute

    raise no_attribute(sys.modules[__name__], name, OF_TEXT)
