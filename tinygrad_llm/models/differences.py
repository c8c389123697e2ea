"""What distinguishes the families, read off built models: the table of `README.md`, and the differences of two.

python -m tinygrad_llm.models.differences        prints the table, as README.md holds it
"""

from __future__ import annotations

import re
import sys
from typing import Any

from .. import nn
from .registry import families, skeleton_of
from .stacks import Decoder


def facts(name: str) -> dict[str, str]:
    """{row: what the model has}, for a family, a preset or a checkpoint's folder. Only `new` is prose, from the file's head."""
    model = skeleton_of(representative(name.lower()) if name.lower() in families else name)
    base = model.without_head()
    stack = getattr(base, "decoder", getattr(base, "encoder", base))
    blocks = stack.layers if base.is_encoder_decoder else base.blocks()
    block = blocks[0]
    return {
        "new": novelty(model),
        "stack": "encoder and decoder" if base.is_encoder_decoder else "decoder" if isinstance(base, Decoder) else "encoder",
        "positions": positions(base, stack),
        "embeddings": embeddings(base, stack),
        "norm": norm(block, getattr(stack, "final_norm", None)),
        "attention": attention(block.attn),
        "window": window(base, len(blocks)),
        "feed-forward": feed_forward(block.mlp),
        "layers": layers(blocks, base.encoder.layers if base.is_encoder_decoder else blocks),
        "output matrix": "tied to the token embedding" if model.config.tie_word_embeddings else "its own",
        "initial values": initial_values(base),
    }  # fmt: skip


def layers(blocks: list[Any], encoder: list[Any]) -> str:
    """How many run, and how many have parameters of their own; of each side, where the encoder has another number."""
    if len(encoder) != len(blocks):
        return f"encoder {len(encoder)}, decoder {len(blocks)}"
    distinct = len({id(block) for block in blocks})
    return f"{len(blocks)}" if distinct == len(blocks) else f"{len(blocks)}, sharing the parameters of {distinct}"


def novelty(model: Any) -> str:
    """The sentence "New in the paper: ..." of the family's file."""
    text = " ".join((sys.modules[type(model).__module__].__doc__ or "").split())
    found = re.search(r"New in the paper: (.*?)(?: Differs from| Its choices|$)", text)
    return found.group(1).rstrip(".") if found else ""


def positions(base: Any, stack: Any) -> str:
    """How the model knows where a token stands."""
    if getattr(base, "rotary", None) is not None:
        return "rotary, on q and k"
    if hasattr(stack, "relative"):
        return f"trained bias on the scores, {stack.relative.weight.shape[0]} buckets of distance, shared by the layers"
    table = getattr(stack, "positions", None)
    if not isinstance(table, nn.LearnedPositions):
        return "sinusoidal"
    rows = table.weight.shape[0]
    unused = table.offset or (0 if table.padding_idx is None else table.padding_idx + 1)
    return f"learned, {rows - unused}" + (f" (after {unused} unused rows)" if unused else "")


def embeddings(base: Any, stack: Any) -> str:
    """Tokens, and what is added to them or done with them."""
    V, E = base.tokens.weight.shape
    parts = [f"{V:,} tokens"]
    if hasattr(base, "segments"):
        kinds = base.segments.weight.shape[0]
        parts.append(f"{kinds} segment{'s' if kinds > 1 else ''}")
    if hasattr(base, "embed_norm") or hasattr(stack, "embed_norm"):
        parts.append("normed")
    if getattr(base, "widen", None) is not None:
        parts.append(f"{E} wide, then widened")
    return ", ".join(parts)


def norm(block: Any, last: Any) -> str:
    """Which norm, and where."""
    kind = type(block.attn_norm).__name__
    place = "before each part" if block.norm_first else "after each part"
    return f"{kind}, {place}, {'none' if last is None else 'one'} at the end, eps {block.attn_norm.eps:g}"


def attention(attn: Any) -> str:
    """Biases, scale, sharing of keys and values."""
    parts = ["biases" if attn.o.bias is not None else "biases on q, k, v" if attn.q.bias is not None else "no biases"]
    if attn.scale == 1.0:
        parts.append("scores not scaled")
    if attn.kv_heads != attn.heads:
        parts.append(f"{attn.heads} heads share {attn.kv_heads} of keys and values")
    if attn.q_norm is not None:
        parts.append(f"{type(attn.q_norm).__name__} on each head's q and k")
    return ", ".join(parts)


def window(base: Any, depth: int) -> str:
    """What a position may see."""
    if not base.is_encoder_decoder and not isinstance(base, Decoder):
        return "all"
    sizes = [base.window(i) for i in range(depth)] if isinstance(base, Decoder) else [None]
    if not any(sizes):
        return "decoder: all before"
    banded = [f"the nearest {n}" for n in sorted({n for n in sizes if n})]
    return f"{', '.join(banded)} before" if all(sizes) else f"all before and {', '.join(banded)}, in turn"


def feed_forward(mlp: Any) -> str:
    """Activation, gate, biases."""
    F, D = mlp.up.weight.shape
    act = {"gelu": "GELU (exact)", "gelu_new": "GELU (tanh)", "relu": "ReLU", "silu": "SiLU"}.get(mlp.act_name, mlp.act_name)
    return f"{act}{', gated' if mlp.gate is not None else ''}{'' if mlp.up.bias is not None else ', no biases'}, {F / D:.3g} D wide"


def initial_values(base: Any) -> str:
    """The initialiser of the first block's q and of its outputs, by the numbers it makes."""
    import numpy as np

    first = {n.split(".")[-2]: n for n, _ in reversed(list(base.named_parameters())) if n.endswith("weight")}
    scale = {}
    for part in ("q", "o", "down"):
        probe = np.empty((256, 256), np.float64)
        base.initialiser(first[part])(probe, np.random.default_rng(0))
        scale[part] = (float(probe.std()), bool(np.abs(probe).max() < 1.8 * probe.std()))
    if scale["q"][1]:
        return "Xavier's uniform"
    if abs(scale["q"][0] - scale["o"][0]) < 0.02 * scale["q"][0]:
        return f"N(0, {scale['q'][0]:.2g})"
    return f"q N(0, {scale['q'][0]:.2g}), o N(0, {scale['o'][0]:.2g}), down N(0, {scale['down'][0]:.2g})"


def compare(a: str, b: str) -> list[tuple[str, str, str]]:
    """(row, what a has, what b has) wherever they differ."""
    first, second = facts(a), facts(b)
    return [(row, has, second[row]) for row, has in first.items() if has != second[row]]


def compare_text(a: str, b: str) -> str:
    """`compare` as a text table, and what is the same."""
    first, second = facts(a), facts(b)
    same = [row for row in first if first[row] == second[row]]
    lines = [f"{row}\n  {a:<16} {first[row]}\n  {b:<16} {second[row]}" for row in first if row not in same]
    return "\n".join([*lines, f"the same: {', '.join(same) or 'nothing'}"])


def representative(family: str) -> str:
    """The preset that stands for a family: its first."""
    return next(iter(families[family].presets))


def readme() -> str:
    """The text of README.md."""
    order = ("transformer", "gpt", "bert", "gpt2", "roberta", "albert", "bart", "t5", "electra", "gpt3", "llama")
    found = {family: facts(representative(family)) for family in order}
    columns = [row for row in found["transformer"] if row != "new"]
    table = [f"| | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    news, sizes = [], []
    for family in order:
        shown = " | ".join(found[family][row] for row in columns)
        table.append(f"| **[{family}]({family}.py)** ({representative(family)}) | {shown} |")
        news.append(f"- **{family}**: {found[family]['new']}.")
        counts = ", ".join(f"{p} {skeleton_of(p).num_parameters():,}" for p in families[family].presets)
        sizes.append(f"| {family} | {', '.join(families[family].models)} | {counts} |")
    return "\n".join([
        "# Model families, and how they differ", "",
        "Made from built models by `python -m tinygrad_llm.models.differences`; a test keeps it so. The files beside this one are",
        "the recipes, in the same order each; `tinygrad-llm compare bert t5` prints what differs between two.", "",
        *table, "", "## What each paper added", "", *news, "", "## Heads, presets and their parameters", "",
        "| family | heads | presets |", "| --- | --- | --- |", *sizes, "",
    ])  # fmt: skip


if __name__ == "__main__":
    print(readme(), end="")
