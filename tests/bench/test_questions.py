"""Whole runs of question files in processes of their own, and the command around them."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tinygrad_llm import bench as bench_package
from tinygrad_llm import cli
from tinygrad_llm.bench import Case, Options, discover, report
from tinygrad_llm.bench.run import Question
from tinygrad_llm.cli import UsageError, bench

ROOT = Path(__file__).parents[2]
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
    [
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("os._exit(7)", "ended with code 7"),
        ("os.write(2, b'\\xff in another encoding'); os._exit(7)", "in another encoding"),
        ("return lambda: __import__('a_package_nobody_has')", "No module named 'a_package_nobody_has'"),
        ("def later(): raise Skip('too late')\n        return later", "Skip: too late"),
        ("return lambda: 'done'", "must return numbers"),
    ],
)
def test_a_contestant_that_breaks_fails_the_question_with_its_reason(tmp_path, harm, said):
    record, _ = ask(tmp_path, GOOD.replace('print("noise on stdout must not reach the protocol")', harm))
    assert said in record["failed"]


def test_what_the_file_itself_does_wrong_leaves_the_other_questions_their_results(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report.machine, "measured_limits", lambda threads, dtype: {})
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(GOOD)
    bad.write_text(GOOD.replace("flops=n,", "flops=n, expected=lambda x: 1 / 0,"))
    assert run_cli(good, bad, "--against", "numpy", "--seconds", "0.05", "--size", "10", "--threads", "1") == 1
    out = capsys.readouterr().out
    assert "| sum 10 |" in out and "FAILED: Traceback" in out and "ZeroDivisionError" in out
    bad.write_text("no cases here = 1")
    with pytest.raises(SyntaxError):  # before the good one has run
        run_cli(good, bad)


def test_ours_is_the_one_compared_with_wherever_it_stands(tmp_path):
    variant_first = GOOD.replace('"ours"', '"ours in steps"').replace('"shy"', '"ours"').replace("raise Skip", "return x.sum #")
    record, _ = ask(tmp_path, variant_first, against=["numpy"], size=(10,))
    assert list(record["cases"][0]["contestants"])[0] == "ours"
    assert list(record["cases"][0]["ratios"]) == ["ours in steps", "numpy"]


def test_variants_of_ours_judge_one_another_where_nobody_else_is(tmp_path):
    variant = GOOD.replace('"shy"', '"ours doubled"').replace('raise Skip("stays at home")', "return lambda: 2 * x.sum()")
    record, _ = ask(tmp_path, variant, against=[], size=(10,))
    assert "sum 10: ours disagrees with ours doubled" in record["failed"]
    record, _ = ask(tmp_path, variant.replace("2 * x", "1 * x"), against=[], size=(10,))
    assert record["failed"] is None and record["cases"][0]["checked"] == "ours doubled"
    record, _ = ask(tmp_path, GOOD, against=[], size=(10,))
    assert record["failed"] is None and record["cases"][0]["checked"] is None


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
    record, _ = ask(tmp_path, RUNS.replace("THEIRS", "1.0"))  # of another length: bytecode is told by second and size
    assert "run: ours disagrees with other: output 0 at () is 2, expected 1" in record["failed"]


def test_the_limit_that_binds_a_case_takes_turns_with_it(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    options = Options(seconds=0.05, threads=1, size=(10,))
    question = Question(path, options, ["numpy"], lambda text: None, lambda *_: None, roof={"gflops": 1.0, "gbytes": 1e6})
    (case,) = question.run()["cases"]
    limit, rate = case["limit"], 10 / case["contestants"]["ours"]["median"] / 1e9
    assert set(case["contestants"]) == {"ours", "numpy"} and set(case["ratios"]) == {"numpy"}
    assert limit["of"] == "flops" and limit["rounds"] == case["contestants"]["ours"]["rounds"]
    assert 0 < limit["low"] <= limit["share"] <= limit["high"] < 1 and 0.3 < limit["share"] / (rate / limit["rate"]) < 3
    assert not question.limits


def test_a_file_without_cases_and_a_name_used_twice_are_errors(tmp_path):
    with pytest.raises(LookupError, match=r"has no function `cases\(options\)`"):
        ask(tmp_path, '"""Nothing."""')
    record, _ = ask(tmp_path, GOOD.replace('"shy"', '"numpy"'))
    assert "already has a contestant 'numpy'" in record["failed"]
    record, _ = ask(tmp_path, GOOD, against=["numpy"], size=(10, 10))
    assert "two cases are named 'sum 10'" in record["failed"] and len(record["cases"]) == 1


def test_without_matplotlib_no_folder_is_made_for_plots(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install"):
        run_cli("startup", "--plots", tmp_path / "pictures")
    assert not list(tmp_path.iterdir())


def test_a_size_that_picks_no_case_is_said(tmp_path):
    record, said = ask(tmp_path, '"""By number."""\ncases = lambda options: []', size=(7,))
    assert record["cases"] == [] and said == ["mine: no case for --size 7"]


@pytest.mark.parametrize(("text", "said"), [("{}['size']", "KeyError: 'size'"), ("int('x')", "ValueError: invalid literal")])
def test_a_file_that_fails_when_it_is_read_is_named_with_its_error(tmp_path, capsys, text, said):
    (tmp_path / "mine.py").write_text(text)
    assert cli.main(["bench", str(tmp_path / "mine.py")]) == 1
    assert f"tinygrad-llm: {tmp_path / 'mine.py'}: {said}" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match=said):
        cli.main(["--debug", "bench", str(tmp_path / "mine.py")])


def test_command_writes_json_tables_and_compares(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report.machine, "measured_limits", lambda threads, dtype: {"gflops": 100.0, "gbytes": 10.0})
    mine = tmp_path / "mine.py"
    mine.write_text(GOOD)
    saved, tables = tmp_path / "deep" / "now.json", tmp_path / "deeper" / "t.md"
    common = [mine, "--seconds", "0.05", "--size", "10", "--threads", "1"]
    assert run_cli(*common, "--against", "numpy,jax", "--json", saved, "--markdown", tables) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("jax is skipped: none of these questions has this contestant\n")
    assert re.search(r"^mine, sum 10: ours [\d.]+ \S+, numpy [\d.]+ \(.*\)$", shown.err, re.MULTILINE), shown.err
    assert "sum 10" in shown.out and tables.read_text() == shown.out
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


ENDLESS = GOOD.replace("lambda: x.sum()", "(lambda: x.sum()) if n < 20 else (lambda: time.sleep(600))").replace(
    "import os", "import os, time"
)
QUICK_LIMITS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from tinygrad_llm import cli
from tinygrad_llm.bench import machine
machine.measured_limits = lambda threads, dtype: {}
sys.exit(cli.main(sys.argv[1:]))
"""


def children_of(pid):
    """Processes whose parent is `pid`, from /proc."""
    stats = (read_if_alive(p).rpartition(")")[2].split() for p in Path("/proc").glob("[0-9]*/stat"))
    return [s for s in stats if s[:1] != ["Z"] and s[1:2] == [str(pid)]]


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks for processes in /proc")
def test_ctrl_c_keeps_every_finished_case_and_ends_the_contestants(tmp_path):
    mine, saved = tmp_path / "mine.py", tmp_path / "now.json"
    mine.write_text(ENDLESS)
    words = ["bench", str(mine), "--against", "numpy", "--seconds", "0.05", "--threads", "1", "--json", str(saved)]
    command = [sys.executable, "-c", QUICK_LIMITS, *words, "--markdown", str(tmp_path / "t.md")]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not finished_cases(saved) and time.monotonic() < deadline:
        time.sleep(0.02)
    while len(children_of(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1 and "Traceback" not in err
    assert f"stopped by Ctrl-C after 1 finished case; {saved} holds what was measured" in err
    results = report.read(saved)
    assert results["complete"] is False and [c["name"] for c in results["questions"][0]["cases"]] == ["sum 10"]
    assert results["questions"][0]["cases"][0]["contestants"]["ours"]["median"] > 0
    assert "INCOMPLETE" in report.markdown(results) and "new is incomplete" in report.compare(results, results)[0]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["mine.py", "now.json"]
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(mine) in read_if_alive(p)]


def finished_cases(path):
    try:
        return report.read(path)["questions"][0]["cases"]
    except ValueError:  # not there yet, or tried whether it can be written
        return []


def read_if_alive(path):
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_results_are_on_disk_after_every_case(tmp_path, monkeypatch):
    monkeypatch.setattr(report.machine, "measured_limits", lambda threads, dtype: {})
    mine, saved, seen = tmp_path / "mine.py", tmp_path / "now.json", []
    mine.write_text(GOOD)
    write = report.write
    monkeypatch.setattr(report, "write", lambda results, path: (write(results, path), seen.append(report.read(path))))
    assert run_cli(mine, "--against", "numpy", "--seconds", "0.05", "--threads", "1", "--json", saved) == 0
    assert [sum(len(q["cases"]) for q in r["questions"]) for r in seen] == [0, 1, 2, 2]
    assert [r["complete"] for r in seen] == [False, False, False, True]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "now.json"
    report.write({"format": 1}, path)
    monkeypatch.setattr(report.json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write({}, path)
    monkeypatch.undo()
    assert json.loads(path.read_text()) == {"format": 1}


def test_files_of_another_kind_are_kept_and_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "new_report", lambda options: pytest.fail("measured before the files were looked at"))
    mine, notes, data = tmp_path / "mine.py", tmp_path / "README.md", tmp_path / "data.json"
    contents = {mine: GOOD, notes: "# My project\n", data: '{"weights": [1, 2]}'}
    for path, text in contents.items():
        path.write_text(text)
    for words in (["--json", mine], ["--json", data], ["--markdown", notes], ["--json", tmp_path]):
        with pytest.raises(UsageError, match=str(words[1])):
            run_cli(mine, *words)
    for words in (["--markdown", tmp_path], ["--plots", mine], ["--plots", mine / "deeper"], ["--markdown", mine / "t.md"]):
        with pytest.raises((UsageError, OSError)):
            run_cli(mine, *words)
    with pytest.raises(ValueError, match="needs one pair of <!-- benchmarks -->"):
        run_cli(mine, "--readme", notes)
    assert {path: path.read_text() for path in contents} == contents and len(list(tmp_path.iterdir())) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_earlier_results_are_replaced_links_kept_and_pipes_written_to_once(tmp_path, monkeypatch):
    monkeypatch.setattr(report.machine, "measured_limits", lambda threads, dtype: {})
    mine, saved, link, pipe = (tmp_path / name for name in ("mine.py", "now.json", "link.json", "pipe"))
    mine.write_text(GOOD)
    link.symlink_to(saved)
    os.mkfifo(pipe)
    words = [mine, "--against", "numpy", "--seconds", "0.05", "--size", "10", "--threads", "1", "--json"]
    for _ in range(2):
        assert run_cli(*words, link, "--markdown", tmp_path / "t.md") == 0
    assert link.is_symlink() and report.read(saved)["complete"]
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)
    assert run_cli(*words, pipe) == 0
    assert json.loads(reader.communicate(timeout=30)[0])["complete"] and pipe.is_fifo()


def test_a_failed_validation_fails_the_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report.machine, "measured_limits", lambda threads, dtype: {})
    mine = tmp_path / "mine.py"
    mine.write_text(GOOD.replace("x.sum()", "x.sum() + 1"))
    assert run_cli(mine, "--seconds", "0.05", "--threads", "1") == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_question"], "no benchmark named 'no_such_question'; there are: "),
        (["nowhere.py"], "no benchmark file 'nowhere.py'"),
        (["rows", "matmul", "rows"], "two questions are named 'rows'"),
        (["matmul", "overhead", "--against", "numpi"], "no contestant 'numpi' in these questions; there are: autograd, mygrad, "),
        (["lens", "--against", "nobody"], "no contestant 'nobody' in these questions; there are: none"),
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


def test_the_question_in_the_docstring_is_whole(tmp_path, capsys):
    text = bench_package.__doc__.split("which yields `Case`s:\n")[1].split("\nEach contestant")[0]
    path = tmp_path / "my_file.py"
    path.write_text(textwrap.dedent(text))
    assert run_cli(path, "--size", "8", "--seconds", "0.1", "--against", "numpy") == 0
    assert "**my_file**: How fast is a product of two matrices?" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["runs", "threads"])
@pytest.mark.parametrize("count", [-1, 0, 1.5])
def test_a_case_of_no_runs_is_refused_where_it_is_written(name, count):
    with pytest.raises(ValueError, match=f"case 'sum': {name}: expected a whole number of at least 1, got {count}"):
        Case("sum", **{name: count})
