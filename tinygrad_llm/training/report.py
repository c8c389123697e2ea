"""The end of a run: one HTML file that needs nothing else, and a picture of the loss where matplotlib is installed."""

import html
from pathlib import Path

from .log import LOG, read

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.5rem}table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0}pre{background:#f4f4f4;padding:1rem;
white-space:pre-wrap;overflow-wrap:anywhere}svg{width:100%;height:auto}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#262626}text{fill:#aaa}}"""
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 320, 50, 30
MOST_POINTS = 1500
WEIGHT = 0.9  # of a step in the average of the next one
PAGE, PICTURE = "report.html", "loss.png"


def write_report(out: Path, title: str, facts: dict, sample: str) -> Path:
    """OUT/report.html, from OUT/log.jsonl, `facts` (shown as a table) and a sample of the model's writing, if it writes."""
    rows = "".join(f"<tr><td>{html.escape(str(k))}</td><td>{html.escape(str(v))}</td></tr>" for k, v in facts.items())
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{html.escape(title)}</title>"
    written = f"<h2>A sample</h2><pre>{html.escape(sample)}</pre>" if sample else ""
    page = (
        f"<!doctype html>{head}<style>{STYLE}</style><h1>{html.escape(title)}</h1>{curves(*points_of(out))}"
        f"<table>{rows}</table>{written}"
    )
    path = out / PAGE
    path.write_text(page, "utf-8")
    return path


def points_of(out: Path) -> tuple[list, list]:
    """(step, loss) of every training step, and of every evaluation; none where the loss was not finite."""
    records = read(out / LOG)
    return tuple([(r["step"], r[name]) for r in records if r.get(name) is not None] for name in ("loss", "eval_loss"))


def curves(losses, evaluations) -> str:
    """Loss over steps as SVG: every step pale, its average blue, evaluations as dots."""
    points = losses + evaluations
    if not points:
        return "<p>No step was taken.</p>"
    last = max(s for s, _ in points) or 1
    low, high = min(v for _, v in points), max(v for _, v in points)
    high = high if high > low else low + 1
    x = lambda step: LEFT + (WIDTH - LEFT - 10) * step / last
    y = lambda loss: 10 + (HEIGHT - BOTTOM - 10) * (high - loss) / (high - low)
    line = lambda data, width, share: (f"<polyline fill=none stroke=#2f86c9 stroke-width={width} stroke-opacity={share} points='"
                                       + " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in thin(data)) + "'/>")  # fmt: skip
    dots = "".join(
        f"<circle cx={x(s):.1f} cy={y(v):.1f} r=4 fill=#d62728><title>step {s}: {v:.4f}</title></circle>" for s, v in evaluations
    )
    labels = "".join(
        f"<text x={LEFT - 6} y={y(v) + 4:.1f} text-anchor=end font-size=12>{v:.2f}</text>" for v in (low, (low + high) / 2, high)
    )
    labels += f"<text x={LEFT} y={HEIGHT - 8} font-size=12>0</text>"
    labels += f"<text x={WIDTH - 10} y={HEIGHT - 8} text-anchor=end font-size=12>step {last}</text>"
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='loss over steps'>{line(losses, 1, 0.6)}"
        f"{line(averaged(losses), 2, 1)}{dots}{labels}</svg>"
        "<p>Loss in nats per token. Blue: in training, averaged; pale: of each step. Red: on held-out text.</p>"
    )


def averaged(data):
    """An exponential average over the steps before and after each: of those before alone it would lie above a loss that falls."""

    def sums(values):
        total, norm = 0.0, 0.0
        for value in values:
            total, norm = WEIGHT * total + value, WEIGHT * norm + 1
            yield total, norm

    values = [v for _, v in data]
    both = zip(data, sums(values), reversed([*sums(reversed(values))]))
    return [(step, (a + b - value) / (n + m - 1)) for (step, value), (a, n), (b, m) in both]


def thin(data):
    """At most MOST_POINTS of them: a page of a long run stays small."""
    return data[:: max(1, -(-len(data) // MOST_POINTS))]


def write_plot(out: Path) -> Path | None:
    """OUT/loss.png, or None where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    losses, evaluations = points_of(out)
    axes.plot([s for s, _ in losses], [v for _, v in losses], color="tab:blue", alpha=0.3)
    axes.plot([s for s, _ in losses], [v for _, v in averaged(losses)], color="tab:blue", label="training")
    axes.plot([s for s, _ in evaluations], [v for _, v in evaluations], color="tab:red", marker="o", label="held-out")
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.legend()
    figure.savefig(out / PICTURE, dpi=120)
    return out / PICTURE
