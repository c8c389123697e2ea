"""PyTorch's own test material as oracle: for each operation in reach every float64 sample input of its OpInfo table.

Value, gradient and second order are compared in float64. What is unsupported must raise; nothing may be wrong.
Run with -s to see the table.
"""

from __future__ import annotations

import pytest

from .opinfo.runner import PASSED, UNSUPPORTED, WRONG, Row, op_infos, run_op
from .opinfo.table import ADAPTERS, render, totals


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    found = [run_op(name, info, ADAPTERS[name]) for name, info in op_infos(set(ADAPTERS))]
    print("\n" + render(found))
    return found


def test_every_adapter_has_its_entry(rows: list[Row]) -> None:
    assert {row.name for row in rows} == set(ADAPTERS)


def test_reach(rows: list[Row]) -> None:
    assert len(rows) >= 280
    assert sum(len(row.verdicts) for row in rows) >= 3800


def test_nothing_is_wrong(rows: list[Row]) -> None:
    wrong = [f"{row.name}: {v.why}" for row in rows for v in row.verdicts if WRONG in (v.first, v.second)]
    assert not wrong, "\n".join(wrong[:40])


@pytest.mark.parametrize(("order", "share"), [("first", 0.95), ("second", 0.90)])
def test_share(rows: list[Row], order: str, share: float) -> None:
    t = totals(rows, order)
    assert t[PASSED] >= share * (t[PASSED] + t[UNSUPPORTED] + t[WRONG]), render(rows)
