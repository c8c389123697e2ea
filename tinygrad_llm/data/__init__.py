"""Batches out of token ids: windows of one long text, shuffled examples, padding, packing, token files on disk.

Everything here is ndarrays in, ndarrays out. A source of batches keeps its position in `state_dict()`, so that a resumed
run goes on with the very batch that the stopped one would have had.
"""

import sys
from typing import Any

from .packing import pack
from .padding import IGNORE, pad, pad_labels
from .sources import Examples, Windows, by_length
from .splitting import split_ids, split_items
from .token_file import TokenFile, write_tokens

__all__ = ["IGNORE", "Examples", "TokenFile", "Windows", "by_length", "pack", "pad", "pad_labels", "split_ids",
           "split_items", "write_tokens"]


def __getattr__(name: str) -> Any:
    """What `torch.utils.data` has and this room has not: the error says how it is written."""
    from ..autograd.elsewhere import OF_DATA, no_attribute

    raise no_attribute(sys.modules[__name__], name, OF_DATA)
