"""How fast are the row kernels, beside PyTorch's own operators?

Norms, activations, softmax, losses, embedding gradient and AdamW, each at a size that streams from memory and, where it matters, at
one that stays in the caches. Bytes are the traffic that cannot be avoided: each input read once, each output written once.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import kernels
from tinygrad_llm.bench import Case, Options, randn

Arrays = tuple[np.ndarray, ...]
WIDTH, CLASSES, PARAMETERS = 768, 50257, 10_000_000


def cases(options: Options) -> Iterator[Case]:
    for rows in options.sizes(256, 2048):
        yield from norm_cases(rows, options)
    for count in options.sizes(1 << 18, 2048 * 3072):
        yield from activation_cases(count, options)
    for rows in options.sizes(256, 4096):
        yield from softmax_cases(rows, options)
    yield cross_entropy_case(options)
    yield from embedding_cases(options)
    yield from adamw_cases(options)


def versus_torch(name: str, inputs: Callable[..., Arrays], traffic: float, ours: Callable[..., Any],
                 theirs: Callable[..., Any]) -> Case:
    """`ours` and `theirs` map the inputs, arrays or tensors, to the function that is timed; theirs also gets torch."""
    case = Case(name, inputs, bytes=traffic)

    @case.contestant("ours")
    def _(*arrays: np.ndarray) -> Any:
        return ours(*arrays)

    @case.contestant("torch")
    def _(*arrays: np.ndarray) -> Any:
        import torch

        torch.set_grad_enabled(False)
        return theirs(torch, *(torch.from_numpy(x) for x in arrays))

    return case


def drawn(options: Options, *shapes: tuple[int, ...]) -> Callable[..., Arrays]:
    return lambda rng: randn(rng, options.dtype, *shapes)


def norm_cases(rows: int, options: Options) -> Iterator[Case]:
    x, w = (rows, WIDTH), (WIDTH,)
    size = rows * WIDTH * np.dtype(options.dtype).itemsize
    yield versus_torch(f"LayerNorm {rows} x {WIDTH}", drawn(options, x, w, w), 2 * size,
                       lambda x, w, b: lambda: kernels.layer_norm_forward(x, w, b)[0],
                       lambda torch, x, w, b: lambda: torch.layer_norm(x, (WIDTH,), w, b))
    yield versus_torch(f"LayerNorm backward {rows} x {WIDTH}", drawn(options, x, x, w, w), 3 * size,
                       our_layer_norm_backward, torch_layer_norm_backward)
    yield versus_torch(f"RMSNorm {rows} x {WIDTH}", drawn(options, x, w), 2 * size,
                       lambda x, w: lambda: kernels.rms_norm_forward(x, w)[0],
                       lambda torch, x, w: lambda: torch.rms_norm(x, (WIDTH,), w, 1e-6))
    yield versus_torch(f"RMSNorm backward {rows} x {WIDTH}", drawn(options, x, x, w), 3 * size,
                       our_rms_norm_backward, torch_rms_norm_backward)


def our_layer_norm_backward(g: Any, x: Any, w: Any, b: Any) -> Any:
    _, mean, rstd = kernels.layer_norm_forward(x, w, b)
    return lambda: kernels.layer_norm_backward(g, x, w, mean, rstd)


def torch_layer_norm_backward(torch: Any, g: Any, x: Any, w: Any, b: Any) -> Any:
    _, mean, rstd = torch.native_layer_norm(x, (WIDTH,), w, b, 1e-5)
    backward = torch.ops.aten.native_layer_norm_backward
    return lambda: backward(g, x, (WIDTH,), mean, rstd, w, b, (True, True, True))


def our_rms_norm_backward(g: Any, x: Any, w: Any) -> Any:
    _, rstd = kernels.rms_norm_forward(x, w)
    return lambda: kernels.rms_norm_backward(g, x, w, rstd)


def torch_rms_norm_backward(torch: Any, g: Any, x: Any, w: Any) -> Any:
    """Through autograd, the graph kept: PyTorch has no operator for it on a CPU."""
    with torch.enable_grad():
        x, w = x.requires_grad_(), w.requires_grad_()
        out = torch.rms_norm(x, (WIDTH,), w, 1e-6)
    return lambda: torch.autograd.grad(out, (x, w), g, retain_graph=True)


def activation_cases(count: int, options: Options) -> Iterator[Case]:
    one, two, three = (drawn(options, *[(count,)] * n) for n in (1, 2, 3))
    size, label = count * np.dtype(options.dtype).itemsize, f"{count:,}"
    for kind, approximate in (("GELU tanh", "tanh"), ("GELU exact", "none")):
        yield versus_torch(f"{kind} {label}", one, 2 * size,
                           lambda x, a=approximate: lambda: kernels.gelu_forward(x, a),
                           lambda torch, x, a=approximate: lambda: torch.nn.functional.gelu(x, approximate=a))
        yield versus_torch(f"{kind} backward {label}", two, 3 * size,
                           lambda g, x, a=approximate: lambda: kernels.gelu_backward(g, x, a),
                           lambda torch, g, x, a=approximate: lambda: torch.ops.aten.gelu_backward(g, x, approximate=a))
    yield versus_torch(f"SwiGLU {label}", two, 3 * size,
                       lambda gate, up: lambda: kernels.swiglu_forward(gate, up),
                       lambda torch, gate, up: lambda: torch.nn.functional.silu(gate) * up)
    yield versus_torch(f"SwiGLU backward {label}", three, 5 * size,
                       lambda g, gate, up: lambda: kernels.swiglu_backward(g, gate, up), torch_swiglu_backward)


def torch_swiglu_backward(torch: Any, g: Any, gate: Any, up: Any) -> Any:
    """silu(gate) is what autograd would have kept."""
    value = torch.nn.functional.silu(gate)
    return lambda: (torch.ops.aten.silu_backward(g * up, gate), g * value)


def softmax_cases(rows: int, options: Options) -> Iterator[Case]:
    shape, size = (rows, 1024), rows * 1024 * np.dtype(options.dtype).itemsize
    for name in ("softmax", "log_softmax"):
        yield versus_torch(f"{name} {rows} x 1024", drawn(options, shape), 2 * size,
                           lambda x, n=name: lambda: getattr(kernels, n + "_forward")(x),
                           lambda torch, x, n=name: lambda: getattr(torch, n)(x, -1))
    yield versus_torch(f"softmax backward {rows} x 1024", drawn(options, shape, shape), 3 * size,
                       lambda g, x: partial(kernels.softmax_backward, g, kernels.softmax_forward(x)),
                       lambda torch, g, x: partial(torch._softmax_backward_data, g, torch.softmax(x, -1), -1, x.dtype))


def cross_entropy_case(options: Options) -> Case:
    """Mean loss and its gradient. Backward through PyTorch's autograd is its own operators and nothing else."""
    rows = 512

    def inputs(rng: np.random.Generator) -> Arrays:
        return *randn(rng, options.dtype, (rows, CLASSES)), rng.integers(0, CLASSES, rows)

    def ours(logits: Any, targets: Any) -> Any:
        def step() -> Any:
            losses, lse = kernels.cross_entropy_forward(logits, targets)
            return losses.mean(), kernels.cross_entropy_backward(1 / rows, logits, targets, lse)

        return step

    def theirs(torch: Any, logits: Any, targets: Any) -> Any:
        logits.requires_grad_()

        def step() -> Any:
            with torch.enable_grad():
                loss = torch.nn.functional.cross_entropy(logits, targets)
            return loss.detach(), *torch.autograd.grad(loss, logits)

        return step

    size = rows * CLASSES * np.dtype(options.dtype).itemsize
    return versus_torch(f"cross-entropy forward+backward {rows} x {CLASSES}", inputs, 3 * size, ours, theirs)


def embedding_cases(options: Options) -> Iterator[Case]:
    """2048 rows into a table of 50,257: into a new table, and added to a gradient that is there already (a tied embedding)."""
    tokens = 2048

    def inputs(rng: np.random.Generator) -> Arrays:
        return *randn(rng, options.dtype, (tokens, WIDTH)), rng.integers(0, CLASSES, tokens)

    item = np.dtype(options.dtype).itemsize
    yield versus_torch(f"embedding gradient {tokens} to {CLASSES} x {WIDTH}", inputs, (tokens + CLASSES) * WIDTH * item,
                       lambda g, ids: lambda: kernels.embedding_backward(g, ids, CLASSES),
                       lambda torch, g, ids: lambda: torch.ops.aten.embedding_dense_backward(g, ids, CLASSES, -1, False))

    def added(g: Any, ids: Any) -> Any:
        table = np.zeros((CLASSES, WIDTH), g.dtype)
        return lambda: kernels.embedding_backward(0 * g, ids, CLASSES, out=table, accumulate=True)[:1]

    def added_by_torch(torch: Any, g: Any, ids: Any) -> Any:
        table = torch.zeros((CLASSES, WIDTH), dtype=g.dtype)
        return lambda: table.add_(torch.ops.aten.embedding_dense_backward(0 * g, ids, CLASSES, -1, False))[:1]

    yield versus_torch(f"embedding gradient added to another {tokens} to {CLASSES} x {WIDTH}", inputs, 3 * tokens * WIDTH * item,
                       added, added_by_torch)


def adamw_cases(options: Options) -> Iterator[Case]:
    """Time steps that change nothing any more (lr 0), so that every call does the same work on the same numbers."""
    def ours(p: Any, g: Any) -> Any:
        p, m, v = p.copy(), np.zeros_like(p), np.zeros_like(p)

        def step() -> Any:
            kernels.adamw_step(p, g, m, v, 0.0, 0.9, 0.999, 1e-8, 0.01, 1)
            return p

        return step

    def theirs(**how: bool) -> Callable[..., Any]:
        def set_up(torch: Any, p: Any, g: Any) -> Any:
            p = p.clone().requires_grad_()
            p.grad = g
            optimizer = torch.optim.AdamW([p], lr=0.0, weight_decay=0.01, **how)

            def step() -> Any:
                optimizer.step()
                return p.detach()

            return step

        return set_up

    traffic = 7 * PARAMETERS * np.dtype(options.dtype).itemsize
    for label, how in (("fused", {"fused": True}), ("default", {})):
        yield versus_torch(f"AdamW {PARAMETERS:,}, PyTorch's {label}", drawn(options, (PARAMETERS,), (PARAMETERS,)), traffic,
                           ours, theirs(**how))
