"""All adapters, and the table of results."""

# ruff: noqa: E501
from __future__ import annotations

from . import elementwise, linear_algebra, neural, reductions, shapes
from .runner import NOTHING, PASSED, UNSUPPORTED, WRONG, Row

ADAPTERS = {**elementwise.TABLE, **reductions.TABLE, **shapes.TABLE, **linear_algebra.TABLE, **neural.TABLE}


def totals(rows: list[Row], order: str) -> dict[str, int]:
    return {what: sum(row.count(order, what) for row in rows) for what in (PASSED, UNSUPPORTED, WRONG, NOTHING)}


def render(rows: list[Row]) -> str:
    """One line for each operation: passed / unsupported / wrong at first and second order, and the first reason."""
    lines = [f"{'operation':44} {'first order':>24} {'second order':>24}", f"{'':44} {'passed unsupp. wrong':>24} {'passed unsupp. wrong':>24}"]
    for row in sorted(rows, key=lambda r: r.name):
        counts = [" ".join(f"{row.count(order, what):6d}" for what in (PASSED, UNSUPPORTED, WRONG)) for order in ("first", "second")]
        why = next((v.why for v in row.verdicts if v.why), "").split("\n")[0][:100]
        lines.append(f"{row.name:44} {counts[0]:>24} {counts[1]:>24}  {why}".rstrip())
    for order in ("first", "second"):
        t = totals(rows, order)
        done = t[PASSED] + t[UNSUPPORTED] + t[WRONG]
        lines.append(f"{order} order: {t[PASSED]} of {done} passed ({t[PASSED] / max(done, 1):.1%}), {t[UNSUPPORTED]} unsupported, {t[WRONG]} wrong")
    lines.append(f"{len(rows)} operations, {sum(len(r.verdicts) for r in rows)} samples")
    return "\n".join(lines)
