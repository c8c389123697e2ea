"""Where a run's time goes: by operation and by module, forward and backward apart, beside what the machine could do.

with lens.profile() as report:
    model(input_ids=ids, labels=ids).loss.backward()
print(report.text(limits={"gflops": 230, "gbytes": 40}))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .tape import Call, Tape, trace


@dataclass
class Row:
    """The sum over some calls: seconds, floating-point operations, bytes moved."""

    name: str
    calls: int = 0
    forward: float = 0.0
    backward: float = 0.0
    flops: int = 0
    backward_flops: int = 0
    moved: int = 0
    saved: int = 0

    def add(self, call: Call) -> None:
        self.calls += 1
        for key in ("forward", "backward", "flops", "backward_flops", "moved", "saved"):
            setattr(self, key, getattr(self, key) + getattr(call, key))

    @property
    def seconds(self) -> float:
        return self.forward + self.backward

    def share(self, limits: dict[str, float]) -> float:
        """The least time that the machine's limits allow for the forward, over the time it took."""
        least = max(self.flops / (limits["gflops"] * 1e9), self.moved / (limits["gbytes"] * 1e9))
        return least / self.forward if self.forward else 0.0


class Profile(Tape):
    """What `profile` gives."""

    def by_op(self) -> list[Row]:
        """One row for each operation, most time first."""
        return self._rows(lambda call: call.op)

    def by_module_rows(self, depth: int | None = None) -> list[Row]:
        """One row for each module path (cut to `depth` parts), most time first."""
        return self._rows(lambda call: ".".join(call.module.split(".")[:depth]) or "(outside any module)")

    def _rows(self, key: Callable[[Call], str]) -> list[Row]:
        rows: dict[str, Row] = {}
        for call in self.calls:
            name = key(call)
            rows.setdefault(name, Row(name)).add(call)
        return sorted(rows.values(), key=lambda row: -row.seconds)

    def table(self, rows: list[Row], limits: dict[str, float] | None = None) -> str:
        total = sum(row.seconds for row in rows) or 1.0
        head = f"{'':<36}{'calls':>6}{'forward':>12}{'backward':>12}{'share':>8}{'GFLOP/s':>10}{'GB/s':>8}"
        lines = [head + (f"{'of limit':>10}" if limits else "")]
        for r in rows:
            rate = r.flops / r.forward / 1e9 if r.forward else 0.0
            flow = r.moved / r.forward / 1e9 if r.forward else 0.0
            line = f"{r.name:<36}{r.calls:>6}{r.forward * 1e3:>9.2f} ms{r.backward * 1e3:>9.2f} ms"
            line += f"{r.seconds / total:>8.1%}{rate:>10.1f}{flow:>8.1f}"
            lines.append(line + (f"{r.share(limits):>10.0%}" if limits else ""))
        return "\n".join(lines)

    def text(self, limit: int | None = None, limits: dict[str, float] | None = None) -> str:  # type: ignore[override]
        """Both tables. `limits`: the machine's {"gflops", "gbytes"}, as `tinygrad-llm bench` measures them."""
        return f"{self.table(self.by_op()[:limit], limits)}\n\n{self.table(self.by_module_rows()[:limit], limits)}"


class profile(trace):
    """``with lens.profile() as report:`` times every operation and gradient rule of this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.watcher: Any = Profile()
