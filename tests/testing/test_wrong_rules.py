"""Every deliberately wrong gradient is rejected, with a message a person can act on: as a foreign pair and as an op."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.testing import GradcheckError, check_vjp, gradcheck

from . import wrong_rules
from .right_rules import Pair
from .wrong_rules import FOREIGN_ONLY, WRONG


@pytest.fixture(autouse=True)
def _fresh_state() -> None:
    wrong_rules.cache.clear()


def refused(check: Callable[[], Any]) -> GradcheckError:
    with np.errstate(all="ignore"), pytest.raises(GradcheckError) as caught:
        check()
    return caught.value


def assert_actionable(error: GradcheckError, pair: Pair) -> None:
    text = str(error)
    assert error.kind == pair.kind, text
    if pair.kind == "mismatch":
        position, index = error.input, error.index
        assert position is not None and index is not None
        assert 0 <= position < len(pair.inputs) and np.shape(pair.inputs[position])[: len(index)] != () or index == ()
        assert f"input {position}" in text and "claimed" in text and "measured" in text and "difference" in text
        if index:
            assert f"[{', '.join(map(str, index))}]" in text
        assert error.difference is not None and error.difference > 0
    if pair.kind in ("nan", "shape", "missing", "dtype") and error.input is not None:
        assert f"input {error.input}" in text


@pytest.mark.parametrize("pair", [*WRONG, *FOREIGN_ONLY], ids=repr)
@pytest.mark.parametrize("fast", [False, True], ids=["", "fast"])
def test_foreign_pair_is_rejected(pair: Pair, fast: bool) -> None:
    copies = tuple(np.array(x) for x in pair.inputs)
    error = refused(lambda: check_vjp(pair.forward, pair.backward, copies, fast=fast))
    assert_actionable(error, pair)
    if pair.input >= 0 and "second" not in pair.name and "ties" not in pair.name and pair.kind not in ("nondeterministic", "state"):
        assert error.input is None or error.input == pair.input or pair.name == "gradients in the wrong order"


def as_op(pair: Pair) -> Any:
    """The pair as a custom operation of the engine, named after it, with one joint rule."""
    names = "abc"[: len(pair.inputs)]
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD

    def forward(*arrays: Any) -> Any:
        return np.asarray(pair.forward(*arrays)), arrays

    def rule(g: Any, *arrays: Any) -> Any:
        d = pair.backward(g, *arrays)
        return d if isinstance(d, tuple) else (d,)

    forward.__signature__ = inspect.Signature([inspect.Parameter(n, positional) for n in names])  # type: ignore[attr-defined]
    rule.__signature__ = inspect.Signature([inspect.Parameter(n, positional) for n in ("g", *names)])  # type: ignore[attr-defined]
    op = tg.custom_op(forward, name="wrong_" + "".join(c if c.isalnum() else "_" for c in pair.name))
    op.grad(rule)
    return op


@tg.custom_op
def doubled(x: Any) -> Any:
    return 2 * x, ()


@doubled.grad_of("x")
def _(g: Any) -> Any:
    return 2 * g


@pytest.mark.parametrize("pair", WRONG, ids=repr)
def test_op_is_rejected_and_blamed(pair: Pair) -> None:
    """In the middle of a function of right operations the wrong one is named."""
    op = as_op(pair)
    inputs = tuple(tg.Tensor(np.array(x), requires_grad=True) for x in pair.inputs)
    error = refused(lambda: gradcheck(lambda *xs: doubled(op(*xs)), inputs))
    assert_actionable(error, pair)
    if pair.kind in ("mismatch", "missing", "nan", "precision"):
        assert error.op == op.op.name, str(error)
        assert f"op to blame: {op.op.name}" in str(error)
        assert "doubled" not in str(error)


def test_there_are_enough() -> None:
    names = [pair.name for pair in (*WRONG, *FOREIGN_ONLY)]
    assert len(set(names)) == len(names)
    assert len(WRONG) >= 60
