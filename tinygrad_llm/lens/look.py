"""Read and replace values inside a model: `record` and `patch`.

Both are lenses on the model's taps (see nn/tap.py). Several may be open at once, in any order: patches act first, and
every record sees what they left. Each looks into its own model; what another does in the meantime is not seen and not changed.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..autograd.ops import broadcast_to
from ..autograd.ops_index import index_put
from ..autograd.ops_shape import as_tensor
from ..autograd.state import local as engine
from .naming import HEADS_LAST, matching, name_here, of_side


class _Look:
    """What record and patch share: standing in the thread's chain of lenses."""

    patches = False
    hooks = False  # what `met` returns must be what the model goes on with, even where it is the same

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        self.model, self.modules = model, {module: name for name, module in model.named_modules()}
        self.names = set(names)
        self.taps = {name.rsplit(".", 1)[-1] for name in names}
        self.passed: dict[str, None] = {}  # names of values that came by, wanted or not
        self._outer: list[Any] = []

    def __enter__(self) -> Any:
        chain = engine.lens.looks if isinstance(engine.lens, _Chain) else []
        self._outer.append(engine.lens)
        engine.lens = _Chain([*chain, self])
        return self

    def __exit__(self, *exc: object) -> None:
        engine.lens = self._outer[-1]  # no call in between, as in nn/tap.py
        del self._outer[-1]

    def met(self, name: str, value: Tensor) -> Tensor:
        raise NotImplementedError


class _Chain:
    """The lens that the taps see: all open looks, patches first."""

    def __init__(self, looks: list[_Look]) -> None:
        self.looks = sorted(looks, key=lambda look: not look.patches)
        self.taps = set().union(*(look.taps for look in looks))

    def wants(self, name: str) -> bool:
        return name in self.taps

    def see(self, name: str, value: Any) -> Any:
        for look in self.looks:
            if engine.modules and engine.modules[-1][0] not in look.modules:  # another model's
                continue
            full = name_here(look.model, look.modules, name)
            look.passed[full] = None
            if full in look.names:
                value = as_tensor(value)  # a block that is called alone may be given an array
                seen = value.transpose(0, 2, 1, 3) if name in HEADS_LAST else value  # (B, H, T, K) -> (B, T, H, K)
                new = look.met(full, seen)
                if new is not seen or look.hooks:
                    value = new.transpose(0, 2, 1, 3) if name in HEADS_LAST else new
        return value


class _Arrays(dict[str, np.ndarray]):
    """Name -> array, in the order in which they came."""

    def stack(self, tap: str, side: str = "") -> np.ndarray:
        """Those of one kind from all layers: (L, ...). `stack("attn.pattern")`, `stack("resid_post", "decoder")`."""
        pattern = re.compile(rf"{re.escape(of_side(side))}blocks\.(\d+)\.{re.escape(tap)}")
        found = {int(hit[1]): value for name, value in self.items() if (hit := pattern.fullmatch(name))}
        if not found:
            raise KeyError(f"no layer's {tap!r} was recorded; recorded: {', '.join(self)}")
        return np.stack([found[layer] for layer in sorted(found)])  # sorted, since a backward comes from the last layer


class Gradients(_Arrays):
    """Name -> the gradient there, as a backward fills it."""

    def __missing__(self, name: str) -> np.ndarray:
        have = ", ".join(self) or "nothing yet (open record(..., gradients=True) and run a backward)"
        raise KeyError(f"{name!r} has no gradient; recorded: {have}")


class Values(_Arrays):
    """What was recorded: name -> array, in order. `grad` has the same for gradients, `nbytes` is what all of it holds."""

    def __init__(self) -> None:
        self.grad = Gradients()

    def __missing__(self, name: str) -> np.ndarray:
        raise KeyError(f"{name!r} was not recorded; recorded: {', '.join(self) or 'nothing yet (run the model inside)'}")

    @property
    def nbytes(self) -> int:
        """Bytes of all recorded arrays, gradients included. Arrays are kept by reference, not copied."""
        return sum(a.nbytes for a in (*self.values(), *self.grad.values()))

    def __repr__(self) -> str:
        return f"<{len(self)} values, {len(self.grad)} gradients, {self.nbytes / 1e6:.1f} MB>"


class record(_Look):
    """``with lens.record(model, "*.attn.pattern") as values: model(input_ids=...)``: named arrays from inside the model.

    Patterns are shell-style, over the names of `lens.names(model)`. With `gradients=True` a backward run inside or after
    fills `values.grad` with the loss's gradients at the same names. A later forward takes the place of an earlier one,
    and so does a later backward. A frozen model has gradients, too; what activation checkpointing runs again is not recorded again.
    Asking for `scores` or `pattern` runs that attention in elementary operations, which form them; the numbers agree.
    """

    def __init__(self, model: Any, *patterns: str, gradients: bool = False) -> None:
        super().__init__(model, matching(model, patterns or ("*",)))
        self.values = Values()
        self.hooks = gradients
        self._leaves: set[str] = set()

    def __enter__(self) -> Values:
        super().__enter__()
        return self.values

    def met(self, name: str, value: Tensor) -> Tensor:
        if engine.again:  # recorded the first time
            return _own(value) if name in self._leaves else value
        array = self.values[name] = value._data
        self.values.grad.pop(name, None)
        if not self.hooks:
            return value
        if not engine.grad_enabled:
            raise RuntimeError(f"record: {name} has no gradient under no_grad(); run the model outside it")
        values = self.values
        if value.is_leaf:  # a patch's, or made by frozen parameters
            self._leaves.add(name)
            value = _own(value)

        def keep(g: Tensor) -> None:
            if values.get(name) is array:  # no later run has taken its place
                values.grad[name] = g._data

        value.register_hook(keep)
        return value


def _own(leaf: Tensor) -> Tensor:
    """The leaf's value with a gradient of its own."""
    return (leaf if leaf.requires_grad else leaf.detach().requires_grad_()) * 1.0


Replacement = Any  # a number, an array, a Tensor, or a function of the value


class patch(_Look):
    """``with lens.patch(model, {"blocks.3.attn.z[:, :, 4]": 0.0}): model(...)``: replace values while the model runs.

    Keys are names (or patterns), with an index where only a part is meant; a replacement is a number, an array or Tensor of the
    part's shape (or one that broadcasts to it), or a function that gets the part as a Tensor and returns its replacement.
    -inf at `scores` hides a key. (Where activation checkpointing runs a block again, the function is called again, too.)
    An index counts the positions of one run: in `generate` those of the prompt, and then each new token is the first of its own.
    A key of which no value was made by the end of the block is an error.
    Gradients flow through replacements and through what was left. To patch from another run: `values["blocks.3.resid_pre"]`.
    """

    patches = True

    def __init__(self, model: Any, replacements: Mapping[str, Replacement]) -> None:
        self.changes: dict[str, list[tuple[Any, Replacement]]] = {}
        self.hits: dict[str, tuple[str, ...]] = {}
        if not isinstance(replacements, Mapping):
            raise TypeError(f"patch: expected a dict of names and replacements, got {type(replacements).__name__}")
        for key, replacement in replacements.items():
            name, index = parse(key)
            self.hits[key] = matching(model, (name,))
            for hit in self.hits[key]:
                self.changes.setdefault(hit, []).append((index, replacement))
        super().__init__(model, tuple(self.changes))

    def __exit__(self, kind: Any = None, *exc: object) -> None:
        super().__exit__(kind, *exc)
        if self._outer:  # opened twice
            return
        passed, self.passed = self.passed, {}
        for key, hits in self.hits.items():
            if kind is None and passed.keys().isdisjoint(hits):
                near = difflib.get_close_matches(hits[0], passed, n=4, cutoff=0.3)
                made = f"made were {', '.join(near)}" if near else f"run this {type(self.model).__name__} there, in the same thread"
                raise RuntimeError(f"patch: {key!r} replaced nothing, as no such value was made inside the block; {made}")

    def met(self, name: str, value: Tensor) -> Tensor:
        for index, replacement in self.changes[name]:
            value = replaced(name, value, index, replacement)
        return value


def parse(key: str) -> tuple[str, Any]:
    """'blocks.3.attn.z[:, :, 4]' -> ('blocks.3.attn.z', (slice(None), slice(None), 4)); no index -> (key, None).

    Brackets after a dot, or that the name goes on after, are the pattern's: 'blocks.[02].attn_out', 'blocks.0.attn.[kv]'.
    """
    found = re.fullmatch(r"((?:[^\[]|(?<=\.)\[[^\]]*\]|\[[^\]]*\](?=[\w.*?\[]))*)(\[.*)?", key, re.DOTALL)
    assert found is not None
    name, index = found[1].strip(), found[2]
    if index is None:
        return name, None
    index = re.sub(r"\bnp\.u?int\d+\((-?\d+)\)", r"\1", index)  # how a list of NumPy's integers is written in an f-string
    try:
        subscript = ast.parse(f"x{index}", mode="eval").body
        assert isinstance(subscript, ast.Subscript)
        return name, _index(subscript.slice)
    except (SyntaxError, ValueError, AssertionError) as error:
        raise ValueError(
            f"patch: cannot read the index in {key!r}; write it as in NumPy, with numbers, like 'z[:, -1, 4]'"
        ) from error


def _index(node: ast.expr) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(_index(part) for part in node.elts)
    if isinstance(node, ast.Slice):
        return slice(*(None if part is None else ast.literal_eval(part) for part in (node.lower, node.upper, node.step)))
    return ast.literal_eval(node)


def replaced(name: str, value: Tensor, index: Any, replacement: Replacement) -> Tensor:
    """`value` with the part at `index` (None: all of it) replaced."""
    try:
        part = value if index is None else value[index]
    except IndexError as error:
        raise IndexError(f"patch: {name} has shape {value.shape}, which the index {index} does not fit: {error}") from error
    new = replacement(part) if callable(replacement) else replacement
    if not isinstance(new, Tensor):
        array = np.asarray(new)
        if array.dtype.kind not in "fiub":
            what = "its function returned" if callable(replacement) else "it got"
            raise TypeError(f"patch: {name} is to be replaced by a number, an array or a Tensor; {what} {new!r:.60}")
        new = Tensor(array.astype(value.dtype))
    try:
        fits = np.broadcast_shapes(new.shape, part.shape) == part.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"patch: {name}{'' if index is None else ' at the index'} has shape {part.shape}, the replacement {new.shape}"
        )
    new = broadcast_to(new.astype(value.dtype), part.shape)
    return new if index is None else index_put(value, new, index=index)
