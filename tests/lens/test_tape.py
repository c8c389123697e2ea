"""Every operation of a run, written down."""

import re

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.lens.small import IDS, made_up
from tinygrad_llm import lens
from tinygrad_llm.lens.tape import Tape
from tinygrad_llm.lens.tape import _size as size_text


def test_tape_has_every_operation_with_its_module(gpt):
    with lens.trace() as tape:
        gpt(input_ids=IDS, labels=IDS).loss.backward()
    modules = tape.by_module()
    assert "transformer.layers.1.attn" in modules
    assert all(call.backward > 0 for call in tape.calls if call.op == "attention")
    text = tape.text()
    assert "kept for backward" in text and "transformer.layers.2.mlp" in text
    assert repr(tape).startswith(f"<{len(tape.calls)} operations, ") and repr(tape).endswith("text() has them all>")
    assert tape.dot().startswith("digraph") and tape.dot().count("->") > len(tape.calls) / 2
    assert tape.svg().startswith("<svg") and tape.svg().endswith("</svg>")


def test_tape_keeps_no_array_alive(gpt):
    import gc
    import weakref

    with lens.trace() as tape:
        out = gpt(input_ids=IDS).logits
        seen = weakref.ref(out.data)
        del out
        gc.collect()
        assert seen() is None
    assert tape.calls


def test_what_is_kept_for_backward_is_counted_once():
    """An array that two operations keep, or a view of one, is there once; parameters are there anyway."""
    weight = tg.Tensor(np.ones((3, 4), np.float32), requires_grad=True)
    with lens.trace() as tape:
        x = weight * 2.0
        (tg.exp(x) * x * x.reshape(4, 3).reshape(3, 4)).sum().backward()
    assert [call.op for call in tape.calls] == ["multiply", "exp", "multiply", "reshape", "reshape", "multiply", "sum"]
    kept, moved = ([getattr(call, key) for call in tape.calls] for key in ("saved", "moved"))
    assert kept == [0, 48, 48, 0, 0, 48, 0]  # of both products one factor: the other is kept already, or lies in the same memory
    assert moved == [96, 96, 144, 96, 96, 144, 48 + 4]
    assert {call.dtype for call in tape.calls} == {"float32"}
    assert [call.parents for call in tape.calls] == [[], [0], [1, 0], [0], [3], [2, 4], [5]]


def test_a_tape_is_cut_where_asked():
    tape = made_up(*[("add", "a", 1e-3, 0.0, 1, 1)] * 5, ("mul", "b", 1e-3, 2e-3, 1, 1))
    for child, parent in ((1, 0), (2, 0), (5, 2)):
        tape.calls[child].parents.append(parent)
    lines = Tape.text(tape, limit=3).splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [["0", "add"], ["1", "add"], ["2", "add"]] and lines[1] == "a"
    assert lines[5] == "... 3 more" and lines[6] == "6 operations, 48 B kept for backward, forward 6.00 ms, backward 2.00 ms"
    assert "more" not in Tape.text(tape, limit=6) and Tape.text(tape).count("\na\n") == Tape.text(tape).count("\nb\n") == 1
    assert tape.svg().count("<rect") == 6 and tape.svg().count("<path") == 3 and "not drawn" not in tape.svg()
    few = tape.svg(limit=3)
    assert few.count("<rect") == 3 and few.count("<path") == 2 and "3 more operations not drawn" in few
    spots = [(int(x), int(y)) for x, y in re.findall(r'<rect x="(\d+)" y="(\d+)"', tape.svg())]
    assert len(set(spots)) == 6, "no box lies on another"
    x, y = zip(*spots)
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', tape.svg()).groups())
    assert max(x) + 170 <= width < max(x) + 220 and max(y) + 44 <= height < max(y) + 94, "the drawing ends where its boxes do"
    assert 0 < x[0] == x[1] == x[5] and x[2] == x[3] == x[0] + (x[4] - x[0]) / 2 < x[0] + 200
    assert 0 < y[0] == y[3] == y[4] < 44 and y[0] + 44 < y[1] == y[2] and y[2] + 44 < y[5], "what uses a result stands below it"
    assert re.findall(r"n\d+ -> n\d+", tape.dot()) == ["n0 -> n1", "n0 -> n2", "n2 -> n5"]


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (1_250_000, "1.2 MB"), (3_456_000_000, "3.46 GB")])
def test_sizes_are_said_in_their_unit(count, text):
    assert size_text(count) == text


def test_each_kind_of_part_has_its_colour_and_a_norm_before_attention_is_a_norm(gpt):
    with lens.trace() as tape:
        gpt(input_ids=IDS)
    drawn = re.findall(r'<title>(\S+)\n(\w+) .*?fill="(#\w+)"', tape.svg(), re.S)
    colours = {(op, module.split(".")[-1]): colour for module, op, colour in drawn}
    assert colours["layer_norm", "attn_norm"] == colours["layer_norm", "mlp_norm"] == colours["layer_norm", "final_norm"] == "#d5eee3"
    assert (colours["attention", "attn"], colours["gelu", "mlp"]) == ("#cfe6f5", "#fbe3c2")
