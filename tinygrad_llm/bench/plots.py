"""Pictures of a report: ratio bars with intervals, the roofline, and how time grows with size. Needs matplotlib (extra viz)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinygrad_llm.bench.report import exponent, sized

BLUE, GREY, RED = "#2563eb", "#9ca3af", "#b91c1c"


def need_matplotlib() -> Any:
    """matplotlib.pyplot on the file-only backend, or an ImportError that names the pip install."""
    try:
        import matplotlib
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'tinygrad-llm[viz]'") from None
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    """Every picture this report has the numbers for, as SVG."""
    plt = need_matplotlib()
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for question in report["questions"]:
        for kind, picture in (("ratios", ratio_bars), ("scaling", scaling)):
            figure = picture(plt, question)
            if figure is not None:
                made.append(save(plt, figure, folder / f"{question['name']}-{kind}.svg"))
    figure = roofline(plt, report)
    return made + ([save(plt, figure, folder / "roofline.svg")] if figure is not None else [])


def save(plt: Any, figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


def ratio_bars(plt: Any, question: dict[str, Any]) -> Any:
    """Their time over ours, one bar per case and contestant, with the 95% interval.

    Bars start at 1, a draw, on a log axis: twice as fast and half as fast are as long, and 1.1 can be seen beside 50.
    """
    bars = [(f"{c['name']}, {n}", r) for c in question["cases"] for n, r in c["ratios"].items()]
    if not bars:
        return None
    figure, axes = plt.subplots(figsize=(8, 0.24 * len(bars) + 1.2))
    names, ratios = zip(*reversed(bars))
    middle = [r["ratio"] for r in ratios]
    spread = [[r["ratio"] - r["low"] for r in ratios], [r["high"] - r["ratio"] for r in ratios]]
    axes.set_xscale("log")
    drawn = axes.barh(names, [m - 1 for m in middle], left=1, xerr=spread, color=[BLUE if m >= 1 else RED for m in middle],
                      ecolor="black", height=0.7)  # fmt: skip
    axes.bar_label(drawn, [f"{m:.2f}" for m in middle], padding=4, fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    low, high = min(0.9, *(r["low"] for r in ratios)), max(1.1, *(r["high"] for r in ratios))
    room = (high / low) ** 0.12  # for the numbers beside the bars
    low, high = low / room, high * room
    steps = (1, 1.5, 2, 3, 5, 7) if high / low < 100 else (1, 3) if high / low < 1e5 else (1,)  # labels stand apart
    ticks = [step * 10.0**power for power in range(-4, 6) for step in steps]
    axes.set_xticks(shown := [tick for tick in ticks if low < tick < high], [f"{tick:g}" for tick in shown], fontsize=8)
    axes.set_xticks([], minor=True)
    axes.set(xlabel="their time / our time (above 1: ours is faster)", title=question["name"])
    axes.set(xlim=(low, high), ylim=(-0.7, len(bars) - 0.3))
    axes.tick_params(axis="y", labelsize=8)
    return figure


def scaling(plt: Any, question: dict[str, Any]) -> Any:
    """Time over size on log axes, each family of cases a panel, with the fitted exponents."""
    families = sized(question)
    if not families:
        return None
    figure, panels = plt.subplots(1, len(families), figsize=(4.5 * len(families), 3.6), squeeze=False)
    for axes, (family, cases) in zip(panels[0], families.items()):
        for i, name in enumerate(dict.fromkeys(n for _, c in cases for n in c["contestants"])):
            points = [(size, c["contestants"][name]["median"]) for size, c in cases if name in c["contestants"]]
            label = f"{name}, exponent {exponent(points):.2f}" if len(points) > 1 else name
            axes.loglog(*zip(*points), "o-", label=label, color=BLUE if name == "ours" else f"C{i + 1}")  # C0 is a blue, too
        sizes = sorted({size for size, _ in cases})
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes], fontsize=8, rotation=45)
        axes.set_xticks([], minor=True)
        axes.set(xlabel="size", ylabel="seconds", title=family)
        axes.legend(fontsize=7)
    return figure


def roofline(plt: Any, report: dict[str, Any]) -> Any:
    """Our cases of as many threads under the machine's roof: min(multiply-add peak, bandwidth × operations per byte)."""
    import numpy as np

    limits = report["machine"]
    cases = [c for q in report["questions"] for c in q["cases"] if c["flops"] and c["bytes"] and "ours" in c["contestants"]]
    cases = [c for c in cases if c.get("threads") in (None, limits.get("threads"))]
    if not cases or "gflops" not in limits:
        return None
    intensity = np.array([c["flops"] / c["bytes"] for c in cases])
    rate = np.array([c["flops"] / c["contestants"]["ours"]["median"] / 1e9 for c in cases])
    x = np.geomspace(min(0.1, intensity.min()), max(1000, intensity.max()), 200)
    figure, axes = plt.subplots(figsize=(8.5, max(4.5, 0.13 * len(cases) + 1)))
    axes.loglog(x, np.minimum(limits["gflops"], limits["gbytes"] * x), color=GREY)
    axes.loglog(intensity, rate, "o", color=BLUE)
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "relpos": (0, 0.5)}
    for place, i in enumerate(np.lexsort((-intensity, rate))):  # names in a column, in the points' order: points lie close
        axes.annotate(cases[i]["name"], (intensity[i], rate[i]), (1.04, (place + 0.5) / len(cases)), fontsize=6, va="center",
                      textcoords="axes fraction", arrowprops=line)  # fmt: skip
    axes.set(xlabel="operations per byte", ylabel="GFLOP/s", title=limits["processor"])
    return figure
