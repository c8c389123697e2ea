"""Run one of PyTorch's samples through PyTorch and through us, and compare: value, gradient, second order."""

# ruff: noqa: E501
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db

import tinygrad_llm as tg

PASSED, UNSUPPORTED, WRONG, NOTHING = "passed", "unsupported", "wrong", "-"
RTOL = 1e-7  # both compute in float64; second derivatives of ill-conditioned samples lose most


@dataclass
class Verdict:
    """How one sample fared: value and first order, second order (`-` where PyTorch has none), and why not."""

    first: str
    second: str = NOTHING
    why: str = ""


@dataclass
class Row:
    name: str
    verdicts: list[Verdict] = field(default_factory=list)

    def count(self, order: str, what: str) -> int:
        return sum(getattr(v, order) == what for v in self.verdicts)


def op_infos(names: set[str]) -> Iterator[tuple[str, Any]]:
    """PyTorch's OpInfo entries by full name (`nn.functional.pad.constant`)."""
    for info in op_db:
        name = info.name + (f".{info.variant_test_name}" if info.variant_test_name else "")
        if name in names and torch.float64 in info.dtypes:
            yield name, info


def run_op(name: str, info: Any, ours: Callable[..., Any]) -> Row:
    torch.manual_seed(0)
    row = Row(name)
    for sample in info.sample_inputs("cpu", torch.float64, requires_grad=info.supports_autograd):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            row.verdicts.append(_run_sample(info, sample, ours))
    return row


def _run_sample(info: Any, sample: Any, ours: Callable[..., Any]) -> Verdict:
    given = (sample.input, *sample.args)
    theirs = _outputs(info.op(*given, **sample.kwargs))
    try:
        leaves: list[tuple[torch.Tensor, tg.Tensor]] = []
        args = [_convert(a, leaves) for a in given]
        kwargs = {k: _convert(v, leaves) for k, v in sample.kwargs.items()}
        mine = _outputs(ours(*args, **kwargs))
    except Exception as error:  # whatever it raises: what is unsupported must raise, and does
        return Verdict(UNSUPPORTED, UNSUPPORTED if info.supports_gradgrad else NOTHING, f"{type(error).__name__}: {error}")
    why = _compare("value", [_array(t) for t in theirs], [_array(m) for m in mine])
    if why:
        return Verdict(WRONG, WRONG, why)
    return _gradients(info, theirs, mine, leaves)


def _gradients(info: Any, theirs: list[Any], mine: list[Any], leaves: list[tuple[torch.Tensor, tg.Tensor]]) -> Verdict:
    """First order along random gradients of the outputs, second along random gradients of those."""
    pairs = [(t, m) for t, m in zip(theirs, mine) if isinstance(t, torch.Tensor) and t.requires_grad and t.dtype == torch.float64]
    if not pairs or not leaves:
        return Verdict(PASSED)
    rng = np.random.default_rng(0)
    u = [rng.standard_normal(tuple(t.shape)) for t, _ in pairs]
    xs, ys = [t for t, _ in leaves], [m for _, m in leaves]
    second_wanted = info.supports_gradgrad
    g = torch.autograd.grad(
        [t for t, _ in pairs], xs, [torch.from_numpy(a).requires_grad_(second_wanted) for a in u], allow_unused=True, create_graph=second_wanted
    )
    try:
        connected = [(m, tg.Tensor(a)) for (_, m), a in zip(pairs, u) if isinstance(m, tg.Tensor) and m.requires_grad]
        h = tg.grad([m for m, _ in connected], ys, [a for _, a in connected], allow_unused=True, retain_graph=True) if connected else [None] * len(ys)
    except Exception as error:  # as above
        return Verdict(UNSUPPORTED, UNSUPPORTED, f"backward: {type(error).__name__}: {error}")
    why = _compare("gradient", *_zeros_for_none(g, h, xs))
    if why:
        return Verdict(WRONG, WRONG, why)
    return Verdict(PASSED, *_second(pairs, u, xs, ys, g, rng)) if second_wanted else Verdict(PASSED)


def _second(pairs: Any, u: Any, xs: Any, ys: Any, g: Any, rng: np.random.Generator) -> tuple[str, str]:
    wanted = [i for i, d in enumerate(g) if d is not None and d.requires_grad]
    v = [rng.standard_normal(tuple(g[i].shape)) for i in wanted]
    if not wanted:
        return NOTHING, ""
    try:
        theirs = torch.autograd.grad([g[i] for i in wanted], xs, [torch.from_numpy(a) for a in v], allow_unused=True)
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        return NOTHING, ""  # PyTorch's fused kernel has no second derivative here
    if all(d is None for d in theirs):
        return NOTHING, ""
    try:
        connected = [(m, tg.Tensor(a)) for (_, m), a in zip(pairs, u) if isinstance(m, tg.Tensor) and m.requires_grad]
        h = tg.grad([m for m, _ in connected], ys, [a for _, a in connected], allow_unused=True, create_graph=True)
        reached = [(h[i], tg.Tensor(a)) for i, a in zip(wanted, v) if h[i] is not None and h[i].requires_grad]
        mine = tg.grad([d for d, _ in reached], ys, [a for _, a in reached], allow_unused=True) if reached else [None] * len(ys)
    except Exception as error:  # as above
        return UNSUPPORTED, f"second order: {type(error).__name__}: {error}"
    expected, found = _zeros_for_none(theirs, mine, xs)
    if any(np.isnan(e).any() for e in expected):
        return NOTHING, ""  # PyTorch says NaN: at a point without second derivative (the norm of zero) it is no oracle
    why = _compare("second order", expected, found)
    return (WRONG, why) if why else (PASSED, "")


# -- conversion and comparison -----------------------------------------------------------------------------------------


def _convert(value: Any, leaves: list[tuple[torch.Tensor, tg.Tensor]]) -> Any:
    """PyTorch's arguments as ours; differentiable tensors are noted in `leaves`."""
    if isinstance(value, torch.Tensor):
        if value.is_complex() or value.dtype == torch.bfloat16:
            raise TypeError(f"{value.dtype} is not supported")
        mine = tg.Tensor(value.detach().numpy().copy(), requires_grad=value.requires_grad)
        if value.requires_grad:
            leaves.append((value, mine))
        return mine
    if isinstance(value, (list, tuple)):
        return type(value)(_convert(v, leaves) for v in value) if type(value) in (list, tuple) else tuple(value)
    if isinstance(value, torch.dtype):
        return np.dtype(str(value).removeprefix("torch."))
    if isinstance(value, slice):
        return slice(*(_convert(v, leaves) for v in (value.start, value.stop, value.step)))
    return value


def _outputs(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().numpy(force=True)
    return value.numpy() if isinstance(value, tg.Tensor) else np.asarray(value)


def _zeros_for_none(theirs: Any, mine: Any, xs: list[torch.Tensor]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    blank = [np.zeros(tuple(x.shape)) for x in xs]
    return tuple([b if d is None else _array(d) for b, d in zip(blank, side)] for side in (theirs, mine))  # type: ignore[return-value]


def _compare(what: str, theirs: list[np.ndarray], mine: list[np.ndarray]) -> str:
    """Empty where all agree, else what does not."""
    if len(theirs) != len(mine):
        return f"{what}: {len(mine)} outputs, PyTorch has {len(theirs)}"
    for i, (t, m) in enumerate(zip(theirs, mine)):
        if t.shape != m.shape:
            return f"{what} {i}: shape {m.shape}, PyTorch's {t.shape}"
        if t.dtype.kind in "biu" and m.dtype.kind in "biu":
            if not np.array_equal(t, m):
                return f"{what} {i}: {m.ravel()[:4]}, PyTorch's {t.ravel()[:4]}"
            continue
        t, m = t.astype(np.float64), m.astype(np.float64)
        scale = np.max(np.abs(t[np.isfinite(t)]), initial=0.0)
        close = np.isclose(m, t, rtol=RTOL, atol=max(1e-11, 1e-9 * scale), equal_nan=True)
        if not close.all():
            worst = tuple(int(k) for k in np.argwhere(~close)[0])
            return f"{what} {i}{list(worst)}: {m[worst]:.10g}, PyTorch's {t[worst]:.10g} ({int((~close).sum())} of {close.size} elements)"
    return ""
