"""What the model has learnt so far, in words: a continuation, a filled mask, or a decoded source."""

import numpy as np

from ..generate import fill_mask, generate
from ..generate.sliding import continue_ids


def sample(model, task, tokenizer, *, tokens: int = 120, seed: int = 0) -> str:
    """A few lines of text that show the model at work. Draws nothing from the generators that training draws from."""
    rng = np.random.default_rng(seed)
    if task.head == "causal_lm":
        return continuation(model, tokenizer, tokens, rng)
    if task.head == "seq2seq_lm":
        return decoded(model, task, tokenizer, tokens)
    if task.head in ("masked_lm", "pretraining", "joint"):
        return filled(model, task, tokenizer)
    return ""


def opening(tokenizer) -> str:
    """What a text begins with where nobody says: a line end, or the first character of a vocabulary without one."""
    try:
        tokenizer.encode("\n")
    except ValueError:
        return tokenizer.decode([tokenizer.first])
    return "\n"


def continuation(model, tokenizer, tokens: int, rng) -> str:
    ids = tokenizer.encode(opening(tokenizer))
    ids = ids if len(ids) else np.array([0])
    return tokenizer.decode(continue_ids(model, ids, tokens, rng, do_sample=True, temperature=0.8)).strip("\n")


def decoded(model, task, tokenizer, tokens: int) -> str:
    batch = task.evaluation()[0]
    source, mask, labels = batch["input_ids"][:1], batch["attention_mask"][:1], batch["labels"][0]
    source = source[:, : int(mask.sum())]
    ids = generate(model, source, max_new_tokens=min(tokens, len(labels)), eos_token_id=task.special["eos"])[0, 1:]
    ids = ids[: int(np.argmax(ids == task.special["eos"]))] if (ids == task.special["eos"]).any() else ids
    return "\n".join(f"{name:8}{tokenizer.decode(x)!r}" for name, x in
                     (("source", source[0]), ("target", labels[labels >= 0]), ("model", ids)))  # fmt: skip


def filled(model, task, tokenizer) -> str:
    batch = task.evaluation()[0]
    length = int(batch["attention_mask"][0].sum()) if "attention_mask" in batch else len(batch["input_ids"][0])
    ids, labels = batch["input_ids"][0, :length].copy(), batch["labels"][0, :length]
    truth, mask_id = np.where(labels >= 0, labels, ids), task.special["mask"]
    if not (ids == mask_id).any():  # a short text, in which none was chosen, or none of the chosen was masked
        ids[1] = mask_id
    answers = fill_mask(getattr(model, "generator", model), ids[None], mask_id, top_k=1)[0]
    guess = ids.copy()
    guess[ids == mask_id] = [best[0][0] for best in answers]
    return "\n".join(f"{name:8}{tokenizer.decode(x[1:-1])!r}" for name, x in (("masked", ids), ("model", guess), ("text", truth)))
