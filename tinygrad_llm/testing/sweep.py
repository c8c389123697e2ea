"""Check every operation of the registry on the inputs it was declared with: what ``tinygrad-llm gradcheck`` runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from ..autograd import functional  # noqa: F401  its fused operations enter the registry when imported
from ..autograd.op import registry
from ..autograd.tensor import Tensor
from .declarations import Sample, load
from .engine_check import gradcheck, gradgradcheck
from .errors import GradcheckError


@dataclass
class Result:
    """How one operation fared. `first` and `second`: "ok", "WRONG", or "-" where there is nothing to check."""

    op: str
    inputs: str
    samples: int = 0
    first: str = "-"
    second: str = "-"
    seconds: float = 0.0
    message: str = ""

    @property
    def ok(self) -> bool:
        return "WRONG" not in (self.first, self.second)


def names() -> list[str]:
    """Every operation of this build, by name."""
    return sorted(registry)


def sweep(chosen: Sequence[str], *, order: int = 2, fast: bool = False, seed: int = 0) -> Iterator[Result]:
    """Check the operations one by one; a result as soon as each is done."""
    declared = load()
    for name in chosen:
        op = registry[name]
        result = Result(name, ", ".join(("*" if op.variadic else "") + i for i in op.inputs))
        start = perf_counter()
        if name not in declared:
            result.first, result.message = "WRONG", f"{name}: the operation has no declaration, so nothing checks its gradient"
        elif op.differentiable:
            _check(result, declared[name], order, fast, seed)
        result.seconds = perf_counter() - start
        yield result


def _check(result: Result, declaration: Any, order: int, fast: bool, seed: int) -> None:
    checks: list[tuple[str, Callable[..., bool]]] = [("first", gradcheck)]
    if order > 1 and declaration.second:
        checks.append(("second", gradgradcheck))
    for sample in declaration.samples(seed):
        function, inputs = as_function(result.op, sample)
        if not inputs:
            continue
        result.samples += 1
        for column, check in checks:
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore", RuntimeWarning)  # differences step over the edges of domains
                    check(function, inputs, fast=fast)
            except GradcheckError as error:
                setattr(result, column, "WRONG")
                result.message = result.message or f"{result.op}{sample!r}\n{error}"
            else:
                if getattr(result, column) == "-":
                    setattr(result, column, "ok")


def as_function(name: str, sample: Sample) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    """The op as a function of its float64 inputs alone, and those inputs."""
    places = [i for i, x in enumerate(sample.args) if isinstance(x, np.ndarray) and x.dtype == np.float64]

    def function(*tensors: Tensor) -> Any:
        args = list(sample.args)
        for i, tensor in zip(places, tensors):
            args[i] = tensor
        return registry[name].call(*args, **sample.params)

    function.__name__ = name
    return function, tuple(Tensor(sample.args[i], requires_grad=True) for i in places)
