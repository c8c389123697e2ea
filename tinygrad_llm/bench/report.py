"""Results as JSON, as Markdown tables, and compared with older ones."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.bench import machine
from tinygrad_llm.bench.case import Options, is_ours
from tinygrad_llm.bench.limits import RESOURCES
from tinygrad_llm.bench.timing import interval_text, table_row

FORMAT = 1
KEYS = {"when", "machine", "versions", "revision", "options", "questions"}
EXPLANATION = "Ratios are their time over ours (95% interval): above 1, ours is faster."
BLOCK = re.compile(r"<!-- benchmarks -->.*?<!-- /benchmarks -->", re.DOTALL)
CHANGED = 0.05  # a change of a median under this share is noise
CHOICE = ("size", "seconds")  # options that choose the cases and how long they are measured; what a case is, its name says


def new_report(options: Options) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(options.threads, options.dtype),
        "versions": machine.versions(),
        "revision": machine.revision(),
        "options": options.to_json(),
        "complete": False,  # until the last case is in
        "questions": [],
    }


def read(path: str | Path) -> dict[str, Any]:
    """A report from disk; ValueError with what to do if it is not one."""
    try:
        report = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no results at {path}; `tinygrad-llm bench --json {path}` writes them") from None
    except ValueError as error:  # of JSON, or of UTF-8
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT or not KEYS <= report.keys():
        raise ValueError(f"{path} is not a result of `tinygrad-llm bench --json` (format {FORMAT})")
    try:
        markdown(report), compare(report, report)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # missing, or another kind
        raise ValueError(f"{path} is a damaged result, which cannot be shown: {type(error).__name__}: {error}") from None
    return report


def write(report: dict[str, Any], path: str | Path) -> None:
    """The results as JSON, in a folder that is made where there is none."""
    path = Path(path)
    if not path.exists():
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
    write_whole(json.dumps(report, indent=1) + "\n", path)


def write_whole(text: str, path: Path) -> None:
    """Beside it first, then renamed: whoever reads, or dies in the middle, has a whole file. A pipe or a device is written to."""
    if path.exists() and not path.is_file():
        path.write_text(text, "utf-8")
        return
    path = path.resolve()  # a link stays one
    beside = path.with_name(path.name + ".tmp")
    try:
        beside.write_text(text, "utf-8")
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def rounded(value: float, digits: int = 3) -> str:
    """As many digits, and no power of ten where the number is large: 12.3, 1,230."""
    value = float(f"{value:.{digits}g}")
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def duration(seconds: float) -> str:
    """Three digits and a unit: 12.3 ms."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{rounded(seconds / scale)} {unit}"
    return f"{rounded(seconds * 1e9)} ns"


def speed(case: dict[str, Any], limits: dict[str, Any], seconds: float) -> str:
    """Work per second, and the rate of the resource that binds with its share of the limit: "93 GFLOP/s (81%)".

    The limit is the one measured in turns with the case. Of a run of minutes, and in results of before there were such turns, it is
    the machine's, if that was measured with as many threads.
    """
    if case.get("threads") not in (None, limits.get("threads")):
        limits = {}
    parts = [f"{rounded(case['work'] / seconds, 4)} {case['unit']}/s"] if case["work"] else []
    beside, resources = case.get("limit"), []
    for amount, key, unit in RESOURCES:
        if case[amount] and (not beside or beside["of"] == amount):
            rate, at_limit = case[amount] / seconds / 1e9, limits.get(key)
            share = beside["share"] if beside else rate / at_limit if at_limit else None
            resources.append((share or 0.0, f"{rounded(rate)} {unit}" + ("" if share is None else f" ({share:.0%})")))
    return ", ".join(parts + [text for _, text in sorted(resources, reverse=True)[:1]])


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def question_table(question: dict[str, Any], limits: dict[str, Any]) -> str:
    """One question as Markdown: our time, our speed, and each contestant's time over ours."""
    others = list(dict.fromkeys(n for c in question["cases"] for n in c["contestants"] if n != "ours"))
    with_speed = any(c["flops"] or c["bytes"] or c["work"] for c in question["cases"])
    with_peak = any("peak_bytes" in r for c in question["cases"] for r in c["contestants"].values())
    head = ["case", "ours", *(["speed (share of limit)"] if with_speed else []), *others]
    head += ["peak memory"] if with_peak else []
    rows = [head, ["---"] * len(head)]
    for case in question["cases"]:
        ours = case["contestants"].get("ours")
        row = [case["name"], cell(case, "ours")]
        row += [speed(case, limits, ours["median"]) if ours else "–"] if with_speed else []
        row += [cell(case, name) for name in others]
        rows.append(row + ([peaks(case)] if with_peak else []))
    return "\n".join([*map(table_row, [*rows, *mean_row(question, head)]), *growth(question)])


def sized(question: dict[str, Any]) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Cases that differ in their last number only, as families: {"attention T=": [(256, case), (1024, case), (4096, case)]}.

    By size, however they were taken. A size above zero, as log axes need it, and three of them at least, as an exponent does.
    """
    families: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for case in question["cases"]:
        if (found := re.fullmatch(r"(.*?)(\d+(?:\.\d+)?)(\D*)", case["name"], re.DOTALL)) and float(found[2]) > 0:
            name = f"{found[1].strip()} … {found[3].strip()}".strip() if found[3].strip() else found[1].strip()
            families.setdefault(name, []).append((float(found[2]), case))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in families.items() if len(points) >= 3}


def exponent(points: list[tuple[float, float]]) -> float:
    """Least-squares slope of log time over log size: time grows as size to this power."""
    x, y = np.log(np.array(points).T)
    return float(np.polyfit(x, y, 1)[0])


def growth(question: dict[str, Any]) -> list[str]:
    """How our time grows in each family of cases that differ in one number: the fitted exponent, and that of the last step."""
    lines = []
    for family, cases in sized(question).items():
        points = [(size, c["contestants"]["ours"]["median"]) for size, c in cases if "ours" in c["contestants"]]
        if len(points) >= 3:
            slope, last, ends = exponent(points), exponent(points[-2:]), f"from {points[-2][0]:g} to {points[-1][0]:g}"
            lines.append(f"- {family}: our time grows as its power {slope:.2f}; {last:.2f} {ends}.")
    return ["", *lines] if lines else []


def cell(case: dict[str, Any], name: str) -> str:
    """A contestant's time over ours, or where there is no such ratio its time."""
    if ratio := case["ratios"].get(name):
        return f"{ratio['ratio']:.2f} ({interval_text(ratio['low'], ratio['high'], ratio['rounds'])})"
    if name in case["contestants"]:
        return duration(case["contestants"][name]["median"])
    return "–"


def case_line(case: dict[str, Any]) -> str:
    """One finished case as a plain line: our time, and the others' over it."""
    parts = [f"{name} {cell(case, name)}" for name in case["contestants"]]
    return f"{case['name']}: {', '.join(parts) or 'nobody could run it'}"


def peaks(case: dict[str, Any]) -> str:
    found = {n: r["peak_bytes"] for n, r in case["contestants"].items() if "peak_bytes" in r}
    return ", ".join(f"{n} {b / 1e6:.0f} MB" for n, b in found.items())


def mean_row(question: dict[str, Any], head: list[str]) -> list[list[str]]:
    """Geometric mean of the ratios, where there is more than one, in the columns that `head` names."""
    cells = ["geometric mean"]
    for name in head[1:]:
        ratios = [c["ratios"][name]["ratio"] for c in question["cases"] if name in c["ratios"]]
        cells.append(f"**{geometric_mean(ratios):.2f}**" if len(ratios) > 1 else "")
    return [cells] if any(cells[1:]) else []


def heading(report: dict[str, Any]) -> list[str]:
    """What the numbers are, before they are shown."""
    m, o = report["machine"], report["options"]
    versions = ", ".join(f"{k} {v}" for k, v in report["versions"].items())
    limits = f"; limits {m['gflops']:.0f} GFLOP/s and {m['gbytes']:.0f} GB/s" if "gflops" in m else ""
    lines = [
        f"{m['processor']}, {o['threads']} of {m['cores']} cores, {o['dtype']}{limits}.",
        f"{versions}; revision {report['revision'] or 'installed package'}; {report['when']}.",
        EXPLANATION,
    ]
    if not report.get("complete", True):
        lines.append("INCOMPLETE: the run was stopped before its end; this is what was measured until then.")
    return lines


def markdown(report: dict[str, Any]) -> str:
    """The whole report: a table for each question."""
    lines = heading(report)
    for question in report["questions"]:
        lines += ["", f"**{question['name']}**: {question['doc']}", "", question_table(question, report["machine"])]
        for name, why in question.get("absent", {}).items():
            lines.append(f"\n{name} was skipped: {why}.")
        if question["failed"]:
            lines.append(f"\nFAILED: {question['failed']}")
    return "\n".join(lines)


def summary(report: dict[str, Any]) -> str:
    """The report in one table: of each question and contestant the mean ratio, and the cases at either end."""
    rows = [["question", "against", "cases", "geometric mean", "worst case", "best case"], ["---"] * 6]
    for question in report["questions"]:
        for name in dict.fromkeys(n for c in question["cases"] for n in c["ratios"]):
            ratios = {c["name"]: c["ratios"][name]["ratio"] for c in question["cases"] if name in c["ratios"]}
            ends = [f"{ratios[c]:.2f} {c}" for c in (min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__))]
            rows.append([question["name"], name, str(len(ratios)), f"**{geometric_mean(list(ratios.values())):.2f}**", *ends])
    failed = [f"\n{q['name']} FAILED: {q['failed']}" for q in report["questions"] if q["failed"]]
    return "\n".join([*heading(report), "", *map(table_row, rows), *failed])


def update_readme(report: dict[str, Any], readme: Path) -> None:
    """Put the summary between the two markers of the README."""
    text = read_readme(readme)
    block = f"<!-- benchmarks -->\n{summary(report)}\n<!-- /benchmarks -->"
    readme.write_text(BLOCK.sub(lambda _: block, text), "utf-8")


def read_readme(readme: Path) -> str:
    """Its text, if there is one place in it for the summary."""
    text = readme.read_text("utf-8")
    if (count := len(BLOCK.findall(text))) != 1:
        raise ValueError(f"{readme} needs one pair of <!-- benchmarks --> and <!-- /benchmarks --> markers, has {count}")
    return text


def compare(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, int]:
    """What changed, as text, and the number of regressions.

    On one machine our own times are compared, of the cases that both have; where they differ, how the ratios did stands beside, for
    a busy machine is slower for all. Between machines, thread counts or dtypes times say nothing, which is said, and the ratios
    are compared.
    """
    same = conditions(old) == conditions(new)
    lines = [f"old: {origin(old)}", f"new: {origin(new)}"]
    if not same:
        lines.append("WARNING: different machines or options; times are not comparable, only ratios to other contestants are shown")
    elif old["options"] != new["options"]:
        lines.append("NOTE: taken with another --size or --seconds; cases of one name are compared")
    here, there = old["versions"], new["versions"]
    if moved := [f"{name} {here[name]} -> {there[name]}" for name in here if name in there and here[name] != there[name]]:
        lines.append(f"NOTE: other versions, with which ratios change: {', '.join(moved)}")
    for which, one in (("old", old), ("new", new)):
        if not one.get("complete", True):
            lines.append(f"WARNING: {which} is incomplete, its run was stopped before the end")
    before, regressions = index(old), 0
    for key, case in index(new).items():
        if key not in before:
            lines.append(f"{key}: new")
            continue
        measured = changes(before[key], case, times=same)
        beside = "".join(f"; {what} {now / was:.2f}" for what, was, now in changes(before[key], case, times=False))
        if not measured:
            lines.append(f"{key}: nothing that both measured")
        for what, was, now in measured:
            factor = now / was
            verdict = "same" if abs(factor - 1) < CHANGED else "better" if factor > 1 else "REGRESSION"
            regressions += verdict == "REGRESSION"
            lines.append(f"{key}: {what} {factor:.2f} times as good: {verdict}{beside if same and verdict != 'same' else ''}")
    lines += [f"{key}: gone" for key in before if key not in index(new)]
    worked = {q["name"] for q in old["questions"] if not q["failed"]}
    for question in new["questions"]:
        if question["failed"] and question["name"] in worked:
            lines.append(f"{question['name']}: failed: REGRESSION\n{question['failed']}")
            regressions += 1
    lines.append(f"{regressions} regression{'' if regressions == 1 else 's'}")
    return "\n".join(lines), regressions


def conditions(report: dict[str, Any]) -> tuple[Any, ...]:
    """What must be equal for times to be comparable: the machine, and all options but CHOICE."""
    return machine.identity(report["machine"]), {k: v for k, v in report["options"].items() if k not in CHOICE}


def origin(report: dict[str, Any]) -> str:
    o, processor = report["options"], report["machine"]["processor"]
    return f"{processor}, {o['threads']} threads, {o['dtype']}, revision {report['revision']}, {report['when']}"


def index(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{q['name']}, {c['name']}": c for q in report["questions"] for c in q["cases"]}


def changes(old: dict[str, Any], new: dict[str, Any], times: bool) -> list[tuple[str, float, float]]:
    """(what, old, new) where larger is better: our speed on the same machine, otherwise the ratios."""
    if times:
        names = [n for n in new["contestants"] if is_ours(n) and n in old["contestants"]]
        return [(f"{n} speed", 1 / old["contestants"][n]["median"], 1 / new["contestants"][n]["median"]) for n in names]
    shared = [n for n in new["ratios"] if n in old["ratios"] and not is_ours(n)]
    return [(f"ratio to {n}", old["ratios"][n]["ratio"], new["ratios"][n]["ratio"]) for n in shared]
