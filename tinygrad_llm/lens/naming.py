"""Names of the values inside a model: one vocabulary for every family, told from module paths.

    embed                        blocks.3.resid_pre    blocks.3.attn.{q,k,v,scores,pattern,z}    blocks.3.attn_out
    blocks.3.resid_mid           blocks.3.mlp_pre      blocks.3.mlp_post      blocks.3.mlp_out   blocks.3.resid_post
    final_norm                   logits

and for a sequence-to-sequence model the same with `encoder.` or `decoder.` in front, and `decoder.blocks.3.cross.*` and
`decoder.blocks.3.cross_out` for what attends to the encoder. Heads: q, k, v and z are (B, T, H, K), so that `z[:, :, 4]`
is head 4, as in TransformerLens; scores and pattern are (B, H, T, S).
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any
from weakref import WeakKeyDictionary

from ..autograd import no_grad
from ..autograd.state import local as engine
from ..nn import Module, evaluating
from ..nn.tap import looking_through

HEADS_LAST = {"q", "k", "v", "z"}  # (B, H, T, K) in the code, (B, T, H, K) here
_known: WeakKeyDictionary[Any, tuple[list[int], tuple[str, ...]]] = WeakKeyDictionary()  # model -> (its modules, its names)


def of_side(side: str) -> str:
    """What stands before the names of an encoder-decoder's side, "encoder." or "decoder."; nothing where there are no sides."""
    return f"{side}." if side else ""


def main_side(model: Any) -> str:
    """The side whose layers the logits come from: "decoder" of an encoder-decoder; nothing where there are no sides."""
    return "decoder" if getattr(model, "is_encoder_decoder", False) else ""


def name_here(model: Any, parts: Mapping[Any, str], tap: str) -> str:
    """What the vocabulary above calls a value that is tapped now; `parts` as for `path_below`."""
    path = path_below(model, parts)
    sided = main_side(model) and tap != "logits"
    side = next((part for part in path.split(".") if part in ("encoder", "decoder")), "") if sided else ""
    found = re.search(r"(?:^|\.)(?:layers|blocks)\.(\d+)(.*)", path)
    middle = ""
    if found is not None:
        place = next((part for part in found.group(2).split(".") if part in ("attn", "cross")), "")
        middle = f"blocks.{found.group(1)}." + (f"{place}." if place else "")
    return of_side(side) + middle + tap


def path_below(model: Any, parts: Mapping[Any, str]) -> str:
    """The path of the modules that run, from this model on, which may be part of another or run inside it; `parts`: its modules and
    their names, for one that was called alone."""
    depth = next((depth for module, depth in reversed(engine.modules) if module is model), None)
    if depth is not None:
        return ".".join(engine.path[depth:])
    part, depth = next(((part, depth) for part, depth in engine.modules if part in parts), (None, 0))
    start = () if part is None else (parts[part],)
    return ".".join((*start, *engine.path[depth:]))


class _Listing:
    """A lens that only writes down names."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.names: dict[str, None] = {}

    def wants(self, name: str) -> bool:
        return True

    def see(self, name: str, value: Any) -> Any:
        self.names[name_here(self.model, {}, name)] = None
        return value


def names(model: Any) -> tuple[str, ...]:
    """Every name that `record` and `patch` know for this model, in the order of its computation."""
    if not isinstance(model, Module):
        raise TypeError(f"lens: expected a model of this library, got {type(model).__name__}")
    modules = [id(module) for _, module in model.named_modules()]
    if model not in _known or _known[model][0] != modules:
        listing = _Listing(model)
        with no_grad(), looking_through(listing), evaluating(model):
            given = _least_inputs(model)
            try:
                model(**given)
            except Exception as error:
                error.add_note(f"lens: the names are found by a call {_call(model, given)}, which must work")
                raise
        _known[model] = modules, tuple(listing.names)
    return _known[model][1]


def _least_inputs(model: Any) -> dict[str, Any]:
    """A module's own `dummy_inputs`, else one token; an encoder-decoder's is the end token, whose state BART's classifier reads."""
    if "discriminator" in vars(model):  # the names of both would be the same
        raise TypeError(f"lens: {type(model).__name__} is two models; look into its `generator` or its `discriminator`")
    given = getattr(model, "dummy_inputs", None)
    if given is not None:
        return given
    if not main_side(model):
        takes = inspect.signature(model.forward).parameters
        given = {"input_ids": [[0]]}
        if "input_ids" not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            raise TypeError(
                f"lens: the names are found by a call {_call(model, given)}, but its forward takes ({', '.join(takes)}); "
                f"say what it can be called with: model.dummy_inputs = {{{next(iter(takes), '')!r}: ...}}"
            )
        return given
    end = model.config.eos_token_id
    one = [[end if isinstance(end, int) and end >= 0 else 0]]
    return {"input_ids": one, "decoder_input_ids": one}


def _call(model: Any, given: dict[str, Any]) -> str:
    shown = (f"{name}={x if isinstance(x, list) else '...'}" for name, x in given.items())
    return f"{type(model).__name__}({', '.join(shown)})"


def matching(model: Any, patterns: Iterable[str]) -> tuple[str, ...]:
    """The model's names that match any of the shell-style patterns; one that matches nothing is an error with the nearest names."""
    known = names(model)
    found: dict[str, None] = {}
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"lens: expected names, as in record(model, 'embed', '*.attn.pattern'), got {pattern!r}")
        hits = [name for name in known if fnmatchcase(name, pattern)]
        if not hits:
            near = difflib.get_close_matches(pattern, known, n=4, cutoff=0.3)
            raise KeyError(f"no value is named {pattern!r} in this {type(model).__name__}; nearest: {', '.join(near or known[:6])}")
        found.update(dict.fromkeys(hits))
    return tuple(found)
