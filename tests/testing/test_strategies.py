"""The strategies draw what they promise."""

from __future__ import annotations

import builtins
import importlib
import sys

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as hs

import tinygrad_llm as tg
from tinygrad_llm.testing import check_vjp
from tinygrad_llm.testing import strategies as st

SETTINGS = settings(max_examples=40, deadline=None)


@SETTINGS
@given(hs.data())
def test_arrays(data):
    shape = data.draw(st.shapes(min_side=0, max_dims=3))
    x = data.draw(st.arrays(shape, low=-3, high=5, avoid=(0,), margin=0.1, layouts=True))
    assert x.shape == shape and x.dtype == np.float64
    assert np.all((x >= -3.2) & (x <= 5.2)) and np.all(np.abs(x) >= 0.1)


@SETTINGS
@given(st.arrays((4, 5)))
def test_values_differ(x):
    assert np.min(np.diff(np.sort(x.ravel()))) > 1e-3


def test_ties_and_layouts_are_reached():
    assert find(st.arrays((6,), ties=True), lambda x: len(np.unique(x)) < 6) is not None
    for layout in (lambda x: x.flags.f_contiguous, lambda x: x.strides[0] < 0, lambda x: x.strides[-1] == 2 * x.itemsize):
        assert find(st.arrays((3, 4), layouts=True), layout) is not None


@SETTINGS
@given(st.arrays((6,), low=1, high=3, ties=True))
def test_ties_lie_on_five_values_of_the_range(x):
    assert np.isin(x, [1, 1.5, 2, 2.5, 3]).all()


@pytest.mark.parametrize("kind", st.MASK_KINDS)
def test_masks_of_attention_problems_are_of_their_kind(kind):
    problem = st.AttentionProblem(B=3, H=2, T=4, S=5, D=2, mask=kind, groups=1, seed=3)
    q, _, _, mask = problem.arrays(np.float32)
    assert q.dtype == np.float32 and problem.is_causal == (kind == "causal")
    if kind in ("none", "causal"):
        assert mask is None
    elif kind == "float":
        assert mask.shape == (3, 2, 4, 5) and mask.dtype == np.float32
    elif kind == "padding":  # real keys first
        assert mask.shape == (3, 1, 1, 5) and mask[..., 0].all() and not mask.all() and (np.diff(mask.astype(int)) <= 0).all()
    else:
        assert mask.shape == (4, 5) and mask.any() and not mask.all()
        assert (~mask).all(axis=1).sum() == (kind == "fully masked row")


@SETTINGS
@given(st.broadcastable_shapes(3))
def test_broadcastable(shapes):
    assert len(shapes) == 3
    np.broadcast_shapes(*shapes)


@SETTINGS
@given(hs.data())
def test_axes_and_indices_fit(data):
    shape = data.draw(st.shapes(min_side=0, max_dims=3))
    x = np.zeros(shape)
    assert x.sum(axis=data.draw(st.axes(len(shape)))) is not None
    index = data.draw(st.index_expressions(shape))
    taken = x[index]
    assert np.shares_memory(taken, x) or taken.size == 0 or isinstance(taken, np.float64) or taken.base is not x


@pytest.mark.parametrize(
    "wanted",
    [
        lambda i: isinstance(i, np.ndarray) and i.dtype == bool and 0 < i.sum() < i.size,
        lambda i: isinstance(i, tuple) and any(isinstance(p, np.ndarray) and len(np.unique(p)) < p.size for p in i),
        lambda i: isinstance(i, tuple) and None in [p for p in i if p is None],
        lambda i: isinstance(i, tuple) and any(p is ... for p in i),
        lambda i: isinstance(i, tuple) and any(isinstance(p, slice) and (p.step or 1) < 0 for p in i),
        lambda i: isinstance(i, tuple) and any(isinstance(p, int) and p < 0 for p in i),
    ],
    ids=["mask", "repeats", "None", "Ellipsis", "negative step", "negative int"],
)
def test_every_kind_of_index_is_reached(wanted):
    find(st.index_expressions((3, 4)), wanted, settings=settings(max_examples=2000, database=None))


def test_index_without_repeats_or_arrays():
    @SETTINGS
    @given(st.index_expressions((3, 4), advanced=False))
    def basic(index):
        assert not any(isinstance(p, np.ndarray) for p in (index if isinstance(index, tuple) else (index,)))

    @SETTINGS
    @given(st.index_expressions((3, 4), repeats=False))
    def once(index):
        assert len(np.unique(np.arange(12).reshape(3, 4)[index])) == np.arange(12).reshape(3, 4)[index].size

    @SETTINGS
    @given(st.index_expressions((3, 0, 2), repeats=False))
    def beside_nothing(index):
        assert np.zeros((3, 0, 2))[index].size == 0

    basic()
    once()
    beside_nothing()


@SETTINGS
@given(st.tensors((2, 3)))
def test_tensors(x):
    assert isinstance(x, tg.Tensor) and x.requires_grad and x.shape == (2, 3)


@SETTINGS
@given(st.attention_problems())
def test_attention_problems(problem):
    q, k, v, mask = problem.arrays()
    assert q.shape == (problem.B, problem.H, problem.T, problem.D)
    assert k.shape == v.shape == (problem.B, problem.H // problem.groups, problem.S, problem.D)
    if mask is None:
        assert problem.mask in ("none", "causal")
    else:
        full = np.broadcast_to(mask, (problem.B, problem.H, problem.T, problem.S))
        assert (mask.dtype == bool) == (problem.mask != "float")
        if problem.mask == "fully masked row":
            assert (~full).all(axis=-1).any()
        elif mask.dtype == bool:
            assert full.any(axis=-1).all()
    assert all(np.array_equal(a, b) for a, b in zip((q, k, v), problem.arrays()))


@SETTINGS
@given(st.arrays(st.shapes(min_dims=1, max_side=4)))
def test_in_use(x):
    check_vjp(np.cumsum, lambda g, x: np.cumsum(g[::-1])[::-1].reshape(x.shape), x)


def test_without_hypothesis_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "hypothesis":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "tinygrad_llm.testing.strategies")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'tinygrad-llm\[test\]'"):
        importlib.import_module("tinygrad_llm.testing.strategies")
