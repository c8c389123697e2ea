"""Taps: the named values inside a model that someone may want to read or replace.

`tap("pattern", value)` gives `value` back untouched, at the cost of one `if`, unless a lens is active in this thread;
then the lens gets the name and the value, and what it returns is used in the value's place.

Names, in the order in which a layer makes them, with shapes (see the alphabet in `nn/__init__.py`):

    embed       (B, T, D)      what enters the first layer
    resid_pre   (B, T, D)      the residual stream before a layer
    q           (B, H, T, K)   queries, after rotary positions        k, v  (B, Hkv, S, K)
    scores      (B, H, T, S)   before softmax, masks and biases in    pattern (B, H, T, S) after it
    z           (B, H, T, K)   weighted values, before the output projection
    attn_out    (B, T, D)      what attention adds to the stream      cross_out (B, T, D) what attention to an encoder adds
    resid_mid   (B, T, D)      the stream between attention and feed-forward
    mlp_pre     (B, T, F)      before the activation                  mlp_post (B, T, F) after it
    mlp_out     (B, T, D)      what the feed-forward adds             resid_post (B, T, D) after the layer
    final_norm  (B, T, D)      after the last norm                    logits  (B, T, V)
"""

from __future__ import annotations

from typing import Any, Protocol

from ..autograd.state import local as engine

NAMES = (
    "embed", "resid_pre", "q", "k", "v", "scores", "pattern", "z", "attn_out", "cross_out", "resid_mid",
    "mlp_pre", "mlp_post", "mlp_out", "resid_post", "final_norm", "logits",
)  # fmt: skip


class Lens(Protocol):
    """What looks through the taps."""

    def wants(self, name: str) -> bool:
        """True if values of this name are to be shown. Fused kernels never form 'scores' and 'pattern'."""

    def see(self, name: str, value: Any) -> Any:
        """Look at `value`, made by the module that runs; the return value replaces it."""


def tap(name: str, value: Any) -> Any:
    """`value`, or what the active lens makes of it."""
    lens = engine.lens
    if lens is None or not lens.wants(name):
        return value
    return lens.see(name, value)


def wanted(*names: str) -> bool:
    """True if a lens is active and wants one of these."""
    lens = engine.lens
    return lens is not None and any(lens.wants(name) for name in names)


class looking_through:
    """``with looking_through(lens):`` shows the lens every tapped value it wants; this thread only, innermost lens only."""

    def __init__(self, lens: Lens) -> None:
        self.lens = lens
        self._before: list[Lens | None] = []

    def __enter__(self) -> Lens:
        self._before.append(engine.lens)
        engine.lens = self.lens
        return self.lens

    def __exit__(self, *exc: object) -> None:
        engine.lens = self._before[-1]  # no call in between: Ctrl-C must not leave the lens there
        del self._before[-1]


class Unpacked:
    """The same lens where padding is left out of the stream: (1, N, D) is shown as (B, T, D), with zeros at padding."""

    def __init__(self, lens: Lens, packed: Any) -> None:
        self.lens, self.packed = lens, packed

    def wants(self, name: str) -> bool:
        return self.lens.wants(name)

    def see(self, name: str, value: Any) -> Any:
        if value.ndim != 3:  # inside attention: padding is there
            return self.lens.see(name, value)
        return self.packed.pack(self.lens.see(name, self.packed.spread(value)))
