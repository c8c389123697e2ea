"""The report, one page of HTML."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.lens.small import IDS, data_of
from tinygrad_llm import lens
from tinygrad_llm.lens import page
from tinygrad_llm.lens.page import pack, report


def test_report_with_a_path_in_an_arguments_place_says_what_it_takes(gpt, tmp_path):
    for arguments in ((tmp_path, {"input_ids": IDS[:1]}), ({"input_ids": IDS[:1]}, "page.html")):
        with pytest.raises(TypeError, match="report: expected .*it returns the page"):
            report(gpt, *arguments)


def test_report_takes_the_call_s_arguments_by_name_and_labels_alone(gpt, t5):
    attention = lambda page: data_of(page)["attention"]
    for model, labels in ((gpt, {"labels": IDS[:1]}), (t5, {"labels": IDS[1:, :6]})):
        inputs = {"input_ids": IDS[:1], **labels}
        assert attention(report(model, **inputs)) == attention(report(model, inputs))
    shifted = np.insert(IDS[1:, :5], 0, t5.config.decoder_start_token_id, axis=1)
    assert attention(report(t5, **inputs)) == attention(report(t5, input_ids=IDS[:1], decoder_input_ids=shifted))
    with pytest.raises(ValueError, match="^labels: 99999 is outside"):
        report(t5, input_ids=IDS[:1], labels=[[5, 99999, 5]])
    with pytest.raises(TypeError, match="report: T5For.* reads two texts; expected decoder_input_ids, or labels, too"):
        report(t5, input_ids=IDS[:1])
    with pytest.raises(TypeError, match="report: expected .*input_ids"):
        report(gpt, inputs_embeds=np.zeros((1, 3, 32)))


def test_report_holds_what_the_run_made(gpt):
    page = report(
        gpt, {"input_ids": IDS[:1], "labels": IDS[:1]}, lambda i: f"<b>{i}</b>", title='</script><script>alert("x")</script>'
    )
    assert "alert(" in page and '<script>alert("x")' not in page and "<b>" not in page
    assert not re.search(r'(src|href)\s*=\s*["\']?https?:', page)
    data = data_of(page)
    kind = data["attention"][0]
    codes = np.frombuffer(zlib.decompress(base64.b64decode(kind["packed"])), np.uint8).reshape(
        kind["L"], kind["H"], kind["T"], kind["S"]
    )
    with lens.record(gpt, "*.pattern") as values:
        gpt(input_ids=IDS[:1])
    got = (codes / (kind["levels"] - 1)) ** 2
    np.testing.assert_allclose(got[2], values["blocks.2.attn.pattern"][0], atol=0.02)
    assert (
        len(data["lens"]["rows"]) == 4 and data["attribution"] and len(data["histograms"]) == 2 and data["graph"].startswith("<svg")
    )
    gpt.zero_grad()
    gpt(input_ids=IDS[:1], labels=IDS[:1]).loss.backward()
    last = np.concatenate([p.grad.data.ravel() for n, p in gpt.named_parameters() if ".2." in n and p.ndim > 1])
    gpt.zero_grad()
    shown = [data["histograms"][1][-1][end] for end in ("low", "high")]  # of one backward, though the model ran twice
    np.testing.assert_allclose(shown, np.percentile(last, [0.1, 99.9]), rtol=1e-4)


def test_report_of_both_other_families(bert, t5):
    assert data_of(report(bert, {"input_ids": IDS[:1]}))["lens"] is None
    data = data_of(report(t5, {"input_ids": IDS[:1], "decoder_input_ids": IDS[:1, :6]}))
    kinds = data["attention"]
    assert [k["name"] for k in kinds] == ["self-attention, encoder", "self-attention, decoder", "cross-attention, decoder"]
    assert ["previous token" in k["notes"][0][0] for k in kinds] == [True, True, False]
    assert [chart["caption"].split(":")[0] for chart in data["norms"]] == ["encoder", "decoder"]
    assert (kinds[2]["T"], kinds[2]["S"]) == (6, 17)


def test_report_of_a_large_model_stays_small():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (12, 12, 256, 256)).astype(np.float32) + np.where(np.tri(256), 0, -np.inf).astype(np.float32)
    pattern = np.exp(scores - scores.max(-1, keepdims=True))
    pattern /= pattern.sum(-1, keepdims=True)
    packed, levels = pack(pattern, 4_000_000)
    assert len(packed) <= 4_000_000 and levels >= 8


def test_report_of_a_diverged_model_says_where():
    """NaN is no JSON: the page was blank."""
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=60, n_positions=32).eval()
    model.transformer.layers[1].mlp.up.weight.data[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"report: blocks\.1\.resid_post has NaN or infinity"):
        report(model, {"input_ids": IDS[:1], "labels": IDS[:1]})


def test_report_of_a_model_that_says_nothing_and_of_a_text_like_the_page():
    model = tg.models.create("gpt2", n_layer=2, n_head=2, n_embd=16, vocab_size=60, n_positions=32).eval()
    for parameter in model.parameters():
        parameter.data[:] = 0
    page = report(model, {"input_ids": IDS[:1]}, title="__DATA__ </title><script>")
    assert "NaN" not in json.dumps(data_of(page)["attribution"])
    assert "<title>__DATA__ &lt;/title&gt;&lt;script&gt;</title>" in page and page.count('"attribution":') == 1


@pytest.mark.filterwarnings("error")
def test_report_of_one_token_says_nothing_of_previous_ones(gpt):
    notes = data_of(report(gpt, {"input_ids": IDS[:1, :1]}))["attention"][0]["notes"]
    assert notes[0][0] == "entropy 0.00 nats, mean distance 0.0"


def test_report_wants_one_row(gpt):
    with pytest.raises(ValueError, match=r"\(1, T\)"):
        report(gpt, {"input_ids": IDS})


def test_the_report_profiles_a_run_with_its_kernels_loaded(gpt, monkeypatch):
    """The first run of a process loads or compiles kernels, which takes longer than all of a small model's operations."""
    runs, run = [], page._run
    monkeypatch.setattr(page, "_run", lambda *given: runs.append(run(*given)) or runs[-1])
    inputs = {"input_ids": IDS[:1], "labels": IDS[:1]}
    data = data_of(report(gpt, inputs))
    assert len(runs) == 2 and [row[2] for row in data["profile"]] == [f"{row.forward * 1e3:.2f}" for row in runs[1][0].by_op()]
    with lens.record(gpt, "blocks.0.resid_pre", gradients=True) as values:
        gpt(**inputs).loss.backward()
    gpt.zero_grad()
    np.testing.assert_allclose(runs[1][2]["blocks.0.resid_pre"], values.grad["blocks.0.resid_pre"], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("budget", [10_000, 2_000, 600])
def test_a_pattern_is_packed_in_as_many_levels_as_fit(budget):
    pattern = np.random.default_rng(0).dirichlet(np.ones(16), (2, 2, 16))
    packed, levels = pack(pattern, budget)
    codes = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8).reshape(pattern.shape)
    assert len(packed) <= budget and codes.max() <= levels - 1
    assert np.abs(codes / (levels - 1) - np.sqrt(pattern)).max() <= 0.5 / (levels - 1) + 1e-12
    assert levels == 64 or len(pack(pattern, 10**9)[0]) > budget


def test_the_report_shows_lengths_of_streams_and_what_each_head_does(gpt):
    inputs = {"input_ids": IDS[:1], "labels": IDS[:1]}
    data = data_of(report(gpt, inputs))
    names = ["blocks.0.resid_pre", *(f"blocks.{i}.resid_post" for i in range(3))]
    with lens.record(gpt, *names, gradients=True) as values:
        gpt(**inputs).loss.backward()
    gpt.zero_grad()
    length = lambda arrays: [np.sqrt((arrays[name] ** 2).sum(-1)).mean() for name in names]
    streams, slopes = data["norms"]
    np.testing.assert_allclose(streams["series"][0]["values"], length(values), rtol=1e-4)
    np.testing.assert_allclose(slopes["series"][0]["values"], length(values.grad), rtol=1e-4)
    assert streams["labels"] == slopes["labels"] == ["in", "0", "1", "2"] and streams["caption"].startswith("model: length of the stream")
    pattern = lens.patterns(gpt, input_ids=IDS[:1])
    note = data["attention"][0]["notes"][1][2]
    assert note.startswith(f"entropy {lens.entropy(pattern)[1, 2]:.2f} nats, mean distance {lens.distance(pattern)[1, 2]:.1f}, previous")
    assert f"previous token {lens.previous_token_scores(pattern)[1, 2]:.2f}" in note
    twice = data_of(report(gpt, {"input_ids": np.tile(IDS[:1, :8], 2)}))["attention"][0]["notes"][1][2]
    ids = np.tile(IDS[:1, :8], 2)
    assert twice.endswith(f"induction {lens.induction_scores(lens.patterns(gpt, input_ids=ids), ids)[1, 2]:.2f}")
