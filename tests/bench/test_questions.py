"""Whole runs of question files in processes of their own, and the command around them."""

import argparse
import json
from pathlib import Path

import pytest

from tinygrad_llm.bench import Options, discover, report
from tinygrad_llm.bench.run import Question
from tinygrad_llm.cli import bench

GOOD = '''"""Which sum is faster?"""
import os
import numpy as np
from tinygrad_llm.bench import Case, Skip, randn

def cases(options):
    for n in options.sizes(10, 20):
        yield summing(n, options)

def summing(n, options):
    case = Case(f"sum {n}", inputs=lambda rng: randn(rng, options.dtype, (n,)), flops=n, bytes=4 * n, unit="number", work=n)

    @case.contestant("ours")
    def _(x):
        print("noise on stdout must not reach the protocol")
        return lambda: x.sum()

    @case.contestant("numpy")
    def _(x):
        return lambda: np.add.reduce(x)

    @case.contestant("shy")
    def _(x):
        raise Skip("stays at home")

    @case.contestant("absent")
    def _(x):
        import a_package_nobody_has
    return case
'''


def ask(tmp_path, source, against=None, **options):
    path = tmp_path / "mine.py"
    path.write_text(source)
    said = []
    record = Question(path, Options(**{"seconds": 0.05, "threads": 1} | options), against, said.append, lambda *_: None).run()
    return record, said


def run_cli(*arguments):
    parser = argparse.ArgumentParser()
    bench.add_parser(parser.add_subparsers())
    return bench.run(parser.parse_args(["bench", *map(str, arguments)]))


def test_a_question_is_validated_timed_and_says_who_stayed_away(tmp_path):
    record, said = ask(tmp_path, GOOD)
    assert record["failed"] is None and record["doc"] == "Which sum is faster?"
    assert [c["name"] for c in record["cases"]] == ["sum 10", "sum 20"]
    for case in record["cases"]:
        assert case["checked"] == "numpy"
        assert set(case["contestants"]) == {"ours", "numpy"}
        assert case["ratios"]["numpy"]["low"] <= case["ratios"]["numpy"]["ratio"] <= case["ratios"]["numpy"]["high"]
        assert case["skipped"] == {
            "shy": "stays at home",
            "absent": "needs the package 'a_package_nobody_has', which is not installed",
        }
    assert any("stays at home" in line for line in said)


def test_a_wrong_result_stops_the_question_before_timing(tmp_path):
    record, _ = ask(tmp_path, GOOD.replace("lambda: x.sum()", "lambda: x.sum() * 1.01"))
    assert "sum 10: ours disagrees with numpy" in record["failed"]
    assert record["cases"] == []


def test_expected_values_judge_everyone(tmp_path):
    source = GOOD.replace("flops=n,", "flops=n, expected=lambda x: x.sum() + 1,")
    record, _ = ask(tmp_path, source, against=[])
    assert "ours disagrees with the expected values" in record["failed"]


@pytest.mark.parametrize(
    ("harm", "said"),
    [("raise RuntimeError('no luck')", "RuntimeError: no luck"), ("os._exit(7)", "ended with code 7")],
)
def test_a_contestant_that_breaks_fails_the_question_with_its_reason(tmp_path, harm, said):
    record, _ = ask(tmp_path, GOOD.replace('print("noise on stdout must not reach the protocol")', harm))
    assert said in record["failed"]


def test_fresh_cases_report_their_own_peak_memory(tmp_path):
    source = GOOD.replace("flops=n,", "flops=n, fresh=True,").replace("lambda: x.sum()", "lambda: np.ones(n).sum() * 0 + x.sum()")
    record, _ = ask(tmp_path, source, against=[], size=(1_000, 20_000_000))
    small, large = (c["contestants"]["ours"] for c in record["cases"])
    grown = large["peak_bytes"] - small["peak_bytes"]
    # the float32 input and one float64 temporary, 20 million numbers each
    assert 12 * 20_000_000 * 0.9 < grown < 12 * 20_000_000 * 1.5
    assert small["bytes_before"] <= small["peak_bytes"]


RUNS = '''"""Whole runs."""
import os, time
from tinygrad_llm.bench import Case

def cases(options):
    case = Case("run", runs=2, tol=0.1, threads=1)

    @case.contestant("ours")
    def _():
        calls = []
        def run():
            calls.append(time.sleep(0.05))
            return float(len(calls)), int(os.environ["OMP_NUM_THREADS"])
        return run

    @case.contestant("other")
    def _():
        return lambda: (THEIRS, 1)
    yield case
'''


def test_whole_runs_are_timed_as_often_as_said_and_validated_by_what_they_returned(tmp_path):
    record, _ = ask(tmp_path, RUNS.replace("THEIRS", "2"), threads=2)
    assert record["failed"] is None
    (case,) = record["cases"]
    assert case["contestants"]["ours"]["rounds"] == 2 and 0.04 < case["contestants"]["ours"]["best"] < 1
    record, _ = ask(tmp_path, RUNS.replace("THEIRS", "1"))
    assert "run: ours disagrees with other: output 0 at () is 2, expected 1" in record["failed"]


def test_a_file_without_cases_and_a_name_used_twice_are_errors(tmp_path):
    with pytest.raises(LookupError, match=r"has no function `cases\(options\)`"):
        ask(tmp_path, '"""Nothing."""')
    with pytest.raises(ValueError, match="already has a contestant 'numpy'"):
        ask(tmp_path, GOOD.replace('"shy"', '"numpy"'))


def test_command_writes_json_tables_and_compares(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report.machine, "measured_limits", lambda threads: {"gflops": 100.0, "gbytes": 10.0})
    mine = tmp_path / "mine.py"
    mine.write_text(GOOD)
    saved = tmp_path / "deep" / "now.json"
    common = [mine, "--seconds", "0.05", "--size", "10", "--threads", "1"]
    assert run_cli(*common, "--against", "numpy,nobody", "--json", saved, "--markdown", tmp_path / "t.md") == 0
    shown = capsys.readouterr()
    assert "nobody was skipped: no question that ran has this contestant" in shown.err
    assert "sum 10" in shown.out and (tmp_path / "t.md").read_text() == shown.out
    results = report.read(saved)
    assert results["questions"][0]["cases"][0]["name"] == "sum 10"
    readme = tmp_path / "README.md"
    readme.write_text("<!-- benchmarks --><!-- /benchmarks -->")
    assert run_cli("--show", saved, "--readme", readme) == 0
    assert capsys.readouterr().out == shown.out and "sum 10" in readme.read_text()
    assert run_cli("--compare", saved, saved) == 0
    assert "0 regressions" in capsys.readouterr().out
    slower = json.loads(saved.read_text())
    slower["questions"][0]["cases"][0]["contestants"]["ours"]["median"] *= 1.5
    (tmp_path / "slower.json").write_text(json.dumps(slower))
    assert run_cli("--compare", saved, tmp_path / "slower.json") == 1
    assert "REGRESSION" in capsys.readouterr().out


def test_a_failed_validation_fails_the_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report.machine, "measured_limits", lambda threads: {})
    mine = tmp_path / "mine.py"
    mine.write_text(GOOD.replace("x.sum()", "x.sum() + 1"))
    assert run_cli(mine, "--seconds", "0.05", "--threads", "1") == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_question"], "no benchmark named 'no_such_question'; there are: "),
        (["nowhere.py"], "no benchmark file 'nowhere.py'"),
        (["--threads", "0"], "--threads must be 1 to"),
        (["--threads", "9999"], "--threads must be 1 to"),
        (["--size", "64,x"], "--size takes whole numbers"),
        (["--size", "-4"], "--size takes positive numbers"),
        (["--seconds", "0"], "--seconds must be positive"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments, message, capsys):
    assert run_cli(*arguments) == 2
    assert message in capsys.readouterr().err


def test_every_question_here_has_a_title_and_cases():
    names = discover.question_names()
    for name in names:
        module = discover.load_question(discover.find_question(name))
        assert module.__doc__ and callable(module.cases), name
    assert Path(discover.question_folder()).name in ("benchmarks", "questions")
