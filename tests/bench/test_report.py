"""Tables, comparisons and pictures of a report made by hand."""

import copy
import json
import math

import pytest

from tinygrad_llm.bench import Options, plots, report


def contestant(median):
    return {"median": median, "best": median, "rounds": 9}


def case(size, ours, torch):
    ratio = torch / ours
    return {
        "name": f"matmul {size}",
        "flops": 2.0 * size**3,
        "bytes": 12.0 * size**2,
        "unit": None,
        "work": None,
        "skipped": {},
        "contestants": {"ours": contestant(ours), "torch": contestant(torch)},
        "ratios": {"torch": {"ratio": ratio, "low": 0.9 * ratio, "high": 1.1 * ratio, "rounds": 9}},
        "checked": "torch",
    }


@pytest.fixture
def results():
    cases = [case(n, 1e-12 * n**3, 2e-12 * n**3) for n in (64, 128, 256)] + [case(512, 1.0, 8.0) | {"name": "whole step"}]
    return {
        "format": report.FORMAT,
        "when": "2026-01-01T00:00:00+00:00",
        "machine": {"processor": "A", "cores": 2, "system": "x", "gflops": 4000.0, "gbytes": 100.0},
        "versions": {"python": "3.11.0"},
        "revision": "abc",
        "options": Options(threads=2).to_json(),
        "questions": [{"name": "matmul", "doc": "How fast?", "cases": cases, "failed": None, "absent": {"jax": "not here"}}],
    }


def test_table_shows_time_share_of_limit_ratio_and_mean(results):
    text = report.markdown(results)
    assert "| matmul 256 | 16.8 µs | 2,000 GFLOP/s (50%) | 2.00 (1.80–2.20) |" in text
    assert f"**{math.exp((3 * math.log(2) + math.log(8)) / 4):.2f}**" in text
    assert "jax was skipped: not here" in text


def test_the_limit_shown_is_the_one_that_binds():
    limits = {"gflops": 100.0, "gbytes": 10.0}
    streaming = {"flops": 1e9, "bytes": 1e9, "work": None, "unit": None}
    assert report.speed(streaming, limits, 0.2) == "5 GB/s (50%)"
    assert report.speed(streaming | {"bytes": 1e6}, limits, 0.2) == "5 GFLOP/s (5%)"
    assert report.speed(streaming | {"threads": 1}, limits | {"threads": 2}, 0.2) == "5 GFLOP/s"  # of one thread, limits of two
    assert report.speed(streaming | {"threads": 2}, limits | {"threads": 2}, 0.2) == "5 GB/s (50%)"
    beside = {"limit": {"of": "flops", "unit": "GFLOP/s", "share": 0.81}}
    assert report.speed(streaming | beside, limits, 0.2) == "5 GFLOP/s (81%)"  # measured in turns: whatever the roof says
    assert report.speed(streaming | {"limit": {"of": "bytes", "share": 0.25}}, limits, 0.2) == "5 GB/s (25%)"
    assert report.speed(streaming | beside | {"threads": 1}, limits | {"threads": 2}, 0.2) == "5 GFLOP/s (81%)"
    assert report.speed(streaming | {"work": 12347, "unit": "token"}, {}, 0.5).startswith("24,690 token/s, 2 G")
    assert report.speed(streaming | {"work": 3, "unit": "token"}, {}, 0.5).startswith("6 token/s, 2 G")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.5e-5, "45 µs"), (3e-9, "3 ns"), (0.9997, "1,000 ms"), (1234.0, "1,230 s")],
)
def test_durations(seconds, text):
    assert report.duration(seconds) == text


def test_same_machine_compares_our_times(results):
    new = copy.deepcopy(results)
    new["questions"][0]["cases"][0]["contestants"]["ours"]["median"] *= 2
    new["questions"][0]["cases"][1]["contestants"]["ours"]["median"] /= 2
    text, regressions = report.compare(results, new)
    assert regressions == 1 and "WARNING" not in text
    assert "matmul 64: ours speed 0.50 times as good: REGRESSION" in text
    assert "matmul 128: ours speed 2.00 times as good: better" in text
    assert "matmul 256: ours speed 1.00 times as good: same\n" in text
    assert "REGRESSION; ratio to torch 1.00\n" in text, "a busy machine? it is for the reader to judge"


def test_another_size_or_patience_is_said_and_times_are_compared(results):
    new = copy.deepcopy(results)
    new["options"] |= {"size": [64], "seconds": 1.0}
    new["questions"][0]["cases"] = new["questions"][0]["cases"][:1]
    new["questions"][0]["cases"][0]["contestants"]["ours"]["median"] *= 2
    text, regressions = report.compare(results, new)
    assert "NOTE: taken with another --size or --seconds" in text and "WARNING" not in text
    assert "matmul 64: ours speed 0.50 times as good: REGRESSION" in text and regressions == 1
    for option in ({"threads": 1}, {"dtype": "float64"}, {"seed": 1}):
        new["options"] = results["options"] | option
        assert "WARNING: different machines or options" in report.compare(results, new)[0]


def test_other_versions_of_a_contestant_are_said(results):
    old, new = (results | {"versions": {"python": "3.11", "torch": torch}} for torch in ("2.12", "2.13"))
    assert "NOTE: other versions, with which ratios change: torch 2.12 -> 2.13\n" in report.compare(old, new)[0]
    assert "versions" not in report.compare(results, results)[0]


def test_another_machine_is_said_and_only_ratios_are_compared(results):
    new = copy.deepcopy(results)
    new["machine"]["processor"] = "B"
    for c in new["questions"][0]["cases"]:
        for record in c["contestants"].values():
            record["median"] *= 10
    text, regressions = report.compare(results, new)
    assert text.count("WARNING: different machines") == 1
    assert regressions == 0 and "ratio to torch 1.00 times as good" in text and "speed" not in text


def test_readme_block_is_replaced_between_its_markers(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nafter\n")
    report.update_readme(results, readme)
    text = readme.read_text()
    assert text.startswith("before\n<!-- benchmarks -->\nA, 2 of 2 cores") and text.endswith("<!-- /benchmarks -->\nafter\n")
    assert "old" not in text
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="needs one pair"):
        report.update_readme(results, readme)


def test_a_question_that_fails_now_is_a_regression(results):
    new = copy.deepcopy(results)
    new["questions"][0] |= {"failed": "ours disagrees", "cases": new["questions"][0]["cases"][:1]}
    text, regressions = report.compare(results, new)
    assert "matmul: failed: REGRESSION\nours disagrees" in text and regressions == 1
    assert report.compare(new, new)[1] == 0
    assert report.compare(new, results)[1] == 0


def test_a_case_without_a_common_measurement_is_said(results):
    new = copy.deepcopy(results)
    del new["questions"][0]["cases"][0]["contestants"]["ours"]
    assert "matmul, matmul 64: nothing that both measured" in report.compare(results, new)[0]


def test_names_may_have_any_characters(results):
    results["questions"][0]["cases"][0]["name"] = "P(a|b)\nand more"
    for text in (report.markdown(results), report.summary(results)):
        assert "P(a\\|b) and more |" in text


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"format": 99}', '{"format": 1}', "\udcff"])
def test_reading_something_else_says_what_it_is(tmp_path, content):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"r\.json"):
        report.read(path)


def test_results_in_another_format_are_not_read(results, tmp_path):
    for change in ({"format": report.FORMAT + 1}, {"questions": ...}):
        content = {k: v for k, v in (results | change).items() if v is not ...}
        (tmp_path / "r.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match="is not a result of `tinygrad-llm bench --json`"):
            report.read(tmp_path / "r.json")


@pytest.mark.parametrize("damage", [
    lambda r: r["machine"].pop("processor"),
    lambda r: r.update(machine=None),
    lambda r: r["questions"].append("a"),
    lambda r: r["questions"][0]["cases"][0].pop("contestants"),
    lambda r: r["questions"][0]["cases"][0]["contestants"]["ours"].update(median=None),
    lambda r: r["questions"][0]["cases"][0]["contestants"]["ours"].update(median=0.0),
])
def test_a_damaged_result_is_said_to_be_one(results, tmp_path, damage):
    damage(results)
    (tmp_path / "r.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"r\.json is a damaged result"):
        report.read(tmp_path / "r.json")


def test_exponent_is_the_slope_on_log_axes():
    assert report.exponent([(n, 3e-9 * n**2.5) for n in (10, 100, 1000)]) == pytest.approx(2.5)


def test_pictures_show_every_case(results, tmp_path):
    pytest.importorskip("matplotlib")
    made = {p.name: p.read_text() for p in plots.draw(results, tmp_path)}
    assert set(made) == {"matmul-ratios.svg", "matmul-scaling.svg", "roofline.svg"}
    assert all("<svg" in text for text in made.values())
    assert all(f"<!-- {c['name']}, torch -->" in made["matmul-ratios.svg"] for c in results["questions"][0]["cases"])
    assert "<!-- ours, exponent 3.00 -->" in made["matmul-scaling.svg"]
    assert all(f"<!-- {size} -->" in made["matmul-scaling.svg"] for size in (64, 128, 256))  # the sizes measured, no others


def test_the_roof_is_that_of_its_own_threads(results):
    plt = pytest.importorskip("matplotlib.pyplot")
    results["machine"]["threads"] = 2
    for case in results["questions"][0]["cases"]:
        case["threads"] = 1
    assert plots.roofline(plt, results) is None
    results["questions"][0]["cases"][0]["threads"] = 2
    assert len(plots.roofline(plt, results).axes[0].texts) == 1


def test_bars_reach_from_a_draw_to_the_ratio_and_the_roof_is_the_lower_of_both_limits(results):
    plt = pytest.importorskip("matplotlib.pyplot")
    results["questions"][0]["cases"][0]["ratios"]["torch"] |= {"ratio": 0.5, "low": 0.4, "high": 0.75}
    axes = plots.ratio_bars(plt, results["questions"][0]).axes[0]
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert ends == [(1, pytest.approx(ratio)) for ratio in (8.0, 2.0, 2.0, 0.5)]
    spans = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]
    assert spans[0] == pytest.approx([7.2, 8.8]) and spans[3] == pytest.approx([0.4, 0.75])
    left, right = axes.get_xlim()
    assert left < 0.4 and right > 8.8
    roof, points = plots.roofline(plt, results).axes[0].lines
    for x, y in zip(*roof.get_data()):
        assert y == pytest.approx(min(4000.0, 100.0 * x))
    assert list(zip(*points.get_data()))[1] == pytest.approx((128 / 6, 2000.0))
    plt.close("all")


def test_names_in_the_roofline_lie_apart(results):
    plt, Text = pytest.importorskip("matplotlib.pyplot"), pytest.importorskip("matplotlib.text").Text
    case = results["questions"][0]["cases"][0] | {"flops": 8e9, "bytes": 1e8}
    results["questions"][0]["cases"] = [case | {"name": f"case {i}, all of one speed"} for i in range(30)]
    figure = plots.roofline(plt, results)
    figure.tight_layout()
    figure.canvas.draw()
    boxes = sorted((Text.get_window_extent(label) for label in figure.axes[0].texts), key=lambda box: box.y0)  # without lines
    assert len(boxes) == 30 and all(low.y1 <= high.y0 for low, high in zip(boxes, boxes[1:]))
    assert boxes[0].x1 <= figure.bbox.x1
    plt.close(figure)


def test_the_table_says_how_our_time_grows(results):
    (line,) = [x for x in report.question_table(results["questions"][0], {}).splitlines() if x.startswith("- ")]
    assert "our time grows as its power 3.00; 3.00 from" in line


def test_the_summary_has_the_mean_and_both_ends_of_each_contestant(results):
    mean = math.exp((3 * math.log(2) + math.log(8)) / 4)
    results["questions"][0]["failed"] = "torch disagrees"
    text = report.summary(results)
    assert f"| matmul | torch | 4 | **{mean:.2f}** | 2.00 matmul 64 | 8.00 whole step |" in text
    assert "above 1, ours is faster" in text and "matmul FAILED: torch disagrees" in text
    results["questions"][0]["cases"][2]["ratios"]["torch"]["ratio"] = 1.5
    assert "| 1.50 matmul 256 | 8.00 whole step |" in report.summary(results)
    text = report.markdown(results)
    assert "; limits 4000 GFLOP/s and 100 GB/s." in text and text.endswith("\nFAILED: torch disagrees")
    del results["machine"]["gflops"]
    assert "limits" not in report.markdown(results).split("Ratios")[0]


def test_one_ratio_has_no_mean(results):
    question = results["questions"][0]
    head = ["case", "ours", "torch", "peak memory"]
    assert report.mean_row(question | {"cases": question["cases"][:2]}, head) == [["geometric mean", "", "**2.00**", ""]]
    assert report.mean_row(question | {"cases": question["cases"][:1]}, head) == []


def test_sizes_may_be_fractions_and_zero_has_no_logarithm(results):
    def sizes(*names):
        return [[size for size, _ in points] for points in report.sized({"cases": [{"name": name} for name in names]}).values()]

    assert sizes("dropout 0.25", "dropout 0.5", "dropout 0.75") == [[0.25, 0.5, 0.75]]
    assert sizes("variant 0", "variant 1", "variant 2") == []
    for i, one in enumerate(results["questions"][0]["cases"]):
        one["name"] = f"variant {i}"
    assert "from 2 to 3" in report.markdown(results)


def test_cases_grow_in_families_of_one_name_before_and_after_the_number():
    named = [{"name": f"causal T={n}{what}"} for n in (256, 1024, 4096) for what in (" forward", " forward and backward")]
    families = report.sized({"cases": named})
    assert {name: [size for size, _ in points] for name, points in families.items()} == {
        "causal T= … forward": [256, 1024, 4096],
        "causal T= … forward and backward": [256, 1024, 4096],
    }


def test_the_last_step_is_to_the_largest_size_however_they_were_taken(results):
    for one, (size, median) in zip(results["questions"][0]["cases"], ((256, 2 * 256**2), (64, 64**2), (128, 128**2))):
        one["name"], one["contestants"]["ours"]["median"] = f"matmul {size}", median
    assert "power 2.50; 3.00 from 128 to 256." in report.markdown(results)


def test_cases_that_came_and_went_and_runs_that_ended_early_are_said(results):
    old, new = copy.deepcopy(results), copy.deepcopy(results)
    del old["questions"][0]["cases"][3], new["questions"][0]["cases"][0]
    text, regressions = report.compare(old | {"complete": False}, new | {"complete": True})
    lines = text.splitlines()
    assert lines[0] == "old: A, 2 threads, float32, revision abc, 2026-01-01T00:00:00+00:00"
    assert "WARNING: old is incomplete, its run was stopped before the end" in lines and "new is incomplete" not in text
    assert "matmul, whole step: new" in lines and "matmul, matmul 64: gone" in lines
    assert lines[-1] == "0 regressions" and regressions == 0
    assert "INCOMPLETE" in report.markdown(old | {"complete": False}) and "INCOMPLETE" not in report.markdown(
        old | {"complete": True}
    )


def test_contestants_that_only_one_run_has_and_variants_of_ours_are_no_ratios_to_compare(results):
    old, new = copy.deepcopy(results), copy.deepcopy(results)
    new["machine"]["cores"] = 4
    for one, other, ratio in ((old, "autograd", 9.0), (new, "jax", 9.0), (old, "ours int8", 2.0), (new, "ours int8", 1.0)):
        case = one["questions"][0]["cases"][0]
        case["ratios"][other] = case["ratios"]["torch"] | {"ratio": ratio}
        case["contestants"][other] = contestant(1e-6 / ratio)
    text, regressions = report.compare(old, new)
    assert [line for line in text.splitlines() if "matmul 64" in line] == [
        "matmul, matmul 64: ratio to torch 1.00 times as good: same"
    ]
    assert regressions == 0
    text, regressions = report.compare(old, new | {"machine": old["machine"]})
    assert "matmul 64: ours int8 speed 0.50 times as good: REGRESSION; ratio to torch 1.00\n" in text and regressions == 1


@pytest.mark.parametrize(("factor", "verdict"), [(1.04, "same"), (0.97, "same"), (1.06, "REGRESSION"), (0.94, "better")])
def test_a_change_of_less_than_a_twentieth_is_none(results, factor, verdict):
    new = copy.deepcopy(results)
    new["questions"][0]["cases"][0]["contestants"]["ours"]["median"] *= factor
    text, regressions = report.compare(results, new)
    assert f"matmul 64: ours speed {1 / factor:.2f} times as good: {verdict}" in text
    assert regressions == (verdict == "REGRESSION") and text.endswith("1 regression" if regressions else "0 regressions")


def test_what_a_case_lacks_is_left_out_of_its_lines(results):
    case = results["questions"][0]["cases"][0]
    assert report.case_line(case) == "matmul 64: ours 262 ns, torch 2.00 (1.80–2.20)"
    case["contestants"]["jax"] = contestant(1e-3)
    assert report.case_line(case).endswith(", jax 1 ms") and report.cell(case, "jax") == "1 ms" and report.cell(case, "mlx") == "–"
    assert report.case_line(case | {"contestants": {}}) == "matmul 64: nobody could run it"
    del case["contestants"]["ours"]
    assert report.case_line(case) == "matmul 64: torch 2.00 (1.80–2.20), jax 1 ms"
    lines = report.question_table(results["questions"][0], {}).splitlines()
    assert lines[0] == "| case | ours | speed (share of limit) | torch | jax |"
    assert lines[2] == "| matmul 64 | – | – | 2.00 (1.80–2.20) | 1 ms |"
    assert lines[6] == "| geometric mean |  |  | **2.83** |  |" and len(lines) == 7, "of two sizes nobody can say how they grow"


def test_the_peak_of_each_stands_in_the_last_column(results):
    question = results["questions"][0]
    for i, one in enumerate(question["cases"]):
        one |= {"flops": 0, "bytes": 0}
        one["contestants"]["ours"]["peak_bytes"] = 1_600_000 * (i + 1)
        if i == 1:
            one["contestants"]["torch"]["peak_bytes"] = 12e6
    lines = report.question_table(question, {}).splitlines()
    assert lines[0] == "| case | ours | torch | peak memory |"
    assert lines[2].endswith("| ours 2 MB |") and lines[3].endswith("| ours 3 MB, torch 12 MB |")
    assert lines[6] == "| geometric mean |  | **2.83** |  |"


def test_a_report_is_written_whole_and_read_again(results, tmp_path):
    place, link = tmp_path / "deep" / "r.json", tmp_path / "link.json"
    link.symlink_to(place)
    report.write(results, link)
    assert link.is_symlink() and report.read(link) == report.read(place) == json.loads(json.dumps(results))
    assert [p.name for p in place.parent.iterdir()] == ["r.json"]
    before = place.stat().st_ino
    report.write(results | {"revision": "def"}, place)
    assert report.read(link)["revision"] == "def" and place.stat().st_ino != before, (
        "another file: who reads the earlier one has it whole"
    )
