"""Evaluation of a model on a whole file, each token predicted once."""

from pathlib import Path

import numpy as np

from .. import text as texts
from ..autograd import no_grad
from ..data import IGNORE, pad_labels
from ..models.base import longest
from ..models.registry import head_of
from ..nn import evaluating
from ..text.base import sentinels_in
from .checkpoint import run_settings
from .evaluate import evaluate, perplexity
from .families import HEADS, check_objective, usual_objective
from .prepare import DataChoices, prepare
from .task import Task


def evaluate_file(model, tokenizer, path, *, target=None, objective=None, batch: int = 16, run: Path | None = None) -> dict:
    """{"loss", "perplexity", "tokens", ...}; "loss_per_char" where the predictions spell the text; "accuracy" where it applies.

    The perplexity is that of the predicted tokens alone, where a loss has other parts.
    """
    settings = run_settings(run) if run is not None else {}
    objective = objective or settings.get("objective") or guess_objective(model, path, target)
    check_objective(objective, type(model).__name__, {head_of(model): type(model)})
    if objective == "causal":
        if target is not None:
            raise ValueError("--target is for translation; the objective here is causal")
        return evaluate_text(model, tokenizer, path, batch)
    context = settings.get("context") or longest(model)
    if objective == "span_corruption":
        context = min(context, windows_for(tokenizer))
    labels = settings.get("labels") or class_names(model.config)
    choices = DataChoices(objective, "plain", context, eval_batch=batch, label_names=tuple(labels) if labels else None, whole=True)
    prepared = prepare(path, target, choices, tokenizer=tokenizer)
    found = prepared.info.get("labels")
    if found and len(found) != model.config.num_labels:
        raise ValueError(f"{path}: {len(found)} different labels, and the model has {model.config.num_labels} classes, whose names "
                         "its config.json does not say; write them there as id2label")  # fmt: skip
    task, batches = prepared.task, prepared.task.evaluation()
    result = evaluate(task, model, batches)
    words = next(iter(task.weights))  # not the order of sentences, nor which tokens were replaced
    predictions = sum(task.counts(b)[words] for b in batches)
    out = {"loss": result["loss"], "perplexity": perplexity(result[words]), "tokens": predictions, "objective": objective}
    out |= {k: v for k, v in result.items() if k in task.weights and k != "loss"}
    if objective in ("masked", "classification", "translation"):
        out["accuracy"] = accuracy(task, model, batches)
    return out


def evaluate_text(model, tokenizer, path, batch: int) -> dict:
    """Windows side by side: each has one token more than the context, the last of which begins the next window.

    The text stands within the tokens that the tokenizer puts around one, such as Llama's <s>, as when it is continued.
    """
    text = texts.read_text(path)
    ids = tokenizer.framed(text)
    if len(ids) < 2:
        raise ValueError(f"{path}: {len(ids)} token, and the first one is not predicted; give a longer text")
    context = longest(model)
    rows = [ids[i : i + context + 1] for i in range(0, len(ids) - 1, context)]
    batches = []
    for i in range(0, len(rows), batch):
        group = rows[i : i + batch]
        inputs = pad_labels([r[:-1] for r in group])
        batches.append({"input_ids": np.where(inputs == IGNORE, 0, inputs), "labels": pad_labels([r[1:] for r in group])})
    loss = evaluate(Task(), model, batches)["loss"]  # the base's loss, which needs no data of its own
    tokens = len(ids) - 1
    first = 0 if ids[0] in tokenizer.special.values() else len(tokenizer.decode(ids[:1]))  # the first token is given
    return {"loss": loss, "perplexity": perplexity(loss), "tokens": tokens,
            "loss_per_char": loss * tokens / max(len(text) - first, 1), "objective": "causal"}  # fmt: skip


def accuracy(task, model, batches) -> float:
    """The share of predictions that are right."""
    right = total = 0
    with no_grad(), evaluating(model):
        for b in batches:
            logits = task.logits(model, b)._data
            counted = b["labels"] != IGNORE
            right += int((np.argmax(logits, axis=-1) == b["labels"])[counted].sum())
            total += int(counted.sum())
    return right / max(total, 1)


def windows_for(tokenizer) -> int:
    """The longest context whose corrupted spans the tokenizer has sentinels for: one for 20 tokens, and one more."""
    return 20 * max(len(sentinels_in(tokenizer.special)) - 1, 1)


def tabbed(path) -> bool:
    """Whether the file's first line has a tab."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: a pipe is read only once; say what it holds: --objective translation for pairs, "
                         "text_infilling (BART) or span_corruption (T5) for a text")  # fmt: skip
    return "\t" in texts.read_text(path).split("\n", 1)[0]


def class_names(config) -> list[str] | None:
    """The classes of a model; None where nobody gave them names."""
    names = list(config.id2label.values())
    return None if names == [f"LABEL_{i}" for i in range(len(names))] else names


def guess_objective(model, path, target) -> str:
    """What a head is for. An encoder-decoder is asked to translate where the file holds pairs, or target the other language."""
    name, objective = type(model).__name__, usual_objective(model)
    if objective in ("span_corruption", "text_infilling") and (target is not None or tabbed(path)):
        return "translation"
    if objective is None:
        alone = name == "ElectraForPreTraining"
        hint = "; a discriminator is scored with its generator, as ElectraForJointPreTraining" if alone else ""
        raise ValueError(f"{name}: eval scores the objectives {', '.join(HEADS)}; this head has none of them{hint}")
    return objective
