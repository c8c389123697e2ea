"""Where a run's time goes."""

import pytest

from tests.lens.small import IDS, made_up
from tinygrad_llm import lens


def test_profile_counts_flops_of_products(gpt):
    with lens.profile() as run:
        gpt(input_ids=IDS)
    up = [c for c in run.calls if c.module.endswith("layers.0.mlp.up") and c.op == "linear"]
    assert up and all(c.flops == 2 * IDS.size * 32 * 128 for c in up)
    assert "of limit" in run.text(limits={"gflops": 100.0, "gbytes": 20.0})


def test_a_profile_adds_up_by_operation_and_by_module():
    report = made_up(("add", "a.b", 1e-3, 0.0, 10, 4_000_000), ("linear", "a.b", 2e-3, 6e-3, 4_000_000, 80),
                     ("linear", "a.c", 1e-3, 1e-3, 8_000_000, 20), ("exp", "", 5e-3, 0.0, 1, 1))  # fmt: skip
    rows = report.by_op()
    assert [(row.name, row.calls) for row in rows] == [("linear", 2), ("exp", 1), ("add", 1)]
    linear = rows[0]
    assert (linear.forward, linear.backward, linear.seconds) == pytest.approx((3e-3, 7e-3, 1e-2))
    assert (linear.flops, linear.backward_flops, linear.moved, linear.saved) == (12_000_000, 24_000_000, 100, 16)
    limits = {"gflops": 8.0, "gbytes": 5.0}
    assert linear.share(limits) == pytest.approx(12e6 / 8e9 / 3e-3)  # its products bind,
    assert rows[2].share(limits) == pytest.approx(4e6 / 5e9 / 1e-3)  # and an addition's bytes
    assert [row.name for row in report.by_module_rows()] == ["a.b", "(outside any module)", "a.c"]
    assert [(row.name, row.calls) for row in report.by_module_rows(depth=1)] == [("a", 3), ("(outside any module)", 1)]
    table = [line.split() for line in report.table(rows, limits).splitlines()]
    assert table[1] == ["linear", "2", "3.00", "ms", "7.00", "ms", "62.5%", "4.0", "0.0", "50%"]
    assert table[3] == ["add", "1", "1.00", "ms", "0.00", "ms", "6.2%", "0.0", "4.0", "80%"]
    assert "exp" in report.text() and "exp" in report.text(limit=2) and "exp" not in report.text(limit=1)
