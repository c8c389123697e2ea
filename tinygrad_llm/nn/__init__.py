"""Neural parts: layers, attention, positions, blocks. Parameters have PyTorch's names and shapes.

The alphabet of shapes, used in every file above the engine: `B` batch, `T` query positions, `S` key positions, `H` heads,
`Hkv` key-value heads, `K` head width, `D` model width, `F` feed-forward width, `V` vocabulary, `L` layers.
"""

import sys
from typing import Any

from ..autograd.elsewhere import OF_NN, no_attribute
from ..autograd.functional import __all__ as _functional
from . import init
from .attention import MultiHeadAttention
from .blocks import DecoderBlock, EncoderBlock
from .cache import KVCache, LayerCache
from .evaluating import evaluating
from .feedforward import ACTIVATIONS, FeedForward, activation
from .layers import Dropout, Embedding, LayerNorm, Linear, RMSNorm, linear
from .mask import Mask, Packed, from_attention_mask
from .module import Module
from .positions import LearnedPositions, RelativeBias, Rotary, relative_buckets, sinusoidal
from .prepared import run_prepared
from .quantized import Int8Weight
from .tap import NAMES as TAPS
from .tap import Lens, looking_through, tap

__all__ = [
    "ACTIVATIONS", "DecoderBlock", "Dropout", "Embedding", "EncoderBlock", "FeedForward", "Int8Weight", "KVCache", "LayerCache",
    "LayerNorm", "LearnedPositions", "Lens", "Linear", "Mask", "Module", "MultiHeadAttention", "Packed", "RMSNorm",
    "RelativeBias", "Rotary", "TAPS", "activation", "evaluating", "from_attention_mask", "init", "linear",
    "looking_through", "relative_buckets", "run_prepared", "sinusoidal", "tap",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """What PyTorch has and this room has not: the error says how it is written."""
    raise no_attribute(sys.modules[__name__], name, OF_NN, functional=_functional)
