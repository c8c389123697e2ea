"""The report in headless Chromium: it opens from disk, and clicks and keys choose heads and queries. Skipped where no Chromium is."""

import re
import shutil
import subprocess

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.lens.page import report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

# what a reader does, each step with what the page then says, written into the page for --dump-dom to show
READER = """<script>
const wait = setInterval(() => {
  if (document.body.dataset.ready !== "yes") return;
  clearInterval(wait);
  const said = () => document.getElementById("which").textContent + " / " + document.getElementById("said").textContent.split(" “")[0];
  const heads = [...document.querySelectorAll("#heads canvas")], steps = ["start: " + said()];
  heads[12 * 7 + 5].click(); steps.push("click: " + said());
  for (const key of ["ArrowDown", "ArrowLeft", "k"]) { dispatchEvent(new KeyboardEvent("keydown", {key})); steps.push(key + ": " + said()); }
  steps.push("chosen: " + heads.filter(c => c.getAttribute("aria-selected") === "true").length);
  document.body.append(Object.assign(document.createElement("pre"), {id: "steps", textContent: steps.join("\\n")}));
}, 10);
</script></body>"""


def steps(place, tmp_path, *flags):
    """What the script in a page wrote down."""
    flags = [*FLAGS, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom"]
    shown = subprocess.run([BROWSER, *flags, place.as_uri()], capture_output=True, text=True, timeout=100, check=True).stdout
    found = re.search(r'<pre id="steps">(.*?)</pre>', shown, re.S)
    assert found, "the page never became ready"
    return found.group(1).splitlines()


NARROW = """<script>
const wait = setInterval(() => {
  if (document.body.dataset.ready !== "yes") return;
  clearInterval(wait);
  const beyond = [...document.querySelectorAll("figure svg, canvas, h2, p")].filter(n => n.getBoundingClientRect().right > innerWidth);
  const blanks = [...document.querySelectorAll("td, th")].filter(n => n.textContent.startsWith("␣")).length;
  const chosen = [...document.querySelectorAll("p")].filter(n => n.textContent.includes("“␣”")).length;
  const note = document.getElementById("note").textContent === document.querySelector("#heads canvas").title;
  document.body.append(Object.assign(document.createElement("pre"), {id: "steps", textContent: `${beyond.length} beyond\n${blanks} blanks\n${chosen} choice\nnote ${note}`}));
}, 10);
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_on_a_narrow_screen_charts_end_where_the_page_does_and_blanks_are_seen(tmp_path):
    tg.manual_seed(0)
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=5, n_positions=8).eval()
    page = report(model, {"input_ids": np.array([[0, 1, 2, 3]]), "labels": np.array([[0, 1, 2, 3]])}, lambda i: " ")
    place = tmp_path / "report.html"
    place.write_text(page.replace("</body>", NARROW), encoding="utf-8")
    assert steps(place, tmp_path, "--window-size=420,900") == ["0 beyond", "16 blanks", "1 choice", "note true"]


HEADINGS = """<script>
const wait = setInterval(() => {
  if (document.body.dataset.ready !== "yes") return;
  clearInterval(wait);
  const lines = [...document.querySelectorAll("h2, th")].map(n => n.textContent).filter(t => /Param|ms/.test(t));
  document.body.append(Object.assign(document.createElement("pre"), {id: "steps", textContent: lines.join("\\n")}));
}, 10);
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, ["Parameters", "forward ms"]),
        ({"labels": np.array([[0, 1, 2, 3]])}, ["Parameters and gradients", "forward ms", "backward ms"]),
    ],
)
def test_a_run_that_did_not_go_back_shows_no_gradients(tmp_path, labels, expected):
    model = tg.models.create("gpt2", n_layer=1, n_head=2, n_embd=16, vocab_size=5, n_positions=8).eval()
    place = tmp_path / "report.html"
    place.write_text(report(model, {"input_ids": np.array([[0, 1, 2, 3]]), **labels}).replace("</body>", HEADINGS), encoding="utf-8")
    assert steps(place, tmp_path) == expected


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_reader_clicks_and_types(tmp_path):
    tg.manual_seed(0)
    sizes = {"n_layer": 12, "n_head": 12, "n_embd": 48, "vocab_size": 300, "n_positions": 256, "initializer_range": 0.25}
    model = tg.models.create("gpt2", **sizes).eval()
    ids = np.random.default_rng(0).integers(0, 300, (1, 256))
    page = report(model, {"input_ids": ids, "labels": ids}, lambda i: f"<w{i}>")
    assert len(page.encode()) < 5_000_000
    place = tmp_path / "report.html"
    place.write_text(page.replace("</body>", READER), encoding="utf-8")
    assert steps(place, tmp_path) == [
        "start: self-attention: layer 0, head 0 / query 255",
        "click: self-attention: layer 7, head 5 / query 255",
        "ArrowDown: self-attention: layer 8, head 5 / query 255",
        "ArrowLeft: self-attention: layer 8, head 4 / query 255",
        "k: self-attention: layer 8, head 4 / query 254",
        "chosen: 1",
    ]
