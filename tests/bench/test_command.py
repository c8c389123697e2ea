"""`tinygrad-llm bench` around questions whose cases are made up: options, files, what is said, exit codes."""

import argparse
import json
import sys
from pathlib import Path

import pytest

import kernels
from kernels._threads import cores
from tinygrad_llm.bench import Options, discover, plots, report, run
from tinygrad_llm.cli import UsageError, bench

FILE = '"""{title}\n\nMore."""\nfrom tinygrad_llm.bench import Case\ndef cases(options):\n    case = Case("one")\n    {names}\n    yield case\n'
ROOF = {"gflops": 100.0, "gbytes": 10.0}


class Fake:
    """Stands in for `run.Question`: keeps as many cases as `HOW` says, then fails or is interrupted."""

    def __init__(self, *arguments):
        ASKED.append(arguments)
        self.path, _, _, self.say, self.progress, self.keep, _ = arguments

    def run(self):
        how = HOW.get(self.path.stem, {})
        record = {"name": self.path.stem, "doc": "Which?", "cases": [], "failed": None, "absent": {}}
        self.keep(record)
        for i in range(how.get("cases", 1)):
            self.progress(f"case {i}", 0.5)
            record["cases"].append({"name": f"case {i}", "flops": None, "bytes": None, "unit": None, "work": None, "limit": None,
                                    "contestants": {"ours": {"median": 0.25 * (i + 1)}}, "ratios": {}})  # fmt: skip
            self.keep(record)
        if "failed" in how:
            record["failed"] = how["failed"]
            self.keep(record)
        if "interrupt" in how:
            raise KeyboardInterrupt
        return record


ASKED, HOW = [], {}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """command(words) -> exit code, stdout, stderr; the files good.py and other.py are questions."""
    ASKED.clear()
    HOW.clear()
    monkeypatch.setattr(run, "Question", Fake)
    monkeypatch.setattr(report.machine, "measured_limits", lambda threads, dtype: ROOF)
    names = 'case.contestants = dict.fromkeys(["ours", "ours int8", "numpy", "mine"])'
    for name in ("good", "other"):
        (tmp_path / f"{name}.py").write_text(FILE.format(title=f"{name}?", names=names))
    monkeypatch.chdir(tmp_path)

    def command(*words):
        parser = argparse.ArgumentParser()
        bench.add_parser(parser.add_subparsers())
        code = bench.run(parser.parse_args(["bench", *map(str, words)]))
        return code, *capsys.readouterr()

    return command


def test_what_was_asked_for_reaches_every_question(command, tmp_path):
    assert command("good.py", "other.py")[0] == 0
    words = ["--against", " numpy ,,mine", "--threads", 1, "--dtype", "float64", "--size", "64,,256", "--seconds", 2.5]
    assert command("good.py", *words)[0] == 0
    first, second, third = ASKED
    assert [asked[0] for asked in ASKED] == [tmp_path / f"{name}.py" for name in ("good", "other", "good")]
    assert first[1] == second[1] == Options(cores(), "float32", (), 10.0) and first[2] is None
    assert third[1] == Options(1, "float64", (64, 256), 2.5) and third[2] == ["numpy", "mine"]
    assert first[6].items() >= ROOF.items(), "the machine's limits"
    assert command("good.py", "--against", "")[0] == 0 and ASKED[-1][2] == []


def test_without_names_all_questions_are_asked(command, tmp_path, monkeypatch):
    monkeypatch.setattr(discover, "question_folder", lambda: tmp_path)
    (tmp_path / "_helper.py").write_text("")
    assert command()[0] == 0 and [asked[0].stem for asked in ASKED] == ["good", "other"]
    code, out, _ = command("--list")
    assert code == 0 and out.splitlines() == ["good             good?", "other            other?"] and len(ASKED) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--threads", cores() + 1], f"--threads must be 1 to {cores()} on this machine, got {cores() + 1}"), (["--threads", 0], "got 0"),
     (["--seconds", "nan"], "--seconds must be positive, got nan"), (["--seconds", 0], "got 0.0"), (["--size", "0"], "positive numbers, got '0'"),
     (["--size", "1.5"], "whole numbers, as in 64,256; got '1.5'"), (["--against", "nobody"], "no contestant 'nobody' in these questions; there are: mine, numpy"),
     (["good.py"], "two questions are named 'good'")],
)  # fmt: skip
def test_what_cannot_be_asked_is_said_with_code_2(command, words, said):
    code, out, err = command("good.py", *words)
    assert code == 2 and not out and err.startswith("tinygrad-llm bench: ") and said in err and not ASKED


@pytest.mark.parametrize(("asked", "flag"), [(["--list"], "--json"), (["--compare", "old.json", "new.json"], "--markdown")])
def test_what_only_prints_writes_no_file(command, tmp_path, asked, flag):
    with pytest.raises(UsageError, match=f"^{flag}: {asked[0]} only prints"):
        command(*asked, flag, tmp_path / "new" / "file")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("words", "what"), [(["good.py"], "NAME"), (["--seconds", 1], "--seconds"), (["--compare", "a", "b"], "--compare")])
def test_what_runs_nothing_takes_nothing_for_a_run(command, words, what):
    with pytest.raises(UsageError, match=f"^{what}: --show runs nothing; leave it out"):
        command("--show", "old.json", *words)


def test_the_least_that_can_be_asked(command):
    assert command("good.py", "--threads", cores(), "--size", "1", "--seconds", "1e-9")[0] == 0
    assert ASKED[0][1] == Options(cores(), "float32", (1,), 1e-9)


def test_contestants_that_other_questions_have_are_said_and_go(command, tmp_path):
    code, _, err = command("good.py", "--against", "torch,mine,jax")
    assert code == 0 and err.splitlines()[:2] == [
        f"{name} is skipped: none of these questions has this contestant" for name in ("jax", "torch")
    ]
    code, _, err = command("good.py", "--against", "numpi,mine")
    assert code == 0
    assert err.splitlines()[0] == "numpi is skipped: none of these questions has this contestant; there are: mine, numpy"
    (tmp_path / "good.py").write_text(FILE.format(title="", names="1 / 0"))
    assert command("good.py", "--against", "nobody")[0] == 0, "its run says what is wrong"
    (tmp_path / "good.py").write_text(FILE.format(title="", names="pass"))
    assert "there are: none" in command("good.py", "--against", "nobody")[2]


def test_a_wrong_choice_of_kernels_is_said_before_anything_runs(command):
    before = kernels._side.set("cuda")
    try:
        code, _, err = command("good.py")
    finally:
        kernels._side.reset(before)
    assert code == 2 and "got 'cuda'" in err and not ASKED


def test_every_finished_case_is_a_line_and_failures_are_said(command):
    HOW["good"], HOW["other"] = {"cases": 2, "failed": "ours disagrees"}, {}
    code, out, err = command("good.py", "other.py")
    assert code == 1 and "FAILED: ours disagrees" in out
    assert err.splitlines() == [
        "good, case 0: ours 250 ms",
        "good, case 1: ours 500 ms",
        "good FAILED: ours disagrees",
        "other, case 0: ours 250 ms",
    ]


def test_on_a_terminal_a_bar_takes_the_lines_place(command, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    HOW["other"] = {"failed": "ours disagrees"}
    _, _, err = command("good.py", "other.py")
    assert "ours 250 ms" not in err and "other FAILED: ours disagrees" in err and "2/2" in err and "good: case 0 50%" in err


def test_results_go_to_the_file_after_every_case_and_in_the_tables_place(command, tmp_path, monkeypatch):
    seen, write = [], report.write
    monkeypatch.setattr(
        report, "write", lambda results, path: (seen.append(len(results["questions"][-1]["cases"])), write(results, path))
    )
    code, out, _ = command("good.py", "--json", "deep/now.json", "--markdown", "deeper/t.md")
    results = report.read("deep/now.json")
    assert code == 0 and seen == [0, 1, 1] and results["complete"] is True and [q["name"] for q in results["questions"]] == ["good"]
    assert out == report.markdown(results) + "\n" == (tmp_path / "deeper" / "t.md").read_text()
    code, out, _ = command("--show", "deep/now.json", "--json", "-")
    assert code == 0 and json.loads(out) == results and out.count("\n") == 1
    assert command("--show", "deep/now.json")[1] == report.markdown(results) + "\n"
    (tmp_path / "R.md").write_text("<!-- benchmarks --><!-- /benchmarks -->")
    assert (
        command("--show", "deep/now.json", "--readme", "R.md")[0] == 0
        and report.summary(results) in (tmp_path / "R.md").read_text()
    )
    assert len(ASKED) == 1 and not (tmp_path / "-").exists()
    assert command("--compare", "deep/now.json", "deep/now.json")[0] == 0
    results["questions"][0]["cases"][0]["contestants"]["ours"]["median"] *= 2
    report.write(results, "slower.json")
    code, out, _ = command("--compare", "deep/now.json", "slower.json")
    assert code == 1 and "case 0: ours speed 0.50 times as good: REGRESSION" in out
    seen.pop()
    assert command("good.py", "--json", "-")[0] == 0 and len(seen) == 3 and not (tmp_path / "-").exists()


def test_tables_replace_tables_only(command, tmp_path):
    assert command("good.py", "--markdown", "t.md")[0] == 0 and command("good.py", "--markdown", "t.md")[0] == 0
    (tmp_path / "t.md").write_text("")
    assert (
        command("good.py", "--markdown", "t.md")[0] == 0 and report.EXPLANATION in (tmp_path / "t.md").read_text().splitlines()[2]
    )
    (tmp_path / "t.md").write_text("My notes.\n\n\n" + report.EXPLANATION)
    (tmp_path / "raw.md").write_bytes(b"\xff in another encoding")
    for words, said in ((["t.md"], "holds no tables"), (["raw.md"], "holds no tables"), ([tmp_path], "is a directory")):
        with pytest.raises(UsageError, match=said):
            command("good.py", "--markdown", *words)


def test_pictures_are_drawn_where_asked_and_named(command, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "need_matplotlib", lambda: None)
    monkeypatch.setattr(plots, "draw", lambda results, folder: [folder / f"{q['name']}.svg" for q in results["questions"]])
    assert (
        command("good.py", "--plots", "one/two")[2].endswith(f"\ndrew {Path('one', 'two', 'good.svg')}\n")
        and (tmp_path / "one" / "two").is_dir()
    )


@pytest.mark.parametrize(
    ("cases", "words", "said"),
    [(0, [], "stopped by Ctrl-C after 0 finished cases"), (1, ["--json", "-"], "stopped by Ctrl-C after 1 finished case"),
     (2, ["--json", "now.json"], "stopped by Ctrl-C after 3 finished cases; now.json holds what was measured")],
)  # fmt: skip
def test_a_ctrl_c_shows_what_was_measured_and_replaces_no_tables(command, tmp_path, cases, words, said):
    HOW["other"] = {"cases": cases, "interrupt": True}
    code, out, err = command(*(["good.py"] if cases == 2 else []), "other.py", *words, "--markdown", "t.md")
    assert code == 1 and err.splitlines()[-1] == said and not (tmp_path / "t.md").exists()
    assert ("INCOMPLETE" in out) != ("-" in words) and (json.loads(out)["complete"] is False if "-" in words else True)
    if "now.json" in words:
        assert report.read("now.json")["complete"] is False


def test_a_file_to_be_is_no_pipe_and_no_device(tmp_path):
    (tmp_path / "there").write_text("")
    assert bench.is_file_to_be(str(tmp_path / "there")) and bench.is_file_to_be(str(tmp_path / "not yet"))
    assert not bench.is_file_to_be("-") and not bench.is_file_to_be(str(tmp_path))


def test_a_contestant_whose_package_is_not_installed_is_told_how_to_come(monkeypatch):
    monkeypatch.setitem(discover.PACKAGES, "jax", "a_package_nobody_has")
    assert discover.missing_package("jax") == (
        "the package 'a_package_nobody_has' is not installed; pip install 'tinygrad-llm[peers]' brings all contestants"
    )
    assert [discover.missing_package(name) for name in ("numpy", "ours", "ours int8", "llm.c")] == [None] * 4
