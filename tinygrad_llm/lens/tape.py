"""The tape of a run: every operation with its module, shapes, bytes kept for backward and time, as text, DOT and SVG.

with lens.trace() as tape:
    model(input_ids=ids, labels=ids).loss.backward()
print(tape.text())
"""

from __future__ import annotations

import html
import weakref
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Observer, Tensor, observe
from ..autograd.node import memory_owner
from ..autograd.state import local
from .flops import backward_flops, forward_flops


@dataclass
class Call:
    """One operation's call. Seconds of `backward` stay 0 until its gradient rules have run."""

    index: int
    op: str
    module: str
    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]
    dtype: str
    forward: float
    flops: int
    moved: int  # bytes read and written by the forward
    saved: int  # bytes that backward keeps alive through this call
    backward: float = 0.0
    backward_flops: int = 0
    parents: list[int] = field(default_factory=list)


def array_bytes(value: Any, seen: set[int]) -> int:
    """Bytes of the arrays in `value`, those whose memory is in `seen` not again."""
    if isinstance(value, (tuple, list)):
        return sum(array_bytes(part, seen) for part in value)
    if not isinstance(value, np.ndarray):
        return 0
    owner = id(memory_owner(value))
    if owner in seen:
        return 0
    seen.add(owner)
    return value.nbytes


class Tape(Observer):
    """What `trace` gives: the calls in order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._by_node: dict[int, Call] = {}
        self._made_by: dict[int, tuple[Any, int]] = {}  # id of an output array -> (weakref to it, index of its call)
        self._saved: set[int] = set()

    # -- watching ----------------------------------------------------------------------------------------------------

    def after_op(self, op: Any, inputs: Any, params: Any, outputs: Any, node: Any, seconds: float) -> None:
        tensors = [x for x in inputs if isinstance(x, (Tensor, np.ndarray))]
        arrays = [x._data if isinstance(x, Tensor) else x for x in tensors]
        made = [out._data for out in outputs]
        shapes, out_shapes = [a.shape for a in arrays], [a.shape for a in made]
        for x, array in zip(tensors, arrays, strict=True):  # parameters are alive anyway: nothing keeps them for backward
            if isinstance(x, Tensor) and x.is_leaf:
                array_bytes(array, self._saved)
        call = Call(
            index=len(self.calls),
            op=op.name,
            module=".".join(local.path),
            inputs=shapes,
            outputs=out_shapes,
            dtype=str(made[0].dtype),
            forward=seconds,
            flops=forward_flops(op.name, shapes, out_shapes, params),
            moved=sum(a.nbytes for a in arrays) + sum(a.nbytes for a in made),
            saved=array_bytes(node.saved, self._saved) if node is not None else 0,
        )
        for array in arrays:
            reference, index = self._made_by.get(id(array), (None, -1))
            if reference is not None and reference() is array and index not in call.parents:
                call.parents.append(index)
        for array in made:
            self._made_by[id(array)] = (weakref.ref(array), call.index)
        if node is not None:
            self._by_node[id(node)] = call
        self.calls.append(call)

    def after_rule(self, node: Any, g: Any, gradients: Any, seconds: float) -> None:
        call = self._by_node.get(id(node))
        if call is not None:
            call.backward += seconds
            call.backward_flops = backward_flops(call.op, call.flops)

    # -- reading -----------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<{len(self.calls)} operations, {_size(sum(c.saved for c in self.calls))} kept for backward; text() has them all>"

    def text(self, limit: int | None = None) -> str:
        """The tape as a table, grouped by module."""
        lines = [f"{'#':>5}  {'operation':<22}{'output':<26}{'kept':>10}{'forward':>11}{'backward':>11}"]
        module = None
        for call in self.calls[:limit]:
            if call.module != module:
                module = call.module
                lines.append(f"{module or '(outside any module)'}")
            shapes = " ".join(str(shape) for shape in call.outputs)
            times = f"{call.forward * 1e6:>8.0f} us" + (f"{call.backward * 1e6:>8.0f} us" if call.backward else f"{'-':>11}")
            lines.append(f"{call.index:>5}  {call.op:<22}{shapes:<26}{_size(call.saved):>10}{times}")
        if limit is not None and len(self.calls) > limit:
            lines.append(f"... {len(self.calls) - limit} more")
        total = sum(c.saved for c in self.calls)
        ahead, back = (sum(getattr(c, k) for c in self.calls) for k in ("forward", "backward"))
        times = f"forward {ahead * 1e3:.2f} ms, backward {back * 1e3:.2f} ms"
        lines.append(f"{len(self.calls)} operations, {_size(total)} kept for backward, {times}")
        return "\n".join(lines)

    def dot(self) -> str:
        """The graph in Graphviz's language, a cluster for each module."""
        lines = ["digraph tape {", "  rankdir=TB; node [shape=box, fontsize=10];"]
        for i, (module, calls) in enumerate(self.by_module().items()):
            lines.append(f'  subgraph cluster_{i} {{ label="{_quoted(module or "(outside any module)")}";')
            for c in calls:
                lines.append(
                    f'    n{c.index} [label="{_quoted(c.op)}\\n{c.outputs[0]}\\nkept {_size(c.saved)}, {c.forward * 1e6:.0f} us"];'
                )
            lines.append("  }")
        lines += [f"  n{parent} -> n{c.index};" for c in self.calls for parent in c.parents]
        return "\n".join([*lines, "}"])

    def svg(self, limit: int = 400) -> str:
        """The graph as a drawing, top to bottom in the order of computation, one column for each level of parallel work."""
        calls = self.calls[:limit]
        wide, high, left, top = 190, 62, 12, 12
        depth: dict[int, int] = {}
        used: Counter[int] = Counter()  # columns at each depth
        spot: dict[int, tuple[int, int]] = {}
        for c in calls:
            row = depth[c.index] = 1 + max((depth[p] for p in c.parents), default=-1)
            spot[c.index] = left + used[row] * wide, top + row * high
            used[row] += 1
        width = left * 2 + max(used.values(), default=1) * wide
        height = top * 2 + (max(depth.values(), default=0) + 1) * high
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="11" role="img" aria-label="graph of operations">'
        ]
        for c in calls:
            x, y = spot[c.index]
            for px, py in (spot[p] for p in c.parents):
                parts.append(f'<path d="M{px + 85} {py + 44} C{px + 85} {py + 58} {x + 85} {y - 14} {x + 85} {y}" '
                             'fill="none" stroke="#888" stroke-width="1"/>')  # fmt: skip
        for c in calls:
            x, y = spot[c.index]
            times = f"forward {c.forward * 1e6:.0f} us, backward {c.backward * 1e6:.0f} us"
            title = f"{c.module}\n{c.op} {c.inputs} -> {c.outputs}\nkept {_size(c.saved)}, {times}"
            box = f'<rect x="{x}" y="{y}" width="170" height="44" rx="5" fill="{_tint(c.module)}" stroke="#555"/>'
            name = f'<text x="{x + 8}" y="{y + 17}" font-weight="bold">{html.escape(c.op)}</text>'
            size = f'<text x="{x + 8}" y="{y + 34}">{c.outputs[0]} · {_size(c.saved)}</text>'
            parts.append(f"<g><title>{html.escape(title)}</title>{box}{name}{size}</g>")
        if len(self.calls) > limit:
            parts.append(f'<text x="{left}" y="{height - 2}">{len(self.calls) - limit} more operations not drawn</text>')
        return "".join([*parts, "</svg>"])

    def by_module(self) -> dict[str, list[Call]]:
        """Module path -> its calls, in order of first use."""
        groups: dict[str, list[Call]] = {}
        for call in self.calls:
            groups.setdefault(call.module, []).append(call)
        return groups


class trace(observe):
    """``with lens.trace() as tape:`` watches every operation of this thread, forward and backward. Keeps no array alive."""

    def __init__(self) -> None:
        super().__init__(Tape())

    if TYPE_CHECKING:

        def __enter__(self) -> Tape: ...


def _size(n: int) -> str:
    for unit in ("B", "KB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000  # type: ignore[assignment]
    return f"{n:.2f} GB"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _tint(module: str) -> str:
    """A light colour for a module's kind, safe for the colour-blind (Okabe and Ito's palette, lightened)."""
    for word, colour in (("norm", "#d5eee3"), ("cross", "#f6d8ea"), ("attn", "#cfe6f5"), ("mlp", "#fbe3c2")):
        if word in ".".join(module.split(".")[-2:]):
            return colour
    return "#eeeeee"
