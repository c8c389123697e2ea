"""The course of a question with contestants that are no processes, on times that the test makes up."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kernels._threads import cores
from tinygrad_llm.bench import Case, Options, limits, randn, run, timing
from tinygrad_llm.bench.case import is_ours
from tinygrad_llm.bench.team import Failed, Skipped

TIMES = {"ours": 2.0, "ours int8": 1.0, "ours bfloat16": 1.0, "torch": 6.0, "numpy": 3.0, "mlx": 5.0, limits.LIMIT: 0.5}
ROOF = {"gflops": 1.0, "gbytes": 1.0, "threads": 2}


class Fake:
    """Stands in for a worker's process: answers from `OUTPUTS`, and writes down all that is asked of it."""

    def __init__(self, path, name, options):
        self.name = name
        assert (path.name == "limits.py") == (name == limits.LIMIT)
        LOG.append(("start", name, options.threads))

    def ask(self, do, **arguments):
        LOG.append((do, self.name, arguments.get("case")))
        if isinstance(why := OUTPUTS.get(self.name), Exception):
            raise why

    def output(self, folder):
        assert folder.is_dir()
        LOG.append(("output", self.name))
        return OUTPUTS.get(self.name, [np.ones(2)])

    def lap(self):
        return lambda calls: LOG.append(("lap", self.name)) or calls * TIMES[self.name]

    def run(self, folder, outputs):
        def lap(calls):
            LOG.append(("run", self.name))
            outputs[self.name] = OUTPUTS.get(self.name, [np.ones(2)])
            return TIMES[self.name]

        return lap

    def peak(self):
        return {"bytes": 300, "before": 100}

    def close(self):
        LOG.append(("close", self.name))

    def kill(self):
        LOG.append(("kill", self.name))


LOG, OUTPUTS = [], {}


@pytest.fixture
def race(tmp_path, monkeypatch):
    """race(cases, against, ...) -> the record, what was said, the shares of progress and how many cases each kept record had."""
    LOG.clear()
    OUTPUTS.clear()
    monkeypatch.setattr(run, "Contestant", Fake)
    monkeypatch.setattr(run, "missing_package", lambda name: "not for this machine" if name == "mlx" else None)

    def race(cases, against=None, roof=ROOF, **options):
        path = tmp_path / "mine.py"
        path.write_text('"""\nA title.\n\nMore of it."""\ncases = None')
        said, shares, kept = [], [], []
        options = Options(**{"threads": 2, "seconds": 4.0} | options)
        keep = lambda record: kept.append((len(record["cases"]), record["failed"]))
        question = run.Question(path, options, against, said.append, lambda *share: shares.append(share), keep, roof)
        question.module.cases = cases if callable(cases) else lambda options: iter(cases)
        record = question.run()
        assert not question.team and not question.limits
        return record, said, shares, kept

    return race


def case(*names, name="one", **fields):
    made = Case(name, **fields)
    made.contestants = dict.fromkeys(names)
    return made


def events(*kinds):
    return [event for event in LOG if event[0] in kinds]


def test_a_question_from_start_to_end(race):
    two = [case("torch", "ours", "mlx", name="one", flops=4e9, bytes=1e9), case("ours", "torch", "mlx", name="two")]
    record, said, shares, kept = race(two)
    assert (record["name"], record["doc"], record["failed"]) == ("mine", "A title.", None)
    assert record["absent"] == {"mlx": "not for this machine"} and said == ["mine: mlx is skipped: not for this machine"]
    assert kept == [(0, None), (1, None), (2, None)]
    one, other = record["cases"]
    assert one["contestants"] == {
        n: {"median": t, "best": t, "rounds": one["limit"]["rounds"]} for n, t in [("ours", 2.0), ("torch", 6.0)]
    }
    assert one["ratios"] == {"torch": {"ratio": 3.0, "low": 3.0, "high": 3.0, "rounds": one["limit"]["rounds"]}}
    assert (one["name"], one["flops"], one["bytes"], one["threads"], one["checked"]) == ("one", 4e9, 1e9, None, "torch")
    assert other["limit"] is None and other["skipped"] == {}
    assert {name for name, _ in shares} == {"one", "two"} and shares[-1][1] <= 1.0
    assert events("start") == [("start", "ours", 2), ("start", "torch", 2), ("start", limits.LIMIT, 2)], "they stay between cases"
    assert events("setup") == [
        ("setup", "ours", 0),
        ("setup", "torch", 0),
        ("setup", limits.LIMIT, 0),
        ("setup", "ours", 1),
        ("setup", "torch", 1),
    ]
    assert sorted(events("close")) == [("close", n) for n in (limits.LIMIT, "ours", "torch")] and not events("kill")


def test_a_case_is_timed_for_as_long_as_was_asked_for(race, monkeypatch):
    asked = []
    measure = lambda laps, seconds, progress: asked.append((list(laps), seconds)) or timing.measure(laps, 1e-9, progress)
    monkeypatch.setattr(run, "measure", measure)
    race([case("ours", "torch", flops=1e9)], seconds=7.5)
    assert asked == [(["ours", "torch", limits.LIMIT], 7.5)]


def test_operations_may_be_counted_by_a_function(race):
    """Once, and not by the contestants."""
    counts = iter([4e9])
    (one,) = race([case("ours", "torch", flops=lambda: next(counts))])[0]["cases"]
    assert one["flops"] == 4e9 and one["limit"]["of"] == "flops"


def test_everyone_is_compared_before_anyone_is_timed(race):
    race([case("ours", "torch", "numpy")])
    assert [event[0] for event in LOG].index("lap") > max(i for i, event in enumerate(LOG) if event[0] == "output")
    LOG.clear()
    OUTPUTS["ours"] = [np.ones(2) + 2e-4]
    record, *_, kept = race([case("ours", "torch"), case("ours", name="two")])
    assert record["failed"].startswith("one: ours disagrees with torch: output 0 at (0,) is 1.0002") and not record["cases"]
    assert kept == [(0, None), (0, record["failed"])] and not events("lap")


@pytest.mark.parametrize(
    ("fields", "dtype", "off", "fails"),
    [({}, "float32", 5e-5, False), ({}, "float64", 5e-5, True), ({"tol": 1e-5}, "float32", 5e-5, True), ({"tol": 0.0}, "float32", 1e-7, True),
     ({"check": False}, "float32", 1.0, False), ({"runs": 1, "check": False}, "float32", 1.0, False), ({"runs": 1}, "float32", 1.0, True),
     ({"expected": lambda: np.ones(2), "runs": 1}, "float32", 1.0, True)],
)  # fmt: skip
def test_how_far_they_may_differ(race, fields, dtype, off, fails):
    OUTPUTS["ours"] = [np.ones(2) + off]
    record, *_ = race([case("ours", "torch", **fields)], dtype=dtype)
    assert bool(record["failed"]) == fails
    if not fails:
        assert record["cases"][0]["checked"] == ("torch" if fields.get("check", True) else None)
        assert bool(events("output")) == fields.get("check", True)


def test_expected_values_come_from_the_inputs_of_the_seed(race):
    fields = {"inputs": lambda rng: (rng.standard_normal(2),), "expected": lambda x: x}
    OUTPUTS["ours"] = [np.random.default_rng(3).standard_normal(2)]
    record, *_ = race([case("ours", **fields)], seed=3)
    assert record["failed"] is None and record["cases"][0]["checked"] == "the expected values"
    assert "ours disagrees with the expected values" in race([case("ours", **fields)], seed=4)[0]["failed"]


def test_the_judge_is_the_first_that_is_not_ours_or_the_last_of_ours(race):
    for names, judge in (
        (("ours", "torch", "numpy"), "torch"),
        (("ours", "ours int8", "ours bfloat16"), "ours bfloat16"),
        (("ours",), None),
    ):
        assert race([case(*names)])[0]["cases"][0]["checked"] == judge


@pytest.mark.parametrize(("threads", "of"), [(None, 2), (1, 1)])
@pytest.mark.parametrize(("amounts", "key"), [({"flops": 4e9, "bytes": 1e9}, 0), ({"flops": 1e9, "bytes": 4e9}, 1)])
def test_the_share_of_the_limit_is_that_of_its_own_amount_and_threads(race, amounts, key, threads, of):
    """Theirs takes 0.5 s for `whole`, ours 2 s for 4e9."""
    (one,) = race([case("ours", "numpy", threads=threads, **amounts)])[0]["cases"]
    whole = limits.amounts(Options(threads=of))[key]
    assert ("start", limits.LIMIT, of) in LOG and ("setup", limits.LIMIT, key) in LOG
    share = pytest.approx(4e9 / whole * 0.5 / 2.0)
    assert one["limit"] == {"of": ("flops", "bytes")[key], "unit": ("GFLOP/s", "GB/s")[key], "rate": whole / 0.5 / 1e9, "share": share,
                            "low": share, "high": share, "rounds": one["ratios"]["numpy"]["rounds"]}  # fmt: skip
    assert set(one["contestants"]) == {"ours", "numpy"} and set(one["ratios"]) == {"numpy"}


def test_the_interval_of_a_share_is_that_of_the_ratio():
    question = object.__new__(run.Question)
    question.options, question.roof = Options(threads=2), ROOF
    found = timing.Timing({"ours": [2.0], limits.LIMIT: [0.5]}, {limits.LIMIT: timing.Ratio(0.25, 0.125, 0.5, 9)})
    whole = limits.amounts(question.options)[0]
    share = question.share(case("ours", flops=whole / 2), found)
    assert (share["low"], share["share"], share["high"], share["rounds"]) == (0.0625, 0.125, 0.25, 9)
    assert question.share(case("ours", flops=1.0), replace(found, ratios={})) is None
    assert question.share(case("ours"), found) is None


def test_one_limit_serves_all_cases_of_its_kind(race):
    kinds = [{"flops": 1e9}, {"bytes": 1e9}, {"flops": 1e9, "threads": 1}, {"flops": 2e9}]
    race([case("ours", name=str(i), **kind) for i, kind in enumerate(kinds)])
    assert [e for e in events("start", "setup") if e[1] == limits.LIMIT] == [
        ("start", "limit", 2), ("setup", "limit", 0), ("start", "limit", 2), ("setup", "limit", 1), ("start", "limit", 1), ("setup", "limit", 0)
    ]  # fmt: skip
    assert len(events("close")) == 3 + 3, "the limits' and ours: before, in and after the case of one thread"
    LOG.clear()
    (one,) = race([case("ours", flops=1e9)], roof=None)[0]["cases"]
    assert one["limit"] is None and events("start") == [("start", "ours", 2)]


def test_a_case_of_its_own_process_has_its_peak(race):
    fields = [{}, {"fresh": True}, {}, {"threads": 1}]
    record, *_ = race([case("ours", name=str(i), **field) for i, field in enumerate(fields)])
    assert events("start", "close") == [
        (what, "ours", *rest) for threads in (2, 2, 2, 1) for what, *rest in (("start", threads), ("close",))
    ]
    peaks = [c["contestants"]["ours"].get("peak_bytes") for c in record["cases"]]
    assert peaks == [None, 300, None, 300] and record["cases"][1]["contestants"]["ours"]["bytes_before"] == 100


def test_who_stays_away_is_said_with_the_reason_and_comes_back(race):
    OUTPUTS["torch"] = Skipped("too large")
    record, said, *_ = race([case("ours", "torch", "numpy", name=name) for name in ("one", "two")])
    assert said == [f"mine, {name}: torch is skipped: too large" for name in ("one", "two")]
    for one in record["cases"]:
        assert (
            one["skipped"] == {"torch": "too large"} and list(one["contestants"]) == ["ours", "numpy"] and one["checked"] == "numpy"
        )
    assert len(events("start")) == 3 and not record["absent"]
    OUTPUTS["ours"] = Skipped("not even ours")
    record, *_ = race([case("ours", "numpy", "mlx"), case("ours", name="two")])
    one, two = record["cases"]
    assert list(one["contestants"]) == ["numpy"] and one["ratios"] == {} and one["limit"] is None and one["skipped"]["ours"]
    assert two["contestants"] == {} and two["checked"] is None, "nobody is left"


def test_only_those_asked_for_take_part_and_ours_comes_first(race):
    names = ("torch", "ours int8", "mlx", "numpy", "ours bfloat16", "ours")
    ours = ["ours", "ours int8", "ours bfloat16"]
    assert list(race([case(*names)], against=["numpy"])[0]["cases"][0]["contestants"]) == [*ours, "numpy"]
    record, said, *_ = race([case(*names)], against=[])
    assert list(record["cases"][0]["contestants"]) == ours and not said and not record["absent"]
    (one,) = race([case(*names)])[0]["cases"]
    assert list(one["contestants"]) == [*ours, "torch", "numpy"] and list(one["ratios"]) == [*ours[1:], "torch", "numpy"]
    (one,) = race([case("ours int8", "torch", flops=1e9)])[0]["cases"]
    assert one["ratios"] == {} and one["limit"] is None, "of a variant nothing is said where ours is missing"


def test_whole_runs_are_timed_in_turns_and_validated_afterwards(race):
    record, _, shares, _ = race([case("ours", "torch", runs=2, flops=1e9)])
    assert events("run") == [("run", n) for n in ("ours", "torch", "torch", "ours")] and shares == [("one", 0.5), ("one", 1.0)]
    (one,) = record["cases"]
    assert one["contestants"]["torch"] == {"median": 6.0, "best": 6.0, "rounds": 2} and one["checked"] == "torch"
    assert one["limit"] is None and not events("lap", "output")


def test_what_fails_stops_the_question_and_says_why(race):
    OUTPUTS["torch"] = Failed("torch: no luck")
    record, *_, kept = race([case("ours", name="first"), case("ours", "torch"), case("ours", name="third")])
    assert record["failed"] == "torch: no luck" and [c["name"] for c in record["cases"]] == ["first"]
    assert kept == [(0, None), (1, None), (1, "torch: no luck")] and len(events("close")) == 2
    assert "Traceback" in race(lambda options: 1 / 0)[0]["failed"]
    record, *_ = race([case("ours"), case("ours")])
    assert record["failed"].startswith("two cases are named 'one'; results are compared by name") and len(record["cases"]) == 1


@pytest.mark.parametrize(
    ("cases", "why"),
    [
        (lambda options: None, "expected a function that yields Cases, got None"),
        (lambda options: [("one", 64)], "expected Cases (tinygrad_llm.bench.Case), got ('one', 64)"),
        (lambda options: [case()], "case 'one' has no contestant"),
        (lambda options: [], "expected Cases, one at least, got none"),
    ],
)
def test_a_file_without_cases_is_told_so_in_a_line(race, cases, why):
    failed = race(cases)[0]["failed"]
    assert failed.startswith("cases(options) in mine.py: ") and why in failed and "\n" not in failed


def test_a_ctrl_c_ends_the_contestants_at_once(race):
    with pytest.raises(KeyboardInterrupt):
        race(interrupted)
    assert sorted(events("kill")) == [("kill", limits.LIMIT), ("kill", "ours")] and not events("close")


def interrupted(options):
    yield case("ours", flops=1e9)
    raise KeyboardInterrupt


def test_a_size_that_picks_nothing_is_said_and_one_that_picks_is_not(race):
    assert race([], size=(7, 9))[1] == ["mine: no case for --size 7,9"]
    assert race([], size=())[1] == [] and race([case("ours")], size=(7,))[1] == []


def test_the_title_is_the_docstrings_first_line():
    for doc, title in ((None, ""), ("", ""), ("One.", "One."), ("\n  One.\n\nTwo.", "One.")):
        assert run.first_line(type("Module", (), {"__doc__": doc})) == title


def test_options_choose_sizes_and_cases_and_travel_as_json():
    few, plain = Options(threads=1, dtype="float64", size=(1, 3), seconds=2.5, seed=7), Options()
    assert few.sizes(64, 256) == (1, 3) and plain.sizes(64, 256) == (64, 256)
    assert few.picked("abcd") == ["a", "c"] and plain.picked("abcd") == list("abcd")
    assert Options.from_json(json.loads(json.dumps(few.to_json()))) == few
    assert plain == Options(cores(), "float32", (), 10.0, 0)


def test_inputs_are_the_same_numbers_in_both_dtypes():
    single, double = (randn(np.random.default_rng(0), dtype, (2, 3), (4,)) for dtype in ("float32", "float64"))
    assert [(a.shape, a.dtype) for a in single] == [((2, 3), np.float32), ((4,), np.float32)]
    assert all(b.dtype == np.float64 and np.array_equal(a, b) for a, b in zip(single, double))


def test_ours_and_its_variants_are_ours():
    assert is_ours("ours") and is_ours("ours int8") and not is_ours("theirs") and not is_ours("ourselves")


def test_a_case_with_threads_of_its_own_is_fresh():
    assert (
        not Case("one").fresh and Case("one", fresh=True).fresh and Case("one", threads=1).fresh and not Case("one", runs=1).fresh
    )
