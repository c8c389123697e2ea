"""How fast is attention, against PyTorch's fused `scaled_dot_product_attention`?

Batch 4, 12 heads of width 64, as in GPT-2 and BERT: forward alone, and forward with backward, causal and full, with a padding mask
(the second half of each sequence is a quarter padding on average) and with a trained bias as in T5; then decoding, one new query
against a cache of 1,024 or 8,192 keys. A call with backward returns out and the gradients of q, k, v (and bias).
Operations are those of the products alone: 2 forward, 5 backward; a causal call counts half.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_llm.bench import Case, Options, randn

B, H, K = 4, 12, 64
LENGTHS = (256, 1024, 4096)


def cases(options: Options) -> Iterator[Case]:
    for T in options.sizes(*LENGTHS):
        for causal in (True, False):
            name = f"{'causal' if causal else 'full'} T={T}"
            yield forward_case(f"{name} forward", T, causal, options)
            yield training_case(f"{name} forward and backward", T, causal, "", options)
    if not options.size:
        for extra in ("padding", "bias"):
            yield training_case(f"full with {extra} T=512 forward and backward", 512, False, extra, options)
        for batch in (1, 4):
            for S in (1024, 8192):
                yield decode_case(batch, S, options)


def forward_case(name: str, T: int, causal: bool, options: Options) -> Case:
    def inputs(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return randn(rng, options.dtype, *[(B, H, T, K)] * 3)

    case = Case(name, inputs, flops=products(2, T, causal), tol=1e-5)

    @case.contestant("ours")
    def _(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Any:
        import kernels

        return lambda: kernels.attention_forward(q, k, v, is_causal=causal)[0]

    @case.contestant("torch")
    def _(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Any:
        import torch

        arrays = [torch.from_numpy(x) for x in (q, k, v)]
        return lambda: torch.nn.functional.scaled_dot_product_attention(*arrays, is_causal=causal)

    return case


def training_case(name: str, T: int, causal: bool, extra: str, options: Options) -> Case:
    def inputs(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        lengths = rng.integers(T // 2, T + 1, (B, 1))
        return *randn(rng, options.dtype, *[(B, H, T, K)] * 4, (1, H, T, T)), np.arange(T) < lengths

    case = Case(name, inputs, flops=products(7, T, causal), tol=1e-4)

    @case.contestant("ours")
    def _(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, bias: np.ndarray, seen: np.ndarray) -> Any:
        import kernels

        more = {"padding": {"key_mask": seen}, "bias": {"bias": bias}, "": {}}[extra]

        def step() -> tuple[np.ndarray, ...]:
            out, lse = kernels.attention_forward(q, k, v, is_causal=causal, **more)
            grads = kernels.attention_backward(g, q, k, v, out, lse, is_causal=causal, need_bias=extra == "bias", **more)
            return out, *(x for x in grads if x is not None)

        return step

    @case.contestant("torch")
    def _(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray, bias: np.ndarray, seen: np.ndarray) -> Any:
        import torch

        leaves = [torch.from_numpy(x).requires_grad_() for x in (q, k, v)]
        mask = None
        if extra == "padding":
            mask = torch.from_numpy(seen)[:, None, None, :]
        elif extra == "bias":
            mask = torch.from_numpy(bias).requires_grad_()
            leaves.append(mask)

        def step() -> tuple[Any, ...]:
            out = torch.nn.functional.scaled_dot_product_attention(*leaves[:3], attn_mask=mask, is_causal=causal)
            return out.detach(), *torch.autograd.grad(out, leaves, torch.from_numpy(g))

        return step

    return case


def decode_case(batch: int, S: int, options: Options) -> Case:
    def inputs(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        return randn(rng, options.dtype, (batch, H, 1, K), (batch, H, S, K), (batch, H, S, K))

    case = Case(f"decode 1 query x {S} keys, batch {batch}", inputs, tol=1e-5, unit="token", work=float(batch),
                bytes=float(2 * batch * H * S * K * np.dtype(options.dtype).itemsize))

    @case.contestant("ours")
    def _(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Any:
        import kernels

        lengths = np.full(batch, S)
        return lambda: kernels.attention_decode(q, k, v, lengths)

    @case.contestant("torch")
    def _(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Any:
        import torch

        arrays = [torch.from_numpy(x) for x in (q, k, v)]
        return lambda: torch.nn.functional.scaled_dot_product_attention(*arrays)

    return case


def products(count: int, T: int, causal: bool) -> float:
    """Operations of `count` products of (T, K) with (K, T) per head; half where the mask is causal."""
    return count * 2.0 * B * H * T * T * K / (2 if causal else 1)
