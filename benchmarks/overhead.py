"""What does one small operation cost, forward and backward?

A chain of 1,000 operations on 8 × 8 arrays, where arithmetic is nothing and bookkeeping is all, with one thread.
"one kind" multiplies by a constant array; "mixed" repeats multiply, add, tanh, subtract, each with a parameter that also gets
its gradient where there is one.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_llm.bench import Case, Options

SIDE, LENGTH = 8, 1000


def one_kind(tanh: Callable[[Any], Any], x: Any, w: Any, length: int) -> Any:
    for _ in range(length):
        x = x * w
    return x


def mixed(tanh: Callable[[Any], Any], x: Any, w: Any, length: int) -> Any:
    for _ in range(length // 4):
        x = tanh(x * w + x) - w
    return x


CHAINS = {"one kind": one_kind, "mixed": mixed}


def cases(options: Options) -> Iterator[Case]:
    for name, chain in CHAINS.items():
        for length in options.sizes(LENGTH):
            yield chain_case(name, chain, length, options)


def chain_case(name: str, chain: Callable[..., Any], length: int, options: Options) -> Case:
    def inputs(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        shape = (SIDE, SIDE)
        return rng.uniform(-1, 1, shape).astype(options.dtype), rng.uniform(0.999, 1.001, shape).astype(options.dtype)

    case = Case(f"{name}, {length} operations", inputs, unit="op", work=length, tol=1e-3, threads=1)

    @case.contestant("ours")
    def _(x: np.ndarray, w: np.ndarray) -> Any:
        import tinygrad_llm as tg

        def step() -> Any:
            a, b = tg.Tensor(x, requires_grad=True), tg.Tensor(w, requires_grad=name == "mixed")
            chain(tg.tanh, a, b, length).sum().backward()
            return a.grad, b.grad

        return step

    @case.contestant("torch")
    def _(x: np.ndarray, w: np.ndarray) -> Any:
        import torch

        def step() -> Any:
            a, b = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=name == "mixed")
            chain(torch.tanh, a, b, length).sum().backward()
            return a.grad, b.grad

        return step

    @case.contestant("autograd")
    def _(x: np.ndarray, w: np.ndarray) -> Any:
        import autograd.numpy as anp
        from autograd import grad

        def loss(a: Any, b: Any) -> Any:
            return anp.sum(chain(anp.tanh, a, b, length))

        gradient = grad(loss, (0, 1) if name == "mixed" else 0)
        return lambda: gradient(x, w)

    @case.contestant("mygrad")
    def _(x: np.ndarray, w: np.ndarray) -> Any:
        import mygrad as mg

        def step() -> Any:
            a, b = mg.tensor(x), mg.tensor(w, constant=name != "mixed")
            chain(mg.tanh, a, b, length).sum().backward()
            return a.grad, b.grad

        return step

    return case
